//! Decoding on the GPU: from a network's outputs in device memory to one small block that is copied home and read.
//!
//! A [`DecodePlan`] is made of a head and the shapes of its outputs. It says how much memory is needed, and a
//! [`HeadDecode`] puts the kernels into a stream: boxes to suppressed detections, logits to masks, runs and tops. A
//! [`ResultReader`] then writes what came home into [`CameraDetections`], as the head's own
//! [`Decode`](crate::stages::decode::Decode) does.
//!
//! Promises: the same outputs give the same bits and the same order as on the CPU; neither enqueuing nor reading
//! allocates; what has no picture has no candidates.

use std::sync::Arc;

use thiserror::Error;

use super::abi::{
    self, CatseyeCandidate, CatseyeDecodeParams, CatseyeDetection, CatseyeDetections, CatseyeGrid, CatseyeLetterbox,
    CatseyeMaskParams, CatseyeNmsParams, CatseyeRowRuns, CatseyeRun,
};
use super::{Context, DeviceBuffer, GpuError, Kernel, Kernels, Stream};
use crate::messages::{BoxPx, CameraDetections, Detection, MAX_DETECTIONS};
use crate::stages::decode::free_space::{BONNET_PARTS, COLUMN_STEP, FreeSpaceFinder, MAX_GAP_ROWS};
use crate::stages::decode::lanes::{LaneFinder, MAX_RUNS, Run};
use crate::stages::decode::{
    DecodeOutputsError, Head, Masks, STRIDES_TO_32, STRIDES_TO_64, View, cell_count, fastestdet, has_classes,
    multitask, picodet, position, rtdetr, twinlitenet, yolov5,
};
use crate::stages::infer::TensorSpec;
use crate::stages::preprocess::Letterbox;

const _: () = assert!(MAX_DETECTIONS == abi::CATSEYE_MAX_DETECTIONS as usize);
const _: () = assert!(MAX_RUNS == abi::CATSEYE_MAX_RUNS as usize);
const _: () = assert!(picodet::MAX_BINS == abi::CATSEYE_MAX_BINS as usize);

/// Keys that are sorted without the workspace; `CHUNK_KEYS` in `cuda/nms.cu`.
const SHARED_KEYS: usize = 4096;
/// Largest network input, in pixels each way: columns fit 16 bits and anchors 32.
const MAX_NETWORK_PX: usize = 8192;
/// Most pictures of a batch.
const MAX_ROWS: usize = 1024;
/// Every part of a buffer begins at a multiple of this.
const ALIGNMENT: usize = 256;

/// Why a head cannot be decoded on the GPU.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanDecodeError {
    /// The outputs are not the head's.
    #[error(transparent)]
    Outputs(#[from] DecodeOutputsError),
    /// The network's input is empty or too large.
    #[error("network input is {width} x {height} pixels: expected 1 x 1 to {MAX_NETWORK_PX} x {MAX_NETWORK_PX}")]
    NetworkSize {
        /// Its width in pixels.
        width: usize,
        /// Its height in pixels.
        height: usize,
    },
    /// The batch is empty, too large, or not the same for all outputs.
    #[error("batch of {found} pictures: expected 1 to {MAX_ROWS}, and the same in all outputs")]
    Rows {
        /// How many pictures an output has.
        found: usize,
    },
}

/// Why what came home could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadResultsError {
    /// The block has another size than the plan says.
    #[error("decoded results have {found} bytes: expected {expected}")]
    Length {
        /// What the plan says.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// There is no such picture.
    #[error("decoded results have {rows} pictures: asked for {row}, counted from 0")]
    Row {
        /// How many there are.
        rows: usize,
        /// The one that was asked for.
        row: usize,
    },
}

/// How boxes are read.
#[derive(Clone, Debug)]
struct BoxPlan {
    /// One of `CATSEYE_HEAD_*`.
    head: u32,
    /// Positions of the outputs, in the order that the kernel expects.
    outputs: heapless::Vec<usize, { abi::CATSEYE_MAX_OUTPUTS as usize }>,
    anchors: usize,
    classes: usize,
    bins: usize,
    grids: heapless::Vec<CatseyeGrid, { abi::CATSEYE_MAX_GRIDS as usize }>,
    suppresses: bool,
}

/// Which outputs hold the logits.
#[derive(Clone, Copy, Debug)]
struct RoadPlan {
    drivable: usize,
    lanes: usize,
}

/// What one network's decoding needs and gives.
#[derive(Clone, Debug)]
pub struct DecodePlan {
    rows: usize,
    width: usize,
    height: usize,
    boxes: Option<BoxPlan>,
    road: Option<RoadPlan>,
}

/// Parts of a buffer, one behind the other.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    end: usize,
}

impl Places {
    fn take(&mut self, count: usize, bytes_each: usize) -> usize {
        let start = self.end.next_multiple_of(ALIGNMENT);
        self.end = start.saturating_add(count.saturating_mul(bytes_each));
        start
    }
}

/// Where the parts of the workspace begin.
struct WorkspacePlaces {
    candidates: usize,
    keys: usize,
    counts: usize,
    sorted: usize,
    end: usize,
}

/// Where the parts of the results begin.
#[derive(Clone, Copy, Debug)]
struct ResultPlaces {
    detections: usize,
    runs: usize,
    tops: usize,
    end: usize,
}

impl DecodePlan {
    /// For a head with a network input of this size in pixels. `specs` name the outputs, and `shapes` are theirs, the
    /// batch being the first size.
    pub fn new(
        head: Head,
        width: usize,
        height: usize,
        specs: &[TensorSpec],
        shapes: &[&[usize]],
    ) -> Result<Self, PlanDecodeError> {
        let allowed = 1..=MAX_NETWORK_PX;
        if !allowed.contains(&width) || !allowed.contains(&height) {
            return Err(PlanDecodeError::NetworkSize { width, height });
        }
        let outputs = Outputs { head, shapes };
        let boxes = match head {
            Head::Yolox => Some(plan_yolox(&outputs, width, height)?),
            Head::YoloV5 => Some(plan_yolov5(&outputs, width, height)?),
            Head::YoloV8 => Some(plan_yolov8(&outputs, width, height, 0)?),
            Head::FastestDet => Some(plan_fastestdet(&outputs, width, height)?),
            Head::PicoDet => Some(plan_picodet(&outputs, width, height)?),
            Head::RtDetr => Some(plan_rtdetr(&outputs, specs)?),
            Head::Multitask => {
                Some(plan_yolov8(&outputs, width, height, position(specs, multitask::OBJECTS).unwrap_or(0))?)
            }
            Head::TwinLiteNet => None,
        };
        let usual = match head {
            Head::TwinLiteNet => Some([0, 1]),
            Head::Multitask => Some([1, 2]),
            _ => None,
        };
        let road = usual.map(|[drivable, lanes]| RoadPlan {
            drivable: position(specs, twinlitenet::DRIVABLE).unwrap_or(drivable),
            lanes: position(specs, twinlitenet::LANES).unwrap_or(lanes),
        });
        if let Some(RoadPlan { drivable, lanes }) = road {
            for output in [drivable, lanes] {
                if outputs.shape(output)? != [2, height, width] {
                    return Err(outputs.misfit(output, format!("[batch, 2, {height}, {width}]")));
                }
            }
        }
        let rows = shapes.first().and_then(|shape| shape.first().copied()).unwrap_or(0);
        let others = shapes.iter().filter_map(|shape| shape.first().copied());
        if let Some(found) = others.chain([rows]).find(|found| *found != rows || !(1..=MAX_ROWS).contains(found)) {
            return Err(PlanDecodeError::Rows { found });
        }
        Ok(DecodePlan { rows, width, height, boxes, road })
    }

    /// Pictures of a batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Device memory that the kernels need for themselves.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace().end
    }

    /// The block that is copied home: detections, runs and tops of all pictures.
    pub fn result_bytes(&self) -> usize {
        self.results().end
    }

    /// Device memory for the masks: drivable area of all pictures, then lane markings of all pictures. They are copied
    /// home only to be drawn.
    pub fn mask_bytes(&self) -> usize {
        if self.road.is_some() { 2 * self.rows * self.pixels() } else { 0 }
    }

    fn pixels(&self) -> usize {
        self.width * self.height
    }

    fn blocks(&self) -> usize {
        let anchors = self.boxes.as_ref().map_or(0, |boxes| boxes.anchors);
        anchors.div_ceil(abi::CATSEYE_DECODE_THREADS as usize)
    }

    /// Keys per picture that are sorted in the workspace.
    fn sorted_stride(&self) -> usize {
        let anchors = self.boxes.as_ref().map_or(0, |boxes| boxes.anchors);
        if anchors > SHARED_KEYS { anchors.next_power_of_two() } else { 0 }
    }

    fn tops(&self) -> usize {
        self.width.div_ceil(COLUMN_STEP)
    }

    fn workspace(&self) -> WorkspacePlaces {
        let anchors = self.boxes.as_ref().map_or(0, |boxes| boxes.anchors);
        let (rows, blocks) = (self.rows, self.blocks());
        let mut places = Places::default();
        let candidates = places.take(rows * anchors, size_of::<CatseyeCandidate>());
        let keys = places.take(rows * blocks * abi::CATSEYE_DECODE_THREADS as usize, size_of::<u64>());
        let counts = places.take(rows * (blocks + 1), size_of::<u32>());
        let sorted = places.take(rows * self.sorted_stride(), size_of::<u64>());
        WorkspacePlaces { candidates, keys, counts, sorted, end: places.end.next_multiple_of(ALIGNMENT) }
    }

    fn results(&self) -> ResultPlaces {
        let (with_boxes, with_road) = (usize::from(self.boxes.is_some()), usize::from(self.road.is_some()));
        let mut places = Places::default();
        let detections = places.take(with_boxes * self.rows, size_of::<CatseyeDetections>());
        let runs = places.take(with_road * self.rows * self.height, size_of::<CatseyeRowRuns>());
        let tops = places.take(with_road * self.rows * self.tops(), size_of::<i32>());
        ResultPlaces { detections, runs, tops, end: places.end.next_multiple_of(ALIGNMENT) }
    }
}

/// A model's outputs by their shapes.
struct Outputs<'a> {
    head: Head,
    shapes: &'a [&'a [usize]],
}

impl<'a> Outputs<'a> {
    /// The shape without the batch.
    fn shape(&self, output: usize) -> Result<&'a [usize], PlanDecodeError> {
        let (head, found) = (self.head.name(), self.shapes.len());
        let whole = self.shapes.get(output).ok_or(DecodeOutputsError::MissingOutput { head, output, found })?;
        let missing = || DecodeOutputsError::MissingRow { head, output, row: 0, found: whole.to_vec() };
        Ok(whole.split_first().ok_or_else(missing)?.1)
    }

    fn misfit(&self, output: usize, expected: String) -> PlanDecodeError {
        let found = self.shapes.get(output).map(|shape| shape.to_vec()).unwrap_or_default();
        DecodeOutputsError::WrongShape { head: self.head.name(), output, expected, found }.into()
    }
}

/// A plan that suppresses and needs no grids.
fn box_plan(head: u32, outputs: &[usize], anchors: usize, classes: usize) -> BoxPlan {
    // no head reads more outputs than fit
    let outputs = heapless::Vec::from_slice(outputs).unwrap_or_default();
    BoxPlan { head, outputs, anchors, classes, bins: 0, grids: heapless::Vec::new(), suppresses: true }
}

/// The grids of these strides, as many as fit.
fn grids(width: usize, height: usize, strides: &[usize]) -> heapless::Vec<CatseyeGrid, 4> {
    let mut first = 0;
    let grids = strides.iter().map(|stride| {
        let (columns, rows) = (width.div_ceil(*stride), height.div_ceil(*stride));
        let grid = CatseyeGrid {
            first: count(first),
            columns: count(columns),
            cells: count(columns * rows),
            stride: count(*stride),
        };
        first += columns * rows;
        grid
    });
    grids.take(abi::CATSEYE_MAX_GRIDS as usize).collect()
}

/// A count for a kernel. Plans keep all counts far below 2^32.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn plan_yolox(outputs: &Outputs<'_>, width: usize, height: usize) -> Result<BoxPlan, PlanDecodeError> {
    let anchors = cell_count(width, height, &STRIDES_TO_32);
    match outputs.shape(0)? {
        [found, values] if *found == anchors && has_classes(*values, 5) => Ok(BoxPlan {
            grids: grids(width, height, &STRIDES_TO_32),
            ..box_plan(abi::CATSEYE_HEAD_YOLOX, &[0], anchors, values - 5)
        }),
        _ => Err(outputs.misfit(0, format!("[batch, {anchors}, 5 + classes]"))),
    }
}

fn plan_yolov5(outputs: &Outputs<'_>, width: usize, height: usize) -> Result<BoxPlan, PlanDecodeError> {
    let anchors = |strides: &[usize]| cell_count(width, height, strides) * yolov5::ANCHORS_PER_CELL;
    let [usual, p6] = [anchors(&STRIDES_TO_32), anchors(&STRIDES_TO_64)];
    match outputs.shape(0)? {
        [found, values] if [usual, p6].contains(found) && has_classes(*values, 5) => {
            Ok(box_plan(abi::CATSEYE_HEAD_YOLOV5, &[0], *found, values - 5))
        }
        _ => Err(outputs.misfit(0, format!("[batch, {usual} or {p6}, 5 + classes]"))),
    }
}

fn plan_yolov8(outputs: &Outputs<'_>, width: usize, height: usize, output: usize) -> Result<BoxPlan, PlanDecodeError> {
    let [usual, p6] = [cell_count(width, height, &STRIDES_TO_32), cell_count(width, height, &STRIDES_TO_64)];
    match outputs.shape(output)? {
        [channels, found] if [usual, p6].contains(found) && has_classes(*channels, 4) => {
            Ok(box_plan(abi::CATSEYE_HEAD_YOLOV8, &[output], *found, channels - 4))
        }
        _ => Err(outputs.misfit(output, format!("[batch, 4 + classes, {usual} or {p6}]"))),
    }
}

fn plan_fastestdet(outputs: &Outputs<'_>, width: usize, height: usize) -> Result<BoxPlan, PlanDecodeError> {
    let (columns, rows) = (width.div_ceil(fastestdet::STRIDE), height.div_ceil(fastestdet::STRIDE));
    match outputs.shape(0)? {
        [channels, found_rows, found_columns]
            if *found_rows == rows && *found_columns == columns && has_classes(*channels, 5) =>
        {
            Ok(BoxPlan {
                grids: grids(width, height, &[fastestdet::STRIDE]),
                ..box_plan(abi::CATSEYE_HEAD_FASTESTDET, &[0], rows * columns, channels - 5)
            })
        }
        _ => Err(outputs.misfit(0, format!("[batch, 5 + classes, {rows}, {columns}]"))),
    }
}

/// Classes and bins are those of the first stride; a model whose strides differ is left to the CPU.
fn plan_picodet(outputs: &Outputs<'_>, width: usize, height: usize) -> Result<BoxPlan, PlanDecodeError> {
    let strides = (outputs.shapes.len() / 2).clamp(1, STRIDES_TO_64.len());
    let used = STRIDES_TO_64.get(..strides).unwrap_or_default();
    let classes = outputs.shape(0)?.get(1).copied().unwrap_or(0);
    let values = outputs.shape(strides)?.get(1).copied().unwrap_or(0);
    for (stride, pixels) in used.iter().enumerate() {
        let cells = cell_count(width, height, &[*pixels]);
        if *outputs.shape(stride)? != [cells, classes] || !has_classes(classes, 0) {
            return Err(outputs.misfit(stride, format!("[batch, {cells}, classes], the same at all strides")));
        }
        let sides_fit = values.is_multiple_of(4) && (4..=4 * picodet::MAX_BINS).contains(&values);
        if *outputs.shape(strides + stride)? != [cells, values] || !sides_fit {
            let most = picodet::MAX_BINS;
            let expected = format!("[batch, {cells}, 4 x bins] with at most {most} bins, the same at all strides");
            return Err(outputs.misfit(strides + stride, expected));
        }
    }
    let order: heapless::Vec<usize, { abi::CATSEYE_MAX_OUTPUTS as usize }> = (0..2 * strides).collect();
    let anchors = cell_count(width, height, used);
    Ok(BoxPlan {
        bins: values / 4,
        grids: grids(width, height, used),
        ..box_plan(abi::CATSEYE_HEAD_PICODET, &order, anchors, classes)
    })
}

fn plan_rtdetr(outputs: &Outputs<'_>, specs: &[TensorSpec]) -> Result<BoxPlan, PlanDecodeError> {
    let most = rtdetr::MAX_QUERIES;
    let Some((logits, boxes)) = rtdetr::find_pair(specs) else {
        return match outputs.shape(0)? {
            [queries, values] if (1..=most).contains(queries) && has_classes(*values, 4) => Ok(BoxPlan {
                suppresses: false,
                ..box_plan(abi::CATSEYE_HEAD_RTDETR_JOINED, &[0], *queries, values - 4)
            }),
            _ => Err(outputs.misfit(0, format!("[batch, at most {most}, 4 + classes]"))),
        };
    };
    let (queries, classes) = match outputs.shape(logits)? {
        [queries, classes] if (1..=most).contains(queries) && has_classes(*classes, 0) => (*queries, *classes),
        _ => return Err(outputs.misfit(logits, format!("[batch, at most {most}, classes]"))),
    };
    if *outputs.shape(boxes)? != [queries, 4] {
        return Err(outputs.misfit(boxes, format!("[batch, {queries}, 4]")));
    }
    let plan = box_plan(abi::CATSEYE_HEAD_RTDETR_SPLIT, &[logits, boxes], queries, classes);
    Ok(BoxPlan { suppresses: false, ..plan })
}

/// What is wanted of the boxes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Detections have scores above this.
    pub score: f32,
    /// Boxes of a class whose intersection over union with a stronger one is above this are dropped.
    pub iou: f32,
    /// Most detections, at most [`MAX_DETECTIONS`].
    pub max_detections: usize,
}

/// Addresses on the device that one network's decoding reads and writes; all but the outputs are multiples of 256.
#[derive(Clone, Copy, Debug)]
pub struct DecodeAddresses<'a> {
    /// The outputs, `f32`, in the model's order and with the shapes of the plan.
    pub outputs: &'a [u64],
    /// A `u32` per picture, 0 where there is none in this tick; without it all are there.
    pub present: Option<u64>,
    /// [`DecodePlan::workspace_bytes`] bytes.
    pub workspace: u64,
    /// [`DecodePlan::result_bytes`] bytes, a part of the block that is copied home.
    pub results: u64,
    /// [`DecodePlan::mask_bytes`] bytes.
    pub masks: u64,
}

/// The kernels that read boxes.
#[derive(Debug)]
struct BoxKernels {
    decode: Kernel,
    decode_params: CatseyeDecodeParams,
    nms: Kernel,
    nms_params: CatseyeNmsParams,
}

/// The kernels that read masks.
#[derive(Debug)]
struct RoadKernels {
    masks: Kernel,
    tops: Kernel,
    params: CatseyeMaskParams,
}

/// Decodes the outputs of one network on the device.
#[derive(Debug)]
pub struct HeadDecode {
    boxes: Option<BoxKernels>,
    road: Option<RoadKernels>,
    /// The kernels hold its address.
    _letterboxes: DeviceBuffer,
}

impl HeadDecode {
    /// Finds the kernels and freezes their parameters. `letterboxes` say how each picture of the batch was fitted; a
    /// missing one is that of a picture that lies in the network's input as it is.
    pub fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        plan: &DecodePlan,
        thresholds: Thresholds,
        letterboxes: &[Letterbox],
        addresses: DecodeAddresses<'_>,
    ) -> Result<Self, GpuError> {
        let letterboxes = upload_letterboxes(context, letterboxes, plan.rows)?;
        let boxes = match &plan.boxes {
            None => None,
            Some(boxes) => Some(BoxKernels {
                decode: kernels.get("catseye_decode")?,
                decode_params: decode_params(plan, boxes, thresholds.score, letterboxes.address(), &addresses),
                nms: kernels.get("catseye_nms")?,
                nms_params: nms_params(plan, boxes, thresholds, &addresses),
            }),
        };
        let road = match plan.road {
            None => None,
            Some(road) => Some(RoadKernels {
                masks: kernels.get("catseye_masks")?,
                tops: kernels.get("catseye_free_tops")?,
                params: mask_params(plan, road, &addresses),
            }),
        };
        Ok(HeadDecode { boxes, road, _letterboxes: letterboxes })
    }

    /// Puts the kernels into the stream, behind what makes the outputs. Can be captured.
    pub fn enqueue(&self, stream: &Stream) -> Result<(), GpuError> {
        if let Some(BoxKernels { decode, decode_params, nms, nms_params }) = &self.boxes {
            let (blocks, rows) = (decode_params.blocks, decode_params.rows);
            stream.launch(decode, [blocks, rows, 1], [abi::CATSEYE_DECODE_THREADS, 1, 1], 0, decode_params)?;
            stream.launch(nms, [rows, 1, 1], [abi::CATSEYE_NMS_THREADS, 1, 1], 0, nms_params)?;
        }
        if let Some(RoadKernels { masks, tops, params }) = &self.road {
            let threads = abi::CATSEYE_MASK_THREADS;
            let grid = [params.height.div_ceil(threads / 32), params.rows, 2];
            stream.launch(masks, grid, [threads, 1, 1], 0, params)?;
            stream.launch(tops, [params.tops.div_ceil(threads), params.rows, 1], [threads, 1, 1], 0, params)?;
        }
        Ok(())
    }
}

fn upload_letterboxes(
    context: &Arc<Context>,
    letterboxes: &[Letterbox],
    rows: usize,
) -> Result<DeviceBuffer, GpuError> {
    let all = letterboxes.iter().copied().chain(std::iter::repeat(Letterbox::default())).take(rows);
    let mut bytes = Vec::with_capacity(rows * size_of::<CatseyeLetterbox>());
    for Letterbox { scale_x, scale_y, pad_left, pad_top } in all {
        // the order of `CatseyeLetterbox`
        bytes.extend([scale_x, scale_y, pad_left, pad_top].into_iter().flat_map(f32::to_ne_bytes));
    }
    DeviceBuffer::from_bytes(context, &bytes)
}

/// The address of a part.
fn at(base: u64, offset: usize) -> u64 {
    base.wrapping_add(offset as u64)
}

/// The address of an output; the plan has checked that there is one.
fn output_at(addresses: &DecodeAddresses<'_>, output: usize) -> u64 {
    addresses.outputs.get(output).copied().unwrap_or(0)
}

fn decode_params(
    plan: &DecodePlan,
    boxes: &BoxPlan,
    score_threshold: f32,
    letterboxes: u64,
    addresses: &DecodeAddresses<'_>,
) -> CatseyeDecodeParams {
    let places = plan.workspace();
    let mut params = CatseyeDecodeParams {
        letterboxes,
        present: addresses.present.unwrap_or(0),
        candidates: at(addresses.workspace, places.candidates),
        keys: at(addresses.workspace, places.keys),
        counts: at(addresses.workspace, places.counts),
        head: boxes.head,
        rows: count(plan.rows),
        anchors: count(boxes.anchors),
        blocks: count(plan.blocks()),
        classes: count(boxes.classes),
        bins: count(boxes.bins),
        grid_count: count(boxes.grids.len()),
        score_threshold,
        network_width: plan.width as f32,
        network_height: plan.height as f32,
        ..CatseyeDecodeParams::default()
    };
    for (address, output) in params.outputs.iter_mut().zip(&boxes.outputs) {
        *address = output_at(addresses, *output);
    }
    for (place, grid) in params.grids.iter_mut().zip(&boxes.grids) {
        *place = *grid;
    }
    params
}

fn nms_params(
    plan: &DecodePlan,
    boxes: &BoxPlan,
    thresholds: Thresholds,
    addresses: &DecodeAddresses<'_>,
) -> CatseyeNmsParams {
    let places = plan.workspace();
    CatseyeNmsParams {
        candidates: at(addresses.workspace, places.candidates),
        keys: at(addresses.workspace, places.keys),
        counts: at(addresses.workspace, places.counts),
        sorted: at(addresses.workspace, places.sorted),
        detections: at(addresses.results, plan.results().detections),
        rows: count(plan.rows),
        anchors: count(boxes.anchors),
        blocks: count(plan.blocks()),
        sorted_stride: count(plan.sorted_stride()),
        limit: count(thresholds.max_detections.min(MAX_DETECTIONS)),
        // no overlap is above infinity
        iou_threshold: if boxes.suppresses { thresholds.iou } else { f32::INFINITY },
    }
}

fn mask_params(plan: &DecodePlan, road: RoadPlan, addresses: &DecodeAddresses<'_>) -> CatseyeMaskParams {
    let results = plan.results();
    CatseyeMaskParams {
        drivable_logits: output_at(addresses, road.drivable),
        lane_logits: output_at(addresses, road.lanes),
        drivable_masks: addresses.masks,
        lane_masks: at(addresses.masks, plan.rows * plan.pixels()),
        lane_runs: at(addresses.results, results.runs),
        free_tops: at(addresses.results, results.tops),
        rows: count(plan.rows),
        width: count(plan.width),
        height: count(plan.height),
        column_step: count(COLUMN_STEP),
        tops: count(plan.tops()),
        max_gap_rows: count(MAX_GAP_ROWS),
        max_bonnet_rows: count(plan.height / BONNET_PARTS),
    }
}

/// Reads the block that came home.
#[derive(Debug)]
pub struct ResultReader {
    plan: DecodePlan,
    places: ResultPlaces,
    lane_finder: LaneFinder,
    free_space_finder: FreeSpaceFinder,
}

impl ResultReader {
    /// For results of this plan.
    pub fn new(plan: &DecodePlan) -> Self {
        let (width, height) = if plan.road.is_some() { (plan.width, plan.height) } else { (0, 0) };
        ResultReader {
            plan: plan.clone(),
            places: plan.results(),
            lane_finder: LaneFinder::new(width, height),
            free_space_finder: FreeSpaceFinder::new(width, height),
        }
    }

    /// Writes what was seen in one picture, and replaces the fields of `seen` that the network fills. Of the view only
    /// the letterbox and the ground are used; thresholds were applied on the device. On an error those fields are empty.
    pub fn read(
        &mut self,
        results: &[u8],
        row: usize,
        view: &View<'_>,
        seen: &mut CameraDetections,
    ) -> Result<(), ReadResultsError> {
        if self.plan.boxes.is_some() {
            seen.objects.clear();
        }
        if self.plan.road.is_some() {
            seen.lanes.clear();
            seen.free_space.range_m.clear();
        }
        if results.len() != self.places.end {
            return Err(ReadResultsError::Length { expected: self.places.end, found: results.len() });
        }
        if row >= self.plan.rows {
            return Err(ReadResultsError::Row { rows: self.plan.rows, row });
        }
        if self.plan.boxes.is_some() {
            read_objects(part(results, self.places.detections, row, size_of::<CatseyeDetections>()), seen);
        }
        if self.plan.road.is_some() {
            self.read_road(results, row, view, seen);
        }
        Ok(())
    }

    fn read_road(&mut self, results: &[u8], row: usize, view: &View<'_>, seen: &mut CameraDetections) {
        let Some(ground_from_picture) = view.ground_from_picture else { return };
        let ground_from_mask = |pixel: [f64; 2]| ground_from_picture(view.picture_from_network(pixel));
        let runs = part(results, self.places.runs, row, self.plan.height * size_of::<CatseyeRowRuns>());
        let rows = runs.chunks_exact(size_of::<CatseyeRowRuns>()).map(row_runs);
        self.lane_finder.find_in_runs(rows, &ground_from_mask, &mut seen.lanes);
        let tops = part(results, self.places.tops, row, self.plan.tops() * size_of::<i32>());
        let (tops, _) = tops.as_chunks::<4>();
        let tops = tops.iter().map(|top| usize::try_from(i32::from_ne_bytes(*top)).ok());
        self.free_space_finder.find_in_tops(tops, &ground_from_mask, &mut seen.free_space);
    }

    /// Copies one picture's masks out of all [`DecodePlan::mask_bytes`]; whether there are any.
    pub fn read_masks(&self, masks: &[u8], row: usize, into: &mut Masks) -> bool {
        let (rows, pixels) = (self.plan.rows, self.plan.pixels());
        if self.plan.road.is_none() || row >= rows || masks.len() != self.plan.mask_bytes() {
            return false;
        }
        into.width = self.plan.width;
        into.height = self.plan.height;
        into.drivable.clear();
        into.drivable.extend_from_slice(part(masks, 0, row, pixels));
        into.lanes.clear();
        into.lanes.extend_from_slice(part(masks, rows * pixels, row, pixels));
        true
    }
}

/// One row of a part that begins at `start`.
fn part(bytes: &[u8], start: usize, row: usize, row_bytes: usize) -> &[u8] {
    let start = start + row * row_bytes;
    bytes.get(start..start + row_bytes).unwrap_or_default()
}

/// Reads a `CatseyeDetections`.
fn read_objects(bytes: &[u8], seen: &mut CameraDetections) {
    let Some((found, rest)) = bytes.split_first_chunk::<4>() else { return };
    let items = rest.get(4..).unwrap_or_default().chunks_exact(size_of::<CatseyeDetection>());
    for item in items.take(u32::from_ne_bytes(*found) as usize) {
        let (&[left, top, right, bottom, score, class], _) = item.as_chunks::<4>() else { return };
        let [left, top, right, bottom, score] = [left, top, right, bottom, score].map(f32::from_ne_bytes);
        let class = u16::try_from(u32::from_ne_bytes(class)).unwrap_or(u16::MAX);
        let detection = Detection { box_px: BoxPx { left, top, right, bottom }, score, class };
        // there are no more items than fit
        if seen.objects.push(detection).is_err() {
            return;
        }
    }
}

/// Reads a `CatseyeRowRuns`.
fn row_runs(bytes: &[u8]) -> impl Iterator<Item = Run> {
    let (found, runs) =
        bytes.split_first_chunk::<4>().map_or((0, bytes), |(found, runs)| (u32::from_ne_bytes(*found), runs));
    let runs = runs.chunks_exact(size_of::<CatseyeRun>()).take(found as usize);
    runs.filter_map(|run| match *run {
        [a, b, c, d] => {
            Some(Run { first: usize::from(u16::from_ne_bytes([a, b])), end: usize::from(u16::from_ne_bytes([c, d])) })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(head: Head, shapes: &[&[usize]]) -> Result<DecodePlan, PlanDecodeError> {
        DecodePlan::new(head, 64, 64, &[], shapes)
    }

    #[test]
    fn plans_take_what_the_decoders_take() {
        assert!(plan(Head::Yolox, &[&[2, 84, 8]]).is_ok());
        assert!(plan(Head::YoloV5, &[&[1, 252, 7]]).is_ok());
        assert!(plan(Head::YoloV5, &[&[1, 255, 7]]).is_ok());
        assert!(plan(Head::YoloV8, &[&[1, 7, 84]]).is_ok());
        assert!(plan(Head::FastestDet, &[&[1, 7, 4, 4]]).is_ok());
        assert!(plan(Head::RtDetr, &[&[1, 300, 6]]).is_ok());
        assert!(plan(Head::TwinLiteNet, &[&[1, 2, 64, 64], &[1, 2, 64, 64]]).is_ok());
        let picodet: [&[usize]; 6] = [&[1, 64, 3], &[1, 16, 3], &[1, 4, 3], &[1, 64, 32], &[1, 16, 32], &[1, 4, 32]];
        assert!(plan(Head::PicoDet, &picodet).is_ok());
    }

    #[test]
    fn other_shapes_and_batches_are_refused() {
        let error = plan(Head::Yolox, &[&[1, 85, 8]]).unwrap_err().to_string();
        assert_eq!(error, "output 0 of yolox: expected [batch, 84, 5 + classes], found shape [1, 85, 8]");
        let missing = plan(Head::Multitask, &[&[1, 7, 84]]).unwrap_err();
        assert!(matches!(missing, PlanDecodeError::Outputs(DecodeOutputsError::MissingOutput { output: 1, .. })));
        assert_eq!(plan(Head::Yolox, &[&[0, 84, 8]]).unwrap_err(), PlanDecodeError::Rows { found: 0 });
        let uneven = plan(Head::TwinLiteNet, &[&[1, 2, 64, 64], &[2, 2, 64, 64]]).unwrap_err();
        assert_eq!(uneven, PlanDecodeError::Rows { found: 2 });
        let huge = DecodePlan::new(Head::Yolox, 10_000, 64, &[], &[]).unwrap_err();
        assert!(matches!(huge, PlanDecodeError::NetworkSize { width: 10_000, .. }));
    }

    #[test]
    fn results_of_another_size_are_refused_and_leave_nothing() {
        let plan = plan(Head::Yolox, &[&[1, 84, 8]]).unwrap();
        let mut seen = CameraDetections::default();
        seen.objects.push(Detection::default()).unwrap();
        let view = View {
            letterbox: Letterbox::default(),
            score_threshold: 0.3,
            iou_threshold: 0.5,
            max_detections: MAX_DETECTIONS,
            ground_from_picture: None,
        };
        let mut reader = ResultReader::new(&plan);
        let error = reader.read(&[0; 7], 0, &view, &mut seen).unwrap_err();
        assert_eq!(error, ReadResultsError::Length { expected: plan.result_bytes(), found: 7 });
        assert!(seen.objects.is_empty());
        let results = vec![0; plan.result_bytes()];
        let error = reader.read(&results, 1, &view, &mut seen).unwrap_err();
        assert_eq!(error, ReadResultsError::Row { rows: 1, row: 1 });
        // a count that cannot be is no reason to panic
        reader.read(&vec![0xff; plan.result_bytes()], 0, &view, &mut seen).unwrap();
        assert_eq!(seen.objects.len(), MAX_DETECTIONS);
    }
}
