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
