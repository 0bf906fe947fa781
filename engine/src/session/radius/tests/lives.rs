//! Random lives of a front, with what must hold in all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::core::rng::Rng;

/// The same behind a list of users whose passwords are dear to compare.
fn with_list(plan: &Plan) -> Arc<Plan> {
    static LIST: OnceLock<Arc<crate::radius::users::Users>> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let hash = "$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.";
        let line = |variant| format!("u{variant} Crypt-Password := \"{hash}\"\n");
        match world::users(&(1..4).map(line).collect::<String>()) {
            Kind::Users(list) => list,
            _ => panic!("a list"),
        }
    });
    let service = |backend: &Backend| Backend {
        name: backend.name.clone(),
        kind: Kind::Service(Service {
            pool: backend.name.parse().unwrap(),
            form: Form::Winbind,
        }),
    };
    let mut backends: Vec<Backend> = plan.backends.iter().map(service).collect();
    let mut chains = plan.chains.clone();
    chains[0].links.insert(
        0,
        Link {
            backend: backends.len(),
            unavailable: Unavailable::Silence,
        },
    );
    backends.push(Backend {
        name: "list".into(),
        kind: Kind::Users(Arc::clone(list)),
    });
    Arc::new(Plan {
        backends,
        chains,
        ..Plan::new(Port::Both, Arc::clone(&plan.clients), dictionary())
    })
}

/// Port, identifier and authenticator.
type Asker = (u16, u8, [u8; 16]);

/// One life of a front: packets that come again, identifiers that are used again, answers of any kind, late ones, ticks.
struct Life {
    rng: Rng,
    front: Front,
    now: Instant,
    out: Vec<u8>,
    open: Vec<(RequestId, u32)>,
    comparing: Vec<RequestId>,
    gone: BTreeSet<RequestId>,
    /// What was sent to whom, by port, identifier and authenticator, with the time: byte for byte the same while it is kept.
    sent: BTreeMap<Asker, (Vec<u8>, Instant)>,
    /// Times that a back end said yes.
    yes: u64,
    /// Answers that were sent, and requests that got none.
    sends: u64,
    silent: u64,
    counts: Counts,
}

#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    accepts: u64,
    rejects: u64,
    cancelled: u64,
    resent: u64,
    compared: u64,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut rng = Rng::new(seed);
        let unavailable = [Unavailable::Silence, Unavailable::Next][rng.index(2)];
        let mode = [Mode::First, Mode::All, Mode::FallThrough][rng.index(3)];
        let plan = plan(unavailable, mode, 1 + rng.index(2));
        let plan = if rng.chance(1, 2) { with_list(&plan) } else { plan };
        Life {
            rng,
            front: Front::new(plan, seed),
            now: Instant::from_secs(9),
            out: Vec::new(),
            open: Vec::new(),
            comparing: Vec::new(),
            gone: BTreeSet::new(),
            sent: BTreeMap::new(),
            yes: 0,
            sends: 0,
            silent: 0,
            counts: Counts::default(),
        }
    }

    fn live(mut self, packets: &[Vec<u8>], secret: &Secret) -> Counts {
        for _ in 0..40 {
            self.event(packets);
            self.effects(secret);
            self.out.clear();
            assert!(self.counts.accepts <= self.yes, "an Accept that no back end gave");
        }
        for wait in [60, 6] {
            self.now += Span::from_secs(wait);
            self.front.tick(self.now, &mut self.out);
            self.effects(secret);
            self.out.clear();
        }
        let seen = self.front.duplicates();
        assert_eq!((self.front.waiting(), seen.peers), (0, 0), "everything ends");
        assert_eq!(
            seen.begun,
            self.sends - seen.resent + self.silent,
            "every request ends once"
        );
        let backends = &self.front.figures().backends;
        assert!(backends.iter().all(|backend| backend.in_flight == 0));
        self.counts
    }

    fn event(&mut self, packets: &[Vec<u8>]) {
        let (rng, out) = (&mut self.rng, &mut self.out);
        match rng.index(7) {
            0..3 => self.packet(packets),
            3 | 4 if !self.open.is_empty() => {
                let (id, question) = self.open.swap_remove(rng.index(self.open.len()));
                let status = ["ok", "wrong-password", "not-found", "unavailable"][rng.index(4)];
                let answer = format!("{{\"status\":\"{status}\"}}");
                self.yes += u64::from(status == "ok");
                let event = Event::Answer(answer.as_bytes());
                self.front.told(id, question, &event, self.now, out);
            }
            5 if !self.comparing.is_empty() => {
                let id = self.comparing.swap_remove(rng.index(self.comparing.len()));
                let verdict = [Verdict::Match, Verdict::NoMatch, Verdict::Unknown][rng.index(3)];
                self.yes += u64::from(verdict == Verdict::Match);
                self.counts.compared += 1;
                self.front.compared(id, verdict, self.now, out);
                if rng.chance(1, 4) {
                    self.front.compared(id, Verdict::Match, self.now, out);
                }
            }
            _ => {
                self.now += Span::from_millis(rng.below(1_500));
                self.front.tick(self.now, out);
            }
        }
    }

    fn packet(&mut self, packets: &[Vec<u8>]) {
        let port = [0, 1][self.rng.index(2)];
        let (identifier, variant) = ([0, 1, 2][self.rng.index(3)], [1, 2, 3][self.rng.index(3)]);
        let packet = &packets[usize::from(identifier) * 3 + usize::from(variant) - 1];
        let known = self.sent.get(&(port, identifier, [variant; 16])).cloned();
        self.front
            .received(packet, &path(port), self.now, self.now, &mut self.out);
        if let Some((reply, at)) = known
            && let Some(Effect::Send { bytes, .. }) = self.front.effects.front()
            && self.now.since(at) < Span::from_secs(5)
        {
            assert_eq!(
                reply,
                self.out[bytes.clone()],
                "an answer that is sent again is the same"
            );
            self.counts.resent += 1;
        }
    }

    fn effects(&mut self, secret: &Secret) {
        while let Some(effect) = self.front.effect() {
            match effect {
                Effect::Ask { request, question, .. } => {
                    assert!(!self.gone.contains(&request), "who is cancelled asks nothing");
                    self.open.push((request, question.id));
                }
                Effect::Compare { request, .. } => {
                    assert!(!self.gone.contains(&request), "who is cancelled compares nothing");
                    assert!(!self.comparing.contains(&request), "one at a time");
                    self.comparing.push(request);
                }
                // Of those that had begun.
                Effect::Dropped { why, .. } => {
                    let ended = [Dropped::Unavailable, Dropped::Cancelled, Dropped::Stale];
                    self.silent += u64::from(ended.contains(&why));
                }
                Effect::Send { path, bytes } => {
                    self.sends += 1;
                    let reply = self.out[bytes].to_vec();
                    let packet = Packet::parse(&reply).unwrap();
                    let mut variants = 1..4_u8;
                    let of = variants.find(|v| packet.check_response(secret, &[*v; 16]));
                    let key = (path.from.port(), packet.identifier(), [of.expect("a request's"); 16]);
                    let fresh = self.sent.get(&key).is_none_or(|(before, _)| *before != reply);
                    self.counts.accepts += u64::from(packet.code() == Code::ACCESS_ACCEPT && fresh);
                    self.counts.rejects += u64::from(packet.code() == Code::ACCESS_REJECT && fresh);
                    self.sent.insert(key, (reply, self.now));
                }
                Effect::Cancel { request } => {
                    self.counts.cancelled += 1;
                    assert!(self.gone.insert(request), "cancelled once");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn ten_thousand_lives_keep_the_law() {
    let which = (0..3).flat_map(|identifier| (1..4).map(move |variant| (identifier, variant)));
    let packets: Vec<Vec<u8>> = which
        .map(|(id, variant)| request(Code::ACCESS_REQUEST, id, variant))
        .collect();
    let (secret, mut all) = (Secret::new(b"s"), Counts::default());
    for seed in 0..10_000 {
        let counts = Life::new(seed).live(&packets, &secret);
        all.accepts += counts.accepts;
        all.rejects += counts.rejects;
        all.cancelled += counts.cancelled;
        all.resent += counts.resent;
        all.compared += counts.compared;
    }
    let seen = [all.accepts, all.rejects, all.cancelled, all.resent, all.compared];
    assert!(seen.iter().all(|count| *count > 1_000), "hardly ever: {all:?}");
}
