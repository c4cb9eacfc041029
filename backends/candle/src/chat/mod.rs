//! Chat templates: how the author of a model writes conversations for it, for hosts.
//!
//! * [`rewrite`], [`guard`]: checks that are put into a compiled template, so that its work is bounded.
//! * [`parts`]: what is refused before.
//! * [`engine`]: the engine's syntax, and its errors as ours.
//! * [`python`]: what templates expect of Python.
//! * [`file`]: the template of a GGUF file.
//!
//! A template is a program, and may come from anyone. The engine, `minijinja`, charges fuel for instructions and for
//! the bytes that they make, and bounds the depth of calls. It bounds neither the depth of values nor the time for one
//! that holds another value many times; the checks do.

mod engine;
mod file;
mod guard;
mod parts;
mod python;
mod rewrite;

use self::engine::{failed, syntax};
use crate::quote::quote;
use graphpool::backend::Error;
use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use std::collections::BTreeMap;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// The most bytes of a template. The longest of models in use have 20,000.
const MAX_SOURCE: usize = 1 << 16;

/// The most nested calls and statements, as the engine counts them; a macro counts four times.
const MAX_CALLS: usize = 100;

/// The stack of the thread that renders. What the bounds leave takes up to 6 MiB in a build without optimizations.
const STACK: usize = 16 << 20;

/// Fuel of a rendering: one unit pays for an instruction, or for 64 bytes.
const FUEL: u64 = 1 << 18;

/// More fuel for each message, and for as many bytes of what the host gives.
const FUEL_OF_MESSAGE: u64 = 1 << 10;
const BYTES_OF_FUEL: u64 = 1;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// The chat template of a model: writes a conversation as the prompt that the model was trained with.
///
/// This is for hosts, and no guest reaches it. A template comes with a model's file
/// ([`from_gguf`](Self::from_gguf), [`from_gguf_file`](Self::from_gguf_file)) or as text
/// ([`from_source`](Self::from_source)).
///
/// ```
/// use graphpool_candle::{ChatMessage, ChatTemplate};
///
/// let source = "{% for message in messages %}<|{{ message.role }}|>{{ message.content | trim }}\n{% endfor %}\
///               {% if add_generation_prompt %}<|assistant|>{% endif %}";
/// let template = ChatTemplate::from_source(source)?;
/// let prompt = template.render(&[ChatMessage::new("user", "Who wrote Emma? ")], true)?;
/// assert_eq!(prompt, "<|user|>Who wrote Emma?\n<|assistant|>");
/// # Ok::<(), graphpool::backend::Error>(())
/// ```
///
/// # What a template sees
///
/// `messages`, a list of maps with `role` and `content`; `add_generation_prompt`; `bos_token` and `eos_token`, which
/// are empty where they are not known; the variables of [`with_variable`](Self::with_variable);
/// `raise_exception(message)`; and `strftime_now(format)`, if the host has given a time
/// ([`with_time`](Self::with_time)). White space is treated as by Hugging Face's transformers: the first newline after
/// a block and blanks before one are removed.
///
/// The language is Jinja as `minijinja` has it, with the methods of Python's strings and maps that templates use. What
/// differs: `include`, `import` and `generation` are unknown, as are `loop.cycle`, `loop.changed`, `str.format`, the
/// filter `sum`, arguments by `*` and `**`, and a list of constants times a number. A namespace can be in no other
/// value. Keys of maps come in the order of their names, so `tojson` sorts them.
///
/// # Cost, and what is bounded
///
/// A rendering compiles the template, on a thread of its own with a stack of 16 MiB, and takes about a tenth of a
/// millisecond for each 1,000 bytes of the template. Anyone's template can be rendered:
///
/// * A template has at most 65,536 bytes.
/// * A rendering has 262,144 units of fuel, 1,024 more for each message, and one more for each byte that the host
///   gives. A unit pays for an instruction, or for 64 bytes that the template makes or writes: 16 MiB, and 64 times the
///   conversation. The memory of a rendering is at most a few times as much. A template that splits a conversation of
///   1 MiB into its characters takes 50 MB before it is refused, and no other that was tried takes more.
/// * Values are nested at most 16 deep, statements and calls at most 100 deep.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
    time: Option<i64>,
    variables: BTreeMap<String, Value>,
    /// Bytes of the variables.
    bytes: u64,
}

impl ChatTemplate {
    /// A template from its text.
    ///
    /// # Errors
    ///
    /// [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) for a text that is no template, with the
    /// line, and [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) for one of more than 65,536 bytes, or of an
    /// expression with too many parts.
    pub fn from_source(source: &str) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE {
            let why = format!("the chat template has {} bytes, and the limit is {MAX_SOURCE}", source.len());
            return Err(Error::too_large(why));
        }
        parts::check(source)?;
        let template = Self {
            source: source.to_owned(),
            bos: String::new(),
            eos: String::new(),
            time: None,
            variables: BTreeMap::new(),
            bytes: 0,
        };
        on_stack(|| compile(&template.source).map(|_| ()))?;
        Ok(template)
    }

    /// The text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// With the texts of the tokens that begin a text and end it: `bos_token` and `eos_token`.
    #[must_use]
    pub fn with_tokens(self, bos: impl Into<String>, eos: impl Into<String>) -> Self {
        Self { bos: bos.into(), eos: eos.into(), ..self }
    }

    /// With an empty `bos_token`, for a tokenizer that puts this token in front of every prompt.
    #[must_use]
    pub fn without_bos(self) -> Self {
        Self { bos: String::new(), ..self }
    }

    /// With the time that `strftime_now` has, in UTC. Without one the function is undefined, as the clock is not read.
    #[must_use]
    pub fn with_time(self, time: SystemTime) -> Self {
        let seconds = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).ok(),
            Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|seconds| -seconds),
        };
        // In years of four digits.
        let time = seconds.filter(|seconds| (-62_135_596_800..253_402_300_800).contains(seconds));
        Self { time, ..self }
    }

    /// With a variable, whose value is given in JSON: `tools`, for example, or `enable_thinking`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for a text that is no JSON, and for values
    /// that are nested more than 8 deep.
    pub fn with_variable(mut self, name: &str, json: &str) -> Result<Self, Error> {
        let invalid = |why: &dyn std::fmt::Display| {
            Error::invalid_argument(format!("the variable {} of a chat template: {why}", quote(name)))
        };
        let value = serde_json::from_str(json).map_err(|error| invalid(&error))?;
        let value = variable(value, 0).ok_or_else(|| invalid(&"values are nested more than 8 deep"))?;
        self.variables.insert(name.to_owned(), value);
        self.bytes += json.len() as u64;
        Ok(self)
    }

    /// The prompt of a conversation. With `add_generation_prompt` it ends where the model's answer begins.
    ///
    /// # Errors
    ///
    /// * [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) where the template refuses the
    ///   conversation, or fails with it. The message has the template's line and the cause.
    /// * [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) where the work of the template is more than the bounds
    ///   let it do.
    /// * [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) where the thread can't be started.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, Error> {
        let bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let fuel = FUEL
            .saturating_add(FUEL_OF_MESSAGE.saturating_mul(messages.len() as u64))
            .saturating_add(BYTES_OF_FUEL.saturating_mul(self.bytes.saturating_add(bytes as u64)));
        on_stack(|| {
            let messages: Vec<Value> = messages
                .iter()
                .map(|message| {
                    map([("role", Value::from(&*message.role)), ("content", Value::from(&*message.content))])
                })
                .collect();
            let mut root: BTreeMap<Value, Value> =
                self.variables.iter().map(|(name, value)| (Value::from(&**name), value.clone())).collect();
            root.extend([
                (Value::from("messages"), Value::from_object(messages)),
                (Value::from("add_generation_prompt"), Value::from(add_generation_prompt)),
                (Value::from("bos_token"), Value::from(&*self.bos)),
                (Value::from("eos_token"), Value::from(&*self.eos)),
            ]);
            let instructions = compile(&self.source)?;
            let environment = environment(fuel, self.time);
            let (mut prompt, blocks) = (String::new(), BTreeMap::new());
            let mut output = make_string_output(&mut prompt);
            let root = Value::from_object(root);
            let result = eval(&environment, &instructions, root, &blocks, &mut output, AutoEscape::None);
            result.map_err(|error| failed(&error))?;
            Ok(prompt)
        })
    }
}

/// Runs `work` on a stack of its own, for that of the caller may be of any size.
fn on_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| {
            Error::runtime_error(format!("the thread that renders a chat template could not be started: {error}"))
        })?;
        thread.join().unwrap_or_else(|_| Err(Error::runtime_error("the template engine panicked")))
    })
}

/// The instructions of a template, with checks.
fn compile(source: &str) -> Result<Instructions<'_>, Error> {
    let tree = parse(source, "template", syntax()?).map_err(|error| failed(&error))?;
    let mut code = CodeGenerator::new("template", source);
    code.compile_stmt(&tree);
    rewrite::with_checks(&code.finish().0)
        .map_err(|(line, why)| Error::invalid_encoding(format!("the chat template, line {line}: {why}")))
}

/// The functions and filters that a template has.
fn environment<'s>(fuel: u64, time: Option<i64>) -> Environment<'s> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(MAX_CALLS);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(python::method);
    environment.add_filter(rewrite::GUARD, guard::guard);
    environment.add_filter(rewrite::STORE, guard::store);
    environment.add_filter(rewrite::INDEX, guard::index);
    environment.add_filter("tojson", python::to_json);
    // It adds lists, each time with a copy of all that it has.
    environment.remove_filter("sum");
    environment.add_function("raise_exception", python::raise_exception);
    if let Some(time) = time {
        environment.add_function("strftime_now", move |format: &str| python::date(format, time));
    }
    environment
}

/// A map of the host.
fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let map: BTreeMap<Value, Value> = entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect();
    Value::from_object(map)
}

/// A value of JSON, or `None` where it is nested too deep.
fn variable(json: serde_json::Value, depth: usize) -> Option<Value> {
    Some(match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(boolean) => Value::from(boolean),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::from(text),
        _ if depth >= guard::MAX_DEPTH / 2 => return None,
        serde_json::Value::Array(items) => {
            let items: Option<Vec<Value>> = items.into_iter().map(|item| variable(item, depth + 1)).collect();
            Value::from_object(items?)
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Some((Value::from(key), variable(value, depth + 1)?)));
            Value::from_object(entries.collect::<Option<BTreeMap<Value, Value>>>()?)
        }
    })
}
