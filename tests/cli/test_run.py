"""One server process from outside: log lines, signals, errors for people. The server itself is a stand-in."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Stands for streamd.server: waits for stop, or fails as the configuration's name asks for.
STAND_IN = textwrap.dedent("""
    import asyncio, errno, sys, types
    from streamd import startup

    class Server:
        def __init__(self, config, *, logger=None):
            self.config, self.logger, self.done = config, logger, asyncio.Event()

        async def __aenter__(self):
            if self.config.server_name == "taken":
                raise OSError(errno.EADDRINUSE, "Address already in use")
            if self.config.server_name == "group":
                raise ExceptionGroup("tasks", [PermissionError(errno.EACCES, "Permission denied", "/x")])
            if self.config.server_name == "bug":
                raise KeyError("surprise")
            startup.log_starting(self.logger, self.config, server_id="ID", server_name="NAME")
            startup.log_ready(self.logger)
            return self

        async def __aexit__(self, *exc):
            self.logger.info("Server Exiting..")

        async def wait_stopped(self):
            await self.done.wait()

        def stop(self):
            self.done.set()

    module = types.ModuleType("streamd.server")
    module.Server = Server
    sys.modules["streamd.server"] = module
    from streamd.cli.main import main
    sys.exit(main())
""")

LINE = re.compile(r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|WRN|ERR|FTL)\] .*")


def command(*flags: str) -> list[str]:
    return [sys.executable, "-c", STAND_IN, *flags]


@contextmanager
def running(*flags: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command(*flags), stderr=subprocess.PIPE, text=True) as process:
        watch = threading.Timer(20, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was not logged: {seen}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_is_clean(number: signal.Signals) -> None:
    with running("-p", "-1") as process:
        started = read_until(process, "Server is ready")
        process.send_signal(number)
        _, rest = process.communicate()

    assert process.returncode == 0
    assert all(LINE.fullmatch(line) for line in (started + rest).splitlines())
    assert "Server Exiting.." in rest


def test_other_signals_do_not_kill() -> None:
    with running() as process:
        read_until(process, "Server is ready")
        process.send_signal(signal.SIGHUP)
        read_until(process, "[ERR] Failed to reload server configuration: not supported yet")
        process.send_signal(signal.SIGUSR2)
        read_until(process, "[ERR] Lame duck mode is not supported yet")
        process.send_signal(signal.SIGUSR1)
        read_until(process, "File log re-open ignored")
        process.send_signal(signal.SIGTERM)
        process.communicate()

    assert process.returncode == 0


def test_log_file_is_reopened_after_it_was_moved(tmp_path: Path) -> None:
    log, moved = tmp_path / "a.log", tmp_path / "b.log"
    with running("-l", str(log)) as process:
        _wait_for(log, "Server is ready")
        log.rename(moved)
        process.send_signal(signal.SIGUSR1)
        _wait_for(log, "File log re-opened")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()

    assert (process.returncode, err) == (0, "")
    assert "Server Exiting.." in log.read_text()
    assert "Server Exiting.." not in moved.read_text()


def _wait_for(path: Path, text: str) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if path.exists() and text in path.read_text():
            return
        pause.wait(0.01)
    raise AssertionError(f"{text!r} never came")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("-n", "taken"), "[FTL] address already in use"),
        (("-n", "group"), "[FTL] /x: permission denied"),
        (("-l", "/nowhere/x.log"), "streamd: error opening file: /nowhere/x.log: no such file or directory"),
        (("-c", "/nowhere/x.conf"), "streamd: open /nowhere/x.conf: no such file or directory"),
        (("-p", "99999"), "streamd: port: input should be less than or equal to 65535"),
    ],
)
def test_error_for_people_is_one_line(flags: tuple[str, ...], text: str) -> None:
    done = subprocess.run(command(*flags), capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.rstrip().endswith(text)


def test_our_own_mistake_keeps_its_traceback() -> None:
    done = subprocess.run(command("-n", "bug"), capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 1
    assert "[FTL] streamd failed" in done.stderr
    assert "KeyError: 'surprise'" in done.stderr


def test_log_without_time() -> None:
    with running("-T=false") as process:
        first = read_until(process, "Starting streamd")
        process.send_signal(signal.SIGTERM)
        process.communicate()

    assert f"[{process.pid}] [INF] Starting streamd\n" == first
