"""What the process of a server costs."""

from __future__ import annotations

import os
import resource
import time


class Process:
    """What this process costs. Units: `mem` in bytes, `cpu` in percent of a core since last asked."""

    def __init__(self) -> None:
        self._asked = time.monotonic(), _cpu_s()
        self._cpu_percent = 0.0

    def fields(self) -> dict[str, object]:
        now, used = time.monotonic(), _cpu_s()
        before, used_before = self._asked
        # Two questions at once would divide by nothing: the older answer stands for a moment.
        if now - before >= 0.1:
            self._cpu_percent = 100 * (used - used_before) / (now - before)
            self._asked = now, used
        return {"mem": _resident_bytes(), "cpu": round(self._cpu_percent, 2), "cores": os.cpu_count() or 1}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Elsewhere than on Linux only the highest mark is known (in bytes on macOS, KiB on the BSDs).
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
