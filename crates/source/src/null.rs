//! The map without keys: `-null`.

use std::sync::Arc;

use piton_map::lookup::Miss;
use piton_map::text::Fragment;

use crate::source::{MapSource, MapText};

/// A map that has no key. The master map uses it to cancel other lines; where it stands among
/// merged maps it adds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSource;

impl MapSource for NullSource {
    fn name(&self) -> Arc<str> {
        "-null".into()
    }

    fn read(&self) -> Result<MapText, Miss> {
        let fragment = Fragment::whole("-null", "");
        Ok(MapText {
            fragment,
            stamp: None,
            local: true,
        })
    }
}
