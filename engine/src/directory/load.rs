//! From an LDIF file to a [`Directory`]: everything that a person can get wrong in it is found here, and said with its
//! line; what is answered later needs no check any more.
//!
//! What must hold: one suffix (the base given, or else the entry with the shortest name), every other entry below it
//! and with its parent in the file (in any order); no name twice, no value twice; every value of its attribute's
//! syntax; single-valued attributes with one value; an `objectClass`; the naming attributes among the attributes.
//! Object classes' lists of what must and may be there are not checked.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sha1::{Digest as _, Sha1};
use wire::ldap::dn;
use wire::ldif::{Content, Field, LdifError, Reader};

use super::csn::Csn;
use super::entry::{self, Draft, EntryId, push_made};
use super::export::Mark;
use super::index::Index;
use super::layers::Layers;
use super::log::Log;
use super::rules::{Part, Rule};
use super::schema::{Schema, split_description};
use super::{CHANGES_MAX, Directory, Node, Trust, root, time};

/// Why a file does not become a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadError {
    /// The file's name as it was given.
    pub file: String,
    /// The line to look at, from 1; none when the file as a whole is at fault.
    pub line: Option<usize>,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": found {}; expected {}", self.found, self.expected)
    }
}

impl std::error::Error for LoadError {}

/// See [`Directory::load`].
pub(super) fn load(
    ldif: &[u8],
    file_name: &str,
    base: Option<&str>,
    loaded_at_micros: u64,
    is_number: fn(&str) -> bool,
) -> Result<Directory, LoadError> {
    let schema = Schema::with_numbers(is_number);
    build(schema, ldif, base, loaded_at_micros).map_err(|error| LoadError {
        file: file_name.to_owned(),
        line: (error.line > 0).then_some(error.line),
        found: error.found,
        expected: error.expected,
    })
}

/// A name in the file.
struct Name<'a> {
    line: usize,
    dn: Cow<'a, [u8]>,
    normal_dn: Vec<u8>,
}

/// An entry being read.
struct Pending<'n, 'a> {
    name: &'n Name<'a>,
    drafts: Vec<Draft>,
    passwords: Vec<Vec<u8>>,
}

/// Values that an entry has, about: for the size of the index.
const VALUES_OF_AN_ENTRY: usize = 16;

// The file is read twice: first the names, because an entry says whether it has children, then entry by entry, so that
// only one is in memory in a form other than its last.
fn build(mut schema: Schema, ldif: &[u8], base: Option<&str>, loaded_at_micros: u64) -> Result<Directory, LdifError> {
    let names = read_names(&schema, ldif)?;
    let suffix = suffix(&schema, base, &names)?;
    let parents = parents(&names, suffix)?;
    let mut children: Vec<Vec<EntryId>> = names.iter().map(|_| Vec::new()).collect();
    for (at, parent) in parents.iter().enumerate() {
        if let Some(siblings) = parent.and_then(|parent| children.get_mut(parent)) {
            siblings.push(id(at)?);
        }
    }
    // Only what was ended in order tells all that had been done; after anything else no older cookie is believed, and
    // every entry counts as changed: a consumer may have seen a newer one that was lost.
    let clean = Mark::read(ldif).filter(|mark| mark.clean);
    let mut made = Made {
        loaded_at: time::format(loaded_at_micros / 1_000_000),
        csn: Csn::at(loaded_at_micros),
        keep_csn: clean.is_some(),
    };
    let mut nodes: Layers<Option<Node>> = Layers::default();
    let mut suffix_id = EntryId(0);
    let mut bytes = 0;
    let tree = names.iter().zip(children.into_iter().zip(parents));
    for ((at, record), (name, (children, parent))) in Reader::new(ldif).enumerate().zip(tree) {
        let (Content::Entry(fields) | Content::Add(fields)) = record?.content else {
            continue;
        };
        let mut new = read_entry(&mut schema, name, &fields)?;
        add_made(&mut new, &schema, &mut made, !children.is_empty());
        let entry = entry::build(&name.dn, &name.normal_dn, new.drafts, new.passwords)
            .map_err(|_| error(name.line, "an entry of more than 4 GiB", "less"))?;
        bytes += entry.bytes();
        if parent.is_none() {
            suffix_id = id(at)?;
        }
        nodes.push(Some(Node {
            entry: Arc::new(entry),
            parent: parent.map(id).transpose()?,
            children: children.into(),
        }));
    }
    // Not while the entries are made: what is looked at together, one entry after the other, is to lie together.
    let mut index = Index::new(names.len().saturating_mul(VALUES_OF_AN_ENTRY));
    for (at, node) in nodes.iter().enumerate() {
        if let Some(node) = node {
            index.add(id(at)?, &node.entry);
        }
    }
    let of_entries = nodes
        .iter()
        .flatten()
        .map(|node| node.entry.csn)
        .max()
        .unwrap_or_default();
    let start = of_entries.max(made.csn).next(0);
    let newest = clean.map_or(start, |mark| mark.newest.max(of_entries));
    let trust = Trust {
        before: clean.map(|mark| (mark.floor, newest)),
        start: start.max(newest),
    };
    Ok(Directory {
        root_dse: Arc::new(root::root_dse(&schema, &suffix.dn, false)),
        subschema: Arc::new(root::subschema(&schema, &made.loaded_at)),
        schema: Arc::new(schema),
        entries: nodes.len(),
        nodes,
        free: Arc::default(),
        bytes,
        suffix: suffix_id,
        index,
        unknown_passwords: Arc::new(AtomicU64::new(0)),
        writing: None,
        log: Log::new(newest, CHANGES_MAX),
        trust,
    })
}

fn id(at: usize) -> Result<EntryId, LdifError> {
    u32::try_from(at)
        .map(EntryId)
        .map_err(|_| error(0, "too many entries", "fewer than 2^32"))
}

fn read_names<'a>(schema: &Schema, ldif: &'a [u8]) -> Result<Vec<Name<'a>>, LdifError> {
    let mut names = Vec::new();
    let mut lines = HashMap::new();
    for record in Reader::new(ldif) {
        let record = record?;
        if !matches!(record.content, Content::Entry(_) | Content::Add(_)) {
            let found = format!("a change of `{}`", text(&record.dn));
            return Err(error(
                record.line,
                found,
                "entries only, perhaps with `changetype: add`",
            ));
        }
        let name = read_name(schema, record.line, record.dn)?;
        if let Some(first) = lines.insert(name.normal_dn.clone(), name.line) {
            let found = format!("`{}` again, first in line {first}", text(&name.dn));
            return Err(error(name.line, found, "every name once"));
        }
        names.push(name);
    }
    Ok(names)
}

fn read_name<'a>(schema: &Schema, line: usize, dn: Cow<'a, [u8]>) -> Result<Name<'a>, LdifError> {
    let mut normal_dn = Vec::new();
    if let Err(e) = dn::normalize(&dn, schema, &mut normal_dn) {
        let found = format!("`dn: {}`, which is no name: {e}", text(&dn));
        return Err(error(line, found, "a distinguished name (RFC 4514)"));
    }
    if normal_dn.is_empty() {
        return Err(error(
            line,
            "an entry with an empty name",
            "a name; the root DSE is made by the server",
        ));
    }
    Ok(Name { line, dn, normal_dn })
}

fn read_entry<'n, 'a>(
    schema: &mut Schema,
    name: &'n Name<'a>,
    fields: &[Field<'_>],
) -> Result<Pending<'n, 'a>, LdifError> {
    let mut new = Pending {
        name,
        drafts: Vec::new(),
        passwords: Vec::new(),
    };
    let mut seen = HashSet::new();
    for field in fields {
        read_field(schema, &mut new, &mut seen, field)?;
    }
    let Some(classes) = new.drafts.iter_mut().find(|draft| draft.kind == Schema::OBJECT_CLASS) else {
        return Err(error(
            name.line,
            format!("`{}` without objectClass", text(&name.dn)),
            "at least one `objectClass:`",
        ));
    };
    add_superclasses(schema, classes);
    check_naming(schema, &new)?;
    Ok(new)
}

/// An entry belongs to the superclasses of its classes, too: their forms stand behind those of the values.
pub(super) fn add_superclasses(schema: &Schema, classes: &mut Draft) {
    for class in &classes.values {
        for superior in schema.superclasses(class) {
            if !classes.forms.iter().any(|form| form == superior.as_bytes()) {
                classes.forms.push(superior.into_bytes());
            }
        }
    }
}

fn read_field(
    schema: &mut Schema,
    new: &mut Pending<'_, '_>,
    seen: &mut HashSet<(usize, Vec<u8>)>,
    field: &Field<'_>,
) -> Result<(), LdifError> {
    let (name, options) = split_description(field.attribute.as_bytes());
    let kind = schema.find_or_add(std::str::from_utf8(name).unwrap_or_default());
    if schema
        .get(kind)
        .is_some_and(|known| known.rule == Rule::ObjectIdentifier)
    {
        schema.learn_identifier(&field.value);
    }
    let Some(known) = schema.get(kind) else { return Ok(()) };
    match &*known.name {
        "userPassword" => {
            new.passwords.push(field.value.to_vec());
            return Ok(());
        }
        // What the directory knows better than the file.
        "entryDN" | "hasSubordinates" | "subschemaSubentry" => return Ok(()),
        _ => {}
    }
    let description = format!("{}{}", known.name, ordered_options(options));
    let mut form = Vec::new();
    schema
        .normalize(kind, &field.value, Part::Whole, &mut form)
        .map_err(|bad| {
            error(
                field.line,
                format!("`{}: {}`", field.attribute, text(&field.value)),
                bad.0,
            )
        })?;
    let at = new
        .drafts
        .iter()
        .position(|draft| draft.kind == kind && draft.description == description);
    let at = at.unwrap_or_else(|| {
        let operational = known.is_operational();
        new.drafts.push(Draft {
            kind,
            description,
            operational,
            values: Vec::new(),
            forms: Vec::new(),
        });
        new.drafts.len() - 1
    });
    let Some(draft) = new.drafts.get_mut(at) else {
        return Ok(());
    };
    if known.is_single_valued() && !draft.values.is_empty() {
        return Err(error(
            field.line,
            format!("a second value of `{}`", field.attribute),
            "one value",
        ));
    }
    // The rule of an unknown attribute is a guess, so only the very same value counts as a repetition.
    let identity = if known.is_built_in() {
        form.clone()
    } else {
        field.value.to_vec()
    };
    if !seen.insert((at, identity)) {
        let found = format!("`{}: {}` a second time", field.attribute, text(&field.value));
        return Err(error(field.line, found, "every value of an attribute once"));
    }
    draft.values.push(field.value.to_vec());
    draft.forms.push(form);
    Ok(())
}

/// `;a;b` in lower case and in order.
pub(super) fn ordered_options(options: &[u8]) -> String {
    let text = String::from_utf8_lossy(options).to_ascii_lowercase();
    let mut all: Vec<_> = text.split(';').filter(|option| !option.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.iter().map(|option| format!(";{option}")).collect()
}

fn check_naming(schema: &Schema, new: &Pending<'_, '_>) -> Result<(), LdifError> {
    for ava in dn::avas(&new.name.dn) {
        let Ok(ava) = ava else { break };
        let value = ava.value.bytes();
        let named = schema.find(ava.attribute).is_some_and(|kind| {
            let mut form = Vec::new();
            schema.normalize(kind, &value, Part::Whole, &mut form).is_ok()
                && new
                    .drafts
                    .iter()
                    .any(|draft| draft.kind == kind && draft.forms.contains(&form))
        });
        if !named {
            return Err(error(
                new.name.line,
                format!("`{}` without the attribute that names it", text(&new.name.dn)),
                format!("a line `{}: {}` in the entry", text(ava.attribute), text(&value)),
            ));
        }
        if ava.ends_rdn {
            break;
        }
    }
    Ok(())
}

fn suffix<'n, 'a>(schema: &Schema, base: Option<&str>, names: &'n [Name<'a>]) -> Result<&'n Name<'a>, LdifError> {
    let Some(shortest) = names.iter().min_by_key(|name| dn::normal_depth(&name.normal_dn)) else {
        return Err(error(0, "no entries", "at least the entry that all others are below"));
    };
    let Some(base) = base else { return Ok(shortest) };
    let mut normal = Vec::new();
    dn::normalize(base.as_bytes(), schema, &mut normal).map_err(|e| {
        error(
            0,
            format!("the base `{base}`, which is no name: {e}"),
            "a distinguished name",
        )
    })?;
    names.iter().find(|name| name.normal_dn == normal).ok_or_else(|| {
        error(
            shortest.line,
            format!(
                "`{}` as the shortest name, and no entry for the base `{base}`",
                text(&shortest.dn)
            ),
            format!("an entry `dn: {base}`, or another base in the configuration"),
        )
    })
}

/// Each entry's parent, as a place in `names`; for the suffix none.
fn parents(names: &[Name<'_>], suffix: &Name<'_>) -> Result<Vec<Option<usize>>, LdifError> {
    let places: HashMap<&[u8], usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.normal_dn.as_slice(), at))
        .collect();
    let parent = |name: &Name<'_>| {
        if name.normal_dn == suffix.normal_dn {
            return Ok(None);
        }
        let found = format!("`{}`", text(&name.dn));
        if !dn::is_within(&name.normal_dn, &suffix.normal_dn) {
            let expected = format!(
                "a name below `{}` (line {}); one file holds one tree",
                text(&suffix.dn),
                suffix.line
            );
            return Err(error(name.line, found, expected));
        }
        match places.get(dn::normal_parent(&name.normal_dn).unwrap_or_default()) {
            Some(at) => Ok(Some(*at)),
            None => Err(error(
                name.line,
                format!("{found}, whose parent is not in the file"),
                format!("an entry `dn: {}`", text(dn::parent(&name.dn).unwrap_or_default())),
            )),
        }
    };
    names.iter().map(parent).collect()
}

/// What is made for entries while they are loaded.
struct Made {
    /// The time of loading, for timestamps.
    loaded_at: String,
    /// The last number given.
    csn: Csn,
    /// The file's own numbers are ours, and none is missing.
    keep_csn: bool,
}

/// The operational attributes that every entry has; what the file gives stays.
fn add_made(new: &mut Pending<'_, '_>, schema: &Schema, made: &mut Made, has_subordinates: bool) {
    if !made.keep_csn {
        new.drafts.retain(|draft| draft.kind != Schema::ENTRY_CSN);
    }
    let given = |new: &Pending<'_, '_>, name: &str| {
        let kind = schema.find(name.as_bytes());
        new.drafts.iter().any(|draft| Some(draft.kind) == kind)
    };
    if !given(new, "entryCSN") {
        made.csn = made.csn.next(0);
    }
    let flag: &[u8] = if has_subordinates { b"TRUE" } else { b"FALSE" };
    let all: [(&str, Vec<u8>); 7] = [
        ("entryUUID", uuid_of_name(&new.name.normal_dn).into_bytes()),
        ("entryCSN", made.csn.text().into_bytes()),
        ("createTimestamp", made.loaded_at.as_bytes().to_vec()),
        ("modifyTimestamp", made.loaded_at.as_bytes().to_vec()),
        ("entryDN", new.name.dn.to_vec()),
        ("hasSubordinates", flag.to_vec()),
        ("subschemaSubentry", root::SUBSCHEMA_DN.as_bytes().to_vec()),
    ];
    for (name, value) in all {
        if !given(new, name) {
            push_made(&mut new.drafts, schema, name, vec![value]);
        }
    }
}

/// A name-based UUID (RFC 9562 section 5.5, namespace X.500), so that an entry keeps its UUID over restarts and between
/// two directories made from one file.
fn uuid_of_name(normal_dn: &[u8]) -> String {
    const NAMESPACE_X500: [u8; 16] = [
        0x6b, 0xa7, 0xb8, 0x14, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
    ];
    let digest = Sha1::new()
        .chain_update(NAMESPACE_X500)
        .chain_update(normal_dn)
        .finalize();
    let mut octets = [0; 16];
    for (at, (octet, byte)) in octets.iter_mut().zip(digest).enumerate() {
        *octet = match at {
            6 => byte & 0x0f | 0x50,
            8 => byte & 0x3f | 0x80,
            _ => byte,
        };
    }
    entry::uuid_text(&octets)
}

/// For messages: at most a line's worth.
fn text(bytes: &[u8]) -> String {
    const CHARS_MAX: usize = 120;
    let text = String::from_utf8_lossy(bytes);
    let mut out: String = text.chars().take(CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

fn error(line: usize, found: impl Into<String>, expected: impl Into<String>) -> LdifError {
    LdifError {
        line,
        found: found.into(),
        expected: expected.into(),
    }
}
