"""Is the machine free? A profile of a busy machine measures the others."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUSY_SHARE", "free_load", "wait_until_quiet"]

BUSY_SHARE = 0.25
"""Load average per thread above which a machine counts as busy."""

_LOOK_EVERY_S = 5.0


def free_load(threads: int) -> float:
    """The load average up to which a machine counts as free; half a thread at least."""
    return max(0.5, BUSY_SHARE * threads)


def wait_until_quiet(
    threads: int,
    *,
    wait_s: float,
    allow_load: bool = False,
    load: Callable[[], float] = lambda: os.getloadavg()[0],
    sleep: Callable[[float], None] = time.sleep,
    waiting: Callable[[float, float], None] | None = None,
) -> bool:
    """Wait for a load average of one minute that leaves the machine to us.

    Args:
        threads: hardware threads of the machine.
        wait_s: how long to wait before giving up [s].
        allow_load: go on all the same.
        load: the load average.
        sleep: how to wait.
        waiting: told the load and the limit at each look.

    Returns:
        Whether the machine was quiet.

    Raises:
        ConfigError: (C113) if it stays busy.
    """
    limit, waited_s = free_load(threads), 0.0
    while (found := load()) > limit:
        if allow_load:
            return False
        if waited_s >= wait_s:
            raise ConfigError(
                f"the machine is under load: {found:.1f} programs want its {threads} processors, "
                f"{limit:.1f} are the limit",
                code="C114",
                tried=f"waiting for {waited_s:.0f} s",
                fix="stop other work, wait longer with --wait SECONDS, or accept it with --allow-load",
            )
        if waiting is not None:
            waiting(found, limit)
        sleep(_LOOK_EVERY_S)
        waited_s += _LOOK_EVERY_S
    return True
