//! Every input of the corpus, and of what was once found, against its law.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use piton_fuzz::TARGETS;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_input_keeps_its_law() {
    for (name, law) in TARGETS {
        let folder = here().join("corpus").join(name);
        let inputs = names_in(&folder);
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            let path = folder.join(&input);
            println!("{}", path.display());
            law(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn every_law_has_its_program_and_its_corpus() {
    let laws: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs: BTreeSet<String> = names_in(&here().join("fuzz_targets"))
        .iter()
        .map(|file| file.trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(laws, programs);
    assert_eq!(laws, names_in(&here().join("corpus")));
    let manifest = fs::read_to_string(here().join("Cargo.toml")).unwrap();
    for name in laws {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn the_corpus_stays_small() {
    let bytes: u64 = TARGETS
        .iter()
        .flat_map(|(name, _)| fs::read_dir(here().join("corpus").join(name)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(
        bytes < 512 << 10,
        "{bytes} bytes: minimise it with `cargo xtask fuzz --shrink`"
    );
}
