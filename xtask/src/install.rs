//! What the tests need of the machine: installed when we may, named when we may not.

use crate::process::{Failure, Outcome, command, is_installed, is_root, quietly, shown};
use std::path::Path;

/// A program the tests use, and the Debian package that has it.
const NEEDED: [(&str, &str); 27] = [
    ("archivemount", "archivemount"),
    ("automount", "autofs"),
    ("borg", "borgbackup"),
    ("btrfs", "btrfs-progs"),
    ("c++", "g++"),
    ("cc", "gcc"),
    ("fuse2fs", "fuse2fs"),
    ("fusermount3", "fuse3"),
    ("ip", "iproute2"),
    ("make", "make"),
    ("mkfs.erofs", "erofs-utils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.xfs", "xfsprogs"),
    ("mksquashfs", "squashfs-tools"),
    ("modprobe", "kmod"),
    ("nfs-ls", "libnfs-utils"),
    ("nsenter", "util-linux"),
    ("python3", "python3"),
    ("rclone", "rclone"),
    ("restic", "restic"),
    ("rsync", "rsync"),
    ("squashfuse", "squashfuse"),
    ("sshd", "openssh-server"),
    ("sshfs", "sshfs"),
    ("systemd-analyze", "systemd"),
    ("xorrisofs", "xorriso"),
];

/// Installs what is missing; only root may, and only with apt-get.
pub(crate) fn what_tests_need() -> Outcome {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        install(&packages)?;
    }
    kernel_has_autofs()
}

/// Installs Debian packages.
pub(crate) fn install(packages: &[&str]) -> Outcome {
    let wanted = packages.join(" ");
    if !is_root() {
        return Err(Failure::new(format!(
            "these packages are missing: {wanted}\n  as root: apt-get install {wanted}"
        )));
    }
    if !is_installed("apt-get") {
        return Err(Failure::new(format!(
            "programs are missing and there is no apt-get here; install what Debian calls: {wanted}"
        )));
    }
    println!("installing {wanted}");
    let mut update = command("apt-get", &["-qq", "update"]);
    update.env("DEBIAN_FRONTEND", "noninteractive");
    // An update that fails is no trouble when the lists are there already.
    let _ = shown(update)?;
    let mut arguments = vec!["-qq", "-y", "--no-install-recommends", "install"];
    // A machine that has just started may be busy updating itself.
    arguments.extend(["-o", "DPkg::Lock::Timeout=300"]);
    arguments.extend(packages);
    let mut install = command("apt-get", &arguments);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if shown(install)?.success {
        Ok(())
    } else {
        Err(Failure::new(format!("apt-get could not install {wanted}")))
    }
}

/// The device through which autofs is spoken; its module is loaded when that helps.
fn kernel_has_autofs() -> Outcome {
    let device = Path::new("/dev/autofs");
    if !device.exists() {
        let _ = quietly(command("modprobe", &["autofs4"]));
    }
    if device.exists() {
        Ok(())
    } else {
        Err(Failure::new(
            "no /dev/autofs: this kernel has no autofs (CONFIG_AUTOFS_FS), \
             so the kernel and differential tiers cannot run here",
        ))
    }
}
