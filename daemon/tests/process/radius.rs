//! RADIUS: radclient against the daemon, which asks a real slapd.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::proc::{Folder, run_reading, shown};
use crate::slapd::{Slapd, password};
use crate::usherd::{Setup, Usherd, server};

pub(crate) const SECRET: &str = "a secret of the tests";
const RADCLIENT: &str = "/usr/bin/radclient";

/// One client, this machine, in FreeRADIUS's form.
pub(crate) fn clients() -> String {
    format!("client here {{\n\tipaddr = 127.0.0.1\n\tsecret = \"{SECRET}\"\n}}\n")
}

/// A daemon with one listener for authentication and accounting, before these.
pub(crate) fn before(setup: Setup, lines: &str) -> Usherd {
    setup.folder.write("clients.conf", clients());
    let lines = format!("clients_file = \"clients.conf\"\nreject_delay = \"0s\"\n{lines}");
    setup.listen("radius", "127.0.0.1:0", &lines).start()
}

/// What radclient says of one request.
pub(crate) fn radclient(usherd: &Usherd, what: &str, attributes: &str) -> Output {
    radclient_to(&format!("127.0.0.1:{}", usherd.port(0)), SECRET, what, attributes, &[])
}

pub(crate) fn radclient_to(address: &str, secret: &str, what: &str, attributes: &str, more: &[&str]) -> Output {
    let folder = Folder::new("radclient");
    let file = folder.write("secret", format!("{secret}\n"));
    let mut args = vec!["-x", "-r", "1", "-t", "3", "-S", &file];
    args.extend_from_slice(more);
    args.extend([address, what]);
    let input = folder.write("attributes", format!("{attributes}\n"));
    run_reading(RADCLIENT, &args, &[], Path::new(&input), Duration::from_secs(20))
}

/// Whether radclient got this answer.
pub(crate) fn got(output: &Output, answer: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&format!("Received {answer} ")),
        "no {answer}: {}",
        shown(output)
    );
}

pub(crate) fn got_nothing(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Received "), "an answer: {}", shown(output));
}

#[test]
fn a_password_is_checked_by_slapd() {
    let mut slapd = Slapd::start();
    let setup = Setup::new().directory("corp", "", &[server(&slapd.url(), "")]);
    let usherd = before(
        setup,
        "authenticate = { directory = \"corp\", user = \"(uid={User-Name})\" }",
    );
    let ask = |name: &str, password: &str| {
        let attributes = format!("User-Name = \"{name}\", User-Password = \"{password}\"");
        radclient(&usherd, "auth", &attributes)
    };
    got(&ask("user7", &password(7)), "Access-Accept");
    got(&ask("user7", "wrong"), "Access-Reject");
    got(&ask("nobody-here", "x"), "Access-Reject");
    got(&ask("user7)(uid=*", &password(7)), "Access-Reject");
    got(&ask("*", &password(7)), "Access-Reject");
    got(&ask("user8", ""), "Access-Reject");
    // Where nobody can be asked there is no answer, not a no.
    slapd.end();
    got_nothing(&ask("user7", &password(7)));
    got_nothing(&ask("user7", "wrong"));
    usherd.stop();
}
