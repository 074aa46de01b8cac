"""Film: a session drawn as a coloured person over a picture, and cut out again by a segmenter.

Masks of a real segmenter have what no model of noise has: its own idea of hair, bags and hems,
merged legs, halos, lost feet, limbs of neighbours, poles. The pictures are drawn at the camera's
resolution, with blur, noise and compression. Letters: `s` frames, `v` points, `H W` pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from cstl_edge.arrays import Array, Bytes, Floats, Image, Indices, Mask
from cstl_edge.silhouette import refusal
from cstl_edge.walkers.body import TRUNK, bone_share
from cstl_edge.walkers.clothed.backdrops import FAMILIES, backdrop
from cstl_edge.walkers.clothed.footage import Take, take_session
from cstl_edge.walkers.clothed.session import WalkSession
from cstl_edge.walkers.person import Person, random_stream
from cstl_edge.walkers.pose import basis
from cstl_edge.walkers.render import BODY_PX, FEET_ROW, RASTER, blas, fill_outline, splat

Network = Callable[[Image], tuple[Floats, Floats]]
"""A person network: crops uint8 BGR [m, 256, 256, 3] → logits [m, 256, 256] and presence [m]."""
FILM, COLOURS = 18, 19  # purposes of random numbers, see `person.random_stream`
SIDE = 256  # pixels of the network's crops
MARGIN = 1.25  # side of a crop over the person's height
SUBTRACTED = 0.3  # share of recordings cut out by background subtraction
NEIGHBOURED, POLED = 0.12, 0.10  # shares with somebody or something else in the picture
LEAST_SHARE = 0.5  # of the crop's height that a mask must reach, or it is no person
BESIDE = 0.22  # of the crop's width: a piece farther from the middle is somebody else
STEP_GREY = 16.0  # of 255: a difference from the background that counts


@dataclass(frozen=True)
class FilmSettings:
    """What pictures are made of."""

    families: tuple[str, ...] = FAMILIES
    pictures: tuple[Image, ...] = ()  # photographs to use beside the drawn families
    subtracted: float = SUBTRACTED


def film_masks(
    person: Person, session: WalkSession, frames: int, network: Network, settings: FilmSettings
) -> list[Mask]:
    """Return masks of a session as a segmenter cuts them out; frames without a person are empty.

    Args:
        person: The person who walks.
        session: Walk, clothes and camera.
        frames: Number of frames.
        network: The person network.
        settings: What the pictures are made of.
    """
    rng = random_stream(FILM, session.seed, round(session.camera.view_deg * 100) % 36000)
    with blas().limit(limits=1, user_api="blas"):
        take = take_session(person, session, frames)
    colours, alphas = paint(take)
    scene = _scene(rng, take, colours, alphas, settings)
    if rng.random() < settings.subtracted:
        pairs = zip(scene.pictures, scene.empty, strict=True)
        masks = [_difference(picture, empty) for picture, empty in pairs]
    else:
        crops: Image = np.stack([resized(p) for p in scene.pictures])
        logits, _ = network(crops)
        masks = [(each > 0).astype(np.uint8) * np.uint8(255) for each in logits]
    cut = [_main(mask) for mask in masks]
    return [
        m if refusal(m, min_height_px=round(LEAST_SHARE * len(m))) is None else m * 0 for m in cut
    ]


def resized(picture: Image) -> Image:
    """Return a square picture at the size of the network's crops."""
    return np.asarray(cv2.resize(picture, (SIDE, SIDE)), np.uint8)


def paint(take: Take) -> tuple[list[Image], list[Mask]]:
    """Return pictures [H, W, 3] of the person on black and the masks where they count."""
    figure = take.figure
    outfit = figure.session.outfit
    rng = random_stream(COLOURS, outfit.fold_seed)
    on_body = figure.on_body
    colour = _point_colours(rng, take)  # [v, 3]
    order = np.argsort(take.depth_m[:, :on_body], axis=1)  # far to near
    masks = splat(take.xy[:, :, :on_body])
    cloth, bag = colour[on_body], colour[on_body + 1]
    pictures = []
    for frame, mask in enumerate(masks):
        canvas: Array = np.zeros((*RASTER, 3), np.float32)
        seen = order[frame]
        x, y = take.xy[:, frame, seen].astype(np.int32)
        canvas[y, x] = colour[seen]
        drawn = np.zeros(RASTER, np.float32)
        drawn[y, x] = 1
        share = cv2.GaussianBlur(drawn, (0, 0), 1.5)[..., None]
        spread = cv2.GaussianBlur(canvas, (0, 0), 1.5) / np.maximum(share, 1e-3)
        canvas = np.where(drawn[..., None] > 0, canvas, spread)
        middle = float(np.median(take.depth_m[frame, :on_body]))
        hung = np.zeros(RASTER, np.uint8)
        for number, hull in enumerate(figure.hulls):
            part = np.zeros(RASTER, np.uint8)
            fill_outline(part, take.xy[:, frame, hull])
            is_bag = number >= figure.cloth_bands
            nearer = float(take.depth_m[frame, hull].mean()) > middle - (0.0 if is_bag else 1.0)
            place = part > 0 if nearer else (part > 0) & (mask == 0)
            if not is_bag:
                place &= hung == 0
            canvas[place] = bag if is_bag else cloth
            hung |= part
        mask = mask | hung
        light = cv2.GaussianBlur(mask, (0, 0), 4.0)[..., None] / 255.0
        canvas *= 0.65 + 0.35 * light
        pictures.append(np.clip(canvas, 0, 255).astype(np.uint8))
        masks[frame] = mask
    return pictures, list(masks)


def _point_colours(rng: np.random.Generator, take: Take) -> Floats:
    """Return a colour of each drawn point, and after them those of hanging cloth and of bags."""
    outfit = take.figure.session.outfit
    skin = rng.uniform((60, 80, 120), (180, 200, 235)) * rng.uniform(0.5, 1.05)
    hair, top, bottom, shoes, coat, bag = _garment_colours(rng, 6)
    count = len(bone_share("Head"))
    out = np.tile(skin, (take.figure.on_body + 2, 1))
    outer = coat if outfit.layer else top
    head = bone_share("Head") > 0.5
    body = out[:count]
    body[bone_share(*TRUNK, "Shoulder", "Arm", "ForeArm") > 0.5] = outer
    body[bone_share("Hips", "LHipJoint", "RHipJoint", "UpLeg", "Leg") > 0.5] = bottom
    body[bone_share("Foot", "ToeBase") > 0.5] = shoes
    scalp = head & (np.arange(count) % 3 > 0)
    body[scalp & (_back_of_head())] = hair
    out[count:-2] = hair
    out[-2] = outer if outfit.layer else bottom
    out[-1] = bag
    waves = rng.normal(size=(6, 3)) * 16
    field = np.sin(basis().body["points"] @ waves.T + rng.uniform(0, 6.3, 6)).sum(1)
    out[:count] *= (1 + rng.uniform(0.02, 0.12) * field)[:, None]
    return np.asarray(np.clip(out, 0, 255), np.float32)


def _back_of_head() -> Array:
    points = basis().body["points"]
    return np.asarray((points[:, 1] > 0.92) | (points[:, 2] < 0.03))


def _garment_colours(rng: np.random.Generator, count: int) -> list[Array]:
    """Draw colours: mostly dark and grey, some bright."""
    out = []
    for _ in range(count):
        grey, tint = rng.beta(1.2, 2.2) * 255, rng.normal(size=3)
        out.append(np.clip(grey + tint * (8 if rng.random() < 0.6 else 45), 0, 255))
    return out


@dataclass(frozen=True)
class _Scene:
    pictures: list[Image]  # square crops around the person, at the camera's resolution
    empty: list[Image]  # the same without anybody


def _scene(
    rng: np.random.Generator,
    take: Take,
    colours: list[Image],
    alphas: list[Mask],
    settings: FilmSettings,
) -> _Scene:
    """Compose crops around the person over a picture that stands still while they walk."""
    camera = take.figure.session.camera
    height = camera.height_px
    side = max(48, round(MARGIN * height * float(rng.uniform(0.95, 1.15))))
    scale = height / BODY_PX
    azimuth = np.deg2rad(camera.view_deg + camera.azimuth_deg)
    moved = -take.travel_m * np.sin(azimuth) * height / 1.75
    room = int(np.ptp(moved)) + 2 * side
    wide = backdrop(rng, (2 * side, room + side), settings.families, settings.pictures)
    contrast, light = float(rng.uniform(0.7, 1.0)), float(rng.uniform(-20, 20))
    other = _neighbour(rng, colours, alphas) if rng.random() < NEIGHBOURED else None
    pole = _pole(rng, side) if rng.random() < POLED else None
    jitter = rng.normal(size=(len(alphas), 2)) * 0.02 * height
    quality, blur = int(rng.integers(40, 95)), float(rng.uniform(0.0, 0.7))
    grain, shadow = float(rng.uniform(1.0, 4.5)), float(rng.uniform(0.0, 0.3))
    pictures, empty = [], []
    for frame, (colour, alpha) in enumerate(zip(colours, alphas, strict=True)):
        left = round(float(moved[frame] - moved.min() + side / 2 + jitter[frame, 0]))
        top = round(float(side / 2 + jitter[frame, 1]))
        place = wide[top : top + side, max(0, left) : max(0, left) + side].astype(np.float32)
        place = np.ascontiguousarray(place)
        middle = side / 2 - jitter[frame, 0]
        feet = side * 0.5 + height * 0.5 - jitter[frame, 1]
        bare = place.copy()
        if other is not None:
            _lay(place, *other.frames[frame % len(other.frames)], scale * other.size,
                 middle + other.offset * height, feet, 0.0)  # fmt: skip
        _lay(place, colour, alpha, scale, middle, feet, shadow)
        if pole is not None:
            start = round(pole[0] - (moved[frame] - moved[len(moved) // 2]))
            for picture in (place, bare):
                picture[:, max(0, start) : max(0, start + pole[1])] = pole[2]
        dirty = [
            _dirty(rng, p * contrast + light + 25, blur, grain, quality) for p in (place, bare)
        ]
        pictures.append(dirty[0])
        empty.append(dirty[1])
    return _Scene(pictures, empty)


@dataclass(frozen=True)
class _Neighbour:
    frames: list[tuple[Image, Mask]]
    size: float
    offset: float  # of the person's height, to the right


def _neighbour(rng: np.random.Generator, colours: list[Image], alphas: list[Mask]) -> _Neighbour:
    """Return somebody else beside the person: their mirrored shape half a window later."""
    shift, tint = len(alphas) // 2, rng.uniform(0.5, 1.5, 3)
    frames = [
        (np.clip(colours[i][:, ::-1] * tint, 0, 255).astype(np.uint8), alphas[i][:, ::-1])
        for i in np.roll(np.arange(len(alphas)), shift)
    ]
    offset = float(rng.uniform(0.36, 0.6) * rng.choice((-1, 1)))
    return _Neighbour(frames, float(rng.uniform(0.85, 1.1)), offset)


def _pole(rng: np.random.Generator, side: int) -> tuple[int, int, Array]:
    """Return column, width and colour of a pole in front of everybody."""
    width = max(1, round(side * float(rng.uniform(0.015, 0.05))))
    return int(rng.integers(side // 4, 3 * side // 4)), width, rng.uniform(20, 220, 3)


def _lay(
    place: Array,
    colour: Image,
    alpha: Mask,
    scale: float,
    middle: float,
    feet: float,
    shadow: float,
) -> None:
    """Draw a person of the raster into a picture [H, W, 3], in place.

    Args:
        place: Picture, float.
        colour: [H, W, 3] of the raster.
        alpha: [H, W] of the raster.
        scale: Picture pixels per raster pixel.
        middle: Column of the raster's middle in the picture.
        feet: Row of the floor in the picture.
        shadow: Strength of the shadow at the feet, 0..1.
    """
    rows, columns = place.shape[:2]
    matrix = np.array(
        [[scale, 0, middle - scale * RASTER[1] / 2], [0, scale, feet - scale * FEET_ROW]],
        np.float32,
    )
    sigma = 0.35 / scale if scale < 1 else 0.5
    soft = cv2.GaussianBlur(alpha, (0, 0), sigma)
    share = cv2.warpAffine(soft, matrix, (columns, rows), flags=cv2.INTER_LINEAR) / 255.0
    body = cv2.warpAffine(colour, matrix, (columns, rows), flags=cv2.INTER_LINEAR)
    if shadow > 0:
        width = max(3, round(0.2 * scale * BODY_PX))
        dark = np.zeros((rows, columns), np.float32)
        centre = (round(middle + 0.3 * width), round(feet))
        cv2.ellipse(dark, centre, (width, max(2, width // 5)), 0, 0, 360, shadow, -1)
        place *= 1 - cv2.GaussianBlur(dark, (0, 0), 2.0)[..., None]
    place += (body - place) * share[..., None]


def _dirty(
    rng: np.random.Generator, picture: Array, blur: float, grain: float, quality: int
) -> Image:
    """Return a picture as a camera sends it: blurred, noisy, compressed."""
    if blur > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    noisy = np.clip(picture + rng.normal(size=picture.shape) * grain, 0, 255).astype(np.uint8)
    _, coded = cv2.imencode(".jpg", noisy, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def _difference(picture: Image, empty: Image) -> Mask:
    """Return what differs from the empty picture, cleaned, upscaled like a crop."""
    apart = cv2.absdiff(
        cv2.GaussianBlur(picture, (0, 0), 0.8), cv2.GaussianBlur(empty, (0, 0), 0.8)
    )
    rough = (apart.max(2) > STEP_GREY).astype(np.uint8) * np.uint8(255)
    opened = cv2.morphologyEx(rough, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    closing = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, closing), np.uint8)


def _main(mask: Mask) -> Mask:
    """Keep the largest piece near the middle and others there of at least a tenth of it."""
    _, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas: Indices = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    areas[np.abs(centres[:, 0] / mask.shape[1] - 0.5) > BESIDE] = 0
    if not areas.any():
        return mask * np.uint8(0)
    keep: Bytes = ((areas >= 0.1 * areas.max()) * 255).astype(np.uint8)
    return np.asarray(keep[labels], np.uint8)
