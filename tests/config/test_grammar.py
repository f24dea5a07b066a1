"""The grammar, row by row, and against random text; against nats-server in tests/interop."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamd.config.digest import digest
from streamd.config.errors import ConfigError
from streamd.config.parse import parse_file, parse_text

if TYPE_CHECKING:
    from pathlib import Path

# (text, what it means)
VALID: list[tuple[str, object]] = [
    ("a: 1", {"a": 1}),
    ("a = 1", {"a": 1}),
    ("a 1", {"a": 1}),
    ("a\t1", {"a": 1}),
    ("a\n1", {"a": 1}),
    ("'a': 1\n\"b\" : 2", {"a": 1, "b": 2}),
    ("{a: 1}", {"a": 1}),
    ('{"a": 1,\n\n"b": {"c": ["d", "e"]}}\n', {"a": 1, "b": {"c": ["d", "e"]}}),
    ("a: 1}", {"a": 1}),
    ("a: 1, b: 2; c: 3\nd: 4,", {"a": 1, "b": 2, "c": 3, "d": 4}),
    ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
    ("", {}),
    ("# only\n// comments", {}),
    ("a: 1 # one\n// two\nb: 2 // three", {"a": 1, "b": 2}),
    ("; x.conf\na: 1\n; more\nb: 2", {"a": 1, "b": 2}),
    ("a: b#c\nd: e//f\ng: #h\ni: //j", {"a": "b#c", "d": "e//f", "g": "#h", "i": "//j"}),
    ("a {b: 1; c: 2}", {"a": {"b": 1, "c": 2}}),
    ("a\n{ b: 1 # x\n c: d }\n", {"a": {"b": 1, "c": "d"}}),
    ("a: [x, 'y'\n\"z\" # c\n // d\n]", {"a": ["x", "y", "z"]}),
    ("a: [x,]\nb: []\nc: [\n]", {"a": ["x"], "b": [], "c": []}),
    ("a: [1, 2, [3]]", {"a": [1, 2, [3]]}),
    ("a: [{b: 1}, {b: 2}\n{b: 3}]", {"a": [{"b": 1}, {"b": 2}, {"b": 3}]}),
    ("a: -1\nb: 10k\nc: 10kb", {"a": -1, "b": 10000, "c": 10240}),
    ("a: 1MiB\nb: 1Gi", {"a": 1 << 20, "b": 1 << 30}),
    ("a: 2m", {"a": 2_000_000}),
    ("a: 1.5\nb: -0.25", {"a": 1.5, "b": -0.25}),
    ("a: TRUE, b: Yes, c: on", {"a": True, "b": True, "c": True}),
    ("a: off, b: no, c: False", {"a": False, "b": False, "c": False}),
    ("a: truely\nb: 3f5a\nc: 30s\nd: 1h30m", {"a": "truely", "b": "3f5a", "c": "30s", "d": "1h30m"}),
    ("a: +5\nb: 0x10\nc: 1e3\nd: 1_000", {"a": "+5", "b": "0x10", "c": "1e3", "d": "1_000"}),
    ("a: 127.0.0.1:4222", {"a": "127.0.0.1:4222"}),
    ("a: nats://u:p@h:1/x?y=z", {"a": "nats://u:p@h:1/x?y=z"}),
    ('a: "b\\n\\t\\"\\\\\\x41"', {"a": 'b\n\t"\\A'}),
    ("a: b\\x41", {"a": "bA"}),
    ("a: 'b\\n'", {"a": "b\\n"}),
    ("a: \"x\ny\"\nb: 'x\ny'", {"a": "x\ny", "b": "x\ny"}),
    ("a: (\nx (y)\n z\n)\nb: 1", {"a": "\nx (y)\n z\n", "b": 1}),
    ("a:", {"a": ""}),
    ("a {b:}", {"a": {"b": ""}}),
    ("a: 1\na: 2", {"a": 2}),
    ("a: 5\nb: $a", {"a": 5, "b": 5}),
    ("a: 5\nb {c: 6, d: $a, e: $c}", {"a": 5, "b": {"c": 6, "d": 5, "e": 6}}),
    ("a: [1]\nb: $a", {"a": [1], "b": [1]}),
    ("a: b$c\nd: \"$e\"", {"a": "b$c", "d": "$e"}),
    ("a: $NUMBER\nb: $WORD\nc: $TWICE", {"a": 7, "b": "x y", "c": 7}),
    ("a: $2a$11$abc", {"a": "$2a$11$abc"}),
    ("includes: 1\ninclude: x", {"includes": 1, "include": "x"}),
]  # fmt: skip

ENVIRON = {
    "NUMBER": "7",
    "WORD": "'x y'",
    "TWICE": "$NUMBER",
    "LOOP": "$LOOP",
    "BROKEN": "[",
    "EXTRA": "1\nb: 2",
}

# (text, line, column)
INVALID: list[tuple[str, int, int]] = [
    ("a b c", 1, 5),
    ("a", 1, 2),
    ("a: \n", 1, 2),
    ("a: 1;; b: 2", 1, 6),
    (",a: 1", 1, 1),
    ("a: 1\n,b: 2", 2, 1),
    (": 1", 1, 1),
    ("a == 1", 1, 6),
    ("a {b: 1", 1, 8),
    ("a [1", 1, 5),
    ("a [1;2]", 1, 5),
    ("a [1 2]", 1, 6),
    ("a [1,,2]", 1, 6),
    ("a [,1]", 1, 4),
    ("a: x]", 1, 5),
    ("a {b: x]}", 1, 8),
    ('a: "b"c', 1, 7),
    ('a: "b', 1, 4),
    ("a: 'b", 1, 4),
    ("a: (b)", 1, 4),
    ("a: (\nb\n )", 1, 4),
    ('a: "\\q"', 1, 4),
    ('a: "\\x4"', 1, 4),
    ("a: b\\/", 1, 4),
    ("a: -", 1, 4),
    ("a: -x", 1, 4),
    ("a: .5", 1, 4),
    ("a: 1.", 1, 4),
    ("a: 1.5s", 1, 4),
    ("a: 1.5MB", 1, 4),
    ("a: 12-a", 1, 4),
    ("a: 2020-13-02T03:04:05Z", 1, 4),
    ("a: 99999999999999999999", 1, 4),
    ("a: " + "9" * 5000, 1, 4),
    ("a: $nowhere", 1, 4),
    ("a: $b\nb: 1", 1, 4),
    ("a: {b: 1}\nc: $b", 2, 4),
    ("a: $LOOP", 1, 4),
    ("a: $BROKEN", 1, 4),
    ("include nowhere.conf", 1, 9),
    ("include\nx", 1, 1),
    ("a: 1\n\n  b: [\n  c d]", 4, 5),
]


@pytest.mark.parametrize(("text", "expected"), VALID)
def test_text_means(text: str, expected: object) -> None:
    assert expected == parse_text(text, environ=ENVIRON).plain()


@pytest.mark.parametrize(("text", "line", "column"), INVALID)
def test_error_names_its_place(text: str, line: int, column: int) -> None:
    """Whoever wrote the file must find the slip without counting."""
    with pytest.raises(ConfigError) as caught:
        parse_text(text, file="x.conf", environ=ENVIRON)

    assert str(caught.value).startswith(f"x.conf:{line}:{column}: ")


@pytest.mark.parametrize("opening", ["a {", "[", "{a:["])
def test_depth_is_bounded(opening: str) -> None:
    with pytest.raises(ConfigError):
        parse_text("a: " + opening * 5000)


def test_deeply_nested_text_is_refused_not_a_crash() -> None:
    with pytest.raises(ConfigError, match="nested deeper"):
        parse_text("a: " + "[" * 5000 + "]" * 5000)


def test_include_is_relative_and_gives_its_keys_to_the_map(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.conf").write_text("x: 1\ninclude 'c.conf'")
    (tmp_path / "sub" / "c.conf").write_text("{y: 2}")
    (tmp_path / "a.conf").write_text("m { include sub/b.conf; z: $y }")

    root = parse_file(tmp_path / "a.conf")

    assert root.plain() == {"m": {"x": 1, "y": 2, "z": 2}}
    assert isinstance(root.value, dict)
    assert isinstance(root.value["m"].node.value, dict)
    assert root.value["m"].node.value["y"].position == (str(tmp_path / "sub" / "c.conf"), 1, 2)


def test_included_file_does_not_see_outer_keys(tmp_path: Path) -> None:
    (tmp_path / "b.conf").write_text("y: $x")
    (tmp_path / "a.conf").write_text("x: 1\ninclude b.conf")

    with pytest.raises(ConfigError, match="can not be found"):
        parse_file(tmp_path / "a.conf")


def test_file_that_includes_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("include a.conf")

    with pytest.raises(ConfigError, match="circle"):
        parse_file(tmp_path / "a.conf")


@pytest.mark.parametrize("content", [None, b"a: \xff"])
def test_unreadable_file_is_a_config_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.conf").write_bytes(content)

    with pytest.raises(ConfigError, match=r"a\.conf"):
        parse_file(tmp_path / "a.conf")


def test_digest_is_that_of_nats_server() -> None:
    """Recorded from nats-server 2.15.2 for `port: 1` and `server_name: <&>`."""
    port = "sha256:5b27b68e52c25859a76c94f378c31d5a499ca677a46b38fb5f58ded229b59650"
    name = "sha256:99d1b7fdecc474394a7930d1a6cfc778552e9aae33eceda9271b1afe15ea5683"

    assert port == digest(parse_text("# x\nport = 1"))
    assert name == digest(parse_text("server_name: <&>"))


pieces = st.sampled_from(
    ["a", "b", " ", "\n", "\r", "\t", ":", "=", "{", "}", "[", "]", ",", ";", "#", "//", "'", '"', "(", ")",
     "\n)\n", "$", "$a", "1", "1.5", "-", "10k", "true", "\\", "\\x", "include ", "\x00", "é", "\u2028",
     "2020-01-02T03:04:05Z"]
)  # fmt: skip


@example("include \x00")
@given(st.one_of(st.text(), st.lists(pieces, max_size=30).map("".join)))
def test_any_text_is_a_tree_or_a_config_error(text: str) -> None:
    try:
        root = parse_text(text, environ=ENVIRON)
    except ConfigError:
        return

    assert digest(root).startswith("sha256:")


keys = st.text(string.ascii_letters + "_.-", min_size=1, max_size=8).filter(lambda key: key.lower() != "include")
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
trees = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + "\n".join(f"{key}: {_written(inner)}" for key, inner in value.items()) + "\n}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return _quoted(value) if isinstance(value, str) else str(value)


@given(trees)
def test_what_is_written_is_read_back(tree: dict[str, object]) -> None:
    assert tree == parse_text(_written(tree)).plain()
