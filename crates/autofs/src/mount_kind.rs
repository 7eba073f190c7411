//! `statmount(2)`: of what kind a mounted file system is, without asking the file system.

use std::mem::MaybeUninit;

use rustix::io::Errno;

use crate::error::{Error, Result};

/// `struct mnt_id_req`, version 0.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    wanted: u64,
}

/// The beginning of `struct statmount`, whose text follows after 512 bytes; none is asked for.
#[repr(C)]
struct Answer {
    size: u32,
    options: u32,
    told: u64,
    device_major: u32,
    device_minor: u32,
    magic: u64,
    rest: [u64; 60],
}

/// `STATMOUNT_SB_BASIC`.
const BASIC: u64 = 1;

/// The same on all architectures.
const STATMOUNT: libc::c_long = 457;

/// The magic number (`linux/magic.h`) of the file system of a mount, given the number that
/// `statx(2)` calls `STATX_MNT_ID_UNIQUE`. Such a number is never used again, and a mount does not
/// change its file system: the answer may be kept.
///
/// Neither the file system nor its server is asked, and no path is walked.
///
/// # Errors
///
/// `ENOSYS` before Linux 6.8, `ENOENT` if this mount namespace has no such mount, `EPERM` if it is
/// out of reach.
pub fn mount_magic(mount: u64) -> Result<u64> {
    let request = Request {
        size: size_of::<Request>() as u32,
        spare: 0,
        mount,
        wanted: BASIC,
    };
    let mut answer = MaybeUninit::<Answer>::zeroed();
    // SAFETY: the kernel reads `size` bytes of the request, all of which are initialised, and
    // writes at most the given number of bytes to the answer, which is as long as that and to
    // which nobody else refers.
    let returned = unsafe {
        libc::syscall(
            STATMOUNT,
            &raw const request,
            answer.as_mut_ptr(),
            size_of::<Answer>(),
            0,
        )
    };
    if returned != 0 {
        let error = std::io::Error::last_os_error();
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        return Err(Error::call("statmount", errno));
    }
    // SAFETY: it is all integers, and was zeroed before the kernel wrote to it.
    let answer = unsafe { answer.assume_init() };
    if answer.told & BASIC == 0 {
        return Err(Error::call("statmount", Errno::OPNOTSUPP));
    }
    Ok(answer.magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_the_kernels() {
        assert_eq!((size_of::<Request>(), size_of::<Answer>()), (24, 512));
    }

    #[test]
    fn the_magic_of_proc_is_told_and_that_of_no_mount_is_not() {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        let unique = StatxFlags::from_bits_retain(0x4000);
        let proc = statx(CWD, "/proc", AtFlags::empty(), unique).unwrap();
        assert_eq!(mount_magic(proc.stx_mnt_id).unwrap(), 0x9fa0);
        assert_eq!(
            mount_magic(1 << 62).unwrap_err().errno(),
            Some(Errno::NOENT)
        );
    }
}
