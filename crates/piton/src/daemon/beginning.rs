//! What became of the mount points of the first maps, which is said once, when the start is over.

use std::collections::BTreeMap;
use std::fmt::Write;

use bstr::{BString, ByteSlice};
use piton_engine::cause::Cause;
use piton_engine::command::Note;
use piton_engine::difference::Pending;
use piton_engine::event::Request;

use piton_control::line::Word;

use super::loader::Loaded;
use super::runtime::{Earlier, Runtime};

/// Mount points named to whoever waits for the start; the log has them all.
const TOLD: usize = 20;

/// The mount points that are not in place, and why.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    missing: BTreeMap<BString, String>,
    /// Some could not be put in place, though their maps were there.
    failed: bool,
}

impl Beginning {
    /// The maps were read.
    pub(super) fn read(&mut self, loaded: &Loaded) {
        for (path, map, miss) in &loaded.incomplete {
            let unserved = |line: &super::loader::Unserved| match &line.path {
                Some(unserved) => unserved == path,
                None => path == "/-",
            };
            if loaded.unserved.iter().any(unserved) {
                let why = format!("map {map}: {}", Cause::Lookup(miss.clone()));
                self.missing.insert(path.clone(), why);
            }
        }
        for refused in &loaded.refused {
            self.fail(&refused.path, &refused.why);
        }
    }

    /// The engine says something.
    pub(super) fn note(&mut self, note: &Note) {
        match note {
            Note::NotInstalled { path, failure } => self.fail(path, &failure.text),
            // What could not be taken over was put in place anew.
            Note::Installed { path } => drop(self.missing.remove(path)),
            _ => {}
        }
    }

    fn fail(&mut self, path: &BString, why: &str) {
        self.failed = true;
        self.missing.insert(path.clone(), why.to_owned());
    }

    /// Changes that wait until something is unmounted.
    pub(super) fn wait(&mut self, pending: &[Pending]) {
        for change in pending.iter().filter(|it| it.what == "installation") {
            let in_the_way = bstr::join(", ", &change.waits_for);
            let why = format!("waits until {} is unmounted", in_the_way.as_bstr());
            self.missing.insert(change.path.clone(), why);
        }
    }

    /// Nothing if all is well with `count` mount points in place; else how many are, and what is
    /// the matter with the others.
    pub(super) fn trouble(&self, count: usize) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let all = count + self.missing.len();
        let mut text = match count {
            0 if all == 1 => "the only mount point is not in place".to_owned(),
            0 => format!("none of {all} mount points is in place"),
            _ => format!("{count} of {all} mount points are in place"),
        };
        for (path, why) in self.missing.iter().take(TOLD) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  {path}: {why}");
        }
        if self.missing.len() > TOLD {
            let _ = write!(
                text,
                "\n  and {} more: see the log",
                self.missing.len() - TOLD
            );
        }
        Some(text)
    }
}

impl Runtime {
    /// There is no master map at the start: it is waited for, as for any map, and whoever waits for
    /// this start is told so at once.
    pub(super) fn await_master(&self, why: &str) {
        tracing::error!(why, "the master map cannot be read; it is waited for");
        if self.line.is_awaited() {
            eprintln!(
                "piton daemon: {why}: this master map is waited for\n  \
                 its mount points will be in place as soon as it can be read; `piton stop` ends \
                 the daemon, which goes on if this command is interrupted"
            );
        }
    }

    /// Says once that the daemon is ready: no mount point of its first maps is being taken over or
    /// put in place any more. Some may be taken over while others are put in place anew. If there is
    /// none, because none could be put in place, it ends.
    pub(super) fn announce(&mut self) {
        if self.announced || self.earlier != Earlier::Over || self.engine.moving() {
            return;
        }
        let count = self.engine.points_in_place();
        self.beginning.wait(&self.engine.pending());
        let Some(trouble) = self.beginning.trouble(count) else {
            self.announced = true;
            match count {
                0 => tracing::info!("the maps name no mount point"),
                _ => tracing::info!(count, "mount points are in place"),
            }
            return self.line.say(&Word::Ready);
        };
        let first = trouble.lines().next().unwrap_or_default();
        // A successor goes on: somebody may be waiting for it.
        if self.beginning.failed && self.engine.has_no_points() && !self.line.is_successor() {
            tracing::error!("{first}: giving up");
            self.failed = Some(trouble);
            return self.request(Request::Stop { detach: false }, None);
        }
        self.announced = true;
        tracing::warn!("{first}");
        if self.line.is_awaited() {
            eprintln!("piton daemon: {trouble}");
        }
        self.line.say(&Word::Ready);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use piton_engine::cause::Errno;
    use piton_engine::event::StepFailure;

    use super::*;

    fn not_installed(path: &str) -> Note {
        let failure = StepFailure {
            index: 0,
            errno: Errno::NOENT,
            text: Arc::from("no room"),
        };
        let path = path.into();
        Note::NotInstalled { path, failure }
    }

    #[test]
    fn all_is_well_if_nothing_is_missing_at_the_end() {
        let mut beginning = Beginning::default();
        assert_eq!(beginning.trouble(0), None);
        beginning.note(&not_installed("/a"));
        beginning.note(&Note::Installed { path: "/a".into() });
        assert_eq!(beginning.trouble(1), None);
    }

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        let mut beginning = Beginning::default();
        beginning.note(&Note::Installed { path: "/a".into() });
        beginning.note(&not_installed("/b"));
        assert!(beginning.failed);
        let told = beginning.trouble(1);
        assert_eq!(
            told.as_deref(),
            Some("1 of 2 mount points are in place\n  /b: no room")
        );
        beginning.wait(&[Pending {
            path: "/c/d".into(),
            what: "installation",
            map: "m".into(),
            origin: Arc::from("auto.master:1:1"),
            waits_for: vec!["/c".into(), "/e".into()],
        }]);
        let told = beginning.trouble(0);
        assert_eq!(
            told.as_deref(),
            Some(
                "none of 2 mount points is in place\n  /b: no room\n  \
                 /c/d: waits until /c, /e is unmounted"
            )
        );
    }

    #[test]
    fn many_are_counted() {
        for more in [0, 1] {
            let mut beginning = Beginning::default();
            for number in 0..TOLD + more {
                beginning.note(&not_installed(&format!("/{number}")));
            }
            let told = beginning.trouble(0).unwrap();
            assert_eq!(told.lines().count(), 1 + TOLD + more);
            assert_eq!(told.ends_with("and 1 more: see the log"), more == 1);
        }
    }
}
