//! One entry, laid out for answering: its attributes stand encoded, as they go onto the wire, beside the normal forms
//! of their values, by which filters match.
//!
//! Invariants: [`Entry::encoded`] holds whole PartialAttribute elements (RFC 4511 section 4.1.7), user attributes
//! first and then operational ones, so that "all user attributes" is one slice. An attribute's values and their forms
//! are in the same order. `userPassword` is never among the attributes: it is kept apart, in memory that is wiped, and
//! only [`Entry::passwords`] gives it.

use wire::ber;
use zeroize::Zeroizing;

use super::csn::Csn;
use super::rules::Part;
use super::schema::{Schema, Type, TypeId, has_options, split_description};

/// A place in the directory; entries keep theirs as long as they live.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct EntryId(pub(super) u32);

impl EntryId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One entry.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The name as written.
    pub(super) dn: Box<[u8]>,
    /// The name in normal form.
    pub(super) normal_dn: Box<[u8]>,
    /// `entryUUID`, as octets.
    pub(super) uuid: [u8; 16],
    /// `entryCSN`.
    pub(super) csn: Csn,
    encoded: Box<[u8]>,
    user_end: u32,
    forms: Box<[u8]>,
    /// The attributes' types, apart from them: looking for one attribute then touches two cache lines and not fifteen.
    kinds: Box<[TypeId]>,
    attributes: Box<[Attribute]>,
    /// How many of them are user attributes.
    user_count: u32,
    values: Box<[Span]>,
    passwords: Zeroizing<Vec<Vec<u8>>>,
}

/// Offsets into one of an entry's arenas.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// One attribute of an entry: a type with one set of options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    /// Its type.
    pub(super) kind: TypeId,
    /// The whole PartialAttribute in the entry's encoding.
    encoded: Span,
    /// The description inside it, for the options.
    description: Span,
    /// Its values, in the entry's list of forms.
    values: Span,
    has_options: bool,
}

impl Entry {
    /// The attributes, user attributes first.
    #[must_use]
    pub(super) fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The attributes of the types that `is_wanted` takes.
    pub(super) fn about(&self, is_wanted: impl Fn(TypeId) -> bool) -> impl Iterator<Item = &Attribute> {
        let all = self.kinds.iter().zip(&self.attributes);
        all.filter(move |(kind, _)| is_wanted(**kind))
            .map(|(_, attribute)| attribute)
    }

    /// The attributes, each with its type and whether it is operational.
    pub(super) fn listed(&self) -> impl Iterator<Item = (TypeId, bool, &Attribute)> {
        let all = self.kinds.iter().zip(&self.attributes).zip(0..);
        all.map(|((kind, attribute), at)| (*kind, at >= self.user_count, attribute))
    }

    /// All user attributes, encoded.
    #[must_use]
    pub(super) fn user_attributes(&self) -> &[u8] {
        self.encoded.get(..self.user_end as usize).unwrap_or_default()
    }

    /// One attribute, encoded.
    #[must_use]
    pub(super) fn encoded(&self, attribute: &Attribute) -> &[u8] {
        attribute.encoded.of(&self.encoded)
    }

    /// An attribute's description as it is shown, with its options.
    #[must_use]
    pub(super) fn description(&self, attribute: &Attribute) -> &[u8] {
        attribute.description.of(&self.encoded)
    }

    /// The normal forms of an attribute's values. An `objectClass` also has those of the superclasses, at the end.
    pub(super) fn forms(&self, attribute: &Attribute) -> impl Iterator<Item = &[u8]> {
        let values = self
            .values
            .get(attribute.values.start as usize..attribute.values.end as usize);
        values.unwrap_or_default().iter().map(|span| span.of(&self.forms))
    }

    /// An attribute's values as they are.
    pub(super) fn raw_values(&self, attribute: &Attribute) -> impl Iterator<Item = &[u8]> {
        let mut inside = ber::Reader::inside(self.encoded(attribute), ber::tag::SEQUENCE).ok();
        let set = inside.as_mut().and_then(|inside| {
            inside.take(ber::tag::OCTET_STRING).ok()?;
            inside.take(ber::tag::SET).ok()
        });
        let mut values = ber::Reader::new(set.unwrap_or_default());
        std::iter::from_fn(move || values.take(ber::tag::OCTET_STRING).ok())
    }

    /// What a test of this entry costs beyond one step: one more for each 16 values.
    pub(super) fn weight(&self) -> u64 {
        self.values.len() as u64 / 16
    }

    /// Whether an attribute has all these options (`;a;b`).
    #[must_use]
    pub(super) fn has_options(&self, attribute: &Attribute, wanted: &[u8]) -> bool {
        wanted.is_empty()
            || (attribute.has_options && has_options(split_description(self.description(attribute)).1, wanted))
    }

    /// Octets that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        // Names, encoded attributes and forms; and what stands around them.
        const AROUND: usize = 320;
        let values = self.values.len() * size_of::<Span>() + self.attributes.len() * size_of::<Attribute>();
        let passwords: usize = self.passwords.iter().map(Vec::len).sum();
        AROUND + self.dn.len() + self.normal_dn.len() + self.encoded.len() + self.forms.len() + values + passwords
    }

    /// The stored passwords. They go to [`crate::password::verify`] and nowhere else.
    #[must_use]
    pub(super) fn passwords(&self) -> &[Vec<u8>] {
        &self.passwords
    }
}

/// One attribute while an entry is put together.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: TypeId,
    /// Name and options, as shown.
    pub(super) description: String,
    pub(super) operational: bool,
    pub(super) values: Vec<Vec<u8>>,
    pub(super) forms: Vec<Vec<u8>>,
}

/// Lays an entry out.
///
/// # Errors
/// It is larger than offsets of 32 bits reach.
pub(super) fn build(
    dn: &[u8],
    normal_dn: &[u8],
    mut drafts: Vec<Draft>,
    passwords: Vec<Vec<u8>>,
) -> Result<Entry, std::num::TryFromIntError> {
    drafts.sort_by_key(|draft| draft.operational);
    let first = |kind| {
        drafts
            .iter()
            .find(|draft| draft.kind == kind)
            .and_then(|draft| draft.values.first())
    };
    let uuid = first(Schema::ENTRY_UUID)
        .and_then(|text| uuid_octets(text))
        .unwrap_or_default();
    let csn = first(Schema::ENTRY_CSN)
        .and_then(|text| Csn::parse(text))
        .unwrap_or_default();
    let mut encoded = Vec::new();
    let mut forms = Vec::new();
    let mut values = Vec::new();
    let mut attributes = Vec::new();
    let mut user_end = 0;
    let mut user_count = 0;
    for draft in &drafts {
        let start = encoded.len();
        let values_len = draft.values.iter().map(|value| ber::element_len(value.len())).sum();
        let name_len = draft.description.len();
        ber::write_header(
            &mut encoded,
            ber::tag::SEQUENCE,
            ber::element_len(name_len) + ber::element_len(values_len),
        );
        ber::write_bytes(&mut encoded, ber::tag::OCTET_STRING, draft.description.as_bytes());
        let name_end = encoded.len();
        ber::write_header(&mut encoded, ber::tag::SET, values_len);
        for value in &draft.values {
            ber::write_bytes(&mut encoded, ber::tag::OCTET_STRING, value);
        }
        let first_value = values.len();
        for form in &draft.forms {
            values.push(span(forms.len(), forms.len() + form.len())?);
            forms.extend_from_slice(form);
        }
        attributes.push(Attribute {
            kind: draft.kind,
            encoded: span(start, encoded.len())?,
            description: span(name_end - name_len, name_end)?,
            values: span(first_value, values.len())?,
            has_options: draft.description.contains(';'),
        });
        if !draft.operational {
            user_end = encoded.len();
            user_count += 1;
        }
    }
    Ok(Entry {
        dn: dn.into(),
        normal_dn: normal_dn.into(),
        uuid,
        csn,
        encoded: encoded.into(),
        user_end: u32::try_from(user_end)?,
        forms: forms.into(),
        kinds: drafts.iter().map(|draft| draft.kind).collect(),
        attributes: attributes.into(),
        user_count,
        values: values.into(),
        passwords: Zeroizing::new(passwords),
    })
}

fn span(start: usize, end: usize) -> Result<Span, std::num::TryFromIntError> {
    Ok(Span {
        start: u32::try_from(start)?,
        end: u32::try_from(end)?,
    })
}

/// Adds an attribute that the directory makes itself. The value is of the type's syntax, so it has a form.
pub(super) fn push_made(drafts: &mut Vec<Draft>, schema: &Schema, name: &str, values: Vec<Vec<u8>>) {
    let Some(kind) = schema.find(name.as_bytes()) else {
        return;
    };
    let operational = schema.get(kind).is_some_and(Type::is_operational);
    let form = |value: &Vec<u8>| {
        let mut form = Vec::new();
        let made = schema.normalize(kind, value, Part::Whole, &mut form);
        debug_assert!(made.is_ok(), "{name} has a value of its syntax");
        form
    };
    let forms = values.iter().map(form).collect();
    drafts.push(Draft {
        kind,
        description: name.to_owned(),
        operational,
        values,
        forms,
    });
}

/// A UUID's octets, from its text.
pub(super) fn uuid_octets(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    let mut digit = || char::from(*digits.next()?).to_digit(16);
    let mut octets = [0; 16];
    for octet in &mut octets {
        *octet = u8::try_from(digit()? << 4 | digit()?).ok()?;
    }
    digits.next().is_none().then_some(octets)
}

/// A UUID as text.
pub(super) fn uuid_text(octets: &[u8; 16]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(36);
    for (at, octet) in octets.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}
