"""Callers against servers that break the protocol; and, where USHERD_TEST_UNIX and its like say where it listens, against
usherd itself with the services that `daemon/tests/process/sdk.rs` gives it. That test sets them and runs this one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import struct
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import usherd
from usherd import aio

HEADER = struct.Struct(">BBBBIIHHI")


def frame(kind: int, call: int, payload: bytes = b"", options: bytes = b"") -> bytes:
    return HEADER.pack(0xD5, 1, kind, 0, call, 0, 0, len(options), len(payload)) + options + payload


HELLO = frame(1, 0, (1 << 20).to_bytes(4, "big") + b"fake/1")


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listener whose every client is served by `behave`; what it raises is raised here."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(f"{folder}/rpc")
        listener.listen()
        listener.settimeout(20)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.settimeout(20)
                behave(client)

        serving = pool.submit(serve)
        yield f"unix:{folder}/rpc"
        serving.result()


def hear(client: socket.socket) -> tuple[int, int, bytes]:
    """Kind, id and payload of the next frame."""
    with client.makefile("rb", 0) as file:
        header = file.read(HEADER.size)
        _, _, kind, _, call, _, name, options, payload = HEADER.unpack(header or b"")
        file.read(name + options)
        body = file.read(payload) if payload else b""
        return kind, call, body or b""


class Servers(unittest.TestCase):
    """Servers that are slow, break off, or talk nonsense."""

    def test_answers_in_parts_and_out_of_order_find_their_calls(self) -> None:
        def behave(client: socket.socket) -> None:
            self.assertEqual(hear(client)[0], 1)
            client.sendall(HELLO)
            calls = {hear(client)[2]: call for call in range(1, 4)}
            self.assertEqual(calls, {b"a": 1, b"b": 2, b"c": 3})
            answer = frame(3, 3, b"C1") + frame(4, 1, b"A") + frame(3, 2) + frame(4, 3, b"C2") + frame(4, 2, b"B")
            for byte in answer:
                client.sendall(bytes([byte]))

        with server(behave) as address, usherd.Client(address) as client:
            replies = [client.submit("s", payload) for payload in (b"a", b"b", b"c")]
            self.assertEqual([reply.result() for reply in replies], [b"A", b"B", b"C1C2"])

    def test_a_question_is_answered_and_without_an_answer_the_call_is_canceled(self) -> None:
        def behave(client: socket.socket) -> None:
            hear(client)
            client.sendall(HELLO)
            self.assertEqual(hear(client)[1], 1)
            client.sendall(frame(7, 1, b"who?"))
            self.assertEqual(hear(client), (8, 1, b"me"))
            client.sendall(frame(4, 1, b"hello me"))
            self.assertEqual(hear(client)[1], 2)
            client.sendall(frame(7, 2, b"who?"))
            self.assertEqual(hear(client), (6, 2, b""))
            client.sendall(frame(5, 2, b"\0\x08\0\0\0\0"))
            self.assertEqual(hear(client)[1], 3)
            client.sendall(frame(4, 3, b"after"))

        with server(behave) as address, usherd.Client(address) as client:
            self.assertEqual(client.call("s", ask=lambda question: b"me" if question == b"who?" else b""), b"hello me")
            with self.assertRaises(usherd.NeedsInput):
                client.call("s")
            self.assertEqual(client.call("s"), b"after")

    def test_every_error_has_its_type_and_knows_whether_to_try_again(self) -> None:
        numbers = {
            1: (usherd.UnknownService, True),
            2: (usherd.QueueFull, True),
            3: (usherd.QueueTimeout, True),
            4: (usherd.DeadlinePassed, False),
            5: (usherd.Crashed, False),
            6: (usherd.Unavailable, True),
            7: (usherd.ShuttingDown, True),
            8: (usherd.Canceled, False),
            9: (usherd.TooLarge, False),
            10: (usherd.ProtocolError, False),
            11: (usherd.Failed, False),
            12: (usherd.Denied, True),
            999: (usherd.CallError, False),
        }

        def behave(client: socket.socket) -> None:
            hear(client)
            client.sendall(HELLO)
            for number in numbers:
                call = hear(client)[1]
                client.sendall(frame(5, call, struct.pack(">Hi", number, -9) + b"why"))

        with server(behave) as address, usherd.Client(address) as client:
            for number, (kind, retry) in numbers.items():
                with self.assertRaises(usherd.CallError) as raised:
                    client.call("s")
                error = raised.exception
                self.assertIs(type(error), kind)
                self.assertEqual((error.number, error.detail, str(error)), (number, -9, "why"))
                self.assertEqual(error.retry_is_safe, retry, kind)

    def test_a_connection_that_ends_ends_its_calls_and_a_silent_server_misses_the_deadline(self) -> None:
        def ends(client: socket.socket) -> None:
            hear(client)
            client.sendall(HELLO)
            hear(client)

        with server(ends) as address, usherd.Client(address) as client:
            with self.assertRaises(usherd.ConnectionLost):
                client.call("s")
            with self.assertRaises(usherd.ConnectionLost):
                client.call("s")

        def silent(client: socket.socket) -> None:
            hear(client)
            client.sendall(HELLO)
            hear(client)
            self.assertEqual(hear(client)[0], 6)

        grace, aio.DEADLINE_GRACE = aio.DEADLINE_GRACE, 0.1
        try:
            with server(silent) as address, usherd.Client(address) as client:
                with self.assertRaises(usherd.DeadlinePassed):
                    client.call("s", deadline=0.1)
        finally:
            aio.DEADLINE_GRACE = grace

    def test_nonsense_ends_the_connection_with_a_protocol_error(self) -> None:
        answers = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\xd5\x02" + HELLO[2:],
            frame(4, 77),
            frame(2, 1),
            frame(4, 0),
            frame(3, 1, b"", b"\x80\0\0"),
            frame(3, 1, b"", b"\x01\0\x09"),
            frame(5, 1, b"\0"),
            HEADER.pack(0xD5, 1, 4, 0, 1, 0, 0, 0, 0xFFFFFFFF),
        ]
        for answer in answers:

            def behave(client: socket.socket, answer: bytes = answer) -> None:
                hear(client)
                client.sendall(HELLO)
                hear(client)
                client.sendall(answer)
                with contextlib.suppress(ConnectionResetError):
                    client.recv(100)

            with server(behave) as address, usherd.Client(address) as client:
                with self.assertRaises(usherd.ProtocolError, msg=repr(answer)):
                    client.call("s")

    def test_any_bytes_are_answered(self) -> None:
        seed = random.Random(11)
        for _ in range(60):
            noise = bytearray(b"".join(frame(seed.randrange(9), seed.randrange(3), seed.randbytes(9)) for _ in range(5)))
            for _ in range(seed.randrange(4)):
                noise[seed.randrange(len(noise))] ^= 1 << seed.randrange(8)

            def behave(client: socket.socket, noise: bytes = bytes(noise)) -> None:
                hear(client)
                client.sendall(HELLO)
                hear(client)
                client.sendall(noise)

            with server(behave) as address, usherd.Client(address) as client:
                with contextlib.suppress(usherd.CallError):
                    client.call("s", ask=lambda question: question)

    def test_wrong_addresses_say_what_would_be_right(self) -> None:
        for address in ("", "rpc.sock", "host:", "host:99999", ":1"):
            with self.assertRaisesRegex(ValueError, "host:port"):
                usherd.Client(address)
        with self.assertRaises(OSError):
            usherd.Client("unix:/nowhere/at/all")


@unittest.skipUnless("USHERD_TEST_UNIX" in os.environ, "needs usherd: cargo test -p usherd --test process sdk")
class Daemon(unittest.TestCase):
    """usherd itself."""

    unix = os.environ.get("USHERD_TEST_UNIX", "")

    def test_calls_over_unix_tcp_and_tls(self) -> None:
        context = ssl.create_default_context(cafile=os.environ["USHERD_TEST_CA"])
        token = os.environ["USHERD_TEST_TOKEN"].encode()
        for client in (
            usherd.Client(self.unix),
            usherd.Client(os.environ["USHERD_TEST_TCP"]),
            usherd.Client(os.environ["USHERD_TEST_TLS"], tls=context, token=token),
        ):
            with client:
                self.assertEqual(client.call("upper", b"hello"), b"HELLO")
                payload = random.Random(1).randbytes(3_000_000)
                self.assertTrue(client.call("cat", payload, deadline=20.0) == payload)

    def test_a_wrong_token_is_denied_and_a_strange_certificate_refused(self) -> None:
        context = ssl.create_default_context(cafile=os.environ["USHERD_TEST_CA"])
        for token in (None, b"wrong"):
            with self.assertRaises(usherd.Denied):
                usherd.Client(os.environ["USHERD_TEST_TLS"], tls=context, token=token)
        with self.assertRaises(ssl.SSLError):
            usherd.Client(os.environ["USHERD_TEST_TLS"], tls=ssl.create_default_context())

    def test_errors_of_a_real_service(self) -> None:
        with usherd.Client(self.unix) as client:
            with self.assertRaises(usherd.UnknownService) as unknown:
                client.call("nobody")
            self.assertTrue(unknown.exception.retry_is_safe)
            with self.assertRaises(usherd.Crashed) as crashed:
                client.call("seven")
            self.assertEqual(crashed.exception.status, 7)
            start = time.monotonic()
            with self.assertRaises(usherd.DeadlinePassed):
                client.call("hang", deadline=0.3)
            self.assertLess(time.monotonic() - start, 2)
            with self.assertRaises(usherd.TooLarge):
                client.call("upper", b"x" * (17 << 20))

    def test_helpers_answer_in_parts_ask_and_fail_in_their_own_words(self) -> None:
        with usherd.Client(self.unix) as client:
            for service in ("rust", "python", "several"):
                self.assertEqual(client.call(service, b"words one two"), b"one\ntwo\n")
                self.assertEqual(client.call(service, b"ask who?", ask=lambda question: b"not " + question), b"you said not who?")
                with self.assertRaises(usherd.NeedsInput):
                    client.call(service, b"ask who?")
                with self.assertRaises(usherd.Failed) as failed:
                    client.call(service, b"what is this")
                self.assertEqual(failed.exception.code, 2)
                self.assertIn("no such word", failed.exception.text)

    def test_calls_are_pipelined_from_many_threads(self) -> None:
        with usherd.Client(self.unix) as client, ThreadPoolExecutor(8) as pool:
            numbers = [str(number).encode() for number in range(200)]
            self.assertEqual(list(pool.map(lambda number: client.call("cat", number), numbers)), numbers)
            replies = [client.submit("cat", number) for number in numbers]
            self.assertEqual([reply.result() for reply in replies], numbers)

    def test_a_canceled_call_says_so_and_leaves_the_connection_whole(self) -> None:
        with usherd.Client(self.unix) as client:
            reply = client.submit("hang")
            threading.Timer(0.2, reply.cancel).start()
            with self.assertRaises(usherd.Canceled):
                reply.result()
            self.assertEqual(client.call("upper", b"after"), b"AFTER")

    def test_asyncio_calls_gather_stream_and_cancel(self) -> None:
        async def calls() -> None:
            async with await aio.connect(self.unix) as client:
                answers = await asyncio.gather(*(client.call("cat", bytes([number])) for number in range(50)))
                self.assertEqual(answers, [bytes([number]) for number in range(50)])
                parts = [part async for part in client.stream("cat", b"x" * 1_000_000)]
                self.assertEqual(sum(map(len, parts)), 1_000_000)
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.call("hang"), 0.2)
                task = asyncio.ensure_future(client.call("hang"))
                await asyncio.sleep(0.1)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(await client.call("upper", b"after"), b"AFTER")
                with self.assertRaises(usherd.TooLarge):
                    await client.call("cat", b"x" * 100_000, answer_bytes_max=1000)
                self.assertEqual(await client.call("upper", b"still"), b"STILL")

        asyncio.run(calls())


if __name__ == "__main__":
    unittest.main()
