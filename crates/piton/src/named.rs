//! A master map named on a command line: the same for the daemon as for `explain` and `check`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The file that is meant, if one is: any path with a slash, or a file of the current directory. Any
/// other word is a name as in a master map, and is looked for as nsswitch.conf says.
pub(crate) fn file(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_path = name.as_encoded_bytes().contains(&b'/') || (path.exists() && !path.is_dir());
    is_path.then(|| std::path::absolute(path).ok()).flatten()
}

/// The daemon's words with such a file named in full: its successors begin when there may be another
/// file in its place, or none.
pub(crate) fn in_full(words: &[OsString], master: Option<&OsStr>) -> Vec<OsString> {
    let relative = master.filter(|name| !Path::new(name).is_absolute());
    let Some(file) = relative.and_then(file) else {
        return words.to_vec();
    };
    // After `--` there is the map's name and nothing else.
    let options = words.iter().take_while(|word| *word != "--");
    let mut full: Vec<OsString> = options.cloned().collect();
    full.extend(["--master".into(), file.into_os_string()]);
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file_and_a_word_is_one_if_it_is_there() {
        let here = std::env::current_dir().unwrap();
        for (name, tail) in [
            ("./auto.x", Some("auto.x")),
            ("maps/auto.x", Some("maps/auto.x")),
            ("Cargo.toml", Some("Cargo.toml")),
            ("auto.x", None),
            // A directory is no map.
            ("src", None),
        ] {
            assert_eq!(
                file(name.as_ref()),
                tail.map(|tail| here.join(tail)),
                "{name}"
            );
        }
        assert_eq!(file("/etc/auto.x".as_ref()), Some("/etc/auto.x".into()));
    }

    #[test]
    fn a_file_is_named_in_full_wherever_it_stands() {
        let full = |words: &[&str], master: &str| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            in_full(&words, Some(master.as_ref()))
        };
        let file = std::env::current_dir().unwrap().join("Cargo.toml");
        let file = file.to_str().unwrap();
        assert_eq!(
            full(&["-v", "Cargo.toml", "-t9"], "Cargo.toml"),
            ["-v", "Cargo.toml", "-t9", "--master", file]
        );
        assert_eq!(
            full(&["-v", "--", "Cargo.toml"], "Cargo.toml"),
            ["-v", "--master", file]
        );
        assert_eq!(full(&["auto.x"], "auto.x"), ["auto.x"]);
        assert_eq!(full(&["/a/b"], "/a/b"), ["/a/b"]);
        assert_eq!(in_full(&[], None), [""; 0]);
    }
}
