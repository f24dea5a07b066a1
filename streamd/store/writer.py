"""The one thread that commits.

In the walk:  `streams/` submits a Work; `done` is called on the loop thread once it is durable as `sync`
              promises.
Guarantee:    works are applied in the order of `submit`, each whole or not at all; an error after which the
              file's state is unknown ends all writing.
Threads:      `submit` and `close` belong to the loop thread.

A commit that is small goes to the journal, and LMDB takes it over with the next one that isn't, or a second later. Somebody
publishes and waits: the loop thread makes it in place as long as the disk is quicker than the thread would be told.
With a relaxed `sync` a commit costs no disk: the loop thread makes it in line, and the thread only syncs now
and then. Else the hand-over is a rendezvous: py-lmdb gives up the GIL at every put, so a writer thread that puts
records beside a busy loop waits for the GIL once a record, some thousand records a second. Therefore the loop
thread blocks while the writer applies (0.3 µs a record), and goes on when only the commit is left, which runs
without the GIL. Whoever starts the loop sets `sys.setswitchinterval(1e-5)`: with the default of 5 ms the end of
each commit waits that long for a busy loop.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import lmdb

from streamd import limits
from streamd.errors import StoreClosed, StoreError, StoreFailed, StoreFull
from streamd.store.apply import apply
from streamd.store.journal import small
from streamd.store.work import Outcome, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.store.environment import Environment

    Done = Callable[[Outcome], None]

_log = logging.getLogger(__name__)


class Group:
    """Works that share a commit."""

    __slots__ = ("bytes", "commit", "entry", "error", "records", "works")

    def __init__(self) -> None:
        self.works: list[tuple[Work, Done]] = []
        self.records = 0
        self.bytes = 0
        self.error: StoreError | None = None
        self.commit = 0
        self.entry: bytes | None = None  # for the journal; None: it goes to LMDB


class Writer:
    """Group commit. At most one commit is in flight; what is submitted meanwhile makes the next."""

    def __init__(
        self,
        environment: Environment,
        *,
        notify: Callable[[Callable[[], None]], object] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`notify` brings a call to the loop thread, such as `loop.call_soon_threadsafe`. None: no thread,
        `submit` commits in line and calls `done` before it returns. `seconds`: a time that never jumps."""
        self.environment = environment
        self.failed: StoreError | None = None  # why nothing is accepted any more
        self.commits = 0
        self.commit_ns = 0  # time spent in commits, for monitoring
        self._notify = notify
        self._seconds = seconds
        self._waiting: deque[tuple[Work, Done]] = deque()
        self._flying: Group | None = None
        self._landed: Group | None = None  # done in the thread, not yet told
        self.journaled = Work()  # durable in the journal: the next commit to LMDB begins with it
        self._journaled_since = 0.0
        self._closing = False
        self._unsynced = False
        self._quick = False  # whether the disk took no longer than a hand-over, the last time the journal was written
        self._telling = False  # the news of a commit are being told
        self._unreserved = limits.STORE_MAP_CHECK_BYTES  # what was written since the map was looked at
        self._blocking = False  # whether the loop thread waits at the rendezvous
        # Binary semaphores: taken by one thread, released by the other.
        self._handed = threading.Lock()
        self._applied = threading.Lock()
        self._ended = threading.Lock()  # held while a commit is in flight
        self._handed.acquire()
        self._applied.acquire()
        self._thread: threading.Thread | None = None
        self._relaxed = environment.sync.mode != "always"
        self._in_line = notify is None or self._relaxed
        if notify is not None:
            run = self._run_relaxed if self._relaxed else self._run
            self._thread = threading.Thread(target=run, name="store-writer", daemon=True)
            self._thread.start()

    # --- the loop thread

    def submit(self, work: Work, done: Done) -> None:
        """Commit a Work; never raises for what happens to it. Blocks while records are put, not for the
        disk."""
        if self._closing and self.failed is None:
            self.failed = StoreClosed(self.environment.directory)
        self._waiting.append((work, done))
        if self._flying is None:
            self._next()

    def blocks(self, work: Work) -> bool:
        """Whether `submit` may wait for the disk: what is to leave had better leave before."""
        return self._quick and not self._relaxed and work.records <= limits.JOURNAL_LONE_RECORDS_MAX

    @property
    def busy(self) -> bool:
        """Whether anything submitted is not yet done."""
        return self._flying is not None or bool(self._waiting)

    def settle(self) -> None:
        """Wait until everything submitted is done; `done` calls come from in here."""
        while self.busy:
            self._ended.acquire()
            self._ended.release()
            self._land()

    def close(self) -> None:
        """Commit what was submitted, leave the mark of a clean stop, end the thread. `done` calls come from
        in here."""
        if self._closing:
            return
        self.settle()
        self._take_over()
        self.settle()
        self._closing = True
        if self._thread is not None:
            self._handed.release()
            self._thread.join(limits.WRITER_JOIN_SECONDS_MAX)
        if self.failed is None and not self.journaled.logs:
            self._mark_clean()

    def _next(self) -> None:
        """Start the commit of what waits."""
        while self._waiting:
            group = self._flying = self._gather()
            if self.failed is not None:
                group.error = self.failed
            else:
                try:
                    group.entry = self._entry(group)
                except Exception as error:
                    # Or nobody would ever be told, and the store would hang with a commit that never began.
                    self._fail(group, error)
                else:
                    if not self._in_place(group):
                        self._hand_over(group)
                        return
                    self._commit(group)
            if group.error is not None:
                self._take_rest(group)
            # What `done` submits now joins the queue of this loop: no recursion.
            self._settle(group)
            self._announce(group)
        self._flying = None

    def _hand_over(self, group: Group) -> None:
        """Let the thread commit a group."""
        self._ended.acquire()
        self._handed.release()
        if group.entry is None:
            self._applied.acquire()

    def _in_place(self, group: Group) -> bool:
        """Whether the loop thread commits a group itself: not before the news of an earlier one, nor the first entry of the
        journal, which starts the thread's clock for the take-over."""
        if self._in_line:
            return True
        lone = group.entry is not None and self.journaled.logs and group.records <= limits.JOURNAL_LONE_RECORDS_MAX
        return bool(lone and self._quick and not self._telling)

    def _gather(self) -> Group:
        """The works of the next commit. A work is never split, so only the first may be beyond the limits
        alone."""
        group = Group()
        while self._waiting:
            work = self._waiting[0][0]
            if group.works and (
                group.records + work.records > limits.COMMIT_RECORDS_MAX
                or group.bytes + work.bytes > limits.COMMIT_BYTES_MAX
            ):
                break
            group.works.append(self._waiting.popleft())
            group.records += work.records
            group.bytes += work.bytes
        return group

    def _entry(self, group: Group) -> bytes | None:
        """The group as an entry of the journal, if it may go there and has room."""
        environment, held = self.environment, self.journaled.logs
        if environment.journal is None or environment.clean:  # LMDB holds the mark of a run that goes on
            return None
        if held and self._seconds() - self._journaled_since > limits.JOURNAL_SECONDS_MAX:
            return None
        if self._relaxed and group.records > limits.JOURNAL_LONE_RECORDS_MAX:
            return None
        works = [work for work, _ in group.works]
        streams = len(held)
        for work in works:
            if not work.logs or not small(work):
                return None
            for stream in work.logs:
                if stream not in environment.databases:
                    return None
                streams += stream not in held
        if streams > limits.JOURNAL_STREAMS_MAX:
            return None
        if not held and not environment.hold_room(limits.JOURNAL_ROOM_BYTES):
            return None
        return environment.journal.entry(works)

    def _take_rest(self, group: Group) -> None:
        """Works admitted behind one that failed count on its sequences: they fail with it."""
        group.works += self._waiting
        self._waiting.clear()

    def _land(self) -> None:
        """A commit ended: tell those who wait for it, start the next."""
        group, self._landed = self._landed, None
        if group is None:
            return
        if group.error is not None:
            self._take_rest(group)
        self._settle(group)
        self._flying = None
        self._telling = True
        # The next commit starts before the news of this one spreads: the disk stays busy.
        if self.failed is None:
            self._next()
        self._announce(group)
        self._telling = False
        if self._flying is None:
            self._next()

    def _settle(self, group: Group) -> None:
        """Tell those who wait for nothing else, then bring the logs' view up to date, before anybody reads."""
        committed = group.error is None
        if committed:
            for work, _ in group.works:
                if work.durable is not None:
                    work.durable()
        entered = committed and group.entry is not None
        if entered and not self.journaled.logs:
            self._journaled_since = self._seconds()
        for work, _ in group.works:
            if entered:
                self.journaled.absorb(work)
            for stream, part in work.logs.items():
                if part.log is not None:
                    part.log.settled(part, committed=committed)
                    if entered and part.appends:
                        part.log.journaled = self.journaled.logs[stream].appends[0]
        if committed and group.entry is None and group.commit:
            self._taken_over(group.commit)

    def _take_over(self) -> None:
        """Nothing was committed for a while, or nothing will be: let LMDB have what the journal holds."""
        if self.journaled.logs and not self.busy and not self._closing and self.failed is None:
            # If there is no room for it now, it stays where it is until the next commit.
            self.submit(Work(), lambda outcome: None)

    def _taken_over(self, commit: int) -> None:
        """LMDB holds all that the journal does."""
        for part in self.journaled.logs.values():
            if part.log is not None:
                part.log.journaled = None
        self.journaled = Work()
        if self.environment.journal is not None:
            self.environment.journal.begin(commit)

    def _announce(self, group: Group) -> None:
        for work, done in group.works:
            done(Outcome(work, group.error, group.commit))

    # --- the writer's thread

    def _meanwhile(self, call: Callable[[], object]) -> None:
        """Between commits: a mistake of ours doesn't end the thread there, as others wait for what it does next."""
        try:
            call()
        except Exception as error:
            _log.critical("store.writer_failed directory=%s", self.environment.directory, exc_info=error)

    def _tell(self, call: Callable[[], None]) -> None:
        assert self._notify is not None
        self._notify(call)

    def _run(self) -> None:
        journaled, looked = False, True  # looked: at pages of the map
        while True:
            patience = limits.JOURNAL_SECONDS_MAX if journaled else limits.STORE_LOOK_SECONDS if looked else -1
            if not self._handed.acquire(timeout=patience):
                if journaled:
                    journaled = False
                    self._meanwhile(lambda: self._tell(self._take_over))
                else:
                    looked = False
                    self._meanwhile(self.environment.give_back)
                continue
            group = self._flying
            if group is None:
                return
            journaled = group.entry is not None
            looked = looked or not journaled
            self._blocking = not journaled
            self._commit(group)
            self._release_loop()
            self._landed = group
            group = None  # or all that it holds would stay until the next one
            self._ended.release()
            self._meanwhile(lambda: self._tell(self._land))

    def _release_loop(self) -> None:
        """Let the loop thread go on, once a commit."""
        if self._blocking:
            self._blocking = False
            self._applied.release()

    def _commit(self, group: Group) -> None:
        """Make a group durable; the outcome is left in it."""
        environment = self.environment
        started = self._seconds()
        try:
            if group.entry is None:
                self._commit_pages(group)
            else:
                assert environment.journal is not None
                environment.journal.append(group.entry)
                self._quick = self._seconds() - started < limits.JOURNAL_QUICK_SECONDS
        except Exception as error:
            self._fail(group, error)
        self.commits += 1
        self.commit_ns += int((self._seconds() - started) * 1e9)
        if group.error is None:
            self._unsynced = True

    def _fail(self, group: Group, error: Exception) -> None:
        """What an error means for a group, and for what comes behind it."""
        group.error = self._explained(error)
        if not isinstance(group.error, StoreFull):
            self.failed = group.error

    def _explained(self, error: Exception) -> StoreError:
        if isinstance(error, (lmdb.Error, OSError)):
            return self.environment.explain(error)
        if isinstance(error, StoreError):
            return error
        # A bug. Nobody may wait for ever for a commit that never ends, nor write on behind it.
        _log.critical("store.writer_failed directory=%s", self.environment.directory, exc_info=error)
        return StoreFailed(self.environment.directory, f"writer: {error!r}")

    def _commit_pages(self, group: Group) -> None:
        """Apply and commit a group to LMDB, growing the map as often as needed."""
        environment = self.environment
        # Looking at the map costs more than a small commit, so it is looked at once in a while.
        self._unreserved += 2 * (group.bytes + self.journaled.bytes) + limits.COMMIT_OVERHEAD_BYTES
        if self._unreserved > limits.STORE_MAP_CHECK_BYTES:
            environment.reserve(self._unreserved)
            self._unreserved = 0
        while True:
            try:
                self._attempt(group)
                break
            except lmdb.MapFullError:
                environment.grow()

    def _attempt(self, group: Group) -> None:
        environment = self.environment
        txn = environment.begin()
        created: list[int] = []
        dropped: list[int] = []
        try:
            apply(environment, txn, self.journaled, created, dropped)
            for work, _ in group.works:
                apply(environment, txn, work, created, dropped)
            environment.stamp(txn)
            self._release_loop()
            group.commit = environment.commit(txn)
        except BaseException:
            txn.abort()
            environment.forget(created, dropped)
            raise
        environment.clean = False

    def _mark_clean(self) -> None:
        """The last commit: nothing was cut short."""
        environment = self.environment
        try:
            txn = environment.begin()
            try:
                environment.stamp(txn, running=False)
                environment.commit(txn)
            except BaseException:
                txn.abort()
                raise
            environment.flush()
            environment.clean = True
        except (lmdb.Error, OSError) as error:
            self.failed = environment.explain(error)

    # --- relaxed durability

    def _run_relaxed(self) -> None:
        """The thread while the loop thread commits: sync now and then, and say that the journal waits to be taken over."""
        sync = self.environment.sync
        sync_seconds = sync.interval_ns / 1e9 if sync.mode == "interval" else math.inf
        synced_at, commits, looked = self._seconds(), self.commits, True
        while not self._handed.acquire(timeout=min(limits.JOURNAL_SECONDS_MAX, sync_seconds)):
            now = self._seconds()
            if now - synced_at >= sync_seconds:
                synced_at = now
                if self._unsynced:
                    self._sync_now()
            idle, commits = commits == self.commits, self.commits
            if not idle:
                looked = True
            elif self.journaled.logs:
                self._meanwhile(lambda: self._tell(self._take_over))
            elif looked:
                looked = False
                self._meanwhile(self.environment.give_back)

    def _sync_now(self) -> None:
        # Cleared first: what is committed while this runs may or may not be in it.
        self._unsynced = False
        try:
            self.environment.flush()
        except Exception as error:
            explained = self._explained(error)
            if isinstance(explained, StoreFull):
                # What it had no room for was acked, and the system has given it up: room mends nothing.
                explained = StoreFailed(self.environment.directory, str(error))
            self.failed = explained
