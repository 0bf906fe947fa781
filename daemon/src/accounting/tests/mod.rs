//! Writers against files, disks that are full, readers that do not read, services that are down, and kill -9.

mod crash;
mod files;
mod formats;
mod services;
mod spool;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use wire::radius::text::Line;
use wire::radius::{Dictionary, Secret};

use super::plan::{FilePlan, Format, PathTemplate, Settings, SinkPlan, SpoolPlan};
use super::{Call, Figures, Parts, Record, Tell, Ticket, Writer};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("usherd-accounting-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reading it takes longer than most of what is done with it.
fn dictionary() -> Arc<Dictionary> {
    static STANDARD: OnceLock<Arc<Dictionary>> = OnceLock::new();
    Arc::clone(STANDARD.get_or_init(|| Arc::new(Dictionary::standard())))
}

/// The packet of a line.
fn packet(line: &str) -> Vec<u8> {
    let dictionary = dictionary();
    let line = Line::parse(&dictionary, line).unwrap_or_else(|mistake| panic!("{line}: {mistake}"));
    let mut out = Vec::new();
    line.write(
        &dictionary,
        Some(&Secret::new(b"xyzzy5461")),
        &[0; 16],
        &mut || 0x8000,
        &mut out,
    )
    .unwrap();
    out
}

fn record(request: u64, packet: Vec<u8>) -> Record {
    Record {
        ticket: Ticket {
            worker: 1,
            listener: 2,
            request,
        },
        packet,
        client: "switch".into(),
        from: "192.0.2.9:40000".parse().unwrap(),
        to: None,
        received: UNIX_EPOCH + Duration::from_micros(1_795_758_632_000_007),
    }
}

/// The n-th record of a session.
fn of_session(session: &str, n: u64) -> Record {
    let line = format!("Accounting-Request Acct-Session-Id = \"{session}\", Acct-Session-Time = {n}");
    record(n, packet(&line))
}

fn file(path: &Path) -> FilePlan {
    FilePlan {
        path: PathTemplate::parse(path.to_str().unwrap()).unwrap(),
        format: Format::Json,
        sync: true,
        rotate_bytes: 0,
        rotate_every: Duration::ZERO,
        keep: 3,
        mode: 0o600,
    }
}

fn settings(sink: SinkPlan, spool: Option<&Path>) -> Settings {
    Settings {
        sink,
        queue_max: 65_536,
        spool: spool.map(|folder| SpoolPlan {
            folder: folder.to_owned(),
            bytes_max: 1 << 30,
            // On a machine that has much else to do nothing else is late.
            after: LONG,
        }),
    }
}

/// A writer, and what it has told.
struct Running {
    writer: Writer,
    told: Receiver<(Ticket, bool)>,
}

impl Running {
    fn start(settings: Settings) -> Running {
        Running::calling(settings, Arc::new(|_, _, _| None))
    }

    fn calling(settings: Settings, call: Call) -> Running {
        let (tell, told): (Sender<(Ticket, bool)>, _) = channel();
        let tell: Tell = Box::new(move |all| {
            for one in all {
                // A test that has ended does not listen.
                let _ = tell.send(one);
            }
        });
        let parts = Parts {
            dictionary: dictionary(),
            call,
            tell,
            seed: 7,
        };
        let writer = Writer::start(settings, parts).unwrap();
        Running { writer, told }
    }

    fn push(&self, record: Record) {
        self.writer.handle().push(record).unwrap();
    }

    /// The ends of so many records, by their requests, in order.
    fn told(&self, many: usize) -> Vec<(u64, bool)> {
        let mut told: Vec<(u64, bool)> = (0..many)
            .map(|at| {
                let (ticket, done) = self
                    .told
                    .recv_timeout(LONG)
                    .unwrap_or_else(|_| panic!("{at} of {many} were told"));
                assert_eq!((ticket.worker, ticket.listener), (1, 2));
                (ticket.request, done)
            })
            .collect();
        told.sort_unstable();
        told
    }

    /// Waits for figures.
    fn until(&self, what: &str, is: impl Fn(&Figures) -> bool) -> Figures {
        let begun = Instant::now();
        loop {
            let figures = self.writer.figures();
            if is(&figures) {
                return figures;
            }
            assert!(begun.elapsed() < LONG, "{what}: {figures:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn all_done(many: u64) -> Vec<(u64, bool)> {
    (0..many).map(|request| (request, true)).collect()
}

/// The numbers of the records of a session, in the order of a file of JSON lines; every line is whole.
fn numbers(path: &Path, session: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let lines = text.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        object
    });
    let of_session = lines.filter(|object| object["session"] == session);
    of_session
        .map(|object| object["attributes"]["Acct-Session-Time"].as_u64().unwrap())
        .collect()
}
