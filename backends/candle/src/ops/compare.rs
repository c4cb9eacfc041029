//! Comparisons and logic: Equal, Less, Greater, LessOrEqual, GreaterOrEqual, And, Or, Xor, Not, Where, IsNaN, IsInf.

use crate::compute::context::ExecContext;
use crate::math::loops;
use crate::ops::activation::{predicate, unary};
use crate::ops::broadcast::{elements_like, map_into, runs, shape, zip, zip_into};
use crate::ops::elementwise::{Binary, with_numbers};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::element::{ElementType, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// A comparison with a loop of its own for f32, i64 and i32. The other types call it by pointer, so that all comparisons
/// share one loop a type.
macro_rules! comparison {
    ($a:expr, $b:expr, $cx:expr, $operator:tt) => {
        match $a.ty() {
            ElementType::F32 => zip($a, $b, $cx, |a: f32, b: f32| a $operator b),
            ElementType::I64 => zip($a, $b, $cx, |a: i64, b: i64| a $operator b),
            ElementType::I32 => zip($a, $b, $cx, |a: i32, b: i32| a $operator b),
            _ => with_numbers!(*$a, T => zip($a, $b, $cx, (|a: T, b: T| a $operator b) as fn(T, T) -> bool)),
        }
    };
}

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "Equal", (2, 2), |_| compare(equal)).device(form!(|_| arithmetic::compare(Compare::Equal))),
    since(7, "Less", (2, 2), |_| compare(|a, b, cx| comparison!(a, b, cx, <)))
        .device(form!(|_| arithmetic::compare(Compare::Less))),
    since(7, "Greater", (2, 2), |_| compare(|a, b, cx| comparison!(a, b, cx, >)))
        .device(form!(|_| arithmetic::compare(Compare::Greater))),
    since(12, "LessOrEqual", (2, 2), |_| compare(|a, b, cx| comparison!(a, b, cx, <=)))
        .device(form!(|_| arithmetic::compare(Compare::LessOrEqual))),
    since(12, "GreaterOrEqual", (2, 2), |_| compare(|a, b, cx| comparison!(a, b, cx, >=)))
        .device(form!(|_| arithmetic::compare(Compare::GreaterOrEqual))),
    since(7, "And", (2, 2), |_| logic(|a, b, cx| zip_into(a, b, cx, |a: bool, b: bool| a & b)))
        .device(form!(|_| arithmetic::logic(Logic::And))),
    since(7, "Or", (2, 2), |_| logic(|a, b, cx| zip_into(a, b, cx, |a: bool, b: bool| a | b)))
        .device(form!(|_| arithmetic::logic(Logic::Or))),
    since(7, "Xor", (2, 2), |_| logic(|a, b, cx| zip_into(a, b, cx, |a: bool, b: bool| a ^ b)))
        .device(form!(|_| arithmetic::logic(Logic::Xor))),
    since(1, "Not", (1, 1), |_| unary(|value, cx| map_into(value, cx, |x: bool| !x))).device(form!(arithmetic::not)),
    since(9, "Where", (3, 3), select).device(form!(arithmetic::select)),
    since(9, "IsNaN", (1, 1), |_| predicate(f32::is_nan, f64::is_nan)).device(form!(activation::is_nan)),
    since(10, "IsInf", (1, 1), is_infinite).device(form!(arithmetic::is_infinite)),
];

type Compare = fn(&Value, &Value, &ExecContext<'_>) -> Result<Value, Error>;

fn compare(f: Compare) -> Result<OpFn, Error> {
    Ok(Box::new(move |args, cx| Ok(values![f(args.get(0)?, args.get(1)?, cx)?])))
}

fn equal(a: &Value, b: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if a.ty() == ElementType::Bool {
        return zip(a, b, cx, |a: bool, b: bool| a == b);
    }
    comparison!(a, b, cx, ==)
}

fn logic(f: Binary) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| Ok(values![f(args.take(0)?, args.take(1)?, cx)?])))
}

fn is_infinite(node: &Node<'_>) -> Result<OpFn, Error> {
    let (negative, positive) = (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?);
    predicate(
        move |x| x.is_infinite() && if x > 0.0 { positive } else { negative },
        move |x| x.is_infinite() && if x > 0.0 { positive } else { negative },
    )
}

fn select(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let (condition, a, b) = (args.get(0)?, args.get(1)?, args.get(2)?);
        let out = shape(condition.dims(), &shape(a.dims(), b.dims())?)?;
        let conditions = condition.elements::<bool>()?;
        with_elements!(a, |first| {
            let second = elements_like(first, b)?;
            let selected = cx.output(&out)?.append(|selected| {
                runs(&out, [condition.dims(), a.dims(), b.dims()], cx, |run| {
                    let ([c, i, j], [dc, di, dj]) = (run.starts, run.steps);
                    let len = run.len;
                    let pick = |condition: bool, a, b| if condition { a } else { b };
                    if dc == 0 {
                        // One condition for the whole run.
                        let (from, start, step) = if conditions[c] { (first, i, di) } else { (second, j, dj) };
                        match step {
                            0 => selected.extend(std::iter::repeat_n(from[start], len)),
                            _ => selected.extend_from_slice(&from[start..start + len]),
                        }
                        return;
                    }
                    let conditions = conditions[c..c + len].iter();
                    match (di, dj) {
                        (0, 0) => {
                            let (a, b) = (first[i], second[j]);
                            loops::extend(selected, conditions.map(move |&c| pick(c, a, b)));
                        }
                        (0, _) => {
                            let a = first[i];
                            let pairs = conditions.zip(&second[j..j + len]);
                            loops::extend(selected, pairs.map(move |(&c, &b)| pick(c, a, b)));
                        }
                        (_, 0) => {
                            let b = second[j];
                            let pairs = conditions.zip(&first[i..i + len]);
                            loops::extend(selected, pairs.map(move |(&c, &a)| pick(c, a, b)));
                        }
                        _ => {
                            let triples = conditions.zip(&first[i..i + len]).zip(&second[j..j + len]);
                            loops::extend(selected, triples.map(move |((&c, &a), &b)| pick(c, a, b)));
                        }
                    }
                })
            })?;
            Ok(values![selected])
        })
    }))
}
