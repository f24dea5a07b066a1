"""The peer for NATS Streaming: nats-streaming-server, pinned and built by a small Go module of this project. Guarantee:
the versions of stan_peer/go.mod, checked against stan_peer/go.sum by the Go tool; built once, into stan_peer/bin."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.wire import BenchError

MODULE = Path(__file__).parent / "stan_peer"
PROGRAM = MODULE / "bin" / "nats-streaming-server"


def build() -> Path:
    """Builds the peer unless it is there and newer than go.mod. Errors: BenchError, OSError, CalledProcessError."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= (MODULE / "go.mod").stat().st_mtime:
        return PROGRAM
    if not shutil.which("go"):
        raise BenchError("the peer is built with Go 1.26 or newer, and there is no `go` here")
    env = {**os.environ, "GOBIN": str(PROGRAM.parent), "GOFLAGS": "-buildvcs=false -mod=readonly"}
    subprocess.run(["go", "install", "tool"], cwd=MODULE, env=env, check=True)
    os.utime(PROGRAM)
    return PROGRAM
