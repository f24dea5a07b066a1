"""Late modules: a server doesn't pay for what it doesn't use, and whoever uses one finds all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamd.cli.late import LATE
from tests.cluster.authority import Authority
from tests.process import ServerProcess

LOAD_LATE = "from streamd.cli.late import load_late; load_late()"
IMPORT = "import importlib; m = importlib.import_module({name!r})"
NAMES = "print(sorted(vars(m).keys() - {'annotations'}), m.__name__, m.__file__, type(m.__loader__), type(m.__spec__.loader))"


def python(*lines: str) -> str:
    """What a program prints, in a process of its own: a module is loaded once."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def test_a_server_loads_none(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "-cid", "test-cluster", "-store", "file", "-dir", str(tmp_path / "store")) as server:
        assert server.process is not None
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libpython" in maps or "python3" in maps
    assert "libssl" not in maps
    assert "libcrypto" not in maps


@pytest.mark.parametrize("name", sorted(LATE))
def test_one_is_whole_once_it_is_used(name: str) -> None:
    imported = IMPORT.format(name=name)
    wanted = python(imported, NAMES)
    use = "hasattr(m, 'any_name')"
    assert python(LOAD_LATE, imported, "print(type(m).__name__)", use, NAMES) == f"_Late\n{wanted}"


def test_what_is_missing_is_told_as_ever() -> None:
    ask = "try: m.nothing\nexcept AttributeError as error: print(error)"
    imported = IMPORT.format(name="ssl")
    assert python(LOAD_LATE, imported, ask) == python(imported, ask)


def test_threads_that_use_one_first_find_the_same() -> None:
    """Of 8 that start together, each sees the module whole."""
    assert (
        python(
            LOAD_LATE,
            "import ssl, threading",
            "barrier, found = threading.Barrier(8), []",
            "def use():",
            "    barrier.wait(); found.append((ssl.SSLContext, ssl.TLSVersion, ssl.create_default_context))",
            "threads = [threading.Thread(target=use) for _ in range(8)]",
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]",
            "print(len(found), len(set(found)))",
        )
        == "8 1\n"
    )


def test_one_that_cannot_be_loaded_says_so_each_time(tmp_path: Path) -> None:
    (tmp_path / "hmac.py").write_text("raise RuntimeError('broken')")
    ask = "try: hmac.new\nexcept RuntimeError as error: print(error)"
    assert (
        python("import sys", f"sys.path.insert(0, {str(tmp_path)!r})", LOAD_LATE, "import hmac", ask, ask)
        == "broken\n" * 2
    )


def test_asyncio_speaks_tls_all_the_same(tmp_path: Path) -> None:
    paths = Authority(tmp_path, "ours").settings("server", "localhost")
    assert (
        python(
            LOAD_LATE,
            "import asyncio, ssl",
            "async def main():",
            "    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)",
            f"    ours.load_cert_chain({paths['cert_file']!r}, {paths['key_file']!r})",
            f"    theirs = ssl.create_default_context(cafile={paths['ca_file']!r})",
            "    async def say(_, writer):",
            "        writer.write(b'sealed'); writer.close(); await writer.wait_closed()",
            "    server = await asyncio.start_server(say, '127.0.0.1', 0, ssl=ours)",
            "    port = server.sockets[0].getsockname()[1]",
            "    reader, writer = await asyncio.open_connection('127.0.0.1', port, ssl=theirs, server_hostname='localhost')",
            "    print((await reader.read()).decode(), writer.get_extra_info('peercert')['subjectAltName'][0][1])",
            "    writer.close(); server.close()",
            "asyncio.run(main())",
        )
        == "sealed localhost\n"
    )


def test_plugins_of_pydantic_are_not_looked_for() -> None:
    """What stands in for pydantic's own loader of them has its name, and nothing installed is looked through."""
    name = "pydantic.plugin._loader"
    assert python(f"from {name} import get_plugins; print(list(get_plugins()))") == "[]\n"
    model = "import pydantic, sys; pydantic.create_model('M', a=(int, 1))()"
    looked = "print('importlib.metadata' in sys.modules)"
    assert python(model, looked) == "True\n"
    assert python(LOAD_LATE, model, looked) == "False\n"
