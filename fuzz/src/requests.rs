//! The table of requests that were read and not answered, as a successor finds it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use autofs::{Packet, RequestPipe, RequestTable};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A table full of rubbish: what is found can be given back, and then nothing is left; it can
/// still be used. Input: a byte (how many slots, and whether the header is a real one), then what
/// is in the memory.
pub fn requests(data: &[u8]) {
    let Some((first, content)) = data.split_first() else {
        return;
    };
    let slots = u64::from(first % 8);
    let Some(table) = table(slots, first & 8 == 0, content) else {
        assert!(first & 8 != 0, "a table with a good header is a table");
        return;
    };
    let _ = table.reads();
    let found = table.unanswered();
    assert!(found.iter().all(|one| one.packet.token.number() != 0));
    found.into_iter().for_each(|one| one.slot.free());
    assert!(table.unanswered().is_empty());
    let marks = table.marks();
    assert!(marks.iter().all(|marked| marked.name.len() <= 255));
    marks.into_iter().for_each(|marked| marked.mark.end());
    assert!(table.marks().is_empty());
    read_one(&table);
}

/// Memory that another process has written to, opened as a table.
fn table(slots: u64, good_header: bool, content: &[u8]) -> Option<RequestTable> {
    const HEADER: usize = 64;
    let mut memory = vec![0; 16 << 10];
    let good = RequestTable::new().expect("a table can be made");
    let mut header = File::from(good.as_fd().try_clone_to_owned().expect("a descriptor"));
    header
        .read_exact(&mut memory[..HEADER])
        .expect("it is longer than that");
    for word in memory[..HEADER].chunks_exact_mut(8) {
        if word == (RequestTable::SLOTS as u64).to_ne_bytes() {
            word.copy_from_slice(&slots.to_ne_bytes());
        }
    }
    // The first page is hardly used: its first words and what comes after it are the input's.
    let from = if good_header { HEADER } else { 0 };
    let (head, slots) = content.split_at(content.len().min(192));
    memory[from..from + head.len()].copy_from_slice(head);
    let slots = &slots[..slots.len().min(8 << 10)];
    memory[4096..4096 + slots.len()].copy_from_slice(slots);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("rubbish", flags).expect("a memfd"));
    file.write_all(&memory).expect("memory");
    fcntl_add_seals(&file, SealFlags::SHRINK).expect("it can be sealed");
    RequestTable::from_fd(OwnedFd::from(file)).ok()
}

/// A request that comes now is read, and is in the table if there is room.
fn read_one(table: &RequestTable) {
    let pipe = RequestPipe::new().expect("a pipe");
    let mut packet = [0; Packet::PADDED_LENGTH];
    for (at, number) in [(0, 5_u32), (4, 3), (8, 77), (12, 45), (16, 7), (40, 3)] {
        packet[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    packet[44..47].copy_from_slice(b"ann");
    let mut writer = File::from(
        pipe.writer()
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor"),
    );
    writer.write_all(&packet).expect("room in the pipe");
    let read = pipe
        .read_tracked(table)
        .expect("a good packet")
        .expect("it is there");
    assert_eq!(
        (read.packet.token.number(), &read.packet.name[..]),
        (77, &b"ann"[..])
    );
    let kept = table.unanswered();
    assert_eq!(kept.len(), usize::from(read.slot.is_some()));
    assert!(kept.iter().all(|one| one.packet == read.packet));
}
