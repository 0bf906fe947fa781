//! The feed against slapd: what is told, what is told once, and what is kept when something dies.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::proc::{Folder, Process, run, wait_for};
use crate::slapd::{ADMIN, BASE, PEOPLE, Slapd, USERS, user};
use crate::usherd::{BINARY, restrict};

const LIMIT: Duration = Duration::from_secs(60);

/// `usherd feed run` in a folder of its own.
pub(crate) struct Feed {
    pub(crate) folder: Folder,
    urls: Vec<String>,
    pub(crate) flags: Vec<String>,
    /// As whom it asks: name and password.
    pub(crate) bind: (String, String),
    process: Option<Process>,
}

impl Feed {
    pub(crate) fn new(urls: &[String], flags: &[&str]) -> Self {
        let folder = Folder::new("feed");
        let mut feed = Self {
            folder,
            urls: urls.to_vec(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            bind: (ADMIN.0.to_owned(), ADMIN.1.to_owned()),
            process: None,
        };
        feed.start();
        feed
    }

    pub(crate) fn start(&mut self) {
        let (state, out) = (self.folder.file("state"), self.folder.path().join("out"));
        let secret = self.folder.write("secret", &self.bind.1);
        restrict(&secret);
        // The sink is a file's end: lines of several runs follow each other, as in a pipe.
        let mut args = vec!["feed", "run"];
        args.extend(self.urls.iter().map(String::as_str));
        args.extend(["--state", &state, "--base", BASE, "--bind-dn", &self.bind.0]);
        args.extend(["--bind-password-file", &secret, "--log", "human"]);
        args.extend(self.flags.iter().map(String::as_str));
        self.process = Some(Process::start(BINARY, &args, &out));
    }

    pub(crate) fn state(&self) -> String {
        self.folder.file("state")
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// SIGINT; it ends cleanly.
    pub(crate) fn stop(&mut self) {
        self.process().signal("INT");
        let status = self.process().wait(LIMIT);
        let said = self.process().output();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("panicked at"), "{said}");
    }

    /// Everything that was told, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("{\"seq\""));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn until<T>(&self, what: &str, mut wanted: impl FnMut(&[Value]) -> Option<T>) -> T {
        wait_for(what, LIMIT, || {
            std::thread::sleep(Duration::from_millis(20));
            wanted(&self.events())
        })
    }

    /// Waits for so many complete contents.
    pub(crate) fn complete(&self, times: usize) {
        self.until("the content is complete", |events| {
            (events.iter().filter(|event| event["op"] == "refresh-done").count() >= times).then_some(())
        });
    }

    /// Waits for an event of this kind about this name.
    pub(crate) fn told(&self, op: &str, dn: &str) -> Value {
        let found = |event: &&Value| event["op"] == op && event["dn"] == dn;
        self.until(&format!("{op} {dn}"), |events| events.iter().rev().find(found).cloned())
    }

    pub(crate) fn command(&self, words: &[&str]) -> (bool, String) {
        let state = self.state();
        let output = run(BINARY, &[&["feed"], words, &["--state", &state]].concat(), LIMIT);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }

    pub(crate) fn status(&self) -> Value {
        let (_, said) = self.command(&["status", "--json"]);
        serde_json::from_str(said.trim()).unwrap_or(Value::Null)
    }

    pub(crate) fn until_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, LIMIT, || {
            std::thread::sleep(Duration::from_millis(50));
            Some(self.status()).filter(|status| wanted(status))
        })
    }
}

/// What somebody has who applies the events: uuid to name and attributes.
fn applied(events: &[Value]) -> BTreeMap<String, (String, Value)> {
    let mut world = BTreeMap::new();
    let mut last = 0;
    for event in events {
        let seq = event["seq"].as_u64().expect("each has a number");
        if seq <= last {
            continue;
        }
        last = seq;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["op"].as_str() {
            Some("add" | "modify" | "move") => {
                world.insert(text("uuid"), (text("dn"), event["attributes"].clone()));
            }
            Some("delete") => _ = world.remove(&text("uuid")),
            _ => {}
        }
    }
    world
}

/// The same, as the directory has it: names and descriptions.
pub(crate) fn held(slapd: &Slapd) -> Vec<(String, String)> {
    let url = slapd.url();
    let args = [
        "-x",
        "-LLL",
        "-o",
        "ldif-wrap=no",
        "-M",
        "-H",
        &url,
        "-D",
        ADMIN.0,
        "-w",
        ADMIN.1,
    ];
    let output = run(
        "/usr/bin/ldapsearch",
        &[&args[..], &["-b", BASE, "(objectClass=*)", "description"]].concat(),
        LIMIT,
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut all: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(dn) = line.strip_prefix("dn: ") {
            all.push((dn.to_owned(), String::new()));
        } else if let (Some(value), Some(last)) = (line.strip_prefix("description: "), all.last_mut()) {
            value.clone_into(&mut last.1);
        }
    }
    all.sort();
    all
}

pub(crate) fn told_to_be(events: &[Value]) -> Vec<(String, String)> {
    let world = applied(events);
    let description = |attributes: &Value| attributes["description"][0].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<(String, String)> = world
        .values()
        .map(|(dn, attributes)| (dn.clone(), description(attributes)))
        .collect();
    all.sort();
    all
}

pub(crate) fn change(slapd: &Slapd, ldif: &str) {
    let folder = Folder::new("ldif");
    let file = folder.write("change.ldif", ldif);
    let url = slapd.url();
    let args = ["-x", "-M", "-H", &url, "-D", ADMIN.0, "-w", ADMIN.1, "-f", &file];
    let output = run("/usr/bin/ldapmodify", &args, LIMIT);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn described(number: usize, text: &str) -> String {
    format!(
        "dn: {}\nchangetype: modify\nreplace: description\ndescription: {text}\n\n",
        user(number)
    )
}

pub(crate) fn deleted(number: usize) -> String {
    format!("dn: {}\nchangetype: delete\n\n", user(number))
}

#[test]
fn the_content_then_each_kind_of_change_and_after_a_restart_only_what_is_new() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &["--before"]);
    feed.complete(1);
    assert_eq!(told_to_be(&feed.events()), held(&slapd));
    let first = feed.events().len();

    change(&slapd, &described(1, "changed"));
    let event = feed.told("modify", &user(1));
    assert_eq!(event["changed"][0], "description");
    assert_eq!(event["before"]["description"][0], "token-1");
    assert_eq!(event["attributes"]["description"][0], "changed");
    change(&slapd, &deleted(2));
    feed.told("delete", &user(2));
    let moved = format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: uid=other3\ndeleteoldrdn: 1\n\n",
        user(3)
    );
    change(&slapd, &moved);
    assert_eq!(feed.told("move", &format!("uid=other3,{PEOPLE}"))["old_dn"], user(3));
    let added = format!("dn: ou=new,{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: new\n\n");
    change(&slapd, &added);
    feed.told("add", &format!("ou=new,{BASE}"));
    assert_eq!(feed.events().len(), first + 4, "one event for each change");

    feed.stop();
    change(&slapd, &described(4, "while away"));
    change(&slapd, &deleted(5));
    feed.start();
    feed.told("modify", &user(4));
    feed.told("delete", &user(5));
    feed.complete(2);
    assert_eq!(
        feed.events().len(),
        first + 4 + 3,
        "nothing is told twice: two changes, and the end of the refresh"
    );
    assert_eq!(told_to_be(&feed.events()), held(&slapd));
    feed.stop();
}

#[test]
fn a_renamed_container_tells_of_everything_below_it() {
    let slapd = Slapd::start();
    let feed = Feed::new(&[slapd.url()], &["--attributes", "description"]);
    feed.complete(1);
    let before = feed.events().len();
    let moved = format!("dn: {PEOPLE}\nchangetype: modrdn\nnewrdn: ou=folk\ndeleteoldrdn: 1\n\n");
    change(&slapd, &moved);
    feed.until("all have moved", |events| (events.len() > before + USERS).then_some(()));
    assert_eq!(told_to_be(&feed.events()), held(&slapd));
}

#[test]
fn killed_in_the_middle_of_everything_it_tells_the_directory_in_the_end() {
    let mut slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    // In the first refresh,
    feed.until("some entries", |events| (events.len() > 500).then_some(()));
    feed.process().kill();
    feed.start();
    feed.until("more", |events| (applied(events).len() > USERS / 2).then_some(()));
    // with its provider,
    slapd.kill();
    slapd.revive();
    feed.complete(1);
    // and while it follows.
    for round in 0..4 {
        for number in round * 20 + 10..round * 20 + 30 {
            change(&slapd, &described(number, &format!("round {round}")));
            if number % 10 == 5 {
                feed.process().kill();
                feed.start();
            }
        }
        change(&slapd, &deleted(1000 + round));
        if round % 2 == 1 {
            slapd.kill();
            slapd.revive();
        }
    }
    let wanted = held(&slapd);
    feed.until("the directory is told", |events| {
        (told_to_be(events) == wanted).then_some(())
    });
    in_order(&feed.events());
}

/// Numbers grow but where delivery was repeated; what is repeated is the same.
fn in_order(events: &[Value]) {
    let mut known: BTreeMap<u64, &Value> = BTreeMap::new();
    for event in events {
        let seq = event["seq"].as_u64().expect("a number");
        if let Some(before) = known.insert(seq, event) {
            assert_eq!(before, event, "one number is one event");
        }
    }
    let numbers: Vec<u64> = known.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gap");
}

#[test]
fn another_provider_goes_on_where_the_last_one_was() {
    let mut pair = Slapd::mirror();
    let feed = Feed::new(&[pair[0].url(), pair[1].url()], &[]);
    feed.complete(1);
    change(&pair[0], &described(1, "one"));
    feed.told("modify", &user(1));
    change(&pair[1], &described(2, "two"));
    feed.told("modify", &user(2));
    let before = feed.events().len();
    pair[0].kill();
    change(&pair[1], &described(3, "three"));
    feed.told("modify", &user(3));
    pair[0].revive();
    pair[1].kill();
    change(&pair[0], &described(4, "four"));
    feed.told("modify", &user(4));
    let events = feed.events();
    let about = events[before..].iter().filter(|event| event["op"] != "refresh-done");
    assert_eq!(about.count(), 2, "nothing is told again: {:?}", &events[before..]);
}

#[test]
fn a_refresh_that_would_delete_too_much_waits_for_an_operator() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &["--max-deletes", "5"]);
    feed.complete(1);
    feed.stop();
    let many: String = (100..120).map(deleted).collect();
    change(&slapd, &many);
    let before = feed.events().len();
    feed.start();
    feed.until_status("held", |status| status["held"] == 20);
    change(&slapd, &described(1, "meanwhile"));
    feed.told("modify", &user(1));
    let gone = feed.events()[before..]
        .iter()
        .filter(|event| event["op"] == "delete")
        .count();
    assert_eq!(gone, 0, "nothing is deleted");
    let (done, said) = feed.command(&["confirm"]);
    assert!(done, "{said}");
    feed.told("delete", &user(119));
    feed.complete(2);
    assert_eq!(told_to_be(&feed.events()), held(&slapd));
    assert!(!feed.command(&["confirm"]).0, "nothing is held any more");
}

#[test]
fn one_folder_is_one_process_s() {
    let slapd = Slapd::start();
    let feed = Feed::new(&[slapd.url()], &["--scope", "base"]);
    feed.complete(1);
    let state = feed.state();
    let url = slapd.url();
    let second = run(BINARY, &["feed", "run", &url, "--state", &state, "--base", BASE], LIMIT);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"));
}

#[test]
fn paused_nothing_is_told_and_nothing_is_lost_and_a_reset_tells_all_anew() {
    let slapd = Slapd::start();
    let feed = Feed::new(&[slapd.url()], &["--scope", "one"]);
    feed.complete(1);
    let entries = applied(&feed.events()).len();
    assert!(feed.command(&["pause"]).0);
    let unit = format!("dn: ou=scratch,{BASE}\nchangetype: modify\nreplace: description\ndescription: x\n\n");
    change(&slapd, &unit);
    let status = feed.until_status("it waits", |status| status["outbox_events"] == 1);
    assert_eq!(status["paused"], true);
    let before = feed.events().len();
    assert!(feed.command(&["resume"]).0);
    feed.told("modify", &format!("ou=scratch,{BASE}"));
    assert_eq!(feed.events().len(), before + 1);

    assert!(feed.command(&["reset"]).0);
    feed.complete(2);
    let events = feed.events();
    let anew = events[before + 1..].iter().filter(|event| event["op"] == "add").count();
    assert_eq!(anew, entries);
    in_order(&events);
    let (done, said) = feed.command(&["replay", "--from", "1"]);
    assert!(done, "{said}");
    feed.until("all is told again", |now| {
        (now.len() == events.len() + entries).then_some(())
    });
    in_order(&feed.events());
}

#[test]
fn a_file_names_feeds_that_come_change_and_go_with_a_reload() {
    let slapd = Slapd::start();
    let setup = crate::usherd::Setup::corp("", &[crate::usherd::server(&slapd.url(), "")]);
    let folder = setup.folder.path().to_owned();
    let feeds = |names: &[&str], filter: &str| -> String {
        let section = |name: &&str| {
            format!(
                "[feed.{name}]\ndirectory = \"corp\"\nfilter = \"{filter}\"\nstate = \"{name}\"\npartitions = 4\n\
                 sink = {{ type = \"ndjson\" }}\n\n"
            )
        };
        names.iter().map(section).collect()
    };
    let usherd = setup
        .extra(&feeds(&["a", "b"], "(objectClass=organizationalUnit)"))
        .start();
    let status = usherd.until("both are complete", |status| {
        let complete =
            |at: usize| status["feeds"][at]["phase"] == "persist" && status["feeds"][at]["outbox_events"] == 0;
        complete(0) && complete(1)
    });
    let refreshes = status["feeds"][0]["refreshes"].clone();
    let rest = fs::read_to_string(Path::new(&folder).join("usherd.toml")).expect("the file");
    let rest = rest.split("[feed.").next().expect("what is before").to_owned();
    let rest = rest.split_once("[directory").map_or("", |(_, rest)| rest).to_owned();
    let both = feeds(&["a"], "(objectClass=organizationalUnit)") + &feeds(&["c"], "(cn=editor)");
    usherd.rewrite(&format!("[directory{rest}{both}"));
    assert!(usherd.command(&["reload"]).status.success());
    let status = usherd.until("c is there and b is not", |status| {
        let names: Vec<&str> = (0..3).filter_map(|at| status["feeds"][at]["name"].as_str()).collect();
        names == ["a", "c"] && status["feeds"][1]["phase"] == "persist"
    });
    assert_eq!(status["feeds"][0]["refreshes"], refreshes, "a was not touched");
    assert_eq!(status["feeds"][1]["entries"], 1);
    usherd.stop();
}

/// Whoever asks the control socket without a feed is told so.
#[test]
fn a_daemon_without_feeds_says_so() {
    let slapd = Slapd::start();
    let usherd = crate::usherd::Setup::corp("", &[crate::usherd::server(&slapd.url(), "")]).start();
    let output = usherd.command(&["feed", "confirm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no feed"));
    usherd.stop();
}
