//! Pictures as sources of one frame, through the `image` crate.
//!
//! The format is told from the content, whatever the file is called. EXIF orientation is applied.
//! Sixteen bits are scaled to eight, grey and CMYK become RGB, and transparent parts are laid on
//! white, as browsers and viewers show them; of an animation the first picture counts.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::error::one_line;
use super::spec::has_extension;
use super::{CaptureError, Policy, Source, SourceInfo};
use crate::frame::Frame;

/// Largest picture that is decoded, in pixels: beyond any camera, and 300 MB as RGB. It keeps a
/// small file that unpacks to gigabytes from taking the machine down.
pub const MAX_STILL_PIXELS: u64 = 100_000_000;
/// What the files are called that are decoded as pictures.
const IMAGE_EXTENSIONS: &[&str] =
    &["bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "pam", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"];
/// Memory that a decoder may take, in bytes: the largest picture at 16 bits and four channels.
const MAX_DECODER_BYTES: u64 = 8 * MAX_STILL_PIXELS;

/// A picture, decoded when it is opened.
pub(super) struct Still {
    info: SourceInfo,
    frame: Option<Frame>,
}

impl Still {
    /// Reads and decodes the picture at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is empty, is no picture, is cut short, or is too large.
    pub(super) fn open(path: &Path, name: String) -> Result<Self, CaptureError> {
        let read_started = Instant::now();
        let image = read_image(path)?;
        let info = SourceInfo {
            name,
            width: image.width(),
            height: image.height(),
            frame_count: Some(1),
            frame_rate: None,
            policy: Policy::Recorded,
        };
        let frame = Frame {
            source: info.name.as_str().into(),
            index: 0,
            pts: Duration::ZERO,
            captured_at: SystemTime::now(),
            read_started,
            decode_time: read_started.elapsed(),
            image: image.into(),
        };
        Ok(Self { info, frame: Some(frame) })
    }
}

impl Source for Still {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self) -> Result<Option<Frame>, CaptureError> {
        Ok(self.frame.take())
    }
}

/// Whether a file is called like a picture that can be read; says nothing of its content.
pub fn has_image_extension(path: &Path) -> bool {
    has_extension(path, IMAGE_EXTENSIONS)
}

/// Reads a picture as upright 8-bit RGB.
///
/// # Errors
///
/// The file cannot be read, is empty, is no picture, is cut short, or is too large.
pub fn read_image(path: &Path) -> Result<RgbImage, CaptureError> {
    read_oriented(path).map(|(image, _)| image)
}

/// Reads a picture as upright 8-bit RGB, and tells how its stored pixels were turned for that: what is known of places in
/// the stored picture has to be turned alike.
///
/// # Errors
///
/// The file cannot be read, is empty, is no picture, is cut short, or is too large.
pub fn read_oriented(path: &Path) -> Result<(RgbImage, Orientation), CaptureError> {
    let unreadable = |reason| CaptureError::from_io(path, reason);
    let not_image = |reason: &str| CaptureError::NotImage { path: PathBuf::from(path), reason: one_line(reason) };
    let content = std::fs::read(path).map_err(unreadable)?;
    if content.is_empty() {
        return Err(CaptureError::EmptyFile { path: path.into() });
    }
    let mut reader = ImageReader::new(Cursor::new(&content[..])).with_guessed_format().map_err(unreadable)?;
    let format = reader.format().ok_or_else(|| not_image("its content is of no known image format"))?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(&content) {
        return Err(not_image("the file is cut short"));
    }
    let failed = |error: ImageError| not_image(&error.to_string());
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(not_image("it has no pixels"));
    }
    if u64::from(width) * u64::from(height) > MAX_STILL_PIXELS {
        return Err(CaptureError::TooLarge { path: path.into(), width, height });
    }
    // Metadata that cannot be understood is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok((on_white(image), orientation))
}

/// Converts to 8-bit RGB, with transparent parts laid on white.
fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let alpha = u32::from(from[3]);
        for channel in 0..3 {
            let blended = u32::from(from[channel]) * alpha + 255 * (255 - alpha);
            // At most 255, since the weights add up to 255.
            to[channel] = ((blended + 127) / 255) as u8;
        }
    }
    rgb
}

/// Whether a JPEG reaches its end marker (ITU-T T.81, annex B): the decoder fills what is missing
/// with grey and says nothing.
fn jpeg_is_complete(content: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2; // behind the start marker
    while let Some(rest) = content.get(at..) {
        // In a scan 0xff goes before 0 (stuffing), a restart marker, or itself (fill).
        let marker = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 1 | 0xd0..=0xd7 | 0xff));
        let Some(&[_, code, high, low]) = marker.and_then(|m| {
            at += m;
            content.get(at..)?.first_chunk()
        }) else {
            return content.ends_with(&[0xff, END_OF_IMAGE]);
        };
        if code == END_OF_IMAGE {
            return true;
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use image::{GrayImage, ImageBuffer, Luma, Rgb, Rgba, RgbaImage};

    use super::*;

    /// Encodes, writes and decodes again; the name lies about the format on purpose.
    fn reread(image: impl Into<DynamicImage>, format: ImageFormat) -> RgbImage {
        let mut content = Cursor::new(Vec::new());
        image.into().write_to(&mut content, format).unwrap();
        reopen(content.get_ref()).unwrap()
    }

    fn reopen(content: &[u8]) -> Result<RgbImage, CaptureError> {
        let mut file = tempfile::Builder::new().suffix(".jpg").tempfile().unwrap();
        file.write_all(content).unwrap();
        let mut still = Still::open(file.path(), "still".into())?;
        let frame = still.read()?.expect("a still has one frame");
        assert!(still.read()?.is_none());
        assert_eq!((frame.index, frame.pts), (0, Duration::ZERO));
        assert_eq!((still.info().width, still.info().height), frame.image.dimensions());
        Ok(frame.image.unwrap_or_clone().take())
    }

    /// Two pixels wide and one high, told apart by brightness even after JPEG.
    fn jpeg_with_orientation(orientation: u8) -> Vec<u8> {
        let wide = RgbImage::from_fn(16, 8, |x, _| Rgb(if x < 8 { [0; 3] } else { [255; 3] }));
        encode_jpeg(&wide, orientation)
    }

    /// A JPEG of these stored pixels that says how to turn them (EXIF, 1 to 8).
    pub(crate) fn encode_jpeg(stored: &RgbImage, orientation: u8) -> Vec<u8> {
        let mut jpeg = Cursor::new(Vec::new());
        stored.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        // APP1 with a big-endian TIFF of one entry: tag 0x0112, SHORT, count 1.
        let mut exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let jpeg = jpeg.into_inner();
        [&jpeg[..2], &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn exif_orientation_is_applied() {
        let dark = |image: &RgbImage, x, y| image.get_pixel(x, y)[0] < 128;
        let upright = reopen(&jpeg_with_orientation(1)).unwrap();
        assert!(upright.dimensions() == (16, 8) && dark(&upright, 2, 4) && !dark(&upright, 13, 4));
        let mirrored = reopen(&jpeg_with_orientation(3)).unwrap();
        assert!(!dark(&mirrored, 2, 4) && dark(&mirrored, 13, 4));
        let clockwise = reopen(&jpeg_with_orientation(6)).unwrap();
        assert!(clockwise.dimensions() == (8, 16) && dark(&clockwise, 4, 2));
        let counter = reopen(&jpeg_with_orientation(8)).unwrap();
        assert!(counter.dimensions() == (8, 16) && dark(&counter, 4, 13));
    }

    #[test]
    fn every_pixel_format_becomes_rgb() {
        let rgb = RgbImage::from_pixel(3, 2, Rgb([9, 8, 7]));
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            assert_eq!(reread(rgb.clone(), format), rgb, "{format:?}");
        }
        let grey = reread(GrayImage::from_pixel(1, 1, Luma([77])), ImageFormat::Png);
        assert_eq!(grey, RgbImage::from_pixel(1, 1, Rgb([77; 3])));
        let deep = ImageBuffer::from_pixel(1, 1, Luma([0xabcd_u16]));
        assert_eq!(reread(deep, ImageFormat::Png).get_pixel(0, 0).0, [0xab; 3]);
    }

    #[test]
    fn transparency_is_laid_on_white() {
        let alphas = RgbaImage::from_fn(3, 1, |x, _| Rgba([255, 0, 100, [0, 128, 255][x as usize]]));
        let seen = reread(alphas, ImageFormat::Png);
        assert_eq!(seen.as_raw()[..], [255, 255, 255, 255, 127, 177, 255, 0, 100]);
    }

    #[test]
    fn cut_files_are_refused() {
        let jpeg = jpeg_with_orientation(1);
        for end in [1, 3, 20, jpeg.len() / 2, jpeg.len() - 1] {
            let error = reopen(&jpeg[..end]).unwrap_err();
            assert!(matches!(error, CaptureError::NotImage { .. }), "{end}: {error}");
        }
        assert!(reopen(&[&jpeg[..], b"\xff\xdaappended"].concat()).is_ok());
    }

    #[test]
    fn a_picture_without_pixels_is_refused() {
        for content in [&b"P6\n0 4\n255\n"[..], b"P6\n4 0\n255\n"] {
            assert!(matches!(reopen(content), Err(CaptureError::NotImage { .. })));
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_unpacks() {
        let mut bomb = Cursor::new(Vec::new());
        GrayImage::new(1, 1).write_to(&mut bomb, ImageFormat::Bmp).unwrap();
        let mut bomb = bomb.into_inner();
        // Width and height of the BMP header; the pixels are never reached.
        bomb[18..26].copy_from_slice(&[0x40, 0x9c, 0, 0, 0x40, 0x9c, 0, 0]);
        let error = reopen(&bomb).unwrap_err();
        assert!(matches!(error, CaptureError::TooLarge { width: 40_000, .. }), "{error}");
    }
}
