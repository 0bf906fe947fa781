"""The socket between a helper and usherd, and the memory they share: messages in, messages out, calls put together."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import select
import socket
import time
from typing import Optional

from . import _wire
from ._wire import Broken, Message

#: No message is read beyond this, whatever the welcome says.
MESSAGE_BYTES_MAX = 1 << 20
#: What the kernel counts on top of a message against the socket's send buffer.
OVERHEAD_BYTES = 128


class Gone(Exception):
    """usherd has gone."""


class Request:
    """A call, as it came."""

    def __init__(self, message: Message, descriptor: Optional[int]) -> None:
        self.call = message.call
        self.whole_bytes = message.whole_bytes
        self.deadline = time.monotonic() + message.deadline_ms / 1000 if message.deadline_ms else None
        self.descriptor = descriptor
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes, more: bool) -> None:
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size > self.whole_bytes or (self.size == self.whole_bytes) == more:
            raise Broken("pieces that make up the call that was announced")

    def close(self) -> None:
        # Forgotten first: a signal between the two must not have it closed twice.
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Link:
    """A socket that has been welcomed."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._buffer = memoryview(bytearray(_wire.MESSAGE_BYTES_MIN))
        self._pieces: Optional[Request] = None
        self.memory: Optional[mmap.mmap] = None
        self.shared_bytes = 0
        welcome, descriptor = self._receive()
        try:
            bounds = _wire.read_welcome(welcome)
            if bounds.shared_bytes:
                self.memory = _map(descriptor, bounds.shared_bytes)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        self.shared_bytes = bounds.shared_bytes
        self.call_bytes_max = bounds.call_bytes_max
        self.answer_bytes_max = bounds.answer_bytes_max
        self.service = bounds.service
        message_bytes = min(bounds.message_bytes_max, MESSAGE_BYTES_MAX)
        self._buffer = memoryview(bytearray(message_bytes))
        self.piece_bytes_max = self._fit_send_buffer(message_bytes)

    def wait(self, timeout: Optional[float]) -> bool:
        """Whether something can be received, within so many seconds."""
        return bool(self._poll.poll(None if timeout is None else timeout * 1000))

    def next(self) -> tuple[Message, Optional[Request]]:
        """The next message, and with the last piece of a call the whole. Raises Gone, Broken; with a socket that does not
        block, BlockingIOError."""
        message, descriptor = self._receive()
        if message.kind == _wire.CALL:
            return message, self._call(message, descriptor)
        if descriptor is not None:
            os.close(descriptor)
        if message.kind == _wire.WELCOME:
            raise Broken("a second welcome")
        pieces = self._pieces
        if message.kind == _wire.INTERRUPT and pieces is not None and pieces.call == message.call:
            pieces.close()
            self._pieces = None
            self.send(_wire.error(message.call, 1, "interrupted before all of it had come"))
            self.send(_wire.header(_wire.INTERRUPTED, message.call, 0))
            return Message(0, 0, 0, 0, 0, b"", 0), None
        return message, None

    @property
    def in_pieces(self) -> bool:
        """Whether a call of which more follows has begun."""
        return self._pieces is not None

    def send(self, header: bytes, payload: bytes = b"") -> None:
        """Sends one message. Raises Gone."""
        try:
            self.socket.sendmsg([header, payload] if payload else [header], [], socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None

    def send_pieces(self, kind: int, call: int, payload: bytes, last: int) -> None:
        """Sends a payload of any size: messages of one kind, and one of the `last`."""
        at = 0
        while len(payload) - at > self.piece_bytes_max:
            piece = payload[at : at + self.piece_bytes_max]
            self.send(_wire.header(kind, call, len(piece)), piece)
            at += len(piece)
        piece = payload[at:] if at else payload
        self.send(_wire.header(last, call, len(piece)), piece)

    def done(self, call: int, payload: bytes, may_share: bool) -> None:
        """Sends the last of an answer."""
        half = self.shared_bytes // 2
        if may_share and self.memory is not None and _wire.INLINE_BYTES_MAX < len(payload) <= half:
            self.memory[half : half + len(payload)] = payload
            self.send(_wire.shared_header(_wire.DONE, call, len(payload), half))
        else:
            self.send_pieces(_wire.PART, call, payload, _wire.DONE)

    def _call(self, message: Message, descriptor: Optional[int]) -> Optional[Request]:
        request = self._pieces
        if request is None:
            request = Request(message, descriptor)
            self._pieces = request
            if bool(message.flags & _wire.DESCRIPTOR) != (descriptor is not None):
                raise Broken("a descriptor where the call says so, and nowhere else")
            if message.whole_bytes > self.call_bytes_max:
                raise Broken("a call larger than announced")
        elif descriptor is not None or message.flags & _wire.SHARED:
            raise Broken("a later piece that is shared, or has a descriptor")
        elif request.call != message.call or request.whole_bytes != message.whole_bytes:
            raise Broken("a call amid another's pieces")
        payload = message.payload
        if message.flags & _wire.SHARED and self.memory is not None:
            payload = self.memory[: message.shared_bytes]
        more = bool(message.flags & _wire.MORE)
        request.add(payload, more)
        if more:
            return None
        self._pieces = None
        return request

    def _receive(self) -> tuple[Message, Optional[int]]:
        space = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
        try:
            size, control, flags, _ = self.socket.recvmsg_into([self._buffer], space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raise Gone from None
        descriptors = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Broken("a message larger than announced")
            if size == 0:
                raise Gone
            message = _wire.read(self._buffer[:size], self.shared_bytes)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return message, descriptors[0] if descriptors else None

    def _fit_send_buffer(self, message_bytes: int) -> int:
        size = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if size - OVERHEAD_BYTES < message_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, message_bytes)
            size = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return min(message_bytes, size - OVERHEAD_BYTES) - _wire.HEADER.size


def _map(descriptor: Optional[int], size: int) -> mmap.mmap:
    """Maps the shared memory, which must not be able to shrink: to touch what is gone would end the process."""
    if descriptor is None:
        raise Broken("a welcome without the descriptor that it announces")
    if os.fstat(descriptor).st_size < size:
        raise Broken("shared memory smaller than announced")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if not seals & fcntl.F_SEAL_SHRINK:
        raise Broken("shared memory that is not sealed against shrinking")
    return mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
