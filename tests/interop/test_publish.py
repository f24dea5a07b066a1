"""Publishing into streams: the same acks and refusals as nats-server, and the same messages read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.test_streams import stream

if TYPE_CHECKING:
    from tests.interop.conftest import Pair
    from tests.interop.raw import Session

pytestmark = pytest.mark.interop


def expectations(s: Session) -> None:
    """Every Nats-Expected header, right and wrong, in file and memory."""
    for name, storage in (("s", "file"), ("m", "memory")):
        stream(s, name.upper(), subjects=[f"{name}.*"], storage=storage)
        a, b = f"{name}.a", f"{name}.b"
        s.ask(a, b"1", {"Nats-Expected-Stream": name.upper()})
        s.ask(a, b"1", {"Nats-Expected-Stream": "other"})
        for value in ("1", "0", "7", "-1", "x", ""):
            s.ask(a, b"2", {"Nats-Expected-Last-Sequence": value})
        for value in ("2", "0", "9", "x", "-1", ""):
            s.ask(a, b"3", {"Nats-Expected-Last-Subject-Sequence": value})
        s.ask(b, b"1", {"Nats-Expected-Last-Subject-Sequence": "0"})
        s.ask(b, b"1", {"Nats-Expected-Last-Subject-Sequence": "0"})
        subject = "Nats-Expected-Last-Subject-Sequence-Subject"
        for pattern, value in ((f"{name}.*", "9"), (f"{name}.*", "5"), (a, "3"), (b, "5"), ("none", "0"), (">", "0")):
            s.ask(b, b"2", {"Nats-Expected-Last-Subject-Sequence": value, subject: pattern})
        s.ask(b, b"2", {subject: a})
        s.ask(b, b"2", {"Nats-Expected-Last-Subject-Sequence": "1", "Nats-Expected-Last-Sequence": "1"})
        s.ask(b, b"2", {"Nats-Expected-Stream": "other", "Nats-Expected-Last-Sequence": "1"})
        s.api(f"STREAM.INFO.{name.upper()}", {"subjects_filter": ">"})


def message_ids(s: Session) -> None:
    """Dedupe, and what Nats-Expected-Last-Msg-Id compares with."""
    for storage in ("file", "memory"):
        stream(s, subjects=["s.*"], storage=storage)
        last = "Nats-Expected-Last-Msg-Id"
        s.ask("s.a", b"0", {last: "x"})
        s.ask("s.a", b"0", {last: ""})
        s.ask("s.a", b"1", {"Nats-Msg-Id": "one"})
        s.ask("s.a", b"1", {"Nats-Msg-Id": "one"})
        s.ask("s.b", b"other", {"Nats-Msg-Id": "one"})
        s.ask("s.a", b"2", {last: "one"})
        s.ask("s.a", b"3", {last: "one"})
        s.ask("s.a", b"4", {last: "other"})
        s.ask("s.a", b"5", {"Nats-Msg-Id": "two", last: "one"})
        s.ask("s.a", b"6", {"Nats-Msg-Id": "three", last: "two"})
        s.ask("s.a", b"6", {"Nats-Msg-Id": "three", last: "two"})
        s.ask("s.a", b"7", {last: ""})
        s.ask("s.a", b"7", {"Nats-Expected-Stream": ""})
        s.ask("s.a", b"7", {"Nats-Msg-Id": "four", last: "two"})
        s.ask("s.a", b"7", {"Nats-Msg-Id": "three", "Nats-Expected-Last-Sequence": "1"})
        s.ask("s.a", b"8", {"Nats-Msg-Id": ""})
        s.ask("s.a", b"8", {"Nats-Msg-Id": ""})
        s.ask("s.a", b"9")
        s.ask("s.a", b"10", {last: "three"})
        s.ask("s.a", b"10", {last: ""})
        s.api("STREAM.PURGE.S")
        s.ask("s.a", b"1", {"Nats-Msg-Id": "one"})
        s.ask("s.a", b"1", {last: "three"})
        s.ask("s.a", b"1", {last: "zzz"})
        s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "storage": storage, "duplicate_window": 10**8})
        s.sub("none", "none")
        s.gather("none", seconds=0.4)
        s.ask("s.a", b"1", {"Nats-Msg-Id": "one"})
        s.api("STREAM.DELETE.S")


def rollups(s: Session) -> None:
    """Nats-Rollup, allowed and not."""
    for storage in ("file", "memory"):
        stream(s, subjects=["s.*"], allow_rollup_hdrs=True, storage=storage)
        stream(s, "N", subjects=["n"], storage=storage)
        for number in range(8):
            s.pub(f"s.{number % 2}", b"x")
        s.flush()
        s.ask("s.0", b"y", {"Nats-Rollup": "sub"})
        s.api("STREAM.INFO.S", {"subjects_filter": ">", "deleted_details": True})
        s.ask("s.1", b"y", {"Nats-Rollup": "other"})
        s.ask("s.1", b"y", {"Nats-Rollup": ""})
        s.ask("s.1", b"y", {"Nats-Rollup": "SUB"})
        s.ask("s.2", b"y", {"Nats-Rollup": "all"})
        s.api("STREAM.INFO.S", {"subjects_filter": ">", "deleted_details": True})
        s.ask("n", b"y", {"Nats-Rollup": "sub"})
        s.ask("s.2", b"y", {"Nats-Rollup": "all", "Nats-Expected-Last-Sequence": "1"})
        s.ask("s.2", b"y")
        s.api("STREAM.INFO.S", {"subjects_filter": ">", "deleted_details": True})
        s.api("STREAM.DELETE.S")
        s.api("STREAM.DELETE.N")


def plain(s: Session) -> None:
    """No headers, odd headers, odd subjects, no ack, no stream."""
    stream(s, subjects=["s.>"], allow_direct=True)
    stream(s, "Q", subjects=["q"], no_ack=True)
    s.ask("s.a", b"")
    s.ask("s.a", b"x", {})
    s.ask("s.a", b"x", {"a": "b", "A": "c", "empty": "", "long": "y" * 1000})
    s.ask("s.*", b"literal")
    s.ask("s.>", b"literal")
    s.ask("s.ä.€", b"utf")
    s.ask("s." + "x" * 900, b"long subject")
    s.ask("s", b"no stream", seconds=0.3)
    s.ask("q", b"no ack", seconds=0.3)
    s.ask("s.a", b"x" * (1 << 20))
    s.ask("s.a", b"x", {"big": "h" * 65600})
    s.ask("s.a", b"x", {"big": "h" * 65000})
    s.send(b"SUB inbox in\r\nHPUB s.raw inbox 5 9\r\nhello1234\r\n")
    s.heard.setdefault("in", [])
    s.gather("in", 1)
    s.send(b"HPUB s.raw inbox 26 30\r\nNATS/1.0 503 Text\r\na:b\r\n\r\n1234\r\n")
    s.gather("in", 1)
    s.send(b"HPUB s.raw inbox 24 28\r\nNATS/1.0\r\na:b\r\nnocolon\r\n1234\r\n")
    s.gather("in", 1)
    s.send(b"HPUB s.raw inbox 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
    s.gather("in", 1)
    s.send(b'HPUB s.raw inbox 44 44\r\nNATS/1.0 100\r\nNats-Request-Info: {"a":1}\r\n\r\n\r\n')
    s.gather("in", 1)
    s.pub("s.quiet", b"without a reply")
    for sequence in range(1, 16):
        s.api("STREAM.MSG.GET.S", {"seq": sequence})
        if sequence not in (8, 9, 10):
            s.ask("$JS.API.DIRECT.GET.S", {"seq": sequence})
    s.api("STREAM.INFO.S", {"subjects_filter": ">"})
    s.api("STREAM.INFO.Q")
    stream(s, "F", subjects=["f"], first_seq=1000)
    s.ask("f", b"first")
    s.ask("f", b"second")
    s.api("STREAM.INFO.F")


def refused_features(s: Session) -> None:
    """Headers of features a plain stream doesn't have."""
    stream(s, subjects=["s"])
    for headers in (
        {"Nats-TTL": "1s"},
        {"Nats-Incr": "1"},
        {"Nats-Schedule": "@at 2099-01-01T00:00:00Z"},
        {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
        {"Nats-Required-Api-Level": "99"},
        {"Nats-Stream-Source": "x 1"},
        {"Nats-Schedule-Target": "s"},
        {"Nats-Msg-Size": "5"},
        {"Nats-Sequence": "5"},
    ):
        s.ask("s", b"", headers)
    s.api("STREAM.INFO.S")


@pytest.mark.parametrize(
    "program",
    [expectations, message_ids, rollups, plain, refused_features],
    ids=lambda program: program.__name__,
)
def test_publish(pair: Pair, program: Any) -> None:
    """The same publishes, the same acks."""
    wrong = pair.compare(program)

    assert not wrong, "\n".join(wrong)
