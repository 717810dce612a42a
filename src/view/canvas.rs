//! A picture in memory that can be drawn on: lines, boxes, filled polygons, text, other pictures.
//!
//! Data comes from a camera's pixels or from nothing, and goes into a PNG file or a JPEG. Coordinates are pixels with
//! the centre of the top-left pixel at (0, 0), x to the right, y down. What lies outside the canvas is clipped; a shape
//! with a coordinate that is not finite, or farther out than [`MAX_COORDINATE_PX`], is not drawn. All arithmetic is
//! exact IEEE 754 or integer, so the same calls give the same bytes.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

/// Longest side of a canvas: 8192 pixels, so that one never takes more than 192 MiB.
pub const MAX_SIDE_PX: u32 = 8192;

/// Coordinates beyond this are taken for nonsense; below it, clipping is exact to far less than a pixel.
pub const MAX_COORDINATE_PX: f64 = 1e9;

/// Lines of samples per row when a polygon is filled: enough for edges that look smooth.
const SUBLINES: u32 = 4;

const MAX_LINE_WIDTH_PX: f64 = 64.0;
const MAX_TEXT_SIZE_PX: f64 = 256.0;

/// Why a canvas could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum CanvasError {
    /// A side is zero or too long.
    #[error("a picture of {width_px} x {height_px} pixels was asked for; each side must be 1 to {MAX_SIDE_PX} pixels")]
    Size {
        /// Width asked for.
        width_px: u32,
        /// Height asked for.
        height_px: u32,
    },
    /// The pixels are not as many as the size says.
    #[error("a picture of {width_px} x {height_px} pixels takes {expected} bytes of RGB, but {found} bytes came")]
    Length {
        /// Width of the picture.
        width_px: u32,
        /// Height of the picture.
        height_px: u32,
        /// Bytes that fit the size.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// The JPEG encoder gave up.
    #[error("the picture could not be encoded as JPEG: {0}")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
    /// The PNG encoder gave up.
    #[error("the picture could not be encoded as PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The file could not be written.
    #[error("{path} could not be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A colour with opacity, 8 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
    /// Opacity: 255 hides what is below, 0 draws nothing.
    pub alpha: u8,
}

impl Colour {
    /// Black.
    pub const BLACK: Colour = Colour::rgb(0, 0, 0);
    /// White.
    pub const WHITE: Colour = Colour::rgb(255, 255, 255);

    /// An opaque colour.
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Colour {
        Colour { red, green, blue, alpha: 255 }
    }

    /// The same colour with another opacity.
    pub const fn with_alpha(self, alpha: u8) -> Colour {
        Colour { alpha, ..self }
    }

    fn channels(self) -> [u8; 3] {
        [self.red, self.green, self.blue]
    }
}

/// An RGB picture, 8 bits per channel, row by row; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    width_px: usize,
    height_px: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A canvas of one colour; its opacity is ignored.
    ///
    /// # Errors
    /// [`CanvasError::Size`] when a side is 0 or above [`MAX_SIDE_PX`].
    pub fn new(width_px: u32, height_px: u32, colour: Colour) -> Result<Canvas, CanvasError> {
        let sound = 1..=MAX_SIDE_PX;
        if !sound.contains(&width_px) || !sound.contains(&height_px) {
            return Err(CanvasError::Size { width_px, height_px });
        }
        let (width, height) = (width_px as usize, height_px as usize);
        Ok(Canvas { width_px: width, height_px: height, rgb: colour.channels().repeat(width * height) })
    }

    /// A copy of a picture: `height_px` rows of `width_px` RGB pixels without padding.
    ///
    /// # Errors
    /// [`CanvasError::Size`] as in [`Canvas::new`]; [`CanvasError::Length`] when `rgb` does not fit the size.
    pub fn from_rgb(width_px: u32, height_px: u32, rgb: &[u8]) -> Result<Canvas, CanvasError> {
        let mut canvas = Canvas::new(width_px, height_px, Colour::BLACK)?;
        let expected = canvas.rgb.len();
        if rgb.len() != expected {
            return Err(CanvasError::Length { width_px, height_px, expected, found: rgb.len() });
        }
        canvas.rgb.copy_from_slice(rgb);
        Ok(canvas)
    }

    /// Width in pixels, 1 to [`MAX_SIDE_PX`].
    pub fn width_px(&self) -> u32 {
        self.width_px as u32
    }

    /// Height in pixels, 1 to [`MAX_SIDE_PX`].
    pub fn height_px(&self) -> u32 {
        self.height_px as u32
    }

    /// The pixels: RGB, row by row, without padding.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// One pixel; `None` outside.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        let at = self.offset(x, y)?;
        self.rgb.get(at..at + 3)?.try_into().ok()
    }

    fn offset(&self, x: usize, y: usize) -> Option<usize> {
        (x < self.width_px && y < self.height_px).then_some((y * self.width_px + x) * 3)
    }

    /// Mixes a colour into one pixel; `share` is how much of the pixel it covers, 0 to 1. Nothing happens outside.
    pub fn blend(&mut self, x: usize, y: usize, colour: Colour, share: f64) {
        let alpha = (share.clamp(0.0, 1.0) * f64::from(colour.alpha) + 0.5) as u32;
        if alpha == 0 {
            return;
        }
        let Some(at) = self.offset(x, y) else { return };
        for (old, new) in self.rgb[at..at + 3].iter_mut().zip(colour.channels()) {
            *old = ((u32::from(*old) * (255 - alpha) + u32::from(new) * alpha + 127) / 255) as u8;
        }
    }

    /// A straight line with smooth edges and round ends; widths are held between 1 and 64 pixels.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], width_px: f64, colour: Colour) {
        if !is_drawable(from) || !is_drawable(to) || !width_px.is_finite() {
            return;
        }
        let half = 0.5 * width_px.clamp(1.0, MAX_LINE_WIDTH_PX);
        let size = [self.width_px, self.height_px];
        let Some((from, to)) = clip(from, to, size, half + 1.0) else { return };
        let along = [to[0] - from[0], to[1] - from[1]];
        // Walked along its longer axis, the stroke reaches across at most √2 times its width.
        let major = usize::from(along[1].abs() > along[0].abs());
        let minor = 1 - major;
        let reach = 1.5 * half + 1.5;
        let ends = [from[major].min(to[major]), from[major].max(to[major])];
        for step in pixels(ends[0] - half - 0.5, ends[1] + half + 0.5, size[major]) {
            let share = if along[major] == 0.0 { 0.0 } else { (step as f64 - from[major]) / along[major] };
            let middle = from[minor] + share.clamp(0.0, 1.0) * along[minor];
            for across in pixels(middle - reach, middle + reach, size[minor]) {
                let (x, y) = if major == 0 { (step, across) } else { (across, step) };
                let distance = distance_to_segment([x as f64, y as f64], from, along);
                self.blend(x, y, colour, half + 0.5 - distance);
            }
        }
    }

    /// Lines from point to point.
    pub fn polyline(&mut self, points: &[[f64; 2]], width_px: f64, colour: Colour) {
        for pair in points.windows(2) {
            if let [from, to] = pair {
                self.line(*from, *to, width_px, colour);
            }
        }
    }

    /// The outline of a polygon.
    pub fn outline(&mut self, corners: &[[f64; 2]], width_px: f64, colour: Colour) {
        self.polyline(corners, width_px, colour);
        if let (Some(first), Some(last)) = (corners.first(), corners.last()) {
            self.line(*last, *first, width_px, colour);
        }
    }

    /// The outline of an upright box between two opposite corners.
    pub fn rectangle(&mut self, corner: [f64; 2], opposite: [f64; 2], width_px: f64, colour: Colour) {
        self.outline(&box_corners(corner, opposite), width_px, colour);
    }

    /// A filled upright box between two opposite corners.
    pub fn fill_rectangle(&mut self, corner: [f64; 2], opposite: [f64; 2], colour: Colour) {
        self.fill_polygon(&box_corners(corner, opposite), colour);
    }

    /// A filled polygon with smooth edges; where it crosses itself, every second layer is empty.
    pub fn fill_polygon(&mut self, corners: &[[f64; 2]], colour: Colour) {
        if corners.len() < 3 || !corners.iter().all(|corner| is_drawable(*corner)) {
            return;
        }
        let columns = self.extent(corners, 0);
        let mut shares = vec![0.0; columns.len()];
        let mut crossings = Vec::new();
        for y in self.extent(corners, 1) {
            shares.fill(0.0);
            for sub in 0..SUBLINES {
                let line_y = y as f64 - 0.5 + (f64::from(sub) + 0.5) / f64::from(SUBLINES);
                find_crossings(corners, line_y, &mut crossings);
                for pair in crossings.chunks_exact(2) {
                    if let [from, to] = pair {
                        add_span(&mut shares, columns.start as f64, *from, *to);
                    }
                }
            }
            for (x, share) in columns.clone().zip(&shares) {
                self.blend(x, y, colour, *share / f64::from(SUBLINES));
            }
        }
    }

    /// Pixels along one axis (0: x, 1: y) that a polygon touches.
    fn extent(&self, corners: &[[f64; 2]], axis: usize) -> Range<usize> {
        let low = corners.iter().map(|corner| corner[axis]).fold(f64::INFINITY, f64::min);
        let high = corners.iter().map(|corner| corner[axis]).fold(f64::NEG_INFINITY, f64::max);
        pixels(low - 0.5, high + 0.5, [self.width_px, self.height_px][axis])
    }

    /// Text on one line; `at` is the top-left corner of its line box. Sizes are held between 1 and 256 pixels.
    pub fn text(&mut self, at: [f64; 2], size_px: f64, text: &str, colour: Colour) {
        let (Some(font), Some(scale)) = (font(), text_scale(size_px)) else { return };
        // the rasteriser works in 32 bits, so keep away from coordinates where that is coarse
        if !at.iter().all(|value| value.abs() <= f64::from(MAX_SIDE_PX)) {
            return;
        }
        let scaled = font.as_scaled(scale);
        let baseline = at[1] as f32 + scaled.ascent();
        let mut pen = at[0] as f32;
        for letter in text.chars() {
            if pen > self.width_px as f32 {
                return;
            }
            let id = font.glyph_id(letter);
            let glyph = id.with_scale_and_position(scale, point(pen, baseline));
            pen += scaled.h_advance(id);
            let Some(shape) = font.outline_glyph(glyph) else { continue };
            let corner = shape.px_bounds().min;
            let (left, top) = (corner.x as i64, corner.y as i64);
            shape.draw(|x, y, share| {
                let place = (usize::try_from(left + i64::from(x)), usize::try_from(top + i64::from(y)));
                if let (Ok(x), Ok(y)) = place {
                    self.blend(x, y, colour, f64::from(share));
                }
            });
        }
    }

    /// Text on a box that makes it legible on any picture, moved just as far as it takes to stay on the canvas.
    pub fn label(&mut self, at: [f64; 2], size_px: f64, text: &str, ink: Colour, backing: Colour) {
        if !is_drawable(at) || !size_px.is_finite() {
            return;
        }
        let margin = (size_px / 4.0).clamp(1.0, 8.0);
        let width = text_width_px(size_px, text) + 2.0 * margin;
        let height = label_height_px(size_px);
        let left = at[0].min(self.width_px as f64 - width).max(0.0);
        let top = at[1].min(self.height_px as f64 - height).max(0.0);
        self.fill_rectangle([left, top], [left + width, top + height], backing);
        self.text([left + margin, top + margin / 2.0], size_px, text, ink);
    }

    /// Copies another picture so that its top-left pixel lands on (x, y).
    pub fn blit(&mut self, source: &Canvas, x: i64, y: i64) {
        let (from_x, to_x, width) = overlap(x, source.width_px, self.width_px);
        let (from_y, to_y, height) = overlap(y, source.height_px, self.height_px);
        for row in 0..height {
            let from = ((from_y + row) * source.width_px + from_x) * 3;
            let to = ((to_y + row) * self.width_px + to_x) * 3;
            self.rgb[to..to + width * 3].copy_from_slice(&source.rgb[from..from + width * 3]);
        }
    }

    /// The picture at another size: the mean of the pixels below each new one where it shrinks in both directions,
    /// else bilinear between neighbours.
    ///
    /// # Errors
    /// [`CanvasError::Size`] as in [`Canvas::new`].
    pub fn resize(&self, width_px: u32, height_px: u32) -> Result<Canvas, CanvasError> {
        let mut resized = Canvas::new(width_px, height_px, Colour::BLACK)?;
        let shrinks = resized.width_px <= self.width_px && resized.height_px <= self.height_px;
        let (width, height) = (resized.width_px, resized.height_px);
        for (index, pixel) in resized.rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = (index % width, index / width);
            let colour = if shrinks {
                self.mean(cell(x, self.width_px, width), cell(y, self.height_px, height))
            } else {
                self.between(neighbours(x, self.width_px, width), neighbours(y, self.height_px, height))
            };
            pixel.copy_from_slice(&colour);
        }
        Ok(resized)
    }

    fn mean(&self, columns: Range<usize>, rows: Range<usize>) -> [u8; 3] {
        let mut sums = [0u64; 3];
        let mut count = 0u64;
        for y in rows {
            for x in columns.clone() {
                let pixel = self.pixel(x, y).unwrap_or_default();
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u64::from(value);
                }
                count += 1;
            }
        }
        let count = count.max(1);
        sums.map(|sum| ((sum + count / 2) / count) as u8)
    }

    /// The mix of four pixels; weights are the shares of the second neighbour in 256ths.
    fn between(
        &self,
        (left, right, x_share): (usize, usize, u32),
        (top, bottom, y_share): (usize, usize, u32),
    ) -> [u8; 3] {
        let corner = |x, y| self.pixel(x, y).unwrap_or_default();
        let corners = [corner(left, top), corner(right, top), corner(left, bottom), corner(right, bottom)];
        [0, 1, 2].map(|channel| {
            let [a, b, c, d] = corners.map(|pixel| u32::from(pixel[channel]));
            let upper = a * (256 - x_share) + b * x_share;
            let lower = c * (256 - x_share) + d * x_share;
            ((upper * (256 - y_share) + lower * y_share + 32_768) / 65_536) as u8
        })
    }

    /// The picture as JPEG; quality is held between 1 and 100.
    ///
    /// # Errors
    /// [`CanvasError::Jpeg`] when the encoder gives up.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, CanvasError> {
        let mut bytes = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, quality.clamp(1, 100));
        // MAX_SIDE_PX fits into 16 bits
        encoder.encode(&self.rgb, self.width_px as u16, self.height_px as u16, jpeg_encoder::ColorType::Rgb)?;
        Ok(bytes)
    }

    /// The picture as PNG.
    ///
    /// # Errors
    /// [`CanvasError::Png`] when the encoder gives up.
    pub fn to_png(&self) -> Result<Vec<u8>, CanvasError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width_px(), self.height_px());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Writes the picture as a PNG file.
    ///
    /// # Errors
    /// [`CanvasError::Png`] when the encoder gives up, [`CanvasError::Write`] when the file cannot be written.
    pub fn save_png(&self, path: &Path) -> Result<(), CanvasError> {
        let bytes = self.to_png()?;
        std::fs::write(path, bytes).map_err(|source| CanvasError::Write { path: path.to_owned(), source })
    }
}

/// Width of a text, pixels; 0 when the size is not finite.
pub fn text_width_px(size_px: f64, text: &str) -> f64 {
    let (Some(font), Some(scale)) = (font(), text_scale(size_px)) else { return 0.0 };
    let scaled = font.as_scaled(scale);
    text.chars().map(|letter| f64::from(scaled.h_advance(font.glyph_id(letter)))).sum()
}

/// Height of a [`Canvas::label`], pixels.
pub fn label_height_px(size_px: f64) -> f64 {
    size_px + (size_px / 4.0).clamp(1.0, 8.0)
}

/// Two pictures beside each other, tops aligned; what the shorter one leaves free is black.
///
/// # Errors
/// [`CanvasError::Size`] when both together are wider than [`MAX_SIDE_PX`].
pub fn side_by_side(left: &Canvas, right: &Canvas) -> Result<Canvas, CanvasError> {
    let width_px = left.width_px() + right.width_px();
    let height_px = left.height_px().max(right.height_px());
    let mut both = Canvas::new(width_px, height_px, Colour::BLACK)?;
    both.blit(left, 0, 0);
    both.blit(right, i64::from(left.width_px()), 0);
    Ok(both)
}

/// The built-in typeface. Parsed once; without it pictures have no text, which a test rules out.
fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR).ok()).as_ref()
}

fn text_scale(size_px: f64) -> Option<PxScale> {
    size_px.is_finite().then(|| PxScale::from(size_px.clamp(1.0, MAX_TEXT_SIZE_PX) as f32))
}

fn is_drawable(at: [f64; 2]) -> bool {
    // false for NaN as well
    at.iter().all(|value| value.abs() <= MAX_COORDINATE_PX)
}

fn box_corners(corner: [f64; 2], opposite: [f64; 2]) -> [[f64; 2]; 4] {
    [corner, [opposite[0], corner[1]], opposite, [corner[0], opposite[1]]]
}

/// Whole numbers from `low` to `high`, both included, within `0..size`.
fn pixels(low: f64, high: f64, size: usize) -> Range<usize> {
    // a cast from float saturates, so negative bounds become 0
    let start = (low.ceil() as usize).min(size);
    let end = ((high.floor() + 1.0) as usize).min(size);
    start..end.max(start)
}

/// The part of a segment within a canvas that is `margin` larger on each side (Liang and Barsky's clipping).
fn clip(from: [f64; 2], to: [f64; 2], size: [usize; 2], margin: f64) -> Option<([f64; 2], [f64; 2])> {
    let (mut enter, mut leave) = (0.0f64, 1.0f64);
    for ((start, end), side) in from.into_iter().zip(to).zip(size) {
        let (low, high) = (-margin, side as f64 - 1.0 + margin);
        let run = end - start;
        if run == 0.0 {
            if start < low || start > high {
                return None;
            }
            continue;
        }
        let (one, other) = ((low - start) / run, (high - start) / run);
        enter = enter.max(one.min(other));
        leave = leave.min(one.max(other));
    }
    let at = |share: f64| [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
    (enter <= leave).then(|| (at(enter), at(leave)))
}

fn distance_to_segment(at: [f64; 2], from: [f64; 2], along: [f64; 2]) -> f64 {
    let apart = [at[0] - from[0], at[1] - from[1]];
    let squared = along[0] * along[0] + along[1] * along[1];
    let dot = apart[0] * along[0] + apart[1] * along[1];
    let share = if squared > 0.0 { (dot / squared).clamp(0.0, 1.0) } else { 0.0 };
    let rest = [apart[0] - share * along[0], apart[1] - share * along[1]];
    (rest[0] * rest[0] + rest[1] * rest[1]).sqrt()
}

/// Where a horizontal line crosses a polygon's edges, left to right; always an even number.
fn find_crossings(corners: &[[f64; 2]], line_y: f64, crossings: &mut Vec<f64>) {
    crossings.clear();
    let next = corners.iter().cycle().skip(1);
    for (from, to) in corners.iter().zip(next) {
        if (from[1] <= line_y) != (to[1] <= line_y) {
            crossings.push(from[0] + (line_y - from[1]) / (to[1] - from[1]) * (to[0] - from[0]));
        }
    }
    crossings.sort_by(f64::total_cmp);
}

/// Adds how much of each pixel lies between two x; the first share belongs to the pixel at `first`.
fn add_span(shares: &mut [f64], first: f64, from: f64, to: f64) {
    for index in pixels(from - first - 0.5, to - first + 0.5, shares.len()) {
        let x = first + index as f64;
        shares[index] += (to.min(x + 0.5) - from.max(x - 0.5)).max(0.0);
    }
}

/// Where a run of pixels laid at `at` meets the target: first source pixel, first target pixel, how many.
fn overlap(at: i64, source: usize, target: usize) -> (usize, usize, usize) {
    let skip = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
    let (from, to) = if at < 0 { (skip.min(source), 0) } else { (0, skip.min(target)) };
    (from, to, (source - from).min(target - to))
}

/// Old pixels below a new one, at least one.
fn cell(index: usize, old: usize, new: usize) -> Range<usize> {
    let start = index * old / new;
    let end = ((index + 1) * old).div_ceil(new);
    start..end.max(start + 1)
}

/// The two old pixels around a new one's centre and the share of the second in 256ths.
fn neighbours(index: usize, old: usize, new: usize) -> (usize, usize, u32) {
    // the centre of new pixel i lies at (i + 1/2) old / new - 1/2, here in 512ths
    let centre = ((2 * index + 1) * old * 256 / new).saturating_sub(256);
    let first = (centre / 512).min(old - 1);
    let share = (centre % 512 / 2) as u32;
    (first, (first + 1).min(old - 1), share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const RED: Colour = Colour::rgb(255, 0, 0);

    fn black(width_px: u32, height_px: u32) -> Canvas {
        Canvas::new(width_px, height_px, Colour::BLACK).unwrap()
    }

    fn lit(canvas: &Canvas) -> usize {
        canvas.rgb().chunks_exact(3).filter(|pixel| *pixel != [0, 0, 0]).count()
    }

    #[test]
    fn sizes_and_lengths_are_checked() {
        assert!(matches!(Canvas::new(0, 5, RED), Err(CanvasError::Size { width_px: 0, height_px: 5 })));
        assert!(Canvas::new(1, MAX_SIDE_PX + 1, RED).is_err());
        assert!(matches!(Canvas::from_rgb(2, 2, &[0; 11]), Err(CanvasError::Length { expected: 12, found: 11, .. })));
        assert_eq!(Canvas::from_rgb(1, 1, &[1, 2, 3]).unwrap().pixel(0, 0), Some([1, 2, 3]));
    }

    #[test]
    fn a_horizontal_line_covers_its_row() {
        let mut canvas = black(8, 5);
        canvas.line([-100.0, 2.0], [100.0, 2.0], 1.0, RED);
        assert_eq!(lit(&canvas), 8);
        assert!((0..8).all(|x| canvas.pixel(x, 2) == Some([255, 0, 0])));
    }

    #[test]
    fn nonsense_coordinates_draw_nothing() {
        let mut canvas = black(8, 8);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e300] {
            canvas.line([bad, 1.0], [4.0, 4.0], 1.0, RED);
            canvas.line([1.0, 1.0], [4.0, bad], 1.0, RED);
            canvas.fill_polygon(&[[0.0, 0.0], [bad, 3.0], [3.0, 3.0]], RED);
            canvas.rectangle([bad, bad], [bad, bad], 2.0, RED);
            canvas.text([bad, 0.0], 12.0, "text", RED);
            canvas.label([0.0, bad], 12.0, "text", RED, RED);
        }
        canvas.line([1.0, 1.0], [4.0, 4.0], f64::NAN, RED);
        canvas.text([0.0, 0.0], f64::NAN, "text", RED);
        canvas.fill_polygon(&[[0.0, 0.0], [5.0, 5.0]], RED);
        assert_eq!(lit(&canvas), 0);
    }

    #[test]
    fn far_shapes_are_clipped() {
        let mut canvas = black(16, 16);
        canvas.line([-1e9, -1e9], [1e9, 1e9], 1.0, RED);
        assert!((0..16).all(|at| canvas.pixel(at, at) == Some([255, 0, 0])));
        let mut filled = black(16, 16);
        filled.fill_rectangle([-1e9, -1e9], [1e9, 1e9], RED);
        assert_eq!(lit(&filled), 256);
        let mut away = black(16, 16);
        away.line([100.0, 0.0], [100.0, 15.0], 3.0, RED);
        away.fill_rectangle([-50.0, -50.0], [-20.0, 80.0], RED);
        away.text([1e8, 3.0], 12.0, "out of sight", RED);
        away.text([-1e8, 3.0], 12.0, "out of sight", RED);
        assert_eq!(lit(&away), 0);
    }

    #[test]
    fn a_filled_box_covers_what_it_should() {
        let mut canvas = black(10, 10);
        // pixels 2, 3, 4 fully and half of 5 in x; pixels 3 and 4 in y
        canvas.fill_rectangle([1.5, 2.5], [5.0, 4.5], Colour::WHITE);
        assert_eq!(lit(&canvas), 8);
        assert_eq!(canvas.pixel(2, 3), Some([255; 3]));
        assert_eq!(canvas.pixel(5, 4), Some([128; 3]));
        assert_eq!(canvas.pixel(2, 5), Some([0; 3]));
    }

    #[test]
    fn opacity_mixes() {
        let mut canvas = black(1, 1);
        canvas.blend(0, 0, Colour::WHITE.with_alpha(51), 1.0);
        assert_eq!(canvas.pixel(0, 0), Some([51; 3]));
        canvas.blend(0, 0, Colour::WHITE, f64::NAN);
        canvas.blend(1, 0, Colour::WHITE, 1.0);
        assert_eq!(canvas.pixel(0, 0), Some([51; 3]));
    }

    #[test]
    fn text_has_ink_and_width() {
        let mut canvas = black(80, 20);
        canvas.text([2.0, 2.0], 14.0, "car 12", Colour::WHITE);
        assert!(lit(&canvas) > 60, "{} pixels", lit(&canvas));
        let one = text_width_px(14.0, "c");
        assert!(one > 5.0 && (text_width_px(14.0, "car 12") - 6.0 * one).abs() < 1e-3);
        assert_eq!(text_width_px(f64::NAN, "c"), 0.0);
    }

    #[test]
    fn a_label_stays_on_the_canvas() {
        let mut canvas = black(60, 30);
        canvas.label([1000.0, 1000.0], 12.0, "ab", Colour::WHITE, RED);
        assert_eq!(canvas.pixel(58, 28), Some([255, 0, 0]));
        assert_eq!(canvas.pixel(0, 0), Some([0, 0, 0]));
    }

    #[test]
    fn blit_clips_on_every_side() {
        let stamp = Canvas::new(4, 4, RED).unwrap();
        for (x, y, expected) in [(-2, -2, 4), (6, 6, 4), (1, 1, 16), (-4, 0, 0), (8, 0, 0), (i64::MIN, i64::MAX, 0)] {
            let mut canvas = black(8, 8);
            canvas.blit(&stamp, x, y);
            assert_eq!(lit(&canvas), expected, "at {x}, {y}");
        }
        let mut small = black(2, 2);
        small.blit(&stamp, -1, -1);
        assert_eq!(lit(&small), 4);
    }

    #[test]
    fn resizing_keeps_flat_colour_and_means() {
        let flat = Canvas::new(7, 5, Colour::rgb(10, 200, 30)).unwrap();
        for (width, height) in [(3, 2), (7, 5), (20, 11), (1, 40)] {
            let resized = flat.resize(width, height).unwrap();
            assert!(resized.rgb().chunks_exact(3).all(|pixel| pixel == [10, 200, 30]));
        }
        let mut pair = black(2, 1);
        pair.blend(1, 0, Colour::WHITE, 1.0);
        assert_eq!(pair.resize(1, 1).unwrap().pixel(0, 0), Some([128; 3]));
        let wide = pair.resize(4, 1).unwrap();
        let greys: Vec<u8> = wide.rgb().iter().step_by(3).copied().collect();
        assert_eq!(greys, [0, 64, 191, 255]);
        assert!(pair.resize(0, 1).is_err());
    }

    #[test]
    fn both_pictures_stand_side_by_side() {
        let both = side_by_side(&Canvas::new(3, 4, RED).unwrap(), &Canvas::new(2, 6, Colour::WHITE).unwrap()).unwrap();
        assert_eq!((both.width_px(), both.height_px()), (5, 6));
        assert_eq!(both.pixel(2, 3), Some([255, 0, 0]));
        assert_eq!(both.pixel(3, 5), Some([255; 3]));
        assert_eq!(both.pixel(0, 5), Some([0; 3]));
    }

    #[test]
    fn files_carry_their_format() {
        let canvas = Canvas::new(9, 7, RED).unwrap();
        let jpeg = canvas.to_jpeg(0).unwrap();
        assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("red.png");
        canvas.save_png(&path).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(std::fs::read(&path).unwrap())).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height), (9, 7));
        assert_eq!(rgb, canvas.rgb());
        let nowhere = folder.path().join("no/such/folder/red.png");
        assert!(matches!(canvas.save_png(&nowhere), Err(CanvasError::Write { .. })));
    }

    #[test]
    fn a_drawn_canvas_has_its_golden_digest() {
        let mut canvas = Canvas::new(48, 32, Colour::rgb(20, 30, 40)).unwrap();
        canvas.fill_polygon(&[[4.0, 3.0], [40.5, 8.25], [22.0, 29.0]], Colour::rgb(0, 158, 115).with_alpha(140));
        canvas.line([-5.0, 30.0], [50.0, 2.5], 3.0, Colour::rgb(213, 94, 0));
        canvas.line([10.0, -4.0], [14.0, 40.0], 1.0, Colour::WHITE.with_alpha(200));
        canvas.rectangle([6.0, 6.0], [36.0, 26.0], 2.0, Colour::rgb(86, 180, 233));
        let digest = Sha256::digest(canvas.rgb());
        assert_eq!(format!("{digest:x}"), "51b1f9379c59c1ad4126f88fff3e8c8527e56dde3ae9204971e3d3e87e09629a");
    }
}
