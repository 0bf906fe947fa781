"""RADIUS servers to measure: FreeRADIUS and usherd, with the same users, answering from a list or from a directory."""

import pathlib
import random
import socket
import subprocess
import sys

import fixture

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "testing123"


class Server:
    """A server: where it listens for each kind of request, and the process whose CPU counts."""

    def __init__(self, name, process, auth, acct):
        self.name, self.process, self.auth, self.acct = name, process, auth, acct


def udp_port(bench):
    """A loopback port on which nobody receives, below those that the kernel gives to clients."""
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        if port in bench.ports:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        bench.ports.add(port)
        return port
    raise fixture.Failed("no free port between 20000 and 32000")


def write_users(bench, users):
    """The list, as FreeRADIUS has it and usherd reads it too, and as the load generator wants it."""
    listed, load = bench.directory / "users", bench.directory / "users.csv"
    for path in (listed, load):
        path.touch(mode=0o600)
    names = [(f"user{n}", fixture.USER_PASSWORD.format(n=n)) for n in range(1, users + 1)]
    listed.write_text("".join(f'{name} Cleartext-Password := "{password}"\n' for name, password in names))
    load.write_text("".join(f"{name},{password}\n" for name, password in names))
    bench.secret("secret", SECRET)
    clients = bench.directory / "clients.conf"
    clients.touch(mode=0o600)
    clients.write_text(f"client bench {{\n    ipaddr = 127.0.0.1\n    secret = {SECRET}\n}}\n")


def freeradius_modules(directory_port, threads):
    """What is configured, and what is done with an Access-Request."""
    if directory_port is None:
        return "files {\n usersfile = ${confdir}/users\n}\npap {\n}\n", "files\npap", "Auth-Type PAP {\n pap\n}"
    ldap = f"""pap {{
}}
ldap {{
 server = 'ldap://127.0.0.1:{directory_port}'
 identity = '{fixture.PROXY_DN}'
 password = {fixture.PROXY_PASSWORD}
 base_dn = '{fixture.SUFFIX}'
 user {{
  base_dn = "${{..base_dn}}"
  filter = "(uid=%{{User-Name}})"
 }}
 options {{
  chase_referrals = no
  res_timeout = 10
  srv_timelimit = 3
  net_timeout = 3
 }}
 pool {{
  start = 5
  min = 3
  max = {threads}
  spare = 10
  uses = 0
  retry_delay = 1
  lifetime = 0
  idle_timeout = 60
 }}
}}
"""
    return ldap, "ldap\nupdate control {\n Auth-Type := LDAP\n}", "Auth-Type LDAP {\n ldap\n}"


def start_freeradius(bench, usherd, name, single=False, threads=32, directory_port=None):
    """FreeRADIUS with nothing that is not needed; its threads as its own configuration has them, unless said otherwise.
    Rejects are not held back, and nothing is logged."""
    freeradius = fixture.program("freeradius", "freeradius")
    if directory_port and not pathlib.Path("/usr/lib/freeradius/rlm_ldap.so").exists():
        raise fixture.Missing("FreeRADIUS has no LDAP: apt-get install freeradius-ldap")
    folder = bench.directory / name
    folder.mkdir()
    auth, acct = udp_port(bench), udp_port(bench)
    (folder / "users").symlink_to(bench.directory / "users")
    modules, authorize, authenticate = freeradius_modules(directory_port, threads)
    config = folder / "radiusd.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"""prefix = /usr
libdir = /usr/lib/freeradius
confdir = {folder}
modconfdir = {folder}
logdir = {folder}
run_dir = {folder}
pidfile = {folder}/pid
max_request_time = 30
cleanup_delay = 5
max_requests = 65536
log {{
 destination = stderr
 auth = no
}}
security {{
 allow_core_dumps = no
 max_attributes = 200
 reject_delay = 0
 status_server = yes
}}
proxy_requests = no
$INCLUDE {bench.directory}/clients.conf
thread pool {{
 start_servers = 5
 max_servers = {threads}
 min_spare_servers = 3
 max_spare_servers = 10
 max_queue_size = 65536
}}
modules {{
always ok {{
 rcode = ok
}}
{modules}}}
server default {{
 listen {{
  type = auth
  ipaddr = 127.0.0.1
  port = {auth}
 }}
 listen {{
  type = acct
  ipaddr = 127.0.0.1
  port = {acct}
 }}
 authorize {{
{authorize}
 }}
 authenticate {{
{authenticate}
 }}
 accounting {{
  ok
 }}
}}
"""
    )
    command = [freeradius, "-f", *(["-s"] if single else []), "-d", str(folder), "-D", "/usr/share/freeradius", "-n", "radiusd"]
    process = bench.start(name, command)
    server = Server(name, process, auth, acct)
    bench.await_true(process, "answering", lambda: answers(bench, usherd, auth))
    return server


def start_usherd(bench, usherd, name, directory_port=None, workers=0):
    """usherd; in front of a directory with as many connections as binds that are to be under way at once."""
    folder = bench.directory / name
    folder.mkdir()
    port = udp_port(bench)
    directory, authenticate = "", f'{{ users_file = "{bench.directory}/users" }}'
    if directory_port is not None:
        secret = bench.secret(f"{name}.secret", fixture.PROXY_PASSWORD)
        directory = f"""[directory.corp]
base = "{fixture.SUFFIX}"
bind_dn = "{fixture.PROXY_DN}"
bind_password_file = "{secret}"
server = [{{ url = "ldap://127.0.0.1:{directory_port}", bind_connections_max = 256 }}]
"""
        authenticate = '{ directory = "corp", user = "(uid={User-Name})" }'
    config = folder / "usherd.toml"
    config.write_text(
        f"""[server]
workers = {workers}
control = "{folder}/control"

{directory}
[[listen]]
protocol = "radius"
address = "127.0.0.1:{port}"
clients_file = "{bench.directory}/clients.conf"
authenticate = {authenticate}
accounting = "discard"
"""
    )
    process = bench.start(name, [str(usherd), "run", "-c", str(config)])

    def ready():
        found = fixture.status(usherd, folder)
        return found is not None and found["lifecycle"] == "ready"

    bench.await_true(process, "ready", ready)
    return Server(name, process, port, port)


def answers(bench, usherd, port):
    command = [str(usherd), "radius", "ask", "--to", f"127.0.0.1:{port}", "--secret-file", str(bench.directory / "secret"),
               "--status", "--timeout", "200ms", "--retries", "0"]  # fmt: skip
    return subprocess.run(command, capture_output=True).returncode == 0


def start_late_directory(bench, users, milliseconds):
    """slapd behind a proxy by which everything that it says comes late; the proxy's port."""
    slapds, ports = fixture.start_slapds(bench, users)
    port = bench.port()
    process = bench.start("delay", [sys.executable, str(HERE / "delay.py"), str(port), str(ports[0]), str(milliseconds)])
    bench.await_port(process, port)
    return port
