//! Forgetting bytes that may be secret: names, passwords and what databases answer pass through every buffer.
//!
//! The crate `zeroize` overwrites byte by byte with volatile writes, which at 64 KiB takes longer than the call that is
//! being served. Here the bytes are set as fast as memory goes, and the compiler is kept from leaving that out by having to
//! believe that they are looked at afterwards.

/// Overwrites all of it with zeroes.
#[inline]
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}
