//! Packets as the kernel writes them, short ones, and any bytes.

use super::*;

/// A missing-indirect packet as x86_64 sends it, field by field.
fn golden(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(5_i32.to_ne_bytes()); // protocol version
    bytes.extend(3_i32.to_ne_bytes()); // type: missing indirect
    bytes.extend(0x0102_0304_u32.to_ne_bytes()); // token
    bytes.extend(0x0010_002d_u32.to_ne_bytes()); // device 0:301
    bytes.extend(0x1_0000_0002_u64.to_ne_bytes()); // inode
    bytes.extend(1000_u32.to_ne_bytes()); // uid
    bytes.extend(100_u32.to_ne_bytes()); // gid
    bytes.extend(4712_u32.to_ne_bytes()); // pid
    bytes.extend(4711_u32.to_ne_bytes()); // tgid
    bytes.extend((name.len() as u32).to_ne_bytes()); // length of the name
    bytes.extend(name);
    bytes.resize(304, 0); // NUL, the rest of the field, padding
    bytes
}

fn set(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn problem(bytes: &[u8]) -> PacketProblem {
    Packet::decode(bytes).unwrap_err().problem
}

#[test]
fn golden_bytes_as_this_machine_has_them() {
    if cfg!(target_endian = "big") {
        return; // the literal below is of a little-endian machine
    }
    let head: [u8; 48] = [
        5, 0, 0, 0, // protocol version
        3, 0, 0, 0, // type: missing indirect
        4, 3, 2, 1, // token
        0x2d, 0, 0x10, 0, // device
        2, 0, 0, 0, 1, 0, 0, 0, // inode
        0xe8, 3, 0, 0, // uid
        100, 0, 0, 0, // gid
        0x68, 0x12, 0, 0, // pid
        0x67, 0x12, 0, 0, // tgid
        3, 0, 0, 0, // length of the name
        b'a', b'n', b'n', 0,
    ];
    assert_eq!(golden(b"ann")[..48], head);
}

#[test]
fn decodes_every_field() {
    let packet = Packet::decode(&golden(b"ann")).unwrap();
    assert_eq!(
        packet,
        Packet {
            kind: PacketKind::MissingIndirect,
            token: WaitToken::new(0x0102_0304).unwrap(),
            device: DeviceId::new(0, 301),
            inode: 0x1_0000_0002,
            uid: 1000,
            gid: 100,
            pid: 4712,
            tgid: 4711,
            name: "ann".into(),
        }
    );
    assert_eq!(
        packet.point(),
        PointId {
            device: packet.device,
            inode: packet.inode
        }
    );
}

#[test]
fn takes_300_and_304_bytes_and_nothing_else() {
    let mut long = golden(b"ann");
    long.push(0);
    for length in 0..=long.len() {
        let decoded = Packet::decode(&long[..length]);
        if length == 300 || length == 304 {
            assert_eq!(decoded.unwrap().name, "ann");
        } else {
            let error = decoded.unwrap_err();
            assert_eq!(error.problem, PacketProblem::Length { found: length });
            assert_eq!(error.answer_to.is_some(), length >= 24, "{length}");
        }
    }
}

#[test]
fn knows_the_four_kinds_of_protocol_5() {
    let kinds = [
        (3, PacketKind::MissingIndirect, true, true),
        (4, PacketKind::ExpireIndirect, false, true),
        (5, PacketKind::MissingDirect, true, false),
        (6, PacketKind::ExpireDirect, false, false),
    ];
    for (number, kind, missing, indirect) in kinds {
        let mut bytes = golden(b"ann");
        set(&mut bytes, 4, number);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!(packet.kind, kind);
        assert_eq!((kind.is_missing(), kind.is_indirect()), (missing, indirect));
        assert_eq!(packet.name, if indirect { "ann" } else { "" });
    }
    for number in [0, 1, 2, 7, -1] {
        let mut bytes = golden(b"ann");
        set(&mut bytes, 4, i32::cast_unsigned(number));
        assert_eq!(problem(&bytes), PacketProblem::Kind { found: number });
    }
}

#[test]
fn a_packet_that_cannot_be_read_can_be_answered() {
    let mut bytes = golden(b"ann");
    set(&mut bytes, 0, 4);
    let error = Packet::decode(&bytes).unwrap_err();
    assert_eq!(error.problem, PacketProblem::Version { found: 4 });
    let point = PointId {
        device: DeviceId::new(0, 301),
        inode: 0x1_0000_0002,
    };
    assert_eq!(
        error.answer_to,
        Some((point, WaitToken::new(0x0102_0304).unwrap()))
    );
    assert_eq!(
        error.to_string(),
        "autofs packet of protocol 4, not 5 (request 16909060 of device 0:301 inode 4294967298)"
    );
}

#[test]
fn refuses_token_0() {
    let mut bytes = golden(b"ann");
    set(&mut bytes, 8, 0);
    let error = Packet::decode(&bytes).unwrap_err();
    assert_eq!(
        error,
        PacketError {
            problem: PacketProblem::NoToken,
            answer_to: None
        }
    );
}

#[test]
fn names_are_1_to_255_bytes_without_a_nul() {
    let longest = [b'x'; 255];
    assert_eq!(Packet::decode(&golden(&longest)).unwrap().name, longest);
    for length in [0, 256, 260, u32::MAX] {
        let mut bytes = golden(b"ann");
        set(&mut bytes, 40, length);
        assert_eq!(problem(&bytes), PacketProblem::Name { length });
    }
    assert_eq!(problem(&golden(b"a\0b")), PacketProblem::Name { length: 3 });
    assert_eq!(
        Packet::decode(&golden(b"\xff/\n ")).unwrap().name,
        b"\xff/\n "
    );
}

/// Whatever the bytes, decoding ends in a packet or an error. Half of the rounds change a good
/// packet in a few places, because random bytes alone hardly get past the version.
#[test]
fn no_bytes_make_it_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut good = 0;
    for round in 0..100_000 {
        let mut bytes = if round % 2 == 0 {
            (0..random() % 400).map(|_| random() as u8).collect()
        } else {
            golden(b"some/name")
        };
        for _ in 0..random() % 4 {
            if let Some(byte) = bytes.get_mut((random() % 48) as usize) {
                *byte = random() as u8;
            }
        }
        good += u32::from(Packet::decode(&bytes).is_ok());
    }
    assert!(
        good > 1000,
        "only {good} good ones: the test does not reach what it is for"
    );
}
