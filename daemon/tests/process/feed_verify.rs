//! `usherd feed verify`: what is kept beside what slapd has: while it is written to, with a store that was spoilt, and with a
//! feed that does not run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::feed::{Feed, change, deleted, described};
use crate::proc::{Folder, run};
use crate::slapd::{ADMIN, BASE, PEOPLE, Slapd, USERS, user};
use crate::usherd::BINARY;

const LIMIT: Duration = Duration::from_secs(120);

/// What it says; its exit code.
fn verify(feed: &Feed, words: &[&str]) -> (i32, Value) {
    let state = feed.state();
    let args = [&["feed", "verify", "--json"], words, &["--state", &state]].concat();
    let output = run(BINARY, &args, LIMIT);
    let code = output.status.code().expect("it ends by itself");
    (code, serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// The same of a feed that does not run.
fn verify_stopped(feed: &Feed, slapd: &Slapd, words: &[&str]) -> (i32, Value) {
    let (url, secret) = (slapd.url(), feed.folder.file("secret"));
    let flags = ["--base", BASE, "--bind-dn", ADMIN.0, "--bind-password-file", &secret];
    verify(feed, &[&[url.as_str()], &flags[..], words].concat())
}

fn counts(report: &Value) -> [u64; 4] {
    ["missing_here", "missing_there", "name", "attributes"].map(|key| report[key].as_u64().unwrap_or(u64::MAX))
}

/// Spoils what a feed that does not run has kept: one entry is forgotten, one invented, one renamed, one changed. Their
/// names.
fn spoil(feed: &Feed) {
    let store = Connection::open(Path::new(&feed.state()).join("feed.db")).expect("it is SQLite's");
    let done = |sql: &str| assert_eq!(store.execute(sql, []).expect("SQL"), 1, "{sql}");
    done("DELETE FROM content WHERE rdn = CAST('uid=user10' AS BLOB)");
    done("UPDATE content SET rdn = CAST('uid=nobody11' AS BLOB) WHERE rdn = CAST('uid=user11' AS BLOB)");
    done("UPDATE content SET attributes = x'' WHERE rdn = CAST('uid=user12' AS BLOB)");
    done(
        "INSERT INTO content(uuid, parent, name, rdn, attributes) SELECT x'00112233445566778899aabbccddeeff', parent, 4711, \
         CAST('uid=ghost' AS BLOB), x'' FROM content WHERE rdn = CAST('uid=user13' AS BLOB)",
    );
}

/// Writes to entries above 1,000 without a pause: modifies, deletes and adds, renames to and fro, a container too.
struct Churn {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Churn {
    fn start(slapd: &Slapd) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, stopped) = (slapd.url(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let folder = Folder::new("churn");
            let mut round = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut text = String::new();
                for step in 0..40 {
                    let number = 1000 + (round * 40 + step) % 300;
                    let dn = user(number);
                    // To and fro between two values, so that a state comes back.
                    text.push_str(&described(number, if round % 2 == 0 { "a" } else { "b" }));
                    let rename = |from: &str, to: &str| {
                        format!("dn: {from}\nchangetype: modrdn\nnewrdn: {to}\ndeleteoldrdn: 1\n\n")
                    };
                    text.push_str(&rename(&dn, &format!("uid=other{number}")));
                    text.push_str(&rename(
                        &format!("uid=other{number},{PEOPLE}"),
                        &format!("uid=user{number}"),
                    ));
                    text.push_str(&format!(
                        "dn: ou=t{step},{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: t{step}\n\n\
                         dn: ou=t{step},{BASE}\nchangetype: delete\n\n"
                    ));
                }
                let file = folder.write("change.ldif", &text);
                let args = ["-x", "-H", &url, "-D", ADMIN.0, "-w", ADMIN.1, "-f", &file];
                let output = run("/usr/bin/ldapmodify", &args, LIMIT);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                round += 1;
            }
            round
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends; how often it went round.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is ended once");
        thread.join().expect("the writer could write")
    }
}

#[test]
fn changes_on_their_way_are_no_differences_and_planted_ones_are_all_found() {
    let slapd = Slapd::without_session_log();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    let (code, report) = verify(&feed, &[]);
    assert_eq!(
        (code, &report["same"], &report["passes"]),
        (0, &Value::Bool(true), &1.into()),
        "{report}"
    );
    assert!(
        report["entries"].as_u64().is_some_and(|entries| entries > USERS as u64),
        "{report}"
    );

    let churn = Churn::start(&slapd);
    let mut passes = 0;
    for _ in 0..6 {
        let (code, report) = verify(&feed, &[]);
        assert_eq!((code, counts(&report)), (0, [0; 4]), "{report}");
        passes += report["passes"].as_u64().unwrap_or(0);
    }
    assert!(churn.end() > 1, "it was written to meanwhile");
    assert!(passes > 6, "the churn was seen: {passes} passes");

    feed.stop();
    spoil(&feed);
    feed.start();
    feed.complete(2);
    let churn = Churn::start(&slapd);
    let before = feed.events().len();
    let (code, report) = verify(&feed, &[]);
    assert_eq!((code, counts(&report)), (4, [1, 1, 1, 1]), "{report}");
    let found = |kind: &str| {
        let all = report["shown"].as_array().expect("they are shown");
        all.iter().find(|one| one["kind"] == kind).cloned().unwrap_or_default()
    };
    assert_eq!(found("missing-here")["dn"], user(10));
    assert_eq!(found("missing-there")["dn"], format!("uid=ghost,{PEOPLE}"));
    let renamed = found("name");
    assert_eq!(
        (&renamed["dn"], &renamed["there"]),
        (&format!("uid=nobody11,{PEOPLE}").into(), &user(11).into())
    );
    let changed = found("attributes");
    assert_eq!(changed["dn"], user(12));
    assert!(
        changed["attributes"]
            .as_array()
            .is_some_and(|names| names.contains(&"description".into()))
    );
    assert!(churn.end() > 0);
    let told = feed.events();
    let about = |event: &&Value| event["dn"] == user(10) || event["dn"] == user(12);
    assert_eq!(told[before..].iter().find(about), None, "a comparison tells nothing");

    let (code, report) = verify(&feed, &["--max-shown", "1"]);
    assert_eq!(
        (
            code,
            report["differences"].as_u64(),
            report["shown"].as_array().map(Vec::len)
        ),
        (4, Some(4), Some(1))
    );
    feed.stop();
}

#[test]
fn a_provider_that_is_away_leaves_the_question_open() {
    let mut slapd = Slapd::start();
    let feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    slapd.end();
    let (code, report) = verify(&feed, &["--timeout", "20s"]);
    assert_eq!(code, 5, "{report}");
    assert!(report["error"].as_str().is_some_and(|why| !why.is_empty()), "{report}");
    let (code, said) = verify(&feed, &["--base", BASE]);
    assert_eq!(code, 5, "a running feed is not told what to ask: {said}");
}

#[test]
fn what_a_stopped_feed_has_kept_is_compared_and_later_changes_are_counted_for_themselves() {
    let mut slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    let (code, said) = verify_stopped(&feed, &slapd, &[]);
    assert_eq!(code, 5, "{said}");
    assert!(
        said["error"].as_str().is_some_and(|why| why.contains("in use")),
        "{said}"
    );
    feed.stop();

    let (code, report) = verify_stopped(&feed, &slapd, &[]);
    assert_eq!((code, &report["same"]), (0, &Value::Bool(true)), "{report}");
    change(&slapd, &(described(1, "later") + &deleted(2)));
    let (code, report) = verify_stopped(&feed, &slapd, &[]);
    assert_eq!(
        (code, counts(&report), report["newer"].as_u64()),
        (4, [0, 1, 0, 0], Some(1)),
        "{report}"
    );
    assert_eq!(report["shown"][0]["dn"], user(2));
    spoil(&feed);
    let (code, report) = verify_stopped(&feed, &slapd, &[]);
    assert_eq!((code, counts(&report)), (4, [1, 2, 1, 1]), "{report}");

    let (code, said) = verify_stopped(&feed, &slapd, &["--filter", "(uid=*)"]);
    assert_eq!(code, 5, "another question has another content: {said}");
    slapd.end();
    let (code, said) = verify_stopped(&feed, &slapd, &["--timeout", "5s"]);
    assert_eq!(code, 5, "{said}");
}
