//! `catseye rig`: rigs that are new, and rigs that are right.

use std::path::PathBuf;

use catseye::file::write_whole;
use catseye_calibration::rig::{HYPERION_8_1, Rig};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Outcome, problem};

/// Arguments of `rig`.
#[derive(Args)]
#[command(after_help = "Examples:\n  catseye rig new my-car.toml --size 1920x1208\n  catseye rig check my-car.toml")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a rig to start from.
    #[command(
        after_help = "Examples:\n  catseye rig new my-car.toml --size 1920x1208\n  catseye rig new hyperion.toml --from hyperion"
    )]
    New {
        /// The file to write.
        file: PathBuf,
        /// camera: one front camera; hyperion: the DRIVE Hyperion 8.1 sensor set.
        #[arg(long, default_value = "camera", value_parser = ["camera", "hyperion"], hide_possible_values = true)]
        from: String,
        /// Size of the camera's pictures.
        #[arg(long, default_value = "1920x1080", value_parser = super::replay::parse_size)]
        size: (u32, u32),
    },
    /// Check a rig as a whole.
    #[command(after_help = "Examples:\n  catseye rig check my-car.toml\n  catseye rig check my-car.toml --json")]
    Check {
        /// The rig.
        file: PathBuf,
    },
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, context: Context) -> miette::Result<Outcome> {
    match &arguments.command {
        Command::New { file, from, size } => {
            if file.exists() {
                return Err(problem(
                    format!("{} is there already", file.display()),
                    "name another file, or move it away",
                ));
            }
            let text = match from.as_str() {
                "hyperion" => HYPERION_8_1.to_owned(),
                _ => Rig::default_camera(size.0, size.1).to_toml(),
            };
            write_whole(file, text.as_bytes()).map_err(|error| problem(format!("{}: {error}", file.display()), ""))?;
            if context.speaks() {
                println!("{}", file.display());
            }
            context.print_json(&json!({ "rig": file.display().to_string() }));
        }
        Command::Check { file } => {
            let rig = match Rig::load(file) {
                Ok(rig) => rig,
                Err(error) => {
                    let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
                    context
                        .print_json(&json!({ "rig": file.display().to_string(), "ok": false, "problems": problems }));
                    let help = "each line names the file, the line, the key, what was expected and what was found";
                    eprintln!("{:?}", problem(error, help));
                    return Ok(Outcome::Wrong);
                }
            };
            let sensors: Vec<_> = rig
                .sensors()
                .map(|s| json!({ "id": s.id, "kind": s.kind.name(), "name": s.name, "topic": s.topic }))
                .collect();
            if context.speaks() {
                for sensor in rig.sensors() {
                    println!("{:>3} {:<11} {:<24} {}", sensor.id, sensor.kind.name(), sensor.name, sensor.topic);
                }
                println!("{}: good ({} sensors, {} models)", file.display(), sensors.len(), rig.models.len());
            }
            context.print_json(&json!({ "rig": file.display().to_string(), "ok": true, "sensors": sensors, "models": rig.models.len() }));
        }
    }
    Ok(Outcome::Good)
}
