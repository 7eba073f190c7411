//! The filter of a map, on the real kernel: what is denied is answered at once.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::process::Command;

use piton_testkit::privately;
use site::Site;

const ENOENT: i32 = 2;

#[test]
fn r_263_keys_and_programs_are_denied_and_others_served() {
    privately(|| {
        let site = Site::serving(&[
            (
                "auto.master",
                "@/m @/auto.m --deny-keys=.git:.Trash* --deny-comm=indexer\n",
            ),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ]);
        assert_eq!(site.errno("m/.git"), ENOENT);
        assert_eq!(site.errno("m/.Trash-1000"), ENOENT);
        fs::copy("/bin/ls", site.at("indexer")).unwrap();
        let look = |program: &str| {
            let program = match program {
                "ls" => "ls".into(),
                name => site.at(name),
            };
            let status = Command::new(program).arg(site.at("m/a")).output().unwrap();
            status.status.success()
        };
        assert!(!look("indexer"));
        assert!(!site.is_mounted("m/a"));
        assert!(look("ls"));
        assert!(look("indexer"), "what is mounted is seen by all");
        let explained = site.piton(&["explain", "--master", "@/auto.master", "@/m/.git"]);
        let text = String::from_utf8_lossy(&explained.stdout);
        assert!(text.contains("denied by the filter `.git`"), "{text}");
        let explained = site.piton_ok(&["explain", "--master", "@/auto.master", "@/m/b"]);
        assert!(
            explained.contains("not for programs named `indexer`"),
            "{explained}"
        );
        site.end();
    });
}

#[test]
fn a_burst_of_absent_names_is_answered_without_threads() {
    privately(|| {
        let site = Site::serving(&[
            ("auto.master", "@/m @/auto.m\n"),
            ("auto.m", "a -fstype=tmpfs :t\n"),
        ]);
        // The first access reads the map.
        assert_eq!(site.errno("m/x"), ENOENT);
        let pid = fs::read_to_string(site.at("ready")).unwrap();
        let threads = || {
            fs::read_dir(format!("/proc/{}/task", pid.trim()))
                .unwrap()
                .count()
        };
        // One more may come to stand in for one that this machine keeps waiting, and go again.
        let mut bursts = (0..3).map(|_| {
            let before = threads();
            for name in [".git", ".hidden", ".Trash"].iter().cycle().take(3_000) {
                assert_eq!(site.errno(&format!("m/{name}")), ENOENT);
            }
            (before, threads())
        });
        assert!(bursts.any(|(before, after)| after <= before));
        site.end();
    });
}
