//! What one connection has asked, and whether what comes back answers it.
//!
//! A balancer's worst faults are invisible in a rate: an answer given twice, given after the final one, or given to
//! the wrong asker. So each operation is kept here under its message id until well after its final result, and every
//! message that arrives is judged.
//!
//! A slot goes Free -> Pending -> Done, or Pending -> Abandoned; it is Free again when its id's turn comes round. At
//! any time there are at most as many Pending as the connection's depth, of eight times as many slots, so that a
//! faulty second answer still finds the slot of the first. Ids count up and wrap: reusing them is allowed (RFC 4511
//! section 4.1.1.1) and is what a balancer that keys something by the id alone gets wrong.

use wire::ber::{self, Reader};
use wire::ldap::envelope::{Envelope, tag};

use super::template::{Digits, Template};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A search for the entry of n.
    Search,
    /// A simple bind as n.
    Bind,
    /// A comparison with n's entry that must be true, or must be false.
    Compare {
        /// Whether it must be true.
        holds: bool,
    },
    /// Who Am I? on a connection bound as n (RFC 4532).
    WhoAmI,
    /// StartTLS.
    StartTls,
}

impl Kind {
    fn response(self) -> u8 {
        match self {
            Kind::Search => tag::SEARCH_DONE,
            Kind::Bind => tag::BIND_RESPONSE,
            Kind::Compare { .. } => tag::COMPARE_RESPONSE,
            Kind::WhoAmI | Kind::StartTls => tag::EXTENDED_RESPONSE,
        }
    }
}

/// One operation that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// What was asked.
    pub(super) kind: Kind,
    /// The number it was asked about.
    pub(super) n: u32,
    /// When it was (meant to be) sent, in nanoseconds of the caller's clock.
    pub(super) start_ns: u64,
}

/// What tells the right answer from another's.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    /// The entry that a search for n must return; none when the filter does not tell.
    pub(super) entry: Option<Expected>,
    /// The DN that Who Am I? must give on a connection bound as n.
    pub(super) identity: Option<Template>,
}

/// How the entry of n is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// By its whole DN.
    Dn(Template),
    /// By a value of this attribute, in its RDN or among its attributes.
    Value {
        /// The attribute's name, as it stands in the filter.
        attribute: String,
        /// `attribute=value`, as an RDN has it.
        rdn: Template,
        /// The value alone.
        value: Template,
    },
}

/// An answer that no correct server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another's answer: for something else than was asked, of the wrong type, or under an id never used here.
    Misdelivered,
    /// A second final result.
    Duplicate,
    /// Part of an answer after its final result.
    Late,
}

/// What a received message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Part of a pending operation's answer, as it should be.
    Part,
    /// The final result of a pending operation, which is pending no more.
    Final {
        /// The operation.
        asked: Asked,
        /// Its result code (RFC 4511 appendix A).
        code: u32,
        /// Whether the code is one that a fulfilled operation of this kind has.
        fulfilled: bool,
        /// Whether a search succeeded without the entry it was for.
        entry_missing: bool,
        /// Whether the result was another's.
        misdelivered: bool,
    },
    /// Something for an abandoned operation. That is no fault: it may have been under way.
    AfterAbandon,
    /// An unsolicited notification (RFC 4511 section 4.4) with its result code.
    Notice {
        /// Its result code.
        code: u32,
    },
    /// A fault.
    Faulty(Fault),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Pending,
    Done,
    Abandoned,
}

#[derive(Clone, Copy)]
struct Slot {
    id: i32,
    state: State,
    entry_seen: bool,
    asked: Asked,
}

/// Ids wrap here; a multiple of every number of slots.
const IDS: u32 = 1 << 16;
/// So that eight times as many slots are no more than the ids.
pub(super) const DEPTH_MAX: u32 = IDS / 8;

/// The operations of one connection.
pub(super) struct Ledger {
    slots: Box<[Slot]>,
    /// Operations opened since the connection began; the id is one more, modulo [`IDS`].
    opened: u32,
    pending: u32,
}

impl Ledger {
    /// For at most `depth` operations at a time, 1 to [`DEPTH_MAX`].
    pub(super) fn new(depth: u32) -> Self {
        let slots = (depth.clamp(1, DEPTH_MAX) * 8).next_power_of_two();
        let asked = Asked {
            kind: Kind::Search,
            n: 0,
            start_ns: 0,
        };
        let slot = Slot {
            id: 0,
            state: State::Free,
            entry_seen: false,
            asked,
        };
        Ledger {
            slots: vec![slot; slots as usize].into_boxed_slice(),
            opened: 0,
            pending: 0,
        }
    }

    /// Operations sent, neither answered nor abandoned.
    pub(super) fn pending(&self) -> u32 {
        self.pending
    }

    /// Notes an operation and gives it its id; none when every slot waits for an answer.
    pub(super) fn open(&mut self, asked: Asked) -> Option<i32> {
        for _ in 0..self.slots.len() {
            let id = i32::try_from(self.opened % IDS + 1).ok()?;
            // Wraps to a value that still says "every id was used".
            self.opened = self.opened.checked_add(1).unwrap_or(IDS);
            let Some(slot) = self.slot(id) else { continue };
            if slot.state != State::Pending {
                *slot = Slot {
                    id,
                    state: State::Pending,
                    entry_seen: false,
                    asked,
                };
                self.pending += 1;
                return Some(id);
            }
        }
        None
    }

    /// Notes that an operation was abandoned; false when it is not pending.
    pub(super) fn abandon(&mut self, id: i32) -> bool {
        match self.slot(id) {
            Some(slot) if slot.id == id && slot.state == State::Pending => {
                slot.state = State::Abandoned;
                self.pending -= 1;
                true
            }
            _ => false,
        }
    }

    /// Forgets everything, as after the connection's end; gives how many operations were pending.
    pub(super) fn clear(&mut self) -> u32 {
        for slot in &mut self.slots {
            slot.state = State::Free;
            slot.id = 0;
        }
        self.opened = 0;
        std::mem::take(&mut self.pending)
    }

    /// Judges one received message.
    pub(super) fn receive(&mut self, message: &Envelope<'_>, truth: &Truth) -> Verdict {
        if message.id == 0 {
            return Verdict::Notice {
                code: result_code(message.op).unwrap_or(u32::MAX),
            };
        }
        let is_part = matches!(
            message.tag,
            tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE | tag::INTERMEDIATE_RESPONSE
        );
        let never_used = u32::try_from(message.id).is_ok_and(|id| id > self.opened.min(IDS));
        let Some(slot) = self.slot(message.id) else {
            return Verdict::Faulty(Fault::Misdelivered);
        };
        if slot.id != message.id || matches!(slot.state, State::Free | State::Done) {
            return Verdict::Faulty(match (never_used, is_part) {
                (true, _) => Fault::Misdelivered,
                (false, true) => Fault::Late,
                (false, false) => Fault::Duplicate,
            });
        }
        let asked = slot.asked;
        let fits = if is_part {
            asked.kind == Kind::Search
        } else {
            message.tag == asked.kind.response()
        };
        let right = fits && is_right(message, &asked, truth);
        match (slot.state, is_part) {
            (State::Abandoned, _) if !right => Verdict::Faulty(Fault::Misdelivered),
            (State::Abandoned, true) => Verdict::AfterAbandon,
            (State::Abandoned, false) => {
                slot.state = State::Done;
                Verdict::AfterAbandon
            }
            (_, true) if !right => Verdict::Faulty(Fault::Misdelivered),
            (_, true) => {
                slot.entry_seen |= message.tag == tag::SEARCH_ENTRY;
                Verdict::Part
            }
            (_, false) => {
                slot.state = State::Done;
                let code = result_code(message.op).unwrap_or(u32::MAX);
                let success = fits && code == 0;
                let entry_missing = asked.kind == Kind::Search && success && !slot.entry_seen && truth.entry.is_some();
                self.pending -= 1;
                let fulfilled = fits && is_fulfilled(asked.kind, code);
                Verdict::Final {
                    asked,
                    code,
                    fulfilled,
                    entry_missing,
                    misdelivered: !right,
                }
            }
        }
    }

    fn slot(&mut self, id: i32) -> Option<&mut Slot> {
        let mask = self.slots.len() - 1;
        let at = usize::try_from(id.checked_sub(1)?).ok()? & mask;
        self.slots.get_mut(at)
    }
}

/// LDAPResult.resultCode of a whole response (RFC 4511 section 4.1.9).
fn result_code(op: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(Reader::new(op).element().ok()?.content);
    let code = ber::natural(reader.take(ber::tag::ENUMERATED).ok()?).ok()?;
    u32::try_from(code).ok()
}

const COMPARE_FALSE: u32 = 5;
const COMPARE_TRUE: u32 = 6;

fn is_fulfilled(kind: Kind, code: u32) -> bool {
    match kind {
        Kind::Compare { .. } => matches!(code, COMPARE_FALSE | COMPARE_TRUE),
        _ => code == 0,
    }
}

/// Whether a message of the right type is about what was asked. Errors tell nothing of it and pass.
fn is_right(message: &Envelope<'_>, asked: &Asked, truth: &Truth) -> bool {
    let n = Digits::of(asked.n);
    match (asked.kind, message.tag) {
        (Kind::Search, tag::SEARCH_ENTRY) => match &truth.entry {
            Some(expected) => is_entry(message.op, expected, &n).unwrap_or(false),
            None => true,
        },
        (Kind::Compare { holds }, _) => match result_code(message.op) {
            Some(COMPARE_FALSE) => !holds,
            Some(COMPARE_TRUE) => holds,
            _ => true,
        },
        (Kind::WhoAmI, _) => match &truth.identity {
            Some(identity) if result_code(message.op) == Some(0) => is_identity(message.op, identity, &n),
            _ => true,
        },
        _ => true,
    }
}

/// Whether a SearchResultEntry is the expected one; none when it is malformed.
fn is_entry(op: &[u8], expected: &Expected, n: &Digits) -> Option<bool> {
    let mut entry = Reader::inside(op, tag::SEARCH_ENTRY).ok()?;
    let dn = entry.take(ber::tag::OCTET_STRING).ok()?;
    let (attribute, rdn, value) = match expected {
        Expected::Dn(template) => return Some(template.matches(n, dn)),
        Expected::Value { attribute, rdn, value } => (attribute, rdn, value),
    };
    if rdn
        .strip(n, dn)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b',' | b'+')))
    {
        return Some(true);
    }
    let mut attributes = Reader::new(entry.take(ber::tag::SEQUENCE).ok()?);
    while !attributes.is_empty() {
        let mut one = Reader::new(attributes.take(ber::tag::SEQUENCE).ok()?);
        if !one
            .take(ber::tag::OCTET_STRING)
            .ok()?
            .eq_ignore_ascii_case(attribute.as_bytes())
        {
            continue;
        }
        let mut values = Reader::new(one.take(ber::tag::SET).ok()?);
        while !values.is_empty() {
            if value.matches(n, values.take(ber::tag::OCTET_STRING).ok()?) {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// responseValue of an ExtendedResponse, `dn:` and the DN (RFC 4532 section 2.2, RFC 4513 section 5.2.1.8).
fn is_identity(op: &[u8], identity: &Template, n: &Digits) -> bool {
    const RESPONSE_VALUE: u8 = 0x8B;
    let Ok(mut reader) = Reader::inside(op, tag::EXTENDED_RESPONSE) else {
        return false;
    };
    while let Ok(element) = reader.element() {
        if element.tag == RESPONSE_VALUE {
            return element
                .content
                .strip_prefix(b"dn:")
                .is_some_and(|dn| identity.matches(n, dn));
        }
    }
    false
}
