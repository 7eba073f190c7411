//! Who asks servers what they export, for the map `-hosts`.

use std::time::Instant;

use bstr::BStr;
use piton_source::hosts::{AskExports, Offered, Trouble};

/// Asks nobody, and says what would be asked: for `explain` and `check`.
#[derive(Debug)]
pub(crate) struct NotAsking;

impl AskExports for NotAsking {
    fn exports(&self, server: &BStr, _until: Instant) -> Result<Offered, Trouble> {
        Err(Trouble::NotAsked(
            format!(
                "{server} would be asked for its exports: its mountd, or else its NFS version 4"
            )
            .into(),
        ))
    }
}
