"""What a subscription or queue group may and must be sent, in the plainest form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamd.stan.schema_pb2 import MsgProto

MS: Final = 1_000_000
#: What is due so soon after a timer comes with it.
SWEEP_NS: Final = 15 * MS
HAND_OVER_NS: Final = 100 * MS
#: A change of a group's state is stored after so long at the latest.
SAVE_NS: Final = 5 * MS


@dataclass
class Log:
    """A channel. Shapes: sequence → (body, timestamp in ns); `most` messages stay, 0: all."""

    name: str
    most: int
    last: int = 0
    messages: dict[int, tuple[bytes, int]] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The first sequence that there is; of an empty channel 1."""
        return max(self.last - self.most + 1, 1) if self.most else 1

    def store(self, body: bytes, now_ns: int) -> None:
        self.last += 1
        self.messages[self.last] = (body, now_ns)

    def start(self, position: int, argument: int, now_ns: int) -> int:
        """The first sequence for a new subscription: new only, last, a time ago in ns, a sequence, first."""
        if position == 1:
            return max(self.last, 1)
        if position == 2:
            late = [
                sequence
                for sequence in range(self.first, self.last + 1)
                if self.messages[sequence][1] >= now_ns - argument
            ]
            return min(late, default=self.last + 1)
        if position == 3:
            return self.last + 1 if argument > self.last else max(argument, self.first)
        return self.first if position == 4 else self.last + 1


@dataclass(eq=False)
class Sub:
    """A subscription of a client. Units: wait in ns."""

    client: str
    inbox: str
    wait: int
    most: int
    ack_inbox: str = ""  # known once the answer is there


@dataclass
class Held:
    """A message that waits for an ack. Units: ns since the epoch."""

    holder: Sub
    deliveries: int
    due: int | None  # exactly; None: `latest` is all that is known
    latest: int


class Expected:
    """One subscription, or one queue group with its members."""

    def __init__(self, log: Log, start: int, *, queue: bool, durable: bool) -> None:
        self.log = log
        self.queue = queue
        self.durable = durable
        self.next = start
        self.start = start
        self.members: list[Sub] = []
        self.held: dict[int, Held] = {}
        self.acked: set[int] = set()
        self.resuming: list[int] = []  # what comes before everything else
        self.changed_ns = 0
        self.safe_next = start  # what no crash takes back
        self.safe_acked: set[int] = set()

    def stalled(self, sub: Sub) -> bool:
        return sum(held.holder is sub for held in self.held.values()) >= sub.most

    def join(self, sub: Sub, now_ns: int) -> None:
        """A member; the first one takes over all that is pending, at once."""
        if not self.members:
            self.resuming = sorted(self.held)
            for sequence in self.resuming:
                # Only a durable's own client goes on counting.
                deliveries = 1 if self.queue else self.held[sequence].deliveries
                self.held[sequence] = Held(sub, deliveries, now_ns, now_ns)
        self.members.append(sub)

    def leave(self, subs: list[Sub], now_ns: int, holders: dict[int, str]) -> None:
        """`holders`: by sequence the ack inboxes of those whom the service has given what they held."""
        self.members = [sub for sub in self.members if sub not in subs]
        if not self.members:
            return
        by_inbox = {member.ack_inbox: member for member in self.members}
        shares = dict.fromkeys(by_inbox, 0)
        for sequence, held in self.held.items():
            if held.holder in subs:
                held.holder = by_inbox[holders[sequence]]
                held.due = held.latest = now_ns + HAND_OVER_NS
                shares[holders[sequence]] += 1
        assert len(subs) > 1 or max(shares.values()) - min(shares.values()) <= 1, "dealt in turns"

    def delivered(self, sub: Sub, message: MsgProto, now_ns: int) -> None:
        """A message has reached a member's inbox."""
        sequence = message.sequence
        assert sub in self.members, "who has gone gets nothing more"
        assert sub.ack_inbox, "the answer to the subscription comes first"
        assert (message.data, message.timestamp) == self.log.messages[sequence]
        assert message.subject == self.log.name
        if self.resuming:
            assert (sequence, message.redelivered) == (self.resuming.pop(0), True), "what is pending comes first"
        if message.redelivered:
            held = self.held[sequence]
            assert message.redeliveryCount == held.deliveries
            assert now_ns <= held.latest
            if held.due is not None:
                assert held.due - SWEEP_NS <= now_ns
                held.due += sub.wait
            held.latest = held.due or now_ns + sub.wait + SWEEP_NS
            held.deliveries += 1
            held.holder = sub
        else:
            assert message.redeliveryCount == 0
            assert sequence == self.next, "each message once, in order"
            assert not self.stalled(sub), "no more than max in flight"
            self.next += 1
            self.held[sequence] = Held(sub, 1, now_ns + sub.wait, now_ns + sub.wait)
        self.changed_ns = now_ns

    def ack(self, sequence: int, now_ns: int) -> None:
        if self.held.pop(sequence, None) is not None:
            self.acked.add(sequence)
            self.changed_ns = now_ns

    def trim(self) -> None:
        """What left the channel needs no ack and is not waited for."""
        self.held = {sequence: held for sequence, held in self.held.items() if sequence >= self.log.first}
        self.next = max(self.next, self.log.first)

    def silent(self, now_ns: int) -> None:
        """The only client has not answered a heartbeat: redelivery waits."""
        for held in self.held.values():
            held.due, held.latest = None, now_ns + held.holder.wait + SWEEP_NS

    def look(self, now_ns: int) -> None:
        """Nothing that could be sent now has been left."""
        if self.members:
            assert not self.resuming
            assert all(held.latest >= now_ns for held in self.held.values()), "redelivery is overdue"
            assert self.next > self.log.last or all(map(self.stalled, self.members)), "new messages wait"
        if now_ns > self.changed_ns + SAVE_NS:
            self.safe_next = self.next
            self.safe_acked = set(self.acked)

    def restarted(self, next_seq: int, pending: dict[int, str], now_ns: int, *, crashed: bool) -> None:
        """The service has found this in the store. Shapes: `pending` is sequence → ack inbox, "" for nobody's."""
        gone = set(range(self.log.first)) | self.acked
        if crashed:
            assert max(self.safe_next, self.log.first) <= next_seq <= self.next
            assert not self.safe_acked & pending.keys(), "an ack that was stored counts"
            sent = set(range(self.start, next_seq))
            assert sent - gone <= pending.keys() <= sent, "no message is lost"
        else:
            assert (next_seq, set(pending)) == (self.next, set(self.held))
        self.next = next_seq
        self.acked = {sequence for sequence in self.acked if sequence < next_seq} - pending.keys()
        self.held = {}
        for sequence, ack_inbox in pending.items():
            holder = next((sub for sub in self.members if sub.ack_inbox == ack_inbox), None)
            assert holder is not None or not self.members
            wait = 0 if holder is None else holder.wait
            self.held[sequence] = Held(holder or Sub("", "", 0, 0), 1, None, now_ns + wait)
        self.safe_next, self.safe_acked, self.changed_ns = self.next, set(self.acked), now_ns
