"""Adaptation of the last layer to labelled walks of one's own people, without a GPU.

Everything before the last matrices stays as it is and is computed once per window; the matrices are
then trained by the triplet loss on batches of the user's people mixed with Walkers, and drawn back
to where they were. The result is kept only if it helps on walks that were set aside and costs
nothing on Walkers that were not trained on. Letters: n windows, s frames, h w pixels, p parts, k
inputs of a part's matrix, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cstl_edge.arrays import Bools, Doubles, Floats, Indices, Silhouettes
from cstl_edge.checkpoint.weights import (
    inference_tensors,
    load_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
from cstl_edge.distance import Distance, weights_with_joint, whitening_of
from cstl_edge.errors import DataError, ModelError, one_line
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.silhouette import numbered_images, read_silhouettes
from cstl_edge.training.losses import triplet_loss

WALKERS = WalkersSettings(people=60, first=940_000, frames=24, views_deg=(18, 72, 108, 162), seed=1)
WALKERS_TRAINED = 45  # the others are held out
WINDOW, HOP, MIN_FRAMES = 30, 15, 15  # frames of a window, and between two of a walk
MIN_PEOPLE, MIN_WALKS = 3, 2  # people with so many walks each, else there is no held-out check
STEPS, RATE = 400, 5e-4  # of Adam
PEOPLE, WINDOWS = 12, 4  # of a batch
OWN_SHARE = 0.5  # of a batch's people
PULL = 0.1  # weight of the mean squared change of the matrices, in units of their mean square
LEAST_GAIN = 2.0  # of the area under the curve on held-out walks, in its own standard errors
MOST_LOSS = 0.01  # of the same on held-out Walkers

JointOf = Callable[[str, Mapping[str, Any], CstlConfig], Floats]
"""Given the hash of a checkpoint's weights, its record and its configuration, returns the joint
projection [d, p, d] of its embeddings; raises ModelError where it is of others."""


@dataclass(frozen=True)
class OwnWalk:
    """One walk of a person."""

    person: str
    name: str  # for messages
    silhouettes: Silhouettes  # [s, h, w]


@dataclass(frozen=True)
class Figures:
    """How well held-out windows find their person."""

    rank1: float  # share of windows whose nearest enrolled person is right
    auc: float  # area under the ROC curve of the distances to the right and the other people


class Search(NamedTuple):
    """Result of searching with i windows."""

    hits: Bools  # [i], whether the nearest enrolled person was right
    shares: Doubles  # [i], share of all wrong distances that are larger than the right one

    @property
    def figures(self) -> Figures:
        """Return the means."""
        return Figures(float(self.hits.mean()), float(self.shares.mean()))


@dataclass(frozen=True)
class Adaptation:
    """Figures of an adaptation, before and after it."""

    people: int
    trained_windows: int
    held_out_windows: int
    own_before: Figures
    own_after: Figures
    walkers_before: Figures
    walkers_after: Figures
    own_gain_error: float  # standard error of the gain in `auc`, paired by held-out window

    @property
    def refusal(self) -> str | None:
        """Return why the adapted matrices are not to be kept, None where they are."""
        before, after = self.own_before, self.own_after
        gain = after.auc - before.auc
        if gain <= LEAST_GAIN * self.own_gain_error or after.rank1 < before.rank1:
            return (
                f"it does not help: on {self.held_out_windows} windows of walks set aside the area "
                f"under the curve went from {before.auc:.3f} to {after.auc:.3f} (standard error "
                f"{self.own_gain_error:.3f}), rank-1 from {before.rank1:.1%} to {after.rank1:.1%}"
            )
        if self.walkers_after.auc < self.walkers_before.auc - MOST_LOSS:
            return (
                "it forgets other people: on Walkers the area under the curve went from "
                f"{self.walkers_before.auc:.3f} to {self.walkers_after.auc:.3f}"
            )
        return None

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a record."""
        return asdict(self)


def read_own_walks(
    folders: Sequence[Path], size: tuple[int, int], *, mirrored: bool = False
) -> list[OwnWalk]:
    """Read FOLDER/PERSON/WALK of every folder: images of a walk, or one .npy of it.

    Args:
        folders: Folders of people.
        size: Height and width of a silhouette [pixels].
        mirrored: True where the walks go to the right of the picture.

    Raises:
        DataError: A folder has another layout, or a walk cannot be read.
    """
    walks = []
    for folder in folders:
        people = sorted(x for x in folder.iterdir() if x.is_dir()) if folder.is_dir() else []
        found = [(person.name, walk) for person in people for walk in _walks_of(person)]
        if not found:
            raise DataError(
                f"no walks in {one_line(folder)}; expected a folder per person, and in it a folder "
                "of images or a .npy file per walk"
            )
        for person, walk in found:
            silhouettes = read_silhouettes(walk, size, mirrored=mirrored)
            walks.append(OwnWalk(person, f"{person}/{walk.name}", silhouettes))
    return walks


def kept_walks(kept: Mapping[str, Sequence[Silhouettes]], size: tuple[int, int]) -> list[OwnWalk]:
    """Return the walks that a gallery kept silhouettes of, by name; those of another size not."""
    return [
        OwnWalk(person, f"{person}, walk {number}", silhouettes)
        for person, walks in kept.items()
        for number, silhouettes in enumerate(walks, start=1)
        if silhouettes.shape[1:] == size
    ]


def _walks_of(person: Path) -> list[Path]:
    inner = sorted(x for x in person.iterdir() if x.is_dir() or x.suffix == ".npy")
    return [x for x in inner if x.suffix == ".npy" or numbered_images(x)]


@dataclass(frozen=True)
class Windows:
    """Inputs of the last matrices for windows of many people."""

    inputs: Tensor  # [n, p, k]
    people: Indices  # [n]
    held_out: Bools  # [n], of walks that are not trained on


def own_windows(network: Cstl, walks: Sequence[OwnWalk]) -> Windows:
    """Return the windows of the user's walks; the last third of each person's walks is held out.

    Raises DataError where there are too few people, walks or frames for a held-out check.
    """
    usable = [walk for walk in walks if len(walk.silhouettes) >= MIN_FRAMES]
    names = sorted({walk.person for walk in usable})
    of_person = {name: [w for w in usable if w.person == name] for name in names}
    names = [name for name in names if len(of_person[name]) >= MIN_WALKS]
    if len(names) < MIN_PEOPLE:
        raise DataError(
            f"expected at least {MIN_PEOPLE} people with {MIN_WALKS} walks of {MIN_FRAMES} frames "
            f"each, one of which is set aside to check the result; got {len(names)}"
        )
    inputs, people, held_out = [], [], []
    for number, name in enumerate(names):
        mine = of_person[name]
        trained = len(mine) - max(1, len(mine) // 3)
        for place, walk in enumerate(mine):
            part = window_inputs(network, walk.silhouettes)
            inputs.append(part)
            people += [number] * len(part)
            held_out += [place >= trained] * len(part)
    return Windows(torch.cat(inputs), np.array(people), np.array(held_out))


@torch.no_grad()
def window_inputs(network: Cstl, silhouettes: Silhouettes) -> Tensor:
    """Return the inputs of the last matrices for every window of a walk, [n, p, k].

    network: in evaluation mode
    silhouettes: uint8 [s, h, w], at least MIN_FRAMES
    """
    length = min(WINDOW, len(silhouettes))
    starts = range(0, len(silhouettes) - length + 1, HOP)
    stacked = np.stack([silhouettes[start : start + length] for start in starts])
    return network.embedding_inputs(torch.from_numpy(stacked))


def walker_windows(network: Cstl, cache: str | Path, workers: int) -> Windows:
    """Return the windows of Walkers that no weights were trained on; the last of them held out.

    Args:
        network: In evaluation mode.
        cache: Folder of rendered Walkers.
        workers: Number of processes that render those that are missing.
    """
    settings = WALKERS.model_copy(update={"size": network.config.size})
    data = ShardedSequences(make_shards(settings, cache, workers=workers))
    inputs, people = [], []
    for row, person in enumerate(data.people):
        part = window_inputs(network, data.read(row))
        inputs.append(part)
        people += [int(person)] * len(part)
    labels = np.array(people)
    return Windows(torch.cat(inputs), labels, labels >= WALKERS.first + WALKERS_TRAINED)


def adapt_to_walks(
    weights: Path,
    walks: Callable[[tuple[int, int]], Sequence[OwnWalk]],
    output: Path,
    *,
    cache: str | Path,
    workers: int = 2,
    joint: JointOf | None = None,
) -> Adaptation:
    """Adapt a checkpoint to walks and write the result where it helps.

    Args:
        weights: Checkpoint to start from.
        walks: Function that reads the walks at a size of silhouettes [pixels].
        output: Checkpoint to write.
        cache: Folder of rendered Walkers.
        workers: Number of processes that render them.
        joint: Function that returns the joint projection of the checkpoint's embeddings, which the
            adapted weights are to be exported with; None: they have none.

    Raises:
        DataError: There is not enough for a held-out check.
        ModelError: The checkpoint or the projection is refused, or the result: it does not help.
            Nothing is written.
    """
    network, training = load_checkpoint(weights)
    digest = weights_sha256(inference_tensors(network.state_dict(), network.config))
    matrix = None if joint is None else joint(digest, training, network.config)
    own = own_windows(network, walks(network.config.size))
    adaptation = adapt(network, own, walker_windows(network, cache, workers), joint=matrix)
    if (reason := adaptation.refusal) is not None:
        raise ModelError(
            f"the adapted weights are not kept: {reason}. Give more walks of each person, from "
            "several sides and in several clothes"
        )
    record: dict[str, object] = {
        **{key: training[key] for key in ("name", "configuration") if key in training},
        "adapted": {"from": digest, **adaptation.to_dict()},
    }
    save_checkpoint(output, network, record, half=True)
    return adaptation


def adapt(
    network: Cstl, own: Windows, walkers: Windows, *, joint: Floats | None = None, seed: int = 0
) -> Adaptation:
    """Train the last matrices of a network in place; return figures before and after.

    Args:
        network: Network in evaluation mode.
        own: Windows of the user's people.
        walkers: Windows of synthetic people, some of whom are held out whole.
        joint: Joint projection [d, p, d] that walks are compared with, before and after.
        seed: Seed of the batches.
    """
    first = network.embed.weight.detach().clone()  # [p, d, k]
    before = _search(first, own, walkers, joint)
    weight = first.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([weight], lr=RATE)
    rng, scale = np.random.default_rng(seed), first.square().mean()
    pools = [_pool(own), _pool(walkers)]
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        inputs, labels = _batch(pools, rng)
        loss, _ = triplet_loss(_embed(weight, inputs), labels)
        together, _ = triplet_loss(_embed(weight, inputs), labels, joint=True)
        change = (weight - first).square().mean() / scale
        optimiser.zero_grad()
        (loss + together + PULL * change).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = _search(weight.detach(), own, walkers, joint)
    with torch.no_grad():
        network.embed.weight.copy_(weight)
    held = int(own.held_out.sum())
    people, trained = len(np.unique(own.people)), len(own.people) - held
    gains = after[0].shares - before[0].shares  # [i]
    error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    one, two, three, four = (x.figures for x in (before[0], after[0], before[1], after[1]))
    return Adaptation(people, trained, held, one, two, three, four, error)


def _embed(weight: Tensor, inputs: Tensor) -> Tensor:
    """[p, d, k], [n, p, k] -> [n, p, d]."""
    return torch.einsum("pdk,npk->npd", weight, inputs)


def _pool(windows: Windows) -> tuple[Tensor, list[Indices]]:
    """Return the inputs, and the rows of each person that may be trained on."""
    people = np.unique(windows.people[~windows.held_out])
    rows = [np.flatnonzero((windows.people == x) & ~windows.held_out) for x in people]
    return windows.inputs, rows


def _batch(
    pools: Sequence[tuple[Tensor, list[Indices]]], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a batch of both pools: inputs [n, p, k] and labels [n]."""
    (_, own), (_, walkers) = pools
    mine = min(len(own), round(PEOPLE * OWN_SHARE))
    counts = mine, min(len(walkers), PEOPLE - mine)
    inputs = []
    for (values, rows), count in zip(pools, counts, strict=True):
        for person in rng.choice(len(rows), count, replace=False):
            few = len(rows[person]) < WINDOWS
            inputs.append(values[rng.choice(rows[person], WINDOWS, replace=few)])
    return torch.cat(inputs), torch.arange(sum(counts)).repeat_interleave(WINDOWS)


def _search(
    weight: Tensor, own: Windows, walkers: Windows, joint: Floats | None
) -> tuple[Search, Search]:
    """Search with the user's held-out walks, and with held-out Walkers.

    The distance is the product's cosine, centred and whitened by the Walkers that are trained on.

    Args:
        weight: Last matrices [p, d, k].
        own: Windows of the user's people.
        walkers: Windows of synthetic people.
        joint: Joint projection [d, p, d].
    """
    with torch.no_grad():
        mine, synthetic = (_embed(weight, x.inputs).numpy() for x in (own, walkers))
    known, held = ~walkers.held_out, walkers.held_out
    mean = synthetic[known].mean(0)
    whitening = whitening_of(synthetic[known], walkers.people[known])
    weights = None if joint is None else weights_with_joint(mean.shape[0])
    distance = Distance("cosine", weights, mean, whitening, joint)
    own_mean = mine[~own.held_out].mean(0)
    people = walkers.people[held]
    probes = np.zeros(len(people), bool)
    for person in np.unique(people):
        probes[np.flatnonzero(people == person)[1::2]] = True
    return (
        search(distance, mine, own.people, own.held_out, own_mean),
        search(distance, synthetic[held], people, probes, mean),
    )


def search(
    distance: Distance, embeddings: Floats, people: Indices, probes: Bools, mean: Floats
) -> Search:
    """Search with some embeddings for their people among the means of the others.

    Args:
        distance: Distance between embeddings.
        embeddings: [n, p, d].
        people: [n], who each is of.
        probes: [n], True for what is searched with; all others are enrolled.
        mean: [p, d] that is subtracted from both sides.
    """
    ids = np.unique(people[~probes])
    enrolled = np.stack([embeddings[(people == x) & ~probes].mean(0) for x in ids])
    searched = np.isin(people, ids) & probes
    distances = distance.pairwise(embeddings[searched], enrolled, mean)  # [i, j]
    right = people[searched][:, None] == ids[None]
    nearest = right[np.arange(len(right)), distances.argmin(1)]
    genuine, impostor = distances[right], np.sort(distances[~right])
    nearer = [np.searchsorted(impostor, genuine, side) for side in ("left", "right")]
    return Search(nearest, 1 - (nearer[0] + nearer[1]) / 2 / len(impostor))
