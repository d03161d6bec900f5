"""The hop: right framing however bytes arrive, errors for all else, and an answer only for who asked."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from negajoule.gateway.hop import _LARGEST_HEAD, HOP_FAULTS, Hop

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello"
INTERIM = b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: z\r\n\r\n"


class Scripted:
    """Answers each request with what it is told to, and remembers what it was asked on which connection."""

    def __init__(
        self, *answers, hang_up: bool = False, slice_bytes: int = 10**9, pause_s: float = 0.0
    ) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, bytes]] = []
        self.connections = self.running = 0
        self.hang_up = hang_up
        self.slice_bytes = slice_bytes
        self.pause_s = pause_s
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.running += 1
        try:
            await self._answer_all(self.connections, reader, writer)
        finally:
            self.running -= 1
            writer.close()

    async def _answer_all(self, mine: int, reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                self.asked.append((mine, head + await reader.readexactly(int(size or 0))))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for start in range(0, len(answer), self.slice_bytes):
                    writer.write(answer[start : start + self.slice_bytes])
                    await writer.drain()
                    self.sent = start
                    await asyncio.sleep(self.pause_s)
                if self.hang_up:
                    return


@contextlib.asynccontextmanager
async def hop_to(scripted: Scripted, path: str = "", silence_s: float = 5.0):
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hop = Hop(f"http://127.0.0.1:{port}{path}", {"authorization": "Bearer key"}, silence_s)
    try:
        yield hop
    finally:
        await hop.close()
        assert hop.connections == 0
        server.close()
        await until(lambda: scripted.running == 0)
        await asyncio.sleep(0.01)


def run(scripted: Scripted, work, **options):
    async def whole():
        async with hop_to(scripted, **options) as hop:
            return await asyncio.wait_for(work(hop), 10)

    return asyncio.run(whole())


async def ask(hop: Hop) -> bytes:
    answer = await hop.post("/chat", b"{}", {})
    assert answer.status == 200
    return await answer.read()


async def until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("waited in vain")


class TestFraming:
    @pytest.mark.parametrize("answer", [PLAIN, CHUNKED, TO_THE_END, INTERIM + PLAIN, INTERIM + CHUNKED])
    @pytest.mark.parametrize("slice_bytes", [1, 7, 10**9])
    def test_an_answer_is_whole_however_it_was_cut(self, answer, slice_bytes):
        scripted = Scripted(answer, hang_up=True, slice_bytes=slice_bytes)
        assert run(scripted, ask) == b"hello"

    def test_the_request_is_what_the_server_needs_and_no_more(self):
        scripted = Scripted(PLAIN)

        async def work(hop):
            answer = await hop.post("/models/a b\r\nx: y?z=1", b'{"a":1}', {"traceparent": "00-1"})
            await answer.read()
            return hop._host

        run(scripted, work, path="/v1")
        ((_, asked),) = scripted.asked
        head, _, body = asked.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert first == b"POST /v1/models/a%20b%0D%0Ax:%20y?z=1 HTTP/1.1"
        assert body == b'{"a":1}'
        names = [line.partition(b":")[0] for line in lines]
        assert names == [b"host", b"accept-encoding", b"authorization", b"traceparent", b"content-length"]

    @pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\r"])
    def test_a_header_cannot_begin_another(self, value):
        async def work(hop):
            with pytest.raises(ValueError, match="line end"):
                await hop.post("/chat", b"", {"traceparent": value})

        run(Scripted(PLAIN), work)


class TestBadServers:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"nonsense\r\n\r\n", ValueError),
            (b"HTTP/1.1 200 OK\r\ncontent-length: minus\r\n\r\n", ValueError),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", ConnectionError),
            (CHUNKED[:-20], ConnectionError),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", ValueError),
            (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2 * _LARGEST_HEAD, ValueError),
            (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", ValueError),
            (b"", ConnectionError),
        ],
    )
    def test_what_is_no_whole_answer_is_an_error_and_ends_the_connection(self, answer, error):
        async def work(hop):
            with pytest.raises(error):
                await ask(hop)
            await until(lambda: hop.connections == 0)
            return hop.connections

        assert run(Scripted(answer, hang_up=True), work) == 0

    @pytest.mark.parametrize("sent", [b"", PLAIN[:20], PLAIN[:-2]])
    def test_a_silent_server_is_given_up(self, sent):
        async def work(hop):
            with pytest.raises(TimeoutError):
                await ask(hop)

        run(Scripted(sent), work, silence_s=0.05)

    def test_nobody_there(self):
        async def work():
            with pytest.raises(HOP_FAULTS):
                await Hop("http://127.0.0.1:9", {}, 1.0).post("/chat", b"", {})

        asyncio.run(work())

    def test_a_second_answer_goes_to_nobody(self):
        scripted = Scripted(PLAIN + PLAIN.replace(b"hello", b"other"), PLAIN)

        async def work(hop):
            first = await ask(hop)
            await until(lambda: hop.connections == 0)
            return first, await ask(hop)

        assert run(scripted, work) == (b"hello", b"hello")
        assert scripted.connections == 2

    def test_an_answer_that_nobody_asked_for_goes_to_nobody(self):
        late = []

        class Chatty(Scripted):
            async def serve(self, reader, writer):
                late.append(writer)
                await super().serve(reader, writer)

        scripted = Chatty(PLAIN)

        async def work(hop):
            await ask(hop)
            late[0].write(PLAIN.replace(b"hello", b"other"))
            await late[0].drain()
            await until(lambda: hop.connections == 0)
            return await ask(hop)

        assert run(scripted, work) == b"hello"
        assert scripted.connections == 2


class TestConnections:
    def test_one_is_kept_for_the_next_call(self):
        scripted = Scripted(PLAIN, CHUNKED, PLAIN)

        async def work(hop):
            return [await ask(hop) for _ in range(5)]

        assert run(scripted, work) == [b"hello"] * 5
        assert scripted.connections == 1

    def test_one_that_the_server_closed_is_not_used(self):
        scripted = Scripted(PLAIN, hang_up=True)

        async def work(hop):
            for _ in range(3):
                await ask(hop)
                await until(lambda: hop.connections == 0)
            return len(hop._idle)

        assert run(scripted, work) == 0
        assert scripted.connections == 3

    def test_one_that_says_it_closes_is_not_kept(self):
        scripted = Scripted(PLAIN.replace(b"content-type", b"connection: close\r\ncontent-type"))

        async def work(hop):
            await ask(hop)
            return hop._idle

        assert run(scripted, work) == []

    def test_calls_at_once_have_one_each(self):
        scripted = Scripted(PLAIN, pause_s=0.02)

        async def work(hop):
            await asyncio.gather(*(ask(hop) for _ in range(8)))

        run(scripted, work)
        assert scripted.connections == 8

    def test_a_stream_that_is_let_go_before_its_last_chunk_keeps_its_connection(self):
        scripted = Scripted(CHUNKED, slice_bytes=len(CHUNKED) - 20, pause_s=0.02)

        async def work(hop):
            for _ in range(3):
                answer = await hop.post("/chat", b"{}", {})
                assert await answer.piece() == b"hello"
                answer.release()
                await until(lambda: hop._idle)

        run(scripted, work)
        assert scripted.connections == 1

    @pytest.mark.parametrize("way", ["close", "cancel"])
    def test_one_that_is_broken_off_is_closed(self, way):
        scripted = Scripted(CHUNKED[:60])

        async def work(hop):
            answer = await hop.post("/chat", b"{}", {})
            await answer.piece()
            if way == "close":
                answer.close()
            else:
                reading = asyncio.ensure_future(answer.piece())
                await asyncio.sleep(0)
                reading.cancel()
                answer.close()
            return hop.connections, hop._idle

        assert run(scripted, work) == (0, [])

    def test_a_call_that_is_cancelled_before_its_head_leaves_nothing_open(self):
        async def work(hop):
            asking = asyncio.ensure_future(ask(hop))
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return hop.connections

        assert run(Scripted(b""), work) == 0

    def test_a_server_must_wait_for_a_slow_reader(self):
        size = 64 * 2**20
        scripted = Scripted(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size), slice_bytes=2**16
        )

        async def work(hop):
            answer = await hop.post("/chat", b"{}", {})
            await until(lambda: answer._connection._paused)
            await asyncio.sleep(0.05)
            waited = answer._size
            return waited, scripted.sent, len(await answer.read())

        waited, sent, read = run(scripted, work)
        assert waited < 2**20
        assert sent < size / 2
        assert read == size
