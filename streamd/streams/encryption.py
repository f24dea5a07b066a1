"""Encryption at rest: the payloads of NATS Streaming's channels are sealed in the store.

Guarantee:  the store says by which key before anything is sealed by it, and is not opened with another one. That a key fits
            is known at the start, never found out later as damage.
Source:     nats-streaming-server 0.25.6 for what is encrypted, the ciphers, and the key: SHA-256 of a text.
Not here:   what a sealed record looks like (the engine), when one is made (the store's log).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import Cipher
from streamd.errors import StoreEncrypted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

#: What the store says of itself: a code of the key over a constant, which shows the key as little as a sealed payload does.
FIELD: Final = "encryption"
_CHECKED: Final = b"streamd store encryption"


class Encryption:
    """What one run has to do with it."""

    def __init__(self, text: str | None = None, cipher: str | None = None, *, serves: bool = False) -> None:
        """Without `text`, the key, nothing is sealed. `cipher`: AES or CHACHA, None is the faster one here.
        `serves`: stored channels are served in this run; otherwise they may stay closed."""
        self.cipher: Cipher | None = None
        #: For what the store says of itself.
        self.about: dict[str, Any] = {}
        self._serves = serves
        if text is not None:
            key = hashlib.sha256(text.encode(errors="surrogateescape")).digest()
            # Where a nonce starts decides that none comes twice: see the engine's codec/seal.rs.
            self.cipher = Cipher(key, os.urandom(4) + time.time_ns().to_bytes(8, "big"), cipher)
            self.about = {FIELD: hmac.new(key, _CHECKED, "sha256").hexdigest()}

    def closes(self, directory: Path, abouts: Iterable[Mapping[str, Any]]) -> bool:
        """Whether the channels of a store whose services say this of themselves stay closed in this run.

        Errors: StoreEncrypted if they are to be served.
        """
        codes = [about[FIELD] for about in abouts if FIELD in about]
        if codes and not self._serves:
            return True
        for code in codes:
            if self.cipher is None:
                raise StoreEncrypted(directory, missing=True)
            if not hmac.compare_digest(code, self.about[FIELD]):
                raise StoreEncrypted(directory, missing=False)
        return False


def closed_text(stream: str) -> str:
    """Why a stream is offline whose channel stays closed."""
    return (
        f"stream {stream} is a channel of NATS Streaming whose messages are encrypted: it is offline, and nothing of it was "
        f"deleted; it opens with store file in the streaming block, and there the encryption key that it was written with"
    )
