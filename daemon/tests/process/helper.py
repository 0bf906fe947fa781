"""A helper for the tests, in the bytes of docs/helper-protocol.md and nothing else: what it does is said by the request.

    echo:…          the rest, as it came          pid             its process id
    sleep S         an answer after S seconds     hang            until it is interrupted
    deaf            until it is killed            exit N, kill    it ends
    garbage         what is no message            liar            an offset outside of its half
    parts N         N parts of 1,000 bytes        ask TEXT        asks its caller, and answers what it says
    fail            its own error 7               grow N          keeps N MiB
    log TEXT        a line on its standard output says           its environment, folder, user, limits
    torn, stump     a message that is cut short   huge            a length beyond the memory
    strangers TEXT  ends of calls around its own, then TEXT      after TEXT      the answer, then what is no message
    shrink TEXT     TEXT, if the memory cannot be made smaller
    {…}             an identity call: u5 is a user with that number and the password pw-u5; die-exit_5 does `exit 5`
As `count FILE` it writes the name of each identity call into the file, and answers u5@200 after 200 ms; say-expired has that status.
As `account FILE` it writes records into the file, unless there is a FILE.refuse: then it is not available.
"""
import mmap, os, resource, signal, socket, struct, sys, time

HEAD = struct.Struct(">BBBBIIIII")
SHARED, MORE, DESCRIPTOR = 1, 2, 4
mode = sys.argv[1] if len(sys.argv) > 1 else ""
if mode == "mute":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(1000)
if mode == "broken":
    sys.exit(3)
if mode == "slow-start":
    time.sleep(float(sys.argv[2]))

s = socket.socket(fileno=0)
kept = []


class Interrupted(Exception):
    pass


def handler(*_):
    pass


signal.signal(signal.SIGINT, handler)
signal.siginterrupt(signal.SIGINT, True)


def say(kind, call, payload=b"", flags=0, offset=0, length=None):
    head = HEAD.pack(0xD6, 1, kind, flags, call, 0, len(payload) if length is None else length, 0, offset)
    s.sendmsg([head, payload])


def receive():
    data, ancillary, _, _ = s.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    if not data:
        os._exit(0)
    fds = [struct.unpack("i", d[:4])[0] for _, t, d in ancillary if t == socket.SCM_RIGHTS]
    return HEAD.unpack(data[:24]), data[24:], fds


head, body, fds = receive()
assert head[2] == 1, head
largest, shared, call_max, answer_max = struct.unpack(">IIII", body[:16])
memory_file = fds[0] if fds else -1
memory = mmap.mmap(memory_file, shared) if fds else None
if mode == "unable":
    say(22, 0, b"the back end has no door")
    sys.exit(1)
concurrency = int(sys.argv[2]) if mode == "concurrent" else 1
say(16, 0, struct.pack(">I", concurrency) + b"test/1")


def answer(call, payload):
    if memory and 4096 < len(payload) <= shared // 2:
        memory[shared // 2 : shared // 2 + len(payload)] = payload
        return say(18, call, b"", SHARED, shared // 2, len(payload))
    room = largest - 24
    while len(payload) > room:
        say(17, call, payload[:room])
        payload = payload[room:]
    say(18, call, payload)


def wait_interrupted(seconds, call):
    """True: it was interrupted, and that is acknowledged."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            head, body, fds = receive()
        except (TimeoutError, InterruptedError):
            continue
        finally:
            s.settimeout(None)
        if head[2] == 3 and head[4] == call:
            say(19, call, struct.pack(">H", 1) + b"interrupted")
            say(20, call)
            return True
        if head[2] == 5:
            os._exit(0)
    return False


def serve(call, request, fds):
    if request.startswith(b"{"):
        return identify(call, request)
    word, _, rest = request.partition(b" ")
    if request.startswith(b"echo:"):
        if fds:
            os.write(fds[0], request[5:])
            os.close(fds[0])
            return say(18, call)
        return answer(call, request[5:])
    if word == b"pid":
        return answer(call, b"%d" % os.getpid())
    if word == b"sleep":
        if not wait_interrupted(float(rest), call):
            answer(call, b"rested")
        return
    if word == b"hang":
        wait_interrupted(1000, call)
        return
    if word == b"late":
        # Ends by itself while the interrupt is under way, and acknowledges that after a while.
        time.sleep(float(rest))
        return answer(call, b"late")
    if word == b"deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(1000)
    if word == b"exit":
        os._exit(int(rest))
    if word == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"garbage":
        return s.send(b"GET / HTTP/1.1\r\n\r\n")
    if word == b"half":
        say(17, call, b"half")
        os._exit(4)
    if word == b"liar":
        return say(18, call, b"", SHARED, 0, 10)
    if word == b"beyond":
        return say(18, call, b"", SHARED, shared - 5, 10)
    if word == b"stranger":
        say(18, call + 1, b"for somebody else")
        say(17, 0xFFFFFFFF, b"for nobody")
        return answer(call, b"for you")
    if word == b"twice":
        say(18, call, b"first")
        return say(18, call, b"second")
    if word == b"torn":
        return s.send(HEAD.pack(0xD6, 1, 18, 0, call, 0, 100, 0, 0) + b"only a half")
    if word == b"stump":
        return s.send(HEAD.pack(0xD6, 1, 18, 0, call, 0, 0, 0, 0)[:7])
    if word == b"huge":
        return say(18, call, b"", SHARED, shared // 2, 0xFFFFFFFF)
    if word == b"strangers":
        for other in range(max(1, call - 20), call + 20):
            if other != call:
                say(18, other, b"for somebody else")
                say(19, other, struct.pack(">H", 1) + b"for somebody else")
        return answer(call, rest)
    if word == b"after":
        answer(call, rest)
        return s.send(b"GET / HTTP/1.1\r\n\r\n")
    if word == b"shrink":
        try:
            os.ftruncate(memory_file, 0)
        except PermissionError:
            return answer(call, rest)
        return answer(call, b"it is not sealed")
    if word == b"rights":
        with open("/dev/null") as null:
            s.sendmsg([HEAD.pack(0xD6, 1, 18, 0, call, 0, 2, 0, 0), b"ok"],
                      [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", null.fileno()) * 1)])
        return
    if word == b"parts":
        for n in range(int(rest)):
            say(17, call, b"%03d" % (n % 1000) + b"." * 997)
        return say(18, call, b"end")
    if word == b"flood":
        for _ in range(int(rest)):
            say(17, call, b"x" * 100000)
        return say(18, call)
    if word == b"ask":
        say(21, call, rest)
        while True:
            head, body, _ = receive()
            if head[2] == 4:
                return answer(call, b"heard " + body)
            if head[2] == 3:
                say(19, call, struct.pack(">H", 1) + b"interrupted")
                return say(20, call)
    if word == b"fail":
        return say(19, call, struct.pack(">H", 7) + b"of its own")
    if word == b"grow":
        kept.append(bytearray(os.urandom(4096)) * (int(rest) * 256))
        return answer(call, b"grown")
    if word == b"log":
        print(rest.decode(), flush=True)
        return answer(call, b"said")
    if word == b"says":
        limits = {n: resource.getrlimit(getattr(resource, n))[0] for n in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_CPU")}
        text = repr({"env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "gid": os.getgid(),
                     "groups": os.getgroups(), "limits": limits, "argv": sys.argv[1:],
                     "no_new_privs": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0]})
        return answer(call, text.encode())
    if word == b"try":
        try:
            return answer(call, repr(eval(rest.decode())).encode())
        except Exception as e:
            return answer(call, ("%s: %s" % (type(e).__name__, e)).encode())
    answer(call, b"?")


def identify(call, request):
    import json
    asked = json.loads(request)
    if mode == "account":
        refused = os.path.exists(sys.argv[2] + ".refuse")
        with open(sys.argv[2], "ab", buffering=0) as file:
            file.write(b"" if refused else request + b"\n")
        return answer(call, b'{"status": "unavailable"}' if refused else b'{"status": "ok"}')
    name = asked["name"]
    if mode == "count":
        with open(sys.argv[2], "ab", buffering=0) as file:
            file.write(name.encode() + b"\n")
        name, _, late = name.partition("@")
        if late and wait_interrupted(int(late) / 1000, call):
            return
    said = asked.get("password", name)
    if said.startswith("die-"):
        return serve(call, said[4:].replace("_", " ").encode(), [])
    status, entries = "ok", []
    if name.startswith("say-"):
        status = name[4:]
    elif not name.startswith("u"):
        status = "not-found"
    elif asked["do"] == "authenticate":
        status = "ok" if said == "pw-" + name else "wrong-password"
    else:
        entries = [{"name": name, "uid": int(name[1:]), "gid": 1, "gecos": "", "dir": "/", "shell": "/bin/sh"}]
    answer(call, json.dumps({"status": status, "name": name, "entries": entries}).encode())


pieces = {}
while True:
    try:
        head, body, fds = receive()
    except InterruptedError:
        continue
    kind, flags, call, length, whole = head[2], head[3], head[4], head[6], head[7]
    if kind == 2:
        if flags & SHARED:
            body = memory[:length]
        so_far = pieces.pop(call, b"") + body
        if flags & MORE:
            pieces[call] = so_far
            continue
        assert len(so_far) == whole, (len(so_far), whole)
        serve(call, so_far, fds)
    elif kind == 3:
        say(20, call)
    elif kind == 5:
        sys.exit(0)
