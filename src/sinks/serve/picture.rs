//! A finding as JPEG, ready to be sent to any number of viewers without being copied.

use std::ops::Range;

use bytes::Bytes;
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, EncodingError};

/// Quality of JPEG pictures, 1 to 100: labels stay crisp at a tenth of the size of the frame.
const QUALITY: u8 = 80;
/// Separates the parts of a stream.
pub(super) const BOUNDARY: &str = "frame";
/// What ends a part. The next boundary goes with the part that it ends, because browsers show a part only then.
const PART_END: &[u8] = b"\r\n--frame\r\n";

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum PictureError {
    #[error("no frame has come yet")]
    NoFrame,
    #[error("a picture of {width}x{height} pixels is too large for JPEG")]
    TooLarge { width: u32, height: u32 },
    #[error("the frame is no JPEG picture: {0}")]
    Encoding(#[from] EncodingError),
    #[error("the encoder broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// An encoded picture.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// Which of the findings of its source it shows.
    pub(super) number: u64,
    part: Bytes,
    jpeg: Range<usize>,
}

impl Picture {
    /// Encodes a picture, which takes milliseconds.
    ///
    /// # Errors
    ///
    /// When JPEG has no room for its size.
    pub(super) fn encode(number: u64, image: &RgbImage) -> Result<Self, PictureError> {
        let (width, height) = image.dimensions();
        let (Ok(columns), Ok(rows)) = (u16::try_from(width), u16::try_from(height)) else {
            return Err(PictureError::TooLarge { width, height });
        };
        let mut jpeg = Vec::with_capacity(image.len() / 8);
        Encoder::new(&mut jpeg, QUALITY).encode(image, columns, rows, ColorType::Rgb)?;

        let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        let mut part = Vec::with_capacity(head.len() + jpeg.len() + PART_END.len());
        part.extend_from_slice(head.as_bytes());
        part.extend_from_slice(&jpeg);
        part.extend_from_slice(PART_END);
        Ok(Self { number, part: part.into(), jpeg: head.len()..head.len() + jpeg.len() })
    }

    /// The bare JPEG file.
    pub(super) fn jpeg(&self) -> Bytes {
        self.part.slice(self.jpeg.clone())
    }

    /// The same as part of a stream, up to the boundary that follows.
    pub(super) fn part(&self) -> Bytes {
        self.part.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_holds_the_picture_and_its_length() {
        let image = RgbImage::from_fn(33, 20, |x, y| image::Rgb([(x * 7) as u8, (y * 12) as u8, 90]));
        let picture = Picture::encode(3, &image).unwrap();
        let decoded = image::load_from_memory(&picture.jpeg()).unwrap().to_rgb8();
        assert_eq!(decoded.dimensions(), (33, 20));
        let worst = image.iter().zip(decoded.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(60), "{worst:?}");
        let part = picture.part();
        assert!(part.starts_with(
            format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.jpeg().len()).as_bytes()
        ));
        assert!(part.ends_with(format!("\r\n--{BOUNDARY}\r\n").as_bytes()));
    }

    #[test]
    fn what_jpeg_cannot_hold_is_an_error() {
        assert!(Picture::encode(0, &RgbImage::new(70_000, 1)).is_err());
        assert!(Picture::encode(0, &RgbImage::new(0, 0)).is_err());
    }
}
