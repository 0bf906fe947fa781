"""1,000 requests, each sent five times: lost, shuffled among others, their identifiers taken by the next ones before and after
their answers, from several ports.

    many PORT CALLS      CALLS is where the service writes whom it was asked about
    cancel PORT CALLS    one identifier, two requests
    storm PORT CALLS PID one request, ten thousand times
"""
import collections, heapq, itertools, random, selectors, sys, time
from radius_peer import *

SECRET = b"a secret of the tests"
PORTS, IDENTIFIERS, TURNS, COPIES = 10, 25, 4, 5
ORDER = itertools.count()


class Slot:
    """One identifier of one port, and the requests that have it one after the other."""

    def __init__(self, s, identifier):
        self.s, self.identifier, self.requests, self.over = s, identifier, [], 0


class Request:
    def __init__(self, number, identifier, slow):
        # A slow one is not answered before its identifier is taken; the last of a slot is never slow.
        self.slow, self.number, self.answers, self.late = slow, number, [], 0
        self.name = b"u%d@%d" % (number, 30_000 if slow else number % 4 * 10)
        self.right = number % 3 != 0
        self.packet = pap(identifier, SECRET, self.name, b"pw-u%d" % number if self.right else b"no")


def calls(path):
    return collections.Counter(open(path, "rb").read().split())


def plan(dice):
    slots, number = [], 0
    for s in [udp() for _ in range(PORTS)]:
        for identifier in range(IDENTIFIERS):
            slot = Slot(s, identifier * 10)
            for turn in range(TURNS):
                slot.requests.append(Request(number, slot.identifier, turn < TURNS - 1 and dice.random() < 0.15))
                number += 1
            slots.append(slot)
    return slots


def schedule(slot, now, dice, agenda):
    """The copies of the slot's next request: a fifth of them is lost, but not all."""
    asked = slot.requests[slot.over]
    asked.left = [now + (0 if n == 0 else dice.random() * 0.15) for n in range(COPIES) if n == 0 or dice.random() > 0.2]
    for at in asked.left:
        heapq.heappush(agenda, (at, next(ORDER), slot, asked))
    asked.left = len(asked.left)


def next_turn(slot, dice, agenda):
    """The next request takes the identifier once all copies of this one are sent, and it is answered or never will be."""
    asked = slot.requests[slot.over]
    if asked.left == 0 and (asked.slow or asked.answers) and slot.over < TURNS - 1:
        slot.over += 1
        schedule(slot, time.monotonic(), dice, agenda)


def hear(slots_of, s, faults, dice, agenda):
    for answer in drained(s):
        slot = slots_of[s, answer[1]]
        for turn, asked in enumerate(slot.requests[:slot.over + 1]):
            try:
                verdict = checked(answer, asked.packet, SECRET)
            except AssertionError:
                continue
            if asked.slow or verdict != (ACCEPT if asked.right else REJECT, []):
                faults.append((asked.name, "answered", verdict))
            if any(later.answers for later in slot.requests[turn + 1:]):
                faults.append((asked.name, "answered after the one that took its identifier"))
            asked.answers.append(answer)
            break
        else:
            faults.append((s.getsockname(), "an answer to nothing that was asked", answer.hex()))
        next_turn(slot, dice, agenda)


def many(port, path):
    to, seed = ("127.0.0.1", port), random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    slots, agenda, faults = plan(dice), [], []
    slots_of = {(slot.s, slot.identifier): slot for slot in slots}
    selector = selectors.DefaultSelector()
    for s in {slot.s for slot in slots}:
        selector.register(s, selectors.EVENT_READ)
    for slot in slots:
        schedule(slot, time.monotonic() + dice.random() * 1.0, dice, agenda)
    sent, end = 0, time.monotonic() + 60
    while (agenda or any(not slot.requests[-1].answers for slot in slots)) and time.monotonic() < end:
        while agenda and agenda[0][0] <= time.monotonic():
            _, _, slot, asked = heapq.heappop(agenda)
            slot.s.sendto(asked.packet, to)
            sent, asked.left = sent + 1, asked.left - 1
            next_turn(slot, dice, agenda)
        wait = min(0.05, max(0, agenda[0][0] - time.monotonic())) if agenda else 0.05
        for key, _ in selector.select(wait):
            hear(slots_of, key.fileobj, faults, dice, agenda)
    time.sleep(0.3)
    for s in {slot.s for slot in slots}:
        hear(slots_of, s, faults, dice, agenda)
    again(slots, to, faults)
    judge(slots, calls(path), sent, faults)


def again(slots, to, faults):
    """Those who ask once more get the same octets."""
    for slot in slots:
        last = slot.requests[-1]
        answer = ask(slot.s, to, last.packet)
        if answer not in last.answers:
            faults.append((last.name, "asked once more", answer))


def judge(slots, asked_about, sent, faults):
    requests = [one for slot in slots for one in slot.requests]
    for one in requests:
        count = asked_about.pop(one.name, 0)
        # A slow one may have waited for a helper when it was cancelled.
        if count > 1 or (count == 0 and not one.slow):
            faults.append((one.name, "was asked about %d times" % count))
        if len(set(one.answers)) != (0 if one.slow else 1):
            faults.append((one.name, "%d answers, %d different" % (len(one.answers), len(set(one.answers)))))
    answers = sum(len(one.answers) for one in requests)
    slow = sum(one.slow for one in requests)
    print("%d datagrams, %d answers to %d requests, %d cancelled" % (sent, answers, len(requests), slow))
    assert not asked_about, asked_about
    assert not faults, "%d: %s" % (len(faults), faults[:20])
    assert len(requests) == 1000 and sent > 3500 and slow > 50 and answers - (len(requests) - slow) > 300


def cancel(port, path):
    """The old request is not answered any more once another one has its identifier, and the service hears that."""
    to, s = ("127.0.0.1", port), udp()
    old, new = pap(7, SECRET, b"u1@1000", b"pw-u1"), pap(7, SECRET, b"u2", b"pw-u2")
    for _ in range(3):
        s.sendto(old, to)
    time.sleep(0.3)
    answer = ask(s, to, new)
    assert answer and checked(answer, new, SECRET)[0] == ACCEPT
    silent(s, 1.5)
    assert calls(path) == {b"u1@1000": 1, b"u2": 1}, calls(path)
    # Asked once more, the old one is a new request.
    answer = ask(s, to, old)
    assert answer and checked(answer, old, SECRET)[0] == ACCEPT
    # The same identifier and authenticator from another port, or with one octet more, is another request.
    for packet, other in [(old, udp()), (pap(9, SECRET, b"u3", b"pw-u3", authenticator=b"a" * 16), s)]:
        answer = ask(other, to, packet)
        assert answer and checked(answer, packet, SECRET)[0] == ACCEPT
    same = pap(9, SECRET, b"u4", b"no", authenticator=b"a" * 16)
    answer = ask(s, to, same)
    assert answer and checked(answer, same, SECRET)[0] == REJECT


def memory(pid):
    lines = open("/proc/%d/status" % pid).read().split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def storm(port, path, pid):
    to, s = ("127.0.0.1", port), udp(buffer=32 << 20)
    before = memory(pid)
    waits = pap(1, SECRET, b"u1@1500", b"pw-u1")
    for _ in range(10_000):
        s.sendto(waits, to)
    assert nothing_yet(s) is None, "answered too early: this machine is too slow for this test"
    answer = heard(s, 5.0)
    assert answer and checked(answer, waits, SECRET)[0] == ACCEPT
    silent(s, 0.5)
    got = 0
    for n in range(10_000):
        s.sendto(waits, to)
        if n % 50 == 49:
            got += same(drained(s), answer)
    good = pap(2, SECRET, b"u2", b"pw-u2")
    start = time.monotonic()
    s.sendto(good, to)
    while (last := heard(s, 3.0)) is not None and last[1] == 1:
        got += same([last], answer)
    assert last and checked(last, good, SECRET)[0] == ACCEPT, "a good request right after is answered"
    print("%d of 10,000 answered again; the good one after %.3f s; %d KiB more" % (got, time.monotonic() - start, memory(pid) - before))
    assert got > 1000, got
    assert calls(path) == {b"u1@1500": 1, b"u2": 1}, calls(path)
    assert memory(pid) - before < 8 << 10, (before, memory(pid))


def same(answers, first):
    assert all(answer == first for answer in answers), "an answer is repeated octet by octet"
    return len(answers)


{"many": many, "cancel": cancel, "storm": storm}[sys.argv[1]](int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
