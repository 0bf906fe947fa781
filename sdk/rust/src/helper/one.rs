//! One call at a time: the thread that serves a call also reads the socket, so that a call costs no change of threads.
//!
//! While a call is served the socket is looked at only when its handler asks (`interrupted`, `part`, `ask`), and once more
//! after its end. A helper that takes calls ahead has the next ones in the socket, or in `queue` if they came while a handler
//! looked there.

use std::collections::VecDeque;

use wire::helper::Answer;
use zeroize::Zeroizing;

use super::call::{Call, Port};
use super::inbox::{Event, Inbox, Request};
use super::link::{Broken, Link, protocol};
use super::{Failure, Stop};

/// Takes calls until goodbye, or until the socket ends. `calls_max`: as many as usherd may have sent that are not over.
pub(super) fn run<R: AsRef<[u8]>>(
    link: Link,
    inbox: Inbox,
    calls_max: usize,
    mut handler: impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
) -> Result<(), Broken> {
    let mut one = One {
        link,
        inbox,
        queue: VecDeque::new(),
        calls_max,
        open: 0,
        interrupts: 0,
        input: None,
        goodbye: false,
        broken: None,
    };
    loop {
        let next = match one.queue.pop_front() {
            Some(request) => Event::Call(request),
            None => one.inbox.next(&one.link, true)?,
        };
        match next {
            Event::Call(request) => one.serve(request, &mut handler)?,
            Event::Interrupt(call) => one.link.interrupted(call)?,
            Event::Goodbye => one.goodbye = true,
            Event::Input(..) | Event::Nothing => {}
        }
        if one.goodbye && one.queue.is_empty() && !one.inbox.in_pieces() {
            return Ok(());
        }
    }
}

pub(super) struct One {
    link: Link,
    inbox: Inbox,
    /// Calls that came while another was served.
    queue: VecDeque<Request>,
    calls_max: usize,
    /// The call that is served.
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

    /// An interrupt of a call that is not the one served: one that waits is over, of another nothing is known any more.
    fn give_up(&mut self, call: u32) -> Result<(), Broken> {
        if let Some(at) = self.queue.iter().position(|request| request.call == call) {
            self.queue.remove(at);
            self.link
                .error(call, super::CODE_FAILED, "interrupted before it was begun")?;
        }
        self.link.interrupted(call)
    }

    /// Takes one message while the call is open; whether there was one.
    fn listen(&mut self, wait: bool) -> bool {
        let result = match self.inbox.next(&self.link, wait) {
            Ok(Event::Nothing) => return false,
            Ok(Event::Call(_)) if self.queue.len() + 1 >= self.calls_max => {
                Err(protocol("as many calls at once as the helper takes"))
            }
            Ok(Event::Call(request)) => {
                self.queue.push_back(request);
                Ok(())
            }
            Ok(Event::Interrupt(call)) if call == self.open => {
                self.interrupts = self.interrupts.saturating_add(1);
                Ok(())
            }
            Ok(Event::Interrupt(call)) => self.give_up(call),
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
