"""Addresses, workers, late directories and the daemon's end, as a client meets them.

    addresses PORT PORT     a listener on [::] and one on 0.0.0.0
    many PORT COUNT         so many requests of one port, all answered
    late PORT PORT          two listeners; the directory of the first is a second late
    limited PORT RATE BURST a client that may ask so often
    dead PORT PID TERMS     the daemon is asked to end so often while its directory is dead; when it ended, and its CPU time
    answered PORT PID       the daemon is asked to end while its service works
"""
import select, signal, sys, threading, time
from radius_peer import *

SECRET, SIX = b"a secret of the tests", b"another one, for v6"


def addresses(six, four):
    """What was asked answers: a connected socket hears nobody else. Who comes over v4 is found by its v4 network."""
    for port, hosts in [(six, ["127.0.0.1", "127.0.0.2", "127.9.8.7", "::1"]), (four, ["127.0.0.1", "127.0.0.2"])]:
        for host in hosts:
            secret = SIX if host == "::1" else SECRET
            for s in [udp(host), udp("::1" if host == "::1" else "127.0.0.1")]:
                asked = pap(1, secret, b"u1", b"pw-u1")
                s.sendto(asked, (host, port))
                s.settimeout(3)
                answer, source = s.recvfrom(4096)
                assert source[:2] == (host, port), (source, host)
                assert checked(answer, asked, secret) == (ACCEPT, []), (host, answer)
                s.connect((host, port))
                for identifier in range(2, 20):  # both workers
                    asked = status(identifier, secret)
                    s.send(asked)
                    assert checked(heard(s, 3), asked, secret) == (ACCEPT, []), host
    # The secrets are those of the networks, and nobody else's.
    s = udp("::1")
    s.sendto(status(1, SECRET), ("::1", six))
    silent(s, 0.3)


def many(port, count):
    """From one port, some in flight at a time."""
    s, to, waiting, sent = udp(), ("127.0.0.1", port), {}, 0
    while sent < count or waiting:
        while sent < count and len(waiting) < 32:
            identifier = sent & 255
            waiting[identifier] = status(identifier, SECRET)
            s.sendto(waiting[identifier], to)
            sent += 1
        answer = heard(s, 5)
        assert answer, "%d of %d are not answered" % (len(waiting), count)
        assert checked(answer, waiting.pop(answer[1]), SECRET) == (ACCEPT, [])


def late(first, second):
    slow, s = udp(), udp()
    asked = {n: pap(n, SECRET, b"user%d" % n, b"password-%d" % n if n % 2 else b"no") for n in range(1, 13)}
    # Once before, so that connections are open.
    warm = pap(200, SECRET, b"user200", b"password-200")
    assert checked(ask(s, ("127.0.0.1", second), warm), warm, SECRET) == (ACCEPT, [])
    begun = time.monotonic()
    for packet in asked.values():
        slow.sendto(packet, ("127.0.0.1", first))
    times, n = [], 0
    while time.monotonic() - begun < 1.8:
        n += 1
        for port, packet in [(first, status(n & 255, SECRET)), (second, status(n & 255, SECRET)),
                             (second, pap(n & 255, SECRET, b"user%d" % n, b"password-%d" % n))]:
            other = udp()
            start = time.monotonic()
            answer = ask(other, ("127.0.0.1", port), packet)
            times.append(time.monotonic() - start)
            assert answer and checked(answer, packet, SECRET) == (ACCEPT, []), (port, n)
            other.close()
        time.sleep(0.003)
    assert nothing_yet(slow) is None, "the directory is not late at all"
    times.sort()
    print("%d answered meanwhile: median %.1f ms, 99 %% within %.1f ms, all within %.1f ms"
          % (len(times), *(1000 * times[int((len(times) - 1) * part)] for part in (0.5, 0.99, 1))))
    assert len(times) > 150 and times[int(len(times) * 0.95)] < 0.020, times[-20:]
    while asked:
        answer = heard(slow, 10)
        assert answer, "late answers come, too: %r" % list(asked)
        n = answer[1]
        assert checked(answer, asked.pop(n), SECRET) == (ACCEPT if n % 2 else REJECT, []), n
    assert time.monotonic() - begun > 2, "a search and a bind, each a second late"


def limited(port, rate, burst):
    """A client gets its rate and its burst, and what it has too much of costs nobody else anything."""
    to, s, other = ("127.0.0.1", port), udp("127.0.0.5"), udp("127.0.0.6")
    for turn in range(2):
        start = time.monotonic()
        for identifier in range(200):
            s.sendto(status(identifier, SECRET), to)
        asked = status(turn, SECRET)
        assert checked(ask(other, to, asked), asked, SECRET) == (RECORDED, []), "the other client, answered as this port answers"
        time.sleep(0.2)
        answers, over = drained(s), time.monotonic() - start
        assert burst <= len(answers) <= burst + rate * over + 1, (turn, len(answers), over)
        # Once its bucket is full again it is as before.
        time.sleep(burst / rate + 0.5)
        drained(s)


def ticks(pid):
    """Its CPU time in seconds; none once it has ended."""
    try:
        fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end(pid, terms=1, meanwhile=lambda: None):
    """How long it takes to end, and how much CPU time that costs."""
    start, before = time.monotonic(), ticks(pid)
    last = before
    for _ in range(terms):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
    while (now := ticks(pid)) is not None:
        last = now
        meanwhile()
        time.sleep(0.01)
        assert time.monotonic() - start < 60, "it does not end"
    return time.monotonic() - start, last - before


def dead(port, pid, terms):
    sockets, to = [udp() for _ in range(4)], ("127.0.0.1", port)
    for n, s in enumerate(sockets):
        for identifier in range(50):
            s.sendto(pap(identifier, SECRET, b"user%d" % (n * 50 + identifier), b"password"), to)
    time.sleep(0.3)
    seconds, cpu = end(pid, terms)
    print("%.3f %.3f" % (seconds, cpu))
    for s in sockets:
        silent(s)


def answered(port, pid):
    """Requests that are being answered are; new ones are not taken any more."""
    s, late, to = udp(), udp(), ("127.0.0.1", port)
    asked = {n: pap(n, SECRET, b"u%d@%d" % (n, 500 + n * 20), b"pw-u%d" % n if n % 2 else b"no") for n in range(1, 17)}
    for packet in asked.values():
        s.sendto(packet, to)
    time.sleep(0.3)
    sent = []

    def meanwhile():
        if not sent:
            sent.append(late.sendto(pap(99, SECRET, b"u1", b"pw-u1"), to))

    seconds, cpu = end(pid, 1, meanwhile)
    for answer in drained(s):
        n = answer[1]
        assert checked(answer, asked.pop(n), SECRET) == (ACCEPT if n % 2 else REJECT, []), n
    assert not asked, "not answered: %r" % list(asked)
    silent(late)
    print("%.3f %.3f" % (seconds, cpu))


{"addresses": addresses, "many": many, "late": late, "limited": limited, "dead": dead, "answered": answered}[sys.argv[1]](*map(int, sys.argv[2:]))
