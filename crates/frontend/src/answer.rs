//! How a request of the kernel is answered, wherever its trigger is by now.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use autofs::{AnswerErrno, Control, DeviceId, Error, PointRoot, Slot, WaitToken};
use piton_engine::cause::Errno;

use crate::kernel::Shared;
use crate::ticket::Answering;

/// Answers one request of the kernel.
pub(crate) struct KernelAnswer {
    pub(crate) shared: Arc<Shared>,
    /// Nothing if the trigger must be opened by its path.
    pub(crate) root: Option<Arc<PointRoot>>,
    pub(crate) path: Arc<Path>,
    /// Opening it by its path may hang.
    pub(crate) may_hang: bool,
    /// Spent by the answer.
    pub(crate) request: Option<Request>,
    /// Which process asked for an expiry; 0 for an access.
    pub(crate) expires_for: u32,
}

/// What names a request, and its place in the table of unanswered ones.
pub(crate) struct Request {
    pub(crate) device: DeviceId,
    pub(crate) token: WaitToken,
    pub(crate) slot: Option<Slot>,
}

/// Ready, or the errno.
pub(crate) type Verdict = Result<(), AnswerErrno>;

impl Answering for KernelAnswer {
    fn ready(&mut self) {
        self.answer(Ok(()));
    }

    fn fail(&mut self, errno: Errno) {
        if self.expires_for != 0 && is_gone(self.expires_for) {
            // A daemon that died asked to expire this. Nobody waits for that any more, but the
            // kernel has whoever touches the same name since join the same request: an error would
            // be his. Told that it is done he looks again, and finds it mounted or asks anew.
            return self.ready();
        }
        let errno = autofs::Errno::from_raw_os_error(errno.0);
        self.answer(Err(AnswerErrno::new(errno)));
    }
}

/// Whether there is no such process any more.
fn is_gone(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(autofs::Pid::from_raw);
    let there = pid.map(rustix::process::test_kill_process);
    there == Some(Err(rustix::io::Errno::SRCH))
}

impl KernelAnswer {
    fn answer(&mut self, verdict: Verdict) {
        let Some(request) = self.request.take() else {
            return;
        };
        if let Some(root) = &self.root {
            let told = request.tell(&self.shared.control, root.as_fd(), verdict);
            return request.settle(told);
        }
        let (shared, path) = (self.shared.clone(), self.path.clone());
        if self.may_hang {
            self.shared
                .backstage
                .submit(move || request.answer_at(&shared, &path, verdict));
        } else {
            request.answer_at(&shared, &path, verdict);
        }
    }
}

impl Request {
    /// Answers through the trigger at `path`; if it is not there any more, where it is.
    fn answer_at(self, shared: &Arc<Shared>, path: &Arc<Path>, verdict: Verdict) {
        match shared.control.open_point(path, self.device) {
            Ok(root) => {
                let told = self.tell(&shared.control, root.as_fd(), verdict);
                self.settle(told);
            }
            Err(_) => self.answer_anywhere(shared, verdict),
        }
    }

    /// Answers through whatever mount the trigger has by now: it may have been moved or covered.
    /// Does so in another thread, since it reads the whole mount table.
    pub(crate) fn answer_anywhere(self, shared: &Arc<Shared>, verdict: Verdict) {
        let own = shared.clone();
        shared.backstage.submit(move || {
            let points = autofs::existing_points().into_iter().flatten();
            let same = points
                .filter_map(Result::ok)
                .filter(|point| point.device == self.device);
            // Without any, it is gone, and those who waited with it.
            let mut told = Ok(());
            for point in same {
                told = own
                    .control
                    .open_point(&point.target, point.device)
                    .and_then(|root| self.tell(&own.control, root.as_fd(), verdict));
                if told.is_ok() {
                    break;
                }
            }
            self.settle(told);
        });
    }

    fn tell(&self, control: &Control, root: BorrowedFd<'_>, verdict: Verdict) -> Result<(), Error> {
        match verdict {
            Ok(()) => control.ready(root, self.token),
            Err(errno) => control.fail(root, self.token, errno),
        }
    }

    /// The answer was given, or could not be.
    fn settle(self, told: Result<(), Error>) {
        match told {
            Ok(()) => {}
            // Nobody waits for it: an earlier life answered it and died right after.
            Err(error) if error.errno() == Some(autofs::Errno::INVAL) => {
                tracing::debug!(token = %self.token, device = %self.device, "answered before");
            }
            Err(error) => {
                // The slot stays: a successor tries again.
                tracing::error!(device = %self.device, %error, "kernel did not take the answer");
                return;
            }
        }
        if let Some(slot) = self.slot {
            slot.free();
        }
    }
}
