"""Manual of the native engine: bytes in, bytes and events out.

Purpose:    the work per message: parse, match, fan out, encode, frame, index. Decisions are made above, per batch.
Guarantee:  no socket, clock, file or thread lives here; time is an argument (`now_ns`, nanoseconds since the epoch);
            no input can make it panic; memory is bounded by the limits given to `Engine`.
Threads:    one thread at a time may call an `Engine` and what belongs to it; `StreamState` and `ConsumerState` likewise.
Source:     the NATS client protocol; the JetStream ADRs for acks, deliveries and direct get.
"""

import builtins
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, final, overload

from typing_extensions import Buffer

__all__ = [
    "BUILD_PROFILE",
    "CLOSE",
    "CONNECT",
    "DRAINED",
    "FILLING",
    "INFO",
    "INTEREST",
    "PONG",
    "STALL",
    "TAP",
    "AckOutcome",
    "Admission",
    "Batch",
    "Cipher",
    "ConsumerState",
    "CorruptRecord",
    "Delivery",
    "Engine",
    "Message",
    "Payload",
    "Record",
    "Records",
    "StanGroup",
    "StanPublishers",
    "StanSorted",
    "StreamState",
    "count_matching",
    "frame_decode",
    "packed",
    "pick",
    "record_decode",
    "record_encode",
    "record_key",
    "refuse_batch",
    "reply_direct",
    "select",
    "stan_channel_valid",
    "stan_reply",
    "stan_reply_headers",
    "subject_collides",
    "subject_matches",
    "subject_subset",
    "subject_valid",
    "unpack",
    "verify_pages",
]

BUILD_PROFILE: Final[str]  # "release" or "debug": benchmarks refuse the latter

# Events of a turn: (kind, conn | tap | watch, detail). Kinds:
CONNECT: Final[int]  # conn, the JSON text of CONNECT as bytes; its parsing waits for `connected` or `fail`
CLOSE: Final[int]  # conn, reason (the closed reasons of connz); its output, an -ERR included, comes in the same turn
TAP: Final[int]  # tap, None: the tap went from empty to not empty
FILLING: Final[int]  # tap, None: it has more than 128 KB since the last `take`; its TAP came before
INTEREST: Final[int]  # watch, True | False
# conn of a producer that outruns a consumer or a route (75 % of max_pending) or a full tap: pause its reading. A route is
# named only for a full tap.
STALL: Final[int]
DRAINED: Final[int]  # conn: fell below a quarter of max_pending after `notify_drained`, or is gone
INFO: Final[int]  # conn of a route, the JSON text of INFO as bytes. Its CONNECT waits for `route_welcome` or `fail`
PONG: Final[int]  # conn of a route, None: it answered a PING
Event: TypeAlias = tuple[int, int, Any]
# What one call brought about: what to write, each to the owner given at `open`; then events. None: nothing. Large output is
# read-only memory on loan, which is used again once nobody refers to it.
Turn: TypeAlias = tuple[list[tuple[Any, bytes | memoryview]], list[Event]] | None

@final
class Engine:
    """Connections, accounts (a subject trie each), taps and watches.

    Output and events collect inside until a call that returns a `Turn` hands them over: `feed`, `connected` and `flush`.
    Whoever calls anything else (publish, ack, deliver ...) lets `flush` follow in the same loop callback.
    """

    def __new__(
        cls,
        *,
        max_payload: int = ...,
        max_control_line: int = 4096,
        max_pending: int = ...,
        max_subscriptions: int = 0,
        max_subscription_tokens: int = 0,
        tap_bytes_max: int = ...,
        seed: int = 0,
    ) -> Engine:
        """Units: bytes; 0 means unlimited for the two subscription limits. `seed` drives the choice in queue groups."""

    def open(self, owner: object, account: str, greeting: bytes, *, auth_required: bool = False) -> int:
        """Take in a client; `greeting` (its INFO line) is its first output. Until CONNECT verbose and pedantic hold,
        as in nats-server. Returns conn: ids are never reused."""

    def close(self, conn: int) -> None:
        """Forget a client and its subscriptions. Unknown ids are ignored."""

    def feed(self, conn: int, data: Buffer, size: int) -> Turn:
        """Parse data[:size], deliver all that may be delivered. Only an incomplete tail is kept (a whole control line or
        payload at most). After CLOSE was returned for a conn, or when it is unknown, its bytes are dropped."""

    def connected(
        self,
        conn: int,
        *,
        account: str,
        verbose: bool,
        pedantic: bool,
        echo: bool,
        headers: bool,
        no_responders: bool,
        after_pong: bytes | None = None,
    ) -> Turn:
        """Answer a CONNECT event: settles the options (a second CONNECT drops the subscriptions first), sends +OK if
        verbose and goes on parsing. `after_pong` is sent once, right behind the first PONG (a further INFO)."""

    # Routes: connections to other servers of the cluster. feed, write, ping, activity, pause, resume, fail, notify_drained,
    # connection and close work as for clients.

    def open_route(self, owner: object) -> int:
        """Take in a connection to another server; nothing is sent by itself. Returns conn. Its CONNECT and INFO lines come
        as events, its PING is answered. What else it sends waits (4 MiB at most, then it is closed) for `route_ready`."""

    def route_welcome(self, conn: int) -> None:
        """The CONNECT of whoever dialed is in order: what came behind it is parsed, so that its PING is answered."""

    def route_ready(
        self, conn: int, *, server_id: str, account: str | None = None, without: Sequence[str] = ...
    ) -> None:
        """The peer has shown that it is `server_id`: this connection carries the messages and interest of `account` alone,
        or of all accounts but `without`. All interest of clients and taps here is sent (RS+), then its changes; what the
        peer sent ahead is applied. Whatever account a line of the peer names is accepted. If a connection to the same peer
        with the same accounts is ready already, nothing more is sent there. Called once a connection.

        A route that the peer ends with -ERR is closed with its text as the reason; a malformed line with -ERR 'Parser Error'.
        Pending output above max_pending, at least 256 MiB, is a slow consumer."""

    def routes(self) -> list[dict[str, int]]:
        """Of every route: conn, in_msgs, in_bytes, out_msgs, out_bytes, pending_bytes, subscriptions (interest of the peer)."""

    def fail(self, conn: int, text: str | None, reason: str) -> None:
        """Send -ERR 'text' (None: nothing) and close: a CLOSE event with `reason` follows in the next turn."""

    def write(self, conn: int, data: bytes) -> None:
        """Queue protocol bytes of our own (an INFO) for one client."""

    def announce(self, conn: int, line: bytes) -> None:
        """Queue a later INFO line for a client: at once, or in place of `after_pong` where that is still to come."""

    def ping(self, conn: int) -> tuple[int, int]:
        """Queue a PING. Returns (PINGs unanswered before it, bytes received so far), for timers above."""

    def activity(self, conn: int) -> tuple[int, int]:
        """(PINGs unanswered, bytes received so far)."""

    def pause(self, conn: int) -> None:
        """The transport is full: keep output here until `resume`."""

    def resume(self, conn: int) -> None:
        """The transport takes output again; what is pending comes with the next turn."""

    def flush(self) -> Turn:
        """Hand over the output and events that calls other than feed and connected caused."""

    def notify_drained(self, conn: int) -> None:
        """Ask for one DRAINED event."""

    # Subscriptions of the server itself.

    def tap(self, account: str, *, discard: bool = False) -> int:
        """A receiver that is Python. With `discard` it counts as a responder and drops what it gets."""

    def tap_add(self, tap: int, subject: str, queue: str | None = None) -> None:
        """Bind a subject (wildcards allowed). Raises ValueError for a malformed one."""

    def tap_remove(self, tap: int, subject: str) -> None: ...
    def untap(self, tap: int) -> None: ...
    def take(self, tap: int, limit_bytes: int = 0) -> Batch | None:
        """What the tap holds, oldest first, up to about limit_bytes (0: all); the next message then raises TAP anew once
        empty, and a remainder raises it with the next turn. Producers stalled on the tap get going by their own timer."""

    def watch(self, account: str, subject: str, queue: str | None = None) -> int:
        """Tell by INTEREST events whether clients here (taps don't count) or anybody on other servers subscribes to a
        literal subject: plain subscriptions for queue None, members of that group otherwise. The first state is
        `interested`; events tell changes only."""

    def interested(self, watch: int) -> bool: ...
    def unwatch(self, watch: int) -> None: ...
    def heard(self, account: str, subject: str) -> bool:
        """Whether anybody takes what is published on a literal subject: clients, taps or other servers."""

    def publish(
        self,
        account: str,
        subject: str,
        payload: bytes | Sequence[bytes] | None = None,
        *,
        reply: str | None = None,
        headers: bytes | None = None,
    ) -> int:
        """Publish as the server, a payload in one piece or in several; taps receive it too. `headers` is a whole block
        (NATS/1.0 ... blank line).
        Returns how many subscriptions took it; another server counts once, and once more for each queue group."""

    def statistics(self) -> dict[str, int]:
        """connections and subscriptions (those of routes don't count), in_msgs, in_bytes, out_msgs, out_bytes,
        slow_consumers, stalled_clients, taps, num_cache (match cache entries), pending_bytes."""

    def connection(self, conn: int) -> dict[str, int]:
        """in_msgs, in_bytes, out_msgs, out_bytes, pending_bytes, subscriptions."""

@final
class Message:
    """One message of a batch, for services whose requests are rare."""

    subject: str  # undecodable bytes as surrogateescape
    reply: str  # "" when there is none
    headers: bytes  # b"" when there are none
    payload: bytes
    conn: int  # 0: the server itself; a route for what came over one

@final
class Payload:
    """The payload of a message, in its batch."""

    def __bytes__(self) -> bytes: ...

@final
class Batch:
    """Messages of one tap in the order of arrival, columns over one arena."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Message: ...
    def payloads(self) -> list[Payload]:
        """Those of all messages, which stay where they are."""

    def size(self) -> int:
        """Bytes held."""

    def headed(self) -> list[int]:
        """Where the messages are that have headers."""

    def without(self, others: Sequence[Batch]) -> Batch:
        """The messages that the others don't have, in order: each of theirs stands for one of these, whoever published it."""

    def encode(self) -> bytes:
        """All of it but `conn`, for the log of a replicated stream."""

    def encode_behind(self, prefix: bytes) -> bytes:
        """The prefix, the length of what `encode` gives as u32 (little endian), and that."""

    @classmethod
    def decode(cls, data: Buffer) -> Batch:
        """What `encode` gave; bytes, and what a view shows of some, aren't copied. Errors: ValueError for anything else."""

def subject_valid(subject: str, *, wildcards: bool) -> bool:
    """Tokens non-empty, no whitespace or NUL; `*` and `>` as whole tokens only count as wildcards (else: literals),
    and a wildcard token makes it invalid unless `wildcards`."""

def subject_matches(pattern: str, subject: str) -> bool:
    """A literal subject against a pattern."""

def subject_collides(first: str, second: str) -> bool:
    """Whether some literal subject matches both patterns."""

def subject_subset(inner: str, outer: str) -> bool:
    """Whether every literal subject that matches `inner` matches `outer`."""

# ---------------------------------------------------------------------------------------------------------------------
# The log of a stream. A record is the stored form of one message:
#   0  u32 crc32c of all that follows | 4 u8 flags (bit 0: headers, bit 1: sealed) | 5 u64 sequence | 13 i64 timestamp ns
#   21 u16 subject length | 23 u32 header length | 27 subject, headers, payload          (little endian)
# A sealed payload is a byte that names the cipher (1: AES, 2: CHACHA), a nonce of 12, what was sealed, and a tag of 16; it
# covers flags, sequence, timestamp, subject and headers too. Nothing here but `Cipher.opened` reads such a record.
# Its key in a store is the sequence as 8 bytes, big endian. Those that a commit appends together share entries of the store,
# packs (engine/src/codec/pack.rs).

@final
class Record:
    """One decoded record."""

    sequence: int
    timestamp_ns: int
    subject: str
    headers: bytes
    payload: bytes

def record_key(sequence: int) -> bytes: ...
def record_decode(value: bytes) -> Record:
    """Raises CorruptRecord (a ValueError) if the checksum or a length is wrong, or the payload is sealed."""

def record_encode(sequence: int, timestamp_ns: int, subject: str, headers: bytes, payload: bytes) -> bytes:
    """For an import: a record that was not admitted here. Raises ValueError if the subject is beyond 65,535 bytes."""

class CorruptRecord(ValueError): ...

def frame_decode(
    data: bytes | Payload,
) -> tuple[str, str, list[tuple[int, str, int, int, int, int, int, tuple[tuple[int, bytes], ...]]], bool] | None:
    """A frame of streamd.raft.envelope: sender, receiver, the fields of its messages, and whether any of them has an entry
    with a configuration, which isn't looked at. None if it isn't a frame."""

def unpack(entries: Sequence[bytes], from_seq: int) -> list[bytes]:
    """The records of a log's entries, as `Records.packs` made them, from a sequence on. Errors: CorruptRecord if the head of
    a pack is damaged; the records themselves aren't looked at."""

def pick(entries: Sequence[Buffer], sequences: Sequence[int]) -> list[bytes | None]:
    """One record of each entry, None where it has none of that sequence; an entry is the first whose key is that of the
    sequence or of a later one, b"" if there is none. Errors: CorruptRecord if a head is damaged, or an entry lies where
    another should."""

def packed(keys: Sequence[bytes]) -> int:
    """How many records lie under the keys of a log."""

def select(values: Sequence[bytes], filters: Sequence[str]) -> list[int]:
    """Sequences of the records that match any of the filters (none: all), in the order given. Errors: CorruptRecord."""

def count_matching(values: Sequence[bytes], filters: Sequence[str]) -> int:
    """How many records match any of the filters (none: all). Errors: CorruptRecord."""

@final
class Records:
    """Records in one piece of memory, ascending: what a commit appends, and afterwards a piece of a log's tail."""

    first_seq: int  # of the first record; 0 if there is none
    last_seq: int
    size: int  # bytes of memory that it takes

    def __new__(cls, pairs: Iterable[tuple[bytes, bytes]] | None = None) -> Records:
        """From (key, value). Errors: ValueError if the keys aren't those of ascending sequences."""

    @staticmethod
    def entries(entries: Iterable[tuple[int, int, bytes]]) -> Records:
        """From (sequence, timestamp, payload), of no subject. Errors: ValueError if sequences don't ascend."""

    @staticmethod
    def unpacked(entry: bytes) -> Records:
        """The records of one entry of a log. Errors: CorruptRecord."""

    def __len__(self) -> int:
        """How many records there are."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of each record; made as the walk goes."""

    def packs(self, bytes_max: int) -> Iterator[tuple[bytes, Buffer]]:
        """(key, value) of each entry of a log, as `lmdb.Cursor.putmulti` takes them: as many records as fit into so many bytes,
        one at least. Made as the walk goes: as bytes, or as a view that stays as it is, of a big one that is alone."""

    def read(self, from_seq: int, limit: int) -> list[bytes]:
        """Up to `limit` records from a sequence on."""

    def get(self, sequence: int) -> bytes | None:
        """One record."""

    def matching(self, filters: Sequence[str]) -> int:
        """How many match any of the filters (none: all)."""

    def extend(self, more: Records) -> None:
        """Take copies of more records in. Errors: ValueError if they aren't above those that are here."""

    def sealed(self, cipher: Cipher) -> Records:
        """The same records with their payloads sealed. Errors: CorruptRecord, also if one is sealed already."""

    def discard(self, keys: Sequence[bytes]) -> None:
        """Take records out; keys that aren't here are ignored."""

    def discard_range(self, low: int, high: int) -> None:
        """Take low <= sequence < high out."""

@final
class Cipher:
    """One key for payloads: AES-256-GCM or ChaCha20-Poly1305."""

    name: str  # "AES" or "CHACHA": how it seals

    def __new__(cls, key: bytes, nonce: bytes, name: str | None = None) -> Cipher:
        """Shapes: a key of 32 bytes; a nonce of 12, the first to be used, of which the last 8 bytes count up (big endian). No
        nonce may come twice with one key: start with random bytes and the time in ns. `name` None: AES if the processor
        has instructions for it. Errors: ValueError."""

    @overload
    def opened(self, values: Sequence[bytes]) -> list[bytes]: ...
    @overload
    def opened(self, values: Sequence[bytes | None]) -> list[bytes | None]:
        """Records with plain payloads; those that aren't sealed, and None, as they are. Each is opened by the cipher that it
        names. Errors: CorruptRecord naming the sequence: damaged, or another key's."""

@final
class Admission:
    """What admitting one batch came to. The state has already changed; acks go out once `records` are durable."""

    first_seq: int  # of the messages that were given a sequence; 0 if none
    last_seq: int
    records: Records  # without those that the same batch superseded
    deletes: list[bytes]  # keys of older records that must go (per-subject limits), ascending
    purges: list[tuple[str, int]]  # rollups: (subject or "" for all, delete below this sequence) beyond `deletes`
    rolled_up: bool  # whether `purges` names all: the machine has forgotten everything before that message already
    ids: bytes  # message ids to remember, one opaque segment; b"" when none
    over: bool  # limits are exceeded: `StreamState.trim` must be called with the first records
    stored: int  # messages stored
    refused: int  # messages answered with an error
    duplicates: int

    def ack(self, engine: Engine) -> None:
        """Publish every PubAck (or error) to its reply subject, framed natively.
        Shape: {"stream":"S","seq":N} / {"stream":"S","seq":N,"duplicate": true} / {"error":{...},"stream":"S","seq":0}."""

    def refuse(self, engine: Engine, code: int, err_code: int, description: str) -> None:
        """Instead of `ack`: the same error to every publisher that waits, as when the disk is full."""

def refuse_batch(
    batch: Batch, engine: Engine, stream: str, code: int, err_code: int, description: str, *, account: str = "$G"
) -> None:
    """The same PubAck error to every message of a batch that was not admitted."""

@final
class StreamState:
    """Deterministic machine of one stream: which message gets which sequence, what the limits remove, which id was seen.

    It knows subjects, counts and sequences, never payloads; records of the past come as arguments.
    Limits follow the StreamConfig of the JetStream API; -1 (0 for the window) means none.
    """

    def __new__(
        cls,
        name: str,
        *,
        max_msgs: int = -1,
        max_bytes: int = -1,
        max_msgs_per_subject: int = -1,
        max_msg_size: int = -1,
        max_age_ns: int = 0,
        discard_new: bool = False,
        discard_new_per_subject: bool = False,
        duplicate_window_ns: int = 0,
        no_ack: bool = False,
        allow_rollup: bool = False,
        deny_purge: bool = False,
        sealed: bool = False,
        keep_newest: bool = False,
        memory: bool = False,
        first_seq: int = 1,
        account: str = "$G",
        channel_len: int = 0,
    ) -> StreamState:
        """`account`: where acks are published. keep_newest: max_msgs and max_bytes never remove the newest message.
        channel_len: of the name, in bytes, if this is a channel of NATS Streaming, whose way of counting bytes then holds."""

    def configure(self, **limits: Any) -> bool:
        """New limits (the names of __new__ but name, memory, first_seq, account and
        channel_len). True: per-subject queues are needed
        (max_msgs_per_subject, allow_rollup) that were not kept so far, so `rebuild` must follow at once."""

    def rebuild(self) -> int:
        """Start over from all records, keeping what is known of deletions and message ids. Returns the sequence from which
        on the caller feeds `replay`; then `replayed`, and a `checkpoint` soon: until that is stored, a restore reads all
        records."""

    def statistics(self) -> dict[str, int]:
        """message_ids (in the window), inexact_subjects (those whose last sequence is a bound), names_bytes."""

    messages: int
    bytes: int  # as nats-server counts: file 30 + subject + body (+ 4 + headers if any); memory 16 + all
    first_seq: int
    last_seq: int
    first_ts_ns: int  # 0: unknown or empty; set by `note_first`
    last_ts_ns: int
    num_subjects: int
    num_deleted: int  # interior deletes

    def admit(self, batch: Batch, now_ns: int) -> Admission:
        """Check and number a batch. Per message, in the order of interop (sealed 10109, size 10054, headers 10097,
        Nats-Expected-Stream 10060, -Last-Subject-Sequence (and -Subject) 10071, -Last-Sequence 10071, Nats-Msg-Id,
        Nats-Expected-Last-Msg-Id 10070, Nats-Rollup 10111, discard-new limits 10077).

        Units: the timestamp given is now_ns, or last_ts_ns if the clock fell behind it. As in nats-server the last message
        id is that of the last message, empty if it had none. A subject beyond 65,535 bytes is refused with 10077; an
        expectation on a subject of which only a bound is known (see `unresolved`) with 10163.
        """

    def fits(self, batch: Batch) -> bool:
        """Whether the batch can be admitted while the log still lacks messages that were admitted before: no limit removes the
        oldest for it, and nothing is `unresolved`."""

    def unresolved(self, batch: Batch) -> list[str]:
        """Subjects whose last sequence the expectations in this batch need and of which only a bound is known: find their
        last message at or below `last_of` and tell `note_last`, then admit. Almost always empty, and then cheap."""

    def inexact(self, filters: Sequence[str]) -> list[str]:
        """The matching subjects of which only a bound of the last sequence is known."""

    def note_last(self, subject: str, sequence: int) -> None:
        """Tell the last sequence of a subject as found in the log; of no effect where a last message is known already."""

    def note_first(self, sequence: int, timestamp_ns: int) -> None:
        """Tell the timestamp of the first message; of no effect if another one is the first by now."""

    def trim(self, values: Sequence[builtins.bytes], now_ns: int, *, below_seq: int = 0) -> tuple[int, int]:
        """Remove from the front what exceeds the limits or the age or lies below below_seq.
        Shapes: values are the first records of the log in order. Returns (how many of them go, the first timestamp that
        is left among `values`, 0 if none of them is left). Call again with more while `over` holds.
        Values that are dead already (superseded, deleted) may be among them and go along. Errors: CorruptRecord, also if a
        live sequence at the front has no value; nothing is changed then."""

    def over(self) -> bool: ...
    def remove(self, values: Sequence[builtins.bytes]) -> int:
        """Account for records that are deleted, wherever they lie; dead ones count nothing. Returns their bytes.
        Errors: CorruptRecord; nothing is changed then."""

    def reset(self, next_seq: int) -> None:
        """Purge all: nothing is left, the next message gets next_seq."""

    def check(self, from_seq: int, values: Sequence[builtins.bytes], *, to_seq: int = 0) -> int:
        """Verify checksums and that no live sequence from from_seq to the last of `values` (or to_seq) is missing.
        Returns the last sequence covered. Errors: CorruptRecord naming the sequence. A sequence without a record of its
        deletion is corruption."""

    def live(self, sequence: int) -> bool:
        """Whether that sequence is stored and not deleted."""

    def live_between(self, low: int, high: int) -> int:
        """How many sequences in [low, high] are live."""

    def deleted(self, limit: int) -> list[int]: ...
    def subjects(self, pattern: str, offset: int, limit: int) -> list[tuple[str, int]]:
        """(subject, messages), sorted by subject; pattern `>` is all."""

    def bounds(self, filters: Sequence[str]) -> tuple[int, int, int]:
        """(lower bound of the first, upper bound of the last sequence, exact count) of matching messages; zeros if none."""

    def pending(self, filters: Sequence[str], from_seq: int) -> tuple[int, bool]:
        """(how many matching messages have at least this sequence, True), or (0, False) if the index can't tell and the
        caller must scan (`count_matching`). Without filters, and where queues are kept, it always can."""

    def last_of(self, subject: str) -> tuple[int, bool]:
        """(sequence of the subject's last message or 0, whether that is exact; if not it is an upper bound: the caller
        looks downwards for the subject)."""

    def last_per_subject(self, filters: Sequence[str]) -> list[int]:
        """Last sequences of every matching subject, ascending; bounds for those that `inexact` names."""

    def excess(self, limit: int) -> list[int]:
        """Sequences that exceed max_msgs_per_subject, the oldest of each subject, ascending, at most `limit`."""

    def direct(self, batch: Batch, prefix: str) -> list[int]:
        """Sequences asked for by direct-get requests, one per message: > 0 a live sequence to read, 0 not found,
        -1 leave it to Python (anything but {seq}, {last_by_subj} or the subject form after `prefix`)."""

    def delta(self) -> tuple[builtins.bytes, builtins.bytes]:
        """What changed since the last call, for the transaction that stores it: (totals, overwriting the one before;
        removals, appended to those since the last checkpoint, b"" if none). Both carry checksums."""

    def checkpoint(self) -> builtins.bytes:
        """The whole index up to last_seq, with a checksum, to be stored with the next commit: removals refer to it from now
        on."""

    def snapshot(self) -> builtins.bytes:
        """The bytes of a checkpoint for somebody else. Nothing changes: removals refer to the one that is stored, as before."""

    @classmethod
    def restore(
        cls,
        name: str,
        checkpoint: builtins.bytes | None,
        removals: Iterable[builtins.bytes],
        totals: builtins.bytes | None,
        **limits: Any,
    ) -> tuple[StreamState, int]:
        """The state at the checkpoint (None: the empty stream) with the removals since; the caller then feeds the records
        from the returned sequence on to `replay` and ends with `replayed`. If the limits need queues that the checkpoint
        lacks, that is the first live sequence, as after `rebuild`.
        Errors: CorruptRecord for any part that is damaged."""

    def replay(self, values: Sequence[builtins.bytes]) -> None:
        """Index records (ascending) that the checkpoint didn't know."""

    def replayed(self) -> bool:
        """Compare with the stored totals (none: True); False: the parts disagree, a record or its deletion is missing.
        Rebuild from all records: `restore(name, None, (), None)`, where every gap counts as deleted."""

    def replay_ids(self, segments: Iterable[builtins.bytes], now_ns: int) -> None:
        """Remember the message ids of `Admission.ids` segments, oldest first, that are still within the window. After a restore
        that is as of last_ts_ns: then what is known is what the machine knew that stored them."""

    def expire_ids(self, now_ns: int) -> None:
        """Forget the message ids that are out of the window by a time. For when the window changes: call it before `configure`,
        and store `ids` in the place of all segments before the new window, which a restart would apply to them."""

    def ids(self) -> builtins.bytes:
        """All message ids of the window as one segment; b"" if there are none."""

    def ids_expired(self, segment: builtins.bytes, now_ns: int) -> bool:
        """Whether a stored segment may be dropped."""

def reply_direct(
    engine: Engine,
    batch: Batch,
    stream: str,
    values: Sequence[bytes | None],
    skip: Sequence[bool],
    *,
    account: str = "$G",
) -> None:
    """Answer direct gets: the record's body with its own headers and Nats-Stream, Nats-Subject, Nats-Sequence,
    Nats-Time-Stamp; None: 404 Message Not Found; those in `skip` are left alone."""

def verify_pages(data: Buffer, page_size: int, *, thorough: bool = False) -> list[tuple[bytes | None, str]]:
    """Check the pages of an LMDB 0.9 file as bytes or mapped: metas, free list, and every page reachable from the newest
    meta (one owner each, types, node bounds, key order, counts). Without `thorough` leaves that hold records are believed
    beyond their headers.

    Returns what is wrong and on which page, each with the name of the database that it is confined to; None: it concerns
    all, and nothing behind it was looked at.
    """

# ---------------------------------------------------------------------------------------------------------------------
# Consumers.

@final
class Delivery:
    """What one call of deliver came to."""

    consumed: int  # of the values given: delivered or passed over by the filter
    delivered: int
    # why it ended: 0 values used up or bytes_max reached (go on with the rest), 1 no request, 2 max_ack_pending,
    # 3 receiver congested, 4 no interest, 5 window, 6 the next record is younger than upto_ts_ns
    blocked: int
    conn: int  # the congested connection (blocked 3)
    bytes: int
    last_seq: int  # stream sequence of the last value consumed

@final
class AckOutcome:
    """What one batch of acks came to. Confirmations wait inside until `confirm`."""

    settled: int  # messages that left pending, or had been given up for max_deliver before
    settled_seqs: list[int]  # their stream sequences
    late: list[int]  # stream sequences acked though not pending any more: a work queue may hold some of them still
    changed: bool  # what `encode` stores has changed
    redeliver: bool  # the redelivery queue is not empty
    naks: list[tuple[int, int, int]]  # (consumer_seq, stream_seq, deliveries); `deadline_ns` may come earlier
    terms: list[tuple[int, int, int, str]]  # and the reason; settled messages included (the advisory is sent again)
    nexts: list[tuple[str, bytes]]  # +NXT: (reply, request body)
    acked: list[tuple[int, int, int, int]]  # with `sampling`: (consumer_seq, stream_seq, deliveries, delivered at ns)

    def confirmations(self) -> int: ...
    def confirm(self, engine: Engine, account: str) -> None:
        """Answer those who asked for it with an empty message, once: a second call does nothing."""

@final
class ConsumerState:
    """Deterministic machine of one consumer: what was delivered, what is pending, what comes again, who waits for it.

    Source: nats-server 2.15.2. Sequences: consumer_seq counts deliveries, stream_seq is the log's.
    """

    def __new__(
        cls,
        stream: str,
        name: str,
        *,
        ack_policy: str,  # "none" | "all" | "explicit"
        ack_wait_ns: int = ...,
        backoff_ns: Sequence[int] = ...,  # none
        max_deliver: int = ...,  # -1: no limit
        max_ack_pending: int = ...,  # -1: no limit
        max_waiting: int = 512,
        filters: Sequence[str] = ...,  # none: all
        headers_only: bool = False,
        sampling: bool = False,
        flow_control: bool = False,
        next_seq: int = 1,
    ) -> ConsumerState: ...
    def configure(
        self,
        *,
        ack_wait_ns: int | None = None,
        backoff_ns: Sequence[int] | None = None,
        max_deliver: int | None = None,
        max_ack_pending: int | None = None,
        max_waiting: int | None = None,
        filters: Sequence[str] | None = None,
        headers_only: bool | None = None,
        sampling: bool | None = None,
    ) -> None:
        """New options (as in __new__); those not named stay. Running waits are shifted by what ack_wait or backoff changed."""

    next_seq: int  # stream sequence to look at next; may be set, but not to what was delivered (that takes `reset`)
    delivered_consumer_seq: int
    delivered_stream_seq: int
    delivered_at_ns: int
    ack_floor_consumer_seq: int
    ack_floor_stream_seq: int
    acked_at_ns: int
    num_pending: int  # matching, not yet delivered once; kept by the caller (set) and counted down by deliver
    num_ack_pending: int
    num_redelivered: int
    num_waiting: int
    num_queued: int  # messages in the redelivery queue
    # messages that the waiting requests still ask for: a no_wait request that finds num_pending + num_queued above 0 but
    # below it is answered `408 Requests Pending` instead of being queued
    demand: int
    deadline_ns: int  # when `expire` has something to do next, 0 if never; look after deliver and ack

    def reset(self, sequence: int) -> None:
        """Begin anew at a sequence: nothing is pending, deliveries count from 1, waiting requests stay."""

    def pending_list(self, limit: int) -> list[tuple[int, int, int, int]]:
        """(stream_seq, consumer_seq of the first delivery, last delivered at ns, deliveries), oldest first."""

    def blocked(self) -> int:
        """0, or 2 when max_ack_pending holds back new messages."""

    # waiting pull requests, served round robin, one message each

    def request(
        self,
        reply: str,
        *,
        batch: int,
        max_bytes: int = 0,
        expires_at_ns: int = 0,
        no_wait: bool = False,
        heartbeat_ns: int = 0,
        now_ns: int = 0,
    ) -> bool:
        """Queue a pull request (batch 0 counts as 1). False: max_waiting is reached; `requests_tick` makes room if some
        have nobody waiting for them."""

    def waiting(self) -> list[str]:
        """The inboxes of the waiting requests, the oldest first."""

    def requests_end(self, engine: Engine, account: str, status: str, *, counts: bool = False) -> int:
        """End every waiting request with a status line such as `409 Consumer Deleted` (`counts`: with what was pending)."""

    def requests_tick(self, engine: Engine, account: str, now_ns: int) -> int:
        """Send due heartbeats and `408 Request Timeout`; drop requests without interest. Returns the next moment (ns) at
        which something is due, 0 if never."""

    def requests_drained(self, engine: Engine, account: str) -> None:
        """The end of the log is reached: end no_wait requests with `404 No Messages` (nothing delivered, no expiry),
        and those that got something and are no_wait with expiry."""

    # deliveries

    def deliver(
        self,
        engine: Engine,
        account: str,
        values: Sequence[bytes],
        now_ns: int,
        *,
        deliver_subject: str = "",
        deliver_group: str = "",
        bytes_max: int = ...,
        upto_ts_ns: int = 0,
        redelivery: bool = False,
    ) -> Delivery:
        """Frame and send records: to deliver_subject, or to the waiting requests when that is "".

        Shapes: values ascend for new messages (from next_seq on; records that the filter passes over are allowed), and are
        in the order of `due` for a redelivery. The subject shown is the stored one, the reply the v1 ack subject with the
        messages left (num_pending) at its end. upto_ts_ns: stop before a younger record (replay original).
        A message that nobody took (no interest, request gone) doesn't count: it comes first next time. A redelivery of
        what isn't queued any more is consumed without being sent; for a sequence of `due` without a record call `forget`.
        Errors: CorruptRecord; the records before the damaged one are delivered, as next_seq and due tell.
        """

    def due(self, now_ns: int, limit: int) -> list[int]:
        """Stream sequences to deliver again in the order of redelivery (those that expired by now in the order of the
        stream, those given back in the order of their NAKs), at most limit. They stay queued until delivered."""

    def expire(self, now_ns: int) -> tuple[int, list[tuple[int, int]]]:
        """Move what waited longer than ack_wait (or its backoff, or a nak's delay) to the redelivery queue.
        Returns (next deadline in ns, 0 if none; exhausted [(stream_seq, deliveries)] that reached max_deliver). Those
        leave num_ack_pending only; a later ack still settles them. At most 16,384 are remembered, the youngest."""

    def forget(self, sequences: Sequence[int]) -> list[tuple[int, int, int]]:
        """Messages that were deleted from the stream: settle them. Returns the pending ones among them
        (consumer_seq, stream_seq, deliveries)."""

    def purged(self, sequence: int) -> None:
        """All below `sequence` was purged, and `forget` told of: it counts as delivered, and as settled if nothing is
        pending."""

    def forget_below(self, sequence: int) -> list[tuple[int, int, int]]:
        """The same for everything below `sequence`; next_seq moves up to it."""

    def ack(self, batch: Batch, now_ns: int) -> AckOutcome:
        """Decode and apply +ACK, -NAK, +WPI, +TERM, +NXT by the tokens of their subjects ($JS.ACK, v1 and v2 form).
        Subjects of other consumers are ignored."""

    # flow control and heartbeats of push consumers

    def flow_answered(self, subject: str) -> bool:
        """A client answered a flow control request; True if it was the open one (the window grows, delivery goes on)."""

    def flow_reset(self) -> None:
        """Interest in the deliver subject came or went: nothing is on its way, the window starts anew."""

    def heartbeat(self, engine: Engine, deliver_subject: str, account: str) -> None:
        """Send `100 Idle Heartbeat` with Nats-Last-Consumer, Nats-Last-Stream, and Nats-Consumer-Stalled when blocked."""

    # persistence

    def encode(self) -> bytes:
        """Delivered, floors, pending and redelivery counts, with a checksum. Requests, num_pending and NAKs are not kept:
        after a restart pending messages wait on from their last delivery (or +WPI)."""

    def decode(self, data: bytes) -> None:
        """Take over what `encode` gave. Errors: CorruptRecord; then nothing has changed."""

# ---------------------------------------------------------------------------------------------------------------------
# NATS Streaming.

def stan_channel_valid(name: str) -> bool:
    """Whether a channel may have this name: literal, no empty token, no `/`; spaces and UTF-8 are allowed."""

def stan_reply_headers(reply: bytes) -> bytes:
    """The header block in which a message is stored that names a reply subject."""

def stan_reply(headers: bytes) -> bytes:
    """The reply subject in such a block; b"" if there is none."""

@final
class StanSorted:
    """Batches of publishes taken apart."""

    messages: int  # publishes that could be read, refused ones too
    bytes: int  # theirs, as encoded
    refusals: int  # they have been answered
    refused: list[tuple[str, str, str]]  # (reason, client id, channel) of the first of them

    def __new__(cls) -> StanSorted: ...
    def take(self) -> list[tuple[str, Batch]]:
        """Channels, in the order of their first message, and what goes into their streams; all begins anew then."""

    def size(self) -> int:
        """Bytes that wait."""

@final
class StanPublishers:
    """Who may publish, and under which subject a channel is stored.

    Source: NATS Streaming's PubMsg; a publish that names its connection's id is known by that alone.
    """

    def __new__(cls, prefix: str, native: Sequence[tuple[str, bool]]) -> StanPublishers:
        """`prefix`: of the subjects of channels, unless the first pattern that matches says that it is their own name."""

    def add(self, client_id: str, conn_id: bytes) -> None: ...
    def remove(self, client_id: str, conn_id: bytes) -> None: ...
    def subject(self, channel: str) -> str:
        """The subject of a channel's stream; bytes that no subject can hold as `=XX`."""

    def sort(self, batch: Batch, sorted: StanSorted, engine: Engine, account: str) -> None:
        """Take publishes apart by channel, behind those before, and answer those that are no good
        (`stan: invalid publish request`)."""

@final
class StanGroup:
    """Deterministic machine of one subscription or queue group: what was sent, what is pending with which member.

    Guarantee:  a new message goes to a member only while that one has fewer pending than max_in_flight; what comes again is
                not held back by that. Redeliveries of a message are one ack_wait apart.
    Source:     nats-streaming-server 0.25.6.
    """

    def __new__(cls, channel: str, *, queue: bool, patient: bool = False, next_seq: int = 1) -> StanGroup:
        """`patient`: what nobody is there to get isn't sent, and waits until somebody is; else it waits for its ack."""

    next_seq: int  # stream sequence to look at next; may be set, but never back
    num_pending: int
    num_queued: int  # messages in the redelivery queue
    room: int  # new messages that the members take before all of them are stalled
    deadline_ns: int  # when `due` has something to tell next, 0 if never; look after deliver and ack

    def join(self, number: int, inbox: str, *, ack_wait_ns: int, max_in_flight: int) -> None:
        """Take a member in. A first one takes over all that is pending, which is due at once."""

    def leave(self, number: int, now_ns: int) -> None:
        """Let a member go. The others get what it held in 100 ms; without others it stays for the next to join."""

    def set_failing(self, number: int, failing: bool) -> None:
        """A member's client doesn't answer heartbeats, or does again: others are preferred, redelivery to it alone waits."""

    def absent(self) -> list[int]:
        """If it is patient, members at whose inbox nobody listened when something was to be sent there: they get nothing
        before `set_present`."""

    def set_present(self, number: int) -> None:
        """Somebody listens at a member's inbox."""

    def members(self) -> list[tuple[int, int, bool]]:
        """(number, pending, stalled), in the order of choice."""

    def pending_list(self, limit: int) -> list[tuple[int, int, int, int]]:
        """(sequence, sent at ns, member, deliveries), ascending."""

    def deliver(
        self,
        engine: Engine,
        account: str,
        values: Sequence[bytes],
        now_ns: int,
        *,
        bytes_max: int = ...,
        redelivery: bool = False,
    ) -> Delivery:
        """Frame and send records as MsgProto: new ones ascending from next_seq on, or those that `due` named.

        `blocked`: 2 every member is stalled or absent, 3 congested, 4 there is no member, or all are absent. Errors:
        CorruptRecord; the records before the damaged one are sent.
        """

    def due(self, now_ns: int, limit: int) -> list[int]:
        """Sequences to send again, at most limit, by the time they fell due; with them what does within 15 ms. They stay
        queued until sent; for one without a record call `forget`."""

    def ack(self, batch: Batch) -> tuple[int, int]:
        """Apply Acks. Returns (settled messages, acks that can't be read or speak of another channel)."""

    def forget(self, sequences: Sequence[int]) -> int:
        """Messages left the stream: settle them. Returns how many were pending."""

    def forget_below(self, sequence: int) -> int:
        """The same for everything below a sequence; next_seq moves up to it."""

    def encode(self) -> bytes:
        """Position and pending messages with their members, with a checksum; not how often they were delivered."""

    def decode(self, data: bytes) -> None:
        """Take over what `encode` gave; members join before. Errors: CorruptRecord; then nothing has changed."""

    def restore(self, next_seq: int, pending: Sequence[tuple[int, int, int]]) -> None:
        """Begin at a position with pending messages (sequence ascending, sent at ns, member)."""
