//! Following maps in reading order: merged maps, the name service switch, includes.

use std::collections::HashSet;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::index::{Include, Listed, Step};
use piton_map::key::MapKind;
use piton_map::lookup::{Found, MapSpec, MapType, Miss};
use piton_map::text::{Fragment, Origin, Span};
use piton_snapshot::Volumes;

use super::text::{Identity, Loaded};
use super::{ListedKey, Listing, Maps};
use crate::file;
use crate::hosts::{self, Look, Scope};
use crate::limits::{HOSTS_FILE_BYTES, INCLUDE_DEPTH, INCLUDES_IN_ALL};
use crate::passwd;
use crate::program::ProgramSource;
use crate::snapshot;
use crate::source::{LookupContext, MapSource};
use crate::switch::{Action, Status, Switch};

/// Why a search ended without an entry.
#[derive(Debug)]
pub(super) enum Stop {
    /// There is none, and why.
    Miss(Miss),
    /// That cannot be told without blocking.
    WouldBlock,
}

impl From<Miss> for Stop {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

/// Where the map is that a name means.
enum Place {
    /// In this file.
    File(BString),
    /// In this file, or it is a program when its owner may execute it.
    FileOrProgram(BString),
    /// It is this program.
    Program(BString),
    /// Ask the name service switch.
    Named,
    /// Ask servers for their exports.
    Hosts(Scope),
    /// Ask the user database.
    Passwd,
    /// Take snapshots of these.
    Snapshots(Volumes),
    /// In no place of this build.
    Nowhere(Miss),
}

/// The place of the map that `spec` means. In an include line a path is always a file, as
/// autofs has it; a program needs its type there.
fn place(maps: &Maps, spec: &MapSpec, included: bool) -> Place {
    let name = spec.name.as_bstr();
    let not_here = |what: String| Place::Nowhere(Miss::NotAvailable(what.into()));
    if let Some(format @ ("amd" | "hesiod")) = spec.format.as_deref() {
        return not_here(format!(
            "map {name}: the {format} format is not in this build"
        ));
    }
    let absolute = name.starts_with(b"/");
    let path = || {
        if absolute {
            name.to_owned()
        } else {
            maps.in_map_directory(name)
        }
    };
    match &spec.kind {
        Some(MapType::File) => Place::File(path()),
        Some(MapType::Program) => Place::Program(path()),
        Some(MapType::Null) => Place::Nowhere(Miss::NoSuchKey),
        Some(MapType::Hosts) => match Scope::of(name) {
            _ if maps.settings.exports.is_none() => {
                not_here("-hosts: servers are not asked for their exports here".into())
            }
            Ok(scope) => Place::Hosts(scope),
            Err(miss) => Place::Nowhere(miss),
        },
        Some(MapType::Passwd) if maps.settings.users.is_some() => Place::Passwd,
        Some(MapType::Passwd) => not_here("-passwd: the user database is not asked here".into()),
        Some(MapType::Snapshot) => {
            snapshot::map(name).map_or_else(Place::Nowhere, Place::Snapshots)
        }
        Some(MapType::Other(other)) => not_here(format!(
            "map {other}:{name}: the source {other} is not in this build"
        )),
        None if absolute && included => Place::File(path()),
        None if absolute => Place::FileOrProgram(path()),
        None if name.contains(&b'/') => Place::Nowhere(Miss::NoSuchMap(name.to_str_lossy().into())),
        None => Place::Named,
    }
}

/// The key of a direct map that a line `KEY -null` of the master map cancels: the master map
/// puts a map of type null with the key as its name among the maps of the mount point.
fn cancelled_key(spec: &MapSpec) -> Option<&BStr> {
    let is_path = spec.kind == Some(MapType::Null) && spec.name.starts_with(b"/");
    is_path.then(|| spec.name.as_bstr())
}

/// Which of two misses is the more telling one.
fn graver(one: Option<Miss>, other: Miss) -> Miss {
    fn weight(miss: &Miss) -> u8 {
        match miss {
            Miss::NoSuchMap(_) => 0,
            Miss::NoSuchKey => 1,
            Miss::NotAvailable(_) => 2,
            Miss::BadKey(_) => 3,
            Miss::ProgramFailed(_) => 4,
            Miss::Unreadable(_) => 5,
            Miss::Refused(_) => 6,
            Miss::TimedOut(_) => 7,
            Miss::Server { .. } => 8,
        }
    }
    match one {
        Some(one) if weight(&one) >= weight(&other) => one,
        _ => other,
    }
}

/// A search for one key.
pub(super) struct Search<'s> {
    maps: &'s Maps,
    context: &'s LookupContext<'s>,
    may_block: bool,
    /// The maps that are being searched, each included by the one before.
    chain: Vec<Identity>,
    /// The include lines gone through to get here.
    via: Vec<Origin>,
    /// How many maps were searched in all.
    searched: usize,
}

impl<'s> Search<'s> {
    /// Nothing searched yet.
    pub(super) fn new(maps: &'s Maps, context: &'s LookupContext<'s>, may_block: bool) -> Self {
        Self {
            maps,
            context,
            may_block,
            chain: Vec::new(),
            via: Vec::new(),
            searched: 0,
        }
    }

    /// Searches several maps in order.
    pub(super) fn maps(&mut self, maps: &[MapSpec], key: &BStr) -> Result<Found, Stop> {
        if maps.iter().any(|map| cancelled_key(map) == Some(key)) {
            return Err(Miss::NoSuchKey.into());
        }
        let mut worst = None;
        for spec in maps {
            match self.map(spec, key, false) {
                Err(Stop::Miss(miss)) => worst = Some(graver(worst, miss)),
                other => return other,
            }
        }
        Err(worst.unwrap_or(Miss::NoSuchKey).into())
    }

    /// Searches the map that `spec` means.
    fn map(&mut self, spec: &MapSpec, key: &BStr, included: bool) -> Result<Found, Stop> {
        match place(self.maps, spec, included) {
            Place::File(path) => self.file(path.as_ref(), key),
            Place::FileOrProgram(path) => self.file_or_program(path.as_ref(), key),
            Place::Program(path) => self.program(path.as_ref(), key),
            Place::Named => self.named(spec.name.as_ref(), key),
            Place::Hosts(scope) => self.hosts(&scope, key),
            Place::Passwd => self.passwd(key),
            Place::Snapshots(map) => self.snapshots(&map, spec.name.as_ref(), key),
            Place::Nowhere(miss) => Err(miss.into()),
        }
    }

    /// Asks a server for its exports.
    fn hosts(&mut self, scope: &Scope, key: &BStr) -> Result<Found, Stop> {
        if self.context.kind == MapKind::Direct {
            return Err(Miss::NoSuchKey.into());
        }
        let look = self.maps.look(self.context, self.may_block)?;
        let mut found = look.entry(scope, key).ok_or(Stop::WouldBlock)??;
        found.via = self.via.clone();
        Ok(found)
    }

    /// Asks the user database.
    fn passwd(&mut self, key: &BStr) -> Result<Found, Stop> {
        if self.context.kind == MapKind::Direct {
            return Err(Miss::NoSuchKey.into());
        }
        if !self.may_block {
            return Err(Stop::WouldBlock);
        }
        if key == passwd::MYSELF && !self.maps.settings.personal {
            let why = "`~` is another directory for each user, and a mount is the same for all";
            return Err(Miss::BadKey(why).into());
        }
        let users = self.maps.settings.users.as_deref();
        let mut found = passwd::entry(users.ok_or(Miss::NoSuchKey)?, key, self.context)?;
        found.via = self.via.clone();
        Ok(found)
    }

    /// Makes the entry of a volume; nobody is asked.
    fn snapshots(&mut self, map: &Volumes, name: &BStr, key: &BStr) -> Result<Found, Stop> {
        if self.context.kind == MapKind::Direct {
            return Err(Miss::NoSuchKey.into());
        }
        let manifests = self.maps.settings.manifests.as_deref();
        let mut found = snapshot::entry(map, name, key, self.context, manifests)?;
        found.via = self.via.clone();
        Ok(found)
    }

    /// Searches the services of the name service switch.
    fn named(&mut self, name: &BStr, key: &BStr) -> Result<Found, Stop> {
        let switch = match self.may_block {
            true => self.maps.switch(),
            false => self.maps.switch_cached().ok_or(Stop::WouldBlock)?,
        };
        let path = self.maps.in_map_directory(name);
        through_services(&switch.switch, name, || {
            self.file_or_program(path.as_ref(), key)
        })
    }

    /// Searches a file, or asks it when it is a program.
    fn file_or_program(&mut self, path: &BStr, key: &BStr) -> Result<Found, Stop> {
        // What was no program when it was read, and has not changed, is still none: a change of
        // mode changes the inode's time.
        let cached = self.maps.cached(path, self.context);
        if let Some(loaded) = cached.filter(|loaded| !loaded.program) {
            return self.text(&loaded, key);
        }
        if !self.may_block {
            return Err(Stop::WouldBlock);
        }
        match self.maps.is_program(path) {
            true => self.program(path, key),
            false => self.file(path, key),
        }
    }

    /// Searches a file.
    fn file(&mut self, path: &BStr, key: &BStr) -> Result<Found, Stop> {
        let loaded = match self.may_block {
            true => self.maps.fresh(path, self.context)?,
            false => self
                .maps
                .cached(path, self.context)
                .ok_or(Stop::WouldBlock)?,
        };
        self.text(&loaded, key)
    }

    /// Asks a program.
    fn program(&mut self, path: &BStr, key: &BStr) -> Result<Found, Stop> {
        if !self.may_block {
            return Err(Stop::WouldBlock);
        }
        let mut found = self.maps.program(path)?.lookup(key, self.context)?;
        found.via = self.via.clone();
        Ok(found)
    }

    /// Searches a text and the maps that it includes.
    fn text(&mut self, loaded: &Arc<Loaded>, key: &BStr) -> Result<Found, Stop> {
        let identity = loaded.identity();
        self.searched += 1;
        let too_deep = self.chain.len() > INCLUDE_DEPTH || self.searched > INCLUDES_IN_ALL;
        if too_deep || self.chain.contains(&identity) {
            tracing::debug!(map = %loaded.index.text().name, too_deep, "include not followed");
            return Err(Miss::NoSuchKey.into());
        }
        self.chain.push(identity);
        let result = self.steps(loaded, key);
        self.chain.pop();
        result
    }

    /// Goes through the steps of a search in one text.
    fn steps(&mut self, loaded: &Arc<Loaded>, key: &BStr) -> Result<Found, Stop> {
        let mut worst = Miss::NoSuchKey;
        for step in loaded.index.search(key) {
            match step {
                Step::Found(mut found) => {
                    found.via = self.via.clone();
                    return Ok(found);
                }
                Step::Include(include) => {
                    let outer = self.via.len();
                    self.via.extend(include.map.origin.clone());
                    let result = self.map(&include.map, key, true);
                    self.via.truncate(outer);
                    match result {
                        Err(Stop::Miss(miss)) => worst = graver(Some(worst), miss),
                        other => return other,
                    }
                }
            }
        }
        Err(worst.into())
    }
}

/// Asks the services of the switch in turn; `files` searches the file in the map directory.
fn through_services(
    switch: &Switch,
    name: &BStr,
    mut files: impl FnMut() -> Result<Found, Stop>,
) -> Result<Found, Stop> {
    let mut worst = None;
    // Whether some service has the map, though not the key.
    let mut answered = false;
    for service in &switch.services {
        let miss = match &*service.name {
            "files" => match files() {
                Err(Stop::Miss(miss)) => miss,
                other => return other,
            },
            other => Miss::NotAvailable(
                format!("map {name}: the service {other} of nsswitch.conf is not in this build")
                    .into(),
            ),
        };
        answered |= miss == Miss::NoSuchKey;
        let action = service.action(Status::of(&miss));
        worst = Some(graver(worst, miss));
        if action == Action::Return {
            break;
        }
    }
    Err(match worst {
        Some(Miss::NotAvailable(_)) if answered => Miss::NoSuchKey,
        Some(miss) => miss,
        None => Miss::NoSuchKey,
    }
    .into())
}

impl Maps {
    /// Whether the file called `path` is to be run. What cannot be told is read, and says why
    /// it cannot be.
    pub(super) fn is_program(&self, path: &BStr) -> bool {
        file::is_program(&self.real(path)).unwrap_or(false)
    }

    /// A look at servers' exports.
    fn look(&self, context: &LookupContext<'_>, may_block: bool) -> Result<Look<'_>, Miss> {
        let asker = self.settings.exports.as_deref();
        Ok(Look {
            lists: &self.exports,
            asker: asker.ok_or(Miss::NoSuchKey)?,
            all: self.settings.all_exports,
            whole: self.settings.whole_servers,
            may_block,
            until: context.deadline,
        })
    }

    /// The program called `path`.
    fn program(&self, path: &BStr) -> Result<ProgramSource, Miss> {
        if !self.settings.run_programs {
            return Err(Miss::NotAvailable(
                format!("program {path}: programs are not run here").into(),
            ));
        }
        Ok(
            ProgramSource::new(self.real(path), path.to_str_lossy().into())
                .standard_names(self.settings.standard_names),
        )
    }
}

/// A listing of maps: their keys, and what there is to say about them.
pub(super) struct List<'l> {
    maps: &'l Maps,
    context: &'l LookupContext<'l>,
    want_keys: bool,
    chain: Vec<Identity>,
    /// Maps whose texts were listed: a map may be included twice, and adds nothing then.
    listed: Vec<Identity>,
    seen: HashSet<BString>,
    /// Whether more than one text may have a key; one alone has each only once.
    several: bool,
    pub(super) listing: Listing,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'l> List<'l> {
    /// Nothing listed yet.
    pub(super) fn new(maps: &'l Maps, context: &'l LookupContext<'l>, want_keys: bool) -> Self {
        Self {
            maps,
            context,
            want_keys,
            chain: Vec::new(),
            listed: Vec::new(),
            seen: HashSet::new(),
            several: false,
            listing: Listing::default(),
            diagnostics: Vec::new(),
        }
    }

    /// Lists several maps in order.
    pub(super) fn maps(&mut self, maps: &[MapSpec]) {
        self.several = maps.len() > 1;
        let cancelled = maps.iter().filter_map(cancelled_key);
        self.seen.extend(cancelled.map(ToOwned::to_owned));
        for spec in maps {
            if let Err(miss) = self.map(spec, false) {
                self.listing
                    .incomplete
                    .push((spec.name.to_str_lossy().into(), miss));
            }
        }
    }

    /// Lists the map that `spec` means.
    fn map(&mut self, spec: &MapSpec, included: bool) -> Result<(), Miss> {
        match place(self.maps, spec, included) {
            Place::File(path) => self.file(path.as_ref()),
            Place::FileOrProgram(path) => self.file_or_program(path.as_ref()),
            Place::Program(path) => self.program(path.as_ref()),
            Place::Named => self.named(spec.name.as_ref()),
            Place::Hosts(scope) => self.hosts(&scope),
            Place::Passwd => self.passwd(),
            Place::Snapshots(map) => self.snapshots(&map, spec),
            Place::Nowhere(Miss::NoSuchKey) => Ok(()),
            Place::Nowhere(miss) => Err(miss),
        }
    }

    /// Lists the map called `name` of every service until one says to stop.
    fn named(&mut self, name: &BStr) -> Result<(), Miss> {
        let switch = self.maps.switch();
        for one in &switch.diagnostics {
            if !self.diagnostics.contains(one) {
                self.diagnostics.push(one.clone());
            }
        }
        let path = self.maps.in_map_directory(name);
        let mut listed = Ok(());
        let stop = through_services(&switch.switch, name, || {
            listed = self.file_or_program(path.as_ref());
            Err(listed.clone().err().unwrap_or(Miss::NoSuchKey).into())
        });
        match (listed, stop) {
            (Ok(()), Err(Stop::Miss(Miss::NoSuchKey))) => Ok(()),
            (Err(miss), _) | (_, Err(Stop::Miss(miss))) => Err(miss),
            _ => Ok(()),
        }
    }

    /// Lists a file, unless it is a program.
    fn file_or_program(&mut self, path: &BStr) -> Result<(), Miss> {
        match self.maps.is_program(path) {
            true => self.program(path),
            false => self.file(path),
        }
    }

    /// Lists the servers of /etc/hosts, or the names in a directory of a server's exports. That the
    /// map is there is true before any server is asked.
    fn hosts(&mut self, scope: &Scope) -> Result<(), Miss> {
        if self.context.kind == MapKind::Direct {
            let why = "-hosts has servers as keys, which cannot be those of a direct map";
            return Err(Miss::NotAvailable(why.into()));
        }
        let Scope::Below { server, path } = scope else {
            self.listing.served = true;
            if self.want_keys {
                self.servers();
            }
            return Ok(());
        };
        let look = self.maps.look(self.context, true)?;
        let list = look.directory(server.as_ref(), path.as_ref());
        let list = list.unwrap_or(Err(Miss::NoSuchKey))?;
        self.listing.served = true;
        if self.want_keys {
            let origin = hosts::origin(server.as_ref());
            let listed = list.names(path.as_ref()).map(|name| ListedKey {
                key: name.into(),
                origin: origin.clone(),
            });
            self.listing.keys.extend(listed);
        }
        self.diagnostics
            .extend(hosts::findings(server.as_ref(), &list));
        Ok(())
    }

    /// The user database is there, and is not listed: it may have all of a university.
    fn passwd(&mut self) -> Result<(), Miss> {
        if self.context.kind == MapKind::Direct {
            let why = "-passwd has users as keys, which cannot be those of a direct map";
            return Err(Miss::NotAvailable(why.into()));
        }
        self.listing.served = true;
        Ok(())
    }

    /// Lists volumes, groups of them and snapshots.
    fn snapshots(&mut self, map: &Volumes, spec: &MapSpec) -> Result<(), Miss> {
        if self.context.kind == MapKind::Direct {
            let why = "maps of snapshots have names as keys, which cannot be those of a direct map";
            return Err(Miss::NotAvailable(why.into()));
        }
        self.listing.served = true;
        if self.want_keys {
            let asker = self.maps.settings.volumes.as_deref();
            let fragment = Fragment::whole(format!("snapshot:{}", spec.name), spec.name.clone());
            let origin = fragment.origin(Span::new(0, spec.name.len()));
            for key in snapshot::keys(map, asker, self.context.deadline)? {
                let origin = origin.clone();
                self.listing.keys.push(ListedKey { key, origin });
            }
        }
        Ok(())
    }

    /// Lists the names of /etc/hosts.
    fn servers(&mut self) {
        let path = self.maps.real(BStr::new("/etc/hosts"));
        let name: Arc<str> = "/etc/hosts".into();
        let Ok(text) = file::read_text(&path, &name, HOSTS_FILE_BYTES) else {
            return;
        };
        let fragment = text.fragment;
        for (key, span) in hosts::names_in(&fragment.text) {
            if self.seen.insert(key.to_owned()) {
                let (key, origin) = (key.to_owned(), fragment.origin(span));
                self.listing.keys.push(ListedKey { key, origin });
            }
        }
    }

    /// A program is there, but has no list.
    fn program(&mut self, path: &BStr) -> Result<(), Miss> {
        self.listing.served = true;
        let program = self.maps.program(path)?;
        match self.want_keys {
            true => program.read().map(drop),
            false => Ok(()),
        }
    }

    /// Lists a file and the maps that it includes.
    fn file(&mut self, path: &BStr) -> Result<(), Miss> {
        let loaded = self.maps.fresh(path, self.context)?;
        self.listing.served = true;
        let identity = loaded.identity();
        if self.listed.contains(&identity) {
            return Ok(());
        }
        self.listed.push(identity.clone());
        self.diagnostics.extend(loaded.diagnostics.iter().cloned());
        self.chain.push(identity);
        if self.want_keys {
            self.keys(&loaded);
        } else {
            loaded
                .index
                .includes()
                .iter()
                .for_each(|include| self.include(&loaded, include));
        }
        self.chain.pop();
        Ok(())
    }

    /// Lists the keys of a text in reading order.
    fn keys(&mut self, loaded: &Loaded) {
        self.several |= !loaded.index.includes().is_empty();
        for listed in loaded.index.keys() {
            match listed {
                Listed::Include(include) => self.include(loaded, include),
                Listed::Key { key, at } => {
                    if !self.several || self.seen.insert(key.clone()) {
                        let origin = loaded.index.origin_at(at);
                        self.listing.keys.push(ListedKey { key, origin });
                    }
                }
            }
        }
    }

    /// Follows an include, or says why not.
    fn include(&mut self, loaded: &Loaded, include: &Include) {
        let name = &include.map.name;
        let (code, message, help) = match self.follow(include) {
            Ok(()) => return,
            Err(Unfollowed::Cycle) => (
                "include-cycle",
                format!("`{name}` includes this map itself; the include is not followed"),
                "remove one of the includes",
            ),
            Err(Unfollowed::Depth) => (
                "include-depth",
                format!("more than {INCLUDE_DEPTH} maps include one another; `{name}` is not read"),
                "include the maps from one place",
            ),
            Err(Unfollowed::Miss(miss)) => {
                self.listing
                    .incomplete
                    .push((name.to_str_lossy().into(), miss.clone()));
                (
                    "include-missing",
                    said(&miss),
                    "correct the name, or remove the line",
                )
            }
        };
        let (fragment, span) = loaded.index.include_line(include);
        let one = Diagnostic::new(Severity::Warning, code, message, &fragment, span);
        self.diagnostics.push(one.help(help));
    }

    /// Follows an include.
    fn follow(&mut self, include: &Include) -> Result<(), Unfollowed> {
        if self.chain.len() > INCLUDE_DEPTH || self.listed.len() > INCLUDES_IN_ALL {
            return Err(Unfollowed::Depth);
        }
        let target = self.target(&include.map);
        if target.is_some_and(|target| self.chain.contains(&target)) {
            return Err(Unfollowed::Cycle);
        }
        self.map(&include.map, true).map_err(Unfollowed::Miss)
    }

    /// What the map of an include is, if it is a file that can be read.
    fn target(&self, spec: &MapSpec) -> Option<Identity> {
        let path = match place(self.maps, spec, true) {
            Place::File(path) => path,
            Place::Named => self.maps.in_map_directory(spec.name.as_ref()),
            _ => return None,
        };
        let path = path.as_bstr();
        (!self.maps.is_program(path))
            .then(|| self.maps.fresh(path, self.context).ok())?
            .map(|loaded| loaded.identity())
    }
}

/// Why an include was not followed.
enum Unfollowed {
    /// It leads back to a map that is being read.
    Cycle,
    /// Too many maps include one another.
    Depth,
    /// It cannot be read.
    Miss(Miss),
}

/// What a miss says, for people.
pub(crate) fn said(miss: &Miss) -> String {
    match miss {
        Miss::NoSuchKey => "there is no such key".into(),
        Miss::BadKey(why) => (*why).into(),
        Miss::NoSuchMap(name) => format!("there is no map {name}"),
        Miss::Unreadable(why)
        | Miss::NotAvailable(why)
        | Miss::ProgramFailed(why)
        | Miss::TimedOut(why)
        | Miss::Refused(why)
        | Miss::Server { text: why, .. } => why.to_string(),
    }
}
