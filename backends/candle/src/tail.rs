//! What is done to the elements of a convolution or a matrix product before they go to memory for good.
//!
//! A [`Program`] is a list of elementwise operators over numbered registers, the first of which holds what the product
//! gave; its other operands are constants. A [`Tail`] runs it over a few hundred elements at a time, so that they stay
//! in the processor's first cache from the first operator to the last.

use super::meter::Cx;
use super::ops::batch_scales;
use super::value::Value;
use super::{kernel, math};
use graphpool::backend::Error;

/// Elements that a register holds.
const CHUNK: usize = 512;

/// Results of operators between two looks at the compute's token.
const PART: usize = 1 << 20;

/// Operators that a program may have.
pub(crate) const LONGEST: usize = 24;

/// An operator with one operand and parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unary {
    Relu,
    LeakyRelu(f32),
    Sigmoid,
    HardSigmoid(f32, f32),
    HardSwish,
    Tanh,
    Erf,
    Gelu,
    Clip(Option<f32>, Option<f32>),
}

/// An operator with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

/// Constants, shared with whatever else of the model has them.
#[derive(Debug, Clone)]
pub(crate) struct Constants(Value);

impl Constants {
    /// The elements of `value`; `None` where they are no f32.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        value.elements::<f32>().is_ok().then(|| Self(value.clone()))
    }

    fn elements(&self) -> &[f32] {
        self.0.elements().unwrap_or_default()
    }
}

/// The parameters of a batch normalization: scale, shift, mean and variance of each channel.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) parameters: [Constants; 4],
    pub(crate) epsilon: f32,
}

impl Batch {
    /// The number of channels, where the parameters agree on it.
    pub(crate) fn channels(&self) -> Option<usize> {
        let [first, rest @ ..] = self.parameters.each_ref().map(|parameter| parameter.elements().len());
        rest.iter().all(|&len| len == first).then_some(first)
    }

    /// What it comes down to: a scale and a shift for each channel.
    fn scales(&self) -> (Vec<f32>, Vec<f32>) {
        batch_scales(self.parameters.each_ref().map(Constants::elements), self.epsilon).into_iter().unzip()
    }
}

/// What an operator of two reads.
#[derive(Debug, Clone)]
pub(crate) enum Operand {
    /// What the product gave (0), or what the operator of the number before gave.
    Register(usize),
    /// A constant for every element.
    Scalar(f32),
    /// A constant for each channel, or for each column.
    Channels(Constants),
}

/// One operator of a program. It writes the register after those of the operators before it.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Unary(Unary, usize),
    Binary(Binary, Operand, Operand),
    Affine(usize, Batch),
}

impl Op {
    fn reads(&self, register: usize) -> bool {
        let is = |operand: &Operand| matches!(operand, Operand::Register(read) if *read == register);
        match self {
            Self::Unary(_, read) | Self::Affine(read, _) => *read == register,
            Self::Binary(_, a, b) => is(a) || is(b),
        }
    }
}

/// Elementwise operators after a product.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    /// The operators. Operator i writes register i + 1.
    pub(crate) ops: Vec<Op>,
    /// The register that is the result.
    pub(crate) result: usize,
}

impl Program {
    /// Bytes that the program takes at the most once it runs over `channels`.
    pub(crate) fn bytes(&self, channels: usize) -> usize {
        // A normalization keeps its four parameters, and the scales and shifts that they come to.
        let lists = self.ops.iter().map(|op| if matches!(op, Op::Affine(..)) { 6 } else { 2 }).sum::<usize>();
        (lists + 1).saturating_mul(channels).saturating_mul(size_of::<f32>())
    }

    /// Whether the first operator adds to what the product gave, and so changes no scale.
    fn starts_with_sum(&self) -> bool {
        matches!(
            self.ops.first(),
            Some(Op::Binary(Binary::Add, Operand::Register(0), _) | Op::Binary(Binary::Add, _, Operand::Register(0)))
        )
    }

    /// Takes sums with constants off the front: what they add to each of `channels`, where there are any.
    pub(crate) fn take_sums(&mut self, channels: usize) -> Option<Vec<f32>> {
        self.take(channels, Self::starts_with_sum).map(|(_, shifts)| shifts)
    }

    /// Takes scales and shifts off the front: a scale and a shift for each of `channels`, where there are any.
    pub(crate) fn take_affine(&mut self, channels: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        self.take(channels, |_| true)
    }

    fn take(&mut self, channels: usize, wanted: impl Fn(&Self) -> bool) -> Option<(Vec<f32>, Vec<f32>)> {
        let mut taken: Option<(Vec<f32>, Vec<f32>)> = None;
        while wanted(self)
            && let Some((scale, shift)) = self.affine(channels)
        {
            taken = Some(match &taken {
                None => (scale, shift),
                Some((scales, shifts)) => {
                    let together = scales.iter().zip(&scale).map(|(before, scale)| scaled(*before, *scale)).collect();
                    let (Some(scales), Some(shifts)) = (together, shifted(shifts, Some(&scale), &shift)) else { break };
                    (scales, shifts)
                }
            });
            self.ops.remove(0);
            self.result -= 1;
            for op in &mut self.ops {
                let before = |register: &mut usize| *register -= 1;
                match op {
                    Op::Unary(_, read) | Op::Affine(read, _) => before(read),
                    Op::Binary(_, a, b) => {
                        for operand in [a, b] {
                            if let Operand::Register(read) = operand {
                                before(read);
                            }
                        }
                    }
                }
            }
        }
        taken
    }

    /// The first operator as a scale and a shift, where it is one and nothing else reads what it reads.
    fn affine(&self, channels: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let (first, rest) = self.ops.split_first()?;
        if self.result == 0 || rest.iter().any(|op| op.reads(0)) {
            return None;
        }
        let all = |constant: &Operand| match constant {
            Operand::Register(_) => None,
            Operand::Scalar(constant) => Some(vec![*constant; channels]),
            Operand::Channels(constants) => Some(constants.elements().to_vec()),
        };
        let found = match first {
            Op::Affine(_, batch) => batch.scales(),
            Op::Binary(Binary::Add, Operand::Register(_), constant)
            | Op::Binary(Binary::Add, constant, Operand::Register(_)) => (vec![1.0; channels], all(constant)?),
            Op::Binary(Binary::Sub, Operand::Register(_), constant) => {
                (vec![1.0; channels], all(constant)?.iter().map(|x| -x).collect())
            }
            Op::Binary(Binary::Mul, Operand::Register(_), constant)
            | Op::Binary(Binary::Mul, constant, Operand::Register(_)) => (all(constant)?, vec![0.0; channels]),
            _ => return None,
        };
        let sound = found.0.len() == channels && found.1.len() == channels;
        // What isn't finite is left where it is: zero times infinity is to come out as it would have.
        (sound && found.0.iter().chain(&found.1).all(|x| x.is_finite())).then_some(found)
    }
}

/// A number by a scale, where that makes it neither infinite nor so small that it loses digits.
pub(crate) fn scaled(number: f32, scale: f32) -> Option<f32> {
    let product = number * scale;
    let same = number == 0.0 || product.to_bits() == number.to_bits();
    (product.is_normal() || same || scale == 0.0 || !number.is_finite()).then_some(product)
}

/// Numbers by their scales, if any, and shifted, where that makes none of them infinite.
pub(crate) fn shifted(numbers: &[f32], scales: Option<&[f32]>, shifts: &[f32]) -> Option<Vec<f32>> {
    let shift = |(index, number): (usize, &f32)| {
        let sum = number * scales.map_or(1.0, |scales| scales[index]) + shifts[index];
        (sum.is_finite() || !number.is_finite()).then_some(sum)
    };
    numbers.iter().enumerate().map(shift).collect()
}

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
pub(crate) struct Tail {
    steps: Vec<Step>,
    places: usize,
    result: usize,
}

/// What a tail runs in.
pub(crate) struct Room {
    registers: Vec<f32>,
    /// Results since the last look at the compute's token.
    work: usize,
}

/// Which elements are given to a tail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    /// All of one channel.
    Channel(usize),
    /// One of each column, from this one on.
    Columns(usize),
}

impl Tail {
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

    /// Room to run in.
    pub(crate) fn room(&self) -> Room {
        Room { registers: vec![0.0; self.places * CHUNK], work: 0 }
    }

    /// Runs over `elements`, in place.
    pub(crate) fn run(&self, elements: &mut [f32], at: At, room: &mut Room, cx: &Cx<'_>) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let Room { registers: room, work } = room;
        for (index, chunk) in elements.chunks_mut(CHUNK).enumerate() {
            let at = match at {
                At::Channel(channel) => At::Channel(channel),
                At::Columns(first) => At::Columns(first + index * CHUNK),
            };
            let len = chunk.len();
            *work += len * self.steps.len();
            if *work >= PART {
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
    fn run(&self, rooms: &mut [[f32; CHUNK]], len: usize, at: At) {
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
                    At::Channel(channel) => {
                        let (scale, shift) = (scale[channel], shift[channel]);
                        kernel::map(x, |x| x * scale + shift);
                    }
                    At::Columns(first) => {
                        kernel::zip(x, &scale[first..first + len], |x, scale| x * scale);
                        kernel::zip(x, &shift[first..first + len], |x, shift| x + shift);
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
        Unary::Relu => kernel::map(x, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::LeakyRelu(alpha) => kernel::map(x, |x| if x < 0.0 { alpha * x } else { x }),
        Unary::Sigmoid => kernel::map(x, math::sigmoid),
        Unary::HardSigmoid(alpha, beta) => kernel::map(x, |x| (alpha * x + beta).clamp(0.0, 1.0)),
        Unary::HardSwish => kernel::map(x, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Unary::Tanh => kernel::map(x, math::tanh),
        Unary::Erf => kernel::map(x, math::erf),
        Unary::Gelu => kernel::map(x, |x| 0.5 * x * (1.0 + math::erf(x * FRAC_1_SQRT_2))),
        Unary::Clip(low, high) => {
            if let Some(low) = low {
                kernel::map(x, |x| if x < low { low } else { x });
            }
            if let Some(high) = high {
                kernel::map(x, |x| if x > high { high } else { x });
            }
        }
    }
}

/// `x` by `y`, or the other way round, in `x`.
fn pairs(binary: Binary, x: &mut [f32], y: &[f32], turned: bool) {
    match (binary, turned) {
        (Binary::Add, _) => kernel::zip(x, y, |x, y| x + y),
        (Binary::Mul, _) => kernel::zip(x, y, |x, y| x * y),
        (Binary::Sub, false) => kernel::zip(x, y, |x, y| x - y),
        (Binary::Sub, true) => kernel::zip(x, y, |x, y| y - x),
        (Binary::Div, false) => kernel::zip(x, y, |x, y| x / y),
        (Binary::Div, true) => kernel::zip(x, y, |x, y| y / x),
    }
}

fn with_constant(binary: Binary, x: &mut [f32], constant: &Operand, at: At, turned: bool) {
    let y = match (constant, at) {
        (Operand::Register(_), _) => return,
        (Operand::Scalar(constant), _) => *constant,
        (Operand::Channels(constants), At::Channel(channel)) => constants.elements()[channel],
        (Operand::Channels(constants), At::Columns(first)) => {
            return pairs(binary, x, &constants.elements()[first..first + x.len()], turned);
        }
    };
    match (binary, turned) {
        (Binary::Add, _) => kernel::map(x, |x| x + y),
        (Binary::Mul, _) => kernel::map(x, |x| x * y),
        (Binary::Sub, false) => kernel::map(x, |x| x - y),
        (Binary::Sub, true) => kernel::map(x, |x| y - x),
        (Binary::Div, false) => kernel::map(x, |x| x / y),
        (Binary::Div, true) => kernel::map(x, |x| y / x),
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;
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
        let tail = Tail::new(Program { ops, result: 6 });
        let mut found: Vec<f32> = (0..CHUNK + 7).map(|index| (index % 13) as f32 - 6.0).collect();
        let wanted: Vec<f32> = found.clone();
        let (control, meter) = (ComputeControl::default(), Meter::new(0));
        tail.run(&mut found, At::Columns(0), &mut tail.room(), &Cx::new(&control, &meter)).unwrap();
        for (index, (found, x)) in found.iter().zip(wanted).enumerate() {
            let y = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
            assert!((found - (index as f32 - y * y)).abs() < 1e-4, "{index}: {found}");
        }
    }

    #[test]
    fn a_long_run_is_cancelled() {
        let tail = Tail::new(Program { ops: vec![Op::Unary(Unary::Erf, 0); 2], result: 2 });
        let control = ComputeControl::default().with_deadline(std::time::Instant::now());
        let (meter, mut room) = (Meter::new(0), tail.room());
        let mut run =
            |count: usize| tail.run(&mut vec![1.0; count], At::Channel(0), &mut room, &Cx::new(&control, &meter));
        run(PART / 4).unwrap();
        assert_eq!(run(PART / 4).unwrap_err().kind(), graphpool::backend::ErrorKind::Timeout);
    }

    #[test]
    fn scales_and_shifts_are_taken_off_the_front() {
        let two = constants(vec![2.0, 3.0]);
        let (zero, one) = (constants(vec![0.0; 2]), constants(vec![1.0; 2]));
        let batch = Batch { parameters: [two.clone(), two.clone(), zero, one], epsilon: 0.0 };
        let ops = vec![
            Op::Binary(Binary::Mul, Operand::Channels(two), Operand::Register(0)),
            Op::Affine(1, batch),
            Op::Binary(Binary::Sub, Operand::Register(2), Operand::Scalar(1.0)),
            Op::Unary(Unary::Relu, 3),
            Op::Binary(Binary::Mul, Operand::Register(3), Operand::Register(4)),
        ];
        let mut program = Program { ops, result: 5 };
        assert_eq!(program.take_affine(2), Some((vec![4.0, 9.0], vec![1.0, 2.0])));
        assert_eq!((program.ops.len(), program.result), (2, 2));
        assert!(program.take_affine(2).is_none());
        let ops = vec![Op::Binary(Binary::Mul, Operand::Register(0), Operand::Scalar(f32::INFINITY))];
        assert!(Program { ops, result: 1 }.take_affine(2).is_none());
    }
}
