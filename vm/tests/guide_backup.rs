//! docs/guide-backup.md, command by command as it stands there, on a volume that is written at full
//! speed.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use piton_vm::{LIMIT, Writer, commands, in_the_guest, mounted_at, run, state, wait_until};

const GUIDE: &str = include_str!("../../docs/guide-backup.md");

/// A daemon that runs, as the guide takes for granted; dropped, it is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the guide takes for granted: a checkout to be in, and a daemon.
fn prepare() -> Running {
    in_the_guest();
    let maps = Path::new("/root/piton/examples/maps");
    fs::create_dir_all(maps).expect("a folder");
    let map = include_str!("../../examples/maps/auto.snapshot-lvm");
    fs::write(maps.join("auto.snapshot-lvm"), map).expect("an example");
    symlink("/share/piton", "/usr/sbin/piton").expect("installing piton");
    fs::create_dir_all("/etc/auto.master.d").expect("a folder");
    let log = fs::File::create("/root/log").expect("a log");
    let mut daemon = Command::new("piton");
    // The guest is emulated, and LVM's tools take seconds. The kernel triggers nothing for the daemon's
    // process group.
    daemon
        .args(["daemon", "--foreground", "-d", "--deadline", "60"])
        .args(["--pid-file", "/root/ready"])
        .process_group(0);
    daemon.stdin(Stdio::null()).stderr(log);
    let running = Running(daemon.spawn().expect("starting piton"));
    wait_until("the daemon serves", LIMIT, || {
        Path::new("/root/ready").exists()
    });
    running
}

/// The commands of the guide's sections with these titles, in one shell; the daemon's log, if one
/// fails. What earlier ones exported holds.
#[track_caller]
fn follow(titles: &[&str]) {
    let script: String = titles.iter().map(|title| commands(GUIDE, title)).collect();
    let script = format!(
        "cd /root/piton; touch /root/exported; . /root/exported\nset -eux\n{script}\n\
         export -p >/root/exported"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let status = shell.stdin(Stdio::null()).status().expect("a shell");
    let log = fs::read_to_string("/root/log").unwrap_or_default();
    assert!(status.success(), "{titles:?}: {status}\n{log}");
}

/// What each program backed up is a state that the volume had since `before`.
#[track_caller]
fn all_existed(before: u64, after: u64) {
    for copy in [
        "/srv/backup/data",
        "/srv/restored/restic/mnt/path/data",
        "/srv/restored/borg/mnt/path/data",
    ] {
        let steps =
            state(&Path::new(copy).join("area")).unwrap_or_else(|why| panic!("{copy}: {why}"));
        println!("{copy}: after {steps} steps of {before} to {after}");
        assert!((before..=after + 1).contains(&steps), "{copy}");
        let other = fs::read_to_string(Path::new(copy).join("file")).expect("what else is there");
        assert_eq!(other, "original\n", "{copy}");
    }
}

#[test]
fn the_guide_holds_with_the_map_type_for_lvm() {
    holds("LVM, built in", || {});
}

#[test]
fn the_guide_holds_with_the_example_map() {
    // As the timer does.
    holds("LVM, by the example map", || {
        run("/etc/autofs/auto.snapshot-storage", &[]);
    });
}

#[track_caller]
fn holds(way: &str, sweep: impl Fn()) {
    let _piton = prepare();
    let writer = Writer::at("/mnt/data/area");
    let before = writer.steps();
    follow(&[way, "Backing up"]);
    let after = writer.steps();
    drop(writer);
    follow(&["Getting it back", "Afterwards"]);
    all_existed(before, after);
    let gone = || mounted_at("/mnt/path/data").is_none_or(|line| line.fstype == "autofs");
    wait_until("the view is unmounted", LIMIT, gone);
    wait_until("the snapshot is removed", 2 * LIMIT, || {
        sweep();
        run("lvs", &["--noheadings", "-o", "lv_name", "storage"]).trim() == "data"
    });
}
