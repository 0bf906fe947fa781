//! Any text as an LDAP URL: what was parsed, shown and parsed again is the same.

use wire::ldap::url::Url;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Url>() {
        Ok(url) => {
            let shown = url.to_string();
            // Encoding may make it longer than what is taken.
            if shown.len() <= wire::ldap::url::URL_BYTES_MAX {
                assert_eq!(shown.parse::<Url>(), Ok(url), "{shown}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
