//! `piton status`: what is mounted, who waits, what failed and who keeps things busy.

use std::fmt::{self, Write};
use std::path::PathBuf;

use anstyle::Style;
use piton_control::message::{Job, Mount, MountPoint, Pending, ServerState, Status};

use super::talk::{
    ATTENTION, BAD, Clean, FAINT, GOOD, HEADING, absolute, complain, connect, count, holder, home,
    print, print_json, requester, span,
};
use crate::exit::Exit;

/// Direct mount points of one map that are shown one by one; more are counted.
const DIRECT_SHOWN: usize = 8;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only what is at, below or above this path.
    path: Option<PathBuf>,
    /// As JSON, for programs (docs/control.md).
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match args.path.as_deref().map(absolute).transpose() {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    match connect().and_then(|mut client| client.status(path.as_deref())) {
        Ok(status) if args.json => print_json(&status),
        Ok(status) => print(&render(&status)),
        Err(error) => complain(&error),
    }
}

/// The view for people.
fn render(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut text, status);
    text
}

fn write_all(out: &mut String, status: &Status) -> fmt::Result {
    let Status {
        version,
        keeper,
        daemon,
        ..
    } = status;
    write!(out, "{HEADING}piton {}{HEADING:#}", Clean(version))?;
    write!(out, ", daemon {}", daemon.pid)?;
    if keeper.pid != daemon.pid {
        write!(out, " (keeper {})", keeper.pid)?;
    }
    write!(out, " since {}", Clean(&daemon.since))?;
    match status.engine.as_str() {
        "" => {}
        "autofs" => write!(out, ", with autofs")?,
        "links" => write!(out, ", without autofs: links served by NFS")?,
        "fuse" => write!(out, ", without autofs: links served by FUSE")?,
        other => write!(out, ", without autofs: {}", Clean(other))?,
    }
    if status.frozen {
        write!(
            out,
            ", {ATTENTION}frozen: nothing is mounted anew{ATTENTION:#}"
        )?;
    }
    if !status.master_maps.is_empty() {
        write!(
            out,
            ", master map {}",
            Clean(&status.master_maps.join(", "))
        )?;
    }
    out.push('\n');
    write_points(out, &status.mount_points)?;
    write_pending(out, &status.pending)?;
    heading(out, &format!("Mounted ({})", status.mounts.len()))?;
    for mount in &status.mounts {
        write_mount(out, mount)?;
    }
    if status.mounts.is_empty() {
        writeln!(out, "  {FAINT}nothing{FAINT:#}")?;
    }
    write_servers(out, status)?;
    write_exports(out, status)?;
    write_care(out, status)?;
    write_departed(out, status)?;
    write_foreign(out, status)?;
    if !status.jobs.is_empty() {
        heading(out, &format!("Under way ({})", status.jobs.len()))?;
        for job in &status.jobs {
            write_job(out, job)?;
        }
    }
    write_failures(out, status)
}

fn heading(out: &mut String, text: &str) -> fmt::Result {
    writeln!(out, "\n{HEADING}{text}{HEADING:#}")
}

fn write_points(out: &mut String, points: &[MountPoint]) -> fmt::Result {
    heading(out, &format!("Mount points ({})", points.len()))?;
    if points.is_empty() {
        return writeln!(out, "  {FAINT}none{FAINT:#}");
    }
    let mut rest = points;
    while let [first, others @ ..] = rest {
        let alike = others
            .iter()
            .take_while(|point| share_a_line(first, point))
            .count();
        let (group, after) = rest.split_at(1 + alike);
        if group.len() > DIRECT_SHOWN {
            write_group(out, group)?;
        } else {
            for point in group {
                write_point(out, &Clean(&point.path), point)?;
                write_usage(out, point)?;
            }
        }
        rest = after;
    }
    Ok(())
}

/// Changes of the last reload that wait for something in use.
fn write_pending(out: &mut String, pending: &[Pending]) -> fmt::Result {
    if pending.is_empty() {
        return Ok(());
    }
    heading(out, &format!("Pending ({})", pending.len()))?;
    for one in pending {
        writeln!(
            out,
            "  {}  {ATTENTION}{}{ATTENTION:#} (map {})  {FAINT}{}{FAINT:#}",
            Clean(&one.path),
            Clean(&one.what),
            Clean(&one.map),
            Clean(&one.origin)
        )?;
        for path in &one.waits_for {
            writeln!(out, "      waits for {}", Clean(path))?;
        }
        for found in &one.holders {
            writeln!(out, "      held by {}", holder(found))?;
        }
    }
    Ok(())
}

/// Returns true if and only if both are keys of one direct map, in the same state.
fn share_a_line(one: &MountPoint, other: &MountPoint) -> bool {
    let line = |point: &MountPoint| (point.map.clone(), point.origin.clone(), point.state.clone());
    one.kind == "direct" && other.kind == "direct" && line(one) == line(other)
}

fn write_group(out: &mut String, group: &[MountPoint]) -> fmt::Result {
    let [first, .., last] = group else {
        return Ok(());
    };
    let what = format!(
        "{} paths, {} to {}",
        group.len(),
        Clean(&first.path),
        Clean(&last.path)
    );
    write_point(out, &what, first)?;
    let used = |point: &&MountPoint| point.first.is_some() || point.last_error.is_some();
    for point in group.iter().filter(used).take(DIRECT_SHOWN) {
        writeln!(out, "    {}", Clean(&point.path))?;
        write_usage(out, point)?;
    }
    Ok(())
}

fn write_point(out: &mut String, what: &dyn fmt::Display, point: &MountPoint) -> fmt::Result {
    let state = if point.state == "ready" {
        GOOD
    } else {
        ATTENTION
    };
    writeln!(
        out,
        "  {what}  {} map {}  {state}{}{state:#}  {}  {FAINT}{}{FAINT:#}",
        Clean(&point.kind),
        Clean(&point.map),
        Clean(&point.state),
        expiry(point.timeout_s),
        Clean(&point.origin)
    )
}

/// Who came by a mount point, and what failed there.
fn write_usage(out: &mut String, point: &MountPoint) -> fmt::Result {
    if let (Some(first), Some(last)) = (&point.first, &point.last) {
        let accesses = accesses(point.accesses);
        writeln!(out, "      {accesses}, first by {}", requester(first))?;
        if last != first {
            writeln!(out, "      last by {}", requester(last))?;
        }
    }
    if let Some(error) = &point.last_error {
        writeln!(
            out,
            "      {BAD}last failure{BAD:#}: {}: {}  {FAINT}{}{FAINT:#}",
            Clean(&error.path),
            Clean(&error.reason),
            Clean(&error.at)
        )?;
    }
    Ok(())
}

fn accesses(number: u64) -> String {
    match number {
        1 => "1 access".to_owned(),
        many => format!("{many} accesses"),
    }
}

fn expiry(timeout_s: u32) -> String {
    match timeout_s {
        0 => "never expires".to_owned(),
        seconds => format!("expires after {} idle", span(u64::from(seconds) * 1000)),
    }
}

fn write_mount(out: &mut String, mount: &Mount) -> fmt::Result {
    let source: &str = if mount.source.is_empty() {
        &mount.kind
    } else {
        &mount.source
    };
    writeln!(
        out,
        "  {HEADING}{}{HEADING:#}  {}",
        Clean(&mount.path),
        Clean(source)
    )?;
    writeln!(
        out,
        "      for {}, {}, {}",
        span(mount.age_ms),
        accesses(mount.uses),
        expiry(mount.timeout_s)
    )?;
    writeln!(out, "      first for {}", requester(&mount.first))?;
    if mount.last != mount.first {
        writeln!(out, "      last for {}", requester(&mount.last))?;
    }
    if let Some(busy) = &mount.busy {
        let at = mount.busy_at.as_deref().unwrap_or_default();
        writeln!(
            out,
            "      {ATTENTION}busy{ATTENTION:#}: {}  {FAINT}{}{FAINT:#}",
            Clean(busy),
            Clean(at)
        )?;
    }
    if let Some(why) = &mount.stays {
        writeln!(out, "      {BAD}its server is dead{BAD:#}: {}", Clean(why))?;
    }
    if let Some(since) = &mount.silent_since {
        let fate = match mount.given_up_in_ms {
            None => "it is left alone".to_owned(),
            Some(left) => format!("killed in {}", span(left)),
        };
        writeln!(
            out,
            "      {BAD}its helper hangs{BAD:#}: whoever comes gets ETIMEDOUT; {fate}  {FAINT}{}{FAINT:#}",
            Clean(since)
        )?;
    }
    mount
        .holders
        .iter()
        .try_for_each(|found| writeln!(out, "      held by {}", holder(found)))?;
    if mount.holders_cut {
        writeln!(
            out,
            "      {FAINT}and perhaps others: the search was cut short{FAINT:#}"
        )?;
    }
    Ok(())
}

/// What servers export.
fn write_exports(out: &mut String, status: &Status) -> fmt::Result {
    if status.exports.is_empty() {
        return Ok(());
    }
    heading(out, &format!("Exports ({})", status.exports.len()))?;
    for one in &status.exports {
        write!(out, "  {}: ", Clean(&one.server))?;
        match one.exports {
            Some(exports) => write!(out, "{exports} shown")?,
            None => write!(out, "{FAINT}no list{FAINT:#}")?,
        }
        if one.for_others > 0 {
            write!(out, ", {} for others only", one.for_others)?;
        }
        if one.refused > 0 {
            write!(out, ", {BAD}{} lines not used{BAD:#}", one.refused)?;
        }
        if let Some(trouble) = &one.trouble {
            write!(out, "; asked last in vain: {}", Clean(trouble))?;
        }
        out.push('\n');
    }
    Ok(())
}

/// What operators asked for a time.
fn write_care(out: &mut String, status: &Status) -> fmt::Result {
    if !status.drained.is_empty() {
        heading(out, &format!("Drained ({})", status.drained.len()))?;
    }
    for drain in &status.drained {
        let now = if drain.now {
            ", what is in use moves, too"
        } else {
            ""
        };
        let left = match drain.left_ms {
            Some(left) => format!("for another {}", span(left)),
            None => "until it is undrained".to_owned(),
        };
        writeln!(out, "  {}  {left}{now}", Clean(&drain.server))?;
    }
    if !status.pins.is_empty() {
        heading(out, &format!("Pinned ({})", status.pins.len()))?;
    }
    for pin in &status.pins {
        writeln!(
            out,
            "  {}  for another {}",
            Clean(&pin.path),
            span(pin.left_ms)
        )?;
    }
    Ok(())
}

/// What was left to those who are inside.
fn write_departed(out: &mut String, status: &Status) -> fmt::Result {
    if !status.departed.is_empty() {
        heading(
            out,
            &format!("Left to their users ({})", status.departed.len()),
        )?;
    }
    for departed in &status.departed {
        writeln!(
            out,
            "  {}  {}  {FAINT}{}{FAINT:#}",
            Clean(&departed.path),
            Clean(&departed.source),
            Clean(&departed.since)
        )?;
        for found in &departed.users {
            writeln!(out, "      still used by {}", holder(found))?;
        }
    }
    Ok(())
}

/// Mount namespaces that our mounts do not reach.
fn write_foreign(out: &mut String, status: &Status) -> fmt::Result {
    if status.foreign.is_empty() {
        return Ok(());
    }
    heading(
        out,
        &format!("Cut off from our mounts ({})", status.foreign.len()),
    )?;
    for foreign in &status.foreign {
        let comm = foreign.comm.as_deref().unwrap_or("a process");
        writeln!(
            out,
            "  {BAD}mount namespace {}{BAD:#}: {} from there in vain, last {} by {} (pid {}){}  \
             {FAINT}{}{FAINT:#}",
            foreign.namespace,
            accesses(foreign.accesses),
            Clean(&foreign.path),
            Clean(comm),
            foreign.pid,
            home(foreign.unit.as_deref(), foreign.container.as_deref()),
            Clean(&foreign.at)
        )?;
    }
    writeln!(
        out,
        "  let them receive mounts: `unshare --propagation slave`, `docker run -v \
         /PATH:/PATH:rslave`,\n  in a unit of systemd none of PrivateMounts= and \
         MountFlags=private"
    )
}

fn write_servers(out: &mut String, status: &Status) -> fmt::Result {
    if status.servers.is_empty() {
        return Ok(());
    }
    heading(out, &format!("Servers ({})", status.servers.len()))?;
    status
        .servers
        .iter()
        .try_for_each(|server| write_server(out, server))
}

fn write_server(out: &mut String, server: &ServerState) -> fmt::Result {
    let mounts = usize::try_from(server.mounts).unwrap_or(usize::MAX);
    write!(out, "  {}  {}", Clean(&server.host), count(mounts, "mount"))?;
    match server.state.as_str() {
        "alive" => write!(out, ", alive for {}", span(server.age_ms))?,
        "doubtful" => write!(
            out,
            ", {ATTENTION}its last answer did not come{ATTENTION:#}"
        )?,
        _ => {}
    }
    if let Some(micros) = server.answer_us {
        let milliseconds = f64::from(micros) / 1_000.0;
        write!(out, "  {FAINT}answered in {milliseconds:.1} ms{FAINT:#}")?;
    }
    writeln!(out)?;
    if let Some(down) = &server.down {
        let again = match server.left_ms {
            0 => "being asked".to_owned(),
            left => format!("asked again in {}", span(left)),
        };
        writeln!(
            out,
            "      {BAD}down{BAD:#} for {}: {}, {again} {FAINT}({}){FAINT:#}",
            span(server.age_ms),
            Clean(down),
            tally(server.failures, server.answered)
        )?;
    }
    server
        .users
        .iter()
        .try_for_each(|user| writeln!(out, "      used by {}", holder(user)))
}

/// How often something failed in a row, and how many accesses were answered from memory since.
fn tally(failures: u64, answered: u64) -> String {
    let failed = match failures {
        0 | 1 => String::new(),
        many => format!("failed {many} times, "),
    };
    let accesses = usize::try_from(answered).unwrap_or(usize::MAX);
    format!("{failed}answered {}", count(accesses, "access"))
}

fn write_job(out: &mut String, job: &Job) -> fmt::Result {
    let waiters = match job.waiters {
        0 => "nobody waits".to_owned(),
        1 => "1 access waits".to_owned(),
        many => format!("{many} accesses wait"),
    };
    writeln!(
        out,
        "  {}  {ATTENTION}{}{ATTENTION:#} for {}, {waiters}",
        Clean(&job.path),
        Clean(&job.stage),
        span(job.age_ms)
    )?;
    writeln!(out, "      first for {}", requester(&job.requester))
}

fn write_failures(out: &mut String, status: &Status) -> fmt::Result {
    let line = |out: &mut String, style: Style, path: &str, reason: &str, when: &str| {
        writeln!(
            out,
            "  {style}{}{style:#}: {}  {FAINT}{when}{FAINT:#}",
            Clean(path),
            Clean(reason)
        )
    };
    if !status.negative.is_empty() {
        heading(
            out,
            &format!("Answered from memory ({})", status.negative.len()),
        )?;
        for negative in &status.negative {
            let when = format!(
                "{}, for another {} ({})",
                Clean(&negative.cause),
                span(negative.left_ms),
                tally(negative.failures, negative.answered)
            );
            line(out, ATTENTION, &negative.path, &negative.reason, &when)?;
        }
    }
    if !status.last_errors.is_empty() {
        heading(
            out,
            &format!("Last failures ({})", status.last_errors.len()),
        )?;
        for error in &status.last_errors {
            line(
                out,
                BAD,
                &error.path,
                &error.reason,
                &Clean(&error.at).to_string(),
            )?;
        }
    }
    Ok(())
}
