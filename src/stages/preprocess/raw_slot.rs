//! A raw picture that nobody has developed yet.
//!
//! Unpack leaves the samples as they came, where they lie. On a GPU the kernels read them, and no pixel is made on the host; on the
//! CPU preprocessing develops them, and what draws develops a copy. All use one [`Isp`], so that all see the same pixels.

use std::sync::Arc;

use catseye_sensors::memory::{HostBytes, HostMemory, SharedBytes};
use catseye_sensors::picture::{Frame, Limits, PixelFormat, copy_rows};

use super::raw::{Isp, MosaicLayout, RawError, RawPicture, raw_stride};

/// A camera's samples, in memory that is used again.
#[derive(Clone, Debug, Default)]
pub struct RawSlot {
    /// How they lie, tightly packed, and how they are developed; none if there is nothing to develop.
    waiting: Option<(MosaicLayout, Arc<Isp>)>,
    samples: HostBytes,
}

impl RawSlot {
    /// Keeps a picture: shown where it is, if its rows lie close together and [`HostBytes::show`] takes it, else copied.
    ///
    /// # Errors
    /// What [`Isp::develop`] would say of it. There is then no picture.
    pub fn keep(
        &mut self,
        layout: &MosaicLayout,
        isp: &Arc<Isp>,
        bytes: &SharedBytes,
        limits: &Limits,
    ) -> Result<(), RawError> {
        self.waiting = None;
        let MosaicLayout { width_px, height_px, format, stride_bytes, .. } = *layout;
        limits.check(width_px, height_px, PixelFormat::Rgb8)?;
        isp.check()?;
        let stride = raw_stride(format, width_px, height_px, stride_bytes, bytes.len())?;
        let row_bytes = format.row_bytes(width_px);
        // no more than the pixels need, which is within the limits
        let packed = row_bytes * height_px as usize;
        if stride != row_bytes || self.samples.show(bytes.first(packed)).is_err() {
            // all of it is there, as was just checked
            let _ = copy_rows(self.samples.resize(packed), row_bytes, bytes, stride);
        }
        self.waiting = Some((MosaicLayout { stride_bytes: None, ..*layout }, Arc::clone(isp)));
        Ok(())
    }

    /// How the picture lies that waits to be developed.
    pub fn layout(&self) -> Option<&MosaicLayout> {
        self.waiting.as_ref().map(|(layout, _)| layout)
    }

    /// Its samples, tightly packed, and where they lie.
    pub fn samples(&self) -> &HostBytes {
        &self.samples
    }

    /// Lends memory in which samples lie from now on, where they have room there.
    pub fn lend(&mut self, memory: Box<dyn HostMemory>) {
        self.samples.lend(memory);
    }

    /// Develops the picture into a frame; false if none waits.
    ///
    /// # Errors
    /// [`RawError`]; the frame is then as it was.
    pub fn develop(&self, frame: &mut Frame) -> Result<bool, RawError> {
        let Some((layout, isp)) = &self.waiting else { return Ok(false) };
        let MosaicLayout { width_px, height_px, format, stride_bytes, .. } = *layout;
        isp.develop(&RawPicture { bytes: &self.samples, width_px, height_px, format, stride_bytes }, frame)?;
        Ok(true)
    }

    /// Nothing waits any more, and samples that were shown go back to where they are from.
    pub fn forget(&mut self) {
        self.waiting = None;
        self.samples.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::{BayerPattern, RawFormat};
    use super::*;

    const SIZE_PX: [u32; 2] = [5, 3];

    /// A picture with so many bytes behind each row, and what is developed of it.
    fn picture(format: RawFormat, padding: usize) -> (MosaicLayout, Arc<Isp>, SharedBytes, Frame) {
        let [width_px, height_px] = SIZE_PX;
        let stride = format.row_bytes(width_px) + padding;
        let stride_bytes = (padding > 0).then_some(stride);
        let pattern = BayerPattern::Gbrg;
        let bytes: Vec<u8> = (0..stride * height_px as usize).map(|at| (at * 37 % 11) as u8).collect();
        let isp = Isp::new(pattern);
        let mut frame = Frame::default();
        isp.develop(&RawPicture { bytes: &bytes, width_px, height_px, format, stride_bytes }, &mut frame).unwrap();
        let layout = MosaicLayout { width_px, height_px, format, pattern, stride_bytes };
        (layout, Arc::new(isp), SharedBytes::from(foxglove::bytes::Bytes::from(bytes)), frame)
    }

    #[test]
    fn what_is_kept_is_developed_as_it_came() {
        let mut slot = RawSlot::default();
        for format in RawFormat::ALL {
            for padding in [0, 3] {
                let (layout, isp, bytes, expected) = picture(format, padding);
                slot.keep(&layout, &isp, &bytes, &Limits::default()).unwrap();
                assert_eq!(slot.samples().as_ptr() == bytes.as_ptr(), padding == 0, "shown where rows lie close");
                assert_eq!(slot.samples().len(), 3 * format.row_bytes(5));
                assert_eq!(slot.layout().map(|layout| layout.stride_bytes), Some(None));
                let mut frame = Frame::default();
                assert_eq!(slot.develop(&mut frame), Ok(true));
                assert_eq!(frame, expected, "{format:?}, {padding} bytes behind rows");
            }
        }
        slot.forget();
        assert_eq!((slot.develop(&mut Frame::default()), slot.layout()), (Ok(false), None));
    }

    #[test]
    fn a_picture_that_cannot_be_developed_is_not_kept() {
        let (layout, isp, bytes, _) = picture(RawFormat::Raw12, 0);
        let mut slot = RawSlot::default();
        slot.keep(&layout, &isp, &bytes, &Limits::default()).unwrap();
        let short = slot.keep(&layout, &isp, &bytes.first(29), &Limits::default());
        assert_eq!(short, Err(RawError::ShortPicture { expected: 30, found: 29 }));
        assert_eq!(slot.layout(), None);
        let small = Limits { max_width_px: 4, ..Limits::default() };
        assert!(matches!(slot.keep(&layout, &isp, &bytes, &small), Err(RawError::Picture(_))));
        let black = Arc::new(Isp { black_level: 4095, ..(*isp).clone() });
        assert!(matches!(slot.keep(&layout, &black, &bytes, &Limits::default()), Err(RawError::BlackLevel { .. })));
        let endless = MosaicLayout { stride_bytes: Some(usize::MAX), ..layout };
        assert!(slot.keep(&endless, &isp, &bytes, &Limits::default()).is_err());
        assert_eq!(slot.layout(), None);
    }
}
