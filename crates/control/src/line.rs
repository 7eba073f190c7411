//! What the daemon and its keeper say to each other, as bytes.
//!
//! The two may be of different versions, during an upgrade: lines, names and words that one does not
//! know are passed over. docs/service.md says what they are for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bstr::{BString, ByteSlice};

/// Longest message, in bytes: names, numbers and a path.
pub const LONGEST: usize = 8 * 1024;

/// The first line of a letter, with the version of its form.
const HEAD: &str = "piton-heritage 1";

/// The first message to a process that is started: what comes with it, and what it has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Names of the descriptors that come with it, in their order.
    pub descriptors: Vec<String>,
    /// The keeper's process id; 0 for one that is about to become the keeper.
    pub keeper: u32,
    /// The process id of the daemon that a new keeper is to watch; 0 for a daemon.
    pub daemon: u32,
    /// How many daemons there were before.
    pub lives: u32,
    /// The daemon's oom_score_adj (proc(5)).
    pub oom_score: i32,
    /// The program, by the path it was started from.
    pub program: PathBuf,
}

impl Letter {
    /// As bytes.
    pub fn write(&self) -> BString {
        let mut text = BString::from(format!(
            "{HEAD}\nfds {}\nkeeper {}\ndaemon {}\nlives {}\noom_score {}\nprogram ",
            self.descriptors.join(" "),
            self.keeper,
            self.daemon,
            self.lives,
            self.oom_score,
        ));
        text.extend_from_slice(self.program.as_os_str().as_bytes());
        text
    }

    /// From bytes; nothing if they are no letter. A path is the rest of a letter, since it may hold
    /// anything.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes
            .strip_prefix(HEAD.as_bytes())?
            .strip_prefix(b"\n".as_slice())?;
        let mut letter = Self::default();
        while !rest.is_empty() {
            if let Some(path) = rest.strip_prefix(b"program ") {
                letter.program = OsStr::from_bytes(path).into();
                break;
            }
            let (line, after) = rest.split_once_str("\n").unwrap_or((rest, b""));
            rest = after;
            let (name, value) = line.split_once_str(" ").unwrap_or((line, b""));
            let value = value.to_str().unwrap_or_default();
            match name {
                b"fds" => letter.descriptors = value.split_whitespace().map(Into::into).collect(),
                b"keeper" => letter.keeper = value.parse().unwrap_or_default(),
                b"daemon" => letter.daemon = value.parse().unwrap_or_default(),
                b"lives" => letter.lives = value.parse().unwrap_or_default(),
                b"oom_score" => letter.oom_score = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        Some(letter)
    }
}

/// A short message after the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Daemon: signals are heard from now on.
    Listening,
    /// Daemon: an earlier life's requests are about to be taken up.
    TakingOver,
    /// Keeper: nobody else reads requests any more.
    Go,
    /// Daemon: all mount points are in place.
    Ready,
    /// Daemon: it was told to end, and does.
    Ending,
    /// Daemon: have the program at this path take over.
    Upgrade(PathBuf),
    /// Keeper: finish what is under way and leave the rest to a successor.
    HandOver,
}

impl Word {
    /// As bytes.
    pub fn write(&self) -> BString {
        match self {
            Self::Listening => "listening".into(),
            Self::TakingOver => "taking-over".into(),
            Self::Go => "go".into(),
            Self::Ready => "ready".into(),
            Self::Ending => "ending".into(),
            Self::Upgrade(program) => {
                let mut text = BString::from("upgrade ");
                text.extend_from_slice(program.as_os_str().as_bytes());
                text
            }
            Self::HandOver => "hand-over".into(),
        }
    }

    /// From bytes; nothing for a word that this version does not know.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            b"listening" => Self::Listening,
            b"taking-over" => Self::TakingOver,
            b"go" => Self::Go,
            b"ready" => Self::Ready,
            b"ending" => Self::Ending,
            b"hand-over" => Self::HandOver,
            _ => {
                let program = bytes.strip_prefix(b"upgrade ")?;
                Self::Upgrade(OsStr::from_bytes(program).into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_comes_out_as_it_went_in() {
        let letter = Letter {
            descriptors: vec!["reader".into(), "lock".into()],
            keeper: 12,
            daemon: 34,
            lives: 5,
            oom_score: -7,
            program: "/usr/sbin/piton two\nlives 9".into(),
        };
        assert_eq!(Letter::read(&letter.write()), Some(letter));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let text = format!("{HEAD}\nmoon full\nfds reader moon lock\nlives 3");
        let letter = Letter::read(text.as_bytes()).expect("a letter");
        assert_eq!(letter.descriptors, ["reader", "moon", "lock"]);
        assert_eq!(letter.lives, 3);
        assert_eq!(Letter::read(b"piton-heritage 2\nfds a"), None);
        assert_eq!(Letter::read(b"hello"), None);
        assert_eq!(Word::read(b"later"), None);
    }

    #[test]
    fn words_come_out_as_they_went_in() {
        for word in [
            Word::Listening,
            Word::TakingOver,
            Word::Go,
            Word::Ready,
            Word::Ending,
            Word::Upgrade("/a b".into()),
            Word::HandOver,
        ] {
            assert_eq!(Word::read(&word.write()), Some(word));
        }
    }
}
