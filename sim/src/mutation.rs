//! Deliberately broken engines: the invariants are worth something only if they catch these.

use piton_engine::Command;
use piton_engine::command::Answer;
use piton_engine::event::{DoneStep, Outcome};
use piton_plan::probe::Answer as Answered;
use piton_plan::step::{Planned, Step, TriggerKind};

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Now and then an answer is never given.
    LostTicket,
    /// Mounts are reported done before they are.
    EarlyReady,
    /// A tree is unmounted without its last offset.
    ForgottenOffset,
    /// What was done is not taken back when a later step fails.
    NoUndo,
    /// Something is mounted although it is mounted already.
    DoubleMount,
    /// The kernel is told that something expired which is still there.
    EarlyExpiry,
    /// Of the mount points that come or go by a reload, only half do.
    HalfReload,
    /// An operator is never answered.
    LostResponse,
    /// Who comes during an unmount is told at its end that all is there.
    AnswerByUnmount,
    /// A successor takes each request up twice.
    ResumedTwice,
    /// What a dead daemon left half done is taken for whole.
    HalfTrusted,
    /// What no map wants any more is not looked for.
    StrayForgotten,
    /// Servers that are asked in the background are believed alive.
    Deaf,
    /// Servers that are asked in the background are believed dead.
    CriesWolf,
    /// What is unmounted is let go of instead.
    LetsGo,
    /// What was taken over is believed to be written to.
    TakenForWritable,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::LostTicket,
        Self::EarlyReady,
        Self::ForgottenOffset,
        Self::NoUndo,
        Self::DoubleMount,
        Self::EarlyExpiry,
        Self::HalfReload,
        Self::LostResponse,
        Self::AnswerByUnmount,
        Self::ResumedTwice,
        Self::HalfTrusted,
        Self::StrayForgotten,
        Self::Deaf,
        Self::CriesWolf,
        Self::LetsGo,
        Self::TakenForWritable,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LostTicket => "lost-ticket",
            Self::EarlyReady => "early-ready",
            Self::ForgottenOffset => "forgotten-offset",
            Self::NoUndo => "no-undo",
            Self::DoubleMount => "double-mount",
            Self::EarlyExpiry => "early-expiry",
            Self::HalfReload => "half-reload",
            Self::LostResponse => "lost-response",
            Self::AnswerByUnmount => "answer-by-unmount",
            Self::ResumedTwice => "resumed-twice",
            Self::HalfTrusted => "half-trusted",
            Self::StrayForgotten => "stray-forgotten",
            Self::Deaf => "deaf",
            Self::CriesWolf => "cries-wolf",
            Self::LetsGo => "lets-go",
            Self::TakenForWritable => "taken-for-writable",
        }
    }

    /// The mutation called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Breaks a command of the engine; `count` is the number of commands before it. `None`: it
    /// is forgotten.
    pub fn command<T>(self, command: Command<T>, count: u64) -> Option<Command<T>> {
        match (self, command) {
            (Self::LostTicket, Command::Reply { ticket, .. }) if count.is_multiple_of(7) => {
                std::mem::forget(ticket);
                None
            }
            (Self::EarlyExpiry, Command::Reply { ticket, answer }) => {
                let answer = match answer {
                    Answer::Failed(piton_engine::cause::Cause::Busy(_)) => Answer::Ready,
                    other => other,
                };
                Some(Command::Reply { ticket, answer })
            }
            (Self::LostResponse, Command::Respond { .. }) if count.is_multiple_of(2) => None,
            (_, command) => Some(command),
        }
    }

    /// Breaks a list of steps.
    pub fn steps(self, steps: &mut Vec<Planned>) {
        match self {
            Self::ForgottenOffset => {
                let offset = |planned: &Planned| match &planned.step {
                    Step::Remove(spec) => spec.kind == TriggerKind::Offset,
                    _ => false,
                };
                if let Some(at) = steps.iter().rposition(offset) {
                    steps[at].step = Step::RemoveDirectory { path: "/".into() };
                }
            }
            Self::DoubleMount => {
                let mount = |planned: &Planned| matches!(planned.step, Step::Mount { .. });
                if let Some(at) = steps.iter().position(mount) {
                    let again = steps[at].clone();
                    steps.push(again);
                }
            }
            Self::LetsGo => {
                for planned in steps {
                    if let Step::Unmount { target, .. } = &planned.step {
                        planned.step = Step::LetGo {
                            target: target.clone(),
                            triggers: Vec::new(),
                        };
                    }
                }
            }
            _ => {}
        }
    }

    /// What is heard in the background of what a server answers.
    pub fn heard(self, answer: Answered) -> Answered {
        match self {
            Self::Deaf => Answered::Serves {
                micros: 200,
                no_guests: false,
            },
            Self::CriesWolf => Answered::Silent,
            _ => answer,
        }
    }

    /// The outcome that is reported at once, before anything was done.
    pub fn early(self, steps: &[Planned]) -> Option<Outcome> {
        let mounts = steps
            .iter()
            .any(|planned| matches!(planned.step, Step::Mount { .. }));
        let done = |index| DoneStep {
            index,
            attempt: 0,
            helper: false,
        };
        (self == Self::EarlyReady && mounts).then(|| Outcome {
            done: (0..steps.len()).map(done).collect(),
            ..Outcome::default()
        })
    }
}
