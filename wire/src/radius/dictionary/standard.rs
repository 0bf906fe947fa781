//! Our own dictionary, part of the program.

use super::{Dictionary, Source};

/// What `wire/dictionaries/` holds.
const FILES: &[(&str, &str)] = &[
    ("rfc", include_str!("../../../dictionaries/rfc")),
    ("rfc.values", include_str!("../../../dictionaries/rfc.values")),
    ("internal", include_str!("../../../dictionaries/internal")),
    ("vendors", include_str!("../../../dictionaries/vendors")),
    ("microsoft", include_str!("../../../dictionaries/microsoft")),
    ("dictionary", include_str!("../../../dictionaries/dictionary")),
];

impl Dictionary {
    /// The attributes of the RFCs, and of some vendors those that are met most. Reading it takes about a millisecond: keep it.
    #[must_use]
    pub fn standard() -> Self {
        let mut include = |_: &str, name: &str| {
            let file = FILES.iter().find(|(known, _)| *known == name);
            Ok(file.map(|(name, text)| Source {
                name: (*name).to_string(),
                text: (*text).to_string(),
            }))
        };
        // A test sees to it that they are right.
        match Dictionary::empty().load_as("dictionary", &mut include, true) {
            Ok(loaded) => loaded.dictionary,
            Err(_) => Dictionary::empty(),
        }
    }
}
