//! A drive and a network that are small enough for an engine to be built within a test.

use super::onnx::{ANCHORS, constant_yolox};

/// A network input of 32 x 32, as `constant_yolox` has boxes for.
pub const INPUT: [u64; 4] = [1, 3, 32, 32];
const CHANNELS: usize = 6;

/// A folder with a few pictures and a small network that sees something in them.
pub fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    for index in 0..8_u8 {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
        encoder.set_color(png::ColorType::Rgb);
        let pixels: Vec<u8> = (0..64 * 48 * 3_u32).map(|at| (at * 7 + u32::from(index) * 31) as u8).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        std::fs::write(pictures.join(format!("{index:05}.png")), bytes).unwrap();
    }
    let channels = CHANNELS * ANCHORS as usize;
    let bias: Vec<f32> = (0..channels).map(|channel| 0.3 + 0.6 * (channel % 7) as f32 / 7.0).collect();
    let network = constant_yolox(INPUT, CHANNELS as u64, &vec![[0.001; 3]; channels], &bias);
    std::fs::write(folder.path().join("net.onnx"), network).unwrap();
    folder
}
