"""Seal of encrypted rows: AES-256-GCM, bound to the place of the row.

A row is nonce (12 bytes), ciphertext, tag (16 bytes); the place (table, row, owners, model) is its
associated data, so that a row that is changed, or moved to another person, does not open.
"""

from __future__ import annotations

import hashlib
import os

from cstl_edge.gallery.keys import aes
from cstl_edge.gallery.sealing import DIGEST_BYTES, BrokenSeal

NONCE_BYTES = 12
TAG_BYTES = 16


class CipherSeal:
    """Encryption of rows under the key of a gallery."""

    def __init__(self, key: bytes) -> None:
        """Use a key of 32 bytes; raises MissingPackage without `cryptography`."""
        self._aes = aes(key)
        self._digest_key = hashlib.blake2b(b"names", key=key, digest_size=32).digest()

    def close(self, content: bytes, place: bytes) -> bytes:
        """Encrypt under a random nonce."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, content, place)

    def open(self, row: bytes, place: bytes) -> bytes:
        """Decrypt; raises BrokenSeal when the row is not what was written there."""
        from cryptography.exceptions import InvalidTag

        if len(row) < NONCE_BYTES + TAG_BYTES:
            raise BrokenSeal
        try:
            return self._aes.decrypt(row[:NONCE_BYTES], row[NONCE_BYTES:], place)
        except InvalidTag as err:
            raise BrokenSeal from err

    def digest(self, text: str) -> bytes:
        """Return a digest that nobody can compute without the key."""
        digest = hashlib.blake2b(text.encode(), key=self._digest_key, digest_size=DIGEST_BYTES)
        return digest.digest()
