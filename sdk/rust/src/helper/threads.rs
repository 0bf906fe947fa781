//! Several calls at once: one thread reads the socket, each of the others serves one call.
//!
//! The table of open calls has one lock. A call's last message is sent under it, together with the call's removal, so
//! that an interrupt either finds the call open, and is acknowledged after its last message by the thread that has it; or
//! does not find it, and is acknowledged at once. usherd sends such helpers no signal: the reading thread interrupts the
//! thread that has the call, and again until it is done, since a signal that comes between two system calls is lost.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::thread::Pid;
use wire::helper::Answer;
use zeroize::Zeroizing;

use super::call::{Call, Port};
use super::inbox::{Event, Inbox, Request};
use super::link::{Broken, Link, protocol};
use super::{Error, Failure, Stop};

/// A thread whose call is interrupted is signalled again after this.
const SIGNAL_AGAIN: Duration = Duration::from_millis(50);

/// Takes calls until goodbye, or until the socket ends, and waits for the threads.
pub(super) fn run<R: AsRef<[u8]>, H: FnMut(&mut Call<'_>) -> Result<R, Failure>>(
    link: &Link,
    inbox: Inbox,
    threads: NonZeroU32,
    make: impl Fn(u32) -> Result<H, Failure> + Sync,
    ready: impl FnOnce() -> Result<(), Broken>,
) -> Result<(), Broken> {
    let crew = Crew {
        link,
        threads: threads.get(),
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        let (crew, make) = (&crew, &make);
        let serving: Vec<_> = (0..crew.threads)
            .map(|number| scope.spawn(move || crew.serve(number, make)))
            .collect();
        let result = crew.made().and_then(|()| ready()).and_then(|()| crew.read(inbox));
        crew.finish(result.is_err());
        for thread in serving {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
        result
    })
}

/// The threads of a helper, and what they have to do.
struct Crew<'a> {
    link: &'a Link,
    threads: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// From when a call has come until its last message was sent.
    open: HashMap<u32, Arc<Open>>,
    /// Those of them that no thread has taken yet.
    queue: VecDeque<(Request, Arc<Open>)>,
    /// Threads that have a handler, and threads that have ended.
    made: u32,
    left: u32,
    failed: Option<Failure>,
    /// No call comes any more.
    ending: bool,
}

/// An open call.
#[derive(Default)]
pub(super) struct Open {
    state: Mutex<OpenState>,
    changed: Condvar,
}

#[derive(Default)]
struct OpenState {
    /// To be acknowledged.
    interrupts: u32,
    gone: bool,
    asking: bool,
    input: Option<Zeroizing<Vec<u8>>>,
    /// The thread in whose handler the call is.
    thread: Option<Pid>,
}

impl Open {
    pub(super) fn interrupted(&self) -> bool {
        self.lock().stopped().is_some()
    }

    pub(super) fn ask(&self, link: &Link, call: u32, question: &[u8]) -> Result<Zeroizing<Vec<u8>>, Stop> {
        self.lock().asking = true;
        link.answer(Answer::Ask, call, question).map_err(|_| Stop::Gone)?;
        let mut state = self.lock();
        loop {
            if let Some(stop) = state.stopped() {
                return Err(stop);
            }
            if let Some(input) = state.input.take() {
                return Ok(input);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn input(&self, input: Zeroizing<Vec<u8>>) {
        let mut state = self.lock();
        if state.asking {
            state.asking = false;
            state.input = Some(input);
            self.changed.notify_all();
        }
    }

    fn interrupt(&self) {
        let mut state = self.lock();
        state.interrupts = state.interrupts.saturating_add(1);
        self.changed.notify_all();
    }

    fn lose(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    /// Makes the system call return in which a stopped call's handler may be.
    fn signal(&self) {
        let state = self.lock();
        if let Some(thread) = state.thread.filter(|_| state.stopped().is_some()) {
            crate::system::interrupt_thread(thread);
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenState {
    fn stopped(&self) -> Option<Stop> {
        match (self.interrupts, self.gone) {
            (0, false) => None,
            (0, true) => Some(Stop::Gone),
            _ => Some(Stop::Interrupted),
        }
    }
}

impl Crew<'_> {
    /// Waits until every thread has its handler.
    fn made(&self) -> Result<(), Broken> {
        let mut state = self.lock();
        while state.made + state.left < self.threads {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match (state.failed.take(), state.left) {
            (Some(failure), _) => Err(Error::Unable(failure.text).into()),
            (None, 0) => Ok(()),
            (None, _) => Err(Broken::Gone),
        }
    }

    fn read(&self, mut inbox: Inbox) -> Result<(), Broken> {
        loop {
            let signalling = self.signal_stopped();
            if signalling {
                self.link.wait(SIGNAL_AGAIN)?;
            }
            match inbox.next(self.link, !signalling)? {
                Event::Call(request) => self.enqueue(request)?,
                Event::Interrupt(call) => {
                    let state = self.lock();
                    match state.open.get(&call) {
                        Some(open) => open.interrupt(),
                        None => self.link.interrupted(call)?,
                    }
                }
                Event::Input(call, input) => {
                    if let Some(open) = self.lock().open.get(&call) {
                        open.input(input);
                    }
                }
                Event::Goodbye => self.lock().ending = true,
                Event::Nothing => {}
            }
            let state = self.lock();
            if state.ending && state.open.is_empty() && !inbox.in_pieces() {
                return Ok(());
            }
        }
    }

    fn enqueue(&self, request: Request) -> Result<(), Broken> {
        let mut state = self.lock();
        if state.open.len() >= usize::try_from(self.threads).unwrap_or(usize::MAX) {
            return Err(protocol("as many calls at once as the helper takes"));
        }
        if state.open.contains_key(&request.call) {
            return Err(protocol("a call id that is not open"));
        }
        let open = Arc::new(Open::default());
        state.open.insert(request.call, Arc::clone(&open));
        state.queue.push_back((request, open));
        self.changed.notify_one();
        Ok(())
    }

    /// Whether any call that is open is to stop; signals those.
    fn signal_stopped(&self) -> bool {
        let state = self.lock();
        let stopped = state.open.values().filter(|open| open.interrupted());
        stopped.map(|open| open.signal()).count() > 0
    }

    /// Waits until the threads have ended. If usherd has gone there is nobody to work for, and what they have is stopped.
    fn finish(&self, gone: bool) {
        let mut state = self.lock();
        state.ending = true;
        if gone {
            state.queue.clear();
            state.open.values().for_each(|open| open.lose());
        }
        self.changed.notify_all();
        while state.left < self.threads {
            let waited = self.changed.wait_timeout(state, SIGNAL_AGAIN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.open.values().for_each(|open| open.signal());
        }
    }

    /// What one thread does.
    fn serve<R: AsRef<[u8]>, H: FnMut(&mut Call<'_>) -> Result<R, Failure>>(
        &self,
        number: u32,
        make: &impl Fn(u32) -> Result<H, Failure>,
    ) {
        let _leaving = Leaving(self);
        let mut handler = match make(number) {
            Ok(handler) => handler,
            Err(failure) => {
                self.lock().failed = Some(failure);
                return;
            }
        };
        self.lock().made += 1;
        self.changed.notify_all();
        while let Some((request, open)) = self.take() {
            self.call(&mut handler, request, &open);
        }
    }

    fn call<R: AsRef<[u8]>>(
        &self,
        handler: &mut impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
        request: Request,
        open: &Open,
    ) {
        let number = request.call;
        open.lock().thread = Some(rustix::thread::gettid());
        let mut call = Call::new(request, Port::Many(open, self.link));
        let result = handler(&mut call);
        open.lock().thread = None;
        let (_request, sent, mut state) = call.end(result, || self.lock());
        state.open.remove(&number);
        let last = state.ending && state.open.is_empty();
        drop(state);
        let interrupts = open.lock().interrupts;
        let acknowledged = (0..interrupts).try_for_each(|_| self.link.interrupted(number));
        if sent.and(acknowledged).is_err() || last {
            // Wakes the reading thread, which then finds that there is nothing more to do.
            self.link.stop_receiving();
        }
    }

    fn take(&self) -> Option<(Request, Arc<Open>)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.queue.pop_front() {
                return Some(next);
            }
            if state.ending {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread that ends. One that panics takes the helper with it: half a helper would be worse than a new one.
struct Leaving<'a>(&'a Crew<'a>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.link.hang_up();
        }
        self.0.lock().left += 1;
        self.0.changed.notify_all();
    }
}
