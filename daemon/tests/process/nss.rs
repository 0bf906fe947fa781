//! The NSS and PAM modules of nss-pam-ldapd, unchanged, against the nslcd listener: `getent` and `pamtester`.
//!
//! The modules' socket is compiled in (`/var/run/nslcd/socket`), so they run in a mount namespace of their own in which
//! `/run/nslcd` is the daemon's folder and `/etc/nsswitch.conf` and `/etc/pam.d` are ours. The directory is slapd with
//! accounts after RFC 2307 and groups after both RFC 2307 and 2307bis, under a password policy.

mod maps;
mod raw;
mod windows;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use wire::nslcd::{Key, Map, Request};

use crate::proc::{Folder, Process, free_port, require, run, shown, wait_for};
use crate::usherd::{Setup, Usherd};
use raw::{asked, sent};

/// A slapd with accounts. Its data is written anew for each test: they are few.
pub(crate) struct Accounts {
    /// Held for its drop.
    _folder: Folder,
    port: u16,
    pub(crate) process: Process,
}

impl Accounts {
    pub(crate) fn start() -> Self {
        Self::with("manage")
    }

    /// Where the daemon may `write` or `manage` passwords; who may manage them is not held to the policy.
    pub(crate) fn with(right: &str) -> Self {
        let folder = Folder::new("accounts");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let conf = folder.write(
            "slapd.conf",
            include_str!("nss/slapd.conf")
                .replace("FOLDER", &folder.file(""))
                .replace("manage by", &format!("{right} by")),
        );
        let ldif = folder.write("accounts.ldif", include_str!("nss/accounts.ldif"));
        require("/usr/sbin/slapadd");
        let added = run(
            "/usr/sbin/slapadd",
            &["-f", &conf, "-l", &ldif],
            Duration::from_secs(20),
        );
        assert!(added.status.success(), "{}", shown(&added));
        let port = free_port();
        let url = format!("ldap://127.0.0.1:{port}");
        let args = ["-d", "0", "-h", &url, "-f", &conf];
        let process = Process::start("/usr/sbin/slapd", &args, &folder.path().join("log"));
        let accounts = Accounts {
            _folder: folder,
            port,
            process,
        };
        wait_for("slapd listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", accounts.port)).ok()
        });
        accounts
    }

    pub(crate) fn server(&self) -> String {
        crate::usherd::server(&format!("ldap://127.0.0.1:{}", self.port), "")
    }
}

/// The daemon with an nslcd listener before `accounts`; `lines` are its further settings.
fn before(accounts: &Accounts, lines: &str) -> Usherd {
    Setup::new()
        .directory("corp", "", &[accounts.server()])
        .listen("nslcd", "unix:socket", &format!("directory = \"corp\"\n{lines}"))
        .start()
}

const NSS_MODULE: [&str; 1] = ["/lib/x86_64-linux-gnu/libnss_ldap.so.2"];
const PAM_MODULE: [&str; 1] = ["/lib/x86_64-linux-gnu/security/pam_ldap.so"];

const BIS: &str = "[listen.map]\nschema = \"rfc2307bis\"\nuid_min = 1000\n";

/// Runs a shell command where the modules find our daemon, or nobody.
pub(crate) fn inside(usherd: &Usherd, command: &str) -> Output {
    require("/usr/bin/unshare");
    for module in NSS_MODULE.into_iter().chain(PAM_MODULE) {
        require(module);
    }
    let folder = Folder::new("inside");
    let switch = folder.write(
        "nsswitch.conf",
        "passwd: files ldap\ngroup: files ldap\nshadow: files ldap\nhosts: files ldap\nnetgroup: ldap\nservices: files ldap\n\
         aliases: ldap\nethers: ldap\nnetworks: ldap\nprotocols: files ldap\nrpc: files ldap\n",
    );
    std::fs::create_dir(folder.path().join("pam.d")).expect("a folder");
    let service = ["auth", "account", "password", "session"].map(|kind| format!("{kind} required pam_ldap.so\n"));
    folder.write("pam.d/usherd", service.concat());
    let socket = usherd.unix("socket");
    let home = socket.parent().unwrap_or(Path::new("/nowhere")).display();
    let script = format!(
        "set -e\nmount -t tmpfs none /run\nmkdir /run/nslcd\nmount --bind {home} /run/nslcd\n\
         mount --bind {switch} /etc/nsswitch.conf\nmount --bind {pam} /etc/pam.d\nset +e\n{command}\n",
        pam = folder.path().join("pam.d").display(),
    );
    let script = folder.write("script", script);
    run("/usr/bin/unshare", &["-m", "sh", &script], Duration::from_secs(30))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `getent` finds exactly this; nothing: status 2.
fn getent(usherd: &Usherd, what: &str, expected: &str) {
    let output = inside(usherd, &format!("getent {what}"));
    assert_eq!(
        stdout(&output).trim_end(),
        expected,
        "getent {what}: {}",
        shown(&output)
    );
    let status = if expected.is_empty() { 2 } else { 0 };
    assert_eq!(output.status.code(), Some(status), "getent {what}: {}", shown(&output));
}

/// `pamtester` says this of `operations`, with these lines typed. Its exit status is 1 for whatever goes wrong.
fn pam(usherd: &Usherd, user: &str, operations: &str, typed: &[&str], expected: &str) {
    require("/usr/bin/pamtester");
    let typed: String = typed.iter().map(|line| format!("{line}\\n")).collect();
    let command = format!("printf '{typed}' | pamtester usherd {user} {operations} 2>&1");
    let output = inside(usherd, &command);
    let said = stdout(&output);
    assert!(
        said.contains(expected),
        "pam {user} {operations}: no {expected:?} in {said:?}"
    );
}

#[test]
fn getent_finds_accounts_and_groups() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    let alice = "alice:*:10001:20001:Alice A:/home/alice:/bin/bash";
    getent(&usherd, "passwd alice", alice);
    getent(&usherd, "passwd 10001", alice);
    getent(&usherd, "passwd bob", "bob:*:10002:20001:Bob B:/home/bob:/bin/sh");
    for absent in [
        "passwd ALICE",
        "passwd nobody-here",
        "passwd 4242",
        "passwd low",
        "group nothing",
    ] {
        getent(&usherd, absent, "");
    }
    getent(&usherd, "group builders", "builders:*:20001:alice,bob,zoe");
    getent(&usherd, "group 20002", "inner:*:20002:alice");
    getent(&usherd, "initgroups alice", "alice                 20001 20002");
    getent(&usherd, "initgroups zoe", "zoe                   20001");
    getent(&usherd, "shadow alice", "alice:*:19000::99999:7:::");
    let output = inside(
        &usherd,
        "getent passwd | grep -c :/home/; id alice; getent group | grep -c '^[a-z]*:\\*:2000'",
    );
    let said = stdout(&output);
    let expected = "uid=10001(alice) gid=20001(builders) groups=20001(builders),20002(inner)\n2\n";
    assert!(said.ends_with(expected), "{}", shown(&output));
    usherd.stop();
}

#[test]
fn who_is_not_root_sees_no_shadow() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    let output = inside(
        &usherd,
        "setpriv --reuid=65534 --regid=65534 --clear-groups getent shadow alice; echo $?",
    );
    assert_eq!(stdout(&output), "2\n", "{}", shown(&output));
    let output = inside(
        &usherd,
        "setpriv --reuid=65534 --regid=65534 --clear-groups getent passwd alice",
    );
    assert!(stdout(&output).starts_with("alice:*:10001:"), "{}", shown(&output));
    usherd.stop();
}

#[test]
fn nested_groups_are_followed_where_that_is_set() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, &format!("{BIS}nested = true\n"));
    getent(&usherd, "group builders", "builders:*:20001:alice,bob,zoe");
    getent(&usherd, "initgroups bob", "bob                   20001 20002");
    let output = inside(&usherd, "id -Gn bob");
    assert_eq!(stdout(&output), "builders inner\n", "{}", shown(&output));
    usherd.stop();
}

#[test]
fn pam_tells_every_status_apart() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    pam(
        &usherd,
        "alice",
        "authenticate",
        &["alice-pw"],
        "successfully authenticated",
    );
    pam(
        &usherd,
        "alice",
        "authenticate acct_mgmt open_session close_session",
        &["alice-pw"],
        "session has successfully been closed",
    );
    pam(&usherd, "bob", "authenticate", &["wrong"], "Authentication failure");
    pam(&usherd, "nobody-here", "authenticate", &["x"], "User not known");
    pam(&usherd, "low", "authenticate", &["low-pw"], "User not known");
    // Right, but a new password is wanted first.
    pam(
        &usherd,
        "fresh",
        "authenticate",
        &["fresh-pw"],
        "successfully authenticated",
    );
    pam(
        &usherd,
        "fresh",
        "authenticate acct_mgmt",
        &["fresh-pw"],
        "new one required",
    );
    pam(
        &usherd,
        "stale",
        "authenticate",
        &["stale-pw"],
        "Authentication token expired",
    );
    pam(
        &usherd,
        "locked",
        "authenticate",
        &["locked-pw"],
        "Have exhausted maximum number of retries",
    );
    pam(
        &usherd,
        "over",
        "authenticate acct_mgmt",
        &["over-pw"],
        "User account has expired",
    );
    pam(&usherd, "over", "acct_mgmt", &[], "User account has expired");
    usherd.stop();
}

#[test]
fn too_many_wrong_passwords_lock_and_that_is_said() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    for _ in 0..3 {
        pam(&usherd, "bob", "authenticate", &["wrong"], "Authentication failure");
    }
    pam(
        &usherd,
        "bob",
        "authenticate",
        &["bob-pw"],
        "Have exhausted maximum number of retries",
    );
    usherd.stop();
}

#[test]
fn users_change_their_own_passwords() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    let change = |old: &str, new: &str, expected: &str| {
        let command = format!(
            "printf '{old}\\n{new}\\n{new}\\n' | setpriv --reuid=10001 --regid=20001 --clear-groups pamtester usherd alice chauthtok 2>&1"
        );
        let output = inside(&usherd, &command);
        assert!(stdout(&output).contains(expected), "{old} {new}: {}", shown(&output));
    };
    change("wrong", "a-better-one", "Authentication failure");
    change("alice-pw", "short", "Authentication token manipulation error");
    change("alice-pw", "a-better-one", "authentication token altered successfully");
    pam(
        &usherd,
        "alice",
        "authenticate",
        &["alice-pw"],
        "Authentication failure",
    );
    pam(
        &usherd,
        "alice",
        "authenticate",
        &["a-better-one"],
        "successfully authenticated",
    );
    let today = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        / 86_400;
    let output = inside(&usherd, "getent shadow alice");
    assert_eq!(
        stdout(&output),
        format!("alice:*:{today}::99999:7:::\n"),
        "{}",
        shown(&output)
    );
    usherd.stop();
}

#[test]
fn root_sets_passwords_where_that_is_set() {
    let accounts = Accounts::start();
    let change = "printf 'another-one\\nanother-one\\n' | pamtester usherd bob chauthtok 2>&1";
    let usherd = before(&accounts, BIS);
    let output = inside(&usherd, change);
    assert!(stdout(&output).contains("Permission denied"), "{}", shown(&output));
    usherd.stop();
    let usherd = before(&accounts, &format!("{BIS}root_changes_passwords = true\n"));
    let output = inside(&usherd, change);
    assert!(
        stdout(&output).contains("authentication token altered successfully"),
        "{}",
        shown(&output)
    );
    pam(
        &usherd,
        "bob",
        "authenticate",
        &["another-one"],
        "successfully authenticated",
    );
    usherd.stop();
}

#[test]
fn filters_and_a_prohibition_decide() {
    let accounts = Accounts::start();
    let lines = format!(
        "password_prohibited = \"ask the help desk\"\n{BIS}authorize = [\"(&(uid=$username)(description=$service))\"]\n"
    );
    let usherd = before(&accounts, &lines);
    pam(&usherd, "alice", "acct_mgmt", &[], "account management done");
    pam(&usherd, "bob", "acct_mgmt", &[], "Permission denied");
    pam(
        &usherd,
        "alice",
        "chauthtok",
        &["alice-pw", "x", "x"],
        "ask the help desk",
    );
    usherd.stop();
}

#[test]
fn a_dead_directory_is_unavailable_and_never_a_verdict() {
    let mut accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    getent(
        &usherd,
        "passwd alice",
        "alice:*:10001:20001:Alice A:/home/alice:/bin/bash",
    );
    accounts.process.kill();
    for password in ["alice-pw", "wrong"] {
        let said = "Authentication service cannot retrieve authentication info";
        pam(&usherd, "alice", "authenticate", &[password], said);
    }
    pam(
        &usherd,
        "alice",
        "acct_mgmt",
        &[],
        "cannot retrieve authentication info",
    );
    // The answer has a beginning and no end, which is "unavailable" to the modules, not "not found".
    let request = Request::Look {
        map: Map::Passwd,
        key: Key::Name(b"alice"),
    };
    assert_eq!(asked(&usherd, &request), b"\0\0\0\x02\0\x08\0\x01");
    usherd.stop();
}

#[test]
fn the_local_directory_answers_the_modules() {
    let setup = Setup::new();
    setup.folder.write("people.ldif", include_str!("nss/local.ldif"));
    let usherd = setup
        .directory(
            "corp",
            "identity = \"proxied\"",
            &["{ ldif = \"people.ldif\" }".to_owned()],
        )
        .listen(
            "nslcd",
            "unix:socket",
            "directory = \"corp\"\n[listen.map]\nschema = \"rfc2307bis\"\n",
        )
        .start();
    getent(&usherd, "passwd carol", "carol:*:1500:1500:Carol:/home/carol:/bin/sh");
    getent(&usherd, "group crew", "crew:*:1500:carol");
    pam(
        &usherd,
        "carol",
        "authenticate acct_mgmt",
        &["carol-pw"],
        "account management done",
    );
    pam(&usherd, "carol", "authenticate", &["wrong"], "Authentication failure");
    usherd.stop();
}

#[test]
fn what_is_no_question_ends_the_connection_and_harms_nobody() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, &format!("partial_timeout = \"200ms\"\n{BIS}"));
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x02\0\x0f\0\x0f",
        b"\0\0\0\x02\0\x08\0\x01\xff\xff\xff\xff",
        b"\0\0\0\x02\0\x08\0\x01\0\0\0\x05al",
    ];
    for bytes in garbage {
        assert_eq!(sent(&usherd, bytes), b"", "{bytes:?}");
    }
    // A question in pieces is one question; what follows it is not read.
    let mut stream = UnixStream::connect(usherd.unix("socket")).expect("it listens");
    let mut bytes = Vec::new();
    Request::Look {
        map: Map::Passwd,
        key: Key::Id(10_001),
    }
    .write(&mut bytes);
    for byte in &bytes {
        stream.write_all(&[*byte]).expect("it reads");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.ends_with(&[0, 0, 0, 2]) && answer.len() > 20, "{answer:?}");
    usherd.stop();
}

#[test]
fn a_service_answers_the_modules() {
    let setup = Setup::new();
    let program = setup.folder.write("answers.py", include_str!("nss/answers.py"));
    let usherd = setup
        .section(&format!(
            "[service.people]\nhelper = \"exec\"\nprogram = [\"/usr/bin/python3\", \"{program}\"]\n"
        ))
        .listen("nslcd", "unix:socket", "service = \"people\"")
        .start();
    getent(&usherd, "passwd dora", "dora:*:30001:30000:Dora:/home/dora:/bin/bash");
    getent(&usherd, "passwd 30001", "dora:*:30001:30000:Dora:/home/dora:/bin/bash");
    getent(&usherd, "passwd nobody-here", "");
    getent(&usherd, "group people", "people:*:30000:dora");
    getent(&usherd, "initgroups dora", "dora                  30000 30007");
    getent(&usherd, "shadow dora", "dora:*:::::::");
    for (password, said) in [
        ("ok", "successfully authenticated"),
        ("wrong-password", "Authentication failure"),
        ("disabled", "User account has expired"),
        ("expired", "User account has expired"),
        ("locked-out", "Have exhausted maximum number of retries"),
        ("restricted", "Permission denied"),
        ("denied", "Permission denied"),
        ("must-change", "successfully authenticated"),
        ("unavailable", "cannot retrieve authentication info"),
        ("crash", "cannot retrieve authentication info"),
        ("garbage", "cannot retrieve authentication info"),
    ] {
        pam(&usherd, "dora", "authenticate", &[password], said);
    }
    for password in ["must-change", "password-expired"] {
        pam(
            &usherd,
            "dora",
            "authenticate acct_mgmt",
            &[password],
            "new one required",
        );
    }
    pam(
        &usherd,
        "dora",
        "authenticate acct_mgmt",
        &["ok"],
        "account management done",
    );
    pam(&usherd, "nobody-here", "authenticate", &["ok"], "User not known");
    usherd.stop();
}
