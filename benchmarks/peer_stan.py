"""The peer of the NATS Streaming rows: nats-streaming-server, pinned and built by a Go module of its
own, since it needs an older nats-server than the other peer. Guarantee: the versions of
stan_peer/go.mod, checked against stan_peer/go.sum by the Go tool; built once, into stan_peer/bin."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.wire import BenchError

MODULE = Path(__file__).parent / "stan_peer"
PROGRAM = MODULE / "bin" / "nats-streaming-server"


def build() -> Path:
    """Builds nats-streaming-server unless it is there and newer than go.mod.

    Errors: BenchError without Go, or when the build fails.
    """
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= (MODULE / "go.mod").stat().st_mtime:
        return PROGRAM
    if not shutil.which("go"):
        raise BenchError("nats-streaming-server is built with Go 1.26 or newer, and there is no `go` here")
    env = {**os.environ, "GOBIN": str(PROGRAM.parent), "GOFLAGS": "-buildvcs=false -mod=readonly"}
    done = subprocess.run(["go", "install", "tool"], cwd=MODULE, env=env, check=False)
    if done.returncode:
        raise BenchError(f"nats-streaming-server was not built: go ended with {done.returncode} in {MODULE}")
    os.utime(PROGRAM)
    return PROGRAM
