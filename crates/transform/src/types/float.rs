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
        while shortest.digits != 0 && shortest.digits.is_multiple_of(10) {
            shortest.digits /= 10;
            shortest.exponent += 1;
        }
        shortest
    }
}

/// The shortest decimal PostgreSQL prints for a positive finite float; for `real` the value is an `f32`.
///
/// The standard library's shortest decimal is another one in two rare cases. It takes a decimal exactly between two
/// floats when it would round back, which PostgreSQL does not, since other readers may round it away. And of two decimals
/// equally near it takes the greater, PostgreSQL the even one.
fn shortest(value: f64, is_single: bool) -> Shortest {
    let (mantissa, exponent) = parts(value, is_single);
    let shortest = match is_single {
        true => Scientific::of(format_args!("{:e}", value as f32)),
        false => Scientific::of(format_args!("{value:e}")),
    };
    if is_between(shortest, mantissa, exponent) {
        return longer(value, is_single, mantissa, exponent).unwrap_or(shortest);
    }
    if shortest.digits % 2 == 1 {
        for (neighbour, middle) in [(-1, -1), (1, 1)] {
            let even = Shortest { digits: shortest.digits.wrapping_add_signed(neighbour), ..shortest };
            let tied = is_middle(shortest, middle, mantissa, exponent);
            if tied && reads_back(even, value, is_single) && !is_between(even, mantissa, exponent) {
                return even;
            }
        }
    }
    shortest
}

/// The shortest decimal that is not halfway to another float.
#[cold]
fn longer(value: f64, is_single: bool, mantissa: u64, exponent: i32) -> Option<Shortest> {
    (0..17)
        .map(|precision| match is_single {
            true => Scientific::of(format_args!("{:.precision$e}", value as f32)),
            false => Scientific::of(format_args!("{value:.precision$e}")),
        })
        .find(|&decimal| reads_back(decimal, value, is_single) && !is_between(decimal, mantissa, exponent))
}

#[cold]
fn reads_back(decimal: Shortest, value: f64, is_single: bool) -> bool {
    let text = format!("{}e{}", decimal.digits, decimal.exponent);
    if is_single {
        text.parse::<f32>().is_ok_and(|back| f64::from(back) == value)
    } else {
        text.parse::<f64>().is_ok_and(|back| back == value)
    }
}

/// Whether the float lies exactly in the middle between the decimal and the one a last digit `step` away.
fn is_middle(decimal: Shortest, step: i64, mantissa: u64, exponent: i32) -> bool {
    // (2 digits + step) × 10^ten = 2 × mantissa × 2^exponent, compared as odd parts and powers of two.
    let doubled = u128::from(decimal.digits * 2).wrapping_add_signed(i128::from(step));
    let ten = decimal.exponent;
    if ten.unsigned_abs() > 25 {
        return false;
    }
    let fives = 5_u128.pow(ten.unsigned_abs());
    let twos = mantissa.trailing_zeros() as i32 + exponent + 1;
    let odd = u128::from(mantissa >> mantissa.trailing_zeros());
    twos == ten && if ten < 0 { odd * fives == doubled } else { doubled.checked_mul(fives) == Some(odd) }
}

/// Whether PostgreSQL prints this decimal, without zeros at its end, for the positive float it was read as.
pub(super) fn is_shortest(decimal: Shortest, value: f64, is_single: bool) -> bool {
    // No two decimals of so few digits are the same float, so none that is shorter can be this one; subnormal floats
    // are far outside these exponents.
    let is_short = decimal.digits < if is_single { 1_000_000 } else { 1_000_000_000_000_000 };
    if is_short && decimal.exponent.abs() <= 22 {
        let (mantissa, exponent) = parts(value, is_single);
        return !is_between(decimal, mantissa, exponent);
    }
    decimal == shortest(value, is_single)
}

/// Mantissa and exponent of a positive float: `mantissa × 2^exponent`.
fn parts(value: f64, is_single: bool) -> (u64, i32) {
    let (fraction, biased, bits, bias) = if is_single {
        let bits = (value as f32).to_bits();
        (u64::from(bits & 0x7F_FFFF), (bits >> 23) as i32, 23, 127)
    } else {
        let bits = value.to_bits();
        (bits & 0xF_FFFF_FFFF_FFFF, (bits >> 52) as i32, 52, 1023)
    };
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
    let doubled = 2 * u128::from(mantissa);
    // Below a power of two the neighbour is at half the distance.
    let below = if mantissa.is_power_of_two() { (2 * doubled - 1, exponent - 2) } else { (doubled - 1, exponent - 1) };
    [(doubled + 1, exponent - 1), below].contains(&(left, twos))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(value: f64, is_single: bool) -> String {
        let mut out = String::new();
        write(value, is_single, &mut out);
        out
    }

    #[test]
    fn floats_print_as_postgresql_prints_them() {
        for (value, expected) in [
            (1e23, "9.999999999999999e+22"),
            (2e23, "1.9999999999999998e+23"),
            (8.41e21, "8.409999999999999e+21"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
            (1_152_921_504_606_846_976.0, "1.152921504606847e+18"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (-0.0, "-0"),
            (123_456_789_012_345.0, "123456789012345"),
        ] {
            assert_eq!(printed(value, false), expected);
        }
        for (value, expected) in [
            (489_637.625, "489637.62"),
            (3_403_628.25, "3.4036282e+06"),
            (98_920_832.0, "9.892083e+07"),
            (33_554_430.0, "3.355443e+07"),
            (f64::from(f32::MAX), "3.4028235e+38"),
            (f64::from(f32::from_bits(1)), "1e-45"),
        ] {
            assert_eq!(printed(value, true), expected);
        }
    }

    proptest! {
        #[test]
        fn the_printed_float_reads_back(bits: u64) {
            let (double, single) = (f64::from_bits(bits), f32::from_bits(bits as u32));
            prop_assume!(double.is_finite() && single.is_finite());
            prop_assert_eq!(printed(double, false).parse(), Ok(double));
            prop_assert_eq!(printed(f64::from(single), true).parse(), Ok(single));
        }

        #[test]
        fn short_decimals_are_judged_as_by_printing(digits in 1_u64..1_000_000_000_000_000, cut in 0_u32..15, exponent in -22_i32..=23) {
            let mut digits = (digits / 10_u64.pow(cut)).max(1);
            while digits % 10 == 0 {
                digits /= 10;
            }
            let decimal = Shortest { digits, exponent };
            let text = format!("{digits}e{exponent}");
            let double: f64 = text.parse().unwrap();
            prop_assert_eq!(is_shortest(decimal, double, false), shortest(double, false) == decimal);
            let single: f32 = text.parse().unwrap();
            prop_assert_eq!(is_shortest(decimal, f64::from(single), true), shortest(f64::from(single), true) == decimal);
        }
    }
}
