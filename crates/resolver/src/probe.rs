//! Servers are asked whether they serve: all at once, in one thread, on sockets that never block.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use piton_plan::probe::{Answer, Target};
use piton_plan::select::as_fast_as;
use piton_rpc::exchange::Exchange;
use piton_rpc::message::Procedure;
use piton_rpc::{Error, NFS, NFS_PORT, Protocol, limits as rpc, nfs4, portmap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::limits;

/// How long it is waited for those who have not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until the best that is possible has answered, or this long after the first.
    Grace(Duration),
    /// Until all have.
    All,
}

/// Asks all targets; an answer for each, in their order.
pub(crate) fn probe(targets: &[Target], patience: Patience, until: Instant) -> Vec<Answer> {
    let now = Instant::now();
    let mut all: Vec<Asking> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let mut asking = Asking::new(target, now);
        if is_second(targets, target) {
            asking.begin = now + limits::STAGGER;
        }
        if index >= limits::TARGETS {
            asking.state = State::Known(Answer::Unheard);
        }
        all.push(asking);
    }
    let mut first: Option<Instant> = None;
    loop {
        begin_those_due(&mut all);
        let now = Instant::now();
        if first.is_none() && all.iter().any(|asking| asking.serves()) {
            first = Some(now);
        }
        let end = match (patience, first) {
            (Patience::Grace(grace), Some(first)) => until.min(first + grace),
            _ => until,
        };
        let settled = is_settled(&all, patience);
        if let Some(noise) = settled
            .then(|| noise(&all))
            .flatten()
            .filter(|it| *it > now)
        {
            wait(&mut all, noise.min(end));
            continue;
        }
        if settled || now >= end {
            // Who had all the time that there was is silent; others were not waited for.
            let unheard = if now >= until && (first.is_none() || patience == Patience::All) {
                Answer::Silent
            } else {
                Answer::Unheard
            };
            hear_asides(&mut all, until);
            let answers = all.into_iter();
            return answers.map(|asking| asking.answer(&unheard)).collect();
        }
        wait(&mut all, end);
    }
}

/// Waits a moment for what the best of those that serve say of their roots: it was asked together
/// with the rest, and so is about to come.
fn hear_asides(all: &mut [Asking], until: Instant) {
    let serving = all.iter().filter(|it| it.serves());
    let Some(best) = serving.map(|it| it.target.rank).min() else {
        return;
    };
    let end = until.min(Instant::now() + limits::ASIDE);
    loop {
        let open: Vec<usize> = (0..all.len())
            .filter(|index| all[*index].target.rank == best && all[*index].aside.is_some())
            .collect();
        let left = end.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() {
            return;
        }
        let mut fds: Vec<PollFd> = all
            .iter()
            .filter(|it| it.target.rank == best)
            .filter_map(|it| it.aside.as_ref())
            .map(|exchange| PollFd::from_borrowed_fd(exchange.socket(), exchange.wants()))
            .collect();
        let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        drop(fds);
        for index in open {
            all[index].hear_aside();
        }
    }
}

/// Whether a target's other family is asked a little earlier: IPv6 is wanted where both serve.
fn is_second(targets: &[Target], target: &Target) -> bool {
    let other = |other: &Target| other.rank == target.rank && other.address.is_ipv6();
    target.address.is_ipv4() && targets.iter().any(other)
}

/// Whether nothing that is still to be heard would change the choice.
fn is_settled(all: &[Asking], patience: Patience) -> bool {
    let open = || all.iter().filter(|asking| asking.is_open());
    if open().next().is_none() {
        return true;
    }
    let serving = all.iter().filter(|asking| asking.serves());
    let best = serving.map(|asking| asking.target.rank).min();
    patience != Patience::All
        && best.is_some_and(|best| open().all(|asking| asking.target.rank >= best))
}

/// Until when answers of the best rank would count as fast as the quickest, if some are open: who of
/// them is taken must not hang on noise.
fn noise(all: &[Asking]) -> Option<Instant> {
    let serving = |asking: &&Asking| asking.serves();
    let best = all.iter().filter(serving).map(|it| it.target.rank).min()?;
    let asked = |it: &&Asking| matches!(it.state, State::Asked { .. });
    let open: Vec<&Asking> = all
        .iter()
        .filter(asked)
        .filter(|it| it.target.rank == best)
        .collect();
    let quickest = all.iter().filter_map(|it| match &it.state {
        State::Known(Answer::Serves { micros, .. }) if it.target.rank == best => Some(*micros),
        _ => None,
    });
    let limit = Duration::from_micros(as_fast_as(quickest.min()?).into());
    open.iter().map(|it| it.begin + limit).max()
}

/// Begins to ask those whose time has come, and those whose other family has failed.
fn begin_those_due(all: &mut [Asking]) {
    let now = Instant::now();
    for index in 0..all.len() {
        let State::Waiting = all[index].state else {
            continue;
        };
        let rank = all[index].target.rank;
        let earlier = |other: &&Asking| {
            other.target.rank == rank && other.target.address.is_ipv6() && other.is_open()
        };
        let alone = all[index].begin > now && !all.iter().any(|it| earlier(&it));
        if alone || all[index].begin <= now {
            all[index].start(now);
        }
    }
}

/// Waits until something happens, and lets it happen.
fn wait(all: &mut [Asking], end: Instant) {
    let mut next = end;
    let mut fds = Vec::new();
    let mut whose = Vec::new();
    for (index, asking) in all.iter().enumerate() {
        match &asking.state {
            State::Waiting => next = next.min(asking.begin),
            State::Asked { exchange, .. } => {
                next = exchange.timer().map_or(next, |timer| next.min(timer));
                fds.push(PollFd::from_borrowed_fd(
                    exchange.socket(),
                    exchange.wants(),
                ));
                whose.push(index);
            }
            State::Known(_) => {}
        }
    }
    let left = next.saturating_duration_since(Instant::now());
    let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
    let now = Instant::now();
    let happened: Vec<bool> = fds
        .iter()
        .map(|fd| fd.revents() != PollFlags::empty())
        .collect();
    drop(fds);
    for (index, happened) in whose.into_iter().zip(happened) {
        let due = match &all[index].state {
            State::Asked { exchange, .. } => exchange.timer().is_some_and(|timer| timer <= now),
            _ => false,
        };
        if happened || due {
            all[index].advance();
        }
    }
}

/// One target, and how far it is.
struct Asking<'t> {
    target: &'t Target,
    /// When it is to be asked, or was.
    begin: Instant,
    state: State,
    /// It serves, and what it says of its root has not come yet.
    aside: Option<Exchange>,
}

enum State {
    Waiting,
    Asked { exchange: Exchange, stage: Stage },
    Known(Answer),
}

/// What a target has been asked.
#[derive(Clone, Copy)]
enum Stage {
    /// NFS, at the port where it is expected.
    Usual,
    /// The portmapper, in this version, after NFS had failed so.
    Portmapper { version: u32, failed: Error },
    /// NFS, where the portmapper says it is.
    Told,
}

impl<'t> Asking<'t> {
    fn new(target: &'t Target, now: Instant) -> Self {
        Self {
            target,
            begin: now,
            state: State::Waiting,
            aside: None,
        }
    }

    fn is_open(&self) -> bool {
        !matches!(self.state, State::Known(_))
    }

    fn serves(&self) -> bool {
        matches!(&self.state, State::Known(answer) if answer.serves())
    }

    /// What is known of it; or this, if it was asked and has not answered.
    fn answer(self, unheard: &Answer) -> Answer {
        match self.state {
            State::Known(answer) => answer,
            State::Asked { .. } => unheard.clone(),
            State::Waiting => Answer::Unheard,
        }
    }

    fn start(&mut self, now: Instant) {
        self.begin = now;
        let port = self.target.service.port.unwrap_or(NFS_PORT);
        // Where either version will do, one that is not served is answered with those that are.
        let version = self.target.service.version.map_or(4, u32::from);
        self.ask_nfs(port, version, Stage::Usual);
    }

    fn ask_nfs(&mut self, port: u16, version: u32, stage: Stage) {
        let null = Procedure::null(NFS, version);
        let over = self.over();
        let begun = Exchange::begin(over, self.at(port), null, &[], rpc::SHORT_REPLY);
        let begun = begun.map(|exchange| match version {
            4 => {
                let (what, arguments) = nfs4::question();
                exchange.with_aside(what, &arguments)
            }
            _ => exchange,
        });
        self.begun(begun, stage);
    }

    fn ask_portmapper(&mut self, version: u32, failed: Error) {
        let over = self.over();
        let at = self.at(portmap::PORT);
        let (what, arguments) =
            portmap::question(at.is_ipv6(), version, Procedure::null(NFS, 3), over);
        let begun = Exchange::begin(over, at, what, &arguments, rpc::SHORT_REPLY);
        self.begun(begun, Stage::Portmapper { version, failed });
    }

    fn begun(&mut self, begun: Result<Exchange, Error>, stage: Stage) {
        match begun {
            Ok(exchange) => self.state = State::Asked { exchange, stage },
            Err(error) => self.failed(stage, error),
        }
    }

    fn advance(&mut self) {
        let State::Asked { exchange, stage } = &mut self.state else {
            return;
        };
        let stage = *stage;
        match (exchange.advance(), stage) {
            (Ok(None), _) => {}
            (Ok(Some(results)), Stage::Portmapper { failed, .. }) => {
                match portmap::answer(self.target.address.is_ipv6(), &results) {
                    // There it is not.
                    Ok(NFS_PORT) | Err(_) => self.refused(failed),
                    Ok(port) => self.ask_nfs(port, 3, Stage::Told),
                }
            }
            (Ok(Some(_)), _) => {
                let serves = self.serves_after(false);
                if let State::Asked { exchange, .. } = std::mem::replace(&mut self.state, serves) {
                    self.hear(exchange);
                }
            }
            (Err(error), _) => self.failed(stage, error),
        }
    }

    /// It serves, as was heard just now.
    fn serves_after(&self, no_guests: bool) -> State {
        let micros = self.micros();
        State::Known(Answer::Serves { micros, no_guests })
    }

    /// Takes what has come of the question about the root; keeps the exchange if nothing has.
    fn hear(&mut self, exchange: Exchange) {
        if exchange.awaits_aside() {
            self.aside = Some(exchange);
            return;
        }
        if let (Some(Ok(results)), State::Known(Answer::Serves { no_guests, .. })) =
            (exchange.aside(), &mut self.state)
        {
            *no_guests = nfs4::refuses_nobody(results).unwrap_or(false);
        }
    }

    /// Reads what has come; whatever goes wrong, nothing was heard.
    fn hear_aside(&mut self) {
        if let Some(mut exchange) = self.aside.take()
            && exchange.advance().is_ok()
        {
            self.hear(exchange);
        }
    }

    fn failed(&mut self, stage: Stage, error: Error) {
        let service = self.target.service;
        match (stage, error) {
            (Stage::Usual | Stage::Told, Error::OtherVersions { low, high })
                if service.version.is_none() && low <= 4 && high >= 3 =>
            {
                self.state = self.serves_after(false);
            }
            // Version 3 may be anywhere.
            (Stage::Usual, Error::System(Errno::CONNREFUSED) | Error::NoProgram)
                if service.port.is_none() && service.version != Some(4) =>
            {
                self.ask_portmapper(portmap::first_version(self.target.address.is_ipv6()), error);
            }
            (Stage::Portmapper { version: 4, failed }, Error::OtherVersions { .. }) => {
                self.ask_portmapper(3, failed);
            }
            (Stage::Portmapper { failed, .. }, _) => self.refused(failed),
            _ => self.refused(error),
        }
    }

    fn refused(&mut self, error: Error) {
        let errno = error.errno();
        // That is no fault of the server's.
        let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        self.state = State::Known(if ours.contains(&errno) {
            Answer::Unheard
        } else {
            Answer::Refused {
                errno: errno.raw_os_error(),
                micros: self.micros(),
            }
        });
    }

    fn micros(&self) -> u32 {
        u32::try_from(self.begin.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    fn over(&self) -> Protocol {
        if self.target.service.udp {
            Protocol::Udp
        } else {
            Protocol::Tcp
        }
    }

    fn at(&self, port: u16) -> SocketAddr {
        match self.target.address {
            IpAddr::V4(address) => (address, port).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, self.target.scope).into(),
        }
    }
}
