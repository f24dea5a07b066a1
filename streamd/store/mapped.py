"""What of the data file the process has mapped.

Why:        LMDB reads through a map of the whole file, and every page that was looked at counts as the process's memory until
            the system needs it elsewhere: a server would seem to grow with its store.
Guarantee:  nothing is lost: the map is for reading, and what is given back stays in the system's cache of the file.
Source:     madvise(2), proc_pid_maps(5).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_MAPS: Final = Path("/proc/self/maps")
_MADV_DONTNEED: Final = 4  # on Linux


def give_back(path: Path) -> bool:
    """Unmap the pages of a mapped file until they are looked at again. Returns False where the system has no such thing."""
    name = os.path.realpath(path)
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return False
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    ranges = [line.split(maxsplit=1)[0].split("-") for line in lines if line.endswith(f" {name}")]
    done = [madvise(int(low, 16), int(high, 16) - int(low, 16), _MADV_DONTNEED) for low, high in ranges]
    return bool(done) and not any(done)
