//! How much room a store takes.

/// Bytes of a feature map that are stored as one value. The database rounds a value up to a power of two of 4 KiB
/// pages: maps of 100,352 bytes would take 31 % more than they hold, in pieces just short of 16 KiB they take 3 %.
pub(super) const PIECE: usize = 16 * 1024 - PAGE_HEADER;
/// Bytes of a page of the database.
const PAGE: usize = 4096;
/// Upper bound of what a page holds besides one piece, in bytes.
const PAGE_HEADER: usize = 64;
/// Upper bound of what the search trees add to a piece, in bytes; 90 were measured.
const TREE_BYTES: u64 = 160;
/// Upper bound of an empty store's size, in bytes.
const EMPTY_STORE_BYTES: u64 = 4 << 20;

/// Size that a store of `views` views of each picture has on disk at most, in bytes, for maps of `shape` (channels,
/// rows, columns). While it grows, the file may seem twice as long, but its unused part takes no space.
pub fn required_bytes(pictures: usize, views: u32, shape: [i64; 3]) -> u64 {
    let features = map_bytes(shape);
    let pieces = (0..features).step_by(PIECE).map(|start| PIECE.min(features - start));
    let entry: u64 = pieces.map(|piece| (piece + PAGE_HEADER).next_power_of_two().max(PAGE) as u64 + TREE_BYTES).sum();
    let entries = (pictures as u64).saturating_mul(views.into());
    (entry + TREE_BYTES).saturating_mul(entries).saturating_add(EMPTY_STORE_BYTES)
}

/// How many views of each picture fit into a store of `limit` bytes.
pub fn views_within(limit: u64, pictures: usize, shape: [i64; 3]) -> u32 {
    let empty = required_bytes(pictures, 0, shape);
    let view = required_bytes(pictures, 1, shape) - empty;
    (limit.saturating_sub(empty) / view.max(1)).try_into().unwrap_or(u32::MAX)
}

/// Bytes of one map in half precision.
pub(super) fn map_bytes(shape: [i64; 3]) -> usize {
    shape.iter().map(|&size| size.unsigned_abs() as usize).product::<usize>() * 2
}
