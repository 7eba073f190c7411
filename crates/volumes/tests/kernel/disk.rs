//! File systems on loop devices, for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use piton_snapshot::{Kind, Name, Origin, Timestamp};
use piton_testkit::Scratch;
use piton_volumes::{Show, Turn, View};

/// Mebibytes: XFS makes none smaller than 300.
const SIZE: u64 = 320;

/// A mounted file system in a file, with a directory for views beside it.
pub(crate) struct Disk {
    scratch: Scratch,
}

impl Disk {
    /// A new one of this type.
    pub(crate) fn new(fstype: &str) -> Self {
        let disk = Self {
            scratch: Scratch::new(),
        };
        disk.image(fstype, &disk.scratch.path().join("image"));
        disk.scratch.directory("disk");
        let (image, point) = (disk.scratch.at("image"), disk.scratch.at("disk"));
        run("mount", &["-o", "loop", &image, &point]);
        disk
    }

    /// Makes an image of a file system.
    pub(crate) fn image(&self, fstype: &str, path: &Path) {
        let file = std::fs::File::create(path).expect("a file");
        file.set_len(SIZE << 20).expect("room");
        let path = path.to_str().expect("a path of text");
        match fstype {
            "ext4" => run("mkfs.ext4", &["-q", "-F", path]),
            "xfs" => run("mkfs.xfs", &["-q", "-f", path]),
            "btrfs" => run("mkfs.btrfs", &["-q", "-f", path]),
            other => panic!("no disk is made of {other}"),
        };
    }

    /// A path on it.
    pub(crate) fn at(&self, tail: &str) -> PathBuf {
        self.scratch.path().join("disk").join(tail)
    }

    /// Writes a file on it.
    pub(crate) fn write(&self, tail: &str, text: &str) {
        let path = self.at(tail);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    /// A path on it as an origin.
    pub(crate) fn origin(&self, kind: Kind, tail: &str) -> Origin {
        let path = self.scratch.path().join(Path::new("disk").join(tail));
        let path: PathBuf = path.components().collect();
        Origin::new(kind, path.to_str().expect("a path of text").into()).expect("an origin")
    }

    /// A directory to mount on, which is not on the disk.
    pub(crate) fn point(&self, name: &str) -> String {
        self.scratch.directory(&format!("points/{name}"))
    }

    /// Writes an executable file, which is not on the disk.
    pub(crate) fn program(&self, name: &str, text: &str) -> String {
        self.scratch.program(&format!("programs/{name}"), text)
    }

    /// Mounts a view.
    pub(crate) fn mount(&self, view: &View, name: &str) -> PathBuf {
        let point = self.point(name);
        let options: Vec<String> = view.options.iter().map(ToString::to_string).collect();
        let options = options.join(",");
        let source = view.source.to_string();
        match view.show {
            Show::Directory => {
                let options = format!("bind,{options}");
                run("mount", &["-o", &options, &source, &point])
            }
            Show::FileSystem(fstype) => {
                run("mount", &["-t", fstype, "-o", &options, &source, &point])
            }
        };
        point.into()
    }
}

/// Runs a program that must succeed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
    output
}

/// A name of this second.
pub(crate) fn name(seconds: u64) -> Name {
    Name {
        taken: Timestamp(1_795_316_415_000 + seconds * 1_000),
    }
}

/// Time enough.
pub(crate) fn turn() -> Turn<'static> {
    Turn::within(Duration::from_secs(60))
}

/// The text of a file.
#[track_caller]
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A group of one.
pub(crate) fn one(origin: &Origin) -> &[Origin] {
    std::slice::from_ref(origin)
}

/// Makes a subvolume.
pub(crate) fn subvolume(disk: &Disk, tail: &str) {
    let path = disk.at(tail);
    run(
        "btrfs",
        &["-q", "subvolume", "create", path.to_str().expect("text")],
    );
}
