"""What an endpoint answers, and JSON as Go prints it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"

# Go's encoder writes these so that JSON may stand inside of HTML and of JavaScript.
_ESCAPED: Final = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


class Answer(NamedTuple):
    """An answer. Shapes: `kind` is the content type, empty if there is no body; `headers` come on top of it."""

    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def json_bytes(value: Mapping[str, object]) -> bytes:
    """Indented JSON. What isn't valid UTF-8 becomes `?`."""
    return json.dumps(value, indent=2, ensure_ascii=False).translate(_ESCAPED).encode("utf-8", "replace")


def text(status: int, line: str) -> Answer:
    """One line of plain text that no browser takes for something else: it may repeat what was asked."""
    return Answer(status, TEXT, f"{line}\n".encode("utf-8", "replace"), (("x-content-type-options", "nosniff"),))
