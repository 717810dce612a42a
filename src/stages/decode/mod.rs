//! From a network's outputs to what was seen: boxes, lane curves and free space in one picture.
//!
//! [`Head`] names the kinds of network that are understood; it recognises them by their outputs' names and shapes,
//! knows how their input is prepared ([`Head::layout`]) and makes their decoder. A [`Decode`] takes one row of a batch
//! of outputs and a [`View`], which says how the picture was fitted into the network, and writes into a
//! [`CameraDetections`]: the detectors fill `objects`, TwinLiteNet fills `lanes` and `free_space`, and each leaves the
//! other fields alone, so that several networks may look at one camera; a multitask network fills all three.
//!
//! What all detectors promise: boxes are in picture pixels and **not clipped** to the picture, as the networks' own
//! reference code leaves them; scores are above the threshold; objects are sorted by score (descending, `total_cmp`),
//! ties by anchor (ascending); suppression is greedy and within a class; at most
//! [`MAX_DETECTIONS`](crate::messages::MAX_DETECTIONS) leave and the strongest stay; values that are not finite never
//! become a detection; nothing is allocated after construction; the same values give the same bits on every machine.

pub mod coco;
pub mod fastestdet;
pub mod free_space;
pub mod lanes;
pub mod multitask;
pub mod nms;
pub mod picodet;
pub mod rtdetr;
pub mod twinlitenet;
pub mod yolov5;
pub mod yolov8;
pub mod yolox;

#[cfg(test)]
pub(crate) mod testing;

use std::array;
use std::slice::ChunksExact;

use thiserror::Error;

use crate::messages::{BoxPx, CameraDetections};
use crate::stages::infer::{Tensor, TensorSpec};
use crate::stages::preprocess::{Layout, Letterbox};

use nms::{Candidate, Candidates};

/// Most classes that a detector may tell apart; more means that an output's shape was misread.
pub const MAX_CLASSES: usize = 4096;

/// Largest network input that buffers are made for, in pixels each way; [`Layout`] refuses larger ones.
const MAX_NETWORK_PX: usize = 8192;

/// The kinds of network that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Head {
    /// YOLOX without its grid decoding: one output `[batch, anchors, 5 + classes]`.
    Yolox,
    /// YOLOv5 as Ultralytics exports it: one output `[batch, 3 x cells, 5 + classes]`.
    YoloV5,
    /// YOLOv8 and YOLO11 as Ultralytics exports them: one output `[batch, 4 + classes, cells]`.
    YoloV8,
    /// FastestDet: one output `[batch, 5 + classes, height / 16, width / 16]`.
    FastestDet,
    /// PicoDet without its post-processing: per stride scores `[batch, cells, classes]`, then distances
    /// `[batch, cells, 4 x bins]`.
    PicoDet,
    /// RT-DETR: one output `[batch, queries, 4 + classes]` (Ultralytics), or `logits` and `pred_boxes` (Hugging Face).
    RtDetr,
    /// TwinLiteNet: `da` and `ll`, each `[batch, 2, height, width]`.
    TwinLiteNet,
    /// Boxes and masks of one network: `objects` as YOLOv8's output, `da` and `ll` as TwinLiteNet's.
    Multitask,
}

/// Why no head was found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeHeadError {
    /// No head has such outputs.
    #[error(
        "no head fits the model: expected the outputs of one of {expected}, found inputs {inputs} and outputs {outputs}; \
         name the head with --head"
    )]
    NotRecognised {
        /// Names of all heads.
        expected: String,
        /// The model's inputs, names and shapes.
        inputs: String,
        /// The model's outputs, names and shapes.
        outputs: String,
    },
    /// No head has this name.
    #[error("there is no head of this name: expected one of {expected}, found {found:?}")]
    UnknownName {
        /// Names of all heads.
        expected: String,
        /// The name.
        found: String,
    },
}

/// Why a network's outputs could not be decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeOutputsError {
    /// An output is missing.
    #[error("{head} needs output {output}, found {found} outputs")]
    MissingOutput {
        /// Name of the head.
        head: &'static str,
        /// Position of the output, from 0.
        output: usize,
        /// How many outputs there are.
        found: usize,
    },
    /// An output has fewer rows than the batch has pictures.
    #[error("output {output} of {head}: expected a row {row}, found shape {found:?}")]
    MissingRow {
        /// Name of the head.
        head: &'static str,
        /// Position of the output, from 0.
        output: usize,
        /// The row, from 0.
        row: usize,
        /// Shape of the output.
        found: Vec<usize>,
    },
    /// An output's values do not fill its shape.
    #[error("output {output} of {head}: expected the values of shape {shape:?}, found {found} values")]
    WrongLength {
        /// Name of the head.
        head: &'static str,
        /// Position of the output, from 0.
        output: usize,
        /// Shape of the output.
        shape: Vec<usize>,
        /// How many values there are.
        found: usize,
    },
    /// An output has a shape that the head cannot have at this network size.
    #[error("output {output} of {head}: expected {expected}, found shape {found:?}")]
    WrongShape {
        /// Name of the head.
        head: &'static str,
        /// Position of the output, from 0.
        output: usize,
        /// What would fit.
        expected: String,
        /// Shape of the output.
        found: Vec<usize>,
    },
}

/// Maps a picture pixel to x and y on the ground in the vehicle frame, metres; nothing where it sees no ground.
pub type GroundFromPicture<'a> = &'a dyn Fn([f64; 2]) -> Option<[f64; 2]>;

/// How one picture was shown to the network, and what of it is wanted.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Where the picture lies in the network's input.
    pub letterbox: Letterbox,
    /// Detections have scores above this.
    pub score_threshold: f32,
    /// Boxes of a class whose intersection over union with a stronger one is above this are dropped.
    pub iou_threshold: f32,
    /// Most detections, at most [`MAX_DETECTIONS`](crate::messages::MAX_DETECTIONS).
    pub max_detections: usize,
    /// The camera's view of the road; without it there are neither lanes nor free space.
    pub ground_from_picture: Option<GroundFromPicture<'a>>,
}

impl View<'_> {
    /// The picture pixel under a pixel of the network's input; both have the centre of the top-left pixel at (0, 0),
    /// whereas a box is bounded by edges, so that half a pixel is added before and taken off behind.
    pub fn picture_from_network(&self, pixel: [f64; 2]) -> [f64; 2] {
        let (x, y) = (pixel[0] as f32 + 0.5, pixel[1] as f32 + 0.5);
        let point = self.letterbox.to_picture(BoxPx { left: x, top: y, right: x, bottom: y });
        [f64::from(point.left) - 0.5, f64::from(point.top) - 0.5]
    }
}

/// What a segmentation network saw, kept for drawing; row-major, 1 where the class was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Drivable area.
    pub drivable: Vec<u8>,
    /// Lane markings.
    pub lanes: Vec<u8>,
}

/// Decodes the outputs of one network.
pub trait Decode: Send {
    /// Decodes one row of the batch, the outputs being in the model's order, and replaces the fields of `seen` that
    /// this network fills. On an error those fields are empty.
    fn decode(
        &mut self,
        outputs: &[Tensor],
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), DecodeOutputsError>;

    /// The masks of the last row that was decoded, if the network makes any.
    fn masks(&self) -> Option<&Masks> {
        None
    }
}

impl Head {
    /// All heads.
    pub const ALL: [Head; 8] = [
        Head::Yolox,
        Head::YoloV5,
        Head::YoloV8,
        Head::FastestDet,
        Head::PicoDet,
        Head::RtDetr,
        Head::TwinLiteNet,
        Head::Multitask,
    ];

    /// The head's name, as in a rig and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Head::Yolox => "yolox",
            Head::YoloV5 => "yolov5",
            Head::YoloV8 => "yolov8",
            Head::FastestDet => "fastestdet",
            Head::PicoDet => "picodet",
            Head::RtDetr => "rtdetr",
            Head::TwinLiteNet => "twinlitenet",
            Head::Multitask => "multitask",
        }
    }

    /// The head of this name; `yolov11` and `yolo11` are other names of `yolov8`, whose outputs they share.
    pub fn from_name(name: &str) -> Result<Head, DecodeHeadError> {
        if matches!(name, "yolov11" | "yolo11") {
            return Ok(Head::YoloV8);
        }
        let known = Head::ALL.into_iter().find(|head| head.name() == name);
        known.ok_or_else(|| DecodeHeadError::UnknownName { expected: all_names(), found: name.to_owned() })
    }

    /// The head that a model's outputs fit. `class_names` are those of the model's own metadata, empty where it has
    /// none: they settle what shapes leave open. Where width and height of the input are free, names and metadata
    /// decide alone.
    pub fn recognise(
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        class_names: &[String],
    ) -> Result<Head, DecodeHeadError> {
        let found = if outputs.len() == 1 {
            outputs.first().and_then(|output| recognise_single(network_size(inputs), output, class_names))
        } else {
            recognise_several(outputs)
        };
        found.ok_or_else(|| DecodeHeadError::NotRecognised {
            expected: all_names(),
            inputs: describe(inputs),
            outputs: describe(outputs),
        })
    }

    /// How pictures are prepared for this head, at a network size in pixels.
    pub fn layout(self, width: usize, height: usize) -> Layout {
        match self {
            Head::Yolox => Layout::yolox(width, height),
            Head::YoloV5 => Layout::yolov5(width, height),
            Head::YoloV8 => Layout::yolov8(width, height),
            Head::FastestDet => Layout::fastestdet(width, height),
            Head::PicoDet => Layout::picodet(width, height),
            Head::RtDetr => Layout::rtdetr(width, height),
            Head::TwinLiteNet => Layout::twinlitenet(width, height),
            Head::Multitask => Layout::multitask(width, height),
        }
    }

    /// Class names where neither the model nor the rig names any: COCO's, or none for a network without classes.
    pub fn default_class_names(self) -> &'static [&'static str] {
        match self {
            Head::TwinLiteNet => &[],
            _ => &coco::COCO_NAMES,
        }
    }

    /// How many classes a model with this head tells apart, where the shapes of its outputs say so and make sense.
    pub fn class_count(self, outputs: &[TensorSpec]) -> Option<usize> {
        let size = |output: usize, dimension: usize| {
            outputs.get(output).and_then(|output| output.shape.get(dimension).copied().flatten())
        };
        // the size that counts the classes, and how much of it stands before them
        let (values, before_classes) = match self {
            Head::Yolox | Head::YoloV5 => (size(0, 2), 5),
            Head::YoloV8 => (size(0, 1), 4),
            Head::FastestDet => (size(0, 1), 5),
            Head::PicoDet => (size(0, 2), 0),
            Head::RtDetr => match rtdetr::find_pair(outputs) {
                Some((logits, _)) => (size(logits, 2), 0),
                None => (size(0, 2), 4),
            },
            Head::TwinLiteNet => return None,
            Head::Multitask => (size(position(outputs, multitask::OBJECTS).unwrap_or(0), 1), 4),
        };
        values.filter(|values| has_classes(*values, before_classes)).map(|values| values - before_classes)
    }

    /// A decoder for a network of this size in pixels. `outputs` tell which output is which where names do.
    pub fn decoder(self, width: usize, height: usize, outputs: &[TensorSpec]) -> Box<dyn Decode> {
        // a model's file may claim any size; the buffers must not follow it
        let (width, height) = (width.min(MAX_NETWORK_PX), height.min(MAX_NETWORK_PX));
        match self {
            Head::Yolox => yolox::decoder(width, height),
            Head::YoloV5 => yolov5::decoder(width, height),
            Head::YoloV8 => yolov8::decoder(width, height, Head::YoloV8, 0),
            Head::FastestDet => fastestdet::decoder(width, height),
            Head::PicoDet => picodet::decoder(width, height),
            Head::RtDetr => rtdetr::decoder(width, height, outputs),
            Head::TwinLiteNet => Box::new(twinlitenet::TwinLiteNet::new(width, height, outputs)),
            Head::Multitask => Box::new(multitask::Multitask::new(width, height, outputs)),
        }
    }
}

fn all_names() -> String {
    Head::ALL.map(Head::name).join(", ")
}

fn describe(specs: &[TensorSpec]) -> String {
    if specs.is_empty() {
        return "none".to_owned();
    }
    specs.iter().map(|spec| format!("{} {}", spec.name, spec.shape_text())).collect::<Vec<_>>().join(", ")
}

/// Width and height of the first input `[batch, channels, height, width]`, where both are fixed.
fn network_size(inputs: &[TensorSpec]) -> Option<(usize, usize)> {
    match inputs.first()?.shape.as_slice() {
        [_, _, Some(height), Some(width)] => Some((*width, *height)),
        _ => None,
    }
}

fn recognise_single(size: Option<(usize, usize)>, output: &TensorSpec, class_names: &[String]) -> Option<Head> {
    match output.shape.as_slice() {
        [_, Some(channels), rows, columns] => {
            let fits = |(width, height): (usize, usize)| {
                rows.is_none_or(|rows| rows == height.div_ceil(fastestdet::STRIDE))
                    && columns.is_none_or(|columns| columns == width.div_ceil(fastestdet::STRIDE))
            };
            (*channels > 5 && size.is_none_or(fits)).then_some(Head::FastestDet)
        }
        [_, rows, columns] => recognise_rows(size, *rows, *columns, class_names),
        _ => None,
    }
}

/// Tells heads with one output `[batch, rows, columns]` apart.
fn recognise_rows(
    size: Option<(usize, usize)>,
    rows: Option<usize>,
    columns: Option<usize>,
    class_names: &[String],
) -> Option<Head> {
    let cells = |count: Option<usize>, anchors_per_cell: usize, strides: &[usize]| {
        let (Some(count), Some((width, height))) = (count, size) else { return false };
        cell_count(width, height, strides).checked_mul(anchors_per_cell) == Some(count)
    };
    let cells_of_either = |count: Option<usize>, anchors_per_cell: usize| {
        cells(count, anchors_per_cell, &STRIDES_TO_32) || cells(count, anchors_per_cell, &STRIDES_TO_64)
    };
    let holds = |count: Option<usize>, before_classes: usize| {
        count.is_some_and(|count| count > before_classes)
            && (class_names.is_empty() || count == Some(before_classes + class_names.len()))
    };
    if cells(rows, 1, &STRIDES_TO_32) && holds(columns, 5) {
        return Some(Head::Yolox);
    }
    if cells_of_either(rows, 3) && holds(columns, 5) {
        return Some(Head::YoloV5);
    }
    if holds(rows, 4) && (cells_of_either(columns, 1) || columns.is_none()) {
        return Some(Head::YoloV8);
    }
    match (rows, columns) {
        // six columns without class names are boxes that were selected in the network already
        (Some(rtdetr::USUAL_QUERIES), Some(columns)) if columns == 6 && class_names.len() != 2 => None,
        (Some(rtdetr::USUAL_QUERIES), _) if holds(columns, 4) => Some(Head::RtDetr),
        // of the two heads with free rows only Ultralytics' exporter writes class names
        (None, _) if holds(columns, 5) && class_names.is_empty() => Some(Head::Yolox),
        (None, _) if holds(columns, 5) => Some(Head::YoloV5),
        _ => None,
    }
}

fn recognise_several(outputs: &[TensorSpec]) -> Option<Head> {
    let named = |name: &str| position(outputs, name).is_some();
    if named(twinlitenet::DRIVABLE) && named(twinlitenet::LANES) {
        return Some(if named(multitask::OBJECTS) { Head::Multitask } else { Head::TwinLiteNet });
    }
    if rtdetr::find_pair(outputs).is_some() {
        return Some(Head::RtDetr);
    }
    is_picodet(outputs).then_some(Head::PicoDet)
}

pub(crate) fn position(outputs: &[TensorSpec], name: &str) -> Option<usize> {
    outputs.iter().position(|output| output.name == name)
}

/// Whether the outputs are scores of three or four strides and as many distances, of equal cells stride by stride.
fn is_picodet(outputs: &[TensorSpec]) -> bool {
    let strides = outputs.len() / 2;
    if !outputs.len().is_multiple_of(2) || !(3..=STRIDES_TO_64.len()).contains(&strides) {
        return false;
    }
    let (scores, distances) = outputs.split_at(strides);
    scores.iter().zip(distances).all(|(score, distance)| match (score.shape.as_slice(), distance.shape.as_slice()) {
        ([_, cells, Some(_)], [_, other_cells, Some(sides)]) => cells == other_cells && sides.is_multiple_of(4),
        _ => false,
    })
}

/// The part of a detector that differs from head to head.
pub(crate) trait ReadBoxes: Send {
    /// Whether boxes that repeat a stronger one are dropped.
    const SUPPRESSES: bool = true;

    /// Reads the boxes and scores in one row of the batch.
    fn read(&mut self, outputs: &[Tensor], row: usize, found: &mut Found<'_>) -> Result<(), DecodeOutputsError>;
}

/// Takes what a detector reads, of one picture.
pub(crate) struct Found<'a> {
    letterbox: Letterbox,
    score_threshold: f32,
    candidates: &'a mut Candidates,
}

impl Found<'_> {
    /// Adds a box in network pixels if its score is above the threshold, which NaN never is.
    pub fn add(&mut self, anchor: u32, (class, score): (u16, f32), network_box: impl FnOnce() -> BoxPx) {
        if score > self.score_threshold {
            let box_px = self.letterbox.to_picture(network_box());
            self.candidates.push(Candidate { box_px, score, class, anchor });
        }
    }

    /// Adds a box whose score is its objectness times the largest of its class scores.
    pub fn add_joint(&mut self, anchor: u32, object: f32, classes: &[f32], network_box: impl FnOnce() -> BoxPx) {
        // class scores are at most 1, so no product can pass where the objectness does not
        if object.is_nan() || object <= self.score_threshold {
            return;
        }
        self.add(anchor, first_largest(classes.iter().map(|value| object * value)), network_box);
    }
}

/// Decodes the outputs of a network that sees boxes.
struct Detector<R> {
    reader: R,
    candidates: Candidates,
}

impl<R: ReadBoxes> Decode for Detector<R> {
    fn decode(
        &mut self,
        outputs: &[Tensor],
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), DecodeOutputsError> {
        seen.objects.clear();
        self.candidates.clear();
        let View { letterbox, score_threshold, .. } = *view;
        let mut found = Found { letterbox, score_threshold, candidates: &mut self.candidates };
        self.reader.read(outputs, row, &mut found)?;
        // no overlap is above infinity
        let iou_threshold = if R::SUPPRESSES { view.iou_threshold } else { f32::INFINITY };
        self.candidates.keep_best(iou_threshold, view.max_detections, &mut seen.objects);
        Ok(())
    }
}

/// A decoder for a network that sees at most so many boxes.
pub(crate) fn detector(boxes: usize, reader: impl ReadBoxes + 'static) -> Box<dyn Decode> {
    Box::new(Detector { reader, candidates: Candidates::with_capacity(boxes) })
}

/// Strides of the usual detectors.
pub(crate) const STRIDES_TO_32: [usize; 3] = [8, 16, 32];
/// Strides of detectors with one more level.
pub(crate) const STRIDES_TO_64: [usize; 4] = [8, 16, 32, 64];

/// Cells of all strides' grids; a grid covers the whole network input.
pub(crate) fn cell_count(width: usize, height: usize, strides: &[usize]) -> usize {
    strides
        .iter()
        .map(|stride| width.div_ceil(*stride).saturating_mul(height.div_ceil(*stride)))
        .fold(0, usize::saturating_add)
}

/// A cell of a detector's grids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Column.
    pub x: f32,
    /// Row.
    pub y: f32,
    /// Network pixels per cell.
    pub stride: f32,
}

/// The cells of all strides in the networks' order: stride by stride, row by row.
pub(crate) fn cells(width: usize, height: usize, strides: &[usize]) -> Vec<Cell> {
    let mut list = Vec::with_capacity(cell_count(width, height, strides));
    for stride in strides {
        for y in 0..height.div_ceil(*stride) {
            for x in 0..width.div_ceil(*stride) {
                list.push(Cell { x: x as f32, y: y as f32, stride: *stride as f32 });
            }
        }
    }
    list
}

/// One picture's part of an output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'t> {
    head: Head,
    output: usize,
    whole: &'t [usize],
    /// Shape without the batch.
    pub shape: &'t [usize],
    /// Values of this row.
    pub values: &'t [f32],
}

impl<'t> Row<'t> {
    /// Takes a row out of an output, after checking that the values fill the shape.
    pub fn take(head: Head, outputs: &'t [Tensor], output: usize, row: usize) -> Result<Self, DecodeOutputsError> {
        let Some(tensor) = outputs.get(output) else {
            return Err(DecodeOutputsError::MissingOutput { head: head.name(), output, found: outputs.len() });
        };
        let whole = tensor.shape.as_slice();
        let values = tensor.data.as_slice();
        let missing = || DecodeOutputsError::MissingRow { head: head.name(), output, row, found: whole.to_vec() };
        let (batch, shape) = whole.split_first().ok_or_else(missing)?;
        if row >= *batch {
            return Err(missing());
        }
        let length = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        if length.and_then(|length| length.checked_mul(*batch)) != Some(values.len()) {
            let (shape, found) = (whole.to_vec(), values.len());
            return Err(DecodeOutputsError::WrongLength { head: head.name(), output, shape, found });
        }
        let length = values.len() / *batch;
        let values = values.get(row * length..(row + 1) * length).ok_or_else(missing)?;
        Ok(Row { head, output, whole, shape, values })
    }

    /// The values as planes of `count` values each, which must not be 0: the `FIRST` ones by themselves, then the rest.
    pub fn planes<const FIRST: usize>(&self, count: usize) -> ([&'t [f32]; FIRST], ChunksExact<'t, f32>) {
        let mut planes = self.values.chunks_exact(count);
        (array::from_fn(|_| planes.next().unwrap_or_default()), planes)
    }

    /// The error that says what shape would fit.
    pub fn misfit(&self, expected: String) -> DecodeOutputsError {
        let found = self.whole.to_vec();
        DecodeOutputsError::WrongShape { head: self.head.name(), output: self.output, expected, found }
    }
}

/// Whether an output with so many values per anchor has room for classes behind its first ones.
pub(crate) fn has_classes(values: usize, before_classes: usize) -> bool {
    values > before_classes && values - before_classes <= MAX_CLASSES
}

/// The first of the largest values, and its index; NaN never wins.
pub(crate) fn first_largest(values: impl Iterator<Item = f32>) -> (u16, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    (u16::try_from(best.0).unwrap_or(u16::MAX), best.1)
}

/// The largest class score per anchor where classes come plane by plane; reads memory in order.
#[derive(Debug)]
pub(crate) struct PlaneMaxima {
    scores: Vec<f32>,
    classes: Vec<u16>,
}

impl PlaneMaxima {
    /// Buffers for so many anchors.
    pub fn with_capacity(anchors: usize) -> Self {
        PlaneMaxima { scores: Vec::with_capacity(anchors), classes: Vec::with_capacity(anchors) }
    }

    /// Reads the planes of all classes, each of `anchors` values; ties go to the lower class and NaN never wins.
    pub fn read<'t>(&mut self, anchors: usize, planes: impl Iterator<Item = &'t [f32]>) {
        self.scores.clear();
        self.scores.resize(anchors, f32::NEG_INFINITY);
        self.classes.clear();
        self.classes.resize(anchors, 0);
        for (index, plane) in planes.take(MAX_CLASSES).enumerate() {
            let class = index as u16;
            for ((value, best), best_class) in plane.iter().zip(&mut self.scores).zip(&mut self.classes) {
                if *value > *best {
                    *best = *value;
                    *best_class = class;
                }
            }
        }
    }

    /// The class with the largest score and that score, anchor by anchor.
    pub fn iter(&self) -> impl Iterator<Item = (u16, f32)> {
        self.classes.iter().copied().zip(self.scores.iter().copied())
    }
}

/// The box with this middle and size, edges as `middle -+ size / 2`.
pub(crate) fn box_around(x: f32, y: f32, width: f32, height: f32) -> BoxPx {
    let (half_width, half_height) = (width / 2.0, height / 2.0);
    BoxPx { left: x - half_width, top: y - half_height, right: x + half_width, bottom: y + half_height }
}

#[cfg(test)]
mod tests {
    use super::testing::{doubled_view, spec, tensor};
    use super::*;

    fn recognise(input: [usize; 2], outputs: &[TensorSpec], classes: usize) -> Option<Head> {
        let names = vec!["thing".to_owned(); classes];
        Head::recognise(&[spec("images", &[1, 3, input[0], input[1]])], outputs, &names).ok()
    }

    #[test]
    fn names_lead_back_to_their_heads() {
        for head in Head::ALL {
            assert_eq!(Head::from_name(head.name()), Ok(head));
        }
        assert_eq!(Head::from_name("yolo11"), Ok(Head::YoloV8));
        let error = Head::from_name("yolo9000").unwrap_err().to_string();
        assert!(error.contains("yolo9000") && error.contains("twinlitenet"), "{error}");
    }

    #[test]
    fn recognises_what_the_published_models_have() {
        assert_eq!(recognise([416, 416], &[spec("output", &[1, 3549, 85])], 0), Some(Head::Yolox));
        assert_eq!(recognise([0, 0], &[spec("output", &[1, 0, 85])], 0), Some(Head::Yolox));
        assert_eq!(recognise([640, 640], &[spec("output0", &[1, 25200, 85])], 80), Some(Head::YoloV5));
        assert_eq!(recognise([1280, 1280], &[spec("output0", &[1, 102_000, 85])], 80), Some(Head::YoloV5));
        assert_eq!(recognise([0, 0], &[spec("output0", &[0, 0, 85])], 80), Some(Head::YoloV5));
        assert_eq!(recognise([640, 640], &[spec("output0", &[1, 84, 8400])], 80), Some(Head::YoloV8));
        assert_eq!(recognise([640, 640], &[spec("output0", &[1, 5, 8400])], 1), Some(Head::YoloV8));
        assert_eq!(recognise([0, 0], &[spec("output0", &[0, 84, 0])], 80), Some(Head::YoloV8));
        assert_eq!(recognise([640, 640], &[spec("output0", &[1, 300, 84])], 80), Some(Head::RtDetr));
        assert_eq!(recognise([640, 640], &[spec("output0", &[1, 300, 6])], 2), Some(Head::RtDetr));
        assert_eq!(recognise([352, 352], &[spec("758", &[1, 85, 22, 22])], 0), Some(Head::FastestDet));
        let pair = [spec("logits", &[1, 300, 80]), spec("pred_boxes", &[1, 300, 4])];
        assert_eq!(recognise([640, 640], &pair, 0), Some(Head::RtDetr));
        let masks = [spec("da", &[1, 2, 360, 640]), spec("ll", &[1, 2, 360, 640])];
        assert_eq!(recognise([360, 640], &masks, 0), Some(Head::TwinLiteNet));
        let [drivable, lanes] = masks;
        let all = [drivable, lanes, spec("objects", &[1, 8, 4725])];
        assert_eq!(recognise([360, 640], &all, 0), Some(Head::Multitask));
        let cells = [2704, 676, 169, 49];
        let scores = cells.map(|cells| spec("scores", &[1, cells, 80]));
        let distances = cells.map(|cells| spec("distances", &[1, cells, 32]));
        let all: Vec<TensorSpec> = scores.into_iter().chain(distances).collect();
        assert_eq!(recognise([416, 416], &all, 0), Some(Head::PicoDet));
    }

    #[test]
    fn shapes_tell_how_many_classes_there_are() {
        let count = |head: Head, shape: &[usize]| head.class_count(&[spec("output", shape)]);
        assert_eq!(count(Head::Yolox, &[1, 3549, 85]), Some(80));
        assert_eq!(count(Head::YoloV5, &[0, 0, 6]), Some(1));
        assert_eq!(count(Head::YoloV8, &[1, 84, 8400]), Some(80));
        assert_eq!(count(Head::FastestDet, &[1, 85, 22, 22]), Some(80));
        assert_eq!(count(Head::PicoDet, &[1, 2704, 80]), Some(80));
        assert_eq!(count(Head::RtDetr, &[1, 300, 84]), Some(80));
        let pair = [spec("pred_boxes", &[1, 300, 4]), spec("logits", &[1, 300, 80])];
        assert_eq!(Head::RtDetr.class_count(&pair), Some(80));
        assert_eq!(count(Head::TwinLiteNet, &[1, 2, 360, 640]), None);
        let [drivable, lanes] = ["da", "ll"].map(|name| spec(name, &[1, 2, 360, 640]));
        assert_eq!(Head::Multitask.class_count(&[drivable, lanes, spec("objects", &[1, 8, 4725])]), Some(4));
    }

    #[test]
    fn shapes_that_are_open_or_make_no_sense_tell_no_classes() {
        for head in Head::ALL {
            for shape in [&[0, 0, 0][..], &[1, 0, 0, 0], &[1], &[]] {
                assert_eq!(head.class_count(&[spec("output", shape)]), None, "{head:?} {shape:?}");
            }
            assert_eq!(head.class_count(&[]), None);
            // too many to be classes
            assert_eq!(head.class_count(&[spec("output", &[1, 100_000, 100_000])]), None);
        }
        assert_eq!(Head::Yolox.class_count(&[spec("output", &[1, 3549, 5])]), None);
        assert_eq!(Head::YoloV8.class_count(&[spec("output", &[1, 3, 8400])]), None);
    }

    #[test]
    fn says_what_it_found_where_nothing_fits() {
        let inputs = [spec("images", &[1, 3, 640, 640])];
        for shape in [&[1, 1000][..], &[1, 300, 6], &[1, 1234, 85], &[1, 85, 7, 7], &[]] {
            let error = Head::recognise(&inputs, &[spec("prediction", shape)], &[]).unwrap_err().to_string();
            assert!(error.contains("prediction") && error.contains("--head"), "{error}");
        }
        let error = Head::recognise(&[], &[], &[]).unwrap_err().to_string();
        assert!(error.contains("outputs none"), "{error}");
        let free = Head::recognise(&inputs, &[spec("x", &[0, 7])], &[]).unwrap_err().to_string();
        assert!(free.contains("x ?x7"), "{free}");
    }

    #[test]
    fn cells_are_numbered_stride_by_stride_and_row_by_row() {
        let list = cells(64, 32, &STRIDES_TO_32);
        assert_eq!(list.len(), 8 * 4 + 4 * 2 + 2);
        assert_eq!(list.get(9), Some(&Cell { x: 1.0, y: 1.0, stride: 8.0 }));
        assert_eq!(list.last(), Some(&Cell { x: 1.0, y: 0.0, stride: 32.0 }));
        assert_eq!(cell_count(416, 416, &STRIDES_TO_64), 2704 + 676 + 169 + 49);
    }

    #[test]
    fn rows_are_checked_before_they_are_read() {
        let take =
            |outputs: &[Tensor], row: usize| Row::take(Head::Yolox, outputs, 0, row).map(|row| row.values.to_vec());
        let two = [tensor(&[2, 1, 2], vec![1.0, 2.0, 3.0, 4.0])];
        assert_eq!(take(&two, 1), Ok(vec![3.0, 4.0]));
        assert!(matches!(take(&two, 2), Err(DecodeOutputsError::MissingRow { row: 2, .. })));
        assert!(matches!(take(&[], 0), Err(DecodeOutputsError::MissingOutput { found: 0, .. })));
        let mut short = tensor(&[1, 2], vec![1.0, 2.0]);
        short.data.pop();
        assert!(matches!(take(&[short], 0), Err(DecodeOutputsError::WrongLength { found: 1, .. })));
        let mut huge = tensor(&[1], vec![1.0]);
        huge.shape = heapless::Vec::from_slice(&[1, usize::MAX, 2]).unwrap();
        assert!(matches!(take(&[huge], 0), Err(DecodeOutputsError::WrongLength { .. })));
        assert!(matches!(take(&[tensor(&[0, 3], vec![])], 0), Err(DecodeOutputsError::MissingRow { .. })));
    }

    #[test]
    fn the_first_largest_wins_and_nan_does_not() {
        assert_eq!(first_largest([0.1, 0.7, f32::NAN, 0.7].into_iter()), (1, 0.7));
        assert_eq!(first_largest(std::iter::empty()), (0, f32::NEG_INFINITY));
        let mut maxima = PlaneMaxima::with_capacity(2);
        maxima.read(2, [[0.1, f32::NAN].as_slice(), &[0.7, 0.2], &[0.7, 0.1]].into_iter());
        assert_eq!(maxima.iter().collect::<Vec<_>>(), [(1, 0.7), (1, 0.2)]);
    }

    #[test]
    fn pixels_map_by_their_centres() {
        // the network's pixel 0 covers the picture's pixels 0 and 1, so its centre lies between them
        assert_eq!(doubled_view().picture_from_network([0.0, 3.0]), [0.5, 6.5]);
    }

    #[test]
    fn decoders_report_missing_outputs() {
        let mut seen = CameraDetections::default();
        for head in Head::ALL {
            let mut decoder = head.decoder(64, 64, &[]);
            let error = decoder.decode(&[], 0, &doubled_view(), &mut seen).unwrap_err().to_string();
            assert!(error.contains(head.name()), "{error}");
        }
    }
}
