"""Who runs on this machine, with CPU time and memory."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Running", "running", "tree_under"]


class Running(NamedTuple):
    """A process at one moment.

    Attributes:
        pid: its number.
        parent: its parent's number.
        born_s: when it started, seconds since the epoch; tells it from a later one of the same number [s].
        name: its name as the system has it.
        cpu_s: CPU time so far, user and system [s].
        memory_bytes: memory it holds, what it shares included [B].
        own_bytes: memory it holds alone, as far as that is known [B].
    """

    pid: int
    parent: int
    born_s: float
    name: str
    cpu_s: float
    memory_bytes: int
    own_bytes: int


def running() -> list[Running]:
    """All processes that live and that we may look at."""
    import psutil  # slow to import

    found = []
    for process in psutil.process_iter(["ppid", "create_time", "name", "cpu_times", "memory_info", "status"]):
        known = process.info
        times, memory = known["cpu_times"], known["memory_info"]
        if times is None or memory is None or known["status"] == psutil.STATUS_ZOMBIE:
            continue
        found.append(
            Running(
                pid=process.pid,
                parent=known["ppid"] or 0,
                born_s=known["create_time"] or 0.0,
                name=known["name"] or "?",
                cpu_s=times.user + times.system,
                memory_bytes=memory.rss,
                own_bytes=max(memory.rss - getattr(memory, "shared", 0), 0),
            )
        )
    return found


def tree_under(root: int, processes: list[Running]) -> frozenset[int]:
    """Numbers of a process and all that descend from it; empty if it isn't there.

    Args:
        root: its number.
        processes: everybody.
    """
    children: dict[int, list[int]] = {}
    for one in processes:
        children.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    waiting = [root] if any(one.pid == root for one in processes) else []
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return frozenset(found)
