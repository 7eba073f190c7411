//! Reading the mount table: lines as the kernel writes them, and any bytes.

use super::*;

fn parse(line: &str) -> ExistingPoint {
    ExistingPoint::parse(line.as_bytes()).unwrap().unwrap()
}

/// As Linux 6.18 writes it.
const INDIRECT: &str = "58 29 0:48 / /home rw,relatime shared:30 - autofs auto.home \
    rw,fd=5,pgrp=812,timeout=300,minproto=5,maxproto=5,indirect,pipe_ino=21333\n";

#[test]
fn reads_every_field() {
    assert_eq!(
        parse(INDIRECT),
        ExistingPoint {
            mount_id: 58,
            parent_id: 29,
            device: DeviceId::new(0, 48),
            inner_root: "/".into(),
            target: "/home".into(),
            source: "auto.home".into(),
            kind: PointKind::Indirect,
            pipe: PipeState::Connected { inode: 21333 },
            process_group: Some(812),
            timeout_s: 300,
            protocol: (5, 5),
            strict_expire: false,
            ignore: false,
        }
    );
}

#[test]
fn reads_a_catatonic_offset_with_all_flags() {
    let point = parse(
        "900 58 0:1000 / /net/a/b ro master:1 propagate_from:2 - autofs -hosts \
         rw,fd=-1,pgrp=0,timeout=0,minproto=3,maxproto=5,offset,strictexpire,ignore,pipe_ino=-1",
    );
    assert!(point.is_catatonic());
    assert_eq!(point.kind, PointKind::Offset);
    assert_eq!(point.device, DeviceId::new(0, 1000));
    assert_eq!(
        (point.process_group, point.timeout_s, point.protocol),
        (None, 0, (3, 5))
    );
    assert!(point.strict_expire && point.ignore);
}

#[test]
fn a_kernel_that_does_not_name_the_pipe_is_believed() {
    let line = INDIRECT.replace(",pipe_ino=21333", "");
    assert_eq!(parse(&line).pipe, PipeState::Unknown);
    assert!(parse(&line.replace("fd=5", "fd=-1")).is_catatonic());
}

#[test]
fn unescapes_target_and_source() {
    let line = INDIRECT.replace("/home ", r"/a\040b\134c\011\012\043 ");
    let point = parse(&line.replace("auto.home", r"map\040name"));
    assert_eq!(point.target, PathBuf::from("/a b\\c\t\n#"));
    assert_eq!(point.source, "map name");
}

#[test]
fn passes_over_other_file_systems() {
    for line in [
        "",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "23 22 0:5 / /autofs rw - tmpfs autofs rw",
        "no separator autofs",
    ] {
        assert_eq!(
            ExistingPoint::parse(line.as_bytes()).unwrap(),
            None,
            "{line}"
        );
    }
}

#[test]
fn a_broken_line_is_an_error_that_shows_it() {
    for (from, to) in [
        ("indirect,", ""),
        ("58 29", "x 29"),
        ("0:48", "48"),
        ("timeout=300", "timeout=x"),
        ("fd=5", "fd="),
    ] {
        let line = INDIRECT.replace(from, to);
        let error = ExistingPoint::parse(line.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(line.trim_end()), "{error}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..50_000 {
        let mut line = INDIRECT.as_bytes().to_vec();
        for _ in 0..random() % 6 {
            let at = (random() % line.len() as u64) as usize;
            match random() % 3 {
                0 => line[at] = random() as u8,
                1 => drop(line.remove(at)),
                _ => line.insert(at, b" ,=-\\0:"[(random() % 7) as usize]),
            }
        }
        let _ = ExistingPoint::parse(&line);
    }
}

#[test]
fn reads_this_machines_table() {
    for point in existing_points().unwrap() {
        point.unwrap();
    }
}
