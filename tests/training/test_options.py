"""Training options: half precision, accumulation, compilation, devices, sizes."""

import json

import numpy as np
import pytest
import torch
from standin_people import Bars

from cstl_edge.checkpoint.weights import read_header
from cstl_edge.errors import ConfigError
from cstl_edge.model.backbone import Backbone
from cstl_edge.training.run_state import RESUME, start_run
from cstl_edge.training.trainer import TrainingStep, train

from .conftest import config, log, tensor_bytes


def gradients(run, folder, numbers):
    step = TrainingStep(run, folder)
    losses = [step.backward(run.sampler.batch(i), last=i == numbers[-1]) for i in numbers]
    return {name: p.grad.clone() for name, p in run.model.named_parameters()}, losses


def test_accumulated_gradient_is_the_mean_over_the_batches(tmp_path):
    both, losses = gradients(start_run(config("run.accumulate=2"), Bars()), tmp_path, [0, 1])
    first, (one,) = gradients(start_run(config(), Bars()), tmp_path, [0])
    second, (two,) = gradients(start_run(config(), Bars()), tmp_path, [1])
    assert [x.total for x in losses] == [one.total, two.total]  # no triplet spans the two
    for name, gradient in both.items():
        mean = (first[name] + second[name]) / 2
        torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-4, msg=name)


def test_accumulated_batches_continue_after_a_stop(tmp_path):
    settings = config("run.accumulate=2", "run.iterations=4", "run.log_every=1")
    straight = train(settings, Bars(), tmp_path / "straight")
    stops = iter([False, False, True])
    train(settings, Bars(), tmp_path / "cut", stop_requested=lambda: next(stops))
    metadata, _ = read_header(tmp_path / "cut" / RESUME)
    assert json.loads(metadata["run"])["sampler"]["next_batch"] == 4
    cut = train(settings, Bars(), tmp_path / "cut", resume=True)
    assert tensor_bytes(straight) == tensor_bytes(cut)


def test_float16_run_learns_and_resumes_with_its_loss_scale(tmp_path):
    options = ["run.precision=float16", "run.iterations=12", "run.log_every=1",
               "optimiser.clip_norm=5"]  # fmt: skip
    straight = train(config(*options), Bars(), tmp_path / "straight")
    train(config(*options, "run.iterations=6"), Bars(), tmp_path / "cut")
    cut = train(config(*options), Bars(), tmp_path / "cut", resume=True)
    assert tensor_bytes(straight) == tensor_bytes(cut)
    scale = json.loads(read_header(tmp_path / "cut" / RESUME)[0]["run"])["scaler"]["scale"]
    assert 1 < scale <= 2**16
    losses = [line["loss"] for line in log(tmp_path / "cut")]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_loss_is_near_float32(tmp_path, precision):
    _, (wide,) = gradients(start_run(config(), Bars()), tmp_path, [0])
    run = start_run(config(f"run.precision={precision}"), Bars())
    _, (half,) = gradients(run, tmp_path, [0])
    assert half.total == pytest.approx(wide.total, rel=0.02)
    assert half.total != wide.total
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_overflowing_float16_gradient_changes_no_weight(tmp_path):
    run = start_run(config("run.precision=float16"), Bars())
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 2.0**100})
    before = run.model.embed.weight.detach().clone()
    step = TrainingStep(run, tmp_path)
    step.backward(run.sampler.batch(0), last=True)
    step.update()
    assert torch.equal(run.model.embed.weight, before)
    assert run.scaler.get_scale() == 2.0**99


def test_compiled_trunk_has_the_gradients_of_the_eager_trunk(tmp_path, monkeypatch):
    plain, _ = gradients(start_run(config(), Bars()), tmp_path, [0])
    graphs = []

    def backend(graph, inputs):  # the real one would call the C++ compiler
        graphs.append(graph)
        return graph.forward

    compiled = Backbone.compile
    monkeypatch.setattr(Backbone, "compile", lambda trunk: compiled(trunk, backend=backend))
    run = start_run(config("run.compile=true"), Bars())
    compiled_gradients, _ = gradients(run, tmp_path, [0])
    assert len(graphs) == 1  # the whole trunk in one graph
    assert set(compiled_gradients) == set(plain)
    for name, gradient in compiled_gradients.items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-6, rtol=1e-4, msg=name)


def test_compile_without_a_compiler_is_refused_at_start(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "c++-of-nowhere")
    with pytest.raises(ConfigError, match=r"found none of c\+\+-of-nowhere, clang\+\+"):
        start_run(config("run.compile=true"), Bars())


def test_silhouettes_of_another_size_are_refused():
    with pytest.raises(ConfigError, match=r"expected silhouettes of \[128, 88\], got \[64, 44\]"):
        start_run(config("model.size=[128, 88]"), Bars())


def test_cuda_device_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="expected a GPU"):
        start_run(config("run.device=cuda"), Bars())
