"""Model aliases and access groups."""

from decimal import Decimal
from typing import Any

import pytest
from api_client import Api, Books, Team

JSON = {"content-type": "application/json"}
ALIAS = {"model_alias": "fast", "provider": "openai", "actual_model": "gpt-4o-mini"}


async def test_an_alias_is_created_shown_and_listed_with_exact_prices(admin: Api) -> None:
    await admin.ok("POST", "/model-access-groups/create", {"group_name": "basic"})
    body = ALIAS | {"display_name": "Fast", "max_output_tokens": 500, "access_groups": ["basic"], "description": "d"}
    raw = '{"pricing_input": 0.0000000001, "pricing_output": 123456789.0123456789, '
    made = await admin.ok(
        "POST",
        "/models/aliases/create",
        content=raw + str(body).replace("'", '"')[1:],
        headers=JSON,
    )
    assert (made["pricing_input"], made["pricing_output"]) == (Decimal("1e-10"), Decimal("123456789.0123456789"))
    assert {name: made[name] for name in body} == body
    assert made["status"] == "active"
    assert await admin.ok("GET", "/models/aliases/fast") == made
    assert await admin.ok("GET", "/models/aliases") == [made]
    [group] = await admin.ok("GET", "/model-access-groups")
    assert [member["model_alias"] for member in group["model_aliases"]] == ["fast"]


async def test_an_alias_may_have_slashes_in_its_name(admin: Api) -> None:
    await admin.ok("POST", "/models/aliases/create", ALIAS | {"model_alias": "openai/gpt-4o/mini"})
    assert (await admin.ok("GET", "/models/aliases/openai/gpt-4o/mini"))["model_alias"] == "openai/gpt-4o/mini"
    await admin.ok("PUT", "/models/aliases/openai%2Fgpt-4o%2Fmini", {"description": "d"})
    await admin.ok("DELETE", "/models/aliases/openai/gpt-4o/mini")
    await admin.refused(404, "not_found", "GET", "/models/aliases/openai/gpt-4o/mini")


async def test_an_alias_name_is_taken_once(admin: Api) -> None:
    await admin.ok("POST", "/models/aliases/create", ALIAS)
    again = ALIAS | {"actual_model": "other"}
    error = await admin.refused(409, "already_exists", "POST", "/models/aliases/create", again)
    assert error["param"] == "model_alias"
    assert (await admin.ok("GET", "/models/aliases/fast"))["actual_model"] == "gpt-4o-mini"


async def test_updating_an_alias_changes_what_is_sent(admin: Api) -> None:
    await admin.ok("POST", "/models/aliases/create", ALIAS | {"pricing_input": 1, "pricing_output": 2})
    before = await admin.ok("GET", "/models/aliases/fast")
    after = await admin.ok("PUT", "/models/aliases/fast", {"pricing_input": 0.5, "status": "inactive"})
    assert {name for name in before if before[name] != after[name]} == {"pricing_input", "status", "updated_at"}
    unpriced = await admin.ok("PUT", "/models/aliases/fast", {"pricing_input": None, "pricing_output": None})
    assert (unpriced["pricing_input"], unpriced["pricing_output"]) == (None, None)
    await admin.refused(404, "not_found", "PUT", "/models/aliases/none", {"description": "d"})


@pytest.mark.parametrize("price", ["pricing_input", "pricing_output"])
async def test_prices_come_in_pairs(admin: Api, books: Books, price: str) -> None:
    other = {"pricing_input": "pricing_output", "pricing_output": "pricing_input"}[price]
    error = await admin.refused(422, "invalid_input", "POST", "/models/aliases/create", ALIAS | {price: 1})
    assert error["param"] == other
    assert books.contents()["model_aliases"] == 0
    await admin.ok("POST", "/models/aliases/create", ALIAS)
    await admin.refused(422, "invalid_input", "PUT", "/models/aliases/fast", {price: 1})
    assert (await admin.ok("GET", "/models/aliases/fast"))[price] is None


async def test_an_aliass_groups_are_replaced_and_keep_their_order(admin: Api) -> None:
    for name in ("a", "b"):
        await admin.ok("POST", "/models/aliases/create", ALIAS | {"model_alias": name})
    await admin.ok("POST", "/model-access-groups/create", {"group_name": "g", "model_aliases": ["b", "a"]})
    await admin.ok("POST", "/model-access-groups/create", {"group_name": "h"})
    assert (await admin.ok("PUT", "/models/aliases/b", {"access_groups": ["h", "g"]}))["access_groups"] == ["g", "h"]
    assert await _members(admin, "g") == ["b", "a"]
    assert (await admin.ok("PUT", "/models/aliases/b", {"access_groups": ["h"]}))["access_groups"] == ["h"]
    assert await _members(admin, "g") == ["a"]
    error = await admin.refused(404, "not_found", "PUT", "/models/aliases/b", {"access_groups": ["none"]})
    assert error["param"] == "access_groups"
    assert await _members(admin, "h") == ["b"]


async def test_a_group_holds_aliases_in_order(admin: Api) -> None:
    for name in ("a", "b", "c"):
        await admin.ok("POST", "/models/aliases/create", ALIAS | {"model_alias": name})
    body = {"group_name": "g", "display_name": "G", "description": "d", "model_aliases": ["c", "a", "c"]}
    made = await admin.ok("POST", "/model-access-groups/create", body)
    member = {"display_name": None, "provider": "openai", "actual_model": "gpt-4o-mini"}
    assert made["model_aliases"] == [{"model_alias": "c", **member}, {"model_alias": "a", **member}]
    assert await admin.ok("GET", "/model-access-groups/g") == made
    await admin.ok("PUT", "/model-access-groups/g/models", {"model_aliases": ["b", "c", "a"]})
    assert await _members(admin, "g") == ["b", "c", "a"]
    changed = await admin.ok("PUT", "/model-access-groups/g", {"description": None, "status": "inactive"})
    assert (changed["description"], changed["display_name"], changed["status"]) == (None, "G", "inactive")
    assert await _members(admin, "g") == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/create", {"group_name": "h", "model_aliases": ["a", "none"]}),
        ("PUT", "/g", {"description": "new", "model_aliases": ["none"]}),
        ("PUT", "/g/models", {"model_aliases": ["none"]}),
    ],
)
async def test_a_group_takes_only_aliases_that_exist(admin: Api, method: str, path: str, body: Any) -> None:
    await admin.ok("POST", "/models/aliases/create", ALIAS | {"model_alias": "a"})
    await admin.ok("POST", "/model-access-groups/create", {"group_name": "g", "model_aliases": ["a"]})
    before = await admin.ok("GET", "/model-access-groups")
    error = await admin.refused(404, "not_found", method, f"/model-access-groups{path}", body)
    assert error["param"] == "model_aliases"
    assert await admin.ok("GET", "/model-access-groups") == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "", None), ("PUT", "", {}), ("PUT", "/models", {"model_aliases": []}), ("DELETE", "", None)],
)
async def test_an_unknown_group_is_not_found(admin: Api, method: str, path: str, body: Any) -> None:
    await admin.refused(404, "not_found", method, f"/model-access-groups/none{path}", body)


async def test_a_group_name_is_taken_once(admin: Api, catalog: None) -> None:
    body = {"group_name": "test-chat-fast"}
    error = await admin.refused(409, "already_exists", "POST", "/model-access-groups/create", body)
    assert error["param"] == "group_name"
    assert await _members(admin, "test-chat-fast") == ["gpt-3.5-turbo"]


async def test_a_group_that_teams_have_is_not_deleted(admin: Api, team: Team, other_team: Team) -> None:
    error = await admin.refused(409, "still_in_use", "DELETE", "/model-access-groups/test-chat-fast")
    assert "alpha, beta" in error["message"]
    assert (await admin.ok("GET", "/teams/alpha"))["access_groups"] == ["test-chat-fast"]
    for name in ("alpha", "beta"):
        await admin.ok("PUT", f"/teams/{name}/access-groups", [])
    await admin.ok("DELETE", "/model-access-groups/test-chat-fast")
    assert await admin.ok("GET", "/model-access-groups") == []
    assert (await admin.ok("GET", "/models/aliases/gpt-3.5-turbo"))["access_groups"] == []


async def test_deleting_an_alias_takes_it_out_of_its_groups(admin: Api, team: Team) -> None:
    await admin.ok("DELETE", "/models/aliases/gpt-3.5-turbo")
    assert await _members(admin, "test-chat-fast") == []
    assert (await admin.ok("GET", "/teams/alpha"))["allowed_model_aliases"] == []
    await admin.refused(404, "not_found", "DELETE", "/models/aliases/gpt-3.5-turbo")


@pytest.mark.parametrize("path", ["/models/aliases/gpt-3.5-turbo", "/model-access-groups/test-chat-fast"])
async def test_what_is_inactive_lets_nobody_call(admin: Api, team: Team, path: str) -> None:
    await admin.ok("PUT", path, {"status": "inactive"})
    assert (await admin.ok("GET", "/teams/alpha"))["allowed_model_aliases"] == []


async def _members(admin: Api, group: str) -> list[str]:
    found = await admin.ok("GET", f"/model-access-groups/{group}")
    return [member["model_alias"] for member in found["model_aliases"]]


async def test_rates_of_an_alias_are_exact_and_replaced_as_a_whole(admin: Api) -> None:
    rates = '{"cache_read": 0.0000000001, "image": 0.04, "tiers": [{"above": 200000, "output": 0.0225}]}'
    raw = '{"model_alias": "all", "provider": "p", "actual_model": "m", "pricing_input": 1, "pricing_output": 2, '
    made = await admin.ok("POST", "/models/aliases/create", content=raw + f'"pricing_rates": {rates}}}', headers=JSON)
    stated = {
        "cache_read": Decimal("1e-10"),
        "image": Decimal("0.04"),
        "tiers": [{"above": 200000, "output": Decimal("0.0225")}],
    }
    assert made["pricing_rates"] == stated
    changed = await admin.ok("PUT", "/models/aliases/all", {"description": "kept"})
    assert changed["pricing_rates"] == stated
    changed = await admin.ok("PUT", "/models/aliases/all", {"pricing_rates": {"second": 0.0001}})
    assert changed["pricing_rates"] == {"second": Decimal("0.0001")}
    changed = await admin.ok("PUT", "/models/aliases/all", {"pricing_rates": None})
    assert changed["pricing_rates"] == {}


@pytest.mark.parametrize(
    "rates",
    [
        {"image": -1},
        {"image": "NaN"},
        {"images": 1},
        {"second": 0.00000000001},
        {"tiers": [{"input": 1}]},
        {"tiers": [{"above": 0}]},
        {"tiers": [{"above": 1, "image": 1}]},
        {"tiers": {}},
        [],
    ],
)
async def test_rates_that_make_no_sense_are_refused(admin: Api, rates: object) -> None:
    await admin.refused(422, "invalid_input", "POST", "/models/aliases/create", ALIAS | {"pricing_rates": rates})


async def test_rates_of_parts_of_tokens_need_a_price_of_tokens(admin: Api) -> None:
    for rates in ({"cache_read": 1}, {"tiers": [{"above": 1, "input": 1}]}):
        error = await admin.refused(
            422, "invalid_input", "POST", "/models/aliases/create", ALIAS | {"pricing_rates": rates}
        )
        assert error["param"] == "pricing_rates"
