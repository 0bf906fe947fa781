//! The audit log: what was done is told, once each, and no secret is.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::ops::{self, equal, present};
use crate::proc::wait_for;
use crate::slapd::{BASE, EDITOR, PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

fn front(audit: &str) -> (Slapd, Usherd) {
    let slapd = Slapd::start();
    let setup = Setup::corp("", &[server(&slapd.url(), "")]);
    let section = format!("[audit]\nfile = \"audit.jsonl\"\n{audit}\n");
    (slapd, setup.extra(&section).start())
}

fn text(usherd: &Usherd) -> String {
    fs::read_to_string(usherd.folder.path().join("audit.jsonl")).unwrap_or_default()
}

/// The lines, once there are so many.
fn lines(usherd: &Usherd, count: usize) -> Vec<Value> {
    let what = format!("{count} lines of the audit log");
    let text = wait_for(&what, Duration::from_secs(10), || {
        let text = text(usherd);
        (text.lines().count() >= count && text.ends_with('\n')).then_some(text)
    });
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let lines: Vec<Value> = text.lines().map(read).collect();
    assert_eq!(lines.len(), count, "{text}");
    lines
}

/// What every line about an operation that a server answered says.
fn told_of_the_server(lines: &[Value], server: &str) {
    for line in lines {
        assert_eq!(line["server"], server, "{line}");
        assert_eq!(
            (&line["outcome"], &line["tls"], &line["directory"]),
            (&"answered".into(), &false.into(), &"corp".into())
        );
        assert!(
            line["client"]
                .as_str()
                .is_some_and(|client| client.starts_with("127.0.0.1:")),
            "{line}"
        );
        assert!(line["total_ms"].as_f64() >= line["queue_ms"].as_f64(), "{line}");
    }
}

#[test]
fn every_operation_is_told_once_as_it_was_and_no_secret_is() {
    let (slapd, usherd) = front("operations = [\"all\"]");
    let mut client = Client::connect(&usherd.plain(0));
    let new = format!("uid=audited,{PEOPLE}");
    assert_eq!(client.one(&ops::bind(&user(1), "wrong-sesame")).code(), 49);
    client.bind(EDITOR.0, EDITOR.1);
    let filter = ops::and(&[present("uid"), equal("uid", "user5")]);
    client.call(&ops::search(PEOPLE, ops::SUB, &filter, &["cn", "mail"]));
    client.call(&ops::search(
        &user(5),
        ops::BASE,
        &equal("userPassword", "value-sesame"),
        &[],
    ));
    client.call(&ops::compare(&user(5), "uid", "value-sesame"));
    let attributes: &[(&str, &[&str])] = &[
        ("objectClass", &["inetOrgPerson"]),
        ("sn", &["value-sesame"]),
        ("cn", &["value-sesame"]),
        ("userPassword", &["value-sesame"]),
    ];
    client.call(&ops::add(&new, attributes));
    client.call(&ops::modify(&new, &[(2, "description", &["value-sesame"])]));
    client.call(&ops::rename(&new, "uid=audited2", true, None));
    client.call(&ops::delete(&format!("uid=audited2,{PEOPLE}")));
    client.call(&ops::whoami());
    client.call(&ops::password_modify(
        Some(&user(9)),
        Some("old-sesame"),
        Some("new-sesame"),
    ));
    client.send(&ops::abandon(77));
    client.send(&ops::unbind());
    let lines = lines(&usherd, 13);
    let of = |field: &str| {
        lines
            .iter()
            .map(|line| line[field].as_str().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    let words = "bind bind search search compare add modify modify-dn delete extended extended abandon unbind";
    assert_eq!(of("operation").join(" "), words);
    assert_eq!(lines[0]["bind_dn"], user(1));
    assert_eq!((&lines[0]["result"], &lines[0]["identity"]), (&49.into(), &"".into()));
    let editor = format!("dn:{}", EDITOR.0);
    assert!(lines[1..].iter().all(|line| line["identity"] == editor), "{lines:?}");
    assert_eq!(
        (&lines[2]["dn"], &lines[2]["scope"], &lines[2]["entries"]),
        (&PEOPLE.into(), &"sub".into(), &1.into())
    );
    assert_eq!(lines[2]["filter"], "(&(uid=*)(uid=user5))");
    assert_eq!(lines[2]["attributes"], serde_json::json!(["cn", "mail"]));
    assert_eq!(lines[3]["filter"], "(hidden)");
    assert_eq!(
        (&lines[5]["dn"], &lines[5]["attributes"][3]),
        (&new.as_str().into(), &"userPassword".into())
    );
    assert_eq!(lines[7]["new_rdn"], "uid=audited2");
    assert_eq!(
        (&lines[9]["oid"], lines[9].get("server")),
        (&"1.3.6.1.4.1.4203.1.11.3".into(), None)
    );
    told_of_the_server(&lines[..9], &slapd.url());
    let text = text(&usherd);
    for secret in ["sesame", EDITOR.1, &password(1)] {
        assert!(!text.contains(secret), "{secret} is in the log: {text}");
    }
    usherd.stop();
}

#[test]
fn what_usherd_refuses_or_gives_up_is_told_and_odd_names_break_no_line() {
    let (mut slapd, usherd) = front("operations = [\"bind\", \"search\"]\nresults = \"failures\"");
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(client.one(&ops::bind("cn=\"\n\\", "")).code(), 53);
    client.call(&ops::search(&user(5), ops::BASE, &present("uid"), &[]));
    slapd.kill();
    usherd.until("the server is down", |status| {
        status["directories"][0]["servers"][0]["state"] == "down"
    });
    assert_eq!(
        client.one(&ops::search(BASE, ops::BASE, &present("uid"), &[])).code(),
        52
    );
    let lines = lines(&usherd, 2);
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["result"]),
        (&"refused".into(), &53.into())
    );
    assert_eq!(lines[0]["bind_dn"], "cn=\"\n\\");
    assert_eq!(
        (&lines[1]["outcome"], &lines[1]["result"]),
        (&"failed".into(), &52.into())
    );
    usherd.stop();
}

#[test]
fn a_file_that_is_moved_away_is_begun_anew_and_one_that_is_full_is_put_away() {
    let (_slapd, usherd) = front("operations = [\"search\"]\nrotate_bytes = \"64KiB\"\nkeep = 2");
    let mut client = Client::connect(&usherd.plain(0));
    let ask = ops::search(&user(5), ops::BASE, &present("uid"), &[]);
    client.call(&ask);
    lines(&usherd, 1);
    let (path, moved) = (
        usherd.folder.path().join("audit.jsonl"),
        usherd.folder.path().join("moved"),
    );
    fs::rename(&path, &moved).expect("our own file");
    assert!(usherd.command(&["reload"]).status.success());
    client.call(&ask);
    lines(&usherd, 1);
    assert_eq!(fs::read_to_string(&moved).expect("our own file").lines().count(), 1);
    for _ in 0..200 {
        client.call(&ask);
    }
    let put_away = usherd.folder.path().join("audit.jsonl.1");
    wait_for("the full file is put away", Duration::from_secs(10), || {
        client.call(&ask);
        put_away.exists().then_some(())
    });
    let all = usherd.until("all is written", |status| status["audit"]["queue"] == 0);
    assert_eq!(all["audit"]["lost"], 0);
    usherd.stop();
}
