//! From the command line to a running loop, and to the end.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use autofs::{RequestPipe, RequestTable};
use bstr::BString;
use piton_control::runtime::RuntimeDir;
use piton_control::server::Server;
use piton_engine::Engine;
use piton_engine::config::Point;
use piton_frontend::{FrontEnd, KernelFrontEnd, KernelSettings};
use piton_mount::{Workers, perform};
use piton_plan::step::TriggerKind;
use piton_resolver::Resolver;
use piton_source::cache::{self, Maps};

use super::background;
use super::foreign;
use super::journal::Journal;
use super::line::Line;
use super::loader::{Loaded, Loader, Reason};
use super::log;
use super::messages::Mailbox;
use super::options::{Asked, HELP, Options, Role, read};
use super::runtime::{Parts, Runtime};
use super::service::Desk;
use super::settings::{Settings, merge};
use super::signals;
use super::tasks::Worker;
use super::trace::{Ring, Tracer};
use super::turns;
use super::watch::Watcher;
use crate::exit::Exit;
use crate::exports::Asking;
use crate::keeper;
use crate::keeper::heritage::Heritage;
use piton_control::line::Word;

/// Runs `piton daemon` with these arguments.
pub(crate) fn run(args: &[OsString]) -> Exit {
    let options = match read(args) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            print!("{HELP}");
            return Exit::Success;
        }
        Ok(Asked::Version) => {
            println!("piton {}", env!("CARGO_PKG_VERSION"));
            return Exit::Success;
        }
        Err(message) => {
            eprintln!("piton daemon: {message}");
            return Exit::Usage;
        }
    };
    match options.role {
        Role::First if !options.foreground && !options.background_child => {
            return background::start(args);
        }
        Role::First if options.background_child => background::leave_session(),
        _ => {}
    }
    let (settings, remarks) = merge(&options);
    log::begin(settings.verbosity, options.background_child);
    // What follows the role is the command line of all of them.
    let words = match options.role {
        Role::First => args,
        _ => args.get(1..).unwrap_or_default(),
    };
    match options.role {
        Role::First if !rustix::process::geteuid().is_root() => {
            eprintln!("piton daemon: {NEEDS_ROOT}");
            Exit::Failure
        }
        Role::First => keeper::run(&options, words, false),
        Role::Attended => keeper::run(&options, words, true),
        Role::Keeper => keeper::run_again(&options, words),
        Role::Substitute => {
            keeper::run_substitute(Duration::from_millis(settings.engine.deadline_ms))
        }
        Role::Daemon => {
            for remark in remarks {
                tracing::info!("{remark}");
            }
            match serve(&options, words, &settings) {
                Ok(()) => Exit::Success,
                Err(trouble) => {
                    eprintln!("piton daemon: {trouble}");
                    Exit::Failure
                }
            }
        }
    }
}

const NEEDS_ROOT: &str = "the kernel's autofs needs root; `piton explain`, `piton check` and \
                          `piton demo` work without";

/// Why the daemon cannot run, for people.
type Trouble = String;

fn serve(options: &Options, words: &[OsString], settings: &Settings) -> Result<(), Trouble> {
    let mut line = Line::take(words, options.background_child)?;
    let signals =
        signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    line.say(&Word::Listening);
    let heirloom = |error: autofs::Error| format!("what the keeper keeps: {error}");
    let Heritage {
        reader,
        writer,
        table,
        control,
        ..
    } = line.heritage()?;
    let pipe = RequestPipe::from_fds(reader, writer).map_err(heirloom)?;
    let table = RequestTable::from_fd(table).map_err(heirloom)?;
    let kernel = KernelSettings {
        ignore: settings.ignore_mounts,
    };
    let front_end: Arc<dyn FrontEnd> = Arc::new(
        KernelFrontEnd::new(kernel, pipe, table.clone()).map_err(|error| no_autofs(&error))?,
    );
    let mailbox = Mailbox::new().map_err(|error| error.to_string())?;
    let resolver = Resolver::new(vec!["/proc/self/exe".into(), "resolver".into()]);
    let loader = Arc::new(loader(settings, &resolver));
    let worker = Arc::new(worker(
        settings,
        loader.maps.clone(),
        front_end.clone(),
        resolver,
    ));
    let watched = (worker.foreigners.clone(), worker.departed.clone());
    let ring = Arc::<Ring>::default();
    let desk = Desk::new(
        mailbox.clone(),
        settings.master_text(),
        watched,
        ring.clone(),
        line.keeper(),
        loader.maps.clone(),
    );
    let socket = RuntimeDir::from_env().socket();
    let server = Server::serve(control.into(), Some(socket), Arc::new(desk))
        .map_err(|error| error.to_string())?;
    let mut first = first_load(&loader, settings.master_wait);
    if line.is_successor()
        && let Err(miss) = &first.result
    {
        // Its triggers are there and must not be taken for unwanted. The keeper tries again.
        let why = piton_engine::cause::Cause::Lookup(miss.clone());
        return Err(format!("the master map cannot be read: {why}"));
    }
    line.take_over();
    look_for_earlier_life(&mut first, &*front_end);
    let parts = Parts {
        engine: Engine::new(settings.engine.clone()),
        worker,
        loader,
        mailbox,
        signals,
        watcher: Watcher::new().map_err(|error| format!("cannot watch files: {error}"))?,
        journal: Journal::new(settings.quiet_misses),
        tracer: Tracer::new(ring),
        line,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        "piton starts"
    );
    foreign::warn_if_cut_off();
    let mut runtime = Runtime::new(parts);
    let doors = runtime.begin(first).map_err(|error| error.to_string())?;
    let left = turns::run(runtime, doors, &table).map_err(|error| error.to_string())?;
    for (path, why) in &left {
        tracing::warn!(%path, "left mounted: {why}");
    }
    tracing::info!("piton has ended");
    server.shutdown();
    Ok(())
}

fn no_autofs(error: &autofs::Error) -> Trouble {
    format!("{error}\n  the kernel needs autofs (CONFIG_AUTOFS_FS, `modprobe autofs4`)")
}

fn loader(settings: &Settings, resolver: &Resolver) -> Loader {
    Loader {
        maps: Arc::new(Maps::new(cache::Settings {
            exports: Some(Arc::new(Asking::new(resolver.clone()))),
            ..settings.maps.clone()
        })),
        request: settings.master.clone(),
        browse: settings.engine.browse,
        defines: settings.engine.facts.defines.clone(),
    }
}

fn worker(
    settings: &Settings,
    maps: Arc<Maps>,
    front_end: Arc<dyn FrontEnd>,
    resolver: Resolver,
) -> Worker {
    Worker {
        maps,
        front_end,
        settings: perform::Settings {
            program: settings.program.clone(),
            ..perform::Settings::default()
        },
        // This very program, whatever has become of its file.
        workers: Workers::new(vec!["/proc/self/exe".into(), "worker".into()]),
        resolver,
        defines: settings.engine.facts.defines.clone(),
        made: Mutex::new(HashMap::new()),
        stop_until: OnceLock::new(),
        foreigners: Arc::default(),
        departed: Arc::default(),
    }
}

/// Reads the maps for the first time; waits for a master map that is not there yet.
fn first_load(loader: &Loader, wait: Duration) -> Loaded {
    let begun = Instant::now();
    let mut loaded = loader.load(Reason::Start);
    while loaded.result.is_err() && begun.elapsed() < wait {
        std::thread::sleep(Duration::from_millis(500).min(wait));
        loaded = loader.load(Reason::Start);
    }
    loaded
}

/// Looks for triggers of an earlier life, to be taken over by what was read. May block.
pub(crate) fn look_for_earlier_life(loaded: &mut Loaded, front_end: &dyn FrontEnd) {
    let Ok(configuration) = &mut loaded.result else {
        return;
    };
    let wanted: Vec<(BString, TriggerKind)> = configuration
        .points
        .iter()
        .map(|point| (point.path.clone(), point.kind))
        .collect();
    let survey = front_end.survey(&wanted);
    for owned in &survey.owned {
        tracing::error!(
            path = %owned.path,
            "another automounter (process group {}) serves this mount point: left to it",
            owned.process_group
        );
    }
    if !survey.owned.is_empty() {
        let owned: HashSet<&BString> = survey.owned.iter().map(|owned| &owned.path).collect();
        let points = &mut configuration.points;
        points.retain(|point| !owned.contains(&point.path));
    }
    configuration.existing = survey.orphans;
    for stray in survey.strays {
        // What no map names any more goes when it is idle; but a map that cannot be read now
        // takes nothing away.
        let line = loaded.unserved.iter().find(|line| match &line.path {
            Some(path) => *path == stray.existing.path,
            None => {
                stray.existing.kind == TriggerKind::Direct && line.binding.source == stray.source
            }
        });
        configuration.points.extend(line.map(|line| Point {
            path: stray.existing.path.clone(),
            kind: stray.existing.kind,
            binding: line.binding.clone(),
            listing: Arc::from([]),
        }));
        configuration.existing.push(stray.existing);
    }
}
