//! The three engines behind one trait.
//!
//! Each is set up as its documentation advises for speed: tract's model is optimized for the record's dimensions, and
//! its state is used again; rten lays weights out for its products at load.

use std::error::Error;
use std::sync::Arc;

use graphpool_candle::CandleBackend;
use graphpool::backend::{Backend, BackendContext, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Target, Tensor, TensorType};
use rten::{NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec, TypedSimpleState,
};

use crate::record::{Record, Row};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An engine with a model in it and the record's rows as its own inputs.
pub trait Engine {
    /// Runs the model on the row of this number; its outputs are kept until the next.
    fn infer(&mut self, row: usize) -> Result<()>;

    /// The output of this index.
    fn output(&self, index: usize) -> Result<Tensor>;
}

/// This crate's candle backend.
pub struct Graphpool {
    context: Box<dyn BackendContext>,
    rows: Vec<Vec<(u32, Tensor)>>,
}

impl Graphpool {
    pub fn open(record: &Record) -> Result<Self> {
        let parts = [record.model.as_slice()];
        let graph = CandleBackend::new().load(&LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu))?;
        Ok(Self { context: graph.init_context()?, rows: record.rows.iter().map(|row| row.inputs.clone()).collect() })
    }
}

impl Engine for Graphpool {
    fn infer(&mut self, row: usize) -> Result<()> {
        for (index, tensor) in &self.rows[row] {
            self.context.set_input(*index as usize, tensor.view())?;
        }
        Ok(self.context.compute(&ComputeControl::default())?)
    }

    fn output(&self, index: usize) -> Result<Tensor> {
        let view = self.context.output(index)?;
        Ok(Tensor::new(view.dimensions().to_vec(), view.ty(), view.data().to_vec())?)
    }
}

/// tract-onnx.
pub struct Tract {
    state: TypedSimpleState,
    rows: Vec<TVec<TValue>>,
    outputs: TVec<TValue>,
}

impl Tract {
    pub fn open(record: &Record) -> Result<Self> {
        let mut model = tract_onnx::onnx().model_for_read(&mut record.model.as_slice())?;
        for (index, tensor) in &record.rows[0].inputs {
            let dims = dims(tensor);
            model.set_input_fact(*index as usize, InferenceFact::dt_shape(datum_type(tensor.view().ty())?, dims))?;
        }
        let state = model.into_optimized()?.into_runnable()?.spawn()?;
        let rows = record
            .rows
            .iter()
            .map(|row| in_order(row)?.into_iter().map(tract_value).collect())
            .collect::<Result<_>>()?;
        Ok(Self { state, rows, outputs: TVec::new() })
    }
}

impl Engine for Tract {
    fn infer(&mut self, row: usize) -> Result<()> {
        // Cloning counts references: no data is copied.
        self.outputs = self.state.run(self.rows[row].clone())?;
        Ok(())
    }

    fn output(&self, index: usize) -> Result<Tensor> {
        let output = self.outputs.get(index).ok_or("tract has no such output")?;
        let dims: Vec<u32> = output.shape().iter().map(|&dim| dim as u32).collect();
        let ty = match output.datum_type() {
            DatumType::F32 => TensorType::F32,
            DatumType::I64 => TensorType::I64,
            other => return Err(format!("an output of type {other:?}").into()),
        };
        Ok(Tensor::new(dims, ty, output.as_bytes().to_vec())?)
    }
}

fn datum_type(ty: TensorType) -> Result<DatumType> {
    Ok(match ty {
        TensorType::F32 => DatumType::F32,
        TensorType::I32 => DatumType::I32,
        TensorType::I64 => DatumType::I64,
        other => return Err(format!("an input of type {other:?}").into()),
    })
}

fn tract_value(tensor: &Tensor) -> Result<TValue> {
    use tract_onnx::prelude::Tensor;
    let (dims, view) = (dims(tensor), tensor.view());
    let made = match view.ty() {
        TensorType::F32 => Tensor::from_shape(&dims, &floats(view.data())),
        TensorType::I32 => Tensor::from_shape(&dims, &i32s(view.data())),
        TensorType::I64 => Tensor::from_shape(&dims, &i64s(view.data())),
        other => return Err(format!("an input of type {other:?}").into()),
    };
    Ok(made?.into_tvalue())
}

/// rten, on a pool of one thread.
pub struct Rten {
    model: rten::Model,
    rows: Vec<Vec<(NodeId, Value)>>,
    pool: Arc<ThreadPool>,
    outputs: Vec<Value>,
}

impl Rten {
    pub fn open(record: &Record) -> Result<Self> {
        let model = rten::ModelOptions::with_all_ops().prepack_weights(true).load(record.model.clone())?;
        let value = |(index, tensor): &(u32, Tensor)| -> Result<(NodeId, Value)> {
            let id = *model.input_ids().get(*index as usize).ok_or("rten has no such input")?;
            Ok((id, rten_value(tensor)?))
        };
        let rows = record.rows.iter().map(|row| row.inputs.iter().map(value).collect()).collect::<Result<_>>()?;
        Ok(Self { rows, model, pool: Arc::new(ThreadPool::with_num_threads(1)), outputs: Vec::new() })
    }
}

impl Engine for Rten {
    fn infer(&mut self, row: usize) -> Result<()> {
        let inputs = self.rows[row].iter().map(|(id, value)| (*id, ValueOrView::from(value))).collect();
        let mut options = RunOptions::default();
        options.thread_pool = Some(Arc::clone(&self.pool));
        self.outputs = self.model.run(inputs, self.model.output_ids(), Some(options))?;
        Ok(())
    }

    fn output(&self, index: usize) -> Result<Tensor> {
        use rten_tensor::{AsView, Layout};
        let Some(Value::FloatTensor(output)) = self.outputs.get(index) else {
            return Err("an output that is not of f32".into());
        };
        let dims: Vec<u32> = output.shape().iter().map(|&dim| dim as u32).collect();
        let elements: Vec<f32> = output.iter().copied().collect();
        Ok(Tensor::from_f32(dims, &elements)?)
    }
}

/// rten has no 64-bit integers: it takes 32-bit ones in their place.
fn rten_value(tensor: &Tensor) -> Result<Value> {
    use rten_tensor::Tensor;
    let (dims, view) = (dims(tensor), tensor.view());
    Ok(match view.ty() {
        TensorType::F32 => Tensor::from_data(&dims, floats(view.data())).into(),
        TensorType::I32 => Tensor::from_data(&dims, i32s(view.data())).into(),
        TensorType::I64 => {
            let elements =
                i64s(view.data()).into_iter().map(i32::try_from).collect::<std::result::Result<Vec<_>, _>>()?;
            Tensor::from_data(&dims, elements).into()
        }
        other => return Err(format!("an input of type {other:?}").into()),
    })
}

/// The inputs of a row by their index; a record has every one.
fn in_order(row: &Row) -> Result<Vec<&Tensor>> {
    let find = |wanted: usize| row.inputs.iter().find(|(index, _)| *index as usize == wanted).map(|(_, tensor)| tensor);
    (0..row.inputs.len()).map(|index| find(index).ok_or_else(|| "an input is missing".into())).collect()
}

fn dims(tensor: &Tensor) -> Vec<usize> {
    tensor.view().dimensions().iter().map(|&dim| dim as usize).collect()
}

fn floats(data: &[u8]) -> Vec<f32> {
    data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn i32s(data: &[u8]) -> Vec<i32> {
    data.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
}

fn i64s(data: &[u8]) -> Vec<i64> {
    data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}
