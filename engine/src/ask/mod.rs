//! The daemon's own questions: a search, a user's bind, a change of a password, a call of a service.
//!
//! The faces that are no LDAP clients (NSS/PAM, saslauthd) have their questions answered by a directory's pool or a service,
//! under the daemon's own identity. A session puts [`Question`]s into its [`Asks`]; the owner submits them to a pool and tells
//! the session what came of each as an [`Event`], by the question's id. The bytes of an LDAP question are a whole LDAPMessage
//! whose id is of no meaning: the connection that carries it gives it one.
//!
//! Invariants: an id is never used again within one session; a question is wiped when it goes.

mod call;
#[cfg(test)]
pub(crate) mod example;
pub mod filter;
pub mod template;
mod verdict;

use std::collections::VecDeque;

use wire::ldap::control::{self, oid};
use wire::ldap::envelope;
use wire::ldap::message::{self, SearchSpec};
use zeroize::Zeroizing;

pub use call::Object;
// A session that asks a directory says so in these words, and knows nothing else of LDAP.
pub use verdict::{Bound, Verdict, bind_verdict};
pub use wire::ldap::dn::avas as name_parts;
pub use wire::ldap::grammar::Scope;
pub use wire::ldap::message::{ChangeSpec, Entry};
pub use wire::ldap::result::{code, name as code_name};

/// Questions of one session that are not answered yet, at most; what is beyond waits in the session.
pub const OPEN_MAX: usize = 16;

/// Who is to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// The directory, on a connection for everybody, bound as the daemon.
    Shared,
    /// The directory, on a connection for binds of others.
    Bind,
    /// The directory, on a connection of this session's own: what one question binds it to, the next one is asked as. The
    /// session keeps it until it ends.
    Own,
    /// The service.
    Service,
}

/// See the module.
#[derive(Debug)]
pub struct Question {
    /// The session's name for it.
    pub id: u32,
    /// Who is to answer.
    pub to: To,
    /// An LDAPMessage, or what the service is called with.
    pub bytes: Zeroizing<Vec<u8>>,
    /// It may be asked again elsewhere when nothing of its answer has come.
    pub retry: bool,
}

/// What came of a question.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An entry that was found; more may follow.
    Entry(Entry<'a>),
    /// The end of an LDAP question.
    Done(Final<'a>),
    /// The whole answer of a service.
    Answer(&'a [u8]),
    /// Nobody answered: unreachable, too slow, too busy. Says nothing about what was asked.
    Failed,
}

/// How an LDAP question ended.
#[derive(Clone, Copy, Debug)]
pub struct Final<'a> {
    /// A code of [`wire::ldap::result::code`].
    pub code: u32,
    /// Text for a human.
    pub diagnostic: &'a [u8],
    /// The content of the message's controls.
    pub controls: &'a [u8],
}

/// A search to be asked.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Where it begins.
    pub base: &'a [u8],
    /// How far it goes.
    pub scope: Scope,
    /// The encoded filter.
    pub filter: &'a [u8],
    /// What is wanted of an entry; `1.1`: nothing.
    pub attributes: &'a [&'a str],
    /// Entries at most; 0: no limit.
    pub size_limit: i32,
}

/// Questions to be submitted.
#[derive(Debug, Default)]
pub struct Asks {
    last: u32,
    ready: VecDeque<Question>,
}

impl Asks {
    /// The next question that is to be submitted.
    pub fn take(&mut self) -> Option<Question> {
        self.ready.pop_front()
    }

    /// Nothing more is to be asked.
    pub fn clear(&mut self) {
        self.ready.clear();
    }

    /// A search, as the daemon.
    pub fn search(&mut self, search: &Search<'_>) -> u32 {
        self.put(To::Shared, true, |out| write_search(out, search))
    }

    /// Whether this is the password of that entry. Never with an empty password, which servers take for nobody's (RFC 4513
    /// section 5.1.2): the caller has refused it. The server is asked for what its password policy says as well.
    pub fn bind(&mut self, to: To, dn: &[u8], password: &[u8]) -> u32 {
        let mut plain = Zeroizing::new(Vec::with_capacity(dn.len() + password.len() + 64));
        message::write_simple_bind(&mut plain, 1, dn, password);
        let mut policy = Vec::new();
        control::write_control(&mut policy, oid::PASSWORD_POLICY, false, None);
        self.put(to, false, |out| {
            if let Ok(env) = envelope::peek(&plain) {
                envelope::write(out, 1, env.op, env.controls, &policy);
            }
        })
    }

    /// A new password by Password Modify (RFC 3062).
    pub fn password_modify(&mut self, to: To, dn: &[u8], old: Option<&[u8]>, new: &[u8]) -> u32 {
        self.put(to, false, |out| {
            message::write_password_modify(out, 1, Some(dn), old, Some(new));
        })
    }

    /// A modify.
    pub fn modify(&mut self, to: To, dn: &[u8], changes: &[ChangeSpec<'_>]) -> u32 {
        self.put(to, false, |out| message::write_modify(out, 1, dn, changes))
    }

    /// A call of the service.
    pub fn call(&mut self, payload: Zeroizing<Vec<u8>>) -> u32 {
        self.last += 1;
        self.ready.push_back(Question {
            id: self.last,
            to: To::Service,
            bytes: payload,
            retry: false,
        });
        self.last
    }

    fn put(&mut self, to: To, retry: bool, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        self.last += 1;
        // What grows leaves copies behind: room for everything at once.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        write(&mut bytes);
        self.ready.push_back(Question {
            id: self.last,
            to,
            bytes,
            retry,
        });
        self.last
    }
}

fn write_search(out: &mut Vec<u8>, search: &Search<'_>) {
    message::write_search(
        out,
        1,
        &SearchSpec {
            base: search.base,
            scope: search.scope,
            deref: 0,
            size_limit: search.size_limit,
            time_limit: 0,
            types_only: false,
            filter: search.filter,
            attributes: search.attributes,
        },
    );
}
