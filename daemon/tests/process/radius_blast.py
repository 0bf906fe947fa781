"""BlastRADIUS (CVE-2024-3596): every kind of request from clients with every setting, each cell a client of its own.

    clients          prints the clients file
    ask PORT LOG     asks, and compares with what docs/radius-clients.md says; LOG is where the daemon says why it drops
"""
import collections, itertools, re, select, sys, time
from radius_peer import *

SECRET = b"a secret of the tests"
SIGNS = ["absent", "first", "last", "wrong", "twice", "short", "long"]
CELLS = list(itertools.product([ACCESS, ACCOUNTING, STATUS], SIGNS, [0, 1, 3], ["yes", "no", "auto"],
                               ["yes", "no", "auto"], [False, True]))


def address(cell):
    return "127.3.%d.%d" % (cell >> 8, cell & 255)


def expected(code, sign, states, require, limit, shown):
    """What the documentation says, in its own order: the answer, or the reason why there is none."""
    if sign in ("twice", "short", "long"):
        return "malformed"  # RFC 3579 sections 3.2 and 3.3: 16 octets, once
    if sign == "wrong":
        return "wrong_message_authenticator"  # whatever the settings
    if sign in ("first", "last"):
        return {ACCOUNTING: RECORDED}.get(code, ACCEPT)
    if code == ACCOUNTING:
        return RECORDED  # its Authenticator is signed, the settings are about Access-Request
    if code == STATUS:
        return "no_message_authenticator"  # RFC 5997 section 3: always
    if require == "yes" or (require == "auto" and shown):
        return "no_message_authenticator"
    if states and (limit == "yes" or (limit == "auto" and shown)):
        return "proxy_state_unprotected"
    return ACCEPT


def packet(cell, code, sign, states):
    good = (MESSAGE_AUTHENTICATOR, SIGN)
    before = {"first": [good], "twice": [good], "wrong": [(MESSAGE_AUTHENTICATOR, os.urandom(16))],
              "short": [(MESSAGE_AUTHENTICATOR, b"\0" * 15)], "long": [(MESSAGE_AUTHENTICATOR, b"\0" * 17)]}.get(sign, [])
    behind = [(PROXY_STATE, b"%d of cell %d" % (n, cell)) for n in range(states)]
    behind += [good] if sign in ("last", "twice") else []
    identifier = cell & 255
    if code == ACCESS:
        return pap(identifier, SECRET, b"u1", b"pw-u1" if cell % 3 else b"wrong", before, behind)
    own = [(40, b"\0\0\0\1"), (44, b"session %d" % cell)] if code == ACCOUNTING else []
    return request(code, identifier, SECRET, [*before, *own, *behind])


def clients():
    for cell, (_, _, _, require, limit, _) in enumerate(CELLS):
        print('client c%d {\n\tipaddr = %s\n\tsecret = "%s"\n\trequire_message_authenticator = %s\n\tlimit_proxy_state = %s\n}'
              % (cell, address(cell), SECRET.decode(), require, limit))
    print('client old {\n\tipaddr = 127.4.0.1\n\tsecret = "%s"\n\trequire_message_authenticator = no\n'
          '\tlimit_proxy_state = auto\n}' % SECRET.decode())


def teach(sockets, to):
    """Those that are to have shown a valid Message-Authenticator show one."""
    for cell, s in enumerate(sockets):
        if CELLS[cell][5]:
            asked = pap(200, SECRET, b"u1", b"pw-u1", [(MESSAGE_AUTHENTICATOR, SIGN)])
            answer = ask(s, to, asked)
            assert answer and checked(answer, asked, SECRET)[0] == ACCEPT, "cell %d shows that it can" % cell


def first_request_decides(to):
    """limit_proxy_state = auto: a client whose first request had an unprotected Proxy-State may go on, until it shows a
    valid Message-Authenticator."""
    s = udp("127.4.0.1")
    state, good = [(PROXY_STATE, b"x")], [(MESSAGE_AUTHENTICATOR, SIGN)]
    for identifier, (before, answered) in enumerate([(state, True), ([], True), (state, True), (good, True), (state, False)]):
        asked = pap(identifier, SECRET, b"u1", b"pw-u1", before)
        answer = ask(s, to, asked, 3.0 if answered else 0.5)
        assert bool(answer) == answered, (identifier, answer)
        assert not answer or checked(answer, asked, SECRET)[0] == ACCEPT


def main(port, log):
    to = ("127.0.0.1", port)
    first_request_decides(to)
    sockets = [udp(address(cell), buffer=1 << 16) for cell in range(len(CELLS))]
    teach(sockets, to)
    packets = [packet(cell, *CELLS[cell][:3]) for cell in range(len(CELLS))]
    wanted = [expected(*cell) for cell in CELLS]
    for cell, asked in enumerate(packets):
        sockets[cell].sendto(asked, to)
        if cell % 100 == 0:
            time.sleep(0.05)  # not a test of buffers
    waiting = {sockets[cell]: cell for cell, want in enumerate(wanted) if isinstance(want, int)}
    end, faults = time.monotonic() + 10, []
    while waiting and time.monotonic() < end:
        for s in select.select(list(waiting)[:500], [], [], 1.0)[0]:
            cell = waiting.pop(s)
            want = wanted[cell]
            if want == ACCEPT and CELLS[cell][0] == ACCESS and cell % 3 == 0:
                want = REJECT  # its password is wrong
            try:
                got, more = checked(s.recv(65536), packets[cell], SECRET)
                assert (got, more) == (want, []), (got, more)
            except AssertionError as error:
                faults.append((cell, CELLS[cell], want, str(error)))
    time.sleep(1.0)
    faults += [(cell, CELLS[cell], "no answer") for cell in waiting.values()]
    faults += [(cell, CELLS[cell], "one answer too many") for cell, s in enumerate(sockets) if drained(s)]
    said = dict(re.findall(r'client="?c(\d+)"? .*reason="?(\w+)', open(log).read()))
    for cell, want in enumerate(wanted):
        got = said.get(str(cell))
        if got != (want if isinstance(want, str) else None):
            faults.append((cell, CELLS[cell], want, "the log says", got))
    assert not faults, "%d of %d cells:\n%s" % (len(faults), len(CELLS), "\n".join(map(str, faults[:20])))
    kinds = collections.Counter(wanted)
    assert min(kinds.values()) >= 8 and len(kinds) == 6, kinds
    print(kinds)


clients() if sys.argv[1] == "clients" else main(int(sys.argv[2]), sys.argv[3])
