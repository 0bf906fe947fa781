//! The smallest helper: answers with its request in upper case.
//!
//! ```toml
//! [service.upper]
//! program = ["/usr/local/lib/usherd/upper"]
//! ```

fn main() -> Result<(), usherd_sdk::helper::Error> {
    usherd_sdk::helper::serve("upper/1", |call| Ok(call.payload().to_ascii_uppercase()))
}
