//! Helpers die by the hundred, in every way there is, under load: every call is answered exactly once and rightly, and
//! nothing is left behind. `USHERD_TEST_CRASHES=1000` is the long form.

use std::collections::HashMap;
use std::time::Duration;

use wire::rpc::ErrorCode;

use crate::calls::{Client, Ended, children, descriptors, service};
use crate::helpers::{helpers, until};
use crate::proc::{alone, setting, wait_for};
use crate::usherd::Usherd;

/// Ways to die, and how their caller is told.
const DEATHS: [(&str, &[i32]); 6] = [
    ("kill", &[-9]),
    ("exit 5", &[5]),
    ("garbage", &[-9]),
    ("half", &[4]),
    ("liar", &[-9]),
    // Interrupted at the deadline, and killed after the grace.
    ("deaf", &[]),
];

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

#[test]
fn every_call_is_answered_exactly_once_while_helpers_die_and_nothing_is_left_behind() {
    let _machine = alone();
    let crashes = setting("USHERD_TEST_CRASHES", 100);
    let lines = "min = 4\nmax = 4\ncrash_max = 10000\nspawn_rate = 1000\nrequest_timeout = \"1s\"\ngrace = \"100ms\"\n\
                 queue_timeout = \"30s\"\nslow_log = 0";
    let usherd = helpers(&[("mortal", &[], lines)]);
    until(&usherd, "mortal", "populated", |one| one["idle"] == 4);
    let before = (children(&usherd), descriptors(&usherd), memories(&usherd));
    assert_eq!((before.0, before.2), (4, 4));
    let memory = usherd.process.memory_kib("VmRSS");
    let mut client = Client::connect(&usherd);
    let mut expected: HashMap<u32, usize> = HashMap::new();
    let (mut died, mut told, mut id) = (0, 0, 0);
    while died < crashes || !expected.is_empty() {
        // Each deadly call is followed by harmless ones, which must not be harmed by it.
        while died < crashes && expected.len() < 40 {
            id += 1;
            // Few hang: each of them takes its whole deadline.
            let death = if died % 25 == 24 { 5 } else { died % 5 };
            client.call_within(
                id,
                "mortal",
                DEATHS[death].0.as_bytes(),
                if death == 5 { 200 } else { 0 },
            );
            expected.insert(id, death);
            died += 1;
            for _ in 0..4 {
                id += 1;
                client.call(id, "mortal", format!("echo:{id}").as_bytes());
                expected.insert(id, usize::MAX);
            }
        }
        let (of, ended) = client.next();
        let death = expected.remove(&of).expect("a call that is open: no end comes twice");
        told += 1;
        match DEATHS.get(death) {
            None => assert_eq!(ended, Ended::Answer(of.to_string().into_bytes()), "a harmless call"),
            Some(("deaf", _)) => {
                // Where none was free before its deadline it was never sent.
                let code = ended.code();
                assert!(
                    code == Some(ErrorCode::Deadline) || code == Some(ErrorCode::QueueTimeout),
                    "{ended:?}"
                );
            }
            Some((how, statuses)) => {
                let Some(ErrorCode::Crashed { status }) = ended.code() else {
                    panic!("{how}: {ended:?}")
                };
                assert!(statuses.contains(&status), "{how}: {ended:?}");
            }
        }
    }
    assert_eq!(told, id);
    until(&usherd, "mortal", "as before", |one| {
        one["idle"] == 4 && one["running"] == 4 && one["queued"] == 0
    });
    let start = std::time::Instant::now();
    loop {
        // The client's own connection is one more.
        let now = (children(&usherd), descriptors(&usherd) - 1, memories(&usherd));
        if now.0 == before.0 && now.1 <= before.1 && now.2 == before.2 {
            break;
        }
        let late = start.elapsed() > Duration::from_secs(10);
        assert!(
            !late,
            "processes, descriptors, memory files: {before:?} before, {now:?} now"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let grown = usherd.process.memory_kib("VmRSS").saturating_sub(memory);
    assert!(grown < 8 * 1024, "{grown} KiB more after {crashes} crashes");
    let status = service(&usherd, "mortal");
    assert!(status["starts"].as_u64() >= Some(crashes as u64 * 9 / 10), "{status:#}");
    usherd.stop();
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
