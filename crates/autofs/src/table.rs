//! The table of requests that were read and not yet answered, in memory that outlives its process.
//!
//! # What it is for
//!
//! A request that nobody has read waits in the request pipe, for as long as somebody holds the
//! pipe's read end: a daemon may die and its successor finds it there. A request that *was* read is
//! gone from the pipe. If its reader dies before it answers, the process that waits sleeps for ever.
//! So what was read is written down where death does not reach it: in a memfd, of which another
//! process (a parent, a service manager) holds a descriptor and which it hands to the successor,
//! along with the pipe.
//!
//! # Why nothing can be lost
//!
//! Writing down *after* reading leaves a moment in which SIGKILL loses a request. So the request is
//! not read and then written down: [`RequestPipe::read_tracked`] has the kernel read it *into the
//! table*. One `read(2)` copies the request and takes it from the pipe, and SIGKILL takes effect
//! when a system call ends, not in the midst of it. Either the request is in the pipe, or it is in
//! the table. It costs no system call more than reading it elsewhere.
//!
//! In detail, a slot of the table goes through these states; each change is one atomic
//! compare-and-swap of the slot's state word, which also holds the process id of who claimed it and
//! a number that is never given twice, so that nobody changes a slot that meanwhile means something
//! else:
//!
//! ```text
//!          wipe              read(2), publish            answer, free
//!   free ───▶ taken ─▶ claimed ───────────────────▶ read ───────────────────▶ free
//!     ▲                    │  nothing to read
//!     └────────────────────┘
//! ```
//!
//! Before the kernel writes to it, the token in a claimed slot is set to 0, which is no token, and
//! the last byte of the name field to 255, where every packet has a NUL. Death
//!
//! - *before the slot is wiped*: it is taken, which means nothing: it is made free again.
//! - *between claim and `read(2)`*: the slot has no token. [`RequestTable::unanswered`] makes it
//!   free again.
//! - *within `read(2)`, while the kernel copies*: the copying can end early only if a page of the
//!   table cannot be had (it was swapped out, and the wait for it was ended by SIGKILL). Then the
//!   request stays in the pipe, and the last byte of the slot's name field is still 255: the same.
//! - *between `read(2)` and publishing*: the slot is claimed, and holds a whole request. It counts
//!   as unanswered.
//! - *before the answer*: the slot is published. It counts as unanswered.
//! - *between the answer and freeing the slot*: it still counts as unanswered, and the successor
//!   answers a second time. The kernel does not know that token any more (`EINVAL`) and tokens are
//!   not given again for four thousand million requests, so nobody is harmed; be quiet about it.
//!
//! Hence: at least once in the table, exactly once answered as far as anybody who waits can tell.
//!
//! # Bounds
//!
//! [`RequestTable::SLOTS`] requests and marks fit. The lowest free slot is used, so that few pages
//! are ever touched (10 requests to a page). When the table is full, requests are read and answered
//! without a slot: those would be lost by a death. The kernel keeps one request for all who wait
//! for the same thing, so a full table means that many *different* places are being waited for.
//!
//! # Marks
//!
//! A slot can also say "work is under way here that leaves something half done if we die"
//! ([`RequestTable::mark`]): a successor that finds the mark does not trust what it finds there.
//!
//! # Trust
//!
//! Whoever holds the memfd can write to it, at any time. What is read from it is copied first and
//! checked then; rubbish in it makes for requests that are not found or that are answered in vain,
//! but for no panic and no undefined behaviour. The memfd is sealed against shrinking, so that what
//! is mapped stays there to be touched.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bstr::{BStr, BString};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use crate::device::{DeviceId, PointId};
use crate::error::{Error, Result};
use crate::packet::{NAME_MAX, Packet, at};
use crate::pipe::RequestPipe;

mod memory;

use memory::Memory;

/// Requests that were read and not answered, and marks, shared with the processes that hold a
/// descriptor of it (see `table.rs` for how it works).
///
/// Copies of this value are the same table.
#[derive(Clone, Debug)]
pub struct RequestTable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Memory,
    slots: usize,
    /// The first claim that was made after this table was opened.
    opened: u64,
    /// This process, as slots name it.
    process: u64,
}

/// A place in the table, held by a request until it is answered.
///
/// Dropping it does not free it: then a successor answers the request.
#[derive(Debug)]
#[must_use = "a slot that is not freed counts as an unanswered request"]
pub struct Slot {
    table: Arc<Inner>,
    index: usize,
    /// The slot's state as long as it is ours.
    word: u64,
}

/// A request that was read, and its place in the table.
#[derive(Debug)]
pub struct Tracked {
    /// The request.
    pub packet: Packet,
    /// To be freed after the answer; nothing if the table was full.
    pub slot: Option<Slot>,
}

/// A request that was read, by whomever, and not answered, as far as the table tells.
#[derive(Debug)]
pub struct Unanswered {
    /// The request.
    pub packet: Packet,
    /// To be freed after the answer.
    pub slot: Slot,
    /// How long ago it was read.
    pub age: Duration,
}

/// A note that work is under way which leaves something half done if the process dies.
///
/// Dropping it does not end it: then a successor finds it.
#[derive(Debug)]
#[must_use = "a mark that is not ended says that work was never finished"]
pub struct Mark(Slot);

/// A mark in the table, by whomever.
#[derive(Debug)]
pub struct Marked {
    /// The point at which work is or was under way.
    pub point: PointId,
    /// The name below it; may be empty.
    pub name: BString,
    /// To be ended when it is done, or undone.
    pub mark: Mark,
    /// Whether it was made after this table was opened: by who opened it, since one at a time works.
    pub own: bool,
}

/// The words of the header, by offset in bytes.
mod header {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const SLOTS: usize = 16;
    pub(super) const SLOT_BYTES: usize = 24;
    /// The number of the next claim.
    pub(super) const NEXT: usize = 64;
    /// How many requests were read.
    pub(super) const READS: usize = 128;
    /// Sign of life of who reads.
    pub(super) const BEAT: usize = 192;
    /// What the header takes: a page.
    pub(super) const BYTES: usize = 4096;
}

/// The words of a slot, by offset in bytes.
mod slot {
    /// When it was claimed, in milliseconds of the monotonic clock; in the highest bits how often
    /// the request was taken up by a successor.
    pub(super) const READ_AT: usize = 0;
    pub(super) const MILLISECONDS: u64 = (1 << TAKEN_UP_SHIFT) - 1;
    pub(super) const TAKEN_UP_SHIFT: u32 = 48;
    /// A packet, or what a mark has of one.
    pub(super) const PACKET: usize = 8;
    /// Longer than a packet, so that one that is too long is seen to be.
    pub(super) const PACKET_BYTES: usize = crate::packet::Packet::PADDED_LENGTH + 8;
    /// All of it: whole cache lines.
    pub(super) const BYTES: usize = 320;
}

const MAGIC: u64 = u64::from_ne_bytes(*b"autofsRT");
/// Of the layout. A table of another version cannot be taken over.
const VERSION: u64 = 1;
/// The last byte of the name field: 0 in every packet, whose longest name is a byte shorter.
const LAST_BYTE: usize = at::NAME + NAME_MAX;

/// More slots than any version would make.
const SLOTS_MOST: usize = 1 << 20;

const _: () = assert!(slot::PACKET + slot::PACKET_BYTES <= slot::BYTES);
const _: () = assert!(slot::BYTES.is_multiple_of(64));
const _: () = assert!(at::TOKEN.is_multiple_of(8));

/// What a slot is, in the lowest bits of its state word.
mod state {
    pub(super) const FREE: u64 = 0;
    pub(super) const CLAIMED: u64 = 1;
    pub(super) const READ: u64 = 2;
    pub(super) const MARK: u64 = 3;
    /// Taken, and what an earlier request left in it is not wiped yet.
    pub(super) const TAKEN: u64 = 4;
    pub(super) const MASK: u64 = 7;
    /// Above: the process that claimed it (the kernel gives at most 22 bits), then the claim's
    /// number.
    pub(super) const PROCESS_SHIFT: u32 = 3;
    pub(super) const PROCESS_MASK: u64 = (1 << 22) - 1;
    pub(super) const NUMBER_SHIFT: u32 = 25;
}

impl RequestTable {
    /// How many requests and marks fit: more than an automounter lets wait at one time.
    pub const SLOTS: usize = 4096;

    /// A new, empty table.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> Result<Self> {
        Self::with_slots(Self::SLOTS)
    }

    fn with_slots(slots: usize) -> Result<Self> {
        let memory = Memory::create("autofs-requests", bytes_of(slots))?;
        let set = |offset, value| memory.word(offset).store(value, Ordering::Relaxed);
        set(header::VERSION, VERSION);
        set(header::SLOTS, slots as u64);
        set(header::SLOT_BYTES, slot::BYTES as u64);
        memory.word(header::MAGIC).store(MAGIC, Ordering::Release);
        Ok(Self::of(memory, slots))
    }

    /// The table behind a descriptor that another process kept.
    ///
    /// The descriptor is set to be closed on exec: who hands it on makes a copy.
    ///
    /// # Errors
    ///
    /// [`Error::Table`] if it is no such table, or has another layout: it was made by another
    /// version of this library. Its requests then cannot be found.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let memory = Memory::open(fd, header::BYTES)?;
        let problem = |problem| Err(Error::Table { problem });
        let get = |offset| memory.word(offset).load(Ordering::Acquire);
        if get(header::MAGIC) != MAGIC {
            return problem("it is something else");
        }
        if get(header::VERSION) != VERSION || get(header::SLOT_BYTES) != slot::BYTES as u64 {
            return problem("it has the layout of another version");
        }
        let slots = usize::try_from(get(header::SLOTS)).unwrap_or(usize::MAX);
        if slots > SLOTS_MOST || bytes_of(slots) > memory.length() {
            return problem("it is shorter than it says");
        }
        Ok(Self::of(memory, slots))
    }

    fn of(memory: Memory, slots: usize) -> Self {
        let opened = memory.word(header::NEXT).load(Ordering::Relaxed);
        Self(Arc::new(Inner {
            memory,
            slots,
            opened,
            process: u64::from(std::process::id()) & state::PROCESS_MASK,
        }))
    }

    /// How many requests were ever read into it, or past it when it was full, by all processes.
    /// While there are requests in the pipe and this does not grow, nobody reads them.
    pub fn reads(&self) -> u64 {
        self.0.memory.word(header::READS).load(Ordering::Relaxed)
    }

    /// The sign of life of who reads: it changes with each [`RequestTable::falls_asleep`] and
    /// [`RequestTable::wakes_up`], and is odd in between while it is awake.
    pub fn beat(&self) -> u64 {
        self.0.memory.word(header::BEAT).load(Ordering::Relaxed)
    }

    /// Who reads is about to wait for requests.
    pub fn falls_asleep(&self) {
        self.set_awake(0);
    }

    /// Who reads has something to do.
    pub fn wakes_up(&self) {
        self.set_awake(1);
    }

    fn set_awake(&self, awake: u64) {
        let beat = self.0.memory.word(header::BEAT);
        let now = beat.load(Ordering::Relaxed);
        // One process reads at a time; a lost step would do no harm.
        beat.store((now / 2 + 1) * 2 + awake, Ordering::Relaxed);
    }

    /// What was read and not answered, in the order in which it was read.
    ///
    /// Meant for a successor, before it begins to read, and for a guardian whose daemon is gone or
    /// stuck: what *another* process that is alive is about to answer is in there too. Also frees
    /// the slots that a process which is gone had claimed and never used.
    pub fn unanswered(&self) -> Vec<Unanswered> {
        let now = now_ms();
        let mut found: Vec<Unanswered> = (0..self.0.slots)
            .filter_map(|index| self.unanswered_at(index, now))
            .collect();
        found.sort_by_key(|request| request.slot.word >> state::NUMBER_SHIFT);
        found
    }

    fn unanswered_at(&self, index: usize, now: u64) -> Option<Unanswered> {
        let inner = &self.0;
        let word = inner.state(index).load(Ordering::Acquire);
        let kind = word & state::MASK;
        if kind == state::TAKEN && !inner.claimer_lives(word) {
            inner.slot(index, word).free();
        }
        if kind != state::CLAIMED && kind != state::READ {
            return None;
        }
        let bytes = inner.packet(index);
        let read_at = inner
            .slot_word(index, slot::READ_AT)
            .load(Ordering::Relaxed)
            & slot::MILLISECONDS;
        let slot = inner.slot(index, word);
        if kind == state::CLAIMED && !is_whole(&bytes) {
            if !inner.claimer_lives(word) {
                slot.free();
            }
            return None;
        }
        // Of another reader's while we looked: then it is answered, and what we have may be of two.
        if inner.state(index).load(Ordering::Acquire) != word {
            return None;
        }
        match Packet::decode(&bytes[..Packet::PADDED_LENGTH]) {
            Ok(packet) => Some(Unanswered {
                packet,
                slot,
                age: Duration::from_millis(now.saturating_sub(read_at)),
            }),
            // Not the kernel's: those are answered by who reads them.
            Err(_) => {
                slot.free();
                None
            }
        }
    }

    /// Notes that work begins at `name` below a point (`name` may be empty) which leaves something
    /// half done if this process dies.
    ///
    /// Nothing if the table is full or the name is longer than a name can be (255 bytes): then a
    /// successor will not know.
    pub fn mark(&self, point: PointId, name: &BStr) -> Option<Mark> {
        if name.len() > NAME_MAX {
            return None;
        }
        let inner = &self.0;
        let mut bytes = [0; slot::PACKET_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(at::DEVICE, &point.device.raw().to_ne_bytes());
        put(at::INODE, &point.inode.to_ne_bytes());
        put(at::NAME_LENGTH, &(name.len() as u32).to_ne_bytes());
        put(at::NAME, name);
        let claim = inner.claim()?;
        inner.put_packet(claim.index, &bytes);
        claim.publish(state::MARK).map(Mark)
    }

    /// The marks in the table, in the order in which they were made: of this process, and of those
    /// before it that did not come to end them.
    pub fn marks(&self) -> Vec<Marked> {
        let mut found: Vec<Marked> = (0..self.0.slots)
            .filter_map(|index| self.marked_at(index))
            .collect();
        found.sort_by_key(|marked| marked.mark.0.word >> state::NUMBER_SHIFT);
        found
    }

    fn marked_at(&self, index: usize) -> Option<Marked> {
        let inner = &self.0;
        let word = inner.state(index).load(Ordering::Acquire);
        if word & state::MASK != state::MARK {
            return None;
        }
        let bytes = inner.packet(index);
        if inner.state(index).load(Ordering::Acquire) != word {
            return None;
        }
        let four = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 4]));
        let eight = |at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 8]));
        let length = (four(at::NAME_LENGTH) as usize).min(NAME_MAX);
        Some(Marked {
            point: PointId {
                device: DeviceId::from_raw(four(at::DEVICE)),
                inode: eight(at::INODE),
            },
            name: bytes[at::NAME..at::NAME + length].into(),
            mark: Mark(inner.slot(index, word)),
            own: word >> state::NUMBER_SHIFT >= inner.opened,
        })
    }
}

impl AsFd for RequestTable {
    /// To be handed to another process, which opens it with [`RequestTable::from_fd`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.memory.as_fd()
    }
}

impl RequestPipe {
    /// Reads the next request, or nothing if there is none now, in such a way that it is at every
    /// moment in the pipe or in the table.
    ///
    /// When the table is full it is read as by [`RequestPipe::read`].
    ///
    /// # Errors
    ///
    /// Those of [`RequestPipe::read`]. A request that cannot be read holds no slot: answer it at
    /// once.
    pub fn read_tracked(&self, table: &RequestTable) -> Result<Option<Tracked>> {
        let inner = &table.0;
        let Some(claim) = inner.claim() else {
            return self.read_past(table);
        };
        let into = claim.packet_offset();
        let length = loop {
            match inner.memory.fill(self.as_fd(), into, slot::PACKET_BYTES) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        let length = match length {
            Ok(0) => Err(Error::PipeClosed),
            Ok(length) => Ok(length),
            Err(Errno::AGAIN) => {
                claim.free();
                return Ok(None);
            }
            // There was no memory for the slot's page. The request is still in the pipe.
            Err(Errno::FAULT) => {
                claim.free();
                return self.read_past(table);
            }
            Err(errno) => Err(Error::call("read", errno)),
        };
        let length = match length {
            Ok(length) => length,
            Err(error) => {
                claim.free();
                return Err(error);
            }
        };
        inner.count_read();
        let bytes = inner.packet(claim.index);
        match Packet::decode(&bytes[..length.min(bytes.len())]) {
            Ok(packet) => Ok(Some(Tracked {
                packet,
                slot: claim.publish(state::READ),
            })),
            Err(error) => {
                claim.free();
                Err(error.into())
            }
        }
    }

    fn read_past(&self, table: &RequestTable) -> Result<Option<Tracked>> {
        let read = self.read();
        if !matches!(read, Ok(None)) {
            table.0.count_read();
        }
        Ok(read?.map(|packet| Tracked { packet, slot: None }))
    }
}

impl Inner {
    /// The state word of a slot.
    fn state(&self, index: usize) -> &std::sync::atomic::AtomicU64 {
        self.memory.word(header::BYTES + index * size_of::<u64>())
    }

    /// Where a slot begins.
    fn offset(&self, index: usize) -> usize {
        header::BYTES + self.slots * size_of::<u64>() + index * slot::BYTES
    }

    fn slot_word(&self, index: usize, offset: usize) -> &std::sync::atomic::AtomicU64 {
        self.memory.word(self.offset(index) + offset)
    }

    /// A copy of what stands where a packet is.
    fn packet(&self, index: usize) -> [u8; slot::PACKET_BYTES] {
        let mut bytes = [0; slot::PACKET_BYTES];
        for (at, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            let word = self.slot_word(index, slot::PACKET + at * 8);
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }

    fn put_packet(&self, index: usize, bytes: &[u8; slot::PACKET_BYTES]) {
        for (at, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(*chunk.first_chunk().unwrap_or(&[0; 8]));
            self.slot_word(index, slot::PACKET + at * 8)
                .store(word, Ordering::Relaxed);
        }
    }

    fn slot(self: &Arc<Self>, index: usize, word: u64) -> Slot {
        Slot {
            table: self.clone(),
            index,
            word,
        }
    }

    /// Claims the lowest free slot, and makes it one in which no request stands.
    fn claim(self: &Arc<Self>) -> Option<Slot> {
        let next = self.memory.word(header::NEXT);
        let number = next.fetch_add(1, Ordering::Relaxed);
        let word =
            number << state::NUMBER_SHIFT | self.process << state::PROCESS_SHIFT | state::TAKEN;
        let index = (0..self.slots).find(|index| {
            let state = self.state(*index);
            state.load(Ordering::Relaxed) == state::FREE
                && state
                    .compare_exchange(state::FREE, word, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        })?;
        let set = |offset, value| {
            self.slot_word(index, offset)
                .store(value, Ordering::Relaxed)
        };
        set(slot::PACKET + at::TOKEN, 0);
        set(slot::PACKET + LAST_BYTE / 8 * 8, u64::MAX);
        // Before the request is read: nothing may stand between reading and its being found.
        set(slot::READ_AT, now_ms());
        // Until here it means nothing, since what an earlier request left could be taken for one.
        self.slot(index, word).publish(state::CLAIMED)
    }

    fn count_read(&self) {
        let reads = self.memory.word(header::READS);
        reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the process that claimed a slot is there; also true where that cannot be known.
    fn claimer_lives(&self, word: u64) -> bool {
        let process = word >> state::PROCESS_SHIFT & state::PROCESS_MASK;
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
    }
}

impl Slot {
    /// Counts that a successor takes the request up; returns how often that has happened. One that
    /// has seen many lives end may be what ends them.
    pub fn take_up(&self) -> u64 {
        const ONE: u64 = 1 << slot::TAKEN_UP_SHIFT;
        let word = self.table.slot_word(self.index, slot::READ_AT);
        (word.fetch_add(ONE, Ordering::Relaxed) >> slot::TAKEN_UP_SHIFT) + 1
    }

    /// The request was answered: the slot may be used for another.
    pub fn free(self) {
        // If it is not ours any more, somebody else has answered the request and freed it.
        let _ = self.table.state(self.index).compare_exchange(
            self.word,
            state::FREE,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    fn packet_offset(&self) -> usize {
        self.table.offset(self.index) + slot::PACKET
    }

    /// From one state to `kind`; nothing if somebody else has changed it.
    fn publish(self, kind: u64) -> Option<Self> {
        let word = self.word & !state::MASK | kind;
        self.table
            .state(self.index)
            .compare_exchange(self.word, word, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then(|| self.table.slot(self.index, word))
    }
}

impl Mark {
    /// The work is done, or undone.
    pub fn end(self) {
        self.0.free();
    }
}

/// Whether the bytes are a request that the kernel has copied to its end.
fn is_whole(bytes: &[u8; slot::PACKET_BYTES]) -> bool {
    bytes[at::TOKEN..at::TOKEN + 4] != [0; 4] && bytes[LAST_BYTE] == 0
}

fn bytes_of(slots: usize) -> usize {
    header::BYTES + slots * (size_of::<u64>() + slot::BYTES)
}

/// A clock that all processes of the machine share.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests;
