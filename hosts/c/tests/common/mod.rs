//! C programs for tests: compiles them against the header and the library that cargo has built.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// A folder with the library under the name that programs look for.
pub fn library() -> PathBuf {
    let test = env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    let built = deps.join(format!("{}graphpool_c{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("library-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["libgraphpool.so.0", "libgraphpool.so", "libgraphpool.dylib"] {
        // Renamed into place, because another test of this process may link with it now.
        let copy = folder.join(format!("{name}.{:?}", std::thread::current().id()));
        fs::copy(&built, &copy).unwrap();
        fs::rename(&copy, folder.join(name)).unwrap();
    }
    folder
}

/// Compiles `source` of this package with `compiler` as `name`, or prints why not.
pub fn compile(compiler: &str, arguments: &[&str], source: &str, name: &str) -> Option<PathBuf> {
    let compiler = env::var(compiler).unwrap_or_else(|_| if compiler == "CXX" { "c++" } else { "cc" }.into());
    if let Err(error) = Command::new(&compiler).arg("--version").output() {
        println!("SKIPPED: no {compiler}: {error}");
        return None;
    }
    let (package, library) = (Path::new(env!("CARGO_MANIFEST_DIR")), library());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = Command::new(&compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"])
        .arg(package.join("include"))
        .args(arguments)
        .arg(package.join(source))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-lgraphpool", "-lpthread", "-lm"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

/// A file of the digits model.
pub fn digits(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits").join(file)
}

/// Runs a program to its end.
pub fn run(program: &Path, arguments: &[&Path]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}
