//! The arguments of one call: every pointer that C has given is checked and accessed here.

use std::fmt;
use std::mem::MaybeUninit;

use graphpool::nn::Error;

use crate::copy::{copy_in, copy_out};

/// The longest text that C may end with a zero, in bytes.
const TEXT_BYTES: usize = 1 << 16;

/// The pointer arguments of one call from C.
///
/// Each method checks one argument: null, alignment, a range that leaves the address space, and overlap of memory that
/// the call writes with any other argument. Errors name the argument. Inputs are copied; an [`Out`] is written later,
/// when the call has its result.
#[derive(Debug)]
pub struct Arguments {
    call: &'static str,
    aligned: bool,
    read: Vec<Span>,
    written: Vec<Span>,
}

/// A structure of C that any bytes make.
///
/// # Safety
///
/// Every pattern of initialised bytes, padding aside, is a value of the type.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($integer:ty)*) => {
        $(
            // SAFETY: an integer.
            unsafe impl Plain for $integer {}
        )*
    };
}

plain! { u8 u16 u32 u64 usize i64 }

// SAFETY: every address makes a pointer.
unsafe impl<T> Plain for *const T {}
// SAFETY: every address makes a pointer.
unsafe impl<T> Plain for *mut T {}

/// The place of a result in the caller's memory.
#[derive(Debug)]
#[must_use = "a result that is not written"]
pub struct Out<T> {
    to: *mut T,
}

/// The caller's buffer for a result of some length.
#[derive(Debug)]
#[must_use = "a result that is not written"]
pub struct OutBytes {
    to: *mut u8,
    length: usize,
}

/// The memory of one argument.
#[derive(Debug, Clone, Copy)]
struct Span {
    name: &'static str,
    start: usize,
    end: usize,
}

/// A value at any address.
#[repr(C, packed)]
struct Unaligned<T>(MaybeUninit<T>);

impl Arguments {
    /// The arguments of `call`, for structures that C has aligned.
    ///
    /// # Safety
    ///
    /// While the value is used, every pointer that is given to its methods, also one out of a structure that they have
    /// read, is null or valid for the access that the method makes, in the length that it is given. What an [`Out`] or
    /// [`OutBytes`] names stays valid until it is written. Other threads access these bytes atomically, or are not
    /// Rust.
    #[must_use]
    pub unsafe fn new(call: &'static str) -> Self {
        Self { call, aligned: true, read: Vec::new(), written: Vec::new() }
    }

    /// The arguments of `call`, where structures may have any address, as in a guest's memory.
    ///
    /// # Safety
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub unsafe fn unaligned(call: &'static str) -> Self {
        Self { call, aligned: false, read: Vec::new(), written: Vec::new() }
    }

    /// An `InvalidArgument` of this call.
    #[must_use]
    pub fn invalid(&self, why: impl fmt::Display) -> Error {
        Error::invalid_argument(format!("{}: {why}", self.call))
    }

    /// The name of the call.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// A `Busy` of this call.
    #[must_use]
    pub fn busy(&self, why: impl fmt::Display) -> Error {
        Error::busy(format!("{}: {why}", self.call))
    }

    /// A `TooLarge` of this call.
    #[must_use]
    pub fn too_large(&self, why: impl fmt::Display) -> Error {
        Error::too_large(format!("{}: {why}", self.call))
    }

    /// An error of this call, with its name.
    pub(crate) fn own(&self, error: &Error) -> Error {
        Error::new(error.kind(), format!("{}: {}", self.call, error.message()))
    }

    /// Copies the value at `from`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type.
    pub fn read<T: Plain>(&mut self, name: &'static str, from: *const T) -> Result<T, Error> {
        self.check(name, from, 1, false)?;
        // SAFETY: A2 and the contract of `new`; `Unaligned` has an alignment of 1, and any bytes make it. Volatile:
        // read once, whatever becomes of the memory.
        let Unaligned(value) = unsafe { from.cast::<Unaligned<T>>().read_volatile() };
        // SAFETY: any bytes make a `T`.
        Ok(unsafe { value.assume_init() })
    }

    /// Copies the value at `from`, or returns `None` if that is null.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type.
    pub fn read_if_any<T: Plain>(&mut self, name: &'static str, from: *const T) -> Result<Option<T>, Error> {
        if from.is_null() { Ok(None) } else { self.read(name, from).map(Some) }
    }

    /// Copies `count` values at `from`, which may be null if there are none.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type. `TooLarge` if there is no memory for the copy.
    pub fn values<T: Plain>(&mut self, name: &'static str, from: *const T, count: usize) -> Result<Vec<T>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        self.check(name, from, count, false)?;
        let mut values = Vec::new();
        if values.try_reserve_exact(count).is_err() {
            return Err(self.too_large(format_args!("no memory is left for a copy of {count} elements of {name}")));
        }
        for index in 0..count {
            let from = from.wrapping_add(index).cast::<Unaligned<T>>();
            // SAFETY: as in `read`: the index is in the range that was checked.
            values.push(unsafe { from.read_volatile().0.assume_init() });
        }
        Ok(values)
    }

    /// Copies `length` bytes at `from`, which may be null if there are none. They may have any alignment.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type. `TooLarge` if there is no memory for the copy.
    #[expect(clippy::not_unsafe_ptr_arg_deref, reason = "valid by the contract of `new`")]
    pub fn bytes(&mut self, name: &'static str, from: *const u8, length: usize) -> Result<Vec<u8>, Error> {
        if length == 0 {
            return Ok(Vec::new());
        }
        self.check(name, from, length, false)?;
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(length).is_err() {
            return Err(self.too_large(format_args!("no memory is left for a copy of the {length} bytes of {name}")));
        }
        // SAFETY: A2 and the contract of `new`; `copy_in` initialises what it is given.
        unsafe {
            copy_in(from, &mut bytes.spare_capacity_mut()[..length]);
            bytes.set_len(length);
        }
        Ok(bytes)
    }

    /// Copies `count` numbers at `from`, which may be null if there are none.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type. `TooLarge` if there is no memory for the copy.
    pub fn numbers(&mut self, name: &'static str, from: *const u32, count: usize) -> Result<Vec<u32>, Error> {
        if count > 0 {
            self.check(name, from, count, false)?;
        }
        // `check` has bounded the product.
        let bytes = self.bytes(name, from.cast(), count * size_of::<u32>())?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect())
    }

    /// Copies a text of `length` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes), and `InvalidArgument` if it is not UTF-8.
    pub fn text(&mut self, name: &'static str, from: *const u8, length: usize) -> Result<String, Error> {
        let bytes = self.bytes(name, from, length)?;
        String::from_utf8(bytes).map_err(|_| self.invalid(format_args!("{name} is not UTF-8")))
    }

    /// Copies a text that ends before its first zero byte.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if it is null, not UTF-8, or has no zero in 65,536 bytes.
    pub fn c_text(&mut self, name: &'static str, from: *const u8) -> Result<String, Error> {
        let bytes = self.c_bytes(name, from)?;
        String::from_utf8(bytes).map_err(|_| self.invalid(format_args!("{name} is not UTF-8")))
    }

    /// Copies the bytes before the first zero byte.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if `from` is null, or there is no zero in 65,536 bytes.
    pub fn c_bytes(&mut self, name: &'static str, from: *const u8) -> Result<Vec<u8>, Error> {
        if from.is_null() {
            return Err(self.invalid(format_args!("{name} is null")));
        }
        let mut bytes = Vec::new();
        loop {
            let mut byte = [MaybeUninit::uninit()];
            // SAFETY: the contract of `new`: the text is valid up to its zero, which is not behind this byte.
            unsafe { copy_in(from.wrapping_add(bytes.len()), &mut byte) };
            // SAFETY: `copy_in` has initialised it.
            match unsafe { byte[0].assume_init() } {
                0 => break,
                byte => bytes.push(byte),
            }
            if bytes.len() == TEXT_BYTES {
                return Err(self.invalid(format_args!("{name} has no zero in {TEXT_BYTES} bytes")));
            }
        }
        self.check(name, from, bytes.len() + 1, false)?;
        Ok(bytes)
    }

    /// The place of a result.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type.
    pub fn out<T>(&mut self, name: &'static str, to: *mut T) -> Result<Out<T>, Error> {
        self.check(name, to, 1, true)?;
        Ok(Out { to })
    }

    /// The place of a result that the caller may not want.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type.
    pub fn out_if_any<T>(&mut self, name: &'static str, to: *mut T) -> Result<Option<Out<T>>, Error> {
        if to.is_null() { Ok(None) } else { self.out(name, to).map(Some) }
    }

    /// The places of `count` results.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type.
    pub fn outs<T>(&mut self, name: &'static str, to: *mut T, count: usize) -> Result<Vec<Out<T>>, Error> {
        if count > 0 {
            self.check(name, to, count, true)?;
        }
        Ok((0..count).map(|index| Out { to: to.wrapping_add(index) }).collect())
    }

    /// A buffer of `length` bytes, of any alignment, which may be null if there are none.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`: see the type.
    pub fn buffer(&mut self, name: &'static str, to: *mut u8, length: usize) -> Result<OutBytes, Error> {
        if length > 0 {
            self.check(name, to, length, true)?;
        }
        Ok(OutBytes { to, length })
    }

    fn check<T>(&mut self, name: &'static str, at: *const T, count: usize, written: bool) -> Result<(), Error> {
        if at.is_null() {
            return Err(self.invalid(format_args!("{name} is null")));
        }
        if self.aligned && !at.is_aligned() {
            return Err(self.invalid(format_args!("{name} is not aligned to {} bytes", align_of::<T>())));
        }
        let start = at.addr();
        let length = count.checked_mul(size_of::<T>()).filter(|length| isize::try_from(*length).is_ok());
        let Some(end) = length.and_then(|length| start.checked_add(length)) else {
            return Err(self.invalid(format_args!("{name} with {count} elements is larger than the address space")));
        };
        let span = Span { name, start, end };
        // What is read may overlap what is read. There are many of these, and few that are written.
        let read = if written { &self.read[..] } else { &[] };
        if let Some(other) = self.written.iter().chain(read).find(|other| span.overlaps(other)) {
            return Err(self.invalid(format_args!("{name} overlaps {}", other.name)));
        }
        if written {
            self.written.push(span);
        } else {
            self.read.push(span);
        }
        Ok(())
    }
}

impl Span {
    /// Whether the two share a byte.
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl<T> Out<T> {
    /// Writes the result.
    pub fn write(self, value: T) {
        // SAFETY: A2, A3 and the contract of `Arguments::new`; `Unaligned` has an alignment of 1.
        unsafe { self.to.cast::<Unaligned<T>>().write_volatile(Unaligned(MaybeUninit::new(value))) };
    }
}

impl OutBytes {
    /// The length of the buffer.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies `bytes` to the start of the buffer. `false` if it is too short: then nothing is written.
    #[must_use]
    pub fn write(self, bytes: &[u8]) -> bool {
        if bytes.len() > self.length {
            return false;
        }
        // SAFETY: A2, A3 and the contract of `Arguments::new`. Without bytes nothing is accessed.
        unsafe { copy_out(bytes, self.to) };
        true
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};
    use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
    use std::thread;

    use super::*;

    fn arguments() -> Arguments {
        // SAFETY: each test gives pointers that are valid, or refused before they are used.
        unsafe { Arguments::new("call") }
    }

    fn unaligned() -> Arguments {
        // SAFETY: as above.
        unsafe { Arguments::unaligned("call") }
    }

    /// The message of an error.
    fn told<T>(result: Result<T, Error>) -> String {
        result.err().expect("it is refused").message().to_owned()
    }

    #[test]
    fn values_are_copied_and_results_written() {
        let (mut number, mut numbers, mut bytes) = (7_u64, [1_u32, 2, 3], [0_u8; 5]);
        let mut arguments = arguments();
        assert_eq!(arguments.read("number", &raw const number).unwrap(), 7);
        assert_eq!(arguments.read_if_any("none", null::<u64>()).unwrap(), None);
        assert_eq!(arguments.values("numbers", numbers.as_ptr(), 3).unwrap(), [1, 2, 3]);
        assert_eq!(arguments.numbers("numbers", numbers.as_ptr(), 2).unwrap(), [1, 2]);
        assert_eq!(arguments.values("none", null::<u64>(), 0).unwrap(), [0; 0]);
        assert_eq!(arguments.c_text("text", c"a text".as_ptr().cast()).unwrap(), "a text");
        assert_eq!(arguments.text("text", b"abc".as_ptr(), 2).unwrap(), "ab");

        let mut arguments = self::arguments();
        arguments.out("number", &raw mut number).unwrap().write(8);
        assert!(arguments.out_if_any("none", null_mut::<u64>()).unwrap().is_none());
        for (index, out) in (10..).zip(arguments.outs("numbers", numbers.as_mut_ptr(), 3).unwrap()) {
            out.write(index);
        }
        assert!(arguments.buffer("bytes", bytes.as_mut_ptr(), 5).unwrap().write(b"abcd"));
        assert!(!self::arguments().buffer("bytes", bytes.as_mut_ptr(), 3).unwrap().write(b"1234"));
        assert!(arguments.buffer("none", null_mut(), 0).unwrap().write(b""));
        assert_eq!((number, numbers, &bytes), (8, [10, 11, 12], b"abcd\0"));
    }

    #[test]
    fn null_misaligned_and_endless_arguments_are_refused_by_name() {
        let number = 7_u64;
        let odd = (&raw const number).wrapping_byte_add(1);
        assert_eq!(told(arguments().read("number", null::<u64>())), "call: number is null");
        assert_eq!(told(arguments().values("numbers", null::<u64>(), 1)), "call: numbers is null");
        assert_eq!(told(arguments().c_text("text", null())), "call: text is null");
        assert_eq!(told(arguments().buffer("buffer", null_mut(), 1)), "call: buffer is null");
        assert_eq!(told(arguments().read("number", odd)), "call: number is not aligned to 8 bytes");
        assert_eq!(told(arguments().out("number", odd.cast_mut())), "call: number is not aligned to 8 bytes");
        let endless = "larger than the address space";
        let last = without_provenance::<u64>(usize::MAX - 7);
        assert!(told(arguments().values("numbers", last, 2)).contains(endless));
        assert!(told(arguments().values("numbers", without_provenance::<u64>(8), usize::MAX)).contains(endless));
        assert!(told(arguments().bytes("bytes", without_provenance(1), usize::MAX)).contains(endless));
        assert!(told(arguments().numbers("numbers", without_provenance(4), usize::MAX / 4)).contains(endless));
        assert!(told(arguments().outs("numbers", without_provenance_mut::<u64>(8), usize::MAX)).contains(endless));
        assert_eq!(told(arguments().text("text", b"\xFF".as_ptr(), 1)), "call: text is not UTF-8");
    }

    #[test]
    #[cfg_attr(miri, ignore = "a long loop")]
    fn a_text_without_an_end_is_read_up_to_a_bound() {
        let long = vec![b'a'; TEXT_BYTES];
        assert_eq!(told(arguments().c_text("text", long.as_ptr())), "call: text has no zero in 65536 bytes");
    }

    #[test]
    fn a_guests_structures_may_have_any_address() {
        let mut memory = [0_u64; 4];
        let odd = memory.as_mut_ptr().wrapping_byte_add(3);
        let mut arguments = unaligned();
        arguments.out("number", odd).unwrap().write(0x0102_0304_0506_0708);
        assert_eq!(unaligned().read("number", odd.cast_const()).unwrap(), 0x0102_0304_0506_0708);
        let two = unaligned().numbers("numbers", odd.cast_const().cast(), 2).unwrap();
        let whole = u64::from_ne_bytes([two[0].to_ne_bytes(), two[1].to_ne_bytes()].concat().try_into().unwrap());
        assert_eq!(whole, 0x0102_0304_0506_0708);
        let values = unaligned().values("numbers", odd.cast_const().cast::<u32>(), 2).unwrap();
        assert_eq!(values, two);
    }

    #[test]
    fn memory_that_is_written_overlaps_nothing_and_what_is_read_may() {
        let mut numbers = [0_u32; 8];
        let start = numbers.as_mut_ptr();
        let at = |index| start.wrapping_add(index);
        let mut arguments = arguments();
        arguments.values("a", at(0).cast_const(), 4).unwrap();
        arguments.values("b", at(2).cast_const(), 4).unwrap();
        assert_eq!(told(arguments.out("c", at(0))), "call: c overlaps a");
        assert_eq!(told(arguments.out("c", at(5))), "call: c overlaps b");
        assert_eq!(told(arguments.buffer("c", at(5).cast::<u8>().wrapping_add(3), 2)), "call: c overlaps b");
        let _: Out<u32> = arguments.out("c", at(6)).unwrap();
        assert_eq!(told(arguments.read("d", at(6).cast_const())), "call: d overlaps c");
        assert_eq!(told(arguments.outs("d", at(6), 2)), "call: d overlaps c");
        assert_eq!(told(arguments.bytes("d", at(6).cast::<u8>().wrapping_add(3), 1)), "call: d overlaps c");
        let _: Out<u32> = arguments.out("d", at(7)).unwrap();
    }

    #[test]
    fn bytes_that_another_thread_writes_are_copied() {
        let bytes = [const { AtomicU8::new(1) }; 7];
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for byte in &bytes {
                        byte.store(1 + (byte.load(Ordering::Relaxed) & 1), Ordering::Relaxed);
                    }
                }
            });
            for _ in 0..100 {
                // Of 7 bytes no word is read as one, so that all accesses are of one size.
                let copy = arguments().bytes("bytes", bytes[0].as_ptr(), 7).unwrap();
                assert!(copy.len() == 7 && copy.iter().all(|byte| [1, 2].contains(byte)), "{copy:?}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
