//! The beginning of a tick: the host writes tables that tell where the pictures lie, and the device fetches both.

use std::sync::Arc;

use catseye_sensors::memory::HostBytes;

use super::branch::Branch;
use super::home::Home;
use super::places::{Places, write_part};
use super::slot::{SlotMemory, pinned};
use super::{GpuNetwork, GpuNodeError};
use crate::gpu::copy::PART_BYTES;
use crate::gpu::memory::inside;
use crate::gpu::preprocess::{BatchPreprocess, DevicePicture, DeviceRawPicture, PICTURE_BYTES, WritePictureError};
use crate::gpu::{Context, DeviceBuffer, GpuError, HostKind, Kernels, Part, PartsCopy, PinnedBuffer, Stream, Transfer};
use crate::stages::{CameraSlot, Tick};

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
        let pictures = memory.pictures.iter().map(|picture| places.take(room(picture.bytes))).collect();
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
                let slot = tick.cameras.get(*camera).filter(|slot| slot.present);
                let address = slot.map(|slot| self.picture_address(*camera, slot.host_bytes())).transpose()?;
                let picture = slot.zip(address);
                let descriptions = self.tables.get_mut(table..).unwrap_or_default();
                let descriptions = descriptions.get_mut(..cameras.len() * PICTURE_BYTES).unwrap_or_default();
                describe(&branch.preprocess, row, picture, descriptions)?;
                let flag = u32::from(picture.is_some()).to_ne_bytes();
                let place = flags + row * flag.len();
                if let Some(room) = self.tables.get_mut(place..place + flag.len()) {
                    room.copy_from_slice(&flag);
                }
            }
        }
        Ok(())
    }

    /// Where the kernels find a picture.
    fn picture_address(&self, camera: usize, picture: &HostBytes) -> Result<u64, GpuError> {
        let all = 0..picture.len();
        let lies = pinned(picture.memory()).ok_or(GpuError::NotMapped)?;
        if lies.is_imported() || self.transfer == Transfer::Mapped {
            return lies.device_part(&all);
        }
        let [place, room] = self.pictures.get(camera).copied().unwrap_or_default();
        inside(&all, room)?;
        Ok(self.address(place))
    }

    /// Writes the table of the pictures that are copied: those that are there, and not read where they lie. Gives the bytes of all that
    /// goes up.
    pub(super) fn fill_copies(&mut self, tick: &Tick) -> Result<usize, GpuError> {
        let mut sent = self.tables.len();
        for (index, camera) in tick.cameras.iter().enumerate().take(self.pictures_table[1] / PART_BYTES) {
            let [place, room] = self.pictures.get(index).copied().unwrap_or_default();
            let is_copied = |lies: &&PinnedBuffer| camera.present && room > 0 && !lies.is_imported();
            let picture = camera.host_bytes();
            if let Some(lies) = pinned(picture.memory()).filter(is_copied) {
                let bytes = picture.len();
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

/// Tells of a camera's picture that lies at an address, or that it has none.
fn describe(
    preprocess: &BatchPreprocess,
    row: usize,
    picture: Option<(&CameraSlot, u64)>,
    descriptions: &mut [u8],
) -> Result<(), WritePictureError> {
    let Some((slot, address)) = picture else { return preprocess.write_picture(row, None, descriptions) };
    let (bytes, [width_px, height_px], stride_bytes) = (slot.host_bytes().len(), slot.size_px(), None);
    if let Some(layout) = slot.raw.layout() {
        let format = layout.format;
        let raw = DeviceRawPicture { address, bytes, width_px, height_px, format, stride_bytes };
        return preprocess.write_raw_picture(row, Some(&raw), descriptions);
    }
    let (format, full_range) = (slot.frame.format(), slot.frame.full_range());
    let pixels = DevicePicture { address, bytes, width_px, height_px, format, full_range, stride_bytes };
    preprocess.write_picture(row, Some(&pixels), descriptions)
}
