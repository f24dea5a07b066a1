"""The system account's services: `$SYS.REQ.SERVER`, `$SYS.REQ.ACCOUNT`, and `$SYS.REQ.USER.INFO` for every account.

Place in the walk: a request waits in a bounded queue, and one task answers in the order of arrival, so that a long report
neither holds the loop nor comes twice at once. Source: nats-server 2.15.2; who doesn't fit a request's filter is silent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamd.api.system import ConnzRequest, HealthzRequest, JszRequest, ServerFilter, UserInfo
from streamd.api.wire import Wire, decode_plain, encode
from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable

    from streamd._engine import Batch, Message
    from streamd.api.system import ServerInfo
    from streamd.core.bus import Binding, Watch
    from streamd.core.core import Core
    from streamd.monitor.reports import Reports

SERVER: Final = "$SYS.REQ.SERVER."
ACCOUNT: Final = "$SYS.REQ.ACCOUNT."
USER_INFO: Final = "$SYS.REQ.USER.INFO"
HEARTBEAT_SECONDS: Final = 10.0
#: Requests that may wait; what comes on top goes unanswered.
QUEUE_MAX: Final = 1000

Data = Wire | dict[str, Any]


class Service(NamedTuple):
    """One kind of request. Shapes: `answer` takes the options (and the account, for one about accounts); None stays
    silent. Errors: LookupError becomes a 500."""

    options: type[ServerFilter]
    answer: Callable[..., Awaitable[Data | None]]


class System:
    """The services of one server."""

    def __init__(self, core: Core, reports: Reports, server_id: str, log: logging.Logger) -> None:
        self._core = core
        self._reports = reports
        self._server_id = server_id
        self._log = log
        self._waiting = deque[tuple["Message", str]]()
        self._arrived = asyncio.Event()
        self._bound: list[Binding | Watch] = []
        self._said = 0
        self._timer: asyncio.TimerHandle | None = None
        self._heartbeat = f"$SYS.SERVER.{server_id}.STATSZ"
        #: By the last token of the subject; rooms that know more put theirs here before `bind`.
        self.services: dict[str, Service] = {
            "VARZ": Service(ServerFilter, self._varz),
            "JSZ": Service(JszRequest, reports.jsz),
            "CONNZ": Service(ConnzRequest, reports.connz),
            "HEALTHZ": Service(HealthzRequest, self._healthz),
            "ROUTEZ": Service(ServerFilter, self._routez),
            "ACCOUNTZ": Service(ServerFilter, self._accountz),
        }
        self._accounts = {
            "CONNZ": Service(ConnzRequest, self._account_connz),
            "INFO": Service(ServerFilter, self._account_info),
            "JSZ": Service(JszRequest, self._account_jsz),
        }

    def bind(self) -> None:
        """Listen."""
        bus, own = self._core.bus, f"{SERVER}{self._server_id}."
        kinds = ("IDZ", "STATSZ", *self.services)
        subjects = [f"{SERVER}PING", *(f"{at}{kind}" for kind in kinds for at in (f"{SERVER}PING.", own))]
        subjects += [f"{ACCOUNT}*.{kind}" for kind in self._accounts]
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
            await self._answer(message, account)
        except Exception as error:
            self._log.error("system request %s failed: %r", message.subject, error, exc_info=True)

    # one request

    async def _answer(self, message: Message, account: str) -> None:
        subject = message.subject
        kind = subject.rsplit(".", 1)[1]
        if subject == USER_INFO:
            self._user_info(message, account)
        elif subject.startswith(ACCOUNT):
            await self._account(message, subject.split(".")[3], kind)
        elif kind == "IDZ":
            info = self._reports.server_info()
            self._say(message.reply, {"name": info.name, "host": info.host, "id": info.id})
        elif kind in ("PING", "STATSZ"):
            options = self._options(message, ServerFilter, message.reply or self._heartbeat)
            if options is not None:
                self._say_stats(message.reply or self._heartbeat)
        elif message.reply:
            service = self.services[kind]
            options = self._options(message, service.options, message.reply)
            if options is not None:
                await self._say_data(message.reply, service.answer(options))

    def _options(self, message: Message, model: type[ServerFilter], reply: str) -> ServerFilter | None:
        """The options of a request; None if it is for other servers, or can't be read: that is answered here."""
        try:
            options = decode_plain(model, message.payload, strict=False) if message.payload else model()
        except ValueError as error:
            self._say(reply, self._envelope(error={"code": 400, "description": str(error)}))
            return None
        return options if options.fits(self._reports.server_info()) else None

    async def _account(self, message: Message, account: str, kind: str) -> None:
        service = self._accounts[kind]
        options = self._options(message, service.options, message.reply)
        if options is not None and message.reply:
            await self._say_data(message.reply, service.answer(options, account))

    def _user_info(self, message: Message, account: str) -> None:
        # A client of another server is asking that server as well, which knows who it is.
        connection = self._core.connections.get(message.conn)
        if connection is not None and message.reply:
            user = UserInfo(user=connection.login.user, account=account, account_name=account)
            self._say(message.reply, self._envelope(data=user.wire()), account)

    async def _say_data(self, reply: str, answer: Awaitable[Data | None]) -> None:
        try:
            data = await answer
        except LookupError as error:
            self._say(reply, self._envelope(error={"code": 500, "description": str(error.args[0])}))
            return
        if data is not None:
            # A long report takes a while to print, and nothing of it belongs to the loop any more.
            server = self._sender()
            payload = await asyncio.to_thread(_print, server, data)
            self._core.bus.publish(reply, payload, account=SYSTEM_ACCOUNT)

    def _envelope(self, **content: Any) -> dict[str, Any]:
        return {"server": self._sender().wire(), **content}

    def _sender(self) -> ServerInfo:
        self._said += 1
        return self._reports.server_info().model_copy(update={"seq": self._said})

    def _say(self, reply: str, answer: dict[str, Any], account: str = SYSTEM_ACCOUNT) -> None:
        if reply:
            self._core.bus.publish(reply, encode(answer), account=account)

    def _say_stats(self, subject: str) -> None:
        self._say(subject, self._envelope(statsz=self._reports.statsz()))

    # heartbeats

    def _heard(self, interested: bool) -> None:
        if interested and self._timer is None:
            self._timer = self._core.loop.call_later(0, self._beat)

    def _beat(self) -> None:
        self._timer = None
        if self._watch.interested:
            self._say_stats(self._heartbeat)
            self._timer = self._core.loop.call_later(HEARTBEAT_SECONDS, self._beat)

    # the kinds

    async def _varz(self, _options: ServerFilter) -> Data:
        return dict(self._reports.varz())

    async def _healthz(self, options: HealthzRequest) -> Data:
        return self._reports.healthz(options)

    async def _routez(self, _options: ServerFilter) -> Data:
        return self._reports.routez()

    async def _accountz(self, _options: ServerFilter) -> Data:
        return self._reports.accountz()

    async def _account_connz(self, options: ConnzRequest, account: str) -> Data:
        return await self._reports.connz(options.model_copy(update={"acc": account}))

    async def _account_info(self, _options: ServerFilter, account: str) -> Data:
        return self._reports.account_info(account)

    async def _account_jsz(self, options: JszRequest, account: str) -> Data:
        return await self._reports.account_jsz(account, options)


def _print(server: ServerInfo, data: Data) -> bytes:
    return encode({"server": server.wire(), "data": data.wire() if isinstance(data, Wire) else data})
