"""Outfits: what training draws, what is kept for the shifted set, what stays over the days."""

import numpy as np
import pytest

from cstl_edge.walkers.clothed import outfit as wardrobe
from cstl_edge.walkers.clothed.outfit import draw_activity, draw_outfit

CONDITIONS = ("nm", "bg", "cl")


def drawn(shifted):
    return [
        draw_outfit(person, day, CONDITIONS[day], shifted=shifted)
        for person in range(120)
        for day in range(3)
    ]


def pieces(outfits):
    """Every named garment, hair, hat, layer and bag of some outfits."""
    names = {name for o in outfits for name in (o.top, o.bottom, o.shoes, o.hair, o.hat, o.layer)}
    return (names | {bag.kind for o in outfits for bag in o.bags}) - {""}


def test_training_and_the_shifted_set_share_no_garment_and_no_bag():
    usual, shifted = pieces(drawn(False)), pieces(drawn(True))
    assert not usual & shifted
    everything = {*wardrobe.SUITS, *wardrobe.SHOES, *wardrobe.HAIRS, *wardrobe.HATS,
                  *wardrobe.LAYERS, *wardrobe.BAGS} - {""}  # fmt: skip
    assert usual == everything
    assert 0.25 < len(shifted) / (len(usual) + len(shifted)) < 0.45


def test_conditions_carry_bags_and_coats():
    for person in range(40):
        assert not draw_outfit(person, 1, "nm").bags
        assert draw_outfit(person, 1, "bg").bags
        assert draw_outfit(person, 1, "cl").layer in wardrobe.LAYER_FORMS


def test_a_day_is_one_outfit_and_days_differ():
    assert draw_outfit(5, 1, "nm") == draw_outfit(5, 1, "nm")
    tops = {draw_outfit(5, day, "nm") for day in range(6)}
    assert len(tops) == 6
    hairs = [draw_outfit(5, day, "nm").hair for day in range(20)]
    assert max(hairs.count(h) for h in hairs) >= 14


@pytest.mark.parametrize("kind", ["box", "trolley", "shopping"])
def test_full_hands_do_nothing_else(kind):
    bags = (wardrobe.Bag(kind, "Left", 1.0),)
    names = {draw_activity(np.random.default_rng(i), bags) for i in range(200)}
    assert names == {"", "aside"}
