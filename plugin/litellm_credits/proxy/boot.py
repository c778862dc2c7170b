"""Starting inside the proxy: check that nothing can pass unmetered, open the database, put ring, hooks and routes in place.

Runs when LiteLLM imports the plugin, which is in each worker's start-up, in that worker's event loop. A refusal ends the
process with one line that says what to do: a proxy that starts without its meter would serve for free.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

import psycopg
from litellm.proxy import proxy_server

from litellm_credits.api.app import create_api
from litellm_credits.api.idempotency import Idempotent
from litellm_credits.db import embedded, migrate
from litellm_credits.db.reachable import refused_unless_reachable
from litellm_credits.endpoints.documents import PassThrough
from litellm_credits.engine import Engine
from litellm_credits.errors import StartupRefused
from litellm_credits.proxy.admission import Admissions
from litellm_credits.proxy.api import Api
from litellm_credits.proxy.configuration import check
from litellm_credits.proxy.counting import TokenCounts
from litellm_credits.proxy.create_and_call import CreateAndCall
from litellm_credits.proxy.fence import Fence
from litellm_credits.proxy.hooks import CreditsHooks
from litellm_credits.proxy.job_calls import JobCalls
from litellm_credits.proxy.listing import ModelListing
from litellm_credits.proxy.quotes import Quotes
from litellm_credits.proxy.resolution import Names
from litellm_credits.proxy.ring import Ring
from litellm_credits.proxy.routes import Access, Route, Table
from litellm_credits.proxy.settlement import Settlements
from litellm_credits.settings import Settings, settings

_MOST_COUNTERS = 1_000_000

_PASS_THROUGH_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
"""What LiteLLM forwards."""


@dataclass(frozen=True, slots=True)
class Running:
    """The plugin of this worker."""

    engine: Engine
    hooks: CreditsHooks


def start(module: str, module_globals: dict[str, Any]) -> Running:
    """Start the plugin in this worker, or end the process with a line that says why not."""
    try:
        registered = sys.modules.get(module)
        if registered is None or vars(registered) is not module_globals:
            raise StartupRefused(
                problem=f"{module} was loaded a second time, from a file beside the configuration. Move the configuration out "
                "of the folder that holds the package litellm_credits."
            )
        chosen = settings()
        opened = check(proxy_server.proxy_config.get_config_state())
        engine = Engine(open_database(chosen), chosen, master_key=lambda: proxy_server.master_key)
        return _install(engine, chosen, opened)
    except StartupRefused as refusal:
        _die(refusal)


def open_database(chosen: Settings) -> str:
    """The conninfo of a database that is ready: the embedded one is started and migrated, an external one is checked.

    Raises:
        StartupRefused: saying what to do.
    """
    if chosen.database_url is None:
        conninfo = embedded.start(chosen.data_dir, stop_at_exit=True)
        migrate.migrate(conninfo)
        return conninfo
    conninfo = migrate.libpq_conninfo(chosen.database_url.get_secret_value())
    with (
        refused_unless_reachable(),
        psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection,
    ):
        migrate.check(connection)
    return conninfo


def _install(engine: Engine, chosen: Settings, opened: Mapping[str, Decimal]) -> Running:
    settlements = Settlements(engine.ledger, record_bytes=chosen.record_bytes)
    names = Names(engine, opened)
    admissions = Admissions(engine, names)
    table = Table(Route(path, Access.PRICED, _PASS_THROUGH_METHODS, PassThrough.name) for path in opened)
    hooks = CreditsHooks(engine, admissions, settlements)
    app = proxy_server.app
    app.router.routes.insert(0, Api(create_api(engine), table))
    ring = Ring(
        app.middleware_stack or app.build_middleware_stack(),
        table,
        settlements,
        (JobCalls(engine.authenticator), TokenCounts(engine.authenticator, names), Fence(engine.authenticator)),
        ModelListing(engine),
        Quotes(engine, admissions, table),
        max_body_bytes=chosen.max_body_bytes,
    )
    app.middleware_stack = Idempotent(
        CreateAndCall(ring, engine.db, engine.authenticator, max_body_bytes=chosen.max_body_bytes),
        engine.idempotency_keys,
        engine.authenticator,
        max_body_bytes=chosen.max_body_bytes,
        answer_bytes=chosen.idempotency_answer_bytes,
    )
    # LiteLLM's rate limiter forgets counters that still count where there are more than fit, and then limits nothing.
    proxy_server.proxy_logging_obj.internal_usage_cache.dual_cache.update_in_memory_max_size(_MOST_COUNTERS)
    starting = asyncio.get_running_loop().create_task(engine.start(), name="credits-start")
    shut_down = proxy_server.proxy_shutdown_event

    async def stop_first(*args: Any, **kwargs: Any) -> Any:
        await starting
        await engine.stop()
        return await shut_down(*args, **kwargs)

    proxy_server.proxy_shutdown_event = stop_first  # LiteLLM looks it up by name when its lifespan ends
    return Running(engine, hooks)


def _die(refusal: StartupRefused) -> NoReturn:
    """End this process now. An exception would be logged by LiteLLM and uvicorn with two screens of traceback."""
    print(refusal.message, file=sys.stderr, flush=True)
    os._exit(1)
