"""Conversations out of a JSON file, a folder or a zip archive, one at a time.

The file is held in memory as bytes; only one conversation at a time is made into objects. Newer archives hold
several files (``conversations-000.json`` and on); a conversation that stands in two is taken once.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["KINDS", "conversations"]

KINDS: dict[str, tuple[str, str]] = {"chatgpt": ("ChatGPT", "mapping"), "claude": ("Claude", "chat_messages")}
"""The archives that are understood: name of the product, and the field that its conversations have."""

_NAME = re.compile(r"conversations(?:[-_]\d+)?\.json", re.IGNORECASE)
_IDS = ("conversation_id", "uuid", "id")
_AGAIN = "ask for the export again, or unpack it and give the file conversations.json"

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError)

_Conversation = dict[str, Any]


def conversations(
    path: Path, kind: str, progress: Callable[[int, int], None] | None = None
) -> Iterator[_Conversation | None]:
    """Read every conversation; ``None`` stands for one that has another form than expected.

    Args:
        path: a JSON file, the zip archive as downloaded, or the folder it was unpacked to.
        kind: ``chatgpt`` or ``claude``.
        progress: told the bytes that are done and their sum.

    Raises:
        ConfigError: (C106) if there's nothing that could be read.
    """
    files = _files(path)
    total = sum(size for _, size, _ in files)
    done = understood = 0
    seen: set[str] = set()
    for name, size, read in files:
        rest = size
        for raw in _split(name, read()):
            conversation = _decoded(raw)
            if conversation is not None and KINDS[kind][1] not in conversation:
                _refuse_other(name, kind, conversation)
                conversation = None
            identity = _identity(conversation)
            if not identity or identity not in seen:
                seen.add(identity)
                understood += conversation is not None
                yield conversation
            length = min(len(memoryview(raw)), rest)
            rest -= length
            done += length
            if progress:
                progress(done, total)
        done += rest
        if progress:
            progress(done, total)
    if understood == 0:
        _refuse(f"{path} holds no conversation of {KINDS[kind][0]}", "", _AGAIN)


def _files(path: Path) -> list[tuple[str, int, Callable[[], bytes]]]:
    """Name, size and reader of each file with conversations."""
    try:
        if path.is_dir():
            found = sorted(one for one in path.rglob("*.json") if _NAME.fullmatch(one.name))
            if not found:
                _refuse(f"the folder {path} holds no conversations.json", str(path), _AGAIN)
            return [(str(one), one.stat().st_size, one.read_bytes) for one in found]
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            return _zipped(path)
        return [(str(path), path.stat().st_size, path.read_bytes)]
    except OSError as error:
        _refuse(f"can't read {path}: {error.strerror or error}", str(path), "check the path")


def _zipped(path: Path) -> list[tuple[str, int, Callable[[], bytes]]]:
    def reader(member: str) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                with zipfile.ZipFile(path) as archive:
                    return archive.read(member)
            except (*_DAMAGE, OSError, RuntimeError) as error:
                _refuse(f"can't unpack {member} of {path}: {error}", str(path), _AGAIN)

        return read

    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                info
                for info in archive.infolist()
                if _NAME.fullmatch(info.filename.rpartition("/")[2]) and "__MACOSX" not in info.filename
            ]
    except _DAMAGE as error:
        _refuse(f"{path} is a damaged zip archive: {error}", str(path), _AGAIN)
    if not members:
        _refuse(f"the archive {path} holds no conversations.json", str(path), _AGAIN)
    members.sort(key=lambda info: info.filename)
    return [(f"{path}/{info.filename}", info.file_size, reader(info.filename)) for info in members]


def _split(name: str, data: bytes) -> list[msgspec.Raw]:
    if not data.strip():
        _refuse(f"{name} is empty", name, _AGAIN)
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        start = data.lstrip()[:1]
        if start == b"[":
            return msgspec.json.decode(data, type=list[msgspec.Raw])
        if start == b"{":
            whole = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            inner = whole.get("conversations")
            if inner is None:
                return [msgspec.Raw(data)]
            return msgspec.json.decode(inner, type=list[msgspec.Raw])
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        cut = "truncated" in str(error)
        _refuse(
            f"{name} is cut off" if cut else f"{name} isn't JSON that could be read: {error}", name, _AGAIN
        )
    _refuse(f"{name} is JSON, but no list of conversations", name, _AGAIN)


def _decoded(raw: msgspec.Raw) -> _Conversation | None:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _identity(conversation: _Conversation | None) -> str:
    if conversation is None:
        return ""
    found = (conversation.get(name) for name in _IDS)
    return next((one for one in found if isinstance(one, str)), "")


def _refuse_other(name: str, kind: str, conversation: _Conversation) -> None:
    """Say so if the archive is another product's."""
    for other, (product, field) in KINDS.items():
        if other != kind and field in conversation:
            _refuse(
                f"{name} is an export of {product}, not of {KINDS[kind][0]}",
                name,
                f"negajoule estimate --{other}-export {name}",
            )


def _refuse(message: str, tried: str, fix: str) -> NoReturn:
    raise ConfigError(message, code="C106", tried=tried, fix=fix)
