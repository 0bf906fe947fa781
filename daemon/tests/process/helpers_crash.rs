//! Helpers die by the hundred, in every way there is, under load from every face: every call is answered exactly once and
//! rightly, what could not be asked is never a verdict, and nothing is left behind. `USHERD_TEST_CRASHES=1000` is the long
//! form; `USHERD_TEST_SEED` rolls other dice (a failure names its own).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use wire::nslcd::{self, Key, Map, Pam, Passwd, Who};
use wire::rpc::ErrorCode;
use wire::saslauthd;

use crate::calls::{Client, Ended, children, descriptors, service};
use crate::helpers::{helpers, sections, until};
use crate::proc::{alone, setting, wait_for};
use crate::usherd::{Setup, Usherd};

/// What a helper is told to do, and the status that its caller is told then.
const DEATHS: [(&str, i32); 10] = [
    ("kill", -9),
    ("exit 5", 5),
    ("exit 0", 0),
    // Killed by the daemon, for what is no message, or half of one, or lies about where it is.
    ("garbage", -9),
    ("torn", -9),
    ("stump", -9),
    ("liar", -9),
    ("beyond", -9),
    ("huge", -9),
    // A part, then its end: no half of an answer is told as a whole one.
    ("half", 4),
];

/// How many calls each caller has open.
const DEPTH: usize = 10;

/// Numbers from a seed (splitmix64), the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.roll(count) == 0
    }

    fn death(&mut self) -> (&'static str, i32) {
        DEATHS[usize::try_from(self.roll(DEATHS.len() as u64)).expect("small")]
    }
}

/// What all callers share: deaths that are left to be had, and what they have seen.
#[derive(Default)]
struct Tally {
    left: AtomicUsize,
    asked: AtomicUsize,
    ended: AtomicUsize,
    /// Calls that ended as crashed, as RPC callers are told.
    crashed: AtomicUsize,
    /// Harmless calls that a death took along which was not theirs.
    innocent: AtomicUsize,
    /// Deaths that are nobody's call: killed from outside, or after the answer.
    strays: AtomicUsize,
    over: AtomicBool,
}

impl Tally {
    fn take(&self) -> bool {
        self.left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn is_left(&self) -> bool {
        self.left.load(Relaxed) > 0
    }
}

/// How a call must end.
enum Wanted {
    Answer(Vec<u8>),
    Crash(i32),
    Deadline,
}

/// Over RPC: pipelined calls, each with a token of its own; one in six is a helper's last.
fn caller(mut client: Client, name: u64, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed ^ name);
    let mut open: HashMap<u32, Wanted> = HashMap::new();
    let mut id = 0;
    while tally.is_left() || !open.is_empty() {
        while tally.is_left() && open.len() < DEPTH {
            id += 1;
            let (request, deadline_ms, wanted) = if dice.one_in(6) && tally.take() {
                deadly(&mut dice, tally, &format!("{name}.{id}"))
            } else {
                harmless(&mut dice, &format!("{name}.{id}"))
            };
            client.call_within(id, "mortal", &request, deadline_ms);
            tally.asked.fetch_add(1, Relaxed);
            open.insert(id, wanted);
        }
        if open.is_empty() {
            break;
        }
        let (of, ended) = client.next();
        tally.ended.fetch_add(1, Relaxed);
        let wanted = open.remove(&of).expect("a call that is open: no end comes twice");
        judge(&wanted, &ended, tally);
    }
    // Nothing comes behind the last end.
    client.call(id + 1, "mortal", b"echo:last");
    tally.asked.fetch_add(1, Relaxed);
    let (of, ended) = client.next();
    tally.ended.fetch_add(1, Relaxed);
    assert_eq!(of, id + 1);
    judge(&Wanted::Answer(b"last".to_vec()), &ended, tally);
    assert!(client.open.is_empty());
}

fn harmless(dice: &mut Dice, token: &str) -> (Vec<u8>, u32, Wanted) {
    let (word, size) = match dice.roll(40) {
        0 => ("echo:", 100_000),
        1..=4 => ("echo:", 10_000),
        5 => ("strangers ", 0),
        6 => ("shrink ", 0),
        _ => ("echo:", 0),
    };
    let answer = [token.as_bytes(), &vec![b'.'; size]].concat();
    ([word.as_bytes(), &answer].concat(), 0, Wanted::Answer(answer))
}

fn deadly(dice: &mut Dice, tally: &Tally, token: &str) -> (Vec<u8>, u32, Wanted) {
    match dice.roll(20) {
        // It hangs, and heeds the interrupt, or does not; or it answers when nobody waits any more.
        0 => (b"hang".to_vec(), 300, Wanted::Deadline),
        1 => (b"deaf".to_vec(), 300, Wanted::Deadline),
        2 => (b"late 0.4".to_vec(), 300, Wanted::Deadline),
        3 => {
            tally.strays.fetch_add(1, Relaxed);
            let answer = token.as_bytes().to_vec();
            ([b"after ", token.as_bytes()].concat(), 0, Wanted::Answer(answer))
        }
        _ => {
            let (word, status) = dice.death();
            (word.as_bytes().to_vec(), 0, Wanted::Crash(status))
        }
    }
}

fn judge(wanted: &Wanted, ended: &Ended, tally: &Tally) {
    let status = match ended.code() {
        Some(ErrorCode::Crashed { status }) => Some(status),
        _ => None,
    };
    if status.is_some() {
        tally.crashed.fetch_add(1, Relaxed);
    }
    match (wanted, ended) {
        (Wanted::Answer(answer), Ended::Answer(told)) => {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            assert!(answer == told, "{:?} for {:?}", shown(told), shown(answer));
        }
        // Killed from outside, or by the call before: this one is told what became of it.
        (Wanted::Answer(_) | Wanted::Deadline, _) if status == Some(-9) => {
            tally.innocent.fetch_add(1, Relaxed);
        }
        (Wanted::Crash(wanted), _) => assert!(
            status == Some(*wanted) || status == Some(-9),
            "crashed with {wanted}: {ended:?}"
        ),
        // Where no helper was free, or none was there, before its deadline it was never sent.
        (Wanted::Deadline, Ended::Error(ErrorCode::Deadline | ErrorCode::QueueTimeout | ErrorCode::Unavailable, _)) => {
        }
        (Wanted::Deadline, _) => panic!("a deadline: {ended:?}"),
        (Wanted::Answer(_), _) => panic!("a harmless call: {ended:?}"),
    }
}

/// One question on a connection of its own, and all that comes back.
fn asked(usherd: &Usherd, socket: &str, question: &[u8], tally: &Tally) -> Vec<u8> {
    let mut stream = UnixStream::connect(usherd.unix(socket)).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket");
    stream.write_all(question).expect("it reads");
    tally.asked.fetch_add(1, Relaxed);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("its end");
    tally.ended.fetch_add(1, Relaxed);
    answer
}

/// NSS and PAM: right answers are right to the byte, and a death is "unavailable": an answer without an end.
fn accounts(usherd: &Usherd, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed ^ 0xACC);
    while tally.is_left() {
        let number = u32::try_from(dice.roll(1_000_000)).expect("small");
        let name = format!("u{number}");
        let dies = dice.one_in(6) && tally.take();
        let fatal = format!("die-{}", last_words(&mut dice));
        let password = if dice.one_in(2) {
            format!("pw-{name}")
        } else {
            "wrong".to_owned()
        };
        let looks = dice.one_in(2);
        let absent = looks && dice.one_in(3);
        let asks = if dies && looks {
            &fatal
        } else if absent {
            "nobody-here"
        } else {
            &name
        };
        let who = Who {
            user: asks.as_bytes(),
            service: b"test",
            ..Who::default()
        };
        let request = if looks {
            nslcd::Request::Look {
                map: Map::Passwd,
                key: Key::Name(asks.as_bytes()),
            }
        } else {
            let password = if dies { fatal.as_bytes() } else { password.as_bytes() };
            nslcd::Request::Authc { who, password }
        };
        let mut question = Vec::new();
        request.write(&mut question);
        let told = asked(usherd, "socket", &question, tally);
        let mut begun = Vec::new();
        nslcd::begin(&mut begun, request.action());
        let mut right = begun.clone();
        if looks && !absent {
            nslcd::passwd(&mut right, &account(&name, number));
        } else if !looks {
            let verdict = if password == "wrong" {
                Pam::AuthError
            } else {
                Pam::Success
            };
            nslcd::authc(&mut right, verdict, name.as_bytes(), Pam::Success, b"");
        }
        nslcd::end(&mut right);
        let unavailable = begun.starts_with(&told);
        if dies || (unavailable && told != right) {
            assert!(unavailable, "{fatal}: {told:?}");
            tally.innocent.fetch_add(usize::from(!dies), Relaxed);
        } else {
            assert_eq!(told, right, "{asks} {password}");
        }
    }
}

/// saslauthd: yes, no, or nothing at all.
fn passwords(usherd: &Usherd, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed ^ 0x5A51);
    while tally.is_left() {
        let name = format!("u{}", dice.roll(1_000_000));
        let dies = dice.one_in(6) && tally.take();
        let (login, password, right) = match dice.roll(3) {
            _ if dies => (name, format!("die-{}", last_words(&mut dice)), ""),
            0 => ("nobody-here".to_owned(), "wrong".to_owned(), "NO no such user"),
            1 => (name, "wrong".to_owned(), "NO wrong password"),
            _ => (name.clone(), format!("pw-{name}"), "OK"),
        };
        let request = saslauthd::Request {
            login: login.as_bytes(),
            password: password.as_bytes(),
            service: b"imap",
            realm: b"",
        };
        let mut question = Vec::new();
        request.write(&mut question);
        let told = asked(usherd, "mux", &question, tally);
        let told = String::from_utf8_lossy(told.get(2..).unwrap_or_default()).into_owned();
        if told.is_empty() && !dies {
            tally.innocent.fetch_add(1, Relaxed);
        } else {
            assert_eq!(told, right, "{login} {password}");
        }
    }
}

fn account(name: &str, uid: u32) -> Passwd<'_> {
    Passwd {
        name: name.as_bytes(),
        password: b"*",
        uid,
        gid: 1,
        gecos: b"",
        home: b"/",
        shell: b"/bin/sh",
    }
}

/// A helper's last words in an identity call, or an answer that cannot be read.
fn last_words(dice: &mut Dice) -> String {
    match dice.roll(12) {
        0 => "fail".to_owned(),
        1 => "strangers_x".to_owned(),
        2 => "hang".to_owned(),
        _ => dice.death().0.replace(' ', "_"),
    }
}

/// Kills a helper from outside now and then, whatever it is doing.
fn killer(usherd: &Usherd, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed ^ 0xD1E);
    while !tally.over.load(Relaxed) && tally.is_left() {
        std::thread::sleep(Duration::from_millis(100 + dice.roll(200)));
        let name = if dice.one_in(3) { "people" } else { "mortal" };
        let all = service(usherd, name);
        let all = all["helpers"].as_array().expect("helpers");
        let Some(count) = u64::try_from(all.len()).ok().filter(|count| *count > 0) else {
            continue;
        };
        let chosen = usize::try_from(dice.roll(count)).expect("small");
        let pid = all[chosen]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        // 0: it is being started.
        let pid = Pid::from_raw(pid.expect("a number"));
        let Some((pid, handle)) = pid.and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))) else {
            continue;
        };
        // The number may be somebody else's by now.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(usherd.process.pid().to_string().as_str()) && pidfd_send_signal(&handle, Signal::KILL).is_ok()
        {
            tally.strays.fetch_add(1, Relaxed);
        }
    }
}

/// Memory files that the daemon holds.
fn memories(usherd: &Usherd) -> usize {
    let folder = format!("/proc/{}/fd", usherd.process.pid());
    let entries = std::fs::read_dir(folder).expect("it runs").flatten();
    let target = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).unwrap_or_default();
    entries
        .map(target)
        .filter(|target| target.to_string_lossy().contains("memfd:usherd-helper"))
        .count()
}

/// The daemon with two services behind four listeners, all helpers there.
fn mortals() -> Usherd {
    let bounds = "crash_max = 10000\nspawn_rate = 1000\nqueue_timeout = \"60s\"\nslow_log = 0\ngrace = \"300ms\"";
    let lines =
        |count: u32, timeout: &str| format!("min = {count}\nmax = {count}\nrequest_timeout = \"{timeout}\"\n{bounds}");
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .listen("rpc", "127.0.0.1:0", "")
        .listen("nslcd", "unix:socket", "service = \"people\"")
        .listen("saslauthd", "unix:mux", "service = \"people\"")
        .section(&sections(&[
            ("mortal", &[], &lines(4, "60s")),
            ("people", &[], &lines(4, "2s")),
        ]))
        .start();
    for name in ["mortal", "people"] {
        until(&usherd, name, "populated", |one| one["idle"] == 4);
    }
    usherd
}

fn over_tcp(usherd: &Usherd) -> Client {
    let stream = TcpStream::connect(("127.0.0.1", usherd.port(1))).expect("the rpc listener");
    stream.set_nodelay(true).expect("a socket");
    // Only read and written, which is the same for both families.
    Client::over(UnixStream::from(OwnedFd::from(stream)))
}

fn counted(service: &serde_json::Value, list: &str, label: &str) -> usize {
    let all = service[list].as_array().expect("counts");
    let found = all.iter().find(|one| one["label"] == label);
    let count = found.and_then(|one| one["count"].as_u64()).expect("a count");
    usize::try_from(count).expect("small")
}

#[test]
fn every_call_is_answered_exactly_once_while_helpers_die_and_nothing_is_left_behind() {
    let _machine = alone();
    let crashes = setting("USHERD_TEST_CRASHES", 100);
    let seed = setting("USHERD_TEST_SEED", 1) as u64;
    eprintln!("USHERD_TEST_SEED={seed}");
    let usherd = mortals();
    let before = held(&usherd);
    assert_eq!((before.0, before.2), (8, 8));
    let memory = usherd.process.memory_kib("VmRSS");
    let tally = Tally::default();
    tally.left.store(crashes, Relaxed);
    std::thread::scope(|scope| {
        for name in 1..=3 {
            let client = if name == 3 {
                over_tcp(&usherd)
            } else {
                Client::connect(&usherd)
            };
            let tally = &tally;
            scope.spawn(move || caller(client, name, seed, tally));
        }
        scope.spawn(|| accounts(&usherd, seed, &tally));
        scope.spawn(|| passwords(&usherd, seed, &tally));
        scope.spawn(|| killer(&usherd, seed, &tally));
    });
    tally.over.store(true, Relaxed);
    let (strays, innocent) = (tally.strays.load(Relaxed), tally.innocent.load(Relaxed));
    assert_eq!(tally.asked.load(Relaxed), tally.ended.load(Relaxed));
    assert!(
        innocent <= strays,
        "{innocent} calls were hit by {strays} deaths that were not theirs"
    );
    for name in ["mortal", "people"] {
        until(&usherd, name, "as before", |one| {
            one["idle"] == 4 && one["running"] == 4 && one["queued"] == 0
        });
    }
    nothing_left(&usherd, before);
    let grown = usherd.process.memory_kib("VmRSS").saturating_sub(memory);
    assert!(grown < 8 * 1024, "{grown} KiB more after {crashes} crashes");
    let (mortal, people) = (service(&usherd, "mortal"), service(&usherd, "people"));
    let crashed = counted(&mortal, "outcomes", "crashed");
    assert_eq!(crashed, tally.crashed.load(Relaxed), "{mortal:#}");
    // One helper takes one call: each call that crashed is a helper that ended, and the other way round but for strays.
    let ended = counted(&mortal, "exits", "crash");
    assert!(
        (crashed..=crashed + strays).contains(&ended),
        "{crashed}, {strays}: {mortal:#}"
    );
    let ended = ended
        + counted(&people, "exits", "crash")
        + counted(&mortal, "exits", "timeout")
        + counted(&people, "exits", "timeout");
    assert!(ended >= crashes / 2, "{ended} helpers ended: {mortal:#} {people:#}");
    println!(
        "{} calls, {ended} helpers ended, {strays} of them by themselves, {innocent} calls hit by those, {grown} KiB more",
        tally.asked.load(Relaxed)
    );
    usherd.stop();
}

/// Processes, descriptors and memory files of a daemon that nobody has asked anything for a while.
fn held(usherd: &Usherd) -> (usize, usize, usize) {
    std::thread::sleep(Duration::from_millis(300));
    (children(usherd), descriptors(usherd), memories(usherd))
}

fn nothing_left(usherd: &Usherd, before: (usize, usize, usize)) {
    let mut now = before;
    for _ in 0..20 {
        now = held(usherd);
        if now == before {
            return;
        }
    }
    panic!("processes, descriptors, memory files: {before:?} before, {now:?} now");
}

#[test]
fn helpers_end_when_the_daemon_is_killed() {
    let usherd = &mut helpers(&[
        ("plain", &[], "min = 1"),
        ("jailed", &[], "min = 1\nlimits = { core = 0 }"),
    ]);
    let mut client = Client::connect(usherd);
    let mut pids: Vec<String> = Vec::new();
    for name in ["plain", "jailed"] {
        pids.push(crate::helpers::answer(client.ask(name, b"pid")));
    }
    // The second does not look at its socket: it is the kernel that ends it.
    client.call(1, "jailed", b"deaf");
    until(usherd, "jailed", "at work", |one| one["busy"] == 1);
    usherd.expect_end();
    usherd.process.kill();
    for pid in pids {
        wait_for("the helper has ended", Duration::from_secs(5), || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (state.is_empty() || state.contains(") Z ")).then_some(())
        });
    }
}
