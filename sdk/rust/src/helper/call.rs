//! A call, as its handler sees it, and how it ends.

use std::fs::File;
use std::time::{Duration, Instant};

use wire::helper::Answer;
use zeroize::Zeroizing;

use super::inbox::Request;
use super::link::{Broken, Link};
use super::one::One;
use super::threads::Open;
use super::{CODE_ANSWER_TOO_LARGE, Failure, Stop};

/// One call. What the handler returns is its answer, or the rest of it after [`part`](Self::part).
pub struct Call<'a> {
    request: Request,
    port: Port<'a>,
    /// Bytes of the answer that have been sent as parts.
    sent_bytes: usize,
}

/// How a call hears of its interrupt, and gets its input.
pub(super) enum Port<'a> {
    /// Its helper has one call at a time, and reads the socket itself.
    One(&'a mut One),
    /// Another thread reads the socket.
    Many(&'a Open, &'a Link),
}

impl<'a> Call<'a> {
    pub(super) fn new(request: Request, port: Port<'a>) -> Self {
        Self {
            request,
            port,
            sent_bytes: 0,
        }
    }

    /// What the caller asks.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.request.payload()
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        self.link().service()
    }

    /// When the caller stops waiting; `None` if it does not.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.request.deadline
    }

    /// How long the caller still waits; `None` without end, zero when it has stopped.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.request.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody wants the answer any more. To be asked after EINTR, and now and then in what takes long; it does
    /// not block. Once true it stays so.
    pub fn interrupted(&mut self) -> bool {
        match &mut self.port {
            Port::One(one) => one.interrupted(),
            Port::Many(open, _) => open.interrupted(),
        }
    }

    /// [`interrupted`](Self::interrupted) as an error, for `?`.
    ///
    /// # Errors
    /// [`Stop::Interrupted`].
    pub fn check(&mut self) -> Result<(), Stop> {
        if self.interrupted() {
            return Err(Stop::Interrupted);
        }
        Ok(())
    }

    /// Hands a part of the answer to the caller at once.
    ///
    /// # Errors
    /// The call is interrupted, the answer becomes too large, or usherd has gone.
    pub fn part(&mut self, part: &[u8]) -> Result<(), Stop> {
        self.check()?;
        let sent_bytes = self.sent_bytes.saturating_add(part.len());
        if sent_bytes > self.link().answer_bytes_max() {
            return Err(Stop::TooLarge);
        }
        for piece in part.chunks(self.link().piece_bytes_max()) {
            self.link()
                .answer(Answer::Part, self.request.call, piece)
                .map_err(|_| Stop::Gone)?;
        }
        self.sent_bytes = sent_bytes;
        Ok(())
    }

    /// Asks the caller for more (a one-time password, say) and waits for what it says: nothing, where the caller cannot be
    /// asked. What it says is wiped when dropped.
    ///
    /// # Errors
    /// The call is interrupted; the question is larger than one message; usherd has gone.
    pub fn ask(&mut self, question: &[u8]) -> Result<Zeroizing<Vec<u8>>, Stop> {
        if question.len() > self.link().piece_bytes_max() {
            return Err(Stop::TooLarge);
        }
        self.check()?;
        match &mut self.port {
            Port::One(one) => one.ask(self.request.call, question),
            Port::Many(open, link) => open.ask(link, self.request.call, question),
        }
    }

    /// The descriptor to write the answer to, if the caller has given one; the answer that is returned then must be empty.
    /// One that is not taken is closed, and the answer goes the usual way.
    pub fn reply_to(&mut self) -> Option<File> {
        self.request.descriptor.take().map(File::from)
    }

    /// Sends what is left of the answer, and gives the request back. What `before_last` returns lives while the last
    /// message is sent, and is returned.
    pub(super) fn end<R: AsRef<[u8]>, G>(
        mut self,
        result: Result<R, Failure>,
        before_last: impl FnOnce() -> G,
    ) -> (Request, Result<(), Broken>, G) {
        self.request.descriptor = None;
        let (call, link) = (self.request.call, self.link());
        let result = result.and_then(|answer| {
            let bytes = answer.as_ref().len().saturating_add(self.sent_bytes);
            let too_large = Failure::new(CODE_ANSWER_TOO_LARGE, "the answer is larger than usherd takes");
            if bytes > link.answer_bytes_max() {
                Err(too_large)
            } else {
                Ok(answer)
            }
        });
        let (sent, guard) = match result {
            Ok(answer) => link.done(call, answer.as_ref(), matches!(self.port, Port::One(_)), before_last),
            Err(failure) => {
                let guard = before_last();
                (link.error(call, failure.code, &failure.text), guard)
            }
        };
        (self.request, sent, guard)
    }

    fn link(&self) -> &Link {
        match &self.port {
            Port::One(one) => one.link(),
            Port::Many(_, link) => link,
        }
    }
}
