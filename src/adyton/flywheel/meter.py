"""How much memory the run and all its processes hold, sampled from /proc while a block runs."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

_PERIOD_S = 0.2
_PAGE_BYTES = resource.getpagesize()


class MemoryMeter:
    """Peak resident memory of this process and its descendants, in MB.

    On Linux the sum over the process tree is sampled five times a second (pages shared between processes count in each,
    so the figure errs upwards). Elsewhere it is the larger of this process's and its largest child's own peak.
    """

    def __init__(self) -> None:
        self._peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="memory-meter")

    def __enter__(self) -> MemoryMeter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mb(self) -> float:
        # ru_maxrss is in kilobytes on Linux and in bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        own = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit
        return max(own, self._peak_bytes) / 2**20

    def _sample(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self._peak_bytes = max(self._peak_bytes, _tree_bytes(os.getpid()))


def _tree_bytes(root: int) -> int:
    """Resident bytes of `root` and its descendants; 0 where there is no /proc."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command name is in parentheses and may hold spaces: fields are counted from the last one.
            fields = entry.read_text().rpartition(")")[2].split()
            children[int(fields[1])].append(int(entry.parent.name))
        except (OSError, IndexError, ValueError):
            continue  # a process that ended between the listing and the read
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        pending += children[pid]
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            continue
    return total
