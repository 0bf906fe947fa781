//! PAP, CHAP, MS-CHAP and device addresses against everything that can judge them: verdicts, proofs, keys and reply attributes.

use crate::helpers::program;
use crate::nss::Accounts;
use crate::radius::{got, radclient};
use crate::radius_peer::{Python, client, with_service};
use crate::usherd::{Setup, Usherd, restrict};
use crate::winbind::Winbind;

const LISTED: &str = "authenticate = { users_file = \"users.toml\" }";

fn python() -> Python {
    let python = Python::new(include_str!("radius_methods.py"));
    python.beside("radius_mschap.py", include_str!("radius_mschap.py"));
    python
}

fn setup() -> Setup {
    let setup = Setup::new();
    let clients = setup.folder.write("clients.conf", client("here", "127.0.0.1", ""));
    restrict(&clients);
    setup
}

/// A listener that asks so, and a daemon.
fn start(setup: Setup, authenticate: &str) -> Usherd {
    let lines = format!("clients_file = \"clients.conf\"\nreject_delay = \"0s\"\n{authenticate}");
    setup.listen("radius", "127.0.0.1:0", &lines).start()
}

fn with_users(python: &Python, setup: Setup) -> Setup {
    let users = setup.folder.write("users.toml", python.run(&["users"]));
    restrict(&users);
    setup
}

fn run(python: &Python, scene: &str, usherd: Usherd) {
    python.run(&[scene, &usherd.port(0).to_string()]);
    usherd.stop();
}

#[test]
fn every_form_of_a_stored_password_judges_what_it_can() {
    let python = python();
    let usherd = start(with_users(&python, setup()), LISTED);
    run(&python, "listed", usherd);
}

#[test]
fn radclient_and_pyrad_are_answered_by_every_method() {
    let python = python();
    let usherd = start(with_users(&python, setup()), LISTED);
    // Without a Message-Authenticator, which pyrad sends none of: a client that has shown one must always send it.
    for attribute in ["User-Password", "CHAP-Password", "MS-CHAP-Password"] {
        for (password, answer) in [("Open-Sesame-42", "Access-Accept"), ("Open-Sesame-43", "Access-Reject")] {
            let attributes = format!("User-Name = \"clear\", {attribute} = \"{password}\"");
            got(&radclient(&usherd, "auth", &attributes), answer);
        }
    }
    got(
        &radclient(&usherd, "status", "Message-Authenticator = 0x00"),
        "Access-Accept",
    );
    let record = "User-Name = \"clear\", Acct-Status-Type = Start, Acct-Session-Id = \"1\"";
    got(&radclient(&usherd, "acct", record), "Accounting-Response");
    run(&python, "pyrad", usherd);
}

#[test]
fn a_directory_judges_passwords_by_a_bind_and_with_its_policy() {
    let (python, accounts) = (python(), Accounts::start());
    let setup = setup().directory("corp", "", &[accounts.server()]);
    let usherd = start(setup, "authenticate = { directory = \"corp\" }");
    run(&python, "bound", usherd);
}

#[test]
fn a_directory_that_shows_passwords_serves_every_method() {
    let (python, accounts) = (python(), Accounts::start());
    let setup = setup().directory("corp", "", &[accounts.server()]);
    let usherd = start(
        setup,
        "authenticate = { directory = \"corp\", check = \"fetch\", reply = { description = \"Filter-Id\" } }",
    );
    run(&python, "fetched", usherd);
}

#[test]
fn a_password_is_changed_by_who_knows_the_old_one() {
    let (python, accounts) = (python(), Accounts::with("write"));
    let setup = setup().directory("corp", "", &[accounts.server()]);
    let usherd = start(setup, "authenticate = { directory = \"corp\", check = \"fetch\" }");
    run(&python, "changed", usherd);
    let usherd = start(with_users(&python, self::setup()), LISTED);
    run(&python, "unchangeable", usherd);
}

#[test]
fn each_status_of_a_service_has_its_answer() {
    let python = python();
    let calls = setup_calls(&python);
    let service = format!("[service.people]\n{}\nmin = 1\nmax = 2\n", program(&["count", &calls]));
    let usherd = setup()
        .section(&service)
        .listen("radius", "127.0.0.1:0", &with_service(""))
        .start();
    run(&python, "told", usherd);
}

fn setup_calls(python: &Python) -> String {
    python.beside("calls", "");
    python.calls()
}

#[test]
fn a_service_that_is_asked_in_json_judges_every_method() {
    let python = python();
    python.beside("radius_service.py", include_str!("radius_service.py"));
    let (script, asked) = (python.path("radius_service.py"), python.path("asked"));
    let service = format!(
        "[service.people]\nhelper = \"exec\"\nprogram = [\"/usr/bin/python3\", \"{script}\", \"{asked}\"]\nmax = 2\n"
    );
    let usherd = start(
        setup().section(&service),
        "authenticate = { service = \"people\", form = \"json\" }",
    );
    python.run(&["served", &usherd.port(0).to_string(), &asked]);
    usherd.stop();
}

#[test]
fn windows_accounts_are_judged_by_winbind() {
    let (python, mut winbind) = (python(), Winbind::start());
    let service = format!(
        "[service.winbind]\nhelper = \"winbind\"\n{}\nmin = 2\nmax = 4\n",
        winbind.environment()
    );
    let usherd = start(setup().section(&service), "authenticate = { service = \"winbind\" }");
    python.run(&["winbind", &usherd.port(0).to_string()]);
    winbind.kill();
    run(&python, "gone", usherd);
}

#[test]
fn devices_are_let_in_by_their_address_and_nobody_else_is() {
    let python = python();
    let setup = with_users(&python, setup());
    let devices = "[user.00-11-22-33-44-55]\naccept_without_password = true\n";
    restrict(&setup.folder.write("devices.toml", devices));
    // The people's own list does not know the device.
    let users = python.run(&["users"]);
    let people = users.split("[user.00-11").next().unwrap_or_default();
    restrict(&setup.folder.write("users.toml", people));
    let lines = format!(
        "{LISTED}\nmac = {{ chain = \"devices\" }}\n\n[listen.chain.devices]\nauthenticate = {{ users_file = \"devices.toml\" }}"
    );
    run(&python, "devices", start(setup, &lines));
}
