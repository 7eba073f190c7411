//! ZFS against a program that plays its tool: what it is asked for, word for word, and what is made
//! of its answers. The module itself cannot be had here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use piton_snapshot::{Health, Kind, Name, Origin, Timestamp};
use piton_volumes::{Error, Provider, Show, Turn, Zfs};

/// Keeps snapshots as lines `NAME<tab>MARK` of a file, as zfs does for one dataset each, and writes
/// down how it is called.
const PLAYER: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
for last; do :; done
case $1 in
list)
	case $last in tank/*) ;; *) echo "cannot open '$last': dataset does not exist" >&2; exit 1 ;; esac
	while IFS='	' read -r name mark; do
		case $name in "$last"@*) printf '%s\t8192\t%s\n' "$name" "$mark" ;; esac
	done <"$here/snapshots" ;;
get)
	shift 6
	for name; do
		case $name in
		tank) used=$(cat "$here/pool") ;;
		tank/*) used=150 ;;
		*) echo "cannot open '$name': dataset does not exist" >&2; exit 1 ;;
		esac
		printf "$name\ttype\t%s\n$name\tused\t$used\n$name\tavailable\t100\n" "$(cat "$here/type")"
	done ;;
snapshot)
	shift 3
	for name; do printf '%s\tyes\n' "$name" >>"$here/snapshots"; done ;;
destroy)
	if [ -e "$here/busy" ]; then echo "cannot destroy snapshot $last: dataset is busy" >&2; exit 1; fi
	grep -v "^$last	" "$here/snapshots" >"$here/new"
	mv "$here/new" "$here/snapshots" ;;
*) echo "unrecognized command '$1'" >&2; exit 2 ;;
esac
"#;

struct Rig {
    directory: tempfile::TempDir,
    zfs: Zfs,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("zfs");
        fs::write(&program, PLAYER).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let rig = Self {
            directory,
            zfs: Zfs { zfs: program },
        };
        fs::write(rig.at("snapshots"), "").unwrap();
        fs::write(rig.at("type"), "filesystem").unwrap();
        fs::write(rig.at("pool"), "900").unwrap();
        rig
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How it was called since the last look.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.at("calls")).unwrap_or_default();
        fs::write(self.at("calls"), "").unwrap();
        calls.lines().map(str::to_owned).collect()
    }
}

fn dataset(path: &str) -> Origin {
    Origin::new(Kind::Zfs, path.into()).unwrap()
}

fn name(seconds: u64) -> Name {
    Name {
        taken: Timestamp(1_795_316_415_000 + seconds * 1_000),
    }
}

fn turn() -> Turn<'static> {
    Turn::within(Duration::from_secs(60))
}

const LIST: &str = "list -H -p -t snapshot -d 1 -o name,used,org.piton:snapshot";

#[test]
fn a_group_is_made_by_one_command_and_removed_one_by_one() {
    let rig = Rig::new();
    let group = [dataset("tank/data"), dataset("tank/wal")];
    rig.zfs.create(&group, name(0), turn()).unwrap();
    let [data, wal] =
        ["data", "wal"].map(|it| format!("tank/{it}@{it}.piton.20261122T030015.000Z"));
    assert_eq!(
        rig.calls(),
        [format!("snapshot -o org.piton:snapshot=yes {data} {wal}")]
    );
    let found = rig.zfs.list(&group[0], turn()).unwrap();
    assert_eq!(rig.calls(), [format!("{LIST} tank/data")]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name, found[0].used), (name(0), Some(8192)));
    assert_eq!((found[0].health, found[0].busy), (Health::Good, false));
    let view = rig.zfs.view(&group[1], name(0), turn()).unwrap();
    assert_eq!(
        (view.source, view.show),
        (wal.into(), Show::FileSystem("zfs"))
    );
    assert_eq!(view.options, ["ro"]);
    rig.calls();
    rig.zfs.remove(&group[0], name(0), turn()).unwrap();
    assert_eq!(
        rig.calls(),
        [format!("{LIST} tank/data"), format!("destroy {data}")]
    );
    rig.zfs
        .remove(&group[0], name(0), turn())
        .expect("once more is no mistake");
    assert_eq!(rig.calls(), [format!("{LIST} tank/data")]);
}

#[test]
fn what_has_not_our_property_is_left_alone() {
    let rig = Rig::new();
    let origin = dataset("tank/data");
    let ours = name(1).of(&origin);
    fs::write(
        rig.at("snapshots"),
        format!("tank/data@daily\t-\ntank/data@{ours}\t-\n"),
    )
    .unwrap();
    assert_eq!(rig.zfs.list(&origin, turn()), Ok(vec![]));
    for error in [
        rig.zfs.remove(&origin, name(1), turn()).unwrap_err(),
        rig.zfs.view(&origin, name(1), turn()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    }
    assert!(!rig.calls().iter().any(|call| call.starts_with("destroy")));
}

#[test]
fn what_is_in_use_stays_as_zfs_says() {
    let rig = Rig::new();
    let origin = dataset("tank/data");
    rig.zfs
        .create(std::slice::from_ref(&origin), name(1), turn())
        .unwrap();
    fs::write(rig.at("busy"), "").unwrap();
    let error = rig.zfs.remove(&origin, name(1), turn()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
}

#[test]
fn states_and_mistakes_are_told() {
    let rig = Rig::new();
    let state = rig.zfs.inspect(&dataset("tank/data"), turn()).unwrap();
    assert_eq!((state.fill.percent, state.fill.free), (90, 100));
    assert_eq!(state.fill.place, "the pool tank");
    assert!(state.freezes && state.instant);
    assert_eq!(
        rig.calls(),
        ["get -H -p -o name,property,value used,available,type tank/data tank"]
    );
    let state = rig.zfs.inspect(&dataset("tank"), turn()).unwrap();
    assert_eq!(state.fill.percent, 90);
    assert_eq!(
        rig.calls(),
        ["get -H -p -o name,property,value used,available,type tank"]
    );
    // One with a quota in a pool that is nearly empty.
    fs::write(rig.at("pool"), "0").unwrap();
    let state = rig.zfs.inspect(&dataset("tank/data"), turn()).unwrap();
    assert_eq!(state.fill.percent, 60);
    assert_eq!(state.fill.place, "the dataset tank/data");
    fs::write(rig.at("type"), "volume").unwrap();
    let error = rig.zfs.inspect(&dataset("tank/data"), turn()).unwrap_err();
    assert!(error.to_string().contains("it is a volume"), "{error}");
    let error = rig.zfs.inspect(&dataset("pool/data"), turn()).unwrap_err();
    assert!(matches!(error, Error::Absent { .. }), "{error:?}");
    let group = [dataset("tank/data"), dataset("pool/data")];
    let error = rig.zfs.create(&group, name(1), turn()).unwrap_err();
    assert!(error.to_string().contains("not in the pool"), "{error}");
    fs::write(rig.at("snapshots"), "tank/data@a\ttoo\tmuch\n").unwrap();
    let error = rig.zfs.list(&dataset("tank/data"), turn()).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
}
