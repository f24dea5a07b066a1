"""Every error the API answers: one row per err_code.

Purpose:    `raise STREAM_NOT_FOUND()`; a row with a template takes its values by name:
            `SEQUENCE_NOT_FOUND(seq=7)`.
Guarantee:  an err_code has one row; each row has a test.
Source:     the error ADR (ADR-7); codes and texts of nats-server 2.15.2.
"""

from __future__ import annotations

from typing import Final

ROWS: Final[dict[int, Row]] = {}


class ApiError(Exception):
    """An error answer: HTTP-like code, err_code, and a text for people."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiError) and self.wire() == other.wire()

    def __hash__(self) -> int:
        return hash((self.err_code, self.description))

    def wire(self) -> dict[str, int | str]:
        """The `error` object of an answer."""
        return {"code": self.code, "err_code": self.err_code, "description": self.description}


class Row:
    """One err_code with its text; calling it makes the error."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        assert err_code not in ROWS
        self.code = code
        self.err_code = err_code
        self.description = description
        ROWS[err_code] = self

    def __call__(self, **values: object) -> ApiError:
        return ApiError(self.code, self.err_code, self.description.format(**values) if values else self.description)


RESOURCES_EXCEEDED = Row(400, 10002, "resource limits exceeded for account")
BAD_REQUEST = Row(400, 10003, "bad request")
INCOMPLETE = Row(503, 10004, "incomplete results")
NO_PEERS = Row(400, 10005, "{err}")
CLUSTER_NOT_ACTIVE = Row(500, 10006, "JetStream not in clustered mode")
CLUSTER_NOT_ASSIGNED = Row(500, 10007, "JetStream cluster not assigned to this server")
NOT_AVAILABLE = Row(503, 10008, "JetStream system temporarily unavailable")
CLUSTER_NOT_LEADER = Row(500, 10009, "JetStream cluster can not handle request")
CLUSTER_REQUIRED = Row(503, 10010, "JetStream clustering support required")
CLUSTER_TAGS = Row(400, 10011, "tags placement not supported for operation")
CONSUMER_CREATE = Row(500, 10012, "{err}")
CONSUMER_NAME_EXISTS = Row(400, 10013, "consumer name already in use")
CONSUMER_NOT_FOUND = Row(404, 10014, "consumer not found")
CONSUMER_DURABLE_MISMATCH = Row(400, 10017, "consumer name in subject does not match durable name in request")
CONSUMER_DURABLE_MISSING = Row(400, 10018, "consumer expected to be durable but a durable name was not set")
CONSUMER_EPHEMERAL_DURABLE = Row(400, 10020, "consumer expected to be ephemeral but a durable name was set in request")
INSUFFICIENT_RESOURCES = Row(503, 10023, "insufficient resources")
INVALID_JSON = Row(400, 10025, "invalid JSON: {err}")
CONSUMERS_MAX = Row(400, 10026, "maximum consumers limit reached")
STREAMS_MAX = Row(400, 10027, "maximum number of streams reached")
MEMORY_EXCEEDED = Row(500, 10028, "insufficient memory resources available")
ACCOUNT_NOT_FOUND = Row(503, 10035, "account not found")
CLUSTER_UNSUPPORTED = Row(503, 10036, "not currently supported in clustered mode")
MESSAGE_NOT_FOUND = Row(404, 10037, "no message found")
NOT_EMPTY_REQUEST = Row(400, 10038, "expected an empty request payload")
NOT_ENABLED_FOR_ACCOUNT = Row(503, 10039, "JetStream not enabled for account")
PEER_NOT_MEMBER = Row(400, 10040, "peer not a member")
SEQUENCE_NOT_FOUND = Row(400, 10043, "sequence {seq} not found")
SERVER_NOT_MEMBER = Row(400, 10044, "server is not a member of the cluster")
STORAGE_EXCEEDED = Row(500, 10047, "insufficient storage resources available")
STREAM_ASSIGNMENT = Row(500, 10048, "{err}")
STREAM_CREATE = Row(500, 10049, "{err}")
NOT_SUPPORTED = Row(500, 10050, "{what} not supported yet by streamd")  # nats-server's general stream error
STREAM_INVALID_CONFIG = Row(500, 10052, "{err}")
STREAM_NAME_MISMATCH = Row(400, 10056, "stream name in subject does not match request")
MESSAGE_DELETE = Row(500, 10057, "{err}")
STREAM_NAME_EXISTS = Row(400, 10058, "stream name already in use with a different configuration")
STREAM_NOT_FOUND = Row(404, 10059, "stream not found")
REPLICAS_NOT_UPDATABLE = Row(400, 10061, "Replicas configuration can not be updated")
SUBJECT_OVERLAP = Row(400, 10065, "subjects overlap with an existing stream")
STREAM_UPDATE = Row(500, 10069, "{err}")
REPLICAS_NOT_SUPPORTED = Row(500, 10074, "replicas > 1 not supported in non-clustered mode")
PEER_REMAP = Row(503, 10075, "peer remap failed")
NOT_ENABLED = Row(503, 10076, "JetStream not enabled")
STORE_FAILED = Row(503, 10077, "{err}")
DELIVER_WILDCARDS = Row(400, 10079, "consumer deliver subject has wildcards")
PUSH_MAX_WAITING = Row(400, 10080, "consumer in push mode can not set max waiting")
DELIVER_CYCLE = Row(400, 10081, "consumer deliver subject forms a cycle")
MAX_ACK_PENDING_POLICY = Row(400, 10082, "consumer requires ack policy for max ack pending")
HEARTBEAT_SMALL = Row(400, 10083, "consumer idle heartbeat needs to be >= 100ms")
PULL_EXPLICIT = Row(400, 10084, "consumer in pull mode requires explicit ack policy on workqueue stream")
PULL_RATE_LIMIT = Row(400, 10086, "consumer in pull mode can not have rate limit set")
PULL_HEARTBEAT = Row(400, 10088, "consumer idle heartbeat requires a push based consumer")
PULL_FLOW_CONTROL = Row(400, 10089, "consumer flow control requires a push based consumer")
DIRECT_PUSH = Row(400, 10090, "consumer direct requires a push based consumer")
DIRECT_EPHEMERAL = Row(400, 10091, "consumer direct requires an ephemeral consumer")
CONSUMER_POLICY = Row(400, 10094, "{err}")
SAMPLING = Row(400, 10095, "failed to parse consumer sampling configuration: {err}")
WORKQUEUE_EXPLICIT = Row(400, 10098, "workqueue stream requires explicit ack")
WORKQUEUE_MULTIPLE = Row(400, 10099, "multiple non-filtered consumers not allowed on workqueue stream")
WORKQUEUE_NOT_UNIQUE = Row(400, 10100, "filtered consumer not unique on workqueue stream")
WORKQUEUE_DELIVER_ALL = Row(400, 10101, "consumer must be deliver all on workqueue stream")
CONSUMER_NAME_LONG = Row(400, 10102, "consumer name is too long, maximum allowed is {max}")
CONSUMER_DESCRIPTION_LONG = Row(400, 10107, "consumer description is too long, maximum allowed is {max}")
FLOW_CONTROL_HEARTBEAT = Row(400, 10108, "consumer with flow control also needs heartbeats")
STREAM_SEALED = Row(400, 10109, "invalid operation on sealed stream")
STREAM_PURGE = Row(500, 10110, "{err}")
DELIVER_INVALID = Row(400, 10112, "invalid push consumer deliver subject")
MAX_BYTES_REQUIRED = Row(400, 10113, "account requires a stream config to have max bytes set")
MAX_EXPIRES_SMALL = Row(400, 10115, "consumer max request expires needs to be >= 1ms")
MAX_DELIVER_BACKOFF = Row(400, 10116, "max deliver is required to be > length of backoff values")
STREAM_OFFLINE = Row(500, 10118, "stream is offline")
CONSUMER_OFFLINE = Row(500, 10119, "consumer is offline")
MAX_ACK_PENDING_EXCEEDS = Row(400, 10121, "consumer max ack pending exceeds system limit of {limit}")
STREAM_BYTES_EXCEEDED = Row(400, 10122, "stream max bytes exceeds account limit max stream bytes")
MOVE_AND_SCALE = Row(400, 10123, "can not move and scale a stream in a single update")
MOVE_IN_PROGRESS = Row(400, 10124, "stream move already in progress")
MAX_BATCH_EXCEEDS = Row(400, 10125, "consumer max request batch exceeds server limit of {limit}")
CONSUMER_REPLICAS_EXCEED = Row(400, 10126, "consumer config replica count exceeds parent stream")
CONSUMER_NAME_PATH = Row(400, 10127, "Consumer name can not contain path separators")
STREAM_NAME_PATH = Row(400, 10128, "Stream name can not contain path separators")
RECONFIGURE_NOT_IN_PROGRESS = Row(400, 10129, "stream reconfiguration not in progress")
FILTER_MISMATCH = Row(400, 10131, "Consumer create request did not match filtered subject from create subject")
REPLICAS_NEGATIVE = Row(400, 10133, "replicas count cannot be negative")
CONSUMER_METADATA_LONG = Row(400, 10135, "consumer metadata exceeds maximum size of {limit}")
FILTERS_BOTH = Row(400, 10136, "consumer cannot have both FilterSubject and FilterSubjects specified")
FILTERS_API = Row(400, 10137, "consumer with multiple subject filters cannot use subject based API")
FILTERS_OVERLAP = Row(400, 10138, "consumer subject filters cannot overlap")
FILTERS_EMPTY = Row(400, 10139, "consumer filter in FilterSubjects cannot be empty")
CONSUMER_EXISTS = Row(400, 10148, "consumer already exists")
CONSUMER_MISSING = Row(400, 10149, "consumer does not exist")
INACTIVE_EXCEEDS = Row(400, 10153, "consumer inactive threshold exceeds system limit of {limit}")
PEDANTIC = Row(400, 10157, "pedantic mode: {err}")
DUPLICATE_IN_PROCESS = Row(409, 10158, "duplicate message id is in process")
LAST_SUBJECT_SEQUENCE_NOT_READY = Row(503, 10163, "expected last sequence per subject temporarily unavailable")
WRONG_LAST_SEQUENCE = Row(400, 10164, "wrong last sequence")
TOO_MANY_REQUESTS = Row(429, 10167, "too many requests")
ACK_WAIT_NEGATIVE = Row(400, 10183, "consumer ack wait needs to be positive")
BACKOFF_NEGATIVE = Row(400, 10184, "consumer backoff needs to be positive")
API_LEVEL_REQUIRED = Row(412, 10185, "JetStream minimum api level required")
STREAM_OFFLINE_REASON = Row(500, 10194, "stream is offline: {err}")
CONSUMER_OFFLINE_REASON = Row(500, 10195, "consumer is offline: {err}")
MEMBER_CHANGE_IN_FLIGHT = Row(400, 10202, "cluster member change is in progress")
RECONFIGURE_IN_PROGRESS = Row(400, 10226, "stream reconfiguration already in progress")
