//! A helper that answers with what it was sent: what `bench/call` measures with.

use usherd_sdk::helper;

fn main() -> Result<(), helper::Error> {
    helper::serve("echo/1", |call| Ok(call.payload().to_vec()))
}
