//! The 80 class names of COCO in the order in which every detector here was trained on them.
//!
//! They stand in where a model's metadata and the rig's `labels` name no classes. The spelling is Darknet's
//! `coco.names`, which most model files are published with. The list is constant.

/// COCO's classes; a detection's class is an index into this list.
pub const COCO_NAMES: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorbike",
    "aeroplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "sofa",
    "pottedplant",
    "bed",
    "diningtable",
    "toilet",
    "tvmonitor",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_that_others_rely_on() {
        assert_eq!(COCO_NAMES.first(), Some(&"person"));
        assert_eq!(COCO_NAMES.get(2), Some(&"car"));
        assert_eq!(COCO_NAMES.get(9), Some(&"traffic light"));
        assert_eq!(COCO_NAMES.last(), Some(&"toothbrush"));
    }

    #[test]
    fn agrees_with_the_list_that_the_models_came_with() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/models/coco.names");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: ../shared is absent");
            return;
        };
        let published: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(published, COCO_NAMES);
    }
}
