"""The flags, declared once, and Go's way of writing them.

One or two dashes are equal, a value follows as `-p 4222` or `-p=4222`, and a switch takes a value only with
`=`. click knows none of that, so `normalise` rewrites an argument list into `--name=value` before click
reads it. Importing this module must stay cheap: `streamd -v` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.cli.flag import Flag
from streamd.cli.stan_flags import REFUSED, STREAMING

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAGS: Final = (
    Flag(("-a", "--addr", "--net"), "host", "string", "Bind to host address (default: 0.0.0.0)", "<host>"),
    Flag(
        ("-p", "--port"), "port", "integer",
        "Use port for clients (default: 4222, -1 is a free one)", "<port>",
    ),
    Flag(("-n", "--name", "--server_name"), "server_name", "string", "Server name (default: auto)", "<name>"),
    Flag(("-P", "--pid"), "pid_file", "string", "File to store PID", "<file>"),
    Flag(("-m", "--http_port"), "http_port", "integer", "Use port for http monitoring", "<port>"),
    Flag(("-c", "--config"), "config", "string", "Configuration file", "<file>"),
    Flag(("-t",), "test", "switch", "Test configuration and exit"),
    Flag(
        ("-sl", "--signal"), "signal", "string",
        "Send signal to a process (stop, quit, term, reopen, reload, ldm); <pid> is a PID or a PID file",
        "<signal>=<pid>",
    ),
    Flag(("--client_advertise",), "client_advertise", "string", "Client URL to advertise", "<host:port>"),
    Flag(
        ("--ports_file_dir",), "ports_file_dir", "string",
        "Creates a ports file in the directory (<executable_name>_<pid>.ports)", "<dir>",
    ),
    Flag(("-l", "--log"), "log_file", "string", "File to redirect log output", "<file>", "Logging"),
    Flag(("-T", "--logtime"), "logtime", "switch", "Timestamp log entries (default: true)", "", "Logging"),
    Flag(
        ("--logtime_utc",), "logtime_utc", "switch",
        "Timestamps in UTC instead of local timezone", "", "Logging",
    ),
    Flag(("-D", "--debug"), "debug", "switch", "Enable debugging output", "", "Logging"),
    Flag(("-V", "--trace"), "trace", "switch", "Trace the raw protocol", "", "Logging"),
    Flag(("-DV",), "debug_and_trace", "switch", "Debug and trace", "", "Logging"),
    Flag(
        ("--max_traced_msg_len",), "max_traced_msg_len", "integer",
        "Maximum printable length for traced messages (default: unlimited)", "<len>", "Logging",
    ),
    Flag(("-js", "--jetstream"), "jetstream", "switch", "Enable JetStream functionality", "", "JetStream"),
    Flag(("-sd", "--store_dir"), "store_dir", "string", "Set the storage directory", "<dir>", "JetStream"),
    Flag(("--user",), "user", "string", "User required for connections", "<user>", "Authorization"),
    Flag(
        ("--pass",), "password", "string",
        "Password required for connections", "<password>", "Authorization",
    ),
    Flag(
        ("--auth",), "token", "string",
        "Authorization token required for connections", "<token>", "Authorization",
    ),
    Flag(
        ("--cluster", "--cluster_listen"), "routes_listen", "string",
        "Take routes of other servers here (nats://host:port, port -1 is a free one)", "<url>", "Cluster",
    ),
    Flag(("--routes",), "routes_routes", "string", "Routes to dial, with commas between", "<urls>", "Cluster"),
    Flag(("--cluster_name",), "routes_name", "string", "Cluster name (default: auto)", "<name>", "Cluster"),
    Flag(
        ("--cluster_advertise",), "routes_advertise", "string",
        "Address that other servers are told", "<host:port>", "Cluster",
    ),
    Flag(
        ("--no_advertise",), "routes_no_advertise", "switch",
        "Don't tell clients the other servers' addresses", "", "Cluster",
    ),
    Flag(
        ("--connect_retries",), "routes_connect_retries", "integer",
        "How often a server that others tell of is dialed again (default: 0)", "<number>", "Cluster",
    ),
    *STREAMING,
    Flag(("-h", "--help"), "help", "switch", "Show this message", "", "Common"),
    Flag(("-v", "--version"), "version", "switch", "Show version", "", "Common"),
)  # fmt: skip

_BY_NAME: Final = {name.lstrip("-"): flag for flag in FLAGS for name in flag.names}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Flags of nats-server that would change what the server does.
LATER: Final = _words(
    """
    DVV VV help_tls https_port log_size_limit ms profile r remote_syslog s syslog tls tlscacert tlscert tlskey tlsverify
    """
)

_TRUE: Final = frozenset(["1", "t", "T", "true", "TRUE", "True"])
_FALSE: Final = frozenset(["0", "f", "F", "false", "FALSE", "False"])


class FlagError(Exception):
    """A command line that can't be read. With `usage` the usage follows and, as in nats-server, status 0."""

    def __init__(self, text: str, *, usage: bool = True) -> None:
        super().__init__(text)
        self.usage = usage


def normalise(arguments: Sequence[str]) -> list[str]:
    """The same command line in click's form. Errors: FlagError in the words of Go's flag package."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*found, *_command(rest)]
        if len(argument) < 2 or argument[0] != "-":
            return [*found, *_command([argument, *rest])]
        name, equals, value = argument[2 if argument.startswith("--") else 1 :].partition("=")
        if not name or name[0] == "-":
            raise FlagError(f"bad flag syntax: {argument}")
        if name in LATER:
            raise FlagError(f"flag --{name} is not supported yet", usage=False)
        if (why := REFUSED.get(name)) is not None:
            raise FlagError(f"flag --{name} is not supported by streamd: {why}", usage=False)
        if (flag := _BY_NAME.get(name)) is None:
            raise FlagError(f"flag provided but not defined: -{name}")
        if flag.kind == "switch":
            found.append(f"{flag.option}={_switch(name, value if equals else 'true')}")
            continue
        if not equals:
            if not rest:
                raise FlagError(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        if flag.kind == "integer":
            value = _integer(name, value)
        elif flag.kind == "duration":
            value = _duration(name, value)
        elif flag.kind == "size":
            value = _size(name, value)
        found.append(f"{flag.option}={value}")
    return found


def _command(words: list[str]) -> list[str]:
    """The words behind the flags: `version` and `help` are commands, anything else is a slip.

    `import` has flags of its own and is a command only as the first word, which `main` sees before.
    """
    if not words:
        return []
    if words[0].lower() in ("version", "help"):
        return [f"--{words[0].lower()}=true"]
    if words[0] == "import":
        raise FlagError("import comes before all flags: streamd import stan DIR", usage=False)
    raise FlagError(f'unrecognized command: "{words[0]}"', usage=False)


def _switch(name: str, value: str) -> str:
    if value in _TRUE:
        return "true"
    if value in _FALSE:
        return "false"
    raise FlagError(f'invalid boolean value "{value}" for -{name}: parse error')


def _integer(name: str, value: str) -> str:
    try:
        if not value.isascii() or value != value.strip() or len(value) > 20:
            raise ValueError
        return str(int(value, 0))
    except ValueError:
        raise FlagError(f'invalid value "{value}" for flag -{name}: parse error') from None


def _duration(name: str, value: str) -> str:
    from streamd.config.scalars import duration_ns

    try:
        return str(duration_ns(value))
    except ValueError:
        raise FlagError(f'invalid value "{value}" for flag -{name}: parse error') from None


def _size(name: str, value: str) -> str:
    from streamd.config.scalars import word

    try:
        size = word(value) if value else ""
    except ValueError:
        size = value
    if type(size) is not int:
        raise FlagError(f"{name} should be a size, got '{value}'", usage=False)
    return str(size)


def usage() -> str:
    """The text of --help."""
    lines = [
        "",
        "Usage: streamd [options]",
        "       streamd import stan DIR [options]",
        "       streamd recover -c FILE [--apply [--force]]",
    ]
    group = ""
    for flag in FLAGS:
        if flag.group != group:
            group = flag.group
            lines += ["", f"{group} Options:"]
        names = ", ".join(flag.names) + (f" {flag.value}" if flag.value else "")
        indent = "        " if flag.names[0].startswith("--") else "    "
        lines.append(f"{indent + names:<44} {flag.help}")
    return "\n".join(lines) + "\n"
