//! Hands that reach where waiting may be needed: what cannot be done at once a worker does.

use std::time::{Duration, Instant};

use bstr::{BStr, BString};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::error::Error;
use crate::hands::{NO_MOUNT, System, sweep};
use crate::lane::Hold;
use crate::limits;
use crate::perform::{Hands, MountJob};
use crate::snapshot;
use crate::types;
use crate::unmount::standing;
use crate::wire::{Act, Answer, At, Means, Request};
use crate::workers::{Asked, Workers};

/// This thread for what waits for nobody, workers for the rest.
pub(crate) struct Far<'a> {
    near: System<'a>,
    workers: &'a Workers,
    hold: &'a Hold,
}

impl<'a> Far<'a> {
    pub(crate) fn new(near: System<'a>, workers: &'a Workers, hold: &'a Hold) -> Self {
        Self {
            near,
            workers,
            hold,
        }
    }

    /// Has a worker do it by `until`, and lets it say itself if it does not succeed in time.
    fn ask(&self, path: &BStr, act: Act, until: Instant, with: With<'_>) -> Result<Answer, Error> {
        let left = until.saturating_duration_since(Instant::now());
        let request = Request::At(Box::new(At {
            root: self.near.root.into(),
            path: path.into(),
            act,
            means: Means::new(self.near.settings, left),
        }));
        let answer = self.workers.call(&Asked {
            request: &request,
            fd: with.fd,
            about: path,
            until: until + with.grace,
            hold: self.hold,
            haunts: with.haunts,
        })?;
        match answer {
            Answer::Failed(errno, words) => Err(Error::Trigger {
                errno: Errno::from_raw_os_error(errno),
                words,
            }),
            answer => Ok(answer),
        }
    }

    /// When something must be over that takes back what was done: that must be possible when the
    /// time for doing has run out.
    fn late(&self) -> Instant {
        self.near.until.max(Instant::now() + limits::UNMOUNT_TIME)
    }

    fn mount_far(&self, job: &MountJob<'_>) -> Result<bool, Error> {
        let target = job.target;
        let by_program = self.near.settings.program.is_some();
        let helper = by_program || types::needs_helper(job.attempt);
        // What is there already is not ours to sweep.
        let free = match standing(self.near.root, target) {
            Ok((place, false)) => Some(place),
            _ => None,
        };
        let act = Act::Mount {
            attempt: job.attempt.clone(),
            propagation: job.propagation,
        };
        let with = With {
            grace: if snapshot::is_snapshot(job.attempt) {
                limits::SNAPSHOT_GRACE
            } else if helper {
                limits::WORKER_GRACE
            } else {
                Duration::ZERO
            },
            haunts: free.as_ref().map(|place| place.as_ref()),
            ..With::default()
        };
        let result = self.ask(target, act, self.near.share(job.attempts_left), with);
        match result {
            Ok(answer) => Ok(answer == Answer::Yes),
            Err(Error::Overran { milliseconds, .. }) => {
                if let Some(place) = &free {
                    sweep(place.as_ref(), NO_MOUNT);
                }
                Err(Error::Overran {
                    program: format!("mounting {}", job.attempt.source),
                    path: target.into(),
                    milliseconds,
                    words: "who should answer for it is silent".into(),
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// What goes with a request.
#[derive(Default)]
struct With<'a> {
    fd: Option<BorrowedFd<'a>>,
    /// Time beyond the deadline, for a worker that has a deadline to keep itself.
    grace: Duration,
    /// Where it may be mounted later by what cannot be killed.
    haunts: Option<&'a BStr>,
}

impl Hands for Far<'_> {
    fn make_directory(&self, path: &BStr) -> Result<Vec<BString>, Error> {
        match self.near.make_directory(path) {
            Err(Error::Elsewhere(_)) => {
                match self.ask(path, Act::MakeDirectory, self.near.until, With::default())? {
                    Answer::Made(made) => Ok(made),
                    _ => Ok(Vec::new()),
                }
            }
            other => other,
        }
    }

    fn remove_directory(&self, path: &BStr) -> Result<(), Error> {
        match self.near.remove_directory(path) {
            Err(Error::Elsewhere(_)) => {
                self.ask(path, Act::RemoveDirectory, self.late(), With::default())?;
                Ok(())
            }
            other => other,
        }
    }

    fn mount(&self, job: &MountJob<'_>) -> Result<bool, Error> {
        match self.near.mount(job) {
            Err(Error::Elsewhere(_)) => self.mount_far(job),
            other => other,
        }
    }

    fn unmount(&self, target: &BStr, helper: bool) -> Result<(), Error> {
        match self.near.unmount(target, helper) {
            Err(Error::Elsewhere(_)) => {
                let with = With {
                    grace: limits::WORKER_GRACE,
                    ..With::default()
                };
                match self.ask(target, Act::Unmount { helper }, self.late(), with) {
                    // It may have gone in the last moment.
                    Err(_) if matches!(standing(self.near.root, target), Ok((_, false))) => Ok(()),
                    other => other.map(drop),
                }
            }
            other => other,
        }
    }

    fn let_go(&self, target: &BStr) -> Result<(), Error> {
        match self.near.let_go(target) {
            Err(Error::Elsewhere(_)) => {
                // The place is free at once; to take leave of a dead server may take minutes, and
                // can be left to whoever has begun it.
                let until = Instant::now() + limits::LEAVE_TIME;
                match self.ask(target, Act::LetGo, until, With::default()) {
                    Err(_) if matches!(standing(self.near.root, target), Ok((_, false))) => Ok(()),
                    other => other.map(drop),
                }
            }
            other => other,
        }
    }

    fn symlink(&self, path: &BStr, to: &BStr) -> Result<bool, Error> {
        match self.near.symlink(path, to) {
            Err(Error::Elsewhere(_)) => {
                let act = Act::Symlink(to.into());
                let answer = self.ask(path, act, self.near.until, With::default())?;
                Ok(answer == Answer::Yes)
            }
            other => other,
        }
    }

    fn remove_symlink(&self, path: &BStr) -> Result<(), Error> {
        match self.near.remove_symlink(path) {
            Err(Error::Elsewhere(_)) => {
                self.ask(path, Act::RemoveSymlink, self.late(), With::default())?;
                Ok(())
            }
            other => other,
        }
    }

    fn attach(&self, mount: BorrowedFd<'_>, path: &BStr) -> Result<(), Error> {
        match self.near.attach(mount, path) {
            Err(Error::Elsewhere(_)) => {
                let with = With {
                    fd: Some(mount),
                    ..With::default()
                };
                self.ask(path, Act::Attach, self.near.until, with)?;
                Ok(())
            }
            other => other,
        }
    }

    fn detach(&self, path: &BStr) -> Result<(), Error> {
        match self.near.detach(path) {
            Err(Error::Elsewhere(_)) => {
                self.ask(path, Act::Detach, self.late(), With::default())?;
                Ok(())
            }
            other => other,
        }
    }
}
