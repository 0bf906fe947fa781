//! Putting attributes and names of values into the tree: what may be said twice, and what may not.

use super::load::Loader;
use super::syntax::{NAME_BYTES_MAX, Wrong, wrong};
use super::{AttributeId, DENSE, Definition, Dictionary, Node, Place, TOP, Values};
use crate::radius::value::{DataType, unsigned};

/// Attributes and vendors together, at most.
const NODES_MAX: usize = 100_000;
/// Names of values, at most.
const VALUES_MAX: usize = 400_000;

impl Loader<'_, '_> {
    pub(super) fn place_below(&mut self, place: Place, number: u32) -> Result<Place, Wrong> {
        if let Some(child) = self.dictionary.child(place, number) {
            return Ok(child);
        }
        let new = self.dictionary.nodes.len();
        let (true, Ok(child)) = (new < NODES_MAX, u32::try_from(new)) else {
            return wrong(
                "one attribute too many",
                format!("at most {NODES_MAX} attributes and vendors"),
            );
        };
        self.dictionary.nodes.push(Node::default());
        self.dictionary.put(place, number, child);
        Ok(child)
    }

    /// Puts an attribute into its place, which another may have.
    pub(super) fn define(&mut self, place: Place, number: u32, mut definition: Definition) -> Result<Place, Wrong> {
        let lower: Box<str> = definition.name.to_ascii_lowercase().into();
        let named = self.dictionary.named(&lower).cloned();
        let mut id = self.place_below(place, number)?;
        if let Some(known) = &named {
            let same = known.path == definition.path && known.data_type == definition.data_type;
            if same
                && known.standard == definition.standard
                && known.hiding == definition.hiding
                && known.has_tag == definition.has_tag
            {
                return Ok(known.id.0);
            }
            if !known.standard || definition.standard {
                return wrong(
                    format!(
                        "{} again, as {} {}",
                        definition.name, definition.path, definition.data_type
                    ),
                    format!("it is {} {}: one meaning for each name", known.path, known.data_type),
                );
            }
        }
        let there = self
            .dictionary
            .definition(id)
            .map(|known| (known.name.clone(), known.standard, known.data_type));
        match there {
            // Both names stay; packets are shown with the newer one. What is inside stays where it is.
            Some((name, standard, _)) if !name.eq_ignore_ascii_case(&lower) && !standard => {
                let found = format!("{} has the number {} of {name}", definition.name, definition.path);
                self.notice(found, "both names are known, packets are shown with this one");
                let old = self.dictionary.nodes.get(index(id)).cloned().unwrap_or_default();
                let moved = self.dictionary.nodes.len();
                if moved >= NODES_MAX {
                    return wrong("one attribute too many", format!("at most {NODES_MAX} attributes"));
                }
                self.dictionary.nodes.push(Node {
                    definition: None,
                    ..old
                });
                id = u32::try_from(moved).unwrap_or(TOP);
                self.dictionary.put(place, number, id);
            }
            Some((name, true, data_type)) if !definition.standard => {
                self.dictionary.forget(&name, id);
                if data_type != definition.data_type {
                    let found = format!(
                        "{} is {}, and {name} was {data_type}",
                        definition.name, definition.data_type
                    );
                    self.notice(found, "this one counts");
                }
                let values = self.dictionary.definition(id).map(|known| known.values.clone());
                definition.values = values.filter(|_| definition.data_type.is_number()).unwrap_or_default();
            }
            _ => {}
        }
        definition.id = AttributeId(id);
        self.dictionary.names.insert(lower, definition.id);
        if let Some(node) = self.dictionary.nodes.get_mut(index(id)) {
            node.definition = Some(Box::new(definition));
        }
        Ok(id)
    }

    pub(super) fn value(&mut self, attribute: &str, name: &str, number: &str) -> Result<(), Wrong> {
        if self.dictionary.named(attribute).is_none() {
            if self.waiting.len() >= VALUES_MAX {
                return wrong("one VALUE too many", format!("at most {VALUES_MAX}"));
            }
            let words = [attribute, name, number].map(str::to_string);
            self.waiting.push((self.at.clone(), words));
            return Ok(());
        }
        self.add_value(attribute, name, number)
    }

    /// Those that came before their attribute.
    pub(super) fn waiting_values(&mut self) {
        for (at, [attribute, name, number]) in std::mem::take(&mut self.waiting) {
            self.at = at;
            if let Err((found, right)) = self.add_value(&attribute, &name, &number) {
                self.fault(found, right);
            }
        }
    }

    fn add_value(&mut self, attribute: &str, name: &str, number: &str) -> Result<(), Wrong> {
        let Some((id, data_type)) = self
            .dictionary
            .named(attribute)
            .map(|known| (known.id, known.data_type))
        else {
            return wrong(
                format!("VALUE of {attribute}, which is not known"),
                "its ATTRIBUTE in one of the files",
            );
        };
        let most = match data_type {
            DataType::Byte => u8::MAX.into(),
            DataType::Short => u16::MAX.into(),
            DataType::Integer64 => u64::MAX,
            DataType::Signed => 0x7fff_ffff,
            _ => u32::MAX.into(),
        };
        if !data_type.is_number() {
            // Dictionaries that are in use have this.
            let found = format!("VALUE of {attribute}, of the type {data_type}");
            self.notice(
                found,
                "left out: only byte, short, integer, integer64 and signed have names for values",
            );
            return Ok(());
        }
        let Some(number) = unsigned(number, most) else {
            return wrong(format!("value {number}"), format!("a number of 0 to {most}"));
        };
        if name.len() > NAME_BYTES_MAX || self.values >= VALUES_MAX {
            let right = format!("names of at most {NAME_BYTES_MAX} octets, and {VALUES_MAX} of them");
            return wrong(format!("VALUE {name}"), right);
        }
        self.values += 1;
        let Some(node) = self.dictionary.nodes.get_mut(index(id.0)) else {
            return Ok(());
        };
        let Some(definition) = &mut node.definition else {
            return Ok(());
        };
        let known = definition.value_number(name);
        let replaceable = self.standard || !definition.standard;
        match known {
            Some(known) if known == number => return Ok(()),
            Some(known) if replaceable => {
                return wrong(
                    format!("{attribute} {name} again, as {number}"),
                    format!("it is {known}: one number for each name"),
                );
            }
            _ => {}
        }
        definition.values.add(name, number);
        Ok(())
    }
}

impl Values {
    fn add(&mut self, name: &str, number: u64) {
        let before = self.names.len();
        self.names.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        let replaced = self.names.len() < before;
        self.names.push((name.into(), number));
        if replaced {
            self.by_number.clear();
        }
        let from = if replaced { 0 } else { before };
        for (place, (_, number)) in self.names.iter().enumerate().skip(from) {
            match self.by_number.binary_search_by_key(number, |(known, _)| *known) {
                Ok(at) => {
                    if let Some(shown) = self.by_number.get_mut(at) {
                        shown.1 = place;
                    }
                }
                Err(at) => self.by_number.insert(at, (*number, place)),
            }
        }
    }
}

impl Dictionary {
    /// A name that stood for a place which another gets.
    fn forget(&mut self, name: &str, place: Place) {
        let lower = name.to_ascii_lowercase();
        if self.names.get(lower.as_str()) == Some(&AttributeId(place)) {
            self.names.remove(lower.as_str());
        }
    }

    fn put(&mut self, place: Place, number: u32, child: Place) {
        let Some(node) = self.nodes.get_mut(index(place)) else {
            return;
        };
        if number >= DENSE {
            node.sparse.insert(number, child);
            return;
        }
        let at = index(number);
        if node.dense.len() <= at {
            node.dense.resize(at + 1, TOP);
        }
        if let Some(slot) = node.dense.get_mut(at) {
            *slot = child;
        }
    }
}

fn index(place: Place) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
