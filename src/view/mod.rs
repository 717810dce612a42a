//! Pictures for people: the camera's picture with what was seen in it, the world from above, videos and the report.
//!
//! Data comes from the messages of a run or of its log, and goes into files that a person opens; [`collect`] and
//! [`trace`] are the sinks that take it from a run. Nothing here is read back by the pipeline. The same input gives the
//! same pixels; coordinates from outside may be anything, and what does not fit a picture is left out of it.

pub mod birds_eye;
pub mod canvas;
pub mod collect;
pub mod mosaic;
pub mod overlay;
pub mod report;
pub mod series;
pub mod trace;
pub mod video;

use crate::messages::Object;
use canvas::Colour;

/// Colours that people with any common colour vision tell apart (Okabe and Ito, "Color Universal Design", 2008),
/// without black.
pub const PALETTE: [Colour; 7] = [
    Colour::rgb(0xE6, 0x9F, 0x00),
    Colour::rgb(0x56, 0xB4, 0xE9),
    Colour::rgb(0x00, 0x9E, 0x73),
    Colour::rgb(0xF0, 0xE4, 0x42),
    Colour::rgb(0x00, 0x72, 0xB2),
    Colour::rgb(0xD5, 0x5E, 0x00),
    Colour::rgb(0xCC, 0x79, 0xA7),
];

/// The colour of the object or track with this number: the same in every picture of a run.
pub fn colour_of(id: u32) -> Colour {
    PALETTE[id as usize % PALETTE.len()]
}

/// The class's name, or `class 7` where the model has no name for it.
pub fn class_name(class_names: &[String], class: u16) -> String {
    class_names.get(usize::from(class)).cloned().unwrap_or_else(|| format!("class {class}"))
}

/// Distance of an object from the vehicle's origin, metres.
pub fn range_m(object: &Object) -> f64 {
    length(object.position_m)
}

/// What a picture says about an object: `car 12  8.1 m  4.2 m/s  TTC 3.1 s`; the last only when the gap closes.
pub fn object_label(object: &Object, class_names: &[String]) -> String {
    let name = class_name(class_names, object.class);
    let mut label = format!("{name} {}  {:.1} m  {:.1} m/s", object.id, range_m(object), length(object.velocity_mps));
    if object.time_to_collision_s.is_finite() {
        label.push_str(&format!("  TTC {:.1} s", object.time_to_collision_s));
    }
    label
}

fn length([x, y]: [f64; 2]) -> f64 {
    (x * x + y * y).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_class_number_distance_and_speed() {
        let names = ["person".to_owned(), "car".to_owned()];
        let mut object =
            Object { id: 12, class: 1, position_m: [3.0, 4.0], velocity_mps: [0.0, -4.2], ..Object::default() };
        object.time_to_collision_s = 3.1;
        assert_eq!(object_label(&object, &names), "car 12  5.0 m  4.2 m/s  TTC 3.1 s");
        object.time_to_collision_s = f32::INFINITY;
        object.class = 9;
        assert_eq!(object_label(&object, &names), "class 9 12  5.0 m  4.2 m/s");
    }

    #[test]
    fn neighbouring_numbers_differ_in_colour() {
        assert_ne!(colour_of(u32::MAX), colour_of(u32::MAX - 1));
        assert_eq!(colour_of(3), colour_of(10));
    }
}
