"""Pull requests of one consumer: what a request may ask for, and when waiting ones end.

The queue itself, its round robin and its status messages are native. Source: nats-server 2.15.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.api.consumer import NextRequest, next_request
from streamd.api.metadata import level_refused
from streamd.state.limits import duration_text
from streamd.streams.records import header

if TYPE_CHECKING:
    from streamd._engine import Batch
    from streamd.clock import Timer
    from streamd.streams.consumer import Consumer

#: A timer fires a little late rather than a little early and then again.
TIMER_SLACK_NS: Final = 200_000


class PullRequests:
    """The waiting requests of a pull consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._clock = consumer.stream.services.clock
        self._bus = consumer.stream.services.bus
        self._timer: Timer | None = None
        self._due_ns = 0

    def receive(self, batch: Batch) -> None:
        """Requests have arrived on the consumer's MSG.NEXT subject."""
        for index in range(len(batch)):
            message = batch[index]
            if message.reply:
                self.accept(message.reply, message.payload, message.headers)
        if self._consumer.stream.replica is not None:
            self._consumer.stream.replica.lead.pulled(self._consumer)
        self._consumer.wake()

    def refuse_push(self, batch: Batch) -> None:
        """Requests have arrived, but the consumer pushes."""
        for index in range(len(batch)):
            if batch[index].reply:
                self._refuse(batch[index].reply, "409 Consumer is push based")

    def accept(self, reply: str, body: bytes, headers: bytes = b"") -> None:
        """Queue one request, or answer why not."""
        consumer, config, state = self._consumer, self._consumer.config, self._consumer.state
        consumer.touched()
        try:
            request = next_request(body)
        except ValueError as error:
            self._refuse(reply, f"400 Bad Request - {error}")
            return
        if headers and level_refused(header(headers, b"Nats-Required-Api-Level")):
            self._refuse(reply, "412 Required Api Level")
            return
        if config.max_batch and request.batch > config.max_batch:
            self._refuse(reply, f"409 Exceeded MaxRequestBatch of {config.max_batch}")
            return
        if config.max_expires and request.expires > config.max_expires:
            self._refuse(reply, f"409 Exceeded MaxRequestExpires of {duration_text(config.max_expires)}")
            return
        if config.max_bytes and request.max_bytes > config.max_bytes:
            self._refuse(reply, f"409 Exceeded MaxRequestMaxBytes of {config.max_bytes}")
            return
        now_ns = self._clock.now_ns()
        if request.no_wait:
            there = state.num_pending + state.num_queued
            if not there and not request.expires:
                self._refuse(reply, "404 No Messages")
                return
            if there and there < state.demand:
                self._refuse(reply, "408 Requests Pending")
                return
        queued = self._queue(reply, request, now_ns)
        if not queued:
            # Requests whose client has gone hold no place.
            self.look()
            queued = self._queue(reply, request, now_ns)
        if not queued:
            if not request.idle_heartbeat:
                self._refuse(reply, "409 Exceeded MaxWaiting")
            return
        due_ns = now_ns + (request.idle_heartbeat or request.expires)
        if request.expires and (not self._due_ns or due_ns < self._due_ns):
            self._plan(due_ns, now_ns)
        consumer.wake()

    def _queue(self, reply: str, request: NextRequest, now_ns: int) -> bool:
        return self._consumer.state.request(
            reply,
            batch=request.batch,
            max_bytes=request.max_bytes,
            expires_at_ns=now_ns + request.expires if request.expires else 0,
            no_wait=request.no_wait,
            heartbeat_ns=request.idle_heartbeat,
            now_ns=now_ns,
        )

    def arm(self) -> None:
        """Look again at what is due, as requests may have ended."""
        if self._timer is None and self._consumer.state.num_waiting:
            self.look()

    def close(self) -> None:
        """The consumer is going away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, reply: str, status: str) -> None:
        headers = f"NATS/1.0 {status}\r\n\r\n".encode()
        self._bus.publish(reply, b"", headers=headers, account=self._consumer.stream.account)

    def look(self) -> None:
        """Send what is due to waiting requests and forget those whose client has gone."""
        self.close()
        self._due_ns = 0
        consumer = self._consumer
        if consumer.closed:
            return
        now_ns = self._clock.now_ns()
        due_ns = consumer.state.requests_tick(self._bus.engine, consumer.stream.account, now_ns)
        self._bus.flush_soon()
        if due_ns:
            self._plan(due_ns, now_ns)

    def _plan(self, due_ns: int, now_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_ns = due_ns
        self._timer = self._clock.call_later(due_ns - now_ns + TIMER_SLACK_NS, self.look)
