//! The discrete Fourier transform of a row: radix 2 for powers of two, Bluestein's algorithm for other lengths.

use std::f64::consts::PI;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::tensor::budget::Charge;
use graphpool::backend::Error;

/// The cost of a sine and a cosine, in units of work of a checkpoint.
const SINE_COSINE_WORK: usize = 16;

/// The longest transform: its memory is charged before, and indexes of twice its length don't overflow.
const LONGEST: usize = 1 << 28;

/// A complex number.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Complex {
    pub(crate) re: f64,
    pub(crate) im: f64,
}

impl Complex {
    /// The number of absolute value 1 at `angle`.
    fn unit(angle: f64) -> Self {
        Self { re: angle.cos(), im: angle.sin() }
    }

    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    fn minus(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }

    fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }
}

/// A transform of a fixed length, with the memory that it needs.
pub(crate) struct Transform {
    len: usize,
    inverse: bool,
    /// The chirp of Bluestein's algorithm and the transform of its filter, unless the length is a power of two.
    chirp: Option<(Vec<Complex>, Vec<Complex>)>,
    scratch: Vec<Complex>,
    _charge: Charge,
}

impl Transform {
    /// Prepares transforms of `len` numbers, at least one. Charges and allocates their memory.
    pub(crate) fn new(len: usize, inverse: bool, cx: &ExecContext<'_>) -> Result<Self, Error> {
        if len == 0 || len > LONGEST {
            return Err(Error::too_large(format!(
                "a Fourier transform of {len} numbers is not supported; 1 to {LONGEST} are"
            )));
        }
        let size = if len.is_power_of_two() { len } else { (2 * len - 1).next_power_of_two() };
        let charge = cx.charge::<f64>(&[size, 2, 4])?;
        let mut checkpoint = Checkpoint::default();
        let mut scratch = Vec::with_capacity(size);
        checkpoint.fill(Complex::default(), size, &mut scratch, cx)?;
        let chirp = if len.is_power_of_two() {
            None
        } else {
            // The angle of the squared index has a period of twice the length; the remainder keeps it exact.
            let angle = |index: usize| -PI * ((index * index) % (2 * len)) as f64 / len as f64;
            let (mut chirp, mut filter) = (Vec::with_capacity(len), Vec::with_capacity(size));
            checkpoint.fill(Complex::default(), size, &mut filter, cx)?;
            for index in 0..len {
                checkpoint.step(SINE_COSINE_WORK, cx)?;
                let number = Complex::unit(angle(index));
                chirp.push(number);
                filter[index] = number.conjugate();
                filter[(size - index) % size] = number.conjugate();
            }
            radix2(&mut filter, false, &mut checkpoint, cx)?;
            Some((chirp, filter))
        };
        Ok(Self { len, inverse, chirp, scratch, _charge: charge })
    }

    /// The first `count` numbers of the transform of the numbers that `source` returns for each index.
    pub(crate) fn run(
        &mut self,
        source: impl Fn(usize) -> Complex,
        count: usize,
        cx: &ExecContext<'_>,
    ) -> Result<&[Complex], Error> {
        let mut checkpoint = Checkpoint::default();
        cx.control.check()?;
        // The inverse is the conjugate of the transform of the conjugate, divided by the length.
        let inverse = self.inverse;
        let input = |index: usize| if inverse { source(index).conjugate() } else { source(index) };
        match &self.chirp {
            None => {
                for (index, number) in self.scratch.iter_mut().enumerate() {
                    checkpoint.step(1, cx)?;
                    *number = input(index);
                }
                radix2(&mut self.scratch, false, &mut checkpoint, cx)?;
            }
            Some((chirp, filter)) => {
                for (index, number) in self.scratch.iter_mut().enumerate() {
                    checkpoint.step(1, cx)?;
                    *number = chirp.get(index).map_or_else(Complex::default, |chirp| input(index).times(*chirp));
                }
                radix2(&mut self.scratch, false, &mut checkpoint, cx)?;
                for (number, filter) in self.scratch.iter_mut().zip(filter) {
                    checkpoint.step(1, cx)?;
                    *number = number.times(*filter);
                }
                radix2(&mut self.scratch, true, &mut checkpoint, cx)?;
                for (number, chirp) in self.scratch.iter_mut().zip(chirp) {
                    checkpoint.step(1, cx)?;
                    *number = number.times(*chirp);
                }
            }
        }
        if inverse {
            let scale = 1.0 / self.len as f64;
            for number in &mut self.scratch {
                checkpoint.step(1, cx)?;
                *number = Complex { re: number.re * scale, im: -number.im * scale };
            }
        }
        Ok(&self.scratch[..count.min(self.len)])
    }
}

/// Transforms numbers in place. Their count is a power of two.
fn radix2(
    numbers: &mut [Complex],
    inverse: bool,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let len = numbers.len();
    let bits = len.trailing_zeros();
    if bits == 0 {
        return Ok(());
    }
    for index in 0..len {
        checkpoint.step(1, cx)?;
        let other = index.reverse_bits() >> (usize::BITS - bits);
        if index < other {
            numbers.swap(index, other);
        }
    }
    let mut half = 1;
    while half < len {
        let angle = if inverse { PI } else { -PI } / half as f64;
        for block in numbers.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (index, (a, b)) in low.iter_mut().zip(high).enumerate() {
                checkpoint.step(SINE_COSINE_WORK, cx)?;
                let rotated = b.times(Complex::unit(angle * index as f64));
                (*a, *b) = (a.plus(rotated), a.minus(rotated));
            }
        }
        half *= 2;
    }
    if inverse {
        let scale = 1.0 / len as f64;
        for number in numbers {
            checkpoint.step(1, cx)?;
            *number = Complex { re: number.re * scale, im: number.im * scale };
        }
    }
    Ok(())
}
