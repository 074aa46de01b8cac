"""Output of `cstl-edge build`: text, JSON, and one-line errors."""

import json
import sys

import pytest

from cstl_edge.cli import app
from cstl_edge.runtime import load

SMALL = ["--walkers", "8", "--window", "6", "--frames", "12", "--plugin", "off"]


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
    code, out, _ = call(monkeypatch, capsys, folder, *SMALL, "--json", "--graphs", "head")
    printed = json.loads(out)
    assert code == 0
    assert set(printed["engines"]) == {"head"}
    assert printed["engines"]["head"]["profiles"][1]["features"]["max"] == [4, 12, 4, 16]


def test_the_rebuild_command_is_understood(folder, here, monkeypatch, capsys):
    words = ["--workspace", "300", "--level", "2", "--precision", "float32"]
    call(monkeypatch, capsys, folder, *SMALL, *words)
    encoder = load(folder, backend="tensorrt")
    from cstl_edge.runtime.tensorrt.record import read_record, rebuild_command

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
