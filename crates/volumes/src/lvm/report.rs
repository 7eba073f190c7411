//! LVM's report on volumes, in JSON (lvmreport(7)): all values are text, and empty where there is
//! none.

use autofs::DeviceId;
use serde::{Deserialize, Deserializer};

/// What is asked for.
pub(super) const COLUMNS: &str = "lv_name,lv_attr,lv_size,origin,pool_lv,data_percent,\
     metadata_percent,lv_tags,segtype,lv_snapshot_invalid,lv_suspended,lv_device_open,\
     lv_kernel_major,lv_kernel_minor,lv_health_status,vg_free,vg_extent_size";

/// One volume.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Row {
    #[serde(rename = "lv_name")]
    pub(super) name: String,
    #[serde(rename = "lv_attr")]
    attributes: String,
    /// Bytes; of a thick snapshot those of its room.
    #[serde(rename = "lv_size", deserialize_with = "bytes")]
    pub(super) size: u64,
    pub(super) origin: String,
    #[serde(rename = "pool_lv")]
    pub(super) pool: String,
    /// With two decimal places.
    data_percent: String,
    metadata_percent: String,
    lv_tags: String,
    #[serde(rename = "segtype")]
    pub(super) segments: String,
    #[serde(rename = "lv_snapshot_invalid")]
    invalid: String,
    #[serde(rename = "lv_suspended")]
    suspended: String,
    #[serde(rename = "lv_device_open")]
    open: String,
    #[serde(rename = "lv_kernel_major")]
    major: String,
    #[serde(rename = "lv_kernel_minor")]
    minor: String,
    /// What is wrong with it; empty if nothing is.
    #[serde(rename = "lv_health_status")]
    pub(super) health: String,
    /// Bytes that no volume of the group has.
    #[serde(rename = "vg_free", deserialize_with = "bytes")]
    pub(super) group_free: u64,
    /// Bytes of an extent: sizes are multiples of it.
    #[serde(rename = "vg_extent_size", deserialize_with = "bytes")]
    pub(super) extent: u64,
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(default)]
    lv: Vec<Row>,
}

/// All rows, or what is wrong with the text.
pub(super) fn read(text: &[u8]) -> Result<Vec<Row>, String> {
    let report: Report = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Ok(report.report.into_iter().flat_map(|it| it.lv).collect())
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl Row {
    pub(super) fn is_thin(&self) -> bool {
        self.segments == "thin"
    }

    pub(super) fn has_tag(&self, tag: &str) -> bool {
        self.lv_tags.split(',').any(|it| it == tag)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open == "open"
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended == "suspended"
    }

    /// Whether a thick snapshot lost what it held: its room is full.
    pub(super) fn is_invalid(&self) -> bool {
        self.invalid == "snapshot invalid"
            || matches!(self.attributes.as_bytes().get(4), Some(b'I' | b'S'))
            || self.data_percent() >= 100
    }

    /// Its device, if it is active.
    pub(super) fn device(&self) -> Option<DeviceId> {
        let major = self.major.parse().ok()?;
        let minor = self.minor.parse().ok()?;
        Some(DeviceId::new(major, minor))
    }

    /// Percent in use, rounded up: of a pool its data, of a thick snapshot its room.
    pub(super) fn data_percent(&self) -> u8 {
        whole_percent(&self.data_percent)
    }

    /// The same of a pool, data or metadata, whichever is fuller.
    pub(super) fn fill(&self) -> u8 {
        self.data_percent()
            .max(whole_percent(&self.metadata_percent))
    }
}

/// `12.34` rounded up; 0 for what is not active.
fn whole_percent(text: &str) -> u8 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let more = part.bytes().any(|digit| digit != b'0');
    whole
        .parse::<u8>()
        .map_or(0, |whole| whole.saturating_add(u8::from(more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_rounded_up() {
        for (text, expected) in [
            ("", 0),
            ("0.00", 0),
            ("0.01", 1),
            ("89.99", 90),
            ("100.00", 100),
        ] {
            assert_eq!(whole_percent(text), expected, "{text}");
        }
    }
}
