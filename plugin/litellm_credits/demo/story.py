"""`make demo`: one job, an unstreamed and a streamed call, and every figure of it checked.

Everything goes over HTTP, as a user would do it: the management API for the set-up, the official `openai` client for the calls.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI
from rich.console import Console
from rich.table import Table

from litellm_credits.demo.client import Api
from litellm_credits.demo.progress import progress
from litellm_credits.money import TOKENS_PER_PRICE, plain, to_credits
from litellm_credits.stack import Stack

MODEL = "gpt-3.5-turbo"
PRICE_INPUT, PRICE_OUTPUT = Decimal("0.0005"), Decimal("0.0015")
CREDITS_PER_DOLLAR = Decimal(10)
ALLOCATED = Decimal(1)

_ORGANIZATION, _GROUP, _TEAM, _BROKE = "demo", "demo-chat", "demo-team", "demo-without-credits"
_QUESTION = "In one short sentence: what happens to a team's credits before and after a call?"
_FOLLOW_UP = "And now the same again, streamed word by word."


@dataclass(frozen=True)
class _Books:
    """What the proxy says of the team when all is done."""

    before: dict[str, Any]
    after: dict[str, Any]
    job: dict[str, Any]
    calls: list[dict[str, Any]]
    charges: list[dict[str, Any]]


def tell(data_dir: Path) -> bool:
    """Start everything, tell the story on the terminal, stop everything. True if all figures add up.

    A second run starts from the same point: what the first one made is reused or made anew.

    Raises:
        StartupRefused: when the proxy does not start.
    """
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    with progress(console) as waiting:
        stack = Stack(data_dir, progress=waiting.on)
        stack.start()
    try:
        return _tell(console, stack)
    finally:
        with progress(console) as waiting:
            waiting.on("stopping")
            stack.stop()


def _tell(console: Console, stack: Stack) -> bool:
    console.print(f"The proxy runs at {stack.base_url}, with an embedded PostgreSQL and a local stand-in for OpenAI.\n")
    with Api(stack.base_url, stack.admin_key) as admin:
        keys = _set_up(admin)
        _heading(
            console, f"Made: organization {_ORGANIZATION}, model alias {MODEL}, access group {_GROUP}, team {_TEAM}"
        )
        console.print(f"  {MODEL} costs {PRICE_INPUT} USD per 1,000 tokens in and {PRICE_OUTPUT} out;")
        console.print(f"  the team has {ALLOCATED} credit, and a dollar is {CREDITS_PER_DOLLAR} credits.\n")
        with Api(stack.base_url, keys[_TEAM]) as team:
            books = _work(console, stack.base_url, keys[_TEAM], team)
        _show(console, books)
        refused = _refused_without_credits(console, stack.base_url, keys[_BROKE])
    return _verdict(console, [*_differences(books), *refused])


def _set_up(admin: Api) -> dict[str, str]:
    """The virtual key of each team."""
    admin.delete(f"/organizations/{_ORGANIZATION}")
    admin.create("/organizations", {"organization_id": _ORGANIZATION, "name": "Demo"})
    prices = {"pricing_input": PRICE_INPUT, "pricing_output": PRICE_OUTPUT}
    admin.create("/models/aliases", {"model_alias": MODEL, "provider": "openai", "actual_model": MODEL} | prices)
    admin.create("/model-access-groups", {"group_name": _GROUP, "model_aliases": [MODEL]})
    keys = {}
    for team_id, credits in ((_TEAM, ALLOCATED), (_BROKE, Decimal(0))):
        team = {"organization_id": _ORGANIZATION, "team_id": team_id, "access_groups": [_GROUP]}
        keys[team_id] = admin.post("/teams/create", team | {"credits_allocated": credits})["virtual_key"]
    return keys


def _work(console: Console, base_url: str, key: str, team: Api) -> _Books:
    """A job with two calls, from its beginning to its end."""
    before = team.get(f"/credits/teams/{_TEAM}/balance")
    job_id = team.post("/jobs/create", {"team_id": _TEAM, "job_type": "demo"})["job_id"]
    _heading(console, f"Job {job_id}: two calls with the official openai client, header x-job-id")
    with _client(base_url, key) as client:
        header = {"x-job-id": job_id}
        console.print("  unstreamed  ", style="dim", end="")
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": _QUESTION}], max_tokens=8, extra_headers=header
        )
        console.print(answer.choices[0].message.content, markup=False)
        console.print("  streamed    ", style="dim", end="")
        stream = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": _FOLLOW_UP}], stream=True, extra_headers=header
        )
        for chunk in stream:
            for choice in chunk.choices:
                console.print(choice.delta.content or "", end="", markup=False)
                console.file.flush()
        console.print()
    done = team.post(f"/jobs/{job_id}/complete", {"status": "completed"})
    console.print("  job completed\n", style="dim")
    ledger = team.get(f"/credits/teams/{_TEAM}/transactions")["transactions"]
    return _Books(
        before=before,
        after=team.get(f"/credits/teams/{_TEAM}/balance"),
        job=done,
        calls=team.get(f"/jobs/{job_id}/calls")["calls"],
        charges=[entry for entry in reversed(ledger) if entry["transaction_type"] == "charge"],
    )


def _refused_without_credits(console: Console, base_url: str, key: str) -> list[str]:
    """A call that cannot be paid: what is wrong with how it ends."""
    _heading(console, f"A call of team {_BROKE}, which has no credits")
    with _client(base_url, key) as client:
        try:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": _QUESTION}], max_tokens=8)
        except openai.APIStatusError as refusal:
            message = refusal.body.get("message") if isinstance(refusal.body, dict) else refusal.message
            console.print(f"  {refusal.status_code} {message}\n", markup=False)
            return [] if refusal.status_code == 402 else [f"the call ended with {refusal.status_code} instead of 402"]
    return ["a call went through without credits"]


def _differences(books: _Books) -> list[str]:
    """Every figure that is not what it must be, exactly."""
    found = []

    def expect(what: str, is_: object, must_be: object) -> None:
        if is_ != must_be:
            found.append(f"{what} is {is_}, and must be {must_be}")

    expect("the number of calls", len(books.calls), 2)
    for number, call in enumerate(books.calls, start=1):
        tokens = call["prompt_tokens"], call["completion_tokens"]
        cost = (tokens[0] * PRICE_INPUT + tokens[1] * PRICE_OUTPUT) / TOKENS_PER_PRICE
        expect(f"the status of call {number}", call["status"], "settled")
        expect(f"the tokens of call {number}", call["total_tokens"], sum(tokens))
        expect(f"the cost of call {number}", call["cost_usd"], cost)
        expect(f"the charge of call {number}", call["credits_charged"], to_credits(cost * CREDITS_PER_DOLLAR))
    charged = sum((call["credits_charged"] for call in books.calls), Decimal(0))
    expect("the ledger's sum", sum(entry["credits_amount"] for entry in books.charges), -charged)
    expect("the cost of the job", books.job["costs"]["total_cost_usd"], sum(call["cost_usd"] for call in books.calls))
    expect("the charge of the job", books.job["costs"]["credits_charged"], charged)
    expect("what is still held", books.after["credits_held"], 0)
    expect("the balance", books.after["credits_remaining"], books.before["credits_remaining"] - charged)
    return found


def _show(console: Console, books: _Books) -> None:
    calls = _table("Call records", "call", "tokens", "cost USD", "held", "charged", "latency", "first token", "basis")
    for call in books.calls:
        first = call["time_to_first_token_ms"]
        calls.add_row(
            "streamed" if call["stream"] else "unstreamed",
            f"{call['prompt_tokens']} + {call['completion_tokens']} = {call['total_tokens']}",
            plain(call["cost_usd"]),
            plain(call["credits_held"]),
            plain(call["credits_charged"]),
            f"{call['latency_ms']} ms",
            f"{first} ms" if first is not None else "",
            call["basis"],
        )
    ledger = _table("Ledger", "entry", "amount", "before", "after", "reason")
    for entry in books.charges:
        amounts = (plain(entry[name]) for name in ("credits_amount", "credits_before", "credits_after"))
        ledger.add_row(entry["transaction_type"], *amounts, entry["reason"])
    for table in (calls, ledger):
        console.print(table)
        console.print()
    before, after = books.before["credits_remaining"], books.after["credits_remaining"]
    console.print(f"Balance     {plain(before)} - {plain(before - after)} = [bold]{plain(after)}[/bold] credits\n")


def _verdict(console: Console, differences: list[str]) -> bool:
    for difference in differences:
        console.print(f"✗ {difference}", style="bold red", markup=False)
    if not differences:
        console.print(
            "✓ All figures add up: tokens × price = cost, cost × 10 = charge, ledger = balance.", style="green"
        )
    return not differences


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        numeric = number > 0 and column not in ("basis", "reason")
        table.add_column(column, justify="right" if numeric else "left", style=None, header_style="dim", no_wrap=True)
    return table


def _heading(console: Console, text: str) -> None:
    console.print(text, style="bold", markup=False)


def _client(base_url: str, key: str) -> OpenAI:
    return OpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0)
