//! The GGUF reader: what it reads, and what it refuses. The bytes of a file are a guest's.

mod mutations;
mod refusals;
pub mod writer;

use crate::gguf::file::Gguf;
use crate::tensor::budget::LoadBudget;
use graphpool::backend::ErrorKind;
use writer::{Writer, array, string};

/// What is wrong with a file: the kind of the error and its message.
fn refused(bytes: &[u8]) -> (ErrorKind, String) {
    let error = Gguf::read(bytes, &mut LoadBudget::new(1 << 20)).unwrap_err();
    (error.kind(), error.message().to_owned())
}

/// A file with a value of each type and two tensors.
fn sample() -> Writer {
    let mut writer = Writer::default();
    writer.value("u8", 0, vec![200]).value("i8", 1, vec![200]).value("u16", 2, vec![1, 2]).value(
        "i16",
        3,
        vec![0, 0x80],
    );
    writer.u32("u32", u32::MAX).value("i32", 5, vec![0xff; 4]).f32("f32", 1.5).bool("bool", true).text("text", "words");
    writer.value("u64", 10, vec![0xff; 8]).value("i64", 11, vec![0xff; 8]).value(
        "f64",
        12,
        2.5_f64.to_le_bytes().to_vec(),
    );
    writer.strings("strings", &["one".into(), String::new(), "three".into()]).i32s("i32s", &[1, -2, 3]);
    writer.value("floats", 9, array(6, &[1.0_f32.to_le_bytes().to_vec(), 2.0_f32.to_le_bytes().to_vec()]));
    writer.value("flags", 9, array(7, &[vec![1], vec![0]]));
    writer.value("nested", 9, array(9, &[array(4, &[vec![0; 4]]), array(8, &[string(b"deep")])]));
    writer.tensor("b", &[3, 2], 0, (0..24).collect());
    writer.tensor("a", &[32], 8, vec![7; 34]);
    writer
}

#[test]
fn values_and_tensors_come_back_as_they_were_written() {
    let bytes = sample().finish();
    let mut budget = LoadBudget::new(1 << 20);
    let file = Gguf::read(&bytes, &mut budget).unwrap();
    assert_eq!(budget.remaining(), (1 << 20) - file.bytes());
    for (key, integer) in [
        ("u8", 200),
        ("i8", -56),
        ("u16", 513),
        ("i16", -32_768),
        ("u32", i128::from(u32::MAX)),
        ("i32", -1),
        ("u64", i128::from(u64::MAX)),
        ("i64", -1),
    ] {
        assert_eq!(file.integer(key).unwrap(), Some(integer), "{key}");
        assert_eq!(file.float(key).unwrap(), Some(integer as f64), "{key}");
        assert_eq!(
            file.string(key).unwrap_err().message(),
            format!("the key '{key}' is an integer, and must be a string")
        );
    }
    assert_eq!((file.float("f32").unwrap(), file.float("f64").unwrap()), (Some(1.5), Some(2.5)));
    assert_eq!((file.boolean("bool").unwrap(), file.string("text").unwrap()), (Some(true), Some(&b"words"[..])));
    assert_eq!((file.integer("none").unwrap(), file.array("none").unwrap().is_none()), (None, true));
    let strings = file.array("strings").unwrap().unwrap();
    assert_eq!(strings.strings().unwrap().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    assert!(strings.integers().is_none() && strings.floats().is_none());
    let integers = file.array("i32s").unwrap().unwrap();
    assert_eq!(integers.integers().unwrap().collect::<Vec<_>>(), [1, -2, 3]);
    assert!(integers.strings().is_none() && integers.floats().is_none());
    assert_eq!(file.array("floats").unwrap().unwrap().floats().unwrap().collect::<Vec<_>>(), [1.0, 2.0]);
    let flags = file.array("flags").unwrap().unwrap();
    assert!(flags.len() == 2 && flags.integers().is_none() && flags.floats().is_none());
    let nested = file.array("nested").unwrap().unwrap();
    assert_eq!(nested.len(), 2);
    assert!(nested.strings().is_none() && nested.integers().is_none());
    assert_eq!(file.tensors().iter().map(|tensor| tensor.name).collect::<Vec<_>>(), ["a", "b"]);
    let tensor = file.tensor("b").unwrap();
    assert_eq!(
        (tensor.dims(), tensor.kind.name, &bytes[tensor.place()]),
        (&[3, 2][..], "F32", &(0..24).collect::<Vec<u8>>()[..])
    );
    assert_eq!(bytes[file.tensor("a").unwrap().place()], [7; 34]);
    assert!(file.tensor("c").is_none());
}

#[test]
fn version_2_is_read_and_a_file_may_have_no_tensors() {
    let mut bytes = sample().finish();
    bytes[4] = 2;
    assert!(Gguf::read(&bytes, &mut LoadBudget::new(1 << 20)).is_ok());
    let mut empty = Writer::default();
    empty.text("k", "v");
    assert!(Gguf::read(&empty.finish(), &mut LoadBudget::new(1 << 20)).unwrap().tensors().is_empty());
}

#[test]
fn another_alignment_is_used() {
    let mut writer = sample();
    writer.alignment = 4096;
    writer.u32("general.alignment", 4096);
    let bytes = writer.finish();
    let file = Gguf::read(&bytes, &mut LoadBudget::new(1 << 20)).unwrap();
    assert_eq!(bytes[file.tensor("a").unwrap().place()], [7; 34]);
}

#[test]
fn what_the_reader_allocates_is_charged_before() {
    let bytes = sample().finish();
    let needed = Gguf::read(&bytes, &mut LoadBudget::new(usize::MAX)).unwrap().bytes();
    assert!(Gguf::read(&bytes, &mut LoadBudget::new(needed)).is_ok());
    let error = Gguf::read(&bytes, &mut LoadBudget::new(needed - 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}
