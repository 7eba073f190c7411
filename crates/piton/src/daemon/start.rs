//! From the command line to a running loop, and to the end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use autofs::RequestTable;
use bstr::BString;
use piton_control::runtime::RuntimeDir;
use piton_control::server::Server;
use piton_engine::Engine;
use piton_engine::config::Point;
use piton_frontend::FrontEnd;
use piton_mount::snapshot::Places;
use piton_mount::{Workers, perform};
use piton_plan::step::TriggerKind;
use piton_resolver::Resolver;
use piton_source::cache::{self, Maps};

use super::background;
use super::foreign;
use super::front::front_end;
use super::journal::Journal;
use super::line::Line;
use super::loader::{Loaded, Loader, Reason, Refused};
use super::log;
use super::messages::{Mailbox, Message};
use super::options::{Asked, Front, HELP, Options, Role, read};
use super::runtime::{Parts, Runtime};
use super::service::Desk;
use super::settings::{Settings, merge};
use super::signals;
use super::snapshots::Snapshots;
use super::staging::{Staging, sweep};
use super::tasks::Worker;
use super::trace::{Ring, Tracer};
use super::turns;
use super::watch::Watcher;
use crate::exit::Exit;
use crate::exports::Asking;
use crate::keeper;
use crate::volumes::Volumed;
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
    if options.role == Role::First
        && let Err(trouble) = may_run(&options.front)
    {
        eprintln!("piton daemon: {trouble}");
        return Exit::Failure;
    }
    // Those that follow are told by who is first.
    let args = &match options.role {
        Role::First => crate::named::in_full(args, options.master.as_deref()),
        _ => args.to_vec(),
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
        Role::First => keeper::run(&options, words, false),
        Role::Attended => keeper::run(&options, words, true),
        Role::Keeper => keeper::run_again(&options, words),
        Role::Substitute => {
            keeper::run_substitute(&options, Duration::from_millis(settings.engine.deadline_ms))
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

const NEEDS_ROOT: &str = "autofs and NFS mount points need root; without it there is \
                          `piton daemon --fuse DIRECTORY` (docs/fuse.md)";

/// Whether this user can have such a daemon; a user's own has its directory from here on.
fn may_run(front: &Front) -> Result<(), Trouble> {
    match front {
        Front::Fuse(_) => RuntimeDir::of_user()
            .map(drop)
            .map_err(|error| error.to_string()),
        Front::Autofs | Front::Links(_) if rustix::process::geteuid().is_root() => Ok(()),
        Front::Autofs | Front::Links(_) => Err(NEEDS_ROOT.into()),
    }
}

/// Why the daemon cannot run, for people.
type Trouble = String;

fn serve(options: &Options, words: &[OsString], settings: &Settings) -> Result<(), Trouble> {
    let mut line = Line::take(words, options.background_child)?;
    let signals =
        signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    line.say(&Word::Listening);
    let heritage = line.heritage()?;
    let table = RequestTable::from_fd(
        heritage
            .table
            .try_clone()
            .map_err(|error| error.to_string())?,
    )
    .map_err(|error| format!("what the keeper keeps: {error}"))?;
    let control = heritage
        .control
        .try_clone()
        .map_err(|error| error.to_string())?;
    // This very program, whatever has become of its file.
    let workers = Workers::new(vec!["/proc/self/exe".into(), "worker".into()]);
    let front_end = front_end(
        &options.front,
        settings.ignore_mounts,
        heritage,
        Some(&workers),
    )?;
    let mailbox = Mailbox::new().map_err(|error| error.to_string())?;
    let resolver = Resolver::new(vec!["/proc/self/exe".into(), "resolver".into()]);
    let loader = Arc::new(loader(settings, &resolver));
    let worker = Arc::new(worker(
        settings,
        loader.maps.clone(),
        front_end.clone(),
        resolver,
        workers,
        &mailbox,
    ));
    let snapshots = worker.snapshots.clone();
    let watched = (worker.foreigners.clone(), worker.departed.clone());
    let ring = Arc::<Ring>::default();
    let desk = Desk::new(
        mailbox.clone(),
        (
            settings.master_text(),
            settings.told(options),
            options.front.name(),
        ),
        watched,
        ring.clone(),
        line.keeper(),
        loader.maps.clone(),
        worker.staging.clone(),
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
    snapshots.begin();
    let mut runtime = Runtime::new(parts);
    let doors = runtime.begin(first).map_err(|error| error.to_string())?;
    let ended = turns::run(runtime, doors, &table).map_err(|error| error.to_string())?;
    snapshots.finish();
    for (path, why) in &ended.left {
        tracing::warn!(%path, "left mounted: {why}");
    }
    tracing::info!("piton has ended");
    server.shutdown();
    ended.failed.map_or(Ok(()), Err)
}

fn loader(settings: &Settings, resolver: &Resolver) -> Loader {
    let asking = Arc::new(Asking::new(resolver.clone()));
    Loader {
        maps: Arc::new(Maps::new(cache::Settings {
            exports: Some(asking.clone()),
            users: Some(asking),
            volumes: snapshots().map(|places| Arc::new(Volumed::new(places)) as _),
            manifests: snapshots().map(|places| places.manifests()),
            ..settings.maps.clone()
        })),
        request: settings.master.clone(),
        browse: settings.engine.browse,
        selection: settings.selection,
        defines: settings.engine.facts.defines.clone(),
    }
}

fn worker(
    settings: &Settings,
    maps: Arc<Maps>,
    front_end: Arc<dyn FrontEnd>,
    resolver: Resolver,
    workers: Workers,
    mailbox: &Mailbox,
) -> Worker {
    let mailbox = mailbox.clone();
    let tell = Box::new(move || mailbox.post(Message::Volumes));
    let means = perform::Settings {
        program: settings.program.clone(),
        snapshots: snapshots(),
        ..perform::Settings::default()
    };
    Worker {
        maps,
        staging: Staging::of(&front_end),
        front_end,
        snapshots: Snapshots::new(workers.clone(), means.clone(), tell),
        settings: means,
        workers,
        resolver,
        defines: settings.engine.facts.defines.clone(),
        made: Mutex::new(HashMap::new()),
        stop_until: OnceLock::new(),
        foreigners: Arc::default(),
        departed: Arc::default(),
    }
}

/// Where those meet who work on snapshots; only root takes any.
fn snapshots() -> Option<Places> {
    let root = rustix::process::geteuid().is_root();
    root.then(|| Places::usual(RuntimeDir::from_env().path().into()))
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
    let owned = survey.owned.into_iter();
    let owned: HashMap<BString, u32> = owned.map(|it| (it.path, it.process_group)).collect();
    if !owned.is_empty() {
        let points = std::mem::take(&mut configuration.points).into_iter();
        let (left, own) = points.partition(|point| owned.contains_key(&point.path));
        configuration.points = own;
        let left: Vec<Point> = left;
        loaded.refused.extend(left.into_iter().map(|point| Refused {
            why: format!(
                "another automounter (process group {}) serves it",
                owned[&point.path]
            ),
            map: point.binding.source.clone(),
            path: point.path,
        }));
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
    sweep(front_end, &configuration.existing);
}
