"""Write a helper: a program that usherd starts, keeps, and hands calls to.

    from usherd import helper

    def upper(call: helper.Call) -> bytes:
        return call.payload.upper()

    helper.serve(upper)

The handler returns the answer, or yields it part by part. `helper.Failure(code, text)`, raised, is what the caller is told
instead; any other exception is told with code 1, and its traceback goes to usherd's log.

Interrupts: when nobody wants the answer any more, `Interrupted` is raised in the handler, out of whatever blocking call it
may be in (PEP 475), as KeyboardInterrupt would be. It is no `Exception`, so that `except Exception` does not keep it.
With several threads Python cannot do that: look at `call.interrupted` now and then; `part` and `ask` raise it.
"""

from __future__ import annotations

import collections
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Callable, Optional, Union

from . import _wire
from ._link import Gone, Link, Request
from ._wire import Broken

__all__ = ["Broken", "Call", "Failure", "Handler", "Interrupted", "NotStartedByUsherd", "serve", "unable"]

CODE_FAILED = 1
CODE_ANSWER_TOO_LARGE = 2

Answer = Union[bytes, bytearray, memoryview, Iterator[bytes], None]
Handler = Callable[["Call"], Answer]


class Interrupted(BaseException):
    """Nobody wants the answer any more."""


class Failure(Exception):
    """What the caller is told instead of an answer: a number of the helper's own, 0 to 65,535, and a text for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class NotStartedByUsherd(Exception):
    """The standard input is no socket to usherd."""

    def __init__(self) -> None:
        super().__init__(
            "this program is a helper: usherd starts it, with a socket as its standard input. "
            "Name it in a service's `program`, and call the service with `usherd call`"
        )


class Call:
    """One call. Belongs to the thread that serves it."""

    def __init__(self, crew: _Crew, request: Request) -> None:
        self._crew = crew
        self._request = request
        self._inputs: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._asking = False
        self._interrupts = 0
        self._sent_bytes = 0
        #: What the caller asks.
        self.payload = request.pieces[0] if len(request.pieces) == 1 else b"".join(request.pieces)
        request.pieces.clear()

    @property
    def service(self) -> str:
        """The service's name."""
        return self._crew.link.service

    @property
    def remaining(self) -> Optional[float]:
        """Seconds that the caller still waits; `None` without end."""
        deadline = self._request.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    @property
    def interrupted(self) -> bool:
        """Whether nobody wants the answer any more. Does not block; once true it stays so."""
        self._crew.listen(self)
        return self._interrupts > 0 or self._crew.gone

    def part(self, part: bytes) -> None:
        """Hands a part of the answer to the caller at once. Raises Interrupted, and Failure if the answer gets too large."""
        if self.interrupted:
            raise Interrupted
        self._grow(part)
        if part:
            self._crew.link.send_pieces(_wire.PART, self._request.call, part, _wire.PART)

    def ask(self, question: bytes) -> bytes:
        """Asks the caller for more (a one-time password, say) and waits for what it says: nothing, where the caller cannot be
        asked. Raises Interrupted."""
        if self.interrupted:
            raise Interrupted
        if len(question) > self._crew.link.piece_bytes_max:
            raise Failure(CODE_ANSWER_TOO_LARGE, "a question larger than one message")
        self._asking = True
        self._crew.link.send(_wire.header(_wire.ASK, self._request.call, len(question)), question)
        return self._crew.input(self)

    def reply_to(self) -> Optional[int]:
        """The descriptor to write the answer to, if the caller has given one; then return nothing, and close it. One that is
        not taken is closed, and the answer goes the usual way."""
        descriptor, self._request.descriptor = self._request.descriptor, None
        return descriptor

    def _grow(self, part: bytes) -> None:
        self._sent_bytes += len(part)
        if self._sent_bytes > self._crew.link.answer_bytes_max:
            raise Failure(CODE_ANSWER_TOO_LARGE, "the answer is larger than usherd takes")

    def _hear(self, message: _wire.Message) -> None:
        if message.kind == _wire.INTERRUPT:
            self._interrupts += 1
            self._inputs.put(None)
        elif self._asking:
            self._asking = False
            self._inputs.put(message.payload)


def serve(
    handler: Handler,
    *,
    software: str = "",
    threads: int = 1,
    ahead: int = 1,
    sock: Optional[socket.socket] = None,
) -> None:
    """Serves calls until usherd says goodbye or has gone: one after the other on this thread, or as many at once as there
    are `threads`. `software` is the helper's name and version for people. `sock` is for tests that play usherd.

    With one thread, up to `ahead` calls are sent by usherd before the first is answered: the next is at hand when one is done,
    which for a handler that takes some microseconds and never waits is most of what a call costs. Not for others: a call that lies
    here waits for this helper though another is idle, is not seen to be interrupted while a handler is at work, and dies with it.

    `threads` and `ahead` need the service's `concurrency` to allow them.

    Raises NotStartedByUsherd, Broken, OSError.
    """
    if threads < 1:
        raise ValueError("a helper has at least one thread")
    if ahead < 1 or (ahead > 1 and threads > 1):
        raise ValueError("ahead is 1 or more, and with several threads 1")
    if sock is None:
        sock = _standard_input()
    try:
        link = Link(sock)
        software = software or os.path.basename(sys.argv[0])
        crew: _Crew = _One(link, ahead) if threads == 1 else _Threads(link, threads)
        crew.run(handler, _wire.ready(max(threads, ahead), software))
    except Gone:
        pass
    finally:
        sock.close()


def unable(why: str, *, sock: Optional[socket.socket] = None) -> None:
    """Says that the helper cannot take calls, and why, for people; end the program then. Instead of `serve`."""
    link = Link(_standard_input() if sock is None else sock)
    link.send(_wire.unable(why))
    link.socket.close()


def _standard_input() -> socket.socket:
    try:
        sock = socket.socket(fileno=os.dup(0))
    except OSError:
        raise NotStartedByUsherd from None
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
        sock.close()
        raise NotStartedByUsherd
    # What the helper starts must not find the socket.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return sock


class _Crew:
    """What both kinds of helper have."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.gone = False
        self.may_share = False

    def run(self, handler: Handler, ready: bytes) -> None:
        raise NotImplementedError

    def listen(self, call: Call) -> None:
        """Takes what has been said meanwhile, without waiting."""
        raise NotImplementedError

    def input(self, call: Call) -> bytes:
        """Waits for what was asked for."""
        raise NotImplementedError

    def acknowledge(self, call: int) -> None:
        self.link.send(_wire.header(_wire.INTERRUPTED, call, 0))

    def answer(self, handler: Handler, call: Call) -> Callable[[], None]:
        """Runs the handler; what is returned sends the last message."""
        number = call._request.call
        try:
            answer = handler(call)
            if answer is None:
                answer = b""
            if not isinstance(answer, (bytes, bytearray, memoryview)):
                for part in answer:
                    call.part(part)
                answer = b""
            last = bytes(answer)
            call._grow(last)
            return lambda: self.link.done(number, last, self.may_share)
        except Failure as failure:
            told = _wire.error(number, failure.code, failure.text)
        except (Gone, Broken):
            raise
        except Exception as error:
            traceback.print_exc()
            told = _wire.error(number, CODE_FAILED, f"{type(error).__name__}: {error}")
        finally:
            call._request.close()
        return lambda: self.link.send(told)

    def stopped(self, call: Call) -> Callable[[], None]:
        call._request.close()
        return lambda: self.link.send(_wire.error(call._request.call, CODE_FAILED, "interrupted"))


class _One(_Crew):
    """One call at a time: the thread that serves it also reads the socket.

    The signal handler runs between two steps of the program, or out of a system call that the signal has ended. It looks
    whether usherd has said that the call is no longer wanted, and raises at most once per call, only while `_armed`.

    Calls that are taken ahead lie in the socket, or in `_queue` if they came while a handler looked there.
    """

    def __init__(self, link: Link, ahead: int) -> None:
        super().__init__(link)
        self.may_share = True
        self._ahead = ahead
        self._queue: collections.deque[Request] = collections.deque()
        self._call: Optional[Call] = None
        self._armed = False
        self._listening = False
        self._goodbye = False
        self._failed: Optional[BaseException] = None

    def run(self, handler: Handler, ready: bytes) -> None:
        on_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._signal) if on_main else None
        try:
            self.link.send(ready)
            while not self._goodbye or self._queue or self.link.in_pieces:
                if self._queue:
                    self._serve(handler, self._queue.popleft())
                    continue
                message, request = self.link.next()
                if request is not None:
                    self._serve(handler, request)
                elif message.kind == _wire.INTERRUPT:
                    self.acknowledge(message.call)
                elif message.kind == _wire.GOODBYE:
                    self._goodbye = True
        finally:
            if on_main:
                signal.signal(signal.SIGINT, before)

    def listen(self, call: Call) -> None:
        if self._listening:
            return
        self._listening = True
        try:
            # Bounded: what a well-behaved usherd says about one call; the rest is seen at the next look.
            for _ in range(16):
                if call._interrupts or self.gone or not self.link.wait(0):
                    return
                self._take()
        finally:
            self._listening = False

    def input(self, call: Call) -> bytes:
        while call._inputs.empty():
            if self.gone:
                raise Interrupted
            if self.link.wait(None):
                self.listen(call)
        said = call._inputs.get()
        if said is None:
            raise Interrupted
        return said

    def _take(self) -> None:
        """Takes one message while a call is open."""
        call = self._call
        try:
            message, request = self.link.next()
            if request is not None:
                if len(self._queue) + 1 >= self._ahead:
                    request.close()
                    raise Broken("as many calls at once as the helper takes")
                self._queue.append(request)
            elif message.kind == _wire.GOODBYE:
                self._goodbye = True
            elif call is not None and message.kind in (_wire.INTERRUPT, _wire.INPUT):
                if message.call == call._request.call:
                    call._hear(message)
                elif message.kind == _wire.INTERRUPT:
                    self._give_up(message.call)
        except (Gone, Broken, OSError) as error:
            self.gone = True
            self._failed = error

    def _give_up(self, number: int) -> None:
        """An interrupt of a call that is not the one served: one that waits is over, of another nothing is known any more."""
        for request in self._queue:
            if request.call == number:
                self._queue.remove(request)
                request.close()
                self.link.send(_wire.error(number, CODE_FAILED, "interrupted before it was begun"))
                break
        self.acknowledge(number)

    def _serve(self, handler: Handler, request: Request) -> None:
        call = self._call = Call(self, request)
        try:
            self._armed = True
            finish = self.answer(handler, call)
            self._armed = False
        except Interrupted:
            finish = self.stopped(call)
        finally:
            self._armed = False
        self._call = None
        if self._failed is not None:
            raise self._failed
        finish()
        for _ in range(call._interrupts):
            self.acknowledge(request.call)

    def _signal(self, number: int, frame: Optional[FrameType]) -> None:
        call = self._call
        if not self._armed or self._listening or call is None or not call.interrupted:
            return
        self._armed = False
        raise Interrupted


class _Threads(_Crew):
    """Several calls at once: this thread reads the socket, each of the others serves one call.

    A call's last message is sent under the lock, together with its removal, so that an interrupt either finds it open, and is
    acknowledged after its last message by the thread that has it; or does not find it, and is acknowledged at once.
    """

    def __init__(self, link: Link, threads: int) -> None:
        super().__init__(link)
        self._threads = threads
        self._lock = threading.Lock()
        self._open: dict[int, Call] = {}
        self._queue: queue.SimpleQueue[Optional[Call]] = queue.SimpleQueue()
        self._ending = False

    def run(self, handler: Handler, ready: bytes) -> None:
        # Daemons: a handler that never returns must not keep a helper whose usherd has gone.
        threads = [threading.Thread(target=self._work, args=(handler,), daemon=True) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        try:
            self.link.send(ready)
            while True:
                self._take()
                with self._lock:
                    if self._ending and not self._open and not self.link.in_pieces:
                        break
        finally:
            with self._lock:
                self.gone = not self._ending or bool(self._open)
                for call in self._open.values():
                    call._inputs.put(None)
            for _ in threads:
                self._queue.put(None)
        for thread in threads:
            thread.join()

    def listen(self, call: Call) -> None:
        """The reading thread has told the call already."""

    def input(self, call: Call) -> bytes:
        said = call._inputs.get()
        if said is None:
            raise Interrupted
        return said

    def _take(self) -> None:
        message, request = self.link.next()
        if request is not None:
            with self._lock:
                if len(self._open) >= self._threads or request.call in self._open:
                    raise Broken("as many calls at once as the helper takes, each with an id of its own")
                call = self._open[request.call] = Call(self, request)
            self._queue.put(call)
        elif message.kind == _wire.GOODBYE:
            self._ending = True
        elif message.kind in (_wire.INTERRUPT, _wire.INPUT):
            with self._lock:
                open_call = self._open.get(message.call)
                if open_call is not None:
                    open_call._hear(message)
                elif message.kind == _wire.INTERRUPT:
                    self.acknowledge(message.call)

    def _work(self, handler: Handler) -> None:
        while True:
            call = self._queue.get()
            if call is None:
                return
            try:
                self._serve(handler, call)
            except (Gone, Broken, OSError):
                # Wakes the reading thread, which then finds the same.
                self._hang_up(socket.SHUT_RDWR)

    def _serve(self, handler: Handler, call: Call) -> None:
        number = call._request.call
        try:
            finish = self.answer(handler, call)
        except Interrupted:
            finish = self.stopped(call)
        except BaseException:
            # Half a helper would be worse than a new one.
            self._hang_up(socket.SHUT_RDWR)
            raise
        with self._lock:
            finish()
            del self._open[number]
            last = self._ending and not self._open
        for _ in range(call._interrupts):
            self.acknowledge(number)
        if last:
            self._hang_up(socket.SHUT_RD)

    def _hang_up(self, how: int) -> None:
        try:
            self.link.socket.shutdown(how)
        except OSError:
            pass
