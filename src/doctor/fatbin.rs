//! The GPU architectures that a library of NVIDIA has kernels for, read from the headers of its `.nv_fatbin` section.
//!
//! This is what `cuobjdump --list-elf LIBRARY` lists, without that program: the section holds containers one after the other, each a
//! header of 16 bytes and then entries, each a header and a payload, which is passed over. Only headers are read, so a library of
//! hundreds of megabytes takes milliseconds. NVIDIA documents `cuobjdump` ("CUDA Binary Utilities") but not the layout; it is that of
//! `fatBinaryHeader` in CUDA's `fatbinary_section.h` and of what others found out of the entries (github.com/GrigoryEvko/nvopen-tools,
//! `fatbin/FORMAT_SPECIFICATION.md`; github.com/n-eiling/cuda-fatbin-decompression). The test against a library of TensorRT says that
//! it holds there.
//!
//! The bytes come from outside: whatever they are, reading ends, takes no more memory than headers need, and damage has a name.

use std::collections::BTreeSet;
use std::path::Path;

use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ReadRef};
use thiserror::Error;

/// Why a library does not tell its architectures.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FatbinError {
    /// The system failed.
    #[error("{path}: {cause}")]
    System {
        /// The library.
        path: String,
        /// The system's words.
        cause: String,
    },
    /// It is no library of a 64-bit machine.
    #[error("expected a 64-bit ELF file, found {found}")]
    NotElf {
        /// What is wrong.
        found: String,
    },
    /// The section is not what is known of it.
    #[error("expected a fat binary at byte {offset:#x}, found {found}")]
    NotFatbin {
        /// Where in the file.
        offset: u64,
        /// What is there.
        found: String,
    },
}

/// Begins a container (`FATBIN_MAGIC`).
const MAGIC: u32 = 0xBA55_ED50;
const CONTAINER_HEADER: u64 = 16;
/// Bytes of an entry's header that are read; newer ones are longer.
const ENTRY_HEADER: u64 = 64;
/// Kinds of entries that hold machine code. PTX (1) is text for the driver, which TensorRT does not count on.
const CUBINS: [u16; 2] = [0x02, 0x10];
/// No library comes near so many: TensorRT's largest has some thousands. A damaged one is not followed for ever.
const MOST_ENTRIES: usize = 1 << 20;

/// The architectures of a library's kernels: 87 for sm_87. None where it has no such section.
///
/// # Errors
/// [`FatbinError`], for what is no library and for what is damaged.
pub fn architectures_of(path: &Path) -> Result<BTreeSet<u32>, FatbinError> {
    let system =
        |error: std::io::Error| FatbinError::System { path: path.display().to_string(), cause: error.to_string() };
    let file = std::fs::File::open(path).map_err(system)?;
    architectures(&ReadCache::new(file))
}

/// The same of a library's bytes, however they are read.
///
/// # Errors
/// [`FatbinError`], for what is no library and for what is damaged.
pub fn architectures<'data, R: ReadRef<'data>>(library: R) -> Result<BTreeSet<u32>, FatbinError> {
    let elf = ElfFile64::<object::Endianness, R>::parse(library)
        .map_err(|error| FatbinError::NotElf { found: error.to_string() })?;
    let mut found = BTreeSet::new();
    let Some((start, length)) = elf.section_by_name(".nv_fatbin").and_then(|section| section.file_range()) else {
        return Ok(found);
    };
    let section = Section { library, end: start.saturating_add(length), left: MOST_ENTRIES };
    section.walk(start, &mut found)?;
    Ok(found)
}

struct Section<R> {
    library: R,
    end: u64,
    left: usize,
}

impl<'data, R: ReadRef<'data>> Section<R> {
    fn walk(mut self, start: u64, found: &mut BTreeSet<u32>) -> Result<(), FatbinError> {
        let mut at = start;
        while at.saturating_add(CONTAINER_HEADER) <= self.end {
            let header = self.bytes::<16>(at)?;
            let [magic, versions, size_low, size_high] = words(header);
            if magic == 0 {
                // containers begin at multiples of eight bytes, with zeros between them
                at = at.saturating_add(8);
                self.spend(at)?;
                continue;
            }
            if magic != MAGIC {
                return Err(FatbinError::NotFatbin { offset: at, found: format!("{magic:#010x}") });
            }
            let first = at.saturating_add(u64::from(versions >> 16).max(CONTAINER_HEADER));
            let end =
                at.saturating_add(CONTAINER_HEADER).saturating_add(u64::from(size_high) << 32 | u64::from(size_low));
            if end > self.end {
                return Err(FatbinError::NotFatbin {
                    offset: at,
                    found: "one that ends behind the section".to_owned(),
                });
            }
            self.entries(first, end, found)?;
            at = end.next_multiple_of(8);
            self.spend(at)?;
        }
        Ok(())
    }

    fn entries(&mut self, first: u64, end: u64, found: &mut BTreeSet<u32>) -> Result<(), FatbinError> {
        let mut at = first;
        while at.saturating_add(ENTRY_HEADER) <= end {
            let [kind, header_size, payload_low, payload_high, _, _, _, architecture] = words(self.bytes::<32>(at)?);
            if u64::from(header_size) < ENTRY_HEADER {
                return Err(FatbinError::NotFatbin { offset: at, found: format!("an entry of {header_size} bytes") });
            }
            // the upper half of the first word is a version
            if CUBINS.contains(&((kind & 0xFFFF) as u16)) {
                found.insert(architecture);
            }
            let payload = u64::from(payload_high) << 32 | u64::from(payload_low);
            at = at.saturating_add(u64::from(header_size)).saturating_add(payload);
            self.spend(at)?;
        }
        Ok(())
    }

    fn spend(&mut self, offset: u64) -> Result<(), FatbinError> {
        let too_many = || FatbinError::NotFatbin { offset, found: "more entries than any library has".to_owned() };
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }

    fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], FatbinError> {
        let bytes = self.library.read_bytes_at(offset, N as u64).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or(FatbinError::NotFatbin { offset, found: "the end of the file".to_owned() })
    }
}

/// Little-endian words, as all of NVIDIA's machines have them.
fn words<const N: usize, const WORDS: usize>(bytes: [u8; N]) -> [u32; WORDS] {
    const { assert!(N == 4 * WORDS) }
    let (chunks, _) = bytes.as_chunks::<4>();
    let mut words = [0; WORDS];
    words.iter_mut().zip(chunks).for_each(|(word, chunk)| *word = u32::from_le_bytes(*chunk));
    words
}
