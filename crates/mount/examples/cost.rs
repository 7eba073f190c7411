//! What mounting through a `Performance` costs beside the bare system calls: medians over many rounds,
//! taken in turns, in a private mount namespace. Run as root:
//! `unshare --mount cargo run --release -p piton-mount --example cost`

use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

use autofs::{LoopDevice, LoopOptions, MountAttributes, set_mount_attributes};
use piton_map::options::Propagation;
use piton_mount::{Failure, Performance, Settings, Triggers};
use piton_plan::step::{Attempt, Planned, Step, TriggerSpec, What};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, move_mount, open_tree, unmount,
};

const ROUNDS: usize = 1500;

struct NoTriggers;

impl Triggers for NoTriggers {
    fn install(&self, _: &TriggerSpec) -> Result<(), Failure> {
        Ok(())
    }
    fn remove(&self, _: &TriggerSpec) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("run as root, under unshare --mount");
    mount("x", base, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
    std::fs::create_dir_all(base.join("src")).expect("a directory");
    std::fs::create_dir_all(base.join("at")).expect("a directory");
    let source = base.join("src").display().to_string();
    let target = base.join("at").display().to_string();
    let bind = step(What::Bind { recursive: false }, &source, &target);
    let tmpfs = step(What::Type("tmpfs".into()), "none", &target);
    let settings = Settings::default();

    let image = base.join("image").display().to_string();
    let mut made = Command::new("mksquashfs");
    made.args([&*source, &*image, "-quiet", "-no-progress"]);
    assert!(made.status().expect("mksquashfs").success());
    let squashfs = step(What::Type("squashfs".into()), &image, &target);

    let rows: [(&str, &dyn Fn()); 10] = [
        ("bind   mount(2)", &|| {
            mount(&*source, &*target, "", MountFlags::BIND, None).expect("bind");
        }),
        ("bind   new calls", &|| bare_bind(&source, &target, false)),
        ("bind   new calls, made slave", &|| {
            bare_bind(&source, &target, true)
        }),
        ("bind   perform", &|| done(&bind, &settings)),
        ("tmpfs  mount(2)", &|| {
            mount("none", &*target, "tmpfs", MountFlags::empty(), None).expect("tmpfs");
        }),
        ("tmpfs  new calls", &|| bare_tmpfs(&target, false)),
        ("tmpfs  new calls, made slave", &|| {
            bare_tmpfs(&target, true)
        }),
        ("tmpfs  perform", &|| done(&tmpfs, &settings)),
        ("image  loop device, mount(2)", &|| {
            bare_image(&image, &target)
        }),
        ("image  perform", &|| done(&squashfs, &settings)),
    ];
    let mut times = vec![Vec::with_capacity(ROUNDS); rows.len()];
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter().zip(&mut times) {
            let begun = Instant::now();
            row.1();
            times.push(begun.elapsed());
            unmount(&*target, UnmountFlags::empty()).expect("unmount");
        }
    }
    for (row, times) in rows.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |part: f64| times[(ROUNDS as f64 * part) as usize].as_nanos() as f64 / 1000.0;
        println!(
            "{:30} p50 {:6.1} us   p90 {:6.1} us",
            row.0,
            at(0.5),
            at(0.9)
        );
    }
    unmount(base, UnmountFlags::DETACH).expect("unmount");
}

fn step(what: What, source: &str, target: &str) -> [Planned; 1] {
    let attempt = Attempt {
        what,
        source: source.into(),
        options: Vec::new(),
        host: None,
        address: None,
        no_guests: false,
        by_helper: false,
    };
    let propagation = Propagation::Slave;
    let step = Step::Mount {
        target: target.into(),
        attempts: vec![attempt],
        propagation,
    };
    [Planned {
        step,
        required: true,
    }]
}

fn done(steps: &[Planned], settings: &Settings) {
    let until = Instant::now() + settings.deadline;
    let mut performance = Performance::new(steps.to_vec(), until);
    assert_eq!(performance.at_once(&NoTriggers, settings), None);
    assert_eq!(performance.outcome().failed, None);
}

fn slave() -> MountAttributes {
    MountAttributes {
        propagation: Some(autofs::Propagation::Slave),
        ..MountAttributes::default()
    }
}

fn bare_bind(source: &str, target: &str, slaved: bool) {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, source, flags).expect("open_tree");
    if slaved {
        set_mount_attributes(&tree, &slave(), false).expect("mount_setattr");
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, target, flags).expect("move_mount");
}

fn bare_tmpfs(target: &str, slaved: bool) {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).expect("fsopen");
    fsconfig_set_string(&context, "source", "none").expect("source");
    fsconfig_create(&context).expect("create");
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let tree = fsmount(&context, flags, MountAttrFlags::empty()).expect("fsmount");
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, target, flags).expect("move_mount");
    if slaved {
        set_mount_attributes(&tree, &slave(), false).expect("mount_setattr");
    }
}

fn bare_image(image: &str, target: &str) {
    let file = std::fs::File::open(image).expect("the image");
    let options = LoopOptions {
        read_only: true,
        ..LoopOptions::default()
    };
    let device = LoopDevice::attach(file.as_fd(), &options).expect("a loop device");
    mount(device.path(), target, "squashfs", MountFlags::RDONLY, None).expect("squashfs");
}
