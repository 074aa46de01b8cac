"""Output check: wrong outputs are refused, rounding is tolerated."""

import numpy as np
import pytest

from cstl_edge.bench.output_check import LIMITS, OutputCheck
from cstl_edge.numerics import TOLERANCES


def check_against(reference, precision="float32"):
    return OutputCheck("reference", reference, LIMITS[precision])


def test_a_part_from_another_frame_is_left_out_but_counted():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, 16, 8)).astype(np.float32)
    frames = np.arange(16, dtype=np.int32)[None]
    other, moved = embedding.copy(), frames.copy()
    other[0, 3], moved[0, 3] = -embedding[0, 3], 7
    for precision, ok in (("float16", True), ("float32", False)):
        result = check_against({"embedding": embedding, "salient_frames": frames}, precision)
        result.add({"embedding": other, "salient_frames": moved})
        assert (result.ok, result.other_frames) == (ok, 1)
        assert result.check.cosine == pytest.approx(1.0)
        assert "1 parts from another frame" in result.check.reference


def test_of_many_answers_the_share_of_other_frames_counts():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, 16, 8)).astype(np.float32)
    frames = np.arange(16, dtype=np.int32)[None]
    moved = np.where(np.arange(16) < 8, 20, frames).astype(np.int32)
    right = {"embedding": embedding, "salient_frames": frames}
    other = np.where(moved[..., None] == 20, -embedding, embedding)
    result = check_against(right, "int8")
    result.add({"embedding": other, "salient_frames": moved})
    assert not result.ok
    assert "8 parts of 1 answers" in result.problem
    result.add(right)
    assert result.ok
    alike = check_against(right, "int8")
    alike.add({"embedding": embedding * np.float32(1.01), "salient_frames": moved})
    assert alike.ok, "other frames that say the same"


def test_another_frame_by_a_tie_is_free_and_counted():
    """Half of the parts come from frame 20, whose score is 5 % or 20 % below that of their own."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, 16, 8)).astype(np.float32)
    frames = np.arange(16, dtype=np.int32)[None]
    moved = np.where(np.arange(16) < 8, 20, frames).astype(np.int32)
    other = np.where(moved[..., None] == 20, -embedding, embedding)
    for score, ok, ties in ((0.95, True, 8), (0.8, False, 0)):
        scores = np.zeros((1, 16, 30), np.float32)
        scores[0, np.arange(16), np.arange(16)] = 1
        scores[0, :8, 20] = score
        reference = {"embedding": embedding, "salient_frames": frames, "scores": scores}
        result = check_against(reference, "int8")
        result.add({"embedding": other, "salient_frames": moved})
        assert (result.ok, result.all_other_frames, result.ties) == (ok, 8, ties)
        assert f"8 parts of 1 answers from another frame, {ties} of them ties" in result.problem
    assert "of them ties" not in result.check.reference


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_an_answer_without_a_number_is_wrong(spoilt):
    features = np.ones((2, 4, 8), np.float32)
    bad = features.copy()
    bad[1, 2, 3] = spoilt
    result = check_against({"features": features}, "int8")
    result.add({"features": bad})
    assert not result.ok
    assert result.check.cosine == -1.0


def test_an_answer_of_another_shape_is_wrong():
    result = check_against({"features": np.ones((2, 4, 8), np.float32)})
    result.add({"features": np.ones((1, 4, 8), np.float32)})
    assert not result.ok


def test_a_right_direction_of_another_length_is_wrong_in_float32():
    result = check_against({"features": np.ones((2, 4, 8), np.float32)})
    result.add({"features": np.full((2, 4, 8), 1.001, np.float32)})
    assert result.check.cosine == pytest.approx(1.0)
    assert not result.ok


def test_a_part_without_a_pixel_agrees_with_itself():
    result = check_against({"features": np.zeros((2, 4, 8), np.float32)})
    result.add({"features": np.zeros((2, 4, 8), np.float32)})
    assert result.ok


def test_the_limits_are_the_exporters():
    assert LIMITS["float32"].relative == TOLERANCES["parity"]["float32"].relative
    assert LIMITS["float16"].cosine == TOLERANCES["gate"]["fp16"].cosine
    assert LIMITS["int8"].cosine == TOLERANCES["gate"]["int8"].cosine
    assert LIMITS["int8"].tie == TOLERANCES["gate"]["int8"].tie
