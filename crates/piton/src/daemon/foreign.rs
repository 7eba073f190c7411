//! Processes in mount namespaces that our mounts do not reach: each namespace is named in the log
//! once, and counted for `status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bstr::{BStr, BString, ByteSlice};
use piton_mount::namespaces;
use piton_process::about;

/// Namespaces kept in mind; those that came first are forgotten.
const NAMESPACES: usize = 256;

/// For how long a namespace that is silent is taken for the same when its number comes again: the
/// kernel gives the number of one that is gone to another.
const SAME: Duration = Duration::from_secs(3_600);

/// What to do about it.
const REMEDY: &str = "let it receive mounts from the host: `unshare --propagation slave`, \
    `docker run -v /PATH:/PATH:rslave`, in a unit of systemd none of PrivateMounts= and \
    MountFlags=private";

/// A mount namespace that is cut off, and who came from there last.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    /// The number of the namespace.
    pub(crate) namespace: u64,
    /// Accesses from there that could not be served.
    pub(crate) accesses: u64,
    /// What was wanted last.
    pub(crate) path: BString,
    /// The process.
    pub(crate) pid: u32,
    /// Its name.
    pub(crate) name: Option<BString>,
    /// Its control group.
    pub(crate) cgroup: Option<BString>,
    /// When.
    pub(crate) at: SystemTime,
}

/// All that were met.
#[derive(Debug, Default)]
pub(crate) struct Foreigners(Mutex<BTreeMap<u64, Foreign>>);

impl Foreigners {
    /// Whether process `pid` cannot see what is mounted at `path`; notes it down if so.
    pub(crate) fn includes(&self, pid: u32, path: &BStr) -> bool {
        let hidden = (pid != 0).then(|| namespaces::hidden_from(pid, path));
        let Some(namespace) = hidden.flatten() else {
            return false;
        };
        self.note(namespace, pid, path);
        true
    }

    /// All, in the order of their numbers.
    pub(crate) fn list(&self) -> Vec<Foreign> {
        self.lock().values().cloned().collect()
    }

    fn note(&self, namespace: u64, pid: u32, path: &BStr) {
        let (name, cgroup) = (about::name(pid), about::cgroup(pid));
        let mut all = self.lock();
        let known = all.get(&namespace).filter(|known| {
            let silent = known.at.elapsed().unwrap_or_default();
            silent < SAME
        });
        let accesses = known.map_or(0, |known| known.accesses) + 1;
        if accesses == 1 && all.len() >= NAMESPACES {
            let oldest = all.values().min_by_key(|foreign| foreign.at);
            if let Some(oldest) = oldest.map(|foreign| foreign.namespace) {
                all.remove(&oldest);
            }
        }
        let foreign = Foreign {
            namespace,
            accesses,
            path: path.to_owned(),
            pid,
            name,
            cgroup,
            at: SystemTime::now(),
        };
        if accesses == 1 {
            warn(&foreign);
        }
        all.insert(namespace, foreign);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Foreign>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn(foreign: &Foreign) {
    let cgroup = foreign.cgroup.as_ref().map(|cgroup| cgroup.as_bstr());
    let place = cgroup.and_then(|cgroup| {
        let container = about::container(cgroup).map(|id| format!("container {id}"));
        container.or_else(|| about::unit(cgroup).map(|unit| format!("unit {unit}")))
    });
    let (pid, path, namespace) = (foreign.pid, &foreign.path, foreign.namespace);
    let who = foreign.name.as_ref().map(|name| name.as_bstr());
    tracing::warn!(
        %path,
        pid,
        who = %who.unwrap_or_default(),
        place = place.as_deref().unwrap_or("unknown"),
        "a process in mount namespace {namespace} cannot see what is mounted for it: mounts of the \
         host do not reach that namespace; {REMEDY}"
    );
}

/// Says so, if nobody but this process's own mount namespace would see its mounts.
pub(crate) fn warn_if_cut_off() {
    if namespaces::is_cut_off() {
        tracing::warn!(
            "this daemon lives in a mount namespace of its own whose mounts do not reach the host: \
             nobody outside will see them; in its unit of systemd, use none of PrivateMounts=, \
             PrivateTmp=, ProtectSystem= and MountFlags=, or start it outside of the container"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_counted_and_bounded() {
        let all = Foreigners::default();
        for number in 0..=NAMESPACES as u64 {
            all.note(number, 1, "/home/ann".into());
        }
        all.note(5, 1, "/home/bob".into());
        let list = all.list();
        assert_eq!(list.len(), NAMESPACES);
        assert_eq!(list[0].namespace, 1);
        let fifth = list.iter().find(|foreign| foreign.namespace == 5);
        let fifth = fifth.expect("the fifth");
        assert_eq!((fifth.accesses, &fifth.path), (2, &"/home/bob".into()));
    }

    #[test]
    fn ones_own_namespace_is_not_foreign() {
        let all = Foreigners::default();
        assert!(!all.includes(std::process::id(), "/".into()));
        assert!(!all.includes(0, "/".into()));
        assert!(all.list().is_empty());
    }
}
