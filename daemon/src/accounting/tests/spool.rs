//! What the sink does not take.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::plan::{Format, SinkPlan};
use super::files::make_pipe;
use super::{Folder, LONG, Running, all_done, dictionary, file, numbers, of_session, settings};

#[test]
fn what_the_sink_refuses_is_told_done_by_the_spool_and_comes_in_order_when_it_is_back() {
    let folder = Folder::new("back");
    let (path, spool) = (folder.path("lines"), folder.path("spool"));
    let full = settings(SinkPlan::File(file("/dev/full".as_ref())), Some(&spool));
    let running = Running::start(full);
    for n in 0..1000 {
        running.push(of_session("a", n));
    }
    assert_eq!(running.told(1000), all_done(1000));
    let figures = running.writer.figures();
    assert_eq!(
        (figures.written, figures.spooled, figures.refused),
        (0, 1000, 0),
        "{figures:?}"
    );
    assert!(figures.last_error.is_some() && figures.spool_records == 1000 && figures.spool_bytes > 50_000);
    let well = settings(SinkPlan::File(file(&path)), Some(&spool));
    running.writer.configure(well, dictionary());
    // New ones come while the old ones are replayed.
    for n in 1000..5000 {
        running.push(of_session("a", n));
    }
    running.told(4000);
    let figures = running.until("an empty spool", |figures| {
        figures.spool_records == 0 && figures.queue == 0
    });
    assert_eq!(figures.replayed + figures.written, 5000, "{figures:?}");
    assert_eq!(figures.last_error, None);
    assert_eq!(numbers(&path, "a"), (0..5000).collect::<Vec<_>>());
    // The spool is out of the way again.
    running.push(of_session("b", 1));
    running.told(1);
    let written = running.until("a direct write", |now| now.written > figures.written);
    assert_eq!(written.spooled, figures.spooled);
}

#[test]
fn the_spool_survives_a_stop() {
    let folder = Folder::new("stop");
    let (path, spool) = (folder.path("lines"), folder.path("spool"));
    let running = Running::start(settings(SinkPlan::File(file("/dev/full".as_ref())), Some(&spool)));
    for n in 0..100 {
        running.push(of_session("a", n));
    }
    assert!(running.writer.stop(LONG));
    assert_eq!(running.told(100), all_done(100));
    drop(running);
    let running = Running::start(settings(SinkPlan::File(file(&path)), Some(&spool)));
    running.push(of_session("a", 100));
    running.until("an empty spool", |figures| figures.replayed + figures.written == 101);
    assert_eq!(numbers(&path, "a"), (0..=100).collect::<Vec<_>>());
}

#[test]
fn a_spool_that_is_full_is_told() {
    let folder = Folder::new("bound");
    let spool = folder.path("spool");
    let mut plan = settings(SinkPlan::File(file("/dev/full".as_ref())), Some(&spool));
    plan.spool.as_mut().unwrap().bytes_max = 64 << 10;
    let running = Running::start(plan);
    for n in 0..1000 {
        running.push(of_session("a", n));
        std::thread::sleep(Duration::from_micros(100));
    }
    let mut told = running.told(1000);
    // Until not even one fits.
    while told.last().is_some_and(|(_, done)| *done) {
        running.push(of_session("a", told.len() as u64));
        told.extend(running.told(1));
    }
    let (many, done) = (told.len() as u64, told.iter().filter(|(_, done)| *done).count() as u64);
    assert!((50..900).contains(&done), "{done} of {many}");
    let figures = running.writer.figures();
    assert_eq!((figures.spooled, figures.refused), (done, many - done), "{figures:?}");
    assert!(figures.spool_bytes <= 64 << 10, "{figures:?}");
    assert!(figures.spool_error.unwrap().contains("spool_max_bytes"));
}

/// A pipe that nobody reads holds up who writes to it, as a disk does that has gone away.
#[test]
fn a_sink_that_hangs_holds_up_nobody() {
    let folder = Folder::new("hangs");
    let (pipe, spool) = (folder.path("pipe"), folder.path("spool"));
    make_pipe(&pipe);
    let mut plan = settings(SinkPlan::File(file(&pipe)), Some(&spool));
    plan.spool.as_mut().unwrap().after = Duration::from_millis(200);
    let running = Running::start(plan);
    for n in 0..2000 {
        running.push(of_session("a", n));
    }
    let begun = Instant::now();
    assert_eq!(running.told(2000), all_done(2000));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for n in 2000..3000 {
        running.push(of_session("a", n));
    }
    running.told(1000);
    assert!(running.writer.figures().spooled > 0);
    let mut end = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let many = end.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..many]);
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            if lines >= 3000 {
                return text;
            }
        }
    });
    let figures = running.until("an empty spool", |figures| {
        figures.spool_records == 0 && figures.queue == 0
    });
    let text = reader.join().unwrap();
    let read = folder.path("read");
    fs::write(&read, text).unwrap();
    assert_eq!(numbers(&read, "a"), (0..3000).collect::<Vec<_>>(), "{figures:?}");
}

#[test]
fn a_spool_is_one_daemons_and_no_other_file() {
    let folder = Folder::new("taken");
    let spool = folder.path("spool");
    let plan = || settings(SinkPlan::File(file(&folder.path("lines"))), Some(&spool));
    let running = Running::start(plan());
    let parts = || super::Parts {
        dictionary: dictionary(),
        call: Arc::new(|_, _, _| None),
        tell: Box::new(|_| {}),
        seed: 1,
    };
    let Err(error) = super::Writer::start(plan(), parts()) else {
        panic!("two have one folder")
    };
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(running.writer.stop(LONG));
    drop(running);
    let begun = Instant::now();
    fs::write(spool.join("spool.db"), "something else").unwrap();
    loop {
        match super::Writer::start(plan(), parts()) {
            Err(error) if error.to_string().contains("in use") && begun.elapsed() < LONG => {}
            Err(error) => break assert!(error.to_string().contains("spool.db"), "{error}"),
            Ok(_) => panic!("it is no spool"),
        }
    }
}

#[test]
fn the_format_may_change_while_records_wait() {
    let folder = Folder::new("format");
    let (path, spool) = (folder.path("detail"), folder.path("spool"));
    let running = Running::start(settings(SinkPlan::File(file("/dev/full".as_ref())), Some(&spool)));
    running.push(of_session("a", 7));
    running.told(1);
    let mut plan = file(&path);
    plan.format = Format::Detail;
    let plan = settings(SinkPlan::File(plan), Some(&spool));
    running.writer.configure(plan, dictionary());
    running.until("a replay", |figures| figures.replayed == 1);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains(":32 2026\n\t") && text.ends_with("\tTimestamp = 1795758632\n\n"),
        "{text}"
    );
}
