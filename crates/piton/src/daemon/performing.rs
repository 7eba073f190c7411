//! Steps on their way to the threads that do them, and the marks of what is of several parts: a
//! successor must know that it may be half done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_engine::event::JobId;
use piton_mount::Lane;
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind};

use super::messages::Message;
use super::runtime::Runtime;
use super::tasks::{self, Pace, Perform, Submount};

impl Runtime {
    pub(super) fn perform(&mut self, job: JobId, steps: Vec<Planned>, deadline_ms: u64) {
        self.mark(job, &steps);
        let steps = self.worker.staging.steps(steps);
        let pace = tasks::pace(&steps, &self.worker.settings);
        let submounts = self.submounts(&steps);
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let mut task = Perform::new(steps, submounts, until);
        let worker = self.worker.clone();
        // One disk at a time may keep a thread of the loop; the others wait elsewhere.
        let turn = match pace {
            Pace::Quick => true,
            Pace::Disk => Arc::strong_count(&self.disk) == 1,
            Pace::Slow => false,
        };
        let disk = (pace == Pace::Disk).then(|| self.disk.clone());
        let work = move || {
            let lane = worker.perform_at_once(&mut task);
            drop(disk);
            match lane {
                None => Message::Event(task.ended(job, &worker)),
                Some(lane) => Message::Elsewhere {
                    job,
                    task: Box::new(task),
                    lane,
                },
            }
        };
        if turn {
            return self.quick.push_back(Box::new(work));
        }
        let mailbox = self.mailbox.clone();
        self.pools.slow.submit(move || mailbox.post(work()));
    }

    /// Has workers do the rest of steps, when it is their turn.
    pub(super) fn perform_elsewhere(&mut self, job: JobId, mut task: Box<Perform>, lane: Lane) {
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        self.pools.slow.submit_in(lane, task.until(), move |turn| {
            worker.perform_with_workers(&mut task, turn);
            mailbox.post(Message::Event(task.ended(job, &worker)));
        });
    }

    /// The maps of the submounts that steps put in place.
    fn submounts(&self, steps: &[Planned]) -> Vec<Submount> {
        let installed = steps.iter().filter_map(|planned| match &planned.step {
            Step::Install(spec) if spec.kind == TriggerKind::Indirect => Some(spec.id),
            _ => None,
        });
        let submount = |trigger| {
            let binding = self.engine.binding(trigger)?.clone();
            let browse = binding.options.browse;
            Some(Submount {
                trigger,
                browse: browse.unwrap_or(self.engine.settings().browse),
                binding,
            })
        };
        installed.filter_map(submount).collect()
    }

    /// Has it noted that a job works at something of several parts.
    fn mark(&mut self, job: JobId, steps: &[Planned]) {
        let several = tasks::effects(steps) > 1 || self.engine.works_at_several(job);
        if !several && self.marks.is_empty() {
            return;
        }
        let Some(place) = self.engine.work_at(job) else {
            return;
        };
        if !self.marks.contains_key(&place) {
            let mark = match several {
                true => self.front_end.mark(place.0, place.1.as_bstr()),
                false => None,
            };
            let Some(mark) = mark else { return };
            self.marks.insert(place.clone(), mark);
        }
        self.marked.insert(job, place);
    }

    /// Takes a note away, unless what is there is still only a part.
    pub(super) fn unmark(&mut self, place: &(TriggerId, BString)) {
        if !self.engine.is_broken(place.0, &place.1)
            && let Some(mark) = self.marks.remove(place)
        {
            mark.end();
        }
    }
}
