//! The loop is run by several threads in turns.
//!
//! One thread at a time has the runtime and handles what has come; the others wait for the same
//! descriptors. Quick work, such as a bind mount, is done by the very thread that handled the
//! request, with the runtime given back meanwhile: being woken costs more than the mount. Work
//! that turns out not to be quick keeps one thread, and another takes its place in the loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use autofs::RequestTable;
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::ending::Ended;
use super::limits::{LOOP_MOST, LOOP_THREADS, QUICK_WORK};
use super::messages::Message;
use super::runtime::Runtime;

/// Something quick to be done, and what to tell the loop then.
pub(crate) type Quick = Box<dyn FnOnce() -> Message + Send>;

/// What can wake a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Woken {
    pub(crate) mailbox: bool,
    pub(crate) signals: bool,
    pub(crate) watcher: bool,
    pub(crate) network: bool,
    pub(crate) front_end: bool,
    pub(crate) keeper: bool,
    pub(crate) mounts: bool,
}

/// The descriptors that all threads wait for.
pub(crate) struct Doors {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off.
    armed: Mutex<Option<Instant>>,
}

const MAILBOX: u64 = 0;
const SIGNALS: u64 = 1;
const WATCHER: u64 = 2;
const FRONT_END: u64 = 3;
const TIMER: u64 = 4;
const END: u64 = 5;
const NETWORK: u64 = 6;
const KEEPER: u64 = 7;
const MOUNTS: u64 = 8;

impl Doors {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let doors = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            armed: Mutex::new(None),
        };
        doors.add(doors.timer.as_fd(), TIMER)?;
        Ok(doors)
    }

    /// Has threads woken by `bell`. Each event wakes one thread once, and that one must take all
    /// there is: so nobody is woken for what another is taking already.
    fn add(&self, bell: BorrowedFd<'_>, name: u64) -> io::Result<()> {
        let mut flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        if name == FRONT_END {
            // The keeper waits behind us, to hear of what no thread of ours waits for
            // (`keeper::pulse`).
            flags |= epoll::EventFlags::EXCLUSIVE;
        }
        epoll::add(&self.epoll, bell, epoll::EventData::new_u64(name), flags)?;
        Ok(())
    }

    pub(crate) fn mailbox(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.add(bell, MAILBOX)
    }

    pub(crate) fn signals(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.add(bell, SIGNALS)
    }

    pub(crate) fn watcher(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.add(bell, WATCHER)
    }

    pub(crate) fn network(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.add(bell, NETWORK)
    }

    pub(crate) fn front_end(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.add(bell, FRONT_END)
    }

    pub(crate) fn keeper(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        self.add(bell, KEEPER)
    }

    /// The mount table of /proc, which has news where others have data.
    pub(crate) fn mounts(&self, table: BorrowedFd<'_>) -> io::Result<()> {
        let flags = epoll::EventFlags::PRI | epoll::EventFlags::ET;
        epoll::add(&self.epoll, table, epoll::EventData::new_u64(MOUNTS), flags)?;
        Ok(())
    }

    /// Has nobody woken by `bell` any more.
    pub(crate) fn close(&self, bell: BorrowedFd<'_>) {
        // Closed before: all the better.
        let _ = epoll::delete(&self.epoll, bell);
    }

    /// Has a thread woken after `pause` at the latest. Being woken too early does no harm, so the
    /// timer is set only if it is to go off earlier than it would.
    fn wake_after(&self, pause: Duration) {
        let at = Instant::now() + pause;
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.is_some_and(|armed| armed <= at) {
            return;
        }
        let value = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
            // Nothing would disarm it.
            tv_nsec: i64::from(pause.subsec_nanos()).max(1),
        };
        let never = Timespec::default();
        let time = Itimerspec {
            it_interval: never,
            it_value: value,
        };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time).is_ok() {
            *armed = Some(at);
        }
    }

    fn wait(&self) -> io::Result<Woken> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(8);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut woken = Woken::default();
        for event in events {
            match event.data.u64() {
                MAILBOX => woken.mailbox = true,
                SIGNALS => woken.signals = true,
                WATCHER => woken.watcher = true,
                NETWORK => woken.network = true,
                FRONT_END => woken.front_end = true,
                KEEPER => woken.keeper = true,
                MOUNTS => woken.mounts = true,
                TIMER => self.timer_went_off(),
                _ => {}
            }
        }
        Ok(woken)
    }

    fn timer_went_off(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
    }
}

/// The threads of the loop: how many there are and which are doing quick work since when.
#[derive(Debug, Default)]
struct Crew {
    threads: usize,
    next: u64,
    busy: Vec<(u64, Instant)>,
}

impl Crew {
    /// Threads that have been doing "quick" work for too long.
    fn stuck(&self) -> usize {
        let stuck = |(_, since): &&(u64, Instant)| since.elapsed() >= QUICK_WORK;
        self.busy.iter().filter(stuck).count()
    }

    /// Whether a thread is left that waits for what comes while another one works.
    fn another_waits(&self) -> bool {
        self.threads - self.busy.len() >= 2
    }
}

struct Turns {
    shared: Mutex<Shared>,
    doors: Doors,
    /// Where the keeper sees whether the loop still turns: it beats as turns begin and end.
    table: RequestTable,
    bell: OwnedFd,
    over: Sender<io::Result<Ended>>,
}

struct Shared {
    /// `None` once it is over.
    runtime: Option<Runtime>,
    crew: Crew,
}

/// Runs the loop until its end, on threads of its own.
///
/// # Errors
/// The front end or the loop itself is broken.
pub(crate) fn run(runtime: Runtime, doors: Doors, table: &RequestTable) -> io::Result<Ended> {
    let (end, ended): (_, Receiver<io::Result<Ended>>) = channel();
    let flags = rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC;
    let turns = Arc::new(Turns {
        shared: Mutex::new(Shared {
            runtime: Some(runtime),
            crew: Crew::default(),
        }),
        doors,
        table: table.clone(),
        bell: rustix::event::eventfd(0, flags)?,
        over: end,
    });
    let bell = epoll::EventData::new_u64(END);
    epoll::add(&turns.doors.epoll, &turns.bell, bell, epoll::EventFlags::IN)?;
    for _ in 0..LOOP_THREADS {
        Turns::hire(&turns, &mut turns.lock().crew)?;
    }
    ended
        .recv()
        .map_err(|_| io::Error::other("the loop has ended without a word"))?
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a further thread.
    fn hire(turns: &Arc<Self>, crew: &mut Crew) -> io::Result<()> {
        let own = turns.clone();
        std::thread::Builder::new()
            .name("loop".into())
            .stack_size(1 << 20)
            .spawn(move || own.serve())?;
        crew.threads += 1;
        Ok(())
    }

    /// One thread's life.
    fn serve(self: Arc<Self>) {
        let _guard = Abort;
        if let Err(error) = Self::take_turns(&self) {
            self.over(Err(error));
        }
    }

    /// The end: the others are told, and who waits for it.
    fn over(&self, how: io::Result<Ended>) {
        let runtime = self.lock().runtime.take();
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        // Whoever has called `run` may be gone only when the process ends.
        let _ = self.over.send(how);
        drop(runtime);
    }

    /// Begins a turn.
    fn begin(&self) -> MutexGuard<'_, Shared> {
        let shared = self.lock();
        self.table.wakes_up();
        shared
    }

    /// Ends a turn.
    fn end(&self, shared: MutexGuard<'_, Shared>) {
        self.table.falls_asleep();
        drop(shared);
    }

    fn take_turns(turns: &Arc<Self>) -> io::Result<()> {
        let mut shared = turns.begin();
        loop {
            let Shared { runtime, crew } = &mut *shared;
            let Some(runtime) = runtime else {
                turns.end(shared);
                return Ok(());
            };
            runtime.work();
            runtime.hand_over();
            if let Some(ended) = runtime.ended() {
                turns.end(shared);
                turns.over(Ok(ended));
                return Ok(());
            }
            // One too many goes when there is nothing for it to do: nobody else knows yet of the work
            // that this turn has found.
            if crew.threads - crew.busy.len() > LOOP_THREADS && !runtime.has_quick() {
                crew.threads -= 1;
                if let Some(pause) = turns.pause(runtime, crew) {
                    turns.doors.wake_after(pause);
                }
                turns.end(shared);
                return Ok(());
            }
            if crew.threads - crew.stuck() < LOOP_THREADS && crew.threads < LOOP_MOST {
                Self::hire(turns, crew)?;
            }
            if crew.another_waits()
                && let Some(quick) = runtime.next_quick()
            {
                let number = crew.next;
                crew.next += 1;
                crew.busy.push((number, Instant::now()));
                turns.doors.wake_after(QUICK_WORK);
                turns.end(shared);
                let message = quick();
                shared = turns.begin();
                shared.crew.busy.retain(|(busy, _)| *busy != number);
                if let Some(runtime) = &mut shared.runtime {
                    runtime.message(message);
                }
                continue;
            }
            if runtime.look_around() {
                continue;
            }
            if let Some(pause) = turns.pause(runtime, crew) {
                turns.doors.wake_after(pause);
            }
            turns.end(shared);
            let woken = turns.doors.wait()?;
            shared = turns.begin();
            if let Some(runtime) = &mut shared.runtime {
                runtime.take(woken, &turns.doors)?;
            }
        }
    }

    /// How long the loop may sleep.
    fn pause(&self, runtime: &Runtime, crew: &Crew) -> Option<Duration> {
        let working = crew.busy.iter().map(|(_, since)| since.elapsed());
        let replaced = working.filter(|for_| *for_ < QUICK_WORK).max();
        let look = replaced.map(|for_| QUICK_WORK - for_);
        [runtime.pause(), look].into_iter().flatten().min()
    }
}

/// A thread that panics ends the process: what it leaves behind cannot be relied on, and the next
/// daemon adopts what is mounted.
struct Abort;

impl Drop for Abort {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
