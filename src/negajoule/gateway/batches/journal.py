"""Answers of a batch, each on disk before it counts; what a crash cut off in the middle is dropped."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Journal", "LineCounts"]

_PIECE_BYTES = 1 << 20


class _Answered(msgspec.Struct):
    custom_id: str


_DECODER = msgspec.json.Decoder(_Answered)


class Journal:
    """A file of lines that only grows.

    Args:
        path: the file; made if there is none, and cut after its last whole line.

    Raises:
        OSError: if it can't be opened or written; so do the methods.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = _whole_lines(self._file)
        os.ftruncate(self._file, self._size)
        self._turn = asyncio.Lock()

    def answered(self) -> set[str]:
        """The ids of the lines that are there."""
        with self._path.open("rb") as file:
            return {_DECODER.decode(line).custom_id for line in file}

    async def append(self, line: bytes) -> None:
        """Write a line; it is safe when this returns."""
        async with self._turn:
            work = asyncio.ensure_future(asyncio.to_thread(self._write, line + b"\n"))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await work
                raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        """Write all of it, or nothing: half a line in the middle would spoil the file."""
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)


def _whole_lines(file: int) -> int:
    """Where the last whole line ends [bytes]."""
    end = os.fstat(file).st_size
    while end:
        begin = max(0, end - _PIECE_BYTES)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


class LineCounts:
    """Counts lines of files that only grow, reading each byte once."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}

    def of(self, path: Path) -> int:
        """Whole lines of a file; 0 if there is none."""
        offset, count = self._seen.get(path, (0, 0))
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while piece := file.read(_PIECE_BYTES):
                    offset += len(piece)
                    count += piece.count(b"\n")
        except FileNotFoundError:
            return 0
        self._seen[path] = (offset, count)
        return count

    def forget(self, path: Path) -> None:
        """Don't count a file any more."""
        self._seen.pop(path, None)
