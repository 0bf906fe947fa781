"""Every method that shows a password, right and wrong, against every kind of back end: the verdict, what MS-CHAP proves, and the keys.

    users                    prints a users file, a user for each form in which a password is stored
    listed PORT              that file
    bound PORT, fetched PORT a directory, asked by a bind or for what it stores
    changed PORT             that directory, and new passwords; unchangeable PORT: the file
    told PORT                a service that answers with the status in the user's name
    served PORT FILE         a service that is asked in JSON, and writes into FILE what it is asked
    winbind PORT             Windows accounts; gone PORT: when nobody is there to judge them
    pyrad PORT               pyrad as the client
    devices PORT             devices that are let in by their address
"""
import base64, ctypes, json, re, subprocess, sys
from radius_peer import *
from radius_mschap import *

SECRET = b"a secret of the tests"
RIGHT, WRONG, WIDE = "Open-Sesame-42", "Open-Sesame-43", "Sésam-öffne-dich-€-\U0001f511"
REPLY_MESSAGE, SIGNED = 18, (MESSAGE_AUTHENTICATOR, SIGN)
S = udp()
count, patience = 0, 5.0


def vsa(number, value):
    return 26, struct.pack(">IBB", 311, number, len(value) + 2) + value


class Answer:
    def __init__(self, to, more, authenticator=None, secret=SECRET):
        global count
        count += 1
        self.asked = request(ACCESS, count & 255, secret, [SIGNED, *more], authenticator)
        answer = ask(S, to, self.asked, patience)
        self.code, self.attributes = checked(answer, self.asked, secret) if answer else (None, [])

    def vendor(self, number):
        found = [value[6:] for kind, value in self.attributes if kind == 26 and value[:5] == struct.pack(">IB", 311, number)]
        assert len(found) <= 1, "attribute %d of Microsoft's is there %d times" % (number, len(found))
        return found[0] if found else None


def pap_(to, name, password, more=()):
    authenticator = os.urandom(16)
    return Answer(to, [(NAME, name), (PASSWORD, hide(password.encode(), SECRET, authenticator)), *more], authenticator)


def chap(to, name, password, more=(), own=True):
    """With a CHAP-Challenge, or with the Authenticator as the challenge (RFC 2865 section 2.2)."""
    asked, ident = os.urandom(16), os.urandom(1)
    shown = ident + hashlib.md5(ident + password.encode() + asked).digest()
    return Answer(to, [(NAME, name), (3, shown), *([(60, asked)] if own else []), *more], None if own else asked)


def chap_(to, name, password, more=()):
    first, second = chap(to, name, password, more), chap(to, name, password, more, own=False)
    assert first.code == second.code, "CHAP with and without CHAP-Challenge"
    return second


def ms_chap(to, name, password, more=()):
    asked, ident = os.urandom(8), os.urandom(1)
    shown = response(asked, nt_hash(password))
    answer = Answer(to, [(NAME, name), vsa(11, asked), vsa(1, ident + b"\1" + b"\0" * 24 + shown), *more])
    if answer.code == ACCEPT:
        keys = unhidden(answer.vendor(12), SECRET, answer.asked[4:20])
        assert keys[8:] == md4(nt_hash(password)) + b"\0" * 8, "the key of 128 bits (RFC 2548 section 2.4.1)"
        assert keys[:8] in (lm_hash(password)[:8] if password.isascii() else b"\0" * 8, b"\0" * 8), "the key of 40 bits, where the password is known"
        assert answer.vendor(7) and answer.vendor(8), "the policy of encryption"
    return failed(answer, ident, 8)


def ms_chap2(to, name, password, more=()):
    asked, peer, ident = os.urandom(16), os.urandom(16), os.urandom(1)
    challenge = challenge_hash(peer, asked, name.rsplit(b"\\", 1)[-1])
    shown = response(challenge, nt_hash(password))
    answer = Answer(to, [(NAME, name), vsa(11, asked), vsa(25, ident + b"\0" + peer + b"\0" * 8 + shown), *more])
    if answer.code == ACCEPT:
        said = answer.vendor(26)
        assert said[:1] == ident and said[1:43] == proof(password, shown, challenge), "the server's proof"
        keys = [unsalted(answer.vendor(number), SECRET, answer.asked[4:20]) for number in (16, 17)]
        assert keys == list(server_keys(password, shown)), "the keys (RFC 3079 section 3.3)"
        assert answer.vendor(16)[:2] != answer.vendor(17)[:2], "salts differ within a packet"
        assert answer.vendor(7) and answer.vendor(8), "the policy of encryption"
    return failed(answer, ident, 16)


def failed(answer, ident, octets):
    """An MS-CHAP-Error in a reject, and only there (RFC 2548 section 2.1.5)."""
    answer.error = None
    said = answer.vendor(2)
    if answer.code == REJECT:
        assert said and said[:1] == ident, "the error is about what was asked"
        match = re.fullmatch(rb"E=(\d+) R=([01]) C=([0-9A-F]{%d}) V=[23](?: M=.*)?" % (2 * octets), said[1:])
        assert match, said
        answer.error, answer.again = int(match[1]), match[2] == b"1"
    else:
        assert said is None and answer.code in (None, ACCEPT), (answer.code, said)
    for number in (12, 16, 17, 26):
        assert answer.code == ACCEPT or answer.vendor(number) is None, "keys for nobody"
    return answer


def change(to, name, old, new, version=2, right=True):
    """A new password, under the hash of the old one (RFC 2759 section 7, RFC 2433 section 9, RFC 2548 section 2.1)."""
    asked, peer, ident = os.urandom(8 * version), os.urandom(16), os.urandom(1)
    challenge = challenge_hash(peer, asked, name.rsplit(b"\\", 1)[-1]) if version == 2 else asked
    shown = response(challenge, nt_hash(new if right else new + "x"))
    proves, blob = encrypted_hash(new, old), encrypted_password(new, old)
    if version == 2:
        value = vsa(27, b"\7" + ident + proves + peer + b"\0" * 8 + shown + b"\0\0")
    else:
        value = vsa(4, b"\6" + ident + proves + b"\0" * 40 + shown + b"\0\1")
    pieces = [vsa(6, b"\6" + ident + struct.pack(">H", n + 1) + blob[243 * n:243 * n + 243]) for n in range(3)]
    answer = Answer(to, [(NAME, name), vsa(11, asked), value, *pieces])
    if answer.code == ACCEPT and version == 2:
        said = answer.vendor(26)
        assert said[:1] == ident and said[1:43] == proof(new, shown, challenge), "the server's proof, by the new password"
        assert unsalted(answer.vendor(16), SECRET, answer.asked[4:20]) == server_keys(new, shown)[0]
    return failed(answer, ident, 8 * version)


METHODS = {"PAP": pap_, "CHAP": chap_, "MS-CHAP": ms_chap, "MS-CHAPv2": ms_chap2}
ALL = tuple(METHODS)


def judges(to, name, password, methods, wrong=WRONG, code=ACCEPT):
    """The back end can judge these methods: the right password is accepted, another one rejected; the others it cannot,
    and nobody is let in."""
    for method, by in METHODS.items():
        for shown in (password, wrong, password + "x", password.swapcase(), ""):
            got = by(to, name, shown).code
            want = code if method in methods and shown == password else REJECT
            assert got == want, "%s of %r with %r: %r, not %r" % (method, name, shown, got, want)


def seasoned(scheme, digest, salt=b"salt of it"):
    return "{%s}%s" % (scheme, base64.b64encode(digest(RIGHT.encode() + salt).digest() + salt).decode())


def stored():
    """Each form that docs/radius-users.md names: how it is written, and what it can judge."""
    pbkdf2 = lambda name, rounds: "{PBKDF2-%s}%d$%s$%s" % (name.upper(), rounds, *(
        base64.b64encode(octets).decode().rstrip("=").replace("+", ".")
        for octets in (b"sixteen octets!!", hashlib.pbkdf2_hmac(name, RIGHT.encode(), b"sixteen octets!!", rounds))))
    yield "clear", 'password = "%s"' % RIGHT, ALL
    yield "clear-header", 'password = "{CLEARTEXT}%s"' % RIGHT, ALL
    yield "nt-hash", 'nt_hash = "%s"' % nt_hash(RIGHT).hex(), ("PAP", "MS-CHAP", "MS-CHAPv2")
    yield "nt-header", 'password = "{NT}%s"' % nt_hash(RIGHT).hex().upper(), ("PAP", "MS-CHAP", "MS-CHAPv2")
    for scheme, digest in [("MD5", hashlib.md5), ("SHA", hashlib.sha1), ("SHA256", hashlib.sha256),
                           ("SHA384", hashlib.sha384), ("SHA512", hashlib.sha512)]:
        seeded = "SMD5" if scheme == "MD5" else "S" + scheme
        yield scheme, 'password = "%s"' % seasoned(scheme, digest, b""), ("PAP",)
        yield seeded, 'password = "%s"' % seasoned(seeded, digest), ("PAP",)
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    for name, setting in [("des", b"ab"), ("md5-crypt", b"$1$saltsalt"), ("sha256-crypt", b"$5$rounds=1000$saltsalt"),
                          ("sha512-crypt", b"$6$rounds=1000$saltsalt"), ("bcrypt", b"$2b$05$abcdefghijklmnopqrstuu"),
                          ("yescrypt", b"$y$j75$JZ0Ib1m9EMhCIkjVpF51X/")]:
        made = crypt(RIGHT.encode(), setting).decode()
        assert not made.startswith("*"), name
        yield name, 'password = "{CRYPT}%s"' % made, ("PAP",)
        if made.startswith("$"):
            yield name + "-bare", 'password = "%s"' % made, ("PAP",)
    slappasswd = ["/usr/sbin/slappasswd", "-n", "-o", "module-path=/usr/lib/ldap", "-o", "module-load=argon2", "-h", "{ARGON2}",
                  "-s", RIGHT]
    yield "argon2", 'password = "%s"' % subprocess.run(slappasswd, check=True, capture_output=True, text=True).stdout, ("PAP",)
    for name in ("sha1", "sha256", "sha512"):
        yield "pbkdf2-" + name, 'password = "%s"' % pbkdf2(name, 1000), ("PAP",)


def users():
    for name, line, _ in stored():
        print("[user.%s]\n%s\n" % (name, line))
    print('[user.wide]\npassword = "%s"\n' % WIDE)
    print('[user.disabled]\npassword = "%s"\ndisabled = true\n' % RIGHT)
    print('[user.full]\npassword = "%s"\nreply = { Framed-IP-Address = "192.0.2.7", Session-Timeout = 3600, Reply-Message = '
          '["one", "two"], "Tunnel-Type:1" = "VLAN", "Tunnel-Private-Group-Id:1" = "30", "Tunnel-Type:2" = "L2TP", '
          '"Tunnel-Password:2" = "tunnel secret", "Cisco-AVPair" = "shell:priv-lvl=15", "Class" = "0x0102" }\n' % RIGHT)
    print('[user.wired]\npassword = "%s"\ncheck = { NAS-Port-Type = "Ethernet" }\n' % RIGHT)
    print('[user.00-11-22-33-44-55]\npassword = "%s"\n' % RIGHT)


def listed(port):
    to, kinds = ("127.0.0.1", port), list(stored())
    for name, _, methods in kinds:
        # DES looks at eight octets of a password and no more.
        judges_des(to, methods) if name == "des" else judges(to, name.encode(), RIGHT, methods)
    for method, by in METHODS.items():
        assert by(to, b"disabled", RIGHT).code == REJECT and by(to, b"nobody", RIGHT).code == REJECT, method
        assert by(to, b"clear' or 1=1", RIGHT).code == REJECT and by(to, b"CLEAR", RIGHT).code == REJECT, method
        # The NAS-Port-Type that the user's entry wants.
        for port_type, code in [(15, ACCEPT), (19, REJECT), (None, REJECT)]:
            more = [(61, struct.pack(">I", port_type))] if port_type is not None else []
            assert by(to, b"wired", RIGHT, more).code == code, (method, port_type)
        replied(by(to, b"full", RIGHT), method)
    judges(to, b"wide", WIDE, ALL)
    errors(to)
    twice(to)
    # A MAC address is a name like any other where devices have no chain of their own.
    judges(to, b"00-11-22-33-44-55", RIGHT, ALL, wrong="00-11-22-33-44-55")
    print(len(kinds), "forms")


def judges_des(to, methods):
    for method, by in METHODS.items():
        for shown in (RIGHT, "Xpen-Sesame-42", ""):
            want = ACCEPT if method in methods and shown == RIGHT else REJECT
            assert by(to, b"des", shown).code == want, (method, shown)


def replied(answer, method):
    """What the entry says, in its order; then what the method adds."""
    assert answer.code == ACCEPT, method
    listed_ = [pair for pair in answer.attributes if not (pair[0] == 26 and pair[1][:4] == struct.pack(">I", 311))]
    secret = next(value for number, value in listed_ if number == 69)
    assert secret[:1] == b"\2" and unsalted(secret[1:], SECRET, answer.asked[4:20]) == b"tunnel secret", method
    want = [(8, bytes([192, 0, 2, 7])), (27, struct.pack(">I", 3600)), (REPLY_MESSAGE, b"one"), (REPLY_MESSAGE, b"two"),
            (64, b"\1\0\0\x0d"), (81, b"\x0130"), (64, b"\2\0\0\3"), (69, secret),
            (26, b"\0\0\0\x09\1\x13shell:priv-lvl=15"), (25, b"\1\2")]
    assert sorted(listed_) == sorted(want), (method, listed_)


def errors(to):
    """Nobody learns from an error whether a user is there."""
    for by in (ms_chap, ms_chap2):
        wrong, unknown = by(to, b"clear", WRONG), by(to, b"nobody", WRONG)
        assert (wrong.error, wrong.again) == (691, True), (wrong.error, wrong.again)
        assert (unknown.error, unknown.again) == (wrong.error, wrong.again), "who is not there is told as a wrong password is"


def twice(to):
    """A request has one method, once (RFC 2865 section 4.1)."""
    authenticator, ident, asked = os.urandom(16), b"\7", os.urandom(16)
    right = (PASSWORD, hide(RIGHT.encode(), SECRET, authenticator))
    by_chap = (3, ident + hashlib.md5(ident + RIGHT.encode() + authenticator).digest())
    by_ms_chap = vsa(1, ident + b"\1" + b"\0" * 24 + response(asked[:8], nt_hash(RIGHT)))
    name = (NAME, b"clear")
    assert Answer(to, [name, right], authenticator).code == ACCEPT
    for more in [[right, right], [right, by_chap], [by_chap, by_chap], [right, vsa(11, asked[:8]), by_ms_chap],
                 [by_ms_chap, vsa(11, asked[:8]), by_ms_chap], [by_ms_chap], [(3, by_chap[1][:16])], []]:
        assert Answer(to, [name, *more], authenticator).code == REJECT, more
    # Lengths that lie, and the LM response alone, which nobody should take.
    for value in [b"", b"\7", ident + b"\1" + b"\0" * 47, ident + b"\1" + b"\0" * 49,
                  ident + b"\0" + response(asked[:8], lm_hash(RIGHT)) + b"\0" * 24]:
        assert Answer(to, [name, vsa(11, asked[:8]), vsa(1, value)]).code == REJECT, value
    for octets in (0, 7, 9, 15, 17):
        assert Answer(to, [name, vsa(11, b"c" * octets), vsa(25, b"\7\0" + b"\0" * 48)]).code == REJECT, octets


def bound(port):
    to = ("127.0.0.1", port)
    judges(to, b"alice", "alice-pw", ["PAP"])
    judges(to, b"bob", "bob-pw", ["PAP"])
    for name in ("nobody", "*", "al*", "alice)(uid=bob", "alice\0", "uid=alice"):
        judges(to, name.encode(), "alice-pw", [])
    # Must change the password, has an old one, is locked: the right password is not enough.
    for name in ("fresh", "stale", "locked"):
        judges(to, name.encode(), name + "-pw", [])


def fetched(port):
    to = ("127.0.0.1", port)
    for name in ("alice", "bob"):
        judges(to, name.encode(), name + "-pw", ALL)
    judges(to, b"nobody", "alice-pw", [])
    for method, by in METHODS.items():
        found = [pair for pair in by(to, b"alice", "alice-pw").attributes if pair[0] == 11]
        assert found == [(11, b"usherd")], (method, found)
        assert not [pair for pair in by(to, b"alice", "x").attributes if pair[0] == 11], method


def changed(port):
    """Changed where the old hash is known and who asks proves to know it; anything else changes nothing."""
    to, new = ("127.0.0.1", port), "Another-456"
    for name, old, version in [(b"alice", "alice-pw", 2), (b"bob", "bob-pw", 1)]:
        for answer, error in [(change(to, name, old + "x", new, version), 691), (change(to, name, old, "x", version), 709),
                              (change(to, name, old, new, version, right=False), 691),
                              (change(to, b"nobody", old, new, version), 691)]:
            assert (answer.code, answer.error) == (REJECT, error), (name, answer.code, answer.error, error)
        assert pap_(to, name, old).code == ACCEPT, "nothing has changed"
        assert change(to, name, old, new, version).code == ACCEPT, name
        assert pap_(to, name, new).code == ACCEPT and pap_(to, name, old).code == REJECT, name
        assert change(to, name, old, "Another-789", version).code == REJECT, "the old one counts no more"


def unchangeable(port):
    for version in (1, 2):
        answer = change(("127.0.0.1", port), b"clear", RIGHT, WRONG, version)
        assert (answer.code, answer.error) == (REJECT, 709), (answer.code, answer.error)
        judges(("127.0.0.1", port), b"clear", RIGHT, ALL)


def told(port):
    """Each status of docs/identity-calls.md, by each method that the service is asked about."""
    global patience
    to = ("127.0.0.1", port)
    for status, code, error in [
            ("ok", ACCEPT, None), ("wrong-password", REJECT, 691), ("not-found", REJECT, 691), ("disabled", REJECT, 647),
            ("expired", REJECT, 647), ("password-expired", REJECT, 648), ("must-change", REJECT, 648),
            ("locked-out", REJECT, 647), ("restricted", REJECT, 646), ("denied", REJECT, 691), ("unavailable", None, None),
            ("busy", None, None), ("no-such-status", None, None)]:
        name, patience = b"say-" + status.encode(), 5.0 if code else 1.0
        for by in (pap_, ms_chap, ms_chap2):
            if status == "ok" and by is not pap_:
                continue  # It has no session key to give.
            answer = by(to, name, RIGHT)
            assert answer.code == code, (status, by.__name__, answer.code)
            assert getattr(answer, "error", None) == (error if by is not pap_ else None), (status, answer.error)
    assert chap(to, b"say-ok", RIGHT).code == REJECT, "nobody can judge CHAP there"


def served(port, path):
    """A service that is asked in JSON: what it is told, and what its answers mean."""
    global patience
    to = ("127.0.0.1", port)
    judges(to, b"bob", RIGHT, ALL)
    judges(to, b"hashed", RIGHT, ("PAP", "MS-CHAP", "MS-CHAPv2"))
    judges(to, b"salted", RIGHT, ["PAP"])
    judges(to, b"judged", RIGHT, ["PAP"])
    judges(to, b"nobody", RIGHT, [])
    more = [(5, struct.pack(">I", 7)), (61, struct.pack(">I", 15)), (64, b"\1\0\0\x0d"), (REPLY_MESSAGE, b"a"), (REPLY_MESSAGE, b"b"),
            (PROXY_STATE, b"p"), (31, b"00-11-22-33-44-55")]
    answer = pap_(to, b"bob", RIGHT, more)
    assert answer.code == ACCEPT and sorted(answer.attributes) == [
        (11, b"a"), (11, b"b"), (27, struct.pack(">I", 3600)), (81, b"\x0130")], answer.attributes
    asked = json.load(open(path))
    assert asked == {
        # The listener is called as it is written, which is port 0 in these tests.
        "do": "radius", "name": "bob", "method": "pap", "client": "here", "listener": "127.0.0.1:0",
        "attributes": {"NAS-Port": 7, "NAS-Port-Type": "Ethernet", "Tunnel-Type:1": "VLAN", "Reply-Message": ["a", "b"],
                       "Calling-Station-Id": "00-11-22-33-44-55", "User-Name": "bob", "User-Password": RIGHT}}, asked
    answer = pap_(to, b"denied", RIGHT)
    assert (answer.code, answer.attributes) == (REJECT, [(REPLY_MESSAGE, b"Not you.")]), answer.attributes
    patience = 1.0
    for name in (b"unknown-attribute", b"unfit-value", b"unavailable", b"crash", b"babble"):
        assert pap_(to, name, RIGHT).code is None, "%r is no verdict" % name


def gone(port):
    """Whom nobody can judge gets no answer: neither yes nor no."""
    global patience
    patience = 1.0
    for by in (pap_, ms_chap, ms_chap2):
        for password in ("Secret-123", "wrong"):
            assert by(("127.0.0.1", port), b"BOX\\alice", password).code is None, (by.__name__, password)
    for version in (1, 2):
        assert change(("127.0.0.1", port), b"BOX\\alice", "Secret-123", "Another-456", version).code is None, "a change"


def winbind(port):
    to, right = ("127.0.0.1", port), "Secret-123"
    for name in (b"BOX\\alice", b"BOX\\bob"):
        judges_windows(to, name, right)
    for name, error in [(b"BOX\\nobody", 691), (b"BOX\\carol", 647), (b"BOX\\dave", 648)]:
        assert pap_(to, name, right).code == REJECT, name
        for by in (ms_chap, ms_chap2):
            answer = by(to, name, right)
            assert (answer.code, answer.error) == (REJECT, error), (name, answer.code, answer.error)
    assert [pap_(to, b"BOX\\erin", "wrong").code for _ in range(3)] == [REJECT] * 3
    assert pap_(to, b"BOX\\erin", right).code == REJECT and ms_chap2(to, b"BOX\\erin", right).error == 647, "locked out"
    changed_windows(to, right)


def changed_windows(to, old):
    """dave must change the password, frank wants to; nobody here knows either of it."""
    for name, version in [(b"BOX\\dave", 2), (b"BOX\\frank", 1)]:
        new, expired = "Nöu-\u20ac-456", name == b"BOX\\dave"
        for answer, error in [(change(to, name, old + "x", new, version), 691), (change(to, name, old, "x", version), 709),
                              (change(to, b"BOX\\nobody", old, new, version), 691)]:
            assert (answer.code, answer.error) == (REJECT, error), (name, answer.code, answer.error, error)
        before = ms_chap2(to, name, old)
        assert (before.code, before.error) == ((REJECT, 648) if expired else (ACCEPT, None)), "nothing has changed"
        assert change(to, name, old, new, version).code == ACCEPT, name
        assert pap_(to, name, new).code == ACCEPT and ms_chap2(to, name, new).code == ACCEPT, name
        assert pap_(to, name, old).code == REJECT, name
        assert change(to, name, old, "Another-789", version).error == 691, "the old one counts no more"


def judges_windows(to, name, right):
    for method, by in METHODS.items():
        for shown in (right, right.swapcase()):
            want = ACCEPT if shown == right and method != "CHAP" else REJECT
            assert by(to, name, shown).code == want, (method, name, shown)


def pyrad(port):
    import io
    Client = needed("pyrad.client", "python3-pyrad").Client
    dictionary = needed("pyrad.dictionary", "python3-pyrad").Dictionary(io.StringIO(
        "ATTRIBUTE User-Name 1 string\nATTRIBUTE User-Password 2 octets\nATTRIBUTE CHAP-Password 3 octets\n"
        "ATTRIBUTE Reply-Message 18 string\nATTRIBUTE Session-Timeout 27 integer\nATTRIBUTE CHAP-Challenge 60 octets\n"
        "ATTRIBUTE Acct-Status-Type 40 integer\nATTRIBUTE Acct-Session-Id 44 string\n"))
    client = Client(server="127.0.0.1", authport=port, acctport=port, secret=SECRET, dict=dictionary)
    client.timeout, client.retries = 5, 1
    for password, code in [(RIGHT, ACCEPT), (WRONG, REJECT)]:
        asked = client.CreateAuthPacket(code=ACCESS, User_Name="full")
        asked["User-Password"] = asked.PwCrypt(password)
        answer = client.SendPacket(asked)
        assert answer.code == code, answer.code
        if code == ACCEPT:
            assert answer["Session-Timeout"] == [3600] and answer["Reply-Message"] == ["one", "two"], answer
        ident, challenge = b"\5", os.urandom(16)
        shown = ident + hashlib.md5(ident + password.encode() + challenge).digest()
        asked = client.CreateAuthPacket(code=ACCESS, User_Name="clear", CHAP_Password=shown, CHAP_Challenge=challenge)
        assert client.SendPacket(asked).code == code
    asked = client.CreateAcctPacket(User_Name="clear", Acct_Status_Type=1, Acct_Session_Id="1")
    assert client.SendPacket(asked).code == RECORDED


def devices(port):
    to, call_check = ("127.0.0.1", port), [(6, struct.pack(">I", 10))]
    known, unknown = "00-11-22-33-44-55", "00-11-22-33-44-66"
    forms = ["00-11-22-33-44-55", "00:11:22:33:44:55", "001122334455", "0011.2233.4455", "001122-334455"]
    for name in forms:
        for shown in forms:
            for by in (pap_, chap):
                assert by(to, name.encode(), shown).code == ACCEPT, (name, shown, by.__name__)
        assert Answer(to, [(NAME, name.encode()), *call_check]).code == ACCEPT, name
        # Another password than its address: a user like any other, and there is none of this name.
        for shown in (unknown, RIGHT, "x"):
            for by in METHODS.values():
                assert by(to, name.encode(), shown).code == REJECT, (name, shown)
        for by in (ms_chap, ms_chap2):
            assert by(to, name.encode(), name).code == REJECT, "an address is shown by PAP or CHAP"
        assert Answer(to, [(NAME, name.encode())]).code == REJECT, "no password, and no Call-Check"
    assert pap_(to, unknown.encode(), unknown).code == REJECT
    assert Answer(to, [(NAME, unknown.encode()), *call_check]).code == REJECT
    # A person is not let in by name, whatever the Service-Type says.
    assert Answer(to, [(NAME, b"clear"), *call_check]).code == REJECT
    assert pap_(to, b"clear", "clear", call_check).code == REJECT
    judges(to, b"clear", RIGHT, ALL)


scene = {"users": users, "listed": listed, "bound": bound, "fetched": fetched, "changed": changed,
         "unchangeable": unchangeable, "told": told, "served": served, "winbind": winbind, "gone": gone,
         "pyrad": pyrad, "devices": devices}[sys.argv[1]]
scene(*map(int, sys.argv[2:3]), *sys.argv[3:])
