//! Where the log goes: standard error, or the journal where systemd runs us or where nobody looks
//! at standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Starting, stopping, failures.
    #[default]
    Normal,
    /// Every mount and unmount (`-v`).
    Verbose,
    /// Every access (`-d`).
    Debug,
}

/// Begins logging. Called once, before any thread is started. In the background the journal is
/// preferred, if there is one.
pub(crate) fn begin(verbosity: Verbosity, background: bool) {
    let level = match verbosity {
        Verbosity::Normal => LevelFilter::INFO,
        Verbosity::Verbose => LevelFilter::DEBUG,
        Verbosity::Debug => LevelFilter::TRACE,
    };
    if (background || to_journal())
        && let Ok(journal) = tracing_journald::layer()
    {
        tracing_subscriber::registry()
            .with(journal.with_filter(level))
            .init();
        return;
    }
    let plain = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .with_filter(level);
    tracing_subscriber::registry().with(plain).init();
}

/// Whether standard error is the journal (systemd.exec(5), JOURNAL_STREAM).
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}
