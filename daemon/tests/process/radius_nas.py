"""An access server and a RADIUS server in one, made of pyrad, for the clients that usherd has.

Prints its port, then an object for each request that it sees. What it answers depends on the User-Name. Message-Authenticators
are computed here, because this pyrad has none.
"""

import hashlib
import hmac
import io
import json
import socket
import struct
import sys
import time

from pyrad import packet as codes
from pyrad.dictionary import Dictionary
from pyrad.packet import AcctPacket, AuthPacket, CoAPacket

DICTIONARY = """
ATTRIBUTE User-Name 1 string
ATTRIBUTE User-Password 2 octets
ATTRIBUTE CHAP-Password 3 octets
ATTRIBUTE Filter-Id 11 string
ATTRIBUTE Reply-Message 18 string
ATTRIBUTE Session-Timeout 27 integer
ATTRIBUTE NAS-Identifier 32 string
ATTRIBUTE Acct-Status-Type 40 integer
ATTRIBUTE Acct-Session-Id 44 string
ATTRIBUTE Event-Timestamp 55 date
ATTRIBUTE CHAP-Challenge 60 octets
ATTRIBUTE Message-Authenticator 80 octets
ATTRIBUTE Error-Cause 101 integer
"""
STATUS_SERVER, DISCONNECT_REQUEST, COA_REQUEST = 12, 40, 43
# Which code says yes, and which says no.
ANSWERS = {1: (2, 3), 4: (5, None), 12: (2, None), 40: (41, 42), 43: (44, 45)}
PASSWORD = "p\u00e4ssword of more than sixteen"
SECRET = sys.argv[1].encode()
KNOWN = Dictionary(io.StringIO(DICTIONARY))


def parse(data):
    kind = {4: AcctPacket, DISCONNECT_REQUEST: CoAPacket, COA_REQUEST: CoAPacket}.get(data[0], AuthPacket)
    return kind(secret=SECRET, dict=KNOWN, packet=data)


def message_authenticator(data, authenticator):
    """What it must be, if it stands first."""
    zeroed = data[:4] + authenticator + data[20:22] + bytes(16) + data[38:]
    return hmac.new(SECRET, zeroed, hashlib.md5).digest()


def is_protected(data):
    signed = data[0] in (DISCONNECT_REQUEST, COA_REQUEST)
    return data[20:22] == b"\x50\x12" and data[22:38] == message_authenticator(data, bytes(16) if signed else data[4:20])


def is_right(request, data):
    """The Request Authenticator, or for those who have a random one the Message-Authenticator."""
    if data[0] == 4:
        return request.VerifyAcctRequest()
    return is_protected(data) and (data[0] in (1, STATUS_SERVER) or request.VerifyCoARequest())


def knows(request):
    if "User-Password" in request:
        return request.PwDecrypt(request["User-Password"][0]) == PASSWORD
    if "CHAP-Password" not in request:
        return False
    # What pyrad has for it does not run on Python 3.
    shown = request["CHAP-Password"][0]
    return shown[1:] == hashlib.md5(shown[:1] + PASSWORD.encode() + request["CHAP-Challenge"][0]).digest()


def reply(request, code, attributes, secret=SECRET):
    answer = request.CreateReply()
    answer.code = code
    for name, value in attributes.items():
        answer[name] = value
    body = answer._PktEncodeAttributes()
    if code != codes.AccountingResponse:
        head = struct.pack("!BBH", code, request.id, 38 + len(body))
        body = b"\x50\x12" + message_authenticator(head + bytes(16) + b"\x50\x12" + bytes(16) + body, request.authenticator) + body
    head = struct.pack("!BBH", code, request.id, 20 + len(body))
    return head + hashlib.md5(head + request.authenticator + body + secret).digest() + body


def seen(request, data):
    told = {name: request[name][0] for name in request.keys() if isinstance(name, str)}
    told = {name: value for name, value in told.items() if isinstance(value, (str, int)) and not name.startswith("CHAP")}
    stamp = told.pop("Event-Timestamp", None)
    told.update(code=data[0], right=is_right(request, data), protected=is_protected(data), octets=data.hex())
    told["recent"] = stamp is not None and abs(int(stamp) - time.time()) < 60
    return told


def answers(request, data, times):
    """The datagrams that go back."""
    user = request["User-Name"][0] if "User-Name" in request else ""
    yes, no = ANSWERS[data[0]]
    if user == "careless":
        return [reply(request, yes, {}, b"another secret")]
    if user == "silent" or not is_right(request, data) or (user == "second" and times == 1):
        return []
    if user == "late":
        time.sleep(0.15)
    if user == "gone":
        return [reply(request, no, {"Error-Cause": 503, "Reply-Message": "never heard of"})]
    if user == "forged":
        other = request.CreateReply()
        other.id = (request.id + 1) % 256
        return [
            b"x",
            reply(request, yes, {}, b"another secret"),
            reply(other, yes, {}),
            reply(request, 11, {}) if yes != 2 else reply(request, 5, {}),
            reply(request, no, {}),
        ]
    if user == "more":
        return [reply(request, codes.AccessChallenge, {"Reply-Message": "a token, please"})]
    if data[0] == 1 and not knows(request):
        return [reply(request, no, {"Reply-Message": "no"})]
    return [reply(request, yes, {} if data[0] == 4 else {"Reply-Message": "h\u00e9llo"})]


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    times = {}
    while True:
        data, peer = sock.recvfrom(4096)
        request = parse(data)
        times[data] = times.get(data, 0) + 1
        print(json.dumps(seen(request, data)), flush=True)
        for answer in answers(request, data, times[data]):
            sock.sendto(answer, peer)


main()
