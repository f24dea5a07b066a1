"""The arguments of nats-server's monitoring pages, refused with its texts where they are wrong.

Source: nats-server 2.15.2. The pages of NATS Streaming ignore such arguments instead: streaming.py.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs

from streamd.api.wire import go_quote

_TRUE: Final = frozenset(["1", "t", "T", "TRUE", "true", "True"])
_FALSE: Final = frozenset(["0", "f", "F", "FALSE", "false", "False"])
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class BadQuery(ValueError):
    """An argument that can't be read; its text is the answer."""


class Query:
    """The arguments of a request; the first of a name counts, an empty one is as if it weren't there."""

    def __init__(self, query: bytes) -> None:
        self._values = parse_qs(query.decode("utf-8", "replace"), errors="replace")

    def text(self, name: str) -> str:
        """A text, empty if it isn't given."""
        return self._values.get(name, [""])[0]

    def flag(self, name: str) -> bool:
        """Errors: BadQuery."""
        value = self.text(name)
        if value and value not in _TRUE | _FALSE:
            text = f"strconv.ParseBool: parsing {go_quote(value)}: invalid syntax"
            raise BadQuery(f"Error decoding boolean for '{name}': {text}")
        return value in _TRUE

    def number(self, name: str) -> int:
        """Errors: BadQuery."""
        value = self.text(name)
        if value and not _INTEGER.fullmatch(value):
            text = f"strconv.Atoi: parsing {go_quote(value)}: invalid syntax"
            raise BadQuery(f"Error decoding int for '{name}': {text}")
        return int(value or 0)
