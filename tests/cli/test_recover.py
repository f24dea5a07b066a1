"""`streamd recover` and the servers that are still there."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from benchmarks.ports import free_port
from streamd.cli.recover import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_cluster_that_may_live_is_not_recovered_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One server behind the routes listens, the other two aren't there; reports and --force don't ask."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        routes = f'"nats://127.0.0.1:{port}", "nats://u:p@127.0.0.1:{free_port()}", "nats://no.such.host.invalid:6222"'
        file = tmp_path / "a.conf"
        file.write_text(
            f'server_name: a\njetstream {{ store_dir: "{tmp_path}/store" }}\n'
            f"cluster {{ name: C, listen: 127.0.0.1:{free_port()}, routes: [{routes}] }}\n"
        )
        assert run(["-c", str(file), "--apply"]) == 1
        assert f"others run: nats-route://127.0.0.1:{port}/. If a quorum" in capsys.readouterr().err
        for words in (["--apply", "--force"], []):
            assert run(["-c", str(file), *words]) == 1
            assert "there is no store in" in capsys.readouterr().err
    assert run(["-c", str(file), "--apply"]) == 1
    assert "there is no store in" in capsys.readouterr().err
