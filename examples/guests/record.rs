//! A model with inputs that it was given and outputs that onnxruntime had for them.
//!
//! `examples/models/README.md` has the format.

use std::fs;
use std::path::Path;

use graphpool::nn::{Tensor, TensorType, TensorView};
use serde_json::Value;

/// The largest difference from onnxruntime that passes, where a record has none of its own: absolute up to 1, relative
/// above.
const TOLERANCE: f32 = 1e-4;

/// A model and its recorded inferences.
pub struct Record {
    /// The name of the model's folder.
    pub name: String,
    /// The model: ONNX.
    pub model: Vec<u8>,
    /// What made the outputs, with versions.
    pub made_with: String,
    /// The largest difference from the recorded outputs that passes: absolute up to 1, relative above.
    pub tolerance: f32,
    /// The inferences; at least one.
    pub rows: Vec<Row>,
}

/// One inference.
pub struct Row {
    /// Every input, with its index.
    pub inputs: Vec<(u32, Tensor)>,
    /// Outputs, with their indexes. A record may leave some out.
    pub outputs: Vec<(u32, Tensor)>,
    /// The right class, for a classifier.
    pub label: Option<u8>,
}

impl Record {
    /// The record and model of this name, or in words why there is none.
    pub fn open(name: &str) -> Result<Self, String> {
        // A package of the repository may be in a folder of its own.
        let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let root = folders.find(|folder| folder.join("examples/models").is_dir()).ok_or("no folder examples/models")?;
        let models = root.join("examples").join("models");
        let names = names(&models)?;
        if !names.iter().any(|known| known == name) {
            return Err(format!("no model {name:?}; there are {}", names.join(", ")));
        }
        let folder = models.join(name);
        let record = serde_json::from_slice::<Value>(&read(&folder.join("record.json"))?)
            .map_err(|error| format!("{name}: record.json: {error}"))?;
        if record["format"] != 1 {
            return Err(format!("{name}: record.json is of format {}, not 1", record["format"]));
        }
        let model = read_model(root, &folder, name, &record)?;
        let rows = read_rows(&folder, &record).map_err(|error| format!("{name}: {error}"))?;
        let made_with = record["made_with"].as_str().unwrap_or("an unknown version of onnxruntime").to_owned();
        let tolerance = record["tolerance"].as_f64().map_or(TOLERANCE, |tolerance| tolerance as f32);
        Ok(Self { name: name.to_owned(), model, made_with, tolerance, rows })
    }

    /// Whether the model is a classifier whose accuracy can be told.
    pub fn has_labels(&self) -> bool {
        self.rows.iter().any(|row| row.label.is_some())
    }
}

/// The folders with a record, sorted.
fn names(models: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(models).map_err(|error| format!("{}: {error}", models.display()))?;
    let mut names = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("record.json").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect::<Vec<_>>();
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The model, from beside its record or from where `scripts/fetch_models.sh` puts it.
fn read_model(root: &Path, folder: &Path, name: &str, record: &Value) -> Result<Vec<u8>, String> {
    let file = text(&record["model"]["file"], "model.file")?;
    let of = record["model"]["of"].as_str().unwrap_or(name);
    let fetched = root.join(".cache").join("models").join(of).join(file);
    let committed = folder.join(file);
    let path = if committed.is_file() { committed } else { fetched };
    if !path.is_file() {
        return Err(format!(
            "{of} is not in .cache/models yet: scripts/fetch_models.sh fetches it (the larger ones with --all), \
             scripts/make_models.py makes it (mlp and squeezenet)"
        ));
    }
    let model = read(&path)?;
    if record["model"]["bytes"] != model.len() {
        return Err(format!("{} is not the model that was recorded: its length differs", path.display()));
    }
    Ok(model)
}

fn read_rows(folder: &Path, record: &Value) -> Result<Vec<Row>, String> {
    let rows = number(&record["rows"], "rows")? as usize;
    let mut inputs = read_columns(folder, &record["inputs"], rows)?;
    let mut outputs = read_columns(folder, &record["outputs"], rows)?;
    let labels = record["labels"].as_str().map(|file| read(&folder.join(file))).transpose()?;
    if rows == 0 || inputs.is_empty() || outputs.is_empty() || labels.as_ref().is_some_and(|all| all.len() != rows) {
        return Err("record.json: no rows, no inputs, no outputs, or not a label for each row".to_owned());
    }
    // From columns of rows to rows of columns.
    let next = |columns: &mut [(u32, std::vec::IntoIter<Tensor>)]| {
        columns.iter_mut().filter_map(|(index, column)| Some((*index, column.next()?))).collect::<Vec<_>>()
    };
    Ok((0..rows)
        .map(|row| Row {
            inputs: next(&mut inputs),
            outputs: next(&mut outputs),
            label: labels.as_ref().map(|labels| labels[row]),
        })
        .collect())
}

/// The columns of an array of the record, each with its index and a tensor for each row.
fn read_columns(folder: &Path, columns: &Value, rows: usize) -> Result<Vec<(u32, std::vec::IntoIter<Tensor>)>, String> {
    let columns = columns.as_array().ok_or("record.json: inputs or outputs are no array")?;
    columns.iter().map(|column| Ok((number(&column["index"], "index")?, read_column(folder, column, rows)?))).collect()
}

fn read_column(folder: &Path, column: &Value, rows: usize) -> Result<std::vec::IntoIter<Tensor>, String> {
    let file = text(&column["file"], "file")?;
    let ty = match text(&column["type"], "type")? {
        "f32" => TensorType::F32,
        "f64" => TensorType::F64,
        "u8" => TensorType::U8,
        "i32" => TensorType::I32,
        "i64" => TensorType::I64,
        other => return Err(format!("record.json: unknown type {other:?}")),
    };
    let sizes = column["dims"].as_array().ok_or("record.json: dims are no array")?;
    let dims = sizes.iter().map(|size| number(size, "dims")).collect::<Result<Vec<u32>, _>>()?;
    let mut data = read(&folder.join(file))?;
    let stored = &column["stored"];
    if !stored.is_null() {
        let scale = stored["scale"].as_f64().ok_or("record.json: no scale")? as f32;
        let shift = stored["shift"].as_f64().ok_or("record.json: no shift")? as f32;
        let repeat = if stored["repeat"].is_null() { 1 } else { number(&stored["repeat"], "repeat")? as usize };
        if rows == 0 || data.is_empty() || !data.len().is_multiple_of(rows) {
            return Err(format!("{file}: {} bytes for {rows} rows", data.len()));
        }
        data = data
            .chunks_exact(data.len() / rows)
            .flat_map(|row| std::iter::repeat_n(row, repeat).flatten())
            .flat_map(|byte| (f32::from(*byte) * scale + shift).to_le_bytes())
            .collect();
    }
    if data.is_empty() || !data.len().is_multiple_of(rows) {
        return Err(format!("{file}: {} bytes for {rows} rows", data.len()));
    }
    data.chunks_exact(data.len() / rows)
        .map(|row| Tensor::new(dims.clone(), ty, row.to_vec()).map_err(|error| format!("{file}: {error}")))
        .collect::<Result<Vec<_>, _>>()
        .map(Vec::into_iter)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("record.json: {key} is no string"))
}

fn number(value: &Value, key: &str) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("record.json: {key} is no 32-bit number"))
}

/// Whether an output is what onnxruntime had: the same type and dimensions, every f32 within the record's `tolerance`,
/// any other element the same.
pub fn agrees(output: TensorView<'_>, expected: TensorView<'_>, tolerance: f32) -> bool {
    if output.ty() != expected.ty() || output.dimensions() != expected.dimensions() {
        return false;
    }
    if output.ty() != TensorType::F32 {
        return output.data() == expected.data();
    }
    let pairs = elements(output.data()).zip(elements(expected.data()));
    // Written so that a NaN is not within anything.
    pairs.into_iter().all(|(output, expected)| (output - expected).abs() <= tolerance * expected.abs().max(1.0))
}

/// The class with the highest probability, for a tensor of f32 probabilities.
pub fn likeliest(probabilities: TensorView<'_>) -> Option<usize> {
    elements(probabilities.data()).enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(class, _)| class)
}

fn elements(data: &[u8]) -> impl Iterator<Item = f32> {
    data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}
