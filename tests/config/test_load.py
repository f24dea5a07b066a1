"""From files and flags to a Config: units, aliases, refusals, flags that win."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamd import __version__
from streamd.config.errors import ConfigError
from streamd.config.load import from_flags, load_text
from streamd.config.models import AuthorizationConfig, Config, JetStreamConfig, SystemUser

SECOND = 1_000_000_000

BCRYPT = "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG"
USERS = (SystemUser(user="sys", password="pw"), SystemUser(user="b", password="c"))

# (text, path of fields, value)
SETTINGS: list[tuple[str, str, object]] = [
    ("port: 1", "port", 1),
    ("PORT: -1", "port", -1),
    ("listen: 127.0.0.1:5", "host", "127.0.0.1"),
    ("listen: 127.0.0.1:5", "port", 5),
    ("listen: 5", "host", "0.0.0.0"),
    ('listen: "[::1]:5"', "host", "::1"),
    ("listen: h:5\nport: 6", "port", 6),
    ("port: 6\nlisten: h:5", "port", 5),
    ("net: h", "host", "h"),
    ("http: 8222", "http_port", 8222),
    ("monitor_port: -1", "http_port", -1),
    ("http: localhost:1", "http_host", "localhost"),
    ("max_payload: 2MB", "max_payload", 2 << 20),
    ("max_conn: 5", "max_connections", 5),
    ("max_subs: 5", "max_subscriptions", 5),
    ("max_subscription_tokens: 5", "max_sub_tokens", 5),
    ("ping_interval: 30s", "ping_interval_ns", 30 * SECOND),
    ('ping_interval: "1.5h"', "ping_interval_ns", 5400 * SECOND),
    ('write_deadline: "500ms"', "write_deadline_ns", SECOND // 2),
    ("logfile: x", "log_file", "x"),
    ("pidfile: x", "pid_file", "x"),
    ("logtime: false", "logtime", False),
    ("server_tags: [a, b]", "server_tags", ("a", "b")),
    ("authorization {username: u, pass: p}", "authorization.password", "p"),
    ("authorization {token: t, timeout: 1.5}", "authorization.timeout_ns", 1_500_000_000),
    ('authorization {token: t, timeout: "2m"}', "authorization.timeout_ns", 120 * SECOND),
    ("jetstream: false", "jetstream", None),
    ("jetstream: disabled", "jetstream", None),
    ("jetstream {enabled: false}", "jetstream", None),
    ("jetstream: enabled", "jetstream.sync_interval", "always"),
    ("jetstream: true", "jetstream.max_memory_bytes", None),
    ("jetstream {store: x}", "jetstream.store_dir", "x"),
    ("store_dir: x\njetstream: true", "jetstream.store_dir", "x"),
    ("store_dir: x\njetstream {}", "jetstream.store_dir", "x"),
    ('jetstream {max_mem: "1G", max_file: 2GB}', "jetstream.max_memory_bytes", 1 << 30),
    ('jetstream {max_mem: "1G", max_file: 2GB}', "jetstream.max_storage_bytes", 2 << 30),
    ("jetstream {sync: never}", "jetstream.sync_interval", "never"),
    ('jetstream {sync: "2m"}', "jetstream.sync_interval", 120 * SECOND),
    ('jetstream {limits {duplicate_window: "1s"}}', "jetstream.limits.duplicate_window_ns", SECOND),
    ("x: 5\nport: $x", "port", 5),
    ("accounts { $SYS { users: [ {user: sys, password: pw}, {username: b, pass: c} ] } }", "system_users", USERS),
    ('accounts { "$SYS": {users: [{user: a}]} }', "system_users", (SystemUser(user="a"),)),
    ('accounts { $SYS {} }\nsystem_account: "$SYS"', "system_users", ()),
    ("accounts {}\nsystem: '$SYS'", "system_users", ()),
]

# (text, the error behind the file's name)
REFUSED: list[tuple[str, str]] = [
    ("prot: 1", '1:1: unknown field "prot", did you mean "port"?'),
    ("a: 1\nqqqqqq: 1", '2:1: unknown field "qqqqqq"'),
    ("jetstream {\n  store_dri: x }", '2:3: unknown field "store_dri", did you mean "store_dir"?'),
    ("gateway {}", f'1:1: "gateway" is not supported yet by streamd {__version__}'),
    ("jetstream {domain: x}", f'1:12: "domain" is not supported yet by streamd {__version__}'),
    ("authorization {users: []}", f'1:16: "users" is not supported yet by streamd {__version__}'),
    ('port: "1"', "1:1: port: expected an integer, got a string"),
    ("port: 70000", "1:1: port: input should be less than or equal to 65535"),
    ("debug: 1", "1:1: debug: expected a boolean (true or false), got an integer"),
    ("host: 1", "1:1: host: expected a string, got an integer: quote it"),
    ("authorization {user: a, pass: 1}", "1:25: pass: expected a string, got an integer: quote it"),
    ('server_name: "\\xff"', "1:1: server_name: expected a string in UTF-8"),
    ("jetstream: 1", "1:1: jetstream: expected a map, a boolean, enabled or disabled, got an integer"),
    ("jetstream {limits: 1}", "1:12: limits: expected a map, got an integer"),
    ("listen: host", '1:1: listen: could not parse address string "host"'),
    ("lame_duck_duration: 30", '1:1: lame_duck_duration: expected a duration such as "2m", got an integer'),
    ('jetstream {max_mem: "1GB"}', '1:12: max_mem: expected a size such as 1GB or "1G", got "1GB"'),
    ("jetstream {sync: 1ns}", "1:12: sync: "),
    ("jetstream {store_dir: a}\nstore_dir: b", "2:1: duplicate 'store_dir' configuration"),
    (
        "accounts { A {} }",
        f'1:12: account "A": accounts other than "$SYS" are not supported yet by streamd {__version__}',
    ),
    ("system_account: SYS", '1:1: account "SYS": accounts other than "$SYS" are not supported yet by streamd'),
    ("system_account: $SYS", "1:17: variable reference for 'SYS' on line 1 can not be found"),
    ("accounts: 1", "1:1: accounts: expected a map, got an integer"),
    ("accounts { $SYS: [] }", "1:12: $SYS: expected a map, got an array"),
    ("accounts { $SYS {users: {}} }", "1:18: users: expected an array, got a map"),
    ("accounts { $SYS {users: [1]} }", "1:26: users: expected a map, got an integer"),
    ("accounts { $SYS {users: [{pass: b}]} }", "1:27: user entry requires a user"),
    ("accounts { $SYS {users: [{user: a}, {user: a}]} }", '1:18: duplicate user "a" detected'),
    ("accounts { $SYS {users: [{nkey: U}]} }", f'1:27: "nkey" is not supported yet by streamd {__version__}'),
    ("accounts { $SYS {exports: []} }", f'1:18: "exports" is not supported yet by streamd {__version__}'),
    ("accounts { $SYS {exprots: []} }", '1:18: unknown field "exprots"'),
    (
        f"accounts {{ $SYS {{users: [{{user: a, pass: {BCRYPT}}}]}} }}",
        "1:36: pass: hashes of bcrypt are not supported yet",
    ),
    (f"authorization {{token: {BCRYPT}}}", "1:16: token: hashes of bcrypt are not supported yet"),
    (f"authorization {{user: a, password: {BCRYPT}}}", "1:25: password: hashes of bcrypt are not supported yet"),
    (
        "accounts { $SYS {users: [{user: a}]} }\nauthorization {user: u}",
        "2:1: authorization: can not have a single user/pass and a users array",
    ),
    (
        "accounts { $SYS {users: [{user: a}]} }\nauthorization {token: t}",
        "2:1: authorization: can not have a token and a users array",
    ),
    ("authorization {user: a, pass: b, token: c}", "1:1: authorization: cannot have a user/pass and token"),
]


@pytest.mark.parametrize(("text", "path", "expected"), SETTINGS)
def test_setting(text: str, path: str, expected: object) -> None:
    value: object = load_text(text)
    for name in path.split("."):
        value = getattr(value, name)

    assert expected == value


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_refusal_says_where_and_what(text: str, expected: str) -> None:
    """A key that is ignored is a promise that is broken in silence."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="x.conf")

    assert f"x.conf:{expected}" in str(caught.value)


def test_all_problems_are_shown_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("prot: 1\ngateway {}\ndebug: 1", file="x")

    assert [line.rsplit(": ")[0][:5] for line in str(caught.value).splitlines()] == [
        "x:1:1",
        "x:2:1",
        "x:3:1",
    ]


@pytest.mark.parametrize("text", ["", "# nothing", "ping_interval: 5", "jetstream {sync: 2m}"])
def test_doubtful_file_starts_with_a_warning(text: str) -> None:
    assert len(load_text(text).warnings) == 1


def test_seconds_as_integer_are_taken() -> None:
    assert load_text("write_deadline: 5").write_deadline_ns == 5 * SECOND


def test_flags_win() -> None:
    config = load_text("port: 1\nserver_name: a\ndebug: true", overrides={"port": 2, "debug": False})

    assert (config.port, config.server_name, config.debug) == (2, "a", False)


def test_flags_fold_into_blocks() -> None:
    text = 'jetstream {store_dir: a, max_mem: 5}\nauthorization {token: t, timeout: "9s"}'

    config = load_text(text, overrides={"jetstream": True, "store_dir": "b", "user": "u", "password": "p"})

    assert config.jetstream == JetStreamConfig(store_dir="b", max_memory_bytes=5)
    assert config.authorization == AuthorizationConfig(user="u", password="p", timeout_ns=9 * SECOND)


def test_flags_alone_make_a_config() -> None:
    config = from_flags({"port": -1, "jetstream": True, "store_dir": "x"})

    assert config == Config(port=-1, jetstream=JetStreamConfig(store_dir="x"))


@pytest.mark.parametrize(
    "overrides", [{"max_pending": 5}, {"server_name": "a b"}, {"lame_duck_duration_ns": 1}, {"port": 70000}]
)
def test_inconsistent_values_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        from_flags(overrides)
    with pytest.raises(ValidationError):
        Config.model_validate(overrides)


def test_config_from_python_is_strict_and_frozen() -> None:
    with pytest.raises(ValidationError):
        Config(port="4222")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Config(prot=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Config().port = 5


def test_secrets_stay_out_of_repr() -> None:
    assert "hush" not in repr(load_text("authorization {user: u, pass: hush}"))
