//! What a person types about RADIUS: a server in one line, what a configuration would answer, what a daemon does with somebody's
//! requests, the demo, and sessions ended by the name of their access server.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::proc::{Folder, Process, free_port, run, shown, wait_for};
use crate::radius::{SECRET, got, radclient, radclient_to};
use crate::radius_clients::Nas;
use crate::slapd::Slapd;
use crate::usherd::{BINARY, Setup, Usherd, restrict, server};

const LIMIT: Duration = Duration::from_secs(30);

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn one_line(folder: &Folder, clients: &str, users: &str) -> (Process, u16, String) {
    let (port, control) = (free_port(), folder.file("control"));
    let listen = format!("127.0.0.1:{port}");
    let args = [
        "radius",
        "run",
        "--listen",
        &listen,
        "--clients",
        clients,
        "--users",
        users,
        "--control",
        &control,
    ];
    let mut process = Process::start(BINARY, &args, &folder.path().join("log"));
    wait_for("it says where it listens", LIMIT, || {
        assert!(process.ended().is_none(), "{}", process.output());
        process.output().contains("Ctrl-C ends it.").then_some(())
    });
    let told = process.output();
    assert!(
        told.contains(&format!("usherd radius ask --to {listen} --secret-file FILE")),
        "{told}"
    );
    assert!(told.contains(&format!("usherd status --control {control}")), "{told}");
    (process, port, control)
}

fn ends_on_ctrl_c(mut process: Process) {
    process.signal("INT");
    assert_eq!(
        process.wait(Duration::from_secs(10)).code(),
        Some(0),
        "{}",
        process.output()
    );
    assert!(!process.output().contains("panicked"), "{}", process.output());
}

#[test]
fn a_server_in_one_line_takes_freeradius_s_files_and_ours() {
    let folder = Folder::new("line");
    let ours = (
        format!("[client.here]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n"),
        "[user.bob]\npassword = \"hello\"\nreply = { Session-Timeout = 3600 }\n",
    );
    let theirs = (
        format!("client here {{\n\tipaddr = 127.0.0.1\n\tsecret = \"{SECRET}\"\n}}\n"),
        "bob\tCleartext-Password := \"hello\"\n\tSession-Timeout = 3600\n",
    );
    for (names, (clients, users)) in [
        (["clients.toml", "users.toml"], ours),
        (["clients.conf", "users"], theirs),
    ] {
        let (clients, users) = (folder.write(names[0], clients), folder.write(names[1], users));
        [&clients, &users].into_iter().for_each(|file| restrict(file));
        let (process, port, control) = one_line(&folder, &clients, &users);
        let to = format!("127.0.0.1:{port}");
        let ask = |password: &str| {
            let attributes = format!("User-Name = bob, User-Password = {password}");
            radclient_to(&to, SECRET, "auth", &attributes, &[])
        };
        let yes = ask("hello");
        got(&yes, "Access-Accept");
        assert!(out(&yes).contains("Session-Timeout = 3600"), "{}", shown(&yes));
        got(&ask("wrong"), "Access-Reject");
        got(
            &radclient_to(
                &to,
                SECRET,
                "acct",
                "Acct-Status-Type = Start, Acct-Session-Id = 1",
                &[],
            ),
            "Accounting-Response",
        );
        // As it says itself.
        let (secret, password) = (folder.write("secret", SECRET), folder.write("password", "hello"));
        let args = [
            "radius",
            "ask",
            "--to",
            &to,
            "--secret-file",
            &secret,
            "--user",
            "bob",
            "--password-file",
            &password,
        ];
        let asked = run(BINARY, &args, LIMIT);
        assert!(
            asked.status.success() && out(&asked).starts_with("Access-Accept"),
            "{}",
            shown(&asked)
        );
        let status = run(BINARY, &["status", "--control", &control], LIMIT);
        assert!(
            out(&status).contains(&format!("radius {to}: 4 requests")),
            "{}",
            shown(&status)
        );
        ends_on_ctrl_c(process);
        std::fs::remove_file(folder.path().join("log")).expect("our own");
    }
}

#[test]
fn what_is_wrong_with_a_server_in_one_line_is_told_all_at_once() {
    let folder = Folder::new("line");
    let clients = folder.write(
        "clients.toml",
        "[client.here]\naddress = \"127.0.0.300\"\nsecret = \"secret of ours\"\n",
    );
    let users = folder.write("users", "bob Cleartext-Pasword := \"hello\"\n");
    let args = [
        "radius",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--clients",
        &clients,
        "--users",
        &users,
    ];
    let wrong = run(BINARY, &args, LIMIT);
    let told = err(&wrong);
    assert_eq!(wrong.status.code(), Some(2), "{}", shown(&wrong));
    assert!(
        told.contains("clients.toml:2") && told.contains("127.0.0.300"),
        "{told}"
    );
    assert!(
        told.contains(&format!("{users}:1")) && told.contains("Cleartext-Password"),
        "{told}"
    );
    assert!(!told.contains("secret of ours") && !told.contains("hello"), "{told}");
}

const RULES: &str = r#"
[[listen.rule]]
name = "no guests"
user = ["*@guest"]
reject = "Guests are not let in."

[[listen.rule]]
name = "wired"
match = { NAS-Port-Type = "Ethernet" }
set = { Filter-Id = "wired" }
"#;

/// A daemon with users, rules and accounting.
pub(crate) fn with_rules() -> Usherd {
    let setup = Setup::new();
    let clients = format!(
        "[client.other]\naddress = \"192.0.2.7\"\nsecret = \"{SECRET}\"\n\n\
         [client.here]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n"
    );
    let users = "[user.ada]\npassword = \"canary-ada\"\n[user.bob]\npassword = \"canary-bob\"\n\
                 [user.\"eve@guest\"]\npassword = \"canary-eve\"\n";
    restrict(&setup.folder.write("clients.toml", clients));
    restrict(&setup.folder.write("users.toml", users));
    for name in ["ada", "bob", "eve"] {
        setup
            .folder
            .write(&format!("{name}.password"), format!("canary-{name}\n"));
    }
    let lines = format!(
        "clients_file = \"clients.toml\"\nreject_delay = \"0s\"\nauthenticate = {{ users_file = \"users.toml\" }}\n\
         accounting = {{ file = \"records\" }}\n{RULES}"
    );
    setup.listen("radius", "127.0.0.1:0", &lines).start()
}

pub(crate) fn test(usherd: &Usherd, more: &[&str]) -> Output {
    let file = usherd.folder.file("usherd.toml");
    run(
        BINARY,
        &[&["radius", "test", "-c", &file], more].concat(),
        Duration::from_secs(60),
    )
}

fn refused_in_json(output: &Output) {
    let told: Json = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(
        (&told["client"], &told["answered"]),
        (&"other".into(), &true.into()),
        "{told}"
    );
    assert_eq!(told["answer"]["code"], "Access-Reject", "{told}");
    assert!(told["trace"].as_array().is_some_and(|lines| lines.len() > 1), "{told}");
}

#[test]
fn a_trial_says_what_would_be_answered_and_which_rule_decided_and_disturbs_nobody() {
    let usherd = with_rules();
    let password = |name: &str| usherd.folder.file(&format!("{name}.password"));
    got(
        &radclient(&usherd, "acct", "Acct-Status-Type = Start, Acct-Session-Id = one"),
        "Accounting-Response",
    );
    let records = std::fs::read(usherd.folder.file("records")).expect("one");
    let before = usherd.status()["radius"][0].clone();

    let yes = test(
        &usherd,
        &[
            "ada",
            "--password-file",
            &password("ada"),
            "--attribute",
            "NAS-Port-Type = Ethernet",
        ],
    );
    assert_eq!(yes.status.code(), Some(0), "{}", shown(&yes));
    let told = out(&yes);
    assert!(
        told.starts_with("as client other\n") && told.contains("rule wired"),
        "{told}"
    );
    assert!(
        told.contains("Access-Accept") && told.contains("Filter-Id = \"wired\""),
        "{told}"
    );

    let no = test(
        &usherd,
        &["eve@guest", "--password-file", &password("eve"), "--client", "here"],
    );
    assert_eq!(no.status.code(), Some(1), "{}", shown(&no));
    let told = out(&no);
    assert!(
        told.starts_with("as client here\n") && told.contains("rule no guests"),
        "{told}"
    );
    assert!(
        told.contains("Access-Reject") && told.contains("Guests are not let in."),
        "{told}"
    );

    let wrong = test(
        &usherd,
        &[
            "ada",
            "--password-file",
            &password("bob"),
            "--method",
            "mschapv2",
            "--json",
        ],
    );
    assert_eq!(wrong.status.code(), Some(1), "{}", shown(&wrong));
    refused_in_json(&wrong);

    for output in [&yes, &no, &wrong] {
        assert!(
            !shown(output).contains("canary"),
            "a password is shown: {}",
            shown(output)
        );
    }
    assert_eq!(std::fs::read(usherd.folder.file("records")).expect("one"), records);
    let after = usherd.status()["radius"][0].clone();
    assert_eq!(
        (&after["begun"], &after["records"]),
        (&before["begun"], &before["records"])
    );
    got(
        &radclient(&usherd, "auth", "User-Name = bob, User-Password = canary-bob"),
        "Access-Accept",
    );
    usherd.stop();
}

#[test]
fn a_trial_with_a_directory_that_is_down_ends_without_an_answer_and_says_so_soon() {
    let mut slapd = Slapd::start();
    let usherd = crate::radius::before(
        Setup::new().directory("corp", "", &[server(&slapd.url(), "")]),
        "accounting = \"discard\"\nauthenticate = { directory = \"corp\", user = \"(uid={User-Name})\" }",
    );
    let password = usherd.folder.write("password", crate::slapd::password(7));
    let yes = test(&usherd, &["user7", "--password-file", &password]);
    assert_eq!(yes.status.code(), Some(0), "{}", shown(&yes));
    assert!(out(&yes).contains("corp"), "{}", shown(&yes));
    slapd.end();
    let begun = Instant::now();
    let silent = test(&usherd, &["user7", "--password-file", &password]);
    assert_eq!(silent.status.code(), Some(4), "{}", shown(&silent));
    assert!(err(&silent).contains("there is no answer"), "{}", shown(&silent));
    assert!(
        out(&silent).contains("corp") && out(&silent).contains("unavailable"),
        "{}",
        shown(&silent)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it took {:?}",
        begun.elapsed()
    );
    let json = test(&usherd, &["user7", "--password-file", &password, "--json"]);
    let told: Json = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(
        (json.status.code(), &told["answered"]),
        (Some(4), &false.into()),
        "{told}"
    );
    usherd.stop();
}

/// A trace that runs, once it says that it does.
fn trace(usherd: &Usherd, name: &str, who: &[&str]) -> Process {
    let (control, log) = (usherd.folder.file("control"), usherd.folder.path().join(name));
    let args = [&["radius", "trace", "--control", &control, "--for", "4s"], who].concat();
    let mut process = Process::start(BINARY, &args, &log);
    wait_for("it traces", LIMIT, || {
        assert!(process.ended().is_none(), "{}", process.output());
        process.output().contains("tracing").then_some(())
    });
    process
}

#[test]
fn a_trace_shows_the_requests_of_one_and_outlives_a_reload() {
    let usherd = with_rules();
    for (name, who) in [
        ("user", ["--user", "ADA"]),
        ("station", ["--station", "00:1a:2b:3c:4d:5e"]),
        ("client", ["--client", "here"]),
    ] {
        let mut tracing = trace(&usherd, name, &who);
        let begun = Instant::now();
        let ask = |user: &str, password: &str, station: &str| {
            let attributes = format!(
                "User-Name = {user}, User-Password = {password}, NAS-Port-Type = Ethernet, Calling-Station-Id = {station}"
            );
            radclient(&usherd, "auth", &attributes)
        };
        got(&ask("ada", "canary-ada", "00-1A-2B-3C-4D-5E"), "Access-Accept");
        got(&ask("bob", "canary-wrong", "00-1A-2B-3C-4D-FF"), "Access-Reject");
        let told = usherd.command(&["reload"]);
        assert!(told.status.success(), "{}", shown(&told));
        got(&ask("ada", "canary-wrong", "001a.2b3c.4d5e"), "Access-Reject");
        let status = tracing.wait(Duration::from_secs(20));
        assert_eq!(status.code(), Some(0), "{}", tracing.output());
        assert!(
            begun.elapsed() > Duration::from_millis(2500),
            "it ended after {:?}",
            begun.elapsed()
        );
        let told = tracing.output();
        assert!(
            told.contains("rule wired") && told.contains("Access-Accept"),
            "{who:?}: {told}"
        );
        assert!(told.contains("Access-Reject"), "after the reload: {who:?}: {told}");
        assert!(!told.contains("canary"), "a password is traced: {told}");
        assert_eq!(told.contains("bob"), name == "client", "{who:?}: {told}");
    }
    let log = usherd.process.output();
    assert!(!log.contains("canary"), "a password is logged: {log}");
    // Nobody is traced any more.
    let before = usherd.process.output().len();
    got(
        &radclient(&usherd, "auth", "User-Name = ada, User-Password = canary-ada"),
        "Access-Accept",
    );
    assert!(
        !usherd.process.output()[before..].contains("rule"),
        "{}",
        usherd.process.output()
    );
    usherd.stop();
}

#[test]
fn the_demo_answers_radtest_for_somebody_whom_it_names() {
    let folder = Folder::new("demo");
    let (listen, admin, radius) = (
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    );
    let control = folder.file("control");
    let args = [
        "demo",
        "--listen",
        &listen,
        "--admin",
        &admin,
        "--radius",
        &radius,
        "--every",
        "0s",
        "--people",
        "20",
        "--control",
        &control,
    ];
    let mut demo = Process::start(BINARY, &args, &folder.path().join("log"));
    let line = wait_for("the demo says what to try", LIMIT, || {
        assert!(demo.ended().is_none(), "{}", demo.output());
        let told = demo.output();
        told.lines()
            .find(|line| line.trim().starts_with("radtest "))
            .map(str::to_owned)
    });
    wait_for("it is ready", LIMIT, || {
        let status = run(BINARY, &["status", "--json", "--control", &control], LIMIT);
        let status: Json = serde_json::from_slice(&status.stdout).ok()?;
        (status["lifecycle"] == "ready").then_some(())
    });
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let [someone, password, at, "0", "testing123"] = words[..] else {
        panic!("{line}")
    };
    assert_eq!(at, radius);
    let yes = run("/usr/bin/radtest", &[someone, password, at, "0", "testing123"], LIMIT);
    got(&yes, "Access-Accept");
    let no = run("/usr/bin/radtest", &[someone, "wrong", at, "0", "testing123"], LIMIT);
    got(&no, "Access-Reject");
    ends_on_ctrl_c(demo);
}

#[test]
fn what_an_import_writes_is_a_configuration() {
    let folder = Folder::new("import");
    let clients = "client ap7 {\n\tipaddr = 192.0.2.7\n\tsecret = \"a secret of seven\"\n}\n\
                   client all {\n\tipaddr = 198.51.100.0/24\n\tsecret = \"a secret of many\"\n\tlimit_proxy_state = auto\n}\n";
    let users = "bob\tCleartext-Password := \"hello\", NAS-Port-Type == Ethernet\n\tSession-Timeout = 3600,\n\tFilter-Id = \"x\"\n\
                 DEFAULT\tAuth-Type := Reject\n\tReply-Message = \"no\"\n";
    let (clients, users) = (folder.write("clients.conf", clients), folder.write("users", users));
    let to = folder.file("out");
    let args = [
        "import",
        "freeradius",
        "--clients",
        &clients,
        "--users",
        &users,
        "--out",
        &to,
    ];
    let done = run(BINARY, &args, LIMIT);
    assert_eq!(done.status.code(), Some(0), "{}", shown(&done));
    let file = Path::new(&to).join("usherd.toml").display().to_string();
    let checked = run(BINARY, &["check", "-c", &file], LIMIT);
    assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));
    assert!(!err(&checked).contains("error"), "{}", shown(&checked));
    // And answers what FreeRADIUS would.
    let password = folder.write("password", "hello");
    let test = |more: &[&str]| {
        let args = [
            "radius",
            "test",
            "bob",
            "-c",
            &file,
            "--password-file",
            &password,
            "--client",
            "ap7",
        ];
        run(BINARY, &[&args[..], more].concat(), LIMIT)
    };
    let yes = test(&["--attribute", "NAS-Port-Type = Ethernet"]);
    assert!(
        yes.status.code() == Some(0) && out(&yes).contains("Session-Timeout = 3600"),
        "{}",
        shown(&yes)
    );
    let no = test(&["--attribute", "NAS-Port-Type = Virtual"]);
    assert!(
        no.status.code() == Some(1) && out(&no).contains("Reply-Message = \"no\""),
        "{}",
        shown(&no)
    );
}

#[test]
fn a_session_is_ended_by_the_name_of_its_access_server() {
    let nas = Nas::start();
    let clients = format!(
        "[client.ap7]\naddress = \"192.0.2.7\"\nsecret = \"testing123\"\ncoa = \"127.0.0.1:{}\"\n\n\
         [client.ap8]\naddress = \"127.0.0.8\"\nsecret = \"testing123\"\n\n\
         [client.wlan]\naddress = \"192.0.2.128/25\"\nsecret = \"canary-secret\"\n",
        nas.port
    );
    let clients = nas.folder.write("clients.toml", clients);
    restrict(&clients);
    let tell = |command: &str, client: &str, more: &[&str]| {
        let args = ["radius", command, "--client", client, "--clients", &clients];
        run(BINARY, &[&args[..], more].concat(), LIMIT)
    };
    let yes = tell("disconnect", "ap7", &["--user", "bob", "--session", "0000004711"]);
    assert_eq!(yes.status.code(), Some(0), "{}", shown(&yes));
    assert!(
        out(&yes).starts_with(&format!("Disconnect-ACK from 127.0.0.1:{}\n", nas.port)),
        "{}",
        shown(&yes)
    );
    // As the manual shows it.
    let no = tell("disconnect", "ap7", &["--user", "gone", "--session", "0000004711"]);
    assert_eq!(no.status.code(), Some(1), "{}", shown(&no));
    let told = out(&no);
    assert!(
        told.starts_with(&format!(
            "Disconnect-NAK from 127.0.0.1:{}: it has no such session (503)\n",
            nas.port
        )),
        "{told}"
    );
    assert!(told.contains("Error-Cause = Session-Context-Not-Found"), "{told}");
    let changed = tell(
        "coa",
        "ap7",
        &["--session", "0000004711", "--attribute", "Session-Timeout = 600"],
    );
    assert_eq!(changed.status.code(), Some(0), "{}", shown(&changed));
    assert!(nas.seen(0).iter().all(|one| one["right"] == true), "{:?}", nas.seen(0));

    // Without `coa` it is the port of the protocol at the only address.
    let quick = ["--user", "bob", "--timeout", "100ms", "--retries", "0"];
    let silent = tell("disconnect", "ap8", &quick);
    assert_eq!(silent.status.code(), Some(4), "{}", shown(&silent));
    assert!(
        err(&silent).contains("no answer from 127.0.0.8:3799"),
        "{}",
        shown(&silent)
    );
    let many = tell("disconnect", "wlan", &quick);
    assert_eq!(many.status.code(), Some(1), "{}", shown(&many));
    assert!(
        err(&many).contains("client wlan has more than one address"),
        "{}",
        shown(&many)
    );
    let unknown = tell("coa", "ap77", &quick);
    assert!(
        err(&unknown).contains("no client is called \"ap77\"; did you mean \"ap7\"?"),
        "{}",
        shown(&unknown)
    );
    for output in [&many, &unknown] {
        assert!(!shown(output).contains("canary"), "{}", shown(output));
    }
    // One way or the other.
    let both = tell(
        "coa",
        "ap7",
        &["--user", "bob", "--to", "127.0.0.1", "--secret-file", &nas.secret],
    );
    assert_eq!(both.status.code(), Some(2), "{}", shown(&both));
    let neither = run(BINARY, &["radius", "coa", "--user", "bob"], LIMIT);
    assert_eq!(neither.status.code(), Some(2), "{}", shown(&neither));
    let half = run(BINARY, &["radius", "coa", "--user", "bob", "--to", "127.0.0.1"], LIMIT);
    assert_eq!(half.status.code(), Some(2), "{}", shown(&half));
}
