//! Two daemons, one feed, one stream: the leader is killed, or stands still and wakes up again, while the directory is
//! written to at random. What the stream says in the end is the directory; nothing is said twice, and nothing out of order.
//!
//! `USHERD_TEST_TAKEOVERS`: how many leaders fall, 4 unless it is said; `USHERD_TEST_SEED`: which writes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::proc::{Folder, Process, free_port, run, setting, wait_for};
use crate::slapd::{ADMIN, BASE, Slapd};
use crate::usherd::{BINARY, restrict};

const LIMIT: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(2);
/// The lease's time, and what the server may take to forget it.
const TAKEOVER_MAX: Duration = Duration::from_secs(4);

struct Daemon {
    folder: Folder,
    process: Option<Process>,
}

impl Daemon {
    fn new(name: &str, slapd: &Slapd, port: u16) -> Self {
        let folder = Folder::new(name);
        restrict(&folder.write("secret", ADMIN.1));
        let text = format!(
            "[server]\ncontrol = \"control\"\nworkers = 1\n\n[directory.corp]\nbase = \"{BASE}\"\nbind_dn = \"{}\"\n\
             identity = \"proxied\"\nbind_password_file = \"secret\"\nserver = [ {{ url = \"{}\" }} ]\n\n[feed.people]\n\
             directory = \"corp\"\nbase = \"ou=scratch,{BASE}\"\nstate = \"state\"\npartitions = 4\n\
             sink = {{ type = \"nats\", url = \"nats://127.0.0.1:{port}\", lease = \"leases\", lease_ttl = \"2s\" }}\n",
            ADMIN.0,
            slapd.url()
        );
        folder.write("usherd.toml", text);
        let mut daemon = Self { folder, process: None };
        daemon.start();
        daemon
    }

    fn start(&mut self) {
        let configuration = self.folder.file("usherd.toml");
        let args = ["run", "-c", &configuration, "--log", "human"];
        self.process = Some(Process::start(BINARY, &args, &self.folder.path().join("log")));
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    fn feed(&self) -> Option<Value> {
        let stream = UnixStream::connect(self.folder.path().join("control")).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        (&stream).write_all(b"{\"command\":\"status\"}\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        let status: Value = serde_json::from_str(&line).ok()?;
        Some(status["feeds"][0].clone())
    }

    fn is(&self, role: &str) -> bool {
        self.feed().is_some_and(|feed| feed["role"] == role)
    }

    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        while !self.feed().is_some_and(|feed| wanted(&feed)) {
            let said = self.process.as_ref().map(Process::output).unwrap_or_default();
            assert!(start.elapsed() < LIMIT, "never {what}: {:#?}\n{said}", self.feed());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Random changes below one container; no name and no value is used twice, so that no state comes back.
struct Writer {
    random: u64,
    next: u64,
    containers: Vec<String>,
    /// Relative name, and the place of its container.
    leaves: Vec<(String, usize)>,
}

impl Writer {
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % bound as u64).expect("small")
    }

    fn new_name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn dn(&self, leaf: usize) -> String {
        let (rdn, container) = &self.leaves[leaf];
        format!("{rdn},{}", self.container(*container))
    }

    fn container(&self, at: usize) -> String {
        format!("{},ou=scratch,{BASE}", self.containers[at])
    }

    fn add_container(&mut self) -> String {
        let number = self.new_name();
        self.containers.push(format!("ou=box{number}"));
        let dn = self.container(self.containers.len() - 1);
        format!("dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\nou: box{number}\n\n")
    }

    fn change(&mut self) -> String {
        let number = self.new_name();
        let kind = self.below(20);
        if self.leaves.len() < 30 || kind < 5 {
            let container = self.below(self.containers.len());
            self.leaves.push((format!("ou=leaf{number}"), container));
            let dn = self.dn(self.leaves.len() - 1);
            return format!(
                "dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\nou: leaf{number}\ndescription: {number}\n\n"
            );
        }
        let leaf = self.below(self.leaves.len());
        let dn = self.dn(leaf);
        match kind {
            5..=11 => format!("dn: {dn}\nchangetype: modify\nreplace: description\ndescription: {number}\n\n"),
            12..=14 => {
                self.leaves.swap_remove(leaf);
                format!("dn: {dn}\nchangetype: delete\n\n")
            }
            15..=18 => {
                let container = self.below(self.containers.len());
                self.leaves[leaf] = (format!("ou=leaf{number}"), container);
                let above = self.container(container);
                format!(
                    "dn: {dn}\nchangetype: modrdn\nnewrdn: ou=leaf{number}\ndeleteoldrdn: 1\nnewsuperior: {above}\n\n"
                )
            }
            _ => {
                let at = self.below(self.containers.len());
                let old = self.container(at);
                self.containers[at] = format!("ou=box{number}");
                format!("dn: {old}\nchangetype: modrdn\nnewrdn: ou=box{number}\ndeleteoldrdn: 1\n\n")
            }
        }
    }
}

fn write(url: &str, ldif: &str) {
    let folder = Folder::new("ldif");
    let file = folder.write("change.ldif", ldif);
    let args = ["-x", "-H", url, "-D", ADMIN.0, "-w", ADMIN.1, "-f", &file];
    let output = run("/usr/bin/ldapmodify", &args, LIMIT);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

struct Message {
    subject: String,
    seq: u64,
    state: String,
    event: Value,
}

fn messages(port: u16) -> Vec<Message> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        use futures_util::StreamExt;
        let client = async_nats::connect(format!("127.0.0.1:{port}")).await.expect("nats");
        let context = async_nats::jetstream::new(client);
        let Ok(stream) = context.get_stream("people").await else {
            return Vec::new();
        };
        let count = usize::try_from(stream.cached_info().state.messages).expect("small");
        if count == 0 {
            return Vec::new();
        }
        let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let messages = consumer.messages().await.expect("messages").take(count);
        let one = |message: Result<async_nats::jetstream::Message, _>| {
            let message = message.expect("a message");
            let headers = message.headers.clone().expect("headers");
            let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
            Message {
                subject: message.subject.to_string(),
                seq: text("Usherd-Seq").and_then(|seq| seq.parse().ok()).expect("a number"),
                state: text("Usherd-State").unwrap_or_default(),
                event: serde_json::from_slice(&message.payload).expect("JSON"),
            }
        };
        messages.map(one).collect().await
    })
}

fn description(event: &Value) -> String {
    event["attributes"]["description"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// What readers of the stream have in the end: name and description.
fn applied(messages: &[Message]) -> Vec<(String, String)> {
    let mut world: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for Message { event, .. } in messages {
        let uuid = event["uuid"].as_str().unwrap_or_default();
        match event["op"].as_str() {
            Some("add" | "modify" | "move") => {
                let dn = event["dn"].as_str().unwrap_or_default().to_owned();
                world.insert(uuid, (dn, description(event)));
            }
            Some("delete") => _ = world.remove(uuid),
            _ => {}
        }
    }
    let mut all: Vec<_> = world.into_values().collect();
    all.sort();
    all
}

fn directory(url: &str) -> Vec<(String, String)> {
    let base = format!("ou=scratch,{BASE}");
    let args = [
        "-x",
        "-LLL",
        "-o",
        "ldif-wrap=no",
        "-H",
        url,
        "-D",
        ADMIN.0,
        "-w",
        ADMIN.1,
    ];
    let search = ["-b", &base, "(objectClass=*)", "description"];
    let output = run("/usr/bin/ldapsearch", &[&args[..], &search].concat(), LIMIT);
    let mut all: Vec<(String, String)> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(dn) = line.strip_prefix("dn: ") {
            all.push((dn.to_owned(), String::new()));
        } else if let (Some(value), Some(last)) = (line.strip_prefix("description: "), all.last_mut()) {
            value.clone_into(&mut last.1);
        }
    }
    all.sort();
    all
}

/// Numbers grow on each subject; no state of an entry is said twice; what an entry says is never older than before.
fn assert_once_and_in_order(messages: &[Message]) {
    let (mut numbers, mut said, mut youngest) = (HashMap::new(), HashSet::new(), HashMap::new());
    for Message {
        subject,
        seq,
        state,
        event,
    } in messages
    {
        let before = numbers.insert(subject, *seq).unwrap_or(0);
        assert!(*seq > before, "{seq} after {before} on {subject}");
        let Some(uuid) = event["uuid"].as_str() else { continue };
        assert!(said.insert((uuid, state)), "said twice: {event}");
        if let Ok(number) = description(event).parse::<u64>() {
            let before = youngest.insert(uuid, number).unwrap_or(0);
            assert!(number >= before, "{number} after {before}: {event}");
        }
    }
}

/// The leader falls; how long until the other one leads.
fn fall(daemons: &mut [Daemon; 2], leader: usize, is_kill: bool) -> Duration {
    let begun = Instant::now();
    if is_kill {
        daemons[leader].process().kill();
    } else {
        daemons[leader].process().signal("STOP");
    }
    daemons[1 - leader].until("the other one leads", |feed| feed["role"] == "leader");
    let took = begun.elapsed();
    if is_kill {
        daemons[leader].start();
    } else {
        std::thread::sleep((TTL + Duration::from_secs(1)).saturating_sub(begun.elapsed()));
        daemons[leader].process().signal("CONT");
    }
    daemons[leader].until("it follows", |feed| feed["role"] == "follower" && feed["ready"] == true);
    assert!(daemons[1 - leader].is("leader"), "who came back does not lead");
    took
}

#[test]
fn leaders_fall_and_the_stream_has_the_directory_once() {
    let mut slapd = Slapd::start();
    let (folder, port) = (Folder::new("takeover"), free_port());
    let (store, number) = (folder.file("jetstream"), port.to_string());
    // Debian puts it where a user's PATH does not look.
    let path = format!("PATH={}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let server = ["nats-server", "-js", "-a", "127.0.0.1", "-p", &number, "-sd", &store];
    let args = [&[path.as_str()], &server[..]].concat();
    let _server = Process::start("/usr/bin/env", &args, &folder.path().join("nats-log"));
    wait_for("nats-server (Debian package nats-server)", LIMIT, || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let mut writer = Writer {
        random: setting("USHERD_TEST_SEED", 1) as u64 * 2 + 1,
        next: 0,
        containers: Vec::new(),
        leaves: Vec::new(),
    };
    let url = slapd.url();
    let boxes: String = (0..3).map(|_| writer.add_container()).collect();
    write(&url, &boxes);
    write(&url, &(0..200).map(|_| writer.change()).collect::<String>());

    let mut daemons = [Daemon::new("one", &slapd, port), Daemon::new("two", &slapd, port)];
    let stop = Arc::new(AtomicBool::new(false));
    let (told, to) = (Arc::clone(&stop), url.clone());
    let writing = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            let many = 1 + writer.below(10);
            write(&to, &(0..many).map(|_| writer.change()).collect::<String>());
            std::thread::sleep(Duration::from_millis(writer.below(40) as u64));
        }
        writer.next
    });
    wait_for("one leads", LIMIT, || {
        daemons.iter().any(|daemon| daemon.is("leader")).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    let mut slowest = Duration::ZERO;
    for round in 0..setting("USHERD_TEST_TAKEOVERS", 4) {
        let leader = wait_for("one leads", LIMIT, || (0..2).find(|at| daemons[*at].is("leader")));
        std::thread::sleep(Duration::from_millis(100 + (round as u64 * 137) % 400));
        let took = fall(&mut daemons, leader, round % 3 != 2);
        println!("round {round}: {took:?}");
        slowest = slowest.max(took);
    }
    stop.store(true, Ordering::Relaxed);
    let changes = writing.join().expect("the writer");
    let wanted = directory(&url);
    let start = Instant::now();
    let messages = loop {
        let messages = messages(port);
        if applied(&messages) == wanted {
            break messages;
        }
        if start.elapsed() > Duration::from_secs(20) {
            assert_eq!(applied(&messages), wanted, "the stream says the directory");
        }
    };
    assert_once_and_in_order(&messages);
    println!(
        "{changes} changes, {} messages, slowest take-over {slowest:?}",
        messages.len()
    );
    assert!(slowest < TAKEOVER_MAX, "{slowest:?}");
    for daemon in &daemons {
        daemon.until("nothing waits", |feed| feed["outbox_events"] == 0);
    }
    leaders_leave_in_peace(&mut daemons, &mut slapd);
}

fn leaders_leave_in_peace(daemons: &mut [Daemon; 2], slapd: &mut Slapd) {
    // In peace, the other one does not wait for the lease to run out.
    let leader = (0..2).find(|at| daemons[*at].is("leader")).expect("one leads");
    daemons[leader].process().signal("TERM");
    assert!(daemons[leader].process().wait(LIMIT).success());
    daemons[1 - leader].until("the other one leads", |feed| feed["role"] == "leader");
    // Who does not see the directory leaves the lease alone until it does.
    daemons[leader].start();
    daemons[leader].until("it follows", |feed| feed["role"] == "follower" && feed["ready"] == true);
    slapd.kill();
    daemons[leader].until("it sees nothing", |feed| feed["phase"] == "waiting");
    daemons[1 - leader].process().signal("TERM");
    assert!(daemons[1 - leader].process().wait(LIMIT).success());
    std::thread::sleep(TTL / 2);
    assert!(daemons[leader].is("follower"));
    slapd.revive();
    daemons[leader].until("it leads", |feed| feed["role"] == "leader");
}
