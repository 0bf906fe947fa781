//! kill -9 in the middle, and a disk that becomes full within a record: the test plays the daemon in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::super::plan::SinkPlan;
use super::{Folder, Running, dictionary, file, numbers, of_session, settings};

/// Says to the test binary that it is such a process, and in which folder.
const CHILD: &str = "USHERD_TEST_ACCOUNTING_CHILD";

fn child(test: &str, folder: &Path) -> Child {
    let name = format!("accounting::tests::crash::{test}");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The numbers that a child has said to be done; after so many it is killed.
fn acknowledged(child: &mut Child, killed_after: usize) -> Vec<u64> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut done = Vec::new();
    for line in lines.map_while(Result::ok) {
        let number = line.strip_prefix("done ").and_then(|number| number.parse::<u64>().ok());
        done.extend(number);
        if number.is_some() && done.len() == killed_after {
            child.kill().unwrap();
        }
    }
    done
}

/// Says what is done, whole lines only.
fn say(told: &[(u64, bool)]) {
    let done = told.iter().filter(|(_, done)| *done);
    let text: String = done.map(|(request, _)| format!("\ndone {request}\n")).collect();
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}

/// Writes until it is killed; its disk is full every other moment.
fn write_on(folder: &Path) {
    let (path, spool) = (folder.join("lines"), folder.join("spool"));
    let well = settings(SinkPlan::File(file(&path)), Some(&spool));
    let full = settings(SinkPlan::File(file("/dev/full".as_ref())), Some(&spool));
    let first = numbers(&path, "a").into_iter().max().map_or(0, |last| last + 1);
    // What is in the spool yet has numbers, too.
    let first = first + 1_000_000;
    let running = Running::start(well.clone());
    let dictionary = dictionary();
    for turn in 0_u64.. {
        for n in 0..50 {
            running.push(of_session("a", first + turn * 50 + n));
        }
        say(&running.told(50));
        let plan = if turn % 4 < 2 { &well } else { &full };
        running.writer.configure(plan.clone(), Arc::clone(&dictionary));
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_kill_9() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return write_on(folder.as_ref());
    }
    let folder = Folder::new("kill");
    let mut done = Vec::new();
    for turn in 0..12 {
        let mut child = child("nothing_that_was_acknowledged_is_lost_by_kill_9", &folder.0);
        done.extend(acknowledged(&mut child, 40 + turn * 37));
        child.wait().unwrap();
        // Whoever comes after a crash cuts off what is torn; here the file is only looked at once that is done.
        let plan = settings(SinkPlan::File(file(&folder.path("lines"))), Some(&folder.path("spool")));
        let running = Running::start(plan);
        running.push(of_session("between", turn as u64));
        running.told(1);
        running.until("an empty spool", |figures| {
            figures.spool_records == 0 && figures.queue == 0
        });
    }
    let path = folder.path("lines");
    let mut running_max = None;
    let mut kept = std::collections::BTreeSet::new();
    for number in numbers(&path, "a") {
        // At least once, and the first time in order.
        if kept.insert(number) {
            assert!(
                running_max.is_none_or(|max| number > max),
                "{number} comes after {running_max:?}"
            );
            running_max = Some(number);
        }
    }
    let lost: Vec<_> = done.iter().filter(|number| !kept.contains(number)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), done.len());
    assert_eq!(numbers(&path, "between"), (0..12).collect::<Vec<_>>());
}

/// Writes with a bound on the size of files, as on a disk that has so much room.
fn write_bounded(folder: &Path) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let caught = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGXFSZ, caught).unwrap();
    let bound = Rlimit {
        current: Some(10_000),
        maximum: Some(10_000),
    };
    setrlimit(Resource::Fsize, bound).unwrap();
    let mut plan = file(&folder.join("lines"));
    plan.sync = false;
    let running = Running::start(settings(SinkPlan::File(plan), None));
    for n in 0..100 {
        running.push(of_session("a", n));
        say(&running.told(1));
    }
}

#[test]
fn a_disk_that_is_full_within_a_record_leaves_whole_records() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return write_bounded(folder.as_ref());
    }
    let folder = Folder::new("bounded");
    let mut child = child("a_disk_that_is_full_within_a_record_leaves_whole_records", &folder.0);
    let done = acknowledged(&mut child, usize::MAX);
    assert!(child.wait().unwrap().success());
    assert!(done.len() > 5 && done.len() < 100, "{done:?}");
    assert_eq!(
        numbers(&folder.path("lines"), "a"),
        done,
        "what was acknowledged, and nothing else"
    );
}
