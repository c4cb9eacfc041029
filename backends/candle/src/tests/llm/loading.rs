//! Files that are no models, and what the load says about them.

use super::super::gguf::writer::{Writer, array, string};
use super::{ARCHITECTURES, TINY, load, model};
use crate::llm::graph::LanguageGraph;
use graphpool::backend::{BackendGraph as _, ErrorKind};

/// What is wrong with a model after a change.
fn changed(architecture: &str, change: impl FnOnce(&mut Writer)) -> (ErrorKind, String) {
    let mut writer = model(architecture, TINY, 0, 1);
    change(&mut writer);
    let error = load(&writer).unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn number(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[test]
fn every_architecture_loads_and_reports_its_memory() {
    for architecture in ARCHITECTURES {
        for ty in [0, 1, 8] {
            let file = model(architecture, TINY, ty, 1).finish();
            let no_pages = br#"{"cache-ram": 0}"#;
            let graph = LanguageGraph::load(&file, b"", no_pages, 1 << 24).unwrap();
            assert!(graph.memory() > file.len() / 2, "{architecture}: {} of {}", graph.memory(), file.len());
            let error = LanguageGraph::load(&file, b"", no_pages, graph.memory() - 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
    }
}

#[test]
fn another_architecture_is_refused_by_name() {
    let (kind, message) = changed("llama", |writer| _ = writer.set("general.architecture", 8, string(b"mamba")));
    assert_eq!(kind, ErrorKind::UnsupportedOperation);
    assert_eq!(message, "the architecture 'mamba' is not supported; llama, qwen2, qwen3, gemma3, phi3 are");
    let (kind, message) = changed("llama", |writer| writer.metadata.retain(|(key, ..)| key != b"general.architecture"));
    assert_eq!((kind, &*message), (ErrorKind::InvalidEncoding, "the GGUF file has no key 'general.architecture'"));
}

#[test]
fn hyperparameters_have_bounds() {
    for (key, bounds) in [
        ("block_count", "1 to 1024"),
        ("embedding_length", "1 to 262144"),
        ("attention.head_count", "1 to 4096"),
        ("attention.head_count_kv", "1 to 4096"),
        ("attention.key_length", "1 to 1024"),
        ("feed_forward_length", "1 to 1048576"),
        ("context_length", "1 to 16777216"),
        ("rope.dimension_count", "1 to 1024"),
    ] {
        let key = format!("llama.{key}");
        for value in [0, u32::MAX] {
            let (kind, message) = changed("llama", |writer| _ = writer.set(&key, 4, number(value)));
            assert_eq!(kind, ErrorKind::InvalidEncoding);
            assert_eq!(message, format!("the key '{key}' is {value}, and must be {bounds}"));
        }
        let (_, message) = changed("llama", |writer| _ = writer.set(&key, 8, string(b"2")));
        assert_eq!(message, format!("the key '{key}' is a string, and must be an integer"));
        let (kind, message) = changed("llama", |writer| {
            writer.set(&key, 9, array(4, &[number(2), number(3)]));
        });
        assert_eq!(
            (kind, message),
            (
                ErrorKind::UnsupportedOperation,
                format!("the key '{key}' differs between layers, which is not supported")
            )
        );
    }
    for (key, bad) in [
        ("attention.layer_norm_rms_epsilon", f32::NAN),
        ("attention.layer_norm_rms_epsilon", -1.0),
        ("rope.freq_base", 0.0),
        ("rope.freq_base", f32::INFINITY),
        ("rope.scaling.factor", 0.0),
    ] {
        let key = format!("llama.{key}");
        let (kind, message) = changed("llama", |writer| _ = writer.set(&key, 6, bad.to_le_bytes().to_vec()));
        assert_eq!(kind, ErrorKind::InvalidEncoding);
        assert!(message.starts_with(&format!("the key '{key}' is ")), "{message}");
    }
    for key in [
        "block_count",
        "embedding_length",
        "attention.head_count",
        "feed_forward_length",
        "context_length",
        "attention.layer_norm_rms_epsilon",
    ] {
        let key = format!("llama.{key}");
        let (_, message) = changed("llama", |writer| writer.metadata.retain(|(name, ..)| name != key.as_bytes()));
        assert_eq!(message, format!("the GGUF file has no key '{key}'"));
    }
}

#[test]
fn hyperparameters_agree_with_each_other() {
    let set = |key: &'static str, value| move |writer: &mut Writer| _ = writer.set(key, 4, number(value));
    let (_, message) = changed("llama", set("llama.attention.head_count_kv", 3));
    assert_eq!(message, "the model has 4 heads of queries, no multiple of the 3 of keys");
    let (_, message) = changed("llama", set("llama.rope.dimension_count", 10));
    assert_eq!(message, "10 elements of a head are rotated, and must be even and at most the head's 8");
    let (_, message) = changed("llama", set("llama.rope.dimension_count", 7));
    assert_eq!(message, "7 elements of a head are rotated, and must be even and at most the head's 8");
    let (kind, _) = changed("llama", set("llama.attention.value_length", 4));
    assert_eq!(kind, ErrorKind::UnsupportedOperation);
    let (kind, message) = changed("llama", set("llama.expert_count", 8));
    assert_eq!((kind, &*message), (ErrorKind::UnsupportedOperation, "mixtures of experts are not supported"));
    let (kind, _) = changed("gemma3", set("gemma3.final_logit_softcapping", 30));
    assert_eq!(kind, ErrorKind::UnsupportedOperation);
    let (kind, message) = changed("llama", |writer| _ = writer.set("llama.rope.scaling.type", 8, string(b"longrope")));
    assert_eq!(
        (kind, &*message),
        (ErrorKind::UnsupportedOperation, "the rope scaling 'longrope' is not supported; none, linear and yarn are")
    );
    let (kind, message) = changed("llama", |writer| _ = writer.set("llama.attention.causal", 7, vec![0]));
    assert_eq!((kind, &*message), (ErrorKind::UnsupportedOperation, "attention to later tokens is not supported"));
    let (kind, _) = changed("llama", set("llama.pooling_type", 4));
    assert_eq!(kind, ErrorKind::UnsupportedOperation);
}

#[test]
fn a_tensor_of_another_shape_is_refused_before_anything_is_allocated_for_weights() {
    for (name, dims, message) in [
        (
            "token_embd.weight",
            vec![32, 263],
            "the tensor 'token_embd.weight' has the dimensions 32×263, and the hyperparameters need 32×264",
        ),
        (
            "blk.1.attn_k.weight",
            vec![16, 32],
            "the tensor 'blk.1.attn_k.weight' has the dimensions 16×32, and the hyperparameters need 32×16",
        ),
        (
            "blk.0.ffn_norm.weight",
            vec![1, 32],
            "the tensor 'blk.0.ffn_norm.weight' has the dimensions 1×32, and the hyperparameters need 32",
        ),
    ] {
        let mut writer = model("llama", TINY, 0, 1);
        let tensor = writer.find(name);
        tensor.3.truncate(dims.iter().product::<u64>() as usize * 4);
        tensor.1 = dims;
        // Room for the tables of the reader alone.
        let error = LanguageGraph::load(&writer.finish(), b"", b"", 8192).unwrap_err();
        assert_eq!(
            (error.kind(), error.message().replace(['[', ']'], "")),
            (ErrorKind::InvalidEncoding, message.to_owned())
        );
    }
}

#[test]
fn tensors_that_are_missing_or_of_no_use_are_refused() {
    for name in ["token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"] {
        let (kind, message) = changed("llama", |writer| writer.tensors.retain(|tensor| tensor.0 != name.as_bytes()));
        assert_eq!((kind, message), (ErrorKind::InvalidEncoding, format!("the GGUF file has no tensor '{name}'")));
    }
    for name in
        ["blk.2.attn_q.weight", "blk.01.attn_q.weight", "blk.x.attn_q.weight", "blk.0.ffn_gate_inp.weight", "other"]
    {
        let (kind, message) = changed("llama", |writer| _ = writer.tensor(name, &[32, 32], 0, vec![0; 4096]));
        assert_eq!(kind, ErrorKind::UnsupportedOperation);
        assert_eq!(message, format!("the tensor '{name}' is not one of this architecture's, or of no layer"));
    }
    for name in ["blk.0.attn_q_norm.weight", "blk.1.attn_k_norm.weight"] {
        let (_, message) = changed("qwen3", |writer| writer.tensors.retain(|tensor| tensor.0 != name.as_bytes()));
        assert_eq!(message, format!("the GGUF file has no tensor '{name}'"));
    }
}

#[test]
fn types_without_products_are_refused_by_name() {
    let (kind, message) = changed("llama", |writer| {
        let tensor = writer.find("blk.0.attn_q.weight");
        (tensor.2, tensor.3) = (26, vec![0; 4096]);
    });
    assert_eq!(kind, ErrorKind::UnsupportedOperation);
    assert_eq!(message, "the tensor 'blk.0.attn_q.weight' has the type I32, which is not supported");
    let (kind, message) = changed("llama", |writer| {
        let tensor = writer.find("blk.0.attn_norm.weight");
        (tensor.2, tensor.3) = (1, vec![0; 64]);
    });
    assert_eq!(kind, ErrorKind::UnsupportedOperation);
    assert_eq!(message, "the vector 'blk.0.attn_norm.weight' has the type F16, and only F32 is supported");
}

#[test]
fn factors_of_a_rotation_are_positive_numbers() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let factors = [1.0, bad, 1.0, 1.0].iter().flat_map(|factor: &f32| factor.to_le_bytes()).collect();
        let (_, message) = changed("llama", |writer| _ = writer.tensor("rope_freqs.weight", &[4], 0, factors));
        assert_eq!(message, "the tensor 'rope_freqs.weight' has an element that is no positive number");
    }
}

#[test]
fn an_output_of_its_own_is_used() {
    let mut writer = model("llama", TINY, 0, 1);
    let tied = load(&writer).unwrap();
    let zeros = vec![0; 264 * 32 * 4];
    writer.tensor("output.weight", &[32, 264], 0, zeros);
    let untied = load(&writer).unwrap();
    assert!(untied.memory() >= tied.memory() + 264 * 32 * 4);
    let tokens = super::tokens();
    let of =
        |graph: &LanguageGraph| super::pass(&graph.shared().model, &tokens, 100, crate::llm::cache::CacheType::F16).0;
    assert!(of(&tied).iter().any(|&logit| logit != 0.0));
    assert!(of(&untied).iter().all(|&logit| logit == 0.0));
}
