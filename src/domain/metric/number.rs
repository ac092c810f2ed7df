//! Numbers as their text says them: fixed-point integers from decimal text, without a float in between.
//!
//! In scope: JSON number text, exponents included (Python writes `1e-05`), to an integer count of a decimal unit, rounded
//! half to even where the text is finer than the unit. Out of scope: which unit a field has.

/// Digits kept exactly; a further digit only decides a rounding.
const DIGITS_MAX: u32 = 36;

/// Powers of ten that fit a machine word.
const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// A decimal number: (-1)^negative * digits * 10^exponent, plus something smaller than the last digit when `inexact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) negative: bool,
    digits: u128,
    exponent: i32,
    inexact: bool,
}

impl Number {
    /// `digits` of which the last `places` stand behind the point.
    pub(super) const fn of(digits: u64, places: i32) -> Self {
        Self { negative: false, digits: digits as u128, exponent: -places, inexact: false }
    }

    /// Reads JSON number text; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(number) = Self::short(text.as_bytes()) {
            return Some(number);
        }
        let (negative, mut rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            bytes => (false, bytes),
        };
        let mut number = Self { negative, digits: 0, exponent: 0, inexact: false };
        let (mut kept, mut seen) = (0_u32, false);
        let mut after_point = false;
        while let [byte, tail @ ..] = rest {
            match byte {
                b'0'..=b'9' => {
                    seen = true;
                    number.push(byte - b'0', after_point, &mut kept);
                }
                b'.' if !after_point && seen => after_point = true,
                b'e' | b'E' if seen => {
                    number.exponent = number.exponent.saturating_add(exponent(tail)?);
                    return Some(number);
                }
                _ => return None,
            }
            rest = tail;
        }
        seen.then_some(number)
    }

    /// Digits with at most one point among them, few enough for a machine word: nearly every number is one of these.
    fn short(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > 19 || !bytes.first()?.is_ascii_digit() {
            return None;
        }
        let (mut digits, mut places, mut point) = (0_u64, 0, false);
        for byte in bytes {
            match byte {
                b'0'..=b'9' => {
                    digits = digits * 10 + u64::from(byte - b'0');
                    places += i32::from(point);
                }
                b'.' if !point => point = true,
                _ => return None,
            }
        }
        Some(Self { negative: false, digits: u128::from(digits), exponent: -places, inexact: false })
    }

    fn push(&mut self, digit: u8, after_point: bool, kept: &mut u32) {
        if *kept < DIGITS_MAX {
            self.digits = self.digits * 10 + u128::from(digit);
            *kept += u32::from(self.digits != 0);
            self.exponent -= i32::from(after_point);
        } else {
            self.inexact |= digit != 0;
            self.exponent += i32::from(!after_point);
        }
    }

    /// Whether it is below zero; -0 is not.
    pub(super) const fn is_below_zero(self) -> bool {
        self.negative && (self.digits != 0 || self.inexact)
    }

    /// The magnitude in units of 10^-`decimals`, rounded half to even; `None` when that is beyond 36 digits or so.
    pub(super) fn magnitude(self, decimals: i32) -> Option<u128> {
        let shift = self.exponent.saturating_add(decimals);
        if self.digits == 0 {
            return Some(0);
        }
        // A number whose unit lies among the digits that were let go of has 36 digits above it: more than any field holds.
        if shift >= 0 && self.inexact {
            return None;
        }
        if shift == 0 {
            return Some(self.digits);
        }
        if let Ok(up) = u32::try_from(shift) {
            if let (Ok(digits), Some(&power)) = (u64::try_from(self.digits), POWERS.get(up as usize)) {
                return Some(u128::from(digits) * u128::from(power));
            }
            return 10_u128.checked_pow(up).and_then(|power| self.digits.checked_mul(power));
        }
        // More than 37 places down, 36 digits leave less than half a unit.
        let Some(power) = 10_u128.checked_pow(shift.unsigned_abs()).filter(|_| shift >= -37) else { return Some(0) };
        let (whole, left) = (self.digits / power, self.digits % power);
        let above_half = left > power / 2 || (left == power / 2 && self.inexact);
        let at_half = left == power / 2 && !self.inexact;
        Some(whole + u128::from(above_half || (at_half && whole % 2 == 1)))
    }
}

fn exponent(bytes: &[u8]) -> Option<i32> {
    let (sign, digits) = match bytes {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i32;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.saturating_mul(10).saturating_add(i32::from(digit - b'0')).min(1_000_000);
    }
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_units_exactly() {
        let check = |text: &str, decimals: i32, expected: u128| {
            assert_eq!(Number::parse(text).unwrap().magnitude(decimals), Some(expected), "{text}");
        };
        check("800", 3, 800_000);
        check("799.9996", 3, 800_000);
        check("0.0005", 3, 0);
        check("0.0015", 3, 2);
        check("0.0025", 3, 2);
        check("0.00250000000000000000000000000000000000000000001", 3, 3);
        check("1e-05", 18, 10_000_000_000_000);
        check("1E+2", 0, 100);
        check("811.0", 3, 811_000);
        check("1e-400", 18, 0);
        check("0.004", 3, 4);
        check("0.123456789012345678901234567890123456789", 3, 123);
        assert_eq!(Number::parse("123456789012345678901234567890123456789.5").unwrap().magnitude(0), None);
        assert_eq!(Number::parse("1e400").unwrap().magnitude(0), None);
        for text in ["", "-", "1.2.3", "abc", "1e", "1e5x", ".5", "\"1\"", "NaN"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
        assert!(!Number::parse("-0.0").unwrap().is_below_zero());
        assert!(Number::parse("-0.1").unwrap().is_below_zero());
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_agrees_with_the_long_one(whole in 0_u64..10_u64.pow(17), places in 0_usize..12, decimals in 0_i32..19) {
            let digits = format!("{whole:0>13}");
            let (front, back) = digits.split_at(digits.len() - places);
            let text = if places == 0 { digits.clone() } else { format!("{front}.{back}") };
            // A zero exponent keeps the value and sends the text the long way.
            let (short, long) = (Number::parse(&text), Number::parse(&format!("{text}e0")));
            proptest::prop_assert_eq!(short, long);
            proptest::prop_assert_eq!(short.and_then(|number| number.magnitude(decimals)), long.and_then(|number| number.magnitude(decimals)));
        }
    }
}
