"""Load pydantic models from strict YAML and `-o key=value` overrides.

Unknown keys, YAML aliases and huge files are errors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.foreign import parsing, read_bytes

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 2**18  # of a configuration file; a thousand cameras take 200 kB
MAX_DEPTH = 16  # of groups in one another: the time to read a file grows with it
SECRET = re.compile("pass|token|secret|key|source|url", re.IGNORECASE)  # not shown in messages
EXPECTED = "a YAML file of settings"


class StrictModel(BaseModel):
    """Base of settings and stored records: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load_config(
    model: type[Model], path: str | Path | None = None, overrides: Sequence[str] = ()
) -> Model:
    """Return a configuration from defaults, a YAML file and overrides; later ones win.

    Args:
        model: The configuration's pydantic class.
        path: Path of a YAML file, None for defaults.
        overrides: Texts such as `sampler.frames=25`.

    Raises:
        ConfigError: names the key and, for a misspelt one, the nearest known key.
    """
    values = read_yaml(path) if path else {}
    for text in overrides:
        _override(values, text)
    try:
        return model.model_validate(values)
    except ValidationError as err:
        raise ConfigError(_explain(model, err, path)) from err


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML mapping; aliases are refused: 500 bytes of them can mean billions of leaves."""
    data = read_bytes(path, MAX_BYTES, EXPECTED, ConfigError)
    with parsing(path, EXPECTED, ConfigError, "correct it"):
        text = data.decode("utf-8")
    return parse_yaml(text, one_line(path))


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Return the mapping of a YAML text (ConfigError).

    name: of the text, for messages
    """
    with parsing(name, EXPECTED, ConfigError, "correct it"):
        values = _load(text, name)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected `key: value` lines, got a {type(values).__name__}")
    return values


def _load(text: str, name: str) -> Any:
    """Return the values of a YAML text; what takes long to read is refused first."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{name}: expected at most {MAX_DEPTH} groups in one another")
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{name} uses a YAML alias (*name); write the value out")
    return yaml.safe_load(text)


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"expected -o key=value, got {one_line(text)!r}")
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"-o {one_line(text)}: {parent!r} holds a value, not a group of keys")
    option = f"-o {one_line(text, 80)}"
    if len(value) > MAX_BYTES:
        raise ConfigError(f"{option}: expected at most {MAX_BYTES} characters")
    with parsing(option, "a value", ConfigError, "correct it"):
        values[last] = _load(value, option)


class Problem(NamedTuple):
    """One thing that is wrong with a configuration."""

    line: int | None  # of the file, from 1; None where no file says it
    key: str  # such as `cameras.door.fps`
    message: str


class Lines:
    """The lines of a YAML text on which its keys and list items stand."""

    def __init__(self, text: str) -> None:
        """Read them; a text that is no YAML has none."""
        self._lines: dict[tuple[int | str, ...], int] = {}
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            return
        if root is not None:
            self._walk(root, ())

    def of(self, place: Sequence[int | str]) -> int | None:
        """Return the line of a key, or of the nearest group around it that stands in the file."""
        for end in range(len(place), 0, -1):
            line = self._lines.get(tuple(place[:end]))
            if line is not None:
                return line
        return None

    def _walk(self, node: yaml.Node, place: tuple[int | str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                self._lines[inner] = key.start_mark.line + 1
                self._walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                item = (*place, number)
                self._lines[item] = value.start_mark.line + 1
                self._walk(value, item)


def problems_of(model: type[BaseModel], err: ValidationError, text: str = "") -> list[Problem]:
    """Return what is wrong with a configuration, in the order of its file.

    Args:
        model: The configuration's pydantic class.
        err: What validation raised.
        text: The YAML that was read.
    """
    lines = Lines(text)
    found = [
        Problem(lines.of(fault["loc"]), ".".join(map(str, fault["loc"])), _message(model, fault))
        for fault in err.errors()
    ]
    return sorted(found, key=lambda problem: problem.line or 0)


def _explain(model: type[BaseModel], err: ValidationError, path: str | Path | None) -> str:
    text = _text(path) if path else ""
    first, *others = problems_of(model, err, text)
    more = f" (and {len(others)} more)" if others else ""
    if path is None:
        return f"{first.message}{more}"
    return f"{one_line(path)}{f':{first.line}' if first.line else ''}: {first.message}{more}"


def _text(path: str | Path) -> str:
    return read_bytes(path, MAX_BYTES, EXPECTED, ConfigError).decode("utf-8", "replace")


def _message(model: type[BaseModel], fault: ErrorDetails) -> str:
    place = fault["loc"]
    where = ".".join(map(str, place))
    if fault["type"] == "missing":
        return f"{where}: missing"
    if fault["type"] != "extra_forbidden":
        said = fault["msg"].removeprefix("Value error, ")
        shown, secret = fault.get("input"), SECRET.search(str(place[-1] if place else ""))
        got = "" if secret or isinstance(shown, dict | list) else f", got {one_line(shown, 60)}"
        return f"{where}: {said}{got}" if where else said
    known = _keys(model, place[:-1])
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    if near:
        return f"unknown key {where!r}. Did you mean {near[0]!r}?"
    elsewhere = _place_of(str(place[-1]), model)
    if elsewhere is not None:
        return f"unknown key {where!r}. Did you mean {elsewhere!r}?"
    return f"unknown key {where!r}. Known keys: {', '.join(sorted(known))}"


def _keys(model: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    """Return the keys of a group of a configuration."""
    kind: Any = model
    for parent in parents:
        group = _group(kind)
        if group is not None and str(parent) in group.model_fields:
            kind = group.model_fields[str(parent)].annotation
        elif group is not None:
            return []
        else:  # the name of one of a mapping, the number of one of a list
            kind = get_args(_filled(kind))[-1] if get_args(_filled(kind)) else None
    group = _group(kind)
    return list(group.model_fields) if group is not None else []


def _filled(kind: Any) -> Any:
    """Return X of `X | None`."""
    if get_origin(kind) in (Union, UnionType):
        return next((k for k in get_args(kind) if k is not type(None)), None)
    return kind


def _group(kind: Any) -> type[BaseModel] | None:
    """Return the model that a kind of value is, None for another kind."""
    kind = _filled(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _place_of(key: str, model: type[BaseModel], before: tuple[str, ...] = ()) -> str | None:
    """Return where in a configuration a key of that name belongs, for one a level off."""
    if key in model.model_fields:
        return ".".join((*before, key))
    for name, field in model.model_fields.items():
        kind, step = _filled(field.annotation), name
        if get_origin(kind) is dict:
            kind, step = get_args(kind)[-1], f"{name}.NAME"
        group = _group(kind)
        inner = _place_of(key, group, (*before, step)) if group is not None else None
        if inner is not None:
            return inner
    return None
