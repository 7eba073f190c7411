//! From an access to its answer: look up, plan, resolve, mount.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::Severity;
use piton_map::key::{MapKind, check};
use piton_map::lookup::{Found, Miss};
use piton_map::requester::{Requester, RequesterNames};
use piton_plan::facts::HostAnswers;
use piton_plan::plan::{Action, Plan, TriggerDefaults};
use piton_plan::planner::{PlanRequest, plan};
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind, TriggerSpec};

use crate::cause::Cause;
use crate::command::{Answer, Command, Note};
use crate::config::Binding;
use crate::engine::Engine;
use crate::event::{JobId, Outcome};
use crate::job::{Job, Target, Waiter, Work};
use crate::limits::{FAILURE_MEMORY_MS, JOBS, WAITERS_PER_PLACE};
use crate::place::Place;
use crate::tree::{How, Tree};
use crate::trigger::{Role, Round, State, Trigger};

impl<T> Engine<T> {
    /// A process touched `place`.
    pub(crate) fn access(&mut self, place: Place, requester: Requester, ticket: T) {
        let deadline = self.now + self.settings.deadline_ms;
        self.enter(Waiter {
            ticket,
            place,
            requester,
            deadline,
        });
    }

    /// Serves an access, or has it wait for what is being done already.
    pub(crate) fn enter(&mut self, waiter: Waiter<T>) {
        let place = waiter.place.clone();
        if let Some(cause) = self.refusal(&place) {
            return self.reply(waiter.ticket, Answer::Failed(cause));
        }
        if let Some(trigger) = self.triggers.get_mut(&place.trigger) {
            trigger.last_used = self.now;
        }
        let at_work = self
            .working
            .get(&place)
            .copied()
            .or_else(|| self.unmounting_above(&place));
        if let Some(id) = at_work {
            return self.join(id, waiter);
        }
        if let Some(cause) = self.negative.recall(&place, self.now) {
            return self.reply(waiter.ticket, Answer::Failed(cause));
        }
        self.start(waiter);
    }

    fn refusal(&self, place: &Place) -> Option<Cause> {
        if !self.running() {
            return Some(Cause::Stopping);
        }
        let Some(trigger) = self.triggers.get(&place.trigger) else {
            return Some(Cause::NoTrigger);
        };
        if trigger.leaving() {
            return Some(Cause::NoTrigger);
        }
        if trigger.spec.kind == TriggerKind::Indirect
            && let Err(miss) = check(MapKind::Indirect, place.key.as_bstr())
        {
            return Some(Cause::Lookup(miss));
        }
        (self.jobs.len() >= JOBS).then_some(Cause::Overloaded)
    }

    fn join(&mut self, id: JobId, waiter: Waiter<T>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.waiters.len() >= WAITERS_PER_PLACE {
            return self.reply(waiter.ticket, Answer::Failed(Cause::Overloaded));
        }
        self.deadlines.insert((waiter.deadline, id));
        job.waiters.push(waiter);
    }

    /// Begins a job for a first access.
    fn start(&mut self, waiter: Waiter<T>) {
        let place = waiter.place.clone();
        let requester = waiter.requester.clone();
        let known = self.trees.get(&place).map(|tree| tree.target.clone());
        let work = if known.is_some() {
            Work::Inspecting
        } else {
            Work::Fetching
        };
        let waiters = alloc::vec![waiter];
        let job = Job {
            place: place.clone(),
            started: self.now,
            requester,
            waiters,
            work,
        };
        let requester = job.requester.clone();
        let id = self.begin(job);
        self.note(Note::Accessed {
            job: id,
            path: self.path_of(&place),
            requester,
        });
        match known {
            Some(target) => self.out.push(Command::Inspect { job: id, target }),
            None => self.seek(id),
        }
    }

    /// Finds out what to mount: from the plan of the entry, for an offset, or from the map.
    fn seek(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(trigger) = self.triggers.get(&job.place.trigger) else {
            return self.fail(id, Cause::NoTrigger, false);
        };
        if let Role::Offset {
            node: Some((plan, node)),
            ..
        } = &trigger.role
        {
            let target = Target {
                plan: plan.clone(),
                node: *node,
            };
            return self.resolve(id, target);
        }
        self.fetch(id);
    }

    fn fetch(&mut self, id: JobId) {
        let Some(question) = self.question(id) else {
            return self.fail(id, Cause::NoTrigger, false);
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Fetching;
        let requester = job.requester.clone();
        let deadline_ms = self.jobs.get(&id).map_or(0, |job| self.remaining(job));
        let Question {
            binding,
            kind,
            mount_point,
            key,
        } = question;
        self.out.push(Command::Fetch {
            job: id,
            binding,
            kind,
            mount_point,
            key,
            requester,
            deadline_ms,
        });
    }

    /// What the map is asked for a job: its own key, or, for an adopted offset, the key of the
    /// entry it belongs to.
    fn question(&self, id: JobId) -> Option<Question> {
        let mut place = &self.jobs.get(&id)?.place;
        loop {
            let trigger = self.triggers.get(&place.trigger)?;
            if let Role::Offset { owner, .. } = &trigger.role {
                place = owner;
                continue;
            }
            let key = match trigger.spec.kind {
                TriggerKind::Indirect => place.key.clone(),
                TriggerKind::Direct | TriggerKind::Offset => trigger.spec.path.clone(),
            };
            return Some(Question {
                binding: trigger.binding.clone(),
                kind: trigger.spec.kind,
                mount_point: trigger.spec.path.clone(),
                key,
            });
        }
    }

    /// The map answered.
    pub(crate) fn fetched(
        &mut self,
        id: JobId,
        names: Option<Arc<RequesterNames>>,
        costly: bool,
        result: Result<Found, Miss>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if !matches!(job.work, Work::Fetching) {
            return;
        }
        job.requester.names = names;
        match result {
            Ok(_) if job.waiters.is_empty() => {
                // Everybody was answered with an error long ago: nothing is mounted for nobody.
                self.end(id);
            }
            Ok(found) => self.plan(id, &found),
            Err(miss) => self.fail(id, Cause::Lookup(miss), costly),
        }
    }

    fn plan(&mut self, id: JobId, found: &Found) {
        let Some(question) = self.question(id) else {
            return self.fail(id, Cause::NoTrigger, false);
        };
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let planning = plan(&PlanRequest {
            found,
            key: question.key.as_bstr(),
            mount_point: question.mount_point.as_bstr(),
            kind: question.kind,
            options: &question.binding.options,
            global_options: &self.settings.global_options,
            append_options: self.settings.append_options,
            dialect: &question.binding.dialect,
            requester: &job.requester,
            facts: &self.settings.facts,
        });
        let first = planning
            .diagnostics
            .first()
            .map(|found| found.message.as_str().into());
        for diagnostic in planning.diagnostics {
            if diagnostic.severity > Severity::Note {
                self.note(Note::Diagnosed(diagnostic));
            }
        }
        let Some(plan) = planning.plan else {
            let why = first.unwrap_or_else(|| "nothing can be mounted from it".into());
            return self.fail(id, Cause::BadEntry(why), false);
        };
        match self.node_of(id, &plan) {
            Some(node) => self.resolve(
                id,
                Target {
                    plan: Arc::new(plan),
                    node,
                },
            ),
            None => {
                let why = "the entry no longer has this offset".into();
                self.fail(id, Cause::BadEntry(why), false);
            }
        }
    }

    /// Which part of the entry a job is about: the root, or the part at an adopted offset.
    fn node_of(&self, id: JobId, plan: &Plan) -> Option<usize> {
        let trigger = self.triggers.get(&self.jobs.get(&id)?.place.trigger)?;
        match trigger.role {
            Role::Offset { .. } => plan
                .nodes
                .iter()
                .position(|node| node.target == trigger.spec.path),
            Role::Point(_) | Role::Submount { .. } => Some(0),
        }
    }

    fn resolve(&mut self, id: JobId, target: Target) {
        let hosts = target.plan.hosts(target.node, &self.settings.facts);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Resolving(target);
        if hosts.is_empty() {
            return self.resolved(id, &HostAnswers::new());
        }
        let deadline_ms = self.jobs.get(&id).map_or(0, |job| self.remaining(job));
        self.out.push(Command::Resolve {
            job: id,
            hosts,
            deadline_ms,
        });
    }

    /// Servers' addresses are known: everything is there to mount.
    pub(crate) fn resolved(&mut self, id: JobId, answers: &HostAnswers) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Work::Resolving(target) = mem::replace(&mut job.work, Work::Inspecting) else {
            return;
        };
        if job.waiters.is_empty() {
            self.end(id);
            return;
        }
        let (steps, numbers) = self.steps(id, &target, answers);
        if let Some(host) = unknown_host(&steps, answers) {
            return self.fail(id, Cause::UnknownHost(host), false);
        }
        self.expect_triggers(id, &target, &steps, &numbers);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Mounting(target, steps.clone(), numbers);
        let deadline_ms = self.jobs.get(&id).map_or(0, |job| self.remaining(job));
        self.out.push(Command::Perform {
            job: id,
            steps,
            deadline_ms,
        });
    }

    fn steps(
        &mut self,
        id: JobId,
        target: &Target,
        answers: &HostAnswers,
    ) -> (Vec<Planned>, Vec<(usize, TriggerId)>) {
        let Some(trigger) = self
            .jobs
            .get(&id)
            .and_then(|job| self.triggers.get(&job.place.trigger))
        else {
            return (Vec::new(), Vec::new());
        };
        let make_root = trigger.spec.kind == TriggerKind::Indirect;
        let defaults = TriggerDefaults {
            source: trigger.binding.source.clone(),
            timeout: self.timeout_of(&trigger.binding),
            strict_expire: trigger.binding.options.strict_expire,
            propagation: trigger.binding.options.propagation,
        };
        let facts = self.settings.facts.clone();
        let seed = self.now.0 ^ (id.0 << 32);
        let mut numbers = Vec::new();
        let steps = target.plan.steps(
            target.node,
            make_root,
            &facts,
            answers,
            seed,
            &mut |node| {
                let trigger = self.new_trigger_id();
                numbers.push((node, trigger));
                trigger
            },
            &defaults,
        );
        (steps, numbers)
    }

    /// Enters the triggers that the steps will put in place: they may fire before the steps
    /// are reported done.
    fn expect_triggers(
        &mut self,
        id: JobId,
        target: &Target,
        steps: &[Planned],
        numbers: &[(usize, TriggerId)],
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let owner = job.place.clone();
        let Some(parent) = self.triggers.get(&owner.trigger) else {
            return;
        };
        let outer = parent.binding.clone();
        for planned in steps {
            let Step::Install(spec) = &planned.step else {
                continue;
            };
            let Some((node, _)) = numbers.iter().find(|(_, number)| *number == spec.id) else {
                continue;
            };
            let (role, binding) = match &target.plan.nodes[*node].action {
                Action::Submount(submount) => {
                    let mut options = submount.options.clone();
                    options.timeout = Some(spec.timeout);
                    let binding = Binding {
                        maps: [submount.map.clone()].into(),
                        options,
                        dialect: outer.dialect.clone(),
                        source: spec.source.clone(),
                        origin: target.plan.origin.clone(),
                    };
                    if spec.kind == TriggerKind::Indirect {
                        (
                            Role::Submount {
                                owner: owner.clone(),
                            },
                            Arc::new(binding),
                        )
                    } else {
                        (self.offset_role(&owner, target, *node), outer.clone())
                    }
                }
                _ => (self.offset_role(&owner, target, *node), outer.clone()),
            };
            let trigger = new_trigger(spec.clone(), role, binding);
            self.triggers.insert(spec.id, trigger);
        }
    }

    fn offset_role(&self, owner: &Place, target: &Target, node: usize) -> Role {
        Role::Offset {
            owner: owner.clone(),
            node: Some((target.plan.clone(), node)),
        }
    }

    /// Steps ended: those of a mount, or those that take something down.
    pub(crate) fn performed(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match mem::replace(&mut job.work, Work::Inspecting) {
            Work::Mounting(target, steps, numbers) => {
                self.mounted(id, &target, &steps, &numbers, outcome);
            }
            Work::Unmounting(work) => self.unmounted(id, work, outcome),
            other => job.work = other,
        }
    }

    fn mounted(
        &mut self,
        id: JobId,
        target: &Target,
        steps: &[Planned],
        numbers: &[(usize, TriggerId)],
        outcome: Outcome,
    ) {
        if let Some(failure) = outcome.failed {
            for (_, number) in numbers {
                self.triggers.remove(number);
            }
            return self.fail(id, Cause::Mount(failure.errno, failure.text), false);
        }
        let offsets = self.settle_triggers(steps, &outcome);
        for failure in outcome.tolerated {
            if let Some(Step::Install(spec)) = steps.get(failure.index).map(|planned| &planned.step)
            {
                let path = spec.path.clone();
                self.note(Note::OffsetMissing { path, failure });
            }
        }
        let done: Vec<_> = outcome.done;
        let how = how_of(steps, &done);
        self.plant(id, target, how, offsets);
        self.serve(id);
    }

    /// Marks the triggers that are in place as ready and forgets the others; returns the
    /// offsets among them.
    fn settle_triggers(&mut self, steps: &[Planned], outcome: &Outcome) -> Vec<TriggerId> {
        let mut offsets = Vec::new();
        for (index, planned) in steps.iter().enumerate() {
            let Step::Install(spec) = &planned.step else {
                continue;
            };
            if !outcome.done.iter().any(|done| done.index == index) {
                self.triggers.remove(&spec.id);
                continue;
            }
            if let Some(trigger) = self.triggers.get_mut(&spec.id) {
                trigger.state = State::Ready;
            }
            if spec.kind == TriggerKind::Offset {
                offsets.push(spec.id);
            }
        }
        offsets
    }

    /// Enters what was mounted for a job.
    fn plant(&mut self, id: JobId, target: &Target, how: How, offsets: Vec<TriggerId>) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let place = job.place.clone();
        let last = job
            .waiters
            .last()
            .map_or(&job.requester, |waiter| &waiter.requester)
            .clone();
        let Some(trigger) = self.triggers.get(&place.trigger) else {
            return;
        };
        let kind = trigger.spec.kind;
        let tree = Tree {
            target: self.path_of(&place),
            how,
            own_directory: kind == TriggerKind::Indirect,
            offsets,
            since: self.now,
            first: job.requester.clone(),
            last,
            uses: job.waiters.len() as u64,
            busy: None,
        };
        let timeout = target.plan.timeout;
        self.trees.insert(place.clone(), tree);
        if let Some(seconds) = timeout {
            let key = (kind == TriggerKind::Indirect).then(|| place.key.clone());
            self.set_key_timeout(place.trigger, key, seconds);
        }
        self.plan_round(place.trigger);
    }

    /// Answers a job's waiters: what they wanted is mounted.
    fn serve(&mut self, id: JobId) {
        let Some(job) = self.end(id) else { return };
        let took_ms = self.now.since(job.started);
        let path = self.path_of(&job.place);
        let source = self
            .trees
            .get(&job.place)
            .map(Tree::source)
            .unwrap_or_default();
        for waiter in job.waiters {
            self.reply(waiter.ticket, Answer::Ready);
        }
        self.note(Note::Mounted {
            job: id,
            path,
            source,
            took_ms,
        });
        self.after_work(&job.place);
    }

    /// Answers a job's waiters with an error.
    pub(crate) fn fail(&mut self, id: JobId, cause: Cause, costly: bool) {
        let Some(job) = self.end(id) else { return };
        let memory = match &cause {
            Cause::Lookup(Miss::NoSuchKey | Miss::ProgramFailed(_)) if costly => {
                u64::from(self.settings.negative_timeout) * 1_000
            }
            // A look-up in a file costs nothing, and a changed file counts at once.
            Cause::Lookup(_) | Cause::BadEntry(_) | Cause::NoTrigger | Cause::Stopping => 0,
            _ => FAILURE_MEMORY_MS,
        };
        if memory > 0 {
            self.negative
                .remember(&job.place, &cause, self.now + memory);
        }
        for waiter in job.waiters {
            self.reply(waiter.ticket, Answer::Failed(cause.clone()));
        }
        let path = self.path_of(&job.place);
        if !matches!(cause, Cause::Lookup(Miss::NoSuchKey)) {
            self.remember_error(&path, &cause);
        }
        self.note(Note::Failed {
            job: id,
            path,
            cause,
            requester: job.requester,
        });
        self.after_work(&job.place);
    }

    /// The world was asked whether something is still mounted where the kernel asked again.
    pub(crate) fn inspected(&mut self, id: JobId, mounted: bool) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if !matches!(job.work, Work::Inspecting) {
            return;
        }
        let place = job.place.clone();
        if mounted {
            if let Some(tree) = self.trees.get_mut(&place) {
                tree.uses += job.waiters.len() as u64;
                tree.last = job.requester.clone();
            }
            return self.serve(id);
        }
        // Somebody unmounted it by hand: what we knew of it is void.
        self.fell(&place);
        self.seek(id);
    }

    /// Forgets a tree that is gone, with the triggers that went with it.
    pub(crate) fn fell(&mut self, place: &Place) {
        let Some(tree) = self.trees.remove(place) else {
            return;
        };
        let mut gone = tree.offsets;
        if let How::Submount(trigger) = tree.how {
            gone.push(trigger);
        }
        for trigger in gone {
            let below: Vec<Place> = self
                .trees_of(trigger)
                .map(|(place, _)| place.clone())
                .collect();
            for place in below {
                self.fell(&place);
            }
            self.drop_trigger(trigger);
        }
    }

    /// Forgets a trigger that is gone; whoever still waits in it is told.
    pub(crate) fn drop_trigger(&mut self, id: TriggerId) {
        let Some(trigger) = self.triggers.remove(&id) else {
            return;
        };
        if let Round::Due(at) = trigger.round {
            self.rounds.remove(&(at, id));
        }
    }

    pub(crate) fn timeout_of(&self, binding: &Binding) -> u32 {
        binding.options.timeout.unwrap_or(self.settings.timeout)
    }
}

/// What a look-up is about.
struct Question {
    binding: Arc<Binding>,
    kind: TriggerKind,
    mount_point: BString,
    key: BString,
}

impl Tree {
    /// The source text, for people.
    pub(crate) fn source(&self) -> BString {
        match &self.how {
            How::Mount { source, .. } => source.clone(),
            How::Symlink { to } => to.clone(),
            How::Directory | How::Submount(_) => BString::default(),
        }
    }
}

/// A trigger that is being put in place.
pub(crate) fn new_trigger(spec: TriggerSpec, role: Role, binding: Arc<Binding>) -> Trigger {
    Trigger {
        least_timeout: spec.timeout,
        spec,
        state: State::Installing,
        role,
        binding,
        round: Round::None,
        last_used: crate::time::Millis(0),
    }
}

/// How the place came to be, from the steps that are in effect.
fn how_of(steps: &[Planned], done: &[crate::event::DoneStep]) -> How {
    for effect in done {
        match steps.get(effect.index).map(|planned| &planned.step) {
            Some(Step::Mount { attempts, .. }) => {
                let attempt = attempts.get(effect.attempt);
                return How::Mount {
                    source: attempt.map(|it| it.source.clone()).unwrap_or_default(),
                    host: attempt.and_then(|it| it.host.clone()),
                    helper: effect.helper,
                };
            }
            Some(Step::Symlink { to, .. }) => return How::Symlink { to: to.clone() },
            Some(Step::Install(spec)) if spec.kind == TriggerKind::Indirect => {
                return How::Submount(spec.id);
            }
            _ => {}
        }
    }
    How::Directory
}

/// The server of a mount none of whose servers has an address.
fn unknown_host(steps: &[Planned], answers: &HostAnswers) -> Option<Arc<str>> {
    let unknown = |host: &BStr| {
        answers
            .get(host.as_bytes())
            .is_some_and(|answer| answer.addresses.is_empty())
    };
    steps.iter().find_map(|planned| {
        let Step::Mount { attempts, .. } = &planned.step else {
            return None;
        };
        let hosts = || attempts.iter().map(|attempt| attempt.host.as_ref());
        let all = !attempts.is_empty()
            && hosts().all(|host| host.is_some_and(|host| unknown(host.as_bstr())));
        let first = hosts().next().flatten()?;
        all.then(|| alloc::format!("{first}").into())
    })
}
