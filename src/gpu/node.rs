//! The GPU's part of a tick, in the place of preprocess and infer and of the larger part of decode.
//!
//! Every network works in a branch of its own (preprocess, TensorRT, decode, digests): all of it, from the copy of the pictures to
//! that of the results, is one captured graph, one launch a tick. A branch whose engine cannot be captured, as on a deep learning
//! accelerator, is started by itself beside the graph. The pictures and results of a slot lie in page-locked memory that the node
//! lends to it, so that kernels copy them, or read pictures where they lie; the host's thread touches only a table that tells where
//! they are. Two ticks are in flight, each with memory, execution contexts and a graph of its own. The batch is fixed and an absent
//! camera's row is zero, so that a partial tick runs the same graph.
//!
//! Promises: after the first tick nothing is allocated, on the host or on the device; the same plans on the same device give
//! the same bits, whatever else is in flight and however pictures reach the device.

use std::any::Any;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use catseye_calibration::rig::{Camera, Rig};
use catseye_sensors::memory::{ForeignMemory, HostMemory, MemoryMaker};
use catseye_sensors::picture::Frame;
use thiserror::Error;

use super::copy::PART_BYTES;
use super::decode::{DecodeAddresses, DecodePlan, HeadDecode, PlanDecodeError, Thresholds};
use super::digest::{DeviceDigest, DeviceValue, DigestValuesError, ValueKind, read_digests};
use super::preprocess::{
    BatchPreprocess, BatchPreprocessError, CameraInput, DevicePicture, ElementType, PICTURE_BYTES, WritePictureError,
};
use super::tensorrt::{Element, Engine, ExecutionContext, TensorInfo, TensorRtError};
use super::{
    Context, DeviceBuffer, Event, GpuError, Graph, HostKind, Kernels, Part, PartsCopy, PinnedBuffer, Priority, Stream,
    Transfer,
};
use crate::messages::{Level, MAX_DETECTIONS, NetworksPlace};
use crate::runtime::digest::digest_f32;
use crate::runtime::graph::{Device, Fields, Finished, Slot, Stage, StageError, Ticket};
use crate::runtime::pool::Lease;
use crate::stages::infer::Tensor;
use crate::stages::network::{Infer, Network, PictureSizes, Preprocess, undistorted_cameras};
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
    /// Whether a run of it can be captured into a graph.
    pub is_captured: bool,
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
    /// How pictures reach the kernels.
    pub transfer: Transfer,
}

/// Parts of a buffer, one behind the other.
#[derive(Default)]
struct Places(usize);

impl Places {
    /// Where the next part begins and how many bytes it has.
    fn take(&mut self, bytes: usize) -> [usize; 2] {
        let start = self.0;
        self.0 = start.saturating_add(bytes).next_multiple_of(ALIGNMENT);
        [start, bytes]
    }
}

/// Page-locked memory for the pictures and the results of a slot, mapped, so that kernels copy from and to it.
#[derive(Clone, Debug)]
pub struct SlotMemory {
    context: Arc<Context>,
    /// Per camera of the rig, bytes that its pictures have at most; none for one that no network looks at.
    pictures: Vec<usize>,
    /// Per network, bytes of its results and of its masks.
    results: Vec<[usize; 2]>,
}

impl SlotMemory {
    fn new(
        context: &Arc<Context>,
        networks: &[GpuNetwork],
        rig: &Rig,
        options: NodeOptions,
    ) -> Result<Self, GpuNodeError> {
        let is_seen = |camera: usize| networks.iter().any(|network| network.network.cameras.contains(&camera));
        let pictures = rig.cameras.iter().enumerate();
        let pictures = pictures.map(|(index, camera)| if is_seen(index) { picture_room(camera) } else { 0 }).collect();
        let of_network = |network: &GpuNetwork| {
            let plan = network.plan()?;
            Ok([plan.result_bytes(), if options.masks { plan.mask_bytes() } else { 0 }])
        };
        let results = networks.iter().map(of_network).collect::<Result<_, GpuNodeError>>()?;
        Ok(SlotMemory { context: Arc::clone(context), pictures, results })
    }

    /// Lends to a slot what it has not got yet.
    pub fn equip(&self, tick: &mut Tick) -> Result<(), GpuError> {
        for (camera, bytes) in tick.cameras.iter_mut().zip(&self.pictures) {
            if *bytes > 0 && pinned(camera.frame.host_bytes().lent()).is_none() {
                camera.frame.lend(self.memory(*bytes)?);
            }
        }
        for (slot, [results, masks]) in tick.networks.iter_mut().zip(&self.results) {
            for (held, bytes) in [(&mut slot.results, *results), (&mut slot.mask_bytes, *masks)] {
                if pinned(held.lent()).is_none() {
                    held.lend(self.memory(bytes)?);
                }
            }
        }
        Ok(())
    }

    fn memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>, GpuError> {
        Ok(Box::new(PinnedBuffer::new(&self.context, bytes, HostKind::Mapped)?))
    }
}

/// Memory that a camera's driver fills: none where the device takes no more of it.
impl MemoryMaker for SlotMemory {
    fn make(&self, bytes: usize) -> Option<Box<dyn HostMemory>> {
        Some(Box::new(PinnedBuffer::of_pages(&self.context, bytes).ok()?))
    }

    fn adopt(&self, memory: ForeignMemory) -> Option<Box<dyn HostMemory>> {
        Some(Box::new(PinnedBuffer::of_foreign(&self.context, memory).ok()?))
    }

    fn gpu_uuid(&self) -> Option<[u8; 16]> {
        Some(self.context.uuid())
    }
}

impl HostMemory for PinnedBuffer {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// The page-locked memory that this is, if it is such.
fn pinned(memory: Option<&dyn HostMemory>) -> Option<&PinnedBuffer> {
    let memory: &dyn Any = memory?;
    memory.downcast_ref()
}

/// Bytes that a camera's pictures have at most: three for each pixel, and the odd row of packed chroma.
fn picture_room(camera: &Camera) -> usize {
    let (width, height) = (camera.width_px as usize, camera.height_px as usize);
    width.saturating_mul(3).saturating_add(4).saturating_mul(height)
}

/// What goes up: for each network a table of its pictures and a flag for each that is there; what is copied, both ways; and room
/// for the pictures.
struct Upload {
    transfer: Transfer,
    tables: PinnedBuffer,
    device: DeviceBuffer,
    /// Per network: where its table begins, and where its flags.
    places: Vec<[usize; 2]>,
    /// Where the table of copied pictures begins, and its bytes.
    pictures_table: [usize; 2],
    /// The same of what comes home.
    home_table: [usize; 2],
    /// Per camera, where its picture begins and how many bytes it may have; none where pictures are read where they lie.
    pictures: Vec<[usize; 2]>,
    copy: PartsCopy,
}

impl Upload {
    fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: &[GpuNetwork],
        memory: &SlotMemory,
        transfer: Transfer,
    ) -> Result<Self, GpuError> {
        let is_copied = transfer == Transfer::Copy;
        let copied = if is_copied { memory.pictures.len() } else { 0 };
        let mut places = Places::default();
        let mut tables = Vec::new();
        for network in networks {
            let rows = network.network.cameras.len();
            let [table, _] = places.take(rows * PICTURE_BYTES);
            let [flags, _] = places.take(rows * size_of::<u32>());
            tables.push([table, flags]);
        }
        let pictures_table = places.take(copied * PART_BYTES);
        let home_table = places.take(networks.len() * Home::PARTS * PART_BYTES);
        let table_bytes = places.0;
        let room = |bytes: usize| if is_copied { bytes } else { 0 };
        let pictures = memory.pictures.iter().map(|bytes| places.take(room(*bytes))).collect();
        let device = DeviceBuffer::new(context, places.0)?;
        let table_address = device.address().wrapping_add(pictures_table[0] as u64);
        Ok(Upload {
            transfer,
            tables: PinnedBuffer::new(context, table_bytes, HostKind::Pinned)?,
            device,
            places: tables,
            pictures_table,
            home_table,
            pictures,
            copy: PartsCopy::new(kernels, table_address, copied)?,
        })
    }

    /// Writes the tables: where the kernels find the pictures that are there.
    fn fill(&mut self, networks: &[GpuNetwork], branches: &[Branch], tick: &Tick) -> Result<(), GpuNodeError> {
        for (index, (network, branch)) in networks.iter().zip(branches).enumerate() {
            let cameras = &network.network.cameras;
            let Some([table, flags]) = self.places.get(index).copied() else { continue };
            for (row, camera) in cameras.iter().enumerate() {
                let frame = tick.cameras.get(*camera).filter(|slot| slot.present).map(|slot| &slot.frame);
                let picture = frame.map(|frame| self.picture(*camera, frame)).transpose()?;
                let descriptions = self.tables.get_mut(table..).unwrap_or_default();
                let descriptions = descriptions.get_mut(..cameras.len() * PICTURE_BYTES).unwrap_or_default();
                branch.preprocess.write_picture(row, picture.as_ref(), descriptions)?;
                let flag = u32::from(picture.is_some()).to_ne_bytes();
                let place = flags + row * flag.len();
                if let Some(room) = self.tables.get_mut(place..place + flag.len()) {
                    room.copy_from_slice(&flag);
                }
            }
        }
        Ok(())
    }

    /// A picture as the kernels find it.
    fn picture(&self, camera: usize, frame: &Frame) -> Result<DevicePicture, GpuError> {
        let bytes = frame.data().len();
        let lies = pinned(frame.host_bytes().memory()).ok_or(GpuError::NotMapped)?;
        let address = match self.transfer {
            _ if lies.is_imported() => lies.device_part(&(0..bytes))?,
            Transfer::Mapped => lies.device_part(&(0..bytes))?,
            Transfer::Copy => {
                let [place, room] = self.pictures.get(camera).copied().unwrap_or_default();
                super::memory::inside(&(0..bytes), room)?;
                self.address(place)
            }
        };
        Ok(DevicePicture {
            address,
            bytes,
            width_px: frame.width_px(),
            height_px: frame.height_px(),
            format: frame.format(),
            full_range: frame.full_range(),
            stride_bytes: None,
        })
    }

    /// Writes the table of the pictures that are copied: those that are there, and not read where they lie. Gives the bytes of all that
    /// goes up.
    fn fill_copies(&mut self, tick: &Tick) -> Result<usize, GpuError> {
        let mut sent = self.tables.len();
        for (index, camera) in tick.cameras.iter().enumerate().take(self.pictures_table[1] / PART_BYTES) {
            let [place, room] = self.pictures.get(index).copied().unwrap_or_default();
            let is_copied = |lies: &&PinnedBuffer| camera.present && room > 0 && !lies.is_imported();
            if let Some(lies) = pinned(camera.frame.host_bytes().memory()).filter(is_copied) {
                let bytes = camera.frame.data().len();
                super::memory::inside(&(0..bytes), room)?;
                let part = Part { source: lies.device_part(&(0..bytes))?, target: self.address(place), bytes };
                write_part(&mut self.tables, self.pictures_table, index, part);
                sent += bytes;
            }
        }
        Ok(sent)
    }

    /// Copies the tables, and what they say is to be copied here.
    fn enqueue(&self, stream: &Stream) -> Result<(), GpuError> {
        stream.upload(&self.tables, 0..self.tables.len(), &self.device, 0)?;
        self.copy.enqueue(stream)
    }

    fn address(&self, offset: usize) -> u64 {
        self.device.address().wrapping_add(offset as u64)
    }
}

/// Writes a part of a table of parts.
fn write_part(tables: &mut [u8], [table, bytes]: [usize; 2], index: usize, part: Part) {
    let of_table = tables.get_mut(table..).and_then(|tables| tables.get_mut(..bytes)).unwrap_or_default();
    if let Some(place) = of_table.as_chunks_mut::<PART_BYTES>().0.get_mut(index) {
        *place = part.to_bytes();
    }
}

/// What comes home: the results of each network and masks where they are wanted, to the slot; digests, to here.
struct Home {
    device: DeviceBuffer,
    /// Per network: where its results begin, where its masks, where its digests, and their bytes.
    parts: Vec<HomePart>,
    copy: PartsCopy,
    /// Where the digests of all networks begin.
    digests: usize,
    digest_bytes: PinnedBuffer,
}

/// Where one network's parts begin, and how long they are. Digests are counted from the beginning of all digests.
#[derive(Clone, Copy, Default)]
struct HomePart {
    results: [usize; 2],
    masks: [usize; 2],
    digests: [usize; 2],
}

impl Home {
    /// Parts of each network that are copied to the slot.
    const PARTS: usize = 2;

    /// With the address of the table of what is copied.
    fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: &[GpuNetwork],
        memory: &SlotMemory,
        options: NodeOptions,
        table: u64,
    ) -> Result<Self, GpuError> {
        let (mut places, mut digests) = (Places::default(), Places::default());
        let parts = networks.iter().zip(&memory.results).map(|(network, [results, masks])| {
            let count = if options.digest_tensors { 1 + network.engine.outputs().len() } else { 0 };
            HomePart {
                results: places.take(*results),
                masks: places.take(*masks),
                digests: digests.take(count * size_of::<u64>()),
            }
        });
        let parts = parts.collect();
        let [begin, _] = places.take(digests.0);
        Ok(Home {
            // the kernels leave the gaps between parts alone, and those go home too
            device: DeviceBuffer::from_bytes(context, &vec![0; places.0])?,
            parts,
            copy: PartsCopy::new(kernels, table, networks.len() * Home::PARTS)?,
            digests: begin,
            digest_bytes: PinnedBuffer::new(context, digests.0, HostKind::Pinned)?,
        })
    }

    /// Writes the table of what is copied: results and masks, to the slot. Gives their bytes.
    fn fill(&self, tick: &mut Tick, tables: &mut [u8], table: [usize; 2]) -> Result<usize, GpuError> {
        let (mut index, mut sent) = (0, 0);
        for (slot, part) in tick.networks.iter_mut().zip(&self.parts) {
            for (held, [start, bytes]) in [(&mut slot.results, part.results), (&mut slot.mask_bytes, part.masks)] {
                held.resize(bytes);
                let target = pinned(held.memory()).ok_or(GpuError::NotMapped)?.device_part(&(0..bytes))?;
                let source = self.device.part(start, bytes)?;
                write_part(tables, table, index, Part { source, target, bytes });
                index += 1;
                sent += bytes;
            }
        }
        Ok(sent)
    }

    /// Copies results and masks to the slot, and the digests of all networks to here.
    fn enqueue(&mut self, stream: &Stream) -> Result<(), GpuError> {
        self.copy.enqueue(stream)?;
        let bytes = self.digest_bytes.len();
        stream.download(&self.device, self.digests, &mut self.digest_bytes, 0..bytes)
    }

    fn digests_of(&self, part: &HomePart) -> &[u8] {
        let [start, bytes] = part.digests;
        self.digest_bytes.get(start..start.saturating_add(bytes)).unwrap_or_default()
    }
}

/// One network's share of a lane.
struct Branch {
    /// Whether it is part of the lane's graph.
    is_captured: bool,
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
    /// Whether the first run is over, in which TensorRT sets things up.
    is_warm: bool,
    branches: Vec<Branch>,
    stream: Stream,
    /// Branches may begin.
    arrived: Event,
    /// Those beside the graph may.
    arrived_beside: Event,
    /// The device has begun with the tick.
    begun: Event,
    /// All of the tick is done.
    done: Event,
    upload: Upload,
    home: Home,
    /// Bytes that went up for the last tick and that came home.
    copied: [usize; 2],
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

impl Drop for Lane {
    fn drop(&mut self) {
        // nobody may use the slot's memory while the device does; a failure means that it does no more
        let _ = self.stream.synchronize();
    }
}

/// A tick's networks on the GPU, as a device of the graph.
pub struct GpuNode {
    lanes: Vec<Lane>,
    memory: SlotMemory,
    networks: Vec<GpuNetwork>,
    sizes: PictureSizes,
    digest_tensors: bool,
    next: u64,
    on_loss: OnLoss,
    /// Whether the device can be used no more.
    is_lost: bool,
    /// The lane that completed a tick last.
    last_lane: usize,
    /// Ticks that did not need the device, until they are asked for.
    ended: Vec<(u64, Finished<Tick>)>,
}

/// What happens when the device can be used no more.
pub enum OnLoss {
    /// Ticks see nothing from then on, and whoever runs them is told why.
    End(Arc<OnceLock<String>>),
    /// The networks run on the CPU.
    Cpu(Box<Fallback>),
}

/// What takes the device's place on the CPU. It works while a tick is handed to the node, one after the other.
pub struct Fallback {
    /// Makes the tensors.
    pub preprocess: Preprocess,
    /// Runs the networks.
    pub infer: Infer,
}

impl Fallback {
    fn run(&mut self, tick: &mut Tick, networks: &[GpuNetwork], digest_tensors: bool) -> Result<(), StageError> {
        for (slot, GpuNetwork { network, .. }) in tick.networks.iter_mut().zip(networks) {
            let shape = [slot.cameras.len(), 3, network.layout.height, network.layout.width];
            slot.input.reshape(&shape).map_err(|error| StageError(error.to_string()))?;
        }
        let mut faults = String::new();
        for ran in [self.preprocess.run(tick), self.infer.run(tick)] {
            if let Err(error) = ran {
                add(&mut faults, &error.to_string());
            }
        }
        for slot in tick.networks.iter_mut().filter(|_| digest_tensors) {
            let tensors = std::iter::once(&slot.input).chain(&slot.outputs);
            slot.digests.extend(tensors.map(|tensor| digest_f32(&tensor.data)));
        }
        if faults.is_empty() { Ok(()) } else { Err(StageError(faults)) }
    }
}

impl GpuNode {
    /// Takes memory for two ticks in flight and loads what runs in them.
    pub fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        networks: Vec<GpuNetwork>,
        rig: &Rig,
        options: NodeOptions,
        on_loss: OnLoss,
    ) -> Result<Self, GpuNodeError> {
        let memory = SlotMemory::new(context, &networks, rig, options)?;
        let lanes = (0..DEPTH).map(|_| Lane::new(context, kernels, &networks, rig, &memory, options));
        Ok(GpuNode {
            lanes: lanes.collect::<Result<_, _>>()?,
            memory,
            networks,
            sizes: PictureSizes::new(rig),
            digest_tensors: options.digest_tensors,
            next: 0,
            on_loss,
            is_lost: false,
            last_lane: 0,
            ended: Vec::with_capacity(DEPTH),
        })
    }

    /// Where the networks of a tick run: where its decision says, or what is left.
    fn place(&self, tick: &Tick) -> NetworksPlace {
        match (tick.networks_place, self.is_lost, &self.on_loss) {
            (NetworksPlace::Configured, true, OnLoss::Cpu(_)) => NetworksPlace::Cpu,
            (NetworksPlace::Configured, true, OnLoss::End(_)) => NetworksPlace::Nowhere,
            (place, ..) => place,
        }
    }

    /// Starts a tick on the device.
    fn begin(&mut self, ticket: u64, mut slot: Lease<Slot<Tick>>) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.busy.is_none()) else {
            // the graph never sends more than fit
            forget(&mut slot.payload, NetworksPlace::Nowhere);
            let result = Err(StageError("no lane of the GPU is free".to_owned()));
            self.ended.push((ticket, Finished { slot, result }));
            return;
        };
        let mut faults = String::new();
        self.sizes.check(&mut slot.payload, &mut faults);
        let equipped = self.memory.equip(&mut slot.payload).map_err(GpuNodeError::Gpu);
        let begun = equipped.and_then(|()| lane.begin(&self.networks, &mut slot.payload));
        let begun = begun.map_err(|error| error.to_string());
        lane.busy = Some(Busy { ticket, slot, begun, faults });
    }

    /// Ends a tick without the device.
    fn do_without(&mut self, ticket: u64, mut slot: Lease<Slot<Tick>>, place: NetworksPlace) {
        let tick = &mut slot.payload;
        forget(tick, place);
        let result = match (&mut self.on_loss, place) {
            (OnLoss::Cpu(fallback), NetworksPlace::Cpu) => fallback.run(tick, &self.networks, self.digest_tensors),
            (_, NetworksPlace::Cpu) => {
                Err(StageError("the networks of this tick ran on the CPU: none is loaded".to_owned()))
            }
            _ => Err(StageError("the GPU was lost".to_owned())),
        };
        self.ended.push((ticket, Finished { slot, result }));
    }

    /// After a failure: whether it was the device's last, and what comes of that.
    fn note_loss(&mut self, faults: &mut String) {
        let Err(cause) = self.memory.context.check() else { return };
        self.is_lost = true;
        match &self.on_loss {
            OnLoss::Cpu(_) => add(faults, "the networks run on the CPU from here on"),
            OnLoss::End(told) => {
                let _ = told.set(cause.to_string());
            }
        }
    }

    /// Pieces of work of one tick's graph, once there is one.
    pub fn node_count(&self) -> Option<usize> {
        self.lanes.iter().find_map(|lane| lane.graph.as_ref()).map(Graph::node_count)
    }

    /// What a slot needs before its first tick, so that nothing is allocated then.
    pub fn slot_memory(&self) -> &SlotMemory {
        &self.memory
    }

    /// Bytes that went up for the last tick of a lane and that came home.
    pub fn copied_bytes(&self) -> [usize; 2] {
        self.lanes.first().map_or([0; 2], |lane| lane.copied)
    }

    /// How long the device worked on the tick that was completed last, copies included.
    pub fn last_device_ms(&self) -> Option<f32> {
        let lane = self.lanes.get(self.last_lane)?;
        lane.done.elapsed_ms(&lane.begun).ok()
    }

    /// Times a tick's graph with these pictures, and what TensorRT alone takes in the same branches, in turns: so many rounds
    /// of so many runs. To be asked while no tick is in flight. What cannot be captured is not counted.
    ///
    /// # Errors
    /// [`GpuNodeError`].
    pub fn time_parts(&mut self, tick: &mut Tick, rounds: usize, runs: usize) -> Result<Vec<TickTimes>, GpuNodeError> {
        self.memory.equip(tick)?;
        let Some(lane) = self.lanes.first_mut() else { return Ok(Vec::new()) };
        lane.fill(&self.networks, tick)?;
        // the first puts the tables up for the others
        let mut round = || {
            Ok(TickTimes {
                whole_ms: lane.time(Parts::ALL, runs)?,
                on_device_ms: lane.time(Parts { upload: false, ..Parts::ALL }, runs)?,
                inference_ms: lane.time(Parts::INFERENCE, runs)?,
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
        memory: &SlotMemory,
        options: NodeOptions,
    ) -> Result<Self, GpuNodeError> {
        let upload = Upload::new(context, kernels, networks, memory, options.transfer)?;
        let home = Home::new(context, kernels, networks, memory, options, upload.address(upload.home_table[0]))?;
        let mut branches = Vec::new();
        for ((network, tables), part) in networks.iter().zip(&upload.places).zip(&home.parts) {
            let begin = home.device.address();
            let at = |offset: usize| begin.wrapping_add(offset as u64);
            let ends = Ends {
                tables: tables.map(|offset| upload.address(offset)),
                results: at(part.results[0]),
                masks: at(part.masks[0]),
                digests: at(home.digests + part.digests[0]),
            };
            branches.push(Branch::new(context, kernels, network, rig, &ends, options)?);
        }
        Ok(Lane {
            graph: None,
            is_warm: false,
            branches,
            stream: Stream::new(context, Priority::High)?,
            arrived: Event::without_time(context)?,
            arrived_beside: Event::without_time(context)?,
            begun: Event::new(context)?,
            done: Event::new(context)?,
            upload,
            home,
            copied: [0; 2],
            busy: None,
        })
    }

    /// Starts a tick. After an error the device works on it no more.
    fn begin(&mut self, networks: &[GpuNetwork], tick: &mut Tick) -> Result<(), GpuNodeError> {
        let begun = self.begin_all(networks, tick);
        if begun.is_err() {
            // what has begun uses the slot's memory, and branches beside the graph may not have joined yet
            for stream in self.branches.iter().map(|branch| &branch.stream).chain([&self.stream]) {
                let _ = stream.synchronize();
            }
        }
        begun
    }

    fn begin_all(&mut self, networks: &[GpuNetwork], tick: &mut Tick) -> Result<(), GpuNodeError> {
        self.copied = self.fill(networks, tick)?;
        self.stream.record(&self.begun)?;
        if !self.is_warm {
            // TensorRT sets things up in a first run, which cannot be captured
            let Lane { stream, branches, arrived, upload, home, .. } = self;
            enqueue(stream, (upload, home), branches.iter_mut(), arrived, Parts::ALL)?;
            self.stream.synchronize()?;
            self.graph = self.capture_for_ticks()?;
            self.is_warm = true;
        }
        self.launch()?;
        Ok(self.stream.record(&self.done)?)
    }

    /// Writes the tables of a tick. Gives the bytes that go up and that come home.
    fn fill(&mut self, networks: &[GpuNetwork], tick: &mut Tick) -> Result<[usize; 2], GpuNodeError> {
        // what this tick lacks is nothing, and not that of an earlier one
        self.upload.tables.fill(0);
        self.upload.fill(networks, &self.branches, tick)?;
        let up = self.upload.fill_copies(tick)?;
        let table = self.upload.home_table;
        Ok([up, self.home.fill(tick, &mut self.upload.tables, table)?])
    }

    fn is_all_captured(&self) -> bool {
        self.branches.iter().all(|branch| branch.is_captured)
    }

    /// All of a tick, or the branches that can be captured, if there are any.
    fn capture_for_ticks(&mut self) -> Result<Option<Graph>, GpuNodeError> {
        let parts = if self.is_all_captured() { Parts::ALL } else { Parts { around: true, ..Parts::INFERENCE } };
        let is_any = self.branches.iter().any(|branch| branch.is_captured);
        is_any.then(|| self.capture(parts)).transpose()
    }

    /// Starts a tick's work: the graph, and what is in none.
    fn launch(&mut self) -> Result<(), TensorRtError> {
        let is_all = self.is_all_captured();
        let Lane { graph, branches, stream, arrived_beside, upload, home, .. } = self;
        if let (true, Some(graph)) = (is_all, &graph) {
            return Ok(graph.launch(stream)?);
        }
        upload.enqueue(stream)?;
        stream.record(arrived_beside)?;
        for branch in branches.iter_mut().filter(|branch| !branch.is_captured) {
            branch.begin(arrived_beside, Parts::ALL)?;
        }
        if let Some(graph) = graph {
            graph.launch(stream)?;
        }
        for branch in branches.iter().filter(|branch| !branch.is_captured) {
            stream.wait(&branch.done)?;
        }
        Ok(home.enqueue(stream)?)
    }

    /// These parts of a tick's work, of the branches that can be captured.
    fn capture(&mut self, parts: Parts) -> Result<Graph, GpuNodeError> {
        let Lane { stream, branches, arrived, upload, home, .. } = self;
        let mut failure = None;
        let captured = Graph::capture(stream, |stream| {
            let captured = branches.iter_mut().filter(|branch| branch.is_captured);
            enqueue(stream, (upload, home), captured, arrived, parts).map_err(|error| {
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

    /// Median time of these parts, in milliseconds, with the tables that were written last.
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

    /// Says the rest of what the tick is to know: results and masks are in its memory.
    fn deliver(&self, tick: &mut Tick) {
        for ((slot, part), branch) in tick.networks.iter_mut().zip(&self.home.parts).zip(&self.branches) {
            let NetworkSlot { digests, letterboxes, .. } = slot;
            for (held, letterbox) in letterboxes.iter_mut().zip(branch.preprocess.letterboxes()) {
                *held = *letterbox;
            }
            digests.clear();
            digests.extend(read_digests(self.home.digests_of(part)));
        }
    }
}

/// Which parts of a tick's work are wanted.
#[derive(Clone, Copy)]
struct Parts {
    /// The copies to the device.
    upload: bool,
    /// What stands before and behind TensorRT.
    around: bool,
    /// The copies to the host.
    home: bool,
}

impl Parts {
    const ALL: Parts = Parts { upload: true, around: true, home: true };
    const INFERENCE: Parts = Parts { upload: false, around: false, home: false };
}

/// Puts a tick's work into a stream and the branches that fork from it and join it.
fn enqueue<'b>(
    stream: &Stream,
    (upload, home): (&Upload, &mut Home),
    branches: impl Iterator<Item = &'b mut Branch>,
    arrived: &Event,
    parts: Parts,
) -> Result<(), TensorRtError> {
    if parts.upload {
        upload.enqueue(stream)?;
    }
    stream.record(arrived)?;
    for branch in branches {
        branch.begin(arrived, parts)?;
        stream.wait(&branch.done)?;
    }
    if parts.home {
        home.enqueue(stream)?;
    }
    Ok(())
}

/// Where a branch begins and ends.
struct Ends {
    /// Addresses of the table of pictures and of the flags.
    tables: [u64; 2],
    /// Addresses of what comes home.
    results: u64,
    masks: u64,
    digests: u64,
}

impl Branch {
    /// Puts its work into its own stream, behind an event.
    fn begin(&mut self, arrived: &Event, parts: Parts) -> Result<(), TensorRtError> {
        self.stream.wait(arrived)?;
        if parts.around {
            self.preprocess.enqueue(&self.stream)?;
        }
        // SAFETY: the branch holds the memory of the engine's sizes, and the lane drops its graph first.
        unsafe { self.execution.enqueue(&self.stream)? };
        if parts.around {
            self.decode.enqueue(&self.stream)?;
            if let Some(digest) = &self.digest {
                digest.enqueue(&self.stream)?;
            }
        }
        Ok(self.stream.record(&self.done)?)
    }

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
        let masks = if options.masks { ends.masks } else { buffer(plan.mask_bytes() as u64)? };
        let thresholds = Thresholds {
            score: network.network.score_threshold,
            iou: network.network.nms_iou,
            max_detections: MAX_DETECTIONS,
        };
        let addresses = DecodeAddresses {
            outputs: &outputs,
            present: Some(ends.tables[1]),
            workspace: buffer(plan.workspace_bytes() as u64)?,
            results: ends.results,
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
            Some(DeviceDigest::new(kernels, &values, workspace, ends.digests)?)
        } else {
            None
        };
        Ok(Branch {
            is_captured: network.is_captured,
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

    fn submit(&mut self, slot: Lease<Slot<Tick>>) -> Ticket {
        self.next += 1;
        let ticket = self.next;
        match self.place(&slot.payload) {
            NetworksPlace::Configured => self.begin(ticket, slot),
            place => self.do_without(ticket, slot, place),
        }
        Ticket(ticket)
    }

    fn complete(&mut self, Ticket(ticket): Ticket) -> Result<Finished<Tick>, Ticket> {
        if let Some(at) = self.ended.iter().position(|(of, _)| *of == ticket) {
            return Ok(self.ended.swap_remove(at).1);
        }
        let is_mine = |lane: &Lane| lane.busy.as_ref().is_some_and(|busy| busy.ticket == ticket);
        let found = self.lanes.iter().position(is_mine).and_then(|at| Some((at, self.lanes.get_mut(at)?)));
        let Some((at, lane)) = found else { return Err(Ticket(ticket)) };
        let begun = matches!(&lane.busy, Some(Busy { begun: Ok(()), .. }));
        let done = if begun { lane.done.is_done() } else { Ok(true) };
        if matches!(done, Ok(false)) {
            return Err(Ticket(ticket));
        }
        let Some(Busy { mut slot, begun, mut faults, .. }) = lane.busy.take() else { return Err(Ticket(ticket)) };
        self.last_lane = at;
        match begun.and(done.map_err(|error| error.to_string())) {
            Ok(_) => lane.deliver(&mut slot.payload),
            Err(error) => {
                forget(&mut slot.payload, NetworksPlace::Nowhere);
                add(&mut faults, &error);
                self.note_loss(&mut faults);
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

/// Leaves nothing of an earlier tick behind, and says where the networks ran instead.
fn forget(tick: &mut Tick, place: NetworksPlace) {
    tick.networks_place = place;
    for slot in &mut tick.networks {
        slot.results.clear();
        slot.digests.clear();
        slot.mask_bytes.clear();
        slot.outputs.iter_mut().for_each(|output| *output = Tensor::default());
    }
}

/// Adds words to those of a fault.
fn add(faults: &mut String, words: &str) {
    let gap = if faults.is_empty() { "" } else { "; " };
    // writing to a string cannot fail
    let _ = write!(faults, "{gap}{words}");
}
