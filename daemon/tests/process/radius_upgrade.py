"""Upgrades under load: eight sockets ask without a pause, each request once, and none may be lost or answered wrongly.

    PORT CONTROL TURNS RECORDS     RECORDS is the file of the accounting
"""
import json, sys, threading, time
from radius_peer import *

SECRET, USERS = b"a secret of the tests", 10_000
TO, control, turns = ("127.0.0.1", int(sys.argv[1])), sys.argv[2], int(sys.argv[3])


class Flow(threading.Thread):
    def __init__(self, number):
        super().__init__()
        self.number, self.over, self.asked, self.faults, self.sessions, self.longest = number, False, 0, [], [], 0.0

    def run(self):
        s = udp("127.7.0.%d" % (self.number + 1))
        while not self.over:
            n = self.asked * 8 + self.number
            user, right = n % USERS + 1, n % 3 != 0
            if self.asked % 5 == 4:
                self.record(s, n)
                continue
            packet = pap(self.asked & 255, SECRET, b"user%d" % user, b"password-%d" % user if right else b"no")
            start = time.monotonic()
            answer = ask(s, TO, packet, 5.0)
            self.longest, self.asked = max(self.longest, time.monotonic() - start), self.asked + 1
            try:
                assert answer, "no answer"
                assert checked(answer, packet, SECRET) == (ACCEPT if right else REJECT, [])
            except AssertionError as error:
                self.faults.append((user, right, str(error)))


    def record(self, s, n):
        """One accounting request: acknowledged, and so written."""
        session = b"s%d" % n
        packet = request(ACCOUNTING, self.asked & 255, SECRET, [(40, struct.pack(">I", 1)), (44, session), (4, b"\x7f\0\0\1")])
        start = time.monotonic()
        answer = ask(s, TO, packet, 5.0)
        self.longest, self.asked = max(self.longest, time.monotonic() - start), self.asked + 1
        if answer and checked(answer, packet, SECRET) == (RECORDED, []):
            self.sessions.append(session.decode())
        else:
            self.faults.append((session, "no answer" if not answer else answer))


def told(command):
    s = socket.socket(socket.AF_UNIX)
    s.connect(control)
    s.sendall(json.dumps({"command": command}).encode() + b"\n")
    return json.loads(s.makefile().readline())


flows = [Flow(number) for number in range(8)]
[flow.start() for flow in flows]
try:
    pids = {told("status")["pid"]}
    for _ in range(turns):
        time.sleep(0.3)
        answer = told("upgrade")
        assert answer["ok"], answer
        pids.add(told("status")["pid"])
    time.sleep(0.3)
    assert len(pids) == turns + 1, pids
finally:
    for flow in flows:
        flow.over = True
    [flow.join() for flow in flows]
faults = [fault for flow in flows for fault in flow.faults]
asked = sum(flow.asked for flow in flows)
print("%d requests, the slowest took %.3f s" % (asked, max(flow.longest for flow in flows)))
assert not faults, "%d of %d: %s" % (len(faults), asked, faults[:20])
assert asked > 500, asked
written = open(sys.argv[4]).read()
lost = [session for flow in flows for session in flow.sessions if '"%s"' % session not in written]
assert not lost, "acknowledged and not written: %s" % lost[:20]
assert sum(len(flow.sessions) for flow in flows) > 100
