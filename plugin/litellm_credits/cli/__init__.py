"""The command `litellm-credits`. Commands import what they need when they run, so that --help is quick."""

# ruff: noqa: PLC0415

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from litellm_credits import __version__
from litellm_credits.cli.remote import quote_command, remote_groups
from litellm_credits.errors import StartupRefused

if TYPE_CHECKING:
    from litellm_credits.stack.status import Status

DEMO_DIR = Path(".credits/demo")


class _Group(click.Group):
    """Commands whose refusals become one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StartupRefused as refusal:
            raise click.ClickException(str(refusal.facts["problem"])) from refusal


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="litellm-credits")
def main() -> None:
    """Prepaid credits for the LiteLLM proxy.

    \b
    CREDITS_DATABASE_URL  the PostgreSQL to use; unset: an embedded one
    CREDITS_DATA_DIR      where the embedded PostgreSQL and the admin key are kept [~/.litellm-credits]
    LITELLM_MASTER_KEY    the admin key; unset: one is made and kept in CREDITS_DATA_DIR
    CREDITS_URL           the proxy that org, team, quote, ... speak to [http://localhost:4000]
    CREDITS_KEY           the key that they use; unset: the admin key
    """


@main.command()
def demo() -> None:
    """Show the whole life of two calls, on a database of its own and a local stand-in for the provider.

    Needs no keys, costs nothing, and keeps its data in .credits/demo of this folder. Exits with 1 if a figure is wrong.
    """
    from litellm_credits.demo.story import tell

    with _stoppable():
        sys.exit(0 if tell(DEMO_DIR) else 1)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Proxy processes.")
def run(host: str, port: int, workers: int) -> None:
    """Serve the proxy until Ctrl-C.

    Uses the keys in OPENAI_API_KEY, ANTHROPIC_API_KEY and GEMINI_API_KEY. Without an OPENAI_API_KEY, OpenAI is played by a local
    stand-in that costs nothing. The database is brought up to date first.
    """
    from litellm_credits.demo.serve import serve
    from litellm_credits.settings import settings

    with _stoppable():
        serve(settings(), os.environ, host=host, port=port, workers=workers)


@main.command()
def migrate() -> None:
    """Bring the database up to date. Safe to run again, and from several machines at once."""
    from litellm_credits.db import migrate as migrations
    from litellm_credits.db.reachable import refused_unless_reachable
    from litellm_credits.settings import settings
    from litellm_credits.stack.status import conninfo

    with refused_unless_reachable():
        applied = migrations.migrate(conninfo(settings()))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("The database is up to date.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(as_json: bool) -> None:
    """Tell whether the database answers, is up to date, and what it holds. Exits with 1 unless it does and is."""
    from litellm_credits import money
    from litellm_credits.settings import settings
    from litellm_credits.stack import status as state

    found = state.status(settings())
    click.echo(money.dumps(found.model_dump()) if as_json else _table(found))
    if found.pending_migrations:
        sys.exit(1)


@main.command()
@click.option("--team", "team_id", help="Audit this team only.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def verify(team_id: str | None, as_json: bool) -> None:
    """Recompute every balance from the ledger and the calls. Exits with 1 on any difference.

    Changes nothing, and may run beside live traffic.
    """
    from litellm_credits import money
    from litellm_credits.db.reachable import refused_unless_reachable
    from litellm_credits.errors import NotFound
    from litellm_credits.ledger import verify as audit
    from litellm_credits.settings import settings
    from litellm_credits.stack.status import conninfo

    chosen = settings()

    def progress(check: str) -> None:
        click.echo(f"checking {check}", err=True)

    try:
        with refused_unless_reachable():
            found = audit.verify(
                conninfo(chosen), team_id=team_id, grace_seconds=chosen.lease_seconds, progress=progress
            )
    except NotFound as refusal:
        raise click.ClickException(refusal.message) from refusal
    click.echo(money.dumps(found.document()) if as_json else found.text())
    if not found.clean:
        sys.exit(1)


def _table(found: "Status") -> str:
    from litellm_credits.money import plain

    names = ", ".join(found.pending_migrations)
    lines = {
        "database": f"{found.database} (PostgreSQL {found.postgresql})",
        "migrations": f"missing: {names}. Run: litellm-credits migrate" if names else "up to date",
    }
    if found.totals and found.holds:
        totals, holds = found.totals, found.holds
        lines |= {
            "organizations": str(totals.organizations),
            "teams": f"{totals.teams} ({totals.teams_suspended} suspended)",
            "credits allocated": plain(totals.credits_allocated),
            "credits used": plain(totals.credits_used),
            "credits held": f"{plain(totals.credits_held)} by {holds.calls_held} calls in flight",
            "credits remaining": plain(totals.credits_remaining),
            "oldest hold": f"{holds.oldest_hold_seconds} s ago ({holds.calls_held_overdue} overdue)"
            if holds.oldest_hold
            else "none",
        }
    return "\n".join(f"{name:<18} {value}" for name, value in lines.items())


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make SIGTERM and a closed terminal end a command as Ctrl-C does: in order. Ctrl-C itself may have been switched off."""

    def stop(number: int, _: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield


for _group in remote_groups():
    main.add_command(_group)
main.add_command(quote_command())
