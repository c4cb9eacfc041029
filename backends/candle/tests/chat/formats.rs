//! Small templates in the formats of several families of models, and what templates use of Python.

use crate::{assert_fails, conversation, render};
use graphpool::backend::ErrorKind;
use graphpool_candle::ChatTemplate;
use std::time::{Duration, UNIX_EPOCH};

const TURNS: [(&str, &str); 4] = [("system", "Be brief."), ("user", " Hi "), ("assistant", "Hello."), ("user", "Bye")];

#[test]
fn formats_of_families_of_models() {
    let header = "{{ bos_token }}{% for m in messages %}\n\
                  {{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' }}\n\
                  {{- m.content.strip() ~ '<|eot_id|>' }}\n\
                  {%- endfor %}\n\
                  {%- if add_generation_prompt %}\n\
                  {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
    assert_eq!(
        render(header, &TURNS).unwrap(),
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    let inst = "{% set ns = namespace(system='') %}{{ bos_token }}\n\
                {% for m in messages %}\n\
                  {% if m['role'] == 'system' %}\n\
                    {% set ns.system = m['content'] + '\\n\\n' %}\n\
                  {% elif m['role'] == 'user' %}\n\
                    {{- '[INST] ' + (ns.system if loop.last else '') + m['content']|trim + '[/INST]' }}\n\
                  {%- else %}\n\
                    {{- ' ' + m['content'] + eos_token }}\n\
                  {%- endif %}\n\
                {% endfor %}";
    assert_eq!(render(inst, &TURNS).unwrap(), "<s>\n[INST] Hi[/INST] Hello.</s>[INST] Be brief.\n\nBye[/INST]");
    let turns = "{% if messages[0].role == 'system' %}\n\
                 {% set first = messages[0].content %}{% set rest = messages[1:] %}\n\
                 {% else %}{% set first = '' %}{% set rest = messages %}{% endif %}\n\
                 {% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\n\
                 {{ raise_exception('roles must alternate') }}{% endif %}\n\
                 {{ '<start_of_turn>' ~ {'assistant': 'model'}.get(m.role, m.role) }}\n\
                 {% if loop.first and first %}{{ first }}\n\n\
                 {% endif %}\n\
                 {{ m.content | trim }}<end_of_turn>\n\
                 {% endfor %}\n\
                 {% if add_generation_prompt %}<start_of_turn>model\n{% endif %}";
    assert_eq!(
        render(turns, &TURNS).unwrap(),
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n\
         <start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    );
    assert_fails(turns, &TURNS[2..], ErrorKind::InvalidArgument, &["line 5", "roles must alternate"]);
    let marks = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}<|assistant|>\n";
    assert_eq!(
        render(marks, &TURNS[1..2]).unwrap(),
        // A newline at the end of a template is not part of it.
        "<|user|>\n Hi <|end|>\n<|assistant|>"
    );
}

#[test]
fn blocks_take_their_line_as_in_transformers() {
    let source = "a\n  {% if true %}\n  b\n  {% endif %}\nc\n{# no #}\nd {{ 'e' }}\nf";
    assert_eq!(render(source, &[]).unwrap(), "a\n  b\nc\nd e\nf");
}

#[test]
fn what_templates_use_of_python() {
    for (source, expected) in [
        ("{{ ' a '.strip() ~ '|' ~ 'xa'.lstrip('x') ~ '|' ~ 'a\\n'.rstrip() }}", "a|a|a"),
        ("{{ 'a</think>b</think>c'.split('</think>')[-1] }}", "c"),
        ("{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('ab') }}", "True False"),
        ("{{ 'Ab'.upper() ~ 'Ab'.lower() ~ 'ab'.replace('b', 'c') ~ 'ab cd'.title() }}", "ABabacAb Cd"),
        ("{% for k, v in {'a': 1, 'b': none}.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=None;"),
        (
            "{{ {'a': '<b>&\\'', 'c': [1, 2.5, true, none, '\\n\u{e4}']} | tojson }}",
            "{\"a\": \"<b>&'\", \"c\": [1, 2.5, true, null, \"\\n\u{e4}\"]}",
        ),
        ("{{ {'a': [], 'b': [1, {}]} | tojson(indent=2) }}", "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {}\n  ]\n}"),
        (
            "{% for i in [0, 1, 2, 3] %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}\
             {{ i }}{% endfor %}",
            "02",
        ),
        (
            "{% for x in ['a', 'b', 'c'] %}{{ loop.index }}{{ x }}{{ loop.revindex0 }}{{ loop.last }} {% endfor %}",
            "1a2False 2b1False 3c0True ",
        ),
        ("{% for x in [1, 2] %}{{ loop.previtem }}-{{ loop.nextitem }} {% endfor %}", "-2 1- "),
        (
            "{% macro m(a, b=2) %}{{ a + b }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}\
             {{ m(1) }}{{ m(1, b=4) }}{% call m(0) %}!{% endcall %}",
            "352!",
        ),
        (
            "{% set ns = namespace(l=[]) %}{% for m in [1, 2, 3] %}{% set ns.l = ns.l + [m] %}{% endfor %}\
             {{ ns.l }}{{ ns.l | length }}",
            "[1, 2, 3]3",
        ),
        ("{{ [3, 1, 2] | sort | join('-') }} {{ (messages | first).role if messages else 'none' }}", "1-2-3 none"),
        ("{{ x is defined }} {{ x is not defined and messages is not none }} {{ x | default('d') }}", "False True d"),
        (
            "{{ 1 in [1, 2] }} {{ 'a' in {'a': 1} }} {{ 'b' not in 'abc' }} {{ [1, [2]] == [1, [2]] }}",
            "True True False True",
        ),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "0"),
        ("{{ 'a' * 3 ~ [x is defined] * 2 ~ (1, 2) }}", "aaa[False, False](1, 2)"),
        ("{{ not x is defined }}{{ 'abcdef'[1:3] }}{{ 'abc'[::-1] }}{{ [1, 2, 3][-1] }}", "Truebccba3"),
    ] {
        assert_eq!(render(source, &[]).unwrap(), expected, "{source}");
    }
}

#[test]
fn variables_and_the_time_are_the_hosts() {
    let template = ChatTemplate::from_source("{{ strftime_now('%d %b %Y, %A %-I %p %j %H:%M:%S %%') }}").unwrap();
    let error = template.render(&[], false).unwrap_err();
    assert!(error.message().contains("strftime_now is unknown"), "{error}");
    for (seconds, expected) in [
        (0, "01 Jan 1970, Thursday 12 AM 001 00:00:00 %"),
        (951_782_399, "28 Feb 2000, Monday 11 PM 059 23:59:59 %"),
        (951_782_400, "29 Feb 2000, Tuesday 12 AM 060 00:00:00 %"),
        (1_735_646_400, "31 Dec 2024, Tuesday 12 PM 366 12:00:00 %"),
        (4_107_542_400, "01 Mar 2100, Monday 12 AM 060 00:00:00 %"),
    ] {
        let template = template.clone().with_time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(template.render(&[], false).unwrap(), expected);
    }
    let template = ChatTemplate::from_source("{{ strftime_now('%Q') }}").unwrap().with_time(UNIX_EPOCH);
    assert!(template.render(&[], false).unwrap_err().message().contains("does not know %Q"));

    let template = ChatTemplate::from_source("{% for t in tools %}{{ t.name }}:{{ t | tojson }}{% endfor %}").unwrap();
    let template = template.with_variable("tools", r#"[{"name": "f", "a": {"b": [1, -2, 1.5, null, true]}}]"#).unwrap();
    assert_eq!(
        template.render(&conversation(&[("user", "x")]), true).unwrap(),
        r#"f:{"a": {"b": [1, -2, 1.5, null, true]}, "name": "f"}"#
    );
    for json in ["[", &"[".repeat(1000), "[[[[[[[[[1]]]]]]]]]"] {
        let error = template.clone().with_variable("tools", json).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("'tools'"), "{error}");
    }
}
