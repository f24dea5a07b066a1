"""Signals: which ones a server process takes, from its first moment, and how another process sends one.

Guarantee: none of the signals nats-server knows kills a streamd process that has installed them, except by
asking.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

STOP: Final = frozenset([signal.SIGINT, signal.SIGTERM])
_TAKEN: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_COMMANDS: Final = {
    "stop": signal.SIGKILL,
    "quit": signal.SIGINT,
    "term": signal.SIGTERM,
    "reopen": signal.SIGUSR1,
    "ldm": signal.SIGUSR2,
    "reload": signal.SIGHUP,
}


class Signals:
    """Takes signals from construction on; they wait until `attach` says who acts on them.

    Before that a stop ends the process at once, with status 0: nothing is running yet.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._attached: tuple[asyncio.AbstractEventLoop, Callable[[int], None]] | None = None
        for number in _TAKEN:
            signal.signal(number, self._early)

    def _early(self, number: int, _frame: FrameType | None) -> None:
        if self._attached is not None:
            loop, act = self._attached
            loop.call_soon_threadsafe(act, number)
        elif number in STOP:
            raise SystemExit(0)
        else:
            self._waiting.append(number)

    def attach(self, loop: asyncio.AbstractEventLoop, act: Callable[[int], None]) -> None:
        """From now on `act` is called in the loop, first for what came early."""
        self._attached = loop, act
        for number in _TAKEN:
            loop.add_signal_handler(number, act, number)
        while self._waiting:
            loop.call_soon(act, self._waiting.pop(0))

    def detach(self) -> None:
        """The server is gone: what still comes while the process ends has nothing to act on."""
        if self._attached is None:
            return
        loop, _ = self._attached
        for number in _TAKEN:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


def send(command: str) -> int:
    """`-sl command=pid`: sends a signal to a server; returns the exit status.

    Shapes:  the pid may be the path of a pid file. Unlike nats-server, streamd doesn't look for processes by
             name: a pid is needed.
    """
    name, _, target = command.partition("=")
    if (number := _COMMANDS.get(name)) is None:
        return _fail(f'unknown signal "{name}"')
    if not target:
        return _fail(f"signal {name} needs a process: -sl {name}=<pid or pid file>")
    try:
        pid = int(target if target.isdigit() else Path(target).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _fail(f"invalid pid: {target}")
    if pid <= 1:
        return _fail(f"invalid pid: {target}")
    try:
        os.kill(pid, number)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return _fail(f'signal "{name}" {pid}: {(reason or "no such process").lower()}')
    return 0


def _fail(text: str) -> int:
    print(f"streamd: {text}", file=sys.stderr)  # noqa: T201
    return 1
