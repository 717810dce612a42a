//! The three stages around a network: preprocess, infer, decode.
//!
//! A [`Network`] is one model, its head and the cameras that it serves; its batch always has a row for each of them, so
//! that the arithmetic is the same whether a camera's picture came or not. The stages are stateless: each lane has a copy
//! of its own, with its own engine session and buffers.

use std::fmt::{Display, Write};

use catseye_calibration::rig::{self, Rig};

use super::decode::{Decode, Head, Masks, View};
use super::geometry::CameraGeometry;
use super::infer::{Backend, BatchRows, Tensor, TensorSpec, run_batched};
use super::preprocess::raw::pattern_of;
use super::preprocess::{Layout, PreprocessError, Preprocessor, Remap};
use super::{NetworkSlot, Tick};
use crate::messages::{CameraDetections, FreeSpace, Level, MAX_DETECTIONS};
use crate::runtime::digest::digest_f32;
use crate::runtime::graph::{Fields, Stage, StageError};

/// One model as the pipeline uses it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name in the rig.
    pub name: String,
    /// How its outputs are read.
    pub head: Head,
    /// How its input is made.
    pub layout: Layout,
    /// Indices of the cameras, in rig order: the rows of the batch.
    pub cameras: Vec<usize>,
    /// Its outputs.
    pub outputs: Vec<TensorSpec>,
    /// Names of its classes.
    pub class_names: Vec<String>,
    /// Where its classes begin in the pipeline's table.
    pub class_offset: u16,
    /// Detections have scores above this.
    pub score_threshold: f32,
    /// Overlap above which the weaker box is dropped.
    pub nms_iou: f32,
    /// Whether its tensors stay on a device.
    pub is_on_device: bool,
}

impl Network {
    /// Its part of a tick.
    pub fn slot(&self) -> NetworkSlot {
        let rows = self.cameras.len();
        let mut input = Tensor::default();
        if !self.is_on_device {
            // sizes were checked when the model was loaded; a refusal would leave the tensor empty and the stage says so
            let _ = input.reshape(&[rows, 3, self.layout.height, self.layout.width]);
        }
        NetworkSlot {
            cameras: self.cameras.clone(),
            input,
            outputs: vec![Tensor::default(); self.outputs.len()],
            letterboxes: vec![Default::default(); rows],
            masks: vec![Masks::default(); rows],
            ..NetworkSlot::default()
        }
    }
}

/// Cameras whose pictures any model wants undistorted: all models then see them so.
pub fn undistorted_cameras(rig: &Rig) -> Vec<bool> {
    let wants =
        |camera: &rig::Camera| rig.models.iter().any(|model| model.undistort && model.cameras.contains(&camera.name));
    rig.cameras.iter().map(wants).collect()
}

/// What makes pictures of a rig's camera into tensors.
///
/// # Errors
/// [`PreprocessError`] for a layout or a lens that cannot be.
pub fn preprocessor_of(rig: &Rig, camera: usize, layout: Layout) -> Result<Preprocessor, PreprocessError> {
    let is_undistorted = undistorted_cameras(rig).get(camera) == Some(&true);
    let Some(camera) = rig.cameras.get(camera).filter(|_| is_undistorted) else { return Preprocessor::new(layout) };
    let remap = Remap::undistorting(&layout, camera.width_px, camera.height_px, &camera.intrinsics)?;
    Preprocessor::with_remap(layout, remap)
}

/// What each camera's pictures are as the rig has it. One of another size leaves its camera absent and is a fault: its
/// pixels mean other directions, and every distance would be wrong.
pub struct PictureSizes {
    cameras: Vec<PicturesOfCamera>,
}

/// What a camera's pictures are, as the rig has it.
struct PicturesOfCamera {
    name: String,
    size_px: [u32; 2],
    /// Whether they are raw and can be developed.
    is_raw: bool,
}

impl PictureSizes {
    /// Those of this rig.
    pub fn new(rig: &Rig) -> Self {
        let of = |camera: &rig::Camera| PicturesOfCamera {
            name: camera.name.clone(),
            size_px: [camera.width_px, camera.height_px],
            is_raw: pattern_of(camera).is_some(),
        };
        PictureSizes { cameras: rig.cameras.iter().map(of).collect() }
    }

    /// Leaves cameras with pictures of another size absent, and adds the words to the faults.
    pub fn check(&self, tick: &mut Tick, faults: &mut String) {
        for (PicturesOfCamera { name, size_px: expected, .. }, camera) in self.cameras.iter().zip(&mut tick.cameras) {
            let found = camera.size_px();
            if camera.present && found != *expected {
                camera.present = false;
                add_fault(faults, wrong_size(name, *expected, found));
            }
        }
    }

    /// Leaves raw cameras with pictures that are not raw, or of another mosaic, absent, and adds the words to the faults: for kernels that
    /// were chosen before the first picture came.
    pub fn check_raw(&self, tick: &mut Tick, faults: &mut String) {
        for (PicturesOfCamera { name, is_raw, .. }, camera) in self.cameras.iter().zip(&mut tick.cameras) {
            if camera.present && *is_raw && camera.raw.layout().is_none() {
                camera.present = false;
                add_fault(
                    faults,
                    format_args!("camera {name}: expected raw pictures with the rig's mosaic, found others"),
                );
            }
        }
    }
}

/// Pictures become tensors.
pub struct Preprocess {
    sizes: PictureSizes,
    /// Per network, per row.
    preprocessors: Vec<Vec<Preprocessor>>,
    cameras: Vec<Vec<usize>>,
    digest_tensors: bool,
}

impl Preprocess {
    /// For these networks on this rig.
    pub fn new(networks: &[Network], rig: &Rig, digest_tensors: bool) -> Result<Self, PreprocessError> {
        let rows = |network: &Network| {
            network.cameras.iter().map(|camera| preprocessor_of(rig, *camera, network.layout)).collect()
        };
        let preprocessors = networks.iter().map(rows).collect::<Result<_, _>>()?;
        let cameras = networks.iter().map(|network| network.cameras.clone()).collect();
        Ok(Preprocess { sizes: PictureSizes::new(rig), preprocessors, cameras, digest_tensors })
    }
}

/// The words for a picture of another size than the rig says.
fn wrong_size(camera: &str, expected: [u32; 2], found: [u32; 2]) -> String {
    let size = |[width_px, height_px]: [u32; 2]| format!("{width_px}x{height_px}");
    format!("camera {camera}: expected pictures of {}, as in the rig, found {}", size(expected), size(found))
}

/// Adds to the words of a fault. A tick without one allocates nothing.
fn add_fault(faults: &mut String, words: impl Display) {
    let gap = if faults.is_empty() { "" } else { "; " };
    // writing to a string cannot fail
    let _ = write!(faults, "{gap}{words}");
}

impl Stage<Tick> for Preprocess {
    fn name(&self) -> &'static str {
        "preprocess"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        let mut faults = String::new();
        self.sizes.check(tick, &mut faults);
        for ((rows, cameras), slot) in self.preprocessors.iter_mut().zip(&self.cameras).zip(&mut tick.networks) {
            let NetworkSlot { input, letterboxes, .. } = slot;
            let values = input.data.len() / cameras.len().max(1);
            let planes = input.data.chunks_exact_mut(values.max(1));
            for (((preprocessor, &camera), planes), letterbox) in
                rows.iter_mut().zip(cameras).zip(planes).zip(letterboxes)
            {
                let Some(camera) = tick.cameras.get_mut(camera) else { continue };
                if !camera.present {
                    planes.fill(0.0);
                    continue;
                }
                // once for all networks that look at it
                let developed = camera.develop().map_err(PreprocessError::from);
                match developed.and_then(|()| preprocessor.run(&camera.frame, planes)) {
                    Ok(place) => *letterbox = place,
                    Err(error) => {
                        planes.fill(0.0);
                        camera.present = false;
                        add_fault(&mut faults, error);
                    }
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(StageError(faults)) }
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        if self.digest_tensors {
            for (network, slot) in tick.networks.iter().enumerate() {
                fields.add(network as u16, "input", digest_f32(&slot.input.data));
            }
        }
    }
}

/// Tensors go through the network.
pub struct Infer {
    backends: Vec<(Box<dyn Backend>, BatchRows)>,
    digest_tensors: bool,
}

impl Infer {
    /// One engine per network, in their order.
    pub fn new(backends: Vec<Box<dyn Backend>>, digest_tensors: bool) -> Self {
        let backends = backends.into_iter().map(|backend| (backend, BatchRows::default())).collect();
        Infer { backends, digest_tensors }
    }
}

impl Stage<Tick> for Infer {
    fn name(&self) -> &'static str {
        "infer"
    }

    fn level(&self) -> Level {
        Level::PerEngine
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        let mut result = Ok(());
        for ((backend, rows), slot) in self.backends.iter_mut().zip(&mut tick.networks) {
            if let Err(error) = run_batched(backend.as_mut(), &slot.input, &mut slot.outputs, rows) {
                slot.outputs.iter_mut().for_each(|output| *output = Tensor::default());
                result = Err(StageError(error.to_string()));
            }
        }
        result
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        if self.digest_tensors {
            for (network, slot) in tick.networks.iter().enumerate() {
                for output in &slot.outputs {
                    fields.add(network as u16, "output", digest_f32(&output.data));
                }
            }
        }
    }
}

/// Reads what a network said of one picture.
pub trait ReadRow: Send {
    /// Replaces the fields of `seen` that this network fills. On an error those fields are empty.
    fn read(
        &mut self,
        slot: &NetworkSlot,
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), StageError>;

    /// Copies the masks of the row that was read last, where there are any.
    fn copy_masks(&self, slot: &NetworkSlot, row: usize, into: &mut Masks);
}

impl ReadRow for Box<dyn Decode> {
    fn read(
        &mut self,
        slot: &NetworkSlot,
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), StageError> {
        self.decode(&slot.outputs, row, view, seen).map_err(|error| StageError(error.to_string()))
    }

    fn copy_masks(&self, _: &NetworkSlot, _: usize, into: &mut Masks) {
        if let Some(masks) = self.masks() {
            into.clone_from(masks);
        }
    }
}

/// What networks said becomes detections, lanes and free space.
pub struct DecodeStage {
    networks: Vec<(Network, Box<dyn ReadRow>)>,
    geometry: Vec<CameraGeometry>,
}

impl DecodeStage {
    /// For the outputs of these networks on this rig.
    pub fn new(networks: &[Network], rig: &Rig) -> Self {
        let reader = |network: &Network| -> Box<dyn ReadRow> {
            Box::new(network.head.decoder(network.layout.width, network.layout.height, &network.outputs))
        };
        DecodeStage::with_readers(networks.iter().map(|network| (network.clone(), reader(network))).collect(), rig)
    }

    /// For networks with readers of their own.
    pub fn with_readers(networks: Vec<(Network, Box<dyn ReadRow>)>, rig: &Rig) -> Self {
        let undistorted = undistorted_cameras(rig);
        let geometry =
            rig.cameras.iter().zip(undistorted).map(|(camera, flag)| CameraGeometry::new(camera, flag)).collect();
        DecodeStage { networks, geometry }
    }
}

impl Stage<Tick> for DecodeStage {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        let mut result = Ok(());
        for camera in &mut tick.cameras {
            let seen = &mut camera.seen;
            seen.present = camera.present;
            seen.stamp_ns = camera.stamp_ns;
            seen.objects.clear();
            seen.lanes.clear();
            seen.free_space = FreeSpace::default();
        }
        for ((network, reader), slot) in self.networks.iter_mut().zip(&mut tick.networks) {
            let mut masks = std::mem::take(&mut slot.masks);
            for (row, &camera) in network.cameras.iter().enumerate() {
                let Some(camera_slot) = tick.cameras.get_mut(camera).filter(|camera| camera.present) else { continue };
                let ground = self.geometry.get(camera).map(|camera| |pixel| camera.ground_from_picture(pixel));
                let view = View {
                    letterbox: slot.letterboxes.get(row).copied().unwrap_or_default(),
                    score_threshold: network.score_threshold,
                    iou_threshold: network.nms_iou,
                    max_detections: MAX_DETECTIONS,
                    ground_from_picture: ground.as_ref().map(|ground| ground as &dyn Fn([f64; 2]) -> Option<[f64; 2]>),
                };
                if let Err(error) = reader.read(slot, row, &view, &mut camera_slot.seen) {
                    result = Err(error);
                }
                if network.class_offset > 0 {
                    for object in &mut camera_slot.seen.objects {
                        object.class = object.class.saturating_add(network.class_offset);
                    }
                }
                if let Some(kept) = masks.get_mut(row) {
                    reader.copy_masks(slot, row, kept);
                }
            }
            slot.masks = masks;
        }
        result
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        for (sensor, camera) in tick.cameras.iter().enumerate() {
            fields.add_record(sensor as u16, &camera.seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use catseye_sensors::picture::{Frame, Limits, PixelFormat};
    use foxglove::bytes::Bytes;

    use super::super::preprocess::raw::{BayerPattern, Isp, MosaicLayout, RawFormat};
    use super::*;

    fn grey(width_px: u32, height_px: u32) -> Frame {
        let data = vec![90; (width_px * height_px * 3) as usize];
        Frame::new(width_px, height_px, PixelFormat::Rgb8, true, data).unwrap()
    }

    /// One that looks at one camera.
    fn network(name: &str) -> Network {
        Network {
            name: name.to_owned(),
            head: Head::Yolox,
            layout: Head::Yolox.layout(32, 32),
            cameras: vec![0],
            outputs: Vec::new(),
            class_names: Vec::new(),
            class_offset: 0,
            score_threshold: 0.3,
            nms_iou: 0.45,
            is_on_device: false,
        }
    }

    #[test]
    fn all_networks_see_what_a_raw_picture_is_developed_to() {
        let networks = [network("one"), network("two")];
        let rig = Rig::default_camera(64, 48);
        let mut stage = Preprocess::new(&networks, &rig, false).unwrap();
        let mut tick = Tick::new(1, 0, &networks);
        let (format, pattern) = (RawFormat::Raw12, BayerPattern::Bggr);
        let bytes = Bytes::from((0..64 * 48 * 2_u32).map(|at| (at * 5 % 16) as u8).collect::<Vec<_>>());
        let layout = MosaicLayout { width_px: 64, height_px: 48, format, pattern, stride_bytes: None };
        let isp = Arc::new(Isp::new(pattern));
        let camera = &mut tick.cameras[0];
        camera.raw.keep(&layout, &isp, &bytes.into(), &Limits::default()).unwrap();
        camera.present = true;
        let mut developed = Frame::default();
        camera.raw.develop(&mut developed).unwrap();
        stage.run(&mut tick).unwrap();
        let raw: Vec<Vec<f32>> = tick.networks.iter().map(|slot| slot.input.data.clone()).collect();

        let mut tick = Tick::new(1, 0, &networks);
        (tick.cameras[0].frame, tick.cameras[0].present) = (developed, true);
        stage.run(&mut tick).unwrap();
        let pixels: Vec<Vec<f32>> = tick.networks.iter().map(|slot| slot.input.data.clone()).collect();
        assert_eq!(raw, pixels);
        assert!(raw[0].iter().any(|value| *value > 1.0));
    }

    #[test]
    fn a_picture_of_another_size_than_the_rigs_is_a_fault() {
        let networks = [network("net")];
        let rig = Rig::default_camera(64, 48);
        let mut stage = Preprocess::new(&networks, &rig, false).unwrap();
        let mut tick = Tick::new(1, 0, &networks);
        for (width_px, height_px) in [(64, 48), (48, 64), (64, 48)] {
            tick.cameras[0].frame = grey(width_px, height_px);
            tick.cameras[0].present = true;
            let outcome = stage.run(&mut tick);
            let is_right = (width_px, height_px) == (64, 48);
            assert_eq!(tick.cameras[0].present, is_right);
            assert_eq!(tick.networks[0].input.data.iter().any(|value| *value != 0.0), is_right);
            let words = outcome.err().map(|error| error.0);
            let expected = "camera front: expected pictures of 64x48, as in the rig, found 48x64";
            assert_eq!(words.as_deref(), (!is_right).then_some(expected));
        }
    }
}
