"""What clients of a cluster were told, and what is wrong with it: plain functions over plain lists.

What an ack promises is in Promises; a replay is what a client reads from the first message on. Each function returns what is
wrong, [] if nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Stored:
    """One message of a replay. `identity` is its message id, empty without one."""

    sequence: int
    payload: str
    identity: str = ""


@dataclass
class Promises:
    """What one stream's clients know. Payloads are all different: `publisher:number`."""

    #: payload → its sequence; 0 where the protocol doesn't tell
    acked: dict[str, int] = field(default_factory=dict)
    #: sequence and payload as a consumer got them, in that order
    heard: list[tuple[int, str]] = field(default_factory=list)
    #: sequences whose own ack was confirmed by the server
    confirmed: set[int] = field(default_factory=set)
    #: the ack floor of the consumer, as one observer was told it again and again
    floors: list[int] = field(default_factory=list)
    #: what was said to a client that can't be true
    faults: list[str] = field(default_factory=list)

    def ack(self, payload: str, sequence: int) -> None:
        """A publish was acked, or one sent again was told where the first one is."""
        before = self.acked.setdefault(payload, sequence)
        if before != sequence:
            self.faults.append(f"{payload} was acked at {before} and at {sequence}")


def shown(what: str, found: Sequence[object]) -> list[str]:
    """One line for many."""
    return [f"{len(found)} {what}, such as {found[0]}"] if found else []


def in_order(replay: Sequence[Stored]) -> list[str]:
    """Sequences go from 1 without a gap: nothing was deleted."""
    wrong = [f"{one.sequence} at place {place}" for place, one in enumerate(replay, 1) if one.sequence != place]
    return shown("messages out of order", wrong)


def none_lost(promises: Promises, replay: Sequence[Stored]) -> list[str]:
    """Each acked publish is there, at the sequence that its ack named."""
    places: dict[str, list[int]] = {}
    for one in replay:
        places.setdefault(one.payload, []).append(one.sequence)
    lost = [payload for payload in promises.acked if payload not in places]
    moved = [
        f"{payload} at {places[payload]} and not at {sequence}"
        for payload, sequence in promises.acked.items()
        if sequence and payload in places and sequence not in places[payload]
    ]
    return shown("acked publishes lost", lost) + shown("acked publishes elsewhere", moved)


def none_twice(replay: Sequence[Stored]) -> list[str]:
    """No payload and no message id is there twice, as clients send a message again only under its id."""
    seen: dict[str, int] = {}
    twice = []
    for one in replay:
        for name in {one.payload, one.identity} - {""}:
            if name in seen:
                twice.append(f"{name} at {seen[name]} and {one.sequence}")
            seen[name] = one.sequence
    return shown("messages stored twice", twice)


def each_in_turn(replay: Sequence[Stored], publishers: Sequence[str]) -> list[str]:
    """The numbers of a publisher that waits for each ack ascend."""
    last = dict.fromkeys(publishers, -1)
    wrong = []
    for one in replay:
        name, number = one.payload.rsplit(":", 1)
        if name in last:
            if int(number) <= last[name]:
                wrong.append(f"{one.payload} behind {last[name]}")
            last[name] = int(number)
    return shown("messages behind later ones of their publisher", wrong)


def floors_rise(promises: Promises) -> list[str]:
    """An ack floor never goes back, and at last it is not below what was confirmed."""
    floors = promises.floors
    back = [f"{before} to {after}" for before, after in itertools.pairwise(floors) if after < before]
    confirmed = 0
    while confirmed + 1 in promises.confirmed:
        confirmed += 1
    low = [f"{floors[-1]} below {confirmed}"] if floors and floors[-1] < confirmed else []
    return shown("ack floors went back", back) + shown("ack floors below what was confirmed", low)


def heard_as_stored(promises: Promises, replay: Sequence[Stored]) -> list[str]:
    """Whatever a consumer got is stored like that, and it got everything."""
    stored = {one.sequence: one.payload for one in replay}
    other = [sequence for sequence, payload in promises.heard if stored.get(sequence) != payload]
    never = sorted(stored.keys() - {sequence for sequence, _ in promises.heard})
    return shown("messages heard that are not stored so", other) + shown("messages never heard", never)


def faults(promises: Promises, replay: Sequence[Stored], lone: Sequence[str]) -> list[str]:
    """All of it. `lone`: the publishers that wait for each ack."""
    return [
        *promises.faults[:3],
        *in_order(replay),
        *none_lost(promises, replay),
        *none_twice(replay),
        *each_in_turn(replay, lone),
        *floors_rise(promises),
        *heard_as_stored(promises, replay),
    ]


def differing(replays: dict[str, list[Stored]]) -> list[str]:
    """Replays through different nodes, by the name of the node, are the same."""
    (first, expected), *others = replays.items()
    return [f"{name} replays other messages than {first}" for name, found in others if found != expected]
