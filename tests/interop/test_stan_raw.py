"""The STAN protocol byte for byte: nats-streaming-server and streamd say the same to the same requests.

Each error is asserted as well, so that the texts clients match on are known to be those of the original. In a table that
goes through the checks of a request, each row breaks the rule it is named after and all that are checked later.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.interop.stan_raw import (
    CLOSE,
    CONNECT,
    PING,
    PUB,
    SUB,
    SUBCLOSE,
    UNKNOWN,
    UNSUB,
    connect,
    encode,
    publish,
    subscribe,
)

if TYPE_CHECKING:
    from tests.interop.stan_raw import Field, Stan, StanPair

pytestmark = pytest.mark.interop

#: No message of any kind.
BROKEN = b"\x0a\x7fshort"
TAKEN = "stan: clientID already registered"
BAD_CONNECT = "stan: invalid connection request"
BAD_ID = "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"
BAD_PUBLISH = "stan: invalid publish request"
BAD_SUBJECT = "stan: invalid subject"
BAD_SUBSCRIPTION = "stan: invalid subscription"
NO_CLIENT = "stan: unknown clientID"
REPLACED = "client has been replaced or is no longer registered"


def test_connect_is_checked_in_order(stan_pair: StanPair) -> None:
    """Undecodable, no heartbeat inbox, a bad id; what is odd beside that is accepted."""

    def program(session: Stan) -> None:
        session.refused(CONNECT, BROKEN, BAD_CONNECT, "broken")
        session.refused(CONNECT, b"", BAD_CONNECT, "empty")
        session.refused(CONNECT, connect("a b", ""), BAD_CONNECT, "no heartbeat inbox and a bad id")
        session.refused(CONNECT, connect("order1", ""), BAD_CONNECT, "no heartbeat inbox")
        for number, client in enumerate(["", "a b", "a.b", "a*", ">", "ä", "a/b", "a:b", "a\n", "\0"]):
            session.refused(CONNECT, connect(client, "hb"), BAD_ID, f"bad id {number}")
        for number, client in enumerate(["order_1", "-", "_", "0", "A" * 300]):
            session.accepted(CONNECT, connect(client, "hb", b"c"), f"good id {number}")

    stan_pair.compare(program)


def test_connect_answers_all_fields(stan_pair: StanPair) -> None:
    """The ping fields only to protocol 1 and later, echoed however odd; unknown fields are ignored."""

    def program(session: Stan) -> None:
        requests: list[tuple[str, tuple[Field, ...]]] = [
            ("protocol 0", ()),
            ("protocol 0 with pings", ((5, 5), (6, 3))),
            ("protocol 1", ((3, 1), (4, b"x1"))),
            ("protocol 1 with pings", ((3, 1), (4, b"x2"), (5, 5), (6, 3))),
            ("no connID", ((3, 1), (5, 5), (6, 3))),
            ("zero pings", ((3, 1), (4, b"x3"), (5, 0), (6, 0))),
            ("negative pings", ((3, 1), (4, b"x4"), (5, -1), (6, -5))),
            ("many pings", ((3, 1), (4, b"x5"), (5, 2**31 - 1), (6, 1))),
            ("protocol 7", ((3, 7), (4, b"x6"), (5, 5), (6, 3))),
            ("protocol -1", ((3, -1), (4, b"x7"), (5, 5), (6, 3))),
            ("a field twice", ((1, "fields-last"), (3, 1), (4, b"x8"), (5, 1), (5, 9), (6, 3))),
        ]
        for number, (name, more) in enumerate(requests):
            session.accepted(CONNECT, encode((1, f"fields{number}"), (2, "hb"), *more), name)
        session.accepted(CONNECT, connect("fields-unknown", "hb", b"x9") + UNKNOWN, "unknown fields")

    stan_pair.compare(program)


def test_a_living_client_is_not_replaced(stan_pair: StanPair) -> None:
    """The old one is asked on its heartbeat inbox; it answers, and the newcomer is refused."""

    def program(session: Stan) -> None:
        session.join("alive", b"first")
        asked = session.post(CONNECT, connect("alive", "hb.other", b"second"))
        session.beat("alive")
        answer = session.result(asked, CONNECT, "second connect")
        assert answer == {"error": TAKEN}
        session.accepted(PUB + ".alive", publish("", "g", "alive", "x", b"first"), "the first publishes")
        session.refused(
            PUB + ".alive", publish("alive", "g", "alive", "x", b"second"), BAD_PUBLISH, "the second doesn't"
        )

    stan_pair.compare(program)


def test_a_silent_client_is_replaced(stan_pair: StanPair) -> None:
    """After half a second; another newcomer meanwhile is refused at once. Then the old connID means nothing."""

    def program(session: Stan) -> None:
        session.join("still", b"first")
        started = time.monotonic()
        first = session.post(CONNECT, connect("still", "hb.still", b"second"))
        second = session.post(CONNECT, connect("still", "hb.still", b"third"))
        assert session.result(second, CONNECT, "meanwhile") == {"error": TAKEN}
        assert [message.subject for message in session.heard["_r"]] == []
        answer = session.result(first, CONNECT, "after the wait")
        assert answer is not None
        assert "error" not in answer
        assert time.monotonic() - started > 0.45
        assert len(session.heard["hb.still"]) == 1
        session.refused(PUB + ".still", publish("still", "g", "still", "x", b"first"), BAD_PUBLISH, "old connID")
        session.refused(PUB + ".still", publish("still", "g", "still", "x", b"third"), BAD_PUBLISH, "refused connID")
        session.accepted(PUB + ".still", publish("still", "g", "still", "x", b"second"), "new connID")
        session.refused(PING, encode((1, b"first")), REPLACED, "ping of the old")
        assert session.accepted(PING, encode((1, b"second")), "ping of the new") == {}

    stan_pair.compare(program)


def test_a_client_without_heartbeats_is_replaced(stan_pair: StanPair) -> None:
    """Nobody listens on its inbox any more."""

    def program(session: Stan) -> None:
        session.accepted(CONNECT, connect("gone", "hb.gone-away", b"first"), "connect")
        session.accepted(CONNECT, connect("gone", "hb.gone-away", b"second"), "second connect")

    stan_pair.compare(program)


def test_pings(stan_pair: StanPair) -> None:
    """Nothing is the answer to a known connID; no answer to what is no ping."""

    def program(session: Stan) -> None:
        session.join("pinger", b"known")
        known = encode((1, b"known"))
        assert session.accepted(PING, known, "known") == {}
        assert session.accepted(PING, known + UNKNOWN, "unknown fields") == {}
        session.refused(PING, encode((1, b"strange")), REPLACED, "unknown")
        session.silent(PING, b"", known, "empty")
        session.silent(PING, BROKEN, known, "broken")
        session.call(PING, encode((1, b"")), "an empty connID", seconds=0.5)
        session.call(PING, UNKNOWN, "unknown fields alone", seconds=0.5)
        session.pub(PING, known)
        session.accepted(CLOSE, encode((1, "pinger")), "close")
        session.refused(PING, known, REPLACED, "after the close")

    stan_pair.compare(program)


def test_close(stan_pair: StanPair) -> None:
    """By client id; what was published before it on the same connection is stored."""

    def program(session: Stan) -> None:
        session.refused(CLOSE, BROKEN, "stan: invalid close request", "broken")
        session.refused(CLOSE, b"", NO_CLIENT, "empty")
        session.refused(CLOSE, encode((1, "nobody")), NO_CLIENT, "unknown")
        session.join("closer", b"1")
        session.join("reader", b"2")
        acks = [session.post(PUB + ".closing", publish("closer", str(n), "closing", str(n), b"1")) for n in range(100)]
        closed = session.post(CLOSE, encode((1, "closer")) + UNKNOWN)
        assert session.result(closed, CLOSE, "close") == {}
        for number, inbox in enumerate(acks):
            assert session.result(inbox, PUB, f"publish {number}") == {"guid": str(number)}
        session.listen("in.closing", subscribe("reader", "closing", "in.closing"), "what is there")
        session.delivered("in.closing", 100)
        session.refused(CLOSE, encode((1, "closer")), NO_CLIENT, "again")
        session.refused(PUB + ".closing", publish("closer", "g", "closing", "x", b"1"), BAD_PUBLISH, "publish")
        session.refused(SUB, subscribe("closer", "closing", "in"), NO_CLIENT, "subscribe")
        session.pub(CLOSE, encode((1, "reader")))
        session.refused(CLOSE, encode((1, "nobody")), NO_CLIENT, "the next after one without a reply subject")
        session.refused(SUB, subscribe("reader", "closing", "in"), NO_CLIENT, "closed without a reply subject")

    stan_pair.compare(program)


def test_publish_is_checked_in_order(stan_pair: StanPair) -> None:
    """Every refusal names the guid, if it could be read; nothing refused is stored."""

    def program(session: Stan) -> None:
        subject = PUB + ".checked"
        session.join("pub", b"conn")
        session.refused(subject, BROKEN, BAD_PUBLISH, "broken")
        session.refused(subject, b"", BAD_PUBLISH, "empty")
        session.refused(subject, publish("nobody", "", "checked"), BAD_PUBLISH, "no guid, nobody")
        session.refused(subject, publish("pub", "", "checked", "x", b"conn"), BAD_PUBLISH, "no guid")
        for number, channel in enumerate(
            ["", "*", ">", "a.*", "a.>", "*.a", "a*", "a>b", ".a", "a.", "a..b", ".", "a/b"]
        ):
            request = publish("pub", f"g{number}", channel, "x", b"conn")
            session.refused(subject, request, BAD_PUBLISH, f"channel {channel!r}")
        session.refused(subject, publish("nobody", "g", "checked"), BAD_PUBLISH, "unknown client")
        session.refused(subject, publish("", "g", "checked"), BAD_PUBLISH, "no client")
        session.refused(subject, publish("pub", "g", "checked", "x", b"old"), BAD_PUBLISH, "known client, stale connID")
        session.accepted(subject, publish("pub", "g1", "checked", "1"), "known client, no connID")
        session.accepted(subject, publish("", "g2", "checked", "2", b"conn"), "connID alone")
        session.accepted(subject, publish("nobody", "g3", "checked", "3", b"conn"), "connID and another client")
        session.accepted(subject, publish("pub", "g4", "Checked2", "x", b"conn"), "another channel than the subject's")
        text = 'rejecting channel "CHECKED" because channel "checked" alreay exists (different cases not allowed)'
        session.refused(subject, publish("pub", "g5", "CHECKED", "x", b"conn"), text, "another case")
        session.listen("in.checked", subscribe("pub", "checked", "in.checked"), "what is there")
        assert [message["data"] for message in session.delivered("in.checked", 3)] == ["1", "2", "3"]

    stan_pair.compare(program)


def test_what_a_publish_carries(stan_pair: StanPair) -> None:
    """Data and reply arrive; sha256 and unknown fields don't; a guid is only echoed; no reply subject, no ack."""

    def program(session: Stan) -> None:
        subject = PUB + ".carried"
        session.join("carrier", b"carrier")
        session.sub("in.carried", "in.carried")
        session.accepted(SUB, subscribe("carrier", "carried", "in.carried"), "subscribe")
        base = {"client": "carrier", "guid": "same", "channel": "carried", "connection": b"carrier"}
        bodies: list[tuple[str, tuple[Field, ...]]] = [
            ("nothing", ()),
            ("data", ((5, "x"),)),
            ("binary data", ((5, bytes(range(128))),)),
            ("a reply", ((4, "answer.here"), (5, "x"))),
            ("a reply of any text", ((4, "not a * subject >"), (5, "x"))),
            ("a sha256", ((5, "x"), (10, b"wrong"))),
            ("data twice", ((5, "x"), (5, "y"))),
        ]
        for name, more in bodies:
            payload = encode((1, "carrier"), (2, "same"), (3, "carried"), (6, b"carrier"), *more)
            assert session.accepted(subject, payload, name) == {"guid": "same"}
            session.delivered("in.carried", 1)
        plain = publish(str(base["client"]), "same", "carried", "x", b"carrier")
        session.accepted(subject, plain + UNKNOWN, "unknown fields")
        session.delivered("in.carried", 1)
        session.pub(subject, plain)
        session.delivered("in.carried", 1)
        session.accepted(subject, plain, "after the one without a reply subject")
        assert session.delivered("in.carried", 1)[0]["sequence"] == len(bodies) + 3
        session.accepted(PUB + ".anything.at.all", publish("carrier", "g", "grüße mit 空白", "x"), "spaces and UTF-8")
        session.listen("in.spaces", subscribe("carrier", "grüße mit 空白", "in.spaces"), "subscribe to that")
        session.delivered("in.spaces", 1)

    stan_pair.compare(program)


def test_fields_of_the_wrong_type(stan_pair: StanPair) -> None:
    """They make a request undecodable, known fields before them or not."""

    def program(session: Stan) -> None:
        session.join("wire", b"wire")
        fence = publish("wire", "g", "wire", "x")
        session.accepted(PUB + ".wire", fence, "publish")
        for subject in (CONNECT, SUB, UNSUB, SUBCLOSE, CLOSE, PUB + ".wire"):
            session.call(subject, b"\x0b\x0c", f"a group to {subject}")
            session.call(subject, b"\x0f", f"wire type 7 to {subject}")
            session.call(subject, b"\x00\x00", f"field 0 to {subject}")
            if subject != PUB + ".wire":
                session.call(subject, encode((1, 5)), f"a number for the client id to {subject}")
        session.silent(PUB + ".wire", encode((1, 5)), fence, "what servers once sent each other")
        session.refused(PUB + ".wire", encode((5, 7)) + fence, BAD_PUBLISH, "a number for the data")
        session.refused(PUB + ".wire", fence + encode((5, 7)), BAD_PUBLISH, "a number for the data, the guid before it")
        request = subscribe("wire", "wire", "in") + encode((5, "7"))
        session.refused(SUB, request, "stan: invalid subscription request", "a text for max in flight")
        more = connect("wire3", "hb", b"wide", (3, 2**32 + 1), (5, 2**32 + 7))
        assert session.accepted(CONNECT, more, "more than 32 bits")["pingInterval"] == 7

    stan_pair.compare(program)


def test_text_that_is_no_utf8(stan_pair: StanPair) -> None:
    """The original doesn't look: it is as good as any other."""

    def program(session: Stan) -> None:
        session.join("utf8", b"utf8")
        session.accepted(PUB + ".utf8", publish("utf8", "g", "utf8", "x"), "publish")
        session.refused(CLOSE, encode((1, b"\xff")), NO_CLIENT, "a client id to close")
        session.refused(CONNECT, encode((1, b"\xff"), (2, "hb")), BAD_ID, "a client id")
        session.accepted(CONNECT, encode((1, "utf8-2"), (2, b"\xff")), "a heartbeat inbox")
        session.accepted(PUB + ".utf8", encode((1, "utf8"), (2, b"\xff"), (3, "utf8")), "a guid")
        session.accepted(PUB + ".utf8", encode((1, "utf8"), (2, "g"), (3, "utf8"), (4, b"\xff")), "a reply")
        session.accepted(PUB + ".utf8", encode((1, "utf8"), (2, "g"), (3, b"\xff")), "a channel")
        session.listen(
            "in.1", encode((1, "utf8"), (2, b"\xff"), (4, "in.1"), (5, 1), (6, 9), (10, 4)), "subscribe to it"
        )
        session.delivered("in.1", 1)
        session.listen("in.2", subscribe("utf8", "utf8", "in.2"), "subscribe to the other")
        session.delivered("in.2", 3)

    stan_pair.compare(program)
