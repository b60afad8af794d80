"""Whether a table fits into the memory that this process may have, found out before it is made.

That is the machine's memory, or less where a limit says so; how much is free is not asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..schema import FieldSchema

__all__ = ["check_memory", "find_memory_limit"]


def check_memory(schema: FieldSchema, floats_per_row: float, dense_floats: float) -> None:
    """Raise before allocating tables that cannot fit into the memory that there is.

    Parameters
    ----------
    schema : FieldSchema
        The fields.
    floats_per_row : float
        Numbers held per row of the table: weights, state of the solver, best copy.
    dense_floats : float
        Numbers held by dense layers, likewise.

    Raises
    ------
    MemoryError
        Naming the fields with the largest share.
    """
    limit = find_memory_limit()
    needed = 4 * (schema.table_size * floats_per_row + dense_floats)
    if limit is None or needed <= limit[0]:
        return
    available, who = limit
    if schema.has_columns:
        advice = (
            "Each column of the sparse matrix has a row: pass those that are needed (are its "
            "indices meant to be as large?)"
        )
    else:
        by_size = sorted(zip(schema.vocabulary_sizes, schema.names, strict=True), reverse=True)
        blame = ", ".join(f"{name!r} ({size:,} rows)" for size, name in by_size[:3])
        advice = (
            f"Largest fields: {blame}. Raise min_frequency or set max_categories in FieldEncoder"
        )
    raise MemoryError(
        f"Training needs about {needed / 2**30:,.1f} GiB for a table of {schema.table_size:,} rows "
        f"and the layers above, {who} {available / 2**30:,.1f} GiB. {advice}, "
        "or lower embedding_dim or hidden_layer_sizes."
    )


def find_memory_limit(root: str | os.PathLike[str] = "/") -> tuple[int, str] | None:
    """Return the least of the limits that hold for this process.

    These are the physical memory; the address space it may map (``ulimit -v``), less what it has
    mapped already; and what the control groups that it is in allow, of either version, as
    containers set it.

    Parameters
    ----------
    root : path-like, default="/"
        Where ``proc`` and the control groups are found.

    Returns
    -------
    limit : int
        Bytes.
    words : str
        Who sets the limit, as the start of a sentence that ends in ``X GiB``.

    None if nothing is known, as on platforms that have none of these.
    """
    limits = [*_physical(), *_address_space(Path(root)), *_control_groups(Path(root))]
    return min(limits, default=None)


def _physical() -> Iterator[tuple[int, str]]:
    try:
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine has"
    except (AttributeError, ValueError, OSError):  # not on this platform
        return


def _address_space(root: Path) -> Iterator[tuple[int, str]]:
    """Room below RLIMIT_AS."""
    try:
        import resource
    except ImportError:  # not on this platform
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    pages = _read(root / "proc/self/statm").split()
    mapped = int(pages[0]) * resource.getpagesize() if pages else 0
    yield max(limit - mapped, 0), "RLIMIT_AS (ulimit -v) leaves this process"


def _control_groups(root: Path) -> Iterator[tuple[int, str]]:
    """Limits of the own group and of those above it, as far as they are mounted."""
    for folder, mount, name in _group_folders(root):
        for place in (folder, *folder.parents):
            limit = _read(place / name).strip()
            if limit.isdigit():  # else "max"
                yield int(limit), "the control group (container) of this process may use"
            if place == mount:
                break


def _group_folders(root: Path) -> Iterator[tuple[Path, Path, str]]:
    """Folder of the own group, that of its mount, and the file that has the limit."""
    groups = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups["cgroup2"] = path
        elif "memory" in controllers.split(","):
            groups["cgroup"] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if len(place) < 5 or len(kind) < 3 or kind[0] not in groups:
            continue
        if kind[0] == "cgroup" and "memory" not in kind[2].split(","):
            continue
        top, mount = (_unescape(text) for text in place[3:5])
        mounted = root / mount.lstrip("/")
        group = groups[kind[0]]
        # A path that does not lead into what is mounted is one outside the container, of which
        # the mount shows the own group.
        inside = group == top or group.startswith(top.rstrip("/") + "/")
        below = group[len(top) :].strip("/") if inside and ".." not in group.split("/") else ""
        name = "memory.max" if kind[0] == "cgroup2" else "memory.limit_in_bytes"
        yield mounted / below, mounted, name


def _unescape(text: str) -> str:
    """A path of mountinfo, which writes blanks in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _read(path: Path) -> str:
    """Text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
