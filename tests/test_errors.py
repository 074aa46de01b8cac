"""Errors: a stable code, a remedy and an exit code each, for people and for programs."""

import errno
import pickle
import re

import pytest

from cstl_edge.errors import EXIT_CODES, ConfigError, DataError, StorageError, error_kinds

KINDS = list(error_kinds())


def test_every_kind_has_its_own_code_a_remedy_and_a_known_exit_code():
    assert len({kind.code for kind in KINDS}) == len(KINDS) > 8
    for kind in KINDS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code), kind
        assert kind.__doc__, kind
        assert len(kind.remedy.split()) > 2, kind
        assert kind.exit_code in EXIT_CODES, kind
    assert {kind.exit_code for kind in KINDS} == {*EXIT_CODES} - {0}


def test_remedy_of_an_error_follows_its_message_and_that_of_a_class_is_for_programs():
    error = DataError("expected a video", remedy="give another")
    assert str(error) == "expected a video; give another"
    assert error.record() == {
        "code": "bad-data", "message": "expected a video", "remedy": "give another", "exit_code": 3,
    }  # fmt: skip
    assert str(ConfigError("no")) == "no"
    assert ConfigError("no").record()["remedy"] == ConfigError.remedy


def test_errors_pass_between_processes_whole():
    error = pickle.loads(pickle.dumps(DataError("expected a video", remedy="give another")))
    assert error.record() == DataError("expected a video", remedy="give another").record()


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EACCES, "check its rights")]
)
def test_failed_write_is_an_error_of_storage(number, remedy):
    error = StorageError.of("out/w.mp4", OSError(number, "the reason"))
    assert error.exit_code == 6
    assert str(error).startswith("cannot write out/w.mp4: the reason; ")
    assert remedy in str(error)
