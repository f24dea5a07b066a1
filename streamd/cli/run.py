"""One server process: its log, its signals, and an end without a traceback.

The story is `run`: take signals, read the configuration, open the log, then serve until someone says stop.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Final

from streamd.cli.late import load_late
from streamd.cli.main import fail
from streamd.cli.signals import STOP, Signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.cli.logging import Log
    from streamd.config.models import Config


#: A server makes few cycles and many objects that live for a batch: with Python's thresholds a twentieth of its time goes into
#: looking at those.
GC_THRESHOLDS: Final = (20_000, 20, 20)


def run(read: Callable[[], Config], *, stores: bool = False) -> int:
    """Serves until stopped. Returns the exit status: 0 after a stop, 1 if the server couldn't run.

    `read`: makes the configuration, in a process of its own. Errors: ConfigError. `stores`: JetStream is likely to be on.
    """
    signals = Signals()
    # Until the server is ready almost nothing becomes garbage, and looking for it is another tenth of the start.
    gc.disable()
    try:
        return _run(read, signals, stores=stores)
    finally:
        gc.enable()


def _run(read: Callable[[], Config], signals: Signals, *, stores: bool) -> int:
    load_late()
    # What both sides of `apart` need is loaded before they part.
    import streamd.config.models  # noqa: F401
    from streamd.cli.apart import apart
    from streamd.cli.logging import FATAL, Log
    from streamd.config.errors import ConfigError

    try:
        config = with_store(apart(read, _get_ready_to_store if stores else _get_ready))
    except ConfigError as error:
        return fail(str(error))
    try:
        log = Log(
            config.log_file, debug=config.debug, trace=config.trace,
            stan_debug=config.streaming is not None and config.streaming.stan_debug,
            logtime=config.logtime, utc=config.logtime_utc,
        )  # fmt: skip
    except OSError as error:
        return fail(f"error opening file: {explain(error)}")
    try:
        return _serve(config, log, signals)
    except Exception as error:
        if (text := _for_people(error)) is None:
            log.logger.critical("streamd failed, please report this", exc_info=True)
        else:
            log.logger.log(FATAL, "%s", text)
        return 1
    finally:
        log.close()


def _get_ready() -> None:
    """Imports what every server needs."""
    import streamd.cli.loop
    import streamd.server  # noqa: F401


def _get_ready_to_store() -> None:
    _get_ready()
    import streamd.streams.jetstream  # noqa: F401


def with_store(config: Config) -> Config:
    """A store directory that stays where none was named, as nats-server takes one under the system's temporary files."""
    jetstream = config.jetstream
    if jetstream is None or jetstream.store_dir is not None:
        return config
    import tempfile

    jetstream = jetstream.model_copy(update={"store_dir": os.path.join(tempfile.gettempdir(), "streamd")})
    return config.model_copy(update={"jetstream": jetstream})


def _serve(config: Config, log: Log, signals: Signals) -> int:
    import asyncio

    from streamd.cli.loop import new_event_loop
    from streamd.cli.memory import keep_freed_memory
    from streamd.server import Server

    async def serve() -> None:
        server = Server(config, logger=log.logger)
        stopping = False

        def act(number: int) -> None:
            nonlocal stopping
            if number in STOP:
                stopping = True
                server.stop()
            else:
                _act(number, log)

        signals.attach(asyncio.get_running_loop(), act)
        try:
            async with server:
                # Not before: what only the start needs goes back to the system.
                keep_freed_memory()
                gc.freeze()
                gc.set_threshold(*GC_THRESHOLDS)
                gc.enable()
                if stopping:
                    # The stop came while the server started, when there was nothing to stop.
                    server.stop()
                await server.wait_stopped()
        finally:
            signals.detach()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
    return 0


def _act(number: int, log: Log) -> None:
    import signal

    if number == signal.SIGUSR1:
        log.reopen()
    elif number == signal.SIGHUP:
        log.logger.error("Failed to reload server configuration: not supported yet")
    elif number == signal.SIGUSR2:
        log.logger.error("Lame duck mode is not supported yet")


def _for_people(error: Exception) -> str | None:
    """What went wrong in a line, for errors a person can act on; None for those that are our mistakes."""
    from streamd.config.errors import ConfigError
    from streamd.errors import StreamdError

    if isinstance(error, ExceptionGroup):
        # A task group wraps what its tasks raise; people need the cause, all of it if there are several.
        texts = [_for_people(one) for one in error.exceptions]
        return None if None in texts else "; ".join(text for text in texts if text is not None)
    if isinstance(error, OSError):
        return explain(error)
    return str(error) if isinstance(error, ConfigError | StreamdError) else None


def explain(error: OSError) -> str:
    """An operating system's refusal without Python's brackets."""
    if error.errno is None:
        return str(error)
    reason = (error.strerror or os.strerror(error.errno)).lower()
    return f"{os.fspath(error.filename)!s}: {reason}" if error.filename is not None else reason
