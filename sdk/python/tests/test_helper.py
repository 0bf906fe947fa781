"""The helper side: in this process, and the examples as processes."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Optional

from usherd import helper

from .harness import (
    ANSWER_BYTES_MAX,
    ASK,
    DONE,
    ERROR,
    INTERRUPTED,
    MESSAGE_BYTES,
    PART,
    READY,
    ROOT,
    SHARED_BYTES,
    UNABLE,
    Example,
    Said,
    Serving,
    Usherd,
    call,
    message,
)


def upper(one: helper.Call) -> bytes:
    return one.payload.upper()


class Calls(unittest.TestCase):
    def serving(
        self, handler: helper.Handler, *, threads: int = 1, ahead: int = 1, shared_bytes: int = SHARED_BYTES
    ) -> Serving:
        usherd = Serving(handler, threads=threads, ahead=ahead, shared_bytes=shared_bytes)
        self.addCleanup(usherd.close)
        return usherd

    def test_calls_are_answered_until_goodbye(self) -> None:
        usherd = self.serving(upper)
        for number in range(1, 4):
            usherd.say(call(number, b"hello"))
            self.assertEqual(usherd.hear(), Said(DONE, number, b"HELLO"))
        usherd.say(call(4, b""))
        usherd.say(message(5, 0))
        self.assertEqual(usherd.hear(), Said(DONE, 4, b""))
        self.assertIsNone(usherd.ended())

    def test_payloads_of_every_size_come_and_go_by_every_way(self) -> None:
        half, piece = SHARED_BYTES // 2, MESSAGE_BYTES - 24
        for shared_bytes in (0, SHARED_BYTES):
            usherd = self.serving(lambda one: one.payload, shared_bytes=shared_bytes)
            for number, size in enumerate((0, 1, 4096, 4097, half, half + 1, piece, piece + 1, 700_000, 1 << 20), 1):
                payload = random.Random(size).randbytes(size)
                if shared_bytes and 4096 < size <= half:
                    usherd.call_shared(number, payload)
                    self.assertEqual(usherd.hear(), Said(DONE, number, payload, True))
                    continue
                at = 0
                while size - at > piece:
                    usherd.say(call(number, payload[at : at + piece], whole=size, more=True))
                    at += piece
                usherd.say(call(number, payload[at:], whole=size))
                self.assertTrue(usherd.answer(number) == payload, f"{size} bytes came back changed")
            usherd.say(message(5, 0))
            self.assertIsNone(usherd.ended())

    def test_failures_have_their_code_and_other_exceptions_have_1(self) -> None:
        def handler(one: helper.Call) -> bytes:
            if one.payload == b"own":
                raise helper.Failure(7, "no such colour")
            if one.payload == b"large":
                return b"x" * (ANSWER_BYTES_MAX + 1)
            return bytes([256])

        usherd = self.serving(handler)
        usherd.say(call(1, b"own"))
        self.assertEqual(usherd.hear(), Said(ERROR, 1, b"\0\x07no such colour"))
        usherd.say(call(2, b"large"))
        self.assertEqual(usherd.hear(), Said(ERROR, 2, b"\0\x02the answer is larger than usherd takes"))
        with contextlib.redirect_stderr(io.StringIO()) as log:
            usherd.say(call(3, b""))
            said = usherd.hear()
        assert said is not None
        self.assertEqual((said.kind, said.call), (ERROR, 3))
        self.assertTrue(said.payload.startswith(b"\0\x01ValueError: "), said.payload)
        self.assertIn("Traceback", log.getvalue())

    def test_a_generator_hands_on_its_parts_at_once(self) -> None:
        going = threading.Semaphore(0)

        def handler(one: helper.Call) -> Iterator[bytes]:
            yield b"first "
            going.acquire()
            yield b""
            yield b"second"

        usherd = self.serving(handler)
        usherd.say(call(1, b""))
        self.assertEqual(usherd.hear(), Said(PART, 1, b"first "))
        going.release()
        self.assertEqual(usherd.hear(), Said(PART, 1, b"second"))
        self.assertEqual(usherd.hear(), Said(DONE, 1, b""))

    def test_a_question_waits_for_its_input(self) -> None:
        for threads in (1, 2):
            usherd = self.serving(lambda one: b"then " + one.ask(b"and then?"), threads=threads)
            usherd.say(message(4, 9, b"too early"))
            usherd.say(call(9, b""))
            self.assertEqual(usherd.hear(), Said(ASK, 9, b"and then?"))
            usherd.say(message(4, 8, b"of another call"))
            usherd.say(message(4, 9, b"the second"))
            self.assertEqual(usherd.hear(), Said(DONE, 9, b"then the second"))
            usherd.say(call(10, b""))
            self.assertEqual(usherd.hear(), Said(ASK, 10, b"and then?"))
            usherd.say(message(3, 10))
            self.assertEqual(usherd.hear(), Said(ERROR, 10, b"\0\x01interrupted"))
            self.assertEqual(usherd.hear(), Said(INTERRUPTED, 10, b""))

    def test_an_interrupt_is_acknowledged_after_its_call_and_at_once_if_that_is_over(self) -> None:
        going = threading.Semaphore(0)

        def handler(one: helper.Call) -> bytes:
            going.acquire()
            if one.payload == b"stop":
                # Another thread may hear it: it has ten seconds.
                ends = time.monotonic() + 10
                while not one.interrupted and time.monotonic() < ends:
                    time.sleep(0.001)
            return b"stopped" if one.interrupted else b"went on"

        for threads in (1, 2):
            usherd = self.serving(handler, threads=threads)
            usherd.say(call(1, b"stop"))
            usherd.say(message(3, 1))
            going.release()
            self.assertEqual(usherd.hear(), Said(DONE, 1, b"stopped"))
            self.assertEqual(usherd.hear(), Said(INTERRUPTED, 1, b""))
            usherd.say(message(3, 1))
            self.assertEqual(usherd.hear(), Said(INTERRUPTED, 1, b""))
            usherd.say(call(2, b"go on"))
            usherd.say(message(3, 1))
            going.release()
            heard = {usherd.hear(), usherd.hear()}
            self.assertEqual(heard, {Said(INTERRUPTED, 1, b""), Said(DONE, 2, b"went on")})

    def test_an_interrupt_ends_a_call_of_which_not_all_has_come(self) -> None:
        usherd = self.serving(upper)
        usherd.say(call(1, b"half", whole=8, more=True))
        usherd.say(message(3, 1))
        said = usherd.hear()
        assert said is not None
        self.assertEqual((said.kind, said.call), (ERROR, 1))
        self.assertEqual(usherd.hear(), Said(INTERRUPTED, 1, b""))
        usherd.say(call(2, b"next"))
        self.assertEqual(usherd.hear(), Said(DONE, 2, b"NEXT"))

    def test_a_descriptor_is_written_to_or_closed(self) -> None:
        def handler(one: helper.Call) -> bytes:
            descriptor = one.reply_to() if one.payload == b"take" else None
            if descriptor is None:
                return b"the usual way"
            with open(descriptor, "wb") as file:
                file.write(b"straight")
            return b""

        usherd = self.serving(handler)
        for number, payload, direct, usual in ((1, b"take", b"straight", b""), (2, b"leave", b"", b"the usual way")):
            read, write = os.pipe()
            usherd.say(message(2, number, payload, flags=4, whole=len(payload)), write)
            os.close(write)
            self.assertEqual(usherd.hear(), Said(DONE, number, usual))
            with open(read, "rb") as file:
                self.assertEqual(file.read(), direct)

    def test_as_many_calls_as_threads_run_at_once(self) -> None:
        together = threading.Barrier(4, timeout=10)

        def handler(one: helper.Call) -> bytes:
            together.wait()
            return one.payload

        usherd = self.serving(handler, threads=4)
        for number in range(1, 5):
            usherd.say(call(number, b"x"))
        self.assertEqual({usherd.hear() for _ in range(4)}, {Said(DONE, number, b"x") for number in range(1, 5)})
        usherd.say(message(5, 0))
        self.assertIsNone(usherd.ended())

    def test_calls_taken_ahead_are_answered_in_their_order(self) -> None:
        usherd = self.serving(upper, ahead=8)
        for number in range(1, 9):
            usherd.say(call(number, b"x%d" % number))
        for number in range(1, 9):
            self.assertEqual(usherd.hear(), Said(DONE, number, b"X%d" % number))
        usherd.say(call(9, b"last"))
        usherd.say(message(5, 0))
        self.assertEqual(usherd.hear(), Said(DONE, 9, b"LAST"))
        self.assertIsNone(usherd.ended())

    def test_a_call_that_waits_is_given_up_without_being_begun(self) -> None:
        begun: list[bytes] = []

        def handler(one: helper.Call) -> bytes:
            begun.append(one.payload)
            while one.payload == b"look" and not one.interrupted:
                time.sleep(0.001)
            return one.payload.upper()

        usherd = self.serving(handler, ahead=4)
        usherd.say(call(1, b"look"))
        for number in range(2, 5):
            usherd.say(call(number, b"wait%d" % number))
        usherd.say(message(3, 3))
        self.assertEqual(usherd.hear(), Said(ERROR, 3, b"\0\x01interrupted before it was begun"))
        self.assertEqual(usherd.hear(), Said(INTERRUPTED, 3, b""))
        usherd.say(message(5, 0))
        usherd.say(message(3, 1))
        self.assertEqual(usherd.hear(), Said(DONE, 1, b"LOOK"))
        self.assertEqual(usherd.hear(), Said(INTERRUPTED, 1, b""))
        for number in (2, 4):
            self.assertEqual(usherd.hear(), Said(DONE, number, b"WAIT%d" % number))
        self.assertIsNone(usherd.ended())
        self.assertEqual(begun, [b"look", b"wait2", b"wait4"])

    def test_more_calls_ahead_than_were_declared_break_the_protocol(self) -> None:
        usherd = self.serving(self._look, ahead=2)
        for number in range(1, 4):
            usherd.say(call(number, b"look"))
        self.assertIsInstance(usherd.ended(), helper.Broken)

    @staticmethod
    def _look(one: helper.Call) -> bytes:
        while not one.interrupted:
            time.sleep(0.001)
        return b""

    def test_what_ahead_may_be(self) -> None:
        for threads, ahead in ((1, 0), (1, -1), (2, 2)):
            with self.assertRaises(ValueError):
                helper.serve(upper, threads=threads, ahead=ahead, sock=None)

    def test_a_helper_ends_when_usherd_has_gone(self) -> None:
        for threads in (1, 2):
            usherd = Serving(upper, threads=threads)
            usherd.socket.close()
            self.assertIsNone(usherd.ended())
            usherd.close()

    def test_a_helper_that_cannot_take_calls_says_why(self) -> None:
        usherd = Usherd()
        self.addCleanup(usherd.close)
        helper.unable("no database", sock=usherd.far)
        self.assertEqual(usherd.hear(), Said(UNABLE, 0, b"no database"))
        self.assertIsNone(usherd.hear())


class Hostile(unittest.TestCase):
    """A usherd that breaks the protocol gets `Broken`, and never a hang."""

    def setUp(self) -> None:
        faulthandler.dump_traceback_later(120, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def refused(self, *datagrams: bytes, threads: int = 1) -> None:
        usherd = Serving(upper, threads=threads)
        try:
            for datagram in datagrams:
                usherd.say(datagram)
            self.assertIsInstance(usherd.ended(), helper.Broken, datagrams)
        finally:
            usherd.close()

    def test_what_breaks_the_protocol_ends_the_helper(self) -> None:
        for threads in (1, 2):
            self.refused(b"G", threads=threads)
            self.refused(b"\xd6" * 24, threads=threads)
            self.refused(message(1, 0, struct.pack(">IIII", 8192, 0, 1, 1) + b"again"), threads=threads)
            self.refused(call(1, b"x", whole=2), threads=threads)
            self.refused(call(1, b"x", whole=2 << 20, more=True), threads=threads)
            self.refused(call(1, b"x", whole=3, more=True), call(2, b"y", whole=3, more=True), threads=threads)
            self.refused(call(1, b"x", whole=3, more=True), call(1, b"yyy", whole=3), threads=threads)
            self.refused(message(2, 1, b"", flags=4), threads=threads)
            self.refused(message(18, 1, b""), threads=threads)
            size = SHARED_BYTES // 2 + 1
            self.refused(struct.pack(">BBBBIIIII", 0xD6, 1, 2, 1, 1, 0, size, size, 0), threads=threads)

    def test_memory_that_could_shrink_is_not_mapped(self) -> None:
        usherd = Usherd(0)
        self.addCleanup(usherd.close)
        usherd.far.recv(1000)
        memory = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        usherd.shared_bytes = 1 << 16
        usherd.say(usherd.welcome(), memory)
        with self.assertRaisesRegex(helper.Broken, "smaller"):
            helper.serve(upper, sock=usherd.far.dup())
        os.ftruncate(memory, 1 << 16)
        usherd.say(usherd.welcome(), memory)
        with self.assertRaisesRegex(helper.Broken, "sealed"):
            helper.serve(upper, sock=usherd.far.dup())
        os.close(memory)

    def test_any_datagrams_end_in_an_answer_or_a_protocol_error(self) -> None:
        count = int(os.environ.get("USHERD_TEST_PYTHON_SEQUENCES", "1500"))
        seed = random.Random(7)
        broken = 0
        for _ in range(count):
            usherd = Usherd(seed.choice((0, SHARED_BYTES)))
            for _ in range(seed.randrange(1, 8)):
                usherd.say(_any_datagram(seed))
            usherd.socket.shutdown(socket.SHUT_WR)
            try:
                helper.serve(_curious, sock=usherd.far)
            except helper.Broken:
                broken += 1
            usherd.close()
        self.assertTrue(count // 10 < broken < count, "both happen, or this proves little")


def _any_datagram(seed: random.Random) -> bytes:
    """Mostly nearly right."""
    payload = seed.randbytes(seed.choice((0, 1, 3, 30)))
    number, kind = seed.choice((0, 1, 1, 1, 1, 1, 2)), seed.choice((2, 2, 2, 2, 3, 4, 5, 9, 1, 18))
    flags = seed.choice((0, 0, 0, 0, 0, 0, 1, 2, 4, 8))
    whole = seed.choice((len(payload), len(payload), len(payload), len(payload) + 3)) if kind == 2 else 0
    datagram = bytearray(message(kind, 0 if kind in (1, 5) else number, payload, flags=flags, whole=whole))
    if seed.random() < 0.1:
        datagram[seed.randrange(len(datagram))] ^= 1 << seed.randrange(8)
    return bytes(datagram[: seed.choice((None,) * 20 + (10,))])


def _curious(one: helper.Call) -> Optional[bytes]:
    if one.interrupted:
        return None
    if len(one.payload) == 3:
        return one.ask(b"?")
    one.part(b"part")
    return one.payload


class Processes(unittest.TestCase):
    def example(self, name: str, *arguments: str) -> Example:
        usherd = Example(name, *arguments)
        self.addCleanup(usherd.close)
        ready = usherd.hear()
        assert ready is not None
        self.assertEqual(ready.kind, READY)
        return usherd

    def signal_until_heard(self, usherd: Example) -> Optional[Said]:
        """As usherd does until an interrupt is acknowledged: a signal that comes before the system call is lost."""
        usherd.socket.settimeout(0.05)
        try:
            for _ in range(200):
                os.kill(usherd.process.pid, signal.SIGINT)
                try:
                    return usherd.hear()
                except socket.timeout:
                    pass
        finally:
            usherd.socket.settimeout(10)
        raise AssertionError("nothing was heard")

    def test_the_smallest_helper_answers_and_ends_with_0(self) -> None:
        usherd = self.example("upper.py")
        usherd.say(call(1, b"hello"))
        self.assertEqual(usherd.hear(), Said(DONE, 1, b"HELLO"))
        self.assertEqual(os.readlink(f"/proc/{usherd.process.pid}/fd/0"), os.devnull)
        usherd.say(message(5, 0))
        self.assertEqual(usherd.process.wait(10), 0)

    def test_a_signal_ends_a_blocking_call_only_with_its_interrupt(self) -> None:
        usherd = self.example("follow.py")
        os.kill(usherd.process.pid, signal.SIGINT)
        usherd.say(call(1, b"words a b"))
        self.assertEqual(usherd.answer(1), b"a\nb\n")
        usherd.say(call(2, b"wait"))
        usherd.say(message(3, 1))
        self.assertEqual(self.signal_until_heard(usherd), Said(INTERRUPTED, 1, b""))
        usherd.say(message(3, 2))
        self.assertEqual(self.signal_until_heard(usherd), Said(ERROR, 2, b"\0\x01interrupted"))
        self.assertEqual(usherd.hear(), Said(INTERRUPTED, 2, b""))
        usherd.say(call(3, b"ask who?"))
        self.assertEqual(usherd.hear(), Said(ASK, 3, b"who?"))
        usherd.say(message(3, 3))
        self.assertEqual(self.signal_until_heard(usherd), Said(ERROR, 3, b"\0\x01interrupted"))
        self.assertEqual(usherd.hear(), Said(INTERRUPTED, 3, b""))
        for number in range(4, 60):
            os.kill(usherd.process.pid, signal.SIGINT)
            usherd.say(call(number, b"words x"))
            self.assertEqual(usherd.answer(number), b"x\n")

    def test_a_helper_started_by_hand_says_what_it_is(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, str(ROOT / "examples" / "upper.py")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=20)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"usherd starts it", done.stderr)


if __name__ == "__main__":
    unittest.main()
