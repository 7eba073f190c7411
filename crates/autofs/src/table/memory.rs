//! Memory that several processes share, as atomic words.
//!
//! Another process may write at any time, and need not be well-meaning. So there is no reference to
//! plain bytes in here: everything is loaded and stored as an atomic word, and what is read twice
//! may differ.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, Result};

/// A mapped memfd that cannot shrink.
#[derive(Debug)]
pub(super) struct Memory {
    fd: OwnedFd,
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: The mapping belongs to the process, not to a thread, and is only accessed through atomics
// or by the kernel.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// New memory, all zero, of which no page is there yet.
    pub(super) fn create(name: &str, length: usize) -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // The second flag is known since Linux 6.3, and some systems insist on it.
        let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
            other => other,
        };
        let fd = fd.map_err(|errno| Error::call("memfd_create", errno))?;
        rustix::fs::ftruncate(&fd, length as u64)
            .map_err(|errno| Error::call("ftruncate", errno))?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|errno| Error::call("fcntl", errno))?;
        Self::map(fd, length)
    }

    /// Memory that another process made; at least `least` bytes of it.
    pub(super) fn open(fd: OwnedFd, least: usize) -> Result<Self> {
        let fcntl = |errno| Error::call("fcntl", errno);
        // Only what cannot shrink may be mapped: touching what is gone is death by SIGBUS.
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|_| NOT_SEALED)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(NOT_SEALED);
        }
        let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::call("fstat", errno))?;
        let length = usize::try_from(stat.st_size).unwrap_or(0);
        if length < least {
            return Err(Error::Table {
                problem: "it is too short",
            });
        }
        // It was inherited, but helpers that are started from here have no business with it.
        let flags = rustix::io::fcntl_getfd(&fd).map_err(fcntl)?;
        rustix::io::fcntl_setfd(&fd, flags | FdFlags::CLOEXEC).map_err(fcntl)?;
        Self::map(fd, length)
    }

    fn map(fd: OwnedFd, length: usize) -> Result<Self> {
        // SAFETY: The kernel chooses a place where nothing is, so nothing of this process changes.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )
        };
        let start = start.map_err(|errno| Error::call("mmap", errno))?;
        let start = NonNull::new(start).ok_or(Error::call("mmap", Errno::NOMEM))?;
        Ok(Self { fd, start, length })
    }

    /// How long it is, in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The word at `offset`, which must be a multiple of 8.
    ///
    /// # Panics
    /// Outside of the memory: offsets come from the layout, never from what is in the memory.
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        let end = offset.checked_add(size_of::<u64>());
        assert!(end.is_some_and(|end| end <= self.length) && offset.is_multiple_of(8));
        // SAFETY: Within the mapping, as was just checked, which lasts as long as `self`, and
        // aligned, since a mapping begins at a page. In this process the memory is accessed as
        // atomic words only; what other processes and the kernel do to it is outside of the
        // language's memory model, and for an atomic word of which any bits are valid it is like
        // another thread's stores.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().byte_add(offset).cast::<u64>()) }
    }

    /// Has the kernel read up to `length` bytes from `from` into the memory at `offset`.
    ///
    /// # Panics
    /// As [`Memory::word`].
    pub(super) fn fill(
        &self,
        from: BorrowedFd<'_>,
        offset: usize,
        length: usize,
    ) -> rustix::io::Result<usize> {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.length));
        // SAFETY: `length` bytes from there are within the mapping, as was just checked, and
        // writable. Nothing in this process holds a reference to them but to atomic words (see
        // `word`). The call is made with a pointer, not through `rustix`, because its buffers are
        // references that claim the bytes for themselves.
        let read = unsafe {
            libc::read(
                from.as_raw_fd(),
                self.start.as_ptr().byte_add(offset),
                length,
            )
        };
        usize::try_from(read).map_err(|_| {
            Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
        })
    }
}

const NOT_SEALED: Error = Error::Table {
    problem: "it is not a memfd that is sealed against shrinking",
};

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: The mapping was made by `map`; all references into it borrow `self`.
        let done = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
        debug_assert!(done.is_ok(), "a whole mapping can be unmapped");
    }
}
