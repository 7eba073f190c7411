//! What is mounted at a place.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::step::TriggerId;

use crate::cause::Cause;
use crate::failover::Replica;
use crate::servers::Served;
use crate::sharing::Share;
use crate::time::Millis;

/// What is mounted at one place, with the triggers of the next level of its entry.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Absolute path.
    pub(crate) target: BString,
    /// How it came about, and so how it is taken away.
    pub(crate) how: How,
    /// Whether the directory itself was made for this key and goes with it.
    pub(crate) own_directory: bool,
    /// Offset triggers below, parents' children only.
    pub(crate) offsets: Vec<TriggerId>,
    /// Directories made for offsets where the entry has no root; they go with it.
    pub(crate) directories: Vec<BString>,
    /// Since when it is there.
    pub(crate) since: Millis,
    /// Who asked for it first.
    pub(crate) first: Requester,
    /// Who asked for it last (as far as the kernel says: after mounting, accesses don't come
    /// by here).
    pub(crate) last: Requester,
    /// Accesses that came by here.
    pub(crate) uses: u64,
    /// Why it could not be unmounted when that was last tried, and when that was.
    pub(crate) busy: Option<(Arc<str>, Millis)>,
    /// Seconds of idleness, where the entry names its own; 0 is never.
    pub(crate) timeout: Option<u32>,
    /// Whether it shall go as soon as it is idle: a mount point is to stand here.
    pub(crate) in_the_way: bool,
    /// Why only a part of it is there: it must go before it is used again.
    pub(crate) broken: Option<Cause>,
    /// The servers it could come from, where it moves by itself when its own is dead.
    pub(crate) replicas: Option<Arc<[Replica]>>,
    /// Whether it is mounted read only, as far as that is known.
    pub(crate) read_only: bool,
    /// Why it does not move, if that was tried.
    pub(crate) stuck: Option<Arc<str>>,
    /// Its idle time was shortened, since a server that is wanted more is back.
    pub(crate) hurried: bool,
    /// What it is mounted with for other keys, too: it is itself only a link.
    pub(crate) share: Option<Share>,
    /// It is broken because an earlier life ended in the midst of its work: if it cannot go, what
    /// is missing can be added.
    pub(crate) unfinished: bool,
}

/// How something came to be at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A mount.
    Mount {
        /// The source text.
        source: BString,
        /// The server, if there is one.
        host: Option<BString>,
        /// The same, where it is watched.
        served: Option<Box<Served>>,
        /// Whether mount(8) or another program did it, and umount(8) must undo it.
        helper: bool,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        to: BString,
    },
    /// Nothing but a directory: the entry has offsets only.
    Directory,
    /// Another map's directory.
    Submount(TriggerId),
}

impl How {
    /// Where it is mounted from, if that server is watched.
    pub(crate) fn served(&self) -> Option<&Served> {
        match self {
            Self::Mount { served, .. } => served.as_deref(),
            Self::Symlink { .. } | Self::Directory | Self::Submount(_) => None,
        }
    }
}

impl Tree {
    /// Whether it goes as soon as it can, however short it was idle.
    pub(crate) fn must_go(&self) -> bool {
        self.broken.is_some() || self.in_the_way
    }

    /// The server that it is mounted from.
    pub(crate) fn host(&self) -> Option<&BString> {
        match &self.how {
            How::Mount { host, .. } => host.as_ref(),
            How::Symlink { .. } | How::Directory | How::Submount(_) => None,
        }
    }

    /// The source text, for people.
    pub(crate) fn source(&self) -> BString {
        match &self.how {
            How::Mount { source, .. } => source.clone(),
            How::Symlink { to } => to.clone(),
            How::Directory | How::Submount(_) => BString::default(),
        }
    }

    /// Why it could not be unmounted when that was last tried.
    pub(crate) fn why_busy(&self) -> Option<Arc<str>> {
        self.busy.as_ref().map(|(why, _)| why.clone())
    }

    /// What is there when this is added to the part that an earlier life left.
    pub(crate) fn added_to(self, part: Self) -> Self {
        Self {
            how: match self.how {
                How::Directory => part.how,
                how => how,
            },
            offsets: [part.offsets, self.offsets].concat(),
            directories: [part.directories, self.directories].concat(),
            since: part.since,
            first: part.first,
            ..self
        }
    }

    /// The triggers that go with it: offsets and a submount.
    pub(crate) fn triggers(&self) -> impl Iterator<Item = TriggerId> {
        let submount = match self.how {
            How::Submount(trigger) => Some(trigger),
            How::Mount { .. } | How::Symlink { .. } | How::Directory => None,
        };
        self.offsets.iter().copied().chain(submount)
    }
}
