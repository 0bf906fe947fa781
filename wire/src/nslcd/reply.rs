//! Answers: one function per shape of result, in the order of the fields on the wire.

use super::{RESULT_BEGIN, RESULT_END, VERSION, number, string};

/// Results of PAM questions, with the numbers of Linux-PAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Pam {
    /// Everything is in order.
    Success = 0,
    /// Refused.
    PermissionDenied = 6,
    /// The password is wrong.
    AuthError = 7,
    /// Nobody could be asked.
    AuthInfoUnavailable = 9,
    /// There is no such user.
    UserUnknown = 10,
    /// Too many wrong passwords.
    MaxTries = 11,
    /// The password must be changed first.
    NewAuthTokenRequired = 12,
    /// The account has expired, or is disabled.
    AccountExpired = 13,
    /// The password could not be changed.
    AuthTokenError = 20,
    /// The password has expired, for too long to be changed.
    AuthTokenExpired = 27,
}

impl Pam {
    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// An account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passwd<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The password field; `*` where there is nothing to see.
    pub password: &'a [u8],
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// The person's name.
    pub gecos: &'a [u8],
    /// The home directory.
    pub home: &'a [u8],
    /// The shell.
    pub shell: &'a [u8],
}

/// Ages of a password, in days; -1: not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shadow<'a> {
    /// The account's name.
    pub name: &'a [u8],
    /// The password field.
    pub password: &'a [u8],
    /// When it was changed last, days since 1970-01-01.
    pub last_change: i32,
    /// Until it may be changed again.
    pub min: i32,
    /// Until it must be changed.
    pub max: i32,
    /// Warned so long before.
    pub warn: i32,
    /// Usable so long after.
    pub inactive: i32,
    /// When the account expires, days since 1970-01-01.
    pub expire: i32,
    /// Unused.
    pub flag: i32,
}

/// Begins an answer.
pub fn begin(out: &mut Vec<u8>, action: u32) {
    number(out, VERSION);
    number(out, action);
}

/// Ends an answer.
pub fn end(out: &mut Vec<u8>) {
    number(out, RESULT_END);
}

/// An account.
pub fn passwd(out: &mut Vec<u8>, entry: &Passwd<'_>) {
    number(out, RESULT_BEGIN);
    string(out, entry.name);
    string(out, entry.password);
    number(out, entry.uid);
    number(out, entry.gid);
    string(out, entry.gecos);
    string(out, entry.home);
    string(out, entry.shell);
}

/// A group and the names of its members.
pub fn group<'m>(
    out: &mut Vec<u8>,
    name: &[u8],
    password: &[u8],
    gid: u32,
    members: impl ExactSizeIterator<Item = &'m [u8]>,
) {
    number(out, RESULT_BEGIN);
    string(out, name);
    string(out, password);
    number(out, gid);
    list(out, members);
}

/// Ages of a password.
pub fn shadow(out: &mut Vec<u8>, entry: &Shadow<'_>) {
    number(out, RESULT_BEGIN);
    string(out, entry.name);
    string(out, entry.password);
    for days in [
        entry.last_change,
        entry.min,
        entry.max,
        entry.warn,
        entry.inactive,
        entry.expire,
        entry.flag,
    ] {
        number(out, days.cast_unsigned());
    }
}

/// A mail alias and where it leads.
pub fn alias<'m>(out: &mut Vec<u8>, name: &[u8], recipients: impl ExactSizeIterator<Item = &'m [u8]>) {
    number(out, RESULT_BEGIN);
    string(out, name);
    list(out, recipients);
}

/// A host's ethernet address.
pub fn ether(out: &mut Vec<u8>, name: &[u8], address: [u8; 6]) {
    number(out, RESULT_BEGIN);
    string(out, name);
    out.extend_from_slice(&address);
}

/// A host or network: aliases, then addresses (family: 2 for four bytes, 10 for sixteen).
pub fn host<'m, 'n>(
    out: &mut Vec<u8>,
    name: &[u8],
    aliases: impl ExactSizeIterator<Item = &'m [u8]>,
    addresses: impl ExactSizeIterator<Item = &'n [u8]>,
) {
    number(out, RESULT_BEGIN);
    string(out, name);
    list(out, aliases);
    number(out, u32::try_from(addresses.len()).unwrap_or(u32::MAX));
    for address in addresses {
        number(out, if address.len() == 4 { 2 } else { 10 });
        string(out, address);
    }
}

/// A protocol or RPC program.
pub fn numbered<'m>(out: &mut Vec<u8>, name: &[u8], aliases: impl ExactSizeIterator<Item = &'m [u8]>, value: u32) {
    number(out, RESULT_BEGIN);
    string(out, name);
    list(out, aliases);
    number(out, value);
}

/// A network service.
pub fn service<'m>(
    out: &mut Vec<u8>,
    name: &[u8],
    aliases: impl ExactSizeIterator<Item = &'m [u8]>,
    port: u32,
    protocol: &[u8],
) {
    numbered(out, name, aliases, port);
    string(out, protocol);
}

/// Begins a netgroup; its parts follow, then [`netgroup_end`].
pub fn netgroup_begin(out: &mut Vec<u8>, name: &[u8]) {
    number(out, RESULT_BEGIN);
    string(out, name);
}

/// A part of a netgroup: another netgroup.
pub fn netgroup_member(out: &mut Vec<u8>, name: &[u8]) {
    number(out, 1);
    string(out, name);
}

/// A part of a netgroup: host, user and domain.
pub fn netgroup_triple(out: &mut Vec<u8>, host: &[u8], user: &[u8], domain: &[u8]) {
    number(out, 2);
    for field in [host, user, domain] {
        string(out, field);
    }
}

/// Ends a netgroup.
pub fn netgroup_end(out: &mut Vec<u8>) {
    number(out, 3);
}

/// One text: a setting, or a session's id.
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, RESULT_BEGIN);
    string(out, text);
}

/// Of [`super::Request::SessionClose`]: a result with nothing in it.
pub fn nothing(out: &mut Vec<u8>) {
    number(out, RESULT_BEGIN);
}

/// Of [`super::Request::Authc`]: whether the password is right, the user's name as the directory has it, and what is known
/// of the account.
pub fn authc(out: &mut Vec<u8>, password: Pam, name: &[u8], account: Pam, message: &[u8]) {
    number(out, RESULT_BEGIN);
    number(out, password.number());
    string(out, name);
    number(out, account.number());
    string(out, message);
}

/// Of [`super::Request::Authz`] and [`super::Request::PasswordModify`].
pub fn verdict(out: &mut Vec<u8>, verdict: Pam, message: &[u8]) {
    number(out, RESULT_BEGIN);
    number(out, verdict.number());
    string(out, message);
}

/// Of [`super::Request::UserModify`]: why nothing was changed.
pub fn user_modify_refused(out: &mut Vec<u8>, message: &[u8]) {
    number(out, RESULT_BEGIN);
    number(out, 1);
    string(out, message);
    number(out, 0);
}

fn list<'m>(out: &mut Vec<u8>, strings: impl ExactSizeIterator<Item = &'m [u8]>) {
    number(out, u32::try_from(strings.len()).unwrap_or(u32::MAX));
    for each in strings {
        string(out, each);
    }
}
