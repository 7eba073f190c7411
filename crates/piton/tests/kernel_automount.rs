//! `automount`, the command of the documents, on the real kernel.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::process::{Command, Stdio};

use piton_testkit::privately;
use rustix::mount::{MountFlags, mount};
use site::Site;

/// Runs `automount` by that name, with an `/etc` of its own in which nothing is but `files`.
struct Automount(Site);

impl Automount {
    fn new(etc: &[(&str, &str)]) -> Self {
        let site = Site::new(&[]);
        mount("etc", "/etc", "tmpfs", MountFlags::empty(), None).expect("a tmpfs over /etc");
        for (name, text) in etc {
            fs::write(format!("/etc/{name}"), site.text(text)).expect("writing a file");
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_piton"), site.at("automount"))
            .expect("a link");
        Self(site)
    }

    /// Runs it; it must end with this exit status. What it, and what it started, has said so far.
    #[track_caller]
    fn ends_with(&self, words: &[&str], status: i32) -> String {
        let log = self.0.at("log");
        // What it starts goes on after it: a pipe would not end with it.
        let ended = Command::new(self.0.at("automount"))
            .args(words.iter().map(|word| self.0.text(word)))
            .current_dir(self.0.root())
            .env("PITON_RUNTIME_DIR", self.0.at("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .status()
            .expect("running automount");
        let said = fs::read_to_string(&log).expect("the log");
        assert_eq!(ended.code(), Some(status), "{words:?}: {said}");
        said
    }
}

impl Drop for Automount {
    fn drop(&mut self) {
        // Whether or not a daemon was started.
        let _ = self.0.piton(&["stop"]);
    }
}

#[test]
fn r_113_r_195_mounts_agree_with_the_master_map() {
    privately(|| {
        let automount = Automount::new(&[
            ("auto_master", "@/net @/auto.net\n/- @/auto_direct\n"),
            ("auto_other", "@/other @/auto.net\n"),
        ]);
        let site = &automount.0;
        site.write("auto.net", "a -fstype=tmpfs :t\n");
        site.write("auto_direct", "@/direct -fstype=tmpfs :t\n");
        let points = || {
            let mut all = site.mounts();
            all.retain(|line| line.ends_with(" autofs"));
            all.sort();
            all
        };
        let said = automount.ends_with(&["-v"], 0);
        assert!(
            said.contains(&site.text("automount: @/net mounted")),
            "{said}"
        );
        assert_eq!(points(), ["/direct autofs", "/net autofs"]);
        assert_eq!(site.names("net/a"), Vec::<String>::new());

        let said = automount.ends_with(&["-v"], 0);
        assert!(said.contains("no changes"), "{said}");
        // New, removed and changed lines, in one run.
        let master = site.text("@/home @/auto.net\n/- @/auto_direct\n");
        fs::write("/etc/auto_master", master).expect("writing the master map");
        site.write("auto_direct", "@/direct2 -fstype=tmpfs :t\n");
        automount.ends_with(&[], 0);
        assert!(
            points().contains(&"/home autofs".to_owned()),
            "{:?}",
            points()
        );
        assert!(
            points().contains(&"/direct2 autofs".to_owned()),
            "{:?}",
            points()
        );
        assert!(
            !points().contains(&"/direct autofs".to_owned()),
            "{:?}",
            points()
        );

        // A daemon keeps one master map; another is refused, not mixed with it.
        let said = automount.ends_with(&["-f", "/etc/auto_other"], 1);
        assert!(said.contains("end it first: piton stop"), "{said}");
        site.piton_ok(&["stop"]);
        assert_eq!(site.mounts(), Vec::<String>::new());
    });
}

#[test]
fn a_master_map_is_a_file_of_the_current_directory_if_there_is_one() {
    privately(|| {
        // What nsswitch.conf would find by that name is another one.
        let automount = Automount::new(&[("auto.own", "@/other @/auto.net\n")]);
        let site = &automount.0;
        site.write("auto.own", "@/own @/auto.net\n");
        site.write("auto.net", "a -fstype=tmpfs :t\n");
        let served = || {
            assert_eq!(site.mounts(), ["/own autofs"]);
            let status = site.piton_ok(&["status"]);
            assert!(
                status.contains(&site.text("master map @/auto.own")),
                "{status}"
            );
        };
        automount.ends_with(&["-f", "auto.own"], 0);
        served();
        // It is the same one.
        automount.ends_with(&["-f", "./auto.own"], 0);
        site.piton_ok(&["stop"]);
        for name in ["auto.own", "./auto.own"] {
            let status = Command::new(env!("CARGO_BIN_EXE_piton"))
                .args(["daemon", name])
                .current_dir(site.root())
                .env("PITON_RUNTIME_DIR", site.at("run"))
                .stdin(Stdio::null())
                .stderr(fs::File::create(site.at("log")).expect("a log"))
                .status()
                .expect("running piton");
            assert!(status.success(), "{}", site.log());
            served();
            site.piton_ok(&["stop"]);
        }
    });
}

#[test]
fn r_197_r_198_r_199_exit_statuses() {
    privately(|| {
        let automount = Automount::new(&[]);
        let said = automount.ends_with(&[], 3);
        assert!(said.contains("there is no master map"), "{said}");
        automount.ends_with(&["-f", "/etc/no_such"], 3);
        automount.ends_with(&["-x"], 2);
        fs::write("/etc/auto_master", "").expect("writing the master map");
        // the one that is missing is named.
        let said = automount.ends_with(&["-f", "/etc/no_such"], 0);
        assert!(said.contains("/etc/no_such does not exist"), "{said}");
        automount.ends_with(&[], 0);
    });
}

/// What is wrong with a mount point below a file, as it is told.
fn below_a_file(automount: &Automount, tail: &str) -> String {
    let text = "\n  @/file/TAIL: cannot make the directory @/file/TAIL: Not a directory";
    automount.0.text(&text.replace("TAIL", tail))
}

#[test]
fn a_start_says_which_mount_points_are_not_in_place_and_fails_when_none_is() {
    privately(|| {
        let automount = Automount::new(&[("auto.m", "* -fstype=tmpfs :t\n")]);
        let site = &automount.0;
        site.write("file", "");
        let master = |text: &str| fs::write("/etc/auto_master", site.text(text)).unwrap();
        master("@/file/a /etc/auto.m\n@/file/b /etc/auto.m\n@/gone /etc/no.map\n");
        let said = automount.ends_with(&[], 1);
        assert!(
            said.contains("none of 3 mount points is in place"),
            "{said}"
        );
        for tail in ["a", "b"] {
            assert!(said.contains(&below_a_file(&automount, tail)), "{said}");
        }
        let gone = site.text("\n  @/gone: map /etc/no.map: ");
        assert!(said.contains(&gone), "{said}");
        assert!(!site.piton(&["status"]).status.success(), "none runs");
        assert_eq!(site.mounts(), Vec::<String>::new());
        // In the foreground as well.
        let mut foreground = Command::new(env!("CARGO_BIN_EXE_piton"));
        foreground.args(["daemon", "--foreground", "--master", "/etc/auto_master"]);
        foreground.env("PITON_RUNTIME_DIR", site.at("run"));
        let ended = foreground.stdin(Stdio::null()).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");

        master("@/file/a /etc/auto.m\n@/m /etc/auto.m\n");
        let said = automount.ends_with(&[], 0);
        assert!(said.contains("1 of 2 mount points are in place"), "{said}");
        assert!(said.contains(&below_a_file(&automount, "a")), "{said}");
        assert!(site.names("m/x").is_empty());
        site.piton_ok(&["stop"]);

        // What is to come may come: a map that is missing is no reason to give up.
        master("@/gone /etc/no.map\n");
        let said = automount.ends_with(&[], 0);
        assert!(
            said.contains("the only mount point is not in place"),
            "{said}"
        );
        fs::write("/etc/no.map", "* -fstype=tmpfs :t\n").unwrap();
        site.piton_ok(&["reload"]);
        assert!(site.names("gone/x").is_empty());
    });
}

#[test]
fn a_master_map_that_is_missing_is_waited_for_and_who_starts_is_told_so() {
    privately(|| {
        let automount = Automount::new(&[]);
        let site = &automount.0;
        site.write("auto.m", "* -fstype=tmpfs :t\n");
        let mut start = Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(["daemon", &site.text("@/typo.master")])
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(site.at("log")).expect("a log"))
            .spawn()
            .expect("starting a daemon");
        let told = site.text(
            "piton daemon: the map @/typo.master does not exist: this master map is waited for",
        );
        site.wait("it is told", |site| site.log().contains(&told));
        assert!(start.try_wait().unwrap().is_none(), "it waits");
        site.write("typo.master", "@/m @/auto.m\n");
        let mut ended = None;
        site.wait("the command returns", |_| {
            ended = start.try_wait().unwrap();
            ended.is_some()
        });
        assert!(ended.unwrap().success(), "{}", site.log());
        assert!(site.names("m/x").is_empty());
        site.piton_ok(&["stop"]);
    });
}

#[test]
fn a_mount_point_of_another_automounter_is_left_to_it() {
    privately(|| {
        let automount = Automount::new(&[
            ("auto_master", "@/m /etc/auto.m\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        automount.ends_with(&[], 0);
        let mut other = Command::new(automount.0.at("automount"));
        other.env("PITON_RUNTIME_DIR", automount.0.at("run2"));
        let ended = other.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let text = automount.0.text("@/m: another automounter (process group ");
        assert!(said.contains(&text), "{said}");
        assert!(automount.0.names("m/x").is_empty());
        assert_eq!(automount.0.mounts(), ["/m autofs", "/m/x tmpfs"]);
    });
}

#[test]
fn r_101_r_102_a_file_of_settings_selects_the_automounter() {
    privately(|| {
        let automount = Automount::new(&[]);
        fs::create_dir("/etc/default").expect("a directory");
        let switch = |text: &str| fs::write("/etc/default/piton", text).expect("a switch");
        for text in ["", "AUTOFS=1\n"] {
            switch(text);
            let said = automount.ends_with(&[], 3);
            assert!(said.contains("there is no master map"), "{text}: {said}");
        }
        switch("AUTOFS=0\n");
        let said = automount.ends_with(&[], 3);
        assert!(said.contains("there are no maps"), "{said}");
        // The older command line is read.
        automount.ends_with(&["-tl", "5", "-x"], 2);
        switch("AUTOFS=maybe\n");
        let said = automount.ends_with(&[], 1);
        assert!(
            said.contains("/etc/default/piton: AUTOFS is `maybe`"),
            "{said}"
        );
        // What runs says which one it is.
        switch("");
        fs::write("/etc/auto_master", "").expect("a master map");
        automount.ends_with(&[], 0);
        let status = automount.0.piton_ok(&["status"]);
        assert!(status.contains(", with autofs, "), "{status}");
    });
}

#[test]
fn r_352_without_a_map_the_older_automounter_says_so_and_does_not_run() {
    privately(|| {
        let automount = Automount::new(&[("auto.map", "a srv:/a\n")]);
        let said = automount.ends_with(&["--old"], 3);
        assert!(
            said.contains("there are no maps: name a directory"),
            "{said}"
        );
        let said = automount.ends_with(&["--old", "/m", "/etc/no.map"], 3);
        assert!(said.contains("/etc/no.map does not exist"), "{said}");
        let said = automount.ends_with(&["--old", "-f", "/etc/none", "/m", "/etc/auto.map"], 3);
        assert!(said.contains("/etc/none"), "{said}");
        fs::write("/etc/auto_master", "# nothing\n").expect("a master map");
        automount.ends_with(&["--old"], 3);
        let said = automount.ends_with(&["--old", "/m"], 2);
        assert!(said.contains("has no map") && said.contains("^^"), "{said}");
        let said = automount.ends_with(&["--old", "-m", "/m"], 2);
        assert!(said.contains("usage: automount --old"), "{said}");
        assert!(
            !automount.0.piton(&["status"]).status.success(),
            "none runs"
        );
    });
}
