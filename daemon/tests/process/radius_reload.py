"""Reloads under load: eight sockets ask without a pause, and no request may be lost or answered wrongly, while clients come
and go, a secret changes, and the directory is asked with another filter.

    PORT FOLDER     FOLDER is the daemon's: usherd.toml, clients.conf, control
"""
import json, pathlib, sys, threading, time
from radius_peer import *

SECRET, OTHER = b"a secret of the tests", b"the secret that comes after"
USERS = 10_000
port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
TO = ("127.0.0.1", port)
NARROW, WIDE = "(uid={User-Name})", "(|(uid={User-Name})(mail={User-Name}))"


def client(name, address, secret=SECRET):
    return 'client %s {\n\tipaddr = %s\n\tsecret = "%s"\n}\n' % (name, address, secret.decode())


def clients(odd):
    """The clients of odd and of even reloads: `flow` and `learnt` stay, but in other places of the file."""
    always = client("learnt", "127.8.0.4") + client("names", "127.8.0.5") + client("again", "127.8.0.6") + client("flow", "127.7.0.0/16")
    if odd:
        return client("fresh", "127.8.0.1") + client("changed", "127.8.0.3", OTHER) + always
    return client("leaving", "127.8.0.2") + always + client("changed", "127.8.0.3")


def reload(odd):
    (folder / "clients.conf").write_text(clients(odd))
    file = folder / "usherd.toml"
    text = file.read_text().replace(WIDE, NARROW)
    file.write_text(text.replace(NARROW, WIDE) if odd else text)
    answer = told_to_reload()
    assert answer["ok"], answer


def told_to_reload():
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(folder / "control"))
    s.sendall(b'{"command":"reload"}\n')
    return json.loads(s.makefile().readline())


class Flow(threading.Thread):
    """Requests of one socket, one at a time and never twice: a lost one is seen."""

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


def verdict(address, secret=SECRET, name=b"user1", signed=True, limit=3.0):
    """What a request from this address is answered, if it is."""
    s = udp(address)
    packet = pap(5, secret, name, b"password-1", [(MESSAGE_AUTHENTICATOR, SIGN)] if signed else [])
    answer = ask(s, TO, packet, limit)
    s.close()
    return answer and checked(answer, packet, secret)[0]


def until(wanted, *what, **more):
    """The workers hear of a reload one after the other."""
    end = time.monotonic() + 5
    while (got := verdict(*what, limit=0.3, **more)) != wanted:
        assert time.monotonic() < end, (what, more, got)


def check(odd):
    until(ACCEPT, "127.8.0.1" if odd else "127.8.0.2")
    until(None, "127.8.0.2" if odd else "127.8.0.1")
    until(ACCEPT, "127.8.0.3", OTHER if odd else SECRET)
    until(ACCEPT if odd else REJECT, "127.8.0.5", name=b"user1@example.com")
    # Now both have heard, and it stays so.
    for _ in range(4):
        assert verdict("127.8.0.1" if odd else "127.8.0.2") == ACCEPT
        assert verdict("127.8.0.3", OTHER if odd else SECRET) == ACCEPT
        assert verdict("127.8.0.5", name=b"user1@example.com") == (ACCEPT if odd else REJECT)
    assert verdict("127.8.0.2" if odd else "127.8.0.1", limit=0.2) is None
    assert verdict("127.8.0.3", SECRET if odd else OTHER, limit=0.2) is None
    # What it has shown it has shown: a request without Message-Authenticator is not taken any more.
    assert verdict("127.8.0.4", signed=False, limit=0.2) is None
    assert verdict("127.8.0.4") == ACCEPT


reload(False)
until(ACCEPT, "127.8.0.2")
assert verdict("127.8.0.4", signed=False) == ACCEPT
assert verdict("127.8.0.4", signed=True) == ACCEPT
before = udp("127.8.0.6")
kept = pap(77, SECRET, b"user1", b"password-1")
first = ask(before, TO, kept)
assert first
flows = [Flow(number) for number in range(8)]
[flow.start() for flow in flows]
time.sleep(0.5)
for turn in range(1, 9):
    reload(turn % 2 == 1)
    if turn == 1:
        assert ask(before, TO, kept) == first, "a repeated request gets its answer, also after a reload"
    check(turn % 2 == 1)
# A file that is wrong changes nothing.
(folder / "clients.conf").write_text("client broken {\n\tipaddr = 127.8.0.9\n")
try:
    answer = told_to_reload()
    assert not answer["ok"] and "clients.conf" in json.dumps(answer), answer
finally:
    for flow in flows:
        flow.over = True
    [flow.join() for flow in flows]
assert verdict("127.8.0.2") == ACCEPT
faults = [fault for flow in flows for fault in flow.faults]
asked = sum(flow.asked for flow in flows)
print("%d requests, the slowest took %.3f s" % (asked, max(flow.longest for flow in flows)))
assert not faults, "%d of %d: %s" % (len(faults), asked, faults[:20])
assert asked > 500, asked
