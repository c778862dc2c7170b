"""Several statements in one round trip and one transaction: libpq's pipeline mode, below psycopg's cursors.

What every call waits for twice goes this way: psycopg's own pipelines cost as much as a cursor for each statement.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, abc, errors, generators, pq
from psycopg.adapt import PyFormat, Transformer

from litellm_credits.db.queries import Query

Step = tuple[Query, Mapping[str, object]]
"""A statement and its parameters, all of them of the types that its text says, or that PostgreSQL infers from it."""


def for_each(query: Query, given: Sequence[Mapping[str, object]]) -> Step:
    """One statement for all of these at once (`Query.times`)."""
    params = {f"{name}_{number}": value for number, one in enumerate(given) for name, value in one.items()}
    return query.times(len(given)), params


_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)


class Pipelines:
    """Runs steps on connections of a pool. `prepare`: each connection prepares a statement when it first sees it."""

    def __init__(self, *, prepare: bool) -> None:
        self._prepare = prepare
        self._prepared: WeakKeyDictionary[AsyncConnection[Any], set[Query]] = WeakKeyDictionary()

    async def run(self, connection: AsyncConnection[Any], steps: Sequence[Step]) -> list[list[dict[str, Any]]]:
        """The rows of each step, once all of them are committed. The connection must be idle, in autocommit mode.

        Raises:
            psycopg.Error: of the first step that failed, or of the commit; nothing was done. OperationalError: the outcome
                is unknown.
        """
        prepared = self._prepared.setdefault(connection, set())
        try:
            return await self._run(connection, steps, prepared)
        except errors.InvalidSqlStatementName:  # psycopg, or a pooler, has dropped what was prepared
            prepared.clear()
            return await self._run(connection, steps, prepared)

    async def _run(
        self, connection: AsyncConnection[Any], steps: Sequence[Step], prepared: set[Query]
    ) -> list[list[dict[str, Any]]]:
        pg = connection.pgconn
        values = Transformer(connection)
        given = [_given(values, query, params) for query, params in steps]
        preparing: list[Query | None] = []
        """Of each result to come: the statement that it says is prepared; None: it is a step's own."""
        pg.enter_pipeline_mode()
        try:
            for (query, _), texts in zip(steps, given, strict=True):
                if not self._prepare:
                    pg.send_query_params(query.positional, texts)
                else:
                    name = query.name.encode()
                    if query not in prepared and query not in preparing:
                        pg.send_prepare(name, query.positional)
                        preparing.append(query)
                    pg.send_query_prepared(name, texts)
                preparing.append(None)
            pg.pipeline_sync()
            results = await connection.wait(_received(pg))
            pg.exit_pipeline_mode()
        except BaseException:  # also cancelled: nobody knows what the connection would say next
            await connection.close()
            raise
        rows: list[list[dict[str, Any]]] = []
        may_come = (*preparing, None)  # a last one says why nothing was committed
        for query_prepared, result in zip(may_come, results, strict=False):
            if result.status in _FAILED:
                raise errors.error_from_result(result)
            if query_prepared is not None:
                prepared.add(query_prepared)
            else:
                rows.append(_rows(values, result))
        return rows


def _given(values: abc.Transformer, query: Query, params: Mapping[str, object]) -> Sequence[abc.Buffer | None]:
    return values.dump_sequence([params[name] for name in query.names], [PyFormat.TEXT] * len(query.names))


def _received(pg: pq.abc.PGconn) -> abc.PQGen[list[pq.abc.PGresult]]:
    """All results up to the end of the pipeline, in the form that psycopg waits for."""
    yield from generators.send(pg)
    results: list[pq.abc.PGresult] = []
    while True:
        result = yield from generators.fetch(pg)
        if result is None:  # the end of one statement's results
            if pg.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the connection is lost")
        elif result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _rows(values: abc.Transformer, result: pq.abc.PGresult) -> list[dict[str, Any]]:
    if not result.ntuples:
        return []
    names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
    values.set_pgresult(result)
    return values.load_rows(0, result.ntuples, lambda row: dict(zip(names, row, strict=True)))
