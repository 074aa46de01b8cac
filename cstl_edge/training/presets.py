"""The presets of train/configs/, in a checkout or in an installed wheel, and the paper's tables.

Imports no torch: the command line looks up names with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cstl_edge.config import read_yaml
from cstl_edge.errors import ConfigError, one_line

TABLES = "tables.yaml"  # of the same folder; no preset


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RowPlan(_Plan):
    """One row of a table: a network to train, and what the paper prints for it."""

    name: str
    preset: str | None = None
    """Preset of this row where it is not the table's."""
    model: dict[str, Any] = Field(default_factory=dict)
    """What it changes of the preset's `model` section."""
    paper: dict[str, float] = Field(default_factory=dict)
    """Rank-1 [%] that the paper prints, by condition; identical views excluded."""
    paper_views: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The same by probe view, in the order of the table's `views_deg`."""


class TablePlan(_Plan):
    """One table: rows that are trained alike and compared with one of them."""

    about: str
    dataset: Literal["casia-b", "ou-mvlp"]
    """The paper's; its figures stand only beside those of the same dataset."""
    preset: str
    """Preset of the paper's own budget."""
    against: str | None = None
    """Name of the row that the others are compared with."""
    views_deg: tuple[int, ...] = ()
    """Probe views of a table that is printed by view."""
    rows: tuple[RowPlan, ...]

    @model_validator(mode="after")
    def _rows_are_named(self) -> TablePlan:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names) or self.against not in {None, *names}:
            raise ValueError(f"rows need names of their own, `against` one of them; got {names}")
        lengths = {len(views) for row in self.rows for views in row.paper_views.values()}
        if not lengths <= {len(self.views_deg)}:
            raise ValueError(f"expected {len(self.views_deg)} figures by view, got {lengths}")
        return self

    def row(self, name: str) -> RowPlan:
        """Return a row by its name; ConfigError that says which there are."""
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(repr(row.name) for row in self.rows)
        raise ConfigError(f"expected a row of {known}; got {one_line(name)!r}")


def folder() -> Path:
    """Return the folder of the presets: the wheel's own copy, or train/configs of a checkout."""
    packed = Path(__file__).parent / "configs"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "train" / "configs"


def names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in folder().glob("*.yaml") if path.name != TABLES)


def find(name: str | Path) -> Path:
    """Return the file of a preset, or `name` itself where it is a file; ConfigError otherwise."""
    if Path(name).is_file():
        return Path(name)
    if str(name) in names():
        return folder() / f"{name}.yaml"
    raise ConfigError(
        f"expected a YAML file or a preset ({', '.join(names())}), got {one_line(name)!r}"
    )


def table(name: str) -> TablePlan:
    """Return one of the paper's tables; ConfigError for a name that is none."""
    known = tables()
    if name not in known:
        raise ConfigError(f"expected a table of {', '.join(known)}; got {one_line(name)!r}")
    return known[name]


def tables() -> dict[str, TablePlan]:
    """Return the paper's tables by name."""
    values = read_yaml(folder() / TABLES)
    try:
        return {name: TablePlan.model_validate(plan) for name, plan in values.items()}
    except ValidationError as err:
        raise ConfigError(f"{TABLES}: {one_line(err)}") from err
