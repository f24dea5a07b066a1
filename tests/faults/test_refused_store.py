"""A server whose store directory is not as it should be: one clear line and an exit status, or one stream less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import read
from tests.faults.wire import Wire
from tests.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def start(store: Path) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    command = [sys.executable, "-m", "streamd", "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=store.parent)


def refused(store: Path, *texts: str) -> None:
    """It ends with status 1 and a last line that says what is wrong where and what to do."""
    done = start(store)
    last = done.stderr.splitlines()[-1]

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "[FTL]" in last
    for text in (str(store), *texts):
        assert text in last


async def fill(server: ServerProcess) -> None:
    """Streams A, B and C, 300 messages each."""
    async with await Wire.connect(server.port) as wire:
        for name in "ABC":
            assert "error" not in await wire.api(f"STREAM.CREATE.{name}", name=name, subjects=[f"{name}.>"])
            for number in range(300):
                answer = await wire.request(f"{name}.x", f"{name} {number} ".encode() * 20)
                assert b'"seq"' in answer.payload


def test_directory_of_somebody_else(tmp_path: Path) -> None:
    """Its content stays as it is."""
    store = tmp_path / "store"
    (store / "jetstream").mkdir(parents=True)
    (store / "jetstream" / "thesis.tex").write_text("years of work")

    refused(store, "is not a streamd store", "thesis.tex", "choose another store_dir")
    assert os.listdir(store / "jetstream") == ["thesis.tex"]


def test_store_of_a_later_version(tmp_path: Path) -> None:
    """A downgrade is told what to run."""
    with ServerProcess(tmp_path) as server:
        assert server.stop() == 0
    (server.store / "jetstream" / "streamd.json").write_text(json.dumps({"store": "streamd", "version": 99}))

    refused(server.store, "has format 99", "run the newer streamd")


def test_store_that_is_a_file(tmp_path: Path) -> None:
    """Not even a directory."""
    (tmp_path / "store").write_text("")
    done = start(tmp_path / "store")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "store") in done.stderr.splitlines()[-1]


@pytest.mark.anyio
async def test_second_process_on_the_directory(process: ServerProcess) -> None:
    """It is told who holds it, and the first one doesn't notice."""
    await fill(process)
    refused(process.store, f"is in use by process {process.pid}", "stop it, or choose another store_dir")
    async with await Wire.connect(process.port) as wire:
        answer = await wire.request("A.x", b"more")

        assert json.loads(answer.payload) == {"stream": "A", "seq": 301}
    assert process.stop() == 0


def _half(data: Path) -> None:
    used = len(data.read_bytes().rstrip(b"\0"))  # behind it there may be room held for later
    os.truncate(data, used // 2)


def _empty(data: Path) -> None:
    os.truncate(data, 0)


def _noise(data: Path) -> None:
    data.write_bytes(os.urandom(1 << 16))


def _zero_head(data: Path) -> None:
    with data.open("r+b") as file:
        file.write(bytes(8192))


@pytest.mark.anyio
@pytest.mark.parametrize("tear", [_half, _empty, _noise, _zero_head])
async def test_torn_file(tmp_path: Path, tear: Callable[[Path], None]) -> None:
    """Never taken for a new store, never served in part."""
    with ServerProcess(tmp_path) as server:
        await fill(server)
        server.kill()
    tear(server.store / "jetstream" / "data.mdb")

    refused(server.store, "is damaged", "restore the directory from a backup")


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["page", "record"])
async def test_damage_takes_one_stream_offline(tmp_path: Path, place: str) -> None:
    """The error names the stream and the way out, the way out works, and the other streams never stop."""
    with ServerProcess(tmp_path) as server:
        await fill(server)
        assert server.stop() == 0
        path = server.store / "jetstream" / "data.mdb"
        data = bytearray(path.read_bytes())
        at = data.rindex(b"B 150 B 150")
        page = at // 4096
        while int.from_bytes(data[4096 * page : 4096 * page + 8], "little") != page:
            page -= 1  # the second one of two has no number
        data[at if place == "record" else 4096 * page + 10] ^= 4
        path.write_bytes(data)
        server.start()
        for name in "AC":
            assert len(await read(server.port, name, 1, 300)) == 300
        async with await Wire.connect(server.port) as wire:
            answer = await wire.api("STREAM.MSG.GET.B", seq=151)
            assert "message" not in answer
            for text in ("stream B", "offline", "backup", "delete"):
                assert text in answer["error"]["description"]
            answer = json.loads((await wire.request("B.x", b"")).payload)
            assert "stream B" in answer["error"]["description"]
            assert answer["error"]["err_code"] == 10077
            answer = json.loads((await wire.request("A.x", b"")).payload)
            assert answer == {"stream": "A", "seq": 301}
            assert (await wire.api("STREAM.DELETE.B"))["success"]
            assert "error" not in await wire.api("STREAM.CREATE.B", name="B", subjects=["B.>"])
            assert json.loads((await wire.request("B.x", b"")).payload) == {"stream": "B", "seq": 1}
        assert "stream B" in server.log()
        assert "Traceback" not in server.log()
        assert server.stop() == 0
        server.start()
        async with await Wire.connect(server.port) as wire:
            assert (await wire.api("STREAM.INFO.B"))["state"]["messages"] == 1
