//! From a camera's picture to a network's input: colour, size, border and scale in one pass over the pixels.
//!
//! Frames come from the sensors' decoders, values go straight into the input tensor of a network (three planes, rows
//! from top to bottom). All pixel arithmetic is in whole numbers up to the last step, which is one `f32` multiplication
//! and one addition, so the same picture gives the same bits on every machine. Nothing is allocated per picture: tables
//! and buffers are made when a picture of another size or kind comes first.

mod color;
pub mod raw;
pub mod raw_slot;
mod remap;
mod resize;
#[cfg(feature = "cuda")]
pub(crate) mod tables;

use catseye_sensors::picture::Frame;
use thiserror::Error;

pub use remap::Remap;

use crate::messages::BoxPx;
use resize::Resizer;

/// Smallest picture that can be interpolated, in pixels each way.
const MIN_PICTURE_PX: u32 = 2;
/// Largest picture, in pixels each way.
const MAX_PICTURE_PX: u32 = 16_384;
/// Largest network input, in pixels each way.
const MAX_NETWORK_PX: usize = 8_192;

/// Why a picture could not be made into a network's input.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PreprocessError {
    /// A raw picture cannot be developed.
    #[error(transparent)]
    Raw(#[from] raw::RawError),
    /// The network's input is empty or absurdly large.
    #[error("network input is {width} x {height} pixels: expected 1 x 1 to 8192 x 8192")]
    NetworkSize {
        /// Its width in pixels.
        width: usize,
        /// Its height in pixels.
        height: usize,
    },
    /// A scale or bias is NaN or infinite.
    #[error("scale {scale:?} and bias {bias:?} of the network input: expected finite numbers")]
    NotFinite {
        /// Scale per plane.
        scale: [f32; 3],
        /// Bias per plane.
        bias: [f32; 3],
    },
    /// The picture is too small to interpolate or too large.
    #[error("picture is {width_px} x {height_px} pixels: expected 2 x 2 to 16384 x 16384")]
    PictureSize {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
    },
    /// The tensor's slice does not fit the network's input.
    #[error("tensor slice holds {found} values: expected {expected}, three planes of the network input")]
    TensorSize {
        /// Values the layout asks for.
        expected: usize,
        /// Values there are.
        found: usize,
    },
    /// The map was made for another network input.
    #[error("map is for a network input of {}: expected {}", size(.found), size(.expected))]
    MapNetwork {
        /// Width and height of the layout's network input.
        expected: [usize; 2],
        /// Width and height that the map was made for.
        found: [usize; 2],
    },
    /// The map was made for pictures of another size.
    #[error("picture is {} pixels: expected {}, which the map was made for", size(.found), size(.expected))]
    MapPicture {
        /// Width and height that the map was made for.
        expected: [u32; 2],
        /// Width and height of the picture.
        found: [u32; 2],
    },
}

fn size<T: std::fmt::Display>([width, height]: &[T; 2]) -> String {
    format!("{width} x {height}")
}

/// Which colour the first plane of the network's input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// How a picture of another shape is brought into the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Its shape is kept; what stays free is filled with grey.
    Letterbox {
        /// The grey, 0 to 255.
        pad: u8,
        /// In the middle with the size rounded (Ultralytics), or at the top left with the size cut off (YOLOX).
        centred: bool,
    },
    /// It fills the input; its shape is given up.
    Stretch,
}

/// What a network wants to see: size, fit, colour order and number range.
///
/// Each value is `byte as f32 * scale + bias` of its plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Width of the network's input in pixels.
    pub width: usize,
    /// Height of the network's input in pixels.
    pub height: usize,
    /// How the picture is fitted.
    pub mode: Fit,
    /// Order of the planes.
    pub order: ChannelOrder,
    /// Factor per plane, in the order of the planes.
    pub scale: [f32; 3],
    /// Summand per plane, in the order of the planes.
    pub bias: [f32; 3],
}

impl Layout {
    /// YOLOX: top-left letterbox in grey 114, BGR, 0 to 255.
    pub fn yolox(width: usize, height: usize) -> Layout {
        let mode = Fit::Letterbox { pad: 114, centred: false };
        Layout { width, height, mode, order: ChannelOrder::Bgr, scale: [1.0; 3], bias: [0.0; 3] }
    }

    /// YOLOv5: centred letterbox in grey 114, RGB, 0 to 1.
    pub fn yolov5(width: usize, height: usize) -> Layout {
        let mode = Fit::Letterbox { pad: 114, centred: true };
        Layout { mode, ..Layout::stretched_unit(width, height, ChannelOrder::Rgb) }
    }

    /// YOLOv8 and YOLO11: as YOLOv5.
    pub fn yolov8(width: usize, height: usize) -> Layout {
        Layout::yolov5(width, height)
    }

    /// TwinLiteNet: stretched, RGB, 0 to 1.
    pub fn twinlitenet(width: usize, height: usize) -> Layout {
        Layout::stretched_unit(width, height, ChannelOrder::Rgb)
    }

    /// A multitask network: as YOLOv8, so that things keep their shape.
    pub fn multitask(width: usize, height: usize) -> Layout {
        Layout::yolov8(width, height)
    }

    /// FastestDet: stretched, BGR, 0 to 1.
    pub fn fastestdet(width: usize, height: usize) -> Layout {
        Layout::stretched_unit(width, height, ChannelOrder::Bgr)
    }

    /// PicoDet: stretched, RGB, `(value / 255 - mean) / deviation` with ImageNet's mean and deviation.
    pub fn picodet(width: usize, height: usize) -> Layout {
        let mean: [f32; 3] = [0.485, 0.456, 0.406];
        let deviation: [f32; 3] = [0.229, 0.224, 0.225];
        let mut layout = Layout::stretched_unit(width, height, ChannelOrder::Rgb);
        layout.scale = deviation.map(|deviation| 1.0 / (255.0 * deviation));
        layout.bias = [-mean[0] / deviation[0], -mean[1] / deviation[1], -mean[2] / deviation[2]];
        layout
    }

    /// RT-DETR: stretched, RGB, 0 to 1.
    pub fn rtdetr(width: usize, height: usize) -> Layout {
        Layout::stretched_unit(width, height, ChannelOrder::Rgb)
    }

    fn stretched_unit(width: usize, height: usize, order: ChannelOrder) -> Layout {
        Layout { width, height, mode: Fit::Stretch, order, scale: [1.0 / 255.0; 3], bias: [0.0; 3] }
    }

    /// Values of one picture: three planes.
    pub fn values(&self) -> usize {
        self.width.saturating_mul(self.height).saturating_mul(3)
    }

    /// Where a picture of this size comes to lie in the network's input.
    ///
    /// # Errors
    /// [`PreprocessError::PictureSize`] and [`PreprocessError::NetworkSize`] for sizes that are not allowed.
    pub fn letterbox(&self, picture_width_px: u32, picture_height_px: u32) -> Result<Letterbox, PreprocessError> {
        Ok(self.place(picture_width_px, picture_height_px)?.letterbox)
    }

    /// Follows the upstream preprocessing of the networks, in `f64` as there: the picture is scaled by
    /// `min(height / picture height, width / picture width)`; YOLOX cuts the size down to whole pixels, Ultralytics
    /// rounds it and gives the odd pixel of the border to the right and bottom.
    fn place(&self, picture_width_px: u32, picture_height_px: u32) -> Result<Placement, PreprocessError> {
        self.check()?;
        check_picture(picture_width_px, picture_height_px)?;
        let (width, height) = (self.width as f64, self.height as f64);
        let (picture_width, picture_height) = (f64::from(picture_width_px), f64::from(picture_height_px));
        let Fit::Letterbox { centred, .. } = self.mode else {
            let scale_x = (width / picture_width) as f32;
            let scale_y = (height / picture_height) as f32;
            let letterbox = Letterbox { scale_x, scale_y, pad_left: 0.0, pad_top: 0.0 };
            return Ok(Placement { left: 0, top: 0, width: self.width, height: self.height, letterbox });
        };
        let ratio = (height / picture_height).min(width / picture_width);
        let whole = |length: f64, limit: usize| {
            let length = if centred { length.round_ties_even() } else { length.trunc() };
            (length as usize).clamp(1, limit)
        };
        let inside_width = whole(picture_width * ratio, self.width);
        let inside_height = whole(picture_height * ratio, self.height);
        let border = |all: usize, inside: usize| if centred { (all - inside) / 2 } else { 0 };
        let left = border(self.width, inside_width);
        let top = border(self.height, inside_height);
        let scale = ratio as f32;
        let letterbox = Letterbox { scale_x: scale, scale_y: scale, pad_left: left as f32, pad_top: top as f32 };
        Ok(Placement { left, top, width: inside_width, height: inside_height, letterbox })
    }

    pub(crate) fn check(&self) -> Result<(), PreprocessError> {
        let allowed = 1..=MAX_NETWORK_PX;
        if !allowed.contains(&self.width) || !allowed.contains(&self.height) {
            return Err(PreprocessError::NetworkSize { width: self.width, height: self.height });
        }
        if !self.scale.iter().chain(&self.bias).all(|value| value.is_finite()) {
            return Err(PreprocessError::NotFinite { scale: self.scale, bias: self.bias });
        }
        Ok(())
    }

    /// Byte of the border, also where a map shows nothing.
    pub(crate) fn pad(&self) -> u8 {
        match self.mode {
            Fit::Letterbox { pad, .. } => pad,
            Fit::Stretch => 0,
        }
    }
}

fn check_picture(width_px: u32, height_px: u32) -> Result<(), PreprocessError> {
    let allowed = MIN_PICTURE_PX..=MAX_PICTURE_PX;
    if !allowed.contains(&width_px) || !allowed.contains(&height_px) {
        return Err(PreprocessError::PictureSize { width_px, height_px });
    }
    Ok(())
}

impl Default for Letterbox {
    /// A picture that lies in the network's input as it is.
    fn default() -> Self {
        Letterbox { scale_x: 1.0, scale_y: 1.0, pad_left: 0.0, pad_top: 0.0 }
    }
}

/// How places in the picture and in the network's input belong together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Network pixels per picture pixel, across.
    pub scale_x: f32,
    /// Network pixels per picture pixel, down.
    pub scale_y: f32,
    /// Network pixels left of the picture.
    pub pad_left: f32,
    /// Network pixels above the picture.
    pub pad_top: f32,
}

impl Letterbox {
    /// A box in the network's input, given in the picture. Edges are scaled as they are, as the networks' own
    /// postprocessing does, and not clipped.
    pub fn to_picture(&self, box_px: BoxPx) -> BoxPx {
        BoxPx {
            left: (box_px.left - self.pad_left) / self.scale_x,
            top: (box_px.top - self.pad_top) / self.scale_y,
            right: (box_px.right - self.pad_left) / self.scale_x,
            bottom: (box_px.bottom - self.pad_top) / self.scale_y,
        }
    }

    /// The place in the picture where the middle of a network pixel lies; the middle of each top-left pixel is (0, 0).
    pub fn centre_to_picture(&self, x: f32, y: f32) -> [f32; 2] {
        [(x + 0.5 - self.pad_left) / self.scale_x - 0.5, (y + 0.5 - self.pad_top) / self.scale_y - 0.5]
    }
}

/// The part of the network's input that shows the picture, in network pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Placement {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    letterbox: Letterbox,
}

/// Where the pixels of the network's input come from.
enum Source {
    Resize(Option<Box<Resizer>>),
    Remap(Remap),
}

/// Makes the input of one network from pictures of one camera.
///
/// Pictures may change their size and format; each change of size costs new tables once.
pub struct Preprocessor {
    layout: Layout,
    source: Source,
    scratch: Vec<u8>,
}

impl Preprocessor {
    /// Fits pictures as the layout says.
    ///
    /// # Errors
    /// [`PreprocessError::NetworkSize`], [`PreprocessError::NotFinite`].
    pub fn new(layout: Layout) -> Result<Preprocessor, PreprocessError> {
        layout.check()?;
        Ok(Preprocessor { layout, source: Source::Resize(None), scratch: Vec::new() })
    }

    /// Takes each pixel from where a map says, for example from the undistorted picture.
    ///
    /// # Errors
    /// As [`Preprocessor::new`], and [`PreprocessError::MapNetwork`] when the map is for another layout's size.
    pub fn with_remap(layout: Layout, remap: Remap) -> Result<Preprocessor, PreprocessError> {
        layout.check()?;
        let (expected, found) = ([layout.width, layout.height], remap.network());
        if expected != found {
            return Err(PreprocessError::MapNetwork { expected, found });
        }
        Ok(Preprocessor { layout, source: Source::Remap(remap), scratch: Vec::new() })
    }

    /// What the network wants to see.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes the picture into `planes`, three planes of `height` rows of `width` values, and says how it lies there.
    ///
    /// # Errors
    /// [`PreprocessError::PictureSize`], [`PreprocessError::TensorSize`], and with a map
    /// [`PreprocessError::MapPicture`]; `planes` is left as it was.
    pub fn run(&mut self, frame: &Frame, planes: &mut [f32]) -> Result<Letterbox, PreprocessError> {
        let (width_px, height_px) = (frame.width_px(), frame.height_px());
        let placement = self.layout.place(width_px, height_px)?;
        let (expected, found) = (self.layout.values(), planes.len());
        if expected != found {
            return Err(PreprocessError::TensorSize { expected, found });
        }
        match &mut self.source {
            Source::Resize(slot) => {
                if slot.as_ref().is_none_or(|resizer| !resizer.is_for(width_px, height_px)) {
                    *slot = Some(Box::new(Resizer::new(&self.layout, placement, width_px, height_px)));
                }
                if let Some(resizer) = slot {
                    resizer.run(frame, &self.layout, &mut self.scratch, planes);
                }
            }
            Source::Remap(remap) => {
                let (expected, found) = (remap.picture(), [width_px, height_px]);
                if expected != found {
                    return Err(PreprocessError::MapPicture { expected, found });
                }
                remap.run(frame, &self.layout, &mut self.scratch, planes);
            }
        }
        Ok(placement.letterbox)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use catseye_sensors::picture::{PixelFormat, convert};

    /// A frame whose bytes follow a fixed rule that looks like noise.
    pub(crate) fn noise(width_px: u32, height_px: u32, format: PixelFormat, full_range: bool) -> Frame {
        let bytes = format.bytes_for(width_px, height_px).unwrap();
        let data = (0..bytes as u64).map(|index| ((index * 2_654_435_761) >> 7) as u8).collect();
        Frame::new(width_px, height_px, format, full_range, data).unwrap()
    }

    /// Bytes as they are, so that the planes show the whole numbers.
    pub(crate) fn plain(width: usize, height: usize) -> Layout {
        Layout { width, height, mode: Fit::Stretch, order: ChannelOrder::Rgb, scale: [1.0; 3], bias: [0.0; 3] }
    }

    pub(crate) fn run(layout: Layout, frame: &Frame) -> (Vec<f32>, Letterbox) {
        let mut planes = vec![f32::NAN; layout.values()];
        let letterbox = Preprocessor::new(layout).unwrap().run(frame, &mut planes).unwrap();
        (planes, letterbox)
    }

    /// Left tap and weight of the right tap in 1/2048, from the exact fraction.
    fn tap(index: i64, from: i64, to: i64) -> (i64, i64) {
        let (numerator, denominator) = ((2 * index + 1) * from - to, 2 * to);
        let left = numerator.div_euclid(denominator);
        let rest = numerator.rem_euclid(denominator);
        (left, (2 * rest * 2048 + denominator) / (2 * denominator))
    }

    /// One value of the resized picture, pixel by pixel through the sensors' colour lookup.
    fn expected_byte(frame: &Frame, to: (i64, i64), x: i64, y: i64, channel: usize) -> i64 {
        let (width, height) = (i64::from(frame.width_px()), i64::from(frame.height_px()));
        let (left, right_weight) = tap(x, width, to.0);
        let (upper, lower_weight) = tap(y, height, to.1);
        let at = |x: i64, y: i64| {
            let (x, y) = (x.clamp(0, width - 1), y.clamp(0, height - 1));
            i64::from(convert::rgb_at(frame, x as u32, y as u32).unwrap()[channel])
        };
        let across = |y: i64| (at(left, y) * (2048 - right_weight) + at(left + 1, y) * right_weight) >> 4;
        let high = |weight: i64, value: i64| (weight * value) >> 16;
        (high(2048 - lower_weight, across(upper)) + high(lower_weight, across(upper + 1)) + 2) >> 2
    }

    #[test]
    fn every_format_and_direction_follows_the_scalar_formula() {
        for format in PixelFormat::ALL {
            for full_range in [false, true] {
                for (width, height, to_width, to_height) in
                    [(31, 17, 12, 9), (31, 17, 40, 23), (30, 18, 16, 10), (30, 18, 9, 16), (24, 16, 9, 24)]
                {
                    let frame = noise(width, height, format, full_range);
                    let (planes, _) = run(plain(to_width, to_height), &frame);
                    for (index, &found) in planes.iter().enumerate() {
                        let (channel, pixel) = (index / (to_width * to_height), index % (to_width * to_height));
                        let (x, y) = ((pixel % to_width) as i64, (pixel / to_width) as i64);
                        let to = (to_width as i64, to_height as i64);
                        let expected = expected_byte(&frame, to, x, y, channel);
                        assert_eq!(found as i64, expected, "{format:?} {to:?} at {x} {y} channel {channel}");
                    }
                }
            }
        }
    }

    #[test]
    fn bgr_swaps_the_outer_planes_whatever_comes_in() {
        for format in PixelFormat::ALL {
            let frame = noise(18, 12, format, true);
            let (rgb, _) = run(plain(9, 5), &frame);
            let (bgr, _) = run(Layout { order: ChannelOrder::Bgr, ..plain(9, 5) }, &frame);
            let (rgb, bgr) = (rgb.as_chunks::<45>().0, bgr.as_chunks::<45>().0);
            assert_eq!([rgb[0], rgb[1], rgb[2]], [bgr[2], bgr[1], bgr[0]], "{format:?}");
        }
    }

    #[test]
    fn letterboxes_are_where_upstream_puts_them() {
        let top_left = Layout::yolox(416, 416).place(1280, 720).unwrap();
        assert_eq!((top_left.left, top_left.top, top_left.width, top_left.height), (0, 0, 416, 234));
        assert_eq!(top_left.letterbox.scale_x, 0.325);
        let wide = Layout::yolox(832, 256).place(1242, 375).unwrap();
        assert_eq!((wide.width, wide.height), (832, 251));
        let centred = Layout::yolov8(640, 640).place(1242, 375).unwrap();
        assert_eq!((centred.left, centred.top, centred.width, centred.height), (0, 223, 640, 193));
        let stretched = Layout::twinlitenet(640, 360).place(1280, 960).unwrap().letterbox;
        assert_eq!((stretched.scale_x, stretched.scale_y), (0.5, 0.375));
    }

    #[test]
    fn border_and_picture_fill_the_planes() {
        let frame = Frame::new(4, 2, PixelFormat::Mono8, true, vec![200; 8]).unwrap();
        let (planes, letterbox) = run(Layout::yolov5(8, 8), &frame);
        assert_eq!(letterbox, Letterbox { scale_x: 2.0, scale_y: 2.0, pad_left: 0.0, pad_top: 2.0 });
        for plane in planes.chunks_exact(64) {
            for (y, row) in plane.chunks_exact(8).enumerate() {
                let byte = if (2..6).contains(&y) { 200.0 } else { 114.0 };
                assert!(row.iter().all(|&value| value == byte * (1.0 / 255.0)), "row {y}: {row:?}");
            }
        }
        let tall = Frame::new(2, 4, PixelFormat::Mono8, true, vec![200; 8]).unwrap();
        let (planes, _) = run(Layout::yolox(8, 8), &tall);
        for row in planes.chunks_exact(8) {
            assert_eq!(row, [200.0, 200.0, 200.0, 200.0, 114.0, 114.0, 114.0, 114.0]);
        }
    }

    #[test]
    fn boxes_come_back_to_the_picture() {
        let letterbox = Layout::yolov8(640, 640).letterbox(1280, 720).unwrap();
        let back = letterbox.to_picture(BoxPx { left: 0.0, top: 140.0, right: 640.0, bottom: 500.0 });
        assert_eq!(back, BoxPx { left: 0.0, top: 0.0, right: 1280.0, bottom: 720.0 });
        assert_eq!(letterbox.centre_to_picture(0.0, 140.0), [0.5, 0.5]);
    }

    #[test]
    fn picodet_scales_as_upstream_does() {
        let layout = Layout::picodet(416, 416);
        for (plane, (mean, deviation)) in [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)].into_iter().enumerate() {
            for byte in [0.0_f64, 17.0, 128.0, 255.0] {
                let expected = (byte / 255.0 - mean) / deviation;
                let found = byte as f32 * layout.scale[plane] + layout.bias[plane];
                assert!((f64::from(found) - expected).abs() < 1e-6, "{byte}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_change_of_size_changes_the_tables() {
        let mut preprocessor = Preprocessor::new(plain(6, 4)).unwrap();
        let mut planes = vec![0.0; 72];
        for (width, height) in [(12, 8), (9, 10), (12, 8)] {
            let frame = noise(width, height, PixelFormat::Nv12, false);
            preprocessor.run(&frame, &mut planes).unwrap();
            assert_eq!(planes, run(plain(6, 4), &frame).0);
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let frame = noise(8, 8, PixelFormat::Rgb8, true);
        let mut preprocessor = Preprocessor::new(plain(4, 4)).unwrap();
        let mut short = vec![7.0; 47];
        let error = preprocessor.run(&frame, &mut short).unwrap_err();
        assert_eq!(error, PreprocessError::TensorSize { expected: 48, found: 47 });
        assert!(short.iter().all(|&value| value == 7.0));
        let narrow = noise(1, 8, PixelFormat::Rgb8, true);
        let error = preprocessor.run(&narrow, &mut [0.0; 48]).unwrap_err();
        assert_eq!(error, PreprocessError::PictureSize { width_px: 1, height_px: 8 });
        let error = preprocessor.run(&Frame::default(), &mut [0.0; 48]).unwrap_err();
        assert_eq!(error, PreprocessError::PictureSize { width_px: 0, height_px: 0 });
        assert!(Preprocessor::new(plain(0, 4)).is_err());
        assert!(Preprocessor::new(Layout { scale: [f32::NAN; 3], ..plain(4, 4) }).is_err());
    }
}
