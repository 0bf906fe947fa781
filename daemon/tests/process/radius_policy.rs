//! Rules: which chain is asked, who is kept out, and what an answer carries.

use crate::nss::Accounts;
use crate::radius::SECRET;
use crate::radius_peer::Python;
use crate::usherd::{Setup, restrict};

const LISTENER: &str = r#"clients_file = "clients.toml"
reject_delay = "0s"
authenticate = { users_file = "users.toml" }

[listen.chain.partners]
authenticate = { users_file = "partners.toml" }

[[listen.rule]]
name = "guests"
user = ["*@guest.example.com"]
tag = ["vpn"]
reject = "Guests not over VPN."

[[listen.rule]]
name = "partners"
match = { Called-Station-Id = "*:partner" }
authenticate = "partners"

[[listen.rule]]
name = "former"
group = ["former"]
reject = "This account has been closed."

[[listen.rule]]
name = "staff"
group = ["staff"]
set = { Tunnel-Type = "VLAN", Tunnel-Medium-Type = "IEEE-802", Tunnel-Private-Group-Id = "30" }
continue = true

[[listen.rule]]
name = "wired"
match = { NAS-Port-Type = "Ethernet" }
set = { Session-Timeout = 60 }

[[listen.rule]]
name = "everybody-else"
set = { Tunnel-Type = "VLAN", Tunnel-Medium-Type = "IEEE-802", Tunnel-Private-Group-Id = "99", Session-Timeout = 3600, "+Cisco-AVPair" = "a=b" }
remove = ["Framed-IP-Address"]
"#;

const USERS: &str = r#"[user.alice]
password = "alice-pw"
groups = ["staff"]
reply = { Framed-IP-Address = "192.0.2.7" }

[user.bob]
password = "bob-pw"
groups = ["former"]

[user."carol@guest.example.com"]
password = "carol-pw"

[user.dan]
password = "dan-pw"
"#;

#[test]
fn rules_choose_chains_keep_out_and_change_answers() {
    let setup = clients();
    for (name, content) in [
        ("users.toml", USERS),
        ("partners.toml", "[user.pat]\npassword = \"pat-pw\"\n"),
    ] {
        restrict(&setup.folder.write(name, content));
    }
    let usherd = setup.listen("radius", "127.0.0.1:0", LISTENER).start();
    Python::new(include_str!("radius_policy.py")).run(&["rules", &usherd.port(0).to_string()]);
    usherd.stop();
}

fn clients() -> Setup {
    let setup = Setup::new();
    let one = |name: &str, address: &str, tag: &str| {
        format!("[client.{name}]\naddress = \"{address}\"\nsecret = \"{SECRET}\"\ntags = [\"{tag}\"]\n\n")
    };
    let clients = one("wlan-1", "127.9.0.1", "wlan") + &one("gate", "127.9.0.2", "vpn");
    restrict(&setup.folder.write("clients.toml", clients));
    setup
}

const GROUPS: &str = r#"
[[listen.rule]]
name = "inner"
group = ["inner"]
set = { Filter-Id = "inner" }

[[listen.rule]]
name = "builders"
group = ["builders"]
set = { Filter-Id = "builders" }

[[listen.rule]]
name = "others"
set = { Filter-Id = "none" }
"#;

#[test]
fn rules_know_the_groups_of_a_directory() {
    let accounts = Accounts::start();
    let lines = |nested: u32| {
        let groups = format!(
            "groups = {{ base = [\"ou=groups,dc=example,dc=com\"], filter = \"(member={{dn}})\", nested = {nested} }}"
        );
        format!(
            "clients_file = \"clients.toml\"\nreject_delay = \"0s\"\nauthenticate = {{ directory = \"corp\", {groups} }}\n{GROUPS}"
        )
    };
    let usherd = clients()
        .directory("corp", "", &[accounts.server()])
        .listen("radius", "127.0.0.1:0", &lines(0))
        .listen("radius", "127.0.0.1:0", &lines(1))
        .start();
    let ports = [usherd.port(0).to_string(), usherd.port(1).to_string()];
    Python::new(include_str!("radius_policy.py")).run(&["groups", &ports[0], &ports[1]]);
    usherd.stop();
}
