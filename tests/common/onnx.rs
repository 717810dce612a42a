//! ONNX files made by hand: protobuf fields, and networks that look at nothing but the mean of a picture.

/// A whole number as protobuf writes it.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A protobuf field that holds a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A protobuf field that holds text, bytes or a message.
pub fn block(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint((field << 3) | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// An ONNX `NodeProto`; attributes are lists of whole numbers.
pub fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[u64])]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| block(1, input)).collect();
    node.extend([block(2, output), block(4, operator)].concat());
    for (name, values) in attributes {
        let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
        node.extend(block(5, [block(1, name), values, number(20, 7)].concat()));
    }
    node
}

/// An ONNX `ValueInfoProto` of f32; 0 leaves a size open.
pub fn value(name: &str, shape: &[u64]) -> Vec<u8> {
    let size = |size: &u64| if *size == 0 { block(2, "n") } else { number(1, *size) };
    let sizes: Vec<u8> = shape.iter().flat_map(|found| block(1, size(found))).collect();
    [block(1, name), block(2, block(1, [number(1, 1), block(2, sizes)].concat()))].concat()
}

/// An ONNX `TensorProto`; kind 1 is f32, 7 is i64.
fn tensor(name: &str, shape: &[u64], kind: u64, raw: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    [sizes, number(2, kind), block(8, name), block(9, raw)].concat()
}

/// An ONNX file.
pub fn onnx(nodes: &[Vec<u8>], tensors: &[Vec<u8>], input: &[u8], outputs: &[Vec<u8>]) -> Vec<u8> {
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| block(1, node)).collect();
    let tensors: Vec<u8> = tensors.iter().flat_map(|tensor| block(5, tensor)).collect();
    let outputs: Vec<u8> = outputs.iter().flat_map(|output| block(12, output)).collect();
    let graph = [nodes, block(2, "graph"), tensors, block(11, input), outputs].concat();
    let opset = [block(1, ""), number(2, 13)].concat();
    [number(1, 8), block(7, graph), block(8, opset)].concat()
}

/// Values as a `TensorProto` has them.
fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A `Conv` of one pixel. ONNX leaves all of its attributes optional, rten asks for them.
fn pixelwise(inputs: &[&str], output: &str) -> Vec<u8> {
    let plain: [(&str, &[u64]); 4] =
        [("kernel_shape", &[1, 1]), ("strides", &[1, 1]), ("pads", &[0; 4]), ("dilations", &[1, 1])];
    node("Conv", inputs, output, &plain)
}

/// Boxes of a YOLOX for 32 x 32 pixels: the cells of strides 8, 16 and 32.
pub const ANCHORS: u64 = 16 + 4 + 1;

/// A YOLOX for 32 x 32 pixels with so many values a box, each of which is the picture's mean colour times three weights plus a
/// bias. 0 leaves a size of the input open.
pub fn constant_yolox(input: [u64; 4], values: u64, weights: &[[f32; 3]], bias: &[f32]) -> Vec<u8> {
    let shape = [input[0], ANCHORS, values];
    let channels = ANCHORS * values;
    let nodes = [
        node("GlobalAveragePool", &["images"], "mean", &[]),
        pixelwise(&["mean", "weights", "bias"], "channels"),
        node("Reshape", &["channels", "shape"], "output", &[]),
    ];
    let sizes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let tensors = [
        tensor("weights", &[channels, 3, 1, 1], 1, &floats(weights.as_flattened())),
        tensor("bias", &[channels], 1, &floats(bias)),
        tensor("shape", &[3], 7, &sizes),
    ];
    onnx(&nodes, &tensors, &value("images", &input), &[value("output", &shape)])
}

/// A network with the inputs, outputs and classes of `models/road.onnx`. It sees one car, whose box (centre and size in its input's
/// pixels) moves with the picture's mean colour; free space where the picture is dark, and no lanes.
pub fn constant_road(box_px: [f32; 4]) -> Vec<u8> {
    const CLASSES: &str = "{0: 'car', 1: 'truck', 2: 'cyclist', 3: 'pedestrian'}";
    const VALUES: usize = 4 + 4;
    const CELLS: usize = 64 * 36 + 32 * 18 + 16 * 9;
    let (mut weights, mut bias) = (vec![[0.0; 3]; VALUES * CELLS], vec![0.0; VALUES * CELLS]);
    // of each value the first cell: a row of the output is a value of all cells
    for (value, at) in box_px.into_iter().chain([0.8]).zip((0..).step_by(CELLS)) {
        (weights[at], bias[at]) = ([0.01; 3], value);
    }
    let nodes = [
        node("GlobalAveragePool", &["images"], "mean", &[]),
        pixelwise(&["mean", "weights", "bias"], "channels"),
        node("Reshape", &["channels", "shape"], "objects", &[]),
        pixelwise(&["images", "da.weights", "da.bias"], "da"),
        pixelwise(&["images", "ll.weights", "ll.bias"], "ll"),
    ];
    let shape = [1, VALUES as u64, CELLS as u64];
    let sizes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let tensors = [
        tensor("weights", &[(VALUES * CELLS) as u64, 3, 1, 1], 1, &floats(weights.as_flattened())),
        tensor("bias", &[(VALUES * CELLS) as u64], 1, &floats(&bias)),
        tensor("shape", &[3], 7, &sizes),
        tensor("da.weights", &[2, 3, 1, 1], 1, &floats(&[1.0, 1.0, 1.0, 0.0, 0.0, 0.0])),
        tensor("da.bias", &[2], 1, &floats(&[0.0, 1.2])),
        tensor("ll.weights", &[2, 3, 1, 1], 1, &floats(&[0.0; 6])),
        tensor("ll.bias", &[2], 1, &floats(&[1.0, 0.0])),
    ];
    let mask = [1, 2, 288, 512];
    let outputs = [value("objects", &shape), value("da", &mask), value("ll", &mask)];
    let network = onnx(&nodes, &tensors, &value("images", &[1, 3, 288, 512]), &outputs);
    [network, block(14, [block(1, "names"), block(2, CLASSES)].concat())].concat()
}
