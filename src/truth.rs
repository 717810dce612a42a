//! What a source knows to be true: objects that people labelled, or all that a simulator placed. Importers and the
//! simulator write it beside the sensors' messages; evaluation reads it, the pipeline never does.

use crate::messages::BoxPx;
use crate::record;

/// Topic of [`TruthObjects`].
pub const TOPIC_OBJECTS: &str = "/truth/objects";

/// Topic of [`TruthMotions`], which go with the [`TruthObjects`] of the same stamp.
pub const TOPIC_MOTIONS: &str = "/truth/motions";

/// Topic of [`TruthLanes`].
pub const TOPIC_LANES: &str = "/truth/lanes";

/// Topic of [`TruthEgo`].
pub const TOPIC_EGO: &str = "/truth/ego";

/// Topic of the vehicle's pose as `foxglove.PoseInFrame`, or of what an import says in its assumptions.
pub const TOPIC_POSE: &str = "/truth/pose";

/// Topic of a camera's [`TruthBoxes`].
pub fn boxes_topic(camera: &str) -> String {
    format!("/truth/{camera}/boxes")
}

/// Topic of a camera's [`TruthMask`]s.
pub fn mask_topic(camera: &str) -> String {
    format!("/truth/{camera}/mask")
}

/// In a [`TruthMask`]: neither of the others.
pub const MASK_OTHER: u8 = 0;
/// In a [`TruthMask`]: drivable area that nothing hides.
pub const MASK_DRIVABLE: u8 = 1;
/// In a [`TruthMask`]: a lane marking, which is drivable too.
pub const MASK_LANE: u8 = 2;

record! {
    /// One labelled object.
    pub struct TruthObject {
        /// What it is, in the source's own word.
        pub class: String,
        /// Whether its place is known; a region of a picture that nobody labelled has none.
        pub placed: bool,
        /// Middle of the object, x, y, z in the vehicle frame.
        pub position_m: [f64; 3],
        /// Length, width, height.
        pub extent_m: [f64; 3],
        /// Direction of its length in the vehicle frame, 0 ahead, positive to the left.
        pub yaw_rad: f64,
        /// The camera that `box_px` belongs to; empty when there is none.
        pub camera: String,
        /// Its box in that camera's picture.
        pub box_px: BoxPx,
        /// Lidar points on it as the source counts them; -1 where it does not.
        pub lidar_points: i32,
    }

    /// All labelled objects at one instant.
    pub struct TruthObjects {
        /// The objects, in the source's order.
        pub objects: Vec<TruthObject>,
    }

    /// How one labelled object moves.
    #[derive(Copy)]
    pub struct TruthMotion {
        /// The object's number, the same in all messages of a log.
        pub id: u32,
        /// Velocity over ground along the axes of the vehicle frame.
        pub velocity_mps: [f64; 2],
        /// Turning rate, positive to the left.
        pub yaw_rate_radps: f64,
    }

    /// How the objects of the [`TruthObjects`] with the same stamp move, in their order.
    pub struct TruthMotions {
        /// One per object.
        pub motions: Vec<TruthMotion>,
    }

    /// The vehicle itself, in the world's frame.
    #[derive(Copy)]
    pub struct TruthEgo {
        /// x, y, yaw of the vehicle's origin.
        pub pose: [f64; 3],
        /// Forward speed.
        pub speed_mps: f64,
        /// Forward acceleration.
        pub acceleration_mps2: f64,
        /// Yaw rate, positive to the left.
        pub yaw_rate_radps: f64,
        /// Whether the vehicle touches another body.
        pub has_collided: bool,
        /// Free way to the next body in the vehicle's lane, bumper to bumper; infinite when there is none within 150 m.
        pub lead_gap_m: f64,
        /// Number of that body; 0 when there is none.
        pub lead_id: u32,
        /// Closing speed to that body, positive when closing.
        pub lead_closing_mps: f64,
    }

    /// One object in one picture.
    #[derive(Copy)]
    pub struct TruthBox {
        /// The object's number.
        pub id: u32,
        /// Index into the message's class names.
        pub class: u16,
        /// Bounds of what can be seen of it; pixels' edges are at halves, so a single pixel at (0, 0) gives 0, 0, 1, 1.
        pub visible_px: BoxPx,
        /// Bounds of the whole object as far as it lies in the picture, as if nothing hid it.
        pub whole_px: BoxPx,
        /// Part of its pixels in the picture that something hides, 0 to 1.
        pub occluded: f32,
        /// Part of its whole box that lies outside the picture, 0 to 1.
        pub truncated: f32,
        /// Pixels that show it.
        pub pixels: u32,
        /// Level distance from the vehicle's origin to its nearest point.
        pub distance_m: f32,
    }

    /// All objects in one camera's picture.
    pub struct TruthBoxes {
        /// Class names.
        pub classes: Vec<String>,
        /// The objects by number; what shows no pixel is left out.
        pub boxes: Vec<TruthBox>,
    }

    /// One lane marking or road edge line.
    pub struct TruthLane {
        /// Lateral place among all, counted from the left, for a stable identity within a message.
        pub index: u16,
        /// Whether it is dashed.
        pub dashed: bool,
        /// Middle of the line in the vehicle frame, x and y alternating, by distance along the road, 1 m apart.
        pub points_m: Vec<f32>,
    }

    /// All lane markings around the vehicle.
    pub struct TruthLanes {
        /// Markings from left to right.
        pub lanes: Vec<TruthLane>,
    }

    /// What the pixels of one picture show, see [`MASK_OTHER`] and its neighbours.
    pub struct TruthMask {
        /// Columns.
        pub width_px: u32,
        /// Rows.
        pub height_px: u32,
        /// Runs along the rows: value, then length as `u32` little-endian.
        pub runs: Vec<u8>,
    }
}
