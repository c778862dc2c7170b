"""An operator's day as a terminal transcript: every command is run by a shell, and what it really says is printed.

    python scripts/operators_day.py

Starts an embedded PostgreSQL, a local stand-in for the provider and the real proxy; needs no keys and costs nothing. Exits with 1
as soon as a command does not end as it must, and when an audit of all balances at the end of the day finds a difference.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from litellm_credits.errors import StartupRefused
from litellm_credits.stack import Stack

TRIAL_SECONDS = 15
"""How long the promotional grant lives: the call that it pays for is made at once."""

PATIENCE_SECONDS = 60
"""What comes by itself comes with the next sweep, which is due every 10 to 15 seconds."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command line of the day.

    `keeps`: variables for the lines after it, each with the pattern whose group is its value. `until`: the line is run again
    until it says that. `exit_code`: what it must end with.
    """

    line: str
    keeps: tuple[tuple[str, str], ...] = ()
    until: str = ""
    exit_code: int = 0


def _call(model: str, words: str, max_tokens: int, *, job: bool = False, show: str) -> str:
    header = ' -H "x-job-id: $JOB"' if job else ""
    body = f'{{"model": "{model}", "max_tokens": {max_tokens}, "messages": [{{"role": "user", "content": "{words}"}}]}}'
    return (
        f'curl -s {show}$CREDITS_URL/v1/chat/completions -H "Authorization: Bearer $TEAM_KEY"{header} \\\n'
        f"    -H 'Content-Type: application/json' -d '{body}'"
    )


_HEADERS = "-D - -o answer.json "
_CREDITS = " | grep x-credits"
_STATUS = "-w ' (%{http_code})' "

DAY: tuple[str | Step, ...] = (
    "08:00  Create: a customer, what they may call, and what it costs them (US dollars per 1,000 tokens).",
    Step('litellm-credits org create sunrise --name "Sunrise Ltd"'),
    Step(
        "litellm-credits alias create smart --provider openai --model openai/gpt-4 --price-input 0.03 --price-output 0.06"
    ),
    Step(
        "litellm-credits alias create quick --provider openai --model gpt-3.5-turbo --price-input 0.0005 --price-output 0.0015"
    ),
    Step("litellm-credits group create chat --alias smart --alias quick"),
    "A team of theirs. To them a dollar is 1,000 credits. Its key is shown this once; it is $TEAM_KEY from here on.",
    Step(
        "litellm-credits team create sunrise-web --org sunrise --group chat --plan '{\"credits_per_dollar\": 1000}'",
        keeps=(("TEAM_KEY", r"virtual_key +(\S+)"),),
    ),
    "09:00  Sell: 20 credits are paid. Sent twice by a nervous payment page, they come once.",
    Step('litellm-credits credits add sunrise-web 20 --reason "Invoice 1041" --idempotency-key invoice-1041'),
    Step('litellm-credits credits add sunrise-web 20 --reason "Invoice 1041" --idempotency-key invoice-1041'),
    "10:00  Cap: a job ($JOB) that may cost 5 credits and no more. They are held from now on.",
    Step(
        "litellm-credits job create report --team sunrise-web --credit-cap 5",
        keeps=(("JOB", r"job_id +(\S+)"),),
    ),
    Step("litellm-credits credits balance sunrise-web"),
    "The customer calls with any OpenAI client; what it cost is in the headers. 15 + 8 tokens: 0.00045 + 0.00048 dollars.",
    Step(
        _call(
            "smart",
            "Please write one short sentence about the sales of this quarter, in plain words only.",
            8,
            job=True,
            show=_HEADERS,
        )
        + _CREDITS,
        keeps=(("CALL", r"x-credits-call-id: (\S+)"),),
    ),
    "11:00  Exceed: what is left of the cap does not pay for 1,000 tokens. Refused before the provider is asked, and told why.",
    Step(_call("smart", "And now the whole report.", 1000, job=True, show=_STATUS)),
    "The job ends: what it did not need is free again.",
    Step("litellm-credits job complete $JOB completed"),
    "12:00  Refund: half a credit of the call ($CALL), for a bad answer. More than it cost cannot be refunded.",
    Step('litellm-credits credits refund --call $CALL --credits 0.5 --reason "Ticket 77" --idempotency-key ticket-77'),
    Step('litellm-credits credits refund --call $CALL --credits 0.5 --reason "Ticket 78"', exit_code=1),
    "13:00  Suspend: its keys open nothing, at once and on every worker; and resume.",
    Step("litellm-credits team suspend sunrise-web"),
    Step(_call("smart", "Is anybody there?", 8, show=_STATUS)),
    Step("litellm-credits team resume sunrise-web"),
    Step(_call("smart", "Is anybody there?", 8, show=_HEADERS) + _CREDITS),
    f"14:00  Promote: a credit on top, good for the quick model only, and only until $SOON, in {TRIAL_SECONDS} seconds.",
    Step(
        "litellm-credits grant create sunrise-web 1 --kind promotional --alias quick --expires-at $SOON --reason Trial"
    ),
    "What expires is spent first.",
    Step(_call("quick", "Which of these invoices are overdue, and by how many days?", 8, show=_HEADERS) + _CREDITS),
    Step("litellm-credits grant list sunrise-web"),
    "15:00  Refill: below 20 credits, ask for as much as makes 30, at most 100 a month.",
    Step("litellm-credits refill set sunrise-web --threshold 20 --target 30 --monthly-cap 100"),
    "16:00  Expire: the trial has ended, and the next sweep took back what was not spent of it ...",
    Step("litellm-credits credits ledger sunrise-web --limit 3", until="expiry"),
    "... and asked for a refill ($REQUEST). It is paid; that may be said again, the credits come once.",
    Step(
        "litellm-credits refill requests --status open",
        keeps=(("REQUEST", r"([0-9a-f-]{36}) +sunrise-web"),),
        until="sunrise-web",
    ),
    Step('litellm-credits refill fulfil sunrise-web $REQUEST --reason "Invoice 1042"'),
    "17:00  Report: what the customer used, where every credit came from and went, who changed what, and what is left.",
    Step("litellm-credits team usage sunrise-web"),
    Step("litellm-credits credits ledger sunrise-web"),
    Step("litellm-credits audit list --team sunrise-web --subject teams"),
    Step("litellm-credits credits balance sunrise-web"),
    "18:00  Every balance is computed again from the ledger, the grants, the jobs and the calls.",
    Step("litellm-credits verify 2>/dev/null"),
)


class NotAsItMust(Exception):
    """A command did not end as it must."""


def main() -> None:
    """Live through the day."""
    try:
        with tempfile.TemporaryDirectory(prefix="litellm-credits-") as folder, Stack(Path(folder)) as stack:
            env = {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "CREDITS_URL": stack.base_url,
                "CREDITS_DATABASE_URL": stack.database_url,
                "LITELLM_MASTER_KEY": stack.admin_key,
                "NO_PROXY": "*",
            }
            for text in live(env, Path(folder)):
                print(text, flush=True)
    except (StartupRefused, NotAsItMust) as problem:
        sys.exit(str(problem))


def live(env: dict[str, str], folder: Path) -> Iterator[str]:
    """The transcript, as it comes about."""
    for step in DAY:
        if isinstance(step, str):
            yield f"\n# {step}"
            continue
        if "$SOON" in step.line:
            env["SOON"] = (datetime.now(UTC) + timedelta(seconds=TRIAL_SECONDS)).isoformat(timespec="seconds")
        yield f"$ {step.line}"
        said = _said(step, env, folder)
        yield said
        for variable, pattern in step.keeps:
            found = re.search(pattern, said)
            if found is None:
                raise NotAsItMust(f"{variable} is not in this answer")
            env[variable] = found[1]


def _said(step: Step, env: dict[str, str], folder: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        ended = subprocess.run(
            ["bash", "-c", step.line],
            env=env,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = ended.stdout.rstrip()
        if ended.returncode != step.exit_code:
            raise NotAsItMust(f"$ {step.line}\n{said}\nended with {ended.returncode}, and must with {step.exit_code}")
        if step.until in said:
            return said
        if time.monotonic() > deadline:
            raise NotAsItMust(f"$ {step.line}\n{said}\ndoes not say {step.until!r} within {PATIENCE_SECONDS} s")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
