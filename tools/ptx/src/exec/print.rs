//! What a kernel prints: `vprintf` formats as C does, from arguments that lie in memory of the thread.

use super::block::{Env, Place};
use super::registers::{LANES, lanes};
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::resolve;
use crate::types::Space;

/// Longest string that is read.
const LONGEST: usize = 4096;

/// `vprintf(format, arguments)`: prints for one lane after another, and returns how many conversions it did.
pub(super) fn print(
    warp: &mut Warp,
    env: &mut Env,
    arguments: &[u64],
    result: Option<u64>,
    mask: u32,
) {
    for lane in lanes(mask) {
        let format = local(warp, lane, arguments[0], 8);
        let mut values = Values {
            warp,
            env,
            lane,
            next: local(warp, lane, arguments[1], 8),
        };
        let format = values.string(format);
        let (text, count) = formatted(&format, &mut values);
        env.printed.push_str(&text);
        if let Some(at) = result {
            let at = lane * (warp.local.len() / LANES) + at as usize;
            warp.local[at..at + 4].copy_from_slice(&count.to_le_bytes());
            warp.local_written[at..at + 4].fill(true);
        }
    }
}

/// `__assertfail(message, file, line, ...)`
pub(super) fn assertion(warp: &Warp, env: &mut Env, arguments: &[u64], pc: usize, mask: u32) {
    let lane = mask.trailing_zeros() as usize;
    let values = Values {
        warp,
        env,
        lane,
        next: 0,
    };
    let text = |at: u64| values.string(local(warp, lane, at, 8));
    let (message, file) = (text(arguments[0]), text(arguments[1]));
    let line = local(warp, lane, arguments[2], 4);
    let place = Place {
        lane: Some(lane),
        ..Place::new(pc, warp.index)
    };
    let message = format!("the assertion `{message}` fails, {file}:{line}");
    env.report(Kind::Trap, place, &message);
    env.stop = true;
}

/// A parameter of a call.
fn local(warp: &Warp, lane: usize, at: u64, bytes: usize) -> u64 {
    let at = lane * (warp.local.len() / LANES) + at as usize;
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(&warp.local[at..at + bytes]);
    u64::from_le_bytes(value)
}

/// The arguments of one lane.
struct Values<'v, 'l> {
    warp: &'v Warp,
    env: &'v Env<'l>,
    lane: usize,
    /// Generic address of the next one.
    next: u64,
}

impl Values<'_, '_> {
    /// The byte at a generic address, if there is one.
    fn byte(&self, address: u64) -> Option<u8> {
        match resolve(Space::Generic, address) {
            (Space::Local, at) => {
                let size = self.warp.local.len() / LANES;
                let at = usize::try_from(at).ok().filter(|at| *at < size)?;
                Some(self.warp.local[self.lane * size + at])
            }
            (Space::Shared, at) => {
                let held = self.env.shared.holds(at, 1);
                held.then(|| self.env.shared.load(at as usize, 1) as u8)
            }
            (Space::Global, at) => {
                let found = self.env.setting.device.locate(&mut 0, at, 1);
                found
                    .ok()
                    .map(|(allocation, at)| allocation.load(at, 1) as u8)
            }
            _ => None,
        }
    }

    /// The text at an address, up to its zero.
    fn string(&self, address: u64) -> String {
        let bytes = (0..LONGEST as u64).map_while(|i| self.byte(address.wrapping_add(i)));
        let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next argument, of 4 or 8 bytes; what is not there is zero.
    fn take(&mut self, bytes: u64) -> u64 {
        let at = self.next.checked_next_multiple_of(bytes).unwrap_or(0);
        self.next = at.wrapping_add(bytes);
        let byte = |i: u64| self.byte(at.wrapping_add(i)).unwrap_or(0);
        (0..bytes).fold(0, |all, i| all | u64::from(byte(i)) << (8 * i))
    }
}

/// A conversion: `%-08.3lld`
#[derive(Default)]
struct Conversion {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    /// 8 bytes rather than 4.
    long: bool,
}

fn formatted(format: &str, values: &mut Values) -> (String, u32) {
    let (mut text, mut count) = (String::new(), 0);
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut conversion = Conversion::default();
        while let Some(flag) = rest.next_if(|c| "-0+ #".contains(*c)) {
            match flag {
                '-' => conversion.left = true,
                '0' => conversion.zero = true,
                '+' => conversion.plus = true,
                ' ' => conversion.space = true,
                _ => conversion.alternate = true,
            }
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars>| {
            if rest.next_if_eq(&'*').is_some() {
                return values.take(4) as usize;
            }
            let mut number = 0usize;
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                number = (number * 10 + digit as usize - '0' as usize).min(LONGEST);
            }
            number
        };
        conversion.width = number(&mut rest).min(LONGEST);
        if rest.next_if_eq(&'.').is_some() {
            conversion.precision = Some(number(&mut rest).min(LONGEST));
        }
        while let Some(length) = rest.next_if(|c| "hljztL".contains(*c)) {
            conversion.long |= length != 'h';
        }
        match rest.next() {
            Some('%') => text.push('%'),
            Some(letter) => {
                count += 1;
                text.push_str(&conversion.text(letter, values));
            }
            None => {}
        }
    }
    (text, count)
}

impl Conversion {
    fn text(&self, letter: char, values: &mut Values) -> String {
        let bytes = if self.long { 8 } else { 4 };
        match letter {
            'd' | 'i' => {
                let value = values.take(bytes);
                let value = if self.long {
                    value as i64
                } else {
                    value as i32 as i64
                };
                self.number(value < 0, value.unsigned_abs().to_string())
            }
            'u' => self.digits(values.take(bytes).to_string(), ""),
            'x' => self.digits(format!("{:x}", values.take(bytes)), "0x"),
            'X' => self.digits(format!("{:X}", values.take(bytes)), "0X"),
            'o' => self.digits(format!("{:o}", values.take(bytes)), "0"),
            'p' => self.padded(format!("{:#x}", values.take(8)), false),
            'c' => self.padded(char::from(values.take(4) as u8).to_string(), false),
            's' => {
                let address = values.take(8);
                let text = values
                    .string(address)
                    .chars()
                    .take(self.precision.unwrap_or(LONGEST))
                    .collect();
                self.padded(text, false)
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let value = f64::from_bits(values.take(8));
                let text = float(
                    value.abs(),
                    letter.to_ascii_lowercase(),
                    self.precision.unwrap_or(6),
                );
                let negative = value.is_sign_negative() && !value.is_nan();
                let text = if letter.is_uppercase() {
                    text.to_uppercase()
                } else {
                    text
                };
                let sign = self.sign(negative);
                self.padded(sign + &text, self.zero && value.is_finite())
            }
            // nothing is known of its argument
            other => format!("%{other}"),
        }
    }

    fn sign(&self, negative: bool) -> String {
        match (negative, self.plus, self.space) {
            (true, ..) => "-".into(),
            (_, true, _) => "+".into(),
            (_, _, true) => " ".into(),
            _ => String::new(),
        }
    }

    /// A whole number: a precision asks for so many digits.
    fn number(&self, negative: bool, digits: String) -> String {
        let digits = format!("{digits:0>width$}", width = self.precision.unwrap_or(1));
        self.padded(
            self.sign(negative) + &digits,
            self.zero && self.precision.is_none(),
        )
    }

    fn digits(&self, digits: String, prefix: &str) -> String {
        let prefix = if self.alternate && digits != "0" {
            prefix
        } else {
            ""
        };
        let digits = format!("{digits:0>width$}", width = self.precision.unwrap_or(1));
        self.padded(
            format!("{prefix}{digits}"),
            self.zero && self.precision.is_none(),
        )
    }

    fn padded(&self, text: String, zeros: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        if zeros {
            // behind the sign and the prefix
            let digits = text.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(0);
            let digits = if text[digits..].starts_with("0x") || text[digits..].starts_with("0X") {
                digits + 2
            } else {
                digits
            };
            return format!(
                "{}{}{}",
                &text[..digits],
                "0".repeat(missing),
                &text[digits..]
            );
        }
        " ".repeat(missing) + &text
    }
}

/// A number that is not negative, as `%f`, `%e` or `%g` write it.
fn float(value: f64, letter: char, precision: usize) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return "inf".into();
    }
    match letter {
        'f' => format!("{value:.precision$}"),
        'e' => exponential(value, precision),
        _ => {
            let precision = precision.max(1);
            let written = exponential(value, precision - 1);
            let exponent = written
                .split_once('e')
                .and_then(|(_, e)| e.parse().ok())
                .unwrap_or(0i32);
            let fixed = (-4..precision as i32).contains(&exponent);
            let (text, tail) = if fixed {
                let digits = (precision as i32 - 1 - exponent) as usize;
                (format!("{value:.digits$}"), String::new())
            } else {
                let at = written.find('e').unwrap_or(written.len());
                (written[..at].to_string(), written[at..].to_string())
            };
            let text = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_string()
            } else {
                text
            };
            text + &tail
        }
    }
}

/// `1.5e+00`: an exponent has a sign and two digits at least.
fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats_are_written_as_c_does() {
        assert_eq!(float(1.5, 'f', 6), "1.500000");
        assert_eq!(float(12345.678, 'e', 3), "1.235e+04");
        assert_eq!(float(0.0001, 'g', 6), "0.0001");
        assert_eq!(float(0.00001, 'g', 6), "1e-05");
        assert_eq!(float(1e6, 'g', 6), "1e+06");
        assert_eq!(float(123456.0, 'g', 6), "123456");
        assert_eq!(float(0.0, 'g', 6), "0");
        assert_eq!(float(f64::INFINITY, 'f', 2), "inf");
    }
}
