//! A constant-velocity Kalman filter on a box in a picture.
//!
//! The state is the box's centre, width and height with their velocities. Process and measurement noise are diagonal,
//! so the 8-state filter falls apart into four independent filters of two states each, which is exact and cheap. Noise
//! is in parts of the box's height, as in DeepSORT and ByteTrack: a near object moves and jitters by more pixels. The
//! process noise is that of a piecewise constant acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with
//! Applications to Tracking and Navigation", 6.3.2), so a step depends on the time that passed and not on the number
//! of pictures. Only + - * / in f64: the same bits on every machine.

use crate::messages::BoxPx;
use crate::record;

/// Smallest width and height that a filtered box is given.
const MIN_SIDE_PX: f64 = 1.0;

/// Noise of the filter, in parts of the box's height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxNoise {
    /// Standard deviation of the unknown acceleration, heights per second squared.
    pub acceleration_per_s2: f64,
    /// Standard deviation of a detected centre, width or height, heights.
    pub detection: f64,
    /// Standard deviation of the velocity of a box seen once, heights per second.
    pub first_velocity_per_s: f64,
}

record! {
    /// One coordinate of a box: position, velocity and their covariance.
    #[derive(Copy)]
    pub struct Coordinate {
        /// Position, pixels.
        pub position_px: f64,
        /// Velocity, pixels per second.
        pub velocity_pxps: f64,
        /// Variance of the position.
        pub position_variance: f64,
        /// Covariance of position and velocity.
        pub covariance: f64,
        /// Variance of the velocity.
        pub velocity_variance: f64,
    }

    /// The filtered box.
    #[derive(Copy)]
    pub struct BoxFilter {
        /// Centre, to the right.
        pub centre_x: Coordinate,
        /// Centre, down.
        pub centre_y: Coordinate,
        /// Width.
        pub width: Coordinate,
        /// Height.
        pub height: Coordinate,
    }
}

impl Coordinate {
    fn seen_once(position_px: f64, position_deviation: f64, velocity_deviation: f64) -> Self {
        Coordinate {
            position_px,
            velocity_pxps: 0.0,
            position_variance: position_deviation * position_deviation,
            covariance: 0.0,
            velocity_variance: velocity_deviation * velocity_deviation,
        }
    }

    fn predict(&mut self, step_s: f64, acceleration_deviation: f64) {
        let speed_gain = acceleration_deviation * step_s;
        let way_gain = speed_gain * step_s / 2.0;
        self.position_px += self.velocity_pxps * step_s;
        self.position_variance +=
            step_s * (2.0 * self.covariance + step_s * self.velocity_variance) + way_gain * way_gain;
        self.covariance += step_s * self.velocity_variance + way_gain * speed_gain;
        self.velocity_variance += speed_gain * speed_gain;
    }

    fn correct(&mut self, measured_px: f64, deviation: f64) {
        let innovation_variance = self.position_variance + deviation * deviation;
        if innovation_variance <= 0.0 {
            return;
        }
        let position_gain = self.position_variance / innovation_variance;
        let velocity_gain = self.covariance / innovation_variance;
        let innovation = measured_px - self.position_px;
        self.position_px += position_gain * innovation;
        self.velocity_pxps += velocity_gain * innovation;
        self.velocity_variance -= velocity_gain * self.covariance;
        self.covariance *= 1.0 - position_gain;
        self.position_variance *= 1.0 - position_gain;
    }
}

impl BoxFilter {
    /// A filter for a box that was seen for the first time, at rest.
    pub fn new(seen: &BoxPx, noise: &BoxNoise) -> Self {
        let [x, y, width, height] = centre_and_size(seen);
        let scale = height.max(MIN_SIDE_PX);
        let at = |value| Coordinate::seen_once(value, noise.detection * scale, noise.first_velocity_per_s * scale);
        BoxFilter { centre_x: at(x), centre_y: at(y), width: at(width), height: at(height) }
    }

    /// Moves the box on by `step_s` seconds; 0 leaves it as it is.
    pub fn predict(&mut self, step_s: f64, noise: &BoxNoise) {
        let deviation = noise.acceleration_per_s2 * self.scale_px();
        for coordinate in self.coordinates() {
            coordinate.predict(step_s, deviation);
        }
    }

    /// Takes in a detected box of the same instant.
    pub fn correct(&mut self, seen: &BoxPx, noise: &BoxNoise) {
        let deviation = noise.detection * self.scale_px();
        for (coordinate, measured) in self.coordinates().into_iter().zip(centre_and_size(seen)) {
            coordinate.correct(measured, deviation);
        }
    }

    /// The box as the filter has it, at least one pixel wide and high.
    pub fn box_px(&self) -> BoxPx {
        let half_width = self.width.position_px.max(MIN_SIDE_PX) / 2.0;
        let half_height = self.scale_px() / 2.0;
        BoxPx {
            left: (self.centre_x.position_px - half_width) as f32,
            top: (self.centre_y.position_px - half_height) as f32,
            right: (self.centre_x.position_px + half_width) as f32,
            bottom: (self.centre_y.position_px + half_height) as f32,
        }
    }

    fn scale_px(&self) -> f64 {
        self.height.position_px.max(MIN_SIDE_PX)
    }

    fn coordinates(&mut self) -> [&mut Coordinate; 4] {
        [&mut self.centre_x, &mut self.centre_y, &mut self.width, &mut self.height]
    }
}

fn centre_and_size(seen: &BoxPx) -> [f64; 4] {
    let [left, top, right, bottom] = [seen.left, seen.top, seen.right, seen.bottom].map(f64::from);
    [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: BoxNoise = BoxNoise { acceleration_per_s2: 2.0, detection: 0.05, first_velocity_per_s: 0.5 };

    fn box_at(x: f32) -> BoxPx {
        BoxPx { left: x, top: 10.0, right: x + 20.0, bottom: 50.0 }
    }

    #[test]
    fn learns_a_velocity_in_seconds() {
        let mut filter = BoxFilter::new(&box_at(0.0), &NOISE);
        for picture in 1..=50 {
            filter.predict(0.1, &NOISE);
            filter.correct(&box_at(picture as f32 * 3.0), &NOISE);
        }
        assert!((filter.centre_x.velocity_pxps - 30.0).abs() < 0.1, "{}", filter.centre_x.velocity_pxps);
        assert!((filter.box_px().left - 150.0).abs() < 0.5);
        assert!(filter.height.velocity_pxps.abs() < 1e-9);
    }

    #[test]
    fn agrees_with_the_matrix_form() {
        // One step by hand: P = F P F' + G G' s^2 with F = [1 t; 0 1], G = [t^2/2; t].
        let mut coordinate = Coordinate::seen_once(5.0, 2.0, 3.0);
        coordinate.velocity_pxps = 4.0;
        coordinate.predict(0.5, 8.0);
        assert_eq!(coordinate.position_px, 7.0);
        assert_eq!(coordinate.position_variance, 4.0 + 0.25 * 9.0 + 1.0);
        assert_eq!(coordinate.covariance, 0.5 * 9.0 + 4.0);
        assert_eq!(coordinate.velocity_variance, 9.0 + 16.0);
        // Gain K = P H' / (H P H' + r^2).
        coordinate.correct(9.0, 1.0);
        let gain = 7.25 / 8.25;
        assert!((coordinate.position_px - (7.0 + gain * 2.0)).abs() < 1e-12);
        assert!((coordinate.velocity_pxps - (4.0 + 8.5 / 8.25 * 2.0)).abs() < 1e-12);
        assert!((coordinate.position_variance - 7.25 * (1.0 - gain)).abs() < 1e-12);
        assert!((coordinate.velocity_variance - (25.0 - 8.5 * 8.5 / 8.25)).abs() < 1e-12);
    }

    #[test]
    fn no_time_changes_nothing_and_a_box_never_vanishes() {
        let mut filter = BoxFilter::new(&box_at(0.0), &NOISE);
        let before = filter;
        filter.predict(0.0, &NOISE);
        assert_eq!(filter, before);
        filter.width.velocity_pxps = -100.0;
        filter.height.velocity_pxps = -100.0;
        filter.predict(1.0, &NOISE);
        assert!(filter.box_px().is_sound());
    }
}
