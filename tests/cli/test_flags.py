"""The command line: Go's flag syntax, answers, exit statuses, and what may be imported for them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streamd import __version__
from streamd.cli.flags import FlagError, normalise
from streamd.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

NORMAL: list[tuple[str, list[str]]] = [
    ("", []),
    ("-p 4222", ["--port=4222"]),
    ("-p=4222", ["--port=4222"]),
    ("--p 4222", ["--port=4222"]),
    ("-port 4222", ["--port=4222"]),
    ("--port=-1", ["--port=-1"]),
    ("-p -1", ["--port=-1"]),
    ("-p 0x10", ["--port=16"]),
    ("-js -sd=x", ["--jetstream=true", "--store_dir=x"]),
    ("-js=false", ["--jetstream=false"]),
    ("-T=0", ["--logtime=false"]),
    ("-DV", ["--debug_and_trace=true"]),
    ("-D -V", ["--debug=true", "--trace=true"]),
    ("--addr h --net=i -a j", ["--host=h", "--host=i", "--host=j"]),
    ("--user u --pass a=b --auth t", ["--user=u", "--password=a=b", "--token=t"]),
    ("-l -x", ["--log_file=-x"]),
    ("-store file -dir=d", ["--streaming_store=file", "--streaming_dir=d"]),
    ("--st FILE -cid x", ["--streaming_store=FILE", "--streaming_cluster_id=x"]),
    ("-hbi 1m30s -ma=0", ["--streaming_hb_interval_ns=90000000000", "--streaming_max_age_ns=0"]),
    ("-mb 1GB --max_bytes 5", ["--streaming_max_bytes=1073741824", "--streaming_max_bytes=5"]),
    ("-SDV -encrypt=false", ["--streaming_debug_and_trace=true", "--streaming_encrypt=false"]),
    ("-cluster_peers a,b", ["--streaming_cluster_peers=a,b"]),
    ("-cluster nats://h:1 -routes=a,b", ["--routes_listen=nats://h:1", "--routes_routes=a,b"]),
    ("--cluster_listen x --cluster_name n", ["--routes_listen=x", "--routes_name=n"]),
    ("--no_advertise --connect_retries 3", ["--routes_no_advertise=true", "--routes_connect_retries=3"]),
    ("--", []),
    ("version", ["--version=true"]),
    ("-p 1 help", ["--port=1", "--help=true"]),
]

SLIPS: list[tuple[str, str, bool]] = [
    ("-x", "flag provided but not defined: -x", True),
    ("--pp 4", "flag provided but not defined: -pp", True),
    ("-p", "flag needs an argument: -p", True),
    ("-p x", 'invalid value "x" for flag -p: parse error', True),
    ("-js=maybe", 'invalid boolean value "maybe" for -js: parse error', True),
    ("---p", "bad flag syntax: ---p", True),
    ("-=x", "bad flag syntax: -=x", True),
    ("foo", 'unrecognized command: "foo"', False),
    ("-p 4 foo -p 5", 'unrecognized command: "foo"', False),
    ("-V false", 'unrecognized command: "false"', False),
    ("- foo", 'unrecognized command: "-"', False),
    ("-- -p", 'unrecognized command: "-p"', False),
    ("-D import stan x", "import comes before all flags: streamd import stan DIR", False),
    ("--profile 1", "flag --profile is not supported yet", False),
    ("-tls=true", "flag --tls is not supported yet", False),
    ("-hbi 30", 'invalid value "30" for flag -hbi: parse error', True),
    ("-mb x", "mb should be a size, got 'x'", False),
    ("--file_buffer_size=1.5", "file_buffer_size should be a size, got '1.5'", False),
    (
        "-ns nats://h:1",
        "flag --ns is not supported by streamd: streamd serves clients itself and connects to no other NATS server",
        False,
    ),
    (
        "--sql_driver mysql",
        "flag --sql_driver is not supported by streamd: streamd has a store of its own, take store file or memory",
        False,
    ),
    (
        "-syslog_name x",
        "flag --syslog_name is not supported by streamd: streamd writes its log to stderr or to log_file",
        False,
    ),
]


@pytest.mark.parametrize(("line", "expected"), NORMAL)
def test_flags_are_read_as_go_reads_them(line: str, expected: list[str]) -> None:
    assert expected == normalise(line.split())


@pytest.mark.parametrize(("line", "text", "usage"), SLIPS)
def test_slip(line: str, text: str, usage: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts and statuses are nats-server's; a slip with a usage behind it ends with status 0 there, too."""
    with pytest.raises(FlagError) as caught:
        normalise(line.split())
    status = main(line.split())
    out, err = capsys.readouterr()

    assert (text, usage) == (str(caught.value), caught.value.usage)
    assert (0 if usage else 1) == status
    assert err == (f"{text}\n" if usage else f"streamd: {text}\n")
    assert usage == ("Usage: streamd [options]" in out)


@pytest.mark.parametrize("line", ["-v", "--version", "-version", "version", "-p 4 -v"])
def test_version_can_be_found_by_launchers(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 0

    found = re.search(r" v(\d+\.\d+\.\d+)", capsys.readouterr().out)
    assert found is not None
    assert found.group(1) == __version__


@pytest.mark.parametrize("flag", ["-v", "-h"])
def test_quick_answers_load_nothing_heavy(flag: str) -> None:
    """Launchers call these once per test: 0.1 s is the budget."""
    heavy = ["asyncio", "click", "lark", "pydantic", "uvicorn", "anyio"]
    program = (
        "import sys; from streamd.cli.main import main; "
        f"main([{flag!r}]); sys.exit(','.join(n for n in {heavy!r} if n in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_configuration_test_says_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port: 1")

    assert main(["-c", str(path), "-t"]) == 0
    digest = "sha256:5b27b68e52c25859a76c94f378c31d5a499ca677a46b38fb5f58ded229b59650"
    assert f"streamd: configuration file {path} is valid ({digest})\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("prot: 1", [], '{path}:1:1: unknown field "prot", did you mean "port"?'),
        ("", [], "{path}: config has no values or is empty"),
        ("port: 1", ["-n", "a b"], "server name cannot contain spaces"),
        (None, [], "open {path}: no such file or directory"),
    ],
)
def test_configuration_test_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, flags: list[str], expected: str
) -> None:
    path = tmp_path / "a.conf"
    if text is not None:
        path.write_text(text)

    assert main(["-t", "-c", str(path), *flags]) == 1
    assert f"streamd: {expected.format(path=path)}\n" == capsys.readouterr().err


def test_configuration_test_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-t"]) == 1
    assert "must specify [-c, --config]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["single", "a", "b", "c"])
def test_confs_of_the_repository_are_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-t", "-c", f"conf/{name}.conf"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("foo=1", 'unknown signal "foo"'),
        ("stop", "signal stop needs a process: -sl stop=<pid or pid file>"),
        ("reload=nowhere.pid", "invalid pid: nowhere.pid"),
        ("term=0", "invalid pid: 0"),
        ("term=999999999999", 'signal "term" 999999999999: no such process'),
    ],
)
def test_signal_slips(command: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sl", command]) == 1
    assert f"streamd: {text}\n" == capsys.readouterr().err
