"""What a metered call takes longer than the same call through the same proxy without the plugin.

Both proxies, PostgreSQL and the stand-in provider run on this machine; one connection; rounds are interleaved, so that both
sides see the same machine. Prints medians over all calls and the ratio of the medians of each round.

    python bench/added_latency.py [--rounds 5] [--calls 200]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from litellm_credits.stack.child import Child, HeldPort
from litellm_credits.stack.stack import Stack, shipped_config

BARE_KEY = "sk-bare-0123456789abcdef0123456789"
PROVIDER = """
import json
ANSWER = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-3.5-turbo",
          "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-3.5-turbo"}
WHOLE = json.dumps(ANSWER).encode()
DELTAS = [{"choices": [{"index": 0, "delta": {"content": f"w{n} "}, "finish_reason": None}]} for n in range(20)]
END = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": ANSWER["usage"]}]
EVENTS = b"".join(b"data: " + json.dumps(HEAD | part).encode() + b"\\n\\n" for part in DELTAS + END) + b"data: [DONE]\\n\\n"

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    streamed = b'"stream":true' in body.replace(b" ", b"")
    kind = b"text/event-stream" if streamed else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": EVENTS if streamed else WHOLE})
"""


def without_plugin(folder: Path) -> Path:
    """The shipped configuration, less what the plugin adds."""
    config = yaml.safe_load(shipped_config().read_text())
    for name in ("custom_auth", "custom_auth_run_common_checks", "enforce_fallback_model_access"):
        del config["general_settings"][name]
    for name in ("callbacks", "enable_post_custom_auth_checks"):
        del config["litellm_settings"][name]
    path = folder / "bare.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def prepare(stack: Stack) -> str:
    """A team that can pay for everything, and its key."""
    with httpx.Client(
        base_url=f"{stack.base_url}/api", headers={"authorization": f"Bearer {stack.admin_key}"}
    ) as admin:
        for path, body in (
            ("/organizations/create", {"organization_id": "bench", "name": "Bench"}),
            ("/models/aliases/create", {"model_alias": "gpt-3.5-turbo", "provider": "openai", "actual_model": "gpt-3.5-turbo",
                                        "pricing_input": 0.0005, "pricing_output": 0.0015}),
            ("/model-access-groups/create", {"group_name": "bench", "model_aliases": ["gpt-3.5-turbo"]}),
        ):  # fmt: skip
            admin.post(path, json=body).raise_for_status()
        team = {
            "organization_id": "bench",
            "team_id": "bench",
            "access_groups": ["bench"],
            "credits_allocated": 1000000,
        }
        made = admin.post("/teams/create", json=team)
        made.raise_for_status()
        return str(made.json()["virtual_key"])


def call(client: httpx.Client, *, stream: bool) -> float:
    """Seconds of one call: to the whole answer, or to the first chunk of a stream."""
    body = {
        "model": "gpt-3.5-turbo",
        "messages": [{"role": "user", "content": "a b c"}],
        "stream": stream,
        "max_tokens": 50,
    }
    started = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        chunks = response.iter_raw()
        next(chunks)
        first = time.perf_counter()
        for _ in chunks:
            pass
    return (first if stream else time.perf_counter()) - started


@contextmanager
def process(folder: Path, command: list[str], env: dict[str, str], healthy: str) -> Iterator[str]:
    """A server on a free port, up and answering; its URL. `{port}` in the command is replaced."""
    port = HeldPort("127.0.0.1")
    url = f"http://127.0.0.1:{port.number}"
    command = [part.replace("{port}", str(port.number)) for part in command]
    child = Child(
        command, env={"PATH": os.environ["PATH"]} | env, cwd=folder, log=folder / f"{Path(command[0]).name}.log"
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(url + healthy).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
            if child.exit_code is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start:\n{child.last_words()}")
        yield url
    finally:
        child.stop(5)
        port.release()


def measure(rounds: int, calls: int) -> dict[str, Any]:
    """Medians in milliseconds, by side and kind of call."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        (folder / "fast_provider.py").write_text(PROVIDER)
        uvicorn = [sys.executable, "-m", "uvicorn", "fast_provider:app", "--port", "{port}", "--log-level", "error"]
        provider = running.enter_context(process(folder, uvicorn, {"PYTHONPATH": str(folder)}, "/"))
        env = {
            "OPENAI_API_BASE": f"{provider}/v1",
            "OPENAI_API_KEY": "stand-in",
            "LITELLM_MASTER_KEY": BARE_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
        }
        litellm = [
            str(Path(sys.executable).with_name("litellm")),
            "--config",
            str(without_plugin(folder)),
            "--port",
            "{port}",
        ]
        bare = running.enter_context(process(folder, litellm, env, "/health/liveliness"))
        metered = running.enter_context(Stack(folder / "metered", provider=None, env=env, admin_key=BARE_KEY))
        key = prepare(metered)
        sides = {
            "bare": httpx.Client(base_url=bare, headers={"authorization": f"Bearer {BARE_KEY}"}),
            "metered": httpx.Client(base_url=metered.base_url, headers={"authorization": f"Bearer {key}"}),
        }
        results: dict[str, Any] = {}
        for stream in (False, True):
            taken: dict[str, list[float]] = {side: [] for side in sides}
            for client in sides.values():
                for _ in range(50):
                    call(client, stream=stream)
            ratios = []
            for _ in range(rounds):
                medians = {}
                for side, client in sides.items():
                    times = [call(client, stream=stream) * 1000 for _ in range(calls)]
                    taken[side] += times
                    medians[side] = statistics.median(times)
                ratios.append(medians["metered"] / medians["bare"])
            kind = "time to first chunk" if stream else "whole answer"
            p50 = {side: statistics.median(times) for side, times in taken.items()}
            p99 = {side: statistics.quantiles(times, n=100)[98] for side, times in taken.items()}
            results[kind] = {
                "bare_p50_ms": round(p50["bare"], 2),
                "metered_p50_ms": round(p50["metered"], 2),
                "added_p50_ms": round(p50["metered"] - p50["bare"], 2),
                "added_p99_ms": round(p99["metered"] - p99["bare"], 2),
                "ratio_of_medians": [round(ratio, 3) for ratio in ratios],
            }
        for client in sides.values():
            client.close()
        return results


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rounds, arguments.calls), indent=2))


main()
