"""The messages between usherd and its helpers, version 1 (docs/helper-protocol.md)."""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct(">BBBBIIIII")
MAGIC, VERSION = 0xD6, 1
SHARED, MORE, DESCRIPTOR = 1, 2, 4
WELCOME, CALL, INTERRUPT, INPUT, GOODBYE = range(1, 6)
READY, PART, DONE, ERROR, INTERRUPTED, ASK, UNABLE = range(16, 23)
MESSAGE_BYTES_MIN = 8192
INLINE_BYTES_MAX = 4096
TEXT_BYTES_MAX = 1024

_ALLOWED = {WELCOME: DESCRIPTOR, CALL: SHARED | MORE | DESCRIPTOR, INTERRUPT: 0, INPUT: 0, GOODBYE: 0}


class Broken(Exception):
    """usherd broke the helper protocol."""


class Message(NamedTuple):
    """What usherd says; a payload in the shared memory is named, not fetched."""

    kind: int
    flags: int
    call: int
    deadline_ms: int
    whole_bytes: int
    payload: bytes
    shared_bytes: int


class Welcome(NamedTuple):
    """The bounds within which helper and usherd speak."""

    message_bytes_max: int
    shared_bytes: int
    call_bytes_max: int
    answer_bytes_max: int
    service: str


def read(datagram: memoryview, shared_bytes: int) -> Message:
    """Reads one message; `shared_bytes` is the size of the shared memory. Raises Broken."""
    if len(datagram) < HEADER.size:
        raise Broken("a message that ends early")
    magic, version, kind, flags, call, deadline_ms, size, whole, offset = HEADER.unpack_from(datagram)
    if magic != MAGIC or version != VERSION:
        raise Broken("not version 1 of the helper protocol")
    if READY <= kind <= UNABLE:
        raise Broken("what only a helper may say")
    allowed = _ALLOWED.get(kind)
    if allowed is None:
        return Message(kind, 0, 0, 0, 0, b"", 0)
    if flags & ~allowed or (call == 0) != (kind in (WELCOME, GOODBYE)) or (kind != CALL and (deadline_ms or whole)):
        raise Broken("a header that its kind does not allow")
    inline = len(datagram) - HEADER.size
    if flags & SHARED:
        if inline or offset or flags & MORE or size != whole or size > shared_bytes // 2:
            raise Broken("a payload that is not in the first half of the shared memory")
        return Message(kind, flags, call, deadline_ms, whole, b"", size)
    if offset or inline != size or (kind in (INTERRUPT, GOODBYE) and size):
        raise Broken("a message that is not as long as it says")
    if kind == CALL and (size > whole or (flags & MORE and (size == whole or size == 0))):
        raise Broken("a piece that is none of its call")
    return Message(kind, flags, call, deadline_ms, whole, bytes(datagram[HEADER.size :]), 0)


def read_welcome(message: Message) -> Welcome:
    """Reads the first message. Raises Broken."""
    if message.kind != WELCOME or len(message.payload) < 16:
        raise Broken("the first message is no welcome")
    message_bytes, shared, call, answer = struct.unpack_from(">IIII", message.payload)
    try:
        service = message.payload[16:].decode()
    except UnicodeDecodeError:
        raise Broken("a service's name that is not UTF-8") from None
    if not 0 < len(message.payload) - 16 <= 255 or message_bytes < MESSAGE_BYTES_MIN:
        raise Broken("a welcome out of bounds")
    if bool(message.flags & DESCRIPTOR) != bool(shared):
        raise Broken("a descriptor if there is shared memory, and no other")
    return Welcome(message_bytes, shared, call, answer, service)


def header(kind: int, call: int, size: int) -> bytes:
    return HEADER.pack(MAGIC, VERSION, kind, 0, call, 0, size, 0, 0)


def shared_header(kind: int, call: int, size: int, offset: int) -> bytes:
    return HEADER.pack(MAGIC, VERSION, kind, SHARED, call, 0, size, 0, offset)


def ready(concurrency: int, software: str) -> bytes:
    payload = concurrency.to_bytes(4, "big") + cut(software)
    return header(READY, 0, len(payload)) + payload


def unable(why: str) -> bytes:
    payload = cut(why)
    return header(UNABLE, 0, len(payload)) + payload


def error(call: int, code: int, text: str) -> bytes:
    payload = code.to_bytes(2, "big") + cut(text)
    return header(ERROR, call, len(payload)) + payload


def cut(text: str) -> bytes:
    """At most 1,024 bytes, and no half character."""
    encoded = text.encode("utf-8", "replace")
    return encoded if len(encoded) <= TEXT_BYTES_MAX else encoded[:TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()
