//! Servers that die and return: who is asked in the background, who hears of it, and what is
//! mounted from whom.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_plan::plan::Plan;
use piton_plan::probe::{Answer, Service, Target as Asked, service};
use piton_plan::step::{Attempt, Planned, Step, TriggerSpec, What};

use crate::cause::Cause;
use crate::command::{Command, Note};
use crate::engine::Engine;
use crate::event::ExistingMount;
use crate::place::Place;
use crate::servers::{News, Served, Watch};
use crate::tree::{How, Tree};
use crate::trigger::Trigger;

impl<T> Engine<T> {
    /// A mount failed because its server did not answer: `text` is what was said.
    pub(crate) fn server_failed(&mut self, host: &BString, text: &Arc<str>) {
        let chance = self.chance();
        let news = self.servers.failed(host, text, self.now, chance);
        self.tell(host, news);
    }

    /// A server did something for us, or refused to.
    pub(crate) fn server_answered(&mut self, host: &BString) {
        let chance = self.chance();
        let news = self.servers.answered(host, self.now, chance);
        self.tell(host, news);
    }

    /// A server that one access was to ask was not asked after all, or nothing came of it.
    pub(crate) fn server_undecided(&mut self, host: &BString) {
        let chance = self.chance();
        self.servers.undecided(host, self.now, chance);
    }

    /// What an address of a server answered when an access asked it.
    pub(crate) fn server_heard(&mut self, host: &BString, target: &Asked, answer: &Answer) {
        let chance = self.chance();
        let heard = [(target, answer)];
        let news = self.servers.heard(host, heard, self.now, chance);
        self.tell(host, news);
    }

    /// Forgets what is known of servers: maps have changed, or an operator wants all tried anew.
    pub(crate) fn forgive_servers(&mut self) {
        let chance = self.chance();
        self.servers.clear(self.now, chance);
    }

    /// Asks those in the background whose time has come.
    pub(crate) fn check_servers(&mut self) {
        while let Some(question) = self.servers.due(self.now) {
            self.out.push(Command::Check {
                server: question.server,
                targets: question.targets,
                service: question.service,
                deadline_ms: question.deadline_ms,
            });
        }
    }

    /// A server was asked in the background.
    pub(crate) fn checked(&mut self, server: &BString, answers: &[(Asked, Answer)]) {
        let chance = self.chance();
        let news = self.servers.checked(server, answers, self.now, chance);
        self.tell(server, news);
    }

    fn tell(&mut self, host: &BString, news: News) {
        match news {
            News::None => {}
            News::Died => {
                let server = self.servers.get(host);
                let why = server.and_then(|it| it.error.clone()).unwrap_or_default();
                let note = Note::ServerDied {
                    server: host.clone(),
                    why,
                    mounts: self.mounts_from(host),
                };
                self.note(note);
            }
            News::Back(dead_ms) => {
                let server = host.clone();
                self.note(Note::ServerBack { server, dead_ms });
            }
        }
    }

    /// The places at which something is mounted from a server.
    pub(crate) fn mounts_from(&self, host: &BString) -> Vec<BString> {
        let from = |how: &How| how.served().is_some_and(|it| it.host == *host);
        let mounts = self.trees.values().filter(|tree| from(&tree.how));
        mounts.map(|tree| tree.target.clone()).collect()
    }

    /// The servers of an entry can be asked in the background from now on, if they can be at all.
    pub(crate) fn want_servers(&mut self, plan: &Plan, node: usize) {
        let Some(mount) = plan.mount(node).filter(|it| it.network) else {
            return;
        };
        let Some(service) = self.service_of(&mount.what, &mount.options) else {
            return;
        };
        for host in plan.servers(node).flatten() {
            let chance = self.chance();
            self.servers.wants(host, service, self.now, chance);
        }
    }

    /// Where an attempt that worked has mounted from, if its server is watched.
    pub(crate) fn served_by(&self, plan: &Plan, node: usize, attempt: &Attempt) -> Option<Served> {
        let host = attempt.host.clone()?;
        let service = self.service_of(&attempt.what, &attempt.options)?;
        let mut servers = plan.servers(node).flatten();
        let others = servers.any(|it| *it != host);
        let watch = match others && is_read_only(&attempt.options) {
            true => Watch::Closely,
            false => Watch::Slowly,
        };
        Some(Served {
            host,
            address: attempt.address,
            service,
            watch,
        })
    }

    /// Where something that an earlier life mounted comes from.
    pub(crate) fn served_as_found(&self, found: &ExistingMount) -> Option<Served> {
        let server = found
            .server
            .as_ref()
            .filter(|_| self.settings.asks_servers)?;
        Some(Served {
            host: server.host.clone(),
            address: server.address,
            service: server.service?,
            watch: Watch::Slowly,
        })
    }

    fn service_of(&self, what: &What, options: &[BString]) -> Option<Service> {
        service(what, options).filter(|_| self.settings.asks_servers)
    }

    /// Something was entered as mounted.
    pub(crate) fn count_mount(&mut self, how: &How) {
        if let Some(served) = how.served() {
            let chance = self.chance();
            self.servers.mounted(served, self.now, chance);
        }
    }

    /// It is not mounted any more.
    pub(crate) fn discount_mount(&mut self, how: &How) {
        if let Some(served) = how.served() {
            let chance = self.chance();
            self.servers.unmounted(served, self.now, chance);
        }
    }

    /// What is mounted at a place turned out to be gone: a bare directory is left.
    pub(crate) fn lay_bare(&mut self, place: &Place) {
        if let Some(tree) = self.trees.get_mut(place) {
            let how = core::mem::replace(&mut tree.how, How::Directory);
            self.discount_mount(&how);
        }
    }

    /// Whether what is mounted at a place comes from a server that does not answer. Then it goes
    /// lazily, with all that lies below: whoever unmounts it in the usual way may have to wait.
    pub(crate) fn is_forsaken(&self, place: &Place) -> bool {
        self.server_of(place)
            .is_some_and(|host| self.servers.is_down(host, self.now))
    }

    /// Unmounting took too long: a server that is asked in the background will show whether it is
    /// its fault.
    pub(crate) fn server_is_silent(&mut self, place: &Place, why: &Arc<str>) {
        let served = self.trees.get(place).and_then(|tree| tree.how.served());
        if let Some(host) = served.map(|served| served.host.clone()) {
            self.server_failed(&host, why);
        }
    }

    /// The server that something is mounted from.
    pub(crate) fn server_of(&self, place: &Place) -> Option<&BString> {
        match &self.trees.get(place)?.how {
            How::Mount { host, .. } => host.as_ref(),
            How::Symlink { .. } | How::Directory | How::Submount(_) => None,
        }
    }

    /// Whether a place lies in something whose server does not answer: no walk comes through.
    pub(crate) fn lies_in_forsaken(&self, place: &Place) -> bool {
        if !self.servers.any_down() {
            return false;
        }
        let mut trigger = self.triggers.get(&place.trigger);
        while let Some(owner) = trigger.and_then(Trigger::owner) {
            if self.is_forsaken(owner) {
                return true;
            }
            trigger = self.triggers.get(&owner.trigger);
        }
        false
    }

    /// The steps that take down what comes from a server that does not answer.
    pub(crate) fn steps_away(&self, place: &Place) -> Vec<Planned> {
        let Some(tree) = self.trees.get(place) else {
            return Vec::new();
        };
        let mut triggers = Vec::new();
        self.triggers_below(tree, &mut triggers);
        let target = tree.target.clone();
        let mut steps = alloc::vec![Planned {
            step: Step::LetGo { target, triggers },
            required: true,
        }];
        if tree.own_directory {
            let path = tree.target.clone();
            steps.push(Planned {
                step: Step::RemoveDirectory { path },
                required: false,
            });
        }
        steps
    }

    fn triggers_below(&self, tree: &Tree, found: &mut Vec<TriggerSpec>) {
        for id in tree.triggers() {
            if let Some(trigger) = self.triggers.get(&id) {
                found.push(trigger.spec.clone());
            }
            for (_, inner) in self.trees_of(id) {
                self.triggers_below(inner, found);
            }
        }
    }

    /// Why an access to a place is answered from memory. What failed because servers were dead
    /// counts as long as all of them are.
    pub(crate) fn recall(&mut self, place: &Place) -> Option<Cause> {
        let servers = self.negative.servers_of(place);
        if servers.is_empty() {
            return self.negative.recall(place, self.now);
        }
        let now = self.now;
        if !servers.iter().all(|host| self.servers.is_down(host, now)) {
            return None;
        }
        let causes = servers.iter().map(|host| self.servers.recall(host, now));
        causes.flatten().next()
    }

    /// How much is mounted from each server, for the audit.
    pub(crate) fn counted_mounts(&self) -> BTreeMap<&BString, u32> {
        let mut counted = BTreeMap::new();
        for served in self.trees.values().filter_map(|tree| tree.how.served()) {
            *counted.entry(&served.host).or_default() += 1;
        }
        counted
    }
}

/// Whether options say that nothing is written: the last word counts.
fn is_read_only(options: &[BString]) -> bool {
    let word = |option: &&BString| ["ro", "rw"].iter().any(|word| **option == *word);
    options
        .iter()
        .rev()
        .find(word)
        .is_some_and(|it| *it == "ro")
}
