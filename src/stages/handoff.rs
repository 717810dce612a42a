//! Handoff: the newest world model, to whoever plans, without anybody waiting.
//!
//! Each reader has a slot of its own ([`crate::runtime::latest`]); the stage writes, readers on other threads look when
//! they like. A reader judges age by `valid_until_ns` against its own clock: the pipeline has none.

use super::Tick;
use crate::messages::WorldModel;
use crate::runtime::graph::{Stage, StageError};
use crate::runtime::latest::{Reader, Writer, latest};

/// The stage.
#[derive(Default)]
pub struct Handoff {
    writers: Vec<Writer<WorldModel>>,
}

impl Handoff {
    /// Adds a reader.
    pub fn reader(&mut self) -> Reader<WorldModel> {
        let (writer, reader) = latest(WorldModel::default);
        self.writers.push(writer);
        reader
    }
}

impl Stage<Tick> for Handoff {
    fn name(&self) -> &'static str {
        "handoff"
    }

    fn run(&mut self, tick: &mut Tick) -> Result<(), StageError> {
        for writer in &mut self.writers {
            writer.publish(|world| world.clone_from(&tick.world));
        }
        Ok(())
    }
}
