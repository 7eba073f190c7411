//! Which front end takes accesses in.

use std::path::Path;
use std::sync::Arc;

use autofs::{RequestPipe, RequestTable};
use piton_frontend::{
    Audience, FrontEnd, FuseFrontEnd, FuseSettings, KernelFrontEnd, KernelSeat, KernelSettings,
    LoopbackFrontEnd, LoopbackSettings, Seat, ServeOnly,
};
use piton_loopback::Witness;
use piton_mount::Workers;

use super::calls::CallLog;
use super::options::{Front, Fuse, Links};
use crate::keeper::heritage::Heritage;

/// The front end that was asked for, on what the keeper keeps for it. A user's helpers are asked by
/// `workers` whether they answer.
///
/// # Errors
/// It cannot be, in words.
pub(crate) fn front_end(
    front: &Front,
    ignore_mounts: bool,
    heritage: Heritage,
    workers: Option<&Workers>,
) -> Result<Arc<dyn FrontEnd>, String> {
    let heirloom = |error: autofs::Error| format!("what the keeper keeps: {error}");
    let Heritage {
        reader,
        writer,
        table,
        links,
        ..
    } = heritage;
    let table = RequestTable::from_fd(table).map_err(heirloom)?;
    match front {
        Front::Autofs => {
            let pipe = RequestPipe::from_fds(reader, writer).map_err(heirloom)?;
            let settings = KernelSettings {
                ignore: ignore_mounts,
            };
            let made = KernelFrontEnd::new(settings, pipe, table);
            Ok(Arc::new(made.map_err(|error| no_autofs(&error))?))
        }
        Front::Links(settings) => {
            let links = links.ok_or("the keeper keeps no port to serve mount points")?;
            Ok(Arc::new(loopback(settings, links.into_parts()?, table)?))
        }
        Front::Fuse(settings) => {
            let links = links.ok_or("the keeper keeps no secret to serve mount points")?;
            let made = fuse(settings, links.into_secret()?, table, workers);
            Ok(Arc::new(made?))
        }
    }
}

fn fuse(
    settings: &Fuse,
    secret: [u8; 16],
    table: RequestTable,
    workers: Option<&Workers>,
) -> Result<FuseFrontEnd, String> {
    let staging = settings.place();
    tracing::info!(directory = %settings.directory, %staging, "mount points are file systems of this user");
    FuseFrontEnd::new(FuseSettings {
        secret,
        table,
        staging,
        // Helpers mount for the user alone, so nobody else could follow the links.
        audience: Audience::Owner,
        workers: workers.cloned(),
        give_up: settings.give_up,
    })
    .map_err(|error| format!("mount points cannot be served: {error}"))
}

fn loopback(
    settings: &Links,
    (listener, secret): (piton_loopback::Listener, [u8; 16]),
    table: RequestTable,
) -> Result<LoopbackFrontEnd, String> {
    let seat: Box<dyn Seat> = match settings.serve_only {
        true => Box::new(ServeOnly),
        false => Box::new(KernelSeat),
    };
    let witness = settings.trace_calls.as_deref().map(witness).transpose()?;
    tracing::info!(port = listener.port(), staging = %settings.staging, "mount points are served as links");
    LoopbackFrontEnd::new(LoopbackSettings {
        listener,
        secret,
        table,
        staging: settings.staging.clone(),
        seat,
        witness,
    })
    .map_err(|error| format!("mount points cannot be served: {error}"))
}

/// Who writes calls into a file.
fn witness(path: &Path) -> Result<Arc<dyn Witness>, String> {
    let log = CallLog::begin(path);
    let log =
        log.map_err(|error| format!("{}: calls cannot be logged: {error}", path.display()))?;
    Ok(Arc::new(log))
}

fn no_autofs(error: &autofs::Error) -> String {
    format!("{error}\n  the kernel needs autofs (CONFIG_AUTOFS_FS, `modprobe autofs4`)")
}
