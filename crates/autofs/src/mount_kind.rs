//! `statmount(2)`: of what kind a mounted file system is, without asking the file system, and with
//! what options.

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

/// The beginning of `struct statmount`, whose text follows after 512 bytes.
#[repr(C)]
struct Answer {
    size: u32,
    /// Where in the text they begin.
    options: u32,
    told: u64,
    device_major: u32,
    device_minor: u32,
    magic: u64,
    rest: [u64; 60],
}

/// [`Answer`], with room for text.
#[repr(C)]
struct Worded {
    answer: Answer,
    text: [u8; 4096],
}

/// `STATMOUNT_SB_BASIC`.
const BASIC: u64 = 1;

/// `STATMOUNT_MNT_OPTS`, of Linux 6.11.
const OPTIONS: u64 = 0x80;

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
    let mut answer = MaybeUninit::<Answer>::zeroed();
    // SAFETY: it is as long as is said, and nobody else refers to it.
    unsafe {
        ask(
            mount,
            BASIC,
            answer.as_mut_ptr().cast(),
            size_of::<Answer>(),
        )
    }?;
    // SAFETY: it is all integers, and was zeroed before the kernel wrote to it.
    let answer = unsafe { answer.assume_init() };
    told(&answer, BASIC)?;
    Ok(answer.magic)
}

/// The options that the file system of a mount itself has, with commas between them, as
/// `proc_pid_mountinfo(5)` has them in its last field but without `ro` and `rw`. The number is that of
/// [`mount_magic`].
///
/// The file system's code is asked, but no server.
///
/// # Errors
///
/// Those of [`mount_magic`]; `EOPNOTSUPP` before Linux 6.11, `EOVERFLOW` if they have more than some
/// 4,000 bytes.
pub fn mount_options(mount: u64) -> Result<Vec<u8>> {
    let mut answer = Box::new(MaybeUninit::<Worded>::zeroed());
    // SAFETY: it is as long as is said, and nobody else refers to it.
    unsafe {
        ask(
            mount,
            OPTIONS,
            answer.as_mut_ptr().cast(),
            size_of::<Worded>(),
        )
    }?;
    // SAFETY: it is all integers, and was zeroed before the kernel wrote to it.
    let Worded { answer, text } = unsafe { answer.assume_init_ref() };
    told(answer, OPTIONS)?;
    let text = text.get(answer.options as usize..).unwrap_or_default();
    let end = text.iter().position(|byte| *byte == 0);
    Ok(text[..end.unwrap_or(text.len())].to_vec())
}

/// That the kernel knew what was wanted.
fn told(answer: &Answer, wanted: u64) -> Result<()> {
    if answer.told & wanted == 0 {
        return Err(Error::call("statmount", Errno::OPNOTSUPP));
    }
    Ok(())
}

/// Has the kernel tell what is wanted of a mount.
///
/// # Safety
///
/// `length` bytes at `answer` can be written to, and nobody else refers to them.
unsafe fn ask(mount: u64, wanted: u64, answer: *mut u8, length: usize) -> Result<()> {
    let request = Request {
        size: size_of::<Request>() as u32,
        spare: 0,
        mount,
        wanted,
    };
    // SAFETY: the kernel reads `size` bytes of the request, all of which are initialised, and
    // writes at most `length` bytes to the answer, which the caller vouches for.
    let returned = unsafe { libc::syscall(STATMOUNT, &raw const request, answer, length, 0) };
    if returned != 0 {
        let error = std::io::Error::last_os_error();
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        return Err(Error::call("statmount", errno));
    }
    Ok(())
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

    /// On older kernels nothing is told, and nothing wrong.
    #[test]
    fn the_options_are_those_of_the_table() {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        let number = |flag| {
            let found = statx(CWD, "/", AtFlags::empty(), flag).unwrap();
            found.stx_mnt_id
        };
        let in_table = number(StatxFlags::MNT_ID).to_string();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut lines = table.lines();
        let line = lines.find(|line| line.split(' ').next() == Some(&in_table));
        let expected = line.unwrap().rsplit(' ').next().unwrap();
        let expected = expected
            .split(',')
            .filter(|word| !["rw", "ro"].contains(word));
        let expected: Vec<_> = expected.collect();
        match mount_options(number(StatxFlags::from_bits_retain(0x4000))) {
            Ok(found) => assert_eq!(String::from_utf8(found).unwrap(), expected.join(",")),
            Err(error) => assert_eq!(error.errno(), Some(Errno::OPNOTSUPP)),
        }
    }
}
