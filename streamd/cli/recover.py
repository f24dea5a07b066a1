"""`streamd recover`: a quorum of the cluster is gone for good, and this store is what is left.

Without --apply it only reports, so that the reports of several survivors can be compared.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from streamd.errors import StreamdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd.streams.replication.survivor import Found

ADVICE: Final = (
    "Run this on every store that is left, and recover from the one whose groups end with the highest term, and in that term "
    "at the highest entry. The entries of a group are the same in all stores up to the lowest of their committed entries."
)
LOSS: Final = (
    "What may be lost: whatever servers that are gone had acked behind the last entry shown here. A message that was acked is "
    "on a quorum of its group's voters, so it is here, or on at least one of any other {rest} of {voters}; if you have those, "
    "compare first. Entries behind the committed one may have been answered with an error or not at all; they will count."
)
ALIVE: Final = (
    "others run: {others}. If a quorum of them lives, the cluster does: start this server instead, and it catches up. If not, "
    "stop them first, or say --force; what they have then is no part of the cluster any more, and they end when they hear of it"
)


def run(arguments: Sequence[str]) -> int:
    """The words behind `recover`. Returns the exit status."""
    try:
        status = _recover.main(list(arguments), prog_name="streamd recover", standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message())
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


@click.command("recover")
@click.option("-c", "--config", "config_file", help="Configuration file of the stopped server.")
@click.option("--store-dir", type=click.Path(path_type=Path), help="Or its store directory.")
@click.option("--apply", is_flag=True, help="Make this store the only member of its cluster.")
@click.option("--force", is_flag=True, help="Though others of the configuration's routes run.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def _recover(*, config_file: str | None, store_dir: Path | None, apply: bool, force: bool, as_json: bool) -> int:
    """Go on with what one server has, when a quorum of the cluster is gone for good."""
    from streamd.config.errors import ConfigError
    from streamd.streams.replication.survivor import Survivor

    if (config_file is None) == (store_dir is None):
        return _fail("name the stopped server by its configuration file (-c FILE) or its store (--store-dir DIR)")
    try:
        if apply and not force and config_file is not None and (others := _running(config_file)):
            return _fail(ALIVE.format(others=", ".join(others)))
        directory = _directory(config_file) if store_dir is None else store_dir
        if (directory / "jetstream").is_dir():
            directory /= "jetstream"
        with Survivor(directory) as survivor:
            found = survivor.found()
            click.echo(json.dumps(asdict(found), indent=2) if as_json else text(found), nl=as_json)
            if apply:
                node = survivor.apply()
                click.echo(_done(found, node), err=as_json)
            elif not as_json:
                click.echo("nothing was changed: --apply makes this server the only member of its cluster")
    except (StreamdError, ConfigError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}")
    return 0


def _running(config_file: str) -> list[str]:
    """Routes of the configuration behind which a server listens. Errors: ConfigError."""
    from streamd.cluster.dial import Target
    from streamd.config.load import load_file

    cluster = load_file(config_file, {}).cluster
    found = []
    for url in () if cluster is None else cluster.routes:
        target = Target.of(url, "", "")
        # A host that isn't there any more is what this command is for.
        with contextlib.suppress(OSError, UnicodeError), socket.create_connection((target.host, target.port), 1):
            found.append(target.url)
    return found


def _directory(config_file: str | None) -> Path:
    """The store directory of a configuration. Errors: ConfigError."""
    from streamd.cli.run import with_store
    from streamd.config.load import load_file

    config = with_store(load_file(config_file, {}))
    if config.jetstream is None or config.jetstream.store_dir is None:
        raise click.UsageError(f"{config_file} has no store")
    return Path(config.jetstream.store_dir) / "jetstream"


def text(found: Found) -> str:
    """The report, for people."""
    lines = [f"store {found.directory} of node {found.node}", "", "groups:"]
    for group in found.groups:
        members = ", ".join([*group.voters, *(f"{node} (learner)" for node in group.learners)])
        lines.append(f"  {group.name}")
        lines.append(f"    voters           {members}")
        lines.append(f"    last entry       {group.last_index} of term {group.last_term} (current term {group.term})")
        lines.append(f"    known committed  {group.committed}, applied {group.applied}")
        if found.node not in group.voters and not found.alone:
            lines.append("    this server doesn't vote in it: what it has may be far behind")
    lines += ["", "streams:"]
    for stream in found.streams:
        where = f"group {stream.group}" if stream.group else "only here"
        problem = f"; {stream.problem}" if stream.problem else ""
        lines.append(f"  {stream.name}: last sequence {stream.last_seq}, {stream.messages} messages, {where}{problem}")
    for name in found.elsewhere:
        lines.append(f"  {name}: nothing of it is here")
    voters = max((len(group.voters) for group in found.groups), default=1)
    lines += ["", LOSS.format(rest=voters // 2 + 1, voters=voters), ADVICE, ""]
    return "\n".join(lines) + "\n"


def _done(found: Found, node: str | None) -> str:
    if node is None:
        return f"nothing to do: {found.node} is the only member already"
    others = ", ".join(found.servers)
    return (
        f"done: this server is {node} now, and all that there is of the cluster. Start it; then start {others} with empty "
        f"stores, and they join it and vote once they have caught up. Their old stores are no part of the cluster any more."
    )


def _fail(problem: str) -> int:
    for line in problem.splitlines():
        print(f"streamd: {line}", file=sys.stderr)  # noqa: T201
    return 1
