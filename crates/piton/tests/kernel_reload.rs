//! The kernel tier: maps change while what they named is mounted and in use. Needs root; each
//! test has a mount namespace of its own.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use piton_testkit::privately;
use rustix::process::Signal;
use site::{Site, names};

const ENOENT: i32 = 2;

/// Has a file of the site lie in another directory, behind a link: what is written there is not noticed,
/// so that it is the command that reads it, and tells what has changed.
fn unnoticed(site: &Site, name: &str, text: &str) -> String {
    let elsewhere = format!("elsewhere/{name}");
    site.write(&elsewhere, text);
    std::fs::remove_file(site.at(name)).ok();
    std::os::unix::fs::symlink(site.at(&elsewhere), site.at(name)).unwrap();
    elsewhere
}

/// Runs `act` again and again on other threads while `change` does its work.
fn under_load(threads: usize, act: impl Fn(usize, usize) + Sync, change: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (act, over) = (&act, &over);
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(SeqCst) {
                    act(number, round);
                    round += 1;
                }
            });
        }
        change();
        over.store(true, SeqCst);
    });
}

#[test]
fn what_is_busy_is_pending_with_who_holds_it_and_goes_when_idle() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n@/n @/auto.m\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        site.names("m/a");
        let held = File::open(site.at("m/a")).unwrap();
        // Not the file that is watched: nothing happens before the reload.
        std::fs::write(site.at("auto.master"), site.text("@/n @/auto.m\n")).unwrap();
        let me = format!("(pid {})", std::process::id());
        let plan = site.piton_ok(&["reload", "--plan"]);
        let told = plan.lines().next().unwrap();
        assert!(told.starts_with(&site.text("? @/m ")), "{plan}");
        assert!(told.contains(&me), "{plan}");
        assert!(
            plan.contains("nothing would change; 1 unchanged, 1 would"),
            "{plan}"
        );
        let done = site.piton_ok(&["reload"]);
        assert!(
            done.starts_with(&site.text("? @/m ")) && done.contains(&me),
            "{done}"
        );
        let status = site.piton_ok(&["status"]);
        assert!(status.contains("Pending (1)"), "{status}");
        assert!(status.contains(&site.text("waits for @/m/a")), "{status}");
        // The pending trigger is answered, and what is mounted stays usable.
        assert_eq!(site.errno("m/b"), ENOENT);
        assert!(site.names("m/a").is_empty());
        drop(held);
        site.wait("the leftover goes", |site| !site.at("m").exists());
        site.wait("nothing is pending", |site| {
            !site.piton_ok(&["status"]).contains("Pending")
        });
        site.end();
    });
}

#[test]
fn crossing_changes_happen_in_the_right_order() {
    privately(|| {
        let one = "@/d/a/b -fstype=tmpfs :t\n";
        let above = "@/d/a -fstype=tmpfs :t\n";
        let two = "@/d/a/b -fstype=tmpfs :t\n@/d/a/c -fstype=tmpfs :t\n";
        let site = Site::serving(&[("auto.master", "/- @/auto.d\n"), ("auto.d", one)]);
        for round in 0..3 {
            site.names("d/a/b");
            let held = (round == 1).then(|| File::open(site.at("d/a/b")).unwrap());
            site.write("auto.d", above);
            let told = site.piton_ok(&["reload"]);
            assert_eq!(told.contains("pending"), held.is_some(), "{told}");
            drop(held);
            site.wait("/d/a is a mount of its own", |site| {
                names(&site.at("d/a")).is_ok_and(|names| names.is_empty()) && site.is_mounted("d/a")
            });
            let held = (round == 2).then(|| File::open(site.at("d/a")).unwrap());
            site.write("auto.d", two);
            site.piton_ok(&["reload"]);
            drop(held);
            site.wait("those below it are there", |site| {
                names(&site.at("d/a/b")).is_ok() && names(&site.at("d/a/c")).is_ok()
            });
            assert_eq!((site.count("d/a"), site.count("d/a/c")), (0, 1));
            site.write("auto.d", one);
            site.piton_ok(&["reload"]);
        }
        site.end();
    });
}

#[test]
fn a_point_above_another_one_and_away_again() {
    privately(|| {
        let inner = "/- @/auto.d\n";
        let both = "/- @/auto.d\n@/d @/auto.m\n";
        let site = Site::serving(&[
            ("auto.master", inner),
            ("auto.d", "@/d/k -fstype=tmpfs :t\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        site.names("d/k");
        site.write("auto.master", both);
        site.piton_ok(&["reload"]);
        site.wait("both serve", |site| names(&site.at("d/x")).is_ok());
        site.names("d/k");
        site.write("auto.master", inner);
        site.piton_ok(&["reload"]);
        site.wait("the outer one is gone", |site| {
            names(&site.at("d/x")).is_err() && names(&site.at("d/k")).is_ok()
        });
        site.end();
    });
}

#[test]
fn kinds_and_maps_change_under_load_and_nobody_waits_for_ever() {
    privately(|| {
        let indirect = "@/m @/auto.m\n@/s @/auto.m\n/- @/auto.d\n";
        let direct = "/- @/auto.e\n@/s @/auto.m\n";
        let private = "@/m @/auto.m private\n@/s @/auto.m\n/- @/auto.d\n";
        let site = Site::new(&[
            ("auto.master", indirect),
            ("auto.m", "* -fstype=tmpfs,size=64k :&\n"),
            ("auto.d", "@/d/k -fstype=tmpfs :t\n"),
            ("auto.e", "@/m -fstype=tmpfs :t\n@/d/k -fstype=tmpfs :t\n"),
        ]);
        // Whoever hung would do so for longer than a busy machine takes.
        let mut site = site.with_options(&["--deadline", "60"]);
        site.start();
        let act = |number: usize, round: usize| {
            let begun = Instant::now();
            // May be there or not, but it is known at once.
            let _ = names(&site.at(&format!("m/k{}", round % 5)));
            if number == 0 {
                names(&site.at("d/k")).unwrap();
                names(&site.at(&format!("s/k{}", round % 9))).unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "somebody hung");
        };
        under_load(3, act, || {
            for _ in 0..4 {
                for master in [direct, indirect, private, indirect] {
                    site.write("auto.master", master);
                    site.signal(Signal::HUP);
                    std::thread::sleep(Duration::from_millis(150));
                }
            }
        });
        site.wait("it serves in the end", |site| {
            names(&site.at("m/z")).is_ok()
        });
        site.end();
    });
}

#[test]
fn a_key_that_changes_while_it_is_mounted_stays_until_it_expires() {
    privately(|| {
        let mut site = Site::new(&[
            ("auto.m", "a -fstype=bind :@/srv/1\n"),
            ("srv/1/one", ""),
            ("srv/1/sub/hidden", ""),
            ("srv/2/two", ""),
        ]);
        let master = unnoticed(&site, "auto.master", "@/m @/auto.m\n/- @/auto.d\n");
        let entry = "@/d/k -fstype=bind / :@/srv/1 /sub -fstype=tmpfs :t\n";
        let direct = unnoticed(&site, "auto.d", entry);
        site.start();
        assert_eq!(site.names("m/a"), ["one", "sub"]);
        assert_eq!(site.names("d/k"), ["one", "sub"]);
        site.write("auto.m", "a -fstype=bind :@/srv/2\n");
        site.write(&direct, "@/d/k -fstype=bind :@/srv/2\n");
        let told = site.piton_ok(&["reload"]);
        assert!(told.starts_with("nothing changed"), "{told}");
        assert_eq!(site.names("m/a"), ["one", "sub"]);
        // The rest of the entry that is mounted still belongs to it.
        assert!(site.names("d/k/sub").is_empty());
        site.piton_ok(&["expire"]);
        assert_eq!(site.names("m/a"), ["two"]);
        assert_eq!(site.names("d/k"), ["two"]);
        // A direct key that moves to another map is not touched, either.
        site.write("auto.e", "@/d/k -fstype=bind :@/srv/1\n");
        site.write(&master, "@/m @/auto.m\n/- @/auto.e\n");
        let told = site.piton_ok(&["reload"]);
        assert!(told.starts_with(&site.text("~ @/d/k ")), "{told}");
        assert_eq!(site.names("d/k"), ["two"]);
        site.piton_ok(&["expire"]);
        assert_eq!(site.names("d/k"), ["one", "sub"]);
        site.end();
    });
}

#[test]
fn the_keys_that_a_submount_shows_follow_its_map() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n"),
            ("auto.m", "sub -fstype=autofs,browse file:@/auto.sub\n"),
            ("auto.sub", "a -fstype=tmpfs :t\nb -fstype=tmpfs :t\n"),
        ]);
        assert_eq!(site.names("m/sub"), ["a", "b"]);
        site.names("m/sub/a");
        site.write("auto.sub", "a -fstype=tmpfs :t\nc -fstype=tmpfs :t\n");
        site.piton_ok(&["reload"]);
        site.wait("the new keys are shown", |site| {
            names(&site.at("m/sub")).is_ok_and(|names| names == ["a", "c"])
        });
        // One key goes, and no other.
        site.names("m/sub/c");
        site.piton_ok(&["expire", "@/m/sub/a"]);
        assert_eq!((site.count("m/sub/a"), site.count("m/sub/c")), (0, 1));
        // What is no place of ours is not taken for one where nothing was left to do.
        for command in ["expire", "flush"] {
            for here in ["@", "@/m", "@/m/sub/zzz", "@/m/sub/c/deep"] {
                site.piton_ok(&[command, here]);
            }
            let output = site.piton(&[command, "@/mm"]);
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8_lossy(&output.stderr);
            let told = site.text("nothing of the automounter's is at @/mm: `piton status` names");
            assert!(said.contains(&told), "{said}");
        }
        site.end();
    });
}

#[test]
fn what_a_direct_key_hides_is_refused_with_both_lines() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "/- @/auto.d\n@/d/a/m @/auto.m\n"),
            ("auto.d", "@/d/a -fstype=tmpfs :t\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        let told = site.piton_ok(&["reload", "--plan"]);
        let why = "(@/auto.master:2:1: the direct key @/d/a (@/auto.d:1:1) would hide it)";
        assert!(told.contains(&site.text(why)), "{told}");
        site.names("d/a");
        let explained = site.piton(&["explain", "--master", "@/auto.master", "@/d/a/m/x"]);
        let text = String::from_utf8_lossy(&explained.stdout);
        assert!(
            text.contains(&site.text("@/d/a is a key of the direct map")),
            "{text}"
        );
        site.end();
    });
}

#[test]
fn the_first_file_in_an_empty_directory_of_master_maps_is_applied_by_itself() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n+dir:@/auto.master.d\n"),
            ("auto.master.d/README", "Files here end in .autofs.\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        site.write("auto.master.d/more.autofs", "@/more @/auto.m\n");
        site.wait("it is in place", |site| names(&site.at("more/a")).is_ok());
        std::fs::remove_file(site.at("auto.master.d/more.autofs")).unwrap();
        site.wait("it is gone", |site| names(&site.at("more/b")).is_err());
        site.end();
    });
}

#[test]
fn one_of_ten_thousand_direct_keys_is_added_and_no_other_disturbed() {
    privately(|| {
        let keys = |count: usize| {
            (0..count)
                .map(|key| format!("@/d/{}/k{key} -fstype=tmpfs,size=64k :t\n", key % 100))
                .collect::<String>()
        };
        let mut site = Site::new(&[("auto.master", "/- @/auto.d\n")]);
        let direct = unnoticed(&site, "auto.d", &keys(10_000));
        site.start();
        let path = |key: usize| site.at(&format!("d/{}/k{key}", key % 100));
        for key in 0..50 {
            names(&path(key * 7)).unwrap();
        }
        let held = File::open(path(49)).unwrap();
        let before = mount_ids(&site);
        let act = |number: usize, round: usize| {
            names(&path((round * 13 + number * 1_000) % 5_000)).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        };
        let begun = Instant::now();
        let mut told = String::new();
        under_load(2, act, || {
            site.write(&direct, &keys(10_001));
            told = site.piton_ok(&["reload"]);
            site.wait("the new key works", |_| names(&path(10_000)).is_ok());
        });
        // Alone it takes a tenth of a second; others test at the same time.
        assert!(begun.elapsed() < Duration::from_secs(60));
        let summary = "1 added, 0 removed, 0 changed, 10000 unchanged\n";
        assert!(told.ends_with(summary), "{told}");
        let after = mount_ids(&site);
        let disturbed: Vec<_> = before.difference(&after).collect();
        assert!(disturbed.is_empty(), "{disturbed:?}");
        drop(held);
        site.end();
    });
}

/// Every mount below the site: its number, which no other mount ever has, and its path.
fn mount_ids(site: &Site) -> std::collections::BTreeSet<(String, String)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = site.root();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let id = fields.next()?.to_owned();
            let path = fields.nth(3)?.to_owned();
            path.starts_with(&root).then_some((id, path))
        })
        .collect()
}
