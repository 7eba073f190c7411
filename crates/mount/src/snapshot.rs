//! Steps of type `snapshot`: a snapshot is found or taken ([`piton_volumes::Site`]), and what it shows
//! is mounted like anything else. Runs in workers only: tools of volumes may take seconds.
//!
//! What is told about a snapshot that is mounted (its manifest) is written to a file of the mount
//! point's path in a directory of the daemon's, and goes when it is unmounted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_map::fstype::SNAPSHOT;
use piton_plan::step::{Attempt, Step, What};
use piton_snapshot::lifecycle::{Ending, Fault, Swept, Wanted};
use piton_snapshot::{Kind, Manifest, Name, Origin, Phase, Record, Settings as Entry};
use piton_volumes::{Show, Site, View};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::Error;
use crate::hands::System;
use crate::limits;
use crate::perform::{Hands, MountJob};
use crate::table::{self, Table};

/// Where what is common to all who work on snapshots is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// For manifests: they need not survive a start of the machine.
    pub runtime: PathBuf,
    /// For the journal, which has to, and the locks.
    pub state: PathBuf,
    /// What is started to look after frozen file systems: it calls [`piton_volumes::serve_guard`].
    pub guard: Vec<OsString>,
}

impl Places {
    /// The usual ones, with the runtime directory of the daemon.
    pub fn usual(runtime: PathBuf) -> Self {
        let state = std::env::var_os("PITON_STATE_DIR");
        Self {
            runtime,
            state: state.map_or_else(|| "/var/lib/piton".into(), PathBuf::from),
            guard: vec!["/proc/self/exe".into(), "guard".into()],
        }
    }

    /// The site that they belong to.
    pub fn site(&self) -> Site {
        Site::new(self.state.join("snapshots"), self.guard.clone())
    }

    /// The directory of the manifests.
    pub fn manifests(&self) -> PathBuf {
        self.runtime.join("manifests")
    }

    /// The manifest of what is mounted at `target`.
    pub fn manifest(&self, target: &BStr) -> PathBuf {
        let target = Path::new(OsStr::from_bytes(target));
        self.manifests()
            .join(target.strip_prefix("/").unwrap_or(target))
    }

    /// Forgets what is told about `target`, where nothing is mounted any more.
    pub(crate) fn forget(&self, target: &BStr) {
        let _ = std::fs::remove_file(self.manifest(target));
    }
}

/// Whether a step mounts a snapshot, or has to be told to who sweeps after them: then where.
pub fn target_of(step: &Step) -> Option<&BString> {
    match step {
        Step::Mount {
            target, attempts, ..
        } if attempts.iter().any(is_snapshot) => Some(target),
        _ => None,
    }
}

/// Whether this is a snapshot.
pub(crate) fn is_snapshot(attempt: &Attempt) -> bool {
    matches!(&attempt.what, What::Type(fstype) if fstype == SNAPSHOT)
}

/// Whether the journal has anything: else there is nothing to be done.
pub fn is_any(places: &Places) -> bool {
    let until = Instant::now() + limits::JOURNAL_TIME;
    let records = places.site().records(until);
    records.map_or(true, |records| !records.is_empty())
}

/// A snapshot of ours that is mounted in this namespace, as its name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub point: BString,
    label: String,
    name: Name,
}

/// All of them.
pub fn mounted() -> Vec<Mounted> {
    let Ok(text) = table::read() else {
        return Vec::new();
    };
    let found = |mount: &table::Mount<'_>| {
        let image = image_of(&mount.source).unwrap_or_default();
        let paths = [&*mount.source, &*mount.root, image.as_bstr()];
        let (label, name) = paths.into_iter().find_map(|path| {
            let own = path
                .rsplit_once_str(b"/")
                .map_or(path.as_bytes(), |it| it.1);
            Name::parse(own.to_str().ok()?)
        })?;
        Some(Mounted {
            point: mount.point.clone().into_owned(),
            label: label.into(),
            name,
        })
    };
    Table::parse(&text)
        .mounts()
        .iter()
        .filter_map(found)
        .collect()
}

/// Whether all these records of the same origins are of snapshots that are whole and mounted here, so
/// that nothing is to be done for them. LVM is asked in any case: what is mounted may overflow.
fn are_in_use(records: &[&Record], mounted: &[Mounted]) -> bool {
    records.iter().all(|record| {
        let shows = |mounted: &Mounted| {
            mounted.name == record.name
                && record.origins.iter().any(|it| it.label() == mounted.label)
        };
        let lvm = |origin: &Origin| origin.kind() == Kind::Lvm;
        record.phase == Phase::Made && !record.origins.iter().any(lvm) && mounted.iter().any(shows)
    })
}

/// The file that a loop device shows.
fn image_of(source: &BStr) -> Option<BString> {
    let number = source.strip_prefix(b"/dev/loop")?.to_str().ok()?;
    let number: u32 = number.parse().ok()?;
    let file = std::fs::read(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
    Some(file.trim_ascii_end().into())
}

/// What a sweep over everything came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Report {
    /// What was done, for the log.
    pub done: Vec<String>,
    /// What could not be, or is lost: another sweep is wanted.
    pub troubles: Vec<String>,
    /// How many are kept or used.
    pub kept: usize,
}

/// Sweeps over all that the journal knows.
pub fn sweep(places: &Places, until: Instant) -> Report {
    let site = places.site();
    let mut report = Report::default();
    let records = match site.records(until) {
        Ok(records) => records,
        Err(error) => {
            let trouble = format!("the journal of snapshots: {error}");
            report.troubles.push(trouble);
            return report;
        }
    };
    let mounted = mounted();
    let mut groups: BTreeMap<&[Origin], Vec<&Record>> = BTreeMap::new();
    for record in &records {
        groups.entry(&record.origins).or_default().push(record);
    }
    for (origins, records) in groups {
        if are_in_use(&records, &mounted) {
            report.kept += records.len();
            continue;
        }
        let swept = site.sweep(origins.to_vec(), records[0].means.clone(), until);
        report.add(&names(origins), &swept);
    }
    report.done.truncate(limits::SWEEP_LINES);
    report.troubles.truncate(limits::SWEEP_LINES);
    report
}

/// `lvm:storage/data and lvm:storage/wal`
fn names(origins: &[Origin]) -> String {
    let names: Vec<String> = origins.iter().map(ToString::to_string).collect();
    names.join(" and ")
}

impl Report {
    fn add(&mut self, what: &str, swept: &Swept) {
        for name in &swept.removed {
            self.done
                .push(format!("removed the snapshot {} of {what}", name.taken));
        }
        for name in &swept.overflowed {
            self.troubles.push(format!(
                "the snapshot {} of {what} overflowed and is lost: give it more room with size=",
                name.taken
            ));
        }
        for left in &swept.left {
            let name = left
                .name
                .map_or_else(String::new, |name| format!(" {}", name.taken));
            let why = &left.fault.text;
            self.troubles
                .push(format!("cannot finish the snapshot{name} of {what}: {why}"));
        }
        self.kept += swept.kept.len();
    }
}

/// What a manifest's file says.
#[derive(Serialize)]
struct Told<'a> {
    snapshot: String,
    taken: String,
    origins: Vec<String>,
    provider: &'a str,
    consistency: &'a str,
    fresh: bool,
    notes: &'a [String],
}

impl System<'_> {
    /// Has a snapshot taken or found, and mounts it; true when a helper mounted it.
    pub(crate) fn mount_snapshot(&self, job: &MountJob<'_>) -> Result<bool, Error> {
        let refused = |errno, why: String| Error::refused(job.target, errno, why);
        let Some(places) = &self.settings.snapshots else {
            return Err(refused(
                Errno::OPNOTSUPP,
                "no snapshots are taken here".into(),
            ));
        };
        let entry = Entry::read(&job.attempt.options, job.attempt.source.as_bstr())
            .map_err(|problem| refused(Errno::INVAL, problem.invalid.to_string()))?;
        let until = self.share(job.attempts_left);
        // What has to be taken back has its time before whoever waits for this kills it.
        let left = until.saturating_duration_since(Instant::now());
        let until = until - (left / 4).min(limits::SNAPSHOT_UNDO);
        let helper = Cell::new(false);
        let mut mount = |view: &View, _: &Manifest| {
            let shown = shown(view, &entry.mount, job.attempt.by_helper);
            let job = MountJob {
                attempt: &shown,
                ..*job
            };
            let done = self
                .mount(&job)
                .map_err(|error| Fault::new(error.errno().raw_os_error(), error.to_string()));
            done.map(|by_helper| helper.set(by_helper))
        };
        let wanted = Wanted::new(entry.clone(), job.target);
        match places.site().access(wanted, until, &mut mount) {
            Ending::Mounted {
                manifest,
                fresh,
                notes,
            } => {
                let _ = tell(places, job.target, &entry, &manifest, fresh, &notes);
                Ok(helper.get())
            }
            // It names the volume, and whoever tells of it the path.
            Ending::Failed(Fault { errno, text }) => Err(Error::Trigger {
                errno: Errno::from_raw_os_error(errno),
                words: text,
            }),
            Ending::Swept(_) => Err(refused(Errno::IO, "a sweep is no access".into())),
        }
    }
}

/// How a view is mounted: read-only, with the entry's own options after it.
fn shown(view: &View, own: &[BString], by_helper: bool) -> Attempt {
    let mut options = view.options.clone();
    options.extend(
        own.iter()
            .filter(|option| !view.options.contains(option))
            .cloned(),
    );
    Attempt {
        what: match view.show {
            Show::Directory => What::Bind { recursive: false },
            Show::FileSystem(fstype) => What::Type(fstype.into()),
        },
        source: view.source.clone(),
        options,
        host: None,
        address: None,
        by_helper,
        no_guests: false,
    }
}

/// Writes the manifest. That it cannot be is no reason to fail.
fn tell(
    places: &Places,
    target: &BStr,
    entry: &Entry,
    manifest: &Manifest,
    fresh: bool,
    notes: &[String],
) -> std::io::Result<()> {
    let told = Told {
        snapshot: manifest.name.of(entry.origin()),
        taken: manifest.name.taken.to_string(),
        origins: manifest.origins.iter().map(ToString::to_string).collect(),
        provider: entry.origin().kind().word(),
        consistency: manifest.consistency.word(),
        fresh,
        notes,
    };
    let mut text = serde_json::to_vec(&told)?;
    text.push(b'\n');
    let file = places.manifest(target);
    match (std::fs::write(&file, &text), file.parent()) {
        // The first one of its map.
        (Err(error), Some(directory)) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(directory)?;
            std::fs::write(file, text)
        }
        (written, _) => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else one would take for left by a crash what the other is just making.
    #[test]
    fn daemons_with_runtime_directories_of_their_own_share_journal_and_locks() {
        let state = |runtime: &str| Places::usual(runtime.into()).site().state;
        assert_eq!(state("/run/p"), state("/run/q"));
    }

    #[test]
    fn manifests_lie_by_their_mount_points() {
        let places = Places::usual("/run/p".into());
        let path = |target: &str| places.manifest(target.into());
        assert_eq!(path("/snap/data"), Path::new("/run/p/manifests/snap/data"));
        assert_eq!(path("/"), Path::new("/run/p/manifests/"));
    }

    #[test]
    fn a_view_is_shown_read_only_with_the_entrys_options() {
        let view = View {
            source: "/dev/storage/x".into(),
            show: Show::FileSystem("xfs"),
            options: vec!["ro".into(), "nouuid".into()],
            live: None,
        };
        let own = ["ro".into(), "nosuid".into()];
        let attempt = shown(&view, &own, false);
        assert_eq!(attempt.options, ["ro", "nouuid", "nosuid"]);
        assert_eq!(attempt.what, What::Type("xfs".into()));
    }
}
