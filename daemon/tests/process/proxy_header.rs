//! The PROXY protocol, in and out: behind HAProxy, before slapd and HAProxy, and by hand where a peer does what none does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::certificates::certificates;
use crate::client::{Client, Target, message};
use crate::helpers::sections;
use crate::ops;
use crate::proc::{Folder, Process, free_port, wait_for};
use crate::slapd::{BASE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, listener_tls, server};
use wire::rpc;

/// The client that our headers speak of.
const SOURCE: &str = "192.0.2.7:49152";
const PINNED: &str = "identity = \"pinned\"";
const FROM_HERE: &str = "proxy_from = [\"127.0.0.1\", \"::1\"]";

fn v1() -> Vec<u8> {
    b"PROXY TCP4 192.0.2.7 192.0.2.1 49152 389\r\n".to_vec()
}

fn v2() -> Vec<u8> {
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\xc0\0\x01\x85".to_vec()
}

/// Of a balancer's own connections.
fn local() -> Vec<u8> {
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()
}

fn takes(versions: &str) -> String {
    format!("directory = \"corp\"\nproxy_protocol = \"{versions}\"\n{FROM_HERE}")
}

/// usherd before a slapd that hears of the clients by headers, and behind a listener that takes them.
fn between(slapd: &Slapd, listener: &str) -> Usherd {
    Setup::new()
        .directory(
            "corp",
            PINNED,
            &[server(&slapd.proxied_url(), "proxy_protocol = \"v2\",")],
        )
        .listen("ldap", "127.0.0.1:0", listener)
        .start()
}

/// An LDAP client behind these bytes.
fn behind(port: u16, header: &[u8]) -> Client {
    let mut client = Client::connect(&Target::plain(port));
    client.send_raw(header).expect("a new connection takes it");
    client
}

fn bind_and_ask(mut client: Client) {
    client.bind(&user(3), &password(3));
    assert_eq!(client.whoami(), format!("dn:{}", user(3)));
}

/// Where slapd says that its connections come from.
fn callers(slapd: &Slapd) -> Vec<String> {
    let log = slapd.process().output();
    let from = log.split("ACCEPT from ").skip(1);
    from.filter_map(|rest| {
        rest.split_whitespace()
            .next()
            .map(|word| word.trim_start_matches("IP=").to_owned())
    })
    .collect()
}

fn is_called_by(slapd: &Slapd, source: &str) {
    wait_for(&format!("slapd is called by {source}"), Duration::from_secs(10), || {
        callers(slapd).iter().any(|from| from == source).then_some(())
    });
}

/// HAProxy with one listener and one server; `ends` is added to the line of the server, `bind` to that of the listener.
struct Haproxy {
    port: u16,
    _folder: Folder,
    _process: Process,
}

fn haproxy(bind: &str, to: u16, ends: &str) -> Haproxy {
    let (folder, port) = (Folder::new("haproxy"), free_port());
    let configuration = folder.write(
        "haproxy.cfg",
        format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen ldap\n bind 127.0.0.1:{port} {bind}\n server one 127.0.0.1:{to} {ends}\n"
        ),
    );
    let process = Process::start(
        "/usr/sbin/haproxy",
        &["-db", "-f", &configuration],
        &folder.path().join("log"),
    );
    wait_for("HAProxy listens", Duration::from_secs(10), || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    Haproxy {
        port,
        _folder: folder,
        _process: process,
    }
}

#[test]
fn through_haproxy_and_usherd_slapd_hears_of_the_client_itself() {
    let slapd = Slapd::behind_headers();
    for (versions, sends) in [
        ("v1", "send-proxy"),
        ("v2", "send-proxy-v2"),
        ("any", "send-proxy-v2 check"),
    ] {
        let usherd = between(&slapd, &takes(versions));
        let haproxy = haproxy("", usherd.port(0), sends);
        let stream = TcpStream::connect(("127.0.0.1", haproxy.port)).expect("HAProxy listens");
        let ours = stream.local_addr().expect("an address").to_string();
        bind_and_ask(Client::over(stream));
        is_called_by(&slapd, &ours);
        usherd.stop();
    }
}

#[test]
fn through_usherd_haproxy_hears_of_the_client_and_of_nobody_on_shared_connections() {
    let slapd = Slapd::behind_headers();
    for version in ["v1", "v2"] {
        // It takes usherd's header, and passes on to slapd what it said.
        let haproxy = haproxy("accept-proxy", slapd.proxied_port(), "send-proxy-v2");
        let url = format!("ldap://127.0.0.1:{}", haproxy.port);
        let setting = format!("proxy_protocol = \"{version}\",");
        let usherd = Setup::corp(PINNED, &[server(&url, &setting)]).start();
        let stream = TcpStream::connect(("127.0.0.1", usherd.port(0))).expect("usherd listens");
        let ours = stream.local_addr().expect("an address").to_string();
        let mut client = Client::over(stream);
        // Anonymous, so on a connection that others share.
        let found = client.call(&ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]));
        assert_eq!(found.last().map(crate::client::Message::code), Some(0));
        assert!(!callers(&slapd).contains(&ours), "{:?}", callers(&slapd));
        bind_and_ask(client);
        is_called_by(&slapd, &ours);
        usherd.stop();
    }
}

#[test]
fn a_header_counts_however_it_comes() {
    let slapd = Slapd::behind_headers();
    let usherd = between(&slapd, &takes("any"));
    for (header, source) in [(v1(), "192.0.2.7:49152"), (v2(), SOURCE)] {
        // With the first request behind it, in one piece.
        let mut client = Client::connect(&usherd.plain(0));
        let bind = message(client.id(), &ops::bind(&user(3), &password(3)));
        client.send_raw(&[header.clone(), bind].concat()).expect("taken");
        assert_eq!(
            client.collect(1, Duration::from_secs(20)).expect("an answer")[0].code(),
            0
        );
        is_called_by(&slapd, source);
        // In single octets.
        let mut client = Client::connect(&usherd.plain(0));
        for byte in &header {
            client.send_raw(&[*byte]).expect("taken");
            std::thread::sleep(Duration::from_millis(2));
        }
        bind_and_ask(client);
    }
    // Extensions are passed over.
    let mut extended = v2();
    extended[15] += 7;
    extended.extend_from_slice(b"\x02\0\x04name");
    bind_and_ask(behind(usherd.port(0), &extended));
    // A balancer's own connection is known by its own address.
    let mut client = behind(usherd.port(0), &local());
    client.bind(&user(4), &password(4));
    wait_for("slapd is called by the balancer", Duration::from_secs(10), || {
        callers(&slapd)
            .iter()
            .any(|from| from.starts_with("127.0.0.1:"))
            .then_some(())
    });
    usherd.stop();
}

#[test]
fn tls_begins_behind_the_header() {
    let slapd = Slapd::behind_headers();
    let lines = format!("{}\n{}", takes("any"), listener_tls());
    let usherd = Setup::new()
        .directory(
            "corp",
            PINNED,
            &[server(&slapd.proxied_url(), "proxy_protocol = \"v2\",")],
        )
        .listen("ldaps", "127.0.0.1:0", &lines)
        .start();
    for header in [v1(), v2()] {
        let mut client = behind(usherd.port(0), &header);
        client.protect(&certificates().ca()).expect("TLS");
        bind_and_ask(client);
        is_called_by(&slapd, SOURCE);
    }
    // The header and the first bytes of TLS in one piece, as balancers send them.
    let through = haproxy("", usherd.port(0), "send-proxy-v2");
    bind_and_ask(Client::connect(&Target::Ldaps(
        ([127, 0, 0, 1], through.port).into(),
        certificates().ca(),
    )));
    // Without a header TLS is nothing that is understood here.
    let refused = Client::try_connect(&usherd.ldaps(0));
    assert!(refused.is_err(), "TLS without a header");
    usherd.stop();
}

#[test]
fn towards_a_server_the_header_comes_before_tls() {
    let slapd = Slapd::start();
    // It takes the header off and hands the rest to slapd's own TLS.
    let strips = haproxy("accept-proxy", port_of(&slapd.ldaps()), "");
    let url = format!("ldaps://localhost:{}", strips.port);
    let ca = certificates().ca();
    let setting = format!("proxy_protocol = \"v1\", tls = {{ ca_file = \"{}\" }},", ca.display());
    let usherd = Setup::corp("", &[server(&url, &setting)]).start();
    bind_and_ask(Client::connect(&usherd.plain(0)));
    let probed = usherd.folder.file("usherd.toml");
    let checked = crate::proc::run(
        crate::usherd::BINARY,
        &["check", "-c", &probed, "--probe"],
        Duration::from_secs(60),
    );
    assert!(checked.status.success(), "{checked:?}");
    usherd.stop();
}

fn port_of(target: &Target) -> u16 {
    match target {
        Target::Plain(at) | Target::Ldaps(at, _) | Target::StartTls(at, _) => at.port(),
        Target::Unix(path) => panic!("{path:?}"),
    }
}

#[test]
fn what_is_no_header_closes_its_connection_and_no_other() {
    let slapd = Slapd::behind_headers();
    let usherd = between(&slapd, &takes("v2"));
    let mut healthy = behind(usherd.port(0), &v2());
    healthy.bind(&user(3), &password(3));
    let mut short = v2();
    short[15] = 11;
    let mut long = v2();
    long[14] = 0xff;
    let mut family = v2();
    family[13] = 0x21;
    let mut command = v2();
    command[12] = 0x2f;
    let request = message(1, &ops::bind(&user(3), &password(3)));
    for (what, bytes) in [
        ("the other version", v1()),
        ("no header", request.clone()),
        ("a length that is too short", short),
        ("a length beyond all bounds", long),
        ("addresses of another family", family),
        ("an unknown command", command),
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let start = Instant::now();
        let said = closed(usherd.port(0), &[bytes, request.clone()].concat());
        assert!(said.is_empty(), "{what}: {}", said.escape_ascii());
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{what}: {:?}",
            start.elapsed()
        );
    }
    // A second header is the client's first message, and none.
    let mut twice = behind(usherd.port(0), &[v2(), v2()].concat());
    let last = twice.until_closed(Duration::from_secs(10));
    assert_eq!(last.len(), 1, "a notice of disconnection: {last:?}");
    assert!(last[0].is_disconnection(), "{last:?}");
    assert_eq!(healthy.whoami(), format!("dn:{}", user(3)));
    assert!(usherd.process.output().contains("does not begin with a PROXY header"));
    usherd.stop();
}

#[test]
fn a_header_that_does_not_come_is_waited_for_only_so_long() {
    let slapd = Slapd::behind_headers();
    let usherd = between(&slapd, &format!("{}\npartial_timeout = \"500ms\"", takes("any")));
    for begin in [&b""[..], &v1()[..20], &v2()[..20]] {
        let start = Instant::now();
        assert!(closed(usherd.port(0), begin).is_empty());
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(400) && took < Duration::from_secs(5),
            "{took:?}"
        );
    }
    let said = || {
        usherd
            .process
            .output()
            .contains("did not come within `partial_timeout`")
    };
    wait_for("the log says so", Duration::from_secs(5), || said().then_some(()));
    // Whoever sends it slowly has no more time than others.
    let mut slow = TcpStream::connect(("127.0.0.1", usherd.port(0))).expect("usherd listens");
    let start = Instant::now();
    for byte in v1().iter().cycle() {
        if slow.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_secs(10) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    usherd.stop();
}

#[test]
fn whoever_is_not_trusted_is_refused_whatever_they_say() {
    let slapd = Slapd::behind_headers();
    let lines = "directory = \"corp\"\nproxy_protocol = \"any\"\nproxy_from = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
    let usherd = between(&slapd, lines);
    let before = callers(&slapd).len();
    let request = message(1, &ops::bind(&user(3), &password(3)));
    for header in [v1(), v2(), local(), Vec::new()] {
        let said = closed(usherd.port(0), &[header, request.clone()].concat());
        assert!(said.is_empty(), "{}", said.escape_ascii());
    }
    let log = usherd.process.output();
    assert!(
        log.contains("not in `proxy_from`") && log.contains("127.0.0.1:"),
        "{log}"
    );
    // A flood of them is not a flood of lines.
    for _ in 0..200 {
        let _ = TcpStream::connect(("127.0.0.1", usherd.port(0)));
    }
    let lines = usherd.process.output().matches("not in `proxy_from`").count();
    assert!(lines < 20, "{lines} lines");
    assert_eq!(callers(&slapd).len(), before, "nothing reached the server");
    assert_eq!(usherd.status()["clients"], 0);
    usherd.stop();
}

#[test]
fn a_call_is_known_by_the_address_in_the_header() {
    let usherd = Setup::new()
        .section(&sections(&[("slow", &[], "slow_log = \"100ms\"")]))
        .listen("rpc", "127.0.0.1:0", &format!("proxy_protocol = \"any\"\n{FROM_HERE}"))
        .start();
    let mut stream = TcpStream::connect(("127.0.0.1", usherd.port(0))).expect("usherd listens");
    stream.write_all(&v2()).expect("taken");
    let mut call = Vec::new();
    rpc::write_call(&mut call, 1, 0, "slow", b"sleep 1000").expect("a call");
    stream.write_all(&call).expect("taken");
    wait_for("the log names the caller", Duration::from_secs(10), || {
        usherd.process.output().contains(SOURCE).then_some(())
    });
    drop(stream);
    usherd.stop();
}

#[test]
fn servers_are_told_of_clients_on_shared_connections_too() {
    for identity in ["proxied", "pinned"] {
        let slapd = Slapd::behind_headers();
        let settings = match identity {
            "pinned" => "identity = \"pinned\"\nsession_tracking = true",
            _ => "session_tracking = true",
        };
        let usherd = Setup::new()
            .directory("corp", settings, &[server(&slapd.url(), "connections = 1,")])
            .listen("ldap", "127.0.0.1:0", &takes("any"))
            .start();
        let mut client = behind(usherd.port(0), &v2());
        let search = |number: usize| ops::search(&user(number), ops::BASE, &ops::present("uid"), &["uid"]);
        assert_eq!(
            client.call(&search(11)).last().map(crate::client::Message::code),
            Some(0)
        );
        client.bind(&user(3), &password(3));
        let found = client.call(&search(12));
        assert_eq!(found[0].values("uid"), ["user12"], "{found:?}");
        // One for which the balancer gives no address.
        let mut other = behind(usherd.port(0), &local());
        assert_eq!(
            other.call(&search(13)).last().map(crate::client::Message::code),
            Some(0)
        );
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let lines = |wanted: &str| {
            let log = slapd.process().output();
            let found = log.lines().find(|line| line.contains(wanted));
            found.map(ToOwned::to_owned)
        };
        for (wanted, source, who) in [
            (user(11), "192.0.2.7", String::new()),
            (user(12), "192.0.2.7", format!("dn:{}", user(3))),
            (user(13), "127.0.0.1", String::new()),
        ] {
            let line = wait_for("slapd's log has the search", Duration::from_secs(10), || {
                lines(&format!("SRCH base=\"{wanted}\""))
            });
            let told = line.contains(&format!("IP={source}"))
                && line.contains(&format!("NAME={name}"))
                && (who.is_empty() || line.contains(&who));
            assert!(told, "{identity} {wanted}: {line}");
        }
        let line = lines(&format!("BIND dn=\"{}\"", user(3))).expect("the bind");
        assert!(line.contains("IP=192.0.2.7"), "{identity}: {line}");
        usherd.stop();
    }
}

#[test]
fn clients_are_told_apart_by_the_address_in_the_header() {
    let slapds = [Slapd::start(), Slapd::start()];
    let servers = slapds.each_ref().map(|slapd| server(&slapd.url(), ""));
    let usherd = Setup::new()
        .directory("corp", "policy = \"by-hash\"\nprobe_interval = 0", &servers)
        .listen("ldap", "127.0.0.1:0", &takes("v1"))
        .start();
    usherd.until("both servers up", |status| {
        (0..2).all(|index| status["directories"][0]["servers"][index]["state"] == "up")
    });
    let each_asks_once = || {
        for last in 1..=24 {
            let header = format!("PROXY TCP4 192.0.2.{last} 192.0.2.250 {} 389\r\n", free_port());
            let mut client = behind(usherd.port(0), header.as_bytes());
            let search = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
            assert_eq!(client.call(&search).last().map(crate::client::Message::code), Some(0));
        }
        let status = usherd.status();
        [0, 1].map(|index| {
            status["directories"][0]["servers"][index]["operations"]
                .as_u64()
                .expect("a count")
        })
    };
    let first = each_asks_once();
    assert!(
        first[0] > 0 && first[1] > 0,
        "all of them went to one server: {first:?}"
    );
    let second = each_asks_once();
    assert_eq!(second, first.map(|count| 2 * count), "a client has moved");
    usherd.stop();
}

#[test]
fn draining_does_not_wait_for_headers_and_says_nothing_in_clear() {
    let slapd = Slapd::behind_headers();
    let lines = format!("{}\n{}", takes("any"), listener_tls());
    let usherd = Setup::new()
        .directory(
            "corp",
            PINNED,
            &[server(&slapd.proxied_url(), "proxy_protocol = \"v2\",")],
        )
        .listen("ldaps", "127.0.0.1:0", &lines)
        .start();
    let waiting = TcpStream::connect(("127.0.0.1", usherd.port(0))).expect("usherd listens");
    usherd.until("a client", |status| status["clients"] == 1);
    let start = Instant::now();
    usherd.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(rest(waiting).is_empty());
}

#[test]
fn a_changed_setting_replaces_the_connections() {
    let server_side = TcpListener::bind("127.0.0.1:0").expect("a port");
    server_side.set_nonblocking(true).expect("our own socket");
    let port = server_side.local_addr().expect("an address").port();
    let url = format!("ldap://127.0.0.1:{port}");
    let usherd = Setup::corp(PINNED, &[server(&url, "proxy_protocol = \"v1\",")]).launch();
    some_connection_begins(&server_side, b"PROXY UNKNOWN\r\n");
    let text = std::fs::read_to_string(usherd.folder.file("usherd.toml")).expect("written by the setup");
    usherd.folder.write("usherd.toml", text.replace("\"v1\"", "\"v2\""));
    let reloaded = usherd.command(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    some_connection_begins(&server_side, &local());
}

/// Waits for one; those that begin otherwise are closed.
fn some_connection_begins(listener: &TcpListener, with: &[u8]) {
    wait_for("a connection with this header", Duration::from_secs(20), || {
        let (mut stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(false).expect("our own socket");
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout above zero");
        let mut bytes = [0; 64];
        let n = stream.read(&mut bytes).unwrap_or(0);
        bytes[..n].starts_with(with).then_some(())
    });
}

/// Sends these bytes on a connection of its own; what comes back until it is closed.
fn closed(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("usherd listens");
    let _ = stream.write_all(bytes);
    rest(stream)
}

fn rest(mut stream: TcpStream) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout above zero");
    let (mut said, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return said,
            Ok(n) => said.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return said,
            Err(error) => panic!("the connection is still open: {error}"),
        }
    }
}
