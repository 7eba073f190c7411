//! Links served by NFS on the loopback interface, to the kernel's own client.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use autofs::RequestTable;
use bstr::{BStr, BString};
use piton_loopback::{Listener, RootKind, Server, Witness};
use piton_mount::perform::Failure;
use piton_mount::table::{self, Table};

use super::{Host, Links, Root, Seat, Serving, failure};
use crate::capabilities::{Capabilities, LOOPBACK};

/// What a loopback front end is made of. A successor has the same, and goes on.
pub struct LoopbackSettings {
    /// The port that clients have mounted. Held by the keeper as well, so that they wait while
    /// nobody serves.
    pub listener: Listener,
    /// What file handles are hashed with: 16 random bytes.
    pub secret: [u8; 16],
    /// Where marks of unfinished work stand.
    pub table: RequestTable,
    /// Where mounts are made: `/tmp_mnt`. The mount of `/home/ann` is at `/tmp_mnt/home/ann`.
    pub staging: BString,
    /// How roots get to their mount points.
    pub seat: Box<dyn Seat>,
    /// Who is told of each call and each answer.
    pub witness: Option<Arc<dyn Witness>>,
}

/// The older automounter's.
pub type LoopbackFrontEnd = Links<Loopback>;

impl LoopbackFrontEnd {
    /// A front end that serves nothing yet; it begins with the first trigger that is installed, or
    /// when it is resumed.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn new(settings: LoopbackSettings) -> io::Result<Self> {
        let host = Loopback {
            seat: settings.seat,
            witness: settings.witness,
            port: settings.listener.port(),
            server: Mutex::new(State::NotYet(settings.listener)),
        };
        let (table, staging) = (settings.table, settings.staging);
        Self::of(host, settings.secret, table, staging, None)
    }
}

/// One server for all roots, and the kernel's client.
pub struct Loopback {
    seat: Box<dyn Seat>,
    witness: Option<Arc<dyn Witness>>,
    port: u16,
    /// Whoever served first took the listener.
    server: Mutex<State>,
}

enum State {
    NotYet(Listener),
    Serves { _server: Server },
    Failed,
}

impl Host for Loopback {
    const CAPABILITIES: Capabilities = LOOPBACK;

    fn serve(&self, serving: &Serving) -> Result<(), Failure> {
        let mut state = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match std::mem::replace(&mut *state, State::Failed) {
            State::NotYet(listener) => listener,
            State::Failed => return Err(failure(rustix::io::Errno::IO, "nobody serves")),
            serves @ State::Serves { .. } => {
                *state = serves;
                return Ok(());
            }
        };
        let (tree, owner) = (serving.tree.clone(), serving.owner.clone());
        let server = Server::start_seen(listener, tree, owner, self.witness.clone());
        let server = server.map_err(|error| {
            let errno = error
                .raw_os_error()
                .unwrap_or(rustix::io::Errno::IO.raw_os_error());
            let text = format!("the loopback server does not start: {error}");
            Failure::new(errno, text)
        })?;
        *state = State::Serves { _server: server };
        Ok(())
    }

    fn seat(&self, _: &Serving, root: &Root<'_>) -> Result<(), Failure> {
        self.seat.mount(root.path, root.kind, self.port)
    }

    fn unseat(&self, root: &Root<'_>) -> Result<(), Failure> {
        self.seat.unmount(root.path, root.kind)
    }

    fn seated(&self, _: &BStr, table: &Table<'_>) -> Vec<(BString, RootKind)> {
        self.seat.mounted(table, self.port)
    }

    /// What is still mounted is served as soon as the server runs; what is not, because an earlier life
    /// had another port, is mounted anew.
    fn take_over(&self, serving: &Serving, root: &Root<'_>) -> Result<(), Failure> {
        let text = table::read().unwrap_or_default();
        let mounted = self.seat.mounted(&Table::parse(&text), self.port);
        if self.seat.is_nowhere() || mounted.contains(&(root.path.to_owned(), root.kind)) {
            return Ok(());
        }
        self.serve(serving)?;
        self.seat(serving, root)
    }

    fn abandon(&self, root: &Root<'_>) {
        self.seat.abandon(root.path);
    }
}
