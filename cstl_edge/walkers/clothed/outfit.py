"""Outfit of a recording: garments, jackets and coats, skirts, hoods, hats, hair, shoes, bags.

A third of the garments and bags is kept for the shifted test set: training never draws it, the
shifted set draws nothing else where it has a choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.walkers.person import random_stream

WARDROBE, DAY_OUTFIT = 13, 14  # purposes of random numbers, see `person.random_stream`
SUITS = ("male_casualsuit01", "male_casualsuit02", "male_casualsuit03", "male_casualsuit04",
         "male_casualsuit06", "male_worksuit01", "female_casualsuit01",
         "female_elegantsuit01")  # fmt: skip
SHOES = ("shoes01", "shoes02", "shoes04", "shoes06")
HAIRS = ("", "afro01", "bob01", "long01", "ponytail01", "short01", "short02", "short03")
HATS = ("beanie", "cap", "fedora")
LAYERS = ("jacket", "parka", "blazer", "coat")
BAGS = ("backpack", "shoulder", "hand", "shopping", "trolley", "box", "waist", "pushchair")
SHIFTED_SUITS = ("male_casualsuit05", "male_elegantsuit01", "female_casualsuit02",
                 "female_sportsuit01")  # fmt: skip
SHIFTED_SHOES = ("shoes03", "shoes05")
SHIFTED_HAIRS = ("bob02", "braid01", "short04")
SHIFTED_HATS = ("fedora_cocked", "brim")
SHIFTED_LAYERS = ("puffer", "poncho")
SHIFTED_BAGS = ("tote", "duffel", "sling")
ACTIVITIES = ("phone", "texting", "pockets", "pocket", "aside", "strap", "folded")
ACTIVITY_SHARES = (0.03, 0.05, 0.06, 0.05, 0.06, 0.02, 0.01)  # of recordings; the others: none
LAYER_FORMS = {  # bulk in metres, hem (0 waist .. 1 ankles) and flare (metres at the hem): ranges
    "jacket": ((0.012, 0.040), (0.08, 0.22), (0.0, 0.02)),
    "parka": ((0.025, 0.055), (0.20, 0.42), (0.0, 0.03)),
    "blazer": ((0.006, 0.020), (0.14, 0.26), (0.0, 0.02)),
    "coat": ((0.012, 0.040), (0.35, 0.85), (0.0, 0.07)),
    "puffer": ((0.030, 0.060), (0.06, 0.30), (0.0, 0.01)),
    "poncho": ((0.040, 0.080), (0.15, 0.40), (0.04, 0.12)),
}


@dataclass(frozen=True)
class Shell:
    """Cloth that hangs from the body: the lower part of a jacket, a coat, a skirt."""

    bulk_m: float  # between body and cloth
    hem: float  # 0 at the waist .. 1 at the ankles
    flare_m: float  # widening from the hips to the hem
    drape: float  # 0 follows the body .. 1 hangs straight from chest and belly
    lag: float  # delay behind the body, in strides


@dataclass(frozen=True)
class Bag:
    """One thing carried, pulled or pushed."""

    kind: str
    side: str  # Left or Right
    size: float  # relative


@dataclass(frozen=True)
class Outfit:
    """What a person wears and carries."""

    top: str  # suit whose upper half is worn
    bottom: str  # suit whose lower half is worn
    shoes: str
    hair: str
    hat: str
    ease_m: float  # looseness of trunk, arms and legs
    leg_ease_m: float
    layer: str  # "" or a key of LAYER_FORMS
    jacket: Shell | None
    skirt: Shell | None
    hood: str  # "", down or up
    scarf_m: float  # thickness around the neck
    folds_m: float  # amplitude of folds
    fold_seed: int
    bags: tuple[Bag, ...]


def with_load(worn: Outfit, drawn: Outfit) -> Outfit:
    """Return an outfit with the bags of another, and with its coat where that is heavier."""
    coat = drawn.jacket is not None and (
        worn.jacket is None or drawn.jacket.bulk_m > worn.jacket.bulk_m
    )
    loaded = replace(worn, bags=drawn.bags)
    if drawn.bags or not coat:
        return loaded
    return replace(loaded, layer=drawn.layer, jacket=drawn.jacket, hood=drawn.hood)


def draw_outfit(person_seed: int, day: int, condition: str, *, shifted: bool = False) -> Outfit:
    """Draw what a person wears and carries on one day.

    Args:
        person_seed: Seed of the person: hair and taste stay over the days.
        day: Number that stands for the outfit; the same one is the same outfit.
        condition: nm ordinary, bg with a bag, cl in a coat or another heavy layer.
        shifted: Whether to draw from the garments and bags that no training sees.
    """
    own = random_stream(WARDROBE, person_seed)
    hairs = SHIFTED_HAIRS if shifted else HAIRS
    hair, formal, warm = str(own.choice(hairs)), own.random(), own.normal()
    wears_skirts = own.random() < 0.24
    rng = random_stream(DAY_OUTFIT, person_seed, day)
    suits = SHIFTED_SUITS if shifted else SUITS
    if rng.random() < 0.15:
        hair = str(rng.choice(hairs))  # worn another way
    coated = condition == "cl"
    layered = coated or rng.random() < 1 / (1 + np.exp(-0.9 - 0.6 * warm))
    layer = _layer(rng, coated, formal, shifted) if layered else ""
    skirt = Shell(float(rng.uniform(0.005, 0.02)), float(rng.uniform(0.35, 0.95)),
                  float(rng.uniform(0.0, 0.16)), 0.6, float(rng.uniform(0.02, 0.06)))  # fmt: skip
    skirted = wears_skirts and rng.random() < 0.6
    hat = str(rng.choice(SHIFTED_HATS if shifted else HATS))
    has_hat, hood_draw = rng.random() < (0.3 if coated else 0.13), rng.random()
    hooded = layer in ("jacket", "parka", "puffer") and hood_draw < 0.5
    hood = ("up" if hood_draw < 0.10 else "down") if hooded else ""
    return Outfit(
        top=str(rng.choice(suits)),
        bottom=str(rng.choice(suits)),
        shoes=str(rng.choice(SHIFTED_SHOES if shifted else SHOES)),
        hair=hair,
        hat=hat if has_hat and hood != "up" else "",
        ease_m=float(0.003 + rng.gamma(2.0, 0.005)),
        leg_ease_m=float(0.003 + rng.gamma(2.0, 0.005)),
        layer=layer,
        jacket=_shell(rng, layer) if layer else None,
        skirt=skirt if skirted else None,
        hood=hood,
        scarf_m=float(rng.uniform(0.01, 0.05)) if rng.random() < (0.3 if coated else 0.06) else 0.0,
        folds_m=float(rng.uniform(0.001, 0.006)),
        fold_seed=int(rng.integers(2**31)),
        bags=_bags(rng, condition, shifted),
    )


def draw_activity(rng: np.random.Generator, bags: tuple[Bag, ...]) -> str:
    """Draw what the hands and the head are busy with; "" for most."""
    name = str(rng.choice((*ACTIVITIES, ""), p=(*ACTIVITY_SHARES, 1 - sum(ACTIVITY_SHARES))))
    busy = any(bag.kind in ("box", "trolley", "shopping", "pushchair") for bag in bags)
    return "" if busy and name != "aside" else name


def _layer(rng: np.random.Generator, coated: bool, formal: float, shifted: bool) -> str:
    if shifted:
        return str(rng.choice(SHIFTED_LAYERS))
    if coated:
        return str(rng.choice(("coat", "parka", "jacket"), p=(0.5, 0.35, 0.15)))
    return str(rng.choice(("blazer", "coat") if rng.random() < 0.35 * formal else LAYERS[:2]))


def _shell(rng: np.random.Generator, layer: str) -> Shell:
    bulk, hem, flare = (float(rng.uniform(*limits)) for limits in LAYER_FORMS[layer])
    return Shell(bulk, hem, flare, float(rng.uniform(0.4, 1.0)), float(rng.uniform(0.01, 0.05)))


def _bags(rng: np.random.Generator, condition: str, shifted: bool) -> tuple[Bag, ...]:
    kinds = SHIFTED_BAGS if shifted else BAGS
    carries = condition == "bg" or (condition == "cl" and rng.random() < 0.3)
    count = (1 + (rng.random() < 0.15)) if carries else 0
    chosen = rng.permutation(len(kinds))[:2]
    sides, sizes = rng.choice(("Left", "Right"), 2), rng.uniform(0.7, 1.3, 2)
    drawn = [
        Bag(kinds[k], str(side), float(size))
        for k, side, size in zip(chosen, sides, sizes, strict=True)
    ]
    return tuple(drawn[:count])
