//! Which attribute types there are, what they are called, and by which rules their values match.
//!
//! The built-in table covers what directories of people hold. A type that a file uses and the table does not know is
//! taken in when it is loaded, as a case-ignoring string with ordering and substrings; a type that neither knows is
//! unknown, and a filter about it is Undefined (RFC 4511 section 4.5.1.7).
//!
//! Invariant: a [`TypeId`] is valid for the schema that gave it, for good; types are added, never removed.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use wire::ldap::dn;

use super::rules::{BadValue, Part, Rule};

mod table;

/// An attribute type of one [`Schema`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct TypeId(u32);

/// What is known about one attribute type.
#[derive(Clone, Debug)]
pub(super) struct Type {
    /// The name it is shown by.
    pub(super) name: Box<str>,
    /// How its values match.
    pub(super) rule: Rule,
    /// The type it is derived from.
    superior: Option<TypeId>,
    /// Whether types are derived from it.
    has_subtypes: bool,
    flags: u8,
    built_in: bool,
}

impl Type {
    /// Whether `<=` and `>=` are defined.
    #[must_use]
    pub(super) fn is_ordered(&self) -> bool {
        self.flags & table::ORDERED != 0
    }

    /// Whether substrings are.
    #[must_use]
    pub(super) fn has_substrings(&self) -> bool {
        self.flags & table::SUBSTRINGS != 0
    }

    /// Whether an entry may have one value only.
    #[must_use]
    pub(super) fn is_single_valued(&self) -> bool {
        self.flags & table::SINGLE != 0
    }

    /// Whether it is returned only when asked for.
    #[must_use]
    pub(super) fn is_operational(&self) -> bool {
        self.flags & table::OPERATIONAL != 0
    }

    /// Whether the built-in table knows it, so that its syntax is sure.
    #[must_use]
    pub(super) fn is_built_in(&self) -> bool {
        self.built_in
    }

    /// Whether other types are derived from it.
    #[must_use]
    pub(super) fn has_subtypes(&self) -> bool {
        self.has_subtypes
    }
}

/// All attribute types that one directory knows.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    types: Vec<Type>,
    /// By lower-case name and by OID.
    by_name: HashMap<Box<[u8]>, TypeId, FixedState>,
    /// Lower-case class name or OID: place in the table of classes.
    classes: HashMap<&'static [u8], &'static table::Class>,
    /// Names of classes, in lower case, that the file uses and the table does not know.
    learned: HashSet<Box<[u8]>>,
    /// Which types that the table does not know are integers.
    is_number: fn(&str) -> bool,
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

impl Schema {
    /// `objectClass`
    pub(super) const OBJECT_CLASS: TypeId = TypeId(0);
    /// `entryUUID`
    pub(super) const ENTRY_UUID: TypeId = TypeId(1);
    /// `entryCSN`
    pub(super) const ENTRY_CSN: TypeId = TypeId(2);
    /// `userPassword`
    pub(super) const USER_PASSWORD: TypeId = TypeId(3);

    /// The built-in types.
    #[must_use]
    pub(super) fn new() -> Self {
        let mut schema = Self {
            types: Vec::new(),
            by_name: HashMap::default(),
            classes: HashMap::new(),
            learned: HashSet::new(),
            is_number: |_| false,
        };
        for known in table::ATTRIBUTES {
            let superior = schema.find(known.superior.as_bytes());
            if let Some(superior) = superior.and_then(|id| schema.types.get_mut(id.index())) {
                superior.has_subtypes = true;
            }
            let name = known.names.first().copied().unwrap_or(known.oid);
            let id = schema.push(Type {
                name: name.into(),
                rule: known.rule,
                superior,
                has_subtypes: false,
                flags: known.flags,
                built_in: true,
            });
            for name in known.names.iter().chain([&known.oid]) {
                schema.by_name.insert(name.to_ascii_lowercase().into_bytes().into(), id);
            }
        }
        for class in table::CLASSES {
            schema.classes.insert(class.name.as_bytes(), class);
            schema.classes.insert(class.oid.as_bytes(), class);
        }
        schema
    }

    /// The type with this name or OID, in any case.
    #[must_use]
    pub(super) fn find(&self, name: &[u8]) -> Option<TypeId> {
        const NAME_BYTES_MAX: usize = 64;
        let mut lower = [0; NAME_BYTES_MAX];
        let Some(place) = lower.get_mut(..name.len()) else {
            return self.by_name.get(name.to_ascii_lowercase().as_slice()).copied();
        };
        place.copy_from_slice(name);
        place.make_ascii_lowercase();
        self.by_name.get(&*place).copied()
    }

    /// The same, with a word on which types that are not built in are integers.
    #[must_use]
    pub(super) fn with_numbers(is_number: fn(&str) -> bool) -> Self {
        Self {
            is_number,
            ..Self::new()
        }
    }

    /// The type with this name, taken in as a case-ignoring string, or a number, where it is new.
    pub(super) fn find_or_add(&mut self, name: &str) -> TypeId {
        if let Some(id) = self.find(name.as_bytes()) {
            return id;
        }
        let (rule, flags) = if (self.is_number)(name) {
            (Rule::Integer, table::ORDERED)
        } else {
            (Rule::CaseIgnore, table::ORDERED | table::SUBSTRINGS)
        };
        let id = self.push(Type {
            name: name.into(),
            rule,
            superior: None,
            has_subtypes: false,
            flags,
            built_in: false,
        });
        self.by_name.insert(name.to_ascii_lowercase().into_bytes().into(), id);
        id
    }

    /// What is known about a type of this schema.
    #[must_use]
    pub(super) fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id.index())
    }

    /// Whether `id` is `of`, or derived from it.
    #[must_use]
    pub(super) fn is_a(&self, id: TypeId, of: TypeId) -> bool {
        let mut at = Some(id);
        // Superiors stand before their subtypes, so this ends.
        while let Some(id) = at {
            if id == of {
                return true;
            }
            at = self.get(id).and_then(|t| t.superior);
        }
        false
    }

    /// Appends the normal form of a value of this type. For a type that is not built in, any value has one.
    ///
    /// # Errors
    /// The value is not of the type's syntax.
    pub(super) fn normalize(&self, id: TypeId, value: &[u8], part: Part, out: &mut Vec<u8>) -> Result<(), BadValue> {
        let Some(known) = self.get(id) else {
            return Err(BadValue("a value of a known type"));
        };
        let start = out.len();
        match known.rule.normalize(self, value, part, out) {
            Err(_) if !known.built_in => {
                out.truncate(start);
                out.extend_from_slice(value);
                Ok(())
            }
            result => result,
        }
    }

    /// Takes in the name of a class, so that it is known from now on.
    pub(super) fn learn_identifier(&mut self, name: &[u8]) {
        self.learned.insert(name.trim_ascii().to_ascii_lowercase().into());
    }

    /// Appends the one form of an attribute's, class's or any other object identifier. A name that nobody knows has none
    /// (RFC 4517 section 4.2.26: it might be another name of one that is known); an OID always has.
    pub(super) fn canonical_identifier(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
        let value = value.trim_ascii();
        if let Some(class) = self.class(value) {
            out.extend(class.name.bytes().map(|b| b.to_ascii_lowercase()));
            return Ok(());
        }
        if let Some(known) = self.find(value).and_then(|id| self.get(id)) {
            out.extend(known.name.bytes().map(|b| b.to_ascii_lowercase()));
            return Ok(());
        }
        let lower = value.to_ascii_lowercase();
        let is_oid = wire::ldap::control::is_numeric_oid(value);
        let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let is_known_name = value.iter().all(legal) && self.learned.contains(lower.as_slice());
        if !is_oid && !is_known_name {
            return Err(BadValue("a name or OID, as in `inetOrgPerson`"));
        }
        out.extend_from_slice(&lower);
        Ok(())
    }

    /// The classes that `class` is derived from, nearest first, in the form in which `objectClass` values match
    /// (RFC 4512 section 3.3: an entry belongs to the superclasses of its classes as well).
    pub(super) fn superclasses(&self, class: &[u8]) -> impl Iterator<Item = String> + '_ {
        let first = self
            .class(class)
            .and_then(|class| self.class(class.superior.as_bytes()));
        std::iter::successors(first, |class| self.class(class.superior.as_bytes())).map(|c| c.name.to_ascii_lowercase())
    }

    /// A built-in class's name, and whether it is structural (RFC 4512 section 2.4.2).
    pub(super) fn class_kind(&self, class: &[u8]) -> Option<(&'static str, bool)> {
        self.class(class.trim_ascii())
            .map(|class| (class.name, class.kind == "STRUCTURAL"))
    }

    /// The built-in attribute types as RFC 4512 descriptions.
    pub(super) fn attribute_descriptions() -> impl Iterator<Item = String> {
        table::ATTRIBUTES.iter().map(|known| {
            let quoted: Vec<_> = known.names.iter().map(|name| format!("'{name}'")).collect();
            let names = if quoted.len() == 1 {
                quoted.concat()
            } else {
                format!("( {} )", quoted.join(" "))
            };
            let mut text = format!("( {} NAME {names}", known.oid);
            if !known.superior.is_empty() {
                text += &format!(" SUP {}", known.superior);
            }
            let (equality, syntax) = known.rule.published();
            if let Some(equality) = equality {
                text += &format!(" EQUALITY {equality}");
                if known.flags & table::ORDERED != 0 {
                    text += &format!(" ORDERING {}OrderingMatch", equality.trim_end_matches("Match"));
                }
                if known.flags & table::SUBSTRINGS != 0 {
                    text += &format!(" SUBSTR {}SubstringsMatch", equality.trim_end_matches("Match"));
                }
            }
            text += &format!(" SYNTAX {syntax}");
            if known.flags & table::SINGLE != 0 {
                text += " SINGLE-VALUE";
            }
            if known.flags & table::OPERATIONAL != 0 {
                text += " USAGE directoryOperation";
            }
            text + " )"
        })
    }

    /// The built-in object classes as RFC 4512 descriptions (without what they must and may hold).
    pub(super) fn class_descriptions() -> impl Iterator<Item = String> {
        table::CLASSES.iter().map(|class| {
            let superior = if class.superior.is_empty() {
                String::new()
            } else {
                format!(" SUP {}", class.superior)
            };
            format!("( {} NAME '{}'{superior} {} )", class.oid, class.name, class.kind)
        })
    }

    fn class(&self, name: &[u8]) -> Option<&'static table::Class> {
        match self.classes.get(name) {
            Some(class) => Some(class),
            None => table::CLASSES
                .iter()
                .find(|class| class.name.as_bytes().eq_ignore_ascii_case(name)),
        }
    }

    fn push(&mut self, new: Type) -> TypeId {
        // More types than u32 would need a file of more than 4 billion lines.
        let id = TypeId(u32::try_from(self.types.len()).unwrap_or(u32::MAX));
        self.types.push(new);
        id
    }
}

impl TypeId {
    fn index(self) -> usize {
        self.0 as usize
    }

    /// For hashing.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

impl dn::Rules for Schema {
    fn attribute(&self, name: &[u8], out: &mut Vec<u8>) {
        match self.find(name).and_then(|id| self.get(id)) {
            Some(known) => out.extend(known.name.bytes().map(|b| b.to_ascii_lowercase())),
            None => out.extend(name.iter().map(u8::to_ascii_lowercase)),
        }
    }

    fn value(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let rule = self
            .find(name)
            .and_then(|id| self.get(id))
            .map_or(Rule::CaseIgnore, |t| t.rule);
        // A name inside a name could nest without end; it is compared as it stands.
        let rule = if matches!(rule, Rule::DistinguishedName | Rule::UniqueMember) {
            Rule::CaseIgnore
        } else {
            rule
        };
        let start = out.len();
        if rule.normalize(self, value, Part::Whole, out).is_err() {
            out.truncate(start);
            out.extend_from_slice(value);
        }
    }
}

/// An attribute description taken apart: the name or OID, and the options behind it, `;` first.
#[must_use]
pub(super) fn split_description(description: &[u8]) -> (&[u8], &[u8]) {
    let at = description.iter().position(|b| *b == b';').unwrap_or(description.len());
    description.split_at_checked(at).unwrap_or((description, b""))
}

/// Whether the options `has` (as `;a;b`, in any case and order) contain all of `wanted`.
#[must_use]
pub(super) fn has_options(has: &[u8], wanted: &[u8]) -> bool {
    let all = |options| <[u8]>::split(options, |b| *b == b';').filter(|option| !option.is_empty());
    all(wanted).all(|wanted| all(has).any(|option| option.eq_ignore_ascii_case(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_oids_are_one_type() {
        let schema = Schema::new();
        let cn = schema.find(b"cn");
        assert!(cn.is_some());
        assert_eq!(schema.find(b"COMMONNAME"), cn);
        assert_eq!(schema.find(b"2.5.4.3"), cn);
        for (name, id) in [
            ("objectclass", Schema::OBJECT_CLASS),
            ("entryUUID", Schema::ENTRY_UUID),
            ("entryCSN", Schema::ENTRY_CSN),
            ("userPassword", Schema::USER_PASSWORD),
        ] {
            assert_eq!(schema.find(name.as_bytes()), Some(id));
        }
        assert!(schema.is_a(cn.unwrap(), schema.find(b"name").unwrap()));
        assert!(!schema.is_a(schema.find(b"name").unwrap(), cn.unwrap()));
        assert_eq!(schema.find(&b"x".repeat(1000)), None);
    }

    #[test]
    fn the_table_is_sound() {
        let mut seen = HashSet::new();
        for known in table::ATTRIBUTES {
            assert!(
                known.superior.is_empty() || seen.contains(&known.superior),
                "{} before its superior",
                known.oid
            );
            assert!(seen.insert(known.oid), "{} twice", known.oid);
            for name in known.names {
                assert!(seen.insert(name), "{name} twice");
            }
        }
        for class in table::CLASSES {
            let superior = table::CLASSES.iter().any(|c| c.name == class.superior);
            assert!(class.superior.is_empty() || superior, "{}", class.name);
        }
    }

    #[test]
    fn a_person_is_what_its_class_is_derived_from() {
        let all: Vec<_> = Schema::new().superclasses(b"inetOrgPerson").collect();
        assert_eq!(all, ["organizationalperson", "person", "top"]);
        assert_eq!(Schema::new().superclasses(b"unheardOf").count(), 0);
    }

    #[test]
    fn options_are_a_set() {
        assert!(has_options(b";lang-de;x-a", b";X-A") && has_options(b"", b"") && has_options(b";binary", b""));
        assert!(!has_options(b";lang-de", b";lang-en") && !has_options(b"", b";lang-en"));
        assert_eq!(split_description(b"cn;lang-de"), (&b"cn"[..], &b";lang-de"[..]));
    }
}
