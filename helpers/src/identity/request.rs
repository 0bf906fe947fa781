//! Requests: what is asked, with every member checked.

use std::fmt;

use serde_json::Value;
use zeroize::Zeroizing;

use super::members::Members;

/// Every member that any request knows; another one is a slip of the pen.
const MEMBERS: [&str; 26] = [
    "do",
    "name",
    "uid",
    "gid",
    "uids",
    "gids",
    "sid",
    "sids",
    "cursor",
    "password",
    "service",
    "host",
    "tty",
    "user",
    "domain",
    "challenge",
    "nt_response",
    "lm_response",
    "old_password",
    "new_password",
    "new_nt_encrypted",
    "old_nt_hash_encrypted",
    "session",
    "kerberos",
    "krb5_cache",
    "cached",
];

/// An NTLMv2 response carries names and a few attributes: some hundred bytes.
const NT_RESPONSE_BYTES_MAX: usize = 8192;

/// One request.
#[derive(Debug)]
pub enum Request {
    /// Users as NSS knows them.
    Passwd(Which<UserKey>),
    /// Groups as NSS knows them.
    Group(Which<GroupKey>),
    /// The ids of a user's groups.
    Initgroups {
        /// The user.
        name: String,
    },
    /// Is this the user's password, and may the account be used?
    Authenticate(Login),
    /// The same by a challenge and its response (MS-CHAP).
    Response(MsChap),
    /// The same by a password, with what a logon to a domain may bring besides.
    Logon(Logon),
    /// Ends what a logon has left.
    Logoff {
        /// Whose.
        name: String,
        /// The ticket cache that the logon answered.
        krb5_cache: Option<String>,
    },
    /// May the account be used?
    Account(Subject),
    /// Change a password.
    ChangePassword(ChangePassword),
    /// The same by what only who knows the old password's hash can read (MS-CHAP).
    EncryptedChange(Box<EncryptedChange>),
    /// Open a session.
    OpenSession(Subject),
    /// Close it.
    CloseSession {
        /// Whose.
        subject: Subject,
        /// What `open-session` answered.
        session: String,
    },
    /// The SID of a name.
    NameToSid {
        /// User or group.
        name: String,
        /// Where the name does not say it.
        domain: Option<String>,
    },
    /// The name of a SID.
    SidToName {
        /// The SID.
        sid: String,
    },
    /// The uid or gid of a SID.
    SidToId {
        /// The SID.
        sid: String,
    },
    /// The SID of a uid or gid.
    IdToSid(UnixId),
    /// The names of many SIDs.
    SidsToNames {
        /// At least one, all different or not.
        sids: Vec<String>,
    },
    /// The uids or gids of many SIDs.
    SidsToIds {
        /// At least one.
        sids: Vec<String>,
    },
    /// The SIDs of many uids and gids.
    IdsToSids {
        /// At least one: first uids, then gids, as they were given.
        ids: Vec<UnixId>,
    },
    /// The SIDs of a user's groups.
    UserSids {
        /// The user's.
        sid: String,
    },
    /// The SIDs of the aliases (local groups) of one domain that a SID is in.
    SidAliases {
        /// The user's or group's.
        sid: String,
        /// The domain's; none: those of every machine (`S-1-5-32`).
        domain: Option<String>,
    },
    /// Names of all users.
    Users {
        /// None: of every domain.
        domain: Option<String>,
    },
    /// Names of all groups.
    Groups {
        /// None: of every domain.
        domain: Option<String>,
    },
    /// Does the back end answer?
    Ping {
        /// Asked too: a domain's controller.
        domain: Option<String>,
    },
    /// What is known of a domain.
    DomainInfo {
        /// None: the machine's own.
        domain: Option<String>,
    },
    /// The domains that are trusted.
    Trusts,
}

/// One entry, or all of them.
#[derive(PartialEq, Eq, Debug)]
pub enum Which<K> {
    /// This one.
    One(K),
    /// A page of all.
    All {
        /// None: the first page.
        cursor: Option<String>,
    },
}

/// What names a user.
#[derive(PartialEq, Eq, Debug)]
pub enum UserKey {
    /// Login name.
    Name(String),
    /// User id.
    Uid(u32),
    /// `S-1-…`.
    Sid(String),
}

/// What names a group.
#[derive(PartialEq, Eq, Debug)]
pub enum GroupKey {
    /// Its name.
    Name(String),
    /// Group id.
    Gid(u32),
}

/// A uid or a gid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnixId {
    /// Of a user.
    Uid(u32),
    /// Of a group.
    Gid(u32),
}

/// Where a user is, and by which service.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Place {
    /// The service the user wants: `imap`, `sshd`.
    pub service: Option<String>,
    /// The host the user comes from.
    pub host: Option<String>,
    /// The terminal.
    pub tty: Option<String>,
    /// The user's name on that host.
    pub user: Option<String>,
}

/// A user somewhere.
#[derive(PartialEq, Eq, Debug)]
pub struct Subject {
    /// Login name.
    pub name: String,
    /// Where.
    pub place: Place,
}

/// A user with a password.
pub struct Login {
    /// Who and where.
    pub subject: Subject,
    /// None: whoever needs one asks for it.
    pub password: Option<Zeroizing<String>>,
}

/// A logon to a domain, and what is wanted of it besides the verdict.
pub struct Logon {
    /// Login name.
    pub name: String,
    /// Its password.
    pub password: Zeroizing<String>,
    /// By Kerberos, where the domain has it.
    pub kerberos: bool,
    /// Where no controller is in reach, by what the last logon left.
    pub cached: bool,
    /// Where the ticket is kept; none: it is thrown away.
    pub krb5_cache: Option<TicketCache>,
}

/// Where a Kerberos ticket is kept for its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TicketCache {
    /// In a file that the back end names.
    File,
    /// In the kernel's keyring of the user.
    Keyring,
    /// With the ticket manager of the machine (sssd-kcm, Heimdal's kcm).
    Kcm,
}

/// A response to a challenge (RFC 2433, RFC 2759; an NTLMv2 response is longer).
pub struct MsChap {
    /// Login name.
    pub name: String,
    /// Where the name does not say it.
    pub domain: Option<String>,
    /// The challenge, as it goes into the response.
    pub challenge: [u8; 8],
    /// 24 bytes, or more for NTLMv2.
    pub nt_response: Zeroizing<Vec<u8>>,
    /// 24 bytes, or none.
    pub lm_response: Zeroizing<Vec<u8>>,
}

/// A password to be changed.
pub struct ChangePassword {
    /// Whose.
    pub name: String,
    /// The one that holds.
    pub old: Zeroizing<String>,
    /// The one that is wanted.
    pub new: Zeroizing<String>,
    /// By which service.
    pub place: Place,
}

/// A password to be changed, neither the old nor the new one being said (RFC 2759 sections 8.9 and 8.12).
pub struct EncryptedChange {
    /// Whose.
    pub name: String,
    /// Where the name does not say it.
    pub domain: Option<String>,
    /// The new password, encrypted with the old one's NT hash.
    pub new: Zeroizing<[u8; 516]>,
    /// The old one's NT hash, encrypted with the new one's.
    pub old_hash: Zeroizing<[u8; 16]>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Logon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logon")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MsChap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsChap")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChangePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangePassword")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EncryptedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedChange")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A request that makes no sense, and which member makes it so.
#[derive(PartialEq, Eq, Debug)]
pub struct Invalid(pub String);

/// Reads a request.
///
/// # Errors
///
/// No JSON object, an unknown `do`, or a member that is missing, ill-typed, or unknown to every request.
pub fn read(payload: &[u8]) -> Result<Request, Invalid> {
    let object = match serde_json::from_slice(payload) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(Invalid("a request is a JSON object".into())),
        Err(error) => return Err(Invalid(format!("a request is a JSON object: {error}"))),
    };
    let mut members = Members(object);
    members.0.retain(|_, value| !value.is_null());
    if let Some(unknown) = members.0.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
        return Err(Invalid(format!(
            "`{}` is no member of any request",
            unknown.escape_debug()
        )));
    }
    let what = members.text("do")?;
    request(&what, &mut members)
}

fn request(what: &str, from: &mut Members) -> Result<Request, Invalid> {
    Ok(match what {
        "passwd" => Request::Passwd(which(from, &["name", "uid", "sid"], user_key)?),
        "group" => Request::Group(which(from, &["name", "gid"], group_key)?),
        "initgroups" => Request::Initgroups { name: from.name()? },
        "authenticate" if from.has("challenge") || from.has("nt_response") => Request::Response(mschap(from)?),
        "authenticate" => Request::Authenticate(Login {
            password: from.optional_text("password")?.map(Zeroizing::new),
            subject: subject(from)?,
        }),
        "account" => Request::Account(subject(from)?),
        "change-password" if from.has("new_nt_encrypted") || from.has("old_nt_hash_encrypted") => {
            Request::EncryptedChange(Box::new(encrypted_change(from)?))
        }
        "change-password" => Request::ChangePassword(ChangePassword {
            name: from.name()?,
            old: Zeroizing::new(from.text("old_password")?),
            new: Zeroizing::new(from.text("new_password")?),
            place: place(from)?,
        }),
        "open-session" => Request::OpenSession(subject(from)?),
        "close-session" => Request::CloseSession {
            session: from.text("session")?,
            subject: subject(from)?,
        },
        "logon" => Request::Logon(logon(from)?),
        "logoff" => Request::Logoff {
            name: from.name()?,
            krb5_cache: from.optional_text("krb5_cache")?,
        },
        "users" => Request::Users {
            domain: from.optional_text("domain")?,
        },
        "groups" => Request::Groups {
            domain: from.optional_text("domain")?,
        },
        "ping" => Request::Ping {
            domain: from.optional_text("domain")?,
        },
        "domain-info" => Request::DomainInfo {
            domain: from.optional_text("domain")?,
        },
        "trusts" => Request::Trusts,
        other => sids(other, from)?,
    })
}

fn sids(what: &str, from: &mut Members) -> Result<Request, Invalid> {
    Ok(match what {
        "name-to-sid" => Request::NameToSid {
            name: from.name()?,
            domain: from.optional_text("domain")?,
        },
        "sid-to-name" => Request::SidToName { sid: from.text("sid")? },
        "sid-to-id" => Request::SidToId { sid: from.text("sid")? },
        "id-to-sid" => Request::IdToSid(match (from.optional_id("uid")?, from.optional_id("gid")?) {
            (Some(uid), None) => UnixId::Uid(uid),
            (None, Some(gid)) => UnixId::Gid(gid),
            _ => return Err(Invalid("`id-to-sid` needs one of `uid` and `gid`".into())),
        }),
        "user-sids" => Request::UserSids { sid: from.text("sid")? },
        "sid-aliases" => Request::SidAliases {
            sid: from.text("sid")?,
            domain: from.optional_text("domain")?,
        },
        "sids-to-names" => Request::SidsToNames { sids: from.sids()? },
        "sids-to-ids" => Request::SidsToIds { sids: from.sids()? },
        "ids-to-sids" => Request::IdsToSids { ids: from.ids()? },
        other => return Err(Invalid(format!("`do` is none of ours: \"{}\"", other.escape_debug()))),
    })
}

fn logon(from: &mut Members) -> Result<Logon, Invalid> {
    let krb5_cache = match from.optional_text("krb5_cache")?.as_deref() {
        None => None,
        Some("FILE") => Some(TicketCache::File),
        Some("KEYRING") => Some(TicketCache::Keyring),
        Some("KCM") => Some(TicketCache::Kcm),
        Some(_) => {
            return Err(Invalid(
                "`krb5_cache` of a logon is FILE, KEYRING or KCM: the place itself is the back end's choice".into(),
            ));
        }
    };
    let kerberos = from.flag("kerberos")?;
    if krb5_cache.is_some() && !kerberos {
        return Err(Invalid("`krb5_cache` goes with `kerberos`: true".into()));
    }
    Ok(Logon {
        password: Zeroizing::new(from.text("password")?),
        name: from.name()?,
        kerberos,
        cached: from.flag("cached")?,
        krb5_cache,
    })
}

/// One entry by one of `keys`, or all of them; any other member is refused, lest a slip of the pen brings everything.
fn which<K>(
    from: &mut Members,
    keys: &[&str],
    key: fn(&mut Members) -> Result<Option<K>, Invalid>,
) -> Result<Which<K>, Invalid> {
    let named = keys.iter().filter(|name| from.has(name)).count();
    let listed = keys.join("`, `");
    if named > 1 || (named == 1 && from.has("cursor")) {
        return Err(Invalid(format!("only one of `{listed}` and `cursor` can be given")));
    }
    let key = key(from)?;
    let cursor = from.optional_text("cursor")?;
    if let Some(left) = from.0.keys().next() {
        return Err(Invalid(format!(
            "`{left}` means nothing here: give one of `{listed}`, or none for all"
        )));
    }
    Ok(key.map_or(Which::All { cursor }, Which::One))
}

fn user_key(from: &mut Members) -> Result<Option<UserKey>, Invalid> {
    if from.has("name") {
        return from.name().map(UserKey::Name).map(Some);
    }
    Ok(match from.optional_id("uid")? {
        Some(uid) => Some(UserKey::Uid(uid)),
        None => from.optional_text("sid")?.map(UserKey::Sid),
    })
}

fn group_key(from: &mut Members) -> Result<Option<GroupKey>, Invalid> {
    if from.has("name") {
        return from.name().map(GroupKey::Name).map(Some);
    }
    Ok(from.optional_id("gid")?.map(GroupKey::Gid))
}

fn subject(from: &mut Members) -> Result<Subject, Invalid> {
    Ok(Subject {
        name: from.name()?,
        place: place(from)?,
    })
}

fn place(from: &mut Members) -> Result<Place, Invalid> {
    Ok(Place {
        service: from.optional_text("service")?,
        host: from.optional_text("host")?,
        tty: from.optional_text("tty")?,
        user: from.optional_text("user")?,
    })
}

fn mschap(from: &mut Members) -> Result<MsChap, Invalid> {
    if from.has("password") {
        return Err(Invalid("either `password` or `challenge` and `nt_response`".into()));
    }
    let challenge = from.bytes("challenge")?.unwrap_or_default();
    let challenge = <[u8; 8]>::try_from(challenge.as_slice());
    let nt_response = from.bytes("nt_response")?.unwrap_or_default();
    let lm_response = from.bytes("lm_response")?.unwrap_or_default();
    if !(24..=NT_RESPONSE_BYTES_MAX).contains(&nt_response.len()) {
        return Err(Invalid("`nt_response` is hex of 24 bytes, or more for NTLMv2".into()));
    }
    if !lm_response.is_empty() && lm_response.len() != 24 {
        return Err(Invalid("`lm_response` is hex of 24 bytes".into()));
    }
    Ok(MsChap {
        name: from.name()?,
        domain: from.optional_text("domain")?,
        challenge: challenge.map_err(|_| Invalid("`challenge` is hex of 8 bytes".into()))?,
        nt_response,
        lm_response,
    })
}

fn encrypted_change(from: &mut Members) -> Result<EncryptedChange, Invalid> {
    if from.has("old_password") || from.has("new_password") {
        return Err(Invalid(
            "either `old_password` and `new_password`, or `old_nt_hash_encrypted` and `new_nt_encrypted`".into(),
        ));
    }
    Ok(EncryptedChange {
        name: from.name()?,
        domain: from.optional_text("domain")?,
        new: exactly(from, "new_nt_encrypted")?,
        old_hash: exactly(from, "old_nt_hash_encrypted")?,
    })
}

/// So many bytes, no more and no fewer.
fn exactly<const N: usize>(from: &mut Members, name: &str) -> Result<Zeroizing<[u8; N]>, Invalid> {
    let bytes = from.bytes(name)?.unwrap_or_default();
    let bytes: &[u8; N] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| Invalid(format!("`{name}` is hex of {N} bytes")))?;
    Ok(Zeroizing::new(*bytes))
}
