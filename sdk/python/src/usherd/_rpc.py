"""The frames between callers and usherd, version 1 (docs/rpc-protocol.md)."""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from .errors import ProtocolError

HEADER = struct.Struct(">BBBBIIHHI")
PAYLOAD_BYTES_MAX = 16 << 20
OPTIONS_BYTES_MAX = 4096
FRAME_BYTES_MAX = HEADER.size + 255 + OPTIONS_BYTES_MAX + PAYLOAD_BYTES_MAX
MAGIC, VERSION = 0xD5, 1
HELLO, CALL, REPLY_PART, REPLY_DONE, ERROR, CANCEL, ASK, INPUT = range(1, 9)
TOKEN = 1


class Frame(NamedTuple):
    """What a server says."""

    kind: int
    call: int
    payload: bytes


def frame_bytes(buffer: bytearray) -> Optional[int]:
    """How long the first frame in the buffer is, header included; `None` until its header is there."""
    if buffer[:1] not in (b"", bytes([MAGIC])):
        raise ProtocolError("this is not usherd's RPC protocol")
    if len(buffer) < HEADER.size:
        return None
    _, version, _, _, _, _, name, options, payload = HEADER.unpack_from(buffer)
    if version != VERSION:
        raise ProtocolError(f"version {version} of the RPC protocol is not spoken here")
    if name > 255 or options > OPTIONS_BYTES_MAX or payload > PAYLOAD_BYTES_MAX:
        raise ProtocolError("a frame larger than any may be")
    return int(HEADER.size + name + options + payload)


def read(frame: bytes) -> Frame:
    """Reads one whole frame from a server."""
    _, _, kind, flags, call, deadline, name, options, _ = HEADER.unpack_from(frame)
    if kind not in (HELLO, REPLY_PART, REPLY_DONE, ERROR, ASK) or flags or deadline or name:
        raise ProtocolError("a frame that no server may send")
    if (call == 0) != (kind == HELLO) and kind != ERROR:
        raise ProtocolError("a call id that does not fit its frame")
    at, end = HEADER.size, HEADER.size + options
    while at < end:
        if end - at < 3:
            raise ProtocolError("options that end early")
        if frame[at] >= 128:
            raise ProtocolError(f"option {frame[at]}, which must be known and is not")
        at += 3 + int.from_bytes(frame[at + 1 : at + 3], "big")
    if at != end:
        raise ProtocolError("options that end early")
    return Frame(kind, call, frame[end:])


def read_error(payload: bytes) -> tuple[int, int, str]:
    """Number, detail and text of an error."""
    if len(payload) < 6:
        raise ProtocolError("an error that ends early")
    number, detail = struct.unpack_from(">Hi", payload)
    return number, detail, payload[6:].decode("utf-8", "replace")


def read_hello(payload: bytes) -> int:
    """The largest frame that the server takes."""
    if len(payload) < 4:
        raise ProtocolError("a hello that ends early")
    return int.from_bytes(payload[:4], "big")


def hello(token: Optional[bytes]) -> bytes:
    options = b"" if token is None else struct.pack(">BH", TOKEN, len(token)) + token
    payload = FRAME_BYTES_MAX.to_bytes(4, "big") + b"usherd-python/0.1"
    return HEADER.pack(MAGIC, VERSION, HELLO, 0, 0, 0, 0, len(options), len(payload)) + options + payload


def call(number: int, deadline_ms: int, service: bytes, payload: bytes) -> bytes:
    header = HEADER.pack(MAGIC, VERSION, CALL, 0, number, deadline_ms, len(service), 0, len(payload))
    return b"".join((header, service, payload))


def cancel(number: int) -> bytes:
    return HEADER.pack(MAGIC, VERSION, CANCEL, 0, number, 0, 0, 0, 0)


def answer(number: int, payload: bytes) -> bytes:
    """What an `ask` asked for."""
    return HEADER.pack(MAGIC, VERSION, INPUT, 0, number, 0, 0, 0, len(payload)) + payload
