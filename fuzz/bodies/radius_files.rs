//! Any bytes as FreeRADIUS's clients.conf and as its users file, which include themselves, too: read or refused, within bounds, and
//! what is read of users is found or is not.

use std::sync::OnceLock;

use engine::radius::clients::freeradius as clients;
use engine::radius::users::freeradius as users;
use wire::radius::dictionary::Source;
use wire::radius::{Code, Dictionary, Packet, Secret, Writer, number};

pub(crate) fn run(data: &[u8]) {
    static DICTIONARY: OnceLock<Dictionary> = OnceLock::new();
    let dictionary = DICTIONARY.get_or_init(Dictionary::standard);
    let text = String::from_utf8_lossy(data).into_owned();
    let source = |name: &str| Source {
        name: name.to_owned(),
        text: text.clone(),
    };
    let mut include = |_: &str, name: &str| {
        Ok(if name == "x" || name.ends_with('/') {
            vec![source(name)]
        } else {
            Vec::new()
        })
    };
    let loaded = clients::load("x", &mut include);
    assert!(loaded.faults.len() <= 100 && loaded.notices.len() <= 100);
    assert!(
        loaded
            .clients
            .iter()
            .all(|one| !one.secret.is_empty() && !one.name.is_empty())
    );
    let mut include = |_: &str, name: &str| Ok((name == "x").then(|| source(name)));
    match users::load("x", dictionary, &mut include) {
        Err(faults) => assert!(!faults.is_empty() && faults.len() <= 100),
        Ok(loaded) => {
            let mut out = Vec::new();
            let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
            writer.attribute(number::USER_NAME, b"bob").expect("there is room");
            writer.finish(&Secret::new(b"xyzzy5461")).expect("there is room");
            let packet = Packet::parse(&out).expect("we wrote it");
            for name in [&b"bob"[..], b"", b"DEFAULT", data] {
                let _ = loaded.users.find(name, &packet, dictionary);
            }
        }
    }
}
