//! Addresses, workers, late and dead directories, the daemon's end and its reloads, as RADIUS clients meet them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::proc::{Process, alone, wait_for};
use crate::radius::SECRET;
use crate::radius_peer::{Python, client};
use crate::slapd::Slapd;
use crate::usherd::{Setup, Usherd, restrict, server};

const DIRECTORY: &str =
    "clients_file = \"clients.conf\"\nreject_delay = \"0s\"\nauthenticate = { directory = \"corp\" }";

fn python() -> Python {
    Python::new(include_str!("radius_network.py"))
}

/// A daemon that asks this directory; `more` are further settings of the directory, `server` those of `[server]`.
fn before_slapd(slapd: &Slapd, more: &str, lines: &str) -> Usherd {
    let setup = Setup::new().server(lines);
    setup.folder.write("clients.conf", client("here", "127.0.0.0/8", ""));
    let servers = [server(&slapd.url(), "")];
    let setup = setup.directory("corp", more, &servers);
    setup.listen("radius", "127.0.0.1:0", DIRECTORY).start()
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let python = python();
    let six = "client six {\n\tipv6addr = ::1\n\tsecret = \"another one, for v6\"\n}\n";
    let clients = client("four", "127.0.0.0/8", "") + six;
    let usherd = python.before_service(&clients, &[("[::]:0", ""), ("0.0.0.0:0", "")], "min = 2\nmax = 2");
    let ports = [usherd.port(0).to_string(), usherd.port(1).to_string()];
    python.run(&["addresses", &ports[0], &ports[1]]);
    usherd.stop();
}

/// Counted in the system calls that receive: which thread received how many requests. The client sees that each is answered.
#[test]
fn one_client_on_one_port_is_answered_by_both_workers() {
    let _alone = alone();
    let python = python();
    let usherd = python.before_service(&client("here", "127.0.0.1", ""), &[("", "")], "min = 1\nmax = 1");
    let (pid, port) = (usherd.process.pid().to_string(), usherd.port(0).to_string());
    let calls = usherd.folder.file("calls");
    let args = ["-f", "-qq", "-e", "trace=recvmmsg,recvfrom", "-o", &calls, "-p", &pid];
    let mut strace = Process::start("/usr/bin/strace", &args, &usherd.folder.path().join("strace"));
    wait_for("strace is attached", Duration::from_secs(5), || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mut lines = status.lines();
        lines
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            .then_some(())
    });
    python.run(&["many", &port, "2000"]);
    strace.signal("INT");
    strace.wait(Duration::from_secs(5));
    let mut received: Vec<(String, u64)> = Vec::new();
    let trace = std::fs::read_to_string(&calls).expect("strace wrote");
    // A lone request is read by the plain call, which says how long it is and not how many there are.
    let lone = |line: &str| line.contains("recvfrom") && line.contains("sa_family=AF_INET");
    for line in trace.lines().filter(|line| line.contains("recvmmsg") || lone(line)) {
        let thread = line.split_whitespace().next().unwrap_or_default().to_owned();
        let result = line.rsplit_once("= ").map(|(_, result)| result.trim().parse::<u64>());
        let count = result
            .and_then(Result::ok)
            .map(|count| if lone(line) { 1 } else { count });
        match received.iter_mut().find(|(other, _)| *other == thread) {
            Some((_, sum)) => *sum += count.unwrap_or(0),
            None => received.push((thread, count.unwrap_or(0))),
        }
    }
    let total: u64 = received.iter().map(|(_, count)| count).sum();
    assert_eq!(total, 2000, "each request was received once: {received:?}");
    assert!(
        received.len() == 2 && received.iter().all(|(_, count)| *count > 600),
        "both workers serve: {received:?}"
    );
    usherd.stop();
}

#[test]
fn a_client_gets_its_rate_and_no_more() {
    let (python, setup) = (python(), Setup::new());
    let clients = format!(
        "[client.limited]\naddress = \"127.0.0.5\"\nsecret = \"{SECRET}\"\nrate = 50\nburst = 20\n\n\
         [client.other]\naddress = \"127.0.0.6\"\nsecret = \"{SECRET}\"\n"
    );
    restrict(&setup.folder.write("clients.toml", clients));
    let lines = "clients_file = \"clients.toml\"\nanswer = \"accounting\"\naccounting = \"discard\"";
    let usherd = setup.listen("radius", "127.0.0.1:0", lines).start();
    python.run(&["limited", &usherd.port(0).to_string(), "50", "20"]);
    usherd.stop();
}

/// A way to `port` on which what the server says takes a while. Ends with the test's process.
fn late(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let own = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                continue;
            };
            let (up, down) = (
                client.try_clone().expect("a socket"),
                server.try_clone().expect("a socket"),
            );
            std::thread::spawn(move || carry(up, server, Duration::ZERO));
            std::thread::spawn(move || carry(down, client, delay));
        }
    });
    own
}

/// Each piece after the delay, and reading does not wait for that.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (pieces, taken) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, piece) in taken {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if pieces.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}

#[test]
fn a_directory_that_is_a_second_late_delays_nobody_else() {
    let _alone = alone();
    let (python, slapd) = (python(), Slapd::start());
    let port: u16 = slapd
        .url()
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let away = format!("ldap://127.0.0.1:{}", late(port, Duration::from_secs(1)));
    let setup = Setup::new();
    setup.folder.write("clients.conf", client("here", "127.0.0.1", ""));
    let setup = setup
        .directory("away", "", &[server(&away, "")])
        .directory("corp", "", &[server(&slapd.url(), "")]);
    let usherd = setup
        .listen("radius", "127.0.0.1:0", &DIRECTORY.replace("corp", "away"))
        .listen("radius", "127.0.0.1:0", DIRECTORY)
        .start();
    python.run(&["late", &usherd.port(0).to_string(), &usherd.port(1).to_string()]);
    usherd.stop();
}

/// The seconds that its end took, and its CPU time meanwhile, as the script prints them; and its exit code.
fn ended(printed: &str, mut usherd: Usherd) -> (f64, f64, Option<i32>) {
    usherd.expect_end();
    let status = usherd.process.wait(Duration::from_secs(5));
    let mut numbers = printed.split_whitespace().filter_map(|word| word.parse().ok());
    let (seconds, cpu) = (numbers.next(), numbers.next());
    (seconds.expect("seconds"), cpu.expect("CPU seconds"), status.code())
}

#[test]
fn with_a_dead_directory_the_daemon_ends_within_its_drain_time_and_does_not_spin() {
    let _alone = alone();
    let (python, slapd) = (python(), Slapd::start());
    for (terms, least, most) in [("1", 1.9, 4.0), ("2", 0.0, 1.9)] {
        // Without probes nobody finds out that the directory is dead.
        let lines = "drain_gentle = \"2s\"\ndrain_firm = \"1s\"";
        let usherd = before_slapd(&slapd, "probe_interval = \"0s\"", lines);
        slapd.freeze();
        let (port, pid) = (usherd.port(0).to_string(), usherd.process.pid().to_string());
        let printed = python.run(&["dead", &port, &pid, terms]);
        slapd.thaw();
        let (seconds, cpu, code) = ended(&printed, usherd);
        assert!(
            seconds > least && seconds < most,
            "after {terms} SIGTERM it took {seconds} s to end"
        );
        assert!(cpu < 0.2, "{cpu} s of CPU time for a drain of {seconds} s");
        assert!(matches!(code, Some(0 | 3)), "its exit code: {code:?}");
    }
}

#[test]
fn what_is_being_answered_is_answered_before_the_daemon_ends() {
    let _alone = alone();
    let python = python();
    let usherd = python.before_service(&client("here", "127.0.0.1", ""), &[("", "")], "min = 16\nmax = 16");
    let (port, pid) = (usherd.port(0).to_string(), usherd.process.pid().to_string());
    let printed = python.run(&["answered", &port, &pid]);
    let (seconds, cpu, code) = ended(&printed, usherd);
    assert!(seconds < 3.0, "it took {seconds} s to end");
    assert!(cpu < 0.2, "{cpu} s of CPU time for a drain of {seconds} s");
    assert_eq!(code, Some(0));
}

#[test]
fn reloads_under_load_lose_no_request() {
    let _alone = alone();
    let (python, slapd) = (Python::new(include_str!("radius_reload.py")), Slapd::start());
    let setup = Setup::new();
    setup.folder.write("clients.conf", client("flow", "127.7.0.0/16", ""));
    let directory = DIRECTORY.replace("\"corp\" }", "\"corp\", user = \"(uid={User-Name})\" }");
    let usherd = setup
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("radius", "127.0.0.1:0", &directory)
        .start();
    let folder = usherd.folder.path().to_str().expect("UTF-8").to_owned();
    python.run(&[&usherd.port(0).to_string(), &folder]);
    usherd.stop();
}
