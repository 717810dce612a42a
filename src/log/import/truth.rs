//! What a source knows to be true: objects that people labelled. Importers write it beside the sensors' messages;
//! evaluation reads it, the pipeline never does.

use crate::messages::BoxPx;
use crate::record;

/// Topic of [`TruthObjects`].
pub const TOPIC_OBJECTS: &str = "/truth/objects";

/// Topic of the vehicle's pose as `foxglove.PoseInFrame`, or of what an import says in its assumptions.
pub const TOPIC_POSE: &str = "/truth/pose";

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
}
