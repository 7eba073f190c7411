//! What the keeper does about what happens: decisions only, so that they can be tested.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::{
    BACKOFF_FIRST, BACKOFF_MOST, HAND_OVER_MOST, LIFE_LEAST, SUBSTITUTE_AFTER, TRIES_BY_SIGNAL,
    TRIES_OF_UPGRADE,
};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The daemon is about to take up what waits: nobody else may read requests any more.
    TakingOver,
    /// All its mount points are in place.
    Ready,
    /// It has ended.
    Died(Death),
    /// It neither reads requests nor works on any.
    Stuck,
    /// It was told to end, and does.
    Ending,
    /// The program at this path shall take over.
    Upgrade(PathBuf),
    /// Time has passed.
    Time,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// By itself, with this exit status.
    Ended(i32),
    /// By a signal.
    Killed(i32),
    /// Not known: it was no child of ours.
    Unknown,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Start a daemon; the path of another program, or the keeper's own.
    Start(Option<PathBuf>),
    /// End the daemon at once.
    Kill,
    /// Ask it to finish what is under way and to leave the rest to its successor.
    AskToHandOver,
    /// Have somebody answer those who wait, each at its deadline.
    Substitute,
    /// No longer.
    EndSubstitute,
    /// Tell the daemon that nobody else reads requests.
    Go,
    /// The upgrade failed: say so.
    UpgradeFailed(PathBuf),
    /// Go on as this program.
    Become(PathBuf),
    /// The end, with this exit status.
    Leave(u8),
}

/// Where things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A daemon starts.
    Starting,
    /// It serves, since.
    Serving(Duration),
    /// It was asked to hand over, then.
    HandingOver(Duration),
    /// There is none until then.
    Dead(Duration),
    /// All is over.
    Over,
}

/// An upgrade that is under way.
#[derive(Clone, Debug)]
struct Upgrade {
    program: PathBuf,
    tries: u32,
}

/// The keeper's decisions. Times are counted from any fixed moment.
#[derive(Debug)]
pub(crate) struct Policy {
    state: State,
    /// Whether any daemon ever served.
    served: bool,
    /// Lives in a row that were too short.
    failures: u32,
    ending: bool,
    upgrade: Option<Upgrade>,
    /// Since when nobody has served.
    unserved: Option<Duration>,
    substitute: bool,
}

impl Policy {
    /// For a keeper that starts its first daemon now.
    pub(crate) fn first() -> (Self, Deed) {
        let policy = Self {
            state: State::Starting,
            served: false,
            failures: 0,
            ending: false,
            upgrade: None,
            unserved: None,
            substitute: false,
        };
        (policy, Deed::Start(None))
    }

    /// For a keeper of a daemon that serves already.
    pub(crate) fn of_living(now: Duration) -> Self {
        let (mut policy, _) = Self::first();
        policy.state = State::Serving(now);
        policy.served = true;
        policy
    }

    /// For a keeper that finds requests of an earlier life and no daemon.
    pub(crate) fn of_orphans(now: Duration) -> (Self, Deed) {
        let (mut policy, deed) = Self::first();
        policy.served = true;
        policy.unserved = Some(now);
        (policy, deed)
    }

    /// Whether the daemon is one that should make progress.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.state, State::Serving(_))
    }

    /// When to come back with [`Happening::Time`] at the latest.
    pub(crate) fn wake(&self) -> Option<Duration> {
        let state = match self.state {
            State::Dead(until) => Some(until),
            State::HandingOver(since) => Some(since + HAND_OVER_MOST),
            State::Starting | State::Serving(_) | State::Over => None,
        };
        let substitute = self.substitute_due().filter(|_| !self.substitute);
        state.into_iter().chain(substitute).min()
    }

    fn substitute_due(&self) -> Option<Duration> {
        self.unserved.map(|since| since + SUBSTITUTE_AFTER)
    }

    /// Decides.
    pub(crate) fn decide(&mut self, now: Duration, happening: Happening) -> Vec<Deed> {
        let taking_over = happening == Happening::TakingOver;
        let mut deeds = match happening {
            Happening::TakingOver => {
                self.unserved = None;
                Vec::new()
            }
            Happening::Ready => self.ready(now),
            Happening::Died(death) => self.died(now, death),
            Happening::Stuck if self.is_serving() => vec![Deed::Kill],
            Happening::Stuck => Vec::new(),
            Happening::Ending => {
                self.ending = true;
                Vec::new()
            }
            Happening::Upgrade(program) if self.is_serving() => {
                self.state = State::HandingOver(now);
                self.upgrade = Some(Upgrade { program, tries: 0 });
                vec![Deed::AskToHandOver]
            }
            Happening::Upgrade(program) => vec![Deed::UpgradeFailed(program)],
            Happening::Time => Vec::new(),
        };
        self.what_is_due(now, &mut deeds);
        if taking_over {
            deeds.push(Deed::Go);
        }
        deeds
    }

    fn what_is_due(&mut self, now: Duration, deeds: &mut Vec<Deed>) {
        match self.state {
            State::Dead(until) if until <= now => deeds.push(self.start()),
            State::HandingOver(since) if since + HAND_OVER_MOST <= now => {
                // Once: the next look finds it dead.
                self.state = State::HandingOver(now);
                deeds.push(Deed::Kill);
            }
            _ => {}
        }
        let due = self.substitute_due().is_some_and(|due| due <= now);
        if due != self.substitute && !matches!(self.state, State::Over) {
            self.substitute = due;
            deeds.push(match due {
                true => Deed::Substitute,
                false => Deed::EndSubstitute,
            });
        }
    }

    fn start(&mut self) -> Deed {
        self.state = State::Starting;
        Deed::Start(self.upgrade.as_ref().map(|upgrade| upgrade.program.clone()))
    }

    fn ready(&mut self, now: Duration) -> Vec<Deed> {
        self.state = State::Serving(now);
        self.served = true;
        self.unserved = None;
        match self.upgrade.take() {
            Some(upgrade) => vec![Deed::Become(upgrade.program)],
            None => Vec::new(),
        }
    }

    fn died(&mut self, now: Duration, death: Death) -> Vec<Deed> {
        let state = self.state;
        if death == Death::Ended(0) {
            return self.leave(0);
        }
        if self.ending {
            return self.leave(1);
        }
        if !self.served {
            // One that cannot start has said why; one that was killed may be tried again.
            match death {
                Death::Ended(status) => return self.leave(u8::try_from(status).unwrap_or(1)),
                _ if self.failures >= TRIES_BY_SIGNAL => return self.leave(1),
                _ => {}
            }
        } else if self.unserved.is_none() {
            self.unserved = Some(now);
        }
        let mut deeds = Vec::new();
        let handed_over = matches!(state, State::HandingOver(_));
        if let Some(upgrade) = &mut self.upgrade
            && !handed_over
        {
            upgrade.tries += 1;
            if upgrade.tries >= TRIES_OF_UPGRADE {
                deeds.push(Deed::UpgradeFailed(upgrade.program.clone()));
                self.upgrade = None;
                self.failures = 0;
            }
        }
        let lived = match state {
            State::Serving(since) => now.saturating_sub(since) >= LIFE_LEAST,
            State::HandingOver(_) => true,
            _ => false,
        };
        if lived {
            self.failures = 0;
            deeds.push(self.start());
        } else {
            let doublings = self.failures.min(16);
            let pause = BACKOFF_FIRST.saturating_mul(1 << doublings);
            self.failures += 1;
            self.state = State::Dead(now + pause.min(BACKOFF_MOST));
        }
        deeds
    }

    fn leave(&mut self, status: u8) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if self.substitute {
            self.substitute = false;
            deeds.push(Deed::EndSubstitute);
        }
        self.unserved = None;
        self.state = State::Over;
        deeds.push(Deed::Leave(status));
        deeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const KILLED: Happening = Happening::Died(Death::Killed(9));

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn serving() -> Policy {
        let (mut policy, deed) = Policy::first();
        assert_eq!(deed, Deed::Start(None));
        assert_eq!(policy.decide(at(10), Happening::Ready), []);
        policy
    }

    #[test]
    fn a_killed_daemon_has_a_successor_at_once() {
        let mut policy = serving();
        for life in 1..100 {
            let now = SECOND * life;
            assert_eq!(policy.decide(now, KILLED), [Deed::Start(None)]);
            let go = policy.decide(now + at(50), Happening::TakingOver);
            assert_eq!(go, [Deed::Go]);
            assert_eq!(policy.decide(now + at(60), Happening::Ready), []);
            assert_eq!(policy.wake(), None);
        }
    }

    #[test]
    fn one_that_dies_while_it_starts_is_tried_ever_more_rarely() {
        let mut policy = serving();
        let mut now = SECOND;
        assert_eq!(policy.decide(now, KILLED), [Deed::Start(None)]);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let deeds = policy.decide(now, Happening::Died(Death::Ended(101)));
            assert!(!deeds.contains(&Deed::Start(None)), "{deeds:?}");
            let State::Dead(until) = policy.state else {
                panic!("{:?}", policy.state)
            };
            pauses.push(until.saturating_sub(now));
            now = until;
            assert!(
                policy
                    .decide(now, Happening::Time)
                    .contains(&Deed::Start(None))
            );
        }
        assert_eq!(pauses[0], BACKOFF_FIRST);
        assert!(pauses.is_sorted());
        assert_eq!(*pauses.last().unwrap(), BACKOFF_MOST);
    }

    #[test]
    fn those_who_wait_get_a_substitute_and_lose_it_in_time() {
        let mut policy = serving();
        policy.decide(SECOND, KILLED);
        policy.decide(SECOND + at(20), KILLED);
        assert!(policy.wake().is_some_and(|wake| wake <= SECOND + at(120)));
        let deeds = policy.decide(SECOND + SUBSTITUTE_AFTER, Happening::Time);
        assert!(deeds.contains(&Deed::Substitute), "{deeds:?}");
        assert_eq!(
            policy.decide(SECOND * 3, Happening::TakingOver),
            [Deed::EndSubstitute, Deed::Go]
        );
        assert_eq!(policy.decide(SECOND * 3, Happening::Ready), []);
    }

    #[test]
    fn a_first_start_that_fails_is_the_end() {
        let (mut policy, _) = Policy::first();
        let died = Happening::Died(Death::Ended(1));
        assert_eq!(policy.decide(SECOND, died), [Deed::Leave(1)]);
    }

    #[test]
    fn a_first_start_that_is_killed_is_tried_again_for_a_while() {
        let (mut policy, _) = Policy::first();
        let mut now = SECOND;
        for _ in 0..TRIES_BY_SIGNAL {
            assert_eq!(policy.decide(now, KILLED), []);
            now += SECOND;
            assert_eq!(policy.decide(now, Happening::Time), [Deed::Start(None)]);
        }
        assert_eq!(policy.decide(now, KILLED), [Deed::Leave(1)]);
    }

    #[test]
    fn an_orderly_end_is_the_end() {
        let mut policy = serving();
        let died = Happening::Died(Death::Ended(0));
        assert_eq!(policy.decide(SECOND, died), [Deed::Leave(0)]);
        let mut policy = serving();
        assert_eq!(policy.decide(SECOND, Happening::Ending), []);
        assert_eq!(policy.decide(SECOND, KILLED), [Deed::Leave(1)]);
    }

    #[test]
    fn only_one_that_should_serve_is_killed_for_being_stuck() {
        let mut policy = serving();
        assert_eq!(policy.decide(SECOND, Happening::Stuck), [Deed::Kill]);
        assert_eq!(policy.decide(SECOND, KILLED), [Deed::Start(None)]);
        assert_eq!(policy.decide(SECOND, Happening::Stuck), []);
    }

    #[test]
    fn an_upgrade_goes_from_one_to_the_other() {
        let mut policy = serving();
        let new = PathBuf::from("/new");
        let upgrade = Happening::Upgrade(new.clone());
        assert_eq!(policy.decide(SECOND, upgrade), [Deed::AskToHandOver]);
        assert_eq!(
            policy.decide(SECOND, Happening::Died(Death::Ended(75))),
            [Deed::Start(Some(new.clone()))]
        );
        assert_eq!(
            policy.decide(SECOND * 2, Happening::Ready),
            [Deed::Become(new)]
        );
        assert_eq!(policy.decide(SECOND * 3, KILLED), [Deed::Start(None)]);
    }

    #[test]
    fn an_upgrade_that_fails_ends_with_the_old_program() {
        let mut policy = serving();
        let new = PathBuf::from("/new");
        policy.decide(SECOND, Happening::Upgrade(new.clone()));
        let failed = Happening::Died(Death::Ended(1));
        assert_eq!(
            policy.decide(SECOND, failed.clone()),
            [Deed::Start(Some(new.clone()))]
        );
        let mut now = SECOND;
        let mut said = Vec::new();
        for _ in 0..TRIES_OF_UPGRADE {
            said.extend(policy.decide(now, failed.clone()));
            now += SECOND / 2;
            said.extend(policy.decide(now, Happening::Time));
        }
        assert!(said.contains(&Deed::UpgradeFailed(new)), "{said:?}");
        assert!(said.contains(&Deed::Start(None)), "{said:?}");
    }

    #[test]
    fn who_does_not_hand_over_is_ended() {
        let mut policy = serving();
        policy.decide(SECOND, Happening::Upgrade("/new".into()));
        let late = SECOND + HAND_OVER_MOST;
        assert_eq!(policy.wake(), Some(late));
        assert_eq!(policy.decide(late, Happening::Time), [Deed::Kill]);
    }
}
