//! How a request shows that its user knows a password, and whether what is shown fits what is known.
//!
//! A request has one method and once. Two of them are refused: each could belong to another user's password, and which one counts
//! would be a guess. What is known (a stored password, an NT hash) may be too little to judge a method; that is no wrong
//! password.

use subtle::ConstantTimeEq as _;
use wire::radius::mschap::{ChangePassword1, ChangePassword2, Response, Response2};
use wire::radius::{Chap, Packet, Plain, Secret, mschap, number, split_vendor};
use zeroize::Zeroizing;

use crate::password::nt::Hash;
use crate::password::{self, Check, Cost, Verdict};
use crate::radius::mschap as computed;

/// How a request shows that its user knows a password.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub enum Method {
    /// In no way that is known here.
    #[default]
    None,
    /// User-Password.
    Pap,
    /// CHAP-Password.
    Chap,
    /// MS-CHAP-Response.
    MsChap,
    /// MS-CHAP2-Response.
    MsChap2,
    /// MS-CHAP-CPW-2 or MS-CHAP2-CPW: a new password.
    Change,
    /// A device's address in place of user and password.
    Mac,
    /// EAP-Message.
    Eap,
}

impl Method {
    /// All of them, in the order of their labels' columns.
    pub const ALL: [Method; 8] = [
        Method::None,
        Method::Pap,
        Method::Chap,
        Method::MsChap,
        Method::MsChap2,
        Method::Change,
        Method::Mac,
        Method::Eap,
    ];

    /// One word for metrics, traces and services.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::Pap => "pap",
            Method::Chap => "chap",
            Method::MsChap => "ms-chap",
            Method::MsChap2 => "ms-chap2",
            Method::Change => "ms-chap-change",
            Method::Mac => "mac",
            Method::Eap => "eap",
        }
    }
}

/// What a request offers.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack; a box would be an allocation for each request"
)]
pub(super) enum Offer<'a> {
    Nothing,
    /// Never an empty one: a directory would take it for nobody's (RFC 4513 section 5.1.2).
    Password(Plain),
    Chap(Chap<'a>),
    MsChap {
        challenge: &'a [u8; 8],
        response: Response<'a>,
    },
    MsChap2 {
        challenge: &'a [u8; 16],
        response: Response2<'a>,
    },
    Change {
        challenge: &'a [u8; 8],
        change: ChangePassword1<'a>,
    },
    Change2 {
        challenge: &'a [u8; 16],
        change: ChangePassword2<'a>,
    },
}

/// A request that is not looked at any further, and why.
pub(super) struct Refused(pub(super) Method, pub(super) &'static str);

/// How often each method is there.
#[derive(Default)]
struct Counts {
    all: u32,
    last: Option<Found>,
}

#[derive(Clone, Copy)]
enum Found {
    Password,
    Chap,
    Eap,
    Microsoft(u8),
}

impl Counts {
    /// EAP-Message may be there several times, in pieces.
    fn of(packet: &Packet<'_>) -> Counts {
        let mut counts = Counts::default();
        let mut pieces = false;
        for attribute in packet.attributes() {
            match attribute.number {
                number::USER_PASSWORD => counts.one(Found::Password),
                number::CHAP_PASSWORD => counts.one(Found::Chap),
                number::EAP_MESSAGE if !pieces => {
                    pieces = true;
                    counts.one(Found::Eap);
                }
                number::VENDOR_SPECIFIC => counts.microsoft(attribute.value),
                _ => {}
            }
        }
        counts
    }

    fn microsoft(&mut self, value: &[u8]) {
        let Some((mschap::VENDOR, octets)) = split_vendor(value) else {
            return;
        };
        for inner in wire::radius::VendorAttributes::new(octets) {
            if matches!(
                inner.number,
                mschap::RESPONSE | mschap::RESPONSE_2 | mschap::CPW_1 | mschap::CPW_2 | mschap::CPW_2_2
            ) {
                self.one(Found::Microsoft(inner.number));
            }
        }
    }

    fn one(&mut self, found: Found) {
        self.all += 1;
        self.last = Some(found);
    }
}

const MALFORMED: &str = "what the request shows of the password is malformed";

impl<'a> Offer<'a> {
    /// Reads the one method of a request.
    pub(super) fn read(packet: &Packet<'a>, secret: &Secret) -> Result<Offer<'a>, Refused> {
        let counts = Counts::of(packet);
        if counts.all > 1 {
            return Err(Refused(
                Method::None,
                "the request has more than one method, or one of them twice",
            ));
        }
        let Some(found) = counts.last else {
            return Ok(Offer::Nothing);
        };
        let vendor = |number| packet.find_vendor(mschap::VENDOR, number);
        let asked = vendor(mschap::CHALLENGE);
        match found {
            Found::Eap => Err(Refused(Method::Eap, "EAP is not answered here")),
            Found::Password => match packet.user_password(secret) {
                None => Err(Refused(Method::Pap, MALFORMED)),
                Some(password) if password.as_bytes().is_empty() => Ok(Offer::Nothing),
                Some(password) => Ok(Offer::Password(password)),
            },
            Found::Chap => packet.chap().map(Offer::Chap).ok_or(Refused(Method::Chap, MALFORMED)),
            Found::Microsoft(mschap::RESPONSE) => {
                let read = || {
                    Some(Offer::MsChap {
                        challenge: asked?.try_into().ok()?,
                        response: Response::parse(vendor(mschap::RESPONSE)?)?,
                    })
                };
                read().ok_or(Refused(Method::MsChap, MALFORMED))
            }
            Found::Microsoft(mschap::RESPONSE_2) => {
                let read = || {
                    Some(Offer::MsChap2 {
                        challenge: asked?.try_into().ok()?,
                        response: Response2::parse(vendor(mschap::RESPONSE_2)?)?,
                    })
                };
                read().ok_or(Refused(Method::MsChap2, MALFORMED))
            }
            Found::Microsoft(mschap::CPW_2) => {
                let read = || {
                    Some(Offer::Change {
                        challenge: asked?.try_into().ok()?,
                        change: ChangePassword1::parse(vendor(mschap::CPW_2)?)?,
                    })
                };
                read().ok_or(Refused(Method::Change, MALFORMED))
            }
            Found::Microsoft(mschap::CPW_2_2) => {
                let read = || {
                    Some(Offer::Change2 {
                        challenge: asked?.try_into().ok()?,
                        change: ChangePassword2::parse(vendor(mschap::CPW_2_2)?)?,
                    })
                };
                read().ok_or(Refused(Method::Change, MALFORMED))
            }
            Found::Microsoft(_) => Err(Refused(
                Method::Change,
                "MS-CHAP-CPW-1 changes a password by its LM hash, which nobody should have",
            )),
        }
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Offer::Nothing => Method::None,
            Offer::Password(_) => Method::Pap,
            Offer::Chap(_) => Method::Chap,
            Offer::MsChap { .. } => Method::MsChap,
            Offer::MsChap2 { .. } => Method::MsChap2,
            Offer::Change { .. } | Offer::Change2 { .. } => Method::Change,
        }
    }

    /// The identifier of the CHAP exchange that an MS-CHAP-Error answers, and whether it is version 2.
    pub(super) fn ms_chap(&self) -> Option<(u8, bool)> {
        match self {
            Offer::MsChap { response, .. } => Some((response.ident, false)),
            Offer::MsChap2 { response, .. } => Some((response.ident, true)),
            Offer::Change { change, .. } => Some((change.ident, false)),
            Offer::Change2 { change, .. } => Some((change.ident, true)),
            Offer::Nothing | Offer::Password(_) | Offer::Chap(_) => None,
        }
    }

    /// The eight octets that an MS-CHAP response answers, and the response.
    pub(super) fn answered(&self, name: &[u8]) -> Option<([u8; 8], [u8; 24])> {
        let hash = |peer, asked| computed::challenge_hash(peer, asked, computed::without_domain(name));
        match self {
            Offer::MsChap { challenge, response } => Some((**challenge, *response.nt)),
            Offer::MsChap2 { challenge, response } => {
                Some((hash(response.peer_challenge, challenge), *response.response))
            }
            Offer::Change { challenge, change } => Some((**challenge, *change.nt)),
            Offer::Change2 { challenge, change } => Some((hash(change.peer_challenge, challenge), *change.nt)),
            Offer::Nothing | Offer::Password(_) | Offer::Chap(_) => None,
        }
    }

    /// Whether it fits what is known.
    pub(super) fn check(&self, name: &[u8], known: &Known<'_>) -> Checked {
        match self {
            Offer::Nothing => Checked::Cannot("the request shows no password"),
            Offer::Password(password) => known.password(password.as_bytes()),
            Offer::Chap(chap) => match known.stored.and_then(password::clear) {
                None => Checked::Cannot("CHAP needs a password that is stored in clear"),
                Some(clear) if chap.check(clear) => Checked::Right(None),
                Some(_) => Checked::Wrong,
            },
            Offer::MsChap { response, .. } if response.flags & 1 == 0 => {
                Checked::Cannot("the MS-CHAP response is made with the LM hash only, which is not taken")
            }
            Offer::MsChap { .. } | Offer::MsChap2 { .. } => {
                let Some(hash) = known.nt_hash() else {
                    return Checked::Cannot("MS-CHAP needs a password that is stored in clear, or its NT hash");
                };
                match self.answered(name) {
                    Some((challenge, found)) if computed::check(&challenge, &hash, &found) => {
                        let lm = known.stored.and_then(password::clear).and_then(computed::lm_hash);
                        Checked::Right(self.granted(name, &hash.hashed(), lm))
                    }
                    _ => Checked::Wrong,
                }
            }
            Offer::Change { .. } | Offer::Change2 { .. } => Checked::Cannot(CANNOT_CHANGE),
        }
    }

    /// What an accept shows and gives; `hashed`: the hash of the NT hash.
    pub(super) fn granted(&self, name: &[u8], hashed: &Hash, lm: Option<Zeroizing<[u8; 16]>>) -> Option<Granted> {
        let (challenge, found) = self.answered(name)?;
        match self {
            Offer::MsChap { .. } | Offer::Change { .. } => {
                let mut keys = Zeroizing::new([0; 24]);
                let lm = lm.unwrap_or_default();
                let octets = lm.iter().take(8).chain(hashed.as_bytes());
                let (low, high) = keys.split_at_mut(8);
                let places = low.iter_mut().take(8).chain(high);
                places.zip(octets).for_each(|(to, from)| *to = *from);
                Some(Granted::One { keys })
            }
            Offer::MsChap2 { .. } | Offer::Change2 { .. } => Some(Granted::Two {
                ident: self.ms_chap()?.0,
                response: computed::proof(hashed, &found, &challenge),
                keys: computed::session_keys(hashed, &found),
            }),
            Offer::Nothing | Offer::Password(_) | Offer::Chap(_) => None,
        }
    }
}

pub(super) const CANNOT_CHANGE: &str = "the password cannot be changed there";

/// What is known of a user's password.
#[derive(Default)]
pub(super) struct Known<'s> {
    /// As it is stored.
    pub(super) stored: Option<&'s [u8]>,
    /// Its NT hash, where that is stored by itself.
    pub(super) nt: Option<&'s Hash>,
}

/// What comparing told.
#[derive(Debug)]
pub(super) enum Checked {
    Right(Option<Granted>),
    Wrong,
    /// It takes its time.
    Dear(Check),
    /// Nobody can say by what is known.
    Cannot(&'static str),
}

impl Known<'_> {
    fn nt_hash(&self) -> Option<Hash> {
        let stored = || password::nt_hash_of(self.stored?);
        self.nt.cloned().or_else(stored)
    }

    fn password(&self, offered: &[u8]) -> Checked {
        match (self.stored, self.nt) {
            (Some(stored), _) if password::cost(stored) == Cost::Dear => Checked::Dear(Check::new(stored, offered)),
            (Some(stored), _) => match password::verify(stored, offered) {
                Verdict::Match => Checked::Right(None),
                Verdict::NoMatch => Checked::Wrong,
                Verdict::Unknown => Checked::Cannot(UNKNOWN),
            },
            (None, Some(hash)) => match password::nt::hash(offered) {
                Some(offered) if bool::from(offered.as_bytes().ct_eq(hash.as_bytes())) => Checked::Right(None),
                _ => Checked::Wrong,
            },
            (None, None) => Checked::Cannot("no password is known"),
        }
    }
}

pub(super) const UNKNOWN: &str = "the stored password is in a form that is not known";

/// What an accept carries because a response was right.
pub(super) enum Granted {
    /// Version 1: the keys of MS-CHAP-MPPE-Keys.
    One { keys: Zeroizing<[u8; 24]> },
    /// Version 2.
    Two {
        ident: u8,
        response: [u8; 20],
        keys: computed::Keys,
    },
}

impl std::fmt::Debug for Granted {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Granted")
    }
}
