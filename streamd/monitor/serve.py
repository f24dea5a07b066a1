"""Serves the monitoring application with uvicorn, inside the server's own loop.

uvicorn gets no say over signals, logs or the process. It is imported only where monitoring is on.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

import anyio
import uvicorn

from streamd.monitor.app import MonitorApp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import TaskStatus

    from streamd.monitor.app import Statistics
    from streamd.stan.views import StreamingStatistics

_BACKLOG: Final = 128
_KEEP_ALIVE_S: Final = 5
_SHUTDOWN_S: Final = 1
_DATE_S: Final = 1  # how old the date in a header may be


class MonitorServer:
    """One HTTP listener: `bind`, then `serve` in a task, then `stop`.

    Shapes:  port -1 takes a free port; `port` holds the real one after `bind`. Without `streaming` there is no /streaming.
    Errors:  OSError from `bind`, naming the address.
    """

    def __init__(
        self, statistics: Statistics, host: str, port: int, streaming: StreamingStatistics | None = None
    ) -> None:
        self.host = host
        self.port = port
        self._socket: socket.socket | None = None
        config = uvicorn.Config(
            MonitorApp(statistics, streaming), interface="asgi3", lifespan="off", ws="none", loop="asyncio",
            log_config=None, access_log=False, server_header=False, proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_SHUTDOWN_S,
        )  # fmt: skip
        self._server = _Uvicorn(config)
        self.started = self._server.answers  # set once requests are answered, or never will be

    def bind(self) -> None:
        """Takes the port, before anything else may depend on it."""
        bound = None
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, max(self.port, 0), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind, protocol)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)
            bound.setblocking(False)
        except OSError as error:
            if bound is not None:
                bound.close()
            reason = (error.strerror or str(error)).lower()
            text = f"can't listen to the monitor port {self.host}:{self.port}: {reason}"
            raise OSError(error.errno, text) from error
        self._socket = bound
        self.port = bound.getsockname()[1]

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answers until `stop` or a cancellation; no socket is left open."""
        assert self._socket is not None, "bind comes first"
        self._server.started_status = task_status
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._server.release()
            self.started.set()
            self._socket.close()

    def stop(self) -> None:
        """Ends `serve` within a second or so; open requests may finish."""
        self._server.end()
        if self._socket is not None and not self._server.started:
            self._socket.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server as a guest: it leaves signals alone and tells when it has started."""

    started_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = anyio.Event()
        self._ended = anyio.Event()

    def end(self) -> None:
        """Answer what has come, and nothing more."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        # The base class looks ten times a second whether it is to end, which is a fourth of what an idle server does.
        while not await self.on_tick(0):
            with anyio.move_on_after(_DATE_S):
                await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_status.started()
        self.answers.set()

    def release(self) -> None:
        """Closes what a cancelled shutdown would leave open."""
        for server in getattr(self, "servers", []):
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
