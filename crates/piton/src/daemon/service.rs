//! The daemon as the control socket sees it: questions go to the loop, answers come back.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use bstr::{BStr, BString, ByteSlice};
use piton_control::message::{
    Daemon, Drained, Foreign, Holder, Job, Keeper, LastError, Left, Mount, MountPoint, Negative,
    Pin, ReloadPlan, Requester, ServerExports, ServerState, Servers, Settings, Status, Trace,
};
use piton_control::time::rfc3339;
use piton_control::{Caller, Service, ServiceError, TraceFrom};
use piton_engine::status as engine;
use piton_mount::holders;
use piton_path::are_related;
use piton_plan::step::TriggerKind;
use piton_process::about;
use piton_source::cache::Maps;
use piton_source::hosts;

use super::departed::Departed;
use super::foreign::{self, Foreigners};
use super::messages::{Mailbox, Message, Question};
use super::pending;
use super::sightings;
use super::staging::Staging;
use super::trace::Ring;

/// Longest wait for the loop's answer. The loop never blocks, and the control socket has shorter
/// limits of its own for each kind of call; this one only ends a thread that nobody waits for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Most mounts whose holders are looked for in one `status`: each look goes through /proc.
pub(super) const HOLDERS_LOOKED_FOR: usize = 16;

/// Time for all of them together.
pub(super) const HOLDERS_TIME: Duration = Duration::from_secs(3);

/// Answers the control socket.
pub(crate) struct Desk {
    mailbox: Mailbox,
    since: SystemTime,
    master: String,
    told: Settings,
    engine: &'static str,
    foreigners: Arc<Foreigners>,
    departed: Arc<Departed>,
    ring: Arc<Ring>,
    keeper: Arc<AtomicU32>,
    maps: Arc<Maps>,
    staging: Staging,
}

impl Desk {
    pub(crate) fn new(
        mailbox: Mailbox,
        (master, told, engine): (String, Settings, &'static str),
        (foreigners, departed): (Arc<Foreigners>, Arc<Departed>),
        ring: Arc<Ring>,
        keeper: Arc<AtomicU32>,
        maps: Arc<Maps>,
        staging: Staging,
    ) -> Self {
        Self {
            staging,
            mailbox,
            maps,
            keeper,
            since: SystemTime::now(),
            master,
            told,
            engine,
            foreigners,
            departed,
            ring,
        }
    }

    fn ask<R>(&self, question: impl FnOnce(Sender<R>) -> Question) -> Result<R, ServiceError> {
        let (sender, receiver): (Sender<R>, Receiver<R>) = channel();
        self.mailbox.post(Message::Ask(question(sender)));
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => ServiceError::TimedOut,
                RecvTimeoutError::Disconnected => ServiceError::failed("the daemon is ending"),
            })
    }

    /// Refuses a path at, above and below which we have nothing.
    fn must_be_ours(&self, path: Option<&str>) -> Result<(), ServiceError> {
        let Some(path) = path else { return Ok(()) };
        let (status, _) = self.ask(Question::Status)?;
        let points = status.points.iter().map(|point| &point.path);
        let mounts = status.mounts.iter().map(|mount| &mount.path);
        match points.chain(mounts).any(|it| are_related(it, path)) {
            true => Ok(()),
            false => Err(ServiceError::NoSuchPlace { path: path.into() }),
        }
    }

    fn message(&self, status: &engine::Status, now_ms: u64) -> Status {
        let moment = &|at_ms: u64| {
            rfc3339(SystemTime::now() - Duration::from_millis(now_ms.saturating_sub(at_ms)))
        };
        let pid = std::process::id();
        let mut message = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            keeper: Keeper {
                pid: self.keeper.load(Ordering::Relaxed),
            },
            daemon: Daemon {
                pid,
                since: rfc3339(self.since),
            },
            mount_points: status
                .points
                .iter()
                .map(|point| mount_point(point, moment))
                .collect(),
            mounts: status.mounts.iter().map(|it| mount(it, moment)).collect(),
            jobs: status.jobs.iter().map(job).collect(),
            negative: status.negative.iter().map(negative).collect(),
            servers: status.servers.iter().map(server).collect(),
            last_errors: status
                .last_errors
                .iter()
                .map(|error| last_error(error, moment))
                .collect(),
            master_maps: vec![self.master.clone()],
            engine: self.engine.into(),
            frozen: status.frozen,
            foreign: self.foreigners.list().iter().map(foreign).collect(),
            pending: status.pending.iter().map(pending::message).collect(),
            exports: self.maps.exports().iter().map(exports).collect(),
            drained: status
                .drained
                .iter()
                .map(|drain| Drained {
                    server: drain.server.to_string(),
                    now: drain.now,
                    left_ms: drain.until.map(|until| until.0.saturating_sub(now_ms)),
                })
                .collect(),
            pins: status
                .pins
                .iter()
                .map(|pin| Pin {
                    path: pin.path.to_string(),
                    left_ms: pin.until.0.saturating_sub(now_ms),
                })
                .collect(),
            departed: self.departed.list(),
        };
        message.count_servers();
        message
    }
}

/// How long a program may take to say what it is.
const INTRODUCTION_MOST: Duration = Duration::from_secs(5);

/// Whether a program is a piton that can run here: nothing is given up for one that is not.
fn fit_to_take_over(program: &Path) -> Result<(), String> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(["daemon", "--version"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    let until = Instant::now() + INTRODUCTION_MOST;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} does not say its version"));
            }
        }
    };
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        // What is not read is not what is looked for.
        let _ = output.take(256).read_to_string(&mut said);
    }
    match status.success() && said.starts_with("piton ") {
        true => Ok(()),
        false => Err(format!(
            "{name} is no piton that can take over: `daemon --version` ended with {status}"
        )),
    }
}

impl Service for Desk {
    fn status(&self, path: Option<&str>) -> Result<Status, ServiceError> {
        let (status, now_ms) = self.ask(Question::Status)?;
        let mut message = self.message(&status, now_ms);
        if let Some(path) = path
            && !message.narrow(path)
        {
            return Err(ServiceError::NoSuchPlace { path: path.into() });
        }
        for silent in self.staging.silent() {
            let here = |mount: &&mut Mount| mount.path.as_bytes() == silent.path.as_bytes();
            if let Some(mount) = message.mounts.iter_mut().find(here) {
                mount.silent_since = Some(rfc3339(SystemTime::now() - silent.quiet));
                let milliseconds = |left: Duration| left.as_millis() as u64;
                mount.given_up_in_ms = silent.left.map(milliseconds);
            }
        }
        let asked_for = path.is_some();
        let wanted = message
            .mounts
            .iter_mut()
            .filter(|mount| asked_for || mount.busy.is_some());
        let until = Instant::now() + HOLDERS_TIME;
        for mount in wanted.take(HOLDERS_LOOKED_FOR) {
            (mount.holders, mount.holders_cut) = find_holders(&self.staging, &mount.path, until);
        }
        for server in message.servers.iter_mut().filter(|it| it.down.is_some()) {
            server.users = users_of(&self.staging, &server.host, &message.mounts, until);
        }
        for waiting in &mut message.pending {
            waiting.holders = pending::holders_of(&self.staging, &waiting.waits_for, until);
        }
        Ok(message)
    }

    fn servers(&self) -> Result<Servers, ServiceError> {
        let (status, now_ms) = self.ask(Question::Status)?;
        let mut known = Servers::from(self.message(&status, now_ms));
        // Those that are about to be asked are left out of a status if nothing comes from them.
        for one in status.servers.iter().map(server) {
            if known.servers.iter().all(|it| it.host != one.host) {
                known.servers.push(one);
            }
        }
        Ok(known)
    }

    fn settings(&self) -> Settings {
        self.told.clone()
    }

    fn trace(&self, from: TraceFrom, wait: Duration) -> Result<(Trace, TraceFrom), ServiceError> {
        Ok(self.ring.read(from, wait))
    }

    fn plan(&self) -> Result<ReloadPlan, ServiceError> {
        let outline = self.ask(Question::Plan)?.map_err(ServiceError::failed)?;
        Ok(pending::foresee(&self.staging, outline))
    }

    fn reload(&self) -> Result<ReloadPlan, ServiceError> {
        let outline = self.ask(Question::Reload)?.map_err(ServiceError::failed)?;
        Ok(pending::explain(&self.staging, outline))
    }

    fn expire(&self, path: Option<&str>) -> Result<Vec<Left>, ServiceError> {
        self.must_be_ours(path)?;
        let path = path.map(BString::from);
        self.ask(|answer| Question::Expire(path, answer))
    }

    fn flush(&self, path: Option<&str>) -> Result<u64, ServiceError> {
        self.must_be_ours(path)?;
        let path = path.map(BString::from);
        self.ask(|answer| Question::Flush(path, answer))
    }

    fn upgrade(&self, program: &str) -> Result<(), ServiceError> {
        fit_to_take_over(Path::new(program)).map_err(ServiceError::failed)?;
        self.mailbox
            .post(Message::Ask(Question::Upgrade(program.into())));
        Ok(())
    }

    fn unmount(&self, path: &str) -> Result<Vec<Left>, ServiceError> {
        let place = BString::from(path);
        self.ask(|answer| Question::Unmount(place, answer))?
            .ok_or_else(|| ServiceError::NoSuchPlace { path: path.into() })
    }

    fn drain(
        &self,
        server: &str,
        now: bool,
        seconds: Option<u64>,
    ) -> Result<Vec<Left>, ServiceError> {
        let server = server.into();
        self.ask(|answer| Question::Drain {
            server,
            now,
            seconds,
            answer,
        })
    }

    fn undrain(&self, server: &str) -> Result<bool, ServiceError> {
        let was = self.ask(|answer| Question::Undrain(server.into(), answer))?;
        Ok(was.is_some())
    }

    fn pin(&self, path: &str, seconds: u64) -> Result<(), ServiceError> {
        self.ask(|answer| Question::Pin(path.into(), seconds, answer))?
            .map(drop)
            .ok_or_else(|| ServiceError::NoSuchPlace { path: path.into() })
    }

    fn unpin(&self, path: &str) -> Result<bool, ServiceError> {
        let was = self.ask(|answer| Question::Unpin(path.into(), answer))?;
        Ok(was.is_some())
    }

    fn stop(&self, detach: bool) -> Result<Vec<Left>, ServiceError> {
        let mut left = self.ask(|answer| Question::Stop { detach, answer })?;
        if !detach {
            left.extend(self.departed.at_the_end());
        }
        Ok(left)
    }

    fn called(&self, method: &str, caller: Caller) {
        tracing::info!(
            method,
            uid = caller.uid,
            pid = caller.pid,
            "asked by the control socket"
        );
    }
}

fn mount(mount: &engine::MountStatus, moment: impl Fn(u64) -> String) -> Mount {
    let age = Duration::from_millis(mount.age_ms);
    Mount {
        path: mount.path.to_string(),
        mount_point: mount.point.to_string(),
        source: mount.source.to_string(),
        kind: mount.how.into(),
        host: mount.host.as_ref().map(BString::to_string),
        since: rfc3339(SystemTime::now() - age),
        age_ms: mount.age_ms,
        timeout_s: mount.timeout,
        first: requester(&mount.first),
        last: requester(&mount.last),
        uses: mount.uses,
        busy: mount.busy.as_ref().map(ToString::to_string),
        holders: Vec::new(),
        holders_cut: false,
        busy_at: mount.busy_at.map(|at| moment(at.0)),
        stays: mount.stays.as_ref().map(ToString::to_string),
        silent_since: None,
        given_up_in_ms: None,
    }
}

fn last_error(error: &engine::LastError, moment: impl Fn(u64) -> String) -> LastError {
    LastError {
        path: error.path.to_string(),
        reason: error.text.to_string(),
        at: moment(error.at.0),
    }
}

fn exports(known: &hosts::ServerExports) -> ServerExports {
    let list = known.list.as_deref();
    let listed = list.filter(|list| !list.is_pseudo_root());
    ServerExports {
        server: known.server.to_string(),
        exports: listed.map(|list| list.paths().len() as u64),
        refused: list.map_or(0, |list| list.refused().count as u64),
        for_others: list.map_or(0, |list| list.for_others() as u64),
        trouble: known.trouble.as_ref().map(ToString::to_string),
    }
}

fn foreign(foreign: &foreign::Foreign) -> Foreign {
    let (unit, container) = home(foreign.cgroup.as_ref().map(|cgroup| cgroup.as_bstr()));
    Foreign {
        namespace: foreign.namespace,
        accesses: foreign.accesses,
        path: foreign.path.to_string(),
        at: rfc3339(foreign.at),
        pid: foreign.pid,
        comm: foreign.name.as_ref().map(BString::to_string),
        unit,
        container,
    }
}

/// The unit and the container of a control group.
fn home(cgroup: Option<&BStr>) -> (Option<String>, Option<String>) {
    let unit = cgroup.and_then(about::unit).map(ToString::to_string);
    let container = cgroup.and_then(about::container);
    (unit, container.map(|id| id.to_string()))
}

fn mount_point(point: &engine::PointStatus, moment: impl Fn(u64) -> String) -> MountPoint {
    let usage = point.usage.as_deref();
    let used = usage.filter(|usage| usage.accesses > 0);
    MountPoint {
        path: point.path.to_string(),
        kind: match point.kind {
            TriggerKind::Indirect => "indirect".into(),
            TriggerKind::Direct => "direct".into(),
            TriggerKind::Offset => "offset".into(),
        },
        map: point.map.to_string(),
        state: point.state.into(),
        timeout_s: point.timeout,
        origin: point.origin.to_string(),
        accesses: used.map_or(0, |usage| usage.accesses),
        first: used.map(|usage| requester(&usage.first)),
        last: used.map(|usage| requester(&usage.last)),
        last_error: usage
            .and_then(|usage| usage.failure.as_ref())
            .map(|error| last_error(error, moment)),
    }
}

fn negative(negative: &engine::NegativeStatus) -> Negative {
    Negative {
        path: negative.path.to_string(),
        reason: negative.text.to_string(),
        left_ms: negative.left_ms,
        cause: negative.kind.into(),
        failures: negative.failures.into(),
        answered: negative.answered,
    }
}

fn server(server: &engine::ServerStatus) -> ServerState {
    let error = server.text.as_ref().map(ToString::to_string);
    ServerState {
        host: server.host.to_string(),
        mounts: 0,
        state: server.state.into(),
        age_ms: server.age_ms,
        down: server.down.then(|| error.clone().unwrap_or_default()),
        last_error: error,
        left_ms: server.left_ms.unwrap_or(0),
        answer_us: server.micros,
        users: Vec::new(),
        failures: server.failures.into(),
        answered: server.answered,
    }
}

fn job(job: &engine::JobStatus) -> Job {
    Job {
        path: job.path.to_string(),
        stage: job.stage.into(),
        waiters: job.waiters as u64,
        age_ms: job.age_ms,
        requester: requester(&job.requester),
    }
}

pub(super) fn requester(who: &piton_map::requester::Requester) -> Requester {
    let seen = sightings::seen(who);
    let cgroup = seen.as_ref().and_then(|seen| seen.cgroup.as_deref());
    let (unit, container) = home(cgroup.map(|cgroup| cgroup.as_bstr()));
    Requester {
        uid: who.uid,
        pid: who.pid,
        cgroup: cgroup.map(ToString::to_string),
        unit,
        container,
        comm: seen.and_then(|seen| seen.name).map(|name| name.to_string()),
    }
}

pub(super) fn find_holders(staging: &Staging, path: &str, until: Instant) -> (Vec<Holder>, bool) {
    let limit = until.saturating_duration_since(Instant::now());
    let place = staging.place(path.as_bytes().as_bstr());
    match holders::holders(place.as_bstr(), limit) {
        Ok(found) => {
            let cut = found.more || found.cut;
            (found.found.iter().map(holder).collect(), cut)
        }
        Err(_) => (Vec::new(), true),
    }
}

pub(super) fn holder(holder: &holders::Holder) -> Holder {
    let process = holder.process.as_ref();
    let cgroup = process.and_then(|it| about::cgroup(it.pid.unsigned_abs()));
    let (unit, container) = home(cgroup.as_ref().map(|cgroup| cgroup.as_bstr()));
    Holder {
        pid: process.map_or(0, |it| it.pid.unsigned_abs()),
        comm: process.map(|it| it.name.to_string()).unwrap_or_default(),
        uid: process.map_or(0, |it| it.uid),
        how: how(holder.how).into(),
        elsewhere: process.is_some_and(|it| it.elsewhere),
        path: Some(holder.path.to_string()),
        unit,
        container,
    }
}

/// The processes that use what is mounted from a server, each once. Nothing is touched.
fn users_of(staging: &Staging, host: &str, mounts: &[Mount], until: Instant) -> Vec<Holder> {
    let from = mounts
        .iter()
        .filter(|mount| mount.host.as_deref() == Some(host));
    let found = from
        .take(HOLDERS_LOOKED_FOR)
        .flat_map(|mount| find_holders(staging, &mount.path, until).0);
    let mut users: Vec<Holder> = found.filter(|holder| holder.pid != 0).collect();
    users.sort_by_key(|user| user.pid);
    users.dedup_by_key(|user| user.pid);
    users
}

/// A kind of use in words.
fn how(how: holders::How) -> &'static str {
    match how {
        holders::How::Cwd => "working directory",
        holders::How::Root => "root directory",
        holders::How::Program => "running program",
        holders::How::Descriptor => "open file",
        holders::How::Map => "mapped file",
        holders::How::Loop => "loop device",
        holders::How::Mount => "nested mount",
        holders::How::Swap => "swap file",
        holders::How::Copy => "copy of the mount",
    }
}
