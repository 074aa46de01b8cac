"""Hand the events of a source to another program, one JSON line each on its standard input.

python examples/events_to_program.py walk.mp4 "jq -c '[.event, .track, .answer]'"
"""

import shlex
import subprocess
from pathlib import Path

import typer

import cstl_edge as ce


def main(source: str, program: str, gallery: Path | None = None) -> None:
    """Send the events of SOURCE to PROGRAM; without a gallery nobody is named."""
    model = ce.load()
    people = ce.Gallery.open(gallery, model=model, create=False) if gallery else None
    with subprocess.Popen(shlex.split(program), stdin=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        for event in ce.watch(source, people, model=model):
            try:
                print(event.to_json(), file=reader.stdin, flush=True)
            except BrokenPipeError:
                break  # the program has ended; so do we


if __name__ == "__main__":
    typer.run(main)
