"""Traces in files: told apart by their columns or keys, packed with gzip or not.

===========  ===========================================  ==================================
format       told by                                      time
===========  ===========================================  ==================================
Azure LLM    TIMESTAMP, ContextTokens, GeneratedTokens    date and time
Mooncake     timestamp_ms, input_length, output_length    milliseconds; CSV or lines of JSON
BurstGPT     Timestamp, Request tokens, Response tokens   seconds
Vidur        arrived_at, num_prefill_tokens, ...          seconds
ServeGen     client, then columns 0 to 5                  windows: see ``traffic_servegen``
vLLM         JSON: start_times, input_lens, output_lens   seconds
guidellm     JSON: benchmarks, each with requests         seconds
CSV          arrival_s, prompt_tokens, answer_tokens      seconds, or date and time
===========  ===========================================  ==================================

Times are counted from the first request. Requests without an answer, as failed ones are written, are left out
and counted in the trace's notes.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from negajoule.errors import ConfigError
from negajoule.simulate.trace import Trace
from negajoule.simulate.traffic_servegen import draw_servegen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from negajoule.simulate.traffic_made import Lengths

__all__ = ["read_trace", "write_vidur"]

_BLOCK_TOKENS = 512  # a block of Mooncake's prefix hashes, as its traces' README says


class _Columns(NamedTuple):
    """Names of a format's columns."""

    title: str
    time: str
    prompt: str
    answer: str
    milliseconds: bool = False
    kept_blocks: str = ""
    kept: str = ""
    kind: str = ""


_CSV = (
    _Columns("Azure LLM", "TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    _Columns("Mooncake", "timestamp_ms", "input_length", "output_length", True, "prefix_blocks_seen"),
    _Columns("BurstGPT", "Timestamp", "Request tokens", "Response tokens"),
    _Columns("Vidur", "arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    _Columns("CSV", "arrival_s", "prompt_tokens", "answer_tokens", kept="kept_tokens", kind="class"),
)
_SERVEGEN = ["client", "0", "1", "2", "3", "4", "5"]

_Row = tuple[float, int, int, int, str]


def read_trace(
    path: Path,
    *,
    span_s: tuple[float, float] = (0.0, math.inf),
    share: float = 1.0,
    lengths: Lengths | None = None,
    seed: int = 0,
) -> Trace:
    """Read a trace, whichever of the formats above it has.

    Args:
        path: the file; ``.gz`` is unpacked on the way.
        span_s: from when to when, counted from the trace's start [s].
        share: share of the requests to keep, each by the same chance.
        lengths: lengths for a format that has none (ServeGen).
        seed: of what is drawn.

    Raises:
        ConfigError: (C106) for a file that can't be read, has none of the formats, or holds a row that can't
        be;
            (C101) for a share outside 0 to 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"a share of {share:g} of the requests can't be kept")
    text = _text(path)
    header = [name.strip() for name in next(csv.reader(text.splitlines()[:1]))]
    if header == _SERVEGEN:
        rows = csv.reader(text.splitlines()[1:])
        return draw_servegen(rows, path.name, lengths, seed, span_s, share)
    trace = _read_json(path, text) if text.lstrip()[0] in "{[" else _read_csv(path, header, text)
    if span_s != (0.0, math.inf):
        trace = trace.between(*span_s)
    if share < 1:
        kept = np.random.default_rng(seed).uniform(size=len(trace)) < share
        trace = trace.only(kept, f"each request kept with a chance of {share:g}")
    return trace


def _text(path: Path) -> str:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"the trace {path} can't be read: {error}", code="C106") from None
    if not text.strip():
        raise ConfigError(f"the trace {path} is empty", code="C106")
    return text


def _read_csv(path: Path, header: list[str], text: str) -> Trace:
    for columns in _CSV:
        if {columns.time, columns.prompt, columns.answer} <= set(header):
            return _trace(path, columns.title, _csv_rows(path, columns, header, text.splitlines()))
    raise ConfigError(
        f"the trace {path} has none of the known sets of columns; it has {', '.join(header[:8])}",
        code="C106",
        fix="name its columns arrival_s, prompt_tokens and answer_tokens",
    )


def write_vidur(trace: Trace, path: Path) -> None:
    """Write a trace as Vidur replays it: arrived_at, num_prefill_tokens, num_decode_tokens."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("arrived_at", "num_prefill_tokens", "num_decode_tokens"))
        writer.writerows(
            zip(
                trace.arrival_s.tolist(),
                trace.prompt_tokens.tolist(),
                trace.answer_tokens.tolist(),
                strict=True,
            )
        )


def _trace(path: Path, title: str, rows: Iterable[_Row]) -> Trace:
    """A trace of rows; classes in the order of their first request."""
    all_rows = list(rows)
    answered = [row for row in all_rows if row[2] != 0]
    if not answered:
        raise ConfigError(f"the trace {path} holds no answered request", code="C106")
    notes: tuple[str, ...] = ()
    if len(answered) < len(all_rows):
        notes = (f"{len(all_rows) - len(answered)} requests without an answer left out",)
    classes = tuple(dict.fromkeys(row[4] for row in answered))
    number = {name: place for place, name in enumerate(classes)}
    times = np.array([row[0] for row in answered])
    return Trace(
        times - times.min(),
        [row[1] for row in answered],
        [row[2] for row in answered],
        kept_tokens=[min(row[3], row[1]) for row in answered],
        kind=[number[row[4]] for row in answered],
        classes=classes,
        title=f"{path.name} ({title})",
        notes=notes,
    )


def _csv_rows(path: Path, columns: _Columns, header: list[str], lines: list[str]) -> Iterator[_Row]:
    place = {name: header.index(name) for name in columns if name in header}
    moment: Callable[[str], float] = float
    for number, cells in enumerate(csv.reader(lines[1:]), start=2):
        if not cells:
            continue
        try:
            when = cells[place[columns.time]]
            if number == 2 and not _is_number(when):
                moment = _seconds
            time_s = moment(when) / (1000.0 if columns.milliseconds else 1.0)
            blocks = int(cells[place[columns.kept_blocks]]) if columns.kept_blocks in place else 0
            kept = int(cells[place[columns.kept]]) if columns.kept in place else blocks * _BLOCK_TOKENS
            kind = cells[place[columns.kind]] if columns.kind in place else "all"
            yield time_s, int(cells[place[columns.prompt]]), int(cells[place[columns.answer]]), kept, kind
        except (ValueError, IndexError):
            raise ConfigError(
                f"line {number} of the trace {path} can't be read: {','.join(cells)[:80]}",
                code="C106",
                fix="correct or leave out the line",
            ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.strip()).timestamp()


def _read_json(path: Path, text: str) -> Trace:
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    try:
        if data is None or (isinstance(data, dict) and "input_length" in data):
            return _trace(path, "Mooncake", _mooncake_rows(text))
        if isinstance(data, dict) and "input_lens" in data:
            return _trace(path, "vLLM", _vllm_rows(path, data))
        if isinstance(data, dict) and "benchmarks" in data:
            return _trace(path, "guidellm", _guidellm_rows(data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"the trace {path} can't be read: {error!r}", code="C106") from None
    raise ConfigError(
        f"the trace {path} is JSON, but neither Mooncake's, vLLM's nor guidellm's",
        code="C106",
        fix="write it as CSV with arrival_s, prompt_tokens and answer_tokens",
    )


def _mooncake_rows(text: str) -> Iterator[_Row]:
    """Lines of JSON with hashes of 512-token blocks; a block seen before, after only such, was kept."""
    seen: set[int] = set()
    for line in filter(None, map(str.strip, text.splitlines())):
        row = json.loads(line)
        hashes = row.get("hash_ids", [])
        kept = 0
        while kept < len(hashes) and hashes[kept] in seen:
            kept += 1
        seen.update(hashes)
        tokens = min(kept * _BLOCK_TOKENS, int(row["input_length"]))
        yield row["timestamp"] / 1000.0, int(row["input_length"]), int(row["output_length"]), tokens, "all"


def _vllm_rows(path: Path, data: dict[str, Any]) -> Iterator[_Row]:
    if "start_times" not in data:
        raise ConfigError(
            f"the result {path} has lengths but no start times",
            code="C106",
            fix="run `vllm bench serve` of 2025-10 or later with --save-result --save-detailed",
        )
    for time_s, prompt, answer in zip(
        data["start_times"], data["input_lens"], data["output_lens"], strict=True
    ):
        yield float(time_s), int(prompt), int(answer), 0, "all"


def _guidellm_rows(data: dict[str, Any]) -> Iterator[_Row]:
    """Requests of all benchmarks of a report, served or not."""
    for benchmark in data["benchmarks"]:
        for state in ("successful", "incomplete", "errored"):
            for row in benchmark["requests"].get(state) or []:
                timings = row.get("info", {}).get("timings", {})
                time_s = timings.get("request_start", row.get("start_time"))
                if time_s is None or row.get("prompt_tokens") is None:
                    continue
                yield float(time_s), int(row["prompt_tokens"]), int(row.get("output_tokens") or 0), 0, "all"
