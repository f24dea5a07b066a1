"""The Go program of an article on clusters of NATS Streaming: it publishes ten times a second, prints a dot for each message
that it hears, and ends at the first error. It gives up after about four seconds without an answer to its pings, which
nats-streaming-server takes longer than to elect: there the program dies (three runs of three: no dot after the kill, and
after 3.5 s `stan: connection closed`). Here it goes on.

Its library sends nothing again, and nothing while it has no connection. So the leader is killed in a pause between two
publishes; a publish that was under way to a killed server is lost with any server, and the program ends for it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final, Self

import pytest

from tests.interop.test_clients import HERE, need, run
from tests.trio import trio

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.trio import Trio

pytestmark = pytest.mark.interop
PROGRAM: Final = HERE / "go_mission" / "bin" / "mission"
PATIENCE_SECONDS: Final = 40
#: Into the pause of 100 ms that the program makes once its publish is acked.
PAUSE_SECONDS: Final = 0.02


class Dots:
    """The program at work, and how many dots it has printed."""

    def __init__(self, program: Path, urls: list[str]) -> None:
        self.count = 0
        self._changed = threading.Condition()
        self._ended = False
        self._errors: list[bytes] = []
        self.process = subprocess.Popen([str(program), *urls], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._threads = [threading.Thread(target=self._count), threading.Thread(target=self._listen)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _count(self) -> None:
        assert self.process.stdout is not None
        while self.process.stdout.read(1):
            with self._changed:
                self.count += 1
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self._errors += self.process.stderr.readlines()

    def more(self, count: int) -> None:
        """Wait for so many dots more. Errors: AssertionError with the program's last words."""
        with self._changed:
            wanted = self.count + count
            self._changed.wait_for(lambda: self.count >= wanted or self._ended, PATIENCE_SECONDS)
            assert self.count >= wanted, f"{self.count} dots and then none: {self._errors}"


def kill_the_leader(cluster: Trio, program: Path) -> None:
    """Run the program through a kill -9 of the leader, and make the cluster whole again."""
    with Dots(program, [node.url for node in cluster.nodes]) as dots:
        dots.more(5)
        leader = cluster.led()
        dots.more(1)
        time.sleep(PAUSE_SECONDS)
        leader.kill()
        dots.more(20)
    leader.spawn()
    leader.wait_ready()
    cluster.until("node that has caught up", cluster.caught_up)


@pytest.fixture(scope="session")
def program() -> Path:
    """The built program."""
    home = HERE / "go_mission"
    run(need("go"), "build", "-mod=readonly", "-buildvcs=false", "-o", str(PROGRAM), ".", cwd=home, seconds=300)
    return PROGRAM


@pytest.mark.timeout(600)
@pytest.mark.parametrize("runs", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_goes_on_printing_when_the_leader_is_killed(program: Path, tmp_path: Path, runs: int) -> None:
    """Each time, and each time it is another leader."""
    with trio(tmp_path) as cluster:
        for _ in range(runs):
            kill_the_leader(cluster, program)
