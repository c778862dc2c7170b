"""Writes the tables of docs/endpoints.md from the route table, or checks that they are what would be written.

`python scripts/endpoint_docs.py write | check`
"""

import sys
from pathlib import Path

from litellm_credits.proxy.routes import ENDPOINTS, REFUSED, Access

PAGE = Path(__file__).parents[1] / "docs" / "endpoints.md"
BEGIN, END = "<!-- from the route table: begin -->", "<!-- from the route table: end -->"


def tables() -> str:
    """Markdown: what is open to virtual keys, and what is refused and why."""
    lines = ["## Open to virtual keys", "", "| endpoint | access | charged | paths |", "|---|---|---|---|"]
    for name, endpoint in sorted(ENDPOINTS.items(), key=lambda item: item[1].access is not Access.PRICED):
        paths = "<br>".join(f"`{method} {path}`" for path in endpoint.paths for method in endpoint.methods)
        lines.append(f"| {endpoint.title} (`{name}`) | {endpoint.access} | {endpoint.charged} | {paths} |")
    lines += ["", "## Refused to virtual keys", "", "| family | why | paths that begin with |", "|---|---|---|"]
    for family in REFUSED:
        prefixes = " ".join(f"`{prefix}`" for prefix in family.prefixes)
        lines.append(f"| {family.title} | {family.reason} | {prefixes} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its tables as they should be."""
    before, _, rest = text.partition(BEGIN)
    _, marked, after = rest.partition(END)
    if not marked:
        sys.exit(f"{PAGE.name} must hold the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> None:
    text = PAGE.read_text()
    match sys.argv[1:]:
        case ["write"]:
            PAGE.write_text(page(text))
        case ["check"]:
            if text != page(text):
                sys.exit("docs/endpoints.md is stale: run `python scripts/endpoint_docs.py write`.")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
