//! Sensor packets, their stamps, and decoders of what sensors and files give.
//!
//! Decoders are sans-I/O: bytes in, measurements out, so that a socket, a file and a fuzzer drive the same code. None
//! panics on any input, and none reserves memory that the bytes in hand cannot justify. This crate knows no CUDA and
//! no runtime.

pub mod ars548;
pub mod can;
pub mod clock;
pub mod cloud;
// its structs are laid out for such machines
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
pub mod exporter;
pub mod gnss;
pub mod lidar;
pub mod memory;
pub mod mp4;
pub mod npy;
pub mod packet;
pub mod pcap;
pub mod picture;
pub mod radar;
pub mod ros2;
#[cfg(target_os = "linux")]
pub mod serial;
// its structs are laid out for such machines
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
pub mod v4l2;
