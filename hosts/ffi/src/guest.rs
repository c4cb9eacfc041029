//! What a guest sends: tensors and models, checked against its limits before they are copied.

use graphpool::backend::wire::Dialect;
use graphpool::nn::{Encoding, Error, Limits, Target, Tensor, TensorType};

use crate::arguments::Arguments;

/// The most parts of a model. The encoding with the most of them has two.
const PARTS: usize = 64;

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

    /// Copies a tensor: `rank` sizes at `dimensions`, `length` bytes at `data`.
    ///
    /// # Errors
    ///
    /// `TooLarge` past [`Limits::max_tensor_rank`] or [`Limits::max_tensor_bytes`], and `InvalidArgument` for a pointer
    /// that is not valid, or a length that does not match.
    pub fn tensor(
        &mut self,
        limits: &Limits,
        (dimensions, rank): (*const u32, usize),
        ty: TensorType,
        (data, length): (*const u8, usize),
    ) -> Result<Tensor, Error> {
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
        Tensor::new(dimensions, ty, data).map_err(|error| self.own(&error))
    }

    /// Copies a model of `count` parts; `part` gives the start and the length of each.
    ///
    /// # Errors
    ///
    /// `TooLarge` past 64 parts or [`Limits::max_graph_bytes`], and `InvalidArgument` for a pointer that is not valid.
    pub fn model<T: Copy>(
        &mut self,
        limits: &Limits,
        count: usize,
        parts: impl FnOnce(&mut Self) -> Result<Vec<T>, Error>,
        part: impl Fn(T) -> (*const u8, usize),
    ) -> Result<Vec<Vec<u8>>, Error> {
        if count > PARTS {
            return Err(self.too_large(format_args!("the model has {count} parts; the limit is {PARTS}")).by_limit());
        }
        let parts: Vec<_> = parts(self)?.into_iter().map(part).collect();
        let bytes = parts.iter().map(|(_, length)| *length).fold(0, usize::saturating_add);
        let max = limits.max_graph_bytes();
        if bytes > max {
            return Err(self.too_large(format_args!("the model has {bytes} bytes; the limit is {max}")).by_limit());
        }
        parts.into_iter().map(|(start, length)| self.bytes("part", start, length)).collect()
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
