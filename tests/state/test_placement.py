"""Which servers get a stream's replicas."""

from __future__ import annotations

import pytest

from streamd.state.meta import MetaState


def servers(names: str) -> MetaState:
    """Servers without streams."""
    state = MetaState()
    for index, name in enumerate(names):
        state.apply(index, {"do": "node", "name": name, "node": f"{name}#1", "cluster": "C", "tags": []})
    return state


@pytest.mark.parametrize(
    ("replicas", "full", "keep", "expected"),
    [
        (1, "", "", "a"),
        (1, "a", "", "b"),
        (1, "abcde", "", None),
        (1, "abcde", "c", "c"),  # it is there already
        (2, "abcd", "", None),
        (3, "ab", "", "cde"),
        (3, "abc", "", "ade"),
        (3, "abcd", "", None),
        (3, "abc", "a", "ade"),
        (3, "abcd", "ab", "abe"),  # nor here
        (3, "abc", "abc", "abc"),  # nothing new comes to any of them
        (5, "ab", "", "abcde"),
        (5, "abc", "", None),
    ],
)
def test_servers_without_room_come_last(replicas: int, full: str, keep: str, expected: str | None) -> None:
    """They get something new only where a quorum has room."""
    found = servers("abcde").place(replicas, {*"abcde"}, keep=keep, full={*full})
    assert found == (None if expected is None else tuple(expected))
