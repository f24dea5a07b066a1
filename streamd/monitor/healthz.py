"""HEALTHZ: whether the server, its JetStream, or one stream or consumer is as it should be.

Source: nats-server 2.15.2, whose order of questions, codes and texts these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.api.system import Health, HealthError, HealthzOptions
from streamd.core.access import DEFAULT_ACCOUNT
from streamd.streams.found import has_consumer

if TYPE_CHECKING:
    from streamd.streams.jetstream import JetStream
    from streamd.streams.stream import Stream

UNAVAILABLE: Final = "unavailable"


class _Unhealthy(Exception):
    def __init__(self, code: int, error: HealthError, status: str = UNAVAILABLE) -> None:
        super().__init__(error.error)
        self.code = code
        self.error = error
        self.status = status


def healthz(options: HealthzOptions, jetstream: JetStream | None, cluster_problem: str | None) -> Health:
    """The state of health. `cluster_problem`: why this server isn't current with the cluster it is of, if so."""
    try:
        _look(options, jetstream, cluster_problem)
    except _Unhealthy as found:
        if options.details:
            return Health(status="error", status_code=found.code, errors=[found.error])
        return Health(status=found.status, status_code=found.code, error=found.error.error)
    return Health()


def _look(options: HealthzOptions, jetstream: JetStream | None, cluster_problem: str | None) -> None:
    """Errors: _Unhealthy, for the first thing that is wrong."""
    for missing, given, what in (
        ("account", options.stream and not options.account, "stream"),
        ("stream", options.consumer and not options.stream, "consumer"),
    ):
        if given:
            text = f'"{missing}" must not be empty when checking {what} health'
            raise _Unhealthy(400, HealthError(type="BAD_REQUEST", error=text), "error")
    if options.js_server_only or jetstream is None:
        return
    if jetstream.writer.failed is not None:
        raise _Unhealthy(503, HealthError(type="JETSTREAM", error=str(jetstream.writer.failed)))
    if options.js_enabled_only or options.js_enabled:
        return
    if cluster_problem is not None:
        raise _Unhealthy(503, HealthError(type="JETSTREAM", error=cluster_problem))
    if not options.js_meta_only:
        _look_at_streams(options, jetstream)


def _look_at_streams(options: HealthzOptions, jetstream: JetStream) -> None:
    account = options.account
    if account not in ("", DEFAULT_ACCOUNT):
        text = f'JetStream account "{account}" not found'
        raise _Unhealthy(404, HealthError(type="ACCOUNT", account=account, error=text))
    if not options.stream:
        for stream in jetstream.streams.values():
            _check(stream)
        return
    found = jetstream.streams.get(options.stream)
    if found is None:
        text = f'JetStream stream "{options.stream}" not found on account "{account}"'
        raise _Unhealthy(404, HealthError(type="STREAM", account=account, stream=options.stream, error=text))
    _check(found)
    if options.consumer and not has_consumer(found, options.consumer):
        where = f'for stream "{options.stream}" on account "{account}"'
        error = HealthError(
            type="CONSUMER",
            account=account,
            stream=options.stream,
            consumer=options.consumer,
            error=f'JetStream consumer "{options.consumer}" not found {where}',
        )
        raise _Unhealthy(404, error)


def _check(stream: Stream) -> None:
    if stream.offline is not None:
        text = f"JetStream stream '{DEFAULT_ACCOUNT} > {stream.name}' could not be recovered"
        raise _Unhealthy(503, HealthError(type="STREAM", account=DEFAULT_ACCOUNT, stream=stream.name, error=text))
