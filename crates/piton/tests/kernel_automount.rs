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
