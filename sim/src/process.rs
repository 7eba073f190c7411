//! Processes that touch paths, the kernel's expiry, and people who do things by hand.

use bstr::{BStr, BString, ByteSlice};
use piton_engine::Event;
use piton_engine::command::Answer;
use piton_engine::config::Configuration;
use piton_engine::event::{Existing, ExistingMount, JobId, Outcome, Request};
use piton_map::lookup::Miss;
use piton_map::requester::Requester;
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind, TriggerSpec};

use crate::kernel::{ENOENT, MountId, ProcessId, Token, Walk, What};
use crate::maps;
use crate::world::{Action, Scan, Ticket, World, Wrong, log};

/// Served requests after which the kernel gives up with ELOOP.
const LOOPS_MOST: u32 = 40;

/// A process that walks to a path.
#[derive(Debug)]
pub(crate) struct Process {
    path: BString,
    state: State,
    loops: u32,
}

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Walking,
    /// In a trigger, which it keeps busy.
    Waiting(MountId),
    Inside(Option<MountId>),
}

impl World {
    // -- processes -------------------------------------------------------------------------

    pub(crate) fn touch(&mut self) -> Result<(), Wrong> {
        if self.calm {
            return Ok(());
        }
        let path = self.some_path();
        let id = self.next_process;
        self.next_process += 1;
        log!(self, "process {id} touches {path}");
        let (state, loops) = (State::Walking, 0);
        self.processes.insert(id, Process { path, state, loops });
        if self.rng.chance(self.faults.kill) {
            let when = self.now + self.rng.below(12_000);
            self.at(when, Action::Kill(id));
        }
        // Where one comes, others follow.
        if self.rng.chance(300) {
            let when = self.now + self.rng.below(100);
            self.at(when, Action::Touch);
        }
        self.walk(id)
    }

    /// A path that somebody may want: of few, so that they meet.
    fn some_path(&mut self) -> BString {
        let mut path = BString::default();
        if self.rng.chance(650) {
            path.extend_from_slice(self.rng.pick(&maps::INDIRECT).0.as_bytes());
            path.push(b'/');
            path.extend_from_slice(self.rng.pick(&maps::KEYS).as_bytes());
        } else {
            path.extend_from_slice(self.rng.pick(&maps::DIRECT).as_bytes());
        }
        path.extend_from_slice(self.rng.pick(&maps::BELOW).as_bytes());
        path
    }

    pub(crate) fn walk(&mut self, id: ProcessId) -> Result<(), Wrong> {
        let Some(process) = self.processes.get(&id) else {
            return Ok(());
        };
        if process.state != State::Walking {
            return Ok(());
        }
        if process.loops > LOOPS_MOST {
            return Err(format!(
                "process {id} goes round in circles at {}",
                process.path
            ));
        }
        let path = process.path.clone();
        let walk = self.kernel.walk(path.as_bstr(), self.now);
        log!(self, "process {id} at {path}: {walk:?}");
        match walk {
            Walk::Arrived(mount) => self.arrive(id, mount),
            Walk::Absent => {
                self.processes.remove(&id);
            }
            Walk::Expiring(token) => self.wait(id, token),
            Walk::Missing(mount, name) => {
                let open = self.kernel.request(mount, &name, false);
                if let Some(token) = open {
                    self.wait(id, token);
                } else if let Some(token) = self.kernel.ask(mount, name, false) {
                    self.wait(id, token);
                    self.send(token);
                }
            }
        }
        Ok(())
    }

    fn arrive(&mut self, id: ProcessId, mount: Option<MountId>) {
        self.use_mount(mount, true);
        if let Some(process) = self.processes.get_mut(&id) {
            process.state = State::Inside(mount);
        }
        let stay = match self.rng.below(4) {
            0 => self.rng.below(20_000),
            1 => self.rng.below(1_000),
            _ => 0,
        };
        self.at(self.now + stay, Action::Leave(id));
    }

    fn wait(&mut self, id: ProcessId, token: Token) {
        let Some(pending) = self.kernel.pending.get_mut(&token) else {
            return;
        };
        pending.waiters.push(id);
        let mount = pending.mount;
        if let Some(process) = self.processes.get_mut(&id) {
            process.state = State::Waiting(mount);
        }
        self.use_mount(Some(mount), true);
    }

    fn use_mount(&mut self, mount: Option<MountId>, begins: bool) {
        if let Some(mount) = mount.and_then(|id| self.kernel.mounts.get_mut(&id)) {
            mount.users = match begins {
                true => mount.users + 1,
                false => mount.users.saturating_sub(1),
            };
        }
    }

    pub(crate) fn leave(&mut self, id: ProcessId) -> Result<(), Wrong> {
        if let Some(Process {
            state: State::Inside(mount),
            ..
        }) = self.processes.remove(&id)
        {
            self.use_mount(mount, false);
        }
        Ok(())
    }

    /// A process gives up waiting; its request stays.
    pub(crate) fn kill(&mut self, id: ProcessId) -> Result<(), Wrong> {
        if let Some(State::Waiting(mount)) = self.processes.get(&id).map(|it| it.state) {
            log!(self, "process {id} is killed");
            self.processes.remove(&id);
            self.use_mount(Some(mount), false);
            for pending in self.kernel.pending.values_mut() {
                pending.waiters.retain(|waiter| *waiter != id);
            }
        }
        Ok(())
    }

    // -- answers ---------------------------------------------------------------------------

    /// The daemon answered a request.
    pub(crate) fn answered(&mut self, token: Token, answer: &Answer) -> Result<(), Wrong> {
        let Some(pending) = self.kernel.pending.get(&token) else {
            return Err(format!("request {token} was answered twice"));
        };
        if pending
            .deadline
            .is_some_and(|end| self.now > end + crate::world::LATE_MS)
        {
            return Err(format!("request {token} was answered too late"));
        }
        let (path, expire) = (pending.path.clone(), pending.expire);
        match answer {
            Answer::Ready if expire => self.check_gone(&path)?,
            Answer::Ready => self.check_there(token)?,
            Answer::Failed(cause) => {
                let errno = cause.errno().0;
                if [10, 21, 116].contains(&errno) || errno <= 0 {
                    return Err(format!("errno {errno} was given to the kernel"));
                }
            }
        }
        self.release(token, *answer == Answer::Ready);
        Ok(())
    }

    /// Lets those go on who waited for a request.
    fn release(&mut self, token: Token, ready: bool) {
        let Some(pending) = self.kernel.pending.remove(&token) else {
            return;
        };
        for id in pending.waiters {
            self.use_mount(Some(pending.mount), false);
            let Some(process) = self.processes.get_mut(&id) else {
                continue;
            };
            if ready || pending.expire {
                process.state = State::Walking;
                process.loops += 1;
                let when = self.now + self.rng.below(3);
                self.at(when, Action::Walk(id));
            } else {
                self.processes.remove(&id);
            }
        }
        if pending.expire {
            self.seen.expired += u64::from(ready);
            self.expired(token, ready);
        }
    }

    /// The daemon is gone: whoever waits is sent away, its triggers serve nobody.
    pub(crate) fn forsake(&mut self) {
        for mount in self.kernel.mounts.values_mut() {
            if let What::Trigger(trigger) = &mut mount.what {
                trigger.served = false;
            }
        }
        let waiting: Vec<Token> = self.kernel.pending.keys().copied().collect();
        for token in waiting {
            self.release(token, false);
        }
    }

    /// A request whose answer is owed: one that the daemon has read.
    pub(crate) fn unanswered(&self) -> Option<Token> {
        let read = |it: &&Token| self.kernel.pending[it].deadline.is_some();
        self.kernel.pending.keys().find(read).copied()
    }

    // -- expiry ----------------------------------------------------------------------------

    pub(crate) fn begin_scan(&mut self, trigger: TriggerId, immediate: bool) {
        let task = self.task();
        self.scans.insert(
            task,
            Scan {
                trigger,
                immediate,
                refused: Default::default(),
                asked: None,
            },
        );
        let when = self.now + self.rng.below(20);
        self.at(when, Action::Scan(task));
    }

    /// The kernel looks for the next idle name; one that was refused is not asked for again.
    pub(crate) fn scan(&mut self, task: u64) -> Result<(), Wrong> {
        let Some(mut scan) = self.scans.remove(&task) else {
            return Ok(());
        };
        let chosen = self.kernel.trigger(scan.trigger).and_then(|mount| {
            let (kernel, now) = (&mut self.kernel, self.now);
            let name = kernel.choose_idle(mount, scan.immediate, &scan.refused, now)?;
            let token = kernel.ask(mount, name.clone(), true)?;
            Some((token, name))
        });
        match chosen {
            Some((token, name)) => {
                log!(self, "the kernel expires {name:?} of {:?}", scan.trigger);
                scan.asked = Some((token, name));
                self.scans.insert(task, scan);
                self.send(token);
            }
            None => {
                let trigger = scan.trigger;
                let when = self.now + self.rng.below(20);
                self.at(when, Action::Deliver(Event::ExpireDone { trigger }));
            }
        }
        Ok(())
    }

    fn expired(&mut self, token: Token, ready: bool) {
        let waits = |scan: &Scan| scan.asked.as_ref().is_some_and(|(it, _)| *it == token);
        let task = self.scans.iter().find(|(_, scan)| waits(scan));
        let Some(task) = task.map(|(task, _)| *task) else {
            return;
        };
        if let Some(scan) = self.scans.get_mut(&task)
            && let Some((_, name)) = scan.asked.take()
            && !ready
        {
            scan.refused.insert(name);
        }
        let when = self.now + self.rng.below(15);
        self.at(when, Action::Scan(task));
    }

    pub(crate) fn set_timeout(&mut self, trigger: TriggerId, key: Option<BString>, seconds: u32) {
        let Some(trigger) = self.kernel.trigger(trigger) else {
            return;
        };
        let Some(trigger) = self.kernel.as_trigger(trigger) else {
            return;
        };
        match key {
            None => trigger.spec.timeout = seconds,
            Some(key) => {
                if let Some(name) = trigger.names.get_mut(&key) {
                    name.timeout = Some(seconds);
                }
            }
        }
    }

    // -- what happens now and then ---------------------------------------------------------

    pub(crate) fn meanwhile(&mut self) -> Result<(), Wrong> {
        if self.calm {
            return Ok(());
        }
        let when = self.now + self.rng.between(50, 3_000);
        self.at(when, Action::Meanwhile);
        if self.rng.chance(200) {
            self.maps.edit(&mut self.rng);
        }
        let faults = self.faults.clone();
        if self.rng.chance(faults.tamper) {
            self.tamper();
        }
        if self.rng.chance(faults.operate) {
            self.operate()?;
        }
        if self.rng.chance(faults.reload) {
            self.reload()?;
        }
        if self.rng.chance(faults.restart) {
            let detach = self.rng.chance(500);
            return self.request(Request::Stop { detach });
        }
        match self.rng.chance(faults.crash) {
            true => self.crash(),
            false => Ok(()),
        }
    }

    fn reload(&mut self) -> Result<(), Wrong> {
        self.points = maps::master(&mut self.rng);
        let configuration = Configuration {
            points: self.points.clone(),
            existing: Vec::new(),
        };
        self.feed(Event::Configure(configuration))
    }

    fn operate(&mut self) -> Result<(), Wrong> {
        let path = self.some_path();
        let request = match self.rng.below(3) {
            0 => Request::Expire { path: None },
            1 => Request::Expire { path: Some(path) },
            _ => Request::Unmount { path },
        };
        self.request(request)
    }

    /// Somebody unmounts by hand what the daemon mounted.
    fn tamper(&mut self) {
        // A trigger on which something is just being mounted would leave that without an owner
        // after a crash: no survey could find it.
        let at_work = self.engine.as_ref().is_some_and(|it| it.sizes().jobs > 0);
        let ours = |(id, mount): (&MountId, &crate::kernel::Mount)| match &mount.what {
            What::Files => Some(*id),
            What::Trigger(trigger) => {
                let offset = trigger.spec.kind == TriggerKind::Offset;
                (offset && mount.users == 0 && !at_work).then_some(*id)
            }
        };
        let all: Vec<MountId> = self.kernel.mounts.iter().filter_map(ours).collect();
        if all.is_empty() {
            return;
        }
        let id = *self.rng.pick(&all);
        let path = self.kernel.mounts[&id].path.clone();
        let lazily = self.rng.chance(500);
        let done = match lazily {
            true => {
                self.kernel.tear_off(id);
                true
            }
            false => self.kernel.detach(id).is_ok(),
        };
        if done {
            self.seen.by_hand += 1;
            log!(self, "somebody unmounts {path}");
            self.tampered.insert(path);
        }
    }

    // -- sources ---------------------------------------------------------------------------

    pub(crate) fn fetched(
        &mut self,
        job: JobId,
        binding: &piton_engine::config::Binding,
        key: &BString,
    ) -> Event<Ticket> {
        let map = binding.maps.first().map(|map| map.name.clone());
        let map = map.unwrap_or_default();
        let costly = map == "prog";
        let result = match self.rng.chance(self.faults.fetch) {
            true => Err(match self.rng.below(4) {
                0 => Miss::Unreadable("I/O error".into()),
                1 => Miss::TimedOut("too slow".into()),
                2 => Miss::ProgramFailed("exit status 1".into()),
                _ => Miss::NoSuchMap("gone".into()),
            }),
            false => self.maps.find(&map, key),
        };
        Event::Fetched {
            job,
            names: None,
            costly,
            result,
        }
    }

    /// What goes wrong with a step, if anything.
    pub(crate) fn fault(&mut self, step: &Step, undoing: bool, until: u64) -> Option<i32> {
        let faults = &self.faults;
        if undoing {
            return self.rng.chance(faults.undo).then_some(16);
        }
        let (chance, errnos): (u64, &[i32]) = match step {
            Step::Mount { .. } if self.now >= until && !self.rng.chance(faults.overrun) => {
                return Some(110);
            }
            Step::Mount { .. } => (faults.mount, &[5, 13, 19, 22, 110, 112, 116]),
            Step::Install(_) => (faults.install, &[12, 28]),
            Step::MakeDirectory { .. } => (faults.directory, &[13, 30]),
            Step::Unmount { .. } => (faults.busy, &[16, 16, 5, 110]),
            Step::Remove(_) => (faults.busy, &[16]),
            Step::Symlink { .. } | Step::RemoveDirectory { .. } | Step::RemoveSymlink { .. } => {
                (0, &[5])
            }
        };
        self.rng.chance(chance).then(|| *self.rng.pick(errnos))
    }

    /// Steps are over: what must be together from now on, and what could not be mended.
    pub(crate) fn settled(&mut self, steps: &[Planned], outcome: &Outcome) {
        let path = |planned: &Planned| match &planned.step {
            Step::MakeDirectory { path }
            | Step::Symlink { path, .. }
            | Step::RemoveDirectory { path }
            | Step::RemoveSymlink { path } => path.clone(),
            Step::Mount { target, .. } | Step::Unmount { target, .. } => target.clone(),
            Step::Install(spec) | Step::Remove(spec) => spec.path.clone(),
        };
        let Some(root) = steps.iter().map(path).min_by_key(|path| path.len()) else {
            return;
        };
        if outcome.failed.is_some() {
            if !outcome.done.is_empty() {
                self.scarred.insert(root);
            }
            self.mended &= outcome.done.is_empty();
            return;
        }
        let in_effect = outcome.done.iter().any(|done| {
            let step = &steps[done.index].step;
            !matches!(
                step,
                Step::MakeDirectory { .. } | Step::RemoveDirectory { .. }
            )
        });
        if !in_effect {
            // Everything was allowed to fail, and did.
            self.scarred.insert(root);
            return;
        }
        let offset = |planned: &Planned| match &planned.step {
            Step::Install(spec) if planned.required && spec.kind == TriggerKind::Offset => {
                Some(spec.path.clone())
            }
            _ => None,
        };
        let offsets = steps.iter().filter_map(offset).collect();
        self.levels.remove(&root);
        if steps.iter().any(|it| matches!(it.step, Step::Install(_))) {
            self.levels.insert(root, offsets);
        }
    }

    // -- taking over -----------------------------------------------------------------------

    pub(crate) fn adopt(&mut self, spec: &TriggerSpec) -> Result<bool, i32> {
        let found = self.kernel.trigger_at(spec.path.as_bstr(), spec.kind);
        let trigger = found.and_then(|id| self.kernel.as_trigger(id));
        let trigger = trigger.ok_or(ENOENT)?;
        trigger.served = true;
        trigger.spec = spec.clone();
        Ok(true)
    }

    /// The triggers that an earlier life left, and what is mounted in them.
    pub(crate) fn survey(&self) -> Vec<Existing> {
        let mounts = self.kernel.mounts.iter();
        let points = mounts.filter(|(_, mount)| mount.parent.is_none());
        points.filter_map(|(id, _)| self.existing(*id)).collect()
    }

    fn existing(&self, id: MountId) -> Option<Existing> {
        let mount = self.kernel.mounts.get(&id)?;
        let What::Trigger(trigger) = &mount.what else {
            return None;
        };
        let spec = &trigger.spec;
        let mut mounted: Vec<ExistingMount> = Vec::new();
        for (child, inner) in self.children(id) {
            let (key, target) = match spec.kind {
                TriggerKind::Indirect => key_below(spec.path.as_bstr(), inner.path.as_bstr()),
                TriggerKind::Direct | TriggerKind::Offset => {
                    (BString::default(), spec.path.clone())
                }
            };
            let covered = inner.path == target;
            if covered {
                mounted.push(self.existing_mount(child, key, target));
                continue;
            }
            let Some(offset) = self.existing(child) else {
                continue;
            };
            match mounted.iter_mut().find(|it| it.key == key && !it.covered) {
                Some(bare) => bare.offsets.push(offset),
                None => mounted.push(bare(key, target, vec![offset])),
            }
        }
        Some(Existing {
            kind: spec.kind,
            path: spec.path.clone(),
            mounted,
        })
    }

    fn existing_mount(&self, id: MountId, key: BString, target: BString) -> ExistingMount {
        let files = matches!(self.kernel.mounts[&id].what, What::Files);
        let offsets = match files {
            true => self
                .children(id)
                .filter_map(|(child, _)| self.existing(child))
                .collect(),
            false => self.existing(id).into_iter().collect(),
        };
        ExistingMount {
            covered: true,
            ..bare(key, target, offsets)
        }
    }

    fn children(&self, id: MountId) -> impl Iterator<Item = (MountId, &crate::kernel::Mount)> {
        let mounts = self.kernel.mounts.iter();
        let children = mounts.filter(move |(_, mount)| mount.parent == Some(id));
        children.map(|(id, mount)| (*id, mount))
    }
}

fn bare(key: BString, target: BString, offsets: Vec<Existing>) -> ExistingMount {
    ExistingMount {
        key,
        target,
        covered: false,
        whole: true,
        source: "found".into(),
        offsets,
        requester: Requester::default(),
    }
}

/// The key that a path below an indirect trigger belongs to, and that key's own path.
fn key_below(trigger: &BStr, path: &BStr) -> (BString, BString) {
    let rest = path.get(trigger.len() + 1..).unwrap_or_default();
    let key: BString = rest.split_str("/").next().unwrap_or_default().into();
    let target = [trigger.as_bytes(), b"/", &key].concat().into();
    (key, target)
}
