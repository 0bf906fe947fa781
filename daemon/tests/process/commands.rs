//! What a newcomer types: `demo`, `ldap run`, `check`, `status`, and the admin address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Target};
use crate::ops::{self, present};
use crate::proc::{Folder, Process, free_port, run, shown, wait_for};
use crate::slapd::{BASE, Slapd, USHERD, password, user};
use crate::usherd::{BINARY, Setup, restrict, server};

/// The body of a GET, and whether its status is 200.
pub(crate) fn get(port: u16, path: &str) -> Option<(bool, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1) == Some("200"), body.to_owned()))
}

#[test]
fn the_demo_answers_while_its_directories_die_in_turn_and_ends_with_0_on_ctrl_c() {
    let (port, admin) = (free_port(), free_port());
    let folder = Folder::new("demo");
    let (listen, at) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
    let control = folder.file("control");
    let args = [
        "demo",
        "--listen",
        &listen,
        "--admin",
        &at,
        "--every",
        "1s",
        "--people",
        "80",
        "--control",
        &control,
        "--radius",
        "",
    ];
    let log = folder.path().join("log");
    let mut demo = Process::start(BINARY, &args, &log);
    wait_for("the demo is ready", Duration::from_secs(10), || {
        get(admin, "/readyz").filter(|(ready, _)| *ready)
    });
    let url = format!("ldap://127.0.0.1:{port}");
    let search = ["-x", "-LLL", "-H", &url, "-b", BASE, "(objectClass=person)", "uid"];
    let first = run("/usr/bin/ldapsearch", &search, Duration::from_secs(10));
    assert!(first.status.success(), "{}", shown(&first));
    let people = String::from_utf8_lossy(&first.stdout)
        .lines()
        .filter(|line| line.starts_with("uid: "))
        .count();
    assert!(people >= 70, "{people} people");
    let service = format!("unix:{}", folder.path().join("rpc.sock").display());
    assert!(
        demo.output()
            .contains(&format!("usherd call --connect {service} upper 'hello, world'")),
        "{}",
        demo.output()
    );
    let called = run(
        BINARY,
        &["call", "--connect", &service, "upper", "hello, world"],
        Duration::from_secs(10),
    );
    assert_eq!(called.stdout, b"HELLO, WORLD", "{}", shown(&called));
    let mut client = Client::connect(&Target::plain(port));
    let (start, mut asked) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(9) {
        let found = client.call(&ops::search(BASE, ops::SUB, &present("uid"), &["uid"]));
        assert_eq!(
            found.last().map(crate::client::Message::code),
            Some(0),
            "after {:?}\n{}",
            start.elapsed(),
            demo.output()
        );
        assert!(
            found.len() >= people,
            "{} of {people} after {:?}",
            found.len(),
            start.elapsed()
        );
        asked += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(asked > 100, "too few to notice anything: {asked}");
    assert!(
        demo.output().matches("is dead").count() >= 2,
        "nobody died:\n{}",
        demo.output()
    );
    demo.signal("INT");
    assert_eq!(demo.wait(Duration::from_secs(5)).code(), Some(0), "{}", demo.output());
    assert!(!demo.output().contains("panicked"), "{}", demo.output());
}

/// The demo's feed has told of a change of a title, and not of who lives there.
fn assert_told(demo: &Process, dn: &str) {
    let told = || -> Vec<serde_json::Value> {
        let said = demo.output();
        let lines = said.lines().filter(|line| line.starts_with("{\"seq\""));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let event = wait_for("the feed tells of it", Duration::from_secs(10), || {
        told().into_iter().find(|event| event["op"] == "modify")
    });
    assert_eq!(
        (&event["dn"], &event["changed"][0], &event["attributes"]["title"][0]),
        (&dn.into(), &"title".into(), &"Head".into())
    );
    let entries = told().into_iter().filter(|event| event["op"] == "add").count();
    assert_eq!(entries, 0, "{}", demo.output());
}

#[test]
fn what_is_written_to_the_demo_is_in_both_of_its_directories() {
    let (port, admin) = (free_port(), free_port());
    let folder = Folder::new("demo");
    let (listen, at) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
    let control = folder.file("control");
    let args = [
        "demo",
        "--listen",
        &listen,
        "--admin",
        &at,
        "--every",
        "0s",
        "--people",
        "20",
        "--control",
        &control,
        "--radius",
        "",
    ];
    let mut demo = Process::start(BINARY, &args, &folder.path().join("log"));
    wait_for("the demo is ready", Duration::from_secs(10), || {
        get(admin, "/readyz").filter(|(ready, _)| *ready)
    });
    // As it says itself.
    let said = demo.output();
    let words = |before: &str| {
        let at = said.find(before).unwrap_or_else(|| panic!("no `{before}`\n{said}")) + before.len();
        said[at..]
            .split_whitespace()
            .next()
            .expect("a word")
            .trim_matches('\'')
            .to_owned()
    };
    let administrator = said
        .lines()
        .find(|line| line.trim_start().starts_with("ldapmodify"))
        .expect("a line");
    let word = |flag: &str| {
        let mut words = administrator.split_whitespace().skip_while(|word| *word != flag);
        words.nth(1).expect("a word").to_owned()
    };
    let someone = words("uid=").split(',').next().expect("a name").to_owned();
    let dn = format!("uid={someone},ou=people,{BASE}");
    let mut client = Client::bound(&Target::plain(port), &word("-D"), &word("-w"));
    assert_eq!(
        client
            .one(&ops::modify(&dn, &[(ops::REPLACE, "title", &["Head"])]))
            .code(),
        0
    );
    assert_told(&demo, &dn);
    for _ in 0..10 {
        let found = client.call(&ops::search(&dn, ops::BASE, &present("uid"), &["title"]));
        assert_eq!(found[0].values("title"), ["Head"]);
    }
    let mut own = Client::bound(&Target::plain(port), &dn, &format!("{someone}-demo"));
    assert_eq!(
        own.one(&ops::modify(&dn, &[(ops::REPLACE, "title", &["Chief"])]))
            .code(),
        50
    );
    assert_eq!(own.one(&ops::password_modify(None, None, Some("mine"))).code(), 0);
    for _ in 0..4 {
        Client::bound(&Target::plain(port), &dn, "mine");
    }
    demo.signal("INT");
    assert_eq!(demo.wait(Duration::from_secs(5)).code(), Some(0), "{}", demo.output());
}

#[test]
fn the_demo_on_a_busy_port_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let at = format!("127.0.0.1:{}", free_port());
    let output = run(
        BINARY,
        &["demo", "--listen", &address, "--admin", &at, "--radius", ""],
        Duration::from_secs(10),
    );
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&address),
        "{}",
        shown(&output)
    );
}

#[test]
fn a_balancer_in_one_line_with_and_without_a_bind_of_its_own() {
    let pair = Slapd::mirror();
    let folder = Folder::new("line");
    let secret = folder.write("secret", USHERD.1);
    restrict(&secret);
    for own in [&[][..], &["--bind-dn", USHERD.0, "--bind-password-file", &secret]] {
        let port = free_port();
        let listen = format!("ldap://127.0.0.1:{port}");
        let control = folder.file("control");
        let (first, second) = (pair[0].url(), pair[1].url());
        let args = [
            "ldap",
            "run",
            "--listen",
            &listen,
            "--server",
            &first,
            "--server",
            &second,
            "--control",
            &control,
        ];
        let log = folder.path().join("log");
        let mut daemon = Process::start(BINARY, &[&args[..], own].concat(), &log);
        let target = Target::plain(port);
        let quick = ops::search(&user(1), ops::BASE, &present("uid"), &["description"]);
        wait_for("it serves", Duration::from_secs(10), || {
            let answer = Client::try_connect(&target).ok()?.try_call(&quick).ok()?;
            (answer.len() == 2).then_some(())
        });
        let mut client = Client::bound(&target, &user(5), &password(5));
        assert_eq!(client.whoami(), format!("dn:{}", user(5)));
        assert_eq!(
            client
                .one(&ops::modify(&user(6), &[(ops::REPLACE, "title", &["x"])]))
                .code(),
            50
        );
        daemon.signal("INT");
        assert_eq!(
            daemon.wait(Duration::from_secs(5)).code(),
            Some(0),
            "{}",
            daemon.output()
        );
    }
}

#[test]
fn check_finds_every_mistake_at_once_with_its_place() {
    let folder = Folder::new("check");
    let text = "[server]\nworker = 2\n\n[directory.corp]\nidentity = \"proxyed\"\nserver = [{ url = \"ldpa://x\" }]\n\n\
                [[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:99999\"\ndirectory = \"crop\"\n";
    let file = folder.write("broken.toml", text);
    let output = run(BINARY, &["check", "-c", &file], Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let said = shown(&output);
    for hint in [
        "workers",
        "proxied",
        "ldpa",
        "99999",
        "corp",
        "broken.toml:2",
        "broken.toml:5",
        "broken.toml:6",
        "broken.toml:10",
        "broken.toml:11",
    ] {
        assert!(said.contains(hint), "no {hint:?} in {said}");
    }
    let output = run(
        BINARY,
        &["check", "-c", &folder.file("nothing.toml")],
        Duration::from_secs(10),
    );
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains("nothing.toml"), "{}", shown(&output));
    let output = run(BINARY, &["chekc"], Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
}

#[test]
fn check_probes_what_is_there_and_says_what_is_not() {
    let mut slapd = Slapd::start();
    let folder = Folder::new("probe");
    let secret = folder.write("secret", USHERD.1);
    restrict(&secret);
    let text = format!(
        "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \"secret\"\n\
         server = [{}]\n\n[[listen]]\naddress = \"ldap://127.0.0.1:0\"\ndirectory = \"corp\"\n",
        USHERD.0,
        server(&slapd.url(), ""),
    );
    let file = folder.write("usherd.toml", text);
    let probe = || run(BINARY, &["check", "--probe", "-c", &file], Duration::from_secs(20));
    let output = probe();
    assert!(output.status.success(), "{}", shown(&output));
    folder.write("secret", "canary-wrong");
    let output = probe();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        !shown(&output).contains("canary"),
        "a password is shown: {}",
        shown(&output)
    );
    folder.write("secret", USHERD.1);
    slapd.kill();
    let output = probe();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains("refused"), "{}", shown(&output));
}

#[test]
fn status_and_metrics_tell_what_happens_and_never_a_secret() {
    let slapd = Slapd::start();
    let admin = free_port();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .server(&format!("admin = \"127.0.0.1:{admin}\""))
        .start();
    let mut client = Client::bound(&usherd.plain(0), &user(1), "password-1");
    let quick = ops::search(&user(1), ops::BASE, &present("uid"), &["description"]);
    (0..10).for_each(|_| assert_eq!(client.call(&quick).len(), 2));
    let table = usherd.command(&["status"]);
    assert!(table.status.success(), "{}", shown(&table));
    assert!(
        shown(&table).contains("corp") && shown(&table).contains("up"),
        "{}",
        shown(&table)
    );
    let json = usherd.command(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{}", shown(&json)));
    assert!(status["operations"].as_u64() >= Some(11), "{status:#}");
    assert_eq!(status["clients"].as_u64(), Some(1), "{status:#}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(admin, path).map(|(fine, _)| fine), Some(true), "{path}");
    }
    let (fine, metrics) = get(admin, "/metrics").expect("metrics");
    assert!(
        fine && metrics.contains("# HELP usherd_") && metrics.contains("# TYPE usherd_"),
        "{metrics}"
    );
    let everything = format!("{metrics}{}{}{}", shown(&table), shown(&json), usherd.process.output());
    for secret in ["password-1", USHERD.1] {
        assert!(!everything.contains(secret), "{secret} is shown");
    }
    usherd.stop();
}

#[test]
fn a_daemon_without_servers_is_healthy_but_not_ready() {
    let admin = free_port();
    let url = format!("ldap://127.0.0.1:{}", free_port());
    let usherd = Setup::corp("", &[server(&url, "")])
        .server(&format!("admin = \"127.0.0.1:{admin}\""))
        .launch();
    wait_for("it is healthy", Duration::from_secs(5), || {
        get(admin, "/healthz").filter(|(fine, _)| *fine)
    });
    assert_eq!(get(admin, "/readyz").map(|(fine, _)| fine), Some(false));
    usherd.stop();
}

#[test]
fn two_listeners_at_port_0_are_two() {
    let slapd = Slapd::start();
    let tls = crate::usherd::listener_tls();
    let two = format!(
        "[[listen]]\naddress = \"ldap://127.0.0.1:0\"\ndirectory = \"corp\"\n\n\
         [[listen]]\naddress = \"ldaps://127.0.0.1:0\"\ndirectory = \"corp\"\n{tls}\n"
    );
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .section(&two)
        .start();
    for target in [usherd.plain(0), usherd.ldaps(1)] {
        assert_eq!(
            Client::bound(&target, &user(1), &password(1)).whoami(),
            format!("dn:{}", user(1))
        );
    }
    usherd.stop();
}
