//! Writes: add, modify, delete, modify DN, Password Modify (RFC 3062).
//!
//! A write is done to a copy of the directory, which takes the original's place when it succeeded; so nobody sees half of
//! one, and a refused one leaves nothing behind. Whatever changes an entry gives it the next [`Csn`] and goes through
//! [`Directory::put`], which keeps index, tree, log and figures together.
//!
//! Who may: [`Writing::admins`] everything; everybody else their own password, by Password Modify. What object classes
//! demand or allow is not checked, as when a file is loaded; what can be told without that is.

mod add;
mod modify;
mod password;
mod rename;
mod work;

use std::sync::Arc;

use wire::ldap::dn;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::grammar;
use wire::ldap::result::{self, code};
use zeroize::Zeroizing;

use super::answer::{Answer, Asker};
use super::csn::Csn;
use super::entry::{Entry, EntryId};
use super::log::Change;
use super::{Bounds, Directory, LocalSession, Node, Outcome, root};
use work::Work;

/// Who may write, and how much there may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writing {
    /// The names that may do everything.
    pub admins: Vec<String>,
    /// Entries at most; an add beyond it is answered with adminLimitExceeded (11).
    pub entries_max: usize,
    /// Octets that all entries may take, about; beyond it likewise.
    pub bytes_max: usize,
    /// Changes that are kept for consumers (RFC 4533); one that was away for more is told all that is there.
    pub changes_max: usize,
}

/// What a write needs from outside.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Microseconds since 1970.
    pub unix_micros: u64,
    /// Random octets, for a new entry's UUID, a salt, a generated password.
    pub random: [u8; 48],
}

/// Why nothing was written.
#[derive(Debug)]
struct Refusal {
    code: u32,
    matched_dn: Vec<u8>,
    why: &'static str,
}

impl Refusal {
    fn new(code: u32, why: &'static str) -> Self {
        Self {
            code,
            matched_dn: Vec::new(),
            why,
        }
    }
}

/// Who writes.
struct Who {
    /// The name, as shown; empty is anonymous.
    dn: Vec<u8>,
    normal_dn: Vec<u8>,
}

/// What a write that succeeded has to say.
enum Done {
    Plain,
    /// A password that was made up.
    Generated(Zeroizing<String>),
}

impl Directory {
    /// From now on it can be written to.
    ///
    /// # Errors
    /// One of the names is no distinguished name; it.
    pub fn make_writable(&mut self, writing: &Writing) -> Result<(), String> {
        let mut normal = Vec::new();
        for name in &writing.admins {
            let mut form = Vec::new();
            let is_name = dn::normalize(name.as_bytes(), &*self.schema, &mut form).is_ok() && !form.is_empty();
            is_name.then_some(()).ok_or_else(|| name.clone())?;
            normal.push(String::from_utf8_lossy(&form).into_owned());
        }
        self.writing = Some(Arc::new(Writing {
            admins: normal,
            ..writing.clone()
        }));
        self.log = self.log.resized(writing.changes_max);
        let suffix = self
            .entry(self.suffix)
            .map(|entry| entry.dn.clone())
            .unwrap_or_default();
        self.root_dse = Arc::new(root::root_dse(&self.schema, &suffix, true));
        Ok(())
    }

    /// From now on nobody writes to it.
    pub fn make_read_only(&mut self) {
        self.writing = None;
        let suffix = self
            .entry(self.suffix)
            .map(|entry| entry.dn.clone())
            .unwrap_or_default();
        self.root_dse = Arc::new(root::root_dse(&self.schema, &suffix, false));
    }

    /// Whether its file says that nothing was done after it was written: from the first change on that is not true.
    #[must_use]
    pub fn is_from_an_end_in_order(&self) -> bool {
        self.trust.before.is_some()
    }

    /// How many changes there have been since it was loaded.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.log.next()
    }

    /// Does one write request, which [`Directory::answer`] has called [`Outcome::Write`], and appends its answer to `out`.
    ///
    /// With success this is another directory than before; after anything else it is to be dropped.
    pub fn write(
        &mut self,
        session: &mut LocalSession,
        frame: &[u8],
        out: &mut Vec<u8>,
        bounds: &Bounds,
        moment: &Moment,
    ) -> Outcome {
        let Ok(envelope) = envelope::peek(frame) else {
            return Outcome::NoAnswer;
        };
        let Some(response) = envelope::response_tag(envelope.tag) else {
            return Outcome::NoAnswer;
        };
        let done = self
            .who(session, &envelope, bounds)
            .and_then(|who| self.try_write(&who, &envelope, moment));
        let code = match done {
            Ok(Done::Plain) => {
                result::write_result(out, envelope.id, response, code::SUCCESS, b"", "");
                code::SUCCESS
            }
            Ok(Done::Generated(password)) => {
                let value = password::generated(&password);
                result::write_extended(out, envelope.id, code::SUCCESS, "", None, Some(&value));
                code::SUCCESS
            }
            Err(refusal) => {
                result::write_result(
                    out,
                    envelope.id,
                    response,
                    refusal.code,
                    &refusal.matched_dn,
                    refusal.why,
                );
                refusal.code
            }
        };
        session.scratch.trim();
        Outcome::Answered { code }
    }

    fn who(&self, session: &LocalSession, envelope: &Envelope<'_>, bounds: &Bounds) -> Result<Who, Refusal> {
        let mut asker = Asker { proxied: None };
        match self.read_controls(envelope, bounds, &mut asker) {
            Ok(()) => {}
            Err(Answer::End(end)) => return Err(Refusal::new(end.code, end.diagnostic)),
            Err(_) => return Err(Refusal::new(code::OTHER, "")),
        }
        let mut normal_dn = Vec::new();
        match asker.proxied {
            // It was seen to be a name.
            Some(dn) => {
                let _ = dn::normalize(dn, &*self.schema, &mut normal_dn);
            }
            None => normal_dn.clone_from(&session.bound_dn),
        }
        let dn = match self.find(&normal_dn) {
            Some((_, node)) => node.entry.dn.to_vec(),
            None => asker.proxied.map_or_else(|| normal_dn.clone(), <[u8]>::to_vec),
        };
        Ok(Who { dn, normal_dn })
    }

    fn try_write(&mut self, who: &Who, envelope: &Envelope<'_>, moment: &Moment) -> Result<Done, Refusal> {
        let malformed = |_| Refusal::new(code::PROTOCOL_ERROR, "the request is malformed");
        let Some(writing) = self.writing.clone() else {
            return Err(Refusal::new(code::UNWILLING_TO_PERFORM, "this directory is read-only"));
        };
        if who.normal_dn.is_empty() {
            let why = "modifications require authentication";
            return Err(Refusal::new(code::STRONGER_AUTH_REQUIRED, why));
        }
        let is_admin = writing.admins.iter().any(|admin| admin.as_bytes() == who.normal_dn);
        if envelope.tag == tag::EXTENDED_REQUEST {
            let value = grammar::extended(envelope.op).map_err(malformed)?.value;
            return self.password_modify(who, is_admin, value, moment);
        }
        if !is_admin {
            let why = "only the administrators of this directory may do that";
            return Err(Refusal::new(code::INSUFFICIENT_ACCESS_RIGHTS, why));
        }
        match envelope.tag {
            tag::ADD_REQUEST => self.add(who, &grammar::add(envelope.op).map_err(malformed)?, &writing, moment)?,
            tag::MODIFY_REQUEST => {
                self.modify(who, &grammar::modify(envelope.op).map_err(malformed)?, &writing, moment)?
            }
            tag::DELETE_REQUEST => self.delete(grammar::delete(envelope.op).map_err(malformed)?, moment)?,
            tag::MODIFY_DN_REQUEST => self.rename(who, &grammar::modify_dn(envelope.op).map_err(malformed)?, moment)?,
            _ => return Err(Refusal::new(code::PROTOCOL_ERROR, "that is no write")),
        }
        Ok(Done::Plain)
    }

    /// The entry that a write is about.
    fn target(&self, name: &[u8]) -> Result<(EntryId, Arc<Entry>), Refusal> {
        let normal = self.normal(name)?;
        if normal.is_empty() || normal == root::SUBSCHEMA_NORMAL_DN {
            return Err(Refusal::new(
                code::UNWILLING_TO_PERFORM,
                "this entry is made by the server",
            ));
        }
        match self.find(&normal) {
            Some((id, node)) => Ok((id, Arc::clone(&node.entry))),
            None => Err(self.no_such_object(&normal)),
        }
    }

    fn normal(&self, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut normal = Vec::new();
        match dn::normalize(name, &*self.schema, &mut normal) {
            Ok(()) => Ok(normal),
            Err(_) => Err(Refusal::new(code::INVALID_DN_SYNTAX, "invalid DN")),
        }
    }

    fn no_such_object(&self, normal_dn: &[u8]) -> Refusal {
        Refusal {
            code: code::NO_SUCH_OBJECT,
            matched_dn: self.matched(normal_dn).to_vec(),
            why: "",
        }
    }

    fn delete(&mut self, name: &[u8], moment: &Moment) -> Result<(), Refusal> {
        let (id, entry) = self.target(name)?;
        if self.node(id).is_some_and(|node| !node.children.is_empty()) {
            let why = "subordinate objects must be deleted first";
            return Err(Refusal::new(code::NOT_ALLOWED_ON_NON_LEAF, why));
        }
        let Some(parent) = self.node(id).and_then(|node| node.parent) else {
            let why = "the entry that all others are below stays";
            return Err(Refusal::new(code::UNWILLING_TO_PERFORM, why));
        };
        let csn = self.next_csn(moment);
        self.index.replace(id, Some(&entry), None);
        if let Some(place) = self.nodes.get_mut(id.index()) {
            *place = None;
        }
        Arc::make_mut(&mut self.free).push(id);
        self.entries -= 1;
        self.bytes -= entry.bytes();
        self.remove_child(parent, id);
        self.log.push(Change {
            csn,
            old: Some(entry),
            new: None,
        });
        Ok(())
    }

    fn next_csn(&self, moment: &Moment) -> Csn {
        self.log.newest().max(self.trust.start).next(moment.unix_micros)
    }

    /// An entry takes the place of the one that was there: in the tree it stays where it is.
    fn put(&mut self, id: EntryId, entry: Entry) {
        let entry = Arc::new(entry);
        let Some(node) = self.nodes.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let old = std::mem::replace(&mut node.entry, Arc::clone(&entry));
        self.index.replace(id, Some(&old), Some(&entry));
        self.bytes = self.bytes + entry.bytes() - old.bytes();
        self.log.push(Change {
            csn: entry.csn,
            old: Some(old),
            new: Some(entry),
        });
    }

    /// A new entry below `parent`.
    fn insert(&mut self, parent: EntryId, entry: Entry) {
        let entry = Arc::new(entry);
        let node = Some(Node {
            entry: Arc::clone(&entry),
            parent: Some(parent),
            children: Arc::default(),
        });
        let id = match Arc::make_mut(&mut self.free).pop() {
            Some(id) => {
                if let Some(place) = self.nodes.get_mut(id.index()) {
                    *place = node;
                }
                id
            }
            None => {
                // There are fewer than 2^32: `entries_max` is checked before.
                let id = EntryId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
                self.nodes.push(node);
                id
            }
        };
        self.index.replace(id, None, Some(&entry));
        self.entries += 1;
        self.bytes += entry.bytes();
        self.add_child(parent, id);
        self.log.push(Change {
            csn: entry.csn,
            old: None,
            new: Some(entry),
        });
    }

    fn add_child(&mut self, parent: EntryId, id: EntryId) {
        let Some(node) = self.nodes.get_mut(parent.index()).and_then(Option::as_mut) else {
            return;
        };
        node.children = node.children.iter().copied().chain([id]).collect();
        if node.children.len() == 1 {
            self.tell_of_children(parent, b"TRUE");
        }
    }

    fn remove_child(&mut self, parent: EntryId, id: EntryId) {
        let Some(node) = self.nodes.get_mut(parent.index()).and_then(Option::as_mut) else {
            return;
        };
        node.children = node.children.iter().copied().filter(|child| *child != id).collect();
        if node.children.is_empty() {
            self.tell_of_children(parent, b"FALSE");
        }
    }

    /// Sets `hasSubordinates`. It follows from other changes, so it is none itself.
    fn tell_of_children(&mut self, id: EntryId, flag: &[u8]) {
        let Some(node) = self.nodes.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let mut work = Work::of(&self.schema, &node.entry);
        work.set(&self.schema, "hasSubordinates", flag);
        let Ok(entry) = work.build(&self.schema) else { return };
        let entry = Arc::new(entry);
        let old = std::mem::replace(&mut node.entry, Arc::clone(&entry));
        self.index.replace(id, Some(&old), Some(&entry));
        self.bytes = self.bytes + entry.bytes() - old.bytes();
    }

    /// Whether so many octets more are too many.
    fn check_bytes(&self, more: usize, writing: &Writing) -> Result<(), Refusal> {
        if self.bytes.saturating_add(more) > writing.bytes_max {
            let why = "the directory has as many octets as it may";
            return Err(Refusal::new(code::ADMIN_LIMIT_EXCEEDED, why));
        }
        Ok(())
    }
}
