"""Measure recognition by direction, height, frame rate, seconds, clothes and enrolled sides.

    python benchmarks/conditions.py [MODEL] --out results.jsonl --picture conditions.svg

Held-out Walkers of the second generator, mirrored as the live path does, matched as the product
does under the mean of these people. Unless a study varies it, everybody is enrolled from one walk
seen from the left side, and searched by another walk in the same outfit, 45 degrees apart, 120
pixels high, 12.5 frames per second for 4 seconds. Letters: k windows, s frames, h w pixels, p d.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from identification import Walk, embed
from study import append_record, run_study, study_parser

from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.gallery.index import CosineIndex, TemplateIndex, indexed
from cstl_edge.output import write_file
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.walkers.clothed.frames import silhouettes as render
from cstl_edge.walkers.clothed.session import make_session
from cstl_edge.walkers.person import make_person

FIRST_ID, PEOPLE = 940_000, 40
SIDE_DEG, PROBE_DEG = 90.0, 135.0
HEIGHT_PX, FPS, SECONDS = 120, 12.5, 4.0
LEAST_FRAMES = 8  # of a window
OUTFITS = {
    "same outfit": ("nm", 0),
    "bag": ("bg", 0),
    "coat": ("cl", 0),
    "other clothes": ("nm", 1),
}
ENROLLED_DEG: Mapping[int, Sequence[float]] = {
    1: (90,), 2: (0, 90), 4: (0, 90, 180, 270), 8: (0, 45, 90, 135, 180, 225, 270, 315),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """How a walk is seen."""

    number: int = 2  # of the walk: 1 enrolls
    clothes: str = "same outfit"
    view_deg: float = PROBE_DEG
    height_px: int = HEIGHT_PX
    fps: float = FPS
    seconds: float = SECONDS


def studies() -> Iterator[tuple[str, str, Seen, int]]:
    """Yield study, value, how the probes are seen, and the number of enrolled sides."""
    for angle in (0, 30, 60, 90, 120, 150, 180):
        yield "direction apart", f"{angle}°", Seen(view_deg=(SIDE_DEG + angle) % 360), 1
    for height in (40, 60, 80, 120, 200):
        yield "height", f"{height} px", Seen(height_px=height), 1
    for seconds in (2.0, 4.0, 8.0):
        for fps in (5.0, 8.0, 12.5, 25.0):
            seen = Seen(fps=fps, seconds=seconds)
            yield f"rate over {seconds:g} s", f"{fps:g}/s", seen, 1
    for seconds in (1.0, 2.0, 4.0, 8.0):
        yield "seconds seen", f"{seconds:g} s", Seen(seconds=seconds), 1
    for clothes in OUTFITS:
        yield "clothes", clothes, Seen(clothes=clothes), 1
    for sides in ENROLLED_DEG:
        yield "enrolled sides", str(sides), Seen(), sides


def walk(person_id: int, seen: Seen, size: tuple[int, int]) -> Silhouettes:
    """Render one walk, mirrored where it goes to the right: [s, h, w]."""
    condition, day = OUTFITS[seen.clothes]
    own = np.random.SeedSequence([person_id, seen.number])  # everybody has a camera of their own
    seed = int(own.generate_state(1, np.uint64)[0])
    session = make_session(seed, day, person_id, condition, seen.view_deg)
    camera = replace(session.camera, fps=seen.fps, height_px=seen.height_px)
    session = replace(session, camera=camera, turn_deg_s=0.0, pace_end=1.0)
    frames = max(LEAST_FRAMES, round(seen.fps * seen.seconds))
    made = render(make_person(person_id), session, frames, size)
    return np.ascontiguousarray(made[..., ::-1]) if 180 < seen.view_deg % 360 < 360 else made


class Walks:
    """Embedded walks, each made once."""

    def __init__(self, encoder: Encoder, people: Sequence[int]) -> None:
        """Keep the encoder and the people."""
        self._encoder, self._people = encoder, people
        self._done: dict[Seen, list[Walk]] = {}

    def __getitem__(self, seen: Seen) -> list[Walk]:
        """Return everybody's walk."""
        if seen not in self._done:
            size = self._encoder.info.size
            self._done[seen] = [
                Walk(str(i), "", seen.view_deg, embed(self._encoder, walk(i, seen, size)))
                for i in self._people
            ]
        return self._done[seen]

    def enrolled(self, sides: int) -> TemplateIndex:
        """Return the gallery of everybody's walks from so many sides."""
        by_side = [self[Seen(number=1, view_deg=float(v))] for v in ENROLLED_DEG[sides]]
        walks = [walk.windows for each in zip(*by_side, strict=True) for walk in each]
        starts = np.cumsum([0, *map(len, walks[:-1])])
        return TemplateIndex(
            names=tuple(map(str, self._people)),
            starts=starts[::sides],
            templates=np.concatenate(walks).transpose(1, 2, 0).copy(),
            walks=starts,
        )

    def mean(self) -> Floats:
        """Return the mean of the enrolled and of the plain searches, as a camera has it."""
        both = self[Seen(number=1, view_deg=SIDE_DEG)] + self[Seen()]
        return np.asarray(np.mean([w.windows.mean(axis=0) for w in both], axis=0), np.float32)


def measured(distances: Floats) -> dict[str, float]:
    """Return rank-1, AUC and true accepts at 1 and 10 % false accepts of [people, people]."""
    own = np.eye(len(distances), dtype=bool)
    mates, strangers = distances[own], np.sort(distances[~own])
    auc = 1 - np.searchsorted(strangers, mates, side="right") / len(strangers)
    accepted = {f"tar_{far:g}": (mates < np.quantile(strangers, far)).mean() for far in (0.01, 0.1)}
    figures = {"rank1": (distances.argmin(axis=1) == np.arange(len(own))).mean(), "auc": auc.mean()}
    return {name: round(float(value), 4) for name, value in (figures | accepted).items()}


COLOURS = {"--ink": "#222", "--line": "#bbb", "--muted": "#666", "--s1": "#4a90d9"}


def standalone(svg: str) -> str:
    """Return an inline picture of the report as a file of its own, in plain colours."""
    for name, colour in COLOURS.items():
        svg = svg.replace(f"var({name})", colour)
    sizes = 'width="{}" height="{}"'.format(*re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0])
    style = 'style="background:#fff;font-family:sans-serif"'
    return svg.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {sizes} {style} ', 1)


def picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rank-1 by every condition as an SVG."""
    from cstl_edge.bench.report.charts.svg import SERIES, canvas
    from cstl_edge.bench.report.charts.svg import picture as drawn

    names = list(dict.fromkeys(str(row["study"]) for row in rows))
    with canvas(15 * (len(rows) + 2 * len(names))) as (figure, axes):
        y = 0.0
        for name in names:
            axes.text(0, y, name, weight="bold", va="center", transform=axes.get_yaxis_transform())
            for row in (row for row in rows if row["study"] == name):
                y -= 1
                axes.barh(y, 100 * row["rank1"], height=0.75, color=SERIES[0], alpha=0.4)
                axes.text(1, y, f"{row['value']}: {100 * row['rank1']:.0f}", va="center")
            y -= 2
        axes.set_xlim(0, 100)
        axes.set_yticks([])
        axes.set_xlabel("rank-1 among synthetic people, %")
        facts = (f"{row['study']} {row['value']} {100 * row['rank1']:.0f} %" for row in rows)
        return standalone(drawn(figure, "Rank-1 by condition", facts).svg)


def study(args: argparse.Namespace) -> None:
    """Measure, print a table, append the record."""
    encoder = load(args.model)
    walks = Walks(encoder, range(FIRST_ID, FIRST_ID + args.people))
    mean, distance, rows = walks.mean(), encoder.info.distance, []
    print("| study | value | rank-1 | AUC | TAR at 1 % | at 10 % |\n|---|---|---|---|---|---|")
    for name, value, seen, sides in studies():
        gallery = indexed(walks.enrolled(sides), distance)
        if isinstance(gallery, CosineIndex):
            gallery = gallery.centred([mean])
        searches = np.stack([walk.windows.mean(axis=0) for walk in walks[seen]])
        figures = measured(gallery.person_distances(distance.project(searches, mean)))
        rows.append({"study": name, "value": value, **figures})
        cells = (f"{100 * figures[k]:.0f} %" for k in ("tar_0.01", "tar_0.1"))
        shown = f"{100 * figures['rank1']:.0f} % | {figures['auc']:.3f} | {' | '.join(cells)}"
        print(f"| {name} | {value} | {shown} |", flush=True)
    if args.picture is not None:
        write_file(args.picture, picture(rows))
    info = encoder.info
    record = {
        "weights_sha256": info.weights_sha256,
        "backend": f"{info.backend} {info.precision}",
        "people": args.people,
        "distance": distance.name,
        "rows": rows,
    }
    append_record(args.out, "conditions", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("model", nargs="?", help="folder or checkpoint (default: the shipped one)")
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--picture", type=Path, help="an SVG of rank-1")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
