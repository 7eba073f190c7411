//! Master maps.

use piton_map::lines::{LineKind, Lines};
use piton_map::master::{MasterItem, MountPoint, dialect_comment, parse};
use piton_map::text::Fragment;

use crate::check_spans;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A master map: each line reads the same whatever stands around it, an unread line is reported,
/// mount points are paths.
pub fn master(data: &[u8]) {
    let text = Fragment::whole("auto.master", data);
    let (map, said) = parse(&text);
    check_spans(&said);
    assert_eq!(parse(&text), (map.clone(), said));
    assert_eq!(dialect_comment(data), map.dialect);
    let mut items = Vec::new();
    let mut first_line = 1;
    for line in Lines::new(data) {
        let alone = line.fragment(&text, first_line);
        first_line += alone.text.iter().filter(|byte| **byte == b'\n').count() as u32;
        // A byte order mark means something at the start of a text only.
        if line.whole.start > 0 && alone.text.starts_with(BYTE_ORDER_MARK) {
            return;
        }
        let (one, said) = parse(&alone);
        assert!(one.items.len() <= 1);
        // What consists of continuations only is nothing.
        let nothing = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\\' || *byte == 0x0b;
        assert!(
            line.kind != LineKind::Text
                || alone.text.iter().all(nothing)
                || one.items.len() == 1
                || !said.is_empty(),
            "lost without a word: {}",
            alone.text
        );
        items.extend(one.items);
    }
    assert_eq!(map.items, items);
    map.items.iter().for_each(check_item);
}

fn check_item(item: &MasterItem) {
    match item {
        MasterItem::Entry(entry) => {
            assert!(!entry.maps.is_empty());
            if let MountPoint::Path(path) = &entry.mount_point {
                assert!(
                    path.starts_with(b"/") && *piton_path::normalize(path) == **path,
                    "{path}"
                );
                assert!(!path.contains(&0));
            }
            let options = &entry.options.mount;
            assert!(
                options
                    .iter()
                    .all(|option| !option.contains(&0) && !option.is_empty())
            );
        }
        MasterItem::Include(include) => assert!(!include.map.name.is_empty()),
        MasterItem::IncludeDirectory(directory) => assert!(directory.path.starts_with(b"/")),
    }
}
