//! The daemon as a person starts it: a configuration file, a process, its control socket.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::certificates::certificates;
use crate::client::Target;
use crate::proc::{Folder, Process, free_port, run, wait_for};
use crate::slapd::{BASE, USHERD};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_usherd");

/// A configuration being written.
pub(crate) struct Setup {
    pub(crate) folder: Folder,
    server: String,
    rest: String,
    /// What starts it: a program and its arguments.
    under: Vec<String>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = Folder::new("usherd");
        let secret = folder.write("usherd.secret", format!("{}\n", USHERD.1));
        restrict(&secret);
        Self {
            folder,
            server: String::new(),
            rest: String::new(),
            under: Vec::new(),
        }
    }

    /// One directory `corp` behind one plain listener, which is what most tests need.
    pub(crate) fn corp(lines: &str, servers: &[String]) -> Self {
        Self::new()
            .directory("corp", lines, servers)
            .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
    }

    /// Lines of `[server]`; workers = 2 and the control socket are there.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        let _ = writeln!(self.server, "{lines}");
        self
    }

    /// A directory with proxied identity; `lines` are settings of its own section, `servers` entries of `server`.
    pub(crate) fn directory(mut self, name: &str, lines: &str, servers: &[String]) -> Self {
        let identity = if lines.contains("identity =") {
            String::new()
        } else {
            format!(
                "identity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \"usherd.secret\"\n",
                USHERD.0
            )
        };
        let servers = servers.join(",\n  ");
        let _ = write!(
            self.rest,
            "[directory.{name}]\nbase = \"{BASE}\"\n{identity}{lines}\nserver = [\n  {servers}\n]\n\n"
        );
        self
    }

    /// A listener; `lines` are further settings.
    pub(crate) fn listen(mut self, protocol: &str, address: &str, lines: &str) -> Self {
        let port = if self.rest.contains("127.0.0.1:0\"") {
            free_port()
        } else {
            0
        };
        let address = address.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        let _ = write!(
            self.rest,
            "[[listen]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\n{lines}\n\n"
        );
        self
    }

    /// Any other section.
    pub(crate) fn section(mut self, text: &str) -> Self {
        let _ = writeln!(self.rest, "{text}");
        self
    }

    /// Runs with so many file descriptors at most.
    pub(crate) fn descriptors(self, limit: u32) -> Self {
        self.under(&["/usr/bin/prlimit", &format!("--nofile={limit}:{limit}")])
    }

    /// Is started by a program that then becomes it, as `env` does.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.under.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Sections that nothing else here writes.
    pub(crate) fn extra(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self
    }

    fn text(&self) -> String {
        let workers = if self.server.contains("workers") {
            ""
        } else {
            "workers = 2\n"
        };
        format!(
            "[server]\ncontrol = \"control\"\n{workers}{}\n{}",
            self.server, self.rest
        )
    }

    /// Starts the daemon and waits until it says it is ready.
    pub(crate) fn start(self) -> Usherd {
        let usherd = self.launch();
        usherd.until("ready", |status| status["lifecycle"] == "ready");
        usherd
    }

    /// The configuration in its file, not started: the folder and the file.
    pub(crate) fn written(self) -> (Folder, String) {
        let file = self.folder.write("usherd.toml", self.text());
        (self.folder, file)
    }

    /// Starts the daemon and waits only until its control socket answers.
    pub(crate) fn launch(self) -> Usherd {
        let configuration = self.folder.write("usherd.toml", self.text());
        let log = self.folder.path().join("log");
        let level = std::env::var("USHERD_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
        let args = [
            BINARY,
            "run",
            "-c",
            &configuration,
            "--log",
            "human",
            "--log-level",
            &level,
        ];
        let words: Vec<&str> = self.under.iter().map(String::as_str).chain(args).collect();
        let process = Process::start(words[0], &words[1..], &log);
        let mut usherd = Usherd {
            folder: self.folder,
            server: self.server,
            process,
            asked_to_end: false,
        };
        wait_for("the daemon's control socket answers", Duration::from_secs(60), || {
            if let Some(status) = usherd.process.ended() {
                panic!("the daemon ended: {status}\n{}", usherd.process.output());
            }
            usherd.try_status()
        });
        usherd
    }
}

/// Mode 0600: a secret that others may read is warned about.
pub(crate) fn restrict(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
}

/// An entry of `server` for a URL, with further settings (each ending in a comma).
pub(crate) fn server(url: &str, settings: &str) -> String {
    format!("{{ url = \"{url}\", {settings} }}")
        .replace(", }", " }")
        .replace(",  }", " }")
}

/// `tls = …` of a listener with the test certificate.
pub(crate) fn listener_tls() -> String {
    let (certificate, key) = certificates().server();
    format!(
        "tls = {{ cert_file = \"{}\", key_file = \"{}\" }}",
        certificate.display(),
        key.display()
    )
}

/// A running daemon; ended, and its log shown when the test fails, on drop.
pub(crate) struct Usherd {
    pub(crate) folder: Folder,
    server: String,
    pub(crate) process: Process,
    asked_to_end: bool,
}

impl Usherd {
    /// The answer to a line on the control socket.
    pub(crate) fn control(&self, request: &str) -> Option<Value> {
        let stream = UnixStream::connect(self.folder.path().join("control")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        (&stream).write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn try_status(&self) -> Option<Value> {
        self.control("{\"command\":\"status\"}")
            .filter(|status| status["ok"] == true)
    }

    pub(crate) fn status(&self) -> Value {
        self.try_status()
            .unwrap_or_else(|| panic!("the daemon gives no status\n{}", self.process.output()))
    }

    /// Waits until the status is as `wanted`, and gives it.
    pub(crate) fn until(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.try_status() {
                if wanted(&status) {
                    return status;
                }
                last = status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the status never was: {what}\n{last:#}\n{}", self.process.output());
    }

    /// The port of listener `index` (in the order of the file).
    pub(crate) fn port(&self, index: usize) -> u16 {
        let status = self.status();
        let address = status["listeners"][index]["address"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0);
        port.unwrap_or_else(|| panic!("listener {index} has no port\n{status:#}"))
    }

    /// Listener `index` over plain TCP.
    pub(crate) fn plain(&self, index: usize) -> Target {
        Target::plain(self.port(index))
    }

    pub(crate) fn start_tls(&self, index: usize) -> Target {
        Target::StartTls(([127, 0, 0, 1], self.port(index)).into(), certificates().ca())
    }

    pub(crate) fn ldaps(&self, index: usize) -> Target {
        Target::Ldaps(([127, 0, 0, 1], self.port(index)).into(), certificates().ca())
    }

    /// A unix socket in the daemon's folder.
    pub(crate) fn unix(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server of a directory in the status, by its place in the file.
    pub(crate) fn server_state(&self, index: usize) -> String {
        self.status()["directories"][0]["servers"][index]["state"]
            .as_str()
            .unwrap_or("?")
            .to_owned()
    }

    /// Writes a new file over the old one (the same `[server]`).
    pub(crate) fn rewrite(&self, setup: &str) {
        let workers = if self.server.contains("workers") {
            ""
        } else {
            "workers = 2\n"
        };
        self.folder.write(
            "usherd.toml",
            format!("[server]\ncontrol = \"control\"\n{workers}{}\n{setup}", self.server),
        );
    }

    /// Runs `usherd ARGS` against this daemon.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        let control = self.folder.file("control");
        run(
            BINARY,
            &[args, &["--control", &control]].concat(),
            Duration::from_secs(60),
        )
    }

    /// Kills it, if it has not ended, and starts it again with the file as it is now.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let (file, log) = (self.folder.file("usherd.toml"), self.folder.path().join("log"));
        let args = ["run", "-c", &file, "--log", "human", "--log-level", "info"];
        self.process = Process::start(BINARY, &args, &log);
        self.until("ready", |status| status["lifecycle"] == "ready");
    }

    /// Its end will not be a surprise.
    pub(crate) fn expect_end(&mut self) {
        self.asked_to_end = true;
    }

    pub(crate) fn terminate(&mut self) {
        self.expect_end();
        self.process.signal("TERM");
    }

    /// SIGTERM; it must end with 0 within the limit.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let status = self.process.wait(Duration::from_secs(10));
        assert_eq!(
            status.code(),
            Some(0),
            "the daemon's end: {status}\n{}",
            self.process.output()
        );
        self.no_panics();
    }

    /// No test may pass over a contained panic.
    fn no_panics(&self) {
        let output = self.process.output();
        assert!(!output.contains("panicked at"), "the daemon panicked:\n{output}");
    }
}

impl Drop for Usherd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.process.output();
            let lines: Vec<&str> = output.lines().collect();
            eprintln!("--- the daemon said (last lines of {}):", lines.len());
            lines
                .iter()
                .skip(lines.len().saturating_sub(40))
                .for_each(|line| eprintln!("{line}"));
            return;
        }
        if let Some(status) = self.process.ended() {
            assert!(
                self.asked_to_end,
                "the daemon ended by itself: {status}\n{}",
                self.process.output()
            );
        }
        self.no_panics();
    }
}
