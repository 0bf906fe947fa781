//! Records in files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};

use super::super::plan::{FilePlan, Format, PathTemplate, SinkPlan};
use super::{Folder, LONG, Running, all_done, dictionary, file, numbers, of_session, record, settings};

#[test]
fn every_record_is_a_line_and_told_done() {
    let folder = Folder::new("lines");
    let path = folder.path("lines");
    let running = Running::start(settings(SinkPlan::File(file(&path)), None));
    for n in 0..10_000 {
        running.push(of_session("a", n));
    }
    assert_eq!(running.told(10_000), all_done(10_000));
    assert_eq!(numbers(&path, "a"), (0..10_000).collect::<Vec<_>>());
    let figures = running.writer.figures();
    assert_eq!((figures.written, figures.queue, figures.refused), (10_000, 0, 0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(running.writer.stop(LONG));
    assert!(
        running.writer.handle().push(of_session("a", 0)).is_err(),
        "it was stopped"
    );
}

#[test]
fn a_full_queue_takes_nothing_more() {
    let folder = Folder::new("full-queue");
    let mut plan = settings(SinkPlan::File(file(&folder.path("x"))), None);
    plan.queue_max = 4;
    // Nobody reads the pipe, so nothing leaves the queue once the pipe is full.
    let pipe = folder.path("pipe");
    make_pipe(&pipe);
    plan.sink = SinkPlan::File(file(&pipe));
    let running = Running::start(plan);
    let taken = (0..10_000).take_while(|n| {
        std::thread::sleep(Duration::from_micros(200));
        running.writer.handle().push(of_session("a", *n)).is_ok()
    });
    assert!(taken.count() < 10_000);
    let figures = running.until("the queue", |figures| figures.refused > 0);
    assert!(figures.queue >= 4, "{figures:?}");
    // Lets its thread go.
    drop(
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&pipe)
            .map(|mut end| {
                std::thread::spawn(move || std::io::copy(&mut end, &mut std::io::sink()));
            }),
    );
}

pub(super) fn make_pipe(path: &std::path::Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn a_torn_record_is_cut_off_and_the_rest_is_left() {
    let folder = Folder::new("torn");
    for (format, before, torn) in [
        (Format::Json, "{\"old\":1}\n", "{\"torn\":\"20"),
        (Format::Json, "", "{\"torn\":\"20"),
        (
            Format::Detail,
            "Fri Nov 27 05:50:32 2026\n\tUser-Name = \"x\"\n\n",
            "Fri Nov 27 05:50:33 2026\n\tTorn-",
        ),
        (Format::Detail, "", "Fri Nov 27 05:50:33 2026\n\tTorn"),
    ] {
        let path = folder.path("torn");
        fs::write(&path, format!("{before}{torn}")).unwrap();
        let plan = FilePlan { format, ..file(&path) };
        let running = Running::start(settings(SinkPlan::File(plan), None));
        running.push(of_session("a", 0));
        assert_eq!(running.told(1), [(0, true)]);
        let text = fs::read_to_string(&path).unwrap();
        let rest = text.strip_prefix(before).unwrap_or_else(|| panic!("{text}"));
        assert!(!rest.contains(torn) && rest.contains("Acct-Session-Id"), "{text}");
    }
    // A file of something else is left alone.
    let path = folder.path("other");
    fs::write(&path, "{\"old\":1}\n").unwrap();
    let plan = FilePlan {
        format: Format::Detail,
        ..file(&path)
    };
    let running = Running::start(settings(SinkPlan::File(plan), None));
    running.push(of_session("a", 0));
    assert_eq!(running.told(1), [(0, false)]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"old\":1}\n");
    assert!(running.writer.figures().last_error.unwrap().contains("format"));
}

#[test]
fn a_full_disk_is_told_and_a_file_that_has_room_again_is_written() {
    let folder = Folder::new("full");
    let running = Running::start(settings(SinkPlan::File(file("/dev/full".as_ref())), None));
    running.push(of_session("a", 0));
    running.push(of_session("a", 1));
    assert_eq!(running.told(2), [(0, false), (1, false)]);
    assert!(running.writer.figures().last_error.unwrap().starts_with("/dev/full: "));
    let path = folder.path("room");
    let plan = settings(SinkPlan::File(file(&path)), None);
    running.writer.configure(plan, dictionary());
    running.push(of_session("a", 2));
    assert_eq!(running.told(1), [(2, true)]);
    assert_eq!(numbers(&path, "a"), [2]);
    assert_eq!(running.writer.figures().last_error, None);
}

#[test]
fn files_are_put_away_by_size_and_moved_away_by_others() {
    let folder = Folder::new("rotation");
    let path = folder.path("lines");
    let plan = FilePlan {
        rotate_bytes: 2000,
        keep: 2,
        sync: false,
        ..file(&path)
    };
    let running = Running::start(settings(SinkPlan::File(plan.clone()), None));
    for n in 0..40 {
        running.push(of_session("a", n));
        assert_eq!(running.told(1), [(n, true)]);
    }
    let [now, one, two] = ["lines", "lines.1", "lines.2"].map(|name| numbers(&folder.path(name), "a"));
    assert!(!folder.path("lines.3").exists());
    let all = [two, one, now].concat();
    assert_eq!(all.last(), Some(&39));
    assert!(
        all.windows(2).all(|pair| pair[1] == pair[0] + 1) && all.len() < 40,
        "{all:?}"
    );
    // As logrotate does.
    fs::rename(&path, folder.path("moved")).unwrap();
    running.push(of_session("b", 40));
    assert_eq!(running.told(1), [(40, true)]);
    assert_eq!(numbers(&path, "b"), [40]);
    running.writer.reopen();
    // By age: what is there is old already.
    let old = FilePlan {
        rotate_bytes: 0,
        rotate_every: Duration::from_millis(1),
        ..plan
    };
    running
        .writer
        .configure(settings(SinkPlan::File(old), None), dictionary());
    std::thread::sleep(Duration::from_millis(20));
    running.push(of_session("c", 41));
    assert_eq!(running.told(1), [(41, true)]);
    assert_eq!(numbers(&path, "c"), [41]);
    assert_eq!(numbers(&folder.path("lines.1"), "b"), [40]);
}

#[test]
fn each_client_and_day_has_its_file() {
    let folder = Folder::new("places");
    let template = format!("{}/%{{client}}/%Y%m%d", folder.0.display());
    let plan = FilePlan {
        path: PathTemplate::parse(&template).unwrap(),
        ..file(&folder.path("x"))
    };
    let running = Running::start(settings(SinkPlan::File(plan), None));
    for n in 0..300 {
        let mut record = of_session("a", n);
        record.client = format!("nas{}", n % 100);
        running.push(record);
    }
    assert_eq!(running.told(300), all_done(300));
    for nas in 0..100 {
        let path = folder.path(&format!("nas{nas}/20261127"));
        assert_eq!(numbers(&path, "a"), [nas, nas + 100, nas + 200]);
    }
    let mode = fs::metadata(folder.path("nas1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_detail_file_is_not_written_to_while_its_reader_has_it() {
    let folder = Folder::new("locked");
    let (path, work) = (folder.path("detail"), folder.path("detail.work"));
    let plan = FilePlan {
        format: Format::Detail,
        ..file(&path)
    };
    let running = Running::start(settings(SinkPlan::File(plan), None));
    running.push(record(0, super::packet("Accounting-Request User-Name = \"first\"")));
    assert_eq!(running.told(1), [(0, true)]);
    // The reader of FreeRADIUS: another name, then the lock. A lock is a process's, so that it needs one of its own.
    fs::rename(&path, &work).unwrap();
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&work).unwrap();
    fcntl_lock(&reader, FlockOperation::LockExclusive).unwrap();
    running.push(record(1, super::packet("Accounting-Request User-Name = \"second\"")));
    assert_eq!(running.told(1), [(1, true)]);
    assert!(!fs::read_to_string(&work).unwrap().contains("second"));
    assert!(fs::read_to_string(&path).unwrap().contains("second"));
    reader.flush().unwrap();
}
