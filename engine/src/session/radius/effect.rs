//! What is to be done for a request, and how its owner names it.

use std::ops::Range;

use crate::ask::Question;
use crate::core::time::Instant;
use crate::password::Check;
use crate::radius::clients::ClientId;
use crate::radius::{Dropped, Path};

/// Names one request of one [`super::Front`], for good.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    /// From [`RequestId::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> RequestId {
        RequestId(bits)
    }

    /// As a number, for logs and tables beside it.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }
}

/// What is to be done, in this order, before the front is told anything else.
#[derive(Debug)]
pub enum Effect {
    /// Send what was appended to the buffer of answers.
    Send {
        /// Where to.
        path: Path,
        /// Which octets of the buffer.
        bytes: Range<usize>,
    },
    /// Submit a question, and tell what comes of it ([`super::Front::told`]).
    Ask {
        /// Whose.
        request: RequestId,
        /// The pool, as the plan's back end names it.
        pool: usize,
        /// Nobody waits for an answer after this moment.
        deadline: Instant,
        /// What is asked.
        question: Question,
    },
    /// Compare passwords where nobody waits behind it, and tell what came of it ([`super::Front::compared`]). At most one at a time
    /// for a request.
    Compare {
        /// Whose.
        request: RequestId,
        /// What is compared.
        check: Check,
    },
    /// Write an accounting record, which is had from [`super::Front::record`], and tell how that went
    /// ([`super::Front::written`]).
    Record {
        /// Whose.
        request: RequestId,
    },
    /// What is asked, compared or written for this request is of no use any more. Nothing need be told of it.
    Cancel {
        /// Whose.
        request: RequestId,
    },
    /// Something is told to whoever traces this request.
    Trace {
        /// The same for all lines of one request, and for no other request.
        trace: u64,
        /// One line, without anything secret.
        line: String,
    },
    /// A packet gets no answer: to be counted, and the first of its kind to be logged with [`Dropped::advice`].
    Dropped {
        /// Whose it is, where that is known; an index of the plan at the time.
        client: Option<ClientId>,
        /// Where it came from.
        path: Path,
        /// Why.
        why: Dropped,
    },
}
