//! `explain --json`: a contract (docs/explain.md); other programs read it.

use bstr::BString;
use piton_map::lookup::Matched;
use serde::Serialize;

use super::{Explanation, Link, Mount, Status, map_names};
use crate::render::JsonDiagnostic;

/// The one object. The order of the fields is part of the contract.
#[derive(Serialize)]
struct Answer {
    path: String,
    status: &'static str,
    mount_point: Option<String>,
    map: Option<String>,
    key: Option<String>,
    matched: Option<&'static str>,
    origin: Option<Place>,
    dialect: &'static str,
    mounts: Vec<JsonMount>,
    reason: String,
    diagnostics: Vec<JsonDiagnostic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pins: Option<Vec<JsonPin>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<&'static str>,
}

#[derive(Serialize)]
struct JsonPin {
    path: String,
    left_ms: u64,
}

#[derive(Serialize)]
struct Place {
    file: String,
    line: u32,
    column: u32,
}

#[derive(Serialize)]
struct JsonMount {
    target: String,
    fstype: String,
    options: Vec<String>,
    source: String,
    replicas: Vec<JsonReplica>,
}

#[derive(Serialize)]
struct JsonReplica {
    host: String,
    path: String,
    weight: u32,
    proximity: &'static str,
    address: Option<String>,
    verdict: &'static str,
    answer_ms: Option<f64>,
    reason: String,
    chosen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<JsonHealth>,
}

#[derive(Serialize)]
struct JsonHealth {
    circuit: &'static str,
    state: String,
    since: Option<String>,
    failures: u64,
    error: Option<String>,
    again_ms: Option<u64>,
    drained: bool,
}

/// The object with a final line break.
pub(crate) fn render(explanation: &Explanation) -> String {
    let last = explanation.chain.last();
    let found = last.and_then(|link| link.found.as_ref());
    let origin = match (last, found) {
        (_, Some(found)) => Some(found.fragment.origin(found.key)),
        (Some(link), None) if link.key.is_none() => Some(link.point.origin.clone()),
        _ => None,
    };
    let answer = Answer {
        path: explanation.path.to_string(),
        status: match explanation.status {
            Status::Found => "found",
            Status::NotFound => "not-found",
            Status::Error => "error",
        },
        mount_point: last.map(|link| link.mount_point.to_string()),
        map: last.map(map),
        key: last
            .and_then(|link| link.key.as_ref())
            .map(BString::to_string),
        matched: found.map(|found| match found.matched {
            Matched::Exact => "exact",
            Matched::Wildcard => "wildcard",
        }),
        origin: origin.map(|origin| Place {
            file: origin.file.to_string(),
            line: origin.position.line,
            column: origin.position.column,
        }),
        dialect: explanation.dialect,
        mounts: explanation
            .chain
            .iter()
            .flat_map(|link| link.mounts.iter().map(mount))
            .collect(),
        reason: explanation.reason.clone(),
        diagnostics: explanation
            .diagnostics
            .iter()
            .map(JsonDiagnostic::from)
            .collect(),
        pins: explanation.daemon.as_ref().map(|daemon| {
            let pin = |pin: &piton_control::message::Pin| JsonPin {
                path: pin.path.clone(),
                left_ms: pin.left_ms,
            };
            daemon.pins.iter().map(pin).collect()
        }),
        settings: explanation.told.then_some("daemon"),
    };
    // Nothing in it can fail to be written: no maps with odd keys, and floats are finite.
    let mut text = serde_json::to_string_pretty(&answer).unwrap_or_default();
    text.push('\n');
    text
}

/// The map that has the entry, or those that were searched.
fn map(link: &Link) -> String {
    link.found
        .as_ref()
        .map_or_else(|| map_names(&link.point), |found| found.map.to_string())
}

fn mount(mount: &Mount) -> JsonMount {
    let replica = |server: &super::Server| JsonReplica {
        host: server.host.to_string(),
        path: server.path.to_string(),
        weight: server.weight,
        proximity: server.proximity,
        address: server.address.map(|address| address.to_string()),
        verdict: server.verdict,
        answer_ms: server.answer_ms,
        reason: server.reason.clone(),
        chosen: server.chosen,
        health: server.health.as_ref().map(health),
    };
    JsonMount {
        target: mount.target.to_string(),
        fstype: mount.fstype.to_string(),
        options: mount.options.iter().map(BString::to_string).collect(),
        source: mount.source.to_string(),
        replicas: mount.servers.iter().map(replica).collect(),
    }
}

fn health(health: &super::daemon::Health) -> JsonHealth {
    JsonHealth {
        circuit: health.circuit,
        state: health.state.clone(),
        since: health.since.clone(),
        failures: health.failures,
        error: health.error.clone(),
        again_ms: health.again_ms,
        drained: health.drained.is_some(),
    }
}
