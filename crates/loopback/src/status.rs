//! Results of NFS and MOUNT (RFC 1813), and what they are made of.

use rustix::io::Errno;

/// `nfsstat3`, as far as it is used; `mountstat3` has the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    Perm = 1,
    NoEnt = 2,
    Io = 5,
    NxIo = 6,
    Acces = 13,
    NoDev = 19,
    NotDir = 20,
    IsDir = 21,
    Inval = 22,
    Rofs = 30,
    NameTooLong = 63,
    Stale = 70,
    BadHandle = 10001,
    BadCookie = 10003,
    TooSmall = 10005,
    /// "Jukebox": not now, come again.
    Later = 10008,
}

impl Status {
    /// The result that means the same as an errno. What has no number of its own is EIO: so that is
    /// what programs get for a server that is silent.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::PERM => Self::Perm,
            Errno::NOENT => Self::NoEnt,
            Errno::NXIO => Self::NxIo,
            Errno::ACCESS => Self::Acces,
            Errno::NODEV => Self::NoDev,
            Errno::NOTDIR => Self::NotDir,
            Errno::INVAL => Self::Inval,
            Errno::NAMETOOLONG => Self::NameTooLong,
            Errno::AGAIN => Self::Later,
            // Not ESTALE: the client would look the name up again, without end.
            _ => Self::Io,
        }
    }

    pub(crate) fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_meaning_where_nfs_has_a_word_for_it() {
        let numbers = |errno: Errno| Status::of(errno).number();
        for errno in [
            Errno::PERM,
            Errno::NOENT,
            Errno::IO,
            Errno::NXIO,
            Errno::ACCESS,
            Errno::NODEV,
            Errno::NOTDIR,
            Errno::INVAL,
        ] {
            assert_eq!(numbers(errno), errno.raw_os_error().cast_unsigned());
        }
        assert_eq!(numbers(Errno::NAMETOOLONG), 63);
        assert_eq!(numbers(Errno::AGAIN), 10008);
        for errno in [Errno::TIMEDOUT, Errno::HOSTDOWN, Errno::STALE, Errno::LOOP] {
            assert_eq!(numbers(errno), 5);
        }
    }
}
