"""Accounting as a NAS sends it: nothing is acknowledged before it is written, and what was acknowledged is there, once.

    lines PORT FILE        JSON lines
    detail PORT FILE       FreeRADIUS's detail format
    killed PORT FILE PID   the daemon is killed while records come; what was acknowledged is in the file
    down PORT CALLS        the service refuses; CALLS is where it writes what it takes
    after CALLS COUNT      so many records come to it once it takes them
"""
import collections, datetime, json, pathlib, select, signal, sys, threading, time
from radius_peer import *

SECRET = b"a secret of the tests"
START, STOP, INTERIM = 1, 2, 3


def record(identifier, session, kind, more=()):
    own = [(NAME, b"bob"), (4, bytes([192, 0, 2, 1])), (40, struct.pack(">I", kind)), (44, session)]
    return request(ACCOUNTING, identifier, SECRET, [*own, *more])


def acknowledged(s, to, packet, limit=5.0):
    answer = ask(s, to, packet, limit)
    if answer is None:
        return False
    assert checked(answer, packet, SECRET) == (RECORDED, [])
    return True


def parsed(path):
    text = pathlib.Path(path).read_text() if pathlib.Path(path).exists() else ""
    return [json.loads(line) for line in text.split("\n") if line]


def lines(port, path):
    to, s = ("127.0.0.1", port), udp()
    begun = time.time()
    more = [(42, struct.pack(">I", 5)), (52, struct.pack(">I", 2)), (43, struct.pack(">I", 7)), (41, struct.pack(">I", 60)),
            (26, b"\0\0\0\x09\1\5a=b"), (26, b"\0\0\0\x09\1\5c=d"), (25, b"\0\xff\x10"), (64, b"\1\0\0\x0d"), (PROXY_STATE, b"p")]
    assert acknowledged(s, to, record(1, b"8f2c", STOP, more))
    [found] = parsed(path)  # It is there when the answer is.
    for key, want in [("client", "here"), ("status", "Stop"), ("session", "8f2c"), ("user", "bob"), ("nas", "192.0.2.1"),
                      ("input_octets", (2 << 32) + 5), ("output_octets", 7), ("source", "127.0.0.1:%d" % s.getsockname()[1])]:
        assert found[key] == want, (key, found)
    moments = [datetime.datetime.fromisoformat(found[key].replace("Z", "+00:00")).timestamp() for key in ("time", "event_time")]
    assert begun - 0.1 <= moments[0] <= time.time() + 0.1, found
    assert abs(moments[0] - moments[1] - 60) < 0.001, "Acct-Delay-Time"
    names = found["attributes"]
    for key, want in [("User-Name", "bob"), ("Acct-Input-Octets", 5), ("Cisco-AVPair", ["a=b", "c=d"]), ("Class", "0x00ff10"),
                      ("Tunnel-Type:1", "VLAN"), ("Acct-Status-Type", "Stop")]:
        assert names[key] == want, (key, names)
    again(to, path)
    unacknowledged(to, path)


def again(to, path):
    """400 records of 100 sessions from four sockets, each sent three times: one line each, in each session's order, and each is
    there when its acknowledgement is."""
    sockets = [udp() for _ in range(4)]
    for turn, kind in enumerate([START, INTERIM, INTERIM, STOP]):
        waiting = {}
        for n in range(100):
            packet = record(n, b"session-%d" % n, kind, [(46, struct.pack(">I", turn))])
            waiting[n % 4, n] = packet
            for _ in range(3):
                sockets[n % 4].sendto(packet, to)
        end = time.monotonic() + 10
        while waiting and time.monotonic() < end:
            for s in select.select(sockets, [], [], 0.5)[0]:
                for answer in drained(s):
                    packet = waiting.pop((sockets.index(s), answer[1]), None)
                    assert packet is None or checked(answer, packet, SECRET) == (RECORDED, [])
        assert not waiting, "%d are not acknowledged" % len(waiting)
        found = [line for line in parsed(path) if line["session"].startswith("session-")]
        assert len(found) == 100 * (turn + 1), (turn, len(found))
        time.sleep(0.1)
        [drained(s) for s in sockets]
    order = collections.defaultdict(list)
    for line in found:
        order[line["session"]].append(line["attributes"]["Acct-Session-Time"])
    assert len(order) == 100 and all(times == [0, 1, 2, 3] for times in order.values())
    assert len({line["session_key"] for line in found}) == 100 and len({line["record_key"] for line in found}) == 400


def unacknowledged(to, path):
    """What is not protected by the secret is not written."""
    before = len(parsed(path))
    wrong = request(ACCOUNTING, 9, b"another", [(40, struct.pack(">I", START)), (44, b"forged")])
    assert ask(udp(), to, wrong, 0.5) is None and len(parsed(path)) == before
    # The same record from another port, with another delay, is the same record by its key.
    for delay in (0, 9):
        assert acknowledged(udp(), to, record(1, b"delayed", START, [(41, struct.pack(">I", delay))]))
    assert len({line["record_key"] for line in parsed(path) if line["session"] == "delayed"}) == 1


def detail(port, path):
    to, now = ("127.0.0.1", port), time.time()
    assert acknowledged(udp(), to, record(1, b"8f2c", START, [(64, b"\1\0\0\x0d"), (26, b"\0\0\0\x09\1\5a=b")]))
    found = pathlib.Path(path).read_text().split("\n")
    datetime.datetime.strptime(found[0], "%a %b %d %H:%M:%S %Y")
    assert found[-2:] == ["", ""] and all(line.startswith("\t") for line in found[1:-2]), found
    for want in ['User-Name = "bob"', "NAS-IP-Address = 192.0.2.1", "Acct-Status-Type = Start", 'Acct-Session-Id = "8f2c"',
                 "Tunnel-Type:1 = VLAN", 'Cisco-AVPair = "a=b"']:
        assert "\t" + want in found, (want, found)
    stamp = next(int(line.split(" = ")[1]) for line in found if line.startswith("\tTimestamp"))
    assert abs(stamp - now) < 3, (stamp, now)


class Nas(threading.Thread):
    """Records one after the other; a record that is not acknowledged is not sent again."""

    def __init__(self, port, number, count):
        super().__init__()
        self.port, self.number, self.count, self.done = port, number, count, []

    def run(self):
        s = udp()
        for n in range(self.count):
            session = b"nas%d-%d" % (self.number, n)
            if not acknowledged(s, ("127.0.0.1", self.port), record(n & 255, session, START), 0.5):
                return
            self.done.append(session.decode())


def killed(port, path, pid):
    nases = [Nas(port, number, 100_000) for number in range(8)]
    [nas.start() for nas in nases]
    time.sleep(1.0)
    os.kill(pid, signal.SIGKILL)
    [nas.join() for nas in nases]
    done = {session for nas in nases for session in nas.done}
    text = pathlib.Path(path).read_text()
    whole = text[:text.rfind("\n") + 1]
    found = collections.Counter(json.loads(line)["session"] for line in whole.split("\n") if line)
    print("%d acknowledged, %d written" % (len(done), len(found)))
    assert len(done) > 100, len(done)
    assert not done - set(found), "acknowledged and not written: %r" % list(done - set(found))[:10]
    assert max(found.values()) == 1


def down(port, path):
    """Records are kept, and acknowledged for that."""
    to, s = ("127.0.0.1", port), udp()
    for n in range(100):
        assert acknowledged(s, to, record(n, b"kept-%d" % (n // 2), START if n % 2 == 0 else STOP)), n
    assert parsed(path) == [], "the service refuses"


def after(path, count):
    end = time.monotonic() + 60
    while len({line["record_key"] for line in parsed(path)}) < int(count) and time.monotonic() < end:
        time.sleep(0.1)
    order = collections.defaultdict(list)
    for line in parsed(path):
        if line["status"] not in order[line["session"]]:
            order[line["session"]].append(line["status"])
    assert len(order) == int(count) // 2, len(order)
    assert all(found == ["Start", "Stop"] for found in order.values()), "in each session's order"


scene, rest = sys.argv[1], sys.argv[2:]
{"lines": lambda port, path: lines(int(port), path), "detail": lambda port, path: detail(int(port), path),
 "killed": lambda port, path, pid: killed(int(port), path, int(pid)), "down": lambda port, path: down(int(port), path),
 "after": after}[scene](*rest)
