"""Passwords of the page: Argon2id hashes, and the files that hold passwords and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.extras import missing_package
from cstl_edge.foreign import read_bytes
from cstl_edge.serve.web.settings import MAX_PASSWORD, MIN_PASSWORD, MIN_TOKEN

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MAX_BYTES = 4096  # of a file with a secret
MEMORY_KIB, ROUNDS, LANES = 19 * 1024, 2, 1  # the OWASP cheat sheet's least; 40 ms on a small CPU
HASH_PREFIX = "$argon2id$"


def hash_password(password: str) -> str:
    """Return the Argon2id line of a password (ConfigError: too short or too long)."""
    check_password(password)
    return _hasher().hash(password)


def check_password(password: str, origin: str = "password") -> None:
    """Refuse a password that is too short to stand alone, or too long (ConfigError).

    origin: what it is called in the message
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise ConfigError(
            f"{origin}: expected {MIN_PASSWORD} to {MAX_PASSWORD} characters, got {len(password)}",
            remedy="several words are easy to remember",
        )


def verify_password(line: str, password: str) -> bool:
    """Tell whether a password has this Argon2id line; takes as long for a wrong one."""
    from argon2.exceptions import Argon2Error, InvalidHashError

    if len(password) > MAX_PASSWORD:
        return False
    try:
        return _hasher().verify(line, password)
    except (Argon2Error, InvalidHashError):
        return False


def read_password_line(path: Path) -> str:
    """Return the Argon2id line of a password file, which holds that line or the password itself.

    Raises ConfigError for a file that cannot be read, is empty, or holds too short a password.
    """
    text = read_secret(path)
    if text.startswith(HASH_PREFIX):
        _check_hash(text, path)
        return text
    check_password(text, one_line(path))
    return _hasher().hash(text)


def read_token(path: Path) -> str:
    """Return the token of a file (ConfigError)."""
    text = read_secret(path)
    if len(text) < MIN_TOKEN or not text.isascii() or " " in text:
        raise ConfigError(
            f"{one_line(path)}: expected a token of at least {MIN_TOKEN} letters, digits or signs",
            remedy='make one: python3 -c "import secrets; print(secrets.token_urlsafe(24))"',
        )
    return text


def read_secret(path: Path) -> str:
    """Return the first line of a file with a password or a token (ConfigError)."""
    data = read_bytes(path, MAX_BYTES, "a file with a password or a token", ConfigError)
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as err:
        raise ConfigError(f"{one_line(path)}: expected a text file in UTF-8") from err
    if not lines or not lines[0].strip():
        raise ConfigError(f"{one_line(path)}: expected a password or a token in the first line")
    return lines[0].strip()


def _check_hash(line: str, path: Path) -> None:
    from argon2 import extract_parameters
    from argon2.exceptions import InvalidHashError

    try:
        extract_parameters(line)
    except InvalidHashError as err:
        raise ConfigError(
            f"{one_line(path)}: expected a whole line of `cstl-edge config password`"
        ) from err


def _hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError as err:
        raise missing_package("a password of the page needs argon2-cffi", "serve") from err
    return PasswordHasher(time_cost=ROUNDS, memory_cost=MEMORY_KIB, parallelism=LANES)
