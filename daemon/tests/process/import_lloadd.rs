//! `usherd import lloadd`, and `packaging/lloadd` in the place of lloadd itself, in front of slapd.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::certificates::certificates;
use crate::client::{Client, Target};
use crate::ops;
use crate::proc::{Folder, Process, free_port, run, shown, wait_for};
use crate::slapd::{PEOPLE, Slapd, USHERD, password, user};
use crate::usherd::BINARY;

const LIMIT: Duration = Duration::from_secs(20);

fn usherd(args: &[&str]) -> Output {
    run(BINARY, args, LIMIT)
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).expect("it is UTF-8")
}

/// A configuration as an administrator has it: a comment that goes on, quotes, an include, two tiers, TLS both ways.
fn configuration(folder: &Folder, first: &Slapd, second: &Slapd) -> String {
    let (certificate, key) = certificates().server();
    let ca = certificates().ca();
    let tls = folder.write(
        "tls.conf",
        format!(
            "TLSCertificateFile {}\nTLSCertificateKeyFile \"{}\"\n",
            certificate.display(),
            key.display()
        ),
    );
    folder.write(
        "lloadd.conf",
        format!(
            "# the balancer of the house,\n  whose comment goes on\npidfile /run/lloadd.pid\ninclude {tls}\n\
             sockbuf_max_incoming_client 4194303\nenable proxyauthz\nloglevel stats\n\n\
             bindconf\n    bindmethod=simple\n    binddn=\"{}\"\n    credentials=\"{}\"\n    tls_cacert={}\n\n\
             tier roundrobin\n\ntier weighted\nBACKEND-SERVER uri={}/\n    starttls=critical\n    numconns=3\n\tbindconns=2\n\
             \tretry=500 max-pending-ops=20\n    conn-max-pending=3\n    weight=10\n\
             backend-server uri={} numconns=3 retry=500 weight=0\n",
            USHERD.0,
            USHERD.1,
            ca.display(),
            first.named_url(),
            second.ldaps_url(),
        ),
    )
}

/// The adapter. It is asked to end, not killed, so that the daemon ends with it.
pub(crate) struct Adapter(pub(crate) Process);

impl Adapter {
    /// With a folder of its own for what it needs.
    pub(crate) fn start(folder: &Folder, args: &[&str]) -> Self {
        let own = folder.path().join("temporary");
        std::fs::create_dir_all(&own).expect("a folder");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/lloadd");
        let environment = [format!("USHERD={BINARY}"), format!("TMPDIR={}", own.display())];
        // A shell cannot trap what was ignored when it began, and below nohup that is SIGHUP.
        let mut all = vec!["--default-signal=HUP"];
        all.extend(environment.iter().map(String::as_str));
        all.push(program);
        all.extend(args);
        Self(Process::start("/usr/bin/env", &all, &folder.path().join("adapter.log")))
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let end = Instant::now() + LIMIT;
        if self.0.ended().is_none() {
            self.0.signal("TERM");
        }
        while self.0.ended().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn is_answered(port: u16) -> Option<()> {
    let search = ops::search(PEOPLE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
    let answers = Client::try_connect(&Target::plain(port)).ok()?.try_call(&search).ok()?;
    answers.last().filter(|last| last.code() == 0).map(|_| ())
}

#[test]
fn a_configuration_of_lloadd_becomes_ours() {
    let (first, second) = (Slapd::start(), Slapd::start());
    let folder = Folder::new("import-lloadd");
    let file = configuration(&folder, &first, &second);
    let out = folder.file("usherd.toml");
    let urls = format!("ldap://127.0.0.1:{} ldaps://localhost:{}/", free_port(), free_port());
    let args = ["import", "lloadd", &file, "--listen", &urls, "--out", &out];
    let output = usherd(&args);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let written = std::fs::read_to_string(&out).unwrap();
    for told in [
        format!("{file}:3: pidfile is left out; "),
        format!("{file}:7: loglevel is left out; "),
        format!("{file}:15: a tier without servers; "),
    ] {
        assert!(text(&output.stderr).contains(&told), "{told}\n{}", shown(&output));
        assert!(written.contains(&told), "{told}\n{written}");
    }
    assert!(!written.contains(USHERD.1), "{written}");
    let secret = folder.path().join("usherd.password");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), format!("{}\n", USHERD.1));
    for path in [Path::new(&out), &secret] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    // Both servers are reached as it says: TLS, the daemon's bind, proxied authorization.
    let output = usherd(&["check", "-c", &out, "--probe"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    // What is there stays as it is, both of it.
    std::fs::remove_file(&out).unwrap();
    std::fs::write(&secret, "mine").unwrap();
    let output = usherd(&args);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        text(&output.stderr).contains("usherd.password is there already"),
        "{}",
        shown(&output)
    );
    assert!(!Path::new(&out).exists());
    let output = usherd(&[&args[..], &["--force"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), written);
    // Without a place to write to there is no place for the password.
    let output = usherd(&args[..5]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(text(&output.stdout), written);
    assert!(
        text(&output.stderr).contains("write it into usherd.password"),
        "{}",
        shown(&output)
    );
}

#[test]
fn the_adapter_takes_the_place_of_lloadd() {
    let (mut first, second) = (Slapd::start(), Slapd::start());
    let folder = Folder::new("adapter-lloadd");
    let file = configuration(&folder, &first, &second);
    let (plain, tls) = (free_port(), free_port());
    let urls = format!("ldap://127.0.0.1:{plain}/ ldaps://127.0.0.1:{tls}/");
    let mut adapter = Adapter::start(&folder, &["-s0", "-f", &file, "-h", &urls, "-d", "0x4105"]);
    wait_for("the adapter answers", LIMIT, || {
        assert!(adapter.0.ended().is_none(), "{}", adapter.0.output());
        is_answered(plain)
    });
    let ldaps = Target::Ldaps(([127, 0, 0, 1], tls).into(), certificates().ca());
    let start_tls = Target::StartTls(([127, 0, 0, 1], plain).into(), certificates().ca());
    for target in [Target::plain(plain), ldaps, start_tls] {
        let mut client = Client::bound(&target, &user(1), &password(1));
        assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    }
    // The server with the weight 0 is there when it is needed.
    first.kill();
    wait_for("the other server answers", LIMIT, || is_answered(plain));
    adapter.0.signal("HUP");
    let status = adapter.0.wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", adapter.0.output());
    assert!(TcpStream::connect(("127.0.0.1", plain)).is_err());
    let left = std::fs::read_dir(folder.path().join("temporary")).unwrap().count();
    assert_eq!(left, 0, "the adapter leaves nothing behind");
}

#[test]
fn what_is_missing_is_named_and_the_adapter_does_not_start() {
    let folder = Folder::new("import-lloadd-missing");
    let file = folder.write(
        "lloadd.conf",
        "TLSCRLCheck\n  all\ntier roundrobin\nbackend-server uri=ldap://127.0.0.1:1\n",
    );
    let out = folder.file("usherd.toml");
    let urls = format!("ldap://127.0.0.1:{}", free_port());
    let output = usherd(&["import", "lloadd", &file, "--listen", &urls, "--out", &out]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let right = format!("{file}:2: TLSCRLCheck all has no counterpart; ");
    assert!(text(&output.stderr).contains(&right), "{}", shown(&output));
    assert!(std::fs::read_to_string(&out).unwrap().contains(&right));
    let output = usherd(&["check", "-c", &out]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let mut adapter = Adapter::start(&folder, &["-s0", "-f", &file, "-h", &urls, "-d", "0"]);
    assert_eq!(adapter.0.wait(LIMIT).code(), Some(1), "{}", adapter.0.output());
    assert!(adapter.0.output().contains(&right), "{}", adapter.0.output());
    for wrong in [&["-u", "nobody"][..], &["-Z"][..], &["word"][..]] {
        let mut adapter = Adapter::start(&folder, wrong);
        assert_eq!(
            adapter.0.wait(LIMIT).code(),
            Some(2),
            "{wrong:?}: {}",
            adapter.0.output()
        );
    }
    let output = usherd(&["import", "lloadd", &folder.file("none")]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        text(&output.stderr).contains("none cannot be read: "),
        "{}",
        shown(&output)
    );
}

#[test]
fn a_bind_by_sasl_is_the_one_that_lloadd_had() {
    let slapd = crate::own_bind::slapd("none");
    let folder = Folder::new("import-lloadd-sasl");
    let file = folder.write(
        "lloadd.conf",
        format!(
            "enable proxyauthz\nbindconf bindmethod=sasl saslmech=SCRAM-SHA-256 authcid=usherd\n    credentials=\"{}\" realm=house\n\
             tier roundrobin\nbackend-server uri={}\n",
            USHERD.1,
            slapd.url()
        ),
    );
    let out = folder.file("usherd.toml");
    let listen = format!("ldap://127.0.0.1:{}", free_port());
    let output = usherd(&["import", "lloadd", &file, "--listen", &listen, "--out", &out]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert!(
        text(&output.stderr).contains(&format!("{file}:3: realm is left out; ")),
        "{}",
        shown(&output)
    );
    let output = usherd(&["check", "-c", &out, "--probe"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let bound = format!("bound as dn:{} by SCRAM-SHA-256", USHERD.0);
    assert!(text(&output.stdout).contains(&bound), "{}", shown(&output));
}
