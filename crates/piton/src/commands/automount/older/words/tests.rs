//! The older automounter's command line, row by row of the founding documents.

use piton_map::lookup::MapType;
use piton_map::master::{self, MasterItem, MountPoint};

use super::*;

fn words(words: &[&str]) -> Result<Older, Wrong> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    read(&words)
}

fn good(text: &str) -> Older {
    let split: Vec<&str> = text.split_whitespace().collect();
    words(&split).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.message))
}

/// What is wrong, and the words that are underlined.
fn bad(text: &[&str]) -> (String, String) {
    let wrong = words(text).expect_err("a mistake");
    let marked = wrong.fragment.slice(wrong.primary.0).to_string();
    (wrong.message.clone(), marked)
}

fn line(directory: &str, map: &str, options: &str) -> Line {
    Line {
        directory: directory.into(),
        map: map.into(),
        options: options.into(),
    }
}

#[test]
fn r_210_r_225_every_option_and_any_number_of_maps() {
    let all = good(
        "-nTv -D A=b -DC=d=e -f /etc/local -M /stage -tl 60 -tm 5 -tw 10 \
         /homes /etc/auto.homes -ro,soft /net -hosts /- auto_direct -rw /h -passwd",
    );
    let wanted = Older {
        frozen: true,
        trace: true,
        verbose: true,
        defines: vec!["A=b".into(), "C=d=e".into()],
        master: Some("/etc/local".into()),
        staging: "/stage".into(),
        times: [60, 5, 10],
        lines: vec![
            line("/homes", "/etc/auto.homes", "ro,soft"),
            line("/net", "-hosts", ""),
            line("/-", "auto_direct", "rw"),
            line("/h", "-passwd", ""),
        ],
        ..Older::default()
    };
    assert_eq!(all, wanted);
    assert_eq!(good(""), Older::default());
    assert_eq!(good("-- /a b"), good("/a b"));
    let ours = good("--foreground --environment SITE --trace-file=/t /a b");
    assert!(ours.foreground);
    assert_eq!(ours.environment, ["SITE"]);
    assert_eq!(ours.calls_log, Some("/t".into()));
}

#[test]
fn r_218_r_219_a_dash_makes_a_map_direct_and_a_path_indirect() {
    let older = good("/- /etc/auto.direct /homes /etc/auto.homes");
    let kinds: Vec<bool> = parsed(&older)
        .into_iter()
        .map(|entry| entry.mount_point == MountPoint::Direct)
        .collect();
    assert_eq!(kinds, [true, false]);
}

#[test]
fn r_220_a_map_is_a_full_path_or_a_name() {
    assert_eq!(good("/a /etc/x").lines[0].map, "/etc/x");
    assert_eq!(good("/a x").lines[0].map, "x");
    for relative in ["etc/x", "./x"] {
        let (message, marked) = bad(&["/a", relative]);
        assert!(message.contains("neither"), "{message}");
        assert_eq!(marked, relative);
    }
}

#[test]
fn r_222_m_is_taken_and_has_no_meaning() {
    let older = good("-m /a b");
    assert!(older.without_meaning);
    let same = Older {
        without_meaning: false,
        ..older.clone()
    };
    assert_eq!(older.daemon_words("/t"), same.daemon_words("/t"));
}

#[test]
fn r_226_d_defines_a_variable() {
    assert_eq!(good("-D PRINTER=lp /a b").defines, ["PRINTER=lp"]);
    assert_eq!(good("-vD A= /a b").defines, ["A="]);
    for wrong in ["A", "=b", "A-B=c", ""] {
        assert_eq!(bad(&["-D", wrong, "/a", "b"]).1, wrong);
    }
}

#[test]
fn r_228_r_265_m_names_the_staging_directory() {
    assert_eq!(good("/a b").staging, "/tmp_mnt");
    assert_eq!(good("-M /stage /a b").staging, "/stage");
    assert_eq!(good("-M/stage /a b").staging, "/stage");
    assert_eq!(bad(&["-M", "stage", "/a", "b"]).1, "stage");
}

#[test]
fn r_229_tl_is_one_option_of_two_letters() {
    assert_eq!(good("/a b").times, [300, 30, 60]);
    assert_eq!(good("-tl 7 /a b").times, [7, 30, 60]);
    assert_eq!(good("-tl7 -tm 2m -tw1h /a b").times, [7, 120, 3600]);
    assert_eq!(good("-tl 0 /a b").times[0], 0);
    let (message, marked) = bad(&["-t", "300", "/a", "b"]);
    assert!(message.contains("`-t`") && marked == "-t", "{message}");
    for wrong in [&["-tl", "soon"][..], &["-tm", "0"], &["-tw", "-1"]] {
        assert_eq!(bad(wrong).1, wrong[1]);
    }
    assert_eq!(bad(&["-tx", "1"]).1, "-tx");
    assert_eq!(bad(&["-v", "-tl"]).1, "-tl");
}

#[test]
fn r_253_the_command_line_and_auto_master_are_written_alike() {
    let older = good("/homes /etc/auto.homes -rw,intr /net -hosts /x -null /p -passwd");
    let lines: Vec<String> = older
        .master_lines()
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "/homes /etc/auto.homes rw,intr",
        "/net -hosts",
        "/x -null",
        "/p -passwd",
    ];
    assert_eq!(lines, expected);
    let kinds: Vec<_> = parsed(&older)
        .into_iter()
        .map(|entry| entry.maps[0].kind.clone())
        .collect();
    let special = |kind| Some(kind);
    assert_eq!(
        kinds,
        [
            None,
            special(MapType::Hosts),
            special(MapType::Null),
            special(MapType::Passwd)
        ]
    );
}

/// The lines as a master map's, in which nothing may be amiss.
fn parsed(older: &Older) -> Vec<master::MasterEntry> {
    let text = bstr::join("\n", older.master_lines());
    let (map, said) = master::parse(&Fragment::whole(NAME, text));
    assert!(said.is_empty(), "{said:?}");
    map.items
        .into_iter()
        .map(|item| match item {
            MasterItem::Entry(entry) => entry,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn odd_names_mean_themselves() {
    let words = [
        (
            "/a b",
            "/etc/my maps",
            "ro,context=\"x y\"".replace(' ', ""),
        ),
        ("/a\"#\\", "/etc/a#b\\c", "x".into()),
        ("/t", "file", "rw".into()),
        ("/u", "yp", String::new()),
        ("/w", "multi", "ro".into()),
    ];
    let older = Older {
        lines: words
            .iter()
            .map(|(directory, map, options)| line(directory, map, options))
            .collect(),
        ..Older::default()
    };
    for (entry, (directory, map, _)) in parsed(&older).iter().zip(&words) {
        assert_eq!(entry.mount_point, MountPoint::Path((*directory).into()));
        assert_eq!(
            (&entry.maps[0].kind, &entry.maps[0].name),
            (&None, &BString::from(*map))
        );
    }
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, marked, part) in [
        (&["/a"][..], "/a", "has no map"),
        (&["a", "b"], "a", "no directory"),
        (&["/a", "b", "/c"], "/c", "has no map"),
        (&["/a", "b", "-ro", "-soft"], "-soft", "where a directory"),
        (&["/a", "b", "-v", "-x"], "-x", "where a directory"),
        (&["/a", "-host"], "-host", "is no map"),
        (&["/-", "-hosts"], "-hosts", "names as keys"),
        (&["/a", "b", "-"], "-", "no options"),
        (&["/a", "b", "-ro soft"], "-ro soft", "no options"),
        (&["/a", ""], "", "neither"),
        (&["-x", "/a", "b"], "-x", "no option"),
        (&["-nx"], "-nx", "`-x`"),
        (&["--bar"], "--bar", "`--bar`"),
        (&["-f"], "-f", "has no value"),
        (&["/a\nb", "c"], "/a?b", "no directory"),
        (&["--environment", "A=b"], "A=b", "no variable"),
    ] {
        let (message, at) = bad(text);
        assert_eq!(at, marked, "{text:?}");
        assert!(message.contains(part), "{text:?}: {message}");
    }
}

#[test]
fn the_daemon_is_told_the_same() {
    let older = good("-nTv -D A=b -f /l -M /s -tl 1 -tm 2 -tw 3 --environment E /a /m -ro");
    let words: Vec<String> = older
        .daemon_words("/log")
        .into_iter()
        .map(|word| word.into_string().expect("text"))
        .collect();
    let expected = [
        "--links",
        "--dialect=older",
        "--also=auto_master",
        "--staging=/s",
        "--timeout=1",
        "--retry=2",
        "--unmount-pause=3",
        "--define=A=b",
        "--environment=E",
        "--line=/a /m ro",
        "--master=/l",
        "--trace-calls=/log",
        "--frozen",
        "--verbose",
    ];
    assert_eq!(words, expected);
}
