//! Snapshots on real file systems: each test in a mount namespace of its own, with disks that are
//! files.

mod btrfs;
mod directory;
mod disk;
mod image;
mod site;
