"""From a file and flags to a Config, or to an error that says where and what.

Not here: how entries become fields (fields.py), the streaming block (stan_file.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from streamd.config import reading
from streamd.config.errors import ConfigError
from streamd.config.fields import Problems, read_block, read_fields, read_key, words
from streamd.config.models import AuthorizationConfig, Config, JetStreamConfig, JetStreamLimits
from streamd.config.reading import Key
from streamd.config.tree import Entry, Node, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Keys of nats-server (and NATS Streaming) that would change what the server does, so they can't be ignored.
LATER: Final = words(
    """
    account_resolver allow_non_tls connect_error_reports default_js_domain default_sentinel
    feature_flags gateway http_base_path https https_port leaf leafnodes log_max_num log_size_limit
    logfile_max_num logfile_size_limit mappings maps mqtt no_auth_user no_system_account ocsp ocsp_cache
    operator operators prof_block_rate prof_port proxies proxy_protocol reconnect_error_reports remote_syslog
    resolver resolver_pinned_accounts resolver_preload resolver_tls root roots syslog
    tls trace_headers trace_verbose trusted trusted_keys websocket write_timeout ws
    """
)
LATER_JETSTREAM: Final = words(
    """
    cipher domain ek encryption_key extension_hint key max_concurrent_io max_outstanding_catchup meta_compact
    meta_compact_size meta_compact_sync prev_ek prev_encryption_key prev_key tpm unique_tag
    """
)
LATER_AUTHORIZATION: Final = words("auth_callout auth_hook default_permissions permissions proxy_required users")
LATER_LIMITS: Final = frozenset(["batch", "max_ha_assets"])
LATER_CLUSTER: Final = words("accounts compression permissions write_timeout")
#: A token and several users are refused by nats-server, too.
LATER_CLUSTER_AUTHORIZATION: Final = words(
    "auth_callout auth_hook default_permissions permissions proxy_required token users"
)
LATER_TLS: Final = words(
    """
    allow_insecure_cipher_suites ca_certs_match cert_match cert_match_by cert_match_skip_invalid cert_store certificates
    certs cipher_suites connection_rate_limit curve_preferences first handshake_first immediate min_version ocsp_peer
    pinned_certs verify_and_map verify_cert_and_check_known_urls
    """
)


def load_file(
    path: str | os.PathLike[str] | None, overrides: Mapping[str, Any] | None = None, *,
    streaming_file: str | None = None,
) -> Config:  # fmt: skip
    """The configuration of a file; `overrides` are what flags gave, and win.

    Shapes:  overrides: fields of Config, `store_dir`, `user`, `password`, `token`, and `streaming`, a map as
             stan_file.merge takes it. `streaming_file` holds the streaming keys alone, or all of it if
             `path` is None.
    Errors:  ConfigError, one line a problem.
    """
    if path is None and streaming_file is None:
        return from_flags(overrides or {})
    # Not at the top: a server started by flags alone needs no parser.
    from streamd.config.parse import parse_file

    problems, streaming = Problems(), None
    file = os.fspath(path or streaming_file or "")
    root = parse_file(file)
    origin = _origin(root, file)
    if streaming_file is not None:
        from streamd.config import stan_file

        if os.path.abspath(streaming_file) == os.path.abspath(file):
            streaming, root = stan_file.take(root)
        else:
            streaming = stan_file.alone(parse_file(streaming_file), file, problems)
    return _build(problems, root, origin, overrides or {}, streaming)


def load_text(text: str, *, file: str = "<text>", overrides: Mapping[str, Any] | None = None) -> Config:
    """As `load_file`, from a text."""
    from streamd.config.parse import parse_text

    root = parse_text(text, file=file)
    return _build(Problems(), root, _origin(root, file), overrides or {}, None)


def from_flags(overrides: Mapping[str, Any]) -> Config:
    """The configuration of a server without a file. Errors: ConfigError."""
    return _finish(Problems(), {}, overrides)


def _origin(root: Node, file: str) -> dict[str, str]:
    from streamd.config.digest import digest

    return {"file": file, "digest": digest(root)}


def _build(
    problems: Problems, root: Node, origin: dict[str, str], overrides: Mapping[str, Any],
    streaming: Entry | None,
) -> Config:  # fmt: skip
    """Reads the map of a file; `streaming` stands for a streaming block that comes from elsewhere."""
    assert isinstance(root.value, dict)
    special: dict[str, Callable[[Entry, Problems, dict[str, Any]], None]] = {
        "listen": _listen("host", "port"),
        "http": _listen("http_host", "http_port"),
        "http_port": _listen("http_host", "http_port"),
        "monitor_port": _listen("http_host", "http_port"),
        "accounts": _accounts,
        "authorization": _authorization,
        "jetstream": _jetstream,
        "store_dir": _store_dir,
        "storedir": _store_dir,
        "system": _system_account,
        "system_account": _system_account,
        "streaming": _streaming if streaming is None else _passed_over(streaming.position.file),
        "cluster": _cluster,
    }
    values = read_fields(Config, root.value, problems, (), LATER, special)
    if streaming is not None:
        _streaming(streaming, problems, values)
    block = values.get("jetstream")
    if "store_dir" in values and isinstance(block, JetStreamConfig) and block.store_dir is not None:
        problems.add(problems.places[("store_dir",)][0], "duplicate 'store_dir' configuration")
    if not root.value and streaming is None:
        problems.warnings.append(f"{origin['file']}: config has no values or is empty")
    return _finish(problems, {**values, **origin}, overrides)


def _finish(problems: Problems, values: dict[str, Any], overrides: Mapping[str, Any]) -> Config:
    # A flag's value has no place in the file, even where the file named the same key.
    for name in overrides.keys() - {"streaming"}:
        problems.places.pop((name,), None)
    merged = {**values, **overrides}
    if merged.get("jetstream") is True and isinstance(values.get("jetstream"), JetStreamConfig):
        merged["jetstream"] = values["jetstream"]  # the flag switches on what the file describes
    if "streaming" in merged:
        _merge_streaming(merged, values, overrides, problems)
    merged = _merge_cluster(_merge_authorization(_merge_jetstream(merged)), problems)
    merged["warnings"] = tuple(problems.warnings)
    merged["notes"] = (*problems.notes, *overrides.get("notes", ()))
    config = None
    try:
        config = Config(**merged)
    except ValidationError as error:
        problems.add_invalid(error)
    if problems.errors or config is None:
        raise ConfigError("\n".join(problems.errors))
    return config


def _merge_streaming(
    merged: dict[str, Any], values: Mapping[str, Any], overrides: Mapping[str, Any], problems: Problems
) -> None:
    """Folds the streaming flags into the block; it brings JetStream, and shares its directory."""
    # Most servers have no streaming block, and the models behind it are a tenth of the start.
    from streamd.config import stan_file

    overrides = stan_file.one_store(overrides)
    merged |= {name: overrides[name] for name in ("store_dir",) if name in overrides}
    merged["streaming"] = stan_file.merge(values.get("streaming"), overrides.get("streaming"), problems)
    if merged.get("jetstream") is None:
        merged["jetstream"] = True


def _merge_jetstream(values: dict[str, Any]) -> dict[str, Any]:
    """Folds the flags --jetstream and --store_dir into the block."""
    store_dir, block = values.pop("store_dir", None), values.get("jetstream")
    if block is True:
        block = values["jetstream"] = JetStreamConfig()
    if store_dir is not None and isinstance(block, JetStreamConfig):
        values["jetstream"] = block.model_copy(update={"store_dir": store_dir})
    return values


def _merge_authorization(values: dict[str, Any]) -> dict[str, Any]:
    """Folds the flags --user, --pass and --auth into the block; they replace the file's way in."""
    given = {name: values.pop(name) for name in ("user", "password", "token") if name in values}
    if given:
        before = values.get("authorization")
        timeout = before.timeout_ns if isinstance(before, AuthorizationConfig) else None
        values["authorization"] = given if timeout is None else {**given, "timeout_ns": timeout}
    return values


def _merge_cluster(values: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """Folds the flags of routes, which are named as their fields with `routes_` in front, into the block."""
    given = {name: values.pop(name) for name in list(values) if name.startswith("routes_")}
    if not given:
        return values
    from streamd.config.cluster import ClusterConfig, listen_fields

    before = values.get("cluster")
    fields = dict(before) if isinstance(before, ClusterConfig) else {}
    try:
        if "routes_listen" in given:
            fields |= listen_fields(given.pop("routes_listen"))
        if "routes_routes" in given:
            urls = given.pop("routes_routes").split(",")
            fields["routes"] = tuple(url.strip() for url in urls if url.strip())
            if fields["routes"] and not fields.get("port"):
                raise ValueError("solicited routes require cluster capabilities, e.g. --cluster")
        fields |= {name.removeprefix("routes_"): value for name, value in given.items()}
        values["cluster"] = ClusterConfig(**fields)
    except ValidationError as error:
        problems.add_invalid(error, ("cluster",))
    except ValueError as error:
        problems.errors.append(f"cluster: {error}")
    return values


def _listen(host: str, port: str, path: tuple[str, ...] = ()) -> Callable[[Entry, Problems, dict[str, Any]], None]:
    def handle(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
        try:
            named, number = reading.address(entry.node)
        except ValueError as error:
            problems.add(entry.position, f"{entry.name}: {error}")
            return
        values[port] = number
        problems.places[(*path, port)] = (entry.position, entry.name.lower())
        if named is not None:
            values[host] = named

    return handle


def _store_dir(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    problems.places[("store_dir",)] = (entry.position, "store_dir")
    read_key(Key("store_dir", reading.string), entry, "store_dir", problems, values)


def _streaming(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    from streamd.config import stan_file

    stan_file.read(entry, problems, values)


def _passed_over(other: str) -> Callable[[Entry, Problems, dict[str, Any]], None]:
    def handle(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
        problems.notes.append(f"{entry.position}: streaming: not read, the file of -sc is: {other}")

    return handle


def _cluster(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    from streamd.config.cluster import ClusterAuthorization, ClusterConfig, ClusterTls

    def authorization(inner: Entry, problems: Problems, values: dict[str, Any]) -> None:
        path, later = ("cluster", "authorization"), LATER_CLUSTER_AUTHORIZATION
        values["authorization"] = read_block(ClusterAuthorization, inner, problems, path, later, {})

    def tls(inner: Entry, problems: Problems, values: dict[str, Any]) -> None:
        values["tls"] = read_block(ClusterTls, inner, problems, ("cluster", "tls"), LATER_TLS, {})

    special = {
        "listen": _listen("host", "port", ("cluster",)),
        "authorization": authorization,
        "tls": tls,
    }
    values["cluster"] = read_block(ClusterConfig, entry, problems, ("cluster",), LATER_CLUSTER, special)


def _accounts(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    from streamd.config.accounts import read_accounts

    read_accounts(entry, problems, values)


def _system_account(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    from streamd.config.accounts import read_system_account

    read_system_account(entry, problems, values)


def _authorization(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    values["authorization"] = read_block(
        AuthorizationConfig, entry, problems, ("authorization",), LATER_AUTHORIZATION, {}
    )


def _jetstream(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    value = entry.node.value
    problems.places[("jetstream",)] = (entry.position, "jetstream")
    if isinstance(value, bool):
        values["jetstream"] = value
        return
    if isinstance(value, str) and value.lower() in ("enabled", "enable", "disabled", "disable"):
        values["jetstream"] = value.lower().startswith("enable")
        return
    if not isinstance(value, dict):
        got = f'"{value}"' if isinstance(value, str) else describe(entry.node)
        problems.add(entry.position, f"jetstream: expected a map, a boolean, enabled or disabled, got {got}")
        return
    switch = {"enabled": True}

    def enabled(inner: Entry, problems: Problems, _values: dict[str, Any]) -> None:
        read_key(Key("enabled", reading.boolean), inner, "enabled", problems, switch)

    def limits(inner: Entry, problems: Problems, values: dict[str, Any]) -> None:
        path = ("jetstream", "limits")
        if (block := read_block(JetStreamLimits, inner, problems, path, LATER_LIMITS, {})) is not None:
            values["limits"] = block

    special = {"enabled": enabled, "enable": enabled, "limits": limits}
    block = read_block(JetStreamConfig, entry, problems, ("jetstream",), LATER_JETSTREAM, special)
    values["jetstream"] = block if switch["enabled"] else False
