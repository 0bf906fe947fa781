//! Any bytes as a run of events on LDAP sessions, a pool, and connections to servers, coupled as a worker does it:
//! clients that speak well and badly, servers that answer late, twice, wrongly or never, connections that come and go,
//! time, cancels, slow readers, drains. A model outside of them judges what each client hears and what each server is told.
//!
//! Servers may answer anything to what they were asked, but not under the id of something else; and one that is asked
//! who a client is tells the truth: otherwise nothing could be said about whose an answer is.

#[path = "session/frames.rs"]
mod frames;
#[path = "session/model.rs"]
mod model;
#[path = "session/world.rs"]
mod world;

use engine::core::Drain;
use engine::core::time::Span;
use frames::Bytes;
use std::collections::BTreeMap;
use world::{Reply, World};

/// How often each thing happened, to prove that runs are not empty.
pub(crate) type Seen = BTreeMap<&'static str, u64>;

const CLIENTS: usize = 3;
const WAITS_MS: [u64; 6] = [1, 40, 600, 1_500, 8_000, 31_000];

pub(crate) fn run(data: &[u8]) {
    play(data);
}

/// Plays the events; panics at the first thing that must not be.
pub(crate) fn play(data: &[u8]) -> Seen {
    let mut bytes = Bytes(data);
    let mut world = World::new(bytes.next().unwrap_or(0), CLIENTS);
    while let Some(event) = bytes.next() {
        happen(&mut world, event, &mut bytes);
        world.settle();
        world.check();
    }
    world.end();
    world.seen
}

fn happen(world: &mut World, event: u8, bytes: &mut Bytes<'_>) {
    match event % 32 {
        0..=16 => client(world, event % 32, bytes),
        17..=23 => server(world, event % 32, bytes),
        24 | 25 | 31 => world.comes_up(bytes.pick(8), bytes.pick(8) != 0),
        26 => world.dies(bytes.pick(8)),
        27 => world.advance(Span::from_millis(WAITS_MS[bytes.pick(WAITS_MS.len())])),
        28 => world.answer_probe(bytes.pick(8)),
        29 => match bytes.pick(3) {
            0 => world.set_aside(bytes.pick(8)),
            _ => world.too_slow(bytes.pick(CLIENTS), bytes.pick(8)),
        },
        _ => match bytes.pick(64) {
            0 => world.drain_pool(),
            level @ 1..=6 => {
                let level = [Drain::Gentle, Drain::Firm, Drain::Now][level % 3];
                world.drain_client(bytes.pick(CLIENTS), level);
            }
            _ => {}
        },
    }
}

fn client(world: &mut World, event: u8, bytes: &mut Bytes<'_>) {
    let client = bytes.pick(CLIENTS);
    world.connect(client);
    // Mostly an id of its own, sometimes one that may be in use, or none.
    let id = match bytes.pick(40) {
        0 => 0,
        n @ 1..=2 => i32::try_from(n).unwrap_or(1),
        _ => world.fresh_id(client),
    };
    let mut target = world.some_id(client, bytes.pick(16));
    if bytes.pick(8) == 0 {
        target = i32::from(bytes.next().unwrap_or(0)) - 2;
    }
    let token = format!("t={}", world.fresh_token());
    let frame = match event {
        0..=9 => frames::operation(bytes, id, token.as_bytes()),
        10 | 11 => frames::bind(bytes, id),
        12 => frames::abandon(id, target),
        13 => frames::cancel(id, target),
        14 if bytes.pick(4) == 0 => frames::unbind(id),
        14 | 15 => frames::ours(bytes, id),
        _ => {
            let frame = match bytes.pick(3) {
                0 => frames::bind(bytes, id),
                _ => frames::operation(bytes, id, token.as_bytes()),
            };
            frames::mutated(bytes, frame)
        }
    };
    world.says(client, frame);
}

fn server(world: &mut World, event: u8, bytes: &mut Bytes<'_>) {
    let (line, request, late) = (bytes.pick(8), bytes.pick(8), bytes.pick(6) == 0);
    let reply = match event {
        17..=20 => Reply::Final([0, 0, 0, 49, 51, 32][bytes.pick(6)]),
        21 | 22 => Reply::Part(bytes.pick(3)),
        _ => match bytes.pick(12) {
            0 => Reply::Notice,
            1 => Reply::Request,
            2 => Reply::WrongKind,
            3 => Reply::Unknown,
            at => Reply::Broken(at * 8 + bytes.pick(8)),
        },
    };
    world.answers(line, request, late, reply);
}
