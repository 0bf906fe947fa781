//! The nslcd protocol, version 2: what the modules libnss_ldap (nss-pam-ldapd) and pam_ldap ask over a unix socket.
//!
//! One question per connection. All numbers are big-endian and of 32 bits; a string is its length and its bytes; a list is
//! its length and its strings. A question is the version, an action and the action's own fields; an answer is the version, the
//! action, any number of results each behind [`RESULT_BEGIN`], and [`RESULT_END`]. An answer that stops before its end means
//! that nobody could be asked: the modules then say "unavailable", and never "no such user". The page of the protocol is the
//! header `nslcd.h` of nss-pam-ldapd; the names here are its names.

mod reply;

pub use reply::*;

use crate::frame::{Malformed, Step};

/// The version spoken.
pub const VERSION: u32 = 2;
/// A result follows.
pub const RESULT_BEGIN: u32 = 1;
/// No more results: the answer is whole.
pub const RESULT_END: u32 = 2;
/// The longest question that is taken, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Changes in one [`Request::UserModify`] at most.
pub const CHANGES_MAX: usize = 32;

const ACTION_CONFIG_GET: u32 = 0x0001_0001;
const ACTION_AUTHC: u32 = 0x000d_0001;
const ACTION_AUTHZ: u32 = 0x000d_0002;
const ACTION_SESSION_OPEN: u32 = 0x000d_0003;
const ACTION_SESSION_CLOSE: u32 = 0x000d_0004;
const ACTION_PASSWORD_MODIFY: u32 = 0x000d_0005;
const ACTION_USER_MODIFY: u32 = 0x000e_0001;
const USERMOD_END: u32 = 0;

/// The database that is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Map {
    /// Mail aliases.
    Alias,
    /// Ethernet addresses.
    Ether,
    /// Groups.
    Group,
    /// Hosts.
    Host,
    /// Netgroups.
    Netgroup,
    /// Networks.
    Network,
    /// User accounts.
    Passwd,
    /// IP protocols.
    Protocol,
    /// Sun RPC programs.
    Rpc,
    /// Network services.
    Service,
    /// Ages of passwords.
    Shadow,
}

impl Map {
    /// All of them.
    pub const ALL: [Map; 11] = [
        Map::Alias,
        Map::Ether,
        Map::Group,
        Map::Host,
        Map::Netgroup,
        Map::Network,
        Map::Passwd,
        Map::Protocol,
        Map::Rpc,
        Map::Service,
        Map::Shadow,
    ];

    fn number(self) -> u32 {
        match self {
            Map::Alias => 2,
            Map::Ether => 3,
            Map::Group => 4,
            Map::Host => 5,
            Map::Netgroup => 6,
            Map::Network => 7,
            Map::Passwd => 8,
            Map::Protocol => 9,
            Map::Rpc => 10,
            Map::Service => 11,
            Map::Shadow => 12,
        }
    }
}

/// Which entries of a map are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key<'a> {
    /// All of them.
    All,
    /// Those with this name.
    Name(&'a [u8]),
    /// Groups that this user is a member of.
    Member(&'a [u8]),
    /// Those with this number: uid, gid, number of a protocol or RPC program.
    Id(u32),
    /// The service with this name, and of this protocol unless it is empty.
    ServiceName(&'a [u8], &'a [u8]),
    /// The service with this port, and of this protocol unless it is empty.
    ServicePort(u32, &'a [u8]),
    /// The host or network with this address: its family (2: IPv4, 10: IPv6) and bytes.
    Address(u32, &'a [u8]),
    /// The host with this ethernet address.
    Ether([u8; 6]),
}

/// Who a PAM question is about, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Who<'a> {
    /// The user's name. Empty: the administrator, in [`Request::Authc`].
    pub user: &'a [u8],
    /// The PAM service.
    pub service: &'a [u8],
    /// The user who asks.
    pub ruser: &'a [u8],
    /// The host from which is asked.
    pub rhost: &'a [u8],
    /// The terminal.
    pub tty: &'a [u8],
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// A setting of the daemon; 1: the text shown where passwords cannot be changed.
    ConfigGet(u32),
    /// Entries of a map.
    Look {
        /// Which map.
        map: Map,
        /// Which entries.
        key: Key<'a>,
    },
    /// Is this the user's password?
    Authc {
        /// Whose.
        who: Who<'a>,
        /// The password.
        password: &'a [u8],
    },
    /// May the user be let in?
    Authz(Who<'a>),
    /// A session begins.
    SessionOpen(Who<'a>),
    /// A session ends.
    SessionClose {
        /// Whose.
        who: Who<'a>,
        /// What the open gave.
        session: &'a [u8],
    },
    /// A new password.
    PasswordModify {
        /// Whose.
        who: Who<'a>,
        /// The old password is the administrator's.
        as_root: bool,
        /// The old password.
        old: &'a [u8],
        /// The new one.
        new: &'a [u8],
    },
    /// New personal data.
    UserModify {
        /// Whose.
        user: &'a [u8],
        /// The password is the administrator's.
        as_root: bool,
        /// The password.
        password: &'a [u8],
        /// What is to be changed.
        changes: Changes<'a>,
    },
}

/// The changes of a [`Request::UserModify`]: what, and the new value. Seen to be whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Changes<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut fields = Fields { rest: self.rest };
        let what = fields.number().ok().filter(|what| *what != USERMOD_END)?;
        let value = fields.string().ok()?;
        self.rest = fields.rest;
        Some((what, value))
    }
}

impl<'a> Request<'a> {
    /// The action's number.
    #[must_use]
    pub fn action(&self) -> u32 {
        match self {
            Request::ConfigGet(_) => ACTION_CONFIG_GET,
            Request::Look { map, key } => {
                let how = match key {
                    Key::Name(_) | Key::ServiceName(..) => 1,
                    Key::Id(_) | Key::Address(..) | Key::Ether(_) | Key::ServicePort(..) => 2,
                    Key::Member(_) => 6,
                    Key::All => 8,
                };
                map.number() << 16 | how
            }
            Request::Authc { .. } => ACTION_AUTHC,
            Request::Authz(_) => ACTION_AUTHZ,
            Request::SessionOpen(_) => ACTION_SESSION_OPEN,
            Request::SessionClose { .. } => ACTION_SESSION_CLOSE,
            Request::PasswordModify { .. } => ACTION_PASSWORD_MODIFY,
            Request::UserModify { .. } => ACTION_USER_MODIFY,
        }
    }

    /// Reads one whole question.
    ///
    /// # Errors
    /// It is another version, an unknown action, cut off, or longer than its fields.
    pub fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields { rest: frame };
        let request = read(&mut fields).map_err(|short| short.unwrap_or(Malformed::Truncated))?;
        if fields.rest.is_empty() {
            Ok(request)
        } else {
            Err(Malformed::TrailingBytes)
        }
    }

    /// Appends the question as a module writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        number(out, VERSION);
        number(out, self.action());
        match *self {
            Request::ConfigGet(what) => number(out, what),
            Request::Look { key, .. } => write_key(out, key),
            Request::Authc { who, password } => {
                write_who(out, &who);
                string(out, password);
            }
            Request::Authz(who) | Request::SessionOpen(who) => write_who(out, &who),
            Request::SessionClose { who, session } => {
                write_who(out, &who);
                string(out, session);
            }
            Request::PasswordModify { who, as_root, old, new } => {
                write_who(out, &who);
                number(out, as_root.into());
                string(out, old);
                string(out, new);
            }
            Request::UserModify {
                user,
                as_root,
                password,
                changes,
            } => {
                string(out, user);
                number(out, as_root.into());
                string(out, password);
                for (what, value) in changes {
                    number(out, what);
                    string(out, value);
                }
                number(out, USERMOD_END);
            }
        }
    }
}

/// Where the question at the beginning of `buf` ends. A question's length is not written at its beginning, so its
/// fields are walked.
#[must_use]
pub fn split(buf: &[u8], request_bytes_max: usize) -> Step {
    let mut fields = Fields { rest: buf };
    match read(&mut fields) {
        Ok(_) => {
            let len = buf.len() - fields.rest.len();
            if len > request_bytes_max {
                Step::Malformed(Malformed::TooLarge)
            } else {
                Step::Frame { len }
            }
        }
        Err(Some(fault)) => Step::Malformed(fault),
        Err(None) if buf.len() >= request_bytes_max => Step::Malformed(Malformed::TooLarge),
        Err(None) => Step::NeedMore { total: None },
    }
}

/// What has not been read yet.
#[derive(Clone, Copy)]
struct Fields<'a> {
    rest: &'a [u8],
}

/// None: there is not enough yet.
type Short = Option<Malformed>;

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Short> {
        if len > REQUEST_BYTES_MAX {
            return Err(Some(Malformed::TooLarge));
        }
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(None)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, Short> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(None)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    fn string(&mut self) -> Result<&'a [u8], Short> {
        let len = self.number()?;
        self.bytes(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn who(&mut self) -> Result<Who<'a>, Short> {
        Ok(Who {
            user: self.string()?,
            service: self.string()?,
            ruser: self.string()?,
            rhost: self.string()?,
            tty: self.string()?,
        })
    }

    fn truth(&mut self) -> Result<bool, Short> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Some(Malformed::BadValue("0 or 1"))),
        }
    }

    fn changes(&mut self) -> Result<Changes<'a>, Short> {
        let all = self.rest;
        for _ in 0..=CHANGES_MAX {
            if self.number()? == USERMOD_END {
                let len = all.len() - self.rest.len();
                return Ok(Changes {
                    rest: all.get(..len).unwrap_or(all),
                });
            }
            self.string()?;
        }
        Err(Some(Malformed::TooLarge))
    }
}

fn read<'a>(fields: &mut Fields<'a>) -> Result<Request<'a>, Short> {
    if fields.number()? != VERSION {
        return Err(Some(Malformed::BadVersion));
    }
    let action = fields.number()?;
    Ok(match action {
        ACTION_CONFIG_GET => Request::ConfigGet(fields.number()?),
        ACTION_AUTHC => Request::Authc {
            who: fields.who()?,
            password: fields.string()?,
        },
        ACTION_AUTHZ => Request::Authz(fields.who()?),
        ACTION_SESSION_OPEN => Request::SessionOpen(fields.who()?),
        ACTION_SESSION_CLOSE => Request::SessionClose {
            who: fields.who()?,
            session: fields.string()?,
        },
        ACTION_PASSWORD_MODIFY => Request::PasswordModify {
            who: fields.who()?,
            as_root: fields.truth()?,
            old: fields.string()?,
            new: fields.string()?,
        },
        ACTION_USER_MODIFY => Request::UserModify {
            user: fields.string()?,
            as_root: fields.truth()?,
            password: fields.string()?,
            changes: fields.changes()?,
        },
        _ => {
            let map = Map::ALL.into_iter().find(|map| map.number() == action >> 16);
            let map = map.ok_or(Some(Malformed::BadOperation))?;
            let key = read_key(fields, map, action & 0xffff)?;
            Request::Look { map, key }
        }
    })
}

fn read_key<'a>(fields: &mut Fields<'a>, map: Map, how: u32) -> Result<Key<'a>, Short> {
    Ok(match (map, how) {
        (_, 8) => Key::All,
        (Map::Service, 1) => Key::ServiceName(fields.string()?, fields.string()?),
        (Map::Service, 2) => Key::ServicePort(fields.number()?, fields.string()?),
        (_, 1) => Key::Name(fields.string()?),
        (Map::Passwd | Map::Group | Map::Protocol | Map::Rpc, 2) => Key::Id(fields.number()?),
        (Map::Host | Map::Network, 2) => {
            let family = fields.number()?;
            Key::Address(family, fields.string()?)
        }
        (Map::Ether, 2) => {
            let bytes = fields.bytes(6)?;
            Key::Ether(bytes.try_into().map_err(|_| Some(Malformed::Truncated))?)
        }
        (Map::Group, 6) => Key::Member(fields.string()?),
        _ => return Err(Some(Malformed::BadOperation)),
    })
}

fn write_key(out: &mut Vec<u8>, key: Key<'_>) {
    match key {
        Key::All => {}
        Key::Name(name) | Key::Member(name) => string(out, name),
        Key::Id(id) => number(out, id),
        Key::ServiceName(name, protocol) => {
            string(out, name);
            string(out, protocol);
        }
        Key::ServicePort(port, protocol) => {
            number(out, port);
            string(out, protocol);
        }
        Key::Address(family, address) => {
            number(out, family);
            string(out, address);
        }
        Key::Ether(address) => out.extend_from_slice(&address),
    }
}

fn write_who(out: &mut Vec<u8>, who: &Who<'_>) {
    for field in [who.user, who.service, who.ruser, who.rhost, who.tty] {
        string(out, field);
    }
}

fn number(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "nslcd_tests.rs"]
mod tests;
