//! A helper that answers with what it was sent: what `bench/call` measures with. An argument says how many calls it takes ahead.

use std::num::NonZeroU32;

use usherd_sdk::helper::{Error, Helper};

fn main() -> Result<(), Error> {
    let ahead = std::env::args().nth(1).and_then(|many| many.parse().ok());
    Helper::connect()?.serve_ahead("echo/1", ahead.unwrap_or(NonZeroU32::MIN), |call| {
        Ok(call.payload().to_vec())
    })
}
