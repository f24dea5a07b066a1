"""Names of channels, and which limits of the configuration hold for one.

A name is tokens with dots between; in the configuration `*` stands for one token and `>` for all that follow.
Names are ordered from the widest to the narrowest, token by token: `>` before `*` before any word. The rules
are nats-streaming-server's, so that a file means there and here the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_RANKS = {">": 0, "*": 1}


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one channel. Units: 0 is unlimited everywhere; durations in nanoseconds."""

    max_msgs: int
    max_bytes: int
    max_age_ns: int
    max_subs: int
    max_inactivity_ns: int
    native: bool = False


def is_valid(name: str) -> bool:
    """Whether a name may stand in the configuration, wildcards as whole tokens and `>` last."""
    tokens = name.split(".")
    if "/" in name or ">" in tokens[:-1]:
        return False
    return all(token in _RANKS or (token and not set(token) & set("*>")) for token in tokens)


def is_literal(name: str) -> bool:
    """Whether a valid name is one channel's and no pattern."""
    return not set(name) & set("*>")


def width(name: str) -> tuple[tuple[int, str], ...]:
    """A key to sort names by, the widest first."""
    return tuple((_RANKS.get(token, 2), token) for token in name.split("."))


def matching(names: Iterable[str], name: str) -> list[str]:
    """Those of `names` that cover `name`, the widest first.

    `name` may be a pattern itself: its wildcards count as words then. So `*` covers `>`, and `foo.>` has what
    it lacks from `*.*`, in the original as well.
    """
    tokens = name.split(".")
    return sorted((one for one in names if _covers(one.split("."), tokens)), key=width)


def parent(names: Iterable[str], name: str) -> str | None:
    """The next wider one of `names`, which `name` has its unset limits from; None if that is the server."""
    wider = [one for one in matching(names, name) if width(one) < width(name)]
    return wider[-1] if wider else None


def _covers(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        if len(tokens) < len(pattern):
            return False
        pattern = pattern[:-1]
    elif len(tokens) != len(pattern):
        return False
    return all(one in ("*", token) for one, token in zip(pattern, tokens, strict=False))
