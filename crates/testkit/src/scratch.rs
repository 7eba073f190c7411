//! A file system for one test.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A tmpfs of its own on a new directory. Unmounted, with all that is mounted in it, and removed
/// when dropped.
#[derive(Debug)]
pub struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// For use inside [`in_private_namespace`](crate::in_private_namespace).
    ///
    /// # Panics
    /// It cannot be mounted.
    #[track_caller]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        mount(
            "scratch",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            None,
        )
        .expect("mounting a tmpfs needs root");
        Self { directory }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path below it, as text.
    pub fn at(&self, tail: &str) -> String {
        format!("{}/{tail}", self.path().display())
    }

    /// Makes a directory in it, with parents.
    ///
    /// # Panics
    /// It cannot be made.
    #[track_caller]
    pub fn directory(&self, tail: &str) -> String {
        let path = self.at(tail);
        std::fs::create_dir_all(&path).expect("making a directory");
        path
    }

    /// Writes a file in it, with the directories above it.
    ///
    /// # Panics
    /// It cannot be written.
    #[track_caller]
    pub fn file(&self, tail: &str, text: impl AsRef<[u8]>) -> String {
        let path = PathBuf::from(self.at(tail));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("making a directory");
        std::fs::write(&path, text).expect("writing a file");
        path.display().to_string()
    }

    /// Writes an executable file in it: a program of a test.
    ///
    /// # Panics
    /// It cannot be written.
    #[track_caller]
    pub fn program(&self, tail: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(tail, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("making a file executable");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
