//! Who is told: a file, a program and a socket that acknowledge, a NATS stream. Each remembers everything, in order.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::LIMIT;
use crate::feed_sinks::messages;
use crate::proc::{Folder, Process, free_port, wait_for};

/// Writes down what it is told, then acknowledges it; now and then it dies in between.
const PROGRAM: &str = r#"
import json, os, random, sys
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for line in sys.stdin.buffer:
    os.write(out, line)
    if random.random() < 0.002: os._exit(1)
    print(json.loads(line)["seq"], flush=True)
"#;

pub(super) enum Receiver {
    File(PathBuf),
    Program(PathBuf),
    Socket(PathBuf, Arc<Mutex<Vec<Value>>>),
    Stream { port: u16, _server: Process },
}

impl Receiver {
    /// One of them, by the seed.
    pub(super) fn new(seed: usize, folder: &Folder) -> Self {
        let path = folder.path().join("told");
        match seed % 4 {
            0 => Self::File(path),
            1 => Self::Program(path),
            2 => Self::socket(path),
            _ => Self::stream(folder),
        }
    }

    fn socket(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("a socket");
        let told = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                std::thread::spawn(move || serve(&stream, &all));
            }
        });
        Self::Socket(path, told)
    }

    fn stream(folder: &Folder) -> Self {
        let port = free_port();
        let (store, number) = (folder.file("jetstream"), port.to_string());
        // Debian puts it where a user's PATH does not look.
        let path = format!("PATH={}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let args = [
            &path,
            "nats-server",
            "-js",
            "-a",
            "127.0.0.1",
            "-p",
            &number,
            "-sd",
            &store,
        ];
        let process = Process::start("/usr/bin/env", &args, &folder.path().join("nats-log"));
        wait_for("nats-server (Debian package nats-server)", LIMIT, || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self::Stream { port, _server: process }
    }

    /// What the configuration says of it.
    pub(super) fn setting(&self) -> String {
        match self {
            Self::File(path) => format!("{{ type = \"file\", path = \"{}\", fsync = true }}", path.display()),
            Self::Program(path) => format!(
                "{{ type = \"command\", program = [\"/usr/bin/python3\", \"-c\", '''{PROGRAM}''', \"{}\"] }}",
                path.display()
            ),
            Self::Socket(path, _) => format!(
                "{{ type = \"socket\", address = \"unix:{}\", ack = true }}",
                path.display()
            ),
            Self::Stream { port, .. } => format!("{{ type = \"nats\", url = \"nats://127.0.0.1:{port}\" }}"),
        }
    }

    /// Whether it can tell what it was told last, so that it is told nothing twice.
    pub(super) fn remembers(&self) -> bool {
        matches!(self, Self::File(_) | Self::Stream { .. })
    }

    /// Everything that came, in the order in which it came.
    pub(super) fn events(&self) -> Vec<Value> {
        match self {
            Self::File(path) | Self::Program(path) => {
                let text = fs::read_to_string(path).unwrap_or_default();
                text.lines()
                    .filter_map(|line| serde_json::from_str(line).ok())
                    .collect()
            }
            Self::Socket(_, told) => told.lock().unwrap().clone(),
            Self::Stream { port, .. } => messages(*port),
        }
    }
}

fn serve(mut stream: &UnixStream, all: &Mutex<Vec<Value>>) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    // What a killed sender left unfinished is no line.
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        let answer = format!("{}\n", event["seq"]);
        all.lock().unwrap().push(event);
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}
