//! From the performer's words to the engine's.

use bstr::BStr;
use piton_engine::cause::Errno;
use piton_engine::event::{DoneStep, Outcome, StepFailure};
use piton_frontend::Failure;
use piton_mount::perform;

/// What a list of steps came to.
pub(crate) fn outcome(from: perform::Outcome) -> Outcome {
    Outcome {
        done: from
            .done
            .into_iter()
            .map(|done| DoneStep {
                index: done.index,
                attempt: done.attempt,
                helper: done.helper,
            })
            .collect(),
        failed: from.failed.map(step_failure),
        tolerated: from.tolerated.into_iter().map(step_failure).collect(),
    }
}

/// A step that failed.
pub(crate) fn step_failure(from: Failure) -> StepFailure {
    StepFailure {
        index: from.index,
        errno: Errno(from.errno),
        text: from.text.into(),
    }
}

/// Bytes as text for messages; what is not UTF-8 is replaced.
pub(crate) fn text(bytes: &BStr) -> String {
    bytes.to_string()
}
