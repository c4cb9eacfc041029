//! With the feature `cuda`: lets programs link where CUDA's libraries are not installed.
//!
//! candle-core asks the linker for libcuda, libcublas and others, and a program that is linked with them does not start
//! where they are missing. Here each gets an empty archive of its name instead, and `src/cuda` gets the text of
//! functions that call the libraries' own after they are loaded. libcudart is linked statically: its part of a program
//! runs before `main`, and loads the driver only when it is used.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The places of a toolkit's libraries in its folder.
const FOLDERS: [&str; 5] =
    ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib", "lib/x86_64-linux-gnu"];
/// The variables that cudarc reads too.
const HOMES: [&str; 4] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cuda/functions.txt");
    println!("cargo::rustc-check-cfg=cfg(cuda_at_run_time)");
    let is = |name: &str, values: &[&str]| env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    if env::var_os("CARGO_FEATURE_CUDA").is_none()
        || !is("CARGO_CFG_TARGET_OS", &["linux"])
        || !is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"])
    {
        return;
    }
    println!("cargo::rustc-cfg=cuda_at_run_time");
    for name in HOMES.into_iter().chain(["CUDARC_CUDA_VERSION", "NVCC"]) {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let homes = homes();
    let major = major(&homes);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let archives = out.join("archives");
    fs::create_dir_all(&archives).expect("a folder in OUT_DIR");
    let functions = fs::read_to_string("src/cuda/functions.txt").expect("the list of functions");
    let mut libraries = String::from("[\n");
    let mut assembly = String::new();
    let mut index = 0;
    for (library, names) in sections(&functions) {
        let file = match library {
            "cuda" => "libcuda.so.1".to_owned(),
            // It has kept its number since CUDA 8.
            "curand" => "libcurand.so.10".to_owned(),
            _ => format!("lib{library}.so.{major}"),
        };
        // Writing to a string can't fail.
        let _ = writeln!(libraries, "    Library {{ file: c\"{file}\", functions: &[");
        for name in names {
            let _ = writeln!(libraries, "        c\"{name}\",");
            assembly += &forwarder(name, index);
            index += 1;
        }
        libraries += "    ] },\n";
        fs::write(archives.join(format!("lib{library}.a")), "!<arch>\n").expect("an archive in OUT_DIR");
    }
    fs::write(out.join("libraries.rs"), libraries + "]\n").expect("a file in OUT_DIR");
    fs::write(out.join("forwarders.s"), assembly).expect("a file in OUT_DIR");
    let statics = homes.iter().flat_map(|home| FOLDERS.iter().map(move |folder| home.join(folder)));
    let runtime = statics.map(|folder| folder.join("libcudart_static.a")).find(|file| file.is_file());
    match runtime {
        Some(file) => {
            fs::copy(file, archives.join("libcudart.a")).expect("a copy of libcudart_static.a");
        }
        None => println!("cargo::warning=libcudart_static.a is not in the CUDA toolkit: programs will need libcudart"),
    }
    println!("cargo::rustc-link-search=native={}", archives.display());
}

/// The libraries of the list, each with its functions.
fn sections(list: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_suffix(':'), sections.last_mut()) {
            (Some(library), _) => sections.push((library, Vec::new())),
            (None, Some((_, names))) => names.extend(line.split_whitespace()),
            (None, None) => {}
        }
    }
    sections
}

/// A function that jumps to the address in its slot, with its index in a register that no argument is in.
///
/// It reads the slot with the ordering Acquire, which every load of x86-64 has, and `ldar` on aarch64.
///
/// It is hidden, so that a shared library with this code in it does not offer the functions to others.
fn forwarder(name: &str, index: usize) -> String {
    let offset = index * 8;
    let body = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => format!("mov r11d, {index}\njmp qword ptr [rip + {{slots}} + {offset}]"),
        _ => format!(
            "mov w17, #{index}\nadrp x16, {{slots}} + {offset}\nadd x16, x16, :lo12:{{slots}} + {offset}\n\
             ldar x16, [x16]\nbr x16"
        ),
    };
    format!(".globl {name}\n.hidden {name}\n.type {name}, @function\n{name}:\n{body}\n")
}

/// The folders of toolkits, those that the user names first.
fn homes() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = HOMES.iter().filter_map(env::var_os).map(PathBuf::from).collect();
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = env::split_paths(&path).map(|folder| folder.join("nvcc"));
    let nvcc = env::var_os("NVCC").map(PathBuf::from).into_iter().chain(programs).find(|program| program.is_file());
    let nvcc = nvcc.and_then(|program| program.canonicalize().ok());
    homes.extend(nvcc.iter().filter_map(|program| program.ancestors().nth(2)).map(Path::to_owned));
    homes.extend(["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].map(PathBuf::from));
    homes
}

/// The major version of CUDA that cudarc's bindings are for: that of the variable, or of the compiler.
fn major(homes: &[PathBuf]) -> String {
    // 13000, for 13.0.
    let named = env::var("CUDARC_CUDA_VERSION").ok().filter(|version| version.len() > 3);
    if let Some(version) = named {
        return version[..version.len() - 3].to_owned();
    }
    let mut programs = vec![PathBuf::from("nvcc")];
    programs.extend(homes.iter().map(|home| home.join("bin/nvcc")));
    let outputs = programs.iter().filter_map(|program| Command::new(program).arg("--version").output().ok());
    let texts = outputs.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let mut versions = texts.filter_map(|text| Some(text.split("release ").nth(1)?.split('.').next()?.to_owned()));
    versions.next().unwrap_or_else(|| {
        panic!(
            "the feature cuda needs NVIDIA's compiler nvcc; scripts/fetch_cuda.sh in graphpool's repository fetches it"
        )
    })
}
