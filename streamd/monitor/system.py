"""The system account's services: `$SYS.REQ.SERVER`, `$SYS.REQ.ACCOUNT`, and `$SYS.REQ.USER.INFO` for every account.

Place in the walk: a request waits in a bounded queue, and one task has them answered (requests.py) in the order of arrival,
so that a long report neither holds the loop nor comes twice at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from streamd._engine import Batch, Message
    from streamd.core.bus import Binding, Watch
    from streamd.core.core import Core
    from streamd.monitor.reports import Reports
    from streamd.monitor.requests import Requests

SERVER: Final = "$SYS.REQ.SERVER."
ACCOUNT: Final = "$SYS.REQ.ACCOUNT."
USER_INFO: Final = "$SYS.REQ.USER.INFO"
#: What is asked of servers, and of accounts: the last token of the subject.
SERVER_KINDS: Final = ("IDZ", "STATSZ", "VARZ", "JSZ", "CONNZ", "HEALTHZ", "ROUTEZ", "ACCOUNTZ")
ACCOUNT_KINDS: Final = ("CONNZ", "INFO", "JSZ")
HEARTBEAT_SECONDS: Final = 10.0
#: Requests that may wait; what comes on top goes unanswered.
QUEUE_MAX: Final = 1000


class System:
    """The services of one server."""

    def __init__(self, core: Core, reports: Callable[[], Reports], server_id: str, log: logging.Logger) -> None:
        self._core = core
        self._reports = reports
        self._server_id = server_id
        self._log = log
        self._waiting = deque[tuple["Message", str]]()
        self._arrived = asyncio.Event()
        self._bound: list[Binding | Watch] = []
        self._requests: Requests | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heartbeat = f"$SYS.SERVER.{server_id}.STATSZ"

    def bind(self) -> None:
        """Listen."""
        bus, own = self._core.bus, f"{SERVER}{self._server_id}."
        subjects = [f"{SERVER}PING", *(f"{at}{kind}" for kind in SERVER_KINDS for at in (f"{SERVER}PING.", own))]
        subjects += [f"{ACCOUNT}*.{kind}" for kind in ACCOUNT_KINDS]
        self._watch = bus.watch(self._heartbeat, self._heard, account=SYSTEM_ACCOUNT)
        self._bound += [
            bus.bind([*subjects, USER_INFO], self._on_system, account=SYSTEM_ACCOUNT),
            bus.bind([USER_INFO], self._on_common),
            self._watch,
        ]

    def _on_system(self, batch: Batch) -> None:
        self._enqueue(batch, SYSTEM_ACCOUNT)

    def _on_common(self, batch: Batch) -> None:
        self._enqueue(batch, DEFAULT_ACCOUNT)

    def _enqueue(self, batch: Batch, account: str) -> None:
        for index in range(len(batch)):
            if len(self._waiting) >= QUEUE_MAX:
                self._log.warning("system requests dropped: %d wait already", QUEUE_MAX)
                return
            self._waiting.append((batch[index], account))
        self._arrived.set()

    async def serve(self) -> None:
        """Answer, until cancelled; then nobody listens any more."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived = asyncio.Event()
                while self._waiting:
                    await self._answer_next()
        finally:
            for bound in self._bound:
                bound.close()
            if self._timer is not None:
                self._timer.cancel()

    async def _answer_next(self) -> None:
        message, account = self._waiting.popleft()
        try:
            await self._answering().answer(message, account)
        except Exception as error:
            self._log.error("system request %s failed: %r", message.subject, error, exc_info=True)

    def _answering(self) -> Requests:
        if self._requests is None:
            from streamd.monitor.requests import Requests

            self._requests = Requests(self._core, self._reports(), self._heartbeat)
        return self._requests

    # heartbeats

    def _heard(self, interested: bool) -> None:
        if interested and self._timer is None:
            self._timer = self._core.loop.call_later(0, self._beat)

    def _beat(self) -> None:
        self._timer = None
        if self._watch.interested:
            self._answering().say_stats(self._heartbeat)
            self._timer = self._core.loop.call_later(HEARTBEAT_SECONDS, self._beat)
