//! What a daemon that runs here knows of the servers of an explanation, and what operators asked it
//! for. The explanation does not depend on it: where no daemon runs, nothing is said.

use std::time::{Duration, SystemTime};

use piton_control::message::{Drained, Pin, ServerState, Servers, Settings};
use piton_control::time::rfc3339;
use piton_control::{Client, ClientError, RuntimeDir};

use super::{Explanation, Server};

/// What a daemon has to say about an explanation.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// The pins that are at, above or below the path.
    pub(crate) pins: Vec<Pin>,
}

/// What a daemon knows of a server.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether it is asked: `closed`, `open` or `half-open` (docs/servers.md).
    pub(crate) circuit: &'static str,
    /// As `piton status` has it; `unknown`: nothing is known of it.
    pub(crate) state: String,
    /// Milliseconds that it has been so, where that is known.
    pub(crate) age_ms: Option<u64>,
    /// The same as a moment.
    pub(crate) since: Option<String>,
    /// How often it did not answer, in a row.
    pub(crate) failures: u64,
    /// What was said when it last did not answer.
    pub(crate) error: Option<String>,
    /// Milliseconds until it is asked again, if that is planned.
    pub(crate) again_ms: Option<u64>,
    /// It is drained.
    pub(crate) drained: Option<Drained>,
}

/// Asks the daemon, if one runs, and adds what it knows. The error says why one that runs did not
/// tell.
pub(super) fn look(explanation: &mut Explanation) -> Result<(), ClientError> {
    let known = match ask() {
        Ok(known) => known,
        Err(ClientError::NoDaemon { .. } | ClientError::NotListening { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let path = explanation.path.to_string();
    let links = explanation.chain.iter_mut();
    let mounts = links.flat_map(|link| &mut link.mounts);
    for server in mounts.flat_map(|mount| &mut mount.servers) {
        server.health = Some(of(server, &known));
    }
    let near = |pin: &Pin| piton_path::are_related(&pin.path, &path);
    explanation.daemon = Some(Daemon {
        pins: known.pins.into_iter().filter(near).collect(),
    });
    Ok(())
}

/// What the daemon that runs here was told at its start; `None`: none runs, or it does not tell.
pub(super) fn settings() -> Option<Settings> {
    let mut client = Client::connect(&RuntimeDir::from_env()).ok()?;
    client.settings().ok()
}

fn ask() -> Result<Servers, ClientError> {
    Client::connect(&RuntimeDir::from_env())?.servers()
}

fn of(server: &Server, known: &Servers) -> Health {
    let host = server.host.to_string();
    let drained = known.drained.iter().find(|it| it.server == host).cloned();
    let Some(state) = known.servers.iter().find(|it| it.host == host) else {
        return Health {
            circuit: "closed",
            state: "unknown".into(),
            age_ms: None,
            since: None,
            failures: 0,
            error: None,
            again_ms: None,
            drained,
        };
    };
    let age_ms = (state.state != "unknown").then_some(state.age_ms);
    let moment = |age| rfc3339(SystemTime::now() - Duration::from_millis(age));
    Health {
        circuit: circuit(state),
        state: state.state.clone(),
        age_ms,
        since: age_ms.map(moment),
        failures: state.failures,
        error: state.last_error.clone(),
        again_ms: Some(state.left_ms).filter(|left| *left > 0),
        drained,
    }
}

/// Whether nobody waits for the server, everybody may, or one question decides.
fn circuit(server: &ServerState) -> &'static str {
    match server.state.as_str() {
        "dead" => "open",
        "being asked" | "to be asked" => "half-open",
        _ => "closed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str) -> Server {
        Server {
            host: host.into(),
            path: "/x".into(),
            weight: 0,
            proximity: "net",
            address: None,
            verdict: "unasked",
            answer_ms: None,
            reason: String::new(),
            chosen: true,
            health: None,
        }
    }

    #[test]
    fn each_state_is_one_of_the_circuit() {
        for (state, expected) in [
            ("alive", "closed"),
            ("doubtful", "closed"),
            ("unknown", "closed"),
            ("dead", "open"),
            ("being asked", "half-open"),
            ("to be asked", "half-open"),
        ] {
            let known = Servers {
                servers: vec![ServerState {
                    host: "nas".into(),
                    state: state.into(),
                    age_ms: 5_000,
                    ..ServerState::default()
                }],
                ..Servers::default()
            };
            let health = of(&server("nas"), &known);
            assert_eq!(health.circuit, expected, "{state}");
            assert_eq!(health.since.is_some(), state != "unknown", "{state}");
            assert_eq!(of(&server("other"), &known).state, "unknown");
        }
    }
}
