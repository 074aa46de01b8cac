"""Measure how far an exported graph is from the network it came from.

The graph runs in ONNX Runtime on batches and frame counts other than those it was traced with, with
ragged lengths: the classic trap of an export is a batch index baked in, and it shows nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cstl_edge.arrays import Floats, Indices, Ints
from cstl_edge.errors import ExportError, one_line
from cstl_edge.model import Cstl
from cstl_edge.model.incremental_head import Mix, Taps, kept
from cstl_edge.runtime.streaming.rings import KEPT

CUTS = {"taps.onnx": (Taps, ("taps", "gates")), "mix.onnx": (Mix, ("logits", "judged"))}
SALIENT = "salient_frames"
SEED = 20211
TOLERANCE = 1e-4  # largest error of an output, relative to its largest value where that is above 1
CASES = ((1, (1,)), (1, (30,)), (3, (7, 1, 4)), (5, (12, 12, 3, 9, 2)))
"""Sequences and their lengths; the example of the trace has 2 sequences of 5 frames."""


@dataclass
class Deviation:
    """How far one output is from PyTorch, over all cases."""

    max_abs_error: float = 0.0
    max_abs_value: float = 0.0


@dataclass
class Choices:
    """How often the chosen frames differ from PyTorch's, over all cases."""

    compared: int = 0
    wrong: int = 0
    ties: int = 0
    """Choices that differ where the two scores are equal up to rounding."""


@dataclass
class Parity:
    """What was compared, and how it came out."""

    graphs: dict[str, dict[str, Deviation | Choices]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the manifest."""
        return {
            "against": f"PyTorch {torch.__version__}, float32, CPU",
            "tolerance": TOLERANCE,
            "seed": SEED,
            "lengths": [list(lengths) for _, lengths in CASES],
            "graphs": {
                name: {output: asdict(found) for output, found in outputs.items()}
                for name, outputs in self.graphs.items()
            },
        }

    def check(self) -> None:
        """Raise ExportError naming the first output that is over the tolerance."""
        for name, outputs in self.graphs.items():
            for output, found in outputs.items():
                problem = _problem(found)
                if problem:
                    raise ExportError(
                        f"{name}: {output} differs from PyTorch {problem}. Nothing was exported; "
                        "try without simplification"
                    )


def measure(network: Cstl, name: str, session: Any) -> dict[str, Deviation | Choices]:
    """Run a graph (`frames.onnx`, `head.onnx`, …) and the network on every case."""
    outputs = [output.name for output in session.get_outputs()]
    numbers = {output: Deviation() for output in outputs if output != SALIENT}
    choices = Choices()
    for feed in feeds(network, name):
        expected, scores = _reference(network, name, feed)
        found = dict(zip(outputs, _run(name, session, feed), strict=True))
        agreed = None
        if scores is not None:
            agreed = found[SALIENT] == expected[SALIENT]
            _judge_choices(choices, expected[SALIENT], found[SALIENT], scores)
        for output, deviation in numbers.items():
            _judge_numbers(deviation, expected[output], found[output], agreed)
    return {**numbers, SALIENT: choices} if SALIENT in outputs else {**numbers}


def feeds(network: Cstl, name: str) -> Iterator[dict[str, Any]]:
    """Yield the inputs of a graph for every case: coarse random silhouettes, or their features."""
    config, rng = network.config, np.random.default_rng(SEED)
    height, width = config.size
    for n, lengths in CASES:
        s = max(lengths)
        blocks = rng.integers(0, 2, (n, s, -(-height // 4), -(-width // 4)), dtype=np.uint8)
        fine = blocks.repeat(4, 2).repeat(4, 3)[:, :, :height, :width] * np.uint8(255)
        silhouettes = np.ascontiguousarray(fine)
        if name == "frames.onnx":
            yield {"silhouettes": silhouettes.reshape(-1, height, width)}
        elif name == "full.onnx":
            yield {"silhouettes": silhouettes, "lengths": np.array(lengths, np.int32)}
        else:
            with torch.no_grad():
                flat = torch.tensor(silhouettes.reshape(-1, height, width))
                features = network.frame_features(flat).numpy()
            windows = features.reshape(n, s, *features.shape[1:])  # [n, s, p, c]
            if name in ("taps.onnx", "mix.onnx", "slide.onnx"):
                yield _cut_feed(network, name, windows, rng.integers(0, s, n, np.int64))
            else:
                yield {"features": windows, "lengths": np.array(lengths, np.int32)}


def _cut_feed(network: Cstl, name: str, windows: Floats, oldest: Indices) -> dict[str, Any]:
    """Return the inputs of one of the head's cuts, of windows [n, s, p, c].

    oldest: [n], where in a ring a window begins
    """
    n, s = windows.shape[:2]
    rows = windows.reshape(n * s, *windows.shape[2:]).swapaxes(0, 1)  # [p, m, c]
    if name == "taps.onnx":
        return {"features": rows}
    with torch.no_grad():
        found = kept(network, torch.tensor(windows))  # [n, p, s, ..] each
    if name == "mix.onnx":
        sums = torch.chunk(found[0].transpose(0, 1).flatten(1, 2), 3, 2)[2]  # [p, m, c]
        return {"features": rows, "sums": sums.numpy()}
    feed: dict[str, Any] = {}
    for key, values in zip(KEPT, found, strict=True):
        turned = [one.roll(int(by), 1) for one, by in zip(values, oldest, strict=True)]
        feed[key] = torch.stack(turned).numpy()
    return {**feed, "slots": (oldest[:, None] + np.arange(s)) % s}


def _in_order(feed: dict[str, Tensor]) -> Tensor:
    """Return the features [n, s, p, c] of windows in rings, each from its first frame on."""
    features, _, _ = torch.chunk(feed["kept_values"], 3, 3)  # [n, p, s, c]
    pairs = zip(features, feed["slots"], strict=True)
    return torch.stack([ring[:, slots] for ring, slots in pairs]).transpose(1, 2)


def _run(name: str, session: Any, feed: dict[str, Any]) -> list[Any]:
    """Run the graph; one that was traced too narrowly fails here."""
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as err:  # ONNX Runtime's exceptions have no public base
        shapes = {key: list(value.shape) for key, value in feed.items()}
        raise ExportError(f"{name} does not run on {shapes}: {one_line(err)}") from err
    return outputs


def _reference(
    network: Cstl, name: str, feed: dict[str, Any]
) -> tuple[dict[str, Any], Floats | None]:
    """Return the network's outputs, and the scores [p, n, s] behind `salient_frames`."""
    tensors = {key: torch.tensor(value) for key, value in feed.items()}
    if name == "frames.onnx":
        with torch.no_grad():
            return {"features": network.frame_features(tensors["silhouettes"]).numpy()}, None
    if name in CUTS:
        cut, outputs = CUTS[name]
        with torch.no_grad():
            found = cut(network)(*tensors.values())
        return dict(zip(outputs, (value.numpy() for value in found), strict=True)), None
    if name == "slide.onnx":  # is measured on the head itself
        tensors = {"features": _in_order(tensors)}
    scored: list[Tensor] = []
    hook = None
    if network.scores is not None:
        hook = network.scores.register_forward_hook(lambda _m, _i, output: scored.append(output))
    try:
        with torch.no_grad():
            run = network if name == "full.onnx" else network.head
            embedding, frames = run(*tensors.values())
    finally:
        if hook is not None:
            hook.remove()
    if frames is None:
        return {"embedding": embedding.numpy()}, None
    expected = {"embedding": embedding.numpy(), SALIENT: frames.numpy()}
    return expected, scored[0].numpy()


def _judge_choices(choices: Choices, expected: Ints, found: Ints, scores: Floats) -> None:
    """Tell choices that differ by rounding from those that are wrong."""
    choices.compared += expected.size
    for i, part in zip(*np.nonzero(expected != found), strict=True):
        line = scores[part, i]  # [s]
        gap = abs(float(line[expected[i, part]] - line[found[i, part]]))
        if gap <= TOLERANCE * max(1.0, float(np.abs(line).max())):
            choices.ties += 1
        else:
            choices.wrong += 1


def _judge_numbers(deviation: Deviation, expected: Floats, found: Floats, agreed: Any) -> None:
    """Take the largest error; a part that another frame gave on a tie is not compared."""
    error = np.abs(expected - found)
    if agreed is not None:
        error = error[agreed]  # [n, p] of [n, p, d]
    if error.size:  # np.maximum lets a NaN through, max() may not
        deviation.max_abs_error = float(np.maximum(deviation.max_abs_error, error.max()))
    deviation.max_abs_value = max(deviation.max_abs_value, float(np.abs(expected).max()))


def _problem(found: Deviation | Choices) -> str | None:
    """Say by how much an output is over the tolerance, or None."""
    if isinstance(found, Choices):
        return f"in {found.wrong} of {found.compared} choices" if found.wrong else None
    allowed = TOLERANCE * max(1.0, found.max_abs_value)
    if found.max_abs_error <= allowed:
        return None
    return f"by {found.max_abs_error:.3g}, expected at most {allowed:.3g}"
