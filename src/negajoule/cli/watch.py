"""``negajoule watch``: power, energy and carbon of this machine as they are drawn."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import msgspec

from negajoule.cli.card import card
from negajoule.cli.frame import as_dict, lines_of
from negajoule.cli.output import json_option, say
from negajoule.config import Settings
from negajoule.errors import ConfigError
from negajoule.instrument import find_here
from negajoule.instrument.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from negajoule.instrument import Here
    from negajoule.instrument.live import Frame

__all__ = ["watch"]

_WIDTH_OF_PIPES = 80
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the terminal's second page without cursor, and back."""
_HOME, _END_OF_LINE, _END_OF_PAGE = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


@click.command()
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds.")
@click.option(
    "--pid", type=click.IntRange(1), default=None, help="By name only this process and its children."
)
@click.option("--top", type=click.IntRange(0, 1000), default=10, show_default=True, help="Processes by name.")
@click.option("--zone", default=None, help="Where the electricity is used, e.g. FR or US-CAL-CISO.")
@click.option("--once", is_flag=True, help="Show one interval and end.")
@json_option
def watch(interval: float, pid: int | None, top: int, zone: str | None, once: bool, as_json: bool) -> None:
    """Show what this machine draws, by device and by process, now and since the start.

    Active energy goes to processes by CPU time, memory by bytes, GPUs by use; what nobody accounts for stands
    apart, and all parts add to the whole machine. Ctrl-C ends with the total. With --json one object a line.

    Example: negajoule watch --interval 1
    """
    here = find_here(Settings({"zone": zone}))
    live = Live.for_machine(here, root=pid, top=top)
    if not live.root_lives:
        raise ConfigError(f"there is no process {pid}", fix="ps aux shows who runs")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if as_json:
            _follow(live, interval, once, _print_json)
        elif once or not _is_terminal():
            _follow(live, interval, once, lambda frame: _print_lines(frame, here, interval))
        else:
            with _page() as draw:
                _follow(live, interval, once, lambda frame: draw(frame, here, interval))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read has enough; what is left in the buffer must not fail at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    finally:
        live.close()
    if not live.root_lives:
        say(f"process {pid} has ended")
    if not as_json and not once:
        seconds, footprint = live.total()
        text = card(f"this machine, {seconds:.1f} s", footprint)
        click.echo(_wrapped(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text)


def _wrapped(text: str, width: int) -> str:
    """Lines that don't fit go on below their figures."""
    return "\n".join(
        textwrap.fill(line, max(width, 40), subsequent_indent=" " * 21) for line in text.splitlines()
    )


def _follow(live: Live, interval_s: float, once: bool, show: Callable[[Frame], None]) -> None:
    due_s = time.monotonic() + interval_s
    while True:
        time.sleep(max(due_s - time.monotonic(), 0.0))
        show(live.look())
        if once or not live.root_lives:
            return
        # A machine that slept isn't caught up with.
        due_s = max(due_s + interval_s, time.monotonic())


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def _page() -> Iterator[Callable[[Frame, Here, float], None]]:
    """A page of the terminal that is drawn over and over, and given back in the end."""
    bold, plain = ("", "") if os.environ.get("NO_COLOR") else (_BOLD, _PLAIN)

    def draw(frame: Frame, here: Here, interval_s: float) -> None:
        width, height = shutil.get_terminal_size()
        lines = lines_of(frame, here, interval_s=interval_s, width=width, height=height)
        heads = {0, 1, *(at for at, line in enumerate(lines) if line.startswith(("device ", "process ")))}
        text = "\n".join(
            f"{bold}{line}{plain}{_END_OF_LINE}" if at in heads else line + _END_OF_LINE
            for at, line in enumerate(lines)
        )
        sys.stdout.write(_HOME + text + _END_OF_PAGE)
        sys.stdout.flush()

    sys.stdout.write(_ENTER + _HOME + "negajoule watch: looking ..." + _END_OF_PAGE)
    sys.stdout.flush()
    try:
        yield draw
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _print_lines(frame: Frame, here: Here, interval_s: float) -> None:
    lines = lines_of(frame, here, interval_s=interval_s, width=_WIDTH_OF_PIPES, height=None)
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def _print_json(frame: Frame) -> None:
    sys.stdout.write(msgspec.json.encode(as_dict(frame)).decode() + "\n")
    sys.stdout.flush()
