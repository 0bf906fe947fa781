//! A MariaDB server of a test's own: in a temporary folder, behind a unix socket, ended with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

/// Whom the fixture lets in besides root, and with what.
pub(crate) const USER: (&str, &str) = ("usherd", "a secret, with \"quotes\"");

/// Little on the disk: by default 96 MiB are written for redo logs.
const SMALL: &str = "--innodb-log-file-size=4M";

/// One server, its data and its folder.
pub(crate) struct MariaDb {
    folder: PathBuf,
    process: Option<Child>,
}

impl MariaDb {
    /// A server that answers, with an empty database `users` in which [`USER`] may do everything.
    pub(crate) fn start() -> MariaDb {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("usherd-mariadb-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder");
        let mut server = MariaDb { folder, process: None };
        let installed = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(SMALL)
            .arg(format!("--user={}", own_name()))
            .arg(format!("--datadir={}", server.folder.join("data").display()))
            // Two of these at the same time would meet in the system's folder for temporary files.
            .arg(format!("--tmpdir={}", server.folder.display()))
            .stdin(Stdio::null())
            .output()
            .expect("mariadb-install-db is there: apt-get install mariadb-server");
        assert!(
            installed.status.success(),
            "mariadb-install-db: {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let password = server.folder.join("password");
        fs::write(&password, format!("{}\n", USER.1)).expect("a file");
        server.run();
        let mut root = server.root();
        for sql in [
            "CREATE DATABASE users CHARACTER SET utf8mb4".to_owned(),
            format!("CREATE USER {}@localhost IDENTIFIED BY '{}'", USER.0, USER.1),
            format!("GRANT ALL ON users.* TO {}@localhost", USER.0),
        ] {
            root.query_drop(sql).expect("a fresh server does this");
        }
        server
    }

    /// Starts it, or starts it again over the same data.
    pub(crate) fn run(&mut self) {
        let log = fs::File::create(self.folder.join("log")).expect("a file");
        let process = Command::new(program())
            .args(["--no-defaults", "--skip-networking", "--performance-schema=OFF"])
            .args([
                "--innodb-buffer-pool-size=16M",
                "--skip-log-bin",
                "--innodb-flush-log-at-trx-commit=2",
            ])
            .arg(SMALL)
            .arg(format!("--user={}", own_name()))
            .arg(format!("--datadir={}", self.folder.join("data").display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.folder.join("pid").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mariadbd is there: apt-get install mariadb-server");
        self.process = Some(process);
        let begun = Instant::now();
        while self.try_root().is_none() {
            let ended = self
                .process
                .as_mut()
                .and_then(|process| process.try_wait().ok().flatten());
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "mariadbd ended: {ended:?}\n{}", log());
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "mariadbd does not answer\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Its unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// The file of [`USER`]'s password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }

    /// A connection that may do everything, in the database `users` where that is there.
    pub(crate) fn root(&self) -> Conn {
        self.try_root().expect("the server answers")
    }

    fn try_root(&self) -> Option<Conn> {
        let options = OptsBuilder::new()
            .socket(self.socket().to_str())
            .user(Some("root"))
            .prefer_socket(false);
        let mut conn = Conn::new(options).ok()?;
        let _ = conn.query_drop("USE users");
        Some(conn)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.crash();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// In /usr/sbin, which is not on everybody's PATH.
fn program() -> &'static str {
    let debian = "/usr/sbin/mariadbd";
    if Path::new(debian).exists() { debian } else { "mariadbd" }
}

fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().expect("id is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
