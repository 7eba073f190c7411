//! Laws of what is read from users, for any input.

use bstr::{BString, ByteSlice};
use piton_snapshot::{
    Kind, Name, Origin, Request, Seconds, Settings, Timestamp, Volumes, check_word,
};
use proptest::prelude::*;

/// What may be meant as a key.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "[-a-z./@:0-9TZ]{0,30}".prop_map(String::into_bytes),
        "[a-z]{1,5}@(latest|-[0-9]{1,4}[smhdw]|20[0-9]{2}-[01][0-9]-[0-3][0-9](T[0-2][0-9](:[0-5][0-9])?)?)"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn a_key_that_is_read_is_a_name_for_every_kind_of_volume(key in keys()) {
        let Ok(request) = Request::parse(key.as_bstr()) else { return Ok(()) };
        prop_assert!(check_word(request.name.as_str().into()).is_ok());
        let safe = |c: char| c.is_ascii_alphanumeric() || "_+.-".contains(c);
        prop_assert!(request.name.chars().all(safe) && !request.name.starts_with(['-', '.']));
        let again = Request::parse(request.to_string().as_str().into());
        prop_assert_eq!(again, Ok(request));
    }

    #[test]
    fn the_entry_of_a_key_is_one_snapshot_of_what_the_map_names(key in keys()) {
        let map = Volumes::parse("lvm,vg=storage,keep=3".into()).expect("a map");
        let Ok(Some(text)) = map.entry(key.as_bstr()) else { return Ok(()) };
        let text = text.to_str().expect("text");
        let (options, location) = text.split_once(" \":").expect("options and location");
        let location = location.strip_suffix('"').expect("a quote");
        prop_assert!(!location.contains('"'));
        let options: Vec<BString> = options["-fstype=snapshot,".len()..]
            .split(',')
            .map(BString::from)
            .collect();
        let settings = Settings::read(&options, location.into()).expect("an entry");
        prop_assert_eq!(settings.origins.len(), 1);
        prop_assert_eq!(settings.origin().container(), "storage");
        prop_assert!(settings.mount.is_empty());
        prop_assert_eq!(Request::parse(key.as_bstr()).expect("a key").when, settings.when);
    }

    #[test]
    fn maps_and_entries_are_read_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Volumes::parse(text.as_bstr());
        let options: Vec<BString> = text.split_str(",").map(BString::from).collect();
        let _ = Settings::read(&options, text.as_bstr());
        let _ = Seconds::parse(&text.to_str_lossy());
    }

    #[test]
    fn times_are_read_as_they_are_written(ms in 0_u64..253_402_300_800_000) {
        let time = Timestamp(ms);
        prop_assert_eq!(Timestamp::last_of(&time.to_string()), Some(time));
        prop_assert_eq!(Timestamp::from_compact(&time.compact().to_string()), Some(time));
    }

    #[test]
    fn names_are_known_again(path in "/[^\\x00-\\x1f/]{1,120}", ms in 0_u64..253_402_300_800_000) {
        let Ok(origin) = Origin::new(Kind::Image, path.as_str().into()) else { return Ok(()) };
        let name = Name { taken: Timestamp(ms) };
        let text = name.of(&origin);
        let label = origin.label();
        prop_assert_eq!(Name::parse(&text), Some((label.as_str(), name)));
        prop_assert!(text.len() < 110 && check_word(origin.label().as_str().into()).is_ok());
    }
}
