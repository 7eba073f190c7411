//! docs/guide-backup.md for btrfs and docs/guide-restore.md, command by command as they stand there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use piton_testkit::{Scratch, Writer, commands, mounted_at, privately, state, wait_until};
use rustix::io::Errno;

const BACKUP: &str = include_str!("../../../docs/guide-backup.md");
const RESTORE: &str = include_str!("../../../docs/guide-restore.md");
const LIMIT: Duration = Duration::from_secs(60);

/// A machine as the guide takes it for granted, of which nothing is left: /etc, /mnt and /srv are
/// this namespace's own.
struct Machine {
    scratch: Scratch,
    daemon: Child,
}

impl Machine {
    fn new() -> Self {
        let scratch = Scratch::new();
        for folder in ["upper", "work", "home", "bin", "mnt", "srv"] {
            scratch.directory(folder);
        }
        let at = |tail: &str| scratch.at(tail);
        let layers = format!(
            "lowerdir=/etc,upperdir={},workdir={}",
            at("upper"),
            at("work")
        );
        run(
            "mount",
            &["-t", "overlay", "-o", &layers, "overlay", "/etc"],
        );
        for folder in ["mnt", "srv"] {
            run("mount", &["--bind", &at(folder), &format!("/{folder}")]);
        }
        fs::write("/etc/auto.master", "+dir:/etc/auto.master.d\n").expect("a master map");
        fs::create_dir_all("/etc/auto.master.d").expect("a folder");
        symlink(env!("CARGO_BIN_EXE_piton"), at("bin/piton")).expect("installing piton");
        let mut daemon = Command::new("piton");
        let log = fs::File::create(at("log")).expect("a log");
        // The kernel triggers nothing for the daemon's process group.
        daemon
            .args(["daemon", "--foreground", "-d", "--pid-file"])
            .arg(at("ready"))
            .process_group(0);
        daemon.stdin(Stdio::null()).stderr(log);
        let daemon = with(&scratch, &mut daemon).spawn().expect("starting piton");
        let machine = Self { scratch, daemon };
        wait_until("the daemon serves", LIMIT, || {
            Path::new(&machine.scratch.at("ready")).exists()
        });
        machine
    }

    /// A program with everything it writes kept here.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        with(&self.scratch, &mut command);
        command
    }

    fn as_user(&self, user: u32, program: &str) -> Command {
        let mut setpriv = self.command("setpriv");
        let user = user.to_string();
        setpriv.args([
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            program,
        ]);
        setpriv
    }

    /// A file system of btrfs at /srv/pool with a subvolume of this name.
    fn pool(&self, name: &str) {
        let image = self.scratch.at("image");
        let file = fs::File::create(&image).expect("a file");
        file.set_len(512 << 20).expect("room");
        run("mkfs.btrfs", &["-q", &image]);
        fs::create_dir("/srv/pool").expect("a folder");
        run("mount", &["-o", "loop", &image, "/srv/pool"]);
        run(
            "btrfs",
            &["-q", "subvolume", "create", &format!("/srv/pool/{name}")],
        );
    }

    /// The commands of a guide's sections with these titles, in one shell.
    #[track_caller]
    fn follow(&self, guide: &str, titles: &[&str]) {
        self.follow_as(0, guide, titles);
    }

    /// The same as a user, who is in no group but their own.
    #[track_caller]
    fn follow_as(&self, user: u32, guide: &str, titles: &[&str]) {
        let script: String = titles.iter().map(|title| commands(guide, title)).collect();
        let mut shell = self.as_user(user, "sh");
        shell.arg("-c").arg(format!("set -eux\n{script}"));
        let done = shell.stdin(Stdio::null()).output().expect("a shell");
        let said = String::from_utf8_lossy(&done.stderr);
        let log = fs::read_to_string(self.scratch.at("log")).unwrap_or_default();
        assert!(
            done.status.success(),
            "{titles:?}: {}\n{said}\n{log}",
            done.status
        );
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn with<'c>(scratch: &Scratch, command: &'c mut Command) -> &'c mut Command {
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{}:{path}", scratch.at("bin")))
        .env("HOME", scratch.at("home"))
        .env("PITON_RUNTIME_DIR", scratch.at("run"))
        .env("PITON_STATE_DIR", scratch.at("state"))
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
}

#[test]
fn the_guide_holds_for_btrfs() {
    privately(|| {
        let machine = Machine::new();
        machine.pool("data");
        let writer = Writer::at("/srv/pool/data/area");
        machine.follow(
            BACKUP,
            &[
                "btrfs, built in",
                "Backing up",
                "Getting it back",
                "Afterwards",
            ],
        );
        let after = writer.steps();
        for copy in [
            "/srv/backup/data",
            "/srv/restored/restic/mnt/path/data",
            "/srv/restored/borg/mnt/path/data",
        ] {
            let found = state(&Path::new(copy).join("area"));
            let steps = found.unwrap_or_else(|why| panic!("{copy}: {why}"));
            assert!(steps <= after + 1, "{copy}: {steps} of {after}");
        }
        let gone = || mounted_at("/mnt/path/data").is_none_or(|line| line.fstype == "autofs");
        wait_until("the view is unmounted", LIMIT, gone);
        wait_until("the snapshot is removed", LIMIT, || {
            let kept = fs::read_dir("/srv/pool/data/.piton-snapshots/data");
            let kept = kept.or_else(|_| fs::read_dir("/srv/pool/.piton-snapshots/data"));
            kept.expect("where snapshots are").count() == 0
        });
    });
}

#[test]
fn the_guide_to_getting_files_back_holds_and_shows_nobody_more_than_was_open() {
    privately(|| {
        let machine = Machine::new();
        machine.pool("home");
        let (ann, bob) = (4001, 4002);
        let own = |path: &str, user, mode| {
            chown(path, Some(user), Some(user)).expect("chown");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        };
        for (name, user) in [("ann", ann), ("bob", bob)] {
            let folder = format!("/srv/pool/home/{name}");
            fs::create_dir(&folder).expect("a home");
            for file in ["thesis", "letter"] {
                fs::write(format!("{folder}/{file}"), format!("{name}'s {file}")).expect("a file");
                own(&format!("{folder}/{file}"), user, 0o644);
            }
            own(&folder, user, 0o700);
        }
        machine.follow(RESTORE, &["Keeping snapshots"]);
        let thesis = "/srv/pool/home/ann/thesis";
        fs::remove_file(thesis).expect("losing a file");
        // Even what is open by now was not so then.
        own("/srv/pool/home/ann", ann, 0o755);
        let past = "/mnt/past/home@latest/ann";
        for (user, may) in [(ann, true), (bob, false)] {
            for file in ["thesis", "letter"] {
                let cat = machine
                    .as_user(user, "cat")
                    .arg(format!("{past}/{file}"))
                    .output();
                assert_eq!(cat.expect("cat").status.success(), may, "{user}: {file}");
            }
        }
        machine.follow_as(ann, RESTORE, &["Getting a file back"]);
        assert_eq!(
            fs::read_to_string(thesis).expect("it is back"),
            "ann's thesis"
        );
        let owner = fs::metadata(thesis).expect("it is back").uid();
        assert_eq!(owner, ann);
        // A view that is more open than the way to the volume is not shown at all.
        fs::set_permissions("/srv/pool", fs::Permissions::from_mode(0o700)).expect("chmod");
        let other = "/mnt/other snapshot:btrfs,dir=/srv/pool --timeout=60\n";
        fs::write("/etc/auto.master.d/other.autofs", other).expect("a map");
        assert!(
            machine
                .command("piton")
                .arg("reload")
                .status()
                .expect("piton")
                .success()
        );
        let refused = fs::read_dir("/mnt/other/home").map_err(|error| error.raw_os_error());
        assert_eq!(refused.err(), Some(Some(Errno::ACCESS.raw_os_error())));
    });
}
