//! Comparisons and logic: Equal, Less, Greater and their kin, And, Or, Xor, Not, Where, IsNaN, IsInf.

use crate::compute::context::ExecContext;
use crate::ops::activation::predicate;
use crate::ops::broadcast::{map_into, runs, shape, zip, zip_into};
use crate::ops::elementwise::with_numbers;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::element::{ElementType, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "Equal", (2, 2), |_| compare(equal)),
    since(7, "Less", (2, 2), |_| {
        compare(|a, b, cx| with_numbers!(a, T => zip(a, b, cx, (|a: T, b: T| a < b) as fn(T, T) -> bool)))
    }),
    since(7, "Greater", (2, 2), |_| {
        compare(|a, b, cx| with_numbers!(a, T => zip(a, b, cx, (|a: T, b: T| a > b) as fn(T, T) -> bool)))
    }),
    since(12, "LessOrEqual", (2, 2), |_| {
        compare(|a, b, cx| with_numbers!(a, T => zip(a, b, cx, (|a: T, b: T| a <= b) as fn(T, T) -> bool)))
    }),
    since(12, "GreaterOrEqual", (2, 2), |_| {
        compare(|a, b, cx| with_numbers!(a, T => zip(a, b, cx, (|a: T, b: T| a >= b) as fn(T, T) -> bool)))
    }),
    since(7, "And", (2, 2), |_| logic(|a, b| a & b)),
    since(7, "Or", (2, 2), |_| logic(|a, b| a | b)),
    since(7, "Xor", (2, 2), |_| logic(|a, b| a ^ b)),
    since(1, "Not", (1, 1), not),
    since(9, "Where", (3, 3), choose),
    since(9, "IsNaN", (1, 1), |_| predicate(f32::is_nan, f64::is_nan)),
    since(10, "IsInf", (1, 1), is_infinite),
];

type Compare = fn(&Value, &Value, &ExecContext<'_>) -> Result<Value, Error>;

fn compare(f: Compare) -> Result<OpFn, Error> {
    Ok(Box::new(move |args, cx| Ok(vec![f(args.get(0)?, args.get(1)?, cx)?])))
}

fn equal(a: &Value, b: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if a.ty() == ElementType::Bool {
        return zip(a, b, cx, |a: bool, b: bool| a == b);
    }
    with_numbers!(*a, T => zip(a, b, cx, (|a: T, b: T| a == b) as fn(T, T) -> bool))
}

fn logic(f: fn(bool, bool) -> bool) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| Ok(vec![zip_into(args.take(0)?, args.take(1)?, cx, f)?])))
}

fn not(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| Ok(vec![map_into(args.take(0)?, cx, |x: bool| !x)?])))
}

fn is_infinite(node: &Node<'_>) -> Result<OpFn, Error> {
    let (negative, positive) = (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?);
    predicate(
        move |x| x.is_infinite() && if x > 0.0 { positive } else { negative },
        move |x| x.is_infinite() && if x > 0.0 { positive } else { negative },
    )
}

fn choose(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let (condition, a, b) = (args.get(0)?, args.get(1)?, args.get(2)?);
        let out = shape(condition.dims(), &shape(a.dims(), b.dims())?)?;
        let choices = condition.elements::<bool>()?;
        with_elements!(a, |first| {
            let second = same_type(first, b)?;
            let chosen = cx.output(&out)?.append(|chosen| {
                runs(&out, [condition.dims(), a.dims(), b.dims()], cx, |run| {
                    let ([c, i, j], [dc, di, dj]) = (run.starts, run.steps);
                    chosen.extend((0..run.len).map(|place| {
                        if choices[c + place * dc] { first[i + place * di] } else { second[j + place * dj] }
                    }));
                })
            })?;
            Ok(vec![chosen])
        })
    }))
}

/// The elements of `value`, which are to be of the same type as `_like`.
fn same_type<'a, T: crate::tensor::element::Element>(_like: &[T], value: &'a Value) -> Result<&'a [T], Error> {
    value.elements::<T>()
}
