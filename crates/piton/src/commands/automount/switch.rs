//! Which automounter the command `automount` is: the variable AUTOFS in a file of
//! settings, as a shell would read it. 1, or nothing: the one with the kernel's autofs. 0: the older
//! one.

use std::path::Path;

use bstr::{BStr, ByteSlice};
use piton_engine::cause::Cause;
use piton_map::lookup::Miss;
use piton_source::file;

/// Where the variable is looked for, in this order; the first file that has it counts.
pub(super) const FILES: [&str; 2] = ["/etc/default/piton", "/etc/rc.config.d/nfsconf"];

/// Bytes of such a file that are read: they have a few lines.
const MOST_BYTES: u64 = 64 << 10;

/// Which automounter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// With the kernel's autofs.
    Autofs,
    /// The one before it.
    Older,
}

/// What the files of this machine say.
///
/// # Errors
/// A value that is neither, for people.
pub(super) fn read(files: &[&Path]) -> Result<Engine, String> {
    for path in files {
        let text = match file::read_text(path, &path.to_string_lossy().into(), MOST_BYTES) {
            Ok(text) => text.fragment.text,
            Err(Miss::NoSuchMap(_)) => continue,
            Err(miss) => return Err(Cause::Lookup(miss).to_string()),
        };
        let Some(value) = variable(text.as_bstr(), "AUTOFS") else {
            continue;
        };
        return match value.as_bytes() {
            b"1" => Ok(Engine::Autofs),
            b"0" => Ok(Engine::Older),
            _ => Err(format!(
                "{}: AUTOFS is `{value}`, where 1 (with the kernel's autofs) or 0 (the older \
                 automounter) is expected",
                path.display()
            )),
        };
    }
    Ok(Engine::Autofs)
}

/// The value of the last assignment to `name`, without quotes.
fn variable<'t>(text: &'t BStr, name: &str) -> Option<&'t BStr> {
    let value = |line: &'t [u8]| {
        let line = line.trim_with(|c| c.is_ascii_whitespace());
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        let value = line
            .trim_start_with(|c| c.is_ascii_whitespace())
            .strip_prefix(name.as_bytes())?
            .strip_prefix(b"=")?;
        let value = match value.first() {
            Some(quote @ (b'"' | b'\'')) => value[1..].split(|byte| byte == quote).next(),
            _ => value
                .split(|byte| byte.is_ascii_whitespace() || b";#".contains(byte))
                .next(),
        };
        value.map(ByteSlice::as_bstr)
    };
    text.lines().filter_map(value).next_back()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn of(text: &str) -> Result<Engine, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("writing");
        read(&[Path::new("/no/such/file"), file.path()])
    }

    #[test]
    fn r_101_r_102_one_switch_selects_the_engine_and_autofs_is_what_is_not_said() {
        for text in [
            "",
            "NFS_CLIENT=1\n",
            "#AUTOFS=0\n",
            "XAUTOFS=0\n",
            "AUTOFS=1\n",
        ] {
            assert_eq!(of(text), Ok(Engine::Autofs), "{text}");
        }
        for text in [
            "AUTOFS=0\n",
            "AUTOFS=0",
            "  export AUTOFS=0 # the old one\n",
            "AUTOFS=\"0\"\n",
            "AUTOFS='0'; x=y\n",
            "AUTOFS=1\nAUTOFS=0\n",
        ] {
            assert_eq!(of(text), Ok(Engine::Older), "{text}");
        }
        for text in ["AUTOFS=2\n", "AUTOFS=\n", "AUTOFS=yes\n"] {
            assert!(of(text).unwrap_err().contains("AUTOFS"), "{text}");
        }
    }

    #[test]
    fn the_first_file_that_has_it_counts() {
        let mut first = tempfile::NamedTempFile::new().expect("a file");
        let mut second = tempfile::NamedTempFile::new().expect("a file");
        second.write_all(b"AUTOFS=0\n").expect("writing");
        let files = [first.path().to_owned(), second.path().to_owned()];
        let files = [files[0].as_path(), &files[1]];
        assert_eq!(read(&files), Ok(Engine::Older));
        first.write_all(b"AUTOFS=1\n").expect("writing");
        assert_eq!(read(&files), Ok(Engine::Autofs));
    }
}
