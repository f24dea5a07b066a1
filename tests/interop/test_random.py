"""Random programs of publishes, deletes, purges, pulls and acks: whatever is done, both servers answer the same.

A seed that fails is a fixed program: run it again with STREAMD_SEED=N.
"""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.test_streams import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.conftest import Pair
    from tests.interop.raw import Message, Session

pytestmark = pytest.mark.interop
SEEDS = [int(os.environ["STREAMD_SEED"])] if "STREAMD_SEED" in os.environ else list(range(12))
STEPS = 150
PENDING = re.compile(r"(\$JS\.ACK(?:\.[^. ]+){5}\.\d{16,})\.\d+")


class Program:
    """The same random steps on whichever server it is given."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # When messages leave, consumers of nats-server 2.15.2 may forget for a while what they owe, so a program either
        # lets consumers work or lets messages leave and reads the rest with new consumers.
        self.leaving = seed % 2 == 1
        self.config = self._config()
        self.delivered: dict[str, list[Message]] = {}
        self.last = 0

    def _config(self) -> dict[str, Any]:
        pick = self.random
        config: dict[str, Any] = {"subjects": ["s.>"], "storage": pick.choice(["file", "memory"])}
        config["allow_direct"] = config["allow_rollup_hdrs"] = True
        if not self.leaving:
            return config
        if pick.random() < 0.4:
            config["max_msgs"] = pick.randint(3, 30)
        if pick.random() < 0.3:
            config["max_msgs_per_subject"] = pick.randint(1, 5)
        if pick.random() < 0.3:
            config["max_bytes"] = pick.randint(300, 3000)
        if pick.random() < 0.3:
            config["discard"] = "new"
        return config

    def run(self, s: Session) -> list[tuple[str, int, int]]:
        """All steps and a look at everything. Returns what `_drain` finds of every consumer."""
        stream(s, **self.config)
        steps: list[tuple[int, Callable[[Session], None]]] = [
            (40, self.publish),
            (8, self.get),
            *(
                [(6, self.delete), (3, self.purge), (1, self.update)]
                if self.leaving
                else [(8, self.consumer), (20, self.pull), (20, self.ack), (5, self.info)]
            ),
        ]
        weights = [weight for weight, _step in steps]
        for _ in range(STEPS):
            self.random.choices(steps, weights)[0][1](s)
        s.api("STREAM.INFO.S", {"subjects_filter": ">", "deleted_details": True})
        if self.leaving:
            for _ in range(4):
                self.consumer(s)
            for name in self.delivered:
                s.sub(name, name)
                s.pub(f"$JS.API.CONSUMER.MSG.NEXT.S.{name}", '{"batch":100,"no_wait":true,"expires":200000000}', name)
                self.delivered[name] = [message for message in s.gather(name, seconds=0.3) if message.reply]
        told = list(s.transcript)
        counts = [self._drain(s, name) for name in self.delivered]
        # How many are pending is a matter of timing there.
        s.transcript = [PENDING.sub(r"\1.P", line) for line in told]
        return counts

    def _drain(self, s: Session, name: str) -> tuple[str, int, int]:
        """A consumer, the messages it calls pending, and those it then delivers for the first time."""
        for message in self.delivered[name]:
            s.ask(message.reply, b"+TERM", seconds=0.1)
        pending = s.api(f"CONSUMER.INFO.S.{name}")["num_pending"]
        s.heard.setdefault("drain", [])
        s.sub("drain", "drain")
        count, more = 0, True
        while more:
            s.pub(f"$JS.API.CONSUMER.MSG.NEXT.S.{name}", '{"batch":100,"no_wait":true,"expires":40000000}', "drain")
            found = [message for message in s.gather("drain", seconds=0.15) if message.reply]
            for message in found:
                s.ask(message.reply, b"+TERM", seconds=0.1)
            fresh = [message for message in found if message.reply.split(".")[4] == "1"]
            if not fresh:
                return name, pending, count
            count += len(fresh)
            more = bool(fresh)
        return name, pending, count

    def subject(self) -> str:
        """One of a few."""
        return f"s.{self.random.randint(0, 2)}.{self.random.randint(0, 1)}"

    def pattern(self) -> str:
        """A subject or a pattern."""
        return self.random.choice([self.subject(), "s.*.0", "s.1.*", "s.>", "s.*.*"])

    def sequence(self) -> int:
        """Mostly one that was given."""
        return self.random.randint(1, self.last + 2)

    def publish(self, s: Session) -> None:
        pick = self.random
        headers: dict[str, str] = {}
        if pick.random() < 0.2:
            headers["Nats-Msg-Id"] = f"id{pick.randint(0, 20)}"
        if pick.random() < 0.1:
            headers["Nats-Expected-Last-Sequence"] = str(self.last + pick.choice([0, 0, 0, 1]))
        if pick.random() < 0.1:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(self.sequence())
        if pick.random() < 0.05 and self.leaving:
            headers["Nats-Rollup"] = pick.choice(["sub", "sub", "all"])
        body = b"x" * pick.choice([0, 1, 10, 100])
        found = s.ask(self.subject(), body, headers or None)
        if found is not None and b'"seq":' in found.payload:
            self.last = max(self.last, int(found.payload.split(b'"seq":')[1].split(b",")[0].strip(b" }")))

    def delete(self, s: Session) -> None:
        s.api("STREAM.MSG.DELETE.S", {"seq": self.sequence()})
        if '"error"' in s.transcript[-1]:
            s.transcript.pop()  # how a missing message is refused depends on blocks there

    def purge(self, s: Session) -> None:
        body: dict[str, Any] = {}
        if self.random.random() < 0.8:
            body["filter"] = self.pattern()
        if self.random.random() < 0.5:
            body[self.random.choice(["seq", "keep"])] = self.sequence()
        s.api("STREAM.PURGE.S", body)

    def get(self, s: Session) -> None:
        body: dict[str, Any] = self.random.choice(
            [
                {"seq": self.sequence()},
                {"last_by_subj": self.pattern()},
                {"next_by_subj": self.pattern(), "seq": self.sequence()},
            ]
        )
        s.ask(self.random.choice(["$JS.API.STREAM.MSG.GET.S", "$JS.API.DIRECT.GET.S"]), body)

    def consumer(self, s: Session) -> None:
        pick = self.random
        name = f"C{pick.randint(0, 3)}"
        if name in self.delivered:
            if pick.random() < 0.3:
                s.api(f"CONSUMER.DELETE.S.{name}")
                del self.delivered[name]
            return
        config: dict[str, Any] = {
            "durable_name": name,
            "ack_policy": pick.choice(["explicit", "explicit", "all", "none"]),
        }
        config["deliver_policy"] = pick.choice(["all", "all", "new", "last", "by_start_sequence", "last_per_subject"])
        if config["deliver_policy"] == "by_start_sequence":
            config["opt_start_seq"] = self.sequence()
        if pick.random() < 0.5 or config["deliver_policy"] == "last_per_subject":
            config["filter_subject"] = self.pattern()
        if config["ack_policy"] != "none" and pick.random() < 0.3:
            config["max_ack_pending"] = pick.randint(1, 10)
        s.api(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": config})
        self.delivered[name] = []

    def pull(self, s: Session) -> None:
        if not self.delivered:
            return
        name = self.random.choice(sorted(self.delivered))
        body = f'{{"batch":{self.random.randint(1, 6)},"no_wait":true,"expires":40000000}}'
        if name not in s.heard:
            s.sub(name, name)
        s.note(f"pull {name} {body}")
        s.pub(f"$JS.API.CONSUMER.MSG.NEXT.S.{name}", body, name)
        for message in s.gather(name, seconds=0.12):
            if message.reply:
                self.delivered[name].append(message)

    def ack(self, s: Session) -> None:
        waiting = [name for name in sorted(self.delivered) if self.delivered[name]]
        if not waiting:
            return
        messages = self.delivered[self.random.choice(waiting)]
        place = self.random.randrange(len(messages))
        body = self.random.choice([b"+ACK", b"+ACK", b"+ACK", b"-NAK", b"+TERM", b"+WPI"])
        s.ask(messages[place].reply, body, seconds=0.15)
        if body != b"+WPI":
            del messages[place]

    def info(self, s: Session) -> None:
        if self.delivered:
            self._counts(s, self.random.choice(sorted(self.delivered)))

    def _counts(self, s: Session, name: str) -> None:
        found = s.api(f"CONSUMER.INFO.S.{name}")
        s.transcript.pop()
        s.note(f"{name} {found['num_ack_pending']}")

    def update(self, s: Session) -> None:
        for key in ("max_msgs", "max_msgs_per_subject"):
            if key in self.config:
                self.config[key] = max(1, self.config[key] + self.random.randint(-2, 2))
        s.api("STREAM.UPDATE.S", {"name": "S", **self.config})


@pytest.mark.parametrize("seed", SEEDS)
def test_random(pair: Pair, seed: int) -> None:
    """The same answers and deliveries, and a consumer delivers as many as it calls pending."""
    counts: dict[int, list[tuple[str, int, int]]] = {}

    def program(session: Session) -> None:
        counts[session.port] = Program(seed).run(session)

    wrong = pair.compare(program)

    assert not wrong, "\n".join(wrong[:5])
    assert all(pending == count for _name, pending, count in counts[pair.ours.port])
