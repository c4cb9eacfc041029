//! What a guest may make WAMR pass: every pointer unaligned, numbers of any value, memory that changes meanwhile.
#![allow(clippy::cast_ptr_alignment, reason = "a guest's addresses have any alignment")]

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use wasi_nn_onnx::{
    Pair, Tensor, compute, deinit_backend, get_output, init_backend, init_execution_context, load, load_by_name,
    load_by_name_with_config, set_input,
};

const INVALID_ARGUMENT: u32 = 1;
const INVALID_ENCODING: u32 = 2;
const UNSUPPORTED_OPERATION: u32 = 6;
const TOO_LARGE: u32 = 7;
const NOT_FOUND: u32 = 8;

/// A model that adds 1 to each of two floats: ONNX, written by hand.
fn add_one() -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }
    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }
    fn value(name: &[u8]) -> Vec<u8> {
        let tensor = [number(1, 1), field(2, &field(1, &number(1, 2)))].concat();
        [field(1, name), field(2, &field(1, &tensor))].concat()
    }
    let one = [number(1, 1), number(2, 1), field(8, b"one"), field(9, &1_f32.to_le_bytes())].concat();
    let node = [field(1, b"x"), field(1, b"one"), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(5, &one), field(11, &value(b"x")), field(12, &value(b"y"))];
    [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 17))].concat()
}

/// Memory of a guest, addressed by bytes, at odd addresses.
struct Memory(Vec<u64>);

impl Memory {
    fn new() -> Self {
        Self(vec![0; 512])
    }

    /// The address `at` bytes from its start.
    fn at<T>(&mut self, at: usize) -> *mut T {
        assert!(at + size_of::<T>() <= 4096);
        self.0.as_mut_ptr().wrapping_byte_add(at).cast()
    }

    /// Puts a value at an address, and returns it.
    fn put<T>(&mut self, at: usize, value: T) -> *mut T {
        let place: *mut T = self.at(at);
        // SAFETY: inside of the memory.
        unsafe { place.write_unaligned(value) };
        place
    }

    fn get<T: Copy>(&mut self, at: usize) -> T {
        // SAFETY: inside of the memory, whose bytes are initialised.
        unsafe { self.at::<T>(at).read_unaligned() }
    }
}

fn open() -> *mut c_void {
    let mut context = null_mut();
    // SAFETY: a place for a pointer.
    assert_eq!(unsafe { init_backend(&raw mut context) }, 0);
    context
}

fn load_bytes(context: *mut c_void, model: &[u8], encoding: u32, target: u32) -> Result<u32, u32> {
    let mut memory = Memory::new();
    let part = memory.put(1, Pair { buf: model.as_ptr().cast_mut(), size: model.len() as u32 });
    let builders = memory.put(33, Pair { buf: part, size: 1 });
    // SAFETY: pointers into the memory and to the model.
    match unsafe { load(context, builders, encoding, target, memory.at(65)) } {
        0 => Ok(memory.get(65)),
        error => Err(error),
    }
}

/// A context of WAMR, and an execution context of `add_one`.
fn opened() -> (*mut c_void, u32) {
    let context = open();
    let graph = load_bytes(context, &add_one(), 1, 0).unwrap();
    let mut memory = Memory::new();
    // SAFETY: a place for a number.
    assert_eq!(unsafe { init_execution_context(context, graph, memory.at(3)) }, 0);
    (context, memory.get(3))
}

#[test]
fn everything_may_lie_unaligned() {
    let (context, execution) = opened();
    let mut memory = Memory::new();
    let sizes = memory.put(101, 2_u32);
    let data = memory.put(203, [1_f32, 41.0]);
    let dimensions = memory.put(301, Pair { buf: sizes, size: 1 });
    let input = Tensor { dimensions, ty: 1, padding: [0xAA; 3], data: Pair { buf: data.cast(), size: 8 } };
    let input = memory.put(405, input);
    let output = Pair { buf: memory.at::<u8>(507), size: 8 };
    let output = memory.put(605, output);
    // SAFETY: all inside of the memory.
    unsafe {
        assert_eq!(set_input(context, execution, 0, input), 0);
        assert_eq!(compute(context, execution), 0);
        assert_eq!(get_output(context, execution, 0, output, memory.at(703)), 0);
    }
    assert_eq!((memory.get::<[f32; 2]>(507), memory.get::<u32>(703)), ([2.0, 42.0], 8));

    // Too short: the length that is needed, and nothing in the buffer.
    memory.put(507, [0_f32; 2]);
    let output = Pair { buf: memory.at::<u8>(507), size: 7 };
    let output = memory.put(605, output);
    // SAFETY: as above.
    assert_eq!(unsafe { get_output(context, execution, 0, output, memory.at(703)) }, TOO_LARGE);
    assert_eq!((memory.get::<[f32; 2]>(507), memory.get::<u32>(703)), ([0.0; 2], 8));
    // The length inside of the buffer.
    let output = Pair { buf: memory.at::<u8>(507), size: 8 };
    let output = memory.put(605, output);
    // SAFETY: as above.
    assert_eq!(unsafe { get_output(context, execution, 0, output, memory.at(511)) }, INVALID_ARGUMENT);
    // SAFETY: no pointer but the context.
    assert_eq!(unsafe { deinit_backend(context) }, 0);
}

#[test]
fn a_rank_a_length_or_a_count_of_any_size_is_refused_before_it_is_read() {
    let (context, execution) = opened();
    let nowhere: *mut u8 = without_provenance_mut(1);
    for rank in [17, 0x7FFF_FFFF, u32::MAX] {
        let dimensions = Pair { buf: nowhere.cast::<u32>(), size: rank };
        let tensor =
            Tensor { dimensions: &raw const dimensions, ty: 1, padding: [0; 3], data: Pair { buf: nowhere, size: 8 } };
        // SAFETY: the lengths are refused before the pointers are used.
        assert_eq!(unsafe { set_input(context, execution, 0, &raw const tensor) }, TOO_LARGE, "{rank}");
    }
    let (mut sizes, data) = ([2_u32], [0_u8; 8]);
    let dimensions = Pair { buf: sizes.as_mut_ptr(), size: 1 };
    let good = Tensor {
        dimensions: &raw const dimensions,
        ty: 1,
        padding: [0; 3],
        data: Pair { buf: data.as_ptr().cast_mut(), size: 8 },
    };
    for (tensor, error) in [
        (Tensor { data: Pair { buf: nowhere, size: u32::MAX }, ..good }, TOO_LARGE),
        (Tensor { data: Pair { buf: null_mut(), size: 8 }, ..good }, INVALID_ARGUMENT),
        (Tensor { data: Pair { buf: good.data.buf, size: 7 }, ..good }, INVALID_ARGUMENT),
        (Tensor { dimensions: null(), ..good }, INVALID_ARGUMENT),
        (Tensor { ty: 6, ..good }, INVALID_ARGUMENT),
        (Tensor { ty: 255, ..good }, INVALID_ARGUMENT),
        (good, 0),
    ] {
        // SAFETY: what is wrong is refused before it is used.
        assert_eq!(unsafe { set_input(context, execution, 0, &raw const tensor) }, error, "{tensor:?}");
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(set_input(context, execution, u32::MAX, &raw const good), INVALID_ARGUMENT);
        assert_eq!(set_input(context, u32::MAX, 0, &raw const good), INVALID_ARGUMENT);
        assert_eq!(set_input(context, execution, 0, null()), INVALID_ARGUMENT);
        let mut number = 0;
        let parts = Pair { buf: nowhere.cast::<Pair<u8>>(), size: u32::MAX };
        assert_eq!(load(context, &raw const parts, 1, 0, &raw mut number), TOO_LARGE);
        assert_eq!(load(context, null(), 1, 0, &raw mut number), INVALID_ARGUMENT);
        assert_eq!(load_by_name(context, nowhere.cast(), u32::MAX, &raw mut number), TOO_LARGE);
        assert_eq!(load_by_name(context, c"x".as_ptr(), 1, null_mut()), INVALID_ARGUMENT);
        let long = nowhere.cast::<c_char>();
        let config = load_by_name_with_config(context, c"x".as_ptr(), 1, long, u32::MAX, &raw mut number);
        assert_eq!(config, TOO_LARGE);
        assert_eq!(get_output(context, execution, 0, null(), &raw mut number), INVALID_ARGUMENT);
        assert_eq!(deinit_backend(context), 0);
    }
}

#[test]
fn a_context_is_looked_up_and_never_dereferenced() {
    let (context, execution) = opened();
    let (other, _) = opened();
    for bits in [0, 1, 8, usize::MAX, context.addr() ^ (1 << 40)] {
        let made_up: *mut c_void = without_provenance_mut(bits);
        let mut number = 0;
        // SAFETY: contexts are looked up.
        unsafe {
            assert_eq!(compute(made_up, execution), INVALID_ARGUMENT);
            assert_eq!(load_by_name(made_up, c"x".as_ptr(), 1, &raw mut number), INVALID_ARGUMENT);
            assert_eq!(deinit_backend(made_up), INVALID_ARGUMENT);
        }
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(init_backend(null_mut()), INVALID_ARGUMENT);
        assert_eq!(init_backend(without_provenance_mut(usize::MAX)), INVALID_ARGUMENT);
        assert_eq!(deinit_backend(context), 0);
        assert_eq!(deinit_backend(context), INVALID_ARGUMENT);
        assert_eq!(compute(context, execution), INVALID_ARGUMENT);
        assert_eq!(deinit_backend(other), 0);
    }
}

#[test]
fn numbers_are_wamrs_and_what_is_no_model_is_refused() {
    let context = open();
    let model = add_one();
    assert!(load_bytes(context, &model, 1, 0).is_ok());
    // Autodetect, which WAMR passes on.
    assert!(load_bytes(context, &model, 6, 0).is_ok());
    for (bytes, encoding, target, error) in [
        (&model[..], 7, 0, INVALID_ENCODING),
        (&model, u32::MAX, 0, INVALID_ENCODING),
        (&model, 0, 0, UNSUPPORTED_OPERATION),
        (&model, 3, 0, UNSUPPORTED_OPERATION),
        (&model, 1, 1, UNSUPPORTED_OPERATION),
        (&model, 1, 3, INVALID_ARGUMENT),
        (b"no model", 1, 0, INVALID_ENCODING),
    ] {
        assert_eq!(load_bytes(context, bytes, encoding, target), Err(error), "{encoding} {target}");
    }
    let mut number = 0;
    for name in [c"digits", c"../digits", c"/etc/passwd", c"digits.onnx", c""] {
        let length = name.to_bytes().len() as u32;
        // SAFETY: a text and its length.
        assert_eq!(unsafe { load_by_name(context, name.as_ptr(), length, &raw mut number) }, NOT_FOUND);
    }
    // SAFETY: nothing but the context.
    assert_eq!(unsafe { deinit_backend(context) }, 0);
}

/// Another thread of a guest writes the tensor's sizes and data all the time.
#[test]
#[cfg_attr(miri, ignore = "atomics of different sizes on one memory, which miri refuses")]
fn memory_that_changes_meanwhile_gives_an_error_or_some_mix() {
    let (context, execution) = opened();
    // Words of the memory: the dimension, and the data.
    let memory = [AtomicU64::new(2), AtomicU64::new(0)];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for dimension in [2, 3, u64::from(u32::MAX), 0] {
                    memory[0].store(dimension, Ordering::Relaxed);
                    memory[1].store(u64::MAX, Ordering::Relaxed);
                    memory[1].store(0, Ordering::Relaxed);
                }
            }
        });
        let mut outputs = 0;
        for _ in 0..20_000 {
            let dimensions = Pair { buf: memory[0].as_ptr().cast::<u32>(), size: 1 };
            let data = Pair { buf: memory[1].as_ptr().cast::<u8>(), size: 8 };
            let tensor = Tensor { dimensions: &raw const dimensions, ty: 1, padding: [0; 3], data };
            // SAFETY: the memory is written by atomic stores only.
            match unsafe { set_input(context, execution, 0, &raw const tensor) } {
                0 => outputs += 1,
                error => assert_eq!(error, INVALID_ARGUMENT),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(outputs > 0);
    });
    // SAFETY: nothing but the context.
    assert_eq!(unsafe { deinit_backend(context) }, 0);
}

#[test]
fn a_wild_output_buffer_is_refused() {
    let (context, execution) = opened();
    let mut length = 0;
    let wraps = Pair { buf: without_provenance_mut::<u8>(usize::MAX - 3), size: 8 };
    // SAFETY: the buffer is refused.
    unsafe {
        assert_eq!(get_output(context, execution, 0, &raw const wraps, &raw mut length), INVALID_ARGUMENT);
        assert_eq!(
            get_output(context, execution, 0, without_provenance(usize::MAX - 3), &raw mut length),
            INVALID_ARGUMENT
        );
        assert_eq!(deinit_backend(context), 0);
    }
}
