//! The one place with `unsafe`: memory shared with another process, a signal handler, and a signal to one thread.
//!
//! Memory that another process writes to is never seen through a reference: it is copied, by raw pointers, within bounds
//! that are checked here, and what was copied is looked at afterwards. It cannot become shorter under us, because only a
//! file that is sealed against that is mapped.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::{io, mem, ptr};

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::Pid;

/// Memory shared by usherd and a helper, mapped for as long as this lives.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Memory` alone unmaps it.
unsafe impl Send for Memory {}
// SAFETY: all access is by copies through raw pointers within the mapping. Two threads that copy in at once could mix
// their bytes, which hurts an answer, not memory; helpers with several threads do not copy in.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps the first `bytes` of a memory file.
    ///
    /// # Errors
    /// It is smaller, or not sealed against shrinking; the system's.
    pub fn map(file: &OwnedFd, bytes: usize) -> io::Result<Self> {
        let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let size = rustix::fs::fstat(file)?.st_size;
        if bytes == 0 || usize::try_from(size).is_ok_and(|size| size < bytes) || size < 0 {
            return Err(bad("the shared memory is smaller than announced"));
        }
        if !rustix::fs::fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
            return Err(bad("the shared memory is not sealed against shrinking"));
        }
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, flags, file.as_fd(), 0) }?;
        let base = NonNull::new(base).ok_or_else(|| bad("mapped at zero"))?;
        Ok(Self { base, bytes })
    }

    /// Appends `bytes` from `offset` on to `out`; `None` if they are not all within.
    pub fn copy_out(&self, offset: usize, bytes: usize, out: &mut Vec<u8>) -> Option<()> {
        offset.checked_add(bytes).filter(|end| *end <= self.bytes)?;
        out.try_reserve_exact(bytes).ok()?;
        let place = out.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: the source is within the mapping (checked above), which is readable and cannot shrink (`map`); the
        // target is `bytes` of reserved capacity, and the two do not overlap, since the vector is not in the mapping.
        // Afterwards these bytes are initialized, whatever the other process wrote meanwhile.
        unsafe {
            ptr::copy_nonoverlapping(self.base.as_ptr().cast::<u8>().add(offset), place, bytes);
            out.set_len(out.len() + bytes);
        }
        Some(())
    }

    /// Copies `from` to `offset`; `None` if it does not all fit.
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Option<()> {
        offset.checked_add(from.len()).filter(|end| *end <= self.bytes)?;
        // SAFETY: the target is within the mapping (checked above), which is writable; no reference points into it.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), self.base.as_ptr().cast::<u8>().add(offset), from.len());
        }
        Some(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, unmapped once; nothing borrowed from it exists.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Sees to it that SIGINT makes a blocking system call return with EINTR and does nothing else. A handler that the
/// program has installed itself stays.
pub(crate) fn interrupt_blocking_calls() -> io::Result<()> {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: `sigaction` is a plain C structure for which all zeroes is a valid value: the default action, no flags.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: no new action is given, and `before` is a place for the old one.
    if unsafe { libc::sigaction(libc::SIGINT, ptr::null(), &raw mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return Ok(());
    }
    // Without SA_RESTART: that is the whole point.
    action.sa_sigaction = nothing as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: the handler has the signature of a handler without SA_SIGINFO, touches nothing, and lives as long as the
    // program.
    if unsafe { libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes a blocking system call of one thread of this process return. A thread that has ended is passed over.
pub(crate) fn interrupt_thread(thread: Pid) {
    let process = rustix::process::getpid().as_raw_pid();
    // SAFETY: tgkill reads its three numbers and no memory; that the thread is of this process the kernel checks.
    unsafe {
        libc::syscall(libc::SYS_tgkill, process, thread.as_raw_pid(), libc::SIGINT);
    }
}
