//! What the daemon and its workers say to each other: a message is one packet on a socket, in the
//! format of postcard. Both ends are the same program, so there are no versions.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bstr::BString;
use piton_map::options::Propagation;
use piton_plan::step::Attempt;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits;
use crate::perform::{Program, Settings};
use crate::snapshot::{Places, Report};

/// What a worker can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Request {
    /// Something at a place below an entry's root.
    At(Box<At>),
    /// Say whether something of ours is at a path.
    Inspect(BString),
    /// Finish and remove what there is of snapshots.
    Sweep(Means),
    /// Say whether somebody serves what is mounted at a path.
    Serves(BString),
}

/// Something to be done at a place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct At {
    /// Below it no symbolic link is followed.
    pub(crate) root: BString,
    /// The place.
    pub(crate) path: BString,
    /// What to do there.
    pub(crate) act: Act,
    /// How it is done on this machine.
    pub(crate) means: Means,
}

/// What to do at a place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Act {
    /// Mount this.
    Mount {
        attempt: Attempt,
        propagation: Propagation,
    },
    /// Unmount it.
    Unmount { helper: bool },
    /// Make a directory and its missing parents.
    MakeDirectory,
    /// Remove a directory if it is there and empty.
    RemoveDirectory,
    /// Make a symbolic link to there.
    Symlink(BString),
    /// Remove a symbolic link.
    RemoveSymlink,
    /// Attach the trigger whose detached mount comes with the message.
    Attach,
    /// Unmount a trigger.
    Detach,
    /// Unmount lazily, with all that lies below.
    LetGo,
}

/// [`Settings`], and the time that is left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Means {
    program: Option<(BString, Option<BString>)>,
    mount: BString,
    umount: BString,
    walker: Vec<BString>,
    /// Runtime directory, state directory, guard.
    snapshots: Option<(BString, BString, Vec<BString>)>,
    milliseconds: u64,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Reply {
    /// What came of it.
    pub(crate) answer: Answer,
    /// A helper that was killed has not died: the worker stays with it and takes no more work.
    pub(crate) lingers: bool,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// It is done, or it is so.
    Yes,
    /// It was so before, or it is not so.
    No,
    /// These directories were made.
    Made(Vec<BString>),
    /// What a sweep came to.
    Swept(Report),
    /// It failed with this errno, in these words.
    Failed(i32, String),
}

impl Answer {
    /// A failure, word for word.
    pub(crate) fn failed(error: &Error) -> Self {
        Self::Failed(error.errno().raw_os_error(), error.to_string())
    }
}

impl Means {
    pub(crate) fn new(settings: &Settings, left: Duration) -> Self {
        let bytes = |path: &std::path::Path| BString::from(path.as_os_str().as_encoded_bytes());
        Self {
            program: settings
                .program
                .as_ref()
                .map(|program| (bytes(&program.mount), program.umount.as_deref().map(bytes))),
            mount: bytes(&settings.mount),
            umount: bytes(&settings.umount),
            walker: settings
                .walker
                .iter()
                .map(|word| word.as_encoded_bytes().into())
                .collect(),
            snapshots: settings.snapshots.as_ref().map(|places| {
                let guard = places
                    .guard
                    .iter()
                    .map(|word| word.as_encoded_bytes().into());
                (
                    bytes(&places.runtime),
                    bytes(&places.state),
                    guard.collect(),
                )
            }),
            milliseconds: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// As settings again; the deadline is the time that is left.
    pub(crate) fn settings(self) -> Settings {
        let text = |bytes: BString| OsString::from_vec(bytes.into());
        Settings {
            program: self.program.map(|(mount, umount)| Program {
                mount: text(mount).into(),
                umount: umount.map(|umount| text(umount).into()),
            }),
            deadline: Duration::from_millis(self.milliseconds.min(limits::LONGEST_MS)),
            mount: text(self.mount).into(),
            umount: text(self.umount).into(),
            walker: self.walker.into_iter().map(text).collect(),
            snapshots: self.snapshots.map(|(runtime, state, guard)| Places {
                runtime: text(runtime).into(),
                state: text(state).into(),
                guard: guard.into_iter().map(text).collect(),
            }),
        }
    }
}

/// A message as bytes.
///
/// # Errors
/// `E2BIG`: it is longer than a message may be.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, Errno> {
    let bytes = postcard::to_allocvec(message).map_err(|_| Errno::INVAL)?;
    if bytes.len() > limits::MESSAGE {
        return Err(Errno::TOOBIG);
    }
    Ok(bytes)
}

/// Bytes as a message.
///
/// # Errors
/// `EBADMSG`: it is none, or more than one.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Errno> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(Errno::BADMSG),
    }
}

/// A law for fuzzing: what can be read as a message is written as one that reads the same, and its
/// time is bounded.
#[doc(hidden)]
pub fn hold_law(bytes: &[u8]) {
    if let Ok(request) = decode::<Request>(bytes) {
        if let Ok(again) = encode(&request) {
            assert_eq!(decode(&again), Ok(request.clone()));
        }
        if let Request::At(at) = request {
            let longest = Duration::from_millis(limits::LONGEST_MS);
            assert!(at.means.settings().deadline <= longest);
        }
    }
    if let Ok(reply) = decode::<Reply>(bytes)
        && let Ok(again) = encode(&reply)
    {
        assert_eq!(decode(&again), Ok(reply));
    }
}

#[cfg(test)]
mod tests {
    use piton_plan::step::What;

    use super::*;

    fn mount(option: String) -> Request {
        Request::At(Box::new(At {
            root: "/m".into(),
            path: b"/m/\xff".into(),
            act: Act::Mount {
                attempt: Attempt {
                    what: What::Type("nfs".into()),
                    source: "h:/x".into(),
                    options: vec!["ro".into(), option.into()],
                    host: Some("h".into()),
                    address: None,
                    no_guests: false,
                    by_helper: false,
                },
                propagation: Propagation::Private,
            },
            means: Means::new(
                &Settings {
                    program: Some(Program {
                        mount: "/p/mount".into(),
                        umount: None,
                    }),
                    ..Settings::default()
                },
                Duration::from_millis(1500),
            ),
        }))
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let request = mount("vers=4".into());
        let bytes = encode(&request).unwrap();
        assert_eq!(decode::<Request>(&bytes), Ok(request.clone()));
        let Request::At(at) = request else { panic!() };
        let settings = at.means.settings();
        assert_eq!(settings.deadline, Duration::from_millis(1500));
        assert_eq!(settings.program.unwrap().mount.to_str(), Some("/p/mount"));
        for answer in [
            Answer::Made(vec!["/a".into()]),
            Answer::Failed(110, "mount.nfs: timed out".into()),
        ] {
            let reply = Reply {
                answer,
                lingers: true,
            };
            assert_eq!(decode(&encode(&reply).unwrap()), Ok(reply));
        }
    }

    #[test]
    fn a_message_is_bounded() {
        let overhead = encode(&mount(String::new())).unwrap().len() + 2;
        let longest = "x".repeat(limits::MESSAGE - overhead);
        assert_eq!(
            encode(&mount(longest.clone())).map(|it| it.len()),
            Ok(limits::MESSAGE)
        );
        assert_eq!(encode(&mount(longest + "x")), Err(Errno::TOOBIG));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let whole = encode(&mount("a".into())).unwrap();
        for end in 0..whole.len() {
            assert!(decode::<Request>(&whole[..end]).is_err(), "{end}");
        }
        assert!(decode::<Request>(&[whole.clone(), vec![0]].concat()).is_err());
        // Any byte may be any other; nothing panics, and nothing is taken for more than it is.
        let mut state = 1_u32;
        for round in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=round % 4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            if let Ok(request) = decode::<Request>(&bytes) {
                assert!(encode(&request).is_ok());
            }
        }
    }
}
