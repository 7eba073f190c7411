//! The kernel tier: a daemon on the kernel's own autofs. Needs root; each test has a mount
//! namespace of its own and fails, rather than being skipped, where it cannot have one.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::io::Read;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use piton_testkit::privately;
use rustix::process::Signal;
use site::{Site, names};

const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;

const MASTER: &str = "@/m @/auto.m --timeout=300\n";

#[test]
fn an_indirect_key_is_mounted_at_first_access() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            (
                "auto.m",
                "a -fstype=bind :@/srv/a\nt -fstype=tmpfs,size=1m :tmpfs\n",
            ),
            ("srv/a/file", "x"),
        ]);
        assert!(!site.is_mounted("m/a"));
        assert_eq!(site.names("m/a"), ["file"]);
        assert!(site.is_mounted("m/a"));
        assert!(site.names("m/t").is_empty());
        assert_eq!(site.names("m"), ["a", "t"]);
        site.end();
    });
}

#[test]
fn an_absent_key_is_enoent() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "a :@\n")]);
        assert_eq!(site.errno("m/b"), ENOENT);
        assert!(site.names("m").is_empty());
        site.end();
    });
}

#[test]
fn a_wildcard_serves_any_key() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "* -fstype=bind :@/srv/&\n"),
            ("srv/ann/one", ""),
            ("srv/a b/two", ""),
        ]);
        assert_eq!(site.names("m/ann"), ["one"]);
        assert_eq!(site.names("m/a b"), ["two"]);
        assert_eq!(site.errno("m/nobody"), ENOENT);
        assert_eq!(site.names("m"), ["a b", "ann"]);
        site.end();
    });
}

#[test]
fn a_direct_key_is_its_own_mount_point() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "/- @/auto.direct\n"),
            (
                "auto.direct",
                "@/d/one -fstype=bind :@/srv/1\n@/d/two -fstype=bind :@/srv/2\n",
            ),
            ("srv/1/x", ""),
            ("srv/2/y", ""),
        ]);
        // R-191: looking at the directory mounts nothing.
        assert_eq!(site.names("d"), ["one", "two"]);
        let listed = Command::new("ls")
            .arg("-l")
            .arg(site.at("d"))
            .output()
            .unwrap();
        assert!(listed.status.success() && !site.is_mounted("d/one"));
        assert_eq!(site.names("d/one"), ["x"]);
        assert!(site.is_mounted("d/one") && !site.is_mounted("d/two"));
        site.end();
    });
}

#[test]
fn offsets_are_mounted_as_they_are_walked_into() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            (
                "auto.m",
                "b / -fstype=bind :@/srv/b \\\n /1.0 -fstype=bind :@/srv/b1 \\\n /1.0/man -fstype=bind :@/srv/man\n",
            ),
            ("srv/b/1.0/hidden", ""),
            ("srv/b/top", ""),
            ("srv/b1/man/hidden", ""),
            ("srv/man/page", ""),
        ]);
        // R-435: what the root has shows through.
        assert_eq!(site.names("m/b"), ["1.0", "top"]);
        assert!(!site.is_mounted("m/b/1.0"));
        assert_eq!(site.names("m/b/1.0/man"), ["page"]);
        assert!(site.is_mounted("m/b/1.0") && site.is_mounted("m/b/1.0/man"));
        site.end();
    });
}

#[test]
fn r_361_r_362_the_parent_and_the_name_are_the_wanted_ones() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "a -fstype=bind :@/srv/a\n"),
            ("srv/a/sub/x", ""),
        ]);
        std::env::set_current_dir(site.at("m/a/sub")).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), site.at("m/a/sub"));
        std::env::set_current_dir("../..").unwrap();
        assert_eq!(std::env::current_dir().unwrap(), site.at("m"));
        std::env::set_current_dir("/").unwrap();
        site.end();
    });
}

#[test]
fn what_is_idle_expires_and_what_is_used_stays() {
    privately(|| {
        let site = Site::serving(&[
            (
                "auto.master",
                "@/m @/auto.m --timeout=1\n/- @/auto.d --timeout=1\n",
            ),
            (
                "auto.m",
                "a -fstype=tmpfs :t\nb -fstype=tmpfs :t\nh -fstype=tmpfs / :t /x :t /x/y :t\n",
            ),
            ("auto.d", "@/d/k -fstype=tmpfs :t\n"),
        ]);
        site.names("m/a");
        site.names("m/h/x/y");
        site.names("d/k");
        site.names("m/b");
        let held = fs::File::open(site.at("m/b")).unwrap();
        site.wait("idle mounts are gone", |site| {
            !site.is_mounted("m/a") && !site.is_mounted("d/k") && !site.is_mounted("m/h")
        });
        assert!(site.is_mounted("m/b"));
        site.wait("their directories as well", |site| site.names("m") == ["b"]);
        drop(held);
        site.wait("the last one is gone", |site| !site.is_mounted("m/b"));
        site.names("m/a");
        site.end();
    });
}

#[test]
fn one_request_takes_whole_trees_down() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n/- @/auto.d\n"),
            (
                "auto.m",
                "h -fstype=tmpfs / :t /x :t /x/y :t /x/y/z :t /w :t\nbare -fstype=tmpfs /a/b :t\n\
                 sub -fstype=autofs file:@/auto.sub\n",
            ),
            ("auto.sub", "a -fstype=tmpfs / :t /b :t\n"),
            ("auto.d", "@/d/k -fstype=tmpfs / :t /l :t\n"),
        ]);
        let paths = ["m/h/x/y/z", "m/h/w", "m/bare/a/b", "m/sub/a/b", "d/k/l"];
        for path in paths {
            site.names(path);
        }
        let held = fs::File::open(site.at("m/h/x")).unwrap();
        site.piton(&["expire"]);
        let still = |path: &&str| site.is_mounted(path);
        let all = [&paths[..], &["m/h", "m/h/x", "m/h/x/y", "m/sub/a", "d/k"]].concat();
        let left: Vec<&str> = all.iter().copied().filter(still).collect();
        assert_eq!(left, ["m/h", "m/h/x"], "what is used, and what is above it");
        drop(held);
        site.signal(Signal::USR1);
        site.wait("the rest goes", |site| site.names("m").is_empty());
        site.end();
    });
}

#[test]
fn namespaces_that_receive_mounts_receive_offsets_too() {
    privately(|| {
        let mut site = Site::new(&[
            ("auto.master", MASTER),
            ("auto.m", "h -fstype=tmpfs / :t /x :t /x/y :t\n"),
        ]);
        let root = site.root();
        let shared = format!("mount -t tmpfs t {root}/m && mount --make-shared {root}/m");
        fs::create_dir_all(site.at("m")).unwrap();
        assert!(
            Command::new("sh")
                .args(["-c", &shared])
                .status()
                .unwrap()
                .success()
        );
        site.start();
        let look = format!("ls {root}/m/h/x/y && grep -c ' {root}/m/h' /proc/self/mountinfo");
        let inside = ["-m", "--propagation", "slave", "sh", "-c", &look];
        let inside = Command::new("unshare").args(inside).output().unwrap();
        // The root, two triggers and what is mounted on them.
        assert_eq!(String::from_utf8_lossy(&inside.stdout), "5\n", "{inside:?}");
        site.signal(Signal::TERM);
        site.wait_for_end();
        assert_eq!(site.mounts(), ["/m tmpfs"]);
    });
}

#[test]
fn twenty_expiries_while_four_walk_the_trees() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            (
                "auto.m",
                "h -fstype=tmpfs / :t /x :t /x/y :t\nbare -fstype=tmpfs /a :t /b/c :t\n",
            ),
        ]);
        let walking = std::sync::atomic::AtomicUsize::new(4);
        together(5, |number| {
            use std::sync::atomic::Ordering::SeqCst;
            if number == 4 {
                for round in 0..20 {
                    std::thread::sleep(Duration::from_millis(20 + 13 * (round % 5)));
                    site.signal(Signal::USR1);
                }
                walking.store(0, SeqCst);
            }
            while walking.load(SeqCst) > 0 {
                for path in ["m/h/x/y", "m/bare/a", "m/h/x", "m/bare/b/c", "m/h"] {
                    names(&site.at(path)).unwrap();
                }
            }
        });
        site.end();
    });
}

#[test]
fn status_names_who_keeps_a_mount_busy() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "a -fstype=tmpfs :t\n")]);
        site.names("m/a");
        let held = fs::File::open(site.at("m/a")).unwrap();
        let status = site.piton_ok(&["status", "@/m/a", "--json"]);
        let pid = format!("\"pid\":{}", std::process::id());
        assert!(status.replace(' ', "").contains(&pid), "{status}");
        drop(held);
        site.end();
    });
}

#[test]
fn two_hundred_and_fifty_six_keys_at_once() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "* -fstype=tmpfs,size=64k :&\n"),
        ]);
        together(256, |number| {
            names(&site.at(&format!("m/k{number}"))).unwrap();
        });
        let mounted = (0..256)
            .filter(|number| site.count(&format!("m/k{number}")) == 1)
            .count();
        assert_eq!(mounted, 256);
        site.end();
    });
}

#[test]
fn two_hundred_and_fifty_six_accesses_of_one_key_mount_it_once() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "a -fstype=bind :@/srv\n"),
            ("srv/x", ""),
        ]);
        together(256, |_| assert_eq!(names(&site.at("m/a")).unwrap(), ["x"]));
        assert_eq!(site.count("m/a"), 1);
        site.end();
    });
}

#[test]
fn access_during_expiry_never_fails() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m --timeout=1\n"),
            ("auto.m", "* -fstype=bind / :@/srv /sub -fstype=tmpfs :t\n"),
            ("srv/sub/x", ""),
        ]);
        let until = Instant::now() + Duration::from_secs(5);
        together(8, |number| {
            let mut round = 0;
            while Instant::now() < until {
                names(&site.at(&format!("m/k{}/sub", (number + round) % 4))).unwrap();
                round += 1;
                std::thread::sleep(Duration::from_millis(50 * (round as u64 % 7)));
                if number == 0 && round % 5 == 0 {
                    site.signal(Signal::USR1);
                }
            }
        });
        site.end();
    });
}

#[test]
fn a_changed_map_file_counts_at_the_next_access() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "a -fstype=bind :@/srv/1\n"),
            ("srv/1/one", ""),
            ("srv/2/two", ""),
        ]);
        assert_eq!(site.errno("m/b"), ENOENT);
        site.write(
            "auto.m",
            "a -fstype=bind :@/srv/1\nb -fstype=bind :@/srv/2\n",
        );
        assert_eq!(site.names("m/b"), ["two"]);
        site.write("auto.m", "a -fstype=bind :@/srv/2\n");
        assert_eq!(site.names("m/a"), ["two"]);
        site.end();
    });
}

#[test]
fn a_changed_master_map_is_applied_by_itself() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
            ("auto.d", "@/d/one -fstype=tmpfs :t\n"),
        ]);
        site.names("m/a");
        site.write("auto.master", "@/m @/auto.m\n@/n @/auto.m\n/- @/auto.d\n");
        site.wait("the new mount points are there", |site| {
            names(&site.at("n/x")).is_ok() && names(&site.at("d/one")).is_ok()
        });
        assert_eq!(site.count("m/a"), 1, "what did not change is not touched");
        site.write("auto.d", "@/d/two -fstype=tmpfs :t\n");
        site.wait("the direct map is applied", |site| {
            names(&site.at("d/two")).is_ok() && !site.at("d/one").exists()
        });
        site.end();
    });
}

#[test]
fn reload_under_load_disturbs_nobody() {
    privately(|| {
        let keys = |count: usize| {
            (0..count)
                .map(|key| format!("@/d/k{key} -fstype=tmpfs :t\n"))
                .collect::<String>()
        };
        let site = Site::serving(&[
            ("auto.master", "/- @/auto.d\n@/m @/auto.m\n"),
            ("auto.d", &keys(50)),
            ("auto.m", "* -fstype=tmpfs,size=64k :&\n"),
        ]);
        let until = Instant::now() + Duration::from_secs(4);
        together(5, |number| {
            let mut round = 0;
            while Instant::now() < until {
                round += 1;
                if number == 0 {
                    site.write("auto.d", &keys(50 + round % 10));
                    site.signal(Signal::HUP);
                    std::thread::sleep(Duration::from_millis(40));
                    continue;
                }
                names(&site.at(&format!("d/k{}", (round * 7 + number) % 50))).unwrap();
                names(&site.at(&format!("m/x{}", (round + number) % 40))).unwrap();
            }
        });
        site.end();
    });
}

#[test]
fn reload_plan_says_what_would_change_and_changes_nothing() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n@/n @/auto.m\n"),
            ("auto.m", "a -fstype=tmpfs :t\n"),
        ]);
        let before = site.mounts();
        fs::write(site.at("later"), "").unwrap();
        site.write("other.master", "");
        let plan = site.piton_ok(&["reload", "--plan"]);
        assert!(!plan.contains('+'), "{plan}");
        assert_eq!(site.mounts(), before);
        site.end();
    });
}

#[test]
fn stop_leaves_what_is_busy_and_says_so() {
    privately(|| {
        let mut site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "a -fstype=bind :@/srv\nb -fstype=tmpfs :t\n"),
            ("srv/file", "text"),
        ]);
        site.names("m/b");
        let mut held = fs::File::open(site.at("m/a/file")).unwrap();
        site.signal(Signal::TERM);
        site.wait_for_end();
        assert!(site.is_mounted("m/a") && !site.is_mounted("m/b"));
        assert!(site.log().contains("/m/a"), "{}", site.log());
        let mut text = String::new();
        held.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        drop(held);
        // The next start takes it over.
        site.start();
        assert_eq!(site.names("m/a"), ["file"]);
        assert_eq!(site.count("m/a"), 1);
        site.names("m/b");
        site.end();
    });
}

#[test]
fn a_stop_outlasts_those_who_only_pass_by() {
    privately(|| {
        let mut site = Site::serving(&[
            ("auto.master", MASTER),
            (
                "auto.m",
                "h -fstype=tmpfs / :t /x :t /x/y :t\na -fstype=tmpfs :t\n",
            ),
        ]);
        let paths = ["m/h/x/y", "m/a", "m/h"].map(|path| site.at(path));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while begun.elapsed() < Duration::from_secs(2) {
                        for path in &paths {
                            let _ = names(path);
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(500));
            site.signal(Signal::TERM);
            site.wait_for_end();
        });
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(site.count("m"), 0, "{}", site.log());
    });
}

#[test]
fn detached_mounts_work_on_and_are_adopted() {
    privately(|| {
        let mut site = Site::serving(&[
            ("auto.master", "@/m @/auto.m --timeout=300\n/- @/auto.d\n"),
            (
                "auto.m",
                "a -fstype=bind :@/srv\nh / -fstype=bind :@/srv /sub -fstype=tmpfs :t /other -fstype=tmpfs :t\n",
            ),
            (
                "auto.d",
                "@/d/k -fstype=tmpfs :t\n@/d/bare -fstype=tmpfs /a :t /b :t\n",
            ),
            ("srv/sub/x", ""),
            ("srv/other/y", ""),
        ]);
        for key in ["m/a", "m/h/sub", "d/k", "d/bare/a"] {
            site.names(key);
        }
        site.piton_ok(&["stop", "--detach"]);
        site.wait_for_end();
        assert_eq!(site.names("m/a"), ["other", "sub"]);
        assert!(site.is_mounted("m/h/sub") && site.is_mounted("d/k"));
        site.start();
        assert_eq!(
            (site.count("m/a"), site.count("d/k"), site.count("m/h")),
            (1, 1, 1)
        );
        // A trigger of an adopted entry that was not used yet.
        assert!(site.names("m/h/other").is_empty());
        assert!(site.is_mounted("m/h/other"));
        // An entry without a root in a direct mount point.
        assert!(site.names("d/bare/b").is_empty() && site.names("d/bare/a").is_empty());
        assert_eq!((site.count("d/bare/a"), site.count("d/bare/b")), (1, 1));
        site.piton_ok(&["expire"]);
        site.wait("adopted mounts expire", |site| {
            !site.is_mounted("m/a") && !site.is_mounted("d/k") && !site.is_mounted("m/h")
        });
        site.names("m/a");
        site.end();
    });
}

#[test]
fn a_direct_entry_of_offsets_only_is_adopted() {
    privately(|| {
        let mut site = Site::serving(&[
            ("auto.master", "/- @/auto.d --timeout=300\n"),
            (
                "auto.d",
                "@/d/k /x -fstype=tmpfs :t /y/z -fstype=tmpfs :t\n",
            ),
        ]);
        site.names("d/k/x");
        site.piton_ok(&["stop", "--detach"]);
        site.wait_for_end();
        site.start();
        assert!(site.is_mounted("d/k/x"));
        // An offset that was not used yet.
        site.names("d/k/y/z");
        site.piton_ok(&["expire"]);
        site.wait("what was adopted expires", |site| {
            !site.is_mounted("d/k/x") && !site.is_mounted("d/k/y/z")
        });
        site.end();
    });
}

#[test]
fn a_submount_is_adopted_with_its_keys() {
    privately(|| {
        let mut site = Site::serving(&[
            ("auto.master", MASTER),
            ("auto.m", "sub -fstype=autofs file:@/auto.sub\n"),
            ("auto.sub", "a -fstype=tmpfs :t\nb -fstype=tmpfs :t\n"),
        ]);
        site.names("m/sub/a");
        site.piton_ok(&["stop", "--detach"]);
        site.wait_for_end();
        assert!(site.is_mounted("m/sub/a"));
        site.start();
        assert_eq!(site.count("m/sub/a"), 1);
        site.names("m/sub/b");
        assert_eq!(site.errno("m/sub/c"), ENOENT);
        site.end();
    });
}

#[test]
fn a_killed_daemon_is_succeeded() {
    privately(|| {
        let mut site =
            Site::serving(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        site.names("m/a");
        site.kill();
        assert!(site.is_mounted("m/a"));
        site.start();
        site.names("m/a");
        site.names("m/b");
        assert_eq!(site.count("m/a"), 1);
        site.end();
    });
}

#[test]
fn a_start_is_over_when_all_mount_points_are_in_place_old_and_new() {
    privately(|| {
        let mut site =
            Site::serving(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        site.names("m/a");
        site.kill();
        fs::remove_file(site.at("log")).unwrap();
        site.write("auto.master", &format!("{MASTER}@/n @/auto.m\n"));
        // One is taken over while the other is put in place.
        site.start();
        let log = site.log();
        let (before, after) = log.split_once("mount points are in place").unwrap();
        for point in ["m", "n"] {
            let said = site.text(&format!("mount point in place path=@/{point}\n"));
            assert!(before.contains(&said), "{log}");
        }
        assert!(!after.contains("in place"), "{log}");
        site.names("n/a");
        site.end();
    });
}

#[test]
fn an_executable_map_that_sleeps_delays_no_other_key() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/p @/auto.p\n@/m @/auto.m\n"),
            (
                "auto.p",
                "#!/bin/sh\nif [ $1 = slow ]; then : >@/slow; while [ -e @/slow ]; do sleep 0.1; done; fi\n\
                 echo '-fstype=tmpfs :t'\n",
            ),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| names(&site.at("p/slow")));
            site.wait("it sleeps", |site| site.at("slow").exists());
            site.names("p/quick");
            site.names("m/a");
            assert!(!slow.is_finished(), "the others were there first");
            fs::remove_file(site.at("slow")).unwrap();
            slow.join().unwrap().unwrap();
        });
        site.end();
    });
}

#[test]
fn a_program_that_hangs_floods_or_fails_costs_its_key_only() {
    privately(|| {
        let site = Site::new(&[
            ("auto.master", "@/p @/auto.p\n"),
            (
                "auto.p",
                "#!/bin/sh\ncase $1 in\nhang) sleep 1000;;\nflood) yes;;\nfail) echo ':@'; exit 3;;\n\
                 rubbish) printf '\\000\\377 -- \\042';;\nempty) ;;\nkill) kill -9 $$;;\n*) echo '-fstype=tmpfs :t';;\nesac\n",
            ),
        ]);
        let mut site = site.with_options(&["--deadline", "6"]);
        site.start();
        let begun = Instant::now();
        assert_eq!(site.errno("p/hang"), ETIMEDOUT);
        for key in ["flood", "fail", "rubbish", "empty", "kill"] {
            assert!(names(&site.at("p").join(key)).is_err(), "{key}");
        }
        // It would hang for a quarter of an hour.
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        site.names("p/good");
        site.end();
    });
}

#[test]
fn a_program_that_others_may_write_is_refused() {
    privately(|| {
        use std::os::unix::fs::PermissionsExt;
        let site = Site::serving(&[
            ("auto.master", "@/p @/auto.p\n"),
            ("auto.p", "#!/bin/sh\necho '-fstype=tmpfs :t'\n"),
        ]);
        site.names("p/a");
        fs::set_permissions(site.at("auto.p"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(site.errno("p/b"), EACCES);
        site.end();
    });
}

#[test]
fn a_submount_serves_its_own_map() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m --timeout=1\n"),
            ("auto.m", "sub -fstype=autofs,timeout=1 file:@/auto.sub\n"),
            ("auto.sub", "a -fstype=tmpfs :t\n"),
        ]);
        let held = fs::File::open(site.at("m/sub/a")).unwrap();
        assert!(site.is_mounted("m/sub/a"));
        assert_eq!(site.errno("m/sub/b"), ENOENT);
        drop(held);
        site.wait("the submount and its key expire", |site| {
            site.names("m").is_empty()
        });
        site.names("m/sub/a");
        site.end();
    });
}

#[test]
fn a_submount_needs_a_map_and_may_show_its_keys() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            (
                "auto.m",
                "shown -fstype=autofs,browse file:@/auto.sub\nnone -fstype=autofs file:@/auto.none\n\
                 * -fstype=autofs file:@/auto.&\n",
            ),
            ("auto.sub", "a -fstype=tmpfs :t\nb -fstype=tmpfs :t\n"),
        ]);
        assert_eq!(site.names("m/shown"), ["a", "b"]);
        assert!(!site.is_mounted("m/shown/a"));
        site.names("m/shown/a");
        assert!(site.is_mounted("m/shown/a"));
        assert_eq!(site.errno("m/none"), ENOENT);
        assert_eq!(site.errno("m/other"), ENOENT);
        assert!(site.names("m/sub").is_empty());
        site.end();
    });
}

#[test]
fn a_map_that_vanishes_takes_no_mount_point_along() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n/- @/auto.d\n"),
            ("auto.m", "a -fstype=tmpfs :t\nb -fstype=tmpfs :t\n"),
            ("auto.d", "@/d/k -fstype=tmpfs :t\n@/d/l -fstype=tmpfs :t\n"),
        ]);
        site.names("m/a");
        site.names("d/k");
        for map in ["auto.m", "auto.d"] {
            fs::remove_file(site.at(map)).unwrap();
        }
        site.piton(&["reload"]);
        assert!(site.is_mounted("m/a") && site.is_mounted("d/k"));
        assert_eq!(site.errno("m/b"), ENOENT);
        assert_eq!(site.errno("d/l"), ENOENT);
        site.write("auto.m", "b -fstype=tmpfs :t\n");
        site.write("auto.d", "@/d/l -fstype=tmpfs :t\n");
        site.piton_ok(&["reload"]);
        site.names("m/b");
        site.wait("the key is served again", |site| {
            names(&site.at("d/l")).is_ok()
        });
        site.end();
    });
}

#[test]
fn r_261_browse_shows_keys_and_mounts_none() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m browse --timeout=1\n"),
            (
                "auto.m",
                "a -fstype=tmpfs :t\nb -fstype=tmpfs :t\n* -fstype=tmpfs :t\n",
            ),
        ]);
        site.wait("keys are listed", |site| site.names("m") == ["a", "b"]);
        assert!(!site.is_mounted("m/a"));
        let held = fs::File::open(site.at("m/a")).unwrap();
        assert!(site.is_mounted("m/a"));
        drop(held);
        site.wait("it expires", |site| !site.is_mounted("m/a"));
        assert_eq!(site.names("m"), ["a", "b"]);
        site.names("m/a");
        site.end();
    });
}

#[test]
fn nobody_can_make_a_directory_in_a_mount_point() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "a :@\n")]);
        let error = fs::create_dir(site.at("m/new")).unwrap_err();
        assert!(
            [EACCES, ENOENT].contains(&error.raw_os_error().unwrap()),
            "{error}"
        );
        site.end();
    });
}

#[test]
fn failures_keep_their_meaning() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", MASTER),
            (
                "auto.m",
                "gone -fstype=bind :@/no/such\nbad -fstype=tmpfs,nosuchoption=1 :t\n\
                 climb -fstype=tmpfs / :t /../../victim :t\n",
            ),
            ("victim/x", ""),
        ]);
        assert_eq!(site.errno("m/gone"), ENOENT);
        assert_eq!(site.errno("m/bad"), EINVAL);
        assert!(names(&site.at("m/climb")).is_err());
        assert_eq!(site.names("victim"), ["x"]);
        site.wait("the kernel's own words are in the log", |site| {
            site.log().contains("nosuchoption")
        });
        assert!(site.names("m").is_empty(), "nothing is left of what failed");
        site.end();
    });
}

#[test]
fn r_260_a_mount_undone_by_hand_is_made_again() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "a -fstype=tmpfs :t\n")]);
        site.names("m/a");
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(site.at("m/a"), flags).unwrap();
        site.names("m/a");
        assert_eq!(site.count("m/a"), 1);
        site.end();
    });
}

#[test]
fn a_second_daemon_is_refused_and_told_who_is_there() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "a -fstype=tmpfs :t\n")]);
        let second = site.piton(&["daemon", "--foreground", "--master", "@/auto.master"]);
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        let pid = fs::read_to_string(site.at("ready")).unwrap();
        assert!(
            !second.status.success() && said.contains(pid.trim()),
            "{said}"
        );
        site.names("m/a");
        site.end();
    });
}

#[test]
fn the_mount_program_sees_every_decision() {
    privately(|| {
        let site = Site::new(&[
            ("auto.master", "@/m @/auto.m rw\n"),
            (
                "auto.m",
                "a -fstype=fake,ro,x=1 host:/a\nb -fstype=bind :@/srv\n",
            ),
            ("srv/x", ""),
            (
                "bin/mount",
                "#!/bin/sh\necho \"mount $*\" >>@/calls\ncase $1 in -t) mount -t tmpfs none \"$5$6\" 2>/dev/null || mount -t tmpfs none \"${6}\";; *) exec mount $*;; esac\n",
            ),
            (
                "bin/umount",
                "#!/bin/sh\necho \"umount $*\" >>@/calls\nexec umount $*\n",
            ),
        ]);
        let mut site = site.with_options(&["--mount-program", "@/bin/mount"]);
        site.start();
        site.names("m/a");
        site.names("m/b");
        site.piton_ok(&["expire"]);
        let root = site.root();
        let calls = fs::read_to_string(site.at("calls"))
            .unwrap()
            .replace(&root, "");
        assert!(
            calls.contains("mount -t fake -o rw,ro,x=1 host:/a /m/a\n"),
            "{calls}"
        );
        assert!(calls.contains("mount --bind -o rw /srv /m/b\n"), "{calls}");
        assert!(
            calls.contains("umount /m/a\n") && calls.contains("umount /m/b\n"),
            "{calls}"
        );
        site.end();
    });
}

#[test]
fn requesters_are_told_to_programs_and_entries() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n@/p @/auto.p\n"),
            ("auto.m", "* -fstype=bind :@/srv/$USER-$UID\n"),
            (
                "auto.p",
                "#!/bin/sh\necho \"-fstype=bind :@/srv/$AUTOFS_USER-$AUTOFS_UID\"\n",
            ),
            ("srv/root-0/r", ""),
        ]);
        assert_eq!(site.names("m/x"), ["r"]);
        assert_eq!(site.names("p/x"), ["r"]);
        site.end();
    });
}

#[test]
fn every_access_is_answered_within_its_deadline() {
    privately(|| {
        let site = Site::new(&[
            ("auto.master", MASTER),
            ("auto.m", "a -fstype=stuck :x\n"),
            ("bin/mount", "#!/bin/sh\nsleep 1000\n"),
        ]);
        let mut site = site.with_options(&["--mount-program", "@/bin/mount", "--deadline", "2"]);
        site.start();
        let begun = Instant::now();
        assert_eq!(site.errno("m/a"), ETIMEDOUT);
        // The program would sleep for a quarter of an hour.
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        site.end();
    });
}

/// Runs `act` in `count` threads that begin together.
fn together(count: usize, act: impl Fn(usize) + Sync) {
    let barrier = Arc::new(Barrier::new(count));
    std::thread::scope(|scope| {
        for number in 0..count {
            let (barrier, act) = (barrier.clone(), &act);
            scope.spawn(move || {
                barrier.wait();
                act(number);
            });
        }
    });
}
