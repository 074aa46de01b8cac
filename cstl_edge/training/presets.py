"""Presets of train/configs/, in a checkout or an installed wheel, and the tables of the paper.

Imports no torch, so that the command line looks up names without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from cstl_edge.config import StrictModel, read_yaml
from cstl_edge.errors import ConfigError, one_line

TABLES = "tables.yaml"  # in the same folder; not a preset
SHIPPED = "cstl-walkers"  # preset of the weights in the package
SMALL = "small"  # preset that two CPU cores train: `reproduce --budget small`, the peers


class RowPlan(StrictModel):
    """One row of a table: a network to train, and the figures that the paper prints for it."""

    name: str
    preset: str | None = None  # preset of this row where it is not the table's
    network: str = "cstl"  # or a peer: gaitset, gaitpart, gln, mt3d-style
    peer: dict[str, Any] = Field(default_factory=dict)  # arguments of a peer, such as `widths`
    model: dict[str, Any] = Field(default_factory=dict)  # changes to the preset's `model` section
    paper: dict[str, float] = Field(default_factory=dict)
    """Rank-1 [%] that the paper prints, by condition; identical views excluded."""
    paper_views: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The same by probe view, in the order of the table's `views_deg`."""


class TablePlan(StrictModel):
    """One table: rows trained with one budget and compared with one of them."""

    about: str
    dataset: Literal["casia-b", "ou-mvlp"]
    """Of the paper; its figures are shown only beside those of the same dataset."""
    preset: str  # preset of the paper's own budget
    against: str | None = None  # name of the row that the others are compared with
    views_deg: tuple[int, ...] = ()  # probe views of a table that is printed by view
    rows: tuple[RowPlan, ...]

    @model_validator(mode="after")
    def _rows_are_named(self) -> TablePlan:
        preset_names = [row.name for row in self.rows]
        if len(set(preset_names)) < len(preset_names) or self.against not in {None, *preset_names}:
            raise ValueError(
                f"rows need names of their own, `against` one of them; got {preset_names}"
            )
        lengths = {len(views) for row in self.rows for views in row.paper_views.values()}
        if not lengths <= {len(self.views_deg)}:
            raise ValueError(f"expected {len(self.views_deg)} figures by view, got {lengths}")
        return self

    def row(self, name: str) -> RowPlan:
        """Return a row by its name; ConfigError that lists the names otherwise."""
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(repr(row.name) for row in self.rows)
        raise ConfigError(f"expected a row of {known}; got {one_line(name)!r}")


def preset_folder() -> Path:
    """Return the folder of the presets: the wheel's copy, or train/configs of a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "train" / "configs"


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml") if path.name != TABLES)


def find_preset(name: str | Path) -> Path:
    """Return the file of a preset, or `name` itself where it is a file; ConfigError otherwise."""
    if Path(name).is_file():
        return Path(name)
    if str(name) in preset_names():
        return preset_folder() / f"{name}.yaml"
    raise ConfigError(
        f"expected a YAML file or a preset ({', '.join(preset_names())}), got {one_line(name)!r}"
    )


def load_table(name: str) -> TablePlan:
    """Return one of the paper's tables; ConfigError for an unknown name."""
    known = load_tables()
    if name not in known:
        raise ConfigError(f"expected a table of {', '.join(known)}; got {one_line(name)!r}")
    return known[name]


def load_tables() -> dict[str, TablePlan]:
    """Return the paper's tables by name."""
    values = read_yaml(preset_folder() / TABLES)
    try:
        return {name: TablePlan.model_validate(plan) for name, plan in values.items()}
    except ValidationError as err:
        raise ConfigError(f"{TABLES}: {one_line(err)}") from err
