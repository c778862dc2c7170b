"""The LiteLLM configuration that the plugin starts with, and those that it refuses, each naming the line to change."""

from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from litellm_credits.errors import StartupRefused
from litellm_credits.proxy.configuration import check

SHIPPED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "proxy_config.yaml").read_text())
OPENED = {"path": "/partner/find", "target": "https://x.test", "auth": True, "cost_per_request": 0.01}


def changed(section: str, **settings: Any) -> dict[str, Any]:
    config = deepcopy(SHIPPED)
    config[section] |= settings
    return config


def test_the_shipped_configuration_opens_nothing() -> None:
    assert check(SHIPPED) == {}


def test_a_pass_through_route_is_opened_at_its_price() -> None:
    assert check(changed("general_settings", pass_through_endpoints=[OPENED])) == {"/partner/find": Decimal("0.01")}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cost_per_request": None}, "cost_per_request"),
        ({"cost_per_request": -1}, "cost_per_request"),
        ({"cost_per_request": True}, "cost_per_request"),
        ({"auth": False}, "auth: true"),
        ({"auth": None}, "auth: true"),
        ({"include_subpath": True}, "include_subpath"),
        ({"path": "/v1/chat/completions"}, "LiteLLM's own"),
        ({"path": "/search"}, "LiteLLM's own"),
        ({"path": "/key/mine"}, "LiteLLM's own"),
        ({"path": "/x/{y}"}, "path"),
        ({"path": None}, "path"),
    ],
)
def test_a_pass_through_route_that_could_not_be_metered_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(StartupRefused, match=told):
        check(changed("general_settings", pass_through_endpoints=[OPENED | wrong]))


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [
        ("general_settings", "enforce_fallback_model_access", False),
        ("general_settings", "always_include_stream_usage", True),
        ("general_settings", "custom_auth_settings", {"mode": "auto"}),
        ("general_settings", "disable_responses_id_security", True),
        ("general_settings", "allow_unmanaged_response_ids", True),
        ("general_settings", "completion_model", "gpt-4o"),
        ("litellm_settings", "global_disable_no_log_param", False),
    ],
)
def test_a_setting_that_lets_calls_pass_unmetered_is_refused(section: str, setting: str, value: object) -> None:
    with pytest.raises(StartupRefused, match=setting):
        check(changed(section, **{setting: value}))
