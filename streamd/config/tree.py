"""The tree a configuration file is read into: plain values that remember their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file. Units: line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


Scalar = str | int | float | bool | datetime


@dataclass(slots=True)
class Entry:
    """One key of a map. `used` is set when a variable read it: such a key may be any name."""

    name: str
    position: Position
    node: Node
    used: bool = False


@dataclass(slots=True)
class Node:
    """A value and its place; a map holds entries by their written name, the last of a name wins."""

    value: Scalar | list[Node] | dict[str, Entry]
    position: Position
    # A time keeps its written form for the digest: Python's datetime would print it otherwise.
    written: str = field(default="", compare=False)

    def plain(self) -> object:
        """The value alone, as Python (and JSON) know it."""
        if isinstance(self.value, dict):
            return {name: entry.node.plain() for name, entry in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


_NAMES = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", datetime: "a time"}


def describe(node: Node) -> str:
    """What kind of value it is, in words for an error."""
    if isinstance(node.value, dict):
        return "a map"
    if isinstance(node.value, list):
        return "an array"
    return _NAMES[type(node.value)]
