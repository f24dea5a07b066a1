"""`streamd import stan DIR`: what a stopped nats-streaming-server left, first reported, then taken over.

Without --apply nothing is written anywhere; DIR is never written to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamd.config.scalars import duration_ns
from streamd.errors import StreamdError
from streamd.stan.importer.in_use import refuse_if_changed, state_of
from streamd.stan.importer.records import IEEE
from streamd.stan.importer.report import report, text
from streamd.stan.importer.slices import Limits
from streamd.stan.importer.store import Options, read

if TYPE_CHECKING:
    from collections.abc import Sequence


def _nanoseconds(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """A duration as Go writes it."""
    try:
        return duration_ns(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def run(arguments: Sequence[str]) -> int:
    """The words behind `import`. Returns the exit status."""
    try:
        status = _import.main(list(arguments), prog_name="streamd import", standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message())
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


@click.group("import")
def _import() -> None:
    """Take over what another server stored."""


@_import.command("stan")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only report what would be imported. This is the default.")
@click.option("--apply", is_flag=True, help="Import into --store-dir.")
@click.option("--store-dir", type=click.Path(path_type=Path), help="Store directory of the stopped streamd.")
@click.option("--cluster-id", help="Cluster id to import under (default: that of the store).")
@click.option(
    "--raft-dir", type=click.Path(path_type=Path), help="log_path of a clustered server (default: where it usually is)."
)
@click.option(
    "--encryption-key",
    envvar="NATS_STREAMING_ENCRYPTION_KEY",
    help="Key of an encrypted store, and of the one it is imported into; empty: it is not encrypted, whatever it looks like.",
)
@click.option("--crc-poly", type=int, default=IEEE, help="crc_poly of its file_options, if it had another.")
@click.option(
    "--max-msgs", type=click.IntRange(0), default=0, help="Limit it had per channel: leave out what is beyond."
)
@click.option("--max-bytes", type=click.IntRange(0), default=0, help="The same for bytes.")
@click.option("--max-age", callback=_nanoseconds, default="0", help="The same for age, such as 24h.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def _stan(
    *,
    directory: Path,
    dry_run: bool,
    apply: bool,
    store_dir: Path | None,
    cluster_id: str | None,
    raft_dir: Path | None,
    encryption_key: str | None,
    crc_poly: int,
    max_msgs: int,
    max_bytes: int,
    max_age: int,
    as_json: bool,
) -> int:
    """Import the file store of a stopped nats-streaming-server."""
    if apply and dry_run:
        return _fail("--dry-run and --apply exclude each other")
    if apply and store_dir is None:
        return _fail("--apply needs --store-dir: the store directory of the streamd that takes over")
    if store_dir is not None and store_dir.resolve().is_relative_to(directory.resolve()):
        return _fail(f"--store-dir {store_dir} lies in {directory}, where nothing is written: name another directory")
    limits = Limits(max_msgs, max_bytes, max_age)
    options = Options(encryption_key, raft_dir, crc_poly, lambda channel: limits)
    try:
        before = state_of(directory)
        store = read(directory, options)
        found = report(store)
        refuse_if_changed(directory, before)
        click.echo(json.dumps(found, indent=2) if as_json else text(found), nl=as_json)
        if apply:
            assert store_dir is not None
            # The server's rooms are for whoever imports, not for a report.
            from streamd.stan.importer.write import write

            lines = write(
                store, store_dir=store_dir, cluster_id=cluster_id or store.cluster_id, encryption_key=encryption_key
            )
            for line in lines:
                click.echo(line, err=as_json)
            refuse_if_changed(directory, before)
        elif not as_json:
            click.echo("nothing was written: this was a dry run, --apply imports")
    except StreamdError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or directory}: {error.strerror or error}")
    return 0


def _fail(problem: str) -> int:
    for line in problem.splitlines():
        print(f"streamd: {line}", file=sys.stderr)  # noqa: T201
    return 1
