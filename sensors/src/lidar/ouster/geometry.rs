//! Ranges into points in the sensor's frame (x towards the front, z up), as Ouster's SDK computes them: the beam leaves
//! from a circle around the lidar's origin, and the range includes the way from the origin to the circle.

use super::frame::OusterFrame;
use super::metadata::OusterMetadata;
use crate::cloud::Point;
use std::f64::consts::PI;

const M_PER_MM: f64 = 1e-3;

/// Where the beams of one sensor point.
#[derive(Clone, Debug)]
pub struct OusterGeometry {
    /// Cosine and sine of the encoder's angle, by measurement.
    columns: Vec<[f64; 2]>,
    beams: Vec<Beam>,
    /// Where the beams begin: along the encoder's angle, up, and how far from the origin.
    origin_x_mm: f64,
    origin_z_mm: f64,
    origin_distance_mm: f64,
    lidar_to_sensor_mm: [f64; 16],
}

/// Direction of a beam from the encoder's angle.
#[derive(Clone, Copy, Debug)]
struct Beam {
    azimuth_cos: f64,
    azimuth_sin: f64,
    altitude_cos: f64,
    altitude_sin: f64,
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

impl OusterGeometry {
    /// Of one sensor.
    pub fn new(metadata: &OusterMetadata) -> Self {
        let step_rad = 2.0 * PI / metadata.columns as f64;
        let columns = (0..metadata.columns).map(|column| {
            let encoder_rad = 2.0 * PI - column as f64 * step_rad;
            [libm::cos(encoder_rad), libm::sin(encoder_rad)]
        });
        let angles_deg = metadata.beam_azimuth_deg.iter().zip(&metadata.beam_altitude_deg);
        let [_, _, _, origin_x_mm, _, _, _, _, _, _, _, origin_z_mm, ..] = metadata.beam_to_lidar_mm;
        Self {
            columns: columns.collect(),
            beams: angles_deg.map(|(azimuth_deg, altitude_deg)| Beam::new(*azimuth_deg, *altitude_deg)).collect(),
            origin_x_mm,
            origin_z_mm,
            origin_distance_mm: if origin_z_mm == 0.0 { origin_x_mm } else { libm::hypot(origin_x_mm, origin_z_mm) },
            lidar_to_sensor_mm: metadata.lidar_to_sensor_mm,
        }
    }

    /// Where something at that range lies, `None` for a beam or measurement that the sensor does not have.
    pub fn position_m(&self, row: usize, column: usize, range_mm: u32) -> Option<[f64; 3]> {
        Some(self.locate(self.beams.get(row)?, self.columns.get(column)?, range_mm))
    }

    fn locate(&self, beam: &Beam, [encoder_cos, encoder_sin]: &[f64; 2], range_mm: u32) -> [f64; 3] {
        // The beam's azimuth counts from the encoder's angle.
        let cos = encoder_cos * beam.azimuth_cos - encoder_sin * beam.azimuth_sin;
        let sin = encoder_sin * beam.azimuth_cos + encoder_cos * beam.azimuth_sin;
        let along_mm = f64::from(range_mm) - self.origin_distance_mm;
        let x_mm = along_mm * beam.altitude_cos * cos + self.origin_x_mm * encoder_cos;
        let y_mm = along_mm * beam.altitude_cos * sin + self.origin_x_mm * encoder_sin;
        let z_mm = along_mm * beam.altitude_sin + self.origin_z_mm;
        let [a, b, c, x, d, e, f, y, g, h, i, z, ..] = self.lidar_to_sensor_mm;
        [
            (a * x_mm + b * y_mm + c * z_mm + x) * M_PER_MM,
            (d * x_mm + e * y_mm + f * z_mm + y) * M_PER_MM,
            (g * x_mm + h * y_mm + i * z_mm + z) * M_PER_MM,
        ]
    }

    /// The points of all returns of a frame, in the order in which they were measured. `points` is emptied first.
    ///
    /// A point's intensity is its reflectivity (0 to 255), its ring the row from the top, its return number 1, or 2 for
    /// the second strongest, and its offset counts from the frame's stamp.
    pub fn points(&self, frame: &OusterFrame, points: &mut Vec<Point>) -> OusterPointCounts {
        points.clear();
        let mut counts = OusterPointCounts::default();
        let width = frame.columns.len();
        for (at, (column, encoder)) in frame.columns.iter().zip(&self.columns).enumerate() {
            if !column.is_valid() {
                continue;
            }
            let offset_ns = i32::try_from(column.stamp_ns.saturating_sub(frame.stamp_ns));
            let before = points.len();
            for (images, return_number) in frame.returns.iter().zip(1..) {
                let ranges_mm = images.range_mm.iter().skip(at).step_by(width);
                let reflectivities = images.reflectivity.iter().skip(at).step_by(width);
                for (((&range_mm, &reflectivity), beam), ring) in
                    ranges_mm.zip(reflectivities).zip(&self.beams).zip(0..)
                {
                    if range_mm == 0 {
                        counts.without_return += 1;
                        continue;
                    }
                    let [x_m, y_m, z_m] = self.locate(beam, encoder, range_mm).map(|metres| metres as f32);
                    let intensity = f32::from(reflectivity);
                    let offset_ns = offset_ns.unwrap_or(0);
                    points.push(Point { x_m, y_m, z_m, intensity, offset_ns, ring, return_number });
                }
            }
            if offset_ns.is_err() {
                counts.unusable_offsets += points.len() - before;
            }
        }
        counts.points = points.len();
        counts
    }
}

impl Beam {
    fn new(azimuth_deg: f64, altitude_deg: f64) -> Self {
        // Encoder and azimuth count clockwise, seen from above.
        let (azimuth_rad, altitude_rad) = (-azimuth_deg * PI / 180.0, altitude_deg * PI / 180.0);
        Self {
            azimuth_cos: libm::cos(azimuth_rad),
            azimuth_sin: libm::sin(azimuth_rad),
            altitude_cos: libm::cos(altitude_rad),
            altitude_sin: libm::sin(altitude_rad),
        }
    }
}
