//! The rig of a release: the engineer's file with all that it names, moved to where the target has it.
//!
//! `car.toml` becomes `etc/catseye/rigs/car.toml`; models, labels and DBC files go into `etc/catseye/rigs/car/`, and the rig names them
//! there. The rig is checked as a whole first, and written anew from what was read: comments stay behind.

use std::path::{Path, PathBuf};

use catseye_calibration::rig::Rig;

use super::engines::EngineOrder;
use super::release::{Release, file_error};
use super::{DeployError, Unit};

/// Where rigs lie in a release.
const FOLDER: &str = "etc/catseye/rigs";
/// Names the unit of a release.
const UNIT: &str = "etc/catseye/unit";

/// What a rig has added to a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RigPart {
    /// Its name: what stands before `.toml`, and behind the `@` of its unit.
    pub name: String,
    /// Engines of its models.
    pub engines: Vec<EngineOrder>,
    /// What the engineer should know.
    pub notes: Vec<String>,
}

impl RigPart {
    /// Adds a rig with its files, and the unit that runs it.
    ///
    /// # Errors
    /// The rig is wrong, or a file that it names is not there.
    pub fn add(release: &mut Release, path: &Path, unit: Unit) -> Result<RigPart, DeployError> {
        let name = unit_name(path).ok_or_else(|| DeployError::RigName { path: path.to_owned() })?;
        let mut rig = Rig::load(path)?;
        let directory = std::mem::take(&mut rig.directory);
        let mut files = Files { release, directory, name: name.clone(), taken: Vec::new() };
        for path in rig.cans.iter_mut().flat_map(|can| &mut can.dbc) {
            files.take(path)?;
        }
        for path in rig.lidars.iter_mut().filter_map(|lidar| lidar.calibration.as_mut()) {
            files.take(path)?;
        }
        let (mut engines, mut notes) = (Vec::new(), Vec::new());
        for model in &mut rig.models {
            if let Some(labels) = &mut model.labels {
                files.take(labels)?;
            }
            let Some(path) = &mut model.path else {
                notes.push(format!("the rig's model {} names no file, and will not run on the target", model.name));
                continue;
            };
            files.take(path)?;
            let place = format!("{FOLDER}/{}", path.display());
            engines.push(EngineOrder::new(place, model));
        }
        release.add(&format!("{FOLDER}/{name}.toml"), rig.to_toml().into_bytes())?;
        if let Some(unit) = unit.service(&name) {
            release.add(UNIT, format!("{unit}\n").into_bytes())?;
        }
        Ok(RigPart { name, engines, notes })
    }
}

/// What systemd takes as an instance, and shells as a word.
fn unit_name(path: &Path) -> Option<String> {
    let name = path.file_stem()?.to_str()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_good = !name.is_empty() && !name.starts_with(['.', '-']) && name.bytes().all(is_plain);
    is_good.then(|| name.to_owned())
}

/// Takes files into a release, each once.
struct Files<'a> {
    release: &'a mut Release,
    directory: PathBuf,
    name: String,
    /// Places here, and names there.
    taken: Vec<(PathBuf, String)>,
}

impl Files<'_> {
    /// Takes a file along and makes the path that of the target, relative to the rig.
    fn take(&mut self, path: &mut PathBuf) -> Result<(), DeployError> {
        let place = self.directory.join(&*path);
        if let Some((_, known)) = self.taken.iter().find(|(known, _)| *known == place) {
            *path = PathBuf::from(known);
            return Ok(());
        }
        let bytes = std::fs::read(&place).map_err(|error| file_error(&place, &error))?;
        let file = place.file_name().unwrap_or_default().to_string_lossy();
        // two files of one name come from different folders: later ones are numbered
        let named = |number: usize| match number {
            0 => format!("{}/{file}", self.name),
            _ => format!("{}/{number}/{file}", self.name),
        };
        let is_free = |name: &String| self.taken.iter().all(|(_, taken)| taken != name);
        let name = (0..).map(named).find(is_free).unwrap_or_default();
        self.release.add(&format!("{FOLDER}/{name}"), bytes)?;
        *path = PathBuf::from(&name);
        self.taken.push((place, name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::{Model, SIM_CAR};

    use super::super::release::tests::tree;
    use super::*;

    /// A rig with two models of the same file name, in a folder beside their own.
    fn car(folder: &Path) -> PathBuf {
        for (path, text) in
            [("a/net.onnx", "a"), ("b/net.onnx", "b"), ("rigs/sim_car.dbc", "dbc"), ("names.txt", "car\n")]
        {
            let place = folder.join(path);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, text).unwrap();
        }
        let mut rig = Rig::parse(SIM_CAR, "sim-car.toml").unwrap();
        let camera = rig.cameras[0].name.clone();
        for name in ["a", "b", "a"] {
            let mut model = Model::new(
                format!("m{}", rig.models.len()),
                Some(format!("../{name}/net.onnx").into()),
                vec![camera.clone()],
            );
            model.labels = Some("../names.txt".into());
            rig.models.push(model);
        }
        std::fs::write(folder.join("roof.csv"), "laser,elevation,azimuth\n").unwrap();
        rig.lidars[0].calibration = Some("../roof.csv".into());
        let path = folder.join("rigs/car.toml");
        std::fs::write(&path, rig.to_toml()).unwrap();
        path
    }

    #[test]
    fn a_rig_brings_what_it_names() {
        let (root, folder) = (tree(), tempfile::tempdir().unwrap());
        let path = car(folder.path());
        let mut release = Release::from_tree(root.path()).unwrap();
        let former = release.name();
        let part = RigPart::add(&mut release, &path, Unit::Run).unwrap();
        assert_eq!((part.name.as_str(), part.notes.len()), ("car", 0));
        assert_ne!(release.name(), former);
        let places: Vec<&str> = part.engines.iter().map(|engine| engine.model.as_str()).collect();
        let (a, b) = ("etc/catseye/rigs/car/net.onnx", "etc/catseye/rigs/car/1/net.onnx");
        assert_eq!(places, [a, b, a]);
        assert_eq!(part.engines[0].arguments, ["--precision", "fp16", "--batch", "1"]);
        for place in [a, b, "etc/catseye/rigs/car/names.txt", "etc/catseye/rigs/car/sim_car.dbc", UNIT] {
            assert!(release.entries.contains_key(place), "{place}");
        }
        // the rig reads again, from where it will lie
        let super::super::release::Content::Bytes(bytes) = &release.entries["etc/catseye/rigs/car.toml"].content else {
            panic!()
        };
        let there = Rig::parse(std::str::from_utf8(bytes).unwrap(), "/x/car.toml").unwrap();
        assert_eq!(there.resolve(there.models[1].path.as_ref().unwrap()), Path::new("/x/car/1/net.onnx"));
        assert_eq!(there.cans[0].dbc, [PathBuf::from("car/sim_car.dbc")]);
        assert_eq!(there.lidars[0].calibration, Some(PathBuf::from("car/roof.csv")));
        assert!(release.entries.contains_key("etc/catseye/rigs/car/roof.csv"));
    }

    #[test]
    fn a_wrong_rig_a_missing_file_and_an_odd_name_are_refused() {
        let (root, folder) = (tree(), tempfile::tempdir().unwrap());
        let path = car(folder.path());
        let mut release = Release::from_tree(root.path()).unwrap();
        std::fs::copy(&path, path.with_file_name("my car.toml")).unwrap();
        let odd = RigPart::add(&mut release, &path.with_file_name("my car.toml"), Unit::Run);
        assert!(matches!(odd, Err(DeployError::RigName { .. })));
        std::fs::remove_file(folder.path().join("b/net.onnx")).unwrap();
        let missing = RigPart::add(&mut release, &path, Unit::Run);
        assert!(matches!(missing, Err(DeployError::File { path, .. }) if path.ends_with("b/net.onnx")));
        std::fs::write(&path, "name = 3").unwrap();
        assert!(matches!(RigPart::add(&mut release, &path, Unit::Run), Err(DeployError::Rig(_))));
    }
}
