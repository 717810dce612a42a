//! One network's way from pictures on the device to results there: preprocess, TensorRT, decode, digests, in a stream of its own.

use std::sync::Arc;

use catseye_calibration::rig::Rig;

use super::network::shape_of;
use super::places::ALIGNMENT;
use super::{GpuNetwork, GpuNodeError, NodeOptions};
use crate::gpu::decode::{DecodeAddresses, HeadDecode, Thresholds};
use crate::gpu::digest::{DeviceDigest, DeviceValue, ValueKind};
use crate::gpu::preprocess::{BatchPreprocess, CameraInput, ElementType};
use crate::gpu::tensorrt::{ExecutionContext, TensorInfo, TensorRtError};
use crate::gpu::{Context, DeviceBuffer, Event, Kernels, Priority, Stream};
use crate::messages::MAX_DETECTIONS;
use crate::stages::network::{Network, undistorted_cameras};
use crate::stages::preprocess::Remap;
use crate::stages::preprocess::raw::{Isp, pattern_of};

/// One network's share of a lane.
pub(super) struct Branch {
    /// Whether it is part of the lane's graph.
    pub(super) is_captured: bool,
    pub(super) preprocess: BatchPreprocess,
    execution: ExecutionContext,
    decode: HeadDecode,
    digest: Option<DeviceDigest>,
    pub(super) stream: Stream,
    /// The branch has ended.
    pub(super) done: Event,
    /// What the kernels and TensorRT work in.
    _memory: Vec<DeviceBuffer>,
}

/// Where a branch begins and ends.
pub(super) struct Ends {
    /// Addresses of the table of pictures and of the flags.
    pub(super) tables: [u64; 2],
    /// Addresses of what comes home.
    pub(super) results: u64,
    pub(super) masks: u64,
    pub(super) digests: u64,
}

/// Which parts of a tick's work are wanted.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// The copies to the device.
    pub(super) upload: bool,
    /// What stands before and behind TensorRT.
    pub(super) around: bool,
    /// The copies to the host.
    pub(super) home: bool,
}

impl Parts {
    pub(super) const ALL: Parts = Parts { upload: true, around: true, home: true };
    pub(super) const INFERENCE: Parts = Parts { upload: false, around: false, home: false };
}

impl Branch {
    pub(super) fn new(
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

    /// Puts its work into its own stream, behind an event.
    pub(super) fn begin(&mut self, arrived: &Event, parts: Parts) -> Result<(), TensorRtError> {
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
    let (mut remaps, mut sizes, mut isps) = (Vec::new(), Vec::new(), Vec::new());
    for camera in cameras {
        let Some(of_rig) = rig.cameras.get(*camera) else { continue };
        let is_undistorted = undistorted.get(*camera) == Some(&true);
        let (width_px, height_px) = (of_rig.width_px, of_rig.height_px);
        let remap = is_undistorted.then(|| Remap::undistorting(layout, width_px, height_px, &of_rig.intrinsics));
        remaps.push(remap.transpose()?);
        sizes.push([width_px, height_px]);
        let isp = |pattern| Isp::of_rig(pattern, &of_rig.isp.unwrap_or_default());
        isps.push(pattern_of(of_rig).map(isp));
    }
    let inputs = sizes.iter().zip(&remaps).zip(&isps).map(|((&[width_px, height_px], remap), isp)| CameraInput {
        width_px,
        height_px,
        remap: remap.as_ref(),
        raw: isp.as_ref(),
    });
    let inputs: Vec<CameraInput<'_>> = inputs.collect();
    BatchPreprocess::new(context, kernels, layout, &inputs, ElementType::F32, input, pictures)
        .map_err(|error| GpuNodeError::Preprocess { model: name.clone(), error })
}
