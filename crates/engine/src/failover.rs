//! What can be had from several servers moves from one that is dead to one that lives.
//!
//! What moves is mounted read only from NFS, and its entry names other servers. When its server is
//! dead and another is not, it is let go of: the place triggers anew, whoever walks there is
//! served by another server, and who was inside stays inside, with the dead one. When a server
//! that is wanted more has come back, what is idle is unmounted early; what is in use never is.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::step::{TriggerId, TriggerKind};

use crate::cause::Cause;
use crate::command::{Answer, Command, Note};
use crate::engine::Engine;
use crate::event::{JobId, Outcome, StepFailure};
use crate::job::{Job, LettingGo, Work};
use crate::limits::{
    FAIL_BACK_AFTER_MS, FAIL_BACK_IDLE_S, FAIL_BACK_PAUSE_MS, LET_GO_MS, LOOK_AGAIN_MS,
    MOVE_PAUSE_MOST_MS, MOVE_PAUSE_MS,
};
use crate::place::Place;
use crate::time::Millis;
use crate::tree::{How, Tree};
use crate::trigger::State;
use crate::unmounting::Wish;

/// A server that something could come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// As the map has it.
    pub(crate) host: BString,
    /// How much it is wanted before anybody is asked; the least is best.
    pub(crate) rank: u32,
}

/// What is remembered of a place that was let go of, so that nothing wanders all the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    at: Millis,
    /// How often in a row.
    times: u32,
}

impl Moved {
    /// When it may be let go of again.
    fn again(self) -> Millis {
        let doubled = MOVE_PAUSE_MS.saturating_mul(1 << (self.times - 1).min(16));
        self.at + doubled.min(MOVE_PAUSE_MOST_MS)
    }

    /// Whether it is as if it had never moved.
    fn is_over(self, now: Millis) -> bool {
        now.since(self.at) >= 2 * MOVE_PAUSE_MOST_MS
    }
}

/// What is to be done about something mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// Nothing.
    Nothing,
    /// Nothing yet: at that time it is to be looked at again.
    Later(Millis),
    /// It is to be let go of, for this reason.
    LetGo(Arc<str>),
    /// It is to be unmounted if it is idle: it can be had from that server.
    IfIdle(BString),
}

impl<T> Engine<T> {
    /// Has everything that can move looked at, at that time or before.
    pub(crate) fn look_at_replicas(&mut self, at: Millis) {
        self.look = Some(self.look.map_or(at, |look| look.min(at)));
    }

    /// Moves what is to move, if anything has changed or it is time.
    pub(crate) fn tend_replicas(&mut self) {
        let turns = self.servers.turns();
        if self.turns_seen != turns {
            self.turns_seen = turns;
            self.look_at_replicas(self.now);
        }
        if !self.running() || self.look.is_none_or(|look| look > self.now) {
            return;
        }
        self.look = None;
        let now = self.now;
        self.moved.retain(|_, moved| !moved.is_over(now));
        let wanted: Vec<(Place, Wanted)> = self
            .trees
            .iter()
            .filter(|(_, tree)| tree.replicas.is_some())
            .map(|(place, tree)| (place.clone(), self.wanted(place, tree)))
            .filter(|(_, wanted)| *wanted != Wanted::Nothing)
            .collect();
        for (place, wanted) in wanted {
            match wanted {
                Wanted::Nothing => {}
                Wanted::Later(at) => self.look_at_replicas(at),
                Wanted::LetGo(why) => drop(self.let_go(&place, why)),
                Wanted::IfIdle(to) => drop(self.unmount_if_idle(&place, to)),
            }
        }
    }

    fn wanted(&self, place: &Place, tree: &Tree) -> Wanted {
        let (Some(host), Some(replicas)) = (tree.host(), &tree.replicas) else {
            return Wanted::Nothing;
        };
        if self.care.pinned(&tree.target).is_some() {
            return Wanted::Nothing;
        }
        let others = || replicas.iter().filter(|other| other.host != *host);
        let dead = |host: &BString| self.servers.is_dead(host);
        let usable = |other: &&Replica| !dead(&other.host) && !self.care.is_drained(&other.host);
        if dead(host) {
            if !others().any(|other| !dead(&other.host)) {
                return Wanted::Nothing;
            }
            return match self.moved.get(place).map(|moved| moved.again()) {
                Some(again) if again > self.now => Wanted::Later(again),
                _ => Wanted::LetGo(self.why_dead(host)),
            };
        }
        if let Some(drain) = self.care.drained.get(host) {
            return match others().find(usable) {
                Some(_) if drain.now => Wanted::LetGo(format!("{host} is drained").into()),
                Some(other) => Wanted::IfIdle(other.host.clone()),
                None => Wanted::Nothing,
            };
        }
        let own = replicas.iter().find(|it| it.host == *host);
        let own = own.map_or(u32::MAX, |it| it.rank);
        let better = others().filter(|other| other.rank < own).filter(usable);
        let back = better.filter_map(|other| {
            let at = self.returned(&other.host).filter(|at| *at >= tree.since)?;
            Some((at + FAIL_BACK_AFTER_MS, other))
        });
        match back.min_by_key(|(at, other)| (*at, other.rank)) {
            Some((at, _)) if at > self.now => Wanted::Later(at),
            Some((_, other)) => Wanted::IfIdle(other.host.clone()),
            None => Wanted::Nothing,
        }
    }

    fn why_dead(&self, host: &BString) -> Arc<str> {
        let why = self.servers.why(host);
        let why = why.as_deref().unwrap_or("it does not answer");
        format!("{host} is dead: {why}").into()
    }

    /// Since when a server can be used that could not be before.
    fn returned(&self, host: &BString) -> Option<Millis> {
        self.servers.back_since(host).max(self.care.freed(host))
    }

    /// Whether nothing under way keeps a place from being let go of, and nothing in it does.
    ///
    /// # Errors
    /// What does; none: it passes by itself.
    fn may_let_go(&self, place: &Place) -> Result<(), Option<&'static str>> {
        let mut queue = Vec::new();
        self.below(place, &mut queue);
        let busy = queue.is_empty()
            || queue.iter().any(|place| self.working.contains_key(place))
            || self.working.contains_key(&self.root_place(place))
            || self.at_work(place).is_some()
            || self.works_below(place)
            || self.adopting(&queue)
            || self.lies_in_forsaken(place);
        if busy {
            return Err(None);
        }
        for below in queue.iter().skip(1) {
            let Some(tree) = self.trees.get(below) else {
                continue;
            };
            match tree.how {
                How::Mount { .. } if !tree.read_only => {
                    return Err(Some("something mounted below it can be written to"));
                }
                How::Submount(_) => return Err(Some("another map is mounted below it")),
                How::Mount { .. } | How::Symlink { .. } | How::Directory => {}
            }
        }
        let moving = |id: &TriggerId| {
            let trigger = self.triggers.get(id);
            trigger.is_none_or(|trigger| trigger.state != State::Ready)
        };
        match moving(&place.trigger) {
            true => Err(None),
            false => Ok(()),
        }
    }

    /// Begins to let go of what is mounted at a place.
    fn let_go(&mut self, place: &Place, why: Arc<str>) -> Option<JobId> {
        if let Err(obstacle) = self.may_let_go(place) {
            self.look_at_replicas(self.now + LOOK_AGAIN_MS);
            if let Some(obstacle) = obstacle {
                self.cannot_move(place, obstacle.into());
            }
            return None;
        }
        let steps = self.steps_away(place);
        // Who walks to the entry of a part waits until it is whole again.
        self.hide(&self.root_place(place));
        let id = self.begin(Job {
            place: place.clone(),
            started: self.now,
            requester: Requester::default(),
            waiters: Vec::new(),
            work: Work::LettingGo(LettingGo { why }),
        });
        self.out.push(Command::Perform {
            job: id,
            steps,
            deadline_ms: LET_GO_MS,
        });
        Some(id)
    }

    /// Says once why something does not move.
    fn cannot_move(&mut self, place: &Place, why: Arc<str>) {
        let Some(tree) = self.trees.get_mut(place) else {
            return;
        };
        if tree.stuck.as_ref() != Some(&why) {
            tree.stuck = Some(why.clone());
            let path = tree.target.clone();
            self.note(Note::CannotMove { path, why });
        }
    }

    /// What was to be let go of is, or stays.
    pub(crate) fn has_let_go(&mut self, id: JobId, work: &LettingGo, outcome: Outcome) {
        let Some(job) = self.end(id) else { return };
        let place = job.place.clone();
        let gone = self.triggers.contains_key(&place.trigger);
        match outcome.failed {
            Some(failure) => self.still_holds(&place, &failure),
            None if gone => self.left_to_its_users(&place, work),
            None => {}
        }
        self.keep_whole(&self.root_place(&place));
        for waiter in job.waiters {
            if waiter.place == place || self.triggers.contains_key(&waiter.place.trigger) {
                self.enter(waiter);
            } else {
                let cause = Cause::KnownDown(work.why.clone());
                self.reply(waiter.ticket, Answer::Failed(cause));
            }
        }
        self.after_work(&place);
    }

    fn still_holds(&mut self, place: &Place, failure: &StepFailure) {
        self.look_at_replicas(self.now + LOOK_AGAIN_MS);
        self.cannot_move(place, failure.text.clone());
    }

    fn left_to_its_users(&mut self, place: &Place, work: &LettingGo) {
        let Some(tree) = self.trees.get(place) else {
            return;
        };
        let note = Note::LetGo {
            path: tree.target.clone(),
            source: tree.source(),
            why: work.why.clone(),
        };
        self.fell(place);
        self.negative.forget(place);
        let before = self.moved.remove(place);
        let before = before.filter(|moved| !moved.is_over(self.now));
        let moved = Moved {
            at: self.now,
            times: before.map_or(0, |moved| moved.times) + 1,
        };
        self.moved.insert(place.clone(), moved);
        self.note(note);
    }

    /// Unmounts what is mounted at a place if nobody uses it: it can be had from `to`.
    fn unmount_if_idle(&mut self, place: &Place, to: BString) -> Option<JobId> {
        self.look_at_replicas(self.now + FAIL_BACK_PAUSE_MS);
        // A part goes with its entry.
        let place = &self.root_place(place);
        let tree = self.trees.get_mut(place)?;
        if !tree.offsets.is_empty() {
            // To take its offsets away for a try would show to whoever uses it: the kernel knows
            // when it is idle.
            let hurried = core::mem::replace(&mut tree.hurried, true);
            if !hurried
                && tree
                    .timeout
                    .is_none_or(|it| it == 0 || it > FAIL_BACK_IDLE_S)
            {
                tree.timeout = Some(FAIL_BACK_IDLE_S);
                let indirect = self.triggers.get(&place.trigger);
                let indirect = indirect.is_some_and(|it| it.spec.kind == TriggerKind::Indirect);
                let key = indirect.then(|| place.key.clone());
                self.set_key_timeout(place.trigger, key, FAIL_BACK_IDLE_S);
            }
            return None;
        }
        let path = tree.target.clone();
        let wish = Wish {
            quiet: Some(Note::Moves { path, to }),
            ..Wish::default()
        };
        self.take_down(place, wish)
    }

    /// A server is drained: what can move at once begins to.
    pub(crate) fn move_away(&mut self, server: &BString) -> Vec<JobId> {
        let from = |tree: &Tree| tree.host() == Some(server) && tree.replicas.is_some();
        let mounted = self.trees.iter().filter(|(_, tree)| from(tree));
        let wanted: Vec<(Place, Wanted)> = mounted
            .map(|(place, tree)| (place.clone(), self.wanted(place, tree)))
            .collect();
        let mut jobs = Vec::new();
        for (place, wanted) in wanted {
            jobs.extend(match wanted {
                Wanted::LetGo(why) => self.let_go(&place, why),
                Wanted::IfIdle(to) => self.unmount_if_idle(&place, to),
                Wanted::Nothing | Wanted::Later(_) => None,
            });
        }
        jobs
    }

    /// Why something is still mounted from a server that is drained.
    pub(crate) fn why_it_stays(&self, tree: &Tree) -> Arc<str> {
        if let Some(why) = &tree.stuck {
            return why.clone();
        }
        if self.care.pinned(&tree.target).is_some() {
            return "it is pinned".into();
        }
        let Some(replicas) = &tree.replicas else {
            return match tree.read_only {
                true => "its entry names no other server".into(),
                false => "it can be written to, and stays until it is idle".into(),
            };
        };
        let host = tree.host();
        let usable = |other: &&Replica| {
            Some(&other.host) != host
                && !self.servers.is_dead(&other.host)
                && !self.care.is_drained(&other.host)
        };
        match replicas.iter().any(|other| usable(&other)) {
            true => "in use: it moves when it is idle, or at once with --now".into(),
            false => "no other server of its entry can be used".into(),
        }
    }

    /// Why what is mounted from a dead server stays there, for `status`.
    pub(crate) fn why_not_moved(&self, tree: &Tree) -> Option<Arc<str>> {
        let host = tree.host().filter(|host| self.servers.is_dead(host))?;
        if let Some(why) = &tree.stuck {
            return Some(why.clone());
        }
        let Some(replicas) = &tree.replicas else {
            return match tree.read_only {
                true => Some("its entry names no other server".into()),
                false => Some("it can be written to".into()),
            };
        };
        if self.care.pinned(&tree.target).is_some() {
            return Some("it is pinned".into());
        }
        let others = replicas.iter().filter(|other| other.host != *host);
        let mut dead: Vec<String> = Vec::new();
        for other in others {
            match self.servers.is_dead(&other.host) {
                true => dead.push(format!("{}", other.host)),
                false => return Some("it moves as soon as it can".into()),
            }
        }
        Some(format!("{} is dead, too", dead.join(" and ")).into())
    }

    /// Forgets what moved in a trigger that is gone.
    pub(crate) fn forget_moved(moved: &mut BTreeMap<Place, Moved>, trigger: TriggerId) {
        if !moved.is_empty() {
            moved.retain(|place, _| place.trigger != trigger);
        }
    }
}
