//! The log: an MCAP file of what the sensors gave, what was decided, and what came out of every stage.
//!
//! Sensor data are in Foxglove's schemas where there is one (protobuf), everything else in ours (`ros2msg`, see
//! [`crate::record`](mod@crate::record)), so a log opens in Foxglove as it is. A message's log time is when it arrived, its publish time the
//! sensor's stamp mapped to the common time base; which clock the stamp came from is in the channel's metadata.
//!
//! [`writer`] writes through a file beside the target and renames it at the end; [`reader`] streams in bounded memory and
//! reads a file that was cut off up to its last whole record, and the [`files`] of a rotation as one log; [`packet`] is the
//! sensors' side of both; [`run`] the pipeline's, [`notes`] what the graph noted for it; [`import`] makes logs from other
//! people's recordings. [`recorder`] writes what live sensors send into files in rotation, and [`completeness`] proves that
//! nothing of it is missing.

pub mod completeness;
pub mod files;
pub mod import;
pub mod notes;
pub mod packet;
pub mod reader;
pub mod recorder;
pub(crate) mod records;
pub mod run;
pub(crate) mod statics;
pub mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

/// Metadata record that says what ran.
pub const RUN_HEADER: &str = "catseye:run";
/// Metadata record that says where a log came from.
pub const SOURCE_HEADER: &str = "catseye:source";
/// Metadata record at the start of a file of the recorder: which recording, which file of it.
pub const RECORDING_HEADER: &str = "catseye:recording";
/// Metadata record at the end of a file of the recorder: whether another follows.
pub const RECORDING_END: &str = "catseye:recording-end";
/// Attachment that holds the rig.
pub const RIG_ATTACHMENT: &str = "rig.toml";

/// Topic of [`TickDecision`](crate::messages::TickDecision).
pub const TOPIC_TICK: &str = "/catseye/decisions/tick";
/// Topic of [`DropDecision`](crate::messages::DropDecision).
pub const TOPIC_DROP: &str = "/catseye/decisions/drop";
/// Topic of [`NetworksDecision`](crate::messages::NetworksDecision).
pub const TOPIC_NETWORKS: &str = "/catseye/decisions/networks";
/// Topic of [`FaultDecision`](crate::messages::FaultDecision).
pub const TOPIC_FAULT: &str = "/catseye/decisions/fault";
/// Topic of [`NoteNames`](crate::messages::NoteNames).
pub const TOPIC_NAMES: &str = "/catseye/names";
/// Topic of [`TickDigests`](crate::messages::TickDigests); in version 1 of [`StageDigest`](crate::messages::StageDigest).
pub const TOPIC_DIGEST: &str = "/catseye/digests";
/// Topic of [`StateSnapshot`](crate::messages::StateSnapshot).
pub const TOPIC_SNAPSHOT: &str = "/catseye/snapshots";
/// Topic of [`TickTimings`](crate::messages::TickTimings); in version 1 of [`StageTiming`](crate::messages::StageTiming).
pub const TOPIC_TIMING: &str = "/catseye/timing";
/// Topic of [`DeadlineMiss`](crate::messages::DeadlineMiss).
pub const TOPIC_DEADLINE: &str = "/catseye/deadlines";
/// Topic of [`CameraDetections`](crate::messages::CameraDetections).
pub const TOPIC_DETECTIONS: &str = "/catseye/detections";
/// Topic of [`CameraTracks`](crate::messages::CameraTracks).
pub const TOPIC_TRACKS: &str = "/catseye/tracks";
/// Topic of [`WorldModel`](crate::messages::WorldModel).
pub const TOPIC_WORLD: &str = "/catseye/world";
/// Topic of [`Plan`](crate::messages::Plan).
pub const TOPIC_PLAN: &str = "/catseye/plan";
/// Topic of [`Account`](crate::messages::Account).
pub const TOPIC_ACCOUNT: &str = "/catseye/accounts";
/// Topic of [`RecorderDrop`](recorder::priority::RecorderDrop).
pub const TOPIC_RECORDER_DROP: &str = "/catseye/recorder/drops";

/// What a channel carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Where it is published.
    pub topic: String,
    /// Encoding of the messages, as `protobuf` or `cdr`.
    pub message_encoding: String,
    /// Name of the schema, as `foxglove.CompressedImage`.
    pub schema_name: String,
    /// Encoding of the schema, as `protobuf` or `ros2msg`.
    pub schema_encoding: String,
    /// The schema.
    pub schema: Arc<[u8]>,
    /// Everything else that is known.
    pub metadata: BTreeMap<String, String>,
}

impl Channel {
    /// A channel of one of our records.
    pub fn of_record<R: crate::record::Record>(topic: &str) -> Self {
        let version = crate::messages::SCHEMA_VERSION.to_string();
        Channel {
            topic: topic.to_owned(),
            message_encoding: "cdr".to_owned(),
            schema_name: ros2_name(R::NAME),
            schema_encoding: "ros2msg".to_owned(),
            schema: R::schema().into_bytes().into(),
            metadata: BTreeMap::from([(SCHEMA_VERSION_KEY.to_owned(), version)]),
        }
    }

    /// A channel of one of Foxglove's messages.
    pub fn of_foxglove<M: foxglove::Encode>(topic: &str) -> Self {
        let schema = M::get_schema().unwrap_or_else(|| foxglove::Schema::new("", "", Vec::new()));
        Channel {
            topic: topic.to_owned(),
            message_encoding: M::get_message_encoding(),
            schema_name: schema.name,
            schema_encoding: schema.encoding,
            schema: schema.data.into_owned().into(),
            metadata: BTreeMap::new(),
        }
    }
}

/// Channel metadata: the version of our schemas that the messages follow.
pub const SCHEMA_VERSION_KEY: &str = "catseye.schema_version";

/// ROS 2 tools expect `package/msg/Name` where the definitions themselves say `package/Name`.
fn ros2_name(name: &str) -> String {
    name.replacen('/', "/msg/", 1)
}
