//! Who touched a path, who keeps it busy, and who cannot see what is mounted: on the real kernel.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::process::{Command, Output, Stdio};

use piton_control::message::{Mount, MountPoint, Status};
use piton_testkit::{privately, wait_until};
use site::{LIMIT, Site};

/// An indirect map, a direct one, and an entry with an offset.
const MAPS: &[(&str, &str)] = &[
    (
        "auto.master",
        "@/home @/auto.home\n/- @/auto.direct\n@/soon @/auto.soon\n",
    ),
    (
        "auto.home",
        "ann -fstype=tmpfs :ann\nbob -fstype=tmpfs :bob\nbad -fstype=nosuchfs :x\n\
         tree -fstype=tmpfs / :root /off :off\n",
    ),
    ("auto.direct", "@/direct -fstype=tmpfs :direct\n"),
    ("auto.soon", "link -fstype=bind :@/link\n"),
];

fn status(site: &Site, path: &str) -> Status {
    let json = site.piton_ok(&["status", "--json", path]);
    serde_json::from_str(&json).expect("a status")
}

fn mount(site: &Site, path: &str) -> Mount {
    let full = format!("{}{path}", site.root());
    let mounts = status(site, &format!("@{path}")).mounts;
    let found = mounts.into_iter().find(|mount| mount.path == full);
    found.unwrap_or_else(|| panic!("{full} is not in the status"))
}

fn point(site: &Site, path: &str) -> MountPoint {
    let full = format!("{}{path}", site.root());
    let points = status(site, &format!("@{path}")).mount_points;
    let found = points.into_iter().find(|point| point.path == full);
    found.unwrap_or_else(|| panic!("{full} is not in the status"))
}

/// Runs a shell's words; `@` is the scratch directory.
fn sh(site: &Site, words: &str) -> Output {
    let words = words.replace('@', &site.root());
    let output = Command::new("sh").args(["-c", &words]).output();
    output.expect("a shell")
}

#[track_caller]
fn sh_ok(site: &Site, words: &str) {
    let output = sh(site, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}\n{}", site.log());
}

#[test]
fn processes_that_are_gone_are_still_known_by_name() {
    privately(|| {
        let site = Site::serving(MAPS);
        for path in ["home/ann", "home/bob", "direct", "home/tree/off"] {
            let _visitor = site.visitor(path);
            wait_until("it is looked at", LIMIT, || {
                mount(&site, &format!("/{path}")).first.comm.is_some()
            });
        }
        let group = std::fs::read_to_string("/proc/self/cgroup").expect("/proc");
        let group = group.lines().find_map(|line| line.strip_prefix("0::"));
        let group = group.filter(|group| *group != "/").map(str::to_owned);
        for path in ["/home/ann", "/home/bob", "/direct", "/home/tree/off"] {
            let mount = mount(&site, path);
            assert_eq!(mount.first.comm.as_deref(), Some("sh"), "{path}");
            if group.is_some() {
                assert_eq!(mount.first.cgroup, group, "{path}");
            }
            assert_eq!((mount.first.uid, mount.uses), (0, 1), "{path}");
        }
        let home = point(&site, "/home");
        assert_eq!(home.accesses, 4);
        let pid = |path: &str| mount(&site, path).first.pid;
        assert_eq!(home.first.map(|who| who.pid), Some(pid("/home/ann")));
        assert_eq!(home.last.map(|who| who.pid), Some(pid("/home/tree/off")));
        assert_eq!(
            (home.last_error, point(&site, "/direct").accesses),
            (None, 1)
        );
        let list = site.piton_ok(&["list"]);
        let fields = format!("\t1\t0\t{}\tsh\n", pid("/home/bob"));
        assert!(list.contains(&fields), "{list}");
        site.end();
    });
}

#[test]
fn the_last_failure_is_named_at_its_mount_point() {
    privately(|| {
        let site = Site::serving(MAPS);
        assert!(!sh(&site, "exec stat @/home/bad/.").status.success());
        assert!(!sh(&site, "exec stat @/home/nobody").status.success());
        let error = point(&site, "/home").last_error.expect("an error");
        assert_eq!(error.path, format!("{}/home/bad", site.root()));
        assert!(error.reason.contains("nosuchfs"), "{}", error.reason);
        let text = site.piton_ok(&["status", "@/home"]);
        assert!(text.contains("last failure: "), "{text}");
        site.end();
    });
}

#[test]
fn what_keeps_a_mount_busy_is_named() {
    privately(|| {
        let site = Site::serving(MAPS);
        sh_ok(&site, "stat @/home/ann/.");
        let mut sleeper = Command::new("sleep")
            .arg("600")
            .current_dir(site.at("home/ann"))
            .spawn()
            .expect("sleep");
        let mut copy = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sleep", "600"])
            .current_dir("/")
            .spawn()
            .expect("unshare");
        let path = format!("{}/home/ann", site.root());
        let mut expected = [
            (sleeper.id(), "working directory".to_owned(), false),
            (copy.id(), "copy of the mount".to_owned(), true),
        ];
        expected.sort();
        wait_until("both holders", LIMIT, || {
            let mount = mount(&site, "/home/ann");
            assert!(
                mount
                    .holders
                    .iter()
                    .all(|it| it.path.as_ref() == Some(&path))
            );
            let mut found: Vec<_> = mount
                .holders
                .into_iter()
                .map(|holder| (holder.pid, holder.how, holder.elsewhere))
                .collect();
            found.sort();
            !mount.holders_cut && found == expected
        });
        for child in [&mut sleeper, &mut copy] {
            child.kill().expect("killing");
            child.wait().expect("waiting");
        }
        site.end();
    });
}

#[test]
fn a_private_namespace_gets_a_clear_errno_and_is_named_once() {
    privately(|| {
        let site = Site::serving(MAPS);
        let private = |words: &str| {
            let output = sh(&site, &format!("unshare -m --propagation private {words}"));
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            errors.matches("Invalid cross-device link").count()
        };
        // The second namespace is made while the first is there: numbers are used again.
        let words = "sh -c 'stat @/home/ann/.; stat @/direct/.; stat @/home/ann/.; \
                     unshare -m stat @/home/bob/.; exit 1'";
        assert_eq!(private(words), 4, "{}", site.log());
        for path in ["@/home/ann", "@/direct", "@/home/bob"] {
            sh_ok(&site, &format!("stat {path}/."));
        }
        let mut foreign = status(&site, "@").foreign;
        foreign.sort_by_key(|it| it.accesses);
        let seen: Vec<_> = foreign
            .iter()
            .map(|it| (it.accesses, it.comm.as_deref(), it.path.as_str()))
            .collect();
        let path = |tail: &str| format!("{}{tail}", site.root());
        let (bob, ann) = (path("/home/bob"), path("/home/ann"));
        let expected = [(1, Some("stat"), &*bob), (3, Some("stat"), &*ann)];
        assert_eq!(seen, expected);
        let said = || site.log().matches("cannot see what is mounted").count();
        wait_until("the log has both", LIMIT, || said() >= 2);
        assert_eq!(said(), 2, "{}", site.log());
        let text = site.piton_ok(&["status"]);
        assert!(text.contains("Cut off from our mounts (2)"), "{text}");
        site.end();
    });
}

#[test]
fn a_slave_namespace_simply_works() {
    privately(|| {
        sh_plain("mount --make-rshared /");
        let mut site = Site::new(MAPS);
        site.start();
        for path in ["@/home/ann", "@/direct", "@/home/tree/off"] {
            sh_ok(
                &site,
                &format!("unshare -m --propagation slave stat {path}/."),
            );
            sh_ok(&site, &format!("stat {path}/."));
        }
        assert_eq!(status(&site, "@").foreign, []);
        site.end();
    });
}

#[test]
fn a_namespace_made_after_the_mount_sees_it() {
    privately(|| {
        let site = Site::serving(MAPS);
        sh_ok(&site, "stat @/home/ann/.");
        sh_ok(&site, "unshare -m --propagation private stat @/home/ann/.");
        assert_eq!(status(&site, "@").foreign, []);
        site.end();
    });
}

#[test]
fn a_daemon_that_nobody_sees_says_so() {
    privately(|| {
        // A first process of our own: that of this machine may be none of our business.
        let site = Site::new(&MAPS[..2]);
        let daemon = env!("CARGO_BIN_EXE_piton");
        let words = format!(
            "exec unshare --mount --propagation private setsid {daemon} daemon --foreground \
             --master @/auto.master >@/log 2>&1 & wait"
        );
        let mut outer = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
            ])
            .arg(words.replace('@', &site.root()))
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .spawn()
            .expect("unshare");
        wait_until("the warning", LIMIT, || {
            site.log().contains("mount namespace of its own")
        });
        outer.kill().expect("killing");
        outer.wait().expect("waiting");
    });
}

fn sh_plain(words: &str) {
    let status = Command::new("sh")
        .args(["-c", words])
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("a shell").success(), "{words}");
}

#[test]
fn servers_become_near_when_this_host_gets_an_address() {
    privately(|| {
        let site = Site::new(&[
            ("auto.master", "@/m @/auto.m\n"),
            (
                "auto.m",
                "before -fstype=fake 192.0.2.9:/b 10.77.3.9:/b\n\
                 after -fstype=fake 192.0.2.9:/a 10.77.3.9:/a\n",
            ),
            (
                "bin/mount",
                "#!/bin/sh\necho \"$*\" >>@/calls\neval last=\\${$#}\nexec mount -t tmpfs none $last\n",
            ),
            ("bin/umount", "#!/bin/sh\nexec umount $*\n"),
        ]);
        let daemon = env!("CARGO_BIN_EXE_piton");
        let words = format!(
            "exec setsid {daemon} daemon --foreground --master @/auto.master \
             --mount-program @/bin/mount --pid-file @/ready >@/log 2>&1"
        );
        let mut child = Command::new("unshare")
            .args(["--net", "--kill-child", "--fork", "sh", "-c"])
            .arg(words.replace('@', &site.root()))
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .spawn()
            .expect("unshare");
        let mut pid = String::new();
        site.wait("the daemon is ready", |site| {
            pid = std::fs::read_to_string(site.at("ready")).unwrap_or_default();
            pid.ends_with('\n')
        });
        site.names("m/before");
        sh_plain(&format!(
            "nsenter --net --target {} sh -c 'ip address add 10.77.3.1/24 dev lo; ip link set lo up'",
            pid.trim()
        ));
        let calls = || std::fs::read_to_string(site.at("calls")).unwrap_or_default();
        let last = || calls().lines().last().unwrap_or_default().to_owned();
        // The news takes a moment to arrive; asking again costs nothing.
        wait_until("the near server is taken", LIMIT, || {
            site.names("m/after");
            let near = last().contains(" 10.77.3.9:/a ");
            if !near {
                site.piton_ok(&["unmount", "@/m/after"]);
            }
            near
        });
        let first = calls().lines().next().unwrap_or_default().to_owned();
        assert!(first.contains(" 192.0.2.9:/b "), "{}", calls());
        site.piton_ok(&["stop"]);
        child.wait().expect("waiting");
    });
}
