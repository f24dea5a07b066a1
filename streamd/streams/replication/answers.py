"""Answers to what the meta group decided: the server that made or changed a stream tells who asked for it.

Every server remembers the question from the entry, as any of them may turn out to be the one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamd.api import stream as wire
from streamd.api.errors import ApiError
from streamd.errors import StoreError
from streamd.streams.failures import storage_error

if TYPE_CHECKING:
    from streamd.state.meta import Change
    from streamd.streams.replication.node import Replication

#: Nobody waits longer for an answer.
REMEMBER_NS: Final = 10_000_000_000
#: What a leader was asked so long before it was lost, it has answered if it has done it.
ANSWERED_NS: Final = 1_000_000_000


class _Question(NamedTuple):
    reply: str  # "": nobody waits
    kind: type[wire.StreamCreateResponse | wire.StreamUpdateResponse]
    asked_ns: int


class Answers:
    """Questions that are not yet answered, by the uid of their stream."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._questions: dict[int, list[_Question]] = {}

    def expect(self, change: Change, command: dict[str, Any]) -> None:
        """A command was agreed on, of whose outcome somebody may want to hear."""
        now_ns = self._replication.services.clock.monotonic_ns()
        for uid in [uid for uid, asked in self._questions.items() if asked[-1].asked_ns < now_ns - REMEMBER_NS]:
            del self._questions[uid]
        if change.stream is None or change.kind not in ("assigned", "configured", "moving"):
            return
        kind: type[wire.StreamCreateResponse | wire.StreamUpdateResponse] = wire.StreamUpdateResponse
        if change.kind == "assigned":
            kind = wire.StreamCreateResponse
        elif not command.get("reply"):
            return
        question = _Question(command["reply"], kind, now_ns)
        self._questions.setdefault(change.stream.uid, []).append(question)

    def asked(self) -> list[int]:
        """Streams that somebody has just asked for."""
        since_ns = self._replication.services.clock.monotonic_ns() - REMEMBER_NS
        return [
            uid
            for uid, asked in self._questions.items()
            if asked[0].kind is wire.StreamCreateResponse and asked[0].asked_ns > since_ns
        ]

    def answered(self, uid: int) -> None:
        """Another server has told who asked."""
        self._questions.pop(uid, None)

    def made_before(self, uid: int, lost_ns: int) -> None:
        """The leader before this server has done what was asked for; when it was lost it may not have come to answer."""
        asked = self._questions.get(uid)
        if asked is None:
            return
        self._questions[uid] = [question for question in asked if question.asked_ns > lost_ns - ANSWERED_NS]
        self.made(uid, None)

    def made(self, uid: int, error: Exception | None) -> None:
        """This server has done what was asked for."""
        asked = self._questions.pop(uid, None)
        if not asked:
            return  # as nearly always: a new leader looks at all its streams
        jetstream = self._replication.jetstream
        stream = next((each for each in jetstream.streams.values() if each.uid == uid), None)
        for question in asked:
            if isinstance(error, StoreError):
                error = storage_error(error)
            if isinstance(error, ApiError):
                payload = question.kind.failure(error)
            elif stream is not None:
                payload = question.kind(info=jetstream.api.streams.info(stream)).encode()
            else:
                continue
            if question.reply:
                jetstream.services.bus.publish(question.reply, payload)
            if error is None and stream is not None and stream.group and question.kind is wire.StreamCreateResponse:
                # One without replicas tells by itself that it was made.
                jetstream.services.advisories.stream_action(stream.name, "create")
