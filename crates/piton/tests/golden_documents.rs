//! The documents say what the code does.

use std::fs;
use std::path::Path;
use std::process::Command;

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
        Errno::INVAL => "EINVAL",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::SHUTDOWN => "ESHUTDOWN",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::HOSTDOWN => "EHOSTDOWN",
        other => panic!("errno {other:?} is not in this table"),
    }
}

#[test]
fn errno_md_has_every_cause() {
    let text = document("docs/errno.md");
    let check = |words: &str, cause: Cause| {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| {words}")))
            .unwrap_or_else(|| panic!("no row begins with {words:?}"));
        assert!(
            row.ends_with(&format!("| {} |", name(cause.errno()))),
            "{row}"
        );
    };
    let lookup = Cause::Lookup;
    check("no map has the key", lookup(Miss::NoSuchKey));
    check("the name cannot be a key", lookup(Miss::BadKey("slash")));
    check(
        "the map does not exist",
        lookup(Miss::NoSuchMap("m".into())),
    );
    check(
        "the map's program failed",
        lookup(Miss::ProgramFailed("x".into())),
    );
    check(
        "the map is there and cannot be read",
        lookup(Miss::Unreadable("x".into())),
    );
    check(
        "the map's source or format",
        lookup(Miss::NotAvailable("x".into())),
    );
    check(
        "the map's program or server did not answer",
        lookup(Miss::TimedOut("x".into())),
    );
    check(
        "running the map is refused",
        lookup(Miss::Refused("x".into())),
    );
    check(
        "the entry was found and cannot be used",
        Cause::BadEntry("x".into()),
    );
    check("nobody knows an address", Cause::UnknownHost("h".into()));
    check("not done within the access's deadline", Cause::TimedOut);
    check("the trigger is not ours", Cause::NoTrigger);
    check("the daemon is ending", Cause::Stopping);
    check("too many accesses at once", Cause::Overloaded);
    check("something is still in use", Cause::Busy("x".into()));
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
