//! How a directory is asked about a user: it is searched for the one entry, then bound to as that entry, or what is stored there is
//! compared here; then the user's groups are looked for, if somebody wants them.
//!
//! A directory that shows no password of an entry cannot judge: that is never a wrong password.

use wire::radius::Item;
use zeroize::Zeroizing;

use super::asking::{Asking, Cx, Judged, Next, Said, Why};
use super::groups::{Finding, values};
use super::method::{Known, Offer};
use super::plan::{Check, Directory};
use crate::ask::{Entry, Event, Final, Search, To, Verdict, bind_verdict, code};
use crate::password::{self, nt};

/// Values of one attribute of one entry that are looked at.
const VALUES_MAX: usize = 64;
/// Stored passwords of one entry that are compared.
const PASSWORDS_MAX: usize = 8;

/// How far a directory's turn is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    base: usize,
    pub(super) stage: Stage,
    pub(super) dn: Option<Vec<u8>>,
    ambiguous: bool,
    stored: Vec<Zeroizing<Vec<u8>>>,
    /// As it is stored, and in a change as it is to be stored.
    pub(super) nt: Option<nt::Hash>,
    /// The entry has one.
    pub(super) has_nt: bool,
    items: Vec<Item>,
    groups: Finding,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Stage {
    #[default]
    Finding,
    Binding,
    Changing,
    Groups,
}

const NO_FILTER: &str = "the name does not fit the filter";

impl Asking {
    /// The directory's turn begins.
    pub(super) fn find(&mut self, directory: &Directory, cx: &Cx<'_>) -> Next {
        self.directory = Turn::default();
        self.pool = directory.pool;
        if !self.by_name_only() && directory.check == Check::Bind && !matches!(cx.offer, Offer::Password(_)) {
            return Next::Said(Said::NotFound("a bind checks nothing but passwords"));
        }
        self.find_in_base(directory, cx)
    }

    /// Searches the next base; once all have been searched, checks the password.
    fn find_in_base(&mut self, directory: &Directory, cx: &Cx<'_>) -> Next {
        if self.directory.ambiguous {
            self.note(|| "more than one entry is found".to_owned());
            return Next::Said(Said::No(Why::Denied));
        }
        let Some(base) = directory.bases.get(self.directory.base) else {
            return self.found(directory, cx);
        };
        let Some(filter) = directory.filter.fill(|_| self.name(cx)) else {
            return Next::Said(Said::NotFound(NO_FILTER));
        };
        let mut wanted: Vec<&str> = Vec::new();
        if let (Check::Fetch { password, nt }, false) = (&directory.check, self.by_name_only()) {
            wanted.push(password);
            wanted.extend(nt.as_deref());
        }
        wanted.extend(directory.reply.iter().map(|(attribute, _)| attribute.as_str()));
        if cx.plan.needs_groups {
            wanted.extend(directory.groups.as_ref().and_then(|groups| groups.attribute.as_deref()));
        }
        if wanted.is_empty() {
            wanted.push("1.1");
        }
        self.open = self.asks.search(&Search {
            base: base.as_bytes(),
            scope: directory.scope,
            filter: &filter,
            attributes: &wanted,
            size_limit: 2,
        });
        Next::Wait
    }

    pub(super) fn directory_told(&mut self, directory: &Directory, event: &Event<'_>, cx: &mut Cx<'_>) -> Next {
        match (self.directory.stage, event) {
            (Stage::Finding, Event::Entry(entry)) => {
                self.entry(directory, entry, cx);
                Next::Wait
            }
            (Stage::Finding, Event::Done(end)) => match end.code {
                code::SUCCESS | code::NO_SUCH_OBJECT => {
                    self.directory.base += 1;
                    self.find_in_base(directory, cx)
                }
                code::SIZE_LIMIT_EXCEEDED => Next::Said(Said::No(Why::Denied)),
                _ => Next::Said(Said::Nothing("the search failed")),
            },
            (Stage::Binding, Event::Done(end)) => match bind_said(end) {
                Ok(()) => self.directory_right(directory, cx),
                Err(said) => Next::Said(said),
            },
            (Stage::Changing, Event::Done(end)) => self.change_told(directory, end, cx),
            (Stage::Groups, Event::Entry(entry)) => {
                if let Some(groups) = &directory.groups {
                    self.directory.groups.entry(groups, entry);
                }
                Next::Wait
            }
            (Stage::Groups, Event::Done(end)) => match self.directory.groups.ended(end) {
                Ok(()) => self.find_groups(directory, cx),
                Err(why) => Next::Said(Said::Nothing(why)),
            },
            _ => Next::Said(Said::Nothing("no answer")),
        }
    }

    /// An entry that the search has found.
    fn entry(&mut self, directory: &Directory, entry: &Entry<'_>, cx: &Cx<'_>) {
        if self.directory.dn.as_deref().is_some_and(|found| found != entry.dn) {
            self.directory.ambiguous = true;
        }
        let first = self.directory.dn.replace(entry.dn.to_vec()).is_none();
        if !first {
            return;
        }
        if let Check::Fetch { password, nt } = &directory.check {
            let stored = values(entry, password).take(PASSWORDS_MAX);
            self.directory.stored = stored.map(|value| Zeroizing::new(value.to_vec())).collect();
            let hash = nt.as_deref().and_then(|nt| values(entry, nt).next());
            self.directory.nt = hash.and_then(nt::from_hex);
            self.directory.has_nt = self.directory.nt.is_some();
        }
        for (attribute, map) in &directory.reply {
            for value in values(entry, attribute).take(VALUES_MAX) {
                match map.items(&cx.plan.dictionary, value) {
                    Ok(items) => self.directory.items.extend(items),
                    Err(right) => self.note(|| format!("a value of {attribute} is passed over: right is {right}")),
                }
            }
        }
        if let (true, Some(groups)) = (cx.plan.needs_groups, &directory.groups)
            && let Some(attribute) = &groups.attribute
        {
            for value in values(entry, attribute) {
                self.directory.groups.own(groups, value);
            }
        }
    }

    /// The search is over.
    fn found(&mut self, directory: &Directory, cx: &Cx<'_>) -> Next {
        let Some(dn) = &self.directory.dn else {
            return Next::Said(Said::NotFound("no such user"));
        };
        if self.by_name_only() {
            return self.directory_right(directory, cx);
        }
        if directory.check == Check::Bind {
            let Offer::Password(password) = cx.offer else {
                return Next::Said(Said::NotFound("a bind checks nothing but passwords"));
            };
            self.open = self.asks.bind(To::Bind, dn, password.as_bytes());
            self.directory.stage = Stage::Binding;
            return Next::Wait;
        }
        let (stored, nt) = (std::mem::take(&mut self.directory.stored), self.directory.nt.take());
        if stored.is_empty() && nt.is_none() {
            return Next::Said(Said::NotFound("the directory shows no password of the entry"));
        }
        if let Offer::Change { .. } | Offer::Change2 { .. } = cx.offer {
            let old = nt.or_else(|| stored.iter().find_map(|value| password::nt_hash_of(value)));
            return self.change(old.as_ref(), cx);
        }
        // For a password what is stored as such decides, for MS-CHAP an NT hash beside it.
        let beside = matches!(cx.offer, Offer::Password(_)) && !stored.is_empty();
        let by_hash = nt.as_ref().filter(|_| !beside).map(|hash| Known {
            stored: None,
            nt: Some(hash),
        });
        let by_stored = stored.iter().map(|value| Known {
            stored: Some(value.as_slice()),
            nt: None,
        });
        match self.judge(by_hash.into_iter().chain(by_stored), cx) {
            Judged::Right => self.directory_right(directory, cx),
            Judged::Wrong => Next::Said(Said::No(Why::Wrong)),
            Judged::Later => Next::Wait,
            Judged::Cannot(why) => Next::Said(Said::NotFound(why)),
        }
    }

    /// The password is right, or the name is enough.
    pub(super) fn directory_right(&mut self, directory: &Directory, cx: &Cx<'_>) -> Next {
        let dn = self.directory.dn.clone().unwrap_or_default();
        self.directory.groups.begin(&dn);
        self.directory.stage = Stage::Groups;
        self.find_groups(directory, cx)
    }

    /// Asks for groups until all are known.
    fn find_groups(&mut self, directory: &Directory, cx: &Cx<'_>) -> Next {
        if let (true, Some(groups)) = (cx.plan.needs_groups, &directory.groups) {
            let name = self.name(cx).to_vec();
            if let Some(question) = self.directory.groups.ask(groups, &name, &mut self.asks) {
                self.open = question;
                return Next::Wait;
            }
        }
        let mut turn = std::mem::take(&mut self.directory);
        self.items.append(&mut turn.items);
        self.groups.append(&mut turn.groups.found);
        Next::Said(Said::Yes)
    }
}

/// What the end of a bind means.
fn bind_said(end: &Final<'_>) -> Result<(), Said> {
    Err(match bind_verdict(end) {
        Verdict::Right(bound) if !bound.must_change => return Ok(()),
        Verdict::Right(_) | Verdict::MustChange => Said::No(Why::MustChange),
        Verdict::Wrong => Said::No(Why::Wrong),
        Verdict::PasswordExpired => Said::No(Why::PasswordExpired),
        Verdict::LockedOut => Said::No(Why::LockedOut),
        Verdict::Disabled => Said::No(Why::Disabled),
        Verdict::Expired => Said::No(Why::Expired),
        Verdict::Restricted => Said::No(Why::Restricted),
        Verdict::Denied => Said::No(Why::Denied),
        Verdict::Unavailable => Said::Nothing("the bind was not judged"),
    })
}
