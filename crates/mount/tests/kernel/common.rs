//! Steps, images and small automounts for the tests on the kernel.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::Duration;

use autofs::{AttachedPoint, Control, PointKind, PointOptions, PreparedPoint, RequestPipe};
use bstr::BString;
use piton_map::options::Propagation;
use piton_mount::{Failure, Outcome, Program, Settings, Triggers, perform};
use piton_plan::step::{Attempt, Planned, Step, TriggerId, TriggerKind, TriggerSpec, What};
use piton_testkit::{Scratch, wait_until};
use rustix::mount::{MountPropagationFlags, mount_change};

// --- steps ---------------------------------------------------------------

fn mount_step(
    what: What,
    source: &str,
    target: &str,
    options: Vec<BString>,
    propagation: Propagation,
) -> Step {
    let attempt = Attempt {
        what,
        source: source.into(),
        options,
        host: None,
        address: None,
        no_guests: false,
        by_helper: false,
    };
    Step::Mount {
        target: target.into(),
        attempts: vec![attempt],
        propagation,
    }
}

fn texts<T: AsRef<str>>(options: &[T]) -> Vec<BString> {
    options
        .iter()
        .map(|option| option.as_ref().into())
        .collect()
}

pub(crate) fn fs_step<T: AsRef<str>>(
    fstype: &str,
    source: &str,
    target: &str,
    options: &[T],
) -> Step {
    let what = What::Type(fstype.into());
    mount_step(what, source, target, texts(options), Propagation::Slave)
}

pub(crate) fn tmpfs(target: &str, options: &[&str]) -> Step {
    tmpfs_of(target, options, Propagation::Slave)
}

pub(crate) fn tmpfs_of(target: &str, options: &[&str], propagation: Propagation) -> Step {
    mount_step(
        What::Type("tmpfs".into()),
        "word",
        target,
        texts(options),
        propagation,
    )
}

pub(crate) fn bind(source: &str, target: &str, options: &[&str]) -> Step {
    bind_of(source, target, options, false, Propagation::Slave)
}

pub(crate) fn bind_of(
    source: &str,
    target: &str,
    options: &[&str],
    recursive: bool,
    propagation: Propagation,
) -> Step {
    mount_step(
        What::Bind { recursive },
        source,
        target,
        texts(options),
        propagation,
    )
}

/// Makes what is mounted at `path` shared, as the root of most systems is.
pub(crate) fn share(path: &Path) {
    mount_change(path, MountPropagationFlags::SHARED).unwrap();
}

// --- mount programs ------------------------------------------------------

/// Settings under which every mount goes through a shell script.
pub(crate) fn scripted(scratch: &Scratch, script: &str, deadline: Duration) -> Settings {
    let mount = scratch.program("bin/mount", &format!("#!/bin/sh\n{script}\n"));
    let program = Program {
        mount: mount.into(),
        umount: None,
    };
    Settings {
        program: Some(program),
        deadline,
        ..Settings::default()
    }
}

/// Whether a `sleep` is left in this mount namespace.
pub(crate) fn sleeping_in_this_namespace() -> bool {
    let namespace = |proc: &Path| fs::read_link(proc.join("ns/mnt")).ok();
    let ours = namespace(Path::new("/proc/self"));
    let asleep = |proc: &Path| {
        fs::read_to_string(proc.join("stat"))
            .is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z "))
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.into_iter()
        .any(|entry| asleep(&entry.path()) && namespace(&entry.path()) == ours)
}

/// A file system that takes no writes until this is dropped.
pub(crate) struct Frozen(String);

impl Frozen {
    pub(crate) fn new(path: &str) -> Self {
        assert!(
            Command::new("fsfreeze")
                .args(["-f", path])
                .status()
                .unwrap()
                .success()
        );
        Self(path.into())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").args(["-u", &self.0]).status();
    }
}

/// A process that has a file mapped into memory.
pub(crate) fn python_mapping(path: &str) -> Child {
    let script = "import mmap,sys,time\n\
        f=open(sys.argv[1],'w+b'); f.write(b'x'*4096); f.flush()\n\
        m=mmap.mmap(f.fileno(),4096); f.close()\n\
        time.sleep(600)";
    Command::new("python3")
        .args(["-c", script, path])
        .spawn()
        .unwrap()
}

// --- images --------------------------------------------------------------

/// A kind of file system image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) fstype: &'static str,
    /// Mounted read-only whatever the options.
    pub(crate) read_only: bool,
    /// Made with a file `name` in it.
    pub(crate) filled: bool,
    megabytes: u64,
    /// Command line; IMAGE and DIRECTORY stand for themselves.
    make: &'static str,
}

pub(crate) const EXT4: Kind = writable("ext4", 16, "mkfs.ext4 -q IMAGE");
pub(crate) const SQUASHFS: Kind =
    filled("squashfs", "mksquashfs DIRECTORY IMAGE -quiet -no-progress");

pub(crate) const KINDS: [Kind; 9] = [
    EXT4,
    writable("ext3", 16, "mkfs.ext3 -q IMAGE"),
    writable("ext2", 16, "mkfs.ext2 -q IMAGE"),
    writable("xfs", 320, "mkfs.xfs -q IMAGE"),
    writable("btrfs", 128, "mkfs.btrfs -q IMAGE"),
    writable("vfat", 16, "mkfs.vfat IMAGE"),
    SQUASHFS,
    filled("iso9660", "xorrisofs -quiet -R -o IMAGE DIRECTORY"),
    filled("erofs", "mkfs.erofs --quiet IMAGE DIRECTORY"),
];

const fn writable(fstype: &'static str, megabytes: u64, make: &'static str) -> Kind {
    Kind {
        fstype,
        read_only: false,
        filled: false,
        megabytes,
        make,
    }
}

const fn filled(fstype: &'static str, make: &'static str) -> Kind {
    Kind {
        fstype,
        read_only: true,
        filled: true,
        megabytes: 0,
        make,
    }
}

/// Makes an image; the file's path.
#[track_caller]
pub(crate) fn make_image(scratch: &Scratch, kind: Kind) -> String {
    let image = scratch.at(&format!("{}.img", kind.fstype));
    scratch.file("content/name", "text");
    if !kind.filled {
        fs::File::create(&image)
            .unwrap()
            .set_len(kind.megabytes << 20)
            .unwrap();
    }
    let words: Vec<_> = kind
        .make
        .split(' ')
        .map(|word| match word {
            "IMAGE" => image.clone(),
            "DIRECTORY" => scratch.at("content"),
            word => word.to_owned(),
        })
        .collect();
    let output = Command::new(&words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("{} must be installed: {e}", words[0]));
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    image
}

/// Whether the kernel has the type, asked after a mount of it was tried (which may load a module).
pub(crate) fn kernel_knows(fstype: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    known
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == fstype)
}

// --- a small automount ---------------------------------------------------

/// An autofs mount whose requests are answered by hand; this process's group is its daemon's.
pub(crate) struct Autofs {
    pipe: RequestPipe,
    point: AttachedPoint,
}

pub(crate) fn autofs_mount(path: &str, kind: PointKind) -> Autofs {
    let pipe = RequestPipe::new().unwrap();
    let point = PreparedPoint::new(kind, &PointOptions::default(), pipe.writer()).unwrap();
    Autofs {
        point: point.attach(path.as_ref()).unwrap(),
        pipe,
    }
}

impl Autofs {
    /// Waits for one request, does `work` and answers that all is ready.
    pub(crate) fn serve_once(self, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let mut packet = None;
            wait_until("a request", Duration::from_secs(20), || {
                packet = self.pipe.read().unwrap();
                packet.is_some()
            });
            work();
            let root = self.point.root().unwrap();
            Control::open()
                .unwrap()
                .ready(root, packet.unwrap().token)
                .unwrap();
        })
    }
}

// --- doing steps ---------------------------------------------------------

pub(crate) struct NoTriggers;

impl Triggers for NoTriggers {
    fn install(&self, _: &TriggerSpec) -> Result<(), Failure> {
        Err(Failure::new(38, "this test has no triggers"))
    }
    fn remove(&self, _: &TriggerSpec) -> Result<(), Failure> {
        Err(Failure::new(38, "this test has no triggers"))
    }
}

pub(crate) fn trigger(path: &str) -> TriggerSpec {
    TriggerSpec {
        id: TriggerId(1),
        kind: TriggerKind::Offset,
        path: path.into(),
        source: "map".into(),
        timeout: 0,
        strict_expire: false,
        mode: None,
        propagation: Propagation::Slave,
    }
}

pub(crate) fn required(steps: impl IntoIterator<Item = Step>) -> Vec<Planned> {
    steps
        .into_iter()
        .map(|step| Planned {
            step,
            required: true,
        })
        .collect()
}

pub(crate) fn run(steps: &[Step]) -> Outcome {
    perform(&required(steps.to_vec()), &NoTriggers, &Settings::default())
}

#[track_caller]
pub(crate) fn mounted(step: &Step) {
    let outcome = run(std::slice::from_ref(step));
    assert_eq!(outcome.failed, None, "{step:?}");
    assert!(!outcome.done[0].helper, "{step:?} should not need a helper");
}

#[track_caller]
pub(crate) fn failed(step: &Step) -> Failure {
    run(std::slice::from_ref(step))
        .failed
        .unwrap_or_else(|| panic!("{step:?} should fail"))
}

#[track_caller]
pub(crate) fn unmounted(target: &str, helper: bool) {
    let step = Step::Unmount {
        target: target.into(),
        helper,
    };
    assert_eq!(run(&[step]).failed, None);
}
