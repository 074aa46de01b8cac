"""Sessions, passwords and tokens on disk."""

import stat

import pytest

from cstl_edge.errors import ConfigError, StorageError
from cstl_edge.serve.web.accounts import Accounts
from cstl_edge.serve.web.passwords import hash_password, read_password_line, verify_password
from cstl_edge.serve.web.sessions import LONGEST_S, Sessions, digest
from cstl_edge.serve.web.settings import PageSettings

PASSWORD = "walk slowly past the gate"


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(tmp_path, clock):
    sessions = Sessions(tmp_path, clock=clock)
    yield sessions
    sessions.close()


def test_a_session_ends_when_it_is_not_used(sessions, clock):
    cookie = sessions.create("ada", "f", "10.0.0.1")
    for _ in range(5):
        clock.now += 50
        assert sessions.find(cookie, idle_s=60).user == "ada"  # use counts
        clock.now += 20
        assert sessions.find(cookie, idle_s=100).user == "ada"
    clock.now += 101
    assert sessions.find(cookie, idle_s=100) is None
    assert sessions.all() == ()


def test_a_session_ends_however_much_it_is_used(sessions, clock):
    cookie = sessions.create("ada", "f", "10.0.0.1")
    end = clock.now + LONGEST_S
    while clock.now < end:
        assert sessions.find(cookie, idle_s=86400.0 * 2) is not None
        clock.now += 86400
    clock.now += 1
    assert sessions.find(cookie, idle_s=86400.0 * 2) is None


def test_the_file_holds_no_cookie_and_is_its_owners_alone(sessions):
    cookie = sessions.create("ada", "f", "10.0.0.1")
    assert stat.S_IMODE(sessions.path.stat().st_mode) == 0o600
    for path in sessions.path.parent.iterdir():
        assert cookie.encode() not in path.read_bytes()
    assert sessions.all()[0].id == digest(cookie)


def test_a_signature_is_for_one_session_and_one_path(sessions):
    signature = sessions.sign("a", "/x")
    assert sessions.signature_matches("a", "/x", signature)
    assert not sessions.signature_matches("b", "/x", signature)
    assert not sessions.signature_matches("a", "/y", signature)
    assert not sessions.signature_matches("a", "/x", "")
    assert not sessions.proof_matches("a", signature)


def test_a_damaged_file_is_made_anew(tmp_path, clock, caplog):
    (tmp_path / "web.db").write_bytes(b"no SQLite file at all, but long enough" * 10)
    sessions = Sessions(tmp_path, clock=clock)
    cookie = sessions.create("ada", "f", "10.0.0.1")
    assert sessions.find(cookie, 60) is not None
    assert "made anew" in caplog.text
    sessions.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        Sessions(tmp_path / "file" / "data")


def test_logins_are_limited_by_the_minute_and_by_the_hour(sessions, clock):
    for _ in range(5):
        assert sessions.wait_s("ada", "10.0.0.1") == 0
        sessions.count_failure("ada", "10.0.0.1")
    assert sessions.wait_s("ada", "10.0.0.2") == 60
    assert sessions.wait_s("bo", "10.0.0.1") == 0  # an address may be a whole house
    for _ in range(15):
        clock.now += 61
        assert sessions.wait_s("ada", "10.0.0.1") == 0
        sessions.count_failure("ada", "10.0.0.1")
    clock.now += 61
    assert sessions.wait_s("ada", "10.0.0.1") > 2000
    clock.now += 3600
    assert sessions.wait_s("ada", "10.0.0.1") == 0


def test_a_right_password_takes_its_own_attempt_back(sessions):
    sessions.count_failure("ada", "10.0.0.1")
    attempt = sessions.count_failure("ada", "10.0.0.1")
    sessions.forgive(attempt)
    for _ in range(3):
        sessions.count_failure("ada", "10.0.0.1")
    assert sessions.wait_s("ada", "10.0.0.1") == 0
    sessions.count_failure("ada", "10.0.0.1")
    assert sessions.wait_s("ada", "10.0.0.1") > 0


def test_passwords_are_argon2id_with_the_parameters_of_owasp():
    line = hash_password(PASSWORD)
    assert line.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verify_password(line, PASSWORD)
    assert not verify_password(line, PASSWORD + "x")
    assert not verify_password("no line", PASSWORD)
    assert verify_password(hash_password("x" * 64), "x" * 64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("short", "15 to 256 characters"),
        ("x" * 257, "15 to 256 characters"),
        ("", "expected a password"),
        ("$argon2id$v=19$m=1", "whole line"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_one_line(tmp_path, text, words):
    path = tmp_path / "password"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as err:
        read_password_line(path)
    assert "\n" not in str(err.value)
    assert text not in str(err.value) or not text


def test_a_password_file_holds_the_line_or_the_password(tmp_path):
    path = tmp_path / "password"
    for text in (PASSWORD, hash_password(PASSWORD)):
        path.write_text(text + "\n")
        accounts = Accounts(PageSettings(password_file=path), tmp_path)
        assert accounts.by_password("admin", PASSWORD).role == "admin"
        assert accounts.by_password("admin", "x" * 20) is None
        assert accounts.by_password("root", PASSWORD) is None


def test_a_token_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GATE_TOKEN", "t" * 30)
    accounts = Accounts(PageSettings(token="{GATE_TOKEN}"), tmp_path)
    assert accounts.by_token("t" * 30).name == "admin"
    assert not (tmp_path / "token").exists()
    monkeypatch.setenv("GATE_TOKEN", "short")
    with pytest.raises(ConfigError, match="at least 22"):
        Accounts(PageSettings(token="{GATE_TOKEN}"), tmp_path)
