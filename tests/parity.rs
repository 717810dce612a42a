//! Our detections and masks against those of OpenCV and ONNX Runtime on the same pictures, per backend.

mod common;

use std::path::Path;

use catseye::messages::BoxPx;
use catseye::runtime::graph::Stage;
use catseye::stages::Tick;
use catseye::stages::decode::Head;
use catseye::stages::infer::{BackendChoice, InferError, Model, load_backend};
use catseye::stages::network::{DecodeStage, Infer, Network, Preprocess};
use catseye_calibration::rig::Rig;
use catseye_sensors::picture::{Encoding, Limits, decode_picture};
use common::emulation::amount;
use common::shared;

/// Class, score and box.
type Seen = (String, f32, BoxPx);

/// One network on one camera, outside of any graph.
struct Detector {
    networks: [Network; 1],
    preprocess: Preprocess,
    infer: Infer,
    decode: DecodeStage,
    tick: Tick,
    names: Vec<String>,
}

impl Detector {
    /// `None` where the backend is not to be had.
    fn new(model: &Path, choice: BackendChoice, size: Option<(usize, usize)>) -> Option<Self> {
        let model = Model::load(model).unwrap();
        let backend = match load_backend(choice, &model, 1, size) {
            Err(InferError::NoLibrary { cause }) => {
                eprintln!("skipped: no ONNX Runtime here: {cause}");
                return None;
            }
            backend => backend.unwrap(),
        };
        let head = Head::recognise(backend.inputs(), backend.outputs(), &[]).unwrap();
        let (width, height) = size.or_else(|| backend.inputs()[0].picture_size()).unwrap();
        let names: Vec<String> = head.default_class_names().iter().map(|name| (*name).to_owned()).collect();
        let network = Network {
            name: "net".into(),
            head,
            layout: head.layout(width, height),
            cameras: vec![0],
            outputs: backend.outputs().to_vec(),
            class_names: names.clone(),
            class_offset: 0,
            score_threshold: 0.3,
            nms_iou: 0.45,
            is_on_device: false,
        };
        let networks = [network];
        let rig = Rig::default_camera(1280, 720);
        Some(Detector {
            preprocess: Preprocess::new(&networks, &rig, false).unwrap(),
            infer: Infer::new(vec![backend], false),
            decode: DecodeStage::new(&networks, &rig),
            tick: Tick::new(1, 0, &networks),
            networks,
            names,
        })
    }

    fn run(&mut self, picture: &Path) {
        let encoding = if picture.extension().is_some_and(|e| e == "png") { Encoding::Png } else { Encoding::Jpeg };
        let camera = &mut self.tick.cameras[0];
        decode_picture(encoding, &std::fs::read(picture).unwrap(), &mut camera.frame, &Limits::default()).unwrap();
        camera.present = true;
        // the pictures come in several sizes, and a rig has one for each camera
        let rig = Rig::default_camera(camera.frame.width_px(), camera.frame.height_px());
        self.preprocess = Preprocess::new(&self.networks, &rig, false).unwrap();
        self.preprocess.run(&mut self.tick).unwrap();
        self.infer.run(&mut self.tick).unwrap();
        self.decode.run(&mut self.tick).unwrap();
    }

    fn boxes(&self) -> Vec<Seen> {
        let seen = &self.tick.cameras[0].seen;
        seen.objects.iter().map(|o| (self.names[usize::from(o.class)].clone(), o.score, o.box_px)).collect()
    }
}

fn reference(file: &str) -> Option<Vec<(String, Vec<Seen>)>> {
    let text = std::fs::read_to_string(shared(file)?).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
    let of_picture = |detections: &serde_json::Value| {
        let of_box = |detection: &serde_json::Value| {
            let b: Vec<f32> = detection["box_px"].as_array().unwrap().iter().map(number).collect();
            let box_px = BoxPx { left: b[0], top: b[1], right: b[2], bottom: b[3] };
            (detection["class"].as_str().unwrap().to_owned(), number(&detection["score"]), box_px)
        };
        detections.as_array().unwrap().iter().map(of_box).collect()
    };
    let pictures = json["detections"].as_object().unwrap();
    Some(pictures.iter().map(|(picture, detections)| (picture.clone(), of_picture(detections))).collect())
}

fn assert_parity(model: &str, size: Option<(usize, usize)>, file: &str, choice: BackendChoice) {
    let (Some(model), Some(reference)) = (shared(model), reference(file)) else { return };
    let Some(mut detector) = Detector::new(&model, choice, size) else { return };
    let (mut wanted, mut found, mut surplus) = (0, 0, Vec::new());
    // an emulated processor looks at every sixth of them
    let step = amount(1, 6);
    for (picture, expected) in reference.iter().step_by(step) {
        detector.run(&shared(picture).unwrap());
        let ours = detector.boxes();
        let alike = |a: &Seen, b: &Seen| a.0 == b.0 && a.2.iou(&b.2) >= 0.95;
        for theirs in expected.iter().filter(|theirs| theirs.1 >= 0.4) {
            wanted += 1;
            found += usize::from(ours.iter().any(|our| alike(our, theirs) && (our.1 - theirs.1).abs() <= 0.02));
        }
        // Another JPEG decoder moves scores by a thousandth, and where two boxes of one object are that close, the other
        // one may survive suppression: the object is there, so half an overlap is enough for it not to be missing.
        let same_object = |a: &Seen, b: &Seen| a.0 == b.0 && a.2.iou(&b.2) >= 0.5;
        let is_extra = |our: &Seen| our.1 >= 0.45 && !expected.iter().any(|theirs| same_object(our, theirs));
        let extra = ours.into_iter().filter(is_extra);
        surplus.extend(extra.map(|our| (picture.clone(), our)));
    }
    println!("{file}, {}: {found} of {wanted} boxes, {} surplus", choice.name(), surplus.len());
    assert!(wanted > 100 / step);
    assert!(wanted - found <= (wanted / 100).max(1), "{found} of {wanted} boxes found");
    assert!(surplus.is_empty(), "{surplus:?}");
}

#[test]
fn detections_are_those_of_the_reference() {
    for choice in [BackendChoice::Rten, BackendChoice::Ort] {
        assert_parity("models/yolox_nano.onnx", None, "reference/yolox_nano_416x416.json", choice);
        let wide = Some((832, 256));
        assert_parity("models/yolox_nano_dyn.onnx", wide, "reference/yolox_nano_dyn_256x832.json", choice);
    }
}

/// A mask of the reference, one byte a pixel.
fn mask(path: &Path) -> Vec<bool> {
    let mut frame = Default::default();
    decode_picture(Encoding::Png, &std::fs::read(path).unwrap(), &mut frame, &Limits::default()).unwrap();
    frame.data().chunks_exact(3).map(|pixel| pixel[0] > 127).collect()
}

fn iou(ours: &[u8], theirs: &[bool]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let both = ours.iter().zip(theirs).filter(|(a, b)| **a == 1 && **b).count();
    let either = ours.iter().zip(theirs).filter(|(a, b)| **a == 1 || **b).count();
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

#[test]
fn masks_are_those_of_the_reference() {
    let (Some(model), Some(pictures)) = (shared("models/twinlitenet_360x640.onnx"), shared("camera/bdd")) else {
        return;
    };
    for choice in [BackendChoice::Rten, BackendChoice::Ort] {
        let Some(mut detector) = Detector::new(&model, choice, None) else { continue };
        let mut pictures: Vec<_> = std::fs::read_dir(&pictures).unwrap().map(|entry| entry.unwrap().path()).collect();
        pictures.sort();
        for picture in pictures.iter().take(amount(usize::MAX, 2)) {
            detector.run(picture);
            let masks = &detector.tick.networks[0].masks[0];
            let stem = picture.file_stem().unwrap().to_string_lossy().into_owned();
            let of_kind = |kind: &str| mask(&shared(&format!("reference/twinlitenet_{kind}_{stem}.png")).unwrap());
            let (drivable, lanes) = (iou(&masks.drivable, &of_kind("drivable")), iou(&masks.lanes, &of_kind("lanes")));
            println!("{stem}, {}: drivable {drivable:.4}, lanes {lanes:.4}", choice.name());
            assert!(drivable >= 0.99, "{stem}: drivable area {drivable}");
            assert!(lanes >= 0.95, "{stem}: lanes {lanes}");
        }
    }
}
