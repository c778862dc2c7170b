"""Nothing of ours keeps a worker's event loop from its other calls, however large a request is."""

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from .conftest import running_gateway
from .gateway import Gateway

LONGEST_PAUSE_SECONDS = 0.4
"""LiteLLM's own handling of a body of this size takes half of it on a busy machine; a tokenizer on the loop takes seconds."""

BIG = "word " * 400_000


@pytest.fixture(scope="module")
def lone_worker(
    session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("lone"), session_database_url, provider_url, workers=1, env={"CREDITS_RECORD_BYTES": "8000000"}
    ) as gateway:
        yield gateway
