//! mount(8), mount programs, and helpers that hang.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use piton_map::options::Propagation;
use piton_mount::{Program, Settings, perform};
use piton_plan::step::{Attempt, Step, What};
use piton_testkit::{Scratch, mount_table, mounted_at, privately, wait_until};

use crate::common::*;

#[test]
fn a_type_that_is_not_native_goes_through_mount_8() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let image = make_image(&s, EXT4);
        let failure = failed(&fs_step::<&str>("strangefs", &image, &target, &[]));
        assert_eq!(failure.errno, 19, "{}", failure.text);
        assert!(
            failure.text.contains("unknown filesystem type 'strangefs'"),
            "{}",
            failure.text
        );
        assert!(failure.text.contains("mount for "), "{}", failure.text);

        // An option that mount(8) has to see to.
        let outcome = run(&[tmpfs(&target, &["X-mount.mkdir", "size=4k"])]);
        assert_eq!(outcome.failed, None);
        assert!(outcome.done[0].helper);
        assert!(mounted_at(&target).unwrap().has("size=4k"));
        unmounted(&target, true);
        assert_eq!(mounted_at(&target), None);
    });
}

#[test]
fn an_empty_type_lets_mount_8_look_for_itself() {
    privately(|| {
        let s = Scratch::new();
        let image = make_image(&s, EXT4);
        let target = s.directory("at");
        let outcome = run(&[fs_step::<&str>("", &image, &target, &[])]);
        assert_eq!(outcome.failed, None);
        assert!(outcome.done[0].helper);
        assert_eq!(mounted_at(&target).unwrap().fstype, "ext4");
        unmounted(&target, true);
    });
}

#[test]
fn a_mount_program_is_used_for_everything_and_word_for_word() {
    privately(|| {
        let s = Scratch::new();
        let log = s.at("log");
        let mount = s.program(
            "bin/site-mount",
            &format!(
                "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done >> {log}; echo >> {log}\n\
                 for last; do :; done\nexec mount -t tmpfs fake \"$last\"\n"
            ),
        );
        s.program(
            "bin/umount",
            &format!("#!/bin/sh\necho \"umount $*\" >> {log}\nexec umount \"$1\"\n"),
        );
        let settings = Settings {
            program: Some(Program::beside(mount)),
            ..Settings::default()
        };
        let target = s.directory("at");
        for step in [
            fs_step("nfs", "h:/x y", &target, &["ro", "soft"]),
            fs_step::<&str>("", "h:/x", &target, &[]),
            bind("/src", &target, &[]),
            bind_of("/src", &target, &["ro"], true, Propagation::Slave),
        ] {
            let outcome = perform(&required([step]), &NoTriggers, &settings);
            assert_eq!(outcome.failed, None);
            assert!(outcome.done[0].helper);
            assert_eq!(mounted_at(&target).unwrap().source, "fake");
            let step = Step::Unmount {
                target: target.as_str().into(),
                helper: true,
            };
            assert_eq!(
                perform(&required([step]), &NoTriggers, &settings).failed,
                None
            );
            assert_eq!(mounted_at(&target), None);
        }
        let expected = [
            format!("<-t><nfs><-o><ro,soft><h:/x y><{target}>"),
            format!("<-t><><h:/x><{target}>"),
            format!("<--bind></src><{target}>"),
            format!("<--rbind><-o><ro></src><{target}>"),
        ];
        let umount = format!("umount {target}");
        let text = fs::read_to_string(&log).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let expected: Vec<_> = expected
            .iter()
            .flat_map(|line| [line.as_str(), umount.as_str()])
            .collect();
        assert_eq!(lines, expected);
    });
}

#[test]
fn a_mount_program_that_fails_or_mounts_nothing_is_a_failure_with_its_words() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let with = |script: &str| {
            let settings = scripted(&s, script, Duration::from_secs(20));
            let step = fs_step::<&str>("nfs", "h:/x", &target, &[]);
            perform(&required([step]), &NoTriggers, &settings)
                .failed
                .unwrap()
        };
        let failure = with("echo 'site: access denied by server' >&2; exit 32");
        assert_eq!(failure.errno, 13);
        assert!(failure.text.contains("exit status 32"), "{}", failure.text);
        assert!(
            failure.text.contains("site: access denied by server"),
            "{}",
            failure.text
        );
        let failure = with("exit 0");
        assert_eq!(failure.errno, 5);
        assert!(
            failure.text.contains("nothing is mounted there"),
            "{}",
            failure.text
        );
        let failure = with("kill -9 $$");
        assert!(
            failure.text.contains("killed by signal 9"),
            "{}",
            failure.text
        );
    });
}

#[test]
fn a_hanging_helper_is_killed_at_its_deadline_with_its_children() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let pids = s.at("pids");
        let script = format!(
            "echo $$ >> {pids}\n(sh -c 'echo $$ >> {pids}; trap \"\" TERM; sleep 600' & \
             echo waiting for the server; sleep 600) &\nwait\n"
        );
        let settings = scripted(&s, &script, Duration::from_secs(5));
        let begun = Instant::now();
        let step = fs_step::<&str>("nfs", "h:/x", &target, &[]);
        let failure = perform(&required([step]), &NoTriggers, &settings)
            .failed
            .unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(failure.errno, 110);
        assert!(failure.text.contains("killed") && failure.text.contains("waiting for the server"));
        let pids = fs::read_to_string(&pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        for pid in pids.lines() {
            let gone = || {
                fs::read_to_string(format!("/proc/{pid}/stat"))
                    .map_or(true, |stat| stat.contains(") Z "))
            };
            wait_until(
                "a process of the helper is gone",
                Duration::from_secs(60),
                gone,
            );
        }
        let limit = Duration::from_secs(60);
        wait_until("all grandchildren are gone", limit, || {
            !sleeping_in_this_namespace()
        });
    });
}

#[test]
fn helpers_run_in_the_process_group_of_the_daemon() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let file = s.at("group");
        let script = format!("cut -d' ' -f5 /proc/self/stat > {file}; exit 1");
        let settings = scripted(&s, &script, Duration::from_secs(20));
        let step = fs_step::<&str>("nfs", "h:/x", &target, &[]);
        perform(&required([step]), &NoTriggers, &settings);
        let group = fs::read_to_string(&file).unwrap();
        let ours = rustix::process::getpgrp().as_raw_nonzero().to_string();
        assert_eq!(group.trim(), ours);
    });
}

#[test]
fn a_dead_replica_leaves_time_for_the_next() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let script = "case \"$3\" in dead:*) sleep 600;; esac\nexec mount -t tmpfs x \"$4\"";
        let settings = scripted(&s, script, Duration::from_secs(10));
        let attempts = ["dead:/x", "good:/x"].map(|source| Attempt {
            what: What::Type("nfs".into()),
            source: source.into(),
            options: Vec::new(),
            host: None,
            address: None,
            no_guests: false,
            by_helper: false,
        });
        let step = Step::Mount {
            target: target.as_str().into(),
            attempts: attempts.into(),
            propagation: Propagation::Slave,
        };
        let outcome = perform(&required([step]), &NoTriggers, &settings);
        assert_eq!(outcome.failed, None);
        assert_eq!(outcome.done[0].attempt, 1);
    });
}

#[test]
fn a_helper_that_fails_after_it_has_mounted_leaves_nothing() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let before = mount_table();
        for script in [
            "mount -t tmpfs x \"$4\"; exit 16",
            "mount -t tmpfs x \"$4\"; sleep 600",
        ] {
            let settings = scripted(&s, script, Duration::from_millis(700));
            let step = fs_step::<&str>("nfs", "h:/x", &target, &[]);
            let outcome = perform(&required([step]), &NoTriggers, &settings);
            assert!(outcome.failed.is_some());
            assert_eq!(mount_table(), before);
        }
    });
}

#[test]
fn what_a_helper_mounted_is_taken_back_even_after_the_deadline() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        s.program("bin/umount", "#!/bin/sh\nexec umount \"$1\"\n");
        let script = "case $3 in slow*) sleep 600;; esac; exec mount -t tmpfs x \"$4\"";
        let settings = scripted(&s, script, Duration::from_millis(700));
        let program = settings
            .program
            .map(|program| Program::beside(program.mount));
        let settings = Settings {
            program,
            ..settings
        };
        let before = mount_table();
        let steps = required([
            fs_step::<&str>("nfs", "h:/x", &target, &[]),
            fs_step::<&str>("nfs", "slow:/x", &target, &[]),
        ]);
        let outcome = perform(&steps, &NoTriggers, &settings);
        assert_eq!(outcome.failed.unwrap().errno, 110);
        assert!(outcome.undone, "{:?}", outcome.not_undone);
        assert_eq!(mount_table(), before);
    });
}

#[test]
fn a_helper_that_cannot_die_is_given_up_and_reaped_later() {
    privately(|| {
        let s = Scratch::new();
        let disk = s.directory("disk");
        mounted(&fs_step::<&str>("ext4", &make_image(&s, EXT4), &disk, &[]));
        let target = s.directory("at");
        let pid = s.at("pid");
        // Writing to a frozen file system waits, and no signal ends that.
        let script = format!("echo $$ > {pid}; echo on its way; exec touch {disk}/x");
        let settings = scripted(&s, &script, Duration::from_secs(5));
        let frozen = Frozen::new(&disk);
        let begun = Instant::now();
        let step = fs_step::<&str>("nfs", "h:/x", &target, &[]);
        let failure = perform(&required([step]), &NoTriggers, &settings)
            .failed
            .unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(failure.errno, 110);
        assert!(failure.text.contains("on its way"), "{}", failure.text);
        let proc = format!("/proc/{}", fs::read_to_string(&pid).unwrap().trim());
        assert!(Path::new(&proc).exists(), "it could not die");
        drop(frozen);
        wait_until("it is reaped", Duration::from_secs(60), || {
            piton_mount::helper::reap();
            !Path::new(&proc).exists()
        });
    });
}
