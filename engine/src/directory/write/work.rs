//! An entry taken apart, to be changed and put together again.

use wire::ldap::dn;
use wire::ldap::result::code;
use zeroize::Zeroize as _;

use super::super::csn::Csn;
use super::super::entry::{self, Draft, Entry};
use super::super::load::{add_superclasses, ordered_options};
use super::super::rules::{Part, Rule};
use super::super::schema::{Schema, Type, TypeId, split_description};
use super::super::time;
use super::{Refusal, Who};

/// See the module. `userPassword` is an attribute like others here, and only here.
pub(super) struct Work {
    pub(super) dn: Vec<u8>,
    pub(super) normal_dn: Vec<u8>,
    pub(super) drafts: Vec<Draft>,
}

impl Drop for Work {
    fn drop(&mut self) {
        for draft in self.drafts.iter_mut().filter(|d| d.kind == Schema::USER_PASSWORD) {
            draft.values.zeroize();
            draft.forms.zeroize();
        }
    }
}

/// An attribute description that a request names.
pub(super) struct Described<'s> {
    pub(super) kind: TypeId,
    pub(super) known: &'s Type,
    /// Name and options as they are shown.
    pub(super) description: String,
}

/// What an attribute description names; an operational one that only the server writes is refused.
pub(super) fn describe<'s>(schema: &'s Schema, description: &[u8]) -> Result<Described<'s>, Refusal> {
    let (name, options) = split_description(description);
    let found = schema.find(name).and_then(|kind| Some((kind, schema.get(kind)?)));
    let Some((kind, known)) = found else {
        let why = "no such attribute type is known here";
        return Err(Refusal::new(code::UNDEFINED_ATTRIBUTE_TYPE, why));
    };
    if is_the_servers(&known.name) {
        return Err(Refusal::new(code::CONSTRAINT_VIOLATION, "no user modification allowed"));
    }
    Ok(Described {
        kind,
        known,
        description: format!("{}{}", known.name, ordered_options(options)),
    })
}

/// Attributes without user modification (RFC 4512 section 3.4, and slapd's).
fn is_the_servers(name: &str) -> bool {
    matches!(
        name,
        "entryUUID"
            | "entryCSN"
            | "entryDN"
            | "contextCSN"
            | "createTimestamp"
            | "modifyTimestamp"
            | "creatorsName"
            | "modifiersName"
            | "hasSubordinates"
            | "subschemaSubentry"
            | "structuralObjectClass"
    )
}

/// Values, and their normal forms.
type Values = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The values of a request and their normal forms; the same one twice is refused.
pub(super) fn read_values<'v>(
    schema: &Schema,
    of: &Described<'_>,
    values: impl Iterator<Item = &'v [u8]>,
) -> Result<Values, Refusal> {
    let (mut all, mut forms) = Values::default();
    for value in values {
        let mut form = Vec::new();
        if schema.normalize(of.kind, value, Part::Whole, &mut form).is_err() {
            let why = "a value is not of the attribute's syntax";
            return Err(Refusal::new(code::INVALID_ATTRIBUTE_SYNTAX, why));
        }
        all.push(value.to_vec());
        forms.push(form);
    }
    let mut sorted: Vec<&Vec<u8>> = forms.iter().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Refusal::new(code::ATTRIBUTE_OR_VALUE_EXISTS, "a value is given twice"));
    }
    Ok((all, forms))
}

impl Work {
    /// A new entry.
    pub(super) fn new(dn: Vec<u8>, normal_dn: Vec<u8>) -> Self {
        Self {
            dn,
            normal_dn,
            drafts: Vec::new(),
        }
    }

    /// An entry that is there.
    pub(super) fn of(schema: &Schema, entry: &Entry) -> Self {
        let mut work = Self::new(entry.dn.to_vec(), entry.normal_dn.to_vec());
        for (kind, operational, attribute) in entry.listed() {
            let values: Vec<Vec<u8>> = entry.raw_values(attribute).map(<[u8]>::to_vec).collect();
            // Those of superclasses stand behind the values' own.
            let forms = entry.forms(attribute).take(values.len()).map(<[u8]>::to_vec);
            work.drafts.push(Draft {
                kind,
                description: String::from_utf8_lossy(entry.description(attribute)).into_owned(),
                operational,
                forms: forms.collect(),
                values,
            });
        }
        if !entry.passwords().is_empty() {
            let name = schema.get(Schema::USER_PASSWORD).map(|known| known.name.to_string());
            work.drafts.push(Draft {
                kind: Schema::USER_PASSWORD,
                description: name.unwrap_or_default(),
                operational: false,
                values: entry.passwords().to_vec(),
                forms: entry.passwords().to_vec(),
            });
        }
        work
    }

    /// Puts it together.
    pub(super) fn build(mut self, schema: &Schema) -> Result<Entry, Refusal> {
        let mut passwords = Vec::new();
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.retain_mut(|draft| {
            if draft.kind == Schema::USER_PASSWORD {
                passwords.append(&mut draft.values);
                draft.forms.zeroize();
            } else if draft.kind == Schema::OBJECT_CLASS {
                add_superclasses(schema, draft);
            }
            draft.kind != Schema::USER_PASSWORD && !draft.values.is_empty()
        });
        entry::build(&self.dn, &self.normal_dn, drafts, passwords)
            .map_err(|_| Refusal::new(code::ADMIN_LIMIT_EXCEEDED, "the entry would be larger than 4 GiB"))
    }

    pub(super) fn draft(&mut self, of: &Described<'_>) -> Option<&mut Draft> {
        let same = |draft: &&mut Draft| draft.kind == of.kind && draft.description == of.description;
        self.drafts.iter_mut().find(same)
    }

    /// Changes the attribute; it is made, without values, where it is not there.
    pub(super) fn edit<R>(&mut self, of: &Described<'_>, change: impl FnOnce(&mut Draft) -> R) -> R {
        if let Some(draft) = self.draft(of) {
            return change(draft);
        }
        let mut draft = Draft {
            kind: of.kind,
            description: of.description.clone(),
            operational: of.known.is_operational(),
            values: Vec::new(),
            forms: Vec::new(),
        };
        let result = change(&mut draft);
        self.drafts.push(draft);
        result
    }

    /// Sets an attribute that the server makes.
    pub(super) fn set(&mut self, schema: &Schema, name: &str, value: &[u8]) {
        let kind = schema.find(name.as_bytes());
        self.drafts.retain(|draft| Some(draft.kind) != kind);
        entry::push_made(&mut self.drafts, schema, name, vec![value.to_vec()]);
    }

    /// What a change leaves behind on the entry.
    pub(super) fn stamp(&mut self, schema: &Schema, who: &Who, csn: Csn) {
        self.set(schema, "entryCSN", csn.text().as_bytes());
        self.set(schema, "modifyTimestamp", time::format(csn.unix_seconds()).as_bytes());
        self.set(schema, "modifiersName", &who.dn);
    }

    /// What can be told without knowing what classes demand.
    pub(super) fn check(&self, schema: &Schema) -> Result<(), Refusal> {
        for draft in &self.drafts {
            let single = schema.get(draft.kind).is_some_and(Type::is_single_valued);
            if single && draft.values.len() > 1 {
                let why = "more than one value of a single-valued attribute";
                return Err(Refusal::new(code::CONSTRAINT_VIOLATION, why));
            }
        }
        let has_class = |draft: &Draft| draft.kind == Schema::OBJECT_CLASS && !draft.values.is_empty();
        if !self.drafts.iter().any(has_class) {
            return Err(Refusal::new(code::OBJECT_CLASS_VIOLATION, "no objectClass attribute"));
        }
        Ok(())
    }

    /// The structural class, by its canonical name; `None` where a class is not known, so that nobody can tell.
    pub(super) fn structural(&self, schema: &Schema) -> Result<Option<&'static str>, Refusal> {
        let classes = self.drafts.iter().find(|draft| draft.kind == Schema::OBJECT_CLASS);
        let mut lowest: Option<&'static str> = None;
        for class in classes.iter().flat_map(|draft| &draft.values) {
            let Some((name, is_structural)) = schema.class_kind(class) else {
                return Ok(None);
            };
            if !is_structural {
                continue;
            }
            let derived = |from: &str, of: &str| {
                from.eq_ignore_ascii_case(of)
                    || schema.superclasses(from.as_bytes()).any(|s| s.eq_ignore_ascii_case(of))
            };
            lowest = match lowest {
                None => Some(name),
                Some(other) if derived(other, name) => Some(other),
                Some(other) if derived(name, other) => Some(name),
                Some(_) => {
                    let why = "invalid structural object class chain";
                    return Err(Refusal::new(code::OBJECT_CLASS_VIOLATION, why));
                }
            };
        }
        match lowest {
            Some(name) => Ok(Some(name)),
            None => Err(Refusal::new(
                code::OBJECT_CLASS_VIOLATION,
                "no structural object class provided",
            )),
        }
    }

    /// Whether the attributes have the values that the name gives them.
    pub(super) fn is_named_right(&self, schema: &Schema) -> bool {
        dn::avas(&self.dn)
            .map_while(Result::ok)
            .scan(false, |ended, ava| {
                (!std::mem::replace(ended, ava.ends_rdn)).then_some(ava)
            })
            .all(|ava| {
                let Some(kind) = schema.find(ava.attribute) else {
                    return false;
                };
                let mut form = Vec::new();
                let named = schema
                    .normalize(kind, &ava.value.bytes(), Part::Whole, &mut form)
                    .is_ok();
                let has = |draft: &Draft| draft.kind == kind && draft.forms.contains(&form);
                named && self.drafts.iter().any(has)
            })
    }
}

/// Whether values of this type can be told apart.
pub(super) fn has_equality(known: &Type) -> bool {
    known.rule != Rule::None
}
