"""An interpreter with the former Python client of NATS Streaming, made on first use and kept beside the tests.

Guarantee: ready() returns a whole environment with the versions of requirements.txt, however many ask at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
PINS = HERE / "requirements.txt"
HOME = HERE / ".venv-stan"
LOCK = HERE / ".venv-stan.lock"
SHIM = HERE / "programs" / "shim"


def ready() -> Path:
    """The interpreter. Errors: RuntimeError with pip's words when the packages can't be had."""
    wanted = hashlib.sha256(f"{sys.version} {sys.base_prefix}\n".encode() + PINS.read_bytes()).hexdigest()
    python, mark = HOME / "bin" / "python", HOME / "made-from"
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return python
        shutil.rmtree(HOME, ignore_errors=True)
        venv.create(HOME, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "-r", str(PINS)]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the Python client of NATS Streaming can't be installed: {done.stdout}{done.stderr}")
        mark.write_text(wanted)
    return python
