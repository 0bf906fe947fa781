//! Upgrades: another process takes the daemon's place, and no client notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::calls;
use crate::client::{Client, Gone, Message, Target};
use crate::load::Load;
use crate::ops;
use crate::proc::{alone, setting, shown, wait_for};
use crate::radius_peer::Python;
use crate::slapd::{Slapd, code_dn, password, user};
use crate::usherd::{BINARY, Setup, Usherd, listener_tls, server};

/// Ends the process that has the daemon's place now, and waits until it, and those before it, are gone.
pub(crate) struct Successor<'a>(pub(crate) &'a Usherd);

impl Successor<'_> {
    pub(crate) fn pid(&self) -> u64 {
        self.0.status()["pid"].as_u64().expect("a number")
    }

    /// By `usherd upgrade`; the new process's id.
    pub(crate) fn upgrade(&self) -> u64 {
        let before = self.pid();
        let output = self.0.command(&["upgrade"]);
        assert!(
            output.status.success(),
            "{}\n{}",
            shown(&output),
            self.0.process.output()
        );
        let after = self.pid();
        assert_ne!(before, after, "another process answers");
        after
    }

    fn refused(&self, args: &[&str]) -> String {
        let before = self.pid();
        let output = self.0.command(&[&["upgrade"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert_eq!(self.pid(), before, "the old process goes on");
        shown(&output)
    }
}

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        let Some(status) = self.0.control("{\"command\":\"status\"}") else {
            return;
        };
        let pid = status["pid"].as_u64().unwrap_or_default();
        if pid == u64::from(self.0.process.pid()) {
            return;
        }
        for command in ["stop", "stop", "stop"] {
            let _ = self.0.control(&format!("{{\"command\":\"{command}\"}}"));
        }
        let end = Instant::now() + Duration::from_secs(10);
        while is_there(pid) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let gone = !is_there(pid);
        if !gone {
            let _ = std::process::Command::new("/bin/kill")
                .args(["-KILL", &pid.to_string()])
                .status();
        }
        assert!(gone || std::thread::panicking(), "process {pid} does not end");
    }
}

/// Zombies are not.
pub(crate) fn is_there(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

pub(crate) fn slow(seconds: u32) -> Vec<u8> {
    let dn = code_dn(&format!("slow{seconds}"));
    ops::search(&dn, ops::BASE, &ops::present("objectClass"), &[])
}

/// Connects, binds, asks and leaves, again and again; how often, and what went wrong.
fn visit(targets: &[Target], stop: &AtomicBool, visits: &AtomicU64) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number = number % 9_000 + 1;
        let target = &targets[number % targets.len()];
        let visited = std::panic::catch_unwind(|| {
            let mut client = Client::bound(target, &user(number), &password(number));
            for _ in 0..3 {
                assert_eq!(client.whoami(), format!("dn:{}", user(number)));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        if let Err(trouble) = visited {
            let text = trouble.downcast_ref::<String>().cloned();
            troubles.push(text.unwrap_or_else(|| "?".to_owned()));
        }
        visits.fetch_add(1, Ordering::Relaxed);
    }
    troubles
}

/// The configuration of odd and of even reloads: servers, limits and listeners' settings differ.
fn alternating(odd: bool, slapds: &[&Slapd; 2], port: u16, tls_port: u16) -> String {
    let limit = if odd {
        "search_timeout = \"20s\""
    } else {
        "operation_timeout = \"40s\""
    };
    let mut servers = vec![server(&slapds[0].url(), "")];
    if odd {
        servers.push(server(&slapds[1].url(), "weight = 2"));
    }
    let listen = |protocol: &str, port: u16, lines: &str| {
        format!(
            "[[listen]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{port}\"\ndirectory = \"corp\"\n{lines}\n"
        )
    };
    format!(
        "[directory.corp]\nidentity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \"usherd.secret\"\n{limit}\n\
         server = [{}]\n{}{}[[listen]]\nprotocol = \"ldap\"\naddress = \"unix:ldapi\"\ndirectory = \"corp\"\n",
        crate::slapd::USHERD.0,
        servers.join(", "),
        listen("ldap", port, if odd { "idle_timeout = \"1h\"" } else { "" }),
        listen("ldaps", tls_port, &tls(odd)),
    )
}

/// One certificate and another.
fn tls(odd: bool) -> String {
    if !odd {
        return listener_tls();
    }
    let (certificate, key) = crate::certificates::certificates().renewed();
    format!(
        "tls = {{ cert_file = \"{}\", key_file = \"{}\" }}",
        certificate.display(),
        key.display()
    )
}

#[test]
fn reloads_and_upgrades_under_load_lose_no_connection_and_no_operation() {
    let _machine = alone();
    let (first, second) = (Slapd::start(), Slapd::start());
    let (port, tls_port) = (crate::proc::free_port(), crate::proc::free_port());
    let text = |odd| alternating(odd, &[&first, &second], port, tls_port);
    let mut usherd = Setup::new().section(&text(false)).start();
    usherd.expect_end();
    let targets = [Target::plain(port), Target::Unix(usherd.unix("ldapi")), usherd.ldaps(1)];
    let load = Load {
        rest: Duration::from_millis(20),
        ..Load::new(&targets, 64, 2)
    };
    let (stop, visits) = (AtomicBool::new(false), AtomicU64::new(0));
    let (reloads, upgrades) = (setting("USHERD_TEST_RELOADS", 40), setting("USHERD_TEST_UPGRADES", 8));
    let successor = Successor(&usherd);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(u64::MAX, &stop));
        let visitors: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| visit(&targets, &stop, &visits)))
            .collect();
        let steps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::sleep(Duration::from_millis(500));
            for step in 0..reloads {
                usherd.rewrite(&text(step % 2 == 0));
                let answer = usherd.control("{\"command\":\"reload\"}").expect("an answer");
                assert_eq!(answer["ok"], true, "{answer}");
                if step % (reloads / upgrades).max(1) == 0 {
                    successor.upgrade();
                }
            }
            std::thread::sleep(Duration::from_millis(500));
        }));
        stop.store(true, Ordering::Relaxed);
        let tally = running.join().expect("the load ran");
        let troubles: Vec<String> = visitors
            .into_iter()
            .flat_map(|one| one.join().expect("it ran"))
            .collect();
        if let Err(panic) = steps {
            std::panic::resume_unwind(panic);
        }
        println!(
            "{reloads} reloads, {upgrades} upgrades, 64 clients: {} operations, {} visits, the slowest {:?}; {} connections \
             dropped, {} operations lost",
            tally.operations,
            visits.load(Ordering::Relaxed),
            tally.slowest,
            tally.disconnections,
            tally.read_errors + tally.write_errors + tally.bind_errors + tally.unanswered
        );
        tally.assert_untroubled();
        assert_eq!(troubles, Vec::<String>::new());
        assert!(
            tally.operations > 1_000 && visits.load(Ordering::Relaxed) > 100,
            "{tally:?}"
        );
    });
    let first = u64::from(usherd.process.pid());
    wait_for(
        "the first process ends with its last client",
        Duration::from_secs(10),
        || (!is_there(first)).then_some(()),
    );
}

#[test]
fn sigusr2_hands_over_and_the_old_process_serves_whom_it_has_and_ends_with_the_last() {
    let slapd = Slapd::start();
    let told = crate::proc::Folder::new("notify");
    let notified = std::os::unix::net::UnixDatagram::bind(told.path().join("socket")).expect("a socket");
    notified
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let variable = format!("NOTIFY_SOCKET={}", told.file("socket"));
    let mut usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .listen("ldap", "unix:ldapi", "directory = \"corp\"")
        .server("admin = \"127.0.0.1:0\"")
        .under(&["/usr/bin/env", &variable])
        .start();
    usherd.expect_end();
    let hear = || {
        let mut buffer = [0; 4096];
        let got = notified.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..got]).into_owned()
    };
    assert_eq!(hear(), "READY=1\n");
    let successor = Successor(&usherd);
    let (target, local) = (usherd.plain(0), Target::Unix(usherd.unix("ldapi")));
    let mut client = Client::bound(&target, &user(1), &password(1));
    let pending = client.send(&slow(2));
    let old = successor.pid();
    usherd.process.signal("USR2");
    let new = wait_for("another process answers", Duration::from_secs(20), || {
        let pid = usherd.control("{\"command\":\"status\"}")?["pid"].as_u64()?;
        (pid != old).then_some(pid)
    });
    let said: Vec<String> = (0..2).map(|_| hear()).collect();
    let main = format!("MAINPID={new}\nREADY=1\n");
    assert!(said.contains(&main), "systemd is told {main:?}: {said:?}");
    for target in [&target, &local] {
        assert_eq!(
            Client::bound(target, &user(2), &password(2)).whoami(),
            format!("dn:{}", user(2))
        );
    }
    let found = client.collect(pending, Duration::from_secs(5)).expect("its answer");
    assert_eq!(found.last().map(Message::code), Some(0));
    assert_eq!(
        client.whoami(),
        format!("dn:{}", user(1)),
        "the same connection, the same identity"
    );
    // The old one is still to be asked.
    let kept = usherd.folder.file(&format!("control.{old}"));
    let output = crate::proc::run(
        BINARY,
        &["status", "--json", "--control", &kept],
        Duration::from_secs(10),
    );
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(status["lifecycle"], "handed over", "{}", shown(&output));
    assert_eq!(status["clients"], 1, "{}", shown(&output));
    drop(client);
    wait_for("the old process ends", Duration::from_secs(5), || {
        (!is_there(old)).then_some(())
    });
    for name in ["control", "ldapi"] {
        assert!(usherd.unix(name).exists(), "{name} is the new one's");
    }
    assert!(!std::path::Path::new(&kept).exists());
    assert_eq!(
        Client::bound(&local, &user(2), &password(2)).whoami(),
        format!("dn:{}", user(2))
    );
}

/// Upgrades that a process has begun, that failed, and by which it was replaced; whether it took another's place itself.
fn counted(status: &serde_json::Value) -> [u64; 4] {
    let counters = &status["counters"];
    let of = |outcome: &str| {
        let counts = counters["upgrades"].as_array().into_iter().flatten();
        let found = counts.clone().find(|one| one["label"] == outcome);
        found.and_then(|one| one["count"].as_u64()).unwrap_or(u64::MAX)
    };
    let took_over = counters["took_over"].as_u64().unwrap_or(u64::MAX);
    [of("begun"), of("failed"), of("handed-over"), took_over]
}

#[test]
fn a_new_process_that_fails_or_is_late_changes_nothing() {
    let slapd = Slapd::start();
    let mut usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .server("upgrade_timeout = \"1s\"")
        .start();
    usherd.expect_end();
    let successor = Successor(&usherd);
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let good = std::fs::read_to_string(usherd.unix("usherd.toml")).expect("the configuration");
    assert!(
        successor
            .refused(&["--program", "/nowhere/usherd"])
            .contains("/nowhere/usherd")
    );
    assert!(
        successor
            .refused(&["--program", "/bin/false"])
            .contains("ended before it was ready")
    );
    let late = usherd.folder.write("late", "#!/bin/sh\nexec sleep 600\n");
    std::fs::set_permissions(&late, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own file");
    assert!(successor.refused(&["--program", &late]).contains("upgrade_timeout"));
    usherd
        .folder
        .write("usherd.toml", good.replace("usherd.secret", "nothing.secret"));
    assert!(successor.refused(&[]).contains("before it was ready"));
    usherd.folder.write("usherd.toml", good);
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    assert_eq!(
        Client::bound(&usherd.plain(0), &user(2), &password(2)).whoami(),
        format!("dn:{}", user(2))
    );
    assert_eq!(counted(&usherd.status()), [4, 4, 0, 0]);
    let old = successor.pid();
    successor.upgrade();
    assert_eq!(counted(&usherd.status()), [0, 0, 0, 1]);
    let kept = usherd.folder.file(&format!("control.{old}"));
    let output = crate::proc::run(
        BINARY,
        &["status", "--json", "--control", &kept],
        Duration::from_secs(10),
    );
    let status = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(counted(&status), [5, 4, 1, 0], "{}", shown(&output));
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    assert_eq!(
        Client::bound(&usherd.plain(0), &user(2), &password(2)).whoami(),
        format!("dn:{}", user(2))
    );
}

#[test]
fn who_is_left_to_the_old_process_is_drained_when_the_time_is_over() {
    let slapd = Slapd::start();
    let mut usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .server("upgrade_linger = \"500ms\"")
        .start();
    usherd.expect_end();
    let successor = Successor(&usherd);
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let (old, start) = (successor.pid(), Instant::now());
    successor.upgrade();
    let said = client.until_closed(Duration::from_secs(5));
    assert!(
        matches!(said.as_slice(), [notice] if notice.is_disconnection()),
        "{said:?}"
    );
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    wait_for("the old process ends", Duration::from_secs(5), || {
        (!is_there(old)).then_some(())
    });
}

#[test]
fn calls_of_services_pass_through_upgrades() {
    let mut usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section("[service.upper]\nhelper = \"exec\"\nprogram = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]\nmax = 4\n")
        .start();
    usherd.expect_end();
    let successor = Successor(&usherd);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stays: Vec<_> = (0..4)
            .map(|number: usize| {
                let (usherd, stop) = (&usherd, &stop);
                scope.spawn(move || {
                    let mut client = calls::Client::connect(usherd);
                    let mut calls = 0;
                    while !stop.load(Ordering::Relaxed) {
                        if number % 2 == 1 {
                            client = calls::Client::connect(usherd);
                        }
                        assert_eq!(client.ask("upper", b"hello"), calls::Ended::Answer(b"HELLO".to_vec()));
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let steps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(100));
                successor.upgrade();
            }
            std::thread::sleep(Duration::from_millis(200));
        }));
        stop.store(true, Ordering::Relaxed);
        let calls: Vec<i32> = stays
            .into_iter()
            .map(|one| one.join().expect("no call is lost"))
            .collect();
        if let Err(panic) = steps {
            std::panic::resume_unwind(panic);
        }
        assert!(calls.iter().all(|calls| *calls > 5), "{calls:?}");
    });
}

#[test]
fn radius_requests_pass_through_upgrades() {
    let _alone = alone();
    let (python, slapd) = (Python::new(include_str!("radius_upgrade.py")), Slapd::start());
    let setup = Setup::new();
    let flow = "client flow {\n\tipaddr = 127.7.0.0/16\n\tsecret = \"a secret of the tests\"\n}\n";
    crate::usherd::restrict(&setup.folder.write("clients.conf", flow));
    let mut usherd = setup
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen(
            "radius",
            "127.0.0.1:0",
            "clients_file = \"clients.conf\"\nreject_delay = \"0s\"\nauthenticate = { directory = \"corp\" }\naccounting = { file = \"records\" }",
        )
        .start();
    usherd.expect_end();
    let _successor = Successor(&usherd);
    let turns = setting("USHERD_TEST_UPGRADES", 8).to_string();
    python.run(&[
        &usherd.port(0).to_string(),
        &usherd.folder.file("control"),
        &turns,
        &usherd.folder.file("records"),
    ]);
}

#[test]
fn a_written_local_directory_and_its_feed_go_over_with_what_was_written_last() {
    let setup = Setup::new();
    setup.folder.write(
        "people.ldif",
        "dn: dc=example,dc=com\nobjectClass: domain\ndc: example\n\ndn: uid=admin,dc=example,dc=com\nobjectClass: account\n\
         uid: admin\nuserPassword: secret\n",
    );
    let mut usherd = setup
        .section(
            "[directory.here]\nbase = \"dc=example,dc=com\"\nserver = [{ ldif = \"people.ldif\", writable = true, write_back = true, admins = \
             [\"uid=admin,dc=example,dc=com\"] }]\n[feed.here]\ndirectory = \"here\"\nstate = \"state\"\n\
             sink = { type = \"file\", path = \"out\" }\n",
        )
        .listen("ldap", "127.0.0.1:0", "directory = \"here\"")
        .start();
    usherd.expect_end();
    let successor = Successor(&usherd);
    let target = usherd.plain(0);
    let admin = "uid=admin,dc=example,dc=com";
    for turn in 0..3 {
        let mut client = Client::bound(&target, admin, "secret");
        let dn = format!("uid=new{turn},dc=example,dc=com");
        let uid = format!("new{turn}");
        let added = client.one(&ops::add(&dn, &[("objectClass", &["account"]), ("uid", &[&uid])]));
        assert_eq!(added.code(), 0, "{added:?}");
        successor.upgrade();
        let said = client.until_closed(Duration::from_secs(5));
        assert!(said.last().is_some_and(Message::is_disconnection), "{said:?}");
        let mut client = Client::bound(&target, admin, "secret");
        let found = client.call(&ops::search(&dn, ops::BASE, &ops::present("objectClass"), &["1.1"]));
        assert_eq!(found.last().map(Message::code), Some(0), "{found:?}");
        assert_eq!(client.receive(Duration::from_millis(50)).err(), Some(Gone::Timeout));
        wait_for("the feed goes on", Duration::from_secs(20), || {
            let events = std::fs::read_to_string(usherd.unix("out")).unwrap_or_default();
            events.contains(&format!("{dn:?}")).then_some(())
        });
    }
    assert!(
        !usherd.unix("people.ldif.unsaved").exists(),
        "{}",
        usherd.process.output()
    );
}

/// The first process of a container has no default action for it, nor has one whose parent ignores it.
#[test]
fn sigterm_is_not_lost_while_the_configuration_is_read() {
    let slapd = Slapd::start();
    let setup = Setup::corp("", &[server(&slapd.url(), "")]);
    let (folder, file) = setup.written();
    let secret = folder.file("usherd.secret");
    std::fs::remove_file(&secret).expect("our own file");
    let made = std::process::Command::new("/usr/bin/mkfifo")
        .args(["-m", "600", &secret])
        .status();
    assert!(made.is_ok_and(|made| made.success()), "mkfifo, of coreutils");
    let log = folder.path().join("log");
    let args = ["--ignore-signal=TERM", BINARY, "run", "-c", &file, "--log", "human"];
    let mut process = crate::proc::Process::start("/usr/bin/env", &args, &log);
    // It is opened for writing once somebody reads.
    let writer = wait_for("the secret is being read", Duration::from_secs(10), || {
        let nonblocking = 0o4000;
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.write(true), nonblocking)
            .open(&secret)
            .ok()
    });
    process.signal("TERM");
    let status = process.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", process.output());
    drop(writer);
}

/// Whenever it comes: between the start of the program and the moment in which it serves nothing swallows it.
#[test]
fn sigterm_ends_a_daemon_at_any_moment_of_its_start() {
    let slapd = Slapd::start();
    let setup = Setup::corp("", &[server(&slapd.url(), "")]).section(
        "[service.w]\nhelper = \"exec\"\nprogram = [\"/bin/cat\"]\nmax = 4\n[[listen]]\nprotocol = \"rpc\"\n\
         address = \"unix:rpc\"\n",
    );
    let (folder, file) = setup.written();
    let log = folder.path().join("log");
    for turn in 0..100_u32 {
        let args = ["run", "-c", &file, "--log", "human"];
        let mut process = crate::proc::Process::start(BINARY, &args, &log);
        std::thread::sleep(Duration::from_micros(u64::from(turn) * 500));
        process.signal("TERM");
        let status = process.wait(Duration::from_secs(10));
        use std::os::unix::process::ExitStatusExt;
        let ended = status.code() == Some(0) || status.signal() == Some(15);
        assert!(ended, "after {turn} times 0.5 ms: {status}\n{}", process.output());
    }
}
