"""Subscribing byte for byte: nats-streaming-server and streamd say the same to the same requests.

As in test_stan_raw.py: in a table that goes through the checks of a request, each row breaks the rule it is named after
and all that are checked later.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.interop.stan_raw import PUB, SUB, SUBCLOSE, UNKNOWN, UNSUB, encode, publish, subscribe
from tests.interop.test_stan_raw import BAD_SUBJECT, BAD_SUBSCRIPTION, BROKEN, NO_CLIENT

if TYPE_CHECKING:
    from tests.interop.stan_raw import Field, Stan, StanPair

pytestmark = pytest.mark.interop


def test_subscribe_is_checked_in_order(stan_pair: StanPair) -> None:
    """Each row breaks its rule and all that follow."""

    def program(session: Stan) -> None:
        session.join("sub", b"sub")
        session.refused(SUB, BROKEN, "stan: invalid subscription request", "broken")
        session.refused(SUB, b"", "stan: clientID missing", "empty")
        rows: list[tuple[str, dict[str, int | str]]] = [
            ("stan: clientID missing", {"client": "", "ack_seconds": 0, "in_flight": 0, "start": 9}),
            ("stan: invalid ack wait time, should be >= 1s", {"ack_seconds": 0, "in_flight": 0, "start": 9}),
            ("stan: invalid ack wait time, should be >= 1s", {"ack_seconds": -1, "in_flight": 0, "start": 9}),
            ("stan: invalid MaxInflight, should be >= 1", {"in_flight": 0, "start": 9}),
            ("stan: invalid MaxInflight, should be >= 1", {"in_flight": -1, "start": 9}),
            ("stan: invalid start position", {"start": 5}),
            ("stan: invalid start position", {"start": -1}),
            (BAD_SUBJECT, {}),
        ]
        for number, (text, wrong) in enumerate(rows):
            request = {"client": "nobody", "channel": "a..b", "inbox": "", "queue": "q", "durable": "a:b", **wrong}
            session.refused(SUB, subscribe(**request), text, f"row {number}")  # type: ignore[arg-type]
        for channel in ("", "*", ">", "a.*", "a.>", "a*", ".a", "a.", "a..b", "a/b"):
            session.refused(SUB, subscribe("nobody", channel, ""), BAD_SUBJECT, f"channel {channel!r}")
        queue = {"queue": "q", "durable": "a:b"}
        session.refused(SUB, subscribe("nobody", "subs", "in", **queue), NO_CLIENT, "unknown client")  # type: ignore[arg-type]
        session.accepted(PUB + ".subs", publish("sub", "g", "subs", "x"), "publish")
        text = 'rejecting channel "SUBS" because channel "subs" alreay exists (different cases not allowed)'
        session.refused(SUB, subscribe("sub", "SUBS", "in", **queue), text, "another case")  # type: ignore[arg-type]
        colon = "stan: durable name of a durable queue subscriber can't contain the character ':'"
        session.refused(SUB, subscribe("sub", "subs", "in", queue="q", durable="a:b"), colon, "a colon")
        session.accepted(SUB, subscribe("sub", "subs", "in.1", durable="a:b"), "a colon in a durable")
        duplicate = "stan: duplicate durable registration"
        session.refused(SUB, subscribe("sub", "subs", "in.2", durable="a:b"), duplicate, "the durable again")
        session.accepted(SUB, subscribe("sub", "subs", ""), "no inbox")
        session.accepted(SUB, subscribe("sub", "subs", "in.3") + UNKNOWN, "unknown fields")
        session.accepted(SUB, subscribe("sub", "subs", "in.3"), "the same inbox again")

    stan_pair.compare(program)


def test_the_answer_comes_before_the_first_message(stan_pair: StanPair) -> None:
    """On one NATS subscription, where their order is seen."""

    def program(session: Stan) -> None:
        session.join("first", b"first")
        for number in range(10):
            session.accepted(PUB + ".first", publish("first", "g", "first", str(number), b"first"), "publish")
        for number in range(20):
            asked = session.post(SUB, subscribe("first", "first", f"_r.messages{number}"))
            deadline = time.monotonic() + 10
            while sum(m.subject == f"_r.messages{number}" for m in session.heard["_r"]) < 10:
                assert time.monotonic() < deadline
                session.flush()
            assert session.heard["_r"][0].subject == asked
            session.result(asked, SUB, "subscribe")
            session.heard["_r"].clear()

    stan_pair.compare(program)


def test_positions(stan_pair: StanPair) -> None:
    """Every start on an empty and on a filled channel, with the fields a client may leave out."""

    def program(session: Stan) -> None:
        session.join("pos", b"pos")
        starts: list[tuple[int, tuple[Field, ...]]] = [
            (0, ()),
            (1, ()),
            (2, ()),
            (2, ((12, 3600 * 10**9),)),
            (2, ((12, 2**62),)),
            (2, ((12, -3600 * 10**9),)),
            (3, ()),
            (3, ((11, 2),)),
            (3, ((11, 3),)),
            (3, ((11, 4),)),
            (3, ((11, 2**64 - 1),)),
            (4, ()),
            (4, ((11, 2), (12, 1))),
        ]
        inboxes = []
        for when in ("empty", "filled"):
            for number, (start, more) in enumerate(starts):
                inbox = f"in.{when}.{number}"
                inboxes.append(inbox)
                session.listen(inbox, subscribe("pos", "positions", inbox, start, more=more), f"{when} {start} {more}")
            for number in range(3):
                payload = publish("pos", "g", "positions", f"{when} {number}", b"pos")
                session.accepted(PUB + ".positions", payload, "publish")
        for inbox in inboxes:
            while session.delivered(inbox, 1)[0]["data"] != "filled 2":
                pass

    stan_pair.compare(program)


@pytest.mark.parametrize("verb", [UNSUB, SUBCLOSE], ids=["unsubscribe", "close"])
def test_unsubscribe_is_checked_in_order(stan_pair: StanPair, verb: str) -> None:
    """The channel, the inbox, the client; the ack inbox names the subscription, and its delivery inbox does as well."""
    name = verb.split(".")[1]

    def program(session: Stan) -> None:
        def request(client: str, channel: str, inbox: str) -> bytes:
            return encode((1, client), (2, channel), (3, inbox))

        one, other = f"{name}-one", f"{name}-other"
        session.join(one, b"one" + name.encode())
        session.join(other, b"other" + name.encode())
        session.refused(verb, BROKEN, "stan: invalid unsubscribe request", "broken")
        session.refused(verb, b"", "stan: unknown channel", "empty")
        acks = session.listen("in.1", subscribe(one, name, "in.1"), "subscribe")
        session.refused(verb, request("nobody", f"no-{name}", "no"), "stan: unknown channel", "no such channel")
        session.refused(verb, request("nobody", name, "no"), BAD_SUBSCRIPTION, "no such inbox")
        session.refused(verb, request("nobody", name, acks), NO_CLIENT, "no such client")
        session.refused(verb, request(other, name, acks), NO_CLIENT, "another's")
        session.refused(verb, request("", name, acks), NO_CLIENT, "no client")
        session.accepted(verb, request(one, name, acks) + UNKNOWN, "the ack inbox")
        session.refused(verb, request(one, name, acks), BAD_SUBSCRIPTION, "again")
        session.listen("in.2", subscribe(one, name, "in.2"), "subscribe")
        session.accepted(verb, request(one, name, "in.2"), "the delivery inbox")
        acks = session.listen("in.3", subscribe(one, name, "in.3"), "subscribe")
        session.pub(verb, request(one, name, "in.3"))
        session.refused(verb, request(one, name, acks), BAD_SUBSCRIPTION, "after one without a reply subject")
        acks = session.listen("in.4", subscribe(one, name, "in.4", durable="d"), "durable")
        session.accepted(verb, request(one, name, acks), "the durable")
        session.refused(verb, request(one, name, acks), BAD_SUBSCRIPTION, "the durable again")
        session.refused(verb, request(one, name, "in.4"), BAD_SUBSCRIPTION, "the durable again by its delivery inbox")
        session.accepted(PUB + "." + name, publish(one, "g", name, "x"), "publish")
        session.listen("in.5", subscribe(one, name, "in.5", 0, durable="d"), "resumed or new")
        session.accepted(PUB + "." + name, publish(one, "g", name, "y"), "publish")
        first = session.delivered("in.5", 1)[0]
        assert first["data"] == ("y" if verb == UNSUB else "x")

    stan_pair.compare(program)


def test_acks(stan_pair: StanPair) -> None:
    """The inbox says whose, the sequence which; all that makes no sense is ignored, and what isn't acked comes again."""

    def program(session: Stan) -> None:
        session.join("acker", b"acker")
        session.join("foreign", b"foreign")
        mine = session.listen("in.mine", subscribe("acker", "acks", "in.mine", ack_seconds=1), "mine")
        theirs = session.listen("in.theirs", subscribe("foreign", "acks", "in.theirs"), "theirs")
        for number in range(1, 10):
            session.accepted(PUB + ".acks", publish("acker", "g", "acks", str(number)), "publish")
        session.accepted(PUB + ".other", publish("acker", "g", "other", "x"), "publish elsewhere")
        session.delivered("in.mine", 9)
        session.delivered("in.theirs", 9)

        def ack(inbox: str, *fields: Field) -> None:
            session.pub(inbox, encode(*fields))

        session.pub(mine, BROKEN)
        session.pub(mine, b"")
        ack(mine, (1, "acks"), (2, 1))
        ack(mine, (1, "acks"), (2, 1))
        ack(mine, (1, "acks"), (2, 99))
        ack(mine, (1, "no-channel"), (2, 2))
        ack(mine, (1, "other"), (2, 3))
        ack(mine, (2, 4))
        session.pub(mine, encode((1, "acks"), (2, 5)) + UNKNOWN, "a.reply")
        ack(theirs, (1, "acks"), (2, 6))
        ack("_INBOX.nobody", (1, "acks"), (2, 7))
        ack(mine, (1, "acks"), (2, 9))
        session.flush()
        again: list[int] = []
        while 8 not in again:
            again += [int(message["sequence"]) for message in session.delivered("in.mine", 1)]
        assert again == [2, 3, 4, 6, 7, 8]
        ack(mine, (1, "acks"), (2, 8))

    stan_pair.compare(program)


def test_acks_within_a_queue(stan_pair: StanPair) -> None:
    """An ack to one member counts for what another holds; a stranger's doesn't."""

    def program(session: Stan) -> None:
        session.join("member1", b"member1")
        session.join("member2", b"member2")
        first = session.listen("in.q1", subscribe("member1", "queued", "in.q1", queue="q", ack_seconds=1), "first")
        for number in range(1, 5):
            session.accepted(PUB + ".queued", publish("member1", "g", "queued", str(number)), "publish")
        session.delivered("in.q1", 4)
        second = session.listen("in.q2", subscribe("member2", "queued", "in.q2", queue="q", ack_seconds=60), "second")
        plain = session.listen("in.plain", subscribe("member2", "queued", "in.plain"), "plain")
        session.delivered("in.plain", 4)
        session.pub(second, encode((1, "queued"), (2, 1)))
        session.pub(second, encode((1, "queued"), (2, 3)))
        session.pub(plain, encode((1, "queued"), (2, 2)))
        session.pub(first, encode((1, "queued"), (2, 4)))
        assert [message["sequence"] for message in session.delivered("in.q2", 1)] == [2]

    stan_pair.compare(program)


def test_redelivery(stan_pair: StanPair) -> None:
    """The flag and the count in each message; a durable's pending ones come first when it resumes, counted on."""

    def program(session: Stan) -> None:
        session.join("again", b"again")
        request = {"durable": "d", "ack_seconds": 1, "in_flight": 2}
        for number in range(1, 6):
            session.accepted(PUB + ".again", publish("again", "g", "again", str(number)), "publish")
        acks = session.listen("in.again", subscribe("again", "again", "in.again", **request), "subscribe")  # type: ignore[arg-type]
        session.delivered("in.again", 6)
        session.accepted(SUBCLOSE, encode((1, "again"), (2, "again"), (3, acks)), "close")
        request = {"durable": "d", "ack_seconds": 60, "in_flight": 1}
        acks = session.listen("in.resumed", subscribe("again", "again", "in.resumed", **request), "resume")  # type: ignore[arg-type]
        session.delivered("in.resumed", 2)
        for sequence in (1, 2, 3, 4):
            session.pub(acks, encode((1, "again"), (2, sequence)))
            if sequence > 1:
                session.delivered("in.resumed", 1)

    stan_pair.compare(program)
