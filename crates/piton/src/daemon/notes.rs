//! The engine's notes as log records. `request` is one number from access to answer.

use piton_engine::cause::Cause;
use piton_engine::command::Note;
use piton_map::lookup::Miss;

/// Writes one note.
pub(crate) fn write(note: &Note) {
    match note {
        Note::Accessed {
            job,
            path,
            requester,
        } => {
            tracing::trace!(request = job.0, %path, pid = requester.pid, uid = requester.uid, "access");
        }
        Note::Mounted {
            job,
            path,
            source,
            took_ms,
        } => {
            tracing::debug!(request = job.0, %path, %source, took_ms, "mounted");
        }
        Note::Failed {
            job,
            path,
            cause,
            requester,
        } => {
            let (request, pid, uid) = (job.0, requester.pid, requester.uid);
            match cause {
                // What is foreign is said once for each namespace, and not for each access.
                Cause::Lookup(Miss::NoSuchKey) | Cause::Hidden => {
                    tracing::debug!(request, %path, pid, uid, "{cause}");
                }
                _ => tracing::warn!(request, %path, pid, uid, "not mounted: {cause}"),
            }
        }
        Note::Unmounted { path } => tracing::debug!(%path, "unmounted"),
        Note::Stays { path, why } => tracing::info!(%path, "stays mounted: {why}"),
        Note::LetGo { path, source, why } => {
            tracing::warn!(%path, %source, "left to its users, others get it elsewhere: {why}");
        }
        Note::CannotMove { path, why } => tracing::warn!(%path, "does not move: {why}"),
        Note::Moves { path, to } => {
            tracing::info!(%path, server = %to, "unmounted while idle, to come from another server");
        }
        Note::FromDrained { path, server } => {
            tracing::warn!(%path, %server, "mounted from a drained server: there is no other");
        }
        Note::OffsetMissing { path, failure } => {
            tracing::warn!(%path, "offset left out: {}", failure.text);
        }
        Note::Installed { path } => tracing::debug!(%path, "mount point in place"),
        Note::NotInstalled { path, failure } => {
            tracing::error!(%path, "mount point not in place: {}", failure.text);
        }
        Note::Removed { path } => tracing::debug!(%path, "mount point gone"),
        Note::ServerDied { server, why, .. } => {
            tracing::warn!(%server, "server is taken for dead: {why}");
        }
        Note::ServerBack { server, dead_ms } => {
            let seconds = dead_ms.div_ceil(1_000);
            tracing::info!(%server, "server answers again, after {seconds} s");
        }
        Note::Diagnosed(diagnostic) => {
            tracing::warn!(origin = %diagnostic.origin(), "{}", diagnostic.message);
        }
    }
}
