//! What is said to systemd, where it started us: readiness, the watchdog, and the descriptors that
//! it keeps for the case that keeper and daemon both die (sd_notify(3), FDSTORE).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;

use super::heritage::Heritage;

const READER: &str = "piton-reader";
const WRITER: &str = "piton-writer";
const TABLE: &str = "piton-table";

/// What systemd kept from an earlier life.
pub(crate) struct Stored {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
    pub(crate) table: OwnedFd,
}

/// Tells systemd something; without systemd nothing happens.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// All mount points are in place.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The daemon has died; another is on its way.
pub(crate) fn bereft() {
    tell(&[NotifyState::Status("the daemon died; starting another")]);
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// This process takes the place of the one that systemd watches.
pub(crate) fn main_process() {
    tell(&[NotifyState::MainPid(std::process::id())]);
}

/// Points systemd to the keeper that runs in this very service: the one it watched has died, and
/// the daemon made itself another while systemd started us. Returns whether that is so.
pub(crate) fn point_to(keeper: u32) -> bool {
    let group = |pid: &str| std::fs::read(format!("/proc/{pid}/cgroup")).ok();
    let watched = watches();
    let same = group("self").is_some_and(|own| group(&keeper.to_string()) == Some(own));
    if watched && same {
        tell(&[NotifyState::MainPid(keeper), NotifyState::Ready]);
    }
    watched && same
}

/// Whether systemd has started us and wants to hear.
pub(crate) fn watches() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// How often the watchdog wants to hear of us: half of its time.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Still alive.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Has systemd keep the descriptors without which accesses would be lost.
pub(crate) fn store(heritage: &Heritage) {
    let named = [
        (READER, heritage.reader.as_fd()),
        (WRITER, heritage.writer.as_fd()),
        (TABLE, heritage.table.as_fd()),
    ];
    for (name, fd) in named {
        let state = [NotifyState::FdStore, NotifyState::FdName(name)];
        if let Err(error) = sd_notify::notify_with_fds(&state, &[fd]) {
            tracing::warn!(%error, "systemd could not be given a descriptor to keep");
        }
    }
}

/// What was kept is needed no more.
pub(crate) fn forget() {
    for name in [READER, WRITER, TABLE] {
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
}

/// What systemd kept of an earlier life, if all of it is there.
pub(crate) fn stored() -> Option<Stored> {
    let fds: Vec<_> = sd_notify::listen_fds_with_names().ok()?.collect();
    let named = |wanted: &str| {
        let (number, _) = fds.iter().find(|(_, name)| name == wanted)?;
        Some(format!("/proc/self/fd/{number}"))
    };
    // Opened anew, which gives the same pipe and the same table.
    let open = |name, options: &mut OpenOptions| -> Option<OwnedFd> {
        let file: File = options.open(named(name)?).ok()?;
        Some(file.into())
    };
    Some(Stored {
        // For writing first: the read end alone would wait for a writer.
        writer: open(WRITER, File::options().write(true))?,
        reader: open(READER, File::options().read(true))?,
        table: open(TABLE, File::options().read(true).write(true))?,
    })
}
