"""A writer that is refused what it asks the system for: whoever waits is told, and nobody waits for ever."""

from __future__ import annotations

import errno
import os
import queue
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamd.errors import StoreFailed
from streamd.store import Environment, Outcome, StreamLog, Sync, TailCache, Work, Writer
from streamd.store.journal import Journal
from tests.store.conftest import error_of
from tests.store.records import records

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[2]
_STARVED = """
import os, queue, resource, sys
from pathlib import Path
from streamd.store import *
from tests.store.records import records

calls = queue.SimpleQueue()
environment = Environment.open(Path(sys.argv[1]), sync=Sync(sys.argv[2]))
writer = Writer(environment, notify=calls.put)
log = StreamLog(environment, TailCache(), 1)
errors = []

def publish(number, definition=None):
    work = Work()
    log.of(work).definition = definition
    log.append(work, records(number, number + 1))
    writer.submit(work, lambda outcome: errors.append(outcome.error))
    while writer.busy:
        calls.get()()

publish(1, b"{}")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    os.open(os.devnull, os.O_RDONLY)
except OSError:
    publish(2)
    publish(3)
writer.close()
environment.close()
print(errors, environment.clean)
"""


@pytest.mark.parametrize("mode", ["always", "never"])
def test_without_descriptors_publishes_go_on(tmp_path: Path, mode: str) -> None:
    """Clients have them all; what is durable without a new one is acked, and the store closes clean."""
    done = subprocess.run(
        [sys.executable, "-c", _STARVED, str(tmp_path), mode],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
        timeout=60,
    )

    assert (done.stderr, done.stdout) == ("", "[None, None, None] True\n")
    environment = Environment.open(tmp_path)
    assert StreamLog(environment, TailCache(), 1).count() == 3
    environment.close()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyError("a bug")])
def test_entry_that_can_not_be_made_fails_its_commit(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits is told, and those behind too; a stop ends."""
    calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    environment = Environment.open(tmp_path)
    writer = Writer(environment, notify=calls.put)
    log = StreamLog(environment, TailCache(), 1)
    outcomes: list[Outcome] = []
    work = Work()
    log.of(work).definition = b"{}"
    writer.submit(work, outcomes.append)
    calls.get(timeout=10)()

    def broken(journal: Journal, works: object) -> bytes:
        raise error

    monkeypatch.setattr(Journal, "entry", broken)
    for number in (1, 2):
        work = Work()
        log.append(work, records(number, number + 1))
        writer.submit(work, outcomes.append)
    assert not writer.busy
    writer.close()
    environment.close()

    assert outcomes[0].error is None
    for outcome in outcomes[1:]:
        assert isinstance(outcome.error, StoreFailed)
        assert str(error) in str(outcome.error)
    assert len(outcomes) == 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_late_flush_that_fails_is_for_good(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acked may not be there, and the system tells that once: also of a full disk, where room alone mends nothing."""
    environment = Environment.open(tmp_path, sync=Sync("interval", 10**6))

    def failing(_environment: Environment) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Environment, "flush", failing)
    writer = Writer(environment, notify=lambda call: None)
    work = Work()
    work.of(1).definition = b"{}"
    assert error_of(work, writer) is None
    deadline = time.monotonic() + 20
    while writer.failed is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    error = error_of(Work(), writer)
    assert isinstance(error, StoreFailed)
    assert os.strerror(code) in str(error)
    assert "check the disk, then restart streamd" in str(error)
    writer.close()
    environment.close()
