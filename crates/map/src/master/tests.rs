//! Master-map lines: what they mean, and what a bad one costs (itself).

use alloc::string::{String, ToString};
use alloc::vec;

use super::*;
use crate::options::{Propagation, Selection};

fn parsed(text: &str) -> (Vec<MasterItem>, Vec<&'static str>) {
    let (master, said) = parse(&Fragment::whole("auto.master", text));
    (master.items, said.into_iter().map(|one| one.code).collect())
}

/// The entries as `mount-point type:map,type:map`.
fn entries(text: &str) -> Vec<String> {
    parsed(text).0.iter().map(shown).collect()
}

fn shown(item: &MasterItem) -> String {
    match item {
        MasterItem::Entry(entry) => {
            let point = match &entry.mount_point {
                MountPoint::Direct => "/-".to_string(),
                MountPoint::Path(path) => path.to_string(),
            };
            let maps: Vec<String> = entry.maps.iter().map(shown_map).collect();
            format!("{point} {}", maps.join(" | "))
        }
        MasterItem::Include(include) => format!("+{}", shown_map(&include.map)),
        MasterItem::IncludeDirectory(directory) => format!("+dir:{}", directory.path),
    }
}

fn shown_map(map: &MapSpec) -> String {
    let format = map
        .format
        .as_ref()
        .map(|format| format!(",{format}"))
        .unwrap_or_default();
    match &map.kind {
        None => map.name.to_string(),
        Some(MapType::File) => format!("file{format}:{}", map.name),
        Some(MapType::Program) => format!("program{format}:{}", map.name),
        Some(MapType::Hosts) => "-hosts".to_string(),
        Some(MapType::Null) => "-null".to_string(),
        Some(MapType::Passwd) => "-passwd".to_string(),
        Some(MapType::Snapshot) => format!("snapshot:{}", map.name),
        Some(MapType::Other(other)) => format!("{other}{format}:{}", map.name),
    }
}

/// The options of `/m auto.m OPTIONS`, and what was said about them.
fn options(text: &str) -> (PointOptions, Vec<&'static str>) {
    let (items, said) = parsed(&format!("/m auto.m {text}\n"));
    match &items[..] {
        [MasterItem::Entry(entry)] => (entry.options.clone(), said),
        other => panic!("{other:?} {said:?}"),
    }
}

fn mount(text: &str) -> Vec<String> {
    options(text)
        .0
        .mount
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn mount_points_and_maps() {
    for (line, expected) in [
        ("/m /etc/auto.m", "/m /etc/auto.m"),
        ("  /m\t/etc/auto.m  ro", "/m /etc/auto.m"),
        ("/- auto_direct", "/- auto_direct"),
        ("/m/ /etc/auto.m", "/m /etc/auto.m"),
        ("//n//x /etc/auto.n", "/n/x /etc/auto.n"),
        ("/o/./p /etc/auto.n", "/o/p /etc/auto.n"),
        ("/q/../r /etc/auto.n", "/r /etc/auto.n"),
        ("/n\\ y /etc/auto\\ q", "/n y /etc/auto q"),
        ("/m \\\n /etc/auto.m", "/m /etc/auto.m"),
        ("/m/$HOST auto.m", "/m/$HOST auto.m"),
        ("/k\u{e4}se auto.m", "/k\u{e4}se auto.m"),
        ("/net -hosts -soft", "/net -hosts"),
        ("/net hosts", "/net -hosts"),
        ("/m -null", "/m -null"),
        ("/homes -passwd", "/homes -passwd"),
        ("/m file:/etc/a", "/m file:/etc/a"),
        ("/m file /etc/a ro", "/m file:/etc/a"),
        ("/m exec,sun /etc/a", "/m program,sun:/etc/a"),
        ("/m program:/etc/a", "/m program:/etc/a"),
        ("/m yp:auto.m", "/m yp:auto.m"),
        ("/m ldap:srv:ou=x", "/m ldap:srv:ou=x"),
        ("/m //srv/ou=x", "/m ldap://srv/ou=x"),
        ("/m file,amd:/etc/a", "/m file,amd:/etc/a"),
        ("/m multi /etc/a -- /etc/b ro", "/m /etc/a | /etc/b"),
        (
            "/m multi,sun:/etc/a -- file:b -- exec /etc/c",
            "/m /etc/a | file:b | program:/etc/c",
        ),
        ("/m /etc/a -- /etc/b", "/m /etc/a | /etc/b"),
        (
            "/m multi:/etc/a ro -- /etc/b soft -- c",
            "/m /etc/a | /etc/b | c",
        ),
        ("+auto_master", "+auto_master"),
        ("+file:/etc/x", "+file:/etc/x"),
        ("+dir:/etc/auto.master.d/", "+dir:/etc/auto.master.d"),
    ] {
        assert_eq!(entries(line), [expected], "{line:?}");
    }
}

#[test]
fn options_between_maps_are_for_all_of_them() {
    let (items, _) = parsed("/m multi:/etc/a ro,hard -- /etc/b --timeout 9 -- c soft\n");
    let [MasterItem::Entry(entry)] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(entry.options.mount, ["ro", "hard", "soft"]);
    assert_eq!(entry.options.timeout, Some(9));
}

#[test]
fn a_bad_line_costs_itself() {
    for (line, code) in [
        ("m /etc/auto.m", "bad-mount-point"),
        ("- /etc/auto.m", "bad-mount-point"),
        ("/ /etc/auto.m", "bad-mount-point"),
        ("%%% garbage (((", "bad-mount-point"),
        ("/\u{2013} auto_direct", "dash-lookalike"),
        ("\u{2013} auto_direct", "dash-lookalike"),
        ("/m", "entry-without-map"),
        ("/m -ro /etc/auto.m", "unknown-special-map"),
        ("/m FILE:/etc/a", "unknown-map-type"),
        ("/m files:auto.m", "unknown-map-type"),
        ("/m dir:/etc/d", "unknown-map-type"),
        ("/m -fedfs", "unknown-special-map"),
        ("/m etc/auto.m", "relative-map-path"),
        ("/m ../etc/auto.m", "relative-map-path"),
        ("/m auto.m --", "map-without-name"),
        ("/m multi", "map-without-name"),
        ("\"/m x\" /etc/auto.m", "quoted-mount-point"),
        ("/o \"/etc/auto q\"", "quoted-map-name"),
        ("/m auto.m bad=\"x", "unterminated-quote"),
        ("+ /etc/x", "include-without-map"),
        ("+dir:etc/d", "relative-include-directory"),
    ] {
        let (items, said) = parsed(&format!("/a auto.a\n{line}\n/z auto.z\n"));
        assert_eq!(items.len(), 2, "{line:?} {items:?}");
        assert_eq!(said, [code], "{line:?}");
    }
}

#[test]
fn an_error_says_where_and_what_to_do() {
    let text = Fragment::whole("auto.master", "# c\n/a auto.a\n/m  files:auto.m ro\n");
    let (_, said) = parse(&text);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].origin().to_string(), "auto.master:3:5");
    assert_eq!(said[0].fragment.slice(said[0].primary.0), "files:auto.m");
    assert_eq!(said[0].help.as_deref(), Some("did you mean `file:`?"));
}

#[test]
fn timeouts_in_all_their_forms() {
    for (written, seconds) in [
        ("--timeout=5", Some(5)),
        ("--timeout 6", Some(6)),
        ("-t 7", Some(7)),
        ("-t=8", Some(8)),
        ("-t9", Some(9)),
        ("timeout=10", None),
        ("--timeout=0", Some(0)),
        ("--timeout=-1", None),
        ("--timeout=abc", None),
        ("-timeout=11", None),
        ("ro,--timeout=12", Some(12)),
        ("--timeout=13,ro", Some(13)),
        ("--timeout=14 ro", Some(14)),
        ("ro --timeout=15", Some(15)),
        ("--timeout=5m", Some(300)),
        ("--timeout = 16", Some(16)),
        ("--timeout=99999999999", Some(crate::limits::TIMEOUT_LIMIT)),
        ("-t 17 -ro", Some(17)),
        ("--ghost,--timeout=18", Some(18)),
        ("--timeout=19 --timeout=20", Some(20)),
        ("--timeout=21 --timeout=x", Some(21)),
        ("-t5,ro", Some(5)),
        ("-t", None),
        ("--timeout ro", None),
    ] {
        let (options, said) = options(written);
        assert_eq!(options.timeout, seconds, "{written}");
        let odd = seconds.is_none() || written.contains("99999999999") || written.contains("=x");
        assert_eq!(odd, !said.is_empty(), "{written} {said:?}");
        let expected: &[&str] = if written.contains("ro") { &["ro"] } else { &[] };
        assert_eq!(options.mount, expected, "{written}");
    }
    for written in [
        "--negative-timeout=5",
        "-n 5",
        "-n5",
        "--negative-timeout 5",
        "-n=5",
    ] {
        assert_eq!(options(written).0.negative_timeout, Some(5), "{written}");
    }
}

#[test]
fn flags_of_the_automounter_are_no_mount_options() {
    let check = |written: &str, is_set: fn(&PointOptions) -> bool| {
        let (options, said) = options(written);
        assert!(is_set(&options), "{written}");
        assert!(
            options.mount.is_empty() && said.is_empty(),
            "{written} {said:?}"
        );
    };
    for browse in ["browse", "--browse", "-browse", "-g", "--ghost"] {
        check(browse, |options| options.browse == Some(true));
    }
    for nobrowse in ["nobrowse", "--nobrowse", "browse,-nobrowse"] {
        check(nobrowse, |options| options.browse == Some(false));
    }
    check("nobind,--symlink,-strict", |options| {
        options.nobind && options.symlink && options.strict
    });
    check("strictexpire", |options| options.strict_expire);
    check("--shared", |options| {
        options.propagation == Propagation::Shared
    });
    check("private", |options| {
        options.propagation == Propagation::Private
    });
    check("-r", |options| options.selection == Selection::Random);
    check("--use-weight-only", |options| {
        options.selection == Selection::WeightOnly
    });
    check("--no-slashify-colons", |options| {
        options.slashify_colons == Some(false)
    });
    check("-v --debug -d --verbose", |options| {
        *options == PointOptions::default()
    });
    check("--mode=0755", |options| options.mode == Some(0o755));
    check("--mode 0700", |options| options.mode == Some(0o700));
}

#[test]
fn variables_are_defined() {
    let (options, said) = options("-DFOO=one -DBAR=two,ro -D BAZ=three -DE= --define X=y");
    assert_eq!(said, [] as [&str; 0]);
    let defines: Vec<String> = options
        .defines
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(defines, ["FOO=one", "BAR=two", "BAZ=three", "E=", "X=y"]);
    assert_eq!(options.mount, ["ro"]);
    assert_eq!(self::options("-DA").1, ["bad-define"]);
    assert_eq!(self::options("ro,-D").1, ["option-without-value"]);
}

#[test]
fn filters_are_patterns_between_colons() {
    let (options, said) =
        options("ro,--deny-keys=.git:.Trash* --deny-comm=a --deny-cgroup=/b:/c/*");
    assert_eq!(said, [] as [&str; 0]);
    assert_eq!(options.deny.keys, [".git", ".Trash*"]);
    assert_eq!(options.deny.programs, ["a"]);
    assert_eq!(options.deny.cgroups, ["/b", "/c/*"]);
    assert_eq!(options.mount, ["ro"]);
    let (options, said) = self::options("--deny-keys=.git:");
    assert_eq!((said, options.deny.keys.len()), (vec!["empty-pattern"], 1));
    let said = |text: &str| self::options(text).1;
    assert_eq!(said("--deny-keys"), ["option-without-value"]);
    assert_eq!(said("--deny-users=x"), ["unknown-filter"]);
    assert_eq!(said("--deny-comm=0123456789abcdef"), ["long-program-name"]);
    assert_eq!(said("--deny-comm=0123456789abcd*f"), [] as [&str; 0]);
}

#[test]
fn everything_else_is_for_mount() {
    for (written, expected) in [
        ("-rw,nosuid,hard,intr", vec!["rw", "nosuid", "hard", "intr"]),
        (
            "-fstype=cifs,credentials=/etc/creds",
            vec!["fstype=cifs", "credentials=/etc/creds"],
        ),
        ("fstype=fake,x=1", vec!["fstype=fake", "x=1"]),
        ("-hard --soft", vec!["hard", "soft"]),
        ("three four", vec!["three", "four"]),
        ("--bogus", vec!["bogus"]),
        ("maxproto=5", vec!["maxproto=5"]),
        ("x=\"a b\"", vec!["x=a b"]),
        (
            "context=\"system_u:object_r:t:s0:c1,c2\"",
            vec!["context=system_u:object_r:t:s0:c1,c2"],
        ),
        ("ro,\\\n y=1", vec!["ro", "y=1"]),
        ("ro,,x", vec!["ro", "x"]),
        ("-,ro", vec!["ro"]),
        ("ro,", vec!["ro"]),
        ("noghost nostrict", vec!["noghost", "nostrict"]),
        ("ro # and a comment", vec!["ro"]),
    ] {
        assert_eq!(mount(written), expected, "{written:?}");
    }
    assert_eq!(options("--bogus").1, ["unknown-option"]);
    assert_eq!(options("ro,").1, ["empty-option"]);
    assert_eq!(options("ro #x").1, ["comment-after-entry"]);
    assert_eq!(options("-Ofoo").1, ["global-options"]);
}

#[test]
fn a_comment_names_the_dialect() {
    let dialect = |text: &str| parse(&Fragment::whole("m", text)).0.dialect;
    assert_eq!(
        dialect("# piton: dialect=sun\n/m auto.m\n"),
        Some(Dialect::SUN)
    );
    assert_eq!(
        dialect_comment(b"/m auto.m\n#piton: dialect=linux \n"),
        Some(Dialect::LINUX)
    );
    assert_eq!(dialect("# about dialect=sun\n"), None);
    assert_eq!(parsed("# piton: dialect=amd\n").1, ["unknown-dialect"]);
}

#[test]
fn entries_know_their_place() {
    let text = Fragment::whole("auto.master", "\n# c \\\n c\n  /m \\\n auto.m\n+x\n");
    let (master, said) = parse(&text);
    assert_eq!(said[0].code, "continued-comment");
    let MasterItem::Entry(entry) = &master.items[0] else {
        panic!()
    };
    assert_eq!(entry.origin.to_string(), "auto.master:4:3");
    assert_eq!(
        entry.maps[0].origin.as_ref().unwrap().to_string(),
        "auto.master:5:2"
    );
    let MasterItem::Include(include) = &master.items[1] else {
        panic!()
    };
    assert_eq!(
        include.fragment.origin(include.span).to_string(),
        "auto.master:6:2"
    );
}

#[test]
fn an_indented_line_and_windows_line_ends_harm_nobody() {
    assert_eq!(
        entries("/m auto.m\n  /k auto.k\n"),
        ["/m auto.m", "/k auto.k"]
    );
    let (items, said) = parsed("/m /etc/auto.m\r\n/n /etc/auto.m ro\r\n");
    assert_eq!((items.len(), said), (2, vec!["carriage-return"]));
}

#[test]
fn relative_mount_points_are_below_the_directory_of_a_user() {
    let text = Fragment::whole(
        "m",
        "host auto.host\n. auto.net\n/abs auto.abs\n/- auto.direct\n",
    );
    let read = |below: Option<&str>| {
        let (master, said) = parse_below(&text, below.map(bstr::BStr::new));
        let points: Vec<String> = master
            .items
            .into_iter()
            .map(|item| match item {
                MasterItem::Entry(entry) => match entry.mount_point {
                    MountPoint::Path(path) => path.to_string(),
                    MountPoint::Direct => "/-".into(),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        (points.join(" "), said.len())
    };
    let all = "/home/ann/net/host /home/ann/net /abs /-";
    assert_eq!(read(Some("/home/ann/net")), (all.to_string(), 0));
    assert_eq!(read(None), ("/abs /-".to_string(), 2));
}
