//! For which machine a program was built: the first bytes of an ELF file (System V ABI, generic part, chapter 4, "ELF Header").

use super::DeployError;

/// An architecture that catseye is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit Arm.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl Architecture {
    /// As Debian calls it, and the folders of `target/dist`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Arm64 => "arm64",
            Architecture::Amd64 => "amd64",
        }
    }

    /// As `uname -m` calls it.
    #[must_use]
    pub fn from_uname(machine: &str) -> Option<Architecture> {
        match machine {
            "aarch64" => Some(Architecture::Arm64),
            "x86_64" => Some(Architecture::Amd64),
            _ => None,
        }
    }

    /// Of a program.
    ///
    /// # Errors
    /// It is none, or one for another machine.
    pub fn of_program(bytes: &[u8]) -> Result<Architecture, DeployError> {
        let wrong = |found: &str| DeployError::Program { found: found.to_owned() };
        let Some((head, [low, high])) = bytes.first_chunk::<20>().and_then(|head| head.split_last_chunk::<2>()) else {
            return Err(wrong("a file of less than 20 bytes"));
        };
        if !head.starts_with(b"\x7fELF") {
            return Err(wrong("no ELF file"));
        }
        // class 2 is 64 bits, data 1 little-endian
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return Err(wrong("a program that is not 64-bit and little-endian"));
        }
        match u16::from_le_bytes([*low, *high]) {
            183 => Ok(Architecture::Arm64),
            62 => Ok(Architecture::Amd64),
            other => Err(wrong(&format!("one for the machine of ELF's number {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_what_it_is_for() {
        let mut header = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";
        assert_eq!(Architecture::of_program(&header).unwrap(), Architecture::Arm64);
        header[18] = 62;
        assert_eq!(Architecture::of_program(&header).unwrap(), Architecture::Amd64);
        for (place, value, word) in [(18, 40, "40"), (5, 2, "little-endian"), (4, 1, "64-bit"), (0, b'#', "no ELF")] {
            let mut header = header;
            header[place] = value;
            assert!(Architecture::of_program(&header).unwrap_err().to_string().contains(word));
        }
        for length in 0..20 {
            assert!(Architecture::of_program(&header[..length]).is_err());
        }
    }

    #[test]
    fn the_running_program_is_known() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Some(Architecture::of_program(&bytes).unwrap()), Architecture::from_uname(std::env::consts::ARCH));
    }
}
