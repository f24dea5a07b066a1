"""A server as a process of its own, that can be killed and started again on the same store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from benchmarks.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

READY = "Server is ready"


class ServerProcess:
    """`streamd` on a free port with its store, log and ports file under one directory."""

    ready = READY

    def __init__(self, directory: Path, *arguments: str, config: str | None = None, store: Path | None = None) -> None:
        self.directory = directory
        self.store = store or directory / "store"
        self.log_path = directory / "streamd.log"
        self.arguments = list(arguments)
        if config is not None:
            path = directory / "streamd.conf"
            path.write_text(config)
            self.arguments += ["-c", str(path)]
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def command(self) -> list[str]:
        """How it is started."""
        command = [sys.executable, "-m", "streamd", "-a", "127.0.0.1", "-p", str(self.port)]
        command += ["-js", "-sd", str(self.store), "--ports_file_dir", str(self.directory)]
        return [*command, *self.arguments]

    def start(self, timeout_seconds: float = 30) -> Self:
        """Start (again) on the same store and the same port; wait until it is ready."""
        offset = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.directory)
        deadline = time.monotonic() + timeout_seconds
        while self.ready not in self.log_path.read_text(errors="replace")[offset:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"streamd did not get ready: {self.log()[offset:]}")
            time.sleep(0.01)
        return self

    def log(self) -> str:
        """Everything it has logged."""
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, timeout_seconds: float = 10) -> int:
        """SIGTERM and wait. Returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout_seconds)
