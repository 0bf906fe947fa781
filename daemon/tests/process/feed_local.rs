//! A feed of the local directory: the daemon's own file is the provider.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::local_write::{ADMIN, people};
use crate::proc::{Folder, Process, free_port, run, shown, wait_for};
use crate::slapd::{BASE, PEOPLE};
use crate::usherd::BINARY;

const LIMIT: Duration = Duration::from_secs(30);

/// A daemon with a writable file of people, and a feed of it into a file.
struct Local {
    folder: Folder,
    port: u16,
    process: Option<Process>,
}

impl Local {
    fn new(count: usize, write_back: bool) -> Self {
        let folder = Folder::new("feed-local");
        folder.write("people.ldif", people(count));
        let port = free_port();
        let text = format!(
            "[server]\ncontrol = \"control\"\nworkers = 2\n\n[directory.people]\nbase = \"{BASE}\"\nidentity = \"proxied\"\n\
             server = [{{ ldif = \"people.ldif\", writable = true, write_back = {write_back}, admins = [\"{}\"] }}]\n\n\
             [[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:{port}\"\ndirectory = \"people\"\n\n\
             [feed.people]\ndirectory = \"people\"\nstate = \"state\"\npartitions = 4\n\
             sink = {{ type = \"file\", path = \"out\" }}\n",
            ADMIN.0
        );
        folder.write("usherd.toml", text);
        let mut local = Self {
            folder,
            port,
            process: None,
        };
        local.start();
        local
    }

    fn start(&mut self) {
        let (file, log) = (self.folder.file("usherd.toml"), self.folder.path().join("log"));
        self.process = Some(Process::start(BINARY, &["run", "-c", &file, "--log", "human"], &log));
    }

    fn stop(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        process.signal("INT");
        let status = process.wait(LIMIT);
        assert_eq!(status.code(), Some(0), "{}", process.output());
        assert!(!process.output().contains("panicked"), "{}", process.output());
    }

    fn events(&self) -> Vec<Value> {
        events(&self.folder.path().join("out"))
    }

    fn told(&self, op: &str, dn: &str) -> Value {
        wait_for(&format!("{op} {dn}"), LIMIT, || {
            std::thread::sleep(Duration::from_millis(20));
            let mut events = self.events().into_iter().rev();
            events.find(|event| event["op"] == op && event["dn"] == dn)
        })
    }

    fn complete(&self, times: usize) {
        wait_for("the content is complete", LIMIT, || {
            std::thread::sleep(Duration::from_millis(20));
            let events = self.events();
            (events.iter().filter(|event| event["op"] == "refresh-done").count() >= times).then_some(())
        });
    }

    fn change(&self, ldif: &str) {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        let file = self.folder.write("change.ldif", ldif);
        let args = ["-x", "-H", &url, "-D", ADMIN.0, "-w", ADMIN.1, "-f", &file];
        let output = run("/usr/bin/ldapmodify", &args, LIMIT);
        assert!(output.status.success(), "{}", shown(&output));
    }
}

fn events(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn titled(number: usize, title: &str) -> String {
    format!("dn: uid=user{number},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: {title}\n\n")
}

#[test]
fn what_is_written_to_the_local_directory_is_told_and_a_restart_tells_nothing_twice() {
    let mut local = Local::new(3000, true);
    local.complete(1);
    let first = local.events().len();
    assert_eq!(first, 3000 + 3 + 1, "each entry once, and that this was all");
    local.change(&titled(1, "first"));
    let event = local.told("modify", &format!("uid=user1,{PEOPLE}"));
    assert_eq!(
        (&event["changed"][0], &event["attributes"]["title"][0]),
        (&"title".into(), &"first".into())
    );
    local.change(&format!("dn: uid=user2,{PEOPLE}\nchangetype: delete\n\n"));
    local.told("delete", &format!("uid=user2,{PEOPLE}"));
    local.change(&format!(
        "dn: {PEOPLE}\nchangetype: modrdn\nnewrdn: ou=folk\ndeleteoldrdn: 1\n\n"
    ));
    local.told("move", "uid=user2999,ou=folk,dc=example,dc=com");
    wait_for("all have moved", LIMIT, || {
        (local.events().len() >= first + 2 + 3000).then_some(())
    });
    let before = local.events().len();
    assert_eq!(before, first + 2 + 3000, "everybody but one, and the unit itself");
    local.stop();
    local.start();
    local.complete(2);
    let events = local.events();
    assert_eq!(
        events.len(),
        before + 1,
        "only that it is complete: {:?}",
        &events[before..]
    );
    local.change("dn: uid=user7,ou=folk,dc=example,dc=com\nchangetype: modify\nreplace: title\ntitle: after\n\n");
    local.told("modify", "uid=user7,ou=folk,dc=example,dc=com");
    assert_eq!(local.events().len(), before + 2);
    local.stop();
}

/// What is not written back is not there after a restart; the feed tells what became of it.
#[test]
fn changes_that_go_with_the_daemon_are_taken_back_in_the_feed() {
    let mut local = Local::new(20, false);
    local.complete(1);
    local.change(&titled(1, "for now"));
    local.told("modify", &format!("uid=user1,{PEOPLE}"));
    local.change(&format!("dn: uid=user2,{PEOPLE}\nchangetype: delete\n\n"));
    local.told("delete", &format!("uid=user2,{PEOPLE}"));
    let before = local.events().len();
    local.stop();
    local.start();
    local.complete(2);
    let events = local.events();
    let mut told: Vec<(&str, &str)> = events[before..]
        .iter()
        .map(|event| (event["op"].as_str().unwrap_or(""), event["dn"].as_str().unwrap_or("")))
        .filter(|(op, _)| *op != "refresh-done")
        .collect();
    told.sort_unstable();
    let (one, two) = (format!("uid=user1,{PEOPLE}"), format!("uid=user2,{PEOPLE}"));
    assert_eq!(told, [("add", two.as_str()), ("modify", one.as_str())]);
    local.stop();
}
