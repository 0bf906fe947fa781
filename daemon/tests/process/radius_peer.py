"""RADIUS as a client speaks it, with nothing but hashlib and hmac: what the tests compare the daemon with.

A packet is built of pairs (number, octets). A Message-Authenticator is SIGN where it shall be right, and octets where it
shall not; a password is hidden by `hide`. `checked` says what an answer is, or why it is none.
"""
import hashlib, hmac, importlib, os, socket, struct, time

ACCESS, ACCEPT, REJECT, ACCOUNTING, RECORDED, CHALLENGE, STATUS = 1, 2, 3, 4, 5, 11, 12
NAME, PASSWORD, PROXY_STATE, EAP, MESSAGE_AUTHENTICATOR = 1, 2, 33, 79, 80
SIGN = object()


def needed(module, package):
    """Imports it, or says what is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise SystemExit("these tests need %s: apt-get install %s" % (module, package))


def attribute(number, value):
    assert len(value) <= 253, len(value)
    return bytes([number, len(value) + 2]) + value


def hide(password, secret, authenticator):
    """RFC 2865 section 5.2."""
    padded = password + b"\0" * (-len(password) % 16 if password else 16)
    hidden, before = b"", authenticator
    for at in range(0, len(padded), 16):
        before = bytes(a ^ b for a, b in zip(padded[at:at + 16], hashlib.md5(secret + before).digest()))
        hidden += before
    return hidden


def sealed(code, identifier, authenticator, secret, raw, signs=()):
    """A request with these attributes' octets; `signs`: where Message-Authenticators begin whose value is to be right."""
    head = struct.pack(">BBH", code, identifier, 20 + len(raw))
    signed = code in (ACCOUNTING, 40, 43)
    place = b"\0" * 16 if signed else authenticator
    mac = hmac.new(secret, head + place + raw, "md5").digest()
    for at in signs:
        raw = raw[:at + 2] + mac + raw[at + 18:]
    if signed:
        authenticator = hashlib.md5(head + b"\0" * 16 + raw + secret).digest()
    return head + authenticator + raw


def request(code, identifier, secret, attributes, authenticator=None):
    raw, signs = b"", []
    for number, value in attributes:
        if value is SIGN:
            signs.append(len(raw))
            value = b"\0" * 16
        raw += attribute(number, value)
    return sealed(code, identifier, authenticator or os.urandom(16), secret, raw, signs)


def pap(identifier, secret, name, password, before=(), behind=(), authenticator=None):
    authenticator = authenticator or os.urandom(16)
    own = [(NAME, name), (PASSWORD, hide(password, secret, authenticator))]
    return request(ACCESS, identifier, secret, [*before, *own, *behind], authenticator)


def status(identifier, secret):
    return request(STATUS, identifier, secret, [(MESSAGE_AUTHENTICATOR, SIGN)])


def attributes(packet):
    rest, found = packet[20:], []
    while rest:
        assert len(rest) >= 2 and 2 <= rest[1] <= len(rest), rest
        found.append((rest[0], rest[2:rest[1]]))
        rest = rest[rest[1]:]
    return found


def checked(answer, asked, secret):
    """The code and the attributes of an answer to `asked`; an AssertionError where it is none (RFC 2865 section 3,
    RFC 3579 section 3.2) or where its protection is not as it must be since BlastRADIUS."""
    assert 20 <= len(answer) <= 4096 and struct.unpack(">H", answer[2:4])[0] == len(answer), "its length"
    assert answer[1] == asked[1], "its identifier"
    bare = answer[:4] + asked[4:20] + answer[20:]
    assert hashlib.md5(bare + secret).digest() == answer[4:20], "its Response Authenticator"
    found = attributes(answer)
    signs = [at for at, (number, _) in enumerate(found) if number == MESSAGE_AUTHENTICATOR]
    if asked[0] == ACCOUNTING:
        assert signs == [], "an Accounting-Response has no Message-Authenticator"
    else:
        assert signs == [0], "the Message-Authenticator is first, and there is one: %r" % found
        # What counts for it has the request's Authenticator, and zeroes for its value.
        mac = hmac.new(secret, bare[:22] + b"\0" * 16 + bare[38:], "md5").digest()
        assert mac == found[0][1], "its Message-Authenticator"
        found = found[1:]
    states = [pair for pair in attributes(asked) if pair[0] == PROXY_STATE]
    count = len(found) - len(states)
    assert [pair for pair in found if pair[0] == PROXY_STATE] == states, "Proxy-States, in their order"
    assert found[count:] == states, "Proxy-States are behind what we add"
    return answer[0], found[:count]


def udp(address="127.0.0.1", port=0, buffer=4 << 20):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.bind((address, port))
    return s


def ask(s, to, packet, limit=3.0):
    """The answer to one packet, or None."""
    s.sendto(packet, to)
    return heard(s, limit, packet[1])


def heard(s, limit, identifier=None):
    end = time.monotonic() + limit
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            answer = s.recv(65536)
        except TimeoutError:
            return None
        if identifier is None or answer[1:2] == bytes([identifier]):
            return answer
    return None


def silent(s, limit=0.0):
    """Nothing lies in the socket, and nothing comes for so long."""
    answer = heard(s, limit) if limit else nothing_yet(s)
    assert answer is None, answer


def nothing_yet(s):
    s.setblocking(False)
    try:
        return s.recv(65536)
    except BlockingIOError:
        return None


def drained(s):
    """All that lies in the socket."""
    found = []
    while (answer := nothing_yet(s)) is not None:
        found.append(answer)
    return found
