"""The state of a group or of one stream, as whoever has it sends it to whoever lacks it.

Guarantee:    what is sent was checked: checksums, and that nothing live is missing. A stream that turns out to be damaged goes
              offline, and this server leads its group no more.
Shapes:       a call is JSON; an answer is a JSON object, a zero byte, and the parts whose lengths it names; an empty one says
              that there is nothing to be had here now. Records are values of the log, each behind its length (u32, little
              endian).
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import CorruptRecord
from streamd.store import sequence_of
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.store import Work
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.pieces import Pieces
    from streamd.streams.replication.replica import Replica
    from streamd.streams.shelf import Shelf

STATE: Final = "group.state"
#: Records of one answer, and what may be left for the last one.
ANSWER_BYTES: Final = 4 << 20
RECORDS_MAX: Final = 50_000
#: Pause before it is looked again whether all that is in memory is stored.
REST_NS: Final = 5_000_000
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


class Sending:
    """Serves the groups that this node leads, and the copies of streams that stand still."""

    def __init__(self, replication: Replication, pieces: Pieces) -> None:
        self._replication = replication
        self._services = replication.services
        self._commits = replication.services.commits
        self._relaxed = replication.jetstream.environment.sync.mode != "always"
        pieces.serve(STATE, self._serve)

    def _serve(self, payload: bytes, answer: Callable[[bytes], None]) -> None:
        request = json.loads(payload)
        if "uid" in request:
            self._serve_copy(request, answer)
            return
        replica = self._replication.replicas.get(request["group"])
        if replica is None or not _elected(replica):
            answer(b"")
            return
        have = {int(uid): last for uid, last in request["have"].items()}
        self._commits.at_rest(lambda _work: self._when_clean(replica, have, answer))

    def _when_clean(self, replica: Replica, have: dict[int, int], answer: Callable[[bytes], None]) -> None:
        """In a job: what is in memory must be what is stored."""
        if not _elected(replica) or replica.damaged:
            answer(b"")
        elif not self._commits.clean or replica.busy:
            self._later(REST_NS, lambda: self._when_clean(replica, have, answer))
        else:
            answer(self._records(replica, have) or self._state(replica, have))

    def _later(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Call in a job of the commits, after a pause."""
        at_rest = self._commits.at_rest
        self._services.clock.call_later(delay_ns, lambda: at_rest(lambda _work: call()))

    def _read(self, stream: Stream, from_seq: int, room: int) -> list[bytes] | None:
        """Records as they were written, about so many bytes; None if they aren't, and then the stream is offline."""
        if from_seq > stream.state.last_seq:
            return []
        try:
            return stream.read(from_seq, RECORDS_MAX, room)[0]
        except CorruptRecord as error:
            stream.damaged(error)
            return None

    def _records(self, replica: Replica, have: dict[int, int]) -> bytes | None:
        """Records alone, while much is missing."""
        lists: list[dict[str, Any]] = []
        parts: list[bytes] = []
        room = ANSWER_BYTES
        for stream in streams_of(replica):
            last = have.get(stream.uid, 0)
            if last >= stream.state.last_seq or room <= 0:
                continue
            values = self._read(stream, last + 1, room)
            if values is None:
                return b""
            part = pack(values)
            # Beyond the last one that fits there is another, or the next stream may have what is left of the room.
            room = 0 if values and self._read(stream, sequence_of(values[-1]) + 1, 1) else room - len(part)
            lists.append(
                {"uid": stream.uid, "definition": stream.definition(stream.config).decode(), "size": len(part)}
            )
            parts.append(part)
        head = {"kind": "records", "at": self._replication.meta.applied, "streams": lists}
        return answer_of(head, parts) if room <= 0 else None

    def _state(self, replica: Replica, have: dict[int, int]) -> bytes:
        """Everything as of the entry that was applied last. What remains of the records is less than an answer takes."""
        lists: list[dict[str, Any]] = []
        parts: list[bytes] = []
        for owner in replica.owners.values():
            fields: dict[str, Any] = {"uid": owner.uid, "rows": len(owner.rows)}
            own: list[bytes] = []
            if isinstance(owner, Stream):
                values = self._read(owner, have.get(owner.uid, 0) + 1, ANSWER_BYTES)
                if values is None:
                    return b""
                own = [owner.definition(owner.config), owner.state.snapshot(), owner.state.ids(), pack(values)]
            else:
                own = [owner.definition()]
            own += rows_of(owner)
            fields["sizes"] = [len(part) for part in own]
            lists.append(fields)
            parts += own
        term, config = replica.group.at(replica.applied)
        head = {
            "kind": "state",
            "at": self._replication.meta.applied,
            "index": replica.applied,
            "term": term,
            "voters": config.voters,
            "learners": config.learners,
            "time": replica.time_ns,
            "owners": lists,
        }
        return answer_of(head, parts)

    def _serve_copy(self, request: dict[str, Any], answer: Callable[[bytes], None]) -> None:
        stream, early = self._held(request["uid"]), request.get("early", False)
        if stream is None or stream.offline is not None or not (stream.frozen or (early and stream.leads)):
            answer(b"")
            return
        if early and self._relaxed:
            # What a power cut takes from here again must not be there.
            answer(answer_of({"kind": "near", "rows": 0}, []))
            return

        def job(_work: Work) -> None:
            values = self._read(stream, request["have"] + 1, ANSWER_BYTES)
            if values is None:
                answer(b"")
                return
            last = sequence_of(values[-1]) if values else stream.state.last_seq
            rest = self._read(stream, last + 1, 1)
            if early and not rest:
                answer(answer_of({"kind": "near", "rows": 0}, []))
                return
            head = {"kind": "records" if rest else "state", "rows": len(stream.rows)}
            # The index and message ids of what is copied are wanted once: with the last records.
            index = [b"", b""] if rest else [stream.state.snapshot(), stream.state.ids()]
            parts = [stream.definition(stream.config), *index, pack(values)]
            answer(answer_of(head, parts + ([] if rest else rows_of(stream))))

        self._commits.at_rest(job)

    def _held(self, uid: int) -> Stream | None:
        return next((each for each in self._replication.jetstream.streams.values() if each.uid == uid), None)


def _elected(replica: Replica) -> bool:
    """Whether this server is the leader, be it that it doesn't serve yet: for that it may need the vote of who is behind."""
    return replica.group.leader == replica.group.node


def rows_of(owner: Stream | Shelf) -> list[bytes]:
    found: list[bytes] = []
    for number, (definition, state) in owner.rows.items():
        found += [str(number).encode(), definition, state or b""]
    return found


def streams_of(replica: Replica) -> list[Stream]:
    return [owner for owner in replica.owners.values() if isinstance(owner, Stream)]


def answer_of(head: dict[str, Any], parts: list[bytes]) -> bytes:
    head["parts"] = [len(part) for part in parts]
    return b"\0".join([json.dumps(head).encode(), b"".join(parts)])


def read_answer(answer: bytes) -> tuple[dict[str, Any], list[bytes]]:
    text, _, body = answer.partition(b"\0")
    head = json.loads(text)
    parts, at = [], 0
    for length in head["parts"]:
        parts.append(body[at : at + length])
        at += length
    return head, parts
