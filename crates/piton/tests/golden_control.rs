//! What the commands that talk to the daemon print, word for word.
//!
//! The daemon is a canned one behind the real control socket.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use piton_control::message::{
    Change, Daemon, Departed, Drained, Foreign, Holder, Job, Keeper, LastError, Left, Mount,
    MountPoint, Negative, Pending, Pin, ReloadPlan, Requester, ServerExports, ServerState,
    Settings, Status, Trace, TraceLine,
};
use piton_control::{RuntimeDir, Server, Service, ServiceError, TraceFrom};

/// A daemon with something of everything.
#[derive(Default)]
struct Canned {
    /// Nothing is mounted and nothing happened.
    bare: bool,
    /// Another path that is mounted.
    extra: Option<String>,
}

fn ann() -> Mount {
    Mount {
        path: "/home/ann".to_owned(),
        mount_point: "/home".to_owned(),
        source: "fs1:/export/home/ann".to_owned(),
        kind: "mount".to_owned(),
        host: Some("fs1".to_owned()),
        since: "2026-11-30T09:15:00Z".to_owned(),
        age_ms: 754_321,
        timeout_s: 300,
        first: Requester {
            uid: 1000,
            pid: 4321,
            comm: Some("bash".to_owned()),
            unit: Some("session-3.scope".to_owned()),
            container: None,
            cgroup: Some("/user.slice/user-1000.slice/session-3.scope".to_owned()),
        },
        last: Requester {
            pid: 99,
            ..Requester::default()
        },
        uses: 3,
        busy: Some("in use".to_owned()),
        holders: vec![
            Holder {
                pid: 4400,
                // A process may call itself anything.
                comm: "vi\u{1b}[2Jm".to_owned(),
                uid: 1000,
                how: "open file".to_owned(),
                path: Some("/home/ann/thesis".to_owned()),
                ..Holder::default()
            },
            Holder {
                pid: 5100,
                comm: "nginx".to_owned(),
                uid: 33,
                how: "copy of the mount".to_owned(),
                path: Some("/home/ann".to_owned()),
                elsewhere: true,
                unit: Some("docker-0123.scope".to_owned()),
                container: Some("0123456789ab".to_owned()),
            },
            Holder {
                how: "mounted on it".to_owned(),
                path: Some("/home/ann/media".to_owned()),
                ..Holder::default()
            },
        ],
        holders_cut: true,
        busy_at: Some("2026-11-30T09:26:00Z".to_owned()),
        stays: None,
        silent_since: Some("2026-11-30T09:25:40Z".to_owned()),
        given_up_in_ms: Some(40_000),
    }
}

fn directory() -> Mount {
    let requester = Requester {
        uid: 1001,
        ..Requester::default()
    };
    Mount {
        path: "/home/tab\there".to_owned(),
        mount_point: "/home".to_owned(),
        kind: "directory".to_owned(),
        since: "2026-11-30T09:27:00Z".to_owned(),
        age_ms: 3_210,
        first: requester.clone(),
        last: requester,
        uses: 1,
        ..Mount::default()
    }
}

fn points() -> Vec<MountPoint> {
    let point = |path: String, kind: &str, map: &str, state: &str, timeout_s, line| MountPoint {
        path,
        kind: kind.to_owned(),
        map: map.to_owned(),
        state: state.to_owned(),
        timeout_s,
        origin: format!("/etc/auto.master:{line}:1"),
        ..MountPoint::default()
    };
    let direct = |number| {
        point(
            format!("/sw/tool{number}"),
            "direct",
            "/etc/auto.sw",
            "ready",
            0,
            4,
        )
    };
    let mut points = vec![
        point("/home".to_owned(), "indirect", "auto.home", "ready", 300, 3),
        point(
            "/old".to_owned(),
            "indirect",
            "auto.old",
            "pending removal",
            600,
            7,
        ),
    ];
    points[0].accesses = 7;
    points[0].first = Some(ann().first);
    points[0].last = Some(ann().last);
    points[0].last_error = Some(carol());
    points.extend((10..30).map(direct));
    points[5].accesses = 1;
    points[5].first = Some(ann().first);
    points[5].last = Some(ann().first);
    points
}

fn carol() -> LastError {
    LastError {
        path: "/home/carol".to_owned(),
        reason: "fs2: connection timed out".to_owned(),
        at: "2026-11-30T09:20:00Z".to_owned(),
    }
}

/// One request of each kind.
fn requests() -> Vec<TraceLine> {
    let line = |number, path: &str, served: &str, answered_us| TraceLine {
        number,
        at: format!("2026-11-30T09:15:00.{number:06}Z"),
        kind: "access".to_owned(),
        path: path.to_owned(),
        requester: ann().first,
        served: served.to_owned(),
        answered_us,
        ..TraceLine::default()
    };
    let failed = |errno, cause: &str, line| TraceLine {
        errno: Some(errno),
        cause: Some(cause.to_owned()),
        ..line
    };
    vec![
        TraceLine {
            looked_up_us: Some(812),
            resolved_us: Some(1_900),
            probed_us: Some(2_700),
            mounted_us: Some(48_211),
            ..line(1, "/home/ann", "fresh", 48_230)
        },
        TraceLine {
            cached: true,
            looked_up_us: Some(6),
            mounted_us: Some(31),
            ..line(2, "/sw/tool12", "fresh", 35)
        },
        line(3, "/home/ann", "joined", 40_100),
        failed(
            2,
            "no map has this key",
            line(4, "/home/.git", "remembered", 4),
        ),
        failed(
            110,
            "not done within the deadline",
            line(5, "/home/bob", "fresh", 10_000_400),
        ),
        TraceLine {
            kind: "expire".to_owned(),
            requester: Requester::default(),
            ..line(6, "/home/ann", "expiry", 900)
        },
        failed(
            16,
            "in use",
            TraceLine {
                kind: "expire".to_owned(),
                requester: Requester::default(),
                ..line(7, "/home/x\u{1b}y", "expiry", 900)
            },
        ),
    ]
}

/// A mount that was left to its user.
fn man() -> Departed {
    Departed {
        path: "/man".to_owned(),
        source: "fs2:/man".to_owned(),
        since: "2026-11-30T09:20:00Z".to_owned(),
        users: vec![Holder {
            pid: 77,
            comm: "less".to_owned(),
            uid: 1000,
            how: "open file".to_owned(),
            path: Some("/man/cat1/ls".to_owned()),
            ..Holder::default()
        }],
    }
}

fn full() -> Status {
    let mut status = Status {
        version: "0.1.0".to_owned(),
        keeper: Keeper { pid: 700 },
        daemon: Daemon {
            pid: 701,
            since: "2026-11-30T08:00:00Z".to_owned(),
        },
        mount_points: points(),
        mounts: vec![ann(), directory()],
        jobs: vec![Job {
            path: "/home/bob".to_owned(),
            stage: "mounting".to_owned(),
            waiters: 2,
            age_ms: 3_250,
            requester: Requester {
                uid: 1002,
                pid: 5000,
                comm: Some("ls".to_owned()),
                ..Requester::default()
            },
        }],
        pending: vec![Pending {
            path: "/old".to_owned(),
            what: "removal".to_owned(),
            map: "auto.old".to_owned(),
            origin: "/etc/auto.master:7:1".to_owned(),
            waits_for: vec!["/old/cd".to_owned()],
            holders: vec![Holder {
                pid: 900,
                comm: "bash".to_owned(),
                uid: 1000,
                how: "working directory".to_owned(),
                path: Some("/old/cd".to_owned()),
                ..Holder::default()
            }],
        }],
        negative: vec![Negative {
            path: "/home/.git".to_owned(),
            reason: "no map has this key".to_owned(),
            left_ms: 42_000,
            cause: "absent key".to_owned(),
            failures: 3,
            answered: 117,
        }],
        servers: vec![
            ServerState {
                host: "fs2".to_owned(),
                state: "dead".to_owned(),
                age_ms: 95_000,
                down: Some("connection timed out".to_owned()),
                last_error: Some("connection timed out".to_owned()),
                left_ms: 12_000,
                failures: 5,
                answered: 1,
                users: vec![Holder {
                    pid: 910,
                    comm: "cp\u{1b}".to_owned(),
                    uid: 1000,
                    how: "open file".to_owned(),
                    path: Some("/data/big".to_owned()),
                    ..Holder::default()
                }],
                ..ServerState::default()
            },
            ServerState {
                host: "fs1".to_owned(),
                state: "alive".to_owned(),
                age_ms: 3_600_000,
                answer_us: Some(1_340),
                ..ServerState::default()
            },
        ],
        drained: vec![Drained {
            server: "fs2".to_owned(),
            now: true,
            left_ms: Some(7_200_000),
        }],
        pins: vec![Pin {
            path: "/data".to_owned(),
            left_ms: 28_000_000,
        }],
        departed: vec![man()],
        last_errors: vec![carol()],
        engine: "links".into(),
        frozen: true,
        master_maps: vec!["/etc/auto.master".to_owned()],
        exports: vec![
            ServerExports {
                server: "fs1".to_owned(),
                exports: Some(30_000),
                refused: 2,
                for_others: 1,
                trouble: None,
            },
            ServerExports {
                server: "fs9".to_owned(),
                trouble: Some("fs9: no answer in time".to_owned()),
                ..ServerExports::default()
            },
        ],
        foreign: vec![Foreign {
            namespace: 4_026_532_500,
            accesses: 2,
            path: "/home/ann".to_owned(),
            at: "2026-11-30T09:25:00Z".to_owned(),
            pid: 5100,
            comm: Some("nginx".to_owned()),
            unit: None,
            container: Some("0123456789ab".to_owned()),
        }],
    };
    status.count_servers();
    status
}

impl Service for Canned {
    fn status(&self, path: Option<&str>) -> Result<Status, ServiceError> {
        let mut status = full();
        if self.bare {
            let Status {
                version,
                keeper,
                daemon,
                ..
            } = status;
            status = Status {
                version,
                keeper,
                daemon,
                ..Status::default()
            };
        }
        status.mounts.extend(self.extra.iter().map(|path| Mount {
            path: path.clone(),
            source: "tmpfs".to_owned(),
            ..Mount::default()
        }));
        match path {
            Some(path) if !status.narrow(path) && self.extra.is_none() => {
                Err(ServiceError::NoSuchPlace {
                    path: path.to_owned(),
                })
            }
            _ => Ok(status),
        }
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }

    fn trace(&self, from: TraceFrom, _: Duration) -> Result<(Trace, TraceFrom), ServiceError> {
        let trace = |lines, lost| Trace { lines, lost };
        match from {
            TraceFrom::Oldest => Ok((trace(requests(), 0), TraceFrom::At(7))),
            TraceFrom::At(7) => Ok((Trace::default(), from)),
            TraceFrom::Now => Ok((Trace::default(), TraceFrom::At(0))),
            TraceFrom::At(0) => Ok((trace(requests(), 3), TraceFrom::At(8))),
            TraceFrom::At(_) => Err(ServiceError::failed("no more")),
        }
    }

    fn plan(&self) -> Result<ReloadPlan, ServiceError> {
        let change = |path: &str, detail: &str| Change {
            path: path.to_owned(),
            map: "auto.x".to_owned(),
            detail: detail.to_owned(),
        };
        Ok(ReloadPlan {
            added: vec![change("/new", "")],
            removed: vec![change("/old", "")],
            changed: vec![change("/home", "timeout 300 to 600")],
            unchanged: 4,
            diagnostics: vec!["/etc/auto.master:9:1: no map is named".to_owned()],
            pending: vec![change("/src", "to be removed, waits for /src/x")],
            refused: vec![change(
                "/sw/a/b",
                "auto.sw:9:1: the direct key /sw/a (auto.sw:3:1) would hide it",
            )],
        })
    }

    fn reload(&self) -> Result<ReloadPlan, ServiceError> {
        if self.bare {
            return Err(ServiceError::failed("/etc/auto.master: no such file"));
        }
        Ok(ReloadPlan {
            unchanged: 4,
            ..ReloadPlan::default()
        })
    }

    fn expire(&self, path: Option<&str>) -> Result<Vec<Left>, ServiceError> {
        must_be_ours(path)?;
        let left = Left {
            path: "/home/ann".to_owned(),
            reason: "in use".to_owned(),
        };
        Ok(if path.is_some() {
            Vec::new()
        } else {
            vec![left]
        })
    }

    fn upgrade(&self, program: &str) -> Result<(), ServiceError> {
        Err(ServiceError::failed(format!("{program} is no piton")))
    }

    fn flush(&self, path: Option<&str>) -> Result<u64, ServiceError> {
        must_be_ours(path)?;
        Ok(if path.is_some() { 1 } else { 12 })
    }

    fn unmount(&self, path: &str) -> Result<Vec<Left>, ServiceError> {
        match path {
            "/home/ann" => self.expire(None),
            "/home/tab" => Ok(Vec::new()),
            _ => Err(ServiceError::NoSuchPlace {
                path: path.to_owned(),
            }),
        }
    }

    fn drain(&self, _: &str, _: bool, _: Option<u64>) -> Result<Vec<Left>, ServiceError> {
        Ok(Vec::new())
    }

    fn undrain(&self, server: &str) -> Result<bool, ServiceError> {
        Ok(server == "fs1")
    }

    fn pin(&self, path: &str, _: u64) -> Result<(), ServiceError> {
        match path {
            "/nowhere" => Err(ServiceError::NoSuchPlace {
                path: path.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn unpin(&self, path: &str) -> Result<bool, ServiceError> {
        Ok(path == "/home")
    }

    fn stop(&self, detach: bool) -> Result<Vec<Left>, ServiceError> {
        let left = |path: &str| Left {
            path: path.to_owned(),
            reason: "in use".to_owned(),
        };
        Ok(if detach {
            vec![left("/a"), left("/b")]
        } else {
            vec![left("/home/ann")]
        })
    }
}

/// As the daemon has it.
fn must_be_ours(path: Option<&str>) -> Result<(), ServiceError> {
    match path {
        Some(path) if !path.starts_with("/home") => Err(ServiceError::NoSuchPlace {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

struct Bed {
    root: tempfile::TempDir,
    dir: RuntimeDir,
    _server: Server,
}

fn bed(canned: Canned) -> Bed {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = RuntimeDir::new(root.path().join("run"));
    let server = Server::bind(&dir, Arc::new(canned)).expect("a server");
    Bed {
        root,
        dir,
        _server: server,
    }
}

impl Bed {
    /// Exit status, standard output and standard error of a command.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        outcome(self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.args(args).env("PITON_RUNTIME_DIR", self.dir.path());
        command
    }

    /// The same text whatever the place of the runtime directory.
    fn out(&self, args: &[&str]) -> String {
        let (status, out, err) = self.run(args);
        format!("{out}{err}= {status}\n")
    }
}

fn outcome(mut command: Command) -> (i32, String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("an exit"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Both texts between rulers where they differ.
fn check(found: &str, expected: &str) {
    assert!(
        found == expected,
        "found\n{found}\n---- expected\n{expected}\n----"
    );
}

/// Compares with a file; `UPDATE=1` in the environment writes it.
fn golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden_control")
        .join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).expect("written");
    }
    check(found, &std::fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn status_shows_everything() {
    golden("status.txt", &bed(Canned::default()).out(&["status"]));
}

#[test]
fn status_of_a_path_shows_what_belongs_to_it() {
    golden(
        "status-path.txt",
        &bed(Canned::default()).out(&["status", "/sw/tool12/bin/../"]),
    );
}

#[test]
fn status_of_a_path_that_is_not_ours_says_so() {
    check(
        &bed(Canned::default()).out(&["status", "/etc"]),
        "piton: nothing of the automounter's is at /etc: `piton status` names its \
         mount points\n= 1\n",
    );
}

#[test]
fn status_of_an_idle_daemon_is_short() {
    golden(
        "status-bare.txt",
        &bed(Canned {
            bare: true,
            ..Canned::default()
        })
        .out(&["status"]),
    );
}

#[test]
fn status_as_json_is_what_the_daemon_said() {
    let (exit, out, err) = bed(Canned::default()).run(&["status", "--json"]);
    assert_eq!((exit, err.as_str()), (0, ""));
    let read: Status = serde_json::from_str(&out).expect("a status");
    let mut expected = full();
    if rustix::process::geteuid().is_root() {
        assert_eq!(read, expected);
    }
    expected.redact_for(u32::MAX);
    let mut read = read;
    read.redact_for(u32::MAX);
    assert_eq!(read, expected);
    let squeezed: String = out.split_whitespace().collect();
    assert!(
        squeezed.starts_with(
            r#"{"version":"0.1.0","keeper":{"pid":700},"daemon":{"pid":701,"since":""#
        )
    );
}

#[test]
fn list_has_a_line_for_each_mount() {
    check(
        &bed(Canned::default()).out(&["list"]),
        "/home/ann\tfs1:/export/home/ann\tmount\t/home\t754\t3\t0\t99\t-\n\
         /home/tab\\011here\t\tdirectory\t/home\t3\t1\t1001\t0\t-\n= 0\n",
    );
    let json = bed(Canned::default()).out(&["list", "--json"]);
    assert!(
        json.starts_with("[\n  {\n    \"path\": \"/home/ann\","),
        "{json}"
    );
    check(
        &bed(Canned {
            bare: true,
            ..Canned::default()
        })
        .out(&["list"]),
        "= 0\n",
    );
}

#[test]
fn reload_shows_what_changes() {
    let full = bed(Canned::default());
    check(
        &full.out(&["reload", "--plan"]),
        "- /old  map auto.x\n~ /home  map auto.x  (timeout 300 to 600)\n+ /new  map auto.x\n\
         ? /src  map auto.x  (to be removed, waits for /src/x)\n\
         ! /sw/a/b  map auto.x  (auto.sw:9:1: the direct key /sw/a (auto.sw:3:1) would hide it)\n\
         1 would be added, 1 would be removed, 1 would be changed, 4 unchanged, \
         1 would be pending, 1 refused\n\
         piton: /etc/auto.master:9:1: no map is named\n= 0\n",
    );
    check(
        &full.out(&["reload"]),
        "nothing changed; 4 unchanged\n= 0\n",
    );
    check(
        &bed(Canned {
            bare: true,
            ..Canned::default()
        })
        .out(&["reload"]),
        "piton: /etc/auto.master: no such file\n= 1\n",
    );
}

#[test]
fn what_stays_is_named_with_who_keeps_it() {
    let bed = bed(Canned::default());
    let stays = "stays /home/ann: in use\n        vi\\u{1b}[2Jm (pid 4400) of uid 1000: open file \
                 /home/ann/thesis\n        nginx (pid 5100) of uid 33, container \
                 0123456789ab: copy of the mount /home/ann, in another mount namespace\n        \
                 mounted on it /home/ann/media\n";
    check(&bed.out(&["expire"]), &format!("{stays}1 in use\n= 0\n"));
    check(
        &bed.out(&["expire", "/home"]),
        "nothing stays mounted\n= 0\n",
    );
    check(&bed.out(&["flush"]), "12 failures are forgotten\n= 0\n");
    check(
        &bed.out(&["flush", "/home"]),
        "1 failure is forgotten\n= 0\n",
    );
    check(
        &bed.out(&["unmount", "/home/ann/"]),
        &format!("{stays}= 1\n"),
    );
    check(
        &bed.out(&["unmount", "/home/tab"]),
        "unmounted /home/tab\n= 0\n",
    );
    for command in ["expire", "flush"] {
        check(
            &bed.out(&[command, "/foo"]),
            "piton: nothing of the automounter's is at /foo: `piton status` names its mount \
             points\n= 1\n",
        );
    }
    check(
        &bed.out(&["unmount", "/x"]),
        "piton: nothing of the automounter's is at /x: `piton status` names its \
         mount points\n= 1\n",
    );
}

#[test]
fn stop_names_what_stays_and_is_content() {
    let bed = bed(Canned::default());
    check(
        &bed.out(&["stop"]),
        "stays /home/ann: in use\n1 in use\n= 0\n",
    );
    check(
        &bed.out(&["stop", "--detach"]),
        "left 2 mounts for the next daemon\n= 0\n",
    );
}

#[test]
fn mount_touches_and_says_what_is_there() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let there = root.path().to_str().expect("UTF-8").to_owned();
    let bed = bed(Canned {
        extra: Some(there.clone()),
        ..Canned::default()
    });
    check(
        &bed.out(&["mount", &there]),
        &format!("{there}  tmpfs, as it was before\n= 0\n"),
    );
    let file = root.path().join("file");
    std::fs::write(&file, "").expect("a file");
    check(
        &bed.out(&["mount", file.to_str().expect("UTF-8")]),
        &format!("{there}  tmpfs, as it was before\n= 0\n"),
    );
    check(
        &bed.out(&["mount", &format!("{there}/absent/x")]),
        &format!(
            "piton: {there}/absent/x: No such file or directory; see `piton explain {there}/absent/x`\n= 1\n"
        ),
    );
    check(
        &bed.out(&["mount", "/home/.git/config"]),
        "piton: /home/.git/config: No such file or directory: no map has this key\n= 1\n",
    );
    check(
        &bed.out(&["mount", "/home/.git"]),
        "piton: /home/.git: No such file or directory: no map has this key\n= 1\n",
    );
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_one() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for args in [
        &["status"][..],
        &["list"],
        &["reload"],
        &["expire"],
        &["flush"],
        &["mount", "/x"],
        &["unmount", "/x"],
        &["stop"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.args(args).env("PITON_RUNTIME_DIR", root.path());
        let (status, out, err) = outcome(command);
        let expected = format!(
            "piton: no piton daemon runs here (no socket at {}/control): start it with `piton \
             daemon`, or name its runtime directory in PITON_RUNTIME_DIR\n",
            root.path().display()
        );
        assert_eq!((status, out.as_str(), err), (1, "", expected), "{args:?}");
    }
}

#[test]
fn explain_tells_what_the_daemon_knows_of_servers() {
    let bed = bed(Canned::default());
    let at = |name: &str| bed.root.path().join(name).display().to_string();
    std::fs::write(
        at("auto.master"),
        format!("/data {} dialect=linux\n", at("auto.data")),
    )
    .expect("a master map");
    let entry = "big -fstype=nfs4,ro fs1:/big fs2:/big fs3:/big\n";
    std::fs::write(at("auto.data"), entry).expect("a map");
    let master = at("auto.master");
    let words = ["explain", "--master", &master, "/data/big"];
    let (status, text, _) = bed.run(&words);
    let known: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("the daemon") || line.contains("pinned"))
        .map(|line| line.trim_start().trim_start_matches(['.', ' ']))
        .collect();
    assert_eq!(status, 0, "{text}");
    assert_eq!(
        known[..3],
        [
            "the daemon: circuit closed: alive for 1 h",
            "the daemon: circuit open for 1 min 35 s: connection timed out (failed 5 times); nobody \
         waits for it, asked again in 12 s; drained for another 2 h: chosen last",
            "the daemon: circuit closed: nothing is known against it",
        ]
    );
    assert!(
        known[3].contains("/data is pinned for another 7 h 46 min"),
        "{text}"
    );
    let (_, json, _) = bed.run(&["explain", "--json", "--master", &master, "/data/big"]);
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told["pins"][0]["path"], "/data");
    let of =
        |number: usize, field: &str| told["mounts"][0]["replicas"][number]["health"][field].clone();
    assert_eq!(
        (of(0, "circuit"), of(0, "drained")),
        ("closed".into(), false.into())
    );
    assert_eq!(
        (of(1, "circuit"), of(1, "drained")),
        ("open".into(), true.into())
    );
    assert_eq!(
        (of(1, "failures"), of(1, "error")),
        (5.into(), "connection timed out".into())
    );
    assert!(
        of(1, "since").is_string() && of(2, "since").is_null(),
        "{json}"
    );
    assert_eq!(
        (of(2, "circuit"), of(2, "state")),
        ("closed".into(), "unknown".into())
    );
    // Where no daemon runs, nothing but that is missing.
    let without = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.args(words).env("PITON_RUNTIME_DIR", at("nowhere"));
        outcome(command).1
    };
    let mine = |line: &&str| !line.contains("the daemon") && !line.contains("pinned");
    let unnumbered = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(mine);
        let number = |it: char| it.is_ascii_digit() || it == '.';
        lines
            .map(|line| line.trim_start_matches(number).to_owned())
            .collect()
    };
    assert_eq!(unnumbered(&without(&words)), unnumbered(&text));
    let json = without(&["explain", "--json", "--master", &master, "/data/big"]);
    assert!(!json.contains("health") && !json.contains("pins"), "{json}");
}

#[test]
fn colour_is_for_terminals_and_who_asks_for_it() {
    let bed = bed(Canned::default());
    let mut command = bed.command(&["status"]);
    command.env("CLICOLOR_FORCE", "1");
    let (_, out, _) = outcome(command);
    assert!(out.contains("\u{1b}[32mready"), "{out}");
    assert!(
        !out.contains("\u{1b}[2J"),
        "an escape sequence of a process got through: {out}"
    );
}

/// A program that another user can run, wherever the build directory is.
fn program() -> PathBuf {
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_piton")).expect("it was built");
    let fd = std::os::fd::IntoRawFd::into_raw_fd(program);
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

#[test]
fn another_user_may_look_and_not_touch() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        // The daemon's own user may do everything: there is no other user to be had.
        check(
            &bed(Canned::default()).out(&["expire", "/home"]),
            "nothing stays mounted\n= 0\n",
        );
        return;
    }
    let bed = bed(Canned::default());
    std::fs::set_permissions(bed.root.path(), PermissionsExt::from_mode(0o755)).expect("mode");
    let program = program();
    let nobody = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(args)
            .env("PITON_RUNTIME_DIR", bed.dir.path())
            .uid(65_534)
            .gid(65_534);
        outcome(command)
    };
    assert_eq!(nobody(&["list"]).0, 0);
    assert_eq!(nobody(&["reload", "--plan"]).0, 0);
    let (status, out, _) = nobody(&["status"]);
    assert_eq!(status, 0);
    assert!(
        out.contains("of uid 1000: open file\n"),
        "another user's file is shown: {out}"
    );
    for args in [
        &["reload"][..],
        &["expire"],
        &["flush"],
        &["unmount", "/home/ann"],
        &["stop"],
    ] {
        let (status, out, err) = nobody(args);
        let expected = "piton: not permitted: only root and the daemon's own user may do this\n";
        assert_eq!(
            (status, out.as_str(), err.as_str()),
            (1, "", expected),
            "{args:?}"
        );
    }
}

#[test]
fn a_trace_has_a_line_for_each_request() {
    let bed = bed(Canned::default());
    golden("trace.txt", &bed.out(&["trace", "--recent"]));
    golden("trace.json", &bed.out(&["trace", "--recent", "--json"]));
    // What is followed ends with the canned daemon.
    let (exit, out, err) = bed.run(&["trace", "/home"]);
    assert_eq!((exit, err.as_str()), (1, "piton: no more\n"));
    assert!(out.starts_with("at (UTC)"), "{out}");
    assert!(out.contains("\n3 lost: read too slowly\n"), "{out}");
    assert!(!out.contains("/sw/tool12"), "{out}");
}
