#!/usr/bin/env bash
# Breaks the core or the engine in one place at a time, as ci/mutants.txt says, and fails where the models don't notice.
#
#     ci/mutants.sh [--list] [NAME...]
#
# Each mutant is built in a copy of the tree, under the target directory. The models that are expected to kill it run
# first, one by one, and all the others where those don't. A mutant is killed by a model that fails; one that doesn't
# end in MUTANT_SECONDS (60), or that something else ended, has killed nothing. Those that are listed as equivalent or
# out of reach are built and run too, and are to survive. The table goes to standard output, as Markdown.
set -euo pipefail
cd "$(dirname "$0")/.."

table=ci/mutants.txt
limit=${MUTANT_SECONDS:-60}
target=${CARGO_TARGET_DIR:-$PWD/target}/mutants
tree=$target/tree

names=() files=() breaks=() models=() survives=() finds=() replacements=()
read_table() {
    local line part=none
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        "== "*)
            names+=("${line#== }") files+=("") breaks+=("") models+=("") survives+=("") finds+=("") replacements+=("")
            part=head
            ;;
        "<<<<" | ">>>>") part=${line/<<<</find} part=${part/>>>>/replacement} ;;
        "----") part=none ;;
        *)
            case $part in
            none) ;;
            head)
                case $line in
                "file: "*) files[-1]=${line#file: } ;;
                "breaks: "*) breaks[-1]=${line#breaks: } ;;
                "models: "*) models[-1]=${line#models: } ;;
                "survives: "*) survives[-1]=${line#survives: } ;;
                *) die "$table: what is '$line'?" ;;
                esac
                ;;
            find) finds[-1]+=$line$'\n' ;;
            replacement) replacements[-1]+=$line$'\n' ;;
            esac
            ;;
        esac
    done <"$table"
}

die() {
    echo "$*" >&2
    exit 1
}

# The text of the mutated file. The text to find must be there exactly once.
mutate() {
    local text find=${finds[$1]} without
    text=$(<"${files[$1]}")$'\n'
    without=${text//"$find"/}
    [ $((${#text} - ${#without})) -eq ${#find} ] || die "${names[$1]}: its text is not once in ${files[$1]}"
    printf %s "${text/"$find"/"${replacements[$1]}"}"
}

# Builds the models of loom-tests, or with --lib those in the crate too.
build() {
    (cd "$tree" && cargo test --release --locked --no-default-features --features nn --test loom "$@" \
        --no-run --message-format short) >"$target/build.log" 2>&1 || return 1
    inside=$(executable unittests) outside=$(executable loom-tests)
}

executable() {
    local path
    path=$(sed -n "s/^ *Executable $1.* (\(.*\))\$/\1/p" "$target/build.log")
    case $path in /*) echo "$path" ;; *) echo "$tree/$path" ;; esac
}

# Runs one model, by its exact name. True where it fails: a test's exit status, or an abort by a panic in a panic.
fails() {
    local status=0 binary=$outside
    case $1 in *::models::*) binary=$inside ;; esac
    (timeout "$limit" "$binary" --exact "$1" --test-threads 1 >"$target/run.log" 2>&1) 2>/dev/null || status=$?
    case $status in
    101 | 134 | 139) return 0 ;;
    0) grep -q '^test result: ok. 1 passed' "$target/run.log" || die "$1: no such model" ;;
    *) unended+=1 ;;
    esac
    return 1
}

# Sets outcome, and by to the model that kills or to a remark.
try() {
    local model tried=" " lib=
    unended=
    case ${models[$1]} in *::models::*) lib=--lib ;; esac
    if ! build $lib; then
        outcome="not built" by=
        grep -m 3 error "$target/build.log" >&2 || true
        return
    fi
    for model in ${models[$1]} "${all[@]}"; do
        case $tried in *" $model "*) continue ;; esac
        case $model in *::models::*) [ -n "$lib" ] || build ${lib:=--lib} ;; esac
        tried+="$model "
        if fails "$model"; then
            outcome=killed by=$model
            return
        fi
    done
    outcome=survived by=${unended:+${#unended} models did not end}
}

read_table
if [ "${1:-}" = --list ]; then
    for i in "${!names[@]}"; do mutate "$i" >/dev/null; done
    printf '%s\n' "${names[@]}"
    exit
fi

export RUSTFLAGS="--cfg loom" RUST_BACKTRACE=0 CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=1
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0
rm -rf "$tree" && mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$tree" 2>/dev/null || true
[ -e "$tree/src/lib.rs" ] || die "no copy of the tree in $tree"
build --lib || die "the tree as it is does not build: $(cat "$target/build.log")"
mapfile -t all < <("$outside" --list | sed -n 's/: test$//p'; "$inside" --list | sed -n 's/\(.*::models::.*\): test$/\1/p')

killed=0 survivors=0 failures=() start=$SECONDS
echo "| mutant | breaks | outcome | by |"
echo "| --- | --- | --- | --- |"
for i in "${!names[@]}"; do
    name=${names[$i]}
    if [ $# -gt 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    mutate "$i" >"$tree/${files[$i]}"
    try "$i"
    cp "${files[$i]}" "$tree/${files[$i]}"
    reason=${survives[$i]}
    case $outcome:${reason:+listed} in
    killed:) killed=$((killed + 1)) ;;
    survived:listed) survivors=$((survivors + 1)) by=$reason${by:+ ($by)} ;;
    killed:listed) failures+=("$name: killed, and listed as one that survives") ;;
    *) failures+=("$name: $outcome${by:+ ($by)}") ;;
    esac
    [ "$outcome" != killed ] || by="\`$by\`"
    echo "| $name | ${breaks[$i]} | $outcome | $by |"
done
echo
echo "$killed killed, $survivors that survive as they must; $((SECONDS - start)) s."
[ ${#failures[@]} -eq 0 ] || die "$(printf 'FAILED: %s\n' "${failures[@]}")"
