//! `winbind`: users, groups and passwords of Windows domains, asked of Samba's winbindd through its client library.
//!
//! [`Winbind`] is the pure part: a request becomes questions to a [`Backend`], and what came back becomes an answer. [`Library`] is the
//! backend that asks for real.
//!
//! - A name is a user's or group's with or without its domain (`CORP\alice`, `alice@corp.example.com`, `alice`); what winbindd
//!   puts between domain and name is learnt from it. With `use_default_domain` the names of `domain` come without it.
//! - The library reports a look-up that failed as one that found nothing. So "not found" is believed only of a domain that
//!   winbindd calls online; of another one it becomes `unavailable`.
//! - winbindd keeps how far a listing has come with the connection. A cursor says how many entries were given; a helper that
//!   has just that listing open goes on with it, another one begins anew and passes over as many.

mod backend;
mod ffi;
mod listing;
mod sids;
mod status;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

pub use self::backend::{Account, Backend, Details, Failure, Ids, Listing, LoggedOn, Proof, Reject, Wanted};
pub use self::ffi::Library;
use self::listing::Listings;
use self::status::{Attempt, answer};
use crate::identity::{
    Answer, Body, ChangePassword, EncryptedChange, Group, GroupKey, Invalid, Login, Logon, MsChap, Refusal, Request,
    Status, Subject, Trust, User, UserKey, Which, read,
};
use crate::{Caller, Reply};

/// What the session of a winbind user is: nothing is kept open for it.
const SESSION: &str = "winbind";

/// The settings of `[service.NAME.winbind]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The domain of names that say none, by its NetBIOS name; none: winbindd decides.
    pub domain: Option<String>,
    /// Names of `domain` are given without it.
    pub use_default_domain: bool,
    /// SIDs, or names, of groups of which one is needed to log on; empty: none is.
    pub require_membership: Vec<String>,
    /// Entries in one page of a listing.
    pub page_entries: usize,
    /// A password that must be changed sooner than this is told about.
    pub password_warning: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            domain: None,
            use_default_domain: false,
            require_membership: Vec::new(),
            page_entries: 500,
            password_warning: Duration::from_secs(14 * 86_400),
        }
    }
}

/// The helper: settings and a backend.
pub struct Winbind<B> {
    options: Options,
    backend: B,
    listings: Listings,
    details: Option<Details>,
    /// The SIDs of `require_membership`, once all are known.
    required: Option<Vec<String>>,
}

impl<B: Backend> Winbind<B> {
    /// A helper that has asked nothing yet.
    pub fn new(options: Options, backend: B) -> Self {
        Winbind {
            options,
            backend,
            listings: Listings::default(),
            details: None,
            required: None,
        }
    }

    /// Answers one call.
    pub fn call(&mut self, payload: &[u8], caller: &mut dyn Caller) -> Reply {
        let answer = match read(payload) {
            Ok(request) => self.answer(request),
            Err(Invalid(why)) => Refusal::new(Status::Invalid, why).into(),
        };
        if caller.interrupted() {
            self.forget();
            return Reply::Interrupted;
        }
        if answer.status == Status::Unavailable {
            self.forget();
        }
        Reply::Answer(answer.to_json())
    }

    /// What winbindd said of itself, and connections, may be of one that is no longer there.
    fn forget(&mut self) {
        self.backend.forget();
        self.listings = Listings::default();
        self.details = None;
    }

    fn answer(&mut self, request: Request) -> Answer {
        self.attempt(request).unwrap_or_else(Answer::from)
    }

    fn attempt(&mut self, request: Request) -> Result<Answer, Refusal> {
        let body = match request {
            Request::Passwd(Which::One(key)) => self.user(key)?,
            Request::Passwd(Which::All { cursor }) => self.page_of_users(cursor.as_deref())?,
            Request::Group(Which::One(key)) => self.group(key)?,
            Request::Group(Which::All { cursor }) => self.page_of_groups(cursor.as_deref())?,
            Request::Initgroups { name } => {
                let name = self.full_name(&name)?;
                let gids = self.backend.groups_of(&name);
                Body::Gids {
                    gids: gids.map_err(|failure| self.not_found(&failure, Some(&name)))?,
                }
            }
            Request::Authenticate(login) => return self.authenticate(&login),
            Request::Response(response) => return self.response(&response),
            Request::Logon(logon) => return self.log_on(&logon),
            Request::Logoff { name, krb5_cache } => self.log_off(&name, krb5_cache.as_deref())?,
            Request::Account(subject) => return self.account(&subject),
            Request::ChangePassword(change) => return self.change_password(&change),
            Request::EncryptedChange(change) => return self.change_encrypted(&change),
            Request::OpenSession(_) => Body::Session {
                session: SESSION.to_owned(),
                environment: std::collections::BTreeMap::new(),
            },
            Request::CloseSession { session, .. } if session == SESSION => Body::Nothing {},
            Request::CloseSession { .. } => {
                return Err(Refusal::new(
                    Status::Invalid,
                    "`session` is not what `open-session` answered",
                ));
            }
            Request::Users { domain } => {
                let names = self.backend.users(domain.as_deref());
                self.names(names)?
            }
            Request::Groups { domain } => {
                let names = self.backend.groups(domain.as_deref());
                self.names(names)?
            }
            Request::Ping { domain: None } => {
                self.backend.ping().map_err(|failure| lookup(&failure))?;
                Body::Nothing {}
            }
            Request::Ping { domain: Some(domain) } => Body::Controller {
                controller: self
                    .backend
                    .ping_controller(&domain)
                    .map_err(|failure| unreached(&failure))?,
            },
            other => self.sids_and_domains(other)?,
        };
        Ok(Answer::ok(body))
    }

    fn user(&mut self, key: UserKey) -> Result<Body, Refusal> {
        let key = match key {
            UserKey::Name(name) => UserKey::Name(self.full_name(&name)?),
            other => other,
        };
        let user = self.backend.user(&key).map_err(|failure| match &key {
            UserKey::Name(name) => self.not_found(&failure, Some(name)),
            UserKey::Uid(_) => self.not_found(&failure, None),
            UserKey::Sid(sid) => self.not_found_sid(&failure, sid),
        })?;
        let details = self.details()?;
        Ok(Body::Users {
            entries: vec![self.shown_user(user, &details)],
            cursor: None,
        })
    }

    fn group(&mut self, key: GroupKey) -> Result<Body, Refusal> {
        let key = match key {
            GroupKey::Name(name) => GroupKey::Name(self.full_name(&name)?),
            other @ GroupKey::Gid(_) => other,
        };
        let group = self.backend.group(&key).map_err(|failure| match &key {
            GroupKey::Name(name) => self.not_found(&failure, Some(name)),
            GroupKey::Gid(_) => self.not_found(&failure, None),
        })?;
        let details = self.details()?;
        Ok(Body::Groups {
            entries: vec![self.shown_group(group, &details)],
            cursor: None,
        })
    }

    fn names(&mut self, names: Result<Vec<String>, Failure>) -> Result<Body, Refusal> {
        let names = names.map_err(|failure| lookup(&failure))?;
        let details = self.details()?;
        let names = names.into_iter().map(|name| self.shown(name, &details)).collect();
        Ok(Body::Names { names })
    }

    fn page_of_users(&mut self, cursor: Option<&str>) -> Result<Body, Refusal> {
        let details = self.details()?;
        let page = self
            .listings
            .users(&mut self.backend, cursor, self.options.page_entries);
        let (users, cursor) = page?;
        let entries = users.into_iter().map(|user| self.shown_user(user, &details)).collect();
        Ok(Body::Users { entries, cursor })
    }

    fn page_of_groups(&mut self, cursor: Option<&str>) -> Result<Body, Refusal> {
        let details = self.details()?;
        let page = self
            .listings
            .groups(&mut self.backend, cursor, self.options.page_entries);
        let (groups, cursor) = page?;
        let entries = groups
            .into_iter()
            .map(|group| self.shown_group(group, &details))
            .collect();
        Ok(Body::Groups { entries, cursor })
    }

    fn authenticate(&mut self, login: &Login) -> Result<Answer, Refusal> {
        let Some(password) = &login.password else {
            return Err(Refusal::new(Status::Invalid, "`password` is missing"));
        };
        let name = self.full_name(&login.subject.name)?;
        let proof = Proof::Password(password);
        let account = self
            .backend
            .authenticate(&name, "", &proof)
            .map_err(|failure| answer(&failure, Attempt::Password))?;
        self.member(&account)?;
        let details = self.details()?;
        let message = self.password_warning(&account);
        let body = Body::Authenticated {
            name: Some(self.canonical(&account, &details, &name)),
            sid: account.sids.first().cloned(),
            session_key: None,
            lm_key: None,
        };
        Ok(Answer::ok(body).saying(message))
    }

    fn log_on(&mut self, logon: &Logon) -> Result<Answer, Refusal> {
        let name = self.full_name(&logon.name)?;
        let ticket = match logon.krb5_cache {
            Some(cache) => Some((cache, self.uid_of(&name)?)),
            None => None,
        };
        let wanted = Wanted {
            kerberos: logon.kerberos,
            cached: logon.cached,
            ticket,
        };
        let logged_on = self
            .backend
            .log_on(&name, &logon.password, &wanted)
            .map_err(|failure| answer(&failure, Attempt::Password))?;
        let account = &logged_on.account;
        if let Err(refusal) = self.member(account) {
            // Who may not log on here keeps no ticket.
            if let (Some(cache), Some((_, uid))) = (&logged_on.krb5_cache, ticket) {
                let _ = self.backend.log_off(&name, uid, Some(cache));
            }
            return Err(refusal);
        }
        let details = self.details()?;
        let message = self.password_warning(account);
        let body = Body::LoggedOn {
            name: self.canonical(account, &details, &name),
            sid: account.sids.first().cloned(),
            krb5_cache: logged_on.krb5_cache,
            cached: logged_on.cached,
        };
        Ok(Answer::ok(body).saying(message))
    }

    fn log_off(&mut self, name: &str, krb5_cache: Option<&str>) -> Result<Body, Refusal> {
        let name = self.full_name(name)?;
        let uid = self.uid_of(&name)?;
        let done = self.backend.log_off(&name, uid, krb5_cache);
        done.map_err(|failure| answer(&failure, Attempt::Logoff))?;
        Ok(Body::Nothing {})
    }

    /// The uid, always winbindd's own: a caller that could name it would reach other people's tickets.
    fn uid_of(&mut self, full_name: &str) -> Result<u32, Refusal> {
        let user = self.backend.user(&UserKey::Name(full_name.to_owned()));
        user.map(|user| user.uid)
            .map_err(|failure| self.not_found(&failure, Some(full_name)))
    }

    fn response(&mut self, response: &MsChap) -> Result<Answer, Refusal> {
        let details = self.details()?;
        let (domain, name) = match &response.domain {
            Some(domain) => (domain.clone(), response.name.clone()),
            None => split(&response.name, details.separator)
                .unwrap_or_else(|| (self.options.domain.clone().unwrap_or_default(), response.name.clone())),
        };
        let proof = Proof::Response {
            challenge: response.challenge,
            nt: &response.nt_response,
            lm: &response.lm_response,
        };
        let account = self
            .backend
            .authenticate(&name, &domain, &proof)
            .map_err(|failure| answer(&failure, Attempt::Response))?;
        self.member(&account)?;
        let known = account.lm_key.iter().any(|byte| *byte != 0);
        Ok(Answer::ok(Body::Authenticated {
            name: Some(self.canonical(&account, &details, &name)),
            sid: account.sids.first().cloned(),
            session_key: Some(hex(&*account.session_key)),
            lm_key: known.then(|| hex(&*account.lm_key)),
        }))
    }

    fn account(&mut self, subject: &Subject) -> Result<Answer, Refusal> {
        self.user(UserKey::Name(subject.name.clone()))
            .map(|_| Answer::ok(Body::Nothing {}))
    }

    fn change_password(&mut self, change: &ChangePassword) -> Result<Answer, Refusal> {
        let name = self.full_name(&change.name)?;
        self.backend
            .change_password(&name, &change.old, &change.new)
            .map_err(|failure| answer(&failure, Attempt::Change))?;
        Ok(Answer::ok(Body::Nothing {}))
    }

    fn change_encrypted(&mut self, change: &EncryptedChange) -> Result<Answer, Refusal> {
        let (domain, name) = self.account_name(&change.name, change.domain.as_deref())?;
        let done = self
            .backend
            .change_encrypted(&name, &domain, &change.new, &change.old_hash);
        let Err(failure) = done else {
            return Ok(Answer::ok(Body::Nothing {}));
        };
        let said = answer(&failure, Attempt::EncryptedChange);
        // Of a user that is not there a controller says the same.
        if said.status == Status::WrongPassword
            && let Err(failure) = self.backend.name_to_sid(&domain, &name)
        {
            let found = self.not_found(&failure, Some(&format!("{domain}\\{name}")));
            if found.status == Status::NotFound {
                return Err(found);
            }
        }
        Err(said)
    }

    /// Domain and name as a domain controller stores them: for an encrypted change winbindd looks nothing up.
    fn account_name(&mut self, name: &str, domain: Option<&str>) -> Result<(String, String), Refusal> {
        let details = self.details()?;
        if let Some(domain) = domain {
            return Ok((domain.to_owned(), name.to_owned()));
        }
        if let Some(both) = split(name, details.separator) {
            return Ok(both);
        }
        if name.contains('@') {
            let sid = self.backend.name_to_sid("", name);
            let found = sid.and_then(|(sid, _)| self.backend.sid_to_name(&sid));
            let (domain, name, _) = found.map_err(|failure| self.not_found(&failure, Some(name)))?;
            return Ok((domain, name));
        }
        Ok((self.options.domain.clone().unwrap_or(details.domain), name.to_owned()))
    }

    /// Whether the account is in one of the groups that are required.
    fn member(&mut self, account: &Account) -> Result<(), Refusal> {
        if self.options.require_membership.is_empty() {
            return Ok(());
        }
        if self.required.is_none() {
            let mut sids = Vec::new();
            for group in self.options.require_membership.clone() {
                sids.push(if group.starts_with("S-1-") {
                    group
                } else {
                    let full = self.full_name(&group)?;
                    let found = self.backend.name_to_sid("", &full);
                    let cannot = |_| {
                        Refusal::new(
                            Status::Unavailable,
                            format!("the required group {group} cannot be found"),
                        )
                    };
                    found.map_err(cannot)?.0
                });
            }
            self.required = Some(sids);
        }
        let required = self.required.as_deref().unwrap_or_default();
        if account.sids.iter().any(|sid| required.contains(sid)) {
            Ok(())
        } else {
            Err(Refusal::new(Status::Restricted, "not in a group that may log on here"))
        }
    }

    fn password_warning(&self, account: &Account) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let left = account.password_must_change.saturating_sub(now);
        if left == 0 || left > self.options.password_warning.as_secs() {
            return String::new();
        }
        match left / 86_400 {
            0 => "the password expires today".to_owned(),
            1 => "the password expires tomorrow".to_owned(),
            days => format!("the password expires in {days} days"),
        }
    }

    /// What winbindd says of itself, asked once per connection.
    fn details(&mut self) -> Result<Details, Refusal> {
        if let Some(details) = &self.details {
            return Ok(details.clone());
        }
        let details = self.backend.details().map_err(|failure| lookup(&failure))?;
        self.details = Some(details.clone());
        Ok(details)
    }

    /// The name as winbindd wants it: with its separator, and with the default domain where it names none.
    fn full_name(&mut self, name: &str) -> Result<String, Refusal> {
        let separator = self.details()?.separator;
        if let Some((domain, name)) = split(name, separator) {
            return Ok(format!("{domain}{separator}{name}"));
        }
        Ok(match &self.options.domain {
            Some(domain) if !name.contains('@') => format!("{domain}{separator}{name}"),
            _ => name.to_owned(),
        })
    }

    /// The name as our callers see it. (A machine in no domain puts the separator even before a name that was asked without one.)
    fn shown(&self, name: String, details: &Details) -> String {
        if let Some(bare) = name.strip_prefix(details.separator) {
            return bare.to_owned();
        }
        let Some(own) = self.options.domain.as_ref().filter(|_| self.options.use_default_domain) else {
            return name;
        };
        match split(&name, details.separator) {
            Some((domain, bare)) if domain.eq_ignore_ascii_case(own) => bare,
            _ => name,
        }
    }

    fn shown_user(&self, mut user: User, details: &Details) -> User {
        user.name = self.shown(user.name, details);
        user
    }

    fn shown_group(&self, mut group: Group, details: &Details) -> Group {
        group.name = self.shown(group.name, details);
        group.members = group
            .members
            .into_iter()
            .map(|member| self.shown(member, details))
            .collect();
        group
    }

    fn canonical(&self, account: &Account, details: &Details, asked: &str) -> String {
        let name = if account.name.is_empty() {
            asked.to_owned()
        } else if account.domain.is_empty() {
            account.name.clone()
        } else {
            format!("{}{}{}", account.domain, details.separator, account.name)
        };
        self.shown(name, details)
    }

    /// A look-up that failed; "nothing found" only where the name's domain (or, without one, the machine's) is online.
    fn not_found(&mut self, failure: &Failure, name: Option<&str>) -> Refusal {
        let said = answer(failure, Attempt::Lookup);
        if said.status != Status::NotFound {
            return said;
        }
        let details = match self.details() {
            Ok(details) => details,
            Err(unavailable) => return unavailable,
        };
        let named = name
            .and_then(|name| split(name, details.separator))
            .map(|(domain, _)| domain);
        let domain = named.unwrap_or(details.domain);
        self.unless_offline(said, |trust| {
            trust.short_name.eq_ignore_ascii_case(&domain) || trust.dns_name.eq_ignore_ascii_case(&domain)
        })
    }

    fn unless_offline(&mut self, said: Refusal, concerned: impl Fn(&Trust) -> bool) -> Refusal {
        match self.backend.trusts() {
            Ok(domains) => match domains.iter().find(|domain| domain.offline && concerned(domain)) {
                Some(domain) => Refusal::new(
                    Status::Unavailable,
                    format!("no domain controller of {} is in reach", domain.short_name),
                ),
                None => said,
            },
            Err(failure) => lookup(&failure),
        }
    }
}

fn lookup(failure: &Failure) -> Refusal {
    answer(failure, Attempt::Lookup)
}

/// A domain whose controller does not answer is unavailable, whatever the library calls it.
fn unreached(failure: &Failure) -> Refusal {
    let said = answer(failure, Attempt::Lookup);
    match said.status {
        Status::Invalid | Status::Unsupported => said,
        _ => Refusal::new(Status::Unavailable, said.message),
    }
}

/// Domain and name, at winbindd's separator or at a backslash.
fn split(name: &str, separator: char) -> Option<(String, String)> {
    let (domain, name) = name.split_once(['\\', separator])?;
    (!domain.is_empty() && !name.is_empty()).then(|| (domain.to_owned(), name.to_owned()))
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS.get(usize::from(value)).copied().unwrap_or(b'?'));
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}
