//! One call at a time: the thread that serves a call also reads the socket, so that a call costs no change of threads.
//!
//! While a call is open the socket is looked at only when its handler asks (`interrupted`, `part`, `ask`), and once more
//! after its end.

use wire::helper::Answer;
use zeroize::Zeroizing;

use super::call::{Call, Port};
use super::inbox::{Event, Inbox, Request};
use super::link::{Broken, Link, protocol};
use super::{Failure, Stop};

/// Takes calls until goodbye, or until the socket ends.
pub(super) fn run<R: AsRef<[u8]>>(
    link: Link,
    inbox: Inbox,
    mut handler: impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
) -> Result<(), Broken> {
    let mut one = One {
        link,
        inbox,
        open: 0,
        interrupts: 0,
        input: None,
        goodbye: false,
        broken: None,
    };
    loop {
        match one.inbox.next(&one.link, true)? {
            Event::Call(request) => one.serve(request, &mut handler)?,
            Event::Interrupt(call) => one.link.interrupted(call)?,
            Event::Goodbye => one.goodbye = true,
            Event::Input(..) | Event::Nothing => {}
        }
        if one.goodbye && !one.inbox.in_pieces() {
            return Ok(());
        }
    }
}

pub(super) struct One {
    link: Link,
    inbox: Inbox,
    /// The call that is open.
    open: u32,
    /// Interrupts of it, not yet acknowledged.
    interrupts: u32,
    input: Option<Zeroizing<Vec<u8>>>,
    goodbye: bool,
    /// What was met while the call was open, to be told after its end.
    broken: Option<Broken>,
}

impl One {
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn interrupted(&mut self) -> bool {
        // Bounded: what a well-behaved usherd says about one call; the rest is seen at the next look.
        for _ in 0..16 {
            if self.interrupts > 0 || self.broken.is_some() || !self.listen(false) {
                break;
            }
        }
        self.interrupts > 0 || self.broken.is_some()
    }

    pub(super) fn ask(&mut self, call: u32, question: &[u8]) -> Result<Zeroizing<Vec<u8>>, Stop> {
        self.input = None;
        if let Err(broken) = self.link.answer(Answer::Ask, call, question) {
            self.broken = Some(broken);
        }
        loop {
            if self.broken.is_some() {
                return Err(Stop::Gone);
            }
            if self.interrupts > 0 {
                return Err(Stop::Interrupted);
            }
            if let Some(input) = self.input.take() {
                return Ok(input);
            }
            self.listen(true);
        }
    }

    fn serve<R: AsRef<[u8]>>(
        &mut self,
        request: Request,
        handler: &mut impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
    ) -> Result<(), Broken> {
        self.open = request.call;
        self.interrupts = 0;
        self.input = None;
        let mut call = Call::new(request, Port::One(self));
        let result = handler(&mut call);
        let (request, sent, ()) = call.end(result, || ());
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        sent?;
        for _ in 0..self.interrupts {
            self.link.interrupted(request.call)?;
        }
        self.open = 0;
        self.inbox.recycle(&self.link, request);
        Ok(())
    }

    /// Takes one message while the call is open; whether there was one.
    fn listen(&mut self, wait: bool) -> bool {
        let result = match self.inbox.next(&self.link, wait) {
            Ok(Event::Nothing) => return false,
            Ok(Event::Call(_)) => Err(protocol("one call at a time")),
            Ok(Event::Interrupt(call)) if call == self.open => {
                self.interrupts = self.interrupts.saturating_add(1);
                Ok(())
            }
            Ok(Event::Interrupt(call)) => self.link.interrupted(call),
            Ok(Event::Input(call, input)) => {
                if call == self.open {
                    self.input = Some(input);
                }
                Ok(())
            }
            Ok(Event::Goodbye) => {
                self.goodbye = true;
                Ok(())
            }
            Err(broken) => Err(broken),
        };
        if let Err(broken) = result {
            self.broken = Some(broken);
        }
        true
    }
}
