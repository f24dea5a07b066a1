"""A server under measurement: its configuration, its process, its memory and its time. Guarantee: leaving
the `with` ends the process. Both servers are started with the same configuration text."""

from __future__ import annotations

import enum
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.ports import free_port
from benchmarks.wire import BenchError

READY = b"Server is ready"
START_SECONDS = 120
STOP_SECONDS = 120
#: The id of the NATS Streaming cluster.
CLUSTER = "bench"


@dataclass(frozen=True)
class Software:
    """A program that can be started as a server."""

    name: str
    command: tuple[str, ...]

    def version(self) -> str:
        try:
            done = subprocess.run([*self.command, "-v"], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise BenchError(f"{shlex.join(self.command)} doesn't tell its version: {error}") from error
        return (done.stdout + done.stderr).strip()

    def version_seconds(self) -> float:
        start = time.monotonic()
        self.version()
        return time.monotonic() - start


class Streaming(enum.Enum):
    """When a NATS Streaming store reaches the disk; the value is that line of the configuration."""

    SYNCED = ""  # the default of both: before an ack
    RELAXED = "  file_options { sync_on_flush: false }\n"


class Process:
    """The process of a server with its configuration, log and store under one directory."""

    def __init__(self, software: Software, home: Path, port: int, text: str) -> None:
        self.software = software
        self.home = home
        self.port = port
        self.log = home / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.config = home / "server.conf"
        self.config.write_text(text)

    def spawn(self) -> float:
        """Starts the process without waiting for it; returns the monotonic time just before."""
        started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.software.command, "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
            )
        return started

    def wait_ready(self) -> float:
        """Waits for the ready line; returns the monotonic time at which it was seen."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if READY in self.log.read_bytes():
                return time.monotonic()
            self.must_live()
            time.sleep(0.001)
        raise BenchError(f"{self.software.name} isn't ready after {START_SECONDS} s")

    def must_live(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            words = self.log.read_text(errors="replace")[-2000:]
            command = shlex.join(self.software.command)
            raise BenchError(f"{command} ended with {self.process.returncode}:\n{words}")

    def stop(self) -> None:
        """Asks for a clean end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BenchError(f"{self.software.name} didn't end within {STOP_SECONDS} s") from None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the running process and doesn't wait."""
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def resident_bytes(self) -> int:
        """Resident memory of the process and of all its children."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Time that the process and all its living children have worked until now."""
        ticks = 0
        for pid in self.pids():
            # The name in brackets may hold spaces: fields are counted behind it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pids(self) -> list[int]:
        """The process and all its children."""
        assert self.process is not None
        found = []
        todo = [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        return found


class Server(Process):
    """One running server on a free port of the loopback.

    `sync` is the text of `sync_interval`; None leaves the key out: each server has its default.
    With `streaming` it is a NATS Streaming server with a file store and without limits.
    """

    def __init__(
        self,
        software: Software,
        home: Path,
        *,
        jetstream: bool = False,
        sync: str | None = None,
        streaming: Streaming | None = None,
    ) -> None:
        port = free_port()
        text = f'listen: "127.0.0.1:{port}"\nserver_name: bench\n'
        if jetstream:
            text += jetstream_block(home / "store", sync)
        if streaming:
            text += streaming_block(home / "store", streaming.value)
        super().__init__(software, home, port, text)

    def __enter__(self) -> Self:
        self.spawn()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def jetstream_block(store: Path, sync: str | None) -> str:
    line = f'  sync_interval: "{sync}"\n' if sync else ""
    return f'jetstream {{\n  store_dir: "{store}"\n{line}}}\n'


def streaming_block(store: Path, lines: str) -> str:
    return (
        f'streaming {{\n  id: {CLUSTER}\n  store: file\n  dir: "{store}"\n'
        f"  store_limits {{ max_channels: 0, max_msgs: 0, max_bytes: 0 }}\n{lines}}}\n"
    )
