"""Reads configuration text into a tree: the grammar, variables, the environment and includes.

Guarantee: any text gives a tree or a ConfigError that names the place.
Not here:  what the keys mean (load.py).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from lark import Lark, Token, Tree, UnexpectedInput

from streamd.config.errors import ConfigError
from streamd.config.scalars import BCRYPT, unescape, word
from streamd.config.tree import Entry, Node, Position

# nats-server overflows its stack on a file that includes itself; a depth stops every such circle.
INCLUDE_DEPTH_MAX: Final = 32
NESTING_DEPTH_MAX: Final = 100
VARIABLE_DEPTH_MAX: Final = 32

_WORDS: Final = {
    "_OPEN": '"{"',
    "_CLOSE": '"}"',
    "_LEFT": '"["',
    "_RIGHT": '"]"',
    "_COMMA": '","',
    "_SEMICOLON": '";"',
    "_NL": "a new line",
    "KEY": "a key",
    "WORD": "a value",
    "ITEM": "a value",
    "PATH": "a file name",
    "$END": "the end of the file",
}


@cache
def _grammar() -> Lark:
    place = Path(__file__).with_name("grammar.lark")
    # The tables take longer to make than all else at start, so lark keeps them beside the bytecode, where it may.
    kept = place.with_name("__pycache__") / "grammar.tables"
    return Lark(
        place.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="contextual",
        maybe_placeholders=False,
        cache=str(kept) if kept.exists() or not sys.dont_write_bytecode else False,
    )


def parse_file(path: str | os.PathLike[str], *, environ: dict[str, str] | None = None) -> Node:
    """The tree of a file. Errors: ConfigError, also for a file that can't be read."""
    return _parse_path(os.fspath(path), os.environ if environ is None else environ, 0)


def parse_text(text: str, *, file: str = "<text>", environ: dict[str, str] | None = None) -> Node:
    """The tree of a text; includes are looked for beside `file`."""
    return _Reader(file, os.environ if environ is None else environ, text, 0).read()


def _parse_path(path: str, environ: os._Environ[str] | dict[str, str], depth: int) -> Node:
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        # A NUL, or half a surrogate pair.
        raise ConfigError(f"open {path!r}: no file can have this name") from error
    return _Reader(path, environ, text, depth).read()


@dataclass
class _Reader:
    """Walks one file's syntax tree in order, because a variable sees only what stands before it."""

    file: str
    environ: os._Environ[str] | dict[str, str]
    text: str
    include_depth: int
    # The maps around the place being read, outermost first.
    maps: list[dict[str, Entry]] = field(default_factory=list)
    variable_depth: int = 0

    def read(self) -> Node:
        try:
            tree = _grammar().parse(self.text)
        except UnexpectedInput as error:
            raise self._syntax_error(error) from None
        children = tree.children
        if children and isinstance(children[0], Tree) and children[0].data == "braces":
            children = children[0].children
        return Node(self._map(children), Position(self.file, 1, 1))

    def _map(self, children: list[Token | Tree[Token]]) -> dict[str, Entry]:
        if len(self.maps) >= NESTING_DEPTH_MAX:
            raise ConfigError(f"{self.file}: nested deeper than {NESTING_DEPTH_MAX} levels")
        entries: dict[str, Entry] = {}
        self.maps.append(entries)
        for child in children:
            assert isinstance(child, Tree)
            if child.data == "include":
                self._include(child, entries)
            else:
                self._pair(child, entries)
        self.maps.pop()
        return entries

    def _pair(self, tree: Tree[Token], entries: dict[str, Entry]) -> None:
        key, *rest = tree.children
        assert isinstance(key, Token)
        name = key[1:-1] if key.type == "QUOTED_KEY" else str(key)
        if isinstance(rest[0], Token) and rest[0].type == "ASSIGN":
            assign = rest.pop(0)
            assert isinstance(assign, Token)
            if not rest:
                entries[name] = Entry(name, self._at(key), self._empty(assign))
                return
        entries[name] = Entry(name, self._at(key), self._value(rest[0], self._at(key)))

    def _empty(self, assign: Token) -> Node:
        # `a:` is the empty string at the end of a file or map, and a mistake at the end of a line.
        assert assign.end_pos is not None
        if self.text[assign.end_pos :].lstrip(" \t")[:1] in ("\n", "\r"):
            raise ConfigError("expected a value, but got a new line", self._at(assign))
        return Node("", self._at(assign))

    def _include(self, tree: Tree[Token], entries: dict[str, Entry]) -> None:
        (token,) = tree.children
        assert isinstance(token, Token)
        name = self._quoted(token) if token.type == "STRING" else str(token)
        position = self._at(token)
        if self.include_depth >= INCLUDE_DEPTH_MAX:
            raise ConfigError(f'"{name}" is included in a circle', position)
        path = str(Path(self.file).parent / name)
        try:
            included = _parse_path(path, self.environ, self.include_depth + 1)
        except ConfigError as error:
            if error.position is not None:
                raise
            raise ConfigError(f"error parsing include file '{name}', {error}", position) from error
        assert isinstance(included.value, dict)
        entries.update(included.value)

    def _value(self, item: Token | Tree[Token], position: Position) -> Node:
        if isinstance(item, Tree):
            if item.data == "map":
                return Node(self._map(item.children), position)
            if len(self.maps) >= NESTING_DEPTH_MAX:
                raise ConfigError(f"nested deeper than {NESTING_DEPTH_MAX} levels", position)
            self.maps.append({})
            nodes = [self._value(child, position) for child in item.children]
            self.maps.pop()
            return Node(nodes, position)
        position = self._at(item)
        if item.type == "STRING":
            return Node(self._quoted(item), position)
        if item.type == "BLOCK":
            return Node(str(item)[1:-1], position)
        text = str(item)
        if text.startswith(BCRYPT):
            return Node(text, position)
        if text[0] == "$":
            return self._variable(text[1:], position)
        try:
            return Node(word(text), position, written=text)
        except ValueError as error:
            raise ConfigError(str(error), position) from None

    def _quoted(self, token: Token) -> str:
        try:
            return unescape(str(token)[1:-1]) if token[0] == '"' else str(token)[1:-1]
        except ValueError as error:
            raise ConfigError(str(error), self._at(token)) from None

    def _variable(self, name: str, position: Position) -> Node:
        for entries in reversed(self.maps):
            if (entry := entries.get(name)) is not None:
                entry.used = True
                return Node(entry.node.value, position, written=entry.node.written)
        if name not in self.environ:
            raise ConfigError(f"variable reference for '{name}' on line {position.line} can not be found", position)
        if self.variable_depth >= VARIABLE_DEPTH_MAX:
            raise ConfigError(f"variable reference cycle for '{name}'", position)
        inner = _Reader(
            f"${name}", self.environ, f"value = {self.environ[name]}", self.include_depth,
            list(self.maps), self.variable_depth + 1,
        )  # fmt: skip
        try:
            root = inner.read()
        except ConfigError as error:
            if "cycle" in error.text:
                raise ConfigError(error.text, position) from None
            raise ConfigError(f"environment variable '{name}': {error.text}", position) from None
        assert isinstance(root.value, dict)
        node = root.value["value"].node
        return Node(node.value, position, written=node.written)

    def _at(self, token: Token) -> Position:
        assert token.line is not None
        assert token.column is not None
        return Position(self.file, token.line, token.column)

    def _syntax_error(self, error: UnexpectedInput) -> ConfigError:
        at = error.pos_in_stream if error.pos_in_stream is not None else len(self.text)
        rest = self.text[at:] if at >= 0 else ""
        token = getattr(error, "token", None)
        if token is not None and token.type == "$END":
            rest, at = "", len(self.text)
        line = self.text.count("\n", 0, at) + 1
        position = Position(self.file, line, at - (self.text.rfind("\n", 0, at) + 1) + 1)
        allowed = getattr(error, "accepts", None) or getattr(error, "allowed", None) or set()
        expected = sorted({_WORDS[name] for name in allowed if name in _WORDS})
        if rest[:1] in ("'", '"') and not re.match(_STRING, rest):
            return ConfigError("string is not closed", position)
        if rest[:1] == "(" and "a value" in expected:
            return ConfigError('block is not closed: ")" needs a line of its own', position)
        got = "the end of the file" if not rest else "a new line" if rest[0] in "\r\n" else f'"{rest[0]}"'
        wanted = f"expected {' or '.join(expected)}, but got" if expected else "unexpected"
        return ConfigError(f"{wanted} {got}", position)


_STRING: Final = re.compile(r'"(?:[^"\\]|\\[\s\S])*"|\'[^\']*\'')
