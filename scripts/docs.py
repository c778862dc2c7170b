"""Writes the tables of docs/endpoints.md and docs/errors.md from the code, or checks that they are what would be written.

`python scripts/docs.py write | check`
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from litellm_credits.errors import CreditsError
from litellm_credits.proxy.routes import ENDPOINTS, REFUSED, Access

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- from the code: begin -->", "<!-- from the code: end -->"


def endpoints() -> str:
    """What is open to virtual keys, and what is refused and why."""
    lines = ["## Open to virtual keys", "", "| endpoint | access | charged | paths |", "|---|---|---|---|"]
    for name, endpoint in sorted(ENDPOINTS.items(), key=lambda item: item[1].access is not Access.PRICED):
        paths = "<br>".join(f"`{method} {path}`" for path in endpoint.paths for method in endpoint.methods)
        lines.append(f"| {endpoint.title} (`{name}`) | {endpoint.access} | {endpoint.charged} | {paths} |")
    lines += ["", "## Refused to virtual keys", "", "| family | why | paths that begin with |", "|---|---|---|"]
    for family in REFUSED:
        prefixes = " ".join(f"`{prefix}`" for prefix in family.prefixes)
        lines.append(f"| {family.title} | {family.reason} | {prefixes} |")
    return "\n".join(lines)


def errors() -> str:
    """Every error, by status."""
    lines = ["| status | `code` | message | fields |", "|---|---|---|---|"]
    for error in sorted(_all(CreditsError), key=lambda error: error.status):
        if error.code == CreditsError.code:  # not for HTTP clients
            continue
        message = (
            inspect.cleandoc(error.__doc__ or "")
            .replace("\n", " ")
            .replace("{", "<")
            .replace("}", ">")
            .replace("|", "\\|")
        )
        fields = " ".join(f"`{name}`" for name in error.shown)
        after = f" `Retry-After: {error.retry_after_seconds}`" if error.retry_after_seconds is not None else ""
        lines.append(
            f"| {error.status} | `{error.code}` | {message.replace('<', '⟨').replace('>', '⟩')} | {fields}{after} |"
        )
    return "\n".join(lines)


def _all(parent: type[CreditsError]) -> Iterator[type[CreditsError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _all(child)


PAGES: dict[Path, Callable[[], str]] = {DOCS / "endpoints.md": endpoints, DOCS / "errors.md": errors}


def page(path: Path) -> str:
    """The page with its tables as they should be."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, marked, after = rest.partition(END)
    if not marked:
        sys.exit(f"{path.name} must hold the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{PAGES[path]()}\n\n{END}{after}"


def main() -> None:
    match sys.argv[1:]:
        case ["write"]:
            for path in PAGES:
                path.write_text(page(path))
        case ["check"]:
            stale = [path.name for path in PAGES if path.read_text() != page(path)]
            if stale:
                sys.exit(f"docs/{', docs/'.join(stale)}: not what the code says. Run: python scripts/docs.py write")
        case _:
            sys.exit(__doc__)


main()
