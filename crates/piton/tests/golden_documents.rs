//! The documents say what the code does.

use std::fs;
use std::path::Path;
use std::process::Command;

use piton_control::message::Listed;
use piton_engine::cause::{Cause, Errno};
use piton_map::lookup::Miss;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The name that errno(3) has for a number.
fn name(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "ENOENT",
        Errno::IO => "EIO",
        Errno::AGAIN => "EAGAIN",
        Errno::ACCES => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::XDEV => "EXDEV",
        Errno::INVAL => "EINVAL",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::SHUTDOWN => "ESHUTDOWN",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::HOSTDOWN => "EHOSTDOWN",
        other => panic!("errno {other:?} is not in this table"),
    }
}

/// How the row of a cause begins. A new cause does not compile until it has one.
fn row_of(cause: &Cause) -> &'static str {
    match cause {
        Cause::Lookup(miss) => match miss {
            Miss::NoSuchKey => "no map has the key",
            Miss::BadKey(_) => "the name cannot be a key",
            Miss::NoSuchMap(_) => "the map does not exist",
            Miss::ProgramFailed(_) => "the map's program failed",
            Miss::Unreadable(_) => "the map is there and cannot be read",
            Miss::NotAvailable(_) => "the map's source or format",
            Miss::TimedOut(_) => "the map's program or server did not answer",
            Miss::Refused(_) => "running the map is refused",
            Miss::Server { .. } => "a server was asked for its exports",
        },
        Cause::BadEntry(_) => "the entry was found and cannot be used",
        Cause::UnknownHost(_) => "nobody knows an address",
        Cause::Mount(..) => "mounting failed",
        Cause::KnownDown(..) => "none of the entry's servers answered a moment ago",
        Cause::TimedOut => "not done within the access's deadline",
        Cause::NoTrigger => "the trigger is not ours",
        Cause::Denied(_) => "the map's filter denies",
        Cause::Replaced => "the mount point is being replaced",
        Cause::Stopping => "the daemon is ending",
        Cause::Overloaded => "too many accesses at once",
        Cause::Frozen => "nothing is to be mounted now",
        Cause::Hidden => "it is mounted, but not in the mount namespace",
        Cause::Busy(_) => "something is still in use",
    }
}

#[test]
fn every_field_of_list_is_documented() {
    let page = document("docs/control.md");
    let table = page.split("`piton list --json` prints").nth(1).unwrap();
    let listed = serde_json::to_value(Listed::default()).unwrap();
    let fields = listed.as_object().unwrap();
    let last = fields["last"].as_object().unwrap();
    for field in fields.keys().chain(last.keys()) {
        assert!(table.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn the_shipped_master_map_has_net_and_nothing_to_be_said_of() {
    use piton_map::lookup::MapType;
    use piton_map::master::{MasterItem, MountPoint, parse};
    use piton_map::text::Fragment;
    let text = document("packaging/auto.master");
    let (master, findings) = parse(&Fragment::whole("auto.master", text));
    assert_eq!(findings, []);
    let [MasterItem::Entry(net), MasterItem::IncludeDirectory(_)] = &master.items[..] else {
        panic!("{master:?}")
    };
    assert_eq!(net.mount_point, MountPoint::Path("/net".into()));
    assert_eq!(net.maps[0].kind, Some(MapType::Hosts));
    assert_eq!(net.options.mount, ["soft", "nosuid", "nodev"]);
}

#[test]
fn errno_md_has_every_cause() {
    let text = document("docs/errno.md");
    let lookup = Cause::Lookup;
    let causes = [
        lookup(Miss::NoSuchKey),
        lookup(Miss::BadKey("slash")),
        lookup(Miss::NoSuchMap("m".into())),
        lookup(Miss::ProgramFailed("x".into())),
        lookup(Miss::Unreadable("x".into())),
        lookup(Miss::NotAvailable("x".into())),
        lookup(Miss::TimedOut("x".into())),
        lookup(Miss::Refused("x".into())),
        lookup(Miss::Server {
            errno: 112,
            text: "x".into(),
        }),
        Cause::BadEntry("x".into()),
        Cause::UnknownHost("h".into()),
        Cause::Mount(Errno::IO, "x".into()),
        Cause::KnownDown("x".into()),
        Cause::TimedOut,
        Cause::NoTrigger,
        Cause::Denied("x".into()),
        Cause::Replaced,
        Cause::Stopping,
        Cause::Overloaded,
        Cause::Frozen,
        Cause::Hidden,
        Cause::Busy("x".into()),
    ];
    for cause in causes {
        let words = row_of(&cause);
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| {words}")))
            .unwrap_or_else(|| panic!("no row begins with {words:?}"));
        let told = match cause {
            Cause::Mount(..) => "what the kernel or the helper said, see below",
            Cause::Lookup(Miss::Server { .. }) => "what came of asking, see below",
            _ => name(cause.errno()),
        };
        assert!(row.ends_with(&format!("| {told} |")), "{row}");
    }
}

#[test]
fn errno_md_has_how_long_failures_are_remembered() {
    use piton_engine::limits;
    use piton_engine::negative::Kind;
    let text = document("docs/errno.md");
    let most = |kind| match kind {
        Kind::AbsentKey | Kind::FailedProgram => "the negative timeout".to_owned(),
        Kind::BadEntry => format!("{} s", limits::BAD_ENTRY_MEMORY_MS / 1_000),
        Kind::UnreachableMap => format!("{} s", limits::MAP_MEMORY_MOST_MS / 1_000),
        Kind::FailedMount => format!("{} s", limits::MOUNT_MEMORY_MOST_MS / 1_000),
        Kind::UnreachableServer => format!("{} s", limits::SERVER_MEMORY_MOST_MS / 1_000),
    };
    for kind in [
        Kind::AbsentKey,
        Kind::FailedProgram,
        Kind::BadEntry,
        Kind::UnreachableMap,
        Kind::FailedMount,
        Kind::UnreachableServer,
    ] {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", kind.words())))
            .unwrap_or_else(|| panic!("{kind:?} has no row"));
        assert!(row.contains(&most(kind)), "{row}");
    }
    assert_eq!(limits::FAILURE_MEMORY_MS, 1_000);
}

#[test]
fn control_md_has_every_method_and_error() {
    let text = document("docs/control.md");
    let description = piton_control::varlink::DESCRIPTION;
    for line in description.lines() {
        if let Some(method) = line.strip_prefix("method ") {
            let call = method
                .split(" ->")
                .next()
                .expect("split gives at least one");
            assert!(text.contains(&format!("| `{call}` |")), "{call}");
        }
        if let Some(error) = line.strip_prefix("error ") {
            let (name, _) = error.split_once('(').expect("parameters");
            assert!(
                text.contains(&format!("org.piton.Automounter.{name}")),
                "{name}"
            );
        }
    }
}

#[test]
fn control_md_has_the_limits() {
    use piton_control::limits;
    let text = document("docs/control.md").replace('\n', " ");
    let for_root = limits::CONNECTIONS - limits::CONNECTIONS_OF_OTHERS;
    for part in [
        format!(
            "{} MiB at most and {} s to arrive",
            limits::REQUEST_BYTES >> 20,
            limits::ARRIVAL.as_secs()
        ),
        format!("idle for {} s", limits::IDLE.as_secs()),
        format!("taken within {} s", limits::DELIVERY.as_secs()),
        format!(
            "Reading calls take {} s at most, changing calls {} s, `Stop` {} s",
            limits::READ_CALL.as_secs(),
            limits::CHANGE_CALL.as_secs(),
            limits::STOP_CALL.as_secs()
        ),
        format!(
            "There are {} connections, of which {for_root} are kept",
            limits::CONNECTIONS
        ),
        format!("another user has {}", limits::CONNECTIONS_PER_USER),
    ] {
        assert!(text.contains(&part), "{part}");
    }
}

#[test]
fn readme_has_every_subcommand() {
    let output = Command::new(env!("CARGO_BIN_EXE_piton"))
        .arg("--help")
        .output()
        .expect("it runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // A line with less indentation names a command, the others go on with its text.
    let names: Vec<&str> = commands
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() >= 12, "{names:?}");
    let readme = document("README.md");
    for name in names {
        let known = ["piton ", "-- "]
            .iter()
            .any(|before| readme.contains(&format!("{before}{name}")));
        assert!(known, "README.md does not name `piton {name}`");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for from in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "docs/errno.md",
        "docs/control.md",
    ] {
        let text = document(from);
        let folder = root.join(from).parent().expect("a folder").to_owned();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let local = !link.starts_with("http");
            assert!(!local || folder.join(link).exists(), "{from}: {link}");
        }
    }
}

#[test]
fn files_that_the_architecture_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for from in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for named in document(from).split('`').skip(1).step_by(2) {
            let is_path = named.starts_with("crates/") || named.starts_with("xtask/");
            assert!(
                !is_path || root.join(named).exists(),
                "{from} names {named}"
            );
        }
    }
}

fn piton(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(args)
        .output()
        .expect("piton runs");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Both commands of the documents say what they take.
#[test]
fn the_documents_commands_have_help() {
    for (args, expected) in [
        (&["automount", "--help"][..], "--old"),
        (&["help", "automount"], "-t DURATION"),
        (&["automount", "--old", "--help"], "-tw INTERVAL"),
    ] {
        let help = piton(args);
        assert!(help.contains(expected), "{args:?}: {help}");
    }
}
