//! Sums of 16-bit floats are computed in a wider type and rounded once.
//!
//! A sum of ones in the narrow type would end at 2048 in f16 and at 256 in bf16.

use crate::tests::builder::{F32, Model, int, ints, string, tensor};

/// ONNX's numbers of f16 and bf16.
const NARROW: [i32; 2] = [10, 16];

/// The number of elements, each of which is 1.
const ONES: usize = 4096;

/// The output `y` of a model whose inputs `a`, `b` and so on are in a narrow type.
fn narrow(ty: i32, opset: i64, inputs: &[(&[usize], &[f32])], node: impl Fn(Model) -> Model) -> Vec<f32> {
    let mut model = Model::new(opset).output("wide", F32);
    let mut values = Vec::new();
    for (name, (dims, elements)) in ('a'..).zip(inputs) {
        model = model.input(&format!("{name}32"), F32, &vec![-1; dims.len()]);
        model = model.node("Cast", &format!("{name}32"), &name.to_string(), &[int("to", i64::from(ty))]);
        values.push(tensor(dims, elements));
    }
    node(model).node("Cast", "y", "wide", &[int("to", 1)]).floats(values).1
}

#[test]
fn products_are_summed_wide_whatever_their_shape() {
    for ty in NARROW {
        for (m, n) in [(1, 1), (1, 4), (2, 1), (3, 40), (17, 33), (64, 64)] {
            let (a, b) = (vec![1.0; m * ONES], vec![1.0; ONES * n]);
            for op in ["MatMul", "Gemm"] {
                let found =
                    narrow(ty, 13, &[(&[m, ONES], &a), (&[ONES, n], &b)], |model| model.node(op, "a b", "y", &[]));
                assert_eq!(found, vec![4096.0; m * n], "{op} of {ty}, {m} by {n}");
            }
            let equation = [string("equation", "ij,jk->ik")];
            let found = narrow(ty, 13, &[(&[m, ONES], &a), (&[ONES, n], &b)], |model| {
                model.node("Einsum", "a b", "y", &equation)
            });
            assert_eq!(found, vec![4096.0; m * n], "Einsum of {ty}, {m} by {n}");
        }
        let ones = vec![1.0; 2 * ONES];
        let batches = [(&[2, 1, ONES][..], &ones[..]), (&[2, ONES, 1], &ones)];
        assert_eq!(narrow(ty, 13, &batches, |model| model.node("MatMul", "a b", "y", &[])), [4096.0; 2]);
        // An intermediate sum is out of the range of f16.
        let huge: Vec<f32> = (0..ONES).map(|index| if index < ONES / 2 { 60.0 } else { -60.0 }).collect();
        let many = vec![60.0; ONES];
        let operands = [(&[1, ONES][..], &huge[..]), (&[ONES, 1], &many)];
        assert_eq!(narrow(ty, 13, &operands, |model| model.node("MatMul", "a b", "y", &[])), [0.0]);
    }
}

#[test]
fn sums_over_one_tensor_are_wide() {
    let ones = vec![1.0; ONES];
    for ty in NARROW {
        for (op, wanted) in
            [("ReduceSum", 4096.0), ("ReduceL1", 4096.0), ("ReduceSumSquare", 4096.0), ("ReduceMean", 1.0)]
        {
            let found = narrow(ty, 11, &[(&[ONES], &ones)], |model| model.node(op, "a", "y", &[int("keepdims", 0)]));
            assert_eq!(found, [wanted], "{op} of {ty}");
            let over = [ints("axes", &[0]), int("keepdims", 0)];
            let found = narrow(ty, 11, &[(&[ONES / 2, 2], &ones)], |model| model.node(op, "a", "y", &over));
            assert_eq!(found, [if wanted > 1.0 { wanted / 2.0 } else { wanted }; 2], "{op} of {ty}");
        }
        let kernel = ints("kernel_shape", &[4096]);
        for (op, attributes, wanted) in [
            ("GlobalAveragePool", vec![], 1.0),
            ("AveragePool", vec![kernel.clone()], 1.0),
            ("LpPool", vec![kernel, int("p", 1)], 4096.0),
            ("GlobalLpPool", vec![int("p", 1)], 4096.0),
        ] {
            let found = narrow(ty, 13, &[(&[1, 1, ONES], &ones)], |model| model.node(op, "a", "y", &attributes));
            assert_eq!(found, [wanted], "{op} of {ty}");
        }
        let sums = narrow(ty, 13, &[(&[ONES], &ones)], |model| {
            model.integers("axis", &[], &[0]).node("CumSum", "a axis", "y", &[])
        });
        assert_eq!(sums.last(), Some(&4096.0), "CumSum of {ty}");
        let found =
            narrow(ty, 13, &[(&[ONES], &ones)], |model| model.node("Einsum", "a", "y", &[string("equation", "i->")]));
        assert_eq!(found, [4096.0], "Einsum of {ty}");
    }
}

#[test]
fn convolutions_and_losses_are_summed_wide() {
    let ones = vec![1.0; ONES];
    for ty in NARROW {
        for op in ["Conv", "ConvTranspose"] {
            let dims = if op == "Conv" { [1, ONES, 1] } else { [ONES, 1, 1] };
            let found =
                narrow(ty, 13, &[(&[1, ONES, 1], &ones), (&dims, &ones)], |model| model.node(op, "a b", "y", &[]));
            assert_eq!(found, [4096.0], "{op} of {ty}");
        }
        let column = [int("group", 1), ints("kernel_shape", &[4096])];
        let found = narrow(ty, 13, &[(&[1, 1, ONES], &ones), (&[1, 1, ONES], &ones)], |model| {
            model.node("Conv", "a b", "y", &column)
        });
        assert_eq!(found, [4096.0], "Conv of {ty}");
        let minus = vec![-1.0; ONES];
        let found = narrow(ty, 13, &[(&[ONES, 1], &minus)], |model| {
            model.integers("t", &[4096], &vec![0; ONES]).node(
                "NegativeLogLikelihoodLoss",
                "a t",
                "y",
                &[string("reduction", "sum")],
            )
        });
        assert_eq!(found, [4096.0], "loss of {ty}");
    }
}

#[test]
fn many_operands_and_many_updates_are_added_up_wide() {
    // The first number of each type to which adding 1 has no effect.
    for (ty, first) in [(10, 2048.0), (16, 256.0)] {
        let inputs: [(&[usize], &[f32]); 5] =
            [(&[1], &[first]), (&[1], &[1.0]), (&[1], &[1.0]), (&[1], &[1.0]), (&[1], &[1.0])];
        let of = |op: &str| narrow(ty, 13, &inputs, |model| model.node(op, "a b c d e", "y", &[]));
        assert_eq!(of("Sum"), [first + 4.0], "Sum of {ty}");
        // The tolerance of 0.3 is below 4 / 5, the error of a mean that loses the ones.
        let mean = of("Mean")[0];
        assert!((mean - (first + 4.0) / 5.0).abs() < 0.3 && mean > first / 5.0 + 0.5, "Mean of {ty}: {mean}");
        let ones = vec![1.0; ONES];
        for (op, dims) in [("ScatterND", &[4096, 1][..]), ("ScatterElements", &[4096])] {
            let found = narrow(ty, 18, &[(&[2], &[0.0, 3.0]), (&[ONES], &ones)], |model| {
                model.integers("i", dims, &vec![0; ONES]).node(op, "a i b", "y", &[string("reduction", "add")])
            });
            assert_eq!(found, [4096.0, 3.0], "{op} of {ty}");
        }
    }
}
