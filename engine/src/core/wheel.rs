//! Deadlines: a hashed timing wheel (Varghese and Lauck 1987).
//!
//! Every request has a deadline and nearly every one is cancelled before it is due, so arming and cancelling must be
//! cheap and exact order must not be paid for. Time is cut into ticks; a timer waits in the slot of the tick at which
//! it is due, modulo the number of slots. Arming and cancelling are O(1); what is due is found through a bitmap.
//!
//! Invariants:
//! - a timer is never reported early, and at most one tick late (if `expire` is called when [`Wheel::next`] says);
//! - each timer is reported once, or cancelled once, never both;
//! - every armed timer is due after `swept`, the last tick that has been looked at: whoever arms one that is due
//!   earlier moves `swept` back, which is also what makes a clock that jumps back harmless;
//! - a timer's node is in exactly one list: that of its slot, or the free list; a slot's bit is set iff its list is not
//!   empty.

use super::time::{Instant, Span};
use std::num::NonZeroU64;

/// Ends a list.
const NONE: u32 = u32::MAX;

/// Names an armed timer. Stale ones (reported or cancelled) are recognised, never mistaken for a later timer, until the
/// same place has been used 2^32 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(NonZeroU64);

impl TimerId {
    fn new(generation: u32, place: u32) -> Self {
        let raw = (u64::from(generation) << 32) | u64::from(place);
        Self(NonZeroU64::new(raw).unwrap_or(NonZeroU64::MAX))
    }

    fn generation(self) -> u64 {
        self.0.get() >> 32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn place(self) -> u32 {
        self.0.get() as u32
    }
}

/// The armed timers. An idle wheel asks for no wake-up; memory is that of the most timers that were ever armed at
/// once (40 bytes each) and is bounded by whoever bounds those.
#[derive(Debug)]
pub struct Wheel {
    tick_us: u64,
    /// The first timer of each slot. A power of two of them.
    heads: Vec<u32>,
    /// One bit for each slot that holds a timer.
    occupied: Vec<u64>,
    nodes: Vec<Node>,
    free: u32,
    len: usize,
    /// The last tick that has been looked at.
    swept: u64,
}

#[derive(Debug)]
struct Node {
    key: u64,
    /// The tick at which it is due.
    due: u64,
    /// Never 0, so that a `TimerId` is never 0.
    generation: u32,
    previous: u32,
    next: u32,
    armed: bool,
}

impl Wheel {
    /// A wheel of `slots` slots (rounded up to a power of two, from 64 to 2^20) of one `tick` (at least 1 µs) each. Timers
    /// further away than `tick * slots` are looked at once a round and cost a needless wake-up each time.
    pub fn new(tick: Span, slots: usize) -> Self {
        let slots = slots.clamp(64, 1 << 20).next_power_of_two();
        Self {
            tick_us: tick.as_micros().max(1),
            heads: vec![NONE; slots],
            occupied: vec![0; slots / 64],
            nodes: Vec::new(),
            free: NONE,
            len: 0,
            swept: 0,
        }
    }

    /// Timers that are armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reports `key` once `at` has passed. A moment that has passed already is reported by the next [`expire`](Self::expire).
    pub fn arm(&mut self, at: Instant, key: u64) -> TimerId {
        let due = at.as_micros().div_ceil(self.tick_us).max(1);
        self.swept = self.swept.min(due - 1);
        let slot = self.slot_of(due);
        let head = self.head(slot);
        let place = self.take_place();
        let mut id = TimerId::new(1, NONE);
        if let Some(node) = self.node_mut(place) {
            id = TimerId::new(node.generation, place);
            *node = Node {
                key,
                due,
                generation: node.generation,
                previous: NONE,
                next: head,
                armed: true,
            };
            self.len += 1;
        }
        if let Some(old) = self.node_mut(head) {
            old.previous = place;
        }
        self.set_head(slot, place);
        id
    }

    /// Forgets a timer. False if it was reported or cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let place = id.place();
        let armed = self
            .node(place)
            .is_some_and(|n| n.armed && u64::from(n.generation) == id.generation());
        if armed {
            self.remove(place);
        }
        armed
    }

    /// When to call [`expire`](Self::expire) next: never later than the first timer's tick, earlier only by whole rounds.
    /// `None` while nothing is armed.
    pub fn next(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let first = self.swept.saturating_add(1);
        let distance = self.occupied_from(self.slot_of(first), self.heads.len())?;
        let tick = first.saturating_add(distance as u64);
        Some(Instant::from_micros(tick.saturating_mul(self.tick_us)))
    }

    /// Reports the key of every timer that is due at `now`, by tick within a round, and forgets it. However far the clock
    /// has jumped, each slot is looked at once at most.
    pub fn expire(&mut self, now: Instant, mut report: impl FnMut(u64)) {
        let now_tick = now.as_micros() / self.tick_us;
        if self.len == 0 || now_tick <= self.swept {
            self.swept = self.swept.max(now_tick);
            return;
        }
        let first = self.swept + 1;
        let mut left = usize::try_from(now_tick - self.swept)
            .unwrap_or(usize::MAX)
            .min(self.heads.len());
        let mut slot = self.slot_of(first);
        while let Some(distance) = self.occupied_from(slot, left) {
            slot = (slot + distance) & (self.heads.len() - 1);
            self.expire_slot(slot, now_tick, &mut report);
            slot = (slot + 1) & (self.heads.len() - 1);
            left -= distance + 1;
        }
        self.swept = now_tick;
    }

    fn expire_slot(&mut self, slot: usize, now_tick: u64, report: &mut impl FnMut(u64)) {
        let mut place = self.head(slot);
        while let Some(&Node { key, due, next, .. }) = self.node(place) {
            if due <= now_tick {
                self.remove(place);
                report(key);
            }
            place = next;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked by the number of slots")]
    fn slot_of(&self, tick: u64) -> usize {
        (tick & (self.heads.len() as u64 - 1)) as usize
    }

    /// How many slots after `start` the first occupied one is, `start` itself included, among `count` slots.
    fn occupied_from(&self, start: usize, count: usize) -> Option<usize> {
        let mut distance = 0;
        while distance < count {
            let slot = (start + distance) & (self.heads.len() - 1);
            let word = self.occupied.get(slot / 64)? >> (slot % 64);
            if word != 0 {
                let found = distance + word.trailing_zeros() as usize;
                return (found < count).then_some(found);
            }
            distance += 64 - slot % 64;
        }
        None
    }

    fn remove(&mut self, place: u32) {
        let free = self.free;
        let Some(node) = self.node_mut(place) else { return };
        let (previous, next, due) = (node.previous, node.next, node.due);
        node.armed = false;
        node.generation = node.generation.wrapping_add(1).max(1);
        node.next = free;
        self.free = place;
        self.len -= 1;
        if let Some(after) = self.node_mut(next) {
            after.previous = previous;
        }
        match self.node_mut(previous) {
            Some(before) => before.next = next,
            None => self.set_head(self.slot_of(due), next),
        }
    }

    /// A node from the free list, else a new one.
    fn take_place(&mut self) -> u32 {
        if let Some(node) = self.node(self.free) {
            let place = self.free;
            self.free = node.next;
            return place;
        }
        // 2^32 - 1 timers at once would be 160 GB.
        let place = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node {
            key: 0,
            due: 0,
            generation: 1,
            previous: NONE,
            next: NONE,
            armed: false,
        });
        place
    }

    fn node(&self, place: u32) -> Option<&Node> {
        self.nodes.get(place as usize)
    }

    fn node_mut(&mut self, place: u32) -> Option<&mut Node> {
        self.nodes.get_mut(place as usize)
    }

    fn head(&self, slot: usize) -> u32 {
        self.heads.get(slot).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, slot: usize, place: u32) {
        if let Some(head) = self.heads.get_mut(slot) {
            *head = place;
        }
        if let Some(word) = self.occupied.get_mut(slot / 64) {
            let bit = 1 << (slot % 64);
            *word = if place == NONE { *word & !bit } else { *word | bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK: Span = Span::from_millis(16);

    fn expired(wheel: &mut Wheel, now: Instant) -> Vec<u64> {
        let mut keys = Vec::new();
        wheel.expire(now, |key| keys.push(key));
        keys
    }

    #[test]
    fn an_idle_wheel_asks_for_no_wake_up() {
        let mut wheel = Wheel::new(TICK, 64);
        assert_eq!(wheel.next(), None);
        let id = wheel.arm(Instant::from_secs(5), 1);
        assert!(wheel.next().is_some());
        assert!(wheel.cancel(id));
        assert_eq!(wheel.next(), None);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_timer_is_reported_once_never_early_and_within_a_tick() {
        let mut wheel = Wheel::new(TICK, 64);
        let at = Instant::from_millis(100);
        let id = wheel.arm(at, 7);
        assert_eq!(expired(&mut wheel, Instant::from_millis(99)), [0_u64; 0]);
        let wake = wheel.next().unwrap();
        assert!(wake >= at && wake.since(at) <= TICK, "{wake:?}");
        assert_eq!(expired(&mut wheel, wake), [7]);
        assert_eq!(expired(&mut wheel, wake + TICK), [0_u64; 0]);
        assert!(!wheel.cancel(id));
    }

    #[test]
    fn a_stale_id_does_not_cancel_the_timer_that_took_its_place() {
        let mut wheel = Wheel::new(TICK, 64);
        let first = wheel.arm(Instant::from_secs(1), 1);
        assert!(wheel.cancel(first));
        let second = wheel.arm(Instant::from_secs(1), 2);
        assert_ne!(first, second);
        assert!(!wheel.cancel(first));
        assert_eq!(wheel.len(), 1);
        assert_eq!(expired(&mut wheel, Instant::from_secs(2)), [2]);
    }

    #[test]
    fn a_jump_of_a_year_and_a_jump_back_are_harmless() {
        let mut wheel = Wheel::new(TICK, 64);
        wheel.arm(Instant::from_secs(1), 1);
        let far = Instant::from_secs(365 * 86_400);
        assert_eq!(expired(&mut wheel, far), [1]);
        // The clock goes back; what is armed now must not wait for a year.
        wheel.arm(Instant::from_secs(10), 2);
        assert!(wheel.next().unwrap() <= Instant::from_secs(10) + TICK);
        assert_eq!(expired(&mut wheel, Instant::from_secs(9)), [0_u64; 0]);
        assert_eq!(expired(&mut wheel, Instant::from_secs(11)), [2]);
    }

    #[test]
    fn the_ends_of_time_are_harmless() {
        let mut wheel = Wheel::new(Span::ZERO, 0);
        wheel.arm(Instant::ZERO, 1);
        wheel.arm(Instant::MAX, 2);
        assert_eq!(expired(&mut wheel, Instant::from_micros(1)), [1]);
        assert!(wheel.next().is_some());
        assert_eq!(expired(&mut wheel, Instant::MAX), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn places_are_used_again() {
        let mut wheel = Wheel::new(TICK, 64);
        for round in 0..1_000 {
            let id = wheel.arm(Instant::from_millis(round), round);
            assert!(wheel.cancel(id));
        }
        assert_eq!(wheel.nodes.len(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Arm(u64),
        Cancel(usize),
        Advance(u64),
        JumpTo(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..5_000).prop_map(Step::Arm),
            2 => any::<prop::sample::Index>().prop_map(|i| Step::Cancel(i.index(1 << 16))),
            3 => (0u64..3_000).prop_map(Step::Advance),
            1 => (0u64..50_000).prop_map(Step::JumpTo),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Against a plain ordered map: nothing early, nothing late by more than a tick, nothing twice, nothing lost.
        #[test]
        fn agrees_with_an_ordered_map(steps in steps()) {
            let mut wheel = Wheel::new(TICK, 64);
            let mut model: BTreeMap<u64, (u64, TimerId)> = BTreeMap::new();
            let (mut now_ms, mut key) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Arm(after_ms) => {
                        key += 1;
                        let at_ms = now_ms + after_ms;
                        let id = wheel.arm(Instant::from_millis(at_ms), key);
                        model.insert(key, (at_ms, id));
                    }
                    Step::Cancel(which) if !model.is_empty() => {
                        let key = *model.keys().nth(which % model.len()).unwrap();
                        let (_, id) = model.remove(&key).unwrap();
                        prop_assert!(wheel.cancel(id));
                        prop_assert!(!wheel.cancel(id));
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(ms) => now_ms += ms,
                    Step::JumpTo(ms) => now_ms = ms,
                }
                let mut fired = Vec::new();
                wheel.expire(Instant::from_millis(now_ms), |key| fired.push(key));
                for key in fired {
                    let (at_ms, _) = model.remove(&key).expect("reported twice, or never armed");
                    prop_assert!(at_ms <= now_ms, "{at_ms} reported at {now_ms}");
                }
                for &(at_ms, _) in model.values() {
                    prop_assert!(at_ms + TICK.as_millis() > now_ms, "{at_ms} not reported at {now_ms}");
                    let wake = wheel.next().expect("something is armed");
                    prop_assert!(wake <= Instant::from_millis(at_ms) + TICK);
                }
                prop_assert_eq!(wheel.len(), model.len());
                prop_assert_eq!(wheel.next().is_none(), model.is_empty());
            }
        }

        /// Who wakes when told to hears of each timer within one tick of its moment.
        #[test]
        fn waking_when_told_is_enough(moments in prop::collection::vec(1u64..20_000, 1..50)) {
            let mut wheel = Wheel::new(TICK, 64);
            for &ms in &moments {
                wheel.arm(Instant::from_millis(ms), ms);
            }
            let mut heard = Vec::new();
            let mut wake_ups = 0;
            while let Some(now) = wheel.next() {
                wake_ups += 1;
                prop_assert!(wake_ups < 2_000, "it never ends");
                wheel.expire(now, |ms| heard.push((ms, now)));
            }
            prop_assert_eq!(heard.len(), moments.len());
            for (ms, now) in heard {
                let due = Instant::from_millis(ms);
                prop_assert!(now >= due && now.since(due) < TICK);
            }
        }
    }
}
