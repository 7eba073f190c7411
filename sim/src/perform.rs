//! What the daemon's hands do in the world: one step at a time, with what can go wrong, and
//! undone as `crates/mount/src/perform.rs` describes it.

use bstr::{BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_engine::event::{DoneStep, JobId, Outcome, StepFailure};
use piton_plan::step::{Planned, Step, TriggerKind, TriggerSpec};

use crate::kernel::{EBUSY, EINVAL, ENOENT, Kernel, Name, Trigger, What};

/// A list of steps under way.
#[derive(Debug)]
pub struct Performance {
    /// For which job.
    pub job: JobId,
    /// What is to be done.
    pub steps: Vec<Planned>,
    /// The next step.
    pub at: usize,
    /// What holds by now.
    pub outcome: Outcome,
    /// Whether the directory or link of a step was made by it.
    pub made: Vec<bool>,
    /// A required step failed: what was done is taken back.
    pub undoing: bool,
    /// What was done and is still to be taken back, and what could not be.
    pub to_undo: Vec<DoneStep>,
    /// When it must be over.
    pub until: u64,
}

/// What a step came to.
pub type Stepped = Result<bool, i32>;

/// Something no world allows.
pub type Broken = String;

impl Performance {
    /// A list of steps to be done by `until`.
    pub fn new(job: JobId, steps: Vec<Planned>, until: u64) -> Self {
        let made = vec![false; steps.len()];
        Self {
            job,
            steps,
            at: 0,
            outcome: Outcome::default(),
            made,
            undoing: false,
            to_undo: Vec::new(),
            until,
        }
    }

    /// The step whose turn it is, forwards or back; `None`: it is over.
    pub fn current(&self) -> Option<Step> {
        if self.undoing {
            let done = self.to_undo.last()?;
            return self.steps.get(done.index)?.step.undo(done.helper);
        }
        Some(self.steps.get(self.at)?.step.clone())
    }

    /// Enters what came of the step whose turn it was.
    pub fn stepped(&mut self, result: Stepped, attempt: usize, helper: bool) {
        if self.undoing {
            if let Some(done) = self.to_undo.pop()
                && result.is_err()
            {
                self.outcome.done.insert(0, done);
            }
            return;
        }
        let index = self.at;
        self.at += 1;
        match result {
            Ok(made) => {
                self.made[index] = made;
                self.outcome.done.push(DoneStep {
                    index,
                    attempt,
                    helper,
                });
            }
            Err(errno) => self.failed(index, errno),
        }
    }

    fn failed(&mut self, index: usize, errno: i32) {
        let failure = StepFailure {
            index,
            errno: Errno(errno),
            text: format!("errno {errno}").into(),
        };
        if !self.steps[index].required {
            return self.outcome.tolerated.push(failure);
        }
        self.outcome.failed = Some(failure);
        self.undoing = true;
        let (steps, made) = (&self.steps, &self.made);
        let can_be_undone = |done: &DoneStep| {
            let kept = matches!(
                steps[done.index].step,
                Step::MakeDirectory { .. } | Step::Symlink { .. }
            ) && !made[done.index];
            !kept && steps[done.index].step.undo(done.helper).is_some()
        };
        let (to_undo, kept) = self.outcome.done.drain(..).partition(can_be_undone);
        self.to_undo = to_undo;
        // A directory that was there before is nothing to take back.
        let kept: Vec<DoneStep> = kept;
        let forgotten = |done: &DoneStep| {
            matches!(
                steps[done.index].step,
                Step::MakeDirectory { .. } | Step::Symlink { .. }
            )
        };
        self.outcome.done = kept.into_iter().filter(|done| !forgotten(done)).collect();
    }
}

/// Does one step.
///
/// # Errors
/// The outer one when the daemon asked for something it must never ask for.
pub fn act(kernel: &mut Kernel, step: &Step, now: u64) -> Result<Stepped, Broken> {
    Ok(match step {
        Step::MakeDirectory { path } => make_directory(kernel, path, now),
        Step::Mount { target, .. } => return mount(kernel, target),
        Step::Symlink { path, to } => link(kernel, path, to, now),
        Step::Install(spec) => return install(kernel, spec, now),
        Step::Unmount { target, .. } => unmount(kernel, target),
        Step::LetGo { target, .. } => let_go(kernel, target),
        Step::Remove(spec) => remove(kernel, spec),
        Step::RemoveDirectory { path } => {
            remove_directory(kernel, path);
            Ok(true)
        }
        Step::RemoveSymlink { path } => match kernel.holder(path.as_bstr()) {
            Some((holder, name)) => {
                let trigger = kernel.as_trigger(holder);
                let state = trigger.and_then(|it| it.names.remove(&name));
                state.map(|_| true).ok_or(ENOENT)
            }
            None => Err(ENOENT),
        },
    })
}

fn make_directory(kernel: &mut Kernel, path: &BString, now: u64) -> Stepped {
    if kernel.top(path.as_bstr()).is_some() {
        return Ok(false);
    }
    let around = kernel.around(path.as_bstr());
    let Some(trigger) = around.and_then(|id| kernel.as_trigger(id)) else {
        return Ok(false);
    };
    if !trigger.known {
        return Err(13);
    }
    let name = path.get(trigger.spec.path.len() + 1..).unwrap_or_default();
    if !name.contains(&b'/') && trigger.spec.kind == TriggerKind::Indirect {
        let made = !trigger.names.contains_key(name);
        trigger.names.entry(name.into()).or_default().used = now;
        return Ok(made);
    }
    // With its missing parents, down from the trigger's root.
    let first = trigger.spec.path.len() + 1;
    let mut made = false;
    for (at, byte) in path.iter().enumerate().skip(first) {
        let ends = *byte == b'/'
            && (trigger.spec.kind != TriggerKind::Indirect || path[first..at].contains(&b'/'));
        if ends {
            trigger.inner.insert(path[..at].into());
        }
    }
    made |= trigger.inner.insert(path.clone());
    Ok(made)
}

fn remove_directory(kernel: &mut Kernel, path: &BString) {
    let mut prefix = path.clone();
    prefix.push(b'/');
    let used = kernel.top(path.as_bstr()).is_some() || kernel.has_below(path.as_bstr());
    let around = kernel.around(path.as_bstr());
    if let Some(trigger) = around.and_then(|id| kernel.as_trigger(id))
        && !used
        && !trigger.inner.iter().any(|inner| inner.starts_with(&prefix))
    {
        let name = path.get(trigger.spec.path.len() + 1..).unwrap_or_default();
        trigger.names.remove(name);
        trigger.inner.remove(path);
    }
}

fn mount(kernel: &mut Kernel, target: &BString) -> Result<Stepped, Broken> {
    if kernel.covered(target.as_bstr()) {
        return Err(format!("{target} is mounted twice"));
    }
    if !kernel.is_directory(target.as_bstr()) {
        return Ok(Err(ENOENT));
    }
    kernel.attach(target.as_bstr(), What::Files);
    Ok(Ok(true))
}

fn link(kernel: &mut Kernel, path: &BString, to: &BString, now: u64) -> Stepped {
    let (holder, name) = kernel.holder(path.as_bstr()).ok_or(ENOENT)?;
    let trigger = kernel.as_trigger(holder).ok_or(ENOENT)?;
    let state = trigger.names.entry(name).or_default();
    state.used = now;
    state.link = Some(to.clone());
    Ok(true)
}

/// Puts a trigger in place.
///
/// # Errors
/// As [`act`].
pub fn install(kernel: &mut Kernel, spec: &TriggerSpec, now: u64) -> Result<Stepped, Broken> {
    let beneath = kernel
        .top(spec.path.as_bstr())
        .map(|id| &kernel.mounts[&id].what);
    let allowed = match beneath {
        None => true,
        Some(What::Files) => false,
        Some(What::Trigger(it)) => {
            spec.kind == TriggerKind::Indirect && it.spec.kind != TriggerKind::Indirect
        }
    };
    if !allowed {
        return Err(format!("a second trigger is put at {}", spec.path));
    }
    if kernel.has_below(spec.path.as_bstr()) {
        return Err(format!("{} is put above what is mounted in it", spec.path));
    }
    if !kernel.is_directory(spec.path.as_bstr()) {
        return Ok(Err(ENOENT));
    }
    let mut names = std::collections::BTreeMap::new();
    if spec.kind != TriggerKind::Indirect {
        let state = Name {
            used: now,
            ..Name::default()
        };
        names.insert(BString::default(), state);
    }
    let trigger = Trigger {
        spec: spec.clone(),
        connected: true,
        known: true,
        names,
        inner: Default::default(),
    };
    kernel.attach(spec.path.as_bstr(), What::Trigger(trigger));
    Ok(Ok(true))
}

fn unmount(kernel: &mut Kernel, target: &BString) -> Stepped {
    match kernel.top(target.as_bstr()) {
        Some(id) if matches!(kernel.mounts[&id].what, What::Files) => {
            kernel.detach(id).map(|()| true)
        }
        _ => Err(EINVAL),
    }
}

fn let_go(kernel: &mut Kernel, target: &BString) -> Stepped {
    let Some(id) = kernel.top(target.as_bstr()) else {
        return Ok(true);
    };
    if !matches!(kernel.mounts[&id].what, What::Files) {
        return Ok(true);
    }
    // An answer through what goes would find no way any more.
    let below: Vec<_> = kernel.below(target.as_bstr()).collect();
    if kernel.pending.values().any(|it| below.contains(&it.mount)) {
        return Err(EBUSY);
    }
    kernel.tear_off(id);
    Ok(true)
}

/// Takes a trigger away.
///
/// # Errors
/// EBUSY, or EINVAL when it is not there.
pub fn remove(kernel: &mut Kernel, spec: &TriggerSpec) -> Stepped {
    let id = kernel.trigger(spec.id).ok_or(EINVAL)?;
    kernel.detach(id).map(|()| true)
}
