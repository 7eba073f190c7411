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

/// What was read and not answered when the daemon died, and marked work that it did not finish,
/// is known to its successor: the front end that `succeed` makes of the first.
///
/// # Panics
/// If it is not.
pub fn a_successor_resumes<F: FrontEnd>(
    front_end: F,
    root: &BStr,
    touch: &dyn Fn(&F, &BStr),
    succeed: impl FnOnce(F) -> F,
) {
    let first = spec(5, TriggerKind::Indirect, root);
    front_end
        .install(&first)
        .expect("a trigger can be installed");
    let path = |key: &str| {
        let mut path = root.to_owned();
        path.extend_from_slice(key.as_bytes());
        path
    };
    touch(&front_end, path("/read").as_bstr());
    let unanswered = wait(&front_end);
    let done = front_end.mark(first.id, "done".into());
    done.expect("work can be marked").end();
    let mark = front_end.mark(first.id, "half".into());
    let _unfinished = mark.expect("work can be marked");
    // The dead do not answer.
    std::mem::forget(unanswered);
    let front_end = succeed(front_end);
    touch(&front_end, path("/waiting").as_bstr());

    let wanted = [(root.to_owned(), TriggerKind::Indirect)];
    let survey = front_end.survey(&wanted);
    assert_eq!(survey.orphans.len(), 1, "the trigger is found");
    let second = TriggerSpec {
        id: TriggerId(6),
        ..first
    };
    front_end
        .adopt(&second)
        .expect("what was found can be adopted");
    let resumed = front_end.resume();
    let mut marks = resumed.marks.into_iter();
    let (trigger, key, mark) = marks.next().expect("the mark was kept");
    assert_eq!((trigger, key), (second.id, "half".into()));
    assert!(marks.next().is_none(), "a mark that was ended is gone");
    mark.end();
    let mut incoming = resumed.incoming;
    // Otherwise both come again, in any order.
    if front_end.capabilities().keeps_requests {
        assert_eq!(incoming.len(), 1, "what was read is known, and only that");
    }
    while incoming.len() < 2 {
        incoming.push(wait(&front_end));
    }
    let mut asked = Vec::new();
    for incoming in incoming {
        match incoming {
            Incoming::Access {
                trigger,
                key,
                ticket,
                ..
            } => {
                assert_eq!(trigger, second.id);
                asked.push(key);
                ticket.fail(piton_engine::cause::Errno::ACCES);
            }
            other => panic!("an access was expected, not {other:?}"),
        }
    }
    if !front_end.capabilities().keeps_requests {
        asked.sort();
    }
    assert_eq!(asked, ["read", "waiting"]);
    let again = front_end.resume();
    assert!(again.incoming.is_empty(), "what is answered stays answered");
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
    use piton_mount::perform::Triggers;

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

    #[test]
    fn simulated_front_end_is_resumed() {
        let touch = |front_end: &SimFrontEnd, path: &BStr| {
            front_end.touch(path, Requester::default());
        };
        let succeed = |front_end: SimFrontEnd| {
            front_end.crash(70);
            front_end
        };
        let front_end = SimFrontEnd::default();
        a_successor_resumes(front_end, BStr::new("/i"), &touch, succeed);
    }

    #[test]
    fn who_waited_for_a_dead_daemon_has_waited_longer() {
        let front_end = SimFrontEnd::default();
        let spec = spec(1, TriggerKind::Direct, BStr::new("/d"));
        front_end.install(&spec).unwrap();
        let answer = front_end.touch(BStr::new("/d"), Requester::default());
        let ticket = front_end.next().unwrap();
        front_end.crash(70);
        drop(ticket);
        assert_eq!(
            *answer.unwrap().lock().unwrap(),
            None,
            "the dead are silent"
        );
        let resumed = front_end.resume();
        let [Incoming::Access { waited_ms, .. }] = resumed.incoming[..] else {
            panic!("{resumed:?}");
        };
        assert_eq!(waited_ms, 70);
    }
}
