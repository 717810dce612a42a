//! Taking each pixel of a network's input from any place of the picture, for example to undo a lens's distortion.
//!
//! A map is built once per camera from its model (or any function) and used for every picture. Places are whole numbers
//! of 1/32 pixel and mixing is bilinear with 5-bit fractions, `(sum + 512) >> 10`, as in OpenCV's `remap`; what lies
//! outside the picture counts as the layout's border. There is no smoothing: a map that shrinks a picture more than
//! about twice leaves pixels out.

use catseye_calibration::camera::{CameraModel, Projection};
use catseye_sensors::picture::Frame;
use nalgebra::Vector3;

use super::color::{self, Texels};
use super::{ChannelOrder, Layout, PreprocessError};

/// Bits of the fraction of a place.
const FRACTION_BITS: i32 = 5;
/// One pixel in units of a place.
const ONE: i32 = 1 << FRACTION_BITS;

/// For each pixel of a network's input the place in the picture, in 1/32 pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Remap {
    network: [usize; 2],
    picture: [u32; 2],
    places: Vec<Option<[i32; 2]>>,
}

impl Remap {
    /// A map from any function from the column and row of a network pixel to the place (x, y) in a picture of the given
    /// size, with the centre of each top-left pixel at (0, 0); `None` gives border.
    ///
    /// # Errors
    /// [`PreprocessError::NetworkSize`], [`PreprocessError::NotFinite`], [`PreprocessError::PictureSize`].
    pub fn from_fn(
        layout: &Layout,
        picture_width_px: u32,
        picture_height_px: u32,
        mut place: impl FnMut(usize, usize) -> Option<[f64; 2]>,
    ) -> Result<Remap, PreprocessError> {
        layout.check()?;
        super::check_picture(picture_width_px, picture_height_px)?;
        let picture = [picture_width_px, picture_height_px];
        let mut places = Vec::with_capacity(layout.width * layout.height);
        for row in 0..layout.height {
            for column in 0..layout.width {
                places.push(place(column, row).and_then(|place| fixed(place, picture)));
            }
        }
        Ok(Remap { network: [layout.width, layout.height], picture, places })
    }

    /// A map that shows the picture as a camera without distortion would have taken it, with the focal length and
    /// principal point of `camera` and the picture's own size, fitted into the network's input as the layout says.
    /// The letterbox then leads to pixels of that undistorted picture.
    ///
    /// # Errors
    /// As [`Remap::from_fn`].
    pub fn undistorting(
        layout: &Layout,
        picture_width_px: u32,
        picture_height_px: u32,
        camera: &CameraModel,
    ) -> Result<Remap, PreprocessError> {
        let placement = layout.place(picture_width_px, picture_height_px)?;
        let [focal_x, focal_y] = camera.focal_px();
        let [centre_x, centre_y] = camera.principal_point_px();
        let columns = placement.left..placement.left + placement.width;
        let rows = placement.top..placement.top + placement.height;
        let step_x = f64::from(picture_width_px) / placement.width as f64;
        let step_y = f64::from(picture_height_px) / placement.height as f64;
        Remap::from_fn(layout, picture_width_px, picture_height_px, |column, row| {
            if !columns.contains(&column) || !rows.contains(&row) {
                return None;
            }
            let x = ((column - placement.left) as f64 + 0.5) * step_x - 0.5;
            let y = ((row - placement.top) as f64 + 0.5) * step_y - 0.5;
            let ray = Vector3::new((x - centre_x) / focal_x, (y - centre_y) / focal_y, 1.0);
            camera.project(&ray).map(|pixel| [pixel.x, pixel.y])
        })
    }

    /// Width and height of the network's input.
    pub fn network(&self) -> [usize; 2] {
        self.network
    }

    /// Width and height of the pictures.
    pub fn picture(&self) -> [u32; 2] {
        self.picture
    }

    /// The place of every pixel of the network's input in 1/32 pixel, row by row; none gives border.
    #[cfg(feature = "cuda")]
    pub(crate) fn places(&self) -> &[Option<[i32; 2]>] {
        &self.places
    }

    /// Writes the mapped picture into the planes. The caller has checked the sizes of frame, layout and planes.
    pub(super) fn run(&self, frame: &Frame, layout: &Layout, scratch: &mut Vec<u8>, planes: &mut [f32]) {
        let texels = color::texels(frame, scratch);
        let pad = layout.pad();
        let [red, green, blue] = texels.channels;
        let channels = if layout.order == ChannelOrder::Rgb { [red, green, blue] } else { [blue, green, red] };
        let area = layout.width * layout.height;
        let (first, rest) = planes.split_at_mut(area);
        let (second, third) = rest.split_at_mut(area);
        for (((place, first), second), third) in self.places.iter().zip(first).zip(second).zip(third) {
            let bytes = match *place {
                Some(place) => Corners::at(place, self.picture, &texels).mix(&texels, channels, pad),
                None => [pad; 3],
            };
            let [a, b, c] = bytes.map(f32::from);
            *first = a * layout.scale[0] + layout.bias[0];
            *second = b * layout.scale[1] + layout.bias[1];
            *third = c * layout.scale[2] + layout.bias[2];
        }
    }
}

/// A place in 1/32 pixel; none where not even a corner of a pixel of the picture is touched.
fn fixed(place: [f64; 2], [width, height]: [u32; 2]) -> Option<[i32; 2]> {
    let [x, y] = place;
    let touches = |value: f64, length: u32| value > -1.0 && value < f64::from(length);
    if !touches(x, width) || !touches(y, height) {
        return None;
    }
    Some([x, y].map(|value| (value * f64::from(ONE)).round_ties_even() as i32))
}

/// The four pixels around a place, where they lie in the picture, with weights that add up to 1024.
struct Corners {
    starts: [Option<usize>; 4],
    weights: [i32; 4],
}

impl Corners {
    fn at([x, y]: [i32; 2], [width, height]: [u32; 2], texels: &Texels<'_>) -> Corners {
        let (left, top) = (x >> FRACTION_BITS, y >> FRACTION_BITS);
        let (to_right, to_bottom) = (x & (ONE - 1), y & (ONE - 1));
        let (to_left, to_top) = (ONE - to_right, ONE - to_bottom);
        let start = |x: i32, y: i32| {
            let x = u32::try_from(x).ok().filter(|&x| x < width)?;
            let y = u32::try_from(y).ok().filter(|&y| y < height)?;
            Some(y as usize * texels.row_step + x as usize * texels.pixel_step)
        };
        Corners {
            starts: [start(left, top), start(left + 1, top), start(left, top + 1), start(left + 1, top + 1)],
            weights: [to_left * to_top, to_right * to_top, to_left * to_bottom, to_right * to_bottom],
        }
    }

    fn mix(&self, texels: &Texels<'_>, channels: [usize; 3], pad: u8) -> [u8; 3] {
        channels.map(|channel| {
            let mut sum = 512;
            for (start, weight) in self.starts.iter().zip(self.weights) {
                let byte = start.and_then(|start| texels.bytes.get(start + channel)).copied().unwrap_or(pad);
                sum += i32::from(byte) * weight;
            }
            (sum >> 10) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::preprocess::tests::{noise, plain, run};
    use crate::stages::preprocess::{Fit, Preprocessor};
    use catseye_calibration::camera::BrownConrady;
    use catseye_sensors::picture::PixelFormat;

    fn remapped(layout: Layout, frame: &Frame, place: impl FnMut(usize, usize) -> Option<[f64; 2]>) -> Vec<f32> {
        let remap = Remap::from_fn(&layout, frame.width_px(), frame.height_px(), place).unwrap();
        let mut planes = vec![f32::NAN; layout.values()];
        Preprocessor::with_remap(layout, remap).unwrap().run(frame, &mut planes).unwrap();
        planes
    }

    fn lens(k1: f64) -> CameraModel {
        CameraModel::BrownConrady(BrownConrady {
            fx: 20.0,
            fy: 21.0,
            cx: 11.5,
            cy: 8.0,
            k1,
            k2: 0.0,
            p1: 0.0,
            p2: 0.0,
            k3: 0.0,
        })
    }

    #[test]
    fn the_identity_is_a_plain_copy_in_every_format_and_order() {
        for format in PixelFormat::ALL {
            for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
                let frame = noise(9, 7, format, false);
                let layout = Layout { order, ..plain(9, 7) };
                let planes = remapped(layout, &frame, |x, y| Some([x as f64, y as f64]));
                assert_eq!(planes, run(layout, &frame).0, "{format:?} {order:?}");
            }
        }
    }

    #[test]
    fn fractions_mix_neighbours_and_the_border() {
        let frame = Frame::new(2, 2, PixelFormat::Mono8, true, vec![0, 100, 200, 40]).unwrap();
        let layout = Layout { mode: Fit::Letterbox { pad: 80, centred: true }, ..plain(4, 1) };
        let places = [Some([0.5, 0.5]), Some([-0.5, 0.0]), Some([1.25, 1.0]), None];
        let planes = remapped(layout, &frame, |x, _| places[x]);
        assert_eq!(planes[..4], [85.0, 40.0, 50.0, 80.0]);
    }

    #[test]
    fn places_outside_or_without_number_show_the_border() {
        let frame = noise(4, 4, PixelFormat::Rgb8, true);
        let layout = Layout { mode: Fit::Letterbox { pad: 9, centred: false }, ..plain(5, 1) };
        let places = [[-1.0, 0.0], [4.0, 0.0], [f64::NAN, 0.0], [0.0, f64::INFINITY], [1e300, -1e300]];
        let planes = remapped(layout, &frame, |x, _| Some(places[x]));
        assert!(planes.iter().all(|&value| value == 9.0), "{planes:?}");
    }

    #[test]
    fn a_lens_without_distortion_changes_nothing() {
        let frame = noise(24, 17, PixelFormat::Bgr8, true);
        let layout = plain(24, 17);
        let remap = Remap::undistorting(&layout, 24, 17, &lens(0.0)).unwrap();
        let mut planes = vec![0.0; layout.values()];
        Preprocessor::with_remap(layout, remap).unwrap().run(&frame, &mut planes).unwrap();
        assert_eq!(planes, run(layout, &frame).0);
    }

    #[test]
    fn barrel_distortion_is_looked_up_nearer_to_the_middle() {
        let remap = Remap::undistorting(&plain(24, 17), 24, 17, &lens(-0.2)).unwrap();
        let corner = remap.places[0].unwrap();
        assert!(corner[0] > ONE / 2 && corner[1] > 0, "{corner:?}");
        let (u, v) = (-11.5 / 20.0, -8.0 / 21.0);
        let radial = 1.0 - 0.2 * (u * u + v * v);
        let expected = [(20.0 * u * radial + 11.5) * 32.0, (21.0 * v * radial + 8.0) * 32.0];
        assert!((f64::from(corner[0]) - expected[0]).abs() <= 0.5, "{corner:?} {expected:?}");
        assert!((f64::from(corner[1]) - expected[1]).abs() <= 0.5, "{corner:?} {expected:?}");
    }

    #[test]
    fn a_map_for_something_else_is_refused() {
        let remap = Remap::from_fn(&plain(4, 4), 8, 8, |_, _| None).unwrap();
        assert!(matches!(
            Preprocessor::with_remap(plain(5, 4), remap.clone()),
            Err(PreprocessError::MapNetwork { expected: [5, 4], found: [4, 4] })
        ));
        let mut preprocessor = Preprocessor::with_remap(plain(4, 4), remap).unwrap();
        let error = preprocessor.run(&noise(8, 9, PixelFormat::Rgb8, true), &mut [0.0; 48]).unwrap_err();
        assert_eq!(error, PreprocessError::MapPicture { expected: [8, 8], found: [8, 9] });
    }
}
