//! Random churn with kill -9: whatever is written, renamed, moved away and killed, in the end the receiver of a feed has the
//! directory, entry by entry, and was told nothing out of order.
//!
//! Where slapd is killed, too, it keeps no session log: with one it loses deletes when it is killed, whoever follows it
//! (docs/feed.md says so to those who run it). With one, usherd alone is killed.
//!
//! Each run is made of its seed: what is written, what is killed before which write, and which sink receives. What the
//! processes do meanwhile is not, so a seed that failed may have to be repeated. Longer runs by environment:
//! `USHERD_TEST_FEED_RUNS` (how many), `USHERD_TEST_FEED_SEED` (the first seed).

mod judge;
mod receiver;
mod writer;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use engine::core::rng::Rng;

use crate::client::Client;
use crate::proc::{Folder, Process, setting};
use crate::slapd::{ADMIN, BASE, Slapd};
use crate::usherd::{BINARY, restrict, server};
use judge::{Told, held};
use receiver::Receiver;
use writer::{Write, Writer};

/// The base of the feed.
const INSIDE: &str = "ou=churn,dc=example,dc=com";
/// Where entries go that leave it.
const AWAY: &str = "ou=away,dc=example,dc=com";
/// What came last must have been told by then.
const LIMIT: Duration = Duration::from_secs(20);
const ENTRIES: usize = 150;
const WRITES: usize = 300;
/// Most of the time is waiting for processes to start.
const AT_ONCE: usize = 4;

/// What may be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victims {
    UsherdAndSlapd,
    Usherd,
}

#[test]
fn what_is_applied_is_the_directory_whatever_is_killed() {
    runs(setting("USHERD_TEST_FEED_RUNS", 10), Victims::UsherdAndSlapd);
}

#[test]
fn what_is_applied_is_the_directory_where_slapd_keeps_a_session_log_and_usherd_is_killed() {
    runs(setting("USHERD_TEST_FEED_RUNS", 10).div_ceil(2), Victims::Usherd);
}

fn runs(runs: usize, victims: Victims) {
    let first = setting("USHERD_TEST_FEED_SEED", 1);
    let seeds = Mutex::new((first..first + runs).collect::<VecDeque<usize>>());
    let failed = Mutex::new(String::new());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = { seeds.lock().unwrap().pop_front() } {
                    if let Err(why) = Run::new(seed, victims).whole() {
                        let _ = writeln!(failed.lock().unwrap(), "--- USHERD_TEST_FEED_SEED={seed}: {why}");
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed}");
    println!("{runs} runs in {:?}, all equal", start.elapsed());
}

struct Run {
    victims: Victims,
    rng: Rng,
    slapd: Slapd,
    receiver: Receiver,
    folder: Folder,
    usherd: Option<Process>,
    writer: Writer,
    client: Client,
    /// Writes until usherd is started again.
    down: usize,
}

impl Run {
    fn new(seed: usize, victims: Victims) -> Self {
        let slapd = match victims {
            Victims::UsherdAndSlapd => Slapd::without_session_log(),
            Victims::Usherd => Slapd::start(),
        };
        let folder = Folder::new("churn");
        let receiver = Receiver::new(seed, &folder);
        restrict(&folder.write("secret", ADMIN.1));
        let retry = "retry_min = \"20ms\"\nretry_max = \"200ms\"\n";
        let text = format!(
            "[server]\ncontrol = \"control\"\nworkers = 1\n[directory.corp]\nbase = \"{BASE}\"\nbind_dn = \"{}\"\n\
             bind_password_file = \"secret\"\n{retry}server = [{}]\n[feed.churn]\ndirectory = \"corp\"\nbase = \"{INSIDE}\"\n\
             partitions = 4\nstate = \"state\"\n{retry}sink = {}\n",
            ADMIN.0,
            server(&slapd.url(), ""),
            receiver.setting(),
        );
        folder.write("usherd.toml", text);
        let seed = seed as u64;
        Self {
            victims,
            rng: Rng::new(seed),
            client: Client::bound(&slapd.plain(), ADMIN.0, ADMIN.1),
            slapd,
            receiver,
            folder,
            usherd: None,
            writer: Writer::new(seed),
            down: 0,
        }
    }

    fn start(&mut self) {
        let (config, log) = (self.folder.file("usherd.toml"), self.folder.path().join("log"));
        let args = ["run", "-c", &config, "--log", "human"];
        self.usherd = Some(Process::start(BINARY, &args, &log));
    }

    fn whole(&mut self) -> Result<(), String> {
        for write in self.writer.first(ENTRIES) {
            self.write(&write);
        }
        self.start();
        let kills: Vec<usize> = (0..2 + self.rng.index(3)).map(|_| self.rng.index(WRITES)).collect();
        for number in 0..WRITES {
            let write = self.writer.next();
            if kills.contains(&number) {
                self.kill(&write);
            } else {
                self.write(&write);
            }
            if self.usherd.is_none() {
                self.down = self.down.saturating_sub(1);
                if self.down == 0 {
                    self.start();
                }
            } else if self.rng.chance(1, 4) {
                std::thread::sleep(Duration::from_millis(self.rng.below(12)));
            }
        }
        if self.usherd.is_none() {
            self.start();
        }
        self.equal("in the end")?;
        self.nothing_again()
    }

    fn write(&mut self, write: &Write) {
        let code = self.client.one(&write.op()).code();
        self.writer.done(write, code == 0);
    }

    /// Kills usherd, slapd or both while `write` is under way.
    fn kill(&mut self, write: &Write) {
        let (usherd, slapd) = match self.victims {
            Victims::Usherd => (true, false),
            Victims::UsherdAndSlapd => [(true, false), (false, true), (true, true)][self.rng.index(3)],
        };
        let id = self.client.send(&write.op());
        if self.rng.chance(1, 2) {
            std::thread::sleep(Duration::from_micros(self.rng.below(3000)));
        }
        if usherd && let Some(mut process) = self.usherd.take() {
            process.kill();
            self.down = if self.rng.chance(1, 2) {
                1
            } else {
                1 + self.rng.index(60)
            };
        }
        if slapd {
            self.slapd.kill();
            std::thread::sleep(Duration::from_millis(self.rng.below(50)));
            self.slapd.revive();
            self.client = Client::bound(&self.slapd.plain(), ADMIN.0, ADMIN.1);
            let names = [INSIDE, AWAY].map(|base| held(&mut self.client, base));
            self.writer.found(
                names
                    .iter()
                    .flat_map(|held| held.values().map(|entry| entry.dn.clone())),
            );
        } else {
            let answer = self.client.collect(id, LIMIT).expect("slapd answers");
            self.writer.done(write, answer[0].code() == 0);
        }
    }

    /// Waits until what was told is the directory, and was told in order.
    fn equal(&mut self, when: &str) -> Result<(), String> {
        let wanted = held(&mut self.client, INSIDE);
        let start = Instant::now();
        loop {
            let told = Told::new(&self.receiver.events());
            let differences = told.differences(&wanted);
            if differences.is_empty() {
                return told.orderly(self.receiver.remembers());
            }
            if start.elapsed() > LIMIT {
                let log = self.usherd.as_ref().map(Process::output).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(12).collect();
                let away = held(&mut self.client, AWAY);
                let away: Vec<_> = away.iter().map(|(uuid, entry)| (uuid, &entry.dn)).collect();
                return Err(format!(
                    "{when}: {differences}\naway: {away:#?}\nlog, newest first: {lines:#?}"
                ));
            }
            std::thread::sleep(Duration::from_millis(60));
        }
    }

    /// Everything was told: after further kills nothing of it is told again.
    fn nothing_again(&mut self) -> Result<(), String> {
        let before = Told::new(&self.receiver.events());
        for both in [false, self.victims == Victims::UsherdAndSlapd] {
            let done = Told::new(&self.receiver.events()).refreshes();
            if let Some(mut process) = self.usherd.take() {
                process.kill();
            }
            if both {
                self.slapd.kill();
                self.slapd.revive();
                self.client = Client::bound(&self.slapd.plain(), ADMIN.0, ADMIN.1);
            }
            self.start();
            let start = Instant::now();
            while Told::new(&self.receiver.events()).refreshes() == done {
                if start.elapsed() > LIMIT {
                    return Err("no refresh is done after a restart".to_owned());
                }
                std::thread::sleep(Duration::from_millis(40));
            }
        }
        self.equal("after a restart")?;
        let again = Told::new(&self.receiver.events()).entries() - before.entries();
        if again == 0 {
            Ok(())
        } else {
            Err(format!(
                "{again} events were told after restarts in which nothing changed"
            ))
        }
    }
}
