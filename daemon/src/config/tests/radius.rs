//! The files of RADIUS: what they mean, and every class of mistake with its place.

use std::sync::Arc;

use engine::radius::clients::{Clients, Demand, Rate};
use engine::radius::users::{Fixed, Users};
use wire::radius::{Code, Dictionary, Packet, Writer, text};

use super::super::diagnostic::At;
use super::super::radius::{clients, sources, users};
use super::*;

impl Fixture {
    /// What a listener would get of a file, and everything that is told.
    fn radius<T>(
        &self,
        name: &str,
        text: &str,
        read: impl FnOnce(&mut Problems, &Folder, &At<String>) -> Option<T>,
    ) -> (Option<T>, Vec<Diagnostic>) {
        self.file(name, text, 0o600);
        let mut problems = Problems::new(None);
        let file = At::new(name.to_owned(), Place::Nowhere);
        let value = read(&mut problems, &Folder::new(&self.0), &file);
        let list = problems.into_list();
        let is_wrong = list.iter().any(|one| one.severity == Severity::Error);
        assert_eq!(value.is_none(), is_wrong, "{list:?}");
        // Neither a terminal nor the log shows what must not be seen.
        let shown: String = list.iter().map(ToString::to_string).collect();
        assert!(
            !shown.contains("hush") && !render(&list, false).contains("hush"),
            "{shown}"
        );
        (value, list)
    }

    fn clients(&self, text: &str) -> (Option<Clients>, Vec<Diagnostic>) {
        self.radius("clients.toml", text, clients::clients)
    }

    fn users(&self, text: &str) -> (Option<Users>, Vec<Diagnostic>) {
        let dictionary = Dictionary::standard();
        self.radius("users.toml", text, |p, folder, file| {
            users::users(p, folder, file, &dictionary)
        })
    }

    /// `line:column message; help`, for each.
    fn lines(&self, list: &[Diagnostic]) -> Vec<String> {
        let folder = format!("{}/", self.0.display());
        let line = |one: &Diagnostic| {
            let place = one
                .position()
                .map_or(String::new(), |(line, column)| format!("{line}:{column} "));
            let mark = if one.severity == Severity::Warning {
                "warning: "
            } else {
                ""
            };
            let help = if one.help.is_empty() {
                String::new()
            } else {
                format!("; {}", one.help.join("; "))
            };
            format!("{place}{mark}{}{help}", one.message).replace(&folder, "")
        };
        list.iter().map(line).collect()
    }
}

#[test]
fn a_clients_file_means_what_it_says() {
    let fixture = Fixture::new("radius-clients");
    let text = "[client.zoo]\naddress = \"192.0.2.7\"\nsecret_file = \"token\"\n\n\
                [client.\"a b\"]\naddress = [\"10.0.0.0/8\", \"2001:db8::/32\"]\nsecret = \"secret \\u0007\\\"x\"\n\
                require_message_authenticator = \"yes\"\nlimit_proxy_state = \"auto\"\nrate = 500\ntags = [\"wifi\", \"x\"]\n\
                coa = \"192.0.2.1:3798\"\n\n\
                [client.c]\naddress = \"10.1.0.0/16\"\nsecret = \"long enough\"\nrate = 5\nburst = 50\ncoa = \"::1\"\n";
    let (clients, told) = fixture.clients(text);
    assert!(told.is_empty(), "{told:?}");
    let clients = clients.unwrap();
    let names: Vec<&str> = clients.iter().map(|(_, client)| client.name.as_str()).collect();
    assert_eq!(names, ["zoo", "a b", "c"]);
    let name = |address: &str| clients.get(clients.find(address.parse().unwrap()).unwrap()).unwrap();
    assert_eq!(name("2001:db8::1").name, "a b");
    assert_eq!(name("10.1.2.3").name, "c");
    let (zoo, ab, c) = (name("192.0.2.7"), name("10.2.2.2"), name("10.1.0.1"));
    assert!(zoo.secret == wire::radius::Secret::new(b"0123456789abcdef"));
    assert!(ab.secret == wire::radius::Secret::new(b"secret \x07\"x"));
    assert_eq!(
        (zoo.require_message_authenticator, zoo.limit_proxy_state),
        (Demand::Auto, Demand::Yes)
    );
    assert_eq!(
        (ab.require_message_authenticator, ab.limit_proxy_state),
        (Demand::Yes, Demand::Auto)
    );
    assert_eq!((zoo.rate, zoo.coa), (None, None));
    assert_eq!(
        ab.rate,
        Some(Rate {
            per_sec: 500,
            burst: 500
        })
    );
    assert_eq!(c.rate, Some(Rate { per_sec: 5, burst: 50 }));
    assert_eq!(ab.tags, ["wifi", "x"]);
    assert_eq!(ab.coa, Some("192.0.2.1:3798".parse().unwrap()));
    assert_eq!(c.coa, Some("[::1]:3799".parse().unwrap()));
}

#[test]
fn the_mistakes_of_a_clients_file_are_told_at_once() {
    let fixture = Fixture::new("radius-clients-wrong");
    let text = "[client.a]\naddress = \"192.0.2.7/24\"\nsecret = 12345678\n\
                [client.b]\nsecert = \"hush1\"\nsecret = \"\"\naddress = []\n\
                [client.c]\naddress = [\"10.0.0.1\", 7]\nsecret = \"hush2\"\nsecret_file = \"token\"\nburst = 3\n\
                [client.d]\naddress = \"10.0.0.2\"\nsecret_file = \"none\"\nlimit_proxy_state = \"maybe\"\ncoa = \"nas\"\n\
                [client.e]\naddress = \"10.0.0.3\"\nsecret = \"hushhush3\"\n\
                [client.f]\naddress = \"10.0.0.3\"\nsecret = \"hushhush4\"\n\
                [client.g]\naddress = \"10.0.0.4\"\n";
    let (_, told) = fixture.clients(text);
    let right = [
        "2:11 `192.0.2.7/24` has bits behind its prefix: write 192.0.2.0/24 for the network, or leave out the prefix",
        "3:10 `secret` in [client.a] must be text in quotes",
        "5:1 unknown setting `secert` in [client.b]; did you mean `secret`?",
        "6:10 the secret of [client.b] is empty",
        "7:11 `address` in [client.b] is empty; at least one address or network",
        "9:24 `address` in [client.c] must be text in quotes, or a list of such",
        "11:15 [client.c] has a `secret` and a `secret_file`; one of them",
        "12:9 `burst` in [client.c] without a `rate`; rate = 500, the packets of a second",
        "15:15 the secret file none cannot be read",
        "16:21 unknown limit_proxy_state \"maybe\" in [client.d]; it may be \"auto\", \"yes\", \"no\"",
        "17:7 `coa` is no address: nas; an address and a port like 192.0.2.1:3799 or [2001:db8::1]:3799",
        "21:9 `10.0.0.3` of client `f` is there already, for `e`: remove one of the two",
        "24:1 [client.g] has no secret; secret_file = \"…\", or secret = \"…\"",
    ];
    assert_eq!(fixture.lines(&told), right);
    let (_, told) = fixture.clients("[client.a]\naddress = \"10.0.0.1\"\nsecret = \"hush1\n[client.b]\n");
    assert!(fixture.lines(&told)[0].starts_with("3:"), "{told:?}");
    let (_, told) = fixture.clients("client = 3\n");
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn what_is_doubtful_about_clients_is_a_warning() {
    let fixture = Fixture::new("radius-clients-doubts");
    let text = "[client.a]\naddress = \"192.0.2.7\"\nsecret = \"testing123\"\n\
                [client.b]\naddress = [\"127.0.0.1\", \"::1\"]\nsecret = \"testing123\"\n\
                [client.c]\naddress = \"10.0.0.1\"\nsecret = \"short12\"\n\
                limit_proxy_state = \"no\"\nrequire_message_authenticator = \"no\"\n";
    let (clients, told) = fixture.clients(text);
    assert_eq!(clients.unwrap().iter().len(), 3);
    let lines = fixture.lines(&told);
    let begins = [
        "3:10 warning: the secret of client a is the example that everybody knows; make one with",
        "9:10 warning: the secret of client c has 7 octets, and can be found by trying; make",
        "9:10 warning: answers to client c can be forged (CVE-2024-3596)",
    ];
    assert_eq!(lines.len(), begins.len(), "{lines:?}");
    for (line, begins) in lines.iter().zip(begins) {
        assert!(line.starts_with(begins), "{line}");
    }
    let (_, told) = fixture.clients("");
    assert!(
        fixture.lines(&told)[0].starts_with("warning: no client in clients.toml: nobody may ask"),
        "{told:?}"
    );
    // In the file, a secret is for nobody's eyes; beside it, the file is for everybody's.
    for (text, warned) in [
        ("[client.a]\naddress = \"10.0.0.1\"\nsecret = \"long enough\"\n", true),
        ("[client.a]\naddress = \"10.0.0.1\"\nsecret_file = \"token\"\n", false),
    ] {
        fixture.file("open.toml", text, 0o644);
        let mut problems = Problems::new(None);
        let file = At::new("open.toml".to_owned(), Place::Nowhere);
        clients::clients(&mut problems, &Folder::new(&fixture.0), &file).unwrap();
        let list = problems.into_list();
        assert_eq!(list.len(), usize::from(warned), "{list:?}");
        assert!(
            list.iter()
                .all(|one| one.message.starts_with("everyone on this machine may read"))
        );
    }
}

#[test]
fn clients_of_freeradius_are_read_and_their_mistakes_told() {
    let fixture = Fixture::new("radius-clients-conf");
    std::fs::create_dir(fixture.0.join("clients.d")).unwrap();
    fixture.file(
        "clients.d/b",
        "client b {\nipaddr = 10.0.0.2\nsecret = testing123\n}\n",
        0o600,
    );
    fixture.file(
        "clients.d/a",
        "client a {\nipaddr = 10.0.0.1\nsecret = long-enough\nlimit {\n}\n}\n",
        0o600,
    );
    fixture.file("clients.d/a~", "broken {", 0o600);
    fixture.file("clients.d/.c", "broken {", 0o600);
    let (clients, told) = fixture.radius("clients.conf", "$INCLUDE clients.d/\n", clients::clients);
    let clients = clients.unwrap();
    let names: Vec<&str> = clients.iter().map(|(_, client)| client.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let lines = fixture.lines(&told);
    assert!(
        lines.len() == 2
            && lines[0].starts_with("warning: clients.d/a:4: limit { … } is left out; ")
            && lines[1].starts_with("warning: clients.d/b:1: the secret of client b is the example"),
        "{lines:?}"
    );
    let text = "client a {\n ipaddr = 10.0.0.1\n secret = hush1234\n}\nclient a {\n ipaddr = 10.0.0.1\n secret = hush1234\n}\n\
                client c {\n ipaddr = x\n}\n$INCLUDE none\n";
    let (_, told) = fixture.radius("clients.conf", text, clients::clients);
    let lines = fixture.lines(&told);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[1].starts_with("clients.conf:10: ipaddr x; an address like"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("clients.conf:12: there is no file none"),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("clients.conf:5: two clients are called `a`"),
        "{lines:?}"
    );
}

/// The password, what becomes of it, groups and the reply.
fn asked(users: &Users, name: &str, attributes: &str) -> Option<(String, Option<Fixed>, Vec<String>, String)> {
    let dictionary = Dictionary::standard();
    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[0; 16]);
    for item in text::parse_list(&dictionary, attributes).unwrap() {
        writer.item(&dictionary, &item, None, &mut || 0).unwrap();
    }
    writer.finish_unsealed(&[0; 16]).unwrap();
    let packet = Packet::parse(&out).unwrap();
    let found = users.find(name.as_bytes(), &packet, &dictionary)?;
    let mut reply = Vec::new();
    let mut writer = Writer::bare(&mut reply, Code::ACCESS_ACCEPT, 1, &[0; 16]);
    for item in &found.reply {
        writer.item(&dictionary, item, None, &mut || 0).unwrap();
    }
    writer.finish_unsealed(&[0; 16]).unwrap();
    let mut shown = String::new();
    text::print_list(&mut shown, Packet::parse(&reply).unwrap().walk(&dictionary, None)).unwrap();
    let password = String::from_utf8(found.password.unwrap_or_default().to_vec()).unwrap();
    let groups = found.groups.iter().map(|group| (*group).to_owned()).collect();
    Some((password, found.fixed, groups, shown))
}

#[test]
fn a_users_file_means_what_it_says() {
    let fixture = Fixture::new("radius-users");
    let text = r#"
[[entry]]
check = ["NAS-Port < 100", "NAS-Port >= 10"]
reply = ["Session-Timeout = 60"]
groups = ["low"]
fall_through = true
[user.zoe]
password = "clear"
reply = { Session-Timeout = 90, Reply-Message = ["one", "t\"w\\o"], Class = "0x0102", "Tunnel-Type:1" = "VLAN" }
groups = ["staff", "wifi"]
[user."an na"]
password_file = "token"
check = { NAS-Port-Type = "Ethernet", NAS-Port = 7 }
[[entry]]
user = "an na"
nt_hash = "878d8014606cda29677a44efa1353fc7"
[user.old]
password = "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz."
disabled = true
[user.open]
accept_without_password = true
[[entry]]
check = { Service-Type = "Framed-User" }
reply = ["Framed-MTU := 1500"]
"#;
    let (users, told) = fixture.users(text);
    assert!(told.is_empty(), "{told:?}");
    let users = users.unwrap();
    let (password, fixed, groups, reply) = asked(&users, "zoe", "NAS-Port = 50").unwrap();
    assert_eq!((password.as_str(), fixed), ("clear", None));
    assert_eq!(groups, ["low", "staff", "wifi"]);
    let right = "Session-Timeout = 60, Reply-Message = \"one\", Reply-Message = \"t\\\"w\\\\o\", Class = 0x0102, \
                 Tunnel-Type:1 = VLAN";
    assert_eq!(reply, right);
    assert!(asked(&users, "zoe", "").unwrap().3.starts_with("Session-Timeout = 90"));
    assert_eq!(
        asked(&users, "an na", "NAS-Port-Type = Ethernet, NAS-Port = 7")
            .unwrap()
            .0,
        "0123456789abcdef"
    );
    assert_eq!(
        asked(&users, "an na", "NAS-Port = 7").unwrap().0,
        "{NT}878D8014606CDA29677A44EFA1353FC7"
    );
    assert_eq!(asked(&users, "old", "").unwrap().1, Some(Fixed::Reject));
    assert!(asked(&users, "old", "").unwrap().0.starts_with("{CRYPT}$6$"));
    assert_eq!(asked(&users, "open", "").unwrap().1, Some(Fixed::Accept));
    assert_eq!(
        asked(&users, "nobody", "Service-Type = Framed-User").unwrap().3,
        "Framed-MTU = 1500"
    );
    assert!(asked(&users, "nobody", "").is_none());
}

#[test]
fn the_mistakes_of_a_users_file_are_told_at_once() {
    let fixture = Fixture::new("radius-users-wrong");
    let text = "[user.a]\npassword = \"{ROT13}hush1\"\nreply = { Framed-IP-Adress = \"1.2.3.4\", NAS-Port = [1, true] }\n\
                [user.b]\npassword = 7\nnt_hash = \"hush2\"\ncheck = { NAS-Port-Type = \"Ethernt\" }\n\
                [user.c]\npassword = \"hush3\"\npassword_file = \"token\"\ngroups = \"staff\"\n\
                [user.d]\npassword = \"\"\nreply = [\"Session-Timeout 60\", 7]\ncheck = 7\n\
                [user.e]\ndisabled = true\naccept_without_password = true\ncheck = { Cleartext-Password = \"hush4\" }\n\
                [user.DEFAULT]\nreply = { Session-Timeout = -1 }\n\
                [[entry]]\nuser = \"\"\npasword = \"hush5\"\n\
                [user.f]\nreply = { \"Session-Timeout:1\" = 3 }\n[user.g]\npassword_file = \"none\"\n";
    let (_, told) = fixture.users(text);
    let lines = fixture.lines(&told);
    let right = [
        "2:12 nobody can be compared with the password of [user.a]; a scheme",
        "3:11 unknown attribute Framed-IP-Adress; Framed-IP-Address",
        "3:41 `NAS-Port` in `reply` of [user.a] has no such value",
        "5:12 `password` in [user.b] must be text in quotes",
        "6:11 `nt_hash` of [user.b] is none; 32 hexadecimal digits",
        "7:11 NAS-Port-Type = Ethernt; a number",
        "8:1 [user.c] has more than one password; one of",
        "11:10 `groups` in [user.c] must be a list of texts",
        "13:12 the password of [user.d] is empty; accept_without_password",
        "14:10 no sign behind Session-Timeout",
        "14:32 `reply` of [user.d] has more than texts in its list",
        "15:9 `check` of [user.d] must be attributes and their values",
        "18:27 [user.e] is disabled, and accepted without a password; one of them",
        "19:11 Cleartext-Password as a check; `password`",
        "20:7 [user.DEFAULT] is the user of this name",
        "20:1 warning: [user.DEFAULT] has no password",
        "21:11 Session-Timeout = -1; ",
        "23:8 a user without a name",
        "24:1 unknown setting `pasword` in [[entry]]; did you mean `password`?",
        "25:1 warning: [user.f] has no password",
        "26:11 a tag at Session-Timeout; ",
        "28:17 the password file none cannot be read",
    ];
    for right in right {
        assert_eq!(
            lines.iter().filter(|line| line.starts_with(right)).count(),
            1,
            "{right}\n{lines:#?}"
        );
    }
    assert_eq!(lines.len(), right.len(), "{lines:#?}");
    let (_, told) = fixture
        .users("[user.a]\npassword = \"x\"\n[[entry]]\nuser = \"a\"\npassword = \"y\"\n[user.a]\npassword = \"z\"\n");
    assert_eq!(fixture.lines(&told)[0], "6:7 this is not TOML: duplicate key");
    let (users, told) = fixture.users("[user.a]\npassword = \"x\"\n[[entry]]\nuser = \"a\"\npassword = \"y\"\n");
    assert_eq!(users.unwrap().len(), 2);
    assert!(
        fixture.lines(&told)[0].starts_with("4:8 warning: [[entry]] is never reached"),
        "{told:?}"
    );
}

#[test]
fn users_of_freeradius_are_read_and_their_mistakes_told() {
    let fixture = Fixture::new("radius-users-freeradius");
    fixture.file("more", "eve Cleartext-Password := hello\n", 0o600);
    let dictionary = Dictionary::standard();
    let read = |text| {
        fixture.radius("users", text, |p, folder, file| {
            users::users(p, folder, file, &dictionary)
        })
    };
    let (users, told) = read("bob Cleartext-Password := hello, Pool-Name := main\n$INCLUDE more\n");
    assert_eq!(users.unwrap().len(), 2);
    assert!(
        fixture.lines(&told)[0].starts_with("warning: users:1: Pool-Name is left out; addresses"),
        "{told:?}"
    );
    let (_, told) = read("bob Cleartext-Password := hush1, Simultaneous-Use := 1\neve X == 1\n");
    let lines = fixture.lines(&told);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[1].starts_with("users:1: Simultaneous-Use as a check; no such check"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("users:2: unknown attribute X; "), "{lines:?}");
}

#[test]
fn dictionaries_are_put_on_top_of_ours() {
    let fixture = Fixture::new("radius-dictionaries");
    fixture.file(
        "site",
        "$INCLUDE site.more\nATTRIBUTE Site-Room 26.32473.1 string\n",
        0o644,
    );
    fixture.file("site.more", "VENDOR Site 32473\n", 0o644);
    fixture.file("wrong", "ATTRIBUTE A 1\nATTRIBUTE B 26.32473.2 strnig\n", 0o644);
    let read = |names: &[&str]| -> (Option<Arc<Dictionary>>, Vec<String>) {
        let mut problems = Problems::new(None);
        let files: Vec<At<String>> = names
            .iter()
            .map(|name| At::new((*name).to_owned(), Place::Nowhere))
            .collect();
        let found = sources::dictionary(&mut problems, &Folder::new(&fixture.0), &files);
        (found, fixture.lines(&problems.into_list()))
    };
    let (dictionary, told) = read(&["site"]);
    assert!(told.is_empty(), "{told:?}");
    let dictionary = dictionary.unwrap();
    assert!(dictionary.named("Site-Room").is_some() && dictionary.named("User-Name").is_some());
    let (dictionary, told) = read(&["wrong", "site", "none"]);
    assert!(dictionary.is_none());
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0].starts_with("the dictionary wrong cannot be used"), "{told:?}");
    assert!(
        told.iter().any(|one| one.starts_with("wrong:1: ATTRIBUTE with")),
        "{told:?}"
    );
    assert!(told.iter().any(|one| one.starts_with("wrong:2: ")), "{told:?}");
    assert!(read(&[]).0.is_some());
}
