//! Processes touch paths without a pause while the daemon is killed, stopped, upgraded and left by
//! its keeper: no access may fail that should succeed, none may take long, nothing may be lost.
//!
//! `cargo test -p piton --test kernel_never_lose -- [--seconds N] [--seed N] [MODE…]`, as root. The
//! accesses are made by processes of this program, each in a process group of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use piton_testkit::{Scratch, mount_table};
use rustix::process::{Pid, Signal, kill_process};

/// Tells the second process that it is in a namespace of its own.
const INSIDE: &str = "PITON_NEVER_LOSE_INSIDE";

/// Processes that touch paths.
const WALKERS: u64 = 8;

/// No access may take longer. On a quiet machine none takes half a second; one that was lost would take
/// until its deadline, ten seconds.
const LONGEST: Duration = Duration::from_secs(5);

/// Longest wait for the daemon's start and end.
const LIMIT: Duration = Duration::from_secs(60);

/// What happens to the daemon meanwhile.
const MODES: [(&str, Blow); 4] = [
    ("killed", Blow::Kill),
    ("stopped", Blow::Stop),
    ("upgraded", Blow::Upgrade),
    ("keeper-killed", Blow::KillKeeper),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// SIGKILL for the daemon.
    Kill,
    /// SIGSTOP for the daemon.
    Stop,
    /// `piton upgrade`.
    Upgrade,
    /// SIGKILL for the keeper once, then for the daemons.
    KillKeeper,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "walk") {
        return walk(&words[1..]);
    }
    let asked = match Asked::read(&words) {
        Ok(Some(asked)) => asked,
        // `cargo test -- --list` and the like: these are not single tests.
        Ok(None) => return ExitCode::SUCCESS,
        Err(word) => {
            eprintln!("never_lose: what is {word:?}? there are --seconds, --seed and modes");
            return ExitCode::from(2);
        }
    };
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests mount and must run as root; they are not skipped, since then nothing would \
         be tested"
    );
    if std::env::var_os(INSIDE).is_some() {
        let blow = asked.modes.first().expect("a mode").1;
        return trial(blow, &asked);
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in &asked.modes {
        let begun = Instant::now();
        let well = in_namespace(name, &asked);
        *if well { &mut passed } else { &mut failed } += 1;
        let word = if well { "ok" } else { "FAILED" };
        let took = begun.elapsed().as_secs_f32();
        println!("never_lose {name} ... {word} ({took:.0} s)");
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    ExitCode::from(u8::from(failed > 0))
}

/// What is asked for on the command line.
struct Asked {
    seconds: u64,
    seed: u64,
    modes: Vec<(&'static str, Blow)>,
}

impl Asked {
    fn read(words: &[String]) -> Result<Option<Self>, String> {
        let mut asked = Self {
            seconds: 6,
            seed: 1,
            modes: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse().ok());
            match word.as_str() {
                "--seconds" => asked.seconds = number().ok_or(word)?,
                "--seed" => asked.seed = number().ok_or(word)?,
                "--list" => return Ok(None),
                // What a test harness would take.
                "--quiet" | "-q" | "--nocapture" | "--include-ignored" | "--test-threads=2" => {}
                name => {
                    let mode = MODES.iter().find(|(mode, _)| *mode == name);
                    asked.modes.push(*mode.ok_or(word)?);
                }
            }
        }
        if asked.modes.is_empty() {
            asked.modes = MODES.into();
        }
        Ok(Some(asked))
    }
}

/// Runs one mode in mount and pid namespaces of its own, in which everything ends with it.
fn in_namespace(mode: &str, asked: &Asked) -> bool {
    let flags = ["--mount", "--propagation", "private", "--pid", "--fork"];
    let status = Command::new("unshare")
        .args(flags)
        .args(["--mount-proc", "--kill-child", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--seconds", &asked.seconds.to_string()])
        .args(["--seed", &asked.seed.to_string(), mode])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status();
    status.expect("unshare(1), of util-linux").success()
}

// -- the site and the daemon ------------------------------------------------------------------

/// Maps, a running daemon, and what was seen of it.
struct Trial {
    scratch: Scratch,
    child: Child,
    troubles: Vec<String>,
    random: Random,
    blows: u32,
}

/// Entries of the explicit map.
const KEYS: u64 = 30;

fn trial(blow: Blow, asked: &Asked) -> ExitCode {
    let mut trial = Trial::start(asked.seed);
    let mut walkers = trial.walkers(asked);
    let until = Instant::now() + Duration::from_secs(asked.seconds);
    let mut holder = trial.hold();
    while Instant::now() < until {
        let pause = Duration::from_millis(500 + trial.random.below(2_500));
        trial.look_at_mounts(pause.min(until.saturating_duration_since(Instant::now())));
        if Instant::now() >= until {
            break;
        }
        trial.strike(blow);
    }
    let mut total = BTreeMap::new();
    let mut worst = 0;
    for walker in &mut walkers {
        trial.harvest(walker, &mut total, &mut worst);
    }
    trial.release(&mut holder);
    trial.end();
    let counts: Vec<String> = total
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    println!(
        "  {} blows; {}; longest access {worst} ms",
        trial.blows,
        counts.join(", ")
    );
    if trial.blows == 0 || total.values().sum::<u64>() < 100 {
        trial.troubles.push("next to nothing was tested".into());
    }
    if trial.troubles.is_empty() {
        return ExitCode::SUCCESS;
    }
    for trouble in trial.troubles.iter().take(20) {
        println!("  {trouble}");
    }
    println!("  {} troubles", trial.troubles.len());
    let log = fs::read_to_string(trial.scratch.at("log")).unwrap_or_default();
    let telling: Vec<&str> = log
        .lines()
        .filter(|line| !line.starts_with("DEBUG"))
        .collect();
    let from = telling.len().saturating_sub(60);
    println!("-- what the log says --\n{}", telling[from..].join("\n"));
    ExitCode::FAILURE
}

impl Trial {
    fn start(seed: u64) -> Self {
        let scratch = Scratch::new();
        let at = scratch.path().display().to_string();
        let mut indirect = String::new();
        let mut direct = String::new();
        let source = |name: &str| {
            scratch.file(&format!("src/{name}/who"), name);
        };
        for key in 0..KEYS {
            source(&format!("m{key}"));
            indirect += &format!("k{key} :{at}/src/m{key}\n");
            source(&format!("d{key}"));
            direct += &format!("{at}/direct/d{key} :{at}/src/d{key}\n");
            for part in ["", "/a", "/b/c"] {
                let name = format!("h{key}{}", part.replace('/', "-"));
                source(&name);
            }
            // Places for the offsets.
            scratch.directory(&format!("src/h{key}/a"));
            scratch.directory(&format!("src/h{key}/b/c"));
        }
        scratch.file("auto.m", indirect);
        scratch.file("auto.d", direct);
        let tree = format!("* / :{at}/src/h& /a :{at}/src/h&-a /b/c :{at}/src/h&-b-c\n");
        scratch.file("auto.h", tree);
        let program = scratch.file(
            "auto.p",
            format!("#!/bin/sh\ncase $1 in k*) echo \":{at}/src/m${{1#k}}\";; esac\n"),
        );
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        let master = format!(
            "{at}/m {at}/auto.m --timeout=1\n{at}/h {at}/auto.h --timeout=1\n\
             {at}/p {at}/auto.p --timeout=1\n/- {at}/auto.d --timeout=1\n"
        );
        scratch.file("auto.master", master);
        let log = fs::File::create(scratch.at("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(["daemon", "--foreground", "-v", "--master"])
            .arg(scratch.at("auto.master"))
            .arg("--pid-file")
            .arg(scratch.at("ready"))
            .env("PITON_RUNTIME_DIR", scratch.at("run"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("starting the daemon");
        let ready = PathBuf::from(scratch.at("ready"));
        let until = Instant::now() + LIMIT;
        while !ready.exists() {
            assert!(Instant::now() < until, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self {
            scratch,
            child,
            troubles: Vec::new(),
            random: Random(seed),
            blows: 0,
        }
    }

    fn walkers(&self, asked: &Asked) -> Vec<Child> {
        let start = |number: u64| {
            Command::new(std::env::current_exe().expect("this program"))
                .arg("walk")
                .arg(self.scratch.path())
                .arg(asked.seconds.to_string())
                .arg((asked.seed * 1_000 + number).to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .expect("starting a process")
        };
        (0..WALKERS).map(start).collect()
    }

    /// Somebody works in a mount all the time.
    fn hold(&self) -> Child {
        let busy = self.scratch.at("m/k0");
        Command::new("sh")
            .args(["-c", "cd \"$0\" && exec sleep 1000"])
            .arg(busy)
            .process_group(0)
            .spawn()
            .expect("sh")
    }

    fn release(&mut self, holder: &mut Child) {
        let cwd = fs::read_link(format!("/proc/{}/cwd", holder.id()));
        let place = PathBuf::from(self.scratch.at("m/k0"));
        if cwd.as_deref().ok() != Some(&place) {
            self.troubles
                .push(format!("who worked in a mount is now in {cwd:?}"));
        }
        let _ = holder.kill();
        let _ = holder.wait();
    }

    /// Looks for this time whether anything is mounted twice.
    fn look_at_mounts(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let mut before = BTreeMap::new();
        while Instant::now() < until {
            let doubled = self.doubled();
            // The table is read in pieces: what goes and comes again meanwhile is in it twice, with
            // two numbers that are never there together. They are not there again.
            let same = doubled.iter().filter(|it| before.get(it.0) == Some(it.1));
            let said = same.map(|(point, _)| format!("{point} is mounted twice"));
            self.troubles.extend(said);
            before = doubled;
            let pause = match before.is_empty() {
                true => Duration::from_millis(100).min(time),
                false => Duration::from_millis(10),
            };
            std::thread::sleep(pause);
        }
    }

    /// What is in the mount table more than once, with the numbers of those mounts.
    fn doubled(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let root = self.scratch.path();
        let mut seen: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for line in mount_table() {
            if line.fstype != "autofs" && Path::new(&line.point).starts_with(root) {
                seen.entry(line.point).or_default().insert(line.id);
            }
        }
        seen.retain(|_, ids| ids.len() > 1);
        seen
    }

    fn pids(&mut self) -> Option<(Pid, Pid)> {
        let output = self.piton(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output).ok()?;
        let pid = |who: &str| {
            let pid = status[who]["pid"].as_i64()?;
            Pid::from_raw(i32::try_from(pid).ok()?)
        };
        Some((pid("keeper")?, pid("daemon")?))
    }

    fn piton(&self, words: &[&str]) -> Vec<u8> {
        Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(words)
            .env("PITON_RUNTIME_DIR", self.scratch.at("run"))
            .stdin(Stdio::null())
            .output()
            .expect("running piton")
            .stdout
    }

    fn strike(&mut self, blow: Blow) {
        if blow == Blow::Upgrade {
            self.upgrade();
            return;
        }
        let Some((keeper, daemon)) = self.pids() else {
            self.troubles
                .push("the daemon could not be asked for its pid".into());
            return;
        };
        if keeper == daemon {
            self.troubles
                .push("keeper and daemon are one process".into());
        }
        let (victim, signal) = match blow {
            Blow::Stop => (daemon, Signal::STOP),
            Blow::KillKeeper if self.blows == 0 => (keeper, Signal::KILL),
            _ => (daemon, Signal::KILL),
        };
        if let Err(error) = kill_process(victim, signal) {
            self.troubles
                .push(format!("no blow at {victim:?}: {error}"));
        }
        self.blows += 1;
    }

    fn upgrade(&mut self) {
        let Some((_, before)) = self.pids() else {
            self.troubles
                .push("the daemon could not be asked for its pid".into());
            return;
        };
        let output = Command::new(env!("CARGO_BIN_EXE_piton"))
            .arg("upgrade")
            .env("PITON_RUNTIME_DIR", self.scratch.at("run"))
            .output()
            .expect("running piton");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            self.troubles.push(format!("piton upgrade: {said}"));
        }
        if self.pids().is_none_or(|(_, after)| after == before) {
            self.troubles.push("an upgrade left the old daemon".into());
        }
        self.blows += 1;
    }

    /// Takes what a walker saw.
    fn harvest(&mut self, walker: &mut Child, total: &mut BTreeMap<String, u64>, worst: &mut u64) {
        let mut text = String::new();
        use std::io::Read;
        let output = walker.stdout.as_mut().expect("its output");
        output.read_to_string(&mut text).expect("reading it");
        let status = walker.wait().expect("waiting");
        if !status.success() {
            let signal = status.signal();
            self.troubles
                .push(format!("a process ended with {status}, signal {signal:?}"));
        }
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("trouble", what)) => self.troubles.push(what.into()),
                Some(("worst", ms)) => *worst = (*worst).max(ms.parse().unwrap_or(0)),
                Some((what, count)) => {
                    *total.entry(what.into()).or_insert(0) += count.parse().unwrap_or(0);
                }
                None => {}
            }
        }
    }

    /// Ends the daemon; nothing may be left.
    fn end(&mut self) {
        // A daemon that was stopped when nobody touched anything any more cannot be asked; its keeper is
        // the process that was started.
        let started = Pid::from_child(&self.child);
        let keeper = self.pids().map_or(started, |(keeper, _)| keeper);
        kill_process(keeper, Signal::TERM).expect("ending the keeper");
        let until = Instant::now() + LIMIT;
        loop {
            let ours = self.scratch.path().to_str().expect("a plain path");
            let left: Vec<String> = mount_table()
                .into_iter()
                .filter(|line| line.point.len() > ours.len() && line.point.starts_with(ours))
                .map(|line| line.point)
                .collect();
            let processes = processes();
            if left.is_empty() && processes.is_empty() {
                break;
            }
            if Instant::now() > until {
                self.troubles
                    .push(format!("left after the end: {left:?} {processes:?}"));
                break;
            }
            // It may be a zombie, which nobody else waits for here.
            let _ = self.child.try_wait();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The piton processes of this namespace that live.
fn processes() -> Vec<String> {
    let lives = |stat: &str| !stat.contains(") Z ") && stat.contains("(piton)");
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| lives(stat))
        .collect()
}

// -- the processes that touch paths -----------------------------------------------------------

/// Touches paths at random for some seconds and prints what came of it.
fn walk(words: &[String]) -> ExitCode {
    let [root, seconds, seed] = words else {
        return ExitCode::from(2);
    };
    let seconds = seconds.parse().expect("a number");
    let mut random = Random(seed.parse().expect("a number"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut out = std::io::stdout().lock();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut worst = Duration::ZERO;
    while Instant::now() < until {
        let (what, path, expected) = choose(Path::new(root), &mut random);
        let begun = Instant::now();
        let got = fs::read_to_string(&path);
        let took = begun.elapsed();
        worst = worst.max(took);
        *counts.entry(what).or_insert(0) += 1;
        let right = match (&got, &expected) {
            (Ok(text), Some(wanted)) => text == wanted,
            (Err(error), None) => error.raw_os_error() == Some(2),
            _ => false,
        };
        let path = path.strip_prefix(root).unwrap_or(&path).display();
        if !right {
            writeln!(out, "trouble {path}: {got:?} after {took:?}").expect("a reader");
        }
        if took > LONGEST {
            writeln!(out, "trouble {path} took {took:?}").expect("a reader");
        }
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
        }
    }
    for (what, count) in counts {
        writeln!(out, "{what} {count}").expect("a reader");
    }
    writeln!(out, "worst {}", worst.as_millis()).expect("a reader");
    ExitCode::SUCCESS
}

/// A path to touch, and what must be found there.
fn choose(root: &Path, random: &mut Random) -> (&'static str, PathBuf, Option<String>) {
    let key = random.below(KEYS);
    let at = |tail: String| root.join(tail);
    match random.below(10) {
        0..3 => (
            "indirect",
            at(format!("m/k{key}/who")),
            Some(format!("m{key}")),
        ),
        3..5 => (
            "direct",
            at(format!("direct/d{key}/who")),
            Some(format!("d{key}")),
        ),
        5..8 => {
            let (part, name) = match random.below(3) {
                0 => ("", ""),
                1 => ("/a", "-a"),
                _ => ("/b/c", "-b-c"),
            };
            let wanted = Some(format!("h{key}{name}"));
            ("hierarchical", at(format!("h/{key}{part}/who")), wanted)
        }
        8 => ("absent", at(format!("m/absent{key}/who")), None),
        _ => (
            "program",
            at(format!("p/k{key}/who")),
            Some(format!("m{key}")),
        ),
    }
}

/// A small generator of random numbers: the same seed gives the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
