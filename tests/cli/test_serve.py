"""Verbs `config` and `serve`: what they print, and how they end."""

import json

import pytest
from command_line import call

GOOD = "cameras:\n  a: {source: synthetic://1}\n"
BAD = GOOD + "zones: 1\nfpir: 3\n"


def written(folder, text):
    path = folder / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_check_lists_everything_by_line(tmp_path):
    result = call("config", "check", written(tmp_path, BAD))
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert "site.yaml:3: unknown key 'zones'. Did you mean 'cameras.NAME.zones'?" in lines[0]
    assert "site.yaml:4: fpir: " in lines[1]
    assert lines[2].endswith("site.yaml has 2 mistakes")
    machine = call("config", "check", written(tmp_path, BAD), "--json")
    assert machine.returncode == 2
    assert [p["line"] for p in json.loads(machine.stdout)["problems"]] == [3, 4]


def test_check_of_a_good_file(tmp_path):
    result = call("config", "check", written(tmp_path, GOOD))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("site.yaml is valid: 1 camera\n")
    machine = json.loads(call("config", "check", written(tmp_path, GOOD), "--json").stdout)
    assert machine == {"valid": True, "problems": [], "cameras": ["a"]}


def test_check_looks_at_the_model_too(tmp_path):
    result = call("config", "check", written(tmp_path, GOOD + "model: none.safetensors\n"))
    assert result.returncode == 4
    assert "none.safetensors" in result.stderr


def test_no_yaml_and_no_file_are_one_line(tmp_path):
    broken = call("config", "check", written(tmp_path, "cameras: [\n"))
    missing = call("config", "check", tmp_path / "none.yaml")
    for result in (broken, missing):
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1


def test_init_writes_a_valid_file_once(tmp_path):
    path = tmp_path / "new.yaml"
    assert call("config", "init", path).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert call("config", "check", path).returncode == 0
    again = call("config", "init", path)
    assert again.returncode == 2
    assert call("config", "init", path, "--overwrite").returncode == 0
    assert call("config", "init", tmp_path / "new.txt").returncode == 2


def test_the_schema_is_json():
    schema = json.loads(call("config", "schema").stdout)
    assert schema["$schema"].endswith("draft-07/schema#")
    assert schema["additionalProperties"] is False


def test_strict_ends_at_once_with_the_line(tmp_path):
    pytest.importorskip("starlette", reason="needs the extra serve")
    result = call("serve", written(tmp_path, BAD), "--strict")
    assert result.returncode == 2
    assert "site.yaml:3: unknown key 'zones'" in result.stderr
    assert "(and 1 more)" in result.stderr


def test_a_file_that_is_not_there_ends_at_once(tmp_path):
    pytest.importorskip("starlette", reason="needs the extra serve")
    result = call("serve", tmp_path / "nothing.yaml")
    assert result.returncode == 2
    assert "there is no file" in result.stderr
    assert "cstl-edge config init" in result.stderr
    assert list(tmp_path.iterdir()) == []
