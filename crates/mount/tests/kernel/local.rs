//! File systems that the kernel mounts alone: in memory, and from images.

use std::fs;
use std::path::Path;
use std::time::Duration;

use piton_mount::limits;
use piton_testkit::{Scratch, mount_table, mounted_at, privately, wait_until};

use crate::common::*;

// --- file systems without a disk -----------------------------------------
#[test]
fn a_tmpfs_has_the_options_that_were_asked_for() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        mounted(&tmpfs(
            &target,
            &["size=1m", "mode=0751", "nosuid", "noatime", "nofail", "rw"],
        ));
        let line = mounted_at(&target).unwrap();
        assert_eq!(
            (line.fstype.as_str(), line.source.as_str()),
            ("tmpfs", "word")
        );
        for option in ["size=1024k", "mode=751", "nosuid", "noatime", "rw"] {
            assert!(line.has(option), "{option}: {line:?}");
        }
        assert!(fs::write(s.at("at/x"), vec![0; 2 << 20]).is_err(), "ENOSPC");
    });
}

#[test]
fn a_read_only_tmpfs_is_so_as_file_system_and_as_mount() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        mounted(&tmpfs(&target, &["ro"]));
        let line = mounted_at(&target).unwrap();
        assert!(
            line.options.starts_with("ro") && line.super_options.starts_with("ro"),
            "{line:?}"
        );
    });
}

#[test]
fn a_bad_option_shows_the_kernels_words() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let failure = failed(&tmpfs(&target, &["nosuchopt"]));
        assert_eq!(failure.errno, 22);
        assert_eq!(
            failure.text,
            format!(
                "mounting word (tmpfs) on {target}: Invalid argument \
                 (tmpfs: Unknown parameter 'nosuchopt')"
            )
        );
        let failure = failed(&tmpfs(&target, &["size=big"]));
        assert!(failure.text.contains("size"), "{}", failure.text);
        assert_eq!(mounted_at(&target), None);
    });
}

#[test]
fn an_overlay_lies_over_its_layers() {
    privately(|| {
        let s = Scratch::new();
        s.file("low/a", "low");
        s.directory("up");
        s.directory("work");
        let target = s.directory("at");
        let options = [
            format!("lowerdir={}", s.at("low")),
            format!("upperdir={}", s.at("up")),
            format!("workdir={}", s.at("work")),
        ];
        mounted(&fs_step("overlay", "none", &target, &options));
        fs::write(s.at("at/b"), "up").unwrap();
        assert_eq!(fs::read_to_string(s.at("at/a")).unwrap(), "low");
        assert!(Path::new(&s.at("up/b")).exists());
    });
}

#[test]
fn an_overlay_of_more_layers_than_fsconfig_takes_goes_by_the_old_call() {
    privately(|| {
        let s = Scratch::new();
        let layers: Vec<_> = (0..20)
            .map(|n| s.directory(&format!("layer-{n:020}")))
            .collect();
        s.file("layer-00000000000000000007/seven", "");
        let target = s.directory("at");
        let lower = format!("lowerdir={}", layers.join(":"));
        assert!(lower.len() > 600);
        let options = [lower, "ro".into(), "nodev".into(), "sync".into()];
        let step = fs_step("overlay", "none", &target, &options);
        mounted(&step);
        assert!(Path::new(&s.at("at/seven")).exists());
        let line = mounted_at(&target).unwrap();
        assert!(line.options.starts_with("ro,nodev"), "{line:?}");
        assert!(
            line.has("sync") && !line.propagation.contains("shared"),
            "{line:?}"
        );
    });
}

#[test]
fn a_source_at_the_limit_of_fsconfig_and_one_past_it_are_mounted() {
    privately(|| {
        let s = Scratch::new();
        for length in [limits::PARAMETER, limits::PARAMETER + 1] {
            let target = s.directory(&format!("at-{length}"));
            let source = "x".repeat(length);
            mounted(&fs_step("tmpfs", &source, &target, &["size=4k", "nodev"]));
            let line = mounted_at(&target).unwrap();
            assert_eq!(line.source, source);
            assert!(line.has("size=4k") && line.has("nodev"), "{line:?}");
        }
    });
}

#[test]
fn proc_and_ramfs_are_mounted() {
    privately(|| {
        let s = Scratch::new();
        for fstype in ["proc", "ramfs", "sysfs"] {
            let target = s.directory(fstype);
            mounted(&fs_step::<&str>(fstype, "x", &target, &[]));
            assert_eq!(mounted_at(&target).unwrap().fstype, fstype);
        }
    });
}

// --- images --------------------------------------------------------------
#[test]
fn images_of_every_kind_are_mounted_on_loop_devices_that_go_with_them() {
    privately(|| {
        let s = Scratch::new();
        for kind in KINDS {
            let image = make_image(&s, kind);
            let target = s.directory(&format!("at-{}", kind.fstype));
            let outcome = run(&[fs_step::<&str>(kind.fstype, &image, &target, &[])]);
            if !kernel_knows(kind.fstype) {
                let failure = outcome.failed.expect(kind.fstype);
                assert_eq!(failure.errno, 19, "ENODEV: {}", failure.text);
                assert!(
                    failure.text.contains("unknown filesystem type"),
                    "{}",
                    failure.text
                );
                continue;
            }
            assert_eq!(outcome.failed, None, "{}", kind.fstype);
            assert!(!outcome.done[0].helper);
            let line = mounted_at(&target).unwrap();
            assert_eq!(line.fstype, kind.fstype);
            assert!(line.source.starts_with("/dev/loop"), "{line:?}");
            assert_eq!(line.has("ro"), kind.read_only, "{line:?}");
            if kind.filled {
                assert_eq!(
                    fs::read_to_string(format!("{target}/name")).unwrap(),
                    "text"
                );
            } else {
                fs::write(format!("{target}/name"), "text").unwrap();
            }
            unmounted(&target, false);
            let backing = format!("/sys/block/{}/loop/backing_file", &line.source[5..]);
            wait_until("the loop device is let go", Duration::from_secs(60), || {
                !fs::read_to_string(&backing).is_ok_and(|file| file.trim() == image)
            });
        }
    });
}

#[test]
fn an_image_is_read_only_when_asked_or_when_its_file_is() {
    privately(|| {
        let s = Scratch::new();
        let image = make_image(&s, EXT4);
        let target = s.directory("at");
        mounted(&fs_step("ext4", &image, &target, &["ro"]));
        assert!(mounted_at(&target).unwrap().has("ro"));
        unmounted(&target, false);

        let locked = s.directory("locked");
        mounted(&bind(s.path().to_str().unwrap(), &locked, &["ro"]));
        let image = image.replace("/ext4.img", "/locked/ext4.img");
        mounted(&fs_step::<&str>("ext4", &image, &target, &[]));
        assert!(mounted_at(&target).unwrap().has("ro"));
    });
}

#[test]
fn an_image_inside_a_file_is_found_by_offset_and_sizelimit() {
    privately(|| {
        let s = Scratch::new();
        let image = fs::read(make_image(&s, SQUASHFS)).unwrap();
        let whole = [vec![0; 1 << 20], image.clone(), vec![0; 4096]].concat();
        let file = s.file("disk", whole);
        let target = s.directory("at");
        let limit = format!("sizelimit={}", image.len());
        let options = ["loop", "offset=1M", &limit, "nodev"];
        mounted(&fs_step("squashfs", &file, &target, &options));
        assert_eq!(fs::read_to_string(s.at("at/name")).unwrap(), "text");
    });
}

#[test]
fn a_file_without_a_file_system_and_a_missing_device_have_their_errno() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let rubbish = s.file("rubbish", vec![7; 1 << 20]);
        let failure = failed(&fs_step::<&str>("ext4", &rubbish, &target, &[]));
        assert_eq!(failure.errno, 22);
        assert!(
            failure.text.contains("not a file system of this type"),
            "{}",
            failure.text
        );
        for (source, errno) in [
            ("/dev/no-such-disk".to_owned(), 2),
            (s.at("no.img"), 2),
            (s.at("rubbish/x"), 20),
            ("/dev/null".to_owned(), 15),
        ] {
            let failure = failed(&fs_step::<&str>("ext4", &source, &target, &[]));
            assert_eq!(failure.errno, errno, "{}", failure.text);
        }
        assert_eq!(mounted_at(&target), None);
    });
}

#[test]
fn many_mounts_at_once_do_not_get_in_each_others_way() {
    privately(|| {
        let s = Scratch::new();
        let image = make_image(&s, SQUASHFS);
        s.file("src/name", "text");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (s, image) = (&s, &image);
                scope.spawn(move || {
                    (0..5).for_each(|n| three_mounts(s, image, &format!("{thread}-{n}")))
                });
            }
        });
        let below = format!("{}/", s.path().display());
        assert!(
            !mount_table()
                .iter()
                .any(|line| line.point.starts_with(&below))
        );
    });
}

fn three_mounts(s: &Scratch, image: &str, name: &str) {
    let at = |kind: &str| s.directory(&format!("{kind}-{name}"));
    let (a, b, c) = (at("bind"), at("image"), at("tmpfs"));
    mounted(&bind(&s.at("src"), &a, &[]));
    mounted(&fs_step::<&str>("squashfs", image, &b, &[]));
    mounted(&tmpfs(&c, &[]));
    for target in [&a, &b] {
        assert_eq!(
            fs::read_to_string(format!("{target}/name")).unwrap(),
            "text"
        );
    }
    for target in [&a, &b, &c] {
        unmounted(target, false);
    }
}
