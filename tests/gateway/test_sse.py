"""Events are cut the same however their bytes were split on the way."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.gateway.sse import DONE, EventCutter, data_of, event

# Streams of these hold every odd case: all line ends, comments, fields, wide characters.
pieces = st.sampled_from(
    (
        *("\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n"),
        *("data", "data:", "data: ", ":", ": ping", "event: x", "id: 7"),
        *("é", "🔋", "日本", "[DONE]", " ", "{}"),
    )
)
streams = st.lists(pieces.map(str.encode) | st.binary(max_size=3), max_size=30).map(b"".join)


def cut(stream: bytes, *splits: int) -> list[bytes]:
    """Feed a stream in pieces and collect the events."""
    cutter = EventCutter()
    edges = [0, *sorted(min(split, len(stream)) for split in splits), len(stream)]
    fed = [stream[start:end] for start, end in pairwise(edges)]
    return [raw for piece in fed for raw in cutter.feed(piece)]


def dispatched(stream: bytes) -> list[bytes]:
    """Data by the letter of the standard, line by line (WHATWG HTML, section 9.2.6)."""
    found: list[bytes] = []
    data: list[bytes] = []
    lines = stream.splitlines()
    whole = lines if stream.endswith((b"\n", b"\r")) else lines[:-1]
    for line in whole:
        if not line:
            if data:
                found.append(b"\n".join(data))
            data = []
        elif line.partition(b":")[0] == b"data":
            data.append(line.partition(b":")[2].removeprefix(b" "))
    return found


def data_in(events: list[bytes]) -> list[bytes]:
    return [data for raw in events if (data := data_of(raw)) is not None]


class TestCutting:
    @given(streams, st.lists(st.integers(0, 120), max_size=12))
    def test_any_split_gives_the_same_events(self, stream, splits):
        assert cut(stream, *splits) == cut(stream)

    @given(streams)
    def test_byte_by_byte_gives_the_same_events(self, stream):
        assert cut(stream, *range(len(stream))) == cut(stream)

    @given(streams)
    def test_the_data_is_what_the_standard_says(self, stream):
        assert data_in(cut(stream)) == dispatched(stream)

    @given(st.lists(st.text(), max_size=5), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.integers(0, 200))
    def test_unicode_comes_through_whatever_the_line_ends_and_the_split(self, texts, line_end, split):
        sent = [json.dumps(text, ensure_ascii=False).encode() for text in texts]
        stream = b"".join(event(data).replace(b"\n", line_end) for data in sent)
        assert data_in(cut(stream, split)) == sent

    def test_a_split_inside_a_character_or_a_line_end_does_no_harm(self):
        stream = 'data: "🔋"\r\n\r\ndata: é\r\n\r\n'.encode()
        for split in range(len(stream) + 1):
            assert data_in(cut(stream, split)) == ['"🔋"'.encode(), "é".encode()]

    @pytest.mark.parametrize(
        "blank", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\r\r\n", b"\n\r"]
    )
    def test_every_blank_line_ends_an_event(self, blank):
        assert data_in(cut(b"data: a" + blank + b"data: b" + blank)) == [b"a", b"b"]

    def test_one_line_end_ends_no_event(self):
        for line_end in (b"\n", b"\r\n", b"\r"):
            assert cut(b"data: a" + line_end) == []

    def test_blank_lines_alone_are_no_events(self):
        assert cut(b"\n\n\n\r\r\n\r\n\n") == []

    def test_what_is_not_whole_yet_is_kept(self):
        cutter = EventCutter()
        assert cutter.feed(b"data: a\n\ndata: b\n") == [b"data: a"]
        assert cutter.rest == b"data: b\n"
        assert cutter.feed(b"") == []
        assert cutter.feed(b"\n") == [b"data: b"]
        assert cutter.rest == b""


class TestData:
    @pytest.mark.parametrize(
        ("raw", "data"),
        [
            (b"data: a", b"a"),
            (b"data:a", b"a"),
            (b"data:  a ", b" a "),
            (b"data:", b""),
            (b"data", b""),
            (b"data: a\ndata: b", b"a\nb"),
            (b"event: x\nid: 1\ndata: a", b"a"),
            (b": a comment", None),
            (b":", None),
            (b"event: ping", None),
            (b"database: x", None),
            (b" data: x", None),
            (b"DATA: x", None),
            (b"", None),
            (b"data: [DONE]", b"[DONE]"),
        ],
    )
    def test_only_data_lines_count(self, raw, data):
        assert data_of(raw) == data

    @given(st.binary().filter(lambda data: b"\r" not in data))
    def test_what_is_wrapped_comes_out_again(self, data):
        (raw,) = EventCutter().feed(event(data))
        assert data_of(raw) == data

    def test_the_end_mark_is_an_event(self):
        assert data_in(EventCutter().feed(DONE)) == [b"[DONE]"]


class TestLimit:
    def test_an_event_beyond_the_limit_is_refused(self):
        cutter = EventCutter(limit_bytes=10)
        cutter.feed(b"data: 5678")
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            cutter.feed(b"9")

    def test_many_small_events_have_no_limit(self):
        assert len(EventCutter(limit_bytes=10).feed(b"data: 1\n\n" * 1000)) == 1000

    def test_a_large_event_in_small_pieces_is_searched_once(self):
        cutter = EventCutter()
        started = time.process_time()
        for _ in range(20_000):
            assert cutter.feed(b"x" * 500) == []
        assert cutter.feed(b"\n\n") == [b"x" * 10_000_000]
        assert time.process_time() - started < 5.0  # searched anew each time, it would be 100 GB
