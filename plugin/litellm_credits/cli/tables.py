"""Answers for people: a list as a table, anything else as names and values."""

import json
from decimal import Decimal
from io import StringIO
from typing import Any

from litellm_credits import money
from litellm_credits.cli.declared import Command

_WIDEST = 240


def shown(declared: Command, answer: bytes) -> str:
    """What a person sees of the answer to this command."""
    document = money.loads(answer)
    if not declared.rows:
        return _named(document)
    rows = document if declared.rows == "." else document[declared.rows]
    if not rows:
        return "None."
    text = _table(declared.columns.split(), rows)
    more = document.get("next_cursor") if isinstance(document, dict) else None
    return f"{text}\nMore: --{'after' if '--after' in declared.fields else 'before'} {more}" if more else text


def _table(columns: list[str], rows: list[dict[str, Any]]) -> str:
    from rich import box  # noqa: PLC0415  (start-up stays quick)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], int | Decimal | None) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    out = StringIO()
    Console(file=out, width=_WIDEST, highlight=False, markup=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())


def _named(document: dict[str, Any], depth: int = 0) -> str:
    width = max((len(name) for name in document), default=0)
    lines = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            lines.append(f"{'  ' * depth}{name or '-'}")
            lines.append(_named(value, depth + 1))
        else:
            lines.append(f"{'  ' * depth}{name or '-':<{width}}  {_text(value)}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    match value:
        case None | [] | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return money.plain(value)
        case list() if all(isinstance(member, str) for member in value):
            return ", ".join(value)
        case dict() | list():
            return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)
