//! The errors that a waiting process can be given.

use rustix::io::Errno;

/// An errno with which a request may be failed.
///
/// **Invariant:** the process that waits gets exactly this number. Three errnos do not reach it,
/// because the kernel's own path walk uses them as signals: `ESTALE` and `ECHILD` make it ask again
/// (a second request for one access), `EISDIR` becomes `ENOENT`. Numbers that are no errno of user
/// space (512 and above, which the kernel uses to restart system calls) are no answer either. All
/// of these are given as `EIO`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AnswerErrno(Errno);

impl AnswerErrno {
    /// The answer for a failure without a better name.
    pub const IO: Self = Self(Errno::IO);
    /// The answer for a key that is not there.
    pub const NOENT: Self = Self(Errno::NOENT);

    /// The largest errno that user space knows (`EHWPOISON`; `asm-generic/errno.h`).
    const LAST: i32 = 133;

    /// The answer that comes nearest to `errno`: itself, or `EIO` where it would not arrive.
    pub fn new(errno: Errno) -> Self {
        let kept = match errno {
            Errno::STALE | Errno::CHILD | Errno::ISDIR => false,
            other => (1..=Self::LAST).contains(&other.raw_os_error()),
        };
        Self(if kept { errno } else { Errno::IO })
    }

    /// The errno that the waiting process gets.
    pub fn errno(self) -> Errno {
        self.0
    }

    /// The `status` field of the FAIL ioctl: the one place where the sign is turned.
    pub(crate) fn status(self) -> i32 {
        -self.0.raw_os_error()
    }
}

impl From<Errno> for AnswerErrno {
    fn from(errno: Errno) -> Self {
        Self::new(errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_arrives() {
        for errno in [
            Errno::NOENT,
            Errno::HOSTDOWN,
            Errno::TIMEDOUT,
            Errno::ACCESS,
            Errno::LOOP,
        ] {
            assert_eq!(AnswerErrno::new(errno).errno(), errno);
            assert_eq!(AnswerErrno::new(errno).status(), -errno.raw_os_error());
        }
    }

    #[test]
    fn turns_what_the_kernel_would_retry_or_rewrite_into_eio() {
        let restart = Errno::from_raw_os_error(512);
        for errno in [Errno::STALE, Errno::CHILD, Errno::ISDIR, restart] {
            assert_eq!(AnswerErrno::new(errno), AnswerErrno::IO);
        }
        let last = Errno::from_raw_os_error(133);
        assert_eq!(AnswerErrno::new(last).errno(), last);
        assert_eq!(
            AnswerErrno::new(Errno::from_raw_os_error(134)),
            AnswerErrno::IO
        );
    }
}
