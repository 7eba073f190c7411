//! Snapshots on access, by a daemon, on real file systems on loop devices.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use piton_testkit::{Scratch, privately};
use rustix::process::Signal;
use site::Site;

/// Mebibytes: XFS makes none smaller than 300.
const SIZE: u64 = 320;

/// A file system in a file, with two volumes on it that hold something.
struct Disk {
    scratch: Scratch,
    kind: &'static str,
}

impl Disk {
    /// One of this type; its volumes are subvolumes, images or directories.
    fn new(fstype: &str, kind: &'static str) -> Self {
        let scratch = Scratch::new();
        let disk = Self { scratch, kind };
        let image = disk.scratch.at("image");
        make(&image, fstype);
        let point = disk.scratch.directory("disk");
        // Without it btrfs promises less.
        let options = match fstype {
            "btrfs" => "loop,flushoncommit",
            _ => "loop",
        };
        run("mount", &["-o", options, &image, &point]);
        for name in ["data", "wal"] {
            disk.volume(name);
        }
        disk
    }

    fn path(&self, tail: &str) -> PathBuf {
        self.scratch.path().join("disk").join(tail)
    }

    fn at(&self, tail: &str) -> String {
        self.path(tail).to_str().expect("text").to_owned()
    }

    fn volume(&self, name: &str) {
        let path = self.at(name);
        match self.kind {
            "btrfs" => {
                run("btrfs", &["-q", "subvolume", "create", &path]);
            }
            "image" => {
                make(&path, "ext4");
                let live = self.scratch.directory(&format!("live/{name}"));
                run("mount", &["-o", "loop", &path, &live]);
            }
            _ => fs::create_dir(&path).expect("a directory"),
        }
        self.write(name, "file", "one");
    }

    /// Writes a file of the live volume.
    fn write(&self, volume: &str, name: &str, text: &str) {
        fs::write(self.live(volume).join(name), text).expect("a file");
    }

    /// Where a volume is seen as it is now.
    fn live(&self, volume: &str) -> PathBuf {
        match self.kind {
            "image" => self.scratch.path().join("live").join(volume),
            _ => self.path(volume),
        }
    }

    /// The master map's line for all its volumes.
    fn map(&self, options: &str) -> String {
        let (kind, dir) = (self.kind, self.at(""));
        let dir = dir.trim_end_matches('/');
        format!("@/snap snapshot:{kind},dir={dir}{options} --timeout=2 browse\n")
    }

    /// The snapshots that are on it.
    fn snapshots(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut directories = vec![self.path(".piton-snapshots")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                match name.contains(".piton.") || name.starts_with("20") {
                    true => all.push(name),
                    false => directories.push(entry.path()),
                }
            }
        }
        all.sort();
        all
    }
}

fn make(path: &str, fstype: &str) {
    let file = fs::File::create(path).expect("a file");
    file.set_len(SIZE << 20).expect("room");
    match fstype {
        "btrfs" => run("mkfs.btrfs", &["-q", "-f", path]),
        "xfs" => run("mkfs.xfs", &["-q", "-f", path]),
        _ => run("mkfs.ext4", &["-q", "-F", path]),
    };
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
}

fn serving(disk: &Disk, options: &str) -> Site {
    let mut site = Site::new(&[("auto.master", &disk.map(options))]);
    site.set_environment(&[("PITON_STATE_DIR", "@/state")]);
    site.start();
    site
}

#[track_caller]
fn text(site: &Site, path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), site.log()))
}

/// Unmounts the view; it may expire by itself meanwhile.
#[track_caller]
fn unmount(site: &Site) {
    site.piton(&["unmount", "@/snap/data"]);
    site.wait("it is unmounted", |site| !site.is_mounted("snap/data"));
}

/// One kind of volume after the other: frozen at first access, fresh after expiry, gone in the end.
fn an_access_sees_one_moment(fstype: &str, kind: &'static str) {
    let disk = Disk::new(fstype, kind);
    let site = serving(&disk, "");
    let file = site.at("snap/data/file");
    assert_eq!(text(&site, &file), "one");
    // Whoever is inside keeps it, however slow this machine is.
    let held = fs::File::open(&file).expect("a file");
    disk.write("data", "file", "two");
    assert_eq!(text(&site, &file), "one", "it changes under who reads it");
    let error = fs::write(&file, "x").expect_err("it can be written to");
    assert_eq!(error.raw_os_error(), Some(30), "{error}");
    // The manifest is beside it.
    let told = text(&site, site.at("snap/.piton-snapshot/data"));
    let told: serde_json::Value = serde_json::from_str(&told).expect("a manifest");
    assert_eq!(told["provider"], kind);
    let consistency = if kind == "directory" {
        "file-by-file"
    } else {
        "fs-frozen"
    };
    assert_eq!(told["consistency"], consistency);
    let listed = site.names("snap");
    assert!(
        listed.contains(&"data".into()) && listed.contains(&"wal".into()),
        "{listed:?}"
    );
    drop(held);
    site.wait("it expires", |site| !site.is_mounted("snap/data"));
    site.wait("it is removed", |_| disk.snapshots().is_empty());
    assert_eq!(text(&site, &file), "two", "the next access sees a new one");
    unmount(&site);
    site.end();
    assert_eq!(disk.snapshots(), Vec::<String>::new());
}

#[test]
fn a_subvolume_is_frozen_while_it_is_used() {
    privately(|| an_access_sees_one_moment("btrfs", "btrfs"));
}

#[test]
fn an_image_is_frozen_while_it_is_used() {
    privately(|| an_access_sees_one_moment("xfs", "image"));
}

#[test]
fn a_directory_is_copied_while_it_is_used() {
    privately(|| an_access_sees_one_moment("xfs", "directory"));
}

#[test]
fn older_ones_are_kept_and_found_by_time() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let site = serving(&disk, ",keep=2");
        assert_eq!(site.errno("snap/data@latest"), 2, "there is none yet");
        for number in ["1", "2", "3"] {
            disk.write("data", "file", number);
            assert_eq!(text(&site, site.at("snap/data/file")), number);
            unmount(&site);
        }
        let list = |site: &Site| -> serde_json::Value {
            let listed = site.piton_ok(&["snapshot", "list", "--json"]);
            serde_json::from_str(&listed).expect("a list")
        };
        // Its record goes after it.
        site.wait("the oldest goes", |site| {
            list(site).as_array().is_some_and(|all| all.len() == 2)
        });
        let listed = list(&site);
        assert_eq!(disk.snapshots().len(), 2, "{listed}");
        assert_eq!(listed[0]["state"], "kept");
        assert_eq!(listed[0]["policy"], "the newest 2 are kept");
        assert_eq!(
            listed[1]["origins"][0],
            format!("btrfs:{}", disk.at("data"))
        );
        disk.write("data", "file", "4");
        site.piton_ok(&["flush"]);
        assert_eq!(text(&site, site.at("snap/data@latest/file")), "3");
        assert_eq!(text(&site, site.at("snap/data@2099-01-01/file")), "3");
        let why = Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(["snapshot", "why"])
            .arg(site.at("snap/data@latest/file"))
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .env("PITON_STATE_DIR", site.at("state"))
            .output();
        let why = String::from_utf8(why.expect("piton").stdout).expect("text");
        assert!(why.contains("fs-frozen: one instant"), "{why}");
        assert!(
            site.piton_ok(&["snapshot", "prune"])
                .contains("2 kept or in use")
        );
        assert_eq!(site.errno("snap/data@-1d"), 2);
        assert_eq!(site.errno("snap/data@2020-01-01T03:00"), 2);
        assert_eq!(site.errno("snap/data@noon"), 2);
        site.wait("all expire", |site| {
            !site.is_mounted("snap/data@latest") && !site.is_mounted("snap/data@2099-01-01")
        });
        site.end();
        assert_eq!(
            disk.snapshots().len(),
            2,
            "what is kept outlives the daemon"
        );
    });
}

#[test]
fn what_exists_is_shown_as_it_comes_and_goes() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let site = serving(&disk, ",keep=1,group.db=data/wal");
        let taken = |site: &Site| {
            let listed = site.piton_ok(&["snapshot", "list", "--json"]);
            let listed: serde_json::Value = serde_json::from_str(&listed).expect("a list");
            let all = listed.as_array().expect("all");
            assert_eq!(all.len(), 1, "{listed}");
            all[0]["taken"].as_str().expect("a time").to_owned()
        };
        let shown = |site: &Site, time: Option<&str>| {
            let mut names: Vec<String> = Vec::new();
            for name in ["data", "db", "wal"] {
                names.push(name.into());
                names.extend(time.map(|time| format!("{name}@{time}")));
            }
            names.sort();
            let what = format!("{names:?} are shown");
            site.wait(&what, |site| site.names("snap") == names);
        };
        shown(&site, None);
        let mut last = None;
        for text_now in ["one", "two"] {
            disk.write("wal", "file", text_now);
            site.names("snap/db/data");
            site.piton_ok(&["unmount", "@/snap/db/data"]);
            site.wait("one is kept", |site| {
                let listed = site.piton_ok(&["snapshot", "list", "--json"]);
                listed.matches("taken").count() == 1
            });
            let time = taken(&site);
            assert_ne!(last.as_ref(), Some(&time));
            shown(&site, Some(&time));
            let wal = format!("snap/db@{time}/wal");
            assert_eq!(text(&site, site.at(&wal).join("file")), text_now);
            site.wait("it expires", |site| !site.is_mounted(&wal));
            last = Some(time);
        }
        site.end();
    });
}

#[test]
fn a_group_is_of_one_moment_as_long_as_some_of_it_is_used() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let site = serving(&disk, ",group.db=data/wal");
        let held = fs::File::open(site.at("snap/db/data/file")).expect("a file");
        disk.write("data", "file", "two");
        disk.write("wal", "file", "two");
        assert_eq!(text(&site, site.at("snap/db/wal/file")), "one");
        assert_eq!(
            text(&site, site.at("snap/wal/file")),
            "two",
            "alone it is new"
        );
        drop(held);
        site.wait("all expire", |site| {
            !site.is_mounted("snap/db/data") && !site.is_mounted("snap/db/wal")
        });
        site.wait("all are removed", |_| disk.snapshots().is_empty());
        assert_eq!(text(&site, site.at("snap/db/wal/file")), "two");
        site.wait("it expires", |site| site.count("snap/db/wal") == 0);
        site.end();
        assert_eq!(disk.snapshots(), Vec::<String>::new());
    });
}

#[test]
fn what_a_killed_daemon_leaves_the_next_one_removes() {
    privately(|| a_killed_daemon("btrfs", "btrfs"));
}

#[test]
fn an_image_that_a_killed_daemon_mounted_is_removed_by_the_next_one() {
    privately(|| a_killed_daemon("xfs", "image"));
}

fn a_killed_daemon(fstype: &str, kind: &'static str) {
    let disk = Disk::new(fstype, kind);
    let mut site = serving(&disk, "");
    assert_eq!(text(&site, site.at("snap/data/file")), "one");
    site.kill();
    assert_eq!(disk.snapshots().len(), 1);
    site.start();
    assert_eq!(
        text(&site, site.at("snap/data/file")),
        "one",
        "it is taken over"
    );
    site.wait("it expires", |site| !site.is_mounted("snap/data"));
    site.wait("it is removed", |_| disk.snapshots().is_empty());
    site.end();
}

#[test]
fn one_that_somebody_else_unmounted_goes_when_the_next_is_taken() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let map = disk.map("").replace("--timeout=2", "--timeout=600");
        let mut site = Site::new(&[("auto.master", &map)]);
        site.set_environment(&[("PITON_STATE_DIR", "@/state")]);
        site.start();
        assert_eq!(text(&site, site.at("snap/data/file")), "one");
        let first = disk.snapshots();
        run("umount", &[&site.at("snap/data").display().to_string()]);
        disk.write("data", "file", "two");
        assert_eq!(text(&site, site.at("snap/data/file")), "two");
        site.wait("the first goes", |_| {
            let all = disk.snapshots();
            all.len() == 1 && all != first
        });
        site.end();
    });
}

#[test]
fn who_is_inside_keeps_it() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let site = serving(&disk, "");
        let held = fs::File::open(site.at("snap/data/file")).expect("a file");
        site.piton_ok(&["expire"]);
        assert_eq!(disk.snapshots().len(), 1);
        assert!(site.is_mounted("snap/data"));
        drop(held);
        site.signal(Signal::TERM);
        site.end();
        assert_eq!(
            disk.snapshots(),
            Vec::<String>::new(),
            "gone when the daemon has ended"
        );
    });
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let site = serving(&disk, ",refuse-at=1,only=data/gone");
        for (path, errno, words) in [
            (
                "snap/data",
                28,
                "no snapshot taken; free space or raise refuse-at=1",
            ),
            ("snap/gone", 2, ""),
            ("snap/wal", 2, ""),
            ("snap/-x", 2, ""),
            ("snap/..data", 2, ""),
        ] {
            assert_eq!(site.errno(path), errno, "{path}\n{}", site.log());
            // The log is written after the answer.
            site.wait(words, |site| site.log().contains(words));
        }
        site.end();
        assert_eq!(disk.snapshots(), Vec::<String>::new());
    });
}

#[test]
fn a_hundred_keys_at_once() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let names: Vec<String> = (0..100).map(|number| format!("v{number}")).collect();
        for name in &names {
            disk.volume(name);
            disk.write(name, "name", name);
        }
        let site = serving(&disk, "");
        std::thread::scope(|scope| {
            for name in &names {
                let site = &site;
                scope.spawn(move || {
                    assert_eq!(&text(site, site.at(&format!("snap/{name}/name"))), name);
                });
            }
        });
        let mounted = names
            .iter()
            .filter(|name| site.is_mounted(&format!("snap/{name}")));
        assert!(mounted.count() > 0, "they were mounted");
        site.wait("all expire and are removed", |_| {
            disk.snapshots().is_empty()
        });
        site.end();
    });
}

/// The daemon's processes are killed while snapshots are taken and removed: a worker, or the daemon
/// proper, which its keeper starts again. Nothing is left behind at the end, and all still works.
#[test]
fn two_hundred_kills_leave_no_orphan() {
    privately(|| {
        let disk = Disk::new("btrfs", "btrfs");
        let site = serving(&disk, "");
        let mut random = 88_172_645_463_325_252_u64;
        let (mut workers, mut daemons) = (0, 0);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(500);
        while workers + daemons < 200 {
            assert!(std::time::Instant::now() < until, "{workers} {daemons}");
            // xorshift: the test is to be random, and the same each time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let path = site.at(if random.is_multiple_of(2) {
                "snap/data/file"
            } else {
                "snap/wal/file"
            });
            let (done, is_done) = std::sync::mpsc::channel();
            // Whoever comes when a worker dies is told an error; it is not waited for.
            std::thread::spawn(move || done.send(fs::read(path).is_ok()));
            let _ = is_done.recv_timeout(std::time::Duration::from_micros(random % 30_000));
            // Fifteen workers for each daemon: a start takes much longer than a snapshot, and the keeper
            // makes pauses for daemons that die at once.
            let of_daemon = random.is_multiple_of(8) && daemons * 15 <= workers;
            let (victims, name) = match of_daemon {
                true => (&mut daemons, "daemon"),
                false => (&mut workers, "worker"),
            };
            for pid in processes(&site, name) {
                *victims += u32::from(rustix::process::kill_process(pid, Signal::KILL).is_ok());
            }
            if random.is_multiple_of(3) {
                let point = site.at("snap/data");
                let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::empty());
            }
        }
        assert!(workers > 20 && daemons > 5, "{workers} {daemons}");
        site.wait("it works again", |site| {
            fs::read(site.at("snap/data/file")).is_ok()
                && fs::read(site.at("snap/wal/file")).is_ok()
        });
        site.wait("all expire", |site| {
            !site.is_mounted("snap/data") && !site.is_mounted("snap/wal")
        });
        site.wait("all are removed", |_| disk.snapshots().is_empty());
        assert_eq!(site.piton_ok(&["snapshot", "list"]), "no snapshots\n");
        site.end();
        assert_eq!(disk.snapshots(), Vec::<String>::new());
    });
}

/// The daemon's processes of this kind: its workers, or the daemon proper below its keeper.
fn processes(site: &Site, kind: &str) -> Vec<rustix::process::Pid> {
    let program = env!("CARGO_BIN_EXE_piton");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let directory = entry.path();
        let command = fs::read(directory.join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        let _program = words.next();
        let is_kind = words.next() == Some(kind.as_bytes());
        let is_ours =
            fs::read_link(directory.join("exe")).is_ok_and(|exe| exe == Path::new(program));
        let number = entry
            .file_name()
            .to_str()
            .and_then(|text| text.parse().ok());
        if let Some(pid) = number.and_then(rustix::process::Pid::from_raw)
            && is_kind
            && is_ours
            && !site.is_keeper(pid)
            && is_in_our_namespace(&directory)
        {
            found.push(pid);
        }
    }
    found
}

fn is_in_our_namespace(process: &Path) -> bool {
    let namespace = |path: &Path| fs::read_link(path.join("ns/mnt")).ok();
    namespace(process).is_some() && namespace(process) == namespace(Path::new("/proc/self"))
}
