"""As much of the kernel's FUSE protocol as a small file system needs, over /dev/fuse.

    with mounted(path) as device:
        serve(device, operations, stop)

Shapes:  a request is a header of 40 bytes, fixed fields, then names or data; an answer is a header of 16 bytes and
         fixed fields. Native byte order.
Errors:  an OSError of an operation goes to the caller of the system call; what isn't known here is ENOSYS.
Source:  linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROOT: Final = 1
_DEVICE: Final = "/dev/fuse"
_WRITE_BYTES_MAX: Final = 128 << 10
_HEADER: Final = struct.Struct("=IIQQIIIHH")
_ANSWER: Final = struct.Struct("=IiQ")
_INIT: Final = struct.Struct("=IIIIHHIIHHI28x")
_ATTRIBUTES: Final = struct.Struct("=6Q10I")
_ENTRY: Final = struct.Struct("=QQQQII")
_SETATTR: Final = struct.Struct("=II6Q8I")
_READ: Final = struct.Struct("=QQIIQII")
_OPENED: Final = struct.Struct("=QII")
_STATFS: Final = struct.Struct("=5Q4I24x")
_DIRENT: Final = struct.Struct("=QQII")
_NO_ANSWER: Final = {2, 36, 42}  # FORGET, INTERRUPT, BATCH_FORGET
_FLAGS: Final = 1 << 5 | 1 << 22  # writes beyond a page, max_pages
_SET_MODE, _SET_SIZE = 1, 8
_MS_NOSUID_NODEV: Final = 2 | 4
_MNT_DETACH: Final = 2


class Operations(Protocol):
    """A file system; files and directories go by numbers that it gives out, handles likewise."""

    def status(self, inode: int) -> os.stat_result:
        """As lstat says."""

    def size(self, inode: int) -> int:
        """Bytes of a regular file."""

    def lookup(self, parent: int, name: str) -> int: ...

    def names(self, inode: int) -> list[str]: ...

    def make(self, parent: int, name: str, mode: int, *, directory: bool) -> int: ...

    def remove(self, parent: int, name: str, *, directory: bool) -> None: ...

    def rename(self, parent: int, name: str, new_parent: int, new_name: str) -> None: ...

    def open(self, inode: int, flags: int) -> int: ...

    def close(self, handle: int) -> None: ...

    def read(self, handle: int, offset: int, size: int) -> bytes: ...

    def write(self, handle: int, offset: int, data: bytes) -> None: ...

    def sync(self, handle: int) -> None: ...

    def truncate(self, inode: int, size: int) -> None: ...

    def mode(self, inode: int, mode: int) -> None: ...


def unavailable(scratch: Path) -> str:
    """Why nothing can be mounted here, "" if it can."""
    try:
        with mounted(scratch):
            return ""
    except OSError as error:
        return f"no FUSE file system can be mounted here: {error}"


@contextmanager
def mounted(path: Path) -> Iterator[int]:
    """Mount at a directory; gives the descriptor to `serve`. Errors: OSError."""
    device = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        target = os.fsencode(path)
        if libc.mount(b"streamd-test", target, b"fuse", _MS_NOSUID_NODEV, options.encode()):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fspath(path))
        try:
            yield device
        finally:
            libc.umount2(target, _MNT_DETACH)
    finally:
        os.close(device)


def serve(device: int, operations: Operations, stop: int) -> None:
    """Answer the kernel until the descriptor `stop` can be read."""
    requests = _Requests(operations)
    poll = select.poll()
    poll.register(device, select.POLLIN)
    poll.register(stop, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if stop in ready:
            return
        try:
            request = os.read(device, _WRITE_BYTES_MAX + 4096)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                continue
            raise
        _, opcode, unique, inode, *_ = _HEADER.unpack_from(request)
        if opcode in _NO_ANSWER:
            continue
        code, body = 0, b""
        try:
            call = requests.calls.get(opcode)
            if call is None:
                raise OSError(errno.ENOSYS, "not known here")
            body = call(inode, request[_HEADER.size :])
        except OSError as error:
            code, body = -(error.errno or errno.EIO), b""
        try:
            os.write(device, _ANSWER.pack(_ANSWER.size + len(body), code, unique) + body)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the caller was interrupted
                raise


class _Requests:
    """One method a request: (inode, what follows the header) → what follows the answer's header."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.calls: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: self._getattr,
            4: self._setattr,
            9: self._mkdir,
            10: self._unlink,
            11: self._rmdir,
            12: self._rename,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: self._release,
            20: self._fsync,
            25: self._nothing,  # FLUSH
            26: self._init,
            27: self._opendir,
            28: self._readdir,
            29: self._nothing,  # RELEASEDIR
            30: self._nothing,  # FSYNCDIR
            35: self._create,
            38: self._nothing,  # DESTROY
            45: self._rename2,
        }

    def _attributes(self, inode: int) -> bytes:
        found = self._operations.status(inode)
        size = self._operations.size(inode) if stat.S_ISREG(found.st_mode) else found.st_size
        seconds, nanoseconds = divmod(found.st_mtime_ns, 10**9)
        return _ATTRIBUTES.pack(
            inode,
            size,
            (size + 511) // 512,
            *(seconds,) * 3,
            *(nanoseconds,) * 3,
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            0,
            4096,
            0,
        )

    def _entry(self, inode: int) -> bytes:
        # Nothing may be remembered: each time 0.
        return _ENTRY.pack(inode, 0, 0, 0, 0, 0) + self._attributes(inode)

    def _init(self, _inode: int, _body: bytes) -> bytes:
        pages = _WRITE_BYTES_MAX // 4096
        return _INIT.pack(7, 31, 1 << 17, _FLAGS, 16, 12, _WRITE_BYTES_MAX, 1, pages, 0, 0)

    def _lookup(self, inode: int, body: bytes) -> bytes:
        return self._entry(self._operations.lookup(inode, _names(body)[0]))

    def _getattr(self, inode: int, _body: bytes) -> bytes:
        return bytes(16) + self._attributes(inode)

    def _setattr(self, inode: int, body: bytes) -> bytes:
        valid, _, _, size, _, _, _, _, _, _, _, mode, *_ = _SETATTR.unpack_from(body)
        if valid & _SET_SIZE:
            self._operations.truncate(inode, size)
        if valid & _SET_MODE:
            self._operations.mode(inode, stat.S_IMODE(mode))
        return self._getattr(inode, b"")

    def _mkdir(self, inode: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("=I", body)
        return self._entry(self._operations.make(inode, _names(body[8:])[0], stat.S_IMODE(mode), directory=True))

    def _create(self, inode: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("=II", body)
        made = self._operations.make(inode, _names(body[16:])[0], stat.S_IMODE(mode), directory=False)
        return self._entry(made) + _OPENED.pack(self._operations.open(made, flags), 0, 0)

    def _unlink(self, inode: int, body: bytes) -> bytes:
        self._operations.remove(inode, _names(body)[0], directory=False)
        return b""

    def _rmdir(self, inode: int, body: bytes) -> bytes:
        self._operations.remove(inode, _names(body)[0], directory=True)
        return b""

    def _rename(self, inode: int, body: bytes) -> bytes:
        return self._rename2(inode, body[:8] + bytes(8) + body[8:])

    def _rename2(self, inode: int, body: bytes) -> bytes:
        new_parent, flags = struct.unpack_from("=QI", body)
        if flags:
            raise OSError(errno.EINVAL, "flags of a rename")
        old, new = _names(body[16:])
        self._operations.rename(inode, old, new_parent, new)
        return b""

    def _open(self, inode: int, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("=I", body)
        return _OPENED.pack(self._operations.open(inode, flags), 0, 0)

    def _release(self, _inode: int, body: bytes) -> bytes:
        self._operations.close(*struct.unpack_from("=Q", body))
        return b""

    def _read(self, _inode: int, body: bytes) -> bytes:
        handle, offset, size, *_ = _READ.unpack_from(body)
        return self._operations.read(handle, offset, size)

    def _write(self, _inode: int, body: bytes) -> bytes:
        handle, offset, size, *_ = _READ.unpack_from(body)
        self._operations.write(handle, offset, body[_READ.size : _READ.size + size])
        return struct.pack("=II", size, 0)

    def _fsync(self, _inode: int, body: bytes) -> bytes:
        self._operations.sync(*struct.unpack_from("=Q", body))
        return b""

    def _opendir(self, _inode: int, _body: bytes) -> bytes:
        return _OPENED.pack(0, 0, 0)

    def _readdir(self, inode: int, body: bytes) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(body)
        answer = b""
        for at, name in enumerate(self._operations.names(inode)):
            text = os.fsencode(name)
            entry = _DIRENT.pack(1 << 32 | at, at + 1, len(text), 0) + text.ljust(-(-len(text) // 8) * 8, b"\0")
            if at >= offset:
                if len(answer) + len(entry) > size:
                    break
                answer += entry
        return answer

    def _statfs(self, _inode: int, _body: bytes) -> bytes:
        return _STATFS.pack(1 << 24, 1 << 24, 1 << 24, 1 << 20, 1 << 20, 4096, 255, 4096, 0)

    def _nothing(self, _inode: int, _body: bytes) -> bytes:
        return b""


def _names(body: bytes) -> list[str]:
    return [os.fsdecode(name) for name in body.rstrip(b"\0").split(b"\0")]
