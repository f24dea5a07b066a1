"""The checker of clients' histories finds what was done to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.history import Promises, Stored, differing, faults

if TYPE_CHECKING:
    from collections.abc import Callable

LONE = ["lone"]


def told() -> tuple[Promises, list[Stored]]:
    """A history where all is well: two publishers, one message that was never acked, a consumer that is through."""
    replay = [
        Stored(1, "lone:0", "lone:0"),
        Stored(2, "many:1", "many:1"),
        Stored(3, "many:0", "many:0"),
        Stored(4, "lone:1", "lone:1"),
        Stored(5, "bare:0"),
    ]
    promises = Promises(
        acked={"lone:0": 1, "many:1": 2, "many:0": 3, "lone:1": 4},
        heard=[(one.sequence, one.payload) for one in replay],
        confirmed={1, 2, 4},
        floors=[0, 0, 2, 2, 4],
    )
    return promises, replay


def test_nothing_is_wrong_with_a_good_history() -> None:
    assert faults(*told(), LONE) == []


def lose(promises: Promises, replay: list[Stored]) -> None:
    del replay[3]
    replay[3] = replace(replay[3], sequence=4)
    promises.heard = [(one.sequence, one.payload) for one in replay]


def lose_the_last(promises: Promises, replay: list[Stored]) -> None:
    del promises.heard[3:], replay[3:]


def move(_: Promises, replay: list[Stored]) -> None:
    replay[1:3] = [Stored(2, "many:0", "many:0"), Stored(3, "many:1", "many:1")]


def leave_a_gap(_: Promises, replay: list[Stored]) -> None:
    replay[4] = replace(replay[4], sequence=6)


def double(promises: Promises, replay: list[Stored]) -> None:
    replay.append(Stored(6, "many:1", "many:1"))
    promises.heard.append((6, "many:1"))


def double_an_identity(promises: Promises, replay: list[Stored]) -> None:
    replay.append(Stored(6, "many:2", "many:1"))
    promises.heard.append((6, "many:2"))


def turn_round(promises: Promises, replay: list[Stored]) -> None:
    replay[0], replay[3] = replace(replay[3], sequence=1), replace(replay[0], sequence=4)
    promises.acked |= {"lone:0": 4, "lone:1": 1}
    promises.heard = [(one.sequence, one.payload) for one in replay]


def take_back_acks(promises: Promises, _: list[Stored]) -> None:
    promises.floors.insert(3, 1)


def forget_acks(promises: Promises, _: list[Stored]) -> None:
    promises.floors.append(4)
    promises.confirmed.update({3, 5})


def withhold(promises: Promises, _: list[Stored]) -> None:
    del promises.heard[1]


def make_up(promises: Promises, _: list[Stored]) -> None:
    promises.heard.append((5, "bare:1"))


def ack_twice(promises: Promises, _: list[Stored]) -> None:
    promises.ack("lone:0", 1)
    promises.ack("lone:1", 3)


@pytest.mark.parametrize(
    ("doctor", "words"),
    [
        (lose, "1 acked publishes lost, such as lone:1"),
        (lose_the_last, "1 acked publishes lost, such as lone:1"),
        (move, "2 acked publishes elsewhere, such as many:1 at [3] and not at 2"),
        (leave_a_gap, "1 messages out of order, such as 6 at place 5"),
        (double, "1 messages stored twice, such as many:1 at 2 and 6"),
        (double_an_identity, "1 messages stored twice, such as many:1 at 2 and 6"),
        (turn_round, "1 messages behind later ones of their publisher, such as lone:0 behind 1"),
        (take_back_acks, "1 ack floors went back, such as 2 to 1"),
        (forget_acks, "1 ack floors below what was confirmed, such as 4 below 5"),
        (withhold, "1 messages never heard, such as 2"),
        (make_up, "1 messages heard that are not stored so, such as 5"),
        (ack_twice, "lone:1 was acked at 4 and at 3"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_was_done_is_found(doctor: Callable[[Promises, list[Stored]], None], words: str) -> None:
    promises, replay = told()

    doctor(promises, replay)

    assert words in faults(promises, replay, LONE)


def test_nodes_that_replay_different_messages_are_found() -> None:
    _, replay = told()

    assert differing({"a": replay, "b": list(replay)}) == []
    assert differing({"a": replay, "b": replay[:-1]}) == ["b replays other messages than a"]
