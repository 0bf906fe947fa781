"""Rules of a listener, as those who ask meet them.

    rules PORT          users of a list
    groups PORT PORT    groups of a directory, by the groups that the user is in, and by those that these are in, too
"""
import sys
from radius_peer import *

SECRET = b"a secret of the tests"
WLAN, VPN = udp("127.9.0.1"), udp("127.9.0.2")
WIRED, PARTNER = (61, struct.pack(">I", 15)), (30, b"00-11-22-33-44-55:partner")
REPLY_MESSAGE, FRAMED_ADDRESS, SESSION_TIMEOUT, FILTER = 18, 8, 27, 11
count = 0


def vlan(number):
    """RFC 3580, without a tag."""
    return [(64, struct.pack(">I", 13)), (65, struct.pack(">I", 6)), (81, b"%d" % number)]


def asked(s, to, name, password, *more):
    global count
    count += 1
    packet = pap(count & 255, SECRET, name, password, [(MESSAGE_AUTHENTICATOR, SIGN)], [*more, (PROXY_STATE, b"way back")])
    answer = ask(s, to, packet)
    code, attributes = checked(answer, packet, SECRET)
    return code, sorted(attributes)


def expect(got, code, *attributes):
    assert got == (code, sorted(attributes)), (got, attributes)


def rules(to):
    address = (FRAMED_ADDRESS, bytes([192, 0, 2, 7]))
    else_ = [*vlan(99), (SESSION_TIMEOUT, struct.pack(">I", 3600)), (26, b"\0\0\0\x09\1\5a=b")]
    # Of staff, by wire: both rules, and what the back end gave.
    expect(asked(WLAN, to, b"alice", b"alice-pw", WIRED), ACCEPT, address, *vlan(30), (SESSION_TIMEOUT, struct.pack(">I", 60)))
    # Not by wire: the last rule takes the place of the first, and takes the address away.
    expect(asked(WLAN, to, b"alice", b"alice-pw"), ACCEPT, *else_)
    expect(asked(WLAN, to, b"dan", b"dan-pw"), ACCEPT, *else_)
    expect(asked(WLAN, to, b"dan", b"dan-pw", WIRED), ACCEPT, (SESSION_TIMEOUT, struct.pack(">I", 60)))
    # Who was in a group is told so once the password is right, and learns nothing before.
    expect(asked(WLAN, to, b"bob", b"bob-pw"), REJECT, (REPLY_MESSAGE, b"This account has been closed."))
    expect(asked(WLAN, to, b"bob", b"wrong"), REJECT)
    # Guests, not over VPN: by name and the client's tag, whatever the password.
    for password in (b"carol-pw", b"wrong"):
        for name in (b"carol@guest.example.com", b"CAROL@GUEST.example.com"):
            expect(asked(VPN, to, name, password), REJECT, (REPLY_MESSAGE, b"Guests not over VPN."))
    expect(asked(WLAN, to, b"carol@guest.example.com", b"carol-pw"), ACCEPT, *else_)
    expect(asked(WLAN, to, b"carol@guest.example.com", b"wrong"), REJECT)
    expect(asked(VPN, to, b"dan", b"dan-pw"), ACCEPT, *else_)
    # Partners are in a list of their own, which is asked where the rule says so and nowhere else.
    expect(asked(WLAN, to, b"pat", b"pat-pw", PARTNER), ACCEPT, *else_)
    expect(asked(WLAN, to, b"pat", b"pat-pw"), REJECT)
    expect(asked(WLAN, to, b"alice", b"alice-pw", PARTNER), REJECT)
    expect(asked(WLAN, to, b"pat", b"wrong", PARTNER), REJECT)


def groups(direct, nested):
    for to, name, filter_ in [(direct, b"alice", b"inner"), (direct, b"bob", b"builders"), (direct, b"low", b"none"),
                              (nested, b"alice", b"inner"), (nested, b"bob", b"inner"), (nested, b"low", b"none")]:
        expect(asked(WLAN, to, name, name + b"-pw"), ACCEPT, (FILTER, filter_))
        expect(asked(WLAN, to, name, b"wrong"), REJECT)


{"rules": rules, "groups": groups}[sys.argv[1]](*(("127.0.0.1", int(port)) for port in sys.argv[2:]))
