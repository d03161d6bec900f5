"""Where files and batches are kept: a folder, readable for its owner only.

    batches/batch-1f.json           a batch; only the server that runs batches changes it
    batches/batch-1f.cancel         its owner wants it cancelled
    batches/files/file-2e.jsonl     a file, and
    batches/files/file-2e.json      what is known of it; without this it isn't there yet

What a batch answers grows in files of its own (``journal``), which become visible when it ends.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from negajoule.config import home
from negajoule.errors import RequestError
from negajoule.gateway.batches.journal import LineCounts
from negajoule.gateway.batches.record import Batch, Counts, StoredFile
from negajoule.ledger import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from negajoule.gateway.batches.record import BatchLimits

__all__ = ["Shelf"]

_ID = re.compile(r"(?:file|batch)-[0-9a-f]{1,64}(?:-output|-errors)?")
_STALE_S = 86_400.0
_Kept = TypeVar("_Kept", Batch, StoredFile)


class Shelf:
    """Keeps files and batches.

    Args:
        limits: how much.
        folder: where; by default in the data folder.
        clock: seconds since the epoch [s].

    Raises (all methods):
        OSError: if the folder can't be read or written.
    """

    def __init__(
        self, limits: BatchLimits, folder: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = home() / "batches" if folder is None else folder
        self.limits = limits
        self.clock = clock
        self._files = self.folder / "files"
        self._counts = LineCounts()

    def prepare(self) -> None:
        """Make the folder."""
        self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)

    @property
    def used(self) -> bool:
        """Whether anything was ever kept."""
        return self.folder.exists()

    def content(self, file_id: str) -> Path:
        """Where a file's content is."""
        return self._files / f"{_checked(file_id)}.jsonl"

    def part(self, file_id: str) -> Path:
        """Where it is while it comes."""
        return self._files / f"{_checked(file_id)}.part"

    def room_bytes(self) -> int:
        """How much more may be kept [bytes]."""
        self.prepare()
        taken = 0
        for entry in os.scandir(self._files):
            with suppress(FileNotFoundError):
                taken += entry.stat().st_size
        return max(0, self.limits.store_bytes - taken)

    def take_in(self, part: Path, filename: str, owner: str, lasts_s: float | None = None) -> StoredFile:
        """Keep a file that has come.

        Args:
            part: what has come.
            filename: as its owner calls it.
            owner: whose it is.
            lasts_s: how long it is kept, if that is less than all are [s].
        """
        now_s = self.clock()
        stored = StoredFile(
            id=part.stem,
            owner=owner,
            filename=filename,
            purpose="batch",
            size=part.stat().st_size,
            created_s=int(now_s),
            expires_s=self._until_s(now_s, lasts_s),
        )
        part.replace(self.content(stored.id))
        self._write(self._files / f"{stored.id}.json", stored)
        return stored

    def show_answers(self, batch: Batch) -> Counts:
        """Make the files with a batch's answers and errors visible; count their lines."""
        counted = []
        for file_id, name in ((batch.output_id, "output"), (batch.error_id, "error")):
            path = self.content(file_id)
            lines = self._counts.of(path)
            counted.append(lines)
            self._counts.forget(path)
            if lines:
                stored = StoredFile(
                    id=file_id,
                    owner=batch.owner,
                    filename=f"{batch.id}_{name}.jsonl",
                    purpose="batch_output",
                    size=path.stat().st_size,
                    created_s=int(self.clock()),
                    expires_s=self._until_s(self.clock(), None),
                )
                self._write(self._files / f"{file_id}.json", stored)
            else:
                path.unlink(missing_ok=True)
        return Counts(batch.counts.total, *counted)

    def file(self, file_id: str) -> StoredFile | None:
        """A file; ``None`` if there is none of that id."""
        found = _ID.fullmatch(file_id) and _read(self._files / f"{file_id}.json", StoredFile)
        return found or None

    def files(self) -> list[StoredFile]:
        """All files, the latest first."""
        return _all(self._files, StoredFile)

    def delete_file(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            RequestError: (R114) if a batch that hasn't ended needs it.
        """
        if any(batch.input_file_id == file_id and not batch.ended for batch in self.batches()):
            raise RequestError(
                f"a batch that hasn't ended needs the file {file_id}",
                code="R114",
                status=409,
                fix="cancel the batch first",
            )
        self._remove_file(file_id)

    def batch(self, batch_id: str) -> Batch | None:
        """A batch; ``None`` if there is none of that id."""
        found = _ID.fullmatch(batch_id) and _read(self.folder / f"{batch_id}.json", Batch)
        return found or None

    def batches(self) -> list[Batch]:
        """All batches, the latest first."""
        return _all(self.folder, Batch)

    def new_batch(self, owner: str, **given: Any) -> Batch:  # noqa: ANN401 (attributes of a batch)
        """Keep a new batch."""
        now_s = self.clock()
        length_s = given.pop("length_s")
        batch = Batch(
            id=new_id("batch"), owner=owner, created_s=int(now_s), expires_s=int(now_s + length_s), **given
        )
        self.save(batch)
        return batch

    def save(self, batch: Batch) -> None:
        """Keep a batch as it is now."""
        self._write(self.folder / f"{batch.id}.json", batch)

    def cancel(self, batch_id: str) -> None:
        """Remember that a batch is to be cancelled."""
        (self.folder / f"{_checked(batch_id)}.cancel").touch(mode=0o600)

    def cancel_asked_s(self, batch_id: str) -> float | None:
        """Since when a batch is to be cancelled, seconds since the epoch [s]; ``None`` if it isn't."""
        try:
            return (self.folder / f"{batch_id}.cancel").stat().st_mtime
        except FileNotFoundError:
            return None

    def counts(self, batch: Batch) -> Counts:
        """A batch's lines now."""
        if batch.ended:
            return batch.counts
        done = (self._counts.of(self.content(file_id)) for file_id in (batch.output_id, batch.error_id))
        return Counts(batch.counts.total, *done)

    def tidy(self) -> int:
        """Delete what has been kept long enough, and what never came whole; tell how much."""
        now_s, deleted = self.clock(), 0
        batches = self.batches()
        needed = {batch.input_file_id for batch in batches if not batch.ended}
        for stored in self.files():
            if stored.expires_s <= now_s and stored.id not in needed:
                self._remove_file(stored.id)
                deleted += 1
        for batch in batches:
            if batch.ended and batch.created_s + self.limits.keep_days * 86_400.0 <= now_s:
                (self.folder / f"{batch.id}.json").unlink(missing_ok=True)
                (self.folder / f"{batch.id}.cancel").unlink(missing_ok=True)
                deleted += 1
        for part in self._files.glob("*.part"):
            if part.stat().st_mtime + _STALE_S <= now_s:
                part.unlink(missing_ok=True)
                deleted += 1
        return deleted

    def _until_s(self, now_s: float, lasts_s: float | None) -> int:
        kept_s = self.limits.keep_days * 86_400.0
        return int(now_s + (kept_s if lasts_s is None else min(lasts_s, kept_s)))

    def _remove_file(self, file_id: str) -> None:
        (self._files / f"{_checked(file_id)}.json").unlink(missing_ok=True)
        self.content(file_id).unlink(missing_ok=True)

    def _write(self, path: Path, kept: Batch | StoredFile) -> None:
        """Put a record in place as a whole."""
        new = path.with_suffix(".new")
        file = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            os.write(file, msgspec.json.encode(kept))
            os.fsync(file)
        finally:
            os.close(file)
        new.replace(path)


def _checked(one_id: str) -> str:
    if not _ID.fullmatch(one_id):
        raise RequestError("that is no id of a file or batch", code="R106", status=404)
    return one_id


def _read(path: Path, kind: type[_Kept]) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _all(folder: Path, kind: type[_Kept]) -> list[_Kept]:
    found = (_read(path, kind) for path in folder.glob("*.json"))
    return sorted((one for one in found if one is not None), key=lambda one: (-one.created_s, one.id))
