"""What is done past the library for most messages and turns comes to what it would have done itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamd.raft import replica as replica_room
from streamd.raft.core import Core
from streamd.raft.replication import Replication
from tests.raft.lab import Kind, Lab, Message, no_op, regular

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.envelope import Entry

_peers = st.sampled_from(["b", "c"])
#: Relative to what the node has: most of these are the next entries.
_appends = st.tuples(
    st.just("append"),
    _peers,
    st.sampled_from([0, 0, 0, 1, -1]),  # term
    st.sampled_from([0, 0, 0, 0, -1, -3, 1]),  # entry before
    st.integers(0, 3),  # entries
    st.sampled_from([0, 0, -1, 2, -100]),  # commit index, from the end of the append
)
_answers = st.tuples(
    st.sampled_from(["appended", "rejected"]),
    _peers,
    st.sampled_from([0, 0, -1, 1]),
    st.sampled_from([0, 0, -1, -2, 1]),
)
_votes = st.tuples(st.just("vote"), _peers, st.integers(0, 2))
_others = st.tuples(st.sampled_from(["lead", "propose", "propose", "notice"]))
_waits = st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 5.0, 250.0, 2000.0]))
_steps = st.lists(st.one_of(_appends, _appends, _answers, _answers, _votes, _others, _waits), max_size=25)


def entries(term: int, before: int, count: int) -> list[Entry]:
    """Two of the same index and term are the same, as in a group."""
    return [regular(term, f"{term}:{before + number}") if before + number else no_op(term) for number in range(count)]


def play(lab: Lab, step: tuple[object, ...]) -> None:
    group = lab.group
    match step:
        case ("append", str(peer), int(term), int(before), int(count), int(commit)):
            term = max(group.term + term, 0)
            before = max(group.last_index + before, lab.group.commit_index)
            if term == group.term and group.leading:
                return  # there is one leader a term
            at_term = lab.group.at(before)[0] if before <= group.last_index else term
            if at_term > term:
                return
            commit = max(before + count + commit, 0)
            lab.append(peer, term, before, at_term, *entries(term, before, count), commit=commit)
        case ("appended", str(peer), int(term), int(index)):
            lab.get(peer, Message(Kind.APPENDED, "g", max(group.term + term, 0), max(group.last_index + index, 0)))
        case ("rejected", str(peer), int(term), int(index)):
            lab.get(peer, Message(Kind.REJECTED, "g", max(group.term + term, 0), max(group.last_index + index, 0)))
        case ("vote", str(peer), int(ahead)):
            lab.get(peer, Message(Kind.VOTE, "g", group.term + ahead, group.last_index, group.last_term))
        case ("lead",):
            if group.replica.core.follows and lab.until(lambda: bool(lab.sent(Kind.PREVOTE))):
                nonce = group.replica.elections._prevote._round
                lab.get("b", Message(Kind.PREVOTED, "g", group.term, round=nonce))
                lab.run()
                lab.get("c", Message(Kind.VOTED, "g", group.term))
                lab.run()
        case ("propose",):
            if group.accepts:
                group.propose(b"mine")
        case ("notice",):
            lab.get("b", Message(Kind.NOTICE, "g", group.term + 1))
        case ("wait", float(ms)):
            lab.run(ms)


def seen(lab: Lab) -> list[object]:
    """All that others see of a node, and what it has stored."""
    group, core = lab.group, lab.group.replica.core
    frames, lab.frames = lab.frames, []
    said = [(frame.receiver, message) for frame in frames for message in frame.messages]
    state = (group.term, group.leader, group.leading, group.last_index, group.commit_index, core.commit, core.applied)
    return [state, said, lab.machine.entries[:], lab.log()]


def by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every shortcut out."""
    monkeypatch.setattr(Replication, "_next", lambda *_: False)
    turn = replica_room.Replica.turn

    def always(self: replica_room.Replica, now: float, *, beat: bool) -> None:
        self._news = True
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Core, "follows", property(lambda _: False))
            turn(self, now, beat=beat)

    monkeypatch.setattr(replica_room.Replica, "turn", always)


def run(steps: list[tuple[object, ...]], prepare: Callable[[pytest.MonkeyPatch], None]) -> list[object]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        lab = Lab()
        history: list[object] = []
        for step in steps:
            play(lab, step)
            lab.run(1)
            history.append(seen(lab))
        return history


@example(
    [("lead",), ("appended", "c", 0, 0), ("propose",), ("appended", "b", 0, 0), ("propose",), ("appended", "c", 0, 0)]
)
@given(_steps)
def test_shortcuts_change_nothing(steps: list[tuple[object, ...]]) -> None:
    assert run(steps, lambda _: None) == run(steps, by_the_library)


def test_most_appends_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a leader's late answers cost no look of the library."""
    lab = Lab()
    lab.append("b", 1, 1, 0, no_op(1))
    asked: list[str] = []
    monkeypatch.setattr(Core, "append", lambda *_: asked.append("append"))
    monkeypatch.setattr(Core, "tick", lambda *_, **__: asked.append("tick"))
    for index in range(2, 10):
        lab.append("b", 1, index, 1, regular(1), commit=index)
        lab.run()
    assert not asked
    assert (lab.group.last_index, lab.group.commit_index) == (10, 9)
    assert len(lab.machine.entries) == 7
