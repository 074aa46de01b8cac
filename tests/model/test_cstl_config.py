"""The network's configuration: round trips and refusals."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cstl_edge.model import CstlConfig


@pytest.mark.parametrize(
    "config",
    [
        CstlConfig(),
        CstlConfig(widths=(64, 128, 256, 256), embedding=512, classes=5153),
        CstlConfig(size=(128, 88), parts=64),
        CstlConfig(scales=("frame",), aggregation="max", salient=False),
        CstlConfig(trunk="unshuffled", parts=16, classes=7, class_head="both"),
        CstlConfig(salient=False, classes=7, class_head="embedding"),
    ],
)
def test_round_trip_through_json(config: CstlConfig) -> None:
    assert CstlConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_usual_forms_go_without_saying() -> None:
    assert not {"trunk", "class_head", "variant"} & set(CstlConfig(classes=3).to_dict())


def test_kind_of_class_head_makes_no_other_network_for_inference() -> None:
    assert CstlConfig(class_head="embedding") == CstlConfig()
    trained = CstlConfig(classes=5, class_head="both")
    assert dataclasses.replace(trained, classes=0) == CstlConfig()


def test_lists_and_order_do_not_matter() -> None:
    config = CstlConfig.from_dict({"scales": ["long", "frame"], "size": [64, 44]})
    assert config == CstlConfig(scales=("frame", "long"))
    assert hash(config) == hash(CstlConfig(scales=("frame", "long")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": 8}, "unknown key 'part' .* Did you mean 'parts'"),
        ({"zebra": 1}, "unknown key 'zebra' .* Known: size, widths"),
        ({"parts": 12}, r"divide the 32 rows .* got 12; possible: \[1, 2, 4, 8, 16, 32\]"),
        ({"parts": 0}, "parts must be a positive integer, got 0"),
        ({"parts": 8.0}, "parts must be a positive integer, got 8.0"),
        ({"embedding": True}, "embedding must be a positive integer, got True"),
        ({"size": (64,)}, "size must be 2 positive integers"),
        ({"size": "64x44"}, "size must be 2 positive integers"),
        ({"size": (64, 43)}, "divisible by 2 both ways"),
        ({"size": (64, 42), "trunk": "unshuffled"}, "divisible by 4 both ways"),
        ({"trunk": "unshuffled"}, r"divide the 16 rows .* possible: \[1, 2, 4, 8, 16\]"),
        ({"trunk": "oak"}, "trunk must be one of .* got 'oak'"),
        ({"class_head": "all", "classes": 2}, "class_head must be one of .* got 'all'"),
        ({"widths": (32, 64, 128)}, "widths must be 4 positive integers"),
        ({"widths": (32, 64, 128, -1)}, "widths must be 4 positive integers"),
        ({"scales": ()}, "scales must be some of"),
        ({"scales": ("frame", "frame")}, "each once"),
        ({"scales": ("frames",)}, "got .'frames'"),
        ({"scales": "frame"}, "scales must be"),
        ({"aggregation": "median"}, "aggregation must be one of .* got 'median'"),
        ({"salient": "no"}, "salient must be true or false"),
        ({"classes": -1}, "classes must be 0 or a positive integer"),
        ({"classes": 5, "salient": False}, "classes 5 contradicts salient False"),
    ],
    ids=str,
)
def test_refusals_say_what_is_expected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CstlConfig.from_dict(settings)
