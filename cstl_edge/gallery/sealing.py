"""Seals of rows: a checksum that binds a row's content to its place, or encryption that also does.

A sealed row is read only as what was written, and only in the place that it was written for: table,
row and owners are part of the seal. `PlainSeal` appends a checksum, `cipher.CipherSeal` encrypts.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

DIGEST_BYTES = 16

Content = bytes | memoryview


class BrokenSeal(Exception):
    """A row that is not what was written, or not where it was written."""


class Seal(Protocol):
    """How the rows of one gallery are protected."""

    def close(self, content: bytes, place: bytes) -> bytes:
        """Return the row that holds `content` and is valid at `place` alone."""

    def open(self, row: bytes, place: bytes) -> Content:
        """Return the content of a row; raises BrokenSeal when it is damaged or misplaced."""

    def digest(self, text: str) -> bytes:
        """Return the digest by which rows with this text are found."""


class PlainSeal:
    """Checksums without a key: they find damage, not malice."""

    def close(self, content: bytes, place: bytes) -> bytes:
        """Append the checksum of place and content."""
        return b"".join((content, _checksum(content, place)))

    def open(self, row: bytes, place: bytes) -> memoryview:
        """Return the content without a copy."""
        content = memoryview(row)[:-DIGEST_BYTES]
        if len(row) < DIGEST_BYTES or _checksum(content, place) != row[-DIGEST_BYTES:]:
            raise BrokenSeal
        return content

    def digest(self, text: str) -> bytes:
        """Return a digest that everybody can compute."""
        return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def place(table: str, *keys: object) -> bytes:
    """Return the name of a row's place: its table, its id and what it belongs to."""
    return "|".join((table, *map(str, keys))).encode()


def _checksum(content: Content, place: bytes) -> bytes:
    digest = hashlib.blake2b(len(place).to_bytes(4, "little") + place, digest_size=DIGEST_BYTES)
    digest.update(content)
    return digest.digest()
