"""Load pydantic models from strict YAML and `-o key=value` overrides.

Unknown keys, YAML aliases and huge files are errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.foreign import parsing, read_bytes

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 2**18  # of a configuration file; a thousand cameras take 200 kB
MAX_DEPTH = 16  # of groups in one another: the time to read a file grows with it
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
    name = one_line(path)
    data = read_bytes(path, MAX_BYTES, EXPECTED, ConfigError)
    with parsing(path, EXPECTED, ConfigError, "correct it"):
        values = _load(data.decode("utf-8"), name)
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


def _explain(model: type[BaseModel], err: ValidationError, path: str | Path | None) -> str:
    first = err.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    origin = f"{one_line(path)}: " if path else ""
    if first["type"] != "extra_forbidden":
        return f"{origin}{where}: {first['msg']}, got {one_line(first.get('input'), 60)}"
    known = _keys(model, first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}"
    return f"{origin}unknown key {where!r}. {hint}"


def _keys(model: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    for parent in parents:
        field = model.model_fields.get(str(parent))
        kind = field.annotation if field else None
        kinds = [k for k in (kind, *get_args(kind)) if get_origin(k) is None]  # X | None is an X
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
