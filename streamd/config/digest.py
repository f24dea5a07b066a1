"""The fingerprint of a configuration.

It is nats-server's: sha256 over the values as compact JSON with sorted keys and a newline behind, after
includes and variables are resolved. Comments and layout don't change it; a key's spelling does.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamd.config.tree import Node

# Go's encoder writes these five escaped, wherever they stand in a string.
_ESCAPED: Final = re.compile("[<>&\u2028\u2029]")


def digest(root: Node) -> str:
    """`sha256:<hex>` of a tree."""
    text = _ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", _json(root)) + "\n"
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def _json(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        pairs = sorted((_string(name), _json(entry.node)) for name, entry in value.items())
        return "{" + ",".join(f"{name}:{text}" for name, text in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    return _string(value if isinstance(value, str) else node.written)


def _string(text: str) -> str:
    # A byte that is no UTF-8 travels as a lone surrogate; JSON gets U+FFFD, escaped.
    return re.sub("[\ud800-\udfff]", r"\\ufffd", json.dumps(text, ensure_ascii=False))
