//! `piton upgrade`: another version takes over from the running daemon, without a failed access.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use piton_control::{Client, ClientError, RuntimeDir};

use super::talk::{absolute, complain, print};
use crate::exit::Exit;

/// How long the successor may take to serve: maps may be large.
const TAKE_OVER_MOST: Duration = Duration::from_secs(60);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program that takes over [this one].
    #[arg(long, value_name = "PROGRAM")]
    program: Option<PathBuf>,
}

/// Runs it. Returns once the successor serves.
pub(crate) fn run(args: &Args) -> Exit {
    match upgrade(args) {
        Ok(said) => print(&said),
        Err(why) => complain(&why),
    }
}

fn upgrade(args: &Args) -> Result<String, String> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| error.to_string())?,
    };
    let program = program
        .canonicalize()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let program = absolute(&program)?;
    let dir = RuntimeDir::from_env();
    let words = |error: ClientError| error.to_string();
    let mut client = Client::connect(&dir).map_err(words)?;
    let before = client.status(None).map_err(words)?.daemon.pid;
    match client.upgrade(&program) {
        // The daemon may be gone before its answer is out: who serves now is asked anyway.
        Ok(()) | Err(ClientError::Lost) => {}
        Err(error) => return Err(words(error)),
    }
    let until = Instant::now() + TAKE_OVER_MOST;
    while Instant::now() < until {
        // In between a connection may be cut: who answers next is another.
        let status = Client::connect(&dir).and_then(|mut client| client.status(None));
        if let Ok(status) = status
            && status.daemon.pid != before
        {
            let (pid, version) = (status.daemon.pid, status.version);
            let runs = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
            if runs.is_some_and(|runs| runs != std::path::Path::new(&program)) {
                return Err(format!(
                    "{program} could not take over and the version that ran before goes on \
                     (process {pid}, {version}); the log says why"
                ));
            }
            return Ok(format!("piton {version} serves now, as process {pid}\n"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err("nobody has taken over in time; see `piton status` and the log".into())
}
