"""Pull requests that come while nobody serves the consumers of a stream: they are kept for who does next.

Purpose:    a client that is told of a change of leader asks again at once, and would hear that nobody answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamd._engine import Batch
    from streamd.core.bus import Binding
    from streamd.streams.stream import Stream

KEPT_MAX: Final = 10_000
#: What who waited at a leader hears of the next one.
LEADERSHIP_CHANGE: Final = "409 Leadership Change"


class KeptPulls:
    """Those of one stream."""

    __slots__ = ("_binding", "_kept", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._binding: Binding | None = None
        self._kept: list[Batch] = []

    @property
    def _subject(self) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self._stream.name}"

    def open(self) -> None:
        """Keep what comes from now on."""
        if self._binding is None:
            self._binding = self._stream.services.bus.bind([f"{self._subject}.*"], self._keep)

    def _keep(self, batch: Batch) -> None:
        if len(self._kept) < KEPT_MAX:
            self._kept.append(batch)

    def _close(self) -> list[Batch]:
        if self._binding is not None:
            batch = self._binding.take()
            if batch is not None:
                self._kept.append(batch)
            self._binding.close()
            self._binding = None
        kept, self._kept = self._kept, []
        return kept

    def serve(self) -> None:
        """The consumers are here: they get what came."""
        for batch in self._close():
            for index in range(len(batch)):
                message = batch[index]
                consumer = self._stream.consumers.get(message.subject.removeprefix(f"{self._subject}."))
                if consumer is not None and consumer.pull and message.reply:
                    consumer.requests.accept(message.reply, message.payload, message.headers)
                    consumer.wake()

    def end(self, status: str = "") -> None:
        """They are for somebody else, who has them too, or with a status: who asked is to ask again."""
        kept = self._close()
        bus, headers = self._stream.services.bus, f"NATS/1.0 {status}\r\n\r\n".encode()
        for batch in kept if status else ():
            for index in range(len(batch)):
                if batch[index].reply:
                    bus.publish(batch[index].reply, b"", headers=headers, account=self._stream.account)
        if kept:
            bus.flush_soon()
