//! Sinks that remember, through the daemon itself, with kill -9 in the middle: a file and a NATS stream have each event
//! once; a stock Python Listener applies what it is sent and has the directory.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::proc::{Folder, Process, run, wait_for};
use crate::slapd::{ADMIN, BASE, Slapd, user};
use crate::usherd::{BINARY, restrict};

const LIMIT: Duration = Duration::from_secs(60);

/// `usherd feed run` with a sink, in a folder of its own.
struct Feed {
    folder: Folder,
    url: String,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Feed {
    fn new(slapd: &Slapd, folder: Folder, flags: &[&str]) -> Self {
        restrict(&folder.write("secret", ADMIN.1));
        let mut feed = Self {
            folder,
            url: slapd.url(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            process: None,
        };
        feed.start();
        feed
    }

    fn start(&mut self) {
        let (state, secret) = (self.folder.file("state"), self.folder.file("secret"));
        let mut args = vec!["feed", "run", &self.url, "--state", &state, "--base", BASE];
        args.extend(["--bind-dn", ADMIN.0, "--bind-password-file", &secret, "--log", "human"]);
        args.extend(self.flags.iter().map(String::as_str));
        self.process = Some(Process::start(BINARY, &args, &self.folder.path().join("log")));
    }

    fn kill_and_restart(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.start();
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
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whole lines of a file, read.
fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Kills the feed in its first content and while it follows, and waits until the last change has been told.
fn churn(slapd: &Slapd, feed: &mut Feed, told: impl Fn() -> Vec<Value>) -> Vec<Value> {
    wait_for("some entries", LIMIT, || (told().len() > 300).then_some(()));
    feed.kill_and_restart();
    wait_for("the content", LIMIT, || {
        told().iter().any(|event| event["op"] == "refresh-done").then_some(())
    });
    for round in 0..3 {
        describe(slapd, 10..40, &format!("round {round}"));
        feed.kill_and_restart();
    }
    let last = |event: &Value| event["attributes"]["description"][0] == "round 2";
    wait_for("the last round", LIMIT, || {
        let told = told();
        (told.iter().filter(|event| last(event)).count() >= 30).then_some(told)
    })
}

/// Numbers grow within each shard, and none comes twice.
fn assert_once(events: &[Value]) {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for event in events {
        let (seq, shard) = (event["seq"].as_u64().unwrap(), event["shard"].as_u64().unwrap());
        let before = last.insert(shard, seq).unwrap_or(0);
        assert!(seq > before, "{seq} after {before} on shard {shard}");
    }
}

#[test]
fn a_file_has_each_event_once_whatever_is_killed() {
    let slapd = Slapd::start();
    let folder = Folder::new("feed-file");
    let path = folder.path().join("events");
    let sink = format!("file:{}", path.display());
    let mut feed = Feed::new(&slapd, folder, &["--sink", &sink]);
    assert_once(&churn(&slapd, &mut feed, || lines(&path)));
}

/// A server of this test's own, and its port.
fn nats_server(folder: &Folder) -> (Process, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (store, number) = (folder.file("jetstream"), port.to_string());
    // Debian puts it where a user's PATH does not look.
    let path = format!("PATH={}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let server = [
        &path,
        "nats-server",
        "-js",
        "-a",
        "127.0.0.1",
        "-p",
        &number,
        "-sd",
        &store,
    ];
    let server = Process::start("/usr/bin/env", &server, &folder.path().join("nats-log"));
    wait_for("nats-server (Debian package nats-server)", LIMIT, || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    (server, port)
}

#[test]
fn a_stream_has_each_event_once_whatever_is_killed() {
    let slapd = Slapd::start();
    let folder = Folder::new("feed-nats");
    let (_server, port) = nats_server(&folder);
    let sink = format!("nats://127.0.0.1:{port}");
    let mut feed = Feed::new(&slapd, folder, &["--sink", &sink]);
    let told = || messages(port);
    let events = churn(&slapd, &mut feed, told);
    assert_once(&events);
}

#[test]
fn what_the_server_finds_too_large_is_a_dead_letter_and_everything_else_flows() {
    let slapd = Slapd::start();
    let folder = Folder::new("feed-nats-large");
    let (_server, port) = nats_server(&folder);
    let sink = format!("nats://127.0.0.1:{port}");
    let feed = Feed::new(&slapd, folder, &["--sink", &sink, "--no-initial", "--partitions", "2"]);
    let state = feed.folder.file("state");
    let command = |words: &[&str]| {
        let output = run(BINARY, &[&["feed"], words, &["--state", &state]].concat(), LIMIT);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_for("it follows", LIMIT, || {
        command(&["status"]).contains(": persist").then_some(())
    });
    // The event of this entry has more than 1 MiB; what comes behind it, in its shard too, does not.
    describe(&slapd, 7..8, &"x".repeat(1_200_000));
    describe(&slapd, 1..51, "small");
    let about = |number: usize| {
        messages(port)
            .into_iter()
            .filter(|event| event["dn"] == user(number))
            .count()
    };
    wait_for("everything else", LIMIT, || {
        (1..51).all(|number| about_all(&messages(port), number)).then_some(())
    });
    assert_eq!(about(7), 1, "the small change of the same entry is told");
    let shown = command(&["dead"]);
    let letter: Value = serde_json::from_str(shown.trim()).expect("one dead letter");
    assert_eq!(letter["event"]["dn"], user(7));
    let why = letter["why"].as_str().unwrap_or_default();
    assert!(why.contains("max_payload is 1048576"), "{why}");
    assert!(command(&["status"]).contains("dead letters 1"));
    command(&["replay", "--all-dead"]);
    wait_for("the entry as it is now", LIMIT, || (about(7) == 2).then_some(()));
    assert_eq!(command(&["dead"]), "no dead letters\n");
}

fn about_all(events: &[Value], number: usize) -> bool {
    events.iter().any(|event| event["dn"] == user(number))
}

/// Everything in the only stream there is, in its order.
pub(crate) fn messages(port: u16) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use futures_util::StreamExt;
        let client = async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap();
        let context = async_nats::jetstream::new(client);
        let Some(Ok(name)) = context.stream_names().next().await else {
            return Vec::new();
        };
        let Ok(stream) = context.get_stream(name).await else {
            return Vec::new();
        };
        let count = usize::try_from(stream.cached_info().state.messages).unwrap();
        if count == 0 {
            return Vec::new();
        }
        let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
        let consumer = stream.create_consumer(config).await.unwrap();
        let messages = consumer.messages().await.unwrap().take(count);
        messages
            .map(|message| serde_json::from_slice(&message.unwrap().payload).unwrap())
            .collect()
            .await
    })
}

/// One thread for each shard; what `recv()` gave is written down as JSON.
const LISTENER: &str = r#"
import json, struct, sys, threading
from multiprocessing.connection import Listener
path, out = sys.argv[1], open(sys.argv[2], "a")
lock = threading.Lock()
def serve(connection):
    try:
        while True:
            event = connection.recv()
            with lock: print(json.dumps(event), file=out, flush=True)
    except (EOFError, ConnectionResetError): pass
with open(sys.argv[3], "rb") as key, Listener(path, backlog=64, authkey=key.read()) as listener:
    while True: threading.Thread(target=serve, args=(listener.accept(),), daemon=True).start()
"#;

#[test]
fn a_stock_python_listener_is_told_the_directory() {
    let slapd = Slapd::start();
    let folder = Folder::new("feed-python");
    let (socket, out) = (folder.file("listener"), folder.file("out"));
    let key = folder.write("key", b"a key\n\xff");
    restrict(&key);
    let args = ["-c", LISTENER, &socket, &out, &key];
    let _listener = Process::start("/usr/bin/python3", &args, &folder.path().join("python-log"));
    wait_for("the listener", LIMIT, || fs::metadata(&socket).ok());
    let sink = format!("python:unix:{socket}");
    let path = folder.path().join("out");
    let mut feed = Feed::new(&slapd, folder, &["--sink", &sink, "--authkey-file", &key]);
    let told = wait_for("the content", LIMIT, || {
        let told = lines(&path);
        told.iter().any(|event| event["op"] == "refresh-done").then_some(told)
    });
    let end = told.iter().find(|event| event["op"] == "refresh-done").unwrap();
    let adds = told.iter().filter(|event| event["op"] == "add").count();
    assert_eq!(end["entries"].as_u64(), Some(adds as u64));
    describe(&slapd, 1..2, "told to Python");
    wait_for("the change", LIMIT, || {
        let changed = |event: &Value| event["attributes"]["description"][0] == "told to Python";
        lines(&path).into_iter().find(changed)
    });
    let mut process = feed.process.take().unwrap();
    process.signal("INT");
    assert_eq!(process.wait(LIMIT).code(), Some(0), "{}", process.output());
}
