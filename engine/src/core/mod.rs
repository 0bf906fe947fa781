//! Requests, pools, upstreams: what every face of usherd stands on, and which names no protocol.
//!
//! Everything here is told things (`submit`, `reply`, `upstream_down`, `tick(now)` …) and emits [`Effect`]s into a buffer
//! of its caller's; it performs none of them. In steady state nothing here allocates.
//!
//! **The law.** Every [`Ticket`] gets exactly one final reply, made by the pool itself if nobody else makes it, within
//! its deadline plus one tick of the wheel; after it nothing more is delivered for that ticket.

pub(crate) mod arena;
pub mod backoff;
pub mod calendar;
mod check;
mod crash;
pub mod erlang;
mod histogram;
pub mod limits;
pub mod lockout;
pub mod policy;
pub mod pool;
mod request;
pub mod rng;
mod server;
pub mod service_time;
pub mod sizing;
pub mod time;
mod upstream;
pub mod wheel;

pub use check::CheckConfig;
pub use crash::CrashConfig;
pub use histogram::Histogram;
pub use pool::{Census, Failures, Pool, PoolConfig, Score, Stats};
pub use request::{Class, Drain, Effect, Reason, Request, Route, Settlement, Ticket, Verdict};
pub use server::{Health, HealthConfig, LaneLimits, ServerConfig, ServerReport};
pub use upstream::{CancelRule, Cause, LaneConfig, UpstreamId};
