"""Load on a proxy: by wrk, and by small clients where no load generator measures what is wanted.

That is the time to a stream's first chunk, and the waits of many calls in flight, none of which is left out: wrk does not count
those that last beyond its end, nor do the connections wait that uvloop has not accepted yet, one in each of its turns.
"""

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import httpx
import uvloop

from bench.sides import Side

_PATH = "/v1/chat/completions"
_WARM_CALLS, _WARM_CHUNKS = 20, 3
_PATIENCE = 10
_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("\\nDONE %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_DONE = re.compile(r"^DONE (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)


class CallsFailed(Exception):
    """A proxy refused or lost calls: what was measured beside them means nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw. Latencies in milliseconds, `cpu_ms` the proxy's CPU time per call."""

    calls: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


def install_wrk() -> None:
    """wrk, from the distribution where it is missing."""
    if shutil.which("wrk") is None:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=True)


def body(*, chunks: int = 0) -> dict[str, Any]:
    """A request: unstreamed, or streamed with so many chunks."""
    messages = [{"role": "user", "content": "a b c"}]
    return {"model": "gpt-3.5-turbo", "messages": messages, "max_tokens": chunks or 50, "stream": chunks > 0}


def wrk(side: Side, *, connections: int, seconds: float, chunks: int = 0) -> Load:
    """Keep `connections` calls in flight for `seconds`. Raises CallsFailed when one did."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.replace("{key}", side.key).replace("{body}", json.dumps(body(chunks=chunks))))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "60s", "-s", script.name]
        before = side.cpu_seconds()
        said = subprocess.run([*command, side.url + _PATH], capture_output=True, text=True, check=True).stdout
        _drain(side)
        cpu_seconds = side.cpu_seconds() - before
    found = _DONE.search(said)
    assert found is not None, said
    calls, microseconds, p50, p99, failed = map(int, found.groups())
    if failed or not calls:
        raise CallsFailed(f"{connections} connections: {failed} calls failed, {calls} ended within {seconds:.0f} s")
    return Load(calls, calls / microseconds * 1e6, p50 / 1000, p99 / 1000, cpu_seconds / calls * 1000)


def warm_up(side: Side) -> None:
    """Calls on connections of their own, so that every worker has had some: the first one takes seconds."""
    for chunks in (0, _WARM_CHUNKS) * _WARM_CALLS:
        _call(side, chunks=chunks).raise_for_status()


def _drain(side: Side) -> None:
    """Queue behind what wrk left in flight, which must not burden the next side; that may be so much that this is refused too."""
    for _ in range(_PATIENCE):
        answer = _call(side, chunks=0)
        if answer.is_success:
            return
    answer.raise_for_status()


def _call(side: Side, *, chunks: int) -> httpx.Response:
    headers = {"authorization": f"Bearer {side.key}"}
    return httpx.post(side.url + _PATH, json=body(chunks=chunks), headers=headers, trust_env=False, timeout=60)


def first_chunk_ms(side: Side, *, calls: int) -> float:
    """The median of the times to a stream's first chunk, one call after the other."""
    taken = []
    headers = {"authorization": f"Bearer {side.key}"}
    with httpx.Client(base_url=side.url, headers=headers, trust_env=False, timeout=30) as client:
        for _ in range(calls):
            started = time.perf_counter()
            with client.stream("POST", _PATH, json=body(chunks=20)) as response:
                response.raise_for_status()
                chunks = response.iter_raw()
                next(chunks)
                taken.append((time.perf_counter() - started) * 1000)
                for _ in chunks:
                    pass
    return statistics.median(taken)


def waits_ms(side: Side, *, connections: int, calls: int) -> list[float]:
    """How long each call took when every one of `connections`, all of them accepted before, makes `calls` after each other.

    Raises CallsFailed when one did.
    """
    return uvloop.run(_waits_ms(httpx.URL(side.url), side.key, connections, calls))


async def _waits_ms(url: httpx.URL, key: str, connections: int, calls: int) -> list[float]:
    content = json.dumps(body()).encode()
    head = f"host: {url.netloc.decode()}\r\nauthorization: Bearer {key}\r\n"
    call = f"POST {_PATH} HTTP/1.1\r\n{head}content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    knock = f"GET /health/liveliness HTTP/1.1\r\n{head}\r\n".encode()
    opened = []
    for _ in range(connections):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        await _answered(reader, writer, knock)
        opened.append((reader, writer))
    taken: list[float] = []

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(calls):
            started = time.perf_counter()
            await _answered(reader, writer, call.encode() + content)
            taken.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(work(*connection) for connection in opened))
    for _, writer in opened:
        writer.close()
    return taken


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
    if " 200 " not in status:
        raise CallsFailed(f"a call was answered with {status}")
    (length,) = (header.split(":")[1] for header in headers if header.startswith("content-length:"))
    await reader.readexactly(int(length))
