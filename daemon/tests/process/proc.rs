//! Processes, folders and ports that are given back however a test ends.
//!
//! - A child is killed when its guard drops, and by the kernel when this test process dies (`setpriv --pdeathsig`). That
//!   signal follows the *thread* that made the child, so one thread, which lives as long as the process, makes them all.
//! - All folders live below one root, which a small shell removes when its standard input closes: on exit, panic or kill.
//! - Ports are taken below the kernel's own range (32768), so that a restarted server finds its port free again.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which Debian package has a program.
const PACKAGES: &[(&str, &str)] = &[
    ("/usr/sbin/slapd", "slapd"),
    ("/usr/sbin/slapadd", "slapd"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/bin/ldapsearch", "ldap-utils"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/cc", "gcc"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/dbus-daemon", "dbus-daemon"),
    ("/usr/bin/dbus-monitor", "dbus-bin"),
    ("/usr/bin/busctl", "systemd"),
    ("/usr/bin/strace", "strace"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/prlimit", "util-linux"),
    ("/usr/bin/unshare", "util-linux"),
    ("/usr/sbin/krb5kdc", "krb5-kdc"),
    ("/usr/sbin/kdb5_util", "krb5-kdc"),
    ("/usr/sbin/kadmin.local", "krb5-admin-server"),
    ("/usr/bin/kinit", "krb5-user"),
    ("/usr/sbin/winbindd", "winbind"),
    ("/usr/bin/wbinfo", "winbind"),
    ("/usr/bin/pdbedit", "samba"),
    ("/usr/bin/net", "samba-common-bin"),
    ("/usr/bin/pamtester", "pamtester"),
    ("/usr/sbin/testsaslauthd", "sasl2-bin"),
    ("/usr/bin/ldapwhoami", "ldap-utils"),
    ("/usr/bin/radclient", "freeradius-utils"),
    ("/usr/bin/radtest", "freeradius-utils"),
    ("/usr/sbin/freeradius", "freeradius"),
    ("/usr/bin/env", "coreutils"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/bin/sh", "dash"),
    ("/etc/freeradius/3.0/clients.conf", "freeradius-config"),
    ("/lib/x86_64-linux-gnu/libnss_ldap.so.2", "libnss-ldapd"),
    ("/lib/x86_64-linux-gnu/security/pam_ldap.so", "libpam-ldapd"),
];

/// Panics, naming the Debian package, unless `program` is there.
pub(crate) fn require(program: &str) {
    if Path::new(program).exists() {
        return;
    }
    let package = PACKAGES
        .iter()
        .find(|(path, _)| *path == program)
        .map_or("(unknown)", |(_, package)| *package);
    panic!("these tests need {program}: apt-get install {package}");
}

/// Waits until `done` gives something, asking every 5 ms; panics with `what` after `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running program, ended when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` with `args`; both its outputs go to `output` (appended).
    pub(crate) fn start<S: AsRef<OsStr>>(program: &str, args: &[S], output: &Path) -> Self {
        require(program);
        let file = File::options()
            .create(true)
            .append(true)
            .open(output)
            .expect("the output file can be written");
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(args);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file);
        let name = Path::new(program)
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let child = spawn(command).unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        Self {
            name,
            child,
            output: output.to_owned(),
            ended: None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by number or name, as kill(1) takes it.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(self.ended.is_none(), "{} has ended", self.name);
        let done = Command::new("/bin/kill")
            .arg(format!("-{signal}"))
            .arg(self.pid().to_string())
            .status();
        assert!(
            done.expect("kill runs").success(),
            "{} (pid {}) takes no {signal}",
            self.name,
            self.pid()
        );
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            self.child.kill().expect("a child of ours can be killed");
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits for its end; panics with its output after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                start.elapsed() < limit,
                "{} did not end within {limit:?}\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote so far.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.output).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A figure in KiB from /proc/PID/status, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("the kernel gives it");
        line.split_whitespace()
            .nth(1)
            .and_then(|figure| figure.parse().ok())
            .expect("a number of KiB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a program to its end; killed, and a panic, after `limit`.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: &[S], limit: Duration) -> Output {
    run_with(program, args, &[], limit)
}

/// As [`run`], with environment variables.
pub(crate) fn run_with<S: AsRef<OsStr>>(program: &str, args: &[S], env: &[(&str, &str)], limit: Duration) -> Output {
    run_reading(program, args, env, Path::new("/dev/null"), limit)
}

/// As [`run_with`], with a file as standard input.
pub(crate) fn run_reading<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    env: &[(&str, &str)],
    input: &Path,
    limit: Duration,
) -> Output {
    require(program);
    let input = File::open(input).expect("the input can be read");
    let folder = Folder::new("run");
    let open = |name| File::create(folder.path().join(name)).expect("the output file can be written");
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", program])
        .args(args)
        .envs(env.iter().copied());
    command.stdin(input).stdout(open("out")).stderr(open("err"));
    let mut child = spawn(command).unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break Some(status);
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let read = |name| fs::read(folder.path().join(name)).expect("its output can be read");
    let output = Output {
        status: status.unwrap_or(ExitStatus::from_raw(9)),
        stdout: read("out"),
        stderr: read("err"),
    };
    assert!(
        status.is_some(),
        "{program} did not end within {limit:?}\n{}",
        shown(&output)
    );
    output
}

/// An output for people.
pub(crate) fn shown(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let mut text = String::new();
    let _ = write!(
        text,
        "{}\n--- standard output\n{out}\n--- standard error\n{err}",
        output.status
    );
    text
}

/// The one thread that makes children: the kernel's parent-death signal is bound to it.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static MAKER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, made) = channel();
    MAKER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .expect("the maker lives");
    made.recv().expect("the maker answers")
}

/// A folder of its own, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = root().join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of `name` in it, as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0
            .join(name)
            .to_str()
            .expect("temporary paths are UTF-8")
            .to_owned()
    }

    /// Writes a file into it and gives its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        fs::write(&path, content).expect("a temporary file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("USHERD_TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The root of all folders of this run. Short, because a unix socket's path has 107 bytes.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("usherd-t{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        let mut janitor = Command::new("/bin/sh");
        janitor.args([
            "-c",
            "cat >/dev/null; [ -n \"$USHERD_TEST_KEEP\" ] || rm -rf -- \"$1\"",
            "janitor",
        ]);
        janitor
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Its standard input stays open as long as this process: the handle is never dropped.
        Box::leak(Box::new(janitor.spawn().expect("sh runs")));
        path
    });
    &ROOT
}

/// A loopback port nobody listens on, below the range the kernel takes for outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let spread = std::process::id().wrapping_mul(7919) % 20_000;
        AtomicU16::new(11_000 + u16::try_from(spread).expect("below 20,000"))
    });
    for _ in 0..1_000 {
        let port = 11_000 + (NEXT.fetch_add(1, Ordering::Relaxed) - 11_000) % 21_000;
        if TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok() {
            return port;
        }
    }
    panic!("no free port below 32768");
}

/// Held by a test that needs the machine for itself (rates, deadlines under load, hundreds of clients).
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment, for runs longer than the normal one.
pub(crate) fn setting(name: &str, normal: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text}: a whole number is needed")),
        Err(_) => normal,
    }
}
