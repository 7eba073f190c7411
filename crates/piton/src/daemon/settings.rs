//! The daemon's settings: the command line over /etc/autofs.conf over what is built in.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use piton_engine::config;
use piton_map::lookup::MapSpec;
use piton_mount::perform::Program;
use piton_plan::facts::HostFacts;
use piton_source::cache;
use piton_source::conf::{self, Conf};
use piton_source::master::MasterRequest;

use super::log::Verbosity;
use super::options::Options;
use crate::facts;

/// Everything the daemon is told.
pub(crate) struct Settings {
    pub(crate) engine: config::Settings,
    pub(crate) maps: cache::Settings,
    pub(crate) master: MasterRequest,
    pub(crate) master_wait: Duration,
    pub(crate) verbosity: Verbosity,
    pub(crate) program: Option<Program>,
    /// Mark triggers so that `df` leaves them out.
    pub(crate) ignore_mounts: bool,
    /// Don't log that a key is in no map.
    pub(crate) quiet_misses: bool,
}

impl Settings {
    /// The master map in words.
    pub(crate) fn master_text(&self) -> String {
        match &self.master.name {
            Some(spec) => spec.name.to_string(),
            None => "/etc/auto.master or /etc/auto_master".into(),
        }
    }
}

/// The settings, and what is to be said about options without effect.
pub(crate) fn merge(options: &Options) -> (Settings, Vec<String>) {
    let (conf, mut remarks) = conf::load(Path::new("/etc/autofs.conf"));
    for (option, why) in &options.ignored {
        remarks.push(format!("option {option} has no effect: {why}"));
    }
    let settings = Settings {
        engine: engine(options, &conf),
        maps: cache::Settings {
            standard_names: conf.force_standard_program_map_env,
            all_exports: options.all_exports,
            ..cache::Settings::default()
        },
        master: master(options, &conf),
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
            ..facts::of_this_host(options.defines.clone())
        }),
        seed: RandomState::new().hash_one(0),
        asks_servers: options.mount_program.is_none(),
        jobs_most: base.jobs_most,
        waiters_most: base.waiters_most,
    }
}

fn master(options: &Options, conf: &Conf) -> MasterRequest {
    let name = options
        .master
        .as_deref()
        .or(conf.master_map_name.as_deref());
    MasterRequest {
        name: name.map(spec_of),
        fall_back: false,
        dialect: options.dialect.clone(),
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
