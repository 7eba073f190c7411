//! The least a daemon does: mounts a tmpfs for every key below an indirect point, except for keys
//! that begin with "missing", which do not exist.
//!
//! ```sh
//! sudo unshare --mount cargo run -p autofs --example bare -- /mnt &
//! ```
//!
//! For trying things and for measuring: what a whole automounter costs more than this is its own.

use std::ffi::OsString;
use std::path::Path;

use autofs::{
    AnswerErrno, Control, Packet, PacketKind, PointKind, PointOptions, PointRoot, PreparedPoint,
    RequestPipe, UnmountFlags, own_process_group,
};
use bstr::ByteSlice;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mount::MountFlags;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target: OsString = std::env::args_os()
        .nth(1)
        .ok_or("usage: bare MOUNT_POINT")?;
    let target = Path::new(&target);
    own_process_group()?;
    let control = Control::open()?;
    let pipe = RequestPipe::new()?;
    let options = PointOptions {
        source: "bare".into(),
        ..PointOptions::default()
    };
    let point = PreparedPoint::new(PointKind::Indirect, &options, pipe.writer())?;
    let mut point = point.attach(target)?;
    let root = point
        .take_root()
        .ok_or("an indirect point without a root")?;
    loop {
        poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None)?;
        while let Some(packet) = pipe.read()? {
            let done = serve(&root, target, &packet);
            match done {
                Ok(()) => control.ready(&root, packet.token)?,
                Err(errno) => control.fail(&root, packet.token, AnswerErrno::new(errno))?,
            }
        }
    }
}

fn serve(root: &PointRoot, target: &Path, packet: &Packet) -> Result<(), Errno> {
    let errno = |error: autofs::Error| error.errno().unwrap_or(Errno::IO);
    let place = target.join(packet.name.to_path().map_err(|_| Errno::INVAL)?);
    if packet.kind == PacketKind::ExpireIndirect {
        autofs::unmount(&place, UnmountFlags::empty()).map_err(errno)?;
        return root.remove_dir(&packet.name).map_err(errno);
    }
    if packet.name.starts_with(b"missing") {
        return Err(Errno::NOENT);
    }
    root.make_dir(&packet.name, 0o755).map_err(errno)?;
    rustix::mount::mount("bare", &place, "tmpfs", MountFlags::empty(), None)
}
