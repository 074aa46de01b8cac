"""Rows of the paper's tables: plan one, train it, evaluate it on held-out people, record it.

A row has a folder that is named by all that shapes its result, so that tables share rows, a killed
row resumes, and a finished one is never trained again. Files: those of a training run, the
embeddings, and `row.json`, written last.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from cstl_edge.checkpoint.weights import load_checkpoint, weights_sha256
from cstl_edge.config import load_config, read_yaml
from cstl_edge.data.splits import FIELD
from cstl_edge.errors import ConfigError
from cstl_edge.evaluation.closed_set import score_pairs
from cstl_edge.evaluation.embed import embed
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.evaluation.evaluate import EvaluationRecord, evaluate
from cstl_edge.evaluation.held_out import CACHE, WALKERS, HeldOut, held_out
from cstl_edge.evaluation.protocols import select_trials
from cstl_edge.foreign import load_json, parsing
from cstl_edge.measure.environment import environment
from cstl_edge.model import CstlConfig
from cstl_edge.output import write_file
from cstl_edge.reproduce.peers.blocks import Peer
from cstl_edge.reproduce.peers.encoder import PeerEncoder
from cstl_edge.reproduce.peers.networks import build_peer
from cstl_edge.reproduce.peers.training import load_peer, train_peer
from cstl_edge.runtime.backends.pytorch import TorchEncoder
from cstl_edge.runtime.base import Encoder
from cstl_edge.training.command import StopSignals, run_training, training_data
from cstl_edge.training.distributed import resolve_device
from cstl_edge.training.presets import SMALL, RowPlan, TablePlan, find_preset
from cstl_edge.training.run_state import CHANGEABLE_KEYS, RESUME, WEIGHTS, prepare_process
from cstl_edge.training.settings import TrainConfig

logger = logging.getLogger(__name__)

CSTL = "cstl"  # network of a row; any other is a peer
PAPER = "paper"  # budget: the table's own preset; any other is the name of a preset
ROW = "row.json"
CLASS_HEAD_FORM = 2  # rows of the head before 2026-11-30 have other names: they are trained anew


class RowRecord(TypedDict):
    """A finished row, as `row.json` has it."""

    data: str  # description of the test people
    weights_sha256: str
    iterations: int
    minutes: float
    result: EvaluationRecord
    hits: dict[str, Any]  # shares of hits, as `hits_by_person` returns them
    configuration: dict[str, Any]
    command: str
    environment: dict[str, Any]


@dataclass(frozen=True)
class TableRow:
    """A planned row, ready to be trained."""

    plan: RowPlan
    preset: Path
    changes: tuple[str, ...]  # `key=value` texts over the preset
    config: TrainConfig
    data: str  # `walkers`, `walkers:FIRST-LAST`, or the prepared folder
    kind: str  # `walkers`, or the kind of dataset as it was prepared
    split: str
    folder: Path

    def held_out(self) -> HeldOut:
        """Return the test people; Walkers are generated where they are missing."""
        return held_out(self.data, CstlConfig.from_dict(self.config.model).size, self.split)

    def record(self) -> RowRecord | None:
        """Return the record that `run_row` wrote, None before that; DataError when damaged."""
        path = self.folder / ROW
        if not path.exists():
            return None
        with parsing(path, "the record of a row", remedy="delete it: the row is evaluated again"):
            record: RowRecord = load_json(path.read_bytes())
        return record


def plan_row(
    table: TablePlan,
    plan: RowPlan,
    data: Sequence[str],
    root: Path,
    *,
    budget: str = PAPER,
    split: str = FIELD,
    overrides: Sequence[str] = (),
) -> TableRow:
    """Return a row, ready to be trained.

    Args:
        table: Plan of the row's table.
        plan: The row's changes of the table's preset.
        data: `walkers` as for `held_out`, or prepared folders, of which the one of the row's size
            is taken.
        root: Folder of all rows.
        budget: PAPER for the preset of the table; any other name is the preset of all rows.
        split: Division of a dataset into people to train on and people to test.
        overrides: `key=value` texts for every row.

    Raises:
        ConfigError: for a configuration or data of another size.
        DataError: for data that cannot be read.
    """
    preset = find_preset((plan.preset or table.preset) if budget == PAPER else budget)
    changes = [f"model.{key}={json.dumps(value)}" for key, value in plan.model.items()]
    changes += [*_people(preset, data, split, (*changes, *overrides)), *overrides]
    config = load_config(TrainConfig, preset, changes)
    if _is_walkers(data) and config.walkers is not None:
        place, kind = data[0], WALKERS  # of the name: the test people, the code that makes Walkers
        name = f"{place.replace(':', '-')}-{config.walkers.fingerprint()[:8]}"
    else:
        place, held = _of_size(data, CstlConfig.from_dict(config.model).size, split)
        kind = held.kind
        name = f"{kind}-{hashlib.sha256(f'{held.source} {split}'.encode()).hexdigest()[:8]}"
    folder = root / name / row_name(config, plan)
    return TableRow(plan, preset, tuple(changes), config, place, kind, split, folder)


def row_name(config: TrainConfig, plan: RowPlan | None = None) -> str:
    """Return a name: the network in words, then a hash of all that shapes the weights.

    Values that are defaults stay out of the hash, so that a new setting renames nothing.

    config: of the training
    plan: of the row, where it may be of a peer
    """
    network = CstlConfig.from_dict(config.model)
    default = CstlConfig().to_dict()
    shape = config.model_dump(mode="json", exclude_defaults=True)
    shape["model"] = {k: v for k, v in network.to_dict().items() if v != default.get(k)}
    if network.salient:
        shape["class_head"] = CLASS_HEAD_FORM
    shape["run"] = {
        k: v for k, v in shape["run"].items() if k not in CHANGEABLE_KEYS - {"iterations"}
    }
    if plan is not None and plan.network != CSTL:
        shape["peer"] = {"network": plan.network, **plan.peer}
        shape["model"] = {"size": network.size}
        shape.pop("class_head", None)
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
    if plan is not None and plan.network != CSTL:
        return f"{plan.network}-{digest[:10]}"
    salient = "ssfl" if network.salient else "plain"
    return "-".join([*network.scales, network.aggregation, salient, digest[:10]])


def run_row(row: TableRow, *, workers: int = 2, command: str = "") -> bool:
    """Train a row to its end, evaluate it and write its record; False when it was stopped.

    Args:
        row: The row; one with a record is left alone.
        workers: Number of processes that load data.
        command: The command line, for the record.

    Raises:
        ConfigError: where the row is trained on the people that it is tested on.
    """
    if row.record() is not None:
        return True
    held = row.held_out()
    _refuse_trained(held, row.config)
    resume = (row.folder / RESUME).exists()
    logger.info("%s %r in %s", "resuming" if resume else "training", row.plan.name, row.folder)
    data = None if row.kind == WALKERS else row.data
    weights = row.folder / WEIGHTS
    if row.plan.network == CSTL:
        finished = run_training(
            row.preset,
            row.changes,
            data=data,
            folder=row.folder,
            resume=resume,
            cache=CACHE,
            workers=workers,
            command=command,
        )
        weights, stopped = finished.weights, finished.stopped
    else:
        stopped = not _train_peer(row, data, weights, workers)
    if stopped:
        return False
    record = _evaluate(row, held, weights, command)
    write_file(row.folder / ROW, json.dumps(record))
    return True


def hits_by_person(walks: LabelledEmbeddings, protocol: str) -> dict[str, Any]:
    """Return every person's share of hits by condition, as the protocol averages views.

    `people` has their ids; each condition has a share 0..1 per person, None without a probe. Paired
    differences of two rows follow from these alone.
    """
    searched = select_trials(walks, protocol)
    people = np.unique(walks.people[np.concatenate(list(searched.probes.values()))])
    hits: dict[str, Any] = {"people": people.tolist()}
    for name, probes in searched.probes.items():
        cells = score_pairs(walks, searched, probes, people)
        probed = cells.counts > 0
        pairs = np.where(probed, cells.sums[..., 0] / np.maximum(cells.counts, 1), np.nan)
        shares = [_mean_of_means(person) for person in pairs]  # each [probe views, gallery views]
        hits[name] = [None if np.isnan(share) else round(share, 6) for share in shares]
    return hits


def _evaluate(row: TableRow, held: HeldOut, weights: Path, command: str) -> RowRecord:
    """Return the record of trained weights on the row's test people."""
    encoder, training = _open(row, weights)
    embedded = embed(encoder, held.data, row.folder / "embeddings", held.rows, source=held.source)
    return {
        "data": held.description,
        "weights_sha256": encoder.info.weights_sha256,
        "iterations": training["iterations"],
        "minutes": training["minutes"],
        "result": evaluate(embedded, held.protocol),
        "hits": hits_by_person(embedded.labelled, held.protocol),
        "configuration": row.config.model_dump(mode="json"),
        "command": command,
        "environment": environment(),
    }


def _open(row: TableRow, weights: Path) -> tuple[Encoder, dict[str, Any]]:
    """Return a trained row as an encoder, and iterations and minutes of its training."""
    device, name = resolve_device(row.config.run.device), row.folder.name
    if row.plan.network == CSTL:
        model, training = load_checkpoint(weights)
        return TorchEncoder(model.to(device), name, weights_sha256(weights)), training
    peer, record = load_peer(row.plan.network, lambda _: _peer(row), weights)
    minutes = round(record["processor_s"] / 60, 1)
    size = CstlConfig.from_dict(row.config.model).size
    encoder = PeerEncoder(cast(Peer, peer.to(device)), name, record["weights_sha256"], size)
    # It has no features of single frames, which the evaluation of whole sequences does not ask for.
    return cast(Encoder, encoder), {"iterations": record["iterations"], "minutes": minutes}


def _train_peer(row: TableRow, data: str | None, weights: Path, workers: int) -> bool:
    """Train a peer to its end by the settings of the row; False when it was stopped."""
    config = row.config
    prepare_process(config.run)
    with StopSignals() as stop:
        people = training_data(config, data, CACHE, workers)
        return train_peer(
            row.plan.network,
            lambda _: _peer(row),
            config,
            people,
            weights,
            progress=logger.info,
            stop_requested=stop,
        )


def _peer(row: TableRow) -> Peer:
    return build_peer(row.plan.network, row.plan.peer)


def _people(preset: Path, data: Sequence[str], split: str, changes: Sequence[str]) -> list[str]:
    """Return the changes that give a preset the training people of `data`."""
    if not _is_walkers(data):
        return ["walkers=null", f"data.split={'auto' if split == FIELD else split}"]
    walkers = read_yaml(preset).get("walkers") or read_yaml(find_preset(SMALL))["walkers"]
    model = load_config(TrainConfig, preset, [*changes, "walkers=null"]).model
    return [f"walkers={json.dumps({**walkers, 'size': CstlConfig.from_dict(model).size})}"]


def _of_size(data: Sequence[str], size: tuple[int, int], split: str) -> tuple[str, HeldOut]:
    """Return the data whose silhouettes have a size, and its test people."""
    sizes = []
    for place in data:
        held = held_out(place, size, split)
        if held.data.size == size:
            return place, held
        sizes.append("x".join(map(str, held.data.size)))
    needed = "x".join(map(str, size))
    raise ConfigError(
        f"this row takes silhouettes of {needed}; --data has {' and '.join(sizes)}. Prepare them: "
        f"cstl-edge data prepare … --size {needed}, and give that folder with another --data"
    )


def _refuse_trained(held: HeldOut, config: TrainConfig) -> None:
    """Refuse to test Walkers on those who are trained on (ConfigError)."""
    trained = config.walkers
    if held.kind == WALKERS and trained is not None:
        ids = np.arange(trained.first, trained.first + trained.people)
        if both := np.intersect1d(held.data.people, ids).tolist():
            raise ConfigError(
                f"expected test people whom no row is trained on ({ids[0]} to {ids[-1]}); --data "
                f"has {both[0]} of them. Give other ids"
            )


def _is_walkers(data: Sequence[str]) -> bool:
    return len(data) == 1 and (data[0] == WALKERS or data[0].startswith(f"{WALKERS}:"))


def _mean_of_means(pairs: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return the mean over gallery views, then over probe views; NaN when nothing is there."""
    by_view = [np.nanmean(views) for views in pairs if not np.isnan(views).all()]
    return float(np.mean(by_view)) if by_view else float("nan")
