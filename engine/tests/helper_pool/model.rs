//! Random lives of a pool beside a model: of each helper only what it does is known, and one rule says how many there are.

use super::tested::{GRACE, Settings, Tested};
use engine::core::time::Span;
use engine::core::{Cause, Ticket, UpstreamId};
use proptest::prelude::*;

/// What happens; numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit,
    Answer,
    Up(usize),
    StartFails(usize),
    /// A helper dies, whatever it does.
    Crash(usize),
    /// The caller of a call that a helper has leaves.
    Cancel(usize),
    /// An interrupted helper acknowledges.
    Acknowledge(usize),
    /// The grace of all that were interrupted passes.
    Wait,
    /// One that was killed is gone.
    Gone(usize),
}

/// How many helpers do what. Those that were interrupted are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    starting: u32,
    idle: u32,
    busy: u32,
    leaving: u32,
    queued: u32,
}

impl Model {
    /// The whole policy: who waits gets who is idle, and then there are as many as the minimum, those that wait and the spares
    /// need, as far as the maximum allows.
    fn settle(&mut self, settings: Settings) {
        let handed_out = self.queued.min(self.idle);
        self.queued -= handed_out;
        self.idle -= handed_out;
        self.busy += handed_out;
        let total = self.starting + self.idle + self.busy;
        let for_minimum = settings.min.saturating_sub(total);
        let for_demand = (self.queued + settings.min_spare).saturating_sub(self.idle + self.starting);
        let room = settings.max.saturating_sub(total + self.leaving);
        self.starting += for_minimum.max(for_demand).min(room);
    }
}

struct Life {
    pool: Tested,
    model: Model,
    settings: Settings,
    /// Calls that were given up, with the helper that was interrupted for them.
    given_up: Vec<(Ticket, UpstreamId)>,
    submitted: usize,
}

impl Life {
    fn new(settings: Settings) -> Self {
        let mut model = Model {
            starting: 0,
            idle: 0,
            busy: 0,
            leaving: 0,
            queued: 0,
        };
        model.settle(settings);
        Life {
            pool: Tested::new(settings),
            model,
            settings,
            given_up: Vec::new(),
            submitted: 0,
        }
    }

    fn take(&mut self, step: Step) {
        let pick = |all: &[UpstreamId], n: usize| all.get(n.checked_rem(all.len())?).copied();
        match step {
            Step::Submit => {
                self.pool.submit();
                self.submitted += 1;
                // One that comes while the queue is full is refused, unless somebody is idle: then there is no queue.
                let full = self.model.idle == 0 && self.model.queued >= self.settings.queue_max;
                self.model.queued += u32::from(!full);
            }
            Step::Answer if !self.pool.sent().is_empty() => {
                self.pool.answer_one();
                self.model.busy -= 1;
                self.model.idle += 1;
            }
            Step::Up(n) => {
                if let Some(id) = pick(&self.pool.starting(), n) {
                    self.pool.up(id, 1);
                    self.model.starting -= 1;
                    self.model.idle += 1;
                }
            }
            Step::StartFails(n) => {
                if let Some(id) = pick(&self.pool.starting(), n) {
                    self.model.starting -= 1;
                    self.pool.down(id, Cause::OpenFailed);
                }
            }
            Step::Crash(n) => {
                if let Some(id) = pick(&self.pool.ready(), n) {
                    let has_call = self.pool.sent().iter().any(|(_, at)| *at == id);
                    let given_up = self.given_up.iter().any(|(_, at)| *at == id);
                    self.given_up.retain(|(_, at)| *at != id);
                    self.pool.down(id, Cause::Lost);
                    match has_call || given_up {
                        true => self.model.busy -= 1,
                        false => self.model.idle -= 1,
                    }
                }
            }
            Step::Cancel(n) => {
                let sent = self.pool.sent();
                if let Some((call, helper)) = n.checked_rem(sent.len()).map(|n| sent[n]) {
                    self.pool.cancel(call);
                    self.given_up.push((call, helper));
                }
            }
            Step::Acknowledge(n) => {
                if let Some(at) = n.checked_rem(self.given_up.len()) {
                    let (call, helper) = self.given_up.remove(at);
                    self.pool.acknowledge(call, helper);
                    self.model.busy -= 1;
                    self.model.idle += 1;
                }
            }
            Step::Wait => {
                self.pool.wait(GRACE + Span::from_millis(50));
                let killed = u32::try_from(self.given_up.len()).unwrap();
                self.given_up.clear();
                self.model.busy -= killed;
                self.model.leaving += killed;
            }
            Step::Gone(n) => {
                if let Some(id) = pick(&self.pool.ending(), n) {
                    self.pool.down(id, Cause::Lost);
                    self.model.leaving -= 1;
                }
            }
            Step::Answer => {}
        }
        self.model.settle(self.settings);
    }

    fn seen(&self) -> Model {
        let census = self.pool.pool.census();
        Model {
            starting: census.starting,
            idle: census.idle,
            busy: census.busy,
            leaving: census.leaving,
            queued: u32::try_from(self.pool.pool.queued()).unwrap(),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0usize..64;
    let step = prop_oneof![
        6 => Just(Step::Submit),
        4 => Just(Step::Answer),
        5 => n.clone().prop_map(Step::Up),
        1 => n.clone().prop_map(Step::StartFails),
        1 => n.clone().prop_map(Step::Crash),
        2 => n.clone().prop_map(Step::Cancel),
        1 => n.clone().prop_map(Step::Acknowledge),
        1 => Just(Step::Wait),
        1 => n.prop_map(Step::Gone),
    ];
    prop::collection::vec(step, 1..120)
}

fn settings() -> impl Strategy<Value = Settings> {
    (0u32..5, 1u32..8, 0u32..4, 1u32..6).prop_map(|(min, max, min_spare, queue_max)| Settings {
        min: min.min(max),
        max,
        min_spare,
        queue_max,
        crash_max: 1_000,
        ..Settings::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// As many helpers as the model has, doing the same, after each step; and each call ends once.
    #[test]
    fn the_pool_is_as_the_model_says(settings in settings(), steps in steps()) {
        let mut life = Life::new(settings);
        prop_assert_eq!(life.seen(), life.model);
        for (number, step) in steps.iter().enumerate() {
            life.take(*step);
            prop_assert_eq!(life.seen(), life.model, "after step {} of {:?}", number, &steps[..=number]);
            let ended = life.pool.answered + life.pool.failed().len();
            prop_assert_eq!(life.submitted, ended + life.pool.pool.pending());
        }
    }
}
