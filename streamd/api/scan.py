"""Where JSON is broken, in the words of Go's parser.

Purpose:    called only for a text that Python's parser refused; the error's text goes to the client (10025).
Guarantee:  total and linear: any text gives a description or "" (valid).
Source:     nats-server 2.15.2 as recorded in tests/api/golden.
"""

from __future__ import annotations

import re

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
DEPTH_MAX = 10_000


class BrokenError(Exception):
    """The character at `index` cannot stand there; None for an early end."""

    def __init__(self, index: int | None, context: str = "") -> None:
        super().__init__(context)
        self.index, self.context = index, context


def syntax_error(text: str, *, decoder: bool) -> str:
    """What is wrong with the first value of a text and what follows it; "" if nothing is.

    Shapes: `decoder` words it as Go's streaming decoder does (byte offset at the end; more values allowed).
    """
    try:
        at = blank(text, value(text, 0))
        while decoder and at < len(text):
            at = blank(text, value(text, at))
        if at < len(text):
            raise BrokenError(at, "after top-level value")
    except BrokenError as broken:
        if broken.index is None:
            return "unexpected EOF" if decoder else "unexpected end of JSON input"
        character = {"'": r"'\''", '"': "'\"'"}.get(text[broken.index]) or f"'{shown(text[broken.index])}'"
        offset = f" at offset {len(text[: broken.index].encode('utf-8', 'replace')) + 1}" if decoder else ""
        return f"invalid character {character} {broken.context}{offset}"
    return ""


def shown(character: str) -> str:
    """A character as Go quotes it."""
    return character if character.isprintable() and character != "\\" else repr(character)[1:-1]


def blank(text: str, at: int) -> int:
    """Skip white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def value(text: str, at: int) -> int:
    """Skip one value. The stack holds the closing character of each open object or array."""
    stack: list[str] = []
    while True:
        at = blank(text, at)
        first = peek(text, at)
        if first in "{[":
            stack.append("}" if first == "{" else "]")
            if len(stack) > DEPTH_MAX:
                raise BrokenError(at, "exceeded max depth")
            at = blank(text, at + 1)
            if peek(text, at) != stack[-1]:
                if first == "{":
                    at = key(text, at)
                continue
        else:
            at = scalar(text, at, first)
        # A value ended (or an empty object or array stands at its closing character).
        while stack:
            at = blank(text, at)
            follows = peek(text, at)
            if follows == stack[-1]:
                stack.pop()
                at += 1
                continue
            if follows != ",":
                raise BrokenError(at, "after object key:value pair" if stack[-1] == "}" else "after array element")
            at = blank(text, at + 1)
            if stack[-1] == "}":
                peek(text, at)
                at = key(text, at)
            break
        if not stack:
            return at


def peek(text: str, at: int) -> str:
    """The character at `at`. Errors: BrokenError at the end."""
    if at >= len(text):
        raise BrokenError(None)
    return text[at]


def key(text: str, at: int) -> int:
    """Skip an object's key and its colon."""
    if peek(text, at) != '"':
        raise BrokenError(at, "looking for beginning of object key string")
    at = blank(text, string(text, at + 1))
    if peek(text, at) != ":":
        raise BrokenError(at, "after object key")
    return at + 1


def string(text: str, at: int) -> int:
    """Skip the rest of a string."""
    while True:
        character = peek(text, at)
        if character == '"':
            return at + 1
        if character < " ":
            raise BrokenError(at, "in string literal")
        at += 1
        if character == "\\":
            escape = peek(text, at)
            if escape not in '"\\/bfnrtu':
                raise BrokenError(at, "in string escape code")
            at += 1
            if escape == "u":
                for _ in range(4):
                    if peek(text, at) not in "0123456789abcdefABCDEF":
                        raise BrokenError(at, "in \\u hexadecimal character escape")
                    at += 1


def scalar(text: str, at: int, first: str) -> int:
    """Skip a string, a literal or a number."""
    if first == '"':
        return string(text, at + 1)
    for literal in ("true", "false", "null"):
        if first == literal[0]:
            for index, expected in enumerate(literal):
                if peek(text, at + index) != expected:
                    raise BrokenError(at + index, f"in literal {literal} (expecting '{expected}')")
            return at + len(literal)
    if first != "-" and not ("0" <= first <= "9"):
        raise BrokenError(at, "looking for beginning of value")
    return number(text, at)


def number(text: str, at: int) -> int:
    """Skip a number."""
    match = NUMBER.match(text, at)
    if match is None:
        peek(text, at + 1)
        raise BrokenError(at + 1, "in numeric literal")
    end = match.end()
    follows = text[end : end + 1]
    if follows == "." and match[1] is None and match[2] is None:
        peek(text, end + 1)
        raise BrokenError(end + 1, "after decimal point in numeric literal")
    if follows in ("e", "E") and match[2] is None:
        sign = text[end + 1 : end + 2] in ("+", "-")
        peek(text, end + 1 + sign)
        raise BrokenError(end + 1 + sign, "in exponent of numeric literal")
    return end
