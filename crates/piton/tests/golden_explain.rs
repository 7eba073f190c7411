//! `piton explain` on every worked example of the founding documents, word for word.

mod golden;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn explanations() {
    golden::run_all("explain");
}

#[test]
fn a_server_that_nobody_knows_is_named_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/auto.master"), "/m /etc/auto.m\n").unwrap();
    fs::write(root.path().join("etc/auto.m"), "a nobody.invalid:/a\n").unwrap();
    let result = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(["explain", "--probe", "/m/a", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    let text = String::from_utf8(result.stdout).unwrap();
    assert!(
        text.contains("nobody.invalid:/a on /m/a type nfs"),
        "{text}"
    );
    assert!(text.contains("server nobody.invalid: "), "{text}");
}

/// A site in a directory that everybody may look into, but not into the maps of mode 0.
struct Site(tempfile::TempDir);

impl Site {
    fn new(files: &[(&str, &str, u32)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        for (name, text, mode) in files {
            let file = root.path().join("etc").join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(*mode)).unwrap();
        }
        Self(root)
    }

    /// What is explained to `command`'s user, and the exit status.
    fn explain(&self, mut command: Command, arguments: &[&str]) -> (i32, String) {
        command.arg("explain").args(arguments).arg("--root");
        let result = command.arg(self.0.path()).output().unwrap();
        let text = String::from_utf8(result.stdout).unwrap();
        (result.status.code().unwrap(), text)
    }
}

/// Piton as a user who is not root.
fn as_somebody() -> Command {
    // Other users may not search the directories that lead to the program.
    let program = fs::File::open(env!("CARGO_BIN_EXE_piton")).unwrap();
    let fd = std::os::fd::IntoRawFd::into_raw_fd(program);
    let mut command = Command::new(format!("/proc/self/fd/{fd}"));
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn what_only_root_may_read_is_no_answer_of_the_daemon() {
    let site = Site::new(&[
        ("auto.master", "/m auto.m\n/- auto.d\n/i auto.i\n", 0o644),
        ("auto.m", "a srv:/a\n", 0),
        ("auto.d", "/d/a srv:/a\n", 0),
        ("auto.i", "b srv:/b\n+auto.m\n", 0o644),
    ]);
    for path in ["/m/a", "/d/a", "/i/a"] {
        let (status, text) = site.explain(as_somebody(), &[path]);
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("ermission denied"), "{text}");
        assert!(text.contains("ask again as root"), "{text}");
        assert!(!text.contains("whoever touches it gets"), "{text}");
    }
    let (status, text) = site.explain(as_somebody(), &["/i/b"]);
    assert_eq!(status, 0, "{text}");
}

#[test]
fn a_program_that_prints_nothing_is_no_map_without_the_key() {
    let site = Site::new(&[
        ("auto.master", "/m auto.m\n", 0o644),
        ("auto.m", "#!/bin/sh\nexit 1\n", 0o755),
    ]);
    let (status, text) = site.explain(
        Command::new(env!("CARGO_BIN_EXE_piton")),
        &["--run", "/m/a"],
    );
    assert_eq!(status, 1, "{text}");
    if rustix::process::geteuid().is_root() {
        let printed = "not found: the program auto.m printed no entry for the key `a`\n";
        assert!(text.contains(printed), "{text}");
        assert!(text.contains("gets ENOENT"), "{text}");
    } else {
        // Programs belong to root.
        assert!(text.contains("error: program "), "{text}");
    }
}
