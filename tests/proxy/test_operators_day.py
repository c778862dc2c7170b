"""scripts/operators_day.py, run in full: what its transcript says, to the last digit."""

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/operators_day.py"


def _transcript() -> str:
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False, timeout=170)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout
    return ended.stdout


def _answers(day: str, command: str) -> list[str]:
    """What the commands said that begin so, in their order."""
    found = re.findall(rf"^\$ {re.escape(command)}(?:.*\\\n)*.*\n((?:(?![$#] ).*\n)*)", day, re.MULTILINE)
    return [answer.rstrip() for answer in found]


def _ledger(answer: str) -> list[tuple[str, ...]]:
    """Type, amount, balance after, and reason of the entries."""
    return re.findall(r"^ *\d+ +\S+Z +(\S+) +(\S+) +(\S+) +(.+)$", answer, re.MULTILINE)


def test_an_operators_day_adds_up() -> None:
    day = _transcript()
    sold = _answers(day, "litellm-credits credits add")
    assert len(sold) == 2
    assert sold[0] == sold[1], "sent again, the credits came twice"

    capped, refused, suspended, resumed, trial = _answers(day, "curl")
    assert re.findall(r"(?:charged|remaining): (\S+)", capped) == ["0.93", "19.07"]
    assert re.findall(r"(?:charged|remaining): (\S+)", resumed) == ["0.57", "19"]
    assert re.findall(r"(?:charged|remaining): (\S+)", trial) == ["0.0175", "19.9825"]
    assert "team_suspended" in suspended
    assert suspended.endswith("(403)")

    body, status = refused.rsplit(maxsplit=1)
    error = json.loads(body, parse_float=Decimal)["error"]
    assert status == "(402)"
    assert error["code"] == "insufficient_credits"
    assert (error["required"], error["available"], error["held"]) == (Decimal("61.35"), Decimal("4.07"), 0)
    assert error["affordable_max_tokens"] == 45

    (asked,) = _answers(day, "litellm-credits refill requests")
    assert re.search(r"sunrise-web +open +11 +19 ", asked)
    assert "Only 0.43 credits" in _answers(day, "litellm-credits credits refund")[1]

    assert _ledger(_answers(day, "litellm-credits credits ledger")[-1]) == [
        ("allocation", "11", "30", "Invoice 1042"),
        ("expiry", "-0.9825", "19", "Expired: Trial"),
        ("charge", "-0.0175", "19.9825", "call quick: provider_usage 0.0175"),
        ("allocation", "1", "20", "Trial"),
        ("charge", "-0.57", "19", "call smart: provider_usage 0.57"),
        ("refund", "0.5", "19.57", "Ticket 77"),
        ("charge", "-0.93", "19.07", "call smart: provider_usage 0.93"),
        ("allocation", "20", "20", "Invoice 1041"),
    ]
    balances = _answers(day, "litellm-credits credits balance")
    during, evening = (dict(re.findall(r"^credits_(\w+) +(\S+)$", said, re.MULTILINE)) for said in balances)
    assert (during["held"], during["available"]) == ("5", "15")
    assert evening == {
        "allocated": "31.0175",
        "used": "1.0175",
        "held": "0",
        "earmarked": "0",
        "remaining": "30",
        "available": "30",
    }
    assert _answers(day, "litellm-credits verify")[0].endswith("Every credit is explained.")
