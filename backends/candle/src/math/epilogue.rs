//! Executes the elementwise operators that are fused with a convolution or a matrix product.
//!
//! A [`Program`] is a list of elementwise operators over numbered registers and constants; register 0 is the product's
//! result. An [`Epilogue`] is a program with memory assigned to its registers. It runs all operators over a few hundred
//! elements before it goes on to the next ones, so that the elements stay in the first-level cache.

use crate::compute::context::{CHECK_INTERVAL, ExecContext};
use crate::math::program::{Binary, Op, Operand, Program, Unary};
use crate::math::{functions, simd};
use crate::tensor::budget::Block;
use graphpool::backend::Error;

/// The elements of a register.
const CHUNK: usize = 512;

/// An operator with the buffers that its registers are assigned to. It overwrites one of its operands where it can.
#[derive(Debug)]
struct Step {
    op: Op,
    /// The buffer of the first operand that is a register.
    from: usize,
    /// The buffer of the result.
    to: usize,
    /// The buffer of the second operand that is a register, if there is one.
    other: Option<usize>,
    /// The scales and shifts of a normalization.
    scales: (Vec<f32>, Vec<f32>),
}

/// A program whose registers have buffers.
#[derive(Debug, Default)]
pub(crate) struct Epilogue {
    steps: Vec<Step>,
    /// The number of buffers.
    buffers: usize,
    /// The buffer of the program's result.
    result: usize,
}

/// The memory in which an epilogue runs.
pub(crate) struct Scratch {
    buffers: Block<f32>,
    /// Results since the last check of deadline and cancel token.
    work: usize,
}

/// Which elements of the product an epilogue gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placement {
    /// Elements of one channel.
    Channel(usize),
    /// Elements of consecutive columns, from this column on.
    Columns(usize),
}

impl Epilogue {
    /// Assigns buffers to the program's registers. A buffer is reused after the last read of its register.
    pub(crate) fn new(program: Program) -> Self {
        let Program { ops, result } = program.with_hard_swish();
        let last_read = |register: usize| {
            let read = ops.iter().rposition(|op| op.reads(register));
            if register == result { usize::MAX } else { read.unwrap_or(0) }
        };
        // The buffer of each register, and the buffers that are free.
        let (mut buffers, mut free, mut used) = (vec![0], Vec::new(), 1);
        let mut steps = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let (register, second) = match op {
                Op::Unary(_, read) | Op::Affine(read, _) => (*read, None),
                Op::Binary(_, Operand::Register(a), Operand::Register(b)) => (*a, Some(*b)),
                Op::Binary(_, Operand::Register(a), _) | Op::Binary(_, _, Operand::Register(a)) => (*a, None),
                Op::Binary(..) => (0, None),
            };
            let from = buffers[register];
            let to = if last_read(register) == index && second != Some(register) {
                from
            } else {
                free.pop().unwrap_or_else(|| {
                    used += 1;
                    used - 1
                })
            };
            let other = second.map(|second| buffers[second]);
            if let Some(second) = second
                && last_read(second) == index
            {
                free.push(buffers[second]);
            }
            buffers.push(to);
            let scales = if let Op::Affine(_, batch) = op { batch.scales() } else { Default::default() };
            steps.push(Step { op: op.clone(), from, to, other, scales });
        }
        Self { steps, buffers: used, result: buffers[result] }
    }

    /// Whether the program has no operators.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the program does the same to elements of all channels.
    pub(crate) fn is_uniform(&self) -> bool {
        let constant = |operand: &Operand| !matches!(operand, Operand::Channels(_));
        self.steps.iter().all(|step| match &step.op {
            Op::Unary(..) => true,
            Op::Binary(_, a, b) => constant(a) && constant(b),
            Op::Affine(..) => false,
        })
    }

    /// Allocates memory to run in: at most 2 KiB for each operator, and as much for the product's result.
    pub(crate) fn scratch(&self, cx: &ExecContext<'_>) -> Result<Scratch, Error> {
        let buffers = if self.is_empty() { 0 } else { self.buffers };
        Ok(Scratch { buffers: cx.full_block(0.0, buffers * CHUNK)?, work: 0 })
    }

    /// Applies the program to `elements`, in place.
    pub(crate) fn run(
        &self,
        elements: &mut [f32],
        at: Placement,
        scratch: &mut Scratch,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let Scratch { buffers, work } = scratch;
        // With one buffer, each operator overwrites the only operand that is no constant.
        let in_place = self.buffers == 1;
        let buffers = buffers.as_mut_slice();
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
            if in_place {
                self.steps.iter().for_each(|step| step.overwrite(chunk, at));
                continue;
            }
            buffers[..len].copy_from_slice(chunk);
            let registers = buffers.as_chunks_mut::<CHUNK>().0;
            for step in &self.steps {
                step.run(registers, len, at);
            }
            chunk.copy_from_slice(&buffers[self.result * CHUNK..][..len]);
        }
        Ok(())
    }
}

impl Step {
    /// Applies the operator to the first `len` elements of its registers.
    fn run(&self, registers: &mut [[f32; CHUNK]], len: usize, at: Placement) {
        if self.to != self.from
            && let Ok([to, from]) = registers.get_disjoint_mut([self.to, self.from])
        {
            to[..len].copy_from_slice(&from[..len]);
        }
        if let Op::Binary(binary, Operand::Register(_), Operand::Register(_)) = &self.op {
            let other = self.other.unwrap_or(self.from);
            if let Ok([to, other]) = registers.get_disjoint_mut([self.to, other]) {
                pairs(*binary, &mut to[..len], &other[..len], false);
            }
        } else {
            self.overwrite(&mut registers[self.to][..len], at);
        }
    }

    /// Applies an operator whose only operand that is no constant is `x`.
    fn overwrite(&self, x: &mut [f32], at: Placement) {
        match &self.op {
            Op::Unary(unary, _) => apply(*unary, x),
            Op::Affine(..) => {
                let (len, (scale, shift)) = (x.len(), &self.scales);
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
            Op::Binary(binary, Operand::Register(_), constant) => with_constant(*binary, x, constant, at, false),
            Op::Binary(binary, constant, _) => with_constant(*binary, x, constant, at, true),
        }
    }
}

/// Applies `unary` to each element.
fn apply(unary: Unary, x: &mut [f32]) {
    use std::f32::consts::FRAC_1_SQRT_2;
    match unary {
        // Written so that NaN stays NaN.
        Unary::Relu => simd::map(x, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::LeakyRelu(alpha) => simd::map(x, |x| if x < 0.0 { alpha * x } else { x }),
        Unary::Sigmoid => simd::map(x, functions::sigmoid),
        Unary::HardSigmoid(alpha, beta) => simd::map(x, |x| (alpha * x + beta).clamp(0.0, 1.0)),
        Unary::HardSwish => simd::map(x, |x| x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)),
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

/// Applies `binary` to pairs of elements, with the operands exchanged if `reversed`, and writes the results to `x`.
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

/// Applies `binary` to each element and its constant, with the operands exchanged if `reversed`.
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
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let cx = ExecContext::new(&control, &budget);
        epilogue.run(&mut found, Placement::Columns(0), &mut epilogue.scratch(&cx).unwrap(), &cx).unwrap();
        for (index, (found, x)) in found.iter().zip(wanted).enumerate() {
            let y = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
            assert!((found - (index as f32 - y * y)).abs() < 1e-4, "{index}: {found}");
        }
    }

    #[test]
    fn a_long_run_is_cancelled() {
        let epilogue = Epilogue::new(Program { ops: vec![Op::Unary(Unary::Erf, 0); 2], result: 2 });
        let control = ComputeControl::default().with_deadline(std::time::Instant::now());
        let budget = ComputeBudget::new(usize::MAX);
        let cx = ExecContext::new(&control, &budget);
        let mut scratch = epilogue.scratch(&cx).unwrap();
        let mut run = |count: usize| epilogue.run(&mut vec![1.0; count], Placement::Channel(0), &mut scratch, &cx);
        run(CHECK_INTERVAL / 4).unwrap();
        assert_eq!(run(CHECK_INTERVAL / 4).unwrap_err().kind(), graphpool::backend::ErrorKind::Timeout);
    }
}
