//! Reads outputs, whose sizes the interface does not tell, into buffers that grow.

use graphpool::backend::{Error, Tensor, TensorDescription, TensorType, element_count};

use crate::abi;
use crate::session::Session;
use crate::turn::Held;

/// The size in bytes of the first buffer for an output that was never read.
const FIRST_BUFFER: usize = 4 << 10;

/// Bytes behind each buffer that must keep their values.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xa5;

/// The result of reading one output.
pub(crate) enum Output {
    /// Its bytes.
    Data(Vec<u8>),
    /// The library refused it.
    Refused(Error),
    /// The library has broken the rules of its interface. Its execution context is not used again.
    Misused(Error),
}

/// Reads the output at `index`: `expected` bytes if it is as long as the last time, and at most `room`.
pub(crate) fn read(session: &Session, index: u32, expected: usize, room: usize, turn: &Held<'_>) -> Output {
    let name = session.library();
    // One byte more than an output may have: then an output of all the room is told from one that is longer and was
    // cut.
    let room = room.min(u32::MAX as usize - 1);
    let most = room + 1;
    let mut capacity = if expected == 0 { FIRST_BUFFER } else { expected.saturating_add(1) };
    loop {
        capacity = capacity.min(most);
        // Zeros, so that an output with fewer bytes than the library claims shows nothing of other guests.
        let mut buffer = vec![0; capacity + GUARD];
        buffer[capacity..].fill(GUARD_BYTE);
        let (errno, size) = session.get_output(index, &mut buffer[..capacity], turn);
        let size = size as usize;
        if buffer[capacity..].iter().any(|byte| *byte != GUARD_BYTE) {
            let why = format!("get_output of {name} wrote past its buffer of {capacity} bytes");
            return Output::Misused(Error::runtime_error(why));
        }
        // A full buffer may hold the start of a longer output: there are libraries that cut it.
        let short = errno == abi::TOO_LARGE || errno == abi::SUCCESS && size == capacity;
        if short && capacity < most {
            // A library that tells the size that it needs has written it.
            let needed = if errno == abi::TOO_LARGE { size } else { 0 };
            capacity = needed.max(capacity.saturating_mul(2));
            continue;
        }
        let too_large = || Error::too_large(format!("output {index} has more than the {room} bytes allowed"));
        return match errno {
            abi::SUCCESS if size > capacity => Output::Misused(Error::runtime_error(format!(
                "get_output of {name} wrote {size} bytes into a buffer of {capacity}, as it says"
            ))),
            abi::SUCCESS if size > room => Output::Refused(too_large()),
            abi::SUCCESS => {
                buffer.truncate(size);
                buffer.shrink_to_fit();
                Output::Data(buffer)
            }
            abi::TOO_LARGE => Output::Refused(too_large()),
            errno => match abi::check(name, "get_output", errno) {
                Err(error) => Output::Refused(error),
                Ok(()) => Output::Data(Vec::new()),
            },
        };
    }
}

/// The tensor of an output's bytes: of the type and shape that are declared, where the bytes fit them.
pub(crate) fn tensor(index: usize, described: &TensorDescription, data: Vec<u8>) -> Result<Tensor, Error> {
    let ty = described.ty.unwrap_or(TensorType::U8);
    if !data.len().is_multiple_of(ty.size()) {
        let bytes = data.len();
        return Err(Error::runtime_error(format!("output {index} is declared as {ty}, and has {bytes} bytes")));
    }
    let elements = data.len() / ty.size();
    let declared = described.dimensions.as_deref().and_then(|sizes| fit(sizes, elements));
    // Sizes are read into a u32, so the number of elements is one, too.
    let dimensions = declared.unwrap_or_else(|| vec![elements as u32]);
    Tensor::new(dimensions, ty, data)
}

/// The sizes with the open one filled in, if they then have that many elements.
fn fit(sizes: &[Option<u32>], elements: usize) -> Option<Vec<u32>> {
    let known: Vec<u32> = sizes.iter().flatten().copied().collect();
    let product = element_count(&known)?;
    let open = match sizes.len() - known.len() {
        0 => 1,
        1 => elements.checked_div(product)?,
        _ => return None,
    };
    (product.checked_mul(open)? == elements).then_some(())?;
    let open = u32::try_from(open).ok()?;
    Some(sizes.iter().map(|size| size.unwrap_or(open)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions(sizes: Option<Vec<Option<u32>>>, ty: TensorType, bytes: usize) -> Option<Vec<u32>> {
        let described = TensorDescription::new("x", ty, sizes);
        tensor(0, &described, vec![0; bytes]).ok().map(|tensor| tensor.dimensions().to_vec())
    }

    #[test]
    fn bytes_get_the_declared_shape_where_they_fit_it() {
        let declared = |sizes: &[Option<u32>]| Some(sizes.to_vec());
        assert_eq!(dimensions(declared(&[Some(2), Some(3)]), TensorType::F32, 24), Some(vec![2, 3]));
        assert_eq!(dimensions(declared(&[None, Some(3)]), TensorType::F32, 24), Some(vec![2, 3]));
        assert_eq!(dimensions(declared(&[]), TensorType::I64, 8), Some(vec![]));
        assert_eq!(dimensions(declared(&[None, Some(3)]), TensorType::F32, 0), Some(vec![0, 3]));
        // Those that do not are vectors.
        for sizes in [declared(&[Some(2), Some(4)]), declared(&[None, None]), declared(&[None, Some(0)]), None] {
            assert_eq!(dimensions(sizes, TensorType::F32, 24), Some(vec![6]));
        }
        assert_eq!(dimensions(None, TensorType::F32, 25), None);
    }
}
