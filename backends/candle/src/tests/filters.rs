//! `DeformConv`, `Det` and the rarer modes of Resize, with valid and invalid inputs.

use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use crate::tests::builder::{
    F32, Model, cancelled, close, counting, float, info, int, ints, kernel, names, one, string, tensor,
};
use graphpool::backend::{Error, ErrorKind};

fn deformed(values: &[Value], attributes: &[AttributeProto]) -> Result<Vec<Value>, Error> {
    let mut model = Model::new(22).output("y", F32);
    let names = names('i', values.len());
    model.graph.input.extend(names.split(' ').map(|name| info(name, F32, None)));
    model.node("DeformConv", &names, "y", attributes).run(values.to_vec())
}

#[test]
fn taps_lie_where_their_offsets_say() {
    let x = counting(&[1, 1, 2, 2]);
    let at = |y: f32, x_offset: f32| {
        let offsets = tensor(&[1, 2, 2, 2], &[y, y, y, y, x_offset, x_offset, x_offset, x_offset]);
        deformed(&[x.clone(), tensor(&[1, 1, 1, 1], &[1.0]), offsets], &[]).unwrap()[0]
            .elements::<f32>()
            .unwrap()
            .to_vec()
    };
    assert_eq!(at(0.0, 0.0), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(at(0.0, 1.0), [1.0, 0.0, 3.0, 0.0]);
    // Half of an element, and half of the zero outside.
    assert_eq!(at(0.0, 0.5), [0.5, 0.5, 2.5, 1.5]);
    assert_eq!(at(0.0, -0.5), [0.0, 0.5, 1.0, 2.5]);
    for far in [1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert_eq!(at(far, 0.0), [0.0; 4]);
        assert_eq!(at(0.0, far), [0.0; 4]);
    }
}

#[test]
fn a_deformed_convolution_refuses_what_does_not_fit() {
    let dims: [[&[usize]; 3]; 7] = [
        [&[1, 1, 2, 2], &[1, 1, 1, 1], &[1, 2, 2, 1]],
        [&[1, 1, 2, 2], &[1, 1, 1, 1], &[1, 1, 2, 2]],
        [&[1, 1, 2, 2], &[1, 2, 1, 1], &[1, 2, 2, 2]],
        [&[1, 1, 2, 2], &[1, 1, 3, 3], &[1, 18, 1, 1]],
        [&[2, 1, 2, 2], &[1, 1, 1, 1], &[1, 2, 2, 2]],
        [&[1, 1, 2, 2], &[1, 1, 0, 1], &[1, 0, 2, 2]],
        [&[1, 1], &[1, 1], &[1, 2]],
    ];
    for dims in dims {
        let error = deformed(&dims.map(counting), &[]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::UnsupportedOperation),
            "{dims:?}: {error}"
        );
    }
    let values = [counting(&[1, 2, 2, 2]), counting(&[2, 1, 1, 1]), counting(&[1, 4, 2, 2])];
    assert!(deformed(&values, &[int("group", 2), int("offset_group", 2)]).is_ok());
    for (name, value) in
        [("offset_group", 0), ("offset_group", i64::MIN), ("offset_group", i64::MAX), ("group", 0), ("group", -1)]
    {
        let attributes = [int("group", 2), int("offset_group", 2)]
            .map(|other| if other.name.as_deref() == Some(name) { int(name, value) } else { other });
        assert_eq!(deformed(&values, &attributes).unwrap_err().kind(), ErrorKind::InvalidEncoding, "{name} {value}");
    }
    for (name, list) in [("pads", [1 << 40; 4]), ("pads", [-1; 4]), ("strides", [0; 4]), ("dilations", [i64::MAX; 4])] {
        let list = if name == "pads" { &list[..] } else { &list[..2] };
        let attributes = [int("group", 2), int("offset_group", 2), ints(name, list)];
        assert!(deformed(&values, &attributes).is_err(), "{name}");
    }
    let nothing = [counting(&[0, 1, 2, 2]), counting(&[1, 1, 1, 1]), counting(&[0, 2, 2, 2])];
    assert_eq!(deformed(&nothing, &[]).unwrap()[0].dims(), [0, 1, 2, 2]);
}

#[test]
fn a_determinant_is_of_square_matrices() {
    let det = |x: Value| one(11, "Det", "", &[]).run(vec![x]);
    let (dims, found) =
        one(11, "Det", "", &[]).floats(vec![tensor(&[2, 2, 2], &[0.0, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0])]);
    assert_eq!(dims, [2]);
    close(&found, &[-6.0, 0.0]);
    assert_eq!(det(tensor(&[0, 0], &[])).unwrap()[0].elements::<f32>().unwrap(), [1.0]);
    assert_eq!(det(tensor(&[0, 3, 3], &[])).unwrap()[0].dims(), [0]);
    assert!(det(tensor(&[1, 1], &[f32::NAN])).unwrap()[0].elements::<f32>().unwrap()[0].is_nan());
    for dims in [&[][..], &[3], &[2, 3], &[1 << 20, 0]] {
        assert_eq!(det(counting(dims)).unwrap_err().kind(), ErrorKind::InvalidArgument, "{dims:?}");
    }
}

/// A Resize of `x` by scales or to sizes.
fn resized(
    x: Value,
    by: Result<&[f32], &[i64]>,
    roi: &[f32],
    attributes: &[AttributeProto],
) -> Result<Vec<Value>, Error> {
    let mut model = one(18, "Resize", if by.is_ok() { "r s" } else { "r _ s" }, attributes);
    model = model.weights("r", &[roi.len() as i64], roi);
    model = match by {
        Ok(scales) => model.weights("s", &[scales.len() as i64], scales),
        Err(sizes) => model.integers("s", &[sizes.len() as i64], sizes),
    };
    model.run(vec![x])
}

fn line(found: Result<Vec<Value>, Error>) -> Vec<f32> {
    found.unwrap()[0].elements::<f32>().unwrap().to_vec()
}

#[test]
fn a_filter_takes_all_that_an_output_covers() {
    let antialias = |mode: &str| [string("mode", mode), int("antialias", 1)];
    let x = || tensor(&[8], &[8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0]);
    // Without the filter, an output that covers four inputs depends on two of them.
    let found = line(resized(x(), Err(&[2]), &[], &antialias("linear")));
    assert!(found.iter().all(|&x| x > 0.5 && x < 3.0) && (found[0] - found[1]).abs() < 1e-5, "{found:?}");
    // A constant input stays constant for every size.
    for mode in ["linear", "cubic"] {
        for size in [1, 2, 3, 7, 8, 20] {
            close(
                &line(resized(tensor(&[8], &[3.0; 8]), Err(&[size]), &[], &antialias(mode))),
                &vec![3.0; size as usize],
            );
        }
    }
}

#[test]
fn a_crop_is_filled_where_it_leaves_the_input() {
    let crop = |from: f32, to: f32| {
        let attributes = [
            string("mode", "linear"),
            string("coordinate_transformation_mode", "tf_crop_and_resize"),
            float("extrapolation_value", -1.0),
        ];
        resized(counting(&[5]), Err(&[3]), &[from, to], &attributes)
    };
    assert_eq!(line(crop(0.0, 1.0)), [0.0, 2.0, 4.0]);
    assert_eq!(line(crop(0.5, 1.5)), [2.0, 4.0, -1.0]);
    assert_eq!(line(crop(1.0, 0.0)), [4.0, 2.0, 0.0]);
    for end in [f32::NAN, f32::INFINITY, 1e38, -1e38] {
        assert_eq!(line(crop(end, end)), [-1.0; 3]);
    }
    let attributes = [string("coordinate_transformation_mode", "tf_crop_and_resize")];
    for roi in [&[][..], &[0.0], &[0.0, 1.0, 0.0]] {
        assert_eq!(
            resized(counting(&[5]), Err(&[3]), roi, &attributes).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
    }
}

#[test]
fn a_kept_aspect_ratio_is_that_of_one_axis() {
    let dims = |policy: &str, sizes: &[i64]| {
        resized(counting(&[4, 2]), Err(sizes), &[], &[string("keep_aspect_ratio_policy", policy)])
            .map(|found| found[0].dims().to_vec())
    };
    assert_eq!(dims("not_larger", &[8, 8]).unwrap(), [8, 4]);
    assert_eq!(dims("not_smaller", &[8, 8]).unwrap(), [16, 8]);
    assert_eq!(dims("not_larger", &[0, 8]).unwrap(), [0, 0]);
    assert_eq!(dims("larger", &[8, 8]).unwrap_err().kind(), ErrorKind::InvalidEncoding);
    for sizes in [&[-1, 8][..], &[8], &[i64::MIN, 1]] {
        assert_eq!(dims("not_larger", sizes).unwrap_err().kind(), ErrorKind::InvalidArgument, "{sizes:?}");
    }
    for sizes in [[i64::MAX, 1], [1 << 40, 1 << 40]] {
        assert_eq!(dims("not_smaller", &sizes).unwrap_err().kind(), ErrorKind::TooLarge, "{sizes:?}");
    }
    // An empty input gives an empty output.
    let nothing = resized(counting(&[0]), Err(&[3]), &[], &[string("keep_aspect_ratio_policy", "not_larger")]);
    assert_eq!(nothing.unwrap()[0].dims(), [0]);
}

#[test]
fn filters_of_any_reach_stay_within_the_budget() {
    let attributes = [string("mode", "cubic"), int("antialias", 1)];
    for scale in [1e-30, 1e-7, 1e7, 1e30, f32::NAN, 0.0, -1.0] {
        let result = resized(counting(&[1 << 10]), Ok(&[scale]), &[], &attributes);
        if let Err(error) = result {
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::TooLarge), "{scale}: {error}");
        }
    }
}

#[test]
fn filters_check_the_cancel_token_while_they_work() {
    let square = counting(&[1, 1, 1 << 10, 1 << 11]);
    let sizes = Value::new(vec![4], vec![1_i64, 1, 1 << 9, 1 << 11]).unwrap();
    let none = counting(&[0]);
    let mixed: Vec<f32> = (0..1_usize << 16).map(|index| (index * index * 7919 % 1009) as f32).collect();
    let mixed = tensor(&[1 << 8, 1 << 8], &mixed);
    let offsets = counting(&[1, 2, 1 << 10, 1 << 11]);
    let linear = [string("mode", "linear"), int("antialias", 1)];
    let cases: [(&str, Vec<Value>, &[AttributeProto]); 3] = [
        ("DeformConv", vec![square.clone(), counting(&[1, 1, 1, 1]), offsets], &[]),
        ("Det", vec![mixed], &[]),
        ("Resize", vec![square, none.clone(), none, sizes], &linear),
    ];
    for (op, values, attributes) in cases {
        let kernel = kernel(("", 22), op, values.len(), 1, attributes);
        assert_eq!(cancelled(&kernel, values.clone()).message(), "cancelled", "{op}");
    }
}
