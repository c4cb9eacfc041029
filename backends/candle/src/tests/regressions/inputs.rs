//! What a model that fuzzing makes is run on. The fuzzer has this file too, so that what it finds is found again.

use super::{ElementType, Port, Value};

/// Elements that an input is given at most.
const INPUT: usize = 1 << 16;

/// Inputs that fit the ports, by the model's bytes alone; `None` where one would be too large.
pub fn inputs(bytes: &[u8], ports: &[Port]) -> Option<Vec<Value>> {
    let mut state = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut inputs = Vec::new();
    for port in ports {
        let open = |dim: &Option<usize>| dim.unwrap_or(3);
        let dims: Vec<usize> = port.dims.iter().flatten().map(open).collect();
        let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
        let count = count.filter(|&count| count <= INPUT)?;
        let data: Vec<u8> = (0..count).flat_map(|_| element(port.ty, random())).collect();
        inputs.push(Value::from_bytes(dims, port.ty, &data).ok()?);
    }
    Some(inputs)
}

/// A small number most of the time, and one at the end of the range now and then.
fn element(ty: ElementType, random: u64) -> Vec<u8> {
    let small = (random % 11) as i64 - 5;
    let wide = match random % 97 {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => i64::MAX - 1,
        _ => small,
    };
    match ty {
        ElementType::Bool => vec![u8::from(random.is_multiple_of(2))],
        ElementType::F32 => match random % 97 {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => 1e30,
            _ => small as f32 / 2.0,
        }
        .to_le_bytes()
        .to_vec(),
        ElementType::F64 => (small as f64 / 2.0).to_le_bytes().to_vec(),
        _ => wide.to_le_bytes()[..ty.size()].to_vec(),
    }
}
