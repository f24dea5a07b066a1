"""A file system that forgets, for power cuts: what was not fsynced is lost, or half of it.

It serves a backing directory through FUSE. Writes stay in this process, page by page, until fsync,
fdatasync or O_DSYNC asks for them; then they go to the backing file. `Forgetful.cut` ends the process: the
mount is dead at once, as after a power cut, and what was pending is dropped ("none" survives) or a random
half of the pages is kept ("some": a disk writes in any order).

Guarantee:  after a cut the backing directory holds what a disk may hold.
Not here:   names. Create, rename and unlink are durable at once; links, attributes and locks between hosts
            don't exist.
Source:     the libfuse low-level API through pyfuse3.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

_PAGE: Final = 4096
_ROOT: Final = Path(__file__).parents[2]


def unavailable() -> str:
    """Why there can be no such file system here, "" if there can."""
    try:
        import pyfuse3  # noqa: F401
    except ImportError:
        return "pyfuse3 isn't installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is absent or closed to us"
    return ""


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
        deadline = time.monotonic() + 10
        while not os.path.ismount(self.mount):
            assert time.monotonic() < deadline
            time.sleep(0.01)

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
        # Detach: whoever still uses the dead mount gets errors until it goes away.
        ctypes.CDLL(None).umount2(os.fsencode(self.mount), 2)
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

    def _page(self, file: Any, number: int) -> bytes:
        page = self.pages.get(number)
        if page is None:
            file.seek(number * _PAGE)
            read: bytes = file.read(_PAGE)
            page = read.ljust(_PAGE, b"\0")
        return page


def _serve(backing: Path, mount: Path) -> None:
    """The body of the process."""
    import pyfuse3
    import trio

    files: dict[Path, _File] = {}
    paths: dict[int, Path] = {pyfuse3.ROOT_INODE: backing}
    inodes: dict[Path, int] = {backing: pyfuse3.ROOT_INODE}
    handles: dict[int, tuple[_File, int]] = {}

    def file_of(path: Path) -> _File:
        if path not in files:
            files[path] = _File(path)
        return files[path]

    def inode_of(path: Path) -> int:
        if path not in inodes:
            inodes[path] = max(paths) + 1
            paths[inodes[path]] = path
        return inodes[path]

    def attributes(path: Path) -> Any:
        try:
            found = path.lstat()
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from error
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode_of(path)
        entry.st_mode, entry.st_nlink = found.st_mode, found.st_nlink
        entry.st_uid, entry.st_gid = found.st_uid, found.st_gid
        entry.st_size = file_of(path).size if stat.S_ISREG(found.st_mode) else found.st_size
        entry.st_blksize, entry.st_blocks = _PAGE, (entry.st_size + 511) // 512
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = found.st_mtime_ns
        entry.attr_timeout = entry.entry_timeout = 0
        return entry

    class Operations(pyfuse3.Operations):  # type: ignore[misc]
        enable_writeback_cache = False

        async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> Any:
            return attributes(paths[parent] / os.fsdecode(name))

        async def getattr(self, inode: int, ctx: Any = None) -> Any:
            return attributes(paths[inode])

        async def setattr(self, inode: int, attr: Any, fields: Any, fh: Any, ctx: Any) -> Any:
            if fields.update_size:
                file_of(paths[inode]).truncate(attr.st_size)
            if fields.update_mode:
                paths[inode].chmod(stat.S_IMODE(attr.st_mode))
            return attributes(paths[inode])

        async def opendir(self, inode: int, ctx: Any) -> int:
            return inode

        async def readdir(self, fh: int, start: int, token: Any) -> None:
            for at, path in enumerate(sorted(paths[fh].iterdir())):
                entry = attributes(path)
                if at >= start and not pyfuse3.readdir_reply(token, os.fsencode(path.name), entry, at + 1):
                    return

        async def fsyncdir(self, fh: int, datasync: bool) -> None:
            return

        async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
            path = paths[parent] / os.fsdecode(name)
            path.mkdir(stat.S_IMODE(mode))
            return attributes(path)

        async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> tuple[Any, Any]:
            path = paths[parent] / os.fsdecode(name)
            path.touch(stat.S_IMODE(mode))
            return await self.open(inode_of(path), flags, ctx), attributes(path)

        async def open(self, inode: int, flags: int, ctx: Any) -> Any:
            handle = max(handles, default=0) + 1
            handles[handle] = (file_of(paths[inode]), flags)
            if flags & os.O_TRUNC:
                handles[handle][0].truncate(0)
            return pyfuse3.FileInfo(fh=handle)

        async def read(self, fh: int, offset: int, size: int) -> bytes:
            return handles[fh][0].read(offset, size)

        async def write(self, fh: int, offset: int, data: bytes) -> int:
            file, flags = handles[fh]
            touched = file.write(offset, data)
            if flags & os.O_DSYNC:
                file.sync(touched)
            return len(data)

        async def fsync(self, fh: int, datasync: bool) -> None:
            file = handles[fh][0]
            file.sync(set(file.pages))

        async def flush(self, fh: int) -> None:
            return

        async def release(self, fh: int) -> None:
            del handles[fh]

        async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
            path = paths[parent] / os.fsdecode(name)
            path.unlink()
            files.pop(path, None)
            paths.pop(inodes.pop(path, 0), None)

        async def rename(self, old_parent: int, old: bytes, new_parent: int, new: bytes, flags: int, ctx: Any) -> None:
            source, target = paths[old_parent] / os.fsdecode(old), paths[new_parent] / os.fsdecode(new)
            source.rename(target)
            files.pop(target, None)
            if source in files:
                files[target] = files.pop(source)
                files[target].path = target
            inode = inodes.pop(source, None)
            if inode is not None:
                inodes[target], paths[inode] = inode, target

        async def statfs(self, ctx: Any) -> Any:
            found = pyfuse3.StatvfsData()
            found.f_bsize = found.f_frsize = _PAGE
            found.f_blocks = found.f_bfree = found.f_bavail = 1 << 24
            found.f_files = found.f_ffree = found.f_favail = 1 << 20
            found.f_namemax = 255
            return found

    async def wait_for_cut() -> None:
        line = await trio.to_thread.run_sync(sys.stdin.buffer.readline)
        survivors, seed = line.split() if line else (b"none", b"0")
        chance = random.Random(int(seed))
        pending = 0
        for file in files.values():
            pending += len(file.pages)
            if survivors == b"some":
                kept = {number for number in file.pages if chance.random() < 0.5}
                file.size = max([file.path.stat().st_size, *(_PAGE * (number + 1) for number in kept)])
                file.sync(kept)
        sys.stdout.write(f"{pending}\n")
        sys.stdout.flush()
        os._exit(0)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_cut)
            sys.stdout.write("mounted\n")
            sys.stdout.flush()
            await pyfuse3.main()

    pyfuse3.init(Operations(), os.fspath(mount), {"fsname=forgetful", "default_permissions"})
    trio.run(run)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
