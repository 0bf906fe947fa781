//! The shared core: take requests, choose who answers, bound every wait. It names no protocol.

pub mod backoff;
pub mod policy;
pub mod rng;
pub mod service_time;
pub mod sizing;
pub mod time;
pub mod wheel;
