use std::net::SocketAddr;

use engine::core::time::Instant;
use serde_json::Value;
use wire::ldap::envelope;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, ChangeSpec, SearchSpec};

use super::plan::{Operations, Settings, WORDS, WhenFull};
use super::record::{End, Entry, From};
use super::{Handle, Queue};
use crate::accounting::plan::{FilePlan, Format, PathTemplate};

fn line(message: &[u8], end: End) -> Value {
    let env = envelope::peek(message).expect("a message");
    let from = From {
        listener: "127.0.0.1:389",
        client: Some(SocketAddr::from(([192, 0, 2, 1], 5))),
        connection: (1, 7),
        tls: true,
        identity: b"dn:cn=me",
        directory: "corp",
    };
    let mut entry = Entry::begin(&from, &env, Instant::from_millis(10));
    entry.sent = Some(Instant::from_millis(12));
    let text = entry.end(end, b"dn:uid=ann", Instant::from_micros(15_250));
    assert_eq!(text.iter().filter(|octet| **octet == b'\n').count(), 1, "one line");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn a_bind_says_as_whom_and_never_the_password() {
    let mut out = Vec::new();
    message::write_simple_bind(&mut out, 3, b"uid=ann", b"sesame-sesame");
    let said = line(&out, End::Answered(49));
    assert_eq!(said["bind_dn"], "uid=ann");
    assert_eq!(said["identity"], "dn:uid=ann");
    assert_eq!(
        (&said["result"], &said["result_name"]),
        (&49.into(), &"invalidCredentials".into())
    );
    assert_eq!((&said["queue_ms"], &said["total_ms"]), (&2.0.into(), &5.25.into()));
    assert_eq!(
        (&said["client"], &said["connection"]),
        (&"192.0.2.1:5".into(), &"1-7".into())
    );
    assert!(!said.to_string().contains("sesame"));
}

#[test]
fn names_of_attributes_are_told_and_values_are_not() {
    let mut out = Vec::new();
    let values: &[&[u8]] = &[b"top-secret"];
    message::write_add(&mut out, 1, b"cn=a", &[(b"cn", values), (b"userPassword", values)]);
    let said = line(&out, End::Answered(0));
    assert_eq!(said["attributes"], serde_json::json!(["cn", "userPassword"]));
    assert!(!said.to_string().contains("top-secret"));
    out.clear();
    let change = ChangeSpec {
        operation: 2,
        name: b"mail",
        values,
    };
    message::write_modify(&mut out, 1, b"cn=a", &[change]);
    let said = line(&out, End::Answered(0));
    assert_eq!(said["attributes"], serde_json::json!(["mail"]));
    assert!(!said.to_string().contains("top-secret"));
    out.clear();
    message::write_compare(&mut out, 1, b"cn=a", b"userPassword", b"top-secret");
    assert!(!line(&out, End::Answered(5)).to_string().contains("top-secret"));
}

#[test]
fn odd_octets_do_not_break_a_line_and_long_names_are_cut() {
    let search = |base: &[u8], filter: &str| {
        let mut out = Vec::new();
        let filter = wire::ldap::filter::parse(filter).expect("a filter");
        let spec = SearchSpec {
            base,
            scope: Scope::Subtree,
            filter: &filter,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            attributes: &[],
        };
        message::write_search(&mut out, 1, &spec);
        line(&out, End::Answered(0))
    };
    let said = search(b"cn=\"\n\xff\x00\\", "(cn=a)");
    assert_eq!(said["dn"], "cn=\"\n\\ff\u{0}\\");
    assert_eq!((&said["scope"], &said["filter"]), (&"sub".into(), &"(cn=a)".into()));
    let said = search(&[b'x'; 5000], "(&(uid=a)(userPassword=sesame))");
    assert_eq!(said["dn"].as_str().map(|dn| dn.chars().count()), Some(1025));
    assert_eq!(said["filter"], "(hidden)");
}

#[test]
fn every_word_means_the_operation_of_that_name() {
    use wire::ldap::envelope::tag;
    for (tag, word) in [(tag::BIND_REQUEST, "bind"), (tag::MODIFY_DN_REQUEST, "modify-dn")] {
        let (_, one) = WORDS.iter().find(|(name, _)| *name == word).expect("a word");
        assert!(one.has(tag));
    }
    assert!(Operations::DEFAULT.has(tag::ADD_REQUEST) && !Operations::DEFAULT.has(tag::SEARCH_REQUEST));
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let path = std::env::temp_dir().join(format!("usherd-audit-{}.jsonl", std::process::id()));
    let settings = Settings {
        file: FilePlan {
            path: PathTemplate::plain(&path),
            format: Format::Json,
            sync: false,
            rotate_bytes: 0,
            rotate_every: std::time::Duration::ZERO,
            keep: 1,
            mode: 0o600,
        },
        queue_max: 2,
        when_full: WhenFull::Drop,
        operations: Operations::DEFAULT,
        sample_millionths: 1_000_000,
        directories: Vec::new(),
        failures_only: false,
    };
    let queue = std::sync::Arc::new(Queue::default());
    let mut writer = super::Writer {
        queue: std::sync::Arc::clone(&queue),
        thread: None,
    };
    writer.configure(&settings);
    let handle = Handle(std::sync::Arc::clone(&queue));
    for number in 0..5 {
        handle.say(format!("{{\"n\":{number}}}\n").into_bytes());
    }
    let thread = std::thread::spawn(move || super::run(&queue, &settings));
    let figures = writer.stop();
    thread.join().expect("it ends");
    assert_eq!((figures.written, figures.lost), (2, 3));
    let text = std::fs::read_to_string(&path).expect("the log");
    std::fs::remove_file(&path).expect("our own file");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((lines.len(), &lines[0]["lost"]), (3, &3.into()));
}
