"""Answers for people: a list as a table, below the names and values of what else is answered."""

from decimal import Decimal
from io import StringIO
from typing import Any

from litellm_credits import money
from litellm_credits.cli.declared import Command

_WIDEST = 240


def shown(declared: Command, answer: bytes) -> str:
    """What a person sees of the answer to this command."""
    document = money.loads(answer)
    if not declared.rows:
        return _named(document)
    if declared.rows == ".":
        return _rows(declared, document)
    rows, more = document.pop(declared.rows), document.pop("next_cursor", None)
    beside = {name: value for name, value in document.items() if f"{{{name}}}" not in declared.path}
    parts = [_named(beside), f"{declared.rows}:"] if beside else []
    parts.append(_rows(declared, rows))
    if more:
        parts.append(f"More: --{'after' if '--after' in declared.fields else 'before'} {more}")
    return "\n".join(parts)


def _rows(declared: Command, rows: list[dict[str, Any]]) -> str:
    return _table(declared.columns.split(), rows) if rows else "None."


def _table(columns: list[str], rows: list[dict[str, Any]]) -> str:
    from rich import box  # noqa: PLC0415  (start-up stays quick)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], int | Decimal | None) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    out = StringIO()
    Console(file=out, width=_WIDEST, highlight=False, markup=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())


def _named(document: dict[str, Any], depth: int = 0) -> str:
    width = max((len(name) for name in document), default=0)
    lines = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            lines.append(f"{'  ' * depth}{name or '-'}")
            lines.append(_named(value, depth + 1))
        else:
            lines.append(f"{'  ' * depth}{name or '-':<{width}}  {_text(value)}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case list() | dict() if not value:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return money.plain(value)
        case list() if all(isinstance(member, str) for member in value):
            return ", ".join(value)
        case list() if all(isinstance(member, dict) for member in value):
            return ", ".join(
                _text(next(iter(member.values()))) for member in value
            )  # each by its id, which comes first
        case dict() | list():
            return money.dumps(value).decode()
    return str(value)
