"""Every limit of the server with its unit: a queue or loop takes its bound from here.

Names end in their unit and `_max` or `_min`; `bytes` are bytes, durations are nanoseconds unless the name
says otherwise.
"""

from typing import Final

# --- store: the environment
# Named databases, one per stream; LMDB fixes the number when it opens. Costs 1 MB and 10 µs a fresh reader.
STORE_DATABASES_MAX: Final = 16_384
STORE_STREAMS_MAX: Final = 16_000  # streams on disk; the rest is for meta and for those just being removed
STORE_READERS_MAX: Final = 126  # slots in LMDB's reader table: ours, a backup's
STORE_READERS_BYTES: Final = 16 << 10  # their table, 64 bytes each and a head; may be larger
STORE_VERIFY_BYTES_MAX: Final = 4 << 30  # up to here the leaves are checked at start too: 0.3 s a GB
STORE_LENGTHEN_BYTES_MAX: Final = 1 << 30
STORE_TRIAL_BYTES: Final = 1 << 20  # a disk that has less room is called full
STORE_MAP_BYTES: Final = 16 << 30  # address space to begin with, doubled when full; the file grows as needed
STORE_MAP_BYTES_MIN: Final = 1 << 20
STORE_MAP_MARGIN_BYTES: Final = 64 << 20  # the map grows ahead of need when less than this is left
STORE_LOOK_SECONDS: Final = 0.5  # without a commit, then pages of the map that were looked at are given back

# --- store: one commit
COMMIT_RECORDS_MAX: Final = 8_192  # a bigger group is split between commits; the loop blocks ~0.3 µs a record
COMMIT_BYTES_MAX: Final = 8 << 20
# LMDB keeps for good as many pages as its biggest commit ever wrote, and each stream has one or two of its own.
COMMIT_STREAMS_MAX: Final = 128
#: Records of a commit share entries of at most so many bytes: two pages of LMDB, without their head.
PACK_BYTES: Final = 2 * 4_096 - 16
META_CHUNK_BYTES: Final = 256 << 10  # a checkpoint is stored in pieces of this size

# --- store: the journal of small commits
JOURNAL_BYTES: Final = 1 << 20  # the file; when it is full LMDB takes over what it holds, in a millisecond or two
JOURNAL_HEAD_BYTES: Final = 4_096  # before the first entry: a page that is written once
JOURNAL_ENTRIES_MAX: Final = 2_048
JOURNAL_STREAMS_MAX: Final = 128  # with something in it
# Held on the disk for LMDB, so that it can always take over: values rounded up to pages, and pages of each stream.
JOURNAL_ROOM_BYTES: Final = 2 * JOURNAL_BYTES + JOURNAL_STREAMS_MAX * (16 << 10)
JOURNAL_SECONDS_MAX: Final = 1.0  # then LMDB takes over, with the next commit or once there was none for so long
JOURNAL_RECORDS_MAX: Final = 64  # a work with more goes to LMDB: there it costs less than being written twice
JOURNAL_WORK_BYTES_MAX: Final = 16 << 10  # of records, states and message ids, likewise
JOURNAL_ENTRY_BYTES_MAX: Final = 64 << 10  # of the works that share an entry
JOURNAL_LONE_RECORDS_MAX: Final = (
    4  # with more, several publish at once, and the next commit fills while the disk works
)
JOURNAL_QUICK_SECONDS: Final = 0.0004  # as long as a hand-over to the writer's thread and back takes, on a busy machine

# --- store: reading
READ_RECORDS_MAX: Final = 4_096  # what one read returns unless told otherwise
READ_BYTES_MAX: Final = 4 << 20
READ_STEP_ENTRIES: Final = 256  # between two looks at the byte limit, or fewer near its end
READ_STEP_MIN: Final = 4  # entries, however little room is left
COUNT_STEP_KEYS: Final = 8_192  # looked at together when the records of a log are counted
CACHE_BYTES_MAX: Final = 64 << 20  # tails of all streams together
CACHE_STREAM_BYTES_MAX: Final = 16 << 20  # and of one stream
CACHE_CHUNK_BYTES_MIN: Final = 8 * 1024  # smaller commits of a stream are joined

# --- store: the index
CHECKPOINT_CHANGES_MIN: Final = 250_000  # records and removals between two checkpoints of a stream
REPLAY_RECORDS: Final = 8_192  # records handed to the index at a time when a stream starts

# --- store: the writer
WRITER_JOIN_SECONDS_MAX: Final = 30

#: A commit writes at least some pages of every database it touches.
COMMIT_OVERHEAD_BYTES: Final = 64 * 1024
#: The room left in the map is looked at whenever so much may have been written.
STORE_MAP_CHECK_BYTES: Final = 4 << 20
