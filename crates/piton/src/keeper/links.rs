//! What mount points are served with that are not autofs: the port that clients have mounted (by NFS),
//! and what file handles are made with. As long as both are kept no client sees that a daemon died.
//!
//! The keeper holds the port, so that clients wait while nobody serves. Both are also written down in
//! the runtime directory: should the keeper die with its daemon, the next one serves the same port
//! with the same handles.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use piton_control::runtime::RuntimeDir;
use piton_loopback::Listener;
use rustix::fs::{MemfdFlags, memfd_create};

/// Bytes of a secret.
const SECRET: usize = 16;

/// Its longest file: a port, and the secret in hexadecimal digits.
const FILE_MOST: u64 = 64;

/// The port and the secret, as descriptors that can be handed on.
pub(crate) struct Links {
    /// The port, listened on; none for FUSE.
    pub(super) listener: Option<OwnedFd>,
    /// The secret, in memory.
    pub(super) secret: OwnedFd,
}

impl Links {
    /// Those of an earlier life, if its port is free; otherwise new ones.
    ///
    /// # Errors
    /// No port can be had, in words.
    pub(crate) fn first(dir: &RuntimeDir) -> Result<Self, String> {
        let file = file(dir);
        if let Some((port, secret)) = read(&file)
            && let Ok(listener) = Listener::at(port)
        {
            return Self::of(Some(&listener), secret);
        }
        // What cannot be gone on with would keep everybody waiting who comes by.
        piton_frontend::abandon_dead(|port| Listener::at(port).is_ok());
        let listener = Listener::reserved().map_err(|error| {
            format!("no port can be had to serve mount points: {error}\n  ports 600 to 664 of 127.0.0.1 are tried, as root")
        })?;
        let secret = new_secret()?;
        if let Err(error) = write(&file, listener.port(), secret) {
            let file = file.display();
            tracing::warn!(%error, "{file} is not written: if keeper and daemon die together, mount points have to be unmounted by hand");
        }
        Self::of(Some(&listener), secret)
    }

    /// A secret alone: FUSE needs no port, and an earlier life's numbers of files are of no use to
    /// anybody.
    ///
    /// # Errors
    /// There is no chance or no memory, in words.
    pub(crate) fn without_port() -> Result<Self, String> {
        Self::of(None, new_secret()?)
    }

    fn of(listener: Option<&Listener>, secret: [u8; SECRET]) -> Result<Self, String> {
        let kept = || -> std::io::Result<Self> {
            let memory = File::from(memfd_create("piton-links", MemfdFlags::CLOEXEC)?);
            memory.write_all_at(&secret, 0)?;
            Ok(Self {
                listener: listener
                    .map(|listener| listener.as_fd().try_clone_to_owned())
                    .transpose()?,
                secret: memory.into(),
            })
        };
        kept().map_err(|error| format!("the port cannot be kept: {error}"))
    }

    /// The same descriptors once more.
    pub(super) fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self {
            listener: self.listener.as_ref().map(OwnedFd::try_clone).transpose()?,
            secret: self.secret.try_clone()?,
        })
    }

    /// The port to be served, and what its handles are made with.
    ///
    /// # Errors
    /// They are not what a keeper keeps, in words.
    pub(crate) fn into_parts(mut self) -> Result<(Listener, [u8; SECRET]), String> {
        let listener = self.listener.take().ok_or("the keeper keeps no port")?;
        let secret = self.into_secret()?;
        let told = |error| format!("the port that the keeper keeps: {error}");
        Ok((Listener::inherited(listener).map_err(told)?, secret))
    }

    /// What names are hashed with.
    ///
    /// # Errors
    /// It cannot be read, in words.
    pub(crate) fn into_secret(self) -> Result<[u8; SECRET], String> {
        let mut secret = [0; SECRET];
        let memory = File::from(self.secret);
        let read = memory.read_exact_at(&mut secret, 0);
        read.map_err(|error| format!("the secret that the keeper keeps: {error}"))?;
        Ok(secret)
    }
}

fn new_secret() -> Result<[u8; SECRET], String> {
    let mut secret = [0; SECRET];
    File::open("/dev/urandom")
        .and_then(|mut chance| chance.read_exact(&mut secret))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(secret)
}

fn file(dir: &RuntimeDir) -> PathBuf {
    dir.path().join("links")
}

fn read(file: &Path) -> Option<(u16, [u8; SECRET])> {
    let mut text = String::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(file)
        .ok()?;
    file.take(FILE_MOST).read_to_string(&mut text).ok()?;
    let (port, secret) = text.trim_end().split_once(' ')?;
    let secret = u128::from_str_radix(secret, 16).ok()?;
    Some((port.parse().ok()?, secret.to_be_bytes()))
}

fn write(path: &Path, port: u16, secret: [u8; SECRET]) -> std::io::Result<()> {
    // Nobody may read it who could not take the port.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{port} {:032x}", u128::from_be_bytes(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_life_has_the_same_port_and_secret() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("links");
        assert_eq!(read(&path), None);
        let secret = *b"0123456789abcdef";
        write(&path, 662, secret).unwrap();
        assert_eq!(read(&path), Some((662, secret)));
        write(&path, 601, [0; 16]).unwrap();
        assert_eq!(read(&path), Some((601, [0; 16])));
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(read(&path), None);
    }

    #[test]
    fn what_is_kept_comes_out_as_it_went_in() {
        let listener = Listener::at(0).unwrap();
        let links = Links::of(Some(&listener), [7; 16]).unwrap();
        let (again, secret) = links.try_clone().unwrap().into_parts().unwrap();
        assert_eq!((again.port(), secret), (listener.port(), [7; 16]));
        let alone = Links::of(None, [7; 16]).unwrap().try_clone().unwrap();
        assert!(alone.try_clone().unwrap().into_parts().is_err());
        assert_eq!(alone.into_secret(), Ok([7; 16]));
    }
}
