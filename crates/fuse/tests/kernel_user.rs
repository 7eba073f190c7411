//! File systems mounted by an ordinary user, with fusermount3.

mod site;

use piton_testkit::{Access, Scratch, mounted_at, privately};
use rustix::io::Errno;

use site::*;

fn nobody_reads(path: &str) -> Access {
    Access::start(as_nobody("cat", &["--", path]))
}

#[test]
fn an_ordinary_user_has_a_thousand_keys() {
    if serves() {
        return;
    }
    privately(|| {
        let scratch = Scratch::new();
        open_fuse_to_everybody(&scratch);
        scratch.file("there/key007", "seven");
        scratch.file("there/new", "new");
        let served = Served::start("an_ordinary_user_has_a_thousand_keys", &scratch, NOBODY);
        let line = mounted_at(&served.path).unwrap();
        assert_eq!(
            (&line.fstype[..], &line.source[..]),
            ("fuse.piton", "auto.test, and more")
        );
        for option in ["ro", "nosuid", "nodev", "user_id=65534"] {
            assert!(line.has(option), "{line:?}");
        }
        let listing = as_nobody("ls", &["-1A", "--", &served.path]);
        let listing = Access::start(listing).wait(PATIENCE);
        let expected: String = (0..1000).map(|n| key(n) + "\n").collect();
        assert_eq!(listing.text, expected);
        let at = |name: &str| format!("{}/{name}", served.path);
        // A slow key delays nobody.
        let mut slow = nobody_reads(&at("slow"));
        let ten: Vec<Access> = (0..10).map(|_| nobody_reads(&at("key007"))).collect();
        for access in ten {
            assert_eq!(access.wait(PATIENCE).text, "seven");
        }
        assert_eq!(nobody_reads(&at("new")).wait(PATIENCE).text, "new");
        assert_eq!(nobody_reads(&at("absent")).wait(PATIENCE).errno, Some(2));
        assert!(slow.is_waiting());
        // It is nobody else's.
        let other = Access::read(at("key007")).wait(PATIENCE);
        assert_eq!(other.errno, Some(Errno::ACCESS.raw_os_error()));
        let path = served.path.clone();
        served.end();
        assert_eq!(mounted_at(&path), None);
        let errno = slow.wait(PATIENCE).errno;
        assert!(matches!(errno, Some(103 | 107)), "{errno:?}");
    });
}

#[test]
fn his_successor_clears_what_the_dead_one_left() {
    if serves() {
        return;
    }
    privately(|| {
        let test = "his_successor_clears_what_the_dead_one_left";
        let scratch = Scratch::new();
        open_fuse_to_everybody(&scratch);
        scratch.file("there/key007", "seven");
        let served = Served::start(test, &scratch, NOBODY);
        let path = served.path.clone();
        served.kill();
        let dead = nobody_reads(&format!("{path}/key007")).wait(PATIENCE);
        assert_eq!(dead.errno, Some(Errno::NOTCONN.raw_os_error()));
        let successor = Served::start(test, &scratch, NOBODY);
        let alive = nobody_reads(&format!("{path}/key007")).wait(PATIENCE);
        assert_eq!(alive.text, "seven");
        successor.end();
        assert_eq!(mounted_at(&path), None);
    });
}

#[test]
fn without_the_device_he_is_told_why() {
    if serves() {
        return;
    }
    privately(|| {
        let scratch = Scratch::new();
        // Closed, however it is on this machine.
        let closed = scratch.file("closed", "");
        rustix::mount::mount_bind(&closed, "/dev/fuse").unwrap();
        let path = scratch.directory("net");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        let output = Served::attempt("without_the_device_he_is_told_why", &scratch, NOBODY);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        let said = format!("{path}: fusermount3 refuses: failed to open /dev/fuse");
        assert!(text.contains(&said), "{text}");
        assert_eq!(mounted_at(&path), None);
    });
}

#[test]
fn root_of_a_user_namespace_needs_no_helper() {
    if serves() {
        return;
    }
    privately(|| {
        let scratch = Scratch::new();
        open_fuse_to_everybody(&scratch);
        scratch.file("there/key007", "seven");
        let test = "root_of_a_user_namespace_needs_no_helper";
        // It ends when this script does, whose end of the pipe is its standard input.
        let script = r#"
            set -e
            export PATH=/usr/bin:/bin
            mkfifo "$2.hold"
            "$0" "$1" --exact --nocapture < "$2.hold" > "$2.log" 2>&1 &
            exec 3> "$2.hold"
            for i in $(seq 600); do [ ! -e "$2.ready" ] || break; sleep 0.1; done
            grep -c ' fuse.piton ' /proc/self/mountinfo
            ls "$2" | wc -l
            cat "$2/key007"
            exec 3>&-
            wait
            ! grep -q ' fuse.piton ' /proc/self/mountinfo
        "#;
        let command = Served::command(test, &scratch, NOBODY);
        let path = scratch.at("net");
        let program = command.get_program().to_str().unwrap().to_owned();
        let mut inside = as_nobody(
            "unshare",
            &["-Urm", "bash", "-c", script, &program, test, &path],
        );
        inside.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let output = inside.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "1\n1000\nseven", "{output:?}");
        assert!(output.status.success(), "{output:?}");
    });
}
