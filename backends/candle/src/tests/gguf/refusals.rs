//! Each refusal of the reader, with its message.

use super::writer::{Writer, array, string};
use super::{refused, sample};
use graphpool::backend::ErrorKind::{InvalidEncoding, TooLarge, UnsupportedOperation};

/// What is wrong with the file of [`sample`] after a change.
fn changed(change: impl FnOnce(&mut Writer)) -> (graphpool::backend::ErrorKind, String) {
    let mut writer = sample();
    change(&mut writer);
    refused(&writer.finish())
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = sample().finish();
    for length in 0..bytes.len() {
        let (kind, message) = refused(&bytes[..length]);
        assert_eq!(kind, InvalidEncoding, "{length}: {message}");
    }
    let (_, message) = refused(&bytes[..10]);
    assert_eq!(
        message,
        "the GGUF file ends within its number of tensors: 8 bytes are needed at byte 8, and 2 are left"
    );
}

#[test]
fn another_magic_or_version_is_refused() {
    let with = |bytes: [u8; 8]| refused(&[&bytes[..], &sample().finish()[8..]].concat());
    assert_eq!(with(*b"GGML\x03\0\0\0").1, "the bytes are no GGUF file: they don't begin with GGUF");
    for version in [0, 1, 4, 255] {
        let (kind, message) = with([b'G', b'G', b'U', b'F', version, 0, 0, 0]);
        assert_eq!(kind, UnsupportedOperation);
        assert_eq!(message, format!("the GGUF file has the version {version}; 2 and 3 are supported"));
    }
    let (_, message) = with(*b"GGUF\0\0\0\x03");
    assert!(message.contains("which is a big-endian file's"), "{message}");
}

#[test]
fn counts_are_held_against_the_bytes_that_are_left() {
    let with = |at: usize, count: u64| {
        let mut bytes = sample().finish();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        refused(&bytes)
    };
    for (at, what) in [(8, "tensors"), (16, "keys")] {
        let (kind, message) = with(at, u64::MAX);
        assert_eq!(
            (kind, message),
            (TooLarge, format!("the GGUF file declares {} {what}, and the limit is 65536", u64::MAX))
        );
        let (kind, message) = with(at, 65_536);
        assert_eq!(kind, InvalidEncoding);
        assert!(message.starts_with(&format!("the GGUF file declares 65536 {what}, and the ")), "{message}");
    }
    for count in [u64::MAX, 1 << 61, 1 << 40, 100_000] {
        for ty in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] {
            let (kind, message) = changed(|writer| {
                writer.value("k", 9, [&u32::to_le_bytes(ty)[..], &count.to_le_bytes()].concat());
            });
            assert_eq!(kind, InvalidEncoding, "{message}");
            assert!(message.contains("elements in the array of the key 'k'"), "{message}");
        }
    }
    for length in [u64::MAX, 1 << 63, 1 << 40] {
        let (kind, message) = changed(|writer| _ = writer.value("k", 8, length.to_le_bytes().to_vec()));
        assert_eq!(kind, InvalidEncoding);
        assert!(message.starts_with("the GGUF file ends within the value of the key 'k'"), "{message}");
    }
}

#[test]
fn values_of_no_type_are_refused() {
    for ty in [13, 14, u32::MAX] {
        let expected = format!("the key 'k' has the value type {ty}, and the types are 0 to 12");
        assert_eq!(changed(|writer| _ = writer.value("k", ty, vec![0; 8])).1, expected);
        assert_eq!(changed(|writer| _ = writer.value("k", 9, array(ty, &[]))).1, expected);
    }
    let (_, message) = changed(|writer| _ = writer.value("k", 7, vec![2]));
    assert_eq!(message, "the key 'k' is a boolean with the byte 2, not 0 or 1");
}

#[test]
fn arrays_lie_within_arrays_to_a_bounded_depth() {
    let nested = |depth: usize| (1..depth).fold(array(4, &[]), |inner, _| array(9, &[inner]));
    let mut writer = sample();
    writer.value("k", 9, nested(4));
    assert!(
        crate::gguf::file::Gguf::read(&writer.finish(), &mut crate::tensor::budget::LoadBudget::new(1 << 20)).is_ok()
    );
    for depth in [5, 1000, 20_000] {
        let (_, message) = changed(|writer| _ = writer.value("k", 9, nested(depth)));
        assert_eq!(message, "the key 'k' has arrays within arrays more than 4 deep");
    }
}

#[test]
fn keys_and_names_are_unique_text_of_bounded_length() {
    assert_eq!(changed(|writer| _ = writer.u32("bool", 1)).1, "the GGUF file has the key 'bool' twice");
    let (_, message) = changed(|writer| _ = writer.tensor("a", &[1], 0, vec![0; 4]));
    assert_eq!(message, "the GGUF file has two tensors of the name 'a'");
    let (_, message) = changed(|writer| writer.metadata.push((vec![0xff], 0, vec![1])));
    assert_eq!(message, "the GGUF file has a key that is not UTF-8");
    let (_, message) = changed(|writer| writer.metadata.push((vec![b'k'; 65_536], 0, vec![1])));
    assert_eq!(message, "the GGUF file has a key of 65536 bytes, and the limit is 65535");
    let (_, message) = changed(|writer| writer.tensors[0].0 = vec![0xff]);
    assert_eq!(message, "the GGUF file has a tensor's name that is not UTF-8");
    let (_, message) = changed(|writer| writer.tensors[0].0 = vec![b'n'; 65]);
    assert_eq!(message, "the GGUF file has a tensor's name of 65 bytes, and the limit is 64");
}

#[test]
fn shapes_and_types_of_tensors_are_checked() {
    let (_, message) = changed(|writer| writer.tensors[0].1 = vec![1; 5]);
    assert_eq!(message, "the tensor 'b' has 5 dimensions, and the limit is 4");
    for dims in [vec![0], vec![3, 0], vec![u64::MAX], vec![1 << 32, 1 << 32], vec![1 << 63], vec![1 << 62, 2]] {
        let (kind, message) = changed(|writer| writer.tensors[0].1.clone_from(&dims));
        assert_eq!(kind, InvalidEncoding);
        assert!(message.starts_with("the tensor 'b' has a dimension of "), "{message}");
    }
    for ty in [4, 5, 31, 43, u32::MAX] {
        let (kind, message) = changed(|writer| writer.tensors[0].2 = ty);
        assert_eq!(
            (kind, message),
            (UnsupportedOperation, format!("the tensor 'b': the tensor type {ty} is not known"))
        );
    }
    let (_, message) = changed(|writer| writer.tensors[1].1 = vec![33]);
    assert_eq!(message, "the tensor 'a' has rows of 33 elements, no multiple of the 32 of a block of Q8_0");
}

#[test]
fn tensors_are_aligned_within_the_file_and_apart() {
    let with = |offset: u64| {
        let bytes = sample().with_offsets(|index, original| if index == 0 { offset } else { original });
        refused(&bytes).1
    };
    assert_eq!(with(1), "the tensor 'b' is at the offset 1, no multiple of the alignment 32");
    for offset in [96, 1 << 40, u64::MAX - 31] {
        assert!(with(offset).starts_with("the tensor 'b' of 2 rows of 3 elements of F32 at the offset"), "{offset}");
    }
    // Both at the second's place.
    assert!(with(32).ends_with("overlap"));
    let (_, message) = changed(|writer| writer.tensors[0].1 = vec![4, 4]);
    assert_eq!(message, "the tensors 'b' and 'a' overlap");
}

#[test]
fn an_alignment_is_a_power_of_two_up_to_a_bound() {
    for alignment in [0, 3, 33, (1 << 20) + 1, 1 << 21, 1 << 31] {
        let (_, message) = changed(|writer| _ = writer.u32("general.alignment", alignment));
        assert!(message.starts_with("the key 'general.alignment' is "), "{message}");
    }
    for (ty, bytes) in [(5, (-32_i32).to_le_bytes().to_vec()), (10, (1_u64 << 40).to_le_bytes().to_vec())] {
        let (_, message) = changed(|writer| _ = writer.value("general.alignment", ty, bytes.clone()));
        assert!(message.ends_with("must be a power of two up to 1048576"), "{message}");
    }
    let (_, message) = changed(|writer| _ = writer.value("general.alignment", 8, string(b"32")));
    assert_eq!(message, "the key 'general.alignment' is a string, and must be an integer");
}
