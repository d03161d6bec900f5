"""What grid sources said, kept in the data folder: one small file an hour, zone and source.

A file is written whole and then moved into place, so that readers and writers of many processes never see
half of one, and two that write the same hour agree anyway. Measured hours are kept; hours that a source had
to estimate are asked for again once they're old.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from negajoule.grid.signal import Signal

__all__ = ["HourCache", "Kept", "replace_file"]

_HOUR_S = 3600
_ESTIMATES_LAST_S = 900.0
_KEPT_S = 40 * 86_400
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class Kept(NamedTuple):
    """What is kept of a span.

    Attributes:
        signal: all of it in one.
        settled: whether all its hours are measured, or estimated not long ago.
        asked_s: when the source was asked last, UTC seconds since 1970 [s].
    """

    signal: Signal
    settled: bool
    asked_s: float

    def is_recent(self, now_s: float) -> bool:
        """Whether the source was asked not long ago."""
        return 0.0 <= now_s - self.asked_s < _ESTIMATES_LAST_S


class HourCache:
    """Signals by source, zone and hour.

    Args:
        folder: where files are kept; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, signal: Signal) -> None:
        """Keep a signal, split by hours; a folder that can't be written is no error, only no cache.

        Args:
            name: the source and its own name for the place.
            signal: what it said.
        """
        hours: dict[int, list[int]] = {}
        for position, slot in enumerate(signal.slots):
            hours.setdefault(int(slot.start_s // _HOUR_S), []).append(position)
        with suppress(OSError):
            for hour, positions in hours.items():
                part = msgspec.structs.replace(signal, slots=tuple(signal.slots[i] for i in positions))
                replace_file(self._path(name, signal.zone, hour), msgspec.json.encode(part))
            self._forget_old(name, signal)

    def get(self, name: str, zone: str, start_s: float, end_s: float, now_s: float) -> Kept | None:
        """What is kept of the hours of a span, in one signal; ``None`` if nothing is.

        A file that is damaged counts as none.
        """
        found = [
            signal
            for hour in range(int(start_s // _HOUR_S), int(end_s // _HOUR_S) + 1)
            if (signal := self._read(self._path(name, zone, hour)))
        ]
        if not found:
            return None
        expected = next((signal for signal in found if signal.kind == "forecast"), found[0])
        slots = tuple(sorted(slot for signal in found for slot in signal.slots))
        return Kept(
            msgspec.structs.replace(expected, slots=slots),
            settled=all(_is_settled(signal, now_s) for signal in found),
            asked_s=max(signal.fetched_s for signal in found),
        )

    def _path(self, name: str, zone: str, hour: int) -> Path:
        return self._folder / _UNSAFE.sub("_", name) / _UNSAFE.sub("_", zone) / f"{hour}.json"

    def _read(self, path: Path) -> Signal | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Signal)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _forget_old(self, name: str, signal: Signal) -> None:
        for path in self._path(name, signal.zone, 0).parent.glob("*.json"):
            if path.stat().st_mtime < signal.fetched_s - _KEPT_S:
                path.unlink(missing_ok=True)


def _is_settled(signal: Signal, now_s: float) -> bool:
    is_measured = signal.kind != "forecast" and not any(slot.estimated for slot in signal.slots)
    return is_measured or 0.0 <= now_s - signal.fetched_s < _ESTIMATES_LAST_S


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that others see the old one or the new one, never half.

    Raises:
        OSError: if it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
