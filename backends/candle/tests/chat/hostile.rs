//! Templates that would take all time, all memory or all of the stack.

use crate::{assert_fails, render};
use graphpool::backend::ErrorKind;

const MIB: usize = 1 << 20;

/// Before the other source, with a namespace that has two lists.
const LISTS: &str = "{% set ns = namespace(a=['x'], b=['x']) %}";

#[test]
fn work_without_end_ends() {
    for source in [
        "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ '%100000000000d' | format(1) }}",
        "{{ 'x\\nx' | indent(100000000000) }}",
        "{{ [1] | batch(100000000000, 'x') | list }}",
        "{{ ('a' * 10000).split('') | join('a' * 100000) }}",
        "{{ ('a' * 100000) | replace('a', 'a' * 100000) }}",
        "{{ ([x is defined] * 100000000) | list }}",
        "{{ ([x is defined] * 100000000) ~ '' }}",
        "{% for i in range(10000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{% for i in range(10000) %}{% set a %}{{ 'x' * 10000 }}{% endset %}{% endfor %}",
        "{{ range(20000) | list | unique }}",
    ] {
        assert_fails(source, &[], ErrorKind::TooLarge, &["line 1", "more than a template may"]);
    }
    assert_fails("\n{{ range(100000000000) }}", &[], ErrorKind::InvalidArgument, &["line 2", "too many elements"]);
}

/// The compiler computes with constants, and has no fuel.
#[test]
fn constant_lists_are_not_multiplied() {
    for constant in [
        "[1] * 100000000",
        "100000000 * [1]",
        "([1]) * 100000000",
        "100000000 * (([1]))",
        "(1, 2) * 100000000",
        "1 * 100000000 * ([1] + [2])",
        "(true and [1]) * (10000 * 10000)",
        "[[1] * 10000] * 10000",
    ] {
        for source in [
            format!("{{{{ ({constant}) ~ '' }}}}"),
            format!("{{{{ '}}}}' if ({constant}) == ({constant}) }}}}"),
            format!("{{% if [1] in ({constant}) %}}{{% endif %}}"),
            format!("{{% set a = (({constant}) ~ '') %}}"),
        ] {
            assert_fails(&source, &[], ErrorKind::TooLarge, &["line 1", "a list of constants is multiplied"]);
        }
    }
    let source = "{% set a = [1, 2] %}{{ a[1] * 2 }}{{ (a[0] + 2) * 3 }}{{ 3 * (1 + 2) }}{{ (a | length) * 2 }}\
                  {{ [1, 2][1] * 2 }}{{ a * 2 }}";
    assert_eq!(render(source, &[]).unwrap(), "49944[1, 2, 1, 2]");
}

#[test]
fn values_that_hold_one_many_times_are_read_for_fuel() {
    for end in [
        "{{ ns.a }}",
        "{% set y %}{{ ns.a }}{% endset %}",
        "{{ ns.a ~ '' }}",
        "{{ ns.a | tojson }}",
        "{{ ns.a | string }}",
        "{{ ns.a | join }}",
        "{{ ns.a == ns.b }}",
        "{{ ns.a in [ns.b] }}",
        "{{ [ns.a, ns.b] | sort }}",
        "{{ [ns.a, ns.b] | unique }}",
        "{% if ns.a is eq(ns.b) %}{% endif %}",
        "{{ {'k': 1}[ns.a] }}",
    ] {
        let wide = format!(
            "{LISTS}{{% for i in range(6) %}}{{% set ns.a = [ns.a] * 100 %}}{{% set ns.b = [ns.b] * 100 %}}\
             {{% endfor %}}{end}"
        );
        assert_fails(&wide, &[], ErrorKind::TooLarge, &["more than a template may"]);
        let often = format!(
            "{LISTS}{{% for i in range(12) %}}{{% set ns.a = [ns.a, ns.a] %}}{{% set ns.b = [ns.b, ns.b] %}}\
             {{% endfor %}}{{% for i in range(10000) %}}{end}{{% endfor %}}"
        );
        assert_fails(&often, &[], ErrorKind::TooLarge, &["more than a template may"]);
    }
}

#[test]
fn values_are_not_nested_without_end() {
    for nested in [
        "[ns.a]",
        "(ns.a,)",
        "{'a': ns.a}",
        "dict(a=ns.a)",
        "ns.a | batch(2)",
        "{'x': {'a': ns.a}.items()}",
        "[1] | map('default', ns.a, true) | list + [ns.a]",
    ] {
        let source = format!("{LISTS}{{% for i in range(10000) %}}{{% set ns.a = {nested} %}}{{% endfor %}}");
        assert_fails(&source, &[], ErrorKind::InvalidArgument, &["nested in values more than 16 deep"]);
    }
    // These are lazy in the engine, each one on the one before.
    for lazy in ["ns.a[0:]", "ns.a * 1", "ns.a | reverse", "ns.a + []"] {
        let source =
            format!("{LISTS}{{% for i in range(8000) %}}{{% set ns.a = {lazy} %}}{{% endfor %}}{{{{ ns.a }}}}");
        assert_eq!(render(&source, &[("user", &"x".repeat(MIB))]).unwrap(), "['x']", "{lazy}");
    }
}

#[test]
fn no_value_holds_itself() {
    for source in [
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = {'a': ns} %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = dict(a=ns) %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = [x] | map('default', ns) | list %}{{ ns }}",
        "{% set ns = namespace(a=1) %}{% for i in [1, 2] %}{% set ns = namespace(a=ns) %}{% endfor %}",
        "{% set ns = namespace(a=1) %}{% for x in [ns.a] %}{% set ns.a = loop %}{% endfor %}",
    ] {
        assert_fails(source, &[], ErrorKind::InvalidArgument, &["a namespace or a loop can be in no other value"]);
    }
}

#[test]
fn calls_are_not_nested_without_end() {
    for source in [
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        "{% macro m(x) %}{% for i in [1] %}{% if 1 %}{{ m(x) | upper }}{% endif %}{% endfor %}{% endmacro %}{{ m(1) }}",
        "{% macro m(x) %}{% call m(x) %}x{% endcall %}{{ caller() }}{% endmacro %}{% call m(1) %}x{% endcall %}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ] {
        assert_fails(source, &[], ErrorKind::TooLarge, &["calls itself"]);
    }
}

#[test]
fn long_and_deep_sources_are_refused() {
    let many = 32_000;
    for (source, kind) in [
        (format!("{{{{ {} }}}}", vec!["1"; many].join("+")), ErrorKind::TooLarge),
        // The marks of an end in a string end nothing.
        (format!("{{{{ {} }}}}", vec!["'}}{{'"; 6_000].join("~")), ErrorKind::TooLarge),
        (format!("{{{{ a{} }}}}", ".b".repeat(many)), ErrorKind::TooLarge),
        (format!("{{{{ a{} }}}}", "|e".repeat(many)), ErrorKind::TooLarge),
        (format!("{{{{ a{} }}}}", "()".repeat(many)), ErrorKind::TooLarge),
        (format!("{{{{ {}1 }}}}", "-".repeat(many)), ErrorKind::TooLarge),
        (format!("{{{{ {}1 }}}}", "not ".repeat(many / 4)), ErrorKind::TooLarge),
        (format!("{{% if a %}}{}{{% endif %}}", "{%elif a%}".repeat(5_000)), ErrorKind::TooLarge),
        (format!("{{{{ {}1{} }}}}", "(".repeat(900), ")".repeat(900)), ErrorKind::InvalidEncoding),
        (format!("{{{{ {}1{} }}}}", "[".repeat(900), "]".repeat(900)), ErrorKind::InvalidEncoding),
        ("{%if a%}".repeat(8_000), ErrorKind::InvalidEncoding),
        ("x".repeat((1 << 16) + 1), ErrorKind::TooLarge),
    ] {
        assert_eq!(render(&source, &[]).unwrap_err().kind(), kind, "{source:.40}");
    }
    // As deep as the bounds allow, in a thread with little stack of its own.
    std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(|| {
            assert!(render(&format!("{{{{ {} }}}}", vec!["'a'"; 1_000].join("~")), &[]).is_ok());
            assert!(render(&format!("{{{{ {}1 }}}}", "-".repeat(2_000)), &[]).is_ok());
            assert!(render(&format!("{{% if a %}}{}{{% endif %}}", "{%elif a%}".repeat(500)), &[]).is_ok());
            assert!(render(&format!("{{{{ 'a'{} }}}}", "|e".repeat(1_000)), &[]).is_ok());
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn errors_name_the_line_and_the_cause() {
    for (source, kind, words) in [
        ("\n\n{% for x %}", ErrorKind::InvalidEncoding, ["line 3", "no valid template"]),
        ("a\n{{ 'abc }}", ErrorKind::InvalidEncoding, ["line 2", "no valid template"]),
        ("{% generation %}{% endgeneration %}", ErrorKind::InvalidEncoding, ["line 1", "generation"]),
        ("{% include 'x' %}", ErrorKind::InvalidEncoding, ["line 1", "include"]),
        ("\n{{ f(*messages) }}", ErrorKind::InvalidEncoding, ["line 2", "arguments by * and **"]),
        ("\n{{ x.y.z }}", ErrorKind::InvalidArgument, ["line 2", "undefined"]),
        ("\n{{ f(1) }}", ErrorKind::InvalidArgument, ["line 2", "f is unknown"]),
        ("\n{{ 1 | nothing }}", ErrorKind::InvalidArgument, ["line 2", "nothing is unknown"]),
        ("\n{{ 'a' + 1 }}", ErrorKind::InvalidArgument, ["line 2", "+"]),
        ("\n{{ [] | tojson(indent=1000000000) }}", ErrorKind::InvalidArgument, ["line 2", "at most 16"]),
        ("\n{{ '{:>100000000000}'.format(1) }}", ErrorKind::InvalidArgument, ["line 2", "format is not supported"]),
        ("\n{{ messages | sum }}", ErrorKind::InvalidArgument, ["line 2", "sum is unknown"]),
        ("\n{% for x in [1] %}{{ loop.cycle() }}{% endfor %}", ErrorKind::InvalidEncoding, ["line 2", "loop.cycle"]),
        ("\n{{ raise_exception('no\\u0007pe') }}", ErrorKind::InvalidArgument, ["line 2", "no pe"]),
        ("{{ raise_exception('x' * 100000) }}", ErrorKind::InvalidArgument, ["line 1", "xxx…"]),
    ] {
        assert_fails(source, &[], kind, &words);
    }
}

#[test]
fn a_long_conversation_has_fuel_for_itself() {
    let long = "x".repeat(MIB);
    let messages: Vec<(&str, &str)> = [("user", &*long), ("assistant", "y")].into_iter().cycle().take(32).collect();
    let source = "{% for m in messages[1:] %}{{ '<' + m['role'] + '>' + m['content'].strip() + '\n' }}{% endfor %}";
    assert_eq!(render(source, &messages).unwrap().len(), 15 * (MIB + 7) + 16 * 13);
    let short: Vec<(&str, &str)> = [("user", "x"), ("assistant", "y")].into_iter().cycle().take(20_000).collect();
    assert_eq!(render(source, &short).unwrap().len(), 9_999 * 8 + 10_000 * 13);
}
