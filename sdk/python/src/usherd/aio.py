"""Calls services from asyncio. One connection carries any number of calls at once.

    async with await usherd.aio.connect("unix:/run/usherd/rpc.sock") as client:
        answer = await client.call("upper", b"hello", deadline=2.0)

A task that is cancelled while it waits cancels its call.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Callable, Optional, Union

from . import _rpc
from .errors import (
    CallError,
    Canceled,
    ConnectionLost,
    DeadlinePassed,
    NeedsInput,
    ProtocolError,
    TooLarge,
    from_numbers,
)

Ask = Callable[[bytes], Union[bytes, Awaitable[bytes]]]

#: Parts of answers that nobody has taken yet; beyond this the connection is not read, unless somebody waits for more.
UNREAD_BYTES_MAX = 64 << 20
#: usherd ends a call at its deadline; if it does not, the caller does so this much later, in seconds.
DEADLINE_GRACE = 1.0
#: The largest answer that `call` puts together, unless it is told otherwise.
ANSWER_BYTES_MAX = 64 << 20


async def connect(
    address: str,
    *,
    token: Optional[bytes] = None,
    tls: Optional[ssl.SSLContext] = None,
    timeout: float = 10.0,
) -> Client:
    """Connects to `unix:PATH`, `HOST:PORT`, or, with a context for it, `HOST:PORT` over TLS.

    Raises OSError, ssl.SSLError, asyncio.TimeoutError, or what the listener refuses with (`Denied`, ...).
    """
    if token is not None and not 0 < len(token) <= 1024:
        raise ValueError("a token has 1 to 1,024 bytes")
    return await asyncio.wait_for(_connect(address, token, tls), timeout)


async def _connect(address: str, token: Optional[bytes], tls: Optional[ssl.SSLContext]) -> Client:
    loop = asyncio.get_running_loop()
    client = Client()
    if address.startswith("unix:"):
        await loop.create_unix_connection(lambda: client._protocol, address[len("unix:") :])
    else:
        host, port = _host_and_port(address)
        name = host if tls is not None else None
        await loop.create_connection(lambda: client._protocol, host, port, ssl=tls, server_hostname=name)
    try:
        await client._hello(token)
    except BaseException:
        await client.close()
        raise
    return client


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is no address: unix:/run/usherd/rpc.sock or host:port would be")
    return host, int(port)


class _Pending:
    """A call that is open."""

    def __init__(self) -> None:
        self.frames: deque[_rpc.Frame] = deque()
        self.failed: Optional[CallError] = None
        self.waiter: Optional[asyncio.Future[None]] = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def fail(self, error: CallError) -> None:
        self.failed = self.failed or error
        self.wake()


class Client:
    """A connection to usherd; made by `connect`. Belongs to the event loop that it was made in."""

    def __init__(self) -> None:
        self._protocol = _Protocol(self)
        self._open: dict[int, _Pending] = {}
        self._next = 1
        self._frame_bytes_max = _rpc.FRAME_BYTES_MAX
        self._lost: Optional[CallError] = None
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(
        self,
        service: str,
        payload: bytes = b"",
        *,
        deadline: Optional[float] = None,
        ask: Optional[Ask] = None,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> bytes:
        """Calls a service and returns its whole answer. `deadline` is in seconds; without one, the service's own counts.
        `ask` is given what the service asks for, and returns the answer, or a coroutine for it.

        Raises CallError.
        """
        parts = []
        size = 0
        async for part in self.stream(service, payload, deadline=deadline, ask=ask):
            parts.append(part)
            size += len(part)
            if size > answer_bytes_max:
                raise TooLarge(f"the answer is larger than {answer_bytes_max} bytes")
        return b"".join(parts)

    async def stream(
        self,
        service: str,
        payload: bytes = b"",
        *,
        deadline: Optional[float] = None,
        ask: Optional[Ask] = None,
    ) -> AsyncIterator[bytes]:
        """As `call`, part by part as they come. If it raises, the parts so far are no answer: throw them away."""
        pending, number = self._submit(service, payload, deadline)
        loop = asyncio.get_running_loop()
        ends = None if deadline is None else loop.time() + deadline + DEADLINE_GRACE
        try:
            await self._protocol.drained()
            while True:
                frame = await self._frame(pending, ends)
                if frame.kind == _rpc.REPLY_PART:
                    yield frame.payload
                elif frame.kind == _rpc.ASK:
                    if ask is None:
                        raise NeedsInput("the service asks for input, and the call brings none")
                    said = ask(frame.payload)
                    self._protocol.write(_rpc.answer(number, await said if inspect.isawaitable(said) else said))
                else:
                    del self._open[number]
                    if frame.kind == _rpc.ERROR:
                        raise from_numbers(*_rpc.read_error(frame.payload))
                    yield frame.payload
                    return
        finally:
            self._forget(number, pending)

    async def close(self) -> None:
        """Closes the connection; calls that are open end with `ConnectionLost`."""
        self._end(ConnectionLost("the connection was closed"))
        await self._protocol.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()

    def _submit(self, service: str, payload: bytes, deadline: Optional[float]) -> tuple[_Pending, int]:
        name = service.encode()
        if not 0 < len(name) <= 255:
            raise ValueError("a service's name has 1 to 255 bytes")
        if self._lost is not None:
            raise ConnectionLost(str(self._lost))
        if _rpc.HEADER.size + len(name) + len(payload) > self._frame_bytes_max:
            raise TooLarge(f"the request is larger than the listener takes ({self._frame_bytes_max} bytes)")
        # 0 would leave it to the service.
        deadline_ms = 0 if deadline is None else max(1, min(int(deadline * 1000), 0xFFFFFFFF))
        number = self._next
        while number in self._open:
            number = number % 0xFFFFFFFF + 1
        self._next = number % 0xFFFFFFFF + 1
        pending = self._open[number] = _Pending()
        self._protocol.write(_rpc.call(number, deadline_ms, name, payload))
        return pending, number

    async def _frame(self, pending: _Pending, ends: Optional[float]) -> _rpc.Frame:
        loop = asyncio.get_running_loop()
        while not pending.frames:
            if pending.failed is not None:
                raise pending.failed
            pending.waiter = loop.create_future()
            self._protocol.wanted(1)
            try:
                await asyncio.wait_for(pending.waiter, None if ends is None else max(0.0, ends - loop.time()))
            except asyncio.TimeoutError:
                raise DeadlinePassed("usherd has not answered by the deadline") from None
            finally:
                self._protocol.wanted(-1)
        frame = pending.frames.popleft()
        self._protocol.taken(len(frame.payload))
        return frame

    def _forget(self, number: int, pending: _Pending) -> None:
        """A call that is left while it is open is canceled; its id stays taken until usherd has ended it."""
        self._protocol.taken(sum(len(frame.payload) for frame in pending.frames))
        pending.frames.clear()
        if self._open.get(number) is pending and self._lost is None:
            pending.fail(Canceled())
            self._protocol.write(_rpc.cancel(number))

    async def _hello(self, token: Optional[bytes]) -> None:
        self._protocol.write(_rpc.hello(token))
        await self._greeted

    def _receive(self, frame: _rpc.Frame) -> None:
        if frame.kind == _rpc.HELLO:
            self._frame_bytes_max = min(_rpc.FRAME_BYTES_MAX, _rpc.read_hello(frame.payload))
            if not self._greeted.done():
                self._greeted.set_result(None)
            return
        if frame.call == 0:
            raise from_numbers(*_rpc.read_error(frame.payload))
        pending = self._open.get(frame.call)
        if pending is None:
            raise ProtocolError(f"an answer to call {frame.call}, which is not open")
        if pending.failed is None:
            pending.frames.append(frame)
            self._protocol.kept(len(frame.payload))
            pending.wake()
        elif frame.kind in (_rpc.REPLY_DONE, _rpc.ERROR):
            del self._open[frame.call]

    def _end(self, error: CallError) -> None:
        if self._lost is not None:
            return
        self._lost = error
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()
        for pending in self._open.values():
            pending.fail(error)


class _Protocol(asyncio.Protocol):
    """The bytes of a connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: Optional[asyncio.Transport] = None
        self._buffer = bytearray()
        self._needed = _rpc.HEADER.size
        self._unread = 0
        self._waiting = 0
        self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while len(self._buffer) >= self._needed:
                size = _rpc.frame_bytes(self._buffer)
                self._needed = _rpc.HEADER.size if size is None else size
                if size is None or len(self._buffer) < size:
                    return
                frame = _rpc.read(bytes(self._buffer[:size]))
                del self._buffer[:size]
                self._needed = _rpc.HEADER.size
                self._client._receive(frame)
        except CallError as error:
            self._client._end(error)
            self.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._client._end(ConnectionLost("the connection ended" if exc is None else f"the connection ended: {exc}"))
        self._writable.set()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drained(self) -> None:
        await self._writable.wait()

    def write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def kept(self, size: int) -> None:
        self._unread += size
        self._pace()

    def taken(self, size: int) -> None:
        self._unread -= size
        self._pace()

    def wanted(self, more: int) -> None:
        self._waiting += more
        self._pace()

    def _pace(self) -> None:
        pause = self._unread > UNREAD_BYTES_MAX and not self._waiting
        if pause == self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort() if self._buffer else self._transport.close()
            await self._closed
