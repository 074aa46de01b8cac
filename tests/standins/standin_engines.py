"""Engines of the stand-in TensorRT beside an exported folder, sealed like real ones."""

import hashlib
import json

from standin_tensorrt import pack

SIZE, PARTS, CHANNELS = (16, 12), 4, 16  # of tests/golden/tiny
WINDOW, MOST_FRAMES, MOST_WALKERS = 6, 24, 32


def ranges(**axes):
    """Return a profile of inputs by (min, opt, max) of their first axes."""
    return {
        name: {key: dims for key, dims in zip(("min", "opt", "max"), zip(*parts), strict=True)}  # noqa: B905, C416
        for name, parts in axes.items()
    }


def profiles(walkers=MOST_WALKERS, frames=MOST_FRAMES):
    """Return the profiles of `frames` and `head`: one walker in a full window, then all."""
    one = (1, 1, 1)
    many, window, any_frames = (1, min(8, walkers), walkers), (WINDOW,) * 3, (1, WINDOW, frames)
    size = [(length,) * 3 for length in SIZE]
    feature = [(length,) * 3 for length in (PARTS, CHANNELS)]
    return {
        "frames": [ranges(silhouettes=(one, *size)), ranges(silhouettes=(many, *size))],
        "head": [
            ranges(features=(one, window, *feature), lengths=(one,)),
            ranges(features=(many, any_frames, *feature), lengths=(many,)),
        ],
    }


def seal(folder, version="10.3.0", gpu="Orin", sm=87, plugin=None, limits=None, **changes):
    """Write engines for a machine into an exported folder; return where they are."""
    manifest = json.loads((folder / "manifest.json").read_text())
    place = folder / "engines" / "tensorrt"
    place.mkdir(parents=True, exist_ok=True)
    for graph, kinds in (limits or profiles()).items():
        plan = pack((folder / f"{graph}.onnx").read_bytes(), kinds)
        record = {
            "format": 1,
            "graph": graph,
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "model": manifest["model"],
            "weights_sha256": manifest["weights_sha256"],
            "onnx": f"{graph}.onnx",
            "onnx_sha256": manifest["files"][f"{graph}.onnx"],
            "precision": "float32",
            "library": "tensorrt",
            "version": version,
            "sm": sm,
            "gpu": gpu,
            "cuda": "12.6",
            "compatibility": "none",
            "plugin": plugin,
            "profiles": kinds,
            "window": WINDOW,
            "options": {"precision": "float32"},
            **changes,
        }
        (place / f"{graph}.plan").write_bytes(plan)
        (place / f"{graph}.plan.json").write_text(json.dumps(record))
    return place
