//! NFS as far as it goes on any machine; the rest is in vm/tests, where there are servers.

use piton_plan::step::Step;
use piton_testkit::{Scratch, mounted_at, privately};

use crate::common::*;

const ENODEV: i32 = 19;
const ECONNREFUSED: i32 = 111;

#[test]
fn a_kernel_without_an_nfs_client_is_named_and_one_with_it_is_asked() {
    let _ = std::process::Command::new("modprobe").arg("nfs").output();
    let types = std::fs::read_to_string("/proc/filesystems").unwrap();
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        for (fstype, version) in [("nfs", "vers=4.2"), ("nfs4", "vers=4.0"), ("nfs", "vers=3")] {
            // Nobody serves at port 9.
            let options = [version, "port=9", "nolock", "mountport=9"];
            let options = &options[..if version == "vers=3" { 4 } else { 2 }];
            let failure = failed(&fs_step(fstype, "127.0.0.1:/x", &target, options));
            let text = &failure.text;
            if types.contains("\tnfs") {
                assert_eq!(failure.errno, ECONNREFUSED, "{text}");
            } else {
                assert_eq!(failure.errno, ENODEV, "{text}");
                assert!(text.contains("this kernel has no NFS client"), "{text}");
                assert!(text.contains("127.0.0.1:/x"), "{text}");
            }
            assert_eq!(mounted_at(&target), None);
        }
    });
}

#[test]
fn a_helper_that_is_wanted_mounts_what_the_kernel_could() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let mut step = tmpfs(&target, &["size=4k"]);
        if let Step::Mount { attempts, .. } = &mut step {
            attempts[0].by_helper = true;
        }
        let outcome = run(&[step]);
        assert_eq!(outcome.failed, None);
        assert!(outcome.done[0].helper);
        assert!(mounted_at(&target).unwrap().has("size=4k"));
        unmounted(&target, true);
        assert_eq!(mounted_at(&target), None);
    });
}

#[test]
fn options_for_ordinary_users_restrict_as_with_mount_8() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        for (option, restrictions) in [
            ("users", &["nosuid", "nodev", "noexec"][..]),
            ("owner", &["nosuid", "nodev"]),
        ] {
            for by_helper in [false, true] {
                let mut step = tmpfs(&target, &[option]);
                if let Step::Mount { attempts, .. } = &mut step {
                    attempts[0].by_helper = by_helper;
                }
                assert_eq!(run(&[step]).failed, None);
                let line = mounted_at(&target).unwrap();
                for flag in ["nosuid", "nodev", "noexec"] {
                    let has = line.options.split(',').any(|it| it == flag);
                    assert_eq!(
                        has,
                        restrictions.contains(&flag),
                        "{option} {flag} {line:?}"
                    );
                }
                unmounted(&target, by_helper);
            }
        }
    });
}
