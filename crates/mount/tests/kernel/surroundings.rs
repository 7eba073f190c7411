//! Other automounts, holders, and the mount table.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use autofs::PointKind;
use bstr::BStr;
use piton_mount::holders::{Holder, How, holders};
use piton_mount::limits;
use piton_mount::{Performance, Settings, perform};
use piton_testkit::{Scratch, privately, wait_until};

use crate::common::*;

// --- sources on other automounts -----------------------------------------
#[test]
fn a_source_on_another_automount_is_walked_to_from_outside_the_group() {
    privately(|| {
        let s = Scratch::new();
        let other = s.directory("other");
        let autofs = autofs_mount(&other, PointKind::Indirect);
        let key = s.at("other/key");
        let server = autofs.serve_once(move || {
            fs::create_dir(&key).unwrap();
            rustix::mount::mount("k", &key, "tmpfs", rustix::mount::MountFlags::empty(), None)
                .unwrap();
            fs::create_dir(format!("{key}/sub")).unwrap();
            fs::write(format!("{key}/sub/name"), "text").unwrap();
        });
        let target = s.directory("at");
        mounted(&bind(&s.at("other/key/sub"), &target, &[]));
        server.join().unwrap();
        assert_eq!(fs::read_to_string(s.at("at/name")).unwrap(), "text");
    });
}

#[test]
fn an_automount_that_does_not_answer_costs_the_deadline_and_no_more() {
    privately(|| {
        let s = Scratch::new();
        let other = s.directory("other");
        let _autofs = autofs_mount(&other, PointKind::Indirect);
        let target = s.directory("at");
        let settings = Settings {
            deadline: Duration::from_millis(400),
            ..Settings::default()
        };
        let begun = Instant::now();
        let steps = required([bind(&s.at("other/key"), &target, &[])]);
        let failure = perform(&steps, &NoTriggers, &settings).failed.unwrap();
        assert_eq!(failure.errno, 110, "{}", failure.text);
        assert!(begun.elapsed() < Duration::from_secs(30));

        // Its own trigger would never answer: that is seen beforehand, however it is written.
        s.directory("other/own");
        std::os::unix::fs::symlink(s.at("other"), s.at("link")).unwrap();
        for source in [
            s.at("other/own/x"),
            format!("/{}", s.at("other/own/x")),
            s.at("other/own/../own/x"),
            s.at("link/own"),
            s.at("other//own/./x/y"),
        ] {
            let steps = required([bind(&source, &s.at("other/own"), &[])]);
            let failure = perform(&steps, &NoTriggers, &settings).failed.unwrap();
            assert_eq!(failure.errno, 35, "EDEADLK for {source}: {}", failure.text);
        }
    });
}

#[test]
fn a_name_that_an_automount_was_never_asked_for_is_for_somebody_who_may_wait() {
    privately(|| {
        let s = Scratch::new();
        let _autofs = autofs_mount(&s.directory("other"), PointKind::Indirect);
        let target = s.directory("at");
        let (fresh, image) = (s.at("other/fresh/sub"), s.at("other/more/image"));
        for step in [
            bind(&fresh, &target, &[]),
            fs_step::<&str>("ext4", &image, &target, &[]),
        ] {
            let until = Instant::now() + Duration::from_secs(20);
            let mut performance = Performance::new(required([step.clone()]), until);
            let lane = performance.at_once(&NoTriggers, &Settings::default());
            let failed = &performance.outcome().failed;
            assert!(lane.is_some(), "{step:?}: {failed:?}");
        }
    });
}

#[test]
fn an_image_on_another_automount_is_walked_to_also_with_loop() {
    privately(|| {
        let s = Scratch::new();
        let image = make_image(&s, SQUASHFS);
        for (name, options) in [("plain", &[][..]), ("loop", &["loop"])] {
            let other = s.directory(name);
            let autofs = autofs_mount(&other, PointKind::Indirect);
            let (key, image) = (format!("{other}/key"), image.clone());
            let server = autofs.serve_once(move || {
                fs::create_dir(&key).unwrap();
                rustix::mount::mount("k", &key, "tmpfs", rustix::mount::MountFlags::empty(), None)
                    .unwrap();
                fs::copy(image, format!("{key}/image")).unwrap();
            });
            let target = s.directory(&format!("at-{name}"));
            let source = format!("{other}/key/image");
            mounted(&fs_step("squashfs", &source, &target, options));
            server.join().unwrap();
            assert_eq!(
                fs::read_to_string(format!("{target}/name")).unwrap(),
                "text"
            );
        }
    });
}

#[test]
fn a_share_that_is_called_like_an_automount_here_is_no_path() {
    privately(|| {
        let s = Scratch::new();
        let _autofs = autofs_mount(&s.directory("other"), PointKind::Indirect);
        let target = s.directory("at");
        let settings = scripted(&s, "mount -t tmpfs t \"$6\"", Duration::from_secs(20));
        // The share of a server by the name of the first directory.
        let share = format!("/{}", s.at("other/docs"));
        let step = fs_step("cifs", &share, &target, &["ro"]);
        let outcome = perform(&required([step]), &NoTriggers, &settings);
        assert_eq!(outcome.failed, None);
    });
}

// --- who keeps it busy ---------------------------------------------------
/// More than any search takes.
const TIME: Duration = Duration::from_secs(20);

/// The holders of a mount as text, one line each: `PID how path`.
fn held(target: &str) -> Vec<String> {
    let holders = holders(BStr::new(target), TIME).unwrap();
    assert!(!holders.more && !holders.cut);
    let line = |holder: &Holder| {
        let pid = holder.process.as_ref().map_or(0, |process| process.pid);
        format!("{pid} {:?} {}", holder.how, holder.path)
    };
    holders.found.iter().map(line).collect()
}

fn sleeper(program: &str, directory: &str) -> Child {
    Command::new(program)
        .arg("600")
        .current_dir(directory)
        .spawn()
        .unwrap()
}

#[test]
fn holders_are_found_by_cwd_program_descriptor_map_loop_and_mount() {
    privately(|| {
        let s = Scratch::new();
        let at = s.directory("at");
        mounted(&tmpfs(&at, &[]));
        assert_eq!(held(&at), [] as [String; 0]);
        fs::copy("/bin/sleep", s.at("at/sleep")).unwrap();
        fs::copy(make_image(&s, SQUASHFS), s.at("at/image")).unwrap();
        let inner = s.directory("at/inner");
        mounted(&fs_step::<&str>("squashfs", &s.at("at/image"), &inner, &[]));
        let file = fs::File::create(s.at("at/open")).unwrap();
        let mut children = [
            sleeper("/bin/sleep", &at),
            sleeper(&s.at("at/sleep"), "/"),
            python_mapping(&s.at("at/mapped")),
            sleeper("/bin/sleep", &inner),
        ];
        let pid = |n: usize| children[n].id();
        let mut expected = [
            format!("0 Mount {inner}"),
            format!("0 Loop {at}/image"),
            format!("{} Descriptor {at}/open", std::process::id()),
            format!("{} Cwd {at}", pid(0)),
            format!("{} Program {at}/sleep", pid(1)),
            format!("{} Map {at}/mapped", pid(2)),
            // Python's mmap keeps a descriptor.
            format!("{} Descriptor {at}/mapped", pid(2)),
            // The last one is in the nested mount, and holds that.
        ];
        expected.sort();
        wait_until(
            "the holders, and no others",
            Duration::from_secs(60),
            || {
                let mut held = held(&at);
                held.sort();
                held == expected
            },
        );
        let process = holders(BStr::new(&at), TIME)
            .unwrap()
            .found
            .pop()
            .unwrap()
            .process
            .unwrap();
        assert_eq!((process.uid, process.elsewhere), (0, false));
        drop(file);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        unmounted(&inner, false);
        wait_until("no holders", Duration::from_secs(60), || {
            held(&at).is_empty()
        });
    });
}

#[test]
fn holders_are_listed_up_to_a_limit() {
    privately(|| {
        let s = Scratch::new();
        let at = s.directory("at");
        mounted(&tmpfs(&at, &[]));
        let open = |n: usize| fs::File::create(s.at(&format!("at/{n}"))).unwrap();
        let mut files: Vec<_> = (0..limits::HOLDERS).map(open).collect();
        let all = holders(BStr::new(&at), TIME).unwrap();
        assert_eq!((all.found.len(), all.more), (limits::HOLDERS, false));
        files.push(open(limits::HOLDERS));
        let all = holders(BStr::new(&at), TIME).unwrap();
        assert_eq!((all.found.len(), all.more), (limits::HOLDERS, true));
    });
}

#[test]
fn a_holder_in_another_namespace_is_told_apart() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        mounted(&tmpfs(&target, &[]));
        let mut child = Command::new("unshare")
            .args(["-m", "--", "sh", "-c"])
            .arg(format!("cd {target} && exec sleep 600"))
            .spawn()
            .unwrap();
        wait_until("a holder elsewhere", Duration::from_secs(60), || {
            holders(BStr::new(&target), TIME)
                .unwrap()
                .found
                .iter()
                .any(|holder| {
                    holder.how == How::Cwd
                        && holder.process.as_ref().is_some_and(|process| {
                            process.elsewhere && process.pid as u32 == child.id()
                        })
                })
        });
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn the_root_directory_of_a_process_is_a_use() {
    privately(|| {
        let s = Scratch::new();
        let at = s.directory("at");
        mounted(&tmpfs(&at, &[]));
        fs::create_dir(s.at("at/below")).unwrap();
        let root = s.at("at/below");
        let script = "import os,sys,time; os.chroot(sys.argv[1]); time.sleep(600)";
        let mut child = Command::new("python3")
            .args(["-c", script, &root])
            .current_dir("/")
            .spawn()
            .unwrap();
        let expected = [format!("{} Root {root}", child.id())];
        wait_until("the root directory", TIME, || held(&at) == expected);
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn a_copy_in_another_namespace_is_found_though_nothing_there_uses_it() {
    privately(|| {
        let s = Scratch::new();
        let at = s.directory("at");
        mounted(&tmpfs(&at, &[]));
        let mut child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sleep", "600"])
            .current_dir("/")
            .spawn()
            .unwrap();
        let expected = [format!("{} Copy {at}", child.id())];
        wait_until("the copy", TIME, || held(&at) == expected);
        unmounted(&at, false);
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn a_search_without_time_says_that_it_was_cut() {
    privately(|| {
        let s = Scratch::new();
        let at = s.directory("at");
        mounted(&tmpfs(&at, &[]));
        let _open = fs::File::create(s.at("at/open")).unwrap();
        assert!(holders(BStr::new(&at), Duration::ZERO).unwrap().cut);
    });
}

// --- the table -----------------------------------------------------------
#[test]
fn the_table_shows_odd_names_and_stacks() {
    privately(|| {
        use piton_mount::table::{Table, read};
        let s = Scratch::new();
        let odd = s.directory("a b\t\n\\040c\u{e9}#");
        mounted(&tmpfs(&odd, &["size=4k"]));
        mounted(&tmpfs(&odd, &["size=8k"]));
        let text = read().unwrap();
        let table = Table::parse(&text);
        assert_eq!(table.unreadable, 0);
        let top = table.at(BStr::new(&odd)).unwrap();
        assert_eq!(&*top.super_options, "rw,size=8k");
        assert_eq!(
            table.by_id(top.parent).unwrap().super_options.to_string(),
            "rw,size=4k"
        );
        assert_eq!(table.within(BStr::new(&odd)).len(), 2);
    });
}
