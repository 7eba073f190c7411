//! Master maps with includes, from texts in memory and from files.

use super::*;
use crate::cache::Settings;
use crate::memory::Overlay;

/// Maps whose files are these texts; nothing else of the machine is read.
fn maps(files: &[(&str, &str)]) -> Maps {
    let overlay = files.iter().fold(Overlay::new(), |overlay, (path, text)| {
        overlay.with(*path, *text)
    });
    let root = Some("/nonexistent".into());
    Maps::with_overlay(
        Settings {
            root,
            ..Settings::default()
        },
        overlay,
    )
}

fn site(files: &[(&str, &str)]) -> Site {
    read(&maps(files), &MasterRequest::default()).unwrap()
}

/// Points as `path map,map`.
fn points(site: &Site) -> Vec<String> {
    site.points
        .iter()
        .map(|point| {
            let maps: Vec<String> = point.maps.iter().map(|map| map.name.to_string()).collect();
            format!("{} {}", point.path, maps.join(","))
        })
        .collect()
}

fn codes(site: &Site) -> Vec<&'static str> {
    site.diagnostics.iter().map(|one| one.code).collect()
}

#[test]
fn r_200_the_default_names_are_tried_in_order() {
    let sun = site(&[("/etc/auto_master", "/home auto_home\n")]);
    assert_eq!(
        (points(&sun), sun.dialect),
        (vec!["/home auto_home".to_string()], Dialect::SUN)
    );
    let both = site(&[
        ("/etc/auto_master", "/a a\n"),
        ("/etc/auto.master", "/b b\n"),
    ]);
    assert_eq!(
        (points(&both), both.dialect),
        (vec!["/b b".to_string()], Dialect::LINUX)
    );
    let none = read(&maps(&[]), &MasterRequest::default());
    assert!(matches!(none, Err(Miss::NoSuchMap(name)) if &*name == "/etc/auto.master"));
}

#[test]
fn a_missing_master_map_falls_back_only_when_asked_to() {
    let maps = maps(&[("/etc/auto_master", "/home auto_home\n")]);
    let mut request = MasterRequest::named("/etc/typo");
    assert!(matches!(read(&maps, &request), Err(Miss::NoSuchMap(_))));
    request.fall_back = true;
    let site = read(&maps, &request).unwrap();
    assert_eq!(site.master, "/etc/auto_master");
    assert_eq!(codes(&site), ["master-map-missing"]);
    assert!(site.diagnostics[0].message.contains("/etc/typo"));
}

#[test]
fn the_dialect_is_told_by_caller_comment_or_name() {
    let text = "# piton: dialect=sun\n/home auto_home\n";
    let maps = maps(&[("/etc/auto.master", text)]);
    assert_eq!(
        read(&maps, &MasterRequest::default()).unwrap().dialect,
        Dialect::SUN
    );
    let request = MasterRequest {
        dialect: Some(Dialect::LINUX),
        ..MasterRequest::default()
    };
    assert_eq!(read(&maps, &request).unwrap().dialect, Dialect::LINUX);
}

#[test]
fn the_first_entry_for_a_path_counts_and_direct_maps_are_merged() {
    let site = site(&[(
        "/etc/auto.master",
        "/m a ro\n/m/ b\n/- d1\n/- d2 rw\n/m -null\n",
    )]);
    assert_eq!(points(&site), ["/m a", "/- d1", "/- d2"]);
    assert_eq!(codes(&site), ["duplicate-mount-point", "late-null"]);
    assert_eq!(site.points[0].options.mount, ["ro"]);
    assert_eq!(
        site.diagnostics[0].elsewhere[0].0.to_string(),
        "/etc/auto.master:1:1"
    );
}

#[test]
fn r_246_null_cancels_the_next_entry_or_all() {
    let text = "/m -null\n/x -null\n+more\n/m last\n";
    let more = ("/etc/more", "/m a\n/k a\n");
    let linux = site(&[("/etc/auto.master", text), more]);
    assert_eq!(points(&linux), ["/k a", "/m last"]);
    assert_eq!(codes(&linux), ["unused-null"]);
    let sun = site(&[("/etc/auto_master", text), more]);
    assert_eq!(points(&sun), ["/k a"]);
}

#[test]
fn includes_count_where_they_stand() {
    let site = site(&[
        (
            "/etc/auto.master",
            "/a 1\n+more\n/c 2\n+/etc/none\n+gone\n/d 2\n",
        ),
        ("/etc/more", "/b m\n/c m\n+file:/etc/auto.master\n"),
    ]);
    assert_eq!(points(&site), ["/a 1", "/b m", "/c m", "/d 2"]);
    let expected = [
        "include-cycle",
        "duplicate-mount-point",
        "include-missing",
        "include-missing",
    ];
    assert_eq!(codes(&site), expected);
}

#[test]
fn the_include_of_its_own_name_that_distributions_ship_is_no_mistake() {
    let site = site(&[("/etc/auto.master", "/a 1\n+auto.master\n")]);
    assert_eq!(points(&site), ["/a 1"]);
    assert_eq!(codes(&site), [] as [&str; 0]);
}

#[test]
fn the_include_depth_limit_is_exact() {
    let names: Vec<String> = (0..=INCLUDE_DEPTH + 1)
        .map(|depth| format!("/etc/i{depth}"))
        .collect();
    let texts: Vec<String> = (0..=INCLUDE_DEPTH + 1)
        .map(|depth| format!("/m{depth} x\n+i{}\n", depth + 1))
        .collect();
    let mut files: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let read_all =
        |files: &[(&str, &str)]| read(&maps(files), &MasterRequest::named("/etc/i0")).unwrap();
    let deep = read_all(&files);
    assert_eq!(deep.points.len(), INCLUDE_DEPTH + 1);
    assert_eq!(codes(&deep), ["include-depth"]);
    files.pop();
    assert_eq!(codes(&read_all(&files)), ["include-missing"]);
}

#[test]
fn nested_mount_points_are_named_with_both_lines() {
    let site = site(&[("/etc/auto.master", "/m/sub/x a\n/m b\n/mm c\n/- d\n")]);
    assert_eq!(codes(&site), ["nested-mount-point"]);
    assert_eq!(site.diagnostics[0].origin().position.line, 1);
    assert_eq!(site.diagnostics[0].elsewhere[0].0.position.line, 2);
}

#[test]
fn nsswitch_decides_where_a_name_is_looked_for() {
    let files = |switch| {
        [
            ("/etc/auto.master", "/m m\n"),
            ("/etc/nsswitch.conf", switch),
        ]
    };
    assert_eq!(points(&site(&files("automount: nis files\n"))), ["/m m"]);
    let request = MasterRequest::default();
    for switch in [
        "automount: nis ldap\n",
        "automount: nis [UNAVAIL=return] files\n",
    ] {
        let miss = read(&maps(&files(switch)), &request);
        assert!(
            matches!(miss, Err(Miss::NotAvailable(why)) if why.contains("nis")),
            "{switch}"
        );
    }
    let by_path = read(
        &maps(&files("automount: nis\n")),
        &MasterRequest::named("/etc/auto.master"),
    );
    assert_eq!(points(&by_path.unwrap()), ["/m m"]);
}

#[test]
fn a_directory_is_read_in_order_and_watched() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("etc/auto.master.d");
    std::fs::create_dir_all(dir.join("sub.autofs")).unwrap();
    let write =
        |name: &str, text: &str| std::fs::write(root.path().join("etc").join(name), text).unwrap();
    write(
        "auto.master",
        "+dir:/etc/auto.master.d\n+dir:/etc/none.d\n/z z\n",
    );
    write("auto.master.d/b10.autofs", "/m b10\n/n b10\n");
    write("auto.master.d/b9.autofs", "/m b9\n");
    write("auto.master.d/x.conf", "/o x\n");
    write("auto.master.d/.h.autofs", "/p h\n");
    let maps = Maps::new(Settings {
        root: Some(root.path().into()),
        ..Settings::default()
    });
    let site = read(&maps, &MasterRequest::default()).unwrap();
    assert_eq!(points(&site), ["/m b9", "/n b10", "/z z"]);
    assert_eq!(
        codes(&site),
        [
            "duplicate-mount-point",
            "include-missing",
            "include-missing"
        ]
    );
    assert_eq!(
        site.points[0].origin.to_string(),
        "/etc/auto.master.d/b9.autofs:1:1"
    );
    for watched in [
        "etc/auto.master",
        "etc/auto.master.d",
        "etc/auto.master.d/b9.autofs",
        "etc/none.d",
    ] {
        assert!(
            site.files_read.contains(&root.path().join(watched)),
            "{watched}"
        );
    }
    let directories = ["etc/auto.master.d", "etc/none.d"].map(|name| root.path().join(name));
    assert_eq!(site.directories_read, directories);
}

#[test]
fn null_cancels_a_key_of_the_direct_maps_after_it() {
    let files = [
        ("/etc/auto.master", "/- d1\n/d/a -null\n/- d2\n"),
        ("/etc/d1", "/d/x :/1\n"),
        ("/etc/d2", "/d/a :/2\n/d/b :/2\n"),
    ];
    let maps = maps(&files);
    let site = read(&maps, &MasterRequest::default()).unwrap();
    assert_eq!(codes(&site), [] as [&str; 0]);
    let context = crate::source::LookupContext {
        kind: MapKind::Direct,
        dialect: &site.dialect,
        requester: &Default::default(),
        defines: &[],
        mount_point: "/-".into(),
        deadline: None,
    };
    let keys = |point: &SitePoint| {
        let listing = maps.keys(&point.maps, &context);
        listing
            .keys
            .iter()
            .map(|one| one.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&site.points[0]), ["/d/x"]);
    assert_eq!(keys(&site.points[1]), ["/d/b"]);
    let cancelled = maps.lookup(&site.points[1].maps, "/d/a".into(), &context);
    assert_eq!(cancelled, Err(Miss::NoSuchKey));
}

/// What the older automounter reads for `automount ARGUMENTS`, given as lines.
fn older(lines: &[&str], local: Option<&str>) -> MasterRequest {
    MasterRequest {
        name: local.map(|path| plain(path.into())),
        dialect: Some(Dialect::OLDER),
        lines: lines.iter().map(|line| BString::from(*line)).collect(),
        also: Some("auto_master".into()),
        ..MasterRequest::default()
    }
}

#[test]
fn r_254_the_file_map_is_used_for_homes_and_the_direct_map_besides() {
    let maps = maps(&[("/etc/auto_master", "/homes -passwd\n")]);
    let request = older(&["/homes /etc/auto.homes", "/- /etc/auto.direct"], None);
    let site = read(&maps, &request).unwrap();
    assert_eq!(
        points(&site),
        ["/homes /etc/auto.homes", "/- /etc/auto.direct"]
    );
    // That a line is overridden is said, and is no fault.
    assert_eq!(codes(&site), ["overridden-line"]);
    assert_eq!(site.diagnostics[0].severity, Severity::Note);
    assert_eq!(
        site.diagnostics[0].elsewhere[0].0.to_string(),
        "the command line:1:1"
    );
    assert_eq!(site.master, "the command line, /etc/auto_master");
}

#[test]
fn r_251_r_252_command_line_before_local_file_before_auto_master() {
    let maps = maps(&[
        ("/etc/local", "/b local\n/c local\n/- local\n"),
        (
            "/etc/auto_master",
            "/a master\n/b master\n/c master\n/d master\n/- master\n",
        ),
    ]);
    let all = read(&maps, &older(&["/a line", "/b line"], Some("/etc/local"))).unwrap();
    let expected = [
        "/a line",
        "/b line",
        "/c local",
        "/- local",
        "/d master",
        "/- master",
    ];
    assert_eq!(points(&all), expected);
    assert!(codes(&all).iter().all(|code| *code == "overridden-line"));
}

#[test]
fn r_227_the_local_file_comes_before_auto_master_and_must_be_there() {
    let maps = maps(&[
        ("/etc/local", "/b l\n"),
        ("/etc/auto_master", "/b m\n/c m\n"),
    ]);
    let site = read(&maps, &older(&[], Some("/etc/local"))).unwrap();
    assert_eq!(points(&site), ["/b l", "/c m"]);
    let typo = read(&maps, &older(&["/a x"], Some("/etc/typo")));
    assert!(matches!(typo, Err(Miss::NoSuchMap(name)) if &*name == "/etc/typo"));
}

#[test]
fn r_250_null_on_the_command_line_cancels_an_auto_master_map() {
    let maps = maps(&[("/etc/auto_master", "/homes -passwd\n/net -hosts\n")]);
    let site = read(&maps, &older(&["/homes -null"], None)).unwrap();
    assert_eq!(points(&site), ["/net -hosts"]);
    assert_eq!(codes(&site), [] as [&str; 0]);
}

#[test]
fn r_439_a_command_line_needs_no_master_map_and_nothing_at_all_is_said() {
    let none = maps(&[]);
    let site = read(&none, &older(&["/a x"], None)).unwrap();
    assert_eq!(
        (points(&site), &*site.master),
        (vec!["/a x".to_string()], "the command line")
    );
    assert!(matches!(
        read(&none, &older(&[], None)),
        Err(Miss::NoSuchMap(_))
    ));
    // Without the older automounter's rule the default names are read as ever, if they are there.
    let mut request = MasterRequest {
        lines: vec!["/a x".into()],
        ..MasterRequest::default()
    };
    assert_eq!(points(&read(&none, &request).unwrap()), ["/a x"]);
    let some = maps(&[("/etc/auto.master", "/a y\n/b y\n")]);
    assert_eq!(points(&read(&some, &request).unwrap()), ["/a x", "/b y"]);
    request.name = Some(plain("/etc/typo".into()));
    assert!(read(&some, &request).is_err());
}
