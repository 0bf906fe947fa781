//! The memory that a helper and the daemon share: a memory file, sealed against growing and shrinking.
//!
//! The first half is for requests, the second for answers. What is copied out is looked at afterwards, so that nothing that
//! the helper does to the memory meanwhile can be more than other bytes.
//!
//! Up to [`MAPPED_BYTES_MAX`] the daemon maps it (at 10 KB a call takes a twentieth less time). All of it is allocated then
//! before anything can touch it: a fault for which the system has no memory would be the end of the daemon. What is larger is
//! written and read by position and takes memory as it is used.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use usherd_sdk::SharedMemory;

/// The largest that is mapped.
const MAPPED_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    file: OwnedFd,
    mapped: Option<SharedMemory>,
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
        let mapped = if (2..=MAPPED_BYTES_MAX).contains(&bytes) {
            fallocate(&file, FallocateFlags::empty(), 0, half as u64 * 2)?;
            Some(SharedMemory::map(&file, half * 2)?)
        } else {
            None
        };
        Ok(Memory { file, mapped, half })
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
        if let Some(mapped) = &self.mapped {
            return mapped.copy_in(0, request).is_some();
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
        if let Some(mapped) = &self.mapped {
            return mapped.copy_out(offset as usize, len as usize, into).is_some();
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
