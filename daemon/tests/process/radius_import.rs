//! `usherd import freeradius` with the files that Debian's FreeRADIUS comes with, and with others.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::proc::{Folder, require, run, shown};
use crate::usherd::BINARY;

const CLIENTS: &str = "/etc/freeradius/3.0/clients.conf";
const USERS: &str = "/etc/freeradius/3.0/mods-config/files/authorize";
const LIMIT: Duration = Duration::from_secs(20);

fn import(args: &[&str]) -> Output {
    run(BINARY, &[&["import", "freeradius"], args].concat(), LIMIT)
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).expect("it is UTF-8")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let found = std::fs::read_dir(folder).expect("it is a folder");
    let mut names: Vec<String> = found
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_debian_s_freeradius_has_is_translated() {
    require(CLIENTS);
    let folder = Folder::new("import");
    let out = folder.path().join("out");
    let to = out.display().to_string();
    let output = import(&["--clients", CLIENTS, "--users", USERS, "--out", &to]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let told = text(&output.stderr);
    assert!(
        told.contains(&format!("{CLIENTS}:189: limit {{ … }} is left out")),
        "{told}"
    );
    assert!(told.contains("an entry for a Hint, which is left out"), "{told}");
    assert_eq!(names(&out), ["clients.toml", "users.toml", "usherd.toml"]);
    for name in names(&out) {
        assert_eq!(mode(&out.join(&name)), 0o600, "{name}");
    }
    let clients = std::fs::read_to_string(out.join("clients.toml")).unwrap();
    let right = format!(
        "\n# {CLIENTS}:30\n[client.localhost]\naddress = \"127.0.0.1\"\nsecret = \"testing123\"\n\
         require_message_authenticator = \"no\"\n\n\
         # {CLIENTS}:220\n[client.localhost_ipv6]\naddress = \"::1\"\nsecret = \"testing123\"\n"
    );
    assert!(clients.ends_with(&right), "{clients}");
    assert!(
        clients.contains(&format!("#   {CLIENTS}:189: limit {{ … }} is left out")),
        "{clients}"
    );
    let users = std::fs::read_to_string(out.join("users.toml")).unwrap();
    let right = "[[entry]]\ncheck = { Framed-Protocol = \"PPP\" }\n\
                 reply = { Framed-Protocol = \"PPP\", Framed-Compression = \"Van-Jacobson-TCP-IP\" }\n";
    assert!(users.ends_with(right), "{users}");
    let configuration = std::fs::read_to_string(out.join("usherd.toml")).unwrap();
    for line in [
        "address = \"[::]:1812\"",
        "answer = \"authentication\"",
        "authenticate = { users_file = \"users.toml\" }",
        "address = \"[::]:1813\"",
        "answer = \"accounting\"",
    ] {
        assert!(configuration.contains(line), "{line}\n{configuration}");
    }
    // What is there stays as it is, all of it.
    std::fs::remove_file(out.join("clients.toml")).unwrap();
    std::fs::write(out.join("users.toml"), "mine").unwrap();
    let output = import(&["--clients", CLIENTS, "--users", USERS, "--out", &to]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        text(&output.stderr).contains("users.toml is there already"),
        "{}",
        shown(&output)
    );
    assert_eq!(names(&out), ["users.toml", "usherd.toml"]);
    assert_eq!(std::fs::read_to_string(out.join("users.toml")).unwrap(), "mine");
    let output = import(&["--clients", CLIENTS, "--users", USERS, "--out", &to, "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(std::fs::read_to_string(out.join("users.toml")).unwrap(), users);
}

#[test]
fn what_has_no_meaning_here_is_named_and_the_exit_code_tells() {
    let folder = Folder::new("import-rest");
    let users = folder.write(
        "users",
        "bob Cleartext-Password := \"hello\"\n\tSite-Room = \"a1\"\neve Cleartext-Password := hush, Simultaneous-Use := 1\n",
    );
    let dictionary = folder.write(
        "dictionary",
        "VENDOR Site 32473\nATTRIBUTE Site-Room 26.32473.1 string\n",
    );
    let output = import(&["--users", &users, "--dictionary", &dictionary]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let (written, told) = (text(&output.stdout), text(&output.stderr));
    let right = format!("{users}:3: Simultaneous-Use as a check; no such check");
    assert!(told.contains(&right) && written.contains(&right), "{}", shown(&output));
    assert!(
        !told.contains("hush") && !written.contains("hush"),
        "{}",
        shown(&output)
    );
    assert!(
        written.contains("[user.bob]\npassword = \"hello\"\nreply = { Site-Room = \"a1\" }\n"),
        "{written}"
    );
    assert!(written.contains("[user.eve]\ndisabled = true\n"), "{written}");
    // Without the dictionary bob cannot be translated either.
    let output = import(&["--users", &users]);
    assert!(
        text(&output.stdout).contains("[user.bob]\ndisabled = true\n"),
        "{}",
        shown(&output)
    );
    let output = import(&["--clients", &folder.path().join("none").display().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        text(&output.stderr).contains("none cannot be read: "),
        "{}",
        shown(&output)
    );
    assert!(output.stdout.is_empty(), "{}", shown(&output));
    for wrong in [
        &["--clients", "a", "--users", "b"][..],
        &["--out", "x"][..],
        &["--users", "b", "--force"][..],
    ] {
        let output = import(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", shown(&output));
    }
}
