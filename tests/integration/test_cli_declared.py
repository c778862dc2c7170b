"""The declared commands are the API's routes and fields, and every route that an operator needs has a command."""

import subprocess
import sys
from typing import Any

import pytest

from litellm_credits.api.app import create_api
from litellm_credits.cli.declared import COMMANDS, GROUPS, Command
from litellm_credits.cli.remote import _FIELD, _PARAMETER
from litellm_credits.engine import Engine
from litellm_credits.settings import Settings

WITHOUT_A_COMMAND = {"GET /health", "GET /metrics"}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    """What the API says of itself, which it needs no database for."""
    return create_api(Engine("", Settings(), master_key=lambda: None)).openapi()


def _fields(openapi: dict[str, Any], declared: Command) -> set[str]:
    """What the route takes: in its query if it reads, else in its body."""
    operation = openapi["paths"][declared.path][declared.method.lower()]
    if declared.method == "GET":
        return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    names = [one.get("$ref") for one in [schema, *schema.get("anyOf", ())] if "$ref" in one]
    return {field for name in names for field in openapi["components"]["schemas"][name.split("/")[-1]]["properties"]}


def test_every_route_has_a_command(openapi: dict[str, Any]) -> None:
    routes = {f"{method.upper()} {path}" for path in openapi["paths"] for method in openapi["paths"][path]}
    declared = [command.route for command in COMMANDS]
    assert set(declared) == routes - WITHOUT_A_COMMAND
    assert len(set(declared)) == len(declared)


@pytest.mark.parametrize("declared", COMMANDS, ids=lambda declared: declared.name)
def test_a_command_sends_what_its_route_takes(openapi: dict[str, Any], declared: Command) -> None:
    assert declared.group in GROUPS
    sent = set()
    for field in declared.fields.split():
        part = _FIELD.fullmatch(field)
        assert part is not None, field
        sent.add(part["field"] or part["flag"].replace("-", "_"))
    assert sent <= _fields(openapi, declared)
    parameters = openapi["paths"][declared.path][declared.method.lower()].get("parameters", ())
    assert set(_PARAMETER.findall(declared.path)) == {one["name"] for one in parameters if one["in"] == "path"}


def test_help_needs_none_of_the_heavy_parts() -> None:
    script = """
import sys, litellm_credits.cli
print([name for name in ("litellm", "fastapi", "psycopg", "rich") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
