//! Whoever applies the events: strictly, so that an event which does not fit what was told before is found at once.

use std::collections::BTreeMap;

use engine::feed::event::{Event, Op, Uuid};
use engine::feed::shards::shard_of;
use wire::ldap::dn::{self, CaseIgnore};

/// What an entry is: its name in normal form, and its attributes in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) dn: String,
    pub(crate) attributes: BTreeMap<String, Vec<Vec<u8>>>,
}

#[derive(Default)]
pub(crate) struct Judge {
    pub(crate) content: BTreeMap<Uuid, Known>,
    pub(crate) last_seq: u64,
    pub(crate) seen: BTreeMap<&'static str, u64>,
    /// The number of refresh-done events.
    pub(crate) refreshes: u64,
}

pub(crate) const SHARDS: u16 = 7;

impl Judge {
    pub(crate) fn apply(&mut self, seq: u64, encoded: &[u8]) {
        assert_eq!(seq, self.last_seq + 1, "a gap in the sequence");
        self.last_seq = seq;
        let event = Event::decode(seq, encoded).expect("what was encoded");
        *self.seen.entry(event.op.name()).or_default() += 1;
        if event.op.is_feed_wide() {
            self.refreshes += 1;
            let counts = event.counts.expect("a refresh-done says what it came to");
            assert_eq!(
                counts.entries,
                self.content.len() as u64,
                "refresh-done says {counts:?}"
            );
            return;
        }
        assert_eq!(event.shard, shard_of(&event.uuid, SHARDS));
        let known = self.content.get(&event.uuid);
        let (dn, now) = (normal(event.dn), attributes(&event));
        match event.op {
            Op::Add => assert!(known.is_none(), "added twice: {event:?}"),
            Op::Modify | Op::Move => {
                let known = known.unwrap_or_else(|| panic!("never added: {event:?}"));
                check_changed(known, &event, &now);
                match event.old_dn {
                    Some(old_dn) => assert_eq!(known.dn, normal(old_dn), "moved from elsewhere: {event:?}"),
                    None => assert_eq!(known.dn, dn, "modified under another name: {event:?}"),
                }
            }
            Op::Delete => {
                let known = known.unwrap_or_else(|| panic!("never added: {event:?}"));
                assert_eq!(known.dn, dn, "deleted under another name: {event:?}");
                assert_eq!(before(&event), known.attributes);
            }
            Op::RefreshDone | Op::Heartbeat => panic!("of no entry: {event:?}"),
        }
        if event.op == Op::Delete {
            self.content.remove(&event.uuid);
        } else {
            self.content.insert(event.uuid, Known { dn, attributes: now });
        }
    }
}

fn check_changed(known: &Known, event: &Event<'_>, now: &BTreeMap<String, Vec<Vec<u8>>>) {
    let all = known.attributes.keys().chain(now.keys());
    let mut differs: Vec<&String> = all
        .filter(|name| known.attributes.get(*name) != now.get(*name))
        .collect();
    differs.sort();
    differs.dedup();
    let mut changed: Vec<String> = event
        .changed
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect();
    changed.sort();
    assert_eq!(differs, changed.iter().collect::<Vec<_>>(), "{event:?}");
    assert!(
        event.op == Op::Move || !changed.is_empty(),
        "nothing was modified: {event:?}"
    );
    let mut was = known.attributes.clone();
    was.retain(|name, _| changed.contains(name));
    assert_eq!(before(event), was);
}

fn attributes(event: &Event<'_>) -> BTreeMap<String, Vec<Vec<u8>>> {
    listed(event.attributes)
}

fn before(event: &Event<'_>) -> BTreeMap<String, Vec<Vec<u8>>> {
    listed(event.before.expect("old values were asked for"))
}

fn listed(attributes: engine::feed::event::Attributes<'_>) -> BTreeMap<String, Vec<Vec<u8>>> {
    attributes
        .map(|attribute| {
            let mut values: Vec<Vec<u8>> = attribute.values.map(<[u8]>::to_vec).collect();
            values.sort();
            (String::from_utf8(attribute.name.to_vec()).unwrap(), values)
        })
        .collect()
}

pub(crate) fn normal(name: &str) -> String {
    let mut out = Vec::new();
    dn::normalize(name.as_bytes(), &CaseIgnore, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}
