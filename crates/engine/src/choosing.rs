//! Choosing a server: whom to ask, and what comes of it.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_plan::Proximity;
use piton_plan::facts::HostAnswers;
use piton_plan::plan::Plan;
use piton_plan::probe::{Answer, Target as Asked};
use piton_plan::select::{Candidate, Choice, Ranked, Verdict, is_nfs};

use crate::cause::{Cause, Errno};
use crate::command::{Command, Note};
use crate::engine::Engine;
use crate::event::{JobId, StepFailure};
use crate::failover::Replica;
use crate::job::{Asking, Target, Whom, Work};
use crate::limits::{PROBE_GRACE_MS, PROBE_LEAST_MS, PROBE_MOST_MS};

impl<T> Engine<T> {
    /// Addresses are known: asks the servers, unless what they said a moment ago tells which is
    /// the best.
    pub(crate) fn choose(&mut self, id: JobId, target: Target, hosts: &HostAnswers) {
        let (facts, seed) = (self.settings.facts.clone(), self.seed_of(id));
        let Some(mut choice) = target.plan.choice(target.node, &facts, hosts, seed) else {
            return self.prepare(id, &target, &[]);
        };
        let target = Target {
            replicas: movable(&target.plan, target.node, &choice),
            ..target
        };
        if !self.care.drained.is_empty() {
            choice.put_last(|name| self.care.is_drained(name));
        }
        let heard = |candidate: &Candidate, asked: &Asked| self.known(candidate, asked);
        let ranked = choice.ranked(&heard);
        if choice.is_decided(&heard) {
            return self.chosen(id, &target, &ranked);
        }
        // Who did not answer a moment ago is not asked.
        let down = |candidate: &Candidate| {
            let name = candidate.name.as_ref();
            name.is_some_and(|name| self.servers.is_down(name, self.now))
        };
        let asked: Vec<Whom> = choice
            .targets()
            .filter(|(candidate, _)| !down(candidate))
            .map(|(candidate, target)| (candidate.name.clone(), target))
            .collect();
        if asked.is_empty() {
            return self.chosen(id, &target, &ranked);
        }
        let deadline_ms = (self.remaining(id) / 2).min(PROBE_MOST_MS);
        let patient = deadline_ms >= PROBE_LEAST_MS;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Probing(Asking {
            target,
            choice,
            asked: asked.clone(),
            patient,
        });
        // Many keys of one server: one question is enough.
        match self.questions.get_mut(&asked) {
            Some((_, others)) if patient => return others.push(id),
            None if patient => {
                self.questions.insert(asked.clone(), (id, Vec::new()));
            }
            _ => {}
        }
        for host in asked.iter().filter_map(|(name, _)| name.as_ref()) {
            self.servers.admit(host, self.now, self.now + deadline_ms);
        }
        self.out.push(Command::Probe {
            job: id,
            targets: asked.into_iter().map(|(_, target)| target).collect(),
            grace_ms: PROBE_GRACE_MS,
            deadline_ms,
        });
    }

    /// What is known of an address without asking: what it said a moment ago, or that its server
    /// does not answer.
    fn known(&self, candidate: &Candidate, asked: &Asked) -> Option<Answer> {
        let name = candidate.name.as_ref()?;
        match self.servers.is_down(name, self.now) {
            true => Some(Answer::Silent),
            false => self.servers.fresh(name, asked, self.now).cloned(),
        }
    }

    /// Where chance decides about a job.
    pub(crate) fn seed_of(&self, id: JobId) -> u64 {
        self.settings.seed ^ self.now.0 ^ (id.0 << 32)
    }

    /// Servers answered, or did not.
    pub(crate) fn probed(&mut self, id: JobId, mut answers: Vec<Answer>) {
        // The job that asked may be gone: others may wait for the same.
        let mut questions = self.questions.iter();
        let question = questions.find(|(_, (by, _))| *by == id);
        let question = question.map(|(asked, _)| asked.clone());
        let (asked, patient) = match (question, self.jobs.get(&id).map(|job| &job.work)) {
            (Some(asked), _) => (asked, true),
            (None, Some(Work::Probing(asking))) if !asking.patient => (asking.asked.clone(), false),
            _ => return,
        };
        // What is not answered at all was not asked: whoever asks may have died.
        answers.resize(asked.len(), Answer::Unheard);
        if !patient {
            let silent = answers.iter_mut().filter(|it| **it == Answer::Silent);
            silent.for_each(|answer| *answer = Answer::Unheard);
        }
        self.hear(&asked, &answers);
        let others = match patient {
            true => self.questions.remove(&asked),
            false => None,
        };
        self.go_on(id, &answers);
        for other in others.into_iter().flat_map(|(_, others)| others) {
            self.go_on(other, &answers);
        }
    }

    /// Goes on with a job that waits for these answers.
    fn go_on(&mut self, id: JobId, answers: &[Answer]) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let work = core::mem::replace(&mut job.work, Work::Fetching { submount: None });
        let Work::Probing(asking) = work else {
            job.work = work;
            return;
        };
        if self.abandoned(id) {
            return;
        }
        let heard = |candidate: &Candidate, target: &Asked| {
            let this = |(name, asked): &Whom| *name == candidate.name && asked == target;
            let Some(at) = asking.asked.iter().position(this) else {
                return self.known(candidate, target);
            };
            answers.get(at).cloned()
        };
        let ranked = asking.choice.ranked(&heard);
        self.judge_answers(&asking.asked, &ranked);
        self.chosen(id, &asking.target, &ranked);
    }

    /// Remembers what servers said. Who was too late to be heard although it was wanted more than
    /// one that answered is not waited for again so soon.
    fn hear(&mut self, asked: &[Whom], answers: &[Answer]) {
        let each = || asked.iter().zip(answers);
        let serving = each().filter(|(_, answer)| answer.serves());
        let best = serving.map(|((_, target), _)| target.rank).min();
        for ((name, target), answer) in each() {
            let late = *answer == Answer::Unheard && best.is_some_and(|best| target.rank < best);
            let answer = match late {
                true => &Answer::Silent,
                false => answer,
            };
            if let Some(name) = name {
                self.server_heard(name, target, answer);
            }
        }
    }

    /// Remembers which of the servers that were asked are there and which are not, by their names.
    fn judge_answers(&mut self, asked: &[Whom], ranked: &[Ranked]) {
        let name = |ranked: &Ranked| {
            let name = &ranked.candidate.name;
            let was_asked = asked.iter().any(|(asked, _)| asked == name);
            // This host is not taken for dead: it need not serve for what is bind-mounted.
            let other = ranked.candidate.proximity != Proximity::Own;
            name.clone().filter(|_| was_asked && other)
        };
        let there: Vec<BString> = ranked
            .iter()
            .filter(|one| one.verdict.is_there())
            .filter_map(name)
            .collect();
        for one in ranked {
            let Some(host) = name(one) else { continue };
            match (trouble(one.verdict), one.verdict) {
                (Some((_, text)), _) if !there.contains(&host) => {
                    let text: Arc<str> = text.into();
                    self.server_failed(&host, &text);
                }
                // That it is there it has said itself; whether mounts work will be seen.
                _ => self.server_undecided(&host),
            }
        }
    }

    /// The servers are in their order: mounts from the first, unless there is none.
    fn chosen(&mut self, id: JobId, target: &Target, ranked: &[Ranked]) {
        let Some(cause) = hopeless(ranked) else {
            return self.prepare(id, target, ranked);
        };
        if target.plan.is_required(target.node) {
            let cause = target.unbound.clone().unwrap_or(cause);
            return self.fail(id, cause, false);
        }
        let path = target.plan.nodes[target.node].target.clone();
        if let Some(job) = self.jobs.get(&id) {
            let place = job.place.clone();
            self.remember_error(&place, &path, &cause);
        }
        let failure = StepFailure {
            index: 0,
            errno: cause.errno(),
            text: format!("{cause}").into(),
        };
        self.note(Note::OffsetMissing { path, failure });
        self.prepare(id, target, ranked);
    }
}

/// The servers of what moves when one of them dies: it is NFS, read only, and has several.
pub(crate) fn movable(plan: &Plan, node: usize, choice: &Choice) -> Option<Arc<[Replica]>> {
    let mount = plan.mount(node)?;
    let ranks = choice.preferences();
    let nfs = is_nfs(&mount.what) && plan.is_read_only(node);
    let replica = |(host, rank): (&BString, u32)| Replica {
        host: host.clone(),
        rank,
    };
    (nfs && ranks.len() > 1).then(|| ranks.into_iter().map(replica).collect())
}

/// What a verdict says against a server, if anybody was asked.
fn trouble(verdict: Verdict) -> Option<(Errno, &'static str)> {
    match verdict {
        Verdict::Silent => Some((Errno::TIMEDOUT, "the server does not answer")),
        Verdict::Refused { errno } => Some((Errno(errno), refusal(Errno(errno)))),
        Verdict::Unsupported => Some((
            Errno::NETUNREACH,
            "this host has no address from which it could be reached",
        )),
        _ => None,
    }
}

pub(crate) fn refusal(errno: Errno) -> &'static str {
    match errno {
        Errno::CONNREFUSED => "the server refuses: NFS does not run there",
        Errno::HOSTUNREACH | Errno::NETUNREACH => "there is no way to the server",
        Errno::CONNRESET => "the server ended the connection",
        Errno::TIMEDOUT | Errno::HOSTDOWN => "the server does not answer",
        _ => "the server does not serve what is asked for",
    }
}

/// Why none of the servers can be mounted from, if it is so.
fn hopeless(ranked: &[Ranked]) -> Option<Cause> {
    if ranked.is_empty() || ranked.iter().any(|one| one.verdict.may_be_tried()) {
        return None;
    }
    let failing = ranked.iter().filter_map(|one| trouble(one.verdict));
    // Of several the first that was reached at all says most.
    let errno = failing
        .map(|(errno, _)| errno)
        .min_by_key(|errno| *errno == Errno::TIMEDOUT);
    if let Some(errno) = errno {
        return Some(Cause::Mount(errno, in_words(ranked).into()));
    }
    let name = ranked.iter().find_map(|one| one.candidate.name.as_ref());
    name.map(|name| Cause::UnknownHost(format!("{name}").into()))
}

/// What became of each server, for people.
fn in_words(ranked: &[Ranked]) -> String {
    let each = ranked.iter().filter_map(|one| {
        let Candidate { name, host, .. } = &one.candidate;
        let name = match (host, name) {
            (Some(host), Some(name)) if host != name => format!("{name} ({host})"),
            (_, name) => format!("{}", name.as_ref()?),
        };
        let words = match one.verdict {
            Verdict::Nowhere => "nobody knows its address",
            verdict => trouble(verdict).map_or("not asked", |(_, words)| words),
        };
        Some(format!("{name}: {words}"))
    });
    let each: Vec<String> = each.collect();
    each.join("; ")
}
