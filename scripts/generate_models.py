"""Writes plugin/litellm_credits/models.py from schema.prisma. A Prisma generator: `make schema` runs it.

Every enum becomes a `StrEnum`, every model a frozen pydantic model with the columns of its table and the `///` comments
as docstrings. Relations are left out: a row model is one row, not a graph.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from prisma.generator import GenericGenerator, Manifest
from pydantic import BaseModel

HEADER = '''\
"""The rows of the tables in the PostgreSQL schema "credits", written from schema.prisma by `make schema`."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """One row, as read."""

    model_config = ConfigDict(frozen=True)
'''

PYTHON_TYPES = {
    "String": "str",
    "Int": "int",
    "BigInt": "int",
    "Boolean": "bool",
    "Decimal": "Decimal",
    "DateTime": "datetime",
    "Json": "dict[str, Any]",
    "Bytes": "bytes",
}


class EnumValue(BaseModel):
    name: str


class Enum(BaseModel):
    name: str
    documentation: str | None = None
    values: list[EnumValue]


class Field(BaseModel):
    name: str
    documentation: str | None = None
    kind: str
    type: str
    isList: bool
    isRequired: bool


class Model(BaseModel):
    name: str
    dbName: str
    documentation: str | None = None
    fields: list[Field]


class Datamodel(BaseModel):
    enums: list[Enum]
    models: list[Model]


class Dmmf(BaseModel):
    datamodel: Datamodel


class Output(BaseModel):
    value: Path


class GeneratorBlock(BaseModel):
    output: Output


class Request(BaseModel):
    """What Prisma sends, as far as it is needed here."""

    datamodel: str  # the text of schema.prisma
    dmmf: Dmmf
    generator: GeneratorBlock


class ModelsGenerator(GenericGenerator[Request]):
    def get_manifest(self) -> Manifest:
        return Manifest(name="row models", default_output="models.py")

    def generate(self, data: Request) -> None:
        path = data.generator.output.value
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(data), encoding="utf-8")


def render(data: Request) -> str:
    """The text of models.py."""
    uuids = set(_uuid_fields(data.datamodel))
    blocks = [HEADER, *map(_render_enum, data.dmmf.datamodel.enums)]
    blocks += [_render_model(model, uuids) for model in data.dmmf.datamodel.models]
    return "\n\n".join(blocks)


def _uuid_fields(schema: str) -> Iterator[tuple[str, str]]:
    """(model, field) of every `@db.Uuid`, from the text: Prisma 5 does not tell generators a column's native type."""
    for model, body in re.findall(r"^model (\w+) \{\n(.*?)^\}", schema, re.MULTILINE | re.DOTALL):
        for field in re.findall(r"^ +(\w+) .*@db\.Uuid\b", body, re.MULTILINE):
            yield model, field


def _render_enum(enum: Enum) -> str:
    doc = [*_docstring(enum.documentation), ""] if enum.documentation else []
    return "\n".join([f"class {enum.name}(StrEnum):", *doc, *(f'    {v.name} = "{v.name}"' for v in enum.values), ""])


def _render_model(model: Model, uuids: set[tuple[str, str]]) -> str:
    about = f"{model.documentation} " if model.documentation else ""
    lines = [f"class {model.name}(Row):", *_docstring(f"{about}Table credits.{model.dbName}."), ""]
    for field in model.fields:
        if field.kind == "object":
            continue
        lines.append(f"    {field.name}: {_python_type(field, is_uuid=(model.name, field.name) in uuids)}")
        if field.documentation:
            lines += _docstring(field.documentation)
    return "\n".join([*lines, ""])


def _docstring(text: str) -> list[str]:
    """`text` as the lines of a docstring inside a class, none longer than the project's 120 characters."""
    lines = textwrap.wrap(f'"""{text}"""', width=116)
    if len(lines) > 1:
        lines = [*textwrap.wrap(f'"""{text}', width=116), '"""']
    return [f"    {line}" for line in lines]


def _python_type(field: Field, *, is_uuid: bool) -> str:
    name = "UUID" if is_uuid else field.type if field.kind == "enum" else PYTHON_TYPES[field.type]
    if field.isList:
        return f"list[{name}]"
    return name if field.isRequired else f"{name} | None"


if __name__ == "__main__":
    ModelsGenerator.invoke()
