//! Accounting records in files: what stands in them, where they are, and disks that are full.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use wire::radius::{Code, Packet, Secret, Writer, number};

use crate::commands::get;
use crate::proc::{Folder, Process, alone, free_port, run, shown, wait_for};
use crate::radius::{SECRET, got, radclient_to};
use crate::usherd::{Setup, Usherd, restrict};

/// Acct-Status-Type.
pub(crate) const START: u32 = 1;
pub(crate) const STOP: u32 = 2;
pub(crate) const INTERIM: u32 = 3;
pub(crate) const ON: u32 = 7;

/// An access server that tells of sessions.
pub(crate) struct Nas {
    socket: UdpSocket,
    port: u16,
    identifier: u8,
}

impl Nas {
    pub(crate) fn new(from: &str, port: u16) -> Nas {
        let socket = UdpSocket::bind((from, 0)).expect("an address of this machine");
        let identifier = 0;
        Nas {
            socket,
            port,
            identifier,
        }
    }

    /// A record, without waiting for its acknowledgement. Its octets.
    pub(crate) fn send(&mut self, session: &str, status: u32, more: &[(u8, &[u8])]) -> Vec<u8> {
        self.identifier = self.identifier.wrapping_add(1);
        let mut octets = Vec::new();
        let mut writer = Writer::request(&mut octets, Code::ACCOUNTING_REQUEST, self.identifier, &[0; 16]);
        let own = [
            (number::ACCT_STATUS_TYPE, &status.to_be_bytes()[..]),
            (number::ACCT_SESSION_ID, session.as_bytes()),
            (number::USER_NAME, b"bob"),
            (number::NAS_IP_ADDRESS, &[192, 0, 2, 1]),
        ];
        for (number, value) in own.iter().chain(more) {
            writer.attribute(*number, value).expect("it fits");
        }
        writer.finish(&Secret::new(SECRET.as_bytes())).expect("it fits");
        self.again(&octets);
        octets
    }

    pub(crate) fn again(&self, octets: &[u8]) {
        self.socket
            .send_to(octets, ("127.0.0.1", self.port))
            .expect("it can be sent");
    }

    /// Whether this record is acknowledged within that time.
    pub(crate) fn heard(&self, octets: &[u8], limit: Duration) -> bool {
        let request = Packet::parse(octets).expect("our own");
        let until = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_read_timeout(Some(left)).expect("a socket");
            // Nobody listens while a daemon starts again.
            let Ok(bytes) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let answer = Packet::parse(&buffer[..bytes]).expect("an answer is a packet");
            if answer.identifier() == request.identifier() {
                assert_eq!(answer.code(), Code::ACCOUNTING_RESPONSE);
                let secret = Secret::new(SECRET.as_bytes());
                assert!(answer.check_response(&secret, request.authenticator()));
                return true;
            }
        }
    }

    /// Sends a record once, and says whether it was acknowledged.
    pub(crate) fn tells(&mut self, session: &str, status: u32, more: &[(u8, &[u8])]) -> bool {
        let octets = self.send(session, status, more);
        self.heard(&octets, Duration::from_secs(5))
    }
}

/// A daemon that keeps records so, for clients of this machine: `here` is 127.0.0.1, and `a/b` is 127.0.0.2.
pub(crate) fn setup() -> Setup {
    let setup = Setup::new();
    let client =
        |name: &str, address: &str| format!("[client.\"{name}\"]\naddress = \"{address}\"\nsecret = \"{SECRET}\"\n\n");
    let clients = client("here", "127.0.0.1") + &client("a/b", "127.0.0.2");
    restrict(&setup.folder.write("clients.toml", clients));
    setup
}

pub(crate) fn listener(accounting: &str) -> String {
    format!("clients_file = \"clients.toml\"\nanswer = \"accounting\"\naccounting = {accounting}")
}

fn start(setup: Setup, accounting: &str) -> Usherd {
    setup.listen("radius", "127.0.0.1:0", &listener(accounting)).start()
}

/// The records of a file; each line must be one.
pub(crate) fn lines(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn record: {text}");
    let parsed = text.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().expect("every line is a record")
}

pub(crate) fn sessions(records: &[Json]) -> Vec<&str> {
    records.iter().filter_map(|record| record["session"].as_str()).collect()
}

pub(crate) fn figures(usherd: &Usherd, index: usize) -> Json {
    usherd.status()["radius"][index]["records"].clone()
}

const ATTRIBUTES: &str = "User-Name = \"bob \\\"q\\\" \\\\ ü\", Acct-Status-Type = Stop, Acct-Session-Id = \"8f2c\", \
    NAS-IP-Address = 192.0.2.1, NAS-Port = 7, NAS-Port-Type = Wireless-802.11, Framed-IP-Address = 192.0.2.77, \
    Framed-IPv6-Prefix = 2001:db8:1::/64, Called-Station-Id = \"00-53-00-12-34-56:wifi\", Class = 0x00ff10, \
    Event-Timestamp = \"Nov 27 2026 05:50:32 UTC\", Acct-Delay-Time = 5, Acct-Session-Time = 3600, \
    Acct-Input-Octets = 5, Acct-Input-Gigawords = 2, Acct-Terminate-Cause = User-Request, Tunnel-Type:1 = VLAN, \
    Tunnel-Private-Group-Id:1 = \"12\", Cisco-AVPair = \"a=b\", Cisco-AVPair = \"c=d\", Service-Type = 99";

/// FreeRADIUS with nothing but its detail module.
fn freeradius(folder: &Folder, zone: &str) -> (Process, u16, PathBuf) {
    let (port, file) = (free_port(), folder.path().join("theirs"));
    let configuration = format!(
        "name = usherd-test\nprefix = /usr\nlibdir = /usr/lib/freeradius\nlogdir = {folder}\nrun_dir = {folder}\n\
         security {{\n\tallow_vulnerable_openssl = yes\n}}\n\
         thread pool {{\n\tstart_servers = 1\n}}\n\
         client here {{\n\tipaddr = 127.0.0.1\n\tsecret = \"{SECRET}\"\n}}\n\
         modules {{\n\tdetail {{\n\t\tfilename = {file}\n\t\tescape_filenames = no\n\t\tpermissions = 0600\n\
         \t\theader = \"%t\"\n\t\tlocking = no\n\t\tlog_packet_header = no\n\t}}\n}}\n\
         server default {{\n\tlisten {{\n\t\ttype = acct\n\t\tipaddr = 127.0.0.1\n\t\tport = {port}\n\t}}\n\
         \taccounting {{\n\t\tdetail\n\t}}\n}}\n",
        folder = folder.path().display(),
        file = file.display(),
    );
    folder.write("radiusd.conf", configuration);
    let zone = format!("TZ={zone}");
    let own = folder.path().to_str().expect("UTF-8");
    let args = [&zone, "/usr/sbin/freeradius", "-f", "-l", "stdout", "-d", own];
    crate::proc::require("/usr/sbin/freeradius");
    let mut process = Process::start("/usr/bin/env", &args, &folder.path().join("log"));
    wait_for("FreeRADIUS listens", Duration::from_secs(20), || {
        assert!(process.ended().is_none(), "{}", process.output());
        process.output().contains("Ready to process requests").then_some(())
    });
    (process, port, file)
}

#[test]
fn a_detail_record_is_the_one_that_freeradius_writes_beside_it() {
    // A quarter of an hour that no zone of a test machine has.
    let zone = "NPT-5:45";
    let folder = Folder::new("freeradius");
    let (_theirs, port, theirs) = freeradius(&folder, zone);
    let setup = setup().under(&["/usr/bin/env", &format!("TZ={zone}")]);
    let usherd = start(setup, "{ file = \"ours\", format = \"detail\" }");
    let ours = usherd.folder.path().join("ours");
    for port in [port, usherd.port(0)] {
        let output = radclient_to(&format!("127.0.0.1:{port}"), SECRET, "acct", ATTRIBUTES, &[]);
        got(&output, "Accounting-Response");
    }
    let read = |path: &Path| std::fs::read_to_string(path).expect("it was written");
    let (ours, theirs) = (read(&ours), read(&theirs));
    let body = |text: &str| -> Vec<String> {
        let lines = text.lines().skip(1).filter(|line| !line.starts_with("\tTimestamp = "));
        // The one difference: our dates are in UTC.
        lines.map(|line| line.replace("11:35:32 NPT", "05:50:32 UTC")).collect()
    };
    assert_eq!(body(&ours), body(&theirs), "ours:\n{ours}\ntheirs:\n{theirs}");
    assert!(body(&ours).len() > 20, "{ours}");
    // The first line is the time of the last, in the zone of the machine.
    for text in [&ours, &theirs] {
        let stamp = text
            .lines()
            .find_map(|line| line.strip_prefix("\tTimestamp = "))
            .expect("it has one");
        let date = ["-d", &format!("@{stamp}"), "+%a %b %e %H:%M:%S %Y"].map(str::to_owned);
        let date = crate::proc::run_with(
            "/bin/date",
            &date,
            &[("TZ", zone), ("LC_ALL", "C")],
            Duration::from_secs(5),
        );
        let date = String::from_utf8(date.stdout).expect("UTF-8");
        assert_eq!(text.lines().next(), Some(date.trim()), "{text}");
    }
    usherd.stop();
}

#[test]
fn each_client_and_day_has_its_file() {
    let setup = setup();
    std::fs::create_dir(setup.folder.path().join("out")).expect("our own folder");
    let usherd = start(setup, "{ file = \"out/%{client}/%Y/records-%Y%m%d\" }");
    let port = usherd.port(0);
    for (from, session) in [("127.0.0.1", "one"), ("127.0.0.2", "two"), ("127.0.0.1", "three")] {
        assert!(Nas::new(from, port).tells(session, START, &[]), "{session}");
    }
    let found = |client: &str| {
        let folder = usherd.folder.path().join("out").join(client);
        let years: Vec<_> = std::fs::read_dir(&folder).expect("it was made").flatten().collect();
        let mut all = Vec::new();
        for day in years
            .iter()
            .flat_map(|year| std::fs::read_dir(year.path()).expect("a folder").flatten())
        {
            let name = day.file_name().into_string().expect("UTF-8");
            for line in lines(&day.path()) {
                // The day of the record, in UTC.
                let time = line["time"].as_str().expect("a time").replace('-', "");
                assert_eq!(name, format!("records-{}", &time[..8]));
                all.push(line);
            }
        }
        sessions(&all)
            .iter()
            .map(|session| (*session).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("here"), ["one", "three"]);
    assert_eq!(found("a_b"), ["two"]);
    usherd.stop();
}

#[test]
fn a_file_is_put_away_when_it_is_large_and_those_that_are_moved_away_are_left() {
    let usherd = start(
        setup(),
        "{ file = \"records\", rotate_bytes = \"64KiB\", keep = 9, sync = false }",
    );
    let file = |name: &str| usherd.folder.path().join(name);
    let mut nas = Nas::new("127.0.0.1", usherd.port(0));
    // Some 600 bytes each: four files, and a bit.
    let filling = [b'x'; 250];
    for n in 0..400 {
        assert!(
            nas.tells(&format!("s{n}"), INTERIM, &[(number::REPLY_MESSAGE, &filling)]),
            "{n}"
        );
    }
    let names = (1..9)
        .rev()
        .map(|n| format!("records.{n}"))
        .chain(["records".to_owned()]);
    let kept: Vec<(String, Vec<Json>)> = names.map(|name| (name.clone(), lines(&file(&name)))).collect();
    let all: Vec<&str> = kept.iter().flat_map(|(_, records)| sessions(records)).collect();
    let right: Vec<String> = (0..400).map(|n| format!("s{n}")).collect();
    assert_eq!(all, right, "all, in order, over all files");
    assert!(kept.iter().filter(|(_, records)| !records.is_empty()).count() >= 4);
    // Who moves a file away himself says so, or says nothing.
    for (n, tells) in [true, false].into_iter().enumerate() {
        let (moved, before) = (file(&format!("moved{n}")), lines(&file("records")).len());
        std::fs::rename(file("records"), &moved).expect("our own");
        if tells {
            let told = usherd.command(&["reload"]);
            assert!(told.status.success(), "{}", shown(&told));
        }
        assert!(nas.tells("behind", STOP, &[]));
        assert_eq!(lines(&moved).len(), before, "what was moved away is left");
        assert_eq!(sessions(&lines(&file("records"))), ["behind"]);
    }
    usherd.stop();
}

/// A daemon that cannot make a file larger than a mebibyte, as on a full disk, until it may.
fn on_a_small_disk(accounting: &str, server: &str) -> Usherd {
    let limited = "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" \"$@\"";
    let setup = setup().server(server).under(&["/bin/sh", "-c", limited]);
    let filled = "{\"session\":\"filled\"}\n".repeat((1 << 20) / 21);
    setup.folder.write("records", filled);
    start(setup, accounting)
}

fn has_room_again(usherd: &Usherd) {
    let pid = usherd.process.pid().to_string();
    let done = run(
        "/usr/bin/prlimit",
        &["--pid", &pid, "--fsize=unlimited"],
        Duration::from_secs(5),
    );
    assert!(done.status.success(), "{}", shown(&done));
}

fn fresh(usherd: &Usherd) -> Vec<String> {
    let records = lines(&usherd.folder.path().join("records"));
    let fresh = sessions(&records).into_iter().filter(|session| *session != "filled");
    fresh.map(str::to_owned).collect()
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_no_record_is_torn() {
    let usherd = on_a_small_disk("{ file = \"records\" }", "");
    let mut nas = Nas::new("127.0.0.1", usherd.port(0));
    let octets = nas.send("waits", START, &[]);
    assert!(
        !nas.heard(&octets, Duration::from_millis(700)),
        "acknowledged on a full disk"
    );
    assert_eq!(fresh(&usherd), [""; 0]);
    let told = figures(&usherd, 0);
    assert!(told["refused"].as_u64() >= Some(1) && told["written"] == 0, "{told}");
    let error = told["last_error"].as_str().expect("text");
    assert!(error.contains("records: File too large"), "{told}");
    has_room_again(&usherd);
    // As its NAS does: the same again.
    nas.again(&octets);
    assert!(nas.heard(&octets, Duration::from_secs(5)), "there is room again");
    assert_eq!(fresh(&usherd), ["waits"]);
    let told = figures(&usherd, 0);
    assert_eq!(
        (&told["written"], &told["last_error"]),
        (&1.into(), &"".into()),
        "{told}"
    );
    usherd.stop();
}

#[test]
fn on_a_full_disk_records_are_kept_in_the_spool_and_written_when_there_is_room() {
    let usherd = on_a_small_disk("{ file = \"records\" }", "state_dir = \"state\"");
    let mut nas = Nas::new("127.0.0.1", usherd.port(0));
    for n in 0..20 {
        assert!(
            nas.tells(&format!("s{n}"), START, &[]),
            "{n} is not acknowledged: {}",
            figures(&usherd, 0)
        );
    }
    assert_eq!(fresh(&usherd), [""; 0]);
    let shown_to_people = String::from_utf8(usherd.command(&["status"]).stdout).expect("UTF-8");
    assert!(
        shown_to_people.contains("accounting: 0 written, 0 waiting, 20 in the spool: "),
        "{shown_to_people}"
    );
    let told = figures(&usherd, 0);
    assert_eq!(
        (&told["spooled"], &told["spool_records"]),
        (&20.into(), &20.into()),
        "{told}"
    );
    has_room_again(&usherd);
    usherd.until("what was kept is written", |status| {
        let records = &status["radius"][0]["records"];
        records["replayed"] == 20 && records["spool_records"] == 0 && records["last_error"] == ""
    });
    let right: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    assert_eq!(fresh(&usherd), right, "once each, in order");
    assert!(nas.tells("behind", START, &[]));
    assert_eq!(fresh(&usherd).last().map(String::as_str), Some("behind"));
    usherd.stop();
}

#[test]
fn listeners_with_the_same_file_share_its_writer() {
    let _alone = alone();
    let admin = free_port();
    let accounting = "{ file = \"records\", rotate_bytes = \"64KiB\", keep = 100 }";
    let setup = setup().server(&format!("admin = \"127.0.0.1:{admin}\""));
    let other = listener(&accounting.replace("\"records\"", "\"./records\""));
    let usherd = setup
        .listen("radius", "127.0.0.1:0", &listener(accounting))
        .listen("radius", "127.0.0.1:0", &other)
        .start();
    let ports = [usherd.port(0), usherd.port(1)];
    let told = |n: usize, port: u16| {
        let mut nas = Nas::new("127.0.0.1", port);
        (0..150)
            .filter(|at| nas.tells(&format!("s{n}-{at}"), INTERIM, &[]))
            .count()
    };
    let acknowledged: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|n| scope.spawn(move || told(n, ports[n % 2]))).collect();
        all.into_iter().map(|one| one.join().expect("no panic")).sum()
    });
    assert_eq!(acknowledged, 8 * 150);
    let mut all = Vec::new();
    for n in 0..100 {
        let name = if n == 0 {
            "records".to_owned()
        } else {
            format!("records.{n}")
        };
        all.extend(lines(&usherd.folder.path().join(name)));
    }
    let unique: BTreeSet<&str> = sessions(&all).into_iter().collect();
    assert_eq!((all.len(), unique.len()), (8 * 150, 8 * 150), "each once");
    // One of them tells, for both; and the metrics say the same.
    let status = usherd.status();
    let written: Vec<&Json> = (0..2).map(|at| &status["radius"][at]["records"]["written"]).collect();
    assert!(
        written.contains(&&1200.into()) && written.contains(&&Json::Null),
        "{written:?}"
    );
    let (_, page) = get(admin, "/metrics").expect("it is served");
    let metrics: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("usherd_radius_records_written_total{"))
        .collect();
    assert!(metrics.len() == 1 && metrics[0].ends_with(" 1200"), "{metrics:?}");
    // Over a reload that parts them each has its own.
    let parted = std::fs::read_to_string(usherd.folder.file("usherd.toml")).expect("it is there");
    std::fs::write(usherd.folder.file("usherd.toml"), parted.replace("./records", "others")).expect("our own");
    let done = usherd.command(&["reload"]);
    assert!(done.status.success(), "{}", shown(&done));
    let before = lines(&usherd.folder.path().join("records")).len();
    assert!(Nas::new("127.0.0.1", ports[1]).tells("parted", STOP, &[]));
    assert!(Nas::new("127.0.0.1", ports[0]).tells("stays", STOP, &[]));
    assert_eq!(sessions(&lines(&usherd.folder.path().join("others"))), ["parted"]);
    assert_eq!(lines(&usherd.folder.path().join("records")).len(), before + 1);
    // And over one that joins them again.
    std::fs::write(usherd.folder.file("usherd.toml"), parted).expect("our own");
    let done = usherd.command(&["reload"]);
    assert!(done.status.success(), "{}", shown(&done));
    for port in ports {
        assert!(Nas::new("127.0.0.1", port).tells("joined", STOP, &[]));
    }
    let joined = lines(&usherd.folder.path().join("records"));
    assert_eq!(
        sessions(&joined).iter().filter(|session| **session == "joined").count(),
        2
    );
    usherd.stop();
}

#[test]
fn a_spool_that_nobody_has_is_told_of_at_the_start() {
    let mut usherd = on_a_small_disk("{ file = \"records\" }", "state_dir = \"state\"");
    assert!(Nas::new("127.0.0.1", usherd.port(0)).tells("kept", START, &[]));
    let file = usherd.folder.file("usherd.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let other = text.replace("file = \"records\"", "file = \"new\"");
    let elsewhere = other.replace("127.0.0.1:0\"", &format!("127.0.0.1:{}\"", free_port()));
    assert!(elsewhere != other, "{text}");
    std::fs::write(&file, elsewhere).expect("our own");
    usherd.restart();
    let told = usherd.process.output();
    assert!(
        told.contains("records=1") && told.contains("accounting records wait in a spool"),
        "{told}"
    );
    // As it was before it is delivered.
    std::fs::write(&file, text).expect("our own");
    usherd.restart();
    usherd.until("a replay", |status| status["radius"][0]["records"]["replayed"] == 1);
    assert_eq!(fresh(&usherd), ["kept"]);
    usherd.stop();
}

#[test]
fn a_record_is_on_the_disk_before_its_acknowledgement_leaves() {
    let usherd = start(setup(), "{ file = \"records\" }");
    let (calls, pid) = (usherd.folder.file("strace"), usherd.process.pid().to_string());
    let log = usherd.folder.path().join("strace.log");
    let args = [
        "-f",
        "-e",
        "trace=write,fdatasync,sendto,sendmmsg",
        "-o",
        &calls,
        "-p",
        &pid,
    ];
    let mut strace = Process::start("/usr/bin/strace", &args, &log);
    wait_for("strace is attached", Duration::from_secs(5), || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mut lines = status.lines();
        lines
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            .then_some(())
    });
    assert!(Nas::new("127.0.0.1", usherd.port(0)).tells("one", START, &[]));
    strace.signal("INT");
    strace.wait(Duration::from_secs(5));
    let trace = std::fs::read_to_string(&calls).expect("strace wrote");
    let at = |words: &str| trace.lines().position(|line| line.contains(words));
    // The end of the call: what a thread was interrupted in is told in two lines.
    let synced = trace
        .lines()
        .position(|line| line.contains("fdatasync") && line.trim_end().ends_with("= 0"));
    let sent = at("AF_INET").expect("an answer");
    let written = at("{\\\"time").expect("a write");
    assert!(
        synced.is_some_and(|synced| written < synced && synced < sent),
        "{trace}"
    );
    usherd.stop();
}

#[test]
fn reloads_that_move_the_file_lose_no_record() {
    let _alone = alone();
    let usherd = start(setup(), "{ file = \"a\" }");
    let (port, file) = (usherd.port(0), usherd.folder.file("usherd.toml"));
    let text = std::fs::read_to_string(&file).expect("it is there");
    let over = AtomicBool::new(false);
    let told: usize = std::thread::scope(|scope| {
        let over = &over;
        let tell = move |n: usize| {
            let (mut nas, mut count) = (Nas::new("127.0.0.1", port), 0);
            while !over.load(Ordering::Relaxed) {
                assert!(nas.tells(&format!("s{n}-{count}"), INTERIM, &[]), "{n}: {count}");
                count += 1;
            }
            count
        };
        let all: Vec<_> = (0..4).map(|n| scope.spawn(move || tell(n))).collect();
        for turn in 0..12 {
            let now = text.replace("file = \"a\"", &format!("file = \"{}\"", ["b", "a"][turn % 2]));
            std::fs::write(&file, now).expect("our own");
            let done = usherd.command(&["reload"]);
            assert!(done.status.success(), "{}", shown(&done));
            std::thread::sleep(Duration::from_millis(60));
        }
        over.store(true, Ordering::Relaxed);
        all.into_iter().map(|one| one.join().expect("no panic")).sum()
    });
    let kept = ["a", "b"].map(|name| lines(&usherd.folder.path().join(name)));
    assert!(kept.iter().all(|records| records.len() > 10), "both were written to");
    let unique: BTreeSet<&str> = kept.iter().flat_map(|records| sessions(records)).collect();
    let all: usize = kept.iter().map(Vec::len).sum();
    assert_eq!((all, unique.len()), (told, told), "each once");
    usherd.stop();
}

/// The records of each session, in the order in which they came first.
pub(crate) fn orders(records: &[Json]) -> BTreeMap<String, Vec<String>> {
    let mut orders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let (Some(session), Some(status)) = (record["session"].as_str(), record["status"].as_str()) else {
            panic!("no session or status: {record}");
        };
        let order = orders.entry(session.to_owned()).or_default();
        if !order.iter().any(|known| known == status) {
            order.push(status.to_owned());
        }
    }
    orders
}
