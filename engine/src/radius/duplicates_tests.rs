use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn path(port: u16) -> Path {
    Path {
        from: std::net::SocketAddr::from(([192, 0, 2, 1], port)),
        to: None,
    }
}

/// A packet of this identifier; `variant` makes its authenticator, `text` its attribute.
fn octets(identifier: u8, variant: u8, text: u8) -> Vec<u8> {
    let mut octets = vec![1, identifier, 0, 23];
    octets.extend([variant; 16]);
    octets.extend([1, 3, text]);
    octets
}

fn new(settings: Settings) -> Duplicates {
    Duplicates::new(settings, 7)
}

fn begin(all: &mut Duplicates, port: u16, identifier: u8, variant: u8, now: Instant) -> Begun {
    let octets = octets(identifier, variant, 0);
    all.begin(&path(port), &Packet::parse(&octets).unwrap(), now).unwrap()
}

fn look(all: &mut Duplicates, port: u16, identifier: u8, variant: u8, now: Instant) -> Option<Vec<u8>> {
    let octets = octets(identifier, variant, 0);
    match all.look(&path(port), &Packet::parse(&octets).unwrap(), now) {
        Seen::New => None,
        Seen::Working => Some(b"working".to_vec()),
        Seen::Answered(reply) => Some(reply.to_vec()),
    }
}

#[test]
fn a_request_is_worked_on_once_and_its_answer_sent_again() {
    let mut all = new(Settings::default());
    let start = Instant::from_secs(1);
    assert_eq!(look(&mut all, 1, 5, 1, start), None);
    let begun = begin(&mut all, 1, 5, 1, start);
    assert_eq!(begun.replaced, None);
    assert_eq!(look(&mut all, 1, 5, 1, start), Some(b"working".to_vec()));
    assert_eq!(look(&mut all, 2, 5, 1, start), None, "another port");
    assert_eq!(look(&mut all, 1, 6, 1, start), None, "another identifier");
    assert!(all.answered(begun.mark, b"yes", start));
    assert!(!all.answered(begun.mark, b"no", start), "it was answered");
    assert_eq!(look(&mut all, 1, 5, 1, start), Some(b"yes".to_vec()));
    let late = start + Span::from_secs(5);
    assert_eq!(look(&mut all, 1, 5, 1, late), None);
    assert_eq!(all.wake_at(), Some(late));
    all.tick(late);
    assert_eq!((all.figures().peers, all.wake_at()), (0, None));
}

#[test]
fn another_request_under_the_same_identifier_cancels_the_first() {
    let mut all = new(Settings::default());
    let now = Instant::from_secs(1);
    let first = begin(&mut all, 1, 5, 1, now);
    let second = begin(&mut all, 1, 5, 2, now);
    assert_eq!(second.replaced, Some(first.mark));
    assert!(!all.answered(first.mark, b"first", now));
    assert!(!all.forget(first.mark));
    assert!(all.answered(second.mark, b"second", now));
    assert_eq!(look(&mut all, 1, 5, 1, now), None);
    assert_eq!(look(&mut all, 1, 5, 2, now), Some(b"second".to_vec()));
    let third = begin(&mut all, 1, 5, 3, now);
    assert_eq!(third.replaced, None, "what was answered needs no cancelling");
}

#[test]
fn the_same_authenticator_with_another_content_is_another_request() {
    let mut all = new(Settings::default());
    let now = Instant::from_secs(1);
    let begun = begin(&mut all, 1, 5, 1, now);
    assert!(all.answered(begun.mark, b"for the first user", now));
    let other = octets(5, 1, 9);
    assert_eq!(all.look(&path(1), &Packet::parse(&other).unwrap(), now), Seen::New);
}

#[test]
fn what_is_forgotten_is_new_again() {
    let mut all = new(Settings::default());
    let now = Instant::from_secs(1);
    let begun = begin(&mut all, 1, 5, 1, now);
    assert!(all.forget(begun.mark));
    assert_eq!(look(&mut all, 1, 5, 1, now), None);
    assert_eq!(all.figures().peers, 0);
}

#[test]
fn the_peer_that_has_been_idle_for_longest_goes_and_one_that_works_never() {
    let settings = Settings {
        peers_max: 3,
        ..Settings::default()
    };
    let mut all = new(settings);
    let now = Instant::from_secs(1);
    let working = begin(&mut all, 1, 0, 1, now);
    for port in [2, 3] {
        let begun = begin(&mut all, port, 0, 1, now);
        assert!(all.answered(begun.mark, b"x", now));
    }
    begin(&mut all, 4, 0, 1, now);
    assert_eq!(look(&mut all, 2, 0, 1, now), None);
    assert_eq!(look(&mut all, 3, 0, 1, now), Some(b"x".to_vec()));
    begin(&mut all, 5, 0, 1, now);
    let octets = octets(0, 1, 0);
    let refused = all.begin(&path(6), &Packet::parse(&octets).unwrap(), now);
    assert_eq!(refused, None, "all three are being worked for");
    assert_eq!(all.figures().full, 1);
    assert!(all.answered(working.mark, b"x", now));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let settings = Settings {
        bytes_max: 64 << 10,
        ..Settings::default()
    };
    let mut all = new(settings);
    let now = Instant::from_secs(1);
    let (mut kept, mut refused) = (Vec::new(), 0);
    for port in 0..400u16 {
        let octets = octets(0, 1, 0);
        match all.begin(&path(port), &Packet::parse(&octets).unwrap(), now) {
            Some(begun) if port % 2 == 0 => assert!(all.answered(begun.mark, &[7; 2000], now)),
            Some(begun) => kept.push((port, begun.mark)),
            None => refused += 1,
        }
        assert!(all.figures().bytes <= settings.bytes_max, "{:?}", all.figures());
    }
    assert!(refused > 0 && kept.len() > 20, "{refused} {}", kept.len());
    for (port, mark) in kept {
        assert_eq!(look(&mut all, port, 0, 1, now), Some(b"working".to_vec()));
        assert!(
            all.answered(mark, b"x", now),
            "nothing that is worked on was thrown out"
        );
    }
}

#[test]
fn in_steady_state_nothing_is_allocated() {
    let mut all = new(Settings::default());
    let mut now = Instant::from_secs(1);
    let mut sizes = Vec::new();
    for round in 0..2_000u64 {
        now += Span::from_millis(50);
        let identifier = u8::try_from(round % 256).unwrap();
        let begun = begin(&mut all, 1, identifier, u8::try_from(round % 251).unwrap(), now);
        assert!(all.answered(begun.mark, &[1; 60], now));
        if round > 600 {
            sizes.push((
                all.entries.capacity(),
                all.tables.capacity(),
                all.room,
                all.peers.capacity(),
            ));
        }
    }
    sizes.dedup();
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Packet { port: u16, identifier: u8, variant: u8 },
    Answer(usize),
    Forget(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let packet = (0u16..4, 0u8..4, 0u8..3).prop_map(|(port, identifier, variant)| Step::Packet {
        port,
        identifier,
        variant,
    });
    let step = prop_oneof![
        6 => packet,
        3 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::Forget),
        1 => (0u64..4_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// What is known under one port and identifier: the variant, the request's number, and its answer until when.
struct Known {
    variant: u8,
    number: usize,
    answer: Option<(Vec<u8>, Instant)>,
}

proptest! {
    /// Beside a map that holds what the module promises, and nothing else.
    #[test]
    fn it_agrees_with_its_model(steps in steps()) {
        let mut all = new(Settings::default());
        let mut model: BTreeMap<(u16, u8), Known> = BTreeMap::new();
        let mut open: Vec<(usize, Mark, (u16, u8))> = Vec::new();
        let (mut now, mut number) = (Instant::from_secs(1), 0usize);
        for step in steps {
            match step {
                Step::Packet { port, identifier, variant } => {
                    let known = model.get(&(port, identifier)).filter(|known| known.variant == variant);
                    let expected = match known.map(|known| &known.answer) {
                        Some(Some((reply, until))) if now < *until => Some(reply.clone()),
                        Some(None) => Some(b"working".to_vec()),
                        _ => None,
                    };
                    prop_assert_eq!(look(&mut all, port, identifier, variant, now), expected.clone());
                    if expected.is_none() {
                        let begun = begin(&mut all, port, identifier, variant, now);
                        let replaced = model.get(&(port, identifier)).filter(|known| known.answer.is_none());
                        let replaced = replaced.map(|known| known.number);
                        let found = begun.replaced.and_then(|mark| open.iter().find(|(_, open, _)| *open == mark));
                        prop_assert_eq!(found.map(|(number, ..)| *number), replaced);
                        open.push((number, begun.mark, (port, identifier)));
                        model.insert((port, identifier), Known { variant, number, answer: None });
                        number += 1;
                    }
                }
                Step::Answer(at) | Step::Forget(at) if !open.is_empty() => {
                    let (number, mark, key) = open.swap_remove(at % open.len());
                    let current = model.get_mut(&key).filter(|known| known.number == number);
                    let alive = current.is_some();
                    if matches!(step, Step::Answer(_)) {
                        let reply = number.to_be_bytes().to_vec();
                        prop_assert_eq!(all.answered(mark, &reply, now), alive);
                        if let Some(known) = current {
                            known.answer = Some((reply, now + Settings::default().cleanup_delay));
                        }
                    } else {
                        prop_assert_eq!(all.forget(mark), alive);
                        if alive {
                            model.remove(&key);
                        }
                    }
                }
                Step::Wait(millis) => {
                    now += Span::from_millis(millis);
                    all.tick(now);
                    model.retain(|_, known| known.answer.as_ref().is_none_or(|(_, until)| now < *until));
                    let peers: std::collections::BTreeSet<u16> = model.keys().map(|(port, _)| *port).collect();
                    prop_assert_eq!(all.figures().peers as usize, peers.len());
                }
                _ => {}
            }
        }
    }
}
