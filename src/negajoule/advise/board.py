"""Setting an accelerator's clock or power limit for a while, always undone.

Before a setting is changed, what it was is written to a guard file and forced to disk. It's undone when the
block ends, by an error or a signal too; whoever is killed leaves the guard file, and the next start undoes
what it names.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from negajoule.config import home
from negajoule.errors import MeterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["Board", "Setting", "held_at", "restore_left_over"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two.

    Attributes:
        power_limit_w: of the board [W].
        clock_mhz: to which its processors are locked [MHz].
    """

    power_limit_w: float | None = None
    clock_mhz: float | None = None

    @property
    def text(self) -> str:
        """In words."""
        if self.power_limit_w is not None:
            return f"power limit {self.power_limit_w:g} W"
        return f"clock {self.clock_mhz:g} MHz"


class Board(Protocol):
    """An accelerator that can be set."""

    @property
    def uuid(self) -> str:
        """What tells it from others for good."""
        ...

    @property
    def title(self) -> str:
        """Its name, for people."""
        ...

    def power_limit_w(self) -> float:
        """The limit of now [W]."""
        ...

    def power_range_w(self) -> tuple[float, float]:
        """Lowest and highest limit it takes [W]."""
        ...

    def clocks_mhz(self) -> tuple[float, ...]:
        """Clocks that it takes, rising [MHz]."""
        ...

    def set_power_limit(self, power_w: float) -> None:
        """Limit its power [W]."""
        ...

    def lock_clock(self, clock_mhz: float) -> None:
        """Lock the clock of its processors [MHz]."""
        ...

    def unlock_clock(self) -> None:
        """Let it choose its clock again."""
        ...

    def energy_j(self) -> float | None:
        """Its counter; None without one [J]."""
        ...


class _Guard(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="negajoule.board_guard/1"):
    """What is undone.

    Attributes:
        uuid: of the board.
        pid: of the process that changed it.
        born: when that process started, as its system tells; empty if it doesn't.
        power_limit_w: limit before; None if it wasn't changed [W].
        clock_locked: whether a clock was locked.
    """

    uuid: str
    pid: int
    born: str
    power_limit_w: float | None
    clock_locked: bool


@contextmanager
def held_at(boards: Sequence[Board], setting: Setting) -> Iterator[None]:
    """Hold boards at a setting inside the block.

    NVML doesn't tell whether someone else locked a clock before; leaving the block unlocks it.

    Raises:
        MeterError: (M106) if a setting is out of range, refused, or already held by another process.
    """
    for board in boards:
        _check(board, setting)
    held: list[Board] = []
    with _signals_as_exit():
        try:
            for board in boards:
                held.append(board)
                _claim(board, setting)
                if setting.power_limit_w is not None:
                    board.set_power_limit(setting.power_limit_w)
                if setting.clock_mhz is not None:
                    board.lock_clock(setting.clock_mhz)
            yield
        finally:
            with _signals_blocked():
                _undo(held)


def restore_left_over(boards: Sequence[Board]) -> list[str]:
    """Undo what processes that are gone left behind; returns what was done, in words."""
    done = []
    for board in boards:
        path = _path(board)
        guard = _read(path)
        if guard is None or _alive(guard):
            continue
        _restore(board, guard)
        path.unlink(missing_ok=True)
        done.append(f"{board.title}: undid what process {guard.pid} left behind")
    return done


def _check(board: Board, setting: Setting) -> None:
    if (setting.power_limit_w is None) == (setting.clock_mhz is None):
        raise MeterError("either a power limit or a clock is set, not both", code="M106")
    if setting.power_limit_w is not None:
        low, high = board.power_range_w()
        if not low <= setting.power_limit_w <= high:
            raise MeterError(
                f"{board.title} takes no power limit of {setting.power_limit_w:g} W",
                code="M106",
                fix=f"{low:g} to {high:g} W",
            )
    clocks = board.clocks_mhz()
    if setting.clock_mhz is not None and clocks and not clocks[0] <= setting.clock_mhz <= clocks[-1]:
        raise MeterError(
            f"{board.title} takes no clock of {setting.clock_mhz:g} MHz",
            code="M106",
            fix=f"{clocks[0]:g} to {clocks[-1]:g} MHz",
        )


def _claim(board: Board, setting: Setting) -> None:
    """Write the guard file; refuse if a living process holds it."""
    path = _path(board)
    other = _read(path)
    if other is not None and other.pid != os.getpid() and _alive(other):
        raise MeterError(
            f"{board.title} is held at a setting by process {other.pid}",
            code="M106",
            fix="wait for it to end",
        )
    if other is not None:
        _restore(board, other)
    guard = _Guard(
        uuid=board.uuid,
        pid=os.getpid(),
        born=_born(os.getpid()),
        power_limit_w=None if setting.power_limit_w is None else board.power_limit_w(),
        clock_locked=setting.clock_mhz is not None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(guard))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _undo(boards: Sequence[Board]) -> None:
    """Undo all; a board that refuses keeps its guard file and is named at the end."""
    failed: list[str] = []
    for board in boards:
        path = _path(board)
        guard = _read(path)
        if guard is None or guard.pid != os.getpid():
            continue
        try:
            _restore(board, guard)
        except MeterError as error:
            failed.append(f"{board.title}: {error.message}")
        else:
            path.unlink(missing_ok=True)
    if failed:
        raise MeterError(
            f"a setting couldn't be undone: {'; '.join(failed)}",
            code="M106",
            fix="negajoule advise clocks --restore, as a user who may change it",
        )


def _restore(board: Board, guard: _Guard) -> None:
    if guard.power_limit_w is not None:
        board.set_power_limit(guard.power_limit_w)
    if guard.clock_locked:
        board.unlock_clock()


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Turn signals that would end the process into an exit that runs ``finally``."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    with suppress(ValueError):  # only the main thread may set handlers; others aren't signalled
        for number in _SIGNALS:
            before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold signals back, so that undoing isn't broken off."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _path(board: Board) -> Path:
    name = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in board.uuid)
    return home() / "boards" / f"{name}.json"


def _read(path: Path) -> _Guard | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Guard)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise MeterError(
            f"{path} can't be read, so what it would undo isn't known: {error}",
            code="M106",
            fix="set the board's limits by hand (nvidia-smi), then delete the file",
        ) from None


def _alive(guard: _Guard) -> bool:
    try:
        os.kill(guard.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return guard.born == _born(guard.pid)


def _born(pid: int) -> str:
    """When a process started, in ticks since boot, by /proc; empty elsewhere."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
