//! Triggers that go together with what they lie on, which is unmounted lazily.

use std::sync::Arc;

use autofs::Errno;
use bstr::ByteSlice;
use piton_mount::perform::{Detach, Failure};
use piton_plan::step::TriggerSpec;

use crate::kernel::{KernelFrontEnd, quiesce};
use crate::registry::{Entry, OWN_PATHS};

impl KernelFrontEnd {
    /// Has `detach` unmount them, and forgets them.
    pub(crate) fn forget(
        &self,
        triggers: &[TriggerSpec],
        detach: Detach<'_>,
    ) -> Result<(), Failure> {
        let entries: Vec<Entry> = {
            let registry = self.shared.read();
            let known = triggers.iter().filter_map(|spec| registry.get(spec.id));
            known.cloned().collect()
        };
        for entry in entries.iter().filter(|it| it.way_to_answer().is_none()) {
            quiesce(&entry.path);
            if Arc::strong_count(&entry.path) > OWN_PATHS + 1 {
                let path = entry.path.display();
                let why = format!("an answer through the trigger {path} is under way");
                return Err(Failure::new(Errno::BUSY.raw_os_error(), why));
            }
        }
        detach()?;
        for entry in &entries {
            // Who began to wait a moment ago is told that nothing is there any more.
            if let Some(root) = entry.way_to_answer()
                && let Err(error) = self.shared.control.make_catatonic(root)
            {
                let path = entry.path.as_os_str().as_encoded_bytes().as_bstr();
                tracing::debug!(%path, %error, "trigger not closed");
            }
            self.shared.write().remove(entry.trigger);
        }
        Ok(())
    }
}
