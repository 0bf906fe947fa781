//! `usherd bench radius` counts what really happens: against a server made of pyrad that answers rightly, wrongly, late or not.

use std::process::Output;
use std::time::Duration;

use serde_json::Value as Json;

use crate::proc::{run, shown};
use crate::radius_clients::{Nas, PASSWORD};
use crate::usherd::BINARY;

const LIMIT: Duration = Duration::from_secs(20);

/// The exit code and the report of a short run.
fn load(nas: &Nas, more: &[&str]) -> (Option<i32>, Json) {
    let output = started(
        nas,
        &[&["--duration", "400ms", "--warmup", "100ms", "--json"], more].concat(),
    );
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)));
    (output.status.code(), report)
}

fn started(nas: &Nas, more: &[&str]) -> Output {
    let to = format!("127.0.0.1:{}", nas.port);
    let args = ["bench", "radius", "--to", &to, "--secret-file", &nas.secret];
    run(BINARY, &[&args[..], more].concat(), LIMIT)
}

fn count(report: &Json, what: &str) -> u64 {
    report[what].as_u64().unwrap_or_else(|| panic!("{what} of {report}"))
}

#[test]
fn right_answers_are_counted_and_nothing_else() {
    let nas = Nas::start();
    let password = nas.folder.write("password", PASSWORD);
    for method in ["pap", "chap"] {
        let asks = [
            "--user",
            "user{n}",
            "--range",
            "1..9",
            "--password-file",
            &password,
            "--method",
            method,
        ];
        let (code, report) = load(&nas, &[&asks[..], &["--in-flight", "4"]].concat());
        assert_eq!(code, Some(0), "{report}");
        assert!(
            count(&report, "answered") > 20 && report["answered"] == report["sent"],
            "{report}"
        );
        for none in [
            "lost",
            "late",
            "duplicate",
            "mismatched",
            "wrong",
            "unprotected",
            "not_sent",
            "refused",
        ] {
            assert_eq!(report[none], 0, "{none} of {report}");
        }
        assert!(
            report["p50_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 400.0),
            "{report}"
        );
    }
    let seen = nas.seen(0);
    let names: std::collections::BTreeSet<String> = seen.iter().map(|one| one["User-Name"].to_string()).collect();
    assert_eq!(names.len(), 9, "{names:?}");
    let octets: std::collections::BTreeSet<String> = seen.iter().map(|one| one["octets"].to_string()).collect();
    assert_eq!(octets.len(), seen.len(), "no request is like another");
    assert!(seen.iter().all(|one| one["right"] == true && one["protected"] == true));
}

#[test]
fn another_verdict_than_the_right_one_is_wrong() {
    let nas = Nas::start();
    let users = format!("# who\n\nbob,{PASSWORD}\nalice,a,b,reject\ncarol,{PASSWORD},accept\n");
    let users = nas.folder.write("users.csv", users);
    let (code, report) = load(&nas, &["--users-file", &users, "--in-flight", "2"]);
    assert!(code == Some(0) && count(&report, "answered") > 10, "{report}");
    let password = nas.folder.write("password", "no");
    let asks = ["--user", "bob", "--password-file", &password];
    let (code, report) = load(&nas, &[&asks[..], &["--expect", "reject"]].concat());
    assert!(code == Some(0) && count(&report, "answered") > 10, "{report}");
    let (code, report) = load(&nas, &asks);
    assert!(
        code == Some(1) && count(&report, "answered") == 0 && count(&report, "wrong") > 10,
        "{report}"
    );
}

#[test]
fn what_is_lost_late_twice_or_forged_is_told_apart() {
    let nas = Nas::start();
    let password = nas.folder.write("password", PASSWORD);
    let as_user = |user: &str, timeout: &str| {
        load(
            &nas,
            &["--user", user, "--password-file", &password, "--timeout", timeout],
        )
    };
    let (code, report) = as_user("silent", "50ms");
    assert!(code == Some(1) && count(&report, "lost") >= 8, "{report}");
    assert_eq!((count(&report, "answered"), count(&report, "late")), (0, 0), "{report}");
    let (code, report) = as_user("careless", "50ms");
    assert!(code == Some(1) && count(&report, "lost") >= 8, "{report}");
    assert_eq!(report["mismatched"], report["lost"], "{report}");
    let (code, report) = as_user("late", "100ms");
    assert!(code == Some(1) && count(&report, "lost") >= 3, "{report}");
    assert!(
        count(&report, "late") >= 2 && count(&report, "mismatched") == 0,
        "{report}"
    );
    // No packet, another secret, another identifier; then another code, and an answer that comes too often.
    let (code, report) = as_user("forged", "500ms");
    assert!(code == Some(1) && count(&report, "wrong") > 5, "{report}");
    assert!(count(&report, "mismatched") >= 3 * count(&report, "wrong"), "{report}");
    assert!(
        count(&report, "duplicate") > 5 && count(&report, "answered") == 0,
        "{report}"
    );
}

#[test]
fn accounting_goes_at_its_rate_and_each_session_is_another() {
    let nas = Nas::start();
    let (code, report) = load(&nas, &["--user", "user{n}", "--accounting", "--rate", "200"]);
    assert_eq!(code, Some(0), "{report}");
    assert!((78..=82).contains(&count(&report, "sent")), "{report}");
    let (_, report) = load(
        &nas,
        &[
            "--user",
            "user{n}",
            "--accounting",
            "--rate",
            "200",
            "--poisson",
            "--seed",
            "3",
        ],
    );
    assert!((40..=120).contains(&count(&report, "sent")), "{report}");
    let seen = nas.seen(0);
    let sessions: std::collections::BTreeSet<String> =
        seen.iter().map(|one| one["Acct-Session-Id"].to_string()).collect();
    assert!(
        sessions.len() == seen.len() && seen.len() > 120,
        "{} of {}",
        sessions.len(),
        seen.len()
    );
    assert!(seen.iter().all(|one| one["right"] == true && one["code"] == 4));
}

#[test]
fn what_is_wrong_with_a_load_is_told_with_file_and_line_and_without_passwords() {
    let nas = Nas::start();
    let users = nas.folder.write("users.csv", "bob,canary\ncanary\n");
    let wrong = started(&nas, &["--users-file", &users]);
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&format!("{users}:2: no comma; NAME,PASSWORD is right")) && !told.contains("canary"),
        "{told}"
    );
    let wrong = started(
        &nas,
        &["--user", "bob", "--accounting", "--in-flight", "300", "--sockets", "1"],
    );
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(told.contains("--sockets 2 would be right"), "{told}");
    let wrong = started(&nas, &["--user", "bob"]);
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(told.contains("--password-file is right"), "{told}");
    assert!(nas.seen(0).is_empty());
}
