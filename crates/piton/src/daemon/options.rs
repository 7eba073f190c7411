//! The daemon's command line: its own options and autofs's, so that a service file needs one
//! word changed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use bstr::{BString, ByteSlice};
use lexopt::{Arg, Parser, ValueExt};
use piton_control::runtime::RuntimeDir;
use piton_map::dialect::Dialect;
use std::os::unix::ffi::OsStringExt;

use super::limits::GIVE_UP;
use super::log::Verbosity;

/// What the command line says; `None` leaves it to autofs.conf.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// The master map: `--master`, or the positional word.
    pub(crate) master: Option<OsString>,
    /// Lines of a master map that count before it.
    pub(crate) lines: Vec<BString>,
    /// A master map that counts after it, if it is there.
    pub(crate) also: Option<BString>,
    /// Stay in the foreground.
    pub(crate) foreground: bool,
    /// Seconds of idleness.
    pub(crate) timeout: Option<u32>,
    /// Seconds for which an absent key is remembered.
    pub(crate) negative_timeout: Option<u32>,
    /// Seconds to wait for the master map at start.
    pub(crate) master_wait: Option<u32>,
    /// `-D name=value`.
    pub(crate) defines: Vec<(BString, BString)>,
    /// Variables of the environment that maps may use.
    pub(crate) environment: Vec<OsString>,
    /// `-O options`.
    pub(crate) global_options: Vec<BString>,
    /// How much is logged.
    pub(crate) verbosity: Verbosity,
    /// Write the pid there.
    pub(crate) pid_file: Option<PathBuf>,
    /// Rank replicated servers at random.
    pub(crate) random: bool,
    /// Send every mount through this program.
    pub(crate) mount_program: Option<PathBuf>,
    /// And every unmount through this one.
    pub(crate) umount_program: Option<PathBuf>,
    /// The dialect, whatever the master map's name.
    pub(crate) dialect: Option<Dialect>,
    /// Show exports of `-hosts` that are for other hosts only.
    pub(crate) all_exports: bool,
    /// Seconds within which each access is answered.
    pub(crate) deadline: Option<u32>,
    /// At most so many seconds between attempts to mount what fails again and again.
    pub(crate) retry: Option<u32>,
    /// Seconds between attempts to unmount what is idle.
    pub(crate) unmount_pause: Option<u32>,
    /// Serve what is mounted already, and mount nothing.
    pub(crate) frozen: bool,
    /// Options of autofs that have no meaning here, with the reason.
    pub(crate) ignored: Vec<(String, &'static str)>,
    /// Set in the process that was started in the background.
    pub(crate) background_child: bool,
    /// What this process is.
    pub(crate) role: Role,
    /// How accesses come in.
    pub(crate) front: Front,
}

/// How accesses come in, and where mounts are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Front {
    /// By the kernel's autofs, which mounts in place.
    #[default]
    Autofs,
    /// As in the older automounter: mount points are served as directories of links, by NFS on the
    /// loopback interface.
    Links(Links),
    /// By FUSE, for a user without root: mount points are directories of links.
    Fuse(Fuse),
}

/// What there is to say about mount points that are file systems of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fuse {
    /// Where the master map's relative mount points are: an absolute path.
    pub(crate) directory: BString,
    /// Where mounts are made, an absolute path; `None`: in the runtime directory.
    pub(crate) staging: Option<BString>,
    /// A helper that neither answers nor does anything for so long is killed; none is by `None`.
    pub(crate) give_up: Option<Duration>,
}

impl Fuse {
    /// Where mounts are made.
    pub(crate) fn place(&self) -> BString {
        let own = || RuntimeDir::from_env().path().join("mnt");
        let own = || own().into_os_string().into_vec().into();
        self.staging.clone().unwrap_or_else(own)
    }
}

/// What there is to say about mount points that are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    /// Where mounts are made: an absolute path.
    pub(crate) staging: BString,
    /// Mount points are served and not mounted: clients bring NFS along.
    pub(crate) serve_only: bool,
    /// A file in which each NFS call and answer is a line.
    pub(crate) trace_calls: Option<PathBuf>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            staging: "/tmp_mnt".into(),
            serve_only: false,
            trace_calls: None,
        }
    }
}

impl Front {
    /// Its name, for `status`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Autofs => "autofs",
            Self::Links(_) => "links",
            Self::Fuse(_) => "fuse",
        }
    }
}

impl Options {
    /// What is served, if mount points are; made so by the first option that says so.
    fn links(&mut self) -> Result<&mut Links, String> {
        if self.front == Front::Autofs {
            self.front = Front::Links(Links::default());
        }
        match &mut self.front {
            Front::Links(links) => Ok(links),
            Front::Fuse(_) => Err("--fuse: mount points are served in one way only".into()),
            Front::Autofs => unreachable!("it was made so just now"),
        }
    }

    /// Mount points are file systems of a user, below a directory.
    fn fuse(&mut self, directory: BString) -> Result<(), String> {
        self.front = match &self.front {
            Front::Autofs => Front::Fuse(Fuse {
                directory,
                staging: None,
                give_up: Some(GIVE_UP),
            }),
            Front::Links(_) => {
                return Err("--fuse comes before --staging, and not with --links".into());
            }
            Front::Fuse(_) => return Err("--fuse: one directory is expected".into()),
        };
        Ok(())
    }

    /// When a helper that hangs is killed.
    fn give_up(&mut self, seconds: u32) -> Result<(), String> {
        let Front::Fuse(fuse) = &mut self.front else {
            return Err("--give-up is for --fuse, and comes after it".into());
        };
        fuse.give_up = (seconds > 0).then_some(Duration::from_secs(seconds.into()));
        Ok(())
    }

    /// Where mounts are made.
    fn staging(&mut self, directory: BString) -> Result<(), String> {
        match &mut self.front {
            Front::Fuse(fuse) => fuse.staging = Some(directory),
            _ => self.links()?.staging = directory,
        }
        Ok(())
    }
}

/// The processes that make up a daemon, as they start one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// What somebody started: becomes the keeper, or attends to one.
    #[default]
    First,
    /// The keeper that somebody attends to.
    Attended,
    /// The keeper of a daemon that lives already.
    Keeper,
    /// The daemon proper.
    Daemon,
    /// Who answers while there is no daemon.
    Substitute,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::First,
        Self::Attended,
        Self::Keeper,
        Self::Daemon,
        Self::Substitute,
    ];

    /// The option that says so.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::First => "--role=first",
            Self::Attended => "--role=attended",
            Self::Keeper => "--role=keeper",
            Self::Daemon => "--role=daemon",
            Self::Substitute => "--role=substitute",
        }
    }

    fn named(name: &OsStr) -> Result<Self, String> {
        let word = |role: &Self| role.word().strip_prefix("--role=").map(OsStr::new);
        Self::ALL
            .into_iter()
            .find(|role| word(role) == Some(name))
            .ok_or_else(|| format!("--role {}: unknown", name.display()))
    }
}

/// What to do with a command line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    /// Run.
    Run(Box<Options>),
    /// Print help.
    Help,
    /// Print the version.
    Version,
}

/// `piton daemon --help`.
pub(crate) const HELP: &str = "\
Run the automounter.

Usage: piton daemon [OPTIONS] [MASTER_MAP]

MASTER_MAP is a file, as for explain and check, or a name that /etc/nsswitch.conf knows where to
find: a word without a slash that is no file of the current directory.
Without it: master_map_name of /etc/autofs.conf, /etc/auto.master, /etc/auto_master.

Options:
  -f, --foreground             stay in the foreground, log to standard error
  -t, --timeout SECONDS        unmount after this time without use; 0 is never [300]
  -n, --negative-timeout SECONDS
                               remember for this time that a program has no such key [60]
  -M, --master-wait SECONDS    look so long at start for a master map that is not there, before it
                               is said that it is waited for [0]
  -D, --define NAME=VALUE      a variable for maps (may be repeated)
  -O, --global-options OPTIONS mount options for all maps
  -p, --pid-file FILE          write the process id there
  -r, --random-multimount-selection
                               choose among replicated servers at random
  -v, --verbose                log each mount and unmount
  -d, --debug                  log each access
  -V, --version                print the version
  -h, --help                   print this
      --master FILE            the same as MASTER_MAP
      --line LINE              a line that counts before the master map's, as in `/net -hosts`;
                               no other master map need exist then (may be repeated)
      --also NAME              read this master map after the other one, or alone, if it is there
      --dialect NAME           read maps as sun, linux or older, whatever the master map's name
      --all-exports            with -hosts, show exports that are for other hosts only
      --deadline SECONDS       answer each access within this time [10]
      --environment NAME       let maps use this variable of the environment (may be repeated)
      --retry SECONDS          what fails again and again is tried at most this long after it
                               failed [15 for mounts, 60 for servers that do not answer]
      --unmount-pause SECONDS  look for idle mounts so often [a quarter of the idle time]
      --frozen                 mount nothing: only what is mounted already is served
      --mount-program PROGRAM  mount everything by PROGRAM -t TYPE -o OPTIONS WHAT WHERE
      --umount-program PROGRAM unmount by PROGRAM WHERE [`umount` beside the mount program]
      --links                  serve mount points as directories of links, without autofs: the
                               kernel mounts them by NFS from this host
      --fuse DIRECTORY         automount as an ordinary user: mount points are FUSE file systems,
                               relative ones below this directory
      --give-up SECONDS        with --fuse, kill a helper that neither answers nor does anything
                               for so long; 0: none [60]
      --staging DIRECTORY      with --links or --fuse, mount below this directory [/tmp_mnt; with
                               --fuse mnt in the runtime directory]
      --trace-calls FILE       with --links, write each NFS call and its answer into a file
      --serve-only             with --links, serve mount points and do not mount them: for
                               clients that bring their own NFS

Signals: HUP reads the maps again, USR1 unmounts what is idle, TERM and INT end (what is
busy stays), USR2 ends and detaches what is busy.
";

/// Reads the command line.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn read(args: &[OsString]) -> Result<Asked, String> {
    let mut options = Options::default();
    // Service files pass options that may be empty words; autofs drops them too.
    let words = args.iter().filter(|word| !word.is_empty());
    let mut parser = Parser::from_args(words);
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Asked::Version),
            Arg::Value(word) if options.master.is_none() => options.master = Some(word),
            Arg::Value(word) => return Err(format!("unexpected argument {word:?}")),
            Arg::Short(letter) => {
                let name = format!("-{letter}");
                option(&name, &mut parser, &mut options)?;
            }
            Arg::Long(word) => {
                let name = format!("--{word}");
                option(&name, &mut parser, &mut options)?;
            }
        }
    }
    Ok(Asked::Run(Box::new(options)))
}

fn option(name: &str, parser: &mut Parser, options: &mut Options) -> Result<(), String> {
    match name {
        "-f" | "--foreground" => options.foreground = true,
        "-v" | "--verbose" => options.verbosity = options.verbosity.max(Verbosity::Verbose),
        "-d" | "--debug" => {
            // A level may follow at once (autofs: a bitmap for the LDAP library).
            let _ = parser.optional_value();
            options.verbosity = Verbosity::Debug;
        }
        "-t" | "--timeout" => options.timeout = Some(seconds(name, parser)?),
        "-n" | "--negative-timeout" => options.negative_timeout = Some(seconds(name, parser)?),
        "-M" | "--master-wait" => options.master_wait = Some(seconds(name, parser)?),
        "--retry" => options.retry = Some(seconds(name, parser)?.max(1)),
        "--unmount-pause" => options.unmount_pause = Some(seconds(name, parser)?.max(1)),
        "--frozen" => options.frozen = true,
        "--all-exports" => options.all_exports = true,
        "--deadline" => options.deadline = Some(seconds(name, parser)?.max(1)),
        "--environment" => options.environment.push(value(parser)?),
        "-D" | "--define" => options.defines.push(definition(parser)?),
        "-O" | "--global-options" => {
            let words = value(parser)?.into_vec();
            let words = words
                .split(|byte| *byte == b',')
                .filter(|word| !word.is_empty());
            options.global_options.extend(words.map(BString::from));
        }
        "-p" | "--pid-file" => options.pid_file = Some(value(parser)?.into()),
        "-r" | "--random-multimount-selection" => options.random = true,
        "--master" => options.master = Some(value(parser)?),
        "--line" => options.lines.push(line(value(parser)?)?),
        "--also" => options.also = Some(value(parser)?.into_vec().into()),
        "--mount-program" => options.mount_program = Some(value(parser)?.into()),
        "--umount-program" => options.umount_program = Some(value(parser)?.into()),
        "--dialect" => {
            let word = value(parser)?;
            let dialect = word.to_str().and_then(Dialect::named);
            let unknown = || format!("--dialect {word:?}: there are `sun`, `linux` and `older`");
            options.dialect = Some(dialect.ok_or_else(unknown)?);
        }
        "--links" => drop(options.links()?),
        "--fuse" => options.fuse(directory(name, parser)?)?,
        "--give-up" => options.give_up(seconds(name, parser)?)?,
        "--staging" => options.staging(directory(name, parser)?)?,
        "--serve-only" => options.links()?.serve_only = true,
        "--trace-calls" => options.links()?.trace_calls = Some(value(parser)?.into()),
        "--role" => options.role = Role::named(&value(parser)?)?,
        "--background-child" => options.background_child = true,
        _ => without_meaning(name, parser, options)?,
    }
    Ok(())
}

/// Options of autofs that are taken and said to have no effect, so that its service files work.
fn without_meaning(name: &str, parser: &mut Parser, options: &mut Options) -> Result<(), String> {
    let why = match name {
        "-S" | "--systemd-service" => {
            options.foreground = true;
            return Ok(());
        }
        "-P" | "--positive-timeout" => {
            value(parser)?;
            "a changed map counts at once"
        }
        "-C" | "--dont-check-daemon" => "use PITON_RUNTIME_DIR for a second daemon",
        "-F" | "--force" => "what an earlier daemon left is adopted",
        "-m" | "--dumpmaps" => return Err("-m: `piton explain` and `piton check` show maps".into()),
        "-l" | "--set-log-priority" => return Err("-l: start with -v or -d".into()),
        "-U" | "--force-exit" => return Err("-U: `piton stop`, or send USR2".into()),
        unknown => {
            return Err(format!(
                "unknown option {unknown}; see `piton daemon --help`"
            ));
        }
    };
    options.ignored.push((name.to_owned(), why));
    Ok(())
}

fn value(parser: &mut Parser) -> Result<OsString, String> {
    parser.value().map_err(|error| error.to_string())
}

fn seconds(name: &str, parser: &mut Parser) -> Result<u32, String> {
    let word = value(parser)?;
    word.parse()
        .map_err(|_| format!("{name} {word:?}: a number of seconds is expected, 0 or more"))
}

fn line(word: OsString) -> Result<BString, String> {
    let line = BString::from(word.into_vec());
    match line.contains(&b'\n') {
        true => Err(format!("--line {line:?}: one line is expected")),
        false => Ok(line),
    }
}

fn directory(name: &str, parser: &mut Parser) -> Result<BString, String> {
    let word = BString::from(value(parser)?.into_vec());
    let path = piton_path::normalize(word.as_bstr()).into_owned();
    if !path.starts_with(b"/") || path == "/" {
        return Err(format!(
            "{name} {word}: an absolute path is expected, and not `/`"
        ));
    }
    Ok(path)
}

fn definition(parser: &mut Parser) -> Result<(BString, BString), String> {
    let word = value(parser)?.into_vec();
    let Some(equals) = word.iter().position(|byte| *byte == b'=') else {
        return Err(format!(
            "-D {}: NAME=VALUE is expected",
            BString::from(word)
        ));
    };
    Ok((word[..equals].into(), word[equals + 1..].into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &[&str]) -> Result<Options, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        match read(&words)? {
            Asked::Run(options) => Ok(*options),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn autofs_service_line() {
        let options = read_words(&[
            "--pid-file",
            "/run/a.pid",
            "-t",
            "60",
            "-n0",
            "-DA=b",
            "-D",
            "C=d,e",
            "-O",
            "nosuid,nodev",
            "-v",
            "",
            "/etc/auto.x",
        ])
        .unwrap();
        assert_eq!(options.master, Some("/etc/auto.x".into()));
        assert_eq!(options.pid_file, Some("/run/a.pid".into()));
        assert_eq!(
            (options.timeout, options.negative_timeout),
            (Some(60), Some(0))
        );
        let defines = [("A".into(), "b".into()), ("C".into(), "d,e".into())];
        assert_eq!(options.defines, defines);
        assert_eq!(options.global_options, ["nosuid", "nodev"]);
        assert_eq!(options.verbosity, Verbosity::Verbose);
        assert!(!options.foreground);
    }

    #[test]
    fn debug_takes_a_level_only_when_attached() {
        let options = read_words(&["-d7", "-f", "/m"]).unwrap();
        assert_eq!(
            (options.verbosity, options.foreground),
            (Verbosity::Debug, true)
        );
        assert_eq!(read_words(&["-d", "/m"]).unwrap().master, Some("/m".into()));
    }

    #[test]
    fn links_are_asked_for_by_any_of_their_options() {
        assert_eq!(read_words(&["-f"]).unwrap().front, Front::Autofs);
        let front = |words| read_words(words).unwrap().front;
        assert_eq!(front(&["--links"]), Front::Links(Links::default()));
        let links = Links {
            staging: "/a/b".into(),
            serve_only: true,
            trace_calls: Some("/t".into()),
        };
        let words = ["--staging", "/a//b/", "--serve-only", "--trace-calls=/t"];
        assert_eq!(front(&words), Front::Links(links));
        let own = |staging: Option<&str>| {
            Front::Fuse(Fuse {
                directory: "/home/ann/net".into(),
                staging: staging.map(Into::into),
                give_up: Some(GIVE_UP),
            })
        };
        for (word, give_up) in [("0", None), ("7", Some(Duration::from_secs(7)))] {
            let words = ["--fuse", "/a", "--give-up", word];
            let Front::Fuse(fuse) = read_words(&words).unwrap().front else {
                panic!("FUSE was asked for");
            };
            assert_eq!(fuse.give_up, give_up);
        }
        assert_eq!(front(&["--fuse", "/home/ann/net"]), own(None));
        let words = ["--fuse", "/home/ann/net", "--staging", "/s"];
        assert_eq!(front(&words), own(Some("/s")));
        for words in [
            &["--fuse", "net"][..],
            &["--fuse", "/a", "--fuse", "/b"],
            &["--fuse", "/a", "--links"],
            &["--links", "--fuse", "/a"],
            &["--give-up", "5"],
            &["--fuse", "/a", "--give-up", "soon"],
        ] {
            assert!(read_words(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (words, part) in [
            (&["-t", "-1"][..], "-t"),
            (&["-t", "5m"], "seconds"),
            (&["-D", "A"], "NAME=VALUE"),
            (&["--dialect", "vax"], "sun"),
            (&["--nonsense"], "--nonsense"),
            (&["/a", "/b"], "unexpected"),
            (&["-t"], "missing"),
            (&["--line", "/a b\n/c d"], "one line"),
            (&["--staging", "tmp_mnt"], "absolute"),
            (&["--staging", "/"], "absolute"),
        ] {
            let message = read_words(words).unwrap_err();
            assert!(message.contains(part), "{words:?}: {message}");
        }
    }
}
