//! One server, a clock, and answers that come or do not.

use alloc::format;
use alloc::vec;

use piton_plan::probe::Service;

use super::*;
use crate::cause::Errno;

fn target(last: u8) -> Target {
    Target {
        address: [192, 0, 2, last].into(),
        scope: 0,
        service: Service::default(),
        rank: 0,
    }
}

fn host(name: &str) -> BString {
    name.into()
}

fn pairs(answers: &[(Target, Answer)]) -> impl Iterator<Item = (&Target, &Answer)> {
    answers.iter().map(|(target, answer)| (target, answer))
}

const SERVES: Answer = Answer::Serves {
    micros: 700,
    no_guests: false,
};

fn until(servers: &Servers, host: &BString) -> Millis {
    match servers.table[host].circuit {
        Circuit::Open(until) | Circuit::HalfOpen(until) => until,
        Circuit::Closed => panic!("{host} is not down"),
    }
}

#[test]
fn one_that_does_not_answer_is_not_asked_until_its_time_and_then_by_one_alone() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    let now = Millis(1_000);
    servers.failed(&srv, &"no answer".into(), now, 0);
    assert!(servers.is_down(&srv, now) && servers.any_down());
    let cause = servers.recall(&srv, now).unwrap();
    assert_eq!(cause.errno(), Errno::HOSTDOWN);
    assert_eq!(
        format!("{cause}"),
        "srv: no answer (not asked again for a while)"
    );
    assert_eq!(servers.table[&srv].answered, 1);
    let later = until(&servers, &srv);
    assert!(later <= now + FAILURE_MEMORY_MS);
    assert!(!servers.is_down(&srv, later));
    assert_eq!(servers.recall(&srv, later), None);
    // The first one who comes then decides for all.
    servers.admit(&srv, later, later + 10_000);
    assert!(servers.is_down(&srv, later + 9_999));
    assert!(!servers.is_down(&srv, later + 10_000), "nothing came of it");
    servers.undecided(&srv, later + 1, 0);
    assert!(!servers.is_down(&srv, later + 1));
    servers.admit(&srv, later + 1, later + 10_000);
    servers.failed(&srv, &"still none".into(), later + 5_000, 0);
    assert_eq!(servers.table[&srv].failures, 2);
    assert_eq!(servers.table[&srv].since, now);
    let again = until(&servers, &srv);
    assert!(again.since(later + 5_000) > FAILURE_MEMORY_MS);
    servers.admit(&srv, again, again + 10_000);
    assert_eq!(
        servers.answered(&srv, again + 1, 0),
        News::Back(again.since(now) + 1)
    );
    assert!(!servers.is_down(&srv, again + 1) && !servers.any_down());
    assert_eq!(servers.answered(&srv, again + 2, 0), News::None);
}

#[test]
fn failures_at_the_same_time_are_one_and_pauses_grow_to_a_limit() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    let text: Arc<str> = "no answer".into();
    let mut now = Millis(0);
    let mut pauses = Vec::new();
    for failures in 1..=9 {
        servers.failed(&srv, &text, now, now.0);
        servers.failed(&srv, &text, now, now.0);
        assert_eq!(servers.table[&srv].failures, failures);
        pauses.push(until(&servers, &srv).since(now));
        now = until(&servers, &srv);
    }
    assert!(pauses.iter().all(|it| *it <= SERVER_MEMORY_MOST_MS));
    assert!(pauses[8] >= SERVER_MEMORY_MOST_MS * 3 / 4, "{pauses:?}");
    assert!(pauses[..6].is_sorted(), "{pauses:?}");
}

#[test]
fn what_addresses_answered_is_fresh_for_a_while() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    let now = Millis(50);
    let asked = [
        (target(1), SERVES),
        (target(2), Answer::Silent),
        (target(3), Answer::Unheard),
    ];
    let news = servers.heard(&srv, pairs(&asked), now, 0);
    assert_eq!(news, News::None);
    assert_eq!(servers.fresh(&srv, &target(1), now), Some(&SERVES));
    assert_eq!(servers.fresh(&srv, &target(2), now), Some(&Answer::Silent));
    assert_eq!(servers.fresh(&srv, &target(3), now), None);
    let otherwise = Target {
        service: Service {
            version: Some(3),
            ..Service::default()
        },
        ..target(1)
    };
    assert_eq!(servers.fresh(&srv, &otherwise, now), None);
    let last = now + (ANSWERS_FRESH_MS - 1);
    assert!(servers.fresh(&srv, &target(1), last).is_some());
    assert!(servers.fresh(&srv, &target(1), last + 1).is_none());
    assert_eq!(servers.table[&srv].micros(), Some(700));
}

#[test]
fn a_mount_proves_what_an_address_said_or_makes_it_doubtful() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    let at = |last| {
        Some(Address {
            ip: target(last).address,
            scope: 0,
        })
    };
    let both = [(target(1), SERVES), (target(2), Answer::Silent)];
    servers.heard(&srv, pairs(&both), Millis(0), 0);
    let later = Millis(ANSWERS_FRESH_MS);
    for last in [1, 2] {
        servers.proved(&srv, at(last), later);
    }
    assert_eq!(servers.fresh(&srv, &target(1), later + 1), Some(&SERVES));
    assert_eq!(servers.fresh(&srv, &target(2), later + 1), None);
    servers.forget(&srv, at(2));
    assert!(servers.fresh(&srv, &target(1), later + 1).is_some());
    servers.forget(&srv, at(1));
    assert_eq!(servers.fresh(&srv, &target(1), later + 1), None);
}

#[test]
fn one_address_that_serves_closes_the_circuit_and_silence_does_not_open_it() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    let now = Millis(0);
    servers.heard(&srv, [(&target(1), &Answer::Silent)], now, 0);
    assert!(!servers.is_down(&srv, now));
    servers.failed(&srv, &"no answer".into(), now, 0);
    servers.heard(&srv, [(&target(1), &Answer::Silent)], now, 0);
    assert!(servers.is_down(&srv, now));
    let both = [(target(1), Answer::Silent), (target(2), SERVES)];
    assert_eq!(servers.heard(&srv, pairs(&both), now, 0), News::Back(0));
    assert!(!servers.is_down(&srv, now));
}

#[test]
fn answers_of_one_server_are_bounded() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    for last in 0..=HEARD_PER_SERVER as u8 {
        servers.heard(&srv, [(&target(last), &SERVES)], Millis(0), 0);
        servers.heard(&srv, [(&target(last), &SERVES)], Millis(1), 0);
    }
    assert_eq!(servers.table[&srv].heard.len(), HEARD_PER_SERVER);
    assert_eq!(servers.fresh(&srv, &target(0), Millis(1)), None);
    assert!(servers.fresh(&srv, &target(1), Millis(1)).is_some());
}

#[test]
fn the_table_is_bounded_and_those_that_matter_least_go_first() {
    let mut servers = Servers::default();
    let text: Arc<str> = "no answer".into();
    servers.heard(&host("well"), [(&target(1), &SERVES)], Millis(500), 0);
    for number in 1..SERVERS as u64 {
        servers.failed(&host(&format!("h{number}")), &text, Millis(number), 0);
    }
    assert_eq!(servers.len(), SERVERS);
    servers.failed(&host("one more"), &text, Millis(10_000), 0);
    assert_eq!(servers.len(), SERVERS);
    assert!(!servers.table.contains_key(&host("well")));
    servers.failed(&host("and more"), &text, Millis(10_000), 0);
    assert!(!servers.table.contains_key(&host("h1")));
    assert_eq!(servers.len(), SERVERS);
    assert_eq!(servers.broken, SERVERS);
    servers.clear(Millis(10_000), 0);
    assert!(!servers.any_down() && servers.len() == 0);
}

// -- in the background -----------------------------------------------------------------

/// A world with one server that answers or does not.
struct Background {
    servers: Servers,
    now: Millis,
    alive: bool,
    asked: Vec<Millis>,
    news: Vec<(Millis, News)>,
}

impl Background {
    fn new() -> Self {
        Self {
            servers: Servers::default(),
            now: Millis(0),
            alive: true,
            asked: Vec::new(),
            news: Vec::new(),
        }
    }

    /// Lets time pass; what is due is asked, and answered in a millisecond or not at all.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(at) = self.servers.next_check().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while let Some(question) = self.servers.due(self.now) {
                self.asked.push(self.now);
                let asked = match question.targets.is_empty() {
                    true => vec![target(1)],
                    false => question.targets,
                };
                let (answer, took) = match self.alive {
                    true => (SERVES, 1),
                    false => (Answer::Silent, question.deadline_ms),
                };
                self.now = self.now + took;
                let answers: Vec<_> = asked.into_iter().map(|it| (it, answer.clone())).collect();
                let chance = self.now.0;
                let news = self
                    .servers
                    .checked(&question.server, &answers, self.now, chance);
                if news != News::None {
                    self.news.push((self.now, news));
                }
                self.servers.audit(&self.mounts()).unwrap();
            }
        }
        self.now = self.now.max(end);
    }

    fn mounts(&self) -> BTreeMap<&BString, u32> {
        let counted = |server: &Server| server.mounts.values().sum();
        let all = self.servers.table.iter();
        all.map(|(host, server)| (host, counted(server))).collect()
    }

    fn mount(&mut self, watch: Watch) -> Served {
        let served = Served {
            host: host("srv"),
            address: None,
            service: Service::default(),
            watch,
        };
        self.servers.mounted(&served, self.now, 5);
        served
    }

    fn died_after(&mut self, watch: Watch) -> u64 {
        self.mount(watch);
        self.pass(SLOWLY_MS * 2);
        assert_eq!(self.news, []);
        let (now, alive) = (self.now, false);
        self.alive = alive;
        self.pass(SLOWLY_MS * 3);
        let (at, news) = self.news[0];
        assert_eq!(news, News::Died);
        at.since(now)
    }
}

#[test]
fn nobody_is_asked_without_a_reason() {
    let mut world = Background::new();
    let srv = host("srv");
    world.servers.wants(&srv, Service::default(), world.now, 0);
    world.servers.answered(&srv, world.now, 0);
    assert_eq!(world.servers.next_check(), None);
    let served = world.mount(Watch::Slowly);
    assert!(world.servers.next_check().is_some());
    world.servers.unmounted(&served, world.now, 0);
    assert_eq!(world.servers.next_check(), None);
    // What cannot be asked is left to the next access.
    world
        .servers
        .failed(&host("//win"), &"no answer".into(), world.now, 0);
    assert_eq!(world.servers.next_check(), None);
}

#[test]
fn a_server_that_can_be_replaced_is_known_dead_within_three_seconds() {
    for offset in 0..20 {
        let mut world = Background::new();
        world.pass(offset * 100);
        let took = world.died_after(Watch::Closely);
        assert!(
            (MISS_PAUSE_CLOSELY_MS * 3..=2_600).contains(&took),
            "{took}"
        );
    }
    let mut world = Background::new();
    let took = world.died_after(Watch::Slowly);
    assert!(took < SLOWLY_MS + 15_000, "{took}");
}

#[test]
fn a_late_answer_is_no_death() {
    let mut world = Background::new();
    world.mount(Watch::Closely);
    world.pass(10_000);
    for _ in 0..50 {
        world.alive = false;
        let asked = world.asked.len() + MISSES_CLOSELY as usize - 1;
        while world.asked.len() < asked {
            world.pass(10);
        }
        world.alive = true;
        world.pass(10_000);
    }
    assert_eq!(world.news, []);
}

#[test]
fn who_has_never_answered_is_not_asked_for_ever_nor_called_dead() {
    let mut world = Background::new();
    world.alive = false;
    world.mount(Watch::Slowly);
    world.pass(SLOWLY_MS * 10);
    assert_eq!(world.asked.len(), MISSES_SLOWLY as usize);
    assert_eq!(world.news, []);
    // Another mount from it: perhaps it answers now.
    world.servers.answered(&host("srv"), world.now, 0);
    world.alive = true;
    world.pass(SLOWLY_MS);
    assert_eq!(world.asked.len(), MISSES_SLOWLY as usize + 1);
    world.alive = false;
    world.pass(SLOWLY_MS * 3);
    assert_eq!(world.news.len(), 1);
}

#[test]
fn recovery_is_noticed_without_anybody_waiting_for_it() {
    let mut world = Background::new();
    let srv = host("srv");
    world.died_after(Watch::Slowly);
    world.asked.clear();
    world.pass(60_000);
    let longest = CHECK_MEMORY_MOST_MS + CHECK_MS;
    for two in world.asked.windows(2) {
        assert!((CHECK_PAUSE_LEAST_MS..=longest).contains(&two[1].since(two[0])));
    }
    assert!(world.servers.is_down(&srv, world.now));
    world.alive = true;
    world.pass(longest);
    assert!(!world.servers.is_down(&srv, world.now));
    assert!(
        matches!(world.news[1].1, News::Back(60_000..)),
        "{:?}",
        world.news
    );
}

#[test]
fn a_dead_server_that_is_wanted_is_asked_sooner_but_not_all_the_time() {
    let mut world = Background::new();
    let srv = host("srv");
    world.alive = false;
    world.servers.wants(&srv, Service::default(), world.now, 0);
    world
        .servers
        .failed(&srv, &"no answer".into(), world.now, 0);
    world.pass(60_000);
    world.asked.clear();
    let end = world.now + 20_000;
    while world.now < end {
        world.pass(10);
        assert!(world.servers.recall(&srv, world.now).is_some());
    }
    let pauses = world.asked.windows(2).map(|two| two[1].since(two[0]));
    assert!(pauses.clone().all(|it| it >= CHECK_PAUSE_LEAST_MS));
    assert!(pauses.max().unwrap() < CHECK_PAUSE_LEAST_MS + CHECK_MS);
    world.alive = true;
    world.servers.recall(&srv, world.now);
    world.pass(CHECK_PAUSE_LEAST_MS);
    assert!(!world.servers.is_down(&srv, world.now));
}

#[test]
fn a_dead_server_that_nobody_wants_is_left_alone_in_the_end() {
    let mut world = Background::new();
    let srv = host("srv");
    world.alive = false;
    world.servers.wants(&srv, Service::default(), world.now, 0);
    world
        .servers
        .failed(&srv, &"no answer".into(), world.now, 0);
    world.pass(UNWANTED_MS + 60_000);
    world.asked.clear();
    world.pass(UNWANTED_MS * 10);
    assert_eq!((world.servers.next_check(), world.asked.len()), (None, 0));
    // Whoever wants it then is the question, and the background goes on from there.
    assert!(!world.servers.is_down(&srv, world.now));
    world.servers.admit(&srv, world.now, world.now + 10_000);
    world
        .servers
        .failed(&srv, &"no answer".into(), world.now + 5_000, 0);
    assert!(world.servers.next_check().is_some());
}

#[test]
fn one_that_answers_questions_and_fails_mounts_is_tried_at_growing_intervals() {
    let mut world = Background::new();
    let srv = host("srv");
    world.servers.wants(&srv, Service::default(), world.now, 0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        world.servers.failed(&srv, &"hollow".into(), world.now, 0);
        let since = world.now;
        while world.servers.is_down(&srv, world.now) {
            world.servers.recall(&srv, world.now);
            world.pass(100);
        }
        pauses.push(world.now.since(since));
    }
    assert!(pauses[7] > SERVER_MEMORY_MOST_MS * 3 / 4, "{pauses:?}");
    assert!(pauses[1..6].is_sorted(), "{pauses:?}");
}

#[test]
fn an_answer_that_is_lost_or_never_asked_for_is_no_death_and_no_end() {
    let mut world = Background::new();
    let srv = host("srv");
    world.mount(Watch::Closely);
    world.pass(10_000);
    // There was no time to ask.
    for _ in 0..10 {
        let at = world.servers.next_check().unwrap();
        world.now = at;
        world.servers.due(at).unwrap();
        let unheard = [(target(1), Answer::Unheard)];
        assert_eq!(world.servers.checked(&srv, &unheard, at, 0), News::None);
    }
    assert!(!world.servers.is_down(&srv, world.now));
    // A question that is never answered does not keep it dead for ever.
    world
        .servers
        .failed(&srv, &"no answer".into(), world.now, 0);
    let at = world.servers.next_check().unwrap();
    world.servers.due(at).unwrap();
    assert!(world.servers.is_down(&srv, at + 1));
    assert!(!world.servers.is_down(&srv, at + (CHECK_MS + LATE_CHECK_MS)));
    // That it could not be asked changes nothing; if it never could, whoever comes next asks.
    let unheard = [(target(1), Answer::Unheard)];
    world.servers.checked(&srv, &unheard, at + 1, 0);
    assert!(world.servers.is_down(&srv, at + 1));
    let mut world = Background::new();
    world.servers.wants(&srv, Service::default(), world.now, 0);
    world
        .servers
        .failed(&srv, &"no answer".into(), world.now, 0);
    let at = world.servers.next_check().unwrap();
    world.servers.due(at).unwrap();
    world.servers.checked(&srv, &unheard, at + 1, 0);
    assert!(!world.servers.is_down(&srv, at + 1));
}

#[test]
fn forgetting_keeps_what_is_mounted_under_watch() {
    let mut world = Background::new();
    let srv = host("srv");
    world.died_after(Watch::Closely);
    world.servers.clear(world.now, 0);
    assert!(!world.servers.is_down(&srv, world.now) && !world.servers.any_down());
    world.news.clear();
    world.pass(5_000);
    assert_eq!(world.news.len(), 1, "it is found out again");
    world.servers.audit(&world.mounts()).unwrap();
}

#[test]
fn what_fails_after_it_was_forgotten_is_asked_by_who_comes_next() {
    let (mut servers, srv) = (Servers::default(), host("srv"));
    servers.wants(&srv, Service::default(), Millis(1_000), 0);
    servers.clear(Millis(1_001), 0);
    servers.failed(&srv, &"no answer".into(), Millis(1_002), 0);
    assert!(servers.is_down(&srv, Millis(1_002)));
    assert_eq!(servers.next_check(), None, "nobody knows what for");
    let later = until(&servers, &srv) + 20_000;
    servers.wants(&srv, Service::default(), later, 0);
    assert!(!servers.is_down(&srv, later), "that was long ago");
}
