"""Stores that a real nats-streaming-server 0.25.6 wrote, kept with what was known about them.

`python -m tests.stan.kept` writes them anew; that needs Go for the server.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer_stan import build
from streamd.stan.importer import raft
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.slices import Extent
from tests.stan.scenario import STREAMING, Facts, play, until
from tests.stan.stan_peer import Peer

GOLDEN = Path(__file__).parent / "golden"
KEY = "a key of the operator"
CLUSTER = 'cluster { node_id: "a", bootstrap: true, log_path: "raft", trailing_logs: 1 }'


def sealed(cipher: str) -> str:
    """The settings of an encrypted store."""
    return f'encrypt: true, encryption_cipher: "{cipher}", encryption_key: "{KEY}"'


SETTINGS = {"standalone": "", "sealed": sealed("CHACHA"), "clustered": CLUSTER}


@dataclass(frozen=True)
class Kept:
    """One store and what is known about it."""

    home: Path
    facts: dict[str, Any]

    @property
    def store(self) -> Path:
        """Its directory."""
        return self.home / "store"

    @property
    def raft(self) -> Path:
        """Its log_path, if it is of a cluster."""
        return self.home / "raft"


def unpack(name: str, home: Path) -> Kept:
    """A kept store as files of its own."""
    with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
        archive.extractall(home, filter="data")
    return Kept(home, json.loads((home / "facts.json").read_text()))


def written(program: Path, home: Path, settings: str) -> Kept:
    """A store that the real server writes now and has stopped on."""
    with Peer(program, home, f"{STREAMING}\n{settings}") as peer:
        facts: Facts = play(peer)
        if (home / "raft").exists():
            last = {name: told["last_seq"] for name, told in facts["channels"].items()}
            until(lambda: in_raft_log(home, last, facts["pending"]))
    return Kept(home, facts)


def in_raft_log(home: Path, last: dict[str, int], pending: dict[str, list[int]]) -> bool:
    """Whether a running member has written down what was sent and acked, which it does once a second.

    `last` has the channels and their last sequences, `pending` what is not acked by ack inbox.
    """
    extents = {name: Extent(1, sequence, sequence, 0) for name, sequence in last.items()}
    try:
        found = raft.read(home / "raft" / "test", extents, KEY, print)
    except ImportRefused:
        return False  # read in the middle of a write
    written_down = {one.ack_inbox: list(one.pending) for name in last for one in found.subscriptions(name)}
    return all(written_down.get(inbox) == sequences for inbox, sequences in pending.items())


def main() -> None:
    """Write all of them."""
    GOLDEN.mkdir(exist_ok=True)
    for name, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as made:
            home = Path(made)
            kept = written(build(), home, settings)
            (home / "facts.json").write_text(json.dumps(kept.facts))
            with tarfile.open(GOLDEN / f"{name}.tar.xz", "w:xz") as archive:
                for part in ("facts.json", "store", "raft"):
                    if (home / part).exists():
                        archive.add(home / part, part, filter=_nobody)


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
