//! The keeper: what it tells systemd, what it hands on, and who answers while there is no daemon.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use piton_process::Stat;
use piton_testkit::{Access, privately, wait_until};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};
use site::{LIMIT, Site, names};

const MASTER: &str = "@/m @/auto.m\n";
const ENOENT: i32 = 2;
const ETIMEDOUT: i32 = 110;

/// Process ids of keeper and daemon.
fn pids(site: &Site) -> (Pid, Pid) {
    let status: serde_json::Value =
        serde_json::from_str(&site.piton_ok(&["status", "--json"])).expect("JSON");
    let pid = |who: &str| {
        let pid = status[who]["pid"].as_i64().expect("a number");
        Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
    };
    (pid("keeper"), pid("daemon"))
}

fn is_alive(pid: Pid) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.is_dead())
}

#[test]
fn keeper_and_daemon_succeed_each_other() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        let (keeper, daemon) = pids(&site);
        assert_ne!(keeper, daemon);
        site.names("m/a");
        kill_process(daemon, Signal::KILL).unwrap();
        site.names("m/b");
        let (same, second) = pids(&site);
        assert_eq!(same, keeper);
        assert_ne!(second, daemon);
        kill_process(keeper, Signal::KILL).unwrap();
        site.wait("there is another keeper", |site| {
            let (keeper_now, daemon_now) = pids(site);
            keeper_now != keeper && daemon_now == second
        });
        site.names("m/c");
        let (third, _) = pids(&site);
        kill_process(second, Signal::KILL).unwrap();
        site.names("m/d");
        assert_eq!(pids(&site).0, third);
        for key in ["a", "b", "c", "d"] {
            assert_eq!(site.count(&format!("m/{key}")), 1, "{key}");
        }
        kill_process(third, Signal::TERM).unwrap();
        site.wait("nothing is left", |site| site.mounts().is_empty());
        wait_until("no process is left", LIMIT, || !is_alive(third));
    });
}

#[test]
fn who_waits_is_answered_though_no_daemon_can_start() {
    privately(|| {
        let site = Site::new(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        let mut site = site.with_options(&["--deadline", "3"]);
        site.start();
        let (_, daemon) = pids(&site);
        fs::rename(site.at("auto.master"), site.at("away")).unwrap();
        site.wait("the loss is noticed", |site| {
            site.log().contains("master map cannot be read")
        });
        kill_process(daemon, Signal::KILL).unwrap();
        let waiting = Access::list(site.at("m/a"));
        let answer = waiting.wait(LIMIT);
        assert_eq!(answer.errno, Some(ETIMEDOUT));
        assert!(answer.took < LIMIT / 2, "{:?}", answer.took);
        // Who comes late enough is served by the daemon that can start again.
        let waiting = Access::list(site.at("m/b"));
        std::thread::sleep(Duration::from_millis(200));
        fs::rename(site.at("away"), site.at("auto.master")).unwrap();
        let answer = waiting.wait(LIMIT);
        // Its turn may come after the deadline: the pauses between two starts grow.
        assert!(matches!(answer.errno, None | Some(ETIMEDOUT)), "{answer:?}");
        site.wait("it serves again", |site| names(&site.at("m/c")).is_ok());
        site.end();
    });
}

#[test]
fn a_stopped_daemon_that_is_told_to_end_ends() {
    privately(|| {
        let site = Site::serving(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        let (_, daemon) = pids(&site);
        kill_process(daemon, Signal::STOP).unwrap();
        site.end();
    });
}

/// A socket that stands for systemd's, and what came on it.
struct Systemd {
    socket: UnixDatagram,
    said: Vec<String>,
    kept: Vec<(String, OwnedFd)>,
}

impl Systemd {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self {
            socket,
            said: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn hear(&mut self) {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut text)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let Ok(received) = recvmsg(&self.socket, &mut pieces, &mut control, flags) else {
            return;
        };
        let said = String::from_utf8_lossy(&text[..received.bytes]).into_owned();
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME="));
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                let name = name.expect("a name");
                self.kept.extend(fds.map(|fd| (name.to_owned(), fd)));
            }
        }
        self.said.extend(said.lines().map(str::to_owned));
    }

    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        let until = Instant::now() + LIMIT;
        while !self.said.iter().any(|said| said.starts_with(wanted)) {
            assert!(Instant::now() < until, "{wanted}: {:?}", self.said);
            self.hear();
        }
    }
}

#[test]
fn systemd_hears_of_readiness_and_keeps_what_must_not_be_lost() {
    privately(|| {
        let mut site = Site::new(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        let mut systemd = Systemd::new(&site.at("notify"));
        site.set_environment(&[("NOTIFY_SOCKET", "@/notify"), ("WATCHDOG_USEC", "400000")]);
        site.start();
        systemd.wait_for("READY=1");
        systemd.wait_for("WATCHDOG=1");
        let names_kept: Vec<&str> = systemd.kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names_kept, ["piton-reader", "piton-writer", "piton-table"]);
        site.names("m/a");
        site.kill();
        // Nobody is there; the kernel's request waits in the pipe that systemd kept.
        let mut waiting = Access::list(site.at("m/b"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(waiting.is_waiting());
        let mut hand_over = Command::new("sh");
        let mut script = "export LISTEN_PID=$$; exec \"$@\"".to_owned();
        let mut kept_names = Vec::new();
        for (place, (name, fd)) in systemd.kept.iter().enumerate() {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
            script += &format!(" {}<&{}", place + 3, fd.as_raw_fd());
            kept_names.push(name.as_str());
        }
        hand_over
            .args(["-c", &script, "sh"])
            .arg(env!("CARGO_BIN_EXE_piton"))
            .args(["daemon", "--foreground", "-d", "--master"])
            .arg(site.at("auto.master"))
            .arg("--pid-file")
            .arg(site.at("ready2"))
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .env("NOTIFY_SOCKET", site.at("notify"))
            .env("LISTEN_FDS", systemd.kept.len().to_string())
            .env("LISTEN_FDNAMES", kept_names.join(":"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(site.at("log2")).unwrap())
            .stderr(fs::File::create(site.at("log3")).unwrap())
            .process_group(0);
        let mut second = hand_over.spawn().unwrap();
        let answer = waiting.wait(LIMIT);
        let log = fs::read_to_string(site.at("log3")).unwrap_or_default();
        // A trigger changes hands in one moment, and who is awake in it finds nothing.
        assert!(matches!(answer.errno, None | Some(ENOENT)), "{log}");
        site.wait("all has changed hands", |site| site.at("ready2").exists());
        site.names("m/a");
        site.names("m/b");
        assert_eq!((site.count("m/a"), site.count("m/b")), (1, 1));
        let (keeper, _) = pids(&site);
        kill_process(keeper, Signal::TERM).unwrap();
        assert!(second.wait().unwrap().success());
        systemd.wait_for("STOPPING=1");
        systemd.wait_for("FDSTOREREMOVE=1");
        assert_eq!(site.mounts(), Vec::<String>::new());
    });
}

#[test]
fn in_a_terminal_siblings_trigger_and_ctrl_c_ends_it() {
    privately(|| {
        let site = Site::new(&[("auto.master", MASTER), ("auto.m", "* -fstype=tmpfs :t\n")]);
        // A shell without job control: all it starts is in one process group.
        let script = format!(
            "(while ! [ -e {at}/ready ]; do sleep 0.05; done
              ls {at}/m/sibling && echo sibling-served) &
             {piton} daemon --foreground --master {at}/auto.master --pid-file {at}/ready",
            at = site.root(),
            piton = env!("CARGO_BIN_EXE_piton"),
        );
        site.write("script", &script);
        let mut terminal = Command::new("script")
            .args(["--quiet", "--return", "--command"])
            .arg(format!("sh {}/script", site.root()))
            .arg("/dev/null")
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("script(1), of util-linux");
        let mut typed = terminal.stdin.take().unwrap();
        let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
        let mut seen = Vec::new();
        let mut read_until = |wanted: &str| {
            for line in lines.by_ref() {
                let line = line.unwrap_or_default();
                let found = line.contains(wanted);
                seen.push(line);
                if found {
                    return;
                }
            }
            panic!("{wanted} was not said: {seen:?}");
        };
        read_until("sibling-served");
        assert!(site.is_mounted("m/sibling"));
        let (keeper, daemon) = pids(&site);
        typed.write_all(b"\x03").unwrap();
        read_until("piton has ended");
        wait_until("both have ended", LIMIT, || {
            !is_alive(keeper) && !is_alive(daemon)
        });
        assert_eq!(site.mounts(), Vec::<String>::new());
        drop(typed);
        let _ = terminal.wait();
    });
}
