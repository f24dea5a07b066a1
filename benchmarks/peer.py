"""The peer: nats-server, pinned and built by a small Go module of this project. Guarantee: the
versions of peer/go.mod, checked against peer/go.sum by the Go tool; built once, into peer/bin."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.wire import BenchError

MODULE = Path(__file__).parent / "peer"
PROGRAM = MODULE / "bin" / "nats-server"


def build() -> Path:
    """Builds the peer and its command-line client unless they are there and newer than go.mod."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= (MODULE / "go.mod").stat().st_mtime:
        return PROGRAM
    if not shutil.which("go"):
        raise BenchError("the peer is built with Go 1.26 or newer, and there is no `go` here; or give --peer PATH")
    flags = "-buildvcs=false -mod=readonly"
    env = {**os.environ, "GOBIN": str(PROGRAM.parent), "GOFLAGS": flags}
    subprocess.run(["go", "install", "tool"], cwd=MODULE, env=env, check=True)
    os.utime(PROGRAM)
    return PROGRAM
