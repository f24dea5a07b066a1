"""API level and the `_nats.` metadata of streams and consumers.

Purpose:    `stamp` writes what is stored, `dynamic` adds what answers show, `bare` is what comparisons look
            at.
Decision:   API_LEVEL announces only what is there. Level 1 means pause, message TTL and priority groups: not
            yet, so 0. nats-py and the nats CLI then refuse those features themselves (nats-py: KV limit
            markers), all else works.
Source:     nats-server 2.15.2: `_nats.req.level` is stored; `_nats.ver` and `_nats.level` are shown, but not
            in lists.
"""

from __future__ import annotations

API_LEVEL = 0
REQUIRED_LEVEL = "_nats.req.level"
SERVER_VERSION = "_nats.ver"
SERVER_LEVEL = "_nats.level"
OWN = {REQUIRED_LEVEL, SERVER_VERSION, SERVER_LEVEL}


def bare(metadata: dict[str, str]) -> dict[str, str]:
    """Without the server's own keys."""
    return {key: text for key, text in metadata.items() if key not in OWN}


def stamp(metadata: dict[str, str], level: int = 0) -> dict[str, str]:
    """As stored: the client's keys and the API level the configuration needs."""
    return {**bare(metadata), REQUIRED_LEVEL: str(level)}


def dynamic(metadata: dict[str, str], version: str) -> dict[str, str]:
    """As CREATE, UPDATE and INFO show it."""
    return {**metadata, SERVER_VERSION: version, SERVER_LEVEL: str(API_LEVEL)}


def level_refused(header: str | None) -> bool:
    """Whether a Nats-Required-Api-Level header asks for more than there is (10185)."""
    if header is None:
        return False
    text = header.strip()
    return not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > API_LEVEL
