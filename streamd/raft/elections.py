"""Who leads: pre-votes, campaigns and votes, around the library's own rules of them.

The library decides whom to vote for and when a candidate has won. Here is decided when it may campaign, who may ask it for a
vote, and whose grants count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.raft.envelope import Kind
from streamd.raft.prevote import PreVote

if TYPE_CHECKING:
    import random

    from streamd.raft.envelope import Message
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options
    from streamd.raft.replica import Replica

_NEVER: Final = float("inf")


class Elections:
    """The elections of one group, as one of its nodes takes part in them. Times are seconds."""

    def __init__(self, replica: Replica, options: Options, rng: random.Random) -> None:
        self._replica = replica
        self._fixes = options.fixes
        self._prevote = PreVote(options, rng)
        self._votes: set[NodeId] = set()  # of the campaign that is under way
        self._forced = False  # it is at the leader's wish
        self.asked_term = 0  # the last campaign that was

    def see_leader(self, now: float) -> None:
        """The leader gave a sign of life."""
        self._prevote.see(now)

    def hurry(self, now: float, *, second: bool = False) -> None:
        """There is certainly no leader. `second`: another node may go first."""
        core = self._replica.core
        if not core.leads:
            self._prevote.lose()
            core.deadline = now + self._prevote.hasty(second=second)

    # --- becoming a candidate

    def stand(self, now: float) -> None:
        """The deadline passed: ask whether to campaign."""
        replica = self._replica
        core, config = replica.core, replica.config
        core.forget_leader()  # cut off from all others this node never gets to campaign
        if not replica.may_campaign:
            core.deadline = now + self._prevote.again() if replica.node in config.voters else _NEVER
        elif config.quorum == 1 or not self._fixes.sticky:
            self._campaign(now)
        else:
            core.deadline = now + self._prevote.again()
            round_ = self._prevote.begin(replica.node)
            terms = replica.journal.terms
            for voter in config.voters:
                if voter != replica.node:
                    replica.say(voter, Kind.PREVOTE, terms.last, terms.last_term, round_=round_)

    def prevote_asked(self, now: float, sender: NodeId, message: Message) -> None:
        """A node asks whether to campaign."""
        replica = self._replica
        core, terms = replica.core, replica.journal.terms
        if core.leads or self._prevote.leader_alive(now):
            return
        mine, theirs = (terms.last_term, terms.last), (message.at_term, message.at)
        if theirs < mine:
            return
        replica.say(sender, Kind.PREVOTED, round_=message.round)
        if (*mine, replica.node) < (*theirs, sender):
            core.deadline = max(core.deadline, now + self._prevote.give_way(sender))

    def prevoted(self, now: float, sender: NodeId, message: Message) -> None:
        """A node has nothing against a campaign."""
        replica = self._replica
        if sender not in replica.config.voters or not replica.may_campaign or replica.core.leads:
            return
        if self._prevote.granted(message.round, sender) >= replica.config.quorum:
            self._campaign(now)

    def take_over(self, now: float, sender: NodeId) -> None:
        """The leader wishes this node to be the next one."""
        replica = self._replica
        if sender == replica.core.leader and replica.may_campaign and not replica.core.leads:
            self.asked_term = replica.core.term + 1
            self._campaign(now, forced=True)

    def _campaign(self, now: float, *, forced: bool = False) -> None:
        core = self._replica.core
        pause = self._prevote.campaign()
        self._votes.clear()
        self._forced = forced
        core.campaign(now)
        self._forced = False
        if not core.leads:
            core.deadline = now + pause

    def ask_vote(self, node: NodeId) -> None:
        """The library campaigns."""
        terms = self._replica.journal.terms
        kind = Kind.VOTE_FORCED if self._forced else Kind.VOTE
        self._replica.say(node, kind, terms.last, terms.last_term)

    # --- votes

    def grant_vote(self, node: NodeId) -> None:
        """The library votes: whoever has done that for another node doesn't campaign against it, whatever it had asked."""
        self._prevote.cancel()
        self._replica.say(node, Kind.VOTED)

    def vote_asked(self, now: float, sender: NodeId, message: Message) -> None:
        """A candidate wants a vote."""
        core = self._replica.core
        if self._fixes.sticky and message.kind == Kind.VOTE and (core.leads or self._prevote.leader_alive(now)):
            return
        led = core.leads
        core.vote_asked(now, sender, message.term, message.at, message.at_term)
        if led and not core.leads:
            # The library left its deadline where it was before it led.
            core.deadline = now + self._prevote.campaign()

    def voted(self, now: float, sender: NodeId, message: Message) -> None:
        """A voter's grant."""
        replica = self._replica
        if sender not in replica.config.voters or not replica.core.stands or not replica.may_campaign:
            return
        if self._fixes.dedupe and sender in self._votes:
            return
        self._votes.add(sender)
        replica.core.voted(now, sender, message.term)
