//! What every front end must do, whatever it is made of. Tests call [`conforms`] with a fresh front
//! end and the [`World`] around it; the kernel tier runs it on real triggers. Where front ends differ,
//! what they must do follows from their [`Capabilities`](crate::Capabilities).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_map::requester::Requester;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::capabilities::Unanswered;
use crate::front_end::{FrontEnd, Incoming};
use crate::ticket::Ticket;

/// How long a touch may take to come in.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an access ended, to be waited for.
pub type Ending = Box<dyn FnOnce() -> Result<(), i32> + Send>;

/// What is around a front end: places, processes, and file systems.
pub trait World: Sync {
    /// A place where a trigger can be put, as an absolute path.
    fn place(&self, name: &str) -> BString;

    /// Begins an access to a path by another process, which looks once.
    fn touch(&self, path: &BStr) -> Ending;

    /// The user to whom that process belongs.
    fn user(&self) -> u32;

    /// The names that a directory shows.
    fn names(&self, path: &BStr) -> Vec<BString>;

    /// Mounts something where the front end has mounts made for a key of a trigger.
    fn mount(&self, front_end: &dyn FrontEnd, path: &BStr);

    /// Unmounts it.
    fn unmount(&self, front_end: &dyn FrontEnd, path: &BStr);

    /// Has everything that is mounted for a trigger expire, and waits until that was answered.
    fn expire(&self, front_end: &dyn FrontEnd, trigger: TriggerId) {
        front_end.expire(trigger, true);
    }
}

/// Everything that can be asked of a front end without its death ([`a_successor_resumes`]).
///
/// # Panics
/// It does not conform.
pub fn conforms(front_end: &dyn FrontEnd, world: &dyn World) {
    indirect_access_names_the_key(front_end, world);
    direct_access_has_no_key(front_end, world);
    offsets_are_refused_or_triggers(front_end, world);
    removed_is_gone(front_end, world);
    errors_arrive(front_end, world);
    each_gets_its_own_answer(front_end, world);
    listed_keys_are_shown_and_asked_for(front_end, world);
    what_is_ready_is_there_until_it_expires(front_end, world);
}

/// An access to a key of an indirect trigger comes in with trigger and key and with who asks, and a
/// dropped ticket answers it.
fn indirect_access_names_the_key(front_end: &dyn FrontEnd, world: &dyn World) {
    let can = front_end.capabilities();
    let spec = installed(front_end, world, 1, TriggerKind::Indirect);
    let ending = world.touch(below(&spec, "some key").as_bstr());
    let access = access(front_end);
    assert_eq!((access.trigger, access.key), (spec.id, "some key".into()));
    if can.requesters {
        assert_eq!(access.requester.uid, world.user(), "it is known who asks");
    }
    assert_eq!(access.requester.pid != 0, can.processes);
    drop(access.ticket);
    assert_eq!(ending(), Err(Errno::IO.0), "a dropped ticket answers");
    front_end.remove(&spec).expect("it can be removed");
}

/// An access to a direct trigger comes in with the trigger and an empty key.
fn direct_access_has_no_key(front_end: &dyn FrontEnd, world: &dyn World) {
    let spec = spec(2, TriggerKind::Direct, world.place("2").as_bstr());
    let installed = front_end.install(&spec);
    if !front_end.capabilities().direct {
        return refused(installed);
    }
    installed.expect("a direct trigger can be installed");
    let ending = world.touch(spec.path.as_bstr());
    let access = access(front_end);
    assert_eq!((access.trigger, access.key), (spec.id, "".into()));
    fails(front_end, access.ticket, ending, Errno::ACCES);
    front_end.remove(&spec).expect("it can be removed");
}

/// A trigger for a part of an entry can be installed, or is refused.
fn offsets_are_refused_or_triggers(front_end: &dyn FrontEnd, world: &dyn World) {
    let spec = spec(3, TriggerKind::Offset, world.place("3").as_bstr());
    let installed = front_end.install(&spec);
    if !front_end.capabilities().offsets {
        return refused(installed);
    }
    installed.expect("an offset can be installed");
    let ending = world.touch(spec.path.as_bstr());
    let access = access(front_end);
    assert_eq!((access.trigger, access.key), (spec.id, "".into()));
    fails(front_end, access.ticket, ending, Errno::ACCES);
    front_end.remove(&spec).expect("it can be removed");
}

/// A removed trigger is gone and can be installed again under another number.
fn removed_is_gone(front_end: &dyn FrontEnd, world: &dyn World) {
    let first = installed(front_end, world, 4, TriggerKind::Indirect);
    front_end
        .remove(&first)
        .expect("an idle trigger can be removed");
    let second = TriggerSpec {
        id: TriggerId(5),
        ..first
    };
    front_end.install(&second).expect("and installed again");
    front_end.remove(&second).expect("and removed again");
}

/// Errors that all front ends have words for.
const COMMON: [Errno; 3] = [Errno::NOENT, Errno::ACCES, Errno::INVAL];

/// Errors that only some have.
const OTHERS: [Errno; 3] = [Errno::TIMEDOUT, Errno::HOSTDOWN, Errno::CONNREFUSED];

/// Each error reaches the process that asked.
fn errors_arrive(front_end: &dyn FrontEnd, world: &dyn World) {
    let can = front_end.capabilities();
    let spec = installed(front_end, world, 6, TriggerKind::Indirect);
    let others = OTHERS.map(|errno| (errno, if can.errors { errno } else { Errno::IO }));
    let all = COMMON.map(|errno| (errno, errno)).into_iter().chain(others);
    for (number, (errno, told)) in all.enumerate() {
        let ending = world.touch(below(&spec, &format!("key{number}")).as_bstr());
        let met = answer(front_end, access(front_end).ticket, ending, errno);
        assert_eq!(met, Err(told.0), "{errno:?}");
    }
    front_end.remove(&spec).expect("it can be removed");
}

/// A slow key delays no other, and answers are not mixed up.
fn each_gets_its_own_answer(front_end: &dyn FrontEnd, world: &dyn World) {
    let spec = installed(front_end, world, 7, TriggerKind::Indirect);
    let first = world.touch(below(&spec, "slow").as_bstr());
    let slow = access(front_end);
    assert_eq!(slow.key, "slow");
    let second = world.touch(below(&spec, "quick").as_bstr());
    let quick = access_to(front_end, "quick");
    fails(front_end, quick.ticket, second, Errno::ACCES);
    fails(front_end, slow.ticket, first, Errno::NOENT);
    front_end.remove(&spec).expect("it can be removed");
}

/// Keys can be shown before they are mounted, and a look at their names mounts nothing.
fn listed_keys_are_shown_and_asked_for(front_end: &dyn FrontEnd, world: &dyn World) {
    let spec = installed(front_end, world, 8, TriggerKind::Indirect);
    for keys in [&["ann", "bob"][..], &["bob", "eve"], &[]] {
        let wanted: Arc<[BString]> = keys.iter().map(|key| BString::from(*key)).collect();
        front_end.list(spec.id, &wanted);
        let mut shown = world.names(spec.path.as_bstr());
        shown.sort();
        assert_eq!(shown, *wanted);
        let came = front_end.next().expect("the front end works");
        assert!(came.is_none(), "looking mounts nothing: {came:?}");
    }
    front_end.list(spec.id, &Arc::from(["ann".into()]));
    let ending = world.touch(below(&spec, "ann").as_bstr());
    fails(front_end, access(front_end).ticket, ending, Errno::ACCES);
    front_end.list(spec.id, &Arc::from([]));
    front_end.remove(&spec).expect("it can be removed");
}

/// Whoever asked finds what is mounted; when that has expired it is asked for again.
fn what_is_ready_is_there_until_it_expires(front_end: &dyn FrontEnd, world: &dyn World) {
    let spec = installed(front_end, world, 9, TriggerKind::Indirect);
    let path = below(&spec, "ann");
    let path = path.as_bstr();
    let ending = world.touch(path);
    let ticket = access(front_end).ticket;
    world.mount(front_end, path);
    ticket.ready();
    assert_eq!(ending(), Ok(()));
    thread::scope(|scope| {
        let round = scope.spawn(|| world.expire(front_end, spec.id));
        match wait(front_end) {
            Incoming::Expire {
                trigger,
                key,
                ticket,
            } => {
                assert_eq!((trigger, key), (spec.id, "ann".into()));
                world.unmount(front_end, path);
                ticket.ready();
            }
            other => panic!("an expiry was expected, not {other:?}"),
        }
        round.join().expect("the round ends");
    });
    let ending = world.touch(path);
    let again = access_to(front_end, "ann");
    fails(front_end, again.ticket, ending, Errno::NOENT);
    front_end.remove(&spec).expect("it can be removed");
}

/// Marked work that a daemon did not finish is known to its successor, the front end that `succeed`
/// makes of the first; and so is what was asked and not answered, or it is asked again, or whoever
/// waited has an error.
///
/// # Panics
/// If it is not so.
pub fn a_successor_resumes<F: FrontEnd>(
    front_end: F,
    world: &dyn World,
    touch: &dyn Fn(&F, &BStr) -> Ending,
    succeed: impl FnOnce(F) -> F,
) {
    let first = installed(&front_end, world, 10, TriggerKind::Indirect);
    let read = touch(&front_end, below(&first, "read").as_bstr());
    let unanswered = access(&front_end);
    let done = front_end.mark(first.id, "done".into());
    done.expect("work can be marked").end();
    let mark = front_end.mark(first.id, "half".into());
    let _unfinished = mark.expect("work can be marked");
    // The dead do not answer.
    std::mem::forget(unanswered);
    let front_end = succeed(front_end);
    let what = front_end.capabilities().unanswered;
    let waiting = || touch(&front_end, below(&first, "waiting").as_bstr());
    let early = (what != Unanswered::HasAnError).then(waiting);

    let wanted = [(first.path.clone(), TriggerKind::Indirect)];
    let survey = front_end.survey(&wanted);
    assert_eq!(survey.orphans.len(), 1, "the trigger is found");
    let second = TriggerSpec {
        id: TriggerId(11),
        ..first.clone()
    };
    front_end.expect(std::slice::from_ref(&second));
    front_end
        .adopt(&second)
        .expect("what was found can be adopted");
    let resumed = front_end.resume();
    let mut marks = resumed.marks.into_iter();
    let (trigger, key, mark) = marks.next().expect("the mark was kept");
    assert_eq!((trigger, key), (second.id, "half".into()));
    assert!(marks.next().is_none(), "a mark that was ended is gone");
    mark.end();

    let expected = match what {
        Unanswered::Answered => {
            assert_eq!(
                resumed.incoming.len(),
                1,
                "what was read is known, and only that"
            );
            vec!["read", "waiting"]
        }
        Unanswered::AsksAgain => vec!["read", "waiting"],
        Unanswered::HasAnError => vec!["waiting"],
    };
    let late = early.unwrap_or_else(waiting);
    let mut incoming = resumed.incoming.into_iter().map(Access::of);
    let mut asked = Vec::new();
    while asked.len() < expected.len() {
        let access = incoming.next().unwrap_or_else(|| access(&front_end));
        assert_eq!(access.trigger, second.id);
        asked.push(access.key);
        access.ticket.fail(Errno::ACCES);
    }
    // Those who ask again do it in any order.
    if what == Unanswered::AsksAgain {
        asked.sort();
    }
    assert_eq!(asked, expected);
    assert_eq!(late(), Err(Errno::ACCES.0));
    match what {
        Unanswered::HasAnError => assert!(read().is_err()),
        _ => assert_eq!(read(), Err(Errno::ACCES.0)),
    }
    let again = front_end.resume();
    assert!(again.incoming.is_empty(), "what is answered stays answered");
}

/// An access that came in.
struct Access {
    trigger: TriggerId,
    key: BString,
    requester: Requester,
    ticket: Ticket,
}

impl Access {
    fn of(incoming: Incoming) -> Self {
        match incoming {
            Incoming::Access {
                trigger,
                key,
                requester,
                ticket,
                ..
            } => Self {
                trigger,
                key,
                requester,
                ticket,
            },
            other => panic!("an access was expected, not {other:?}"),
        }
    }
}

/// The next access.
fn access(front_end: &dyn FrontEnd) -> Access {
    Access::of(wait(front_end))
}

/// The next access to a key.
fn access_to(front_end: &dyn FrontEnd, key: &str) -> Access {
    let access = access(front_end);
    assert_eq!(access.key, key);
    access
}

/// An access fails with this errno, and so does the process.
fn fails(front_end: &dyn FrontEnd, ticket: Ticket, ending: Ending, errno: Errno) {
    assert_eq!(answer(front_end, ticket, ending, errno), Err(errno.0));
}

/// Answers an access with an error, and more of them until the process ends: one that finds that a name
/// is gone may ask for it once more.
fn answer(
    front_end: &dyn FrontEnd,
    ticket: Ticket,
    ending: Ending,
    errno: Errno,
) -> Result<(), i32> {
    ticket.fail(errno);
    let ending = thread::spawn(ending);
    while !ending.is_finished() {
        match front_end.next().expect("the front end works") {
            Some(Incoming::Exists { ticket, .. }) => ticket.ready(),
            Some(incoming) => Access::of(incoming).ticket.fail(errno),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    ending.join().expect("the process ends")
}

/// A trigger at a place of its own.
fn installed(
    front_end: &dyn FrontEnd,
    world: &dyn World,
    id: u32,
    kind: TriggerKind,
) -> TriggerSpec {
    let spec = spec(id, kind, world.place(&id.to_string()).as_bstr());
    front_end
        .install(&spec)
        .expect("the trigger can be installed");
    spec
}

fn refused(installed: Result<(), crate::Failure>) {
    let failure = installed.expect_err("what it cannot do it refuses");
    let unsupported = rustix::io::Errno::OPNOTSUPP.raw_os_error();
    assert_eq!(failure.errno, unsupported, "{failure:?}");
}

fn below(spec: &TriggerSpec, key: &str) -> BString {
    let mut path = spec.path.clone();
    path.push(b'/');
    path.extend_from_slice(key.as_bytes());
    path
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
        match front_end.next().expect("the front end works") {
            // Behind links that is asked first.
            Some(Incoming::Exists { ticket, .. }) => ticket.ready(),
            Some(incoming) => return incoming,
            None => {}
        }
        assert!(begun.elapsed() < PATIENCE, "the access did not come in");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use piton_mount::perform::Triggers;

    use super::*;
    use crate::SimFrontEnd;

    /// Processes in memory.
    struct InMemory(SimFrontEnd);

    fn touch(front_end: &SimFrontEnd, path: &BStr) -> Ending {
        let answer = front_end.touch(
            path,
            Requester {
                uid: 1000,
                pid: 7,
                ..Requester::default()
            },
        );
        Box::new(move || {
            let answer = answer.expect("a trigger covers the path");
            let answer = answer.lock().unwrap().expect("it was answered");
            answer.map_err(|errno| errno.0)
        })
    }

    impl World for InMemory {
        fn place(&self, name: &str) -> BString {
            format!("/{name}").into()
        }

        fn touch(&self, path: &BStr) -> Ending {
            touch(&self.0, path)
        }

        fn user(&self) -> u32 {
            1000
        }

        fn names(&self, path: &BStr) -> Vec<BString> {
            self.0.listed(path).to_vec()
        }

        fn mount(&self, _: &dyn FrontEnd, _: &BStr) {}

        fn unmount(&self, _: &dyn FrontEnd, _: &BStr) {}

        fn expire(&self, _: &dyn FrontEnd, trigger: TriggerId) {
            self.0.ask_expire(trigger, "ann".into());
        }
    }

    #[test]
    fn simulated_front_end_conforms() {
        let front_end = SimFrontEnd::default();
        conforms(&front_end, &InMemory(front_end.clone()));
    }

    #[test]
    fn simulated_front_end_is_resumed() {
        let succeed = |front_end: SimFrontEnd| {
            front_end.crash(70);
            front_end
        };
        let front_end = SimFrontEnd::default();
        let world = InMemory(front_end.clone());
        a_successor_resumes(front_end, &world, &touch, succeed);
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
