//! The discrete Fourier transform of one row: radix 2 where the length is a power of it, Bluestein's way elsewhere.

use std::f64::consts::PI;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::tensor::budget::Charge;
use graphpool::backend::Error;

/// What a sine and a cosine cost, in steps.
const SLOW: usize = 16;

/// A complex number.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Complex {
    pub(crate) re: f64,
    pub(crate) im: f64,
}

impl Complex {
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

/// A transform of one length, with room for it.
pub(crate) struct Transform {
    len: usize,
    inverse: bool,
    /// A chirp, and its own transform, where the length is no power of two.
    chirp: Option<(Vec<Complex>, Vec<Complex>)>,
    room: Vec<Complex>,
    _charge: Charge,
}

impl Transform {
    /// Prepares transforms of `len` numbers, more than none.
    pub(crate) fn new(len: usize, inverse: bool, cx: &ExecContext<'_>) -> Result<Self, Error> {
        if len == 0 || len > 1 << 28 {
            return Err(Error::too_large(format!("a transform of {len} numbers")));
        }
        let size = if len.is_power_of_two() { len } else { (2 * len - 1).next_power_of_two() };
        let charge = cx.charge::<f64>(&[size, 2, 4])?;
        let mut checkpoint = Checkpoint::default();
        let mut room = Vec::with_capacity(size);
        checkpoint.fill(Complex::default(), size, &mut room, cx)?;
        let chirp = if len.is_power_of_two() {
            None
        } else {
            // The square of the index, kept small: the angle repeats after twice the length.
            let angle = |index: usize| -PI * ((index * index) % (2 * len)) as f64 / len as f64;
            let (mut chirp, mut filter) = (Vec::with_capacity(len), Vec::with_capacity(size));
            checkpoint.fill(Complex::default(), size, &mut filter, cx)?;
            for index in 0..len {
                checkpoint.step(SLOW, cx)?;
                let number = Complex::unit(angle(index));
                chirp.push(number);
                filter[index] = number.conjugate();
                filter[(size - index) % size] = number.conjugate();
            }
            radix2(&mut filter, false, &mut checkpoint, cx)?;
            Some((chirp, filter))
        };
        Ok(Self { len, inverse, chirp, room, _charge: charge })
    }

    /// The first `kept` numbers of the transform of those that `source` gives.
    pub(crate) fn run(
        &mut self,
        source: impl Fn(usize) -> Complex,
        kept: usize,
        cx: &ExecContext<'_>,
    ) -> Result<&[Complex], Error> {
        let mut checkpoint = Checkpoint::default();
        cx.control.check()?;
        // The inverse is the conjugate of the transform of the conjugate, divided by the length.
        let inverse = self.inverse;
        let input = |index: usize| if inverse { source(index).conjugate() } else { source(index) };
        match &self.chirp {
            None => {
                for (index, room) in self.room.iter_mut().enumerate() {
                    checkpoint.step(1, cx)?;
                    *room = input(index);
                }
                radix2(&mut self.room, false, &mut checkpoint, cx)?;
            }
            Some((chirp, filter)) => {
                for (index, room) in self.room.iter_mut().enumerate() {
                    checkpoint.step(1, cx)?;
                    *room = chirp.get(index).map_or_else(Complex::default, |chirp| input(index).times(*chirp));
                }
                radix2(&mut self.room, false, &mut checkpoint, cx)?;
                for (room, filter) in self.room.iter_mut().zip(filter) {
                    checkpoint.step(1, cx)?;
                    *room = room.times(*filter);
                }
                radix2(&mut self.room, true, &mut checkpoint, cx)?;
                for (room, chirp) in self.room.iter_mut().zip(chirp) {
                    checkpoint.step(1, cx)?;
                    *room = room.times(*chirp);
                }
            }
        }
        if inverse {
            let scale = 1.0 / self.len as f64;
            for number in &mut self.room {
                checkpoint.step(1, cx)?;
                *number = Complex { re: number.re * scale, im: -number.im * scale };
            }
        }
        Ok(&self.room[..kept.min(self.len)])
    }
}

/// The transform of a power of two of numbers, in place.
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
        let turn = if inverse { PI } else { -PI } / half as f64;
        for block in numbers.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (index, (a, b)) in low.iter_mut().zip(high).enumerate() {
                checkpoint.step(SLOW, cx)?;
                let turned = b.times(Complex::unit(turn * index as f64));
                (*a, *b) = (a.plus(turned), a.minus(turned));
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
