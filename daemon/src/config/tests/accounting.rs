//! Accounting of RADIUS: what is written becomes a plan, or every mistake with its place.

use std::time::Duration;

use wire::radius::Dictionary;

use super::super::keys::Kind;
use super::super::radius::accounting::{self, Around};
use super::super::radius::raw_accounting::{self, Accounting};
use super::super::reader::Section;
use super::*;
use crate::accounting::plan::{Format, Settings, SinkPlan};

/// Reads the settings, written as a table of their own.
fn read(fixture: &Fixture, text: &str, state: Option<&Path>) -> Result<Settings, Vec<String>> {
    let source = Source {
        name: "usherd.toml".into(),
        text: text.into(),
    };
    let table = DeTable::parse(text).unwrap();
    let mut p = Problems::new(Some(Arc::new(source)));
    let title = "`accounting` of [[listen]]";
    let section = Section::new(Kind::Accounting, title, Place::Text(0..1), table.get_ref());
    let raw = Accounting::Write(Box::new(raw_accounting::read_table(&mut p, section)));
    let around = Around {
        folder: &Folder::new(&fixture.0),
        services: &["sql", "winbind"],
        dictionary: &Dictionary::standard(),
        state_dir: state,
        listener: "[::]:1813",
    };
    let plan = accounting::check(&mut p, &raw, &around);
    if !p.has_errors() {
        return Ok(plan.unwrap().unwrap());
    }
    let list = p.into_list();
    let told = |one: &Diagnostic| {
        let (line, column) = one.position().unwrap();
        format!("{line}:{column} {}; {}", one.message, one.help.join("; "))
    };
    Err(list.iter().map(told).collect())
}

#[test]
fn defaults_of_files_and_services() {
    let fixture = Fixture::new("accounting");
    let plan = read(&fixture, "file = \"x-%Y.json\"\n", None).unwrap();
    assert_eq!((plan.queue_max, &plan.spool), (65_536, &None), "without state_dir");
    let SinkPlan::File(file) = plan.sink else {
        panic!("a file")
    };
    assert!(file.sync && file.format == Format::Json && file.rotate_bytes == 0 && file.mode == 0o600);
    let state = fixture.0.join("state");
    let text =
        "service = \"sql\"\nstatement = \"account\"\nparameters = [\"session_key\", \"User-Name\"]\ntimeout = \"2s\"\n";
    let plan = read(&fixture, text, Some(&state)).unwrap();
    let SinkPlan::Service(service) = plan.sink else {
        panic!("a service")
    };
    assert_eq!((service.concurrency, service.timeout), (8, Duration::from_secs(2)));
    assert_eq!(service.statement.unwrap().parameters, ["session_key", "User-Name"]);
    let spool = plan.spool.unwrap();
    assert_eq!(spool.folder, state.join("accounting/1813"));
    assert_eq!((spool.bytes_max, spool.after), (1 << 30, Duration::from_secs(1)));
    let plan = read(&fixture, "file = \"x\"\nspool = false\n", Some(&state)).unwrap();
    assert_eq!(plan.spool, None);
}

#[test]
fn every_mistake_has_its_place() {
    let fixture = Fixture::new("accounting-mistakes");
    for (text, place, words) in [
        ("mode = \"0600\"\n", "1:1 ", "neither a `file` nor a `service`"),
        ("file = \"x\"\nservice = \"sql\"\n", "2:11 ", "a `file` and a `service`"),
        ("file = \"x-%S\"\n", "1:8 ", "%{client}"),
        ("file = \"gone/x\"\n", "1:8 ", "there is no folder"),
        (
            "file = \"x\"\ntimeout = \"1s\"\n",
            "2:11 ",
            "`timeout` is for accounting with a `service`",
        ),
        (
            "service = \"sql\"\nformat = \"json\"\n",
            "2:10 ",
            "`format` is for accounting with a `file`",
        ),
        ("service = \"sqll\"\n", "1:11 ", "did you mean \"sql\"?"),
        (
            "service = \"sql\"\nstatement = \"x\"\n",
            "2:13 ",
            "without `parameters`",
        ),
        ("service = \"sql\"\nparameters = []\n", "2:14 ", "without a `statement`"),
        (
            "service = \"sql\"\nstatement = \"x\"\nparameters = [\"User-Nam\"]\n",
            "3:15 ",
            "did you mean \"User-Name\"?",
        ),
        ("file = \"x\"\nspool = true\n", "2:9 ", "state_dir"),
        ("file = \"x\"\nspool_after = \"2s\"\n", "2:15 ", "there is none"),
        ("file = \"x\"\nrotate_bytes = 100\n", "2:16 ", "too small"),
        ("file = \"x\"\nformat = \"xml\"\n", "2:10 ", "\"detail\""),
        ("file = \"x\"\nfsync = true\n", "2:1 ", "fsync"),
    ] {
        let found = read(&fixture, text, None).expect_err(text);
        let right = found.iter().any(|one| one.starts_with(place) && one.contains(words));
        assert!(right && found.len() == 1, "{text}: {found:?}");
    }
}

#[test]
fn listeners_that_write_to_the_same_file_say_the_same_of_it() {
    let fixture = Fixture::new("accounting-shared");
    let client = "[client.nas]\naddress = \"192.0.2.7\"\nsecret_file = \"secret\"\n";
    fixture.file("clients.toml", client, 0o600);
    let listener = |address: &str, more: &str, accounting: &str| {
        format!(
            "[[listen]]\nprotocol = \"radius\"\naddress = \"{address}\"\nclients_file = \"clients.toml\"\n\
             answer = \"accounting\"\n{more}\naccounting = {{ {accounting} }}\n"
        )
    };
    let found = |text: &str| {
        let mut found = fixture.found(text);
        found.retain(|one| !one.contains("warning: "));
        found
    };
    let first = listener("127.0.0.1:1813", "", "file = \"x\"");
    for (accounting, key) in [
        ("file = \"x\", format = \"detail\"", "format"),
        ("file = \"./x\", sync = false", "sync"),
        ("file = \"x\", rotate_bytes = 1048576", "rotate_bytes"),
        ("file = \"x\", mode = \"0640\"", "mode"),
    ] {
        let told = found(&(first.clone() + &listener("[::1]:1813", "", accounting)));
        assert_eq!(told.len(), 1, "{told:?}");
        let right = format!("14:23 two listeners write to this file, each with another `{key}`");
        assert!(told[0].starts_with(&right), "{told:?}");
    }
    fixture.file("more", "ATTRIBUTE Usherd-Test 240 string\n", 0o600);
    let other = listener("[::1]:1813", "dictionary_files = [\"more\"]", "file = \"x\"");
    let told = found(&(first.clone() + &other));
    assert!(told.len() == 1 && told[0].contains("`dictionary_files`"), "{told:?}");
    // What is written is what is by default: the same.
    let plan =
        fixture.plan(&(first.clone() + &listener("[::1]:1813", "", "file = \"./x\", format = \"json\", sync = true")));
    assert_eq!(plan.listeners.len(), 2);
    let plan = fixture.plan(&(first + &listener("[::1]:1813", "", "file = \"y\", sync = false")));
    assert_eq!(plan.listeners.len(), 2);
}
