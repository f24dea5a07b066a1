"""Messages and Raft entries encrypted at rest.

    | 1: AES-GCM, 2: ChaCha20-Poly1305 | nonce, 4 random bytes and a counter of 8, big-endian | sealed data and its tag of 16 |

The key of the Raft log is the SHA-256 of the operator's text; that of a channel is the SHA-256 of as many zero bytes as
follow, that key, a dot and the channel's name. Source: stores/cryptostore.go, where the zeros come from a slice that is
made with a length and then appended to.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from streamd.stan.importer.errors import ImportRefused

if TYPE_CHECKING:
    from collections.abc import Callable

AES: Final = 1
CHACHA: Final = 2
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
COUNTER: Final = slice(5, 13)
#: Messages that the original failed to store have used up a count, too.
COUNTER_AHEAD: Final = 1024


class Opener:
    """Decrypts with one key."""

    def __init__(self, key: bytes) -> None:
        """`key` is 32 bytes. Errors: ImportRefused if the library for it is missing."""
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
        except ImportError as error:
            raise ImportRefused(f"an encrypted store needs a library that is not there ({error}): install it") from None

        self._invalid = InvalidTag
        self._ciphers: dict[int, Any] = {AES: AESGCM(key), CHACHA: ChaCha20Poly1305(key)}

    def open(self, data: bytes) -> bytes:
        """The plain data; what does not begin like encrypted data was never encrypted. Errors: ValueError."""
        if not data or data[0] not in self._ciphers:
            return data
        if len(data) < 1 + NONCE_BYTES + TAG_BYTES:
            raise ValueError("too short to be encrypted")
        try:
            plain: bytes = self._ciphers[data[0]].decrypt(data[1 : 1 + NONCE_BYTES], data[1 + NONCE_BYTES :], None)
        except self._invalid:
            raise ValueError("the key does not fit") from None
        return plain


def master(text: str) -> bytes:
    """The key of everything, from the operator's text."""
    return sha256(text.encode()).digest()


def channel_opener(text: str, channel: str) -> Callable[[bytes], bytes]:
    """Decrypts the messages of a channel; raises ValueError where the key does not fit."""
    key = master(text) + b"." + channel.encode()
    return Opener(sha256(bytes(len(key)) + key).digest()).open


def looks_sealed(data: bytes, sequence: int) -> bool:
    """Whether a message is encrypted: its counter follows the sequence, and plain data hardly has one by chance."""
    if len(data) <= NONCE_BYTES + TAG_BYTES or data[0] not in (AES, CHACHA):
        return False
    return 0 < int.from_bytes(data[COUNTER], "big") <= sequence + COUNTER_AHEAD
