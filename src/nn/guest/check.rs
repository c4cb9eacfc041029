//! Validation of a guest's tensors, names and configurations before a backend sees them.

use std::collections::HashMap;
use std::{fmt, mem};

use crate::backend::Shape;
use crate::nn::{Error, ErrorKind, Limits, TensorDescription, TensorView};

/// Identifies an input or output of a graph: by index (`0`) or by name (`"logits"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorId<'a> {
    /// The index, from 0.
    Index(u32),
    /// The name in the model. If several have the same name, it means the first.
    Name(&'a str),
}

impl From<u32> for TensorId<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for TensorId<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for TensorId<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

/// The index of `id` among `descriptions`, which are the graph's `what`: "input" or "output".
pub(crate) fn place<'d>(
    call: &str,
    what: &str,
    id: TensorId<'_>,
    descriptions: &'d [TensorDescription],
) -> Result<(usize, &'d TensorDescription), Error> {
    match id {
        TensorId::Index(index) => {
            let index = index as usize;
            descriptions.get(index).map(|description| (index, description)).ok_or_else(|| {
                let count = descriptions.len();
                Error::invalid_argument(format!("{call}: there is no {what} {index}; the graph has {count}"))
            })
        }
        TensorId::Name(name) => {
            descriptions.iter().enumerate().find(|(_, description)| description.name == name).ok_or_else(|| {
                let (name, count) = (Quoted(name), descriptions.len());
                Error::invalid_argument(format!("{call}: no {what} is named {name}; the graph has {count}"))
            })
        }
    }
}

/// Checks `tensor` against the guest's limits and against `description`.
pub(crate) fn input(
    call: &str,
    limits: &Limits,
    index: usize,
    description: &TensorDescription,
    tensor: TensorView<'_>,
) -> Result<(), Error> {
    let (rank, bytes) = (tensor.dimensions().len(), tensor.data().len());
    let (max_rank, max_bytes) = (limits.max_tensor_rank(), limits.max_tensor_bytes());
    if rank > max_rank {
        let why = format!("{call}: input {index} has {rank} dimensions; the limit is {max_rank}");
        return Err(Error::limit(ErrorKind::TooLarge, why));
    }
    if bytes > max_bytes {
        let why = format!("{call}: input {index} has {bytes} bytes; the limit is {max_bytes}");
        return Err(Error::limit(ErrorKind::TooLarge, why));
    }
    if description.accepts(tensor) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "{call}: input {index} takes {} {}; the tensor is {} {}",
        description.ty.map_or_else(|| "any type".into(), |ty| ty.to_string()),
        Expected(description.dimensions.as_deref()),
        tensor.ty(),
        Shape(tensor.dimensions()),
    )))
}

/// The number of names of one call that are looked for one by one; for more, the names are hashed.
const SEARCHES: usize = 16;

/// Checks the inputs of one call, each with its index, as [`input`] does, and that each index occurs once.
pub(crate) fn inputs<'a, I: Into<TensorId<'a>>, T: Into<TensorView<'a>>>(
    call: &str,
    limits: &Limits,
    descriptions: &[TensorDescription],
    inputs: impl IntoIterator<Item = (I, T)>,
) -> Result<Vec<(usize, TensorView<'a>)>, Error> {
    let mut given = vec![false; descriptions.len()];
    let (mut searches, mut names) = (0, HashMap::new());
    let check = |(id, tensor): (I, T)| {
        let (id, tensor) = (id.into(), tensor.into());
        let known = match id {
            TensorId::Index(_) => None,
            TensorId::Name(name) => {
                searches += 1;
                // A guest may give as many names as its model has inputs.
                if searches == SEARCHES {
                    for (index, input) in (0_u32..).zip(descriptions) {
                        // The first of that name.
                        names.entry(&*input.name).or_insert(index);
                    }
                }
                names.get(name).copied().map(TensorId::Index)
            }
        };
        let (index, description) = place(call, "input", known.unwrap_or(id), descriptions)?;
        if mem::replace(&mut given[index], true) {
            return Err(Error::invalid_argument(format!("{call}: input {index} is given twice")));
        }
        input(call, limits, index, description, tensor)?;
        Ok((index, tensor))
    };
    inputs.into_iter().map(check).collect()
}

/// Displays a name in quotes, cut to a length that fits a message with escapes counted, because a guest chooses it.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        let mut room = MOST;
        let fits = |character: &char| {
            let shown = character.escape_debug().map(char::len_utf8).sum();
            room.checked_sub(shown).inspect(|left| room = *left).is_some()
        };
        let length = self.0.chars().take_while(fits).map(char::len_utf8).sum();
        let start = self.0.get(..length).unwrap_or_default();
        write!(f, "{start:?}{}", if start.len() < self.0.len() { "…" } else { "" })
    }
}

/// Displays the sizes of a description as [`Shape`] does, with `?` for a size that may vary.
struct Expected<'a>(Option<&'a [Option<u32>]>);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(sizes) = self.0 else { return f.write_str("of any shape") };
        f.write_str("[")?;
        for (place, size) in sizes.iter().take(8).enumerate() {
            if place > 0 {
                f.write_str("×")?;
            }
            match size {
                Some(size) => write!(f, "{size}")?,
                None => f.write_str("?")?,
            }
        }
        if sizes.len() > 8 {
            write!(f, "×… {} in all", sizes.len())?;
        }
        f.write_str("]")
    }
}

/// Checks the length of a name before it is looked up.
pub(crate) fn check_name(call: &str, name: &str, limits: &Limits) -> Result<(), Error> {
    let (bytes, bound) = (name.len(), limits.max_name_bytes());
    if bytes <= bound {
        return Ok(());
    }
    let why = format!("{call}: the name {} has {bytes} bytes; the limit is {bound}", Quoted(name));
    Err(Error::limit(ErrorKind::TooLarge, why))
}

/// Checks the length of a configuration.
pub(crate) fn check_config(call: &str, config: &str, limits: &Limits) -> Result<(), Error> {
    let (bytes, bound) = (config.len(), limits.max_config_bytes());
    if bytes <= bound {
        return Ok(());
    }
    let why = format!("{call}: the configuration has {bytes} bytes; the limit is {bound}");
    Err(Error::limit(ErrorKind::TooLarge, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::TensorType;

    fn description(name: &str, dimensions: Option<Vec<Option<u32>>>) -> TensorDescription {
        TensorDescription::new(name, TensorType::U8, dimensions)
    }

    fn check(limits: &Limits, dimensions: &[u32], expected: Option<Vec<Option<u32>>>) -> Result<(), Error> {
        let data = vec![0; dimensions.iter().product::<u32>() as usize];
        let tensor = TensorView::new(dimensions, TensorType::U8, &data).unwrap();
        input("set_input", limits, 0, &description("x", expected), tensor)
    }

    #[test]
    fn a_tensor_is_found_by_index_and_by_name_and_not_past_the_end() {
        let inputs = [description("a", None), description("b", None), description("b", None)];
        assert_eq!(place("c", "input", TensorId::from(2), &inputs).unwrap().0, 2);
        assert_eq!(place("c", "input", TensorId::from("b"), &inputs).unwrap().0, 1);
        for id in [TensorId::Index(3), TensorId::Index(u32::MAX), TensorId::Name(""), TensorId::Name("A")] {
            assert_eq!(place("c", "input", id, &inputs).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn many_inputs_by_name_are_found_like_few() {
        let names: Vec<String> = (0..100).map(|number| format!("n{}", number.min(90))).collect();
        let descriptions: Vec<_> = names.iter().map(|name| description(name, None)).collect();
        let tensor = TensorView::new(&[1], TensorType::U8, &[0]).unwrap();
        let find = |names: &[String]| {
            let given = names.iter().map(|name| (&**name, tensor));
            let found = inputs("infer", &Limits::default(), &descriptions, given)?;
            Ok::<_, Error>(found.into_iter().map(|(index, _)| index).collect::<Vec<_>>())
        };
        assert_eq!(find(&names[..91]), Ok((0..91).collect()));
        // The first of several of one name, which is then given twice.
        assert_eq!(find(&names).unwrap_err().message(), "infer: input 90 is given twice");
        let unknown: Vec<_> = names[..50].iter().cloned().chain(["none".to_owned()]).collect();
        let told = "infer: no input is named \"none\"; the graph has 100";
        assert_eq!(find(&unknown).unwrap_err().message(), told);
    }

    #[test]
    fn fixed_sizes_must_be_equal_and_open_ones_need_not() {
        let limits = Limits::default();
        assert!(check(&limits, &[2, 3], None).is_ok());
        assert!(check(&limits, &[2, 3], Some(vec![None, Some(3)])).is_ok());
        let error = check(&limits, &[2, 4], Some(vec![None, Some(3)])).unwrap_err();
        assert_eq!(error.message(), "set_input: input 0 takes u8 [?×3]; the tensor is u8 [2×4]");
        assert!(check(&limits, &[2], Some(vec![None, Some(3)])).is_err());
        assert!(check(&limits, &[], Some(vec![])).is_ok());
    }

    #[test]
    fn another_type_is_refused() {
        let tensor = TensorView::new(&[1], TensorType::F32, &[0; 4]).unwrap();
        let error = input("set_input", &Limits::default(), 4, &description("x", None), tensor).unwrap_err();
        assert_eq!(error.message(), "set_input: input 4 takes u8 of any shape; the tensor is fp32 [1]");
    }

    #[test]
    fn rank_and_bytes_may_be_at_their_bounds_and_not_past_them() {
        let limits = Limits::default().with_max_tensor_rank(2).with_max_tensor_bytes(6);
        assert!(check(&limits, &[2, 3], None).is_ok());
        for (dimensions, words) in [(&[1, 1, 1][..], "3 dimensions; the limit is 2"), (&[7], "7 bytes; the limit is 6")]
        {
            let error = check(&limits, dimensions, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.message().contains(words), "{error}");
        }
    }

    #[test]
    fn a_long_name_is_quoted_in_part() {
        assert_eq!(Quoted("a\"b").to_string(), r#""a\"b""#);
        let long = "é".repeat(1_000_000);
        assert!(Quoted(&long).to_string().len() < 100);
        let escaped = "\u{1}".repeat(1_000_000);
        assert!(Quoted(&escaped).to_string().len() < 100);
    }
}
