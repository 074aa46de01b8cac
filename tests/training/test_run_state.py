"""Resume files: damage, kill -9 and a full disk during a save, files of older versions."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_disk import small_disk
from standin_people import Bars

from cstl_edge.checkpoint.weights import load_checkpoint, read_header
from cstl_edge.errors import ConfigError, ModelError, StorageError
from cstl_edge.training import recorder, run_state
from cstl_edge.training.run_state import RESUME, WEIGHTS, load_run, save_run, start_run
from cstl_edge.training.trainer import train

from .conftest import config


@pytest.fixture(scope="module")
def second_iteration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(config("run.iterations=2"), Bars(), folder)
    return folder


@pytest.fixture
def folder(tmp_path, second_iteration):
    """A run that has come to its second iteration."""
    return shutil.copytree(second_iteration, tmp_path / "run")


def resume(folder, *overrides):
    run = start_run(config(*overrides), Bars())
    load_run(folder / RESUME, run)
    return run


def rewrite(path, change):
    """Change the tensors and the metadata of a file, without an update of its sha256."""
    tensors, (metadata, _) = load_file(path), read_header(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_flipped_bits_are_refused(folder):
    path = folder / RESUME
    raw = path.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    generator = torch.Generator().manual_seed(1)
    places = [
        *torch.randint(0, header, (25,), generator=generator).tolist(),
        *torch.randint(header, len(raw), (25,), generator=generator).tolist(),
        *(0, header, len(raw) - 1),
    ]
    run = start_run(config(), Bars())
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises((ModelError, ConfigError)):
            load_run(path, run)
    path.write_bytes(raw)
    load_run(path, run)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, -1])
def test_truncated_file_is_refused(folder, keep):
    path = folder / RESUME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="resume"):
        resume(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.embed.weight"), r"embed\.weight"),
        (lambda t: t.update({"model.extra": torch.ones(2)}), "extra"),
        (lambda t: t.update({"model.embed.weight": torch.ones(2, 2)}), r"embed\.weight"),
        (lambda t: t.pop("random"), "random"),
        (
            lambda t: t.update({"adam.999.exp_avg": torch.ones(2)}),
            "expected a checkpoint of this run",
        ),
    ],
    ids=["missing", "unexpected", "mis-shaped", "no random state", "moment of nothing"],
)
def test_error_names_the_offending_key(folder, change, message):
    def without_sha256(tensors, metadata):
        change(tensors)
        del metadata["sha256"]

    rewrite(folder / RESUME, without_sha256)
    with pytest.raises(ModelError, match=message):
        resume(folder)


def test_changed_tensor_fails_the_sha256_check(folder):
    rewrite(folder / RESUME, lambda tensors, _: tensors["model.embed.weight"].view(-1)[:1].add_(1))
    with pytest.raises(ModelError, match=r"sha256 does not match.*--first"):
        resume(folder)


def test_resume_file_without_newer_keys_and_sha256_resumes(folder, caplog):
    """As the trainer wrote them until 2026-11-23: no sha256, no scaler, fewer settings."""
    expected = load_file(train(config(), Bars(), folder / "straight"))

    def age(tensors, metadata):
        state = json.loads(metadata["run"])
        settings = state["config"]
        del metadata["sha256"], state["scaler"], state["best"]
        del settings["data"], settings["evaluate"]
        for key in ("device", "compile", "accumulate", "tensorboard"):
            del settings["run"][key]
        metadata["run"] = json.dumps(state)

    rewrite(folder / RESUME, age)
    resumed = load_file(train(config(), Bars(), folder, resume=True))
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert "before such files had a sha256" in caplog.text


def test_run_with_one_class_matrix_for_all_parts_resumes(folder):
    """As it was until 2026-11-30; the moments of Adam are spread over the parts as well."""

    def age(tensors, metadata):
        number = next(i for i, (k, _) in enumerate(names) if k == "class_head.weight")
        for key in (
            "model.class_head.weight",
            f"adam.{number}.exp_avg",
            f"adam.{number}.exp_avg_sq",
        ):
            tensors[key] = tensors[key][0].clone()
        del metadata["sha256"]

    names = list(start_run(config(), Bars()).model.named_parameters())
    before = load_file(folder / RESUME)["model.class_head.weight"]
    rewrite(folder / RESUME, age)
    weight = resume(folder).model.class_head.weight
    assert weight.shape == before.shape
    assert all(torch.equal(part, before[0]) for part in weight)
    train(config(), Bars(), folder, resume=True)
    assert resume(folder).iteration == 8


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2"}, "float32"), ({"avx512f", "avx512_bf16"}, "bfloat16"), ({"bf16"}, "bfloat16")],
    ids=["AVX2", "AVX-512 with bfloat16", "ARM"],
)
def test_automatic_precision_follows_the_processor(monkeypatch, flags, expected):
    monkeypatch.setattr(run_state, "processor", lambda: ("any", frozenset(flags)))
    assert run_state.resolve_precision("auto", torch.device("cpu")) == expected
    assert run_state.resolve_precision("float16", torch.device("cpu")) == "float16"


def test_resume_on_a_machine_of_another_precision_warns(tmp_path, monkeypatch, caplog):
    settings = config("run.precision=auto", "run.iterations=2")
    monkeypatch.setattr(run_state, "processor", lambda: ("any", frozenset({"avx2"})))
    _, training = load_checkpoint(train(settings, Bars(), tmp_path))
    assert training["precision"] == "float32"
    monkeypatch.setattr(run_state, "processor", lambda: ("any", frozenset({"amx_bf16"})))
    resume(tmp_path, "run.precision=auto", "run.iterations=2")
    assert "saved at float32 and goes on at bfloat16" in caplog.text


def test_unknown_configuration_key_is_named(folder):
    def change(tensors, metadata):
        state = json.loads(metadata["run"])
        state["config"]["optimiser"]["magic"] = 3
        metadata["run"] = json.dumps(state)
        del metadata["sha256"]

    rewrite(folder / RESUME, change)
    with pytest.raises(ConfigError, match=r"optimiser\.magic 3, which this version"):
        resume(folder)


def test_resume_with_other_people_is_refused(folder):
    fewer = Bars()
    fewer.people, fewer.lengths = fewer.people[:28], fewer.lengths[:28]
    with pytest.raises(ConfigError, match="sampler of the saved run"):
        load_run(folder / RESUME, start_run(config(), fewer))


def test_moving_average_and_best_record_are_restored(tmp_path):
    run = start_run(config("optimiser.average_decay=0.5"), Bars())
    run.average.state["embed.weight"].fill_(3.0)
    run.best, run.iteration = {"iteration": 1, "cross_view": 0.5}, 7
    save_run(tmp_path / RESUME, run)
    again = resume(tmp_path, "optimiser.average_decay=0.5")
    assert (again.average.state["embed.weight"] == 3).all()
    assert (again.best, again.iteration) == (run.best, 7)
    assert again.sampler.next_batch == 7


def test_kill_9_during_a_save_leaves_a_whole_checkpoint(folder, in_child):
    """Kills in the middle of the files of an endless row of checkpoints."""
    run = resume(folder)

    def save_for_ever():
        while True:
            run.iteration += 1
            recorder.write_checkpoint(folder, run)

    path, cut, deadline = folder / RESUME, 0, time.monotonic() + 60
    parts = [f".{name}.*.part" for name in (RESUME, WEIGHTS)]
    for kill in range(8):
        before, saved_ns = run.iteration, path.stat().st_mtime_ns
        pid = in_child(save_for_ever)
        while path.stat().st_mtime_ns == saved_ns and time.monotonic() < deadline:
            time.sleep(0.001)
        while not list(folder.glob(parts[kill % 2])) and time.monotonic() < deadline:
            pass  # until it is in the middle of one file or the other
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        cut += any(list(folder.glob(part)) for part in parts)
        load_run(path, run)
        _, training = load_checkpoint(folder / WEIGHTS)
        assert run.iteration > before
        assert training["iterations"] <= run.iteration  # they are written in this order
    assert cut > 2
    end = run.iteration + 1
    train(config(f"run.iterations={end}"), Bars(), folder, resume=True)
    assert resume(folder, f"run.iterations={end}").iteration == end


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_full_disk_leaves_the_last_checkpoint(folder, share):
    good = (folder / RESUME).read_bytes()
    run, fault = resume(folder), r"cannot write .*resume\.safetensors.*[Tt]oo large"
    with small_disk(int(share * len(good))), pytest.raises(StorageError, match=fault):
        recorder.write_checkpoint(folder, run)
    assert (folder / RESUME).read_bytes() == good
    assert not list(folder.glob("*.part"))
    assert not list(folder.glob(".*.part"))
    train(config("run.iterations=3"), Bars(), folder, resume=True)
    assert resume(folder, "run.iterations=3").iteration == 3


def test_full_disk_at_the_log_is_a_storage_error(folder):
    size, fault = (folder / "log.jsonl").stat().st_size, r"cannot write .*log\.jsonl.*[Tt]oo large"
    with small_disk(size), pytest.raises(StorageError, match=fault):
        train(config(), Bars(), folder, resume=True)
    train(config(), Bars(), folder, resume=True)
