//! What runs out: descriptors, memory; and what must not be used at all when nothing happens.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Target};
use crate::load::Load;
use crate::ops::{self, present};
use crate::proc::{Process, alone, setting, wait_for};
use crate::slapd::{BASE, PHOTO_BYTES, PHOTOS, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

#[test]
fn four_hundred_connections_at_128_descriptors_stop_nothing_that_is_there_and_end_within_a_second() {
    let _machine = alone();
    let mut slapd = Slapd::start();
    let usherd = Setup::corp("retry_max = \"500ms\"", &[server(&slapd.url(), "")])
        .descriptors(128)
        .start();
    let port = usherd.port(0);
    let mut early = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut slowest = Duration::ZERO;
    let rounds = setting("USHERD_TEST_FLOODS", 3);
    for round in 0..rounds {
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok();
        let flood: Vec<Option<TcpStream>> = (0..400).map(connect).collect();
        assert!(flood.iter().flatten().count() > 100, "there is no flood");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            early.whoami(),
            format!("dn:{}", user(1)),
            "round {round}: who is there is served"
        );
        let status = usherd.status();
        assert!(status["clients"].as_u64() < Some(128), "{status:#}");
        // The server goes and comes: there are descriptors left for it.
        slapd.revive();
        usherd.until("the server is back", |status| {
            status["directories"][0]["servers"][0]["state"] == "up"
        });
        assert_eq!(
            early
                .call(&ops::search(&user(2), ops::BASE, &present("uid"), &[]))
                .len(),
            2
        );
        drop(flood);
        let closed = Instant::now();
        let mut late = Client::connect(&usherd.plain(0));
        late.bind(&user(2), &password(2));
        assert!(
            closed.elapsed() < Duration::from_secs(1),
            "round {round}: deaf for {:?}",
            closed.elapsed()
        );
        slowest = slowest.max(closed.elapsed());
    }
    eprintln!("{rounds} floods: a bind after each within {slowest:?}");
    usherd.stop();
}

#[test]
fn readers_that_do_not_read_cost_little_memory_and_others_go_on() {
    let _machine = alone();
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let readers = setting("USHERD_TEST_READERS", 200);
    let load = Load {
        rest: Duration::from_millis(2),
        patience: Duration::from_secs(65),
        ..Load::new(&[usherd.plain(0)], 8, 4)
    };
    let second = Duration::from_secs(1);
    let mut most = 0;
    // What else this machine does comes and goes, so healthy clients are compared with themselves just before and after, and
    // more than once if need be.
    let kept = (0..5).any(|_| {
        let (before, _) = rate(&load, 2 * second, || {});
        let mut stuck = Vec::new();
        let (during, slowest) = rate(&load, 4 * second, || {
            stuck = get_stuck(&usherd, readers, &mut most);
        });
        let (beside, _) = rate(&load, 2 * second, || {});
        most = most.max(usherd.process.memory_kib("VmRSS"));
        drop(stuck);
        usherd.until("the stuck clients are gone", |status| {
            status["clients"].as_u64() < Some(20)
        });
        let (after, _) = rate(&load, 2 * second, || {});
        eprintln!(
            "{readers} readers of {} MiB: {most} KiB; healthy clients {before}/s before, {during}/s (slowest {slowest:?}) \
             while they come, {beside}/s beside them, {after}/s after",
            (PHOTOS * PHOTO_BYTES) >> 20,
        );
        assert!(most <= 100 * 1024, "{most} KiB");
        assert!(slowest < 10 * second, "somebody waited {slowest:?}");
        beside * 20 >= (before + after) * 9
    });
    assert!(
        kept,
        "beside readers that do not read, healthy clients never had 90 % of their rate"
    );
    usherd.stop();
}

/// Clients that ask for 10 MiB each and read nothing of it; `most` is the memory that the daemon had at most meanwhile.
fn get_stuck(usherd: &Usherd, readers: usize, most: &mut u64) -> Vec<Client> {
    let base = format!("ou=photos,{BASE}");
    let photos = ops::search(&base, ops::SUB, &present("jpegPhoto"), &["jpegPhoto"]);
    let mut look = || *most = (*most).max(usherd.process.memory_kib("VmRSS"));
    let target = usherd.plain(0);
    let stuck = (0..readers).map(|_| {
        let mut client = Client::connect(&target);
        client.send(&photos);
        look();
        client
    });
    let stuck: Vec<Client> = stuck.collect();
    for _ in 0..40 {
        look();
        std::thread::sleep(Duration::from_millis(50));
    }
    stuck
}

/// Operations per second over at least `span`, while `meanwhile` runs, and the slowest; nobody may notice anything.
fn rate(load: &Load, span: Duration, meanwhile: impl FnOnce()) -> (u64, Duration) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let start = Instant::now();
        let running = scope.spawn(|| load.run(u64::MAX, &stop));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        std::thread::sleep(span.saturating_sub(start.elapsed()));
        stop.store(true, Ordering::Relaxed);
        let took = start.elapsed();
        let tally = running.join().expect("the load ran");
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        tally.assert_untroubled();
        (
            tally.operations * 1_000 / u64::try_from(took.as_millis()).expect("short"),
            tally.slowest,
        )
    })
}

#[test]
fn a_slow_but_steady_reader_gets_everything_in_order() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let mut client = Client::connect(&usherd.plain(0));
    let op = ops::search(crate::slapd::PEOPLE, ops::SUB, &present("uid"), &["uid", "description"]);
    let id = client.send(&op);
    let mut last = 0;
    loop {
        let message = client.receive(Duration::from_secs(20)).expect("it goes on");
        assert_eq!(message.id, id);
        if message.is_final() {
            assert_eq!(message.code(), 0);
            break;
        }
        if message.tag == ops::SEARCH_ENTRY {
            last += 1;
            assert_eq!(message.values("description"), [format!("token-{last}")]);
            if last % 100 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert_eq!(last, crate::slapd::USERS);
    usherd.stop();
}

#[test]
fn an_idle_daemon_makes_no_system_calls() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("probe_interval = \"0s\"", &[server(&slapd.url(), "")]).start();
    let mut idle = Client::bound(&usherd.plain(0), &user(1), &password(1));
    assert_eq!(idle.whoami(), format!("dn:{}", user(1)));
    // What winds down after work (timers of finished operations, a bind connection) may do so.
    std::thread::sleep(Duration::from_secs(2));
    let calls = usherd.folder.file("calls");
    let pid = usherd.process.pid().to_string();
    let args = ["-f", "-qq", "-o", &calls, "-p", &pid];
    let log = usherd.folder.path().join("strace");
    let mut strace = Process::start("/usr/bin/strace", &args, &log);
    wait_for("strace is attached", Duration::from_secs(5), || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status
            .lines()
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            .then_some(())
    });
    std::thread::sleep(Duration::from_secs(10));
    strace.signal("INT");
    strace.wait(Duration::from_secs(5));
    let trace = std::fs::read_to_string(&calls).expect("strace wrote");
    // A call that slept through the whole time is shown when strace goes, without its result, or as resumed by it.
    let made =
        |line: &&str| !line.contains("<detached") && !line.contains("<unfinished") && !line.contains("strace: Process");
    let made: Vec<&str> = trace
        .lines()
        .filter(made)
        .filter(|line| !line.contains("restart_syscall"))
        .collect();
    assert!(
        made.len() <= 4,
        "{} system calls in 10 s at rest:\n{}",
        made.len(),
        made.join("\n")
    );
    assert_eq!(idle.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn clients_beyond_a_listeners_own_limit_wait_outside_and_other_listeners_have_room() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"\nclients_max = 2")
        .start();
    let (free, narrow): (Target, Target) = (usherd.plain(0), usherd.plain(1));
    let mut inside: Vec<Client> = (1..=2)
        .map(|number| Client::bound(&narrow, &user(number), &password(number)))
        .collect();
    let mut outside = Client::try_connect(&narrow).expect("the kernel takes it into the backlog");
    let id = outside.send(&ops::whoami());
    let waits = outside.receive(Duration::from_millis(500));
    assert!(
        matches!(waits, Err(crate::client::Gone::Timeout)),
        "a third client: {waits:?}"
    );
    let mut others: Vec<Client> = (1..=20).map(|_| Client::connect(&free)).collect();
    for other in &mut others {
        assert_eq!(other.whoami(), "");
    }
    inside.pop();
    let answer = outside
        .collect(id, Duration::from_secs(1))
        .expect("its turn within a second");
    assert_eq!(answer[0].code(), 0);
    assert_eq!(inside[0].whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn clients_beyond_the_limit_wait_outside_and_come_in_when_others_leave() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .server("clients_max = 5")
        .start();
    let target: Target = usherd.plain(0);
    let mut inside: Vec<Client> = (1..=5)
        .map(|number| Client::bound(&target, &user(number), &password(number)))
        .collect();
    let outside = Client::try_connect(&target);
    let mut outside = outside.expect("the kernel takes it into the backlog");
    let id = outside.send(&ops::whoami());
    let refused = match outside.receive(Duration::from_millis(500)) {
        Err(crate::client::Gone::Timeout) => false,
        Err(crate::client::Gone::Closed) => true,
        Ok(answer) => {
            assert!(answer.code() != 0, "a sixth client is served: {answer:?}");
            true
        }
    };
    inside.pop();
    if refused {
        outside = Client::connect(&target);
        assert_eq!(outside.whoami(), "");
    } else {
        let answer = outside
            .collect(id, Duration::from_secs(1))
            .expect("its turn within a second");
        assert_eq!(answer[0].code(), 0);
    }
    inside
        .iter_mut()
        .enumerate()
        .for_each(|(index, client)| assert_eq!(client.whoami(), format!("dn:{}", user(index + 1))));
    usherd.stop();
}
