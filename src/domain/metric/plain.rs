//! The short way for the line that nearly all lines are: a plain `llm.request`, read by hand in one pass.
//!
//! In scope: an object of the record's own fields, strings without escapes, decimal numbers without sign or exponent. Out of
//! scope: everything else, which includes every refusal: `None` sends the line to the general reader ([`super::wire`]), and
//! only that one says what is wrong with a line.
//!
//! Invariant: what is read here is what the general reader makes of the same bytes; a test compares the two over mutated
//! lines. So no rule lives here that does not live there.

#![expect(clippy::option_option, reason = "not plain, or plain and null, or plain and there: three things")]

use std::borrow::Cow;

use super::number::Number;
use super::record::{MetricRecord, USD_SCALE};
use super::{COST_ATTO_USD_MAX, DELAY_NS_MAX, DURATION_US_MAX, NAME_BYTES_MAX, clock};

/// Digits that a machine word holds, whatever they are.
const DIGITS_MAX: usize = 19;
/// One byte in each byte of a word.
const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

const EVENT: u32 = 1;
const MODEL: u32 = 1 << 1;
const ENGINE_HASH: u32 = 1 << 2;
const DURATION: u32 = 1 << 3;
const REQUIRED: u32 = EVENT | MODEL | ENGINE_HASH | DURATION;

/// Reads a plain request, or nothing where the line is not as plain as that.
pub(super) fn request(body: &str) -> Option<MetricRecord<'_>> {
    let mut cursor = Cursor { text: body, at: 0 };
    let mut record = empty();
    let mut seen = 0;
    cursor.blank();
    cursor.take(b'{')?;
    cursor.blank();
    loop {
        let key = cursor.key()?;
        let field = field(key.as_bytes(), &mut cursor, &mut record)?;
        // The general reader refuses a field that comes twice.
        if seen & field != 0 {
            return None;
        }
        seen |= field;
        if !cursor.goes_on()? {
            break;
        }
    }
    cursor.blank();
    (cursor.at == body.len() && seen & REQUIRED == REQUIRED).then_some(record)
}

const fn empty<'a>() -> MetricRecord<'a> {
    MetricRecord {
        recorded_at: None,
        operation: None,
        model: Cow::Borrowed(""),
        engine_hash: Cow::Borrowed(""),
        quantisation: None,
        schema_id: None,
        duration_us: 0,
        queue_delay_ns: None,
        tokens_in: None,
        tokens_out: None,
        kv_hits: None,
        kv_misses: None,
        spec_attempts: None,
        spec_accepts: None,
        cost_atto_usd: None,
        error_code: None,
        queue_delay_budget_overrun: None,
        token_budget_overrun: None,
    }
}

/// Reads the value of one field into the record; the field's own bit.
fn field<'a>(key: &[u8], cursor: &mut Cursor<'a>, record: &mut MetricRecord<'a>) -> Option<u32> {
    Some(match key {
        b"event" => (cursor.string()? == super::REQUEST).then_some(EVENT)?,
        b"model" => {
            record.model = name(cursor)?;
            MODEL
        }
        b"engine_hash" => {
            record.engine_hash = name(cursor)?;
            ENGINE_HASH
        }
        b"duration_ms" => {
            record.duration_us = u64::try_from(cursor.units(3, DURATION_US_MAX)??).ok()?;
            DURATION
        }
        b"queue_delay_us" => {
            let delay = cursor.units(3, DELAY_NS_MAX)?;
            record.queue_delay_ns = delay.map(u64::try_from).transpose().ok()?;
            1 << 4
        }
        b"cost_usd" => {
            record.cost_atto_usd = cursor.units(USD_SCALE, COST_ATTO_USD_MAX)?;
            1 << 5
        }
        b"operation" => {
            record.operation = cursor.text()?;
            1 << 6
        }
        b"quantisation" => {
            record.quantisation = cursor.text()?;
            1 << 7
        }
        b"schema_id" => {
            record.schema_id = cursor.text()?;
            1 << 8
        }
        b"error_code" => {
            record.error_code = cursor.text()?;
            1 << 9
        }
        b"tokens_in" => {
            record.tokens_in = cursor.count()?;
            1 << 10
        }
        b"tokens_out" => {
            record.tokens_out = cursor.count()?;
            1 << 11
        }
        b"queue_delay_budget_overrun" => {
            record.queue_delay_budget_overrun = cursor.flag()?;
            1 << 12
        }
        b"token_budget_overrun" => {
            record.token_budget_overrun = cursor.flag()?;
            1 << 13
        }
        b"kv_cache_reuse" => {
            (record.kv_hits, record.kv_misses) = cursor.counts(b"hits", b"misses")?;
            1 << 14
        }
        b"speculative" => {
            (record.spec_attempts, record.spec_accepts) = cursor.counts(b"attempts", b"accepts")?;
            1 << 15
        }
        b"recorded_at" => {
            record.recorded_at = if cursor.null() { None } else { Some(clock::utc(cursor.string()?)?) };
            1 << 16
        }
        _ => return None,
    })
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Option<Cow<'a, str>> {
    let name = cursor.string()?;
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(Cow::Borrowed(name))
}

/// A place in the line. Every reader leaves it behind what was read; `None` means that the line is not plain.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn null(&mut self) -> bool {
        self.word(b"null")
    }

    /// A key and its colon.
    fn key(&mut self) -> Option<&'a str> {
        let key = self.string()?;
        self.blank();
        self.take(b':')?;
        self.blank();
        Some(key)
    }

    /// Behind a value: whether another key follows.
    fn goes_on(&mut self) -> Option<bool> {
        self.blank();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => {
                self.blank();
                Some(true)
            }
            b'}' => Some(false),
            _ => None,
        }
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let length = length_to_quote(self.rest())?;
        let string = self.text.get(self.at..self.at + length)?;
        self.at += length + 1;
        Some(string)
    }

    fn text(&mut self) -> Option<Option<Cow<'a, str>>> {
        if self.null() { Some(None) } else { self.string().map(|string| Some(Cow::Borrowed(string))) }
    }

    fn flag(&mut self) -> Option<Option<bool>> {
        if self.word(b"false") {
            Some(Some(false))
        } else if self.word(b"true") {
            Some(Some(true))
        } else {
            self.null().then_some(None)
        }
    }

    /// Digits, and how many of them stand behind the point.
    fn decimal(&mut self) -> Option<(u64, usize)> {
        let bytes = self.rest();
        let (mut digits, mut length, mut point) = (0_u64, 0, None);
        for byte in bytes {
            match byte {
                b'0'..=b'9' if length < DIGITS_MAX + 1 => digits = digits.wrapping_mul(10) + u64::from(byte - b'0'),
                b'.' if point.is_none() => point = Some(length),
                _ => break,
            }
            length += 1;
        }
        let whole = point.unwrap_or(length);
        let places = point.map_or(0, |point| length - point - 1);
        // As JSON has it: no empty part, and no zero before other digits. What ends a number is checked by what follows.
        let is_json = whole > 0 && (whole == 1 || bytes.first() != Some(&b'0')) && point.is_none_or(|_| places > 0);
        self.at += length;
        (is_json && whole + places <= DIGITS_MAX).then_some((digits, places))
    }

    /// Units of 10^-`decimals`, as the general reader rounds them.
    fn units(&mut self, decimals: i32, max: u128) -> Option<Option<u128>> {
        if self.null() {
            return Some(None);
        }
        let (digits, places) = self.decimal()?;
        let magnitude = Number::of(digits, i32::try_from(places).ok()?).magnitude(decimals)?;
        (magnitude <= max).then_some(Some(magnitude))
    }

    /// A whole number, which may be written `512.0`.
    fn count(&mut self) -> Option<Option<u32>> {
        if self.null() {
            return Some(None);
        }
        let (digits, places) = self.decimal()?;
        let whole = match places {
            0 => digits,
            1 => digits.is_multiple_of(10).then_some(digits / 10)?,
            _ => return None,
        };
        u32::try_from(whole).ok().map(Some)
    }

    /// An object of two counts, in any order, or less of it.
    fn counts(&mut self, first: &[u8], second: &[u8]) -> Option<(Option<u32>, Option<u32>)> {
        if self.null() {
            return Some((None, None));
        }
        self.take(b'{')?;
        self.blank();
        let mut counts = (None, None);
        if self.take(b'}').is_some() {
            return Some(counts);
        }
        loop {
            let key = self.key()?.as_bytes();
            let slot = if key == first {
                &mut counts.0
            } else if key == second {
                &mut counts.1
            } else {
                return None;
            };
            *slot = self.count()?;
            if !self.goes_on()? {
                return Some(counts);
            }
        }
    }
}

/// How many bytes stand before the closing quote; `None` where an escape, a control character or the end comes first.
fn length_to_quote(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // The lowest byte that any of these marks is one that it is looking for; higher marks may be borrowed.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let marks = (zero(word ^ (ONES * u64::from(b'"')))
            | zero(word ^ (ONES * u64::from(b'\\')))
            | (word.wrapping_sub(ONES * 0x20) & !word))
            & HIGHS;
        if marks != 0 {
            at += marks.trailing_zeros() as usize / 8;
            return (bytes.get(at) == Some(&b'"')).then_some(at);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    let found = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    (rest.get(found) == Some(&b'"')).then_some(at + found)
}

#[cfg(test)]
mod tests;
