"""The configuration grammar: nats-server reads the same rows in the same way."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from streamd.config.digest import digest
from streamd.config.errors import ConfigError
from streamd.config.parse import parse_text
from tests.config.test_grammar import ENVIRON, INVALID, VALID

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


def _peer(program: Path, path: Path) -> tuple[bool, str]:
    """Whether nats-server could parse the file, and its digest if it took it altogether."""
    done = subprocess.run(
        [str(program), "-c", str(path), "-t"], capture_output=True, text=True, check=False, env=ENVIRON
    )
    parsed = not any(sign in done.stderr for sign in ("Parse error", "is invalid", "not be found", "out of the range"))
    return parsed, done.stderr.rsplit("(", 1)[-1].strip(")\n") if done.returncode == 0 else ""


@pytest.mark.parametrize("text", [
    *(text for text, _ in VALID if not text.startswith(";") and "[1" not in text),
    *(text for text, _, _ in INVALID if "LOOP" not in text and "BROKEN" not in text and "include" not in text
      and "13-02" not in text and not text.startswith(",") and "\n," not in text),
    "port: -1", "port: 1kb", "server_name: 'a\"b'", "server_name: a\\x41", "server_name: \"\\xff\"",
    "ping_interval: 1h",
    "server_tags: [a, 'b'\n c]", "server_metadata {a: b, \"c\": 'd' # e\n}", "authorization {timeout: 1.5}",
])  # fmt: skip
def test_nats_server_agrees(programs: Path, tmp_path: Path, text: str) -> None:
    """The same verdict on the syntax, and the same digest where nats-server takes the file.

    Left out: arrays of numbers (its lexer trips over `1]`), and what it reads as a key that begins
    with a comma.
    """
    path = tmp_path / "x.conf"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        mine = digest(parse_text(text, file=str(path), environ=ENVIRON))
    except ConfigError:
        mine = ""

    parsed, theirs = _peer(programs / "nats-server", path)

    assert parsed == bool(mine)
    assert theirs in ("", mine)
