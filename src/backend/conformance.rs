//! Conformance checks for backends: they test what the engine relies on, and any backend's author can run them.
//!
//! ```
//! # graphpool::doctest(|| {
//! # use graphpool::backend::{Backend, BackendGraph, LoadRequest};
//! # use graphpool::nn::{Encoding, Error, Target};
//! # struct Mine;
//! # impl Backend for Mine {
//! #     fn name(&self) -> &str { "mine" }
//! #     fn supports(&self, _: Encoding, _: Target) -> bool { true }
//! #     fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> { panic!("always") }
//! # }
//! use graphpool::nn::conformance::Sample;
//!
//! let model = b"the bytes of a small model".to_vec();
//! let report = Sample::new(model, Encoding::Onnx, Target::Cpu, vec![]).run(&Mine);
//! // In the test of a correct backend: `report.assert()`.
//! assert!(report.failures().iter().any(|failure| failure.contains("panicked")));
//! # });
//! ```

mod report;
mod sample;
mod steps;

pub use report::Report;
pub use sample::Sample;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use report::{ensure, kind};

use crate::backend::{
    Backend, BackendContext, CancelToken, ComputeControl, ErrorKind, LoadRequest, TensorDescription, TensorType,
};

impl Sample {
    /// Runs every check. A panic of the backend is caught and reported as a failure.
    pub fn run(&self, backend: &dyn Backend) -> Report {
        let mut report = Report::default();
        let mut check = |name: &str, f: &dyn Fn() -> Result<(), String>| {
            report.checks += 1;
            let failure = match catch_unwind(AssertUnwindSafe(f)) {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => failure,
                Err(_) => "the backend panicked".to_owned(),
            };
            report.failures.push(format!("{name}: {failure}"));
        };
        check("supports says what load does", &|| self.supports(backend));
        check("bytes that are no model are refused", &|| self.junk(backend));
        check("the model and its inputs fit each other", &|| self.described(backend));
        check("outputs are those of the inputs, and always the same", &|| self.outputs_of(backend));
        check("cleared inputs are gone, and outputs can be taken out", &|| self.cleared(backend));
        check("nothing can be read or computed too soon", &|| self.too_soon(backend));
        check("contexts go on when their graph is dropped, and are strangers", &|| self.apart(backend));
        check("contexts on two threads compute the same", &|| self.threads(backend));
        check("a cancelled compute, or one that is late, ends", &|| self.ended(backend));
        check("memory limits are kept", &|| self.limits(backend));
        check("steps make the outputs in pieces, in each run", &|| self.in_steps(backend));
        check("a step that has failed is made again", &|| self.failed_steps(backend));
        check("the runs of two contexts are apart", &|| self.runs_apart(backend));
        report
    }

    fn supports(&self, backend: &dyn Backend) -> Result<(), String> {
        ensure(!backend.name().is_empty(), "it has no name")?;
        ensure(backend.supports(self.encoding, self.target), "it says that it does not take the model")?;
        self.load(backend).map(drop)
    }

    fn junk(&self, backend: &dyn Backend) -> Result<(), String> {
        let half = self.model.get(..self.model.len() / 2).unwrap_or_default();
        let noise: Vec<u8> = (0..997_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for (what, bytes) in [("nothing", &[][..]), ("noise", &*noise), ("half of the model", half)] {
            let loaded = backend.load(&LoadRequest::new(&[bytes], self.encoding, self.target));
            ensure(loaded.is_err(), &format!("{what} is taken for a model"))?;
        }
        Ok(())
    }

    fn described(&self, backend: &dyn Backend) -> Result<(), String> {
        let graph = self.load(backend)?;
        let inputs = graph.inputs();
        let fit =
            inputs.len() >= self.inputs.len() && inputs.iter().skip(self.inputs.len()).all(|input| input.optional);
        ensure(fit, &format!("{} inputs, {} tensors", inputs.len(), self.inputs.len()))?;
        for (index, (described, given)) in inputs.iter().zip(&self.inputs).enumerate() {
            ensure(
                described.accepts(given.view()),
                &format!("input {index} is {described:?}, not what the sample has"),
            )?;
        }
        let is_row = |input: &TensorDescription| {
            input.ty == Some(TensorType::U8) && input.dimensions.as_deref().is_none_or(|sizes| sizes == [None])
        };
        let strings = inputs.iter().filter(|input| input.byte_string).all(is_row);
        ensure(strings, "a string of bytes is not a row of u8 of any length")?;
        ensure(!graph.outputs().is_empty(), "it has no outputs")?;
        let outputs = self.infer(&mut *self.open(backend)?, self.count(&*graph))?;
        for (index, (described, got)) in graph.outputs().iter().zip(&outputs).enumerate() {
            ensure(described.accepts(got.view()), &format!("output {index} is {described:?}, not what it computes"))?;
        }
        Ok(())
    }

    fn outputs_of(&self, backend: &dyn Backend) -> Result<(), String> {
        let count = self.count(&*self.load(backend)?);
        let mut context = self.open(backend)?;
        let first = self.infer(&mut *context, count)?;
        if let Some(expected) = &self.outputs {
            ensure(first == *expected, "they are not those to expect")?;
        }
        ensure(self.infer(&mut *context, count)? == first, "they differ the second time")?;
        // A context keeps its inputs.
        context.compute(&ComputeControl::default()).map_err(|error| error.to_string())?;
        let again = context.output(0).map(|view| view.to_owned()).map_err(|error| error.to_string())?;
        ensure(first.first() == Some(&again), "they differ where the inputs were not set again")
    }

    fn cleared(&self, backend: &dyn Backend) -> Result<(), String> {
        let graph = self.load(backend)?;
        let count = self.count(&*graph);
        let open = || graph.init_context().map_err(|error| error.to_string());
        let compute = |context: &mut dyn BackendContext| context.compute(&ComputeControl::default());
        let mut context = open()?;
        let new = context.memory();
        self.fill(&mut *context)?;
        let filled = context.memory();
        context.clear_inputs();
        ensure(filled <= new || context.memory() < filled, "cleared inputs still count as memory")?;
        let first = self.infer(&mut *context, count)?;
        let taken = (0..count).map(|index| context.take_output(index)).collect::<Result<Vec<_>, _>>();
        ensure(taken.as_ref() == Ok(&first), "the outputs that are taken out are not those that were computed")?;
        compute(&mut *context).map_err(|error| format!("without its outputs it computes nothing: {error}"))?;
        context.clear_inputs();
        ensure(context.output(0).is_ok_and(|output| output == first[0].view()), "the outputs are cleared, too")?;
        // A new context shows what an input that is left out means: an error, or a default of the model's.
        for left_out in 0..self.inputs.len() {
            let infer = |context: &mut dyn BackendContext| {
                for (index, input) in self.inputs.iter().enumerate().filter(|(index, _)| *index != left_out) {
                    context.set_input(index, input.view())?;
                }
                compute(context)?;
                (0..count).map(|index| context.take_output(index)).collect::<Result<Vec<_>, _>>()
            };
            self.fill(&mut *context)?;
            context.clear_inputs();
            let (cleared, new) = (infer(&mut *context), infer(&mut *open()?));
            let same = match (&cleared, &new) {
                (Err(cleared), Err(new)) => cleared.kind() == new.kind(),
                (cleared, new) => cleared == new,
            };
            ensure(same, &format!("input {left_out} has an effect after it was cleared"))?;
        }
        Ok(())
    }

    fn too_soon(&self, backend: &dyn Backend) -> Result<(), String> {
        let graph = self.load(backend)?;
        let mut context = graph.init_context().map_err(|error| error.to_string())?;
        let outputs = || graph.outputs().iter().enumerate().filter(|(_, output)| !output.optional);
        let none = |context: &dyn BackendContext| {
            let mut computed = outputs().filter(|(_, output)| !output.before_compute);
            computed.all(|(index, _)| kind(context.output(index)) == Some(ErrorKind::InvalidArgument))
        };
        ensure(none(&*context), "an output before any compute")?;
        if !self.inputs.is_empty() {
            let computed = context.compute(&ComputeControl::default());
            ensure(kind(computed) == Some(ErrorKind::InvalidArgument), "a compute without its inputs")?;
        }
        self.fill(&mut *context)?;
        ensure(none(&*context), "an output before any compute, of inputs alone")?;
        for (index, described) in outputs().filter(|(_, output)| output.before_compute) {
            let shown = context.output(index).is_ok_and(|output| described.accepts(output));
            ensure(shown, &format!("output {index} cannot be read when the inputs are set"))?;
        }
        // The context works as before the failed call.
        self.infer(&mut *context, 1).map(drop)
    }

    fn apart(&self, backend: &dyn Backend) -> Result<(), String> {
        let graph = self.load(backend)?;
        let outputs = self.count(&*graph);
        let [mut one, two] =
            [graph.init_context(), graph.init_context()].map(|context| context.map_err(|error| error.to_string()));
        drop(graph);
        let one = one.as_deref_mut().map_err(|error| error.clone())?;
        self.infer(one, 1)?;
        let two = two?;
        ensure((0..outputs).all(|index| two.output(index).is_err()), "one context shows the outputs of another")
    }

    fn threads(&self, backend: &dyn Backend) -> Result<(), String> {
        let graph = self.load(backend)?;
        let infer = || {
            let mut context = graph.init_context().map_err(|error| error.to_string())?;
            (0..4).map(|_| self.infer(&mut *context, 1)).collect::<Result<Vec<_>, _>>()
        };
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(infer);
            (infer(), other.join().unwrap_or_else(|_| Err("the backend panicked".to_owned())))
        });
        ensure(one? == two?, "they do not")
    }

    fn ended(&self, backend: &dyn Backend) -> Result<(), String> {
        let mut context = self.open(backend)?;
        self.fill(&mut *context)?;
        let cancel = CancelToken::default();
        cancel.cancel();
        let cancelled = ComputeControl::default().with_cancel(cancel);
        let late = ComputeControl::default().with_deadline(Instant::now());
        ensure(kind(context.compute(&cancelled)) == Some(ErrorKind::RuntimeError), "cancelled, it goes on")?;
        ensure(kind(context.compute(&late)) == Some(ErrorKind::Timeout), "late, it goes on")?;
        context.compute(&ComputeControl::default()).map_err(|error| format!("and then it is lost: {error}"))
    }

    fn limits(&self, backend: &dyn Backend) -> Result<(), String> {
        let memory = self.load(backend)?.memory();
        if memory > 0 {
            let parts: [&[u8]; 1] = [&self.model];
            let request = LoadRequest::new(&parts, self.encoding, self.target);
            let loaded = backend.load(&request.with_memory_limit(0));
            ensure(kind(loaded.map(drop)) == Some(ErrorKind::TooLarge), "a graph with no room for it is loaded")?;
        }
        let mut context = self.open(backend)?;
        self.fill(&mut *context)?;
        let control = ComputeControl::default().with_memory_limit(0);
        ensure(kind(context.compute(&control)) == Some(ErrorKind::TooLarge), "a compute with no room for it goes on")
    }
}
