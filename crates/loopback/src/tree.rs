//! What is served: directories of links, and single links.

mod seen;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};

use crate::handle::{Handle, Hash, Secret};
use crate::limits;
use crate::stamp::{Clock, Stamp};

pub use self::seen::Seen;

/// A root by the number that its owner gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(pub u32);

/// What a root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKind {
    /// A directory, whose names are links.
    Directory,
    /// A link itself. Its only name is the empty one.
    Link,
}

/// Why something cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A root has this path or this number already.
    #[error("there is a root of this path or number already")]
    Taken,
    /// No root has this number.
    #[error("there is no such root")]
    NoRoot,
    /// The name is empty, holds a slash or a NUL, is `.` or `..`, or is too long; or it is not empty
    /// in a root that is a link.
    #[error("this cannot be a name")]
    Name,
    /// The target of a link is empty, holds a NUL, or is too long.
    #[error("this cannot be the target of a link")]
    Target,
    /// A bound of [`limits`] is reached.
    #[error("there are too many")]
    TooMany,
}

/// A link that leads somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name; empty for a root that is a link.
    pub name: BString,
    /// Where it leads.
    pub target: BString,
    /// For how long no client has looked at it.
    pub idle: Duration,
}

/// What is served. Copies are the same tree; all may be changed at any time from any thread, and
/// the next answer tells it.
#[derive(Clone, Debug)]
pub struct Tree(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    secret: Secret,
    clock: Clock,
    roots: HashMap<RootId, Root>,
    by_path: HashMap<BString, RootId>,
    by_hash: HashMap<Hash, RootId>,
    /// Names that are neither listed nor linked, in the order in which they were found.
    known: VecDeque<(RootId, Hash)>,
}

#[derive(Debug)]
struct Root {
    path: BString,
    hash: Hash,
    kind: RootKind,
    mode: u32,
    /// When the names changed last.
    changed: Stamp,
    /// In the order in which they are read. Of two names with the same number, which is next to
    /// impossible, the second has the next one.
    names: BTreeMap<u64, Name>,
}

#[derive(Debug)]
struct Name {
    name: Box<[u8]>,
    /// Shown before it is linked.
    listed: bool,
    /// What most of many names do not have.
    more: Option<Box<More>>,
}

#[derive(Debug)]
struct More {
    target: Option<BString>,
    changed: Stamp,
    used: Instant,
}

/// A thing that is served, found by a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) handle: Handle,
    pub(crate) root: RootId,
    pub(crate) mode: u32,
    /// A link's name, or nothing for a directory.
    pub(crate) link: Option<BString>,
    /// Where a link leads, if that is known.
    pub(crate) target: Option<BString>,
    pub(crate) changed: Stamp,
    /// How many names a directory has.
    pub(crate) names: usize,
    /// Neither listed nor linked: known to exist once.
    pub(crate) hidden: bool,
}

/// A name of a directory that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where to go on after it.
    pub(crate) cookie: u64,
    pub(crate) name: BString,
    pub(crate) node: Node,
}

impl Tree {
    /// A tree without roots.
    pub fn new(secret: Secret) -> Self {
        Self(Arc::new(Mutex::new(State {
            secret,
            clock: Clock::default(),
            roots: HashMap::new(),
            by_path: HashMap::new(),
            by_hash: HashMap::new(),
            known: VecDeque::new(),
        })))
    }

    /// Adds a root, which clients mount by its path. `mode` has the permission bits of a directory.
    ///
    /// # Errors
    /// [`TreeError::Taken`], [`TreeError::TooMany`], or [`TreeError::Name`] for a path that is not
    /// absolute, has a NUL, or is longer than [`limits::MOUNT_PATH`].
    pub fn add(&self, id: RootId, path: &BStr, kind: RootKind, mode: u32) -> Result<(), TreeError> {
        if !path.starts_with(b"/") || path.contains(&0) || path.len() > limits::MOUNT_PATH {
            return Err(TreeError::Name);
        }
        let mut state = self.lock();
        if state.roots.contains_key(&id) || state.by_path.contains_key(path) {
            return Err(TreeError::Taken);
        }
        if state.roots.len() >= limits::ROOTS {
            return Err(TreeError::TooMany);
        }
        let hash = state.secret.root(path);
        let mut names = BTreeMap::new();
        if kind == RootKind::Link {
            names.insert(0, Name::new(b"", true));
        }
        let root = Root {
            path: path.to_owned(),
            hash,
            kind,
            mode: mode & 0o7777,
            changed: state.clock.stamp(),
            names,
        };
        state.by_path.insert(path.to_owned(), id);
        state.by_hash.insert(hash, id);
        state.roots.insert(id, root);
        Ok(())
    }

    /// Takes a root away; its handles are stale from now on. False if there is none.
    pub fn remove(&self, id: RootId) -> bool {
        let mut state = self.lock();
        let Some(root) = state.roots.remove(&id) else {
            return false;
        };
        state.by_path.remove(&root.path);
        state.by_hash.remove(&root.hash);
        state.known.retain(|(of, _)| *of != id);
        true
    }

    /// The number that the root of this path has as a file, whether it is there or not.
    pub fn number(&self, path: &BStr) -> u64 {
        self.lock().secret.root(path).number()
    }

    /// Has a name lead to a target, which clients notice at their next look.
    ///
    /// # Errors
    /// [`TreeError`] says which.
    pub fn link(&self, id: RootId, name: &BStr, target: &BStr) -> Result<(), TreeError> {
        if target.is_empty() || target.contains(&0) || target.len() > limits::TARGET {
            return Err(TreeError::Target);
        }
        let mut state = self.lock();
        let stamp = state.clock.stamp();
        let (secret, root) = state.root(id)?;
        let number = root.insert(&secret, name)?;
        let Some(found) = root.names.get_mut(&number) else {
            return Err(TreeError::Name);
        };
        let appears = !found.listed && found.target().is_none();
        if found.target() != Some(target) {
            found.more = Some(Box::new(More {
                target: Some(target.to_owned()),
                changed: stamp,
                used: Instant::now(),
            }));
        }
        if appears {
            root.changed = stamp;
        }
        Ok(())
    }

    /// A name leads nowhere any more: it is no longer shown, if it is not listed, and the next look at
    /// it is an access again. False if it led nowhere.
    pub fn unlink(&self, id: RootId, name: &BStr) -> bool {
        let mut state = self.lock();
        let stamp = state.clock.stamp();
        let Ok((secret, root)) = state.root(id) else {
            return false;
        };
        let Some(number) = root.number(&secret, name) else {
            return false;
        };
        let Some(found) = root.names.get_mut(&number) else {
            return false;
        };
        if found.target().is_none() {
            return false;
        }
        found.more = Some(Box::new(More {
            target: None,
            changed: stamp,
            used: Instant::now(),
        }));
        if !found.listed {
            root.changed = stamp;
            let hash = secret.name(root.hash, name);
            state.remember(id, hash);
        }
        true
    }

    /// Shows these names before they are linked, and no others. Those that cannot be names are left
    /// out, and what is more than [`limits::NAMES`].
    ///
    /// # Errors
    /// [`TreeError::NoRoot`], or [`TreeError::Name`] for a root that is a link.
    pub fn list<'n>(
        &self,
        id: RootId,
        names: impl IntoIterator<Item = &'n BStr>,
    ) -> Result<(), TreeError> {
        let mut state = self.lock();
        let stamp = state.clock.stamp();
        let (secret, root) = state.root(id)?;
        if root.kind == RootKind::Link {
            return Err(TreeError::Name);
        }
        let before: Vec<u64> = root.shown().collect();
        for found in root.names.values_mut() {
            found.listed = false;
        }
        for name in names {
            if let Ok(number) = root.insert(&secret, name)
                && let Some(found) = root.names.get_mut(&number)
            {
                found.listed = true;
            }
        }
        for number in &before {
            if root.names.get(number).is_some_and(Name::is_hidden) {
                root.names.remove(number);
            }
        }
        if !root.shown().eq(before) {
            root.changed = stamp;
        }
        Ok(())
    }

    /// The links of a root that lead somewhere.
    pub fn links(&self, id: RootId) -> Vec<Link> {
        let state = self.lock();
        let Some(root) = state.roots.get(&id) else {
            return Vec::new();
        };
        let links = root.names.values().filter_map(|name| {
            let more = name.more.as_ref()?;
            Some(Link {
                name: name.name.to_vec().into(),
                target: more.target.clone()?,
                idle: more.used.elapsed(),
            })
        });
        links.collect()
    }

    /// Everything changed at the same time, so that two trees can be compared.
    pub(crate) fn stop_clock(&self) {
        let mut state = self.lock();
        for root in state.roots.values_mut() {
            root.changed = Stamp::default();
            let more = root
                .names
                .values_mut()
                .filter_map(|name| name.more.as_mut());
            more.for_each(|more| more.changed = Stamp::default());
        }
    }

    /// The paths of all roots, in order.
    pub(crate) fn paths(&self) -> Vec<BString> {
        let mut paths: Vec<BString> = self.lock().by_path.keys().cloned().collect();
        paths.sort();
        paths
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn root(&mut self, id: RootId) -> Result<(Secret, &mut Root), TreeError> {
        let root = self.roots.get_mut(&id).ok_or(TreeError::NoRoot)?;
        Ok((self.secret.clone(), root))
    }

    /// The root at a path.
    pub(crate) fn at(&self, path: &BStr) -> Option<Node> {
        let id = *self.by_path.get(path)?;
        self.roots.get(&id).map(|root| root.node(id))
    }

    /// What a handle is the handle of. Nothing if that is gone.
    pub(crate) fn find(&self, handle: Handle) -> Option<Node> {
        let id = *self.by_hash.get(&handle.root)?;
        let root = self.roots.get(&id)?;
        match handle.name {
            None => Some(root.node(id)),
            Some(hash) => {
                let number = root.numbered(&self.secret, hash)?;
                let name = root.names.get(&number)?;
                Some(root.name_node(id, hash, name))
            }
        }
    }

    /// The path of what a handle is the handle of.
    pub(crate) fn path_of(&self, handle: Handle) -> Option<BString> {
        let node = self.find(handle)?;
        let mut path = self.roots.get(&node.root)?.path.clone();
        if let Some(name) = node.link.filter(|_| handle.name.is_some()) {
            path.push(b'/');
            path.extend_from_slice(&name);
        }
        Some(path)
    }

    /// A name in a directory, if it is listed, linked, or known to exist.
    pub(crate) fn look_up(&self, id: RootId, name: &BStr) -> Option<Node> {
        let root = self.roots.get(&id)?;
        let hash = self.secret.name(root.hash, name);
        let number = root.numbered(&self.secret, hash)?;
        Some(root.name_node(id, hash, root.names.get(&number)?))
    }

    /// Somebody looks at a link that leads somewhere.
    pub(crate) fn used(&mut self, node: &Node) {
        let Some(root) = self.roots.get_mut(&node.root) else {
            return;
        };
        let number = match node.handle.name {
            None => Some(0),
            Some(hash) => root.numbered(&self.secret, hash),
        };
        let name = number.and_then(|number| root.names.get_mut(&number));
        if let Some(more) = name.and_then(|name| name.more.as_mut()) {
            more.used = Instant::now();
        }
    }

    /// A name is known to exist: its handle is good, though nothing shows it.
    pub(crate) fn exists(&mut self, id: RootId, name: &BStr) -> Result<(), TreeError> {
        let stamp = self.clock.stamp();
        let (secret, root) = self.root(id)?;
        let number = root.insert(&secret, name)?;
        let hash = secret.name(root.hash, name);
        let Some(found) = root.names.get_mut(&number) else {
            return Err(TreeError::Name);
        };
        if found.listed || found.more.is_some() {
            return Ok(());
        }
        found.more = Some(Box::new(More {
            target: None,
            changed: stamp,
            used: Instant::now(),
        }));
        self.remember(id, hash);
        Ok(())
    }

    /// Keeps a hidden name for a while, instead of the oldest.
    fn remember(&mut self, id: RootId, hash: Hash) {
        self.known.push_back((id, hash));
        if self.known.len() > limits::KNOWN
            && let Some((of, hash)) = self.known.pop_front()
            && let Some(root) = self.roots.get_mut(&of)
            && let Some(number) = root.numbered(&self.secret, hash)
            && root.names.get(&number).is_some_and(Name::is_hidden)
        {
            root.names.remove(&number);
        }
    }

    /// The names of a directory after a cookie, in the order of cookies; `.` and `..` are not among
    /// them.
    pub(crate) fn read(&self, id: RootId, after: u64) -> impl Iterator<Item = Entry> {
        let root = self.roots.get(&id);
        let names = root.into_iter().flat_map(move |root| {
            let range = (Bound::Excluded(after), Bound::Unbounded);
            let names = root
                .names
                .range(range)
                .filter(|(_, name)| !name.is_hidden());
            names.map(move |(number, name)| (root, *number, name))
        });
        names.map(move |(root, cookie, name)| Entry {
            cookie,
            name: name.name.to_vec().into(),
            node: root.name_node(id, self.secret.name(root.hash, &name.name), name),
        })
    }

    /// What clients must show to go on reading a directory: cookies mean the same as long as the
    /// secret does.
    pub(crate) fn verifier(&self, id: RootId) -> [u8; 8] {
        let root = self.roots.get(&id);
        root.map_or([0; 8], |root| root.hash.verifier())
    }
}

impl Root {
    fn node(&self, id: RootId) -> Node {
        let own = self.names.get(&0).filter(|_| self.kind == RootKind::Link);
        Node {
            handle: Handle {
                root: self.hash,
                name: None,
            },
            root: id,
            mode: self.mode,
            link: own.map(|_| BString::default()),
            target: own.and_then(|own| own.target().map(BStr::to_owned)),
            changed: own.and_then(Name::changed).unwrap_or(self.changed),
            names: self.names.len(),
            hidden: false,
        }
    }

    fn name_node(&self, id: RootId, hash: Hash, name: &Name) -> Node {
        Node {
            handle: Handle {
                root: self.hash,
                name: Some(hash),
            },
            root: id,
            mode: self.mode,
            link: Some(name.name.to_vec().into()),
            target: name.target().map(BStr::to_owned),
            changed: name.changed().unwrap_or(self.changed),
            names: 0,
            hidden: name.is_hidden(),
        }
    }

    /// The names that a reader sees.
    fn shown(&self) -> impl Iterator<Item = u64> {
        let names = self.names.iter();
        names.filter_map(|(number, name)| (!name.is_hidden()).then_some(*number))
    }

    /// Where a name stands.
    fn number(&self, secret: &Secret, name: &[u8]) -> Option<u64> {
        match (self.kind, name) {
            (RootKind::Link, b"") => Some(0),
            (RootKind::Link, _) => None,
            (RootKind::Directory, name) => self.numbered(secret, secret.name(self.hash, name)),
        }
    }

    /// Where the name with a hash stands.
    fn numbered(&self, secret: &Secret, hash: Hash) -> Option<u64> {
        let first = hash.number();
        let run = (first..).zip(self.names.range(first..));
        let mut run = run.take_while(|(expected, (number, _))| expected == *number);
        let found = run.find(|(_, (_, name))| secret.name(self.hash, &name.name) == hash)?;
        (self.kind == RootKind::Directory).then_some(found.0)
    }

    /// Makes room for a name; where it stands.
    fn insert(&mut self, secret: &Secret, name: &[u8]) -> Result<u64, TreeError> {
        if let Some(number) = self.number(secret, name) {
            return Ok(number);
        }
        if self.kind == RootKind::Link || !is_name(name) {
            return Err(TreeError::Name);
        }
        if self.names.len() >= limits::NAMES {
            return Err(TreeError::TooMany);
        }
        let mut number = secret.name(self.hash, name).number();
        while self.names.contains_key(&number) {
            number = number.checked_add(1).ok_or(TreeError::TooMany)?;
        }
        self.names.insert(number, Name::new(name, false));
        Ok(number)
    }
}

impl Name {
    fn new(name: &[u8], listed: bool) -> Self {
        Self {
            name: name.into(),
            listed,
            more: None,
        }
    }

    fn target(&self) -> Option<&BStr> {
        let more = self.more.as_ref()?;
        more.target.as_ref().map(|target| target.as_bstr())
    }

    fn changed(&self) -> Option<Stamp> {
        self.more.as_ref().map(|more| more.changed)
    }

    /// Neither listed nor linked.
    fn is_hidden(&self) -> bool {
        !self.listed && self.target().is_none()
    }
}

/// Whether this can be a name in a directory.
pub(crate) fn is_name(name: &[u8]) -> bool {
    let long = name.len() > limits::NAME;
    let special = matches!(name, b"" | b"." | b"..");
    !(long || special || name.iter().any(|byte| matches!(byte, 0 | b'/')))
}

#[cfg(test)]
mod tests;
