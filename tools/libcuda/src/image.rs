//! Images as programs give them: PTX text, machine code, or a fat binary that holds either.

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    Ptx(String),
    /// Machine code.
    Code,
    /// Something else, and why.
    Unknown(String),
}

/// What the first lines of PTX say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heading {
    /// 10 times major plus minor.
    pub version: i32,
    /// As written: `sm_90a`
    pub name: String,
    /// 90
    pub target: i32,
    /// For this target alone (`a`).
    pub exact: bool,
}

/// First bytes of an ELF file.
pub const ELF: [u8; 4] = *b"\x7fELF";
/// First bytes of a fat binary.
pub const FAT: [u8; 4] = 0xba55_ed50u32.to_le_bytes();
/// First bytes of the structure that points to a fat binary.
pub const FAT_WRAPPER: [u8; 4] = 0x4662_43b1u32.to_le_bytes();
/// Bytes before the first entry of a fat binary.
pub const FAT_HEADER: usize = 16;
/// Kind of an entry that is PTX.
const FAT_PTX: u16 = 1;
/// Flags of an entry that is compressed.
const FAT_COMPRESSED: u64 = 0x2000 | 0x8000;

impl Image {
    /// Text that ends at the first zero, as cubins and fat binaries never do.
    pub fn from_text(bytes: &[u8]) -> Image {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        match std::str::from_utf8(&bytes[..end]) {
            Ok(text) if text.contains(".version") => Image::Ptx(text.into()),
            _ => Image::Unknown("the image is neither PTX nor a binary".into()),
        }
    }

    /// Bytes of known length.
    pub fn from_bytes(bytes: &[u8]) -> Image {
        match bytes.first_chunk::<4>() {
            Some(&ELF) => Image::Code,
            Some(&FAT) => Image::from_fat(bytes),
            _ => Image::from_text(bytes),
        }
    }

    /// The PTX of a fat binary.
    fn from_fat(bytes: &[u8]) -> Image {
        let word = |at: usize, n: usize| -> u64 {
            let bytes = bytes.get(at..at + n).unwrap_or_default();
            bytes
                .iter()
                .rev()
                .fold(0, |all, b| all << 8 | u64::from(*b))
        };
        let mut at = word(6, 2) as usize;
        let end = at.saturating_add(word(8, 8) as usize);
        let mut code = false;
        while at.saturating_add(64) <= end.min(bytes.len()) {
            let (kind, head, size) = (word(at, 2) as u16, word(at + 4, 4), word(at + 8, 8));
            let start = at + head as usize;
            if kind == FAT_PTX {
                if word(at + 40, 8) & FAT_COMPRESSED != 0 {
                    return Image::Unknown(
                        "the PTX of the fat binary is compressed; build it with --no-compress"
                            .into(),
                    );
                }
                let end = start.saturating_add(size as usize);
                return Image::from_text(bytes.get(start..end).unwrap_or_default());
            }
            code = true;
            at = start.saturating_add(size as usize).max(at + 1);
        }
        match code {
            true => Image::Code,
            false => Image::Unknown("the fat binary is empty".into()),
        }
    }
}

/// Version and target of PTX; what is not said is 0.
pub fn heading(text: &str) -> Heading {
    let mut heading = Heading::default();
    for line in text.lines() {
        let mut words = line
            .split([' ', '\t', ',', '/'])
            .filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some(".version"), Some(version)) => {
                let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
                let number = |text: &str| text.parse::<i32>().unwrap_or(0);
                heading.version = 10 * number(major) + number(minor);
            }
            (Some(".target"), Some(target)) => {
                heading.name = target.into();
                let digits = target.trim_start_matches("sm_");
                let number = digits.trim_end_matches(char::is_alphabetic);
                heading.target = number.parse().unwrap_or(0);
                heading.exact = digits.ends_with('a');
                break;
            }
            _ => {}
        }
    }
    heading
}

#[cfg(test)]
mod tests {
    use super::{FAT, FAT_PTX, Heading, Image, heading};

    const PTX: &str = "// made by hand\n.version 8.5\n.target sm_90a, debug\n.address_size 64\n";

    /// A fat binary with entries of these kinds.
    fn fat(entries: &[(u16, u64, &str)]) -> Vec<u8> {
        let mut body = vec![];
        for (kind, flags, payload) in entries {
            let mut head = vec![0u8; 64];
            head[..2].copy_from_slice(&kind.to_le_bytes());
            head[4..8].copy_from_slice(&64u32.to_le_bytes());
            head[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
            head[40..48].copy_from_slice(&flags.to_le_bytes());
            body.extend(head);
            body.extend(payload.as_bytes());
        }
        let mut all = FAT.to_vec();
        all.extend(1u16.to_le_bytes());
        all.extend(16u16.to_le_bytes());
        all.extend((body.len() as u64).to_le_bytes());
        all.extend(body);
        all
    }

    #[test]
    fn the_heading_of_ptx() {
        let want = Heading {
            version: 85,
            name: "sm_90a".into(),
            target: 90,
            exact: true,
        };
        assert_eq!(heading(PTX), want);
        assert_eq!(heading("no PTX"), Heading::default());
    }

    #[test]
    fn what_an_image_is() {
        assert_eq!(Image::from_bytes(PTX.as_bytes()), Image::Ptx(PTX.into()));
        assert_eq!(Image::from_bytes(b"\x7fELF..."), Image::Code);
        let ptx = (FAT_PTX, 0, PTX);
        assert_eq!(
            Image::from_bytes(&fat(&[(2, 0, "code"), ptx])),
            Image::Ptx(PTX.into())
        );
        assert_eq!(Image::from_bytes(&fat(&[(2, 0, "code")])), Image::Code);
        for bad in [
            b"hello".to_vec(),
            fat(&[]),
            fat(&[(FAT_PTX, 0x2000, PTX)]),
            FAT.to_vec(),
        ] {
            assert!(matches!(Image::from_bytes(&bad), Image::Unknown(_)));
        }
    }
}
