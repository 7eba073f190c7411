//! Whatever happens, in whatever order: no panic, tables that agree, one answer for each ticket
//! and in time.

mod common;

use std::collections::BTreeMap;

use bstr::BString;
use common::{Ticket, direct, done, existing, existing_mount, failure, found, indirect};
use piton_engine::config::{Configuration, Point, Settings};
use piton_engine::event::{Event, JobId, Outcome, Request, RequestId};
use piton_engine::limits::PLAN_APART;
use piton_engine::time::Millis;
use piton_engine::{Command, Engine};
use piton_map::dialect::Dialect;
use piton_map::lookup::Miss;
use piton_plan::facts::HostAnswers;
use piton_plan::planner::{PlanRequest, Planning, plan_silently};
use piton_plan::step::{TriggerId, TriggerKind};
use proptest::prelude::*;

const DEADLINE_MS: u64 = 10_000;
const UNMOUNT_DEADLINE_MS: u64 = 12_000;

/// One event, chosen by three numbers.
type Choice = (u8, u8, u8);

fn key(number: u8) -> BString {
    ["ann", "tree", "bare", "sub", "", "a/b"][usize::from(number % 6)].into()
}

fn line(number: u8) -> &'static str {
    [
        "-fstype=tmpfs :tmp",
        "-fstype=nfs srv:/x",
        "-fstype=tmpfs,strict / :root /a :a /b :b",
        "-fstype=tmpfs /a :in /b :b",
        "-fstype=autofs file:/maps/inner",
        "nonsense",
    ][usize::from(number % 6)]
}

fn points(number: u8) -> Vec<Point> {
    let mut points = Vec::new();
    if number & 1 != 0 {
        points.push(indirect("/home"));
    }
    if number & 2 != 0 {
        points.push(direct("/data"));
    }
    if number & 4 != 0 {
        points.push(direct("/home"));
    }
    // Below, above and inside the others.
    if number & 8 != 0 {
        points.push(direct("/home/ann"));
    }
    if number & 16 != 0 {
        points.push(indirect("/data/deep/er"));
    }
    if number & 32 != 0 {
        points.push(indirect("/data/deep"));
    }
    points
}

fn outcome(steps: u8, how: u8) -> Outcome {
    let upto = usize::from(steps % 8);
    let mut outcome = Outcome {
        done: (0..upto).map(done).collect(),
        ..Outcome::default()
    };
    let errnos = [0, 16, 22, 5, 110];
    let errno = errnos[usize::from(how % 5)];
    if errno != 0 {
        let mut failed = failure(errno);
        failed.index = upto;
        match how % 2 {
            0 => outcome.failed = Some(failed),
            _ => outcome.tolerated.push(failed),
        }
    }
    outcome
}

fn planning(line: &str) -> Planning {
    plan_silently(&PlanRequest {
        found: &found(&"ann".into(), line),
        key: "ann".into(),
        mount_point: "/home".into(),
        kind: TriggerKind::Indirect,
        options: &Default::default(),
        global_options: &[],
        append_options: true,
        dialect: &Dialect::LINUX,
        requester: &Default::default(),
        facts: &Default::default(),
    })
}

fn event(choice: Choice, ticket: u32) -> Event<Ticket> {
    let (kind, one, other) = choice;
    let trigger = TriggerId(u32::from(one % 24));
    let job = JobId(u64::from(one % 24));
    let result = |number: u8| match number % 3 {
        0 => Err(failure(16)),
        1 => Err(failure(22)),
        _ => Ok(()),
    };
    match kind % 16 {
        0..=2 => Event::Access {
            trigger,
            key: key(other),
            requester: Default::default(),
            waited_ms: u64::from(other) * 1_000,
            ticket: Ticket(ticket),
        },
        3 if other % 2 == 1 => Event::ExistsAsked {
            trigger,
            key: key(other / 2),
            requester: Default::default(),
            ticket: Ticket(ticket),
        },
        3 => Event::ExpireAsked {
            trigger,
            key: key(other),
            ticket: Ticket(ticket),
        },
        5 if other % 3 == 2 => Event::Planned {
            job,
            planning: Box::new(planning(line(one))),
        },
        4 | 5 => Event::Fetched {
            job,
            names: None,
            costly: other % 2 == 0,
            result: match other % 7 {
                6 => Err(Miss::NoSuchKey),
                number => Ok(found(&"key".into(), line(number))),
            },
        },
        6 if other % 2 == 0 => Event::Probed {
            job,
            answers: match other % 3 {
                0 => vec![],
                1 => vec![
                    piton_plan::probe::Answer::Serves {
                        micros: 1,
                        no_guests: false
                    };
                    2
                ],
                _ => vec![piton_plan::probe::Answer::Silent; 3],
            },
        },
        6 => Event::Resolved {
            job,
            answers: HostAnswers::new(),
        },
        7..=9 => Event::Performed {
            job,
            outcome: outcome(one, other),
        },
        10 if other % 5 == 4 => Event::Hidden { job },
        10 => Event::Inspected {
            job,
            mounted: other % 2 == 0,
        },
        11 if other % 5 == 4 => Event::Moved {
            interfaces: Vec::new(),
            routes: Vec::new(),
        },
        11 => Event::Installed {
            results: vec![(trigger, result(other))],
        },
        12 if other % 5 == 4 => Event::Listed {
            path: "/home".into(),
            listing: vec![key(one)].into(),
        },
        12 => Event::Removed {
            results: vec![(trigger, result(other))],
        },
        13 => Event::ExpireDone { trigger },
        14 => Event::Configure(Configuration {
            points: points(one),
            existing: match other % 4 {
                0 => vec![existing(
                    TriggerKind::Indirect,
                    "/home",
                    vec![existing_mount("ann", "/home/ann", Vec::new())],
                )],
                1 => vec![existing(TriggerKind::Offset, "/lost", Vec::new())],
                2 => {
                    let mut half = existing_mount("ann", "/home/ann", Vec::new());
                    half.whole = false;
                    vec![existing(TriggerKind::Indirect, "/home", vec![half])]
                }
                _ => Vec::new(),
            },
        }),
        _ => Event::Request {
            id: RequestId(u64::from(ticket)),
            request: match other % 16 {
                0..=4 => Request::Expire { path: None },
                5 => Request::Flush { path: None },
                6..=12 => Request::Unmount {
                    path: "/home/ann".into(),
                },
                13 => Request::Stop { detach: true },
                _ => Request::Stop { detach: false },
            },
        },
    }
}

/// What is owed, and by when.
#[derive(Default)]
struct Debts {
    tickets: BTreeMap<u32, u64>,
    requests: BTreeMap<u64, u64>,
}

impl Debts {
    fn enter(&mut self, event: &Event<Ticket>, now: u64) {
        match event {
            Event::Access { ticket, .. } | Event::ExistsAsked { ticket, .. } => {
                self.tickets.insert(ticket.0, now + DEADLINE_MS);
            }
            Event::ExpireAsked { ticket, .. } => {
                self.tickets.insert(ticket.0, now + UNMOUNT_DEADLINE_MS);
            }
            Event::Request { id, .. } => {
                self.requests.insert(id.0, now);
            }
            _ => {}
        }
    }

    fn pay(&mut self, commands: Vec<Command<Ticket>>) {
        for command in commands {
            match command {
                Command::Reply { ticket, .. } => {
                    assert!(self.tickets.remove(&ticket.0).is_some(), "answered twice");
                }
                Command::Respond { id, .. } => {
                    assert!(self.requests.remove(&id.0).is_some(), "answered twice");
                }
                _ => {}
            }
        }
    }
}

fn play(choices: &[Choice]) {
    for (whole_entries, plan_apart) in [(false, PLAN_APART), (true, PLAN_APART), (false, 0)] {
        play_with(
            choices,
            Settings {
                whole_entries,
                plan_apart,
                ..Settings::default()
            },
        );
    }
}

fn play_with(choices: &[Choice], settings: Settings) {
    let mut engine: Engine<Ticket> = Engine::new(settings);
    let mut debts = Debts::default();
    let mut now = 0;
    let feed = |engine: &mut Engine<Ticket>, debts: &mut Debts, now: u64, event| {
        debts.enter(&event, now);
        let mut commands = Vec::new();
        engine.handle(Millis(now), event, &mut commands);
        engine.audit().unwrap();
        debts.pay(commands);
        let overdue = debts.tickets.values().any(|deadline| *deadline < now);
        assert!(!overdue, "somebody waits too long");
    };
    let configuration = Configuration {
        points: points(3),
        existing: Vec::new(),
    };
    feed(
        &mut engine,
        &mut debts,
        now,
        Event::Configure(configuration),
    );
    for (number, choice) in choices.iter().enumerate() {
        let until = now + u64::from(choice.2) * 7;
        while let Some(wake) = engine.next_wake().filter(|wake| wake.0 <= until) {
            now = now.max(wake.0);
            feed(&mut engine, &mut debts, now, Event::Tick);
        }
        now = until;
        let event = event(*choice, number as u32);
        feed(&mut engine, &mut debts, now, event);
    }
    // Even if nothing is answered ever again, everybody is told and the stop ends.
    let request = Request::Stop { detach: false };
    let id = RequestId(u64::MAX);
    feed(&mut engine, &mut debts, now, Event::Request { id, request });
    while let Some(wake) = engine.next_wake() {
        now = now.max(wake.0);
        feed(&mut engine, &mut debts, now, Event::Tick);
    }
    assert!(engine.finished());
    assert!(debts.tickets.is_empty());
    assert!(debts.requests.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everybody_is_answered_once_and_in_time(
        choices in proptest::collection::vec(any::<Choice>(), 0..300)
    ) {
        play(&choices);
    }
}
