"""MS-CHAP by the RFCs, in Python and nothing else: MD4 (RFC 1320), DES (FIPS 46-3), RFC 2433, RFC 2759, RFC 3079, RFC 2548.

The vectors of the RFCs are checked when this is imported.
"""
import hashlib, os, struct


def md4(octets):
    def left(x, n):
        x &= 0xFFFFFFFF
        return (x << n | x >> (32 - n)) & 0xFFFFFFFF

    length = struct.pack("<Q", 8 * len(octets))
    octets += b"\x80" + b"\0" * ((55 - len(octets)) % 64) + length
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    rounds = [
        (lambda b, c, d: b & c | ~b & d, 0, list(range(16)), [3, 7, 11, 19]),
        (lambda b, c, d: b & c | b & d | c & d, 0x5A827999, [i % 4 * 4 + i // 4 for i in range(16)], [3, 5, 9, 13]),
        (lambda b, c, d: b ^ c ^ d, 0x6ED9EBA1, [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15], [3, 9, 11, 15]),
    ]
    for at in range(0, len(octets), 64):
        words = struct.unpack("<16I", octets[at:at + 64])
        a, b, c, d = state
        for mix, constant, order, turns in rounds:
            for step, word in enumerate(order):
                a, b, c, d = d, left(a + mix(b, c, d) + words[word] + constant, turns[step % 4]), b, c
        state = [(x + y) & 0xFFFFFFFF for x, y in zip(state, (a, b, c, d))]
    return struct.pack("<4I", *state)


IP = [58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32, 24, 16, 8,
      57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47, 39, 31, 23, 15, 7]
EXPAND = [(4 * block + bit - 1) % 32 + 1 for block in range(8) for bit in range(6)]
P = [16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25]
PC1 = [57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
       63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4]
PC2 = [14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
       41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32]
BOXES = [[int(digit, 16) for digit in box.replace(" ", "")] for box in (
    "e4d12fb83a6c5907 0f74e2d1a6cb9538 41e8d62bfc973a50 fc8249175b3ea06d",
    "f18e6b34972dc05a 3d47f28ec01a69b5 0e7ba4d158c6932f d8a13f42b67c05e9",
    "a09e63f51dc7b428 d709346a285ecbf1 d6498f30b12c5ae7 1ad069874fe3b52c",
    "7de3069a1285bc4f d8b56f03472c1ae9 a690cb7df13e5284 3f06a1d8945bc72e",
    "2c417ab6853fd0e9 eb2c47d150fa3986 421bad78f9c5630e b8c71e2d6f09a453",
    "c1af92680d34e75b af427c9561de0b38 9ef528c3704a1db6 432c95fabe17608d",
    "4b2ef08d3c975a61 d0b7491ae35c2f86 14bdc37eaf680592 6bd814a7950fe23c",
    "d2846fb1a93e50c7 1fd8a374c56b0e92 7b419ce206adf358 21e74a8dfc90356b")]


def des(key, block):
    """One block with 56 bits of key, given as seven octets."""
    bits = "".join("{:08b}".format(octet) for octet in key)
    key = "".join(bits[at:at + 7] + "0" for at in range(0, 56, 7))
    pick = lambda text, table: "".join(text[at - 1] for at in table)
    c_d = pick(key, PC1)
    c, d = c_d[:28], c_d[28:]
    text = pick("".join("{:08b}".format(octet) for octet in block), IP)
    l, r = text[:32], text[32:]
    for turn in range(16):
        by = 1 if turn in (0, 1, 8, 15) else 2
        c, d = c[by:] + c[:by], d[by:] + d[:by]
        mixed = int(pick(r, EXPAND), 2) ^ int(pick(c + d, PC2), 2)
        six = "{:048b}".format(mixed)
        out = ""
        for box in range(8):
            part = six[6 * box:6 * box + 6]
            out += "{:04b}".format(BOXES[box][int(part[0] + part[5], 2) * 16 + int(part[1:5], 2)])
        l, r = r, "{:032b}".format(int(l, 2) ^ int(pick(out, P), 2))
    back = [IP.index(at) + 1 for at in range(1, 65)]
    return int(pick(r + l, back), 2).to_bytes(8, "big")


def nt_hash(password):
    return md4(password.encode("utf-16-le"))


def lm_hash(password):
    text = password.upper().encode("ascii")[:14].ljust(14, b"\0")
    return des(text[:7], b"KGS!@#$%") + des(text[7:], b"KGS!@#$%")


def response(challenge, hash16):
    """RFC 2433 appendix A.5."""
    padded = hash16 + b"\0" * 5
    return b"".join(des(padded[at:at + 7], challenge) for at in (0, 7, 14))


def challenge_hash(peer, asked, name):
    return hashlib.sha1(peer + asked + name).digest()[:8]


def proof(password, nt_response, challenge):
    """RFC 2759 section 8.7: S= and forty digits."""
    digest = hashlib.sha1(md4(nt_hash(password)) + nt_response + b"Magic server to client signing constant").digest()
    digest = hashlib.sha1(digest + challenge + b"Pad to make it do more than one iteration").digest()
    return b"S=" + digest.hex().upper().encode()


def server_keys(password, nt_response):
    """What the server sends and receives with (RFC 3079 section 3.3)."""
    master = hashlib.sha1(md4(nt_hash(password)) + nt_response + b"This is the MPPE Master Key").digest()[:16]
    own = b"On the client side, this is the receive key; on the server side, it is the send key."
    other = b"On the client side, this is the send key; on the server side, it is the receive key."
    made = lambda magic: hashlib.sha1(master + b"\0" * 40 + magic + b"\xf2" * 40).digest()[:16]
    return made(own), made(other)


def unsalted(value, secret, authenticator):
    """A value hidden with a salt (RFC 2548 section 2.4.2, RFC 2868 section 3.5)."""
    assert value[0] & 0x80 and len(value) % 16 == 2, value.hex()
    plain, before = b"", authenticator + value[:2]
    for at in range(2, len(value), 16):
        block = value[at:at + 16]
        plain += bytes(a ^ b for a, b in zip(block, hashlib.md5(secret + before).digest()))
        before = block
    assert plain[0] < len(plain) and not any(plain[1 + plain[0]:]), plain.hex()
    return plain[1:1 + plain[0]]


def unhidden(value, secret, authenticator):
    """As User-Password is hidden; MS-CHAP-MPPE-Keys is, with the request's Authenticator (RFC 2548 section 2.4.1)."""
    plain, before = b"", authenticator
    for at in range(0, len(value), 16):
        block = value[at:at + 16]
        plain += bytes(a ^ b for a, b in zip(block, hashlib.md5(secret + before).digest()))
        before = block
    return plain


def rc4(key, octets):
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) & 255
        box[i], box[j] = box[j], box[i]
    out, i, j = bytearray(), 0, 0
    for octet in octets:
        i = (i + 1) & 255
        j = (j + box[i]) & 255
        box[i], box[j] = box[j], box[i]
        out.append(octet ^ box[(box[i] + box[j]) & 255])
    return bytes(out)


def encrypted_password(new, old):
    """RFC 2759 section 8.9: 516 octets, by the hash of the old one."""
    text = new.encode("utf-16-le")
    return rc4(nt_hash(old), os.urandom(512 - len(text)) + text + struct.pack("<I", len(text)))


def encrypted_hash(new, old):
    """RFC 2759 section 8.12: the old hash under the new one."""
    old, new = nt_hash(old), nt_hash(new)
    return des(new[:7], old[:8]) + des(new[7:14], old[8:])


def vectors():
    asked, peer = (bytes.fromhex(text) for text in ("5b5d7c7d7b3f2f3e3c2c602132262628", "21402324255e262a28295f2b3a337c7e"))
    assert md4(b"") == bytes.fromhex("31d6cfe0d16ae931b73c59d7e0c089c0") and md4(b"abc").hex() == "a448017aaf21d8525fc10ae87aa6729d"
    assert nt_hash("clientPass").hex() == "44ebba8d5312b8d611474411f56989ae"
    challenge = challenge_hash(peer, asked, b"User")
    assert challenge.hex() == "d02e4386bce91226"
    found = response(challenge, nt_hash("clientPass"))
    assert found.hex() == "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df"
    assert proof("clientPass", found, challenge) == b"S=407A5589115FD0D6209F510FE9C04566932CDA56"
    assert server_keys("clientPass", found)[0].hex() == "8b7cdc149b993a1ba118cb153f56dccb"
    assert lm_hash("MyPw").hex() == "75ba30198e6d1975aad3b435b51404ee"


vectors()
