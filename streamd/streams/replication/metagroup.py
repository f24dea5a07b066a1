"""The meta group on this node: which servers, groups and streams there are.

Place in the walk: an API request at the meta leader → `serially` → an entry → `MetaState` on every server → what follows from
it there (`effects`).
Guarantee:  a request is checked against the state that all earlier ones have left: one proposal is under way at a time.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from streamd.raft.config import Config
from streamd.raft.errors import NotLeader, Overloaded
from streamd.state.meta import Change, MetaState
from streamd.streams.replication.replica import APPLIED, APPLIED_ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.raft.group import Group
    from streamd.raft.net import Net, NodeId
    from streamd.store import Outcome, Work
    from streamd.streams.services import Services

#: The row of the journal in the store that holds the state.
STATE_ROW: Final = 5
#: The state is stored whole once so many entries came since the last time.
STORE_ENTRIES: Final = 512
FETCH_TIMEOUT_NS: Final = 2_000_000_000
FETCH: Final = "meta.state"
KNOWN: Final = "meta.known"
KNOWN_TIMEOUT_NS: Final = 1_000_000_000
KNOWN_STEP_NS: Final = 2_000_000


class MetaGroup:
    """The machine of the meta group."""

    def __init__(
        self,
        services: Services,
        net: Net,
        journal_id: int,
        state: MetaState,
        applied: int,
        effects: Callable[[Change, dict[str, Any]], None],
        role: Callable[[], None],
    ) -> None:
        """`state`: as of the entry `applied`. `effects` is told of every change, once it is made, with its command; `role` of
        every change of leadership."""
        self.state = state
        self.applied = applied
        self.journal_id = journal_id
        self.group: Group
        self.leading = False
        self._services = services
        self._net = net
        self._effects = effects
        self._role = role
        self._stored = applied
        self._storing = False
        self._news: deque[tuple[Change, dict[str, Any]]] = deque()
        self._waiting: tuple[int, int, Callable[[Change | None], None]] | None = None
        self._jobs: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()
        self._told: list[Callable[[], None]] = []  # called once what was applied has had its effects
        self._fetching = False
        net.serve(FETCH, self._serve_state)
        net.serve(KNOWN, self._serve_known)

    # the machine

    def committed(self, index: int, term: int, command: bytes) -> None:
        """An entry is committed."""
        fields = json.loads(bytes(command))
        change = self.state.apply(index, fields)
        self.applied = index
        self._news.append((change, fields))
        if len(self._news) == 1:
            self._services.clock.call_soon(self._tell)
        waiting = self._waiting
        if waiting is not None and waiting[0] <= index:
            self._waiting = None
            done = waiting[2]
            known = (index, term) == waiting[:2]
            self._services.clock.call_soon(lambda: done(change if known else None))
            self._services.clock.call_soon(self._next)
        if index - self._stored >= STORE_ENTRIES and not self._storing:
            self.store(lambda _error: None)

    def _tell(self) -> None:
        while self._news:
            change, command = self._news[0]
            self._effects(change, command)
            self._news.popleft()
        told, self._told = self._told, []
        for call in told:
            call()

    def role_changed(self) -> None:
        """This server leads the meta group, or another does, or none."""
        led, self.leading = self.leading, self.group.leading
        if self.leading and not led:
            self._services.advisories.domain_leader()
        if not self.leading:
            waiting, self._waiting = self._waiting, None
            jobs, self._jobs = self._jobs, deque()
            for _job, lost in jobs:
                self._services.clock.call_soon(lost)
            if waiting is not None:
                self._services.clock.call_soon(lambda: waiting[2](None))
        self._services.clock.call_soon(self._next)
        self._services.clock.call_soon(self._role)

    # proposing

    def serially(self, job: Callable[[], None], lost: Callable[[], None] = lambda: None) -> None:
        """Run a job once nothing is under way; it may propose one thing. If this server ceases to lead, `lost` is called."""
        self._jobs.append((job, lost))
        self._next()

    def first(self, job: Callable[[], None], lost: Callable[[], None] = lambda: None) -> None:
        """As `serially`, before all others: the rest of a job that proposes more than one thing."""
        self._jobs.appendleft((job, lost))
        self._next()

    def _next(self) -> None:
        while self._jobs and self._waiting is None and self.leading and self.group.accepts:
            self._jobs.popleft()[0]()

    def propose(self, command: dict[str, Any], done: Callable[[Change | None], None]) -> None:
        """Put a command into the log; `done` with what it came to, or None if that isn't known. Only in a job."""
        assert self._waiting is None, "one proposal at a time"
        try:
            index = self.group.propose(json.dumps(command).encode())
        except (NotLeader, Overloaded):
            done(None)
            return
        self._waiting = (index, self.group.term, done)

    # what others know

    def when_known(self, nodes: Iterable[NodeId], done: Callable[[], None]) -> None:
        """`done` once these nodes, as far as they can be reached, have done what follows from all that is applied here."""
        waiting = [node for node in nodes if node in self._net.linked()]
        left = len(waiting)
        if not left:
            done()

        def answered(_answer: bytes | None) -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        payload = str(self.applied).encode()
        for node in waiting:
            self._net.call(node, KNOWN, payload, answered, timeout_ns=KNOWN_TIMEOUT_NS)

    def _serve_known(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        index, clock = int(payload), self._services.clock
        until_ns = clock.monotonic_ns() + KNOWN_TIMEOUT_NS

        def look() -> None:
            if self.applied >= index:
                if self._news:
                    self._told.append(lambda: answer(b"ok"))
                else:
                    answer(b"ok")
            elif clock.monotonic_ns() < until_ns:
                clock.call_later(KNOWN_STEP_NS, look)

        look()

    # the stored form

    def store(self, done: Callable[[Exception | None], None]) -> None:
        """Store the state as it is, so that the log may be cut."""
        self._store(self.state.encode(), self.applied, done)

    def _store(self, blob: bytes, index: int, done: Callable[[Exception | None], None]) -> None:
        self._storing = True

        def job(work: Work) -> Callable[[Outcome], None]:
            part = work.of(self.journal_id)
            part.consumers[STATE_ROW] = blob
            part.consumer_states[APPLIED_ROW] = APPLIED.pack(index)
            return after

        def after(outcome: Outcome) -> None:
            self._storing = False
            if outcome.error is None:
                self._stored = index
                self.group.applied(index)
            done(outcome.error)

        self._services.commits.at_rest(job)

    def try_to_store(self, done: Callable[[Exception | None], None]) -> None:
        """Store what is stored already, to see whether that can be done. `done` isn't called if the state is being stored just
        now: how far that one is goes into the same row."""

        def job(work: Work) -> Callable[[Outcome], None] | None:
            if self._storing:
                return None
            work.of(self.journal_id).consumer_states[APPLIED_ROW] = APPLIED.pack(self._stored)
            return lambda outcome: done(outcome.error)

        self._services.commits.at_rest(job)

    # catching up

    def _serve_state(self, _node: NodeId, _payload: bytes, answer: Callable[[bytes], None]) -> None:
        # A leader that doesn't serve yet may need the one who asks for that.
        if self.group.leader != self.group.node:
            return
        term, config = self.group.at(self.applied)
        head = {
            "index": self.applied,
            "term": term,
            "voters": config.voters,
            "learners": config.learners,
            "state": self.state.encode().decode(),
        }
        answer(json.dumps(head).encode())

    def behind(self, leader: NodeId) -> None:
        """The leader lacks the entries that are needed here: take its state."""
        if not self._fetching:
            self._fetching = True
            self._net.call(leader, FETCH, b"", self._fetched, timeout_ns=FETCH_TIMEOUT_NS)

    def _fetched(self, answer: bytes | None) -> None:
        self._fetching = False
        if answer is None:
            return  # the leader offers it again
        fields = json.loads(answer)
        index, term = fields["index"], fields["term"]
        if index <= self.applied:
            return
        state = MetaState.decode(fields["state"].encode())
        config = Config(tuple(fields["voters"]), tuple(fields["learners"]))

        def stored(error: Exception | None) -> None:
            self._fetching = False
            # What isn't stored isn't applied either, or nobody would ask for it again.
            if error is None and index > self.applied:
                self.state, self.applied = state, index
                self.group.installed(index, term, config)
                self._effects(Change("all"), {})

        self._fetching = True
        self._store(state.encode(), index, stored)
