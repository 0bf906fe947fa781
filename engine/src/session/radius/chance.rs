//! Octets that nobody outside can foretell: SHA-1 over a seed of the operating system's and a counter. For challenges and salts,
//! which are sent; never for keys.

use sha1::{Digest as _, Sha1};

#[derive(Clone)]
pub(super) struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance { seed, drawn: 0 }
    }

    pub(super) fn octets(&mut self) -> [u8; 16] {
        self.drawn = self.drawn.wrapping_add(1);
        let hash = Sha1::new()
            .chain_update(self.seed.to_be_bytes())
            .chain_update(self.drawn.to_be_bytes())
            .finalize();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for Chance {
    /// Without the seed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}
