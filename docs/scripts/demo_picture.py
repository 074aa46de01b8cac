"""Make docs/images/demo.webp, the moving picture of the README, from a run of the demo.

cstl-edge demo
python docs/scripts/demo_picture.py            # the newest folder of runs/demo, or --run FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "demo.webp"
MAX_BYTES = 1_500_000
WIDTH_PX, FRAME_MS, LAST_MS = 640, 133, 900
SCENES = (("real.mp4", 0.2, 3.6, 7.5), ("street.mp4", 2.0, 21.0, 3.75))
"""Video, start and end [s], pictures per second that are taken of it."""


def frames(video: Path, start_s: float, stop_s: float, rate_hz: float) -> Iterator[Image.Image]:
    """Yield pictures of a part of a video, scaled to the width of the picture.

    Args:
        video: Annotated video of a demo.
        start_s: Start of the part.
        stop_s: End of the part.
        rate_hz: Pictures per second of the video.
    """
    capture = cv2.VideoCapture(str(video))
    fps = capture.get(cv2.CAP_PROP_FPS)
    step = max(1, round(fps / rate_hz))
    number = 0
    while True:
        ok, frame = capture.read()
        if not ok or number > stop_s * fps:
            return
        if number >= start_s * fps and number % step == 0:
            height = round(WIDTH_PX * frame.shape[0] / frame.shape[1])
            small = cv2.resize(frame, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
            yield Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
        number += 1


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, help="folder of a demo (default: the newest)")
    parser.add_argument("--quality", type=int, default=50, help="of WebP, 0..100")
    arguments = parser.parse_args()
    runs = sorted((ROOT / "runs" / "demo").glob("*"))
    if not (arguments.run or runs):
        raise SystemExit("expected a run of the demo; found none in runs/demo: cstl-edge demo")
    run = arguments.run or runs[-1]
    pictures: list[Image.Image] = []
    times: list[int] = []
    for name, start_s, stop_s, rate_hz in SCENES:
        scene = list(frames(run / name, start_s, stop_s, rate_hz))
        pictures += scene
        times += [FRAME_MS] * (len(scene) - 1) + [LAST_MS]
    sizes = {picture.height for picture in pictures}
    height = max(sizes)
    whole = [Image.new("RGB", (WIDTH_PX, height), "#ffffff") for _ in pictures]
    for page, picture in zip(whole, pictures, strict=True):
        page.paste(picture, (0, (height - picture.height) // 2))
    whole[0].save(
        PICTURE,
        save_all=True,
        append_images=whole[1:],
        duration=times,
        loop=0,
        quality=arguments.quality,
        method=6,
    )
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(ROOT)}: {len(whole)} pictures, {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"more than {MAX_BYTES:,} bytes: take a lower --quality")


if __name__ == "__main__":
    main()
