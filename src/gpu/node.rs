//! The GPU's part of a tick, in the place of preprocess and infer and of the larger part of decode.
//!
//! Pictures and a table of them go up in one copy, every network works in a branch of its own (preprocess, TensorRT, decode,
//! digests), and what was seen comes home in one copy: all of it one captured graph, one launch a tick. Two ticks are in
//! flight, each with memory, execution contexts and a graph of its own. The batch is fixed and an absent camera's row is zero,
//! so that a partial tick runs the same graph.
//!
//! Promises: after the first tick nothing is allocated, on the host or on the device, unless a camera changes the format of
//! its pictures, which costs a new capture; the same plans on the same device give the same bits, whatever else is in flight.

use std::fmt::Write as _;
use std::sync::Arc;

use catseye_calibration::rig::Rig;
use catseye_sensors::picture::PixelFormat;
use thiserror::Error;

use super::decode::{DecodeAddresses, DecodePlan, HeadDecode, PlanDecodeError, Thresholds};
use super::digest::{DeviceDigest, DeviceValue, DigestValuesError, ValueKind, read_digests};
use super::preprocess::{
    BatchPreprocess, BatchPreprocessError, CameraInput, DevicePicture, ElementType, PICTURE_BYTES, WritePictureError,
};
use super::tensorrt::{Element, Engine, ExecutionContext, TensorInfo, TensorRtError};
use super::{Context, DeviceBuffer, Event, GpuError, Graph, HostKind, Kernels, PinnedBuffer, Priority, Stream};
use crate::messages::{Level, MAX_DETECTIONS};
use crate::runtime::graph::{Device, Fields, Finished, Slot, StageError, Ticket};
use crate::runtime::pool::Lease;
use crate::stages::network::{Network, PictureSizes, undistorted_cameras};
use crate::stages::preprocess::{PreprocessError, Remap};
use crate::stages::{NetworkSlot, Tick};

/// Ticks that are in flight on the device.
const DEPTH: usize = 2;
/// Every part of a buffer begins at a multiple of this.
const ALIGNMENT: usize = 256;

/// Why the GPU cannot take a rig's networks.
#[derive(Debug, Error)]
pub enum GpuNodeError {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// TensorRT.
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    /// The outputs are not the head's.
    #[error("model {model}: {error}")]
    Decode {
        /// The model's name in the rig.
        model: String,
        /// What does not fit.
        error: PlanDecodeError,
    },
    /// Pictures cannot be made into the input.
    #[error("model {model}: {error}")]
    Preprocess {
        /// The model's name in the rig.
        model: String,
        /// What does not fit.
        error: BatchPreprocessError,
    },
    /// A picture is not what its camera may have.
    #[error(transparent)]
    Picture(#[from] WritePictureError),
    /// A map of a lens cannot be made.
    #[error(transparent)]
    Remap(#[from] PreprocessError),
    /// Tensors cannot be digested.
    #[error(transparent)]
    Digest(#[from] DigestValuesError),
    /// A tensor of another type or batch than the pipeline has.
    #[error("model {model}: {tensor}: expected {expected}, found {found}")]
    Tensor {
        /// The model's name in the rig.
        model: String,
        /// The tensor.
        tensor: String,
        /// What fits.
        expected: String,
        /// What the engine has.
        found: String,
    },
}

/// A network and the engine that runs it, for all its cameras at once.
#[derive(Clone, Debug)]
pub struct GpuNetwork {
    /// How the pipeline uses it.
    pub network: Network,
    /// The plan, loaded.
    pub engine: Arc<Engine>,
}

impl GpuNetwork {
    /// How its outputs are decoded.
    pub fn plan(&self) -> Result<DecodePlan, GpuNodeError> {
        let Network { name, head, layout, outputs, .. } = &self.network;
        let shapes: Vec<Vec<usize>> = self.engine.outputs().iter().map(shape_of).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        DecodePlan::new(*head, layout.width, layout.height, outputs, &shapes)
            .map_err(|error| GpuNodeError::Decode { model: name.clone(), error })
    }

    /// Checks the types and batches of the engine's tensors, and gives the one input.
    fn input(&self) -> Result<&TensorInfo, GpuNodeError> {
        let misfit = |tensor: &TensorInfo, expected: String| GpuNodeError::Tensor {
            model: self.network.name.clone(),
            tensor: tensor.name.clone(),
            expected,
            found: format!("{:?} {}", tensor.element, tensor.shape_text()),
        };
        let rows = self.network.cameras.len();
        let of_rows = |tensor: &TensorInfo| tensor.shape.first().copied().flatten() == Some(rows as u64);
        let (inputs, outputs) = (self.engine.inputs(), self.engine.outputs());
        for tensor in inputs.iter().chain(outputs) {
            if tensor.element != Element::F32 || !of_rows(tensor) {
                return Err(misfit(tensor, format!("F32 with a batch of {rows}, one for each camera")));
            }
        }
        match inputs {
            [input] => Ok(input),
            _ => Err(GpuNodeError::Tensor {
                model: self.network.name.clone(),
                tensor: "inputs".to_owned(),
                expected: "one".to_owned(),
                found: inputs.len().to_string(),
            }),
        }
    }
}

/// The sizes of an engine's tensor, which are all fixed.
fn shape_of(tensor: &TensorInfo) -> Vec<usize> {
    tensor.shape.iter().map(|size| size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0)).collect()
}

/// What the node is told beside the networks.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// Whether tensors are digested.
    pub digest_tensors: bool,
    /// Whether masks come home, to be drawn.
    pub masks: bool,
}

/// Parts of a buffer, one behind the other.
#[derive(Default)]
struct Places(usize);

impl Places {
    fn take(&mut self, bytes: usize) -> usize {
        let start = self.0;
        self.0 = start.saturating_add(bytes).next_multiple_of(ALIGNMENT);
        start
    }
}

/// What a camera's pictures are, as far as it decides how many bytes go up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    format: PixelFormat,
    width_px: u32,
    height_px: u32,
}

impl Kind {
    fn bytes(self) -> usize {
        self.format.bytes_for(self.width_px, self.height_px).unwrap_or(0)
    }
}

/// What goes up: for each network a table of its pictures and a flag for each that is there, then the pictures.
struct Upload {
    pinned: PinnedBuffer,
    device: DeviceBuffer,
    /// Per network: where its table begins, and where its flags.
    tables: Vec<[usize; 2]>,
    /// Where the pictures begin.
    pictures: usize,
    /// Per camera, as far as is known.
    kinds: Vec<Kind>,
    /// Per camera, where its picture begins.
    places: Vec<usize>,
    /// Bytes that go up.
    bytes: usize,
}

impl Upload {
    fn new(context: &Arc<Context>, networks: &[GpuNetwork], rig: &Rig) -> Result<Self, GpuError> {
        let mut places = Places::default();
        let mut tables = Vec::new();
        for network in networks {
            let rows = network.network.cameras.len();
            tables.push([places.take(rows * PICTURE_BYTES), places.take(rows * size_of::<u32>())]);
        }
        let pictures = places.0;
        let kind = |camera: &catseye_calibration::rig::Camera| Kind {
            format: PixelFormat::default(),
            width_px: camera.width_px,
            height_px: camera.height_px,
        };
        let kinds: Vec<Kind> = rig.cameras.iter().map(kind).collect();
        // no format has more bytes than the default one, three for each pixel, but for the odd row of packed chroma
        let room = |kind: &Kind| kind.bytes().saturating_add(4 * kind.height_px as usize);
        for kind in &kinds {
            places.take(room(kind));
        }
        let mut upload = Upload {
            pinned: PinnedBuffer::new(context, places.0, HostKind::Pinned)?,
            device: DeviceBuffer::new(context, places.0)?,
            tables,
            pictures,
            places: vec![0; kinds.len()],
            kinds,
            bytes: 0,
        };
        upload.arrange();
        Ok(upload)
    }

    /// Gives each camera's picture its place.
    fn arrange(&mut self) {
        let mut places = Places(self.pictures);
        for (place, kind) in self.places.iter_mut().zip(&self.kinds) {
            *place = places.take(kind.bytes());
        }
        self.bytes = places.0;
    }

    /// Takes the formats of the pictures that are there; whether any is new, so that other bytes go up.
    fn learn(&mut self, tick: &Tick) -> bool {
        let mut is_new = false;
        for (kind, camera) in self.kinds.iter_mut().zip(&tick.cameras) {
            if camera.present && kind.format != camera.frame.format() {
                kind.format = camera.frame.format();
                is_new = true;
            }
        }
        if is_new {
            self.arrange();
        }
        is_new
    }

    /// Writes tables, flags and pictures where they go up from.
    fn fill(&mut self, networks: &[GpuNetwork], branches: &[Branch], tick: &Tick) -> Result<(), WritePictureError> {
        for ((network, branch), [table, flags]) in networks.iter().zip(branches).zip(&self.tables) {
            let cameras = &network.network.cameras;
            let rows = self.pinned.get_mut(*table..).unwrap_or_default();
            let descriptions = rows.get_mut(..cameras.len() * PICTURE_BYTES).unwrap_or_default();
            for (row, camera) in cameras.iter().enumerate() {
                let frame = tick.cameras.get(*camera).filter(|slot| slot.present).map(|slot| &slot.frame);
                let place = self.places.get(*camera).copied().unwrap_or(0);
                let picture = frame.map(|frame| DevicePicture {
                    address: self.device.address().wrapping_add(place as u64),
                    bytes: frame.data().len(),
                    width_px: frame.width_px(),
                    height_px: frame.height_px(),
                    format: frame.format(),
                    full_range: frame.full_range(),
                    stride_bytes: None,
                });
                branch.preprocess.write_picture(row, picture.as_ref(), descriptions)?;
            }
            for (row, camera) in cameras.iter().enumerate() {
                let is_there = tick.cameras.get(*camera).is_some_and(|slot| slot.present);
                put(&mut self.pinned, flags + row * size_of::<u32>(), &u32::from(is_there).to_ne_bytes());
            }
        }
        for (camera, place) in tick.cameras.iter().zip(&self.places) {
            if camera.present {
                put(&mut self.pinned, *place, camera.frame.data());
            }
        }
        Ok(())
    }

    fn address(&self, offset: usize) -> u64 {
        self.device.address().wrapping_add(offset as u64)
    }
}

/// Writes bytes where there is room for them.
fn put(buffer: &mut [u8], start: usize, bytes: &[u8]) {
    if let Some(room) = buffer.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len())) {
        room.copy_from_slice(bytes);
    }
}

/// What comes home: the results of each network, its digests, and masks where they are wanted.
struct Home {
    pinned: PinnedBuffer,
    device: DeviceBuffer,
    /// Per network.
    parts: Vec<HomePart>,
}

/// Where one network's parts begin, and how long they are.
#[derive(Clone, Copy, Default)]
struct HomePart {
    results: [usize; 2],
    digests: [usize; 2],
    masks: [usize; 2],
}

impl Home {
    fn part(&self, [start, bytes]: [usize; 2]) -> &[u8] {
        self.pinned.get(start..).and_then(|rest| rest.get(..bytes)).unwrap_or_default()
    }
}

/// One network's share of a lane.
struct Branch {
    preprocess: BatchPreprocess,
    execution: ExecutionContext,
    decode: HeadDecode,
    digest: Option<DeviceDigest>,
    stream: Stream,
    /// The branch has ended.
    done: Event,
    /// What the kernels and TensorRT work in.
    _memory: Vec<DeviceBuffer>,
}

/// What is captured: it is dropped before what it uses.
struct Lane {
    graph: Option<Graph>,
    branches: Vec<Branch>,
    stream: Stream,
    /// The pictures are on the device.
    arrived: Event,
    /// All of the tick is done.
    done: Event,
    upload: Upload,
    home: Home,
    busy: Option<Busy>,
}

/// A tick that a lane works on.
struct Busy {
    ticket: u64,
    slot: Lease<Slot<Tick>>,
    /// Whether the work has begun, and what is to be said of the pictures.
    begun: Result<(), String>,
    faults: String,
}

/// A tick's networks on the GPU, as a device of the graph.
pub struct GpuNode {
    lanes: Vec<Lane>,
    networks: Vec<GpuNetwork>,
    sizes: PictureSizes,
    digest_tensors: bool,
    next: u64,
    /// Ticks for which there was no lane; the graph never sends one.
    turned_away: Vec<(u64, Lease<Slot<Tick>>)>,
}

impl GpuNode {
    /// Takes memory for two ticks in flight and loads what runs in them.
    pub fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: Vec<GpuNetwork>,
        rig: &Rig,
        options: NodeOptions,
    ) -> Result<Self, GpuNodeError> {
        let lanes = (0..DEPTH).map(|_| Lane::new(context, kernels, &networks, rig, options));
        Ok(GpuNode {
            lanes: lanes.collect::<Result<_, _>>()?,
            networks,
            sizes: PictureSizes::new(rig),
            digest_tensors: options.digest_tensors,
            next: 0,
            turned_away: Vec::new(),
        })
    }

    /// Pieces of work of one tick's graph, once there is one.
    pub fn node_count(&self) -> Option<usize> {
        self.lanes.iter().find_map(|lane| lane.graph.as_ref()).map(Graph::node_count)
    }

    /// Bytes that go up for a tick and that come home.
    pub fn copied_bytes(&self) -> [usize; 2] {
        self.lanes.first().map_or([0; 2], |lane| [lane.upload.bytes, lane.home.device.len()])
    }

    /// Times a tick's graph with the pictures of the last tick, and what TensorRT alone takes in the same branches, in turns:
    /// so many rounds of so many runs. To be asked while no tick is in flight.
    ///
    /// # Errors
    /// [`GpuNodeError`].
    pub fn time_parts(&mut self, rounds: usize, runs: usize) -> Result<Vec<TickTimes>, GpuNodeError> {
        let Some(lane) = self.lanes.first_mut() else { return Ok(Vec::new()) };
        let mut round = || {
            Ok(TickTimes {
                whole_ms: lane.time(Parts::ALL, runs)?,
                on_device_ms: lane.time(Parts { upload: false, around: true }, runs)?,
                inference_ms: lane.time(Parts { upload: false, around: false }, runs)?,
            })
        };
        (0..rounds).map(|_| round()).collect()
    }
}

/// Medians of one round of [`GpuNode::time_parts`], in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct TickTimes {
    /// From pictures in pinned memory to results in host memory.
    pub whole_ms: f32,
    /// From pictures on the device to results in host memory.
    pub on_device_ms: f32,
    /// TensorRT alone.
    pub inference_ms: f32,
}

impl Lane {
    fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: &[GpuNetwork],
        rig: &Rig,
        options: NodeOptions,
    ) -> Result<Self, GpuNodeError> {
        let upload = Upload::new(context, networks, rig)?;
        let mut places = Places::default();
        let mut parts = Vec::new();
        for network in networks {
            let plan = network.plan()?;
            let digests = if options.digest_tensors { 1 + network.engine.outputs().len() } else { 0 };
            let mut take = |bytes: usize| [places.take(bytes), bytes];
            parts.push(HomePart {
                results: take(plan.result_bytes()),
                digests: take(digests * size_of::<u64>()),
                masks: take(if options.masks { plan.mask_bytes() } else { 0 }),
            });
        }
        let home = Home {
            pinned: PinnedBuffer::new(context, places.0.max(ALIGNMENT), HostKind::Pinned)?,
            device: DeviceBuffer::new(context, places.0.max(ALIGNMENT))?,
            parts,
        };
        let mut branches = Vec::new();
        for ((network, tables), part) in networks.iter().zip(&upload.tables).zip(&home.parts) {
            let ends =
                Ends { tables: tables.map(|offset| upload.address(offset)), part: *part, home: home.device.address() };
            branches.push(Branch::new(context, kernels, network, rig, &ends, options)?);
        }
        Ok(Lane {
            graph: None,
            branches,
            stream: Stream::new(context, Priority::High)?,
            arrived: Event::without_time(context)?,
            done: Event::without_time(context)?,
            upload,
            home,
            busy: None,
        })
    }

    /// Starts a tick.
    fn begin(&mut self, networks: &[GpuNetwork], tick: &Tick) -> Result<(), GpuNodeError> {
        let is_new = self.upload.learn(tick);
        if is_new {
            self.graph = None;
        }
        self.upload.fill(networks, &self.branches, tick)?;
        if self.graph.is_none() {
            // TensorRT sets things up in a first run, which cannot be captured
            self.enqueue()?;
            self.stream.synchronize()?;
            self.graph = Some(self.capture(Parts::ALL)?);
        }
        if let Some(graph) = &self.graph {
            graph.launch(&self.stream)?;
        }
        Ok(self.stream.record(&self.done)?)
    }

    fn capture(&mut self, parts: Parts) -> Result<Graph, GpuNodeError> {
        let Lane { stream, branches, arrived, upload, home, .. } = self;
        let mut failure = None;
        let captured = Graph::capture(stream, |stream| {
            enqueue(stream, branches, (arrived, upload, home), parts).map_err(|error| {
                let gpu = match &error {
                    TensorRtError::Gpu(gpu) => gpu.clone(),
                    _ => GpuError::Call { call: "enqueueV3", name: "refused", code: 0 },
                };
                failure = Some(error);
                gpu
            })
        });
        Ok(captured.map_err(|error| failure.unwrap_or(TensorRtError::Gpu(error)))?)
    }

    fn enqueue(&mut self) -> Result<(), TensorRtError> {
        let Lane { stream, branches, arrived, upload, home, .. } = self;
        enqueue(stream, branches, (arrived, upload, home), Parts::ALL)
    }

    /// Median time of a graph of these parts, in milliseconds.
    fn time(&mut self, parts: Parts, runs: usize) -> Result<f32, GpuNodeError> {
        let graph = self.capture(parts)?;
        let (before, after) = (Event::new(self.stream.context())?, Event::new(self.stream.context())?);
        let mut times_ms = Vec::with_capacity(runs);
        for _ in 0..runs {
            self.stream.record(&before)?;
            graph.launch(&self.stream)?;
            self.stream.record(&after)?;
            after.synchronize()?;
            times_ms.push(after.elapsed_ms(&before)?);
        }
        times_ms.sort_by(f32::total_cmp);
        Ok(times_ms.get(times_ms.len() / 2).copied().unwrap_or_default())
    }

    /// Hands what came home to the tick.
    fn deliver(&self, tick: &mut Tick) {
        for ((slot, part), branch) in tick.networks.iter_mut().zip(&self.home.parts).zip(&self.branches) {
            let NetworkSlot { results, digests, mask_bytes, letterboxes, .. } = slot;
            for (held, letterbox) in letterboxes.iter_mut().zip(branch.preprocess.letterboxes()) {
                *held = *letterbox;
            }
            replace(results, self.home.part(part.results));
            replace(mask_bytes, self.home.part(part.masks));
            digests.clear();
            digests.extend(read_digests(self.home.part(part.digests)));
        }
    }
}

fn replace(held: &mut Vec<u8>, bytes: &[u8]) {
    held.clear();
    held.extend_from_slice(bytes);
}

/// Which parts of a tick's work are wanted: all of them, but for measurements.
#[derive(Clone, Copy)]
struct Parts {
    /// The copy to the device.
    upload: bool,
    /// What stands before and behind TensorRT.
    around: bool,
}

impl Parts {
    const ALL: Parts = Parts { upload: true, around: true };
}

/// Puts a tick's work into a stream and the branches that fork from it and join it.
fn enqueue(
    stream: &Stream,
    branches: &mut [Branch],
    (arrived, upload, home): (&Event, &Upload, &mut Home),
    parts: Parts,
) -> Result<(), TensorRtError> {
    if parts.upload {
        stream.upload(&upload.pinned, 0..upload.bytes, &upload.device, 0)?;
    }
    stream.record(arrived)?;
    for branch in branches.iter_mut() {
        branch.stream.wait(arrived)?;
        if parts.around {
            branch.preprocess.enqueue(&branch.stream)?;
        }
        // SAFETY: the branch holds the memory of the engine's sizes, and the lane drops its graph first.
        unsafe { branch.execution.enqueue(&branch.stream)? };
        if parts.around {
            branch.decode.enqueue(&branch.stream)?;
            if let Some(digest) = &branch.digest {
                digest.enqueue(&branch.stream)?;
            }
        }
        branch.stream.record(&branch.done)?;
        stream.wait(&branch.done)?;
    }
    if parts.around {
        let bytes = home.device.len();
        stream.download(&home.device, 0, &mut home.pinned, 0..bytes)?;
    }
    Ok(())
}

/// Where a branch begins and ends.
struct Ends {
    /// Addresses of the table of pictures and of the flags.
    tables: [u64; 2],
    part: HomePart,
    /// Address of what comes home.
    home: u64,
}

impl Ends {
    fn home_at(&self, [start, _]: [usize; 2]) -> u64 {
        self.home.wrapping_add(start as u64)
    }
}

impl Branch {
    fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        network: &GpuNetwork,
        rig: &Rig,
        ends: &Ends,
        options: NodeOptions,
    ) -> Result<Self, GpuNodeError> {
        let (input, plan) = (network.input()?, network.plan()?);
        let engine = &network.engine;
        let mut memory = Vec::new();
        let mut buffer = |bytes: u64| -> Result<u64, GpuNodeError> {
            let buffer = DeviceBuffer::new(context, usize::try_from(bytes).unwrap_or(usize::MAX).max(ALIGNMENT))?;
            let address = buffer.address();
            memory.push(buffer);
            Ok(address)
        };
        let workspace = buffer(engine.workspace_bytes())?;
        let mut execution = ExecutionContext::new(engine, workspace, engine.workspace_bytes())?;
        let input_address = buffer(input.bytes)?;
        execution.set_address(&input.name, input_address)?;
        let mut outputs = Vec::new();
        for output in engine.outputs() {
            let address = buffer(output.bytes)?;
            execution.set_address(&output.name, address)?;
            outputs.push(address);
        }
        let preprocess = batch_preprocess(context, kernels, network, rig, (input_address, ends.tables[0]))?;
        let masks = if options.masks { ends.home_at(ends.part.masks) } else { buffer(plan.mask_bytes() as u64)? };
        let thresholds = Thresholds {
            score: network.network.score_threshold,
            iou: network.network.nms_iou,
            max_detections: MAX_DETECTIONS,
        };
        let addresses = DecodeAddresses {
            outputs: &outputs,
            present: Some(ends.tables[1]),
            workspace: buffer(plan.workspace_bytes() as u64)?,
            results: ends.home_at(ends.part.results),
            masks,
        };
        let decode = HeadDecode::new(context, kernels, &plan, thresholds, preprocess.letterboxes(), addresses)?;
        let digest = if options.digest_tensors {
            let value = |address: u64, tensor: &TensorInfo| DeviceValue {
                address,
                count: shape_of(tensor).iter().product(),
                kind: ValueKind::F32,
            };
            let mut values = vec![value(input_address, input)];
            values.extend(outputs.iter().zip(engine.outputs()).map(|(address, tensor)| value(*address, tensor)));
            let workspace = buffer(DeviceDigest::workspace_bytes(&values) as u64)?;
            Some(DeviceDigest::new(kernels, &values, workspace, ends.home_at(ends.part.digests))?)
        } else {
            None
        };
        Ok(Branch {
            preprocess,
            execution,
            decode,
            digest,
            stream: Stream::new(context, Priority::High)?,
            done: Event::without_time(context)?,
            _memory: memory,
        })
    }
}

fn batch_preprocess(
    context: &Arc<Context>,
    kernels: &Kernels,
    network: &GpuNetwork,
    rig: &Rig,
    (input, pictures): (u64, u64),
) -> Result<BatchPreprocess, GpuNodeError> {
    let Network { name, layout, cameras, .. } = &network.network;
    let undistorted = undistorted_cameras(rig);
    let mut remaps = Vec::new();
    let mut sizes = Vec::new();
    for camera in cameras {
        let Some(of_rig) = rig.cameras.get(*camera) else { continue };
        let is_undistorted = undistorted.get(*camera) == Some(&true);
        let (width_px, height_px) = (of_rig.width_px, of_rig.height_px);
        let remap = is_undistorted.then(|| Remap::undistorting(layout, width_px, height_px, &of_rig.intrinsics));
        remaps.push(remap.transpose()?);
        sizes.push([width_px, height_px]);
    }
    let inputs: Vec<CameraInput<'_>> = sizes
        .iter()
        .zip(&remaps)
        .map(|(&[width_px, height_px], remap)| CameraInput { width_px, height_px, remap: remap.as_ref(), raw: None })
        .collect();
    BatchPreprocess::new(context, kernels, layout, &inputs, ElementType::F32, input, pictures)
        .map_err(|error| GpuNodeError::Preprocess { model: name.clone(), error })
}

impl Device<Tick> for GpuNode {
    fn name(&self) -> &'static str {
        "infer"
    }

    fn level(&self) -> Level {
        Level::PerEngine
    }

    fn depth(&self) -> usize {
        self.lanes.len()
    }

    fn submit(&mut self, mut slot: Lease<Slot<Tick>>) -> Ticket {
        self.next += 1;
        let ticket = self.next;
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.busy.is_none()) else {
            self.turned_away.push((ticket, slot));
            return Ticket(ticket);
        };
        let mut faults = String::new();
        self.sizes.check(&mut slot.payload, &mut faults);
        let begun = lane.begin(&self.networks, &slot.payload).map_err(|error| error.to_string());
        lane.busy = Some(Busy { ticket, slot, begun, faults });
        Ticket(ticket)
    }

    fn complete(&mut self, Ticket(ticket): Ticket) -> Result<Finished<Tick>, Ticket> {
        if let Some(at) = self.turned_away.iter().position(|(of, _)| *of == ticket) {
            let (_, mut slot) = self.turned_away.swap_remove(at);
            forget(&mut slot.payload);
            return Ok(Finished { slot, result: Err(StageError("no lane of the GPU is free".to_owned())) });
        }
        let is_mine = |lane: &&mut Lane| lane.busy.as_ref().is_some_and(|busy| busy.ticket == ticket);
        let Some(lane) = self.lanes.iter_mut().find(is_mine) else { return Err(Ticket(ticket)) };
        let begun = matches!(&lane.busy, Some(Busy { begun: Ok(()), .. }));
        let ended = if begun { lane.done.is_done() } else { Ok(true) };
        if matches!(ended, Ok(false)) {
            return Err(Ticket(ticket));
        }
        let Some(Busy { mut slot, begun, mut faults, .. }) = lane.busy.take() else { return Err(Ticket(ticket)) };
        match begun.and(ended.map_err(|error| error.to_string())) {
            Ok(_) => lane.deliver(&mut slot.payload),
            Err(error) => {
                forget(&mut slot.payload);
                let gap = if faults.is_empty() { "" } else { "; " };
                // writing to a string cannot fail
                let _ = write!(faults, "{gap}{error}");
            }
        }
        let result = if faults.is_empty() { Ok(()) } else { Err(StageError(faults)) };
        Ok(Finished { slot, result })
    }

    fn digest(&self, tick: &Tick, fields: &mut Fields) {
        if !self.digest_tensors {
            return;
        }
        for (network, slot) in tick.networks.iter().enumerate() {
            let names = std::iter::once("input").chain(std::iter::repeat("output"));
            for (digest, name) in slot.digests.iter().zip(names) {
                fields.add(network as u16, name, *digest);
            }
        }
    }
}

/// Leaves nothing of an earlier tick behind.
fn forget(tick: &mut Tick) {
    for slot in &mut tick.networks {
        slot.results.clear();
        slot.digests.clear();
        slot.mask_bytes.clear();
    }
}
