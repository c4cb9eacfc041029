//! What a guest sends: tensors and models, checked against its limits before they are copied.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};

use graphpool::backend::wire::Dialect;
use graphpool::nn::{Encoding, Error, Limits, Target, Tensor, TensorDescription, TensorType};

use crate::arguments::Arguments;

/// The most parts of a model. The encoding with the most of them has two.
const PARTS: usize = 64;

/// The bytes of models that a guest's loads have copied and the engine does not count yet. They stay below the guest's
/// limit on all threads together.
#[derive(Debug, Default)]
pub struct ModelCopies(AtomicUsize);

/// The copy of a model, which counts until it is dropped.
#[derive(Debug)]
pub struct ModelCopy<'a> {
    parts: Vec<Vec<u8>>,
    bytes: usize,
    copies: &'a ModelCopies,
}

impl ModelCopies {
    /// Counts a copy of `bytes`, if all of them stay within `max`; else returns the bytes of the others.
    fn begin(&self, bytes: usize, max: usize) -> Result<ModelCopy<'_>, usize> {
        let within = |others: usize| others.checked_add(bytes).filter(|all| *all <= max);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)?;
        Ok(ModelCopy { parts: Vec::new(), bytes, copies: self })
    }
}

impl ModelCopy<'_> {
    /// The parts.
    #[must_use]
    pub fn parts(&self) -> Vec<&[u8]> {
        self.parts.iter().map(|part| &**part).collect()
    }

    /// Takes the parts out. They still count here, until the engine does.
    #[must_use]
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        mem::take(&mut self.parts)
    }
}

impl Drop for ModelCopy<'_> {
    fn drop(&mut self) {
        self.copies.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A copy of a tensor as a guest gives it.
#[derive(Debug)]
pub struct GivenTensor {
    /// The sizes, outermost first.
    pub dimensions: Vec<u32>,
    /// The type of the elements.
    pub ty: TensorType,
    /// The elements.
    pub data: Vec<u8>,
}

impl GivenTensor {
    /// The tensor, for the input of that description; `None` if the graph has no such input, which the engine reports.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the sizes and the length do not match.
    pub fn tensor(self, input: Option<&TensorDescription>) -> Result<Tensor, Error> {
        let Self { dimensions, ty, data } = self;
        let given = input.map(|input| input.given_dimensions(&dimensions, ty, data.len()).into_owned());
        Tensor::new(given.unwrap_or(dimensions), ty, data)
    }
}

impl Arguments {
    /// The encoding of a guest's number.
    ///
    /// # Errors
    ///
    /// `InvalidEncoding` for a number that the dialect does not have.
    pub fn encoding(&self, dialect: Dialect, number: u32) -> Result<Encoding, Error> {
        dialect.encoding(number).map_err(|error| self.own(&error))
    }

    /// The target of a guest's number.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a number that the dialect does not have.
    pub fn target(&self, dialect: Dialect, number: u32) -> Result<Target, Error> {
        dialect.target(number).map_err(|error| self.own(&error))
    }

    /// The element type of a guest's number.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a number that the dialect does not have.
    pub fn tensor_type(&self, dialect: Dialect, number: u32) -> Result<TensorType, Error> {
        let refused = || self.invalid(format_args!("{number} is not a tensor type of {}", dialect.name()));
        dialect.tensor_type(u8::try_from(number).map_err(|_| refused())?).map_err(|_| refused())
    }

    /// Copies a tensor: `rank` sizes at `dimensions`, `length` bytes at `data`. They are not compared with each other.
    ///
    /// # Errors
    ///
    /// `TooLarge` past [`Limits::max_tensor_rank`] or [`Limits::max_tensor_bytes`], and `InvalidArgument` for a pointer
    /// that is not valid.
    pub fn tensor(
        &mut self,
        limits: &Limits,
        (dimensions, rank): (*const u32, usize),
        ty: TensorType,
        (data, length): (*const u8, usize),
    ) -> Result<GivenTensor, Error> {
        let (max_rank, max_bytes) = (limits.max_tensor_rank(), limits.max_tensor_bytes());
        if rank > max_rank {
            return Err(self
                .too_large(format_args!("the tensor has {rank} dimensions; the limit is {max_rank}"))
                .by_limit());
        }
        if length > max_bytes {
            return Err(self
                .too_large(format_args!("the tensor has {length} bytes; the limit is {max_bytes}"))
                .by_limit());
        }
        let dimensions = self.numbers("dimensions", dimensions, rank)?;
        let data = self.bytes("data", data, length)?;
        Ok(GivenTensor { dimensions, ty, data })
    }

    /// Copies a model of `count` parts; `part` gives the start and the length of each.
    ///
    /// # Errors
    ///
    /// `TooLarge` past 64 parts or [`Limits::max_graph_bytes`], `Busy` past that limit together with the copies of
    /// other loads, and `InvalidArgument` for a pointer that is not valid.
    pub fn model<'a, T: Copy>(
        &mut self,
        limits: &Limits,
        copies: &'a ModelCopies,
        count: usize,
        parts: impl FnOnce(&mut Self) -> Result<Vec<T>, Error>,
        part: impl Fn(T) -> (*const u8, usize),
    ) -> Result<ModelCopy<'a>, Error> {
        if count > PARTS {
            return Err(self.too_large(format_args!("the model has {count} parts; the limit is {PARTS}")).by_limit());
        }
        let parts: Vec<_> = parts(self)?.into_iter().map(part).collect();
        let bytes = parts.iter().map(|(_, length)| *length).fold(0, usize::saturating_add);
        let max = limits.max_graph_bytes();
        if bytes > max {
            return Err(self.too_large(format_args!("the model has {bytes} bytes; the limit is {max}")).by_limit());
        }
        let mut copy = copies.begin(bytes, max).map_err(|others| {
            self.busy(format_args!("the model has {bytes} bytes, and other loads copy {others}; the limit is {max}"))
                .by_limit()
        })?;
        for (start, length) in parts {
            copy.parts.push(self.bytes("part", start, length)?);
        }
        Ok(copy)
    }

    /// Copies a name, of the length that [`Limits::max_name_bytes`] allows.
    ///
    /// # Errors
    ///
    /// `TooLarge` past the limit, and those of [`text`](Self::text).
    pub fn name(&mut self, limits: &Limits, name: *const u8, length: usize) -> Result<String, Error> {
        let max = limits.max_name_bytes();
        if length > max {
            return Err(self.too_large(format_args!("the name has {length} bytes; the limit is {max}")).by_limit());
        }
        self.text("name", name, length)
    }

    /// Copies a configuration, of the length that [`Limits::max_config_bytes`] allows.
    ///
    /// # Errors
    ///
    /// `TooLarge` past the limit, and those of [`text`](Self::text).
    pub fn config(&mut self, limits: &Limits, config: *const u8, length: usize) -> Result<String, Error> {
        let max = limits.max_config_bytes();
        if length > max {
            return Err(self
                .too_large(format_args!("the configuration has {length} bytes; the limit is {max}"))
                .by_limit());
        }
        self.text("config", config, length)
    }
}

#[cfg(test)]
mod tests {
    use graphpool::nn::ErrorKind;

    use super::*;

    /// Reads `parts`, each a start and a length, with `limit` bytes for models.
    fn model<'a>(copies: &'a ModelCopies, limit: usize, parts: &[(*const u8, usize)]) -> Result<ModelCopy<'a>, Error> {
        // SAFETY: the parts are valid.
        let mut arguments = unsafe { Arguments::new("load") };
        let limits = Limits::default().with_max_graph_bytes(limit);
        arguments.model(&limits, copies, parts.len(), |_| Ok(parts.to_vec()), |part| part)
    }

    #[test]
    fn the_copies_of_all_loads_stay_within_one_limit() {
        let (copies, bytes) = (ModelCopies::default(), [7_u8; 100]);
        let parts = [(bytes.as_ptr(), 40), (bytes.as_ptr(), 20)];
        let mut first = model(&copies, 100, &parts).unwrap();
        assert_eq!(first.parts(), [&[7; 40][..], &[7; 20]]);
        let error = model(&copies, 100, &[(bytes.as_ptr(), 41)]).unwrap_err();
        let told = "load: the model has 41 bytes, and other loads copy 60; the limit is 100";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Busy, told));
        let second = model(&copies, 100, &[(bytes.as_ptr(), 40)]).unwrap();
        // What was taken out still counts.
        assert_eq!(first.take().len(), 2);
        assert_eq!(model(&copies, 100, &[(bytes.as_ptr(), 1)]).unwrap_err().kind(), ErrorKind::Busy);
        drop((first, second));
        assert_eq!(model(&copies, 100, &[(bytes.as_ptr(), 101)]).unwrap_err().kind(), ErrorKind::TooLarge);
        // One that fails in the middle counts no more.
        assert!(model(&copies, 100, &[(bytes.as_ptr(), 50), (std::ptr::null(), 50)]).is_err());
        assert_eq!(model(&copies, 100, &[(bytes.as_ptr(), 100)]).unwrap().parts().len(), 1);
    }
}
