//! A file system of ours, mounted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use piton_loopback::{Answers, Owner, RootId, Tree};

use crate::device::{self, Error};
use crate::reply::Holder;
use crate::serve::Served;
use crate::server::{Work, shake_hands};

/// Who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Only the user who mounts it; not even root.
    Owner,
    /// Everybody. For ordinary users /etc/fuse.conf must allow it (`user_allow_other`).
    Everybody,
}

impl Audience {
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Owner => "",
            Self::Everybody => ",allow_other",
        }
    }
}

/// What is mounted, and where.
pub struct Settings {
    /// The tree of which it shows a root.
    pub tree: Tree,
    /// The root: a directory.
    pub root: RootId,
    /// Where: an empty directory, as an absolute path. An ordinary user must be able to write to it.
    pub path: PathBuf,
    /// What the mount table shows as source.
    pub source: String,
    /// Who may use it.
    pub audience: Audience,
    /// Decides what names lead to.
    pub owner: Arc<dyn Owner>,
}

/// A root of a tree, mounted on a directory and served by one thread, which never waits for anybody.
/// When dropped it is unmounted, whoever is in it, and who waits gets an error.
///
/// The process must not walk there in the thread that answers duties, nor in
/// [`Owner::access`]: it would wait for itself.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    answers: Arc<Answers>,
    thread: Option<JoinHandle<()>>,
}

impl Mount {
    /// Mounts it: as root by itself, otherwise with fusermount3. What a server of ours that was
    /// killed has left there is cleared away first.
    ///
    /// # Errors
    /// [`Error`] says what, and what to do. Nothing is left mounted.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let path = device::real(&settings.path)?;
        let root = settings.tree.root(settings.root);
        if root.is_none_or(|root| root.link.is_some()) {
            return Err(Error::NoDirectory(path));
        }
        device::clear(&path)?;
        let device = device::mount(&path, &settings.source, settings.audience)?;
        let served = Served {
            tree: settings.tree,
            root: settings.root,
            holder: Holder {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            },
        };
        let started = shake_hands(&device, &path).and_then(|()| {
            let not_started = |error| Error::Start(path.clone(), error);
            let answers = Answers::new().map_err(|errno| not_started(errno.into()))?;
            let answers = Arc::new(answers);
            let mut work = Work::new(device, served, settings.owner, answers.clone());
            let thread = std::thread::Builder::new().name("fuse".into());
            let thread = thread.spawn(move || work.run()).map_err(not_started)?;
            Ok((answers, thread))
        });
        match started {
            Ok((answers, thread)) => Ok(Self {
                path,
                answers,
                thread: Some(thread),
            }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = device::unmount(&path);
                Err(error)
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still served: not if somebody else has unmounted it.
    pub fn is_served(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // While it is served it is ours. Otherwise it may be gone, and another one be in its place.
        let gone = match self.is_served() {
            true => device::unmount(&self.path),
            false => device::clear(&self.path).map(|_| ()),
        };
        if let Err(error) = gone {
            tracing::warn!(%error, "a FUSE mount is left");
        }
        self.answers.stop();
        if let Some(thread) = self.thread.take() {
            // A panic has been told already.
            let _ = thread.join();
        }
    }
}
