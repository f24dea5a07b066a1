"""Random text that nobody guesses: ids of servers, clients, stores and messages.

Why:  `secrets` does the same, and loads OpenSSL for what isn't needed here: 4 MiB of every server.
"""

from __future__ import annotations

import string
from random import SystemRandom
from typing import Final

BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
#: Of the operating system.
_SOURCE: Final = SystemRandom()


def token(length: int, alphabet: str = BASE62) -> str:
    """So many characters of an alphabet."""
    return "".join(_SOURCE.choices(alphabet, k=length))


def nuid() -> str:
    """22 characters that nobody else has."""
    return token(22)


def number_below(bound: int) -> int:
    """One of 0 … bound - 1."""
    return _SOURCE.randrange(bound)
