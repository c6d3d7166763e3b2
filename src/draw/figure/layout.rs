//! Where the parts of a figure go: a column a method, wrapped into bands so that the panels are as large as they can be.

/// Widest and highest sheet, in pixels: as wide as a common screen, and hardly higher than wide.
const SHEET_MAX_PX: (u32, u32) = (1600, 1400);
/// Longest side of a panel: larger ones would only enlarge the places of the grid.
const PANEL_MAX_PX: u32 = 320;
/// Narrowest column, so that captions stay legible under narrow pictures.
const COLUMN_MIN_PX: u32 = 140;
/// Width of the column on the left that shows the input.
pub(super) const SIDE_PX: u32 = 260;
/// Width of the names of the rows.
pub(super) const GUTTER_PX: u32 = 26;
/// Space between parts.
pub(super) const GAP_PX: u32 = 14;
/// Space between the panels of a column.
pub(super) const ROW_GAP_PX: u32 = 6;
/// Height of the title.
pub(super) const TITLE_PX: u32 = 44;
/// Height of a method's name.
pub(super) const NAME_PX: u32 = 26;
/// Height of a line of facts.
pub(super) const FACT_PX: u32 = 17;
/// Lines of facts under a column.
pub(super) const FACTS: u32 = 3;
/// Panels of a column: map, overlay, boxes.
pub(super) const ROWS: u32 = 3;

/// The places of all columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Columns side by side.
    pub(super) columns: u32,
    /// Rows of columns.
    pub(super) bands: u32,
    /// Width of a column.
    pub(super) column_px: u32,
    /// Width and height of a panel.
    pub(super) panel: (u32, u32),
}

impl Layout {
    /// The division into bands that makes the panels of a picture of this size largest.
    pub(super) fn new(methods: usize, picture: (u32, u32)) -> Self {
        let methods = u32::try_from(methods).unwrap_or(u32::MAX).max(1);
        let most_columns = (SHEET_MAX_PX.0 - left_px()) / (COLUMN_MIN_PX + GAP_PX);
        let mut best = Self::with_bands(methods, methods.div_ceil(most_columns), picture);
        for bands in methods.div_ceil(most_columns) + 1..=methods {
            let other = Self::with_bands(methods, bands, picture);
            if other.area() > best.area() {
                best = other;
            }
        }
        best
    }

    fn with_bands(methods: u32, bands: u32, picture: (u32, u32)) -> Self {
        let columns = methods.div_ceil(bands);
        let across = (SHEET_MAX_PX.0 - left_px()) / columns - GAP_PX;
        let down = (SHEET_MAX_PX.1 - TITLE_PX).div_ceil(bands).saturating_sub(band_px(0)) / ROWS;
        // However many methods there are, something can be seen of each, and the sheet grows beyond its bounds.
        let panel = fitted(picture, (across.min(PANEL_MAX_PX), down.clamp(COLUMN_MIN_PX / 2, PANEL_MAX_PX)));
        Self { columns, bands, column_px: panel.0.max(COLUMN_MIN_PX), panel }
    }

    fn area(self) -> u32 {
        self.panel.0 * self.panel.1
    }

    /// Width and height of the part that holds the columns, names of rows included.
    pub(super) fn size(self) -> (u32, u32) {
        let width = GUTTER_PX + self.columns * (self.column_px + GAP_PX);
        (width, self.bands * band_px(self.panel.1))
    }

    /// Upper left corner of a band, below the title.
    pub(super) fn band(self, band: u32) -> (u32, u32) {
        (left_px() - GUTTER_PX, TITLE_PX + band * band_px(self.panel.1))
    }

    /// Upper left corner of a method's column.
    pub(super) fn column(self, method: u32) -> (u32, u32) {
        let (x, y) = self.band(method / self.columns);
        (x + GUTTER_PX + method % self.columns * (self.column_px + GAP_PX), y)
    }
}

/// Where the columns begin.
fn left_px() -> u32 {
    GAP_PX + SIDE_PX + GAP_PX + GUTTER_PX
}

/// Height of a band whose panels have this height.
fn band_px(panel: u32) -> u32 {
    NAME_PX + ROWS * (panel + ROW_GAP_PX) + FACTS * FACT_PX + GAP_PX
}

/// The largest size with the shape of `picture` inside `room`, at least a pixel.
pub(super) fn fitted(picture: (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let scale = (f64::from(room.0) / f64::from(picture.0)).min(f64::from(room.1) / f64::from(picture.1));
    let side = |side: u32, room: u32| ((f64::from(side) * scale).round() as u32).clamp(1, room);
    (side(picture.0, room.0), side(picture.1, room.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Method;

    const SHAPES: [(u32, u32); 7] = [(640, 480), (480, 640), (1920, 1080), (1, 1), (1, 5000), (5000, 1), (224, 224)];

    #[test]
    fn columns_neither_overlap_nor_leave_the_sheet() {
        for picture in SHAPES {
            for methods in 1..=Method::ALL.len() {
                let layout = Layout::new(methods, picture);
                let (width, height) = layout.size();
                assert!(left_px() - GUTTER_PX + width <= SHEET_MAX_PX.0, "{methods} {picture:?}: {layout:?}");
                assert!(TITLE_PX + height <= SHEET_MAX_PX.1, "{methods} {picture:?}: {layout:?}");
                assert!(layout.columns * layout.bands >= methods as u32);
                assert!(layout.panel.0 <= layout.column_px && layout.panel.0 >= 1 && layout.panel.1 >= 1);
                let corners: std::collections::HashSet<_> =
                    (0..methods as u32).map(|method| layout.column(method)).collect();
                assert_eq!(corners.len(), methods);
            }
        }
    }

    #[test]
    fn panels_keep_the_shape_of_the_picture() {
        for picture in [(640, 480), (480, 640), (1920, 1080)] {
            for methods in [1, 2, 9, Method::ALL.len()] {
                let (width, height) = Layout::new(methods, picture).panel;
                let expected = f64::from(height) * f64::from(picture.0) / f64::from(picture.1);
                assert!((f64::from(width) - expected).abs() <= 1.0, "{methods} {picture:?}: {width}x{height}");
                assert!(width.min(height) >= 100, "{methods} {picture:?}: {width}x{height}");
            }
        }
    }

    #[test]
    fn any_number_of_methods_has_a_layout() {
        for methods in [0, 1, 50] {
            assert!(Layout::new(methods, (640, 480)).panel.1 >= COLUMN_MIN_PX / 2, "{methods}");
        }
    }
}
