//! A recorded case: files, hosts and steps, and what autofs made of each step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One saved case (the format is described in oracle/README.md).
pub(crate) struct Case {
    pub(crate) name: String,
    spec: Value,
    /// What autofs made of each step; the first is the start.
    pub(crate) outcomes: Vec<Outcome>,
}

/// What became of one step.
pub(crate) struct Outcome {
    /// `open /m/a`
    pub(crate) step: String,
    /// `ok`, `ENOENT`, …
    pub(crate) status: String,
    /// The mount commands; those that failed end in ` (failed)`.
    pub(crate) mounts: Vec<String>,
    /// New triggers: `offset /m/a/x`.
    pub(crate) triggers: Vec<String>,
}

/// Where the cases lie in the repository.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../oracle/cases")
}

/// All cases, by name.
pub(crate) fn load_all() -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory())
        .expect("oracle/cases is part of the repository")
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    paths.sort();
    paths.iter().filter_map(|path| Case::load(path)).collect()
}

impl Case {
    /// Reads a case; `None` when nothing was recorded for it.
    fn load(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).unwrap();
        let mut saved: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let outcomes = saved["autofs"]
            .as_array()?
            .iter()
            .map(Outcome::new)
            .collect();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Some(Self {
            name,
            spec: saved["case"].take(),
            outcomes,
        })
    }

    /// The steps as they are written: a path, or an object with `op`.
    pub(crate) fn steps(&self) -> &[Value] {
        self.spec["steps"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Arguments of the daemon.
    pub(crate) fn args(&self) -> Vec<&str> {
        let args = self.spec["args"].as_array();
        args.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// The client's name.
    pub(crate) fn hostname(&self) -> &str {
        self.spec["hostname"]
            .as_str()
            .unwrap_or("client1.example.org")
    }

    /// Path of the master map.
    pub(crate) fn master(&self) -> &str {
        self.spec["master"].as_str().unwrap_or("/etc/auto.master")
    }

    /// What the name servers know of `host`: `None` when it does not exist.
    pub(crate) fn host(&self, host: &str) -> Option<HostSpec> {
        let hosts = self.spec["hosts"].as_object()?;
        let own = hosts.iter().find(|(name, spec)| {
            let aliases = spec["alias"].as_array().into_iter().flatten();
            name.eq_ignore_ascii_case(host)
                || aliases
                    .into_iter()
                    .any(|alias| alias.as_str() == Some(host))
        });
        match own {
            Some((_, spec)) => Some(HostSpec::new(spec)),
            None => hosts.get("*").map(|_| HostSpec::anywhere()),
        }
    }

    /// The text of a file; `None` when it is not among the case's files.
    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        match &self.spec["files"][path]["symlink"] {
            Value::String(to) => self.file(to),
            _ => contents(self.spec["files"].get(path)?),
        }
    }

    /// Whether a file has the execute bit: its output cannot be had without running it.
    pub(crate) fn is_program(&self, path: &str) -> bool {
        self.spec["files"][path]["mode"]
            .as_str()
            .is_some_and(|mode| mode.contains('7'))
    }
}

/// The bytes of a file given as text, as lines, or as an object.
fn contents(spec: &Value) -> Option<Vec<u8>> {
    match spec {
        Value::String(text) => Some(bytes(text)),
        Value::Array(lines) => Some(
            lines
                .iter()
                .flat_map(|line| bytes(&format!("{}\n", line.as_str().unwrap())))
                .collect(),
        ),
        Value::Object(object) => match object.get("base64") {
            Some(encoded) => Some(base64(encoded.as_str()?)),
            None if object.contains_key("repeat") => Some(repeated(&object["repeat"])),
            None if object.contains_key("pieces") => Some(joined(&object["pieces"])),
            None => contents(object.get("text")?),
        },
        _ => None,
    }
}

/// Templates and the numbers to put into them.
fn repeated(spec: &Value) -> Vec<u8> {
    let mut text = String::new();
    for pair in spec.as_array().into_iter().flatten() {
        let (template, count) = (pair[0].as_str().unwrap(), pair[1].as_u64().unwrap());
        (0..count).for_each(|number| text += &template.replace("%d", &number.to_string()));
    }
    text.into_bytes()
}

/// Pieces of text and how often each is repeated.
fn joined(spec: &Value) -> Vec<u8> {
    let pieces = spec.as_array().into_iter().flatten();
    let text = pieces.flat_map(|piece| {
        let count = piece[1].as_u64().unwrap();
        piece[0]
            .as_str()
            .unwrap()
            .repeat(count.try_into().unwrap())
            .into_bytes()
    });
    text.collect()
}

/// JSON text as the file's bytes.
fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.bytes() {
        let Some(value) = LETTERS.iter().position(|other| *other == letter) else {
            break;
        };
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

impl Outcome {
    fn new(step: &Value) -> Self {
        let list = |name: &str| -> Vec<String> {
            let list = step[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(String::from).collect()
        };
        let text = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
        Self {
            step: text("step"),
            status: text("status"),
            mounts: list("mounts"),
            // Their options are the engine's business.
            triggers: list("autofs")
                .iter()
                .map(|text| kind_and_path(text))
                .collect(),
        }
    }
}

/// `offset /m/a b` of `offset /m/a b timeout=300`.
fn kind_and_path(text: &str) -> String {
    text.split(" timeout=")
        .next()
        .unwrap_or_default()
        .trim_end_matches(" strictexpire")
        .to_owned()
}

/// A fake server of a case.
pub(crate) struct HostSpec {
    pub(crate) addresses: Vec<String>,
    /// Whether it answers to everything at once, as autofs's probing asks.
    pub(crate) answers: bool,
}

impl HostSpec {
    fn new(spec: &Value) -> Self {
        let addresses = match &spec["addr"] {
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .map(String::from)
                .collect(),
            Value::String(one) => vec![one.clone()],
            _ => return Self::anywhere(),
        };
        let odd = [
            "unreachable",
            "dark",
            "refuse",
            "nfs",
            "proto",
            "portmap",
            "mountd",
        ];
        // The client's own address has no server.
        let own = addresses.iter().any(|address| address == "10.77.0.1");
        Self {
            addresses,
            answers: !own && odd.iter().all(|name| spec.get(*name).is_none()),
        }
    }

    fn anywhere() -> Self {
        Self {
            addresses: vec!["172.31.0.9".into()],
            answers: true,
        }
    }
}

/// Names of users and groups in the sandbox.
pub(crate) fn user(uid: u32) -> Option<(&'static str, &'static str, &'static str)> {
    BTreeMap::from([
        (0, ("root", "root", "/root")),
        (1, ("daemon", "daemon", "/usr/sbin")),
        (2, ("bin", "bin", "/bin")),
        (65_534, ("nobody", "nogroup", "/nonexistent")),
    ])
    .get(&uid)
    .copied()
}
