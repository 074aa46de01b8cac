"""Figures 6 and 7 of the paper: t-SNE of embeddings, and the salient frames of one walk.

Fig. 6 lays the embeddings of ten people in a plane, model beside model. t-SNE is scikit-learn's, on
the distance that recognition uses (the mean over parts), drawn with Pillow. Fig. 7 boxes the frame
that each part was chosen from. Letters: `m` sequences, `s` frames, `p` parts.
"""

from __future__ import annotations

import colorsys
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cstl_edge.arrays import Bytes, Doubles, Silhouettes
from cstl_edge.distance import EUCLIDEAN
from cstl_edge.errors import ConfigError, DataError, ModelError, one_line
from cstl_edge.evaluation.embed import embed
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.evaluation.held_out import EVERYBODY, held_out
from cstl_edge.extras import missing_package
from cstl_edge.output import write_file
from cstl_edge.runtime.base import Encoder
from cstl_edge.silhouette import read_silhouettes

if TYPE_CHECKING:
    from PIL.Image import Image


SEQUENCE = re.compile(r"(\d{1,9})/([\w-]+)/(\d{1,3})", re.ASCII)
PANEL, MARGIN, HEAD, FOOT = 720, 36, 48, 44  # pixels of one model's panel
FINER = 3  # drawn so much larger, then reduced, for smooth edges
RADIUS = 5  # of a point, pixels
INK, FRAME = (30, 30, 30), (190, 190, 190)
CONDITIONS = ("nm", "bg", "cl")  # circle, square, triangle
MOST_SEQUENCES = 5000  # t-SNE takes minutes beyond


def find_sequence(
    text: str,
    data: str,
    size: tuple[int, int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Silhouettes:
    """Return one walk, uint8 [s, h, w].

    Args:
        text: Folder of images, .npy file, or PERSON/SEQUENCE/VIEW such as 910000/bg-01/90, a
            sequence of `data`.
        data: Prepared dataset or Walkers, as for `held_out`.
        size: Height and width of the silhouettes.
        progress: Callback for the number of Walkers' shards that were made, and their total.

    Raises:
        DataError: where there is no such sequence.
        ConfigError: for a text that is neither.
    """
    if Path(text).exists():
        return read_silhouettes(text, size)
    match = SEQUENCE.fullmatch(text)
    if not match:
        raise ConfigError(
            "expected a folder of silhouettes or PERSON/SEQUENCE/VIEW such as 910000/bg-01/90; "
            f"got {one_line(text)!r}"
        )
    held = held_out(data, size, EVERYBODY, progress=progress)
    known = held.data
    same = (known.people == int(match[1])) & (known.sequences == match[2])
    row = np.flatnonzero(same & (known.views_deg == int(match[3])))
    if not row.size:
        raise DataError(
            f"no sequence {text} in {held.description}; expected a person of "
            f"{known.people.min()} to {known.people.max()}, a recording such as "
            f"{known.sequences[0]} and a view such as {known.views_deg[0]}"
        )
    return known.read(int(row[0]))


def salient_picture(encoder: Encoder, silhouettes: Silhouettes, *, columns: int = 10) -> Bytes:
    """Draw the frames of one walk with red boxes around the parts that were chosen from them.

    Args:
        encoder: Encoder of a network with SSFL.
        silhouettes: uint8 [s, h, w].
        columns: Number of frames in a row of the picture.

    Raises:
        ModelError: for a network without SSFL, which chooses nothing.
    """
    from cstl_edge.live.annotate import salient_parts

    chosen = encoder.encode(silhouettes[None]).salient_frames[0]  # [p]
    if (chosen < 0).all():
        raise ModelError(
            f"model {one_line(encoder.info.model_name)!r} has no SSFL and chooses no frames. Give "
            "one that was trained with model.salient true"
        )
    return salient_parts(
        silhouettes, chosen, columns=columns, zoom=2 if silhouettes.shape[1] > 64 else 3
    )


def embedded_people(
    encoder: Encoder,
    data: str,
    workdir: Path,
    *,
    people: int = 10,
    split: str = "field",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabelledEmbeddings:
    """Return the sequences of the first people of the test half of some data, embedded.

    Args:
        encoder: Encoder of the model.
        data: Prepared dataset or Walkers, as for `held_out`.
        workdir: Folder of stored embeddings.
        people: Number of people.
        split: Division of the dataset into people to train on and people to test.
        progress: Callback for the number of Walkers' shards made, then of sequences embedded, and
            their total.

    Raises:
        ConfigError: where the data have fewer people, or more sequences than t-SNE is for.
    """
    held = held_out(data, encoder.info.size, split, progress=progress)
    ids = np.unique(held.data.people[held.rows])
    if not 2 <= people <= len(ids):
        raise ConfigError(f"expected --people of 2 to {len(ids)}, as the data has; got {people}")
    rows = held.rows[np.isin(held.data.people[held.rows], ids[:people])]
    if len(rows) > MOST_SEQUENCES:
        raise ConfigError(
            f"{people} people have {len(rows)} sequences, t-SNE is for {MOST_SEQUENCES} at most. "
            "Give fewer --people"
        )
    embedded = embed(encoder, held.data, workdir, rows, source=held.source, progress=progress)
    return embedded.labelled


def project(walks: LabelledEmbeddings, *, perplexity: float = 30.0, seed: int = 0) -> Doubles:
    """Return the positions of sequences in a plane by t-SNE, [m, 2].

    Args:
        walks: The embedded sequences.
        perplexity: Rough number of neighbours that count.
        seed: Seed of t-SNE.

    Raises:
        ConfigError: where scikit-learn is missing, or the perplexity does not fit so few sequences.
        DataError: for embeddings that are not finite.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as err:
        raise missing_package("t-SNE needs scikit-learn", "report") from err
    if not 1 <= perplexity < len(walks.people):
        raise ConfigError(
            f"expected a perplexity of 1 to below {len(walks.people)}, the sequences; got "
            f"{perplexity:g}"
        )
    embeddings = np.asarray(walks.embeddings, np.float32)
    if not np.isfinite(embeddings).all():
        raise DataError("some embeddings are not finite; evaluate the model with cstl-edge eval")
    distance = EUCLIDEAN.pairwise(embeddings, embeddings)  # [m, m]
    np.fill_diagonal(distance, 0)
    tsne = TSNE(metric="precomputed", init="random", perplexity=perplexity, random_state=seed)
    return np.asarray(tsne.fit_transform(distance), np.float64)


def draw_panels(panels: Sequence[tuple[str, LabelledEmbeddings, Doubles]]) -> Image:
    """Draw points, one panel per title; colour and number identify the person.

    Circles are normal walks, squares walks with a bag, triangles in a coat.
    """
    from PIL import Image

    size = (PANEL * len(panels), HEAD + PANEL + FOOT)
    picture = Image.new("RGB", (size[0] * FINER, size[1] * FINER), "white")
    for number, (title, walks, points) in enumerate(panels):
        _panel(picture, number * PANEL, title, walks, points)
    _legend(picture, panels[0][1])
    return picture.resize(size, Image.Resampling.LANCZOS)


def save_png(picture: Image, path: Path) -> None:
    """Write a PNG, whole or not at all (StorageError)."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_file(path, content.getvalue())


def _panel(
    picture: Image, left: int, title: str, walks: LabelledEmbeddings, points: Doubles
) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(picture)
    frame = (left + MARGIN // 2, HEAD, left + PANEL - MARGIN // 2, HEAD + PANEL - MARGIN)
    pen.rectangle(_finer(frame), outline=FRAME, width=FINER)
    pen.text(_finer((left + PANEL / 2, HEAD / 2)), title, INK, _font(22), anchor="mm")
    low, span = points.min(axis=0), np.ptp(points, axis=0).max() or 1.0
    inner = PANEL - 3 * MARGIN
    spots = (points - low + (span - np.ptp(points, axis=0)) / 2) / span * inner
    spots += (left + 1.5 * MARGIN, HEAD + MARGIN)
    colours = _colours(walks)
    for spot, person, name in zip(spots, walks.people, walks.sequences, strict=True):
        _mark(pen, spot, str(name)[:2], colours[int(person)])
    for number, person in enumerate(colours):
        own = spots[walks.people == person]
        centre = own[np.square(own - np.median(own, axis=0)).sum(axis=1).argmin()]
        pen.text(
            _finer(centre), str(number), INK, _font(26), "mm",
            stroke_width=3 * FINER, stroke_fill="white",
        )  # fmt: skip


def _mark(pen: Any, spot: Doubles, condition: str, colour: tuple[int, int, int]) -> None:
    x, y = spot
    r = RADIUS
    if condition == "bg":
        pen.rectangle(_finer((x - r + 1, y - r + 1, x + r - 1, y + r - 1)), colour)
    elif condition == "cl":
        pen.polygon(_finer((x, y - r - 1, x - r - 1, y + r, x + r + 1, y + r)), colour)
    else:
        pen.ellipse(_finer((x - r, y - r, x + r, y + r)), colour)


def _legend(picture: Image, walks: LabelledEmbeddings) -> None:
    from PIL import ImageDraw

    pen, y, x = ImageDraw.Draw(picture), HEAD + PANEL + FOOT / 2 - MARGIN / 2, float(MARGIN)
    names = {"nm": "normal", "bg": "bag", "cl": "coat"}
    seen = {str(name)[:2] for name in walks.sequences}
    for condition in (c for c in CONDITIONS if c in seen):
        _mark(pen, np.array([x, y]), condition, INK)
        pen.text(_finer((x + 14, y)), names[condition], INK, _font(18), anchor="lm")
        x += 100
    for number, (person, colour) in enumerate(_colours(walks).items()):
        pen.text(_finer((x + 20, y)), f"{number}: {person}", colour, _font(18), anchor="lm")
        x += 100


def _colours(walks: LabelledEmbeddings) -> dict[int, tuple[int, int, int]]:
    """Return a colour for everybody, as far apart in hue as can be, alternately light and dark."""
    ids = [int(person) for person in np.unique(walks.people)]
    hues = ((k / len(ids), 0.42 if k % 2 else 0.56) for k in range(len(ids)))
    rgb = np.rint([[255 * x for x in colorsys.hls_to_rgb(hue, light, 0.75)] for hue, light in hues])
    return {person: (int(r), int(g), int(b)) for person, (r, g, b) in zip(ids, rgb, strict=True)}


def _finer(values: Sequence[float] | Doubles) -> Any:
    return tuple(float(value) * FINER for value in values)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size * FINER)
