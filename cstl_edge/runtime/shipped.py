"""Models that come with the package: their names, what they are for, and their cards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.runtime.manifest import NAME, Manifest, read_manifest

ASSETS = Path(__file__).parents[1] / "assets"
DEFAULT = "cstl-walkers"  # used where no model is given
CARD = "MODEL_CARD.md"  # of the default model; another one's stands in its folder


@dataclass(frozen=True)
class ShippedModel:
    """An exported model in the package."""

    name: str
    folder: Path
    manifest: Manifest

    @property
    def is_default(self) -> bool:
        """True for the model that is used where none is given."""
        return self.name == DEFAULT

    @property
    def megabytes(self) -> float:
        """Size of the folder's files [MB]."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) / 1e6

    @property
    def network(self) -> str:
        """The network in words."""
        shape, config = self.manifest.shape, self.manifest.config
        height, width = shape.size
        trunk = f"{config.get('trunk', 'paper')} trunk {'/'.join(map(str, shape.widths))}"
        return f"{height}x{width}, {trunk}, {shape.parts} parts of {shape.embedding} dimensions"

    @property
    def matching(self) -> str:
        """How walks are compared, in words."""
        matching = self.manifest.matching
        if matching is None:
            return "compared by euclidean"
        return f"compared by {matching.distance}" + " with a joint row" * matching.joint

    def card(self) -> str:
        """Return its model card, Markdown: data, training, figures, limits (ModelError)."""
        own = self.folder / CARD
        path = own if own.exists() or not self.is_default else ASSETS / CARD
        try:
            return path.read_text(encoding="utf-8")
        except OSError as err:
            raise ModelError(f"the card of {self.name} cannot be read: {one_line(err)}") from err


def shipped_models(assets: Path = ASSETS) -> list[ShippedModel]:
    """Return all models of the package, the default first; ModelError for a damaged one."""
    folders = sorted(path.parent for path in assets.glob(f"*/{NAME}"))
    models = [ShippedModel(path.name, path, read_manifest(path)) for path in folders]
    return sorted(models, key=lambda model: not model.is_default)


def shipped_model(name: str, assets: Path = ASSETS) -> ShippedModel:
    """Return a model of the package by its name; ConfigError that lists them otherwise."""
    models = shipped_models(assets)
    for model in models:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in models) or "none"
    raise ConfigError(f"expected one of the shipped models ({known}); got {one_line(name)!r}")
