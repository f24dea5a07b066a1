"""Answers of the system account's services, by kind of request.

Place in the walk: system.py takes requests as they arrive, and has this file loaded with the first of them: what reports look
like is of no use to a server that nobody asks. Source: nats-server 2.15.2; who doesn't fit a request's filter is silent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from streamd.api.system import ConnzRequest, HealthzRequest, JszRequest, ServerFilter, UserInfo
from streamd.api.wire import Wire, decode_plain, encode
from streamd.config.models import SYSTEM_ACCOUNT
from streamd.monitor.system import ACCOUNT, USER_INFO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamd._engine import Message
    from streamd.api.system import ServerInfo
    from streamd.core.core import Core
    from streamd.monitor.reports import Reports

Data = Wire | dict[str, Any]


class Service(NamedTuple):
    """One kind of request. Shapes: `answer` takes the options (and the account, for one about accounts); None stays
    silent. Errors: LookupError becomes a 500."""

    options: type[ServerFilter]
    answer: Callable[..., Awaitable[Data | None]]


class Requests:
    """Answers those of one server."""

    def __init__(self, core: Core, reports: Reports, heartbeat: str) -> None:
        """`heartbeat`: where statistics go that nobody asked to be sent elsewhere."""
        self._core = core
        self._reports = reports
        self._heartbeat = heartbeat
        self._said = 0
        self._server = {
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

    async def answer(self, message: Message, account: str) -> None:
        """Answer one request, which came by way of an account."""
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
                self.say_stats(message.reply or self._heartbeat)
        elif message.reply:
            service = self._server[kind]
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

    def say_stats(self, subject: str) -> None:
        """Publish the server's counters."""
        self._say(subject, self._envelope(statsz=self._reports.statsz()))

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
