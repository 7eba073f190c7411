//! The end: unmount what is idle, say what stays; or leave all as it is.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_plan::step::TriggerId;

use crate::command::{Command, Note, Response};
use crate::engine::Engine;
use crate::event::RequestId;
use crate::job::Work;
use crate::trigger::State;

/// Which part of its life the daemon is in.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Serving.
    Running,
    /// Ending: no access is served any more.
    Stopping {
        /// Who asked.
        request: RequestId,
        /// Leave everything mounted.
        detach: bool,
        /// Mount points that could not be taken away, with the reason.
        stuck: BTreeMap<TriggerId, Arc<str>>,
    },
    /// Over.
    Finished,
}

impl<T> Engine<T> {
    /// Whether accesses are served.
    pub(crate) fn running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Begins the end.
    pub(crate) fn stop(&mut self, request: RequestId, detach: bool) {
        if !self.running() {
            let response = Response::Done { left: Vec::new() };
            return self.out.push(Command::Respond {
                id: request,
                response,
            });
        }
        self.phase = Phase::Stopping {
            request,
            detach,
            stuck: BTreeMap::new(),
        };
        if !detach {
            let points: Vec<TriggerId> = self.points.values().copied().collect();
            self.leave(&points);
        }
    }

    /// A mount point stays although it should go.
    pub(crate) fn stays(&mut self, id: TriggerId, path: &BString, why: &Arc<str>) {
        self.note(Note::Stays {
            path: path.clone(),
            why: why.clone(),
        });
        if let Phase::Stopping { stuck, .. } = &mut self.phase {
            stuck.insert(id, why.clone());
        }
    }

    /// Ends when nothing is under way any more.
    pub(crate) fn advance_stop(&mut self) {
        let Phase::Stopping {
            request,
            detach,
            stuck,
        } = &self.phase
        else {
            return;
        };
        let (request, detach) = (*request, *detach);
        let under_way = self.jobs.values().any(|job| {
            !job.waiters.is_empty() || !matches!(job.work, Work::Fetching | Work::Resolving(_))
        });
        if under_way || (!detach && self.points_moving(stuck)) {
            return;
        }
        let left = if detach {
            Vec::new()
        } else {
            self.left_behind(stuck)
        };
        self.phase = Phase::Finished;
        self.deadlines.clear();
        self.rounds.clear();
        let response = Response::Done { left: left.clone() };
        self.out.push(Command::Respond {
            id: request,
            response,
        });
        self.out.push(Command::Finished { left });
    }

    /// Whether a mount point is still being put in place or taken away, or could be.
    fn points_moving(&self, stuck: &BTreeMap<TriggerId, Arc<str>>) -> bool {
        self.points.values().any(|id| {
            let Some(trigger) = self.triggers.get(id) else {
                return false;
            };
            trigger.state != State::Ready || (!stuck.contains_key(id) && self.is_empty(*id))
        })
    }

    fn left_behind(&self, stuck: &BTreeMap<TriggerId, Arc<str>>) -> Vec<(BString, Arc<str>)> {
        let mut left: Vec<(BString, Arc<str>)> = self
            .trees
            .values()
            .map(|tree| {
                let why = tree
                    .busy
                    .clone()
                    .unwrap_or_else(|| "something below it is in use".into());
                (tree.target.clone(), why)
            })
            .collect();
        for (id, why) in stuck {
            if let Some(trigger) = self.triggers.get(id) {
                left.push((trigger.spec.path.clone(), why.clone()));
            }
        }
        left
    }
}
