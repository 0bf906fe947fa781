//! A front with one client, whose questions are answered by a script.

use super::*;
use crate::radius::users::Users;
use crate::radius::users::freeradius;
use wire::radius::dictionary::Source;
use wire::radius::{Event as Walked, Reveal, text};

pub(super) const SECRET: &[u8] = b"s";

pub(super) struct World {
    pub(super) front: Front,
    pub(super) dictionary: Arc<Dictionary>,
    pub(super) now: Instant,
    pub(super) traced: Vec<String>,
    identifier: u8,
}

/// What came of one request.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) code: Option<Code>,
    pub(super) reply: Vec<u8>,
    pub(super) request: Vec<u8>,
    /// The questions as the script saw them.
    pub(super) asked: Vec<String>,
}

impl Came {
    /// Its attributes as text, what is hidden revealed, the Message-Authenticator left out.
    pub(super) fn shown(&self, dictionary: &Dictionary) -> String {
        let (reply, request) = (
            Packet::parse(&self.reply).unwrap(),
            Packet::parse(&self.request).unwrap(),
        );
        let secret = Secret::new(SECRET);
        let reveal = Reveal {
            secret: &secret,
            authenticator: request.authenticator(),
        };
        let mut out = Vec::new();
        for event in reply.walk(dictionary, Some(reveal)) {
            if let Walked::Pair(pair) = event
                && pair.path.numbers() != [u32::from(number::MESSAGE_AUTHENTICATOR)]
            {
                let mut one = String::new();
                text::print_pair(&mut one, &pair).unwrap();
                out.push(one);
            }
        }
        out.join(", ")
    }

    pub(super) fn find(&self, dictionary: &Dictionary, name: &str) -> Option<Vec<u8>> {
        let (reply, request) = (
            Packet::parse(&self.reply).unwrap(),
            Packet::parse(&self.request).unwrap(),
        );
        let secret = Secret::new(SECRET);
        let reveal = Reveal {
            secret: &secret,
            authenticator: request.authenticator(),
        };
        let found = reply
            .values(dictionary, dictionary.named(name).unwrap(), Some(reveal))
            .next()?;
        Some(found.octets.to_vec())
    }
}

pub(super) fn users(list: &str) -> Kind {
    let mut include = |_: &str, _: &str| {
        Ok(Some(Source {
            name: "users".to_owned(),
            text: list.to_owned(),
        }))
    };
    let loaded: freeradius::Loaded = freeradius::load("users", &dictionary(), &mut include).unwrap();
    let users: Users = loaded.users;
    Kind::Users(Arc::new(users))
}

/// What a question is, for the script.
pub(super) enum Asked<'a> {
    Ldap(&'a Question),
    Call(serde_json::Value),
}

use crate::ask::{Question, To};

/// What the script answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Whole messages of entries, then a result of this code.
    Ldap(Vec<Vec<u8>>, u32),
    Text(String),
    Failed,
}

impl World {
    /// Back ends in a chain that asks the first that knows the user.
    pub(super) fn new(kinds: Vec<Kind>) -> World {
        World::with(kinds, |_| {})
    }

    pub(super) fn with(kinds: Vec<Kind>, change: impl FnOnce(&mut Plan)) -> World {
        let mut clients = Clients::default();
        clients
            .add(Client::new("nas", SECRET), &[Network::read("10.0.0.1").unwrap()])
            .unwrap();
        let dictionary = dictionary();
        let mut plan = Plan::new(Port::Both, Arc::new(clients), Arc::clone(&dictionary));
        let links = (0..kinds.len()).map(|backend| Link {
            backend,
            unavailable: Unavailable::Silence,
        });
        plan.chains.push(Chain {
            name: "all".into(),
            mode: Mode::First,
            links: links.collect(),
        });
        let backend = |(at, kind)| Backend {
            name: format!("b{at}"),
            kind,
        };
        plan.backends = kinds.into_iter().enumerate().map(backend).collect();
        plan.listener = "here".into();
        change(&mut plan);
        World {
            front: Front::new(Arc::new(plan), 7),
            dictionary,
            now: Instant::from_secs(9),
            traced: Vec::new(),
            identifier: 0,
        }
    }

    /// An Access-Request with these attributes as text, and these of Microsoft's.
    pub(super) fn request(&mut self, attributes: &str, microsoft: &[(u8, &[u8])]) -> Vec<u8> {
        self.identifier = self.identifier.wrapping_add(1);
        let secret = Secret::new(SECRET);
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, self.identifier, &[self.identifier; 16]);
        for item in text::parse_list(&self.dictionary, attributes).unwrap() {
            writer.item(&self.dictionary, &item, Some(&secret), &mut || 0).unwrap();
        }
        for (number, value) in microsoft {
            writer.vendor(wire::radius::mschap::VENDOR, *number, value).unwrap();
        }
        writer.finish(&secret).unwrap();
        out
    }

    /// Asks with attributes as text; nobody else may be asked.
    pub(super) fn ask(&mut self, attributes: &str) -> Came {
        let request = self.request(attributes, &[]);
        self.play(request, &mut |_| panic!("nobody is to be asked"))
    }

    pub(super) fn play(&mut self, request: Vec<u8>, script: &mut dyn FnMut(Asked<'_>) -> Answer) -> Came {
        let mut out = Vec::new();
        let mut came = Came {
            code: None,
            reply: Vec::new(),
            request,
            asked: Vec::new(),
        };
        self.front
            .received(&came.request, &path(1), self.now, self.now, &mut out);
        loop {
            match self.front.effect() {
                Some(Effect::Send { bytes, .. }) => {
                    came.reply = out[bytes].to_vec();
                    let reply = Packet::parse(&came.reply).unwrap();
                    let request = Packet::parse(&came.request).unwrap();
                    assert!(reply.check_response(&Secret::new(SECRET), request.authenticator()));
                    came.code = Some(reply.code());
                }
                Some(Effect::Ask { request, question, .. }) => {
                    self.answer(request, &question, &mut came, script, &mut out)
                }
                Some(Effect::Compare { request, check }) => {
                    came.asked.push("compare".into());
                    self.now += Span::from_millis(1);
                    self.front.compared(request, check.run(), self.now, &mut out);
                }
                Some(Effect::Trace { line, .. }) => self.traced.push(line),
                Some(Effect::Dropped { .. }) => {
                    assert_eq!(self.front.waiting(), 0);
                    return came;
                }
                Some(other) => panic!("{other:?}"),
                None if came.code.is_some() => {
                    assert_eq!(self.front.waiting(), 0);
                    assert!(
                        self.front
                            .figures()
                            .backends
                            .iter()
                            .all(|backend| backend.in_flight == 0)
                    );
                    return came;
                }
                None => {
                    self.now = self.front.wake_at().expect("it waits for something");
                    self.front.tick(self.now, &mut out);
                }
            }
        }
    }

    fn answer(
        &mut self,
        request: RequestId,
        question: &Question,
        came: &mut Came,
        script: &mut dyn FnMut(Asked<'_>) -> Answer,
        out: &mut Vec<u8>,
    ) {
        self.now += Span::from_millis(1);
        let asked = if question.to == To::Service {
            let call: serde_json::Value = serde_json::from_slice(&question.bytes).unwrap();
            came.asked.push(call.to_string());
            Asked::Call(call)
        } else {
            came.asked.push(format!("{:?}", question.to));
            Asked::Ldap(question)
        };
        match script(asked) {
            Answer::Text(answer) => {
                let event = Event::Answer(answer.as_bytes());
                self.front.told(request, question.id, &event, self.now, out);
            }
            Answer::Failed => self.front.told(request, question.id, &Event::Failed, self.now, out),
            Answer::Ldap(entries, code) => {
                for message in &entries {
                    let entry = crate::ask::example::read(message);
                    self.front
                        .told(request, question.id, &Event::Entry(entry), self.now, out);
                }
                let end = crate::ask::Final {
                    code,
                    diagnostic: b"",
                    controls: b"",
                };
                self.front.told(request, question.id, &Event::Done(end), self.now, out);
            }
        }
    }
}
