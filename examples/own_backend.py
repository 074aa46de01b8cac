"""A backend of one's own: ONNX Runtime's, with a clock around every call for frames.

python examples/own_backend.py walk.mp4
"""

import time
from dataclasses import replace

import typer

import cstl_edge as ce
from cstl_edge.registry import Entry
from cstl_edge.runtime.backends.onnxruntime import load_folder
from cstl_edge.runtime.base import encode_in_parts
from cstl_edge.runtime.load import BACKENDS


class Timed:
    def __init__(self, path, threads, precision):
        self.inner, self.ms = load_folder(path, threads, precision), 0.0
        self.info = replace(self.inner.info, slides=False)  # it has no incremental head

    def __getattr__(self, name):  # head, warm_up and close are ONNX Runtime's
        return getattr(self.inner, name)

    def frames(self, silhouettes):  # uint8 [m, h, w] -> part features [m, p, c]
        start, features = time.perf_counter(), self.inner.frames(silhouettes)
        self.ms += (time.perf_counter() - start) * 1000
        return features

    def encode(self, silhouettes, lengths=None):
        return encode_in_parts(self, silhouettes, lengths)


BACKENDS.entries["timed"] = Entry("__main__:Timed", "ONNX Runtime with a clock")
if __name__ == "__main__":
    model = ce.load(backend="timed")
    typer.run(lambda source: print(len(ce.read_walks(source, model=model)), "walks,", model.ms))
