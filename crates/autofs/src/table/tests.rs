//! The table, its limits, and what death leaves in it at each moment.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::packet::{PacketKind, PacketProblem};

/// A packet of an indirect point as the kernel writes it.
fn packet(token: u32, name: &[u8]) -> [u8; Packet::PADDED_LENGTH] {
    let mut bytes = [0; Packet::PADDED_LENGTH];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &5_u32.to_ne_bytes());
    put(4, &3_u32.to_ne_bytes());
    put(at::TOKEN, &token.to_ne_bytes());
    put(at::DEVICE, &45_u32.to_ne_bytes());
    put(at::INODE, &7_u64.to_ne_bytes());
    put(at::NAME_LENGTH, &(name.len() as u32).to_ne_bytes());
    put(at::NAME, name);
    bytes
}

fn send(pipe: &RequestPipe, token: u32) {
    rustix::io::write(
        pipe.writer(),
        &packet(token, format!("key{token}").as_bytes()),
    )
    .unwrap();
}

fn next(pipe: &RequestPipe, table: &RequestTable) -> Tracked {
    pipe.read_tracked(table).unwrap().expect("a request")
}

fn tokens(table: &RequestTable) -> Vec<u32> {
    let unanswered = table.unanswered();
    unanswered
        .iter()
        .map(|request| request.packet.token.number())
        .collect()
}

/// The same table as another process has it.
fn reopened(table: &RequestTable) -> RequestTable {
    RequestTable::from_fd(table.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

#[test]
fn what_was_read_is_there_until_it_is_answered() {
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    assert!(pipe.read_tracked(&table).unwrap().is_none());
    assert_eq!(table.reads(), 0);
    for token in 1..=3 {
        send(&pipe, token);
    }
    let mut read: Vec<Tracked> = (0..3).map(|_| next(&pipe, &table)).collect();
    assert_eq!(read[0].packet.kind, PacketKind::MissingIndirect);
    assert_eq!(read[0].packet.name, "key1");
    assert!(pipe.read_tracked(&table).unwrap().is_none());

    let other = reopened(&table);
    drop(table);
    assert_eq!((other.reads(), tokens(&other)), (3, vec![1, 2, 3]));
    read.remove(1).slot.unwrap().free();
    assert_eq!(tokens(&other), [1, 3]);
    let found = other.unanswered();
    assert_eq!(found[1].packet, read[1].packet);
    assert!(found[1].age < Duration::from_secs(60));
    for request in found {
        request.slot.free();
    }
    assert!(other.unanswered().is_empty());
}

/// A slot is used again after its request was answered by somebody else; the first owner, when it
/// comes round to freeing it, must leave it alone.
#[test]
fn who_comes_late_frees_nothing_of_others() {
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    send(&pipe, 1);
    let stopped = next(&pipe, &table);
    for request in table.unanswered() {
        request.slot.free();
    }
    send(&pipe, 2);
    let later = next(&pipe, &table);
    stopped.slot.unwrap().free();
    assert_eq!(tokens(&table), [2]);
    later.slot.unwrap().free();
    assert!(tokens(&table).is_empty());
}

#[test]
fn a_full_table_costs_the_safety_not_the_request() {
    let pipe = RequestPipe::new().unwrap();
    let table = RequestTable::with_slots(2).unwrap();
    for token in 1..=3 {
        send(&pipe, token);
    }
    let first = next(&pipe, &table);
    let second = next(&pipe, &table);
    let third = next(&pipe, &table);
    assert!(first.slot.is_some() && second.slot.is_some());
    assert!(third.slot.is_none());
    assert_eq!(third.packet.name, "key3");
    assert_eq!((table.reads(), tokens(&table)), (3, vec![1, 2]));
    assert!(table.mark(third.packet.point(), "a".into()).is_none());
    first.slot.unwrap().free();
    send(&pipe, 4);
    assert!(next(&pipe, &table).slot.is_some());
    assert_eq!(tokens(&table), [2, 4]);
}

#[test]
fn holds_as_many_as_it_says() {
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    for token in 1..=RequestTable::SLOTS as u32 {
        send(&pipe, token);
        assert!(next(&pipe, &table).slot.is_some());
    }
    send(&pipe, u32::MAX);
    assert!(next(&pipe, &table).slot.is_none());
    assert_eq!(table.unanswered().len(), RequestTable::SLOTS);
}

#[test]
fn a_request_that_cannot_be_read_holds_no_slot() {
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    rustix::io::write(pipe.writer(), &[5; 400]).unwrap();
    send(&pipe, 2);
    let Err(Error::Packet(error)) = pipe.read_tracked(&table) else {
        panic!("a packet of 312 bytes is none")
    };
    assert_eq!(error.problem, PacketProblem::Length { found: 312 });
    assert_eq!(next(&pipe, &table).packet.token.number(), 2);
    assert_eq!(tokens(&table), [2]);
    assert_eq!(table.reads(), 2);
}

/// What death leaves at each step of reading, made by hand.
#[test]
fn every_moment_of_death_while_reading() {
    let table = RequestTable::new().unwrap();
    let inner = &table.0;
    let whole = |token| {
        let mut bytes = [0; slot::PACKET_BYTES];
        bytes[..Packet::PADDED_LENGTH].copy_from_slice(&packet(token, b"ann"));
        bytes
    };
    // Claimed, by a process that lives: perhaps it is just reading.
    let _claimed = inner.claim().unwrap();
    // Read, not published.
    let unpublished = inner.claim().unwrap();
    inner.put_packet(unpublished.index, &whole(8));
    // The kernel could copy a part only: the request is still in the pipe.
    let torn = inner.claim().unwrap();
    let mut bytes = whole(9);
    bytes[LAST_BYTE] = 255;
    inner.put_packet(torn.index, &bytes);
    assert_eq!(tokens(&table), [8]);
    assert_eq!(inner.claim().unwrap().index, 3);
    // A token that stood in the slot before is not taken for a new one.
    for request in table.unanswered() {
        request.slot.free();
    }
    assert_eq!(inner.claim().unwrap().index, 1);
    assert!(tokens(&table).is_empty());
}

#[test]
fn slots_of_the_dead_that_hold_nothing_are_free_again() {
    let table = RequestTable::new().unwrap();
    let claimed = table.0.claim().unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    let dead = u64::from(child.id());
    child.wait().unwrap();
    let process = state::PROCESS_MASK << state::PROCESS_SHIFT;
    let word = claimed.word & !process | dead << state::PROCESS_SHIFT;
    table.0.state(0).store(word, Ordering::Relaxed);
    assert!(table.unanswered().is_empty());
    assert_eq!(table.0.claim().unwrap().index, 0);
}

#[test]
fn two_readers_share_a_pipe_and_a_table() {
    const REQUESTS: u32 = 2_000;
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (pipe, table) = (&pipe, reopened(&table));
            scope.spawn(move || {
                while table.reads() < u64::from(REQUESTS) {
                    if let Some(read) = pipe.read_tracked(&table).unwrap()
                        && read.packet.token.number().is_multiple_of(2)
                    {
                        read.slot.unwrap().free();
                    }
                }
            });
        }
        for token in 1..=REQUESTS {
            send(&pipe, token);
        }
    });
    let mut left = tokens(&table);
    left.sort_unstable();
    let odd: Vec<u32> = (1..=REQUESTS).filter(|token| token % 2 == 1).collect();
    assert_eq!(left, odd);
}

#[test]
fn marks_stay_until_they_are_ended() {
    let table = RequestTable::new().unwrap();
    let point = PointId {
        device: DeviceId::new(0, 45),
        inode: u64::MAX,
    };
    let longest = vec![b'x'; NAME_MAX];
    let direct = table.mark(point, "".into()).unwrap();
    let key = table.mark(point, longest.as_slice().into()).unwrap();
    assert!(table.mark(point, [b'x'; NAME_MAX + 1][..].into()).is_none());
    drop(key);
    let other = reopened(&table);
    assert!(other.unanswered().is_empty(), "marks are no requests");
    let marks = other.marks();
    let found: Vec<_> = marks
        .iter()
        .map(|it| (it.point, it.name.as_slice()))
        .collect();
    assert_eq!(found, [(point, &b""[..]), (point, longest.as_slice())]);
    direct.end();
    assert_eq!(other.marks().len(), 1);
    for marked in other.marks() {
        marked.mark.end();
    }
    assert!(table.marks().is_empty());
}

#[test]
fn rubbish_is_no_request_and_no_panic() {
    let table = RequestTable::with_slots(64).unwrap();
    let mut seed = 1_u64;
    for _ in 0..200 {
        for offset in (header::NEXT..table.0.memory.length()).step_by(8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            table.0.memory.word(offset).store(seed, Ordering::Relaxed);
        }
        let _ = (table.unanswered(), table.marks(), table.reads());
        let _ = table.0.claim();
    }
}

#[test]
fn only_a_table_is_taken_for_one() {
    let problem = |fd: OwnedFd| match RequestTable::from_fd(fd) {
        Err(Error::Table { problem }) => problem,
        other => panic!("{other:?}"),
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 8192]).unwrap();
    let unsealed = "it is not a memfd that is sealed against shrinking";
    assert_eq!(problem(file.into()), unsealed);
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(problem(null.into()), unsealed);
    let empty = Memory::create("short", 8).unwrap();
    assert_eq!(
        problem(empty.as_fd().try_clone_to_owned().unwrap()),
        "it is too short"
    );
    let table = RequestTable::with_slots(1).unwrap();
    let copy = || table.as_fd().try_clone_to_owned().unwrap();
    let set = |offset, value| table.0.memory.word(offset).store(value, Ordering::Relaxed);
    for absurd in [2, SLOTS_MOST as u64, u64::MAX] {
        set(header::SLOTS, absurd);
        assert_eq!(problem(copy()), "it is shorter than it says");
    }
    set(header::SLOTS, 1);
    assert!(RequestTable::from_fd(copy()).is_ok());
    set(header::VERSION, VERSION + 1);
    assert_eq!(problem(copy()), "it has the layout of another version");
    set(header::MAGIC, 0);
    assert_eq!(problem(copy()), "it is something else");
}

/// The descriptors that the reading child was given, in a variable of its environment.
const DESCRIPTORS: &str = "AUTOFS_TEST_DESCRIPTORS";

/// Not a test by itself: the process that is killed in the next one. It reads, answers every third
/// request, and never ends.
#[test]
fn child_that_reads() {
    let Some(text) = std::env::var_os(DESCRIPTORS) else {
        return;
    };
    let paths = text.into_string().unwrap();
    let [reader, writer, table]: [OwnedFd; 3] = paths
        .split(' ')
        .map(|path| {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(path);
            file.unwrap().into()
        })
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let pipe = RequestPipe::from_fds(reader, writer).unwrap();
    let table = RequestTable::from_fd(table).unwrap();
    loop {
        if let Some(read) = pipe.read_tracked(&table).unwrap()
            && read.packet.token.number().is_multiple_of(3)
        {
            read.slot.unwrap().free();
        }
    }
}

#[test]
fn it_is_counted_how_often_a_request_is_taken_up() {
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    send(&pipe, 1);
    let _ = pipe.read_tracked(&table).unwrap().unwrap();
    for life in 1..=3 {
        let [request] = &table.unanswered()[..] else {
            panic!("one request was read")
        };
        assert_eq!(request.slot.take_up(), life);
        assert!(request.age < Duration::from_secs(60), "{:?}", request.age);
    }
}

/// However a reader dies: each request is in the pipe or in the table, and nowhere twice.
#[test]
fn killed_at_any_moment_it_loses_nothing() {
    const ROUNDS: u32 = 40;
    let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
    let own = |fd: BorrowedFd<'_>| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    let descriptors = [own(pipe.as_fd()), own(pipe.writer()), own(table.as_fd())].join(" ");
    let mut sent = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "table::tests::child_that_reads", "--nocapture"])
            .env(DESCRIPTORS, &descriptors)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let before = table.reads();
        let mut open = BTreeMap::new();
        let mut send_one = || {
            sent += 1;
            send(&pipe, sent);
            open.insert(sent, 0);
        };
        // The pipe holds more than these; they wait until it reads.
        (0..10).for_each(|_| send_one());
        let begun = Instant::now();
        while table.reads() == before {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it does not read"
            );
            std::thread::sleep(Duration::from_micros(100));
        }
        // Each time it lives a little longer, and at most until the table is full.
        let end = Instant::now() + Duration::from_micros(u64::from(round) * 7);
        (0..RequestTable::SLOTS - 10)
            .take_while(|_| Instant::now() < end)
            .for_each(|_| send_one());
        child.kill().unwrap();
        child.wait().unwrap();
        for request in table.unanswered() {
            *open.get_mut(&request.packet.token.number()).unwrap() += 1;
            request.slot.free();
        }
        while let Some(packet) = pipe.read().unwrap() {
            *open.get_mut(&packet.token.number()).unwrap() += 1;
        }
        for (token, times) in open {
            // Those that it answered are nowhere.
            let right = times == 1 || times == 0 && token.is_multiple_of(3);
            assert!(right, "request {token} was found {times} times");
        }
    }
    assert!(table.reads() > u64::from(ROUNDS), "it never read");
}
