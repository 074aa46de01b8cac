"""Strict configuration: unknown, wrong and dangerous values are refused by name."""

import pytest
from pydantic import BaseModel, ConfigDict

from cstl_edge.config import load_config
from cstl_edge.errors import ConfigError


class Sampler(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    frames: int = 30


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    sampler: Sampler = Sampler()
    rate: float = 0.1
    other: Sampler | None = None


def test_later_sources_of_values_win(tmp_path):
    (tmp_path / "c.yaml").write_text("rate: 0.2\nsampler: {frames: 16}\n")
    settings = load_config(Settings, tmp_path / "c.yaml", ["sampler.frames=25"])
    assert settings == Settings(rate=0.2, sampler=Sampler(frames=25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampler: {frame: 1}", "unknown key 'sampler.frame'. Did you mean 'frames'"),
        ("other: {frame: 1}", "unknown key 'other.frame'. Did you mean 'frames'"),
        ("speed: 1", "Known keys: other, rate, sampler"),
        ("rate: fast", "rate: .*valid number"),
        ("- 1", "expected `key: value`"),
        ("a: [", "expected a YAML file of settings; got"),
        ("a: &x [1]\nb: *x", "alias"),
    ],
)
def test_bad_files_are_refused_with_an_explanation(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(Settings, tmp_path / "c.yaml")


def test_huge_and_missing_files_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("#" * (2**18 + 1))
    with pytest.raises(ConfigError, match="at most 262144 bytes"):
        load_config(Settings, tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(Settings, tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["rate", "=1", "rate.x=1"])
def test_bad_overrides_are_refused(text):
    with pytest.raises(ConfigError):
        load_config(Settings, None, ["rate=1", text])
