//! What outlives a daemon, and how it is handed on.
//!
//! Keeper and daemon are joined by a *line*, a socket that keeps messages apart. The first letter on
//! it is the heritage: descriptors by SCM_RIGHTS, and a text that names them. A process that is
//! started finds its end of the line as its standard input. So the same letter serves the daemon,
//! its successor, a new keeper and a later version of this program.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use piton_control::line::{LONGEST, Letter, Word};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::links::Links;

/// Most descriptors in a letter: a later version may send some that this one does not know.
const DESCRIPTORS_MOST: usize = 16;

/// The descriptors without which accesses would be lost.
pub(crate) struct Heritage {
    /// Where the kernel's requests are read. As long as it is open somewhere, nobody is refused.
    pub(crate) reader: OwnedFd,
    /// What new triggers are given.
    pub(crate) writer: OwnedFd,
    /// The table of requests that were read and not answered.
    pub(crate) table: OwnedFd,
    /// The control socket.
    pub(crate) control: OwnedFd,
    /// The open lock file of the runtime directory.
    pub(crate) lock: OwnedFd,
    /// What mount points are served with, where they are.
    pub(crate) links: Option<Links>,
}

/// A heritage that has arrived.
pub(crate) struct Received {
    pub(crate) heritage: Heritage,
    pub(crate) told: Letter,
    /// The line to the daemon, if it is another one than this came on.
    pub(crate) daemons_line: Option<OwnedFd>,
}

/// Why a heritage could not be handed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeritageError {
    /// A system call failed.
    #[error("{doing}: {errno}")]
    Call {
        doing: &'static str,
        errno: rustix::io::Errno,
    },
    /// This program was started in a way only it uses for itself, by somebody else.
    #[error("standard input is not the line to a piton process: {0}")]
    NotOurs(&'static str),
}

/// A new line: one end for this process, one for the process that it starts.
pub(crate) fn line() -> Result<(OwnedFd, OwnedFd), HeritageError> {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(|errno| {
        HeritageError::Call {
            doing: "making a line between keeper and daemon",
            errno,
        }
    })
}

/// This process's end of the line: its standard input, which is nothing from here on.
pub(crate) fn own_line() -> Result<OwnedFd, HeritageError> {
    let call = |doing| move |errno| HeritageError::Call { doing, errno };
    let line = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(call("keeping the line"))?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let nothing = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
        .map_err(call("opening /dev/null"))?;
    rustix::stdio::dup2_stdin(&nothing).map_err(call("closing standard input"))?;
    Ok(line)
}

impl Heritage {
    /// The same descriptors once more.
    pub(crate) fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self {
            reader: self.reader.try_clone()?,
            writer: self.writer.try_clone()?,
            table: self.table.try_clone()?,
            control: self.control.try_clone()?,
            lock: self.lock.try_clone()?,
            links: self.links.as_ref().map(Links::try_clone).transpose()?,
        })
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        let own = [
            ("reader", self.reader.as_fd()),
            ("writer", self.writer.as_fd()),
            ("table", self.table.as_fd()),
            ("control", self.control.as_fd()),
            ("lock", self.lock.as_fd()),
        ];
        let links = self.links.iter().flat_map(|links| {
            let listener = links.listener.iter().map(|fd| ("listener", fd.as_fd()));
            listener.chain([("secret", links.secret.as_fd())])
        });
        own.into_iter().chain(links)
    }

    /// Sends copies of all descriptors. A keeper that hands on to a keeper adds its line to the
    /// daemon; otherwise that is the line on which the heritage comes.
    pub(crate) fn send(
        &self,
        line: impl AsFd,
        told: &Letter,
        daemons_line: Option<BorrowedFd<'_>>,
    ) -> Result<(), HeritageError> {
        let further = daemons_line.map(|line| ("line", line));
        let (names, fds): (Vec<&str>, Vec<BorrowedFd<'_>>) = self.named().chain(further).unzip();
        let letter = Letter {
            descriptors: names.into_iter().map(Into::into).collect(),
            ..told.clone()
        };
        let text = letter.write();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
        debug_assert!(fits, "fewer descriptors than the space is for");
        let flags = SendFlags::NOSIGNAL;
        sendmsg(line, &[IoSlice::new(&text)], &mut control, flags).map_err(|errno| {
            HeritageError::Call {
                doing: "handing the descriptors on",
                errno,
            }
        })?;
        Ok(())
    }

    /// Receives what [`Heritage::send`] sent.
    pub(crate) fn receive(line: impl AsFd) -> Result<Received, HeritageError> {
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut text)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            recvmsg(line, &mut pieces, &mut control, flags).map_err(|errno| match errno {
                rustix::io::Errno::NOTSOCK => HeritageError::NotOurs("it is no socket"),
                errno => HeritageError::Call {
                    doing: "taking the descriptors over",
                    errno,
                },
            })?;
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        read(&text[..received.bytes], fds)
    }
}

/// The heritage that a letter and its descriptors make. Names that this version does not know are
/// passed over.
fn read(text: &[u8], fds: Vec<OwnedFd>) -> Result<Received, HeritageError> {
    let told = Letter::read(text).ok_or(HeritageError::NotOurs("it brings no letter"))?;
    let names = told.descriptors.iter().map(String::as_str);
    let mut named: HashMap<&str, OwnedFd> = names.zip(fds).collect();
    let mut take = |name: &str| {
        let missing = HeritageError::NotOurs("a descriptor is missing");
        named.remove(name).ok_or(missing)
    };
    let heritage = Heritage {
        reader: take("reader")?,
        writer: take("writer")?,
        table: take("table")?,
        control: take("control")?,
        lock: take("lock")?,
        links: match (take("listener").ok(), take("secret")) {
            (listener, Ok(secret)) => Some(Links { listener, secret }),
            _ => None,
        },
    };
    let daemons_line = take("line").ok();
    Ok(Received {
        heritage,
        told,
        daemons_line,
    })
}

/// Sends a word. That nobody is there any more is found out otherwise.
pub(crate) fn say(line: impl AsFd, word: &Word) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = rustix::net::send(line, &word.write(), flags);
}

/// What a look at the line found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A message.
    Word(Word),
    /// A message of a later version.
    Unknown,
    /// Nothing now.
    Silence,
    /// The other end is gone.
    Gone,
}

/// Takes the next message; never blocks.
pub(crate) fn hear(line: impl AsFd) -> Heard {
    let mut text = vec![0; LONGEST];
    loop {
        match rustix::net::recv(&line, text.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Heard::Gone,
            Ok((length, _)) => {
                return Word::read(&text[..length]).map_or(Heard::Unknown, Heard::Word);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Heard::Silence,
            Err(_) => return Heard::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_fd() -> OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
    }

    fn some_heritage() -> Heritage {
        Heritage {
            reader: some_fd(),
            writer: some_fd(),
            table: some_fd(),
            control: some_fd(),
            lock: some_fd(),
            links: None,
        }
    }

    #[test]
    fn arrives_whole() {
        let (ours, theirs) = line().unwrap();
        let heritage = some_heritage();
        rustix::io::write(&heritage.table, &7_u64.to_ne_bytes()).unwrap();
        let heritage = Heritage {
            links: Some(Links {
                listener: Some(some_fd()),
                secret: some_fd(),
            }),
            ..heritage
        };
        let told = Letter {
            keeper: 12,
            daemon: 34,
            lives: 5,
            oom_score: -7,
            program: "/usr/sbin/piton two".into(),
            ..Letter::default()
        };
        let further = some_fd();
        heritage.send(&ours, &told, Some(further.as_fd())).unwrap();
        let received = Heritage::receive(&theirs).unwrap();
        assert_eq!(received.told.descriptors.len(), 8);
        assert!(received.heritage.links.is_some());
        let told = Letter {
            descriptors: received.told.descriptors.clone(),
            ..told
        };
        assert_eq!(received.told, told);
        assert!(received.daemons_line.is_some());
        let mut count = [0; 8];
        rustix::io::read(&received.heritage.table, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 7, "the very descriptor");
    }

    #[test]
    fn a_foreign_letter_is_refused() {
        let (ours, theirs) = line().unwrap();
        rustix::net::send(&ours, b"hello", SendFlags::empty()).unwrap();
        assert!(matches!(
            Heritage::receive(&theirs),
            Err(HeritageError::NotOurs(_))
        ));
        let text = b"piton-heritage 1\nfds reader writer\n";
        rustix::net::send(&ours, text, SendFlags::empty()).unwrap();
        assert!(matches!(
            Heritage::receive(&theirs),
            Err(HeritageError::NotOurs(_))
        ));
        assert!(matches!(
            Heritage::receive(some_fd()),
            Err(HeritageError::NotOurs(_))
        ));
    }

    #[test]
    fn words_arrive_in_order() {
        let (ours, theirs) = line().unwrap();
        let words = [
            Word::Listening,
            Word::TakingOver,
            Word::Go,
            Word::Ready,
            Word::Ending,
            Word::Upgrade("/a b".into()),
            Word::HandOver,
        ];
        for word in &words {
            say(&ours, word);
        }
        for word in words {
            assert_eq!(hear(&theirs), Heard::Word(word));
        }
        assert_eq!(hear(&theirs), Heard::Silence);
        rustix::net::send(&ours, b"later", SendFlags::empty()).unwrap();
        assert_eq!(hear(&theirs), Heard::Unknown);
        drop(ours);
        assert_eq!(hear(&theirs), Heard::Gone);
    }
}
