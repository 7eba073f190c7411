//! The whole tour: a daemon on the kernel's autofs.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::stage::{Stage, Trouble, promise, run, say, show, word};

/// Longest wait for the daemon to start or end, or for something to expire.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn tour() -> Result<(), Trouble> {
    let stage = Stage::set(true)?;
    println!(
        "Piton demo: real mounts on the kernel's autofs, in a private mount namespace.\n\
         All paths below are inside {}.",
        stage.root.display()
    );
    let mut daemon = Daemon::start(&stage)?;
    let toured = stops(&stage);
    let ended = daemon.end();
    let left = stage.mounts();
    stage.clear(true)?;
    toured?;
    ended?;
    promise(
        left.is_empty(),
        &format!("mounts are left: {}", left.join(", ")),
    )?;
    println!("\nThe daemon has ended and nothing is left mounted.");
    Ok(())
}

fn stops(stage: &Stage) -> Result<(), Trouble> {
    say(
        "The maps",
        "The master map names mount points and their maps.",
    );
    show(stage, &["cat", &word(&stage.path("auto.master"))])?;
    show(stage, &["cat", &word(&stage.path("auto.home"))])?;
    access(stage)?;
    wildcard(stage)?;
    executable(stage)?;
    hierarchy(stage)?;
    direct(stage)?;
    explain(stage)?;
    expiry(stage)
}

fn access(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Access",
        "Nothing is mounted below /home; touching /home/ann mounts it.",
    );
    promise(
        !is_mounted(stage, "/home/ann"),
        "/home/ann was mounted beforehand",
    )?;
    let begun = Instant::now();
    let seen = show(stage, &["cat", &word(&stage.path("home/ann/hello.txt"))])?;
    println!(
        "  (the whole command took {:.1} ms)",
        begun.elapsed().as_secs_f64() * 1e3
    );
    promise(
        seen.stdout == b"I am ann's file\n",
        "ann's file could not be read",
    )?;
    promise(is_mounted(stage, "/home/ann"), "/home/ann is not mounted")?;
    println!("  mounted now: {}", stage.mounts().join(", "));
    let none = show(stage, &["ls", &word(&stage.path("home/nobody"))])?;
    promise(!none.status.success(), "a key that no map has was found")
}

fn wildcard(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Wildcard",
        "bob has no line of his own: `*` matches, and `&` stands for the key.",
    );
    let seen = show(stage, &["cat", &word(&stage.path("home/bob/hello.txt"))])?;
    promise(
        seen.status.success() && is_mounted(stage, "/home/bob"),
        "bob was not mounted",
    )
}

fn executable(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Executable map",
        "/on is served by a program that is given the key.",
    );
    show(stage, &["cat", &word(&stage.path("auto.on"))])?;
    let seen = show(stage, &["ls", "-d", &word(&stage.path("on/today/."))])?;
    promise(
        seen.status.success() && is_mounted(stage, "/on/today"),
        "the program's entry failed",
    )?;
    let seen = show(stage, &["ls", &word(&stage.path("on/home-cy"))])?;
    promise(seen.status.success(), "the program's second entry failed")
}

fn hierarchy(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Hierarchical entry",
        "One key, three file systems; each part is mounted when somebody walks into it.",
    );
    show(stage, &["cat", &word(&stage.path("auto.src"))])?;
    show(stage, &["ls", &word(&stage.path("src/beta"))])?;
    println!("  mounted now: {}", below(stage, "/src/beta"));
    let seen = show(
        stage,
        &["cat", &word(&stage.path("src/beta/1.0/man/README"))],
    )?;
    promise(
        seen.status.success(),
        "the offset below the offset was not mounted",
    )?;
    println!("  mounted now: {}", below(stage, "/src/beta"));
    Ok(())
}

fn direct(stage: &Stage) -> Result<(), Trouble> {
    say("Direct map", "/tools is a mount point of its own.");
    let seen = show(stage, &["cat", &word(&stage.path("tools/hammer"))])?;
    promise(seen.stdout == b"bang\n", "the direct key was not mounted")
}

fn explain(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Explain",
        "What would happen at a path, and why, can be asked without touching it.",
    );
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let master = word(&stage.path("auto.master"));
    let path = word(&stage.path("home/cy"));
    let output = run(&[&word(&program), "explain", &path, "--master", &master])?;
    println!("  $ piton explain /home/cy");
    let root = stage.root.to_string_lossy().into_owned();
    for line in String::from_utf8_lossy(&output.stdout)
        .replace(&root, "")
        .lines()
    {
        println!("    {line}");
    }
    promise(output.status.success(), "explain failed")
}

fn expiry(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Expiry",
        "The maps say --timeout=1: what nobody uses for a second goes by itself.",
    );
    let begun = Instant::now();
    let real = || {
        stage
            .mounts()
            .into_iter()
            .filter(|line| !line.ends_with("(autofs)"))
            .count()
    };
    println!("  mounted: {}", real());
    while real() > 0 {
        if begun.elapsed() > PATIENCE {
            return Err(format!("still mounted: {}", stage.mounts().join(", ")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "  mounted: 0, after {:.1} s; the triggers wait for the next access",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn is_mounted(stage: &Stage, path: &str) -> bool {
    let start = format!("{path} (");
    stage
        .mounts()
        .iter()
        .any(|line| line.starts_with(&start) && !line.ends_with("(autofs)"))
}

fn below(stage: &Stage, path: &str) -> String {
    let mounts = stage.mounts();
    mounts
        .into_iter()
        .filter(|line| line.starts_with(path))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The daemon of the tour.
struct Daemon {
    child: Child,
    log: std::path::PathBuf,
}

impl Daemon {
    fn start(stage: &Stage) -> Result<Self, Trouble> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let log = stage.path("log");
        let to_log = || {
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .map(Stdio::from)
        };
        let child = Command::new(program)
            .args(["daemon", "--foreground", "--master"])
            .arg(stage.path("auto.master"))
            .arg("--pid-file")
            .arg(stage.path("ready"))
            .env("PITON_RUNTIME_DIR", stage.path("run"))
            .stdin(Stdio::null())
            .stdout(to_log().map_err(|error| error.to_string())?)
            .stderr(to_log().map_err(|error| error.to_string())?)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the daemon: {error}"))?;
        let mut daemon = Self { child, log };
        let begun = Instant::now();
        while !stage.path("ready").exists() {
            let gone = daemon.child.try_wait().is_ok_and(|status| status.is_some());
            if gone || begun.elapsed() > PATIENCE {
                return Err(format!("the daemon did not start:\n{}", daemon.said()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it by SIGTERM.
    fn end(&mut self) -> Result<(), Trouble> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| format!("cannot end the daemon: {error}"))?;
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the daemon: {status}\n{}", self.said())),
                Ok(None) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return Err(format!("the daemon does not end:\n{}", self.said())),
            }
        }
    }
}
