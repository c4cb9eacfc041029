//! The discrete Fourier transform of a row: radix 2 for powers of two, Bluestein's algorithm for other lengths.
//!
//! Real and imaginary parts are in separate lists, so that the loops over them are of vectors.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use std::f64::consts::PI;

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::simd::{Loop, wide_loop};
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

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    #[inline(always)]
    fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }
}

/// Complex numbers: their real parts and their imaginary parts.
#[derive(Default)]
struct Numbers {
    re: Vec<f64>,
    im: Vec<f64>,
}

impl Numbers {
    /// Zeros.
    fn new(len: usize, checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let mut numbers = Self { re: Vec::with_capacity(len), im: Vec::with_capacity(len) };
        checkpoint.fill(0.0, len, &mut numbers.re, cx)?;
        checkpoint.fill(0.0, len, &mut numbers.im, cx)?;
        Ok(numbers)
    }

    fn get(&self, index: usize) -> Complex {
        Complex { re: self.re[index], im: self.im[index] }
    }

    fn set(&mut self, index: usize, number: Complex) {
        (self.re[index], self.im[index]) = (number.re, number.im);
    }

    /// Replaces each number by what `f` makes of it and its index.
    fn update(
        &mut self,
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
        mut f: impl FnMut(usize, Complex) -> Complex,
    ) -> Result<(), Error> {
        for start in (0..self.re.len()).step_by(PIECE) {
            let end = self.re.len().min(start + PIECE);
            checkpoint.step(end - start, cx)?;
            let parts = self.re[start..end].iter_mut().zip(&mut self.im[start..end]);
            for (index, (re, im)) in (start..end).zip(parts) {
                let number = f(index, Complex { re: *re, im: *im });
                (*re, *im) = (number.re, number.im);
            }
        }
        Ok(())
    }
}

/// A transform of a fixed length, with the memory that it needs.
pub(crate) struct Transform {
    len: usize,
    inverse: bool,
    radix2: Radix2,
    /// The chirp of Bluestein's algorithm and the transform of its filter, unless the length is a power of two.
    chirp: Option<(Numbers, Numbers)>,
    scratch: Numbers,
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
        // The scratch, the factors, the filter, and half of the size for the chirp; a quarter for the order.
        let charge = cx.charge::<f64>(&[size, 2, 4])?;
        let mut checkpoint = Checkpoint::default();
        let scratch = Numbers::new(size, &mut checkpoint, cx)?;
        let radix2 = Radix2::new(size, &mut checkpoint, cx)?;
        let chirp = if len.is_power_of_two() {
            None
        } else {
            // The angle of the squared index has a period of twice the length; the remainder keeps it exact.
            let angle = |index: usize| -PI * ((index * index) % (2 * len)) as f64 / len as f64;
            let mut chirp = Numbers::new(len, &mut checkpoint, cx)?;
            let mut filter = Numbers::new(size, &mut checkpoint, cx)?;
            for index in 0..len {
                checkpoint.step(SINE_COSINE_WORK, cx)?;
                let number = Complex::unit(angle(index));
                chirp.set(index, number);
                // Where they are read, in the order of the transform.
                filter.set(radix2.place(index), number.conjugate());
                filter.set(radix2.place((size - index) % size), number.conjugate());
            }
            radix2.transform(&mut filter, &mut checkpoint, cx)?;
            Some((chirp, filter))
        };
        Ok(Self { len, inverse, radix2, chirp, scratch, _charge: charge })
    }

    /// The first `count` numbers of the transform of the numbers that `source` returns for each index: their real and
    /// their imaginary parts.
    pub(crate) fn run(
        &mut self,
        source: impl Fn(usize) -> Complex,
        count: usize,
        cx: &ExecContext<'_>,
    ) -> Result<(&[f64], &[f64]), Error> {
        let mut checkpoint = Checkpoint::default();
        cx.control.check()?;
        // The inverse is the conjugate of the transform of the conjugate, divided by the length.
        let inverse = self.inverse;
        let input = |index: usize| if inverse { source(index).conjugate() } else { source(index) };
        let Self { len, radix2, scratch, .. } = self;
        for start in (0..*len).step_by(PIECE) {
            let end = (*len).min(start + PIECE);
            checkpoint.step(end - start, cx)?;
            for index in start..end {
                let number = match &self.chirp {
                    None => input(index),
                    Some((chirp, _)) => input(index).times(chirp.get(index)),
                };
                scratch.set(radix2.place(index), number);
            }
        }
        if let Some((chirp, filter)) = &self.chirp {
            for index in *len..radix2.order.len() {
                checkpoint.step(1, cx)?;
                scratch.set(radix2.place(index), Complex::default());
            }
            radix2.transform(scratch, &mut checkpoint, cx)?;
            // The way back is the conjugate of the transform of the conjugate, too.
            scratch.update(&mut checkpoint, cx, |index, number| number.times(filter.get(index)).conjugate())?;
            radix2.reorder(scratch, &mut checkpoint, cx)?;
            radix2.transform(scratch, &mut checkpoint, cx)?;
            let scale = 1.0 / radix2.order.len() as f64;
            for index in 0..*len {
                checkpoint.step(1, cx)?;
                let number = scratch.get(index);
                let number = Complex { re: number.re * scale, im: -number.im * scale };
                scratch.set(index, number.times(chirp.get(index)));
            }
        } else {
            radix2.transform(scratch, &mut checkpoint, cx)?;
        }
        if inverse {
            let scale = 1.0 / *len as f64;
            scratch
                .update(&mut checkpoint, cx, |_, number| Complex { re: number.re * scale, im: -number.im * scale })?;
        }
        let count = count.min(*len);
        Ok((&scratch.re[..count], &scratch.im[..count]))
    }
}

/// Transforms of so many numbers, a power of two.
struct Radix2 {
    /// Where each number is before the transform: at its index with reversed bits.
    order: Vec<u32>,
    /// The factors of the steps with 1, 2, 4… factors, one after another.
    factors: Numbers,
}

impl Radix2 {
    fn new(size: usize, checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let mut order = Vec::with_capacity(size);
        let bits = size.trailing_zeros();
        for index in 0..size {
            checkpoint.step(1, cx)?;
            // A shift by all bits is that of one number, whose index is 0.
            order.push(index.reverse_bits().checked_shr(usize::BITS - bits).unwrap_or(0) as u32);
        }
        let mut factors = Numbers::new(size, checkpoint, cx)?;
        let mut half = 1;
        while half < size {
            for index in 0..half {
                checkpoint.step(SINE_COSINE_WORK, cx)?;
                factors.set(half - 1 + index, Complex::unit(-PI * index as f64 / half as f64));
            }
            half *= 2;
        }
        Ok(Self { order, factors })
    }

    fn place(&self, index: usize) -> usize {
        self.order[index] as usize
    }

    /// Puts each number where [`transform`](Self::transform) reads it.
    fn reorder(&self, numbers: &mut Numbers, checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
        for (index, &other) in self.order.iter().enumerate() {
            checkpoint.step(1, cx)?;
            if index < other as usize {
                numbers.re.swap(index, other as usize);
                numbers.im.swap(index, other as usize);
            }
        }
        Ok(())
    }

    /// Transforms numbers in place, each of which is where [`place`](Self::place) says.
    fn transform(&self, numbers: &mut Numbers, checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
        let len = self.order.len();
        let Numbers { re, im } = numbers;
        let mut half = 1;
        while half < len {
            let factors = (&self.factors.re[half - 1..2 * half - 1], &self.factors.im[half - 1..2 * half - 1]);
            if 2 * half <= PIECE {
                for (re, im) in re.chunks_mut(PIECE).zip(im.chunks_mut(PIECE)) {
                    checkpoint.step(re.len(), cx)?;
                    wide_loop(Blocks { re, im, factors });
                }
            } else {
                for (re, im) in re.chunks_mut(2 * half).zip(im.chunks_mut(2 * half)) {
                    let ((low_re, high_re), (low_im, high_im)) = (re.split_at_mut(half), im.split_at_mut(half));
                    for start in (0..half).step_by(PIECE) {
                        let piece = start..half.min(start + PIECE);
                        checkpoint.step(2 * piece.len(), cx)?;
                        wide_loop(Butterflies {
                            low: (&mut low_re[piece.clone()], &mut low_im[piece.clone()]),
                            high: (&mut high_re[piece.clone()], &mut high_im[piece.clone()]),
                            factors: (&factors.0[piece.clone()], &factors.1[piece]),
                        });
                    }
                }
            }
            half *= 2;
        }
        Ok(())
    }
}

/// Parts of complex numbers.
type Parts<'a> = (&'a [f64], &'a [f64]);
type PartsMut<'a> = (&'a mut [f64], &'a mut [f64]);

/// One step of a transform over blocks of twice as many numbers as factors.
struct Blocks<'a> {
    re: &'a mut [f64],
    im: &'a mut [f64],
    factors: Parts<'a>,
}

impl Loop for Blocks<'_> {
    #[inline(always)]
    fn run(self) {
        let half = self.factors.0.len();
        for (re, im) in self.re.chunks_exact_mut(2 * half).zip(self.im.chunks_exact_mut(2 * half)) {
            let ((low_re, high_re), (low_im, high_im)) = (re.split_at_mut(half), im.split_at_mut(half));
            Butterflies { low: (low_re, low_im), high: (high_re, high_im), factors: self.factors }.run();
        }
    }
}

/// One step of a transform over a part of a block: the sums and the differences of the first half and the second, times
/// its factors.
struct Butterflies<'a> {
    low: PartsMut<'a>,
    high: PartsMut<'a>,
    factors: Parts<'a>,
}

impl Loop for Butterflies<'_> {
    #[inline(always)]
    fn run(self) {
        let low = self.low.0.iter_mut().zip(self.low.1);
        let high = self.high.0.iter_mut().zip(self.high.1);
        let factors = self.factors.0.iter().zip(self.factors.1);
        for (((a_re, a_im), (b_re, b_im)), (&re, &im)) in low.zip(high).zip(factors) {
            let turned = Complex { re: *b_re, im: *b_im }.times(Complex { re, im });
            (*b_re, *b_im) = (*a_re - turned.re, *a_im - turned.im);
            (*a_re, *a_im) = (*a_re + turned.re, *a_im + turned.im);
        }
    }
}
