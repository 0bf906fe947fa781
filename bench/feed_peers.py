#!/usr/bin/python3
"""What `bench/feed` runs as processes of their own, so that what each took can be asked of the kernel.

    feed_peers.py discard PORT BASE DN PASSWORD        reads a refresh and throws its bytes away
    feed_peers.py python-ldap PORT BASE DN PASSWORD    python-ldap's syncrepl, entries kept in a dict (needs python3-ldap)
    feed_peers.py receive PATH                         takes usherd's lines on a unix socket, and says when each came
"""

import json
import pathlib
import re
import select
import signal
import socket
import sys
import time


def ber(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(number, tag=2):
    return ber(tag, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def text(words, tag=4):
    return ber(tag, words.encode())


def bound(port, name, password):
    """A connection to slapd, bound."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(ber(0x30, integer(1), ber(0x60, integer(3), text(name), text(password, 0x80))))
    answer = connection.recv(4096)
    if b"\x0a\x01\x00" not in answer:
        sys.exit(f"the bind was refused: {answer!r}")
    return connection


def modify(message, name, value):
    """A Modify that replaces `description`."""
    change = ber(0x30, integer(2, 0x0A), ber(0x30, text("description"), ber(0x31, text(value))))
    return ber(0x30, integer(message), ber(0x66, text(name), ber(0x30, change)))


def discard(port, base, name, password):
    connection = bound(port, name, password)
    wanted = ber(0x30, text("*"), text("entryCSN"))
    search = ber(0x63, text(base), integer(2, 0x0A), integer(0, 0x0A), integer(0), integer(0), ber(1, b"\0"),
                 text("objectClass", 0x87), wanted)  # fmt: skip
    refresh_only = ber(0x30, text("1.3.6.1.4.1.4203.1.9.1.1"), ber(1, b"\xff"), ber(4, ber(0x30, integer(1, 0x0A))))
    connection.sendall(ber(0x30, integer(2), search, ber(0xA0, refresh_only)))
    buffer, tail, total = bytearray(256 << 10), b"", 0
    while True:
        size = connection.recv_into(buffer)
        if size == 0:
            sys.exit("the connection was closed")
        total += size
        # The last message is short, and nothing follows it.
        tail = (tail + bytes(buffer[max(0, size - 400):size]))[-400:]
        if b"\x02\x01\x02\x65" in tail:
            print(json.dumps({"bytes": total}))
            return


def python_ldap(port, base, name, password):
    import ldap
    import ldap.syncrepl
    from ldap.ldapobject import ReconnectLDAPObject

    class Consumer(ReconnectLDAPObject, ldap.syncrepl.SyncreplConsumer):
        def __init__(self, *args):
            self.entries, self.cookie = {}, None
            super().__init__(*args)

        def syncrepl_get_cookie(self):
            return self.cookie

        def syncrepl_set_cookie(self, cookie):
            self.cookie = cookie

        def syncrepl_entry(self, dn, attributes, uuid):
            self.entries[uuid] = (dn, attributes)

        def syncrepl_present(self, uuids, refreshDeletes=False):
            pass

        def syncrepl_delete(self, uuids):
            pass

    consumer = Consumer(f"ldap://127.0.0.1:{port}")
    consumer.simple_bind_s(name, password)
    search = consumer.syncrepl_search(base, ldap.SCOPE_SUBTREE, mode="refreshOnly", attrlist=["*", "entryCSN"])
    try:
        while consumer.syncrepl_poll(all=1, msgid=search, timeout=60):
            pass
    except ldap.NO_SUCH_OBJECT:
        pass
    print(json.dumps({"entries": len(consumer.entries)}))


NUMBER = re.compile(rb'"description":\["(\d+)"\]')


def receive(path):
    """At SIGTERM: for each number that a description was, when its event came (CLOCK_MONOTONIC, seconds)."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    pathlib.Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    open_sockets, read = [listener], []
    while not stopped:
        for ready in select.select(open_sockets, [], [], 0.1)[0]:
            if ready is listener:
                open_sockets.append(listener.accept()[0])
                continue
            chunk = ready.recv(1 << 20)
            read.append((time.monotonic(), ready.fileno(), chunk))
            if not chunk:
                open_sockets.remove(ready)
                ready.close()
    found, rest = {}, {}
    for moment, source, chunk in read:
        *lines, rest[source] = (rest.get(source, b"") + chunk).split(b"\n")
        for line in lines:
            match = NUMBER.search(line)
            if match and b'"op":"modify"' in line:
                found.setdefault(match[1].decode(), []).append(moment)
    print(json.dumps(found))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "receive":
        receive(*rest)
    else:
        port, *rest = rest
        {"discard": discard, "python-ldap": python_ldap}[what](int(port), *rest)
