//! Linux's kernel autofs protocol, version 5, as a safe library.
//!
//! The kernel's autofs file system makes *triggers*: places whose access wakes a daemon. This crate
//! makes trigger mounts, reads the kernel's requests, answers them, and finds what an earlier
//! daemon left behind. It knows nothing of maps, of what to mount, or of when: that is the
//! caller's.
//!
//! # Vocabulary
//!
//! - A *point* is one autofs mount ([`PointKind`]): *indirect* (its missing children trigger),
//!   *direct* (its root triggers), *offset* (a direct one below another mount).
//! - A *packet* is one request of the kernel ([`Packet`]). It names its point by device number and
//!   inode ([`PointId`]) and carries a [`WaitToken`] which must be answered exactly once, always.
//! - A daemon is known to the kernel by its *process group*: processes of that group see a point's
//!   bare tree and never trigger ([`own_process_group`]). All others trigger and may not change the
//!   tree.
//! - A point whose pipe has lost its reader is *catatonic*: nothing triggers until it is
//!   reconnected ([`reconnect`]).
//!
//! # The life of one request
//!
//! ```no_run
//! use autofs::{Control, PointKind, PointOptions, PreparedPoint, RequestPipe, own_process_group};
//!
//! # fn main() -> Result<(), autofs::Error> {
//! own_process_group()?;
//! let control = Control::open()?;
//! let pipe = RequestPipe::new()?;
//! let point = PreparedPoint::new(PointKind::Indirect, &PointOptions::default(), pipe.writer())?;
//! let id = point.id(); // known before the first access can happen
//! let point = point.attach("/net".as_ref())?;
//! let root = point.root().expect("an indirect point keeps its root");
//! loop {
//!     // … wait until `pipe` is readable …
//!     let Some(packet) = pipe.read()? else { continue };
//!     assert_eq!(packet.point(), id);
//!     root.make_dir(&packet.name, 0o755)?;
//!     // … mount something on that directory …
//!     control.ready(root, packet.token)?;
//! }
//! # }
//! ```
//!
//! # The death of a daemon
//!
//! As long as somebody holds the pipe's read end, requests wait in it. What was read and not
//! answered stands in a [`RequestTable`], if it was read with [`RequestPipe::read_tracked`]. Whoever
//! inherits both loses nothing.
//!
//! # What is absent
//!
//! No policy, no log, no thread, no clock, and no async runtime. Protocol versions 3 and 4 are not
//! spoken. Whatever `rustix` already wraps safely (`open_tree`, `move_mount`, `umount2` of other
//! file systems) is not wrapped again.
//!
//! This is the only crate of its workspace in which `unsafe` is allowed: `ioctl(2)`,
//! `mount_setattr(2)`, `statmount(2)`, and memory shared between processes.

mod answer_errno;
mod btrfs;
mod control;
mod device;
mod error;
mod existing;
mod group;
mod ioctl;
mod kernel_text;
mod loopdev;
mod mount_attr;
mod mount_kind;
mod packet;
mod pipe;
mod point;
mod root;
mod still;
mod table;

pub use answer_errno::AnswerErrno;
pub use btrfs::{Subvolume, destroy_subvolume, snapshot_subvolume, subvolume};
pub use control::{Control, Covered, ExpireHow, MountedHere, Requester};
pub use device::{DeviceId, PointId};
pub use error::{Error, Result};
pub use existing::{ExistingPoint, ExistingPoints, PipeState, existing_points, reconnect};
pub use group::{own_process_group, process_group};
pub use kernel_text::kernel_text;
pub use loopdev::{LoopDevice, LoopOptions};
pub use mount_attr::{
    AccessTime, MountAttributes, Propagation, set_mount_attributes, set_mount_attributes_at,
};
pub use mount_kind::{mount_magic, mount_options};
pub use packet::{Packet, PacketError, PacketKind, PacketProblem, WaitToken};
pub use pipe::RequestPipe;
pub use point::{AttachedPoint, Owner, PointKind, PointOptions, PreparedPoint, unmount};
pub use root::PointRoot;
pub use still::{DeviceMapper, freeze, thaw};
pub use table::{Mark, Marked, RequestTable, Slot, Tracked, Unanswered};

pub use rustix::io::Errno;
pub use rustix::mount::{MountAttrFlags, UnmountFlags};
pub use rustix::process::Pid;
