"""Generator processes that start together. Guarantee: none outlives the measurement, and an error
in one of them ends all. One process per role, forked, so that no role waits for another one's
interpreter lock."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from benchmarks.wire import BenchError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

#: A role prepares, calls its gate, and works only when every role has called it.
Gate = Callable[[], object]
Role = Callable[[Gate], Any]

FORK = multiprocessing.get_context("fork")
PATIENCE_SECONDS = 300


def _child(role: Role, gate: Gate, pipe: Connection) -> None:
    try:
        pipe.send((True, role(gate)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))


def run(*roles: Role, helpers: Sequence[Role] = ()) -> list[Any]:
    """Runs all roles at once and returns what each `roles` member returned; `helpers` are ended with them."""
    barrier = FORK.Barrier(len(roles) + len(helpers))
    gate = partial(barrier.wait, PATIENCE_SECONDS)
    pipes: list[Connection] = []
    processes: list[BaseProcess] = []
    for role in (*roles, *helpers):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_child, args=(role, gate, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        return _collect(pipes, len(roles))
    finally:
        for started in processes:
            started.kill()
            started.join()


def _collect(pipes: list[Connection], wanted: int) -> list[Any]:
    results: dict[int, Any] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(results) < wanted:
        open_pipes = [pipe for number, pipe in enumerate(pipes) if number not in results]
        ready = wait(open_pipes, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise BenchError(f"no result within {PATIENCE_SECONDS} s")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            good, value = pipe.recv()
            if not good:
                raise BenchError(value)
            results[pipes.index(pipe)] = value
    return [results[number] for number in range(wanted)]
