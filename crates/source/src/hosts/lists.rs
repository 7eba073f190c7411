//! The export lists of servers, remembered.
//!
//! A list is used as long as what is wanted is in it. A server is asked when somebody comes to it
//! anew, when a name is looked for that its list does not have (once in a while, whatever the number
//! of such names), and after a reload. Of many who want to ask one server one does, and the others
//! wait for its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString};
use piton_map::lookup::Miss;

use super::list::{ExportList, Refused};
use super::{ServerExports, Trouble};
use crate::limits::{EXPORT_LISTS, EXPORT_LISTS_BYTES};

/// How new a list has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Any that is not out of date, whenever it was had.
    Any,
    /// The server was asked not longer ago than this, whatever came of it.
    Recent(Duration),
}

/// What servers export, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    servers: Mutex<HashMap<BString, Arc<Server>>>,
    /// Counts the times at which all lists became out of date.
    generation: AtomicU64,
    /// Counts uses: of servers, the one with the smallest number was not used for longest.
    uses: AtomicU64,
}

/// What is known of one server.
#[derive(Debug, Default)]
struct Server {
    /// Held by the one who asks.
    asking: Mutex<()>,
    state: Mutex<State>,
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    list: Option<Arc<ExportList>>,
    /// Why the last question was not answered.
    trouble: Option<Trouble>,
    /// When the last question was over.
    asked: Option<Instant>,
    /// The generation in which it was asked.
    generation: u64,
}

impl State {
    /// What there is, if it is as new as needed.
    fn answer(&self, need: Need, generation: u64) -> Option<Result<Arc<ExportList>, Miss>> {
        let asked = self.asked?;
        match (need, &self.trouble, &self.list) {
            _ if self.generation != generation => None,
            (Need::Any, _, Some(list)) => Some(Ok(list.clone())),
            (Need::Recent(age), _, _) if asked.elapsed() > age => None,
            (Need::Recent(_), Some(trouble), _) => Some(Err(trouble.miss())),
            (Need::Recent(_), None, Some(list)) => Some(Ok(list.clone())),
            _ => None,
        }
    }
}

impl Lists {
    /// What is known, if it is as new as needed.
    pub(crate) fn known(&self, server: &BStr, need: Need) -> Option<Result<Arc<ExportList>, Miss>> {
        let known = lock(&self.servers).get(server).cloned()?;
        self.touch(&known);
        let generation = self.generation.load(Ordering::Relaxed);
        lock(&known.state).answer(need, generation)
    }

    /// Whether there is a list of the server's, however old.
    pub(crate) fn has_list(&self, server: &BStr) -> bool {
        let known = lock(&self.servers).get(server).cloned();
        known.is_some_and(|known| lock(&known.state).list.is_some())
    }

    /// Has `ask` ask the server, unless somebody else just did.
    pub(crate) fn ask(
        &self,
        name: &BStr,
        need: Need,
        until: Instant,
        ask: impl FnOnce() -> Result<ExportList, Trouble>,
    ) -> Result<Arc<ExportList>, Miss> {
        let begun = Instant::now();
        let server = lock(&self.servers).entry(name.into()).or_default().clone();
        self.touch(&server);
        let turn = lock(&server.asking);
        let generation = self.generation.load(Ordering::Relaxed);
        let state = lock(&server.state);
        // What was answered while we waited is as new as can be, whether it is a list or not.
        let meanwhile = state.asked.is_some_and(|asked| asked >= begun);
        let just_now = || state.answer(Need::Recent(Duration::MAX), generation);
        let known = state.answer(need, generation);
        if let Some(answer) = known.or_else(|| just_now().filter(|_| meanwhile)) {
            return answer;
        }
        drop(state);
        if Instant::now() >= until {
            return Err(Miss::TimedOut(
                format!("{name} is being asked for its exports").into(),
            ));
        }
        let result = ask();
        let mut state = lock(&server.state);
        state.asked = Some(Instant::now());
        state.generation = generation;
        let answer = match result {
            Ok(list) => {
                let before = state.list.as_ref().map(|list| list.refused());
                report(name, &list, before);
                let list = Arc::new(list);
                state.trouble = None;
                state.list = Some(list.clone());
                Ok(list)
            }
            Err(trouble) => {
                let miss = trouble.miss();
                tracing::debug!(server = %name, ?trouble, "no exports");
                state.trouble = Some(trouble);
                // Whoever stands in the tree already goes on with what was there.
                match (&state.list, need) {
                    (Some(list), Need::Any) => Ok(list.clone()),
                    _ => Err(miss),
                }
            }
        };
        drop(state);
        drop(turn);
        self.make_room(name);
        answer
    }

    /// Has every server asked again before its list is used.
    pub(crate) fn out_of_date(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// What is known, in the order of names.
    pub(crate) fn status(&self) -> Vec<ServerExports> {
        let servers = lock(&self.servers).clone();
        let mut all: Vec<ServerExports> = servers
            .into_iter()
            .map(|(server, known)| {
                let state = lock(&known.state);
                ServerExports {
                    server,
                    list: state.list.clone(),
                    trouble: state.trouble.clone(),
                }
            })
            .collect();
        all.sort_by(|one, other| one.server.cmp(&other.server));
        all
    }

    fn touch(&self, server: &Server) {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        server.used.store(now, Ordering::Relaxed);
    }

    /// Forgets what was not used for longest, until there is room; first of servers without a list.
    /// `keep` was just asked.
    fn make_room(&self, keep: &BStr) {
        let mut servers = lock(&self.servers);
        let mut all: Vec<(bool, u64, BString, usize)> = servers
            .iter()
            .map(|(name, server)| {
                let list = lock(&server.state).list.clone();
                let bytes = list.as_ref().map_or(0, |list| list.bytes());
                let used = server.used.load(Ordering::Relaxed);
                (list.is_some(), used, name.clone(), bytes)
            })
            .collect();
        let mut bytes: usize = all.iter().map(|(.., bytes)| bytes).sum();
        all.sort();
        for (.., name, its) in all {
            if servers.len() <= EXPORT_LISTS && bytes <= EXPORT_LISTS_BYTES {
                return;
            }
            if name != keep {
                servers.remove(&name);
                bytes -= its;
            }
        }
    }
}

/// Says which lines of a list are not used, unless that was said of the list before.
fn report(server: &BStr, list: &ExportList, before: Option<&Refused>) {
    let refused = list.refused();
    if refused.count == 0 || before == Some(refused) {
        return;
    }
    let examples = refused.examples.join(", ");
    tracing::warn!(
        %server,
        lines = refused.count,
        "lines of its export list are not used: {examples}"
    );
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
