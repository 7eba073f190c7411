//! The recorded answers of autofs 5.1.8 (oracle/cases): the same mount points come out of the
//! same master maps, and the same keys are found in the same maps.
//!
//! What an entry then means, and what is mounted, is tested where that is decided. A difference
//! on purpose stands in oracle/expected-differences.toml; [`EXCEPTIONS`] has those that come from looking
//! only at names here.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bstr::{BStr, BString, ByteSlice};
use piton_map::entry::{EntryRequest, read as read_entry};
use piton_map::expand::Variables;
use piton_map::key::MapKind;
use piton_map::lookup::{Found, MapType, Miss};
use piton_map::requester::Requester;
use piton_source::cache::{Maps, Settings};
use piton_source::master::{self, MasterRequest, Site, SitePoint};
use piton_source::source::LookupContext;
use piton_testkit::Expected;
use serde_json::Value;

/// Beginnings of the names of the cases that are about finding lines.
const CASES: &[&str] = &[
    "browse",
    "change-",
    "direct-",
    "file-",
    "include-",
    "keys-",
    "line-",
    "master-",
    "program-",
    "quote-key",
    "wildcard-",
];

/// `(case, step or "*", why we answer otherwise)`.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("direct-failing", "open /d/a", "the key is found; its mount fails"),
    ("direct-nested-keys", "open /d/a/b", "the key is found; its trigger is a matter of mounting"),
    ("direct-parent", "*", "whether a mount point can be made is a matter of mounting"),
    ("include-missing", "start", "that an include cannot be read is told, not passed over"),
    ("keys-length", "*", "a key may have the 255 bytes that a name may have"),
    ("master-mount-on-file", "*", "whether a mount point can be made is a matter of mounting"),
];

/// Every variable has a value here: whether a key is found does not hang on it.
struct AnyVariable;

impl Variables for AnyVariable {
    fn value(&self, _name: &BStr) -> Option<std::borrow::Cow<'_, BStr>> {
        Some("value".as_bytes().as_bstr().into())
    }

    fn names(&self) -> Vec<std::borrow::Cow<'_, BStr>> {
        Vec::new()
    }
}

/// A case with its files in a directory of its own.
struct Machine {
    root: tempfile::TempDir,
    maps: Maps,
    case: Value,
}

impl Machine {
    fn new(case: &Value) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            root: Some(root.path().into()),
            ..Settings::default()
        };
        let machine = Self {
            root,
            maps: Maps::new(settings),
            case: case["case"].clone(),
        };
        std::fs::create_dir_all(machine.path("/etc")).unwrap();
        for (name, file) in machine.case["files"].as_object().unwrap() {
            machine.write(name, file);
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name.trim_start_matches('/'))
    }

    fn write(&self, name: &str, file: &Value) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = file.get("symlink") {
            return symlink(self.path(target.as_str().unwrap()), path).unwrap();
        }
        std::fs::write(&path, contents(file)).unwrap();
        if let Some(mode) = file.get("mode").and_then(Value::as_str) {
            let mode = u32::from_str_radix(mode, 8).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
    }

    fn site(&self) -> Option<Site> {
        let name = self.case["master"].as_str().unwrap_or("/etc/auto.master");
        master::read(&self.maps, &MasterRequest::named(name)).ok()
    }

    /// Does what a step does to files.
    fn change(&self, step: &Value) {
        let path = step["path"].as_str().map(|path| self.path(path));
        match (step["op"].as_str(), path) {
            (Some("write"), Some(path)) => {
                // As an editor has it: another file takes the place.
                let new = self.path("/etc/.new");
                std::fs::write(&new, contents(&step["contents"])).unwrap();
                if let Some(seconds) = step["mtime"].as_f64() {
                    let time = UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0));
                    std::fs::File::options()
                        .write(true)
                        .open(&new)
                        .unwrap()
                        .set_modified(time)
                        .unwrap();
                }
                std::fs::rename(new, path).unwrap();
            }
            (Some("remove"), Some(path)) => std::fs::remove_file(path).unwrap(),
            _ => {}
        }
    }

    fn context<T>(
        &self,
        site: &Site,
        point: &SitePoint,
        then: impl FnOnce(&LookupContext<'_>) -> T,
    ) -> T {
        then(&LookupContext {
            kind: point.kind,
            dialect: &site.dialect,
            requester: &Requester::default(),
            defines: &point.options.defines,
            mount_point: point.path.as_ref(),
            deadline: None,
        })
    }

    fn lookup(&self, site: &Site, point: &SitePoint, key: &BStr) -> Result<Found, Miss> {
        self.context(site, point, |context| {
            self.maps.lookup(&point.maps, key, context)
        })
    }

    fn keys(&self, site: &Site, point: &SitePoint) -> Vec<BString> {
        let listing = self.context(site, point, |context| self.maps.keys(&point.maps, context));
        listing.keys.into_iter().map(|listed| listed.key).collect()
    }

    /// The mount points in the words of the record.
    fn points(&self, site: &Site) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for point in &site.points {
            if point.kind == MapKind::Direct {
                for key in self.keys(site, point) {
                    if self.usable(site, point, key.as_ref(), key.as_ref()) {
                        all.insert(format!("direct {key}"));
                    }
                }
            } else if self.there(site, point) {
                all.insert(format!("indirect {}", point.path));
            }
        }
        all
    }

    /// Whether autofs mounts the point: it does unless the map is a file that is not there.
    /// Sources that this build lacks are left out of account.
    fn there(&self, site: &Site, point: &SitePoint) -> bool {
        let built_in = point
            .maps
            .iter()
            .any(|map| map.kind == Some(MapType::Hosts));
        let any = self.lookup(site, point, "a key that is nowhere".into());
        let lost = matches!(
            any,
            Err(Miss::NoSuchMap(_) | Miss::Unreadable(_) | Miss::NotAvailable(_))
        );
        built_in || !lost
    }

    /// Whether the line of `key` is there and is an entry.
    fn usable(&self, site: &Site, point: &SitePoint, key: &BStr, name: &BStr) -> bool {
        let Ok(found) = self.lookup(site, point, key) else {
            return false;
        };
        let reading = read_entry(&EntryRequest {
            found: &found,
            key: name,
            variables: &AnyVariable,
            point: &point.options,
            global: &[],
            append: true,
            dialect: &site.dialect,
        });
        reading.entry.is_some()
    }

    /// Whether there is an entry for `path`; `None` when that is no question of this test.
    fn finds(&self, site: &Site, path: &str) -> Option<bool> {
        let path = path.trim_end_matches("/.");
        let mut found = None;
        for point in site
            .points
            .iter()
            .filter(|point| point.kind == MapKind::Direct)
        {
            for key in self.keys(site, point) {
                if key == path {
                    return Some(self.usable(site, point, key.as_ref(), key.as_ref()));
                }
            }
        }
        for point in site
            .points
            .iter()
            .filter(|point| point.kind == MapKind::Indirect)
        {
            let mount_point = point.path.to_str().unwrap();
            let Some(rest) = path.strip_prefix(mount_point) else {
                continue;
            };
            match rest.strip_prefix('/') {
                None if rest.is_empty() => return Some(self.there(site, point)),
                Some(key) if !key.contains('/') => {
                    let key = key.as_bytes().as_bstr();
                    found = Some(self.usable(site, point, key, key));
                }
                _ => return None,
            }
        }
        found.or(Some(false))
    }
}

/// The bytes of a file of a case.
fn contents(file: &Value) -> Vec<u8> {
    match file {
        Value::Array(lines) => lines
            .iter()
            .flat_map(|line| format!("{}\n", line.as_str().unwrap()).into_bytes())
            .collect(),
        Value::String(text) => text.clone().into_bytes(),
        Value::Object(object) => {
            if let Some(text) = object.get("text") {
                return contents(text);
            }
            if let Some(encoded) = object.get("base64") {
                return base64(encoded.as_str().unwrap());
            }
            let mut all = String::new();
            if let Some(pieces) = object.get("pieces") {
                for piece in pieces.as_array().unwrap() {
                    let count = piece[1].as_u64().unwrap().try_into().unwrap();
                    all += &piece[0].as_str().unwrap().repeat(count);
                }
                return all.into_bytes();
            }
            for part in object["repeat"].as_array().unwrap() {
                for number in 0..part[1].as_u64().unwrap() {
                    all += &part[0].as_str().unwrap().replace("%d", &number.to_string());
                }
            }
            all.into_bytes()
        }
        other => panic!("{other}"),
    }
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text
        .bytes()
        .filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte))
        .flat_map(|value| (0..6).rev().map(move |bit| (value >> bit & 1) as u8))
        .collect();
    bits.chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit))
        .collect()
}

/// The cases of this test.
fn cases() -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../oracle/cases");
    let mut all: Vec<Value> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .filter(|case: &Value| CASES.iter().any(|begin| name(case).starts_with(begin)))
        .collect();
    all.sort_by(|one, other| name(one).cmp(name(other)));
    all
}

fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

/// The differences of one case: `(step, what)`.
fn differences(case: &Value) -> Vec<(String, String)> {
    let machine = Machine::new(case);
    let mut site = machine.site();
    let recorded = case["autofs"].as_array().unwrap();
    let mut all = Vec::new();
    if !case["case"]["files"].to_string().contains("repeat") {
        compare_points(&machine, site.as_ref(), &recorded[0], &mut all);
    }
    for (step, outcome) in case["case"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&recorded[1..])
    {
        machine.change(step);
        // Look-ups see changes of maps by themselves; the master map is read when asked to.
        if matches!(step["op"].as_str(), Some("signal" | "start")) {
            site = machine.site();
        }
        let path = match step["op"].as_str() {
            None => step.as_str(),
            Some("open") => step["path"].as_str(),
            Some(_) => None,
        };
        let (Some(path), Some(site)) = (path, &site) else {
            continue;
        };
        let Some(ours) = machine.finds(site, path) else {
            continue;
        };
        let theirs = outcome["status"] == "ok" || outcome.get("mounts").is_some();
        if ours != theirs {
            let label = outcome["step"].as_str().unwrap().to_owned();
            all.push((label, format!("found: {ours}, autofs: {theirs}")));
        }
    }
    all
}

/// Compares the mount points that there are at the start.
fn compare_points(
    machine: &Machine,
    site: Option<&Site>,
    start: &Value,
    all: &mut Vec<(String, String)>,
) {
    let none = Vec::new();
    let lines = start
        .get("autofs")
        .and_then(Value::as_array)
        .unwrap_or(&none);
    let theirs: BTreeSet<String> = lines
        .iter()
        .map(|line| {
            line.as_str()
                .unwrap()
                .split(" timeout=")
                .next()
                .unwrap()
                .replace(" strictexpire", "")
        })
        .collect();
    let ours = site.map(|site| machine.points(site)).unwrap_or_default();
    for extra in ours.difference(&theirs) {
        all.push(("start".into(), format!("{extra}: ours only")));
    }
    for missing in theirs.difference(&ours) {
        all.push(("start".into(), format!("{missing}: autofs only")));
    }
}

#[test]
fn the_same_mount_points_and_the_same_keys() {
    let excepted = |case: &str, step: &str| {
        EXCEPTIONS
            .iter()
            .position(|(name, at, _)| *name == case && (*at == "*" || *at == step))
    };
    let expected = Expected::load();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases", cases.len());
    for case in &cases {
        for (step, what) in differences(case) {
            if expected.has(name(case), &step) {
                continue;
            }
            match excepted(name(case), &step) {
                Some(number) => drop(used.insert(number)),
                None => wrong.push(format!(
                    "    (\"{}\", \"{step}\", \"\"), // {what}",
                    name(case)
                )),
            }
        }
    }
    for (number, (case, step, _)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&number) {
            wrong.push(format!(
                "{case}, {step}: listed, but there is no difference"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
