//! What the types promise, as programs that the compiler refuses. Before each stands the same program without the line
//! that is refused, which compiles: so that nothing else is the reason.

/// A guard stays on its thread.
///
/// ```
/// # graphpool::doctest(|| {
/// let guard = graphpool::pin();
/// drop(guard);
/// # });
/// ```
///
/// ```compile_fail,E0277
/// # graphpool::doctest(|| {
/// let guard = graphpool::pin();
/// std::thread::spawn(move || drop(guard));
/// # });
/// ```
///
/// ```compile_fail,E0277
/// # graphpool::doctest(|| {
/// let guard = graphpool::pin();
/// std::thread::scope(|scope| { scope.spawn(|| { &guard; }); });
/// # });
/// ```
const _: () = ();

/// What is read under a guard is gone with the guard.
///
/// ```
/// # graphpool::doctest(|| {
/// let pool = graphpool::Pool::<u8>::new();
/// let handle = pool.insert(1).unwrap();
/// let guard = graphpool::pin();
/// let entry = pool.get(handle, &guard);
/// assert_eq!(entry, Some(&1));
/// drop(guard);
/// # });
/// ```
///
/// ```compile_fail,E0505
/// # graphpool::doctest(|| {
/// let pool = graphpool::Pool::<u8>::new();
/// let handle = pool.insert(1).unwrap();
/// let guard = graphpool::pin();
/// let entry = pool.get(handle, &guard);
/// drop(guard);
/// assert_eq!(entry, Some(&1));
/// # });
/// ```
const _: () = ();

/// What is read under a guard is gone when that is pinned anew.
///
/// ```
/// # graphpool::doctest(|| {
/// let pool = graphpool::Pool::<u8>::new();
/// let handle = pool.insert(1).unwrap();
/// let mut guard = graphpool::pin();
/// let entry = pool.get(handle, &guard);
/// assert_eq!(entry, Some(&1));
/// guard.repin();
/// # });
/// ```
///
/// ```compile_fail,E0502
/// # graphpool::doctest(|| {
/// let pool = graphpool::Pool::<u8>::new();
/// let handle = pool.insert(1).unwrap();
/// let mut guard = graphpool::pin();
/// let entry = pool.get(handle, &guard);
/// guard.repin();
/// assert_eq!(entry, Some(&1));
/// # });
/// ```
const _: () = ();

/// A handle is of its pool's type.
///
/// ```
/// # graphpool::doctest(|| {
/// let (numbers, texts) = (graphpool::Pool::<u8>::new(), graphpool::Pool::<&str>::new());
/// let handle = numbers.insert(1).unwrap();
/// numbers.remove(handle);
/// # drop(texts);
/// # });
/// ```
///
/// ```compile_fail,E0308
/// # graphpool::doctest(|| {
/// let (numbers, texts) = (graphpool::Pool::<u8>::new(), graphpool::Pool::<&str>::new());
/// let handle = numbers.insert(1).unwrap();
/// texts.remove(handle);
/// # });
/// ```
const _: () = ();

/// A pool's values may be used and dropped on any thread.
///
/// ```
/// # graphpool::doctest(|| {
/// graphpool::Pool::<std::sync::Arc<u8>>::new();
/// # });
/// ```
///
/// ```compile_fail,E0277
/// # graphpool::doctest(|| {
/// graphpool::Pool::<std::rc::Rc<u8>>::new();
/// # });
/// ```
const _: () = ();

/// A future that nobody keeps is a compute that is cancelled, and the compiler warns of it.
///
/// ```
/// #![deny(unused_must_use)]
/// fn call(guest: &graphpool::nn::Guest, context: graphpool::GuestHandle) {
///     let _compute = guest.compute_async(context);
/// }
/// ```
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn call(guest: &graphpool::nn::Guest, context: graphpool::GuestHandle) {
///     guest.compute_async(context);
/// }
/// ```
#[cfg(feature = "nn")]
const _: () = ();

/// Fields that come later break nobody: descriptions and requests are made by their constructors.
///
/// ```
/// use graphpool::nn::{TensorDescription, TensorType};
/// let one = TensorDescription::new("x", TensorType::U8, None);
/// ```
///
/// ```compile_fail,E0639
/// use graphpool::nn::{TensorDescription, TensorType};
/// let one = TensorDescription { name: "x".into(), ty: TensorType::U8, dimensions: None };
/// ```
///
/// ```
/// use graphpool::backend::{Encoding, LoadRequest, Target};
/// let request = LoadRequest::new(&[], Encoding::Onnx, Target::Cpu).with_memory_limit(0);
/// ```
///
/// ```compile_fail,E0639
/// use graphpool::backend::{Encoding, LoadRequest, Target};
/// let request = LoadRequest { memory_limit: 0, ..LoadRequest::new(&[], Encoding::Onnx, Target::Cpu) };
/// ```
///
/// ```
/// use graphpool::backend::ComputeControl;
/// let control = ComputeControl::default().with_memory_limit(0);
/// ```
///
/// ```compile_fail,E0639
/// use graphpool::backend::ComputeControl;
/// let control = ComputeControl { memory_limit: 0, ..ComputeControl::default() };
/// ```
#[cfg(feature = "nn")]
const _: () = ();

/// A view of a tensor borrows the data.
///
/// ```
/// use graphpool::nn::Tensor;
/// let tensor = Tensor::from_slice([1], &[1_u8]).unwrap();
/// let view = tensor.view();
/// assert_eq!(view.data(), [1]);
/// drop(tensor);
/// ```
///
/// ```compile_fail,E0505
/// use graphpool::nn::Tensor;
/// let tensor = Tensor::from_slice([1], &[1_u8]).unwrap();
/// let view = tensor.view();
/// drop(tensor);
/// assert_eq!(view.data(), [1]);
/// ```
#[cfg(feature = "nn")]
const _: () = ();

/// The element types of tensors are those that wasi-nn has.
///
/// ```
/// graphpool::nn::Tensor::from_slice([1], &[1_i64]).unwrap();
/// ```
///
/// ```compile_fail,E0277
/// graphpool::nn::Tensor::from_slice([1], &[1_u64]).unwrap();
/// ```
///
/// Nobody adds one.
///
/// ```compile_fail,E0277
/// struct Mine;
/// impl graphpool::nn::Element for Mine {
///     const TYPE: graphpool::nn::TensorType = graphpool::nn::TensorType::U8;
/// }
/// ```
#[cfg(feature = "nn")]
const _: () = ();
