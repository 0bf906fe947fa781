//! What the kernel is told of clients' TCP connections, read from the daemon's own end of each (pidfd_getfd).

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::Socket;

use crate::proc::{free_port, shown, wait_for};
use crate::upgrade::Successor;
use crate::usherd::{Setup, Usherd, listener_tls};

/// What a connection has; times that do not count are zero.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    nodelay: bool,
    /// Idle, interval, count.
    keepalive: Option<(u64, u64, u32)>,
    user_timeout: Option<Duration>,
    /// Zero: the system's.
    unsent_bytes_max: u32,
}

const MANY: Options = Options {
    nodelay: true,
    keepalive: Some((42, 7, 5)),
    user_timeout: Some(Duration::from_millis(12_300)),
    unsent_bytes_max: 70 << 10,
};
const MANY_WRITTEN: &str = "keepalive = { idle = \"42s\", interval = \"7s\", count = 5 }\ntcp_user_timeout = \"12300ms\"\n\
                            tcp_unsent_bytes_max = \"70KiB\"";
/// Where nothing is written.
const FEW: Options = Options {
    nodelay: true,
    keepalive: None,
    user_timeout: None,
    unsent_bytes_max: 128 << 10,
};

fn of(socket: &Socket) -> std::io::Result<Options> {
    let keepalive = socket.keepalive()?.then(|| -> std::io::Result<_> {
        let seconds = |time: Duration| time.as_secs();
        Ok((
            seconds(socket.tcp_keepalive_time()?),
            seconds(socket.tcp_keepalive_interval()?),
            socket.tcp_keepalive_retries()?,
        ))
    });
    Ok(Options {
        nodelay: socket.tcp_nodelay()?,
        keepalive: keepalive.transpose()?,
        user_timeout: socket.tcp_user_timeout()?,
        unsent_bytes_max: socket.tcp_notsent_lowat()?,
    })
}

/// The other end of a connection, once process `pid` has it.
fn other_end(pid: u64, connection: &TcpStream) -> Socket {
    let ours = connection.local_addr().expect("it is connected");
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("not 0");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    let is_it = |number: i32| {
        let theirs: OwnedFd = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let socket = Socket::from(theirs);
        let peer = socket.peer_addr().ok()?.as_socket()?;
        (peer == ours).then_some(socket)
    };
    wait_for("the connection is accepted", Duration::from_secs(10), || {
        let all = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).ok()?;
        let mut numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.find_map(is_it)
    })
}

/// Has an end of its own, which the daemon does not close as long as nothing comes.
fn connect(port: u16) -> TcpStream {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("somebody listens")
}

/// What the daemon sets for a new connection; options are set after accept, if at all, so they are waited for.
fn assert_options(usherd: &Usherd, port: u16, expected: &Options) -> TcpStream {
    let connection = connect(port);
    let pid = usherd.status()["pid"].as_u64().expect("a number");
    assert_soon(pid, &connection, expected);
    connection
}

fn assert_soon(pid: u64, connection: &TcpStream, expected: &Options) {
    let end = other_end(pid, connection);
    let mut last = Options::default();
    for _ in 0..100 {
        last = of(&end).expect("a TCP socket");
        if last == *expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(last, *expected);
}

const DIRECTORY: &str = "[directory.corp]\nbase = \"dc=example,dc=com\"\nserver = [{ ldif = \"people.ldif\" }]\n";

fn listener(protocol: &str, port: u16, lines: &str) -> String {
    format!("[[listen]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{port}\"\ndirectory = \"corp\"\n{lines}\n\n")
}

fn start(text: &str, server: &str) -> Usherd {
    let setup = Setup::new().server(server).section(text);
    let entry = "dn: dc=example,dc=com\nobjectClass: top\nobjectClass: domain\ndc: example\n";
    setup.folder.write("people.ldif", entry);
    setup.start()
}

/// A listener of LDAP, one behind a balancer, and one of LDAPS.
fn three(ports: [u16; 3], lines: [&str; 3]) -> String {
    let behind = format!("proxy_protocol = \"any\"\nproxy_from = [\"127.0.0.1\"]\n{}", lines[1]);
    let tls = format!("{}\n{}", listener_tls(), lines[2]);
    [
        DIRECTORY.to_owned(),
        listener("ldap", ports[0], lines[0]),
        listener("ldap", ports[1], &behind),
        listener("ldaps", ports[2], &tls),
    ]
    .concat()
}

#[test]
fn a_connection_has_the_options_of_its_listener_after_reloads_and_upgrades_too() {
    let ports = [free_port(), free_port(), free_port()];
    let text = three(ports, [MANY_WRITTEN, MANY_WRITTEN, ""]);
    let mut usherd = start(&text, "");
    usherd.expect_end();
    let successor = Successor(&usherd);
    let before = assert_options(&usherd, ports[0], &MANY);
    let first = successor.pid();
    assert_options(&usherd, ports[1], &MANY);
    assert_options(&usherd, ports[2], &FEW);

    usherd.rewrite(&three(ports, ["", "tcp_user_timeout = \"9s\"", MANY_WRITTEN]));
    let reloaded = usherd.command(&["reload"]);
    assert!(reloaded.status.success(), "{}", shown(&reloaded));
    assert_options(&usherd, ports[0], &FEW);
    let nine = Options {
        user_timeout: Some(Duration::from_secs(9)),
        ..FEW
    };
    assert_options(&usherd, ports[1], &nine);
    assert_options(&usherd, ports[2], &MANY);
    assert_soon(first, &before, &MANY);

    usherd.rewrite(&text);
    successor.upgrade();
    assert_options(&usherd, ports[0], &MANY);
    assert_options(&usherd, ports[1], &MANY);
    assert_options(&usherd, ports[2], &FEW);
    drop(before);
}

/// The kernel gave it those of before; whoever waits longest is the one whom `clients_max` holds back.
#[test]
fn who_waits_to_be_accepted_while_the_options_change_has_the_new_ones() {
    let port = free_port();
    let with = |lines: &str| {
        format!(
            "{DIRECTORY}{}",
            listener("ldap", port, &format!("clients_max = 1\n{lines}"))
        )
    };
    let usherd = start(&with(""), "");
    let held = assert_options(&usherd, port, &FEW);
    let waits = connect(port);
    wait_for("it is seen that somebody waits", Duration::from_secs(10), || {
        usherd.process.output().contains("accepting pauses").then_some(())
    });
    usherd.rewrite(&with(MANY_WRITTEN));
    let reloaded = usherd.command(&["reload"]);
    assert!(reloaded.status.success(), "{}", shown(&reloaded));
    drop(held);
    assert_soon(u64::from(usherd.process.pid()), &waits, &MANY);
    drop(waits);
    assert_options(&usherd, port, &MANY);
}

/// A program that takes the listening sockets, tells the kernel otherwise, and ends.
const SPOILER: &str = "#!/usr/bin/python3
import socket
channel, whole = socket.socket(fileno=0), b''
while b'Whole' not in whole:
    whole, given, _, _ = socket.recv_fds(channel, 65536, 200)
    if not whole:
        break
    for descriptor in given:
        one = socket.socket(fileno=descriptor)
        if one.family == socket.AF_INET:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 77)
            print('spoiled', one.getsockname(), flush=True)
";

#[test]
fn an_upgrade_that_fails_leaves_the_options_as_they_were() {
    crate::proc::require("/usr/bin/python3");
    let port = free_port();
    let usherd = start(&format!("{DIRECTORY}{}", listener("ldap", port, MANY_WRITTEN)), "");
    let spoiler = usherd.folder.write("spoiler", SPOILER);
    std::fs::set_permissions(&spoiler, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own file");
    let refused = usherd.command(&["upgrade", "--program", &spoiler]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    let output = usherd.process.output();
    assert!(output.contains("spoiled"), "the program had the socket: {output}");
    assert_options(&usherd, port, &MANY);
}
