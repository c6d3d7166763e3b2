//! What is put is what is got, and nothing else is touched.

use super::*;
use crate::model::resnet::{ResNet18, Stage, stage_of};

#[test]
fn features_come_back_to_half_precision_after_reopening() {
    let bench = Bench::new(3);
    let features = random(3);
    let entries: Vec<Entry> = (0..3).map(|index| bench.entry(index, 5)).collect();
    bench.open().put(&entries, &features).unwrap();
    let store = bench.open();
    let maps: Vec<Vec<u8>> = entries.iter().map(|entry| store.get(entry.path, 5).unwrap().unwrap()).collect();
    let back = store.stack(&maps, Device::Cpu).unwrap();
    assert_eq!(back, features.to_kind(Kind::Half).to_kind(Kind::Float));
    assert_eq!(store.contains(entries).unwrap(), [true; 3]);
    assert_eq!(store.get(&bench.pictures[0].path, 4).unwrap(), None);
}

#[test]
fn pictures_are_known_by_their_place_in_the_folder() {
    let bench = Bench::new(1);
    bench.open().put(&[bench.entry(0, 0)], &random(1)).unwrap();
    let moved = bench.folder.path().join("moved");
    std::fs::rename(bench.folder.path().join("train"), &moved).unwrap();
    let store = FeatureStore::open(&bench.cache(), &moved, &identity()).unwrap();
    let path = moved.join("00.png");
    assert_eq!(store.contains([Entry { path: &path, stamp: Stamp::of(&path).unwrap(), view: 0 }]).unwrap(), [true]);
}

#[test]
fn a_changed_picture_is_missing() {
    let bench = Bench::new(2);
    let store = bench.open();
    store.put(&[bench.entry(0, 0), bench.entry(1, 0)], &random(2)).unwrap();
    RgbImage::new(9, 9).save(&bench.pictures[0].path).unwrap();
    assert_eq!(store.contains([bench.entry(0, 0), bench.entry(1, 0)]).unwrap(), [false, true]);
}

#[test]
fn what_decides_the_features_is_in_the_identity() {
    let network = |class_weight: f64, layer3: f64| {
        let mut provide = |name: &str, shape: &[i64]| {
            let value = match stage_of(name) {
                None => class_weight,
                Some(Stage::Layer3) => layer3,
                Some(_) => 0.5,
            };
            Ok::<_, std::convert::Infallible>(Tensor::full(shape, value, (Kind::Float, Device::Cpu)))
        };
        ResNet18::assemble(2, &mut provide).unwrap()
    };
    let of = |network: &ResNet18, last, shape, preparation: &str| Identity::new(network, last, shape, preparation);
    let first = of(&network(1.0, 1.0), Stage::Layer3, SHAPE, "seed 1").unwrap();
    assert_eq!(of(&network(2.0, 1.0), Stage::Layer3, SHAPE, "seed 1").unwrap(), first, "fc is not frozen");
    for other in [
        of(&network(1.0, 2.0), Stage::Layer3, SHAPE, "seed 1"),
        of(&network(1.0, 1.0), Stage::Layer2, SHAPE, "seed 1"),
        of(&network(1.0, 1.0), Stage::Layer3, [3, 30, 120], "seed 1"),
        of(&network(1.0, 1.0), Stage::Layer3, SHAPE, "seed 2"),
    ] {
        assert_ne!(other.unwrap().digest, first.digest);
    }
}

#[test]
fn another_identity_begins_anew() {
    let bench = Bench::new(1);
    bench.open().put(&[bench.entry(0, 0)], &random(1)).unwrap();
    let other = Identity { digest: [8; 32], ..identity() };
    assert_eq!(bench.open_with(&other).unwrap().contains([bench.entry(0, 0)]).unwrap(), [false]);
    // No leftovers beside it.
    assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 2);
}

#[test]
fn nothing_but_a_store_is_opened() {
    let bench = Bench::new(1);
    let refused = |error: Result<FeatureStore, FeatureError>| {
        let error = error.unwrap_err();
        assert!(matches!(error, FeatureError::NotAStore(_)), "{error}");
    };
    for content in [&b""[..], b"my thesis"] {
        std::fs::write(bench.cache(), content).unwrap();
        refused(bench.open_with(&identity()));
        assert_eq!(std::fs::read(bench.cache()).unwrap(), content);
    }
    std::fs::remove_file(bench.cache()).unwrap();
    redb::Database::create(bench.cache()).unwrap();
    refused(bench.open_with(&identity()));
    refused(FeatureStore::open(bench.folder.path(), bench.folder.path(), &identity()));
    std::os::unix::net::UnixListener::bind(bench.folder.path().join("socket")).unwrap();
    refused(FeatureStore::open(&bench.folder.path().join("socket"), bench.folder.path(), &identity()));
}

#[test]
fn a_damaged_store_is_an_error() {
    let bench = Bench::new(8);
    bench.fill(&bench.open(), 4, usize::MAX).unwrap();
    let map = bench.contents(&bench.open(), 1)[7].clone().unwrap();
    let whole = std::fs::read(bench.cache()).unwrap();
    std::fs::write(bench.cache(), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(bench.open_with(&identity()), Err(FeatureError::Damaged { .. })));
    let mut altered = whole;
    let place = altered.windows(1000).position(|window| window == &map[..1000]).unwrap();
    altered[place] ^= 1;
    std::fs::write(bench.cache(), altered).unwrap();
    assert!(matches!(bench.open_with(&identity()), Err(FeatureError::Damaged { .. })));
}

#[test]
fn a_store_in_use_is_refused() {
    let bench = Bench::new(1);
    let _open = bench.open();
    let other = Identity { digest: [8; 32], ..identity() };
    for identity in [identity(), other] {
        assert!(matches!(bench.open_with(&identity), Err(FeatureError::Locked(_))));
    }
}

#[test]
fn a_link_to_a_store_stays_a_link() {
    let bench = Bench::new(1);
    let link = bench.folder.path().join("link");
    std::os::unix::fs::symlink(bench.cache(), &link).unwrap();
    // A link to nothing is not replaced either.
    assert!(FeatureStore::open(&link, bench.folder.path(), &identity()).is_err());
    drop(bench.open());
    let other = Identity { digest: [8; 32], ..identity() };
    FeatureStore::open(&link, bench.folder.path(), &other).unwrap();
    assert!(link.is_symlink());
    bench.open_with(&other).unwrap();
}

#[test]
fn values_beyond_half_precision_are_refused() {
    let bench = Bench::new(1);
    let store = bench.open();
    let error = store.put(&[bench.entry(0, 0)], &(random(1) * 1e6)).unwrap_err();
    assert!(matches!(error, FeatureError::Overflow(_)), "{error}");
    assert_eq!(store.contains([bench.entry(0, 0)]).unwrap(), [false]);
}

#[test]
fn several_threads_read_at_once() {
    let bench = Bench::new(8);
    let store = bench.open();
    bench.fill(&store, 4, usize::MAX).unwrap();
    let expected = bench.contents(&store, 4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(bench.contents(&store, 4), expected)));
        }
    });
}

#[test]
fn the_file_stays_within_the_promised_size() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape, count) in [("layer4", [512, 7, 7], 400), ("layer3", [256, 14, 14], 200), ("odd", [1, 3, 3], 9000)]
    {
        let path = folder.path().join(name);
        let store = FeatureStore::open(&path, folder.path(), &Identity { shape, digest: [0; 32] }).unwrap();
        let names: Vec<PathBuf> = (0..count).map(|number| PathBuf::from(number.to_string())).collect();
        for batch in names.chunks(100) {
            let entries: Vec<Entry> =
                batch.iter().map(|path| Entry { path, stamp: Stamp::default(), view: 0 }).collect();
            store
                .put(&entries, &Tensor::ones([100, shape[0], shape[1], shape[2]], (Kind::Float, Device::Cpu)))
                .unwrap();
        }
        drop(store);
        let occupied = std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap()) * 512;
        let promised = required_bytes(count, 1, shape);
        assert!(occupied <= promised, "{name}: {occupied} > {promised}");
        assert_eq!(views_within(promised, count, shape), 1);
        assert_eq!(views_within(promised - 1, count, shape), 0);
    }
}
