//! A feed in trouble: a sink that refuses or hangs, an outbox that is full, a disk that is full, a folder that cannot be used.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::proc::{Folder, Process, run, shown, wait_for};
use crate::slapd::{ADMIN, BASE, Slapd, user};
use crate::usherd::{BINARY, Setup, Usherd, restrict, server};

const LIMIT: Duration = Duration::from_secs(60);

/// Keeps each line in a file of its shard; refuses one name while there is a file that says so, and hangs on one shard.
const PROGRAM: &str = r#"
import json, os, sys, time
folder, shard = sys.argv[1], os.environ["USHERD_SHARD"]
def said(name):
    try:
        return open(os.path.join(folder, name)).read().strip()
    except OSError:
        return None
for line in sys.stdin:
    event = json.loads(line)
    while said("hang") == shard:
        time.sleep(0.05)
    if said("refuse") == event.get("dn"):
        print(json.dumps({"refused": event["seq"], "reason": "not this one"}), flush=True)
        continue
    with open(os.path.join(folder, "out-" + shard), "a") as out:
        out.write(line)
    print(event["seq"], flush=True)
"#;

/// `usherd feed run`, through a shell that lets a limit on file sizes be an error and no death.
struct Feed {
    folder: Folder,
    process: Process,
}

impl Feed {
    fn new(slapd: &Slapd, flags: &[&str]) -> Self {
        let folder = Folder::new("feed-trouble");
        let secret = folder.write("secret", ADMIN.1);
        restrict(&secret);
        folder.write("program.py", PROGRAM);
        let (state, url) = (folder.file("state"), slapd.url());
        let sink = format!(
            "command:/usr/bin/python3 {} {}",
            folder.file("program.py"),
            folder.path().display()
        );
        let mut args = vec!["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", BINARY];
        args.extend(["feed", "run", &url, "--state", &state, "--base", BASE, "--no-initial"]);
        args.extend(["--bind-dn", ADMIN.0, "--bind-password-file", &secret, "--sink", &sink]);
        args.extend(flags);
        let process = Process::start("/bin/sh", &args, &folder.path().join("log"));
        let feed = Self { folder, process };
        feed.until("complete", |status| status["phase"] == "persist");
        feed
    }

    /// What the program has kept, of all shards.
    fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for shard in 0..16 {
            let path = self.folder.path().join(format!("out-{shard}"));
            let text = fs::read_to_string(path).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
        }
        all.retain(|event| event["op"] != "refresh-done");
        all
    }

    fn told(&self, dn: &str) -> Value {
        wait_for(&format!("an event of {dn}"), LIMIT, || {
            std::thread::sleep(Duration::from_millis(20));
            self.events().into_iter().rev().find(|event| event["dn"] == dn)
        })
    }

    fn command(&self, words: &[&str]) -> String {
        let state = self.folder.file("state");
        let output = run(BINARY, &[&["feed"], words, &["--state", &state]].concat(), LIMIT);
        assert!(output.status.success(), "{}", shown(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let state = self.folder.file("state");
        wait_for(what, LIMIT, || {
            std::thread::sleep(Duration::from_millis(50));
            let output = run(BINARY, &["feed", "status", "--json", "--state", &state], LIMIT);
            let status = serde_json::from_slice::<Value>(&output.stdout).ok()?;
            Some(status).filter(|status| wanted(status))
        })
    }

    /// No file of the process may grow beyond this.
    fn file_bytes_max(&self, bytes: &str) {
        let (pid, limit) = (format!("--pid={}", self.process.pid()), format!("--fsize={bytes}:"));
        let output = run("/usr/bin/prlimit", &[&pid, &limit], LIMIT);
        assert!(output.status.success(), "{}", shown(&output));
    }
}

fn describe(slapd: &Slapd, numbers: std::ops::Range<usize>, text: &str) {
    let folder = Folder::new("ldif");
    let one = |number| {
        let dn = user(number);
        format!("dn: {dn}\nchangetype: modify\nreplace: description\ndescription: {text}\n\n")
    };
    let file = folder.write("change.ldif", numbers.map(one).collect::<String>());
    let url = slapd.url();
    let args = ["-x", "-H", &url, "-D", ADMIN.0, "-w", ADMIN.1, "-f", &file];
    let output = run("/usr/bin/ldapmodify", &args, LIMIT);
    assert!(output.status.success(), "{}", shown(&output));
}

#[test]
fn what_a_sink_refuses_is_put_aside_shown_and_told_again_and_the_rest_flows() {
    let slapd = Slapd::start();
    let feed = Feed::new(&slapd, &["--partitions", "1"]);
    feed.folder.write("refuse", user(7));
    describe(&slapd, 5..10, "first");
    feed.told(&user(9));
    let mut names: Vec<String> = feed.events().iter().map(|event| event["dn"].to_string()).collect();
    names.dedup();
    assert_eq!(names.len(), 4, "all but the one, each once: {names:?}");
    feed.until("it is counted", |status| status["dead_letters"] == 1);
    let shown = feed.command(&["dead"]);
    let letter: Value = serde_json::from_str(shown.trim()).expect("one object");
    assert!(
        letter["why"].as_str().is_some_and(|why| why.contains("not this one")),
        "{letter}"
    );
    assert_eq!(letter["event"]["dn"], user(7));
    fs::remove_file(feed.folder.path().join("refuse")).expect("it is there");
    describe(&slapd, 7..8, "second");
    feed.told(&user(7));
    let before = feed.events().len();
    feed.command(&["replay", "--all-dead"]);
    let again = wait_for("the entry as it is now", LIMIT, || {
        feed.events().into_iter().nth(before)
    });
    assert_eq!((&again["dn"], &again["op"]), (&user(7).into(), &"add".into()));
    assert_eq!(again["attributes"]["description"][0], "second");
    assert!(again["seq"].as_u64() > letter["seq"].as_u64());
    assert_eq!(feed.command(&["dead"]), "no dead letters\n");
}

#[test]
fn a_sink_that_hangs_holds_up_its_own_shard_only() {
    let slapd = Slapd::start();
    let feed = Feed::new(&slapd, &["--partitions", "4"]);
    feed.folder.write("hang", "1");
    describe(&slapd, 1..201, "x");
    feed.until("only the one waits", |status| {
        let waits = status["outbox_events"].as_u64().unwrap_or(0);
        (1..100).contains(&waits) && waits + feed.events().len() as u64 == 200
    });
    assert!(feed.events().iter().all(|event| event["shard"] != 1));
    fs::remove_file(feed.folder.path().join("hang")).expect("it is there");
    wait_for("everything", LIMIT, || (feed.events().len() == 200).then_some(()));
}

#[test]
fn a_full_disk_loses_nothing_and_is_gone_on_from_when_there_is_room() {
    let slapd = Slapd::start();
    let feed = Feed::new(&slapd, &["--partitions", "1"]);
    describe(&slapd, 1..4, "before");
    feed.told(&user(3));
    feed.until("all is kept", |status| status["outbox_events"] == 0);
    feed.file_bytes_max("4096");
    describe(&slapd, 4..7, "while it is full");
    feed.until("it says so", |status| {
        status["phase"] == "failed"
            && status["last_error"]
                .as_str()
                .is_some_and(|why| why.contains("the state"))
    });
    assert_eq!(feed.events().len(), 3, "nothing is told that is not kept");
    feed.file_bytes_max("unlimited");
    feed.told(&user(6));
    let status = feed.until("it follows", |status| {
        status["phase"] == "persist" && status["outbox_events"] == 0
    });
    assert!(status["store_failures"].as_u64() >= Some(1), "{status}");
    let numbers: Vec<u64> = feed.events().iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(numbers.len(), 6, "each once: {numbers:?}");
    assert!(numbers.is_sorted(), "{numbers:?}");
}

/// A daemon with a feed into a file.
fn followed(slapd: &Slapd, settings: &str) -> Usherd {
    let feed = section("people", settings);
    let setup = Setup::corp("", &[server(&slapd.url(), "")]).extra(&feed);
    let usherd = setup.start();
    usherd.until("it follows", |status| status["feeds"][0]["phase"] == "persist");
    usherd
}

fn section(name: &str, settings: &str) -> String {
    format!(
        "[feed.{name}]\ndirectory = \"corp\"\ninitial = false\npartitions = 2\n{settings}\n\
         sink = {{ type = \"file\", path = \"out-{name}\" }}\n\n"
    )
}

#[test]
fn a_full_outbox_closes_the_session_and_later_goes_on_where_it_was() {
    let slapd = Slapd::start();
    let usherd = followed(&slapd, "state = \"state\"\noutbox_events_max = 1000");
    assert!(usherd.command(&["feed", "pause"]).status.success());
    describe(&slapd, 1..1501, "x");
    let status = usherd.until("it is full", |status| status["feeds"][0]["phase"] == "full");
    describe(&slapd, 1501..1511, "x");
    std::thread::sleep(Duration::from_millis(300));
    let waits = usherd.status()["feeds"][0]["outbox_events"].clone();
    assert_eq!(
        waits, status["feeds"][0]["outbox_events"],
        "nothing is taken while it is full"
    );
    assert!(usherd.command(&["feed", "resume"]).status.success());
    let out = usherd.folder.path().join("out-people");
    let told = |dn: &str| {
        let text = fs::read_to_string(&out).unwrap_or_default();
        text.matches(&format!("\"dn\":\"{dn}\"")).count()
    };
    wait_for("everybody is told", LIMIT, || {
        (1..1511).all(|number| told(&user(number)) >= 1).then_some(())
    });
    assert!((1..1511).all(|number| told(&user(number)) == 1), "each once");
    usherd.stop();
}

#[test]
fn while_nothing_is_delivered_the_server_s_memory_stays_where_it_is() {
    let slapd = Slapd::start();
    let usherd = followed(&slapd, "state = \"state\"\noutbox_events_max = 1000");
    assert!(usherd.command(&["feed", "pause"]).status.success());
    describe(&slapd, 1..1501, &"x".repeat(20_000));
    usherd.until("it is full", |status| status["feeds"][0]["phase"] == "full");
    // Of what is mapped from its file nothing is meant: that is the database.
    let before = slapd.process().memory_kib("RssAnon");
    for letter in ["y", "z"] {
        describe(&slapd, 1..1501, &letter.repeat(20_000));
    }
    let grown = slapd.process().memory_kib("RssAnon").saturating_sub(before);
    assert!(grown < 20_000, "by {grown} KiB for 60 MB of changes");
    usherd.stop();
}

#[test]
fn a_state_folder_that_cannot_be_used_keeps_the_whole_file_from_being_applied() {
    let slapd = Slapd::start();
    let usherd = followed(&slapd, "state = \"state\"");
    usherd.folder.write("blocked", "a file, and no folder");
    let path = usherd.folder.path().join("usherd.toml");
    let text = fs::read_to_string(path).expect("the file");
    let (_, rest) = text.split_once("[directory").expect("a directory");
    // The feed that runs would change, too.
    let changed = rest.replace("partitions = 2", "partitions = 2\nheartbeat = \"1s\"");
    usherd.rewrite(&format!(
        "[directory{changed}{}",
        section("second", "state = \"blocked\"")
    ));
    let refreshes = usherd.status()["feeds"][0]["refreshes"].clone();
    let output = usherd.command(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains("the state folder"), "{}", shown(&output));
    let status = usherd.status();
    assert_eq!(status["feeds"][0]["refreshes"], refreshes, "it was not begun anew");
    assert_eq!(status["feeds"][1], Value::Null);
    assert!(usherd.process.output().contains("nothing has changed"));
    fs::remove_file(usherd.folder.path().join("blocked")).expect("it is there");
    assert!(usherd.command(&["reload"]).status.success());
    usherd.until("both follow", |status| {
        status["feeds"][0]["phase"] == "persist" && status["feeds"][1]["phase"] == "persist"
    });
    usherd.stop();
}
