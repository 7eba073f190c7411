//! Takes, mounts and removes snapshots without a daemon: for tests that kill whoever does that, and
//! for measuring.
//!
//! `volumes-driver take STATE POINT TIMES OPTIONS LOCATION` has a snapshot of an entry mounted
//! at POINT so many times, unmounting and sweeping each time; `timed` with the same lets the disk come
//! to rest before each; `bare DIRECTORY POINT TIMES ORIGIN` does that with nothing but the system calls
//! of btrfs that it takes. All print the nanoseconds of each access. `freeze PATH` freezes a file system, says so, and waits to be killed. `volumes-driver
//! guard` is the guard.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_snapshot::Settings;
use piton_snapshot::lifecycle::{Ending, Fault, Wanted};
use piton_volumes::{Show, Site, Still, View, serve_guard};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == "guard"
    {
        return serve_guard(rest);
    }
    let words: Option<Vec<&str>> = arguments.iter().map(|word| word.to_str()).collect();
    let done = match words.as_deref() {
        Some(
            [
                how @ ("take" | "timed"),
                state,
                point,
                times,
                options,
                location,
            ],
        ) => {
            let site = Site::new(PathBuf::from(state), guard());
            let settled = *how == "timed";
            repeat(times, || take(&site, settled, point, options, location))
        }
        Some(["bare", directory, point, times, origin]) => {
            repeat(times, || bare(directory, point, origin))
        }
        Some(["freeze", path]) => freeze(path),
        _ => Err("see the beginning of its source for its arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("volumes-driver: {why}");
            ExitCode::FAILURE
        }
    }
}

fn guard() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), "guard".into()]
}

fn freeze(path: &str) -> Result<(), String> {
    let paths = [BString::from(path)];
    let still = Still::new(&paths, &guard(), Duration::from_secs(60));
    let _still = still.map_err(|error| error.to_string())?;
    println!("frozen");
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

fn repeat(times: &str, one: impl Fn() -> Result<Duration, String>) -> Result<(), String> {
    let times: u32 = times.parse().map_err(|_| format!("{times} is no number"))?;
    (0..times).try_for_each(|_| one().map(|took| println!("{}", took.as_nanos())))
}

fn take(
    site: &Site,
    settled: bool,
    point: &str,
    options: &str,
    location: &str,
) -> Result<Duration, String> {
    let options: Vec<BString> = options.split(',').map(BString::from).collect();
    let settings = Settings::read(&options, location.into())
        .map_err(|problem| problem.invalid.message.clone())?;
    let (origins, means) = (settings.origins.clone(), settings.means.clone());
    let wanted = Wanted {
        settings,
        series: point.into(),
    };
    if settled {
        settle(location)?;
    }
    let begun = Instant::now();
    let limit = begun + Duration::from_secs(60);
    let ending = site.access(wanted, limit, &mut |view, _| mount(view, Path::new(point)));
    let took = begun.elapsed();
    match ending {
        Ending::Mounted { .. } => {}
        Ending::Failed(fault) => return Err(fault.text),
        Ending::Swept(_) => return Err("an access ended as a sweep".into()),
    }
    unmount(point, UnmountFlags::empty()).map_err(|errno| errno.to_string())?;
    let swept = site.sweep(origins, means, limit);
    match swept.left.first() {
        Some(left) => Err(left.fault.text.clone()),
        None => Ok(took),
    }
}

fn mount(view: &View, point: &Path) -> Result<(), Fault> {
    let source = view.source.to_path_lossy();
    let done = match view.show {
        Show::Directory => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, &*source, flags).and_then(|tree| {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&tree, "", CWD, point, flags)
            })
        }
        Show::FileSystem(_) => Err(rustix::io::Errno::OPNOTSUPP),
    };
    done.map_err(|errno| Fault::new(errno.raw_os_error(), errno.to_string()))
}

/// Lets the file system finish what the removal before has begun: a thread of btrfs takes removed
/// subvolumes apart after a commit, and what is measured is not to share the disk with it.
fn settle(origin: &str) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(origin, flags, Mode::empty()).map_err(|errno| errno.to_string())?;
    for _ in 0..2 {
        rustix::fs::syncfs(&fd).map_err(|errno| errno.to_string())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What cannot be left out: making a subvolume and mounting it.
fn bare(directory: &str, point: &str, origin: &str) -> Result<Duration, String> {
    let failed = |what: &dyn std::fmt::Display| what.to_string();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    settle(origin)?;
    let begun = Instant::now();
    let open = |path: &str| rustix::fs::open(path, flags, Mode::empty());
    let origin = open(origin).map_err(|errno| failed(&errno))?;
    let into = open(directory).map_err(|errno| failed(&errno))?;
    autofs::snapshot_subvolume(&origin, &into, "bare").map_err(|error| failed(&error))?;
    let view = View {
        source: format!("{directory}/bare").into(),
        show: Show::Directory,
        options: Vec::new(),
        live: None,
    };
    mount(&view, Path::new(point)).map_err(|fault| fault.text)?;
    let took = begun.elapsed();
    unmount(point, UnmountFlags::empty()).map_err(|errno| failed(&errno))?;
    autofs::destroy_subvolume(&into, "bare").map_err(|error| failed(&error))?;
    Ok(took)
}
