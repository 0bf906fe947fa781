//! Answers: a status, perhaps a message for people, and what was asked for.

use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Done; for authentication: the password is right and the account may be used.
    Ok,
    /// No such user, group, SID or id.
    NotFound,
    /// Of a user that exists.
    WrongPassword,
    /// The account is disabled.
    Disabled,
    /// The account has expired.
    Expired,
    /// The password has expired.
    PasswordExpired,
    /// The password must be changed before the account may be used.
    MustChange,
    /// After too many wrong passwords.
    LockedOut,
    /// Refused by a policy: time, place, kind of logon, quality of a new password.
    Restricted,
    /// Refused without a nearer reason.
    Denied,
    /// The request makes no sense.
    Invalid,
    /// This service cannot do that.
    Unsupported,
    /// The back end cannot be asked: never a verdict.
    Unavailable,
}

/// A whole answer.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// What came of it.
    pub status: Status,
    /// For people; always there when the status is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What was asked for.
    #[serde(flatten)]
    pub body: Body,
}

/// What an answer brings besides its status, by what was asked.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// Nothing.
    Nothing {},
    /// `passwd`.
    Users {
        /// One, or a page of all.
        entries: Vec<User>,
        /// Said again, it brings the next page; none: that was the last.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// `group`.
    Groups {
        /// One, or a page of all.
        entries: Vec<Group>,
        /// See `Users`.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// `initgroups`.
    Gids {
        /// Group ids.
        gids: Vec<u32>,
    },
    /// `authenticate`.
    Authenticated {
        /// The canonical name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its SID.
        #[serde(skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
        /// For a response: 16 bytes in hex.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_key: Option<Zeroizing<String>>,
        /// For a response: 8 bytes in hex.
        #[serde(skip_serializing_if = "Option::is_none")]
        lm_key: Option<Zeroizing<String>>,
    },
    /// `logon`.
    LoggedOn {
        /// The canonical name.
        name: String,
        /// Its SID.
        #[serde(skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
        /// Where its ticket is.
        #[serde(skip_serializing_if = "Option::is_none")]
        krb5_cache: Option<String>,
        /// No controller was in reach: the verdict comes from what the last logon left.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        cached: bool,
    },
    /// `name-to-sid`.
    Sid {
        /// The SID.
        sid: String,
        /// What it is: `user`, `group`, `domain`, `alias`, …
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<&'static str>,
    },
    /// `sid-to-name`.
    Name {
        /// Its domain, possibly empty.
        domain: String,
        /// Its name within it.
        name: String,
        /// See `Sid`.
        #[serde(rename = "type")]
        kind: &'static str,
    },
    /// `sid-to-id`.
    Id {
        /// Of a user.
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Of a group.
        #[serde(skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// `user-sids`, `sid-aliases`.
    Sids {
        /// Of the groups.
        sids: Vec<String>,
    },
    /// `sids-to-names`.
    NamesOfSids {
        /// One for each SID, in their order.
        entries: Vec<NamedSid>,
    },
    /// `sids-to-ids`, `ids-to-sids`.
    Mappings {
        /// One for each SID or id, in their order.
        entries: Vec<Mapping>,
    },
    /// `users`, `groups`.
    Names {
        /// All of them.
        names: Vec<String>,
    },
    /// `ping` of a domain.
    Controller {
        /// The domain controller that answered.
        controller: String,
    },
    /// `domain-info`.
    Domain(Domain),
    /// `trusts`.
    Trusts {
        /// The domains.
        domains: Vec<Trust>,
    },
    /// `open-session`.
    Session {
        /// To be given back at close.
        session: String,
        /// What the session's modules want in the user's environment.
        #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
        environment: std::collections::BTreeMap<String, String>,
    },
}

/// A user as NSS knows one (passwd(5), without a password).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// For people.
    pub gecos: String,
    /// Home.
    pub dir: String,
    /// Login shell.
    pub shell: String,
}

/// A group as NSS knows one (group(5), without a password).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<String>,
}

/// A SID and its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NamedSid {
    /// The SID.
    pub sid: String,
    /// Its domain, empty where it is not known.
    pub domain: String,
    /// Its name within it, empty where it is not known.
    pub name: String,
    /// What it is; `unknown`: nobody knows it.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// A SID and the ids that go with it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Mapping {
    /// None: the id has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Domain {
    /// NetBIOS name.
    pub short_name: String,
    /// DNS name, empty where it has none.
    pub dns_name: String,
    /// Its SID.
    pub sid: String,
    /// Whether it is in native mode.
    pub native_mode: bool,
    /// Whether it is an Active Directory.
    pub active_directory: bool,
    /// Whether this machine is a member of it.
    pub primary: bool,
}

/// A domain that is trusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trust {
    /// NetBIOS name.
    pub short_name: String,
    /// DNS name, empty where it has none.
    pub dns_name: String,
    /// Its SID.
    pub sid: String,
    /// Whether no domain controller of it is in reach. Not part of the answer.
    #[serde(skip)]
    pub offline: bool,
}

/// A request that was not done: its status, which is never `ok`, and a message for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which.
    pub status: Status,
    /// Why.
    pub message: String,
}

impl Refusal {
    /// Not done, and why.
    #[must_use]
    pub fn new(status: Status, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            message: message.into(),
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer {
            status: refusal.status,
            message: Some(refusal.message),
            body: Body::Nothing {},
        }
    }
}

impl Answer {
    /// Done.
    #[must_use]
    pub fn ok(body: Body) -> Answer {
        Answer {
            status: Status::Ok,
            message: None,
            body,
        }
    }

    /// With a message for people; an empty one is none.
    #[must_use]
    pub fn saying(mut self, message: String) -> Answer {
        if !message.is_empty() {
            self.message = Some(message);
        }
        self
    }

    /// Its JSON, which may hold a session key.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(1024));
        if serde_json::to_writer(&mut *text, self).is_err() {
            text.zeroize();
            text.extend_from_slice(br#"{"status":"unavailable","message":"the answer cannot be written as JSON"}"#);
        }
        text
    }
}
