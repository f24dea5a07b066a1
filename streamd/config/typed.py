"""Readers for the streaming block, which refuse a wrong type in the words of nats-streaming-server.

Operators match on its text `parameter "x" value is expected to be string, got int64`, and Go's names of kinds
are part of it. Else like reading.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from streamd.config import reading
from streamd.config.reading import WrongKind
from streamd.config.scalars import duration_ns

if TYPE_CHECKING:
    from streamd.config.tree import Node

_KINDS = {bool: "bool", int: "int64", float: "float64", str: "string", datetime: "struct", dict: "map", list: "slice"}


def _check(kind: type, node: Node, hint: str = "") -> Any:
    if type(node.value) is not kind:
        got = _KINDS[type(node.value)]
        raise WrongKind(f"value is expected to be {_KINDS[kind]}, got {got}{hint}")
    return node.value


def string(node: Node) -> str:
    _check(str, node, ": quote it")
    return reading.string(node)


def optional(node: Node) -> str | None:
    """A string; the empty one says that there is none."""
    return string(node) or None


def boolean(node: Node) -> bool:
    value: bool = _check(bool, node)
    return value


def integer(node: Node) -> int:
    value: int = _check(int, node)
    return value


def duration(node: Node) -> int:
    """Nanoseconds of a duration string."""
    text: str = _check(str, node, ': a duration is quoted, such as "30s"')
    return duration_ns(text)


def strings(node: Node) -> tuple[str, ...]:
    _check(list, node, ': write ["a", "b"]')
    assert isinstance(node.value, list)
    return tuple(map(string, node.value))


def channel_integer(node: Node) -> int:
    """A channel's own limit: 0 and below lift the limit that it would inherit."""
    return max(0, integer(node))


def channel_duration(node: Node) -> int:
    return max(0, duration(node))
