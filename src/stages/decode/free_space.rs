//! From a drivable-area mask to the distance that is free in each direction.
//!
//! In comes a mask of 0 and 1 from a segmentation network and a mapping from its pixels to the ground; out goes a fan
//! of [`FREE_SPACE_SECTORS`] sectors around the vehicle's origin. Each column of the mask is followed from the bottom
//! up to its first gap; the ends of neighbouring columns, joined on the ground, bound the free area, and each sector's
//! ray is cut with that line. Where the line folds back, the nearest cut counts, so that free space is never overstated
//! by it.
//!
//! The columns may be followed elsewhere, as on a GPU: [`FreeSpaceFinder::find_in_tops`] takes what came of that.
//!
//! Promises: any mask is taken, the result depends on the mask and the mapping only, every range is within 0 and
//! [`MAX_RANGE_M`], and nothing is allocated after construction.

use crate::messages::{FREE_SPACE_SECTORS, FreeSpace};

/// Ranges end here: a pixel covers too many metres beyond it.
pub const MAX_RANGE_M: f64 = 80.0;
/// Half of the fan's opening.
const HALF_FAN_RAD: f64 = std::f64::consts::FRAC_PI_3;
/// Every so many columns are followed; a sector covers many more.
pub const COLUMN_STEP: usize = 2;
/// Gaps of so few rows are speckles of the mask, not obstacles.
pub const MAX_GAP_ROWS: usize = 2;
/// The bonnet may cover this part of the mask's height from below.
pub const BONNET_PARTS: usize = 8;

/// Where one column's free run ends.
#[derive(Clone, Copy, Debug)]
struct ColumnEnd {
    /// x and y on the ground in the vehicle frame, metres.
    ground: [f64; 2],
    /// Whether anything in the column is drivable.
    free: bool,
}

/// Measures free space in masks of one size.
#[derive(Debug)]
pub struct FreeSpaceFinder {
    width: usize,
    height: usize,
    /// Unit vectors along the middles of the sectors, from right to left.
    directions: [[f64; 2]; FREE_SPACE_SECTORS],
}

impl FreeSpaceFinder {
    /// A finder for masks of this size.
    pub fn new(width: usize, height: usize) -> Self {
        let mut directions = [[1.0, 0.0]; FREE_SPACE_SECTORS];
        for (sector, direction) in directions.iter_mut().enumerate() {
            let azimuth = first_azimuth_rad() + sector as f64 * step_rad();
            *direction = [libm::cos(azimuth), libm::sin(azimuth)];
        }
        FreeSpaceFinder { width, height, directions }
    }

    /// Measures a row-major mask (0 is not drivable) and replaces `free_space`. `ground_from_mask` maps a mask pixel
    /// (centre of the top-left one at (0, 0)) to x and y on the ground in the vehicle frame, or to nothing for pixels
    /// that do not see the ground. A sector that no column saw, or whose columns are blocked from the bottom, has range
    /// 0. A mask of another size gives no sectors.
    pub fn find(
        &self,
        mask: &[u8],
        ground_from_mask: &dyn Fn([f64; 2]) -> Option<[f64; 2]>,
        free_space: &mut FreeSpace,
    ) {
        if self.width == 0 || self.height == 0 || self.width.checked_mul(self.height) != Some(mask.len()) {
            self.begin(free_space);
            return;
        }
        let columns = (0..self.width).step_by(COLUMN_STEP);
        self.find_in_tops(columns.map(|u| self.top_of_free_run(mask, u)), ground_from_mask, free_space);
    }

    /// As [`FreeSpaceFinder::find`], from the highest row of the free run of every followed column, left to right, as a
    /// mask of this size has them; none where the run does not begin above the bonnet.
    pub fn find_in_tops(
        &self,
        tops: impl Iterator<Item = Option<usize>>,
        ground_from_mask: &dyn Fn([f64; 2]) -> Option<[f64; 2]>,
        free_space: &mut FreeSpace,
    ) {
        self.begin(free_space);
        if self.width == 0 || self.height == 0 {
            return;
        }
        let mut ranges = [f64::INFINITY; FREE_SPACE_SECTORS];
        let mut previous: Option<ColumnEnd> = None;
        for (u, top) in (0..self.width).step_by(COLUMN_STEP).zip(tops) {
            let end = self.column_end(u, top.filter(|top| *top < self.height), ground_from_mask);
            if let (Some(a), Some(b)) = (previous, end) {
                self.cut_sectors(a, b, &mut ranges);
            }
            previous = end;
        }
        for range in ranges {
            let seen = if range.is_finite() { range.min(MAX_RANGE_M) } else { 0.0 };
            if free_space.range_m.push(seen as f32).is_err() {
                return;
            }
        }
    }

    /// The fan without a sector.
    fn begin(&self, free_space: &mut FreeSpace) {
        free_space.first_azimuth_rad = first_azimuth_rad() as f32;
        free_space.step_rad = step_rad() as f32;
        free_space.range_m.clear();
    }

    /// The end on the ground of a column's free run with this highest row; nothing when the column does not see the
    /// ground.
    fn column_end(
        &self,
        u: usize,
        top: Option<usize>,
        ground_from_mask: &dyn Fn([f64; 2]) -> Option<[f64; 2]>,
    ) -> Option<ColumnEnd> {
        let bottom = self.height.checked_sub(1)?;
        let ground = |v: usize| ground_from_mask([u as f64, v as f64]).and_then(bounded);
        let Some(top) = top else {
            return ground(bottom).map(|ground| ColumnEnd { ground, free: false });
        };
        if let Some(ground) = ground(top) {
            return Some(ColumnEnd { ground, free: true });
        }
        // the run reaches above the horizon: search the highest row that sees the ground
        let (mut sky, mut seen) = (top, bottom);
        let mut best = ground(bottom)?;
        while seen - sky > 1 {
            let middle = sky + (seen - sky) / 2;
            match ground(middle) {
                Some(ground) => {
                    best = ground;
                    seen = middle;
                }
                None => sky = middle,
            }
        }
        Some(ColumnEnd { ground: best, free: true })
    }

    /// The highest row of a column's free run; nothing when it does not begin above the bonnet. The mask has the
    /// finder's width.
    pub fn top_of_free_run(&self, mask: &[u8], u: usize) -> Option<usize> {
        let mut top = None;
        let mut gap = 0;
        for (v, row) in mask.chunks_exact(self.width.max(1)).enumerate().rev() {
            if row.get(u).is_some_and(|pixel| *pixel != 0) {
                top = Some(v);
                gap = 0;
                continue;
            }
            gap += 1;
            let bridged = if top.is_some() { MAX_GAP_ROWS } else { self.height / BONNET_PARTS };
            if gap > bridged {
                break;
            }
        }
        top
    }

    /// Cuts the rays of the sectors with the line from one column's end to the next one's.
    fn cut_sectors(&self, a: ColumnEnd, b: ColumnEnd, ranges: &mut [f64; FREE_SPACE_SECTORS]) {
        for (direction, range) in self.directions.iter().zip(ranges) {
            if let Some(cut) = cut(*direction, a.ground, b.ground) {
                let cut = if a.free || b.free { cut } else { 0.0 };
                *range = range.min(cut);
            }
        }
    }
}

/// Middle of the rightmost sector.
fn first_azimuth_rad() -> f64 {
    0.5 * step_rad() - HALF_FAN_RAD
}

/// Opening of one sector.
fn step_rad() -> f64 {
    2.0 * HALF_FAN_RAD / FREE_SPACE_SECTORS as f64
}

/// The point itself, or the one in its direction at the greatest range; nothing for points that are not finite.
fn bounded(ground: [f64; 2]) -> Option<[f64; 2]> {
    let range = libm::hypot(ground[0], ground[1]);
    if !range.is_finite() {
        return None;
    }
    if range <= MAX_RANGE_M {
        return Some(ground);
    }
    let scale = MAX_RANGE_M / range;
    Some([ground[0] * scale, ground[1] * scale])
}

/// Distance along a unit direction from the origin to the segment from `a` to `b`, if they meet.
fn cut(direction: [f64; 2], a: [f64; 2], b: [f64; 2]) -> Option<f64> {
    let side = |point: [f64; 2]| direction[0] * point[1] - direction[1] * point[0];
    let along = |point: [f64; 2]| direction[0] * point[0] + direction[1] * point[1];
    let (side_a, side_b) = (side(a), side(b));
    let between = side_a - side_b;
    if between == 0.0 || side_a * side_b > 0.0 {
        return None;
    }
    let part = side_a / between;
    let distance = along(a) + part * (along(b) - along(a));
    (distance >= 0.0).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FlatCamera, noise};
    use super::*;

    const WIDTH: usize = 640;
    const HEIGHT: usize = 360;

    fn find(mask: &[u8], camera: &FlatCamera) -> FreeSpace {
        let mut free_space = FreeSpace::default();
        FreeSpaceFinder::new(WIDTH, HEIGHT).find(mask, &|pixel| camera.ground(pixel), &mut free_space);
        free_space
    }

    fn draw(camera: &FlatCamera, drivable: impl Fn(f64, f64) -> bool) -> Vec<u8> {
        let pixel = |index: usize| camera.ground([(index % WIDTH) as f64, (index / WIDTH) as f64]);
        (0..WIDTH * HEIGHT).map(|index| u8::from(pixel(index).is_some_and(|[x, y]| drivable(x, y)))).collect()
    }

    fn azimuth(free_space: &FreeSpace, sector: usize) -> f64 {
        f64::from(free_space.first_azimuth_rad) + sector as f64 * f64::from(free_space.step_rad)
    }

    #[test]
    fn the_fan_is_symmetric_and_opens_120_degrees() {
        let free_space = find(&vec![0; WIDTH * HEIGHT], &FlatCamera::default());
        assert_eq!(free_space.range_m.len(), FREE_SPACE_SECTORS);
        let (first, last) = (azimuth(&free_space, 0), azimuth(&free_space, FREE_SPACE_SECTORS - 1));
        assert!((first + last).abs() < 1e-5);
        assert!((first - f64::from(free_space.step_rad) / 2.0 + 60.0_f64.to_radians()).abs() < 1e-5);
    }

    #[test]
    fn a_wall_ahead_ends_the_free_space() {
        let camera = FlatCamera::default();
        let free_space = find(&draw(&camera, |x, _| x < 20.0), &camera);
        let mut seen = 0;
        for (sector, range) in free_space.range_m.iter().enumerate() {
            let azimuth = azimuth(&free_space, sector);
            if azimuth.abs() > 0.4 {
                continue;
            }
            seen += 1;
            let expected = 20.0 / libm::cos(azimuth);
            // one row of the picture is 0.48 m there
            assert!((f64::from(*range) - expected).abs() < 0.7, "{range} instead of {expected} at {azimuth} rad");
        }
        assert!(seen > 20);
    }

    #[test]
    fn an_obstacle_shortens_its_own_sectors_only() {
        let camera = FlatCamera::default();
        // a box stands on the road from 15 m on, 1 m to 3 m to the left, and hides all behind it
        let hidden = |x: f64, y: f64| {
            let slope = y / (x - camera.forward_m);
            x >= 15.0 && slope >= 1.0 / (15.0 - camera.forward_m) && slope <= 3.0 / (15.0 - camera.forward_m)
        };
        let free_space = find(&draw(&camera, |x, y| x < 30.0 && !hidden(x, y)), &camera);
        let range_at = |wanted: f64| {
            let sector = (0..FREE_SPACE_SECTORS)
                .min_by(|a, b| {
                    let distance = |sector: usize| (azimuth(&free_space, sector) - wanted).abs();
                    distance(*a).total_cmp(&distance(*b))
                })
                .unwrap();
            f64::from(free_space.range_m[sector])
        };
        assert!((range_at(libm::atan2(2.0, 15.0)) - 15.1).abs() < 0.6);
        assert!((range_at(-0.1) - 30.1).abs() < 1.5);
        assert!((range_at(0.3) - 31.4).abs() < 1.5);
    }

    #[test]
    fn masks_that_are_full_or_empty() {
        let camera = FlatCamera::default();
        let full = find(&vec![1; WIDTH * HEIGHT], &camera);
        let ahead = full.range_m[FREE_SPACE_SECTORS / 2];
        assert!(ahead > 60.0 && ahead <= 80.0, "{ahead}");
        assert!(full.range_m.iter().all(|range| (0.0..=80.0).contains(range)));
        // 60 degrees to the side lies outside the picture
        assert_eq!(full.range_m[0], 0.0);
        let empty = find(&vec![0; WIDTH * HEIGHT], &camera);
        assert!(empty.range_m.iter().all(|range| *range == 0.0));
    }

    #[test]
    fn small_gaps_and_the_bonnet_are_bridged_and_wide_gaps_are_not() {
        let camera = FlatCamera::default();
        let ahead = |blank: std::ops::Range<usize>| {
            let mut mask = draw(&camera, |x, _| x < 20.0);
            mask.chunks_exact_mut(WIDTH).skip(blank.start).take(blank.len()).for_each(|row| row.fill(0));
            f64::from(find(&mask, &camera).range_m[FREE_SPACE_SECTORS / 2])
        };
        assert!((ahead(0..0) - 20.0).abs() < 0.7);
        assert!((ahead(280..282) - 20.0).abs() < 0.7);
        assert!((ahead(HEIGHT - HEIGHT / 8..HEIGHT) - 20.0).abs() < 0.7);
        let near = camera.ground([320.0, 284.0]).unwrap()[0];
        assert!((ahead(280..284) - near).abs() < 0.3);
        assert_eq!(ahead(HEIGHT / 2 + 100..HEIGHT), 0.0);
    }

    #[test]
    fn noise_and_senseless_mappings_stay_within_bounds() {
        let camera = FlatCamera::default();
        for (seed, one_in) in [(1, 2), (2, 10), (3, 100)] {
            let mask = noise(WIDTH * HEIGHT, seed, one_in);
            let free_space = find(&mask, &camera);
            assert_eq!(free_space.range_m.len(), FREE_SPACE_SECTORS);
            assert!(free_space.range_m.iter().all(|range| (0.0..=80.0).contains(range)));
        }
        let mappings: [&dyn Fn([f64; 2]) -> Option<[f64; 2]>; 3] =
            [&|_: [f64; 2]| None, &|_: [f64; 2]| Some([f64::NAN, f64::MAX]), &|pixel: [f64; 2]| {
                Some([f64::MAX, pixel[0] * f64::MAX])
            }];
        for mapping in mappings {
            let mut free_space = FreeSpace::default();
            FreeSpaceFinder::new(WIDTH, HEIGHT).find(&vec![1; WIDTH * HEIGHT], mapping, &mut free_space);
            assert!(free_space.range_m.iter().all(|range| (0.0..=80.0).contains(range)));
        }
    }

    #[test]
    fn tops_outside_the_mask_are_none() {
        let camera = FlatCamera::default();
        let ground = |pixel: [f64; 2]| camera.ground(pixel);
        let finder = FreeSpaceFinder::new(WIDTH, HEIGHT);
        let (mut none, mut outside) = (FreeSpace::default(), FreeSpace::default());
        finder.find_in_tops((0..WIDTH / COLUMN_STEP).map(|_| None), &ground, &mut none);
        finder.find_in_tops((0..WIDTH / COLUMN_STEP).map(|_| Some(HEIGHT)), &ground, &mut outside);
        assert_eq!(none, outside);
    }

    #[test]
    fn a_mask_of_another_size_gives_no_sectors() {
        assert!(find(&[1, 1, 1], &FlatCamera::default()).range_m.is_empty());
        let mut free_space = FreeSpace::default();
        FreeSpaceFinder::new(0, 0).find(&[], &Some, &mut free_space);
        assert!(free_space.range_m.is_empty());
    }
}
