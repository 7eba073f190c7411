//! The daemon's settings: the command line over /etc/autofs.conf over what is built in.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bstr::{BString, ByteSlice};
use piton_control::message;
use piton_engine::config;
use piton_map::lookup::MapSpec;
use piton_map::options::Selection;
use piton_mount::perform::Program;
use piton_plan::facts::HostFacts;
use piton_source::cache;
use piton_source::conf::{self, Conf};
use piton_source::master::MasterRequest;

use super::log::Verbosity;
use super::options::{Front, Options};
use crate::facts;
use crate::own_maps::OwnMaps;

/// Everything the daemon is told.
pub(crate) struct Settings {
    pub(crate) engine: config::Settings,
    pub(crate) maps: cache::Settings,
    pub(crate) master: MasterRequest,
    pub(crate) master_wait: Duration,
    pub(crate) verbosity: Verbosity,
    pub(crate) program: Option<Program>,
    /// How servers are ranked where nothing else is said.
    pub(crate) selection: Selection,
    /// Mark triggers so that `df` leaves them out.
    pub(crate) ignore_mounts: bool,
    /// Don't log that a key is in no map.
    pub(crate) quiet_misses: bool,
}

impl Settings {
    /// The master map in words.
    pub(crate) fn master_text(&self) -> String {
        let name = match (&self.master.name, &self.master.also) {
            (Some(spec), None) => spec.name.to_string(),
            (Some(spec), Some(also)) => format!("{}, then {also}", spec.name),
            (None, Some(also)) => also.to_string(),
            (None, None) => "/etc/auto.master or /etc/auto_master".into(),
        };
        match self.master.lines.is_empty() {
            true => name,
            false => format!("the command line, then {name}"),
        }
    }
}

impl Settings {
    /// What `explain` has to know of them.
    pub(crate) fn told(&self, options: &Options) -> message::Settings {
        let facts = &self.engine.facts;
        let master = &self.master;
        let text = ToString::to_string;
        message::Settings {
            master: master.name.as_ref().map(|spec| spec.name.to_string()),
            lines: master.lines.iter().map(text).collect(),
            also: master.also.as_ref().map(text),
            dialect: master.dialect.as_ref().map(|it| it.name.into()),
            fuse: match &options.front {
                Front::Fuse(fuse) => Some(fuse.directory.to_string()),
                Front::Autofs | Front::Links(_) => None,
            },
            defines: variables(&facts.defines),
            environment: variables(&facts.environment),
            global_options: self.engine.global_options.iter().map(text).collect(),
            append_options: self.engine.append_options,
            hostname_for_mounts: facts.hostname_for_mounts,
            random: options.random,
            all_exports: self.maps.all_exports,
            whole_servers: self.maps.whole_servers,
            timeout_s: self.engine.timeout,
        }
    }
}

fn variables(all: &[(BString, BString)]) -> Vec<message::Variable> {
    let variable = |(name, value): &(BString, BString)| message::Variable {
        name: name.to_string(),
        value: Some(value.to_string()),
    };
    all.iter().map(variable).collect()
}

/// The settings, and what is to be said about options without effect.
pub(crate) fn merge(options: &Options) -> (Settings, Vec<String>) {
    let own = own_maps(options);
    // What the administrator says is about the system's mounts.
    let (conf, mut remarks) = match own {
        Some(_) => (Conf::default(), Vec::new()),
        None => conf::load(Path::new("/etc/autofs.conf")),
    };
    for (option, why) in &options.ignored {
        remarks.push(format!("option {option} has no effect: {why}"));
    }
    let settings = Settings {
        engine: engine(options, &conf),
        maps: cache::Settings {
            standard_names: conf.force_standard_program_map_env,
            all_exports: options.all_exports,
            whole_servers: options.front != Front::Autofs,
            // Nobody else sees what is mounted there.
            personal: matches!(options.front, Front::Fuse(_)),
            map_directory: match &own {
                Some(own) => own.directory.clone(),
                None => cache::Settings::default().map_directory,
            },
            ..cache::Settings::default()
        },
        master: MasterRequest {
            below: own.as_ref().map(|own| own.below.clone()),
            ..master(options, &conf, own.as_ref())
        },
        master_wait: Duration::from_secs(
            options.master_wait.or(conf.master_wait).unwrap_or(0).into(),
        ),
        verbosity: options.verbosity.max(match conf.logging {
            conf::Logging::None => Verbosity::Normal,
            conf::Logging::Verbose => Verbosity::Verbose,
            conf::Logging::Debug => Verbosity::Debug,
        }),
        program: options
            .mount_program
            .as_ref()
            .map(|mount| match &options.umount_program {
                Some(umount) => Program {
                    mount: mount.clone(),
                    umount: Some(umount.clone()),
                },
                None => Program::beside(mount),
            }),
        selection: match options.random {
            true => Selection::Random,
            false => Selection::default(),
        },
        ignore_mounts: conf.use_ignore_mount_option,
        quiet_misses: conf.disable_not_found_message,
    };
    (settings, remarks)
}

fn engine(options: &Options, conf: &Conf) -> config::Settings {
    let base = config::Settings::default();
    config::Settings {
        timeout: options.timeout.or(conf.timeout).unwrap_or(base.timeout),
        negative_timeout: options
            .negative_timeout
            .or(conf.negative_timeout)
            .unwrap_or(base.negative_timeout),
        deadline_ms: options
            .deadline
            .or(conf.mount_wait)
            .map_or(base.deadline_ms, |seconds| u64::from(seconds) * 1_000),
        unmount_deadline_ms: conf
            .umount_wait
            .map_or(base.unmount_deadline_ms, |seconds| {
                u64::from(seconds) * 1_000
            }),
        global_options: options.global_options.clone(),
        append_options: conf.append_options,
        browse: conf.browse_mode,
        facts: Arc::new(HostFacts {
            hostname_for_mounts: conf.use_hostname_for_mounts,
            rootless: !rustix::process::geteuid().is_root(),
            ..facts::with_environment(options.defines.clone(), &options.environment)
        }),
        retry_most_ms: options.retry.map(|seconds| u64::from(seconds) * 1_000),
        unmount_pause_ms: options
            .unmount_pause
            .map(|seconds| u64::from(seconds) * 1_000),
        frozen: options.frozen,
        seed: RandomState::new().hash_one(0),
        asks_servers: options.mount_program.is_none(),
        whole_entries: options.front != Front::Autofs,
        plan_apart: base.plan_apart,
        jobs_most: base.jobs_most,
        waiters_most: base.waiters_most,
    }
}

/// The maps of a user who automounts for himself.
fn own_maps(options: &Options) -> Option<OwnMaps> {
    match &options.front {
        Front::Fuse(fuse) => Some(OwnMaps::new(
            fuse.directory.as_bstr(),
            options.master.as_deref(),
        )),
        Front::Autofs | Front::Links(_) => None,
    }
}

fn master(options: &Options, conf: &Conf, own: Option<&OwnMaps>) -> MasterRequest {
    let usual = match own {
        Some(own) => Some(own.master.as_os_str()),
        None => conf.master_map_name.as_deref(),
    };
    let name = options.master.as_deref().or(match options.also {
        Some(_) => None,
        None => usual,
    });
    MasterRequest {
        name: name.map(spec_of),
        fall_back: false,
        dialect: options.dialect.clone(),
        lines: options.lines.clone(),
        also: options.also.clone(),
        below: None,
    }
}

fn spec_of(name: &OsStr) -> MapSpec {
    MapSpec {
        kind: None,
        format: None,
        name: name.as_bytes().into(),
        arguments: Vec::new(),
        origin: None,
    }
}
