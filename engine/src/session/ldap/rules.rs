//! What becomes of requests with a certain control, and of extended operations, by their object identifier.
//!
//! Some state of LDAP lives on a server's connection: the cookie of a paged search, the list of a virtual list view, a
//! transaction. Requests of that kind must stay where they began, and no other client's may come between them.

use std::collections::BTreeMap;

use wire::ldap::control::oid as control;
use wire::ldap::message::oid as extended;

/// What is done with a request. Of several that apply to one request the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Action {
    /// Nothing: it is carried like any other.
    #[default]
    Ignore,
    /// It counts as a write.
    Write,
    /// Its client's operations go to the server that took it, until the client binds again or leaves.
    Backend,
    /// Its client's operations go over the connection that took it, which others use too, until the client binds again or
    /// leaves.
    Connection,
    /// As [`Action::Connection`], over a connection that nobody else uses meanwhile. Where it is known when the state on it
    /// ends (paged results, transactions) the connection is let go of then, else after some rest.
    Isolate,
    /// Refused with unwillingToPerform (53).
    Reject,
}

/// The rules of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    controls: BTreeMap<Box<[u8]>, Action>,
    extended: BTreeMap<Box<[u8]>, Action>,
    other_controls: Action,
    other_extended: Action,
}

/// The object identifier that stands for all that are not named (as in lloadd).
pub const OTHERS: &str = "1.1";

const CONTROLS: [(&str, Action); 11] = [
    (control::PAGED_RESULTS, Action::Isolate),
    (control::VIRTUAL_LIST_VIEW_REQUEST, Action::Isolate),
    (control::TRANSACTION_SPECIFICATION, Action::Isolate),
    // One operation, which lives on where it is; nothing follows it.
    (control::PERSISTENT_SEARCH, Action::Ignore),
    (control::SYNC_REQUEST, Action::Ignore),
    (control::CHANGE_NOTIFICATION, Action::Ignore),
    // Decided elsewhere.
    (control::PROXIED_AUTHORIZATION, Action::Ignore),
    (control::PROXIED_AUTHORIZATION_V1, Action::Ignore),
    (control::GROUP_AUTHORIZATION, Action::Ignore),
    (control::RETAIN_IDENTITY, Action::Ignore),
    // State is kept only for what goes with it, which has a rule of its own.
    (control::SORT_REQUEST, Action::Ignore),
];

const EXTENDED: [(&str, Action); 3] = [
    (extended::TRANSACTION_START, Action::Isolate),
    (extended::TRANSACTION_END, Action::Isolate),
    (extended::PASSWORD_MODIFY, Action::Write),
];

impl Default for Rules {
    fn default() -> Self {
        Rules::new([], [])
    }
}

impl Rules {
    /// What is written, on top of what holds without a word. [`OTHERS`] is for what is not named.
    pub fn new<'a>(
        controls: impl IntoIterator<Item = (&'a str, Action)>,
        extended: impl IntoIterator<Item = (&'a str, Action)>,
    ) -> Self {
        let (controls, other_controls) = table(&CONTROLS, controls);
        let (extended, other_extended) = table(&EXTENDED, extended);
        Rules {
            controls,
            extended,
            other_controls,
            other_extended,
        }
    }

    /// What is done with a request that has this control.
    pub fn control(&self, oid: &[u8]) -> Action {
        self.controls.get(oid).copied().unwrap_or(self.other_controls)
    }

    /// What is done with this extended operation.
    pub fn extended(&self, oid: &[u8]) -> Action {
        self.extended.get(oid).copied().unwrap_or(self.other_extended)
    }

    /// Whether this extended operation is refused by name. That holds also for those which are answered here.
    pub fn refuses(&self, oid: &[u8]) -> bool {
        self.extended.get(oid) == Some(&Action::Reject)
    }
}

fn table<'a>(
    known: &[(&'static str, Action)],
    written: impl IntoIterator<Item = (&'a str, Action)>,
) -> (BTreeMap<Box<[u8]>, Action>, Action) {
    let mut others = Action::Ignore;
    let mut table = BTreeMap::new();
    for (oid, action) in known {
        table.insert(oid.as_bytes().into(), *action);
    }
    for (oid, action) in written {
        if oid == OTHERS {
            others = action;
        } else {
            table.insert(oid.as_bytes().into(), action);
        }
    }
    (table, others)
}
