"""Which streams a damaged file concerns: every database is walked by LMDB, in a process that may die of it.

In the walk:  `pages.verify` found something; `Environment.open` asks before it gives up the whole store.
Guarantee:    the calling process survives; nothing is written.

As a program it prints "database" before and "sound" after each one.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import lmdb

from streamd import limits
from streamd.store import layout

if TYPE_CHECKING:
    from pathlib import Path


def probe(directory: Path) -> set[bytes] | None:
    """Names of the databases that can't be walked; None if the file can't even be opened."""
    damaged: set[bytes] = set()
    while True:
        # The text of the program, not the package: a probe needs nothing that could fail in the same way.
        command = [sys.executable, "-m", "streamd.store.probe", str(directory)]
        command += [name.decode() for name in sorted(damaged)]
        try:
            answer = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=limits.PROBE_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        lines = answer.stdout.splitlines()
        if lines and lines[-1] == b"end":
            return damaged
        if not lines or lines[-1] in damaged or lines[-1] == b"sound":
            return None
        damaged.add(lines[-1])


def walk(env: lmdb.Environment, name: bytes) -> None:
    """Read a whole database both ways. Errors: ValueError, lmdb.Error, or none at all: the process ends."""
    database = env.open_db(name, create=False)
    with env.begin() as txn, txn.cursor(db=database) as along, txn.cursor(db=database) as down:
        entries = txn.stat(database)["entries"]
        count = 0
        last = b""
        for key, value in along:
            if not last < key or len(value) < 4 or not down.set_key(key) or (name != layout.META and len(key) != 8):
                raise ValueError(key)
            last = key
            count += 1
        if count != entries:
            raise ValueError(f"{count} of {entries}")


def main(directory: str, skip: set[str]) -> None:
    """Walk all databases but those in `skip`."""
    env = lmdb.open(
        directory,
        readonly=True,
        lock=False,
        max_dbs=limits.STORE_DATABASES_MAX,
        map_size=1 << 40,
        lib_version=0,
    )
    with env.begin() as txn:
        names = env.dbs(txn)
    for name in names:
        if name.decode() not in skip:
            sys.stdout.buffer.write(name + b"\n")
            sys.stdout.buffer.flush()
            walk(env, name)
            sys.stdout.buffer.write(b"sound\n")
    sys.stdout.buffer.write(b"end\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], set(sys.argv[2:]))
