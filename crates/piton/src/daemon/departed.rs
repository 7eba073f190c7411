//! Who stayed inside what was let go of: a dead server's mount that has no path any more.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bstr::{BStr, BString};
use piton_control::message::{self, Holder};
use piton_control::time::rfc3339;
use piton_mount::holders::{How, holders};
use piton_mount::table::{self, Table};
use piton_process::Stat;
use rustix::process::Pid;

use super::limits::{DEPARTED, INSIDE_TIME};
use super::service::holder;

/// How many users are named in a line.
const NAMED: usize = 8;

/// The mounts that were left to those who are inside, as long as they are.
#[derive(Debug, Default)]
pub(crate) struct Departed(Mutex<VecDeque<Left>>);

/// Who uses a mount, before it is let go of.
#[derive(Debug)]
pub(crate) struct Inside {
    path: BString,
    source: BString,
    mount: u64,
    users: Vec<User>,
}

#[derive(Debug)]
struct Left {
    inside: Inside,
    since: SystemTime,
}

/// A process that uses it.
#[derive(Debug)]
struct User {
    holder: Holder,
    how: How,
    /// When it was started: numbers of processes are given again.
    started: Option<u64>,
    /// Where its directory leads, by the kernel's words, once the mount has no path.
    link: Option<PathBuf>,
}

impl Inside {
    /// Looks who uses what is mounted at a path; nothing of it is touched.
    pub(crate) fn look(path: &BStr) -> Self {
        let text = table::read().unwrap_or_default();
        let table = Table::parse(&text);
        let mount = table.at(path);
        let found = holders(path, INSIDE_TIME).unwrap_or_default().found;
        let here = found.iter().filter(|found| {
            let process = found.process.as_ref();
            process.is_some_and(|process| !process.elsewhere)
        });
        let users = here.map(|found| {
            let told = holder(found);
            User {
                started: started(told.pid),
                holder: told,
                how: found.how,
                link: None,
            }
        });
        Self {
            path: path.to_owned(),
            source: mount.map_or(BString::default(), |it| it.source.clone().into_owned()),
            mount: mount.map_or(0, |it| it.id),
            users: users.collect(),
        }
    }
}

impl Inside {
    /// Its users in words.
    fn named(&self) -> String {
        let mut users: Vec<&Holder> = self.users.iter().map(|user| &user.holder).collect();
        users.sort_by_key(|user| user.pid);
        users.dedup_by_key(|user| user.pid);
        let name = |user: &&Holder| format!("{} ({})", user.pid, user.comm);
        let named: Vec<String> = users.iter().take(NAMED).map(name).collect();
        let more = match users.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        named.join(", ") + &more
    }
}

impl Departed {
    /// What was let go of and is still used, for who ends the daemon: nobody else can tell then.
    pub(crate) fn at_the_end(&self) -> Vec<message::Left> {
        self.refresh();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |left: &Left| message::Left {
            path: left.inside.path.to_string(),
            reason: format!(
                "it is unmounted, but left to those who are inside: {}",
                left.inside.named()
            ),
        };
        all.iter().map(left).collect()
    }

    /// Forgets who is not inside any more.
    fn refresh(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for left in &mut *all {
            let mount = left.inside.mount;
            left.inside.users.retain(|user| user.is_inside(mount));
        }
        all.retain(|left| !left.inside.users.is_empty());
    }

    /// It is let go of: they stayed.
    pub(crate) fn keep(&self, mut inside: Inside) {
        for user in &mut inside.users {
            user.link = user.link_now();
        }
        if inside.users.is_empty() {
            return;
        }
        let path = &inside.path;
        tracing::warn!(%path, "let go of; still used by {}", inside.named());
        let since = SystemTime::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= DEPARTED {
            all.pop_front();
        }
        all.push_back(Left { inside, since });
    }

    /// Those that are still used, and by whom.
    pub(crate) fn list(&self) -> Vec<message::Departed> {
        self.refresh();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |left: &Left| message::Departed {
            path: left.inside.path.to_string(),
            source: left.inside.source.to_string(),
            since: rfc3339(left.since),
            users: left
                .inside
                .users
                .iter()
                .map(|it| it.holder.clone())
                .collect(),
        };
        all.iter().map(told).collect()
    }
}

impl User {
    fn link_now(&self) -> Option<PathBuf> {
        let name = match self.how {
            How::Cwd => "cwd",
            How::Root => "root",
            _ => return None,
        };
        std::fs::read_link(format!("/proc/{}/{name}", self.holder.pid)).ok()
    }

    /// Whether the process still uses the mount, as far as it can be known without touching it.
    fn is_inside(&self, mount: u64) -> bool {
        if self.started.is_none() || started(self.holder.pid) != self.started {
            return false;
        }
        match self.how {
            How::Cwd | How::Root => self.link_now() == self.link,
            How::Descriptor => has_open(self.holder.pid, mount),
            _ => true,
        }
    }
}

/// Whether a process has something of a mount open.
fn has_open(pid: u32, mount: u64) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return false;
    };
    let line = format!("mnt_id:\t{mount}");
    let mut infos = files
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()));
    infos.any(|info| info.is_ok_and(|info| info.lines().any(|it| it == line)))
}

/// When a process was started, in the kernel's ticks.
fn started(pid: u32) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    Some(Stat::of(pid)?.started)
}

/// How long it is looked who is inside, so that those who wait for another server do not wait long.
const _: () = assert!(INSIDE_TIME.as_millis() < Duration::from_secs(1).as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    fn user(pid: u32, comm: &str) -> User {
        User {
            holder: Holder {
                pid,
                comm: comm.into(),
                ..Holder::default()
            },
            how: How::Map,
            started: started(std::process::id()),
            link: None,
        }
    }

    #[test]
    fn who_ends_the_daemon_is_told_who_stays_inside() {
        let departed = Departed::default();
        let inside = |users| Inside {
            path: "/data/x".into(),
            source: "nas:/x".into(),
            mount: 0,
            users,
        };
        let me = std::process::id();
        departed.keep(inside(Vec::new()));
        // Init was not started when this process was: it is somebody else by now.
        departed.keep(inside(vec![user(1, "gone")]));
        departed.keep(inside(vec![
            user(me, "cp"),
            user(me, "cp"),
            user(1, "gone"),
        ]));
        let told = departed.at_the_end();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].path, "/data/x");
        assert_eq!(
            told[0].reason,
            format!("it is unmounted, but left to those who are inside: {me} (cp)")
        );
        assert_eq!(departed.list()[0].users.len(), 2);
        let many = inside((0..20).map(|pid| user(pid, "x")).collect());
        assert!(many.named().ends_with(" and 12 more"), "{}", many.named());
    }
}
