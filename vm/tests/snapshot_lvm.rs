//! Snapshots of logical volumes, thick and thin, by real LVM: what `crates/volumes` does with it,
//! without a daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use piton_snapshot::lifecycle::{Ending, Fault, Swept, Wanted};
use piton_snapshot::{Consistency, Health, Kind, Origin, Settings};
use piton_vm::{Writer, in_the_guest, run, state};
use piton_volumes::{Show, Site, Turn, View};

const DAEMON: &str = "/share/piton";

fn site() -> Site {
    in_the_guest();
    let guard = vec![DAEMON.into(), "guard".into()];
    Site::new("/root/state".into(), guard)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

fn wanted(options: &str, volume: &str) -> Wanted {
    let options: Vec<_> = options.split(',').map(Into::into).collect();
    let location = format!("storage/{volume}");
    Wanted {
        settings: Settings::read(&options, location.as_str().into()).expect("an entry"),
        series: format!("/snap/{volume}").into(),
    }
}

/// An access to `volume`, whose view is mounted at `/root/POINT`.
fn access(site: &Site, options: &str, volume: &str, point: &str) -> Ending {
    let point = Path::new("/root").join(point);
    fs::create_dir_all(&point).expect("a directory");
    site.access(wanted(options, volume), soon(), &mut |view, _| {
        mount(view, &point)
    })
}

fn mount(view: &View, point: &Path) -> Result<(), Fault> {
    let Show::FileSystem(fstype) = view.show else {
        return Err(Fault::new(22, "no file system"));
    };
    let options: Vec<String> = view.options.iter().map(ToString::to_string).collect();
    let done = Command::new("mount")
        .args([
            "-t",
            fstype,
            "-o",
            &options.join(","),
            &view.source.to_string(),
        ])
        .arg(point)
        .output()
        .expect("running mount");
    match done.status.success() {
        true => Ok(()),
        false => Err(Fault::new(5, String::from_utf8_lossy(&done.stderr))),
    }
}

fn sweep(site: &Site, options: &str, volume: &str) -> Swept {
    let settings = wanted(options, volume).settings;
    site.sweep(settings.origins, settings.means, soon())
}

/// The health of what there is of a volume.
fn healths(site: &Site, volume: &str) -> Vec<Health> {
    let settings = wanted("provider=lvm", volume).settings;
    let found = site.list(settings.origin(), &settings.means, soon());
    found
        .expect("a list")
        .into_iter()
        .map(|it| it.health)
        .collect()
}

#[track_caller]
fn mounted(ending: &Ending) -> Consistency {
    match ending {
        Ending::Mounted { manifest, .. } => manifest.consistency,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(ending: &Ending) -> &str {
    match ending {
        Ending::Failed(fault) => &fault.text,
        other => panic!("{other:?}"),
    }
}

/// A thin pool with volumes in it, mounted at `/mnt/NAME`.
fn thin(size: &str, names: &[&str], fstype: &str) {
    run(
        "lvcreate",
        &[
            "-q",
            "-y",
            "--type",
            "thin-pool",
            "-n",
            "pool",
            "-L",
            size,
            "storage",
        ],
    );
    for name in names {
        run(
            "lvcreate",
            &[
                "-q",
                "-y",
                "-n",
                name,
                "-V",
                "350M",
                "--thinpool",
                "pool",
                "storage",
            ],
        );
        let (device, point) = (format!("/dev/storage/{name}"), format!("/mnt/{name}"));
        run(&format!("mkfs.{fstype}"), &["-q", &device]);
        fs::create_dir_all(&point).expect("a directory");
        run("mount", &[&device, &point]);
    }
}

fn unmount(point: &str) {
    run("umount", &[&format!("/root/{point}")]);
}

fn volumes() -> Vec<String> {
    let listed = run("lvs", &["--noheadings", "-o", "lv_name", "storage"]);
    listed.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_view_of_a_thin_volume_is_a_state_that_existed_and_goes_when_it_is_not_kept() {
    a_view_is_a_state("ext4");
}

#[test]
fn a_view_of_a_thin_xfs_is_a_state_that_existed() {
    a_view_is_a_state("xfs");
}

fn a_view_is_a_state(fstype: &str) {
    let site = site();
    thin("400M", &["thin"], fstype);
    let writer = Writer::at("/mnt/thin/area");
    let options = "provider=lvm,keep=1";
    let before = writer.steps();
    let ending = access(&site, options, "thin", "one");
    let after = writer.steps();
    assert_eq!(mounted(&ending), Consistency::Frozen);
    let step = state(Path::new("/root/one/area")).expect("a state that existed");
    assert!(
        (before..=after + 1).contains(&step),
        "{before} {step} {after}"
    );
    assert!(fs::write("/root/one/x", "").is_err(), "it is read-only");

    // What is mounted is not removed, in whatever namespace.
    access(&site, options, "thin", "two");
    let kept = sweep(&site, options, "thin");
    assert_eq!((kept.removed.len(), kept.kept.len()), (0, 2), "{kept:?}");
    unmount("one");
    unmount("two");
    let swept = sweep(&site, options, "thin");
    assert_eq!((swept.removed.len(), swept.kept.len()), (1, 1), "{swept:?}");
    assert_eq!(healths(&site, "thin"), [Health::Good]);

    // The one that is kept is found again, inactive or not, and is what it was.
    let ending = access(&site, "provider=lvm,keep=1,at=latest", "thin", "kept");
    assert!(
        matches!(ending, Ending::Mounted { fresh: false, .. }),
        "{ending:?}"
    );
    assert!(state(Path::new("/root/kept/area")).expect("a state") >= step);
    unmount("kept");
    drop(writer);
}

#[test]
fn a_thick_snapshot_that_overflows_is_noticed_and_never_served() {
    let site = site();
    fs::write("/mnt/data/name", "before").expect("a file");
    let options = "provider=lvm,size=8M,keep=2";
    let ending = access(&site, options, "data", "one");
    assert_eq!(mounted(&ending), Consistency::Frozen);
    assert_eq!(
        fs::read_to_string("/root/one/name").expect("a file"),
        "before"
    );
    unmount("one");
    fs::write("/mnt/data/big", vec![1; 30 << 20]).expect("a file");
    run("sync", &[]);
    assert_eq!(healths(&site, "data"), [Health::Overflowed]);
    let ending = access(
        &site,
        "provider=lvm,size=8M,keep=2,at=latest",
        "data",
        "two",
    );
    println!("{}", failed(&ending));
    assert!(fs::read_dir("/root/two").expect("empty").next().is_none());
    let origin = Origin::new(Kind::Lvm, "storage/data".into()).expect("an origin");
    let lvm = site.providers.of(Kind::Lvm);
    let turn = Turn::until(soon());
    let name = lvm.list(&origin, turn).expect("a list")[0].name;
    let error = lvm
        .view(&origin, name, turn)
        .expect_err("it is lost")
        .to_string();
    assert!(error.contains("its room for changes is full"), "{error}");
    let swept = sweep(&site, options, "data");
    assert_eq!(
        (swept.overflowed.len(), swept.removed.len()),
        (1, 1),
        "{swept:?}"
    );
    assert_eq!(volumes(), ["data"]);
}

#[test]
fn a_full_pool_and_a_full_group_are_refused_beforehand() {
    let site = site();
    thin("100M", &["thin"], "ext4");
    // LVM tells not what a thin one takes by itself.
    let ending = access(&site, "provider=lvm,keep=3,cap=1G", "thin", "one");
    println!("{}", failed(&ending));
    assert!(failed(&ending).contains("remove cap="), "{ending:?}");
    fs::write("/mnt/thin/big", vec![1; 85 << 20]).expect("a file");
    run("sync", &[]);
    let before = volumes();
    let ending = access(&site, "provider=lvm", "thin", "one");
    println!("{}", failed(&ending));
    assert!(
        failed(&ending).contains("thin pool storage/pool"),
        "{ending:?}"
    );
    match &ending {
        Ending::Failed(fault) => assert_eq!(fault.errno, 28, "ENOSPC"),
        _ => unreachable!("looked at above"),
    }
    let ending = access(&site, "provider=lvm,size=5G", "data", "one");
    println!("{}", failed(&ending));
    assert!(
        failed(&ending).contains("volume group storage"),
        "{ending:?}"
    );
    assert_eq!(volumes(), before);
    assert_eq!(site.records(soon()), Ok(vec![]));
}

#[test]
fn volumes_that_are_not_ours_are_left_alone() {
    let site = site();
    let options = "provider=lvm,size=8M";
    assert_eq!(
        mounted(&access(&site, options, "data", "one")),
        Consistency::Frozen
    );
    let origin = Origin::new(Kind::Lvm, "storage/data".into()).expect("an origin");
    let lvm = site.providers.of(Kind::Lvm);
    let turn = Turn::until(soon());
    let name = lvm.list(&origin, turn).expect("a list")[0].name;
    let volume = format!("storage/{}", name.of(&origin));
    // Open: LVM would be asked to remove what is mounted.
    let error = lvm
        .remove(&origin, name, turn)
        .expect_err("it is mounted")
        .to_string();
    assert!(error.contains("is in use"), "{error}");
    unmount("one");
    run("lvchange", &["-q", "--deltag", "piton", &volume]);
    let error = lvm
        .remove(&origin, name, turn)
        .expect_err("not ours")
        .to_string();
    assert!(error.contains("was not made by piton"), "{error}");
    assert!(lvm.view(&origin, name, turn).is_err());
    assert_eq!(lvm.list(&origin, turn), Ok(vec![]));
    run("lvchange", &["-q", "--addtag", "piton", &volume]);
    lvm.remove(&origin, name, turn).expect("ours");
    assert_eq!(volumes(), ["data"]);
    let missing = Origin::new(Kind::Lvm, "storage/missing".into()).expect("an origin");
    assert!(lvm.inspect(&missing, turn).is_err());
    let nowhere = Origin::new(Kind::Lvm, "nowhere/data".into()).expect("an origin");
    let error = lvm
        .inspect(&nowhere, turn)
        .expect_err("no group")
        .to_string();
    assert!(error.contains("is not in the volume groups"), "{error}");
}

/// On the guest's usual kernel, whatever that is.
#[test]
fn a_group_is_of_one_instant_or_refused() {
    a_group(older_than(6, 8));
}

/// On a newer kernel: xtask knows.
#[test]
fn a_group_is_of_one_instant() {
    assert!(!older_than(6, 8), "this test needs a newer kernel");
    a_group(false);
}

/// A writer puts rising numbers into one volume and then the other, each written through before the
/// next: of one instant are snapshots with the same number, or with one more in the first.
fn a_group(refused: bool) {
    let site = site();
    thin("400M", &["one", "two"], "ext4");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let points = ["/mnt/one/number", "/mnt/two/number"].map(PathBuf::from);
    for point in &points {
        fs::write(point, 0_u64.to_le_bytes()).expect("a file");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| numbers(&points, &stop));
        let seen = std::panic::catch_unwind(|| match refused {
            true => {
                let ending = access(&site, "provider=lvm,group=one/two", "one", "a");
                println!("{}", failed(&ending));
                assert!(failed(&ending).contains("before Linux 6.8"), "{ending:?}");
            }
            false => rounds(&site),
        });
        // The writer is waited for, whatever became of the rest.
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Err(panic) = seen {
            std::panic::resume_unwind(panic);
        }
    });
    // Whatever became of it, nothing stays frozen.
    fs::write("/mnt/one/x", "on").expect("it can be written");
    fs::write("/mnt/two/x", "on").expect("it can be written");
}

fn rounds(site: &Site) {
    let options = "provider=lvm,group=one/two";
    let mut last = 0;
    for round in 0..5 {
        let ending = access(site, options, "one", "a");
        assert_eq!(mounted(&ending), Consistency::Frozen);
        // The other of the group by its own key, of the same moment.
        let at = format!("{options},at=latest");
        mounted(&access(site, &at, "two", "b"));
        let number = |point: &str| {
            let bytes = fs::read(format!("/root/{point}/number")).expect("a file");
            u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
        };
        let (first, second) = (number("a"), number("b"));
        println!("round {round}: {first} {second}");
        assert!(first == second || first == second + 1, "{first} {second}");
        assert!(first > last, "it was written meanwhile");
        last = first;
        unmount("a");
        unmount("b");
        assert_eq!(sweep(site, options, "one").removed.len(), 1);
    }
}

fn numbers(points: &[PathBuf; 2], stop: &std::sync::atomic::AtomicBool) {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let open = |path: &PathBuf| {
        fs::OpenOptions::new()
            .write(true)
            .custom_flags(rustix::fs::OFlags::DSYNC.bits().cast_signed())
            .open(path)
            .expect("a file")
    };
    let files = [open(&points[0]), open(&points[1])];
    let mut number = 1_u64;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        for file in &files {
            file.write_all_at(&number.to_le_bytes(), 0)
                .expect("writing");
        }
        number += 1;
    }
}

fn older_than(major: u32, minor: u32) -> bool {
    let release = run("uname", &["-r"]);
    let mut parts = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < (major, minor)
}
