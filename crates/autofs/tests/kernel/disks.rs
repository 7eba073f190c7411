//! Loop devices.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Command;

use autofs::{LoopDevice, LoopOptions, UnmountFlags, unmount};

use crate::daemon::{PROBE, until};
use crate::sandbox;

fn attach_loop(file: &File, options: LoopOptions) -> LoopDevice {
    LoopDevice::attach(file, &options).unwrap()
}

fn backing_file(number: u32) -> Option<String> {
    std::fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file")).ok()
}

#[test]
fn a_loop_device_is_mounted_and_cleared_by_itself() {
    sandbox::run(|directory| {
        let image = directory.join("image");
        let file = File::create_new(&image).unwrap();
        file.set_len(4 << 20).unwrap();
        drop(file);
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mkfs = Command::new("mkfs.ext4")
            .env("PATH", path)
            .arg("-q")
            .arg(&image)
            .status();
        assert!(mkfs.expect("mkfs.ext4 starts").success());

        let file = File::options().read(true).write(true).open(&image).unwrap();
        let device = attach_loop(&file, LoopOptions::default());
        drop(file);
        let (number, target) = (device.number(), directory.join("mounted"));
        assert_eq!(
            backing_file(number).unwrap().trim_end(),
            image.to_str().unwrap()
        );
        std::fs::create_dir(&target).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(device.path(), &target, "ext4", flags, None).unwrap();
        drop(device);
        std::fs::write(target.join("probe"), PROBE).unwrap();
        unmount(&target, UnmountFlags::empty()).unwrap();
        until(|| {
            backing_file(number).is_none_or(|path| path.trim_end() != image.to_str().unwrap())
        });
        // Still there: it was written to the file, not lost with the device.
        let bytes = std::fs::read(&image).unwrap();
        assert!(
            bytes
                .windows(PROBE.len())
                .any(|window| window == PROBE.as_bytes())
        );
    });
}

#[test]
fn a_loop_device_shows_the_part_that_was_asked_for() {
    sandbox::run(|directory| {
        let mut file = File::create_new(directory.join("image")).unwrap();
        for byte in 0..16 {
            file.write_all(&[byte; 4096]).unwrap();
        }
        let file = File::open(directory.join("image")).unwrap();
        let options = LoopOptions {
            read_only: true,
            autoclear: false,
            offset: 8192,
            size_limit: 12288,
            direct_io: true, // tmpfs has none: it is let go
        };
        let device = attach_loop(&file, options);
        let mut disk = File::open(device.path()).unwrap();
        assert_eq!(disk.seek(SeekFrom::End(0)).unwrap(), 12288);
        disk.rewind().unwrap();
        let mut bytes = Vec::new();
        disk.read_to_end(&mut bytes).unwrap();
        let expected: Vec<u8> = [2, 3, 4]
            .into_iter()
            .flat_map(|byte| [byte; 4096])
            .collect();
        assert!(bytes == expected);
        drop(disk);
        device.detach().unwrap();
        let number = device.number();
        drop(device);
        until(|| backing_file(number).is_none());
    });
}

#[test]
fn many_threads_get_loop_devices_of_their_own() {
    sandbox::run(|directory| {
        let file = File::create_new(directory.join("image")).unwrap();
        file.set_len(1 << 20).unwrap();
        let options = LoopOptions {
            read_only: true,
            ..LoopOptions::default()
        };
        let devices: Vec<LoopDevice> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| attach_loop(&file, options)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let mut numbers: Vec<_> = devices.iter().map(LoopDevice::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 6);
    });
}
