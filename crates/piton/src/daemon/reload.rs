//! Reading the maps anew, applying what changed, and saying what came of it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime};

use bstr::{BString, ByteSlice};
use piton_control::message::{Change, ReloadPlan};
use piton_engine::Event;
use piton_engine::cause::Cause;
use piton_engine::config::{Configuration, Point};
use piton_engine::difference::Difference;
use piton_engine::time::Millis;
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_plan::step::TriggerKind;
use piton_source::cache::Watch;
use piton_source::limits::EXPORTS_TIME;

use super::convert::text;
use super::loader::{Loaded, Reason, Refused, Unserved};
use super::messages::{Message, Outline};
use super::pool::Turn;
use super::runtime::{Earlier, Runtime};
use super::staging::Staging;
use super::start::look_for_earlier_life;
use super::tasks::lane_of;
use super::turns::Doors;
use super::watch::changed_since;

/// Files often change in bursts (an editor writes, renames, sets the mode): wait until then.
pub(super) const SETTLE_MS: u64 = 100;

/// Behind links, how long it takes from a change of the mount table to a look whether what links lead
/// to is still there: mounts of ours come in groups.
const LOOK_MS: u64 = 250;

/// How long it is waited for a reload's changes before it is said what came of it: a server that
/// hangs must not make the operator wait, too.
const CHANGES_MS: u64 = 5_000;

/// Findings told in one answer; the log has them all.
const DIAGNOSTICS_TOLD: usize = 100;

type Answer = Sender<Result<Outline, String>>;

/// Reading the maps anew: at most once at a time.
#[derive(Default)]
pub(super) struct Reload {
    running: bool,
    /// Reasons that came meanwhile.
    waiting: VecDeque<Reason>,
    /// When a changed file is acted on.
    due: Option<Millis>,
    questions: BTreeMap<u64, Answer>,
    next_question: u64,
    /// Whose changes are being applied: answered when that is over, or at this moment.
    applying: Vec<(Answer, Outline, Millis)>,
    /// The mount table, where somebody may unmount what links lead to.
    mounts: Option<File>,
    /// When it is looked at.
    look: Option<Millis>,
}

impl Reload {
    /// A file of a map has changed.
    pub(super) fn file_changed(&mut self, now: Millis) {
        self.due = Some(now + SETTLE_MS);
    }

    /// Hears from now on of what is mounted and unmounted, if it matters.
    pub(super) fn watch_mounts(&mut self, staging: &Staging, doors: &Doors) -> io::Result<()> {
        if !staging.is_in_place() {
            let table = File::open("/proc/self/mountinfo")?;
            doors.mounts(table.as_fd())?;
            self.mounts = Some(table);
        }
        Ok(())
    }

    /// Something was mounted or unmounted, perhaps.
    pub(super) fn mounts_changed(&mut self, changed: bool, now: Millis) {
        if changed {
            self.look.get_or_insert(now + LOOK_MS);
        }
    }

    /// When there is something to do.
    pub(super) fn next_due(&self) -> Option<Millis> {
        let applied = self.applying.iter().map(|(_, _, end)| *end);
        applied.chain(self.due).chain(self.look).min()
    }

    /// Remembers who asked; the number stands for the question.
    pub(super) fn question(&mut self, answer: Answer) -> u64 {
        self.next_question += 1;
        self.questions.insert(self.next_question, answer);
        self.next_question
    }

    fn asker(&mut self, reason: Reason) -> Option<Answer> {
        match reason {
            Reason::Asked(number) | Reason::Planned(number) => self.questions.remove(&number),
            Reason::Start | Reason::Changed => None,
        }
    }
}

impl Runtime {
    /// Does what time has made due.
    pub(super) fn reload_due(&mut self, now: Millis) {
        if self.reload.due.is_some_and(|due| due <= now) {
            self.read_maps(Reason::Changed);
        }
        if self.reload.look.is_some_and(|look| look <= now) {
            self.reload.look = None;
            self.look_after_links();
        }
        self.reload_settled();
    }

    /// Begins to read the maps, or does so after the reading that is under way.
    pub(super) fn read_maps(&mut self, reason: Reason) {
        if self.reload.running {
            // Any reading that begins later sees what has changed.
            if reason != Reason::Changed || self.reload.waiting.is_empty() {
                self.reload.waiting.push_back(reason);
            }
            return;
        }
        self.reload.running = true;
        if let Reason::Asked(_) = reason {
            self.worker.maps.renew_exports();
            self.look_after_links();
        }
        // What has changed so far is read now.
        self.reload.due = None;
        let (loader, mailbox) = (self.loader.clone(), self.mailbox.clone());
        let front_end = (self.earlier == Earlier::Unknown).then(|| self.front_end.clone());
        self.pools.slow.submit(move || {
            let mut loaded = loader.load(reason);
            if let Some(front_end) = front_end {
                look_for_earlier_life(&mut loaded, &*front_end);
            }
            mailbox.post(Message::Loaded(Box::new(loaded)));
        });
    }

    /// Has it looked whether what links lead to is still mounted.
    fn look_after_links(&self) {
        if self.worker.staging.is_in_place() {
            return;
        }
        let linked = self.engine.linked();
        let linked = linked.map(|(trigger, key, path)| (trigger, key.clone(), path.clone()));
        let linked: Vec<_> = linked.collect();
        let staging = self.worker.staging.clone();
        self.pools.slow.submit(move || staging.look_after(linked));
    }

    /// The maps were read anew.
    pub(super) fn read(&mut self, loaded: Loaded) {
        self.reload.running = false;
        self.loaded(loaded);
        if let Some(reason) = self.reload.waiting.pop_front() {
            self.read_maps(reason);
        }
    }

    /// Has it looked what changed between reading and watching, which nobody told.
    fn look_back(&self, watch: Watch, began: SystemTime) {
        let mailbox = self.mailbox.clone();
        self.pools.slow.submit(move || {
            if changed_since(&watch, began) {
                mailbox.post(Message::FilesChanged);
            }
        });
    }

    /// Applies what was read, or says what would change.
    pub(super) fn loaded(&mut self, mut loaded: Loaded) {
        let watch = std::mem::take(&mut loaded.watch);
        if self.watcher.set(&watch) {
            self.look_back(watch, loaded.began);
        }
        self.journal.maps_read(&loaded);
        if !self.announced {
            self.beginning.read(&loaded);
        }
        let asker = self.reload.asker(loaded.reason);
        let configuration = match loaded.result {
            Ok(mut configuration) => {
                self.keep_unserved(&loaded.unserved, &mut configuration);
                configuration
            }
            Err(miss) => {
                let why = Cause::Lookup(miss).to_string();
                match loaded.reason {
                    Reason::Start => self.await_master(&why),
                    _ => tracing::error!(why, "the master map cannot be read; nothing is changed"),
                }
                if let Some(answer) = asker {
                    // Who asked may be gone; the same below.
                    let _ = answer.send(Err(why));
                }
                return;
            }
        };
        // Nobody wants to know: then it is not worked out.
        let outline = asker.map(|answer| {
            let difference = self.engine.difference(&configuration);
            let mut outline = self.outline(&difference, &configuration);
            outline.plan.refused = loaded.refused.iter().map(refused).collect();
            outline.plan.diagnostics = told(&loaded.diagnostics);
            (answer, outline)
        });
        if let Reason::Planned(_) = loaded.reason {
            if let Some((answer, mut outline)) = outline {
                outline.plan.pending = self.still_pending(&outline.plan);
                let _ = answer.send(Ok(outline));
            }
            return;
        }
        self.events.push_back(Event::Configure(configuration));
        self.work();
        if self.earlier == Earlier::Unknown {
            self.resume();
        }
        self.renew_listings();
        self.renew_volumes();
        self.announce();
        if let Some((answer, outline)) = outline {
            let end = self.clock.now() + CHANGES_MS;
            self.reload.applying.push((answer, outline, end));
        }
    }

    /// What a reload changes, for people.
    fn outline(&self, difference: &Difference, configuration: &Configuration) -> Outline {
        let maps: HashMap<&BString, &BString> = configuration
            .points
            .iter()
            .map(|point| (&point.path, &point.binding.source))
            .collect();
        let change = |path: &BString, detail: &str| Change {
            path: text(path.as_bstr()),
            map: maps
                .get(path)
                .copied()
                .or_else(|| self.engine.map_at(path))
                .map(|map| text(map.as_bstr()))
                .unwrap_or_default(),
            detail: detail.to_owned(),
        };
        let plain = |paths: &[BString]| paths.iter().map(|path| change(path, "")).collect();
        let touched = difference.added.len() + difference.changed.len();
        let waits = difference.waits.iter().map(|(path, mounts)| {
            let mounts = mounts.iter().map(|mount| text(mount.as_bstr())).collect();
            (text(path.as_bstr()), mounts)
        });
        Outline {
            plan: ReloadPlan {
                added: plain(&difference.added),
                removed: plain(&difference.removed),
                changed: difference
                    .changed
                    .iter()
                    .map(|(path, detail)| change(path, detail))
                    .collect(),
                unchanged: configuration.points.len().saturating_sub(touched) as u64,
                ..ReloadPlan::default()
            },
            waits: waits.collect(),
        }
    }

    /// Shows the keys that the maps of submounts have now. Those of mount points come with the
    /// configuration.
    fn renew_listings(&self) {
        let default = self.engine.settings().browse;
        for (spec, binding) in self.engine.submounts() {
            if !binding.options.browse.unwrap_or(default) {
                continue;
            }
            let (worker, front_end) = (self.worker.clone(), self.front_end.clone());
            let (id, path, binding) = (spec.id, spec.path.clone(), binding.clone());
            let until = Instant::now() + EXPORTS_TIME;
            let lane = lane_of(&binding, path.as_bstr());
            self.pools.slow.submit_in(lane, until, move |turn| {
                let Turn::Begin(_hold) = turn else { return };
                let listing = worker.keys(&binding, path.as_bstr(), Some(until));
                // What cannot be read now is shown as it was.
                if listing.served {
                    let keys: Arc<[BString]> = listing.keys.into_iter().map(|it| it.key).collect();
                    front_end.list(id, &keys);
                }
            });
        }
    }

    /// What an earlier reload left pending and this one does not change stays so.
    fn still_pending(&self, plan: &ReloadPlan) -> Vec<Change> {
        let touched = |path: &str| {
            let lists = [&plan.added, &plan.removed, &plan.changed];
            lists
                .iter()
                .any(|list| list.iter().any(|it| it.path == path))
        };
        // What is to be put in place is told as added, if it is wanted still.
        let earlier = self.engine.pending().into_iter();
        earlier
            .filter(|it| it.what != "installation")
            .map(|it| pending(&it))
            .filter(|change| !touched(&change.path))
            .collect()
    }

    /// Answers those whose reload is over: what changed, and what waits.
    pub(super) fn reload_settled(&mut self) {
        if self.reload.applying.is_empty() {
            return;
        }
        let now = self.clock.now();
        let over = !self.engine.changing();
        let ready = |end: &Millis| over || *end <= now;
        let mut at = 0;
        while let Some((_, _, end)) = self.reload.applying.get(at) {
            if !ready(end) {
                at += 1;
                continue;
            }
            let (answer, mut outline, _) = self.reload.applying.swap_remove(at);
            let waiting = self.engine.pending();
            outline.plan.pending = waiting.iter().map(pending).collect();
            outline.waits = waiting
                .into_iter()
                .map(|one| {
                    let waits_for = one.waits_for.iter().map(|path| text(path.as_bstr()));
                    (text(one.path.as_bstr()), waits_for.collect())
                })
                .collect();
            let _ = answer.send(Ok(outline));
        }
    }

    /// A map that vanished, perhaps for a moment, takes no mount point with it: it has no keys.
    fn keep_unserved(&self, unserved: &[Unserved], configuration: &mut Configuration) {
        let mut taken: HashSet<BString> = match unserved {
            [] => return,
            _ => configuration
                .points
                .iter()
                .map(|point| point.path.clone())
                .collect(),
        };
        for Unserved { path, binding } in unserved {
            let kind = match path {
                Some(_) => TriggerKind::Indirect,
                None => TriggerKind::Direct,
            };
            for standing in self.engine.points_of(kind, &binding.maps) {
                let meant = path.as_ref().is_none_or(|path| path == standing);
                if meant && taken.insert(standing.clone()) {
                    configuration.points.push(Point {
                        path: standing.clone(),
                        kind,
                        binding: binding.clone(),
                        listing: Arc::from([]),
                    });
                }
            }
        }
    }
}

fn pending(pending: &piton_engine::difference::Pending) -> Change {
    Change {
        path: text(pending.path.as_bstr()),
        map: text(pending.map.as_bstr()),
        detail: pending.what.to_owned(),
    }
}

fn refused(refused: &Refused) -> Change {
    Change {
        path: text(refused.path.as_bstr()),
        map: text(refused.map.as_bstr()),
        detail: refused.why.clone(),
    }
}

fn told(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics
        .iter()
        .filter(|found| found.severity > Severity::Note)
        .take(DIAGNOSTICS_TOLD)
        .map(|found| format!("{}: {}", found.origin(), found.message))
        .collect()
}
