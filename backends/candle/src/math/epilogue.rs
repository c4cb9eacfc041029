//! What is done to the elements of a convolution or a matrix product before they go to memory for good.
//!
//! A [`Program`] is a list of elementwise operators over numbered registers, the first of which holds what the product
//! gave; its other operands are constants. A [`Epilogue`] runs it over a few hundred elements at a time, so that they stay
//! in the processor's first cache from the first operator to the last.

use crate::compute::context::{CHECK_INTERVAL, ExecContext};
use crate::math::program::{Binary, Op, Operand, Program, Unary};
use crate::math::{functions, simd};
use graphpool::backend::Error;

/// Elements that a register holds.
const CHUNK: usize = 512;

/// An operator over the room of its operands, one of which it overwrites.
#[derive(Debug)]
struct Step {
    op: Op,
    /// Where it reads its first register and where it writes.
    from: usize,
    to: usize,
    /// Where it reads its second register, if it has one.
    other: Option<usize>,
    /// The scales and shifts of a normalization.
    scales: (Vec<f32>, Vec<f32>),
}

/// A program, ready to run.
#[derive(Debug, Default)]
pub(crate) struct Epilogue {
    steps: Vec<Step>,
    places: usize,
    result: usize,
}

/// What a epilogue runs in.
pub(crate) struct Scratch {
    registers: Vec<f32>,
    /// Results since the last look at the compute's token.
    work: usize,
}

/// Which elements are given to a epilogue.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placement {
    /// All of one channel.
    Channel(usize),
    /// One of each column, from this one on.
    Columns(usize),
}

impl Epilogue {
    /// Finds room for the program's registers.
    pub(crate) fn new(program: Program) -> Self {
        let Program { ops, result } = program;
        let last_read = |register: usize| {
            let read = ops.iter().rposition(|op| op.reads(register));
            if register == result { usize::MAX } else { read.unwrap_or(0) }
        };
        // The place of each register, and the places that are free.
        let (mut places, mut free, mut used) = (vec![0], Vec::new(), 1);
        let mut steps = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let (register, second) = match op {
                Op::Unary(_, read) | Op::Affine(read, _) => (*read, None),
                Op::Binary(_, Operand::Register(a), Operand::Register(b)) => (*a, Some(*b)),
                Op::Binary(_, Operand::Register(a), _) | Op::Binary(_, _, Operand::Register(a)) => (*a, None),
                Op::Binary(..) => (0, None),
            };
            let from = places[register];
            let to = if last_read(register) == index && second != Some(register) {
                from
            } else {
                free.pop().unwrap_or_else(|| {
                    used += 1;
                    used - 1
                })
            };
            let other = second.map(|second| places[second]);
            if let Some(second) = second
                && last_read(second) == index
            {
                free.push(places[second]);
            }
            places.push(to);
            let scales = if let Op::Affine(_, batch) = op { batch.scales() } else { Default::default() };
            steps.push(Step { op: op.clone(), from, to, other, scales });
        }
        Self { steps, places: used, result: places[result] }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Scratch to run in.
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch { registers: vec![0.0; self.places * CHUNK], work: 0 }
    }

    /// Runs over `elements`, in place.
    pub(crate) fn run(
        &self,
        elements: &mut [f32],
        at: Placement,
        room: &mut Scratch,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let Scratch { registers: room, work } = room;
        for (index, chunk) in elements.chunks_mut(CHUNK).enumerate() {
            let at = match at {
                Placement::Channel(channel) => Placement::Channel(channel),
                Placement::Columns(first) => Placement::Columns(first + index * CHUNK),
            };
            let len = chunk.len();
            *work += len * self.steps.len();
            if *work >= CHECK_INTERVAL {
                *work = 0;
                cx.control.check()?;
            }
            room[..len].copy_from_slice(chunk);
            let rooms = room.as_chunks_mut::<CHUNK>().0;
            for step in &self.steps {
                step.run(rooms, len, at);
            }
            chunk.copy_from_slice(&room[self.result * CHUNK..][..len]);
        }
        Ok(())
    }
}

impl Step {
    fn run(&self, rooms: &mut [[f32; CHUNK]], len: usize, at: Placement) {
        if self.to != self.from
            && let Ok([to, from]) = rooms.get_disjoint_mut([self.to, self.from])
        {
            to[..len].copy_from_slice(&from[..len]);
        }
        match &self.op {
            Op::Unary(unary, _) => apply(*unary, &mut rooms[self.to][..len]),
            Op::Affine(..) => {
                let (scale, shift) = &self.scales;
                let x = &mut rooms[self.to][..len];
                match at {
                    Placement::Channel(channel) => {
                        let (scale, shift) = (scale[channel], shift[channel]);
                        simd::map(x, |x| x * scale + shift);
                    }
                    Placement::Columns(first) => {
                        simd::zip(x, &scale[first..first + len], |x, scale| x * scale);
                        simd::zip(x, &shift[first..first + len], |x, shift| x + shift);
                    }
                }
            }
            Op::Binary(binary, a, b) => match (a, b) {
                (Operand::Register(_), Operand::Register(_)) => {
                    let other = self.other.unwrap_or(self.from);
                    if let Ok([to, other]) = rooms.get_disjoint_mut([self.to, other]) {
                        pairs(*binary, &mut to[..len], &other[..len], false);
                    }
                }
                (Operand::Register(_), constant) => {
                    with_constant(*binary, &mut rooms[self.to][..len], constant, at, false);
                }
                (constant, _) => with_constant(*binary, &mut rooms[self.to][..len], constant, at, true),
            },
        }
    }
}

fn apply(unary: Unary, x: &mut [f32]) {
    use std::f32::consts::FRAC_1_SQRT_2;
    match unary {
        // A NaN stays one.
        Unary::Relu => simd::map(x, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::LeakyRelu(alpha) => simd::map(x, |x| if x < 0.0 { alpha * x } else { x }),
        Unary::Sigmoid => simd::map(x, functions::sigmoid),
        Unary::HardSigmoid(alpha, beta) => simd::map(x, |x| (alpha * x + beta).clamp(0.0, 1.0)),
        Unary::HardSwish => simd::map(x, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Unary::Tanh => simd::map(x, functions::tanh),
        Unary::Erf => simd::map(x, functions::erf),
        Unary::Gelu => simd::map(x, |x| 0.5 * x * (1.0 + functions::erf(x * FRAC_1_SQRT_2))),
        Unary::Clip(low, high) => {
            if let Some(low) = low {
                simd::map(x, |x| if x < low { low } else { x });
            }
            if let Some(high) = high {
                simd::map(x, |x| if x > high { high } else { x });
            }
        }
    }
}

/// `x` by `y`, or the other way round, in `x`.
fn pairs(binary: Binary, x: &mut [f32], y: &[f32], reversed: bool) {
    match (binary, reversed) {
        (Binary::Add, _) => simd::zip(x, y, |x, y| x + y),
        (Binary::Mul, _) => simd::zip(x, y, |x, y| x * y),
        (Binary::Sub, false) => simd::zip(x, y, |x, y| x - y),
        (Binary::Sub, true) => simd::zip(x, y, |x, y| y - x),
        (Binary::Div, false) => simd::zip(x, y, |x, y| x / y),
        (Binary::Div, true) => simd::zip(x, y, |x, y| y / x),
    }
}

fn with_constant(binary: Binary, x: &mut [f32], constant: &Operand, at: Placement, reversed: bool) {
    let y = match (constant, at) {
        (Operand::Register(_), _) => return,
        (Operand::Scalar(constant), _) => *constant,
        (Operand::Channels(constants), Placement::Channel(channel)) => constants.elements()[channel],
        (Operand::Channels(constants), Placement::Columns(first)) => {
            return pairs(binary, x, &constants.elements()[first..first + x.len()], reversed);
        }
    };
    match (binary, reversed) {
        (Binary::Add, _) => simd::map(x, |x| x + y),
        (Binary::Mul, _) => simd::map(x, |x| x * y),
        (Binary::Sub, false) => simd::map(x, |x| x - y),
        (Binary::Sub, true) => simd::map(x, |x| y - x),
        (Binary::Div, false) => simd::map(x, |x| x / y),
        (Binary::Div, true) => simd::map(x, |x| y / x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::program::Constants;
    use crate::tensor::budget::ComputeBudget;
    use crate::tensor::value::Value;
    use graphpool::backend::ComputeControl;

    fn constants(elements: Vec<f32>) -> Constants {
        Constants::of(&Value::new(vec![elements.len()], elements).unwrap()).unwrap()
    }

    #[test]
    fn registers_keep_what_is_read_again() {
        // x · clip(x + 3, 0, 6) / 6, then squared, less a constant of each column.
        let constants = constants((0..CHUNK + 7).map(|index| index as f32).collect());
        let register = Operand::Register;
        let ops = vec![
            Op::Binary(Binary::Add, register(0), Operand::Scalar(3.0)),
            Op::Unary(Unary::Clip(Some(0.0), Some(6.0)), 1),
            Op::Binary(Binary::Mul, register(0), register(2)),
            Op::Binary(Binary::Div, register(3), Operand::Scalar(6.0)),
            Op::Binary(Binary::Mul, register(4), register(4)),
            Op::Binary(Binary::Sub, Operand::Channels(constants), register(5)),
        ];
        let epilogue = Epilogue::new(Program { ops, result: 6 });
        let mut found: Vec<f32> = (0..CHUNK + 7).map(|index| (index % 13) as f32 - 6.0).collect();
        let wanted: Vec<f32> = found.clone();
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(0));
        epilogue
            .run(&mut found, Placement::Columns(0), &mut epilogue.scratch(), &ExecContext::new(&control, &budget))
            .unwrap();
        for (index, (found, x)) in found.iter().zip(wanted).enumerate() {
            let y = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
            assert!((found - (index as f32 - y * y)).abs() < 1e-4, "{index}: {found}");
        }
    }

    #[test]
    fn a_long_run_is_cancelled() {
        let epilogue = Epilogue::new(Program { ops: vec![Op::Unary(Unary::Erf, 0); 2], result: 2 });
        let control = ComputeControl::default().with_deadline(std::time::Instant::now());
        let (budget, mut room) = (ComputeBudget::new(0), epilogue.scratch());
        let mut run = |count: usize| {
            epilogue.run(&mut vec![1.0; count], Placement::Channel(0), &mut room, &ExecContext::new(&control, &budget))
        };
        run(CHECK_INTERVAL / 4).unwrap();
        assert_eq!(run(CHECK_INTERVAL / 4).unwrap_err().kind(), graphpool::backend::ErrorKind::Timeout);
    }
}
