//! What differs between two states of an entry.
//!
//! Attributes are sets (RFC 4511 section 4.1.7): neither their order nor that of their values means anything, and another
//! provider of the same data may send another. Names compare without regard to case. Nothing here is quadratic, for a
//! server may send as many attributes and values as a message holds.

use std::cmp::Ordering;

use wire::ber;

use super::event::{Attribute, Attributes};

/// Differences, in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Diff {
    /// The names of what differs, as [`super::event::Names`] has them; as they are now, or were.
    pub(super) changed: Vec<u8>,
    /// What differs, as it was.
    pub(super) before: Vec<u8>,
}

impl Diff {
    /// Compares; whether anything differs.
    pub(super) fn compare(&mut self, old: &[u8], new: &[u8]) -> bool {
        self.changed.clear();
        self.before.clear();
        if old == new {
            return false;
        }
        let (old, new) = (sorted(old), sorted(new));
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => by_name(old, new),
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            if let (Some(was), Some(is)) = (was, is)
                && is_same(was, is)
            {
                continue;
            }
            if let Some(attribute) = is.or(was) {
                ber::write_bytes(&mut self.changed, ber::tag::OCTET_STRING, attribute.name);
            }
            if let Some(was) = was {
                self.before.extend_from_slice(was.whole);
            }
        }
        !self.changed.is_empty()
    }
}

fn sorted(encoded: &[u8]) -> Vec<Attribute<'_>> {
    // What cannot be read has no attributes: it then differs from whatever can.
    let mut all: Vec<_> = Attributes::new(encoded).unwrap_or_default().collect();
    all.sort_by(by_name);
    all
}

fn by_name(a: &Attribute<'_>, b: &Attribute<'_>) -> Ordering {
    let a = a.name.iter().map(u8::to_ascii_lowercase);
    a.cmp(b.name.iter().map(u8::to_ascii_lowercase))
}

fn is_same(a: &Attribute<'_>, b: &Attribute<'_>) -> bool {
    if a.redacted != b.redacted {
        return false;
    }
    if a.values.encoded() == b.values.encoded() {
        return true;
    }
    sorted_values(a) == sorted_values(b)
}

fn sorted_values<'a>(attribute: &Attribute<'a>) -> Vec<&'a [u8]> {
    let mut values: Vec<_> = attribute.values.collect();
    values.sort_unstable();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::event::Names;
    use wire::ldap::message::write_attribute;

    fn encoded(attributes: &[(&str, &[&str])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, values) in attributes {
            write_attribute(&mut out, name.as_bytes(), values.iter().map(|value| value.as_bytes()));
        }
        out
    }

    fn changed(old: &[(&str, &[&str])], new: &[(&str, &[&str])]) -> Vec<String> {
        let mut diff = Diff::default();
        let differs = diff.compare(&encoded(old), &encoded(new));
        let names: Vec<String> = Names::new(&diff.changed)
            .unwrap()
            .map(|name| String::from_utf8(name.to_vec()).unwrap())
            .collect();
        assert_eq!(differs, !names.is_empty());
        names
    }

    #[test]
    fn order_and_the_case_of_names_mean_nothing() {
        assert!(
            changed(
                &[("cn", &["a", "b"]), ("sn", &["x"])],
                &[("SN", &["x"]), ("cn", &["b", "a"])]
            )
            .is_empty()
        );
        assert!(changed(&[], &[]).is_empty());
    }

    #[test]
    fn what_came_went_and_changed_is_named_and_its_old_values_are_told() {
        let old = [("cn", &["a"][..]), ("mail", &["m"]), ("sn", &["x", "y"])];
        let new = [("cn", &["a"][..]), ("sn", &["x"]), ("title;lang-de", &["t"])];
        assert_eq!(changed(&old, &new), ["mail", "sn", "title;lang-de"]);
        let mut diff = Diff::default();
        diff.compare(&encoded(&old), &encoded(&new));
        assert_eq!(diff.before, encoded(&old[1..]));
    }

    #[test]
    fn a_value_more_of_the_same_is_a_difference() {
        assert_eq!(changed(&[("cn", &["a"])], &[("cn", &["a", "a"])]), ["cn"]);
        assert_eq!(changed(&[("cn", &[])], &[("cn", &[""])]), ["cn"]);
    }
}
