//! What is said: the parameters of calls and replies.
//!
//! Paths and names are bytes in the daemon and text here: what is not UTF-8 is shown with
//! replacement characters. The order of fields is the order in JSON, and the beginning of
//! [`Status`] is a contract with scripts. New fields go to the end of their struct.

use serde::{Deserialize, Serialize};

mod trace;

pub use trace::{Trace, TraceLine};

/// Everything that is in place, under way or remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// The process that keeps the descriptors.
    pub keeper: Keeper,
    /// The daemon proper.
    pub daemon: Daemon,
    /// The mount points of the master map.
    pub mount_points: Vec<MountPoint>,
    /// What is mounted: the working set.
    pub mounts: Vec<Mount>,
    /// Hosts that mounts come from.
    pub servers: Vec<ServerState>,
    /// What is being done.
    #[serde(default)]
    pub jobs: Vec<Job>,
    /// Failures that are answered from memory.
    #[serde(default)]
    pub negative: Vec<Negative>,
    /// The last failures, oldest first.
    #[serde(default)]
    pub last_errors: Vec<LastError>,
    /// Names of the master maps.
    #[serde(default)]
    pub master_maps: Vec<String>,
    /// How accesses come in: `autofs`, `links` (served by NFS, as in the older automounter) or
    /// `fuse`. Empty if the daemon does not say.
    #[serde(default)]
    pub engine: String,
    /// Nothing is mounted: only what is mounted already is served.
    #[serde(default)]
    pub frozen: bool,
    /// Mount namespaces that our mounts do not reach.
    #[serde(default)]
    pub foreign: Vec<Foreign>,
    /// Changes of the last reload that wait for something in use.
    #[serde(default)]
    pub pending: Vec<Pending>,
    /// What servers export, as far as `-hosts` has asked.
    #[serde(default)]
    pub exports: Vec<ServerExports>,
    /// Servers that new accesses avoid, because an operator said so.
    #[serde(default)]
    pub drained: Vec<Drained>,
    /// Paths that neither expire nor move, because an operator said so.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// What was left to those who are inside, as long as they are.
    #[serde(default)]
    pub departed: Vec<Departed>,
}

/// What a server exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerExports {
    /// The server as it was named.
    pub server: String,
    /// How many exports are shown; none: it has no list, or has not told it.
    pub exports: Option<u64>,
    /// Lines of its list that are not used.
    #[serde(default)]
    pub refused: u64,
    /// Exports that are for other hosts only, and not shown.
    #[serde(default)]
    pub for_others: u64,
    /// Why the last question was not answered, if it was not.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A server that new accesses avoid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// As the map has it.
    pub server: String,
    /// Whether what is in use moves, too.
    pub now: bool,
    /// Milliseconds until this ends by itself; null: it does not.
    pub left_ms: Option<u64>,
}

/// A path that neither expires nor moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Absolute path.
    pub path: String,
    /// Milliseconds until this ends by itself.
    pub left_ms: u64,
}

/// A mount that was left to those who are inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// Absolute path at which it was.
    pub path: String,
    /// Source text.
    pub source: String,
    /// When that was, RFC 3339.
    pub since: String,
    /// Who was inside and still is.
    pub users: Vec<Holder>,
}

/// What is known of servers, and what an operator asked for them and for paths: little enough to be
/// asked for by the way. Nobody's files are looked through for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// Servers that mounts come from, or that are believed dead.
    pub servers: Vec<ServerState>,
    /// Servers that new accesses avoid.
    pub drained: Vec<Drained>,
    /// Paths that neither expire nor move.
    pub pins: Vec<Pin>,
}

impl From<Status> for Servers {
    fn from(status: Status) -> Self {
        let mut servers = status.servers;
        for server in &mut servers {
            server.users.clear();
        }
        Self {
            servers,
            drained: status.drained,
            pins: status.pins,
        }
    }
}

/// What a daemon was told by its command line and autofs.conf, as far as it decides what a path becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The master map as it was named; none: the usual ones.
    pub master: Option<String>,
    /// Lines that count before it.
    pub lines: Vec<String>,
    /// A master map that counts after it, if it is there.
    pub also: Option<String>,
    /// The dialect, whatever the master map's name.
    pub dialect: Option<String>,
    /// The directory below which a user's mount points are.
    pub fuse: Option<String>,
    /// Variables for maps (`-D`).
    pub defines: Vec<Variable>,
    /// Variables of the environment that maps may use.
    pub environment: Vec<Variable>,
    /// Mount options for all maps (`-O`).
    pub global_options: Vec<String>,
    /// Whether entry options come after those of the map or in their place.
    pub append_options: bool,
    /// Whether servers' names are mounted from, and not addresses.
    pub hostname_for_mounts: bool,
    /// Whether replicated servers are chosen at random where nothing else is said.
    pub random: bool,
    /// Whether exports for other hosts are shown.
    pub all_exports: bool,
    /// Whether a server's exports are one entry.
    pub whole_servers: bool,
    /// Seconds of idleness where nothing else is said; 0 is never.
    pub timeout_s: u32,
}

impl Settings {
    /// Takes out what a caller who is neither root nor the daemon's user may not see.
    pub fn redact(&mut self) {
        for variable in &mut self.environment {
            variable.value = None;
        }
    }
}

/// A variable for maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it stands for; none: that is not told.
    pub value: Option<String>,
}

/// A change of the last reload that waits for something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Absolute path of the mount point.
    pub path: String,
    /// `removal`, `replacement` or `installation`.
    pub what: String,
    /// Its map's name: the new one's where there is one.
    pub map: String,
    /// The master-map line, `file:line:column`.
    pub origin: String,
    /// What is mounted in the way, or the mount points that are.
    pub waits_for: Vec<String>,
    /// Who keeps that busy, as far as it was looked for.
    #[serde(default)]
    pub holders: Vec<Holder>,
}

/// The process that keeps the descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// Process id.
    pub pid: u32,
}

/// The daemon proper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Process id.
    pub pid: u32,
    /// When it was started, RFC 3339.
    pub since: String,
}

/// A mount point of the master map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Absolute path.
    pub path: String,
    /// `indirect` or `direct`.
    pub kind: String,
    /// The map's name.
    pub map: String,
    /// `installing`, `ready`, `removing`, `pending removal` or `pending replacement`.
    pub state: String,
    /// Seconds of idleness before expiry; 0 is never.
    pub timeout_s: u32,
    /// The master-map line, `file:line:column`.
    pub origin: String,
    /// Accesses that came by: each had to wait, or was answered from memory.
    #[serde(default)]
    pub accesses: u64,
    /// Who came first, if anybody did.
    #[serde(default)]
    pub first: Option<Requester>,
    /// Who came last.
    #[serde(default)]
    pub last: Option<Requester>,
    /// Why the last attempt that failed did so, and when. That a key is in no map is not counted.
    #[serde(default)]
    pub last_error: Option<LastError>,
}

/// Something mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path.
    pub path: String,
    /// The mount point of the master map it belongs to.
    pub mount_point: String,
    /// Source text; empty for a bare directory.
    pub source: String,
    /// `mount`, `symlink`, `directory` or `submount`.
    pub kind: String,
    /// The server, if there is one.
    pub host: Option<String>,
    /// When it was mounted, RFC 3339.
    pub since: String,
    /// Milliseconds since it was mounted.
    pub age_ms: u64,
    /// Seconds of idleness before expiry; 0 is never.
    pub timeout_s: u32,
    /// Who asked for it first.
    pub first: Requester,
    /// Who asked for it last.
    pub last: Requester,
    /// Accesses that had to wait for it.
    pub uses: u64,
    /// Why it could not be unmounted when that was last tried.
    pub busy: Option<String>,
    /// Who keeps it busy, as far as it was looked for.
    #[serde(default)]
    pub holders: Vec<Holder>,
    /// There are more holders, or not all could be looked for in time.
    #[serde(default)]
    pub holders_cut: bool,
    /// When it was last tried to unmount it in vain, RFC 3339.
    #[serde(default)]
    pub busy_at: Option<String>,
    /// Why it stays although its server is dead.
    #[serde(default)]
    pub stays: Option<String>,
    /// Since when its helper has neither answered nor done anything, RFC 3339; null: it is not known to
    /// hang. Whoever comes gets ETIMEDOUT.
    #[serde(default)]
    pub silent_since: Option<String>,
    /// Milliseconds until that helper is killed; null: it is not.
    #[serde(default)]
    pub given_up_in_ms: Option<u64>,
}

/// A process that touched a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// User id.
    pub uid: u32,
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// Name of the program when it came; null when it had gone before it could be looked at.
    pub comm: Option<String>,
    /// The unit of systemd it ran in.
    #[serde(default)]
    pub unit: Option<String>,
    /// The container it ran in, as far as its control group tells.
    #[serde(default)]
    pub container: Option<String>,
    /// Its control group.
    #[serde(default)]
    pub cgroup: Option<String>,
}

/// What keeps something busy: mostly a process, but also a mount on it or a loop device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id; 0 for what is not a process.
    pub pid: u32,
    /// Name of the program; empty for what is not a process.
    pub comm: String,
    /// User id.
    pub uid: u32,
    /// In which way: `open file`, `working directory`, `root directory`, `mapped file`, …
    pub how: String,
    /// The path it holds; null when the caller may not see other users' files.
    pub path: Option<String>,
    /// The process lives in another mount namespace: it uses a copy of the mount.
    #[serde(default)]
    pub elsewhere: bool,
    /// The unit of systemd it runs in.
    #[serde(default)]
    pub unit: Option<String>,
    /// The container it runs in, as far as its control group tells.
    #[serde(default)]
    pub container: Option<String>,
}

/// A mount namespace that our mounts do not reach, though a process there touched a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Its number, as /proc/PID/ns/mnt has it.
    pub namespace: u64,
    /// Accesses from there that could not be served.
    pub accesses: u64,
    /// The path that was touched last.
    pub path: String,
    /// When, RFC 3339.
    pub at: String,
    /// The process that touched it.
    pub pid: u32,
    /// Its name.
    pub comm: Option<String>,
    /// The unit of systemd it ran in.
    pub unit: Option<String>,
    /// The container it ran in, as far as its control group tells.
    pub container: Option<String>,
}

/// A host that mounts come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Name or address, as the map has it.
    pub host: String,
    /// How many mounts come from it.
    pub mounts: u64,
    /// `alive`, `doubtful` (its last answer did not come), `dead`, `being asked`, or `to be asked`
    /// (dead, and asked by whoever wants it next). `unknown`: nobody asked it.
    #[serde(default)]
    pub state: String,
    /// Milliseconds that it has been alive or dead for, as far as is known.
    #[serde(default)]
    pub age_ms: u64,
    /// It did not answer and is not asked for a while: what was said then.
    #[serde(default)]
    pub down: Option<String>,
    /// What was said when it last did not answer, however long ago.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Milliseconds until it is asked again; 0 when it is asked now or nobody plans to.
    #[serde(default)]
    pub left_ms: u64,
    /// Microseconds that its last answer took.
    #[serde(default)]
    pub answer_us: Option<u32>,
    /// If it is dead: who uses what is mounted from it.
    #[serde(default)]
    pub users: Vec<Holder>,
    /// How often it did not answer, in a row.
    #[serde(default)]
    pub failures: u64,
    /// How many accesses were answered from memory.
    #[serde(default)]
    pub answered: u64,
}

/// Something being done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Absolute path.
    pub path: String,
    /// `looking up`, `resolving`, `mounting`, `unmounting` or `inspecting`.
    pub stage: String,
    /// Accesses that wait for it.
    pub waiters: u64,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Whose access began it.
    pub requester: Requester,
}

/// A failure that is answered from memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negative {
    /// Absolute path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Milliseconds until it is tried again.
    pub left_ms: u64,
    /// `absent key`, `failed program`, `bad entry`, `unreachable map`, `failed mount` or
    /// `unreachable server`.
    #[serde(default)]
    pub cause: String,
    /// How often it failed in a row.
    #[serde(default)]
    pub failures: u64,
    /// How many accesses were answered from memory.
    #[serde(default)]
    pub answered: u64,
}

/// An access that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Absolute path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
}

/// Something mounted, in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Absolute path.
    pub path: String,
    /// Source text; empty for a bare directory.
    pub source: String,
    /// `mount`, `symlink`, `directory` or `submount`.
    pub kind: String,
    /// The mount point of the master map it belongs to.
    pub mount_point: String,
    /// Milliseconds since it was mounted.
    pub age_ms: u64,
    /// Accesses that had to wait for it.
    #[serde(default)]
    pub uses: u64,
    /// Who asked for it last.
    #[serde(default)]
    pub last: Requester,
}

impl From<&Mount> for Listed {
    fn from(mount: &Mount) -> Self {
        Self {
            path: mount.path.clone(),
            source: mount.source.clone(),
            kind: mount.kind.clone(),
            mount_point: mount.mount_point.clone(),
            age_ms: mount.age_ms,
            uses: mount.uses,
            last: mount.last.clone(),
        }
    }
}

/// What a reload changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPlan {
    /// Mount points that are put in place.
    pub added: Vec<Change>,
    /// Mount points that are taken away, once what is mounted below is idle.
    pub removed: Vec<Change>,
    /// Mount points that stay and are used differently from now on.
    pub changed: Vec<Change>,
    /// How many mount points are untouched.
    #[serde(default)]
    pub unchanged: u64,
    /// What the maps say amiss, as text for people.
    #[serde(default)]
    pub diagnostics: Vec<String>,
    /// Changes that wait for something in use; they are in no other list.
    #[serde(default)]
    pub pending: Vec<Change>,
    /// Mount points that cannot be, with the lines that contradict each other.
    #[serde(default)]
    pub refused: Vec<Change>,
}

/// A mount point that a reload touches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute path.
    pub path: String,
    /// The map's name.
    pub map: String,
    /// What differs, for people; empty when there is nothing to say.
    #[serde(default)]
    pub detail: String,
}

/// Something that stayed as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Absolute path.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Status {
    /// Counts the hosts of `mounts` in `servers`, in the order of their names; what is down stays
    /// although nothing comes from it.
    pub fn count_servers(&mut self) {
        let known = std::mem::take(&mut self.servers);
        let mut servers: std::collections::BTreeMap<String, ServerState> = known
            .into_iter()
            .map(|server| {
                (
                    server.host.clone(),
                    ServerState {
                        mounts: 0,
                        ..server
                    },
                )
            })
            .collect();
        for host in self.mounts.iter().filter_map(|mount| mount.host.as_deref()) {
            let server = servers
                .entry(host.to_owned())
                .or_insert_with(|| ServerState {
                    host: host.to_owned(),
                    state: "unknown".into(),
                    ..ServerState::default()
                });
            server.mounts += 1;
        }
        servers.retain(|_, server| server.mounts > 0 || server.down.is_some());
        self.servers = servers.into_values().collect();
    }

    /// Keeps what is at, below or above `path`.
    ///
    /// Returns true if and only if something of the automounter's is there.
    pub fn narrow(&mut self, path: &str) -> bool {
        let related = |other: &str| piton_path::are_related(other, path);
        self.mount_points.retain(|point| related(&point.path));
        self.mounts.retain(|mount| related(&mount.path));
        self.jobs.retain(|job| related(&job.path));
        self.negative.retain(|negative| related(&negative.path));
        self.last_errors.retain(|error| related(&error.path));
        self.pending.retain(|pending| related(&pending.path));
        self.pins.retain(|pin| related(&pin.path));
        self.departed.retain(|departed| related(&departed.path));
        self.foreign.retain(|foreign| related(&foreign.path));
        self.exports
            .retain(|one| path.split('/').any(|part| part == one.server));
        self.count_servers();
        !(self.mount_points.is_empty() && self.mounts.is_empty())
    }

    /// Takes out what a caller who is neither root nor the daemon's user may not see: the files
    /// that other users' processes hold open.
    pub fn redact_for(&mut self, uid: u32) {
        let mounts = self.mounts.iter_mut().flat_map(|it| &mut it.holders);
        let pending = self.pending.iter_mut().flat_map(|it| &mut it.holders);
        let departed = self.departed.iter_mut().flat_map(|it| &mut it.users);
        let servers = self.servers.iter_mut().flat_map(|it| &mut it.users);
        for holder in mounts.chain(pending).chain(departed).chain(servers) {
            if holder.pid != 0 && holder.uid != uid {
                holder.path = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varlink::DESCRIPTION;

    /// The names in the parentheses after `head`, in order.
    fn described(head: &str) -> Vec<String> {
        let start = DESCRIPTION.find(head).unwrap_or_else(|| panic!("{head}")) + head.len();
        let body = DESCRIPTION[start..]
            .split(')')
            .next()
            .expect("split gives at least one");
        body.split(',')
            .filter_map(|field| field.split(':').next())
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    }

    fn serialised<T: Serialize>(value: &T) -> Vec<String> {
        let value = serde_json::to_value(value).expect("JSON");
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    }

    #[test]
    fn the_description_has_the_fields_of_every_type_in_order() {
        assert_eq!(described("type Keeper ("), serialised(&Keeper::default()));
        assert_eq!(described("type Daemon ("), serialised(&Daemon::default()));
        assert_eq!(
            described("type MountPoint ("),
            serialised(&MountPoint::default())
        );
        assert_eq!(
            described("type Requester ("),
            serialised(&Requester::default())
        );
        assert_eq!(described("type Holder ("), serialised(&Holder::default()));
        assert_eq!(described("type Mount ("), serialised(&Mount::default()));
        assert_eq!(
            described("type ServerState ("),
            serialised(&ServerState::default())
        );
        assert_eq!(described("type Job ("), serialised(&Job::default()));
        assert_eq!(
            described("type Negative ("),
            serialised(&Negative::default())
        );
        assert_eq!(
            described("type LastError ("),
            serialised(&LastError::default())
        );
        assert_eq!(described("type Listed ("), serialised(&Listed::default()));
        assert_eq!(described("type Foreign ("), serialised(&Foreign::default()));
        assert_eq!(described("type Change ("), serialised(&Change::default()));
        assert_eq!(
            described("type TraceLine ("),
            serialised(&TraceLine::default())
        );
        assert_eq!(
            described("method Trace(path: ?string, recent: ?bool) -> ("),
            serialised(&Trace::default())
        );
        assert_eq!(described("type Pending ("), serialised(&Pending::default()));
        assert_eq!(described("type Drained ("), serialised(&Drained::default()));
        assert_eq!(described("type Pin ("), serialised(&Pin::default()));
        assert_eq!(
            described("type Departed ("),
            serialised(&Departed::default())
        );
        assert_eq!(described("type Left ("), serialised(&Left::default()));
        assert_eq!(
            described("method Servers() -> ("),
            serialised(&Servers::default())
        );
        assert_eq!(
            described("type Variable ("),
            serialised(&Variable::default())
        );
        assert_eq!(
            described("method Settings() -> ("),
            serialised(&Settings::default())
        );
        assert_eq!(
            described("method Status(path: ?string) -> ("),
            serialised(&Status::default())
        );
        assert_eq!(
            described("method Plan() -> ("),
            serialised(&ReloadPlan::default())
        );
        assert_eq!(
            described("method Reload() -> ("),
            serialised(&ReloadPlan::default())
        );
    }

    #[test]
    fn a_trace_is_narrowed_to_a_path_and_a_user() {
        let line = |path: &str, uid, kind: &str| TraceLine {
            path: path.to_owned(),
            kind: kind.to_owned(),
            requester: Requester {
                uid,
                ..Requester::default()
            },
            ..TraceLine::default()
        };
        let mut trace = Trace {
            lines: vec![
                line("/home/ann", 5, "access"),
                line("/home/ann/x", 0, "expire"),
                line("/homes", 5, "access"),
                line("/home/bob", 6, "access"),
            ],
            lost: 0,
        };
        trace.narrow("/home/");
        assert_eq!(trace.lines.len(), 3);
        trace.redact_for(5);
        assert_eq!(trace.lines, [line("/home/ann", 5, "access")]);
    }

    #[test]
    fn of_the_environment_others_see_the_names() {
        let variable = |value: Option<&str>| Variable {
            name: "SITE".into(),
            value: value.map(Into::into),
        };
        let mut settings = Settings {
            defines: vec![variable(Some("a"))],
            environment: vec![variable(Some("b"))],
            ..Settings::default()
        };
        settings.redact();
        assert_eq!(settings.defines, [variable(Some("a"))]);
        assert_eq!(settings.environment, [variable(None)]);
    }

    #[test]
    fn status_begins_as_promised() {
        let text = serde_json::to_string(&Status::default()).expect("JSON");
        let promised = r#"{"version":"","keeper":{"pid":0},"daemon":{"pid":0,"since":""},"#
            .to_owned()
            + r#""mount_points":[],"mounts":[],"servers":[]"#;
        assert!(text.starts_with(&promised), "{text}");
    }

    fn sample() -> Status {
        let point = |path: &str| MountPoint {
            path: path.to_owned(),
            ..MountPoint::default()
        };
        let mount = |path: &str, host: &str| Mount {
            path: path.to_owned(),
            host: Some(host.to_owned()),
            ..Mount::default()
        };
        Status {
            mount_points: vec![point("/home"), point("/homes"), point("/src/x")],
            mounts: vec![
                mount("/home/ann", "b"),
                mount("/home/ann/deep", "a"),
                mount("/src/x", "b"),
            ],
            ..Status::default()
        }
    }

    #[test]
    fn servers_are_counted_by_name() {
        let mut status = sample();
        status.count_servers();
        let counts: Vec<_> = status
            .servers
            .iter()
            .map(|server| (server.host.as_str(), server.mounts))
            .collect();
        assert_eq!(counts, [("a", 1), ("b", 2)]);
    }

    #[test]
    fn narrowing_keeps_what_is_at_below_and_above() {
        let paths = |path: &str| {
            let mut status = sample();
            let found = status.narrow(path);
            let points = status.mount_points.iter().map(|point| point.path.clone());
            let mounts = status.mounts.iter().map(|mount| mount.path.clone());
            (found, points.chain(mounts).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            paths("/home/"),
            (true, "/home /home/ann /home/ann/deep".to_owned())
        );
        assert_eq!(
            paths("/home/ann/file"),
            (true, "/home /home/ann".to_owned())
        );
        assert_eq!(paths("/src"), (true, "/src/x /src/x".to_owned()));
        assert_eq!(paths("/hom"), (false, String::new()));
        assert!(paths("/").1.contains("/homes"));
    }

    #[test]
    fn others_do_not_see_whose_file_is_open() {
        let holder = |uid, pid| Holder {
            uid,
            pid,
            path: Some("/home/ann/secret".to_owned()),
            ..Holder::default()
        };
        let mut status = sample();
        status.mounts[0].holders = vec![holder(1000, 5), holder(1001, 6), holder(0, 0)];
        status.count_servers();
        status.servers[0].users = status.mounts[0].holders.clone();
        status.redact_for(1001);
        assert_eq!(status.servers[0].users, status.mounts[0].holders);
        let seen: Vec<_> = status.mounts[0]
            .holders
            .iter()
            .map(|holder| holder.path.is_some())
            .collect();
        assert_eq!(seen, [false, true, true]);
    }
}
