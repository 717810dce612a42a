//! The stages, in the order of the data: what a tick goes through from packets to a plan.
//!
//! [`ingest`] stands at the edge and makes ticks; the others are [`Stage`](crate::runtime::graph::Stage)s over a [`Tick`],
//! each reading what the ones before it wrote and writing its own fields. [`pipeline`](crate::pipeline) puts them together.

pub mod decode;
pub mod fuse;
pub mod geometry;
pub mod handoff;
pub mod infer;
pub mod ingest;
pub mod network;
pub mod plan;
pub mod preprocess;
pub mod recorded;
pub mod track;
pub mod unpack;

use catseye_sensors::cloud::Point;
use catseye_sensors::memory::HostBytes;
use catseye_sensors::picture::Frame;

use crate::log::packet::SensorPacket;
use crate::messages::{CameraDetections, CameraTracks, DropDecision, NetworksPlace, Plan, WorldModel};
use decode::Masks;
use infer::Tensor;
use preprocess::Letterbox;
use preprocess::raw::RawError;
use preprocess::raw_slot::RawSlot;

/// All that one tick needs, in one slot of the pool. Buffers keep their capacity from tick to tick.
#[derive(Default)]
pub struct Tick {
    /// Number of the tick in the log.
    pub id: u64,
    /// Time that it stands for.
    pub reference_ns: i64,
    /// Whether a camera's or lidar's packet was missing.
    pub partial: bool,
    /// Where its networks are to run, and then where they did.
    pub networks_place: NetworksPlace,
    /// The packets, in total order.
    pub packets: Vec<SensorPacket>,
    /// One per camera of the rig.
    pub cameras: Vec<CameraSlot>,
    /// One per lidar of the rig.
    pub lidars: Vec<LidarSlot>,
    /// One per network.
    pub networks: Vec<NetworkSlot>,
    /// Measurements that came too late to be filtered.
    pub late: Vec<DropDecision>,
    /// What is around the vehicle.
    pub world: WorldModel,
    /// What to do about it.
    pub plan: Plan,
}

/// What a tick knows of one camera.
#[derive(Default)]
pub struct CameraSlot {
    /// Whether there is a picture.
    pub present: bool,
    /// Its stamp.
    pub stamp_ns: i64,
    /// The packet's number.
    pub sequence: u32,
    /// The picture, unless it is raw and nobody has developed it yet.
    pub frame: Frame,
    /// The picture in the latter case.
    pub raw: RawSlot,
    /// What the networks saw.
    pub seen: CameraDetections,
    /// What is followed.
    pub tracks: CameraTracks,
}

impl CameraSlot {
    /// Width and height of the picture in pixels.
    pub fn size_px(&self) -> [u32; 2] {
        match self.raw.layout() {
            Some(layout) => [layout.width_px, layout.height_px],
            None => [self.frame.width_px(), self.frame.height_px()],
        }
    }

    /// Where the picture lies, developed or not.
    pub fn host_bytes(&self) -> &HostBytes {
        if self.raw.layout().is_some() { self.raw.samples() } else { self.frame.host_bytes() }
    }

    /// Makes a raw picture one of pixels.
    ///
    /// # Errors
    /// [`RawError`]; the picture is then as it was.
    pub fn develop(&mut self) -> Result<(), RawError> {
        if self.raw.develop(&mut self.frame)? {
            self.raw.forget();
        }
        Ok(())
    }
}

/// What a tick knows of one lidar.
#[derive(Default)]
pub struct LidarSlot {
    /// Whether there is a scan.
    pub present: bool,
    /// Its stamp: the points lie where they were then.
    pub stamp_ns: i64,
    /// The points, in the sensor's frame.
    pub points: Vec<Point>,
}

impl LidarSlot {
    /// With room for a usual scan.
    fn new() -> Self {
        LidarSlot { points: Vec::with_capacity(fuse::measure::SCAN_POINTS), ..LidarSlot::default() }
    }
}

/// The tensors of one network: one row per camera that it serves.
#[derive(Default)]
pub struct NetworkSlot {
    /// Indices of the cameras, one per row.
    pub cameras: Vec<usize>,
    /// Prepared pictures; the row of an absent camera is zero.
    pub input: Tensor,
    /// What the network said.
    pub outputs: Vec<Tensor>,
    /// Where each picture lies in its row.
    pub letterboxes: Vec<Letterbox>,
    /// Masks, for networks that make them.
    pub masks: Vec<Masks>,
    /// What a device decoded, in place of the outputs.
    pub results: HostBytes,
    /// The device's digests: of the input, then of each output, where they are wanted.
    pub digests: Vec<u64>,
    /// The device's masks, where they are wanted.
    pub mask_bytes: HostBytes,
}

impl Tick {
    /// An empty tick for a rig with this many cameras and lidars, and these networks.
    pub fn new(cameras: usize, lidars: usize, networks: &[network::Network]) -> Self {
        Tick {
            cameras: (0..cameras).map(|_| CameraSlot::default()).collect(),
            lidars: (0..lidars).map(|_| LidarSlot::new()).collect(),
            late: Vec::with_capacity(64),
            networks: networks.iter().map(network::Network::slot).collect(),
            ..Tick::default()
        }
    }
}
