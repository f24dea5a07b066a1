"""Rows of starting: the empty server, `-v`, and the first answer about a stream of millions of
messages."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.frames import subjects
from benchmarks.row import Goal, Row, Unit
from benchmarks.server import START_SECONDS, Server, Software
from benchmarks.stored import fill
from benchmarks.wire import BenchError, Client, NoAnswerError

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.rig import Rig

MANY_SUBJECTS = 100_000
#: Of one stored message: recovery is about their number, not their size.
SIZE = 32


class End(enum.Enum):
    """How the server that filled the stream came to its end."""

    STOP = "stop"
    KILL = "kill -9"


def to_ready(rig: Rig, software: Software) -> float:
    """Seconds from process start to the ready line, with an empty store."""
    with rig.directory() as path:
        server = Server(software, path, jetstream=True)
        started = server.spawn()
        try:
            return server.wait_ready() - started
        finally:
            server.stop()


def to_version(_: Rig, software: Software) -> float:
    return software.version_seconds()


def filled(rig: Rig, software: Software, subjects_count: int, end: End) -> Path:
    """A directory in the state in which the server left it right after the last ack."""

    def fill_it(path: Path) -> None:
        server = Server(software, path, jetstream=True)
        server.spawn()
        try:
            server.wait_ready()
            with Client(server.port) as client:
                client.create_stream("S", "s.>")
            names = subjects("s", subjects_count) if subjects_count > 1 else ["s.one"]
            fill(server.port, names, rig.recovered, SIZE)
        finally:
            if end is End.KILL:
                server.kill()
            else:
                server.stop()

    return rig.prepare(f"recover-{subjects_count}-{end.name}", software, fill_it)


def to_answer(rig: Rig, software: Software, subjects_count: int, end: End) -> float:
    """Seconds from process start to an answer about the stream that tells the right counts."""
    source = filled(rig, software, subjects_count, end)
    with rig.directory() as path:
        # Each sample starts from the same files: a recovered store is another one than that to recover.
        subprocess.run(["cp", "-a", f"{source}/store", str(path)], check=True)
        os.sync()
        server = Server(software, path, jetstream=True)
        started = server.spawn()
        try:
            state = first_answer(server)
            seconds = time.monotonic() - started
        finally:
            server.kill()
    wanted = {"messages": rig.recovered, "last_seq": rig.recovered, "num_subjects": subjects_count}
    found = {key: state.get(key) for key in wanted}
    if found != wanted:
        raise BenchError(f"{software.name} came back with {found}, not {wanted}")
    shutil.rmtree(path, ignore_errors=True)
    return seconds


def first_answer(server: Server) -> dict[str, int]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with Client(server.port) as client:
                return dict(client.request("$JS.API.STREAM.INFO.S")["state"])
        except (ConnectionError, NoAnswerError, BenchError):
            server.must_live()
            time.sleep(0.002)
    raise BenchError(f"{server.software.name} didn't answer within {START_SECONDS} s")


def recovery(name: str, subjects_count: int, end: End) -> Row:
    sample = partial(to_answer, subjects_count=subjects_count, end=end)
    return Row("start", name, Unit.SECONDS, Goal.VALUE_AT_MOST, 1, sample, slow=True)


ROWS = [
    Row("start", "process start to ready, empty store", Unit.SECONDS, Goal.VALUE_AT_MOST, 0.3, to_ready),
    Row("start", "-v", Unit.SECONDS, Goal.VALUE_AT_MOST, 0.1, to_version),
    recovery("start to first answer, 1 subject", 1, End.STOP),
    recovery("start to first answer, 100,000 subjects", MANY_SUBJECTS, End.STOP),
    recovery("start to first answer, after kill -9", MANY_SUBJECTS, End.KILL),
]
