"""Output of `cstl-edge build`: text, JSON, and one-line errors."""

import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mask_networks import blue_squares, student
from standin_engines import seal

from cstl_edge.cli import app
from cstl_edge.live.segmentation.open import open_segmenter
from cstl_edge.runtime import load
from cstl_edge.runtime.masks.open import open_mask_network
from cstl_edge.runtime.tensorrt.record import read_record

SIZES = ["--walkers", "8", "--window", "6", "--frames", "12", "--plugin", "off"]
SMALL = [*SIZES, "--graphs", "frames,head"]


def call(monkeypatch, capsys, *words):
    """Run the command line in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["cstl-edge", "build", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_build_prints_engines(folder, here, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, folder, *SMALL)
    assert code == 0
    assert f"wrote {folder / 'engines' / 'tensorrt'}" in out
    assert "frames: float32 for sm_87 (Orin), tensorrt 10.3.0, part gather: none in this" in out
    assert "head: float32 for sm_87 (Orin), tensorrt 10.3.0, part gather: function body" in out
    assert "least cosine 1.000000 beside ONNX Runtime" in out
    load(folder, backend="tensorrt").close()


def test_build_prints_engines_as_json(folder, here, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, folder, *SIZES, "--json", "--graphs", "head")
    printed = json.loads(out)
    assert code == 0
    assert set(printed["engines"]) == {"head"}
    assert printed["engines"]["head"]["profiles"][1]["features"]["max"] == [4, 12, 4, 16]


def seal_mask(folder, network, **changes):
    """Write the record of a mask engine, but no plan that could be opened."""
    seal(folder)
    place = folder / "engines" / "tensorrt"
    record = json.loads((place / "frames.plan.json").read_text())
    sizes = dict.fromkeys(("min", "opt", "max"), (1, 64, 64, 3))
    record |= {"graph": "mask", "profiles": [{"crops": sizes}], **changes}
    (place / "mask.plan.json").write_text(json.dumps(record))


def test_people_are_masked_by_an_engine_beside_the_others(
    folder, here, monkeypatch, capsys, tmp_path
):
    """Of whichever network: its manifest is all that is known of it."""
    network = student(tmp_path)
    monkeypatch.setattr("cstl_edge.runtime.masks.check.run_probe", lambda *_: None)
    words = ["--precision", "float32", "--mask-network", network]
    code, out, err = call(monkeypatch, capsys, folder, *SIZES, *words)
    assert code == 0, err
    assert "mask: float32 for sm_87 (Orin), tensorrt 10.3.0, " in out
    assert "masks agree to 1.0000 with ONNX Runtime, float32" in out
    record = read_record(folder / "engines" / "tensorrt", "mask")
    assert record.memory["plan"] > 0
    assert [profile["crops"].max for profile in record.profiles] == [
        (1, 64, 64, 3),
        (16, 64, 64, 3),
    ]
    assert record.options["mask-network"] == str(network)
    with closing(load(folder, backend="tensorrt")) as encoder:
        engines = Path(encoder.info.engines)
    masks = open_mask_network(network, model=engines)
    crops, expected = blue_squares(5)
    logits, presence = masks(crops)
    assert masks.provider == "Orin (TensorRT 10.3.0, float32)"
    np.testing.assert_array_equal(logits > 0, expected)
    np.testing.assert_array_equal(presence > 0.5, [False, True, True, True, True])
    masks.close()
    segmenter = open_segmenter(str(network), model=engines)  # as `live` does
    assert segmenter._network.provider == masks.provider


def test_an_engine_of_another_mask_network_is_not_used(folder, here, monkeypatch, tmp_path, caplog):
    """People are masked on the CPU then, and a line says why."""
    monkeypatch.setattr("cstl_edge.runtime.masks.check.run_probe", lambda *_: None)
    network = student(tmp_path)
    seal_mask(folder, network, onnx_sha256="0" * 64)
    masks = open_mask_network(network, model=folder)
    assert masks.provider == "CPUExecutionProvider"
    assert "the engine mask was built from" in caplog.text
    (folder / "engines" / "tensorrt" / "mask.plan.json").unlink()
    caplog.clear()
    assert open_mask_network(network, model=folder).provider == "CPUExecutionProvider"
    assert "no engine masks people" in caplog.text


def test_the_rebuild_command_is_understood(folder, here, monkeypatch, capsys):
    words = ["--workspace", "300", "--level", "2", "--precision", "float32"]
    call(monkeypatch, capsys, folder, *SMALL, *words)
    encoder = load(folder, backend="tensorrt")
    from cstl_edge.runtime.tensorrt.record import rebuild_command

    built = read_record(folder / "engines" / "tensorrt", "head")
    encoder.close()
    command = rebuild_command(built, folder).split()
    assert command[:3] == ["cstl-edge", "build", str(folder)]
    code, _, _ = call(monkeypatch, capsys, *command[2:])
    assert code == 0
    again = read_record(folder / "engines" / "tensorrt", "head")
    assert (again.options, again.profiles) == (built.options, built.profiles)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--for", "rtx-sm"], 2, "rtx-sm89"),
        (["--plugin", "perhaps"], 2, "auto, on or off"),
        (["--walkers", "0"], 2, "from 1 to 32"),
        (["--precision", "fp8"], 2, "float32"),
        (["--precision", "fp16"], 4, "--precision fp16"),
    ],
)
def test_invalid_options_give_one_line(folder, monkeypatch, capsys, words, code, message):
    got, out, err = call(monkeypatch, capsys, folder, *words)
    assert (got, out) == (code, "")
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert message in err
