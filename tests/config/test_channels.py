"""Limits of channels: inheritance against a trie that walks as the original's does, and the rules of names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.config.channels import Limits, is_literal, is_valid, width
from streamd.config.streaming import ChannelLimits, StreamingConfig


@dataclass
class Level:
    """One level of the model: names below it, by token; `at` is the name that ends here."""

    below: dict[str, Level] = field(default_factory=dict)
    at: str | None = None

    def insert(self, name: str) -> None:
        level = self
        for token in name.split("."):
            level = level.below.setdefault(token, Level())
        level.at = name

    def subjects(self) -> list[str]:
        """All names, `>` first, then `*`, then words, each before what is below it."""
        found = [] if self.at is None else [self.at]
        for token in sorted(self.below, key=lambda token: ("> *".find(token) if token in ">*" else 9, token)):
            found += self.below[token].subjects()
        return found

    def match(self, tokens: list[str]) -> list[str]:
        if not tokens:
            return [] if self.at is None else [self.at]
        found = []
        if (rest := self.below.get(">")) is not None and rest.at is not None:
            found.append(rest.at)
        if (one := self.below.get("*")) is not None:
            found += one.match(tokens[1:])
        if tokens[0] not in ("*", ">") and (word := self.below.get(tokens[0])) is not None:
            found += word.match(tokens[1:])
        return found


FIELDS = ("max_msgs", "max_bytes", "max_age_ns", "max_subs", "max_inactivity_ns", "native")


def model(config: StreamingConfig) -> tuple[Level, dict[str, dict[str, Any]]]:
    """Walks all names from wide to narrow and fills in whatever still lacks a value, once."""
    top = {name: getattr(config, name, 0) for name in FIELDS}
    trie, done = Level(), dict[str, dict[str, Any]]()
    for name in config.channels:
        trie.insert(name)
    for name in trie.subjects():
        above = top
        for one in trie.match(name.split(".")):
            if one not in done:
                own = config.channels[one]
                done[one] = {key: above[key] if getattr(own, key) is None else getattr(own, key) for key in FIELDS}
            above = done[one]
    return trie, done


words = st.sampled_from(["a", "b", "*"])
names = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(words, min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
) | st.just(">")
number = st.none() | st.sampled_from([0, 1, 7, 100])
limits = st.builds(
    ChannelLimits, max_msgs=number, max_bytes=number, max_age_ns=number, max_subs=number,
    max_inactivity_ns=number, native=st.none() | st.booleans(),
)  # fmt: skip
literal = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


@given(st.dictionaries(names, limits, max_size=8), st.integers(0, 5), literal)
def test_inheritance_is_the_originals(channels: dict[str, ChannelLimits], max_msgs: int, channel: str) -> None:
    config = StreamingConfig(channels=channels, max_channels=0, max_msgs=max_msgs, max_age_ns=3)
    trie, expected = model(config)

    assert {name: Limits(**values) for name, values in expected.items()} == config.inherited_channels()
    found = trie.match(channel.split("."))
    assert (Limits(**expected[found[-1]]) if found else config.top_limits()) == config.limits_for(channel)


@given(st.sets(names))
def test_names_are_sorted_from_wide_to_narrow(given_names: set[str]) -> None:
    trie = Level()
    for name in given_names:
        trie.insert(name)

    assert trie.subjects() == sorted(given_names, key=width)


def test_the_narrowest_entry_decides() -> None:
    config = StreamingConfig(
        max_msgs=9,
        max_bytes=8,
        channels={
            "foo.>": ChannelLimits(max_msgs=1, max_subs=5, native=True),
            "foo.*": ChannelLimits(max_msgs=2),
            "foo.bar": ChannelLimits(max_msgs=0, native=False),
        },
    )

    assert config.limits_for("foo.bar") == Limits(0, 8, 0, 5, 0, native=False)
    assert config.limits_for("foo.baz") == Limits(2, 8, 0, 5, 0, native=True)
    assert config.limits_for("foo.baz.x") == Limits(1, 8, 0, 5, 0, native=True)
    assert config.limits_for("foo") == Limits(9, 8, 0, 1000, 0)
    assert list(config.inherited_channels()) == ["foo.>", "foo.*", "foo.bar"]


@pytest.mark.parametrize("name", ["a", "a b", "ä.b", "a.*.c", "*", ">", "a.>", "*.*", "$x", "a-b_c"])
def test_name_that_may_be_configured(name: str) -> None:
    assert is_valid(name)
    assert is_literal(name) == (">" not in name and "*" not in name)


@pytest.mark.parametrize("name", ["", ".", ".a", "a.", "a..b", "a/b", "a*", "*a", "a.>.b", ">.a", "a.b>", "**", ">>"])
def test_name_that_may_not(name: str) -> None:
    assert not is_valid(name)
