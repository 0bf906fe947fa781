"""Plays usherd over a socket pair."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple, Optional

from usherd import helper

ROOT = Path(__file__).resolve().parent.parent
MESSAGE_BYTES = 131_072
SHARED_BYTES = 131_072
CALL_BYTES_MAX = ANSWER_BYTES_MAX = 1 << 20
HEADER = struct.Struct(">BBBBIIIII")
READY, PART, DONE, ERROR, INTERRUPTED, ASK, UNABLE = range(16, 23)


class Said(NamedTuple):
    """What a helper said."""

    kind: int
    call: int
    payload: bytes
    shared: bool = False


def message(kind: int, call: int, payload: bytes = b"", *, flags: int = 0, deadline: int = 0, whole: int = 0) -> bytes:
    return HEADER.pack(0xD6, 1, kind, flags, call, deadline, len(payload), whole, 0) + payload


def call(number: int, payload: bytes, *, whole: Optional[int] = None, more: bool = False) -> bytes:
    size = len(payload) if whole is None else whole
    return message(2, number, payload, flags=2 if more else 0, deadline=60_000, whole=size)


class Usherd:
    """Usherd's end of the socket, with the welcome said."""

    def __init__(self, shared_bytes: int = SHARED_BYTES) -> None:
        self.socket, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.shared_bytes = shared_bytes
        self.memory: Optional[int] = None
        if shared_bytes:
            self.memory = os.memfd_create("test", os.MFD_ALLOW_SEALING)
            os.ftruncate(self.memory, shared_bytes)
            fcntl.fcntl(self.memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.say(self.welcome(), self.memory)

    def welcome(self) -> bytes:
        bounds = struct.pack(">IIII", MESSAGE_BYTES, self.shared_bytes, CALL_BYTES_MAX, ANSWER_BYTES_MAX)
        return message(1, 0, bounds + b"test", flags=4 if self.shared_bytes else 0)

    def say(self, datagram: bytes, descriptor: Optional[int] = None) -> None:
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        self.socket.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)

    def call_shared(self, number: int, payload: bytes) -> None:
        assert self.memory is not None
        os.pwrite(self.memory, payload, 0)
        self.say(HEADER.pack(0xD6, 1, 2, 1, number, 0, len(payload), len(payload), 0))

    def hear(self) -> Optional[Said]:
        """What the helper says next; `None` when it has ended."""
        try:
            datagram = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return None
        if not datagram:
            return None
        magic, version, kind, flags, number, deadline, size, whole, offset = HEADER.unpack_from(datagram)
        assert (magic, version, deadline, whole) == (0xD6, 1, 0, 0), datagram[:24].hex()
        if not flags:
            assert size == len(datagram) - 24 and offset == 0, datagram[:24].hex()
            return Said(kind, number, datagram[24:])
        assert flags == 1 and self.memory is not None and len(datagram) == 24, datagram[:24].hex()
        assert offset >= self.shared_bytes // 2 and offset + size <= self.shared_bytes
        return Said(kind, number, os.pread(self.memory, size, offset), True)

    def answer(self, number: int) -> bytes:
        """The whole answer to a call."""
        parts = []
        while True:
            said = self.hear()
            assert said is not None and said.call == number and said.kind in (PART, DONE), said
            parts.append(said.payload)
            if said.kind == DONE:
                return b"".join(parts)

    def close(self) -> None:
        self.socket.close()
        self.far.close()
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None


class Serving(Usherd):
    """A helper on a thread of this process, ready."""

    def __init__(
        self, handler: helper.Handler, *, threads: int = 1, ahead: int = 1, shared_bytes: int = SHARED_BYTES
    ) -> None:
        super().__init__(shared_bytes)
        self.raised: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._serve, args=(handler, threads, ahead), daemon=True)
        self._thread.start()
        ready = self.hear()
        assert ready == Said(READY, 0, struct.pack(">I", max(threads, ahead)) + b"test/1"), ready

    def _serve(self, handler: helper.Handler, threads: int, ahead: int) -> None:
        try:
            helper.serve(handler, software="test/1", threads=threads, ahead=ahead, sock=self.far)
        except BaseException as error:
            self.raised = error

    def ended(self) -> Optional[BaseException]:
        """Waits until the helper has ended; what it raised."""
        self._thread.join(10)
        assert not self._thread.is_alive(), "the helper does not end"
        return self.raised


class Example(Usherd):
    """An example as a process, with the socket as its standard input."""

    def __init__(self, name: str, *arguments: str) -> None:
        super().__init__()
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "USHERD_HELPER": "1"}
        command = [sys.executable, str(ROOT / "examples" / name), *arguments]
        self.process = subprocess.Popen(command, stdin=self.far.fileno(), env=environment, start_new_session=True)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        super().close()
