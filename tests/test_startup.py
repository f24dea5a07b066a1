"""The lines of a starting server that operators look for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from streamd import Server, __version__, startup
from streamd.config.load import load_text
from streamd.config.models import Config
from streamd.config.scalars import duration_text
from streamd.config.streaming import StreamingConfig
from streamd.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

TABLE = """\
---------- Store Limits ----------
Channels:                    5
--------- Channels Limits --------
  Subscriptions:          1000 *
  Messages     :            10
  Bytes        :     976.56 MB *
  Age          :        1h0m0s
  Inactivity   :     unlimited *
-------- List of Channels --------
bar
foo.>
 |-> Bytes                 1.00 MB
 foo.*
  |-> Age                    1m30s
  foo.bar
   |-> Messages          unlimited
   |-> Native                 true
----------------------------------"""

TEXT = """\
streaming { store: file, dir: d, limits { max_msgs: 10, mc: 5, ma: "1h", channels {
  foo.> {max_bytes: 1MB}, foo.* {ma: "90s"}, foo.bar {max_msgs: 0, native: true}, bar {}
} } }"""


def logged(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    config = load_text(text)
    assert config.streaming is not None
    assert config.jetstream is not None
    with caplog.at_level(logging.INFO):
        startup.log_streaming(
            logging.getLogger("test"), config.streaming, config.jetstream.store_dir, "a", clustered=False
        )
    return caplog.messages


def test_streaming_says_what_it_serves(caplog: pytest.LogCaptureFixture) -> None:
    """The table is the original's for the same file, but for the line about `native`."""
    lines = logged(caplog, TEXT)

    assert lines[:3] == [
        f"STREAM: Starting streamd streaming[test-cluster] version {__version__}",
        "STREAM: Message store is FILE",
        "STREAM: Store location: d",
    ]
    assert lines[3:] == [f"STREAM: {line}" for line in TABLE.splitlines()]


def test_store_in_memory_has_no_place(caplog: pytest.LogCaptureFixture) -> None:
    lines = logged(caplog, "streaming { id: x, limits { mc: 0, msu: 0 } }\nstore_dir: d")

    assert "STREAM: Message store is MEMORY" in lines
    assert not any("location" in line for line in lines)
    assert "STREAM: Channels:            unlimited" in lines
    assert lines[-1] == "STREAM: ----------------------------------"


def test_notes_are_logged_at_start(caplog: pytest.LogCaptureFixture) -> None:
    config = load_text("streaming {store: file, dir: d, cluster {node_id: a, log_cache_size: 5, trailing_logs: 7}}")

    startup.log_starting(logging.getLogger("test"), config, server_id="ID", server_name="a")

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert list(config.notes) == warned
    assert "streaming.cluster.log_cache_size: accepted, has no effect here" in warned[0]
    assert "streaming.cluster.trailing_logs: accepted, has no effect here" in warned[1]


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (250_000_000, "250ms"),
        (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_061_001_000_000, "25h1m1.001s"),
        (-90_000_000_000, "-1m30s"),
        (-1_000_000, "-1ms"),
        (-7_200_000_000_000, "-2h0m0s"),
    ],
)
def test_durations_are_printed_as_go_does(nanoseconds: int, expected: str) -> None:
    assert expected == duration_text(nanoseconds)


@pytest.mark.anyio
async def test_the_store_of_a_nats_streaming_server_is_not_started_beside(tmp_path: Path) -> None:
    """Its configuration file names it: an empty server would answer its clients."""
    (tmp_path / "server.dat").write_bytes(b"theirs")
    streaming = StreamingConfig(store="file", dir=str(tmp_path))

    with pytest.raises(StoreError, match=f"streamd import stan {tmp_path} --apply"):
        async with Server(Config(host="127.0.0.1", port=-1, streaming=streaming)):
            pass

    assert not (tmp_path / "jetstream").exists()
