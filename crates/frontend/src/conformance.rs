//! What every front end must do, whatever it is made of. Tests call these with a fresh front
//! end and a way to touch a path; the kernel tier runs them on real triggers.

use std::time::{Duration, Instant};

use bstr::{BStr, ByteSlice};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::front_end::{FrontEnd, Incoming};

/// How long a touch may take to come in.
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins an access to a path by another process; does not wait for its end.
pub type Touch<'t> = &'t dyn Fn(&BStr);

/// An access to a key of an indirect trigger comes in with trigger and key, and a dropped
/// ticket answers it.
///
/// # Panics
/// If it does not.
pub fn indirect_access_names_the_key(front_end: &dyn FrontEnd, root: &BStr, touch: Touch<'_>) {
    let spec = spec(1, TriggerKind::Indirect, root);
    front_end
        .install(&spec)
        .expect("an indirect trigger can be installed");
    let mut path = root.to_owned();
    path.extend_from_slice(b"/some key");
    touch(path.as_bstr());
    match wait(front_end) {
        Incoming::Access {
            trigger,
            key,
            ticket,
            ..
        } => {
            assert_eq!(trigger, spec.id);
            assert_eq!(key, "some key");
            drop(ticket);
        }
        other => panic!("an access was expected, not {other:?}"),
    }
}

/// An access to a direct trigger comes in with the trigger and an empty key.
///
/// # Panics
/// If it does not.
pub fn direct_access_has_no_key(front_end: &dyn FrontEnd, path: &BStr, touch: Touch<'_>) {
    let spec = spec(2, TriggerKind::Direct, path);
    front_end
        .install(&spec)
        .expect("a direct trigger can be installed");
    touch(path);
    match wait(front_end) {
        Incoming::Access {
            trigger,
            key,
            ticket,
            ..
        } => {
            assert_eq!(trigger, spec.id);
            assert_eq!(key, "");
            ticket.fail(piton_engine::cause::Errno::ACCES);
        }
        other => panic!("an access was expected, not {other:?}"),
    }
}

/// A removed trigger is gone and can be installed again under another number.
///
/// # Panics
/// If it is not.
pub fn removed_is_gone(front_end: &dyn FrontEnd, root: &BStr) {
    let first = spec(3, TriggerKind::Indirect, root);
    front_end
        .install(&first)
        .expect("a trigger can be installed");
    front_end
        .remove(&first)
        .expect("an idle trigger can be removed");
    let second = spec(4, TriggerKind::Indirect, root);
    front_end.install(&second).expect("and installed again");
    front_end.remove(&second).expect("and removed again");
}

fn spec(id: u32, kind: TriggerKind, path: &BStr) -> TriggerSpec {
    TriggerSpec {
        id: TriggerId(id),
        kind,
        path: path.to_owned(),
        source: "conformance".into(),
        timeout: 300,
        strict_expire: false,
        mode: None,
        propagation: piton_map::options::Propagation::default(),
    }
}

fn wait(front_end: &dyn FrontEnd) -> Incoming {
    let begun = Instant::now();
    loop {
        if let Some(incoming) = front_end.next().expect("the front end works") {
            return incoming;
        }
        assert!(begun.elapsed() < PATIENCE, "the access did not come in");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use piton_map::requester::Requester;

    use super::*;
    use crate::SimFrontEnd;

    #[test]
    fn simulated_front_end_conforms() {
        let front_end = SimFrontEnd::default();
        let touch = |path: &BStr| {
            front_end.touch(path, Requester::default());
        };
        indirect_access_names_the_key(&front_end, BStr::new("/i"), &touch);
        direct_access_has_no_key(&front_end, BStr::new("/d"), &touch);
        removed_is_gone(&front_end, BStr::new("/r"));
    }
}
