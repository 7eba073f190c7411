//! Look-ups across maps, and how changes are noticed.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use piton_map::dialect::Dialect;
use piton_map::lookup::{MapType, Matched};
use piton_map::requester::Requester;
use piton_map::spec;

use super::*;

/// A directory that stands for the root of a machine.
struct Machine {
    root: tempfile::TempDir,
    maps: Maps,
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let maps = Maps::new(Settings {
            root: Some(root.path().into()),
            ..Settings::default()
        });
        let machine = Self { root, maps };
        files
            .iter()
            .for_each(|(name, text)| machine.write(name, text));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("etc").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        self.write(name, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    fn find(&self, maps: &str, key: &str) -> Result<String, Miss> {
        with_context(MapKind::Indirect, &Dialect::LINUX, |context| {
            self.maps
                .lookup(&specs(maps), key.into(), context)
                .map(value)
        })
    }

    fn quick(&self, maps: &str, key: &str) -> Option<Result<String, Miss>> {
        with_context(MapKind::Indirect, &Dialect::LINUX, |context| {
            let answer = self
                .maps
                .try_lookup_cached(&specs(maps), key.into(), context);
            answer.map(|answer| answer.map(value))
        })
    }

    /// Lets the files grow old enough for their stamps to be trusted, and has `maps` read.
    fn settle(&self, maps: &str) {
        std::thread::sleep(crate::limits::STAMP_TICK + Duration::from_millis(10));
        let _read = self.find(maps, "some key");
    }

    fn keys(&self, maps: &str, kind: MapKind) -> Vec<String> {
        with_context(kind, &Dialect::LINUX, |context| {
            let listing = self.maps.keys(&specs(maps), context);
            listing
                .keys
                .iter()
                .map(|listed| listed.key.to_string())
                .collect()
        })
    }

    fn codes(&self, maps: &str) -> Vec<&'static str> {
        with_context(MapKind::Indirect, &Dialect::LINUX, |context| {
            let said = self.maps.diagnostics(&specs(maps), context);
            said.iter().map(|one| one.code).collect()
        })
    }
}

fn with_context<T>(
    kind: MapKind,
    dialect: &Dialect,
    then: impl FnOnce(&LookupContext<'_>) -> T,
) -> T {
    then(&LookupContext {
        kind,
        dialect,
        requester: &Requester::default(),
        defines: &[],
        mount_point: "/nonexistent".into(),
        deadline: None,
    })
}

fn specs(maps: &str) -> Vec<MapSpec> {
    maps.split(' ')
        .map(|map| spec::parse(map.into(), None).unwrap())
        .collect()
}

fn value(found: Found) -> String {
    found.fragment.slice(found.value).to_string()
}

#[test]
fn r_245_names_and_paths_lead_to_files() {
    let machine = Machine::new(&[("auto.m", "a :/m\n")]);
    for map in [
        "auto.m",
        "/etc/auto.m",
        "file:auto.m",
        "file:/etc/auto.m",
        "file,sun:auto.m",
    ] {
        assert_eq!(machine.find(map, "a").as_deref(), Ok(":/m"), "{map}");
        assert_eq!(machine.find(map, "b"), Err(Miss::NoSuchKey), "{map}");
    }
    assert_eq!(
        machine.find("auto.n", "a"),
        Err(Miss::NoSuchMap("/etc/auto.n".into()))
    );
    assert_eq!(
        machine.find("d/auto.m", "a"),
        Err(Miss::NoSuchMap("d/auto.m".into()))
    );
    assert!(matches!(
        machine.find("auto.m", "a/b"),
        Err(Miss::BadKey(_))
    ));
}

#[test]
fn what_this_build_lacks_says_so() {
    let machine = Machine::new(&[("auto.m", "a :/m\n+nis:more\nb :/b\n")]);
    for map in [
        "-hosts",
        "-passwd",
        "nis:auto.m",
        "ldap:x",
        "file,amd:/etc/auto.m",
    ] {
        assert!(
            matches!(machine.find(map, "a"), Err(Miss::NotAvailable(_))),
            "{map}"
        );
    }
    assert_eq!(machine.find("-null", "a"), Err(Miss::NoSuchKey));
    assert_eq!(machine.find("auto.m", "b").as_deref(), Ok(":/b"));
    assert!(matches!(
        machine.find("auto.m", "c"),
        Err(Miss::NotAvailable(_))
    ));
    let amd = MapSpec {
        kind: Some(MapType::File),
        format: Some("amd".into()),
        ..specs("x").remove(0)
    };
    assert_eq!(amd.format.as_deref(), Some("amd"));
}

#[test]
fn r_201_the_switch_skips_what_cannot_be_asked() {
    let machine = Machine::new(&[
        ("auto.m", "a :/m\n"),
        ("nsswitch.conf", "automount: nis files sss\n"),
    ]);
    assert_eq!(machine.find("auto.m", "a").as_deref(), Ok(":/m"));
    assert_eq!(machine.find("auto.m", "b"), Err(Miss::NoSuchKey));
    assert!(matches!(
        machine.find("auto.n", "b"),
        Err(Miss::NotAvailable(_))
    ));
    for synonym in ["nis", "yp"] {
        let line = format!("automount: {synonym} [UNAVAIL=return] files\n");
        machine.write("nsswitch.conf", &line);
        let found = machine.find("auto.m", "a");
        let named = |why: &str| why.contains(synonym);
        assert!(
            matches!(&found, Err(Miss::NotAvailable(why)) if named(why)),
            "{found:?}"
        );
    }
    std::fs::remove_file(machine.path("nsswitch.conf")).unwrap();
    assert_eq!(machine.find("auto.m", "a").as_deref(), Ok(":/m"));
    assert_eq!(
        machine.find("auto.n", "b"),
        Err(Miss::NoSuchMap("/etc/auto.n".into()))
    );
}

#[test]
fn merged_maps_are_searched_in_order() {
    let machine = Machine::new(&[
        ("m", "a :/m\n"),
        ("n", "a :/n\nb :/n\n* :/star\n"),
        ("o", "c :/o\n"),
    ]);
    for (key, expected) in [("a", ":/m"), ("b", ":/n"), ("c", ":/star")] {
        assert_eq!(machine.find("m none n o", key).as_deref(), Ok(expected));
    }
    assert_eq!(machine.find("m none", "x"), Err(Miss::NoSuchKey));
}

#[test]
fn includes_are_followed_in_reading_order() {
    let machine = Machine::new(&[
        ("m", "a :/own\n+inc\nb :/after\n+/etc/none\n* :/star\n"),
        ("inc", "a :/inc\nb :/inc\nd :/inc-d\n"),
    ]);
    for (key, expected) in [
        ("a", ":/own"),
        ("b", ":/inc"),
        ("d", ":/inc-d"),
        ("x", ":/star"),
    ] {
        assert_eq!(machine.find("m", key).as_deref(), Ok(expected), "{key}");
    }
    with_context(MapKind::Indirect, &Dialect::LINUX, |context| {
        let found = machine
            .maps
            .lookup(&specs("m"), "d".into(), context)
            .unwrap();
        assert_eq!((&*found.map, found.matched), ("/etc/inc", Matched::Exact));
        assert_eq!(found.via.len(), 1);
        assert_eq!(found.via[0].to_string(), "/etc/m:2:1");
        assert_eq!(
            found.fragment.origin(found.value).to_string(),
            "/etc/inc:3:3"
        );
    });
    assert_eq!(machine.keys("m", MapKind::Indirect), ["a", "b", "d"]);
    assert_eq!(machine.codes("m"), ["include-missing"]);
}

#[test]
fn cycles_are_cut_and_nothing_after_them_is_lost() {
    let machine = Machine::new(&[
        ("m", "a :/a\n+n\nb :/b\n+/etc/m\n"),
        ("n", "c :/c\n+file:/etc/m\nd :/d\n"),
    ]);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(machine.find("m", key), Ok(format!(":/{key}")));
    }
    assert_eq!(machine.find("m", "e"), Err(Miss::NoSuchKey));
    assert_eq!(machine.keys("m", MapKind::Indirect), ["a", "c", "d", "b"]);
    assert_eq!(machine.codes("m"), ["include-cycle", "include-cycle"]);
}

#[test]
fn the_include_depth_limit_is_exact() {
    let limit = crate::limits::INCLUDE_DEPTH;
    let machine = Machine::new(&[]);
    for depth in 0..=limit + 1 {
        machine.write(
            &format!("i{depth}"),
            &format!("k{depth} :/x\n+i{}\n", depth + 1),
        );
    }
    assert!(machine.find("i0", &format!("k{limit}")).is_ok());
    assert_eq!(
        machine.find("i0", &format!("k{}", limit + 1)),
        Err(Miss::NoSuchKey)
    );
    assert_eq!(machine.keys("i0", MapKind::Indirect).len(), limit + 1);
    assert_eq!(machine.codes("i0"), ["include-depth"]);
}

#[test]
fn maps_that_include_two_others_each_end() {
    let machine = Machine::new(&[]);
    for depth in 0..17 {
        let next = depth + 1;
        machine.write(&format!("i{depth}"), &format!("+i{next}\n+j{next}\n"));
        machine.write(&format!("j{depth}"), &format!("+i{next}\n+j{next}\n"));
    }
    let start = std::time::Instant::now();
    assert_eq!(machine.find("i0", "x"), Err(Miss::NoSuchKey));
    assert_eq!(machine.keys("i0", MapKind::Indirect), [] as [&str; 0]);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn programs_are_run_by_their_mode_or_type() {
    let machine = Machine::new(&[("m", "+program:/etc/p\n+/etc/q\n+q\nz :/z\n")]);
    machine.program("p", "[ $1 = a ] && echo :/p");
    machine.program("q", "[ $1 = b ] && echo :/q");
    assert_eq!(machine.find("p", "a").as_deref(), Ok(":/p"));
    assert_eq!(machine.find("program:/etc/p", "x"), Err(Miss::NoSuchKey));
    // By path an include is a file, by name it may be a program, as autofs has it.
    for (key, expected) in [("a", ":/p"), ("b", ":/q"), ("z", ":/z")] {
        assert_eq!(machine.find("m", key).as_deref(), Ok(expected), "{key}");
    }
    assert_eq!(machine.find("file:/etc/p", "a"), Err(Miss::NoSuchKey));
    assert!(machine.keys("p", MapKind::Indirect).is_empty());
    // Also when the same file is old enough that its text, read above, is vouched for.
    machine.settle("file:/etc/p");
    assert_eq!(machine.find("p", "a").as_deref(), Ok(":/p"));
    assert_eq!(machine.quick("p", "a"), None);
    assert_eq!(machine.quick("m", "z"), None);
}

#[test]
fn a_failing_map_is_told_unless_another_has_the_key() {
    let machine = Machine::new(&[("m", "+program:/etc/p\na :/own\n")]);
    machine.program("p", "exit 3");
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/own"));
    assert!(matches!(
        machine.find("m", "b"),
        Err(Miss::ProgramFailed(_))
    ));
}

#[test]
fn memory_answers_only_what_it_can_vouch_for() {
    let machine = Machine::new(&[("m", "a :/1\n+inc\n"), ("inc", "b :/2\n")]);
    assert_eq!(machine.quick("/etc/m", "a"), None);
    machine.settle("/etc/m");
    assert_eq!(machine.quick("/etc/m", "a"), Some(Ok(":/1".into())));
    // By name the switch is asked too, and was not read yet for this map.
    machine.settle("m");
    assert_eq!(machine.quick("m", "b"), Some(Ok(":/2".into())));
    assert_eq!(machine.quick("m", "x"), Some(Err(Miss::NoSuchKey)));
    assert!(matches!(
        machine.quick("m", ".."),
        Some(Err(Miss::BadKey(_)))
    ));
    machine.write("inc", "b :/new\n");
    assert_eq!(machine.quick("m", "b"), None);
    assert_eq!(machine.quick("m", "a"), Some(Ok(":/1".into())));
    assert_eq!(machine.find("m", "b").as_deref(), Ok(":/new"));
    std::fs::set_permissions(machine.path("m"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(machine.quick("m", "a"), None);
}

#[test]
fn every_kind_of_change_is_seen_at_the_next_access() {
    let machine = Machine::new(&[("m", "a :/1\n")]);
    machine.settle("m");
    // In place, same length, at once after another change.
    for round in 0..50 {
        machine.write("m", &format!("a :/{}\n", round % 10));
        assert_eq!(machine.find("m", "a"), Ok(format!(":/{}", round % 10)));
    }
    // Put in place by mv with an older date, of the same size.
    machine.settle("m");
    machine.write("new", "a :/x\n");
    let old = SystemTime::now() - Duration::from_secs(100_000);
    File::options()
        .write(true)
        .open(machine.path("new"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    std::fs::rename(machine.path("new"), machine.path("m")).unwrap();
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/x"));
    // Rewritten in place, with its date set back to what it was.
    machine.settle("m");
    machine.write("m", "a :/y\n");
    File::options()
        .write(true)
        .open(machine.path("m"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/y"));
}

#[test]
fn a_map_that_goes_is_gone_and_comes_back() {
    let machine = Machine::new(&[("m", "a :/1\n")]);
    assert!(machine.find("m", "a").is_ok());
    std::fs::remove_file(machine.path("m")).unwrap();
    assert_eq!(
        machine.find("m", "a"),
        Err(Miss::NoSuchMap("/etc/m".into()))
    );
    assert!(machine.maps.status().is_empty());
    assert!(machine.maps.watch().files.contains(&machine.path("m")));
    machine.write("m", "a :/2\n");
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/2"));
}

#[test]
fn a_map_that_becomes_unreadable_is_answered_from_the_last_copy() {
    let machine = Machine::new(&[("m", "a :/1\n")]);
    machine.settle("m");
    std::fs::remove_file(machine.path("m")).unwrap();
    std::fs::create_dir(machine.path("m")).unwrap();
    assert_eq!(machine.quick("m", "a"), None);
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/1"));
    assert!(matches!(
        &machine.maps.status()[0].stale,
        Some(Miss::Unreadable(_))
    ));
    std::fs::remove_dir(machine.path("m")).unwrap();
    machine.write("m", "a :/2\n");
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/2"));
    assert_eq!(machine.maps.status()[0].stale, None);
    assert!(matches!(
        machine.find("/etc", "a"),
        Err(Miss::Unreadable(_))
    ));
}

#[test]
fn direct_maps_are_listed_with_their_places() {
    let machine = Machine::new(&[
        ("d", "//d//a :/a\n+inc\n/d/b :/b\n"),
        ("inc", "/d/b/ :/inc\n"),
    ]);
    with_context(MapKind::Direct, &Dialect::LINUX, |context| {
        let listing = machine.maps.keys(&specs("d"), context);
        let shown: Vec<String> = listing
            .keys
            .iter()
            .map(|one| format!("{} {}", one.key, one.origin))
            .collect();
        assert_eq!(shown, ["/d/a /etc/d:1:1", "/d/b /etc/inc:1:1"]);
        assert!(
            machine
                .maps
                .incomplete(&specs("d"), context)
                .incomplete
                .is_empty()
        );
        let none = machine
            .maps
            .incomplete(&specs("d none"), context)
            .incomplete;
        assert_eq!(none, [("none".into(), Miss::NoSuchMap("/etc/none".into()))]);
        let found = machine.maps.lookup(&specs("d"), "/d//b".into(), context);
        assert_eq!(found.map(value).as_deref(), Ok(":/inc"));
    });
    // The same file as an indirect map is another matter.
    assert_eq!(machine.keys("d", MapKind::Indirect), [] as [&str; 0]);
}

#[test]
fn what_is_read_is_watched() {
    let machine = Machine::new(&[("m", "+inc\n"), ("inc", "a :/1\n")]);
    assert!(machine.find("m", "a").is_ok());
    let watch = machine.maps.watch();
    assert_eq!(
        watch.files,
        ["inc", "m", "nsswitch.conf"].map(|name| machine.path(name))
    );
    machine.maps.forget();
    assert_eq!(machine.maps.watch().files, [machine.path("nsswitch.conf")]);
}

#[test]
fn what_cannot_be_read_is_watched() {
    let machine = Machine::new(&[]);
    std::fs::create_dir(machine.path("m")).unwrap();
    assert!(matches!(machine.find("m", "a"), Err(Miss::Unreadable(_))));
    assert!(machine.maps.watch().files.contains(&machine.path("m")));
    std::fs::remove_dir(machine.path("m")).unwrap();
    machine.write("m", "a :/1\n");
    assert_eq!(machine.find("m", "a").as_deref(), Ok(":/1"));
}

#[test]
fn many_threads_get_one_reading() {
    let text: String = (0..20_000).map(|key| format!("k{key} :/{key}\n")).collect();
    let machine = Machine::new(&[("m", &text)]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let machine = &machine;
            scope.spawn(move || {
                for key in (thread..20_000).step_by(997) {
                    assert_eq!(
                        machine.find("m", &format!("k{key}")),
                        Ok(format!(":/{key}"))
                    );
                }
            });
        }
    });
    assert!(lock(&machine.maps.reading).is_empty());
}
