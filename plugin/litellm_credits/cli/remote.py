"""The commands that speak to a running proxy, made from their declarations. No command knows more than its line says."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

import click

from litellm_credits.cli.declared import COMMANDS, GROUPS, QUOTE, Command

REFUSED, UNREACHABLE = 1, 3
"""Exit codes, beside 0 and click's 2 for a command that makes no sense."""

_FIELD = re.compile(r"(?P<dashes>--)?(?P<flag>[\w-]+)(:(?P<field>\w+))?(=(?P<kind>\w+))?(?P<required>!)?")
_PARAMETER = re.compile(r"{(\w+)}")


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise click.BadParameter(f"'{text}' is not a number")
    return number


def _object(text: str) -> dict[str, Any]:
    from litellm_credits import money  # noqa: PLC0415  (start-up stays quick)

    try:
        found = money.loads(text)
    except ValueError as problem:
        raise click.BadParameter(f"not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise click.BadParameter("not a JSON object")
    return found


_number.__name__, _object.__name__ = "number", "json"  # as --help shows them
_KINDS: dict[str | None, Any] = {None: str, "int": int, "number": _number, "json": _object, "many": str, "yes": bool}


def remote_groups() -> Iterator[click.Group]:
    """The groups, with their commands."""
    for name, help in GROUPS.items():
        group = click.Group(name, help=help, no_args_is_help=True)
        for declared in COMMANDS:
            if declared.group == name:
                group.add_command(_command(declared))
        yield group


def quote_command() -> click.Command:
    """The command whose body is not made of fields: the request that a quote is for."""

    def run(url: str, key: str | None, as_json: bool, request: dict[str, Any], path: str, job: str | None) -> None:
        headers = {} if job is None else {"x-job-id": job}
        _tell(QUOTE, f"{url.rstrip('/')}/api/quote?path={quote(path)}", key, request, headers, as_json=as_json)

    return click.Command(
        QUOTE.name,
        params=[
            click.Argument(["request"], type=_object),
            click.Option(["--path"], default="/v1/chat/completions", show_default=True, help="Where it would go."),
            click.Option(["--job"], help="The id of the job that it would belong to."),
            *_common("A key of the team that would call."),
        ],
        callback=run,
        help=QUOTE.help,
        epilog=f"Stands for {QUOTE.route}",
    )


def _command(declared: Command) -> click.Command:
    params: list[click.Parameter] = [click.Argument([name]) for name in _PARAMETER.findall(declared.path)]
    params += [_param(field) for field in declared.fields.split()]
    if declared.method == "PUT" and declared.fields:
        params.append(
            click.Option(["--clear"], multiple=True, metavar="FIELD", help="Set a field to null. May be repeated.")
        )
    if declared.method == "DELETE":
        params.append(click.Option(["--yes"], is_flag=True, help="Do not ask."))
    if declared.method != "GET":
        params.append(
            click.Option(["--idempotency-key", "once"], help="Done once under this key, however often it is sent.")
        )
    params += _common("Default: the admin key.")
    return click.Command(
        declared.verb,
        params=params,
        callback=_callback(declared),
        help=declared.help,
        epilog=f"Stands for {declared.route}",
    )


def _common(which_key: str) -> list[click.Parameter]:
    return [
        click.Option(
            ["--url"], envvar="CREDITS_URL", default="http://localhost:4000", show_default=True, show_envvar=True
        ),
        click.Option(["--key"], envvar="CREDITS_KEY", show_envvar=True, help=which_key),
        click.Option(["--json", "as_json"], is_flag=True, help="The answer as it is, for scripts."),
    ]


def _param(field: str) -> click.Parameter:
    part = _FIELD.fullmatch(field)
    assert part is not None, field
    name = part["field"] or part["flag"].replace("-", "_")
    if not part["dashes"]:
        return click.Argument([name], type=_KINDS[part["kind"]])
    many, yes = part["kind"] == "many", part["kind"] == "yes"
    return click.Option(
        [f"--{part['flag']}", name],
        type=_KINDS[part["kind"]],
        is_flag=yes,
        default=None,
        multiple=many,
        required=part["required"] is not None,
        help="May be repeated." if many else None,
    )


def _callback(declared: Command) -> Callable[..., None]:
    def run(url: str, key: str | None, as_json: bool, **given: Any) -> None:
        once = given.pop("once", None)
        if not given.pop("yes", True):
            click.confirm(f"{declared.help} Go on?", abort=True)
        cleared = dict.fromkeys(given.pop("clear", ()))
        path = _PARAMETER.sub(lambda part: quote(given.pop(part[1]), safe="/"), declared.path)
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        fields = {name: value for name, value in fields.items() if value not in (None, [])} | cleared
        headers = {} if once is None else {"idempotency-key": once}
        _tell(declared, f"{url.rstrip('/')}/api{path}", key, fields, headers, as_json=as_json)

    return run


def _tell(
    declared: Command, url: str, key: str | None, fields: dict[str, Any], headers: dict[str, str], *, as_json: bool
) -> None:
    """Send the request, and print its answer or what went wrong."""
    from litellm_credits.cli.sending import Refused, Unreachable, local_key, send  # noqa: PLC0415  (start-up stays quick)
    from litellm_credits.cli.tables import shown  # noqa: PLC0415

    try:
        answer = send(declared.method, url, key or local_key(), fields, headers)
    except Refused as refusal:
        click.echo(f"Error: {refusal}", err=True)
        raise click.exceptions.Exit(REFUSED) from None
    except Unreachable as problem:
        click.echo(f"Error: {problem}", err=True)
        raise click.exceptions.Exit(UNREACHABLE) from None
    click.echo(answer.decode() if as_json else shown(declared, answer))
