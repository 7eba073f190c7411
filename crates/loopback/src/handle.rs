//! File handles: names, hashed with a secret.
//!
//! A handle says nothing but what it is the handle of, so it is the same in every life of the
//! server that has the same secret, and no table has to be kept. Without the secret nobody can
//! make up a handle, or names whose handles are alike.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// What the hashes are keyed with: 16 random bytes, to be kept as long as clients have the server
/// mounted.
#[derive(Clone)]
pub struct Secret(SipHasher13);

impl Secret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&bytes))
    }

    /// The hash of a root, by its path.
    pub(crate) fn root(&self, path: &[u8]) -> Hash {
        self.hash(&[b"root", path])
    }

    /// The hash of a name in a root.
    pub(crate) fn name(&self, root: Hash, name: &[u8]) -> Hash {
        self.hash(&[&root.0, name])
    }

    fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut hasher = self.0;
        for part in parts {
            hasher.write(part);
        }
        Hash(hasher.finish128().as_bytes())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The hash of a root or of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hash([u8; 16]);

/// The first number that stands for a name: below are 0 and the two names that each directory has.
const FIRST: u64 = 3;

impl Hash {
    /// The number of a file, and the place of a name in the order of a directory: not 0, and not
    /// negative when a program takes it for a signed offset.
    pub(crate) fn number(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1).max(FIRST)
    }

    /// The bytes that clients are shown as a verifier of their place in a directory.
    pub(crate) fn verifier(self) -> [u8; 8] {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

/// What a client has in its hand: a root, or a name in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) root: Hash,
    pub(crate) name: Option<Hash>,
}

/// The first bytes of every handle: what it is, and the version of its form.
const MARK: [u8; 4] = *b"PTN1";

impl Handle {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(36);
        bytes.extend_from_slice(&MARK);
        bytes.extend_from_slice(&self.root.0);
        if let Some(name) = self.name {
            bytes.extend_from_slice(&name.0);
        }
        bytes
    }

    /// Nothing if it is not of this form.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let hash = |bytes: &[u8]| bytes.try_into().ok().map(Hash);
        let (root, name) = bytes.strip_prefix(&MARK)?.split_at_checked(16)?;
        Some(Self {
            root: hash(root)?,
            name: match name {
                [] => None,
                name => Some(hash(name)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_the_same_in_every_life_and_foreign_with_another_secret() {
        let secret = Secret::new(*b"0123456789abcdef");
        let root = secret.root(b"/home");
        let handle = Handle {
            root,
            name: Some(secret.name(root, b"ann")),
        };
        // Written down: a change of the hash would break every mount at an upgrade.
        let bytes = handle.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "50544e3167b93162ff8d1782c4357060e8462af5ad89e65e9fc791e6385c73d9b8ca05b4"
        );
        assert_eq!(Handle::decode(&bytes), Some(handle));
        assert_ne!(Secret::new([0; 16]).root(b"/home"), root);
    }

    #[test]
    fn names_of_different_roots_differ() {
        let secret = Secret::new([7; 16]);
        let (home, work) = (secret.root(b"/home"), secret.root(b"/work"));
        assert_ne!(secret.name(home, b"ann"), secret.name(work, b"ann"));
    }

    #[test]
    fn what_is_not_a_handle_is_refused() {
        let secret = Secret::new([7; 16]);
        let root = Handle {
            root: secret.root(b"/home"),
            name: None,
        };
        let bytes = root.encode();
        assert_eq!(Handle::decode(&bytes), Some(root));
        for end in 0..bytes.len() {
            assert_eq!(Handle::decode(&bytes[..end]), None);
        }
        for more in 1..64 {
            let longer = [&bytes[..], &vec![0; more]].concat();
            assert_eq!(Handle::decode(&longer).is_some(), more == 16);
        }
        assert_eq!(Handle::decode(&[b"PTN2", &bytes[4..]].concat()), None);
    }
}
