"""Every exception of the server, as one tree.

    StreamdError                 anything this server raises on purpose
    ├── ConfigError              the configuration is wrong; names file, line and the value (streamd.config.errors)
    ├── ImportRefused            another server's directory can't be imported as it is (streamd.stan.importer.errors)
    │   └── StoreDamaged         a file of it does not hold what that server wrote
    └── StoreError               the store failed; names the directory or stream and the way out
        ├── StoreLocked          another process has the directory
        ├── StoreForeign         the directory holds something else
        │   └── StoreNewer       a later version of this server wrote it
        ├── StoreUnavailable     the directory can't be created, opened or mapped
        ├── StoreFull            no room on the disk; the store goes on, reading and trying again
        ├── StoreFailed          a write or fsync failed in a way after which nothing may be promised
        ├── StoreClosed          asked after `close`
        ├── CommitAbandoned      what was to go into a commit failed before the store had it; nothing of it was stored
        ├── NameTaken            a channel and a stream of a cluster want one name
        ├── LeadershipLost       another leader may still store what was under way
        ├── StoreEncrypted       what is to be served is encrypted, and the key is missing or another
        └── StoreCorrupt         stored bytes are not what was written
            └── StreamCorrupt    the same, confined to one stream: the others go on

Guarantee:  a message says what is wrong, where, and what to do about it; lower case, no full stop.
Not here:   expected absence (None), errors of clients (they have numbers on the wire and live with the
            protocol).
"""

# The names say what happened; the base class says that it is an error.

from pathlib import Path


class StreamdError(Exception):
    """Anything this server raises on purpose."""


class StoreError(StreamdError):
    """The store failed."""


class StoreLocked(StoreError):
    """Another process has the directory."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        """`pid` is None when the holder left no number."""
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"store directory {directory} is in use by {holder}: stop it, or choose another store_dir")
        self.directory = directory
        self.pid = pid


class StoreForeign(StoreError):
    """The directory holds something that this server did not write."""

    def __init__(self, directory: Path, found: str) -> None:
        super().__init__(f"store directory {directory} is not a streamd store ({found}): choose another store_dir")
        self.directory = directory


class StoreNewer(StoreForeign):
    """A later version of this server wrote the directory."""

    def __init__(self, directory: Path, version: int, known: int) -> None:
        super().__init__(directory, "")
        self.args = (
            f"store directory {directory} has format {version}, this version knows up to {known}: "
            f"run the newer streamd, or restore a backup",
        )


class StoreUnavailable(StoreError):
    """The directory can't be created, opened or mapped."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"store directory {directory} can't be used: {reason}")
        self.directory = directory


class StoreFull(StoreError):
    """No room on the disk; nothing of the commit was applied."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"no space left for the store in {directory}: free some; publishing resumes by itself")
        self.directory = directory


class StoreFailed(StoreError):
    """A write or fsync failed in a way after which nothing may be promised."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"writing the store in {directory} failed ({reason}): check the disk, then restart streamd")
        self.directory = directory


class NameTaken(StoreError):
    """A channel and a stream that somebody made want the same name; neither is removed for the other."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"stream {name} is here, and the cluster has another one of that name; one of the two is a channel of NATS "
            f"Streaming: delete the one that isn't wanted"
        )


class StoreClosed(StoreError):
    """Asked after `close`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"the store in {directory} is closed")


class CommitAbandoned(StoreError):
    """While a commit was put together something was raised that should not be: the store had nothing of it yet."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"a commit was given up while it was put together ({error!r}): nothing of it was stored, try again"
        )


class StoreEncrypted(StoreError):
    """The channels of the store are encrypted, and the key is missing or another one."""

    def __init__(self, directory: Path, *, missing: bool) -> None:
        if missing:
            text = (
                f"encryption key required: channels of the store in {directory} are encrypted; set streaming.encrypt and, as "
                f"NATS_STREAMING_ENCRYPTION_KEY or streaming.encryption_key, the key that it was written with"
            )
        else:
            text = (
                f"the encryption key is not the one that the store in {directory} was written with: set "
                f"NATS_STREAMING_ENCRYPTION_KEY or streaming.encryption_key to that one, or choose another dir"
            )
        super().__init__(text)
        self.directory = directory


class StoreCorrupt(StoreError):
    """Stored bytes are not what was written."""

    def __init__(self, directory: Path, found: str) -> None:
        super().__init__(
            f"the store in {directory} is damaged ({found}): restore the directory from a backup, "
            f"or move it away and start empty"
        )
        self.directory = directory
        self.found = found


class StreamCorrupt(StoreCorrupt):
    """Damage confined to one stream."""

    def __init__(self, directory: Path, stream: str, found: str, *, sequence: int = 0) -> None:
        """`sequence` 0: not known."""
        super().__init__(directory, found)
        where = f" at sequence {sequence}" if sequence else ""
        self.args = (
            f"stream {stream} in {directory} is damaged{where} ({found}): it is offline, the others go on; "
            f"restore the directory from a backup, or delete stream {stream} and create it again",
        )
        self.stream = stream
        self.sequence = sequence


class LeadershipLost(StoreError):
    """A replicated change was under way when this server ceased to lead its group: another leader may still commit it."""

    def __init__(self, group: str) -> None:
        super().__init__(f"the leader of group {group} changed before it was known whether this was stored: try again")
