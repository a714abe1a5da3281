"""How much memory this process may still take here: the machine's, its container's and its own limit, whichever is least."""

import resource
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")
UNKNOWN = 1 << 50  # where the system tells nothing, nothing is refused


def free_bytes(limit_mb: int | None = None) -> int:
    """Bytes that this process may hold in all, with what it holds already; `limit_mb` is the operator's own limit."""
    own = _kilobytes(STATUS, "VmRSS:")
    limits = [
        _kilobytes(MEMINFO, "MemAvailable:") + own or UNKNOWN,
        _container() + own,
        _address_space() + own,
        UNKNOWN if limit_mb is None else limit_mb << 20,
    ]
    return min(limits)


def _container() -> int:
    """What the container leaves. Files that it keeps in memory can be given up, so they count as free."""
    try:
        most = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        kept = dict(
            line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        )
    except (OSError, ValueError):
        return UNKNOWN
    return UNKNOWN if most == "max" else max(0, int(most) - used + int(kept.get("inactive_file", 0)))


def _address_space() -> int:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return UNKNOWN
    return max(0, limit - _kilobytes(STATUS, "VmSize:"))


def _kilobytes(path: Path, name: str) -> int:
    """A line of the kernel's tables, in bytes; 0 where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
