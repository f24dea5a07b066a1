"""Reading single messages: STREAM.MSG.GET and DIRECT.GET in all their forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.test_streams import stream

if TYPE_CHECKING:
    from tests.interop.conftest import Pair
    from tests.interop.raw import Session

pytestmark = pytest.mark.interop
REQUESTS: list[Any] = [
    {"seq": 1},
    {"seq": 3},
    {"seq": 4},
    {"seq": 0},
    {"seq": 99},
    {"seq": -1},
    {"last_by_subj": "s.0"},
    {"last_by_subj": "s.*"},
    {"last_by_subj": "none"},
    {"last_by_subj": ""},
    {"last_by_subj": "s.0", "seq": 1},
    {"next_by_subj": "s.1"},
    {"next_by_subj": "s.1", "seq": 6},
    {"next_by_subj": "s.*", "seq": 4},
    {"next_by_subj": "s.1", "seq": 99},
    {"next_by_subj": "none", "seq": 1},
    {"next_by_subj": "s.1", "last_by_subj": "s.1"},
    {"start_time": "2020-01-01T00:00:00Z"},
    {"start_time": "2020-01-01T00:00:00Z", "next_by_subj": "s.2"},
    {"start_time": "2099-01-01T00:00:00Z"},
    {"start_time": "x"},
    {"seq": 2, "no_hdr": True},
    {"seq": 1, "no_hdr": True},
    {},
    b"",
    b"x",
    b"{",
    b"[]",
    {"nonsense": 1},
    {"seq": 1, "nonsense": 1},
    {"seq": "1"},
    {"seq": 1.5},
]


def fill(s: Session, storage: str) -> None:
    """Ten messages on three subjects, one deleted, some with headers."""
    stream(s, subjects=["s.*"], allow_direct=True, storage=storage)
    for number in range(10):
        s.ask(f"s.{number % 3}", f"{number}", {"n": str(number)} if number % 2 else None)
    s.api("STREAM.MSG.DELETE.S", {"seq": 4})


def get(s: Session) -> None:
    """STREAM.MSG.GET."""
    for storage in ("file", "memory"):
        fill(s, storage)
        for body in REQUESTS:
            s.ask("$JS.API.STREAM.MSG.GET.S", body)
        s.api("STREAM.MSG.GET.nope", {"seq": 1})
        s.api("STREAM.MSG.GET.S", {"seq": 1, "batch": 2})
        s.api("STREAM.PURGE.S")
        s.api("STREAM.MSG.GET.S", {"seq": 1})
        s.api("STREAM.MSG.GET.S", {"last_by_subj": "s.0"})
        s.api("STREAM.DELETE.S")


def direct(s: Session) -> None:
    """DIRECT.GET, single messages."""
    for storage in ("file", "memory"):
        fill(s, storage)
        for body in REQUESTS:
            s.ask("$JS.API.DIRECT.GET.S", body, seconds=0.5)
        for subject in ("s.0", "s.1", "none", "s.*", "s.>", "s.9"):
            s.ask(f"$JS.API.DIRECT.GET.S.{subject}", b"", seconds=0.5)
        s.ask("$JS.API.DIRECT.GET.S.s.0", {"seq": 1}, seconds=0.5)
        s.ask("$JS.API.DIRECT.GET.S", {"seq": 1}, {"Nats-Required-Api-Level": "99"})
        s.ask("$JS.API.DIRECT.GET.nope", {"seq": 1}, seconds=0.5)
        s.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "storage": storage})
        s.ask("$JS.API.DIRECT.GET.S", {"seq": 1}, seconds=0.5)
        s.api("STREAM.DELETE.S")


def batches(s: Session) -> None:
    """DIRECT.GET of many messages."""
    fill(s, "file")
    s.sub("in", "in")
    for body in (
        '{"batch":3,"seq":1}',
        '{"batch":3,"seq":3}',
        '{"batch":100,"seq":8}',
        '{"batch":2,"seq":99}',
        '{"batch":3}',
        '{"batch":3,"next_by_subj":"s.1"}',
        '{"batch":3,"next_by_subj":"s.1","seq":3}',
        '{"batch":3,"next_by_subj":"none","seq":1}',
        '{"batch":5,"seq":1,"max_bytes":80}',
        '{"batch":5,"seq":1,"max_bytes":1}',
        '{"batch":2,"last_by_subj":"s.1"}',
        '{"batch":3,"start_time":"2020-01-01T00:00:00Z"}',
        '{"multi_last":["s.0","s.1"]}',
        '{"multi_last":["s.*"]}',
        '{"multi_last":["s.*"],"up_to_seq":6}',
        '{"multi_last":["s.*"],"batch":2}',
        '{"multi_last":["none"]}',
        '{"multi_last":[]}',
        '{"multi_last":["s.*"],"up_to_time":"2099-01-01T00:00:00Z"}',
        '{"multi_last":["s.*"],"up_to_time":"2020-01-01T00:00:00Z"}',
        '{"multi_last":["s.*"],"seq":9}',
        '{"multi_last":["s.*"],"up_to_seq":6,"up_to_time":"2099-01-01T00:00:00Z"}',
        '{"multi_last":["s.*"],"next_by_subj":"s.1"}',
        '{"up_to_seq":5}',
        '{"batch":5,"seq":1,"max_bytes":4}',
        '{"batch":5,"seq":1,"max_bytes":25}',
        '{"batch":5,"seq":1,"max_bytes":26}',
        '{"batch":5,"seq":1,"max_bytes":30}',
        '{"multi_last":["s.*"],"max_bytes":20}',
        '{"batch":0,"seq":1}',
        '{"batch":-1,"seq":1}',
    ):
        s.note(body)
        s.pub("$JS.API.DIRECT.GET.S", body, "in")
        s.gather("in", seconds=0.15)


@pytest.mark.parametrize("program", [get, direct, batches], ids=lambda program: program.__name__)
def test_gets(pair: Pair, program: Any) -> None:
    """The same requests, the same messages."""
    wrong = pair.compare(program)

    assert not wrong, "\n".join(wrong)
