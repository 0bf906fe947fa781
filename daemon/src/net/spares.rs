//! Buffers that a worker keeps for the next connection that has something to say.

/// Buffers that grew beyond this are given back to the system.
pub(super) const SPARE_BYTES_MAX: usize = 64 * 1024;
/// Spare buffers a worker keeps,
const SPARES_MAX: usize = 256;
/// and their memory: after a flood of long answers each of them could be long.
const SPARES_BYTES_MAX: usize = 2 << 20;
/// Of those for large requests it keeps so many,
const LARGE_SPARES_MAX: usize = 4;
/// none of them longer than this.
const LARGE_BYTES_MAX: usize = 2 << 20;

/// Buffers that nobody uses just now.
#[derive(Debug, Default)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Their memory, all together.
    bytes: usize,
    /// Those for large requests, whose memory would cost more than what is done with it, if it were new each time. They keep
    /// their length, and what is in them is nobody's secret: that is never large.
    large: Vec<Vec<u8>>,
}

impl Spares {
    /// An empty buffer.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.bytes = self.bytes.saturating_sub(buffer.capacity());
                buffer
            }
            None => Vec::with_capacity(1024),
        }
    }

    /// A buffer of exactly `bytes`, for a large request. What is in it is to be overwritten before it is looked at.
    pub fn take_large(&mut self, bytes: usize) -> Vec<u8> {
        match self.large.iter().position(|buffer| buffer.capacity() >= bytes) {
            Some(at) => {
                let mut buffer = self.large.swap_remove(at);
                buffer.resize(bytes, 0);
                buffer
            }
            // Not touched before it is written.
            None => vec![0; bytes],
        }
    }

    /// One of those that is not needed any more.
    pub fn give_large(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > SPARE_BYTES_MAX
            && buffer.capacity() <= LARGE_BYTES_MAX
            && self.large.len() < LARGE_SPARES_MAX
        {
            self.large.push(buffer);
        }
    }

    /// A buffer that is not needed any more.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = self.bytes + buffer.capacity();
        if buffer.capacity() > 0
            && buffer.capacity() <= SPARE_BYTES_MAX
            && bytes <= SPARES_BYTES_MAX
            && self.buffers.len() < SPARES_MAX
        {
            buffer.clear();
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_by_number_and_by_memory() {
        let mut spares = Spares::default();
        let give = |spares: &mut Spares, many: usize, bytes: usize| {
            (0..many).for_each(|_| spares.give(Vec::with_capacity(bytes)));
            spares.buffers.len()
        };
        assert_eq!(give(&mut spares, 1, SPARE_BYTES_MAX + 1), 0);
        assert_eq!(
            give(&mut spares, 100, SPARE_BYTES_MAX),
            SPARES_BYTES_MAX / SPARE_BYTES_MAX
        );
        while !spares.buffers.is_empty() {
            spares.take();
        }
        assert_eq!(spares.bytes, 0);
        assert_eq!(give(&mut spares, 1_000, 1024), SPARES_MAX);
    }
}
