//! What templates expect of Python beyond the language: functions, methods, JSON and dates.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use std::fmt::Write as _;

/// The most spaces that a step of JSON is indented by.
const MAX_INDENT: usize = 16;

/// The most characters of a set that a text is stripped of.
const MAX_STRIPPED: usize = 16;

/// Seconds of a day.
const DAY: i64 = 86_400;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// From the first of January 1970 on, which was a Thursday.
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// `raise_exception(message)`: ends the rendering with this message.
pub(super) fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(invalid(message))
}

/// Methods of Python's strings, lists and maps.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let set = args.first().and_then(Value::as_str).unwrap_or_default();
    match name {
        // Its widths are of any size.
        "format" => Err(invalid("the method format is not supported")),
        "strip" | "lstrip" | "rstrip" if set.chars().nth(MAX_STRIPPED).is_some() => {
            Err(invalid(format!("a text is stripped of more than {MAX_STRIPPED} characters")))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// The filter `tojson`: as `json.dumps` with `ensure_ascii=False`, which escapes nothing for HTML.
#[allow(clippy::needless_pass_by_value, reason = "the engine calls it so")]
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(invalid("tojson has no ensure_ascii=True"));
    }
    options.get::<Option<bool>>("sort_keys")?;
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(invalid(format!("tojson indents by at most {MAX_INDENT}")));
    }
    let mut json = Json { state, text: String::new(), charged: 0, indent };
    json.value(value, 0)?;
    Ok(json.text)
}

struct Json<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    text: String,
    /// Bytes of the text that were charged.
    charged: usize,
    indent: Option<usize>,
}

impl Json<'_, '_, '_> {
    /// The depth is bounded, for the value was looked at before.
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1 + (self.text.len() - self.charged) as u64 / 64)?;
        self.charged = self.text.len();
        match value.kind() {
            ValueKind::Undefined => return Err(invalid("tojson of an undefined value")),
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Number => {
                let _ = write!(self.text, "{value}");
            }
            ValueKind::Seq | ValueKind::Iterable => {
                self.text.push('[');
                let mut is_first = true;
                for item in value.try_iter()?.checked() {
                    self.next(&mut is_first, depth + 1);
                    self.value(&item?, depth + 1)?;
                }
                self.close(']', is_first, depth);
            }
            ValueKind::Map => {
                self.text.push('{');
                let mut is_first = true;
                for key in value.try_iter()?.checked() {
                    let key = key?;
                    self.next(&mut is_first, depth + 1);
                    match key.as_str() {
                        Some(key) => self.string(key),
                        None if matches!(key.kind(), ValueKind::Number) => self.string(&key.to_string()),
                        None => return Err(invalid(format!("tojson of a map whose key is {}", key.kind()))),
                    }
                    self.text.push_str(": ");
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.close('}', is_first, depth);
            }
            kind => return Err(invalid(format!("tojson of {kind}"))),
        }
        Ok(())
    }

    fn next(&mut self, is_first: &mut bool, depth: usize) {
        if !std::mem::take(is_first) {
            self.text.push_str(if self.indent.is_some() { "," } else { ", " });
        }
        self.line(depth);
    }

    fn close(&mut self, bracket: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.line(depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                c if c < ' ' => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// `strftime_now(format)` for a time in seconds since 1970 in UTC.
pub(super) fn date(format: &str, seconds: i64) -> Result<String, Error> {
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day, of_year) = civil(days);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut text = String::new();
    let mut marks = format.chars();
    while let Some(c) = marks.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let (mut mark, mut is_plain) = (marks.next(), false);
        if mark == Some('-') {
            (mark, is_plain) = (marks.next(), true);
        }
        let mut number = |number: i64, width: usize| {
            let width = if is_plain { 0 } else { width };
            let _ = write!(text, "{number:0width$}");
        };
        match mark {
            Some('Y') => number(year, 4),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('H') => number(hour, 2),
            Some('I') => number(half, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(of_year, 3),
            Some('B') => text.push_str(MONTHS[month as usize - 1]),
            Some('b') => text.push_str(&MONTHS[month as usize - 1][..3]),
            Some('A') => text.push_str(weekday),
            Some('a') => text.push_str(&weekday[..3]),
            Some('p') => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('%') => text.push('%'),
            _ => {
                let mark: String = mark.into_iter().collect();
                return Err(invalid(format!("strftime_now does not know %{mark}")));
            }
        }
    }
    Ok(text)
}

/// Year, month, day of the month and day of the year, from 1, of a day since 1970 in the Gregorian calendar.
const fn civil(days: i64) -> (i64, i64, i64, i64) {
    // Years begin in March here, so that a leap day is the last one. An era is 400 years.
    let since = days + 719_468;
    let (era, day) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + if month <= 2 { 1 } else { 0 };
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let of_year = if shifted < 10 { of_year + 59 + if is_leap { 1 } else { 0 } } else { of_year - 306 };
    (year, month, day, of_year + 1)
}
