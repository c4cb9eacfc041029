//! Changes to the fields of a file: counts, types, values, offsets, shapes, tokens, merges.

use arbitrary::Unstructured;

use crate::base::TYPES;
use crate::session::{number, one_of};
use crate::writer::{Writer, array, string};

/// Numbers at which arithmetic goes wrong.
const STRANGE: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    31,
    33,
    64,
    255,
    256,
    65_535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Keys that files may have, with the type of their values; the architecture is in front of those that begin with a dot.
const KEYS: [(&str, u32); 22] = [
    ("general.alignment", 4),
    ("general.name", 8),
    (".rope.scaling.type", 8),
    (".rope.scaling.factor", 6),
    (".rope.scale_linear", 6),
    (".rope.freq_base_swa", 6),
    (".attention.sliding_window", 4),
    (".attention.sliding_window_pattern", 4),
    (".expert_count", 4),
    (".final_logit_softcapping", 6),
    ("tokenizer.ggml.bos_token_id", 4),
    ("tokenizer.ggml.eos_token_id", 4),
    ("tokenizer.ggml.eot_token_id", 4),
    ("tokenizer.ggml.eom_token_id", 4),
    ("tokenizer.ggml.unknown_token_id", 4),
    ("tokenizer.ggml.seperator_token_id", 5),
    ("tokenizer.ggml.add_bos_token", 7),
    ("tokenizer.ggml.add_eos_token", 7),
    ("tokenizer.ggml.add_space_prefix", 7),
    ("tokenizer.ggml.remove_extra_whitespaces", 7),
    ("tokenizer.ggml.precompiled_charsmap", 9),
    ("tokenizer.chat_template", 8),
];

/// Texts for keys, tokens and merges.
const TEXTS: [&[u8]; 16] = [
    b"",
    b" ",
    b"linear",
    b"yarn",
    b"Phi-3",
    b"th e",
    b"e th",
    b"t  h",
    b"t",
    b"<|end|>",
    b"<0x41>",
    b"<0xZZ>",
    b"\xff\xfe",
    "\u{2581}the".as_bytes(),
    "\u{120}the \u{120}the".as_bytes(),
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Floats as the bytes of weights, scores and hyperparameters.
const FLOATS: [f32; 8] = [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 3e38, 1.0];

/// Changes a file as often as the input says, and returns its bytes.
pub(crate) fn file(writer: &mut Writer, input: &mut Unstructured<'_>) -> Vec<u8> {
    for _ in 0..number(input, 8) {
        if writer.metadata.is_empty() || writer.tensors.is_empty() {
            break;
        }
        match number(input, 5) {
            0 => value(writer, input),
            1 => key(writer, input),
            2 | 3 => tokens(writer, input),
            _ => tensor(writer, input),
        }
    }
    bytes(writer, input)
}

/// Changes the value of a key without regard for what it is.
fn value(writer: &mut Writer, input: &mut Unstructured<'_>) {
    let count = writer.metadata.len() as u64;
    let (key, other) = (number(input, count) as usize, number(input, count) as usize);
    let strange = one_of(input, &STRANGE).to_le_bytes();
    match number(input, 6) {
        0 => writer.metadata[key].1 = number(input, 15) as u32,
        1 | 2 => {
            let bytes = &mut writer.metadata[key].2;
            let count = bytes.len().min(8);
            bytes[..count].copy_from_slice(&strange[..count]);
        }
        3 => {
            // The count of an array.
            if let Some(count) = writer.metadata[key].2.get_mut(4..12) {
                count.copy_from_slice(&strange);
            }
        }
        4 => {
            let bytes = &mut writer.metadata[key].2;
            let at = number(input, bytes.len().max(1) as u64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = number(input, 256) as u8;
            }
        }
        _ => writer.metadata[key].2 = writer.metadata[other].2.clone(),
    }
}

/// Removes a key, or sets one that files may have.
fn key(writer: &mut Writer, input: &mut Unstructured<'_>) {
    if number(input, 4) == 0 {
        let key = number(input, writer.metadata.len() as u64) as usize;
        writer.metadata.remove(key);
        return;
    }
    let (name, ty) = one_of(input, &KEYS);
    let architecture = writer.metadata.iter().find(|(key, ..)| key == b"general.architecture");
    let prefix = architecture.and_then(|(.., value)| str::from_utf8(value.get(8..)?).ok()).unwrap_or_default();
    let name = if name.starts_with('.') { format!("{prefix}{name}") } else { name.to_owned() };
    let strange = one_of(input, &STRANGE).to_le_bytes();
    let value = match ty {
        4 | 5 => strange[..4].to_vec(),
        6 => one_of(input, &FLOATS).to_le_bytes().to_vec(),
        7 => vec![number(input, 3) as u8],
        8 => string(one_of(input, &TEXTS)),
        _ => array(0, &vec![vec![strange[0]]; number(input, 300) as usize]),
    };
    writer.set(&name, ty, value);
}

/// The elements of an array of strings.
fn strings(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut rest, mut strings) = (value.get(12..)?, Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        strings.push(tail.get(..length)?.to_vec());
        rest = &tail[length..];
    }
    Some(strings)
}

/// Changes a token, its kind, its score, or a merge; or the number of them.
fn tokens(writer: &mut Writer, input: &mut Unstructured<'_>) {
    let name = one_of(input, &["tokens", "merges", "token_type", "scores"]);
    let name = format!("tokenizer.ggml.{name}");
    let Some((_, ty, value)) = writer.metadata.iter_mut().find(|(key, ..)| key == name.as_bytes()) else { return };
    if *ty != 9 || value.len() < 12 {
        return;
    }
    if name.ends_with("s") && !name.ends_with("scores") {
        let Some(mut list) = strings(value) else { return };
        let (at, other) = (number(input, list.len().max(1) as u64), number(input, list.len().max(1) as u64));
        let (Some(other), text) = (list.get(other as usize).cloned(), one_of(input, &TEXTS)) else { return };
        match number(input, 5) {
            0 => list[at as usize] = text.to_vec(),
            1 => list[at as usize] = other,
            2 => drop(list.remove(at as usize)),
            3 => list.push(text.to_vec()),
            _ => list[at as usize] = [&list[at as usize], text].concat(),
        }
        let list: Vec<_> = list.iter().map(|text| string(text)).collect();
        *value = array(8, &list);
        return;
    }
    let elements = (value.len() - 12) / 4;
    let at = 12 + 4 * number(input, elements.max(1) as u64) as usize;
    let bits = match number(input, 3) {
        0 => one_of(input, &STRANGE) as u32,
        1 => number(input, 8) as u32,
        _ => one_of(input, &FLOATS).to_bits(),
    };
    if let Some(element) = value.get_mut(at..at + 4) {
        element.copy_from_slice(&bits.to_le_bytes());
    }
}

/// Changes a tensor's name, shape, type or weights.
fn tensor(writer: &mut Writer, input: &mut Unstructured<'_>) {
    let count = writer.tensors.len() as u64;
    let (index, other) = (number(input, count) as usize, number(input, count) as usize);
    let strange = one_of(input, &STRANGE);
    let other = (writer.tensors[other].0.clone(), writer.tensors[other].3.clone());
    let (name, dims, ty, data) = &mut writer.tensors[index];
    match number(input, 9) {
        0 => *name = other.0,
        1 => {
            let dim = number(input, dims.len().max(1) as u64) as usize;
            if let Some(dim) = dims.get_mut(dim) {
                *dim = strange;
            }
        }
        2 => dims.push(strange),
        3 => *ty = number(input, 45) as u32,
        4 => {
            // Another type, with as many bytes as it has.
            let (kind, block, bytes) = one_of(input, &TYPES);
            let elements = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
            if let Some(elements) = elements.filter(|&elements| elements <= 1 << 18) {
                *ty = kind;
                data.resize((elements / block * bytes) as usize, number(input, 256) as u8);
            }
        }
        5 => {
            let pattern = one_of(input, &FLOATS).to_le_bytes();
            data.iter_mut().zip(pattern.iter().cycle()).for_each(|(byte, &other)| *byte = other);
        }
        6 => {
            let at = number(input, data.len().max(1) as u64) as usize;
            if let Some(bytes) = data.get_mut(at..) {
                bytes.iter_mut().zip(one_of(input, &FLOATS).to_le_bytes()).for_each(|(byte, other)| *byte = other);
            }
        }
        7 => *data = other.1,
        _ => drop(writer.tensors.remove(index)),
    }
}

/// The bytes of the file, perhaps with other counts, offsets, alignment or length.
fn bytes(writer: &mut Writer, input: &mut Unstructured<'_>) -> Vec<u8> {
    let strange = one_of(input, &STRANGE);
    match number(input, 16) {
        0 if !writer.tensors.is_empty() => {
            let victim = number(input, writer.tensors.len() as u64) as usize;
            writer.with_offsets(|index, offset| match index {
                _ if index != victim => offset,
                _ if strange < 64 => offset.wrapping_add(strange),
                _ => strange,
            })
        }
        1 => {
            let alignment = 1 << number(input, 12);
            writer.alignment = alignment;
            writer.set("general.alignment", 4, (alignment as u32).to_le_bytes().to_vec());
            writer.finish()
        }
        // The version, the number of tensors, the number of keys.
        2 => {
            let mut file = writer.finish();
            let at = 4 * (1 + number(input, 4)) as usize;
            file[at..at + 4].copy_from_slice(&strange.to_le_bytes()[..4]);
            file
        }
        3 => {
            let mut file = writer.finish();
            file.truncate(number(input, file.len() as u64) as usize);
            file
        }
        4 => [writer.finish(), vec![0; number(input, 256) as usize]].concat(),
        _ => writer.finish(),
    }
}
