"""How one value of a file becomes one field of a model: kinds of keys and their readers.

A reader takes a node and returns the value in the model's units, or raises ValueError with what it expected.
Bounds are not here: pydantic checks them on the model, for files, flags and Python alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from streamd.config.scalars import NANOSECONDS, duration_ns
from streamd.config.tree import Node, describe

Reader = Callable[[Node], Any]

_SECOND_NS: Final = NANOSECONDS["s"]
_CAPITALS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Key:
    """Where a model's field stands in a file: its name there, other names it has, and its reader.

    `block` is the inner block that holds the key, where the model has its field one floor higher.
    """

    name: str
    read: Reader
    aliases: tuple[str, ...] = ()
    block: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


class WrongKind(ValueError):
    """A value of another type than its key takes; the text goes on behind `parameter "x"`."""


class ReadWithWarning(Exception):
    """The value was understood, but the file should say it differently."""

    def __init__(self, value: object, text: str) -> None:
        super().__init__(text)
        self.value = value


def boolean(node: Node) -> bool:
    if isinstance(node.value, bool):
        return node.value
    raise ValueError(f"expected a boolean (true or false), got {describe(node)}")


def integer(node: Node) -> int:
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    raise ValueError(f"expected an integer, got {describe(node)}")


def string(node: Node) -> str:
    if not isinstance(node.value, str):
        raise ValueError(f"expected a string, got {describe(node)}: quote it")
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise ValueError("expected a string in UTF-8")
    return node.value


def strings(node: Node) -> tuple[str, ...]:
    """An array of strings, or one string alone."""
    if isinstance(node.value, list):
        return tuple(map(string, node.value))
    return (string(node),)


def string_map(node: Node) -> dict[str, str]:
    if not isinstance(node.value, dict):
        raise ValueError(f"expected a map of strings, got {describe(node)}")
    return {name: string(entry.node) for name, entry in node.value.items()}


def duration(node: Node) -> int:
    """Nanoseconds of a duration string."""
    if isinstance(node.value, str):
        return duration_ns(node.value)
    raise ValueError(f'expected a duration such as "2m", got {describe(node)}: quote it')


def duration_or_seconds(node: Node) -> int:
    """As `duration`; a bare integer counts as seconds, with a warning: 2m is the integer 2000000 here."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        nanoseconds = node.value * _SECOND_NS
        raise ReadWithWarning(nanoseconds, f'should be converted to a duration, such as "{node.value}s"')
    return duration(node)


def seconds(node: Node) -> int:
    """Nanoseconds of a number of seconds, or of a duration string."""
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return int(node.value * _SECOND_NS)
    return duration(node)


def storage_size(node: Node) -> int:
    """Bytes as an integer, or as a string of digits and one capital K, M, G or T."""
    if not isinstance(node.value, str):
        return integer(node)
    digits, suffix = node.value[:-1], node.value[-1:]
    if suffix in _CAPITALS and digits.isascii() and digits.isdigit() and len(digits) <= 19:
        return int(digits) * _CAPITALS[suffix]
    raise ValueError(f'expected a size such as 1GB or "1G", got "{node.value}"')


def sync_interval(node: Node) -> str | int:
    """`always`, `never`, or nanoseconds."""
    if isinstance(node.value, str) and node.value.lower() in ("always", "never"):
        return node.value.lower()
    if isinstance(node.value, str):
        try:
            nanoseconds = duration_ns(node.value)
        except ValueError:
            raise ValueError(f'expected always, never or a duration such as "2m", got "{node.value}"') from None
        return nanoseconds or "always"
    return duration_or_seconds(node)


def address(node: Node) -> tuple[str | None, int]:
    """Host and port of "host:port", "[ipv6]:port", ":port" or a bare port; None where no host is named."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return None, node.value
    text = string(node)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if not colon or (":" in host and bare == host):
            raise ValueError
        return bare or None, int(port)
    except ValueError:
        raise ValueError(f'could not parse address string "{text}": expected "host:port" or a port') from None


def host_port(text: str, what: str = "client_advertise") -> tuple[str, int]:
    """Host and port that others are told: "host:port", or a host alone with port 0. Errors: ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "0"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or not (port.isascii() and port.isdigit() and int(port) < 1 << 16) or (":" in bare and bare == host):
        raise ValueError(f'{what} "{text}" is no address: expected "host:port" or a host')
    return bare, int(port)
