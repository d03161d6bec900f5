"""A look at the machine as lines of text that fit a terminal."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from negajoule.units import total
from negajoule.units.text import number_text, range_text

if TYPE_CHECKING:
    from negajoule.instrument.here import Here
    from negajoule.instrument.live import Frame, Share
    from negajoule.units import Footprint, Quantity

__all__ = ["as_dict", "fitted", "lines_of"]

_NAME, _CPU, _FIGURE = 20, 6, 25
_FOOTER = 3
"""Lines under the processes: others, idle, whole."""


def lines_of(frame: Frame, here: Here, *, interval_s: float, width: int, height: int | None) -> list[str]:
    """The lines of a frame, each no wider than the terminal; headings are the lines without a figure.

    Args:
        frame: what to show.
        here: the machine and its place.
        interval_s: time between looks [s].
        width: columns of the terminal.
        height: lines of the terminal, ``None`` for as many as there are.
    """
    host = here.host
    head = [
        f"negajoule watch  {number_text(frame.elapsed_s, 3)} s, every {interval_s:g} s  "
        f"{here.factors.zone}  {host.threads} threads, {host.cpu or 'unknown processor'}",
        _line("", "", "now", "since start"),
        *_indicators(frame),
        _line("device [grade]", "", "power", "energy"),
        *(_share(f"  {line.name} [{line.grade}]", "", line.share) for line in frame.devices),
    ]
    shown, others = list(frame.processes), frame.others
    room = len(shown) if height is None else max(height - len(head) - 1 - _FOOTER, 0)
    folded = shown[room:]
    others_cpu = frame.others_cpu_share + sum(line.cpu_share for line in folded)
    for line in folded:
        others = type(others)(others.power + line.share.power, others.energy + line.share.energy)
    lines = [
        *head,
        _line("process", "CPU", "power", "energy"),
        *(
            _share(f"{line.pid:>7} {printable(line.name)}", _percent(line.cpu_share), line.share)
            for line in shown[:room]
        ),
        _share("  other processes", _percent(others_cpu), others),
        _share("  idle and shared", "", frame.idle),
        _share("whole machine", "", frame.whole),
    ]
    if height is not None:
        lines = lines[:height]
    return [fitted(line, width).rstrip() for line in lines]


def as_dict(frame: Frame) -> dict[str, Any]:
    """The JSON form, schema ``negajoule.watch/1``."""
    return {
        "schema": "negajoule.watch/1",
        "time_s": frame.time_s,
        "seconds": frame.seconds,
        "elapsed_s": frame.elapsed_s,
        "whole": _share_dict(frame.whole),
        "now": frame.now.to_dict(detail=False),
        "since_start": frame.since_start.to_dict(detail=False),
        "devices": [
            {"name": line.name, "source": line.source, "grade": line.grade, **_share_dict(line.share)}
            for line in frame.devices
        ],
        "processes": [
            {"pid": line.pid, "name": line.name, "cpu_share": line.cpu_share, **_share_dict(line.share)}
            for line in frame.processes
        ],
        "others": {"cpu_share": frame.others_cpu_share, **_share_dict(frame.others)},
        "idle": _share_dict(frame.idle),
    }


def fitted(text: str, width: int) -> str:
    """The text cut to so many columns; wide characters count twice."""
    used = 0
    for at, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > width:
            return text[:at]
    return text


def printable(name: str) -> str:
    """A process's name without what could steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _indicators(frame: Frame) -> list[str]:
    seconds = max(frame.seconds, 1e-9)
    lines = [_share("energy", "", frame.whole)]
    for name, indicators in (
        ("with PUE", ("facility_energy",)),
        ("carbon, grid mix", ("carbon_location",)),
        ("water", ("water_onsite", "water_offsite")),
        ("embodied", ("embodied",)),
    ):
        now, since = _sum(frame.now, indicators), _sum(frame.since_start, indicators)
        if name == "with PUE":
            rate = "unknown" if now is None else range_text(now / seconds).replace("J", "W", 1)
        else:
            rate = "unknown" if now is None else range_text(now * (3600 / seconds)).replace(" (", "/h (", 1)
        lines.append(_line(name, "", rate, "unknown" if since is None else range_text(since)))
    return lines


def _sum(footprint: Footprint, names: tuple[str, ...]) -> Quantity | None:
    found = [getattr(footprint, name) for name in names]
    return None if None in found else total(found)


def _share(name: str, cpu: str, share: Share) -> str:
    return _line(name, cpu, range_text(share.power), range_text(share.energy))


def _line(name: str, cpu: str, now: str, since: str) -> str:
    label = fitted(name, _NAME)
    padding = " " * (_NAME - _columns(label))
    return f"{label}{padding} {cpu:>{_CPU}}  {now:<{_FIGURE}} {since:<{_FIGURE}}"


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _share_dict(share: Share) -> dict[str, Any]:
    return {"power": share.power.to_dict(), "energy": share.energy.to_dict()}
