//! What the guests of one tenant may do: limits, names, and what the names refer to.

use graphpool::nn::{
    Encoding, Engine, EngineBuilder, Error, ErrorKind, Guest, GuestPolicy, Limits, ModelSource, Target,
};

use crate::configs::{Echo, model, runs};

fn register(engine: &Engine, name: &str, source: ModelSource) {
    engine.register_model(name, source, Encoding::Onnx, Target::Cpu).unwrap();
}

fn builder() -> EngineBuilder {
    Engine::builder(Echo::default())
}

/// An engine with the models `a/default`, `b/default` and `shared`.
fn engine() -> Engine {
    let engine = builder().build();
    for (number, name) in [(1, "a/default"), (2, "b/default"), (3, "shared")] {
        register(&engine, name, model(number).with_guest_configs(1));
    }
    engine
}

fn tenant(name: &str) -> GuestPolicy {
    GuestPolicy::new().with_name("default", format!("{name}/default"))
}

fn guest(engine: &Engine, policy: &GuestPolicy) -> Guest {
    engine.guest_builder().with_policy(policy).build()
}

fn loads(guest: &Guest, name: &str) -> Result<u8, Error> {
    let graph = guest.load_by_name(name)?;
    let (model, _) = runs(guest, graph);
    guest.unload(graph)?;
    Ok(model)
}

#[test]
fn two_tenants_mean_models_of_their_own_by_one_name() {
    let engine = engine();
    let [a, b] = ["a", "b"].map(tenant);
    for (policy, model) in [(&a, 1), (&b, 2), (&a, 1)] {
        let guest = guest(&engine, policy);
        assert_eq!((loads(&guest, "default"), loads(&guest, "shared")), (Ok(model), Ok(3)));
        let configured = guest.load_by_name_with_config("default", "x").unwrap();
        assert_eq!(runs(&guest, configured), (model, "x".to_owned()));
        // A mapped name is not mapped again.
        let chained = GuestPolicy::new().with_name("x", "default").with_name("default", "shared");
        let error = loads(&self::guest(&engine, &chained), "x").unwrap_err();
        assert_eq!(error.message(), "load_by_name: no model is named \"x\"");
    }
    // A reload of the engine's name reaches the guests that call it otherwise.
    let guest = guest(&engine, &a);
    let graph = guest.load_by_name("default").unwrap();
    engine.replace_model("a/default", model(7)).unwrap();
    assert_eq!(runs(&guest, graph).0, 7);
    // Without a policy, no name is mapped.
    assert_eq!(loads(&engine.guest(), "default").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_error_has_the_name_that_the_guest_knows() {
    let engine = builder().build();
    register(&engine, "secret plain", model(1));
    let policy = GuestPolicy::new().with_name("gone", "secret gone").with_name("plain", "secret plain");
    let guest = guest(&engine, &policy.with_mapped_names_only());
    for name in ["gone", "secret gone", "secret plain", "no such"] {
        let told = format!("no model is named {name:?}");
        let errors = [guest.load_by_name(name), guest.load_by_name_with_config(name, "x")].map(Result::unwrap_err);
        assert_eq!(errors.each_ref().map(Error::kind), [ErrorKind::NotFound; 2]);
        assert_eq!(errors[0].message(), format!("load_by_name: {told}"));
        assert_eq!(errors[1].message(), format!("load_by_name_with_config: {told}"));
    }
    let error = guest.load_by_name_with_config("plain", "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Security);
    let told = "load_by_name_with_config: the host does not let guests configure the model \"plain\"";
    assert_eq!(error.message(), told);
}

/// The names that a guest may load are those of its policy that its builder has, too.
#[test]
fn a_name_is_allowed_where_the_policy_and_the_builder_allow_it() {
    let engine = engine();
    let (all, list) = (GuestPolicy::new(), GuestPolicy::new().with_models(["shared"]));
    let (mapped, both, only) = (tenant("a"), tenant("a").with_models(["shared"]), tenant("a").with_mapped_names_only());
    let none = GuestPolicy::new().with_mapped_names_only();
    for (policy, own, allowed) in [
        (&all, None, vec!["a/default", "b/default", "shared"]),
        (&all, Some(vec!["shared"]), vec!["shared"]),
        (&list, None, vec!["shared"]),
        (&list, Some(vec!["shared", "b/default"]), vec!["shared"]),
        (&list, Some(vec!["b/default"]), vec![]),
        (&mapped, None, vec!["default", "a/default", "b/default", "shared"]),
        (&both, None, vec!["default", "shared"]),
        (&both, Some(vec!["default"]), vec!["default"]),
        // The engine's name is not the guest's.
        (&both, Some(vec!["a/default"]), vec![]),
        (&only, None, vec!["default"]),
        (&only, Some(vec![]), vec![]),
        (&none, None, vec![]),
    ] {
        let builder = engine.guest_builder().with_policy(policy);
        let guest = own.map_or_else(|| engine.guest_builder().with_policy(policy), |own| builder.with_models(own));
        let guest = guest.build();
        let names = ["default", "a/default", "b/default", "shared"];
        let found: Vec<_> = names.into_iter().filter(|name| loads(&guest, name).is_ok()).collect();
        assert_eq!(found, allowed, "{policy:?}");
    }
}

#[test]
fn of_the_limits_of_the_policy_the_builder_and_the_ceiling_the_lowest_apply() {
    let graphs = |count| Limits::default().with_max_graphs(count);
    let engine = builder().with_limits(graphs(20)).with_ceiling(graphs(30)).build();
    let (plain, lower, higher) = (
        GuestPolicy::new(),
        GuestPolicy::new().with_limits(graphs(10)),
        GuestPolicy::new().with_limits(graphs(1_000).with_max_contexts(5)),
    );
    for (policy, own, allowed) in [
        (&plain, None, 20),
        (&plain, Some(25), 25),
        (&plain, Some(1_000), 30),
        (&lower, None, 10),
        (&lower, Some(8), 8),
        (&lower, Some(12), 10),
        (&higher, None, 30),
        (&higher, Some(29), 29),
    ] {
        let builder = engine.guest_builder().with_policy(policy);
        let builder = match own {
            Some(own) => builder.with_limits(graphs(own)),
            None => builder,
        };
        assert_eq!(builder.build().limits().max_graphs(), allowed);
    }
    let guest = engine.guest_builder().with_limits(graphs(1)).with_policy(&higher).build();
    assert_eq!((guest.limits().max_graphs(), guest.limits().max_contexts()), (1, 5));
}

#[test]
fn a_policy_that_is_changed_leaves_its_guests_as_they_are() {
    let engine = engine();
    let before = tenant("a").with_mapped_names_only();
    let guest = guest(&engine, &before);
    let after = before.clone().with_name("default", "b/default").with_models(["shared"]);
    assert_eq!((loads(&guest, "default"), loads(&guest, "shared").is_err()), (Ok(1), true));
    let guest = self::guest(&engine, &after);
    assert_eq!((loads(&guest, "default"), loads(&guest, "shared")), (Ok(2), Ok(3)));
    // The last of several policies is the guest's.
    let guest = engine.guest_builder().with_policy(&after).with_policy(&before).build();
    assert_eq!((loads(&guest, "default"), loads(&guest, "shared").is_err()), (Ok(1), true));
}
