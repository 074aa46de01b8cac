"""Shipped models: the default comes first, every one has a card, unknown names are refused."""

import shutil

import pytest

from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.runtime.base import model_folder
from cstl_edge.runtime.shipped import ASSETS, CARD, shipped_model, shipped_models


def test_every_shipped_model_has_a_card_of_its_weights():
    models = shipped_models()
    assert models[0].folder == model_folder(None)
    for model in models:
        assert model.manifest.weights_sha256 in model.card()
        assert 0 < model.megabytes < 40
        assert str(model.manifest.shape.parts) in model.network


def test_second_model_is_listed_with_its_own_card(tmp_path):
    for name in ("another", "cstl-walkers"):
        shutil.copytree(ASSETS / "cstl-walkers", tmp_path / name)
    first, second = shipped_models(tmp_path)
    assert (first.is_default, second.is_default) == (True, False)
    with pytest.raises(ModelError, match="card of another cannot be read"):
        second.card()
    (second.folder / CARD).write_text("# another\n", encoding="utf-8")
    assert shipped_model("another", tmp_path).card() == "# another\n"


def test_unknown_name_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"shipped models \(cstl-walkers\); got 'cstl-oak'"):
        shipped_model("cstl-oak")
    with pytest.raises(ConfigError, match=r"\(none\)"):
        shipped_model("cstl-walkers", tmp_path)
