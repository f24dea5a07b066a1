"""Acks and redelivery: what each answer does, when messages come again, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.test_consumers import MS, ack, consumer, fill, info, pull
from tests.interop.test_streams import SECOND, stream

if TYPE_CHECKING:
    from tests.interop.conftest import Pair
    from tests.interop.raw import Session

pytestmark = pytest.mark.interop


def answers(s: Session) -> None:
    """Every ack body, in and out of order, once and again."""
    fill(s, 12)
    s.sub("$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.>", "nak")
    s.sub("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", "term")
    s.sub("$JS.EVENT.METRIC.>", "metric")
    consumer(s, sample_freq="100")
    messages = pull(s, {"batch": 12, "no_wait": True})
    ack(s, messages[0], b"")
    ack(s, messages[1], b"+ACK")
    ack(s, messages[2], b"+OK")
    s.gather("metric", 3)
    info(s)
    ack(s, messages[4], b"-NAK")
    ack(s, messages[3], b"-NAK")
    s.gather("nak", 2)
    pull(s, "5", count=2)
    ack(s, messages[5], b"+TERM")
    ack(s, messages[6], b"+TERM because")
    s.gather("term", 2)
    ack(s, messages[7], b"+WPI")
    ack(s, messages[8], b"nonsense")
    ack(s, messages[8], b"+ACKNOT")
    ack(s, messages[0], b"+ACK")
    ack(s, messages[0], b"-NAK")
    ack(s, messages[5], b"+TERM")
    s.gather("term", seconds=0.2)
    info(s)
    ack(s, messages[11], b"-NAK")
    pull(s, "1", count=1)
    s.sub("next", "next")
    s.pub(messages[9].reply, b"+NXT", "next")
    s.gather("next", seconds=0.2)
    s.ask("s.0", b"late")
    s.gather("next", seconds=0.2)
    s.ask("s.0", b"later")
    s.pub(messages[10].reply, b'+NXT {"batch":2,"no_wait":true}', "next")
    s.gather("next", seconds=0.3)
    s.pub(messages[11].reply, b"+NXT 1", "next")
    s.gather("next", seconds=0.2)
    info(s)
    s.ask("$JS.ACK.S.C.1.99.99.1.0", b"+ACK", seconds=0.3)
    s.ask("$JS.ACK.S.none.1.1.1.1.0", b"+ACK", seconds=0.3)
    s.ask("$JS.ACK.S.C.1.x.1.1.0", b"+ACK", seconds=0.3)
    s.ask("$JS.ACK.S.C", b"+ACK", seconds=0.3)
    info(s)


def delays(s: Session) -> None:
    """NAK with a delay, ack_wait, backoff; the order of what comes again."""
    fill(s, 6)
    consumer(s, ack_wait=400 * MS)
    messages = pull(s, "3", count=3)
    ack(s, messages[1], b'-NAK {"delay": 200000000}')
    ack(s, messages[2], b"-NAK 100ms")
    pull(s, {"batch": 2, "expires": 3 * SECOND}, count=2)
    pull(s, {"batch": 1, "no_wait": True})
    pull(s, {"batch": 3, "expires": 3 * SECOND}, count=3, seconds=1)
    info(s)
    for body in (b'-NAK {"delay": "x"}', b"-NAK x", b'-NAK {"delay": -5}'):
        found = pull(s, {"batch": 1, "expires": 3 * SECOND}, count=1)
        ack(s, found[0], body)
        found = pull(s, {"batch": 1, "expires": 3 * SECOND}, count=1)
        ack(s, found[0])
    info(s)


def gives_up(s: Session) -> None:
    """max_deliver with ack_wait, with backoff and with NAKs; the advisory; a late ack."""
    fill(s, 3)
    s.sub("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "max")
    consumer(s, max_deliver=2, ack_wait=300 * MS)
    pull(s, {"batch": 1, "expires": 3 * SECOND}, count=1)
    first = pull(s, {"batch": 1, "expires": 3 * SECOND, "no_wait": False}, count=1)
    again = pull(s, {"batch": 1, "expires": 3 * SECOND}, count=1)
    s.gather("max", 1)
    info(s)
    ack(s, again[0])
    ack(s, first[0])
    info(s)
    s.api("CONSUMER.DELETE.S.C")
    s.gather("max", seconds=0.4)
    consumer(s, "B", backoff=[100 * MS, 300 * MS], max_deliver=3)
    for _ in range(3):
        pull(s, {"batch": 3, "expires": 3 * SECOND}, count=3, name="B")
    pull(s, {"batch": 3, "expires": 1 * SECOND}, count=1, name="B")
    s.gather("max", 3)
    info(s, "B")
    s.api("CONSUMER.DELETE.S.B")
    consumer(s, "N", max_deliver=2)
    for _ in range(3):
        found = pull(s, {"batch": 1, "expires": 200 * MS}, name="N")
        if found and found[0].reply:
            ack(s, found[0], b"-NAK")
    s.gather("max", seconds=0.5)
    info(s, "N")


def limits(s: Session) -> None:
    """max_ack_pending stops new messages, not redeliveries; it may be changed."""
    fill(s, 8)
    consumer(s, max_ack_pending=3)
    messages = pull(s, {"batch": 8, "expires": 400 * MS}, seconds=0.6)
    ack(s, messages[1])
    pull(s, {"batch": 8, "expires": 400 * MS}, seconds=0.6)
    ack(s, messages[0], b"-NAK")
    pull(s, {"batch": 8, "expires": 400 * MS}, seconds=0.6)
    info(s)
    consumer(s, max_ack_pending=5)
    pull(s, {"batch": 8, "expires": 400 * MS}, seconds=0.6)
    info(s)


def ack_all(s: Session) -> None:
    """One ack settles all before it; NAK and TERM do not."""
    fill(s, 8)
    consumer(s, ack_policy="all")
    messages = pull(s, {"batch": 6, "no_wait": True})
    ack(s, messages[2])
    info(s)
    ack(s, messages[4], b"+TERM")
    info(s)
    ack(s, messages[3], b"-NAK")
    found = pull(s, {"batch": 6, "no_wait": True})
    info(s)
    ack(s, found[0])
    ack(s, messages[5])
    info(s)
    pull(s, {"batch": 6, "no_wait": True})


def deletes(s: Session) -> None:
    """Messages that leave the stream while they are pending, or before they were delivered."""
    fill(s, 10)

    def info(s: Session, name: str = "C") -> None:
        found = s.api(f"CONSUMER.INFO.S.{name}")
        s.transcript.pop()  # how the consumer's sequence of the ack floor jumps there is not promised to anybody
        counts = [found[key] for key in ("num_ack_pending", "num_redelivered", "num_pending")]
        delivered = [found["delivered"][key] for key in ("consumer_seq", "stream_seq")]
        s.note(f"{name} {delivered} {found['ack_floor']['stream_seq']} {counts}")

    s.sub("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", "term")
    consumer(s)
    consumer(s, "F", filter_subject="s.1")
    messages = pull(s, {"batch": 3, "no_wait": True})
    s.api("STREAM.MSG.DELETE.S", {"seq": 2})
    s.api("STREAM.MSG.DELETE.S", {"seq": 5})
    s.gather("term", seconds=0.3)
    info(s)
    info(s, "F")
    ack(s, messages[1])
    ack(s, messages[0], b"-NAK")
    s.api("STREAM.MSG.DELETE.S", {"seq": 1})
    pull(s, {"batch": 3, "no_wait": True})
    info(s)
    s.api("STREAM.PURGE.S", {"filter": "s.1"})
    info(s)
    info(s, "F")
    pull(s, {"batch": 10, "no_wait": True}, name="F")
    s.api("STREAM.PURGE.S")
    info(s)
    info(s, "F")
    s.ask("s.1", b"new")
    pull(s, {"batch": 10, "no_wait": True})
    pull(s, {"batch": 10, "no_wait": True}, name="F")
    info(s)
    stream(s, "L", subjects=["l"], max_msgs=3)
    consumer(s, on="L")
    for number in range(6):
        s.ask("l", f"{number}")
    s.api("CONSUMER.INFO.L.C")


def updates(s: Session) -> None:
    """What a changed configuration does to what is under way."""
    fill(s, 10)
    consumer(s, filter_subject="s.0")
    pull(s, {"batch": 2, "no_wait": True})
    consumer(s, filter_subject="s.1")
    info(s)
    pull(s, {"batch": 3, "no_wait": True})
    consumer(s)
    info(s)
    pull(s, {"batch": 3, "no_wait": True})
    consumer(s, headers_only=True)
    pull(s, {"batch": 1, "no_wait": True})
    consumer(s, max_deliver=1)
    info(s)


@pytest.mark.parametrize(
    "program",
    [answers, delays, gives_up, limits, ack_all, deletes, updates],
    ids=lambda program: program.__name__,
)
def test_acks(pair: Pair, program: Any) -> None:
    """The same acks, the same consequences."""
    wrong = pair.compare(program)

    assert not wrong, "\n".join(wrong)
