//! Ranges into points in the sensor's frame (x towards the front, z up), as Ouster's SDK computes them: the beam leaves
//! from a circle around the lidar's origin, and the range includes the way from the origin to the circle.

use super::frame::{OusterFrame, OusterReturn};
use super::metadata::{MAX_ROWS, OusterMetadata};
use crate::cloud::Point;
use std::f64::consts::PI;

const M_PER_MM: f64 = 1e-3;
const TILE_COLUMNS: usize = 16;

/// Where the beams of one sensor point.
#[derive(Clone, Debug)]
pub struct OusterGeometry {
    /// Cosine and sine of the encoder's angle, by measurement.
    columns: Vec<[f64; 2]>,
    beams: Beams,
    /// Where the beams begin: along the encoder's angle, up, and how far from the origin.
    origin_x_mm: f64,
    origin_z_mm: f64,
    origin_distance_mm: f64,
    sensor_from_lidar: Transform,
}

/// Directions of the beams from the encoder's angle, side by side, so that the processor takes several at a time.
#[derive(Clone, Debug)]
struct Beams {
    count: usize,
    azimuth_cos: [f64; MAX_ROWS],
    azimuth_sin: [f64; MAX_ROWS],
    altitude_cos: [f64; MAX_ROWS],
    altitude_sin: [f64; MAX_ROWS],
}

/// How many points a frame gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OusterPointCounts {
    /// Points that were made.
    pub points: usize,
    /// Pixels of valid columns in which nothing was measured.
    pub without_return: usize,
    /// Points that were made, but whose time from the frame's stamp does not fit 32 bits of nanoseconds (2.1 s), so
    /// that their offset is 0.
    pub unusable_offsets: usize,
}

/// Where the lidar sits in the sensor, in millimetres.
#[derive(Clone, Copy, Debug)]
enum Transform {
    /// The axes stay, or point the other way, as in every sensor so far: a factor and a shift for each.
    Axes { factors: [f64; 3], shifts_mm: [f64; 3] },
    /// Any other matrix, row by row.
    Matrix([f64; 16]),
}

impl Transform {
    fn new(matrix: [f64; 16]) -> Self {
        let [a, b, c, x, d, e, f, y, g, h, i, z, ..] = matrix;
        let off_axis = [b, c, d, f, g, h];
        let shifts_mm = [x, y, z];
        // A shift by -0 would keep the sign of a zero, which the matrix may not.
        if off_axis == [0.0; 6] && shifts_mm.iter().all(|shift| shift.to_bits() != (-0.0_f64).to_bits()) {
            return Self::Axes { factors: [a, e, i], shifts_mm };
        }
        Self::Matrix(matrix)
    }

    fn apply(&self, [x_mm, y_mm, z_mm]: [f64; 3]) -> [f64; 3] {
        match *self {
            Self::Axes { factors: [a, e, i], shifts_mm: [x, y, z] } => [a * x_mm + x, e * y_mm + y, i * z_mm + z],
            Self::Matrix([a, b, c, x, d, e, f, y, g, h, i, z, ..]) => [
                a * x_mm + b * y_mm + c * z_mm + x,
                d * x_mm + e * y_mm + f * z_mm + y,
                g * x_mm + h * y_mm + i * z_mm + z,
            ],
        }
    }
}

impl OusterGeometry {
    /// Of one sensor.
    pub fn new(metadata: &OusterMetadata) -> Self {
        let step_rad = 2.0 * PI / metadata.columns as f64;
        let columns = (0..metadata.columns).map(|column| {
            let encoder_rad = 2.0 * PI - column as f64 * step_rad;
            [libm::cos(encoder_rad), libm::sin(encoder_rad)]
        });
        let [_, _, _, origin_x_mm, _, _, _, _, _, _, _, origin_z_mm, ..] = metadata.beam_to_lidar_mm;
        Self {
            columns: columns.collect(),
            beams: Beams::new(&metadata.beam_azimuth_deg, &metadata.beam_altitude_deg),
            origin_x_mm,
            origin_z_mm,
            origin_distance_mm: if origin_z_mm == 0.0 { origin_x_mm } else { libm::hypot(origin_x_mm, origin_z_mm) },
            sensor_from_lidar: Transform::new(metadata.lidar_to_sensor_mm),
        }
    }

    /// Where something at that range lies, `None` for a beam or measurement that the sensor does not have.
    pub fn position_m(&self, row: usize, column: usize, range_mm: u32) -> Option<[f64; 3]> {
        let encoder = self.columns.get(column)?;
        (row < self.beams.count).then(|| self.locate(row % MAX_ROWS, encoder, range_mm))
    }

    /// `row` is less than [`MAX_ROWS`].
    #[inline(always)]
    fn locate(&self, row: usize, [encoder_cos, encoder_sin]: &[f64; 2], range_mm: u32) -> [f64; 3] {
        let Beams { azimuth_cos, azimuth_sin, altitude_cos, altitude_sin, .. } = &self.beams;
        // The beam's azimuth counts from the encoder's angle.
        let cos = encoder_cos * azimuth_cos[row] - encoder_sin * azimuth_sin[row];
        let sin = encoder_sin * azimuth_cos[row] + encoder_cos * azimuth_sin[row];
        let along_mm = f64::from(range_mm) - self.origin_distance_mm;
        let x_mm = along_mm * altitude_cos[row] * cos + self.origin_x_mm * encoder_cos;
        let y_mm = along_mm * altitude_cos[row] * sin + self.origin_x_mm * encoder_sin;
        let z_mm = along_mm * altitude_sin[row] + self.origin_z_mm;
        self.sensor_from_lidar.apply([x_mm, y_mm, z_mm]).map(|mm| mm * M_PER_MM)
    }

    /// The points of all returns of a frame, in the order in which they were measured. `points` is emptied first.
    ///
    /// A point's intensity is its reflectivity (0 to 255), its ring the row from the top, its return number 1, or 2 for
    /// the second strongest, and its offset counts from the frame's stamp.
    pub fn points(&self, frame: &OusterFrame, points: &mut Vec<Point>) -> OusterPointCounts {
        let mut counts = OusterPointCounts::default();
        let width = frame.columns.len();
        let valid = frame.columns.iter().filter(|column| column.is_valid()).count();
        let rows: usize = frame.returns.iter().map(|images| images.range_mm.len() / width.max(1)).sum();
        // room for all; what is in it is written over, or cut off in the end
        points.resize(valid * rows, Point::default());
        let mut tiles = [Tile::default(), Tile::default()];
        let mut places_m = [[0.0; MAX_ROWS]; 3];
        let columns = frame.columns.chunks(TILE_COLUMNS).zip(self.columns.chunks(TILE_COLUMNS));
        for (first, (columns, encoders)) in (0..).step_by(TILE_COLUMNS).zip(columns) {
            for (tile, images) in tiles.iter_mut().zip(&frame.returns) {
                tile.take(images, first, width, self.beams.count);
            }
            for (at, (column, encoder)) in
                columns.iter().zip(encoders).enumerate().filter(|(_, (column, _))| column.is_valid())
            {
                let offset_ns = i32::try_from(column.stamp_ns.saturating_sub(frame.stamp_ns));
                let offset = offset_ns.unwrap_or(0);
                let before = counts.points;
                for (tile, return_number) in tiles.iter().zip(1..) {
                    let (ranges_mm, reflectivities) = (&tile.range_mm[at], &tile.reflectivity[at]);
                    self.locate_all(ranges_mm, encoder, tile.rows, &mut places_m);
                    let places = points.get_mut(counts.points..).unwrap_or_default();
                    let mut found = 0;
                    for row in 0..tile.rows {
                        let [x_m, y_m, z_m] = places_m.each_ref().map(|axis| axis[row]);
                        let intensity = f32::from(reflectivities[row]);
                        let ring = row as u16;
                        // Where nothing was measured the next one is written over it: which those are cannot be
                        // guessed, and a processor that guesses wrong loses more.
                        if let Some(place) = places.get_mut(found) {
                            *place = Point { x_m, y_m, z_m, intensity, offset_ns: offset, ring, return_number };
                        }
                        found += usize::from(ranges_mm[row] != 0);
                    }
                    counts.points += found;
                    counts.without_return += tile.rows - found;
                }
                if offset_ns.is_err() {
                    counts.unusable_offsets += counts.points - before;
                }
            }
        }
        points.truncate(counts.points);
        counts
    }

    /// Where the echoes of all beams lie in one column, whether something was measured or not.
    fn locate_all(
        &self,
        ranges_mm: &[u32; MAX_ROWS],
        encoder: &[f64; 2],
        rows: usize,
        places_m: &mut [[f32; MAX_ROWS]; 3],
    ) {
        let [x_m, y_m, z_m] = places_m;
        for row in 0..rows.min(MAX_ROWS) {
            [x_m[row], y_m[row], z_m[row]] = self.locate(row, encoder, ranges_mm[row]).map(|metres| metres as f32);
        }
    }
}

/// Some columns of a return, each of them in one piece: the rows of an image lie powers of two apart, and the
/// processor's nearest cache holds few such lines.
struct Tile {
    /// At most [`MAX_ROWS`].
    rows: usize,
    range_mm: [[u32; MAX_ROWS]; TILE_COLUMNS],
    reflectivity: [[u8; MAX_ROWS]; TILE_COLUMNS],
}

impl Default for Tile {
    fn default() -> Self {
        Self { rows: 0, range_mm: [[0; MAX_ROWS]; TILE_COLUMNS], reflectivity: [[0; MAX_ROWS]; TILE_COLUMNS] }
    }
}

impl Tile {
    fn take(&mut self, images: &OusterReturn, first: usize, width: usize, beams: usize) {
        let pixels = images.range_mm.len().min(images.reflectivity.len());
        self.rows = (pixels / width.max(1)).min(beams);
        turn(&images.range_mm, first, width, &mut self.range_mm);
        turn(&images.reflectivity, first, width, &mut self.reflectivity);
    }
}

/// Copies the columns of an image from `first` on.
fn turn<T: Copy>(image: &[T], first: usize, width: usize, columns: &mut [[T; MAX_ROWS]; TILE_COLUMNS]) {
    for (row, line) in image.chunks_exact(width.max(1)).enumerate().take(MAX_ROWS) {
        let pixels = line.get(first..).unwrap_or_default();
        match pixels.first_chunk::<TILE_COLUMNS>() {
            // the same, but of known length
            Some(pixels) => columns.iter_mut().zip(pixels).for_each(|(column, pixel)| column[row] = *pixel),
            None => columns.iter_mut().zip(pixels).for_each(|(column, pixel)| column[row] = *pixel),
        }
    }
}

impl Beams {
    fn new(azimuths_deg: &[f64], altitudes_deg: &[f64]) -> Self {
        let count = azimuths_deg.len().min(altitudes_deg.len()).min(MAX_ROWS);
        let rad = |degrees: &[f64], row: usize| degrees.get(row).map_or(0.0, |degrees| degrees * PI / 180.0);
        let of = |value: &dyn Fn(usize) -> f64| std::array::from_fn(value);
        Self {
            count,
            // Encoder and azimuth count clockwise, seen from above.
            azimuth_cos: of(&|row| libm::cos(-rad(azimuths_deg, row))),
            azimuth_sin: of(&|row| libm::sin(-rad(azimuths_deg, row))),
            altitude_cos: of(&|row| libm::cos(rad(altitudes_deg, row))),
            altitude_sin: of(&|row| libm::sin(rad(altitudes_deg, row))),
        }
    }
}
