//! `usherd radius disconnect|coa|ask` against an access server and a RADIUS server made of pyrad.

use std::process::Output;
use std::time::Duration;

use serde_json::Value as Json;

use crate::proc::{Folder, Process, free_port, run, shown, wait_for};
use crate::usherd::BINARY;

const PYTHON: &str = "/usr/bin/python3";
/// What everybody's password is there.
pub(crate) const PASSWORD: &str = "pässword of more than sixteen";
const LIMIT: Duration = Duration::from_secs(20);

/// See `radius_nas.py`.
pub(crate) struct Nas {
    pub(crate) folder: Folder,
    process: Process,
    pub(crate) port: u16,
    pub(crate) secret: String,
}

impl Nas {
    pub(crate) fn start() -> Nas {
        let folder = Folder::new("nas");
        let script = folder.write("nas.py", include_str!("radius_nas.py"));
        let mut process = Process::start(PYTHON, &[script.as_str(), "testing123"], &folder.path().join("seen"));
        let port = wait_for("the access server listens", LIMIT, || {
            let ended = process.ended();
            assert!(
                ended.is_none(),
                "this test needs pyrad: apt-get install python3-pyrad\n{}",
                process.output()
            );
            process.output().lines().next().and_then(|line| line.parse().ok())
        });
        let secret = folder.write("secret", "testing123\n");
        Nas {
            folder,
            process,
            port,
            secret,
        }
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        self.run_with(command, &self.secret, more)
    }

    fn run_with(&self, command: &str, secret: &str, more: &[&str]) -> Output {
        let to = format!("127.0.0.1:{}", self.port);
        let args = ["radius", command, "--to", &to, "--secret-file", secret];
        run(BINARY, &[&args[..], more].concat(), LIMIT)
    }

    /// What it saw since `from`.
    pub(crate) fn seen(&self, from: usize) -> Vec<Json> {
        let output = self.process.output();
        let lines = output.lines().skip(1 + from);
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it is UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it is UTF-8")
}

#[test]
fn an_access_server_says_yes_and_no() {
    let nas = Nas::start();
    let yes = nas.run("disconnect", &["--user", "bob", "--session", "4711"]);
    assert_eq!(yes.status.code(), Some(0), "{}", shown(&yes));
    let head = format!("Disconnect-ACK from 127.0.0.1:{}\nDisconnect-ACK id=", nas.port);
    assert!(
        out(&yes).starts_with(&head) && out(&yes).contains("Reply-Message = \"héllo\""),
        "{}",
        shown(&yes)
    );
    let list = "Session-Timeout = 60, Filter-Id = \"slow\"";
    let yes = nas.run("coa", &["--session", "4712", "--attribute", list, "--json"]);
    assert_eq!(yes.status.code(), Some(0), "{}", shown(&yes));
    let told: Json = serde_json::from_slice(&yes.stdout).expect("it is JSON");
    assert_eq!(
        (&told["acknowledged"], &told["error_cause"], &told["answer"]["code"]),
        (&true.into(), &Json::Null, &"CoA-ACK".into()),
        "{told}"
    );
    assert_eq!(told["answer"]["message_authenticator"], "valid", "{told}");

    let seen = nas.seen(0);
    assert_eq!(seen.len(), 2, "{seen:?}");
    for one in &seen {
        for what in ["right", "protected", "recent"] {
            assert_eq!(one[what], true, "{what} of {one}");
        }
    }
    assert_eq!((&seen[0]["code"], &seen[1]["code"]), (&40.into(), &43.into()));
    assert_eq!(
        (&seen[0]["User-Name"], &seen[0]["Acct-Session-Id"]),
        (&"bob".into(), &"4711".into())
    );
    assert_eq!(
        (&seen[1]["Session-Timeout"], &seen[1]["Filter-Id"]),
        (&60.into(), &"slow".into())
    );

    for command in ["disconnect", "coa"] {
        let no = nas.run(command, &["--user", "gone"]);
        assert_eq!(no.status.code(), Some(1), "{}", shown(&no));
        assert!(
            out(&no).contains("-NAK from 127.0.0.1:") && out(&no).contains(": it has no such session (503)\n"),
            "{}",
            shown(&no)
        );
        let no = nas.run(command, &["--user", "gone", "--json"]);
        let told: Json = serde_json::from_slice(&no.stdout).expect("it is JSON");
        assert_eq!(
            (no.status.code(), &told["error_cause"]),
            (Some(1), &503.into()),
            "{told}"
        );
    }
}

#[test]
fn who_does_not_answer_is_asked_again_with_the_same_octets() {
    let nas = Nas::start();
    let late = nas.run("disconnect", &["--user", "second", "--timeout", "300ms"]);
    assert_eq!(late.status.code(), Some(0), "{}", shown(&late));
    let silent = nas.run("coa", &["--user", "silent", "--timeout", "100ms", "--retries", "2"]);
    assert_eq!(
        (silent.status.code(), out(&silent).as_str()),
        (Some(4), ""),
        "{}",
        shown(&silent)
    );
    assert!(
        err(&silent).contains("asked 3 times, 100ms each: it is not reached"),
        "{}",
        shown(&silent)
    );
    let seen = nas.seen(0);
    let same = |range: std::ops::Range<usize>| {
        seen[range.clone()]
            .iter()
            .all(|one| one["octets"] == seen[range.start]["octets"])
    };
    assert!(seen.len() == 5 && same(0..2) && same(2..5), "{seen:?}");
}

#[test]
fn another_secret_is_no_answer_and_what_is_forged_is_ignored() {
    let nas = Nas::start();
    let other = nas.folder.write("other", "testing1234\n");
    let silent = nas.run_with(
        "disconnect",
        &other,
        &["--user", "bob", "--timeout", "100ms", "--retries", "1"],
    );
    assert_eq!(silent.status.code(), Some(4), "{}", shown(&silent));
    assert_eq!(nas.seen(0)[0]["right"], false);
    let careless = nas.run(
        "coa",
        &["--user", "careless", "--timeout", "100ms", "--retries", "0", "--json"],
    );
    assert_eq!(careless.status.code(), Some(4), "{}", shown(&careless));
    let told: Json = serde_json::from_slice(&careless.stdout).expect("it is JSON");
    assert_eq!(told["answered"], false, "{told}");
    assert!(
        err(&careless).contains("is ignored: its Authenticator is wrong"),
        "{}",
        shown(&careless)
    );
    // The answer of the access server comes behind all that.
    let forged = nas.run("disconnect", &["--user", "forged"]);
    assert_eq!(forged.status.code(), Some(1), "{}", shown(&forged));
    for fault in [
        "1 octets",
        "Authenticator is wrong",
        "its identifier is",
        "Access-Challenge is no answer to Disconnect-Request",
    ] {
        assert!(err(&forged).contains(fault), "{fault}: {}", shown(&forged));
    }
    let nobody = free_port();
    let to = format!("127.0.0.1:{nobody}");
    let args = [
        "radius",
        "coa",
        "--to",
        &to,
        "--secret-file",
        &nas.secret,
        "--user",
        "bob",
        "--timeout",
        "50ms",
    ];
    let nobody = run(BINARY, &args, LIMIT);
    assert!(
        nobody.status.code() == Some(4) && err(&nobody).contains("nobody listens on that port"),
        "{}",
        shown(&nobody)
    );
}

#[test]
fn a_server_is_asked_by_pap_and_chap_about_sessions_and_whether_it_is_there() {
    let nas = Nas::start();
    let right = nas.folder.write("password", format!("{PASSWORD}\n"));
    let wrong = nas.folder.write("wrong", "wrong");
    for method in ["pap", "chap"] {
        let yes = nas.run("ask", &["--user", "bob", "--password-file", &right, "--method", method]);
        assert_eq!(yes.status.code(), Some(0), "{}", shown(&yes));
        assert!(
            out(&yes).starts_with("Access-Accept id=") && out(&yes).contains("Reply-Message = \"héllo\""),
            "{}",
            shown(&yes)
        );
        let no = nas.run("ask", &["--user", "bob", "--password-file", &wrong, "--method", method]);
        assert_eq!(no.status.code(), Some(1), "{}", shown(&no));
        assert!(out(&no).starts_with("Access-Reject id="), "{}", shown(&no));
    }
    let more = nas.run("ask", &["--user", "more", "--password-file", &right]);
    assert_eq!(more.status.code(), Some(5), "{}", shown(&more));
    let from = nas.seen(0).len();
    for (event, number) in [("start", 1), ("stop", 2), ("interim", 3)] {
        let told = nas.run(
            "ask",
            &[
                "--user",
                "bob",
                "--accounting",
                event,
                "--attribute",
                "NAS-Identifier = \"ap\"",
            ],
        );
        assert_eq!(told.status.code(), Some(0), "{}", shown(&told));
        assert!(out(&told).starts_with("Accounting-Response id="), "{}", shown(&told));
        let seen = nas.seen(from + number - 1);
        assert_eq!(seen.len(), 1, "{seen:?}");
        let (one, status) = (&seen[0], seen[0]["Acct-Status-Type"].as_u64());
        assert_eq!(
            (status, &one["right"], &one["recent"], &one["NAS-Identifier"]),
            (Some(number as u64), &true.into(), &true.into(), &"ap".into())
        );
        assert!(one["Acct-Session-Id"].as_str().is_some_and(|id| id.len() == 8), "{one}");
    }
    let there = nas.run("ask", &["--status", "--json"]);
    assert_eq!(there.status.code(), Some(0), "{}", shown(&there));
    let told: Json = serde_json::from_slice(&there.stdout).expect("it is JSON");
    assert_eq!(told["answer"]["code"], "Access-Accept", "{told}");
}

#[test]
fn what_is_wrong_with_the_flags_is_told_at_once_and_nothing_is_sent() {
    let nas = Nas::start();
    let missing = nas.folder.file("missing");
    let args = [
        "radius",
        "coa",
        "--to",
        "127.0.0.1:x",
        "--secret-file",
        &missing,
        "--attribute",
        "Usr-Name = \"bob\"",
    ];
    let wrong = run(BINARY, &args, LIMIT);
    assert_eq!(wrong.status.code(), Some(1), "{}", shown(&wrong));
    for what in [
        "127.0.0.1:x: ",
        "missing: No such file",
        "--attribute column 1: unknown attribute Usr-Name; User-Name",
    ] {
        assert!(err(&wrong).contains(what), "{what}: {}", shown(&wrong));
    }
    let nobody = nas.run("disconnect", &[]);
    assert!(
        nobody.status.code() == Some(1) && err(&nobody).contains("nothing says which session"),
        "{}",
        shown(&nobody)
    );
    let nobody = nas.run("ask", &[]);
    assert!(
        nobody.status.code() == Some(1) && err(&nobody).contains("nothing says about whom"),
        "{}",
        shown(&nobody)
    );
    for usage in [
        &["--status", "--user", "bob"][..],
        &["--method", "chap", "--user", "bob"],
        &["--timeout", "0"],
    ] {
        let output = nas.run("ask", usage);
        assert_eq!(output.status.code(), Some(2), "{usage:?}: {}", shown(&output));
    }
    assert!(nas.seen(0).is_empty());
}
