//! The guard of the disk's free space: it has a recording end while there is still room to end it well.
//!
//! A disk that is full takes neither an index nor a manifest, and other programs fail with it. So the recorder asks after
//! every flush, and closes cleanly below the limit; the caller goes on without a recording and is told.

use std::io;

use super::volume::Volume;

/// How much is left, and how much has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Free bytes found.
    pub free_bytes: u64,
    /// Free bytes that there have to be.
    pub limit_bytes: u64,
}

/// Watches the free space.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Below this a recording ends; 0 watches nothing.
    pub limit_bytes: u64,
}

impl Guard {
    /// Looks once: `Some` when there is too little.
    ///
    /// # Errors
    /// The system's, when it does not say how much is free.
    pub fn shortage(self, volume: &dyn Volume) -> io::Result<Option<Shortage>> {
        if self.limit_bytes == 0 {
            return Ok(None);
        }
        let free_bytes = volume.free_bytes()?;
        let limit_bytes = self.limit_bytes;
        Ok((free_bytes < limit_bytes).then_some(Shortage { free_bytes, limit_bytes }))
    }

    /// Whether so many bytes can be set aside without coming below the limit.
    pub fn leaves_room_for(self, bytes: u64, volume: &dyn Volume) -> bool {
        volume.free_bytes().is_ok_and(|free_bytes| free_bytes >= self.limit_bytes.saturating_add(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::recorder::volume::Store;
    use std::path::Path;

    struct Free(u64);

    impl Volume for Free {
        fn create(&self, _: &Path) -> io::Result<Box<dyn Store>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn free_bytes(&self) -> io::Result<u64> {
            Ok(self.0)
        }
    }

    #[test]
    fn a_shortage_says_how_much_there_is_and_should_be() {
        let guard = Guard { limit_bytes: 100 };
        assert_eq!(guard.shortage(&Free(100)).unwrap(), None);
        assert_eq!(guard.shortage(&Free(99)).unwrap(), Some(Shortage { free_bytes: 99, limit_bytes: 100 }));
        assert_eq!(Guard { limit_bytes: 0 }.shortage(&Free(0)).unwrap(), None);
        assert!(guard.leaves_room_for(50, &Free(150)) && !guard.leaves_room_for(51, &Free(150)));
    }
}
