//! Golden cases: a file with map texts, commands, and exactly what these print.
//!
//! ```text
//! What the case is about, for readers.
//! === /etc/auto_master
//! /home auto_home
//! === /etc/auto.prog mode=0755
//! === /etc/auto_odd escaped
//! key\tserver:/path\r
//! === /home/ann/
//! === $ piton explain /home/ann
//! what it prints on standard output and standard error
//! [exit 0]
//! ```
//! A path makes a file (with a final slash: a directory) below a fresh directory, which the
//! command is given as `--root`; `escaped` texts have `\r`, `\t`, `\\` and `\xNN`. In expected
//! output `{HOST}` and `{ARCH}` stand for this machine's. With `UPDATE=1` in the environment
//! the files are rewritten with what is printed now: read the difference before committing it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs every case of `tests/data/FOLDER`, and fails with all differences.
pub(crate) fn run_all(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(folder);
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("case")))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    let failures: String = cases.iter().filter_map(|case| run(case)).collect();
    assert!(failures.is_empty(), "{failures}");
}

/// Runs one case; returns what is wrong.
fn run(case: &Path) -> Option<String> {
    let text = fs::read_to_string(case).unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut now = String::new();
    let mut wrong = String::new();
    for (head, body) in sections(&text) {
        let Some(head) = head else {
            now.push_str(body);
            continue;
        };
        writeln!(now, "=== {head}").unwrap();
        let Some(command) = head.strip_prefix("$ piton ") else {
            make(root.path(), head, body);
            now.push_str(body);
            continue;
        };
        let got = output(root.path(), command);
        let expected = body
            .replace("{HOST}", &uname("-n"))
            .replace("{ARCH}", &uname("-m"));
        if got != expected.trim_end_matches('\n') {
            let name = case.file_name().unwrap().to_string_lossy();
            writeln!(
                wrong,
                "{name}: piton {command}\n--- expected\n{expected}--- got\n{got}\n"
            )
            .unwrap();
            writeln!(now, "{got}").unwrap();
        } else {
            now.push_str(body);
        }
    }
    if wrong.is_empty() {
        return None;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(case, now).unwrap();
        return None;
    }
    Some(wrong)
}

/// The parts of a case, each with its head line; the first has none.
fn sections(text: &str) -> Vec<(Option<&str>, &str)> {
    let mut parts = Vec::new();
    let (mut head, mut start, mut at) = (None, 0, 0);
    for line in text.split_inclusive('\n') {
        if let Some(next) = line.strip_prefix("=== ") {
            parts.push((head, &text[start..at]));
            head = Some(next.trim_end());
            start = at + line.len();
        }
        at += line.len();
    }
    parts.push((head, &text[start..]));
    parts
}

/// Makes a file or directory.
fn make(root: &Path, head: &str, body: &str) {
    let mut words = head.split(' ');
    let path = root.join(words.next().unwrap().trim_start_matches('/'));
    if head.ends_with('/') {
        return fs::create_dir_all(path).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (mut mode, mut bytes) = (0o644, body.as_bytes().to_vec());
    for word in words {
        match word.strip_prefix("mode=") {
            Some(octal) => mode = u32::from_str_radix(octal, 8).unwrap(),
            None => {
                assert_eq!(word, "escaped");
                bytes = unescape(body);
            }
        }
    }
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            None => break,
            Some(b'r') => bytes.push(b'\r'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            Some(other) => bytes.push(other),
        }
    }
    bytes
}

/// What a command prints, and how it ends.
fn output(root: &Path, command: &str) -> String {
    let mut words = command.split(' ');
    let result = Command::new(env!("CARGO_BIN_EXE_piton"))
        .arg(words.next().unwrap())
        .arg("--root")
        .arg(root)
        .args(words)
        .env_clear()
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&result.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&result.stderr));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let text = text.replace(&*root.to_string_lossy(), "{ROOT}");
    match result.status.code() {
        Some(code) => format!("{text}[exit {code}]"),
        None => format!("{text}[killed: {}]", result.status),
    }
}

fn uname(flag: &str) -> String {
    let output = Command::new("uname").arg(flag).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
