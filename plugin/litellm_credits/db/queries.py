"""Named queries: every statement this program can run stands in db/sql/*.sql.

A file holds blocks of `-- name: NAME`, comment lines that say what the statement promises, and the statement. Parameters are
psycopg's `%(name)s`. A statement for several things at once has a row in `[[ ]]`, which stands for one of each
(`Query.times`); there is no other templating.
"""

import re
from functools import cached_property
from importlib.resources import files
from types import SimpleNamespace

_NAME = re.compile(rb"^-- name: (\w+)$", re.MULTILINE)
_COMMENTS = re.compile(rb"^[ ]*--.*$", re.MULTILINE)
_INDENTATION = re.compile(rb"\n\s*")
_PARAMETER = re.compile(rb"%\((\w+)\)s")
_EACH = re.compile(rb"\[\[(.*)\]\]", re.DOTALL)


class Query(bytes):
    """One statement, with its name for messages and plans. `reads`: it changes nothing, so it may be run again."""

    name: str
    reads: bool
    _times: dict[int, "Query"]

    def __new__(cls, name: str, statement: bytes) -> "Query":
        query = super().__new__(cls, statement)
        query.name = name
        query.reads = statement.startswith(b"SELECT")
        query._times = {}
        return query

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order in which they first occur."""
        return tuple(dict.fromkeys(name.decode() for name in _PARAMETER.findall(self)))

    @cached_property
    def positional(self) -> bytes:
        """The statement as the server knows it: `$1` for the first of `names`, and so on."""
        numbers = {name.encode(): b"$%d" % number for number, name in enumerate(self.names, 1)}
        return _PARAMETER.sub(lambda found: numbers[found[1]], self).replace(b"%%", b"%")

    def times(self, count: int) -> "Query":
        """The statement for `count` things at once. The parameter `name` of the first is called `name_0`, and so on.

        Raises:
            ValueError: unless it has one row in `[[ ]]`, and no parameter beside it.
        """
        if count not in self._times:
            (row,) = _EACH.findall(self)
            if beside := _PARAMETER.findall(_EACH.sub(b"", self)):
                raise ValueError(f"{self.name} has parameters beside its row: {beside}")
            rows = b", ".join(_PARAMETER.sub(rb"%%(\1_%d)s" % number, row) for number in range(count))
            self._times[count] = Query(f"{self.name}_{count}", _EACH.sub(lambda _: rows, self))
        return self._times[count]


def parse(text: bytes) -> dict[str, Query]:
    """The queries of a file's text, by name.

    Raises:
        ValueError: when a name occurs twice.
    """
    parts = _NAME.split(text)[1:]
    queries: dict[str, Query] = {}
    for name, statement in zip(map(bytes.decode, parts[::2]), parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"two queries are named {name}")
        queries[name] = Query(name, _plain(statement))
    return queries


def _plain(statement: bytes) -> bytes:
    """Without comments and indentation: psycopg reads a statement's parameters anew each time when it is longer than 4 KB."""
    return _INDENTATION.sub(b"\n", _COMMENTS.sub(b"", statement)).strip()


def load(room: str) -> SimpleNamespace:
    """The queries of db/sql/<room>.sql as attributes of a namespace.

    Raises:
        ValueError: when a name occurs twice.
    """
    return SimpleNamespace(**parse(files("litellm_credits.db").joinpath(f"sql/{room}.sql").read_bytes()))
