"""One cold `identify`, as a process of its own that reports how long each phase took.

    python -m cstl_edge.bench.cold_child CLIP GALLERY COMMAND STARTED

COMMAND is the module of the command line, STARTED `time.time()` when the parent began the process.
It does what the verb does, in its order, and prints one line of JSON: milliseconds by phase.
"""

from __future__ import annotations

import time

begun = time.time()  # before anything else is imported

import json  # noqa: E402
import sys  # noqa: E402
from importlib import import_module  # noqa: E402


def main(clip: str, gallery: str, command: str, started: float) -> dict[str, float]:
    """Identify the walkers of a clip; return the milliseconds of each phase.

    Args:
        clip: Video file.
        gallery: Gallery file.
        command: Module of the command line, which imports what the verb does.
        started: When the process was begun.
    """
    marks = [("interpreter", begun)]

    def mark(phase: str) -> None:
        marks.append((phase, time.time()))

    import_module(command)
    from cstl_edge.live.sources.read_ahead import read_ahead

    recording = read_ahead(clip)
    assert recording is not None  # a file
    from cstl_edge.live.pipeline.options import PipelineOptions
    from cstl_edge.live.pipeline.run import PipelineRun
    from cstl_edge.runtime import load

    mark("imports")
    encoder = load()
    mark("model")
    with PipelineRun(recording, encoder, None, PipelineOptions(), keep=True) as run:
        mark("segmenter_and_source")
        from cstl_edge.gallery.gallery import Gallery

        with Gallery.open(gallery, model=encoder) as people:
            mark("gallery")
            run.attach(None, people)
            for _ in run:
                pass
            mark("walks")
            for record in run.records:
                if len(record.embeddings):
                    people.identify(record.embeddings, learn=False)
    mark("search")
    learn_ms = sum(run.summary.samples.by_stage.get("learn", ()))
    phases, before = dict[str, float](), started
    for phase, at in marks:
        phases[phase], before = (at - before) * 1e3, at
    # it began before the gallery was opened
    phases["background"] = max(0.0, learn_ms - phases["gallery"])
    phases["walks"] -= phases["background"]
    return phases


if __name__ == "__main__":
    _, recording, people_file, module, begun_s = sys.argv
    print(json.dumps(main(recording, people_file, module, float(begun_s))))
