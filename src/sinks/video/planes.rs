//! From RGB to what H.264 encoders take: I420 with limited range, the matrix of BT.601 (ITU-R BT.601-7, 2.5.3, to 8 bits), and
//! chroma sited where luma's left columns are (ITU-R BT.709's and H.264's default).
//!
//! GStreamer's `videoconvert` takes 4 ms of a core for a picture of 1280x720, this 0.4. Compilers make vectors of its loops,
//! which need AVX2 to part channels from one another.

use gstreamer::{self as gst, prelude::*};
use image::RgbImage;

use super::{COLORIMETRY, VideoError};

/// Converts pictures of one size. Gives their memory to new ones once the encoder is done with it.
#[derive(Debug)]
pub(in crate::sinks) struct Planes {
    layout: Layout,
    caps: gst::Caps,
    pool: gst::BufferPool,
}

/// Where the planes of a picture lie, as GStreamer expects them without further notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// Even: an odd line or column is there twice.
    width: usize,
    height: usize,
    luma_stride: usize,
    chroma_stride: usize,
}

impl Layout {
    fn new((width, height): (u32, u32)) -> Self {
        let [width, height] = [width, height].map(|side| side.next_multiple_of(2) as usize);
        Self { width, height, luma_stride: width.next_multiple_of(4), chroma_stride: (width / 2).next_multiple_of(4) }
    }

    fn luma_bytes(&self) -> usize {
        self.luma_stride * self.height
    }

    fn chroma_bytes(&self) -> usize {
        self.chroma_stride * self.height / 2
    }

    fn bytes(&self) -> usize {
        self.luma_bytes() + 2 * self.chroma_bytes()
    }
}

impl Planes {
    /// For pictures of that size.
    ///
    /// # Errors
    ///
    /// When GStreamer has no memory for them.
    pub(in crate::sinks) fn new(size: (u32, u32)) -> Result<Self, VideoError> {
        let layout = Layout::new(size);
        let side = |pixels| i32::try_from(pixels).map_err(VideoError::encoder);
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", side(layout.width)?)
            .field("height", side(layout.height)?)
            .field("framerate", gst::Fraction::new(0, 1))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("colorimetry", COLORIMETRY)
            .field("chroma-site", "mpeg2")
            .build();
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        config.set_params(Some(&caps), u32::try_from(layout.bytes()).map_err(VideoError::encoder)?, 0, 0);
        pool.set_config(config).and_then(|()| pool.set_active(true)).map_err(VideoError::encoder)?;
        Ok(Self { layout, caps, pool })
    }

    /// Whether it is for pictures of that size.
    pub(in crate::sinks) fn fit(&self, size: (u32, u32)) -> bool {
        Layout::new(size) == self.layout
    }

    /// What the buffers hold.
    pub(in crate::sinks) fn caps(&self) -> &gst::Caps {
        &self.caps
    }

    /// A picture as planes.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    ///
    /// # Panics
    ///
    /// When the picture has another size.
    pub(in crate::sinks) fn buffer(&self, image: &RgbImage) -> Result<gst::Buffer, VideoError> {
        let mut buffer = self.pool.acquire_buffer(None).map_err(VideoError::encoder)?;
        let own = buffer.get_mut().ok_or_else(|| VideoError::encoder("GStreamer's memory is somebody else's"))?;
        convert(image, self.layout, &mut own.map_writable().map_err(VideoError::encoder)?);
        Ok(buffer)
    }
}

impl Drop for Planes {
    fn drop(&mut self) {
        // An active pool would be disposed of with a complaint. Becoming inactive does not fail.
        let _ = self.pool.set_active(false);
    }
}

fn convert(image: &RgbImage, layout: Layout, bytes: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn with_avx2(image: &RgbImage, layout: Layout, bytes: &mut [u8]) {
        convert_lines(image, layout, bytes);
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        unsafe { with_avx2(image, layout, bytes) }
    } else {
        convert_lines(image, layout, bytes);
    }
}

/// Two lines at a time, as they have their chroma in common.
#[inline(always)]
fn convert_lines(image: &RgbImage, layout: Layout, bytes: &mut [u8]) {
    assert_eq!(Layout::new(image.dimensions()), layout, "the picture has another size");
    let (luma, chroma) = bytes.split_at_mut(layout.luma_bytes());
    let (blue, red) = chroma.split_at_mut(layout.chroma_bytes());
    let chroma = blue.chunks_exact_mut(layout.chroma_stride).zip(red.chunks_exact_mut(layout.chroma_stride));
    let line_bytes = 3 * image.width() as usize;
    let mut above = Channels::new(layout.width);
    let mut below = Channels::new(layout.width);
    let mut means = Means::new(layout.width);
    for ((lines, luma), (blue, red)) in
        image.chunks(2 * line_bytes).zip(luma.chunks_exact_mut(2 * layout.luma_stride)).zip(chroma)
    {
        let (first, second) = lines.split_at(line_bytes);
        above.part(first);
        // The last line of an odd number is there twice.
        below.part(if second.is_empty() { first } else { second });
        let (luma_above, luma_below) = luma.split_at_mut(layout.luma_stride);
        above.luma(luma_above);
        below.luma(luma_below);
        means.take(&above, &below);
        means.chroma(blue, red);
    }
}

/// The channels of a line, each by itself.
struct Channels {
    red: Vec<u8>,
    green: Vec<u8>,
    blue: Vec<u8>,
}

impl Channels {
    fn new(width: usize) -> Self {
        let channel = || vec![0; width];
        Self { red: channel(), green: channel(), blue: channel() }
    }

    /// Takes a line; the last column of an odd number is there twice.
    #[inline(always)]
    fn part(&mut self, line: &[u8]) {
        let Self { red, green, blue } = self;
        let (pixels, _) = line.as_chunks::<3>();
        for (((pixel, red), green), blue) in pixels.iter().zip(&mut *red).zip(&mut *green).zip(&mut *blue) {
            [*red, *green, *blue] = *pixel;
        }
        if pixels.len() < red.len()
            && let Some(&last) = pixels.last()
        {
            [red[pixels.len()], green[pixels.len()], blue[pixels.len()]] = last;
        }
    }

    #[inline(always)]
    fn luma(&self, line: &mut [u8]) {
        let pixels = self.red.iter().zip(&self.green).zip(&self.blue);
        for (((&red, &green), &blue), luma) in pixels.zip(line) {
            let [red, green, blue] = [red, green, blue].map(u16::from);
            *luma = ((66 * red + 129 * green + 25 * blue + 128) >> 8) as u8 + 16;
        }
    }
}

/// Of the pixels around each place that has chroma: 1, 2 and 1 parts of three columns, of both lines.
struct Means {
    red: Vec<i16>,
    green: Vec<i16>,
    blue: Vec<i16>,
    /// Sums of both lines, behind that of the column left of the first, which is the first once more.
    sums: Vec<u16>,
}

impl Means {
    fn new(width: usize) -> Self {
        let channel = || vec![0; width / 2];
        Self { red: channel(), green: channel(), blue: channel(), sums: vec![0; width + 2] }
    }

    #[inline(always)]
    fn take(&mut self, above: &Channels, below: &Channels) {
        for (means, above, below) in [
            (&mut self.red, &above.red, &below.red),
            (&mut self.green, &above.green, &below.green),
            (&mut self.blue, &above.blue, &below.blue),
        ] {
            for ((sum, &above), &below) in self.sums[1..].iter_mut().zip(above).zip(below) {
                *sum = u16::from(above) + u16::from(below);
            }
            self.sums[0] = self.sums[1];
            let (pairs, _) = self.sums.as_chunks::<2>();
            for ((mean, &[left, own]), &[right, _]) in means.iter_mut().zip(pairs).zip(&pairs[1..]) {
                *mean = ((left + 2 * own + right + 4) >> 3) as i16;
            }
        }
    }

    #[inline(always)]
    fn chroma(&self, blues: &mut [u8], reds: &mut [u8]) {
        let means = self.red.iter().zip(&self.green).zip(&self.blue);
        for ((((&red, &green), &blue), into_blue), into_red) in means.zip(blues).zip(reds) {
            *into_blue = (((112 * blue - 38 * red - 74 * green + 128) >> 8) + 128) as u8;
            *into_red = (((112 * red - 94 * green - 18 * blue + 128) >> 8) + 128) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// By the definition, in double precision: luma, blue and red difference.
    fn defined([red, green, blue]: [f64; 3]) -> [f64; 3] {
        let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
        let chroma = |channel: f64, weight: f64| 128.0 + 224.0 / 255.0 * (channel - luma) / (2.0 * (1.0 - weight));
        [16.0 + 219.0 / 255.0 * luma, chroma(blue, 0.114), chroma(red, 0.299)]
    }

    fn converted(image: &RgbImage) -> (Layout, Vec<u8>) {
        let layout = Layout::new(image.dimensions());
        let mut bytes = vec![0; layout.bytes()];
        convert(image, layout, &mut bytes);
        (layout, bytes)
    }

    #[test]
    fn planes_are_as_defined() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for size in [(16, 16), (17, 16), (18, 17), (101, 77), (426, 240)] {
            let image = RgbImage::from_fn(size.0, size.1, |_, _| Rgb(rng.random()));
            let (layout, bytes) = converted(&image);
            let pixel = |x: i64, y: i64| {
                let inside = |place: i64, side: u32| place.clamp(0, i64::from(side) - 1) as u32;
                image.get_pixel(inside(x, size.0), inside(y, size.1)).0.map(f64::from)
            };
            let near = |actual: u8, expected: f64| (f64::from(actual) - expected).abs() <= 1.25;
            for y in 0..layout.height {
                for x in 0..layout.width {
                    let [luma, ..] = defined(pixel(x as i64, y as i64));
                    assert!(near(bytes[y * layout.luma_stride + x], luma), "{size:?} {x} {y}");
                }
            }
            for y in 0..layout.height / 2 {
                for x in 0..layout.width / 2 {
                    let mut mean = [0.0; 3];
                    for (column, weight) in [(-1, 0.125), (0, 0.25), (1, 0.125)] {
                        for line in [0, 1] {
                            let pixel = pixel(2 * x as i64 + column, 2 * y as i64 + line);
                            mean.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += weight * value);
                        }
                    }
                    let [_, blue, red] = defined(mean);
                    let place = layout.luma_bytes() + y * layout.chroma_stride + x;
                    assert!(near(bytes[place], blue), "{size:?} {x} {y}");
                    assert!(near(bytes[place + layout.chroma_bytes()], red), "{size:?} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn the_ends_of_each_range_are_kept() {
        for (colour, expected) in [
            ([0; 3], [16, 128, 128]),
            ([255; 3], [235, 128, 128]),
            ([255, 0, 0], [82, 90, 240]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            let (layout, bytes) = converted(&RgbImage::from_pixel(20, 20, Rgb(colour)));
            let chroma = layout.luma_bytes();
            assert_eq!([bytes[0], bytes[chroma], bytes[chroma + layout.chroma_bytes()]], expected, "{colour:?}");
        }
    }

    #[test]
    fn all_processors_give_the_same() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for size in [(16, 16), (39, 21), (130, 34)] {
            let image = RgbImage::from_fn(size.0, size.1, |_, _| Rgb(rng.random()));
            let (layout, bytes) = converted(&image);
            let mut plain = vec![0; layout.bytes()];
            convert_lines(&image, layout, &mut plain);
            assert_eq!(bytes, plain);
        }
    }
}
