//! What an earlier life mounted read only: where else it could come from.
//!
//! The mount table names the server of a mount, and none of the others that its entry names. So the
//! map is asked for the entry again, in the background, for one mount at a time. If it names the
//! very source that is mounted, and other servers, the mount moves when its server dies as if this
//! life had made it ([`crate::failover`]). Otherwise it stays as it is. Nobody waits for that: no
//! place is locked, and an answer that comes too late is forgotten.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use bstr::ByteSlice;
use piton_map::lookup::{Found, MapType, Miss};
use piton_map::requester::{Requester, RequesterNames};
use piton_plan::facts::HostAnswers;
use piton_plan::plan::Plan;
use piton_plan::planner::Planning;
use piton_plan::step::TriggerId;

use crate::choosing::movable;
use crate::command::Command;
use crate::engine::Engine;
use crate::event::JobId;
use crate::limits::{LEARN_AFTER_MS, LEARN_AGAIN_MS, LEARN_PAUSE_MS, LEARN_TRIES};
use crate::place::Place;
use crate::servers::Watch;
use crate::time::Millis;
use crate::tree::{How, Tree};

/// What is still to be learnt.
#[derive(Debug, Default)]
pub(crate) struct Learning {
    lessons: VecDeque<Lesson>,
    /// The one under way.
    current: Option<Current>,
    /// When the next begins.
    at: Option<Millis>,
}

/// A mount whose entry is to be asked for.
#[derive(Debug)]
struct Lesson {
    place: Place,
    /// How often the map could not be asked.
    failures: u32,
    /// Not before then.
    after: Millis,
}

/// A question under way.
#[derive(Debug)]
struct Current {
    /// Its number: none of a job that locks a place.
    id: JobId,
    lesson: Lesson,
    /// For whom it was mounted: a map may say something else to somebody else.
    requester: Requester,
    stage: Stage,
}

/// What is waited for.
#[derive(Clone, Debug)]
enum Stage {
    /// The map; it is to name the map of that submount first, where that is not known.
    Fetching(Option<TriggerId>),
    /// The plan, for the same.
    Planning(Option<TriggerId>),
    /// Addresses of the servers of this part.
    Resolving(Arc<Plan>, usize),
}

/// What is said of a mount whose map has not been asked yet.
const UNASKED: &str = "an earlier daemon mounted it, and its map has not been asked yet";

impl Learning {
    /// When the next question is asked.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.at.filter(|_| self.current.is_none())
    }
}

impl<T> Engine<T> {
    /// Something is taken over that could perhaps come from elsewhere, too.
    pub(crate) fn learn_later(&mut self, place: &Place, tree: &mut Tree) {
        if !is_to_learn(tree) {
            return;
        }
        tree.stuck = Some(UNASKED.into());
        let after = self.now + LEARN_AFTER_MS;
        self.learning.lessons.push_back(Lesson {
            place: place.clone(),
            failures: 0,
            after,
        });
        self.learning.at.get_or_insert(after);
    }

    /// Whether a question was asked to learn from the answer.
    pub(crate) fn learns_from(&self, id: JobId) -> bool {
        self.learning.current.as_ref().is_some_and(|it| it.id == id)
    }

    /// Whether any more is to be learnt.
    pub(crate) fn learns(&self) -> bool {
        self.running() && !self.settings.frozen
    }

    /// Asks the next question, if it is time.
    pub(crate) fn tend_learning(&mut self) {
        if !self.learns() {
            return;
        }
        while self.learning.next().is_some_and(|at| at <= self.now) {
            match self.next_lesson() {
                Some(lesson) => self.begin_lesson(lesson),
                None => self.plan_lesson(),
            }
        }
    }

    /// Those whose server is dead come first.
    fn next_lesson(&mut self) -> Option<Lesson> {
        let due = |lesson: &Lesson| lesson.after <= self.now;
        let pressing = |lesson: &Lesson| {
            let host = self.server_of(&lesson.place);
            due(lesson) && host.is_some_and(|host| self.servers.is_dead(host))
        };
        let lessons = &self.learning.lessons;
        let pressing = match self.servers.any_down() {
            true => lessons.iter().position(pressing),
            false => None,
        };
        let index = pressing.or_else(|| lessons.iter().position(due))?;
        self.learning.lessons.remove(index)
    }

    /// Decides when the next question is asked: not at once, so that a thousand of them are no storm.
    fn plan_lesson(&mut self) {
        let first = self.learning.lessons.iter().map(|it| it.after).min();
        self.learning.at = first.map(|at| at.max(self.now + LEARN_PAUSE_MS));
    }

    fn begin_lesson(&mut self, lesson: Lesson) {
        let tree = self.trees.get(&lesson.place).filter(|it| is_to_learn(it));
        let Some(requester) = tree.map(|tree| tree.first.clone()) else {
            return;
        };
        self.learning.current = Some(Current {
            id: self.new_job_id(),
            lesson,
            requester,
            stage: Stage::Fetching(None),
        });
        self.ask_map_to_learn();
    }

    fn ask_map_to_learn(&mut self) {
        let Some(current) = &self.learning.current else {
            return;
        };
        let question = self.question_at(&current.lesson.place);
        let hosts = Some(MapType::Hosts);
        // Of the exports of one server there is no other.
        let question = question.filter(|it| it.binding.maps.iter().any(|map| map.kind != hosts));
        let Some(question) = question else {
            return self.nothing_learnt("its entry names no other server");
        };
        let deadline_ms = self.settings.deadline_ms;
        let Some(current) = &mut self.learning.current else {
            return;
        };
        current.stage = Stage::Fetching(question.submount);
        self.out.push(Command::Fetch {
            job: current.id,
            binding: question.binding,
            kind: question.kind,
            mount_point: question.mount_point,
            key: question.key,
            requester: current.requester.clone(),
            deadline_ms,
        });
    }

    /// The map answered.
    pub(crate) fn fetched_to_learn(
        &mut self,
        names: Option<Arc<RequesterNames>>,
        result: Result<Found, Miss>,
    ) {
        let Some(current) = &mut self.learning.current else {
            return;
        };
        let Stage::Fetching(submount) = current.stage else {
            return;
        };
        current.requester.names = names;
        let (id, requester) = (current.id, current.requester.clone());
        let place = current.lesson.place.clone();
        let Some(question) = self.question_at(&place) else {
            return self.nothing_learnt(UNASKED);
        };
        if question.submount != submount {
            // An access has learnt meanwhile which map that is.
            return self.ask_map_to_learn();
        }
        let found = match result {
            Ok(found) => found,
            Err(Miss::NoSuchKey) => return self.nothing_learnt("its entry is gone"),
            Err(_) => return self.learn_again(),
        };
        let order = self.plan_order(&question, requester, found);
        if order.length() < self.settings.plan_apart {
            return self.planned_to_learn(submount, order.plan());
        }
        if let Some(current) = &mut self.learning.current {
            current.stage = Stage::Planning(submount);
        }
        let order = alloc::boxed::Box::new(order);
        self.out.push(Command::Plan { job: id, order });
    }

    /// An entry was planned elsewhere.
    pub(crate) fn planned_apart_to_learn(&mut self, planning: Planning) {
        let stage = self.learning.current.as_ref().map(|it| it.stage.clone());
        if let Some(Stage::Planning(submount)) = stage {
            self.planned_to_learn(submount, planning);
        }
    }

    fn planned_to_learn(&mut self, submount: Option<TriggerId>, planning: Planning) {
        let Some(place) = self.place_of_lesson() else {
            return;
        };
        let Some(question) = self.question_at(&place) else {
            return self.nothing_learnt(UNASKED);
        };
        if question.submount != submount {
            return self.ask_map_to_learn();
        }
        let Some(plan) = planning.plan else {
            return self.nothing_learnt("its entry cannot be used any more");
        };
        if let Some(submount) = submount {
            return match self.learn_map(submount, &question.binding, &plan) {
                true => self.ask_map_to_learn(),
                false => self.nothing_learnt("its entry no longer names a map"),
            };
        }
        let Some(node) = self.node_at(&place, &plan) else {
            return self.nothing_learnt("its entry is another by now");
        };
        let hosts = plan.hosts(node, &self.settings.facts);
        let deadline_ms = self.settings.deadline_ms;
        let Some(current) = &mut self.learning.current else {
            return;
        };
        current.stage = Stage::Resolving(Arc::new(plan), node);
        if hosts.is_empty() {
            return self.resolved_to_learn(&HostAnswers::new());
        }
        self.out.push(Command::Resolve {
            job: current.id,
            hosts,
            deadline_ms,
        });
    }

    /// Servers' addresses are known: compares what the entry says with what is mounted.
    pub(crate) fn resolved_to_learn(&mut self, hosts: &HostAnswers) {
        let Some(Current {
            id,
            lesson,
            stage: Stage::Resolving(plan, node),
            ..
        }) = &self.learning.current
        else {
            return;
        };
        let (place, plan, node) = (lesson.place.clone(), plan.clone(), *node);
        let seed = self.seed_of(*id);
        let facts = self.settings.facts.clone();
        let (Some(choice), Some(mount)) =
            (plan.choice(node, &facts, hosts, seed), plan.mount(node))
        else {
            return self.nothing_learnt("its entry is another by now");
        };
        let Some(replicas) = movable(&plan, node, &choice) else {
            return self.nothing_learnt("its entry names no other server");
        };
        let source = self.trees.get(&place).map(Tree::source).unwrap_or_default();
        let Some(host) = choice.origin(mount, source.as_bstr()).cloned() else {
            let asked = plan.hosts(node, &facts);
            return match asked.iter().all(|host| hosts.contains_key(host)) {
                true => self.nothing_learnt("its entry no longer names its server"),
                // It may be mounted by an address of a name that could not be looked up.
                false => self.learn_again(),
            };
        };
        self.want_servers(&plan, node);
        let Some(tree) = self.trees.get_mut(&place).filter(|it| is_to_learn(it)) else {
            return self.end_lesson();
        };
        tree.replicas = Some(replicas);
        tree.stuck = None;
        let before = tree.how.clone();
        if let How::Mount {
            host: known,
            served,
            ..
        } = &mut tree.how
        {
            if let Some(served) = served {
                served.host = host.clone();
                served.watch = Watch::Closely;
            }
            *known = Some(host);
        }
        let how = tree.how.clone();
        self.count_mount(&how);
        self.discount_mount(&before);
        self.look_at_replicas(self.now);
        self.end_lesson();
    }

    fn place_of_lesson(&self) -> Option<Place> {
        let current = self.learning.current.as_ref()?;
        Some(current.lesson.place.clone())
    }

    /// What is mounted stays where it is, for this reason.
    fn nothing_learnt(&mut self, why: &str) {
        if let Some(place) = self.place_of_lesson()
            && let Some(tree) = self.trees.get_mut(&place).filter(|it| is_to_learn(it))
        {
            tree.stuck = Some(why.into());
        }
        self.end_lesson();
    }

    /// Who could not be asked is asked again, a few times.
    fn learn_again(&mut self) {
        let Some(Current { lesson, .. }) = self.learning.current.take() else {
            return;
        };
        let failures = lesson.failures + 1;
        if failures < LEARN_TRIES {
            self.learning.lessons.push_back(Lesson {
                failures,
                after: self.now + (LEARN_AGAIN_MS << (failures - 1)),
                ..lesson
            });
        }
        self.plan_lesson();
    }

    fn end_lesson(&mut self) {
        self.learning.current = None;
        self.plan_lesson();
    }
}

/// Whether there is anything to learn of what is mounted: it comes from a server, nothing is written
/// to it, and nothing else is known of it.
fn is_to_learn(tree: &Tree) -> bool {
    tree.read_only && tree.replicas.is_none() && tree.broken.is_none() && tree.host().is_some()
}
