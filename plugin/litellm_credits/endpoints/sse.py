"""Server-sent events in bytes that were cut anywhere."""

from typing import Any

from litellm_credits.money import loads


class Events:
    """Puts the events of one stream together again."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: object) -> list[dict[str, Any]]:
        """The JSON objects of the events that end in this chunk."""
        if isinstance(chunk, dict):
            return [chunk]
        data = chunk.encode() if isinstance(chunk, str) else chunk
        if not isinstance(data, bytes):
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        found: list[dict[str, Any]] = []
        for line in lines:
            if line.startswith(b"data:"):
                try:
                    event = loads(line[5:])
                except (ValueError, RecursionError):  # [DONE], or nothing that anybody could read
                    continue
                if isinstance(event, dict):
                    found.append(event)
        return found
