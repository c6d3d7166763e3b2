//! Feature maps in an embedded database, by picture and view.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, TchError, Tensor};
use tempfile::{PathPersistError, TempPath};

use super::size::{PIECE, map_bytes};
use super::{Entry, FeatureError, Identity};
use crate::files;
use crate::model::tensors::to_bytes;

/// Holds the digest of the [`Identity`]; no other program has a table of this name.
const IDENTITY: TableDefinition<(), &[u8]> = TableDefinition::new("maskwatch features: identity");
/// From (picture, view) to the stamp of the picture that the features were made from, as (bytes, nanoseconds). Apart
/// from the features, so that looking for what is missing reads none of them.
const STAMPS: TableDefinition<(u128, u32), (u64, i128)> = TableDefinition::new("stamps");
/// From (picture, view, piece) to the piece.
const PIECES: TableDefinition<(u128, u32, u32), &[u8]> = TableDefinition::new("pieces");

/// The system keeps read pages in memory as well, so that more brings nothing.
const DATABASE_MEMORY: usize = 64 << 20;
/// How a file of the database begins.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// An open store. Several threads may read at once.
#[derive(Debug)]
pub struct FeatureStore {
    pub(super) database: Database,
    pub(super) path: PathBuf,
    /// Pictures are told apart by their paths below this folder, so that the store survives its being moved.
    pub(super) folder: PathBuf,
    pub(super) shape: [i64; 3],
}

impl FeatureStore {
    /// Opens the store at `path` for the pictures of `folder`, or begins one. Of another identity, it is begun anew.
    ///
    /// All of the file is read once, to find damage before it is trained on.
    ///
    /// # Errors
    ///
    /// When there is something other than a store, or it is in use, damaged, or cannot be written.
    pub fn open(path: &Path, folder: &Path, identity: &Identity) -> Result<Self, FeatureError> {
        // Through links, so that a new store takes the place of the file and not of the link.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(FeatureError::from_io(path, error)),
        };
        let database = match open_existing(&path)? {
            None => create(&path, identity, |file| file.persist_noclobber(&path))?,
            Some((database, digest)) if digest == identity.digest => database,
            // The old one stays open, and so locked, until the new one has taken its place.
            Some((_old, _)) => {
                tracing::info!("{} was made with other weights or settings and is begun anew", path.display());
                create(&path, identity, |file| file.persist(&path))?
            }
        };
        Ok(Self { database, path, folder: folder.to_owned(), shape: identity.shape })
    }

    /// Whether each entry is there and its picture unchanged since.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn contains<'a>(&self, entries: impl IntoIterator<Item = Entry<'a>>) -> Result<Vec<bool>, FeatureError> {
        let look_up = || {
            let stamps = self.database.begin_read()?.open_table(STAMPS)?;
            let same = |entry: Entry| {
                let found = stamps.get((self.key(entry.path), entry.view))?;
                Ok(found.is_some_and(|stamp| stamp.value() == (entry.stamp.bytes, entry.stamp.modified_nanos)))
            };
            entries.into_iter().map(same).collect::<Result<_, redb::Error>>()
        };
        look_up().map_err(|error| self.blame(error))
    }

    /// Keeps the maps (entries, channels, rows, columns) in half precision, all of them or, on an error, none.
    ///
    /// # Errors
    ///
    /// When a value is beyond half precision, the shape is another, or the file cannot be written.
    pub fn put(&self, entries: &[Entry], features: &Tensor) -> Result<(), FeatureError> {
        let [channels, rows, columns] = self.shape;
        let bytes = to_bytes(&features.f_reshape([entries.len() as i64, channels, rows, columns])?, Kind::Half)?;
        let maps = || entries.iter().zip(bytes.chunks(map_bytes(self.shape)));
        if let Some((entry, _)) = maps().find(|(_, map)| !is_finite(map)) {
            return Err(FeatureError::Overflow(entry.path.to_owned()));
        }
        let write = || {
            let transaction = self.database.begin_write()?;
            {
                let mut stamps = transaction.open_table(STAMPS)?;
                let mut pieces = transaction.open_table(PIECES)?;
                for (entry, map) in maps() {
                    let key = self.key(entry.path);
                    stamps.insert((key, entry.view), (entry.stamp.bytes, entry.stamp.modified_nanos))?;
                    for (number, piece) in (0..).zip(map.chunks(PIECE)) {
                        pieces.insert((key, entry.view, number), piece)?;
                    }
                }
            }
            Ok(transaction.commit()?)
        };
        write().map_err(|error| self.blame(error))
    }

    /// The map of a view of a picture, as it was when it was put, for [`FeatureStore::stack`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn get(&self, path: &Path, view: u32) -> Result<Option<Vec<u8>>, FeatureError> {
        let key = self.key(path);
        let read = || {
            let pieces = self.database.begin_read()?.open_table(PIECES)?;
            let mut map = Vec::with_capacity(map_bytes(self.shape));
            for piece in pieces.range((key, view, 0)..=(key, view, u32::MAX))? {
                map.extend_from_slice(piece?.1.value());
            }
            Ok(Some(map).filter(|map| map.len() == map_bytes(self.shape)))
        };
        read().map_err(|error| self.blame(error))
    }

    /// Stacks what [`FeatureStore::get`] gave to (N, channels, rows, columns) in single precision on `device`, in memory
    /// with the channels side by side as the frozen stages would give it.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn stack(&self, maps: &[Vec<u8>], device: Device) -> Result<Tensor, TchError> {
        let [channels, rows, columns] = self.shape;
        // Uploaded in half precision: half of the traffic.
        Tensor::f_from_data_size(&maps.concat(), &[maps.len() as i64, channels, rows, columns], Kind::Half)?
            .f_to_device(device)?
            .f_permute([0, 2, 3, 1])?
            .f_contiguous()?
            .f_permute([0, 3, 1, 2])?
            .f_to_kind(Kind::Float)
    }

    /// Drops all but the first `views` views of `pictures`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn retain<'a>(&self, pictures: impl IntoIterator<Item = &'a Path>, views: u32) -> Result<(), FeatureError> {
        let keys: HashSet<u128> = pictures.into_iter().map(|path| self.key(path)).collect();
        let drop_others = || {
            let mut others = Vec::new();
            for entry in self.database.begin_read()?.open_table(STAMPS)?.iter()? {
                let (key, view) = entry?.0.value();
                if view >= views || !keys.contains(&key) {
                    others.push((key, view));
                }
            }
            if others.is_empty() {
                return Ok(());
            }
            let transaction = self.database.begin_write()?;
            {
                let mut stamps = transaction.open_table(STAMPS)?;
                let mut pieces = transaction.open_table(PIECES)?;
                for (key, view) in others {
                    stamps.remove((key, view))?;
                    pieces.retain_in((key, view, 0)..=(key, view, u32::MAX), |_, _| false)?;
                }
            }
            Ok(transaction.commit()?)
        };
        drop_others().map_err(|error| self.blame(error))
    }

    /// A name of fixed length: the database is fast on small keys, and paths may be long.
    fn key(&self, picture: &Path) -> u128 {
        let below = picture.strip_prefix(&self.folder).unwrap_or(picture);
        let hash: [u8; 32] = Sha256::digest(below.as_os_str().as_encoded_bytes()).into();
        hash.iter().take(16).fold(0, |key, &byte| key << 8 | u128::from(byte))
    }

    fn blame(&self, error: redb::Error) -> FeatureError {
        FeatureError::from_database(&self.path, error)
    }
}

/// Whether none of the little-endian halves has all bits of its exponent set (IEEE 754, section 3.4). libtorch's own
/// check took longer than all else that storing takes.
fn is_finite(halves: &[u8]) -> bool {
    const EXPONENT: u8 = 0x7C;
    halves.chunks_exact(2).all(|half| half[1] & EXPONENT != EXPONENT)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Unchecked, a file that was altered by others may panic.
    builder.set_cache_size(DATABASE_MEMORY).set_check_integrity_on_open(true);
    builder
}

/// Opens what is at `path`, if anything, and reads the digest of its identity.
fn open_existing(path: &Path) -> Result<Option<(Database, Vec<u8>)>, FeatureError> {
    match path.metadata() {
        Ok(file) if file.is_file() => {}
        Ok(_) => return Err(FeatureError::NotAStore(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FeatureError::from_io(path, error)),
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(|error| FeatureError::from_io(path, error))?;
    if start != MAGIC {
        return Err(FeatureError::NotAStore(path.to_owned()));
    }
    let read = || {
        let database = builder().open(path)?;
        let digest = match database.begin_read()?.open_table(IDENTITY) {
            Ok(identity) => identity.get(())?.map(|digest| digest.value().to_vec()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(digest.map(|digest| (database, digest)))
    };
    match read() {
        Ok(None) => Err(FeatureError::NotAStore(path.to_owned())),
        Ok(store) => Ok(store),
        Err(error) => Err(FeatureError::from_database(path, error)),
    }
}

/// Begins a store beside `path` and moves it there with `place`, so that nobody ever meets half of one.
fn create(
    path: &Path,
    identity: &Identity,
    place: impl FnOnce(TempPath) -> Result<(), PathPersistError>,
) -> Result<Database, FeatureError> {
    let file = files::temporary_beside(path).map_err(|error| FeatureError::from_io(path, error))?.into_temp_path();
    let database = initialise(|| builder().create(&file), identity);
    let database = database.map_err(|error| FeatureError::from_database(path, error))?;
    place(file).map_err(|error| FeatureError::from_io(path, error.error))?;
    Ok(database)
}

/// Gives a new database the tables of a store.
pub(super) fn initialise(
    create: impl FnOnce() -> Result<Database, redb::DatabaseError>,
    identity: &Identity,
) -> Result<Database, redb::Error> {
    let database = create()?;
    let transaction = database.begin_write()?;
    transaction.open_table(IDENTITY)?.insert((), identity.digest.as_slice())?;
    transaction.open_table(STAMPS)?;
    transaction.open_table(PIECES)?;
    transaction.commit()?;
    Ok(database)
}
