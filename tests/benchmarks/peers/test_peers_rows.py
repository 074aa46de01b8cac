"""Rows of the peers: training, embedding, costs, and their Markdown tables."""

from contextlib import contextmanager

import numpy as np
import pytest
from standin_people import TINY, Bars

from cstl_edge.bench.record import ModelUnderTest, Row

FIGURES = ("rank1_nm", "rank1_bg", "rank1_cl", "rank1")


@pytest.fixture(scope="module")
def config(torch):
    from cstl_edge.config import load_config
    from cstl_edge.training.presets import find_preset
    from cstl_edge.training.settings import TrainConfig

    return load_config(TrainConfig, find_preset("small"), [*TINY, "run.precision=float32"])


@contextmanager
def registered(peers):
    """The registry with one network more, windows of five frames, no time to warm up."""
    entry = peers.networks.Network(
        lambda _: peers.gaitpart.GaitPart((4, 4, 4), 3),
        lambda: peers.gaitpart.GaitPart((4, 8, 8), 3),
        (4, 4, 4),
        (4, 8, 8),
        "part features",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(peers.networks.NETWORKS, "tiny", entry)
        patch.setattr(peers.cost, "WARM_UP_S", 0.0)
        for module in (peers.running, peers.cost):
            patch.setattr(module, "FRAMES", 5)
        yield "tiny"


@pytest.fixture
def tiny_network(peers):
    with registered(peers) as name:
        yield name


@pytest.fixture(scope="module")
def trained(peers, config, tmp_path_factory):
    """The weights of a whole training."""
    weights = tmp_path_factory.mktemp("whole") / "w.safetensors"
    with registered(peers) as name:
        peers.training.train(name, config, Bars(), weights, lambda _: None)
    return weights


def test_a_killed_training_ends_with_the_same_weights(
    peers, config, tiny_network, trained, tmp_path
):
    killed = tmp_path / "killed" / "w.safetensors"

    def stop(line):
        if "4/8" in line:
            raise KeyboardInterrupt

    run = config.run.model_copy(update={"checkpoint_minutes": 1e-9})  # after every iteration
    often = config.model_copy(update={"run": run})
    with pytest.raises(KeyboardInterrupt):
        peers.training.train(tiny_network, often, Bars(), killed, stop)
    assert [path.name for path in killed.parent.iterdir()] == ["resume.safetensors"]
    lines = []
    peers.training.train(tiny_network, config, Bars(), killed, lines.append)
    assert lines[0].startswith("tiny: 4/8")
    assert [path.name for path in killed.parent.iterdir()] == [killed.name]
    one, other = (peers.training.load(tiny_network, path) for path in (trained, killed))
    assert one[1]["weights_sha256"] == other[1]["weights_sha256"]
    assert one[1]["iterations"] == 8


def test_a_finished_training_is_not_repeated(peers, config, tiny_network, trained):
    lines = []
    peers.training.train(tiny_network, config, Bars(), trained, lines.append)
    assert not lines


def test_every_network_sees_the_same_batches_from_the_same_rates(peers, config):
    runs = [peers.training.start(name, config, Bars()) for name in peers.networks.NETWORKS]
    for number in (0, 5):
        first, *others = (run.sampler.batch(number) for run in runs)
        assert all((first.silhouettes == other.silhouettes).all() for other in others)
    assert len({run.optimiser.param_groups[0]["lr"] for run in runs}) == 1
    assert [run.model.config.classes for run in runs[:2]] == [8, 0]  # CSTL, and without SSFL


def test_weights_of_another_network_are_refused(peers, trained):
    from cstl_edge.errors import ModelError

    with pytest.raises(ModelError, match="expected weights of GaitSet, got tiny"):
        peers.training.load("GaitSet", trained)


def test_shorter_sequences_are_embedded_without_their_padding(peers, tiny, walk):
    encoder = peers.encoder.PeerEncoder(tiny["gaitpart"], "tiny", "")
    silhouettes = walk.numpy().copy()
    alone = encoder.encode(silhouettes[:1, :4]).embedding
    silhouettes[0, 4:] = 77  # padding, whatever it holds
    batch = encoder.encode(silhouettes, np.array([4, 7], np.int32))
    assert np.allclose(batch.embedding[:1], alone, atol=1e-6)
    assert np.allclose(batch.embedding[1:], encoder.encode(silhouettes[1:]).embedding, atol=1e-6)


@pytest.fixture
def costs(peers, tiny_network):
    """A call that measures the costs of the tiny network."""
    pytest.importorskip("onnxruntime")
    about = {"run": "r", "environment": {}}
    rows = peers.cost.cost_rows("published", [tiny_network], about, threads=1, seconds=0.0)
    return lambda: list(rows)


def test_costs_are_counted_timed_and_checked(costs):
    rows = costs()
    assert [(row.contender, row.case.graph) for row in rows] == [
        (f"{backend} float32", graph)
        for backend in ("pytorch", "onnxruntime")
        for graph in ("full", "streaming")
    ]
    for row in rows:
        assert len(row.samples["wall"]) >= 5
        assert row.check.ok
        assert row.subject.widths == (4, 8, 8)
        assert not row.subject.trained
    whole, further = (row.values["multiply_adds"] for row in rows[:2])
    assert further < whole / 2


def test_a_network_with_wrong_outputs_has_no_time(monkeypatch, peers, costs):
    right = peers.running.Onnx.whole
    monkeypatch.setattr(peers.running.Onnx, "whole", lambda self, x: right(self, x) + 0.01)
    rows = costs()
    wrong = {(row.ran.backend, row.case.graph) for row in rows if not row.samples}
    assert wrong == {("onnxruntime", "full")}
    assert all(row.skipped for row in rows if not row.samples)


def test_memory_that_a_network_touches_is_found(peers):
    held = []

    def use(size_mb):
        held.append(np.ones(size_mb << 20, np.uint8))
        held.clear()

    peak = peers.cost.peak_of(lambda: use(64))
    if peak is None:
        pytest.skip("this system tells no peak of a process")
    assert 60 < peak < 80
    assert peers.cost.peak_of(lambda: None) < 4


def accuracy_row(name, share, iterations=1000):
    hits = {"people": [1, 2, 3, 4], **{x: [share] * 4 for x in ("nm", "bg", "cl")}}
    training = {"configuration": {"sampler": {"people": 8, "sequences": 4, "frames": 12}}}
    training["configuration"]["walkers"] = {"people": 420}
    training["configuration"]["run"] = {"precision": "bfloat16", "seed": 1, "threads": 1}
    return Row(
        run="a",
        scenario="peers",
        contender="pytorch float32",
        ran={
            **{"backend": "pytorch", "provider": "cpu", "version": "2"},
            **{"precision": "float32", "computed_in": "float32"},
        },
        subject=ModelUnderTest(name=name, weights_sha256="", size=(64, 44), parts=16),
        values={**dict.fromkeys(FIGURES, share), "iterations": iterations, "training_s": 321.4},
        intervals=dict.fromkeys(FIGURES, (share - 0.05, share + 0.05)),
        details={"hits": hits, "people": 4, "data": "Walkers", "training": training},
    )


def cost_row(name, values, backend="onnxruntime", graph="full", samples=()):
    row = accuracy_row(name, 0.5)
    return row.model_copy(
        update={
            "ran": row.ran.model_copy(update={"backend": backend, "threads": 2}),
            "case": row.case.model_copy(update={"graph": graph}),
            "values": values,
            "intervals": {},
            "samples": {"wall": list(samples)} if samples else {},
            "details": {"widths": "common cost"},
        }
    )


def line_of(text, name, nth=0):
    return [line for line in text.splitlines() if line.startswith(f"| {name} |")][nth]


def test_the_table_has_accuracy_latency_and_memory_side_by_side(peers):
    counts = {"parameters": 1234, "multiply_adds": 5e6, "kept_bytes_per_frame": 2048}
    text = peers.table.tables(
        [
            accuracy_row("CSTL", 0.5),
            accuracy_row("GaitSet", 0.2),
            accuracy_row("GaitSet", 0.6),  # measured again: the last counts
            cost_row("GaitSet", counts, samples=(9.0, 7.0, 8.0)),
            cost_row("GaitSet", counts, graph="streaming", samples=(1.5, 1.5)),
            cost_row("GaitSet", {"peak_memory_mb": 41.6}),
        ]
    )
    cells = [cell.strip() for cell in line_of(text, "GaitSet").split("|")]
    assert cells[2:6] == ["60.0 (55.0 to 65.0)"] * 4
    assert cells[6:11] == ["+10.0 (+10.0 to +10.0): better", "8.0", "1.5", "42", "321"]
    assert line_of(text, "CSTL").split("|")[6].strip() == ""
    assert "| GaitPart | - | - |" in text
    assert "yet: CSTL without SSFL, GaitPart, GLN, MT3D-style reconstruction." in text


def test_the_table_keeps_budgets_apart(peers):
    rows = [accuracy_row("CSTL", 0.5), accuracy_row("CSTL", 0.7, 2000)]
    text = peers.table.tables(rows)
    assert "2,000 iterations" in text
    assert "| CSTL | 70.0 (65.0 to 75.0)" in line_of(text, "CSTL")
    assert "| CSTL | 50.0 (45.0 to 55.0)" in line_of(text, "CSTL", 1)


def test_the_mt3d_reconstruction_is_named_one_in_every_table(peers):
    text = peers.table.tables([])
    rows = [line for line in text.splitlines() if line.startswith("| MT3D")]
    assert rows
    assert all(row.startswith("| MT3D-style reconstruction |") for row in rows)
