//! A worker: a process of the daemon's that may be stuck, because it can be done without.
//!
//! It takes one request at a time from the socket that is its standard input, and does it in the
//! daemon's process group, so that it triggers nothing. When the socket is closed it ends; a thread
//! sees to that even while a request waits in the kernel.
//!
//! What a worker changes it changes in one last system call that waits for nobody, wherever the
//! kernel offers one. A worker that was killed while it waited then changes nothing any more.

use std::time::{Duration, Instant};

use bstr::ByteSlice;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::error::Error;
use crate::hands::System;
use crate::helper;
use crate::inspect::inspect;
use crate::lifeline;
use crate::limits;
use crate::packet;
use crate::perform::{Hands, MountJob};
use crate::place::How;
use crate::serving::is_served;
use crate::snapshot;
use crate::wire::{self, Act, Answer, At, Means, Reply, Request};

/// Serves the daemon at the other end of `socket` until that is closed.
///
/// # Errors
/// The socket is none, or what came is no message of ours.
pub fn serve(socket: impl AsFd) -> std::io::Result<()> {
    let socket = socket.as_fd();
    lifeline::tie(socket.try_clone_to_owned()?)?;
    let mut buffer = vec![0; limits::MESSAGE];
    loop {
        let Some((length, fd)) = packet::receive(socket, &mut buffer)? else {
            return Ok(());
        };
        let request = wire::decode(&buffer[..length])?;
        let answer = act(request, fd);
        let lingers = helper::any_left();
        let reply = wire::encode(&Reply { answer, lingers }).or_else(|errno| {
            let answer = Answer::Failed(errno.raw_os_error(), "the answer is too long".into());
            wire::encode(&Reply { answer, lingers })
        })?;
        packet::send(socket, &reply, None)?;
        if lingers {
            while helper::any_left() {
                std::thread::sleep(Duration::from_millis(20));
            }
            return Ok(());
        }
    }
}

fn act(request: Request, fd: Option<OwnedFd>) -> Answer {
    let result = match request {
        Request::At(at) => act_at(*at, fd),
        Request::Inspect(path) => inspect(path.as_bstr(), How::Waiting).map(yes_or_no),
        Request::Sweep(means) => Ok(swept(means)),
        Request::Serves(path) => Ok(yes_or_no(is_served(path.as_bstr()))),
    };
    result.unwrap_or_else(|error| Answer::failed(&error))
}

fn act_at(at: At, fd: Option<OwnedFd>) -> Result<Answer, Error> {
    let At {
        root,
        path,
        act,
        means,
    } = at;
    let settings = means.settings();
    let hands = System {
        root: root.as_bstr(),
        settings: &settings,
        until: Instant::now() + settings.deadline,
        how: How::Waiting,
        triggers: None,
    };
    let path = path.as_bstr();
    let done = |()| Answer::Done;
    match act {
        Act::Mount {
            attempt,
            propagation,
        } => hands
            .mount(&MountJob {
                target: path,
                attempt: &attempt,
                propagation,
                attempts_left: 1,
            })
            .map(yes_or_no),
        Act::Unmount { helper } => hands.unmount(path, helper).map(done),
        Act::MakeDirectory => hands.make_directory(path).map(Answer::Made),
        Act::RemoveDirectory => hands.remove_directory(path).map(done),
        Act::Symlink(to) => hands.symlink(path, to.as_bstr()).map(yes_or_no),
        Act::RemoveSymlink => hands.remove_symlink(path).map(done),
        Act::Attach => match fd {
            Some(mount) => hands.attach(mount.as_fd(), path).map(done),
            None => Err(Error::refused(path, Errno::BADF, "no mount came along")),
        },
        Act::Detach => hands.detach(path).map(done),
        Act::LetGo => hands.let_go(path).map(done),
    }
}

fn swept(means: Means) -> Answer {
    let settings = means.settings();
    let until = Instant::now() + settings.deadline;
    let places = settings.snapshots.as_ref();
    Answer::Swept(places.map_or_else(Default::default, |places| snapshot::sweep(places, until)))
}

fn yes_or_no(yes: bool) -> Answer {
    if yes { Answer::Yes } else { Answer::No }
}
