//! A network of one's own: an ONNX model looks at the pictures of every camera of a log.
//!
//! `cargo run --release --example own_model -- LOG MODEL.onnx`. What its outputs mean is recognised by their shapes.

use std::error::Error;
use std::path::Path;
use std::sync::{atomic::AtomicBool, mpsc};

use catseye::messages::{Account, Detection, DropDecision};
use catseye::pipeline::{Pipeline, Settings};
use catseye::replay::{Options, replay};
use catseye::source::Preamble;
use catseye::tap::{Output, Sink, Tap, TapError};
use catseye_calibration::rig::Model;

type Seen = (u64, String, Detection);
struct Sightings(mpsc::Sender<(u64, Detection)>);

impl Sink for Sightings {
    fn take(&mut self, output: &Output) -> Result<(), TapError> {
        let objects = output.body.iter().flat_map(|body| &body.detections).flat_map(|camera| &camera.objects);
        objects.for_each(|object| _ = self.0.send((output.decision.tick, *object)));
        Ok(())
    }
    fn finish(&mut self, _: &[DropDecision], _: &[Account]) -> Result<(), TapError> {
        Ok(())
    }
}

/// Replays a log with a model on all cameras; gives ticks, names of classes, and detections.
pub fn run(log: &Path, file: &Path) -> Result<Vec<Seen>, Box<dyn Error>> {
    let Preamble { rig, files, .. } = Preamble::read(log)?;
    let mut rig = rig.ok_or("expected a log with a rig: `catseye import` makes one")?;
    let cameras = rig.cameras.iter().map(|camera| camera.name.clone()).collect();
    rig.models = vec![Model::new("own", Some(file.to_owned()), cameras)];
    let pipeline = Pipeline::build(&rig, &files, Settings::default())?;
    let names = pipeline.class_names.clone();
    let (out, seen) = mpsc::channel();
    let tap = Tap::start(vec![Box::new(Sightings(out))], 0)?;
    replay(log, &rig, pipeline, &Options::default(), tap, &AtomicBool::new(false), &mut |_, _, _| {})?;
    let name = |object: &Detection| names.get(usize::from(object.class)).cloned().unwrap_or_default();
    Ok(seen.into_iter().map(|(tick, object)| (tick, name(&object), object)).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let [log, model] = [1, 2].map(|place| std::env::args_os().nth(place).ok_or("usage: own_model LOG MODEL.onnx"));
    run(Path::new(&log?), Path::new(&model?))?.iter().for_each(|seen| println!("{seen:?}"));
    Ok(())
}
