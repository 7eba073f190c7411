//! Look-ups in one map, as autofs 5.1.8 answers them where it is not at fault.

use alloc::string::{String, ToString};
use alloc::vec;

use super::*;
use crate::diagnostic::Severity;

fn index(text: &str) -> MapIndex {
    MapIndex::new(
        Fragment::whole("m", text),
        MapKind::Indirect,
        &Dialect::LINUX,
    )
    .0
}

fn codes(text: &str, kind: MapKind, dialect: &Dialect) -> Vec<&'static str> {
    let (_, said) = MapIndex::new(Fragment::whole("m", text), kind, dialect);
    said.into_iter().map(|one| one.code).collect()
}

/// What a search comes to: names of includes, then the value found.
fn steps(index: &MapIndex, key: &str) -> Vec<String> {
    index
        .search(key.into())
        .map(|step| match step {
            Step::Include(include) => alloc::format!("+{}", include.map.name),
            Step::Found(found) => {
                let star = if found.matched == Matched::Wildcard {
                    "*"
                } else {
                    ""
                };
                alloc::format!("{star}{}", found.fragment.slice(found.value))
            }
        })
        .collect()
}

#[test]
fn keys_are_found_by_their_own_name() {
    let index = index("a :/1\n\tb\t:/2\n# c :/3\nab :/4\n\"d e\" :/5\nf\\ g :/6\n");
    for (key, value) in [
        ("a", ":/1"),
        ("b", ":/2"),
        ("ab", ":/4"),
        ("d e", ":/5"),
        ("f g", ":/6"),
    ] {
        assert_eq!(steps(&index, key), [value], "{key}");
    }
    assert_eq!(steps(&index, "c"), [] as [&str; 0]);
    assert_eq!(index.len(), 5);
}

#[test]
fn found_knows_its_line_and_place() {
    let index = index("# c\na \\\n -ro \\\n :/1\nb :/2\n");
    let Some(Step::Found(found)) = index.search("a".into()).next() else {
        panic!("not found")
    };
    assert_eq!(found.fragment.first_line, 2);
    assert_eq!(found.fragment.slice(found.key), "a");
    assert_eq!(found.fragment.slice(found.value), "-ro \\\n :/1");
    assert_eq!(found.fragment.origin(found.value).to_string(), "m:3:2");
    assert_eq!(index.origin("b".into()).unwrap().to_string(), "m:5:1");
}

#[test]
fn the_first_of_equal_keys_counts() {
    let index = index("a :/1\n\"a\" :/2\n* :/3\n* :/4\n");
    assert_eq!(steps(&index, "a"), [":/1"]);
    assert_eq!(steps(&index, "x"), ["*:/3"]);
    assert_eq!(
        codes(
            "a :/1\na :/2\n* :/3\n* :/4\n",
            MapKind::Indirect,
            &Dialect::LINUX
        ),
        ["duplicate-key", "duplicate-key"]
    );
}

#[test]
fn in_linux_an_exact_key_wins_wherever_the_wildcard_stands() {
    let index = index("* :/star\na :/own\n");
    assert_eq!(steps(&index, "a"), [":/own"]);
    assert_eq!(steps(&index, "b"), ["*:/star"]);
}

#[test]
fn in_sun_the_wildcard_ends_the_scan() {
    let text = Fragment::whole("m", "b :/1\n+x\n* :/star\na :/own\n+y\n");
    let (index, said) = MapIndex::new(text, MapKind::Indirect, &Dialect::SUN);
    assert_eq!(steps(&index, "a"), ["+x", "*:/star"]);
    assert_eq!(steps(&index, "b"), [":/1"]);
    assert_eq!(said[0].code, "dead-entry");
    assert_eq!(said[0].origin().position.line, 4);
}

#[test]
fn an_include_counts_where_it_stands() {
    let index = index("a :/before\n+inc\nb :/after\n* :/star\n+file:/etc/more\n");
    assert_eq!(steps(&index, "a"), [":/before"]);
    assert_eq!(steps(&index, "b"), ["+inc", ":/after"]);
    assert_eq!(steps(&index, "c"), ["+inc", "+/etc/more", "*:/star"]);
}

#[test]
fn odd_include_lines_are_reported() {
    for (line, code) in [
        ("+ /etc/x", "include-without-map"),
        ("+", "include-without-map"),
        ("+\"/etc/x\"", "quoted-map-name"),
        ("+foo:/etc/x", "unknown-map-type"),
    ] {
        assert_eq!(
            codes(line, MapKind::Indirect, &Dialect::LINUX),
            [code],
            "{line}"
        );
    }
    assert_eq!(steps(&index("+/etc/x -ro,x=1\n"), "a"), ["+/etc/x"]);
    assert_eq!(steps(&index("+-hosts\n"), "a"), ["+-hosts"]);
}

#[test]
fn bad_indirect_keys_are_reported_and_not_found() {
    let text = "a/b :/ab\n/c :/c\nd/ :/d\n. :/x\n.. :/y\nnoloc\nalso # c\n\"q :/q\nz :/z\n";
    let found = codes(text, MapKind::Indirect, &Dialect::LINUX);
    let slash = "slash-in-key";
    let noloc = "key-without-location";
    assert_eq!(
        found,
        [
            slash,
            slash,
            slash,
            "bad-key",
            "bad-key",
            noloc,
            noloc,
            "unterminated-quote"
        ]
    );
    assert_eq!(index(text).len(), 1);
}

#[test]
fn direct_keys_are_paths() {
    let text = "//d//a :/a\n/d/b/ :/b\nd/c :/c\n/d/x/../e :/e\n\"/d/f g\" :/f\n* :/s\n/ :/r\n";
    let (index, said) = MapIndex::new(Fragment::whole("m", text), MapKind::Direct, &Dialect::LINUX);
    for (key, value) in [
        ("/d/a", ":/a"),
        ("/d/b", ":/b"),
        ("/d/e", ":/e"),
        ("/d/f g", ":/f"),
    ] {
        assert_eq!(steps(&index, key), [value], "{key}");
    }
    assert_eq!(index.len(), 4);
    let codes: Vec<_> = said.iter().map(|one| one.code).collect();
    assert_eq!(
        codes,
        [
            "relative-direct-key",
            "dot-dot-in-path",
            "wildcard-in-direct-map",
            "bad-key"
        ]
    );
    assert!(said.iter().all(|one| one.help.is_some()));
}

#[test]
fn a_quoted_star_is_the_wildcard_and_an_escaped_one_is_not() {
    assert_eq!(steps(&index("\"*\" :/q\n"), "a"), ["*:/q"]);
    assert_eq!(steps(&index("\\* :/q\n"), "a"), [] as [&str; 0]);
    assert_eq!(steps(&index("\\* :/q\n"), "*"), [":/q"]);
}

#[test]
fn keys_are_listed_in_reading_order_each_once() {
    let index = index("b :/1\n+inc\n* :/s\n\"a c\" :/2\nb :/3\nnoloc\n$HOST :/4\n");
    let listed: Vec<String> = index
        .keys()
        .map(|listed| match listed {
            Listed::Key { key, .. } => key.to_string(),
            Listed::Include(include) => alloc::format!("+{}", include.map.name),
        })
        .collect();
    assert_eq!(listed, vec!["b", "+inc", "a c", "$HOST"]);
}

#[test]
fn findings_are_bounded() {
    let text = "noloc\n".repeat(DIAGNOSTICS_LIMIT);
    let at_limit = codes(&text, MapKind::Indirect, &Dialect::LINUX);
    assert_eq!(at_limit.len(), DIAGNOSTICS_LIMIT);
    let (_, said) = MapIndex::new(
        Fragment::whole("m", text + "noloc\r\nx\r\n"),
        MapKind::Indirect,
        &Dialect::LINUX,
    );
    assert_eq!(said.len(), DIAGNOSTICS_LIMIT + 1);
    let last = said.last().unwrap();
    assert_eq!(
        (last.code, last.severity),
        ("more-findings", Severity::Note)
    );
    assert!(last.message.starts_with('3'), "{}", last.message);
}

#[test]
fn windows_line_ends_are_reported_once() {
    assert_eq!(
        codes("a :/1\r\nb :/2\r\n", MapKind::Indirect, &Dialect::LINUX),
        ["carriage-return"]
    );
    assert_eq!(steps(&index("a :/1\r\nb :/2\r\n"), "b"), [":/2"]);
}
