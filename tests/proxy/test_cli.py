"""An operator's work by command line, against the running proxy."""

import json
import re
import shlex
from decimal import Decimal
from pathlib import Path
from string import Template
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from litellm_credits.cli import main

from .gateway import Gateway, Team


class Shell:
    """Runs commands as an operator with the admin key would."""

    def __init__(self, gateway: Gateway) -> None:
        self._env = {"CREDITS_URL": gateway.base_url, "LITELLM_MASTER_KEY": gateway.admin_key, "CREDITS_KEY": None}

    def run(self, line: str, *more: str) -> Result:
        """How a command ended."""
        return CliRunner().invoke(main, [*line.split(), *more], env=self._env, catch_exceptions=False)

    def ok(self, line: str, *more: str) -> str:
        """What a command that must succeed says."""
        ended = self.run(line, *more)
        assert ended.exit_code == 0, ended.output
        return ended.output

    def json(self, line: str, *more: str) -> Any:
        """The same, for scripts."""
        return json.loads(self.ok(line, *more, "--json"), parse_float=Decimal)


@pytest.fixture
def shell(gateway: Gateway) -> Shell:
    return Shell(gateway)


def test_an_operators_day(shell: Shell, gateway: Gateway) -> None:
    name = f"cli-{uuid4().hex[:8]}"
    shell.ok(f"org create {name} --name", "The customer")
    shell.ok(f"alias create {name}/chat --provider openai --model ok --price-input 0.0005 --price-output 0.0015")
    shell.ok(f"group create {name}-all --alias {name}/chat")
    made = shell.json(f"team create {name} --org {name} --credits 100.0000000001 --group {name}-all")
    assert made["credits_allocated"] == Decimal("100.0000000001")
    team = Team(gateway, name, made["virtual_key"])
    team.chat(f"{name}/chat", max_tokens=8)
    assert "99.9998050001" in shell.ok(f"team list --limit 200 --after {name[:-1]}")
    calls = shell.ok(f"team calls {name}")
    assert "provider_usage" in calls
    assert "0.000195" in calls

    key = shell.json(f"key create {name} --name ci --allow {name}/chat --rpm-limit 9")
    assert key["allowed_aliases"] == [f"{name}/chat"]
    shown = shell.ok(f"key list {name}")
    assert "ci" in shown
    assert key["virtual_key"] not in shown
    assert shell.json(f"key update {name} {key['key_id']} --clear rpm_limit --name cd")["rpm_limit"] is None
    new = shell.json(f"key rotate {name} {key['key_id']} --overlap 60")
    assert shell.json(f"key show {name} {key['key_id']}")["replaced_by"] == new["key_id"]

    once = f"--idempotency-key {uuid4()}"
    assert shell.ok(f"credits add {name} 5 {once}") == shell.ok(f"credits add {name} 5 {once}")
    assert shell.json(f"credits balance {name}")["credits_allocated"] == Decimal("105.0000000001")
    assert "allocation" in shell.ok(f"credits ledger {name}")
    trial = shell.json(f"grant create {name} 2 --kind promotional --job-type report --rollover-days 3")["grant"]
    assert (trial["job_types"], trial["rollover_days"]) == (["report"], 3)
    assert "promotional" in shell.ok(f"credits balance {name}")
    assert shell.json(f"refill set {name} --period daily --credits 1 --starts-at 2100-01-01 --lapses")["lapses"] is True
    assert shell.json(f"refill stop {name} --yes")["team_id"] == name
    assert shell.json(f"refill show {name}")["refill"] is None
    assert shell.ok(f"team refill-requests {name}").strip() == "None."

    shell.ok(f"team pause {name}")
    assert shell.json(f"team show {name}")["status"] == "paused"
    shell.ok(f"team resume {name}")
    job = shell.json(f"job create report --team {name} --metadata", '{"pages": 3}')
    assert job["metadata"] == {"pages": 3}
    shell.ok(f"job complete {job['job_id']} completed")
    assert "report" in shell.ok(f"team jobs {name} --status completed")
    assert "0.000195" in shell.ok(f"org usage {name}")

    audit = shell.ok(f"audit list --team {name}")
    assert "virtual_keys" in audit
    assert "127.0.0.1" in audit
    assert '{"status":"paused"}' in audit
    shell.ok(f"org delete {name} --yes")
    assert shell.run(f"team show {name}").exit_code == 1


def test_the_examples_of_the_documentation_work(shell: Shell, gateway: Gateway) -> None:
    text = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    name = f"doc-{uuid4().hex[:8]}"
    lines = [line.partition("  #")[0] for line in text.splitlines() if line.startswith("litellm-credits ")]
    assert len(lines) > 20
    ids: dict[str, str] = {}
    for line in lines:
        own = re.sub("acme|gpt-3.5-turbo|chat-fast", rf"{name}-\g<0>", line)  # other tests have such names too
        own = own.replace(f"--model {name}-gpt-3.5-turbo", "--model ok")
        said = shell.ok("", *shlex.split(Template(own).substitute(ids))[1:])
        ids |= {what.upper(): id for what, id in re.findall(r"^ *(\w+_id) +(\S+)$", said, re.MULTILINE) if id != "-"}
        if key := re.search(r"^virtual_key +(\S+)$", said, re.MULTILINE):
            team = Team(gateway, f"{name}-acme-web", key[1])
            if not team.calls():
                team.chat(f"{name}-gpt-3.5-turbo")
                ids["CALL_ID"] = str(team.calls()[0]["call_id"])


def test_a_quote_is_told_before_the_call(shell: Shell, team: Team) -> None:
    request = '{"model": "ok", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}'
    shown = shell.ok(f"quote --key {team.key}", request)
    assert re.search(r"^fits +yes$", shown, re.MULTILINE)
    assert re.search(r"^ok +0.0005 +0.0015", shown, re.MULTILINE)
    job = team.gateway.call("POST", "/api/jobs/create", {"team_id": team.team_id, "job_type": "t", "credit_cap": 0.001})
    told = shell.json(f"quote --key {team.key} --job {job['job_id']}", request)
    assert told["available"] == Decimal("0.001")
    told = shell.json(f"quote --key {team.key} --path /v1/embeddings", '{"model": "ok", "input": "hi"}')
    assert (told["path"], told["affordable_max_tokens"]) == ("/v1/embeddings", None)
    assert team.calls() == []
    assert "acts for a team" in shell.run("quote", request).output


def test_a_team_uses_its_own_key(shell: Shell, team: Team) -> None:
    assert shell.ok(f"job list --key {team.key}").rstrip().endswith("None.")
    refused = shell.run(f"team list --key {team.key}")
    assert refused.exit_code == 1
    assert "needs the admin key" in refused.output


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("team show nobody", 1, "There is no team 'nobody'"),
        ("team create", 2, "Missing argument"),
        ("credits add x many", 2, "'many' is not a number"),
        ("credits refund", 1, "reason: Field required"),
        ("refill set nobody", 1, "name a period, a threshold, or both"),
        ("grant void nobody none", 1, "There is no grant 'none'"),
        ("job create t --metadata [1]", 2, "not a JSON object"),
        ("quote [1]", 2, "not a JSON object"),
        ("team list --url http://127.0.0.1:9", 3, "does not answer"),
        ("team list --url ftp://127.0.0.1", 1, "no http:// or https:// address"),
        ("team list --key sk-unknown", 1, "not known here"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(shell: Shell, line: str, code: int, says: str) -> None:
    ended = shell.run(line)
    assert ended.exit_code == code, ended.output
    assert says in ended.output
    assert "Traceback" not in ended.output


def test_deleting_asks_first(shell: Shell, team: Team) -> None:
    assert shell.run(f"team delete {team.team_id}").exit_code == 1
    assert shell.json(f"team show {team.team_id}")["team_id"] == team.team_id
