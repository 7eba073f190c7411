//! Automounting for ordinary users: daemons without any capability, FUSE helpers, logout.

mod people;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use piton_testkit::{Access, Scratch, in_private_network, privately, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use people::{LIMIT, Machine, Ssh, User, image};

const MASTER: (&str, &str) = (
    ".config/piton/auto.master",
    "host auto.host --timeout=300\n",
);

/// The types that are mounted for a user.
fn types(user: &User) -> Vec<String> {
    let mut types: Vec<String> = user.mounts().into_iter().map(|line| line.fstype).collect();
    types.sort();
    types
}

#[test]
fn a_home_comes_by_sshfs_on_access_and_goes_when_it_is_idle() {
    in_private_network(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                (".config/piton/auto.master", "host auto.host --timeout=2\n"),
                (
                    ".config/piton/auto.host",
                    "* -fstype=fuse.sshfs &:@/served\n",
                ),
                ("served/text", "from there"),
            ],
        );
        let _server = Ssh::start(&user);
        user.start();
        let status = fs::read_to_string(format!("/proc/{}/status", user.daemon())).unwrap();
        for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"] {
            assert!(status.contains(line), "{status}");
        }
        assert_eq!(types(&user), ["fuse.piton"]);
        assert_eq!(user.text("net/host/there/text"), "from there");
        // Whoever is inside keeps it, however slow this machine is.
        let mut inside = user.stay("net/host/there");
        assert_eq!(types(&user), ["fuse.piton", "fuse.sshfs"]);
        let list = user.piton_ok(&["list"]);
        assert!(list.contains("/net/host/there"), "{list}");
        inside.kill().unwrap();
        inside.wait().unwrap();
        wait_until("it expires", LIMIT, || user.count("fuse.sshfs") == 0);
        wait_until("its helper ends", LIMIT, || {
            user.running("sshfs").is_empty()
        });
        assert_eq!(user.text("net/host/there/text"), "from there");
        // It is his alone, and root's daemon is not asked.
        let other = Access::read(user.at("net/host/there/text")).wait(LIMIT);
        assert_eq!(other.errno, Some(13));
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}

#[test]
fn the_first_lines_of_the_guide_are_all_it_takes() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fuse.md");
    let guide = fs::read_to_string(guide).unwrap();
    let lines = guide.lines().skip_while(|line| *line != "```").skip(1);
    let lines: Vec<String> = lines
        .take_while(|line| *line != "```")
        .map(str::to_owned)
        .collect();
    let [install, files @ .., start] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(install.starts_with("sudo apt install "), "{install}");
    assert_eq!(start, "piton daemon --fuse ~/net");
    let files = files.join("\n");
    in_private_network(move || {
        let machine = Machine::new(1);
        let user = machine.user(0, &[("text", "at home")]);
        let _server = Ssh::start(&user);
        let done = user.command("sh").args(["-ec", &files]).status();
        assert!(done.unwrap().success());
        // It goes to the background once it is ready.
        let mut start = user.command(&machine.scratch.at("piton"));
        start.args(["daemon", "--fuse", &user.at("net")]);
        assert!(start.status().unwrap().success());
        assert_eq!(user.text("net/host/there/text"), "at home");
        assert_eq!(types(&user), ["fuse.piton", "fuse.sshfs"]);
        user.piton_ok(&["stop"]);
        assert_eq!(types(&user), [""; 0]);
    });
}

#[test]
fn an_image_comes_on_access_and_binds_are_links() {
    privately(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                MASTER,
                (
                    ".config/piton/auto.host",
                    "image -fstype=squashfs,loop :@/image\n\
                     helper -fstype=fuse.squashfuse :@/image\n\
                     bind -fstype=bind :@/served\n\
                     here :@/served\n\
                     root -fstype=tmpfs :none\n\
                     deep -fstype=tmpfs :none /sub :@/served\n",
                ),
                ("served/text", "near"),
            ],
        );
        image(&user, "image", "in the image");
        user.start();
        for key in ["image", "helper"] {
            assert_eq!(user.text(&format!("net/host/{key}/text")), "in the image");
        }
        assert_eq!(user.count("fuse.squashfuse"), 2);
        for key in ["bind", "here"] {
            assert_eq!(user.text(&format!("net/host/{key}/text")), "near");
        }
        for key in ["root", "deep"] {
            assert_eq!(user.errno(&format!("net/host/{key}/text")), 1);
        }
        assert_eq!(user.errno("net/host/absent/text"), 2);
        let said = user.piton_ok(&["status"]);
        assert!(
            said.contains("mounting tmpfs needs root; without root"),
            "{said}"
        );
        // The other commands, as everywhere.
        let path = user.at("net/host/image");
        let words = ["explain", "--fuse", &user.at("net"), &path];
        let said = user.piton_ok(&words);
        assert!(
            said.contains("squashfs") && said.contains(&user.at("image")),
            "{said}"
        );
        // What cannot be mounted is known before it is touched, in the same words.
        let why = "error[needs-root]: mounting tmpfs needs root; without root there are FUSE \
                   helpers, such as -fstype=fuse.sshfs: whoever touches it gets EPERM";
        for (key, told) in [("bind", 0), ("here", 0), ("root", 1), ("deep", 1)] {
            let said = user.piton_ok(&["explain", &user.at(&format!("net/host/{key}"))]);
            assert_eq!(said.matches(why).count(), told, "{key}: {said}");
        }
        let output = user.piton(&["check", "--fuse", &user.at("net")]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.matches(why).count(), 2, "{said}");
        user.piton_ok(&["expire", &path]);
        assert_eq!(user.count("fuse.squashfuse"), 1);
        user.write(
            ".config/piton/auto.master",
            "host auto.host\nmore auto.host\n",
        );
        user.piton_ok(&["reload"]);
        wait_until("the new mount point is there", LIMIT, || {
            user.count("fuse.piton") == 2
        });
        assert_eq!(user.text("net/more/image/text"), "in the image");
        user.piton_ok(&["stop"]);
        user.wait_for_end();
        assert_eq!(types(&user), [""; 0]);
        // Not even the directories that were made.
        assert!(!Path::new(&user.at("net")).exists());
        assert!(!Path::new(&user.session).join("piton/mnt").exists());
    });
}

#[test]
fn images_archives_and_remotes_come_by_their_own_helpers() {
    privately(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                MASTER,
                (
                    ".config/piton/auto.host",
                    "disk -fstype=ext4,ro,loop :@/disk\n\
                     fuse2fs -fstype=fuse.fuse2fs,ro :@/disk\n\
                     archive -fstype=fuse.archivemount,readonly :@/archive.tgz\n\
                     remote -fstype=fuse.rclone :here:\n",
                ),
                (
                    ".config/rclone/rclone.conf",
                    "[here]\ntype = alias\nremote = @/served\n",
                ),
                ("served/text", "the same"),
            ],
        );
        let made = |program: &str, words: &[&str]| {
            let output = user.command(program).args(words).output().unwrap();
            assert!(output.status.success(), "{program}: {output:?}");
        };
        let (served, disk) = (user.at("served"), user.at("disk"));
        made("/usr/sbin/mkfs.ext4", &["-q", "-d", &served, &disk, "2M"]);
        let archive = user.at("archive.tgz");
        made("tar", &["-czf", &archive, "-C", &served, "text"]);
        user.start();
        let helpers = [
            ("disk", "fuse2fs"),
            ("fuse2fs", "fuse2fs"),
            ("archive", "archivemount"),
            ("remote", "rclone"),
        ];
        for (key, helper) in helpers {
            let file = format!("net/host/{key}/text");
            assert_eq!(user.text(&file), "the same", "{key}");
            // It is the helper that serves it, and it is mounted again when it dies.
            let served = user.running(helper);
            let last = *served.last().unwrap();
            kill_process(last, Signal::KILL).unwrap();
            let again = || user.read(&user.at(&file)).wait(LIMIT).text == "the same";
            wait_until("it is mounted again", LIMIT, || {
                !user.running(helper).contains(&last) && again()
            });
            user.piton_ok(&["expire", &user.at(&format!("net/host/{key}"))]);
            wait_until("its helper ends", LIMIT, || user.running(helper).is_empty());
            assert_eq!(types(&user), ["fuse.piton"], "{key}");
        }
        for (key, _) in helpers {
            assert_eq!(user.text(&format!("net/host/{key}/text")), "the same");
        }
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
        wait_until("all have ended", LIMIT, || user.processes().is_empty());
    });
}

#[test]
fn helpers_have_what_speaks_for_the_user_and_no_more() {
    privately(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                MASTER,
                (".config/piton/auto.host", "* -fstype=fuse.tell,a=b :there\n"),
                (
                    "bin/tell",
                    "#!/bin/sh\nenv > @/told\necho \"$*\" >> @/told\necho 'tell: connection refused' >&2\nexit 1\n",
                ),
            ],
        );
        user.start();
        assert_eq!(
            user.errno("net/host/key/text"),
            111,
            "in the helper's words"
        );
        let told = fs::read_to_string(user.at("told")).unwrap();
        let agent = format!("SSH_AUTH_SOCK={}", user.at("agent"));
        let home = format!("HOME={}", user.home);
        for line in [agent.as_str(), home.as_str(), "KRB5CCNAME=FILE:tickets"] {
            assert!(told.lines().any(|told| told == line), "{line}: {told}");
        }
        assert!(!told.contains("secret"), "{told}");
        let place = format!("{}/piton/mnt{}/net/host/key", user.session, user.home);
        assert_eq!(
            told.lines().last(),
            Some(format!("there {place} -o a=b").as_str())
        );
        user.log_out();
    });
}

#[test]
fn a_dead_sshfs_is_noticed_and_healed_at_the_next_access() {
    in_private_network(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                MASTER,
                (
                    ".config/piton/auto.host",
                    "* -fstype=fuse.sshfs &:@/served\n",
                ),
                ("served/text", "from there"),
            ],
        );
        let _server = Ssh::start(&user);
        user.start();
        assert_eq!(user.text("net/host/there/text"), "from there");
        // Somebody is in it, so that it cannot simply be unmounted.
        let mut inside = user.stay("net/host/there");
        for _ in 0..3 {
            let helpers = user.running("sshfs");
            assert_eq!(helpers.len(), 1);
            kill_process(helpers[0], Signal::KILL).unwrap();
            wait_until("it is dead", LIMIT, || user.running("sshfs").is_empty());
            assert_eq!(user.text("net/host/there/text"), "from there");
            assert_eq!(user.count("fuse.sshfs"), 1);
        }
        inside.kill().unwrap();
        inside.wait().unwrap();
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}

/// A user whose home comes by sshfs, and has come; with the processes that serve it.
fn with_home(machine: &Machine, options: &[&str]) -> (User, Ssh, Vec<Pid>, Vec<Pid>) {
    let files = [
        MASTER,
        (
            ".config/piton/auto.host",
            "* -fstype=fuse.sshfs &:@/served\n",
        ),
        ("served/text", "from there"),
    ];
    let mut user = machine.user(0, &files);
    let server = Ssh::start(&user);
    let listens = user.running("sshd");
    user.start_with(options);
    assert_eq!(user.text("net/host/there/text"), "from there");
    let (helper, mut sessions) = (user.running("sshfs"), user.running("sshd"));
    sessions.retain(|process| !listens.contains(process));
    assert_eq!(helper.len(), 1);
    assert!(!sessions.is_empty());
    (user, server, helper, sessions)
}

#[test]
fn who_comes_to_a_helper_that_hangs_is_told_and_who_is_stuck_in_it_goes_on_when_it_does() {
    in_private_network(|| {
        let machine = Machine::new(1);
        let (mut user, _server, helper, sessions) = with_home(&machine, &["--give-up", "0"]);
        let text = user.at("net/host/there/text");
        for hangs in [&helper, &sessions] {
            user.signal(hangs, Signal::STOP);
            // Those who come at once may get in, or even through. Nobody who comes later does.
            let mut inside = Vec::new();
            wait_until("somebody is told", LIMIT, || {
                inside.push(user.read(&text));
                std::thread::sleep(Duration::from_millis(500));
                let ended = inside.iter_mut().position(|access| !access.is_waiting());
                let ended = ended.map(|access| inside.swap_remove(access).wait(LIMIT));
                ended.is_some_and(|access| access.errno == Some(110))
            });
            let told = user.piton_ok(&["list"]);
            assert!(told.contains("/net/host/there"), "{told}");
            let told = user.piton_ok(&["status"]);
            let said = "its helper hangs: whoever comes gets ETIMEDOUT; it is left alone";
            assert!(told.contains(said), "{told}");
            user.signal(hangs, Signal::CONT);
            for access in inside {
                let answer = access.wait(LIMIT);
                assert!(matches!(answer.errno, None | Some(110)), "{answer:?}");
            }
            let text = || user.read(&text).wait(LIMIT).text;
            wait_until("it goes on", LIMIT, || text() == "from there");
            assert!(!user.piton_ok(&["status"]).contains("hangs"));
            assert_eq!(user.running("sshfs"), helper);
        }
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}

#[test]
fn a_helper_that_hangs_for_long_is_killed_and_the_next_access_mounts_again() {
    in_private_network(|| {
        let machine = Machine::new(1);
        let (mut user, _server, helper, sessions) = with_home(&machine, &["--give-up", "6"]);
        let text = user.at("net/host/there/text");
        // Its server is silent: whoever is in it cannot be killed, nor can the worker that asks.
        user.signal(&sessions, Signal::STOP);
        let stuck: Vec<_> = (0..3).map(|_| user.read(&text)).collect();
        for access in stuck {
            // Whatever he is told: he is told.
            access.wait(LIMIT);
        }
        wait_until("it is mounted again, by another helper", LIMIT, || {
            let answer = user.read(&text).wait(LIMIT);
            answer.text == "from there" && !user.running("sshfs").contains(&helper[0])
        });
        assert_eq!(user.count("fuse.sshfs"), 1);
        // The same at the end of a session.
        let again: Vec<_> = user.running("sshfs");
        user.signal(&again, Signal::STOP);
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}

#[test]
fn ten_users_at_once() {
    privately(|| {
        let machine = Machine::new(10);
        let mut users: Vec<User> = (0..10)
            .map(|number| {
                let served = format!("of user {number}");
                let user = machine.user(
                    number,
                    &[
                        MASTER,
                        (
                            ".config/piton/auto.host",
                            "image -fstype=fuse.squashfuse :@/image\nbind -fstype=bind :@/served\n",
                        ),
                        ("served/text", &served),
                    ],
                );
                image(&user, "image", &served);
                user
            })
            .collect();
        std::thread::scope(|scope| {
            for user in &mut users {
                scope.spawn(|| user.start());
            }
        });
        let accesses: Vec<_> = users
            .iter()
            .flat_map(|user| ["image", "bind"].map(|key| (user, key)))
            .map(|(user, key)| user.read(&user.at(&format!("net/host/{key}/text"))))
            .collect();
        for (number, access) in accesses.into_iter().enumerate() {
            assert_eq!(access.wait(LIMIT).text, format!("of user {}", number / 2));
        }
        // Nobody sees what is another's.
        let path = users[1].at("net/host/image/text");
        assert_eq!(users[0].read(&path).wait(LIMIT).errno, Some(13));
        let others = users[1].piton_ok(&["list"]);
        assert!(!others.contains(&users[0].home), "{others}");
        for user in &mut users {
            user.log_out();
            assert_eq!(types(user), [""; 0]);
        }
    });
}

#[test]
fn nothing_is_left_after_logout() {
    privately(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                MASTER,
                (
                    ".config/piton/auto.host",
                    "image -fstype=fuse.squashfuse :@/image\n",
                ),
            ],
        );
        image(&user, "image", "in the image");
        for end in ["stop", "TERM", "busy", "kill"] {
            user.start();
            assert_eq!(user.text("net/host/image/text"), "in the image", "{end}");
            let mut busy = None;
            match end {
                "stop" => {
                    user.piton_ok(&["stop"]);
                    user.wait_for_end();
                }
                "TERM" => user.log_out(),
                "busy" => {
                    busy = Some(user.stay("net/host/image"));
                    user.log_out();
                }
                // All at once: nobody can tidy up before the next login.
                _ => {
                    user.kill_all();
                    assert_eq!(types(&user), ["fuse.piton", "fuse.squashfuse"]);
                    user.start();
                    assert_eq!(user.text("net/host/image/text"), "in the image");
                    user.log_out();
                }
            }
            assert_eq!(types(&user), [""; 0], "{end}");
            if let Some(mut busy) = busy {
                busy.kill().unwrap();
                busy.wait().unwrap();
            }
            wait_until("all have ended", LIMIT, || user.processes().is_empty());
        }
    });
}

#[test]
fn a_daemon_that_is_killed_is_followed_by_another_which_keeps_what_is_mounted() {
    privately(|| {
        let machine = Machine::new(1);
        let mut user = machine.user(
            0,
            &[
                MASTER,
                (
                    ".config/piton/auto.host",
                    "image -fstype=fuse.squashfuse :@/image\nother -fstype=fuse.squashfuse :@/image\n",
                ),
            ],
        );
        image(&user, "image", "in the image");
        user.start();
        assert_eq!(user.text("net/host/image/text"), "in the image");
        let (daemon, helper) = (user.daemon(), user.running("squashfuse"));
        kill_process(daemon, Signal::KILL).unwrap();
        let read = || user.read(&user.at("net/host/other/text")).wait(LIMIT);
        wait_until("there is another", LIMIT, || read().errno.is_none());
        assert_ne!(user.daemon(), daemon);
        assert_eq!(user.text("net/host/image/text"), "in the image");
        let helpers = user.running("squashfuse");
        assert!(
            helpers.len() == 2 && helpers.contains(&helper[0]),
            "{helpers:?}"
        );
        assert_eq!(user.count("fuse.piton"), 1);
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}

#[test]
fn a_daemon_that_is_stopped_is_replaced_and_nobody_waits_for_it() {
    privately(|| {
        let machine = Machine::new(1);
        let files = [
            MASTER,
            (
                ".config/piton/auto.host",
                "* -fstype=fuse.squashfuse :@/image\n",
            ),
        ];
        let mut user = machine.user(0, &files);
        image(&user, "image", "in the image");
        user.start();
        assert_eq!(user.text("net/host/image/text"), "in the image");
        let daemon = user.daemon();
        user.signal(&[daemon], Signal::STOP);
        let waits = user.read(&user.at("net/host/other/text"));
        let process = format!("/proc/{}", daemon.as_raw_nonzero());
        wait_until("it goes", LIMIT, || !Path::new(&process).exists());
        // He is told; those who come later find what they look for.
        let answer = waits.wait(LIMIT);
        assert!(matches!(answer.errno, None | Some(103 | 107)), "{answer:?}");
        let read = || user.read(&user.at("net/host/other/text")).wait(LIMIT);
        wait_until("there is another", LIMIT, || read().text == "in the image");
        assert_eq!(user.text("net/host/image/text"), "in the image");
        assert_eq!(user.count("fuse.squashfuse"), 2);
        assert_eq!(user.count("fuse.piton"), 1);
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}

/// What systemd has to say about a unit of ours; it wants the program to be there.
fn verified(unit: &str, scope: &str, program: &str) -> String {
    let scratch = Scratch::new();
    let text = format!(
        "{}/../../packaging/systemd/{unit}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = fs::read_to_string(text).unwrap();
    assert!(text.contains("=/usr/sbin/piton daemon"), "{text}");
    let copy = scratch.file("piton.service", text.replace("/usr/sbin/piton", program));
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", scope, &copy]);
    verify.env("XDG_RUNTIME_DIR", scratch.path());
    let output = verify.output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_units_are_what_systemd_understands() {
    privately(|| {
        for (unit, scope) in [
            ("user/piton.service", "--user"),
            ("piton.service", "--system"),
        ] {
            let program = env!("CARGO_BIN_EXE_piton");
            assert_eq!(verified(unit, scope, program), "", "{unit}");
            let said = verified(unit, scope, "/not/there");
            assert!(said.contains("/not/there is not executable"), "{said}");
        }
    });
}

#[test]
fn a_daemon_none_of_whose_mount_points_can_be_ends_and_says_why() {
    privately(|| {
        let machine = Machine::new(1);
        let files = [
            (".config/piton/auto.master", "/- auto.one\n"),
            (".config/piton/auto.one", "@/one -fstype=bind :@/served\n"),
        ];
        let user = machine.user(0, &files);
        let output = user.piton(&["daemon", "--fuse", &user.at("net")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("the only mount point is not in place"),
            "{said}"
        );
        assert!(
            said.contains(&format!("\n  {}: ", user.at("one"))),
            "{said}"
        );
        wait_until("all have ended", LIMIT, || user.processes().is_empty());
        assert_eq!(types(&user), [""; 0]);
    });
}

#[test]
fn a_direct_map_is_refused_and_checking_says_what_to_do() {
    privately(|| {
        let machine = Machine::new(1);
        let files = [
            (".config/piton/auto.master", "/- auto.one\nhost auto.host\n"),
            (".config/piton/auto.one", "@/one -fstype=bind :@/served\n"),
            (".config/piton/auto.host", "one -fstype=bind :@/served\n"),
            ("served/text", "near"),
        ];
        let mut user = machine.user(0, &files);
        let output = user.piton(&["check", "--fuse", &user.at("net")]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("error[direct-by-fuse]"), "{output:?}");
        assert!(said.ends_with("1 error\n"), "{said}");
        user.start();
        assert_eq!(types(&user), ["fuse.piton"]);
        let log = user.log();
        assert!(
            log.contains("use an indirect map, and make a link"),
            "{log}"
        );
        assert!(!Path::new(&user.at("one")).exists());
        std::os::unix::fs::symlink(user.at("net/host/one"), user.at("one")).unwrap();
        assert_eq!(user.text("one/text"), "near");
        user.log_out();
    });
}

#[test]
fn the_unit_of_a_user_runs_from_login_to_logout() {
    privately(|| {
        let machine = Machine::new(1);
        let files = [
            MASTER,
            (
                ".config/piton/auto.host",
                "image -fstype=squashfs :@/image\n",
            ),
        ];
        let mut user = machine.user(0, &files);
        image(&user, "image", "in the image");
        let unit = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../packaging/systemd/user/piton.service"
        );
        let unit = fs::read_to_string(unit).unwrap();
        let line = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(line("Type="), Some("notify"));
        assert_eq!(line("ExecReload="), Some("/bin/kill -HUP $MAINPID"));
        let start = line("ExecStart=").unwrap().replace("%h", &user.home);
        let words: Vec<&str> = start.split(' ').collect();
        assert_eq!(words[0], "/usr/sbin/piton");
        // systemd's end of what the service says.
        let ear = user.at("notify");
        let systemd = UnixDatagram::bind(&ear).unwrap();
        systemd.set_read_timeout(Some(LIMIT)).unwrap();
        fs::set_permissions(&ear, Permissions::from_mode(0o666)).unwrap();
        let hear = |wanted: &str| loop {
            let mut said = [0; 4096];
            let length = systemd.recv(&mut said).unwrap();
            let said = String::from_utf8_lossy(&said[..length]);
            if said.lines().any(|line| line == wanted) {
                break;
            }
        };
        let mut command = user.command(&machine.scratch.at("piton"));
        command.args(&words[1..]).env("NOTIFY_SOCKET", &ear);
        user.run(command);
        hear("READY=1");
        assert_eq!(user.text("net/host/image/text"), "in the image");
        user.write(
            ".config/piton/auto.master",
            "host auto.host\nmore auto.host\n",
        );
        user.signal(&[user.keeper()], Signal::HUP);
        wait_until("the new mount point is there", LIMIT, || {
            user.count("fuse.piton") == 2
        });
        user.log_out();
        hear("STOPPING=1");
        assert_eq!(types(&user), [""; 0]);
        assert!(!Path::new(&user.session).join("piton/mnt").exists());
        wait_until("all have ended", LIMIT, || user.processes().is_empty());
    });
}

#[test]
fn in_a_user_namespace_binds_and_tmpfs_are_mounts() {
    privately(|| {
        let machine = Machine::new(1);
        let user = machine.user(
            0,
            &[
                (".config/piton/auto.master", ". auto.net\n"),
                (
                    ".config/piton/auto.net",
                    "bind -fstype=bind :@/served\ndeep -fstype=tmpfs :none /sub -fstype=bind :@/served\n",
                ),
                ("served/text", "near"),
            ],
        );
        let script = r#"
            "$0" daemon --fuse "$HOME/net" || exit
            cat "$HOME/net/bind/text" "$HOME/net/deep/sub/text"
            grep -c "/piton/mnt.* - tmpfs " /proc/self/mountinfo
            "$0" stop
            grep -c "$HOME/net" /proc/self/mountinfo
        "#;
        let mut inside = user.command("unshare");
        inside.args(["-Urm", "sh", "-c", script, &machine.scratch.at("piton")]);
        let output = inside.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "nearnear3\n0\n", "{output:?}");
    });
}

#[test]
fn r_249_a_tilde_is_the_users_own_home() {
    in_private_network(|| {
        let machine = Machine::new(2);
        let files = [
            (
                ".config/piton/auto.master",
                "homes -passwd -fstype=fuse.sshfs\n",
            ),
            ("there/user0/text", "mine"),
        ];
        let mut user = machine.user(0, &files);
        // The home is of the form /dir/server/user.
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let home = format!("::{}:", user.home);
        let passwd = passwd.replace(&home, &format!("::{}/there/user0:", user.home));
        fs::write("/etc/passwd", passwd).unwrap();
        let _server = Ssh::start(&user);
        // ssh looks for its settings where the user database says.
        std::os::unix::fs::symlink(user.at(".ssh"), user.at("there/user0/.ssh")).unwrap();
        user.start();
        assert_eq!(user.text("net/homes/user0/text"), "mine");
        assert_eq!(user.text("net/homes/~/text"), "mine");
        for other in ["user1", "nobody-of-that-name"] {
            assert_eq!(user.errno(&format!("net/homes/{other}/text")), 2);
        }
        user.log_out();
        assert_eq!(types(&user), [""; 0]);
    });
}
