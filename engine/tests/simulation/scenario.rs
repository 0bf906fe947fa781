//! What happens to a pool in one run, made from a seed alone.
//!
//! Events name things by number, taken modulo what there is when their turn comes. So any part of a list of events is a
//! list of events again, which is what lets a failing one be shrunk.

use engine::core::policy::Kind;
use engine::core::rng::Rng;
use engine::core::time::Span;
use engine::core::{
    CancelRule, CheckConfig, CrashConfig, Drain, HealthConfig, LaneConfig, LaneLimits, PoolConfig, Route, ServerConfig,
};

/// One run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Of the pool's own choices.
    pub seed: u64,
    pub lanes: Vec<LaneConfig>,
    /// See [`config`].
    pub first_config: u64,
    pub events: Vec<Event>,
}

/// What a submitted request is like.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub lane: usize,
    pub retry: bool,
    /// None: no deadline. Zero: passed already.
    pub deadline: Option<Span>,
    pub queue_wait_max: Option<Span>,
    pub affinity: Option<u64>,
    /// To one of the upstreams that belong to a client, if there is one.
    pub pin: Option<usize>,
    pub route: Route,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    Submit(Ask),
    /// A live ticket.
    Cancel(usize),
    /// Any ticket there ever was.
    CancelAny(usize),
    /// An upstream that is being opened is ready.
    Up(usize),
    /// The same, and it says how many requests at once it takes.
    UpWith(usize, u32),
    /// An upstream that is being opened fails.
    OpenFails(usize),
    /// An upstream is gone; killed ones first.
    Dies(usize, bool),
    /// A request that an upstream works on gets a part of its answer, or all of it.
    Part(usize),
    Answer(usize),
    /// It gets all of it, and its upstream is kept for a last question.
    Keep(usize),
    /// That is asked, with this time for its answer.
    AskOn(usize, Span),
    /// There is none.
    Finish(usize),
    /// It says that it cannot serve.
    Unwell(usize),
    /// Any ticket there ever was is answered by any upstream: late, twice, from the wrong one.
    Stray(usize, usize, bool),
    ProbeAnswered(usize),
    Heard(usize),
    /// An upstream that was told to close, or was killed, is gone.
    Gone(usize),
    /// An upstream is to be replaced; all of them are.
    Recycle(usize),
    RecycleAll,
    /// An upstream announces its end.
    Leaves(usize),
    /// A client reads so slowly that an upstream is left to its request alone.
    SetAside(usize),
    /// The client that an upstream belongs to has left.
    Release(usize),
    /// It needs it no more.
    GiveBack(usize),
    /// A server answers nothing, or answers again.
    Stall(usize),
    Revive,
    /// Time passes, and every wake-up is kept.
    Wait(Span),
    /// The clock jumps, and wake-ups are missed.
    JumpForward(Span),
    JumpBack(Span),
    Turn,
    Configure(u64),
    Drain(Drain),
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let lanes = (0..1 + rng.index(3)).map(|_| lane(&mut rng)).collect();
        let first_config = rng.next_u64();
        // Most seeds are short; a bug that needs a long one is found by the others.
        let longest = if rng.chance(1, 8) { 240 } else { 60 };
        let length = 20 + rng.index(longest);
        let answering = 1 + rng.below(12);
        let events = (0..length).map(|_| event(&mut rng, answering)).collect();
        Self {
            seed,
            lanes,
            first_config,
            events,
        }
    }
}

/// A configuration for these lanes; the same number gives the same one.
pub fn config(lanes: &[LaneConfig], number: u64) -> PoolConfig {
    let mut rng = Rng::new(number);
    let mut rng_of_checks = Rng::new(number ^ 3);
    let keys = 1 + rng.below(4);
    let mut tiers = Vec::new();
    for key in 0..keys {
        let server = ServerConfig {
            key,
            weight: u32::try_from(rng.below(4)).unwrap(),
            pending_max: small_or_none(&mut rng, 6),
            // A server is what it is.
            marks: u8::try_from(key % 4).unwrap(),
            lanes: lanes.iter().map(|_| limits(&mut rng)).collect(),
            check: check(&mut rng_of_checks),
            slow_start: Span::from_secs(rng_of_checks.below(3)),
        };
        if tiers.is_empty() || rng.chance(1, 3) {
            tiers.push((kind(&mut rng), Vec::new()));
        }
        tiers.last_mut().unwrap().1.push(server);
    }
    let lanes = lanes.iter().map(|lane| {
        let idle_timeout = rng.chance(1, 2).then(|| Span::from_millis(200 + rng.below(20_000)));
        LaneConfig {
            idle_timeout,
            spawn_rate_max: small_or_none(&mut rng, 4),
            opening_max: small_or_none(&mut rng, 3),
            ..*lane
        }
    });
    PoolConfig {
        lanes: lanes.collect(),
        tiers,
        queue_max: 1 + u32::try_from(Rng::new(number ^ 1).below(8)).unwrap(),
        health: health(&mut Rng::new(number ^ 2)),
    }
}

fn check(rng: &mut Rng) -> Option<CheckConfig> {
    rng.chance(1, 2).then(|| CheckConfig {
        interval: Span::from_secs(1 + rng.below(10)),
        timeout: Span::from_millis(200 + rng.below(20_000)),
        rise: u32::try_from(rng.below(4)).unwrap(),
        fall: u32::try_from(rng.below(4)).unwrap(),
    })
}

fn health(rng: &mut Rng) -> HealthConfig {
    HealthConfig {
        probe_interval: rng.chance(1, 2).then(|| Span::from_secs(1 + rng.below(20))),
        eject_after: 1 + u32::try_from(rng.below(4)).unwrap(),
        dead_after: Span::from_secs(1 + rng.below(30)),
        crash: rng.chance(1, 2).then(|| CrashConfig {
            max: 1 + u32::try_from(rng.below(4)).unwrap(),
            window: Span::from_secs(1 + rng.below(60)),
            rest_min: Span::from_millis(100 + rng.below(1_000)),
            rest_max: Span::from_secs(1 + rng.below(30)),
        }),
        ..HealthConfig::default()
    }
}

fn limits(rng: &mut Rng) -> LaneLimits {
    let max = 1 + u32::try_from(rng.below(4)).unwrap();
    let min = u32::try_from(rng.below(u64::from(max) + 1)).unwrap();
    LaneLimits {
        min,
        max,
        min_spare: if rng.chance(1, 2) { 0 } else { small_or_none(rng, 3) },
        upstream_pending_max: small_or_none(rng, 4),
    }
}

fn lane(rng: &mut Rng) -> LaneConfig {
    let shared = LaneConfig {
        slots: 0,
        cancel: CancelRule::Abandon,
        owned: false,
        probes: true,
        idle_timeout: None,
        spawn_rate_max: 0,
        opening_max: 0,
        lingers: None,
        pack: u32::try_from(rng.below(3)).unwrap(),
    };
    let slots = 1 + u32::try_from(rng.below(4)).unwrap();
    match rng.below(9) {
        0 | 1 => shared,
        2 => LaneConfig {
            slots: 1,
            cancel: CancelRule::CloseReopen,
            probes: false,
            ..shared
        },
        3 => LaneConfig {
            owned: true,
            slots: small_or_none(rng, 2),
            probes: rng.chance(1, 2),
            ..shared
        },
        4..8 => {
            let grace = Span::from_millis(rng.below(2_000));
            LaneConfig {
                slots: if rng.chance(1, 2) { 1 } else { slots },
                cancel: CancelRule::InterruptThenKill { grace },
                probes: false,
                lingers: rng.chance(3, 4).then_some(grace),
                ..shared
            }
        }
        _ => LaneConfig {
            cancel: CancelRule::Immediate,
            probes: rng.chance(1, 2),
            ..shared
        },
    }
}

fn kind(rng: &mut Rng) -> Kind {
    [
        Kind::RoundRobin,
        Kind::Weighted,
        Kind::BestOfTwo,
        Kind::LeastBusy,
        Kind::ByHash,
    ][rng.index(5)]
}

/// Most may go anywhere.
fn route(rng: &mut Rng) -> Route {
    if rng.chance(2, 3) {
        return Route::default();
    }
    let mark = |rng: &mut Rng| {
        if rng.chance(1, 2) {
            0
        } else {
            1 + u8::try_from(rng.below(2)).unwrap()
        }
    };
    Route {
        needs: mark(rng),
        prefers: mark(rng),
        stays: rng.chance(1, 2).then(|| rng.below(4)),
    }
}

/// 0 (no limit) as often as not.
fn small_or_none(rng: &mut Rng, most: u64) -> u32 {
    if rng.chance(1, 2) {
        0
    } else {
        1 + u32::try_from(rng.below(most)).unwrap()
    }
}

fn ask(rng: &mut Rng) -> Ask {
    let deadline = match rng.below(16) {
        0 => None,
        1 => Some(Span::ZERO),
        2..6 => Some(Span::from_millis(1 + rng.below(300))),
        6..12 => Some(Span::from_millis(500 + rng.below(5_000))),
        _ => Some(Span::from_secs(30 + rng.below(30))),
    };
    Ask {
        lane: rng.index(8),
        retry: rng.chance(1, 2),
        deadline,
        queue_wait_max: rng.chance(1, 3).then(|| Span::from_millis(rng.below(1_000))),
        affinity: rng.chance(1, 3).then(|| rng.below(8)),
        pin: rng.chance(1, 4).then(|| rng.index(64)),
        route: route(rng),
    }
}

/// `answering` of about 16 things that happen to upstreams are answers, so that some runs are healthy and some are not.
fn event(rng: &mut Rng, answering: u64) -> Event {
    let n = rng.index(1 << 20);
    match rng.below(100) {
        0..28 => Event::Submit(ask(rng)),
        28..32 => Event::Cancel(n),
        32 => Event::CancelAny(n),
        33..43 => Event::Up(n),
        43..46 => Event::UpWith(n, u32::try_from(rng.below(6)).unwrap()),
        46..48 => Event::OpenFails(n),
        48..54 if rng.below(16) >= answering => Event::Dies(n, rng.chance(1, 4)),
        48..66 if rng.below(16) < answering => Event::Answer(n),
        48..66 => Event::Wait(Span::from_millis(rng.below(300))),
        66 => Event::Part(n),
        67 if rng.below(16) < answering => Event::Keep(n),
        67 | 68 if rng.chance(1, 2) => Event::Finish(n),
        67 | 68 => Event::AskOn(n, Span::from_millis(rng.below(3_000))),
        69 => Event::Unwell(n),
        70..73 => Event::Stray(n, rng.index(1 << 20), rng.chance(2, 3)),
        73 | 74 => Event::ProbeAnswered(n),
        75 => Event::Recycle(n),
        76 => Event::Heard(n),
        77 => Event::Leaves(n),
        78 if rng.chance(1, 2) => Event::GiveBack(n),
        78 => Event::Release(n),
        79 => Event::Stall(n),
        80 => Event::Revive,
        81..89 => Event::Wait(Span::from_millis(rng.below(1_500))),
        89 => Event::Wait(Span::from_secs(rng.below(40))),
        90 => jump(rng),
        91 => Event::SetAside(n),
        92..94 => Event::Turn,
        94..96 => Event::Gone(n),
        96 if rng.chance(1, 3) => Event::RecycleAll,
        96 => Event::Recycle(n),
        97 | 98 => Event::Configure(rng.next_u64()),
        _ => match rng.below(12) {
            0 => Event::Drain(Drain::Now),
            1 | 2 => Event::Drain(Drain::Firm),
            3..6 => Event::Drain(Drain::Gentle),
            _ => Event::Turn,
        },
    }
}

fn jump(rng: &mut Rng) -> Event {
    match rng.below(4) {
        0 => Event::JumpForward(Span::from_secs(rng.below(400 * 86_400))),
        1 => Event::JumpForward(Span::from_millis(rng.below(60_000))),
        2 => Event::JumpBack(Span::from_millis(rng.below(60_000))),
        _ => Event::JumpBack(Span::from_secs(rng.below(400 * 86_400))),
    }
}
