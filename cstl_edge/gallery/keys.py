"""Keys of encrypted galleries: one random key each, wrapped by a passphrase or a key file.

The gallery's key lies in the file itself, encrypted under a key that scrypt derives from what the
user knows (passphrase) or has (key file). Both are looked for where the caller says, then in the
environment: CSTL_EDGE_GALLERY_PASSPHRASE, or CSTL_EDGE_GALLERY_KEY_FILE with a path.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cstl_edge.errors import ConfigError, GalleryError, one_line
from cstl_edge.extras import missing_package

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PASSPHRASE = "CSTL_EDGE_GALLERY_PASSPHRASE"
KEY_FILE = "CSTL_EDGE_GALLERY_KEY_FILE"
KEY_BYTES = 32
MIN_PASSPHRASE = 8  # characters
MIN_KEY_FILE_BYTES = 16
MAX_KEY_FILE_BYTES = 2**16
SCRYPT = {"n": 2**15, "r": 8, "p": 1}  # 32 MiB; RFC 7914, section 2
_MOST = {"n": 2**20, "r": 32, "p": 16}  # a damaged or hostile file asks for no more
_PURPOSE = b"cstl-edge gallery key"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GalleryKey:
    """Where the secret of a gallery comes from; the environment fills in what is not given."""

    passphrase: str | None = None
    file: Path | None = None
    ask: Callable[[str], str] | None = None  # given a question, returns a passphrase

    def secret(self, question: str) -> bytes | None:
        """Return the secret, None when there is none (ConfigError: it cannot be used)."""
        if self.file is not None:
            return read_key_file(self.file)
        if self.passphrase is not None:
            return _checked(self.passphrase)
        if file := os.environ.get(KEY_FILE):
            return read_key_file(Path(file))
        if passphrase := os.environ.get(PASSPHRASE):
            return _checked(passphrase)
        return _checked(self.ask(question)) if self.ask is not None else None

    def asking_once(self) -> GalleryKey:
        """Return the same, which asks for a passphrase at most once, whatever it is for."""
        if self.ask is None:
            return self
        ask, answers = self.ask, list[str]()

        def once(question: str) -> str:
            if not answers:
                answers.append(ask(question))
            return answers[0]

        return replace(self, ask=once)

    def new_secret(self, question: str) -> bytes:
        """Return the secret for a new key; a key file that is not there yet is made.

        Raises ConfigError where there is none.
        """
        file = self.file or (None if self.passphrase else Path(os.environ.get(KEY_FILE) or ""))
        if file is not None and file.name and not file.exists():
            make_key_file(file)
            logger.warning(
                "key file '%s' was made: keep a copy elsewhere, nothing opens the gallery without",
                one_line(file),
            )
        secret = self.secret(question)
        if secret is None:
            raise ConfigError(
                f"an encrypted gallery needs a passphrase in {PASSPHRASE}, or the path of a key"
                f" file in {KEY_FILE}"
            )
        return secret


@dataclass(kw_only=True)
class WrappedKey:
    """Body of the one row of `keys`: the gallery's key, encrypted."""

    id: str  # random digits that name the key in messages
    salt: str
    n: int
    r: int
    p: int
    nonce: str
    wrapped: str


def new_key() -> bytes:
    """Return a random key for a gallery."""
    return secrets.token_bytes(KEY_BYTES)


def wrap(key: bytes, secret: bytes) -> WrappedKey:
    """Return a gallery's key, encrypted under a secret."""
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    wrapped = aes(_derive(secret, salt, **SCRYPT)).encrypt(nonce, key, _PURPOSE)
    return WrappedKey(
        id=secrets.token_hex(4),
        salt=salt.hex(),
        nonce=nonce.hex(),
        wrapped=wrapped.hex(),
        **SCRYPT,
    )


def unwrap(record: WrappedKey, key: GalleryKey, path: Path | str) -> bytes:
    """Return a gallery's key.

    Args:
        record: The key as it lies in the file.
        key: Where the secret comes from.
        path: Path of the gallery, for messages.

    Raises:
        GalleryError: There is no secret, or it is another gallery's.
        MissingPackage: `cryptography` is not installed.
    """
    from_where = f"gallery '{one_line(path)}' is encrypted (key {record.id})"
    secret = key.secret(f"passphrase of gallery '{one_line(path)}'")
    if secret is None:
        raise GalleryError(
            f"{from_where}: give its passphrase in {PASSPHRASE}, or the path of its key file in"
            f" {KEY_FILE}"
        )
    try:
        costs = {"n": record.n, "r": record.r, "p": record.p}
        if any(not 1 <= costs[name] <= most for name, most in _MOST.items()):
            raise GalleryError(f"{from_where}, but the record of its key is damaged: restore it")
        derived = _derive(secret, bytes.fromhex(record.salt), **costs)
        nonce, wrapped = bytes.fromhex(record.nonce), bytes.fromhex(record.wrapped)
        return aes(derived).decrypt(nonce, wrapped, _PURPOSE)
    except (ValueError, _invalid_tag()) as err:
        raise GalleryError(
            f"{from_where}, and this is not its passphrase or key file: nothing was read"
        ) from err


def read_key_file(path: Path) -> bytes:
    """Return the content of a key file (ConfigError: missing, too short, too long)."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_FILE_BYTES + 1)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError) as err:
        raise ConfigError(f"key file '{one_line(path)}' cannot be read: {one_line(err)}") from err
    if not MIN_KEY_FILE_BYTES <= len(content) <= MAX_KEY_FILE_BYTES:
        raise ConfigError(
            f"key file '{one_line(path)}': expected {MIN_KEY_FILE_BYTES} to {MAX_KEY_FILE_BYTES}"
            f" bytes, got {len(content)}{'' if len(content) < MIN_KEY_FILE_BYTES else ' or more'}"
        )
    if mode & 0o077:
        logger.warning("key file '%s' can be read by other users: chmod 600 it", one_line(path))
    return content


def make_key_file(path: Path) -> None:
    """Write a new key file of random digits, mode 600 (ConfigError: it exists, or cannot be)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as err:
        raise ConfigError(f"key file '{one_line(path)}' cannot be made: {one_line(err)}") from err


def aes(key: bytes) -> AESGCM:
    """Return AES-256-GCM under a key; raises MissingPackage without `cryptography`."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as err:
        raise missing_package("an encrypted gallery needs cryptography", "secure") from err
    return AESGCM(key)


def _derive(secret: bytes, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    aes(bytes(KEY_BYTES))  # says what is missing
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=r, p=p).derive(secret)


def _invalid_tag() -> type[Exception]:
    aes(bytes(KEY_BYTES))  # says what is missing
    from cryptography.exceptions import InvalidTag

    return InvalidTag


def _checked(passphrase: str) -> bytes:
    if len(passphrase) < MIN_PASSPHRASE:
        raise ConfigError(f"the passphrase is shorter than {MIN_PASSPHRASE} characters")
    return passphrase.encode("utf-8", "surrogateescape")
