//! One request of the kernel, decoded from its bytes. Pure: no descriptor, no call.

use std::fmt;
use std::num::NonZeroU32;

use bstr::BString;

use crate::device::{DeviceId, PointId};

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PacketKind {
    /// Someone accesses a child of an indirect point that is not there, or not mounted on.
    MissingIndirect,
    /// A mount below an indirect point is idle and should be unmounted.
    ExpireIndirect,
    /// Someone accesses a direct or offset point on which nothing is mounted.
    MissingDirect,
    /// What is mounted on a direct or offset point is idle and should be unmounted.
    ExpireDirect,
}

impl PacketKind {
    /// The kernel's number (`autofs_ptype_*` in `linux/auto_fs.h`); 0 to 2 are of protocols 3 and
    /// 4.
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            3 => Self::MissingIndirect,
            4 => Self::ExpireIndirect,
            5 => Self::MissingDirect,
            6 => Self::ExpireDirect,
            _ => return None,
        })
    }

    /// Returns true if and only if the request is to mount.
    pub const fn is_missing(self) -> bool {
        matches!(self, Self::MissingIndirect | Self::MissingDirect)
    }

    /// Returns true if and only if the point is an indirect one, so that the packet's name means
    /// something.
    pub const fn is_indirect(self) -> bool {
        matches!(self, Self::MissingIndirect | Self::ExpireIndirect)
    }
}

/// The kernel's number for one request, under which any number of processes may wait.
///
/// Each must be answered once ([`Control::ready`](crate::Control::ready),
/// [`Control::fail`](crate::Control::fail)), or those processes wait for ever. It is only valid
/// together with the point that sent it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct WaitToken(NonZeroU32);

impl WaitToken {
    /// The token with this number, or nothing for 0, which the kernel never gives.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, as the kernel takes it back.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for WaitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One request of the kernel (`struct autofs_v5_packet` in `linux/auto_fs.h`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// What is asked for.
    pub kind: PacketKind,
    /// What the answer must carry.
    pub token: WaitToken,
    /// The device number of the point's file system.
    pub device: DeviceId,
    /// The inode number of the point's root (direct, offset); of no use for an indirect point.
    pub inode: u64,
    /// The file-system user id of the process that was first to ask, in the user namespace of the
    /// point's creator.
    pub uid: u32,
    /// Its file-system group id.
    pub gid: u32,
    /// Its thread id, in the pid namespace of the point's creator.
    pub pid: u32,
    /// Its process id, likewise.
    pub tgid: u32,
    /// Indirect: the path below the point's root, without a leading slash. Otherwise empty: the
    /// kernel fills it with a hashed kernel address, which means nothing here.
    pub name: BString,
}

/// The layout of a packet: where each field begins. All are in the machine's byte order.
pub(crate) mod at {
    pub(super) const VERSION: usize = 0;
    pub(super) const KIND: usize = 4;
    pub(crate) const TOKEN: usize = 8;
    pub(crate) const DEVICE: usize = 12;
    pub(crate) const INODE: usize = 16;
    pub(super) const UID: usize = 24;
    pub(super) const GID: usize = 28;
    pub(super) const PID: usize = 32;
    pub(super) const TGID: usize = 36;
    pub(crate) const NAME_LENGTH: usize = 40;
    pub(crate) const NAME: usize = 44;
}

/// The longest name (`NAME_MAX`); the field has one byte more, for the NUL.
pub(crate) const NAME_MAX: usize = 255;

impl Packet {
    /// The length of a packet without the padding at its end: what a 32-bit x86 kernel sends.
    pub const LENGTH: usize = at::NAME + NAME_MAX + 1;
    /// The length of a packet on machines that align a `u64` to 8 bytes.
    pub const PADDED_LENGTH: usize = Self::LENGTH.next_multiple_of(8);

    /// Decodes what one `read(2)` of the request pipe gave.
    ///
    /// Takes 300 and 304 bytes, of which the last four are padding. Allocates for the name of an
    /// indirect request only.
    ///
    /// # Errors
    ///
    /// Anything else than one well-formed packet of protocol 5. The error carries the token where
    /// that much could be read, so that even such a request can be answered.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        let token = u32_at(bytes, at::TOKEN).and_then(WaitToken::new);
        let device = u32_at(bytes, at::DEVICE).map(DeviceId::from_raw);
        let inode = u64_at(bytes, at::INODE);
        let wrong = |problem| PacketError {
            problem,
            answer_to: token
                .zip(device.zip(inode))
                .map(|(token, (device, inode))| (PointId { device, inode }, token)),
        };

        if bytes.len() != Self::LENGTH && bytes.len() != Self::PADDED_LENGTH {
            return Err(wrong(PacketProblem::Length { found: bytes.len() }));
        }
        let field = |at| u32_at(bytes, at).unwrap_or_default();
        let version = field(at::VERSION).cast_signed();
        if version != 5 {
            return Err(wrong(PacketProblem::Version { found: version }));
        }
        let number = field(at::KIND).cast_signed();
        let kind = PacketKind::from_number(number)
            .ok_or_else(|| wrong(PacketProblem::Kind { found: number }))?;
        let (Some(token), Some(device), Some(inode)) = (token, device, inode) else {
            return Err(wrong(PacketProblem::NoToken));
        };
        let name = if kind.is_indirect() {
            name_in(bytes, field(at::NAME_LENGTH))
                .map_err(wrong)?
                .into()
        } else {
            BString::default()
        };
        Ok(Self {
            kind,
            token,
            device,
            inode,
            uid: field(at::UID),
            gid: field(at::GID),
            pid: field(at::PID),
            tgid: field(at::TGID),
            name,
        })
    }

    /// The point that sent the request. For an indirect point only the device is to be compared.
    pub fn point(&self) -> PointId {
        PointId {
            device: self.device,
            inode: self.inode,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn name_in(bytes: &[u8], length: u32) -> Result<&[u8], PacketProblem> {
    let wrong = PacketProblem::Name { length };
    if length == 0 || length as usize > NAME_MAX {
        return Err(wrong);
    }
    let name = bytes
        .get(at::NAME..at::NAME + length as usize)
        .ok_or(wrong)?;
    if name.contains(&0) {
        return Err(wrong);
    }
    Ok(name)
}

/// A request that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketError {
    /// What is wrong with it.
    pub problem: PacketProblem,
    /// Whom to answer nevertheless, where that could be read.
    pub answer_to: Option<(PointId, WaitToken)>,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)?;
        if let Some((point, token)) = self.answer_to {
            write!(f, " (request {token} of {point})")?;
        }
        Ok(())
    }
}

impl std::error::Error for PacketError {}

/// What is wrong with a request that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketProblem {
    /// It is of no type of protocol 5.
    #[error("autofs packet of type {found}, which protocol 5 does not have")]
    Kind {
        /// The type.
        found: i32,
    },
    /// It is not as long as a packet is.
    #[error("autofs packet of {found} bytes, not 300 or 304")]
    Length {
        /// Its length, in bytes.
        found: usize,
    },
    /// Its name is empty, too long, or contains a NUL.
    #[error("autofs packet with a name of {length} bytes that is no name")]
    Name {
        /// The length the packet claims, in bytes.
        length: u32,
    },
    /// Its token is 0.
    #[error("autofs packet without a token")]
    NoToken,
    /// It is of another protocol.
    #[error("autofs packet of protocol {found}, not 5")]
    Version {
        /// The protocol's version.
        found: i32,
    },
}

#[cfg(test)]
mod tests;
