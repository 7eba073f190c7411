//! What operators asked for a time (drained servers, pins), kept for the next daemon.
//!
//! A file in the runtime directory, which is gone after a reboot. It is no state of mounts: what is
//! mounted is learnt from the kernel alone. A file that cannot be read or written costs only this.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bstr::ByteSlice;
use piton_control::RuntimeDir;
use piton_engine::event::Request;
use piton_engine::status::Status;
use piton_engine::time::Millis;
use serde::{Deserialize, Serialize};

use super::limits::HELD_BYTES;

/// The whole file. Ends are seconds since 1970: the daemon's own clock ends with it.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Held {
    drained: Vec<Drained>,
    pins: Vec<Pin>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Drained {
    server: String,
    now: bool,
    until: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Pin {
    path: String,
    until: u64,
}

fn file() -> PathBuf {
    RuntimeDir::from_env().path().join("held")
}

fn seconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// Writes down what holds at `now`. The file is small and in memory.
pub(super) fn write(status: &Status, now: Millis) {
    let end = |until: Millis| seconds_now() + until.since(now).div_ceil(1_000);
    let held = Held {
        drained: status
            .drained
            .iter()
            .map(|drain| Drained {
                server: drain.server.to_str_lossy().into_owned(),
                now: drain.now,
                until: drain.until.map(end),
            })
            .collect(),
        pins: status
            .pins
            .iter()
            .map(|pin| Pin {
                path: pin.path.to_str_lossy().into_owned(),
                until: end(pin.until),
            })
            .collect(),
    };
    let (file, new) = (file(), file().with_extension("new"));
    let written = serde_json::to_vec(&held)
        .map_err(std::io::Error::from)
        .and_then(|text| std::fs::write(&new, text))
        .and_then(|()| std::fs::rename(&new, &file));
    if let Err(error) = written {
        let file = file.display();
        tracing::warn!(%file, %error, "a successor will not know what is drained and pinned");
    }
}

/// What an earlier daemon wrote down and still holds, as requests.
pub(super) fn read(now: Millis) -> Vec<Request> {
    let file = file();
    let small = std::fs::metadata(&file).is_ok_and(|it| it.len() <= HELD_BYTES);
    let text = if small {
        std::fs::read(&file)
    } else {
        return Vec::new();
    };
    let held: Held = match text.map(|text| serde_json::from_slice(&text)) {
        Ok(Ok(held)) => held,
        _ => {
            tracing::warn!(file = %file.display(), "not what a daemon wrote, so left aside");
            return Vec::new();
        }
    };
    let today = seconds_now();
    let end = |until: u64| {
        let left = until.checked_sub(today).filter(|left| *left > 0)?;
        Some(now + left.saturating_mul(1_000))
    };
    let drained = held.drained.into_iter().filter_map(|drain| {
        let until = match drain.until {
            Some(until) => Some(end(until)?),
            None => None,
        };
        Some(Request::Drain {
            server: drain.server.into(),
            now: drain.now,
            until,
        })
    });
    let pins = held.pins.into_iter().filter_map(|pin| {
        Some(Request::Pin {
            path: pin.path.into(),
            until: end(pin.until)?,
        })
    });
    drained.chain(pins).collect()
}
