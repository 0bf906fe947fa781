//! Connections that the other side is going to close: they finish what they have, and others take their place meanwhile.

use super::*;
use crate::core::request::Route;
use crate::core::server::LaneLimits;
use crate::core::upstream::Cause;

struct Directory {
    pool: Pool<u32>,
    now: Instant,
    effects: Vec<Effect<u32>>,
    /// Opened, and not up yet.
    opening: Vec<UpstreamId>,
    sent: Vec<(Ticket, UpstreamId)>,
    closed: Vec<UpstreamId>,
    failed: Vec<Reason>,
}

impl Directory {
    /// One server, with one lane of so many connections at least and at most, each for so many requests at once (0: many).
    fn new(min: u32, max: u32, slots: u32) -> Self {
        Self::with(min, max, slots, false)
    }

    /// As many are kept for others where each belongs to a client.
    fn with(min: u32, max: u32, slots: u32, owned: bool) -> Self {
        let lane = LaneConfig {
            slots,
            cancel: CancelRule::Abandon,
            owned,
            probes: false,
            idle_timeout: None,
            spawn_rate_max: 0,
            opening_max: 0,
            lingers: None,
            pack: 8,
        };
        let server = ServerConfig {
            key: 1,
            weight: 1,
            pending_max: 0,
            marks: 0,
            lanes: vec![LaneLimits {
                min,
                max,
                min_spare: if owned { max } else { 0 },
                upstream_pending_max: 0,
            }],
            check: None,
            slow_start: Span::ZERO,
        };
        let config = PoolConfig {
            lanes: vec![lane],
            tiers: vec![(Kind::LeastBusy, vec![server])],
            queue_max: 100,
            health: HealthConfig {
                probe_interval: None,
                ..HealthConfig::default()
            },
        };
        let mut directory = Directory {
            pool: Pool::new(1),
            now: Instant::from_micros(1),
            effects: Vec::new(),
            opening: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            failed: Vec::new(),
        };
        directory.pool.configure(config, directory.now, &mut directory.effects);
        directory.note();
        directory
    }

    fn note(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Open { upstream, .. } => self.opening.push(upstream),
                Effect::Send { ticket, upstream } => self.sent.push((ticket, upstream)),
                Effect::Close { upstream } => {
                    self.opening.retain(|other| *other != upstream);
                    self.closed.push(upstream);
                }
                Effect::Failed { reason, .. } => self.failed.push(reason),
                other => panic!("{other:?}"),
            }
        }
        self.pool.check_invariants().unwrap();
    }

    fn submit(&mut self) {
        let request = Request {
            class: Class { lane: 0, retry: false },
            deadline: self.now + Span::from_secs(60),
            queue_wait_max: None,
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        self.pool.submit(request, 0, self.now, &mut self.effects).unwrap();
        self.note();
    }

    /// The one that was opened first.
    fn up(&mut self) -> UpstreamId {
        let id = self.opening.remove(0);
        self.pool.upstream_up(id, self.now, &mut self.effects);
        self.note();
        id
    }

    fn leaves(&mut self, id: UpstreamId) {
        self.pool.upstream_draining(id, self.now, &mut self.effects);
        self.note();
    }

    fn answer(&mut self, at: usize) {
        let (ticket, from) = self.sent[at];
        let answered = Settlement::Done(Verdict::Well);
        let known = self.pool.reply(ticket, from, answered, self.now, &mut self.effects);
        assert!(known.is_some());
        self.note();
    }

    fn sent_to(&self) -> Vec<UpstreamId> {
        self.sent.iter().map(|(_, to)| *to).collect()
    }
}

#[test]
fn the_only_connection_leaves_and_the_next_is_opened_while_it_finishes_what_it_has() {
    let mut one = Directory::new(1, 1, 0);
    let old = one.up();
    one.submit();
    one.leaves(old);
    assert_eq!(one.opening.len(), 1, "at once");
    one.submit();
    assert_eq!((one.sent.len(), &one.failed[..]), (1, &[][..]), "it waits");
    let new = one.up();
    assert_eq!(one.sent_to(), [old, new]);
    assert_eq!(one.closed, []);
    one.answer(0);
    assert_eq!(one.closed, [old], "with the last that it had");
    one.answer(1);
    assert_eq!((one.opening.len(), &one.failed[..]), (0, &[][..]));
}

#[test]
fn all_connections_leave_at_once_and_who_asks_waits_for_the_next_as_long_as_there_may_be_one() {
    let mut two = Directory::new(2, 2, 0);
    let both = [two.up(), two.up()];
    both.into_iter().for_each(|id| two.leaves(id));
    assert_eq!((&two.closed[..], two.opening.len()), (&both[..], 2));
    two.submit();
    two.submit();
    assert_eq!((two.sent.len(), &two.failed[..]), (0, &[][..]), "both wait");
    let new = two.up();
    assert_eq!(two.sent_to(), [new, new]);

    let mut down = Directory::new(1, 1, 0);
    let old = down.up();
    down.leaves(old);
    down.submit();
    let next = down.opening.remove(0);
    let (now, failed) = (down.now, Cause::OpenFailed);
    down.pool.upstream_down(next, failed, now, &mut down.effects);
    down.note();
    assert_eq!(down.failed, [Reason::Unavailable], "it is down");
    down.submit();
    assert_eq!(down.failed, [Reason::Unavailable; 2]);
}

#[test]
fn those_that_finish_what_they_have_have_stand_ins_up_to_the_maximum_once_more() {
    let mut hostile = Directory::new(2, 2, 0);
    for _ in 0..20 {
        while !hostile.opening.is_empty() {
            hostile.up();
        }
        hostile.submit();
        // It says that it closes whatever it is asked on, and goes on for ever.
        if let Some((_, to)) = hostile.sent.last().copied() {
            hostile.leaves(to);
        }
        let all = hostile.pool.report(hostile.now)[0].upstreams[0];
        let there = all.starting + all.idle + all.busy + all.leaving;
        assert!(there <= 4, "{all:?}");
    }
    assert_eq!(hostile.sent.len(), 4, "the rest waits");
    assert!(hostile.failed.is_empty());
    hostile.answer(0);
    assert_eq!(hostile.opening.len(), 1, "as soon as there is room again");
}

#[test]
fn one_that_leaves_makes_room_for_who_waits_behind_it() {
    let mut binds = Directory::new(0, 1, 1);
    binds.submit();
    let old = binds.up();
    binds.submit();
    assert_eq!((binds.sent.len(), binds.opening.len()), (1, 0), "one waits");
    binds.leaves(old);
    assert_eq!(binds.opening.len(), 1);
    binds.up();
    assert_eq!(binds.sent.len(), 2);
}

#[test]
fn what_one_client_holds_up_is_not_replaced_beyond_the_maximum() {
    let mut slow = Directory::new(1, 2, 0);
    slow.up();
    slow.submit();
    let aside = |slow: &mut Directory, at: usize| {
        let (ticket, of) = slow.sent[at];
        let now = slow.now;
        let done = slow.pool.set_aside(of, ticket, now, &mut slow.effects);
        slow.note();
        done
    };
    assert!(aside(&mut slow, 0));
    slow.submit();
    slow.up();
    assert_eq!((slow.sent.len(), &slow.failed[..]), (2, &[][..]), "it waited");
    assert!(!aside(&mut slow, 1), "both are there");
}

#[test]
fn one_that_a_client_keeps_is_replaced_when_he_lets_go_of_it_and_one_that_nobody_has_at_once() {
    let mut apart = Directory::with(0, 2, 1, true);
    for _ in 0..2 {
        apart.submit();
        apart.up();
    }
    let [kept, spare] = [apart.sent[0].1, apart.sent[1].1];
    apart.answer(0);
    apart.answer(1);
    let now = apart.now;
    apart.pool.give_back(spare, now, &mut apart.effects);
    apart.note();
    assert_eq!(apart.closed, [], "it is kept for the next client");
    for id in [kept, spare] {
        apart.pool.recycle(id, now, &mut apart.effects);
        apart.note();
    }
    assert_eq!(apart.closed, [spare]);
    // Another one comes and goes, which is no reason to close what its client needs.
    apart.submit();
    let new = apart.up();
    apart.answer(2);
    apart.pool.give_back(new, now, &mut apart.effects);
    apart.note();
    assert_eq!(apart.closed, [spare], "his connection stays his");
    apart.pool.give_back(kept, now, &mut apart.effects);
    apart.note();
    assert_eq!(apart.closed, [spare, kept]);
    apart.submit();
    assert_eq!(apart.sent[3].1, new);
}
