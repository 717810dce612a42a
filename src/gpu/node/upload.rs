//! The beginning of a tick: the host writes tables that tell where the pictures lie, and the device fetches both.

use std::sync::Arc;

use catseye_sensors::picture::Frame;

use super::branch::Branch;
use super::home::Home;
use super::places::{Places, write_part};
use super::slot::{SlotMemory, pinned};
use super::{GpuNetwork, GpuNodeError};
use crate::gpu::copy::PART_BYTES;
use crate::gpu::memory::inside;
use crate::gpu::preprocess::{DevicePicture, PICTURE_BYTES};
use crate::gpu::{Context, DeviceBuffer, GpuError, HostKind, Kernels, Part, PartsCopy, PinnedBuffer, Stream, Transfer};
use crate::stages::Tick;

/// What goes up: for each network a table of its pictures and a flag for each that is there; what is copied, both ways; and room
/// for the pictures.
pub(super) struct Upload {
    transfer: Transfer,
    pub(super) tables: PinnedBuffer,
    device: DeviceBuffer,
    /// Per network: where its table begins, and where its flags.
    pub(super) places: Vec<[usize; 2]>,
    /// Where the table of copied pictures begins, and its bytes.
    pictures_table: [usize; 2],
    /// The same of what comes home.
    pub(super) home_table: [usize; 2],
    /// Per camera, where its picture begins and how many bytes it may have; none where pictures are read where they lie.
    pictures: Vec<[usize; 2]>,
    copy: PartsCopy,
}

impl Upload {
    pub(super) fn new(
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
        let table_bytes = places.bytes();
        let room = |bytes: usize| if is_copied { bytes } else { 0 };
        let pictures = memory.pictures.iter().map(|bytes| places.take(room(*bytes))).collect();
        let device = DeviceBuffer::new(context, places.bytes())?;
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
    pub(super) fn fill(
        &mut self,
        networks: &[GpuNetwork],
        branches: &[Branch],
        tick: &Tick,
    ) -> Result<(), GpuNodeError> {
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
                inside(&(0..bytes), room)?;
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
    pub(super) fn fill_copies(&mut self, tick: &Tick) -> Result<usize, GpuError> {
        let mut sent = self.tables.len();
        for (index, camera) in tick.cameras.iter().enumerate().take(self.pictures_table[1] / PART_BYTES) {
            let [place, room] = self.pictures.get(index).copied().unwrap_or_default();
            let is_copied = |lies: &&PinnedBuffer| camera.present && room > 0 && !lies.is_imported();
            if let Some(lies) = pinned(camera.frame.host_bytes().memory()).filter(is_copied) {
                let bytes = camera.frame.data().len();
                inside(&(0..bytes), room)?;
                let part = Part { source: lies.device_part(&(0..bytes))?, target: self.address(place), bytes };
                write_part(&mut self.tables, self.pictures_table, index, part);
                sent += bytes;
            }
        }
        Ok(sent)
    }

    /// Copies the tables, and what they say is to be copied here.
    pub(super) fn enqueue(&self, stream: &Stream) -> Result<(), GpuError> {
        stream.upload(&self.tables, 0..self.tables.len(), &self.device, 0)?;
        self.copy.enqueue(stream)
    }

    pub(super) fn address(&self, offset: usize) -> u64 {
        self.device.address().wrapping_add(offset as u64)
    }
}
