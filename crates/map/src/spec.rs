//! Naming a map: `[type[,format]:]name`, as it stands in a master map, an include line or a
//! submount.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BStr, ByteSlice};

use piton_snapshot::Volumes;

use crate::key;
use crate::limits::HOSTS_MAP;
use crate::lookup::{MapSpec, MapType};
use crate::suggest::suggest;
use crate::text::Origin;

/// Why a word does not name a map: what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Stable name for the diagnostic.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// The types that a map's name may be prefixed with, and what each means.
pub(crate) fn map_type(word: &str) -> Option<MapType> {
    Some(match word {
        "file" => MapType::File,
        "program" | "exec" => MapType::Program,
        "hosts" => MapType::Hosts,
        "null" => MapType::Null,
        "passwd" => MapType::Passwd,
        "snapshot" => MapType::Snapshot,
        "yp" | "nis" | "nisplus" | "ldap" | "ldaps" | "sss" | "hesiod" | "userdir" | "userhome" => {
            MapType::Other(word.into())
        }
        _ => return None,
    })
}

/// The formats that may follow a type.
const FORMATS: [&str; 3] = ["sun", "amd", "hesiod"];

/// The types that are told to whoever writes another.
const TYPES: &str =
    "file, program, exec, yp, nis, nisplus, ldap, ldaps, sss, hesiod, hosts, snapshot";

/// What a writer probably meant by an unknown type.
fn meant(word: &str) -> String {
    match word.to_ascii_lowercase().as_str() {
        "files" => "did you mean `file:`?".into(),
        "sun" | "amd" => format!(
            "`{word}` is a format: write it after the type, as in \
            `file,{word}:`"
        ),
        "dir" => "`dir:` is for including a directory: `+dir:/path`".into(),
        lower if lower != word && map_type(lower).is_some() => {
            format!("types are written in lower case: `{lower}:`")
        }
        _ => {
            let known = TYPES.split(", ").map(str::as_bytes);
            match suggest(word.as_bytes(), known) {
                Some(near) => format!("did you mean {}:? the types are {TYPES}", near.as_bstr()),
                None => format!("the types are {TYPES}"),
            }
        }
    }
}

/// Reads a type with an optional format, such as `file` or `exec,sun`.
///
/// # Errors
/// [`SpecError`] for an unknown type or format.
pub(crate) fn type_and_format(word: &str) -> Result<(MapType, Option<Arc<str>>), SpecError> {
    let (kind, format) = match word.split_once(',') {
        Some((kind, format)) => (kind, Some(format)),
        None => (word, None),
    };
    let Some(map_type) = map_type(kind) else {
        return Err(SpecError {
            code: "unknown-map-type",
            message: format!("there is no map type `{kind}`"),
            help: meant(kind),
        });
    };
    match format {
        Some(format) if !FORMATS.contains(&format) => Err(SpecError {
            code: "unknown-map-format",
            message: format!("there is no map format `{format}`"),
            help: "the formats are sun, amd and hesiod; without one it is sun".into(),
        }),
        format => Ok((map_type, format.map(Arc::from))),
    }
}

/// The text before the first colon, if it can be a type at all.
fn prefix(word: &[u8]) -> Option<(&str, &[u8])> {
    let (before, after) = word.split_once_str(b":")?;
    let looks_like_type = !before.is_empty()
        && before
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || *byte == b',');
    looks_like_type.then(|| (before.to_str().unwrap_or_default(), after))
}

/// Reads one word, escapes still in it, as the name of a map.
///
/// # Errors
/// [`SpecError`] says what is wrong with it.
pub fn parse(word: &BStr, origin: Option<Origin>) -> Result<MapSpec, SpecError> {
    let special = |kind| Ok(spec(Some(kind), None, word, origin.clone()));
    match word.as_bytes() {
        b"-hosts" => return special(MapType::Hosts),
        b"-null" => return special(MapType::Null),
        b"-passwd" => return special(MapType::Passwd),
        other if other.starts_with(b"-") => return Err(unknown_special(word)),
        other if other.contains(&b'"') => return Err(quoted()),
        // Two slashes are autofs's old way to name an LDAP server.
        other if other.starts_with(b"//") => return special(MapType::Other("ldap".into())),
        _ => {}
    }
    let (kind, format, name) = match prefix(word) {
        Some((before, name)) => {
            let (kind, format) = type_and_format(before)?;
            (Some(kind), format, name)
        }
        None => (None, None, word.as_bytes()),
    };
    if name.is_empty() && kind != Some(MapType::Hosts) {
        return Err(SpecError {
            code: "map-without-name",
            message: "the map has a type but no name".into(),
            help: "write the name directly after the colon".into(),
        });
    }
    let spec = spec(kind, format, name.as_bstr(), origin);
    match &spec.kind {
        Some(MapType::Snapshot) => snapshots(spec),
        _ => Ok(spec),
    }
}

/// A map of snapshots of which entries can be made.
fn snapshots(spec: MapSpec) -> Result<MapSpec, SpecError> {
    match Volumes::parse(spec.name.as_bstr()) {
        Ok(_) => Ok(spec),
        Err(invalid) => Err(SpecError {
            code: invalid.code,
            message: invalid.message,
            help: invalid.help,
        }),
    }
}

/// A map's name with escapes resolved. `-hosts` has one name, however it is written.
pub(crate) fn spec(
    kind: Option<MapType>,
    format: Option<Arc<str>>,
    written: &BStr,
    origin: Option<Origin>,
) -> MapSpec {
    let name = match (&kind, written.as_bytes()) {
        (Some(MapType::Hosts), b"" | b"hosts" | b"hosts:") => HOSTS_MAP.into(),
        _ => key::unquote(written).into_owned(),
    };
    MapSpec {
        kind,
        format,
        name,
        arguments: Vec::new(),
        origin,
    }
}

/// The error for `-something` that is no built-in map.
fn unknown_special(word: &BStr) -> SpecError {
    SpecError {
        code: "unknown-special-map",
        message: format!("there is no built-in map `{word}`"),
        help: match word.as_bytes() {
            b"-media" => {
                "this is FreeBSD's map of removable media; write a map with entries such as \
                 `usb -fstype=auto,nosuid,nodev :/dev/sdb1`"
            }
            b"-noauto" | b"-fstab" | b"-static" => {
                "this map of FreeBSD or macOS stands for lines of fstab; write them as a direct map"
            }
            b"-fedfs" | b"-xfn" => "this map of Solaris has no equal here; remove the line",
            _ => "the built-in maps are -hosts, -null and -passwd; options stand after the map",
        }
        .to_owned(),
    }
}

/// The error for quotes around a name.
fn quoted() -> SpecError {
    SpecError {
        code: "quoted-map-name",
        message: "a map's name cannot be quoted".into(),
        help: "write a backslash before each blank of the name".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(word: &str) -> MapSpec {
        parse(word.into(), None).unwrap()
    }

    #[test]
    fn types_and_formats_are_split_off() {
        assert_eq!(parsed("/etc/a:b").kind, None);
        assert_eq!(parsed("/etc/a:b").name, "/etc/a:b");
        assert_eq!(parsed("file:/etc/a").kind, Some(MapType::File));
        assert_eq!(parsed("exec,sun:/etc/a").format.as_deref(), Some("sun"));
        assert_eq!(parsed("auto.home").kind, None);
        assert_eq!(parsed("auto.x:y").name, "auto.x:y");
        assert_eq!(parsed("ldap:srv:ou=x").name, "srv:ou=x");
        assert_eq!(parsed("-hosts").kind, Some(MapType::Hosts));
        assert_eq!(parsed("hosts:"), parsed("-hosts"));
        assert_eq!(parsed("hosts:fd00::1/a").name, "fd00::1/a");
        assert_eq!(parsed("snapshot:lvm,vg=a").kind, Some(MapType::Snapshot));
        assert_eq!(parsed("//srv/dn").kind, Some(MapType::Other("ldap".into())));
        assert_eq!(parsed("/etc/auto\\ q").name, "/etc/auto q");
    }

    #[test]
    fn what_is_no_map_is_refused_with_advice() {
        for (word, code) in [
            ("FILE:/etc/a", "unknown-map-type"),
            ("files:a", "unknown-map-type"),
            ("sun:/etc/a", "unknown-map-type"),
            ("dir:/etc/a", "unknown-map-type"),
            ("file,foo:/etc/a", "unknown-map-format"),
            ("-fedfs", "unknown-special-map"),
            ("\"/etc/a\"", "quoted-map-name"),
            ("file:", "map-without-name"),
            ("snapshot:", "map-without-name"),
            ("snapshot:lvm", "snapshot-without-place"),
            ("snapshot:lvm,vg=a,kep=3", "unknown-snapshot-option"),
        ] {
            let error = parse(word.into(), None).unwrap_err();
            assert_eq!(error.code, code, "{word}");
            assert!(!error.help.is_empty());
        }
    }
}
