"""What this process takes of the machine."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path


def memory() -> int:
    """Bytes of memory that it has now; where that cannot be read, the most that it ever had, or 0."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * mmap.PAGESIZE
    except OSError:
        return _most()


def _most() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
