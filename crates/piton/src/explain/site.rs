//! Opening a site for looking at it: master map, maps, facts about the host. `check` uses it too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Cause;
use piton_map::dialect::Dialect;
use piton_map::lines::Lines;
use piton_map::lookup::{MapSpec, MapType};
use piton_map::requester::Requester;
use piton_map::text::{Fragment, Origin, Span};
use piton_plan::facts::HostFacts;
use piton_source::cache::{Maps, Settings};
use piton_source::conf::{self, Conf};
use piton_source::hosts::AskExports;
use piton_source::master::{self, MasterRequest, Site, SitePoint};
use piton_source::source::LookupContext;

use crate::facts;

/// Where autofs has its settings.
pub(crate) const CONF: &str = "/etc/autofs.conf";

/// Longest file from which a line is shown. Longer ones are not master maps.
const SHOWN_BYTES: u64 = 16 << 20;

/// Where to look, and how to read: what `explain` and `check` have in common.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SiteArgs {
    /// Read all maps in this dialect, whatever the master map says.
    #[arg(long, value_name = "DIALECT", value_parser = ["sun", "linux"])]
    dialect: Option<String>,
    /// Define a variable for maps.
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", value_parser = definition)]
    defines: Vec<(BString, BString)>,
    /// Look for maps and configuration below this directory, as if it were `/`.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// A site that was read.
pub(crate) struct Opened {
    pub(crate) maps: Maps,
    pub(crate) site: Site,
    pub(crate) facts: HostFacts,
    /// autofs.conf, which the daemon honours too.
    pub(crate) conf: Conf,
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

/// Reads the master map and whatever it includes.
///
/// # Errors
/// That there is no master map, or why it cannot be read.
pub(crate) fn open(
    master: Option<&OsStr>,
    args: &SiteArgs,
    run_programs: bool,
    exports: Arc<dyn AskExports>,
) -> Result<Opened, String> {
    let settings = Settings {
        root: args.root.clone(),
        run_programs,
        exports: Some(exports),
        ..Settings::default()
    };
    let maps = Maps::new(settings);
    // What is wrong in it is for `check` to say.
    let (conf, _) = conf::load(&under(args.root.as_deref(), Path::new(CONF)));
    let master = master.or(conf.master_map_name.as_deref());
    let request = MasterRequest {
        name: master.map(|name| named(name, args.root.is_some())),
        fall_back: false,
        dialect: args.dialect(),
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
        facts: facts::of_this_host(args.defines.clone()),
        conf,
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

/// The map called `name` on the command line: a file of the current directory if there is one,
/// else a name as in a master map.
fn named(name: &OsStr, elsewhere: bool) -> MapSpec {
    let path = Path::new(name);
    let file = match !elsewhere && path.exists() {
        true => std::path::absolute(path).ok(),
        false => path.is_absolute().then(|| path.to_owned()),
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
