"""Datagrams that no client sends: each from an address of its own, so that the daemon's log says of each what it was taken for.

    clients           prints the clients file
    ask PORT LOG      the cases of the RFCs' edges
    noise PORT        right packets with wrong bits, and what scapy makes up
    peers PORT PID    requests from 12,000 ports
"""
import logging, random, re, sys, time
from radius_peer import *

SECRET = b"a secret of the tests"
SIGNED = (MESSAGE_AUTHENTICATOR, SIGN)


def good(identifier=1, before=(SIGNED,), behind=()):
    return pap(identifier, SECRET, b"u1", b"pw-u1", before, behind)


def raw(octets, signed=False, code=ACCESS, authenticator=b"r" * 16):
    """A packet of these octets behind a right Message-Authenticator, or behind none."""
    octets = (attribute(MESSAGE_AUTHENTICATOR, b"\0" * 16) if signed else b"") + octets
    return sealed(code, 1, authenticator, SECRET, octets, [0] if signed else [])


def with_length(packet, length):
    return packet[:2] + struct.pack(">H", length) + packet[4:]


def own(authenticator=b"r" * 16, password=b"pw-u1", cut=None, number=16):
    """A name and a hidden password, which is right where it is not cut."""
    hidden = hide(password + b"\0" * (number - len(password)), SECRET, authenticator)
    return attribute(NAME, b"u1") + attribute(PASSWORD, hidden[:cut])


def filled(octets, code=ACCESS):
    """A right packet that is so long, by attributes that mean nothing here."""
    rest = octets - 20 - 18 - len(own())
    fill = b""
    while rest > 0:
        part = min(255, rest) if rest - min(255, rest) not in (1,) else 200
        fill, rest = fill + attribute(25, b"." * (part - 2)), rest - part
    packet = raw(own() + fill, signed=True, code=code)
    assert len(packet) == octets, len(packet)
    return packet


def nested(depth, innermost=b"\1\3x"):
    inner = innermost
    for _ in range(depth):
        inner = bytes([1, len(inner) + 2]) + inner
    return attribute(241, b"\1" + inner)


def cases():
    """What is sent, and what must come of it: an answer's code, or the reason for none."""
    many = [(PROXY_STATE, b"%03d" % n + b"." * 27) for n in range(120)]
    yield "nothing", b"", "malformed"
    yield "one octet", b"\1", "malformed"
    yield "an octet less than a header", good()[:19], "malformed"
    yield "a header that says more than there is", good()[:-1], "malformed"
    yield "a header that says 19", with_length(good(), 19), "malformed"
    yield "a header that says 0", with_length(good(), 0), "malformed"
    yield "a header that says 65,535", with_length(good(), 65535), "malformed"
    yield "a header and nothing else", with_length(good()[:20], 20), REJECT
    yield "padding behind the packet", good() + b"\0" * 100, ACCEPT
    yield "padding that looks like an attribute", good() + attribute(NAME, b"u2"), ACCEPT
    yield "4,096 octets", filled(4096), ACCEPT
    yield "4,096 octets and one", filled(4096) + b"\0", ACCEPT
    yield "4,097 octets", with_length(filled(4096) + b"\0", 4097), "malformed"
    yield "65,507 octets", with_length(filled(4096) + b"\0" * (65507 - 4096), 65507), "malformed"
    yield "an attribute of length 0", raw(own() + b"\x19\0" + b"abc", signed=True), "malformed"
    yield "an attribute of length 1", raw(own() + b"\x19\1" + b"abc", signed=True), "malformed"
    yield "an attribute of length 2", raw(own() + b"\x19\2", signed=True), ACCEPT
    yield "a name of length 2", raw(b"\1\2" + own()[4:], signed=True), REJECT
    yield "an attribute beyond the packet", raw(own() + b"\x19\xffabc", signed=True), "malformed"
    yield "half an attribute's header", raw(own() + b"\x19", signed=True), "malformed"
    yield "a vendor's attribute that lies", raw(own() + attribute(26, b"\0\0\0\x09\1\xc8x"), signed=True), ACCEPT
    yield "a vendor's attribute of length 0", raw(own() + attribute(26, b"\0\0\0\x09\1\0\1\0"), signed=True), ACCEPT
    yield "a vendor's attribute without a vendor", raw(own() + attribute(26, b"\0\0"), signed=True), ACCEPT
    yield "TLVs of depth 120", raw(own() + nested(120), signed=True), ACCEPT
    yield "TLVs that lie at depth 60", raw(own() + nested(60, b"\1\xff\1\0"), signed=True), ACCEPT
    yield "extended attributes without end", raw(own() + attribute(245, b"\1\x80" + b"." * 200) * 12, signed=True), ACCEPT
    yield "a state of nothing", good(behind=[(PROXY_STATE, b"")] * 3), ACCEPT
    yield "120 Proxy-States", good(behind=many), ACCEPT
    full = attribute(PROXY_STATE, b"." * 253) * 15 + attribute(PROXY_STATE, b"." * 249)
    yield "Proxy-States that leave no room for an answer", raw(full), None
    for code in [0, 3, 6, 10, ACCEPT, REJECT, CHALLENGE, RECORDED, 13, 40, 41, 43, 44, 52, 254, 255]:
        yield "code %d" % code, raw(own(), signed=True, code=code), "unexpected_code"
    yield "no password", raw(attribute(NAME, b"u1"), signed=True), REJECT
    yield "no name", raw(own()[4:], signed=True), REJECT
    yield "a password of 0 octets", raw(attribute(NAME, b"u1") + attribute(PASSWORD, b""), signed=True), REJECT
    yield "a password of 15 octets", raw(own(cut=15), signed=True), REJECT
    yield "a password of 17 octets", raw(own(number=32, cut=17), signed=True), REJECT
    yield "a password of 128 octets", raw(own(number=128), signed=True), ACCEPT
    yield "a password of 144 octets", raw(own(number=144), signed=True), REJECT
    yield "a password with a zero in it", raw(own(password=b"pw-u1\0x"), signed=True), REJECT
    yield "an empty password", raw(own(password=b""), signed=True), REJECT
    yield "EAP without Message-Authenticator", raw(own() + attribute(EAP, b"\2\1\0\5\1")), "eap_unprotected"
    yield "EAP of length 2 without Message-Authenticator", raw(own() + attribute(EAP, b"")), "eap_unprotected"
    yield "accounting with another secret", request(ACCOUNTING, 1, b"another", [(40, b"\0\0\0\1")]), "wrong_authenticator"
    yield "accounting without its authenticator", raw(b"", code=ACCOUNTING)[:4] + b"r" * 16, "wrong_authenticator"
    yield "Status-Server without Message-Authenticator", raw(b"", code=STATUS), "no_message_authenticator"
    yield "Status-Server with another secret", status(1, b"another"), "wrong_message_authenticator"
    yield "an answer of ours", answer_to(good()), "unexpected_code"


def answer_to(asked):
    bare = bytes([ACCEPT]) + asked[1:2] + b"\0\x14"
    return bare + hashlib.md5(bare + asked[4:20] + SECRET).digest()


def clients():
    """Each case has a client of its own, which may send everything unprotected: what is dropped is dropped for its form."""
    addresses = ["127.5.%d.%d" % (n >> 8, n & 255) for n, _ in enumerate(cases())]
    for n, address in enumerate([*addresses, "127.5.255.1", "127.6.0.0/16"]):
        print('client c%d {\n\tipaddr = %s\n\tsecret = "%s"\n\trequire_message_authenticator = %s\n\tlimit_proxy_state = no\n}'
              % (n, address, SECRET.decode(), "yes" if address.startswith("127.6") else "no"))


def main(port, log):
    to, faults, wanted = ("127.0.0.1", port), [], {}
    judge, fence = udp("127.5.255.1"), 0
    for n, (what, packet, want) in enumerate(cases()):
        address = "127.5.%d.%d" % (n >> 8, n & 255)
        s = udp(address)
        s.sendto(packet, to)
        answer = heard(s, 3.0) if isinstance(want, int) else None
        if isinstance(want, int):
            try:
                got = answer and checked(answer, packet[:struct.unpack(">H", packet[2:4])[0]], SECRET)
                assert got and got[0] == want and got[1] == [], got
            except AssertionError as error:
                faults.append((what, "wanted", want, "got", str(error)))
        # A good request right after is answered, whichever worker had the bad one.
        for _ in range(2):
            fence = (fence + 1) & 255
            asked = good(fence)
            answer = ask(judge, to, asked, 3.0)
            if not answer or checked(answer, asked, SECRET) != (ACCEPT, []):
                faults.append((what, "and then nothing was answered right", answer))
        if drained(s):
            faults.append((what, "an answer too many"))
        if want is None:
            time.sleep(0.2)
            faults += [(what, "is answered", answer) for answer in drained(s)]
        if isinstance(want, str):
            wanted[address] = (what, want)
    said = dict(re.findall(r'from=([0-9.]+):\d+ .*reason="?(\w+)', open(log).read()))
    for address, (what, want) in wanted.items():
        if said.pop(address, None) != want:
            faults.append((what, "wanted", want, "the log says", said.get(address)))
    print(len(wanted), "were dropped for the right reason")
    assert not faults, "\n".join(map(str, faults))


def noise(port):
    """Whatever is changed in a signed packet makes it one that is not answered; and nothing made up is, of a client that must
    sign."""
    logging.getLogger("scapy").setLevel(logging.ERROR)
    scapy = needed("scapy.layers.radius", "python3-scapy")
    to, s, seed = ("127.0.0.1", port), udp("127.6.250.1"), random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    for n in range(20_000):
        right = good(n & 255)
        packet = bytearray(right)
        for _ in range(dice.randrange(1, 4)):
            packet[dice.randrange(len(packet))] ^= dice.randrange(1, 256)
        cut = dice.choice([len(packet)] * 3 + [dice.randrange(len(packet))])
        if bytes(packet[:cut]) != right:
            s.sendto(bytes(packet[:cut]), to)
        if n % 20 == 0:
            parts = [scapy.RadiusAttribute(type=dice.randrange(256), len=dice.choice([None, dice.randrange(256)]),
                                     value=dice.randbytes(dice.randrange(120))) for _ in range(dice.randrange(5))]
            made = scapy.Radius(code=dice.choice([ACCESS, dice.randrange(256)]), id=n & 255, authenticator=dice.randbytes(16),
                          len=dice.choice([None, dice.randrange(65536)]), attributes=parts)
            s.sendto(bytes(made), to)
        if n % 500 == 0:
            time.sleep(0.02)
    time.sleep(0.5)
    answers = drained(s)
    assert not answers, [answer.hex() for answer in answers]
    asked = good()
    assert checked(ask(s, to, asked), asked, SECRET) == (ACCEPT, [])


def memory(pid):
    lines = open("/proc/%d/status" % pid).read().split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def peers(port, pid):
    to, before = ("127.0.0.1", port), memory(pid)
    for n in range(12_000):
        s = udp("127.6.%d.%d" % (n >> 8, n & 255), buffer=1 << 14)
        asked = status(n & 255, SECRET)
        answer = ask(s, to, asked)
        assert answer and checked(answer, asked, SECRET) == (ACCEPT, []), n
        s.close()
    more = memory(pid) - before
    print("%d KiB more" % more)
    # Of each worker's table 8 MiB at most (duplicates_bytes_max), and the sockets' own batches.
    assert more < 2 * 8 * 1024 + 4096, more


if sys.argv[1] == "clients":
    clients()
elif sys.argv[1] == "ask":
    main(int(sys.argv[2]), sys.argv[3])
else:
    {"noise": noise, "peers": peers}[sys.argv[1]](*map(int, sys.argv[2:]))
