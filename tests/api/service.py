"""A tiny service over the models and rules, enough to replay recorded requests that store no messages."""

from __future__ import annotations

from typing import Any

from streamd.api import errors
from streamd.api.consumer import (
    ConsumerConfig,
    ConsumerCreateRequest,
    ConsumerCreateResponse,
    ConsumerInfo,
    SequenceInfo,
)
from streamd.api.errors import ApiError
from streamd.api.metadata import dynamic
from streamd.api.stream import (
    StreamConfig,
    StreamConfigRequest,
    StreamCreateResponse,
    StreamDeleteResponse,
    StreamInfo,
    StreamState,
    StreamUpdateResponse,
)
from streamd.api.subjects import find
from streamd.state.consumer import consumer_create, consumer_named
from streamd.state.limits import Limits
from streamd.state.stream import stream_create, stream_equal, stream_update, subjects_overlap

VERSION = "2.15.2"


class Service:
    """Streams and consumers by name."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamConfig] = {}
        self.consumers: dict[tuple[str, str], ConsumerConfig] = {}
        self.limits = Limits()
        self.first: dict[str, int] = {}

    def ask(self, subject: str, body: bytes) -> bytes:
        """The answer to a request; b"" if there is none."""
        found = find(subject)
        if found is None:
            return b""
        endpoint, arguments = found
        assert endpoint.answer is not None
        try:
            if endpoint.refusal is not None:
                raise endpoint.refusal
            request = endpoint.read(body)
            handler = getattr(self, endpoint.handler, None)
            if handler is None:
                return b"?"
            return handler(request, *arguments)  # type: ignore[no-any-return]
        except ApiError as error:
            return endpoint.answer.failure(error)

    def info(self, name: str) -> StreamInfo:
        """As CREATE and UPDATE show it."""
        config = self.streams[name].model_copy()
        config.metadata = dynamic(config.metadata, VERSION)
        first = self.first[name]
        state = StreamState(first_seq=first, last_seq=max(first - 1, 0))
        return StreamInfo(config=config, created=0, state=state, ts=0)

    def overlap(self, config: StreamConfig) -> None:
        """10065."""
        for other in self.streams.values():
            if other.name != config.name and subjects_overlap(other.subjects, config.subjects):
                raise errors.SUBJECT_OVERLAP()

    def stream_create(self, request: StreamConfigRequest, name: str) -> bytes:
        """STREAM.CREATE."""
        config = stream_create(request, name, self.limits)
        if name in self.streams and not stream_equal(self.streams[name], config):
            raise errors.STREAM_NAME_EXISTS()
        self.overlap(config)
        self.first.setdefault(name, config.first_seq)
        self.streams[name] = config
        return StreamCreateResponse(info=self.info(name)).encode()

    def stream_update(self, request: StreamConfigRequest, name: str) -> bytes:
        """STREAM.UPDATE."""
        old = self.streams.get(name)
        if old is None:
            raise errors.STREAM_NOT_FOUND()
        config = stream_update(old, request, name, self.limits)
        self.overlap(config)
        self.first.setdefault(name, config.first_seq)
        self.streams[name] = config
        return StreamUpdateResponse(info=self.info(name)).encode()

    def stream_delete(self, _request: None, name: str) -> bytes:
        """STREAM.DELETE."""
        if self.streams.pop(name, None) is None:
            raise errors.STREAM_NOT_FOUND()
        self.consumers = {key: value for key, value in self.consumers.items() if key[0] != name}
        return StreamDeleteResponse().encode()

    def consumer_durable_create(self, request: ConsumerCreateRequest, *arguments: str) -> bytes:
        """CONSUMER.DURABLE.CREATE."""
        return self.consumer_create(request, *arguments, durable=True)

    def consumer_create(self, request: ConsumerCreateRequest, *arguments: str, durable: bool = False) -> bytes:
        """CONSUMER.CREATE."""
        config = consumer_named(request, *arguments, durable=durable)
        stream = self.streams.get(arguments[0])
        if stream is None:
            raise errors.STREAM_NOT_FOUND()
        key = (stream.name, config.name or "ephemera")
        old = self.consumers.get(key)
        config = consumer_create(config, stream, self.limits, old=old, action=request.action, pedantic=request.pedantic)
        count = sum(one[0] == stream.name for one in self.consumers)
        if old is None and 0 <= stream.max_consumers <= count:
            raise errors.CONSUMERS_MAX()
        self.consumers[key] = config
        shown = config.model_copy()
        shown.metadata = dynamic(config.metadata, VERSION)
        place = SequenceInfo(stream_seq=config.opt_start_seq - 1 if config.opt_start_seq else 0)
        info = ConsumerInfo(
            stream_name=stream.name,
            name=key[1],
            created=0,
            config=shown,
            delivered=place,
            ack_floor=place,
            ts=0,
        )
        return ConsumerCreateResponse.of(info).encode()


def neutral(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run: times, our level, names the server makes."""
    config = answer.get("config", {})
    config.get("metadata", {}).pop("_nats.level", None)
    for name in ("created", "ts"):
        answer.pop(name, None)
    if config.get("metadata", {}).get("_nats.req.level") == "2":
        config["metadata"]["_nats.req.level"] = "0"  # persist_mode async, which only the test lets in
    if config.get("subjects") == ["*"]:
        del answer["state"]  # this stream stored the recorder's own messages
    if "stream_name" in answer and len(answer["name"]) == 8:
        answer["name"] = "ephemera"
    return answer
