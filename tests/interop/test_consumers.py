"""Consumers through raw API requests: configurations, delivery policies, pulls with their statuses, pushes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.test_streams import SECOND, stream

if TYPE_CHECKING:
    from tests.interop.conftest import Pair
    from tests.interop.raw import Message, Session

pytestmark = pytest.mark.interop
MS = 1_000_000


def consumer(s: Session, name: str = "C", on: str = "S", **config: Any) -> dict[str, Any]:
    """Create a durable consumer with explicit acks, unless said otherwise."""
    config = {"durable_name": name, "name": name, "ack_policy": "explicit", **config}
    config = {key: value for key, value in config.items() if value is not None}
    return s.api(f"CONSUMER.CREATE.{on}.{name}", {"stream_name": on, "config": config})


def fill(s: Session, count: int = 10, subjects: int = 2) -> None:
    """Stream S with messages on s.0, s.1, …"""
    stream(s, subjects=["s.*"], allow_direct=True)
    for number in range(count):
        s.ask(f"s.{number % subjects}", f"{number}")


def pull(
    s: Session, body: Any, *, count: int = 0, seconds: float = 0.3, name: str = "C", inbox: str = "in"
) -> list[Message]:
    """One pull request and what it brings."""
    text = body if isinstance(body, str) else json.dumps(body)
    if inbox not in s.heard:
        s.sub(inbox, inbox)
    s.note(f"pull {name} {text}")
    s.pub(f"$JS.API.CONSUMER.MSG.NEXT.S.{name}", text, inbox)
    return s.gather(inbox, count, seconds)


def info(s: Session, name: str = "C") -> dict[str, Any]:
    """CONSUMER.INFO."""
    return s.api(f"CONSUMER.INFO.S.{name}")


def ack(s: Session, message: Message, body: bytes = b"+ACK") -> None:
    """An ack that is confirmed."""
    s.ask(message.reply, body, seconds=0.5)


def configs(s: Session) -> None:
    """One field at a time, for pull and push, by create and by update."""
    fill(s)
    fields: list[dict[str, Any]] = [
        {},
        {"ack_policy": "none"},
        {"ack_policy": "all"},
        {"ack_policy": "other"},
        {"ack_wait": 5 * SECOND},
        {"ack_wait": -1},
        {"max_deliver": 0},
        {"max_deliver": 3},
        {"max_deliver": -7},
        {"backoff": [SECOND, 2 * SECOND], "max_deliver": 3},
        {"backoff": [SECOND, 2 * SECOND], "max_deliver": 1},
        {"backoff": [-1], "max_deliver": 5},
        {"backoff": [SECOND]},
        {"filter_subject": "s.0"},
        {"filter_subject": "other"},
        {"filter_subject": "s.>"},
        {"filter_subjects": ["s.0", "s.1"]},
        {"filter_subjects": ["s.0", "s.*"]},
        {"filter_subjects": ["s.0", ""]},
        {"filter_subjects": ["s.0"]},
        {"filter_subject": "s.0", "filter_subjects": ["s.1"]},
        {"replay_policy": "original"},
        {"replay_policy": "other"},
        {"sample_freq": "50"},
        {"sample_freq": "50%"},
        {"sample_freq": "x"},
        {"max_waiting": 5},
        {"max_waiting": -1},
        {"max_ack_pending": 5},
        {"max_ack_pending": -1},
        {"flow_control": True},
        {"idle_heartbeat": SECOND},
        {"idle_heartbeat": 1},
        {"flow_control": True, "idle_heartbeat": SECOND},
        {"headers_only": True},
        {"max_batch": 5},
        {"max_expires": SECOND},
        {"max_expires": 1},
        {"max_bytes": 100},
        {"deliver_group": "g"},
        {"inactive_threshold": 10 * SECOND},
        {"inactive_threshold": -1},
        {"num_replicas": 1},
        {"num_replicas": 3},
        {"num_replicas": -1},
        {"mem_storage": True},
        {"metadata": {"a": "b"}},
        {"description": "x" * 4097},
        {"description": "text"},
        {"deliver_policy": "last"},
        {"deliver_policy": "new"},
        {"deliver_policy": "other"},
        {"deliver_policy": "by_start_sequence"},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 4},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 99},
        {"deliver_policy": "all", "opt_start_seq": 4},
        {"deliver_policy": "by_start_time"},
        {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
        {"deliver_policy": "by_start_time", "opt_start_time": "2099-01-01T00:00:00Z"},
        {"deliver_policy": "last_per_subject"},
        {"deliver_policy": "last_per_subject", "filter_subject": "s.*"},
        {"deliver_policy": "last_per_subject", "filter_subject": "s.0"},
    ]
    for push in ({}, {"deliver_subject": "d"}):
        for more in fields:
            consumer(s, "X", **{**push, **more})
            info(s, "X")
            s.api("CONSUMER.DELETE.S.X")
        consumer(s, "X", **push)
        for more in fields:
            consumer(s, "X", **{**push, **more})
        s.api("CONSUMER.DELETE.S.X")
    for subject in ("d.*", "d..e", "s.0", "s.x", "$JS.API.x"):
        consumer(s, "X", deliver_subject=subject)
        s.api("CONSUMER.DELETE.S.X")


def forms(s: Session) -> None:
    """The ways to name a consumer, and what doesn't fit together."""
    fill(s)
    body = {"stream_name": "S", "config": {"ack_policy": "explicit"}}
    made = s.api("CONSUMER.CREATE.S", body)
    s.transcript.pop()  # streamd shows the name in the configuration too
    s.note(f"{len(made['name'])} {sorted(set(made) - {'config'})} {made['num_pending']} {made['config']['ack_wait']}")
    s.api(f"CONSUMER.DELETE.S.{made['name']}")
    s.transcript.pop()
    named = {**body, "config": {"name": "N", "ack_policy": "none"}}
    s.api("CONSUMER.CREATE.S", named)
    s.api("CONSUMER.CREATE.S.N", named)
    s.api("CONSUMER.CREATE.S.M", named)
    s.api("CONSUMER.CREATE.S.N.s.0", named)
    s.api("CONSUMER.CREATE.S.O.s.0", {**body, "config": {"name": "O", "filter_subject": "s.0"}})
    s.api("CONSUMER.CREATE.S.P.s.*", {**body, "config": {"name": "P", "filter_subject": "s.0"}})
    s.api("CONSUMER.CREATE.S.P.s.0", {**body, "config": {"name": "P", "filter_subjects": ["s.0"]}})
    s.api("CONSUMER.CREATE.S", {**body, "config": {"durable_name": "D"}})
    s.api("CONSUMER.CREATE.S.Q", {**body, "config": {"durable_name": "D"}})
    s.api("CONSUMER.DURABLE.CREATE.S.D", {**body, "config": {"durable_name": "D"}})
    s.api("CONSUMER.DURABLE.CREATE.S.D", {**body, "config": {}})
    s.api("CONSUMER.DURABLE.CREATE.S.D", {**body, "config": {"durable_name": "E"}})
    s.api("CONSUMER.DURABLE.CREATE.S.D", {**body, "config": {"durable_name": "D", "name": "F"}})
    s.api("CONSUMER.CREATE.S.R", {"stream_name": "T", "config": {"name": "R"}})
    s.api("CONSUMER.CREATE.T.R", {"stream_name": "T", "config": {"name": "R"}})
    s.api("CONSUMER.CREATE.S.R", {})
    s.api("CONSUMER.CREATE.S.R", b"")
    s.api("CONSUMER.CREATE.S.R", b"{")
    s.api("CONSUMER.CREATE.S.R", {**body, "nonsense": 1})
    for action in ("update", "create", "create", "update", "other"):
        s.api("CONSUMER.CREATE.S.A", {**body, "action": action, "config": {"name": "A"}})
    s.api("CONSUMER.CREATE.S.A", {**body, "action": "create", "config": {"name": "A", "description": "x"}})
    s.api("CONSUMER.NAMES.S", {"offset": 1})
    s.api("CONSUMER.NAMES.S", {"offset": 99})
    s.api("CONSUMER.INFO.S.A", b"x")
    s.api("CONSUMER.DELETE.S.A", b"x")
    s.api("CONSUMER.DELETE.S.A")
    s.api("CONSUMER.DELETE.S.A")
    stream(
        s, "L", subjects=["l"], max_consumers=1, consumer_limits={"max_ack_pending": 5, "inactive_threshold": SECOND}
    )
    consumer(s, "one", on="L")
    consumer(s, "one", on="L", max_ack_pending=9, inactive_threshold=9 * SECOND)
    s.api("CONSUMER.DELETE.L.one")
    consumer(s, "one", on="L", max_ack_pending=9)
    consumer(s, "one", on="L", inactive_threshold=9 * SECOND)
    consumer(s, "one", on="L")
    consumer(s, "two", on="L")


def policies(s: Session) -> None:
    """Where delivery starts, and what passes the filters."""
    fill(s, 12, 3)
    s.api("STREAM.MSG.DELETE.S", {"seq": 4})
    configs: list[dict[str, Any]] = [
        {"deliver_policy": "all"},
        {"deliver_policy": "last"},
        {"deliver_policy": "new"},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 4},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 50},
        {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
        {"deliver_policy": "last_per_subject", "filter_subject": "s.*"},
        {"deliver_policy": "last", "filter_subject": "s.1"},
        {"filter_subject": "s.2"},
        {"filter_subject": "s.9"},
        {"filter_subjects": ["s.0", "s.2"]},
        {"filter_subjects": ["s.0", "s.2"], "deliver_policy": "last_per_subject"},
        {"headers_only": True},
    ]
    for number, config in enumerate(configs):
        name = f"C{number}"
        consumer(s, name, **config)
        pull(s, {"batch": 20, "no_wait": True}, name=name)
        info(s, name)
    for number in range(3):
        s.ask(f"s.{number}", "later", {"a": "b"})
    for number in range(13):
        pull(s, {"batch": 20, "no_wait": True}, name=f"C{number}")
    s.api("CONSUMER.NAMES.S")
    s.api("CONSUMER.LIST.S")


def pulls(s: Session) -> None:
    """Every kind of pull request and every status."""
    fill(s)
    consumer(s, max_waiting=2, max_batch=5, max_expires=SECOND * 5, max_bytes=2000)
    for body in (
        "",
        "2",
        "0",
        "-1",
        "abc",
        {"batch": 1},
        {"batch": 6},
        {"expires": 6 * SECOND},
        {"max_bytes": 5000, "batch": 1},
        "{",
        '{"batch":"x"}',
        '{"nonsense":1,"batch":1}',
        {"batch": 2, "expires": 200 * MS, "idle_heartbeat": 150 * MS},
        {"batch": 1, "group": "g"},
        {"batch": 1, "priority": 3},
    ):
        pull(s, body)
    info(s)
    s.api("CONSUMER.DELETE.S.C")
    consumer(s, max_waiting=2)
    pull(s, {"batch": 5, "max_bytes": 120})
    pull(s, {"batch": 5, "max_bytes": 10})
    pull(s, {"batch": 2, "max_bytes": 1000})
    pull(s, {"batch": 50, "no_wait": True})
    pull(s, {"batch": 5, "no_wait": True})
    pull(s, {"batch": 5, "no_wait": True, "expires": 100 * MS})
    pull(s, {"batch": 5, "expires": 100 * MS})
    pull(s, {"batch": 5, "expires": 100 * MS, "max_bytes": 500})
    pull(s, {"batch": 5, "expires": 450 * MS, "idle_heartbeat": 100 * MS}, seconds=0.7)
    pull(s, {"batch": 5, "expires": 1000 * MS})
    pull(s, {"batch": 5, "expires": 1000 * MS}, inbox="in2")
    pull(s, {"batch": 5, "expires": 1000 * MS}, inbox="in3")
    pull(s, {"batch": 5, "expires": 1000 * MS, "idle_heartbeat": 100 * MS}, inbox="in4")
    pull(s, {"batch": 5, "no_wait": True}, inbox="in4")
    info(s)
    for number in range(4):
        s.ask("s.0", f"new {number}")
    for inbox in ("in", "in2", "in3"):
        s.gather(inbox, seconds=0.2)
    s.api("CONSUMER.DELETE.S.C")
    for inbox in ("in", "in2", "in3"):
        s.gather(inbox, seconds=0.2)
    consumer(s)
    pull(s, {"batch": 20, "expires": 5 * SECOND})
    s.api("STREAM.DELETE.S")
    s.gather("in", seconds=0.3)
    pull(s, {"batch": 1})
    fill(s, 1)
    consumer(s, "P", deliver_subject="nobody")
    pull(s, {"batch": 1}, name="P")
    s.ask("$JS.API.CONSUMER.MSG.NEXT.S.none", "1", seconds=0.3)


def fairness(s: Session) -> None:
    """Several requests wait: one message each in turn; the one whose client left is passed over."""
    fill(s, 0)
    consumer(s)
    for inbox, batch in (("a", 3), ("b", 2), ("c", 1), ("gone", 5)):
        pull(s, {"batch": batch, "expires": 5 * SECOND}, inbox=inbox, seconds=0.05)
    s.unsub("gone")
    info(s)
    for number in range(8):
        s.ask("s.0", f"{number}")
    for inbox in ("a", "b", "c"):
        found = s.gather(inbox, seconds=0.1)
        s.transcript.pop()  # how many more are pending is a matter of timing there
        s.note(f"{inbox} {[message.payload for message in found]}")
    info(s)


def pushes(s: Session) -> None:
    """Push delivery: interest, groups, ack none and all, heartbeats, flow control."""
    fill(s, 6)
    consumer(s, "N", deliver_subject="d.n", ack_policy="none")
    info(s, "N")
    s.sub("d.n", "n")
    s.gather("n", 6)
    info(s, "N")
    consumer(s, "G", deliver_subject="d.g", deliver_group="g", ack_policy="explicit", max_ack_pending=2)
    s.sub("d.g", "g", "g")
    for message in s.gather("g", 2):
        ack(s, message)
    s.gather("g", 2)
    info(s, "G")
    consumer(s, "G", deliver_subject="d.other", deliver_group="g", max_ack_pending=2)
    consumer(s, "G", deliver_group="g", max_ack_pending=2)
    s.sub("d.h", "h")
    consumer(s, "H", deliver_subject="d.h", idle_heartbeat=200 * MS, ack_policy="none", flow_control=True)
    s.gather("h", 6)
    s.gather("h", 1)
    s.unsub("n")
    s.ask("s.1", "more")
    s.gather("n", seconds=0.1)
    info(s, "N")
    s.sub("d.n", "n2")
    s.gather("n2", 1)
    for subject in ("all", "all.more"):
        s.sub(f"d.{subject}", subject)
    consumer(s, "A", deliver_subject="d.all", ack_policy="all")
    messages = s.gather("all", 7)
    ack(s, messages[3])
    info(s, "A")
    ack(s, messages[1])
    ack(s, messages[6])
    info(s, "A")
    s.sub("d.o", "o")
    consumer(s, "O", deliver_subject="d.o", headers_only=True, ack_policy="none", filter_subject="s.1")
    s.gather("o", 4)
    s.api("CONSUMER.LIST.S")


@pytest.mark.parametrize(
    "program", [configs, forms, policies, pulls, fairness, pushes], ids=lambda program: program.__name__
)
def test_consumers(pair: Pair, program: Any) -> None:
    """The same requests, the same answers and deliveries."""
    wrong = pair.compare(program)

    assert not wrong, "\n".join(wrong)
