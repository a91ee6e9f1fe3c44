//! Binary floats as PostgreSQL prints them.

use std::fmt::Write;

/// A decimal without trailing zeros: `digits × 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shortest {
    pub(super) digits: u64,
    pub(super) exponent: i32,
}

/// Digits of one float in scientific notation, on the stack.
struct Scientific {
    bytes: [u8; 40],
    len: usize,
}

impl Write for Scientific {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Scientific {
    fn of(arguments: std::fmt::Arguments<'_>) -> Shortest {
        let mut text = Self { bytes: [0; 40], len: 0 };
        let written = text.write_fmt(arguments);
        debug_assert!(written.is_ok(), "a float in scientific notation has at most 17 digits here");
        let mut digits: u64 = 0;
        let mut fraction = 0;
        let mut exponent: i32 = 0;
        let mut negative = false;
        let mut part = 0;
        for &byte in &text.bytes[..text.len] {
            match byte {
                b'.' => part = 1,
                b'e' => part = 2,
                b'-' => negative = true,
                digit if part == 2 => exponent = exponent * 10 + i32::from(digit - b'0'),
                digit => {
                    digits = digits * 10 + u64::from(digit - b'0');
                    fraction += part;
                }
            }
        }
        let exponent = if negative { -exponent } else { exponent };
        let mut shortest = Shortest { digits, exponent: exponent - fraction };
        while shortest.digits != 0 && shortest.digits % 10 == 0 {
            shortest.digits /= 10;
            shortest.exponent += 1;
        }
        shortest
    }
}

/// The shortest decimal PostgreSQL prints for a positive finite float; for `real` the value is an `f32`.
///
/// The standard library also takes a decimal that lies exactly between two floats when it would round back; PostgreSQL
/// does not, since other readers may round it away.
pub(super) fn shortest(value: f64, is_single: bool) -> Shortest {
    let (shortest, mantissa, exponent) = if is_single {
        let single = value as f32;
        let bits = single.to_bits();
        let (mantissa, exponent) = parts(u64::from(bits & 0x7F_FFFF), (bits >> 23) as i32, 23, 127);
        (Scientific::of(format_args!("{single:e}")), mantissa, exponent)
    } else {
        let bits = value.to_bits();
        let (mantissa, exponent) = parts(bits & 0xF_FFFF_FFFF_FFFF, (bits >> 52) as i32, 52, 1023);
        (Scientific::of(format_args!("{value:e}")), mantissa, exponent)
    };
    if !is_between(shortest, mantissa, exponent) {
        return shortest;
    }
    for precision in 0..17 {
        let longer = if is_single {
            Scientific::of(format_args!("{:.precision$e}", value as f32))
        } else {
            Scientific::of(format_args!("{value:.precision$e}"))
        };
        let back = format!("{}e{}", longer.digits, longer.exponent);
        let same = if is_single {
            back.parse::<f32>().is_ok_and(|back| f64::from(back) == value)
        } else {
            back.parse::<f64>().is_ok_and(|back| back == value)
        };
        if same && !is_between(longer, mantissa, exponent) {
            return longer;
        }
    }
    shortest
}

/// Mantissa and exponent of a float: `mantissa × 2^exponent`.
fn parts(fraction: u64, biased: i32, bits: i32, bias: i32) -> (u64, i32) {
    if biased == 0 { (fraction, 1 - bias - bits) } else { (fraction | 1 << bits, biased - bias - bits) }
}

/// Whether the decimal lies exactly halfway between the float and one of its neighbours.
fn is_between(decimal: Shortest, mantissa: u64, exponent: i32) -> bool {
    // Halfway is an odd number times a power of two: (2 mantissa ± 1) × 2^(exponent - 1). So only the odd part of the
    // decimal counts, and it has at most 54 bits.
    let odd = |value: u128| (value >> value.trailing_zeros(), value.trailing_zeros() as i32);
    let (digits, ten) = (u128::from(decimal.digits), decimal.exponent);
    let (left, left_twos) = match ten {
        0..=23 => odd(digits * 5_u128.pow(ten as u32)),
        -2..0 => {
            let fives = 5_u128.pow(ten.unsigned_abs());
            if digits % fives != 0 {
                return false;
            }
            odd(digits / fives)
        }
        _ => return false,
    };
    let twos = left_twos + ten;
    // Below a power of two the neighbour is nearer: its halfway point is one step finer.
    let mantissa = u128::from(mantissa);
    [(2 * mantissa + 1, exponent - 1), (2 * mantissa - 1, exponent - 1), (4 * mantissa - 1, exponent - 2)]
        .contains(&(left, twos))
}

/// Appends a float as PostgreSQL prints it with its default `extra_float_digits`.
pub(super) fn write(value: f64, is_single: bool, out: &mut String) {
    if value.is_sign_negative() {
        out.push('-');
    }
    if value == 0.0 {
        out.push('0');
        return;
    }
    let Shortest { digits, exponent } = shortest(value.abs(), is_single);
    let mut buffer = [0; 20];
    let digits = super::number::write_unsigned(digits, &mut buffer);
    let digit = |at: usize| char::from(digits.get(at).copied().unwrap_or(b'0'));
    let len = digits.len() as i32;
    let scientific = exponent + len - 1;
    // As printf's %g switches, which for PostgreSQL means 15 and 6 digits.
    let fixed_below = if is_single { 6 } else { 15 };
    if scientific < -4 || scientific >= fixed_below {
        out.push(digit(0));
        if len > 1 {
            out.push('.');
            (1..digits.len()).for_each(|at| out.push(digit(at)));
        }
        let sign = if scientific < 0 { '-' } else { '+' };
        out.push('e');
        out.push(sign);
        if scientific.abs() < 10 {
            out.push('0');
        }
        let mut buffer = [0; 20];
        let power = super::number::write_unsigned(u64::from(scientific.unsigned_abs()), &mut buffer);
        power.iter().for_each(|&byte| out.push(char::from(byte)));
    } else if scientific < 0 {
        out.push_str("0.");
        (scientific + 1..0).for_each(|_| out.push('0'));
        (0..digits.len()).for_each(|at| out.push(digit(at)));
    } else {
        let whole = scientific as usize + 1;
        (0..whole).for_each(|at| out.push(digit(at)));
        if digits.len() > whole {
            out.push('.');
            (whole..digits.len()).for_each(|at| out.push(digit(at)));
        }
    }
}
