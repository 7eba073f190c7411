//! Programs that behave, and programs that do not.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use piton_map::dialect::Dialect;
use piton_map::requester::{Requester, RequesterNames};

use super::*;

/// A directory with a program in it.
struct Program {
    dir: tempfile::TempDir,
    source: ProgramSource,
}

impl Program {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self {
            source: ProgramSource::new(path, "/etc/auto.p".into()),
            dir,
        }
    }

    fn run_for(&self, key: &str, time: Duration) -> Result<String, Miss> {
        self.run_as(key, time, &Requester::default(), &[])
    }

    fn run_as(
        &self,
        key: &str,
        time: Duration,
        requester: &Requester,
        defines: &[(BString, BString)],
    ) -> Result<String, Miss> {
        let mount_point = self.dir.path().as_os_str().as_bytes().as_bstr();
        let context = LookupContext {
            kind: MapKind::Indirect,
            dialect: &Dialect::LINUX,
            requester,
            defines,
            mount_point,
            deadline: Some(Instant::now() + time),
        };
        let found = self.source.lookup(key.into(), &context)?;
        Ok(found.fragment.slice(found.value).to_string())
    }

    fn run(&self, key: &str) -> Result<String, Miss> {
        self.run_for(key, Duration::from_secs(20))
    }

    fn set_mode(&self, mode: u32) {
        let path = self.dir.path().join("map");
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

fn output(script: &str) -> Result<String, Miss> {
    Program::new(script).run("k")
}

fn failure(script: &str) -> String {
    match output(script) {
        Err(Miss::ProgramFailed(why)) => why.to_string(),
        other => panic!("{script}: {other:?}"),
    }
}

/// Waits until no process has `mark` in its command line.
fn nobody_is_left(mark: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    let running = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|process| {
                let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                line.contains_str(mark)
            })
    };
    while running() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn the_first_line_that_is_not_blank_is_the_entry() {
    for (script, entry) in [
        ("echo '-fstype=fake :/a'", "-fstype=fake :/a"),
        ("printf -- ':/d'", ":/d"),
        ("echo; echo ' :/e'", ":/e"),
        ("echo ':/f1'; echo ':/f2'", ":/f1"),
        ("printf -- '-ro \\\\\\n :/g\\n'", "-ro   :/g"),
        ("printf -- ':/m\\r\\n'", ":/m"),
        ("printf -- ':/r\\0more\\n'", ":/r"),
        ("echo warning >&2; echo ':/l'", ":/l"),
        ("echo \"$#:$1\"", "1:k"),
    ] {
        assert_eq!(output(script).as_deref(), Ok(entry), "{script}");
    }
}

#[test]
fn nothing_printed_is_no_such_key() {
    for script in ["", "exit 1", "echo", "echo ' '; exit 1", "echo no >&2"] {
        assert_eq!(output(script), Err(Miss::NoSuchKey), "{script}");
    }
}

#[test]
fn exit_status_and_signals_count_whatever_was_printed() {
    assert!(failure("echo :/c; exit 1").ends_with("exit status 1"));
    assert!(failure("exit 3").ends_with("exit status 3"));
    assert!(failure("echo :/t; kill -9 $$").ends_with("killed by signal 9"));
    assert!(failure("kill -SEGV $$").ends_with("killed by signal 11"));
}

#[test]
fn the_key_is_one_argument_and_no_shell_reads_it() {
    let program = Program::new("echo \"$#:$1\"");
    for key in [
        "a b",
        "-n",
        "*",
        "a$HOST",
        "a'b",
        "a;b",
        "`id`",
        "k\u{e4}se",
    ] {
        assert_eq!(program.run(key), Ok(format!("1:{key}")), "{key}");
    }
    for key in ["a/b", "..", "", "a\nb"] {
        assert!(matches!(program.run(key), Err(Miss::BadKey(_))), "{key:?}");
    }
}

#[test]
fn the_surroundings_are_prepared() {
    let program =
        Program::new("echo $(pwd; env | grep -Ev '^(_|PWD|SHLVL|OLDPWD)=' | sort | sed 's/ /_/g')");
    let names = RequesterNames {
        user: "ann".into(),
        group: "users".into(),
        home: "/h".into(),
    };
    let requester = Requester {
        uid: 7,
        gid: 8,
        pid: 0,
        names: Some(std::sync::Arc::new(names)),
        ..Requester::default()
    };
    let defines = [
        ("FOO".into(), "bar".into()),
        ("bad name".into(), "x".into()),
    ];
    let output = program
        .run_as("k", Duration::from_secs(20), &requester, &defines)
        .unwrap();
    let mut words = output.split(' ');
    assert_eq!(
        Path::new(words.next().unwrap()),
        program.dir.path().canonicalize().unwrap()
    );
    let variables: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "ARCH",
            "AUTOFS_GID",
            "AUTOFS_GROUP",
            "AUTOFS_HOME",
            "AUTOFS_SHOST",
            "AUTOFS_UID",
            "AUTOFS_USER",
            "CPU",
            "FOO",
            "HOST",
            "OSNAME",
            "OSREL",
            "OSVERS",
            "PATH"
        ]
    );
    assert!(variables.contains(&("AUTOFS_USER", "ann")) && variables.contains(&("FOO", "bar")));
    assert!(variables.contains(&("AUTOFS_UID", "7")) && variables.contains(&("PATH", PATH)));
}

#[test]
fn one_that_hangs_is_killed_with_its_descendants() {
    let program = Program::new("sh -c 'sleep 71.25 & sleep 71.25' & sleep 71.25");
    let start = Instant::now();
    let miss = program.run_for("k", Duration::from_millis(300));
    assert!(matches!(miss, Err(Miss::TimedOut(why)) if why.contains("killed")));
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(nobody_is_left("71.25"));
}

#[test]
fn one_that_ignores_signals_is_killed_too() {
    let program = Program::new("trap '' TERM INT HUP; while :; do sleep 72.25; done");
    assert!(matches!(
        program.run_for("k", Duration::from_millis(300)),
        Err(Miss::TimedOut(_))
    ));
    assert!(nobody_is_left("72.25"));
}

#[test]
fn a_grandchild_that_keeps_the_output_open_is_not_waited_for() {
    let start = Instant::now();
    let entry = output("sleep 73.25 & echo \":/$!\"").unwrap();
    assert!(start.elapsed() < Duration::from_secs(60));
    // It is left alone; the test cleans up after itself.
    let pid = rustix::process::Pid::from_raw(entry[2..].parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn the_output_limit_is_exact() {
    let print = |bytes: usize| format!("head -c {bytes} /dev/zero | tr '\\0' x");
    assert_eq!(
        output(&print(PROGRAM_OUTPUT)).map(|text| text.len()),
        Ok(PROGRAM_OUTPUT)
    );
    assert!(failure(&print(PROGRAM_OUTPUT + 1)).contains("printed more than"));
}

#[test]
fn floods_are_stopped() {
    let start = Instant::now();
    assert!(failure("yes").contains("printed more than"));
    assert!(failure("exec cat /dev/zero").contains("printed more than"));
    assert!(start.elapsed() < Duration::from_secs(60));
    let flood = Program::new("yes 74.25 >&2");
    assert!(matches!(
        flood.run_for("k", Duration::from_millis(300)),
        Err(Miss::TimedOut(_))
    ));
    assert!(nobody_is_left("74.25"));
    let errors = "i=0; while [ $i -lt 3000 ]; do echo warning $i >&2; i=$((i+1)); done; echo :/x";
    assert_eq!(output(errors).as_deref(), Ok(":/x"));
}

#[test]
fn rubbish_is_handed_on_as_it_is() {
    let found = output("head -c 1000 /dev/urandom | tr -d '\\0\\n\\\\ '; echo");
    assert!(found.is_ok(), "{found:?}");
}

#[test]
fn continued_lines_are_joined_by_a_blank() {
    let cases: [(&[u8], &[u8]); 6] = [
        (b"-ro \\\n  :/c\n", b"-ro    :/c\n"),
        (b":/e\\\nee\n", b":/e ee\n"),
        (b":/e\\\r\nee\n", b":/e ee\n"),
        (b":/e\\\\\nee\n", b":/e\\\\\nee\n"),
        (b":/e\\\\\\\nee", b":/e\\\\ ee"),
        (b":/e\\", b":/e\\"),
    ];
    for (printed, read) in cases {
        assert_eq!(joined(printed.to_vec()).as_bstr(), read.as_bstr());
    }
    assert_eq!(output("printf ':/e\\\\\nee\\n'").as_deref(), Ok(":/e ee"));
}

#[test]
fn the_prefix_goes_when_it_shall() {
    let requester = Requester {
        uid: 7,
        gid: 8,
        pid: 1,
        names: Some(Arc::new(RequesterNames {
            user: "ann".into(),
            ..RequesterNames::default()
        })),
        ..Requester::default()
    };
    let script = "echo \":/$USER,$UID,$GID,$AUTOFS_USER\"";
    let mut program = Program::new(script);
    let run = |program: &Program| {
        let time = Duration::from_secs(20);
        program.run_as("k", time, &requester, &[])
    };
    assert_eq!(run(&program).as_deref(), Ok(":/,,,ann"));
    program.source = program.source.standard_names(true);
    assert_eq!(run(&program).as_deref(), Ok(":/ann,7,8,"));
}

#[test]
fn what_others_may_change_is_refused() {
    let program = Program::new("echo :/x");
    let refused = |program: &Program, word: &str| match program.run("k") {
        Err(Miss::Refused(why)) => assert!(why.contains(word), "{why}"),
        other => panic!("{word}: {other:?}"),
    };
    for mode in [0o775, 0o757, 0o777] {
        program.set_mode(mode);
        refused(&program, "chmod go-w");
    }
    program.set_mode(0o644);
    refused(&program, "chmod u+x");
    program.set_mode(0o700);
    assert!(program.run("k").is_ok());
    std::fs::set_permissions(program.dir.path(), Permissions::from_mode(0o777)).unwrap();
    refused(&program, "its directory");
    std::fs::set_permissions(program.dir.path(), Permissions::from_mode(0o1777)).unwrap();
    assert!(program.run("k").is_ok());
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        chown(program.dir.path().join("map"), Some(4711), None).unwrap();
        refused(&program, "belongs to user 4711");
        chown(program.dir.path().join("map"), Some(0), None).unwrap();
        chown(program.dir.path(), Some(4711), None).unwrap();
        refused(&program, "belongs to user 4711");
    }
}

#[test]
fn a_link_in_a_directory_of_others_is_refused() {
    let program = Program::new("echo :/x");
    let open = tempfile::tempdir().unwrap();
    let link = open.path().join("map");
    symlink(program.dir.path().join("map"), &link).unwrap();
    let linked = Program {
        source: ProgramSource::new(link, "l".into()),
        dir: program.dir,
    };
    assert!(linked.run("k").is_ok());
    std::fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(linked.run("k"), Err(Miss::Refused(_))));
}

#[test]
fn what_cannot_be_started_says_why() {
    let program = Program::new("");
    let path = program.dir.path().join("map");
    std::fs::write(&path, "a -fstype=fake :/a\n").unwrap();
    let miss = program.run("a");
    assert!(
        matches!(&miss, Err(Miss::ProgramFailed(why)) if why.contains("file:")),
        "{miss:?}"
    );
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    assert!(matches!(program.run("a"), Err(Miss::ProgramFailed(_))));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(program.run("a"), Err(Miss::NoSuchMap("/etc/auto.p".into())));
}

#[test]
fn many_at_once_don_t_disturb_each_other() {
    let program = Program::new("echo \":/$1\"");
    std::thread::scope(|scope| {
        let run = |key: usize| program.run(&key.to_string());
        let threads: Vec<_> = (0..16)
            .map(|key| (key, scope.spawn(move || run(key))))
            .collect();
        for (key, thread) in threads {
            assert_eq!(thread.join().unwrap(), Ok(format!(":/{key}")));
        }
    });
}
