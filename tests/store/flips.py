"""Flipped bits in a copy of a store, each met by a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
from typing import TYPE_CHECKING, Any

from streamd.store.environment import DATA_FILE, FORMAT_FILE
from tests.store import program

if TYPE_CHECKING:
    from pathlib import Path


def flip(data: Path, bit: int) -> None:
    """Flip one bit of a file."""
    with data.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def meet(source: Path, scratch: Path, bit: int) -> dict[str, Any]:
    """What a process serves from a copy of `source` with one bit flipped, or {"signal": name} if it died."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name in (DATA_FILE, FORMAT_FILE):
        shutil.copy(source / name, scratch / name)
    flip(scratch / DATA_FILE, bit)
    receive, send = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            send.send(json.dumps(program.serve(scratch)))
        finally:
            os._exit(0)
    send.close()
    try:
        text = receive.recv()
    except EOFError:
        text = None
    _, status = os.waitpid(child, 0)
    if text is None:
        return {"signal": signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "exception"}
    result: dict[str, Any] = json.loads(text)
    return result


def campaign(source: Path, scratch: Path, flips: int, seed: int) -> list[tuple[int, dict[str, Any]]]:
    """(bit, what came of it) for random places."""
    chance = random.Random(seed)
    bits = 8 * (source / DATA_FILE).stat().st_size
    return [(bit, meet(source, scratch, bit)) for bit in (chance.randrange(bits) for _ in range(flips))]
