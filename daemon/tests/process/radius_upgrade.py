"""Upgrades under load: eight sockets ask without a pause, each request once, and none may be lost or answered wrongly.

    PORT CONTROL TURNS
"""
import json, sys, threading, time
from radius_peer import *

SECRET, USERS = b"a secret of the tests", 10_000
TO, control, turns = ("127.0.0.1", int(sys.argv[1])), sys.argv[2], int(sys.argv[3])


class Flow(threading.Thread):
    def __init__(self, number):
        super().__init__()
        self.number, self.over, self.asked, self.faults, self.longest = number, False, 0, [], 0.0

    def run(self):
        s = udp("127.7.0.%d" % (self.number + 1))
        while not self.over:
            n = self.asked * 8 + self.number
            user, right = n % USERS + 1, n % 3 != 0
            packet = pap(self.asked & 255, SECRET, b"user%d" % user, b"password-%d" % user if right else b"no")
            start = time.monotonic()
            answer = ask(s, TO, packet, 5.0)
            self.longest, self.asked = max(self.longest, time.monotonic() - start), self.asked + 1
            try:
                assert answer, "no answer"
                assert checked(answer, packet, SECRET) == (ACCEPT if right else REJECT, [])
            except AssertionError as error:
                self.faults.append((user, right, str(error)))


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
