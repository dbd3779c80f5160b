"""How much memory this process may still take, and how much decoded images take."""

from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LIMITS = {"RLIMIT_DATA": "VmData", "RLIMIT_AS": "VmSize"}  # and what /proc/self/status says is taken of each


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that this process can still allocate, or None where the system does not say.

    That is the least of the machine's available memory, what its control groups (containers) leave, and what
    `ulimit -d` and `ulimit -v` leave.

    Args:
        proc: where the proc file system is.
        cgroups: where the control groups are.

    Example:
        >>> free_memory(Path("nowhere"), Path("nowhere")) is None
        True
    """
    available = _read_fields(proc / "meminfo").get("MemAvailable")
    rooms = [*([] if available is None else [available]), *_cgroup_rooms(proc, cgroups), *_limit_rooms(proc)]
    return max(min(rooms), 0) if rooms else None


def fitted_bytes(size: tuple[int, int], image_size: tuple[int, int], fit: str) -> int:
    """Return the bytes of an image of (height, width) pixels once it is fitted.

    Example:
        >>> fitted_bytes((480, 640), (320, 320), "letterbox")  # 240 x 320 x 3
        230400
    """
    if fit == "stretch":
        return 3 * image_size[0] * image_size[1]
    scale = min(image_size[0] / size[0], image_size[1] / size[1])
    height, width = (max(round(side * scale), 1) for side in size)
    return 3 * height * width


def _limit_rooms(proc: Path) -> Iterator[int]:
    """Yield what the limits of the process leave."""
    taken = _read_fields(proc / "self" / "status")
    for name, field in LIMITS.items():
        if resource is not None and field in taken:
            limit, _ = resource.getrlimit(getattr(resource, name))
            if limit != resource.RLIM_INFINITY:
                yield limit - taken[field]


def _cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield what each control group above this process leaves; files that the system can drop count as free."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        if controllers in ("", "memory"):
            root = cgroups / controllers
            names = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            )
            group = root / place.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
                limit, usage = (_read(folder / name).strip() for name in names)
                if limit.isdigit() and usage.isdigit():  # "max" is no limit.
                    files = [row.split() for row in _read(folder / "memory.stat").splitlines()]
                    cached = sum(int(row[1]) for row in files if row[:1] in (["inactive_file"], ["active_file"]))
                    yield int(limit) - max(int(usage) - cached, 0)


def _read_fields(file: Path) -> dict[str, int]:
    """Return the bytes by name of a file with rows such as "MemAvailable:  123 kB"."""
    rows = (line.split() for line in _read(file).splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def _read(file: Path) -> str:
    """Return the text of a file, or nothing where there is none."""
    try:
        return file.read_text()
    except OSError:
        return ""
