//! Any bytes as an encoded filter and as a filter's text: the two readers of encodings agree, and text and encoding
//! turn into each other.

use wire::ldap::filter::{self, Filter};
use wire::ldap::grammar::check_filter;

pub(crate) fn run(data: &[u8]) {
    let _ = filter::read(data).map(parts);
    if check_filter(data, filter::DEPTH_MAX - 1).is_ok() {
        filter::to_string(data).expect("what the guard lets through can be shown");
    }
    let escaped = format!("(cn={})", filter::escape(data));
    match filter::read(&filter::parse(&escaped).expect("an escaped value stands in a filter")) {
        Ok(Filter::Equality(assertion)) => assert_eq!(assertion.value, data),
        other => panic!("{other:?}"),
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match filter::parse(text) {
        Ok(encoded) => {
            check_filter(&encoded, filter::DEPTH_MAX - 1).expect("what is written passes the guard");
            let shown = filter::to_string(&encoded).expect("what is written can be shown");
            assert_eq!(filter::parse(&shown).expect("what is shown can be read"), encoded);
        }
        Err(error) => assert!(error.at <= text.len(), "{error}"),
    }
}

fn parts(filter: Filter<'_>) {
    match filter {
        Filter::And(all) | Filter::Or(all) => assert!(all.filter_map(Result::ok).all(|inner| !inner.is_empty())),
        Filter::Substrings { pieces, .. } => {
            let _ = pieces.count();
        }
        _ => {}
    }
}
