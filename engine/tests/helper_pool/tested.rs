//! A pool of helpers and the world around it: who is starting, ready, told to end, killed.

use engine::core::policy::Kind;
use engine::core::time::{Instant, Span};
use engine::core::{
    CancelRule, Cause, Class, CrashConfig, Drain, Effect, HealthConfig, LaneConfig, LaneLimits, Pool, PoolConfig,
    Reason, Request, Route, ServerConfig, Settlement, Ticket, UpstreamId, Verdict,
};

/// Between an interrupt, or a goodbye, and the kill.
pub const GRACE: Span = Span::from_millis(1_000);

/// As in `[service.NAME]`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub min: u32,
    pub max: u32,
    pub min_spare: u32,
    pub idle: Span,
    pub spawn_rate: u32,
    pub starting_max: u32,
    pub concurrency: u32,
    pub crash_max: u32,
    pub queue_max: u32,
    pub queue_wait_max: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            min: 1,
            max: 16,
            min_spare: 0,
            idle: Span::ZERO,
            spawn_rate: 0,
            starting_max: 0,
            concurrency: 1,
            crash_max: 10,
            queue_max: 1_000,
            queue_wait_max: Span::from_secs(3_600),
        }
    }
}

impl Settings {
    fn config(self) -> PoolConfig {
        let lane = LaneConfig {
            slots: self.concurrency,
            cancel: CancelRule::InterruptThenKill { grace: GRACE },
            owned: false,
            probes: false,
            idle_timeout: Some(self.idle).filter(|idle| !idle.is_zero()),
            spawn_rate_max: self.spawn_rate,
            opening_max: self.starting_max,
            lingers: Some(GRACE),
            pack: 1,
        };
        let limits = LaneLimits {
            min: self.min,
            max: self.max,
            min_spare: self.min_spare,
            upstream_pending_max: 0,
        };
        let server = ServerConfig {
            key: 0,
            weight: 1,
            pending_max: 0,
            marks: 0,
            lanes: vec![limits],
            check: None,
            slow_start: Span::ZERO,
        };
        let health = HealthConfig {
            suspect_after: Span::from_secs(1_000_000),
            probe_interval: None,
            eject_after: u32::MAX,
            crash: Some(CrashConfig {
                max: self.crash_max,
                window: Span::from_secs(60),
                rest_min: Span::from_millis(500),
                rest_max: Span::from_secs(30),
            }),
            ..HealthConfig::default()
        };
        PoolConfig {
            lanes: vec![lane],
            tiers: vec![(Kind::LeastBusy, vec![server])],
            queue_max: self.queue_max,
            health,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    Ready,
    Ending,
}

/// A pool and what its effects have told.
pub struct Tested {
    pub pool: Pool<()>,
    pub now: Instant,
    settings: Settings,
    effects: Vec<Effect<()>>,
    helpers: Vec<(UpstreamId, Life)>,
    opened: usize,
    sent: Vec<(Ticket, UpstreamId)>,
    failed: Vec<(Reason, bool)>,
    pub answered: usize,
    pub interrupted: Vec<UpstreamId>,
    pub closed: Vec<UpstreamId>,
    pub killed: Vec<UpstreamId>,
}

impl Tested {
    pub fn new(settings: Settings) -> Self {
        let mut tested = Self {
            pool: Pool::new(1),
            now: Instant::from_secs(1_000),
            settings,
            effects: Vec::new(),
            helpers: Vec::new(),
            opened: 0,
            sent: Vec::new(),
            failed: Vec::new(),
            answered: 0,
            interrupted: Vec::new(),
            closed: Vec::new(),
            killed: Vec::new(),
        };
        tested.configure(settings);
        tested
    }

    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.pool.configure(settings.config(), self.now, &mut self.effects);
        self.carry_out();
    }

    pub fn submit(&mut self) -> Ticket {
        let request = Request {
            class: Class { lane: 0, retry: false },
            deadline: self.now + Span::from_secs(1_000_000),
            queue_wait_max: Some(self.settings.queue_wait_max),
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        let ticket = self.pool.submit(request, (), self.now, &mut self.effects).unwrap();
        self.carry_out();
        ticket
    }

    pub fn up(&mut self, id: UpstreamId, declared: u32) {
        self.live(id, Life::Ready);
        self.pool.upstream_up_with(id, declared, self.now, &mut self.effects);
        self.carry_out();
    }

    /// And whatever is started meanwhile.
    pub fn up_all(&mut self) {
        while let Some(id) = self.starting().first() {
            self.up(*id, 1);
        }
    }

    pub fn down(&mut self, id: UpstreamId, cause: Cause) {
        self.helpers.retain(|(other, _)| *other != id);
        self.sent.retain(|(_, at)| *at != id);
        self.pool.upstream_down(id, cause, self.now, &mut self.effects);
        self.carry_out();
    }

    pub fn cancel(&mut self, call: Ticket) {
        self.pool.cancel(call, self.now, &mut self.effects);
        self.sent.retain(|(ticket, _)| *ticket != call);
        self.carry_out();
    }

    /// What an interrupted helper says in the end.
    pub fn acknowledge(&mut self, call: Ticket, helper: UpstreamId) {
        let done = Settlement::Done(Verdict::Well);
        let delivered = self.pool.reply(call, helper, done, self.now, &mut self.effects);
        assert_eq!(delivered, None, "nobody waits for it");
        self.carry_out();
    }

    /// The oldest call that a helper has is answered.
    pub fn answer_one(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let (call, helper) = self.sent[0];
        self.answer(call, helper);
    }

    pub fn answer(&mut self, call: Ticket, helper: UpstreamId) {
        self.sent.retain(|(other, _)| *other != call);
        let done = Settlement::Done(Verdict::Well);
        let delivered = self.pool.reply(call, helper, done, self.now, &mut self.effects);
        assert_eq!(delivered, Some(()));
        self.answered += 1;
        self.carry_out();
    }

    pub fn answer_all(&mut self) {
        while !self.sent.is_empty() {
            self.answer_one();
        }
    }

    pub fn recycle_all(&mut self) {
        for (id, _) in self.helpers.clone() {
            self.pool.recycle(id, self.now, &mut self.effects);
            self.carry_out();
        }
    }

    /// One that was told to end is gone, or one that starts is ready.
    pub fn settle_one(&mut self) -> bool {
        let ending = self.helpers.iter().find(|(_, life)| *life == Life::Ending);
        match (ending.copied(), self.starting().first()) {
            (Some((id, _)), _) => self.down(id, Cause::Ended),
            (None, Some(id)) => self.up(*id, 1),
            (None, None) => return false,
        }
        true
    }

    pub fn settle_all(&mut self) {
        while self.settle_one() {}
    }

    pub fn drain(&mut self, level: Drain) {
        self.pool.drain(level, self.now, &mut self.effects);
        if level > Drain::Gentle {
            self.sent.clear();
        }
        self.carry_out();
    }

    pub fn wait(&mut self, span: Span) {
        let until = self.now + span;
        while let Some(at) = self.pool.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.pool.turn();
            self.pool.tick(self.now, &mut self.effects);
            self.carry_out();
        }
        self.now = until;
        self.pool.turn();
    }

    pub fn starting(&self) -> Vec<UpstreamId> {
        self.of(Life::Starting)
    }

    pub fn ready(&self) -> Vec<UpstreamId> {
        self.of(Life::Ready)
    }

    pub fn ending(&self) -> Vec<UpstreamId> {
        self.of(Life::Ending)
    }

    /// Calls that helpers have and nobody has given up.
    pub fn sent(&self) -> &[(Ticket, UpstreamId)] {
        &self.sent
    }

    /// Reason, and whether it had been sent.
    pub fn failed(&self) -> &[(Reason, bool)] {
        &self.failed
    }

    /// Since it was asked last.
    pub fn opened(&mut self) -> usize {
        std::mem::take(&mut self.opened)
    }

    fn of(&self, life: Life) -> Vec<UpstreamId> {
        let all = self.helpers.iter().filter(|(_, other)| *other == life);
        all.map(|(id, _)| *id).collect()
    }

    fn live(&mut self, id: UpstreamId, life: Life) {
        for helper in self.helpers.iter_mut().filter(|helper| helper.0 == id) {
            helper.1 = life;
        }
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Open { upstream, .. } => {
                    self.helpers.push((upstream, Life::Starting));
                    self.opened += 1;
                    let most = self.settings.max as usize;
                    assert!(self.helpers.len() <= most, "{} helpers of {most}", self.helpers.len());
                }
                Effect::Send { ticket, upstream } => self.sent.push((ticket, upstream)),
                Effect::Failed {
                    ticket, reason, sent, ..
                } => {
                    self.sent.retain(|(other, _)| *other != ticket);
                    self.failed.push((reason, sent));
                }
                Effect::Interrupt { upstream, .. } => self.interrupted.push(upstream),
                Effect::Close { upstream } => {
                    self.live(upstream, Life::Ending);
                    self.closed.push(upstream);
                }
                Effect::Kill { upstream } => {
                    self.live(upstream, Life::Ending);
                    self.killed.push(upstream);
                }
                Effect::Abandon { .. } | Effect::Probe { .. } | Effect::Check { .. } => {
                    panic!("{effect:?} for a helper")
                }
            }
        }
        self.pool.check_invariants().unwrap();
    }
}
