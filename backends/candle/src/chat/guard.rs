//! The checks of the values that a template computes with: their depth, and the fuel for reading them whole.

use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};
use std::collections::BTreeMap;

/// How deep values may be nested in values.
pub(super) const MAX_DEPTH: usize = 16;

/// Bytes of strings in a value for which one unit of fuel is charged when it is looked at.
const BYTES_OF_FUEL: u64 = 1024;

/// Bytes of a text for which one unit is charged when a character is looked for.
const BYTES_SEARCHED: u64 = 256;

/// Values in a value for which one unit is charged.
const VALUES_OF_FUEL: u64 = 2;

/// Bytes for which the engine charges one unit when it makes a string.
const BYTES_MADE: u64 = 64;

/// The filter in front of instructions that read values whole. Gives back the values, the last one first.
pub(super) fn guard(state: &State<'_, '_>, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    values.into_values().into_iter().rev().map(|value| checked(state, value, false)).collect()
}

/// As [`guard`], for values that another one will hold.
pub(super) fn store(state: &State<'_, '_>, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    values.into_values().into_iter().rev().map(|value| checked(state, value, true)).collect()
}

/// As [`guard`], for a value of which a part is taken, and the key of the part. To find a character takes as long as
/// the text has bytes; other values are not read whole.
pub(super) fn index(state: &State<'_, '_>, value: Value, key: Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64 / BYTES_SEARCHED)?;
    }
    Ok(Value::from_object(vec![checked(state, key, false)?, value]))
}

/// The value itself, or for a lazy one a list of what it has: a chain of lazy ones would have no bounded depth.
fn checked(state: &State<'_, '_>, value: Value, is_stored: bool) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64 / BYTES_OF_FUEL)?;
        return Ok(value);
    }
    if value.as_object().is_none() {
        return Ok(value);
    }
    if is_stored && has_state(&value) {
        return Err(has_state_error());
    }
    let mut sizes = Sizes { state, values: 0, bytes: 0 };
    let result = if has_state(&value) || is_whole(&value) {
        value
    } else if value.kind() == ValueKind::Map {
        let mut map = BTreeMap::new();
        for key in value.try_iter()?.checked() {
            let key = key?;
            sizes.count(1)?;
            map.insert(key.clone(), value.get_item(&key)?);
        }
        Value::from_object(map)
    } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        let mut list = Vec::new();
        for item in value.try_iter()?.checked() {
            sizes.count(1)?;
            list.push(item?);
        }
        Value::from_object(list)
    } else {
        return Ok(value);
    };
    sizes.look(&result, 0)?;
    state.consume_fuel(sizes.bytes / BYTES_OF_FUEL)?;
    Ok(result)
}

/// Whether the value is a namespace or a loop, which change. Such a value in another one might hold itself.
///
/// The engine has both as maps, of types of its own. A macro is one too, and holds nothing.
fn has_state(value: &Value) -> bool {
    value.kind() == ValueKind::Map
        && !value.is_kwargs()
        && value.downcast_object_ref::<BTreeMap<Value, Value>>().is_none()
        && !is_macro(value)
}

fn is_macro(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Macro"))
}

fn has_state_error() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a namespace or a loop can be in no other value")
}

/// Whether the value has its elements itself.
fn is_whole(value: &Value) -> bool {
    value.downcast_object_ref::<Vec<Value>>().is_some()
        || value.downcast_object_ref::<Tuple>().is_some()
        || value.downcast_object_ref::<BTreeMap<Value, Value>>().is_some()
        || value.is_kwargs()
        || is_macro(value)
}

/// What reading a value whole comes to: one that is held twice is read twice.
struct Sizes<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    values: u64,
    bytes: u64,
}

impl Sizes<'_, '_, '_> {
    fn count(&mut self, values: u64) -> Result<(), Error> {
        self.values += values;
        if self.values >= VALUES_OF_FUEL {
            self.state.consume_fuel(self.values / VALUES_OF_FUEL)?;
            self.values %= VALUES_OF_FUEL;
        }
        Ok(())
    }

    fn look(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.count(1)?;
        if let Some(text) = value.as_str() {
            self.bytes = self.bytes.saturating_add(text.len() as u64);
            let left = self.state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
            if self.bytes / BYTES_MADE > left {
                return Err(Error::from(ErrorKind::OutOfFuel));
            }
            return Ok(());
        }
        if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
            return Ok(());
        }
        if depth > 0 && has_state(value) {
            return Err(has_state_error());
        }
        if depth >= MAX_DEPTH {
            let why = format!("values are nested in values more than {MAX_DEPTH} deep");
            return Err(Error::new(ErrorKind::InvalidOperation, why));
        }
        if value.kind() == ValueKind::Map {
            for key in value.try_iter()?.checked() {
                let key = key?;
                self.look(&key, depth + 1)?;
                self.look(&value.get_item(&key)?, depth + 1)?;
            }
        } else {
            for item in value.try_iter()?.checked() {
                self.look(&item?, depth + 1)?;
            }
        }
        Ok(())
    }
}
