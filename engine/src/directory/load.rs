//! From an LDIF file to a [`Directory`]: everything that a person can get wrong in it is found here, and said with its
//! line; what is answered later needs no check any more.
//!
//! What must hold: one suffix (the base given, or else the entry with the shortest name), every other entry below it
//! and with its parent in the file (in any order); no name twice, no value twice; every value of its attribute's
//! syntax; single-valued attributes with one value; an `objectClass`; the naming attributes among the attributes.
//! Object classes' lists of what must and may be there are not checked.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicU64;

use sha1::{Digest as _, Sha1};
use wire::ldap::dn;
use wire::ldif::{Content, Field, LdifError, Reader};

use super::entry::{self, Draft, EntryId, push_made};
use super::index::Index;
use super::rules::Part;
use super::schema::{Schema, split_description};
use super::{Directory, root, time};

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
    loaded_at_unix: u64,
) -> Result<Directory, LoadError> {
    build(ldif, base, loaded_at_unix).map_err(|error| LoadError {
        file: file_name.to_owned(),
        line: (error.line > 0).then_some(error.line),
        found: error.found,
        expected: error.expected,
    })
}

/// An entry of the file, before its place in the tree is known.
struct Pending {
    line: usize,
    dn: Vec<u8>,
    normal_dn: Vec<u8>,
    drafts: Vec<Draft>,
    passwords: Vec<Vec<u8>>,
}

fn build(ldif: &[u8], base: Option<&str>, loaded_at_unix: u64) -> Result<Directory, LdifError> {
    let mut schema = Schema::new();
    let mut pending = Vec::new();
    let mut lines = HashMap::new();
    for record in Reader::new(ldif) {
        let record = record?;
        let fields = match record.content {
            Content::Entry(fields) | Content::Add(fields) => fields,
            _ => {
                return Err(error(
                    record.line,
                    format!("a change of `{}`", text(&record.dn)),
                    "entries only, perhaps with `changetype: add`",
                ));
            }
        };
        let new = read_entry(&mut schema, record.line, &record.dn, &fields)?;
        if let Some(first) = lines.insert(new.normal_dn.clone(), new.line) {
            return Err(error(
                new.line,
                format!("`{}` again, first in line {first}", text(&new.dn)),
                "every name once",
            ));
        }
        pending.push(new);
    }
    let suffix = suffix(&schema, base, &pending)?;
    let parents = parents(&pending, &suffix, &lines)?;
    plant(schema, pending, &suffix, &parents, loaded_at_unix)
}

fn read_entry(schema: &mut Schema, line: usize, dn: &[u8], fields: &[Field<'_>]) -> Result<Pending, LdifError> {
    let mut normal_dn = Vec::new();
    dn::normalize(dn, schema, &mut normal_dn).map_err(|e| {
        error(
            line,
            format!("`dn: {}`, which is no name: {e}", text(dn)),
            "a distinguished name (RFC 4514)",
        )
    })?;
    if normal_dn.is_empty() {
        return Err(error(
            line,
            "an entry with an empty name",
            "a name; the root DSE is made by the server",
        ));
    }
    let mut new = Pending {
        line,
        dn: dn.to_vec(),
        normal_dn,
        drafts: Vec::new(),
        passwords: Vec::new(),
    };
    let mut seen = HashSet::new();
    for field in fields {
        read_field(schema, &mut new, &mut seen, field)?;
    }
    let Some(classes) = new.drafts.iter_mut().find(|draft| draft.kind == Schema::OBJECT_CLASS) else {
        return Err(error(
            line,
            format!("`{}` without objectClass", text(dn)),
            "at least one `objectClass:`",
        ));
    };
    for class in &classes.values {
        for superior in schema.superclasses(class) {
            if !classes.forms.iter().any(|form| form == superior.as_bytes()) {
                classes.forms.push(superior.into_bytes());
            }
        }
    }
    check_naming(schema, &new)?;
    Ok(new)
}

fn read_field(
    schema: &mut Schema,
    new: &mut Pending,
    seen: &mut HashSet<(usize, Vec<u8>)>,
    field: &Field<'_>,
) -> Result<(), LdifError> {
    let (name, options) = split_description(field.attribute.as_bytes());
    let kind = schema.find_or_add(std::str::from_utf8(name).unwrap_or_default());
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
fn ordered_options(options: &[u8]) -> String {
    let text = String::from_utf8_lossy(options).to_ascii_lowercase();
    let mut all: Vec<_> = text.split(';').filter(|option| !option.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.iter().map(|option| format!(";{option}")).collect()
}

fn check_naming(schema: &Schema, new: &Pending) -> Result<(), LdifError> {
    for ava in dn::avas(&new.dn) {
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
                new.line,
                format!("`{}` without the attribute that names it", text(&new.dn)),
                format!("a line `{}: {}` in the entry", text(ava.attribute), text(&value)),
            ));
        }
        if ava.ends_rdn {
            break;
        }
    }
    Ok(())
}

fn suffix(schema: &Schema, base: Option<&str>, pending: &[Pending]) -> Result<Vec<u8>, LdifError> {
    let Some(shortest) = pending.iter().min_by_key(|new| dn::normal_depth(&new.normal_dn)) else {
        return Err(error(0, "no entries", "at least the entry that all others are below"));
    };
    let Some(base) = base else {
        return Ok(shortest.normal_dn.clone());
    };
    let mut normal = Vec::new();
    dn::normalize(base.as_bytes(), schema, &mut normal).map_err(|e| {
        error(
            0,
            format!("the base `{base}`, which is no name: {e}"),
            "a distinguished name",
        )
    })?;
    if pending.iter().any(|new| new.normal_dn == normal) {
        Ok(normal)
    } else {
        Err(error(
            shortest.line,
            format!(
                "`{}` as the shortest name, and no entry for the base `{base}`",
                text(&shortest.dn)
            ),
            format!("an entry `dn: {base}`, or another base in the configuration"),
        ))
    }
}

/// Each entry's parent, as a place in `pending`; for the suffix none.
fn parents(
    pending: &[Pending],
    suffix: &[u8],
    lines: &HashMap<Vec<u8>, usize>,
) -> Result<Vec<Option<usize>>, LdifError> {
    let places: HashMap<&[u8], usize> = pending
        .iter()
        .enumerate()
        .map(|(at, new)| (new.normal_dn.as_slice(), at))
        .collect();
    let parent = |new: &Pending| {
        if new.normal_dn == suffix {
            return Ok(None);
        }
        if !dn::is_within(&new.normal_dn, suffix) {
            let line = lines.get(suffix).copied().unwrap_or_default();
            let expected = format!("a name below `{}` (line {line}); one file holds one tree", text(suffix));
            return Err(error(new.line, format!("`{}`", text(&new.dn)), expected));
        }
        let parent = dn::normal_parent(&new.normal_dn).unwrap_or_default();
        match places.get(parent) {
            Some(at) => Ok(Some(*at)),
            None => Err(error(
                new.line,
                format!("`{}`, whose parent is not in the file", text(&new.dn)),
                format!("an entry `dn: {}`", text(dn::parent(&new.dn).unwrap_or_default())),
            )),
        }
    };
    pending.iter().map(parent).collect()
}

fn plant(
    schema: Schema,
    pending: Vec<Pending>,
    suffix: &[u8],
    parents: &[Option<usize>],
    loaded_at_unix: u64,
) -> Result<Directory, LdifError> {
    let mut children: Vec<Vec<EntryId>> = pending.iter().map(|_| Vec::new()).collect();
    let id = |at: usize| {
        u32::try_from(at)
            .map(EntryId)
            .map_err(|_| error(0, "too many entries", "fewer than 2^32"))
    };
    for (at, parent) in parents.iter().enumerate() {
        if let Some(siblings) = parent.and_then(|parent| children.get_mut(parent)) {
            siblings.push(id(at)?);
        }
    }
    let loaded_at = time::format(loaded_at_unix);
    let mut directory = Directory {
        root_dse: root::root_dse(
            &schema,
            &pending
                .iter()
                .find(|p| p.normal_dn == suffix)
                .map_or(vec![], |p| p.dn.clone()),
        ),
        subschema: root::subschema(&schema, &loaded_at),
        schema,
        entries: Vec::with_capacity(pending.len()),
        by_dn: HashMap::with_capacity(pending.len()),
        index: Index::default(),
        unknown_passwords: AtomicU64::new(0),
    };
    for ((at, mut new), (children, parent)) in pending.into_iter().enumerate().zip(children.into_iter().zip(parents)) {
        add_made(&mut new, &directory.schema, &loaded_at, !children.is_empty());
        let too_large = |_| error(new.line, "an entry of more than 4 GiB", "less");
        let mut entry = entry::build(&new.dn, &new.normal_dn, new.drafts, new.passwords).map_err(too_large)?;
        entry.children = children;
        entry.parent = parent.map(id).transpose()?;
        directory.index.add(id(at)?, &entry);
        directory.by_dn.insert(entry.normal_dn.clone(), id(at)?);
        directory.entries.push(entry);
    }
    Ok(directory)
}

/// The operational attributes that every entry has; what the file gives stays.
fn add_made(new: &mut Pending, schema: &Schema, loaded_at: &str, has_subordinates: bool) {
    let flag: &[u8] = if has_subordinates { b"TRUE" } else { b"FALSE" };
    let made: [(&str, Vec<u8>); 6] = [
        ("entryUUID", uuid_of_name(&new.normal_dn).into_bytes()),
        ("createTimestamp", loaded_at.as_bytes().to_vec()),
        ("modifyTimestamp", loaded_at.as_bytes().to_vec()),
        ("entryDN", new.dn.clone()),
        ("hasSubordinates", flag.to_vec()),
        ("subschemaSubentry", root::SUBSCHEMA_DN.as_bytes().to_vec()),
    ];
    for (name, value) in made {
        let given = schema.find(name.as_bytes());
        if !new.drafts.iter().any(|draft| Some(draft.kind) == given) {
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
    let mut text = String::with_capacity(36);
    for (at, byte) in digest.iter().take(16).enumerate() {
        let byte = match at {
            6 => byte & 0x0f | 0x50,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
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
