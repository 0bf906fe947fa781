//! The memory that a helper and the daemon share: a memory file, sealed against growing and shrinking.
//!
//! The daemon never maps it: it writes and reads it by position, so that nothing that the helper does to it meanwhile can
//! be more than other bytes. The first half is for requests, the second for answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};

/// See the module.
#[derive(Debug)]
pub struct Memory {
    file: OwnedFd,
    half: usize,
}

impl Memory {
    /// A file of `bytes`, rounded down to an even number.
    ///
    /// # Errors
    /// The system's: out of memory or descriptors.
    pub fn new(bytes: usize) -> io::Result<Memory> {
        let half = bytes / 2;
        let file = memfd_create("usherd-helper", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, half as u64 * 2)?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Memory { file, half })
    }

    /// To be given to the helper.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Bytes altogether.
    pub fn len(&self) -> usize {
        self.half * 2
    }

    /// Puts a request at the beginning. False: it does not fit, or the system would not.
    pub fn write(&self, request: &[u8]) -> bool {
        let mut rest = request;
        if rest.len() > self.half {
            return false;
        }
        while !rest.is_empty() {
            let at = (request.len() - rest.len()) as u64;
            match pwrite(&self.file, rest, at) {
                Ok(n) if n > 0 => rest = rest.get(n..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                _ => return false,
            }
        }
        true
    }

    /// Whether an answer may be there.
    pub fn holds_answer(&self, offset: u32, len: u32) -> bool {
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
            return false;
        };
        offset >= self.half && offset.checked_add(len).is_some_and(|end| end <= self.half * 2)
    }

    /// Copies an answer out, to the end of `into`. False: it is not all there.
    pub fn read(&self, offset: u32, len: u32, into: &mut Vec<u8>) -> bool {
        if !self.holds_answer(offset, len) {
            return false;
        }
        let begin = into.len();
        into.resize(begin + len as usize, 0);
        let mut at = u64::from(offset);
        let mut rest = into.get_mut(begin..).unwrap_or_default();
        while !rest.is_empty() {
            match pread(&self.file, &mut *rest, at) {
                Ok(n) if n > 0 => {
                    at += n as u64;
                    rest = rest.get_mut(n..).unwrap_or_default();
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => {
                    into.truncate(begin);
                    return false;
                }
            }
        }
        true
    }
}
