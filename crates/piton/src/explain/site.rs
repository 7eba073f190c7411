//! Opening a site for looking at it: master map, maps, facts about the host. `check` uses it too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_control::message::{Settings, Variable};
use piton_engine::cause::Cause;
use piton_map::dialect::Dialect;
use piton_map::lines::Lines;
use piton_map::lookup::{MapSpec, MapType};
use piton_map::options::Selection;
use piton_map::requester::Requester;
use piton_map::text::{Fragment, Origin, Span};
use piton_plan::facts::HostFacts;
use piton_source::cache::{self, Maps};
use piton_source::conf::{self, Conf};
use piton_source::master::{self, MasterRequest, Site, SitePoint};
use piton_source::source::LookupContext;

use crate::exports::Asks;
use crate::facts;
use crate::own_maps::OwnMaps;

/// Where autofs has its settings.
pub(crate) const CONF: &str = "/etc/autofs.conf";

/// Longest file from which a line is shown. Longer ones are not master maps.
const SHOWN_BYTES: u64 = 16 << 20;

/// Where to look, and how to read: what `explain` and `check` have in common.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SiteArgs {
    /// Read all maps in this dialect, whatever the master map says.
    #[arg(long, value_name = "DIALECT", value_parser = ["sun", "linux", "older"])]
    dialect: Option<String>,
    /// Define a variable for maps.
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", value_parser = definition)]
    defines: Vec<(BString, BString)>,
    /// Let maps use this variable of the environment, as the daemon has it; may be repeated.
    #[arg(long, value_name = "NAME")]
    environment: Vec<OsString>,
    /// A line that counts before the master map's, as the daemon has it; may be repeated.
    #[arg(long = "line", value_name = "LINE")]
    lines: Vec<OsString>,
    /// A master map that counts after the other one, or alone, if it is there.
    #[arg(long, value_name = "NAME")]
    also: Option<OsString>,
    /// The maps of a user's own daemon, which has this directory: relative mount points are below it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["root", "also"])]
    fuse: Option<OsString>,
    /// Look for maps and configuration below this directory, as if it were `/`.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl SiteArgs {
    /// Returns true if and only if nothing is said that a daemon may have been told otherwise.
    pub(crate) fn is_silent(&self) -> bool {
        let Self {
            dialect,
            defines,
            environment,
            lines,
            also,
            fuse,
            root,
        } = self;
        let lists = defines.is_empty() && environment.is_empty() && lines.is_empty();
        lists && dialect.is_none() && also.is_none() && fuse.is_none() && root.is_none()
    }

    /// The same with what a daemon was told.
    pub(crate) fn told(told: &Settings) -> Self {
        let own = |text: &String| OsString::from(text);
        let name = |variable: &Variable| own(&variable.name);
        Self {
            dialect: told.dialect.clone(),
            defines: pairs(&told.defines),
            environment: told.environment.iter().map(name).collect(),
            lines: told.lines.iter().map(own).collect(),
            also: told.also.as_ref().map(own),
            fuse: told.fuse.as_ref().map(own),
            root: None,
        }
    }

    /// Returns true if and only if maps and configuration are those that are installed here.
    pub(crate) fn is_installed(&self) -> bool {
        self.root.is_none()
    }
}

/// A site that was read.
pub(crate) struct Opened {
    pub(crate) maps: Maps,
    pub(crate) site: Site,
    pub(crate) facts: HostFacts,
    /// autofs.conf, which the daemon honours too.
    pub(crate) conf: Conf,
    /// Seconds of idleness where no line says any, and who says so.
    pub(crate) timeout: Option<(u32, &'static str)>,
    /// Mount options for all maps (`-O`).
    pub(crate) global_options: Vec<BString>,
    /// It is a user's own, served by FUSE.
    pub(crate) of_user: bool,
    root: Option<PathBuf>,
    /// Files of which lines are shown, read once.
    shown: RefCell<HashMap<Arc<str>, Option<Shown>>>,
}

impl SiteArgs {
    /// The dialect asked for.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.dialect.as_deref().and_then(Dialect::named)
    }
}

/// Variables whose values are told.
fn pairs(variables: &[Variable]) -> Vec<(BString, BString)> {
    let pair = |variable: &Variable| {
        let value = variable.value.as_deref()?;
        Some((variable.name.as_str().into(), value.into()))
    };
    variables.iter().filter_map(pair).collect()
}

/// Reads `NAME=VALUE`; a name alone has an empty value.
fn definition(text: &str) -> Result<(BString, BString), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err(format!(
            "`{name}` cannot be a variable: names have letters, digits and `_`"
        ));
    }
    Ok((name.into(), value.into()))
}

/// Reads the master map and whatever it includes, as the daemon would that was told so.
///
/// # Errors
/// As for [`open`].
pub(crate) fn open_told(
    told: &Settings,
    run_programs: bool,
    asks: Arc<dyn Asks>,
) -> Result<Opened, String> {
    let args = SiteArgs::told(told);
    let master = told.master.as_ref().map(OsStr::new);
    let mut opened = open_with(master, &args, Some(told), run_programs, asks)?;
    let selection = match told.random {
        true => Selection::Random,
        false => Selection::default(),
    };
    for point in &mut opened.site.points {
        point.options.rank_by_default(selection);
    }
    let global = told.global_options.iter().map(|it| it.as_str().into());
    opened.global_options = global.collect();
    opened.conf.append_options = told.append_options;
    opened.timeout = Some((told.timeout_s, "the daemon's settings say so"));
    opened.facts.hostname_for_mounts = told.hostname_for_mounts;
    // What is not told is as it is here.
    for (name, value) in pairs(&told.environment) {
        opened.facts.environment.retain(|(other, _)| *other != name);
        opened.facts.environment.push((name, value));
    }
    Ok(opened)
}

/// Reads the master map and whatever it includes.
///
/// # Errors
/// That there is no master map, or why it cannot be read.
pub(crate) fn open(
    master: Option<&OsStr>,
    args: &SiteArgs,
    run_programs: bool,
    asks: Arc<dyn Asks>,
) -> Result<Opened, String> {
    open_with(master, args, None, run_programs, asks)
}

fn open_with(
    master: Option<&OsStr>,
    args: &SiteArgs,
    told: Option<&Settings>,
    run_programs: bool,
    asks: Arc<dyn Asks>,
) -> Result<Opened, String> {
    let own = args.fuse.as_deref().map(|below| {
        let below = below.as_bytes().as_bstr();
        let below = piton_path::normalize(below).into_owned();
        OwnMaps::new(below.as_bstr(), master)
    });
    // What is wrong in it is for `check` to say.
    let conf = match &own {
        Some(_) => Conf::default(),
        None => conf::load(&under(args.root.as_deref(), Path::new(CONF))).0,
    };
    let built_in = cache::Settings::default();
    let settings = cache::Settings {
        root: args.root.clone(),
        map_directory: match &own {
            Some(own) => own.directory.clone(),
            None => built_in.map_directory,
        },
        run_programs,
        exports: Some(asks.clone()),
        users: Some(asks),
        standard_names: conf.force_standard_program_map_env,
        all_exports: told.is_some_and(|told| told.all_exports),
        whole_servers: told.is_some_and(|told| told.whole_servers),
        ..cache::Settings::default()
    };
    let maps = Maps::new(settings);
    let by_conf = match &own {
        Some(own) => Some(own.master.as_os_str()),
        None => conf.master_map_name.as_deref(),
    };
    let master = master.or(by_conf.filter(|_| args.also.is_none()));
    let request = MasterRequest {
        // A daemon does not look into anybody's current directory.
        name: master.map(|name| named(name, args.root.is_some() || told.is_some())),
        fall_back: false,
        dialect: args.dialect(),
        lines: args
            .lines
            .iter()
            .map(|line| line.as_bytes().into())
            .collect(),
        also: args.also.as_deref().map(|name| name.as_bytes().into()),
        below: own.as_ref().map(|own| own.below.clone()),
    };
    let site = master::read(&maps, &request).map_err(|miss| {
        let name = request.name.as_ref().map_or_else(
            || "auto.master, auto_master".into(),
            |spec| spec.name.to_string(),
        );
        format!(
            "the master map ({name}): {}; name another with --master",
            Cause::Lookup(miss)
        )
    })?;
    Ok(Opened {
        maps,
        site,
        facts: HostFacts {
            rootless: own.is_some() && !rustix::process::geteuid().is_root(),
            hostname_for_mounts: conf.use_hostname_for_mounts,
            ..facts::with_environment(args.defines.clone(), &args.environment)
        },
        timeout: conf.timeout.map(|seconds| (seconds, "autofs.conf says so")),
        global_options: Vec::new(),
        conf,
        of_user: own.is_some(),
        root: args.root.clone(),
        shown: RefCell::default(),
    })
}

/// Where `path` is found when `root` stands in for `/`.
fn under(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) if !path.starts_with(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        _ => path.to_owned(),
    }
}

/// The map called `name` on the command line, where `elsewhere` is that `--root` is given.
fn named(name: &OsStr, elsewhere: bool) -> MapSpec {
    let path = Path::new(name);
    let file = match elsewhere {
        false => crate::named::file(name),
        true => path.is_absolute().then(|| path.to_owned()),
    };
    MapSpec {
        kind: file.is_some().then_some(MapType::File),
        format: None,
        name: file.map_or_else(
            || name.as_bytes().into(),
            |file| file.as_os_str().as_bytes().into(),
        ),
        arguments: Vec::new(),
        origin: None,
    }
}

impl Opened {
    /// Calls `look` with the context for looking into the maps of `point`.
    pub(crate) fn with_context<T>(
        &self,
        point: &SitePoint,
        mount_point: &BStr,
        requester: &Requester,
        look: impl FnOnce(&LookupContext<'_>) -> T,
    ) -> T {
        let mut defines = self.facts.defines.clone();
        defines.extend(point.options.defines.iter().cloned());
        look(&LookupContext {
            kind: point.kind,
            dialect: &self.site.dialect,
            requester,
            defines: &defines,
            mount_point,
            deadline: None,
        })
    }

    /// Where the file called `name` is found, with `--root` taken into account.
    pub(crate) fn locate(&self, name: &BStr) -> PathBuf {
        under(self.root.as_deref(), Path::new(OsStr::from_bytes(name)))
    }

    /// How the file at `path` is called in maps.
    pub(crate) fn shown(&self, path: &Path) -> String {
        let below = self
            .root
            .as_ref()
            .and_then(|root| path.strip_prefix(root).ok());
        below.map_or_else(
            || path.display().to_string(),
            |below| format!("/{}", below.display()),
        )
    }

    /// The logical line in which `origin` stands, if it is in a file that can be read.
    pub(crate) fn line(&self, origin: &Origin) -> Option<Fragment> {
        let mut shown = self.shown.borrow_mut();
        let text = shown.entry(origin.file.clone()).or_insert_with(|| {
            Shown::read(&self.locate(origin.file.as_bytes().as_bstr()), &origin.file)
        });
        text.as_ref()?.line(origin.position.line)
    }

    /// The whole text of a file that is shown in findings.
    pub(crate) fn text(&self, file: &Arc<str>) -> Option<Fragment> {
        Shown::read(&self.locate(file.as_bytes().as_bstr()), file).map(|shown| shown.whole)
    }
}

/// A file of which lines are shown.
struct Shown {
    whole: Fragment,
    /// The logical lines: number of the first physical line, and the text.
    lines: Vec<(u32, Span)>,
}

impl Shown {
    fn read(path: &Path, name: &Arc<str>) -> Option<Self> {
        let file = std::fs::File::open(path).ok()?;
        let mut text = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut text).ok()?;
        let whole = Fragment::whole(name.clone(), text);
        let mut number = 1;
        let mut lines = Vec::new();
        for line in Lines::new(&whole.text) {
            lines.push((number, line.whole));
            number += whole.slice(line.whole).find_iter(b"\n").count() as u32;
        }
        Some(Self { whole, lines })
    }

    /// The logical line that the physical line `number` is part of.
    fn line(&self, number: u32) -> Option<Fragment> {
        let next = self.lines.partition_point(|(first, _)| *first <= number);
        let (first_line, span) = *self.lines.get(next.checked_sub(1)?)?;
        Some(Fragment {
            name: self.whole.name.clone(),
            first_line,
            text: self.whole.slice(span).into(),
        })
    }
}
