//! What every front end offers.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bstr::{BStr, BString};
use piton_map::requester::Requester;
use piton_mount::perform::{Failure, Triggers};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::capabilities::Capabilities;
use crate::{Mark, Ticket};

/// Something reached the front end.
#[derive(Debug)]
pub enum Incoming {
    /// A process touched a trigger, or a key below it.
    Access {
        /// The trigger.
        trigger: TriggerId,
        /// The key; empty for direct and offset triggers.
        key: BString,
        /// Who.
        requester: Requester,
        /// For how many milliseconds it has waited already: 0, unless an earlier life took the
        /// request and did not answer it.
        waited_ms: u64,
        /// To be answered.
        ticket: Ticket,
    },
    /// A client asks whether a key exists, before it asks where it leads: only where mounts are
    /// behind links ([`Capabilities::in_place`]). The answer should come from the map alone.
    Exists {
        /// The trigger.
        trigger: TriggerId,
        /// The key.
        key: BString,
        /// Who.
        requester: Requester,
        /// To be answered: ready if it exists, whether or not it is mounted.
        ticket: Ticket,
    },
    /// A key was found idle; unmounting it is awaited.
    Expire {
        /// The trigger.
        trigger: TriggerId,
        /// The key; empty for direct and offset triggers.
        key: BString,
        /// To be answered.
        ticket: Ticket,
    },
}

/// Something mounted whose helper neither answers nor does anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Where users find it.
    pub path: BString,
    /// For how long it has done nothing.
    pub quiet: Duration,
    /// Until its helper is killed; none if that is not done.
    pub left: Option<Duration>,
}

/// What an earlier life left undone.
#[derive(Debug, Default)]
pub struct Resumed {
    /// What came in and was not answered, in the order in which it came in.
    pub incoming: Vec<Incoming>,
    /// Marks of work that was not finished, each with its trigger and key.
    pub marks: Vec<(TriggerId, BString, Mark)>,
}

/// A way for accesses to reach the engine. Installing and removing triggers is
/// [`Triggers`]; all of it may be called from any thread.
pub trait FrontEnd: Triggers + Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Where that is mounted which users find at a path: the path itself, where mounts are made in
    /// place; otherwise a path that links lead to.
    fn place(&self, visible: &BStr) -> BString {
        visible.into()
    }

    /// Has a key lead to its mount, though nobody was answered with that. Nothing where mounts are
    /// made in place.
    fn show(&self, trigger: TriggerId, key: &BStr) {
        let _ = (trigger, key);
    }

    /// Has a key lead nowhere, because its mount is about to go or is gone: whoever comes by asks.
    /// Nothing where mounts are made in place. Returns whether it led anywhere.
    fn hide(&self, trigger: TriggerId, key: &BStr) -> bool {
        let _ = (trigger, key);
        false
    }

    /// Becomes readable when [`FrontEnd::next`] has something.
    fn readable(&self) -> Option<BorrowedFd<'_>>;

    /// What came in next, if anything; never blocks.
    ///
    /// # Errors
    /// The front end is broken for good.
    fn next(&self) -> io::Result<Option<Incoming>>;

    /// Triggers of an earlier life at these mount points, with what is mounted in them.
    /// Nothing is changed.
    fn survey(&self, wanted: &[(BString, TriggerKind)]) -> crate::Survey;

    /// Says which triggers are about to be taken over, before the first one is: what is asked of one
    /// while another is taken over must not be answered as if it were gone.
    fn expect(&self, specs: &[TriggerSpec]) {
        let _ = specs;
    }

    /// Takes a trigger over that [`FrontEnd::survey`] found. Nobody who waits in it is lost, if
    /// what the earlier life read requests from was kept.
    ///
    /// # Errors
    /// It cannot be; it stays as it is.
    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure>;

    /// What an earlier life left undone. To be called once, when all that is to be adopted is, and
    /// before the first [`FrontEnd::next`]: a request of a trigger that is not known is answered
    /// with an error.
    fn resume(&self) -> Resumed;

    /// Notes that work begins at a key of a trigger (an empty key for direct and offset ones)
    /// that leaves something half done if this process dies; a successor's
    /// [`FrontEnd::survey`] then says that what is there is not whole. Nothing if it cannot be
    /// noted.
    fn mark(&self, trigger: TriggerId, key: &BStr) -> Option<Mark>;

    /// Shows these keys of an indirect trigger before they are mounted, and no others.
    fn list(&self, trigger: TriggerId, keys: &Arc<[BString]>);

    /// Changes the idle time of a trigger or of one key, in seconds; 0 is never.
    ///
    /// # Errors
    /// Not supported, or no such key.
    fn set_timeout(
        &self,
        trigger: TriggerId,
        key: Option<&BStr>,
        seconds: u32,
    ) -> Result<(), Failure>;

    /// Has idle keys expire one after the other, each as [`Incoming::Expire`], until none is
    /// left. Blocks until all were answered: never call it where they are answered.
    fn expire(&self, trigger: TriggerId, immediate: bool);

    /// What is mounted and does not answer, as far as this front end looks after helpers.
    fn silent(&self) -> Vec<Silent> {
        Vec::new()
    }

    /// Lets go of everything: what is mounted stays and works, triggers that stay answer ENOENT
    /// until a successor adopts them, and nobody is left waiting.
    fn detach(&self);

    /// After [`FrontEnd::detach`], when no successor is expected: takes mount points out of people's
    /// way that are still there and that nobody answers for from now on.
    fn abandon(&self) {}
}
