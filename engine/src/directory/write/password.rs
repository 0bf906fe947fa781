//! Password Modify (RFC 3062).

use wire::ber;
use wire::ldap::result::code;
use zeroize::Zeroizing;

use super::super::Directory;
use super::super::entry::EntryId;
use super::super::schema::Schema;
use super::work::{Work, describe};
use super::{Done, Moment, Refusal, Who};
use crate::password;

const USER: u8 = 0x80;
const OLD: u8 = 0x81;
const NEW: u8 = 0x82;
/// Characters of a password that is made up: 96 bits.
const GENERATED_CHARS: usize = 16;
const SALT_BYTES: usize = 16;
/// What is not mistaken for something else; 64 of them, so that six random bits are one.
const ALPHABET: &[u8; 64] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.+=@%";

impl Directory {
    pub(super) fn password_modify(
        &mut self,
        who: &Who,
        is_admin: bool,
        value: Option<&[u8]>,
        moment: &Moment,
    ) -> Result<Done, Refusal> {
        let asked = Asked::read(value).ok_or(Refusal::new(code::PROTOCOL_ERROR, "the request is malformed"))?;
        let user = match asked.user {
            // As slapd has it, with or without what names the form (RFC 4513 section 5.2.1.8).
            Some(user) => self.normal(user.strip_prefix(b"dn:").unwrap_or(user))?,
            None => who.normal_dn.clone(),
        };
        if !is_admin && user != who.normal_dn {
            let why = "only one's own password may be changed";
            return Err(Refusal::new(code::INSUFFICIENT_ACCESS_RIGHTS, why));
        }
        let (id, entry) = match self.find(&user) {
            Some((id, node)) => (id, std::sync::Arc::clone(&node.entry)),
            None => return Err(Refusal::new(code::NO_SUCH_OBJECT, "")),
        };
        if asked.old.is_some_and(|old| !self.has_password(entry.passwords(), old)) {
            let why = "unwilling to verify old password";
            return Err(Refusal::new(code::UNWILLING_TO_PERFORM, why));
        }
        let (salt, random) = moment.random.split_at(SALT_BYTES);
        let (new, done) = match asked.new {
            Some([]) => return Err(Refusal::new(code::UNWILLING_TO_PERFORM, "the new password is empty")),
            Some(new) => (Zeroizing::new(new.to_vec()), Done::Plain),
            None => {
                let made = make_up(random);
                (Zeroizing::new(made.as_bytes().to_vec()), Done::Generated(made))
            }
        };
        self.set_password(id, who, &new, salt, moment)?;
        Ok(done)
    }

    fn set_password(
        &mut self,
        id: EntryId,
        who: &Who,
        new: &[u8],
        salt: &[u8],
        moment: &Moment,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.entry(id) else { return Ok(()) };
        let hash = password::ssha512(new, salt).into_bytes();
        let mut work = Work::of(&self.schema, entry);
        let of = describe(&self.schema, b"userPassword")?;
        work.edit(&of, |draft| {
            debug_assert_eq!(draft.kind, Schema::USER_PASSWORD);
            draft.values = vec![hash.clone()];
            draft.forms = vec![hash];
        });
        work.stamp(&self.schema, who, self.next_csn(moment));
        let new = work.build(&self.schema)?;
        self.put(id, new);
        Ok(())
    }
}

/// PasswdModifyRequestValue.
struct Asked<'a> {
    user: Option<&'a [u8]>,
    old: Option<&'a [u8]>,
    new: Option<&'a [u8]>,
}

impl<'a> Asked<'a> {
    fn read(value: Option<&'a [u8]>) -> Option<Self> {
        let Some(value) = value else {
            return Some(Self {
                user: None,
                old: None,
                new: None,
            });
        };
        let mut fields = ber::Reader::inside(value, ber::tag::SEQUENCE).ok()?;
        let asked = Self {
            user: fields.take_optional(USER).ok()?,
            old: fields.take_optional(OLD).ok()?,
            new: fields.take_optional(NEW).ok()?,
        };
        fields.finish().ok()?;
        Some(asked)
    }
}

fn make_up(random: &[u8]) -> Zeroizing<String> {
    let letter = |octet: &u8| ALPHABET.get(usize::from(octet % 64)).map(|byte| char::from(*byte));
    Zeroizing::new(random.iter().take(GENERATED_CHARS).filter_map(letter).collect())
}

/// PasswdModifyResponseValue with a password that was made up.
pub(super) fn generated(password: &str) -> Zeroizing<Vec<u8>> {
    let mut value = Zeroizing::new(Vec::new());
    ber::nest(&mut value, ber::tag::SEQUENCE, |out| {
        ber::write_bytes(out, USER, password.as_bytes());
    });
    value
}
