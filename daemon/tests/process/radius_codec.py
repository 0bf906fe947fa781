"""What pyrad and scapy make of RADIUS: `make` prints packets in hex, `check REQUEST REPLY` says what they read in ours."""

import io
import logging
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)
from pyrad.dictionary import Dictionary
from pyrad.packet import AcctPacket, AuthPacket, CoAPacket, Packet
from scapy.layers.radius import Radius, RadiusAttr_Message_Authenticator

SECRET = b"testing123"
DICTIONARY = """
ATTRIBUTE User-Name 1 string
ATTRIBUTE User-Password 2 octets encrypt=1
ATTRIBUTE NAS-IP-Address 4 ipaddr
ATTRIBUTE Service-Type 6 integer
ATTRIBUTE Reply-Message 18 string
ATTRIBUTE Session-Timeout 27 integer
ATTRIBUTE Acct-Status-Type 40 integer
ATTRIBUTE Tunnel-Password 69 octets has_tag,encrypt=2
ATTRIBUTE Framed-IPv6-Prefix 97 ipv6prefix
VALUE Service-Type Framed-User 2
VALUE Acct-Status-Type Start 1
VENDOR Cisco 9
BEGIN-VENDOR Cisco
ATTRIBUTE Cisco-AVPair 1 string
END-VENDOR Cisco
"""


def dictionary():
    return Dictionary(io.StringIO(DICTIONARY))


def make():
    packet = AuthPacket(id=7, secret=SECRET, authenticator=bytes(range(16)), dict=dictionary())
    packet["User-Name"] = "bob"
    packet["User-Password"] = packet.PwCrypt("a password of more than sixteen octets")
    packet["NAS-IP-Address"] = "192.0.2.1"
    packet["Service-Type"] = "Framed-User"
    packet["Cisco-AVPair"] = "a=b"
    packet["Framed-IPv6-Prefix"] = "2001:db8::/32"
    print(packet.RequestPacket().hex())
    packet = AcctPacket(id=8, secret=SECRET, dict=dictionary())
    packet["User-Name"] = "bob"
    packet["Acct-Status-Type"] = "Start"
    print(packet.RequestPacket().hex())
    packet = CoAPacket(id=9, secret=SECRET, dict=dictionary())
    packet["User-Name"] = "bob"
    print(packet.RequestPacket().hex())


def check(request, reply):
    request, reply = bytes.fromhex(request), bytes.fromhex(reply)
    asked = AuthPacket(secret=SECRET, dict=dictionary(), packet=request)
    print("user", asked["User-Name"][0])
    print("password", asked.PwDecrypt(asked["User-Password"][0]))
    answer = Packet(secret=SECRET, dict=dictionary(), packet=reply)
    print("reply", asked.VerifyReply(answer, reply))
    print("message", answer["Reply-Message"][0], "timeout", answer["Session-Timeout"][0])
    print("pair", answer["Cisco-AVPair"][0], "prefix", answer["Framed-IPv6-Prefix"][0])
    seen = Radius(reply)
    print("scapy", seen.code, seen.id, seen.len, [attribute.type for attribute in seen.attributes])
    code = RadiusAttr_Message_Authenticator.compute_message_authenticator(Radius(reply), request[4:20], SECRET)
    print("scapy message", code == seen.attributes[0].value)
    print("scapy reply", seen.compute_authenticator(request[4:20], SECRET) == seen.authenticator)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make()
    else:
        check(*sys.argv[2:])
