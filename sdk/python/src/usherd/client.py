"""Calls services from any number of threads over one connection.

    with usherd.Client("unix:/run/usherd/rpc.sock") as client:
        answer = client.call("upper", b"hello", deadline=2.0)

The connection lives on a thread of its own; `submit` returns at once, so that many calls can be on their way.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ssl
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar

from . import aio
from .errors import Canceled, ConnectionLost

T = TypeVar("T")
Ask = Callable[[bytes], bytes]


class Reply:
    """A call on its way."""

    def __init__(self, future: concurrent.futures.Future[bytes]) -> None:
        self._future = future

    def result(self) -> bytes:
        """Waits for the answer. Raises CallError."""
        try:
            return self._future.result()
        except concurrent.futures.CancelledError:
            raise Canceled("the call was canceled") from None

    def done(self) -> bool:
        """Whether `result` would not wait."""
        return self._future.done()

    def cancel(self) -> None:
        """Asks to stop: `result` raises `Canceled`, unless the answer was sooner."""
        self._future.cancel()


class Client:
    """A connection to usherd at `unix:PATH`, `HOST:PORT`, or, with a context for it, `HOST:PORT` over TLS."""

    def __init__(
        self,
        address: str,
        *,
        token: Optional[bytes] = None,
        tls: Optional[ssl.SSLContext] = None,
        timeout: float = 10.0,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="usherd-client", daemon=True)
        self._lock = threading.Lock()
        self._closed = False
        self._thread.start()
        try:
            connecting = aio.connect(address, token=token, tls=tls, timeout=timeout)
            self._client = self._start(connecting).result()
        except BaseException:
            self._stop()
            raise

    def call(
        self,
        service: str,
        payload: bytes = b"",
        *,
        deadline: Optional[float] = None,
        ask: Optional[Ask] = None,
        answer_bytes_max: int = aio.ANSWER_BYTES_MAX,
    ) -> bytes:
        """Calls a service and waits for its whole answer. `deadline` is in seconds; without one, the service's own counts.
        `ask` is given what the service asks for, and returns the answer; it is called on a thread of its own.

        Raises CallError. What else ends the wait, KeyboardInterrupt say, cancels the call.
        """
        reply = self.submit(service, payload, deadline=deadline, ask=ask, answer_bytes_max=answer_bytes_max)
        try:
            return reply.result()
        except BaseException:
            reply.cancel()
            raise

    def submit(
        self,
        service: str,
        payload: bytes = b"",
        *,
        deadline: Optional[float] = None,
        ask: Optional[Ask] = None,
        answer_bytes_max: int = aio.ANSWER_BYTES_MAX,
    ) -> Reply:
        """As `call`, without waiting."""
        asking = None if ask is None else _elsewhere(ask)
        call = self._client.call(service, payload, deadline=deadline, ask=asking, answer_bytes_max=answer_bytes_max)
        return Reply(self._start(call))

    def close(self) -> None:
        """Closes the connection; calls that are open end with `ConnectionLost`."""
        with self._lock:
            if self._closed:
                return
        self._start(self._client.close()).result()
        self._stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._lock:
            if self._closed:
                coroutine.close()
                raise ConnectionLost("the connection was closed")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _stop(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True

        async def finish() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            await asyncio.wait(others, timeout=5) if others else None
            await self._loop.shutdown_asyncgens()
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(finish(), self._loop)
        self._thread.join()
        self._loop.close()


def _elsewhere(ask: Ask) -> aio.Ask:
    """What a person is asked blocks; the connection's thread does not."""

    async def asked(question: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(None, ask, question)

    return asked
