//! What is translated says the same when it is read back.

use std::path::PathBuf;

use engine::radius::clients::{Clients, Network};
use engine::radius::users::Users;
use proptest::prelude::*;
use wire::radius::{Code, Packet, Writer, text};

use super::*;
use crate::config::diagnostic::Severity;
use crate::config::radius;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("usherd-import-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    fn write(&self, name: &str, text: &str) -> At<String> {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        at(&path)
    }

    /// Reads it as a listener would; nothing may be wrong with it.
    fn read<T>(&self, file: &At<String>, read: impl FnOnce(&mut Problems, &Folder, &At<String>) -> Option<T>) -> T {
        let mut problems = Problems::new(None);
        let found = read(&mut problems, &Folder::new(&self.0), file);
        let list = problems.into_list();
        let errors: Vec<_> = list.iter().filter(|one| one.severity == Severity::Error).collect();
        assert!(
            errors.is_empty(),
            "{errors:?}\n{}",
            std::fs::read_to_string(&file.value).unwrap()
        );
        found.unwrap()
    }

    fn clients(&self, file: &At<String>) -> Clients {
        self.read(file, radius::clients::clients)
    }

    fn users(&self, file: &At<String>, dictionary: &Dictionary) -> Users {
        self.read(file, |p, folder, file| {
            radius::users::users(p, folder, file, dictionary)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// In double quotes, as FreeRADIUS reads it.
fn in_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\{:03o}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn anything() -> impl Strategy<Value = String> {
    // A dollar or a percent sign would be an expansion, perhaps.
    any::<String>().prop_map(|text| text.chars().filter(|c| !matches!(c, '$' | '%')).take(20).collect())
}

fn same_clients(one: &Clients, other: &Clients, networks: &[Network]) {
    let all = |clients: &Clients| {
        let shown = clients.iter().map(|(_, client)| {
            let demands = (client.require_message_authenticator, client.limit_proxy_state);
            (client.name.clone(), demands)
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(all(one), all(other));
    for (id, client) in one.iter() {
        assert!(other.get(id).unwrap().secret == client.secret, "{}", client.name);
    }
    for network in networks {
        let address = network.to_string().split('/').next().unwrap().parse().unwrap();
        assert_eq!(one.find(address), other.find(address), "{network}");
        assert!(one.find(address).is_some(), "{network}");
    }
}

#[test]
fn clients_are_the_same_in_both_forms() {
    let scratch = Scratch::new("clients");
    let words = prop::sample::select(vec!["", "yes", "no", "auto"]);
    let one = (anything(), anything(), words.clone(), words, 0_u8..4);
    proptest!(ProptestConfig::with_cases(100), |(list in prop::collection::vec(one, 1..8))| {
        let mut text = String::new();
        let mut networks = Vec::new();
        for (at, (name, secret, require, limit, form)) in list.iter().enumerate() {
            let network = match form {
                0 => format!("10.{at}.0.0/16"),
                1 => format!("192.0.2.{at}"),
                2 => format!("2001:db8:{at}::/48"),
                _ => format!("2001:db8::{at}"),
            };
            text.push_str(&format!("client {} {{\nipaddr = {network}\nsecret = {}\n",
                in_quotes(&format!("{name}{at}")), in_quotes(&format!("{secret}!"))));
            for (key, word) in [("require_message_authenticator", require), ("limit_proxy_state", limit)] {
                if !word.is_empty() {
                    text.push_str(&format!("{key} = {word}\n"));
                }
            }
            text.push_str("}\n");
            networks.push(Network::read(&network).unwrap());
        }
        let theirs = scratch.write("clients.conf", &text);
        let translated = clients::translate(&theirs.value);
        prop_assert!(translated.faults.is_empty(), "{:?}\n{text}", translated.faults);
        let ours = scratch.write("clients.toml", &translated.text);
        same_clients(&scratch.clients(&theirs), &scratch.clients(&ours), &networks);
    });
}

const NAMES: [&str; 5] = ["bob", "DEFAULT", "\"a b\"", "é.\u{1F512}", "\"DEFAULTS\\\"\""];
const CHECKS: [&str; 9] = [
    "NAS-Port-Type == Ethernet",
    "NAS-Port < 100",
    "NAS-Port >= 10",
    "NAS-Port == 7",
    "Calling-Station-Id =~ \"^00-\\\\d\"",
    "NAS-Identifier != 'x \"y\"'",
    "NAS-Identifier =* ANY",
    "Service-Type !* ANY",
    "Called-Station-Id == \"a\\\\b\"",
];
const REPLIES: [&str; 12] = [
    "Session-Timeout = 3600",
    "Session-Timeout := 60",
    "Framed-IP-Address = 192.0.2.7",
    "Framed-IP-Address = \"192.0.2.8\"",
    "Tunnel-Type:1 = VLAN",
    "Tunnel-Private-Group-Id:1 = \"30\"",
    "Tunnel-Private-Group-Id = 31",
    "Class = 0x0102ff",
    "Class = \"0x0102\"",
    "Reply-Message += 'it \\ is %{x}'",
    "Framed-IPv6-Prefix = 2001:db8::/32",
    "Cisco-AVPair = \"a=b\"",
];
const PASSWORDS: [&str; 9] = [
    "",
    "Auth-Type := Accept",
    "Auth-Type := Reject",
    "Cleartext-Password := hello",
    "Cleartext-Password := \"{SSHA}no\"",
    "Cleartext-Password := \"$6$no\"",
    "NT-Password := 878D8014606CDA29677A44EFA1353FC7",
    "MD5-Password := 5ebe2294ecd0e0f08eab7690d2a6ee69",
    "Crypt-Password := \"$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.\"",
];

/// What a list says about requests of some names.
fn said(users: &Users, dictionary: &Dictionary) -> Vec<String> {
    let requests = [
        "",
        "NAS-Port-Type = Ethernet, NAS-Port = 7",
        "NAS-Port = 50, NAS-Identifier = \"x\"",
    ];
    let mut all = Vec::new();
    for request in requests {
        let mut out = Vec::new();
        let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[0; 16]);
        for item in text::parse_list(dictionary, request).unwrap() {
            writer.item(dictionary, &item, None, &mut || 0).unwrap();
        }
        writer.finish_unsealed(&[0; 16]).unwrap();
        let packet = Packet::parse(&out).unwrap();
        for name in ["bob", "DEFAULT", "a b", "é.\u{1F512}", "DEFAULTS\"", "nobody"] {
            let found = users.find(name.as_bytes(), &packet, dictionary);
            let password = found.as_ref().and_then(|found| found.password.map(<[u8]>::to_vec));
            all.push(format!("{request} {name}: {found:?} {password:?}"));
        }
    }
    all
}

#[test]
fn users_are_the_same_in_both_forms() {
    let scratch = Scratch::new("users");
    let dictionary = Dictionary::standard();
    let pick = |from: &'static [&'static str]| prop::sample::select(from);
    let one = (
        pick(&NAMES),
        pick(&PASSWORDS),
        prop::collection::vec(pick(&CHECKS), 0..3),
        prop::collection::vec(pick(&REPLIES), 0..5),
        anything(),
        any::<bool>(),
    );
    proptest!(ProptestConfig::with_cases(200), |(list in prop::collection::vec(one, 1..8))| {
        let mut text = String::new();
        for (name, password, checks, replies, message, falls_through) in &list {
            let checks: Vec<&str> = checks.iter().copied().chain([*password]).filter(|one| !one.is_empty()).collect();
            let mut replies: Vec<String> = replies.iter().map(|one| (*one).to_owned()).collect();
            if !message.is_empty() {
                replies.push(format!("Reply-Message = {}", in_quotes(message)));
            }
            if *falls_through {
                replies.push("Fall-Through = Yes".to_owned());
            }
            text.push_str(&format!("{name} {}\n", checks.join(", ")));
            if !replies.is_empty() {
                text.push_str(&format!("\t{}\n", replies.join(",\n\t")));
            }
        }
        let theirs = scratch.write("users", &text);
        let translated = users::translate(&theirs.value, &dictionary);
        prop_assert!(translated.faults.is_empty(), "{:?}\n{text}", translated.faults);
        let ours = scratch.write("users.toml", &translated.text);
        let (theirs, ours) = (scratch.users(&theirs, &dictionary), scratch.users(&ours, &dictionary));
        prop_assert!(theirs.iter().eq(ours.iter()), "{text}\n{}", *translated.text);
        prop_assert_eq!(said(&theirs, &dictionary), said(&ours, &dictionary));
    });
}

#[test]
fn who_cannot_be_translated_is_kept_out() {
    let scratch = Scratch::new("kept-out");
    let dictionary = Dictionary::standard();
    let text = "bob Cleartext-Password := hush1, Simultaneous-Use := 1\n\
                eve Cleartext-Password := hush2\n\tSession-Timeout = 60\n\
                eve Cleartext-Password := \"\", NAS-Port == 3\n\
                DEFAULT Group == staff\n\tSession-Timeout = 90\n\
                DEFAULT Group == gone, Auth-Type := Reject\n\
                DEFAULT Hint == SLIP\n";
    let theirs = scratch.write("users", text);
    let translated = users::translate(&theirs.value, &dictionary);
    let told: Vec<String> = translated.faults.iter().map(ToString::to_string).collect();
    let lines: Vec<usize> = translated.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 5, 7, 4], "{told:?}");
    let written = &translated.text;
    let body = written.split("\n\n").skip(1).collect::<Vec<_>>().join("\n\n");
    let body = body.replace(&theirs.value, "users");
    let right = "# users:1\n\
         # Not all of it could be translated, see above: until it is mended, its users are kept out.\n\
         [user.bob]\ndisabled = true\n\n\
         # users:2\n[user.eve]\npassword = \"hush2\"\nreply = { Session-Timeout = \"60\" }\n\n\
         # users:4\n\
         # Not all of it could be translated, see above: until it is mended, its users are kept out.\n\
         [[entry]]\nuser = \"eve\"\ndisabled = true\n\n\
         # users:5\n# An entry for everybody is missing here: see above.\n\n\
         # users:7\n\
         # Not all of it could be translated, see above: until it is mended, its users are kept out.\n\
         [[entry]]\ndisabled = true\n";
    assert_eq!(body, right);
    for fault in &translated.faults {
        assert!(written.contains(&format!("#   {fault}\n")), "{fault}");
    }
    assert!(!written.contains("hush1"));
    scratch.users(&scratch.write("users.toml", written), &dictionary);
}

#[test]
fn files_get_their_names_together_or_not_at_all() {
    let scratch = Scratch::new("write");
    std::fs::write(scratch.0.join("b"), "old").unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&scratch.0)
            .unwrap()
            .map(|found| found.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    // The second one is there already.
    let mut files = Files::new(&scratch.0, false).unwrap();
    files.put("a", b"new").unwrap();
    assert!(files.put("b", b"new").unwrap_err().contains("--force"));
    drop(files);
    assert_eq!(names(), ["b"]);
    // It comes while we write.
    let mut files = Files::new(&scratch.0, false).unwrap();
    files.put("a", b"new").unwrap();
    files.put("c", b"new").unwrap();
    std::fs::write(scratch.0.join("c"), "theirs").unwrap();
    assert!(files.finish().unwrap_err().contains("is there already"));
    assert_eq!(names(), ["b", "c"]);
    assert_eq!(std::fs::read(scratch.0.join("c")).unwrap(), b"theirs");
    let mut files = Files::new(&scratch.0, true).unwrap();
    files.put("a", b"new").unwrap();
    files.put("b", b"new").unwrap();
    assert_eq!(files.finish().unwrap(), [scratch.0.join("a"), scratch.0.join("b")]);
    assert_eq!(names(), ["a", "b", "c"]);
    assert_eq!(std::fs::read(scratch.0.join("b")).unwrap(), b"new");
}
