//! Whatever the bytes: no panic, spans inside, and the logical lines glued give the text back.

use piton_map::dialect::Dialect;
use piton_map::index::{Listed, MapIndex, Step};
use piton_map::key::{self, MapKind};
use piton_map::lines::Lines;
use piton_map::master;
use piton_map::text::{Fragment, Span};
use proptest::prelude::*;

/// Bytes that mean something to a map, and a few that do not.
fn map_text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(&b"ab*+/:\"\\# \t\n"[..]),
        2 => Just(b'\n'),
        1 => prop::sample::select(&b"\r\0\x0b\xef\xbb\xbf"[..]),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..200)
}

/// Words that mean something to a master map, and bytes that break them.
fn master_text() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "/m",
        "/-",
        "auto.m",
        "-hosts",
        "-null",
        "multi",
        "--",
        "file:",
        "exec,sun:",
        "+",
        "+dir:",
        "--timeout",
        "-t",
        "=",
        "5",
        "-D",
        "A=b",
        "ro",
        ",",
        "--mode=",
        "#",
        "browse",
        "\u{2013}",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    let part = prop_oneof![4 => word, 2 => Just(b" ".to_vec()), 2 => map_text().prop_map(|mut text| {
        text.truncate(3);
        text
    })];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn inside(outer: Span, inner: Span) -> bool {
    outer.start <= inner.start && inner.start <= inner.end && inner.end <= outer.end
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn lines_glued_give_the_text(text in map_text()) {
        let mut glued = Vec::new();
        for line in Lines::new(&text) {
            prop_assert!(inside(line.whole, line.content));
            prop_assert_eq!(line.whole.start as usize, glued.len());
            glued.extend_from_slice(&text[line.whole.start as usize..line.whole.end as usize]);
        }
        prop_assert_eq!(glued, text);
    }

    #[test]
    fn every_listed_key_is_found_where_it_is_listed(text in map_text(), direct: bool, sun: bool) {
        let kind = if direct { MapKind::Direct } else { MapKind::Indirect };
        let dialect = if sun { Dialect::SUN } else { Dialect::LINUX };
        let fragment = Fragment::whole("m", text);
        let whole = Span::new(0, fragment.text.len());
        let (index, said) = MapIndex::new(fragment, kind, &dialect);
        for one in said {
            let all = Span::new(0, one.fragment.text.len());
            prop_assert!(inside(all, one.primary.0), "{one:?}");
        }
        let mut keys = 0;
        for listed in index.keys() {
            let Listed::Key { key, .. } = listed else { continue };
            keys += 1;
            prop_assert_eq!(key::check(kind, key.as_ref()), Ok(()));
            let Some(Step::Found(found)) = index.search(key.as_ref()).last() else {
                panic!("{key:?} is listed and not found");
            };
            let all = Span::new(0, found.fragment.text.len());
            prop_assert!(inside(all, found.key) && inside(all, found.value));
            prop_assert!(found.value.start < found.value.end);
            let origin = index.origin(key.as_ref()).unwrap();
            prop_assert!(origin.position.line >= 1);
        }
        prop_assert_eq!(keys, index.len());
        prop_assert!(whole.end as usize == index.text().text.len());
    }

    #[test]
    fn a_master_map_of_any_bytes_is_read(text in master_text()) {
        let good = b"/first auto.first\n";
        let text = [&good[..], &text, b"\n\n/last auto.last\n"].concat();
        let (master, said) = master::parse(&Fragment::whole("m", text));
        for one in said {
            let all = Span::new(0, one.fragment.text.len());
            prop_assert!(inside(all, one.primary.0), "{one:?}");
            prop_assert!(one.help.is_some(), "{one:?}");
        }
        // Whatever stands between them, the first and the last line are read.
        prop_assert!(master.items.len() >= 2);
    }
}
