"""Site of `cstl-edge demo --serve`: four cameras around one street, two of whose people are known.

The people walk from one camera to the next. Ada and Ben were enrolled on other days; the others are
strangers, to be named on the page. Nothing of it needs a network, and nobody in it is real.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cstl_edge.errors import DataError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.sources.synthetic.actor import WalkerSpec
from cstl_edge.live.sources.synthetic.sides import plan_sides
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.output import write_file
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.serve.data_folder import PRIVATE

CAMERAS = {"gate": "Gate", "path": "Garden path", "yard": "Yard", "lane": "Back lane"}
PEOPLE, FPS = 8, 10
KNOWN = ("Ada", "Ben")
STEPS = len(KNOWN)  # calls of the progress
SEGMENTER = "background"
SEEN_FROM_DEG = (65.0, 115.0, 250.0, 290.0)  # of the walks that are enrolled
FIRST_PORT, PORTS = 8765, 20
SITE = """\
# Site of `cstl-edge demo --serve`: four cameras around one synthetic street.
name: demo
data: data
segmenter: background
cameras:
{cameras}
keep:
  events_days: 1
  snapshots: {{enabled: true, days: 1}}
  clips: {{enabled: true, days: 1, max_s: 15}}
  unknowns: {{enabled: true, days: 1}}   # nobody here is real
  max_gb: 1
  min_free_gb: 0.2
page:
  port: {port}
"""


def prepare(folder: Path, seed: int, progress: Callable[[str], None]) -> Path:
    """Write the site and enrol two people; return the site's file.

    Args:
        folder: Of the demo; what an earlier one left there stays.
        seed: Of the street.
        progress: Called with a line per step.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    site = folder / "site.yaml"
    write_file(site, site_text(seed, free_port()), mode=0o600)
    with closing(load(threads=1)) as encoder:
        people = plan_sides(PEOPLE, seed).walks[0]
        with Gallery.open(data / "gallery.db", model=encoder) as gallery:
            there = {person.name for person in gallery.people()}
            for number, name in enumerate(KNOWN):
                progress(f"enrolling {name}")
                if name not in there:
                    _enrol(gallery, name, people[number], encoder)
    return site


def site_text(seed: int, port: int) -> str:
    """Return the YAML of the site.

    seed: of the street
    port: of the page
    """
    cameras = "\n".join(
        f'  {name}: {{title: {title}, source: "synthetic://street?side={side}&people={PEOPLE}'
        f'&seed={seed}&fps={FPS}&gate=1&live=1"}}'
        for side, (name, title) in enumerate(CAMERAS.items())
    )
    return SITE.format(cameras=cameras, port=port)


def free_port() -> int:
    """Return the page's usual port, or the next one that is free."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return FIRST_PORT  # the page says that it is taken


def _enrol(gallery: Gallery, name: str, person: WalkerSpec, encoder: Encoder) -> None:
    """Enrol somebody from walks of other days; DataError where none is usable."""
    taken, failure = 0, ""
    for day, view_deg in enumerate(SEEN_FROM_DEG, start=1):
        walk = replace(
            person,
            condition="nm",
            session=person.session + day,
            view_deg=view_deg,
            start_s=None,
        )
        try:
            alone = SyntheticSource([walk], seed=1000 + day, fps=FPS)
            records = collect(alone, encoder, PipelineOptions(SEGMENTER))
        except DataError as err:
            failure = str(err)
            continue
        gallery.enroll(name, records[0].embeddings, consent="demo: nobody real", force=True)
        taken += 1
    if not taken:
        raise DataError(f"{name} cannot be enrolled: {failure}")
