//! Passes that are interrupted, repeated, or meet something unreadable.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::train::features::store::initialise;

#[test]
fn an_interrupted_pass_leads_to_the_same_bytes() {
    let bench = Bench::new(11);
    let whole = bench.open();
    assert_eq!(bench.fill(&whole, 3, usize::MAX).unwrap().computed, 33);
    let expected = bench.contents(&whole, 3);
    assert!(expected.iter().all(Option::is_some));
    assert_eq!(bench.fill(&whole, 3, 0).unwrap().computed, 0, "nothing is computed twice");
    drop(whole);
    std::fs::remove_file(bench.cache()).unwrap();
    for allowed in 1..4 {
        assert!(matches!(bench.fill(&bench.open(), 3, allowed), Err(Stop::Interrupted)));
    }
    assert_eq!(bench.fill(&bench.open(), 3, usize::MAX).unwrap().computed, 33 - 4 * (1 + 2 + 3));
    assert_eq!(bench.contents(&bench.open(), 3), expected);
}

#[test]
fn stale_batches_alone_are_computed_anew_and_what_is_not_asked_for_goes() {
    let mut bench = Bench::new(8);
    let store = bench.open();
    bench.fill(&store, 2, usize::MAX).unwrap();
    let before = bench.contents(&store, 2);
    RgbImage::from_pixel(3, 3, image::Rgb([105; 3])).save(&bench.pictures[5].path).unwrap();
    assert_eq!(bench.fill(&store, 2, usize::MAX).unwrap().computed, 8);
    let after = bench.contents(&store, 2);
    assert_eq!(before[..8], after[..8], "the first four pictures");
    assert_ne!(before[10], after[10]);
    let gone = bench.pictures.pop().unwrap();
    assert_eq!(bench.fill(&store, 1, 0).unwrap().computed, 0);
    assert_eq!(store.get(&gone.path, 0).unwrap(), None);
    assert_eq!(store.get(&bench.pictures[0].path, 1).unwrap(), None);
}

#[test]
fn unreadable_pictures_are_named_and_cost_no_second_pass() {
    let bench = Bench::new(8);
    std::fs::write(&bench.pictures[2].path, "not a picture").unwrap();
    std::fs::remove_file(&bench.pictures[3].path).unwrap();
    let store = bench.open();
    for (allowed, computed) in [(usize::MAX, 12), (0, 0)] {
        let filled = bench.fill(&store, 2, allowed).unwrap();
        assert_eq!(filled.computed, computed);
        let names: Vec<_> = filled.unreadable.keys().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["02.png", "03.png"]);
    }
    assert_eq!(store.get(&bench.pictures[2].path, 0).unwrap(), None);
    // One that was readable before, too.
    std::fs::write(&bench.pictures[7].path, "not a picture").unwrap();
    assert_eq!(bench.fill(&store, 2, 0).unwrap().unreadable.len(), 3);
    assert_eq!(store.get(&bench.pictures[7].path, 1).unwrap(), None);
    assert!(store.get(&bench.pictures[6].path, 1).unwrap().is_some());
}

/// A disk of so many bytes.
#[derive(Debug)]
struct SmallDisk(InMemoryBackend, AtomicUsize);

impl StorageBackend for SmallDisk {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let left = self.1.load(Ordering::Relaxed);
        self.1.store(left.checked_sub(data.len()).ok_or(std::io::ErrorKind::StorageFull)?, Ordering::Relaxed);
        self.0.write(offset, data)
    }
}

#[test]
fn a_full_disk_says_what_to_do() {
    let bench = Bench::new(8);
    let disk = SmallDisk(InMemoryBackend::new(), AtomicUsize::new(500_000));
    let database = initialise(|| redb::Builder::new().create_with_backend(disk), &identity()).unwrap();
    let (path, folder) = (PathBuf::from("full"), Path::new("").to_owned());
    let store = FeatureStore { database, path, folder, shape: SHAPE };
    let Err(Stop::Failed(error)) = bench.fill(&store, 9, usize::MAX) else { panic!("the disk is full") };
    assert!(error.contains("full cannot grow: ") && error.contains("fewer --cached-views"), "{error}");
}

#[test]
fn more_views_than_are_listed_at_once_are_filled() {
    let bench = Bench::new(11);
    let store = bench.open();
    assert_eq!(bench.fill(&store, 100, usize::MAX).unwrap().computed, 1100);
    assert!(bench.contents(&store, 100).iter().all(Option::is_some));
    assert_eq!(bench.fill(&store, 100, 0).unwrap().computed, 0);
}
