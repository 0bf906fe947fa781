//! Whether a user is let in: the back ends of a chain are asked in their order, about a name and what the request offers.
//!
//! One back end is asked at a time; what each kind is asked is in a file of its own. A back end *says* yes, no, that it does not
//! know or cannot judge, or nothing; what that means is the chain's. Only one that said yes lets anybody in.

use wire::radius::{Item, Packet, number};

use super::directory;
use super::figures::{Figures, Told};
use super::groups::Memberships;
use super::mac;
use super::method::{Checked, Granted, Known, Method, Offer, Refused, UNKNOWN};
use super::plan::{Backend, Chain, Kind, Mode, Plan, Unavailable};
use super::service;
use crate::ask::{Asks, Event, Question};
use crate::core::time::{Instant, Span};
use crate::password::{self, Check, Verdict};
use crate::radius::clients::Client;
use crate::radius::policy::Moment;
use crate::radius::users::{Fixed, Users};

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Wait,
    Accept,
    Reject,
    Silence,
}

/// What a back end said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Yes,
    No(Why),
    /// It does not know the user, or cannot judge what is offered; and which.
    NotFound(&'static str),
    Nothing(&'static str),
}

/// What one move of a back end led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Wait,
    Said(Said),
}

/// Why a user is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Why {
    /// Nobody knows the user, or could judge what was offered.
    #[default]
    NotFound,
    Wrong,
    Disabled,
    Expired,
    PasswordExpired,
    MustChange,
    LockedOut,
    Restricted,
    Denied,
    /// The request itself is refused.
    Request(&'static str),
    /// A back end that must be asked could not be.
    Unavailable,
    /// The new password was not taken.
    CannotChange,
    /// A rule refuses.
    Rule,
}

impl Why {
    /// In words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Why::NotFound => "nobody knows the user, or can judge what is offered",
            Why::Wrong => "wrong password",
            Why::Disabled => "the account is disabled",
            Why::Expired => "the account has expired",
            Why::PasswordExpired => "the password has expired",
            Why::MustChange => "the password must be changed",
            Why::LockedOut => "the account is locked after too many wrong passwords",
            Why::Restricted => "not now, or not from here",
            Why::Denied => "refused",
            Why::Request(why) => why,
            Why::Unavailable => "a back end that must be asked could not be",
            Why::CannotChange => "the password was not changed",
            Why::Rule => "a rule refuses",
        }
    }

    /// The number and the words of an MS-CHAP-Error (RFC 2759 section 6). Who is not known and who gave a wrong password are told
    /// the same.
    pub(super) fn ms_chap(self) -> (u16, &'static str) {
        match self {
            Why::Restricted => (646, "Not now, or not from here"),
            Why::Disabled | Why::Expired | Why::LockedOut => (647, "Account disabled"),
            Why::PasswordExpired | Why::MustChange => (648, "Password expired"),
            Why::Rule => (649, "No permission"),
            Why::CannotChange => (709, "Password not changed"),
            Why::NotFound | Why::Wrong | Why::Denied | Why::Request(_) | Why::Unavailable => {
                (691, "Authentication failed")
            }
        }
    }
}

/// What is known while a request is looked at.
pub(super) struct Cx<'a> {
    pub(super) packet: &'a Packet<'a>,
    pub(super) client: &'a Client,
    pub(super) plan: &'a Plan,
    pub(super) offer: &'a Offer<'a>,
    pub(super) now: Instant,
    pub(super) moment: Moment,
    /// How long the client waits still.
    pub(super) patience: Span,
    pub(super) figures: &'a mut Figures,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pub(super) asks: Asks,
    pub(super) pool: usize,
    /// The question that is waited for; others are of a back end that was left.
    pub(super) open: u32,
    chain: usize,
    link: usize,
    /// Since when the back end is being asked.
    asked_at: Option<Instant>,
    pub(super) directory: directory::Turn,
    pub(super) service: service::Turn,
    comparing: Comparing,
    /// Some back end could not be asked, and the next one was.
    passed_over: bool,
    /// One was not, because its answer would come too late.
    pub(super) shed: bool,
    pub(super) method: Method,
    /// The address of a device, as its name is written.
    mac: Option<Box<str>>,
    pub(super) why: Why,
    /// What a person is told.
    pub(super) message: Option<Box<str>>,
    pub(super) granted: Option<Granted>,
    /// What the back ends that said yes give.
    pub(super) items: Vec<Item>,
    /// A list that knows the user: its attributes are looked up again for the answer.
    listed: Option<usize>,
    pub(super) groups: Memberships,
    /// Number of its trace, and what is to be said there.
    pub(super) trace: Option<(u64, Vec<String>)>,
}

/// Comparisons that take their time, one after the other.
#[derive(Debug, Default)]
struct Comparing {
    /// To be carried out now.
    ready: Option<Check>,
    waiting: Vec<Check>,
    open: bool,
    /// One of them was no match, so that this is not the password.
    wrong: bool,
}

/// What is known by now about the password.
pub(super) enum Judged {
    Right,
    Wrong,
    Later,
    Cannot(&'static str),
}

impl Asking {
    /// The next question, and the pool that is to answer it.
    pub(super) fn question(&mut self) -> Option<(usize, Question)> {
        Some((self.pool, self.asks.take()?))
    }

    /// A comparison that is to be carried out.
    pub(super) fn comparison(&mut self) -> Option<Check> {
        self.comparing.ready.take()
    }

    /// Something is told to whoever traces this request. Costs nothing where nobody does.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some((_, lines)) = &mut self.trace {
            lines.push(line());
        }
    }

    /// The request is refused for its form.
    pub(super) fn refused(&mut self, refused: &Refused) -> Step {
        self.method = refused.0;
        self.reject(Why::Request(refused.1))
    }

    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) -> Step {
        self.method = cx.offer.method();
        if cx.packet.find(number::USER_NAME).is_none_or(<[u8]>::is_empty) {
            return self.reject(Why::Request("the request has no User-Name"));
        }
        if let Some(mac) = &cx.plan.mac
            && let Some(octets) = mac::asked(cx.packet, cx.offer)
        {
            self.method = Method::Mac;
            self.mac = Some(mac.format.write(&octets).into());
        }
        match self.before(cx) {
            Some(chain) => self.chain = chain,
            None => return self.reject(Why::Rule),
        }
        let next = self.ask(cx);
        self.go_on(next, cx)
    }

    /// The name that is asked about.
    pub(super) fn name<'n>(&'n self, cx: &'n Cx<'_>) -> &'n [u8] {
        match &self.mac {
            Some(mac) => mac.as_bytes(),
            None => cx.packet.find(number::USER_NAME).unwrap_or_default(),
        }
    }

    /// Whether knowing the name is enough.
    pub(super) fn by_name_only(&self) -> bool {
        self.mac.is_some()
    }

    fn chain<'p>(&self, plan: &'p Plan) -> Option<&'p Chain> {
        plan.chains.get(self.chain)
    }

    fn backend<'p>(&self, plan: &'p Plan) -> Option<&'p Backend> {
        let link = self.chain(plan)?.links.get(self.link)?;
        plan.backends.get(link.backend)
    }

    /// Asks the back end whose turn it is.
    fn ask(&mut self, cx: &mut Cx<'_>) -> Next {
        let Some(backend) = self.backend(cx.plan) else {
            return Next::Said(Said::Nothing("there is nobody to ask"));
        };
        self.comparing = Comparing::default();
        let is_elsewhere = !matches!(backend.kind, Kind::Users(_));
        if is_elsewhere && !cx.figures.admits(&backend.name, cx.patience, cx.now) {
            self.shed = true;
            return Next::Said(Said::Nothing(
                "its answer would come later than the client waits for it",
            ));
        }
        let next = match &backend.kind {
            Kind::Users(users) => self.look_up(users, cx),
            Kind::Directory(directory) => self.find(directory, cx),
            Kind::Service(service) => self.call(service, cx),
        };
        if next == Next::Wait {
            cx.figures.asked(&backend.name, cx.now);
            self.asked_at = Some(cx.now);
            self.note(|| format!("{} is asked", backend.name));
        }
        next
    }

    /// What came of a question.
    pub(super) fn told(&mut self, question: u32, event: &Event<'_>, cx: &mut Cx<'_>) -> Step {
        if question != self.open || self.asked_at.is_none() || self.comparing.open {
            return Step::Wait;
        }
        let next = match self.backend(cx.plan).map(|backend| &backend.kind) {
            Some(Kind::Directory(directory)) => self.directory_told(directory, event, cx),
            Some(Kind::Service(service)) => self.service_told(service, event, cx),
            Some(Kind::Users(_)) | None => Next::Said(Said::Nothing("nobody was asked that")),
        };
        self.go_on(next, cx)
    }

    /// What a comparison told.
    pub(super) fn compared(&mut self, verdict: Verdict, cx: &mut Cx<'_>) -> Step {
        if !self.comparing.open {
            return Step::Wait;
        }
        self.comparing.open = false;
        self.comparing.wrong |= verdict == Verdict::NoMatch;
        let next = match (verdict, self.comparing.waiting.pop()) {
            (Verdict::Match, _) => self.right(cx),
            (_, Some(check)) => {
                self.comparing.ready = Some(check);
                self.comparing.open = true;
                Next::Wait
            }
            (_, None) if self.comparing.wrong => Next::Said(Said::No(Why::Wrong)),
            (_, None) => Next::Said(Said::NotFound(UNKNOWN)),
        };
        self.go_on(next, cx)
    }

    /// The password is right: what else is asked of this back end.
    pub(super) fn right(&mut self, cx: &mut Cx<'_>) -> Next {
        match self.backend(cx.plan).map(|backend| &backend.kind) {
            Some(Kind::Directory(directory)) => self.directory_right(directory, cx),
            _ => Next::Said(Said::Yes),
        }
    }

    /// Compares what is offered with each of what is known. One that fits is enough.
    pub(super) fn judge<'k>(&mut self, known: impl Iterator<Item = Known<'k>>, cx: &Cx<'_>) -> Judged {
        let mut cannot = "no password is known";
        self.comparing = Comparing::default();
        for one in known {
            match cx.offer.check(self.name(cx), &one) {
                Checked::Right(granted) => {
                    self.granted = granted;
                    return Judged::Right;
                }
                Checked::Wrong => self.comparing.wrong = true,
                Checked::Dear(check) => self.comparing.waiting.push(check),
                Checked::Cannot(why) => cannot = why,
            }
        }
        if let Some(check) = self.comparing.waiting.pop() {
            self.comparing.ready = Some(check);
            self.comparing.open = true;
            return Judged::Later;
        }
        if self.comparing.wrong {
            return Judged::Wrong;
        }
        Judged::Cannot(cannot)
    }

    fn look_up(&mut self, users: &Users, cx: &mut Cx<'_>) -> Next {
        let Some(found) = users.find(self.name(cx), cx.packet, &cx.plan.dictionary) else {
            return Next::Said(Said::NotFound("no such user"));
        };
        // Where the list cannot judge but another back end says yes, what the list gives counts.
        let before = self.listed.replace(
            self.chain(cx.plan)
                .and_then(|chain| chain.links.get(self.link))
                .map_or(0, |link| link.backend),
        );
        self.keep(before, cx);
        match found.fixed {
            Some(Fixed::Accept) => return Next::Said(Said::Yes),
            Some(Fixed::Reject) => {
                self.message = found.reply.iter().find_map(|item| message_of(item));
                return Next::Said(Said::No(Why::Disabled));
            }
            None if self.by_name_only() => return Next::Said(Said::Yes),
            None => {}
        }
        if let Offer::Change { .. } | Offer::Change2 { .. } = cx.offer {
            let old = found.password.and_then(password::nt_hash_of);
            return Next::Said(match self.changed(old.as_ref(), cx) {
                Ok(_) => Said::No(Why::CannotChange),
                Err(said) => said,
            });
        }
        let known = found.password.map(|stored| Known {
            stored: Some(stored),
            nt: None,
        });
        match self.judge(known.into_iter(), cx) {
            Judged::Right => Next::Said(Said::Yes),
            Judged::Wrong => Next::Said(Said::No(Why::Wrong)),
            Judged::Later => Next::Wait,
            Judged::Cannot(why) => Next::Said(Said::NotFound(why)),
        }
    }

    /// Takes over what a list gives that is not the last one.
    fn keep(&mut self, list: Option<usize>, cx: &Cx<'_>) {
        let Some(Kind::Users(users)) = list
            .and_then(|at| cx.plan.backends.get(at))
            .map(|backend| &backend.kind)
        else {
            return;
        };
        if let Some(found) = users.find(self.name(cx), cx.packet, &cx.plan.dictionary) {
            self.items.extend(found.reply.into_iter().cloned());
            found.groups.iter().for_each(|group| self.groups.add(group.as_bytes()));
        }
    }

    /// Notes the groups of the list that knows the user.
    pub(super) fn listed_groups(&mut self, cx: &Cx<'_>) {
        let list = self.listed.and_then(|at| cx.plan.backends.get(at));
        if let Some(Kind::Users(users)) = list.map(|backend| &backend.kind)
            && let Some(found) = users.find(self.name(cx), cx.packet, &cx.plan.dictionary)
        {
            found.groups.iter().for_each(|group| self.groups.add(group.as_bytes()));
        }
    }

    /// Everything that an accept carries is this.
    pub(super) fn replace_reply(&mut self, items: Vec<Item>) {
        (self.items, self.listed) = (items, None);
    }

    /// What the list that knows the user gives.
    pub(super) fn listed<'p>(&self, cx_packet: &Packet<'_>, plan: &'p Plan) -> Vec<&'p Item> {
        let list = self
            .listed
            .and_then(|at| plan.backends.get(at))
            .map(|backend| &backend.kind);
        let Some(Kind::Users(users)) = list else {
            return Vec::new();
        };
        let name = match &self.mac {
            Some(mac) => mac.as_bytes(),
            None => cx_packet.find(number::USER_NAME).unwrap_or_default(),
        };
        users
            .find(name, cx_packet, &plan.dictionary)
            .map(|found| found.reply)
            .unwrap_or_default()
    }

    /// Goes on for as long as nobody must be waited for.
    fn go_on(&mut self, mut next: Next, cx: &mut Cx<'_>) -> Step {
        loop {
            let said = match next {
                Next::Wait => return Step::Wait,
                Next::Said(said) => said,
            };
            self.hear(said, cx);
            match self.weigh(said, cx.plan) {
                Some(Step::Accept) => return self.after(cx),
                Some(step) => return step,
                None => {}
            }
            next = self.ask(cx);
        }
    }

    /// Notes what a back end said.
    fn hear(&mut self, said: Said, cx: &mut Cx<'_>) {
        let Some(backend) = self.backend(cx.plan) else { return };
        let asked_at = self.asked_at.take();
        if let Some(asked_at) = asked_at {
            cx.figures.heard(&backend.name, asked_at, cx.now);
        }
        let (told, word, why) = match said {
            Said::Yes => (Told::Yes, "yes", ""),
            Said::No(why) => (Told::No, "no: ", why.text()),
            Said::NotFound(why) => (Told::NotFound, "not found: ", why),
            Said::Nothing(why) => (Told::Unavailable, "unavailable: ", why),
        };
        cx.figures.said(&backend.name, told);
        let took = asked_at.map_or(Span::ZERO, |asked_at| cx.now.since(asked_at));
        self.note(|| format!("{} says {word}{why} ({took:?})", backend.name));
    }

    /// What a back end's word means for the chain. None: the next one is asked.
    fn weigh(&mut self, said: Said, plan: &Plan) -> Option<Step> {
        let Some(chain) = self.chain(plan) else {
            return Some(Step::Silence);
        };
        let is_last = self.link + 1 >= chain.links.len();
        match (said, chain.mode) {
            (Said::Yes, Mode::All) if !is_last => {}
            // One that had to say yes was not asked.
            (Said::Yes, Mode::All) if self.passed_over => return Some(Step::Silence),
            (Said::Yes, _) => return Some(Step::Accept),
            (Said::No(why), Mode::First | Mode::All) => return Some(self.reject(why)),
            (Said::NotFound(_), Mode::All) => return Some(self.reject(Why::NotFound)),
            (Said::No(why), _) => {
                self.why = why;
                let link = chain.links.get(self.link).map(|link| link.backend);
                self.listed = self.listed.filter(|list| Some(*list) != link);
            }
            (Said::NotFound(_), _) => {}
            (Said::Nothing(_), _) => match chain.links.get(self.link).map(|link| link.unavailable) {
                Some(Unavailable::Next) => self.passed_over = true,
                Some(Unavailable::Reject) => return Some(self.reject(Why::Unavailable)),
                _ => return Some(Step::Silence),
            },
        }
        if !is_last {
            self.link += 1;
            return None;
        }
        Some(if self.passed_over {
            Step::Silence
        } else {
            self.reject(self.why)
        })
    }

    pub(super) fn reject(&mut self, why: Why) -> Step {
        self.why = why;
        self.note(|| format!("rejected: {}", why.text()));
        Step::Reject
    }

    /// The request has ended while a back end was asked. `given_up_at`: it took too long.
    pub(super) fn left(&mut self, plan: &Plan, figures: &mut Figures, given_up_at: Option<Instant>) {
        let (Some(backend), Some(asked_at)) = (self.backend(plan), self.asked_at.take()) else {
            return;
        };
        if let Some(now) = given_up_at {
            figures.heard(&backend.name, asked_at, now);
            figures.said(&backend.name, Told::Unavailable);
        } else {
            figures.left(&backend.name);
        }
    }
}

fn message_of(item: &Item) -> Option<Box<str>> {
    match &item.content {
        wire::radius::Content::Value(octets) if super::reply::is_top(item, number::REPLY_MESSAGE) => {
            Some(String::from_utf8_lossy(octets).into())
        }
        _ => None,
    }
}
