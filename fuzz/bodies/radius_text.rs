//! Any bytes as a line of attributes and as a dictionary: read or refused, and what is read can be written or says why not.

use std::sync::OnceLock;

use wire::radius::dictionary::Source;
use wire::radius::text::Line;
use wire::radius::{Dictionary, Packet, Secret};

pub(crate) fn run(data: &[u8]) {
    static DICTIONARY: OnceLock<Dictionary> = OnceLock::new();
    let standard = DICTIONARY.get_or_init(Dictionary::standard);
    let text = String::from_utf8_lossy(data).into_owned();
    if let Ok(line) = Line::parse(standard, &text) {
        let (secret, mut out) = (Secret::new(b"xyzzy5461"), Vec::new());
        if line
            .write(standard, Some(&secret), &[1; 16], &mut || 1, &mut out)
            .is_ok()
        {
            assert_eq!(Packet::parse(&out).expect("we wrote it").code(), line.code);
        } else {
            assert!(out.is_empty());
        }
    }
    // A dictionary that includes itself, too.
    let mut include = |_: &str, name: &str| {
        Ok((name == "x").then(|| Source {
            name: name.to_string(),
            text: text.clone(),
        }))
    };
    match Dictionary::empty().load("x", &mut include) {
        Ok(loaded) => {
            for definition in loaded.dictionary.attributes() {
                assert!(!definition.path.numbers().is_empty() && !definition.name.is_empty());
            }
        }
        Err(faults) => assert!(!faults.is_empty() && faults.len() <= 100),
    }
}
