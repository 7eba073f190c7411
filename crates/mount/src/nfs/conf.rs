//! The administrator's defaults for NFS mounts, which mount.nfs reads: nfsmount.conf(5).
//!
//! They are not read here. Where there are any, mount.nfs mounts, so that they hold.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::limits;

/// Where they are: files, and directories of files whose names end in `.conf`.
const FILES: [&str; 2] = ["/etc/nfsmount.conf", "/usr/etc/nfsmount.conf"];
const DIRECTORIES: [&str; 2] = ["/etc/nfsmount.conf.d", "/usr/etc/nfsmount.conf.d"];

/// Whether any default is set on this machine.
pub(super) fn is_any() -> bool {
    FILES.iter().any(|file| sets_any(Path::new(file)))
        || DIRECTORIES
            .iter()
            .any(|directory| any_in(Path::new(directory)))
}

fn any_in(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("conf")))
        .any(|path| sets_any(&path))
}

/// Whether a file sets something. One that cannot be read, or is longer than anybody writes, may.
fn sets_any(file: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(file)
        .and_then(|file| file.take(limits::CONFIGURATION + 1).read_to_end(&mut text));
    match read {
        Ok(_) => text.len() as u64 > limits::CONFIGURATION || has_setting(&text),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Whether a text has a line that is neither empty, nor a remark, nor a section's name.
fn has_setting(text: &[u8]) -> bool {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines
        .into_iter()
        .any(|line| line.first().is_some_and(|byte| !b"#;[".contains(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_and_empty_sections_set_nothing() {
        for (text, sets) in [
            ("", false),
            ("# a\n\n[ NFSMount_Global_Options ]\n  # Proto=tcp\n", false),
            ("; x\n", false),
            ("[ NFSMount_Global_Options ]\nNconnect=4\n", true),
            ("  Background=True", true),
        ] {
            assert_eq!(has_setting(text.as_bytes()), sets, "{text:?}");
        }
    }

    #[test]
    fn files_of_both_kinds_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(!sets_any(&path("none")));
        assert!(!any_in(&path("none")));
        std::fs::write(path("a.txt"), "Soft=True").unwrap();
        assert!(!any_in(directory.path()));
        std::fs::write(path("a.conf"), "#Soft=True").unwrap();
        assert!(!any_in(directory.path()));
        std::fs::write(path("b.conf"), "Soft=True").unwrap();
        assert!(any_in(directory.path()));
    }

    #[test]
    fn a_file_longer_than_the_limit_may_set_anything() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("long");
        let limit = usize::try_from(limits::CONFIGURATION).unwrap();
        std::fs::write(&file, "#".repeat(limit)).unwrap();
        assert!(!sets_any(&file));
        std::fs::write(&file, "#".repeat(limit + 1)).unwrap();
        assert!(sets_any(&file));
    }
}
