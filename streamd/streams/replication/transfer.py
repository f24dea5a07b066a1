"""The state of a group, fetched from its leader by a replica that lacks entries which the leader has no longer.

In the walk:  first the records that the replica lacks, some megabytes a call, each call stored at once; then, in one answer,
              the rest with everything else as of one entry: definitions, indexes, message ids, rows.
Guarantee:    a replica's log is a prefix of its leader's but for what was deleted meanwhile, so only what lies behind its end
              is sent. What the fetched index doesn't know is removed in the commit that makes it valid. A stream that is
              damaged here is fetched from its beginning into a new log.
Shapes:       a call is JSON; an answer is a JSON object, a zero byte, and the parts whose lengths it names. Records are values
              of the log, each behind its length (u32, little endian).
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import CorruptRecord, Records, StreamState, record_key
from streamd.raft.config import Config
from streamd.store import sequence_of
from streamd.streams.definitions import fixed_options, stream_options
from streamd.streams.replication.pieces import Pieces
from streamd.streams.replication.replica import APPLIED, APPLIED_ROW
from streamd.streams.shelf import Shelf
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.raft.net import NodeId
    from streamd.store import Outcome, Work
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

STATE: Final = "group.state"
#: Records of one answer, and what may be left for the last one.
ANSWER_BYTES: Final = 4 << 20
RECORDS_MAX: Final = 50_000
#: Interior deletions that one replica may have missed; beyond that it fetches the stream anew.
DELETED_MAX: Final = 1 << 24
#: After a fetch that failed the leader isn't asked again sooner.
AGAIN_NS: Final = 200_000_000
_LENGTH: Final = struct.Struct("<I")


def pack(values: Iterable[bytes]) -> bytes:
    """Records as one part."""
    return b"".join(piece for value in values for piece in (_LENGTH.pack(len(value)), value))


def unpack(part: bytes) -> list[bytes]:
    """And back. Errors: ValueError."""
    found, at = [], 0
    try:
        while at < len(part):
            (length,) = _LENGTH.unpack_from(part, at)
            at += _LENGTH.size
            found.append(part[at : at + length])
            at += length
    except struct.error as error:
        raise ValueError(f"records are cut short: {error}") from None
    if at != len(part):
        raise ValueError("records are cut short")
    return found


class Transfer:
    """Fetches for the groups of this node, and serves those that it leads."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._services = replication.services
        self._commits = replication.services.commits
        self.pieces = Pieces(replication.net, replication.services.clock)
        self._fetching: set[str] = set()
        self.fetched = 0  # states installed
        self.pieces.serve(STATE, self._serve)

    # serving

    def _serve(self, payload: bytes, answer: Callable[[bytes], None]) -> None:
        request = json.loads(payload)
        if "uid" in request:
            self._serve_copy(request, answer)
            return
        replica = self._replication.replicas.get(request["group"])
        if replica is None or not replica.leading:
            return
        have = {int(uid): last for uid, last in request["have"].items()}
        self._commits.at_rest(lambda _work: self._when_clean(replica, have, answer))

    def _when_clean(self, replica: Replica, have: dict[int, int], answer: Callable[[bytes], None]) -> None:
        """In a job: what is in memory must be what is stored."""
        if not self._commits.clean or replica.busy:
            self._commits.at_rest(lambda _work: self._when_clean(replica, have, answer))
            return
        if not replica.leading:
            return
        try:
            answer(self._records(replica, have) or self._state(replica, have))
        except CorruptRecord as error:
            self._services.log.error("RAFT: group %s can't be sent: %s", replica.name, error)

    def _records(self, replica: Replica, have: dict[int, int]) -> bytes | None:
        """Records alone, while much is missing."""
        lists: list[dict[str, Any]] = []
        parts: list[bytes] = []
        room = ANSWER_BYTES
        for stream in _streams(replica):
            last = have.get(stream.uid, 0)
            if stream.offline is not None or last >= stream.state.last_seq or room <= 0:
                continue
            part = pack(stream.log.read(last + 1, RECORDS_MAX, room))
            room -= len(part)
            lists.append(
                {"uid": stream.uid, "definition": stream.definition(stream.config).decode(), "size": len(part)}
            )
            parts.append(part)
        return _answer({"kind": "records", "streams": lists}, parts) if room <= 0 else None

    def _state(self, replica: Replica, have: dict[int, int]) -> bytes:
        """Everything as of the entry that was applied last."""
        lists: list[dict[str, Any]] = []
        parts: list[bytes] = []
        for owner in replica.owners.values():
            fields: dict[str, Any] = {"uid": owner.uid, "rows": len(owner.rows)}
            own: list[bytes] = []
            if isinstance(owner, Stream):
                last = have.get(owner.uid, 0)
                values = owner.log.read(last + 1, 1 << 40, 1 << 40) if last < owner.state.last_seq else []
                own = [owner.definition(owner.config), owner.state.checkpoint(), owner.state.ids(), pack(values)]
            else:
                own = [owner.definition()]
            own += _rows(owner)
            fields["sizes"] = [len(part) for part in own]
            lists.append(fields)
            parts += own
        term, config = replica.group.at(replica.applied)
        head = {
            "kind": "state",
            "index": replica.applied,
            "term": term,
            "voters": config.voters,
            "learners": config.learners,
            "time": replica.time_ns,
            "owners": lists,
        }
        return _answer(head, parts)

    # copies of single streams, which stand still

    def _serve_copy(self, request: dict[str, Any], answer: Callable[[bytes], None]) -> None:
        stream = self.held(request["uid"])
        if stream is None or not stream.frozen:
            return

        def job(_work: Work) -> None:
            try:
                last = request["have"]
                values = stream.log.read(last + 1, RECORDS_MAX, ANSWER_BYTES) if last < stream.state.last_seq else []
                done = not values or not stream.log.read(sequence_of(values[-1]) + 1, 1)
                head = {"kind": "state" if done else "records", "rows": len(stream.rows)}
                parts = [stream.definition(stream.config), stream.state.checkpoint(), stream.state.ids(), pack(values)]
                answer(_answer(head, parts + (_rows(stream) if done else [])))
            except CorruptRecord as error:
                self._services.log.error("RAFT: stream %s can't be copied: %s", stream.name, error)

        self._commits.at_rest(job)

    def held(self, uid: int) -> Stream | None:
        """This server's copy of a stream."""
        return next((each for each in self._replication.jetstream.streams.values() if each.uid == uid), None)

    def copy(self, node: NodeId, uid: int, group: str, done: Callable[[bool], None]) -> None:
        """Take a copy of a frozen stream that is to belong to a group here, or to this server alone."""
        stream = self.held(uid)
        have = 0 if stream is None else stream.state.last_seq
        payload = json.dumps({"uid": uid, "have": have}).encode()

        def answered(answer: bytes | None) -> None:
            if answer is None:
                done(False)
                return
            head, parts = _read(answer)

            def job(work: Work) -> Callable[[Outcome], None]:
                copy = self.held(uid)
                if copy is None:
                    definition = {**json.loads(parts[0]), "group": group}
                    copy = self._replication.holding.new_stream(uid, definition)
                    copy.move = definition["move"]
                    copy.frozen = copy.partial = True
                    self._replication.jetstream.streams[copy.name] = copy
                if head["kind"] == "records":
                    copy.part(work).definition = copy.definition(copy.config)
                    self._append(work, copy, unpack(parts[3]))
                    self._commits.touch(copy)
                    return lambda outcome: self.copy(node, uid, group, done) if outcome.error is None else done(False)
                copy.partial = False
                self._take_stream(work, copy, json.loads(parts[0]), [copy.definition(copy.config), *parts[1:4]])
                self._take_rows(work, copy, parts[4:])
                return lambda outcome: done(outcome.error is None)

            self._commits.at_rest(job)

        self.pieces.call(node, STATE, payload, answered)

    # fetching

    def fetch(self, replica: Replica, leader: NodeId) -> None:
        """Get a group's state, unless that is under way."""
        if replica.name in self._fetching:
            return
        self._fetching.add(replica.name)
        replica.hold(True)
        self._services.log.info("RAFT: fetching the state of group %s from %s", replica.name, leader)
        self._ask(replica, leader)

    def _ask(self, replica: Replica, leader: NodeId) -> None:
        have = {
            stream.uid: stream.state.last_seq
            for stream in _streams(replica)
            if stream.offline is None and not stream.closed
        }
        payload = json.dumps({"group": replica.name, "have": have}).encode()

        def answered(answer: bytes | None) -> None:
            if answer is None:
                self._services.clock.call_later(AGAIN_NS, lambda: self._end(replica))
                return
            head, parts = _read(answer)
            if head["kind"] == "records":
                self._take_records(replica, head, parts, lambda: self._ask(replica, leader))
            else:
                self._install(replica, head, parts)

        self.pieces.call(leader, STATE, payload, answered)

    def _end(self, replica: Replica) -> None:
        """Try again when the leader offers it again."""
        self._fetching.discard(replica.name)
        replica.hold(False)

    def _take_records(
        self, replica: Replica, head: dict[str, Any], parts: list[bytes], then: Callable[[], None]
    ) -> None:
        """Store records that come behind those that are here."""
        found = [
            (each["uid"], json.loads(each["definition"]), part)
            for each, part in zip(head["streams"], parts, strict=True)
        ]

        def job(work: Work) -> Callable[[Outcome], None]:
            for uid, definition, part in found:
                stream = self._stream(replica, work, uid, definition)
                values = unpack(part)
                self._append(work, stream, values)
                self._commits.touch(stream)
            return lambda outcome: self._end(replica) if outcome.error is not None else then()

        self._commits.at_rest(job)

    def _append(self, work: Work, stream: Stream, values: list[bytes]) -> None:
        if values:
            stream.log.append(work, Records([(record_key(sequence_of(value)), value) for value in values]))
            stream.state.replay(values)
            stream.committed_seq = stream.state.last_seq

    def _stream(self, replica: Replica, work: Work, uid: int, definition: dict[str, Any]) -> Stream:
        """The stream here, made anew if there is none or it is damaged."""
        owner = replica.owners.get(uid)
        if isinstance(owner, Stream) and owner.offline is None:
            return owner
        if isinstance(owner, Stream):
            owner.close("409 Server Shutdown")
            owner.part(work).drop = True
        stream = self._replication.holding.new_stream(uid, definition)
        self._replication.jetstream.streams[stream.name] = stream
        replica.adopt(stream)
        stream.part(work).definition = stream.definition(stream.config)
        return stream

    def _install(self, replica: Replica, head: dict[str, Any], parts: list[bytes]) -> None:
        """Make a fetched state this replica's."""
        index, term = head["index"], head["term"]
        if index <= replica.applied and not replica.damaged:
            self._end(replica)
            return

        def job(work: Work) -> Callable[[Outcome], None]:
            rest = iter(parts)
            named: set[int] = set()
            for fields in head["owners"]:
                own = [next(rest) for _ in fields["sizes"]]
                if self._replication.holding.wanted(fields["uid"], replica.name):
                    named.add(fields["uid"])
                    self._take(replica, work, fields["uid"], own)
            for owner in [owner for uid, owner in replica.owners.items() if uid not in named]:
                if self._replication.belongs(owner.uid, replica.name):
                    replica.drop(owner, lambda _owner, _error: None)
            work.of(replica.journal_id).consumer_states[APPLIED_ROW] = APPLIED.pack(index)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None:
                for stream in _streams(replica):
                    stream.put_back()
                self._end(replica)
                return
            self.fetched += 1
            replica.installed(index, head["time"])
            replica.group.installed(index, term, Config(tuple(head["voters"]), tuple(head["learners"])))
            self._services.log.info("RAFT: group %s has its state as of entry %d", replica.name, index)
            self._end(replica)

        self._commits.at_rest(job)

    def _take(self, replica: Replica, work: Work, uid: int, own: list[bytes]) -> None:
        definition = json.loads(own[0])
        owner: Stream | Shelf
        if "service" in definition:
            owner = self._shelf(replica, work, uid, definition)
            rows = own[1:]
        else:
            owner = stream = self._stream(replica, work, uid, definition)
            self._take_stream(work, stream, definition, own)
            rows = own[4:]
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

    def _shelf(self, replica: Replica, work: Work, uid: int, definition: dict[str, Any]) -> Shelf:
        owner = replica.owners.get(uid)
        if owner is None:
            owner = self._replication.holding.new_shelf(uid, definition)
            replica.adopt(owner)
        assert isinstance(owner, Shelf)
        owner.about = {name: value for name, value in definition.items() if name not in ("name", "service")}
        owner.part(work).definition = owner.definition()
        return owner

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


def _rows(owner: Stream | Shelf) -> list[bytes]:
    found: list[bytes] = []
    for number, (definition, state) in owner.rows.items():
        found += [str(number).encode(), definition, state or b""]
    return found


def _streams(replica: Replica) -> list[Stream]:
    return [owner for owner in replica.owners.values() if isinstance(owner, Stream)]


def _answer(head: dict[str, Any], parts: list[bytes]) -> bytes:
    head["parts"] = [len(part) for part in parts]
    return b"\0".join([json.dumps(head).encode(), b"".join(parts)])


def _read(answer: bytes) -> tuple[dict[str, Any], list[bytes]]:
    text, _, body = answer.partition(b"\0")
    head = json.loads(text)
    parts, at = [], 0
    for length in head["parts"]:
        parts.append(body[at : at + length])
        at += length
    return head, parts
