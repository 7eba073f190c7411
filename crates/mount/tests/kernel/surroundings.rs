//! Other automounts, holders, and the mount table.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use autofs::PointKind;
use bstr::BStr;
use piton_mount::{Settings, perform};
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
        assert!(begun.elapsed() < Duration::from_secs(4));

        // Its own trigger would never answer: that is seen beforehand.
        s.directory("other/own");
        let steps = required([bind(&s.at("other/own/x"), &s.at("other/own"), &[])]);
        let failure = perform(&steps, &NoTriggers, &settings).failed.unwrap();
        assert_eq!(failure.errno, 35, "EDEADLK: {}", failure.text);
    });
}

// --- who keeps it busy ---------------------------------------------------
#[test]
fn holders_are_found_by_cwd_descriptor_map_and_mount() {
    privately(|| {
        use piton_mount::holders::{How, holders};
        let s = Scratch::new();
        let target = s.directory("at");
        mounted(&tmpfs(&target, &[]));
        assert!(holders(BStr::new(&target)).unwrap().found.is_empty());
        fs::copy("/bin/sleep", s.at("at/sleep")).unwrap();
        s.directory("at/inner");
        mounted(&tmpfs(&s.at("at/inner"), &[]));
        let mut inside = Command::new("/bin/sleep")
            .arg("600")
            .current_dir(&target)
            .spawn()
            .unwrap();
        let mut program = Command::new(s.at("at/sleep")).arg("600").spawn().unwrap();
        let file = fs::File::create(s.at("at/open")).unwrap();
        let mut mapping = python_mapping(&s.at("at/mapped"));
        let mut elsewhere = Command::new("/bin/sleep")
            .arg("600")
            .current_dir(s.at("at/inner"))
            .spawn()
            .unwrap();

        let has = |pid: u32, how: How, tail: &str| {
            let path = if tail.is_empty() {
                target.clone()
            } else {
                format!("{target}/{tail}")
            };
            holders(BStr::new(&target))
                .unwrap()
                .found
                .iter()
                .any(|holder| {
                    holder.how == how
                        && holder.path == path
                        && holder
                            .process
                            .as_ref()
                            .is_none_or(|p| p.pid as u32 == pid && !p.elsewhere)
                })
        };
        let limit = Duration::from_secs(20);
        wait_until("cwd", limit, || has(inside.id(), How::Cwd, ""));
        wait_until("program", limit, || {
            has(program.id(), How::Program, "sleep")
        });
        wait_until("descriptor", limit, || {
            has(std::process::id(), How::Descriptor, "open")
        });
        wait_until("map", limit, || has(mapping.id(), How::Map, "mapped"));
        assert!(has(0, How::Mount, "inner"));
        let all = holders(BStr::new(&target)).unwrap();
        let nested = all.found.iter().find(|h| {
            h.process
                .as_ref()
                .is_some_and(|p| p.pid as u32 == elsewhere.id())
        });
        assert_eq!(nested, None, "what is in the nested mount holds that one");
        let ours = all.found.iter().find_map(|h| h.process.as_ref()).unwrap();
        assert_eq!(ours.uid, 0);
        drop(file);
        for child in [&mut inside, &mut program, &mut mapping, &mut elsewhere] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        unmounted(&s.at("at/inner"), false);
        assert!(holders(BStr::new(&target)).unwrap().found.is_empty());
    });
}

#[test]
fn a_holder_in_another_namespace_is_told_apart() {
    privately(|| {
        use piton_mount::holders::{How, holders};
        let s = Scratch::new();
        let target = s.directory("at");
        mounted(&tmpfs(&target, &[]));
        let mut child = Command::new("unshare")
            .args(["-m", "--", "sh", "-c"])
            .arg(format!("cd {target} && exec sleep 600"))
            .spawn()
            .unwrap();
        wait_until("a holder elsewhere", Duration::from_secs(20), || {
            holders(BStr::new(&target))
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
