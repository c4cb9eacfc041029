//! A list of elementwise operators that follow a product, and the scales and shifts that can be moved into its weights.
//!
//! Operators work on numbered registers: register 0 is the product's result, and operator `i` writes register `i + 1`.
//! Scales and shifts at the front of a program can be merged into the weights and the bias of the product at load.

use crate::tensor::value::Value;
use std::ops::{Add, Div, Mul, Sub};

/// The most operators of a program.
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

/// An f32 constant of the model. A clone shares the elements.
#[derive(Debug, Clone)]
pub(crate) struct Constants(Value);

impl Constants {
    /// The constant `value`; `None` if its elements are not f32.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        value.elements::<f32>().is_ok().then(|| Self(value.clone()))
    }

    pub(crate) fn elements(&self) -> &[f32] {
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
    /// The number of channels; `None` if the parameters have different lengths.
    pub(crate) fn channels(&self) -> Option<usize> {
        let [first, rest @ ..] = self.parameters.each_ref().map(|parameter| parameter.elements().len());
        rest.iter().all(|&len| len == first).then_some(first)
    }

    /// The equivalent scale and shift of each channel.
    pub(crate) fn scales(&self) -> (Vec<f32>, Vec<f32>) {
        batch_scales(self.parameters.each_ref().map(Constants::elements), self.epsilon, f32::sqrt).into_iter().unzip()
    }
}

/// An operand of a binary operator.
#[derive(Debug, Clone)]
pub(crate) enum Operand {
    /// The product's result (0), or the result of the operator with the index before.
    Register(usize),
    /// A constant for every element.
    Scalar(f32),
    /// A constant for each channel or for each column.
    Channels(Constants),
}

/// An operator of a program.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An operator with the register that it reads.
    Unary(Unary, usize),
    /// An operator with its two operands.
    Binary(Binary, Operand, Operand),
    /// A batch normalization of a register.
    Affine(usize, Batch),
}

impl Op {
    /// Whether the operator reads a register.
    pub(crate) fn reads(&self, register: usize) -> bool {
        let is = |operand: &Operand| matches!(operand, Operand::Register(read) if *read == register);
        match self {
            Self::Unary(_, read) | Self::Affine(read, _) => *read == register,
            Self::Binary(_, a, b) => is(a) || is(b),
        }
    }
}

impl Op {
    /// Renames the registers that the operator reads.
    fn move_registers(&mut self, moved: impl Fn(usize) -> usize) {
        let operand = |operand: &mut Operand| {
            if let Operand::Register(register) = operand {
                *register = moved(*register);
            }
        };
        match self {
            Self::Unary(_, register) | Self::Affine(register, _) => *register = moved(*register),
            Self::Binary(_, a, b) => [a, b].into_iter().for_each(operand),
        }
    }
}

/// The elementwise operators after a product.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    /// The operators. Operator `i` writes register `i + 1`.
    pub(crate) ops: Vec<Op>,
    /// The register of the result.
    pub(crate) result: usize,
}

impl Program {
    /// The most bytes that the program's constants take for `channels` channels.
    pub(crate) fn bytes(&self, channels: usize) -> usize {
        // A normalization has four parameters and the scales and shifts that follow from them.
        let lists = self.ops.iter().map(|op| if matches!(op, Op::Affine(..)) { 6 } else { 2 }).sum::<usize>();
        (lists + 1).saturating_mul(channels).saturating_mul(size_of::<f32>())
    }

    /// The program with x · clip(x + 3, 0, 6) / 6, in either order of the last two, as one operator.
    pub(crate) fn with_hard_swish(mut self) -> Self {
        while let Some((first, read)) = (0..self.ops.len()).find_map(|at| Some((at, self.hard_swish_at(at)?))) {
            // The four operators become one, whose register is the first's.
            self.ops.splice(first..first + 4, [Op::Unary(Unary::HardSwish, read)]);
            let moved = |register: usize| if register > first { register - 3 } else { register };
            for op in &mut self.ops[first + 1..] {
                op.move_registers(moved);
            }
            self.result = moved(self.result);
        }
        self
    }

    /// The register of x if the four operators from `first` on are x · clip(x + 3, 0, 6) / 6, and no other operator
    /// reads what they compute in between.
    fn hard_swish_at(&self, first: usize) -> Option<usize> {
        let [sum, clip, third, last] = self.ops.get(first..first + 4)? else { return None };
        let scalar =
            |operand: &Operand, wanted: f32| matches!(operand, Operand::Scalar(x) if x.to_bits() == wanted.to_bits());
        let read = match sum {
            Op::Binary(Binary::Add, Operand::Register(x), three)
            | Op::Binary(Binary::Add, three, Operand::Register(x))
                if scalar(three, 3.0) =>
            {
                *x
            }
            _ => return None,
        };
        let is_clip = matches!(clip, Op::Unary(Unary::Clip(Some(0.0), Some(6.0)), x) if *x == first + 1);
        let product = |op: &Op, with: usize| match op {
            Op::Binary(Binary::Mul, Operand::Register(a), Operand::Register(b)) => {
                [*a, *b] == [read, with] || [*b, *a] == [read, with]
            }
            _ => false,
        };
        let sixth = |op: &Op, of: usize| matches!(op, Op::Binary(Binary::Div, Operand::Register(x), six) if *x == of && scalar(six, 6.0));
        let (before, after) = (first + 2, first + 3);
        let ends = (product(third, before) && sixth(last, after)) || (sixth(third, before) && product(last, after));
        let later = &self.ops[first + 4..];
        let read_again =
            (first + 1..first + 4).any(|register| self.result == register || later.iter().any(|op| op.reads(register)));
        (is_clip && ends && !read_again).then_some(read)
    }

    /// Whether the first operator is an addition to the product's result.
    fn starts_with_sum(&self) -> bool {
        matches!(
            self.ops.first(),
            Some(Op::Binary(Binary::Add, Operand::Register(0), _) | Op::Binary(Binary::Add, _, Operand::Register(0)))
        )
    }

    /// Removes additions of constants from the front. Returns their sum for each of `channels`; `None` if there are
    /// none.
    pub(crate) fn take_sums(&mut self, channels: usize) -> Option<Vec<f32>> {
        self.take(channels, Self::starts_with_sum).map(|(_, shifts)| shifts)
    }

    /// Removes scales and shifts from the front. Returns the equivalent scale and shift for each of `channels`; `None`
    /// if there are none.
    pub(crate) fn take_affine(&mut self, channels: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        self.take(channels, |_| true)
    }

    /// Removes scales and shifts from the front while `wanted` agrees.
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

    /// The first operator as a scale and a shift of each channel; `None` if it is something else, or if the program
    /// needs the product's result again.
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
        // Constants that are not finite stay in the program, so that zero times infinity gives the same result.
        (sound && found.0.iter().chain(&found.1).all(|x| x.is_finite())).then_some(found)
    }
}

/// `number` times `scale`; `None` if the product overflows, or if it loses digits as a subnormal number.
pub(crate) fn scaled(number: f32, scale: f32) -> Option<f32> {
    let product = number * scale;
    let same = number == 0.0 || product.to_bits() == number.to_bits();
    (product.is_normal() || same || scale == 0.0 || !number.is_finite()).then_some(product)
}

/// Each number times its scale, if there are scales, plus its shift; `None` if a result overflows.
pub(crate) fn shifted(numbers: &[f32], scales: Option<&[f32]>, shifts: &[f32]) -> Option<Vec<f32>> {
    let shift = |(index, number): (usize, &f32)| {
        let sum = number * scales.map_or(1.0, |scales| scales[index]) + shifts[index];
        (sum.is_finite() || !number.is_finite()).then_some(sum)
    };
    numbers.iter().enumerate().map(shift).collect()
}

/// The scale and shift of each channel that a batch normalization is equivalent to at inference. The parameters are
/// scale, bias, mean and variance; `root` is the square root.
pub(crate) fn batch_scales<T>(parameters: [&[T]; 4], epsilon: T, root: impl Fn(T) -> T) -> Vec<(T, T)>
where
    T: Copy + Add<Output = T> + Sub<Output = T> + Mul<Output = T> + Div<Output = T>,
{
    let [scale, bias, mean, variance] = parameters;
    let one = |((&scale, &bias), (&mean, &variance)): ((&T, &T), (&T, &T))| {
        let scale = scale / root(variance + epsilon);
        (scale, bias - mean * scale)
    };
    scale.iter().zip(bias).zip(mean.iter().zip(variance)).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constants(elements: Vec<f32>) -> Constants {
        Constants::of(&Value::new(vec![elements.len()], elements).unwrap()).unwrap()
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

    #[test]
    fn a_hard_swish_of_four_operators_becomes_one() {
        let register = Operand::Register;
        let swish = |divided_first: bool, reversed: bool| {
            let (sum, clip) =
                (Op::Binary(Binary::Add, register(1), Operand::Scalar(3.0)), Unary::Clip(Some(0.0), Some(6.0)));
            let (x, y) = if divided_first { (register(1), register(4)) } else { (register(1), register(3)) };
            let product = if reversed { Op::Binary(Binary::Mul, y, x) } else { Op::Binary(Binary::Mul, x, y) };
            let divided = Op::Binary(Binary::Div, register(if divided_first { 3 } else { 4 }), Operand::Scalar(6.0));
            let (third, last) = if divided_first { (divided, product) } else { (product, divided) };
            vec![
                Op::Unary(Unary::Relu, 0),
                sum,
                Op::Unary(clip, 2),
                third,
                last,
                Op::Binary(Binary::Mul, register(5), register(1)),
            ]
        };
        for (divided_first, reversed) in [(false, false), (false, true), (true, false), (true, true)] {
            let program = Program { ops: swish(divided_first, reversed), result: 6 }.with_hard_swish();
            assert_eq!(program.result, 3);
            let [Op::Unary(Unary::Relu, 0), Op::Unary(Unary::HardSwish, 1), Op::Binary(Binary::Mul, a, b)] =
                &program.ops[..]
            else {
                panic!("{:?}", program.ops)
            };
            assert!(matches!((a, b), (Operand::Register(2), Operand::Register(1))), "{a:?} {b:?}");
        }
        // What is computed in between is read again, or is the result, or a number is another.
        let mut again = swish(false, false);
        again.push(Op::Binary(Binary::Add, register(6), register(3)));
        assert_eq!(Program { ops: again, result: 7 }.with_hard_swish().ops.len(), 7);
        assert_eq!(Program { ops: swish(false, false), result: 4 }.with_hard_swish().ops.len(), 6);
        let mut other = swish(true, false);
        other[1] = Op::Binary(Binary::Add, register(1), Operand::Scalar(2.0));
        assert_eq!(Program { ops: other, result: 6 }.with_hard_swish().ops.len(), 6);
    }
}
