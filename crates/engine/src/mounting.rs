//! From an access to its answer: look up, plan, resolve, mount.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::Severity;
use piton_map::key::{MapKind, check};
use piton_map::lookup::{Found, Miss};
use piton_map::requester::{Requester, RequesterNames};
use piton_path::{ancestors, is_below};
use piton_plan::facts::HostAnswers;
use piton_plan::plan::{Action, Plan, SubmountPlan, TriggerDefaults};
use piton_plan::planner::Planning;
use piton_plan::select::Ranked;
use piton_plan::step::{Attempt, Planned, Step, TriggerId, TriggerKind, TriggerSpec};

use crate::cause::Cause;
use crate::command::{Answer, Command, Note};
use crate::config::Binding;
use crate::engine::Engine;
use crate::event::JobId;
use crate::job::{Job, Target, Waiter, Want, Work};
use crate::place::Place;
use crate::planning::PlanOrder;
use crate::time::Millis;
use crate::tree::How;
use crate::trigger::{Role, Round, State, Trigger};
use crate::unmounting::Wish;

impl<T> Engine<T> {
    /// A process touched `place`, so many milliseconds ago.
    pub(crate) fn access(&mut self, place: Place, requester: Requester, waited_ms: u64, ticket: T) {
        let deadline = self.now + self.settings.deadline_ms.saturating_sub(waited_ms);
        self.count_use(place.trigger, &requester);
        self.enter(Waiter {
            ticket,
            place,
            requester,
            deadline,
            want: Want::Mount,
        });
    }

    /// Serves an access, or has it wait for what is being done already.
    pub(crate) fn enter(&mut self, waiter: Waiter<T>) {
        let place = waiter.place.clone();
        if let Some(cause) = self.refusal(&place).or_else(|| self.denial(&waiter)) {
            return self.reply(waiter.ticket, Answer::Failed(cause));
        }
        let Some(waiter) = self.answer_name(waiter) else {
            return;
        };
        if let Some(trigger) = self.triggers.get_mut(&place.trigger) {
            trigger.last_used = self.now;
        }
        let at_work = self.at_work(&place);
        if let Some(id) = at_work {
            return self.join(id, waiter);
        }
        if let Some(cause) = self.recall(&place) {
            return self.reply(waiter.ticket, Answer::Failed(cause));
        }
        if self.jobs.len() >= self.settings.jobs_most {
            return self.reply(waiter.ticket, Answer::Failed(Cause::Overloaded));
        }
        self.start(waiter);
    }

    /// The job that an access to a place has to wait for, if there is one.
    pub(crate) fn at_work(&self, place: &Place) -> Option<JobId> {
        self.working
            .get(place)
            .copied()
            .or_else(|| self.unmounting_above(place))
            .or_else(|| self.part_at_work(place))
            .or_else(|| self.orphan_near(place))
    }

    fn refusal(&self, place: &Place) -> Option<Cause> {
        if !self.running() {
            return Some(Cause::Stopping);
        }
        let Some(trigger) = self.triggers.get(&place.trigger) else {
            return Some(Cause::NoTrigger);
        };
        if trigger.leaving() {
            let next = self.waiting.get(&trigger.spec.path);
            if next.is_none_or(|next| next.kind != trigger.spec.kind) {
                return Some(Cause::NoTrigger);
            }
            if trigger.state == State::Removing {
                return Some(Cause::Replaced);
            }
        }
        if trigger.spec.kind == TriggerKind::Indirect
            && let Err(miss) = check(MapKind::Indirect, place.key.as_bstr())
        {
            return Some(Cause::Lookup(miss));
        }
        None
    }

    /// Why the filter of its map denies an access.
    fn denial(&self, waiter: &Waiter<T>) -> Option<Cause> {
        let trigger = self.triggers.get(&waiter.place.trigger)?;
        let deny = &trigger.binding.options.deny;
        let key = match (&trigger.role, trigger.spec.kind) {
            (Role::Offset { .. }, _) => None,
            (_, TriggerKind::Indirect) => deny.key(&waiter.place.key),
            (_, TriggerKind::Direct | TriggerKind::Offset) => deny.key(&trigger.spec.path),
        };
        let program = waiter.requester.program.as_ref();
        let pattern = key.or_else(|| deny.program(program?))?;
        Some(Cause::Denied(alloc::format!("{pattern}").into()))
    }

    /// Whether it matters for a trigger which program asks: then its facts must come along.
    pub fn asks_program(&self, id: TriggerId) -> bool {
        let trigger = self.triggers.get(&id);
        trigger.is_some_and(|trigger| trigger.binding.options.deny.asks_program())
    }

    fn join(&mut self, id: JobId, waiter: Waiter<T>) {
        let most = self.settings.waiters_most;
        match self.jobs.get_mut(&id) {
            Some(job) if job.waiters.len() < most => {
                self.deadlines.insert((waiter.deadline, id));
                job.waiters.push(waiter);
            }
            _ => self.reply(waiter.ticket, Answer::Failed(Cause::Overloaded)),
        }
    }

    /// Begins a job for a first access.
    fn start(&mut self, waiter: Waiter<T>) {
        let place = waiter.place.clone();
        let tree = self.trees.get(&place);
        if tree.is_some_and(|tree| tree.broken.is_some()) {
            // Half an entry is worse than none: it goes, then all of it is mounted anew.
            let mut wish = Wish::default();
            wish.waiters.push(waiter);
            self.take_down(&place, wish);
            return;
        }
        let known = tree.map(|tree| tree.target.clone());
        let work = match known {
            Some(_) => Work::Inspecting,
            None => Work::Fetching { submount: None },
        };
        let requester = waiter.requester.clone();
        let pid = requester.pid;
        let id = self.begin(Job {
            place: place.clone(),
            started: self.now,
            requester: requester.clone(),
            waiters: alloc::vec![waiter],
            work,
        });
        self.note(Note::Accessed {
            job: id,
            path: self.path_of(&place),
            requester,
        });
        match known {
            Some(target) => self.out.push(Command::Inspect {
                job: id,
                target,
                pid,
            }),
            None => self.seek(id),
        }
    }

    /// Ends a job that nobody waits for any more, if nothing was changed for it yet: nothing is
    /// mounted for nobody. Returns whether it did.
    pub(crate) fn abandoned(&mut self, id: JobId) -> bool {
        let idle = |job: &Job<T>| job.waiters.is_empty() && job.only_asks() && !self.completes(job);
        if !self.jobs.get(&id).is_some_and(idle) {
            return false;
        }
        if let Some(job) = self.end(id) {
            self.after_work(&job.place);
        }
        true
    }

    /// Finds out what to mount: from the plan of the entry, for an offset, or from the map.
    pub(crate) fn seek(&mut self, id: JobId) {
        if self.abandoned(id) {
            return;
        }
        if self.settings.frozen {
            return self.fail(id, Cause::Frozen, false);
        }
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
                unbound: None,
                replicas: None,
                share: None,
            };
            return self.resolve(id, target);
        }
        let known = (job.place.clone(), job.requester.clone());
        if let Some(plan) = self.known.take(&known.0, &known.1, self.now) {
            return self.planned(id, plan, false);
        }
        self.fetch(id);
    }

    fn fetch(&mut self, id: JobId) {
        let Some(question) = self.question(id) else {
            return self.fail(id, Cause::NoTrigger, false);
        };
        let deadline_ms = self.remaining(id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let submount = question.submount;
        job.work = Work::Fetching { submount };
        self.out.push(Command::Fetch {
            job: id,
            binding: question.binding,
            kind: question.kind,
            mount_point: question.mount_point,
            key: question.key,
            requester: job.requester.clone(),
            deadline_ms,
        });
    }

    /// What the map is asked for a job: its own key, or, for an adopted offset, the key of the
    /// entry it belongs to. Below an adopted submount whose map is not known yet, the entry
    /// that names the map comes first.
    fn question(&self, id: JobId) -> Option<Question> {
        self.question_at(&self.jobs.get(&id)?.place)
    }

    /// The same for whatever is at a place.
    pub(crate) fn question_at<'s>(&'s self, mut place: &'s Place) -> Option<Question> {
        let mut submount = None;
        loop {
            let trigger = self.triggers.get(&place.trigger)?;
            match &trigger.role {
                Role::Offset { owner, .. } => place = owner,
                Role::Submount {
                    owner,
                    map_known: false,
                } => {
                    submount = Some(place.trigger);
                    place = owner;
                }
                Role::Point(_) | Role::Submount { .. } => {
                    let key = match trigger.spec.kind {
                        TriggerKind::Indirect => place.key.clone(),
                        TriggerKind::Direct | TriggerKind::Offset => trigger.spec.path.clone(),
                    };
                    return Some(Question {
                        binding: trigger.binding.clone(),
                        kind: trigger.spec.kind,
                        mount_point: trigger.spec.path.clone(),
                        key,
                        submount,
                    });
                }
            }
        }
    }

    /// Whether a job that asked about `submount` has another question by now: of two that want to
    /// know the same submount's map, the first to hear of it has told the other.
    fn asks_otherwise(&self, id: JobId, submount: Option<TriggerId>) -> bool {
        self.question(id)
            .is_some_and(|question| question.submount != submount)
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
        let Work::Fetching { submount } = job.work else {
            return;
        };
        job.requester.names = names;
        if self.asks_otherwise(id, submount) {
            return self.seek(id);
        }
        match result {
            Ok(found) => {
                if !self.abandoned(id) {
                    self.plan(id, found, costly);
                }
            }
            Err(miss) => self.fail(id, Cause::Lookup(miss), costly),
        }
    }

    /// Plans the entry that was found, or has it planned where that takes long.
    fn plan(&mut self, id: JobId, found: Found, costly: bool) {
        let Some(question) = self.question(id) else {
            return self.fail(id, Cause::NoTrigger, false);
        };
        let Some(requester) = self.jobs.get(&id).map(|job| job.requester.clone()) else {
            return;
        };
        let order = self.plan_order(&question, requester, found);
        if order.length() >= self.settings.plan_apart {
            let submount = question.submount;
            if let Some(job) = self.jobs.get_mut(&id) {
                job.work = Work::Planning { submount, costly };
            }
            let order = Box::new(order);
            return self.out.push(Command::Plan { job: id, order });
        }
        self.use_plan(id, &question, order.plan(), costly);
    }

    /// What the plan of an entry depends on.
    pub(crate) fn plan_order(
        &self,
        question: &Question,
        requester: Requester,
        found: Found,
    ) -> PlanOrder {
        PlanOrder {
            found,
            key: question.key.clone(),
            mount_point: question.mount_point.clone(),
            kind: question.kind,
            binding: question.binding.clone(),
            global_options: self.settings.global_options.clone(),
            append_options: self.settings.append_options,
            requester,
            facts: self.settings.facts.clone(),
        }
    }

    /// An entry was planned elsewhere.
    pub(crate) fn planned_apart(&mut self, id: JobId, planning: Planning) {
        let Some(Work::Planning { submount, costly }) = self.jobs.get(&id).map(|job| &job.work)
        else {
            return;
        };
        let (submount, costly) = (*submount, *costly);
        if self.abandoned(id) {
            return;
        }
        if self.asks_otherwise(id, submount) {
            return self.seek(id);
        }
        match self.question(id) {
            Some(question) => self.use_plan(id, &question, planning, costly),
            None => self.fail(id, Cause::NoTrigger, false),
        }
    }

    fn use_plan(&mut self, id: JobId, question: &Question, planning: Planning, costly: bool) {
        let plan = match self.plan_of(planning) {
            Ok(plan) => plan,
            Err(why) => return self.fail(id, Cause::BadEntry(why), costly),
        };
        if let Some(submount) = question.submount {
            return match self.learn_map(submount, &question.binding, &plan) {
                true => self.seek(id),
                false => {
                    let why = "the entry no longer names a map here".into();
                    self.fail(id, Cause::BadEntry(why), costly)
                }
            };
        }
        if let Some(why) = self.indivisible(&plan) {
            return self.fail(id, Cause::BadEntry(why), costly);
        }
        let plan = Arc::new(plan);
        if self.answer_names(id, &plan) {
            self.planned(id, plan, costly);
        }
    }

    /// It is known what becomes of the entry that a job is about.
    fn planned(&mut self, id: JobId, plan: Arc<Plan>, costly: bool) {
        if self.goes_shared(id, &plan) {
            return;
        }
        match self.node_of(id, &plan) {
            Some(node) => {
                let unbound = None;
                let replicas = None;
                self.resolve(
                    id,
                    Target {
                        plan,
                        node,
                        unbound,
                        replicas,
                        share: None,
                    },
                );
            }
            None => {
                let why = "the entry no longer has this offset".into();
                self.fail(id, Cause::BadEntry(why), costly);
            }
        }
    }

    /// The plan that came of an entry, or why it cannot be used; what is amiss is said.
    fn plan_of(&mut self, planning: Planning) -> Result<Plan, Arc<str>> {
        let first = planning
            .diagnostics
            .first()
            .map(|found| found.message.as_str().into());
        for diagnostic in planning.diagnostics {
            if diagnostic.severity > Severity::Note {
                self.note(Note::Diagnosed(diagnostic));
            }
        }
        planning
            .plan
            .ok_or_else(|| first.unwrap_or_else(|| "nothing can be mounted from it".into()))
    }

    /// Takes from an entry which map an adopted submount is; returns whether it names one.
    pub(crate) fn learn_map(&mut self, id: TriggerId, outer: &Binding, plan: &Plan) -> bool {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return false;
        };
        let node = plan
            .nodes
            .iter()
            .find(|node| node.target == trigger.spec.path);
        let Some(Action::Submount(submount)) = node.map(|node| &node.action) else {
            return false;
        };
        trigger.binding = submount_binding(submount, &trigger.spec, outer, plan);
        if let Role::Submount { map_known, .. } = &mut trigger.role {
            *map_known = true;
        }
        true
    }

    /// Which part of the entry a job is about: the root, or the part at an adopted offset.
    fn node_of(&self, id: JobId, plan: &Plan) -> Option<usize> {
        self.node_at(&self.jobs.get(&id)?.place, plan)
    }

    /// The same for whatever is at a place.
    pub(crate) fn node_at(&self, place: &Place, plan: &Plan) -> Option<usize> {
        let trigger = self.triggers.get(&place.trigger)?;
        match trigger.role {
            Role::Offset { .. } => plan
                .nodes
                .iter()
                .position(|node| node.target == trigger.spec.path),
            Role::Point(_) | Role::Submount { .. } => Some(0),
        }
    }

    pub(crate) fn resolve(&mut self, id: JobId, target: Target) {
        self.want_servers(&target.plan, target.node);
        // What need not be there is left out when its servers are ranked.
        let required = target.plan.is_required(target.node);
        if let Some(cause) = required.then(|| self.servers_down(&target)).flatten() {
            return self.fail(id, target.unbound.unwrap_or(cause), false);
        }
        let hosts = target.plan.hosts(target.node, &self.settings.facts);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Resolving(target);
        if hosts.is_empty() {
            return self.resolved(id, &HostAnswers::new());
        }
        let deadline_ms = self.remaining(id);
        self.out.push(Command::Resolve {
            job: id,
            hosts,
            deadline_ms,
        });
    }

    /// Why it is no use to ask any of the servers: none of them answered a moment ago.
    fn servers_down(&mut self, target: &Target) -> Option<Cause> {
        if !self.servers.any_down() {
            return None;
        }
        let now = self.now;
        let mut servers = target.plan.servers(target.node).peekable();
        let first = (*servers.peek()?)?;
        let down = |host: Option<&BString>| host.is_some_and(|it| self.servers.is_down(it, now));
        if !servers.all(down) {
            return None;
        }
        self.servers.recall(first, now)
    }

    /// Servers that did not answer a moment ago are asked last.
    fn put_off(&self, steps: &mut [Planned]) {
        if !self.servers.any_down() && self.care.drained.is_empty() {
            return;
        }
        for planned in steps {
            if let Step::Mount { attempts, .. } = &mut planned.step {
                let host = |attempt: &Attempt| attempt.host.clone();
                attempts.sort_by_cached_key(|attempt| {
                    host(attempt).map_or((false, false), |host| {
                        let down = self.servers.is_down(&host, self.now);
                        (down, self.care.is_drained(&host))
                    })
                });
            }
        }
    }

    /// A server whose time has come is asked by one access alone: by this one, if it begins there.
    fn admit_first(&mut self, steps: &[Planned], deadline_ms: u64) {
        if !self.servers.any_down() {
            return;
        }
        let until = self.now + deadline_ms;
        for planned in steps {
            if let Step::Mount { attempts, .. } = &planned.step
                && let Some(host) = attempts.first().and_then(|it| it.host.as_ref())
            {
                self.servers.admit(host, self.now, until);
            }
        }
    }

    /// Servers' addresses are known.
    pub(crate) fn resolved(&mut self, id: JobId, hosts: &HostAnswers) {
        let Some(Work::Resolving(target)) = self.jobs.get(&id).map(|job| &job.work) else {
            return;
        };
        let target = target.clone();
        if !self.abandoned(id) {
            self.choose(id, target, hosts);
        }
    }

    /// Servers are chosen: everything is there to mount.
    pub(crate) fn prepare(&mut self, id: JobId, target: &Target, servers: &[Ranked]) {
        let target = target.clone();
        let Some((mut steps, numbers)) = self.steps(id, &target, servers) else {
            return self.fail(id, Cause::NoTrigger, false);
        };
        // A root that none of its servers serves: the offsets are of use without it.
        steps.retain(|planned| match &planned.step {
            Step::Mount { attempts, .. } => planned.required || !attempts.is_empty(),
            _ => true,
        });
        self.put_off(&mut steps);
        if let Err(cause) = self.leave_out_what_is_there(id, &mut steps) {
            return self.fail(id, cause, false);
        }
        self.expect_triggers(id, &target, &steps, &numbers);
        self.leave_parts_out(&mut steps);
        let deadline_ms = self.remaining(id);
        self.admit_first(&steps, deadline_ms);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.work = Work::Mounting(target, steps.clone(), numbers);
        }
        self.out.push(Command::Perform {
            job: id,
            steps,
            deadline_ms,
        });
    }

    /// Begins to add what is missing of an entry that an earlier life left in parts, and that
    /// cannot go since somebody is in it.
    pub(crate) fn mend(&mut self, waiter: Waiter<T>) {
        let requester = waiter.requester.clone();
        let id = self.begin(Job {
            place: waiter.place.clone(),
            started: self.now,
            requester,
            waiters: alloc::vec![waiter],
            work: Work::Fetching { submount: None },
        });
        self.seek(id);
    }

    /// Where an entry is being mended: only the steps that are missing.
    ///
    /// # Errors
    /// It cannot be mended: its root or an offset would cover offsets that are there.
    fn leave_out_what_is_there(&self, id: JobId, steps: &mut Vec<Planned>) -> Result<(), Cause> {
        let Some(part) = self
            .jobs
            .get(&id)
            .and_then(|job| self.trees.get(&job.place))
        else {
            return Ok(());
        };
        let offsets = part.offsets.iter().filter_map(|it| self.triggers.get(it));
        // There may be thousands.
        let there: BTreeSet<&BStr> = offsets.map(|it| it.spec.path.as_bstr()).collect();
        let covers = |planned: &Planned| match &planned.step {
            Step::Mount { .. } => planned.required && part.how == How::Directory,
            // The entry may have changed since: an offset must not hide another.
            Step::Install(spec) => {
                spec.kind == TriggerKind::Indirect || is_beside(&there, spec.path.as_bstr())
            }
            _ => false,
        };
        if steps.iter().any(covers) {
            return Err(part.broken.clone().unwrap_or(Cause::NoTrigger));
        }
        steps.retain(|planned| match &planned.step {
            // Where the root is missing, it was allowed to.
            Step::Mount { .. } => false,
            Step::Install(spec) => !there.contains(&spec.path.as_bstr()),
            _ => true,
        });
        Ok(())
    }

    /// The steps for a job, and the numbers of the triggers in them; nothing if its own
    /// trigger is gone.
    fn steps(
        &mut self,
        id: JobId,
        target: &Target,
        servers: &[Ranked],
    ) -> Option<(Vec<Planned>, Numbers)> {
        let job = self.jobs.get(&id)?;
        let trigger = self.triggers.get(&job.place.trigger)?;
        let place = job.place.clone();
        let make_root = self.makes_directory(trigger.spec.kind);
        let defaults = TriggerDefaults {
            source: trigger.binding.source.clone(),
            timeout: self.timeout_of(&trigger.binding),
            strict_expire: trigger.binding.options.strict_expire,
            propagation: trigger.binding.options.propagation,
        };
        let mut numbers = Vec::new();
        let mut number = |node| {
            let trigger = self.new_trigger_id();
            numbers.push((node, trigger));
            trigger
        };
        let (plan, node) = (&target.plan, target.node);
        let attempts = plan.attempts(node, servers);
        if target.share.is_some() {
            let steps = self.steps_shared(&place, target, attempts)?;
            return Some((steps, Vec::new()));
        }
        let steps = plan.steps(node, make_root, attempts, &mut number, &defaults);
        Some((steps, numbers))
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
        let Some(owner) = self.jobs.get(&id).map(|job| job.place.clone()) else {
            return;
        };
        let Some(outer) = self
            .triggers
            .get(&owner.trigger)
            .map(|parent| parent.binding.clone())
        else {
            return;
        };
        let nodes: BTreeMap<TriggerId, usize> = numbers
            .iter()
            .map(|(node, number)| (*number, *node))
            .collect();
        for planned in steps {
            let Step::Install(spec) = &planned.step else {
                continue;
            };
            let Some(node) = nodes.get(&spec.id).copied() else {
                continue;
            };
            let owner = owner.clone();
            let action = target.plan.nodes.get(node).map(|node| &node.action);
            let (role, binding) = match (spec.kind, action) {
                (TriggerKind::Indirect, Some(Action::Submount(submount))) => {
                    let binding = submount_binding(submount, spec, &outer, &target.plan);
                    let map_known = true;
                    (Role::Submount { owner, map_known }, binding)
                }
                _ => {
                    let node = Some((target.plan.clone(), node));
                    (Role::Offset { owner, node }, outer.clone())
                }
            };
            let trigger = new_trigger(spec.clone(), role, binding);
            self.triggers.insert(spec.id, trigger);
        }
    }

    /// Whether the directory of a key is made for it and goes with it: that of a direct key is its
    /// mount point, unless mounts are made elsewhere.
    pub(crate) fn makes_directory(&self, kind: TriggerKind) -> bool {
        match kind {
            TriggerKind::Indirect => true,
            TriggerKind::Direct => self.settings.whole_entries,
            TriggerKind::Offset => false,
        }
    }

    pub(crate) fn timeout_of(&self, binding: &Binding) -> u32 {
        binding.options.timeout.unwrap_or(self.settings.timeout)
    }
}

/// The numbers of the triggers in a list of steps, by the plan's node.
type Numbers = Vec<(usize, TriggerId)>;

/// What a look-up is about.
pub(crate) struct Question {
    pub(crate) binding: Arc<Binding>,
    pub(crate) kind: TriggerKind,
    pub(crate) mount_point: BString,
    pub(crate) key: BString,
    /// The adopted submount whose map the entry names, if that is what is wanted of it.
    pub(crate) submount: Option<TriggerId>,
}

/// Whether any of `paths` is above or below `path`, itself aside.
fn is_beside(paths: &BTreeSet<&BStr>, path: &BStr) -> bool {
    if ancestors(path).any(|above| paths.contains(above)) {
        return true;
    }
    let mut inside = BString::from(path);
    inside.push(b'/');
    let next = paths.range::<&BStr, _>(inside.as_bstr()..).next();
    next.is_some_and(|next| is_below(*next, path))
}

/// A trigger that is being put in place.
pub(crate) fn new_trigger(spec: TriggerSpec, role: Role, binding: Arc<Binding>) -> Trigger {
    Trigger {
        least_timeout: spec.timeout,
        timeout_changed: false,
        spec,
        state: State::Installing,
        role,
        binding,
        round: Round::None,
        last_used: Millis::default(),
        usage: None,
    }
}

/// The binding of a map that an entry names: what a master-map line would say of it.
fn submount_binding(
    submount: &SubmountPlan,
    spec: &TriggerSpec,
    outer: &Binding,
    plan: &Plan,
) -> Arc<Binding> {
    let mut options = submount.options.clone();
    options.timeout = Some(spec.timeout);
    Arc::new(Binding {
        maps: [submount.map.clone()].into(),
        options,
        dialect: outer.dialect.clone(),
        source: submount.map.name.clone(),
        origin: plan.origin.clone(),
    })
}
