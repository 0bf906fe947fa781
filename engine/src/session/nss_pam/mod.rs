//! One client of the NSS and PAM modules (the nslcd protocol): one question, one answer, and the connection ends.
//!
//! The question is answered by a directory (searches, binds) or by a service (a call). A session is *new* until its question
//! has come, then *asking* until the answer is whole or cannot be had, then *over*. The answer grows in the client's outbox
//! while entries come. What cannot be asked ends the connection without the answer's end: the modules take that for
//! "unavailable", never for a verdict.

mod aging;
mod entries;
mod groups;
mod lookup;
pub mod maps;
mod network;
mod pam;
pub mod service;

use std::sync::Arc;

use wire::nslcd::{self, Key, Map, Request};
use zeroize::Zeroizing;

use crate::ask::{Asks, Event, Question};
use groups::{Groups, Memberships};
use lookup::Lookup;
use maps::Maps;
use pam::Asking;
use service::Calling;

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answers {
    /// A directory, read so.
    Directory(Arc<Maps>),
    /// A service.
    Service,
}

/// What a listener's settings mean for its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Who answers.
    pub answers: Answers,
    /// Why passwords cannot be changed here; none: they can.
    pub password_prohibited: Option<String>,
    /// Largest answer, in bytes; beyond it the client is told that it cannot be had.
    pub answer_bytes_max: usize,
}

/// What is known of the client and the day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// The user who asks, as the kernel says; none: not known.
    pub uid: Option<u32>,
    /// Days since 1970-01-01.
    pub today: i64,
    /// A number that no other session has.
    pub number: u64,
}

/// What is to be done. Questions to be asked are had from [`Session::question`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Submit what is to be asked, and wait.
    Wait,
    /// Write what is in the outbox, then close.
    Close,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    frame: Zeroizing<Vec<u8>>,
    work: Work,
    asks: Asks,
    circumstances: Circumstances,
}

#[derive(Debug)]
enum Work {
    New,
    Lookup(Lookup),
    Groups(Groups),
    Memberships(Memberships),
    Pam(Asking),
    Service(Calling),
    Over,
}

/// How far an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Something is asked.
    Wait,
    /// Nothing is missing but the end.
    Whole,
    /// It cannot be had.
    Broken,
}

/// What the parts of a session work with where a directory answers.
struct Context<'c> {
    maps: &'c Maps,
    asks: &'c mut Asks,
    out: &'c mut Vec<u8>,
    uid: Option<u32>,
    today: i64,
    prohibited: Option<&'c str>,
    answer_bytes_max: usize,
}

impl Session {
    /// A client that has just connected.
    pub fn new(circumstances: Circumstances) -> Session {
        Session {
            frame: Zeroizing::new(Vec::new()),
            work: Work::New,
            asks: Asks::default(),
            circumstances,
        }
    }

    /// Whether a question is being answered.
    pub fn is_asking(&self) -> bool {
        !matches!(self.work, Work::New | Work::Over)
    }

    /// The next question to be submitted.
    pub fn question(&mut self) -> Option<Question> {
        self.asks.take()
    }

    /// One whole question of the client's.
    pub fn receive(&mut self, frame: &[u8], settings: &Settings, out: &mut Vec<u8>) -> Next {
        let (Work::New, Ok(request)) = (&self.work, Request::read(frame)) else {
            return self.leave();
        };
        self.frame.extend_from_slice(frame);
        nslcd::begin(out, request.action());
        let begun = match &settings.answers {
            _ if local(&request, settings, self.circumstances.number, out) => Err(Step::Whole),
            Answers::Directory(maps) => {
                let mut cx = directory(maps, &mut self.asks, out, self.circumstances, settings);
                begin(&request, &mut cx)
            }
            Answers::Service => {
                let mut cx = service(&mut self.asks, out, self.circumstances, settings);
                Calling::begin(&request, &mut cx).map(Work::Service)
            }
        };
        match begun {
            Ok(work) => {
                self.work = work;
                Next::Wait
            }
            Err(step) => self.after(step, settings, out),
        }
    }

    /// What came of a question.
    pub fn told(&mut self, id: u32, event: &Event<'_>, settings: &Settings, out: &mut Vec<u8>) -> Next {
        let Ok(request) = Request::read(&self.frame) else {
            return Next::Close;
        };
        let step = match (&mut self.work, &settings.answers) {
            (Work::Service(calling), _) => {
                let mut cx = service(&mut self.asks, out, self.circumstances, settings);
                calling.told(&request, event, &mut cx)
            }
            (work, Answers::Directory(maps)) => {
                let mut cx = directory(maps, &mut self.asks, out, self.circumstances, settings);
                told(work, id, &request, event, &mut cx)
            }
            // The listener has other settings by now.
            _ => Step::Broken,
        };
        self.after(step, settings, out)
    }

    /// The client is gone, or nothing more is said to it.
    pub fn leave(&mut self) -> Next {
        self.work = Work::Over;
        self.frame = Zeroizing::new(Vec::new());
        self.asks.clear();
        Next::Close
    }

    fn after(&mut self, step: Step, settings: &Settings, out: &mut Vec<u8>) -> Next {
        match step {
            Step::Wait if out.len() <= settings.answer_bytes_max => return Next::Wait,
            Step::Whole if !matches!(self.work, Work::Over) => nslcd::end(out),
            _ => {}
        }
        self.leave()
    }
}

fn directory<'c>(
    maps: &'c Maps,
    asks: &'c mut Asks,
    out: &'c mut Vec<u8>,
    circumstances: Circumstances,
    settings: &'c Settings,
) -> Context<'c> {
    Context {
        maps,
        asks,
        out,
        uid: circumstances.uid,
        today: circumstances.today,
        prohibited: settings.password_prohibited.as_deref(),
        answer_bytes_max: settings.answer_bytes_max,
    }
}

fn service<'c>(
    asks: &'c mut Asks,
    out: &'c mut Vec<u8>,
    circumstances: Circumstances,
    settings: &'c Settings,
) -> service::Context<'c> {
    service::Context {
        asks,
        out,
        uid: circumstances.uid,
        session: circumstances.number,
        prohibited: settings.password_prohibited.as_deref(),
    }
}

/// What needs nobody: true where that was it.
fn local(request: &Request<'_>, settings: &Settings, number: u64, out: &mut Vec<u8>) -> bool {
    let directory = matches!(settings.answers, Answers::Directory(_));
    match request {
        Request::ConfigGet(1) => nslcd::text(
            out,
            settings.password_prohibited.as_deref().unwrap_or_default().as_bytes(),
        ),
        Request::ConfigGet(_) => {}
        Request::UserModify { .. } => {
            nslcd::user_modify_refused(out, b"personal data cannot be changed here: change it in the directory");
        }
        Request::SessionOpen(_) if directory => nslcd::text(out, session_id(number).as_bytes()),
        Request::SessionClose { .. } if directory => nslcd::nothing(out),
        _ => return false,
    }
    true
}

fn session_id(number: u64) -> String {
    format!("usherd-{number:016x}")
}

fn begin(request: &Request<'_>, cx: &mut Context<'_>) -> Result<Work, Step> {
    match request {
        Request::Look { map: Map::Shadow, .. } if cx.uid != Some(0) => Err(Step::Whole),
        Request::Look {
            map: Map::Group,
            key: Key::Member(member),
        } => Memberships::begin(member, cx).map(Work::Memberships),
        Request::Look { map: Map::Group, key } => Groups::begin(key, cx).map(Work::Groups),
        Request::Look { map, key } => Lookup::begin(*map, key, cx).map(Work::Lookup),
        request => Asking::begin(request, cx).map(Work::Pam),
    }
}

fn told(work: &mut Work, id: u32, request: &Request<'_>, event: &Event<'_>, cx: &mut Context<'_>) -> Step {
    match (work, request) {
        (Work::Lookup(lookup), Request::Look { key, .. }) => lookup.told(key, event, cx),
        (Work::Groups(groups), Request::Look { key, .. }) => groups.told(id, key, event, cx),
        (
            Work::Memberships(memberships),
            Request::Look {
                key: Key::Member(member),
                ..
            },
        ) => memberships.told(member, event, cx),
        (Work::Pam(asking), request) => asking.told(request, event, cx),
        _ => Step::Broken,
    }
}
