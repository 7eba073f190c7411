//! What both tours share: a scratch directory with files to mount and maps, and the telling.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use std::os::unix::process::CommandExt;

/// Why a tour ended early, for people.
pub(crate) type Trouble = String;

/// The scratch directory.
pub(crate) struct Stage {
    /// Everything is below it.
    pub(crate) root: PathBuf,
}

impl Stage {
    /// Makes a scratch directory on a tmpfs of its own and fills it.
    pub(crate) fn set(mount: bool) -> Result<Self, Trouble> {
        let root = std::env::temp_dir().join(format!("piton-demo-{}", std::process::id()));
        let stage = Self { root };
        fs::create_dir(&stage.root).map_err(|error| stage.trouble("create", &error))?;
        if mount {
            let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
            rustix::mount::mount("demo", &stage.root, "tmpfs", flags, None)
                .map_err(|error| stage.trouble("mount a tmpfs on", &error.into()))?;
        }
        stage
            .fill()
            .map_err(|error| stage.trouble("fill", &error))?;
        Ok(stage)
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Trouble {
        format!("cannot {what} {}: {error}", self.root.display())
    }

    fn fill(&self) -> io::Result<()> {
        for user in ["ann", "bob", "cy"] {
            self.write(
                &format!("export/home/{user}/hello.txt"),
                &format!("I am {user}'s file\n"),
            )?;
        }
        for part in ["src", "src/beta/1.0", "src/beta/1.0/man"] {
            self.write(
                &format!("export/{part}/README"),
                &format!("this is {part}\n"),
            )?;
        }
        self.write("export/tools/hammer", "bang\n")?;
        let root = self.root.display();
        self.write(
            "auto.master",
            &format!(
                "# a master map: mount point, map, options\n\
                 {root}/home   {root}/auto.home   --timeout=1\n\
                 {root}/on     {root}/auto.on     --timeout=1\n\
                 {root}/src    {root}/auto.src    --timeout=1\n\
                 /-            {root}/auto.direct --timeout=1\n"
            ),
        )?;
        self.write(
            "auto.home",
            &format!(
                "# key   options          location\n\
                 ann     -fstype=bind,ro  :{root}/export/home/ann\n\
                 scratch -fstype=tmpfs,size=1m  :tmpfs\n\
                 *       -fstype=bind     :{root}/export/home/&\n"
            ),
        )?;
        self.write(
            "auto.src",
            &format!(
                "beta  /         -fstype=tmpfs,size=1m :tmpfs \\\n\
                 \x20     /1.0      -fstype=bind   :{root}/export/src/beta/1.0 \\\n\
                 \x20     /1.0/man  -fstype=bind   :{root}/export/src/beta/1.0/man\n"
            ),
        )?;
        self.write(
            "auto.direct",
            &format!("{root}/tools -fstype=bind :{root}/export/tools\n"),
        )?;
        self.write(
            "auto.on",
            &format!(
                "#!/bin/sh\n# an executable map: gets the key, prints an entry or nothing\n\
                 case \"$1\" in\n\
                 today) echo '-fstype=tmpfs,size=1m :today-'$(date +%Y-%m-%d) ;;\n\
                 home-*) echo \"-fstype=bind :{root}/export/home/${{1#home-}}\" ;;\n\
                 esac\n"
            ),
        )?;
        let program = self.root.join("auto.on");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)
    }

    /// A path below the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What the mount table shows below a path, without the scratch directory's own name.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = self.root.to_string_lossy().into_owned();
        table
            .lines()
            .filter_map(|line| {
                let target = line.split(' ').nth(4)?.strip_prefix(&root)?;
                let (_, what) = line.split_once(" - ")?;
                let fstype = what.split(' ').next()?;
                (!target.is_empty()).then(|| format!("{target} ({fstype})"))
            })
            .collect()
    }

    /// Removes the scratch directory.
    pub(crate) fn clear(&self, mounted: bool) -> Result<(), Trouble> {
        if mounted {
            rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::empty())
                .map_err(|error| self.trouble("unmount", &error.into()))?;
            fs::remove_dir(&self.root).map_err(|error| self.trouble("remove", &error))
        } else {
            fs::remove_dir_all(&self.root).map_err(|error| self.trouble("remove", &error))
        }
    }
}

/// Runs a command as another process would, in a process group of its own, shows it and what it
/// printed.
pub(crate) fn show(stage: &Stage, words: &[&str]) -> Result<Output, Trouble> {
    let root = stage.root.to_string_lossy().into_owned();
    let shown: Vec<String> = words.iter().map(|word| word.replace(&root, "")).collect();
    println!("  $ {}", shown.join(" "));
    let output = run(words)?;
    let text = String::from_utf8_lossy(&output.stdout).replace(&root, "");
    let errors = String::from_utf8_lossy(&output.stderr).replace(&root, "");
    for line in text.lines().chain(errors.lines()) {
        println!("    {line}");
    }
    Ok(output)
}

/// The same without a word.
pub(crate) fn run(words: &[&str]) -> Result<Output, Trouble> {
    let (program, rest) = words.split_first().ok_or("no command")?;
    Command::new(program)
        .args(rest)
        .process_group(0)
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))
}

/// A heading and what is to be seen.
pub(crate) fn say(title: &str, text: &str) {
    println!("\n{title}\n  {}", text.replace('\n', "\n  "));
}

/// Ends the tour unless a promise holds.
pub(crate) fn promise(holds: bool, what: &str) -> Result<(), Trouble> {
    if holds {
        Ok(())
    } else {
        Err(format!("that was not to be: {what}"))
    }
}

/// A path as a word of a command.
pub(crate) fn word(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
