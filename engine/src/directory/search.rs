//! Answering a search: the base, the scope, the entries worth testing, the attributes wanted, the limits.

use wire::ber::{self, Strings};
use wire::frame::Malformed;
use wire::ldap::dn;
use wire::ldap::envelope::tag;
use wire::ldap::grammar::{Scope, SearchRequest};
use wire::ldap::result::code;

use super::entry::{Attribute, Entry, EntryId};
use super::evaluate::{self, Room, Source};
use super::program::{Program, Truth};
use super::schema::{Schema, TypeId, split_description};
use super::{Bounds, Directory, root};

/// What one session's requests work in. It keeps its room, so that in steady state nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) normal_dn: Vec<u8>,
    program: Program,
    room: Room,
    candidates: Vec<EntryId>,
    wanted: Wanted,
    chosen: Vec<Attribute>,
}

impl Scratch {
    /// Gives room back that an unusually large request took.
    pub(super) fn trim(&mut self) {
        const KEPT: usize = 4096;
        self.normal_dn.shrink_to(KEPT);
        self.candidates.shrink_to(KEPT);
        self.chosen.shrink_to(KEPT / 16);
        self.wanted.names.shrink_to(KEPT / 16);
        self.wanted.options.shrink_to(KEPT);
        self.program.trim();
    }
}

/// How an operation ended, before it is written.
#[derive(Debug)]
pub(super) struct End<'a> {
    pub(super) code: u32,
    pub(super) matched_dn: &'a [u8],
    pub(super) diagnostic: &'static str,
}

impl End<'_> {
    pub(super) const fn new(code: u32, diagnostic: &'static str) -> Self {
        End {
            code,
            matched_dn: b"",
            diagnostic,
        }
    }

    pub(super) const SUCCESS: End<'static> = End::new(code::SUCCESS, "");
}

/// Where an operation's name leads.
pub(super) enum Place<'a> {
    Tree(EntryId, &'a Entry),
    /// The root DSE or the subschema: an entry without children.
    Alone(&'a Entry),
}

impl Directory {
    /// Finds the entry with this name; otherwise how the operation ends.
    pub(super) fn place(&self, dn: &[u8], normal_dn: &mut Vec<u8>) -> Result<Place<'_>, End<'_>> {
        normal_dn.clear();
        if dn::normalize(dn, &*self.schema, normal_dn).is_err() {
            return Err(End::new(
                code::INVALID_DN_SYNTAX,
                "the name is not a distinguished name (RFC 4514)",
            ));
        }
        if normal_dn.is_empty() {
            return Ok(Place::Alone(&self.root_dse));
        }
        if let Some((id, node)) = self.find(normal_dn) {
            return Ok(Place::Tree(id, &node.entry));
        }
        if normal_dn == root::SUBSCHEMA_NORMAL_DN {
            return Ok(Place::Alone(&self.subschema));
        }
        Err(End {
            code: code::NO_SUCH_OBJECT,
            matched_dn: self.matched(normal_dn),
            diagnostic: "",
        })
    }

    /// The name of the nearest entry above this name; empty when there is none.
    pub(super) fn matched(&self, normal_dn: &[u8]) -> &[u8] {
        let above = std::iter::successors(dn::normal_parent(normal_dn), |name| dn::normal_parent(name));
        above
            .filter_map(|name| self.find(name))
            .map(|(_, node)| &*node.entry.dn)
            .next()
            .unwrap_or_default()
    }

    /// Appends the matching entries to `out`.
    ///
    /// # Errors
    /// The request is malformed where only this looks.
    pub(super) fn search<'a>(
        &'a self,
        scratch: &mut Scratch,
        request: &SearchRequest<'_>,
        id: i32,
        bounds: &Bounds,
        out: &mut Vec<u8>,
    ) -> Result<End<'a>, Malformed> {
        let scope = request.scope;
        let base = match self.place(request.base, &mut scratch.normal_dn) {
            Ok(base) => base,
            Err(end) => return Ok(end),
        };
        scratch.program.compile(&self.schema, request.filter)?;
        scratch.wanted.read(&self.schema, request.attributes);
        let mut run = Run {
            directory: self,
            program: &scratch.program,
            wanted: &scratch.wanted,
            chosen: &mut scratch.chosen,
            room: &mut scratch.room,
            types_only: request.types_only,
            id,
            entries_left: entries_max(request.size_limit, bounds.entries_max),
            steps_left: bounds.steps_max,
            end_of_room: out.len().saturating_add(bounds.out_bytes_max),
            out,
        };
        let (base_id, base_entry) = match base {
            Place::Tree(id, entry) => (id, entry),
            Place::Alone(entry) if scope == Scope::Base => {
                return Ok(run.try_entry(entry).err().unwrap_or(End::SUCCESS));
            }
            Place::Alone(entry) if entry.dn.is_empty() => {
                return Ok(End::new(
                    code::NO_SUCH_OBJECT,
                    "nothing is below the root DSE; name a base, as in namingContexts",
                ));
            }
            Place::Alone(entry) if scope == Scope::Subtree => {
                return Ok(run.try_entry(entry).err().unwrap_or(End::SUCCESS));
            }
            Place::Alone(_) => return Ok(End::SUCCESS),
        };
        let ended = match scope {
            Scope::Base => run.try_entry(base_entry),
            _ => match evaluate::source(run.program, &self.index) {
                Some(Source::List(ids)) => run.listed(ids, base_id, scope),
                Some(source) => {
                    scratch.candidates.clear();
                    evaluate::collect(run.program, &self.index, source, &mut scratch.candidates);
                    run.listed(&scratch.candidates, base_id, scope)
                }
                None => run.walked(&mut scratch.candidates, base_id, scope),
            },
        };
        Ok(ended.err().unwrap_or(End::SUCCESS))
    }

    fn is_in_scope(&self, id: EntryId, base: EntryId, scope: Scope) -> bool {
        match scope {
            Scope::Base => id == base,
            Scope::One => self.node(id).is_some_and(|node| node.parent == Some(base)),
            Scope::Subtree => id == base || self.is_below(id, base),
            Scope::Subordinate => self.is_below(id, base),
        }
    }

    fn is_below(&self, id: EntryId, base: EntryId) -> bool {
        let mut at = id;
        while let Some(parent) = self.node(at).and_then(|node| node.parent) {
            if parent == base {
                return true;
            }
            at = parent;
        }
        false
    }
}

/// The smaller of what the client and the administrator allow, where 0 means no limit.
fn entries_max(client: i32, bound: u32) -> u64 {
    let limit = |n: u32| if n == 0 { u64::MAX } else { u64::from(n) };
    limit(u32::try_from(client).unwrap_or(0)).min(limit(bound))
}

/// One search under way.
struct Run<'a, 's> {
    directory: &'a Directory,
    program: &'s Program,
    wanted: &'s Wanted,
    chosen: &'s mut Vec<Attribute>,
    room: &'s mut Room,
    types_only: bool,
    id: i32,
    entries_left: u64,
    steps_left: u64,
    /// The length that `out` may not exceed.
    end_of_room: usize,
    out: &'s mut Vec<u8>,
}

impl<'a> Run<'a, '_> {
    fn listed(&mut self, ids: &[EntryId], base: EntryId, scope: Scope) -> Result<(), End<'a>> {
        for id in ids {
            if self.directory.is_in_scope(*id, base, scope)
                && let Some(entry) = self.directory.entry(*id)
            {
                self.try_entry(entry)?;
            }
        }
        Ok(())
    }

    /// Parents before children, in the order of the file.
    fn walked(&mut self, stack: &mut Vec<EntryId>, base: EntryId, scope: Scope) -> Result<(), End<'a>> {
        let directory = self.directory;
        let children = |id| directory.node(id).map(|node| &*node.children).unwrap_or_default();
        if scope == Scope::One {
            return children(base)
                .iter()
                .filter_map(|id| directory.entry(*id))
                .try_for_each(|e| self.try_entry(e));
        }
        stack.clear();
        if scope == Scope::Subtree {
            stack.push(base);
        } else {
            stack.extend(children(base).iter().rev());
        }
        while let Some(id) = stack.pop() {
            if let Some(node) = directory.node(id) {
                self.try_entry(&node.entry)?;
                stack.extend(node.children.iter().rev());
            }
        }
        Ok(())
    }

    fn try_entry(&mut self, entry: &Entry) -> Result<(), End<'a>> {
        let (truth, steps) = evaluate::test(self.program, &self.directory.schema, entry, self.room);
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(End::new(
            code::TIME_LIMIT_EXCEEDED,
            "the search looked at more than one call may; narrow the filter or the base",
        ))?;
        if truth != Truth::True {
            return Ok(());
        }
        self.entries_left = self
            .entries_left
            .checked_sub(1)
            .ok_or(End::new(code::SIZE_LIMIT_EXCEEDED, ""))?;
        let before = self.out.len();
        self.write(entry);
        if self.out.len() > self.end_of_room {
            self.out.truncate(before);
            return Err(End::new(
                code::ADMIN_LIMIT_EXCEEDED,
                "the answer is larger than one search may return; narrow the filter or the attributes",
            ));
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) {
        let form = Form {
            id: self.id,
            wanted: self.wanted,
            types_only: self.types_only,
            name_only: false,
            controls: b"",
        };
        write_found(&self.directory.schema, entry, &form, self.chosen, self.out);
    }
}

/// How an entry is shown.
pub(super) struct Form<'a> {
    pub(super) id: i32,
    pub(super) wanted: &'a Wanted,
    pub(super) types_only: bool,
    /// Without attributes.
    pub(super) name_only: bool,
    /// The content of Controls.
    pub(super) controls: &'a [u8],
}

/// Appends a SearchResultEntry; `chosen` is room.
pub(super) fn write_found(
    schema: &Schema,
    entry: &Entry,
    form: &Form<'_>,
    chosen: &mut Vec<Attribute>,
    out: &mut Vec<u8>,
) {
    if form.name_only {
        return write_entry(out, form, &entry.dn, 0, |_| {});
    }
    if form.wanted.is_all_user() && !form.types_only {
        return write_entry(out, form, &entry.dn, entry.user_attributes().len(), |out| {
            out.extend_from_slice(entry.user_attributes());
        });
    }
    let all = entry.listed();
    let taken = all.filter(|(kind, operational, attribute)| {
        form.wanted.takes(schema, *kind, *operational, |options| {
            entry.has_options(attribute, options)
        })
    });
    chosen.clear();
    chosen.extend(taken.map(|(_, _, attribute)| *attribute));
    if form.types_only {
        let len = |attribute| ber::element_len(type_only_len(entry.description(attribute)));
        write_entry(out, form, &entry.dn, chosen.iter().map(len).sum(), |out| {
            for attribute in chosen.iter() {
                let description = entry.description(attribute);
                ber::write_header(out, ber::tag::SEQUENCE, type_only_len(description));
                ber::write_bytes(out, ber::tag::OCTET_STRING, description);
                ber::write_header(out, ber::tag::SET, 0);
            }
        });
    } else {
        let len = chosen.iter().map(|attribute| entry.encoded(attribute).len()).sum();
        write_entry(out, form, &entry.dn, len, |out| {
            for attribute in chosen.iter() {
                out.extend_from_slice(entry.encoded(attribute));
            }
        });
    }
}

fn type_only_len(description: &[u8]) -> usize {
    ber::element_len(description.len()) + ber::element_len(0)
}

/// Appends a SearchResultEntry whose attributes, `attributes_len` octets of them, `fill` appends.
fn write_entry(out: &mut Vec<u8>, form: &Form<'_>, dn: &[u8], attributes_len: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    /// The tag of Controls in an LDAPMessage.
    const CONTROLS: u8 = 0xA0;
    let op_len = ber::element_len(dn.len()) + ber::element_len(attributes_len);
    let id_len = ber::element_len(ber::integer_octets(form.id));
    let controls_len = match form.controls.len() {
        0 => 0,
        len => ber::element_len(len),
    };
    let message_len = id_len + ber::element_len(op_len) + controls_len;
    out.reserve(ber::element_len(message_len));
    ber::write_header(out, ber::tag::SEQUENCE, message_len);
    ber::write_integer(out, ber::tag::INTEGER, form.id);
    ber::write_header(out, tag::SEARCH_ENTRY, op_len);
    ber::write_bytes(out, ber::tag::OCTET_STRING, dn);
    ber::write_header(out, ber::tag::SEQUENCE, attributes_len);
    fill(out);
    if !form.controls.is_empty() {
        ber::write_bytes(out, CONTROLS, form.controls);
    }
}

/// The attributes that a search asks for (RFC 4511 section 4.5.1.8, RFC 3673).
#[derive(Debug, Default)]
pub(super) struct Wanted {
    all_user: bool,
    all_operational: bool,
    names: Vec<Name>,
    options: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    kind: TypeId,
    subtypes: bool,
    options: (usize, usize),
}

impl Wanted {
    pub(super) fn read(&mut self, schema: &Schema, attributes: Strings<'_>) {
        self.names.clear();
        self.options.clear();
        self.all_operational = false;
        self.all_user = true;
        for (at, attribute) in attributes.enumerate() {
            if at == 0 {
                self.all_user = false;
            }
            match attribute {
                b"*" => self.all_user = true,
                b"+" => self.all_operational = true,
                // Nothing, and whatever else is in the list.
                b"1.1" => {}
                description => self.add(schema, description),
            }
        }
    }

    /// A name that nobody knows asks for nothing.
    fn add(&mut self, schema: &Schema, description: &[u8]) {
        let (name, options) = split_description(description);
        let Some(kind) = schema.find(name) else { return };
        let start = self.options.len();
        self.options.extend_from_slice(options);
        let subtypes = schema.get(kind).is_some_and(super::schema::Type::has_subtypes);
        self.names.push(Name {
            kind,
            subtypes,
            options: (start, self.options.len()),
        });
    }

    fn is_all_user(&self) -> bool {
        self.all_user && !self.all_operational && self.names.is_empty()
    }

    fn takes(&self, schema: &Schema, kind: TypeId, operational: bool, has_options: impl Fn(&[u8]) -> bool) -> bool {
        let by_group = if operational {
            self.all_operational
        } else {
            self.all_user
        };
        by_group
            || self.names.iter().any(|name| {
                let is_kind = kind == name.kind || (name.subtypes && schema.is_a(kind, name.kind));
                is_kind && has_options(self.options.get(name.options.0..name.options.1).unwrap_or_default())
            })
    }
}
