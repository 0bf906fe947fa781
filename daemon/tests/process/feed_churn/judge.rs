//! What was told, applied, beside what the directory has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::ber::elements;
use crate::client::{Client, with_controls};
use crate::ops;

const MANAGE_DSA_IT: &str = "2.16.840.1.113730.3.4.2";
/// So many of an entry's events are shown.
const SHOWN: usize = 6;
/// So many differences are.
const DIFFERENCES: usize = 5;

#[derive(PartialEq, Eq, Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) dn: String,
    attributes: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

pub(super) type World = BTreeMap<String, Entry>;

/// Everything below `base`, by entryUUID.
pub(super) fn held(client: &mut Client, base: &str) -> World {
    let op = ops::search(base, ops::SUB, &ops::present("objectClass"), &["*", "entryUUID"]);
    let mut world = World::new();
    for message in client.call(&with_controls(&op, &[(MANAGE_DSA_IT, true, None)])) {
        if message.tag != ops::SEARCH_ENTRY {
            assert_eq!(message.code(), 0, "the directory can be read");
            continue;
        }
        let parts = elements(&message.content);
        let mut entry = Entry {
            dn: String::from_utf8(parts[0].1.to_vec()).expect("a name"),
            ..Entry::default()
        };
        let mut uuid = String::new();
        for (_, pair) in elements(parts[1].1) {
            let pair = elements(pair);
            let name = String::from_utf8_lossy(pair[0].1).to_lowercase();
            let values: BTreeSet<Vec<u8>> = elements(pair[1].1).iter().map(|(_, value)| value.to_vec()).collect();
            if name == "entryuuid" {
                uuid = String::from_utf8(values.into_iter().next().expect("one")).expect("text");
            } else {
                entry.attributes.insert(name, values);
            }
        }
        world.insert(uuid, entry);
    }
    world
}

/// What was told: applied, and what was odd about it.
#[derive(Default)]
pub(super) struct Told {
    world: World,
    /// The events of each entry, each once.
    of: BTreeMap<String, Vec<Value>>,
    entries: usize,
    refreshes: usize,
    repeated: usize,
    odd: Vec<String>,
}

impl Told {
    pub(super) fn new(events: &[Value]) -> Self {
        let mut told = Self::default();
        let mut known: BTreeMap<u64, &Value> = BTreeMap::new();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for event in events {
            let (seq, shard) = (number(event, "seq"), number(event, "shard"));
            if let Some(before) = known.insert(seq, event) {
                told.repeated += 1;
                if before != event {
                    told.odd
                        .push(format!("one number, two events: {before}\n  and {event}"));
                }
                continue;
            }
            let before = last.insert(shard, seq).unwrap_or(0);
            if seq < before {
                told.odd
                    .push(format!("reordered: {seq} after {before} on shard {shard}"));
            }
            told.apply(event);
        }
        told
    }

    fn apply(&mut self, event: &Value) {
        let op = event["op"].as_str().expect("an operation");
        if op == "refresh-done" {
            self.refreshes += 1;
            return;
        }
        self.entries += 1;
        let uuid = event["uuid"].as_str().expect("a uuid").to_owned();
        let before = self.world.get(&uuid);
        let now = (op != "delete").then(|| entry(event));
        if (op == "add") == before.is_some() {
            self.odd.push(format!(
                "{} before: {event}",
                if before.is_some() { "there" } else { "not there" }
            ));
        }
        if now.is_some() && now.as_ref() == before {
            self.odd.push(format!("sent again, nothing new: {event}"));
        }
        match now {
            Some(now) => _ = self.world.insert(uuid.clone(), now),
            None => _ = self.world.remove(&uuid),
        }
        self.of.entry(uuid).or_default().push(event.clone());
    }

    pub(super) fn refreshes(&self) -> usize {
        self.refreshes
    }

    /// Events about entries.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// How it differs from the directory; empty where it does not.
    pub(super) fn differences(&self, wanted: &World) -> String {
        let (mut text, mut shown) = (String::new(), String::new());
        let (mut zombies, mut stale, mut missing, mut values, mut said) = (0, 0, 0, 0, 0);
        let all: BTreeSet<&String> = self.world.keys().chain(wanted.keys()).collect();
        for uuid in all {
            let (has, should) = (self.world.get(uuid), wanted.get(uuid));
            match (has, should) {
                (Some(has), Some(should)) if has == should => continue,
                (Some(has), Some(should)) if has.dn != should.dn => stale += 1,
                (Some(_), Some(_)) => values += 1,
                (Some(_), None) => zombies += 1,
                (None, _) => missing += 1,
            }
            said += 1;
            if said <= DIFFERENCES {
                let _ = writeln!(shown, "{uuid}\n  told: {has:?}\n  is:   {should:?}");
                let events = self.of.get(uuid).map(Vec::as_slice).unwrap_or_default();
                for event in events.iter().rev().take(SHOWN) {
                    let _ = writeln!(shown, "  event: {event}");
                }
            }
        }
        if said > 0 {
            let _ = write!(
                text,
                "{zombies} zombies, {stale} stale names, {missing} missing, {values} with other values\n{shown}"
            );
        }
        text
    }

    /// Nothing out of order, nothing without need; where the receiver `remembers`, nothing twice.
    pub(super) fn orderly(&self, remembers: bool) -> Result<(), String> {
        if let Some(odd) = self.odd.first() {
            return Err(format!("{} odd events: {odd}", self.odd.len()));
        }
        if remembers && self.repeated > 0 {
            return Err(format!("{} events came twice", self.repeated));
        }
        Ok(())
    }
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().expect("a number")
}

fn entry(event: &Value) -> Entry {
    let attributes = event["attributes"].as_object().expect("attributes");
    let value = |value: &Value| match value {
        Value::String(text) => text.clone().into_bytes(),
        other => STANDARD
            .decode(other["base64"].as_str().expect("base64"))
            .expect("base64"),
    };
    let values = |values: &Value| values.as_array().expect("values").iter().map(value).collect();
    Entry {
        dn: event["dn"].as_str().expect("a name").to_owned(),
        attributes: attributes
            .iter()
            .map(|(name, list)| (name.to_lowercase(), values(list)))
            .collect(),
    }
}
