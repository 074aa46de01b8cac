"""Make the shifted test set of Walkers (`walkers_shifted.npz`), once: it is frozen.

People who walk like six recorded ones that no training sees, in garments and with bags that no
training sees, before pictures that no training sees, cut out by another person network (BlazePose
full) or by background subtraction, at 60 to 120 pixels and 7 to 25 frames per second. Walks nm-01
and nm-05 are of one day, nm-06 is in other clothes, bg-01 and cl-01 add a bag and a coat to the
first outfit. The file has the masks alone: aligned, 128×88, one bit a pixel.

    python benchmarks/make_shifted_walkers.py pose_landmark_full.tflite VIDEO

The network is that of the npm package @mediapipe/pose 0.5.1675469404 (Apache-2.0), run by
ai-edge-litert; the video gives background pictures (CC-BY-4.0, one-by-one-person-detection.mp4 of
intel-iot-devkit/sample-videos).
"""

from __future__ import annotations

import argparse
import lzma
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cstl_edge.silhouette import LARGE, align
from cstl_edge.walkers.clothed.backdrops import SHIFTED_FAMILIES
from cstl_edge.walkers.clothed.film import FilmSettings, Network, film_masks
from cstl_edge.walkers.clothed.outfit import draw_outfit, with_load
from cstl_edge.walkers.clothed.session import make_session
from cstl_edge.walkers.person import make_person

FIRST, PEOPLE = 920_000, 32
WALKS = {  # name: condition and day
    "nm-01": ("nm", 1), "nm-05": ("nm", 1), "nm-06": ("nm", 2), "bg-01": ("bg", 3),
    "cl-01": ("cl", 4),
}  # fmt: skip
VIEWS_DEG = (0, 90, 180, 270)
JITTER_DEG = 30.0
SECONDS, LEAST_FRAMES, MOST_FRAMES = 1.6, 10, 25
KEPT = 0.6  # share of a walk's frames that must show a person


def full_network(path: Path) -> Network:
    """Return the person network of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=1)
    model.allocate_tensors()
    image = model.get_input_details()[0]["index"]
    places = {tuple(o["shape"]): o["index"] for o in model.get_output_details()}

    def run(crops: Any) -> tuple[Any, Any]:
        logits, presence = [], []
        for crop in crops:
            rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255
            model.set_tensor(image, rgb)
            model.invoke()
            logits.append(model.get_tensor(places[1, 256, 256, 1])[0, ..., 0])
            presence.append(model.get_tensor(places[1, 1])[0, 0])
        return np.stack(logits), np.array(presence)

    return run


def background_pictures(path: Path) -> tuple[Any, ...]:
    """Return the median of stretches of a video: its scene without the people."""
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        more, frame = video.read()
        if not more:
            break
        frames.append(frame)
    chunks = np.array_split(np.arange(0, len(frames), 10), 4)
    return tuple(np.median([frames[i] for i in c], 0).astype(np.uint8) for c in chunks)


def main(argv: list[str] | None = None) -> int:
    """Render everybody, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", type=Path, default=Path("cstl_edge/assets/walkers_shifted.npz"))
    args = parser.parse_args(argv)
    network = full_network(args.network)
    settings = FilmSettings(SHIFTED_FAMILIES, background_pictures(args.video))
    frames: list[Any] = []
    rows: list[tuple[int, str, int, int, float, int]] = []
    for identity in range(FIRST, FIRST + PEOPLE):
        for number, (name, (condition, day)) in enumerate(WALKS.items()):
            for view in VIEWS_DEG:
                words = [identity, number, view, 4]
                seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
                turn = float(np.random.default_rng(words).uniform(-JITTER_DEG, JITTER_DEG))
                session = make_session(
                    seed, day, identity, condition, (view + turn) % 360, shifted=True
                )
                if day > 2:
                    worn = draw_outfit(identity, 1, "nm", shifted=True)
                    session = replace(session, outfit=with_load(worn, session.outfit))
                fps = session.camera.fps
                count = int(np.clip(round(SECONDS * fps), LEAST_FRAMES, MOST_FRAMES))
                masks = film_masks(make_person(identity), session, count, network, settings)
                good = [align(mask, LARGE) > 127 for mask in masks if mask.any()]
                if len(good) < KEPT * count:
                    continue
                frames += good
                rows.append((identity, name, view, len(good), fps, session.camera.height_px))
        print(f"{identity}: {len(rows)} walks, {len(frames)} frames", file=sys.stderr, flush=True)
    block = np.packbits(np.stack(frames), axis=-1)  # [f, 128, 11]
    block[1:] ^= block[:-1].copy()
    names = ("people", "sequences", "views_deg", "lengths", "fps", "height_px")
    labels: dict[str, Any] = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    packed = np.frombuffer(lzma.compress(block.tobytes(), preset=9), np.uint8)
    np.savez(args.out, packed=packed, **labels)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
