"""Flipped bits in copies of a store, met by processes that may die of them."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
from typing import TYPE_CHECKING, Any, Final

from streamd.store import Sync
from streamd.store.directory import DATA_FILE, FORMAT_FILE
from tests.store import program

if TYPE_CHECKING:
    from pathlib import Path

Met = dict[str, Any]

# What one process may take for one flip: a loop without an end shows as a signal, not as a test that hangs.
_SECONDS_MAX: Final = 20
_BYTES_MAX: Final = 1 << 30


def flip(data: Path, bit: int) -> None:
    """Flip one bit of a file."""
    with data.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def campaign(source: Path, scratch: Path, flips: int, seed: int) -> list[tuple[int, Met]]:
    """(bit, what `serve_and_go_on` gives with that bit flipped, or {"signal": name}) for random places."""
    chance = random.Random(seed)
    bits = 8 * (source / DATA_FILE).stat().st_size
    places = [chance.randrange(bits) for _ in range(flips)]
    met: list[Met] = []
    while len(met) < flips:
        met += _meet(source, scratch, places[len(met) :])
    return list(zip(places, met, strict=True))


def _meet(source: Path, scratch: Path, places: list[int]) -> list[Met]:
    """As many as one process survives, and the one that it dies of."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_DATA, (_BYTES_MAX, _BYTES_MAX))
            for bit in places:
                signal.alarm(_SECONDS_MAX)
                os.write(send, json.dumps(_serve(source, scratch, bit)).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as answers:
        met: list[Met] = [json.loads(line) for line in answers]
    _, status = os.waitpid(child, 0)
    if len(met) < len(places):
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "exception"
        met.append({"signal": name})
    return met


def _serve(source: Path, scratch: Path, bit: int) -> Met:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name in (DATA_FILE, FORMAT_FILE):
        shutil.copy(source / name, scratch / name)
    flip(scratch / DATA_FILE, bit)
    return serve_and_go_on(scratch)


def serve_and_go_on(store: Path) -> Met:
    """What is served, and what is served when more was written: {"error": …} of either, else {"then": [both]}."""
    served = program.serve(store)
    if "error" in served:
        return served
    program.write(store, Sync("never"), 400)
    then = program.serve(store)
    return then if "error" in then else {"then": [served, then]}
