//! DBC files that a rig names: they go into the log with it, as `dbc/NAME`, and the log's rig refers to them by that
//! name, so that a replay needs nothing but the log.

use std::path::{Path, PathBuf};

use catseye_calibration::rig::Rig;
use catseye_sensors::can::dbc::Dbc;

use super::{ImportError, files};

/// A DBC file.
pub(super) struct DbcFile {
    /// Its name in the log.
    pub(super) name: String,
    /// Where it was read.
    pub(super) path: PathBuf,
    /// As it is.
    pub(super) bytes: Vec<u8>,
    /// What it says.
    pub(super) table: Dbc,
}

impl DbcFile {
    /// Reads a file, which must be one that can be used.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        let bytes = files::read(path)?;
        let table = Dbc::parse(&bytes, &path.display().to_string()).map_err(|error| {
            ImportError::unexpected(path, "a DBC file that can be used", format!("one that cannot ({error})"))
        })?;
        Ok(DbcFile { name: format!("dbc/{}", files::name(path)), path: path.to_owned(), bytes, table })
    }
}

/// Reads the DBC files of a rig and makes the rig refer to them by their names in the log.
pub(super) fn name_dbc_files(rig: &mut Rig) -> Result<Vec<DbcFile>, ImportError> {
    let mut read: Vec<DbcFile> = Vec::new();
    for can in &mut rig.cans {
        for named in &mut can.dbc {
            let path = rig.directory.join(&*named);
            if !path.is_file() {
                let expected = format!("the DBC file that the rig names for {}", can.name);
                return Err(ImportError::unexpected(&path, expected, "no file"));
            }
            let file = DbcFile::read(&path)?;
            *named = PathBuf::from(&file.name);
            match read.iter().find(|other| other.name == file.name) {
                Some(other) if other.bytes != file.bytes => {
                    let found = format!("{} with other contents", other.path.display());
                    return Err(ImportError::unexpected(&file.path, "DBC files of different names", found));
                }
                Some(_) => {}
                None => read.push(file),
            }
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use catseye_calibration::rig::{Can, SensorKind};

    use super::super::comma2k19::tests::Contents;
    use super::super::files::tests::png_start;
    use super::super::{ImportKind, ImportOptions, import};
    use super::*;

    const DBC: &str = "VERSION \"\"\n\nBO_ 37 ANGLE: 8 X\n SG_ ANGLE : 0|8@1+ (1,0) [0|0] \"\" X\n";

    /// A camera's rig with a bus that this file describes.
    fn rig_with(dbc: &str) -> Rig {
        let bus = Can {
            name: "body".to_owned(),
            topic: SensorKind::Can.default_topic("body"),
            dbc: vec![PathBuf::from(dbc)],
            bitrate: None,
            signals: Default::default(),
        };
        Rig { cans: vec![bus], ..Rig::default_camera(64, 48) }
    }

    #[test]
    fn every_importer_attaches_the_files_that_a_given_rig_names() {
        let folder = tempfile::tempdir().unwrap();
        let src = folder.path().join("pictures");
        std::fs::create_dir(&src).unwrap();
        std::fs::write(src.join("0.png"), png_start(64, 48)).unwrap();
        std::fs::write(folder.path().join("car.dbc"), DBC).unwrap();
        let rig_path = folder.path().join("rig.toml");
        std::fs::write(&rig_path, rig_with("car.dbc").to_toml()).unwrap();
        let out = folder.path().join("log.mcap");
        let options = ImportOptions { rig: Some(rig_path), ..ImportOptions::default() };
        let imported = || import(ImportKind::Pictures, &src, &out, &options, &mut |_, _| {});
        let report = imported().unwrap();
        assert_eq!(report.rig.cans[0].dbc, [PathBuf::from("dbc/car.dbc")]);
        let contents = Contents::read(&out);
        assert_eq!(contents.attachments["dbc/car.dbc"], DBC.as_bytes());
        assert_eq!(contents.rig(), report.rig);

        std::fs::remove_file(&out).unwrap();
        std::fs::remove_file(folder.path().join("car.dbc")).unwrap();
        let error = imported().unwrap_err().to_string();
        let expected = "car.dbc: expected the DBC file that the rig names for body, found no file";
        assert!(error.ends_with(expected), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn two_files_of_one_name_must_be_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let other = DBC.replace("(1,0)", "(2,0)");
        for (place, text) in [("a", DBC), ("b", DBC), ("c", &other)] {
            std::fs::create_dir(folder.path().join(place)).unwrap();
            std::fs::write(folder.path().join(place).join("car.dbc"), text).unwrap();
        }
        let mut rig = Rig { directory: folder.path().to_owned(), ..rig_with("a/car.dbc") };
        rig.cans[0].dbc.push(PathBuf::from("b/car.dbc"));
        assert_eq!(name_dbc_files(&mut rig.clone()).unwrap().len(), 1);
        rig.cans[0].dbc.push(PathBuf::from("c/car.dbc"));
        let error = name_dbc_files(&mut rig).err().unwrap().to_string();
        assert!(error.contains("expected DBC files of different names"), "{error}");
    }
}
