"""A cryptographic stream of random words: AES-256 in counter mode under a secret key.

Whoever has the key can make every word again; for anybody else the words cannot be told from
random ones. Noise that protects people comes from here and not from `fedsim.seeding`, whose
generators are fast and can be reconstructed from what they gave.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_BYTES = 32


class KeyStream:
    """The words of one purpose, round and user under a key; other names, independent words."""

    def __init__(self, key: bytes, purpose: str, round: int = 0, user: int = 0) -> None:
        """key: `KEY_BYTES` secret bytes."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        name = f"{purpose}/{round}/{user}".encode()
        own = hmac.new(key, name, hashlib.sha256).digest()
        self._cipher = Cipher(algorithms.AES(own), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> np.ndarray:
        """The next `count` words, uint64 (count,)."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), "<u8").astype(np.uint64)

    def bits(self, count: int) -> int:
        """The next `count` bits, a multiple of 64, as a whole number."""
        return int.from_bytes(self._cipher.update(bytes(count // 8)), "little")
