"""A STAN server as a process of its own, that can be stopped, killed, frozen and started again on the same store.

nats-streaming-server and streamd read the same configuration and the same few flags.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = "test-cluster"


class StanServer(ServerProcess):
    """streamd with a `streaming {}` block. `streaming`: more lines of the block."""

    def __init__(self, directory: Path, streaming: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if "store:" not in streaming:
            streaming = f'store: file\ndir: "{directory / "stan"}"\n{streaming}'
        super().__init__(directory, config=f"streaming {{\nid: {CLUSTER}\n{streaming}\n}}\n")

    def command(self) -> list[str]:
        """How it is started."""
        return [sys.executable, "-m", "streamd", *self.common()]

    def common(self) -> list[str]:
        """What both servers are told."""
        flags = ["-a", "127.0.0.1", "-p", str(self.port), "--ports_file_dir", str(self.directory)]
        return [*flags, *self.arguments]

    def restart(self, *, clean: bool) -> None:
        """A clean stop or kill -9, and a start on the same port."""
        if clean:
            self.stop()
        else:
            self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it stand still: its connections stay, but it answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        os.kill(self.pid, signal.SIGCONT)


class StanPeer(StanServer):
    """The original, nats-streaming-server."""

    ready = "Streaming Server is ready"

    def __init__(self, program: Path, directory: Path, streaming: str = "") -> None:
        self.program = program
        super().__init__(directory, streaming)

    def command(self) -> list[str]:
        """How it is started."""
        return [str(self.program), *self.common()]
