"""Streams through raw API requests: nats-server and streamd answer alike, field for field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Pair
    from tests.interop.raw import Session

pytestmark = pytest.mark.interop

SECOND = 1_000_000_000


def stream(s: Session, name: str = "S", **fields: Any) -> dict[str, Any]:
    """Create a stream."""
    return s.api(f"STREAM.CREATE.{name}", {"name": name, **fields})


def life(s: Session) -> None:
    """Create, create again, update, info, names, list, delete."""
    s.api("INFO")
    stream(s)
    stream(s)
    stream(s, subjects=["other"])
    stream(s, "T", subjects=["t.*", "u.>"], storage="memory", max_msgs=10, description="d", metadata={"a": "b"})
    stream(s, "U", subjects=["t.x"])
    stream(s, "V", subjects=["a", "a"])
    stream(s, "V", subjects=["a.>", "a.b"])
    stream(s, "V", subjects=["a..b"])
    stream(s, "V", subjects=["$JS.API.>"])
    stream(s, "V", subjects=[">"])
    s.api("STREAM.CREATE.a.b", {"name": "a.b"})
    s.api("STREAM.CREATE.X", {"name": "Y"})
    s.api("STREAM.CREATE.X", {})
    s.api("STREAM.CREATE.X", b"")
    s.api("STREAM.CREATE.X", b"{")
    s.api("STREAM.CREATE.X", {"name": "X", "nonsense": 1})
    s.api("STREAM.CREATE.X", {"name": "X", "max_msgs": "1"})
    for name in ("S", "T", "nope"):
        s.api(f"STREAM.INFO.{name}")
    s.api("STREAM.INFO.S", b"x")
    s.api("STREAM.INFO.S", b"{")
    s.api("STREAM.NAMES")
    s.api("STREAM.NAMES", {"subject": "t.>"})
    s.api("STREAM.NAMES", {"subject": "S"})
    s.api("STREAM.NAMES", {"subject": "none"})
    s.api("STREAM.NAMES", {"offset": 1})
    s.api("STREAM.NAMES", {"offset": 9})
    s.api("STREAM.LIST")
    s.api("STREAM.LIST", {"subject": "u.x", "offset": 0})
    s.api("STREAM.LIST", {"offset": 1})
    s.api("STREAM.UPDATE.T", {"name": "T", "subjects": ["t.*"], "storage": "memory", "max_msgs": 5})
    s.api("STREAM.UPDATE.T", {"name": "T", "subjects": ["t.*"], "storage": "file"})
    s.api("STREAM.UPDATE.T", {"name": "T", "subjects": ["S"], "storage": "memory"})
    s.api("STREAM.UPDATE.nope", {"name": "nope"})
    s.api("INFO")
    s.api("STREAM.DELETE.T", b"{}")
    s.api("STREAM.DELETE.S", b"x")
    s.api("STREAM.DELETE.S")
    s.api("STREAM.DELETE.S")
    s.api("STREAM.NAMES")
    s.api("STREAM.LIST")


def configs(s: Session) -> None:
    """One field at a time, in and out of its range, by CREATE and by UPDATE."""
    fields: list[dict[str, Any]] = [
        {"max_msgs": -5},
        {"max_msgs": 0},
        {"max_bytes": 1},
        {"max_age": 1},
        {"max_age": SECOND},
        {"max_age": -1},
        {"max_age": SECOND, "duplicate_window": 2 * SECOND},
        {"duplicate_window": 1},
        {"duplicate_window": -1},
        {"max_msg_size": 0},
        {"max_msg_size": -7},
        {"max_consumers": 0},
        {"max_msgs_per_subject": 3},
        {"discard": "new"},
        {"discard": "other"},
        {"discard_new_per_subject": True},
        {"discard_new_per_subject": True, "discard": "new"},
        {"discard_new_per_subject": True, "discard": "new", "max_msgs_per_subject": 2},
        {"storage": "disk"},
        {"retention": "none"},
        {"num_replicas": 0},
        {"num_replicas": -1},
        {"num_replicas": 3},
        {"num_replicas": 6},
        {"no_ack": True},
        {"compression": "s2"},
        {"compression": "zip"},
        {"compression": "s2", "storage": "memory"},
        {"allow_direct": True},
        {"mirror_direct": True},
        {"sealed": True},
        {"deny_delete": True},
        {"deny_purge": True},
        {"deny_purge": True, "allow_rollup_hdrs": True},
        {"allow_rollup_hdrs": True},
        {"consumer_limits": {"inactive_threshold": SECOND, "max_ack_pending": 5}},
        {"consumer_limits": {"max_ack_pending": -2}},
        {"description": "x" * 4097},
        {"metadata": {"k": "x" * (128 * 1024)}},
        {"placement": {"cluster": "x"}},
        {"placement": {}},
        {"template_owner": "x"},
        {"persist_mode": "other"},
        {"subjects": []},
        {"subjects": None},
        {"subjects": ["x y"]},
        {"subjects": ["$SYS.x"]},
        {"subjects": ["$SYS.ACCOUNT.>"]},
        {"subjects": ["$JS.EVENT.>"]},
        {"subjects": ["*"], "no_ack": True},
        {"subjects": [">"], "no_ack": True},
    ]
    for number, more in enumerate(fields):
        stream(s, f"C{number}", **{"subjects": [f"c.{number}"], **more})
        s.api(f"STREAM.DELETE.C{number}")
    stream(s, subjects=["s"])
    for more in fields:
        if "metadata" not in more:
            s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], **more})
    s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "sealed": True})
    s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "sealed": False})


def pedantic(s: Session) -> None:
    """With `pedantic` nothing is silently put right."""
    fields: list[dict[str, Any]] = [
        {},
        {"max_msgs": -5},
        {"num_replicas": 0},
        {"duplicate_window": 0},
        {"max_age": SECOND},
        {"max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1, "max_msg_size": -1, "max_consumers": -1},
    ]
    for more in fields:
        stream(s, subjects=["s"], pedantic=True, **more)
        s.api("STREAM.DELETE.S")


def retention(s: Session) -> None:
    """What leaves by number, bytes and subject, with old and new discarded."""
    stream(s, "N", subjects=["n.*"], max_msgs=3)
    stream(s, "B", subjects=["b"], max_bytes=200)
    stream(s, "P", subjects=["p.*"], max_msgs_per_subject=2)
    stream(s, "NN", subjects=["nn.*"], max_msgs=3, discard="new")
    stream(s, "BN", subjects=["bn"], max_bytes=200, discard="new")
    stream(s, "PN", subjects=["pn.*"], max_msgs_per_subject=2, discard="new", discard_new_per_subject=True)
    stream(s, "PO", subjects=["po.*"], max_msgs_per_subject=2, discard="new", max_msgs=3)
    stream(s, "Z", subjects=["z"], max_msg_size=10)
    stream(s, "M", subjects=["m.*"], max_msgs=3, max_bytes=150, storage="memory")
    for number in range(6):
        for name in ("n.%d", "b", "p.x", "nn.x", "bn", "pn.x", "po.%d", "m.x"):
            s.ask(name.replace("%d", str(number % 2)), b"0123456789" * (number + 1))
    s.ask("po.new", b"")
    s.ask("pn.y", b"")
    s.ask("z", b"0123456789")
    s.ask("z", b"0123456789a")
    s.ask("z", b"0", {"a": "b"})
    s.ask("b", b"x" * 300)
    s.ask("bn", b"x" * 300)
    for name in ("N", "B", "P", "NN", "BN", "PN", "PO", "Z", "M"):
        s.api(f"STREAM.INFO.{name}", {"subjects_filter": ">", "deleted_details": True})
    s.api("STREAM.UPDATE.N", {"name": "N", "subjects": ["n.*"], "max_msgs": 1})
    s.api("STREAM.UPDATE.P", {"name": "P", "subjects": ["p.*"], "max_msgs_per_subject": 1})
    s.api("STREAM.INFO.N")
    s.api("STREAM.INFO.P")
    s.api("INFO")


def purges(s: Session) -> None:
    """Purge by everything, sequence, subject and number to keep, and deletes between."""
    stream(s, subjects=["s.*"], allow_direct=True)

    def fill() -> None:
        for number in range(12):
            s.pub(f"s.{number % 3}", f"{number}")
        s.flush()

    def state() -> None:
        s.api("STREAM.INFO.S", {"subjects_filter": ">", "deleted_details": True})

    fill()
    for body in (
        {"seq": 3},
        {"filter": "s.1", "keep": 1},
        {"filter": "s.2", "seq": 8},
        {"keep": 3},
        {"filter": "none.*"},
        {"filter": "a..b"},
        {"seq": 1, "keep": 1},
        {"keep": 100},
        {},
        b"garbage",
        b"{",
        {"nonsense": 1},
    ):
        s.api("STREAM.PURGE.S", body)
        state()
        if body in ({}, b"garbage"):
            fill()
    for body in (
        {"seq": 0},
        {"seq": 26},
        {"seq": 26},
        {"seq": 25},
        {"seq": 25},
        {"seq": 27, "no_erase": True},
        {"seq": 1000},
        {},
        b"",
        b"x",
    ):
        s.api("STREAM.MSG.DELETE.S", body)
    state()
    s.api("STREAM.PURGE.S", {"seq": 1000})
    state()
    s.ask("s.1", b"x")
    s.api("STREAM.PURGE.nope")
    s.api("STREAM.MSG.DELETE.nope", {"seq": 1})
    stream(s, "M", subjects=["m"], storage="memory")
    for _ in range(5):
        s.ask("m", b"x")
    for seq in (3, 3, 1, 1, 9):
        s.api("STREAM.MSG.DELETE.M", {"seq": seq})
    stream(s, "D", subjects=["d"], deny_delete=True, deny_purge=True)
    s.ask("d", b"x")
    s.api("STREAM.PURGE.D")
    s.api("STREAM.MSG.DELETE.D", {"seq": 1})
    s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "sealed": True, "allow_direct": True})
    s.api("STREAM.PURGE.S")
    s.api("STREAM.MSG.DELETE.S", {"seq": 30})
    s.ask("s.1", b"x")
    s.api("STREAM.DELETE.S")


def subjects(s: Session) -> None:
    """Subject counts and their filters; a stream takes and gives up subjects."""
    stream(s, subjects=["s.>"])
    for number in range(10):
        # nats-server stores what it has answered PING behind a little later: only the ack tells.
        s.ask(f"s.{number % 4}.{number % 2}", b"x")
    for pattern in (">", "s.1.*", "s.*.0", "none", "s.1.1", ""):
        s.api("STREAM.INFO.S", {"subjects_filter": pattern})
    s.api("STREAM.INFO.S", {"subjects_filter": ">", "offset": 2})
    s.api("STREAM.INFO.S", {"subjects_filter": ">", "offset": 99})
    s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["other"]})
    s.ask("s.1.1", b"x", seconds=1)
    s.ask("other", b"x")
    s.api("STREAM.INFO.S", {"subjects_filter": ">"})


def unknown(s: Session) -> None:
    """Requests that nobody serves, and those that need a cluster or the system account."""
    stream(s)
    for subject in (
        "NOPE",
        "STREAM.NOPE",
        "STREAM.INFO",
        "STREAM.INFO.a.b",
        "STREAM.CREATE",
        "CONSUMER.LIST",
        "CONSUMER.INFO.S",
        "META.LEADER.STEPDOWN",
        "SERVER.REMOVE",
        "ACCOUNT.PURGE.G",
    ):
        s.ask(f"$JS.API.{subject}", b"", seconds=0.3)
    for subject in (
        "STREAM.LEADER.STEPDOWN.S",
        "CONSUMER.LEADER.STEPDOWN.S.C",
        "STREAM.PEER.REMOVE.S",
        "CONSUMER.LIST.nope",
        "CONSUMER.NAMES.nope",
        "CONSUMER.LIST.S",
        "CONSUMER.NAMES.S",
        "CONSUMER.INFO.S.nope",
        "CONSUMER.DELETE.S.nope",
    ):
        s.api(subject)
    s.api("STREAM.INFO.S", b"", {"Nats-Required-Api-Level": "99"})
    s.api("STREAM.INFO.S", b"", {"Nats-Required-Api-Level": "0"})
    s.api("STREAM.INFO.S", b"", {"Nats-Required-Api-Level": "x"})


def paging(s: Session) -> None:
    """More than one page of names, lists and subjects."""
    for number in range(260):
        s.pub(f"$JS.API.STREAM.CREATE.P{number:03}", f'{{"name":"P{number:03}"}}', "ignored")
        s.flush()
    s.api("STREAM.CREATE.P260", {"name": "P260"})
    for offset in (0, 250, 256, 300):
        for what in ("NAMES", "LIST"):
            answer = s.api(f"STREAM.{what}", {"offset": offset})
            s.transcript.pop()
            found = answer["streams"] or []
            shown = [one if what == "NAMES" else one["config"]["name"] for one in found]
            s.note(f"{what} {offset}: {len(found)} {shown[:1]} {[answer[key] for key in ('total', 'offset', 'limit')]}")


def advisories(s: Session) -> None:
    """What is said of streams and consumers that come and go."""
    s.sub("$JS.EVENT.ADVISORY.STREAM.>", "adv")
    s.sub("$JS.EVENT.ADVISORY.CONSUMER.>", "adv2")
    stream(s)
    s.gather("adv", 1)
    s.api("STREAM.UPDATE.S", {"name": "S", "max_msgs": 5})
    s.gather("adv", 1)
    for name in ("C", "D", "E"):
        config = {"name": name, **({} if name == "D" else {"durable_name": name})}
        s.api(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": config})
        s.gather("adv2", 1)
    s.api("CONSUMER.DELETE.S.C")
    s.gather("adv2", 1)
    s.api("STREAM.DELETE.S")
    s.gather("adv", 1)
    found = [message.subject for message in s.gather("adv2", 2)]
    s.transcript.pop()
    s.note(f"{sorted(found)}")
    s.gather("adv", seconds=0.3)
    s.gather("adv2", seconds=0.3)


@pytest.mark.parametrize(
    "program",
    [life, configs, pedantic, retention, purges, subjects, unknown, paging, advisories],
    ids=lambda program: program.__name__,
)
def test_streams(pair: Pair, program: Any) -> None:
    """The same requests, the same answers."""
    wrong = pair.compare(program)

    assert not wrong, "\n".join(wrong)
