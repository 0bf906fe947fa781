//! Clients of Cyrus SASL's saslauthd protocol, unchanged: `testsaslauthd`, and slapd with `{SASL}` passwords.

use std::process::Output;
use std::time::Duration;

use crate::nss::Accounts;
use crate::proc::{Folder, Process, free_port, require, run, shown, wait_for};
use crate::usherd::{Setup, Usherd};

const TEST: &str = "/usr/sbin/testsaslauthd";

fn before(accounts: &Accounts) -> Usherd {
    let lines = "directory = \"corp\"\nfilter = \"(&(objectClass=posixAccount)(uid=%u))\"";
    Setup::new()
        .directory("corp", "", &[accounts.server()])
        .listen("saslauthd", "unix:mux", lines)
        .start()
}

fn test(usherd: &Usherd, user: &str, password: &str) -> Output {
    require(TEST);
    let socket = usherd.unix("mux");
    let socket = socket.to_str().expect("a path");
    let args = ["-f", socket, "-u", user, "-p", password, "-s", "imap"];
    run(TEST, &args, Duration::from_secs(20))
}

fn says(usherd: &Usherd, user: &str, password: &str, expected: &str) {
    let output = test(usherd, user, password);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(expected), "{user}: no {expected:?}: {}", shown(&output));
    let right = expected.starts_with("0: OK");
    assert_eq!(output.status.code() == Some(0), right, "{}", shown(&output));
}

#[test]
fn testsaslauthd_is_told_yes_or_no_and_why() {
    let mut accounts = Accounts::start();
    let usherd = before(&accounts);
    says(&usherd, "alice", "alice-pw", "0: OK");
    says(&usherd, "bob", "bob-pw", "0: OK");
    says(&usherd, "alice", "wrong", "0: NO ");
    says(&usherd, "nobody-here", "x", "0: NO ");
    says(&usherd, "alice)(uid=*", "x", "0: NO ");
    says(&usherd, "stale", "stale-pw", "0: NO ");
    says(&usherd, "fresh", "fresh-pw", "0: NO ");
    says(&usherd, "locked", "locked-pw", "0: NO ");
    // Where nobody can be asked there is no answer, not a no.
    accounts.process.kill();
    for password in ["alice-pw", "wrong"] {
        let output = test(&usherd, "alice", password);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{}", shown(&output));
        assert!(!said.contains("NO") && !said.contains("OK"), "{said}");
    }
    usherd.stop();
}

#[test]
fn a_service_answers_testsaslauthd() {
    let setup = Setup::new();
    let program = setup.folder.write("answers.py", include_str!("nss/answers.py"));
    let usherd = setup
        .section(&format!(
            "[service.people]\nhelper = \"exec\"\nprogram = [\"/usr/bin/python3\", \"{program}\"]\n"
        ))
        .listen("saslauthd", "unix:mux", "service = \"people\"")
        .start();
    says(&usherd, "dora", "ok", "0: OK");
    for password in ["wrong-password", "must-change", "locked-out", "denied"] {
        says(&usherd, "dora", password, "0: NO ");
    }
    says(&usherd, "nobody-here", "ok", "0: NO ");
    for password in ["unavailable", "crash"] {
        let output = test(&usherd, "dora", password);
        assert!(
            !output.status.success() && !shown(&output).contains("NO"),
            "{}",
            shown(&output)
        );
    }
    usherd.stop();
}

#[test]
fn slapd_with_sasl_passwords_asks_us() {
    require("/usr/bin/unshare");
    let accounts = Accounts::start();
    let usherd = before(&accounts);
    let folder = Folder::new("passes-on");
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    std::fs::create_dir(folder.path().join("sasl2")).expect("a folder");
    folder.write(
        "sasl2/slapd.conf",
        format!(
            "pwcheck_method: saslauthd\nsaslauthd_path: {}\n",
            usherd.unix("mux").display()
        ),
    );
    let conf = folder.write(
        "slapd.conf",
        format!(
            "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\n\
             suffix \"o=front\"\ndirectory {}data\ndbnosync\n",
            folder.file("")
        ),
    );
    let ldif = folder.write(
        "front.ldif",
        "dn: o=front\nobjectClass: organization\no: front\n\n\
         dn: cn=alice,o=front\nobjectClass: person\ncn: alice\nsn: A\nuserPassword: {SASL}alice@example.com\n",
    );
    let added = run(
        "/usr/sbin/slapadd",
        &["-f", &conf, "-l", &ldif],
        Duration::from_secs(20),
    );
    assert!(added.status.success(), "{}", shown(&added));
    let port = free_port();
    let script = folder.write(
        "script",
        format!(
            "mount --bind {} /etc/ldap/sasl2 && exec /usr/sbin/slapd -d 0 -h ldap://127.0.0.1:{port} -f {conf}\n",
            folder.file("sasl2")
        ),
    );
    let _front = Process::start("/usr/bin/unshare", &["-m", "sh", &script], &folder.path().join("log"));
    wait_for("slapd listens", Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let url = format!("ldap://127.0.0.1:{port}");
    let bind = |password: &str| {
        let args = ["-x", "-H", &url, "-D", "cn=alice,o=front", "-w", password];
        run("/usr/bin/ldapwhoami", &args, Duration::from_secs(20))
    };
    let right = bind("alice-pw");
    assert!(right.status.success(), "{}", shown(&right));
    let wrong = bind("wrong");
    assert_eq!(wrong.status.code(), Some(49), "{}", shown(&wrong));
    usherd.stop();
}
