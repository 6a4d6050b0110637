"""Collects every key of the configuration from the model: for suggestions, for `config schema` and for the
documentation.

`python -m archiver.config.reference` prints docs/reference/configuration.md.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import itertools
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from archiver.config.fields import Written
from archiver.config.model import Config
from archiver.config.section import Section
from archiver.config.values import show_duration, show_span
from archiver.recording import Json
from archiver.retention.span import Span

Pattern: TypeAlias = tuple[str, ...]
"""The place of a key or section: names, "*" for any item of a list, and the kind where several are possible."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one section."""

    name: str
    form: str
    default: str | None
    meaning: str
    field: FieldInfo


@dataclass(frozen=True, slots=True)
class Part:
    """One section: its place, its class, its keys."""

    pattern: Pattern
    section: type[Section]
    keys: tuple[Key, ...]


def parts(section: type[Section] = Config, pattern: Pattern = ()) -> Iterator[Part]:
    """Yields the section and all sections below it, in the order of the model."""
    meanings = _meanings(section)
    keys = tuple(
        Key(name, _form(field), _default(field), meanings.get(name, ""), field)
        for name, field in section.model_fields.items()
    )
    yield Part(pattern, section, keys)
    for key in keys:
        for steps, below in _sections(key.field.annotation):
            yield from parts(below, (*pattern, key.name, *steps))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = Config.model_json_schema(schema_generator=_JsonSchema)
    sections = {each.section.__name__: each.section for each in parts()}
    for name, below in {"Config": schema, **schema["$defs"]}.items():
        for key, meaning in _meanings(sections[name]).items() if name in sections else ():
            below["properties"][key]["description"] = meaning
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def plain(value: object) -> Json:
    """Writes a value of the model as it would be written in the file. References stay references, so no secret is
    shown."""
    if isinstance(value, Section):
        return {name: plain(below) for name, below in value if below is not None}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, timedelta):
        return show_duration(value)
    if isinstance(value, Span):
        return show_span(value)
    if value is None or type(value) in {str, int, bool}:
        return value  # type: ignore[return-value]
    return str(value)


def markdown() -> str:
    """Writes the page docs/reference/configuration.md."""
    written = [_PREFACE]
    for part in parts():
        title = _title(part.pattern)
        written.append(f"## {title}\n\n{_prose(part.section)}\n")
        if part.keys:
            written.append("| key | value | default | meaning |\n|---|---|---|---|")
            written += [
                f"| `{key.name}` | {key.form} | {'**required**' if key.default is None else key.default} | {_cell(key.meaning)} |"
                for key in part.keys
            ]
            written.append("")
    return "\n".join(written)


_PREFACE = """\
# Configuration reference

<!-- Generated: python -m archiver.config.reference > docs/reference/configuration.md -->

One YAML 1.2 file, looked for as `-c FILE`, `$ARCHIVER_CONFIG`, `./archiver.yaml`, `$XDG_CONFIG_HOME/archiver/archiver.yaml`,
`/etc/archiver/archiver.yaml`. Unknown and repeated keys are errors; `archiver check` names all mistakes at once, each with
its line and column. Relative paths start from the file's folder.

- **Durations** take `y w d h m s`, also together: `90d`, `1h30m`. In `retention` a year is a calendar year, elsewhere 365 days.
- **Sizes** take `B KB MB GB TB` (thousands) and `KiB MiB GiB TiB` (1024s).
- **References** say where a secret is: `env:NAME`, `file:/path`, `cred:name` (systemd credential, or `/run/secrets/name`).
  A secret's file must be a regular file that only its owner can change. A secret in the configuration itself is an error.
"""


def _title(pattern: Pattern) -> str:
    """The title of a section, as in `providers[](plivo).subaccounts[]`."""
    written = ""
    for step in pattern:
        if step == "*":
            written += "[]"
        else:
            written += f"({step})" if written.endswith("[]") and step in _KINDS else f".{step}"
    return f"`{written.removeprefix('.')}`" if pattern else "The file"


_KINDS = {
    "justcall",
    "kazoo",
    "vobiz",
    "plivo",
    "s3",
    "directory",
    "rsa-oaep-256",
    "aes-kw-256",
    "webhook",
    "smtp",
    "apprise",
}


def _prose(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


@functools.cache
def _meanings(section: type[Section]) -> dict[str, str]:
    """The text below each key in the source, on one line. Pydantic could read it too, but at each start of each
    command."""
    found: dict[str, str] = {}
    for each in reversed([base for base in section.__mro__ if issubclass(base, Section)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(body, ast.ClassDef)
        for key, text in itertools.pairwise(body.body):
            match key, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    found[name] = " ".join(meaning.split())
    return found


def _sections(annotation: Any) -> Iterator[tuple[Pattern, type[Section]]]:
    """Yields the sections inside a type, each with the steps that lead to it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _sections(get_args(annotation)[0])
    elif origin is tuple:
        for steps, below in _sections(get_args(annotation)[0]):
            yield ("*", *steps), below
    elif origin in {Union, types.UnionType}:
        choices = [each for each in get_args(annotation) if each is not type(None)]
        for choice in choices:
            for steps, below in _sections(choice):
                kind = below.model_fields.get("kind") if len(choices) > 1 else None
                yield ((*get_args(kind.annotation), *steps) if kind else steps), below
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield (), annotation


def _form(field: FieldInfo) -> str:
    found = next((each for each in field.metadata if isinstance(each, Written)), None)
    return found.form if found is not None else _form_of(field.annotation)


def _form_of(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return next((each.form for each in inner[1:] if isinstance(each, Written)), None) or _form_of(inner[0])
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if origin is tuple:
        return f"list of {_form_of(inner[0])}"
    if origin in {Union, types.UnionType}:
        return " or ".join(dict.fromkeys(_form_of(each) for each in inner if each is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{each.value}`" for each in annotation)
    return "section"


def _default(field: FieldInfo) -> str | None:
    """The default as written in the file; "–" for no default value; None when the key is required."""
    if field.is_required():
        return None
    default = plain(field.default)
    if default is None or default in ("", [], {}) or isinstance(field.default, Section):
        return "–"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


class _JsonSchema(GenerateJsonSchema):
    """Writes defaults into the JSON Schema as they would be written in the file."""

    def encode_default(self, dft: Any) -> Any:
        return plain(dft)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        if isinstance(schema.get("default"), Section):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


if __name__ == "__main__":
    sys.stdout.write(markdown())
