//! Why a deploy did not go through.

use std::path::PathBuf;

use catseye_calibration::rig::RigError;

/// Why a deploy did not go through. The release in use on the target is then the one that was.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The folder of the release is not there or cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The archive cannot be unpacked.
    #[error("{path}: expected a .tar archive of an install root, and tar says: {cause}")]
    Package {
        /// The archive.
        path: PathBuf,
        /// What `tar` said.
        cause: String,
    },
    /// A file of the release has a name that does not go through shells and manifests unharmed.
    #[error("{path}: expected a name of letters, digits and ._@+,=:~-, in each folder not beginning with -")]
    Name {
        /// Its path in the release.
        path: String,
    },
    /// The release has no program, or none that a target could run.
    #[error("usr/bin/catseye of the release: expected a 64-bit program for arm64 or amd64, found {found}")]
    Program {
        /// What is there.
        found: String,
    },
    /// The rig is wrong.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The rig's file has a name that no unit can have.
    #[error("{path}: expected a file name of letters, digits and ._-, as part of the unit's name")]
    RigName {
        /// The rig.
        path: PathBuf,
    },
    /// A unit without a rig.
    #[error("a unit needs the rig that it runs")]
    NoRig,
    /// The folder on the target is none that a deploy may use.
    #[error("the folder on the target: expected an absolute path of letters, digits and ._-, found {found:?}")]
    Prefix {
        /// What was given.
        found: String,
    },
    /// A host that ssh would take for an option.
    #[error("the host: expected NAME or USER@NAME, found {found:?}")]
    Host {
        /// What was given.
        found: String,
    },
    /// No ssh.
    #[error("{program}: {cause}")]
    NoSsh {
        /// The program.
        program: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The target cannot be reached.
    #[error("{host} cannot be reached: {said}")]
    NoConnection {
        /// The host.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The target is a machine of another kind.
    #[error("the target's architecture: expected aarch64 or x86_64, found {found}")]
    Machine {
        /// What `uname -m` says.
        found: String,
    },
    /// A step failed on the target.
    #[error("{step} failed on the target: {said}")]
    Step {
        /// The step.
        step: &'static str,
        /// What it said.
        said: String,
    },
    /// A step's answer is not to be understood.
    #[error("{step}: expected the line {expected:?} in the target's answer, found {found:?}")]
    Answer {
        /// The step.
        step: &'static str,
        /// The line's key.
        expected: &'static str,
        /// The answer's last line.
        found: String,
    },
    /// The connection is gone.
    #[error("the connection was lost in the step {step}: {said}")]
    ConnectionLost {
        /// The step.
        step: &'static str,
        /// What ssh said.
        said: String,
    },
    /// There was no room.
    #[error("the target's disk is full: {said}")]
    DiskFull {
        /// What the step said.
        said: String,
    },
    /// Another deploy is under way.
    #[error("another deploy is under way, of {owner}")]
    Busy {
        /// Who, since when.
        owner: String,
    },
    /// Another deploy went through between comparing and locking.
    #[error("another deploy was faster: the release in use is {by} now")]
    Overtaken {
        /// The release in use.
        by: String,
    },
    /// Files arrived that are not those that were sent.
    #[error("on the target these files are not what was sent: {}", paths.join(", "))]
    Damaged {
        /// Their paths.
        paths: Vec<String>,
    },
    /// The program does not start on the target.
    #[error("the new release's program does not start on the target (exit status {code}): {said}")]
    NotStarting {
        /// Its exit status.
        code: String,
        /// What it said.
        said: String,
    },
    /// An engine could not be built.
    #[error("the engine of {model} could not be built on the target: {said}")]
    Engine {
        /// The model.
        model: String,
        /// The last line.
        said: String,
    },
    /// Stopped by the user.
    #[error("stopped")]
    Interrupted,
}
