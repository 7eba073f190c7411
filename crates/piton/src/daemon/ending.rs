//! How it ends: all is unmounted, left to those who use it, or handed to a successor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_control::line::Word;

use super::runtime::Runtime;
use super::turns::Doors;
use crate::exit::Exit;

/// Longest time in which what is under way is finished for a successor.
const HAND_OVER_MOST: Duration = Duration::from_secs(2);

/// Pause between two looks whether it is.
pub(super) const HAND_OVER_PAUSE: Duration = Duration::from_millis(10);

/// What stays mounted, with the reason.
pub(super) type Left = Vec<(BString, Arc<str>)>;

/// How the loop ended.
pub(crate) struct Ended {
    /// What stays mounted, with the reason.
    pub(crate) left: Left,
    /// Why it ended, if nobody wanted that.
    pub(crate) failed: Option<String>,
}

impl Runtime {
    /// What stays mounted, with the reason, once the end has come.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        let left = self.left.take()?;
        self.wind_up(&left);
        let failed = self.failed.take();
        Some(Ended { left, failed })
    }

    fn wind_up(&self, left: &[(BString, Arc<str>)]) {
        self.front_end.detach();
        self.worker.workers.end();
        if self.force {
            self.detach_all(left);
        }
        if !self.detached {
            self.front_end.abandon();
        }
        if self.force {
            for (path, _) in left {
                self.worker.staging.clear(path.as_bstr());
            }
        }
        if !self.detached {
            self.worker.remove_made();
        }
    }

    /// Detaches what is busy.
    fn detach_all(&self, left: &[(BString, Arc<str>)]) {
        let in_place = self.front_end.capabilities().in_place;
        for (path, _) in left {
            let place = self.worker.staging.place(path.as_bstr());
            // A mount point is elsewhere then.
            if !in_place && piton_mount::table::covered(place.as_bstr()) == Ok(false) {
                continue;
            }
            if let Err(error) = piton_mount::detach(place.as_bstr()) {
                tracing::warn!(%path, "could not be detached: {}", error.text);
            }
        }
    }

    pub(super) fn hear_keeper(&mut self, doors: &Doors) {
        loop {
            let (word, renewed) = self.line.hear();
            if renewed {
                if let Err(error) = doors.keeper(self.line.bell()) {
                    tracing::error!(%error, "the keeper is not heard");
                }
                continue;
            }
            match word {
                Some(Word::HandOver) => {
                    tracing::info!("handing over to a successor");
                    self.handing_over = Some(Instant::now());
                    if let Some(bell) = self.front_end.readable() {
                        doors.close(bell);
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Ends this process when a successor is to serve and nothing is under way: what was not read
    /// waits in the pipe, and what was not answered stands in the table.
    pub(crate) fn hand_over(&self) {
        let Some(since) = self.handing_over else {
            return;
        };
        if self.engine.is_idle() || since.elapsed() >= HAND_OVER_MOST {
            // No destructor runs, so that nobody who waits is answered.
            std::process::exit(Exit::HANDED_OVER);
        }
    }
}
