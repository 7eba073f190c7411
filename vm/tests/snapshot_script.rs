//! The executable map of the oldest founding document, as it is shipped: a frozen view of an LVM
//! volume on access, by Piton and by autofs alike (R-001 … R-011). Show 1 is that of the built-in map
//! type, too.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use piton_vm::{Daemon, LIMIT, Site, Touch, Writer, mounted_at, run, state, wait_until};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// The map as it is shipped, and where the document has it.
const SHIPPED: &str = include_str!("../../examples/maps/auto.snapshot-lvm");
const MAP: &str = "/etc/autofs/auto.snapshot-storage";

/// The automounter's timeout, in seconds.
const TIMEOUT: u64 = 4;

/// Installs the map, with settings of its own, and serves the document's very line.
#[track_caller]
fn serving(kind: Daemon, settings: &[(&str, &str)]) -> Site {
    install(settings);
    serving_line(kind, "/mnt/path /etc/autofs/auto.snapshot-storage\n")
}

/// Serves a line of the master map, which has no options.
#[track_caller]
fn serving_line(kind: Daemon, line: &str) -> Site {
    let files = [("auto.master", line)];
    // Debian's file sets it, and it counts for more than the command line.
    let conf = fs::read_to_string("/etc/autofs.conf").expect("its configuration");
    let conf = conf.replace("\ntimeout = 300\n", &format!("\ntimeout = {TIMEOUT}\n"));
    assert!(conf.contains(&format!("\ntimeout = {TIMEOUT}\n")), "{conf}");
    // For as long autofs keeps a program's answer, and Piton a failure.
    let conf = conf + "\n[ autofs ]\nnegative_timeout = 1\n";
    fs::write("/etc/autofs.conf", conf).expect("its configuration");
    // The guest is emulated, and LVM's tools take seconds.
    let options: &[&str] = match kind {
        Daemon::Piton => &["--deadline", "60"],
        Daemon::Autofs => &[],
    };
    Site::serving_with(kind, "site", &files, options)
}

#[track_caller]
fn install(settings: &[(&str, &str)]) {
    let mut text = SHIPPED.to_owned();
    for (shipped, ours) in settings.iter().chain(&[("GRACE=90", "GRACE=3")]) {
        assert!(
            text.contains(&format!("\n{shipped}\n")),
            "{shipped} is a setting"
        );
        text = text.replace(shipped, ours);
    }
    fs::create_dir_all("/etc/autofs").expect("a directory");
    fs::write(MAP, text).expect("the map");
    fs::set_permissions(MAP, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Copies a folder as the document does. rsync is a process of its own, as any backup is.
#[track_caller]
fn rsync(from: &str, to: &str) -> Output {
    let mut rsync = Command::new("rsync");
    rsync.args(["-a", from, to]);
    rsync.output().expect("running rsync")
}

/// What LVM says of volumes of the group, in fields separated by blanks.
fn lvs(fields: &str) -> String {
    run("lvs", &["--noheadings", "-o", fields, "storage"])
}

fn exists(volume: &str) -> bool {
    lvs("lv_name").lines().any(|line| line.trim() == volume)
}

/// Calls the map as the timer does.
fn sweep() {
    run(MAP, &[]);
}

#[track_caller]
fn unmounted(path: &str) {
    let limit = LIMIT + Duration::from_secs(TIMEOUT);
    wait_until("the snapshot is unmounted", limit, || {
        mounted_at(path).is_none_or(|line| line.fstype == "autofs")
    });
}

#[test]
fn rsync_by_way_of_piton_copies_a_state_that_existed() {
    let _site = serving(Daemon::Piton, &[]);
    a_copy_is_a_state_that_existed(sweep);
}

#[test]
fn rsync_by_way_of_autofs_copies_a_state_that_existed() {
    let _site = serving(Daemon::Autofs, &[]);
    a_copy_is_a_state_that_existed(sweep);
}

#[test]
fn rsync_by_way_of_the_map_type_copies_a_state_that_existed() {
    let line = "/mnt/path snapshot:lvm,vg=storage,size=100%\n";
    let _site = serving_line(Daemon::Piton, line);
    // Nobody need come and sweep.
    a_copy_is_a_state_that_existed(|| {});
}

/// Show 1 of the snapshots, served at /mnt/path; `sweep` is what a timer does.
#[track_caller]
fn a_copy_is_a_state_that_existed(sweep: impl Fn()) {
    let writer = Writer::at("/mnt/data/area");
    wait_until("much is written", LIMIT, || writer.steps() > 2000);

    // From the live volume, a copy fails or is nothing that ever existed, unless it is lucky.
    let mut copies = 0..10;
    let is_torn = copies.any(|number| {
        let (before, copy) = (writer.steps(), format!("/root/live-{number}"));
        let live = rsync("/mnt/data/", &copy);
        let torn = state(&Path::new(&copy).join("area"));
        let steps = writer.steps() - before;
        println!("live: {}, {torn:?}, {steps} steps", live.status);
        steps > 100 && (!live.status.success() || torn.is_err())
    });
    assert!(is_torn, "the live volume kept still");

    let before = writer.steps();
    let used = File::open("/mnt/path/data/file").expect("a file");
    let copied = rsync("/mnt/path/data/", "/root/copy");
    let after = writer.steps();
    let errors = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{}: {errors}", copied.status);
    let frozen = state(Path::new("/root/copy/area")).expect("a state that existed");
    println!("frozen after {frozen} steps; {before} before the copy, {after} after it");
    assert!(
        (before..=after + 1).contains(&frozen),
        "the view is of the first access"
    );
    let original = fs::read_to_string("/root/copy/file").expect("what else is there");
    assert_eq!(original, "original\n");

    // The view stays what it is, for as long as somebody uses it.
    thread::sleep(Duration::from_secs(2 * TIMEOUT + 1));
    sweep();
    assert!(rsync("/mnt/path/data/", "/root/again").status.success());
    assert_eq!(state(Path::new("/root/again/area")), Ok(frozen));
    drop(used);

    // Unused it goes at the timeout, and then the snapshot does; which the document lacks.
    unmounted("/mnt/path/data");
    wait_until("the snapshot is removed", LIMIT, || {
        sweep();
        lvs("lv_name").trim() == "data"
    });
    let before = writer.steps();
    assert!(rsync("/mnt/path/data/", "/root/next").status.success());
    let next = state(Path::new("/root/next/area")).expect("a state that existed");
    assert!(next >= before, "the next access sees a fresh one");
}

#[test]
fn keys_and_volumes_that_are_not_to_be_touched_are_not() {
    // A volume that somebody else called so, and one that is not to be seen.
    run(
        "lvcreate",
        &["-q", "-y", "-n", "foreign", "-L", "8M", "storage"],
    );
    run("mke2fs", &["-q", "/dev/storage/foreign"]);
    run(
        "lvcreate",
        &["-q", "-y", "-n", "foreign-snap", "-L", "8M", "storage"],
    );
    run(
        "lvcreate",
        &["-q", "-y", "-n", "secret", "-L", "8M", "storage"],
    );
    for kind in [Daemon::Piton, Daemon::Autofs] {
        let mut site = serving(kind, &[("VOLUMES=\"\"", "VOLUMES=\"data foreign\"")]);
        let before = lvs("lv_name,lv_time,lv_tags");
        for key in [
            "-x",
            "--help",
            "..data",
            ".git",
            "a b",
            "$(reboot)",
            "nix",
            "secret",
            "x;y",
            "foreign",
        ] {
            let touched = Touch::list(Path::new("/mnt/path").join(key)).within(LIMIT);
            assert!(touched.result.is_err(), "{kind:?}: {key}");
            if kind == Daemon::Piton && key != "foreign" {
                assert_eq!(touched.errno(), Errno::NOENT.raw_os_error(), "{key}");
            }
        }
        assert_eq!(lvs("lv_name,lv_time,lv_tags"), before, "{}", site.log());
        // Who asks is answered first.
        wait_until("the log says why", LIMIT, || {
            site.log().contains("was not made by this map")
        });
        site.read("/mnt/path/data/file").text();
        // A snapshot of ours is no volume.
        let touched = site.read("/mnt/path/data-snap/file");
        assert!(touched.result.is_err());
        site.stop(LIMIT);
        wait_until("only ours is removed", LIMIT, || {
            sweep();
            lvs("lv_name,lv_time,lv_tags") == before
        });
    }
}

#[test]
fn a_snapshot_in_use_elsewhere_is_neither_removed_nor_shown_as_fresh() {
    for kind in [Daemon::Piton, Daemon::Autofs] {
        let mut site = serving(kind, &[]);
        // It does not expire before it is there.
        let used = File::open("/mnt/path/data/file").expect("a file");
        // Whatever has a mount namespace of its own keeps a mount of its own.
        let mut other = holding("/mnt/path/data");
        drop(used);
        let made = lvs("lv_name,lv_time");
        unmounted("/mnt/path/data");
        let touched = site.read("/mnt/path/data/file");
        assert!(
            touched.result.is_err(),
            "{kind:?}: the old view is no fresh one"
        );
        wait_until("it says why", LIMIT, || {
            site.log().contains("is still in use")
        });
        thread::sleep(Duration::from_secs(4));
        sweep();
        assert_eq!(lvs("lv_name,lv_time"), made, "{kind:?}");
        other.kill().expect("killing");
        other.wait().expect("waiting");
        wait_until("a fresh view", LIMIT, || {
            site.read("/mnt/path/data/file").result.is_ok()
        });
        site.stop(LIMIT);
    }
}

/// A process in a mount namespace of its own, which has what is mounted at a path now.
#[track_caller]
fn holding(path: &str) -> Child {
    let mut unshare = Command::new("unshare");
    // Something must be open: with the mount point's directory its mounts go, wherever they are.
    unshare.args(["-m", "--propagation", "private", "sh", "-c"]);
    unshare.arg(format!("exec sleep 1000 <{path}/file"));
    let child = unshare.spawn().expect("unshare");
    let ours = fs::read_link("/proc/self/ns/mnt").expect("our namespace");
    wait_until("it has its own mounts", LIMIT, || {
        let proc = format!("/proc/{}", child.id());
        let table = fs::read_to_string(format!("{proc}/mountinfo")).unwrap_or_default();
        let its = fs::read_link(format!("{proc}/ns/mnt"));
        let command = fs::read_to_string(format!("{proc}/comm")).unwrap_or_default();
        its.is_ok_and(|its| its != ours) && table.contains(path) && command == "sleep\n"
    });
    child
}

#[test]
fn one_at_a_time_makes_or_removes_the_snapshot_of_a_volume() {
    let site = serving(Daemon::Piton, &[]);
    fs::create_dir_all("/run/auto.snapshot").expect("a directory");
    let lock = File::create("/run/auto.snapshot/storage-data").expect("the lock");
    flock(&lock, FlockOperation::LockExclusive).expect("locking");
    let reading = site.reading("/mnt/path/data/file");
    thread::sleep(Duration::from_secs(2));
    assert!(reading.is_waiting() && !exists("data-snap"));
    flock(&lock, FlockOperation::Unlock).expect("unlocking");
    assert_eq!(reading.within(LIMIT).text(), "original\n");
    // Many at once, without an automounter between: one snapshot is left, and it is whole.
    unmounted("/mnt/path/data");
    let all: Vec<Child> = (0..4).map(|_| start_map("data")).collect();
    let made = all
        .into_iter()
        .map(|child| child.wait_with_output().expect("waiting"))
        .filter(|output| output.status.success())
        .inspect(|output| {
            let entry = "-fstype=ext4,ro,noload,nosuid,nodev :/dev/storage/data-snap\n";
            assert_eq!(String::from_utf8_lossy(&output.stdout), entry);
        });
    assert!(made.count() >= 1);
    assert_eq!(lvs("lv_name").matches("-snap").count(), 1);
    run(
        "mount",
        &["-o", "ro,noload", "/dev/storage/data-snap", "/mnt"],
    );
    assert_eq!(
        fs::read_to_string("/mnt/file").expect("a file"),
        "original\n"
    );
}

/// Starts the map by itself, in a process group of its own.
fn start_map(key: &str) -> Child {
    let mut map = Command::new(MAP);
    map.arg(key).stdout(Stdio::piped()).stderr(Stdio::piped());
    map.process_group(0).spawn().expect("starting the map")
}

#[test]
fn a_map_that_is_killed_at_any_moment_leaves_nothing_that_stays() {
    install(&[]);
    let whole = start_map("data").wait_with_output().expect("waiting");
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    for round in 0..20_u64 {
        let mut child = start_map("data");
        thread::sleep(Duration::from_millis(round * 79));
        let group = Pid::from_child(&child);
        kill_process_group(group, Signal::KILL).expect("killing");
        child.wait().expect("waiting");
        let left = lvs("lv_name,lv_attr,lv_suspended,lv_tags").replace('\n', ";");
        // A volume is left suspended only until the timer calls: who writes goes on.
        sweep();
        let suspended = lvs("lv_suspended");
        println!("round {round}: {left} then {suspended:?}");
        assert!(!suspended.contains("suspended"), "round {round}");
        let written = Touch::write("/mnt/data/alive", "yes\n").ends_within(LIMIT);
        assert_eq!(written, Some(Ok(String::new())), "round {round}");
    }
    let after = start_map("data").wait_with_output().expect("waiting");
    assert!(
        after.status.success(),
        "{}",
        String::from_utf8_lossy(&after.stderr)
    );
    // What is rarely met by a signal, made on purpose.
    run("dmsetup", &["suspend", "storage-data"]);
    let writing = Touch::write("/mnt/data/alive", "no\n");
    thread::sleep(Duration::from_secs(1));
    assert!(writing.is_waiting());
    sweep();
    assert_eq!(writing.within(LIMIT).text(), "");
    wait_until("nothing is left", LIMIT, || {
        sweep();
        lvs("lv_name").trim() == "data"
    });
}

#[test]
fn each_file_system_is_mounted_as_it_is_and_thin_volumes_too() {
    run("vgextend", &["-q", "storage", "/dev/vdc"]);
    run(
        "lvcreate",
        &["-q", "-y", "-n", "x", "-L", "320M", "storage"],
    );
    run("mkfs.xfs", &["-q", "/dev/storage/x"]);
    run("lvcreate", &["-q", "-y", "-L", "64M", "-T", "storage/pool"]);
    run(
        "lvcreate",
        &["-q", "-y", "-V", "100M", "-T", "storage/pool", "-n", "thin"],
    );
    run("mke2fs", &["-q", "-t", "ext4", "/dev/storage/thin"]);
    for volume in ["x", "thin"] {
        let point = format!("/mnt/live-{volume}");
        fs::create_dir(&point).expect("a directory");
        run("mount", &[&format!("/dev/storage/{volume}"), &point]);
        fs::write(format!("{point}/file"), volume).expect("a file");
    }
    for kind in [Daemon::Piton, Daemon::Autofs] {
        let mut site = serving(kind, &[]);
        for (volume, options) in [
            ("data", "norecovery"),
            ("x", "norecovery"),
            ("thin", "norecovery"),
        ] {
            let path = format!("/mnt/path/{volume}");
            let text = site.read(&format!("{path}/file"));
            assert!(!text.text().is_empty());
            let line = mounted_at(&path).expect("a mount");
            println!("{kind:?}: {line:?}");
            let all = format!("{},{}", line.options, line.super_options);
            for option in ["ro", "nosuid", "nodev", options] {
                assert!(
                    all.split(',').any(|word| word == option),
                    "{volume}: {option}: {all}"
                );
            }
            let refused =
                fs::write(format!("{path}/new"), "").map_err(|error| error.raw_os_error());
            assert_eq!(refused, Err(Some(Errno::ROFS.raw_os_error())));
        }
        site.stop(LIMIT);
    }
    // A pool that is too full is not brought nearer to the edge.
    install(&[("FULL=90", "FULL=50")]);
    fs::write("/mnt/live-thin/big", vec![7; 40 << 20]).expect("filling");
    run("sync", &["-f", "/mnt/live-thin"]);
    wait_until("only volumes are left", LIMIT, || {
        sweep();
        !lvs("lv_name").contains("-snap")
    });
    let full = start_map("thin").wait_with_output().expect("waiting");
    let errors = String::from_utf8_lossy(&full.stderr);
    println!("{}", lvs("lv_name,data_percent,metadata_percent"));
    assert_eq!(full.status.code(), Some(2), "{errors}");
    assert!(errors.contains("% full: no snapshot"), "{errors}");
}
