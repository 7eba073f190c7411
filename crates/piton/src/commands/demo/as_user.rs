//! The user's part of the tour: plans in full, mounts in a user namespace by our own hand.

use bstr::BStr;
use piton_mount::perform::{Failure, Settings, Triggers, perform};
use piton_plan::step::{Attempt, Planned, Step, TriggerSpec, What};

use super::stage::{Stage, Trouble, promise, run, say, show, word};

/// The tour with mounts.
pub(super) fn tour() -> Result<(), Trouble> {
    let stage = Stage::set(true)?;
    let toured = explained(&stage).and_then(|()| mounted(&stage));
    let cleared = stage.clear(true);
    toured?;
    cleared?;
    println!("\nNothing is left mounted. As root, `piton demo` shows the same on access.");
    Ok(())
}

/// The tour without mounts.
pub(super) fn explain_only() -> Result<(), Trouble> {
    let stage = Stage::set(false)?;
    let toured = explained(&stage);
    let cleared = stage.clear(false);
    toured?;
    cleared
}

fn explained(stage: &Stage) -> Result<(), Trouble> {
    say(
        "The maps",
        "The master map names mount points and their maps.",
    );
    show(stage, &["cat", &word(&stage.path("auto.master"))])?;
    show(stage, &["cat", &word(&stage.path("auto.home"))])?;
    let program = word(&std::env::current_exe().map_err(|error| error.to_string())?);
    let master = word(&stage.path("auto.master"));
    for path in ["home/ann", "home/bob", "src/beta", "tools"] {
        say(
            "Explain",
            &format!("What touching /{path} would do, and why:"),
        );
        let output = run(&[
            &program,
            "explain",
            &word(&stage.path(path)),
            "--master",
            &master,
        ])?;
        let root = stage.root.to_string_lossy().into_owned();
        for line in String::from_utf8_lossy(&output.stdout)
            .replace(&root, "")
            .lines()
        {
            println!("    {line}");
        }
        promise(output.status.success(), "explain failed")?;
    }
    Ok(())
}

fn mounted(stage: &Stage) -> Result<(), Trouble> {
    say(
        "Mount",
        "The same two mounts, made now in this user namespace:",
    );
    let bind = Attempt {
        what: What::Bind { recursive: false },
        source: word(&stage.path("export/home/ann")).into(),
        options: vec!["ro".into()],
        host: None,
        address: None,
        no_guests: false,
        by_helper: false,
    };
    let tmpfs = Attempt {
        what: What::Type("tmpfs".into()),
        source: "tmpfs".into(),
        options: vec!["size=1m".into()],
        host: None,
        address: None,
        no_guests: false,
        by_helper: false,
    };
    let mut steps = Vec::new();
    for (name, attempt) in [("home/ann", bind), ("home/scratch", tmpfs)] {
        let target: bstr::BString = word(&stage.path(name)).into();
        let directory = Step::MakeDirectory {
            path: target.clone(),
        };
        steps.push(Planned {
            step: directory,
            required: true,
        });
        let propagation = piton_map::options::Propagation::Private;
        let mount = Step::Mount {
            target,
            attempts: vec![attempt],
            propagation,
        };
        steps.push(Planned {
            step: mount,
            required: true,
        });
    }
    let outcome = perform(&steps, &NoTriggers, &Settings::default());
    if let Some(failure) = outcome.failed {
        return Err(failure.text);
    }
    println!("  mounted now: {}", stage.mounts().join(", "));
    let seen = show(stage, &["cat", &word(&stage.path("home/ann/hello.txt"))])?;
    promise(seen.status.success(), "the mounted file could not be read")?;
    for name in ["home/scratch", "home/ann"] {
        rustix::mount::unmount(stage.path(name), rustix::mount::UnmountFlags::empty())
            .map_err(|error| format!("cannot unmount {name}: {error}"))?;
    }
    Ok(())
}

/// Users have no triggers.
struct NoTriggers;

impl Triggers for NoTriggers {
    fn install(&self, _spec: &TriggerSpec) -> Result<(), Failure> {
        Err(Failure::new(1, "triggers need root"))
    }

    fn remove(&self, _spec: &TriggerSpec) -> Result<(), Failure> {
        Ok(())
    }

    fn make_directory(&self, _path: &BStr) -> Option<Result<bool, Failure>> {
        None
    }
}
