//! Processes that touch paths, the kernel's expiry, and people who do things by hand.

use std::collections::BTreeSet;

use bstr::{BString, ByteSlice};
use piton_engine::Event;
use piton_engine::cause::Cause;
use piton_engine::command::Answer;
use piton_plan::step::{TriggerId, TriggerKind};

use crate::dice::About;
use crate::kernel::{MountId, ProcessId, Token, Walk, What};
use crate::world::{Action, LATE_MS, World, Wrong, log};

/// Served requests after which the kernel gives up with ELOOP.
const LOOPS_MOST: u32 = 40;

/// A process that walks to a path.
#[derive(Debug)]
pub(crate) struct Process {
    path: BString,
    /// Milliseconds for which it stays where it wanted to.
    stay: u64,
    state: State,
    loops: u32,
}

/// An expiry under way.
#[derive(Debug)]
pub(crate) struct Scan {
    trigger: TriggerId,
    /// What it looks in, and keeps busy.
    mount: Option<MountId>,
    immediate: bool,
    refused: BTreeSet<BString>,
    asked: Option<(Token, BString)>,
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

    pub(crate) fn touch(
        &mut self,
        path: BString,
        stay: u64,
        killed: Option<u64>,
    ) -> Result<(), Wrong> {
        let id = self.next_process;
        self.next_process += 1;
        log!(self, "process {id} touches {path}");
        let process = Process {
            path,
            stay,
            state: State::Walking,
            loops: 0,
        };
        self.processes.insert(id, process);
        if let Some(after) = killed {
            self.at(self.now + after, Action::Kill(id));
        }
        self.walk(id)
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
                if let Some(token) = self.kernel.joinable(mount, &name) {
                    self.wait(id, token);
                } else if let Some(token) = self.ask_kernel(mount, name, false) {
                    self.wait(id, token);
                    self.send(token);
                }
            }
        }
        Ok(())
    }

    fn arrive(&mut self, id: ProcessId, mount: Option<MountId>) {
        self.use_mount(mount, true);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.state = State::Inside(mount);
        let until = self.now + process.stay;
        self.at(until, Action::Leave(id));
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
        let interrupted = |it: &crate::kernel::Pending| it.interrupted;
        if self.kernel.pending.get(&token).is_some_and(interrupted) {
            // Its asker is dead. Whoever joined it wants the mount: he is told to look again.
            self.forget_request(token);
            self.release(token, true);
            return Ok(());
        }
        if self.kernel.ghosts.remove(&token).is_some() {
            // Answered already, just before a daemon died: EINVAL, and nobody is harmed.
            self.forget_request(token);
            return Ok(());
        }
        let Some(pending) = self.kernel.pending.get(&token) else {
            return Err(format!("request {token} was answered twice"));
        };
        let since = self.keeper.since;
        let late = |end: u64| self.now > end.max(since) + LATE_MS;
        if pending.deadline.is_some_and(late) {
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
                // Whoever lives where the mount is not seen is told so, and so are too many.
                let full = *cause == Cause::Overloaded;
                self.seen.overloaded += u64::from(full);
                let told = *cause == Cause::Hidden || (full && self.short_queues);
                if !pending.waiters.is_empty() && !expire && !told {
                    self.check_excuse(token, &format!("{cause}"))?;
                }
            }
        }
        self.forget_request(token);
        self.release(token, *answer == Answer::Ready);
        Ok(())
    }

    /// Lets those go on who waited for a request.
    pub(crate) fn release(&mut self, token: Token, ready: bool) {
        let Some(pending) = self.kernel.pending.remove(&token) else {
            return;
        };
        let goes_on = ready || (pending.expire && !pending.interrupted);
        for id in &pending.waiters {
            if goes_on {
                self.go_on(*id, pending.mount);
            } else {
                self.use_mount(Some(pending.mount), false);
                self.processes.remove(id);
            }
        }
        if pending.expire && !pending.interrupted {
            self.seen.expired += u64::from(ready);
            self.expired(token, ready);
        }
    }

    /// A process has waited and walks on.
    pub(crate) fn go_on(&mut self, id: ProcessId, mount: MountId) {
        self.use_mount(Some(mount), false);
        if let Some(process) = self.processes.get_mut(&id) {
            process.state = State::Walking;
            process.loops += 1;
            let when = self.now + self.dice.below(About::Walk, &id.to_le_bytes(), 3);
            self.at(when, Action::Walk(id));
        }
    }

    /// Opens a request to the daemon.
    fn ask_kernel(&mut self, mount: MountId, name: BString, expire: bool) -> Option<Token> {
        let token = self.kernel.ask(mount, name, expire)?;
        let known = self.kernel.as_trigger(mount).is_some_and(|it| it.known);
        if let Some(pending) = self.kernel.pending.get_mut(&token) {
            pending.asked = self.now;
            pending.life = if known { self.life } else { u32::MAX };
        }
        Some(token)
    }

    // -- expiry ----------------------------------------------------------------------------

    pub(crate) fn begin_scan(&mut self, trigger: TriggerId, immediate: bool) {
        let task = self.task();
        let mount = self.kernel.trigger(trigger);
        mount.into_iter().for_each(|it| self.kernel.begin_look(it));
        self.scans.insert(
            task,
            Scan {
                trigger,
                mount,
                immediate,
                refused: Default::default(),
                asked: None,
            },
        );
        let when = self.now + self.dice.below(About::Scan, &trigger.0.to_le_bytes(), 20);
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
            let token = self.ask_kernel(mount, name.clone(), true)?;
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
                let looked_in = scan.mount.into_iter();
                looked_in.for_each(|it| self.kernel.end_look(it));
                let place = trigger.0.to_le_bytes();
                let when = self.now + self.dice.below(About::Scan, &place, 20);
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
        let when = self.now + self.dice.below(About::Scan, b"", 15);
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

    // -- by hand ---------------------------------------------------------------------------

    /// Somebody unmounts by hand what the daemon mounted.
    pub(crate) fn tamper(&mut self, which: u64, lazily: bool) {
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
        let id = all[(which % all.len() as u64) as usize];
        let path = self.kernel.mounts[&id].path.clone();
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
            self.excuses.amiss(&path, u64::MAX / 2);
            self.tampered.insert(path);
        }
    }
}
