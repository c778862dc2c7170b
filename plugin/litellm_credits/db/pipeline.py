"""Several statements in one round trip and one transaction: libpq's pipeline mode, below psycopg's cursors.

What every call waits for twice goes this way: psycopg's own pipelines cost as much as a cursor for each statement.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, abc, errors, generators, pq
from psycopg.adapt import PyFormat, Transformer

from litellm_credits.db.queries import Query

Step = tuple[Query, Sequence[object]]
"""A statement and its parameters in the order of its `names`, each of the type that its text says, or that PostgreSQL infers
from it."""


def step(query: Query, params: Mapping[str, object]) -> Step:
    """One statement by itself."""
    return query, [params[name] for name in query.names]


def for_each(query: Query, given: Sequence[Mapping[str, object]]) -> Step:
    """One statement for all of these at once (`Query.times`)."""
    return query.times(len(given)), [params[name] for params in given for name in query.names]


_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)


class PipelineConnection(AsyncConnection[dict[str, Any]]):
    """A connection that runs steps, and keeps what each run would have to find out again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transformer = Transformer(self)
        self.known_queries: set[Query] = set()

    async def run(self, steps: Sequence[Step], *, prepare: bool) -> list[list[dict[str, Any]]]:
        """The rows of each step, once all of them are committed. The connection must be idle, in autocommit mode.

        `prepare`: a statement is prepared when it is first seen.

        Raises:
            psycopg.Error: of the first step that failed, or of the commit; nothing was done. OperationalError: the outcome
                is unknown.
        """
        try:
            return await self._run(steps, prepare)
        except errors.InvalidSqlStatementName:  # psycopg, or a pooler, has dropped what was prepared
            self.known_queries.clear()
            return await self._run(steps, prepare)

    async def _run(self, steps: Sequence[Step], prepare: bool) -> list[list[dict[str, Any]]]:
        pg, prepared = self.pgconn, self.known_queries
        given = [self.transformer.dump_sequence(values, [PyFormat.TEXT] * len(values)) for _, values in steps]
        preparing: list[Query | None] = []
        """Of each result to come: the statement that it says is prepared; None: it is a step's own."""
        pg.enter_pipeline_mode()
        try:
            for (query, _), texts in zip(steps, given, strict=True):
                if not prepare:
                    pg.send_query_params(query.positional, texts)
                else:
                    name = query.name.encode()
                    if query not in prepared and query not in preparing:
                        pg.send_prepare(name, query.positional)
                        preparing.append(query)
                    pg.send_query_prepared(name, texts)
                preparing.append(None)
            pg.pipeline_sync()
            results = await self.wait(_received(pg))
            pg.exit_pipeline_mode()
        except BaseException:  # also cancelled: nobody knows what the connection would say next
            await self.close()
            raise
        rows: list[list[dict[str, Any]]] = []
        may_come = (*preparing, None)  # a last one says why nothing was committed
        for query_prepared, result in zip(may_come, results, strict=False):
            if result.status in _FAILED:
                raise errors.error_from_result(result)
            if query_prepared is not None:
                prepared.add(query_prepared)
            else:
                rows.append(_rows(self.transformer, result))
        return rows


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
