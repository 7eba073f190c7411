//! What the kernel says: request packets and the mount table.

use std::os::unix::ffi::OsStrExt;

use autofs::{ExistingPoint, Packet};
use bstr::ByteSlice;
use piton_mount::table::{Mount, Table};

/// Packets: what is decoded is what stands there; what is not is answered where it can be.
pub fn packet(data: &[u8]) {
    let number = |at: usize| {
        data.get(at..)?
            .first_chunk()
            .map(|four| u32::from_ne_bytes(*four))
    };
    match Packet::decode(data) {
        Ok(packet) => {
            assert!(data.len() == Packet::LENGTH || data.len() == Packet::PADDED_LENGTH);
            assert_eq!(Some(packet.token.number()), number(8));
            assert!(packet.token.number() != 0 && number(0) == Some(5));
            assert_eq!(Some(packet.uid), number(24));
            assert_eq!(Some(packet.tgid), number(36));
            assert_eq!(packet.kind.is_indirect(), !packet.name.is_empty());
            assert!(packet.name.len() < 256 && !packet.name.contains(&0));
            assert!(data[44..].starts_with(&packet.name));
        }
        Err(error) => {
            let answerable = data.len() >= 24 && number(8) != Some(0);
            assert_eq!(error.answer_to.is_some(), answerable);
            if let Some((_, token)) = error.answer_to {
                assert_eq!(Some(token.number()), number(8));
            }
            assert!(error.to_string().len() < 200);
        }
    }
}

/// The mount table: a bad line costs that line, points are lines of it, circles end.
pub fn mountinfo(data: &[u8]) {
    // Walks from mount to mount cost the table's length each.
    let data = &data[..data.len().min(4096)];
    let table = Table::parse(data);
    let lines = || data.lines().filter(|line| !line.is_empty());
    let alone: Vec<Mount<'_>> = lines().filter_map(Mount::parse).collect();
    assert_eq!(table.mounts(), alone);
    assert_eq!(alone.len() + table.unreadable, lines().count());
    for mount in table.mounts() {
        if let Some(top) = table.at(&mount.point) {
            assert_eq!(top.point, mount.point);
        }
        let within = table.within(&mount.point);
        assert!(within.contains(&mount));
        assert!(table.by_id(mount.id).is_some());
        assert!(
            table
                .children(mount.id)
                .all(|child| child.parent == mount.id)
        );
    }
    lines().for_each(both);
}

/// What is read of a point is what the table's line says.
fn both(line: &[u8]) {
    let Ok(Some(point)) = ExistingPoint::parse(line) else {
        return;
    };
    let mount = Mount::parse(line).expect("a point is a mount");
    assert_eq!((point.mount_id, point.parent_id), (mount.id, mount.parent));
    assert_eq!(point.target.as_os_str().as_bytes(), mount.point.as_bytes());
    assert_eq!(point.inner_root.as_bstr(), mount.root.as_bstr());
    assert_eq!(point.source.as_bstr(), mount.source.as_bstr());
    assert_eq!(mount.fstype.as_bytes(), b"autofs");
}
