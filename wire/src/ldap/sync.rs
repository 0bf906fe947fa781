//! Content synchronisation (RFC 4533): the controls and the intermediate message, read and written, for whoever follows a
//! directory and for whoever offers to be followed.
//!
//! [`read_message`] makes of any message of such a search what it means for the content; everything in it is borrowed.
//! Cookies are opaque here; what can be known of OpenLDAP's is in [`cookie`].

use super::control::{self, controls, oid};
use super::envelope::{Envelope, tag};
use super::message::{self, Entry};
use super::result::{LdapResult, read_result};
use crate::ber::{self, Reader, Strings};
use crate::frame::Malformed;

pub mod cookie;

/// The tag of newcookie in a syncInfoValue.
const NEW_COOKIE: u8 = 0x80;
/// The tag of refreshDelete in a syncInfoValue.
const REFRESH_DELETE: u8 = 0xA1;
/// The tag of refreshPresent in a syncInfoValue.
const REFRESH_PRESENT: u8 = 0xA2;
/// The tag of syncIdSet in a syncInfoValue.
const SYNC_ID_SET: u8 = 0xA3;

/// What is asked for (RFC 4533 section 2.2, `mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The content once, or what became of it since the cookie.
    RefreshOnly,
    /// That, and then every change as it happens.
    RefreshAndPersist,
}

/// The Sync Request control's value (RFC 4533 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncRequest<'a> {
    /// Once, or on and on.
    pub mode: Mode,
    /// Up to where the consumer knows the content; `None` knows nothing.
    pub cookie: Option<&'a [u8]>,
    /// Whether e-syncRefreshRequired (4096) is wanted rather than a silent full refresh, where the cookie is of no use.
    pub reload_hint: bool,
}

/// What is said about an entry (RFC 4533 section 2.3, `state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is in the content as it was.
    Present,
    /// It is in the content, and this is it.
    Add,
    /// As [`State::Add`]; it was in the content before.
    Modify,
    /// It is not in the content any more.
    Delete,
}

/// The Sync State control's value (RFC 4533 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncState<'a> {
    /// What is said.
    pub state: State,
    /// Of whom.
    pub uuid: [u8; 16],
    /// Up to where the content then is known.
    pub cookie: Option<&'a [u8]>,
}

/// The Sync Done control's value (RFC 4533 section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SyncDone<'a> {
    /// Up to where the content is known now.
    pub cookie: Option<&'a [u8]>,
    /// Whether what was deleted was said, so that what was not mentioned is as it was.
    pub refresh_deletes: bool,
}

/// The end of a phase of a refresh, in a Sync Info message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhaseEnd<'a> {
    /// Up to where the content is known now.
    pub cookie: Option<&'a [u8]>,
    /// Whether the whole refresh ends here.
    pub refresh_done: bool,
}

/// Uuids of entries of which one thing is said.
#[derive(Clone, Copy, Debug)]
pub struct SyncIdSet<'a> {
    /// Up to where the content is known now.
    pub cookie: Option<&'a [u8]>,
    /// Whether these are deleted; else they are present.
    pub refresh_deletes: bool,
    /// Who.
    pub uuids: Uuids<'a>,
}

/// The Sync Info message's value (RFC 4533 section 2.5).
#[derive(Clone, Copy, Debug)]
pub enum SyncInfo<'a> {
    /// A cookie alone.
    NewCookie(&'a [u8]),
    /// A delete phase ends: what was not mentioned is as it was.
    RefreshDelete(PhaseEnd<'a>),
    /// A present phase ends: what was not mentioned is not there any more.
    RefreshPresent(PhaseEnd<'a>),
    /// Some entries are deleted, or present.
    SyncIdSet(SyncIdSet<'a>),
}

/// Uuids of a syncIdSet, each seen to be 16 octets when this was made, so that going through them cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Uuids<'a> {
    rest: Strings<'a>,
}

impl<'a> Uuids<'a> {
    /// The uuids in `content`, the content of a SET OF syncUUID.
    ///
    /// # Errors
    /// Something in it is no OCTET STRING of 16.
    pub fn new(content: &'a [u8]) -> Result<Self, Malformed> {
        let rest = Strings::new(content)?;
        let mut walk = rest;
        if walk.any(|octets| octets.len() != 16) {
            return Err(BAD_UUID);
        }
        Ok(Self { rest })
    }
}

impl Iterator for Uuids<'_> {
    type Item = [u8; 16];

    fn next(&mut self) -> Option<[u8; 16]> {
        self.rest.next()?.try_into().ok()
    }
}

const BAD_UUID: Malformed = Malformed::BadValue("a uuid of 16 octets");

impl<'a> SyncRequest<'a> {
    /// Reads the control's value.
    ///
    /// # Errors
    /// It is not one whole syncRequestValue.
    pub fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::inside(value, ber::tag::SEQUENCE)?;
        let mode = match ber::integer(fields.take(ber::tag::ENUMERATED)?)? {
            1 => Mode::RefreshOnly,
            3 => Mode::RefreshAndPersist,
            _ => return Err(Malformed::BadValue("the mode refreshOnly (1) or refreshAndPersist (3)")),
        };
        let request = Self {
            mode,
            cookie: fields.take_optional(ber::tag::OCTET_STRING)?,
            reload_hint: boolean(&mut fields, false)?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// Appends the control's value.
    pub fn write(&self, out: &mut Vec<u8>) {
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            let mode = match self.mode {
                Mode::RefreshOnly => 1,
                Mode::RefreshAndPersist => 3,
            };
            ber::write_integer(out, ber::tag::ENUMERATED, mode);
            write_cookie(out, self.cookie);
            if self.reload_hint {
                ber::write_boolean(out, ber::tag::BOOLEAN, true);
            }
        });
    }

    /// Appends the whole control, to be handed to [`super::envelope::write`].
    pub fn write_control(&self, out: &mut Vec<u8>, critical: bool) {
        write_control(out, oid::SYNC_REQUEST, critical, |out| self.write(out));
    }
}

impl<'a> SyncState<'a> {
    /// Reads the control's value.
    ///
    /// # Errors
    /// It is not one whole syncStateValue.
    pub fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::inside(value, ber::tag::SEQUENCE)?;
        let state = match ber::integer(fields.take(ber::tag::ENUMERATED)?)? {
            0 => State::Present,
            1 => State::Add,
            2 => State::Modify,
            3 => State::Delete,
            _ => return Err(Malformed::BadValue("a state of 0 to 3")),
        };
        let uuid = fields.take(ber::tag::OCTET_STRING)?;
        let state = Self {
            state,
            uuid: uuid.try_into().map_err(|_| BAD_UUID)?,
            cookie: fields.take_optional(ber::tag::OCTET_STRING)?,
        };
        fields.finish()?;
        Ok(state)
    }

    /// Appends the control's value.
    pub fn write(&self, out: &mut Vec<u8>) {
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            let state = match self.state {
                State::Present => 0,
                State::Add => 1,
                State::Modify => 2,
                State::Delete => 3,
            };
            ber::write_integer(out, ber::tag::ENUMERATED, state);
            ber::write_bytes(out, ber::tag::OCTET_STRING, &self.uuid);
            write_cookie(out, self.cookie);
        });
    }

    /// Appends the whole control, to be handed to [`super::envelope::write`].
    pub fn write_control(&self, out: &mut Vec<u8>) {
        write_control(out, oid::SYNC_STATE, false, |out| self.write(out));
    }
}

impl<'a> SyncDone<'a> {
    /// Reads the control's value.
    ///
    /// # Errors
    /// It is not one whole syncDoneValue.
    pub fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::inside(value, ber::tag::SEQUENCE)?;
        let done = Self {
            cookie: fields.take_optional(ber::tag::OCTET_STRING)?,
            refresh_deletes: boolean(&mut fields, false)?,
        };
        fields.finish()?;
        Ok(done)
    }

    /// Appends the control's value.
    pub fn write(&self, out: &mut Vec<u8>) {
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            write_cookie(out, self.cookie);
            if self.refresh_deletes {
                ber::write_boolean(out, ber::tag::BOOLEAN, true);
            }
        });
    }

    /// Appends the whole control, to be handed to [`super::envelope::write`].
    pub fn write_control(&self, out: &mut Vec<u8>) {
        write_control(out, oid::SYNC_DONE, false, |out| self.write(out));
    }
}

impl<'a> SyncInfo<'a> {
    /// Reads the message's value.
    ///
    /// # Errors
    /// It is not one whole syncInfoValue.
    pub fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(value);
        let choice = outer.element()?;
        outer.finish()?;
        let mut fields = Reader::new(choice.content);
        match choice.tag {
            NEW_COOKIE => return Ok(Self::NewCookie(choice.content)),
            REFRESH_DELETE | REFRESH_PRESENT | SYNC_ID_SET => {}
            _ => return Err(Malformed::BadTag),
        }
        let cookie = fields.take_optional(ber::tag::OCTET_STRING)?;
        if choice.tag == SYNC_ID_SET {
            let set = SyncIdSet {
                cookie,
                refresh_deletes: boolean(&mut fields, false)?,
                uuids: Uuids::new(fields.take(ber::tag::SET)?)?,
            };
            fields.finish()?;
            return Ok(Self::SyncIdSet(set));
        }
        let end = PhaseEnd {
            cookie,
            refresh_done: boolean(&mut fields, true)?,
        };
        fields.finish()?;
        Ok(if choice.tag == REFRESH_DELETE {
            Self::RefreshDelete(end)
        } else {
            Self::RefreshPresent(end)
        })
    }

    /// Appends the message's value.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::NewCookie(cookie) => ber::write_bytes(out, NEW_COOKIE, cookie),
            Self::RefreshDelete(end) => write_phase_end(out, REFRESH_DELETE, end),
            Self::RefreshPresent(end) => write_phase_end(out, REFRESH_PRESENT, end),
            Self::SyncIdSet(set) => ber::nest(out, SYNC_ID_SET, |out| {
                write_cookie(out, set.cookie);
                if set.refresh_deletes {
                    ber::write_boolean(out, ber::tag::BOOLEAN, true);
                }
                ber::write_bytes(out, ber::tag::SET, set.uuids.rest.encoded());
            }),
        }
    }

    /// Appends the whole Sync Info message, an intermediate response.
    pub fn write_message(&self, out: &mut Vec<u8>, id: i32) {
        let mut value = Vec::new();
        self.write(&mut value);
        message::write_intermediate(out, id, Some(message::oid::SYNC_INFO), Some(&value));
    }
}

/// Appends uuids as the content of a SET OF syncUUID, for [`Uuids::new`].
pub fn write_uuids(out: &mut Vec<u8>, uuids: impl IntoIterator<Item = [u8; 16]>) {
    uuids
        .into_iter()
        .for_each(|uuid| ber::write_bytes(out, ber::tag::OCTET_STRING, &uuid));
}

/// One message of a search with the Sync Request control, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum SyncMessage<'a> {
    /// An entry and what is said of it. With `present` and `delete` it has no attributes.
    Entry {
        /// What the provider says about it.
        state: SyncState<'a>,
        /// The entry.
        entry: Entry<'a>,
    },
    /// A reference to another server, in place of an entry that the provider does not hold itself.
    Reference {
        /// What the provider says about it; some providers say nothing.
        state: Option<SyncState<'a>>,
        /// Where the entry is.
        uris: Strings<'a>,
    },
    /// A Sync Info message.
    Info(SyncInfo<'a>),
    /// The end of the search.
    Done {
        /// How it ended.
        result: LdapResult<'a>,
        /// What is said about the content, where something is.
        done: Option<SyncDone<'a>>,
    },
    /// An intermediate response that is no Sync Info message: to be passed over (RFC 4511 section 4.13).
    Other,
}

/// Reads one message that came for a search with the Sync Request control.
///
/// # Errors
/// It is none that may come, is malformed, or is an entry without a Sync State control: then the provider did not take
/// the request for what it was.
pub fn read_message<'a>(envelope: &Envelope<'a>) -> Result<SyncMessage<'a>, Malformed> {
    match envelope.tag {
        tag::SEARCH_ENTRY => Ok(SyncMessage::Entry {
            state: state(envelope)?.ok_or(Malformed::BadValue("an entry with the Sync State control"))?,
            entry: message::read_entry(envelope.op)?,
        }),
        tag::SEARCH_REFERENCE => Ok(SyncMessage::Reference {
            state: state(envelope)?,
            uris: message::read_search_reference(envelope.op)?,
        }),
        tag::INTERMEDIATE_RESPONSE => {
            let intermediate = message::read_intermediate(envelope.op)?;
            match (intermediate.name, intermediate.value) {
                (Some(name), Some(value)) if name == message::oid::SYNC_INFO.as_bytes() => {
                    SyncInfo::read(value).map(SyncMessage::Info)
                }
                (Some(name), None) if name == message::oid::SYNC_INFO.as_bytes() => {
                    Err(Malformed::BadValue("a Sync Info message with a value"))
                }
                _ => Ok(SyncMessage::Other),
            }
        }
        tag::SEARCH_DONE => {
            let value = control_value(envelope, oid::SYNC_DONE)?;
            Ok(SyncMessage::Done {
                result: read_result(envelope.op)?,
                done: value.map(SyncDone::read).transpose()?,
            })
        }
        _ => Err(Malformed::BadOperation),
    }
}

fn state<'a>(envelope: &Envelope<'a>) -> Result<Option<SyncState<'a>>, Malformed> {
    control_value(envelope, oid::SYNC_STATE)?
        .map(SyncState::read)
        .transpose()
}

fn control_value<'a>(envelope: &Envelope<'a>, oid: &str) -> Result<Option<&'a [u8]>, Malformed> {
    for control in controls(envelope.controls) {
        let control = control?;
        if control.oid == oid.as_bytes() {
            return control.value.map(Some).ok_or(Malformed::BadControls);
        }
    }
    Ok(None)
}

/// A BOOLEAN that may be left out.
fn boolean(fields: &mut Reader<'_>, default: bool) -> Result<bool, Malformed> {
    fields
        .take_optional(ber::tag::BOOLEAN)?
        .map_or(Ok(default), ber::boolean)
}

fn write_phase_end(out: &mut Vec<u8>, tag: u8, end: &PhaseEnd<'_>) {
    ber::nest(out, tag, |out| {
        write_cookie(out, end.cookie);
        if !end.refresh_done {
            ber::write_boolean(out, ber::tag::BOOLEAN, false);
        }
    });
}

fn write_cookie(out: &mut Vec<u8>, cookie: Option<&[u8]>) {
    if let Some(cookie) = cookie {
        ber::write_bytes(out, ber::tag::OCTET_STRING, cookie);
    }
}

fn write_control(out: &mut Vec<u8>, oid: &str, critical: bool, value: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    value(&mut content);
    control::write_control(out, oid, critical, Some(&content));
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
