use super::plan::{Backend, Chain, Form, Kind, Link, Mode, Service, Settings, Unavailable};
use super::*;
use crate::core::rng::Rng;
use crate::core::time::Span;
use crate::radius::clients::{Client, Clients, Network};
use std::collections::{BTreeMap, BTreeSet};

type Sent = BTreeMap<(u16, u8, [u8; 16]), (Vec<u8>, Instant)>;

use wire::radius::{Secret, number};

fn plan(unavailable: Unavailable, mode: Mode, services: usize) -> Arc<Plan> {
    let mut clients = Clients::default();
    clients
        .add(Client::new("c", b"s"), &[Network::read("10.0.0.1").unwrap()])
        .unwrap();
    let service = |pool: usize| Backend {
        name: pool.to_string(),
        kind: Kind::Service(Service {
            pool,
            form: Form::Winbind,
        }),
    };
    Arc::new(Plan {
        port: Port::Both,
        clients: Arc::new(clients),
        backends: (0..services).map(service).collect(),
        chains: vec![Chain {
            name: "all".into(),
            mode,
            links: (0..services).map(|backend| Link { backend, unavailable }).collect(),
        }],
        accounting: Accounting::Write,
        settings: Settings::default(),
    })
}

fn path(port: u16) -> Path {
    Path {
        from: std::net::SocketAddr::from(([10, 0, 0, 1], port)),
        to: None,
    }
}

fn request(code: Code, identifier: u8, variant: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::request(&mut out, code, identifier, &[variant; 16]);
    writer.attribute(number::USER_NAME, &[b'u', b'0' + variant]).unwrap();
    if code == Code::ACCESS_REQUEST {
        writer.user_password(b"secret", &Secret::new(b"s")).unwrap();
    }
    writer.finish(&Secret::new(b"s")).unwrap();
    out
}

/// What came of one request when its services answered so, one after the other; none: silence.
fn verdict(unavailable: Unavailable, mode: Mode, answers: &[&str]) -> Option<Code> {
    let mut front = Front::new(plan(unavailable, mode, answers.len()), 1);
    let (mut now, mut out) = (Instant::from_secs(9), Vec::new());
    front.received(&request(Code::ACCESS_REQUEST, 1, 1), &path(1), now, now, &mut out);
    let mut asked = 0;
    loop {
        match front.effect() {
            Some(Effect::Ask {
                request,
                pool,
                question,
                ..
            }) => {
                assert_eq!(pool, asked, "in their order");
                let answer = format!("{{\"status\":\"{}\"}}", answers[asked]);
                asked += 1;
                front.told(request, question.id, &Event::Answer(answer.as_bytes()), now, &mut out);
            }
            Some(Effect::Send { .. }) => {
                let secret = Secret::new(b"s");
                let reply = Packet::parse(&out).unwrap();
                assert!(reply.check_response(&secret, &[1; 16]));
                assert_eq!(front.waiting(), 0);
                return Some(reply.code());
            }
            Some(Effect::Dropped { why, .. }) => {
                assert_eq!(why, Dropped::Unavailable);
                return None;
            }
            Some(other) => panic!("{other:?}"),
            None => {
                now = front.wake_at().expect("it waits for something");
                front.tick(now, &mut out);
            }
        }
    }
}

#[test]
fn a_chain_means_what_it_says() {
    use Mode::{All, FallThrough, First};
    use Unavailable::{Next, Reject, Silence};
    let (yes, no) = (Some(Code::ACCESS_ACCEPT), Some(Code::ACCESS_REJECT));
    for (unavailable, mode, answers, expected) in [
        (Silence, First, &["ok"] as &[&str], yes),
        (Silence, First, &["wrong-password", "ok"], no),
        (Silence, First, &["not-found", "ok"], yes),
        (Silence, First, &["not-found", "not-found"], no),
        (Silence, First, &["unavailable", "ok"], None),
        (Silence, First, &["garbage"], None),
        (Reject, First, &["unavailable", "ok"], no),
        (Next, First, &["unavailable", "ok"], yes),
        (Next, First, &["unavailable", "not-found"], None),
        (Next, First, &["unavailable", "wrong-password"], no),
        (Next, First, &["unavailable", "unavailable"], None),
        (Silence, FallThrough, &["wrong-password", "ok"], yes),
        (Silence, FallThrough, &["wrong-password", "not-found"], no),
        (Silence, All, &["ok", "ok"], yes),
        (Silence, All, &["ok", "wrong-password"], no),
        (Silence, All, &["not-found", "ok"], no),
        (Next, All, &["unavailable", "ok"], None),
        (Next, All, &["ok", "unavailable"], None),
    ] {
        assert_eq!(
            verdict(unavailable, mode, answers),
            expected,
            "{unavailable:?} {mode:?} {answers:?}"
        );
    }
}

#[test]
fn status_is_answered_at_once_and_accounting_after_the_write() {
    let mut front = Front::new(plan(Unavailable::Silence, Mode::First, 1), 1);
    let (now, mut out) = (Instant::from_secs(9), Vec::new());
    front.received(&request(Code::STATUS_SERVER, 1, 1), &path(1), now, now, &mut out);
    assert!(matches!(front.effect(), Some(Effect::Send { .. })));
    assert_eq!(out[0], Code::ACCESS_ACCEPT.0);
    out.clear();
    front.received(&request(Code::ACCOUNTING_REQUEST, 2, 1), &path(1), now, now, &mut out);
    let Some(Effect::Record { request: id }) = front.effect() else {
        panic!("no record")
    };
    assert_eq!(front.record(id).unwrap().client, "c");
    assert!(out.is_empty());
    front.written(id, true, now, &mut out);
    assert_eq!(out[0], Code::ACCOUNTING_RESPONSE.0);
    assert!(front.record(id).is_none());
}

/// One life of a front: packets that come again, identifiers that are used again, answers of any kind, late ones, ticks.
fn play(seed: u64, packets: &[Vec<u8>], secret: &Secret) -> [u64; 4] {
    let mut rng = Rng::new(seed);
    let unavailable = [Unavailable::Silence, Unavailable::Next][rng.index(2)];
    let mode = [Mode::First, Mode::All, Mode::FallThrough][rng.index(3)];
    let mut front = Front::new(plan(unavailable, mode, 1 + rng.index(2)), seed);
    let (mut now, mut out) = (Instant::from_secs(9), Vec::new());
    let mut open: Vec<(RequestId, u32)> = Vec::new();
    let mut gone = BTreeSet::new();
    // What was sent to whom, by port, identifier and authenticator, with the time: byte for byte the same while it is kept.
    let mut sent = Sent::new();
    let (mut yes, mut counts) = (0u64, [0u64; 4]);
    for _ in 0..40 {
        match rng.index(6) {
            0..3 => {
                let port = [0, 1][rng.index(2)];
                let (identifier, variant) = ([0, 1, 2][rng.index(3)], [1, 2, 3][rng.index(3)]);
                let packet = &packets[usize::from(identifier) * 3 + usize::from(variant) - 1];
                let known = sent.get(&(port, identifier, [variant; 16])).cloned();
                front.received(packet, &path(port), now, now, &mut out);
                if let Some((reply, at)) = known
                    && let Some(Effect::Send { bytes, .. }) = front.effects.front()
                    && now.since(at) < Span::from_secs(5)
                {
                    assert_eq!(reply, out[bytes.clone()], "an answer that is sent again is the same");
                    counts[3] += 1;
                }
            }
            3 | 4 if !open.is_empty() => {
                let (id, question) = open.swap_remove(rng.index(open.len()));
                let status = ["ok", "wrong-password", "not-found", "unavailable"][rng.index(4)];
                let answer = format!("{{\"status\":\"{status}\"}}");
                yes += u64::from(status == "ok");
                front.told(id, question, &Event::Answer(answer.as_bytes()), now, &mut out);
            }
            _ => {
                now += Span::from_millis(rng.below(1_500));
                front.tick(now, &mut out);
            }
        }
        while let Some(effect) = front.effect() {
            match effect {
                Effect::Ask { request, question, .. } => {
                    assert!(!gone.contains(&request), "who is cancelled asks nothing");
                    open.push((request, question.id));
                }
                Effect::Send { path, bytes } => {
                    let reply = out[bytes].to_vec();
                    let packet = Packet::parse(&reply).unwrap();
                    let of = (1..4u8)
                        .find(|v| packet.check_response(secret, &[*v; 16]))
                        .expect("a request's");
                    let key = (path.from.port(), packet.identifier(), [of; 16]);
                    let fresh = sent.get(&key).is_none_or(|(before, _)| *before != reply);
                    counts[0] += u64::from(packet.code() == Code::ACCESS_ACCEPT && fresh);
                    counts[1] += u64::from(packet.code() == Code::ACCESS_REJECT && fresh);
                    sent.insert(key, (reply, now));
                }
                Effect::Cancel { request } => {
                    counts[2] += 1;
                    assert!(gone.insert(request), "cancelled once");
                }
                _ => {}
            }
        }
        out.clear();
        assert!(counts[0] <= yes, "an Accept that no back end gave");
    }
    now += Span::from_secs(60);
    front.tick(now, &mut out);
    front.tick(now + Span::from_secs(6), &mut out);
    assert_eq!((front.waiting(), front.duplicates().peers), (0, 0), "everything ends");
    counts
}

#[test]
fn ten_thousand_lives_keep_the_law() {
    let mut all = [0u64; 4];
    let which = (0..3).flat_map(|identifier| (1..4).map(move |variant| (identifier, variant)));
    let packets: Vec<Vec<u8>> = which
        .map(|(id, variant)| request(Code::ACCESS_REQUEST, id, variant))
        .collect();
    let secret = Secret::new(b"s");
    for seed in 0..10_000 {
        let counts = play(seed, &packets, &secret);
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    assert!(all.iter().all(|count| *count > 1_000), "hardly ever: {all:?}");
}
