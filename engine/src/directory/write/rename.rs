//! Modify DN (RFC 4511 section 4.9): an entry gets another name, and everything below it moves with it.
//!
//! Each entry below gets its own change, too: its name is another, and consumers (RFC 4533) whose filter does not match
//! what was renamed would not learn of it otherwise.

use wire::ldap::dn;
use wire::ldap::grammar::ModifyDnRequest;
use wire::ldap::result::code;

use super::super::Directory;
use super::super::entry::EntryId;
use super::super::schema::{Schema, split_description};
use super::work::{Work, describe, read_values};
use super::{Moment, Refusal, Who};

/// Entries that one modify DN moves at most, itself included; they are some 50 ms of work.
const MOVED_MAX: usize = 10_000;

impl Directory {
    pub(super) fn rename(&mut self, who: &Who, request: &ModifyDnRequest<'_>, moment: &Moment) -> Result<(), Refusal> {
        let old_normal = self.normal(request.entry)?;
        let rdn_normal = self.normal(request.new_rdn)?;
        if dn::normal_depth(&rdn_normal) != 1 {
            return Err(Refusal::new(code::INVALID_DN_SYNTAX, "invalid new RDN"));
        }
        let new_superior = request.new_superior.map(|name| self.normal(name)).transpose()?;
        let (id, entry) = self.target(request.entry)?;
        let Some(old_parent) = self.node(id).and_then(|node| node.parent) else {
            let why = "the entry that all others are below keeps its name";
            return Err(Refusal::new(code::UNWILLING_TO_PERFORM, why));
        };
        let new_parent = match &new_superior {
            None => old_parent,
            Some(name) => match self.find(name) {
                Some((parent, _)) => parent,
                None => return Err(Refusal::new(code::NO_SUCH_OBJECT, "the new superior is not there")),
            },
        };
        let Some(parent) = self.entry(new_parent) else {
            return Err(Refusal::new(code::OTHER, ""));
        };
        if dn::is_within(&parent.normal_dn, &old_normal) {
            let why = "an entry cannot be moved below itself";
            return Err(Refusal::new(code::UNWILLING_TO_PERFORM, why));
        }
        let mut work = Work::of(&self.schema, &entry);
        work.normal_dn = [rdn_normal.as_slice(), b",", &parent.normal_dn].concat();
        work.dn = [&canonical_rdn(request.new_rdn), b",".as_slice(), &parent.dn].concat();
        if self.find(&work.normal_dn).is_some_and(|(there, _)| there != id) {
            return Err(Refusal::new(code::ENTRY_ALREADY_EXISTS, ""));
        }
        if request.delete_old_rdn {
            drop_naming_values(&self.schema, &mut work, &entry.dn, request.new_rdn);
        }
        add_naming_values(&self.schema, &mut work, request.new_rdn)?;
        work.drafts.retain(|draft| !draft.values.is_empty());
        work.check(&self.schema)?;
        let below = self.below(id)?;
        let name = work.dn.clone();
        work.set(&self.schema, "entryDN", &name);
        work.stamp(&self.schema, who, self.next_csn(moment));
        let new = work.build(&self.schema)?;
        self.put(id, new);
        if new_parent != old_parent {
            self.remove_child(old_parent, id);
            if let Some(node) = self.nodes.get_mut(id.index()).and_then(Option::as_mut) {
                node.parent = Some(new_parent);
            }
            self.add_child(new_parent, id);
        }
        for id in below {
            self.follow_parent(id, moment)?;
        }
        Ok(())
    }

    /// Everything below an entry, parents before children.
    fn below(&self, id: EntryId) -> Result<Vec<EntryId>, Refusal> {
        let mut all = vec![id];
        let mut at = 0;
        while let Some(id) = all.get(at) {
            if let Some(node) = self.node(*id) {
                all.extend_from_slice(&node.children);
            }
            if all.len() > MOVED_MAX {
                let why = "more entries are below it than are moved at once";
                return Err(Refusal::new(code::ADMIN_LIMIT_EXCEEDED, why));
            }
            at += 1;
        }
        all.remove(0);
        Ok(all)
    }

    /// The parent has another name now.
    fn follow_parent(&mut self, id: EntryId, moment: &Moment) -> Result<(), Refusal> {
        let Some(node) = self.node(id) else { return Ok(()) };
        let Some(parent) = node.parent.and_then(|parent| self.entry(parent)) else {
            return Ok(());
        };
        let mut work = Work::of(&self.schema, &node.entry);
        let rdn_normal = first_rdn(&work.normal_dn);
        work.normal_dn = [rdn_normal, b",", &parent.normal_dn].concat();
        work.dn = [first_rdn(&work.dn), b",", &parent.dn].concat();
        let name = work.dn.clone();
        work.set(&self.schema, "entryDN", &name);
        let csn = self.next_csn(moment).text();
        work.set(&self.schema, "entryCSN", csn.as_bytes());
        let new = work.build(&self.schema)?;
        self.put(id, new);
        Ok(())
    }
}

/// The first RDN of a name as written.
fn first_rdn(name: &[u8]) -> &[u8] {
    let mut escaped = false;
    let comma = name.iter().position(|byte| {
        let ends = *byte == b',' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    name.get(..comma.unwrap_or(name.len()))
        .unwrap_or_default()
        .trim_ascii_end()
}

/// The pairs of a name's first RDN.
fn naming(name: &[u8]) -> impl Iterator<Item = dn::Ava<'_>> {
    let mut ended = false;
    dn::avas(name)
        .map_while(Result::ok)
        .take_while(move |ava| !std::mem::replace(&mut ended, ava.ends_rdn))
}

/// The first RDN of `name`, written as it is shown: without spaces, escaped where it must be.
pub(super) fn canonical_rdn(name: &[u8]) -> Vec<u8> {
    let mut rdn = Vec::new();
    for ava in naming(name) {
        if !rdn.is_empty() {
            rdn.push(b'+');
        }
        rdn.extend_from_slice(ava.attribute);
        rdn.push(b'=');
        rdn.extend_from_slice(dn::escape(&ava.value.bytes()).as_bytes());
    }
    rdn
}

/// The values of the old RDN go, but for those that the new one has, too.
fn drop_naming_values(schema: &Schema, work: &mut Work, old: &[u8], new: &[u8]) {
    let pair = |ava: &dn::Ava<'_>| {
        let kind = schema.find(ava.attribute)?;
        let mut form = Vec::new();
        let part = super::super::rules::Part::Whole;
        schema.normalize(kind, &ava.value.bytes(), part, &mut form).ok()?;
        Some((kind, form))
    };
    let kept: Vec<_> = naming(new).filter_map(|ava| pair(&ava)).collect();
    for (kind, form) in naming(old).filter_map(|ava| pair(&ava)) {
        if kept.contains(&(kind, form.clone())) {
            continue;
        }
        for draft in work.drafts.iter_mut().filter(|draft| draft.kind == kind) {
            let plain = split_description(draft.description.as_bytes()).1.is_empty();
            if let Some(at) = draft.forms.iter().position(|has| plain && *has == form) {
                draft.forms.remove(at);
                draft.values.remove(at);
            }
        }
    }
}

/// What the first RDN of `new` says becomes part of the entry.
pub(super) fn add_naming_values(schema: &Schema, work: &mut Work, new: &[u8]) -> Result<(), Refusal> {
    for ava in naming(new) {
        if schema.find(ava.attribute).is_none() {
            // As slapd has it: a name is judged by the schema before anything else is.
            return Err(Refusal::new(code::INVALID_DN_SYNTAX, "invalid DN"));
        }
        let of = describe(schema, ava.attribute)?;
        let value = ava.value.bytes();
        let (mut values, mut forms) = read_values(schema, &of, [&*value].into_iter())?;
        work.edit(&of, |draft| {
            if !draft.forms.iter().any(|has| forms.contains(has)) {
                draft.values.append(&mut values);
                draft.forms.append(&mut forms);
            }
        });
    }
    Ok(())
}
