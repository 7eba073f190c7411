//! What the control socket asks of the loop.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use bstr::{BString, ByteSlice};
use piton_control::line::Word;
use piton_control::message::Left;
use piton_engine::command::Response;
use piton_engine::event::Request;
use piton_engine::time::Millis;

use super::convert::text;
use super::held;
use super::loader::Reason;
use super::messages::Question;
use super::runtime::Runtime;

impl Runtime {
    fn in_seconds(&self, seconds: u64) -> Millis {
        self.clock.now() + seconds.saturating_mul(1_000)
    }

    pub(super) fn ask(&mut self, question: Question) {
        let changes_care = matches!(
            question,
            Question::Drain { .. }
                | Question::Undrain(..)
                | Question::Pin(..)
                | Question::Unpin(..)
        );
        match question {
            Question::Status(answer) => {
                let now = self.clock.now();
                let _ = answer.send((self.engine.status(now), now.0));
            }
            Question::Plan(answer) => {
                let number = self.reload.question(answer);
                self.read_maps(Reason::Planned(number));
            }
            Question::Reload(answer) => {
                let number = self.reload.question(answer);
                self.read_maps(Reason::Asked(number));
            }
            Question::Expire(path, answer) => {
                self.request(Request::Expire { path }, Some(Asker::Left(answer)));
            }
            Question::Flush(path, answer) => {
                self.worker.maps.renew_exports();
                self.request(Request::Flush { path }, Some(Asker::Flushed(answer)));
            }
            Question::Unmount(path, answer) => {
                self.request(Request::Unmount { path }, Some(Asker::LeftIfAny(answer)));
            }
            Question::Drain {
                server,
                now,
                seconds,
                answer,
            } => {
                let until = seconds.map(|seconds| self.in_seconds(seconds));
                let request = Request::Drain { server, now, until };
                self.request(request, Some(Asker::Left(answer)));
            }
            Question::Undrain(server, answer) => {
                let request = Request::Undrain { server };
                self.request(request, Some(Asker::LeftIfAny(answer)));
            }
            Question::Pin(path, seconds, answer) => {
                let until = self.in_seconds(seconds);
                let request = Request::Pin { path, until };
                self.request(request, Some(Asker::LeftIfAny(answer)));
            }
            Question::Unpin(path, answer) => {
                let request = Request::Unpin { path };
                self.request(request, Some(Asker::LeftIfAny(answer)));
            }
            Question::Upgrade(program) => self.line.say(&Word::Upgrade(program)),
            Question::Stop { detach, answer } => {
                self.request(Request::Stop { detach }, Some(Asker::Left(answer)));
            }
        }
        self.work();
        if changes_care {
            let now = self.clock.now();
            held::write(&self.engine.status(now), now);
        }
    }

    /// What an operator asked an earlier daemon for a time still holds.
    pub(super) fn take_held(&mut self) {
        for request in held::read(self.clock.now()) {
            self.request(request, None);
        }
        self.work();
    }
}

fn lefts(left: Vec<(BString, Arc<str>)>) -> Vec<Left> {
    left.into_iter()
        .map(|(path, reason)| Left {
            path: text(path.as_bstr()),
            reason: reason.to_string(),
        })
        .collect()
}

/// Who waits for the response to a request, and in which form.
pub(super) enum Asker {
    /// What stayed as it was.
    Left(Sender<Vec<Left>>),
    /// The same, or nothing if nothing of ours is there.
    LeftIfAny(Sender<Option<Vec<Left>>>),
    /// How much was forgotten.
    Flushed(Sender<u64>),
}

impl Asker {
    pub(super) fn answer(self, response: Response) {
        let (left, flushed) = match response {
            Response::Done { left } => (Some(lefts(left)), 0),
            Response::Flushed(count) => (None, count),
            Response::NoSuchPlace => (None, 0),
        };
        // Who asked may be gone.
        match self {
            Self::Flushed(answer) => drop(answer.send(flushed)),
            Self::Left(answer) => drop(answer.send(left.unwrap_or_default())),
            Self::LeftIfAny(answer) => drop(answer.send(left)),
        }
    }
}
