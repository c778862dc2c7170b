"""Keys with terms of their own: expiry, aliases, limits, rotation with an overlap, last use."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from api_client import Api, Books, Team

from litellm_credits.engine import Engine
from litellm_credits.errors import ModelNotAllowed
from litellm_credits.tenancy.principals import Limits, Principal

TERMS = {
    "name": "ci",
    "expires_at": "2100-01-01T00:00:00Z",
    "allowed_aliases": ["gpt-3.5-turbo"],
    "credit_limit": 12.5,
    "rpm_limit": 10,
    "tpm_limit": 1000,
}


async def test_a_key_has_the_terms_that_it_was_made_with(admin: Api, team: Team, engine: Engine) -> None:
    made = await admin.ok("POST", "/teams/alpha/keys", TERMS)
    assert {name: made[name] for name in TERMS} == TERMS | {"credit_limit": Decimal("12.5")}
    assert (made["credits_used"], made["credits_held"], made["last_used_at"]) == (0, 0, None)
    shown = await admin.ok("GET", f"/teams/alpha/keys/{made['key_id']}")
    assert shown == {name: value for name, value in made.items() if name != "virtual_key"}
    principal = await engine.authenticator.caller(made["virtual_key"])
    assert isinstance(principal, Principal)
    assert principal.allowed_aliases == ("gpt-3.5-turbo",)
    assert principal.limits == Limits(rpm=10, tpm=1000, team_rpm=None, team_tpm=None)


async def test_a_keys_terms_are_changed_and_taken_away(admin: Api, team: Team) -> None:
    made = await admin.ok("POST", "/teams/alpha/keys", TERMS)
    path = f"/teams/alpha/keys/{made['key_id']}"
    changed = await admin.ok("PUT", path, {"rpm_limit": 5, "tpm_limit": None})
    assert (changed["rpm_limit"], changed["tpm_limit"], changed["name"]) == (5, None, "ci")
    changed = await admin.ok("PUT", path, {"allowed_aliases": None, "credit_limit": None, "expires_at": None})
    assert (changed["allowed_aliases"], changed["credit_limit"], changed["expires_at"]) == (None, None, None)
    assert changed["rpm_limit"] == 5


@pytest.mark.parametrize(
    ("terms", "status", "code", "param"),
    [
        ({"allowed_aliases": ["gpt-9"]}, 404, "not_found", "allowed_aliases"),
        ({"allowed_aliases": []}, 422, "invalid_input", "allowed_aliases"),
        ({"expires_at": "2001-01-01"}, 422, "invalid_input", "expires_at"),
        ({"credit_limit": -1}, 422, "invalid_input", "credit_limit"),
        ({"rpm_limit": 0}, 422, "invalid_input", "rpm_limit"),
    ],
)
async def test_terms_that_make_no_sense_are_refused(
    admin: Api, team: Team, terms: dict[str, object], status: int, code: str, param: str
) -> None:
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    for method, path in (("POST", "/teams/alpha/keys"), ("PUT", f"/teams/alpha/keys/{key['key_id']}")):
        error = await admin.refused(status, code, method, path, terms)
        assert error["param"].startswith(param)
    assert await admin.ok("GET", f"/teams/alpha/keys/{key['key_id']}") == key


async def test_a_keys_aliases_narrow_what_its_team_may_call(admin: Api, team: Team, engine: Engine) -> None:
    for name in ("gpt-4", "elsewhere"):
        await admin.ok("POST", "/models/aliases/create", {"model_alias": name, "provider": "p", "actual_model": name})
    await admin.ok("PUT", "/model-access-groups/test-chat-fast/models", {"model_aliases": ["gpt-3.5-turbo", "gpt-4"]})
    made = await admin.ok("POST", "/teams/alpha/keys", {"allowed_aliases": ["gpt-4", "elsewhere"]})
    principal = await engine.authenticator.caller(made["virtual_key"])
    assert isinstance(principal, Principal)
    catalog = await engine.catalog.fresh()
    scope = {"access_groups": principal.access_groups, "allowed": principal.allowed_aliases}
    assert catalog.names_for(*scope.values()) == ["gpt-4", "test-chat-fast"]
    for requested in ("gpt-4", "test-chat-fast"):
        resolution = catalog.resolve(
            requested, team_id="alpha", access_groups=principal.access_groups, allowed=principal.allowed_aliases
        )
        assert [alias.name for alias in resolution.aliases] == ["gpt-4"]
    for refused in ("gpt-3.5-turbo", "elsewhere"):
        with pytest.raises(ModelNotAllowed):
            catalog.resolve(
                refused, team_id="alpha", access_groups=principal.access_groups, allowed=principal.allowed_aliases
            )


async def test_a_rotated_key_goes_on_for_the_overlap_and_no_longer(admin: Api, team: Team, books: Books) -> None:
    old = await admin.ok("POST", "/teams/alpha/keys", TERMS)
    path = f"/teams/alpha/keys/{old['key_id']}"
    new = await admin.ok("POST", f"{path}/rotate", {"overlap_seconds": 3600})
    assert {name: new[name] for name in TERMS} == TERMS | {"credit_limit": Decimal("12.5")}
    for key in (old, new):
        await admin.holding(key["virtual_key"]).ok("GET", "/jobs")
    left = await admin.ok("GET", path)
    assert (left["status"], left["replaced_by"]) == ("active", new["key_id"])
    assert timedelta() < datetime.fromisoformat(left["expires_at"]) - datetime.now(UTC) <= timedelta(hours=1)
    await admin.refused(404, "not_found", "POST", f"{path}/rotate", {"overlap_seconds": 3600})
    books.rows("UPDATE credits.virtual_keys SET expires_at = now() WHERE key_id = %(id)s", {"id": old["key_id"]})
    await _soon_refused(admin.holding(old["virtual_key"]), 401, "api_key_expired")


async def test_an_overlap_does_not_lengthen_a_keys_life(admin: Api, team: Team) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).replace(microsecond=0)
    old = await admin.ok("POST", "/teams/alpha/keys", {"expires_at": soon.isoformat()})
    await admin.ok("POST", f"/teams/alpha/keys/{old['key_id']}/rotate", {"overlap_seconds": 86_400})
    left = await admin.ok("GET", f"/teams/alpha/keys/{old['key_id']}")
    assert datetime.fromisoformat(left["expires_at"]) == soon


async def test_of_rotations_with_an_overlap_at_once_one_wins(admin: Api, team: Team, books: Books) -> None:
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    path = f"/teams/alpha/keys/{key['key_id']}/rotate"
    answers = await asyncio.gather(*(admin.send("POST", path, {"overlap_seconds": 60}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 7
    assert books.contents()["virtual_keys"] == 2


async def test_when_a_key_was_last_used_is_noted_for_many_at_once(admin: Api, team: Team, engine: Engine) -> None:
    await team.api.ok("GET", "/jobs")
    await engine.authenticator._last_uses.write()
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    assert datetime.now(UTC) - datetime.fromisoformat(key["last_used_at"]) < timedelta(minutes=1)


async def test_noting_last_uses_waits_for_no_call_and_forgets_none(team: Team, engine: Engine, books: Books) -> None:
    await team.api.ok("GET", "/jobs")
    uses = engine.authenticator._last_uses
    async with engine.db.transaction() as tx:
        await tx.all(b"SELECT 1 FROM credits.virtual_keys FOR UPDATE")  # type: ignore[arg-type]
        await asyncio.wait_for(uses.write(), 1)
        assert books.rows("SELECT last_used_at FROM credits.virtual_keys") == [{"last_used_at": None}]
    await uses.write()
    assert books.rows("SELECT count(last_used_at) AS noted FROM credits.virtual_keys") == [{"noted": 1}]


async def test_noting_a_use_drops_no_cache(engine: Engine, team: Team, books: Books) -> None:
    """A notification per use would make every call read its key again."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    engine.listener.subscribe(heard.put_nowait)
    books.rows("NOTIFY credits_changed, 'begin'")
    while await heard.get() != "begin":  # what came before tells of the team's making
        pass
    books.rows("UPDATE credits.virtual_keys SET last_used_at = now(), credits_used = 1, credits_held = 1")
    books.rows("NOTIFY credits_changed, 'end'")
    while (payload := await heard.get()) != "end":
        assert not payload.startswith("team:")


async def test_a_team_may_pause_itself_and_still_sees_its_own(admin: Api, team: Team) -> None:
    assert await team.api.ok("PUT", "/teams/alpha/pause") == {"team_id": "alpha", "status": "paused"}
    await team.api.ok("GET", "/teams/alpha/usage")
    assert (await admin.ok("GET", "/teams/alpha"))["status"] == "paused"
    assert await team.api.ok("PUT", "/teams/alpha/pause") == {"team_id": "alpha", "status": "paused"}
    assert await team.api.ok("PUT", "/teams/alpha/resume") == {"team_id": "alpha", "status": "active"}


async def test_only_the_admin_ends_a_suspension(admin: Api, team: Team) -> None:
    await admin.ok("PUT", "/teams/alpha/suspend")
    await admin.refused(403, "team_suspended", "PUT", "/teams/alpha/pause")
    await _soon_refused(team.api, 403, "team_suspended")
    await team.api.refused(403, "team_suspended", "PUT", "/teams/alpha/resume")
    assert (await admin.ok("PUT", "/teams/alpha/resume"))["status"] == "active"


async def test_an_organization_is_suspended_paused_and_resumed_with_all_its_teams(
    admin: Api, team: Team, other_team: Team, engine: Engine
) -> None:
    assert (await admin.ok("PUT", "/organizations/acme/suspend"))["status"] == "suspended"
    for one in (team, other_team):
        await _soon_refused(one.api, 403, "team_suspended")
    await admin.ok("PUT", "/teams/beta/pause")
    assert (await admin.ok("PUT", "/organizations/acme/pause"))["status"] == "paused"
    await team.api.ok("GET", "/jobs")
    assert (await admin.ok("PUT", "/organizations/acme/resume"))["status"] == "active"
    assert (await admin.ok("GET", "/teams/beta"))["status"] == "paused"
    for verb in ("suspend", "pause", "resume"):
        await admin.refused(404, "not_found", "PUT", f"/organizations/none/{verb}")


async def _soon_refused(api: Api, status: int, code: str) -> None:
    """Within a second on this worker: a change is announced as it is committed."""
    for _ in range(50):
        if (await api.send("GET", "/jobs")).status_code != 200:
            break
        await asyncio.sleep(0.02)
    await api.refused(status, code, "GET", "/jobs")
