//! A drive and a network that are small enough for an engine to be built within a test.

use super::onnx::{ANCHORS, constant_yolox};

/// A network input of 32 x 32, as `constant_yolox` has boxes for.
pub const INPUT: [u64; 4] = [1, 3, 32, 32];
const CHANNELS: usize = 6;

/// A network that sees three cars, whose boxes and scores move with the picture's mean colour.
pub fn three_cars() -> Vec<u8> {
    // x, y, log width, log height and objectness, then COCO's classes, of which the third is a car
    const VALUES: usize = 85;
    const CAR: usize = 5 + 2;
    let channels = VALUES * ANCHORS as usize;
    let (mut weights, mut bias) = (vec![[0.0; 3]; channels], vec![0.0; channels]);
    // one box of each stride
    for (anchor, score) in [(5, 0.5), (17, 0.6), (20, 0.7)] {
        let first = anchor * VALUES;
        weights[first..first + 5].fill([0.0004; 3]);
        bias[first..first + 5].copy_from_slice(&[0.2, 0.3, -0.2, -0.4, score]);
        bias[first + CAR] = 1.0;
    }
    constant_yolox(INPUT, VALUES as u64, &weights, &bias)
}

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
