"""A file system that forgets, for power cuts: what was not fsynced is lost, or half of it.

It serves a backing directory through FUSE. Writes stay in this process, page by page, until fsync,
fdatasync or O_DSYNC asks for them; then they go to the backing file. `Forgetful.cut` ends the process: the
mount is dead at once, as after a power cut (whoever uses it gets errors), and what was pending is dropped
("none" survives) or a random half of the pages is kept ("some": a disk writes in any order).

Guarantee:  after a cut the backing directory holds what a disk may hold.
Not here:   names. Create, rename and unlink are durable at once; links, attributes and locks between hosts
            don't exist.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, Self

from tests.store import fuse

_PAGE: Final = 4096
_ROOT: Final = Path(__file__).parents[2]


class Forgetful:
    """A mount, served by a process of its own."""

    def __init__(self, backing: Path, mount: Path) -> None:
        """Both are directories; they are made if absent."""
        self.backing = backing
        self.mount = mount
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self.cut("none")

    def start(self) -> None:
        """Mount it (again)."""
        self.backing.mkdir(parents=True, exist_ok=True)
        self.mount.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.forgetful", os.fspath(self.backing), os.fspath(self.mount)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer == b"mounted\n", answer

    def cut(self, survivors: str, seed: int = 0) -> int:
        """The power fails: "none" or "some" of the pending pages survive. Returns how many were pending."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"%s %d\n" % (survivors.encode(), seed))
        process.stdin.close()
        pending = int(process.stdout.readline())
        process.stdout.close()
        process.wait()
        return pending


class _File:
    """What is pending of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pages: dict[int, bytes] = {}
        self.size = path.stat().st_size if path.is_file() else 0

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        parts = []
        with self.path.open("rb") as file:
            while size > 0:
                number, skip = divmod(offset, _PAGE)
                take = min(size, _PAGE - skip)
                parts.append(self._page(file, number)[skip : skip + take])
                offset += take
                size -= take
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> set[int]:
        """Returns the pages touched."""
        touched = set()
        with self.path.open("rb") as file:
            while data:
                number, skip = divmod(offset, _PAGE)
                take = min(len(data), _PAGE - skip)
                page = data[:take] if take == _PAGE else None
                if page is None:
                    before = self._page(file, number)
                    page = before[:skip] + data[:take] + before[skip + take :]
                self.pages[number] = page
                touched.add(number)
                offset += take
                data = data[take:]
        self.size = max(self.size, offset)
        return touched

    def truncate(self, size: int) -> None:
        """At once durable when it shrinks: LMDB never does that."""
        if size < self.size:
            self.sync(set(self.pages))
            os.truncate(self.path, size)
        self.size = size

    def sync(self, pages: set[int]) -> None:
        """Make some pages durable, and the size."""
        with self.path.open("r+b") as file:
            for number in sorted(pages):
                page = self.pages.pop(number, None)
                if page is not None:
                    file.seek(number * _PAGE)
                    file.write(page[: max(0, self.size - number * _PAGE)])
            if not self.pages and os.fstat(file.fileno()).st_size < self.size:
                file.truncate(self.size)

    def _page(self, file: IO[bytes], number: int) -> bytes:
        page = self.pages.get(number)
        if page is None:
            file.seek(number * _PAGE)
            page = file.read(_PAGE).ljust(_PAGE, b"\0")
        return page


class _Disk:
    """The operations over a backing directory."""

    def __init__(self, backing: Path) -> None:
        self._paths: dict[int, Path] = {fuse.ROOT: backing}
        self._inodes: dict[Path, int] = {backing: fuse.ROOT}
        self._last = fuse.ROOT
        self._files: dict[Path, _File] = {}
        self._handles: dict[int, tuple[_File, int]] = {}

    def cut(self, survivors: str, seed: int) -> int:
        """Lose what is pending, or keep some of it. Returns how many pages were pending."""
        chance = random.Random(seed)
        pending = 0
        for file in self._files.values():
            pending += len(file.pages)
            if survivors == "some":
                kept = {number for number in sorted(file.pages) if chance.random() < 0.5}
                file.size = max([file.path.stat().st_size, *(_PAGE * (number + 1) for number in kept)])
                file.sync(kept)
        return pending

    def status(self, inode: int) -> os.stat_result:
        return self._paths[inode].lstat()

    def size(self, inode: int) -> int:
        return self._file(self._paths[inode]).size

    def lookup(self, parent: int, name: str) -> int:
        path = self._paths[parent] / name
        path.lstat()
        if path not in self._inodes:
            self._last += 1
            self._inodes[path] = self._last
            self._paths[self._last] = path
        return self._inodes[path]

    def names(self, inode: int) -> list[str]:
        return sorted(entry.name for entry in self._paths[inode].iterdir())

    def make(self, parent: int, name: str, mode: int, *, directory: bool) -> int:
        path = self._paths[parent] / name
        path.mkdir(mode) if directory else path.touch(mode)
        return self.lookup(parent, name)

    def remove(self, parent: int, name: str, *, directory: bool) -> None:
        path = self._paths[parent] / name
        path.rmdir() if directory else path.unlink()
        self._files.pop(path, None)
        self._paths.pop(self._inodes.pop(path, 0), None)

    def rename(self, parent: int, name: str, new_parent: int, new_name: str) -> None:
        source, target = self._paths[parent] / name, self._paths[new_parent] / new_name
        source.rename(target)
        self._files.pop(target, None)
        if source in self._files:
            self._files[target] = self._files.pop(source)
            self._files[target].path = target
        inode = self._inodes.pop(source, None)
        if inode is not None:
            self._inodes[target], self._paths[inode] = inode, target

    def open(self, inode: int, flags: int) -> int:
        handle = max(self._handles, default=0) + 1
        self._handles[handle] = (self._file(self._paths[inode]), flags)
        return handle

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return self._handles[handle][0].read(offset, size)

    def write(self, handle: int, offset: int, data: bytes) -> None:
        file, flags = self._handles[handle]
        touched = file.write(offset, data)
        if flags & os.O_DSYNC:
            file.sync(touched)

    def sync(self, handle: int) -> None:
        file = self._handles[handle][0]
        file.sync(set(file.pages))

    def truncate(self, inode: int, size: int) -> None:
        self._file(self._paths[inode]).truncate(size)

    def mode(self, inode: int, mode: int) -> None:
        self._paths[inode].chmod(mode)

    def _file(self, path: Path) -> _File:
        if path not in self._files:
            self._files[path] = _File(path)
        return self._files[path]


def _serve(backing: Path, mount: Path) -> None:
    """The body of the process: until a line "survivors seed" comes, or the parent is gone."""
    disk = _Disk(backing)
    with fuse.mounted(mount) as device:
        sys.stdout.write("mounted\n")
        sys.stdout.flush()
        fuse.serve(device, disk, sys.stdin.fileno())
        # No system call is answered from here on.
        survivors, seed = sys.stdin.readline().split() or ("none", "0")
        pending = disk.cut(survivors, int(seed))
    sys.stdout.write(f"{pending}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
