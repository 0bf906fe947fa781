"""Servers to measure against: slapd, HAProxy, lloadd and usherd, each in a temporary directory, on loopback ports that the
kernel does not give to clients, and gone when the program is, however it ends.

Only the standard library is used. Everything raises `Missing` with the package to install when a program is absent.
"""

import atexit
import ctypes
import getpass
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SUFFIX = "dc=example,dc=com"
PEOPLE = f"ou=people,{SUFFIX}"
PROXY_DN = f"cn=usherd,{SUFFIX}"
PROXY_PASSWORD = "usherd-secret"
USER_PASSWORD = "secret{n}"


class Missing(Exception):
    """A program is absent; the text names what to install."""


class Failed(Exception):
    """A program did not do what it was started for; the text says which and shows what it printed."""


def program(name, package):
    """The path of an installed program."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Missing(f"{name} is not installed: apt-get install {package}")
    return path


def raise_descriptors(wanted):
    """As many descriptors as `wanted`, if the hard limit or our privileges allow; gives what there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (ValueError, OSError):
            pass
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, soft), hard))
    return max(limit, soft)


def free_port(taken):
    """A loopback port that nobody listens on, below those that the kernel gives to clients (and may give away)."""
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise Failed("no free port between 20000 and 32000")


class Bench:
    """A temporary directory and the processes that live in it; `close` ends them all. Also closed at exit and on
    SIGINT, SIGTERM and SIGHUP; should this program be killed outright, the kernel kills them (PR_SET_PDEATHSIG)."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="usherd-bench-"))
        self.processes = []
        self.ports = set()
        atexit.register(self.close)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))

    def port(self):
        return free_port(self.ports)

    def start(self, name, command):
        """Starts a process in the foreground, its output in a file of its own."""
        libc = ctypes.CDLL(None)
        log = self.directory / f"{name}.log"

        def dies_with_us():
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)

        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.directory, preexec_fn=dies_with_us
            )
        process.name, process.log = name, log
        self.processes.append(process)
        return process

    def await_port(self, process, port, seconds=30):
        """Waits until the process answers on its port."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if process.poll() is not None:
                raise Failed(f"{process.name} ended with {process.returncode}:\n{tail(process.log)}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failed(f"{process.name} does not listen on {port} after {seconds} s:\n{tail(process.log)}")

    def await_true(self, process, what, condition, seconds=30):
        """Waits until the condition holds while the process runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if process.poll() is not None:
                raise Failed(f"{process.name} ended with {process.returncode}:\n{tail(process.log)}")
            if condition():
                return
            time.sleep(0.05)
        raise Failed(f"{process.name}: not {what} after {seconds} s:\n{tail(process.log)}")

    def stop(self, process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def secret(self, name, text):
        """A file with a password in it."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return path

    def close(self):
        for process in reversed(list(self.processes)):
            self.stop(process)
        shutil.rmtree(self.directory, ignore_errors=True)


def tail(path, lines=20):
    text = path.read_text(errors="replace").splitlines()
    return "\n".join("    " + line for line in text[-lines:]) or "    (it printed nothing)"


def write_ldif(path, users):
    """The directory: a suffix, the account that usherd binds as, which may act for anybody, and users user1…userN
    with passwords secret1…secretN."""
    with open(path, "w") as out:
        out.write(f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n")
        out.write(f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n\n")
        out.write(
            f"dn: {PROXY_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: usherd\n"
            f"userPassword: {PROXY_PASSWORD}\nauthzTo: dn.subtree:{SUFFIX}\n\n"
        )
        for n in range(1, users + 1):
            out.write(
                f"dn: uid=user{n},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: user{n}\ncn: User {n}\nsn: Number {n}\n"
                f"mail: user{n}@example.com\nuserPassword: {USER_PASSWORD.format(n=n)}\n\n"
            )


def slapd_config(directory, server_id, own_port, peer_port):
    """mdb, indexed; two of these follow each other (mirror mode). Durability is off: it is not what is measured."""
    schema = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in ("core", "cosine", "inetorgperson"))
    return f"""{schema}
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload syncprov
pidfile {directory}/slapd.pid
serverID {server_id} ldap://127.0.0.1:{own_port}
serverID {3 - server_id} ldap://127.0.0.1:{peer_port}
authz-policy to
password-hash {{CLEARTEXT}}
loglevel 0
threads 4
conn_max_pending 10000
conn_max_pending_auth 10000

database mdb
suffix "{SUFFIX}"
rootdn "cn=admin,{SUFFIX}"
rootpw admin
directory {directory}/db
maxsize 1073741824
dbnosync
index objectClass,entryUUID,entryCSN eq
index uid,cn,mail eq
access to attrs=userPassword by anonymous auth by * none
access to * by * read
overlay syncprov
syncrepl rid=001 provider=ldap://127.0.0.1:{peer_port} type=refreshAndPersist retry="1 +" timeout=2
 searchbase="{SUFFIX}" bindmethod=simple binddn="cn=admin,{SUFFIX}" credentials=admin
mirrormode on
"""


def start_slapds(bench, users):
    """Two slapd with the same users, kept in step by syncrepl in mirror mode; their processes and ports."""
    slapd = program("slapd", "slapd")
    slapadd = program("slapadd", "slapd")
    program("ldapsearch", "ldap-utils")
    ldif = bench.directory / "users.ldif"
    write_ldif(ldif, users)
    ports = (bench.port(), bench.port())
    found = []
    for at in (0, 1):
        directory = bench.directory / f"slapd{at + 1}"
        (directory / "db").mkdir(parents=True)
        config = directory / "slapd.conf"
        config.write_text(slapd_config(directory, at + 1, ports[at], ports[1 - at]))
        if at == 0:
            load = [slapadd, "-q", "-w", "-S", "1", "-f", str(config), "-l", str(ldif)]
            done = subprocess.run(load, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"slapadd ended with {done.returncode}:\n{done.stderr}")
        else:
            # The same entries with the same entryUUID and entryCSN, or the two would quarrel.
            shutil.copy(bench.directory / "slapd1" / "db" / "data.mdb", directory / "db" / "data.mdb")
        url = f"ldap://127.0.0.1:{ports[at]}"
        # -d 0 keeps it in the foreground; the shell's limit of descriptors is its limit of connections.
        found.append(bench.start(f"slapd{at + 1}", [slapd, "-h", url, "-f", str(config), "-d", "0"]))
    for process, port in zip(found, ports):
        bench.await_port(process, port)
    return found, ports


def certificate(bench):
    """An authority and the certificate, on P-256, that it gives to 127.0.0.1: the authority's file, the certificate's, its key's."""
    openssl = program("openssl", "openssl")
    at = lambda name: str(bench.directory / name)
    (bench.directory / "names").write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for words in (
        ["req", "-x509", *key, "-days", "2", "-subj", "/CN=bench authority", "-keyout", at("ca.key"), "-out", at("ca.crt")],
        ["req", "-new", *key, "-subj", "/CN=localhost", "-keyout", at("tls.key"), "-out", at("tls.csr")],
        ["x509", "-req", "-in", at("tls.csr"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial",
         "-days", "2", "-extfile", at("names"), "-out", at("tls.crt")],
    ):  # fmt: skip
        done = subprocess.run([openssl, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"openssl {words[0]} ended with {done.returncode}:\n{done.stderr}")
    return at("ca.crt"), at("tls.crt"), at("tls.key")


def start_haproxy(bench, servers, connections, tls=None):
    """HAProxy as people put it in front of LDAP: TCP pass-through, least connections, two threads; with a certificate also a
    port where it ends TLS 1.3. The process, its port, and that of TLS."""
    haproxy = program("haproxy", "haproxy")
    port, tls_port = bench.port(), bench.port()
    config = bench.directory / "haproxy.cfg"
    lines = "\n".join(f"    server s{at} 127.0.0.1:{server}" for at, server in enumerate(servers))
    secured = ""
    if tls:
        pem = bench.directory / "haproxy.pem"
        pem.touch(mode=0o600)
        pem.write_text(pathlib.Path(tls[1]).read_text() + pathlib.Path(tls[2]).read_text())
        secured = (
            f"listen ldaps\n    bind 127.0.0.1:{tls_port} backlog 4096 ssl crt {pem} ssl-min-ver TLSv1.3\n"
            f"    balance leastconn\n{lines}\n"
        )
    config.write_text(
        f"""global
    nbthread 2
    maxconn {connections}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen ldap
    bind 127.0.0.1:{port} backlog 4096
    balance leastconn
{lines}
{secured}"""
    )
    process = bench.start("haproxy", [haproxy, "-db", "-q", "-f", str(config)])
    bench.await_port(process, port)
    return process, port, tls_port


def lloadd_version(lloadd):
    """What it calls itself."""
    done = subprocess.run([str(lloadd), "-VV"], capture_output=True, text=True)
    words = (done.stdout + done.stderr).split()
    return words[words.index("lloadd") + 1] if "lloadd" in words[:-1] else "?"


def start_lloadd(bench, lloadd, name, servers, bindconns=None):
    """OpenLDAP's lloadd in front of LDAP servers, each client's identity by proxied authorization as with usherd. As it is by
    itself: one connection to each server for operations, one for binds, one I/O thread. With `bindconns`, tuned as people do:
    four for operations, so many for binds, two I/O threads. The process and its port."""
    port = bench.port()
    more = f" numconns=4 bindconns={bindconns}" if bindconns else ""
    listed = "\n".join(f"backend-server uri=ldap://127.0.0.1:{server}{more}" for server in servers)
    threads = "io-threads 2\n" if bindconns else ""
    bindconf = f'bindconf bindmethod=simple binddn="{PROXY_DN}" credentials={PROXY_PASSWORD}'
    config = bench.secret(f"{name}.conf", f"{threads}feature proxyauthz\n{bindconf}\ntier roundrobin\n{listed}")
    url = f"ldap://127.0.0.1:{port}"
    process = bench.start(name, [str(lloadd), "-s", "0", "-d", "0", "-f", str(config), "-h", url])
    bench.await_port(process, port)
    search = [program("ldapsearch", "ldap-utils"), "-x", "-H", url, "-s", "base", "-b", SUFFIX, "1.1"]
    answers = lambda: subprocess.run(search, capture_output=True).returncode == 0
    bench.await_true(process, "connected to its servers", answers)
    return process, port


def start_usherd(bench, usherd, name, directory, workers, tls=None):
    """usherd with one directory, given as the lines of its section; the process, its port, and that of TLS."""
    port, tls_port = bench.port(), bench.port()
    config = bench.directory / f"{name}.toml"
    secured = ""
    if tls:
        secured = (
            f'[[listen]]\nprotocol = "ldaps"\naddress = "127.0.0.1:{tls_port}"\ndirectory = "bench"\n'
            f'tls = {{ cert_file = "{tls[1]}", key_file = "{tls[2]}" }}\n'
        )
    config.write_text(
        f"""[server]
workers = {workers}
control = "{bench.directory}/{name}.sock"

[directory.bench]
base = "{SUFFIX}"
{directory}

[[listen]]
protocol = "ldap"
address = "127.0.0.1:{port}"
directory = "bench"

{secured}"""
    )
    process = bench.start(name, [str(usherd), "run", "-c", str(config)])
    bench.await_port(process, port)
    return process, port, tls_port


def start_usherd_over_slapd(bench, usherd, servers, workers=0, tls=None):
    """usherd in front of LDAP servers, every operation balanced, the clients' identities by proxied authorization."""
    secret = bench.secret("usherd.secret", PROXY_PASSWORD)
    listed = ", ".join(f'{{ url = "ldap://127.0.0.1:{port}" }}' for port in servers)
    directory = f'identity = "proxied"\nbind_dn = "{PROXY_DN}"\nbind_password_file = "{secret}"\nserver = [{listed}]'
    return start_usherd(bench, usherd, "usherd", directory, workers, tls)


def start_usherd_over_ldif(bench, usherd, workers=0, tls=None):
    """usherd answering from the same users as a local directory, in process."""
    directory = f'server = [{{ ldif = "{bench.directory}/users.ldif" }}]'
    return start_usherd(bench, usherd, "usherd-local", directory, workers, tls)


def start_usherd_services(bench, usherd, name, services):
    """usherd with these services (sections of its configuration) behind one unix socket, all helpers running; the
    process and the folder of its sockets."""
    folder = bench.directory / name
    folder.mkdir()
    config = folder / "usherd.toml"
    config.write_text(
        f"""[server]
workers = 1
control = "{folder}/control"

[[listen]]
protocol = "rpc"
address = "unix:{folder}/rpc"

{services}
"""
    )
    process = bench.start(name, [str(usherd), "run", "-c", str(config)])

    def ready():
        found = status(usherd, folder)
        return found is not None and found["lifecycle"] == "ready"

    bench.await_true(process, "ready", ready)
    return process, folder


def status(usherd, folder):
    """What `usherd status --json` says; nothing while nobody answers."""
    command = [str(usherd), "status", "--json", "--control", str(folder / "control")]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def start_mariadb(bench):
    """An empty MariaDB, and its socket; root has no password."""
    install = program("mariadb-install-db", "mariadb-server")
    server = program("mariadbd", "mariadb-server")
    data, socket_path = bench.directory / "mariadb", bench.directory / "mariadb.sock"
    user = f"--user={getpass.getuser()}"
    command = [install, "--no-defaults", user, f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"mariadb-install-db ended with {done.returncode}:\n{done.stderr}")
    process = bench.start(
        "mariadbd",
        [server, "--no-defaults", user, f"--datadir={data}", f"--socket={socket_path}", "--skip-networking",
         "--skip-log-bin", "--performance-schema=OFF", "--innodb-buffer-pool-size=16M"],
    )  # fmt: skip
    bench.await_true(process, "ready", socket_path.exists)
    return process, socket_path


def system_calls(bench, pid, during):
    """Calls of a process while `during` runs, what that gave, and by what they were counted: perf, which does not hold it up,
    or strace, which does."""
    out = bench.directory / "calls"
    perf = shutil.which("perf")
    if perf:
        counter = bench.start("perf", [perf, "stat", "-x", ";", "-o", str(out), "-e", "raw_syscalls:sys_enter", "-p", str(pid)])
        time.sleep(0.5)
        if counter.poll() is None:
            found = during()
            finish(bench, counter)
            counts = [line.split(";")[0] for line in out.read_text().splitlines() if "raw_syscalls:sys_enter" in line]
            if counts and counts[0].isdigit():
                return int(counts[0]), found, "perf"
    strace = program("strace", "strace")
    counter = bench.start("strace", [strace, "-c", "-f", "-q", "-o", str(out), "-p", str(pid)])
    traced = lambda: "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    bench.await_true(counter, "attached", traced)
    found = during()
    finish(bench, counter)
    total = next(line for line in out.read_text().splitlines() if line.endswith("total"))
    return int(total.split()[3]), found, "strace"


def finish(bench, counter):
    counter.send_signal(2)
    try:
        counter.wait(10)
    except subprocess.TimeoutExpired:
        pass
    bench.stop(counter)
