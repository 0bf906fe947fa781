//! The local directory as a provider of RFC 4533: ldapsearch, python-ldap and slapd itself follow it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::ber::{int, seq, text};
use crate::client::{Client, Message, Target, with_controls};
use crate::local::normalised;
use crate::local_write::{ADMIN, admin, person, writable};
use crate::ops::{self, REPLACE, present};
use crate::proc::{Folder, Process, free_port, require, run, setting, shown, wait_for};
use crate::slapd::{BASE, PEOPLE};

const SYNC: &str = "1.3.6.1.4.1.4203.1.9.1.1";
const REFRESH_ONLY: i64 = 1;
const PERSIST: i64 = 3;
const INTERMEDIATE: u8 = 0x79;

fn follow(mode: i64, cookie: Option<&str>, filter: &[u8]) -> Vec<u8> {
    let mut parts = vec![int(0x0A, mode)];
    parts.extend(cookie.map(text));
    let op = ops::search(BASE, ops::SUB, filter, &["*", "+"]);
    with_controls(&op, &[(SYNC, true, Some(seq(0x30, &parts)))])
}

/// Ends its process on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ldapsearch_is_told_the_content_and_then_every_change() {
    let (usherd, port) = writable(3, "");
    let url = format!("ldap://127.0.0.1:{port}");
    let words = [
        "-x", "-LLL", "-H", &url, "-b", PEOPLE, "-E", "!sync=ro", "(uid=*)", "uid",
    ];
    let once = run("/usr/bin/ldapsearch", &words, Duration::from_secs(20));
    let said = String::from_utf8_lossy(&once.stdout).into_owned();
    assert_eq!(once.status.code(), Some(0), "{}", shown(&once));
    assert_eq!(
        said.matches("\ndn: ").count() + usize::from(said.starts_with("dn: ")),
        3,
        "{said}"
    );
    require("/usr/bin/ldapsearch");
    let words = [
        "-x", "-LLL", "-H", &url, "-b", PEOPLE, "-E", "!sync=rp", "(uid=*)", "uid", "title",
    ];
    let mut child = Command::new("/usr/bin/setpriv")
        .args(["--pdeathsig", "KILL", "--", "/usr/bin/ldapsearch"])
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .expect("ldapsearch can be started");
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let running = Running(child);
    let (to, from) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
    let until = |wanted: &str| loop {
        let line = from
            .recv_timeout(Duration::from_secs(10))
            .unwrap_or_else(|_| panic!("no `{wanted}`"));
        if line == wanted {
            return;
        }
    };
    until(&format!("dn: uid=user2,{PEOPLE}"));
    let mut client = admin(port);
    assert_eq!(client.one(&person("new").1).code(), 0);
    until(&format!("dn: uid=new,{PEOPLE}"));
    assert_eq!(
        client
            .one(&ops::modify(
                &format!("uid=new,{PEOPLE}"),
                &[(REPLACE, "title", &["x"])]
            ))
            .code(),
        0
    );
    until("title: x");
    drop(running);
    usherd.stop();
}

/// A consumer of python-ldap; prints what it has as sorted lines whenever it is told to by a file.
const PYTHON: &str = r#"
import sys, ldap
from ldap.syncrepl import SyncreplConsumer
from ldap.ldapobject import SimpleLDAPObject

class Consumer(SimpleLDAPObject, SyncreplConsumer):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.known, self.cookie, self.seen, self.done = {}, None, set(), False
    def syncrepl_get_cookie(self): return self.cookie
    def syncrepl_set_cookie(self, cookie): self.cookie = cookie
    def syncrepl_entry(self, dn, attributes, uuid):
        self.known[uuid] = dn
        self.seen.add(uuid)
        if self.done and 'uid=end' in dn: raise StopIteration
    def syncrepl_delete(self, uuids):
        for uuid in uuids: self.known.pop(uuid, None)
    def syncrepl_present(self, uuids, refreshDeletes=False):
        if uuids is None:
            if not refreshDeletes:
                for uuid in set(self.known) - self.seen: del self.known[uuid]
            self.seen = set()
        else: self.seen.update(uuids)
    def syncrepl_refreshdone(self):
        self.done = True
        print('refreshed', flush=True)

c = Consumer(sys.argv[1])
c.simple_bind_s()
search = c.syncrepl_search(sys.argv[2], ldap.SCOPE_SUBTREE, mode='refreshAndPersist', filterstr='(uid=*)')
try:
    while c.syncrepl_poll(all=1, msgid=search, timeout=20): pass
except StopIteration: pass
for dn in sorted(c.known.values()): print(dn)
print('cookie', c.cookie)
"#;

#[test]
fn python_ldap_s_consumer_has_what_the_directory_has() {
    let (usherd, port) = writable(5, "");
    let folder = Folder::new("python");
    let (script, log) = (folder.write("consumer.py", PYTHON), folder.path().join("log"));
    let args = [script, format!("ldap://127.0.0.1:{port}"), BASE.to_owned()];
    let mut consumer = Process::start("/usr/bin/python3", &args, &log);
    wait_for("it has the content", Duration::from_secs(20), || {
        let output = consumer.output();
        assert!(
            !output.contains("No module named"),
            "these tests need python3-ldap: {output}"
        );
        output.contains("refreshed").then_some(())
    });
    let mut client = admin(port);
    let user = |number: usize| format!("uid=user{number},{PEOPLE}");
    for op in [
        person("made").1,
        ops::delete(&user(0)),
        ops::rename(&user(1), "uid=renamed", true, None),
        ops::rename(PEOPLE, "ou=folks", true, None),
        ops::add(
            &format!("uid=end,ou=folks,{BASE}"),
            &[("objectClass", &["account"]), ("uid", &["end"])],
        ),
    ] {
        assert_eq!(client.one(&op).code(), 0);
    }
    assert!(
        consumer.wait(Duration::from_secs(20)).success(),
        "{}",
        consumer.output()
    );
    let output = consumer.output();
    let names: Vec<&str> = output.lines().filter(|line| line.starts_with("uid=")).collect();
    let folks = |uid: &str| format!("uid={uid},ou=folks,{BASE}");
    assert_eq!(
        names,
        ["end", "made", "renamed", "user2", "user3", "user4"].map(folks),
        "{output}"
    );
    assert!(output.contains("cookie rid=000,sid=000,csn=20"), "{output}");
    usherd.stop();
}

/// slapd that follows a provider.
struct Consumer {
    folder: Folder,
    port: u16,
    process: Process,
}

impl Consumer {
    fn start(provider: u16) -> Self {
        let folder = Folder::new("consumer");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let schemas =
            ["core", "cosine", "inetorgperson", "nis"].map(|name| format!("include /etc/ldap/schema/{name}.schema\n"));
        let text = format!(
            "{}modulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nsuffix \"{BASE}\"\nrootdn \"cn=root,{BASE}\"\n\
             directory {}\nmaxsize 268435456\ndbnosync\nindex entryUUID,entryCSN eq\n\
             syncrepl rid=001 provider=ldap://127.0.0.1:{provider} type=refreshAndPersist retry=\"1 +\" searchbase=\"{BASE}\" \
             bindmethod=simple\n",
            schemas.concat(),
            folder.file("data"),
        );
        folder.write("slapd.conf", text);
        let port = free_port();
        let process = Self::spawn(&folder, port);
        Self { folder, port, process }
    }

    fn spawn(folder: &Folder, port: u16) -> Process {
        let (url, file) = (format!("ldap://127.0.0.1:{port}"), folder.file("slapd.conf"));
        Process::start(
            "/usr/sbin/slapd",
            &["-d", "0", "-h", &url, "-f", &file],
            &folder.path().join("log"),
        )
    }

    fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(&self.folder, self.port);
    }

    fn entries(&self) -> Option<Vec<Message>> {
        let mut client = Client::try_connect(&Target::plain(self.port)).ok()?;
        client.try_call(&content()).ok()
    }

    /// Waits until it has what the provider has.
    fn until_same(&self, provider: &mut Client) {
        let shown = |messages: &[Message]| {
            let entries = normalised(messages).0;
            entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let start = std::time::Instant::now();
        loop {
            let wanted = shown(&provider.call(&content()));
            let got = self.entries().map(|found| shown(&found)).unwrap_or_default();
            if wanted == got {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "only at the provider: {:#?}\nonly at the consumer: {:#?}\n{}",
                wanted.difference(&got).take(3).collect::<Vec<_>>(),
                got.difference(&wanted).take(3).collect::<Vec<_>>(),
                self.process.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn content() -> Vec<u8> {
    ops::search(BASE, ops::SUB, &present("objectClass"), &["*", "entryUUID", "entryCSN"])
}

/// A small generator: the same churn for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// Units and people in them, so that subtrees move; names are few, so that they are used again.
fn churn(client: &mut Client, chance: &mut Chance, writes: usize) {
    for _ in 0..writes {
        let unit = |chance: &mut Chance| format!("ou=u{},{BASE}", chance.below(4));
        let (above, other) = (unit(chance), unit(chance));
        let uid = format!("p{}", chance.below(8));
        let dn = format!("uid={uid},{above}");
        let op = match chance.below(10) {
            0..3 => ops::add(
                &dn,
                &[
                    ("objectClass", &["inetOrgPerson"]),
                    ("uid", &[&uid]),
                    ("cn", &["C"]),
                    ("sn", &["S"]),
                ],
            ),
            3 => ops::delete(&dn),
            4 => ops::add(
                &above,
                &[("objectClass", &["organizationalUnit"]), ("ou", &[&above[3..5]])],
            ),
            5 => ops::delete(&above),
            6 => ops::rename(&dn, &format!("uid=p{}", chance.below(8)), true, Some(&other)),
            7 => ops::rename(&above, &format!("ou=u{}", chance.below(4)), true, None),
            _ => ops::modify(&dn, &[(REPLACE, "title", &[&format!("t{}", chance.below(100))])]),
        };
        let code = client.one(&op).code();
        assert!(matches!(code, 0 | 32 | 66 | 68), "{code}");
    }
}

#[test]
fn slapd_as_a_consumer_converges_through_churn_and_restarts_of_both() {
    let (mut usherd, port) = writable(5, ", write_back = true, sync_log_max = 200");
    let mut consumer = Consumer::start(port);
    let mut client = admin(port);
    consumer.until_same(&mut client);
    let mut chance = Chance(setting("USHERD_TEST_SEED", 1) as u64);
    for round in 0..6 {
        match round {
            // It was away, for fewer changes than are kept and for more.
            1 | 2 => {
                consumer.process.kill();
                churn(&mut client, &mut chance, if round == 1 { 60 } else { 600 });
                consumer.restart();
            }
            // The provider ends in order, and not.
            3 => {
                usherd.terminate();
                assert_eq!(usherd.process.wait(Duration::from_secs(15)).code(), Some(0));
                usherd.restart();
                client = admin(port);
            }
            4 => {
                usherd.restart();
                client = admin(port);
            }
            _ => {}
        }
        churn(&mut client, &mut chance, 150);
        consumer.until_same(&mut client);
    }
    drop(consumer);
    usherd.stop();
}

#[test]
fn a_cookie_tells_what_was_missed_and_no_more() {
    let (usherd, port) = writable(20, "");
    let (mut client, mut consumer) = (admin(port), Client::connect(&Target::plain(port)));
    let first = consumer.call(&follow(REFRESH_ONLY, None, &present("uid")));
    assert_eq!(first.len(), 21);
    let cookie = cookie(&first[20]);
    assert_eq!(client.one(&person("later").1).code(), 0);
    assert_eq!(client.one(&ops::delete(&format!("uid=user3,{PEOPLE}"))).code(), 0);
    let second = consumer.call(&follow(REFRESH_ONLY, Some(&cookie), &present("uid")));
    assert_eq!(second.len(), 3, "one added, one deleted, the end: {second:?}");
    let third = consumer.call(&follow(REFRESH_ONLY, Some(&self::cookie(&second[2])), &present("uid")));
    assert_eq!((third.len(), third[0].code()), (1, 0));
    usherd.stop();
}

/// The cookie in a Sync Done control.
fn cookie(done: &Message) -> String {
    let body = String::from_utf8_lossy(&done.body).into_owned();
    let start = body.find("rid=").unwrap_or_else(|| panic!("no cookie in {body:?}"));
    let end = body[start..].find("#000000\u{0}").unwrap_or_else(|| body.len() - start);
    let text: String = body[start..start + end]
        .chars()
        .take("rid=000,sid=000,csn=20261126192211.123456Z#000000#000#000000".len())
        .collect();
    text
}

#[test]
fn a_search_that_follows_ends_when_it_is_told_to_and_at_the_end_of_the_daemon() {
    let (usherd, port) = writable(2, "");
    let mut client = admin(port);
    let mut follower = Client::connect(&Target::plain(port));
    let until_refreshed = |follower: &mut Client| {
        let id = follower.send(&follow(PERSIST, None, &present("uid")));
        while follower.receive(Duration::from_secs(10)).expect("a message").tag != INTERMEDIATE {}
        id
    };
    // Abandoned: nothing more comes, and the connection is good for other things.
    let id = until_refreshed(&mut follower);
    follower.send(&ops::abandon(id));
    follower.whoami();
    assert_eq!(client.one(&person("unseen").1).code(), 0);
    follower.expect_silence(Duration::from_millis(300));
    // Cancelled: told so.
    let id = until_refreshed(&mut follower);
    let cancel = follower.send(&ops::cancel(id));
    assert_eq!(
        follower
            .collect(id, Duration::from_secs(10))
            .expect("an end")
            .last()
            .map(Message::code),
        Some(118)
    );
    assert_eq!(
        follower.collect(cancel, Duration::from_secs(10)).expect("an answer")[0].code(),
        0
    );
    // Longer than any deadline of a search.
    let id = until_refreshed(&mut follower);
    assert_eq!(client.one(&person("seen").1).code(), 0);
    let seen = follower.receive(Duration::from_secs(10)).expect("a change");
    assert_eq!(
        (seen.tag, seen.values("uid")),
        (ops::SEARCH_ENTRY, vec!["seen".to_owned()])
    );
    let begun = std::time::Instant::now();
    usherd.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "it does not hold up the end");
    let rest = follower.until_closed(Duration::from_secs(5));
    assert!(
        rest.iter().any(|message| message.id == id && message.is_final()),
        "{rest:?}"
    );
}

#[test]
fn a_follower_that_does_not_read_costs_nothing_and_is_sent_away_in_the_end() {
    let (usherd, port) = writable(2, ", sync_log_max = 1000");
    let mut client = admin(port);
    let mut lazy = Client::connect(&Target::plain(port));
    let id = lazy.send(&follow(PERSIST, None, &present("uid")));
    let large = "x".repeat(20_000);
    let target = format!("uid=user0,{PEOPLE}");
    for number in 0..3000 {
        let value = format!("{number}-{large}");
        assert_eq!(
            client
                .one(&ops::modify(&target, &[(REPLACE, "description", &[&value])]))
                .code(),
            0
        );
        if number == 10 {
            usherd.until("its answers wait", |_| true);
        }
    }
    let resident = usherd.process.memory_kib("VmRSS");
    assert!(resident < 400 * 1024, "{resident} KiB");
    // It reads on after all: it was told what fitted, and then that too much was missed; or its connection has ended.
    let mut ended = None;
    while let Ok(message) = lazy.receive(Duration::from_secs(15)) {
        if message.id == id && message.is_final() {
            ended = Some(message.code());
            break;
        }
    }
    assert!(matches!(ended, Some(4096 | 11) | None), "{ended:?}");
    let all = client.call(&ops::search(BASE, ops::SUB, &present("uid"), &["1.1"]));
    assert_eq!(all.len(), 3);
    usherd.stop();
}

#[test]
fn a_reload_sends_followers_away_to_come_again() {
    let (usherd, port) = writable(2, "");
    let mut follower = Client::connect(&Target::plain(port));
    let id = follower.send(&follow(PERSIST, None, &present("uid")));
    while follower.receive(Duration::from_secs(10)).expect("a message").tag != INTERMEDIATE {}
    let file = usherd.folder.path().join("people.ldif");
    let more = std::fs::read_to_string(&file).expect("a file")
        + "\ndn: uid=added,ou=people,dc=example,dc=com\nobjectClass: account\nuid: added\n";
    std::fs::write(&file, more).expect("a file");
    assert_eq!(usherd.command(&["reload"]).status.code(), Some(0));
    let end = follower.collect(id, Duration::from_secs(10)).expect("an end");
    assert_eq!(end.last().map(Message::code), Some(4096));
    let again = follower.call(&follow(REFRESH_ONLY, None, &present("uid")));
    assert_eq!(again.len(), 4);
    assert_eq!(
        Client::bound(&Target::plain(port), ADMIN.0, ADMIN.1).whoami(),
        format!("dn:{}", ADMIN.0)
    );
    usherd.stop();
}
