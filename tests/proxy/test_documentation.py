"""The examples of the documentation are run as they stand there: shell lines by a shell, against the running proxy."""

import os
import re
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from .gateway import Gateway, Team, wait_until

DOCS = Path(__file__).parents[2] / "docs"

_PRELUDE = """
set -euo pipefail
curl() { command curl --fail-with-body --max-time 30 -w '\\n[%{http_code}]\\n' "$@"; }
"""
"""A refusal ends the script, and each answer is followed by its status."""


@pytest.fixture(scope="module")
def variables(gateway: Gateway) -> dict[str, str]:
    """What the examples take for granted: the team acme-web, its key, and one of each thing that they name by a variable."""
    alias, team_id = f"doc-{uuid4().hex[:8]}/gpt-3.5-turbo", f"doc-{uuid4().hex[:8]}"
    prices = {"pricing_input": 0.0005, "pricing_output": 0.0015}
    gateway.create(
        "/api/models/aliases/create", {"model_alias": alias, "provider": "openai", "actual_model": "ok"} | prices
    )
    gateway.create("/api/model-access-groups/create", {"group_name": team_id, "model_aliases": [alias]})
    new = {"organization_id": "acme", "team_id": team_id, "access_groups": [team_id], "credits_allocated": 8}
    team = Team(gateway, team_id, gateway.call("POST", "/api/teams/create", new)["virtual_key"])
    credits = f"/api/credits/teams/{team_id}"
    gateway.call("PUT", f"{credits}/refill", {"threshold": 10, "target": 50})
    made = {
        "KEY_ID": gateway.call("POST", f"/api/teams/{team_id}/keys")["key_id"],
        "GRANT_ID": gateway.call("POST", f"{credits}/grants", {"credits": 1, "priority": 200})["grant"]["grant_id"],
        "JOB_ID": str(job_id := team.job()),
    }
    for _ in range(2):
        team.chat(alias, extra_headers={"x-job-id": str(job_id)})
    made["CALL_ID"] = str(team.calls()[0]["call_id"])
    requests = wait_until(lambda: gateway.call("GET", f"{credits}/refill-requests")["requests"], what="the request")
    return made | {
        "REQUEST_ID": requests[0]["request_id"],
        "ADMIN": gateway.admin_key,
        "TEAM_KEY": team.key,
        "acme-web": team_id,
        "gpt-3.5-turbo": alias,
    }


@pytest.mark.parametrize(("page", "requests"), [("credits.md", 11), ("keys-and-teams.md", 5)])
def test_the_requests_of_a_page_succeed(
    gateway: Gateway, variables: dict[str, str], page: str, requests: int, tmp_path: Path
) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL))
    names = {name: value for name, value in variables.items() if not name.isupper()}
    for name, value in {"localhost:4000": gateway.base_url, **names}.items():
        script = script.replace(name, value)
    script = re.sub(r"\b20\d\d-(\d\d-\d\dT)", r"2099-\1", script)  # what is to come stays so
    env = {name: value for name, value in variables.items() if name.isupper()} | {
        "PATH": os.environ["PATH"],
        "NO_PROXY": "*",
    }
    ended = subprocess.run(
        ["bash", "-c", _PRELUDE + script],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.findall(r"^\[(\d+)\]$", ended.stdout, re.MULTILINE) == ["200"] * requests, ended.stdout
