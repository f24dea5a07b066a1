"""The state of a group, fetched from its leader by a replica that lacks entries which the leader has no longer.

In the walk:  first the records that the replica lacks, some megabytes a call, each call stored at once; then, in one answer,
              the rest with everything else as of one entry: definitions, indexes, message ids, rows.
Guarantee:    a replica's log is a prefix of its leader's but for what was deleted meanwhile, so only what lies behind its end
              is sent, and all of it is checked before. What the fetched index doesn't know is removed in the commit that makes
              it valid. Until then a stream of which records came is marked as such in the store: entries of the log that it
              may hold already aren't applied to it, not even after a restart. A stream that is damaged here is fetched from
              its beginning into a new log; the old one goes when that is whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import Records, StreamState, record_key
from streamd.raft.config import Config
from streamd.store import sequence_of
from streamd.streams.definitions import fixed_options, stream_options
from streamd.streams.dropping import is_later, put_drop
from streamd.streams.mishaps import answered as guarded
from streamd.streams.replication.bringing import lay_aside
from streamd.streams.replication.pieces import Pieces
from streamd.streams.replication.replacing import Replacing
from streamd.streams.replication.replica import APPLIED, APPLIED_ROW
from streamd.streams.replication.sending import REST_NS, STATE, Sending, read_answer, streams_of, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.stream import StreamConfig
    from streamd.raft.net import NodeId
    from streamd.store import Outcome, Work
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica
    from streamd.streams.shelf import Shelf
    from streamd.streams.stream import Stream

#: Interior deletions that one replica may have missed; beyond that it fetches the stream anew.
DELETED_MAX: Final = 1 << 24
#: Beyond the last sequence of any stream.
ALL: Final = 1 << 62
#: After a fetch that failed the leader isn't asked again sooner.
AGAIN_NS: Final = 200_000_000


class Transfer:
    """Fetches for the groups of this node."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._services = replication.services
        self._commits = replication.services.commits
        self._replacing = Replacing(replication)
        self.pieces: Pieces = Pieces(replication.net, replication.services.clock)
        self._fetching: set[str] = set()
        #: By group, of what its leader has and this server isn't to have: none of it is sent again.
        self._unwanted: dict[str, set[int]] = {}
        self._told: dict[str, NodeId] = {}  # from whom a group is being fetched, as the log says
        self.fetched = 0  # states installed
        Sending(replication, self.pieces)

    # copies of single streams, which stand still

    def held(self, uid: int) -> Stream | None:
        """This server's copy of a stream."""
        return next((each for each in self._replication.jetstream.streams.values() if each.uid == uid), None)

    def copy(self, node: NodeId, uid: int, group: str, done: Callable[[bool], None], *, early: bool = False) -> None:
        """Take a copy of a frozen stream that is to belong to a group here, or to this server alone. `early`: of one that isn't
        frozen yet, all but what fits into one answer."""
        stream = self.held(uid)
        if stream is not None and stream.replica is not None:
            done(False)  # its group has brought it meanwhile
            return
        if stream is not None and stream.offline is not None:
            # What is stored of it can't be gone on with, nor can anything be stored before it.
            self._replication.holding.drop(stream, lambda *_result: self.copy(node, uid, group, done, early=early))
            return
        have = 0 if stream is None else stream.state.last_seq
        payload = json.dumps({"uid": uid, "have": have, "early": early}).encode()

        def answered(answer: bytes | None) -> None:
            if not answer:
                done(False)
                return
            head, parts = read_answer(answer)
            if head["kind"] == "near":
                done(True)
                return
            definition, whole = json.loads(parts[0]), head["kind"] != "records"

            def job(work: Work) -> Callable[[Outcome], None] | None:
                found = self._copy(uid, {**definition, "group": group}) if self.held(uid) is stream else None
                if found is None:
                    done(False)
                    return None
                copy, put_back = found
                copy.partial = not whole
                if whole:
                    self._take_stream(work, copy, definition, [copy.definition(copy.config), *parts[1:4]])
                    self._take_rows(work, copy, parts[4:])
                else:
                    copy.part(work).definition = copy.definition(copy.config)
                    self._append(work, copy, unpack(parts[3]))
                    self._commits.touch(copy)

                def after(outcome: Outcome) -> None:
                    if outcome.error is not None:
                        put_back()
                        done(False)
                    elif whole:
                        done(True)
                    else:
                        self.copy(node, uid, group, done, early=early)

                return after

            # What came from elsewhere may not be what it should; then it is begun anew.
            whose = self.held(uid)
            self._commits.at_rest(job if whose is None else guarded(whose, job, lambda _outcome: done(False)))

        self.pieces.call(node, STATE, payload, answered)

    def _copy(self, uid: int, definition: dict[str, Any]) -> tuple[Stream, Callable[[], None]] | None:
        """This server's copy, begun if there is none, and what makes it what is stored again: one that isn't whole there must
        not count as whole here, as the original goes once all copies are. None if another stream has its name."""
        streams, stream = self._replication.jetstream.streams, self.held(uid)
        if stream is None:
            made = self._replication.holding.new_stream(uid, definition)
            made.move, made.frozen = definition.get("move", 0), True
            other = streams.get(made.name)
            if other is not None and other.alone:
                lay_aside(self._replication.jetstream, other, "name")
            elif other is not None and not is_later(made, other):
                return None
            elif other is not None:
                self._replication.assigned.remove(other)  # that was removed, which this server has yet to hear
            streams[made.name] = made
            return made, lambda: _forget_copy(streams, made)
        copy = stream
        state, config, version, rows = copy.state, copy.config, copy.version, copy.rows
        frozen, move, partial = copy.frozen, copy.move, copy.partial
        copy.move = definition.get("move", 0)
        copy.direct.close()  # what it is a copy of may have had more since

        def put_back() -> None:
            copy.replace_state(state, config, version)
            copy.frozen, copy.move, copy.partial, copy.rows = frozen, move, partial, rows
            copy.put_back()
            copy.committed_seq = copy.state.last_seq

        return copy, put_back

    # fetching

    def fetch(self, replica: Replica, leader: NodeId) -> None:
        """Get a group's state, unless that is under way."""
        if replica.name in self._fetching:
            return
        self._fetching.add(replica.name)
        replica.hold(True)
        if self._told.get(replica.name) != leader:
            self._told[replica.name] = leader
            self._services.log.info("RAFT: fetching the state of group %s from %s", replica.name, leader)
        self._commits.at_rest(lambda _work: self._ask(replica, leader))

    def _ask(self, replica: Replica, leader: NodeId) -> None:
        """In a job: what is in memory must be what is stored, and all that was begun must have ended."""
        if not self._commits.clean or replica.busy:
            at_rest = self._commits.at_rest
            self._services.clock.call_later(REST_NS, lambda: at_rest(lambda _work: self._ask(replica, leader)))
            return
        have = _have(replica)
        unwanted = dict.fromkeys(self._unwanted.get(replica.name, ()), ALL)
        payload = json.dumps({"group": replica.name, "have": have | unwanted}).encode()

        def answered(answer: bytes | None) -> None:
            if not answer:
                self._again(replica)
                return
            head, parts = read_answer(answer)
            if not self._replication.holding.known(head.get("at", 0)):
                # What belongs to the group, and what has gone, would be judged by what was agreed on before.
                self._again(replica)
            elif head["kind"] == "records":
                self._take_records(replica, have, head, parts, lambda: self._ask(replica, leader))
            else:
                self._install(replica, have, head, parts)

        self.pieces.call(leader, STATE, payload, answered)

    def _again(self, replica: Replica) -> None:
        """It came to nothing: whoever leads then is asked, if that is still needed."""

        def end() -> None:
            self._end(replica)
            replica.heal()

        self._services.clock.call_later(AGAIN_NS, end)

    def _end(self, replica: Replica) -> None:
        self._fetching.discard(replica.name)
        self._unwanted.pop(replica.name, None)
        replica.hold(False)

    def _wanted(self, replica: Replica, uid: int, definition: dict[str, Any]) -> bool:
        """Whether this server is to have something of a group's state. The leader may have yet to hear that it has gone."""
        holding = self._replication.holding
        return holding.wanted(uid, replica.name) and not holding.outlived(uid, definition["name"])

    def _fits(
        self, replica: Replica, have: dict[int, int], wanted: dict[int, dict[str, Any]], unwanted: set[int]
    ) -> bool:
        """Whether what was sent comes behind what is here: a stream may have been found damaged since it was asked for, or it
        was sent as one that isn't wanted. And whether it can be here."""
        now = _have(replica)
        return all(
            have.get(uid, 0) == now.get(uid, 0) and uid not in unwanted and not self._replacing.hidden(definition)
            for uid, definition in wanted.items()
        )

    def _take_records(
        self,
        replica: Replica,
        have: dict[int, int],
        head: dict[str, Any],
        parts: list[bytes],
        then: Callable[[], None],
    ) -> None:
        """Store records that come behind those that are here."""
        found = {
            each["uid"]: (json.loads(each["definition"]), part)
            for each, part in zip(head["streams"], parts, strict=True)
        }

        def job(work: Work) -> Callable[[Outcome], None] | None:
            unwanted = self._unwanted.setdefault(replica.name, set())
            wanted = {uid: each for uid, (each, _) in found.items() if self._wanted(replica, uid, each)}
            if not self._fits(replica, have, wanted, unwanted):
                self._again(replica)
                return None
            unwanted |= found.keys() - wanted.keys()
            undo: list[Callable[[], None]] = []
            for uid, definition in wanted.items():
                stream = self._replacing.stream(replica, uid, definition, undo)
                stream.part(work).definition = stream.definition(stream.config)
                self._append(work, stream, unpack(found[uid][1]))
                self._commits.touch(stream)
            return lambda outcome: self._ended(replica, outcome, undo, then)

        self._commits.at_rest(job)

    def _ended(
        self, replica: Replica, outcome: Outcome, undo: list[Callable[[], None]], then: Callable[[], None]
    ) -> None:
        if outcome.error is None:
            then()
            return
        for call in reversed(undo):
            call()
        self._again(replica)

    def _append(self, work: Work, stream: Stream, values: list[bytes]) -> None:
        if values:
            stream.log.append(work, Records([(record_key(sequence_of(value)), value) for value in values]))
            stream.state.replay(values)
            stream.committed_seq = stream.state.last_seq

    def _install(self, replica: Replica, have: dict[int, int], head: dict[str, Any], parts: list[bytes]) -> None:
        """Make a fetched state this replica's."""
        index, term, config = head["index"], head["term"], Config(tuple(head["voters"]), tuple(head["learners"]))
        if index < replica.applied or (index == replica.applied and not replica.damaged):
            if index == replica.applied:
                replica.group.installed(index, term, config)
            self._again(replica)
            return

        rest = iter(parts)
        found = {each["uid"]: [next(rest) for _ in each["sizes"]] for each in head["owners"]}
        definitions = {uid: json.loads(own[0]) for uid, own in found.items()}

        def job(work: Work) -> Callable[[Outcome], None] | None:
            wanted = {uid: each for uid, each in definitions.items() if self._wanted(replica, uid, each)}
            if not self._fits(replica, have, wanted, self._unwanted.get(replica.name, set())):
                self._again(replica)
                return None
            undo: list[Callable[[], None]] = []
            for uid in wanted:
                self._take(replica, work, uid, found[uid], undo)
            for owner in [owner for uid, owner in replica.owners.items() if uid not in wanted]:
                if self._replication.belongs(owner.uid, replica.name):
                    # With what counts as applied: nobody would say so again.
                    put_drop(work, owner)
                    replica.drop(owner, lambda _owner, _error: None)
            work.of(replica.journal_id).consumer_states[APPLIED_ROW] = APPLIED.pack(index)
            return lambda outcome: self._ended(replica, outcome, undo, installed)

        def installed() -> None:
            for stream in streams_of(replica):
                stream.state_came()
            self.fetched += 1
            self._told.pop(replica.name, None)
            replica.installed(index, head["time"])
            replica.group.installed(index, term, config)
            self._services.log.info("RAFT: group %s has its state as of entry %d", replica.name, index)
            self._end(replica)

        self._commits.at_rest(job)

    def _take(self, replica: Replica, work: Work, uid: int, own: list[bytes], undo: list[Callable[[], None]]) -> None:
        definition = json.loads(own[0])
        owner: Stream | Shelf
        if "service" in definition:
            owner = self._replacing.shelf(replica, work, uid, definition, undo)
            rows = own[1:]
        else:
            owner = stream = self._replacing.stream(replica, uid, definition, undo)
            before = (stream.state, stream.config, stream.version, stream.frozen, stream.move, stream.replaces)
            undo.append(lambda: _take_back(stream, *before))
            for number in stream.replaces:
                work.of(number).drop = True
            stream.replaces = []
            self._take_stream(work, stream, definition, own)
            rows = own[4:]
        kept = owner.rows
        undo.append(lambda: setattr(owner, "rows", kept))
        self._take_rows(work, owner, rows)

    def _take_rows(self, work: Work, owner: Stream | Shelf, rows: list[bytes]) -> None:
        before, owner.rows = owner.rows, {}
        part = owner.part(work)
        for number, row, state in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            owner.rows[int(number)] = (row, state or None)
            part.consumers[int(number)] = row
            if state:
                part.consumer_states[int(number)] = state
        part.consumers_drop += [number for number in before if number not in owner.rows]

    def _take_stream(self, work: Work, stream: Stream, definition: dict[str, Any], own: list[bytes]) -> None:
        """The index and the last records of a stream, and the end of what the index doesn't know."""
        have = stream.state.last_seq
        values = unpack(own[3])
        config = self._replication.jetstream.config_of(definition["config"])
        options = stream_options(config, stream.channel) | fixed_options(config, stream.channel)
        state, _ = StreamState.restore(stream.name, own[1], [], None, **options)
        state.replay_ids([own[2]] if own[2] else [], 0)
        part = stream.part(work)
        part.definition = own[0]
        if values:
            stream.log.append(work, Records([(record_key(sequence_of(value)), value) for value in values]))
        gone = [sequence for sequence in state.deleted(DELETED_MAX) if sequence <= have]
        if gone:
            stream.log.delete(work, [record_key(sequence) for sequence in gone])
        stream.log.keep_from(work, state.first_seq if state.messages else state.last_seq + 1)
        stream.forget_ids(work)
        if own[2]:
            stream.remember_ids(work, own[2], state.last_ts_ns)
        totals, _removals = state.delta()
        part.totals = totals
        part.checkpoint = own[1]
        stream.replace_state(state, config, definition.get("version", 0))
        stream.frozen, stream.move, stream.partial = definition.get("frozen", False), definition.get("move", 0), False


def _have(replica: Replica) -> dict[int, int]:
    """The last sequences of the streams that can be gone on with."""
    return {each.uid: each.state.last_seq for each in streams_of(replica) if each.offline is None or each.fetching}


def _forget_copy(streams: dict[str, Stream], stream: Stream) -> None:
    if streams.get(stream.name) is stream:
        del streams[stream.name]


def _take_back(
    stream: Stream, state: StreamState, config: StreamConfig, version: int, frozen: bool, move: int, replaces: list[int]
) -> None:
    """What a stream was before a commit that failed."""
    stream.replace_state(state, config, version)
    stream.frozen, stream.move, stream.replaces = frozen, move, replaces
    stream.await_state()
    stream.put_back()  # with it, how many segments of message ids are stored
