//! Who answers while there is no daemon.
//!
//! When a daemon cannot be started, those who touch a path would wait without end. This process
//! reads their requests and answers each with ETIMEDOUT at its deadline; a daemon that comes before
//! that finds them in the table and serves them. It is a process of its own because answering may
//! mean to open a path, which may hang.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use autofs::{AnswerErrno, Control, DeviceId, Packet, PointRoot, RequestPipe, RequestTable, Slot};
use bstr::BString;
use piton_engine::cause::Errno;
use piton_frontend::{Incoming, Ticket};
use piton_map::options::Propagation;
use piton_plan::step::{TriggerId, TriggerSpec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::heritage::{Heritage, own_line};
use crate::daemon::front::front_end;
use crate::daemon::options::Front;
use crate::exit::Exit;

/// Answers that may hang at the same time. Each is a thread.
const HANGING_MOST: usize = 64;

/// A request that waits for its deadline.
struct Waiting {
    due: Instant,
    packet: Packet,
    slot: Option<Slot>,
}

/// Runs until it is killed, or its keeper is gone.
pub(super) fn run(front: &Front, deadline: Duration) -> Exit {
    let done = match front {
        Front::Autofs => serve(deadline),
        Front::Links(_) | Front::Fuse(_) => serve_links(front, deadline),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(trouble) => {
            tracing::error!("nobody answers in the daemon's place: {trouble}");
            Exit::Failure
        }
    }
}

/// The same for mount points that are served as links: what is mounted is found, and who asks for
/// something else is refused at his deadline. Those who wait ask a daemon that comes before that
/// again, by themselves.
fn serve_links(front: &Front, deadline: Duration) -> Result<(), String> {
    let line = own_line().map_err(|error| error.to_string())?;
    let received = Heritage::receive(&line).map_err(|error| error.to_string())?;
    let front_end = front_end(front, false, received.heritage, None)?;
    let found = front_end.survey(&[]);
    let strays = found.strays.into_iter().map(|stray| stray.existing);
    for (existing, number) in found.orphans.into_iter().chain(strays).zip(1..) {
        let spec = TriggerSpec {
            id: TriggerId(number),
            kind: existing.kind,
            path: existing.path,
            source: BString::default(),
            timeout: 0,
            strict_expire: false,
            mode: None,
            propagation: Propagation::default(),
        };
        if let Err(failure) = front_end.adopt(&spec) {
            tracing::error!("{}", failure.text);
        }
    }
    let bell = front_end.readable().ok_or("nobody can ask")?;
    // Marks are left for a daemon.
    std::mem::forget(front_end.resume());
    let mut waiting: VecDeque<(Instant, Ticket)> = VecDeque::new();
    loop {
        while let Some(incoming) = front_end.next().map_err(|error| error.to_string())? {
            let (Incoming::Access { ticket, .. }
            | Incoming::Exists { ticket, .. }
            | Incoming::Expire { ticket, .. }) = incoming;
            waiting.push_back((Instant::now() + deadline, ticket));
        }
        let now = Instant::now();
        while waiting.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, ticket)) = waiting.pop_front() {
                ticket.fail(Errno::TIMEDOUT);
            }
        }
        let next = waiting.front().map(|(due, _)| *due);
        let mut fds = [
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
            PollFd::new(&line, PollFlags::empty()),
        ];
        let _ = poll(&mut fds, pause_until(next).as_ref());
        if !fds[1].revents().is_empty() {
            // Nobody is answered by what is dropped here.
            std::mem::forget(waiting);
            return Ok(());
        }
    }
}

/// How long to wait for a moment, and a little more, so that it has come then.
fn pause_until(next: Option<Instant>) -> Option<Timespec> {
    next.map(|due| {
        let pause = due.saturating_duration_since(Instant::now());
        Timespec::try_from(pause + Duration::from_millis(1)).unwrap_or_default()
    })
}

fn serve(deadline: Duration) -> Result<(), String> {
    let line = own_line().map_err(|error| error.to_string())?;
    let Heritage {
        reader,
        writer,
        table,
        ..
    } = Heritage::receive(&line)
        .map_err(|error| error.to_string())?
        .heritage;
    let pipe = RequestPipe::from_fds(reader, writer).map_err(|error| error.to_string())?;
    let table = RequestTable::from_fd(table).map_err(|error| error.to_string())?;
    let control = Arc::new(Control::open().map_err(|error| error.to_string())?);
    let hanging = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut waiting: Vec<Waiting> = table
        .unanswered()
        .into_iter()
        .map(|found| Waiting {
            due: begun + deadline.saturating_sub(found.age),
            packet: found.packet,
            slot: Some(found.slot),
        })
        .collect();
    loop {
        loop {
            match pipe.read_tracked(&table) {
                Ok(Some(tracked)) => {
                    // What is idle stays: nobody is there to unmount it.
                    let patience = match tracked.packet.kind.is_missing() {
                        true => deadline,
                        false => Duration::ZERO,
                    };
                    waiting.push(Waiting {
                        due: Instant::now() + patience,
                        packet: tracked.packet,
                        slot: tracked.slot,
                    });
                }
                Ok(None) => break,
                Err(error) => tracing::error!(%error, "a request could not be read"),
            }
        }
        let now = Instant::now();
        while let Some(index) = waiting.iter().position(|request| request.due <= now) {
            answer(waiting.swap_remove(index), &control, &hanging);
        }
        let next = waiting.iter().map(|request| request.due).min();
        let pause = pause_until(next);
        let mut fds = [
            PollFd::new(&pipe, PollFlags::IN),
            PollFd::new(&line, PollFlags::empty()),
        ];
        let _ = poll(&mut fds, pause.as_ref());
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
    }
}

/// Answers one request, where it may hang without harm.
fn answer(request: Waiting, control: &Arc<Control>, hanging: &Arc<AtomicUsize>) {
    if hanging.fetch_add(1, Ordering::SeqCst) >= HANGING_MOST {
        hanging.fetch_sub(1, Ordering::SeqCst);
        tracing::error!("too many answers hang: one is left to the next daemon");
        return;
    }
    let Waiting { packet, slot, .. } = request;
    let (control, done) = (control.clone(), hanging.clone());
    let answering = std::thread::Builder::new()
        .name("answer".into())
        .stack_size(256 * 1024)
        .spawn(move || {
            refuse(&packet, &control);
            if let Some(slot) = slot {
                slot.free();
            }
            done.fetch_sub(1, Ordering::SeqCst);
        });
    if let Err(error) = answering {
        hanging.fetch_sub(1, Ordering::SeqCst);
        tracing::error!(%error, "one who waits could not be answered");
    }
}

fn refuse(packet: &Packet, control: &Control) {
    let errno = AnswerErrno::new(autofs::Errno::TIMEDOUT);
    let Some(path) = path_of(packet.device) else {
        return;
    };
    let answered = control
        .open_point(&path, packet.device)
        .map(PointRoot::from)
        .and_then(|root| control.fail(root.as_fd(), packet.token, errno));
    match answered {
        Ok(()) => tracing::warn!(
            path = %path.display(),
            key = %packet.name,
            pid = packet.tgid,
            "answered ETIMEDOUT: there is no daemon"
        ),
        Err(error) => tracing::error!(path = %path.display(), %error, "cannot be answered"),
    }
}

/// Where the trigger with this device number is.
fn path_of(device: DeviceId) -> Option<PathBuf> {
    let points = autofs::existing_points().ok()?;
    points
        .filter_map(Result::ok)
        .find(|point| point.device == device)
        .map(|point| point.target)
}
