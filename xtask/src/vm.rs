//! The VM tier: tests in a throw-away virtual machine with a kernel, servers and networks of its
//! own (`vm/README.md`).

use crate::install;
use crate::process::{Done, Failure, Outcome, cargo, command, executables, is_installed, quietly};
use crate::process::{release_binary, root, target_folder};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What makes and runs the guest, and the Debian package that has it.
const NEEDED: [(&str, &str); 8] = [
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("dpkg-deb", "dpkg"),
    ("mke2fs", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Seconds after which a test is given up, and what the guest knows of it is shown. The longest takes a
/// minute and a half on a slow machine.
const SECONDS: &str = "800";

/// Tests that need a newer kernel than Debian 12's, and Debian's package of one: LVM freezes a file
/// system that is frozen already since Linux 6.8 only.
const NEWER: (&str, [&str; 1]) = (
    "linux-image-6.12-amd64",
    ["snapshot_lvm::a_group_is_of_one_instant"],
);

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    /// A build of Piton without optimisation: built sooner, runs slower.
    dev: bool,
    /// Shows what tests print even if they pass.
    show: bool,
    /// A folder of this machine for what tests write into /out.
    out: Option<String>,
    /// Tests whose `target::name` contains one of these; all, if there is none.
    names: Vec<String>,
}

/// One test: its program's name and its own.
#[derive(Debug, PartialEq)]
struct Test {
    target: String,
    name: String,
}

/// Where the programs for the guest lie, and how it is started.
struct Machine {
    share: PathBuf,
    out: Option<PathBuf>,
}

/// Runs the tests that were asked for.
pub(crate) fn run(words: &[String]) -> Outcome {
    let wanted = parse(words)?;
    let (tests, passed) = tested(&wanted)?;
    if tests == 0 {
        return Err(Failure::new(format!(
            "vm-test: no test is called {:?}",
            wanted.names
        )));
    }
    if passed < tests {
        return Err(Failure::new(format!(
            "vm-test: {} of {tests} failed",
            tests - passed
        )));
    }
    Ok(())
}

/// Runs all tests, for `cargo xtask test`: how many there are, and how many passed.
pub(crate) fn all() -> Result<(usize, usize), Failure> {
    tested(&Wanted::default())
}

fn parse(words: &[String]) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--dev" => wanted.dev = true,
            "--show" => wanted.show = true,
            "--out" => {
                let folder = rest
                    .next()
                    .ok_or_else(|| Failure::new("--out wants a folder"))?;
                wanted.out = Some(folder.clone());
            }
            option if option.starts_with('-') => {
                return Err(Failure::new(format!("vm-test: no such option: {option}")));
            }
            name => wanted.names.push(name.to_owned()),
        }
    }
    Ok(wanted)
}

fn tested(wanted: &Wanted) -> Result<(usize, usize), Failure> {
    install_what_is_needed()?;
    let machine = Machine::new(wanted)?;
    let mut tests = machine.build(wanted)?;
    if !wanted.names.is_empty() {
        tests.retain(|test| wanted.names.iter().any(|name| test.whole().contains(name)));
    }
    machine.check()?;
    let mut passed = 0;
    for test in &tests {
        let begun = Instant::now();
        let words = [&test.name, "--exact", "--nocapture"];
        let done = machine.run(&test.target, &words, image_for(&test.whole())?)?;
        // A name that fits no test would be a success without a test.
        let good = done.success && done.stdout.contains("\ntest result: ok. 1 passed;");
        let (word, seconds) = (
            if good { "ok" } else { "FAILED" },
            begun.elapsed().as_secs_f64(),
        );
        println!("vm {} ... {word} ({seconds:.1} s)", test.whole());
        if !good || wanted.show {
            println!("{}{}", done.stdout, done.stderr);
        }
        passed += usize::from(good);
    }
    println!("vm: {passed} of {} passed", tests.len());
    Ok((tests.len(), passed))
}

fn install_what_is_needed() -> Outcome {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install::install(&missing).map_err(|failure| {
        Failure::new(format!(
            "the VM tier cannot run here, and so nothing of it is tested: {failure}"
        ))
    })
}

impl Machine {
    fn new(wanted: &Wanted) -> Result<Self, Failure> {
        // Of its own, so that several may run at once.
        let share = target_folder().join(format!("vm-share-{}", std::process::id()));
        let out = wanted.out.as_ref().map(|folder| root().join(folder));
        for folder in [Some(&share), out.as_ref()].into_iter().flatten() {
            let made = fs::create_dir_all(folder);
            made.map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
        }
        Ok(Self { share, out })
    }

    /// Builds the daemon and the tests, puts them where the guest sees them, lists the tests.
    fn build(&self, wanted: &Wanted) -> Result<Vec<Test>, Failure> {
        let mut daemon = vec!["build", "-p", "piton"];
        if !wanted.dev {
            daemon.push("--release");
        }
        built(&quietly(cargo(&daemon))?)?;
        let piton = if wanted.dev {
            target_folder().join("debug/piton")
        } else {
            PathBuf::from(release_binary())
        };
        self.put(&piton, "piton")?;
        // Named targets are built although they have `test = false`.
        let done = quietly(cargo(&[
            "test", "-p", "piton-vm", "--no-run", "--test", "*",
        ]))?;
        built(&done)?;
        let mut tests = Vec::new();
        for program in executables(&done.stderr, &root()) {
            let target = target_of(&program);
            self.put(Path::new(&program), &target)?;
            let listed = quietly(command(&program, &["--list", "--format", "terse"]))?;
            tests.extend(named(&target, &listed.stdout));
        }
        Ok(tests)
    }

    fn put(&self, program: &Path, name: &str) -> Outcome {
        let copied = fs::copy(program, self.share.join(name));
        copied
            .map(|_| ())
            .map_err(|error| Failure::new(format!("copying {}: {error}", program.display())))
    }

    /// Makes image and snapshot if they are not there, and sees whether a guest starts.
    fn check(&self) -> Outcome {
        let nothing = self.share.join("nothing");
        let written = fs::write(&nothing, "#!/bin/sh\n")
            .and_then(|()| fs::set_permissions(&nothing, fs::Permissions::from_mode(0o755)));
        written.map_err(|error| Failure::new(format!("{}: {error}", nothing.display())))?;
        let begun = Instant::now();
        let done = self.run("nothing", &[], None)?;
        if !done.success {
            return Err(Failure::new(format!(
                "the guest cannot be made or does not start, and so nothing is tested\n{}{}",
                done.stdout, done.stderr
            )));
        }
        println!(
            "vm: the guest is ready ({:.1} s)",
            begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn run(
        &self,
        program: &str,
        arguments: &[&str],
        image: Option<String>,
    ) -> Result<Done, Failure> {
        let share = self.share.to_string_lossy();
        let program = self.share.join(program);
        let mut run = command("vm/run", &["--prepare", "vm/prepare/servers", "--dump"]);
        run.args(["--timeout", SECONDS, "--share", &share]);
        if let Some(out) = &self.out {
            run.arg("--out").arg(out);
        }
        if let Some(image) = image {
            run.args(["--image", &image]);
        }
        run.arg(program).args(arguments);
        quietly(run)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is left is rubbish in cargo's folder, and goes with it.
        let _ = fs::remove_dir_all(&self.share);
    }
}

/// The guest that a test needs, made if it is not there; none for the usual one.
fn image_for(test: &str) -> Result<Option<String>, Failure> {
    let (kernel, tests) = NEWER;
    if !tests.contains(&test) {
        return Ok(None);
    }
    let done = quietly(command("vm/build", &["--kernel", kernel]))?;
    built(&done)?;
    Ok(done.stdout.lines().last().map(str::to_owned))
}

fn built(done: &Done) -> Outcome {
    if done.success {
        return Ok(());
    }
    Err(Failure::new(format!(
        "vm-test: cannot build\n{}",
        done.stderr
    )))
}

/// The name of a test program, without the hash that cargo adds.
fn target_of(program: &str) -> String {
    let file = program.rsplit('/').next().unwrap_or(program);
    file.rsplit_once('-')
        .map_or(file, |(name, _)| name)
        .to_owned()
}

/// The tests of a program's list: lines `NAME: test`.
fn named(target: &str, listed: &str) -> Vec<Test> {
    listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|name| Test {
            target: target.to_owned(),
            name: name.to_owned(),
        })
        .collect()
}

impl Test {
    fn whole(&self) -> String {
        format!("{}::{}", self.target, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_a_program_are_read_from_its_list() {
        assert_eq!(target_of("/t/debug/deps/show_1-0a1b"), "show_1");
        let tests = named("rig", "a::b: test\nc: test\n\n2 tests, 0 benchmarks\n");
        let whole: Vec<String> = tests.iter().map(Test::whole).collect();
        assert_eq!(whole, ["rig::a::b", "rig::c"]);
    }

    #[test]
    fn words_are_names_unless_they_are_options() {
        let words = ["--dev", "rig", "--out", "x"].map(str::to_owned);
        let wanted = parse(&words).unwrap();
        assert_eq!(
            (wanted.dev, wanted.names, wanted.out.as_deref()),
            (true, vec!["rig".to_owned()], Some("x"))
        );
        assert!(parse(&["--fast".to_owned()]).is_err());
    }

    /// A file of tests that Cargo.toml does not name would never run.
    #[test]
    fn every_file_of_tests_is_named_in_the_manifest() {
        let folder = root().join("vm");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for entry in fs::read_dir(folder.join("tests")).unwrap().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_suffix(".rs") else {
                continue;
            };
            let section = format!("[[test]]\nname = \"{name}\"\ntest = false\n");
            assert!(
                manifest.contains(&section),
                "vm/Cargo.toml lacks\n{section}"
            );
        }
    }
}
