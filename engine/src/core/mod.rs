//! The shared core: take requests, choose who answers, bound every wait. It names no protocol.

pub mod backoff;
pub mod rng;
pub mod time;
pub mod wheel;
