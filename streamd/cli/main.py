"""Entry of the `streamd` command: read the flags, then answer, test a configuration, or run a server.

Each step imports what it needs and no more, because launchers start a server per test: `-v` and `-h` load
neither click nor the models.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from streamd import __version__
from streamd.cli.flags import FLAGS, FlagError, normalise, usage
from streamd.cli.stan_flags import STREAMING
from streamd.config.foreign import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd.config.models import Config

# The version of nats-server whose protocol, limits and texts streamd follows.
PROTOCOL_VERSION = "2.15.2"
_NOT_CONFIG = frozenset(["debug_and_trace", "help", "signal", "test", "version"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["import"]:
        from streamd.cli.import_stan import run

        return run(given[1:])
    if given[:1] == ["recover"]:
        from streamd.cli.recover import run as recover

        return recover(given[1:])
    if given[:1] == ["sim"]:
        from streamd.sim.command import run as simulate

        return simulate(given[1:])
    try:
        normal = normalise(given)
    except FlagError as error:
        if not error.usage:
            return fail(str(error))
        print(error, file=sys.stderr)  # noqa: T201
        print(usage())  # noqa: T201
        return 0
    if "--help=true" in normal:
        print(usage())  # noqa: T201
        return 0
    if "--version=true" in normal:
        print(f"streamd: v{__version__} (nats-server v{PROTOCOL_VERSION} protocol)")  # noqa: T201
        return 0
    last = dict(option.split("=", 1) for option in normal)
    if "--signal" in last or last.get("--test") == "true":
        return _answer(**_fields(normal))
    from streamd.cli.run import run as serve

    return serve(lambda: _config(**_fields(normal)), stores=_stores(normal, last))


def fail(text: str) -> int:
    """One `streamd: ...` line on stderr a problem, and the status for it."""
    for line in text.splitlines():
        print(f"streamd: {line}", file=sys.stderr)  # noqa: T201
    return 1


def _stores(normal: list[str], last: dict[str, str]) -> bool:
    """Whether the server is to have a store; a guess that costs a moment where it is wrong."""
    text = " ".join(normal)
    for option in ("--config", "--stan_config"):
        if option in last:
            with contextlib.suppress(OSError, ValueError), open(last[option], "rb") as file:
                text += file.read().decode(errors="replace")
    return "stream" in text.lower()


def _fields(normal: list[str]) -> dict[str, Any]:
    """The values of the flags by field, None where no flag gave one."""
    import click

    types = {
        "string": click.STRING,
        "integer": click.INT,
        "switch": click.BOOL,
        "duration": click.INT,
        "size": click.INT,
    }
    options: list[click.Parameter] = [
        click.Option([flag.option, flag.field], type=types[flag.kind], default=None) for flag in FLAGS
    ]
    command = click.Command("streamd", params=options, callback=dict, add_help_option=False)
    fields = command.main(normal, prog_name="streamd", standalone_mode=False)
    assert isinstance(fields, dict)
    return fields


def _config(*, config: str | None, stan_config: str | None, **fields: Any) -> Config:
    """The settings of a server. Errors: ConfigError."""
    from streamd.config.load import load_file

    return load_file(config, _overrides(fields), streaming_file=stan_config)


def _answer(*, config: str | None, stan_config: str | None, signal: str | None, **fields: Any) -> int:
    """What flags ask for that want no server."""
    if signal is not None:
        from streamd.cli.signals import send

        return send(signal)
    return _test(config, stan_config, _overrides(fields))


def _overrides(fields: dict[str, Any]) -> dict[str, Any]:
    """What flags gave of Config."""
    given = {name: value for name, value in fields.items() if value is not None and name not in _NOT_CONFIG}
    if fields["debug_and_trace"]:
        given |= {"debug": True, "trace": True}
    return _streaming(given)


def _streaming(overrides: dict[str, Any]) -> dict[str, Any]:
    """Gathers the flags of NATS Streaming under `streaming`; notes those that change nothing."""
    given = {flag: overrides.pop(flag.field) for flag in STREAMING if flag.field in overrides}
    if not given:
        return overrides
    streaming = {flag.field.removeprefix("streaming_"): value for flag, value in given.items() if not flag.idle}
    if (both := streaming.pop("debug_and_trace", None)) is not None:
        streaming |= {"stan_debug": both, "stan_trace": both}
    notes = tuple(note(flag.names[-1], flag.idle) for flag in given if flag.idle)
    return {**overrides, "streaming": streaming, "notes": notes}


def _test(config: str | None, stan_config: str | None, overrides: dict[str, Any]) -> int:
    if config is None and stan_config is None:
        return fail("must specify [-c, --config] option to check configuration file syntax")
    from streamd.config.errors import ConfigError
    from streamd.config.load import load_file

    try:
        loaded = load_file(config, overrides, streaming_file=stan_config)
    except ConfigError as error:
        return fail(str(error))
    if loaded.warnings:
        return fail("\n".join(loaded.warnings))
    for text in loaded.notes:
        print(f"streamd: {text}", file=sys.stderr)  # noqa: T201
    files = " and ".join(dict.fromkeys(name for name in (config, stan_config) if name is not None))
    what = f"configuration files {files} are" if " and " in files else f"configuration file {files} is"
    print(f"streamd: {what} valid ({loaded.digest})", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
