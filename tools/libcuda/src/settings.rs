//! What the environment asks for.

use std::path::PathBuf;

use ptx::Asynchrony;

use crate::chip::{self, Chip};

/// How the library behaves; the README lists the variables.
#[derive(Debug, Clone)]
pub struct Settings {
    pub chip: &'static Chip,
    /// Bytes of device memory.
    pub memory: u64,
    /// Whether work runs as late or as early as a device may do it.
    pub asynchrony: Asynchrony,
    /// Findings fail the call that sees them, not only standard error.
    pub fail: bool,
    /// How many blocks of a launch run, about; the others are taken to be like them.
    pub sample: Option<u64>,
    /// Look for races, uninitialised reads and copies in flight.
    pub checks: bool,
    /// A file that gets a line of JSON per finding.
    pub findings: Option<PathBuf>,
    /// A file that gets a line of JSON per launch.
    pub launches: Option<PathBuf>,
    /// Every call goes to standard error.
    pub trace: bool,
}

/// The start of every variable's name.
pub const PREFIX: &str = "TTT_INTERPRETED_";
/// Memory of the device where nothing else is asked for.
const MEMORY: u64 = 4 << 30;

impl Settings {
    /// Reads variables, named without their prefix.
    ///
    /// # Errors
    /// A variable has a value it cannot have; the message names both, and what it can have.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let choice = |name: &str, default: &str, values: [&str; 2]| {
            let value = variable(name).unwrap_or(default.into());
            match values.iter().position(|v| v.eq_ignore_ascii_case(&value)) {
                Some(index) => Ok(index),
                None => Err(format!(
                    "{PREFIX}{name} is {value:?}; it can be {} or {}",
                    values[0], values[1]
                )),
            }
        };
        let memory = match variable("MEMORY") {
            None => MEMORY,
            Some(text) => bytes(&text).ok_or_else(|| {
                format!("{PREFIX}MEMORY is {text:?}; it can be a number of bytes, or of K, M or G")
            })?,
        };
        let sample = variable("SAMPLE").map(|text| match text.parse::<u64>() {
            Ok(blocks) if blocks > 0 => Ok(blocks),
            _ => Err(format!(
                "{PREFIX}SAMPLE is {text:?}; it can be a number of blocks from 1 on"
            )),
        });
        Ok(Settings {
            chip: [&chip::H100, &chip::A100][choice("DEVICE", "H100", ["H100", "A100"])?],
            memory,
            asynchrony: [Asynchrony::Late, Asynchrony::Early]
                [choice("WORK", "late", ["late", "early"])?],
            fail: choice("FINDINGS", "fail", ["fail", "report"])? == 0,
            sample: sample.transpose()?,
            checks: choice("CHECKS", "on", ["on", "off"])? == 0,
            findings: variable("FINDINGS_FILE").map(PathBuf::from),
            launches: variable("LAUNCHES_FILE").map(PathBuf::from),
            trace: choice("TRACE", "off", ["on", "off"])? == 0,
        })
    }

    /// Reads the environment.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn from_environment() -> Result<Settings, String> {
        Settings::read(|name| std::env::var(format!("{PREFIX}{name}")).ok())
    }
}

/// `4096`, `64K`, `512M`, `2G`
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.to_ascii_uppercase().chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn a_variable_has_a_value_or_a_message() {
        let one = |name: &'static str, value: &'static str| {
            Settings::read(move |asked| (asked == name).then(|| value.into()))
        };
        assert_eq!(one("", "").unwrap().chip.name, "H100 (interpreted)");
        assert_eq!(
            one("DEVICE", "a100").unwrap().chip.name,
            "A100 (interpreted)"
        );
        assert_eq!(one("MEMORY", "512m").unwrap().memory, 512 << 20);
        assert!(!one("FINDINGS", "report").unwrap().fail);
        let error = one("DEVICE", "B200").unwrap_err();
        assert_eq!(
            error,
            "TTT_INTERPRETED_DEVICE is \"B200\"; it can be H100 or A100"
        );
        assert!(one("MEMORY", "much").is_err());
        assert_eq!(one("SAMPLE", "3").unwrap().sample, Some(3));
        assert!(one("SAMPLE", "0").is_err());
    }
}
