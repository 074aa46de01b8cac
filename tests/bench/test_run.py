"""One call of the suite: choices, rows that are written at once, failures that leave a row."""

import shutil
import sys
import types
from pathlib import Path

import pytest
from standin_bench import GOLDEN, quiet

from cstl_edge.bench import run
from cstl_edge.bench.context import DEFAULT_BUDGET, FULL_BUDGET, SHORT_BUDGET
from cstl_edge.bench.record import Case, Row, read_rows
from cstl_edge.errors import BackendUnavailable, ConfigError, ModelError


@pytest.fixture
def scenarios(monkeypatch):
    """Put made-up scenarios in the place of some; returns a function that takes them by name."""

    def take(**by_name):
        for name, rows in by_name.items():
            module = types.SimpleNamespace(rows=rows)
            monkeypatch.setitem(sys.modules, f"cstl_edge.bench.scenarios.{name}", module)

    return take


def row_of(context, scenario, wall=(1.0, 2.0), **fields):
    choices = {"contender": "pytorch float32", "case": Case(graph="full", batch=1)}
    samples = {"wall": list(wall)} if wall else {}
    return Row(run=context.run, scenario=scenario, samples=samples, **choices | fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenarios": ["graph", "speed"]}, "got 'speed'"),
        ({"scenarios": ["grpah"]}, r"got 'grpah'; did you mean graph\?"),
        ({"short": True, "full": True}, "contradict"),
        ({"threads": 0}, "at least 1 thread"),
        ({"network": "small"}, "shipped, paper"),
        ({"network": "paper", "model": GOLDEN / "tiny"}, "leave out"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        run.make_context(run.BenchOptions(**options), quiet)


def test_the_forms_have_their_budgets(monkeypatch):
    folder = GOLDEN / "tiny"
    for choices, budget in (
        ({}, DEFAULT_BUDGET),
        ({"short": True}, SHORT_BUDGET),
        ({"full": True}, FULL_BUDGET),
    ):
        context = run.make_context(run.BenchOptions(model=folder, threads=1, **choices), quiet)
        assert context.budget is budget
        assert context.threads == 1
        assert context.environment["packages"]["onnxruntime"]


def test_the_checkpoint_beside_a_model_is_taken_and_another_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    from cstl_edge.checkpoint.weights import save_checkpoint
    from cstl_edge.model import Cstl, CstlConfig

    context = run.make_context(run.BenchOptions(model=GOLDEN / "tiny"), quiet)
    assert context.weights == GOLDEN / "tiny.safetensors"
    assert context.model.widths == (4, 8, 16, 16)
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, Cstl(CstlConfig(size=(16, 12), widths=(4, 8, 16, 16), parts=4)))
    with pytest.raises(ConfigError, match="different networks"):
        run.make_context(run.BenchOptions(model=GOLDEN / "tiny", weights=other), quiet)
    folder = Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "other"))
    assert run.make_context(run.BenchOptions(model=folder), quiet).weights is None


def test_the_short_form_takes_the_shipped_model_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    context = run.make_context(run.BenchOptions(short=True), quiet)
    assert context.folder.name == "cstl-walkers"
    assert context.weights == context.folder.with_suffix(".safetensors")
    assert context.model.trained
    assert not [*tmp_path.iterdir()]


def test_without_the_exporter_the_shipped_graphs_are_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cstl_edge.export.quantization.calibration_data", None)
    lines = []
    context = run.make_context(run.BenchOptions(), lines.append)
    assert context.folder.name == "cstl-walkers"
    assert "[export]" in lines[0]


def test_every_row_is_written_before_the_next_is_made(plain, scenarios, tmp_path):
    out = tmp_path / "deep" / "rows.jsonl"

    def rows(context):
        for number in range(3):
            assert number == (len([*read_rows(out)]) if out.exists() else 0)
            yield row_of(context, "graph", [float(number)])

    scenarios(graph=rows)
    assert len([*run.run(plain, ["graph"], out)]) == 3
    assert [row.samples["wall"] for row in read_rows(out)] == [[0.0], [1.0], [2.0]]


def test_a_scenario_that_fails_leaves_a_row_and_the_next_one_runs(plain, scenarios, tmp_path):
    def broken(context):
        yield row_of(context, "graph")
        raise ModelError("the model broke")

    scenarios(graph=broken, single=lambda context: iter([row_of(context, "single")]))
    rows = [*run.run(plain, ["graph", "single"], tmp_path / "rows.jsonl")]
    assert [(row.scenario, row.skipped) for row in rows] == [
        ("graph", None),
        ("graph", "the model broke"),
        ("single", None),
    ]


def test_a_bug_is_shown_and_what_was_measured_stays(plain, scenarios, tmp_path):
    def bug(context):
        yield row_of(context, "graph")
        raise ZeroDivisionError

    scenarios(graph=bug)
    with pytest.raises(ZeroDivisionError):
        list(run.run(plain, ["graph"], tmp_path / "rows.jsonl"))
    assert len([*read_rows(tmp_path / "rows.jsonl")]) == 1


def test_when_nothing_was_measured_the_reason_is_reported(plain, scenarios, tmp_path):
    scenarios(graph=lambda context: iter([row_of(context, "graph", wall=(), skipped="no GPU")]))
    with pytest.raises(BackendUnavailable, match="nothing was measured: no GPU"):
        list(run.run(plain, ["graph"], tmp_path / "rows.jsonl"))
