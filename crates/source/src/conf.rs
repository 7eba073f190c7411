//! Stub.
use std::ffi::OsString;
use std::path::Path;
/// Stub.
#[derive(Default)]
pub enum Logging { #[default] None, Verbose, Debug }
/// Stub.
#[allow(missing_docs)]
pub struct Conf { pub master_map_name: Option<OsString>, pub timeout: Option<u32>, pub negative_timeout: Option<u32>, pub master_wait: Option<u32>, pub mount_wait: Option<u32>, pub umount_wait: Option<u32>, pub browse_mode: bool, pub append_options: bool, pub logging: Logging, pub use_ignore_mount_option: bool, pub disable_not_found_message: bool }
/// Stub.
pub fn load(_: &Path) -> (Conf, Vec<String>) { (Conf { master_map_name: None, timeout: None, negative_timeout: None, master_wait: None, mount_wait: None, umount_wait: None, browse_mode: false, append_options: true, logging: Logging::None, use_ignore_mount_option: false, disable_not_found_message: false }, vec![]) }
