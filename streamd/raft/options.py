"""Every time and bound of this room, with its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MILLISECOND_NS: Final = 1_000_000
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Fixes:
    """What is done against the library's deviations from Raft (docs/raft.md). Each can be left out, so that the simulator can
    show what it is good for; nothing in a configuration reaches this."""

    barrier: bool = True  # a message leaves when the writes that it speaks of are durable
    clip: bool = True  # the leader's own entries count once they are durable
    term: bool = True  # answers of an earlier term are dropped, stale senders are told
    dedupe: bool = True  # a vote counts once a voter
    guard: bool = True  # a follower cuts its log at a true conflict only, and acks what a message verified
    sticky: bool = True  # pre-vote; no vote while a leader is alive
    applied_gate: bool = True  # nothing is applied before it is durable here
    one_at_a_time: bool = True  # a configuration changes when the one before is committed, by one voter
    persist_vote: bool = True  # term and vote are written
    atomic_truncation: bool = True  # a conflicting tail goes in the transaction that brings what replaces it


@dataclass(frozen=True, slots=True)
class Options:
    """Durations in ns, sizes in bytes."""

    heartbeat_ns: int = 200 * MILLISECOND_NS
    #: A follower that hears of no leader for a random time between these asks whether it may campaign.
    election_min_ns: int = 800 * MILLISECOND_NS
    election_max_ns: int = 1_600 * MILLISECOND_NS
    #: A leader that hears of no quorum for so long steps down.
    quorum_timeout_ns: int = 1_200 * MILLISECOND_NS
    #: After the link to the leader broke, at start, and when a link comes up while none leads: random between 0 and this.
    hasty_election_ns: int = 30 * MILLISECOND_NS
    #: Followers learn a new commit index with the next entries, or after so long.
    commit_notice_ns: int = 2 * MILLISECOND_NS

    #: Entries of one message; a single entry may be bigger.
    batch_bytes: int = MIB
    #: Entries under way to a peer.
    window_bytes: int = 8 * MIB
    #: Messages of one frame, a single message may be bigger.
    frame_bytes: int = MIB
    #: Entries that were proposed and aren't committed; more are refused.
    proposed_bytes_max: int = 16 * MIB
    #: Entries handed to the machine in one go, before messages are looked at again.
    apply_bytes: int = 8 * MIB
    #: Payloads kept in memory once they are durable and applied.
    recent_bytes: int = 8 * MIB
    #: Applied entries kept in the journal, for those who are behind; cut when a quarter more is there.
    tail_bytes: int = 32 * MIB

    transfer_ns: int = 500 * MILLISECOND_NS
    transfer_step_ns: int = 10 * MILLISECOND_NS
    transfer_repeat_ns: int = 100 * MILLISECOND_NS

    #: Pause before a failed write is tried again, doubled each time.
    retry_min_ns: int = 100 * MILLISECOND_NS
    retry_max_ns: int = 1_000 * MILLISECOND_NS

    fixes: Fixes = field(default_factory=Fixes)

    def __post_init__(self) -> None:
        # The library insists on the first two.
        assert self.election_min_ns > 3 * self.heartbeat_ns
        assert self.election_max_ns > self.election_min_ns
        assert self.quorum_timeout_ns > self.heartbeat_ns
        assert self.window_bytes >= self.batch_bytes
